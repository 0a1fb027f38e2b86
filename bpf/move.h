/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A flow leaves its place: its queue for another one, or the way to it (through the CPUMAP
 * entry, or passed where it arrived) for the other way. A queue that is lost is left at once.
 * One that is still usable is left when it holds no packet of the flow any more, so that none
 * is overtaken: until then the flow's packets go on to the former place, each as a marker.
 * vnic_cpu acknowledges a marker when it comes out of the CPUMAP entry; one that is passed
 * where it arrived counts as acknowledged at once, as the driver's poll delivers it. The
 * packet that finds the one before it acknowledged is the first on the new place. Packets of
 * one flow arrive on one CPU, so nobody else can send one in between; where the device changes
 * a flow's NIC queue, what it got of the flow before is out of its hands.
 */
#ifndef VNIC_MOVE_H
#define VNIC_MOVE_H

#include <linux/in.h>
#include "compiler.h"
#include "maps.h"
#include "rules.h"

/*
 * vnic_cpu runs before the frames of a batch become socket buffers (kernel/bpf/cpumap.c), and a
 * driver's poll hands on what it passed after at most 64 packets (net/core/dev.c, napi_poll).
 */
#define VNIC_DELIVERY_NS 1000000ULL

enum vnic_move {
	VNIC_MOVE_FORCED,
	VNIC_MOVE_IN_ORDER,
	VNIC_MOVE_RISKED,
	VNIC_MOVE_HELD,
};

/* A place is the pair of queue and arrival of struct vnic_flow. */
static __always_inline __u32 vnic_place_word(__u32 queue, __u32 arrival)
{
	return queue | arrival << 16;
}

static __always_inline __u32 vnic_flow_place_word(const struct vnic_flow *flow)
{
	return vnic_place_word(READ_ONCE(flow->queue), READ_ONCE(flow->arrival));
}

static __always_inline void vnic_set_place_word(struct vnic_flow *flow, __u32 word)
{
	WRITE_ONCE(flow->queue, word & 0xffff);
	WRITE_ONCE(flow->arrival, word >> 16);
}

/* Whether the former place is surely through with what it got of the flow. */
static __always_inline bool vnic_is_drained(const struct vnic_flow *flow, __u64 now)
{
	__u64 idle = bpf_jiffies64() - flow->last_seen_jiffies, wait = VNIC_DELIVERY_NS;

	if (flow->key.direction == VNIC_EGRESS) {
		/* fq holds a shaped packet until its departure time. */
		if (vnic_verdict_flags(flow->verdict) & VNIC_VERDICT_SHAPE)
			return idle > vnic_shape_residence_jiffies;
		return idle > vnic_tx_residence_jiffies;
	}
	if (idle > (flow->arrival & VNIC_ARRIVED_DIRECT ? vnic_poll_residence_jiffies : vnic_residence_jiffies))
		return true;
	if ((__u32)flow->packets != flow->marker || READ_ONCE(flow->drained) != flow->marker)
		return false;
	/* GRO behind a CPUMAP entry may keep a segment for a jiffy (kernel/bpf/cpumap.c, since 6.15). */
	if (flow->key.proto == IPPROTO_TCP)
		wait += vnic_gro_hold_ns;
	return now - READ_ONCE(flow->drained_ns) >= wait;
}

/* What becomes of a flow that wants another place than it used last. */
static __always_inline __u32 vnic_judge_move(const struct vnic_flow *flow, const struct vnic_table_info *table,
					     __u32 wanted)
{
	__u32 wanted_queue = wanted & 0xffff, arrived = wanted >> 16 & ~VNIC_ARRIVED_DIRECT;
	__u64 now;

	if (!(table->usable_queues >> (flow->queue & (VNIC_MAX_QUEUES - 1)) & 1))
		return VNIC_MOVE_FORCED;
	now = bpf_ktime_get_ns();
	if (vnic_is_drained(flow, now))
		return VNIC_MOVE_IN_ORDER;
	if (flow->arrival & VNIC_ARRIVED_DIRECT) {
		/* The device sends it elsewhere: what it got before cannot be waited for here. */
		if (arrived != flow->queue)
			return VNIC_MOVE_RISKED;
	} else if (flow->queue == wanted_queue) {
		/* Sparing the CPUMAP entry is worth no risk, so there is no deadline for it. */
		return VNIC_MOVE_HELD;
	}
	return now < table->settle_until_ns ? VNIC_MOVE_HELD : VNIC_MOVE_RISKED;
}

/*
 * The place for a packet of a flow that used another one before: the wanted one, or the
 * former one, then in bits 32-63 with the packet's number as a marker (0 on egress).
 * A global function: verified once.
 */
__noinline __u64 vnic_leave_place(struct vnic_flow *flow, __u32 table, __u32 wanted, struct vnic_cpu_stats *stats)
{
	struct vnic_control *control = vnic_get_control();
	__u32 marker, arrived = wanted >> 16 & ~VNIC_ARRIVED_DIRECT, verdict;
	bool same_queue;

	if (!flow || !stats || !control || table >= VNIC_TABLE_GENERATIONS)
		return wanted;
	same_queue = flow->queue == (wanted & 0xffff);
	/*
	 * A flow that never pauses does not come to be passed directly: one marker a jiffy
	 * finds the pause, and the packets between cost no clock reading.
	 */
	if (same_queue && !(flow->arrival & VNIC_ARRIVED_DIRECT) && flow->last_seen_jiffies == bpf_jiffies64() &&
	    ((__u32)flow->packets != flow->marker || READ_ONCE(flow->drained) != flow->marker))
		return vnic_place_word(flow->queue, arrived);
	verdict = vnic_judge_move(flow, vnic_get_table_info(control, table), wanted);
	if (verdict == VNIC_MOVE_HELD) {
		stats->held_packets += !same_queue;
		if (flow->key.direction == VNIC_EGRESS)
			return vnic_flow_place_word(flow);
		/* What the counter says once this packet is counted: a later one without a marker shows. */
		marker = flow->packets + 1;
		WRITE_ONCE(flow->marker, marker);
		if (flow->arrival & VNIC_ARRIVED_DIRECT) {
			flow->drained_ns = bpf_ktime_get_ns();
			WRITE_ONCE(flow->drained, marker);
			return vnic_flow_place_word(flow) | (__u64)marker << 32;
		}
		return vnic_place_word(flow->queue, arrived) | (__u64)marker << 32;
	}
	if (verdict == VNIC_MOVE_RISKED)
		stats->moves_risked++;
	else if (!same_queue && verdict == VNIC_MOVE_FORCED)
		stats->moves_forced++;
	else if (!same_queue)
		stats->moves_in_order++;
	return wanted;
}

/* In vnic_cpu: the marker is out. One that is not the flow's last says nothing. */
static __always_inline void vnic_acknowledge(const struct vnic_meta *meta)
{
	__u32 index = meta->flow;
	struct vnic_flow *flow = bpf_map_lookup_elem(&vnic_flows, &index);

	if (!flow || READ_ONCE(flow->marker) != meta->marker || (flow->hash & (VNIC_BUCKETS - 1)) != meta->bucket)
		return;
	flow->drained_ns = bpf_ktime_get_ns();
	/* An exchange, not a store: the time must not be seen after it. */
	__sync_lock_test_and_set(&flow->drained, meta->marker);
}

#endif
