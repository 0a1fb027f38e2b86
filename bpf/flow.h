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
	__u32 arrival;			/* as in vnic_flow; set by the caller, without VNIC_ARRIVED_DIRECT */
	__u32 cpu;			/* this one; set by the caller */
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

static __always_inline void vnic_count_limited(__u32 slot, const struct vnic_rule_action *action, __u64 now)
{
	struct vnic_rule_state *state = bpf_map_lookup_elem(&vnic_rule_states, &slot);
	__u64 last;

	if (vnic_replay || !state)
		return;
	last = READ_ONCE(state->limit_event_ns);
	if (now - last < VNIC_LIMIT_EVENT_INTERVAL_NS)
		return;
	if (__sync_val_compare_and_swap(&state->limit_event_ns, last, now) == last)
		vnic_send_event(VNIC_EVENT_LIMIT, action->rule_id);
}

/* A packet that may have to wait, or be dropped. Returns whether it is over the limit; fills d->drop_reason, wait_ns. */
static __always_inline bool vnic_limit_exactly(struct vnic_decision *d, const struct vnic_rule_action *action,
					       __u64 *tat, __u64 cost, struct vnic_cpu_stats *stats,
					       const struct vnic_replay_frame *replay)
{
	__u32 flags = vnic_verdict_flags(d->verdict);
	struct vnic_charge charge = {
		.cost = cost,
		.tolerance = action->tolerance,
		.patience = flags & VNIC_VERDICT_SHAPE ? VNIC_SHAPE_HORIZON_TICKS : 0,
		.now_ns = replay ? replay->time_ns : 0,
	};
	__u64 wait = vnic_limiter_take(tat, &charge, stats);

	d->drop_reason = flags & VNIC_VERDICT_LIMIT_FLOW ? VNIC_DROP_LIMIT_FLOW : VNIC_DROP_LIMIT_RULE;
	if (wait > charge.patience) {
		vnic_count_limited(vnic_verdict_slot(d->verdict), action, charge.now_ns);
		return true;
	}
	if (!(flags & VNIC_VERDICT_SHADOW))
		d->wait_ns = wait >> VNIC_TICKS_PER_NS_SHIFT;
	return false;
}

/* Of a slot without cells, which all CPUs share. A global function: few packets come here, and they pay for a call. */
__noinline int vnic_count_shared(__u32 slot, __u32 packets, __u32 bytes, bool is_drop)
{
	struct vnic_rule_state *state = bpf_map_lookup_elem(&vnic_rule_states, &slot);

	if (!state)
		return 0;
	__sync_fetch_and_add(is_drop ? &state->dropped_packets : &state->packets, packets);
	__sync_fetch_and_add(is_drop ? &state->dropped_bytes : &state->bytes, bytes);
	return 0;
}

/* Rule counters and limit of a packet that matched a rule. Fills d->dropped, drop_reason, wait_ns. */
static __always_inline void vnic_apply_rule(struct vnic_decision *d, const struct vnic_rule_action *action,
					    struct vnic_flow *flow, struct vnic_cpu_stats *stats, __u32 packets,
					    __u32 bytes, const struct vnic_replay_frame *replay)
{
	__u32 flags = vnic_verdict_flags(d->verdict), slot = vnic_verdict_slot(d->verdict);
	struct vnic_rule_cell *cell = NULL;
	struct vnic_rule_state *state;
	bool over = false;

	if (likely(slot < VNIC_RULE_CELLS))
		cell = vnic_get_rule_cell(d->cpu, slot, action->rule_id);
	if (likely(cell)) {
		cell->packets += packets;
		cell->bytes += bytes;
	} else {
		vnic_count_shared(slot, packets, bytes, false);
	}
	if (flags & VNIC_VERDICT_DROP) {
		over = true;
		d->drop_reason = VNIC_DROP_RULE;
	} else if (flags & VNIC_LIMIT_FLAGS) {
		__u64 *tat, cost = vnic_packet_cost(action, packets, bytes);

		if (flags & VNIC_VERDICT_LIMIT_FLOW) {
			/* No flow entry, no flow limit; flow_table_busy counts it. */
			if (!flow)
				return;
			tat = &flow->tat;
		} else {
			state = bpf_map_lookup_elem(&vnic_rule_states, &slot);
			if (!state)
				return;
			tat = &state->tat;
		}
		if (vnic_replay || !vnic_limiter_passes(tat, cost, action->tolerance, stats))
			over = vnic_limit_exactly(d, action, tat, cost, stats, replay);
	}
	if (!over)
		return;
	if (likely(cell)) {
		cell->dropped_packets += packets;
		cell->dropped_bytes += bytes;
	} else {
		vnic_count_shared(slot, packets, bytes, true);
	}
	d->dropped = !(flags & VNIC_VERDICT_SHADOW);
}

/* The flow's packet before used another queue, or came to it in another way. */
static __always_inline void vnic_change_place(struct vnic_decision *d, const struct vnic_flow_key *key,
					      vnic_flow_place_t place, struct vnic_flow *flow, __u32 table,
					      struct vnic_cpu_stats *stats)
{
	__u64 choice;

	/* The first packet comes from nowhere. */
	if (flow->queue == VNIC_NO_QUEUE || d->queue == VNIC_NO_QUEUE)
		return;
	/* What is dropped goes nowhere. */
	if (d->dropped) {
		d->queue = flow->queue;
		d->arrival = flow->arrival;
		return;
	}
	/* Arrived on another NIC queue than before, and goes to the same CPUMAP entry. */
	if (flow->queue == d->queue && !((flow->arrival | d->arrival) & VNIC_ARRIVED_DIRECT))
		return;
	choice = vnic_leave_place(flow, table, vnic_place_word(d->queue, d->arrival), stats);
	d->queue = choice & 0xffff;
	d->arrival = choice >> 16 & 0xffff;
	d->marker = choice >> 32;
	if (d->marker && !(d->arrival & VNIC_ARRIVED_DIRECT))
		d->flow = vnic_search_flow(key, place);
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
	/* Passed here it stays on this CPU: the interrupt of the queue may be on another one than the queue's. */
	if (control->direct && d->queue == d->arrival && key->direction == VNIC_INGRESS &&
	    vnic_queue_cpu(control, d->queue) == d->cpu)
		d->arrival |= VNIC_ARRIVED_DIRECT;
	/* The flow's first cache line is written only if something in it changes. */
	if (likely(flow) && unlikely(vnic_flow_place_word(flow) != vnic_place_word(d->queue, d->arrival))) {
		if (!vnic_replay)
			vnic_change_place(d, key, place, flow, table, stats);
		vnic_set_place_word(flow, vnic_place_word(d->queue, d->arrival));
	}

	if (likely(flow)) {
		__sync_fetch_and_add(&flow->packets, packets);
		__sync_fetch_and_add(&flow->bytes, bytes);
		if (d->dropped) {
			__sync_fetch_and_add(&flow->dropped_packets, packets);
			__sync_fetch_and_add(&flow->dropped_bytes, bytes);
		}
		WRITE_ONCE(flow->last_seen_jiffies, bpf_jiffies64());
	}
}

#endif
