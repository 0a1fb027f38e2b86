/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All maps. Sizes that depend on the machine or the device's configuration are
 * set by the loader before the object is loaded; those are given as 1 here.
 * Memory-mapped maps are read and written by user space without system calls.
 */
#ifndef VNIC_MAPS_H
#define VNIC_MAPS_H

#include "vnic_abi.h"

/* Set by the loader before load; the verifier removes what they rule out. */
const volatile __u32 vnic_flow_set_mask = 0;		/* number of sets - 1; a power of two less one */
const volatile __u32 vnic_flow_hash_keys[10] = {};	/* random, from control.hash_seed */
/* A second: a flow with more than one packet outlives singletons that are younger by up to this much. */
const volatile __u32 vnic_flow_protected_jiffies = 251;
/* Longer than a CPUMAP ring, or a TX queue, takes to be through with what it holds. */
const volatile __u32 vnic_residence_jiffies = 126;
const volatile __u32 vnic_poll_residence_jiffies = 4;	/* the same of a driver's poll, and of what GRO keeps of it */
const volatile __u32 vnic_tx_residence_jiffies = 6;
const volatile __u32 vnic_shape_residence_jiffies = 501;	/* the shaping horizon */
const volatile __u32 vnic_gro_hold_ns = 8000000;
const volatile __u32 vnic_cpu_count = 1;			/* elements of vnic_cpu_stats */
const volatile __u32 vnic_latency_sample_mask = 63;	/* one packet in mask + 1 is timed */
const volatile bool vnic_deliver_metadata = false;	/* leave struct vnic_meta before the frame */
/* So that the object's types say which version of the ABI it was built for. */
const volatile enum vnic_abi vnic_object_abi = VNIC_ABI_VERSION;
const volatile bool vnic_replay = false;		/* clock and lengths come from a capture */

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, VNIC_PROG_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} vnic_progs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_control);
} vnic_control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VNIC_TABLE_GENERATIONS * VNIC_TABLE_ROWS);
	__type(key, __u32);
	__type(value, struct vnic_table_row);
} vnic_table SEC(".maps");

/* Index: set * VNIC_FLOW_WAYS + way. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VNIC_FLOW_WAYS);
	__type(key, __u32);
	__type(value, struct vnic_flow);
} vnic_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_flow_set);
} vnic_flow_sets SEC(".maps");

/*
 * Inner maps are made by the loader, as large as the rule set needs. Sizes instead of
 * types: clang emits only a forward declaration for a type named in an inner map.
 */
struct vnic_rule_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct vnic_rule_key));
	__uint(value_size, sizeof(struct vnic_rule_entry));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, VNIC_RULE_SETS);
	__type(key, __u32);
	__array(values, struct vnic_rule_map);
} vnic_rules SEC(".maps");

/* Index: (set * VNIC_DIRECTIONS + direction) * VNIC_MAX_SHAPES + shape. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VNIC_RULE_SETS * VNIC_DIRECTIONS * VNIC_MAX_SHAPES);
	__type(key, __u32);
	__type(value, struct vnic_shape);
} vnic_shapes SEC(".maps");

/* Index: set * VNIC_DIRECTIONS + direction. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VNIC_RULE_SETS * VNIC_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct vnic_shape_count);
} vnic_shape_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_rule_action);
} vnic_rule_actions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_rule_state);
} vnic_rule_states SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_rule_cell);
} vnic_rule_cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct vnic_az_prefix);
	__type(value, struct vnic_az_index);
} vnic_az_prefixes SEC(".maps");

/* Index: CPU. The loader makes entries for the CPUs that queues use, each with vnic_cpu as its program. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} vnic_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_queue_stats);
} vnic_queue_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_cpu_stats);
} vnic_cpu_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_latency);
} vnic_latency SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} vnic_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_explanation);
} vnic_explanation SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_replay_frame);
} vnic_replay_frame SEC(".maps");

static __always_inline struct vnic_control *vnic_get_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&vnic_control, &zero);
}

/* Where vnic_control.tables has a table; the compiler would leave out the mask that the verifier needs. */
static __always_inline __u32 vnic_info_index(__u32 table)
{
	barrier_var(table);
	return table & (VNIC_TABLE_INFOS - 1);
}

static __always_inline struct vnic_table_info *vnic_get_table_info(struct vnic_control *control, __u32 table)
{
	return &control->tables[vnic_info_index(table)];
}

#endif
