/*
 * head: bytes to a request. The first step.
 */
#include "inside.h"

enum { HEAD_MOST = STREAM_BLOCK - 16 * 1024 }; /* a TLS record fits behind it */

static void correlate(struct exchange *x)
{
        struct str given = h1_field_value(&x->request, H1_X_CORRELATION_ID);

        if (given.ptr && id_uuid_canonical(given, x->correlation_id))
                return;
        x->correlation_replaced = given.ptr != NULL;
        memcpy(x->correlation_id, x->request_id, sizeof(x->correlation_id));
}

/* What kind of client will read a refusal, by the path alone. */
static void recognise_client(struct exchange *x)
{
        const struct target *target = &x->target;

        for (size_t i = 0; i < target->n_segments && i < 4; i++) {
                if (!str_eq_fold(target->segments[i], STR("_git")))
                        continue;
                x->is_git = true;
                for (size_t j = i + 1; j + 1 < target->n_segments; j++)
                        if (str_eq(target->segments[j], STR("info")) &&
                                str_eq(target->segments[j + 1], STR("lfs")))
                                x->is_lfs = true;
        }
}

struct str head_overrides_method(const struct target *target)
{
        for (size_t i = 0; i < target->n_query; i++)
                if (str_eq_fold(target->query[i].name, STR("_method")) ||
                        str_eq_fold(target->query[i].name, STR("X-HTTP-Method-Override")))
                        return target->query[i].name;
        return STR_NONE;
}

/* Some servers let a field or a parameter change the method that was decided on. */
static enum next refuse_override(struct exchange *x)
{
        struct str found = head_overrides_method(&x->target);

        for (size_t i = 0; i < x->request.n_fields; i++)
                if (h1_request_class(&x->request.fields[i]) == FIELD_OVERRIDE)
                        found = x->request.fields[i].name;
        if (!found.ptr)
                return NEXT;
        return refuse(x, 400, REFUSED_MALFORMED,
                "%.*s asks for another method than the request line; send the method itself",
                STR_FMT(str_head(found, 64)));
}

static enum next judge_head(struct exchange *x)
{
        struct h1_request *request = &x->request;
        struct h1_fault fault = {0};

        x->keep_alive = request->keep_alive && !worker_leaves(x->worker);
        correlate(x);
        if (!target_parse(request->target, request->host, &x->arena, &x->target, &fault))
                return refuse_fault(x, &fault);
        x->has_target = true;
        recognise_client(x);
        enum next next = refuse_override(x);
        return next == NEXT ? glass_read_reason(x) : next;
}

enum next head_read(struct exchange *x)
{
        struct stream *stream = &x->client->stream;
        const struct config *config = x->world->config;
        size_t most = config->limits.headers_bytes;
        struct h1_limits limits = {.head_bytes = most < HEAD_MOST ? most : HEAD_MOST,
                .field_bytes = config->limits.header_bytes,
                .fields = H1_MAX_FIELDS};

        for (;;) {
                struct h1_fault fault = {0};
                struct str in = stream_in(stream);
                ssize_t n = in.len ? h1_parse_request(in.ptr, in.len, &x->scanned, &limits,
                                             &x->request, &fault)
                                   : H1_AGAIN;
                if (n == H1_BAD)
                        return refuse_fault(x, &fault);
                if (n > 0) {
                        x->parsed = true;
                        link_remove(&x->client->waiting);
                        stream_fix(stream, (size_t)n); /* the views of the head stay */
                        pipe_init(&x->in, stream, NULL, x->request.framing,
                                x->request.content_length, H1_LENGTH);
                        return judge_head(x);
                }
                switch (stream_fill(stream)) {
                case STREAM_OK: continue;
                case STREAM_AGAIN:
                        if (x->waits != WAIT_HEAD)
                                exchange_wait(x, WAIT_HEAD, config->timeouts.headers_ms);
                        return AGAIN;
                case STREAM_FULL:
                        fault = (struct h1_fault){431, "RFC 6585 5", "the head is too large", 0};
                        return refuse_fault(x, &fault);
                case STREAM_EOF:
                case STREAM_ERROR: exchange_abandon(x); return PENDING;
                }
        }
}
