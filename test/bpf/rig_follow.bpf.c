/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A back end that follows, as a multiqueue tap does (drivers/net/tun.c, tun_flow_update): what the
 * other end sends teaches it the flow's queue, and what it sends to the other end uses that one.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} learned SEC(".maps");

/* The same for both directions; 0: not UDP over IPv4. */
static __always_inline __u64 flow_of(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || skb->protocol != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP)
		return 0;
	return (__u64)(ip->saddr ^ ip->daddr) << 32 | (__u32)(udp->source + udp->dest) << 16 |
	       (__u16)(udp->source ^ udp->dest);
}

SEC("tc")
int rig_learn(struct __sk_buff *skb)
{
	__u64 flow = flow_of(skb);
	/* As veth leaves it: the number of the sender's queue. What is written counts from 1. */
	__u32 queue = skb->queue_mapping + 1;

	if (flow)
		bpf_map_update_elem(&learned, &flow, &queue, BPF_ANY);
	return -1;
}

SEC("tc")
int rig_follow(struct __sk_buff *skb)
{
	__u64 flow = flow_of(skb);
	__u32 *queue = bpf_map_lookup_elem(&learned, &flow);

	if (queue)
		skb->queue_mapping = *queue;
	return -1;
}

char LICENSE[] SEC("license") = "GPL";
