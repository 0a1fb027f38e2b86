/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The network between the AZs and the host: forwards the generator's frames at XDP
 * speed, leaves everything else to the bridge, and notes what left the host by which
 * TX queue: TX queue n of one end of a veth pair is RX queue n of the other.
 */
#include "rig.h"

/* 0: the device towards the host. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} rig_uplink SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct vnic_flow_key);
	__type(value, struct rig_departed);
} rig_departed SEC(".maps");

/* On the fabric's end of each AZ's link. */
SEC("xdp.frags")
int rig_fabric(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 14 > end || *(__u32 *)(data + 6) != RIG_SOURCE_MAC)
		return XDP_PASS;
	return bpf_redirect_map(&rig_uplink, 0, XDP_ABORTED);
}

/* IPv4 without options, IPv6 without extension headers, TCP and UDP: what the rig's sockets send. */
static __always_inline bool rig_parse(void *data, void *end, struct vnic_flow_key *key)
{
	__u8 *ip = data + 14, *ports;
	__u16 type;

	if (data + 14 + 20 + 4 > end)
		return false;
	type = *(__u16 *)(data + 12);
	if (type == bpf_htons(0x0800)) {
		if (ip[0] != 0x45 || *(__u16 *)(ip + 6) & bpf_htons(0x3fff))
			return false;
		key->src.bytes[10] = key->src.bytes[11] = 0xff;
		key->dst.bytes[10] = key->dst.bytes[11] = 0xff;
		__builtin_memcpy(key->src.bytes + 12, ip + 12, 4);
		__builtin_memcpy(key->dst.bytes + 12, ip + 16, 4);
		key->proto = ip[9];
		ports = ip + 20;
	} else if (type == bpf_htons(0x86dd)) {
		if (data + 14 + 40 + 4 > end)
			return false;
		__builtin_memcpy(key->src.bytes, ip + 8, 16);
		__builtin_memcpy(key->dst.bytes, ip + 24, 16);
		key->proto = ip[6];
		ports = ip + 40;
	} else {
		return false;
	}
	if (key->proto != IPPROTO_TCP && key->proto != IPPROTO_UDP)
		return false;
	key->sport = *(__u16 *)ports;
	key->dport = *(__u16 *)(ports + 2);
	key->direction = VNIC_EGRESS;
	return true;
}

/* On the fabric's end of the host's link. */
SEC("xdp.frags")
int rig_observe(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;
	struct rig_departed *departed, first = {};
	struct vnic_flow_key key __attribute__((aligned(8))) = {};

	if (!rig_parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &key))
		return XDP_PASS;
	departed = bpf_map_lookup_elem(&rig_departed, &key);
	if (!departed) {
		first.last_queue = queue;
		bpf_map_update_elem(&rig_departed, &key, &first, BPF_NOEXIST);
		departed = bpf_map_lookup_elem(&rig_departed, &key);
		if (!departed)
			return XDP_PASS;
	}
	__sync_fetch_and_add(&departed->packets, 1);
	__sync_fetch_and_add(&departed->bytes, bpf_xdp_get_buff_len(ctx));
	__sync_fetch_and_or(&departed->queues, 1ULL << (queue & (VNIC_MAX_QUEUES - 1)));
	if (departed->last_queue != queue) {
		departed->last_queue = queue;
		__sync_fetch_and_add(&departed->changes, 1);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
