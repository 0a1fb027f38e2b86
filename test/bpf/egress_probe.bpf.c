/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs another tc program and shows what BPF_PROG_RUN does not give back of its work:
 * the queue that it chose stands in skb->mark afterwards.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define PROBE_NOT_RUN (-1000)

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} probed SEC(".maps");

char LICENSE[] SEC("license") = "GPL";

/* A tail call from a subprogram comes back here; the compiler must not think that it knows the result. */
static __attribute__((noinline)) int run_probed(struct __sk_buff *skb)
{
	volatile int result = PROBE_NOT_RUN;

	bpf_tail_call(skb, &probed, 0);
	return result;
}

SEC("tc")
int egress_probe(struct __sk_buff *skb)
{
	int result = run_probed(skb);

	skb->mark = skb->queue_mapping;
	return result;
}
