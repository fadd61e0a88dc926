/*
 * block: sixteen bytes looked at together.
 *
 * A comparison of two blocks, or of a block with one byte, has 0xFF where it holds and 0 elsewhere;
 * such answers are put together with & and |. GCC's and Clang's vector extension: one or two
 * instructions on processors that have vectors, plain code elsewhere. Loads need no alignment.
 */
#ifndef DAGWARD_BASE_BLOCK_H
#define DAGWARD_BASE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { BLOCK_BYTES = 16 };

typedef unsigned char block __attribute__((vector_size(BLOCK_BYTES)));

static inline block block_load(const void *p)
{
        block b;

        memcpy(&b, p, sizeof(b));
        return b;
}

/* Any bit of it. */
static inline bool block_any(block b)
{
        uint64_t halves[2];

        memcpy(halves, &b, sizeof(halves));
        return (halves[0] | halves[1]) != 0;
}

/* Where the first byte of 0xFF of an answer stands; BLOCK_BYTES: it holds nowhere. */
static inline size_t block_first(block b)
{
#ifdef __SSE2__
        unsigned highest_bits = (unsigned)_mm_movemask_epi8((__m128i)b);
        return (size_t)__builtin_ctz(highest_bits | 1U << BLOCK_BYTES);
#else
        size_t at = block_any(b) ? 0 : BLOCK_BYTES;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        uint64_t halves[2];
        memcpy(halves, &b, sizeof(halves));
        if (at < BLOCK_BYTES)
                return halves[0] ? (size_t)__builtin_ctzll(halves[0]) / 8
                                 : 8 + (size_t)__builtin_ctzll(halves[1]) / 8;
#endif
        while (at < BLOCK_BYTES && !b[at])
                at++;
        return at;
#endif
}

/* Whether an answer holds anywhere. */
static inline bool block_holds(block b)
{
#ifdef __SSE2__
        return _mm_movemask_epi8((__m128i)b) != 0;
#else
        return block_any(b);
#endif
}

#endif
