#include "dagward/audit/view.h"

#include <jansson.h>

#include "dagward/base/report.h"

static struct str text_of(const json_t *value)
{
        return json_is_string(value) ? str_view(json_string_value(value), json_string_length(value))
                                     : STR_NONE;
}

/* A string member of an object member of the record: field(record, "caller", "subject"). */
static struct str field(const json_t *record, const char *object, const char *name)
{
        return text_of(json_object_get(json_object_get(record, object), name));
}

/* ` name value`, when there is a value. */
static void labelled(struct buf *out, const char *label, struct str value)
{
        if (str_empty(value))
                return;
        buf_printf(out, " %s ", label);
        report_text(out, value);
}

static bool asked_for(const json_t *record, const struct view_filter *filter, struct str kind)
{
        if (str_eq(kind, STR("intent")) && !filter->intents)
                return false;
        if (!str_empty(filter->id) &&
                !str_eq(text_of(json_object_get(record, "correlation_id")), filter->id) &&
                !str_eq(text_of(json_object_get(record, "request_id")), filter->id))
                return false;
        if (!str_empty(filter->caller) &&
                !str_glob(filter->caller, field(record, "caller", "subject"), false))
                return false;
        if (!str_empty(filter->effect) &&
                !str_eq(filter->effect, field(record, "decision", "effect")))
                return false;
        return str_empty(filter->operation) ||
               str_glob(filter->operation, field(record, "request", "operation"), true);
}

static void status_of(struct buf *out, const json_t *record, const char *object)
{
        const json_t *status = json_object_get(json_object_get(record, object), "status");

        if (json_is_integer(status))
                buf_printf(out, "%lld", (long long)json_integer_value(status));
        else
                buf_char(out, '-');
}

static void show_event(struct buf *out, const json_t *record)
{
        json_t *detail = json_object_get(json_object_get(record, "event"), "detail");
        const char *name;
        json_t *value;

        BUF_LITERAL(out, "event  ");
        report_text(out, field(record, "event", "name"));
        json_object_foreach(detail, name, value)
        {
                buf_char(out, ' ');
                report_text(out, str_of(name));
                buf_char(out, '=');
                report_text(out, text_of(value));
        }
        /* Of one that tells of a request. */
        labelled(out, "is", field(record, "request", "operation"));
        labelled(out, "by", field(record, "caller", "subject"));
        labelled(out, "of", field(record, "caller", "issuer"));
        labelled(out, "binding", field(record, "decision", "binding"));
        labelled(out, "because", field(record, "decision", "break_glass"));
        labelled(out, "corr", text_of(json_object_get(record, "correlation_id")));
}

static void show_request(struct buf *out, const json_t *record, struct str kind)
{
        struct str effect = field(record, "decision", "effect");
        const json_t *ms = json_object_get(record, "ms");

        if (str_eq(kind, STR("intent"))) {
                BUF_LITERAL(out, "intent ");
        } else {
                report_text(out, str_empty(effect) ? STR("-") : effect);
                buf_add(out, "       ", effect.len < 6 ? 7 - effect.len : 1);
                status_of(out, record, "response");
                buf_char(out, ' ');
        }
        report_text(out, field(record, "request", "method"));
        buf_char(out, ' ');
        report_text(out, field(record, "request", "path"));
        if (!str_empty(field(record, "request", "query"))) {
                buf_char(out, '?');
                report_text(out, field(record, "request", "query"));
        }
        labelled(out, "is", field(record, "request", "operation"));
        labelled(out, "by", field(record, "caller", "subject"));
        labelled(out, "of", field(record, "caller", "issuer"));
        if (str_empty(field(record, "caller", "subject"))) /* all that tells who to look for */
                labelled(out, "from", field(record, "caller", "address"));
        labelled(out, "dag", field(record, "claimed", "dag_id"));
        labelled(out, "rule", field(record, "decision", "rule"));
        if (!str_eq(effect, STR("allow")))
                labelled(out, "because", field(record, "decision", "reason"));
        if (json_object_get(record, "upstream")) {
                BUF_LITERAL(out, " upstream ");
                status_of(out, record, "upstream");
        }
        labelled(out, "run", field(record, "run", "id"));
        labelled(out, "trigger", field(record, "trigger", "state"));
        if (json_is_number(ms))
                buf_printf(out, " in %.1f ms", json_number_value(ms));
        labelled(out, "corr", text_of(json_object_get(record, "correlation_id")));
}

enum view_result view_line(struct str line, const struct view_filter *filter, struct buf *out)
{
        /* Most lines are skipped by their id: that needs no parser. */
        if (!str_empty(filter->id) && str_find_str(line, filter->id) < 0)
                return VIEW_SKIPPED;
        json_t *record =
                json_loadb(line.ptr, line.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        struct str kind = text_of(json_object_get(record, "kind"));
        enum view_result result = VIEW_NOT_A_RECORD;

        if (!str_empty(kind))
                result = asked_for(record, filter, kind) ? VIEW_SHOWN : VIEW_SKIPPED;
        if (result == VIEW_SHOWN && out) {
                report_text(out, text_of(json_object_get(record, "time")));
                buf_char(out, ' ');
                if (str_eq(kind, STR("event")))
                        show_event(out, record);
                else
                        show_request(out, record, kind);
                buf_char(out, '\n');
        }
        json_decref(record);
        return result;
}
