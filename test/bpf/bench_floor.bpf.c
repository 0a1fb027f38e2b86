/* SPDX-License-Identifier: GPL-2.0-only */
/* What benchmarks are held against: a bare pass, and one look-up in the kernel's LRU hash or in our flow table. */
#include "compiler.h"
#include "flowtable.h"
#include "maps.h"

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct vnic_flow_key);
	__type(value, struct vnic_flow);
} bench_lru SEC(".maps");

static __always_inline struct vnic_flow_key bench_key(struct xdp_md *ctx)
{
	struct vnic_flow_key key __attribute__((aligned(8))) = { .proto = 17 };

	key.sport = ctx->rx_queue_index;
	return key;
}

SEC("xdp.frags")
int bench_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

SEC("xdp.frags")
int bench_lru_hash(struct xdp_md *ctx)
{
	struct vnic_flow_key key __attribute__((aligned(8))) = bench_key(ctx);
	struct vnic_flow *flow = bpf_map_lookup_elem(&bench_lru, &key);
	struct vnic_flow fresh = {};

	if (flow) {
		flow->packets++;
		return XDP_PASS;
	}
	bpf_map_update_elem(&bench_lru, &key, &fresh, BPF_ANY);
	return XDP_DROP;
}

SEC("xdp.frags")
int bench_flow_table(struct xdp_md *ctx)
{
	struct vnic_flow_key key __attribute__((aligned(8))) = bench_key(ctx);
	vnic_flow_place_t place = vnic_flow_place(&key);
	struct vnic_flow *flow = vnic_find_flow(&key, place);
	struct vnic_cpu_stats *stats = vnic_get_cpu_stats(0);

	if (flow) {
		flow->packets++;
		return XDP_PASS;
	}
	if (stats)
		vnic_enter_flow(&key, place, 0, 0, stats);
	return XDP_DROP;
}

enum {
	BENCH_ORDER = 1 << 20,
	BENCH_NEW_FLOWS = 1,		/* the number of the packet is that of its flow: none has a second one */
};

struct bench_spread {
	__u64 next;
	__u32 mode;			/* 0: vnic_bench_order says which flow is next */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_spread);
} bench_spread SEC(".maps");

/* Written by user space: the flow of each packet, in turn. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BENCH_ORDER);
	__type(key, __u32);
	__type(value, __u64);
} bench_order SEC(".maps");

/* What the spread packet is given to. An empty slot: it passes, which is the floor. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_next SEC(".maps");

/* Makes one packet into that of many flows: the flow's number is its source address, 10.0.0.0 + n. */
SEC("xdp.frags")
int bench_spread_flows(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct bench_spread *spread;
	__u32 zero = 0, index;
	__u64 *order, flow;

	spread = bpf_map_lookup_elem(&bench_spread, &zero);
	if (!spread || data + 34 > end)
		return XDP_ABORTED;
	flow = spread->next++;
	if (spread->mode != BENCH_NEW_FLOWS) {
		index = flow & (BENCH_ORDER - 1);
		order = bpf_map_lookup_elem(&bench_order, &index);
		if (!order)
			return XDP_ABORTED;
		flow = *order;
	}
	*(__u32 *)(data + 26) = bpf_htonl(0x0a000000 + (__u32)flow);
	bpf_tail_call_static(ctx, &bench_next, 0);
	return XDP_PASS;
}
