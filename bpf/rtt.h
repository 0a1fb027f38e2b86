/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Round-trip times of TCP, measured in passing (K. Nichols, pping; S. Sundberg et al., "Efficient
 * continuous latency monitoring with eBPF", PAM 2023): the first packet that leaves with a
 * timestamp (RFC 7323) is the probe, the first that arrives with its echo the answer.
 *
 * One flow at a time has a slot, and that it has one is seen by one load. A packet chosen by its
 * number gives its flow the slot; the flow's next packet with a newer timestamp is the probe,
 * because none can have left with that timestamp before. Only what the peer must acknowledge is
 * a probe. After an answer the slot rests, so that a busy flow does not pay for each packet.
 *
 * The time is from the tc hook to the XDP entry: queueing disciplines of this machine and the
 * peer's delayed ACKs are in it.
 */
#ifndef VNIC_RTT_H
#define VNIC_RTT_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include "compiler.h"
#include "maps.h"
#include "parse.h"
#include "stats.h"

#define VNIC_RTT_REST_NS 100000000ULL
#define VNIC_RTT_REST_RTTS 8		/* the rest is also as long as so many round trips */
#define VNIC_RTT_ARMED_NS 1000000000ULL
#define VNIC_RTT_LOOKS 256		/* at packets that leave with an old timestamp, until the flow is given up */
#define VNIC_RTT_PATIENCE_NS 8000000000ULL
#define VNIC_TCP_OPTION_BYTES 40
#define VNIC_TCP_OPTIONS 16		/* so many are looked at */
#define VNIC_NO_OPTION 255
#define VNIC_TCP_END 0
#define VNIC_TCP_NOP 1
#define VNIC_TCP_TIMESTAMPS 8

enum {
	VNIC_TCP_FIN = 1,
	VNIC_TCP_SYN = 2,
	VNIC_TCP_RST = 4,
	VNIC_TCP_ACK = 16,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_rtt);
} vnic_rtt SEC(".maps");

/* Round-trip times. Index: row of the AZ that the answer came from. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VNIC_TABLE_ROWS);
	__type(key, __u32);
	__type(value, struct vnic_latency);
} vnic_rtts SEC(".maps");

struct vnic_tcp_seen {
	__u32 seq;
	__u32 tsval;
	__u32 tsecr;
	__u32 payload;			/* bytes behind the header, as far as the frame goes */
	__u32 flags;
	bool is_stamped;
};

static __always_inline struct vnic_rtt *vnic_get_rtt(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&vnic_rtt, &zero);
}

static __always_inline __u32 vnic_rtt_slot(__u32 hash)
{
	barrier_var(hash);
	return hash & (VNIC_RTT_SLOTS - 1);
}

/* Where the timestamps option is in the options, or VNIC_NO_OPTION. options has room for any look behind its end. */
static __noinline VNIC_LATCH_BEHIND_LOOP __u32 vnic_find_timestamps(const __u8 *options, __u32 length)
{
	__u32 at = 0, i;

	for (i = 0; i < VNIC_TCP_OPTIONS; i++) {
		barrier_var(at);
		at &= 63;
		if (at + 10 > length || options[at] == VNIC_TCP_END)
			return VNIC_NO_OPTION;
		if (options[at] == VNIC_TCP_NOP) {
			at++;
			continue;
		}
		if (options[at] == VNIC_TCP_TIMESTAMPS)
			return options[at + 1] == 10 ? at : VNIC_NO_OPTION;
		if (options[at + 1] < 2 || options[at + 1] > VNIC_TCP_OPTION_BYTES)
			return VNIC_NO_OPTION;
		at += options[at + 1];
	}
	return VNIC_NO_OPTION;
}

static __always_inline bool vnic_load(void *ctx, bool is_skb, __u32 offset, void *to, __u32 bytes)
{
	if (is_skb)
		return !bpf_skb_load_bytes(ctx, offset, to, bytes);
	return !bpf_xdp_load_bytes(ctx, offset, to, bytes);
}

/* Offset of the TCP header, or 0: none, or behind IPv6 extension headers. */
static __always_inline __u32 vnic_tcp_offset(void *ctx, bool is_skb)
{
	__u32 offset = ETH_HLEN;
	struct vnic_vlan_header vlan;
	struct ipv6hdr ip6;
	struct iphdr ip4;
	__be16 protocol;
	int tags;

	if (!vnic_load(ctx, is_skb, offset - sizeof(protocol), &protocol, sizeof(protocol)))
		return 0;
#pragma unroll
	for (tags = 0; tags < VNIC_MAX_VLAN_TAGS; tags++) {
		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if (!vnic_load(ctx, is_skb, offset, &vlan, sizeof(vlan)))
			return 0;
		protocol = vlan.protocol;
		offset += sizeof(vlan);
	}
	if (protocol == bpf_htons(ETH_P_IP)) {
		if (!vnic_load(ctx, is_skb, offset, &ip4, sizeof(ip4)) || ip4.protocol != IPPROTO_TCP ||
		    (ip4.frag_off & bpf_htons(VNIC_IPV4_FRAGMENT)))
			return 0;
		return offset + ip4.ihl * 4;
	}
	if (protocol != bpf_htons(ETH_P_IPV6) || !vnic_load(ctx, is_skb, offset, &ip6, sizeof(ip6)) ||
	    ip6.nexthdr != IPPROTO_TCP)
		return 0;
	return offset + sizeof(ip6);
}

/* As nearly every segment of a connection looks (RFC 7323, appendix A): no other options, nothing between the headers. */
struct vnic_plain_tcp {
	struct tcphdr tcp;
	__be32 lead;
	__be32 tsval;
	__be32 tsecr;
};

#define VNIC_PLAIN_TCP_WORDS 8
#define VNIC_PLAIN_LEAD (VNIC_TCP_NOP << 24 | VNIC_TCP_NOP << 16 | VNIC_TCP_TIMESTAMPS << 8 | 10)

/* Reads such a segment in place, for a third of what copying costs. False: it is of another form. */
static __always_inline bool vnic_peek_tcp(void *data, void *data_end, __u32 frame_bytes, struct vnic_tcp_seen *seen)
{
	__u32 headers = sizeof(struct ethhdr) + sizeof(struct vnic_plain_tcp);
	struct ethhdr *eth = data;
	struct iphdr *ip4 = (void *)(eth + 1);
	struct ipv6hdr *ip6 = (void *)(eth + 1);
	struct vnic_plain_tcp *plain;

	if ((void *)(ip4 + 1) > data_end)
		return false;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		if (ip4->ihl != 5 || ip4->protocol != IPPROTO_TCP || (ip4->frag_off & bpf_htons(VNIC_IPV4_FRAGMENT)))
			return false;
		plain = (void *)(ip4 + 1);
		headers += sizeof(*ip4);
	} else {
		if (eth->h_proto != bpf_htons(ETH_P_IPV6) || (void *)(ip6 + 1) > data_end || ip6->nexthdr != IPPROTO_TCP)
			return false;
		plain = (void *)(ip6 + 1);
		headers += sizeof(*ip6);
	}
	if ((void *)(plain + 1) > data_end || plain->tcp.doff != VNIC_PLAIN_TCP_WORDS ||
	    plain->lead != bpf_htonl(VNIC_PLAIN_LEAD))
		return false;
	seen->seq = bpf_ntohl(plain->tcp.seq);
	seen->flags = ((__u8 *)&plain->tcp)[13];
	seen->tsval = bpf_ntohl(plain->tsval);
	seen->tsecr = bpf_ntohl(plain->tsecr);
	seen->is_stamped = true;
	seen->payload = headers < frame_bytes ? frame_bytes - headers : 0;
	return true;
}

static __always_inline bool vnic_read_tcp(void *ctx, bool is_skb, __u32 frame_bytes, struct vnic_tcp_seen *seen)
{
	/* 63 + 9 is as far as vnic_find_timestamps and what follows from it look. */
	__u8 options[80] = {};
	__u32 offset = vnic_tcp_offset(ctx, is_skb), header, length, at;
	struct tcphdr tcp;

	if (!offset || !vnic_load(ctx, is_skb, offset, &tcp, sizeof(tcp)))
		return false;
	header = tcp.doff * 4;
	if (header < sizeof(tcp))
		return false;
	seen->seq = bpf_ntohl(tcp.seq);
	seen->flags = ((__u8 *)&tcp)[13];
	seen->payload = offset + header < frame_bytes ? frame_bytes - offset - header : 0;
	seen->is_stamped = false;
	length = header - sizeof(tcp);
	barrier_var(length);
	if (length < 12 || length > VNIC_TCP_OPTION_BYTES)
		return true;
	if (!vnic_load(ctx, is_skb, offset + sizeof(tcp), options, length))
		return true;
	at = vnic_find_timestamps(options, length);
	if (at == VNIC_NO_OPTION)
		return true;
	barrier_var(at);
	at &= 63;
	seen->tsval = (__u32)options[at + 2] << 24 | options[at + 3] << 16 | options[at + 4] << 8 | options[at + 5];
	seen->tsecr = (__u32)options[at + 6] << 24 | options[at + 7] << 16 | options[at + 8] << 8 | options[at + 9];
	seen->is_stamped = true;
	return true;
}

static __always_inline void vnic_start_probe(struct vnic_rtt *rtt, __u32 slot, __u32 tag, __u32 value, __u64 now)
{
	struct vnic_rtt_probe *probe = &rtt->probes[slot];

	probe->value = value;
	probe->sent_ns = now;
	probe->until_ns = now + VNIC_RTT_PATIENCE_NS;
	rtt->leaving[slot] = 0;
	WRITE_ONCE(rtt->waiting[slot], tag);
}

static __always_inline void vnic_rest(struct vnic_rtt *rtt, __u32 slot, __u64 now, __u64 also_ns)
{
	rtt->leaving[slot] = 0;
	rtt->waiting[slot] = 0;
	rtt->probes[slot].looks = 0;
	rtt->probes[slot].until_ns = now + VNIC_RTT_REST_NS + also_ns;
}

static __always_inline bool vnic_rtt_lock(struct vnic_rtt *rtt, __u32 slot)
{
	return !__sync_lock_test_and_set(&rtt->probes[slot].lock, 1);
}

static __always_inline void vnic_rtt_unlock(struct vnic_rtt *rtt, __u32 slot)
{
	__sync_lock_test_and_set(&rtt->probes[slot].lock, 0);
}

/* Under the lock: a packet that leaves, of a flow that is to send the probe. */
static __always_inline void vnic_try_probe(struct vnic_rtt *rtt, __u32 slot, __u32 tag,
					   const struct vnic_tcp_seen *seen)
{
	struct vnic_rtt_probe *probe = &rtt->probes[slot];

	if (rtt->leaving[slot] != tag)
		return;
	if (seen->is_stamped && (__s32)(seen->tsval - probe->value) > 0)
		vnic_start_probe(rtt, slot, tag, seen->tsval, bpf_ktime_get_ns());
	else
		vnic_rest(rtt, slot, bpf_ktime_get_ns(), 0);
}

/* Under the lock: gives a flow the slot if it is free. */
static __always_inline void vnic_take_slot(struct vnic_rtt *rtt, __u32 slot, __u32 tag,
					   const struct vnic_tcp_seen *seen)
{
	struct vnic_rtt_probe *probe = &rtt->probes[slot];
	__u64 now = bpf_ktime_get_ns();

	if (now < probe->until_ns)
		return;
	vnic_rest(rtt, slot, now, 0);
	if (!seen->is_stamped) {
		__sync_fetch_and_add(&rtt->unstamped, 1);
		return;
	}
	/* Nothing of the flow can have left before. */
	if (seen->flags & VNIC_TCP_SYN) {
		vnic_start_probe(rtt, slot, tag, seen->tsval, now);
		return;
	}
	probe->value = seen->tsval;
	probe->until_ns = now + VNIC_RTT_ARMED_NS;
	WRITE_ONCE(rtt->leaving[slot], tag);
}

/* A global function: verified once. */
__noinline int vnic_rtt_look_leaving(struct __sk_buff *skb, __u32 hash)
{
	struct vnic_rtt *rtt = vnic_get_rtt();
	struct vnic_tcp_seen seen = {};
	__u32 slot = vnic_rtt_slot(hash), tag = hash | 1;
	bool is_chosen;

	if (!rtt)
		return 0;
	if (!vnic_peek_tcp((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, &seen) &&
	    !vnic_read_tcp(skb, true, skb->len, &seen))
		return 0;
	/* The peer does not acknowledge an ACK: its echo comes whenever the peer has something to say. */
	if (seen.is_stamped && !seen.payload && !(seen.flags & (VNIC_TCP_SYN | VNIC_TCP_FIN)))
		return 0;
	is_chosen = READ_ONCE(rtt->leaving[slot]) == tag;
	if (is_chosen && seen.is_stamped && (__s32)(seen.tsval - rtt->probes[slot].value) <= 0 &&
	    rtt->probes[slot].looks++ < VNIC_RTT_LOOKS)
		return 0;
	if (!vnic_rtt_lock(rtt, slot))
		return 0;
	if (is_chosen)
		vnic_try_probe(rtt, slot, tag, &seen);
	else
		vnic_take_slot(rtt, slot, tag, &seen);
	vnic_rtt_unlock(rtt, slot);
	return 0;
}

static __always_inline void vnic_record_rtt(__u32 row, __u64 ns)
{
	struct vnic_latency *rtts = bpf_map_lookup_elem(&vnic_rtts, &row);

	if (rtts)
		vnic_add_latency(rtts, ns);
}

/* Under the lock. */
static __always_inline void vnic_end_probe(struct vnic_rtt *rtt, __u32 slot, __u32 row, bool is_answer)
{
	__u64 now = bpf_ktime_get_ns(), ns = now - rtt->probes[slot].sent_ns;

	if (!is_answer) {
		__sync_fetch_and_add(&rtt->unanswered, 1);
		vnic_rest(rtt, slot, now, 0);
		return;
	}
	vnic_rest(rtt, slot, now, VNIC_RTT_REST_RTTS * ns);
	vnic_record_rtt(row, ns);
}

/* Under the lock: a packet that arrives, of a flow that waits for it or has just begun. */
static __always_inline void vnic_note_arriving(struct vnic_rtt *rtt, __u32 slot, __u32 tag, __u32 row,
					       const struct vnic_tcp_seen *seen)
{
	struct vnic_rtt_probe *probe = &rtt->probes[slot];
	bool is_syn = seen->flags & VNIC_TCP_SYN, is_ack = seen->flags & VNIC_TCP_ACK;
	__s32 newer = seen->tsecr - probe->value;
	__u64 now;

	if (rtt->waiting[slot] != tag) {
		now = bpf_ktime_get_ns();
		if (rtt->mode == VNIC_RTT_HANDSHAKE && is_syn && !is_ack && now >= probe->until_ns)
			vnic_start_probe(rtt, slot, tag, seen->seq + 1, now);
		return;
	}
	if (seen->flags & VNIC_TCP_RST) {
		vnic_end_probe(rtt, slot, row, false);
	} else if (rtt->mode == VNIC_RTT_HANDSHAKE) {
		/* A SYN that comes again: something was lost, and the ACK's time says nothing. */
		if (is_syn || is_ack)
			vnic_end_probe(rtt, slot, row, !is_syn && seen->seq == probe->value);
	} else if (seen->is_stamped && is_ack && newer >= 0) {
		vnic_end_probe(rtt, slot, row, newer == 0);
	}
}

__noinline int vnic_rtt_look_arriving(struct xdp_md *ctx, __u32 hash, __u32 row)
{
	struct vnic_rtt *rtt = vnic_get_rtt();
	struct vnic_tcp_seen seen = {};
	__u32 slot = vnic_rtt_slot(hash);

	if (!rtt)
		return 0;
	if (!vnic_peek_tcp((void *)(long)ctx->data, (void *)(long)ctx->data_end, 0, &seen) &&
	    !vnic_read_tcp(ctx, false, 0, &seen))
		return 0;
	if (!vnic_rtt_lock(rtt, slot))
		return 0;
	vnic_note_arriving(rtt, slot, hash | 1, row, &seen);
	vnic_rtt_unlock(rtt, slot);
	return 0;
}

/* What each packet pays: a number, and one load from a small table. */
static __always_inline bool vnic_rtt_wants_leaving(struct vnic_rtt *rtt, __u32 hash, bool is_first,
						   struct vnic_cpu_stats *stats)
{
	if (READ_ONCE(rtt->leaving[vnic_rtt_slot(hash)]) == (hash | 1))
		return true;
	return rtt->mode == VNIC_RTT_BOTH && (is_first || !(stats->rtt_turn++ & rtt->sample_mask));
}

static __always_inline bool vnic_rtt_wants_arriving(struct vnic_rtt *rtt, __u32 hash, bool is_first)
{
	if (READ_ONCE(rtt->waiting[vnic_rtt_slot(hash)]) == (hash | 1))
		return true;
	return is_first && rtt->mode == VNIC_RTT_HANDSHAKE;
}

#endif
