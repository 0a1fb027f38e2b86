/* SPDX-License-Identifier: GPL-2.0-only */
/* The programs. Each is a section and one call; the headers say what they do. */
#include "compiler.h"
#include "maps.h"
#include "ingress.h"
#include "egress.h"
#include "explain.h"
#include "watch.h"

char LICENSE[] SEC("license") = "GPL";

/* Attached once and never replaced; an empty slot passes everything. */
SEC("xdp.frags")
int vnic_root(struct xdp_md *ctx)
{
	bpf_tail_call_static(ctx, &vnic_progs, VNIC_SLOT_INGRESS);
	return XDP_PASS;
}

SEC("xdp.frags")
int vnic_ingress(struct xdp_md *ctx)
{
	return vnic_handle_ingress(ctx);
}

SEC("xdp.frags/cpumap")
int vnic_cpu(struct xdp_md *ctx)
{
	return vnic_handle_cpu(ctx);
}

SEC("tc")
int vnic_egress(struct __sk_buff *skb)
{
	return vnic_handle_egress(skb);
}

/* Never attached: run by BPF_PROG_RUN on a packet that somebody asks about. */
SEC("xdp.frags")
int vnic_explain(struct xdp_md *ctx)
{
	return vnic_handle_explain(ctx);
}

/* Never attached either. */
SEC("xdp.frags")
int vnic_clock(struct xdp_md *ctx)
{
	return vnic_handle_clock(ctx);
}

/* Never attached: starts the timer that watches AZs and the daemon. */
SEC("syscall")
int vnic_watch_start(void *ctx __attribute__((unused)))
{
	return vnic_handle_watch_start();
}
