/*
 * inside: the ledger's own state, for the two files that it is made of. Private to trigger.
 *
 * ledger.c is the thread and its rules; passing.c is what it does when another process has the
 * journal.
 */
#ifndef DAGWARD_TRIGGER_INSIDE_H
#define DAGWARD_TRIGGER_INSIDE_H

#include <pthread.h>

#include "dagward/trigger/passed.h"
#include "dagward/trigger/table.h"
#include "store.h"

struct ledger {
        struct store store;
        struct trigger_table *table;
        struct mailbox *box;
        pthread_t thread;
        bool stop;
        struct mail *begun, **last_begun; /* asks that are FIRST once the journal is on disk */

        int heir_fd;      /* to the process that gets the journal; -1: there is none */
        int64_t heir_ms;  /* how long it may be silent while questions wait */
        int64_t heard_ms; /* monotonic; since when it is, or nothing was asked before */
        struct unsent *unsent, **last_unsent; /* what its socket has no room for */
        bool released;                        /* it has it, or nobody */
        int patience_ms;                      /* how long its lock is waited for when it has gone */
        char *path;                           /* of the journal, while it is released */
        struct mail *passed;                  /* asks that it has not answered */
};

/* --- ledger.c --- */
void ledger_answer(struct trigger_ask *ask, enum trigger_verdict verdict);
struct trigger_ask *ledger_next_in_line(struct trigger_entry *entry);
/* That request, of another process or of before, has the key in hand. */
void ledger_take_held(struct ledger *ledger, const struct trigger_key *key, const char *owner,
        bool looking, int64_t lost_ms);

/* --- passing.c --- */
/* Says what is in hand, and closes the journal. */
void ledger_release(struct ledger *ledger);
void ledger_pass_ask(struct ledger *ledger, struct trigger_ask *ask);
/* False: the other process is gone, the journal is here again, and this is yet to be told here. */
bool ledger_pass_tell(struct ledger *ledger, const struct trigger_key *key, const char *request_id,
        enum trigger_end end, const struct trigger_answer *answer);
/* Until when the thread may sleep, for poll(). */
int ledger_heir_wait_ms(const struct ledger *ledger);
/* What poll() said of the heir's socket: a message that is there, room for another, or the end. */
void ledger_heed_heir(struct ledger *ledger, short events);
/* When nobody is there any more: whether the journal is ours again. */
bool ledger_take_back(struct ledger *ledger) __attribute__((warn_unused_result));
void ledger_passing_end(struct ledger *ledger);

#endif
