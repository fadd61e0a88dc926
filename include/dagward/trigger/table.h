/*
 * table: what is known of each trigger within the window. Memory and rules, no file and no thread.
 *
 *      (none) -begin-> RUNNING -answer-> ANSWERED
 *                      RUNNING -lose---> LOST -look-> LOOKING -answer-> ANSWERED
 *                                        LOST <-lose- LOOKING -renew--> RUNNING
 *                      RUNNING -release-> (none)
 */
#ifndef DAGWARD_TRIGGER_TABLE_H
#define DAGWARD_TRIGGER_TABLE_H

#include "dagward/trigger/journal.h"

enum trigger_state {
        TRIGGER_RUNNING,  /* somebody sends it, or is about to */
        TRIGGER_ANSWERED, /* the answer is in the journal */
        TRIGGER_LOST,     /* sent, outcome not known */
        TRIGGER_LOOKING,  /* somebody finds out what became of it */
};

/* What one caller has of the table. */
struct trigger_holder {
        struct trigger_holder *next; /* in its bucket */
        unsigned char caller[TRIGGER_DIGEST];
        size_t n; /* entries; never 0 */
};

/* One key. */
struct trigger_entry {
        struct trigger_entry *next;          /* in its bucket */
        struct trigger_entry *older, *newer; /* by `begun_ms` */
        struct trigger_key key;
        struct trigger_holder *holder; /* NULL: a journal of before does not say whose it is */
        enum trigger_state state;
        int64_t begun_ms; /* wall clock, of the first request */
        int64_t lost_ms;  /* LOST, LOOKING: since when nothing of it can be on its way any more */
        /* The same by clock_steady_ms: what ages are judged by. Wall times are for journals. */
        int64_t begun_steady_ms, lost_steady_ms;
        char id[TRIGGER_ID + 1];             /* of the first request: what marks its run */
        char owner[TRIGGER_ID + 1];          /* RUNNING, LOOKING: the request that has it in hand */
        char correlation_id[TRIGGER_ID + 1]; /* of the first request */
        uint64_t answer_at;                  /* ANSWERED: where its record stands in the journal */
        size_t answer_bytes;
        void *waiters; /* the ledger's */
};

struct trigger_table;

struct trigger_table *trigger_table_new(void);
void trigger_table_free(struct trigger_table *table);
size_t trigger_table_count(const struct trigger_table *table);
/* How many of them are that caller's. */
size_t trigger_table_held(
        const struct trigger_table *table, const unsigned char caller[TRIGGER_DIGEST]);
/* NULL: not known. */
struct trigger_entry *trigger_table_find(
        struct trigger_table *table, const unsigned char key[TRIGGER_DIGEST]);
/* A new entry, RUNNING, as the newest, begun at `now_ms` by both clocks; the key must not be
 * there. */
struct trigger_entry *trigger_table_add(
        struct trigger_table *table, const struct trigger_key *key, int64_t now_ms);
void trigger_table_remove(struct trigger_table *table, struct trigger_entry *entry);
/* Removes what began before `before_ms` (steady) and nobody has in hand. */
void trigger_table_expire(struct trigger_table *table, int64_t before_ms);
/* NULL: there is none. */
struct trigger_entry *trigger_table_oldest(const struct trigger_table *table);
/* What a record of the journal says, written at `at`, `bytes` long; false: it does not fit to what
 * was said before. */
bool trigger_table_replay(struct trigger_table *table, const struct trigger_record *record,
        uint64_t at, size_t bytes);
/* Everything has been replayed: what was in hand when the process ended is lost since `now_ms`, and
 * nothing has happened after it, whatever the clock of that time said. */
void trigger_table_recover(struct trigger_table *table, int64_t now_ms);

#endif
