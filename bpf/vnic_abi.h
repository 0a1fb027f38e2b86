/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The binary interface between the BPF programs and user space: every layout
 * that both sides read or write, and nothing else.
 *
 * This is the only place where such a layout is written by hand. The codecs in
 * src/maps/generated are made from the BTF of the compiled object. Constants are
 * enumerators because BTF does not carry preprocessor defines.
 *
 * Byte order is the host's unless the type says __be16. Padding is explicit and
 * zero: map keys are compared as bytes.
 */
#ifndef VNIC_ABI_H
#define VNIC_ABI_H

#include <stddef.h>
#include <linux/types.h>

/* Raised whenever a layout or the meaning of a field changes. */
enum vnic_abi {
	VNIC_ABI_VERSION = 5,
};

enum vnic_limits {
	VNIC_MAX_QUEUES = 64,		/* width of a queue bit mask */
	VNIC_MAX_AZS = 8,
	VNIC_TABLE_ROWS = 9,		/* row 0: no AZ known; row n: AZ n */
	VNIC_BUCKETS = 4096,
	VNIC_TABLE_GENERATIONS = 80,	/* the active one, two banks of standby tables for 8 AZs, and spares */
	VNIC_TABLE_INFOS = 128,		/* a power of two that holds them */
	VNIC_STANDBY_BANKS = 2,
	VNIC_AZ_SETS = 256,		/* sets of AZs: one bit each */
	VNIC_MAX_BFD_SESSIONS = 32,
	VNIC_MAX_SHAPES = 128,		/* per direction and rule set */
	VNIC_RULE_SETS = 2,		/* the live set and the one being prepared */
	VNIC_MAX_RULE_SLOTS = 1048576,	/* what fits the slot field of a verdict */
	VNIC_RULE_CELLS = 1024,		/* slots from 0 on that each CPU counts in cells of its own */
	VNIC_LATENCY_SUB_BUCKETS = 16,	/* per octave: relative error at most 1/16 */
	VNIC_LATENCY_BUCKETS = 512,
	VNIC_META_MAGIC = 0x766e6963,	/* "vnic" */
	VNIC_FLOW_WAYS = 8,
	VNIC_FLOW_TAG_BUSY = 1,
	VNIC_ARRIVED_DIRECT = 0x8000,	/* vnic_flow.arrival: passed where it arrived, not handed to a CPUMAP entry */
};

/* "Nothing here" markers. */
enum vnic_none {
	VNIC_NO_QUEUE = 0xffff,		/* bucket or queue: pass to the stack unsteered */
	VNIC_NO_CPU = 0xffff,		/* queue without a CPU: pass to the stack */
	VNIC_NO_TABLE = 0xffffffff,	/* control.active_table: steering is off */
	VNIC_NO_STANDBY = 0xffff,	/* control.standby: no table for losing these AZs */
	VNIC_NO_RULE = 0xfffff,		/* slot field of a verdict: no rule matched */
};

/* Slots of the program array behind the root program. */
enum vnic_prog_slot {
	VNIC_SLOT_INGRESS = 0,
	VNIC_PROG_SLOTS = 1,
};

enum vnic_direction {
	VNIC_INGRESS = 0,
	VNIC_EGRESS = 1,
	VNIC_DIRECTIONS = 2,
};

/* Why a frame has no flow key. It is counted and passed. */
enum vnic_unparsed {
	VNIC_PARSED = 0,
	VNIC_UNPARSED_NOT_IP = 1,		/* EtherType is neither IPv4 nor IPv6 */
	VNIC_UNPARSED_TRUNCATED_ETHERNET = 2,
	VNIC_UNPARSED_TRUNCATED_VLAN = 3,
	VNIC_UNPARSED_VLAN_DEPTH = 4,		/* more than two tags */
	VNIC_UNPARSED_TRUNCATED_IPV4 = 5,
	VNIC_UNPARSED_BAD_IPV4_VERSION = 6,
	VNIC_UNPARSED_BAD_IHL = 7,		/* IHL below 5 */
	VNIC_UNPARSED_BAD_IPV4_LENGTH = 8,	/* total length below the header's, or beyond the frame */
	VNIC_UNPARSED_TRUNCATED_IPV6 = 9,
	VNIC_UNPARSED_BAD_IPV6_VERSION = 10,
	VNIC_UNPARSED_BAD_IPV6_LENGTH = 11,	/* payload length beyond the frame */
	VNIC_UNPARSED_TRUNCATED_EXTENSION = 12,
	VNIC_UNPARSED_EXTENSION_DEPTH = 13,	/* more extension headers than are followed */
	VNIC_UNPARSED_TRUNCATED_L4 = 14,
	VNIC_UNPARSED_BAD_TCP_OFFSET = 15,	/* data offset below 5 or beyond the packet */
	VNIC_UNPARSED_BAD_UDP_LENGTH = 16,	/* below 8 or beyond the packet */
	VNIC_UNPARSED_HEADERS_IN_FRAGS = 17,	/* headers reach beyond a multi-buffer frame's first buffer */
	VNIC_UNPARSED_REASONS = 18,
};

/* Why a packet was dropped by a program of ours. */
enum vnic_drop {
	VNIC_DROP_RULE = 0,		/* a rule with action drop */
	VNIC_DROP_LIMIT_RULE = 1,	/* over a rule-scope limit */
	VNIC_DROP_LIMIT_FLOW = 2,	/* over a flow-scope limit */
	VNIC_DROP_REASONS = 3,
};

/* An IPv4 address is ::ffff:a.b.c.d, so one table serves both families. */
struct vnic_addr {
	__u8 bytes[16];
};

/* Ports are 0 where the protocol has none and for every fragment of a datagram. */
struct vnic_flow_key {
	struct vnic_addr src;
	struct vnic_addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;			/* IP protocol number */
	__u8 direction;			/* enum vnic_direction */
	__u8 pad[2];
};

/*
 * A cached verdict is one u64, so that a CPU that reads it while another writes
 * it sees one whole verdict:
 *   bits  0-19  rule slot, VNIC_NO_RULE if none
 *   bits 20-23  AZ index, 0 if none is known
 *   bits 24-31  enum vnic_verdict_flag
 *   bits 32-63  generation of the rule set that gave it
 */
enum vnic_verdict_layout {
	VNIC_VERDICT_AZ_SHIFT = 20,
	VNIC_VERDICT_FLAG_SHIFT = 24,
	VNIC_VERDICT_GENERATION_SHIFT = 32,
};

enum vnic_verdict_flag {
	VNIC_VERDICT_DROP = 1,
	VNIC_VERDICT_LIMIT_RULE = 2,
	VNIC_VERDICT_LIMIT_FLOW = 4,
	VNIC_VERDICT_QUEUES = 8,	/* the rule names its queues */
	VNIC_VERDICT_SHADOW = 16,	/* count what would be dropped, drop nothing */
	VNIC_VERDICT_SHAPE = 32,	/* egress: delay to the departure time instead of dropping */
};

/*
 * The flow table: sets of VNIC_FLOW_WAYS entries in one memory-mapped array. A keyed hash
 * of a flow's key gives two sets; its entry is the way of either whose tag matches and
 * whose key is equal. Tag 0: free; VNIC_FLOW_TAG_BUSY: being written.
 * First cache line: what each packet reads. Second: what each packet writes.
 */
struct vnic_flow {
	struct vnic_flow_key key;
	__u64 verdict;
	__u64 tat;			/* flow-scope limiter, ticks; see vnic_rule_action */
	__u32 hash;			/* symmetric; its low 12 bits are the bucket */
	/* These two are one u32: a packet compares both with what its own would be. */
	__u16 queue;			/* the last one used, or VNIC_NO_QUEUE */
	__u16 arrival;			/* NIC queue of the last packet, VNIC_ARRIVED_DIRECT added; 0 on egress */

	__u64 packets;			/* all that arrived, dropped ones included */
	__u64 bytes;			/* whole frames */
	__u64 dropped_packets;
	__u64 dropped_bytes;
	__u64 last_seen_jiffies;	/* jiffies64; vnic_clock relates it to CLOCK_MONOTONIC */
	__u64 created_jiffies;
	/* While the flow waits to leave its queue in order (move.h): */
	__u32 marker;			/* number of the last packet that was sent as a marker; 0: none was */
	__u32 drained;			/* the last marker that came out behind the CPUMAP entry, */
	__u64 drained_ns;		/* and when */
};

struct vnic_flow_set {
	__u32 tag[8];
};

/* Answer of the program vnic_clock: both clocks at one moment. */
struct vnic_clock {
	__u64 jiffies;
	__u64 monotonic_ns;
};

/*
 * Tuple-space search. A shape is a set of masks; all rules of one shape are found
 * with one look-up of the masked key. Shapes stand in ascending best_order, and
 * the search ends at the first shape that cannot beat what was found.
 * order: rank of a rule in its set, 0 wins (priority, then specificity, then id).
 */
struct vnic_shape {
	struct vnic_addr src_mask;
	struct vnic_addr dst_mask;
	__be16 sport_mask;
	__be16 dport_mask;
	__u8 proto_mask;		/* 0 or 0xff */
	__u8 pad[3];
	__u32 best_order;
	__u32 pad2;
};

struct vnic_shape_count {
	__u32 count;
	__u32 pad;
};

/* Key of the inner hash maps: a flow key under a shape's masks. */
struct vnic_rule_key {
	struct vnic_addr src;
	struct vnic_addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 direction;
	__u8 shape;			/* index in the direction's shapes */
	__u8 pad;
};

struct vnic_rule_entry {
	__u32 order;
	__u32 slot;
};

/*
 * What a rule does. Array index: set * slots + slot; a slot belongs to a rule id
 * for as long as the rule exists, in both sets.
 *
 * Limiter: GCRA (ATM Forum TM 4.1, section 4.4). One tick is 1/16 ns, so a u64 lasts
 * 36 years of uptime. A packet costs
 *   cost_per_packet + (frame bytes * cost_per_byte >> 16)
 * ticks and conforms if max(tat, now) - now + cost <= tolerance (the burst's cost).
 */
enum vnic_limiter_units {
	VNIC_TICKS_PER_NS_SHIFT = 4,
	VNIC_COST_PER_BYTE_SHIFT = 16,
};

struct vnic_rule_action {
	__u32 rule_id;			/* 0: slot is free */
	__u8 flags;			/* enum vnic_verdict_flag */
	__u8 pad[3];
	__u64 queues;			/* bit mask, with VNIC_VERDICT_QUEUES */
	__u64 cost_per_byte;		/* ticks << 16 */
	__u64 cost_per_packet;		/* ticks */
	__u64 tolerance;		/* ticks */
	__u64 pad2[3];
};

/*
 * Survives rule-set changes; index: slot. Written with atomic adds. The counters are those of slots from
 * VNIC_RULE_CELLS on; of the slots before, struct vnic_rule_cell has them.
 */
struct vnic_rule_state {
	__u64 tat;			/* rule-scope limiter, ticks */
	__u64 packets;			/* all that matched, dropped ones included */
	__u64 bytes;
	__u64 dropped_packets;		/* in shadow mode: what would have been dropped */
	__u64 dropped_bytes;
	__u64 limit_event_ns;		/* when VNIC_EVENT_LIMIT was last sent */
	__u64 pad[2];
};

/*
 * Counters of a rule on one CPU, as in vnic_rule_state; index: CPU * VNIC_RULE_CELLS + slot. Each CPU writes its own
 * cells only, and begins anew when it finds another rule's id: a slot passes on while packets are under way.
 */
struct vnic_rule_cell {
	__u32 rule_id;			/* whose the counters are; of another rule than the slot's they count for nothing */
	__u32 pad;
	__u64 packets;
	__u64 bytes;
	__u64 dropped_packets;
	__u64 dropped_bytes;
	__u64 pad2[3];
};

struct vnic_az_prefix {
	__u32 prefixlen;		/* 32 (set and padding) + the address's prefix length, 0 to 128 */
	__u8 set;			/* rule set the prefix belongs to */
	__u8 pad[3];
	struct vnic_addr addr;
};

struct vnic_az_index {
	__u32 az;			/* 1 to VNIC_MAX_AZS */
};

/* One row of a steering table: the queue of each bucket. Index: generation * VNIC_TABLE_ROWS + row. */
struct vnic_table_row {
	__u16 queue[4096];
};

struct vnic_table_info {
	__u64 usable_queues;		/* bit mask; steers rules that name queues around lost ones */
	__u64 left_ns;			/* CLOCK_MONOTONIC when the table was left; 0: never active or active */
	__u64 settle_until_ns;		/* until then flows leave a usable queue only in order; 0: at once */
	__u32 settle_ms;		/* settle_until_ns is so much after the kernel makes it active; 0: at once */
	__u32 bank;			/* of the standby tables that belong to it, below VNIC_STANDBY_BANKS */
};

/* The switches. One element, memory-mapped; each switch is one aligned store. */
struct vnic_control {
	/* These two are one u64: user space and the watch both change them, by compare-and-swap. */
	__u32 active_table;		/* table generation, or VNIC_NO_TABLE */
	__u32 lost_azs;			/* bit n - 1: AZ n is out of use */
	__u32 rule_generation;		/* 0: no rules; rule set is generation & 1 */
	__u32 abi_version;
	__u32 queues;			/* queues in use, 1 to VNIC_MAX_QUEUES */
	__u32 rule_slots;		/* capacity of one rule set */
	__u32 hash_seed;		/* of the bucket hash; the flow table's keys derive from it */
	__u32 bfd_sessions;		/* elements of vnic_bfd from the first on that may be in use */
	__u32 capture;			/* 1: vnic_capture says what is captured */
	__u32 socket_place;		/* of the device in vnic_socket_latency, plus one; 0: nobody times the way there */
	__u32 direct;			/* 1: a packet that arrived on its own queue and that queue's CPU is passed there */
	__u32 pad;
	__u16 queue_cpu[64];		/* CPU of each queue, or VNIC_NO_CPU */
	struct vnic_table_info tables[128];	/* by generation */
	/* By bank, then by the set of lost AZs: a table that was prepared for it, or VNIC_NO_STANDBY. */
	__u16 standby[512];
};

#include "vnic_abi_watch.h"
#include "vnic_abi_trace.h"
#include "vnic_abi_look.h"

/* Index: CPU * VNIC_MAX_QUEUES + queue. Each CPU writes its own cells only. */
struct vnic_queue_stats {
	__u64 rx_packets;		/* arrived on this NIC queue */
	__u64 rx_bytes;
	__u64 steered_packets;		/* sent by the table or a rule to this queue */
	__u64 steered_bytes;
	__u64 dropped_packets;		/* of those that arrived on this NIC queue */
	__u64 dropped_bytes;
	__u64 tx_packets;		/* left by this TX queue */
	__u64 tx_bytes;
	__u64 missed_packets;		/* of those steered to this queue: arrived on another NIC queue */
	__u64 direct_packets;		/* of those steered to this queue: arrived here and were passed here */
	__u64 off_cpu_packets;		/* of those steered to this queue: arrived here, on another CPU than the queue's */
	__u64 pad[5];
};

/* Index: CPU. Each CPU writes its own element only. */
struct vnic_cpu_stats {
	__u64 parsed;
	__u64 redirected;		/* handed to a CPUMAP entry */
	__u64 passed;			/* to the stack on this CPU: no table, no queue or no CPU for it */
	__u64 received;			/* taken from a CPUMAP entry by vnic_cpu */
	__u64 received_bytes;
	__u64 flows_created;
	__u64 flows_evicted;		/* entries that made room for a new flow */
	__u64 flow_table_busy;		/* no entry could be had; the packet went on without one */
	__u64 reclassified;		/* cached verdict was of an older rule set */
	__u64 limiter_contended;	/* gave up comparing and swapping, charged without asking */
	__u64 metadata_failed;		/* driver gave no room for metadata */
	__u64 tx_unsteered_packets;	/* left without a queue from the table */
	__u64 tx_unsteered_bytes;
	__u64 moves_in_order;		/* flows that left a queue which held nothing of them */
	__u64 moves_forced;		/* flows whose queue was lost */
	__u64 moves_risked;		/* flows that left a usable queue although it could hold packets of theirs */
	__u64 held_packets;		/* went to the former queue, to keep their order */
	__u64 az_packets[16];		/* that arrived, by AZ; 0: none known */
	__u64 drops[3];			/* enum vnic_drop */
	__u64 unparsed[18];		/* enum vnic_unparsed */
	__u64 clock_ns;			/* the limiter's last reading of the precise clock, */
	__u32 clock_jiffy;		/* the low half of jiffies then, */
	__u32 clock_reuses;		/* and how often it was used again */
	__u64 rtt_turn;			/* TCP packets that left; chooses those that are looked at */
	__u64 pad[7];			/* the next CPU's is on a cache line of its own */
};

/*
 * Index: CPU that took the packet from its CPUMAP entry. Nanoseconds from XDP entry.
 * Bucket of v: v itself below 16, else (msb(v) - 3) * 16 + the 4 bits after the msb.
 */
struct vnic_latency {
	__u64 count;
	__u64 sum_ns;
	__u64 bucket[512];
};

/*
 * Before the frame, from vnic_ingress to vnic_cpu; kept for tc and AF_XDP if deliver_metadata is set, and before
 * timed frames on their way to a socket.
 */
struct vnic_meta {
	__u32 magic;			/* VNIC_META_MAGIC */
	__u16 queue;
	__u16 bucket;
	__u64 rx_ns;			/* CLOCK_MONOTONIC at XDP entry, 0 if not sampled */
	__u32 flow;			/* index of the flow's entry, for a marker; behind vnic_cpu control.socket_place */
	__u32 marker;			/* 0: this packet is none */
};

enum vnic_event_type {
	VNIC_EVENT_RULES_LIVE = 1,	/* first packet classified by a generation; value: generation */
	VNIC_EVENT_LIMIT = 2,		/* a limit began to drop; at most one a second and rule; value: rule id */
};

struct vnic_event {
	__u64 time_ns;			/* CLOCK_MONOTONIC */
	__u32 type;
	__u32 cpu;
	__u64 value;
};

/* Replay only: the capture's own clock and length stand for the device's. One element. */
struct vnic_replay_frame {
	__u64 time_ns;
	__u32 wire_bytes;		/* length on the wire, although the capture may hold less */
	__u32 rx_queue;
};

/* Answer of vnic_explain. One element; callers take turns. */
struct vnic_explanation {
	struct vnic_flow_key key;
	__u32 unparsed;			/* enum vnic_unparsed */
	__u32 direction;		/* in: enum vnic_direction */
	__u32 frame_bytes;
	__u32 flow_known;		/* 1: the flow table has it */
	__u32 verdict_cached;		/* 1: and its verdict is of the live rule set */
	__u32 generation;
	__u64 verdict;			/* as in vnic_flow */
	__u32 rule_id;			/* 0: none */
	__u32 az;			/* 0: none */
	__u32 hash;
	__u32 bucket;
	__u32 table;			/* generation, or VNIC_NO_TABLE */
	__u32 queue;			/* or VNIC_NO_QUEUE */
	__u32 cpu;			/* or VNIC_NO_CPU */
	__u32 limited;			/* 1: over its limit now */
	__u32 dropped;			/* 1: would be dropped */
	__u32 arrival;			/* as in vnic_flow, of the flow's last packet; VNIC_NO_QUEUE: the flow is not known */
	__u64 limiter_debt_ns;		/* how far the limiter is ahead of the clock */
};

_Static_assert(sizeof(struct vnic_flow_key) == 40, "flow key");
_Static_assert(sizeof(struct vnic_rule_key) == 40, "rule key");
_Static_assert(sizeof(struct vnic_flow) == 128, "two cache lines");
_Static_assert(offsetof(struct vnic_flow, queue) % 4 == 0 && offsetof(struct vnic_flow, arrival) == offsetof(struct vnic_flow, queue) + 2, "one u32");
_Static_assert(offsetof(struct vnic_flow, packets) == 64, "written part on its own line");
_Static_assert(sizeof(struct vnic_shape) == 48, "shape");
_Static_assert(sizeof(struct vnic_rule_action) == 64, "one cache line");
_Static_assert(sizeof(struct vnic_rule_state) == 64, "one cache line");
_Static_assert(sizeof(struct vnic_rule_cell) == 64, "one cache line");
_Static_assert(sizeof(struct vnic_queue_stats) == 128, "two cache lines");
_Static_assert(sizeof(struct vnic_cpu_stats) == 512, "eight cache lines");
_Static_assert(sizeof(struct vnic_az_prefix) == 24, "LPM key");
_Static_assert(sizeof(struct vnic_table_row) == 8192, "row");
_Static_assert(offsetof(struct vnic_control, lost_azs) == 4, "one u64 with active_table");
_Static_assert(sizeof(struct vnic_meta) == 24, "metadata: a multiple of 4, at most 32");

#endif
