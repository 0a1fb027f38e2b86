/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * BFD packets: one of a configured peer is taken, and turned round into our own. So a session
 * needs nothing but the peer's packets. Single hop: RFC 5881; several: RFC 5883.
 */
#ifndef VNIC_BFD_PACKET_H
#define VNIC_BFD_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include "bfd.h"
#include "compiler.h"
#include "parse.h"

#define VNIC_BFD_NOT_OURS (-1)		/* no XDP action: the packet goes on as any other */
#define VNIC_BFD_PORT 3784		/* RFC 5881, section 4 */
#define VNIC_BFD_MULTIHOP_PORT 4784	/* RFC 5883, section 5 */
#define VNIC_BFD_SOURCE_PORT 49152	/* the first that RFC 5881 allows */
#define VNIC_BFD_TRAFFIC_CLASS 0xc0	/* CS6, network control (RFC 4594) */
#define VNIC_BFD_TTL 255		/* RFC 5082 */
#define VNIC_IPV4_DONT_FRAGMENT 0x4000

/* Copies of a frame's headers. udp and bfd stand together, for the checksum. */
struct vnic_bfd_frame {
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} ip;
	struct udphdr udp;
	struct vnic_bfd_packet bfd;
	__u32 offset;			/* of the IP header */
	__u32 is_ipv6;
};

static __always_inline bool vnic_is_bfd(const struct vnic_flow_key *key)
{
	return (key->dport == bpf_htons(VNIC_BFD_PORT) || key->dport == bpf_htons(VNIC_BFD_MULTIHOP_PORT)) &&
	       key->proto == IPPROTO_UDP;
}

/* Index of the session with a peer, among the first so many; VNIC_MAX_BFD_SESSIONS: there is none. */
static __noinline VNIC_LATCH_BEHIND_LOOP __u32 vnic_find_bfd(const struct vnic_addr *peer, __u32 sessions)
{
	const __u64 *wanted = (const __u64 *)peer;
	struct vnic_bfd_session *session;
	const __u64 *found;
	__u32 index, key;

	for (index = 0; index < VNIC_MAX_BFD_SESSIONS; index++) {
		key = index;
		session = bpf_map_lookup_elem(&vnic_bfd, &key);
		if (!session || index >= sessions)
			break;
		found = (const __u64 *)&session->peer;
		if (READ_ONCE(session->local_discr) && found[0] == wanted[0] && found[1] == wanted[1])
			return index;
	}
	return VNIC_MAX_BFD_SESSIONS;
}

/* Headers up to UDP. False: not of the plain form that an answer can be written over (no options, no extensions). */
static __always_inline bool vnic_bfd_read(struct xdp_md *ctx, struct vnic_bfd_frame *f, struct vnic_addr *peer)
{
	struct vnic_vlan_header vlan;
	__u32 offset = sizeof(struct ethhdr);
	struct ethhdr eth;
	__be16 protocol;
	int tags;

	/* A group's address cannot be the answer's source. */
	if (bpf_xdp_load_bytes(ctx, 0, &eth, sizeof(eth)) || eth.h_dest[0] & 1)
		return false;
	protocol = eth.h_proto;
#pragma unroll
	for (tags = 0; tags < VNIC_MAX_VLAN_TAGS; tags++) {
		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_xdp_load_bytes(ctx, offset, &vlan, sizeof(vlan)))
			return false;
		protocol = vlan.protocol;
		offset += sizeof(vlan);
	}
	f->offset = offset;
	f->is_ipv6 = protocol == bpf_htons(ETH_P_IPV6);
	if (f->is_ipv6) {
		if (bpf_xdp_load_bytes(ctx, offset, &f->ip.v6, sizeof(f->ip.v6)) || f->ip.v6.nexthdr != IPPROTO_UDP)
			return false;
		vnic_copy_addr(peer, &f->ip.v6.saddr);
		offset += sizeof(f->ip.v6);
	} else {
		if (bpf_xdp_load_bytes(ctx, offset, &f->ip.v4, sizeof(f->ip.v4)) || f->ip.v4.ihl != 5 ||
		    f->ip.v4.protocol != IPPROTO_UDP)
			return false;
		vnic_map_addr(peer, f->ip.v4.saddr);
		offset += sizeof(f->ip.v4);
	}
	return !bpf_xdp_load_bytes(ctx, offset, &f->udp, sizeof(f->udp));
}

static __always_inline __u16 vnic_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Sum of the pseudo header (RFC 768; RFC 8200, section 8.1), not folded. */
static __always_inline __u32 vnic_bfd_pseudo_sum(struct vnic_bfd_frame *f)
{
	__u32 seed = (__u32)f->udp.len + bpf_htons(IPPROTO_UDP);

	if (f->is_ipv6)
		return bpf_csum_diff(NULL, 0, (__be32 *)&f->ip.v6.saddr, 32, seed);
	return bpf_csum_diff(NULL, 0, (__be32 *)&f->ip.v4.saddr, 8, seed);
}

static __always_inline __u16 vnic_bfd_sum(struct vnic_bfd_frame *f, __u32 pseudo)
{
	return vnic_fold(bpf_csum_diff(NULL, 0, (__be32 *)&f->udp, sizeof(f->udp) + sizeof(f->bfd), pseudo));
}

/*
 * The sum is held against packets of the usual length only. A sender on this machine leaves
 * it to a device that is not there: then it is that of the pseudo header.
 */
static __always_inline bool vnic_bfd_sum_is_right(struct vnic_bfd_frame *f)
{
	__u32 pseudo;

	if (!f->udp.check)
		return !f->is_ipv6;
	if (f->udp.len != bpf_htons(sizeof(f->udp) + sizeof(f->bfd)))
		return true;
	pseudo = vnic_bfd_pseudo_sum(f);
	return vnic_bfd_sum(f, pseudo) == 0xffff || f->udp.check == vnic_fold(pseudo);
}

/* Reads the packet and validates it (section 6.8.6). VNIC_BFD_REJECTS: it is right. */
static __always_inline __u32 vnic_bfd_validate(struct xdp_md *ctx, const struct vnic_bfd_session *session,
					       struct vnic_bfd_frame *f)
{
	__u32 payload = bpf_ntohs(f->udp.len) - sizeof(f->udp), at, ttl;
	bool multihop = f->udp.dest == bpf_htons(VNIC_BFD_MULTIHOP_PORT);

	at = f->offset + (f->is_ipv6 ? sizeof(f->ip.v6) : sizeof(f->ip.v4)) + sizeof(f->udp);
	ttl = f->is_ipv6 ? f->ip.v6.hop_limit : f->ip.v4.ttl;
	if (multihop != !!session->multihop)
		return VNIC_BFD_REJECT_PORT;
	if (!multihop && ttl != VNIC_BFD_TTL)
		return VNIC_BFD_REJECT_TTL;
	if (payload < sizeof(f->bfd) || bpf_xdp_load_bytes(ctx, at, &f->bfd, sizeof(f->bfd)))
		return VNIC_BFD_REJECT_LENGTH;
	if (!vnic_bfd_sum_is_right(f))
		return VNIC_BFD_REJECT_CHECKSUM;
	if (f->bfd.version_diag >> 5 != 1)
		return VNIC_BFD_REJECT_VERSION;
	if (f->bfd.length < sizeof(f->bfd) || f->bfd.length > payload)
		return VNIC_BFD_REJECT_LENGTH;
	if (!f->bfd.detect_mult)
		return VNIC_BFD_REJECT_DETECT_MULT;
	if (f->bfd.state_flags & VNIC_BFD_MULTIPOINT)
		return VNIC_BFD_REJECT_MULTIPOINT;
	if (!f->bfd.my_discr)
		return VNIC_BFD_REJECT_MY_DISCR;
	if (f->bfd.your_discr ? f->bfd.your_discr != bpf_htonl(session->local_discr)
			      : f->bfd.state_flags >> 6 > VNIC_BFD_DOWN)
		return VNIC_BFD_REJECT_YOUR_DISCR;
	if (f->bfd.state_flags & VNIC_BFD_AUTH)
		return VNIC_BFD_REJECT_AUTH;
	return VNIC_BFD_REJECTS;
}

/* Our control packet, over the peer's. */
static __always_inline void vnic_bfd_compose(struct vnic_bfd_session *session, __u32 index, struct vnic_bfd_frame *f,
					     __u32 min_tx_us)
{
	__u32 state = READ_ONCE(session->state), min_rx_us = session->min_rx_us, flags;

	if (state == VNIC_BFD_UP && (min_tx_us != session->sent_min_tx_us || min_rx_us != session->sent_min_rx_us))
		session->polling = 1;
	/* Never both (section 6.5). */
	flags = f->bfd.state_flags & VNIC_BFD_POLL ? VNIC_BFD_FINAL : session->polling ? VNIC_BFD_POLL : 0;
	session->sent_min_tx_us = min_tx_us;
	session->sent_min_rx_us = min_rx_us;

	f->bfd.version_diag = 1 << 5 | session->diag;
	f->bfd.state_flags = state << 6 | flags | VNIC_BFD_INDEPENDENT;
	f->bfd.detect_mult = session->detect_mult;
	f->bfd.length = sizeof(f->bfd);
	f->bfd.your_discr = f->bfd.my_discr;
	f->bfd.my_discr = bpf_htonl(session->local_discr);
	f->bfd.min_tx_us = bpf_htonl(min_tx_us);
	f->bfd.min_rx_us = bpf_htonl(min_rx_us);
	f->bfd.min_echo_rx_us = 0;
	/* The port that came stays: both sides listen to it. */
	f->udp.source = bpf_htons(VNIC_BFD_SOURCE_PORT + index);
	f->udp.len = bpf_htons(sizeof(f->udp) + sizeof(f->bfd));
	f->udp.check = 0;
}

static __always_inline void vnic_bfd_address(struct vnic_bfd_frame *f)
{
	struct in6_addr v6;
	__be32 v4;

	if (f->is_ipv6) {
		v6 = f->ip.v6.saddr;
		f->ip.v6.saddr = f->ip.v6.daddr;
		f->ip.v6.daddr = v6;
		*(__be32 *)&f->ip.v6 = bpf_htonl(6 << 28 | VNIC_BFD_TRAFFIC_CLASS << 20);
		f->ip.v6.payload_len = f->udp.len;
		f->ip.v6.hop_limit = VNIC_BFD_TTL;
	} else {
		v4 = f->ip.v4.saddr;
		f->ip.v4.saddr = f->ip.v4.daddr;
		f->ip.v4.daddr = v4;
		f->ip.v4.tos = VNIC_BFD_TRAFFIC_CLASS;
		f->ip.v4.tot_len = bpf_htons(sizeof(f->ip.v4) + sizeof(f->udp) + sizeof(f->bfd));
		f->ip.v4.id = 0;
		f->ip.v4.frag_off = bpf_htons(VNIC_IPV4_DONT_FRAGMENT);
		f->ip.v4.ttl = VNIC_BFD_TTL;
		f->ip.v4.check = 0;
		f->ip.v4.check = ~vnic_fold(bpf_csum_diff(NULL, 0, (__be32 *)&f->ip.v4, sizeof(f->ip.v4), 0));
	}
	f->udp.check = ~vnic_bfd_sum(f, vnic_bfd_pseudo_sum(f));
	if (!f->udp.check)
		f->udp.check = 0xffff;
}

/* Cuts the frame to the answer's length and writes it; tags stay. */
static __always_inline bool vnic_bfd_write(struct xdp_md *ctx, struct vnic_bfd_frame *f)
{
	__u32 ip_bytes = f->is_ipv6 ? sizeof(f->ip.v6) : sizeof(f->ip.v4);
	__u32 bytes = f->offset + ip_bytes + sizeof(f->udp) + sizeof(f->bfd);
	__u8 from[2 * ETH_ALEN], to[2 * ETH_ALEN];

	if (bpf_xdp_load_bytes(ctx, 0, from, sizeof(from)))
		return false;
	__builtin_memcpy(to, from + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(to + ETH_ALEN, from, ETH_ALEN);
	if (bpf_xdp_adjust_tail(ctx, (int)(bytes - bpf_xdp_get_buff_len(ctx))))
		return false;
	if (bpf_xdp_store_bytes(ctx, 0, to, sizeof(to)))
		return false;
	if (f->is_ipv6) {
		if (bpf_xdp_store_bytes(ctx, f->offset, &f->ip.v6, sizeof(f->ip.v6)))
			return false;
	} else if (bpf_xdp_store_bytes(ctx, f->offset, &f->ip.v4, sizeof(f->ip.v4))) {
		return false;
	}
	return !bpf_xdp_store_bytes(ctx, f->offset + ip_bytes, &f->udp, sizeof(f->udp) + sizeof(f->bfd));
}

static __always_inline int vnic_bfd_reject(struct vnic_bfd_session *session, __u32 reason)
{
	if (reason < VNIC_BFD_REJECTS)
		__sync_fetch_and_add(&session->rejected[reason], 1);
	return XDP_DROP;
}

/*
 * For a packet that vnic_is_bfd knows. A global function: verified once. Returns an XDP action,
 * or VNIC_BFD_NOT_OURS for packets that are not of a configured peer.
 */
__noinline int vnic_handle_bfd(struct xdp_md *ctx, __u32 sessions)
{
	struct vnic_addr peer __attribute__((aligned(8)));
	struct vnic_bfd_session *session;
	struct vnic_bfd_frame f = {};
	__u32 index, reason, min_tx_us;
	bool changed;
	__u64 now;

	if (!vnic_bfd_read(ctx, &f, &peer))
		return VNIC_BFD_NOT_OURS;
	index = vnic_find_bfd(&peer, sessions);
	session = bpf_map_lookup_elem(&vnic_bfd, &index);
	if (!session)
		return VNIC_BFD_NOT_OURS;
	reason = vnic_bfd_validate(ctx, session, &f);
	if (reason != VNIC_BFD_REJECTS)
		return vnic_bfd_reject(session, reason);
	now = bpf_ktime_get_ns();
	changed = vnic_bfd_take(session, &f.bfd, now);
	if (!vnic_bfd_is_due(session, &f.bfd, changed, now, &min_tx_us))
		return XDP_DROP;
	vnic_bfd_compose(session, index, &f, min_tx_us);
	vnic_bfd_address(&f);
	if (!vnic_bfd_write(ctx, &f))
		return vnic_bfd_reject(session, VNIC_BFD_REJECT_SHAPE);
	session->last_tx_ns = now;
	__sync_fetch_and_add(&session->sent, 1);
	return XDP_TX;
}

#endif
