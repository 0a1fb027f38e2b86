/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * GCRA, the virtual scheduling form (ATM Forum TM 4.1, section 4.4.2): one u64 of state,
 * the theoretical arrival time, advanced by compare-and-swap. No lock, no timer.
 * Times are ticks of 1/16 ns, so that the cost of a small packet at 100 Gbit/s is
 * still exact to 1 %.
 */
#ifndef VNIC_LIMITER_H
#define VNIC_LIMITER_H

#include "compiler.h"
#include "maps.h"

#define VNIC_LIMITER_TRIES 16
#define VNIC_CLOCK_REUSES 3

static __always_inline __u64 vnic_packet_cost(const struct vnic_rule_action *action, __u32 bytes)
{
	return action->cost_per_packet + (bytes * action->cost_per_byte >> VNIC_COST_PER_BYTE_SHIFT);
}

/*
 * How long after "now" a packet would conform, in ticks; 0: now. *next is the new
 * arrival time if it is sent. A packet larger than the burst conforms when nothing
 * is owed: it is charged in full, not blocked for ever.
 */
static __always_inline __u64 vnic_limiter_wait(__u64 tat, __u64 now, __u64 cost, __u64 tolerance, __u64 *next)
{
	__u64 start = tat > now ? tat : now;
	__u64 debt = start - now + (cost < tolerance ? cost : tolerance);

	*next = start + cost;
	return debt > tolerance ? debt - tolerance : 0;
}

/*
 * A time that is not later than now: the last precise reading, for at most three packets
 * and within one jiffy, else a new one. The precise clock costs as much as the rest of the
 * limiter twice over. An older "now" makes the limiter stricter, never laxer, so a packet
 * that would be dropped under it asks the precise clock. What it can give away: after idle
 * time, the credit of those three packets.
 */
static __always_inline __u64 vnic_recent_ns(struct vnic_cpu_stats *stats, bool *exact)
{
	__u32 jiffy = bpf_jiffies64();

	*exact = stats->clock_jiffy != jiffy || stats->clock_reuses >= VNIC_CLOCK_REUSES;
	if (*exact) {
		stats->clock_ns = bpf_ktime_get_ns();
		stats->clock_jiffy = jiffy;
		stats->clock_reuses = 0;
	} else {
		stats->clock_reuses++;
	}
	return stats->clock_ns;
}

static __always_inline __u64 vnic_exact_ns(struct vnic_cpu_stats *stats)
{
	stats->clock_reuses = 0;
	stats->clock_ns = bpf_ktime_get_ns();
	return stats->clock_ns;
}

/*
 * Charges a packet if it conforms, or always if "charge" is set. Returns the wait in ticks.
 * *now_ns is the time that was decided on.
 */
static __always_inline __u64 vnic_limiter_take(__u64 *state, __u64 cost, __u64 tolerance, bool charge,
					       struct vnic_cpu_stats *stats, const struct vnic_replay_frame *replay,
					       __u64 *now_ns)
{
	__u64 tat, next, wait;
	bool exact = true;
	int i;

	*now_ns = replay ? replay->time_ns : vnic_recent_ns(stats, &exact);
	for (i = 0; i < VNIC_LIMITER_TRIES; i++) {
		tat = READ_ONCE(*state);
		wait = vnic_limiter_wait(tat, *now_ns << VNIC_TICKS_PER_NS_SHIFT, cost, tolerance, &next);
		if (wait && !exact) {
			*now_ns = vnic_exact_ns(stats);
			exact = true;
			continue;
		}
		if (wait && !charge)
			return wait;
		if (likely(__sync_val_compare_and_swap(state, tat, next) == tat))
			return wait;
	}
	/* Others won each time: charge without asking, so that the rate still holds on average. */
	stats->limiter_contended++;
	__sync_fetch_and_add(state, cost);
	return 0;
}

#endif
