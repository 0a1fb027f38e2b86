/* SPDX-License-Identifier: GPL-2.0-only */
/* The way of a packet that arrives, from the frame to its delivery. */
#ifndef VNIC_INGRESS_H
#define VNIC_INGRESS_H

#include "bfd_packet.h"
#include "capture.h"
#include "flow.h"
#include "frame.h"
#include "parse.h"
#include "rtt.h"

/* Reserves metadata before the frame; false if the driver gave no room. */
static __always_inline bool vnic_put_metadata(struct xdp_md *ctx, const struct vnic_decision *d, __u64 rx_ns)
{
	struct vnic_meta *meta;
	void *data;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return false;
	data = (void *)(long)ctx->data;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > data)
		return false;
	meta->magic = VNIC_META_MAGIC;
	meta->queue = d->queue;
	meta->bucket = d->hash & (VNIC_BUCKETS - 1);
	meta->rx_ns = rx_ns;
	meta->flow = d->flow;
	meta->marker = d->marker;
	return true;
}

/* To the stack on the CPU of the packet's queue: through a CPUMAP entry, or right here if it arrived there. */
static __always_inline int vnic_deliver(struct xdp_md *ctx, const struct vnic_control *control,
					const struct vnic_decision *d, struct vnic_cpu_stats *stats, __u32 cpu,
					__u32 bytes)
{
	__u32 target = vnic_queue_cpu(control, d->queue);
	struct vnic_queue_stats *cell;
	__u64 rx_ns = 0;
	int action;

	if (unlikely(d->queue >= VNIC_MAX_QUEUES)) {
		stats->passed++;
		return XDP_PASS;
	}
	cell = vnic_get_queue_stats(cpu, d->queue);
	if (cell) {
		cell->steered_packets++;
		cell->steered_bytes += bytes;
		if (d->arrival & VNIC_ARRIVED_DIRECT) {
			cell->direct_packets++;
			return XDP_PASS;
		}
		if (d->arrival != d->queue)
			cell->missed_packets++;
		else if (target != cpu)
			cell->off_cpu_packets++;
	}
	if (unlikely(target == VNIC_NO_CPU)) {
		stats->passed++;
		return XDP_PASS;
	}
	/* The precise clock costs more than the rest of the work: time a sample. */
	if (!(stats->redirected & vnic_latency_sample_mask))
		rx_ns = bpf_ktime_get_ns();
	if (rx_ns || d->marker || vnic_deliver_metadata) {
		if (!vnic_put_metadata(ctx, d, rx_ns))
			stats->metadata_failed++;
	}
	action = bpf_redirect_map(&vnic_cpus, target, XDP_PASS);
	if (likely(action == XDP_REDIRECT))
		stats->redirected++;
	else
		stats->passed++;
	return action;
}

static __always_inline int vnic_handle_ingress(struct xdp_md *ctx)
{
	struct vnic_flow_key key __attribute__((aligned(8)));
	struct vnic_control *control = vnic_get_control();
	__u32 cpu = bpf_get_smp_processor_id(), bytes, reason;
	struct vnic_replay_frame *replay = NULL;
	struct vnic_queue_stats *cell;
	struct vnic_cpu_stats *stats;
	struct vnic_decision d = {};
	__u32 zero = 0;
	int action;

	stats = vnic_get_cpu_stats(cpu);
	cell = vnic_get_queue_stats(cpu, ctx->rx_queue_index);
	if (unlikely(!control || !stats || !cell))
		return XDP_PASS;
	if (vnic_replay) {
		replay = bpf_map_lookup_elem(&vnic_replay_frame, &zero);
		if (!replay)
			return XDP_PASS;
		bytes = replay->wire_bytes;
	} else {
		bytes = vnic_frame_bytes(ctx);
	}
	cell->rx_packets++;
	cell->rx_bytes += bytes;

	reason = vnic_parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, bytes, VNIC_INGRESS, &key);
	if (unlikely(reason != VNIC_PARSED)) {
		if (reason < VNIC_UNPARSED_REASONS)
			stats->unparsed[reason]++;
		if (unlikely(!vnic_replay && control->capture))
			vnic_capture_packet(ctx, VNIC_NO_RULE, VNIC_NO_QUEUE, VNIC_OUTCOME_UNPARSED | reason << 8);
		return XDP_PASS;
	}
	stats->parsed++;
	if (unlikely(!vnic_replay && vnic_is_bfd(&key) && control->bfd_sessions)) {
		action = vnic_handle_bfd(ctx, control->bfd_sessions);
		if (action != VNIC_BFD_NOT_OURS)
			return action;
	}
	d.arrival = ctx->rx_queue_index & (VNIC_ARRIVED_DIRECT - 1);
	d.cpu = cpu;
	vnic_decide(&d, &key, control, stats, 1, bytes, replay);
	stats->az_packets[vnic_verdict_az(d.verdict) & 15]++;
	if (!vnic_replay && key.proto == IPPROTO_TCP) {
		struct vnic_rtt *rtt = vnic_get_rtt();

		if (rtt && unlikely(vnic_rtt_wants_arriving(rtt, d.hash, d.is_first)))
			vnic_rtt_look_arriving(ctx, d.hash, vnic_verdict_az(d.verdict));
	}
	if (unlikely(!vnic_replay && control->capture))
		vnic_capture_packet(ctx, d.verdict, d.queue,
				    d.dropped ? VNIC_OUTCOME_DROP | d.drop_reason << 8 : VNIC_OUTCOME_PASS);
	if (d.dropped) {
		if (d.drop_reason < VNIC_DROP_REASONS)
			stats->drops[d.drop_reason]++;
		cell->dropped_packets++;
		cell->dropped_bytes += bytes;
		return XDP_DROP;
	}
	if (vnic_replay)
		return XDP_PASS;
	return vnic_deliver(ctx, control, &d, stats, cpu, bytes);
}

/* Where vnic_socket.bpf.c counts this device's times; 0: nobody asks for them. */
static __always_inline __u32 vnic_socket_place(void)
{
	struct vnic_control *control = vnic_get_control();

	return control ? control->socket_place : 0;
}

/* Behind a CPUMAP entry, on the target CPU. */
static __always_inline int vnic_handle_cpu(struct xdp_md *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct vnic_cpu_stats *stats = vnic_get_cpu_stats(cpu);
	void *data = (void *)(long)ctx->data;
	struct vnic_meta *meta = (void *)(long)ctx->data_meta;

	if (stats) {
		stats->received++;
		stats->received_bytes += vnic_frame_bytes(ctx);
	}
	if ((void *)(meta + 1) > data || meta->magic != VNIC_META_MAGIC)
		return XDP_PASS;
	if (unlikely(meta->marker))
		vnic_acknowledge(meta);
	if (meta->rx_ns) {
		vnic_record_latency(cpu, bpf_ktime_get_ns() - meta->rx_ns);
		meta->flow = vnic_socket_place();
		if (meta->flow)
			return XDP_PASS;
	}
	/* Metadata that differs keeps GRO from merging packets: take it away again. */
	if (!vnic_deliver_metadata)
		bpf_xdp_adjust_meta(ctx, sizeof(*meta));
	return XDP_PASS;
}

#endif
