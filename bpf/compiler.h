/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VNIC_COMPILER_H
#define VNIC_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/*
 * For a function with a loop: keeps LLVM from laying out the loop so that its end falls through
 * into its head, which kernels before 6.8 refuse as a back-edge (Linux commit 10e14e9652bf).
 */
#define VNIC_LATCH_BEHIND_LOOP __attribute__((minsize))

/* Makes the compiler forget what it knows of a variable, so that a bounds check stays where the verifier needs it. */
#ifndef barrier_var
#define barrier_var(var) asm volatile("" : "+r"(var))
#endif

#endif
