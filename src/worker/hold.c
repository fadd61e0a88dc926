/*
 * hold: bodies that are read before they are sent.
 *
 * Either because what is asked depends on them (then whole, bounded by `limits.inspect`, and
 * without the encoding they came in), or because they are small, so that they can be sent again.
 */
#include "inside.h"

#include "dagward/http/gunzip.h"
#include "dagward/http/h1_body.h"

/* Bodies up to this are awaited whole, so that they can be sent again. Behind the largest head they
 * leave room in the block, or what comes next could never be read. */
enum { HOLD_MOST = 15 * 1024 };

/* Asks a client that waits for it to send its body. */
static void invite_body(struct exchange *x)
{
        if (!x->request.expect_continue || x->continued || stream_in(&x->client->stream).len)
                return;
        x->continued = true;
        (void)stream_queue(&x->client->stream, STR("HTTP/1.1 100 Continue\r\n\r\n"));
        (void)stream_flush(&x->client->stream);
}

enum next hold_wait(struct exchange *x)
{
        enum stream_io io = stream_fill(&x->client->stream);

        if (io == STREAM_OK)
                return NEXT;
        if (io == STREAM_AGAIN) {
                invite_body(x);
                if (stream_pending(&x->client->stream))
                        (void)stream_flush(&x->client->stream);
                uint64_t have = x->in.body.wire_bytes + stream_in(&x->client->stream).len;
                if (x->waits != WAIT_BODY || have != x->moved_before)
                        exchange_wait(x, WAIT_BODY, x->world->config->timeouts.body_ms);
                x->moved_before = have;
                return AGAIN;
        }
        if (io == STREAM_FULL)
                return refuse(x, 413, REFUSED_TOO_LARGE, "the body is too large");
        exchange_abandon(x);
        return PENDING;
}

static enum next too_large(struct exchange *x)
{
        return refuse(x, 413, REFUSED_TOO_LARGE,
                "what this request does depends on its body, which is larger than the %llu bytes "
                "that are inspected",
                (unsigned long long)x->world->config->limits.inspect_bytes);
}

/* Upstream reads some media types as other than JSON in UTF-8; those would be judged by what they
 * are not. */
static bool type_is_readable(struct exchange *x)
{
        struct str value = h1_field_value(&x->request, H1_CONTENT_TYPE), type, parameter;
        struct str rest = str_cut(value, ';', &type);

        type = str_trim(type);
        if (type.len && !str_eq_fold(type, STR("application/json")) &&
                !str_eq_fold(type, STR("text/json")) && !str_eq_fold(type, STR("text/plain")) &&
                !str_eq_fold(type, STR("application/octet-stream")) &&
                !str_ends_fold(type, STR("+json")))
                return false;
        while (rest.ptr) {
                rest = str_cut(rest, ';', &parameter);
                parameter = str_trim(parameter);
                if (!str_starts_fold(parameter, STR("charset")))
                        continue;
                struct str name, charset = str_trim(str_cut(parameter, '=', &name));
                if (charset.len > 1 && charset.ptr[0] == '"' && str_ends(charset, STR("\"")))
                        charset = str_view(charset.ptr + 1, charset.len - 2);
                if (!str_eq_fold(charset, STR("utf-8")) && !str_eq_fold(charset, STR("utf8")) &&
                        !str_eq_fold(charset, STR("us-ascii")))
                        return false;
        }
        return true;
}

static enum next no_memory(struct exchange *x)
{
        return admit_turn_away(x, 503, REFUSED_OVERLOAD, 1,
                "the proxy has no memory for the body at the moment; try again");
}

enum next hold_instead(struct exchange *x, struct buf *body)
{
        bool has_room = admit_bytes(x, body->cap);

        buf_clear(&x->rewritten);
        x->rewritten = *body;
        x->held = x->rewritten.data ? buf_str(&x->rewritten) : STR("");
        return has_room ? NEXT : no_memory(x);
}

/* Reads the body's payload into x->inspected as it comes. */
static enum next collect(struct exchange *x)
{
        uint64_t most = x->world->config->limits.inspect_bytes;

        if (x->inspected.ceiling == 0) {
                bool known = x->request.framing == H1_LENGTH;
                if (!admit_bytes(x, known ? x->request.content_length : most))
                        return no_memory(x);
                buf_init(&x->inspected, most);
        }
        while (!x->in.body.done) {
                struct str in = stream_in(&x->client->stream), payload;
                struct h1_fault fault = {0};
                if (in.len == 0) {
                        enum next next = hold_wait(x);
                        if (next != NEXT)
                                return next;
                        continue;
                }
                ssize_t n = h1_body_next(&x->in.body, in.ptr, in.len, &payload, &fault);
                if (n < 0)
                        return refuse_fault(x, &fault);
                buf_str_add(&x->inspected, payload);
                stream_consume(&x->client->stream, (size_t)n);
                if (x->inspected.overflow)
                        return too_large(x);
        }
        x->holds_body = true;
        x->held = x->inspected.data ? buf_str(&x->inspected) : STR("");
        return NEXT;
}

/* Takes the Content-Encoding off. */
static enum next decode(struct exchange *x)
{
        struct str encoding = h1_field_value(&x->request, H1_CONTENT_ENCODING);
        struct error why;
        struct buf plain;

        error_none(&why);
        if (x->decoded_body || !encoding.len || str_eq_fold(encoding, STR("identity")))
                return NEXT;
        if (!str_eq_fold(encoding, STR("gzip")) && !str_eq_fold(encoding, STR("x-gzip")))
                return refuse(x, 400, REFUSED_MALFORMED,
                        "what this request does depends on its body, which has a Content-Encoding "
                        "other than gzip");
        buf_init(&plain, x->world->config->limits.inspect_bytes);
        if (!gunzip_whole(x->held, &plain, &why)) {
                bool is_too_large = plain.overflow;
                buf_clear(&plain);
                return is_too_large ? too_large(x)
                                    : refuse(x, 400, REFUSED_MALFORMED, "%s", why.text);
        }
        x->decoded_body = true;
        return hold_instead(x, &plain);
}

enum next hold_whole(struct exchange *x)
{
        bool long_known = x->request.framing == H1_LENGTH &&
                          x->request.content_length > x->world->config->limits.inspect_bytes;

        if (long_known)
                return too_large(x);
        enum next next = x->holds_body ? NEXT : hold_small(x);
        if (next == NEXT && !x->holds_body)
                next = collect(x);
        return next == NEXT ? decode(x) : next;
}

enum next hold_to_decide(struct exchange *x)
{
        bool empty = x->request.framing == H1_NO_BODY ||
                     (x->request.framing == H1_LENGTH && x->request.content_length == 0);

        if (!empty && !type_is_readable(x))
                return refuse(x, 400, REFUSED_MALFORMED,
                        "what this request does depends on its body, whose Content-Type is not "
                        "JSON in UTF-8");
        return hold_whole(x);
}

enum next hold_small(struct exchange *x)
{
        struct stream *stream = &x->client->stream;
        uint64_t length = x->request.content_length;

        if (x->holds_body)
                return NEXT;
        if (x->request.framing == H1_NO_BODY || (x->request.framing == H1_LENGTH && length == 0)) {
                x->holds_body = true;
                x->held = STR("");
                return NEXT;
        }
        if (x->request.framing != H1_LENGTH || length > HOLD_MOST)
                return NEXT; /* it streams */
        while (stream_in(stream).len < length) {
                enum next next = hold_wait(x);
                if (next != NEXT)
                        return next;
        }
        struct h1_fault fault = {0};
        ssize_t n =
                h1_body_next(&x->in.body, stream_in(stream).ptr, (size_t)length, &x->held, &fault);
        if (n < 0)
                return refuse_fault(x, &fault);
        stream_fix(stream, (size_t)n); /* `held` views it */
        x->holds_body = true;
        return NEXT;
}
