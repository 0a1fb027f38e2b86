/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The part of the binary interface that is about looking: round-trip times of TCP, and captured
 * packets; part of vnic_abi.h, which says what holds for all of it.
 */
#ifndef VNIC_ABI_LOOK_H
#define VNIC_ABI_LOOK_H

enum vnic_look_limits {
	VNIC_RTT_SLOTS = 512,		/* flows of which an answer is waited for at a time; a power of two */
	VNIC_CAPTURE_BYTES = 9216,	/* the most that is kept of a packet */
	VNIC_CAPTURE_ANY_AZ = 0xffff,
};

enum vnic_rtt_mode {
	VNIC_RTT_OFF = 0,
	VNIC_RTT_BOTH = 1,		/* by timestamps of packets that leave, and their echoes */
	VNIC_RTT_HANDSHAKE = 2,		/* what leaves is not seen: from a SYN to the ACK that ends the handshake */
};

/* Waits for one answer. Written under its lock, which nobody waits for. */
struct vnic_rtt_probe {
	__u32 lock;
	__u32 value;			/* TSval, or the sequence number that the ACK must have */
	__u64 sent_ns;			/* CLOCK_MONOTONIC */
	__u64 until_ns;			/* nobody else may have the slot before */
	__u32 looks;			/* at packets that could not be the probe */
	__u32 pad;
};

/* One element. A flow's slot is the low bits of its hash; a tag is the hash with its lowest bit set, 0: none. */
struct vnic_rtt {
	/* Written by user space. */
	__u32 mode;			/* enum vnic_rtt_mode */
	__u32 sample_mask;		/* one TCP packet in mask + 1 that leaves is looked at */
	__u64 pad[7];
	/* Written by the programs. */
	__u64 unstamped;		/* looked at, without a timestamp (RFC 7323) */
	__u64 unanswered;		/* probes whose echo did not come, but a later one */
	__u64 pad2[6];
	__u32 leaving[512];		/* the flow's next packet with a newer timestamp is the probe */
	__u32 waiting[512];		/* the probe is on its way */
	struct vnic_rtt_probe probes[512];
};

/* What to capture. One element, memory-mapped. control.capture says whether anything is. */
struct vnic_capture {
	/* Written by user space. */
	__u32 session;
	__u32 snaplen;			/* bytes of a packet that are kept, 1 to VNIC_CAPTURE_BYTES */
	__u32 rule_id;			/* 0: any, and packets without one */
	__u32 az;			/* row, or VNIC_CAPTURE_ANY_AZ */
	__u64 lease_ns;			/* CLOCK_MONOTONIC; the first packet behind it turns the capture off */
	__u64 allowance;		/* packets that may be captured, since the capture began */
	__u64 most;			/* packets that were asked for; the programs do not look at it */
	__u32 packets_per_second;	/* that the allowance grows by; the programs do not look at it */
	__u32 pad;
	/* Written by the programs. */
	__u64 matched;
	__u64 captured;
	__u64 over_allowance;		/* matched, but more than were allowed */
	__u64 ring_full;		/* matched, but nobody had read the earlier ones yet */
};

enum vnic_outcome {
	VNIC_OUTCOME_PASS = 0,
	VNIC_OUTCOME_DROP = 1,
	VNIC_OUTCOME_UNPARSED = 2,
};

/* Before the head of a packet in the ring. */
struct vnic_captured {
	__u64 time_ns;			/* CLOCK_MONOTONIC */
	__u32 session;
	__u32 wire_bytes;
	__u32 kept_bytes;
	__u32 rule_id;			/* 0: none */
	__u16 queue;			/* or VNIC_NO_QUEUE */
	__u16 rx_queue;
	__u8 az;			/* row; 0: none is known */
	__u8 outcome;			/* enum vnic_outcome */
	__u8 reason;			/* enum vnic_drop or enum vnic_unparsed, by the outcome */
	__u8 flags;			/* enum vnic_verdict_flag */
};

_Static_assert(sizeof(struct vnic_captured) == 32, "a multiple of 8, as records in the ring are");
_Static_assert(offsetof(struct vnic_rtt, unstamped) == 64, "what is only read on its own line");

#endif
