/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The length of a frame, all of its buffers together. bpf_xdp_get_buff_len() is a call,
 * and a call is dear under return-stack mitigations; nearly all frames have one buffer,
 * and since 6.2 a program can look at the kernel's flag for that itself.
 */
#ifndef VNIC_FRAME_H
#define VNIC_FRAME_H

#include "compiler.h"

/* What is needed of include/net/xdp.h; offsets come from the running kernel's BTF. */
struct xdp_buff {
	__u32 flags;
} __attribute__((preserve_access_index));

enum {
	VNIC_XDP_FLAGS_HAS_FRAGS = 1,	/* BIT(0) of enum xdp_buff_flags */
};

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __attribute__((weak));

static __always_inline __u32 vnic_frame_bytes(struct xdp_md *ctx)
{
	struct xdp_buff *xdp;

	if (bpf_cast_to_kern_ctx) {
		xdp = bpf_cast_to_kern_ctx(ctx);
		if (likely(!(xdp->flags & VNIC_XDP_FLAGS_HAS_FRAGS)))
			return ctx->data_end - ctx->data;
	}
	return bpf_xdp_get_buff_len(ctx);
}

#endif
