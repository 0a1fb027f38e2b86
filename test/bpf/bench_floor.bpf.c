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
