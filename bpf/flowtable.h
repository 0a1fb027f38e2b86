/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow table: set-associative, in two memory-mapped arrays. The kernel's LRU hash
 * costs about 40 ns a look-up here, this one about 12 (docs/adr/0006), and user space
 * reads it without system calls.
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

/* Set and tag of a key in one word, so that it travels in a register. */
typedef __u64 vnic_flow_place_t;

static __always_inline __u32 vnic_place_set(vnic_flow_place_t place)
{
	return (place >> 32) & vnic_flow_set_mask;
}

static __always_inline __u32 vnic_place_tag(vnic_flow_place_t place)
{
	return (__u32)place | 2;	/* neither free nor busy */
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

static __always_inline struct vnic_flow *vnic_find_flow(const struct vnic_flow_key *key,
							vnic_flow_place_t place)
{
	__u32 set = vnic_place_set(place), tag = vnic_place_tag(place), way;
	struct vnic_flow_set *tags = bpf_map_lookup_elem(&vnic_flow_sets, &set);
	struct vnic_flow *flow;

	if (unlikely(!tags))
		return NULL;
	for (way = 0; way < VNIC_FLOW_WAYS; way++) {
		if (tags->tag[way] != tag)
			continue;
		flow = vnic_flow_entry(set, way);
		if (likely(flow && vnic_same_key(&flow->key, key)))
			return flow;
	}
	return NULL;
}

/* The way to use for a new flow: a free one, else the one that was idle longest. */
static __always_inline __u32 vnic_choose_way(const struct vnic_flow_set *tags, __u32 set, __u32 *tag)
{
	__u32 way, best = VNIC_FLOW_WAYS, seen;
	__u64 oldest = ~0ULL, age;
	struct vnic_flow *flow;

	for (way = 0; way < VNIC_FLOW_WAYS; way++) {
		seen = READ_ONCE(tags->tag[way]);
		if (!seen) {
			*tag = 0;
			return way;
		}
		flow = vnic_flow_entry(set, way);
		if (seen == VNIC_FLOW_TAG_BUSY || !flow)
			continue;
		age = flow->last_seen_jiffies;
		if (flow->packets > 1)
			age += vnic_flow_protected_jiffies;
		if (age < oldest) {
			oldest = age;
			best = way;
			*tag = seen;
		}
	}
	return best;
}

/* An entry for a key that was not found, written but for verdict and hash; NULL if others win all tries. */
static __always_inline struct vnic_flow *vnic_enter_flow(const struct vnic_flow_key *key,
							 vnic_flow_place_t place, __u64 verdict,
							 __u32 hash, struct vnic_cpu_stats *stats)
{
	__u32 set = vnic_place_set(place), way, seen = 0;
	struct vnic_flow_set *tags = bpf_map_lookup_elem(&vnic_flow_sets, &set);
	__u64 now = bpf_jiffies64();
	struct vnic_flow *flow;
	int i;

	if (!tags)
		return NULL;
	for (i = 0; i < VNIC_FLOW_CLAIM_TRIES; i++) {
		way = vnic_choose_way(tags, set, &seen);
		if (way >= VNIC_FLOW_WAYS)
			break;
		if (__sync_val_compare_and_swap(&tags->tag[way], seen, VNIC_FLOW_TAG_BUSY) != seen) {
			/* Lost the way: perhaps to the same flow's packet on another CPU. */
			flow = vnic_find_flow(key, place);
			if (flow)
				return flow;
			continue;
		}
		flow = vnic_flow_entry(set, way);
		if (!flow)
			break;
		__builtin_memset(flow, 0, sizeof(*flow));
		flow->key = *key;
		flow->verdict = verdict;
		flow->hash = hash;
		flow->queue = VNIC_NO_QUEUE;
		flow->created_jiffies = now;
		flow->last_seen_jiffies = now;
		stats->flows_created++;
		if (seen)
			stats->flows_evicted++;
		/* An exchange, not a store: readers must not see the tag before the entry. */
		__sync_lock_test_and_set(&tags->tag[way], vnic_place_tag(place));
		return flow;
	}
	return NULL;
}

#endif
