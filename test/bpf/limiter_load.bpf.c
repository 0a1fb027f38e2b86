/* SPDX-License-Identifier: GPL-2.0-only */
/* Gives each run's packet the next UDP destination port in turn, then goes on with the program in the slot. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 load_ports = 1;
const volatile __u32 load_first_port = 7000;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} load_target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} load_turn SEC(".maps");

SEC("xdp.frags")
int load_rotate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct udphdr *udp = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
	__u32 zero = 0;
	__u64 *turn = bpf_map_lookup_elem(&load_turn, &zero);

	if (!turn || (void *)(udp + 1) > end)
		return XDP_ABORTED;
	udp->dest = bpf_htons(load_first_port + (*turn)++ % load_ports);
	bpf_tail_call_static(ctx, &load_target, 0);
	return XDP_ABORTED;
}
