/*
 * answer: what is answered here, without upstream.
 */
#include "inside.h"

#include "dagward/azdo/discovery.h"
#include "dagward/http/h1_write.h"

static void write_challenges(struct exchange *x, struct buf *out)
{
        h1_write_field(out, STR("WWW-Authenticate"), STR("Basic realm=\"dagward\""));
        /* git would try Bearer by itself and fail; it is offered Basic alone. */
        if (!x->is_git)
                h1_write_field(out, STR("WWW-Authenticate"), STR("Bearer realm=\"dagward\""));
}

/* `large`: the body follows as there is room, and stays where it is until then. */
static void write_answer(
        struct exchange *x, int status, struct str content_type, struct str body, bool large)
{
        /* An answer that was kept has three texts of TRIGGER_TEXT_MOST bytes. */
        static _Thread_local char memory[3 * TRIGGER_TEXT_MOST + 4096];
        struct stream *to = &x->client->stream;
        bool head_only = x->parsed && str_eq(x->request.method, STR("HEAD"));
        char reason[96];
        struct buf head;

        /* A client that was not asked for its body may send it or not: no telling what comes next.
         */
        if (worker_leaves(x->worker) ||
                (x->parsed && x->request.expect_continue && !x->continued && !x->in.body.done))
                x->keep_alive = false;
        if (status < 400)
                snprintf(reason, sizeof(reason), "%s", h1_reason(status));
        else
                snprintf(reason, sizeof(reason), "%s (corr %s)", h1_reason(status),
                        x->correlation_id);
        buf_init_fixed(&head, memory, sizeof(memory));
        h1_write_status_line(&head, status, str_of(reason));
        h1_write_field(&head, STR("Content-Type"), content_type);
        h1_write_field(&head, STR("Cache-Control"), STR("no-store"));
        h1_write_field(&head, STR("X-Content-Type-Options"), STR("nosniff"));
        h1_write_field(&head, STR("X-Correlation-Id"), str_view(x->correlation_id, ID_UUID_LEN));
        h1_write_field(&head, STR("X-Request-Id"), str_view(x->request_id, ID_UUID_LEN));
        if (x->refusal.challenge)
                write_challenges(x, &head);
        if (x->trigger && x->trigger->answer && !x->refused)
                trigger_write_fields(x, &head);
        if (x->refusal.retry_after_s)
                h1_write_field_u64(&head, STR("Retry-After"), (uint64_t)x->refusal.retry_after_s);
        h1_write_field_u64(&head, STR("Content-Length"), body.len);
        if (!x->keep_alive)
                h1_write_field(&head, STR("Connection"), STR("close"));
        else if (x->parsed && x->request.minor == 0)
                h1_write_field(&head, STR("Connection"), STR("keep-alive"));
        h1_write_end(&head);
        x->status = status;
        x->response_bytes = head_only ? 0 : body.len;
        x->answer_left = STR_NONE;
        bool ok = !head.overflow && stream_queue(to, buf_str(&head));
        if (ok && !head_only && large)
                x->answer_left = body;
        else
                ok = ok && (head_only || stream_queue(to, body));
        if (!ok) { /* a client that takes nothing: there is room for several heads */
                x->keep_alive = false;
                to->failed = true;
        }
}

void answer_write(struct exchange *x, int status, struct str content_type, struct str body)
{
        write_answer(x, status, content_type, body, false);
}

enum next answer_whoami(struct exchange *x)
{
        enum { SHOWN = 64 };
        struct policy_grant grants[SHOWN];
        size_t n =
                policy_grants_list(x->world->policy, x->grants, x->worker->wall_ms, grants, SHOWN);
        struct buf body;

        if (n > SHOWN)
                n = SHOWN;
        buf_init(&body, 64 * 1024);
        BUF_LITERAL(
                &body, "{\"product\":\"dagward\",\"version\":\"" DAGWARD_VERSION "\",\"issuer\":");
        buf_json_str(&body, x->caller->issuer);
        BUF_LITERAL(&body, ",\"subject\":");
        buf_json_str(&body, x->caller->subject);
        BUF_LITERAL(&body, ",\"tokenExpires\":");
        char when[CLOCK_RFC3339_LEN + 1];
        clock_rfc3339(x->caller->expires_s * 1000, when);
        buf_json_str(&body, str_of(when));
        BUF_LITERAL(&body, ",\"claimedRoles\":[");
        for (size_t i = 0; i < x->caller->n_roles && i < SHOWN; i++) {
                if (i)
                        buf_char(&body, ',');
                buf_json_str(&body, x->caller->roles[i]);
        }
        BUF_LITERAL(&body, "],\"grants\":[");
        for (size_t i = 0; i < n; i++) {
                buf_str_add(&body, i ? STR(",{\"binding\":") : STR("{\"binding\":"));
                buf_json_str(&body, grants[i].binding);
                BUF_LITERAL(&body, ",\"role\":");
                buf_json_str(&body, grants[i].role);
                if (grants[i].glass_chars)
                        buf_printf(&body, ",\"needsReasonOf\":%u", grants[i].glass_chars);
                buf_char(&body, '}');
        }
        BUF_LITERAL(&body, "],\"correlationId\":");
        buf_json_str(&body, str_of(x->correlation_id));
        BUF_LITERAL(&body, "}\n");
        answer_write(x, 200, STR("application/json; charset=utf-8"), buf_str(&body));
        buf_clear(&body);
        return ANSWER;
}

/* Where a service is, for a client that is told so for each. */
static void write_place(void *owner, enum service service, struct buf *out)
{
        struct exchange *x = owner;
        bool single = x->world->config->upstream.discovery == DISCOVERY_SINGLE;
        struct place place = {single ? SERVICE_DEV : service,
                service == SERVICE_APP && !single ? STR_NONE : x->named.organization};

        place_write(x, &place, STR(""), false, out);
        buf_char(out, '/');
}

static enum next answer_large(struct exchange *x, const struct buf *body)
{
        admit_count_bytes(x, x->own.len);
        write_answer(x, 200, STR("application/json; charset=utf-8"), buf_str(body), true);
        return ANSWER;
}

enum next answer_kept(struct exchange *x, int status, struct str content_type, struct str body)
{
        buf_init(&x->own, 4 * body.len + 64 * 1024);
        place_tell_client(x, content_type, body, &x->own);
        admit_count_bytes(x, x->own.len);
        write_answer(x, status, content_type, buf_str(&x->own), true);
        return ANSWER;
}

/* The locations of all services, or of one: hundreds of KB, which many clients may take slowly, so
 * that there is one copy of it. */
static const struct buf *all_locations(struct exchange *x)
{
        enum service service = x->named.service;
        struct buf *all = &x->worker->locations[service];

        if (!all->data) {
                buf_init(all, 1024 * 1024);
                discovery_locations_write(STR_NONE, service, service == SERVICE_DEV, true, all);
        }
        return all;
}

/* SDKs ask which host serves which area and then go there, with the caller's token. An empty list,
 * which is what a server with one base URL answers, keeps them here; then the locations of all
 * services are those of that URL. */
enum next answer_locally(struct exchange *x)
{
        bool single = x->world->config->upstream.discovery == DISCOVERY_SINGLE;
        struct str id = str_of(x->named.op ? x->named.op->id : "");

        if (!str_starts(id, STR("discovery.")))
                return NEXT;
        buf_init(&x->own, 1024 * 1024);
        if (str_eq(id, STR("discovery.resourceAreas.list"))) {
                if (single)
                        BUF_LITERAL(&x->own, "{\"count\":0,\"value\":null}");
                else
                        discovery_areas_write(STR_NONE, write_place, x, &x->own);
                return answer_large(x, &x->own);
        }
        if (str_eq(id, STR("discovery.resourceAreas.get"))) {
                struct str area = route_param(&x->named.route, STR("areaId"));
                discovery_areas_write(area, write_place, x, &x->own);
                return answer_large(x, &x->own);
        }
        if (single && str_starts(id, STR("discovery.locations."))) {
                struct str area = route_param(&x->named.route, STR("area"));
                if (!area.len && x->named.organization.len)
                        return answer_large(x, all_locations(x));
                discovery_locations_write(area, x->named.service, x->named.service == SERVICE_DEV,
                        x->named.organization.len > 0, &x->own);
                return answer_large(x, &x->own);
        }
        return NEXT;
}
