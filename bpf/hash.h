/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow hash: MurmurHash3 x86_32 rounds over each endpoint, added so that both
 * directions of a connection have the same hash. src/steering/hash.ts is the same
 * function; a test runs the two against each other.
 */
#ifndef VNIC_HASH_H
#define VNIC_HASH_H

#include "compiler.h"
#include "vnic_abi.h"

static __always_inline __u32 vnic_rotl(__u32 x, int bits)
{
	return (x << bits) | (x >> (32 - bits));
}

static __always_inline __u32 vnic_hash_round(__u32 h, __u32 word)
{
	word *= 0xcc9e2d51;
	word = vnic_rotl(word, 15);
	word *= 0x1b873593;
	h ^= word;
	h = vnic_rotl(h, 13);
	return h * 5 + 0xe6546b64;
}

static __always_inline __u32 vnic_hash_le32(__u32 word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap32(word);
#else
	return word;
#endif
}

static __always_inline __u32 vnic_hash_endpoint(const struct vnic_addr *addr, __be16 port, __u32 seed)
{
	const __u32 *w = (const __u32 *)addr;
	__u32 h = seed;

	h = vnic_hash_round(h, vnic_hash_le32(w[0]));
	h = vnic_hash_round(h, vnic_hash_le32(w[1]));
	h = vnic_hash_round(h, vnic_hash_le32(w[2]));
	h = vnic_hash_round(h, vnic_hash_le32(w[3]));
	return vnic_hash_round(h, bpf_ntohs(port));
}

static __always_inline __u32 vnic_hash(const struct vnic_flow_key *key, __u32 seed)
{
	__u32 h = vnic_hash_endpoint(&key->src, key->sport, seed) + vnic_hash_endpoint(&key->dst, key->dport, seed) +
		  key->proto * 0x9e3779b1;

	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ (h >> 16);
}

#endif
