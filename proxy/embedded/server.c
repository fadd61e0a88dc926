#include "embedded/server.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dagward/http/h1_write.h"

enum {
        IN_BYTES = H1_DEFAULT_HEAD_BYTES + 4096,
        FIELDS_MOST = 32768,  /* bytes of an answer's head */
        DRAIN_MOST = 4 << 20, /* bytes of an unread body for which a connection is kept */
        ARENA_BLOCK = 16384,
        ARENA_MOST = 8 << 20
};

enum phase { PHASE_OPEN, PHASE_CHUNKED, PHASE_LENGTH, PHASE_TO_CLOSE, PHASE_ANSWERED };

struct emu_connection {
        struct emu_server *server;
        int fd;
        SSL *ssl;
        struct emu_connection *next, **link;
        char in[IN_BYTES];
        size_t from, to; /* unread bytes of `in` */
        struct h1_body body;
        struct buf fields; /* of the answer */
        enum phase phase;
        bool body_broken, continue_owed, mute /* no body goes out */, close;
        bool lost; /* what is answered goes nowhere */
        struct arena arena;
        struct emu_request request;
};

struct emu_server {
        int fd;
        uint16_t port;
        SSL_CTX *tls;
        emu_handler *handle;
        void *arg;
        pthread_t thread;
        atomic_bool stopping;
        pthread_mutex_t lock; /* guards what follows */
        pthread_cond_t gone;
        struct emu_connection *connections;
        size_t n;
};

/* --- bytes --- */

static ssize_t wire_read(struct emu_connection *c, char *out, size_t most)
{
        for (;;) {
                ssize_t n;

                if (c->ssl) {
                        n = SSL_read(c->ssl, out, (int)most);
                        return n > 0 ? n : -1;
                }
                n = recv(c->fd, out, most, 0);
                if (n >= 0 || errno != EINTR)
                        return n > 0 ? n : -1;
        }
}

static bool wire_write(struct emu_connection *c, const char *data, size_t len)
{
        c->close |= c->lost;
        while (len > 0 && !c->close) {
                ssize_t n = c->ssl ? SSL_write(c->ssl, data, len < 16384 ? (int)len : 16384)
                                   : send(c->fd, data, len, MSG_NOSIGNAL);

                if (n < 0 && !c->ssl && errno == EINTR)
                        continue;
                if (n <= 0) {
                        c->close = true;
                        break;
                }
                data += n;
                len -= (size_t)n;
        }
        return len == 0;
}

/* Gets more bytes behind the unread ones; false at the end of the connection. */
static bool wire_fill(struct emu_connection *c)
{
        if (c->from > 0) {
                memmove(c->in, c->in + c->from, c->to - c->from);
                c->to -= c->from;
                c->from = 0;
        }
        assert(c->to < IN_BYTES);
        ssize_t n = wire_read(c, c->in + c->to, IN_BYTES - c->to);
        if (n > 0)
                c->to += (size_t)n;
        return n > 0;
}

/* --- the body of the request --- */

static void body_break(struct emu_connection *c)
{
        c->body_broken = true;
        c->close = true;
}

/* The head's views point into `in`, so that the body has to come by other memory. */
ssize_t emu_body_read(struct emu_request *request, char *out, size_t most)
{
        struct emu_connection *c = request->connection;
        struct h1_fault fault;
        struct str payload;

        if (c->body_broken)
                return -1;
        if (c->continue_owed && !c->body.done) {
                c->continue_owed = false;
                wire_write(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        }
        while (!c->body.done) {
                if (c->from == c->to) {
                        c->from = c->to = request->head.head_bytes;
                        ssize_t got = wire_read(c, c->in + c->to, IN_BYTES - c->to);
                        if (got <= 0) {
                                body_break(c);
                                return -1;
                        }
                        c->to += (size_t)got;
                }
                size_t len = c->to - c->from < most ? c->to - c->from : most;
                ssize_t used = h1_body_next(&c->body, c->in + c->from, len, &payload, &fault);
                if (used < 0) {
                        body_break(c);
                        return -1;
                }
                c->from += (size_t)used;
                if (payload.len > 0) {
                        memcpy(out, payload.ptr, payload.len);
                        return (ssize_t)payload.len;
                }
        }
        return 0;
}

bool emu_body_all(struct emu_request *request, size_t most, struct buf *out)
{
        char part[16384];
        ssize_t n;

        buf_init(out, most);
        while ((n = emu_body_read(request, part, sizeof(part))) > 0 && !out->overflow)
                buf_add(out, part, (size_t)n);
        return n == 0 && !out->overflow;
}

uint64_t emu_body_discard(struct emu_request *request)
{
        char part[65536];
        uint64_t sum = 0;
        ssize_t n;

        while ((n = emu_body_read(request, part, sizeof(part))) > 0)
                sum += (uint64_t)n;
        return sum;
}

/* --- the answer --- */

void emu_header(struct emu_request *request, struct str name, struct str value)
{
        if (h1_token_ok(name) && h1_value_ok(value))
                h1_write_field(&request->connection->fields, name, value);
}

/* Writes the head: status line, what every answer has, what emu_header collected. */
static bool answer_head(struct emu_request *request, int status, const char *type,
        enum h1_framing framing, uint64_t length)
{
        struct emu_connection *c = request->connection;
        struct buf head;
        char date[64];
        time_t now = time(NULL);
        struct tm tm;

        assert(c->phase == PHASE_OPEN);
        if (!request->head.keep_alive || framing == H1_UNTIL_CLOSE)
                request->head.keep_alive = false;
        /* Who waits for 100 may send its body after a final answer, or not: nobody can tell. */
        if (c->continue_owed && !c->body.done)
                request->head.keep_alive = false;
        gmtime_r(&now, &tm);
        strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        buf_init(&head, FIELDS_MOST + 1024);
        h1_write_status_line(&head, status, STR_NONE);
        h1_write_field(&head, STR("Date"), str_of(date));
        if (type)
                h1_write_field(&head, STR("Content-Type"), str_of(type));
        if (!request->head.keep_alive)
                h1_write_field(&head, STR("Connection"), STR("close"));
        buf_str_add(&head, buf_str(&c->fields));
        if (status != 204 && status != 304)
                h1_write_framing(&head, framing, length);
        h1_write_end(&head);
        assert(!head.overflow);
        bool sent = wire_write(c, head.data, head.len);
        buf_clear(&head);
        c->mute = str_eq(request->head.method, STR("HEAD")) || status == 204 || status == 304;
        c->phase = framing == H1_CHUNKED       ? PHASE_CHUNKED
                   : framing == H1_UNTIL_CLOSE ? PHASE_TO_CLOSE
                                               : PHASE_LENGTH;
        return sent;
}

void emu_reply(struct emu_request *request, int status, const char *type, struct str body)
{
        if (emu_reply_begin_length(request, status, type, body.len))
                emu_write(request, body);
        emu_reply_end(request);
}

bool emu_reply_begin(struct emu_request *request, int status, const char *type)
{
        return answer_head(
                request, status, type, request->head.minor > 0 ? H1_CHUNKED : H1_UNTIL_CLOSE, 0);
}

bool emu_reply_begin_length(
        struct emu_request *request, int status, const char *type, uint64_t length)
{
        return answer_head(request, status, type, H1_LENGTH, length);
}

bool emu_write(struct emu_request *request, struct str part)
{
        struct emu_connection *c = request->connection;
        char size[20];

        if (part.len == 0 || c->mute)
                return !c->close;
        if (c->phase != PHASE_CHUNKED)
                return wire_write(c, part.ptr, part.len);
        return wire_write(c, size, h1_chunk_head(size, part.len)) &&
               wire_write(c, part.ptr, part.len) &&
               wire_write(c, H1_CHUNK_TAIL, sizeof(H1_CHUNK_TAIL) - 1);
}

void emu_reply_end(struct emu_request *request)
{
        struct emu_connection *c = request->connection;

        if (c->phase == PHASE_CHUNKED && !c->mute)
                wire_write(c, H1_CHUNK_LAST, sizeof(H1_CHUNK_LAST) - 1);
        c->phase = PHASE_ANSWERED;
}

void emu_lose(struct emu_request *request)
{
        request->connection->lost = true;
}

void emu_drop(struct emu_request *request)
{
        request->connection->close = true;
        request->connection->phase = PHASE_ANSWERED;
}

bool emu_stopping(const struct emu_request *request)
{
        return atomic_load(&request->connection->server->stopping);
}

bool emu_wait_ms(const struct emu_request *request, int64_t ms)
{
        for (; ms > 0 && !emu_stopping(request); ms -= 20) {
                int64_t nap = ms < 20 ? ms : 20;
                nanosleep(&(struct timespec){.tv_nsec = (long)nap * 1000000}, NULL);
        }
        return !emu_stopping(request);
}

/* --- connections --- */

static void refuse(struct emu_connection *c, const struct h1_fault *fault)
{
        char text[512];
        struct buf head;

        buf_init_fixed(&head, text, sizeof(text));
        h1_write_status_line(&head, fault->status, STR_NONE);
        h1_write_field(&head, STR("Connection"), STR("close"));
        h1_write_field(&head, STR("Content-Type"), STR("text/plain"));
        h1_write_framing(&head, H1_LENGTH, strlen(fault->why) + 1);
        h1_write_end(&head);
        buf_printf(&head, "%s\n", fault->why);
        wire_write(c, text, head.len);
        c->close = true;
}

/* Reads the next head; false when there is none to be answered. */
static bool next_head(struct emu_connection *c)
{
        const struct h1_limits limits = {H1_DEFAULT_HEAD_BYTES, 32768, H1_MAX_FIELDS};
        struct h1_fault fault;
        size_t scanned = 0;

        /* A head begins at the buffer's start: the body's reader relies on it. */
        memmove(c->in, c->in + c->from, c->to - c->from);
        c->to -= c->from;
        c->from = 0;
        for (;;) {
                ssize_t n = c->to == 0 ? H1_AGAIN
                                       : h1_parse_request(c->in, c->to, &scanned, &limits,
                                                 &c->request.head, &fault);
                if (n > 0) {
                        c->from = (size_t)n;
                        c->request.head.head_bytes = (size_t)n;
                        break;
                }
                if (n == H1_BAD) {
                        refuse(c, &fault);
                        return false;
                }
                if (!wire_fill(c))
                        return false;
        }
        if (!target_parse(c->request.head.target, c->request.head.host, &c->arena,
                    &c->request.target, &fault)) {
                refuse(c, &fault);
                return false;
        }
        return true;
}

/* Serves one request; false when the connection is at its end. */
static bool serve_one(struct emu_connection *c)
{
        char part[16384];
        size_t drained = 0;

        arena_reset(&c->arena);
        c->request.arena = &c->arena;
        if (!next_head(c))
                return false;
        h1_body_init(&c->body, c->request.head.framing, c->request.head.content_length);
        buf_reset(&c->fields);
        c->phase = PHASE_OPEN;
        c->continue_owed = c->request.head.expect_continue;
        c->server->handle(&c->request, c->server->arg);
        if (c->phase == PHASE_OPEN)
                emu_reply(&c->request, 500, "text/plain", STR("nothing answered this\n"));
        /* A client that is still sending would not see an answer behind a reset. */
        while (!c->close && !c->body.done && !c->continue_owed && drained < DRAIN_MOST) {
                ssize_t n = emu_body_read(&c->request, part, sizeof(part));
                if (n <= 0)
                        break;
                drained += (size_t)n;
        }
        return !c->close && c->body.done && c->request.head.keep_alive &&
               !atomic_load(&c->server->stopping);
}

static void connection_close(struct emu_connection *c)
{
        struct emu_server *server = c->server;
        struct pollfd ready = {.fd = c->fd, .events = POLLIN};

        if (c->ssl)
                SSL_shutdown(c->ssl);
        shutdown(c->fd, SHUT_WR);
        for (int i = 0; i < 64 && poll(&ready, 1, 100) > 0; i++) {
                if (recv(c->fd, c->in, sizeof(c->in), MSG_DONTWAIT) <= 0)
                        break;
        }
        SSL_free(c->ssl);
        arena_clear(&c->arena);
        buf_clear(&c->fields);
        /* What OpenSSL keeps for a thread goes now: the program may end before a thread that nobody
         * joins is quite gone. */
        OPENSSL_thread_stop();
        pthread_mutex_lock(&server->lock);
        close(c->fd);
        *c->link = c->next;
        if (c->next)
                c->next->link = c->link;
        free(c);
        server->n--;
        pthread_cond_signal(&server->gone);
        pthread_mutex_unlock(&server->lock);
}

static void *connection_main(void *arg)
{
        struct emu_connection *c = arg;
        bool more = true;

        if (c->server->tls) {
                c->ssl = SSL_new(c->server->tls);
                more = c->ssl && SSL_set_fd(c->ssl, c->fd) == 1 && SSL_accept(c->ssl) == 1;
                c->request.tls = true;
        }
        while (more)
                more = serve_one(c);
        connection_close(c);
        return NULL;
}

static void connection_open(struct emu_server *server, int fd)
{
        const struct timeval idle = {.tv_sec = EMU_IDLE_S};
        static const char full[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                                   "Content-Length: 0\r\n\r\n";
        struct emu_connection *c = NULL;
        pthread_attr_t attr;
        pthread_t thread;

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof(idle));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        pthread_mutex_lock(&server->lock);
        if (server->n < EMU_MAX_CONNECTIONS && (c = calloc(1, sizeof(*c)))) {
                c->server = server;
                c->fd = fd;
                c->request.connection = c;
                arena_init(&c->arena, ARENA_BLOCK, ARENA_MOST);
                buf_init(&c->fields, FIELDS_MOST);
                c->next = server->connections;
                c->link = &server->connections;
                if (c->next)
                        c->next->link = &c->next;
                server->connections = c;
                server->n++;
        }
        pthread_mutex_unlock(&server->lock);
        if (!c) {
                if (!server->tls && send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL) < 0)
                        shutdown(fd, SHUT_RDWR);
                close(fd);
                return;
        }
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        if (pthread_create(&thread, &attr, connection_main, c) != 0)
                connection_close(c);
        pthread_attr_destroy(&attr);
}

static void *accept_main(void *arg)
{
        struct emu_server *server = arg;

        while (!atomic_load(&server->stopping)) {
                int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);

                if (fd >= 0)
                        connection_open(server, fd);
                else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
                        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        }
        return NULL;
}

struct emu_server *emu_listen(
        uint16_t port, SSL_CTX *tls, emu_handler *handle, void *arg, struct error *err)
{
        struct sockaddr_in at = {.sin_family = AF_INET,
                .sin_port = htons(port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(at);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        signal(SIGPIPE, SIG_IGN);
        if (fd < 0) {
                error_set(err, "cannot make a socket: %s", strerror(errno));
                return NULL;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 128) < 0 ||
                getsockname(fd, (struct sockaddr *)&at, &len) < 0) {
                error_set(
                        err, "cannot listen on 127.0.0.1:%u: %s", (unsigned)port, strerror(errno));
                close(fd);
                return NULL;
        }
        struct emu_server *server = calloc(1, sizeof(*server));
        if (!server)
                abort();
        server->fd = fd;
        server->port = ntohs(at.sin_port);
        server->handle = handle;
        server->arg = arg;
        if (tls && SSL_CTX_up_ref(tls) == 1)
                server->tls = tls;
        pthread_mutex_init(&server->lock, NULL);
        pthread_cond_init(&server->gone, NULL);
        if (pthread_create(&server->thread, NULL, accept_main, server) != 0)
                abort();
        return server;
}

uint16_t emu_port(const struct emu_server *server)
{
        return server->port;
}

void emu_stop(struct emu_server *server)
{
        if (!server)
                return;
        atomic_store(&server->stopping, true);
        shutdown(server->fd, SHUT_RDWR); /* wakes accept */
        pthread_join(server->thread, NULL);
        close(server->fd);
        pthread_mutex_lock(&server->lock);
        for (struct emu_connection *c = server->connections; c; c = c->next)
                shutdown(c->fd, SHUT_RDWR);
        while (server->n > 0)
                pthread_cond_wait(&server->gone, &server->lock);
        pthread_mutex_unlock(&server->lock);
        pthread_cond_destroy(&server->gone);
        pthread_mutex_destroy(&server->lock);
        SSL_CTX_free(server->tls);
        free(server);
}
