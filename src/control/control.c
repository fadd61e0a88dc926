#include "dagward/control/control.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

#define STOPPING "the proxy is stopping"

enum { WATCH_FIRST_MS = 2000, DRAIN_GRACE_MS = 1000 };

static void arm(struct event *event, int64_t ms)
{
        struct timeval wait = {ms / 1000, ms % 1000 * 1000};

        event_add(event, &wait);
}

/* --- the end --- */

static void stop_now(struct control *control)
{
        if (control->stopped)
                return;
        control->stopped = true;
        control_answer_all(control, false, STOPPING);
        runs_cancel(control->runs, STOPPING);
        tags_give_up(control->tags);
        control_event(control, "process.stopped", NULL, 0);
        log_info("stopped drained=%zu of=%zu", control->n_drained, control->n_ports);
        event_base_loopbreak(control->base);
}

static void on_drained(struct mail *mail, void *receiver)
{
        struct control *control = receiver;

        (void)mail;
        if (++control->n_drained == control->n_ports)
                stop_now(control);
}

static void end_workers(struct control *control)
{
        int64_t drain_ms = control->parts->config->timeouts.drain_ms;
        int64_t until_mono_ms = clock_mono_ms() + drain_ms;

        control->workers_end = true;
        control->drains = calloc(control->n_ports + 1, sizeof(*control->drains));
        if (!control->drains)
                abort();
        for (size_t i = 0; i < control->n_ports; i++) {
                control->drains[i] = (struct drain_mail){
                        .mail = {.deliver = control->ports[i].drain},
                        .deadline_mono_ms = until_mono_ms,
                        .has_heir = control->has_heir,
                        .reply_to = control->box,
                        .answered = on_drained,
                };
                mailbox_post(control->ports[i].box, &control->drains[i].mail);
        }
        arm(&control->drain_timer, control->n_ports ? drain_ms + DRAIN_GRACE_MS : 0);
}

static void on_drain_timer(evutil_socket_t fd, short what, void *arg)
{
        struct control *control = arg;

        (void)fd;
        (void)what;
        if (control->workers_end)
                stop_now(control);
        else
                end_workers(control);
}

static void drain(struct control *control, const char *cause)
{
        const struct config_timeouts *timeouts = &control->parts->config->timeouts;
        int64_t delay_ms = control->has_heir ? 0 : timeouts->drain_delay_ms;
        int64_t all_ms = delay_ms + timeouts->drain_ms + DRAIN_GRACE_MS;
        struct pair detail[] = {{STR("cause"), str_of(cause)}};

        if (control->stopped)
                return;
        if (control->draining) {
                stop_now(control);
                return;
        }
        control->draining = true;
        log_info("draining cause=\"%s\" delay_ms=%lld at_most_ms=%lld", cause, (long long)delay_ms,
                (long long)timeouts->drain_ms);
        /* What its own limit may be too short for; a moment for the threads to end is added. */
        notifier_say(control->notifier, "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=%lld",
                (long long)(all_ms + DRAIN_GRACE_MS) * 1000);
        control_event(control, "process.draining", detail, 1);
        control_publish(control);
        if (delay_ms)
                arm(&control->drain_timer, delay_ms);
        else
                end_workers(control);
}

void control_leave_to_heir(struct control *control)
{
        control->has_heir = true;
        admin_retire(control->admin);
        if (!control->draining) {
                drain(control, "handover");
        } else if (!control->workers_end) {
                /* It was told to end meanwhile, which this does not say again: what is under way
                 * has its time. Those that the delay is for have another to go to. */
                event_del(&control->drain_timer);
                end_workers(control);
        }
}

void control_is_left_alone(struct control *control)
{
        if (control->ends_later && !control->draining)
                drain(control, "told to end, and nobody took over");
}

/* --- signals and mail --- */

/* Whoever starts a new process and ends the old one at once means that the one follows the other:
 * that gets ready behind this one's sockets, and would find nobody to take them from. */
static bool waits_for_heir(struct control *control)
{
        int64_t limit_ms = control->first_config->timeouts.handover_ms;
        pid_t heir;

        if (control->draining || control->ends_later ||
                !handover_is_under_way(control->handover, &heir))
                return false;
        control->ends_later = true;
        log_info("told to end: when process %ld serves, or cannot, in at most %lld ms; told once "
                 "more, at once",
                (long)heir, (long long)limit_ms);
        notifier_say(control->notifier, "STATUS=handing over\nEXTEND_TIMEOUT_USEC=%lld",
                (long long)(limit_ms + DRAIN_GRACE_MS) * 1000);
        return true;
}

static void on_terminate(evutil_socket_t number, short what, void *arg)
{
        (void)what;
        if (!waits_for_heir(arg))
                drain(arg, number == SIGINT ? "SIGINT" : "SIGTERM");
}

static void on_hangup(evutil_socket_t number, short what, void *arg)
{
        struct control *control = arg;

        (void)number;
        (void)what;
        /* Called once for each signal, one after the other. What comes while a reload runs is heard
         * of after it, and asks for another: it may stand for what was read already. */
        if (!event_pending(&control->reload_due, EV_TIMEOUT, NULL))
                arm(&control->reload_due, 0);
}

static void on_reload_due(evutil_socket_t fd, short what, void *arg)
{
        struct control *control = arg;

        (void)fd;
        (void)what;
        if (!control->draining)
                control_reload(control, "SIGHUP");
}

static void on_reopen(evutil_socket_t number, short what, void *arg)
{
        struct control *control = arg;

        (void)number;
        (void)what;
        if (control->scribe)
                scribe_reopen(control->scribe);
}

static void on_box(evutil_socket_t fd, short what, void *arg)
{
        struct control *control = arg;

        (void)fd;
        (void)what;
        mailbox_drain(control->box);
}

static void on_stop_mail(struct mail *mail, void *receiver)
{
        free(mail);
        drain(receiver, "the program that runs it");
}

void control_stop(struct control *control)
{
        struct mail *mail = calloc(1, sizeof(*mail));

        if (!mail)
                abort();
        mail->deliver = on_stop_mail;
        mailbox_post(control->box, mail);
}

/* --- life --- */

struct control *control_new(const char *config_path, struct error_list *errors)
{
        struct watch watch = {0};
        struct parts *parts = parts_load(config_path, &watch, errors);

        if (!parts) {
                watch_clear(&watch);
                return NULL;
        }
        struct control *control = calloc(1, sizeof(*control));
        if (!control)
                abort();
        control->path = str_dup(str_of(config_path));
        control->parts = parts;
        control->watch = watch;
        control->first_config = config_ref(parts->config);
        control->policy_generation = 1;
        control->reload = 1;
        control->last_waiter = &control->waiters;
        control->lookup = names_getaddrinfo;
        control->admin_fd = -1;
        control->started_mono_ms = clock_mono_ms();
        control->started_wall_ms = control->loaded_wall_ms = clock_wall_ms();
        control->base = event_base_new();
        if (!control->base)
                abort();
        control->fetcher = fetcher_new(control->base);
        control->lookups = lookups_new(control);
        control->runs = runs_new(control);
        control->tags = tags_new(control);
        const struct assertions_hooks hooks = control_assertions_hooks(control);
        control->assertions = assertions_new(
                parts->config, control->fetcher, &control->credential_generations, &hooks);
        control->box = mailbox_new(control);
        event_assign(&control->box_event, control->base, mailbox_fd(control->box),
                EV_READ | EV_PERSIST, on_box, control);
        evsignal_assign(&control->terminate, control->base, SIGTERM, on_terminate, control);
        evsignal_assign(&control->interrupt, control->base, SIGINT, on_terminate, control);
        evsignal_assign(&control->hangup, control->base, SIGHUP, on_hangup, control);
        evsignal_assign(&control->reopen, control->base, SIGUSR1, on_reopen, control);
        evtimer_assign(&control->ask_timer, control->base, on_ask_timer, control);
        evtimer_assign(&control->watch_timer, control->base, on_watch_timer, control);
        evtimer_assign(&control->drain_timer, control->base, on_drain_timer, control);
        evtimer_assign(&control->reload_due, control->base, on_reload_due, control);
        control_sources_make(control);
        control_publish(control);
        return control;
}

void control_free(struct control *control)
{
        if (!control)
                return;
        /* Asks that came too late are answered all the same: they are their askers' memory. */
        control->stopped = true;
        mailbox_drain(control->box);
        control_answer_all(control, false, STOPPING);
        sink_tokens_free(control->sink_tokens);
        control_sources_free(control->issuers, control->parts->config->n_issuers, control->sources,
                control->parts->config->n_credentials, control->supply, control->names);
        handover_free(control->handover);
        admin_free(control->admin);
        heart_free(control->heart);
        if (control->admin_fd >= 0)
                close(control->admin_fd);
        lookups_free(control->lookups);
        runs_free(control->runs);
        tags_free(control->tags);
        assertions_free(control->assertions);
        fetcher_free(control->fetcher);
        mailbox_free(control->box);
        struct event *events[] = {&control->box_event, &control->terminate, &control->interrupt,
                &control->hangup, &control->reopen, &control->ask_timer, &control->watch_timer,
                &control->drain_timer, &control->reload_due};
        for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
                event_del(events[i]);
        event_base_free(control->base);
        world_unref(control->world);
        parts_free(control->parts);
        watch_clear(&control->watch);
        config_unref(control->first_config);
        free(control->drains);
        free(control->sink_states);
        free(control->ports);
        free(control->path);
        free(control);
}

const struct config *control_config(const struct control *control)
{
        return control->first_config;
}

static void on_audit_state(bool ok, void *receiver)
{
        struct control *control = receiver;

        control->audit_failing = !ok;
}

static void take_scribe(struct control *control, struct scribe *scribe)
{
        control->scribe = scribe;
        control->audit_watch =
                (struct scribe_watch){.reply_to = control->box, .changed = on_audit_state};
        if (scribe)
                scribe_watch(scribe, &control->audit_watch);
}

void control_attach(
        struct control *control, const struct worker_port *ports, size_t n, struct scribe *scribe)
{
        control->ports = calloc(n + 1, sizeof(*ports));
        if (!control->ports)
                abort();
        if (n)
                memcpy(control->ports, ports, n * sizeof(*ports));
        control->n_ports = n;
        take_scribe(control, scribe);
}

void control_set_notifier(struct control *control, const struct notifier *notifier)
{
        control->notifier = notifier;
}

void control_take_admin_socket(struct control *control, int fd)
{
        control->admin_fd = fd;
}

struct control_port control_port(struct control *control)
{
        return (struct control_port){.box = control->box, .asked = control_asked};
}

struct world *control_world(struct control *control)
{
        return world_ref(control->world);
}

uint16_t control_admin_port(const struct control *control)
{
        return control->admin ? admin_port(control->admin) : 0;
}

static void started_event(struct control *control)
{
        char workers[24];

        snprintf(workers, sizeof(workers), "%zu", control->n_ports);
        struct pair detail[] = {
                {STR("version"), STR(DAGWARD_VERSION)},
                {STR("config"), str_of(control->path)},
                {STR("policy"), str_of(control->parts->policy_digest)},
                {STR("workers"), str_of(workers)},
                {STR("shadow"), str_of(control->parts->shadow_digest)},
        };
        control_event(control, "process.started", detail, control->parts->shadow ? 5 : 4);
        control_tell_expiries(control);
}

static void wait_until_ready(struct control *control, int64_t wait_ms, bool (*called_off)(void))
{
        int64_t deadline = clock_mono_ms() + wait_ms;

        while (!control->stopped && clock_mono_ms() < deadline && !(called_off && called_off()) &&
                !control_ready(control, NULL, NULL)) {
                /* Something comes within a moment even if nothing else does. */
                struct timeval moment = {0, 50 * 1000};
                event_base_loopexit(control->base, &moment);
                event_base_dispatch(control->base);
        }
}

static void begin(struct control *control)
{
        signal(SIGPIPE, SIG_IGN);
        event_add(&control->box_event, NULL);
        event_add(&control->terminate, NULL);
        event_add(&control->interrupt, NULL);
        event_add(&control->hangup, NULL);
        event_add(&control->reopen, NULL);
        arm(&control->watch_timer, WATCH_FIRST_MS);
        if (control->scribe)
                started_event(control);
        control_tell_way_out(control->parts);
        control_sources_start(control);
        control->booted = true;
        control_publish(control);
}

bool control_boot(struct control *control, int64_t wait_ms, struct error *err)
{
        control->admin = admin_new(control, err);
        if (!control->admin)
                return false;
        control->heart = heart_new(control);
        begin(control);
        wait_until_ready(control, wait_ms, NULL);
        return true;
}

bool control_warm(
        struct control *control, int64_t wait_ms, bool (*called_off)(void), struct error *err)
{
        struct buf missing;

        begin(control);
        wait_until_ready(control, wait_ms, called_off);
        buf_init(&missing, 4096);
        bool ready = control_ready(control, NULL, &missing);
        if (!ready)
                error_set(err, "not ready after %lld s:\n%.*s", (long long)(wait_ms / 1000),
                        STR_FMT(buf_str(&missing)));
        buf_clear(&missing);
        return ready;
}

bool control_open(struct control *control, struct scribe *scribe, struct error *err)
{
        take_scribe(control, scribe);
        control->admin = admin_new(control, err);
        if (!control->admin)
                return false;
        control->heart = heart_new(control);
        started_event(control);
        return true;
}

void control_listen_handover(
        struct control *control, int fd, const struct control_handover_hooks *hooks)
{
        control->handover = handover_new(control, fd, hooks);
}

int control_admin_socket(const struct control *control)
{
        return control->admin ? admin_socket(control->admin) : -1;
}

int control_run(struct control *control)
{
        if (!control->stopped)
                event_base_dispatch(control->base);
        return 0;
}
