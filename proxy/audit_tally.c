#include "audit_tally.h"

#include <assert.h>
#include <stdlib.h>

void tally_init(struct tally *tally, size_t most)
{
        size_t slots = 1;

        while (slots < 2 * most)
                slots *= 2;
        *tally = (struct tally){
                .rows = calloc(most, sizeof(*tally->rows)),
                .slots = calloc(slots, sizeof(*tally->slots)),
                .n_slots = slots,
                .most = most,
        };
        if (!tally->rows || !tally->slots)
                abort();
}

void tally_clear(struct tally *tally)
{
        for (size_t i = 0; i < tally->n; i++)
                free((char *)tally->rows[i].parts[0].ptr);
        free(tally->rows);
        free(tally->slots);
        *tally = (struct tally){0};
}

static uint64_t hash_parts(const struct str *parts, size_t n)
{
        uint64_t hash = 0xCBF29CE484222325u;

        for (size_t i = 0; i < n; i++) {
                for (size_t k = 0; k < parts[i].len; k++)
                        hash = (hash ^ (unsigned char)parts[i].ptr[k]) * 0x100000001B3u;
                hash = (hash ^ 0x100) * 0x100000001B3u;
        }
        return hash ^ hash >> 32;
}

static bool same(const struct tally_row *row, const struct str *parts, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!str_eq(row->parts[i], parts[i]))
                        return false;
        return true;
}

/* One piece of memory for all parts. */
static void keep(struct tally_row *row, const struct str *parts, size_t n)
{
        size_t len = 1;

        assert(n); /* the first one holds the memory */
        for (size_t i = 0; i < n; i++)
                len += parts[i].len;
        char *to = malloc(len);
        if (!to)
                abort();
        for (size_t i = 0; i < n; i++) {
                if (parts[i].len)
                        memcpy(to, parts[i].ptr, parts[i].len);
                row->parts[i] = str_view(to, parts[i].len);
                to += parts[i].len;
        }
}

static struct tally_row *row_of(struct tally *tally, const struct str *parts, size_t n)
{
        size_t at = hash_parts(parts, n) & (tally->n_slots - 1);

        for (; tally->slots[at]; at = (at + 1) & (tally->n_slots - 1))
                if (same(&tally->rows[tally->slots[at] - 1], parts, n))
                        return &tally->rows[tally->slots[at] - 1];
        if (tally->n == tally->most)
                return NULL;
        struct tally_row *row = &tally->rows[tally->n++];
        tally->slots[at] = (uint32_t)tally->n;
        keep(row, parts, n);
        row->first_ms = INT64_MAX;
        row->last_ms = INT64_MIN;
        return row;
}

struct tally_row *tally_count(
        struct tally *tally, const struct str *parts, size_t n, int64_t time_ms)
{
        struct tally_row *row = row_of(tally, parts, n);

        if (!row) {
                tally->left_out++;
                return NULL;
        }
        row->n++;
        if (time_ms < row->first_ms)
                row->first_ms = time_ms;
        if (time_ms > row->last_ms)
                row->last_ms = time_ms;
        return row;
}

struct tally_row *tally_effect(struct tally *tally, const struct str *parts, size_t n,
        int64_t time_ms, enum audit_effect effect)
{
        struct tally_row *row = tally_count(tally, parts, n, time_ms);

        if (!row)
                return NULL;
        row->allowed += effect == AUDIT_ALLOW;
        row->denied += effect == AUDIT_DENY;
        row->failed += effect == AUDIT_ERROR;
        return row;
}

static int by_name(const struct tally_row *a, const struct tally_row *b)
{
        for (size_t i = 0; i < TALLY_PARTS; i++) {
                int order = str_cmp(a->parts[i], b->parts[i]);
                if (order)
                        return order;
        }
        return 0;
}

static int by_count(const void *left, const void *right)
{
        const struct tally_row *a = left, *b = right;

        return a->n != b->n ? (a->n > b->n ? -1 : 1) : by_name(a, b);
}

static int by_time(const void *left, const void *right)
{
        const struct tally_row *a = left, *b = right;

        return a->first_ms != b->first_ms ? (a->first_ms < b->first_ms ? -1 : 1) : by_name(a, b);
}

void tally_sort_time(struct tally *tally)
{
        qsort(tally->rows, tally->n, sizeof(*tally->rows), by_time);
}

void tally_sort(struct tally *tally)
{
        qsort(tally->rows, tally->n, sizeof(*tally->rows), by_count);
}
