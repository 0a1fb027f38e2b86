/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Classification: tuple-space search (Srinivasan, Suri, Varghese, "Packet
 * Classification using Tuple Space Search", SIGCOMM 1999). One hash look-up for
 * each shape of rule, best shapes first, and an end as soon as no later shape can win.
 * Runs once for each flow and rule-set generation; the verdict is cached in the flow.
 */
#ifndef VNIC_RULES_H
#define VNIC_RULES_H

#include "compiler.h"
#include "maps.h"
#include "stats.h"

/* The generation that a packet met last. */
__u32 vnic_seen_generation;

static __always_inline __u32 vnic_rule_set(__u32 generation)
{
	return generation & (VNIC_RULE_SETS - 1);
}

static __always_inline __u32 vnic_verdict_slot(__u64 verdict)
{
	return verdict & VNIC_NO_RULE;
}

static __always_inline __u32 vnic_verdict_az(__u64 verdict)
{
	return (verdict >> VNIC_VERDICT_AZ_SHIFT) & 0xf;
}

static __always_inline __u32 vnic_verdict_flags(__u64 verdict)
{
	return (verdict >> VNIC_VERDICT_FLAG_SHIFT) & 0xff;
}

static __always_inline __u32 vnic_verdict_generation(__u64 verdict)
{
	return verdict >> VNIC_VERDICT_GENERATION_SHIFT;
}

/* The AZ is the remote end's: the source of what arrives, the destination of what leaves. */
static __always_inline __u32 vnic_find_az(const struct vnic_flow_key *key, __u32 set)
{
	struct vnic_az_prefix prefix __attribute__((aligned(8))) = { .prefixlen = 32 + 128, .set = set };
	const __u32 *remote = (const __u32 *)(key->direction == VNIC_INGRESS ? &key->src : &key->dst);
	__u32 *addr = (__u32 *)&prefix.addr;
	struct vnic_az_index *index;

	addr[0] = remote[0];
	addr[1] = remote[1];
	addr[2] = remote[2];
	addr[3] = remote[3];
	index = bpf_map_lookup_elem(&vnic_az_prefixes, &prefix);
	return index && index->az < VNIC_TABLE_ROWS ? index->az : 0;
}

static __always_inline void vnic_mask_addr(struct vnic_addr *to, const struct vnic_addr *addr,
					   const struct vnic_addr *mask)
{
	const __u64 *a = (const __u64 *)addr, *m = (const __u64 *)mask;
	__u64 *t = (__u64 *)to;

	t[0] = a[0] & m[0];
	t[1] = a[1] & m[1];
}

static __always_inline __u32 vnic_find_rule(const struct vnic_flow_key *key, __u32 set)
{
	__u32 list = set * VNIC_DIRECTIONS + (key->direction & 1);
	struct vnic_rule_key masked __attribute__((aligned(8))) = {};
	__u32 best = ~0U, slot = VNIC_NO_RULE, i, index;
	struct vnic_shape_count *count;
	struct vnic_rule_entry *entry;
	struct vnic_shape *shape;
	void *rules;

	count = bpf_map_lookup_elem(&vnic_shape_counts, &list);
	rules = bpf_map_lookup_elem(&vnic_rules, &set);
	if (!count || !rules)
		return VNIC_NO_RULE;
	masked.direction = key->direction;
	for (i = 0; i < VNIC_MAX_SHAPES; i++) {
		if (i >= count->count)
			break;
		index = list * VNIC_MAX_SHAPES + i;
		shape = bpf_map_lookup_elem(&vnic_shapes, &index);
		if (!shape || shape->best_order >= best)
			break;
		vnic_mask_addr(&masked.src, &key->src, &shape->src_mask);
		vnic_mask_addr(&masked.dst, &key->dst, &shape->dst_mask);
		masked.sport = key->sport & shape->sport_mask;
		masked.dport = key->dport & shape->dport_mask;
		masked.proto = key->proto & shape->proto_mask;
		masked.shape = i;
		entry = bpf_map_lookup_elem(rules, &masked);
		if (entry && entry->order < best) {
			best = entry->order;
			slot = entry->slot;
		}
	}
	return slot & VNIC_NO_RULE;
}

static __always_inline struct vnic_rule_action *vnic_get_action(const struct vnic_control *control, __u32 generation,
								 __u32 slot)
{
	__u32 index = vnic_rule_set(generation) * control->rule_slots + slot;

	return bpf_map_lookup_elem(&vnic_rule_actions, &index);
}

/* Tells user space, once, that packets meet a generation. Not for a packet that somebody only asks about. */
static __always_inline void vnic_note_generation(__u32 generation)
{
	__u32 seen = READ_ONCE(vnic_seen_generation);

	if (likely(seen == generation) || vnic_replay)
		return;
	if (__sync_val_compare_and_swap(&vnic_seen_generation, seen, generation) == seen)
		vnic_send_event(VNIC_EVENT_RULES_LIVE, generation);
}

/*
 * The verdict for a key under the rule set of a generation. A global function:
 * verified once, not once for each program and path that calls it.
 */
__noinline __u64 vnic_classify(struct vnic_flow_key *key, __u32 generation)
{
	struct vnic_control *control = vnic_get_control();
	__u64 verdict = (__u64)generation << VNIC_VERDICT_GENERATION_SHIFT;
	__u32 set = vnic_rule_set(generation), slot = VNIC_NO_RULE, flags = 0;
	struct vnic_rule_action *action;

	if (!key || !control)
		return verdict | VNIC_NO_RULE;
	if (generation) {
		verdict |= (__u64)vnic_find_az(key, set) << VNIC_VERDICT_AZ_SHIFT;
		slot = vnic_find_rule(key, set);
	}
	if (slot != VNIC_NO_RULE) {
		action = vnic_get_action(control, generation, slot);
		if (action)
			flags = action->flags;
		else
			slot = VNIC_NO_RULE;
	}
	return verdict | slot | (__u64)flags << VNIC_VERDICT_FLAG_SHIFT;
}

#endif
