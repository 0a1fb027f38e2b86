/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Copies of packets that arrive, with what was decided on them, for somebody who asked for them.
 * Whoever asked must go on asking: a lease that ran out turns the capture off, here.
 */
#ifndef VNIC_CAPTURE_H
#define VNIC_CAPTURE_H

#include "compiler.h"
#include "frame.h"
#include "maps.h"
#include "rules.h"

#define VNIC_CAPTURE_RING_BYTES (1 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_capture);
} vnic_capture SEC(".maps");

/* struct vnic_captured, and the packet's head behind it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, VNIC_CAPTURE_RING_BYTES);
} vnic_captured SEC(".maps");

struct vnic_capture_copy {
	struct vnic_captured about;
	__u8 head[VNIC_CAPTURE_BYTES];
};

/* Index: CPU. Room to put a packet together. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_capture_copy);
} vnic_capture_copy SEC(".maps");

static __always_inline bool vnic_capture_wants(const struct vnic_capture *capture, __u32 rule_id, __u32 az,
					       __u32 outcome)
{
	if (capture->rule_id && capture->rule_id != rule_id)
		return false;
	if (capture->az == VNIC_CAPTURE_ANY_AZ)
		return true;
	return capture->az == az && outcome != VNIC_OUTCOME_UNPARSED;
}

/* outcome: enum vnic_outcome, and the reason shifted by 8. A global function: verified once. */
__noinline int vnic_capture_packet(struct xdp_md *ctx, __u64 verdict, __u32 queue, __u32 outcome)
{
	struct vnic_control *control = vnic_get_control();
	__u32 zero = 0, cpu = bpf_get_smp_processor_id(), slot = vnic_verdict_slot(verdict), bytes, last, kept;
	struct vnic_rule_action *action = NULL;
	struct vnic_capture_copy *copy;
	struct vnic_capture *capture;
	__u64 now = bpf_ktime_get_ns();

	capture = bpf_map_lookup_elem(&vnic_capture, &zero);
	copy = bpf_map_lookup_elem(&vnic_capture_copy, &cpu);
	if (!control || !capture || !copy)
		return 0;
	if (now >= READ_ONCE(capture->lease_ns)) {
		control->capture = 0;
		return 0;
	}
	if (slot != VNIC_NO_RULE)
		action = vnic_get_action(control, vnic_verdict_generation(verdict), slot);
	copy->about.rule_id = action ? action->rule_id : 0;
	copy->about.az = vnic_verdict_az(verdict);
	copy->about.outcome = outcome;
	if (!vnic_capture_wants(capture, copy->about.rule_id, copy->about.az, copy->about.outcome))
		return 0;
	__sync_fetch_and_add(&capture->matched, 1);
	if (READ_ONCE(capture->captured) >= READ_ONCE(capture->allowance)) {
		__sync_fetch_and_add(&capture->over_allowance, 1);
		return 0;
	}
	bytes = bpf_xdp_get_buff_len(ctx);
	/* By its last byte: kernels before 6.3 do not see that a length that is not 0 is at least 1. */
	last = (bytes < capture->snaplen ? bytes : capture->snaplen) - 1;
	barrier_var(last);
	if (last >= VNIC_CAPTURE_BYTES)
		return 0;
	kept = last + 1;
	if (bpf_xdp_load_bytes(ctx, 0, copy->head, kept))
		return 0;
	copy->about.time_ns = now;
	copy->about.session = capture->session;
	copy->about.wire_bytes = bytes;
	copy->about.kept_bytes = kept;
	copy->about.queue = queue;
	copy->about.rx_queue = ctx->rx_queue_index;
	copy->about.reason = outcome >> 8;
	copy->about.flags = vnic_verdict_flags(verdict);
	if (bpf_ringbuf_output(&vnic_captured, copy, sizeof(copy->about) + kept, BPF_RB_NO_WAKEUP)) {
		__sync_fetch_and_add(&capture->ring_full, 1);
		return 0;
	}
	__sync_fetch_and_add(&capture->captured, 1);
	return 0;
}

#endif
