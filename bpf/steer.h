/* SPDX-License-Identifier: GPL-2.0-only */
/* Bucket to queue, queue to CPU. src/steering/hash.ts has the same choice in TypeScript. */
#ifndef VNIC_STEER_H
#define VNIC_STEER_H

#include "compiler.h"
#include "maps.h"
#include "rules.h"

static __always_inline __u32 vnic_popcount(__u64 v)
{
	v -= (v >> 1) & 0x5555555555555555ULL;
	v = (v & 0x3333333333333333ULL) + ((v >> 2) & 0x3333333333333333ULL);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return v * 0x0101010101010101ULL >> 56;
}

/* Position of the k-th set bit, from 0. */
static __always_inline __u32 vnic_select_bit(__u64 mask, __u32 k)
{
	__u32 i;

	for (i = 0; i < VNIC_MAX_QUEUES; i++) {
		if (i >= k)
			break;
		mask &= mask - 1;
	}
	return vnic_popcount((mask & -mask) - 1);
}

/*
 * One of the queues that the rule names. A lost queue disturbs its own flows only:
 * the first choice is among all that are named, the second among those that are left.
 */
static __noinline __u32 vnic_choose_named(__u64 queues, __u64 usable, __u32 hash)
{
	__u32 queue;

	if (!queues)
		return VNIC_NO_QUEUE;
	queue = vnic_select_bit(queues, (hash >> 12) % vnic_popcount(queues));
	if (usable >> (queue & 63) & 1)
		return queue;
	queues &= usable;
	if (!queues)
		return VNIC_NO_QUEUE;
	return vnic_select_bit(queues, (hash >> 12) % vnic_popcount(queues));
}

/*
 * The queue of a flow, or VNIC_NO_QUEUE. The active table's number is read once, by
 * the caller: a packet sees one whole table.
 */
static __always_inline __u32 vnic_choose_queue(const struct vnic_control *control, __u32 table, __u64 verdict,
					       __u32 hash, const struct vnic_rule_action *action)
{
	__u32 bucket = hash & (VNIC_BUCKETS - 1), index, queue;
	struct vnic_table_row *row;

	if (table >= VNIC_TABLE_GENERATIONS)
		return VNIC_NO_QUEUE;
	if (unlikely(vnic_verdict_flags(verdict) & VNIC_VERDICT_QUEUES) && action) {
		queue = vnic_choose_named(action->queues, control->tables[vnic_info_index(table)].usable_queues, hash);
		if (queue != VNIC_NO_QUEUE)
			return queue;
	}
	index = table * VNIC_TABLE_ROWS + vnic_verdict_az(verdict);
	row = bpf_map_lookup_elem(&vnic_table, &index);
	return row ? row->queue[bucket] : VNIC_NO_QUEUE;
}

static __always_inline __u32 vnic_queue_cpu(const struct vnic_control *control, __u32 queue)
{
	return queue < VNIC_MAX_QUEUES ? control->queue_cpu[queue & (VNIC_MAX_QUEUES - 1)] : VNIC_NO_CPU;
}

#endif
