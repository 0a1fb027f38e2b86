/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel tells through tracepoints of the way that packets take outside of
 * the dataplane's own programs. An object of its own: the daemon loads and attaches
 * it, and it ends with the daemon.
 *
 * Tracepoints are read by position (include/trace/events/xdp.h, napi.h, irq.h); the
 * ones used here are the same from Linux 6.1 on. xdp_redirect_map_err is not among
 * them: no kernel of that range fires it, xdp_redirect_err has its events.
 */
#include "compiler.h"
#include "vnic_abi.h"

char LICENSE[] SEC("license") = "GPL";

/* include/linux/interrupt.h */
#define NET_RX_SOFTIRQ 3

/* include/uapi/asm-generic/errno-base.h, errno.h */
#define ENOENT 2
#define ENOMEM 12
#define EINVAL 22
#define ENOSPC 28
#define EOVERFLOW 75
#define EMSGSIZE 90
#define EOPNOTSUPP 95
#define ENETDOWN 100

/* Of the kernel's own types what is read here; libbpf puts in where this kernel has it. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

struct napi_struct {
	struct net_device *dev;
};

#pragma clang attribute pop

const volatile __u32 vnic_trace_cpus = 1;	/* possible CPUs */
const volatile bool vnic_trace_all = false;	/* also what is counted for every batch of packets */

/* Key: id of a device's CPUMAP. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VNIC_TRACE_DEVICES);
	__type(key, __u32);
	__type(value, struct vnic_trace_slot);
} vnic_trace_cpumaps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VNIC_TRACE_DEVICES);
	__type(key, struct vnic_trace_netdev);
	__type(value, struct vnic_trace_slot);
} vnic_trace_netdevs SEC(".maps");

/* The loader sets the sizes of the next two. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_trace_device);
} vnic_trace_devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_trace_softirq);
} vnic_trace_softirqs SEC(".maps");

/* A cell has several writers: those of a ring's drops, and a thread that a soft interrupt comes between. */
static __always_inline void add(__u64 *cell, __u64 n)
{
	__sync_fetch_and_add(cell, n);
}

static __always_inline struct vnic_trace_device *cell_of(const struct vnic_trace_slot *slot, __u32 cpu)
{
	__u32 index;

	if (!slot || cpu >= vnic_trace_cpus)
		return NULL;
	index = slot->slot * vnic_trace_cpus + cpu;
	return bpf_map_lookup_elem(&vnic_trace_devices, &index);
}

static __always_inline struct vnic_trace_device *cell_of_cpumap(__u32 map_id, __u32 cpu)
{
	return cell_of(bpf_map_lookup_elem(&vnic_trace_cpumaps, &map_id), cpu);
}

static __always_inline struct vnic_trace_device *cell_of_netdev(const struct net_device *dev)
{
	struct vnic_trace_netdev key;

	if (!dev)
		return NULL;
	key.netns = dev->nd_net.net->ns.inum;
	key.ifindex = dev->ifindex;
	return cell_of(bpf_map_lookup_elem(&vnic_trace_netdevs, &key), bpf_get_smp_processor_id());
}

/*
 * (map_id, processed, drops, to_cpu): for each batch of up to 8 packets that goes into a
 * ring. Those dropped are among those processed, except for a single packet of generic XDP.
 */
SEC("tp_btf/xdp_cpumap_enqueue")
int vnic_trace_enqueue(__u64 *ctx)
{
	__u32 processed = ctx[1], drops = ctx[2];
	struct vnic_trace_device *cell;

	if (!drops && !vnic_trace_all)
		return 0;
	cell = cell_of_cpumap(ctx[0], ctx[3]);
	if (!cell)
		return 0;
	if (drops)
		add(&cell->ring_full_drops, drops);
	if (vnic_trace_all && processed > drops)
		add(&cell->enqueued, processed - drops);
	return 0;
}

/* (map_id, processed, drops, sched, stats): for each batch that the thread takes out of its ring. */
SEC("tp_btf/xdp_cpumap_kthread")
int vnic_trace_thread(__u64 *ctx)
{
	__u32 processed = ctx[1], drops = ctx[2], slept = ctx[3];
	struct vnic_trace_device *cell;

	if (!drops && !vnic_trace_all)
		return 0;
	cell = cell_of_cpumap(ctx[0], bpf_get_smp_processor_id());
	if (!cell)
		return 0;
	if (drops)
		add(&cell->no_memory_drops, drops);
	if (vnic_trace_all) {
		add(&cell->taken, processed);
		add(&cell->rounds, 1);
		if (slept)
			add(&cell->sleeps, 1);
	}
	return 0;
}

static __always_inline __u32 reason_of(int error)
{
	switch (error) {
	case -ENOSPC:
		return VNIC_REDIRECT_RING_FULL;
	case -EINVAL:
	case -ENOENT:
		return VNIC_REDIRECT_NO_TARGET;
	case -EOVERFLOW:
		return VNIC_REDIRECT_NO_HEADROOM;
	case -ENETDOWN:
		return VNIC_REDIRECT_DEVICE_DOWN;
	case -EMSGSIZE:
		return VNIC_REDIRECT_TOO_LARGE;
	case -EOPNOTSUPP:
		return VNIC_REDIRECT_NOT_SUPPORTED;
	case -ENOMEM:
		return VNIC_REDIRECT_NO_MEMORY;
	}
	return VNIC_REDIRECT_OTHER;
}

/* (dev, xdp, tgt, err, map_type, map_id, index) */
SEC("tp_btf/xdp_redirect_err")
int vnic_trace_redirect_err(__u64 *ctx)
{
	struct vnic_trace_device *cell = cell_of_netdev((const struct net_device *)ctx[0]);
	__u32 reason = reason_of(ctx[3]);

	if (!cell)
		return 0;
	barrier_var(reason);
	add(&cell->redirect_errors[reason & 7], 1);
	return 0;
}

/* (dev, xdp, act) */
SEC("tp_btf/xdp_exception")
int vnic_trace_exception(__u64 *ctx)
{
	struct vnic_trace_device *cell = cell_of_netdev((const struct net_device *)ctx[0]);
	__u32 action = ctx[2];

	if (!cell)
		return 0;
	if (action >= VNIC_EXCEPTION_UNKNOWN)
		action = VNIC_EXCEPTION_UNKNOWN;
	barrier_var(action);
	if (action < VNIC_EXCEPTIONS)
		add(&cell->exceptions[action], 1);
	return 0;
}

/* (napi, work, budget) */
SEC("tp_btf/napi_poll")
int vnic_trace_poll(__u64 *ctx)
{
	const struct napi_struct *napi = (const struct napi_struct *)ctx[0];
	int work = ctx[1], budget = ctx[2];
	struct vnic_trace_device *cell = cell_of_netdev(napi->dev);

	if (!cell)
		return 0;
	add(&cell->polls, 1);
	if (work > 0)
		add(&cell->polled_packets, work);
	if (work >= budget)
		add(&cell->exhausted_polls, 1);
	return 0;
}

static __always_inline struct vnic_trace_softirq *this_cpus_softirq(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&vnic_trace_softirqs, &cpu);
}

/* (vec_nr) */
SEC("tp_btf/softirq_entry")
int vnic_trace_softirq_in(__u64 *ctx)
{
	struct vnic_trace_softirq *cell;

	if ((__u32)ctx[0] != NET_RX_SOFTIRQ)
		return 0;
	cell = this_cpus_softirq();
	if (cell)
		cell->began_ns = bpf_ktime_get_ns();
	return 0;
}

/* (vec_nr). Soft interrupts of a CPU do not nest, so nobody else writes its cell. */
SEC("tp_btf/softirq_exit")
int vnic_trace_softirq_out(__u64 *ctx)
{
	struct vnic_trace_softirq *cell;

	if ((__u32)ctx[0] != NET_RX_SOFTIRQ)
		return 0;
	cell = this_cpus_softirq();
	if (!cell || !cell->began_ns)
		return 0;
	cell->time_ns += bpf_ktime_get_ns() - cell->began_ns;
	cell->runs++;
	cell->began_ns = 0;
	return 0;
}
