/*
 * arena: memory that dies together.
 *
 * One block, more when it is full, up to a ceiling; everything is released by arena_reset (keeps
 * the first block) or arena_clear. Used for one exchange, or for everything a file was parsed into.
 * Running into the ceiling is an answer (NULL); running out of the machine's memory aborts.
 */
#ifndef DAGWARD_BASE_ARENA_H
#define DAGWARD_BASE_ARENA_H

#include "dagward/base/str.h"

struct arena_block;

struct arena {
        struct arena_block *blocks; /* newest first; the oldest is the one that is kept */
        size_t block_bytes;         /* size of an ordinary block */
        size_t ceiling;             /* limit for the sum of all blocks, bytes */
        size_t held;                /* sum of all blocks now, bytes */
};

/* Prepares an empty arena that takes its first block at the first allocation. */
void arena_init(struct arena *arena, size_t block_bytes, size_t ceiling);
/* Zeroed memory, aligned for any type; NULL when the ceiling does not allow it. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* A copy with a NUL behind it (not counted); ptr is NULL when the ceiling does not allow it. */
struct str arena_copy(struct arena *arena, struct str s);
/* Formatted text, NUL behind it; ptr is NULL when the ceiling does not allow it. */
struct str arena_printf(struct arena *arena, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* Forgets all allocations, keeps one block for the next use. */
void arena_reset(struct arena *arena);
/* Forgets all allocations and gives all memory back. */
void arena_clear(struct arena *arena);

#endif
