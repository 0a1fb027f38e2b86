/* SPDX-License-Identifier: GPL-2.0-only */
/* A dataplane with a fault, to see that the checker finds it: drops the packets whose sequence ends in three zeros. */
#include "rig.h"

SEC("xdp")
int rig_thin(struct xdp_md *ctx)
{
	struct rig_payload *payload = rig_find_payload((void *)(long)ctx->data, (void *)(long)ctx->data_end);

	return payload && payload->sequence % 1000 == 0 ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
