#include "takeover.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/base/log.h"
#include "dagward/base/str.h"
#include "dagward/control/control.h"
#include "dagward/net/descriptors.h"

static void ending_signals(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGTERM);
        sigaddset(set, SIGINT);
}

bool takeover_is_called_off(void)
{
        sigset_t waiting;

        return sigpending(&waiting) == 0 &&
               (sigismember(&waiting, SIGTERM) == 1 || sigismember(&waiting, SIGINT) == 1);
}

bool takeover_goes_on(struct error *err)
{
        return !takeover_is_called_off() || error_set(err, "it was told to end before it served");
}

/* Until the other process says something, or a signal wants this one to end, which is left
 * waiting. */
static bool hear(const struct takeover *takeover)
{
        sigset_t set;
        struct pollfd fds[2] = {{.fd = takeover->peer, .events = POLLIN}, {.events = POLLIN}};

        ending_signals(&set);
        fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
        bool heard = poll(fds, 2, (int)takeover->limit_ms) > 0 && fds[0].revents;
        if (fds[1].fd >= 0)
                close(fds[1].fd);
        return heard;
}

/* The next word of the other process, which has to be `word`; what stands behind it. */
static bool await(struct takeover *takeover, const char *word, char *text, int *fds, size_t *n,
        struct error *err)
{
        size_t len = strlen(word);

        if (!hear(takeover))
                return takeover_goes_on(err) &&
                       error_set(err, "the process that runs does not answer in time "
                                      "(timeouts.handover)");
        if (!descriptors_receive(takeover->peer, text, fds, n))
                return error_set(err, "the process that runs has ended");
        if (strncmp(text, "NO ", 3) == 0)
                return error_set(err, "the process that runs refuses: %s", text + 3);
        if (strncmp(text, word, len) != 0)
                return error_set(err, "the process that runs says something unknown");
        return true;
}

static bool trusted(int peer, struct error *err)
{
        struct ucred who;
        socklen_t len = sizeof(who);

        if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
                (who.uid == 0 || who.uid == geteuid()))
                return true;
        return error_set(err, "the handover socket is another user's");
}

static bool keep(struct takeover *takeover, const char *kinds, const int *fds, size_t n,
        struct inherited *sockets, struct error *err)
{
        bool ok = strlen(kinds) == n;

        for (size_t i = 0; i < n; i++) {
                if (ok && kinds[i] == 'H' && takeover->listen < 0)
                        takeover->listen = fds[i];
                else if (ok && kinds[i] != 'H')
                        ok = inherited_add(sockets, fds[i], "handover", err);
                else
                        close(fds[i]);
        }
        if (strlen(kinds) != n || (ok && takeover->listen < 0))
                return error_set(err, "sockets are missing");
        return ok;
}

static bool get_sockets(struct takeover *takeover, struct inherited *sockets, struct error *err)
{
        char text[DESCRIPTORS_TEXT];
        int fds[DESCRIPTORS_MOST];
        size_t n;

        if (!trusted(takeover->peer, err))
                return false;
        /* It may have refused already, and hung up: what it said is still there. */
        (void)!descriptors_send(takeover->peer, "TAKE " CONTROL_HANDOVER_VERSION, NULL, 0);
        if (!await(takeover, "SOCKETS ", text, fds, &n, err))
                return false;
        sockets->handed_over = true;
        return keep(takeover, text + strlen("SOCKETS "), fds, n, sockets, err);
}

bool takeover_begin(
        struct takeover *takeover, const char *path, struct inherited *sockets, struct error *err)
{
        *takeover = (struct takeover){.limit_ms = takeover->limit_ms,
                .peer = -1,
                .listen = -1,
                .audit = -1,
                .triggers = -1};
        takeover->peer = descriptors_connect(path, takeover->limit_ms);
        if (takeover->peer < 0 && errno == EAGAIN)
                return error_set(err, "the process that runs does not answer at %s", path);
        if (takeover->peer < 0 && errno != ENOENT && errno != ECONNREFUSED)
                return error_set(err, "%s: %s", path, strerror(errno));
        if (takeover->peer < 0) {
                takeover->listen = descriptors_listen(path, err);
                return takeover->listen >= 0;
        }
        if (sockets->n)
                return error_set(err,
                        "sockets were passed, but there is a process to take over from, at %s",
                        path);
        return get_sockets(takeover, sockets, err) ? true : error_wrap(err, "handover");
}

bool takeover_get_files(struct takeover *takeover, struct error *err)
{
        char text[DESCRIPTORS_TEXT];
        int fds[DESCRIPTORS_MOST];
        size_t n = 0;

        (void)!descriptors_send(takeover->peer, "READY", NULL, 0);
        bool ok = await(takeover, "GO", text, fds, &n, err);
        if (ok && n == 2) {
                takeover->audit = fds[0];
                takeover->triggers = fds[1];
                return true;
        }
        while (n)
                close(fds[--n]);
        return ok ? error_set(err, "the channels are missing") : false;
}

void takeover_finish(struct takeover *takeover)
{
        if (!descriptors_send(takeover->peer, "SERVING", NULL, 0))
                log_error("the process that was taken over from has ended already");
        close(takeover->peer);
        takeover->peer = -1;
}

void takeover_fail(struct takeover *takeover, const char *why)
{
        char text[DESCRIPTORS_TEXT];

        if (takeover->peer < 0)
                return;
        snprintf(text, sizeof(text), "NO %s", why);
        (void)!descriptors_send(takeover->peer, text, NULL, 0);
        close(takeover->peer);
        takeover->peer = -1;
}
