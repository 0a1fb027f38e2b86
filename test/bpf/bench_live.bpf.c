/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Traffic for benchmarks, with as little work as can be, and what dataplanes are held against: bare programs at the same
 * place. A packet's flow is its source address: 10.0.0.0 + n for known ones, 11.0.0.0 + n for each of a flood.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "vnic_abi.h"

char LICENSE[] SEC("license") = "GPL";

enum {
	BENCH_ORDER = 1 << 20,
	BENCH_KNOWN = 0x0a000000,
	BENCH_FLOOD = 0x0b000000,
	BENCH_FLOOD_FLOWS = 1 << 24,
	BENCH_TEMPLATE_BYTES = 3401,	/* of the frames that the sender starts from; see LONGEST_FRAME */
	BENCH_CPUS = 64,
	BENCH_TARGET_CPU = 1,
	BENCH_TC_SHOT = 2,
};

struct bench_order {
	__u32 flow;
	__u32 frame_bytes;
};

struct bench_control {
	__u64 next;
	__u64 flood;			/* so many packets of new flows were made */
	__u32 known_every;		/* one packet of so many is of a known flow, the others are each a flow of their own */
	__u32 follow;			/* 1: the sink remembers the queue of each known flow */
};

/* Index: CPU. */
struct bench_seen {
	__u64 known;
	__u64 flood;
	__u64 bytes;
	__u64 moved;			/* packets of known flows that came by another queue than the one before, if followed */
	__u64 unmarked;			/* and those without the dataplane's word on the queue */
	__u64 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bench_control);
} bench_control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BENCH_ORDER);
	__type(key, __u32);
	__type(value, struct bench_order);
} bench_order SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BENCH_CPUS);
	__type(key, __u32);
	__type(value, struct bench_seen);
} bench_seen SEC(".maps");

/* Index: flow, as in its address. Queue + 1 of its last packet; 0: none came yet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BENCH_ORDER);
	__type(key, __u32);
	__type(value, __u32);
} bench_queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bench_device SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, BENCH_CPUS);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} bench_cpus SEC(".maps");

/* Run by BPF_PROG_RUN with live frames that are longer than any that is sent. */
SEC("xdp")
int bench_send(struct xdp_md *ctx)
{
	__u32 zero = 0, index, source;
	struct bench_control *control = bpf_map_lookup_elem(&bench_control, &zero);
	struct bench_order *order;
	void *data, *end;
	__u64 number;

	if (!control)
		return XDP_ABORTED;
	number = control->next++;
	index = number & (BENCH_ORDER - 1);
	order = bpf_map_lookup_elem(&bench_order, &index);
	if (!order || bpf_xdp_adjust_tail(ctx, (int)order->frame_bytes - BENCH_TEMPLATE_BYTES))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + 42 > end)
		return XDP_ABORTED;
	source = BENCH_KNOWN + order->flow;
	if (control->known_every > 1 && number % control->known_every)
		source = BENCH_FLOOD + (control->flood++ & (BENCH_FLOOD_FLOWS - 1));
	*(__be16 *)(data + 16) = bpf_htons(order->frame_bytes - 14);
	*(__be32 *)(data + 26) = bpf_htonl(source);
	*(__be16 *)(data + 38) = bpf_htons(order->frame_bytes - 34);
	return bpf_redirect_map(&bench_device, 0, XDP_ABORTED);
}

/* A flow comes to one CPU at a time, so its place needs no lock. */
static __always_inline void bench_follow(struct __sk_buff *skb, __u32 flow, struct bench_seen *seen)
{
	struct vnic_meta *meta = (void *)(long)skb->data_meta;
	__u32 *last = bpf_map_lookup_elem(&bench_queue, &flow);

	if ((void *)(meta + 1) > (void *)(long)skb->data || meta->magic != VNIC_META_MAGIC) {
		seen->unmarked++;
		return;
	}
	if (!last)
		return;
	if (*last && *last != meta->queue + 1u)
		seen->moved++;
	*last = meta->queue + 1u;
}

/* At tc ingress: counts what arrives at the stack, and ends it there. */
SEC("tc")
int bench_sink(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 cpu = bpf_get_smp_processor_id(), zero = 0, source;
	struct bench_control *control = bpf_map_lookup_elem(&bench_control, &zero);
	struct bench_seen *seen = bpf_map_lookup_elem(&bench_seen, &cpu);

	if (!control || !seen || data + 34 > end)
		return BENCH_TC_SHOT;
	source = bpf_ntohl(*(__be32 *)(data + 26));
	seen->bytes += skb->len;
	if ((source & 0xff000000) == BENCH_FLOOD) {
		seen->flood++;
		return BENCH_TC_SHOT;
	}
	seen->known++;
	if (control->follow)
		bench_follow(skb, source & (BENCH_ORDER - 1), seen);
	return BENCH_TC_SHOT;
}

SEC("xdp")
int bench_drop(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_DROP;
}

SEC("xdp")
int bench_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

SEC("xdp")
int bench_redirect(struct xdp_md *ctx __attribute__((unused)))
{
	return bpf_redirect_map(&bench_cpus, BENCH_TARGET_CPU, XDP_PASS);
}
