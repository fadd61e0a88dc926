/*
 * heir: writes down what the requests of a process that ends have done.
 *
 * That process has handed its audit log and its journal of triggers over; two threads here receive
 * what it goes on to say of them and pass it to the scribe and the ledger of this one. A trigger
 * that it had in hand when it went is lost, as after a crash.
 */
#ifndef DAGWARD_PROXY_HEIR_H
#define DAGWARD_PROXY_HEIR_H

#include "dagward/audit/scribe.h"
#include "dagward/trigger/ledger.h"

struct heir;

/* Waits, for `limit_ms` at most, until the other process has let go of both files; the descriptors
 * are the heir's from now on. NULL with a reason. */
struct heir *heir_new(int audit_fd, int triggers_fd, int64_t limit_ms, struct error *err);
/* Tells the ledger (NULL: there is none) what the other has in hand, and starts the threads. When
 * the other has gone and all it had to say is written, or heir_stop came first, `gone` is posted to
 * `box`; both outlive the heir. */
bool heir_start(struct heir *heir, struct scribe *scribe, struct ledger *ledger,
        struct mailbox *box, struct mail *gone, struct error *err)
        __attribute__((warn_unused_result));
/* Whether the other process is still there. From any thread. */
bool heir_is_needed(const struct heir *heir);
/* Ends the threads, before scribe and ledger are closed; the other process has its files back.
 * Harmless on NULL. */
void heir_stop(struct heir *heir);
/* After both are closed. Harmless on NULL. */
void heir_free(struct heir *heir);

#endif
