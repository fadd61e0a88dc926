/*
 * ledger: the one place that knows which triggers have been sent.
 *
 * A thread that owns the table and its journal. Workers ask it before a trigger is sent, and tell
 * it what came of it; all by mail, nobody waits but in a mailbox. A request whose key somebody else
 * has in hand is answered when that one has told. Who was told TRIGGER_FIRST or TRIGGER_LOOK has
 * the key in hand and must tell, whatever happens: an answer, that it is lost, or that nothing was
 * started. What is in hand when the process dies is lost at the next start.
 *
 * Everything but ledger_open and ledger_close may be called from any thread and never waits.
 */
#ifndef DAGWARD_TRIGGER_LEDGER_H
#define DAGWARD_TRIGGER_LEDGER_H

#include "dagward/base/error.h"
#include "dagward/base/mailbox.h"
#include "dagward/trigger/journal.h"

struct ledger;

/* Opens the journal (made with mode 0600 when it is not there) and takes its lock, reads it, starts
 * the thread. NULL with a reason: no access, another process has it, it is damaged or no journal.
 */
struct ledger *ledger_open(const char *path, struct error *err) __attribute__((warn_unused_result));
/* Does what was posted before, answers those that still wait with TRIGGER_BROKEN, ends the thread.
 * Mailboxes named in asks must outlive it. Harmless on NULL. */
void ledger_close(struct ledger *ledger);

enum trigger_verdict {
        TRIGGER_FIRST,  /* nobody has sent it: it is on disk that you will */
        TRIGGER_REPLAY, /* `answer` is the first one's */
        TRIGGER_LOOK,   /* it was sent, and nobody knows what came of it: find out */
        TRIGGER_OTHER,  /* the key was used for another request */
        TRIGGER_FULL,   /* as many triggers as may be kept are within the window */
        TRIGGER_SHARE,  /* the asker's caller has at least as many of them as are free */
        TRIGGER_BROKEN, /* the journal cannot be written or read */
};

/* The first answer, with the texts it views. malloc'd by trigger_answer_keep; free() it. */
struct trigger_answer *trigger_answer_keep(const struct trigger_answer *answer);

/* A question before sending. malloc'd; the asker's again when `answered` runs on the thread of
 * `reply_to`. */
struct trigger_ask {
        struct mail mail;
        struct trigger_key key;
        char request_id[TRIGGER_ID + 1], correlation_id[TRIGGER_ID + 1]; /* of the asker */
        bool renew; /* it was looked for and is not there: it is to be sent after all */
        int64_t window_ms;
        size_t most; /* entries */
        struct mailbox *reply_to;
        void (*answered)(struct mail *mail, void *receiver);
        /* the answer */
        enum trigger_verdict verdict;
        char first_id[TRIGGER_ID + 1], first_correlation_id[TRIGGER_ID + 1];
        int64_t begun_ms, lost_ms, lost_steady_ms;
        struct trigger_answer *answer; /* REPLAY; free() it */
};

void ledger_ask(struct ledger *ledger, struct trigger_ask *ask);
/* Nobody waits any more for the answer to what `request_id` asked: if it stands in line behind
 * another request, it is answered at once, with TRIGGER_BROKEN. */
void ledger_withdraw(struct ledger *ledger, const struct trigger_key *key, const char *request_id);

enum trigger_end {
        TRIGGER_ENDED,       /* `answer` came */
        TRIGGER_ENDED_LOST,  /* sent, or perhaps sent, and no telling what came of it */
        TRIGGER_NOT_STARTED, /* nothing was sent, or upstream said no */
};

/* What came of a trigger that `request_id` has in hand. Copies `answer` (NULL unless ENDED). */
void ledger_tell(struct ledger *ledger, const struct trigger_key *key, const char *request_id,
        enum trigger_end end, const struct trigger_answer *answer);

/* --- two processes --- */

/* The journal goes to another process, at the other end of `fd` (a SOCK_SEQPACKET socket, the
 * ledger's from now on): the other is told what is in hand here, the journal is closed, and
 * questions and answers are passed on (passed.h). When it goes away, or leaves questions unanswered
 * for `limit_ms` and never had the lock, the journal is taken back. */
void ledger_hand_over(struct ledger *ledger, int fd, int64_t limit_ms);
/* A request of the other process has that key in hand, which the journal knows, and will tell;
 * `looking`: it finds out what became of what is lost since `lost_ms`. */
void ledger_hold(struct ledger *ledger, const struct trigger_key *key, const char *request_id,
        bool looking, int64_t lost_ms);

#endif
