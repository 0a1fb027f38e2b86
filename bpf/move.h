/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A flow leaves its queue for another one. A queue that is lost is left at once. One that is
 * still usable is left when it holds no packet of the flow any more, so that none is
 * overtaken: until then the flow's packets go on to the former queue, each as a marker,
 * which vnic_cpu acknowledges when it comes out of the CPUMAP entry. The packet that finds
 * the one before it acknowledged is the first on the new queue. Packets of one flow arrive
 * on one CPU, so nobody else can send one in between.
 */
#ifndef VNIC_MOVE_H
#define VNIC_MOVE_H

#include <linux/in.h>
#include "compiler.h"
#include "maps.h"
#include "rules.h"

/* vnic_cpu runs before the frames of a batch become socket buffers (kernel/bpf/cpumap.c). */
#define VNIC_DELIVERY_NS 1000000ULL

enum vnic_move {
	VNIC_MOVE_FORCED,
	VNIC_MOVE_IN_ORDER,
	VNIC_MOVE_RISKED,
	VNIC_MOVE_HELD,
};

/* Whether the former queue is surely through with what it got of the flow. */
static __always_inline bool vnic_is_drained(const struct vnic_flow *flow, __u64 now)
{
	__u64 idle = bpf_jiffies64() - flow->last_seen_jiffies, wait = VNIC_DELIVERY_NS;

	if (flow->key.direction == VNIC_EGRESS) {
		/* fq holds a shaped packet until its departure time. */
		if (vnic_verdict_flags(flow->verdict) & VNIC_VERDICT_SHAPE)
			return idle > vnic_shape_residence_jiffies;
		return idle > vnic_tx_residence_jiffies;
	}
	if (idle > vnic_residence_jiffies)
		return true;
	if ((__u32)flow->packets != flow->marker || READ_ONCE(flow->drained) != flow->marker)
		return false;
	/* GRO behind a CPUMAP entry may keep a segment for a jiffy (kernel/bpf/cpumap.c, since 6.15). */
	if (flow->key.proto == IPPROTO_TCP)
		wait += vnic_gro_hold_ns;
	return now - READ_ONCE(flow->drained_ns) >= wait;
}

/* What becomes of a flow whose queue the table gives as another than it used last. */
static __always_inline __u32 vnic_judge_move(const struct vnic_flow *flow, const struct vnic_table_info *table)
{
	__u64 now;

	if (!(table->usable_queues >> (flow->queue & (VNIC_MAX_QUEUES - 1)) & 1))
		return VNIC_MOVE_FORCED;
	now = bpf_ktime_get_ns();
	if (vnic_is_drained(flow, now))
		return VNIC_MOVE_IN_ORDER;
	return now < table->settle_until_ns ? VNIC_MOVE_HELD : VNIC_MOVE_RISKED;
}

/*
 * The queue for a packet of a flow that used another one before: the wanted one, or the
 * former one, then in bits 32-63 with the packet's number as a marker (0 on egress).
 * A global function: verified once.
 */
__noinline __u64 vnic_leave_queue(struct vnic_flow *flow, __u32 table, __u32 wanted, struct vnic_cpu_stats *stats)
{
	struct vnic_control *control = vnic_get_control();
	__u32 marker;

	if (!flow || !stats || !control || table >= VNIC_TABLE_GENERATIONS)
		return wanted;
	switch (vnic_judge_move(flow, vnic_get_table_info(control, table))) {
	case VNIC_MOVE_FORCED:
		stats->moves_forced++;
		return wanted;
	case VNIC_MOVE_IN_ORDER:
		stats->moves_in_order++;
		return wanted;
	case VNIC_MOVE_RISKED:
		stats->moves_risked++;
		return wanted;
	}
	stats->held_packets++;
	if (flow->key.direction == VNIC_EGRESS)
		return flow->queue;
	/* What the counter says once this packet is counted: a later one without a marker shows. */
	marker = flow->packets + 1;
	WRITE_ONCE(flow->marker, marker);
	return flow->queue | (__u64)marker << 32;
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
