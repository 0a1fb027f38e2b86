/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The watch: a timer that sees an AZ die and takes it out of use by itself, whatever the
 * daemon does. It knows an AZ's last sign of life from the packets of its prefixes and from
 * BFD. To act is to make the table active that user space prepared for this loss.
 */
#ifndef VNIC_WATCH_H
#define VNIC_WATCH_H

#include "bfd.h"
#include "compiler.h"
#include "maps.h"

#define VNIC_CLOCK_MONOTONIC 1
#define VNIC_TICK_MIN_NS 100000ULL
#define VNIC_TICK_MAX_NS 1000000000ULL
#define VNIC_NS_PER_MS 1000000ULL
/* The machine stood still, or this timer did: peers' packets of that time may still be waiting. */
#define VNIC_LATE_TICK_NS (8 * VNIC_NS_PER_MS)
#define VNIC_LATE_GRACE_NS (100 * VNIC_NS_PER_MS)
#define VNIC_VOUCHED_PARTS 4
#define VNIC_WATCH_ROWS (sizeof(((struct vnic_watch *)0)->azs) / sizeof(struct vnic_az_watch))

/* A timer keeps its map from being mapped, so it has one of its own. */
struct vnic_watch_timer {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_watch_timer);
} vnic_watch_timer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vnic_watch);
} vnic_watch SEC(".maps");

static __always_inline struct vnic_watch *vnic_get_watch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&vnic_watch, &zero);
}

/* Packets by AZ, over all CPUs. */
struct vnic_heard {
	__u64 packets[VNIC_TABLE_ROWS];
	__u64 all;
};

static long vnic_add_cpu(__u64 cpu, struct vnic_heard *heard)
{
	struct vnic_cpu_stats *stats = vnic_get_cpu_stats(cpu);
	__u32 row;

	if (!stats)
		return 1;
	for (row = 0; row < VNIC_TABLE_ROWS; row++) {
		heard->packets[row] += stats->az_packets[row];
		heard->all += stats->az_packets[row];
	}
	return 0;
}

/*
 * Silence that counts: a tick at which others were heard vouches for the time before it,
 * but not for more than a part of silence_ns, or the end of a stall would look like one.
 */
static __always_inline void vnic_count_quiet(struct vnic_az_watch *az, __u64 others, __u64 now)
{
	__u64 passed_ns = now - az->vouched_ns, most_ns = az->silence_ns / VNIC_VOUCHED_PARTS;

	if (others == az->others)
		return;
	az->quiet_ns += passed_ns < most_ns ? passed_ns : most_ns;
	az->vouched_ns = now;
}

static __always_inline void vnic_close_window(struct vnic_az_watch *az, __u64 now)
{
	if (az->window_packets < az->floor_packets)
		az->windows = 0;
	else if (az->windows < VNIC_WATCH_WINDOWS)
		az->windows++;
	az->last_window_packets = az->window_packets;
	az->window_ns = now;
	az->window_packets = 0;
}

/* Takes over what arrived since the last tick; true: an AZ that was busy has fallen silent. */
static __always_inline bool vnic_is_silent(struct vnic_az_watch *az, __u64 packets, __u64 others, __u64 now)
{
	__u64 heard = packets - az->packets, gap_ns = now - az->heard_ns;
	bool armed = az->windows >= VNIC_WATCH_WINDOWS;

	az->packets = packets;
	if (!heard) {
		vnic_count_quiet(az, others, now);
		az->others = others;
		if (!az->silence_ns || az->quiet_ns < az->silence_ns)
			return false;
		if (!armed)
			az->windows = 0;
		return armed;
	}
	if (armed && gap_ns > az->longest_gap_ns)
		az->longest_gap_ns = gap_ns;
	az->others = others;
	az->heard_ns = now;
	az->vouched_ns = now;
	az->quiet_ns = 0;
	if (gap_ns >= az->silence_ns) {
		az->window_ns = now;
		az->window_packets = 0;
	}
	az->window_packets += heard;
	if (now - az->window_ns >= az->silence_ns)
		vnic_close_window(az, now);
	return false;
}

/* True: enough sessions were up, and too many of them were lost. */
static __always_inline bool vnic_is_bfd_down(struct vnic_az_watch *az, __u32 row)
{
	__u32 judgement;

	if (!az->bfd_quorum)
		return false;
	judgement = vnic_bfd_judge(row, az->bfd_quorum);
	if (judgement == VNIC_BFD_REACHED)
		az->bfd_armed = 1;
	return judgement == VNIC_BFD_SHORT && az->bfd_armed;
}

static __always_inline __u64 *vnic_control_word(struct vnic_control *control)
{
	return (__u64 *)&control->active_table;
}

/* Low half first: BPF programs for big-endian machines are not built. */
static __always_inline __u64 vnic_pack_word(__u32 table, __u32 lost_azs)
{
	return table | (__u64)lost_azs << 32;
}

/* The switch: one compare-and-swap. If user space was faster, the next tick looks again. */
static __always_inline void vnic_lose_az(struct vnic_control *control, struct vnic_watch *watch,
					 struct vnic_az_watch *az, __u32 row, __u32 loss, __u64 now)
{
	__u64 word = READ_ONCE(*vnic_control_word(control));
	__u32 table = word, lost_azs = word >> 32 | 1U << (row - 1), next;
	struct vnic_table_info *info;

	if ((word >> 32 >> (row - 1) & 1) || table >= VNIC_TABLE_GENERATIONS)
		return;
	next = (vnic_get_table_info(control, table)->bank & (VNIC_STANDBY_BANKS - 1)) * VNIC_AZ_SETS +
	       (lost_azs & (VNIC_AZ_SETS - 1));
	barrier_var(next);
	next = READ_ONCE(control->standby[next & (VNIC_STANDBY_BANKS * VNIC_AZ_SETS - 1)]);
	if (next >= VNIC_TABLE_GENERATIONS) {
		az->refused = loss;
		return;
	}
	info = vnic_get_table_info(control, next);
	info->left_ns = 0;
	info->settle_until_ns = info->settle_ms ? now + info->settle_ms * VNIC_NS_PER_MS : 0;
	if (__sync_val_compare_and_swap(vnic_control_word(control), word, vnic_pack_word(next, lost_azs)) != word)
		return;
	vnic_get_table_info(control, table)->left_ns = now;
	az->loss = loss;
	az->refused = VNIC_LOSS_NONE;
	az->lost_ns = bpf_ktime_get_ns();
	az->lost_after_ns = az->heard_ns ? now - az->heard_ns : 0;
	az->table_before = table;
	az->table_after = next;
	az->lost_stale = watch->stale_since_ns != 0;
	/* Found dead once is enough: it must be heard again before it can be lost again. */
	az->windows = 0;
	az->bfd_armed = 0;
	az->losses++;
}

/* A global function: verified once, called for each AZ. */
__noinline int vnic_watch_az(__u32 row, __u64 packets, __u64 others, __u64 now, __u32 judge_bfd)
{
	struct vnic_control *control = vnic_get_control();
	struct vnic_watch *watch = vnic_get_watch();
	struct vnic_az_watch *az;
	bool is_silent;

	if (!control || !watch || row < 1 || row >= VNIC_TABLE_ROWS)
		return 0;
	/* The compiler would leave out the mask that the verifier needs. */
	barrier_var(row);
	az = &watch->azs[row & (VNIC_WATCH_ROWS - 1)];
	is_silent = vnic_is_silent(az, packets, others, now);
	if (is_silent)
		vnic_lose_az(control, watch, az, row, VNIC_LOSS_SILENCE, now);
	else if (judge_bfd && vnic_is_bfd_down(az, row))
		vnic_lose_az(control, watch, az, row, VNIC_LOSS_BFD, now);
	else
		az->refused = VNIC_LOSS_NONE;
	return 0;
}

/* What the daemon's heartbeat says, and what follows from it. */
static __always_inline void vnic_watch_daemon(struct vnic_control *control, struct vnic_watch *watch, __u64 now)
{
	__u64 heartbeat = READ_ONCE(watch->heartbeat_ns), word = READ_ONCE(*vnic_control_word(control));
	__u32 table = word, passed = watch->passed_table;
	bool stale = heartbeat && watch->deadman_ns && (__s64)(now - heartbeat) > (__s64)watch->deadman_ns;

	if (!stale) {
		watch->stale_since_ns = 0;
		if (passed == VNIC_NO_TABLE)
			return;
		/* Unless user space has made another table active. */
		if (table == VNIC_NO_TABLE)
			__sync_val_compare_and_swap(vnic_control_word(control), word, vnic_pack_word(passed, word >> 32));
		watch->passed_table = VNIC_NO_TABLE;
		return;
	}
	if (!watch->stale_since_ns)
		watch->stale_since_ns = now;
	if (watch->deadman != VNIC_DEADMAN_PASS || table == VNIC_NO_TABLE)
		return;
	watch->passed_table = table;
	__sync_val_compare_and_swap(vnic_control_word(control), word, vnic_pack_word(VNIC_NO_TABLE, word >> 32));
}

static int vnic_tick(void *map __attribute__((unused)), __u32 *key __attribute__((unused)),
		     struct vnic_watch_timer *element)
{
	struct vnic_control *control = vnic_get_control();
	struct vnic_watch *watch = vnic_get_watch();
	__u64 now = bpf_ktime_get_ns(), tick_ns, passed_ns;
	struct vnic_heard heard = {};
	__u32 row, judge_bfd;

	if (!watch || !control)
		return 0;
	passed_ns = watch->tick_at_ns ? now - watch->tick_at_ns : 0;
	tick_ns = watch->tick_ns < VNIC_TICK_MIN_NS ? VNIC_TICK_MIN_NS : watch->tick_ns;
	if (tick_ns > VNIC_TICK_MAX_NS)
		tick_ns = VNIC_TICK_MAX_NS;
	if (passed_ns > tick_ns + VNIC_LATE_TICK_NS)
		watch->late_ns = now;
	if (passed_ns > watch->longest_tick_ns)
		watch->longest_tick_ns = passed_ns;
	watch->tick_at_ns = now;
	watch->ticks++;

	vnic_watch_daemon(control, watch, now);
	bpf_loop(vnic_cpu_count, vnic_add_cpu, &heard, 0);
	judge_bfd = now - watch->late_ns > VNIC_LATE_GRACE_NS;
	if (judge_bfd)
		vnic_bfd_check(now);
	for (row = 1; row < VNIC_TABLE_ROWS; row++)
		vnic_watch_az(row, heard.packets[row], heard.all - heard.packets[row], now, judge_bfd);
	if (!READ_ONCE(watch->stop))
		bpf_timer_start(&element->timer, tick_ns, 0);
	return 0;
}

/* Run once by BPF_PROG_RUN; again, it gives the timer this program's callback. */
static __always_inline int vnic_handle_watch_start(void)
{
	struct vnic_watch *watch = vnic_get_watch();
	struct vnic_watch_timer *element;
	__u32 zero = 0;
	long error;

	element = bpf_map_lookup_elem(&vnic_watch_timer, &zero);
	if (!element || !watch)
		return -1;
	bpf_timer_init(&element->timer, &vnic_watch_timer, VNIC_CLOCK_MONOTONIC);
	error = bpf_timer_set_callback(&element->timer, vnic_tick);
	if (error)
		return error;
	watch->tick_at_ns = 0;
	return bpf_timer_start(&element->timer, VNIC_TICK_MIN_NS, 0);
}

#endif
