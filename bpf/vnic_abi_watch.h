/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The part of the binary interface that is about AZs and their signs of life; part of
 * vnic_abi.h, which says what holds for all of it.
 */
#ifndef VNIC_ABI_WATCH_H
#define VNIC_ABI_WATCH_H

/* Why the watch took an AZ out of use. */
enum vnic_loss {
	VNIC_LOSS_NONE = 0,
	VNIC_LOSS_SILENCE = 1,
	VNIC_LOSS_BFD = 2,
};

enum vnic_deadman {
	VNIC_DEADMAN_HOLD = 0,		/* go on with the tables that are there */
	VNIC_DEADMAN_PASS = 1,		/* packets pass unsteered until the daemon is back */
};

/*
 * One AZ as the watch sees it. A window is closed by the first packet after silence_ns;
 * an AZ is armed once VNIC_WATCH_WINDOWS windows in a row held floor_packets or more,
 * so that the silence of an idle AZ says nothing. Silence counts only while packets of
 * others arrive: if nothing does, it is this machine or its link that stands still.
 */
struct vnic_az_watch {
	/* Written by user space. */
	__u64 silence_ns;		/* 0: silence is not looked at */
	__u64 floor_packets;		/* in a window */
	__u32 bfd_quorum;		/* BFD sessions that must be up; 0: BFD is not looked at */
	__u32 pad;
	/* Written by the watch. */
	__u64 packets;			/* all that arrived from the AZ, up to the last tick */
	__u64 others;			/* packets that arrived from anywhere else */
	__u64 heard_ns;			/* the last tick that found new packets of the AZ; 0: none yet */
	__u64 vouched_ns;		/* the last tick that found new ones of the AZ or of others */
	__u64 quiet_ns;			/* silence that counts, since heard_ns */
	__u64 window_ns;		/* when the window began */
	__u64 window_packets;
	__u64 last_window_packets;	/* of the last window that was closed */
	__u64 longest_gap_ns;		/* between two ticks with packets while armed, since the watch began */
	__u32 windows;			/* in a row that were full enough */
	__u32 bfd_armed;		/* the quorum was reached since */
	__u32 loss;			/* enum vnic_loss: why it was taken out of use last */
	__u32 refused;			/* it is due, but there is no table for losing it; enum vnic_loss */
	__u64 lost_ns;			/* when it was taken out of use last */
	__u64 lost_after_ns;		/* how long nothing had been heard then */
	__u32 table_before;
	__u32 table_after;
	__u32 lost_stale;		/* 1: the daemon's heartbeat was stale then */
	__u32 losses;
};

/* The watch: a timer that looks at each AZ. One element, memory-mapped. */
struct vnic_watch {
	/* Written by user space. */
	__u64 tick_ns;
	__u64 heartbeat_ns;		/* CLOCK_MONOTONIC, by the daemon; 0: none is running */
	__u64 deadman_ns;		/* a heartbeat older than this is stale */
	__u32 deadman;			/* enum vnic_deadman */
	__u32 stop;			/* 1: the timer is not armed again */
	/* Written by the watch. */
	__u64 ticks;
	__u64 tick_at_ns;		/* of the last tick */
	__u64 longest_tick_ns;		/* between two ticks */
	__u64 late_ns;			/* when a tick was last found to be late */
	__u64 stale_since_ns;		/* 0: the heartbeat is fresh, or nobody's */
	__u32 passed_table;		/* that was active when VNIC_DEADMAN_PASS turned steering off; else VNIC_NO_TABLE */
	__u32 pad;
	struct vnic_az_watch azs[16];	/* by row, 1 to VNIC_MAX_AZS; a power of two that holds them */
};

enum vnic_watch_limits {
	VNIC_WATCH_WINDOWS = 8,
};

/* RFC 5880, section 4.1: as on the wire. */
enum vnic_bfd_state {
	VNIC_BFD_ADMIN_DOWN = 0,
	VNIC_BFD_DOWN = 1,
	VNIC_BFD_INIT = 2,
	VNIC_BFD_UP = 3,
};

enum vnic_bfd_diag {
	VNIC_BFD_DIAG_NONE = 0,
	VNIC_BFD_DIAG_EXPIRED = 1,	/* control detection time expired */
	VNIC_BFD_DIAG_ECHO = 2,
	VNIC_BFD_DIAG_NEIGHBOR = 3,	/* neighbour signalled session down */
	VNIC_BFD_DIAG_FORWARDING = 4,
	VNIC_BFD_DIAG_PATH = 5,
	VNIC_BFD_DIAG_CONCATENATED = 6,
	VNIC_BFD_DIAG_ADMIN = 7,
	VNIC_BFD_DIAG_REVERSE = 8,
};

/* Why a packet of a configured peer was dropped (RFC 5880, section 6.8.6, in its order). */
enum vnic_bfd_reject {
	VNIC_BFD_REJECT_TTL = 0,	/* one hop: not 255 (RFC 5881, section 5) */
	VNIC_BFD_REJECT_PORT = 1,	/* of one hop for a session of several, or the other way round */
	VNIC_BFD_REJECT_CHECKSUM = 2,
	VNIC_BFD_REJECT_VERSION = 3,
	VNIC_BFD_REJECT_LENGTH = 4,	/* below 24, or more than there is */
	VNIC_BFD_REJECT_DETECT_MULT = 5,	/* 0 */
	VNIC_BFD_REJECT_MULTIPOINT = 6,
	VNIC_BFD_REJECT_MY_DISCR = 7,	/* 0 */
	VNIC_BFD_REJECT_YOUR_DISCR = 8,	/* not ours, or 0 in a state that knows ours */
	VNIC_BFD_REJECT_AUTH = 9,	/* authenticated; no session is */
	VNIC_BFD_REJECT_SHAPE = 10,	/* the answer could not be put in its place */
	VNIC_BFD_REJECTS = 11,
};

/* A BFD session, asynchronous mode, passive role: times in microseconds as in the packets. */
struct vnic_bfd_session {
	/* Written by user space, local_discr last. */
	struct vnic_addr peer;
	__u32 local_discr;		/* 0: the session is free */
	__u32 min_tx_us;		/* the least Desired Min TX Interval */
	__u32 min_rx_us;		/* Required Min RX Interval */
	__u8 az;			/* row, 1 to VNIC_MAX_AZS */
	__u8 detect_mult;
	__u8 multihop;			/* 1: RFC 5883 */
	__u8 pad;
	/* Written by the programs. */
	__u32 state;			/* enum vnic_bfd_state */
	__u32 diag;			/* enum vnic_bfd_diag: why it left Up or Init last */
	__u32 left;			/* 1: the peer is AdminDown, or was and is not Up again */
	__u32 polling;			/* 1: P is set until an F comes */
	__u32 sent_min_tx_us;		/* in the last packet that was sent */
	__u32 sent_min_rx_us;
	__u32 agreed_min_rx_us;		/* that the peer has answered with F */
	__u32 remote_discr;		/* 0: unknown */
	__u32 remote_state;
	__u32 remote_diag;
	__u32 remote_min_tx_us;
	__u32 remote_min_rx_us;
	__u32 remote_detect_mult;
	__u32 pad2;
	__u64 last_rx_ns;		/* CLOCK_MONOTONIC of the last packet that was taken; 0: none yet */
	__u64 last_tx_ns;
	__u64 detect_ns;		/* detection time (section 6.8.4) */
	__u64 up_since_ns;		/* when it became Up last; 0: never */
	__u64 down_since_ns;		/* when it left Up last; 0: never */
	__u64 silent_ns;		/* how long nothing had been heard then */
	__u64 received;			/* packets that were taken */
	__u64 sent;
	__u64 rejected[11];		/* enum vnic_bfd_reject */
};

#endif
