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
#include "latency.h"

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
	BENCH_LOOKS = 1 << 14,		/* at the clock, for one group: most of a millisecond */
	BENCH_SLACK_NS = 100000,
	BENCH_AWAY_NS = 5000,
	BENCH_TIME_AT = 48,		/* in a frame, behind its UDP header */
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
	__u64 gap_ns;			/* from one group of packets to the next; 0: as fast as they go */
	__u64 due_ns;			/* the next group, CLOCK_MONOTONIC; 0: at once */
	__u32 group;			/* packets in a group */
	__u32 left;			/* of this group */
	__u64 first_look_ns;		/* of bench_look_away, CLOCK_MONOTONIC; 0: none yet */
	__u64 look_ns;			/* the last one */
	__u64 away_ns;			/* time between looks that were further apart than BENCH_AWAY_NS */
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

/* With bench_arrived behind its entry. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, BENCH_CPUS);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} bench_timed_cpus SEC(".maps");

/* Index: CPU. What a bare redirect takes to it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BENCH_CPUS);
	__type(key, __u32);
	__type(value, struct vnic_latency);
} bench_latency SEC(".maps");

static long bench_is_due(__u32 look __attribute__((unused)), __u64 *due_ns)
{
	return bpf_ktime_get_ns() >= *due_ns;
}

/* A network does not wait for a receiver that stands still, so what was due long ago is left out. */
static __always_inline void bench_wait(struct bench_control *control)
{
	__u64 now, due = control->due_ns;

	if (control->left) {
		control->left--;
		return;
	}
	control->left = control->group - 1;
	now = bpf_ktime_get_ns();
	if (due && now < due)
		bpf_loop(BENCH_LOOKS, bench_is_due, &due, 0);
	else if (!due || now - due > BENCH_SLACK_NS)
		due = now;
	control->due_ns = due + control->gap_ns;
}

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
	if (control->gap_ns)
		bench_wait(control);
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

/* What of the way to another CPU is the kernel's and the machine's: the time of entry is in the frame itself. */
SEC("xdp")
int bench_redirect_timed(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + BENCH_TIME_AT + 8 > end)
		return XDP_ABORTED;
	*(__u64 *)(data + BENCH_TIME_AT) = bpf_ktime_get_ns();
	return bpf_redirect_map(&bench_timed_cpus, BENCH_TARGET_CPU, XDP_ABORTED);
}

SEC("xdp/cpumap")
int bench_arrived(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 cpu = bpf_get_smp_processor_id();
	struct vnic_latency *latency = bpf_map_lookup_elem(&bench_latency, &cpu);

	if (latency && data + BENCH_TIME_AT + 8 <= end)
		vnic_add_latency(latency, bpf_ktime_get_ns() - *(__u64 *)(data + BENCH_TIME_AT));
	return XDP_PASS;
}

struct bench_looks {
	__u64 last_ns;
	__u64 away_ns;
};

static long bench_look(__u32 look __attribute__((unused)), struct bench_looks *looks)
{
	__u64 now = bpf_ktime_get_ns();

	if (now - looks->last_ns > BENCH_AWAY_NS)
		looks->away_ns += now - looks->last_ns;
	looks->last_ns = now;
	return 0;
}

/* What no program can be better than: a CPU that only looks at its clock, and how long the machine takes it away. */
SEC("xdp")
int bench_look_away(struct xdp_md *ctx __attribute__((unused)))
{
	__u32 zero = 0;
	struct bench_control *control = bpf_map_lookup_elem(&bench_control, &zero);
	struct bench_looks looks = {};

	if (!control)
		return XDP_ABORTED;
	if (!control->first_look_ns)
		control->first_look_ns = control->look_ns = bpf_ktime_get_ns();
	looks.last_ns = control->look_ns;
	bpf_loop(BENCH_LOOKS, bench_look, &looks, 0);
	control->look_ns = looks.last_ns;
	control->away_ns += looks.away_ns;
	return XDP_DROP;
}
