/* SPDX-License-Identifier: GPL-2.0-only */
/* The least that can stand in for a dataplane: native XDP that passes everything. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp.frags")
int rig_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
