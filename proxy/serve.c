/*
 * serve: the proxy itself. Boots in an order that matters and then lets the control thread run:
 * everything is checked before a socket is opened, and what is not needed any more is given up
 * before there is a second thread; the audit file is opened as it will be opened again, and before
 * a request can come.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "commands.h"
#include "confine.h"
#include "dagward/base/log.h"
#include "dagward/control/control.h"
#include "dagward/sink/sinks.h"
#include "dagward/trigger/ledger.h"
#include "dagward/trigger/passed.h"
#include "dagward/worker/worker.h"
#include "dagward/world/budget.h"
#include "heir.h"
#include "serve_sinks.h"
#include "takeover.h"

enum {
        WORKERS_MOST = 256,
        /* Listening sockets for a process that comes after this one, which has one of admin's
         * beside them. */
        OFFERED_MOST = INHERITED_MOST - 1,
        WARM_MS = 30 * 1000,
        PASSING_MS = 5 * 1000, /* for a record that goes through another process: as a disk's */
        OWN_DESCRIPTORS = 20,
        OWN_DESCRIPTORS_OF_WORKER = 5, /* and its listeners */
};

/* What serve holds; cleared in the reverse order. */
struct serving {
        struct inherited inherited;
        struct notifier notifier;
        struct control *control;
        struct scribe *scribe;
        struct serve_sinks sinks;
        struct ledger *ledger; /* NULL: triggers are not told apart */
        struct budget *budget; /* what the workers count together */
        struct worker *workers[WORKERS_MOST];
        struct worker_port ports[WORKERS_MOST];
        unsigned n_workers, n_started;
        bool sockets_inherited;
        const char *path; /* where processes hand over; NULL: they do not */
        struct takeover takeover;
        struct heir *heir; /* NULL: nobody was here before */
        struct gone_mail {
                struct mail mail;
                struct serving *it;
        } gone;        /* comes when the process before this one has */
        bool stopping; /* too late to begin anything */
};

static void usage(FILE *out)
{
        fprintf(out,
                "usage: dagward serve --config FILE [--handover SOCKET]\n\n"
                "Runs the proxy in the foreground; logs go to standard error.\n"
                "SIGHUP reloads configuration, policy, keys and certificates; a bad file changes\n"
                "nothing. SIGTERM finishes what runs and ends (`timeouts.drain_delay`,\n"
                "`timeouts.drain`); a second one ends at once. SIGUSR1 closes the audit file and\n"
                "begins another. The process confines itself to what the configuration names\n"
                "(`confine`, `user`).\n\n"
                "Listening sockets that a service manager passes (LISTEN_FDS) are used instead of\n"
                "own ones, so that a restart refuses no connection; it is told of start, reload,\n"
                "drain and health (NOTIFY_SOCKET, WATCHDOG_USEC).\n\n"
                "With --handover a process takes the place of the one that was started with the\n"
                "same SOCKET, if there is one: it gets ready beside it, gets its listening "
                "sockets\n"
                "and the audit log, and serves; the other one drains. Until then, and if anything\n"
                "fails, the other one goes on.\n\n"
                "Exit status: 0 after a drain, or when told to end before taking over, 2 when the\n"
                "configuration is invalid or an address cannot be had.\n");
}

/* Only the control thread takes signals. */
static void block_signals(bool block)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGUSR1);
        pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN); /* a full audit file is an error like others */
}

static bool open_scribe(struct serving *it, const struct config *config, struct error *err)
{
        const struct config_audit *audit = &config->audit;
        struct scribe_settings settings = {
                .path = audit->file.ptr,
                .signing_key = audit->signing_key.ptr,
                .anchor = audit->anchor.ptr,
                .checkpoint_records = audit->checkpoints.records,
                .checkpoint_ms = audit->checkpoints.interval_ms,
                .rotate_bytes = audit->rotate.size_bytes,
                .rotate_ms = audit->rotate.age_ms,
                .keep = audit->rotate.keep,
                .keep_ms = audit->rotate.keep_ms,
                .compress = audit->rotate.compress,
        };

        switch (audit->durability) {
        case DURABILITY_WRITES: settings.durability = SCRIBE_SYNC_WRITES; break;
        case DURABILITY_ALL: settings.durability = SCRIBE_SYNC_ALL; break;
        case DURABILITY_NONE: settings.durability = SCRIBE_SYNC_NONE; break;
        }
        serve_sinks_prepare(&it->sinks, audit);
        if (audit->rotate.wait_for_sinks) {
                settings.readers = it->sinks.paths;
                settings.n_readers = audit->n_sinks;
        }
        it->scribe = scribe_open(&settings, err);
        return it->scribe != NULL;
}

static bool open_ledger(struct serving *it, const struct config *config, struct error *err)
{
        if (!config->idempotency.enabled)
                return true;
        it->ledger = ledger_open(config->idempotency.file.ptr, err);
        return it->ledger != NULL;
}

/* With fewer, what cannot be opened first would be blamed, or the process would end without a word.
 */
static bool descriptors_suffice(uint64_t needed, struct error *err)
{
        struct rlimit limit;

        return getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed ||
               error_set(err,
                       "RLIMIT_NOFILE=%llu is less than the %llu descriptors that it takes to "
                       "start",
                       (unsigned long long)limit.rlim_cur, (unsigned long long)needed);
}

static bool make_workers(struct serving *it, const struct config *config, struct error *err)
{
        struct world *world = control_world(it->control);
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        uint64_t wanted = config->workers ? config->workers : cpus > 0 ? (uint64_t)cpus : 1;
        bool ok = true;

        if (wanted > WORKERS_MOST)
                wanted = WORKERS_MOST;
        ok = descriptors_suffice(
                OWN_DESCRIPTORS + wanted * (OWN_DESCRIPTORS_OF_WORKER + config->n_listeners), err);
        while (ok && it->n_workers < wanted) {
                unsigned n = it->n_workers;
                it->workers[n] = worker_new(n, (unsigned)wanted, n ? it->workers[0] : NULL, world,
                        &it->inherited, control_port(it->control), err);
                ok = it->workers[n] != NULL;
                if (ok)
                        it->ports[it->n_workers++] = worker_port(it->workers[n]);
        }
        world_unref(world);
        return ok;
}

/* Every listener has its socket; the admin listener has one if there is one for it. */
static bool settle_sockets(struct serving *it, const struct config *config, struct error *err)
{
        int fds[INHERITED_SHARE];

        it->sockets_inherited = it->inherited.n > 0;
        if (inherited_take(&it->inherited, (const struct sockaddr *)&config->admin.address.socket,
                    0, INHERITED_MOST, fds))
                control_take_admin_socket(it->control, fds[0]);
        return inherited_end(&it->inherited, err);
}

static void attach_workers(struct serving *it)
{
        it->budget = budget_new(control_config(it->control)->limits.connections);
        for (unsigned i = 0; i < it->n_workers; i++)
                worker_attach(it->workers[i], it->scribe, it->ledger, it->budget);
}

static bool start_workers(struct serving *it, struct error *err)
{
        while (it->n_started < it->n_workers) {
                if (!worker_start(it->workers[it->n_started], err))
                        return false;
                it->n_started++;
        }
        return true;
}

static bool attach_sinks(struct serving *it, bool patient, struct error *err)
{
        struct world *world = control_world(it->control);
        bool ok = serve_sinks_open(&it->sinks, &control_config(it->control)->audit, world->egress,
                it->scribe, patient, err);

        world_unref(world);
        if (it->sinks.sinks)
                control_attach_sinks(it->control, it->sinks.sinks);
        return ok;
}

/* Until here the other process has handed copies of the log on, up to where it gave it away; its
 * sinks have left word of how far they came. */
static void on_gone(struct mail *mail, void *receiver)
{
        struct serving *it = ((struct gone_mail *)mail)->it;
        struct error err;

        (void)receiver;
        if (it->stopping)
                return;
        if (!attach_sinks(it, true, &err))
                log_error("audit: no copies go anywhere until the next start: %s", err.text);
        else
                (void)!serve_sinks_start(&it->sinks, &err); /* has told, and is tried again */
}

/* For a process that runs: who serves until then is its own business. */
static bool take_place(struct serving *it, const struct config *config, struct error *err)
{
        bool warm = control_warm(it->control, WARM_MS, takeover_is_called_off, err);
        if (!takeover_goes_on(err) || !warm || !takeover_get_files(&it->takeover, err))
                return false;
        it->heir = heir_new(
                it->takeover.audit, it->takeover.triggers, config->timeouts.handover_ms, err);
        it->gone = (struct gone_mail){{.deliver = on_gone}, it};
        if (!it->heir || !open_scribe(it, config, err) || !open_ledger(it, config, err) ||
                !heir_start(it->heir, it->scribe, it->ledger, control_port(it->control).box,
                        &it->gone.mail, err) ||
                !control_open(it->control, it->scribe, err))
                return false;
        attach_workers(it);
        if (!takeover_goes_on(err) || !start_workers(it, err))
                return false;
        takeover_finish(&it->takeover);
        return true;
}

static bool take_files(struct serving *it, const struct config *config, struct error *err)
{
        if (!open_scribe(it, config, err) || !open_ledger(it, config, err))
                return false;
        attach_workers(it);
        control_attach(it->control, it->ports, it->n_workers, it->scribe);
        return attach_sinks(it, false, err) && control_boot(it->control, 0, err) &&
               serve_sinks_start(&it->sinks, err) && start_workers(it, err);
}

/* No worker drains yet, which would close its sockets. */
static void log_listeners(const struct serving *it)
{
        const struct config *config = control_config(it->control);
        char text[LISTENER_TEXT];

        for (size_t i = 0; i < config->n_listeners; i++) {
                worker_address(it->workers[0], i, text);
                log_info("listening address=%s tls=%s workers=%u%s", text,
                        config->listeners[i].has_tls ? "yes" : "no", it->n_workers,
                        it->sockets_inherited ? " socket=inherited" : "");
        }
}

static bool start(struct serving *it, struct error_list *errors, struct error *err)
{
        const struct config *config = control_config(it->control);

        log_set_level(config->log_level);
        log_wait_for_nobody();
        it->takeover.limit_ms = config->timeouts.handover_ms;
        if ((it->path && !takeover_begin(&it->takeover, it->path, &it->inherited, err)) ||
                !make_workers(it, config, err) || !settle_sockets(it, config, err) ||
                !confine_serve(config, errors, err))
                return false;
        control_set_notifier(it->control, &it->notifier);
        if (it->takeover.peer < 0)
                return take_files(it, config, err);
        control_attach(it->control, it->ports, it->n_workers, NULL);
        return take_place(it, config, err);
}

/* --- for the process that comes after this one --- */

static bool is_new(int fd, uint64_t *cookies, size_t n)
{
        socklen_t len = sizeof(*cookies);

        if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookies[n], &len) != 0)
                return true;
        for (size_t i = 0; i < n; i++)
                if (cookies[i] == cookies[n])
                        return false;
        return true;
}

/* Those of all workers, each once; more than OFFERED_MOST: not all are there. */
static size_t listening_sockets(const struct serving *it, int fds[OFFERED_MOST + 1])
{
        uint64_t cookies[OFFERED_MOST + 1] = {0};
        size_t n = 0;

        for (unsigned i = 0; i < it->n_workers; i++) {
                int his[OFFERED_MOST + 1];
                size_t has = worker_sockets(it->workers[i], his, OFFERED_MOST + 1);
                for (size_t k = 0; k < has && n <= OFFERED_MOST; k++)
                        if (is_new(his[k], cookies, n))
                                fds[n++] = his[k];
        }
        return n;
}

static size_t offer_sockets(void *owner, int *fds, char *kinds, size_t most)
{
        const struct serving *it = owner;
        int listening[OFFERED_MOST + 1];
        size_t n = listening_sockets(it, listening);

        assert(n < most);
        memcpy(fds, listening, n * sizeof(*fds));
        memset(kinds, 'L', n);
        if (control_admin_socket(it->control) >= 0) {
                kinds[n] = 'A';
                fds[n++] = control_admin_socket(it->control);
        }
        return n;
}

/* What that one says must go on to be written; it would have to know whom to tell next. */
static const char *unable_to_go(void *owner)
{
        const struct serving *it = owner;
        int listening[OFFERED_MOST + 1];

        if (it->heir && heir_is_needed(it->heir))
                return "the process before it still drains; try again when that has ended";
        /* Who is queued in one that is left out would be lost. */
        if (listening_sockets(it, listening) > OFFERED_MOST)
                return "it listens on more sockets than can be handed over, one for each worker "
                       "and address; restart instead";
        return NULL;
}

static void give_files(void *owner, int audit_fd, int triggers_fd)
{
        struct serving *it = owner;
        int64_t limit_ms = control_config(it->control)->timeouts.handover_ms;

        if (limit_ms > PASSING_MS)
                limit_ms = PASSING_MS;
        scribe_hand_over(it->scribe, audit_fd, limit_ms);
        if (it->ledger)
                ledger_hand_over(it->ledger, triggers_fd, limit_ms);
        else if (!passed_nothing(triggers_fd))
                log_error("the new process cannot be told that no triggers are kept");
}

static void listen_handover(struct serving *it)
{
        const struct control_handover_hooks hooks = {
                .unable = unable_to_go, .sockets = offer_sockets, .give = give_files, .owner = it};

        if (it->path)
                control_listen_handover(it->control, it->takeover.listen, &hooks);
}

static void stop(struct serving *it, int status)
{
        it->stopping = true;
        /* Nobody hears of them any more, and once the loop is gone they would end the process, as
         * if it had not drained. */
        block_signals(true);
        for (unsigned i = 0; i < it->n_started; i++)
                worker_join(it->workers[i]);
        heir_stop(it->heir);
        /* What is still on its way between the threads finds its receiver until the last line. */
        ledger_close(it->ledger);
        scribe_hush(it->scribe);
        for (unsigned i = 0; i < it->n_started; i++)
                worker_post_last(it->workers[i]);
        scribe_stop(it->scribe);
        serve_sinks_stop(&it->sinks, status);
        scribe_close(it->scribe);
        heir_free(it->heir);
        serve_sinks_free(&it->sinks);
        control_free(it->control);
        for (unsigned i = 0; i < it->n_workers; i++)
                worker_free(it->workers[i]);
        budget_free(it->budget);
}

int command_serve(int argc, char **argv)
{
        struct serving it = {.takeover = {.peer = -1, .listen = -1}};
        struct error_list errors;
        struct error err = {{0}};

        if (argc == 2 && strcmp(argv[1], "--help") == 0) {
                usage(stdout);
                return EXIT_YES;
        }
        const char *file = NULL;
        for (int i = 1; i + 1 < argc; i += 2) {
                if (strcmp(argv[i], "--config") == 0)
                        file = argv[i + 1];
                else if (strcmp(argv[i], "--handover") == 0)
                        it.path = argv[i + 1];
                else
                        argc = 0;
        }
        if (!file || argc % 2 == 0) {
                usage(stderr);
                return EXIT_USAGE;
        }
        if (!inherited_read(&it.inherited, &err)) {
                log_error("%s", err.text);
                return EXIT_USAGE;
        }
        prctl(PR_SET_NAME, "dagward"); /* doctor knows it by that, whatever its file is called */
        notifier_open(&it.notifier);
        confine_begin();
        block_signals(true);
        if (!descriptors_suffice(OWN_DESCRIPTORS, &err)) {
                log_error("%s", err.text);
                notifier_close(&it.notifier);
                return EXIT_USAGE;
        }
        error_list_init(&errors);
        it.control = control_new(file, &errors);
        error_list_print(&errors, stderr);
        error_list_clear(&errors);
        if (!it.control)
                return EXIT_USAGE;
        int status = EXIT_USAGE;
        if (start(&it, &errors, &err)) {
                log_listeners(&it);
                block_signals(false);
                listen_handover(&it);
                control_tell_ready(it.control);
                status = control_run(it.control);
        } else {
                error_list_print(&errors, stderr);
                log_error("%s", err.text);
                if (it.takeover.peer >= 0 && takeover_is_called_off())
                        status = EXIT_YES;
                takeover_fail(&it.takeover, err.text);
        }
        error_list_clear(&errors);
        stop(&it, status);
        notifier_close(&it.notifier);
        return status;
}
