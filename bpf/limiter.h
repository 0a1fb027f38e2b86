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
/* Egress delays a packet by no more than this; fq's own default horizon is 10 s. */
#define VNIC_SHAPE_HORIZON_TICKS (2000000000ULL << VNIC_TICKS_PER_NS_SHIFT)

/* In ticks. "packets" is above 1 for a GSO frame; bytes are those of all of them. */
static __always_inline __u64 vnic_packet_cost(const struct vnic_rule_action *action, __u32 packets, __u32 bytes)
{
	return packets * action->cost_per_packet + (bytes * action->cost_per_byte >> VNIC_COST_PER_BYTE_SHIFT);
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
static __always_inline __u64 vnic_recent_ns(struct vnic_cpu_stats *stats)
{
	__u32 jiffy = bpf_jiffies64();

	if (stats->clock_jiffy != jiffy || stats->clock_reuses >= VNIC_CLOCK_REUSES) {
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
 * The usual packet, in line: it need not wait even by a recent time, and nobody else charges in between. False: nothing
 * is charged, and vnic_limiter_take has to say.
 */
static __always_inline bool vnic_limiter_passes(__u64 *state, __u64 cost, __u64 tolerance,
						struct vnic_cpu_stats *stats)
{
	__u64 now = vnic_recent_ns(stats) << VNIC_TICKS_PER_NS_SHIFT, tat = READ_ONCE(*state), next;

	if (vnic_limiter_wait(tat, now, cost, tolerance, &next))
		return false;
	return likely(__sync_val_compare_and_swap(state, tat, next) == tat);
}

/* What a packet asks of a limiter. */
struct vnic_charge {
	__u64 cost;			/* ticks */
	__u64 tolerance;		/* ticks */
	__u64 patience;			/* ticks that the packet may be made to wait; 0 to police */
	__u64 now_ns;			/* in: the time, in a replay; out: the time that was decided on */
};

/*
 * Returns how long the packet has to wait, in ticks, and charges it unless that is above its
 * patience. What is dropped must not be charged, or an overload would go on to be paid for
 * after its end. A global function: verified once, loop and all.
 */
__noinline __u64 vnic_limiter_take(__u64 *state, struct vnic_charge *charge, struct vnic_cpu_stats *stats)
{
	__u64 tat, next, wait;
	int i;

	if (!state || !charge || !stats)
		return 0;
	if (!vnic_replay)
		charge->now_ns = vnic_exact_ns(stats);
	for (i = 0; i < VNIC_LIMITER_TRIES; i++) {
		tat = READ_ONCE(*state);
		wait = vnic_limiter_wait(tat, charge->now_ns << VNIC_TICKS_PER_NS_SHIFT, charge->cost,
					 charge->tolerance, &next);
		if (wait > charge->patience)
			return wait;
		if (likely(__sync_val_compare_and_swap(state, tat, next) == tat))
			return wait;
	}
	/* Others won each time: charge without asking, so that the rate still holds on average. */
	stats->limiter_contended++;
	__sync_fetch_and_add(state, charge->cost);
	return 0;
}

/*
 * More than any packets can have run up under these numbers: the burst, what shaping lets
 * wait, one packet of 64 KiB or 128 segments larger than the burst, and a second for
 * clocks that were read at different moments.
 */
static __always_inline __u64 vnic_limiter_most_debt(const struct vnic_rule_action *action)
{
	return action->tolerance + VNIC_SHAPE_HORIZON_TICKS + action->cost_per_byte + (action->cost_per_packet << 7) +
	       (1000000000ULL << VNIC_TICKS_PER_NS_SHIFT);
}

/*
 * A debt from before the rule was changed, run up at a lower rate, would block its packets
 * for as long as it took then: forget it.
 */
static __always_inline void vnic_limiter_forgive(const struct vnic_rule_action *action, __u64 *state, __u64 now_ns)
{
	__u64 now = now_ns << VNIC_TICKS_PER_NS_SHIFT;

	if (READ_ONCE(*state) > now + vnic_limiter_most_debt(action))
		WRITE_ONCE(*state, now);
}

#endif
