#include "dagward/trigger/table.h"

#include <stdlib.h>

enum { BUCKETS_FIRST = 1024 };

struct trigger_table {
        struct trigger_entry **buckets;
        struct trigger_holder *
                *holders; /* as many buckets: there are no more holders than entries */
        size_t n_buckets, n;
        struct trigger_entry *oldest, *newest;
};

static void take_buckets(struct trigger_table *table)
{
        table->buckets = calloc(table->n_buckets, sizeof(struct trigger_entry *));
        table->holders = calloc(table->n_buckets, sizeof(struct trigger_holder *));
        if (!table->buckets || !table->holders)
                abort();
}

struct trigger_table *trigger_table_new(void)
{
        struct trigger_table *table = calloc(1, sizeof(*table));

        if (!table)
                abort();
        table->n_buckets = BUCKETS_FIRST;
        take_buckets(table);
        return table;
}

void trigger_table_free(struct trigger_table *table)
{
        if (!table)
                return;
        while (table->oldest)
                trigger_table_remove(table, table->oldest);
        free(table->buckets);
        free(table->holders);
        free(table);
}

size_t trigger_table_count(const struct trigger_table *table)
{
        return table->n;
}

/* Any part of a digest is as good as a hash. */
static size_t place_of(
        const struct trigger_table *table, const unsigned char digest[TRIGGER_DIGEST])
{
        uint64_t hash;

        memcpy(&hash, digest, sizeof(hash));
        return (size_t)(hash & (table->n_buckets - 1));
}

static struct trigger_entry **bucket(
        const struct trigger_table *table, const unsigned char key[TRIGGER_DIGEST])
{
        return &table->buckets[place_of(table, key)];
}

/* --- who holds how many --- */

static struct trigger_holder *find_holder(
        const struct trigger_table *table, const unsigned char caller[TRIGGER_DIGEST])
{
        struct trigger_holder *holder = table->holders[place_of(table, caller)];

        while (holder && memcmp(holder->caller, caller, TRIGGER_DIGEST) != 0)
                holder = holder->next;
        return holder;
}

size_t trigger_table_held(
        const struct trigger_table *table, const unsigned char caller[TRIGGER_DIGEST])
{
        const struct trigger_holder *holder = find_holder(table, caller);

        return holder ? holder->n : 0;
}

static void put_holder(struct trigger_table *table, struct trigger_holder *holder)
{
        struct trigger_holder **slot = &table->holders[place_of(table, holder->caller)];

        holder->next = *slot;
        *slot = holder;
}

static struct trigger_holder *hold(struct trigger_table *table, const struct trigger_key *key)
{
        struct trigger_holder *holder;

        if (!trigger_caller_known(key))
                return NULL;
        holder = find_holder(table, key->caller);
        if (!holder) {
                holder = calloc(1, sizeof(*holder));
                if (!holder)
                        abort();
                memcpy(holder->caller, key->caller, TRIGGER_DIGEST);
                put_holder(table, holder);
        }
        holder->n++;
        return holder;
}

static void let_go(struct trigger_table *table, struct trigger_holder *holder)
{
        if (!holder || --holder->n)
                return;
        struct trigger_holder **link = &table->holders[place_of(table, holder->caller)];
        while (*link != holder)
                link = &(*link)->next;
        *link = holder->next;
        free(holder);
}

/* --- entries --- */

struct trigger_entry *trigger_table_find(
        struct trigger_table *table, const unsigned char key[TRIGGER_DIGEST])
{
        for (struct trigger_entry *entry = *bucket(table, key); entry; entry = entry->next)
                if (memcmp(entry->key.key, key, TRIGGER_DIGEST) == 0)
                        return entry;
        return NULL;
}

static void put(struct trigger_table *table, struct trigger_entry *entry)
{
        struct trigger_entry **slot = bucket(table, entry->key.key);

        entry->next = *slot;
        *slot = entry;
}

static void grow(struct trigger_table *table)
{
        struct trigger_holder **holders = table->holders;
        size_t n = table->n_buckets;

        free(table->buckets);
        table->n_buckets *= 2;
        take_buckets(table);
        for (struct trigger_entry *entry = table->oldest; entry; entry = entry->newer)
                put(table, entry);
        for (size_t i = 0; i < n; i++) {
                struct trigger_holder *next, *holder = holders[i];
                for (; holder; holder = next) {
                        next = holder->next;
                        put_holder(table, holder);
                }
        }
        free(holders);
}

struct trigger_entry *trigger_table_add(
        struct trigger_table *table, const struct trigger_key *key, int64_t now_ms)
{
        struct trigger_entry *entry = calloc(1, sizeof(*entry));

        if (!entry)
                abort();
        if (table->n >= table->n_buckets)
                grow(table);
        entry->key = *key;
        entry->holder = hold(table, key);
        entry->begun_ms = entry->begun_steady_ms = now_ms;
        entry->older = table->newest;
        if (table->newest)
                table->newest->newer = entry;
        else
                table->oldest = entry;
        table->newest = entry;
        put(table, entry);
        table->n++;
        return entry;
}

void trigger_table_remove(struct trigger_table *table, struct trigger_entry *entry)
{
        struct trigger_entry **link = bucket(table, entry->key.key);

        while (*link != entry)
                link = &(*link)->next;
        *link = entry->next;
        if (entry->older)
                entry->older->newer = entry->newer;
        else
                table->oldest = entry->newer;
        if (entry->newer)
                entry->newer->older = entry->older;
        else
                table->newest = entry->older;
        table->n--;
        let_go(table, entry->holder);
        free(entry);
}

void trigger_table_expire(struct trigger_table *table, int64_t before_ms)
{
        struct trigger_entry *entry = table->oldest;

        /* The few that are in hand do not keep those behind them. */
        while (entry && entry->begun_steady_ms < before_ms) {
                struct trigger_entry *newer = entry->newer;
                if (entry->state == TRIGGER_ANSWERED || entry->state == TRIGGER_LOST)
                        trigger_table_remove(table, entry);
                entry = newer;
        }
}

struct trigger_entry *trigger_table_oldest(const struct trigger_table *table)
{
        return table->oldest;
}

static void keep_id(char out[TRIGGER_ID + 1], struct str id)
{
        id = str_head(id, TRIGGER_ID);
        memcpy(out, id.ptr, id.len);
        out[id.len] = '\0';
}

bool trigger_table_replay(
        struct trigger_table *table, const struct trigger_record *record, uint64_t at, size_t bytes)
{
        struct trigger_entry *entry = trigger_table_find(table, record->key.key);

        switch (record->kind) {
        case TRIGGER_RECORD_BEGUN:
                /* The same key anew, when the first one's window was over: it begins again. */
                if (entry && memcmp(entry->id, record->id.ptr, TRIGGER_ID) != 0) {
                        trigger_table_remove(table, entry);
                        entry = NULL;
                }
                if (!entry)
                        entry = trigger_table_add(table, &record->key, record->time_ms);
                entry->state = TRIGGER_RUNNING;
                keep_id(entry->id, record->id);
                keep_id(entry->correlation_id, record->correlation_id);
                return true;
        case TRIGGER_RECORD_ANSWERED:
                if (!entry)
                        return false;
                entry->state = TRIGGER_ANSWERED;
                entry->answer_at = at;
                entry->answer_bytes = bytes;
                return true;
        case TRIGGER_RECORD_LOST:
                if (!entry)
                        return false;
                entry->state = TRIGGER_LOST;
                entry->lost_ms = entry->lost_steady_ms = record->time_ms;
                return true;
        case TRIGGER_RECORD_RELEASED:
                if (!entry)
                        return false;
                trigger_table_remove(table, entry);
                return true;
        }
        return false;
}

void trigger_table_recover(struct trigger_table *table, int64_t now_ms)
{
        for (struct trigger_entry *entry = table->oldest; entry; entry = entry->newer) {
                if (entry->begun_steady_ms > now_ms)
                        entry->begun_steady_ms = now_ms;
                if (entry->lost_steady_ms > now_ms)
                        entry->lost_steady_ms = now_ms;
                if (entry->state != TRIGGER_RUNNING)
                        continue;
                entry->state = TRIGGER_LOST;
                /* Whatever was on its way was so until the process ended, which is before now. */
                entry->lost_ms = entry->lost_steady_ms = now_ms;
        }
}
