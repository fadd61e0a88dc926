/*
 * control: the one thread that does everything slow.
 *
 * It loads configuration and policy, fetches the keys of issuers, obtains credentials, resolves
 * names, re-reads files, takes signals and answers the admin listener. What it learns it publishes
 * as `struct world`, by mail, to every worker; workers ask it for a newer key set or credential.
 * It never touches a client's bytes.
 *
 * The order of a process: control_new; make workers with control_world and control_port, which
 * binds their sockets; give up what is not needed any more; open the audit file; worker_attach and
 * control_attach; control_boot; start the workers; control_run until it returns; join
 * the workers; close the audit file; control_free.
 *
 * Signals: SIGTERM and SIGINT drain and then stop (a second one stops at once): not ready first,
 * for `timeouts.drain_delay`, with all being served; then what runs is finished. SIGHUP reloads,
 * SIGUSR1 closes the audit file and begins another. Other threads should block them. A change of
 * the configuration file, of a loaded policy file or of a certificate reloads as well, once it has
 * been still for two seconds; a new file that a policy pattern would match needs the signal.
 *
 * A reload is all or nothing: what is new is loaded and checked beside what runs, then published as
 * one world; keys, tokens and addresses that the new configuration would get in the same way are
 * taken over. When anything is wrong, or a setting changed that only a restart can apply, nothing
 * changes.
 *
 * World mails (struct world_mail) are malloc'd: the receiver frees them and owns one reference of
 * the world inside. Count and drain mails stay the control's: the receiver only posts them back.
 */
#ifndef DAGWARD_CONTROL_CONTROL_H
#define DAGWARD_CONTROL_CONTROL_H

#include "dagward/audit/scribe.h"
#include "dagward/base/error.h"
#include "dagward/config/config.h"
#include "dagward/net/notify.h"
#include "dagward/sink/sinks.h"
#include "dagward/world/ports.h"
#include "dagward/world/world.h"

enum { CONTROL_ASK_BOUND_MS = 10 * 1000 }; /* every ask is answered within */

struct control;

/* Loads and checks configuration, policy and certificates; NULL when anything is wrong, with all of
 * it in `errors`. Opens no socket, fetches nothing, starts no thread. */
struct control *control_new(const char *config_path, struct error_list *errors)
        __attribute__((warn_unused_result));
/* Only when control_run is not running and the workers' threads have been joined; their mailboxes
 * are still there, because asks that nobody answered are answered now. Harmless on NULL. */
void control_free(struct control *control);

/* Of the first load; stays valid until control_free (a reload has another one). */
const struct config *control_config(const struct control *control);
/* Names the threads to publish to, and the audit log. `ports` is copied, the mailboxes in it and
 * the scribe (NULL: none, for tests) outlive control_run, the mailboxes control_free as well.
 * Before control_boot. */
void control_attach(
        struct control *control, const struct worker_port *ports, size_t n, struct scribe *scribe);
/* Who is told of start, reload and end, and that all threads answer; outlives control. Before
 * control_boot; without it, nobody is. */
void control_set_notifier(struct control *control, const struct notifier *notifier);
/* A listening socket for the admin listener, which control owns from now on; before control_boot,
 * which binds one otherwise. */
void control_take_admin_socket(struct control *control, int fd);
/* The sinks of the audit log, if there are any, which outlive control_run. Before sinks_start; what
 * they show to their receivers is lent to them as soon as there is any. */
void control_attach_sinks(struct control *control, struct sinks *sinks);
/* Where workers post their asks. Valid from control_new on. */
struct control_port control_port(struct control *control);
/* Binds the admin listener, takes the signals, begins to fetch. Then runs the loop until keys,
 * credentials and the upstream's address are there, but not longer than `wait_ms` (0: does not
 * wait). False only when the admin address cannot be bound. */
bool control_boot(struct control *control, int64_t wait_ms, struct error *err)
        __attribute__((warn_unused_result));
/* The world of now, with a reference for the caller: what a worker starts with (without keys and
 * credentials before control_boot). Worlds published later arrive by mail. */
struct world *control_world(struct control *control);
/* The same in two parts, for a process that takes the place of one that still serves: keys,
 * credentials and addresses without admin listener and audit log, false with what is missing when
 * it is not all there in `wait_ms`, or when `called_off` says so meanwhile; then the rest. */
bool control_warm(struct control *control, int64_t wait_ms, bool (*called_off)(void),
        struct error *err) __attribute__((warn_unused_result));
bool control_open(struct control *control, struct scribe *scribe, struct error *err)
        __attribute__((warn_unused_result));

#define CONTROL_HANDOVER_VERSION "3"

/* What control does not know itself of what a new process gets. */
struct control_handover_hooks {
        /* Why this process cannot be replaced just now, or NULL. */
        const char *(*unable)(void *owner);
        /* The listening sockets, each once, `kinds` L; at most `most`; the number. */
        size_t (*sockets)(void *owner, int *fds, char *kinds, size_t most);
        /* Audit log and triggers go over to the process at the other end of these
         * (scribe_hand_over, ledger_hand_over); the hook owns them. */
        void (*give)(void *owner, int audit_fd, int triggers_fd);
        void *owner;
};
/* Lets another process take the place of this one, which asks for that on the listening socket `fd`
 * (control's from now on; descriptors.h): it gets the sockets while this one serves, says when it
 * is ready, gets the files, serves, and this one drains. If it fails at any point this one goes on.
 */
void control_listen_handover(
        struct control *control, int fd, const struct control_handover_hooks *hooks);
/* The admin listener's socket, -1 if there is none. */
int control_admin_socket(const struct control *control);
/* Tells the notifier that requests are served. */
void control_tell_ready(struct control *control);
/* Runs until a signal or control_stop ends it; workers have answered their drain, or the deadline
 * is over. The status for exit. */
int control_run(struct control *control) __attribute__((warn_unused_result));
/* As SIGTERM, for programs that embed a proxy. From any thread. */
void control_stop(struct control *control);
/* Port the admin listener is bound to, 0 before control_boot. */
uint16_t control_admin_port(const struct control *control);

#endif
