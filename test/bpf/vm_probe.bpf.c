/* SPDX-License-Identifier: GPL-2.0-only */
/* The simplest programs that show what a driver does with XDP and clsact: they count by RX queue and by CPU. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define PROBE_QUEUES 64
#define PROBE_CPUS 256

char LICENSE[] SEC("license") = "GPL";

/* Frames by the RX queue that they arrived on. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROBE_QUEUES);
	__type(key, __u32);
	__type(value, __u64);
} probe_queues SEC(".maps");

/* Frames by the CPU that the second program ran on. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROBE_CPUS);
	__type(key, __u32);
	__type(value, __u64);
} probe_cpu_frames SEC(".maps");

/* What a test chooses: [0] the CPU of probe_redirect, [1] the queue_mapping of probe_egress, [2] its mark. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u32);
} probe_chosen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, PROBE_CPUS);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} probe_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} probe_slot SEC(".maps");

static __always_inline void count_at(void *counts, __u32 index)
{
	__u64 *count = bpf_map_lookup_elem(counts, &index);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline __u32 chosen(__u32 index)
{
	__u32 *value = bpf_map_lookup_elem(&probe_chosen, &index);

	return value ? *value : 0;
}

SEC("xdp")
int probe_pass(struct xdp_md *ctx)
{
	count_at(&probe_queues, ctx->rx_queue_index);
	return XDP_PASS;
}

SEC("xdp.frags")
int probe_pass_frags(struct xdp_md *ctx)
{
	count_at(&probe_queues, ctx->rx_queue_index);
	return XDP_PASS;
}

SEC("xdp")
int probe_root(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &probe_slot, 0);
	return XDP_PASS;
}

SEC("xdp")
int probe_redirect(struct xdp_md *ctx)
{
	count_at(&probe_queues, ctx->rx_queue_index);
	return bpf_redirect_map(&probe_cpus, chosen(0), XDP_DROP);
}

SEC("xdp/cpumap")
int probe_cpu(struct xdp_md *ctx __attribute__((unused)))
{
	count_at(&probe_cpu_frames, bpf_get_smp_processor_id());
	return XDP_PASS;
}

SEC("tc")
int probe_egress(struct __sk_buff *skb)
{
	__u32 mark = chosen(2);

	skb->queue_mapping = chosen(1);
	if (mark)
		skb->mark = mark;
	return TC_ACT_UNSPEC;
}
