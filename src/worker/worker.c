#include "inside.h"

#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "dagward/net/listener.h"
#include "lent.h"

enum { TICK_MS = 250 };        /* how exactly deadlines are kept */
enum { VERDICTS_MOST = 4096 }; /* tokens a worker remembers */
enum { ACCEPTS_PER_TURN = 32, ACCEPTS_AT_END = 8192 };
enum { ACCEPT_LOG_MS = 10000 }; /* a lack of descriptors is logged no more often */
enum { SPARE_MOST = 256 };      /* finished exchanges that are kept */
enum { QUIET_TICKS = 4, GIVE_BACK_MS = 60 * 1000 };

/* --- worlds --- */

static void lease_drop(struct lease *lease)
{
        if (--lease->users == 0) {
                world_unref(lease->world);
                free(lease);
        }
}

struct lease *lease_take(struct worker *worker)
{
        worker->lease->users++;
        return worker->lease;
}

void lease_return(struct lease *lease)
{
        lease_drop(lease);
}

/* Takes over a reference of `world`. */
static void lease_renew(struct worker *worker, struct world *world)
{
        struct lease *lease = calloc(1, sizeof(*lease));

        if (!lease)
                abort();
        *lease = (struct lease){.world = world, .users = 1};
        if (worker->lease)
                lease_drop(worker->lease);
        worker->lease = lease;
}

static void close_listeners(struct worker *worker)
{
        for (size_t i = 0; i < worker->n_listeners; i++) {
                struct worker_listener *listener = &worker->listeners[i];
                if (listener->fd < 0)
                        continue;
                if (worker->started)
                        event_del(&listener->event);
                close(listener->fd);
                listener->fd = -1;
        }
}

/* Idle connections of an older reload may go to hosts that are no longer right. */
static void drop_stale_idle(struct worker *worker)
{
        for (size_t i = 0; i < SERVICE_COUNT; i++) {
                struct link *link = worker->idle[i].after;
                while (link != &worker->idle[i]) {
                        struct upstream *upstream = LINK_OF(struct upstream, idle_link, link);
                        link = link->after;
                        if (upstream->reload != worker->lease->world->reload ||
                                !address_is_used(upstream))
                                upstream_drop(upstream);
                }
        }
}

/* Who waits in the queue of a socket that nobody else holds has been told that it is connected: it
 * is served once, like all others. */
static void accept_the_last(struct worker *worker)
{
        for (size_t i = 0; i < worker->n_listeners; i++) {
                struct worker_listener *listener = &worker->listeners[i];
                bool ours = !listener->outlives_us && !worker->drain->has_heir;
                for (int n = 0; ours && n < ACCEPTS_AT_END; n++) {
                        errno = 0;
                        client_accept(worker, listener);
                        if (errno)
                                break;
                }
        }
}

/* What is done to one client may drop any other, to make room: see worker_defer_client. */
static void each_client(struct worker *worker, void (*visit)(struct client *))
{
        worker->next_client = worker->clients.after;
        while (worker->next_client != &worker->clients) {
                struct client *client = LINK_OF(struct client, link, worker->next_client);
                worker->next_client = client->link.after;
                visit(client);
        }
}

/* --- mail --- */

static void on_world(struct mail *mail, void *receiver)
{
        struct world_mail *letter = (struct world_mail *)mail;
        struct worker *worker = receiver;
        bool reloaded = worker->lease->world->reload != letter->world->reload;

        if (worker->lease->world->policy != letter->world->policy ||
                worker->lease->world->shadow != letter->world->shadow)
                grants_clear(worker->grants);
        if (reloaded || worker->lease->world->names != letter->world->names)
                directory_clear(worker->directory);
        if (reloaded) {
                lent_clear(worker->lent);
                throttle_forget(worker);
                upstream_forget_sessions(worker);
                admit_share_out(worker, letter->world->config);
        }
        lease_renew(worker, letter->world);
        free(letter);
        if (reloaded)
                addresses_reloaded(worker);
        drop_stale_idle(worker);
}

static void on_count(struct mail *mail, void *receiver)
{
        struct count_mail *letter = (struct count_mail *)mail;
        struct worker *worker = receiver;

        addresses_count(worker);
        throttle_count(worker);
        metrics_add(&letter->sum, &worker->metrics);
        letter->mail.deliver = letter->answered;
        mailbox_post(letter->reply_to, &letter->mail);
}

static void on_drain(struct mail *mail, void *receiver)
{
        struct worker *worker = receiver;

        worker->drain = (struct drain_mail *)mail;
        accept_the_last(worker);
        close_listeners(worker);
        each_client(worker, client_part);
}

static void abandon_clients(struct worker *worker)
{
        while (!link_empty(&worker->clients)) {
                struct client *client = LINK_OF(struct client, link, worker->clients.after);
                if (client->exchange)
                        exchange_abandon(client->exchange);
                else
                        client_drop(client);
        }
}

/* The drain is over when nobody is being served and all is written, or when its time is. */
static void look_at_drain(struct worker *worker)
{
        struct drain_mail *letter = worker->drain;

        if (!letter)
                return;
        bool late = worker->now_ms >= letter->deadline_mono_ms;
        if (!late && !link_empty(&worker->clients))
                return;
        abandon_clients(worker);
        strangers_tell(worker, true);
        evidence_flush(worker, true);
        /* What could not be written is lost with us, and a disk that fails may work again. */
        if (!late && worker->batches_out)
                return;
        worker->drain = NULL;
        letter->mail.deliver = letter->answered;
        mailbox_post(letter->reply_to, &letter->mail);
}

static void on_stop(struct mail *mail, void *receiver)
{
        struct worker *worker = receiver;

        worker->stopping = true;
        free(mail);
}

/* --- the loop --- */

static void read_clocks(struct worker *worker)
{
        worker->now_ms = clock_mono_ms();
        worker->wall_ms = clock_wall_ms();
}

static void on_box(evutil_socket_t fd, short what, void *arg)
{
        struct worker *worker = arg;

        (void)fd;
        (void)what;
        read_clocks(worker);
        mailbox_drain(worker->box);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
        struct worker_listener *listener = arg;

        (void)fd;
        (void)what;
        for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
                errno = 0;
                client_accept(listener->worker, listener);
                if (errno)
                        break;
        }
}

void listener_pause(struct worker_listener *listener)
{
        struct worker *worker = listener->worker;

        if (worker->now_ms - worker->accept_failed_ms > ACCEPT_LOG_MS) {
                log_errno("accept on listener %u fails; tried again every %d ms", listener->index,
                        TICK_MS);
                worker->accept_failed_ms = worker->now_ms;
        }
        event_del(&listener->event);
        listener->paused = true;
}

static void resume_listeners(struct worker *worker)
{
        for (size_t i = 0; i < worker->n_listeners; i++) {
                struct worker_listener *listener = &worker->listeners[i];
                if (listener->paused && listener->fd >= 0)
                        event_add(&listener->event, NULL);
                listener->paused = false;
        }
}

static void free_spare(struct worker *worker, unsigned most)
{
        while (worker->n_spare > most) {
                struct exchange *x = worker->spare;
                worker->spare = x->next_spare;
                worker->n_spare--;
                arena_clear(&x->arena);
                free(x->rewrite);
                free(x);
        }
}

/* When nothing has happened for a second, what the busiest moment needed goes back to the system;
 * seldom, as it has to be taken again. */
static void give_back(struct worker *worker)
{
        bool quiet = !worker->served && !worker->metrics.exchanges_now;

        worker->spent |= worker->served;
        worker->served = false;
        worker->quiet_ticks = quiet ? worker->quiet_ticks + 1 : 0;
        if (!worker->spent || worker->quiet_ticks < QUIET_TICKS ||
                worker->now_ms < worker->give_back_after_ms)
                return;
        worker->spent = false;
        worker->give_back_after_ms = worker->now_ms + GIVE_BACK_MS;
        free_spare(worker, 0);
        stream_pool_clear(&worker->pool);
        evidence_give_back(worker);
/* A sanitizer has its own allocator: that of the C library would be set up here, by two workers at
 * once, which it does not stand. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        malloc_trim(0);
#endif
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
        struct worker *worker = arg;

        (void)fd;
        (void)what;
        read_clocks(worker);
        each_client(worker, client_tick);
        upstream_tick(worker);
        evidence_tick(worker);
        admit_tick(worker);
        strangers_tell(worker, false);
        resume_listeners(worker);
        verdicts_expire(worker->verdicts, worker->wall_ms / 1000);
        lent_expire(worker->lent, worker->now_ms);
        worker->metrics.lent_held = lent_held(worker->lent);
        give_back(worker);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        read_clocks(arg);
        forgers_turn(arg);
}

static void on_shakes(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        shakes_turn(arg);
}

static void on_audit_due(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        evidence_due(arg);
}

void worker_defer_client(struct client *client)
{
        struct worker *worker = client->worker;

        if (worker->next_client == &client->link)
                worker->next_client = client->link.after;
        link_remove(&client->link);
        link_add(&worker->dropped_clients, &client->link);
}

void worker_defer_upstream(struct upstream *upstream)
{
        link_remove(&upstream->link);
        link_add(&upstream->worker->dropped_upstreams, &upstream->link);
}

static void free_dropped(struct worker *worker)
{
        while (!link_empty(&worker->dropped_clients)) {
                struct client *client = LINK_OF(struct client, link, worker->dropped_clients.after);
                link_remove(&client->link);
                free(client);
        }
        while (!link_empty(&worker->dropped_upstreams)) {
                struct upstream *upstream =
                        LINK_OF(struct upstream, link, worker->dropped_upstreams.after);
                link_remove(&upstream->link);
                free(upstream);
        }
}

/* What is done once per turn, and only then: nothing that a callback holds disappears under it. */
static void turn_end(struct worker *worker)
{
        read_clocks(worker);
        evidence_flush(worker, false);
        evidence_hurry(worker);
        look_at_drain(worker);
        shakes_turn_end(worker);
        free_dropped(worker);
        free_spare(worker, SPARE_MOST);
}

static void *worker_run(void *arg)
{
        struct worker *worker = arg;

        read_clocks(worker);
        while (!worker->stopping) {
                event_base_loop(worker->base, EVLOOP_ONCE);
                turn_end(worker);
        }
        abandon_clients(worker);
        strangers_tell(worker, true);
        evidence_flush(worker, true);
        evidence_tick(worker); /* what could not be written has one more chance */
        return NULL;
}

/* --- life --- */

void worker_address(const struct worker *worker, size_t listener, char text[LISTENER_TEXT])
{
        text[0] = '\0';
        for (size_t i = worker->n_listeners; i-- > 0;)
                if (worker->listeners[i].index == listener)
                        listener_text(worker->listeners[i].fd, text);
}

/* The descriptors of a listener; 0 with a reason. */
static size_t get_sockets(const struct worker *worker, const struct worker *first, size_t listener,
        const struct config_address *address, unsigned n_workers, struct inherited *inherited,
        int *fds, struct error *err)
{
        char have[200], text[LISTENER_TEXT];

        if (inherited->n) {
                size_t n = inherited_take(inherited, (const struct sockaddr *)&address->socket,
                        worker->number, n_workers, fds);
                inherited_list(inherited, have, sizeof(have));
                if (n == 0 && !inherited->handed_over)
                        error_set(err,
                                "cannot listen on %s: sockets were passed by who started this "
                                "process, but none with that address; there are %s",
                                address->text.ptr, have);
                if (n || !inherited->handed_over)
                        return n;
        }
        /* With SO_REUSEPORT a second process would get its share unnoticed. */
        if (n_workers > 1 && worker->number == 0 && !listener_is_free(address->text.ptr, err))
                return 0;
        if (first) /* of port 0 each would get another */
                worker_address(first, listener, text);
        fds[0] = listener_open(first ? text : address->text.ptr, n_workers > 1, err);
        return fds[0] >= 0;
}

static bool bind_listeners(struct worker *worker, const struct worker *first,
        const struct config *config, unsigned n_workers, struct inherited *inherited,
        struct error *err)
{
        int fds[INHERITED_SHARE];

        worker->listeners =
                calloc(config->n_listeners * INHERITED_SHARE + 1, sizeof(*worker->listeners));
        if (!worker->listeners)
                abort();
        for (size_t i = 0; i < config->n_listeners; i++) {
                size_t n = get_sockets(worker, first, i, &config->listeners[i].address, n_workers,
                        inherited, fds, err);
                for (size_t k = 0; k < n; k++) {
                        struct worker_listener *listener =
                                &worker->listeners[worker->n_listeners++];
                        *listener = (struct worker_listener){.worker = worker,
                                .index = (unsigned)i,
                                .fd = fds[k],
                                .outlives_us = inherited->n && !inherited->handed_over};
                        event_assign(&listener->event, worker->base, listener->fd,
                                EV_READ | EV_PERSIST, on_accept, listener);
                }
                if (n == 0)
                        return false;
        }
        return true;
}

size_t worker_sockets(const struct worker *worker, int *fds, size_t most)
{
        size_t n = 0;

        for (size_t i = 0; i < worker->n_listeners && n < most; i++)
                if (worker->listeners[i].fd >= 0)
                        fds[n++] = worker->listeners[i].fd;
        return n;
}

struct worker *worker_new(unsigned number, unsigned n_workers, const struct worker *first,
        struct world *world, struct inherited *inherited, struct control_port control,
        struct error *err)
{
        struct worker *worker = calloc(1, sizeof(*worker));
        struct event_config *settings = event_config_new();

        if (!worker || !settings)
                abort();
        /* The base belongs to one thread; other threads speak through the mailbox. */
        event_config_set_flag(settings, EVENT_BASE_FLAG_NOLOCK);
        event_config_set_flag(settings, EVENT_BASE_FLAG_NO_CACHE_TIME);
        worker->number = number;
        worker->base = event_base_new_with_config(settings);
        event_config_free(settings);
        worker->box = mailbox_new(worker);
        worker->control = control;
        worker->verdicts = verdicts_new(VERDICTS_MOST);
        worker->grants = grants_new();
        worker->strangers_met = strangers_new();
        worker->directory = directory_new();
        admit_begin(worker, n_workers);
        admit_share_out(worker, world->config);
        worker->accept_failed_ms = INT64_MIN / 2;
        worker->retries_left = UPSTREAM_RETRIES_QUIET;
        link_init(&worker->clients);
        link_init(&worker->dropped_clients);
        link_init(&worker->strangers);
        link_init(&worker->resting);
        link_init(&worker->waiting);
        link_init(&worker->turns);
        link_init(&worker->holding);
        shakes_init(worker);
        link_init(&worker->upstreams);
        link_init(&worker->dropped_upstreams);
        for (size_t i = 0; i < SERVICE_COUNT; i++)
                link_init(&worker->idle[i]);
        lease_renew(worker, world_ref(world));
        if (!worker->base) {
                error_set(err, "cannot make an event loop");
        } else if (bind_listeners(worker, first, world->config, n_workers, inherited, err)) {
                event_assign(&worker->box_event, worker->base, mailbox_fd(worker->box),
                        EV_READ | EV_PERSIST, on_box, worker);
                event_assign(&worker->tick_event, worker->base, -1, EV_PERSIST, on_tick, worker);
                event_assign(&worker->audit_event, worker->base, -1, 0, on_audit_due, worker);
                event_assign(&worker->turn_event, worker->base, -1, 0, on_turn, worker);
                event_assign(&worker->shake_event, worker->base, -1, 0, on_shakes, worker);
                return worker;
        }
        worker_free(worker);
        return NULL;
}

void worker_attach(
        struct worker *worker, struct scribe *scribe, struct ledger *ledger, struct budget *budget)
{
        worker->budget = budget;
        worker->scribe = scribe;
        worker->ledger = ledger;
        evidence_watch(worker);
}

struct worker_port worker_port(struct worker *worker)
{
        return (struct worker_port){
                .box = worker->box, .take_world = on_world, .count = on_count, .drain = on_drain};
}

bool worker_start(struct worker *worker, struct error *err)
{
        struct timeval tick = {.tv_usec = TICK_MS * 1000};

        event_add(&worker->box_event, NULL);
        event_add(&worker->tick_event, &tick);
        for (size_t i = 0; i < worker->n_listeners; i++)
                event_add(&worker->listeners[i].event, NULL);
        worker->started = true;
        int failed = pthread_create(&worker->thread, NULL, worker_run, worker);
        if (failed) {
                worker->started = false;
                return error_set(err, "cannot start a thread: %s", strerror(failed));
        }
        return true;
}

void worker_join(struct worker *worker)
{
        struct mail *mail = calloc(1, sizeof(*mail));

        if (!mail)
                abort();
        mail->deliver = on_stop;
        mailbox_post(worker->box, mail);
        pthread_join(worker->thread, NULL);
        mailbox_drain(worker->box);
        worker->ledger = NULL; /* it ends before what it still posts is looked at */
}

void worker_post_last(struct worker *worker)
{
        mailbox_drain(worker->box);
        evidence_post_failed(worker);
}

void worker_free(struct worker *worker)
{
        if (!worker)
                return;
        mailbox_drain(worker->box); /* answers that came when nobody was there any more */
        close_listeners(worker);
        while (!link_empty(&worker->upstreams))
                upstream_drop(LINK_OF(struct upstream, link, worker->upstreams.after));
        free_dropped(worker);
        evidence_clear(worker);
        free_spare(worker, 0);
        lease_drop(worker->lease);
        verdicts_free(worker->verdicts);
        grants_free(worker->grants);
        strangers_free(worker->strangers_met);
        directory_free(worker->directory);
        lent_free(worker->lent);
        for (size_t i = 0; i < SERVICE_COUNT; i++)
                buf_clear(&worker->locations[i]);
        upstream_forget_sessions(worker);
        stream_pool_clear(&worker->pool);
        if (worker->base)
                event_base_free(worker->base);
        mailbox_free(worker->box);
        free(worker->listeners);
        free(worker);
}
