#include "dagward/net/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

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
