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

/* Where its first byte of 0xFF stands, when all others are 0; BLOCK_BYTES: there is none. */
static inline size_t block_first(block b)
{
        uint64_t halves[2];

        memcpy(halves, &b, sizeof(halves));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        if (halves[0])
                return (size_t)__builtin_ctzll(halves[0]) / 8;
        return halves[1] ? 8 + (size_t)__builtin_ctzll(halves[1]) / 8 : BLOCK_BYTES;
#else
        size_t at = halves[0] | halves[1] ? 0 : BLOCK_BYTES;
        while (at < BLOCK_BYTES && !b[at])
                at++;
        return at;
#endif
}

#endif
