/* SPDX-License-Identifier: GPL-2.0-only */
/* Counting. A CPU writes its own cells only, with BHs off, so plain additions are exact. */
#ifndef VNIC_STATS_H
#define VNIC_STATS_H

#include "compiler.h"
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

static __always_inline __u32 vnic_msb(__u64 v)
{
	__u32 bit = 0;

	if (v >> 32) { bit += 32; v >>= 32; }
	if (v >> 16) { bit += 16; v >>= 16; }
	if (v >> 8) { bit += 8; v >>= 8; }
	if (v >> 4) { bit += 4; v >>= 4; }
	if (v >> 2) { bit += 2; v >>= 2; }
	if (v >> 1) { bit += 1; }
	return bit;
}

/* See struct vnic_latency. */
static __always_inline __u32 vnic_latency_bucket(__u64 ns)
{
	__u32 index = ns;

	if (ns >= VNIC_LATENCY_SUB_BUCKETS) {
		__u32 msb = vnic_msb(ns);

		index = (msb - 3) * VNIC_LATENCY_SUB_BUCKETS + ((ns >> (msb - 4)) & (VNIC_LATENCY_SUB_BUCKETS - 1));
	}
	if (index >= VNIC_LATENCY_BUCKETS)
		index = VNIC_LATENCY_BUCKETS - 1;
	barrier_var(index);
	return index & (VNIC_LATENCY_BUCKETS - 1);
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
