/*
 * serve: the proxy itself. Boots in an order that matters and then lets the control thread run:
 * everything is checked before a socket is opened, and what is not needed any more is given up
 * before there is a second thread; the audit file is opened as it will be opened again, and before
 * a request can come.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "confine.h"
#include "dagward/base/log.h"
#include "dagward/control/control.h"
#include "dagward/sink/sinks.h"
#include "dagward/trigger/ledger.h"
#include "dagward/worker/worker.h"
#include "serve_sinks.h"

enum { WORKERS_MOST = 256 };

/* What serve holds; cleared in the reverse order. */
struct serving {
        struct control *control;
        struct scribe *scribe;
        struct serve_sinks sinks;
        struct ledger *ledger; /* NULL: triggers are not told apart */
        struct worker *workers[WORKERS_MOST];
        struct worker_port ports[WORKERS_MOST];
        unsigned n_workers, n_started;
};

static void usage(FILE *out)
{
        fprintf(out,
                "usage: dagward serve --config FILE\n\n"
                "Runs the proxy in the foreground; logs go to standard error.\n"
                "SIGHUP reloads configuration, policy, keys and certificates; a bad file changes\n"
                "nothing. SIGTERM finishes what runs and ends. SIGUSR1 closes the audit file and\n"
                "begins another. The process confines itself to what the configuration names\n"
                "(`confine`, `user`).\n\n"
                "Exit status: 0 after a drain, 2 when the configuration is invalid or an address\n"
                "cannot be had.\n");
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
        return it->scribe && serve_sinks_open(&it->sinks, audit, it->scribe, err);
}

static bool open_ledger(struct serving *it, const struct config *config, struct error *err)
{
        if (!config->idempotency.enabled)
                return true;
        it->ledger = ledger_open(config->idempotency.file.ptr, err);
        return it->ledger != NULL;
}

static bool make_workers(struct serving *it, const struct config *config, struct error *err)
{
        struct world *world = control_world(it->control);
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        uint64_t wanted = config->workers ? config->workers : cpus > 0 ? (uint64_t)cpus : 1;
        bool ok = true;

        if (wanted > WORKERS_MOST)
                wanted = WORKERS_MOST;
        while (ok && it->n_workers < wanted) {
                unsigned n = it->n_workers;
                it->workers[n] =
                        worker_new(n, (unsigned)wanted, world, control_port(it->control), err);
                ok = it->workers[n] != NULL;
                if (ok)
                        it->ports[it->n_workers++] = worker_port(it->workers[n]);
        }
        world_unref(world);
        return ok;
}

static void attach(struct serving *it)
{
        for (unsigned i = 0; i < it->n_workers; i++)
                worker_attach(it->workers[i], it->scribe, it->ledger);
        control_attach(it->control, it->ports, it->n_workers, it->scribe);
        if (it->sinks.sinks)
                control_attach_sinks(it->control, it->sinks.sinks);
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

static bool start(struct serving *it, struct error_list *errors, struct error *err)
{
        const struct config *config = control_config(it->control);

        log_set_level(config->log_level);
        if (!make_workers(it, config, err) || !confine_serve(config, errors, err) ||
                !open_scribe(it, config, err) || !open_ledger(it, config, err))
                return false;
        attach(it);
        return control_boot(it->control, 0, err) && serve_sinks_start(&it->sinks, err) &&
               start_workers(it, err);
}

static void stop(struct serving *it, int status)
{
        for (unsigned i = 0; i < it->n_started; i++)
                worker_join(it->workers[i]);
        /* What is still on its way between the threads finds its receiver until the last line. */
        ledger_close(it->ledger);
        scribe_stop(it->scribe);
        serve_sinks_stop(&it->sinks, status);
        scribe_close(it->scribe);
        serve_sinks_free(&it->sinks);
        control_free(it->control);
        for (unsigned i = 0; i < it->n_workers; i++)
                worker_free(it->workers[i]);
}

int command_serve(int argc, char **argv)
{
        struct serving it = {0};
        struct error_list errors;
        struct error err = {{0}};

        if (argc == 2 && strcmp(argv[1], "--help") == 0) {
                usage(stdout);
                return EXIT_YES;
        }
        if (argc != 3 || strcmp(argv[1], "--config") != 0) {
                usage(stderr);
                return EXIT_USAGE;
        }
        confine_begin();
        block_signals(true);
        error_list_init(&errors);
        it.control = control_new(argv[2], &errors);
        error_list_print(&errors, stderr);
        error_list_clear(&errors);
        if (!it.control)
                return EXIT_USAGE;
        int status = EXIT_USAGE;
        if (start(&it, &errors, &err)) {
                const struct config *config = control_config(it.control);
                for (size_t i = 0; i < config->n_listeners; i++)
                        log_info("listening address=%s tls=%s workers=%u",
                                config->listeners[i].address.text.ptr,
                                config->listeners[i].has_tls ? "yes" : "no", it.n_workers);
                block_signals(false);
                status = control_run(it.control);
        } else {
                error_list_print(&errors, stderr);
                log_error("%s", err.text);
        }
        error_list_clear(&errors);
        stop(&it, status);
        return status;
}
