/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The time from XDP entry to the queue of the socket. An object of its own: the daemon
 * loads and attaches it where it is asked for, and it ends with the daemon.
 *
 * vnic_cpu leaves struct vnic_meta before the frames that it has timed. The kernel keeps
 * metadata before the link-layer header (include/linux/skbuff.h, skb_metadata_end), so it
 * is still there where the packet meets its socket. A packet without it, which is every
 * one that is not ours, costs one load.
 */
#include <linux/in.h>
#include "compiler.h"
#include "latency.h"
#include "vnic_abi.h"

char LICENSE[] SEC("license") = "GPL";

/* Of the kernel's own types what is read here; libbpf puts in where this kernel has it. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff {
	__u16 mac_header;
	unsigned int end;	/* an offset on 64-bit kernels */
	unsigned char *head;
};

struct sk_buff_head {
	struct sk_buff *prev;	/* the last one */
};

struct sock {
	__u16 sk_protocol;
	struct sk_buff_head sk_receive_queue;
};

struct skb_shared_info {
	__u8 meta_len;
};

#pragma clang attribute pop

const volatile __u32 vnic_socket_cpus = 1;	/* possible CPUs */

/* Index: (place * VNIC_SOCKET_PROTOS + protocol) * CPUs + CPU. The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_latency);
} vnic_socket_latency SEC(".maps");

static __always_inline int arrived(const struct sk_buff *skb, __u32 proto)
{
	const struct skb_shared_info *shared = (const void *)(skb->head + skb->end);
	__u32 cpu = bpf_get_smp_processor_id(), index;
	struct vnic_latency *latency;
	struct vnic_meta meta;
	__u8 bytes = 0;

	if (bpf_probe_read_kernel(&bytes, sizeof(bytes), &shared->meta_len) || bytes != sizeof(meta))
		return 0;
	if (bpf_probe_read_kernel(&meta, sizeof(meta), skb->head + skb->mac_header - sizeof(meta)))
		return 0;
	if (meta.magic != VNIC_META_MAGIC || !meta.rx_ns || !meta.flow || meta.flow > VNIC_SOCKET_PLACES)
		return 0;
	index = ((meta.flow - 1) * VNIC_SOCKET_PROTOS + proto) * vnic_socket_cpus + cpu;
	latency = bpf_map_lookup_elem(&vnic_socket_latency, &index);
	if (latency)
		vnic_add_latency(latency, bpf_ktime_get_ns() - meta.rx_ns);
	return 0;
}

/* (sk, skb): a segment begins to be worked on for its established connection, once the socket is free for it. */
SEC("tp_btf/tcp_probe")
int vnic_socket_tcp(__u64 *ctx)
{
	return arrived((const struct sk_buff *)ctx[1], VNIC_SOCKET_TCP);
}

/* (sk, skb): a datagram is about to be put into the socket's queue. */
SEC("fentry/__udp_enqueue_schedule_skb")
int vnic_socket_udp(__u64 *ctx)
{
	return arrived((const struct sk_buff *)ctx[1], VNIC_SOCKET_UDP);
}

/*
 * (sk): the socket's reader is being woken; the packet is the last in its queue. Instead of vnic_socket_udp where the
 * kernel takes no program at a function (Linux 6.3). Of packets that several CPUs queue to one socket at the same
 * moment, one may be timed twice and another not at all.
 */
SEC("tp_btf/sk_data_ready")
int vnic_socket_udp_ready(__u64 *ctx)
{
	const struct sock *sk = (const struct sock *)ctx[0];
	const struct sk_buff *last;

	if (sk->sk_protocol != IPPROTO_UDP)
		return 0;
	last = sk->sk_receive_queue.prev;
	if (!last || (const void *)last == (const void *)&sk->sk_receive_queue)
		return 0;
	return arrived(last, VNIC_SOCKET_UDP);
}
