/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Bidirectional Forwarding Detection (RFC 5880), asynchronous mode, passive role: the sessions.
 * Each is kept by the peer's packets (bfd_packet.h) and by the watch's timer; user space only
 * says with whom.
 *
 * Each answer follows a packet, therefore this side cannot send faster than the peer: it
 * advertises the peer's rate where that is slower than its own.
 */
#ifndef VNIC_BFD_H
#define VNIC_BFD_H

#include "compiler.h"
#include "maps.h"

#define VNIC_BFD_SLOW_US 1000000	/* at least, while a session is not Up (section 6.8.3) */

enum {
	VNIC_BFD_POLL = 0x20,
	VNIC_BFD_FINAL = 0x10,
	VNIC_BFD_INDEPENDENT = 0x08,	/* of the control plane: a stopped daemon does not end the session */
	VNIC_BFD_AUTH = 0x04,
	VNIC_BFD_DEMAND = 0x02,
	VNIC_BFD_MULTIPOINT = 0x01,
};

/* How an AZ stands against the number of sessions that it needs. */
enum vnic_bfd_judgement {
	VNIC_BFD_REACHED = 0,		/* so many are up */
	VNIC_BFD_ENOUGH = 1,		/* fewer, but the others were never up or have been taken away by their peers */
	VNIC_BFD_SHORT = 2,		/* sessions that were up are down */
};

/* RFC 5880, section 4.1. */
struct vnic_bfd_packet {
	__u8 version_diag;
	__u8 state_flags;
	__u8 detect_mult;
	__u8 length;
	__be32 my_discr;
	__be32 your_discr;
	__be32 min_tx_us;
	__be32 min_rx_us;
	__be32 min_echo_rx_us;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VNIC_MAX_BFD_SESSIONS);
	__type(key, __u32);
	__type(value, struct vnic_bfd_session);
} vnic_bfd SEC(".maps");

static __always_inline __u32 vnic_max_u32(__u32 a, __u32 b)
{
	return a > b ? a : b;
}

/* The state machine of section 6.2. */
static __always_inline __u32 vnic_bfd_next_state(__u32 state, __u32 remote)
{
	if (remote == VNIC_BFD_ADMIN_DOWN)
		return VNIC_BFD_DOWN;
	if (state == VNIC_BFD_INIT)
		return remote == VNIC_BFD_DOWN ? VNIC_BFD_INIT : VNIC_BFD_UP;
	if (state == VNIC_BFD_UP)
		return remote == VNIC_BFD_DOWN ? VNIC_BFD_DOWN : VNIC_BFD_UP;
	if (remote == VNIC_BFD_DOWN)
		return VNIC_BFD_INIT;
	return remote == VNIC_BFD_INIT ? VNIC_BFD_UP : VNIC_BFD_DOWN;
}

/* Compare-and-swap, because a packet and the timer may come to different ends at once. */
static __always_inline bool vnic_bfd_change(struct vnic_bfd_session *session, __u32 state, __u32 next, __u32 diag,
					    __u64 now, __u64 heard_ns)
{
	if (__sync_val_compare_and_swap(&session->state, state, next) != state)
		return false;
	session->diag = diag;
	if (next == VNIC_BFD_UP) {
		session->up_since_ns = now;
		session->left = 0;
	} else if (state == VNIC_BFD_UP) {
		session->down_since_ns = now;
		session->silent_ns = now - heard_ns;
	}
	return true;
}

/* Takes what the packet says; true: the state is another one now. */
static __always_inline bool vnic_bfd_take(struct vnic_bfd_session *session, const struct vnic_bfd_packet *bfd, __u64 now)
{
	__u32 state = READ_ONCE(session->state), remote = bfd->state_flags >> 6, next, interval_us;
	__u64 heard_ns = session->last_rx_ns;

	session->remote_discr = bpf_ntohl(bfd->my_discr);
	session->remote_state = remote;
	session->remote_diag = bfd->version_diag & 31;
	session->remote_min_tx_us = bpf_ntohl(bfd->min_tx_us);
	session->remote_min_rx_us = bpf_ntohl(bfd->min_rx_us);
	session->remote_detect_mult = bfd->detect_mult;
	if (bfd->state_flags & VNIC_BFD_FINAL && session->polling) {
		session->polling = 0;
		session->agreed_min_rx_us = session->sent_min_rx_us;
	}
	if (state != VNIC_BFD_UP)
		session->agreed_min_rx_us = session->min_rx_us;
	/* A shorter interval counts when the peer knows it (section 6.8.3). */
	interval_us = vnic_max_u32(session->min_rx_us, session->agreed_min_rx_us);
	interval_us = vnic_max_u32(interval_us, session->remote_min_tx_us);
	session->detect_ns = (__u64)bfd->detect_mult * interval_us * 1000;
	if (remote == VNIC_BFD_ADMIN_DOWN)
		session->left = 1;
	/* Before the state: the timer looks at both. */
	WRITE_ONCE(session->last_rx_ns, now);
	__sync_fetch_and_add(&session->received, 1);
	next = vnic_bfd_next_state(state, remote);
	if (next == state)
		return false;
	return vnic_bfd_change(session, state, next, next == VNIC_BFD_DOWN ? VNIC_BFD_DIAG_NEIGHBOR : VNIC_BFD_DIAG_NONE,
			       now, heard_ns);
}

/*
 * Whether a packet is answered, and with which Desired Min TX Interval. A peer that sends
 * slower than it and we allow sets the rate, and then only what is far too early is not
 * answered: two systems that both answer must not answer each other without end. A faster
 * one is answered now and then, and the interval says how late that can be.
 */
static __always_inline bool vnic_bfd_is_due(const struct vnic_bfd_session *session, const struct vnic_bfd_packet *bfd,
					    bool changed, __u64 now, __u32 *min_tx_us)
{
	bool is_up = session->state == VNIC_BFD_UP;
	__u32 least_us = is_up ? session->min_tx_us : vnic_max_u32(session->min_tx_us, VNIC_BFD_SLOW_US);
	__u32 wanted_us = vnic_max_u32(least_us, session->remote_min_rx_us);
	__u32 peer_us = vnic_max_u32(session->remote_min_tx_us, session->min_rx_us);
	__u64 passed_ns = now - session->last_tx_ns, wait_ns;

	if (peer_us >= wanted_us) {
		*min_tx_us = peer_us;
		wait_ns = wanted_us * 500ULL;
	} else {
		*min_tx_us = wanted_us / 4 * 3 + peer_us;
		if (*min_tx_us < peer_us)
			*min_tx_us = 0xffffffff;
		wait_ns = wanted_us * 750ULL;	/* the most that jitter may take off (section 6.8.7) */
	}
	*min_tx_us = vnic_max_u32(*min_tx_us, least_us);
	if (bfd->state_flags & VNIC_BFD_POLL)
		return true;
	if (!session->remote_min_rx_us)
		return false;
	if (bfd->state_flags & VNIC_BFD_DEMAND && is_up && session->remote_state == VNIC_BFD_UP)
		return false;
	return changed || passed_ns >= wait_ns;
}

static __always_inline bool vnic_bfd_expire(struct vnic_bfd_session *session, __u64 now)
{
	__u32 state = READ_ONCE(session->state);
	__u64 heard_ns;

	if (!READ_ONCE(session->local_discr) || state < VNIC_BFD_INIT)
		return false;
	heard_ns = READ_ONCE(session->last_rx_ns);
	if ((__s64)(now - heard_ns) <= (__s64)session->detect_ns)
		return false;
	if (!vnic_bfd_change(session, state, VNIC_BFD_DOWN, VNIC_BFD_DIAG_EXPIRED, now, heard_ns))
		return false;
	session->remote_discr = 0;
	return true;
}

/* Takes down the sessions whose detection time is over; returns how many. For a timer, or any program. */
__noinline VNIC_LATCH_BEHIND_LOOP int vnic_bfd_check(__u64 now)
{
	struct vnic_bfd_session *session;
	__u32 index, key;
	int expired = 0;

	for (index = 0; index < VNIC_MAX_BFD_SESSIONS; index++) {
		key = index;
		session = bpf_map_lookup_elem(&vnic_bfd, &key);
		if (session && vnic_bfd_expire(session, now))
			expired++;
	}
	return expired;
}

/*
 * How the sessions of an AZ stand: enum vnic_bfd_judgement. A session that was never up, and one
 * whose peer went AdminDown until it is up again, count as neither up nor lost.
 */
__noinline VNIC_LATCH_BEHIND_LOOP int vnic_bfd_judge(__u32 row, __u32 needed)
{
	struct vnic_bfd_session *session;
	__u32 index, key, up = 0;
	bool is_lost = false;

	for (index = 0; index < VNIC_MAX_BFD_SESSIONS; index++) {
		key = index;
		session = bpf_map_lookup_elem(&vnic_bfd, &key);
		if (!session || !READ_ONCE(session->local_discr) || session->az != row)
			continue;
		if (READ_ONCE(session->state) == VNIC_BFD_UP)
			up++;
		else if (session->up_since_ns && !session->left)
			is_lost = true;
	}
	if (up >= needed)
		return VNIC_BFD_REACHED;
	return is_lost ? VNIC_BFD_SHORT : VNIC_BFD_ENOUGH;
}

#endif
