/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frame to flow key: Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with
 * extension headers, fragments, and the ports of TCP, UDP, UDP-Lite, DCCP and SCTP.
 *
 * Two lengths are kept apart. "have" is what the program can read: a multi-buffer
 * frame's first buffer, or what a capture kept. "frame_bytes" is the frame as it
 * was on the wire; lengths inside the packet are held against that one.
 *
 * test/support/reference-parser.ts says the same in plain TypeScript; the two are
 * run against each other.
 */
#ifndef VNIC_PARSE_H
#define VNIC_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include "compiler.h"
#include "maps.h"

#define VNIC_MAX_VLAN_TAGS 2
#define VNIC_MAX_EXTENSIONS 8
#define VNIC_MAX_HEADER_OFFSET 0x5fff	/* 8 extension headers of 2 KiB and what precedes them */
#define VNIC_IPV4_FRAGMENT 0x3fff	/* more-fragments flag and offset */
#define VNIC_IPV6_FRAGMENT 0xfff9	/* offset and more-fragments flag */

struct vnic_vlan_header {
	__be16 tci;
	__be16 protocol;
};

struct vnic_extension_header {
	__u8 next;
	__u8 length;
	__be16 fragment;		/* offset and flags, in a fragment header */
};

struct vnic_ports {
	__be16 source;
	__be16 dest;
};

struct vnic_cursor {
	void *data;
	void *data_end;
	__u32 frame_bytes;
	__u32 offset;			/* of the header to read next */
	__u32 ip_end;			/* offset of the IP packet's end */
	__u8 direction;			/* enum vnic_direction */
};

/* A header that is not in the first buffer: cut off, or in a later buffer of the same frame? */
static __always_inline __u32 vnic_absent(const struct vnic_cursor *c, __u32 reason)
{
	if (!vnic_replay && c->data_end - c->data < c->frame_bytes)
		return VNIC_UNPARSED_HEADERS_IN_FRAGS;
	return reason;
}

/*
 * A key is written and read in words of 64 bits only: a load that spans two narrower stores waits until
 * both have left the store buffer, which cost a hot packet a third of its time.
 */
static __always_inline void vnic_copy_addr(struct vnic_addr *to, const void *from)
{
	__u64 *t = (__u64 *)to;
	const __u64 *f = from;

	t[0] = f[0];
	t[1] = f[1];
}

static __always_inline void vnic_map_addr(struct vnic_addr *to, __be32 from)
{
	__u64 *t = (__u64 *)to;

	t[0] = 0;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	t[1] = 0xffffULL << 32 | from;
#else
	t[1] = (__u64)from << 32 | bpf_htonl(0xffff);
#endif
}

/* The key's last word: ports, protocol, direction. */
static __always_inline void vnic_set_ends(struct vnic_flow_key *key, __be16 sport, __be16 dport, __u8 proto,
					  __u8 direction)
{
	__u64 *word = (__u64 *)&key->sport;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	*word = (__u64)sport << 48 | (__u64)dport << 32 | (__u64)proto << 24 | (__u64)direction << 16;
#else
	*word = sport | (__u64)dport << 16 | (__u64)proto << 32 | (__u64)direction << 40;
#endif
}

/* Ports, and the checks that a transport header is whole and sane. */
static __always_inline __u32 vnic_parse_l4(const struct vnic_cursor *c, struct vnic_flow_key *key, __u8 proto)
{
	__u32 offset = c->offset;
	struct vnic_ports *ports;
	__u32 header, length;
	struct tcphdr *tcp;
	struct udphdr *udp;

	switch (proto) {
	case IPPROTO_TCP:
		header = sizeof(struct tcphdr);
		break;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		header = sizeof(struct udphdr);
		break;
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		header = 12;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		header = 4;
		break;
	default:
		goto no_ports;
	}
	if (offset + header > c->ip_end)
		return VNIC_UNPARSED_TRUNCATED_L4;
	if (offset > VNIC_MAX_HEADER_OFFSET)
		return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_L4);
	ports = c->data + offset;
	if ((void *)ports + header > c->data_end)
		return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_L4);
	if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6)
		goto no_ports;
	if (proto == IPPROTO_TCP) {
		tcp = (void *)ports;
		if ((void *)(tcp + 1) > c->data_end)
			return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_L4);
		length = tcp->doff * 4;
		if (length < sizeof(*tcp) || offset + length > c->ip_end)
			return VNIC_UNPARSED_BAD_TCP_OFFSET;
	} else if (proto == IPPROTO_UDP) {
		udp = (void *)ports;
		if ((void *)(udp + 1) > c->data_end)
			return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_L4);
		length = bpf_ntohs(udp->len);
		if (length < sizeof(*udp) || offset + length > c->ip_end)
			return VNIC_UNPARSED_BAD_UDP_LENGTH;
	}
	if ((void *)(ports + 1) > c->data_end)
		return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_L4);
	vnic_set_ends(key, ports->source, ports->dest, proto, c->direction);
	return VNIC_PARSED;
no_ports:
	vnic_set_ends(key, 0, 0, proto, c->direction);
	return VNIC_PARSED;
}

static __always_inline __u32 vnic_parse_ipv4(struct vnic_cursor *c, struct vnic_flow_key *key)
{
	struct iphdr *ip = c->data + c->offset;
	__u32 header, length;

	if ((void *)(ip + 1) > c->data_end)
		return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_IPV4);
	if (ip->version != 4)
		return VNIC_UNPARSED_BAD_IPV4_VERSION;
	header = ip->ihl * 4;
	if (header < sizeof(*ip))
		return VNIC_UNPARSED_BAD_IHL;
	length = bpf_ntohs(ip->tot_len);
	if (length < header || c->offset + length > c->frame_bytes)
		return VNIC_UNPARSED_BAD_IPV4_LENGTH;
	if ((void *)ip + header > c->data_end)
		return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_IPV4);
	vnic_map_addr(&key->src, ip->saddr);
	vnic_map_addr(&key->dst, ip->daddr);
	if (ip->frag_off & bpf_htons(VNIC_IPV4_FRAGMENT)) {
		vnic_set_ends(key, 0, 0, ip->protocol, c->direction);
		return VNIC_PARSED;
	}
	c->ip_end = c->offset + length;
	c->offset += header;
	return vnic_parse_l4(c, key, ip->protocol);
}

/* Follows the chain of extension headers; *proto is where it ends, *fragment whether it ends at a fragment. */
static __noinline VNIC_LATCH_BEHIND_LOOP __u32 vnic_parse_extensions(struct vnic_cursor *c, __u8 *proto, bool *fragment)
{
	struct vnic_extension_header *header;
	__u32 length;
	int i;

	for (i = 0; i <= VNIC_MAX_EXTENSIONS; i++) {
		__u32 offset = c->offset;

		switch (*proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_FRAGMENT:
		case IPPROTO_AH:
		case IPPROTO_MH:
		case 139:	/* HIP, RFC 7401 */
		case 140:	/* Shim6, RFC 5533 */
			break;
		default:
			return VNIC_PARSED;
		}
		if (i == VNIC_MAX_EXTENSIONS)
			return VNIC_UNPARSED_EXTENSION_DEPTH;
		barrier_var(offset);
		if (offset > VNIC_MAX_HEADER_OFFSET)
			return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_EXTENSION);
		header = c->data + offset;
		if ((void *)header + 8 > c->data_end)
			return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_EXTENSION);
		if (*proto == IPPROTO_FRAGMENT)
			length = 8;
		else if (*proto == IPPROTO_AH)
			length = (header->length + 2) * 4;	/* RFC 4302, section 2.2 */
		else
			length = (header->length + 1) * 8;
		if (offset + length > c->ip_end)
			return VNIC_UNPARSED_TRUNCATED_EXTENSION;
		if (c->data_end - c->data < offset + length)
			return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_EXTENSION);
		/* An atomic fragment (RFC 6946) is a whole datagram and goes on like one. */
		if (*proto == IPPROTO_FRAGMENT && (header->fragment & bpf_htons(VNIC_IPV6_FRAGMENT))) {
			*proto = header->next;
			*fragment = true;
			return VNIC_PARSED;
		}
		*proto = header->next;
		c->offset = offset + length;
	}
	return VNIC_UNPARSED_EXTENSION_DEPTH;
}

static __always_inline __u32 vnic_parse_ipv6(struct vnic_cursor *c, struct vnic_flow_key *key)
{
	struct ipv6hdr *ip = c->data + c->offset;
	struct vnic_cursor chain;
	bool fragment = false;
	__u32 length, reason;
	__u8 proto;

	if ((void *)(ip + 1) > c->data_end)
		return vnic_absent(c, VNIC_UNPARSED_TRUNCATED_IPV6);
	if (ip->version != 6)
		return VNIC_UNPARSED_BAD_IPV6_VERSION;
	length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (c->offset + length > c->frame_bytes)
		return VNIC_UNPARSED_BAD_IPV6_LENGTH;
	vnic_copy_addr(&key->src, &ip->saddr);
	vnic_copy_addr(&key->dst, &ip->daddr);
	proto = ip->nexthdr;
	c->ip_end = c->offset + length;
	c->offset += sizeof(*ip);
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP) {
		chain = *c;	/* a copy: the caller's cursor stays in registers */
		reason = vnic_parse_extensions(&chain, &proto, &fragment);
		if (reason != VNIC_PARSED)
			return reason;
		c->offset = chain.offset;
	}
	if (fragment) {
		vnic_set_ends(key, 0, 0, proto, c->direction);
		return VNIC_PARSED;
	}
	return vnic_parse_l4(c, key, proto);
}

/*
 * Fills *key, which must be 8-byte aligned. Returns enum vnic_unparsed.
 */
static __always_inline __u32 vnic_parse(void *data, void *data_end, __u32 frame_bytes, __u8 direction,
					struct vnic_flow_key *key)
{
	struct vnic_cursor c = { .data = data, .data_end = data_end, .frame_bytes = frame_bytes,
				 .direction = direction };
	struct ethhdr *eth = data;
	struct vnic_vlan_header *vlan;
	__be16 protocol;
	int tags;

	if ((void *)(eth + 1) > data_end)
		return VNIC_UNPARSED_TRUNCATED_ETHERNET;
	protocol = eth->h_proto;
	c.offset = sizeof(*eth);
#pragma unroll
	for (tags = 0; tags <= VNIC_MAX_VLAN_TAGS; tags++) {
		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if (tags == VNIC_MAX_VLAN_TAGS)
			return VNIC_UNPARSED_VLAN_DEPTH;
		vlan = data + c.offset;
		if ((void *)(vlan + 1) > data_end)
			return VNIC_UNPARSED_TRUNCATED_VLAN;
		protocol = vlan->protocol;
		c.offset += sizeof(*vlan);
	}
	if (protocol == bpf_htons(ETH_P_IP))
		return vnic_parse_ipv4(&c, key);
	if (protocol == bpf_htons(ETH_P_IPV6))
		return vnic_parse_ipv6(&c, key);
	return VNIC_UNPARSED_NOT_IP;
}

#endif
