/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow table: set-associative, in two memory-mapped arrays. The kernel's LRU hash
 * costs about 44 ns a look-up, this one about 12 (docs/adr/0006), and user space
 * reads it without system calls.
 *
 * A flow's key also names a way, its home. A flow that is there, as most are, is found by its key alone, without
 * a look at the tags: two cache lines of one page, and no branch to guess wrong.
 *
 * A way is claimed by compare-and-swap on its tag. What can go wrong without a lock is
 * bounded and harmless: a packet that holds an entry while another CPU gives it to a new
 * flow adds itself to the new flow's counters (the kernel's LRU map has the same race);
 * two CPUs may enter the same new flow twice, and readers add the two up.
 */
#ifndef VNIC_FLOWTABLE_H
#define VNIC_FLOWTABLE_H

#include "compiler.h"
#include "maps.h"
#include "stats.h"

#define VNIC_FLOW_CLAIM_TRIES 3
#define VNIC_FLOW_ROOM 4			/* free ways of a set with much room */
#define VNIC_FLOW_OLD_SECONDS 60

/* Both sets and the tag of a key in one word, so that it travels in a register. */
typedef __u64 vnic_flow_place_t;

/* "second" is 0 or 1. */
static __always_inline __u32 vnic_place_set(vnic_flow_place_t place, __u32 second)
{
	return (second ? place >> 8 : place >> 32) & vnic_flow_set_mask;
}

static __always_inline __u32 vnic_place_tag(vnic_flow_place_t place)
{
	return (__u32)place | 2;	/* neither free nor busy */
}

/* The way that a flow takes if it is free: bits that neither set's number has. */
static __always_inline __u32 vnic_place_home(vnic_flow_place_t place)
{
	return place >> 61;
}

/*
 * NH (Black et al., "UMAC", CRYPTO 1999): almost universal under random keys, so that
 * nobody outside can aim flows at one set; five multiplications.
 */
static __always_inline vnic_flow_place_t vnic_flow_place(const struct vnic_flow_key *key)
{
	const __u32 *w = (const __u32 *)key;
	const volatile __u32 *k = vnic_flow_hash_keys;
	__u64 h = 0;

	h += (__u64)(w[0] + k[0]) * (w[1] + k[1]);
	h += (__u64)(w[2] + k[2]) * (w[3] + k[3]);
	h += (__u64)(w[4] + k[4]) * (w[5] + k[5]);
	h += (__u64)(w[6] + k[6]) * (w[7] + k[7]);
	h += (__u64)(w[8] + k[8]) * (w[9] + k[9]);
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 29;
}

static __always_inline struct vnic_flow *vnic_flow_entry(__u32 set, __u32 way)
{
	__u32 index = set * VNIC_FLOW_WAYS + way;

	return bpf_map_lookup_elem(&vnic_flows, &index);
}

static __always_inline bool vnic_same_key(const struct vnic_flow_key *a, const struct vnic_flow_key *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]) | (x[4] ^ y[4])) == 0;
}

/*
 * Index of a key's entry in a set, or -1. A global function, as the others here that return an
 * index: verified once, and what calls it goes on with a number instead of one state for each
 * way.
 */
__noinline int vnic_search_set(const struct vnic_flow_key *key, __u32 set, __u32 tag)
{
	struct vnic_flow_set *tags = bpf_map_lookup_elem(&vnic_flow_sets, &set);
	struct vnic_flow *flow;
	__u32 way;

	if (!tags || !key)
		return -1;
	for (way = 0; way < VNIC_FLOW_WAYS; way++) {
		if (tags->tag[way] != tag)
			continue;
		flow = vnic_flow_entry(set, way);
		if (flow && vnic_same_key(&flow->key, key))
			return set * VNIC_FLOW_WAYS + way;
	}
	return -1;
}

static __always_inline struct vnic_flow *vnic_flow_at(int index)
{
	__u32 key = index;

	return index < 0 ? NULL : bpf_map_lookup_elem(&vnic_flows, &key);
}

/* Index of a key's entry in one of its sets, or -1. A global function: verified once. */
__noinline int vnic_search_flow(const struct vnic_flow_key *key, vnic_flow_place_t place)
{
	int index;

	if (!key)
		return -1;
	index = vnic_search_set(key, vnic_place_set(place, 0), vnic_place_tag(place));
	if (index < 0)
		index = vnic_search_set(key, vnic_place_set(place, 1), vnic_place_tag(place));
	return index;
}

static __always_inline struct vnic_flow *vnic_find_flow(const struct vnic_flow_key *key, vnic_flow_place_t place)
{
	struct vnic_flow *flow = vnic_flow_entry(vnic_place_set(place, 0), vnic_place_home(place));

	if (likely(flow && vnic_same_key(&flow->key, key)))
		return flow;
	return vnic_flow_at(vnic_search_flow(key, place));
}

/* A way that a new flow could take. */
struct vnic_flow_way {
	__u32 set;
	__u32 way;			/* VNIC_FLOW_WAYS: none */
	__u32 tag;			/* that it has now; 0: free */
	__u32 free;			/* ways of the set that are free */
	__u64 age;			/* jiffies at which it was used last; later if it is protected */
};

/* A free way of the set, from the home on, else the one that was idle longest. A global function: verified once. */
__noinline VNIC_LATCH_BEHIND_LOOP int vnic_choose_way(struct vnic_flow_way *choice, __u32 set, __u32 home)
{
	struct vnic_flow_set *tags = bpf_map_lookup_elem(&vnic_flow_sets, &set);
	__u32 i, way, seen;
	struct vnic_flow *flow;
	__u64 age;

	if (!choice)
		return 0;
	choice->set = set;
	choice->way = VNIC_FLOW_WAYS;
	choice->free = 0;
	choice->age = ~0ULL;
	if (!tags)
		return 0;
	for (i = 0; i < VNIC_FLOW_WAYS; i++) {
		way = home + i;
		barrier_var(way);
		way &= VNIC_FLOW_WAYS - 1;
		seen = READ_ONCE(tags->tag[way]);
		flow = vnic_flow_entry(set, way);
		if (seen == VNIC_FLOW_TAG_BUSY || !flow)
			continue;
		age = 0;
		if (seen) {
			age = flow->last_seen_jiffies;
			if (flow->packets > 1)
				age += vnic_flow_protected_jiffies;
		} else {
			choice->free++;
		}
		if (age < choice->age) {
			choice->age = age;
			choice->way = way;
			choice->tag = seen;
		}
	}
	return 0;
}

/*
 * The better one of two sets (Azar et al., "Balanced Allocations", STOC 1994), but the first
 * as long as it has much room or something old: that set is found faster.
 */
static __always_inline void vnic_choose_place(struct vnic_flow_way *choice, vnic_flow_place_t place, __u64 now)
{
	struct vnic_flow_way second = {};

	vnic_choose_way(choice, vnic_place_set(place, 0), vnic_place_home(place));
	if (choice->free >= VNIC_FLOW_ROOM)
		return;
	if (!choice->free && choice->age + VNIC_FLOW_OLD_SECONDS * vnic_flow_protected_jiffies < now)
		return;
	vnic_choose_way(&second, vnic_place_set(place, 1), vnic_place_home(place));
	if (second.free > choice->free || second.age < choice->age)
		*choice = second;
}

/* Index of a new entry for a key that was not found, or -1 if others win all tries. */
__noinline int vnic_enter_flow(const struct vnic_flow_key *key, vnic_flow_place_t place, __u64 verdict, __u32 hash,
			       struct vnic_cpu_stats *stats)
{
	struct vnic_flow_way choice = {};
	__u64 now = bpf_jiffies64();
	struct vnic_flow_set *tags;
	struct vnic_flow *flow;
	__u32 way, set;
	int i, index;

	if (!key || !stats)
		return -1;
	for (i = 0; i < VNIC_FLOW_CLAIM_TRIES; i++) {
		vnic_choose_place(&choice, place, now);
		if (choice.way >= VNIC_FLOW_WAYS)
			break;
		set = choice.set;
		way = choice.way;
		barrier_var(way);
		way &= VNIC_FLOW_WAYS - 1;
		tags = bpf_map_lookup_elem(&vnic_flow_sets, &set);
		flow = vnic_flow_entry(set, way);
		if (!tags || !flow)
			break;
		if (__sync_val_compare_and_swap(&tags->tag[way], choice.tag, VNIC_FLOW_TAG_BUSY) != choice.tag) {
			/* Lost the way: perhaps to the same flow's packet on another CPU. */
			index = vnic_search_set(key, set, vnic_place_tag(place));
			if (index >= 0)
				return index;
			continue;
		}
		__builtin_memset(flow, 0, sizeof(*flow));
		flow->verdict = verdict;
		flow->queue = VNIC_NO_QUEUE;
		flow->created_jiffies = now;
		flow->last_seen_jiffies = now;
		/* An exchange, not a store: packets must not see the key, by which they find it, before the rest. */
		__sync_lock_test_and_set(&flow->hash, hash);
		flow->key = *key;
		stats->flows_created++;
		if (choice.tag)
			stats->flows_evicted++;
		/* Another exchange: readers must not see the tag before the entry. */
		__sync_lock_test_and_set(&tags->tag[way], vnic_place_tag(place));
		return set * VNIC_FLOW_WAYS + way;
	}
	stats->flow_table_busy++;
	return -1;
}

#endif
