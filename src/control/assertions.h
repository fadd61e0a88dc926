/*
 * assertions: what Entra gives for callers' own tokens (`assertion: caller`). Private to control.
 *
 * One exchange at a time for each caller's token and credential, whichever workers ask; so many at
 * once for all. What came of it is kept: a credential until it or the caller's token ends, a
 * refusal for a while, so that a caller whom Entra does not know costs it one request now and then.
 * Of more than ASSERTIONS_KEPT callers the one that asked least recently is forgotten. A caller's
 * token is held while it is being exchanged and wiped then; what finds an entry is its digest.
 */
#ifndef DAGWARD_CONTROL_ASSERTIONS_H
#define DAGWARD_CONTROL_ASSERTIONS_H

#include "dagward/config/config.h"
#include "dagward/net/fetch.h"
#include "dagward/world/ports.h"
#include "source.h"

enum { ASSERTIONS_KEPT = 4096, ASSERTIONS_AT_ONCE = 64 };

struct assertions;

/* How an exchange ended; views for the callback only. */
struct assertion_result {
        unsigned index;
        const unsigned char *digest;
        struct credential *credential;  /* NULL: refused */
        enum assertion_refusal refusal; /* then */
        int64_t wait_ms;                /* refused: the same answer is given for so long */
        const char *why;                /* refused: for people */
        const char *cause;              /* refused: for any caller; NULL: nothing to say */
};

struct assertions_hooks {
        void (*settled)(void *owner, const struct assertion_result *result);
        void (*event)(void *owner, const char *name, const struct pair *detail, size_t n);
        void *owner;
};

struct assertions_counts {
        uint64_t obtained, failed; /* exchanges that ended so */
        uint64_t busy;             /* asks refused because too many exchanges ran */
        uint64_t replaced;
        size_t running, kept; /* now; kept: credentials */
};

/* `config` outlives it, or the next assertions_reconfigure. */
struct assertions *assertions_new(const struct config *config, struct fetcher *fetcher,
        uint64_t *generations, const struct assertions_hooks *hooks);
/* Cancels what runs, without a word. Harmless on NULL. */
void assertions_free(struct assertions *assertions);
/* Another configuration: cancels what runs, without a word, and keeps what credentials that are the
 * same in both have obtained. The old one still has to be there. */
void assertions_reconfigure(struct assertions *assertions, const struct config *config);
/* An ASK_ASSERTION. SOURCE_NEWER or SOURCE_NO: the answer is in it. SOURCE_WAIT: `settled` will
 * tell. Takes the token out of it. */
enum source_answer assertions_ask(struct assertions *assertions, struct ask *ask);
/* Writes a result into an ask that waits for it. */
void assertion_answer(struct ask *ask, const struct assertion_result *result);
void assertions_count(const struct assertions *assertions, struct assertions_counts *counts);

#endif
