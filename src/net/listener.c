#include "dagward/net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, LOCK_TRIES = 100, LOCK_PAUSE_MS = 10 };

/* Splits `host:port` or `[host]:port`; false if it is neither. */
static bool split(const char *address, char host[256], char port[8])
{
        const char *colon = strrchr(address, ':');
        size_t len = colon ? (size_t)(colon - address) : 0;

        if (!colon || len >= 256 || strlen(colon + 1) >= 8)
                return false;
        if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
                address++;
                len -= 2;
        }
        memcpy(host, address, len);
        host[len] = '\0';
        memcpy(port, colon + 1, strlen(colon + 1) + 1);
        if (strcmp(host, "localhost") == 0)
                memcpy(host, "127.0.0.1", sizeof("127.0.0.1"));
        return true;
}

int listener_open(const char *address, bool reuse_port, struct error *err)
{
        struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                .ai_socktype = SOCK_STREAM};
        struct addrinfo *info = NULL;
        char host[256], port[8];
        int on = 1;

        if (!split(address, host, port) ||
                getaddrinfo(host[0] ? host : NULL, port, &hints, &info) != 0) {
                error_set(err, "%s: not an address of the form ip:port", address);
                return -1;
        }
        int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
                  (!reuse_port || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0) &&
                  bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0;
        if (!ok) {
                error_set(err, "cannot listen on %s: %s", address, strerror(errno));
                if (fd >= 0)
                        close(fd);
                fd = -1;
        }
        freeaddrinfo(info);
        return fd;
}

bool listener_is_free(const char *address, struct error *err)
{
        int fd = listener_open(address, false, err);

        if (fd >= 0)
                close(fd);
        return fd >= 0;
}

void listener_peer_text(const struct sockaddr *address, socklen_t len, char peer[LISTENER_PEER])
{
        (void)len;
        peer[0] = '\0';
        if (address->sa_family == AF_INET)
                inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, peer,
                        LISTENER_PEER);
        else if (address->sa_family == AF_INET6)
                inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, peer,
                        LISTENER_PEER);
}

void listener_text(int fd, char text[LISTENER_TEXT])
{
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof(address);
        char ip[LISTENER_PEER];

        (void)getsockname(fd, (struct sockaddr *)&address, &len);
        listener_peer_text((struct sockaddr *)&address, len, ip);
        bool v6 = address.ss_family == AF_INET6;
        in_port_t port = v6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                            : ((struct sockaddr_in *)&address)->sin_port;
        snprintf(text, LISTENER_TEXT, v6 ? "[%s]:%u" : "%s:%u", ip, (unsigned)ntohs(port));
}

int listener_accept(int fd, char peer[LISTENER_PEER])
{
        struct sockaddr_storage address;
        socklen_t len = sizeof(address);
        int on = 1;
        int client = accept4(fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (client < 0)
                return -1;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        listener_peer_text((struct sockaddr *)&address, len, peer);
        return client;
}

/* --- with a path --- */

/* One process at a time looks who listens there and takes the place of who is gone. Not forever:
 * whoever may read the folder can hold its lock. -1: without it. */
static int lock_folder_of(const char *path)
{
        const struct timespec pause = {0, LOCK_PAUSE_MS * 1000000L};
        char *folder = str_dup(str_of(path)), *slash = strrchr(folder, '/');

        if (slash)
                slash[slash == folder] = '\0';
        int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (int i = 0; fd >= 0 && i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) != 0; i++)
                nanosleep(&pause, NULL);
        free(folder);
        return fd;
}

static bool somebody_listens(const struct sockaddr_un *address, int type)
{
        int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        bool yes = fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
                   (errno != ECONNREFUSED && errno != ENOENT);

        if (fd >= 0)
                close(fd);
        return yes;
}

/* What a process that is gone left there; nothing else is removed. */
static bool make_room(const struct sockaddr_un *address, int type)
{
        struct stat there;

        if (lstat(address->sun_path, &there) != 0 || !S_ISSOCK(there.st_mode))
                return true; /* bind() says what is wrong */
        if (somebody_listens(address, type)) {
                errno = EADDRINUSE;
                return false;
        }
        unlink(address->sun_path);
        return true;
}

int listener_open_local(const char *path, int type, int backlog, struct error *err)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = -1, why = ENAMETOOLONG;

        if (path[0] && strlen(path) < sizeof(address.sun_path)) {
                memcpy(address.sun_path, path, strlen(path));
                int lock = lock_folder_of(path);
                mode_t mask = umask(0177);
                fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                if (fd >= 0 && make_room(&address, type) &&
                        bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
                        listen(fd, backlog) == 0)
                        why = 0;
                else
                        why = errno;
                umask(mask);
                if (lock >= 0)
                        close(lock);
        }
        if (!why)
                return fd;
        if (fd >= 0)
                close(fd);
        error_set(err, "cannot listen on %s: %s", path, strerror(why));
        return -1;
}
