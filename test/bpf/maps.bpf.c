/* SPDX-License-Identifier: GPL-2.0-only */
/* One map of each kind and the programs that use them: the kernel's side of the map tests. */
#include <stddef.h>
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define SCRATCH_BYTES 4096

/* 12 bytes: the kernel puts elements 16 bytes apart. */
struct cell {
	__u32 input;
	__u32 output;
	__u16 weight;
	__u8 name[2];
};

struct total {
	__u64 hits;
};

/* What the test's packet holds behind the Ethernet header. */
struct request {
	__u32 count;		/* records to emit, at most 512 */
	__u32 bytes;		/* of each record, at least 4 */
	__u32 discard_every;	/* n: reserve and give up a record before every nth; 0: never */
} __attribute__((packed));

struct emitted {
	__u32 sequence;		/* of the next record; counts refused ones too */
	__u32 refused;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1000);
	__type(key, __u32);
	__type(value, struct cell);
} cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct total);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct cell);
	__type(value, struct total);
} described SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);		/* set by the test */
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct emitted);
} progress SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, SCRATCH_BYTES);
} scratch SEC(".maps");

/* Answers in the mapped array: output = input + 1 for cells 0 and 999. */
SEC("xdp")
int answer(struct xdp_md *ctx)
{
	__u32 keys[2] = {0, 999};

	(void)ctx;
	for (int i = 0; i < 2; i++) {
		struct cell *cell = bpf_map_lookup_elem(&cells, &keys[i]);

		if (cell)
			cell->output = cell->input + 1;
	}
	return XDP_PASS;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = 3;
	struct total *total = bpf_map_lookup_elem(&totals, &key);

	(void)ctx;
	if (total)
		total->hits++;
	return XDP_PASS;
}

SEC("xdp")
int emit(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct request *request = data + 14;
	__u32 zero = 0;
	struct emitted *emitted = bpf_map_lookup_elem(&progress, &zero);
	__u8 *bytes = bpf_map_lookup_elem(&scratch, &zero);

	if (!emitted || !bytes || (void *)(request + 1) > end)
		return XDP_ABORTED;
	__u32 count = request->count;
	__u32 every = request->discard_every;
	__u32 length = request->bytes & (SCRATCH_BYTES - 1);

	for (__u32 i = 0; i < 512; i++) {
		if (i >= count)
			break;
		if (every && i % every == 0) {
			void *unwanted = bpf_ringbuf_reserve(&ring, 20, 0);

			if (unwanted)
				bpf_ringbuf_discard(unwanted, 0);
		}
		*(__u32 *)bytes = emitted->sequence++;
		if (bpf_ringbuf_output(&ring, bytes, length, 0))
			emitted->refused++;
	}
	return XDP_PASS;
}

SEC("xdp")
int jump(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &targets, 1);
	return XDP_PASS;
}

SEC("xdp")
int landing(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

SEC("tc")
int other_type(struct __sk_buff *skb)
{
	(void)skb;
	return 0;
}

SEC("xdp/cpumap")
int on_cpu(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
