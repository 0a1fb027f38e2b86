/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What happens to a packet once it is parsed: its flow, the cached verdict, rule
 * counters, limit, queue. Ingress and egress share it.
 */
#ifndef VNIC_FLOW_H
#define VNIC_FLOW_H

#include "compiler.h"
#include "flowtable.h"
#include "hash.h"
#include "limiter.h"
#include "maps.h"
#include "move.h"
#include "rules.h"
#include "stats.h"
#include "steer.h"

#define VNIC_LIMIT_EVENT_INTERVAL_NS 1000000000ULL
#define VNIC_LIMIT_FLAGS (VNIC_VERDICT_LIMIT_RULE | VNIC_VERDICT_LIMIT_FLOW)

/* What was decided. drop_reason counts only when dropped is set. */
struct vnic_decision {
	__u64 verdict;
	__u64 wait_ns;			/* egress shaping: send this much later */
	__u32 hash;
	__u32 queue;
	__u32 marker;			/* 0: the packet is none */
	__u32 flow;			/* with a marker: index of the flow's entry */
	bool dropped;
	bool is_first;			/* the flow was not known before */
	__u8 drop_reason;
};

/*
 * After a flow was classified by a rule set that it had not met. A global function:
 * verified once. flow may be NULL; replay_ns counts only in a replay.
 */
__noinline int vnic_meet_rules(struct vnic_flow *flow, __u64 verdict, __u64 replay_ns)
{
	__u32 generation = vnic_verdict_generation(verdict), slot = vnic_verdict_slot(verdict);
	struct vnic_control *control = vnic_get_control();
	struct vnic_rule_action *action;
	struct vnic_rule_state *state;
	__u64 now;

	vnic_note_generation(generation);
	if (!control || !(vnic_verdict_flags(verdict) & VNIC_LIMIT_FLAGS))
		return 0;
	action = vnic_get_action(control, generation, slot);
	state = bpf_map_lookup_elem(&vnic_rule_states, &slot);
	if (!action || !state)
		return 0;
	now = vnic_replay ? replay_ns : bpf_ktime_get_ns();
	vnic_limiter_forgive(action, &state->tat, now);
	if (flow)
		vnic_limiter_forgive(action, &flow->tat, now);
	return 0;
}

static __always_inline void vnic_count_limited(struct vnic_rule_state *state, const struct vnic_rule_action *action,
					       __u64 now)
{
	__u64 last = READ_ONCE(state->limit_event_ns);

	if (vnic_replay || now - last < VNIC_LIMIT_EVENT_INTERVAL_NS)
		return;
	if (__sync_val_compare_and_swap(&state->limit_event_ns, last, now) == last)
		vnic_send_event(VNIC_EVENT_LIMIT, action->rule_id);
}

/* Rule counters and limit of a packet that matched a rule. Fills d->dropped, drop_reason, wait_ns. */
static __always_inline void vnic_apply_rule(struct vnic_decision *d, const struct vnic_rule_action *action,
					    struct vnic_flow *flow, struct vnic_cpu_stats *stats, __u32 packets,
					    __u32 bytes, const struct vnic_replay_frame *replay)
{
	__u32 flags = vnic_verdict_flags(d->verdict), slot = vnic_verdict_slot(d->verdict);
	struct vnic_rule_state *state = bpf_map_lookup_elem(&vnic_rule_states, &slot);
	bool over = false;
	__u64 wait;

	if (!state)
		return;
	__sync_fetch_and_add(&state->packets, packets);
	__sync_fetch_and_add(&state->bytes, bytes);
	if (flags & VNIC_VERDICT_DROP) {
		over = true;
		d->drop_reason = VNIC_DROP_RULE;
	} else if (flags & VNIC_LIMIT_FLAGS) {
		bool per_flow = flags & VNIC_VERDICT_LIMIT_FLOW;
		struct vnic_charge charge = {
			.cost = vnic_packet_cost(action, packets, bytes),
			.tolerance = action->tolerance,
			.patience = flags & VNIC_VERDICT_SHAPE ? VNIC_SHAPE_HORIZON_TICKS : 0,
			.now_ns = replay ? replay->time_ns : 0,
		};
		__u64 *tat = &state->tat;

		if (per_flow) {
			/* No flow entry, no flow limit; flow_table_busy counts it. */
			if (!flow)
				return;
			tat = &flow->tat;
		}
		wait = vnic_limiter_take(tat, &charge, stats);
		d->drop_reason = per_flow ? VNIC_DROP_LIMIT_FLOW : VNIC_DROP_LIMIT_RULE;
		over = wait > charge.patience;
		if (over)
			vnic_count_limited(state, action, charge.now_ns);
		else if (!(flags & VNIC_VERDICT_SHADOW))
			d->wait_ns = wait >> VNIC_TICKS_PER_NS_SHIFT;
	}
	if (!over)
		return;
	__sync_fetch_and_add(&state->dropped_packets, packets);
	__sync_fetch_and_add(&state->dropped_bytes, bytes);
	d->dropped = !(flags & VNIC_VERDICT_SHADOW);
}

/* The flow's queue is another than that of its packet before. */
static __always_inline void vnic_change_queue(struct vnic_decision *d, const struct vnic_flow_key *key,
					      vnic_flow_place_t place, struct vnic_flow *flow, __u32 table,
					      struct vnic_cpu_stats *stats)
{
	__u64 choice;

	/* What is dropped goes nowhere, and the first packet comes from nowhere. */
	if (flow->queue == VNIC_NO_QUEUE || d->queue == VNIC_NO_QUEUE)
		return;
	if (d->dropped) {
		d->queue = flow->queue;
		return;
	}
	choice = vnic_leave_queue(flow, table, d->queue, stats);
	d->queue = choice & 0xffff;
	d->marker = choice >> 32;
	if (d->marker)
		d->flow = vnic_flow_index(key, place);
}

/*
 * Decides on a parsed packet and counts it in its flow and rule. "packets" is above 1
 * for a GSO frame on egress. replay is NULL but in a replay.
 */
static __always_inline void vnic_decide(struct vnic_decision *d, struct vnic_flow_key *key,
					const struct vnic_control *control, struct vnic_cpu_stats *stats,
					__u32 packets, __u32 bytes, const struct vnic_replay_frame *replay)
{
	__u32 generation = READ_ONCE(control->rule_generation), table = READ_ONCE(control->active_table);
	vnic_flow_place_t place = vnic_flow_place(key);
	struct vnic_rule_action *action = NULL;
	struct vnic_flow *flow;

	flow = vnic_find_flow(key, place);
	if (likely(flow)) {
		d->verdict = READ_ONCE(flow->verdict);
		d->hash = flow->hash;
		if (unlikely(vnic_verdict_generation(d->verdict) != generation)) {
			d->verdict = vnic_classify(key, generation);
			WRITE_ONCE(flow->verdict, d->verdict);
			vnic_meet_rules(flow, d->verdict, replay ? replay->time_ns : 0);
			stats->reclassified++;
		}
	} else {
		d->is_first = true;
		d->verdict = vnic_classify(key, generation);
		d->hash = vnic_hash(key, control->hash_seed);
		flow = vnic_flow_at(vnic_enter_flow(key, place, d->verdict, d->hash, stats));
		vnic_meet_rules(flow, d->verdict, replay ? replay->time_ns : 0);
	}

	if (vnic_verdict_slot(d->verdict) != VNIC_NO_RULE) {
		action = vnic_get_action(control, generation, vnic_verdict_slot(d->verdict));
		if (action)
			vnic_apply_rule(d, action, flow, stats, packets, bytes, replay);
	}
	d->queue = vnic_choose_queue(control, table, d->verdict, d->hash, action);
	if (likely(flow) && unlikely(flow->queue != d->queue) && !vnic_replay)
		vnic_change_queue(d, key, place, flow, table, stats);

	if (likely(flow)) {
		__sync_fetch_and_add(&flow->packets, packets);
		__sync_fetch_and_add(&flow->bytes, bytes);
		if (d->dropped) {
			__sync_fetch_and_add(&flow->dropped_packets, packets);
			__sync_fetch_and_add(&flow->dropped_bytes, bytes);
		}
		WRITE_ONCE(flow->last_seen_jiffies, bpf_jiffies64());
		WRITE_ONCE(flow->queue, d->queue);
	}
}

#endif
