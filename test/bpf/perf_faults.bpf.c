/* SPDX-License-Identifier: GPL-2.0-only */
/* XDP programs that answer what the kernel cannot do, and count how often: the reference for what tracepoints tell. */
#include "compiler.h"

char LICENSE[] SEC("license") = "GPL";

#define NO_SUCH_DEVICE 0x7ffffff0
#define NO_SUCH_ACTION 77

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} fault_count SEC(".maps");

static __always_inline int counted(int action)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&fault_count, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
	return action;
}

SEC("xdp")
int fault_aborted(struct xdp_md *ctx __attribute__((unused)))
{
	return counted(XDP_ABORTED);
}

SEC("xdp")
int fault_unknown(struct xdp_md *ctx __attribute__((unused)))
{
	return counted(NO_SUCH_ACTION);
}

SEC("xdp")
int fault_redirect(struct xdp_md *ctx __attribute__((unused)))
{
	return counted(bpf_redirect(NO_SUCH_DEVICE, 0));
}
