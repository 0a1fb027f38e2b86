/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs of somebody else, and one that bears the name of this product's. All pass everything. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("xdp")
int pf_one_buffer(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("xdp.frags")
int pf_frags(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("xdp.frags")
int vnic_root(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}
