#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

enum {
        FINISH_MS = 5 * 1000, /* what is there at the end is handed on for so long */
        JOIN_MS = 10 * 1000,  /* a name service that does not answer is waited for */
};

const char *const sink_loss_names[SINK_LOSSES] = {
        [SINK_LOST_DELETED] = "deleted",
        [SINK_LOST_UNREADABLE] = "unreadable",
        [SINK_LOST_REJECTED] = "rejected",
        [SINK_LOST_TOO_LARGE] = "too_large",
};

bool sink_position_path(const char *log, const char *name, char *out, size_t size)
{
        int n = snprintf(out, size, "%s.sink-%s", log, name);

        return n > 0 && (size_t)n < size;
}

struct sinks *sinks_new(
        const struct sinks_settings *settings, struct scribe *scribe, struct error *err)
{
        struct sinks *sinks = calloc(1, sizeof(*sinks));
        bool ok = true;

        if (!sinks)
                abort();
        *sinks = (struct sinks){.settings = *settings, .scribe = scribe};
        sinks->items = calloc(settings->n, sizeof(*sinks->items));
        if (!sinks->items)
                abort();
        for (unsigned i = 0; i < settings->n; i++) {
                struct sink *sink = &sinks->items[i];
                *sink = (struct sink){.settings = &settings->items[i], .all = sinks, .index = i};
                sink->ended_fd = eventfd(0, EFD_CLOEXEC);
                if (sink->ended_fd < 0)
                        abort();
                sink->box = mailbox_new(sink);
                sink->egress = egress_ref(sink->settings->monitor.egress);
                ok = ok && sink_init(sink, err);
        }
        if (ok)
                return sinks;
        sinks_free(sinks);
        return NULL;
}

void sinks_watch(struct sinks *sinks, const struct sinks_watch *watch)
{
        sinks->watch = *watch;
}

/* --- mails to a sink --- */

struct lend_mail {
        struct mail mail;
        struct credential *credential; /* a reference */
};

static void lend_arrived(struct mail *mail, void *receiver)
{
        struct lend_mail *lend = (struct lend_mail *)mail;
        struct sink *sink = receiver;

        credential_unref(sink->credential);
        sink->credential = lend->credential;
        free(lend);
}

void sinks_lend(struct sinks *sinks, unsigned index, struct credential *credential)
{
        struct lend_mail *lend = calloc(1, sizeof(*lend));

        if (!lend)
                abort();
        lend->mail.deliver = lend_arrived;
        lend->credential = credential_ref(credential);
        mailbox_post(sinks->items[index].box, &lend->mail);
}

struct reload_mail {
        struct mail mail;
        struct egress *egress; /* a reference, or NULL */
};

static void reload_arrived(struct mail *mail, void *receiver)
{
        struct reload_mail *reload = (struct reload_mail *)mail;
        struct sink *sink = receiver;

        egress_unref(sink->egress);
        sink->egress = reload->egress;
        sink->reloads++;
        free(reload);
}

void sinks_reloaded(struct sinks *sinks, struct egress *egress)
{
        for (size_t i = 0; i < sinks->settings.n; i++) {
                struct reload_mail *reload = calloc(1, sizeof(*reload));
                if (!reload)
                        abort();
                reload->mail.deliver = reload_arrived;
                reload->egress = egress_ref(egress);
                mailbox_post(sinks->items[i].box, &reload->mail);
        }
}

static void stop_arrived(struct mail *mail, void *receiver)
{
        struct sink *sink = receiver;

        free(mail);
        sink->stop = true;
        sink->stop_by_mono_ms = clock_mono_ms() + FINISH_MS;
        /* All of these are final; what is behind them after a handover may be not even durable, and
         * is the other process's to hand on. */
        sink->known = scribe_final_seq(sink->all->scribe);
}

/* --- mails from a sink --- */

struct told_mail {
        struct mail mail;
        struct sinks_watch watch; /* a copy: it may arrive when the sinks are gone */
        unsigned index;
        bool rejected;
        uint64_t generation;
        struct sink_stats stats;
};

static void told_arrived(struct mail *mail, void *receiver)
{
        struct told_mail *told = (struct told_mail *)mail;

        if (told->rejected)
                told->watch.rejected(receiver, told->index, told->generation);
        else
                told->watch.told(receiver, told->index, &told->stats);
        free(told);
}

static void tell(struct sink *sink, bool rejected, uint64_t generation)
{
        const struct sinks_watch *watch = &sink->all->watch;

        if (!watch->box)
                return;
        struct told_mail *told = calloc(1, sizeof(*told));
        if (!told)
                abort();
        *told = (struct told_mail){.mail = {.deliver = told_arrived},
                .watch = *watch,
                .index = sink->index,
                .rejected = rejected,
                .generation = generation,
                .stats = sink->stats};
        mailbox_post(watch->box, &told->mail);
}

void sink_tell(struct sink *sink)
{
        tell(sink, false, 0);
}

void sink_reject(struct sink *sink)
{
        tell(sink, true, sink->credential->generation);
        credential_unref(sink->credential);
        sink->credential = NULL;
}

/* --- life --- */

bool sinks_start(struct sinks *sinks, struct error *err)
{
        sigset_t all, before;
        bool ok = true;

        sinks->begun = true;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        for (size_t i = 0; i < sinks->settings.n; i++) {
                struct sink *sink = &sinks->items[i];
                if (sink->started)
                        continue;
                int why = pthread_create(&sink->thread, NULL, sink_run, sink);
                sink->started = why == 0;
                if (sink->started)
                        continue;
                ok = error_set(err, "its thread cannot be started: %s", strerror(why));
                sink_failed(sink, err);
                sink_tell(sink);
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return ok;
}

void sinks_start_rest(struct sinks *sinks)
{
        struct error err;

        if (sinks && sinks->begun && !sinks->stopping)
                (void)!sinks_start(sinks, &err);
}

static bool join(struct sink *sink, int64_t deadline_mono_ms)
{
        struct pollfd ended = {.fd = sink->ended_fd, .events = POLLIN};
        int64_t left = deadline_mono_ms - clock_mono_ms();

        if (!sink->started)
                return true;
        if (poll(&ended, 1, left > 0 ? (int)left : 0) == 1) {
                pthread_join(sink->thread, NULL);
                sink->started = false;
                return true;
        }
        log_error("audit sink %s: its thread does not end", sink->settings->name);
        return false;
}

bool sinks_stop(struct sinks *sinks)
{
        bool ended = true;

        if (!sinks)
                return true;
        sinks->stopping = true;
        for (size_t i = 0; i < sinks->settings.n; i++) {
                struct mail *mail = calloc(1, sizeof(*mail));
                if (!mail)
                        abort();
                mail->deliver = stop_arrived;
                mailbox_post(sinks->items[i].box, mail);
        }
        int64_t deadline = clock_mono_ms() + FINISH_MS + JOIN_MS;
        for (size_t i = 0; i < sinks->settings.n; i++)
                ended = join(&sinks->items[i], deadline) && ended;
        return ended;
}

void sinks_free(struct sinks *sinks)
{
        if (!sinks)
                return;
        for (size_t i = 0; i < sinks->settings.n; i++)
                sink_clear(&sinks->items[i]);
        free(sinks->items);
        free(sinks);
}
