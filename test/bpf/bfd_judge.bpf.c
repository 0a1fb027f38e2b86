/* SPDX-License-Identifier: GPL-2.0-only */
/* What the watch's timer asks of the sessions, at a moment that the test chooses: a timer cannot be run by itself. */
#include "compiler.h"
#include "bfd.h"

char LICENSE[] SEC("license") = "GPL";

struct question {
	__u64 now_ns;
	__u32 row;
	__u32 needed;
};

/* The frame begins with the question. Returns how many sessions expired, times 16, and the judgement. */
SEC("xdp")
int bfd_judge(struct xdp_md *ctx)
{
	struct question *question = (void *)(long)ctx->data;
	__u32 row, needed;
	__u64 now_ns;

	if ((void *)(question + 1) > (void *)(long)ctx->data_end)
		return -1;
	now_ns = question->now_ns;
	row = question->row;
	needed = question->needed;
	return vnic_bfd_check(now_ns) << 4 | vnic_bfd_judge(row, needed);
}
