/* SPDX-License-Identifier: GPL-2.0-only */
/* A program that the verifier must refuse: it reads the packet without looking where it ends. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("xdp")
int rejected(struct xdp_md *ctx)
{
	return *(volatile __u8 *)(long)ctx->data;
}
