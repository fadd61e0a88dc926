/*
 * takeover: the place of a process that serves, taken by this one.
 *
 * The other side is control's (src/control/handover.h has the words); it goes on serving whatever
 * fails here.
 */
#ifndef DAGWARD_PROXY_TAKEOVER_H
#define DAGWARD_PROXY_TAKEOVER_H

#include "dagward/net/inherited.h"

struct takeover {
        int64_t limit_ms; /* how long the other process may be silent; set before all else */
        int peer;         /* the process that serves; -1: there is none */
        int listen;       /* where the next process asks us */
        int audit, triggers;
};

/* Asks the process behind `path` for its sockets; where there is none, listens there. */
bool takeover_begin(struct takeover *takeover, const char *path, struct inherited *sockets,
        struct error *err) __attribute__((warn_unused_result));
/* Whether SIGTERM or SIGINT waits, both of which are blocked: who is told to end before it serves
 * takes no place, or nobody would serve. */
bool takeover_is_called_off(void);
/* Says so; false if it is. */
bool takeover_goes_on(struct error *err) __attribute__((warn_unused_result));
/* Everything else is ready: gets the ends of the channels for audit log and triggers. */
bool takeover_get_files(struct takeover *takeover, struct error *err)
        __attribute__((warn_unused_result));
/* This process serves; the other one ends. */
void takeover_finish(struct takeover *takeover);
/* It does not, and says why; nothing happens if nothing was begun, or all is finished. */
void takeover_fail(struct takeover *takeover, const char *why);

#endif
