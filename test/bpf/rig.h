/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the rig's programs and its user space share. User space takes every offset
 * from the BTF of the compiled objects. Byte order is the host's unless the type
 * says otherwise: sender and receiver are one machine.
 */
#ifndef RIG_H
#define RIG_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "vnic_abi.h"

enum rig_magic {
	RIG_MAGIC = 0x21676972,		/* "rig!" */
};

enum rig_limits {
	RIG_SOURCE_MAC = 0x67697202,	/* 02:72:69:67, first bytes of the generator's Ethernet address */
	RIG_HEADER_BYTES = 64,		/* Ethernet, IPv6 and UDP are 62 */
	RIG_STREAMS = 64,
	RIG_GROUPS = 16,
};

#define RIG_IPV4_PAYLOAD 42		/* Ethernet, IPv4 without options, UDP */
#define RIG_IPV6_PAYLOAD 62

/* First bytes of the UDP payload. */
struct rig_payload {
	enum rig_magic magic;
	__u32 flow;
	__u64 sequence;
	__u64 time_ns;			/* CLOCK_MONOTONIC when the packet was made */
};

/* One flow of the generator. */
struct rig_flow {
	__u8 header[RIG_HEADER_BYTES];	/* Ethernet, IP and UDP, as they are sent */
	struct rig_payload payload;	/* the next one; its sequence is the number of those sent */
	__u32 checksum;			/* sum of the UDP checksum's words without sequence and time */
	__u16 frame_bytes;
	__u16 payload_offset;
};

/* Flows that leave by one device, in turn. */
struct rig_stream {
	__u32 first_flow;
	__u32 flows;
	__u32 next;			/* below flows */
	__u32 pad;
	__u64 remaining;		/* packets it may still send */
	__u64 last_ns;			/* CLOCK_MONOTONIC when its last packet was made; 0: none was */
	__u64 longest_gap_ns;		/* between two packets */
};

struct rig_generator {
	__u32 stream;			/* the one that the next run serves */
	__u32 pad;
	struct rig_stream streams[RIG_STREAMS];
};

/* Where a flow's packets must arrive; an empty mask allows everything. */
struct rig_expected {
	__u64 queues;
	__u64 cpus;
	__u32 group;			/* for the counters over time */
	__u32 pad;
};

struct rig_seen {
	struct bpf_spin_lock lock;
	__u32 pad;
	__u64 received;
	__u64 bytes;			/* whole frames */
	__u64 next_sequence;		/* one more than the highest seen */
	__u64 missing;			/* below the highest seen and not received */
	__u64 reordered;		/* came after a higher one */
	__u64 duplicates;
	__u64 too_late;			/* so late that it cannot be told from a duplicate; counted as reordered */
	__u64 window;			/* bit n: next_sequence - 1 - n was received */
	__u64 queues;			/* bit mask of those it came from */
	__u64 cpus;
	__u64 wrong_queue;
	__u64 wrong_cpu;
	__u64 no_metadata;		/* came without the dataplane's word on the queue */
	__u64 first_ns;
	__u64 last_ns;
	__u64 max_gap_ns;		/* longest time between two packets */
	__u64 transit_ns;		/* sum of the times from making to arrival */
};

struct rig_checker {
	__u64 start_ns;			/* 0: keep no slices */
	__u64 slice_ns;
	__u32 slices;
	__u32 pad;
};

/* Index: CPU. Each CPU writes its own element only. */
struct rig_totals {
	__u64 received;
	__u64 bytes;
	__u64 unknown_flow;
	__u64 beyond_slices;		/* arrived after the last slice */
	__u64 queue_packets[VNIC_MAX_QUEUES];
	__u64 queue_bytes[VNIC_MAX_QUEUES];
};

/* Index: CPU * slices + slice. */
struct rig_slice {
	__u64 group_bytes[RIG_GROUPS];
	__u32 group_packets[RIG_GROUPS];
	__u32 queue_packets[VNIC_MAX_QUEUES];
};

/* What left the host, by flow. */
struct rig_departed {
	__u64 packets;
	__u64 bytes;
	__u64 queues;			/* bit mask */
	__u32 last_queue;
	__u32 changes;			/* how often the queue changed */
};

/* Points behind the UDP header of a rig packet, or NULL. Reads what the parser of the dataplane does not. */
static __always_inline struct rig_payload *rig_find_payload(void *data, void *end)
{
	struct rig_payload *payload;
	__u8 *bytes = data;
	__u16 type;

	if (data + RIG_IPV4_PAYLOAD + sizeof(*payload) > end)
		return NULL;
	type = *(__u16 *)(bytes + 12);
	if (type == bpf_htons(0x0800)) {
		if (bytes[14] != 0x45 || bytes[23] != IPPROTO_UDP)
			return NULL;
		payload = data + RIG_IPV4_PAYLOAD;
	} else if (type == bpf_htons(0x86dd)) {
		if (data + RIG_IPV6_PAYLOAD + sizeof(*payload) > end || bytes[20] != IPPROTO_UDP)
			return NULL;
		payload = data + RIG_IPV6_PAYLOAD;
	} else {
		return NULL;
	}
	return payload->magic == RIG_MAGIC ? payload : NULL;
}

#endif
