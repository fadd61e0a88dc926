/*
 * Reaching hosts: name, connection, handshake. Each on a thread of its own, because only a thread
 * can wait for getaddrinfo; one that still waits at the deadline is left behind with its memory.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/http/connect.h"
#include "dagward/net/listener.h"
#include "inside.h"

enum { CONNECT_MS = 3000, SHAKE_MS = 4000, STACK_BYTES = 512 * 1024 };

void reaches_init(struct reaches *reaches, struct egress *egress)
{
        *reaches = (struct reaches){.box = mailbox_new(reaches), .egress = egress};
}

void reaches_clear(struct reaches *reaches)
{
        bool left_behind = false;

        for (size_t i = 0; i < reaches->n; i++) {
                if (!reaches->all[i]->done) {
                        left_behind = true;
                        continue;
                }
                egress_unref(reaches->all[i]->egress);
                free(reaches->all[i]);
        }
        if (!left_behind)
                mailbox_free(reaches->box);
        free(reaches->all);
}

struct reach *reach_want(
        struct reaches *reaches, struct str host, unsigned port, bool tls, const char *ca)
{
        for (size_t i = 0; i < reaches->n; i++) {
                struct reach *one = reaches->all[i];
                if (one->seen.port == port && one->tls == tls &&
                        str_eq_fold(str_of(one->seen.host), host) &&
                        strcmp(one->seen.ca, ca ? ca : "") == 0)
                        return one;
        }
        struct reach *fresh = calloc(1, sizeof(*fresh));
        reaches->all = realloc(reaches->all, (reaches->n + 1) * sizeof(*reaches->all));
        if (!fresh || !reaches->all)
                abort();
        snprintf(fresh->seen.host, sizeof(fresh->seen.host), "%.*s", STR_FMT(host));
        snprintf(fresh->seen.ca, sizeof(fresh->seen.ca), "%s", ca ? ca : "");
        fresh->seen.port = port;
        fresh->tls = tls;
        if (tls && egress_serves(reaches->egress, fresh->seen.host)) {
                fresh->egress = egress_ref(reaches->egress);
                memcpy(fresh->seen.proxy, fresh->egress->text, sizeof(fresh->seen.proxy));
                memcpy(fresh->seen.proxy_from, fresh->egress->from, sizeof(fresh->seen.proxy_from));
        }
        fresh->done_box = reaches->box;
        reaches->all[reaches->n++] = fresh;
        return fresh;
}

struct reach_seen reach_view(const struct reach *reach)
{
        struct reach_seen seen = {.port = reach->seen.port, .stage = REACH_PENDING};

        if (reach->done)
                return reach->seen;
        /* Its thread writes none of these. */
        memcpy(seen.host, reach->seen.host, sizeof(seen.host));
        memcpy(seen.ca, reach->seen.ca, sizeof(seen.ca));
        memcpy(seen.proxy, reach->seen.proxy, sizeof(seen.proxy));
        memcpy(seen.proxy_from, reach->seen.proxy_from, sizeof(seen.proxy_from));
        snprintf(seen.why, sizeof(seen.why), "the name service did not answer in time");
        return seen;
}

bool reach_good(const struct reach *reach)
{
        return reach->done && (reach->seen.stage == REACH_TCP ||
                                      (reach->seen.stage == REACH_TLS && reach->seen.tls.shaken &&
                                              reach->seen.tls.trust == TLS_TRUSTED));
}

/* --- on the thread --- */

/* Connected before the deadline: 0; else errno. */
static int connect_before(int fd, const struct addrinfo *to, int64_t deadline_mono_ms)
{
        struct pollfd waiting = {.fd = fd, .events = POLLOUT};
        int error = 0;
        socklen_t len = sizeof(error);

        if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
                return 0;
        if (errno != EINPROGRESS)
                return errno;
        int64_t left = deadline_mono_ms - clock_mono_ms();
        if (left <= 0 || poll(&waiting, 1, (int)left) <= 0)
                return ETIMEDOUT;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
        return error;
}

static enum reach_stage stage_of(int error)
{
        switch (error) {
        case ECONNREFUSED: return REACH_REFUSED;
        case ETIMEDOUT: return REACH_SILENT;
        default: return REACH_NO_ROUTE;
        }
}

static int64_t sooner(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

/* A connected descriptor, or -1 with stage and reason. */
static int reach_connect(struct reach *reach, const struct addrinfo *found)
{
        struct reach_seen *seen = &reach->seen;
        int64_t deadline = sooner(clock_mono_ms() + CONNECT_MS, reach->deadline_mono_ms);

        for (const struct addrinfo *one = found; one; one = one->ai_next) {
                int fd = socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                int error = fd < 0 ? errno : connect_before(fd, one, deadline);
                listener_peer_text(one->ai_addr, one->ai_addrlen, seen->address);
                if (fd >= 0 && error == 0)
                        return fd;
                if (fd >= 0)
                        close(fd);
                seen->stage = stage_of(error);
                snprintf(seen->why, sizeof(seen->why), "%s: %s", seen->address, strerror(error));
        }
        return -1;
}

/* Waits until `events` come; false: the deadline came first. */
static bool wait_before(int fd, short events, int64_t deadline_mono_ms)
{
        struct pollfd waiting = {.fd = fd, .events = events};
        int64_t left = deadline_mono_ms - clock_mono_ms();

        return left > 0 && poll(&waiting, 1, (int)left) > 0;
}

/* Asks the proxy at the other end for a way; false with stage and reason. */
static bool reach_tunnel(struct reach *reach, int fd, int64_t deadline_mono_ms)
{
        struct reach_seen *seen = &reach->seen;
        char memory[4096], *room = malloc(CONNECT_ANSWER_MOST + 1);
        size_t got = 0, scanned = 0;
        enum connect_answer said = CONNECT_AGAIN;
        struct buf head;
        ssize_t n = 1;

        if (!room)
                abort();
        buf_init_fixed(&head, memory, sizeof(memory));
        connect_write(&head, seen->host, seen->port, secret_reveal(&reach->egress->authorization));
        if (send(fd, head.data, head.len, MSG_NOSIGNAL) != (ssize_t)head.len)
                n = -1;
        secret_wipe(memory, head.len);
        while (n > 0 && said == CONNECT_AGAIN && got <= CONNECT_ANSWER_MOST) {
                if (!wait_before(fd, POLLIN, deadline_mono_ms))
                        break;
                n = recv(fd, room + got, CONNECT_ANSWER_MOST + 1 - got, 0);
                got += n > 0 ? (size_t)n : 0;
                said = connect_judge(str_view(room, got), &scanned, &seen->proxy_status);
        }
        free(room);
        if (said == CONNECT_OPEN)
                return true;
        seen->stage = said == CONNECT_NO ? REACH_PROXY_NO : REACH_PROXY_BROKEN;
        snprintf(seen->why, sizeof(seen->why), "the outgoing proxy %s",
                said == CONNECT_NO      ? connect_refusal(seen->proxy_status)
                : said == CONNECT_STRAY ? "sent more than its answer"
                : n < 0                 ? strerror(errno)
                : n == 0                ? "closed the connection instead of answering"
                : said == CONNECT_AGAIN ? "did not answer in time"
                                        : "answered with something that is not HTTP");
        return false;
}

static void reach_look(struct reach *reach)
{
        struct reach_seen *seen = &reach->seen;
        struct addrinfo hints = {.ai_family = AF_UNSPEC,
                .ai_socktype = SOCK_STREAM,
                .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV};
        struct addrinfo *found = NULL;
        struct error err;
        char port[8];

        snprintf(port, sizeof(port), "%u", reach->egress ? reach->egress->port : seen->port);
        int code =
                getaddrinfo(reach->egress ? reach->egress->host : seen->host, port, &hints, &found);
        if (code != 0) {
                seen->stage = REACH_NO_NAME;
                snprintf(seen->why, sizeof(seen->why), "%s", gai_strerror(code));
                return;
        }
        int fd = reach_connect(reach, found);
        freeaddrinfo(found);
        if (fd < 0)
                return;
        int64_t deadline = sooner(clock_mono_ms() + SHAKE_MS, reach->deadline_mono_ms);
        if (reach->egress && !reach_tunnel(reach, fd, deadline)) {
                close(fd);
                return;
        }
        seen->stage = reach->tls ? REACH_TLS : REACH_TCP;
        if (reach->tls && !tls_look(fd, seen->host, seen->ca[0] ? seen->ca : NULL, deadline,
                                  &seen->tls, &err)) {
                seen->stage = REACH_NO_CA;
                snprintf(seen->why, sizeof(seen->why), "%.250s", err.text);
        }
        close(fd);
}

static void on_reached(struct mail *mail, void *receiver)
{
        struct reaches *reaches = receiver;

        ((struct reach *)mail)->done = true;
        reaches->n_done++;
}

static void *reach_run(void *arg)
{
        struct reach *reach = arg;

        reach_look(reach);
        reach->mail.deliver = on_reached;
        mailbox_post(reach->done_box, &reach->mail);
        return NULL;
}

/* --- on the caller's --- */

static void reach_begin(struct reach *reach, const pthread_attr_t *attributes)
{
        reach->threaded = pthread_create(&reach->thread, attributes, reach_run, reach) == 0;
        if (!reach->threaded)
                reach_run(reach); /* no thread is to be had: then one after the other */
}

/* Who has posted its mail ends at once; who has not waits for a name service, perhaps for long. */
static void reach_end(struct reach *reach)
{
        if (!reach->threaded)
                return;
        if (reach->done)
                pthread_join(reach->thread, NULL);
        else
                pthread_detach(reach->thread);
}

void reaches_run(struct reaches *reaches, int64_t deadline_mono_ms)
{
        struct pollfd waiting = {.fd = mailbox_fd(reaches->box), .events = POLLIN};
        pthread_attr_t attributes;

        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        for (size_t i = 0; i < reaches->n; i++) {
                /* Connecting and shaking hands end before we stop waiting. */
                reaches->all[i]->deadline_mono_ms = deadline_mono_ms - 500;
                reach_begin(reaches->all[i], &attributes);
        }
        pthread_attr_destroy(&attributes);
        while (reaches->n_done < reaches->n) {
                int64_t left = deadline_mono_ms - clock_mono_ms();
                if (left <= 0)
                        break;
                if (poll(&waiting, 1, (int)left) > 0)
                        mailbox_drain(reaches->box);
        }
        for (size_t i = 0; i < reaches->n; i++)
                reach_end(reaches->all[i]);
}
