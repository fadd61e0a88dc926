/* One client of an agent: its head is read and written anew, all that follows is passed on. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "dagward/http/h1_parse.h"
#include "dagward/http/h1_write.h"

enum {
        HEAD_MOST = 64 * 1024,
        HEAD_MS = 30 * 1000,
        CONNECT_MS = 10 * 1000,
        IDLE_MS = 10 * 60 * 1000, /* the proxy's own deadlines are shorter */
        LINGER_MS = 2000,
        PART = 64 * 1024,
};

/* One side of the tunnel. */
struct side {
        int fd;
        SSL *ssl;    /* NULL: plain */
        bool eof;    /* says no more */
        bool broken; /* and was cut off there, as reading says: writing knows nothing of it */
        bool deaf;   /* takes no more */
        short wants; /* what TLS waits for */
};

enum moved { MOVED, STUCK, ENDED };

static enum moved tls_result(struct side *side, int n, bool *cut)
{
        int error = SSL_get_error(side->ssl, n);

        side->wants = error == SSL_ERROR_WANT_READ    ? POLLIN
                      : error == SSL_ERROR_WANT_WRITE ? POLLOUT
                                                      : 0;
        *cut = !side->wants && error != SSL_ERROR_ZERO_RETURN;
        return side->wants ? STUCK : ENDED;
}

static enum moved side_read(struct side *side, char *out, size_t room, size_t *n)
{
        if (side->ssl) {
                ERR_clear_error(); /* SSL_get_error looks at what is left there */
                if (SSL_read_ex(side->ssl, out, room, n) == 1)
                        return MOVED;
                return tls_result(side, 0, &side->broken);
        }
        ssize_t got = read(side->fd, out, room);
        bool stuck = got < 0 && (errno == EAGAIN || errno == EINTR);
        *n = got > 0 ? (size_t)got : 0;
        side->broken = got < 0 && !stuck;
        return got > 0 ? MOVED : stuck ? STUCK : ENDED;
}

static enum moved side_write(struct side *side, struct str bytes, size_t *n)
{
        bool cut;

        if (side->ssl) {
                ERR_clear_error();
                if (SSL_write_ex(side->ssl, bytes.ptr, bytes.len, n) == 1)
                        return MOVED;
                return tls_result(side, 0, &cut);
        }
        ssize_t sent = send(side->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        *n = sent > 0 ? (size_t)sent : 0;
        return sent > 0 ? MOVED : sent < 0 && (errno == EAGAIN || errno == EINTR) ? STUCK : ENDED;
}

static bool wait_ms(int fd, short what, int64_t until_ms)
{
        struct pollfd one = {.fd = fd, .events = what};
        int64_t left = until_ms - clock_mono_ms();

        return left > 0 && poll(&one, 1, (int)left) > 0;
}

static void set_no_delay(int fd)
{
        int one = 1;

        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* --- what the agent says itself --- */

static void answer(struct side *client, int status, const char *type, struct str body)
{
        int64_t until = clock_mono_ms() + HEAD_MS;
        struct buf out;
        size_t n;

        buf_init(&out, PART);
        (void)buf_reserve(&out, PART);
        h1_write_status_line(&out, status, STR(""));
        h1_write_field(&out, STR("Content-Type"), str_of(type));
        h1_write_field(&out, STR("Cache-Control"), STR("no-store"));
        h1_write_field_u64(&out, STR("Content-Length"), body.len);
        h1_write_field(&out, STR("Connection"), STR("close"));
        h1_write_end(&out);
        buf_str_add(&out, body);
        struct str left = buf_str(&out);
        while (left.len) {
                enum moved moved = side_write(client, left, &n);
                if (moved == ENDED || (moved == STUCK && !wait_ms(client->fd, POLLOUT, until)))
                        break;
                left = str_from(left, moved == MOVED ? n : 0);
        }
        secret_wipe(out.data, out.len);
        buf_clear(&out);
        shutdown(client->fd, SHUT_WR);
}

/* In the shape that clients of Azure DevOps show to people. */
static void refuse(struct side *client, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
static void refuse(struct side *client, int status, const char *format, ...)
{
        char text[600];
        struct buf body;
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        log_info("agent status=%d %s", status, text);
        buf_init(&body, 4096);
        BUF_LITERAL(&body, "{\"$id\":\"1\",\"innerException\":null,\"message\":");
        buf_json_str(&body, str_of(text));
        BUF_LITERAL(&body, ",\"typeName\":\"Dagward.AgentException, Dagward\",\"typeKey\":"
                           "\"AgentException\",\"errorCode\":0,\"eventId\":3000}\n");
        answer(client, status, "application/json; charset=utf-8", buf_str(&body));
        buf_clear(&body);
}

/* --- to the proxy --- */

static int connect_one(const struct addrinfo *address, int64_t until_ms)
{
        int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int error = 0;
        socklen_t len = sizeof(error);

        if (fd < 0)
                return -1;
        if (connect(fd, address->ai_addr, address->ai_addrlen) != 0)
                error = errno;
        if (error == EINPROGRESS && (!wait_ms(fd, POLLOUT, until_ms) ||
                                            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len)))
                error = ETIMEDOUT;
        if (!error)
                return fd;
        close(fd);
        errno = error;
        return -1;
}

/* An address that says nothing leaves some of the time to those behind it. */
static int64_t share_of(const struct addrinfo *address, int64_t until_ms)
{
        int64_t now = clock_mono_ms(), n = 0;

        for (const struct addrinfo *one = address; one; one = one->ai_next)
                n++;
        return now + (until_ms - now) / n;
}

static bool handshake(const struct agent *agent, struct side *proxy, struct error *err)
{
        int64_t until = clock_mono_ms() + CONNECT_MS;
        const char *host = agent->settings->proxy.host.ptr;
        bool cut;
        int n;

        proxy->ssl = tls_connect(agent->tls, proxy->fd, host);
        if (!proxy->ssl)
                return error_set(err, "cannot begin TLS with %s", host);
        while ((n = SSL_do_handshake(proxy->ssl)) != 1) {
                long verified = SSL_get_verify_result(proxy->ssl);
                if (tls_result(proxy, n, &cut) == STUCK && wait_ms(proxy->fd, proxy->wants, until))
                        continue;
                if (verified != X509_V_OK)
                        return error_set(err, "the certificate of %s is not good: %s", host,
                                X509_verify_cert_error_string(verified));
                return error_set(err, "TLS with %s failed: %s", host, tls_reason());
        }
        return true;
}

static bool reach(const struct agent *agent, struct side *proxy, struct error *err)
{
        const struct config_url *url = &agent->settings->proxy;
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
        struct addrinfo *found = NULL;
        int64_t until = clock_mono_ms() + CONNECT_MS;
        char port[8];

        snprintf(port, sizeof(port), "%u", (unsigned)url->port);
        int failed = getaddrinfo(url->host.ptr, port, &hints, &found);
        if (failed)
                return error_set(
                        err, "%s cannot be looked up: %s", url->host.ptr, gai_strerror(failed));
        for (const struct addrinfo *one = found; one && proxy->fd < 0; one = one->ai_next)
                proxy->fd = connect_one(one, share_of(one, until));
        int error = errno;
        freeaddrinfo(found);
        if (proxy->fd < 0)
                return error_set(
                        err, "%s:%s cannot be reached: %s", url->host.ptr, port, strerror(error));
        set_no_delay(proxy->fd);
        return !agent->tls || handshake(agent, proxy, err);
}

/* --- the head --- */

/* Whatever the client brought in place of a credential, what is between it and us only, and what
 * only we say. */
static bool is_left_out(const struct h1_request *request, const struct h1_field *field)
{
        static const char *const names[] = {"Authorization", "Proxy-Authorization", "Cookie",
                "Connection", "Proxy-Connection", "Keep-Alive", "TE", "Upgrade"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (str_eq_fold(field->name, str_of(names[i])))
                        return true;
        /* What says where the request ends, and whose it is, stays, whatever Connection names: what
         * follows the head is passed on as it comes. */
        if (field->id == H1_HOST || field->id == H1_CONTENT_LENGTH ||
                field->id == H1_TRANSFER_ENCODING)
                return false;
        bool reason = str_eq_fold(field->name, STR("X-Dagward-Reason"));
        return (str_starts_fold(field->name, STR("X-Dagward-")) && !reason) ||
               h1_connection_names(request, field->name);
}

static bool compose(const struct h1_request *request, const struct secret *token, struct buf *out)
{
        buf_str_add(out, request->method);
        buf_char(out, ' ');
        buf_str_add(out, request->target);
        /* Its own version: the answer has to be one that it understands. */
        buf_str_add(out, request->minor ? STR(" HTTP/1.1\r\n") : STR(" HTTP/1.0\r\n"));
        for (size_t i = 0; i < request->n_fields; i++)
                if (!is_left_out(request, &request->fields[i]))
                        h1_write_field(out, request->fields[i].name, request->fields[i].value);
        BUF_LITERAL(out, "Authorization: Bearer ");
        buf_str_add(out, secret_reveal(token));
        BUF_LITERAL(out, "\r\n");
        /* So that links in answers lead back here. */
        h1_write_field(out, STR("X-Dagward-Agent"), STR("1"));
        h1_write_field(out, STR("Connection"), STR("close"));
        h1_write_end(out);
        return !out->overflow;
}

/* A page in a browser must not spend the token of whoever looks at it: names that others can give
 * to this machine, and requests that a page makes, are refused. */
static bool is_of_a_browser(const struct h1_request *request)
{
        if (!h1_host_is_loopback(request->host))
                return true;
        for (size_t i = 0; i < request->n_fields; i++)
                if (str_eq_fold(request->fields[i].name, STR("Origin")) ||
                        str_starts_fold(request->fields[i].name, STR("Sec-Fetch-")))
                        return true;
        return false;
}

/* Reads the head into `in`; its length, or 0 after an answer (or none, when nobody is there). */
static size_t read_head(struct side *client, char *in, size_t *have, struct h1_request *request)
{
        struct h1_limits limits = {
                .head_bytes = HEAD_MOST, .field_bytes = 32 * 1024, .fields = H1_MAX_FIELDS};
        int64_t until = clock_mono_ms() + HEAD_MS;
        size_t scanned = 0, n;

        for (*have = 0;;) {
                struct h1_fault fault = {0};
                ssize_t head =
                        *have ? h1_parse_request(in, *have, &scanned, &limits, request, &fault)
                              : H1_AGAIN;
                if (head > 0)
                        return (size_t)head;
                if (head == H1_BAD || *have == HEAD_MOST) {
                        refuse(client, head == H1_BAD ? fault.status : 431,
                                "The agent does not understand the request: %s",
                                head == H1_BAD ? fault.why : "its head is too large");
                        return 0;
                }
                switch (side_read(client, in + *have, HEAD_MOST - *have, &n)) {
                case MOVED: *have += n; continue;
                case STUCK:
                        if (wait_ms(client->fd, POLLIN, until))
                                continue;
                        return 0;
                case ENDED: return 0;
                }
        }
}

/* --- the tunnel --- */

struct flow {
        struct side *from, *to;
        char *data;
        size_t start, end;
};

/* As far as it goes now; whether anything moved. */
static bool flow_move(struct flow *flow)
{
        bool moved = false;
        size_t n = 0;

        if (flow->start == flow->end && !flow->from->eof && !flow->to->deaf) {
                enum moved result = side_read(flow->from, flow->data, PART, &n);
                flow->from->eof = result == ENDED;
                flow->start = 0;
                flow->end = result == MOVED ? n : 0;
                moved = result != STUCK;
        }
        if (flow->start < flow->end) {
                struct str left = str_view(flow->data + flow->start, flow->end - flow->start);
                enum moved result = side_write(flow->to, left, &n);
                if (result == MOVED)
                        flow->start += n;
                if (result == ENDED) {
                        flow->to->deaf = true;
                        flow->start = flow->end;
                }
                moved = moved || result != STUCK;
        }
        return moved;
}

static short events_of(const struct side *side, const struct flow *out, const struct flow *in)
{
        short events = side->wants;

        if (out->start == out->end && !side->eof && !out->to->deaf)
                events |= POLLIN;
        if (in->start < in->end && !side->deaf)
                events |= POLLOUT;
        return events;
}

/* An answer that only the end of the connection ends must not look whole if it is not, even if this
 * process is what ends: until it is `whole` the client's connection can only be reset. */
static void set_whole(struct side *client, bool whole)
{
        struct linger how = {.l_onoff = !whole};

        (void)setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &how, sizeof(how));
}

/* What the client still says is thrown away for a moment: closing on it could cost it the answer.
 */
static void linger(struct side *client, char *scratch)
{
        int64_t until = clock_mono_ms() + LINGER_MS;
        size_t n;

        while (!client->eof && !client->deaf && clock_mono_ms() < until) {
                enum moved moved = side_read(client, scratch, PART, &n);
                if (moved == ENDED || (moved == STUCK && !wait_ms(client->fd, POLLIN, until)))
                        return;
        }
}

/* Both ways until the proxy has said all it will: an answer may come before the request is over,
 * and whoever stops reading the request may still have to be heard. */
static void tunnel(struct side *client, struct side *proxy, struct flow *up)
{
        static const int64_t idle = IDLE_MS;
        struct flow down = {.from = proxy, .to = client, .data = malloc(PART)};

        if (!down.data)
                abort();
        set_whole(client, false);
        while (!client->deaf && !(proxy->eof && down.start == down.end)) {
                client->wants = proxy->wants = 0;
                bool moved = flow_move(&down);
                moved = flow_move(up) || moved;
                if (moved)
                        continue;
                struct pollfd both[2] = {{.fd = client->fd, .events = events_of(client, up, &down)},
                        {.fd = proxy->fd, .events = events_of(proxy, &down, up)}};
                if (!both[0].events)
                        both[0].fd = -1; /* it has said all: a hang-up would not let us sleep */
                if (poll(both, 2, (int)idle) <= 0)
                        break;
        }
        if (proxy->eof && !proxy->broken) {
                set_whole(client, true);
                shutdown(client->fd, SHUT_WR);
                linger(client, down.data);
        }
        secret_wipe(down.data, PART);
        free(down.data);
}

/* --- */

static void pass_on(const struct agent *agent, struct side *client,
        const struct h1_request *request, struct str behind)
{
        struct side proxy = {.fd = -1};
        struct secret token = {0};
        struct error err = {{0}};
        struct buf head;
        struct flow up = {.from = client, .to = &proxy, .data = malloc(2 * PART + HEAD_MOST)};

        if (!up.data)
                abort();
        buf_init(&head, PART + HEAD_MOST);
        (void)buf_reserve(&head, PART + HEAD_MOST); /* no copy of the token is left by growing */
        if (!agent_token_read(agent->settings->token_file.ptr, &token, &err))
                refuse(client, 503, "The agent has no token: %s", err.text);
        else if (!compose(request, &token, &head))
                refuse(client, 431, "The request's head is too large.");
        else if (!reach(agent, &proxy, &err))
                refuse(client, 502, "The agent cannot reach the proxy: %s", err.text);
        else {
                memcpy(up.data, head.data, head.len);
                memcpy(up.data + head.len, behind.ptr, behind.len);
                up.end = head.len + behind.len;
                tunnel(client, &proxy, &up);
        }
        secret_wipe(head.data, head.len);
        buf_clear(&head);
        secret_wipe(up.data, 2 * PART + HEAD_MOST);
        free(up.data);
        secret_drop(&token);
        SSL_free(proxy.ssl);
        if (proxy.fd >= 0)
                close(proxy.fd);
}

/* git-sync asks for the credential in this way, and waits a second for it. */
static void askpass(const struct agent *agent, struct side *client)
{
        struct secret token = {0};
        struct error err = {{0}};
        struct buf body;

        if (!agent_token_read(agent->settings->token_file.ptr, &token, &err)) {
                refuse(client, 503, "The agent has no token: %s", err.text);
                return;
        }
        buf_init(&body, PART);
        (void)buf_reserve(&body, PART);
        buf_printf(&body, "username=%.*s\npassword=", STR_FMT(agent->settings->user));
        buf_str_add(&body, secret_reveal(&token));
        buf_char(&body, '\n');
        answer(client, 200, "text/plain; charset=utf-8", buf_str(&body));
        secret_wipe(body.data, body.len);
        buf_clear(&body);
        secret_drop(&token);
}

void agent_connection(const struct agent *agent, int fd)
{
        struct side client = {.fd = fd};
        struct h1_request *request = malloc(sizeof(*request));
        char *in = malloc(HEAD_MOST);
        size_t have = 0;

        if (!request || !in)
                abort();
        size_t head = read_head(&client, in, &have, request);
        bool get = head && str_eq(request->method, STR("GET"));
        if (head && is_of_a_browser(request))
                refuse(&client, 403,
                        "The agent serves programs of this machine, which call it localhost or "
                        "127.0.0.1, and no web pages.");
        else if (get && str_eq(request->target, STR("/askpass")) && agent->settings->askpass)
                askpass(agent, &client);
        else if (head)
                pass_on(agent, &client, request, str_view(in + head, have - head));
        secret_wipe(in, HEAD_MOST);
        free(in);
        free(request);
        close(fd);
}
