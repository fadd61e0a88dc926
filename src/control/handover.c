#include "handover.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/base/log.h"
#include "dagward/net/descriptors.h"
#include "inside.h"

enum state {
        NOBODY,
        CONNECTED,
        OFFERED, /* it has the sockets and gets ready */
        GIVEN,   /* it has the files */
};

struct handover {
        struct control *control;
        struct control_handover_hooks hooks;
        int fd;
        struct event acceptable, readable;
        enum state state;
        int peer;
        pid_t pid; /* of the peer */
        bool told; /* that it is silent, with the files */
};

static void part(struct handover *handover)
{
        if (handover->state == NOBODY)
                return;
        event_del(&handover->readable);
        close(handover->peer);
        handover->state = NOBODY;
}

static void failed(struct handover *handover, const char *why)
{
        char pid[24];

        snprintf(pid, sizeof(pid), "%ld", (long)handover->pid);
        struct pair detail[] = {{STR("reason"), str_of(why)}, {STR("pid"), str_of(pid)}};
        log_error("handover to process %s failed, this one goes on: %s", pid, why);
        control_event(handover->control, "handover.failed", detail, 2);
        part(handover);
        control_is_left_alone(handover->control);
}

static void refuse(struct handover *handover, const char *why)
{
        char text[DESCRIPTORS_TEXT];

        snprintf(text, sizeof(text), "NO %s", why);
        (void)!descriptors_send(handover->peer, text, NULL, 0);
        failed(handover, why);
}

static void offer(struct handover *handover, struct str version)
{
        int fds[DESCRIPTORS_MOST];
        char kinds[DESCRIPTORS_MOST + 1] = "", text[DESCRIPTORS_TEXT];
        size_t n;

        const char *unable = handover->control->draining
                                     ? "it is ending already"
                                     : handover->hooks.unable(handover->hooks.owner);
        if (unable) {
                refuse(handover, unable);
                return;
        }
        if (!str_eq(version, STR(CONTROL_HANDOVER_VERSION))) {
                refuse(handover,
                        "the two versions cannot hand over to each other; restart instead");
                return;
        }
        n = handover->hooks.sockets(handover->hooks.owner, fds, kinds, DESCRIPTORS_MOST - 1);
        fds[n] = handover->fd;
        kinds[n++] = 'H';
        snprintf(text, sizeof(text), "SOCKETS %.*s", (int)n, kinds);
        if (!descriptors_send(handover->peer, text, fds, n)) {
                failed(handover, "the sockets cannot be sent");
                return;
        }
        handover->state = OFFERED;
        log_info("handover to process %ld begins", (long)handover->pid);
}

/* The files change hands when what was posted to their threads before is done. */
static void give(struct handover *handover)
{
        int audit[2] = {-1, -1}, triggers[2] = {-1, -1};

        if (handover->control->draining) {
                refuse(handover, "it is ending already");
                return;
        }
        bool ok = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, audit) == 0 &&
                  socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, triggers) == 0;
        const int theirs[] = {audit[1], triggers[1]};
        ok = ok && descriptors_send(handover->peer, "GO", theirs, 2);
        if (audit[1] >= 0)
                close(audit[1]);
        if (triggers[1] >= 0)
                close(triggers[1]);
        if (ok) {
                handover->state = GIVEN;
                handover->hooks.give(handover->hooks.owner, audit[0], triggers[0]);
                return;
        }
        if (audit[0] >= 0)
                close(audit[0]);
        if (triggers[0] >= 0)
                close(triggers[0]);
        failed(handover, "the files cannot be handed over");
}

static void done(struct handover *handover)
{
        struct control *control = handover->control;
        char pid[24];

        snprintf(pid, sizeof(pid), "%ld", (long)handover->pid);
        struct pair detail = {STR("pid"), str_of(pid)};
        log_info("handover to process %s is done", pid);
        control_event(control, "handover.done", &detail, 1);
        part(handover);
        event_del(&handover->acceptable); /* the other one listens there now */
        control_leave_to_heir(control);
}

/* Who has the files may hold their locks, and go on at any moment: it is waited for, since only its
 * end is sure. */
static void on_silence(struct handover *handover)
{
        if (handover->state != GIVEN) {
                refuse(handover, "it was not ready in time");
                return;
        }
        if (!handover->told)
                log_error("handover: process %ld has got the files and does not serve; what needs "
                          "the audit log is refused until it does, or is ended",
                        (long)handover->pid);
        handover->told = true;
        control_is_left_alone(handover->control);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct handover *handover = arg;
        char text[DESCRIPTORS_TEXT];
        struct str rest, word;

        if (what & EV_TIMEOUT) {
                on_silence(handover);
                return;
        }
        if (!descriptors_receive(fd, text, NULL, NULL)) {
                failed(handover, handover->state == GIVEN ? "it ended before it served"
                                                          : "it ended before it was ready");
                return;
        }
        rest = str_cut(str_of(text), ' ', &word);
        if (handover->state == CONNECTED && str_eq(word, STR("TAKE")))
                offer(handover, rest);
        else if (handover->state == OFFERED && str_eq(word, STR("READY")))
                give(handover);
        else if (handover->state == GIVEN && str_eq(word, STR("SERVING")))
                done(handover);
        else if (str_eq(word, STR("NO")))
                failed(handover, rest.len ? rest.ptr : "it does not say why");
        else
                failed(handover, "it said something that was not its turn");
}

/* Whoever may be us, or root, may take our place. */
static bool may_take(int peer, pid_t *pid)
{
        struct ucred who;
        socklen_t len = sizeof(who);

        if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0 ||
                (who.uid != 0 && who.uid != geteuid()))
                return false;
        *pid = who.pid;
        return true;
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
        struct handover *handover = arg;
        int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        pid_t pid = 0;

        (void)what;
        if (peer < 0)
                return;
        if (!may_take(peer, &pid) || handover->state != NOBODY) {
                char unread[64], text[DESCRIPTORS_TEXT];
                log_error("handover: process %ld is turned away", (long)pid);
                /* What is left unread would be a reset, and the reason lost. */
                shutdown(peer, SHUT_RD);
                (void)!recv(peer, unread, sizeof(unread), MSG_DONTWAIT);
                snprintf(text, sizeof(text), "NO process %ld is taking over just now",
                        (long)handover->pid);
                (void)!descriptors_send(peer, pid ? text : "NO it is not for you", NULL, 0);
                close(peer);
                return;
        }
        handover->peer = peer;
        handover->pid = pid;
        handover->state = CONNECTED;
        handover->told = false;
        event_assign(&handover->readable, handover->control->base, peer, EV_READ | EV_PERSIST,
                on_readable, handover);
        int64_t limit_ms = handover->control->first_config->timeouts.handover_ms;
        const struct timeval patience = {limit_ms / 1000, limit_ms % 1000 * 1000};
        event_add(&handover->readable, &patience);
}

bool handover_is_under_way(const struct handover *handover, pid_t *pid)
{
        if (!handover || handover->state != OFFERED)
                return false;
        *pid = handover->pid;
        return true;
}

struct handover *handover_new(
        struct control *control, int fd, const struct control_handover_hooks *hooks)
{
        struct handover *handover = calloc(1, sizeof(*handover));

        if (!handover)
                abort();
        *handover = (struct handover){.control = control, .hooks = *hooks, .fd = fd, .peer = -1};
        event_assign(&handover->acceptable, control->base, fd, EV_READ | EV_PERSIST, on_acceptable,
                handover);
        event_add(&handover->acceptable, NULL);
        return handover;
}

void handover_free(struct handover *handover)
{
        if (!handover)
                return;
        part(handover);
        event_del(&handover->acceptable);
        close(handover->fd);
        free(handover);
}
