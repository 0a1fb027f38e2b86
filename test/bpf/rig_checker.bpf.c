/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Behind the dataplane, at tc ingress: books every rig packet by flow, and drops it so
 * that the stack is not what is measured. Everything else goes on.
 */
#include "rig.h"

#define RIG_TC_OK 0
#define RIG_TC_SHOT 2
#define RIG_WINDOW 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rig_checker);
} rig_control SEC(".maps");

/* Index: flow. Not memory-mapped: the kernel refuses that for a map with locks. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rig_seen);
} rig_seen SEC(".maps");

/* Index: flow. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rig_expected);
} rig_expected SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rig_totals);
} rig_totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rig_slice);
} rig_slices SEC(".maps");

struct rig_arrival {
	__u64 sequence;
	__u64 now;
	__u64 transit;
	__u32 bytes;
	__u32 queue;			/* VNIC_NO_QUEUE if the dataplane did not say */
	__u32 cpu;
};

/* Under the flow's lock: while a flow moves, two CPUs book it. */
static __always_inline void rig_book_sequence(struct rig_seen *seen, __u64 sequence)
{
	__u64 ahead, age;

	if (sequence >= seen->next_sequence) {
		ahead = sequence - seen->next_sequence + 1;
		seen->window = ahead < RIG_WINDOW ? seen->window << ahead | 1 : 1;
		seen->missing += ahead - 1;
		seen->next_sequence = sequence + 1;
		return;
	}
	age = seen->next_sequence - 1 - sequence;
	if (age >= RIG_WINDOW) {
		seen->too_late++;
	} else if (seen->window >> age & 1) {
		seen->duplicates++;
		return;
	} else {
		seen->window |= 1ULL << age;
	}
	seen->reordered++;
	if (seen->missing)
		seen->missing--;
}

static __always_inline void rig_book_flow(struct rig_seen *seen, const struct rig_expected *expected,
					  const struct rig_arrival *arrival)
{
	__u64 queue = arrival->queue < VNIC_MAX_QUEUES ? 1ULL << (arrival->queue & (VNIC_MAX_QUEUES - 1)) : 0;
	__u64 cpu = 1ULL << (arrival->cpu & 63), now = arrival->now;

	bpf_spin_lock(&seen->lock);
	rig_book_sequence(seen, arrival->sequence);
	if (!seen->received)
		seen->first_ns = now;
	else if (now > seen->last_ns && now - seen->last_ns > seen->max_gap_ns)
		seen->max_gap_ns = now - seen->last_ns;
	seen->last_ns = now;
	seen->transit_ns += arrival->transit;
	seen->received++;
	seen->bytes += arrival->bytes;
	seen->queues |= queue;
	seen->cpus |= cpu;
	if (!queue)
		seen->no_metadata++;
	if (expected->queues && !(expected->queues & queue))
		seen->wrong_queue++;
	if (expected->cpus && !(expected->cpus & cpu))
		seen->wrong_cpu++;
	bpf_spin_unlock(&seen->lock);
}

static __always_inline void rig_book_slice(struct rig_totals *totals, __u32 group, const struct rig_arrival *arrival)
{
	struct rig_checker *control;
	struct rig_slice *slice;
	__u32 zero = 0, index;
	__u64 number;

	control = bpf_map_lookup_elem(&rig_control, &zero);
	if (!control || !control->start_ns || !control->slice_ns || arrival->now < control->start_ns)
		return;
	number = (arrival->now - control->start_ns) / control->slice_ns;
	if (number >= control->slices) {
		totals->beyond_slices++;
		return;
	}
	index = arrival->cpu * control->slices + number;
	slice = bpf_map_lookup_elem(&rig_slices, &index);
	if (!slice)
		return;
	slice->group_packets[group & (RIG_GROUPS - 1)]++;
	slice->group_bytes[group & (RIG_GROUPS - 1)] += arrival->bytes;
	if (arrival->queue < VNIC_MAX_QUEUES)
		slice->queue_packets[arrival->queue & (VNIC_MAX_QUEUES - 1)]++;
}

static __always_inline __u32 rig_metadata_queue(struct __sk_buff *skb)
{
	struct vnic_meta *meta = (void *)(long)skb->data_meta;

	if ((void *)(meta + 1) > (void *)(long)skb->data || meta->magic != VNIC_META_MAGIC)
		return VNIC_NO_QUEUE;
	return meta->queue;
}

SEC("tc")
int rig_check(struct __sk_buff *skb)
{
	struct rig_arrival arrival = { .bytes = skb->len, .cpu = bpf_get_smp_processor_id() };
	struct rig_expected *expected;
	struct rig_payload *payload;
	struct rig_totals *totals;
	struct rig_seen *seen;
	__u32 flow;

	payload = rig_find_payload((void *)(long)skb->data, (void *)(long)skb->data_end);
	if (!payload)
		return RIG_TC_OK;
	flow = payload->flow;
	arrival.sequence = payload->sequence;
	arrival.now = bpf_ktime_get_ns();
	arrival.transit = arrival.now - payload->time_ns;
	arrival.queue = rig_metadata_queue(skb);

	totals = bpf_map_lookup_elem(&rig_totals, &arrival.cpu);
	seen = bpf_map_lookup_elem(&rig_seen, &flow);
	expected = bpf_map_lookup_elem(&rig_expected, &flow);
	if (!totals)
		return RIG_TC_SHOT;
	if (!seen || !expected) {
		totals->unknown_flow++;
		return RIG_TC_SHOT;
	}
	rig_book_flow(seen, expected, &arrival);
	rig_book_slice(totals, expected->group, &arrival);
	totals->received++;
	totals->bytes += arrival.bytes;
	if (arrival.queue < VNIC_MAX_QUEUES) {
		totals->queue_packets[arrival.queue & (VNIC_MAX_QUEUES - 1)]++;
		totals->queue_bytes[arrival.queue & (VNIC_MAX_QUEUES - 1)] += arrival.bytes;
	}
	return RIG_TC_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
