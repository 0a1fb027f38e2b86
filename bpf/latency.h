/* SPDX-License-Identifier: GPL-2.0-only */
/* Histograms of times: struct vnic_latency. */
#ifndef VNIC_LATENCY_H
#define VNIC_LATENCY_H

#include "compiler.h"
#include "vnic_abi.h"

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

/* Into a cell that has several writers. */
static __always_inline void vnic_add_latency(struct vnic_latency *latency, __u64 ns)
{
	__sync_fetch_and_add(&latency->bucket[vnic_latency_bucket(ns)], 1);
	__sync_fetch_and_add(&latency->sum_ns, ns);
	__sync_fetch_and_add(&latency->count, 1);
}

#endif
