#include "dagward/net/inherited.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dagward/base/log.h"
#include "dagward/base/str.h"

enum { FIRST_FD = 3 }; /* SD_LISTEN_FDS_START */

static uint16_t port_of(const struct sockaddr *address)
{
        return address->sa_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                              : ((const struct sockaddr_in *)address)->sin_port;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
        if (a->sa_family != b->sa_family || port_of(a) != port_of(b))
                return false;
        if (a->sa_family == AF_INET6)
                return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                               &((const struct sockaddr_in6 *)b)->sin6_addr,
                               sizeof(struct in6_addr)) == 0;
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
}

static void write_address(const struct sockaddr_storage *bound, char *out, size_t size)
{
        const struct sockaddr *address = (const struct sockaddr *)bound;
        bool six = address->sa_family == AF_INET6;
        const void *ip = six ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
                             : (const void *)&((const struct sockaddr_in *)address)->sin_addr;
        char text[INET6_ADDRSTRLEN] = "";

        inet_ntop(address->sa_family, ip, text, sizeof(text));
        snprintf(out, size, six ? "[%s]:%u" : "%s:%u", text, ntohs(port_of(address)));
}

static bool look_at(struct inherited_socket *one, struct error *err)
{
        int type = 0, listens = 0, flags = fcntl(one->fd, F_GETFL);
        socklen_t type_len = sizeof(type), listens_len = sizeof(listens);
        socklen_t bound_len = sizeof(one->bound);

        if (flags < 0 || getsockopt(one->fd, SOL_SOCKET, SO_TYPE, &type, &type_len) != 0 ||
                getsockname(one->fd, (struct sockaddr *)&one->bound, &bound_len) != 0)
                return error_set(err,
                        "descriptor %d (`%s`), which was passed to be listened on: %s", one->fd,
                        one->name, strerror(errno));
        if ((one->bound.ss_family != AF_INET && one->bound.ss_family != AF_INET6) ||
                type != SOCK_STREAM)
                return error_set(err,
                        "descriptor %d (`%s`), which was passed to be listened on, is no TCP "
                        "socket",
                        one->fd, one->name);
        write_address(&one->bound, one->address, sizeof(one->address));
        if (getsockopt(one->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_len) != 0 || !listens)
                return error_set(err,
                        "the socket on %s that was passed (`%s`) does not listen; the unit needs "
                        "Accept=no",
                        one->address, one->name);
        if (fcntl(one->fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
                fcntl(one->fd, F_SETFD, FD_CLOEXEC) != 0)
                return error_set(err, "the socket on %s: %s", one->address, strerror(errno));
        return true;
}

static bool is_ours(const char *pid)
{
        uint64_t number;

        return pid && str_to_u64(str_of(pid), &number) && number == (uint64_t)getpid();
}

/* The values point into the environment: they are used up before it changes. */
static bool read_all(struct inherited *out, const char *count, const char *names, struct error *err)
{
        struct str rest = names ? str_of(names) : STR("");
        uint64_t n;

        if (!str_to_u64(str_of(count), &n) || n > INHERITED_MOST)
                return error_set(err, "LISTEN_FDS=%.32s: not a number of sockets up to %d", count,
                        INHERITED_MOST);
        for (; out->n < n; out->n++) {
                struct inherited_socket *one = &out->sockets[out->n];
                struct str name;
                rest = str_cut(rest, ':', &name);
                one->fd = FIRST_FD + (int)out->n;
                snprintf(one->name, sizeof(one->name), "%.*s", STR_FMT(name));
                if (!look_at(one, err))
                        return false;
        }
        return true;
}

bool inherited_add(struct inherited *out, int fd, const char *name, struct error *err)
{
        if (out->n == INHERITED_MOST)
                return error_set(err, "more than %d sockets", INHERITED_MOST);
        struct inherited_socket *one = &out->sockets[out->n];
        *one = (struct inherited_socket){.fd = fd};
        snprintf(one->name, sizeof(one->name), "%s", name);
        if (!look_at(one, err))
                return false;
        out->n++;
        return true;
}

bool inherited_read(struct inherited *out, struct error *err)
{
        const char *count = getenv("LISTEN_FDS");
        bool ok = true;

        *out = (struct inherited){0};
        if (count && is_ours(getenv("LISTEN_PID")))
                ok = read_all(out, count, getenv("LISTEN_FDNAMES"), err);
        unsetenv("LISTEN_PID");
        unsetenv("LISTEN_FDS");
        unsetenv("LISTEN_FDNAMES");
        return ok;
}

size_t inherited_take(struct inherited *from, const struct sockaddr *address, unsigned number,
        unsigned of, int fds[INHERITED_SHARE])
{
        struct inherited_socket *fitting[INHERITED_MOST];
        size_t n = 0, taken = 0;

        for (size_t i = 0; i < from->n; i++)
                if (same_address((const struct sockaddr *)&from->sockets[i].bound, address))
                        fitting[n++] = &from->sockets[i];
        /* With SO_REUSEPORT there are several: who is queued in one without a user waits for ever.
         */
        for (size_t i = 0; i < n && taken < INHERITED_SHARE; i++) {
                if (n < of ? i != number % n : i % of != number)
                        continue;
                fds[taken] = fcntl(fitting[i]->fd, F_DUPFD_CLOEXEC, FIRST_FD);
                if (fds[taken] >= 0) {
                        fitting[i]->used = true;
                        taken++;
                }
        }
        return taken;
}

bool inherited_end(struct inherited *from, struct error *err)
{
        bool ok = true;

        for (size_t i = 0; i < from->n; i++) {
                struct inherited_socket *one = &from->sockets[i];
                if (!one->used && from->handed_over)
                        log_info("address=%s is not listened on any more", one->address);
                else if (!one->used && ok)
                        ok = error_set(err,
                                "a socket on %s was passed (`%s`), which is no address of `listen` "
                                "or `admin`, or there are too many of it",
                                one->address, one->name);
                close(one->fd);
        }
        from->n = 0;
        return ok;
}

void inherited_list(const struct inherited *from, char *out, size_t size)
{
        size_t at = 0;

        out[0] = '\0';
        for (size_t i = 0; i < from->n && at < size; i++) {
                int n = snprintf(
                        out + at, size - at, "%s%s", i ? ", " : "", from->sockets[i].address);
                at += n > 0 ? (size_t)n : 0;
        }
}
