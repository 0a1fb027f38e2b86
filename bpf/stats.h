/* SPDX-License-Identifier: GPL-2.0-only */
/* Counting. A CPU writes its own cells only, with BHs off, so plain additions are exact. */
#ifndef VNIC_STATS_H
#define VNIC_STATS_H

#include "compiler.h"
#include "latency.h"
#include "maps.h"

static __always_inline struct vnic_cpu_stats *vnic_get_cpu_stats(__u32 cpu)
{
	return bpf_map_lookup_elem(&vnic_cpu_stats, &cpu);
}

static __always_inline struct vnic_queue_stats *vnic_get_queue_stats(__u32 cpu, __u32 queue)
{
	__u32 index = cpu * VNIC_MAX_QUEUES + (queue & (VNIC_MAX_QUEUES - 1));

	return bpf_map_lookup_elem(&vnic_queue_stats, &index);
}

/* This CPU's counters of a rule's slot, which must be below VNIC_RULE_CELLS. */
static __always_inline struct vnic_rule_cell *vnic_get_rule_cell(__u32 cpu, __u32 slot, __u32 rule_id)
{
	__u32 index = cpu * VNIC_RULE_CELLS + slot;
	struct vnic_rule_cell *cell = bpf_map_lookup_elem(&vnic_rule_cells, &index);

	if (cell && unlikely(cell->rule_id != rule_id)) {
		cell->packets = 0;
		cell->bytes = 0;
		cell->dropped_packets = 0;
		cell->dropped_bytes = 0;
		WRITE_ONCE(cell->rule_id, rule_id);
	}
	return cell;
}

static __always_inline void vnic_send_event(__u32 type, __u64 value)
{
	struct vnic_event *event = bpf_ringbuf_reserve(&vnic_events, sizeof(*event), 0);

	if (!event)
		return;
	event->time_ns = bpf_ktime_get_ns();
	event->type = type;
	event->cpu = bpf_get_smp_processor_id();
	event->value = value;
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void vnic_record_latency(__u32 cpu, __u64 ns)
{
	struct vnic_latency *latency = bpf_map_lookup_elem(&vnic_latency, &cpu);

	if (!latency)
		return;
	latency->bucket[vnic_latency_bucket(ns)]++;
	latency->sum_ns += ns;
	latency->count++;
}

#endif
