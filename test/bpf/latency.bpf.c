/* SPDX-License-Identifier: GPL-2.0-only */
/* Puts a latency that the test chooses into the histogram: the program behind a CPUMAP entry cannot be run by itself. */
#include "compiler.h"
#include "stats.h"

char LICENSE[] SEC("license") = "GPL";

/* The frame begins with the nanoseconds, a u64 of the host's byte order. */
SEC("xdp")
int record_latency(struct xdp_md *ctx)
{
	__u64 *ns = (void *)(long)ctx->data;

	if ((void *)(ns + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	vnic_record_latency(0, *ns);
	return XDP_PASS;
}
