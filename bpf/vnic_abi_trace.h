/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A part of vnic_abi.h, which includes it: what the tracepoint programs of
 * vnic_trace.bpf.c and vnic_socket.bpf.c count. They are loaded by the daemon, live
 * as long as it, and share no map with the dataplane.
 */
#ifndef VNIC_ABI_TRACE_H
#define VNIC_ABI_TRACE_H

enum vnic_trace_limits {
	VNIC_TRACE_DEVICES = 64,	/* devices that can be traced at the same time */
};

enum vnic_socket_limits {
	VNIC_SOCKET_PLACES = 16,	/* devices whose time to the socket can be measured at the same time */
};

enum vnic_socket_proto {
	VNIC_SOCKET_TCP,
	VNIC_SOCKET_UDP,
	VNIC_SOCKET_PROTOS,
};

/* Why a redirected packet was dropped: the error that the kernel traced. */
enum vnic_redirect_error {
	VNIC_REDIRECT_RING_FULL,	/* ENOSPC: generic XDP found the CPU's ring full */
	VNIC_REDIRECT_NO_TARGET,	/* EINVAL, ENOENT */
	VNIC_REDIRECT_NO_HEADROOM,	/* EOVERFLOW: no room for the frame's description */
	VNIC_REDIRECT_DEVICE_DOWN,	/* ENETDOWN */
	VNIC_REDIRECT_TOO_LARGE,	/* EMSGSIZE */
	VNIC_REDIRECT_NOT_SUPPORTED,	/* EOPNOTSUPP */
	VNIC_REDIRECT_NO_MEMORY,	/* ENOMEM */
	VNIC_REDIRECT_OTHER,
	VNIC_REDIRECT_ERRORS,
};

/* What a program answered when the kernel traced an exception; the first five are enum xdp_action. */
enum vnic_exception {
	VNIC_EXCEPTION_ABORTED,
	VNIC_EXCEPTION_DROP,
	VNIC_EXCEPTION_PASS,
	VNIC_EXCEPTION_TX,
	VNIC_EXCEPTION_REDIRECT,
	VNIC_EXCEPTION_UNKNOWN,		/* no action at all */
	VNIC_EXCEPTIONS,
};

/* A network device of the machine. */
struct vnic_trace_netdev {
	__u32 netns;			/* inode number of its network namespace */
	__u32 ifindex;
};

struct vnic_trace_slot {
	__u32 slot;			/* 0 to VNIC_TRACE_DEVICES - 1 */
};

/* One device on one CPU. Index: slot * CPUs + CPU. */
struct vnic_trace_device {
	/* Of this CPU's ring, whoever put packets into it. */
	__u64 enqueued;			/* counted with vnic_trace_all only */
	__u64 ring_full_drops;
	/* Of the thread behind the ring. */
	__u64 taken;			/* counted with vnic_trace_all only */
	__u64 no_memory_drops;
	__u64 rounds;			/* counted with vnic_trace_all only */
	__u64 sleeps;			/* rounds before which it had nothing to do; with vnic_trace_all only */
	/* What this CPU did. */
	__u64 polls;
	__u64 polled_packets;
	__u64 exhausted_polls;		/* those that used their whole budget */
	__u64 redirect_errors[8];	/* by enum vnic_redirect_error */
	__u64 exceptions[6];		/* by enum vnic_exception */
};

/* Soft interrupts NET_RX of one CPU, of all devices. Index: CPU. */
struct vnic_trace_softirq {
	__u64 runs;
	__u64 time_ns;
	__u64 began_ns;			/* 0: none runs */
};

_Static_assert(sizeof(struct vnic_trace_netdev) == 8, "a map key");
_Static_assert(sizeof(struct vnic_trace_device) == (9 + VNIC_REDIRECT_ERRORS + VNIC_EXCEPTIONS) * 8, "a map value");

#endif
