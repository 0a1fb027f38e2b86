/* SPDX-License-Identifier: GPL-2.0-only */
/* The way of a packet that leaves: same parse, same flow, same bucket; then the TX queue. */
#ifndef VNIC_EGRESS_H
#define VNIC_EGRESS_H

#include "flow.h"
#include "parse.h"
#include "rtt.h"

#define VNIC_TC_NEXT (-1)		/* TC_ACT_UNSPEC and TCX_NEXT */
#define VNIC_TC_DROP 2			/* TC_ACT_SHOT and TCX_DROP */
#define VNIC_HEADERS_WANTED 192		/* Ethernet, two tags, IPv6, some extension headers, TCP with options */

/* The departure time that fq keeps to. The socket's own pacing may ask for a later one. */
static __always_inline void vnic_delay(struct __sk_buff *skb, __u64 departure_ns)
{
	if (skb->tstamp < departure_ns)
		skb->tstamp = departure_ns;
}

static __always_inline int vnic_handle_egress(struct __sk_buff *skb)
{
	struct vnic_flow_key key __attribute__((aligned(8))) = {};
	struct vnic_control *control = vnic_get_control();
	__u32 cpu = bpf_get_smp_processor_id(), bytes = skb->wire_len, packets = skb->gso_segs, reason;
	__u32 wanted = skb->len < VNIC_HEADERS_WANTED ? skb->len : VNIC_HEADERS_WANTED;
	struct vnic_queue_stats *cell;
	struct vnic_cpu_stats *stats;
	struct vnic_decision d = {};

	stats = vnic_get_cpu_stats(cpu);
	if (unlikely(!control || !stats))
		return VNIC_TC_NEXT;
	if (!packets)
		packets = 1;
	if (!bytes)
		bytes = skb->len;
	if (unlikely((void *)(long)skb->data + wanted > (void *)(long)skb->data_end))
		bpf_skb_pull_data(skb, wanted);

	d.queue = VNIC_NO_QUEUE;
	d.cpu = cpu;
	reason = vnic_parse((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, VNIC_EGRESS, &key);
	if (likely(reason == VNIC_PARSED)) {
		vnic_decide(&d, &key, control, stats, packets, bytes, NULL);
		if (d.dropped) {
			if (d.drop_reason < VNIC_DROP_REASONS)
				stats->drops[d.drop_reason] += packets;
			return VNIC_TC_DROP;
		}
		if (d.wait_ns)
			vnic_delay(skb, bpf_ktime_get_ns() + d.wait_ns);
		if (key.proto == IPPROTO_TCP) {
			struct vnic_rtt *rtt = vnic_get_rtt();

			if (rtt && unlikely(vnic_rtt_wants_leaving(rtt, d.hash, d.is_first, stats)))
				vnic_rtt_look_leaving(skb, d.hash);
		}
	}
	if (d.queue >= VNIC_MAX_QUEUES) {
		stats->tx_unsteered_packets += packets;
		stats->tx_unsteered_bytes += bytes;
		return VNIC_TC_NEXT;
	}
	/* queue_mapping counts from 1 here: 0 means "none chosen" (skb_record_rx_queue). */
	skb->queue_mapping = d.queue + 1;
	cell = vnic_get_queue_stats(cpu, d.queue);
	if (cell) {
		cell->tx_packets += packets;
		cell->tx_bytes += bytes;
	}
	return VNIC_TC_NEXT;
}

#endif
