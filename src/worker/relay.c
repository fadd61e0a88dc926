/*
 * relay: the bytes of one exchange, both ways at once.
 *
 * The request's head and the body that is held go first, any other body is piped while the answer's
 * head is awaited; then the answer is piped. An answer may come before the request has gone whole:
 * it is passed on, and the rest of the request is thrown away.
 */
#include "inside.h"

#include <event2/event.h>

#include "dagward/base/secret.h"
#include "dagward/http/h1_write.h"

enum { HEAD_MOST = 70 * 1024 };
enum { INTERIMS_MOST = 16 };        /* 1xx answers before the one that counts */
enum { COALESCE_MOST = 16 * 1024 }; /* a held body up to this goes in one write with the head */

/* Gives up on upstream: an answer of ours if none has begun, else the connection is cut so that the
 * client cannot take the part for the whole. */
static void fail(struct exchange *x, int status, enum refusal kind, const char *text)
{
        if (x->upstream)
                upstream_drop(x->upstream);
        if (x->response_begun) {
                log_info("correlation=%s upstream=%s answer cut off: %s", x->correlation_id,
                        x->world->endpoints[x->named.service].host, text);
                exchange_abandon(x);
                return;
        }
        (void)refuse(x, status, kind, "%s", text);
        exchange_refuse(x);
}

static void queue_request(struct exchange *x)
{
        static _Thread_local char memory[HEAD_MOST];
        struct stream *to = &x->upstream->stream;
        struct buf head;

        buf_init_fixed(&head, memory, sizeof(memory));
        bool ok = (x->detour ? detour_compose(x, &head) : compose_request(x, &head)) &&
                  stream_queue(to, buf_str(&head));
        secret_wipe(memory, head.len); /* it held the credential */
        if (!ok) {
                fail(x, 431, REFUSED_TOO_LARGE, "the request's head is too large to be sent on");
                return;
        }
        x->held_sent = 0;
        if (x->holds_body && x->held.len <= COALESCE_MOST && stream_queue(to, x->held))
                x->held_sent = x->held.len;
}

/* Connects and queues the head. x->upstream is NULL afterwards if the exchange was refused. */
static void start_attempt(struct exchange *x, bool fresh)
{
        const struct config *config = x->world->config;
        struct error why;

        error_none(&why);
        x->request_sent = false;
        x->request_blocked = false;
        x->response_scanned = 0;
        x->interims = 0;
        if (!upstream_lend(x, fresh, &why)) {
                log_info("correlation=%s %s", x->correlation_id, why.text);
                if (x->tls_why.ptr && !x->refusal.retry_after_s)
                        error_set(&why, "%.*s", STR_FMT(x->tls_why));
                fail(x, x->refusal.retry_after_s ? 503 : 502, REFUSED_UPSTREAM, why.text);
                return;
        }
        x->in.to = &x->upstream->stream;
        int64_t left_ms = x->connect_until_ms - x->worker->now_ms;
        bool last = x->upstream->served || left_ms <= config->upstream.attempt_ms ||
                    !address_is_left(x);
        exchange_wait(x, WAIT_CONNECT, last ? left_ms : config->upstream.attempt_ms);
        if (!x->upstream->tunnelling)
                queue_request(x);
}

/* The same with all the time there is for it. */
static void start(struct exchange *x, bool fresh)
{
        x->connect_until_ms = x->worker->now_ms + x->world->config->upstream.connect_ms;
        start_attempt(x, fresh);
}

/* It was not the last: should there be no other one, the record must not say that this was. */
static void forget_answer(struct exchange *x)
{
        x->upstream_status = 0;
        x->first_byte_us = 0;
}

enum next relay_begin(struct exchange *x)
{
        const struct h1_request *request = &x->request;

        if (!x->holds_body) {
                pipe_init(&x->in, &x->client->stream, NULL, request->framing,
                        request->content_length,
                        request->framing == H1_CHUNKED ? H1_CHUNKED : H1_LENGTH);
                if (request->expect_continue && !x->continued) {
                        x->continued = true;
                        (void)stream_queue(
                                &x->client->stream, STR("HTTP/1.1 100 Continue\r\n\r\n"));
                        (void)stream_flush(&x->client->stream);
                }
        }
        x->upstream_begun_us = clock_mono_us();
        forget_answer(x);
        x->activity_id = x->upstream_e2eid = STR_NONE;
        x->phase = PHASE_RELAY;
        start(x, false);
        return RELAY;
}

/* The connection died before an answer. Another address or, for what may be repeated, another
 * connection, if that is safe; else it is an error of upstream's. */
static void lost(struct exchange *x)
{
        struct upstream *upstream = x->upstream;
        struct str method = x->request.method;
        /* Whatever the method, what upstream cannot have seen may be sent elsewhere. */
        bool nothing_sent = upstream->stream.sent == upstream->sent_before;
        bool never_connected = nothing_sent && upstream->served == 0;
        bool repeatable = str_eq(method, STR("GET")) || str_eq(method, STR("HEAD")) ||
                          str_eq(method, STR("OPTIONS"));
        bool untouched = stream_in(&upstream->stream).len == 0;
        char text[256];

        snprintf(text, sizeof(text), "%s%s %s: %s", upstream->host, tunnel_words(upstream),
                never_connected ? "cannot be reached" : "closed the connection without an answer",
                stream_why(&upstream->stream));
        /* Reused connections are closed by their peer at any time: that is no fault of it. */
        if (never_connected)
                address_failed_for(upstream, FAULT_UNREACHABLE, stream_why(&upstream->stream));
        else if (upstream->served == 0)
                address_failed_for(upstream, FAULT_ANSWER, "closed a connection unanswered");
        /* Worth more to whoever has to mend it than that the next address refuses. */
        if (never_connected && stream_tls_failed(&upstream->stream))
                x->tls_why = arena_copy(&x->arena, str_of(text));
        if (never_connected && address_is_left(x)) {
                log_info("correlation=%s %s; another address is tried", x->correlation_id, text);
                upstream_drop(upstream);
                start_attempt(x, true);
                return;
        }
        /* A fresh connection was meant. Of a body that streams nothing has left the client. */
        if (((repeatable && x->holds_body) || nothing_sent) && untouched && upstream->served &&
                !x->retried && upstream_may_retry(x)) {
                x->retried = true;
                upstream_drop(upstream);
                start(x, true);
                return;
        }
        log_info("correlation=%s %s", x->correlation_id, text);
        if (never_connected && x->tls_why.ptr)
                snprintf(text, sizeof(text), "%.*s", STR_FMT(x->tls_why));
        fail(x, 502, REFUSED_UPSTREAM, text);
}

bool relay_connect_late(struct exchange *x)
{
        struct upstream *upstream = x->upstream;

        if (!upstream || upstream->served || upstream->stream.sent != upstream->sent_before)
                return false; /* what may have been seen is not sent elsewhere */
        /* A proxy that was asked for a way was reached; what is slow may be behind it. */
        if (upstream->tunnelling && upstream->stream.sent)
                address_failed_for(upstream, FAULT_ANSWER, "did not open a way in time");
        else
                address_failed_for(upstream, FAULT_UNREACHABLE, "no connection in time");
        if (x->worker->now_ms >= x->connect_until_ms || !address_is_left(x))
                return false;
        log_info("correlation=%s %s did not connect in time; another address is tried",
                x->correlation_id, upstream->host);
        upstream_drop(upstream);
        start_attempt(x, true);
        return true;
}

/* Nothing of the request has gone. Should the next address only refuse, what this one said is worth
 * more. */
static bool try_another(struct exchange *x, const struct error *why)
{
        if (x->worker->now_ms >= x->connect_until_ms || !address_is_left(x))
                return false;
        log_info(
                "correlation=%s another address of the outgoing proxy is tried", x->correlation_id);
        x->tls_why = arena_copy(&x->arena, str_of(why->text));
        upstream_drop(x->upstream);
        start_attempt(x, true);
        return true;
}

/* The way to upstream is open, or (true as well) the outgoing proxy has not opened it yet; then
 * nothing of the request is even written. False: it will not be opened. */
static bool open_way(struct exchange *x)
{
        struct error why;
        int status = 502;

        error_none(&why);
        switch (tunnel_go_on(x, &status, &why)) {
        case TUNNEL_OPEN: queue_request(x); return x->upstream != NULL;
        case TUNNEL_AGAIN: x->request_blocked = true; return true;
        case TUNNEL_LOST: lost(x); return false;
        case TUNNEL_SICK:
                if (try_another(x, &why))
                        return false;
                break;
        case TUNNEL_FAILED: break;
        }
        x->worker->metrics.upstream_failed++;
        fail(x, status, REFUSED_UPSTREAM, why.text);
        return false;
}

/* Sends what can be sent of the request. False: the exchange has ended or been refused. */
static bool send_request(struct exchange *x)
{
        struct stream *to = &x->upstream->stream;

        if (x->request_sent)
                return true;
        /* A body that streams stays with the client until there is a connection to put it on:
         * another address may have to be tried, with all of it. */
        if (!x->holds_body && to->sent == x->upstream->sent_before) {
                (void)stream_flush(to); /* if it is broken, reading will tell */
                x->request_blocked = to->sent == x->upstream->sent_before;
                if (x->request_blocked)
                        return true;
        }
        if (!x->holds_body) {
                enum pipe_state state = pipe_pump(&x->in);
                x->request_blocked = state == PIPE_BLOCKED || state == PIPE_TO_BROKEN;
                switch (state) {
                case PIPE_DONE: x->request_sent = true; return true;
                case PIPE_MORE: stream_wake(&x->client->stream); return true;
                case PIPE_HUNGRY:
                case PIPE_BLOCKED: return true;
                case PIPE_TO_BROKEN: return true; /* it may have answered: reading will tell */
                case PIPE_CUT:
                case PIPE_FROM_BROKEN: exchange_abandon(x); return false;
                case PIPE_BAD:
                        upstream_drop(x->upstream);
                        if (x->response_begun) {
                                exchange_abandon(x);
                        } else {
                                (void)refuse_fault(x, &x->in.fault);
                                exchange_refuse(x);
                        }
                        return false;
                }
        }
        if (stream_flush(to) != STREAM_OK)
                return true;
        while (x->held_sent < x->held.len) {
                ssize_t n = stream_write(to, str_from(x->held, x->held_sent));
                if (n <= 0)
                        return true;
                x->held_sent += (size_t)n;
        }
        x->request_sent = true;
        return true;
}

/* Upstream would not take our credential. Once it is replaced and the request sent again, if its
 * body is at hand; never is such an answer passed on. */
static void credential_rejected(struct exchange *x)
{
        x->worker->metrics.credential_rejected++;
        log_info("correlation=%s credential=%.*s upstream turned it away with %d",
                x->correlation_id, STR_FMT(x->decision.credential), x->response.status);
        x->challenge = response_wants_claims(&x->response);
        if (x->challenge.ptr)
                x->challenge = arena_copy(&x->arena, x->challenge);
        upstream_drop(x->upstream);
        trigger_turned_away(x);
        if (!x->replaced_credential && x->holds_body) {
                x->replaced_credential = true;
                exchange_lend_again(x);
                return;
        }
        fail(x, 502, REFUSED_UPSTREAM_CREDENTIAL,
                x->credential_is_callers ? lend_rejected_text
                                         : "Azure DevOps did not accept the proxy's credential; "
                                           "the proxy's operators "
                                           "have to look at it, nothing is wrong with your token");
}

/* Goes where the content is, as soon as it is known where that is. */
static void follow(struct exchange *x)
{
        if (!x->detour->known && !x->ask_why[0]) {
                stream_listen(&x->client->stream, false); /* it has to wait, whatever it says */
                (void)ask_address(x);
                return;
        }
        if (!x->detour->known) {
                log_info("correlation=%s storage=%s %s", x->correlation_id, x->detour->host,
                        x->ask_why);
                fail(x, 502, REFUSED_UPSTREAM,
                        "the storage that Azure DevOps redirected to could not be found");
                return;
        }
        start(x, true);
}

/* Azure DevOps says that the content is elsewhere. */
static void redirected(struct exchange *x)
{
        bool known = detour_begin(x);

        upstream_drop(x->upstream);
        forget_answer(x);
        x->ask_why[0] = '\0';
        if (known)
                follow(x);
        else
                fail(x, 502, REFUSED_UPSTREAM, "Azure DevOps redirected to an unusable place");
}

static struct str keep(struct exchange *x, enum h1_name name)
{
        struct str value = h1_response_value(&x->response, name);

        return value.ptr ? arena_copy(&x->arena, str_head(value, 128)) : STR_NONE;
}

/* The answer's head is there: judge it, compose the client's. */
static void begin_response(struct exchange *x)
{
        static _Thread_local char memory[HEAD_MOST];
        struct h1_response *response = &x->response;
        struct stream *from = &x->upstream->stream, *to = &x->client->stream;
        struct error why;
        struct buf head;

        error_none(&why);
        x->first_byte_us = clock_mono_us();
        x->upstream_status = response->status;
        x->keep_alive = x->keep_alive && !worker_leaves(x->worker);
        address_answered(x);
        if (!x->detour) {
                x->activity_id = keep(x, H1_ACTIVITY_ID);
                x->upstream_e2eid = keep(x, H1_X_VSS_E2EID);
        }
        if (!x->detour && response_is_sign_in(response)) {
                credential_rejected(x);
                return;
        }
        if (!x->detour) {
                resolve_judge_answer(x);
                throttle_answered(x);
        }
        if (detour_wanted(x)) {
                redirected(x);
                return;
        }
        const char *unwilling = NULL;
        int status = x->detour ? detour_refusal(x, &unwilling) : 0;
        if (status) {
                fail(x, status, REFUSED_UPSTREAM, unwilling);
                return;
        }
        enum h1_framing leaves = response->framing;
        if (x->orphan)
                to = NULL;
        x->rewrites = to && !x->detour && place_answer_has_links(x);
        if (leaves == H1_UNTIL_CLOSE || leaves == H1_CHUNKED || x->rewrites)
                leaves = x->request.minor ? H1_CHUNKED : H1_UNTIL_CLOSE;
        if (leaves == H1_UNTIL_CLOSE)
                x->keep_alive = false;
        buf_init_fixed(&head, memory, sizeof(memory));
        if (!compose_response(x, leaves, &head, &why)) {
                fail(x, 502, REFUSED_UPSTREAM, why.text);
                return;
        }
        if (x->trigger)
                trigger_answered(x);
        stream_consume(from, response->head_bytes);
        x->response_begun = true;
        x->status = response->status;
        /* 100 Continue may still be on its way out: there is room for that and one head. */
        if (to && !stream_queue(to, buf_str(&head))) {
                exchange_abandon(x);
                return;
        }
        pipe_init(&x->out, from, to, response->framing, response->content_length, leaves);
        if (x->trigger)
                x->out.copy = &x->trigger->body;
        if (x->rewrites)
                x->out.rewrite = x->rewrite;
}

/* Reads until the answer's head is whole. */
static void read_response_head(struct exchange *x)
{
        struct stream *from = &x->upstream->stream;
        struct h1_limits limits = {
                .head_bytes = 64 * 1024, .field_bytes = 32 * 1024, .fields = H1_MAX_FIELDS};

        for (;;) {
                struct str in = stream_in(from);
                struct h1_fault fault = {0};
                ssize_t n = in.len ? h1_parse_response(in.ptr, in.len, &x->response_scanned,
                                             &limits, x->request.method, &x->response, &fault)
                                   : H1_AGAIN;
                if (n == H1_BAD) {
                        log_info("correlation=%s upstream=%s answered nonsense: %s (%s)",
                                x->correlation_id, x->upstream->host, fault.why, fault.rule);
                        address_failed_for(x->upstream, FAULT_ANSWER, fault.why);
                        fail(x, 502, REFUSED_UPSTREAM,
                                "Azure DevOps answered with something that is not HTTP");
                        return;
                }
                if (n > 0 && x->response.status < 200) {
                        stream_consume(from, (size_t)n);
                        x->response_scanned = 0;
                        if (++x->interims <= INTERIMS_MOST)
                                continue;
                        fail(x, 502, REFUSED_UPSTREAM,
                                "Azure DevOps sent too many interim answers and no final one");
                        return;
                }
                if (n > 0) {
                        begin_response(x);
                        return;
                }
                switch (stream_fill(from)) {
                case STREAM_OK: continue;
                case STREAM_AGAIN: return;
                case STREAM_FULL:
                        fail(x, 502, REFUSED_UPSTREAM, "Azure DevOps' answer has too large a head");
                        return;
                case STREAM_EOF:
                case STREAM_ERROR: lost(x); return;
                }
        }
}

/* An answer to HEAD, or 304, that tells of a body which may not follow. Some servers send it all
 * the same, and a moment later: it would be read as somebody else's answer. */
static bool may_be_followed(const struct h1_response *response)
{
        return response->framing == H1_NO_BODY &&
               (response->content_length || response->first[H1_TRANSFER_ENCODING] >= 0);
}

static void finish(struct exchange *x)
{
        bool reusable = x->request_sent && x->response.keep_alive &&
                        x->response.framing != H1_UNTIL_CLOSE && !may_be_followed(&x->response);

        x->response_bytes = x->out.moved;
        upstream_return(x, reusable);
        if (x->request_sent || x->holds_body) {
                exchange_end(x);
                return;
        }
        exchange_drain(x);
}

/* What the exchange is waiting for now that nothing can be moved; a deadline is set anew when the
 * wait is another one or bytes have moved. */
static void wait_on(struct exchange *x, enum pipe_state out)
{
        const struct config *config = x->world->config;
        struct stream *to = &x->upstream->stream;
        uint64_t moved = x->in.moved + x->out.moved + x->held_sent;
        enum waits_for what;
        int64_t ms;

        bool connected = x->upstream->served || to->sent > x->upstream->sent_before;
        if (x->waits == WAIT_CONNECT && !connected)
                return;
        if (connected && !x->upstream->connected)
                address_connected(x->upstream);
        if (x->response_begun) {
                what = out == PIPE_BLOCKED ? WAIT_CLIENT : WAIT_UPSTREAM;
                ms = out == PIPE_BLOCKED ? config->timeouts.body_ms : config->upstream.idle_ms;
        } else if (x->request_sent) {
                what = WAIT_FIRST_BYTE;
                ms = config->upstream.first_byte_ms;
        } else if (!stream_pending(to) && !x->holds_body && x->in.payload_left == 0) {
                what = WAIT_BODY;
                ms = config->timeouts.body_ms;
        } else {
                what = WAIT_UPSTREAM;
                ms = config->upstream.idle_ms;
        }
        if (x->waits != what || moved != x->moved_before)
                exchange_wait(x, what, ms);
        x->moved_before = moved;
}

/* Listens only where bytes can be taken, so that nobody spins on what cannot be moved. */
static void listen_where_useful(struct exchange *x, enum pipe_state out)
{
        struct stream *client = &x->client->stream;
        bool wants_body = !x->request_sent && !x->holds_body && !x->request_blocked;

        /* Without a body to come the client can only hang up or send its next request early. One
         * that has hung up, and whose trigger goes on, would be heard of over and over. */
        bool may_speak = !client->eof && !client->failed && stream_in(client).len == 0;
        stream_listen(client, wants_body || (may_speak && x->request_sent && !x->response_begun));
        stream_listen(&x->upstream->stream,
                !x->upstream->stream.eof && !(x->response_begun && out == PIPE_BLOCKED));
}

/* The answer's head, on whatever connection it comes. True: it has begun, or is still awaited. */
static bool send_and_listen(struct exchange *x)
{
        struct client *client = x->client;
        struct upstream *upstream;

        do {
                upstream = x->upstream;
                if (upstream && upstream->tunnelling && !open_way(x)) {
                        if (client->exchange != x || x->phase != PHASE_RELAY || !x->upstream)
                                return false;
                        continue; /* another address is tried */
                }
                if (upstream && upstream->tunnelling)
                        return true;
                if (!upstream || !send_request(x))
                        return false;
                if (x->response_begun)
                        return true;
                read_response_head(x);
                if (client->exchange != x || x->phase != PHASE_RELAY || !x->upstream)
                        return false;
        } while (x->upstream != upstream); /* it died, another one is tried */
        return true;
}

/* A client that hung up needs no answer; one that only half-closed does. */
static bool client_is_there(struct exchange *x)
{
        struct stream *client = &x->client->stream;

        if (x->request_sent && stream_in(client).len == 0)
                (void)(stream_fill(client) == STREAM_OK); /* the next request, early */
        return !client->failed;
}

void relay_go_on(struct exchange *x)
{
        enum pipe_state out = PIPE_HUNGRY;

        if (!x->response_begun && stream_pending(&x->client->stream))
                (void)stream_flush(&x->client->stream); /* 100 Continue */
        if (x->ask)
                return;
        if (x->detour && !x->upstream) {
                struct client *client = x->client;
                follow(x);
                if (client->exchange != x || x->phase != PHASE_RELAY || !x->upstream)
                        return;
        }
        if (!send_and_listen(x))
                return;
        if (x->response_begun) {
                out = pipe_pump(&x->out);
                if (out == PIPE_TO_BROKEN && trigger_outlives_client(x)) {
                        x->out.to = NULL;
                        x->out.rewrite = NULL;
                        out = pipe_pump(&x->out);
                }
                switch (out) {
                case PIPE_DONE: finish(x); return;
                case PIPE_MORE: stream_wake(&x->upstream->stream); break;
                case PIPE_HUNGRY:
                case PIPE_BLOCKED: break;
                case PIPE_CUT: fail(x, 502, REFUSED_UPSTREAM, "cut short"); return;
                case PIPE_BAD: fail(x, 502, REFUSED_UPSTREAM, x->out.fault.why); return;
                case PIPE_FROM_BROKEN:
                        fail(x, 502, REFUSED_UPSTREAM, stream_why(&x->upstream->stream));
                        return;
                case PIPE_TO_BROKEN: exchange_abandon(x); return;
                }
        } else if (!client_is_there(x) && !trigger_outlives_client(x)) {
                exchange_abandon(x);
                return;
        }
        wait_on(x, out);
        listen_where_useful(x, out);
}
