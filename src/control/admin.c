/*
 * The admin listener: /healthz, /readyz and /metrics, for probes and Prometheus, and the public key
 * of the audit log's checkpoints.
 *
 * One request per connection, GET and HEAD only, small and bounded. Nothing here changes state or
 * shows a secret. It runs on the control thread and asks workers and scribe for their numbers by
 * mail; who does not answer within a second is counted with what it said last.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "dagward/http/h1_write.h"
#include "inside.h"

enum {
        CLIENTS_MOST = 32,
        HEAD_MOST_BYTES = 8 * 1024,
        ANSWER_MOST_BYTES = 1024 * 1024,
        DEADLINE_MS = 5 * 1000,
        GATHER_MS = 1000,
        PAUSE_MS = 250,
};

#define AUDIT_KEY_PATH "/.well-known/dagward/audit-key"

enum page { PAGE_NONE, PAGE_HEALTH, PAGE_READY, PAGE_METRICS };

struct admin_client {
        struct admin *admin;
        struct admin_client *next, **link;
        int fd;
        struct event readable, writable, deadline, gathered;
        char head[HEAD_MOST_BYTES];
        size_t head_bytes, scanned;
        enum page page;
        bool head_only; /* the method is HEAD */
        bool waiting;   /* for the numbers */
        bool finishing; /* all is sent: reads until the peer closes */
        struct buf answer;
        size_t sent;
};

/* One worker's numbers: what it told last, and the question when it is under way. */
struct told {
        struct count_mail mail;
        struct admin *admin;
        bool pending;
        struct metrics last;
};

struct admin {
        struct control *control;
        int fd;
        uint16_t port;
        struct event acceptable, paused;
        struct admin_client *first;
        size_t n_clients;
        struct told *workers; /* control->n_ports of them */
        size_t n_pending;     /* workers, and the scribe */
        struct scribe_ask scribe_ask;
        bool scribe_pending, scribe_known;
        struct scribe_stats scribe;
};

static void arm(struct event *event, int64_t ms)
{
        struct timeval wait = {ms / 1000, ms % 1000 * 1000};

        event_add(event, &wait);
}

static void client_drop(struct admin_client *client)
{
        struct event *events[] = {
                &client->readable, &client->writable, &client->deadline, &client->gathered};

        for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++)
                event_del(events[i]);
        *client->link = client->next;
        if (client->next)
                client->next->link = client->link;
        client->admin->n_clients--;
        close(client->fd);
        buf_clear(&client->answer);
        free(client);
}

/* --- answering --- */

static void client_send(struct admin_client *client)
{
        while (client->sent < client->answer.len) {
                ssize_t n = send(client->fd, client->answer.data + client->sent,
                        client->answer.len - client->sent, MSG_NOSIGNAL);
                if (n > 0) {
                        client->sent += (size_t)n;
                } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
                        event_add(&client->writable, NULL);
                        return;
                } else {
                        client_drop(client);
                        return;
                }
        }
        /* Closing with bytes unread would reset the connection under the answer. */
        client->finishing = true;
        shutdown(client->fd, SHUT_WR);
        event_add(&client->readable, NULL);
}

static void client_answer(
        struct admin_client *client, int status, const char *type, struct str body)
{
        struct buf *out = &client->answer;

        client->waiting = false;
        event_del(&client->readable);
        event_del(&client->gathered);
        buf_init(out, ANSWER_MOST_BYTES + 4096);
        h1_write_status_line(out, status, STR_NONE);
        h1_write_field(out, STR("Content-Type"), str_of(type));
        if (status == 405)
                h1_write_field(out, STR("Allow"), STR("GET, HEAD"));
        h1_write_field(out, STR("Cache-Control"), STR("no-store"));
        h1_write_field(out, STR("X-Content-Type-Options"), STR("nosniff"));
        h1_write_field(out, STR("Connection"), STR("close"));
        h1_write_framing(out, H1_LENGTH, body.len);
        h1_write_end(out);
        if (!client->head_only)
                buf_str_add(out, body);
        client_send(client);
}

static void client_answer_page(struct admin_client *client)
{
        struct admin *admin = client->admin;
        struct control *control = admin->control;
        struct control_counts counts = {.has_scribe = control->scribe != NULL,
                .scribe_answered = admin->scribe_known && !admin->scribe_pending,
                .scribe = admin->scribe};
        struct buf body;

        for (size_t i = 0; i < control->n_ports; i++) {
                metrics_add(&counts.workers, &admin->workers[i].last);
                counts.n_silent += admin->workers[i].pending;
        }
        buf_init(&body, ANSWER_MOST_BYTES);
        if (client->page == PAGE_READY) {
                bool ready = control_ready(control, &counts, &body);
                client_answer(
                        client, ready ? 200 : 503, "text/plain; charset=utf-8", buf_str(&body));
        } else {
                control_metrics_write(control, &counts, &body);
                client_answer(
                        client, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&body));
        }
        buf_clear(&body);
}

/* --- asking the other threads --- */

static void answer_waiting(struct admin *admin)
{
        struct admin_client *client = admin->first;

        while (client) {
                struct admin_client *next = client->next;
                if (client->waiting)
                        client_answer_page(client);
                client = next;
        }
}

static void on_counted(struct mail *mail, void *receiver)
{
        struct told *told = (struct told *)mail;
        struct admin *admin = told->admin;

        (void)receiver;
        told->last = told->mail.sum;
        told->pending = false;
        if (--admin->n_pending == 0)
                answer_waiting(admin);
}

static void on_scribe_told(struct scribe_ask *ask, void *receiver)
{
        struct admin *admin = ask->owner;

        (void)receiver;
        admin->scribe = ask->stats;
        admin->scribe_known = true;
        admin->scribe_pending = false;
        if (--admin->n_pending == 0)
                answer_waiting(admin);
}

/* Asks those that are not being asked already. */
static void gather(struct admin *admin)
{
        struct control *control = admin->control;

        for (size_t i = 0; i < control->n_ports; i++) {
                struct told *told = &admin->workers[i];
                if (told->pending)
                        continue;
                told->admin = admin;
                told->pending = true;
                told->mail = (struct count_mail){.mail = {.deliver = control->ports[i].count},
                        .reply_to = control->box,
                        .answered = on_counted};
                admin->n_pending++;
                mailbox_post(control->ports[i].box, &told->mail.mail);
        }
        if (control->scribe && !admin->scribe_pending) {
                admin->scribe_pending = true;
                admin->scribe_ask = (struct scribe_ask){
                        .reply_to = control->box, .done = on_scribe_told, .owner = admin};
                admin->n_pending++;
                scribe_ask(control->scribe, &admin->scribe_ask);
        }
}

static void on_gather_timer(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        client_answer_page(arg);
}

/* --- requests --- */

static void client_serve(struct admin_client *client, const struct h1_request *request)
{
        struct str path;
        const struct str text = STR("GET /healthz, /readyz, /metrics or " AUDIT_KEY_PATH "\n");

        str_cut(request->target, '?', &path);
        client->head_only = str_eq(request->method, STR("HEAD"));
        if (!client->head_only && !str_eq(request->method, STR("GET"))) {
                client_answer(client, 405, "text/plain; charset=utf-8", text);
                return;
        }
        if (str_eq(path, STR("/healthz"))) {
                client_answer(client, 200, "text/plain; charset=utf-8", STR("ok\n"));
        } else if (str_eq(path, STR("/readyz")) || str_eq(path, STR("/metrics"))) {
                client->page = str_eq(path, STR("/readyz")) ? PAGE_READY : PAGE_METRICS;
                client->waiting = true;
                event_del(&client->readable);
                gather(client->admin);
                if (client->admin->n_pending == 0)
                        client_answer_page(client);
                else
                        arm(&client->gathered, GATHER_MS);
        } else if (str_eq(path, STR(AUDIT_KEY_PATH)) && client->admin->control->scribe) {
                client_answer(client, 200, "application/x-pem-file",
                        str_of(scribe_public_key(client->admin->control->scribe)));
        } else {
                client_answer(client, 404, "text/plain; charset=utf-8", text);
        }
}

static void client_parse(struct admin_client *client)
{
        struct h1_limits limits = {
                .head_bytes = HEAD_MOST_BYTES, .field_bytes = HEAD_MOST_BYTES, .fields = 64};
        struct h1_request request;
        struct h1_fault fault;
        ssize_t n = h1_parse_request(
                client->head, client->head_bytes, &client->scanned, &limits, &request, &fault);

        if (n == H1_AGAIN && client->head_bytes < sizeof(client->head))
                return;
        if (n >= 0) {
                client_serve(client, &request);
        } else if (n == H1_BAD) {
                char why[160];
                snprintf(why, sizeof(why), "%s\n", fault.why);
                client_answer(client, fault.status, "text/plain; charset=utf-8", str_of(why));
        } else {
                client_answer(client, 431, "text/plain; charset=utf-8", STR("too long\n"));
        }
}

static void on_client_readable(evutil_socket_t fd, short what, void *arg)
{
        struct admin_client *client = arg;
        char sink[4096];
        ssize_t n;

        (void)what;
        if (client->finishing)
                n = read(fd, sink, sizeof(sink));
        else
                n = read(fd, client->head + client->head_bytes,
                        sizeof(client->head) - client->head_bytes);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
                client_drop(client);
                return;
        }
        if (n < 0 || client->finishing)
                return;
        client->head_bytes += (size_t)n;
        client_parse(client);
}

static void on_client_writable(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        client_send(arg);
}

static void on_client_deadline(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        client_drop(arg);
}

/* How readily one makes room for another; 0: not at all. */
static int dispensable(const struct admin_client *client)
{
        if (client->finishing)
                return 3; /* it has its answer */
        if (client->waiting)
                return 0;                  /* for a second at most */
        return client->answer.len ? 1 : 2; /* it does not read; it has not asked */
}

/* So that who connects and says nothing, or does not read or leave, does not keep the probes away;
 * false when all wait for their numbers. */
static bool drop_oldest(struct admin *admin)
{
        struct admin_client *found = NULL;
        int most = 1;

        for (struct admin_client *one = admin->first; one; one = one->next)
                if (dispensable(one) >= most) {
                        most = dispensable(one);
                        found = one;
                }
        if (found)
                client_drop(found);
        return found != NULL;
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
        struct admin *admin = arg;

        (void)fd;
        (void)what;
        event_add(&admin->acceptable, NULL);
}

/* Without descriptors who waits goes on waiting, and would wake us all the time. */
static void pause_accepting(struct admin *admin)
{
        event_del(&admin->acceptable);
        arm(&admin->paused, PAUSE_MS);
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
        struct admin *admin = arg;
        int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        (void)what;
        if (peer < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        pause_accepting(admin);
                return;
        }
        if (admin->n_clients == CLIENTS_MOST && !drop_oldest(admin)) {
                close(peer);
                return;
        }
        struct admin_client *client = calloc(1, sizeof(*client));
        if (!client)
                abort();
        client->admin = admin;
        client->fd = peer;
        client->link = &admin->first;
        client->next = admin->first;
        if (client->next)
                client->next->link = &client->next;
        admin->first = client;
        admin->n_clients++;
        struct event_base *base = admin->control->base;
        event_assign(
                &client->readable, base, peer, EV_READ | EV_PERSIST, on_client_readable, client);
        event_assign(&client->writable, base, peer, EV_WRITE, on_client_writable, client);
        evtimer_assign(&client->deadline, base, on_client_deadline, client);
        evtimer_assign(&client->gathered, base, on_gather_timer, client);
        event_add(&client->readable, NULL);
        arm(&client->deadline, DEADLINE_MS);
}

/* --- life --- */

static int bind_to(const struct config_address *address, struct error *err)
{
        const struct sockaddr *where = (const struct sockaddr *)&address->socket;
        int one = 1;
        int fd = socket(where->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
                bind(fd, where, address->socket_len) == 0 && listen(fd, CLIENTS_MOST) == 0)
                return fd;
        error_set(err, "admin address %s: %s", address->text.ptr, strerror(errno));
        if (fd >= 0)
                close(fd);
        return -1;
}

struct admin *admin_new(struct control *control, struct error *err)
{
        const struct config_address *address = &control->first_config->admin.address;
        struct sockaddr_storage bound;
        socklen_t len = sizeof(bound);
        int fd = control->admin_fd >= 0 ? control->admin_fd : bind_to(address, err);

        control->admin_fd = -1;
        if (fd < 0)
                return NULL;
        struct admin *admin = calloc(1, sizeof(*admin));
        if (!admin)
                abort();
        admin->control = control;
        admin->fd = fd;
        admin->workers = calloc(control->n_ports + 1, sizeof(*admin->workers));
        if (!admin->workers)
                abort();
        if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0)
                admin->port = ntohs(bound.ss_family == AF_INET6
                                            ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                            : ((struct sockaddr_in *)&bound)->sin_port);
        event_assign(
                &admin->acceptable, control->base, fd, EV_READ | EV_PERSIST, on_acceptable, admin);
        evtimer_assign(&admin->paused, control->base, on_pause_over, admin);
        event_add(&admin->acceptable, NULL);
        log_info("admin address=%s port=%u", address->text.ptr, admin->port);
        return admin;
}

void admin_retire(struct admin *admin)
{
        if (admin->fd < 0)
                return;
        event_del(&admin->acceptable);
        event_del(&admin->paused);
        close(admin->fd);
        admin->fd = -1;
}

void admin_free(struct admin *admin)
{
        if (!admin)
                return;
        while (admin->first)
                client_drop(admin->first);
        admin_retire(admin);
        free(admin->workers);
        free(admin);
}

int admin_socket(const struct admin *admin)
{
        return admin->fd;
}

uint16_t admin_port(const struct admin *admin)
{
        return admin->port;
}
