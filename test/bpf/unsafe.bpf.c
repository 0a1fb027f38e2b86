/* SPDX-License-Identifier: GPL-2.0-only */
/* Looks beyond the packet without asking how long it is: the verifier must refuse it. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("xdp")
int unsafe_read(struct xdp_md *ctx)
{
	const __u8 *data = (void *)(long)ctx->data;

	return data[100] ? XDP_PASS : XDP_DROP;
}
