/*
 * worker: one of the N threads that answer requests.
 *
 * Owns an event loop, a listener per configured address, its clients, their exchanges, a pool of
 * upstream connections and a cache of verified tokens. Never waits: what takes time is asked of
 * control or the scribe by mail. src/worker/exchange.c is where a request's way can be read.
 */
#ifndef DAGWARD_WORKER_WORKER_H
#define DAGWARD_WORKER_WORKER_H

#include "dagward/audit/scribe.h"
#include "dagward/net/inherited.h"
#include "dagward/net/listener.h"
#include "dagward/trigger/ledger.h"
#include "dagward/world/ports.h"
#include "dagward/world/world.h"

struct budget;
struct worker;

/* Binds the listeners of `world`'s configuration (takes a reference of its own) but starts nothing;
 * if sockets were inherited, none is bound and each address must have one. `first` is the worker
 * whose ports are shared where the configuration says port 0, NULL for that one itself; `number`
 * counts from 0. NULL with a reason when an address cannot be had. */
struct worker *worker_new(unsigned number, unsigned n_workers, const struct worker *first,
        struct world *world, struct inherited *inherited, struct control_port control,
        struct error *err);
/* Where it listens for the listener of that index, as in listener_text; before it drains. */
void worker_address(const struct worker *worker, size_t listener, char text[LISTENER_TEXT]);
/* Names who writes its records, who knows of triggers (NULL: nobody), and what all workers count
 * together; before worker_start. */
void worker_attach(
        struct worker *worker, struct scribe *scribe, struct ledger *ledger, struct budget *budget);
struct worker_port worker_port(struct worker *worker);
/* The sockets it listens on, until it drains; how many. From the thread that lets it drain. */
size_t worker_sockets(const struct worker *worker, int *fds, size_t most);
/* Starts the thread; false with a reason. */
bool worker_start(struct worker *worker, struct error *err);
/* Tells the thread to stop (after a drain, or at once), waits for it. */
void worker_join(struct worker *worker);
/* After worker_join and scribe_hush: the records that could not be written are posted once more. */
void worker_post_last(struct worker *worker);
/* After worker_join, or when it was never started. */
void worker_free(struct worker *worker);

#endif
