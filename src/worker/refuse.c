/*
 * refuse: how a refusal reaches the person at the other end.
 *
 * git shows `text/plain` lines of a 403 as `remote:`; git-lfs and the SDKs read `message` of their
 * JSON; a deferrable Airflow task shows the reason phrase and nothing else. Each gets its shape.
 */
#include "inside.h"

#include <stdarg.h>

#include "dagward/http/h1_write.h"

enum next refuse(struct exchange *x, int status, enum refusal kind, const char *format, ...)
{
        va_list args;

        x->refusal.status = status;
        x->refusal.kind = kind;
        va_start(args, format);
        vsnprintf(x->refusal.message, sizeof(x->refusal.message), format, args);
        va_end(args);
        return REFUSE;
}

enum next refuse_fault(struct exchange *x, const struct h1_fault *fault)
{
        bool large = fault->status == 413 || fault->status == 414 || fault->status == 431;

        x->keep_alive = false; /* where the next request begins is anybody's guess */
        return refuse(x, fault->status, large ? REFUSED_TOO_LARGE : REFUSED_MALFORMED, "%s%s%s%s",
                fault->why, fault->rule[0] ? " (" : "", fault->rule, fault->rule[0] ? ")" : "");
}

static void write_message(struct exchange *x, struct buf *out)
{
        buf_printf(out, "%s", x->refusal.message);
}

static void write_text(struct exchange *x, struct buf *out)
{
        buf_printf(out, "Dagward refused this (%d, correlation %s)\n", x->refusal.status,
                x->correlation_id);
        write_message(x, out);
        buf_char(out, '\n');
}

static const char *type_key(int status)
{
        switch (status) {
        case 401: return "DagwardUnauthenticatedException";
        case 403: return "DagwardDeniedException";
        case 502:
        case 503:
        case 504: return "DagwardUnavailableException";
        default: return "DagwardRequestException";
        }
}

/* Azure DevOps' own error shape, and ours behind it. */
static void write_json(struct exchange *x, struct buf *out)
{
        char memory[1024];
        struct buf message;

        buf_init_fixed(&message, memory, sizeof(memory));
        buf_printf(&message, "Dagward: %s (correlation %s)", x->refusal.message, x->correlation_id);
        BUF_LITERAL(out, "{\"$id\":\"1\",\"innerException\":null,\"message\":");
        buf_json_str(out, buf_str(&message));
        buf_printf(out, ",\"typeName\":\"Dagward.%s, Dagward\",\"typeKey\":\"%s\"",
                type_key(x->refusal.status), type_key(x->refusal.status));
        BUF_LITERAL(out, ",\"errorCode\":0,\"eventId\":3000,\"correlationId\":");
        buf_json_str(out, str_of(x->correlation_id));
        BUF_LITERAL(out, ",\"rule\":");
        buf_json_str(out, str_of(x->refusal.rule));
        BUF_LITERAL(out, ",\"docs\":\"docs/policy.md\"}");
}

static void write_lfs(struct exchange *x, struct buf *out)
{
        BUF_LITERAL(out, "{\"message\":");
        buf_json_str(out, str_of(x->refusal.message));
        buf_printf(out, ",\"request_id\":\"%s\"}", x->correlation_id);
}

void refusal_write(struct exchange *x)
{
        /* Each byte may be escaped as \u00XX. */
        char memory[6 * (sizeof(x->refusal.message) + sizeof(x->refusal.rule)) + 1024];
        struct buf body;
        struct str type;

        if (x->push && push_report(x).len) {
                answer_write(x, 200, STR("application/x-git-receive-pack-result"), push_report(x));
                return;
        }
        buf_init_fixed(&body, memory, sizeof(memory));
        if (x->is_lfs) {
                type = STR("application/vnd.git-lfs+json");
                write_lfs(x, &body);
        } else if (x->is_git) {
                type = STR("text/plain; charset=utf-8");
                write_text(x, &body);
        } else {
                type = STR("application/json; charset=utf-8");
                write_json(x, &body);
        }
        answer_write(x, x->refusal.status, type, buf_str(&body));
}
