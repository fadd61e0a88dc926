#include "dagward/net/dial.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dagward/base/clock.h"

enum {
        SLICE_MS = 100,   /* between two looks at whether it is cancelled */
        PIECES_MOST = 64, /* of what a peer says at a time: it may never be silent */
};

struct dial {
        int fd;
        SSL *ssl; /* NULL: plain */
        bool datagram;
        uint64_t sent; /* plain */
};

/* --- connecting --- */

/* False: the time is over, or it is cancelled. */
static bool wait_for(
        const struct dial_settings *settings, int fd, short events, int64_t deadline_ms)
{
        for (;;) {
                struct pollfd one = {.fd = fd, .events = events};
                int64_t left = deadline_ms - clock_mono_ms();
                if (left <= 0 || (settings->cancelled && settings->cancelled(settings->owner)))
                        return false;
                if (poll(&one, 1, (int)(left < SLICE_MS ? left : SLICE_MS)) > 0)
                        return true;
        }
}

static void set_options(int fd)
{
        int on = 1, idle_s = 30, interval_s = 10, probes = 3;

        /* A peer that is gone without a word is found out also while there is nothing to say. */
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int connect_to(
        const struct dial_settings *settings, const struct addrinfo *to, int64_t deadline_ms)
{
        int fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int why = 0;
        socklen_t len = sizeof(why);

        if (fd < 0)
                return -1;
        set_options(fd);
        if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
                return fd;
        why = errno;
        if (why == EINPROGRESS) {
                if (!wait_for(settings, fd, POLLOUT, deadline_ms))
                        why = ETIMEDOUT;
                else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0)
                        why = errno;
        }
        if (why == 0)
                return fd;
        close(fd);
        errno = why;
        return -1;
}

/* Why OpenSSL says no; the verification's reason says more than "certificate verify failed". */
static void tls_why(SSL *ssl, const char *host, struct error *err)
{
        long verdict = SSL_get_verify_result(ssl);

        if (verdict == X509_V_ERR_HOSTNAME_MISMATCH || verdict == X509_V_ERR_IP_ADDRESS_MISMATCH)
                error_set(err, "its certificate is not for %s", host);
        else if (verdict != X509_V_OK)
                error_set(err, "its certificate is not trusted: %s",
                        X509_verify_cert_error_string(verdict));
        else
                error_set(err, "TLS: %s", tls_reason());
}

static bool handshake(struct dial *dial, const struct dial_settings *settings, int64_t deadline_ms,
        struct error *err)
{
        dial->ssl = tls_connect(settings->tls, dial->fd, settings->host);
        if (!dial->ssl)
                return error_set(err, "TLS: %s", tls_reason());
        for (;;) {
                ERR_clear_error();
                int got = SSL_do_handshake(dial->ssl);
                if (got == 1)
                        return true;
                int what = SSL_get_error(dial->ssl, got);
                if (what != SSL_ERROR_WANT_READ && what != SSL_ERROR_WANT_WRITE) {
                        tls_why(dial->ssl, settings->host, err);
                        return false;
                }
                if (!wait_for(settings, dial->fd, what == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT,
                            deadline_ms))
                        return error_set(err, "TLS: no answer within %lld ms",
                                (long long)settings->timeout_ms);
        }
}

static struct dial *dial_new(int fd)
{
        struct dial *dial = calloc(1, sizeof(*dial));

        if (!dial)
                abort();
        dial->fd = fd;
        return dial;
}

static struct dial *open_one(
        const struct dial_settings *settings, const struct addrinfo *to, struct error *err)
{
        int64_t deadline_ms = clock_mono_ms() + settings->timeout_ms;
        int fd = connect_to(settings, to, deadline_ms);

        if (fd < 0) {
                error_set(err, "%s", strerror(errno));
                return NULL;
        }
        struct dial *dial = dial_new(fd);
        if (!settings->tls || handshake(dial, settings, deadline_ms, err))
                return dial;
        dial_close(dial);
        return NULL;
}

struct dial *dial_open(const struct dial_settings *settings, struct error *err)
{
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *found;
        struct dial *dial = NULL;
        char port[8];

        snprintf(port, sizeof(port), "%u", settings->port);
        int why = getaddrinfo(settings->host, port, &hints, &found);
        if (why) {
                error_set(err, "%s: its name is not resolved: %s", settings->host,
                        why == EAI_SYSTEM ? strerror(errno) : gai_strerror(why));
                return NULL;
        }
        for (struct addrinfo *one = found; one && !dial; one = one->ai_next)
                dial = open_one(settings, one, err);
        freeaddrinfo(found);
        if (!dial)
                error_wrap(err, "%s:%u", settings->host, settings->port);
        return dial;
}

struct dial *dial_unix(const char *path, struct error *err)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (strlen(path) >= sizeof(address.sun_path)) {
                error_set(err, "%s: the path is too long", path);
        } else {
                memcpy(address.sun_path, path, strlen(path) + 1);
                if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
                        struct dial *dial = dial_new(fd);
                        dial->datagram = true;
                        return dial;
                }
                error_set(err, "%s: %s", path, strerror(errno));
        }
        if (fd >= 0)
                close(fd);
        return NULL;
}

void dial_close(struct dial *dial)
{
        if (!dial)
                return;
        SSL_free(dial->ssl);
        close(dial->fd);
        free(dial);
}

int dial_fd(const struct dial *dial)
{
        return dial->fd;
}

/* --- sending --- */

/* What an answer of OpenSSL that is no success means: `events` to wait for, or 0: broken. */
static short wanted(struct dial *dial, int got, struct error *err)
{
        int why = errno, what = SSL_get_error(dial->ssl, got);

        if (what == SSL_ERROR_WANT_READ)
                return POLLIN;
        if (what == SSL_ERROR_WANT_WRITE)
                return POLLOUT;
        if (what == SSL_ERROR_SYSCALL && why)
                error_set(err, "%s", strerror(why));
        else
                error_set(err, "TLS: %s", tls_reason());
        return 0;
}

static ssize_t send_plain(struct dial *dial, struct str bytes, short *events, struct error *err)
{
        ssize_t n;

        do {
                n = send(dial->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        if (n > 0)
                dial->sent += (uint64_t)n;
        if (n >= 0)
                return n;
        /* A full queue of datagrams does not become writable: it is looked at again. */
        *events = errno == ENOBUFS ? 0 : POLLOUT;
        if (errno == EAGAIN || errno == ENOBUFS)
                return 0;
        n = errno;
        error_set(err, "%s", strerror((int)n));
        errno = (int)n;
        return -1;
}

ssize_t dial_send(struct dial *dial, struct str bytes, short *events, struct error *err)
{
        if (!dial->ssl)
                return send_plain(dial, bytes, events, err);
        ERR_clear_error();
        errno = 0;
        int n = SSL_write(dial->ssl, bytes.ptr, bytes.len < INT_MAX ? (int)bytes.len : INT_MAX);
        if (n > 0)
                return n;
        *events = wanted(dial, n, err);
        return *events ? 0 : -1;
}

/* One piece of what the peer says; true: there may be more. */
static bool hear_tls(
        struct dial *dial, char *piece, int len, enum dial_peer *peer, struct error *err)
{
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(dial->ssl, piece, len);

        if (n > 0)
                return true;
        if (SSL_get_error(dial->ssl, n) == SSL_ERROR_ZERO_RETURN)
                *peer = DIAL_ENDED;
        else if (!wanted(dial, n, err))
                *peer = DIAL_BROKEN;
        return false;
}

static bool hear_plain(
        struct dial *dial, char *piece, size_t len, enum dial_peer *peer, struct error *err)
{
        ssize_t n = recv(dial->fd, piece, len, 0);

        if (n > 0 || (n < 0 && errno == EINTR))
                return true;
        if (n < 0 && errno == EAGAIN)
                return false;
        *peer = n < 0 ? DIAL_BROKEN : DIAL_ENDED;
        if (n < 0)
                error_set(err, "%s", strerror(errno));
        return false;
}

enum dial_peer dial_listen(struct dial *dial, struct error *err)
{
        enum dial_peer peer = DIAL_OPEN;
        char piece[4096];

        for (int i = 0; i < PIECES_MOST; i++)
                if (dial->ssl ? !hear_tls(dial, piece, sizeof(piece), &peer, err)
                              : !hear_plain(dial, piece, sizeof(piece), &peer, err))
                        break;
        return peer;
}

void dial_finish(struct dial *dial)
{
        if (dial->ssl) {
                ERR_clear_error();
                SSL_shutdown(dial->ssl);
        }
        shutdown(dial->fd, SHUT_WR);
}

uint64_t dial_sent(const struct dial *dial)
{
        return dial->ssl ? BIO_number_written(SSL_get_wbio(dial->ssl)) : dial->sent;
}

uint64_t dial_acknowledged(const struct dial *dial)
{
        uint64_t sent = dial_sent(dial);
        int queued = 0;

        /* Datagrams are in the receiver's queue when they are taken. */
        if (dial->datagram)
                return sent;
        if (ioctl(dial->fd, SIOCOUTQ, &queued) != 0 || queued < 0)
                return 0;
        return (uint64_t)queued < sent ? sent - (uint64_t)queued : 0;
}
