/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Traffic: run by BPF_PROG_RUN with live frames, each run makes the next packet of
 * the next flow of one stream and sends it out of the stream's device.
 * The sequence of a flow counts exactly what was sent. One process runs it, on one CPU.
 */
#include "rig.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rig_flow);
} rig_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rig_generator);
} rig_control SEC(".maps");

/* Index: stream. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, RIG_STREAMS);
	__type(key, __u32);
	__type(value, __u32);
} rig_devices SEC(".maps");

static __always_inline __u16 rig_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* UDP over IPv6 must have a checksum (RFC 8200, section 8.1); 0 means none, so a 0 is sent as all ones. */
static __always_inline __u16 rig_udp_checksum(const struct rig_flow *flow, __u64 time_ns)
{
	__u64 sum = flow->checksum, sequence = flow->payload.sequence;
	__u16 check;

	sum += (sequence & 0xffffffff) + (sequence >> 32);
	sum += (time_ns & 0xffffffff) + (time_ns >> 32);
	check = ~rig_fold(sum);
	return check ? check : 0xffff;
}

static __always_inline void rig_fill(void *at, const struct rig_flow *flow, __u64 time_ns)
{
	struct rig_payload *payload = at;

	*(__u16 *)(at - 2) = rig_udp_checksum(flow, time_ns);
	payload->magic = flow->payload.magic;
	payload->flow = flow->payload.flow;
	payload->sequence = flow->payload.sequence;
	payload->time_ns = time_ns;
}

SEC("xdp")
int rig_generate(struct xdp_md *ctx)
{
	__u32 frame_bytes = ctx->data_end - ctx->data, zero = 0, index;
	struct rig_generator *control;
	struct rig_stream *stream;
	struct rig_flow *flow;
	__u64 time_ns, *words;
	void *data, *end;
	int i;

	control = bpf_map_lookup_elem(&rig_control, &zero);
	if (!control)
		return XDP_ABORTED;
	stream = &control->streams[control->stream & (RIG_STREAMS - 1)];
	/* The kernel rounds a run up to whole batches. */
	if (!stream->remaining)
		return XDP_DROP;
	index = stream->first_flow + stream->next;
	flow = bpf_map_lookup_elem(&rig_flows, &index);
	if (!flow)
		return XDP_ABORTED;
	/* The frame is always longer at first; see the class that runs this. */
	if (bpf_xdp_adjust_tail(ctx, (int)flow->frame_bytes - (int)frame_bytes))
		return XDP_ABORTED;

	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + RIG_IPV4_PAYLOAD + sizeof(struct rig_payload) > end)
		return XDP_ABORTED;
	words = data;
	for (i = 0; i < RIG_HEADER_BYTES / 8; i++)
		words[i] = ((__u64 *)flow->header)[i];
	time_ns = bpf_ktime_get_ns();
	if (flow->payload_offset == RIG_IPV4_PAYLOAD) {
		rig_fill(data + RIG_IPV4_PAYLOAD, flow, time_ns);
	} else {
		if (data + RIG_IPV6_PAYLOAD + sizeof(struct rig_payload) > end)
			return XDP_ABORTED;
		rig_fill(data + RIG_IPV6_PAYLOAD, flow, time_ns);
	}

	if (++stream->next >= stream->flows)
		stream->next = 0;
	stream->remaining--;
	if (stream->last_ns && time_ns - stream->last_ns > stream->longest_gap_ns)
		stream->longest_gap_ns = time_ns - stream->last_ns;
	stream->last_ns = time_ns;
	flow->payload.sequence++;
	return bpf_redirect_map(&rig_devices, control->stream & (RIG_STREAMS - 1), XDP_ABORTED);
}

char LICENSE[] SEC("license") = "GPL";
