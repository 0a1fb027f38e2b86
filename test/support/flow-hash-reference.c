// SPDX-License-Identifier: Apache-2.0
/*
 * The flow hash, written on top of the reference MurmurHash3_x86_32 over whole byte strings instead of single
 * rounds, to check the product's against. MurmurHash3 ends with h ^= length and the finaliser; both are undone here
 * by running the finaliser backwards.
 *
 * stdin:  records of 42 bytes: seed u32, sport u16, dport u16, proto u8, pad u8, src 16, dst 16; little endian
 * stdout: one hash a line, decimal
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t fmix(uint32_t h)
{
	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	h *= 0xc2b2ae35u;
	h ^= h >> 16;
	return h;
}

/* Inverse of an odd number modulo 2^32, by Newton's iteration. */
static uint32_t inverse(uint32_t odd)
{
	uint32_t x = odd;
	for (int i = 0; i < 5; i++)
		x *= 2 - odd * x;
	return x;
}

static uint32_t unfmix(uint32_t h)
{
	h ^= h >> 16;
	h *= inverse(0xc2b2ae35u);
	h ^= (h >> 13) ^ (h >> 26);
	h *= inverse(0x85ebca6bu);
	h ^= h >> 16;
	return h;
}

static uint32_t murmur3(const uint8_t *data, uint32_t length, uint32_t seed)
{
	uint32_t h = seed;
	for (uint32_t i = 0; i + 4 <= length; i += 4) {
		uint32_t k;
		memcpy(&k, data + i, 4);
		k *= 0xcc9e2d51u;
		k = k << 15 | k >> 17;
		k *= 0x1b873593u;
		h ^= k;
		h = h << 13 | h >> 19;
		h = h * 5 + 0xe6546b64u;
	}
	return fmix(h ^ length);
}

static uint32_t endpoint(const uint8_t *addr, uint16_t port, uint32_t seed)
{
	uint8_t message[20] = {0};
	memcpy(message, addr, 16);
	message[16] = port & 0xff;
	message[17] = port >> 8;
	return unfmix(murmur3(message, sizeof(message), seed)) ^ sizeof(message);
}

int main(void)
{
	uint8_t r[42];
	while (fread(r, sizeof(r), 1, stdin) == 1) {
		uint32_t seed;
		uint16_t sport, dport;
		memcpy(&seed, r, 4);
		memcpy(&sport, r + 4, 2);
		memcpy(&dport, r + 6, 2);
		uint32_t sum = endpoint(r + 10, sport, seed) + endpoint(r + 26, dport, seed);
		printf("%u\n", fmix(sum + r[8] * 0x9e3779b1u));
	}
	return 0;
}
