/*
 * A small HTTP server for tests: a thread, one connection at a time, answers from a table that the
 * test changes while it runs, and a count of what was asked.
 */
#ifndef STUB_SERVER_H
#define STUB_SERVER_H

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STUB_ROUTES = 8, STUB_BYTES = 64 * 1024 };

struct stub_route {
        char path[200];
        int status;
        char fields[512]; /* whole lines with CRLF */
        char *body;
        unsigned delay_ms;
        unsigned hits;
        char last[STUB_BYTES]; /* the last request, head and body */
};

struct stub {
        pthread_t thread;
        pthread_mutex_t lock; /* guards all below */
        int fd;
        unsigned short port;
        unsigned requests;
        int stop;
        struct stub_route routes[STUB_ROUTES];
};

static inline struct stub_route *stub_find(struct stub *stub, const char *path)
{
        for (int i = 0; i < STUB_ROUTES; i++) {
                if (strcmp(stub->routes[i].path, path) == 0)
                        return &stub->routes[i];
        }
        return NULL;
}

/* Reads head and body (by Content-Length) into `in`; 0 on a connection that says nothing. */
static inline size_t stub_read(int fd, char *in, size_t room)
{
        size_t len = 0;
        char *end = NULL;

        while (len < room - 1 && !end) {
                ssize_t n = read(fd, in + len, room - 1 - len);
                if (n <= 0)
                        return 0;
                len += (size_t)n;
                in[len] = '\0';
                end = strstr(in, "\r\n\r\n");
        }
        if (!end)
                return 0;
        const char *field = strcasestr(in, "\r\ncontent-length:");
        size_t want = (size_t)(end + 4 - in) + (field ? strtoul(field + 17, NULL, 10) : 0);
        while (len < want && len < room - 1) {
                ssize_t n = read(fd, in + len, room - 1 - len);
                if (n <= 0)
                        break;
                len += (size_t)n;
                in[len] = '\0';
        }
        return len;
}

static inline void stub_answer(struct stub *stub, int fd, char *in)
{
        char path[200] = "";
        char head[1024];
        int status = 404;
        char fields[512] = "";
        char *body = NULL;
        unsigned delay_ms = 0;

        sscanf(in, "%*s %199s", path);
        pthread_mutex_lock(&stub->lock);
        stub->requests++;
        struct stub_route *route = stub_find(stub, path);
        if (route) {
                route->hits++;
                snprintf(route->last, sizeof(route->last), "%s", in);
                status = route->status;
                memcpy(fields, route->fields, sizeof(fields));
                body = strdup(route->body);
                delay_ms = route->delay_ms;
        }
        pthread_mutex_unlock(&stub->lock);
        if (delay_ms)
                usleep(delay_ms * 1000);
        size_t len = body ? strlen(body) : 0;
        int n = snprintf(head, sizeof(head),
                "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", status, len,
                fields);
        ssize_t sent = send(fd, head, (size_t)n, MSG_NOSIGNAL);
        if (sent == n && len)
                sent = send(fd, body, len, MSG_NOSIGNAL);
        (void)sent; /* whoever asked may have gone */
        free(body);
}

static inline void *stub_run(void *arg)
{
        struct stub *stub = arg;
        char *in = malloc(STUB_BYTES);

        for (;;) {
                int fd = accept(stub->fd, NULL, NULL);
                pthread_mutex_lock(&stub->lock);
                int stop = stub->stop;
                pthread_mutex_unlock(&stub->lock);
                if (stop || fd < 0) {
                        if (fd >= 0)
                                close(fd);
                        break;
                }
                if (stub_read(fd, in, STUB_BYTES))
                        stub_answer(stub, fd, in);
                close(fd);
        }
        free(in);
        return NULL;
}

static inline struct stub *stub_start(void)
{
        struct stub *stub = calloc(1, sizeof(*stub));
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(at);

        pthread_mutex_init(&stub->lock, NULL);
        stub->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(stub->fd, (struct sockaddr *)&at, len) != 0 || listen(stub->fd, 64) != 0 ||
                getsockname(stub->fd, (struct sockaddr *)&at, &len) != 0)
                abort();
        stub->port = ntohs(at.sin_port);
        pthread_create(&stub->thread, NULL, stub_run, stub);
        return stub;
}

static inline void stub_stop(struct stub *stub)
{
        struct sockaddr_in at = {.sin_family = AF_INET,
                .sin_port = htons(stub->port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        pthread_mutex_lock(&stub->lock);
        stub->stop = 1;
        pthread_mutex_unlock(&stub->lock);
        if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0)
                perror("stub");
        close(fd);
        pthread_join(stub->thread, NULL);
        close(stub->fd);
        for (int i = 0; i < STUB_ROUTES; i++)
                free(stub->routes[i].body);
        pthread_mutex_destroy(&stub->lock);
        free(stub);
}

/* What `path` answers from now on. */
static inline void stub_set(
        struct stub *stub, const char *path, int status, const char *fields, const char *body)
{
        pthread_mutex_lock(&stub->lock);
        struct stub_route *route = stub_find(stub, path);
        if (!route)
                route = stub_find(stub, "");
        if (!route)
                abort(); /* STUB_ROUTES are not enough */
        snprintf(route->path, sizeof(route->path), "%s", path);
        snprintf(route->fields, sizeof(route->fields), "%s", fields);
        route->status = status;
        free(route->body);
        route->body = strdup(body);
        pthread_mutex_unlock(&stub->lock);
}

static inline void stub_delay(struct stub *stub, const char *path, unsigned ms)
{
        pthread_mutex_lock(&stub->lock);
        stub_find(stub, path)->delay_ms = ms;
        pthread_mutex_unlock(&stub->lock);
}

static inline unsigned stub_hits(struct stub *stub, const char *path)
{
        pthread_mutex_lock(&stub->lock);
        struct stub_route *route = stub_find(stub, path);
        unsigned hits = route ? route->hits : 0;
        pthread_mutex_unlock(&stub->lock);
        return hits;
}

static inline unsigned stub_requests(struct stub *stub)
{
        pthread_mutex_lock(&stub->lock);
        unsigned requests = stub->requests;
        pthread_mutex_unlock(&stub->lock);
        return requests;
}

/* Whether the last request for `path` holds `text`. */
static inline int stub_saw(struct stub *stub, const char *path, const char *text)
{
        pthread_mutex_lock(&stub->lock);
        struct stub_route *route = stub_find(stub, path);
        int saw = route && strstr(route->last, text) != NULL;
        pthread_mutex_unlock(&stub->lock);
        return saw;
}

#endif
