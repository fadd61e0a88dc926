#include "dagward/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct arena_block {
        struct arena_block *older;
        size_t size; /* of data[] */
        size_t used;
        alignas(max_align_t) char data[];
};

void arena_init(struct arena *arena, size_t block_bytes, size_t ceiling)
{
        *arena = (struct arena){.block_bytes = block_bytes, .ceiling = ceiling};
}

static struct arena_block *block_add(struct arena *arena, size_t bytes)
{
        size_t size = bytes > arena->block_bytes ? bytes : arena->block_bytes;

        if (size > arena->ceiling - arena->held)
                size = bytes; /* near the ceiling: exactly what is needed, or nothing */
        if (size > arena->ceiling - arena->held)
                return NULL;
        struct arena_block *block = malloc(sizeof(*block) + size);
        if (!block)
                abort();
        *block = (struct arena_block){.older = arena->blocks, .size = size};
        arena->blocks = block;
        arena->held += size;
        return block;
}

/* Memory that is not cleared. */
static void *take(struct arena *arena, size_t bytes)
{
        struct arena_block *block = arena->blocks;
        size_t rounded = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);

        if (rounded < bytes)
                return NULL;
        if (!block || rounded > block->size - block->used)
                block = block_add(arena, rounded);
        if (!block)
                return NULL;
        void *memory = block->data + block->used;
        block->used += rounded;
        return memory;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
        void *memory = take(arena, bytes);

        if (memory)
                memset(memory, 0, bytes);
        return memory;
}

struct str arena_copy(struct arena *arena, struct str s)
{
        char *copy = take(arena, s.len + 1);

        if (!copy)
                return STR_NONE;
        if (s.len)
                memcpy(copy, s.ptr, s.len);
        copy[s.len] = '\0';
        return str_view(copy, s.len);
}

struct str arena_printf(struct arena *arena, const char *format, ...)
{
        va_list args, again;

        va_start(args, format);
        va_copy(again, args);
        int len = vsnprintf(NULL, 0, format, args);
        va_end(args);
        char *text = len < 0 ? NULL : take(arena, (size_t)len + 1);
        if (text)
                vsnprintf(text, (size_t)len + 1, format, again);
        va_end(again);
        return text ? str_view(text, (size_t)len) : STR_NONE;
}

static void release_until(struct arena *arena, struct arena_block *keep)
{
        while (arena->blocks && arena->blocks != keep) {
                struct arena_block *block = arena->blocks;
                arena->blocks = block->older;
                arena->held -= block->size;
                free(block);
        }
}

void arena_reset(struct arena *arena)
{
        struct arena_block *oldest = arena->blocks;

        while (oldest && oldest->older)
                oldest = oldest->older;
        if (oldest && oldest->size > arena->block_bytes)
                oldest = NULL; /* an outsized first block is not worth keeping */
        release_until(arena, oldest);
        if (oldest)
                oldest->used = 0;
}

void arena_clear(struct arena *arena)
{
        release_until(arena, NULL);
}
