/* SPDX-License-Identifier: GPL-2.0-only */
/* The same questions as the live path asks, answered without writing anything but the answer. */
#ifndef VNIC_EXPLAIN_H
#define VNIC_EXPLAIN_H

#include "flow.h"
#include "frame.h"
#include "parse.h"

static __always_inline void vnic_explain_limit(struct vnic_explanation *e, const struct vnic_rule_action *action,
					       const struct vnic_flow *flow)
{
	__u32 flags = vnic_verdict_flags(e->verdict), slot = vnic_verdict_slot(e->verdict);
	struct vnic_rule_state *state = bpf_map_lookup_elem(&vnic_rule_states, &slot);
	__u64 now = bpf_ktime_get_ns() << VNIC_TICKS_PER_NS_SHIFT, tat = 0, next, wait;
	__u64 patience = flags & VNIC_VERDICT_SHAPE ? VNIC_SHAPE_HORIZON_TICKS : 0;

	if (flags & VNIC_VERDICT_DROP)
		e->dropped = !(flags & VNIC_VERDICT_SHADOW);
	if (!(flags & VNIC_LIMIT_FLAGS))
		return;
	if (flags & VNIC_VERDICT_LIMIT_FLOW)
		tat = flow ? flow->tat : 0;
	else if (state)
		tat = state->tat;
	/* As vnic_meet_rules will do. */
	if (!e->verdict_cached && tat > now + vnic_limiter_most_debt(action))
		tat = now;
	if (tat > now)
		e->limiter_debt_ns = (tat - now) >> VNIC_TICKS_PER_NS_SHIFT;
	wait = vnic_limiter_wait(tat, now, vnic_packet_cost(action, 1, e->frame_bytes), action->tolerance, &next);
	e->limited = wait != 0;
	if (wait > patience && !(flags & VNIC_VERDICT_SHADOW))
		e->dropped = 1;
}

static __always_inline int vnic_handle_explain(struct xdp_md *ctx)
{
	struct vnic_flow_key key __attribute__((aligned(8))) = {};
	struct vnic_control *control = vnic_get_control();
	struct vnic_rule_action *action = NULL;
	vnic_flow_place_t place;
	struct vnic_explanation *e;
	struct vnic_flow *flow;
	__u32 zero = 0;

	e = bpf_map_lookup_elem(&vnic_explanation, &zero);
	if (!e || !control)
		return XDP_ABORTED;
	e->frame_bytes = vnic_frame_bytes(ctx);
	e->unparsed = vnic_parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, e->frame_bytes,
				 e->direction & 1, &key);
	if (e->unparsed != VNIC_PARSED)
		return XDP_PASS;
	e->key = key;
	e->generation = READ_ONCE(control->rule_generation);
	e->table = READ_ONCE(control->active_table);
	e->hash = vnic_hash(&key, control->hash_seed);
	e->bucket = e->hash & (VNIC_BUCKETS - 1);

	place = vnic_flow_place(&key);
	flow = vnic_find_flow(&key, place);
	e->flow_known = flow != NULL;
	e->verdict_cached = flow && vnic_verdict_generation(flow->verdict) == e->generation;
	e->verdict = e->verdict_cached && flow ? flow->verdict : vnic_classify(&key, e->generation);
	e->az = vnic_verdict_az(e->verdict);
	if (vnic_verdict_slot(e->verdict) != VNIC_NO_RULE) {
		action = vnic_get_action(control, e->generation, vnic_verdict_slot(e->verdict));
		if (action) {
			e->rule_id = action->rule_id;
			vnic_explain_limit(e, action, flow);
		}
	}
	e->queue = vnic_choose_queue(control, e->table, e->verdict, e->hash, action);
	e->arrival = flow ? flow->arrival : VNIC_NO_QUEUE;
	/* As if it arrived where the one before did. */
	if (flow && e->table < VNIC_TABLE_GENERATIONS && flow->queue < VNIC_MAX_QUEUES && e->queue < VNIC_MAX_QUEUES &&
	    flow->queue != e->queue &&
	    vnic_judge_move(flow, vnic_get_table_info(control, e->table),
			    vnic_place_word(e->queue, flow->arrival)) == VNIC_MOVE_HELD)
		e->queue = flow->queue;
	e->cpu = vnic_queue_cpu(control, e->queue);
	return e->dropped ? XDP_DROP : XDP_PASS;
}

/* Both clocks at one moment, so that user space can turn jiffies into time. */
static __always_inline int vnic_handle_clock(struct xdp_md *ctx)
{
	struct vnic_clock *clock = (void *)(long)ctx->data;

	if ((void *)(clock + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	clock->jiffies = bpf_jiffies64();
	clock->monotonic_ns = bpf_ktime_get_ns();
	return XDP_PASS;
}

#endif
