#include "dagward/audit/read.h"

#include "dagward/base/clock.h"
#include "dagward/base/pull.h"

enum { MOST_ITEMS = 512, MOST_DETAILS = 32, LOOK_AHEAD = 4 };

struct reader {
        struct pull json;
        bool cut;
};

/* What a member's value is, and where it goes. */
enum type {
        TEXT,
        TIME,
        KIND,
        EFFECT,
        COUNT,
        STATUS,
        ATTEMPTS,
        DURATION,
        ITEMS,
        PAIRS,
        DETAIL,
        OBJECT
};

struct row {
        struct str name;
        enum type type;
        size_t at;      /* in struct audit_line */
        size_t n_at;    /* of lists: where their length goes */
        bool tells_cut; /* a part of it is not enough to decide again */
        const struct row *rows;
        unsigned n_rows;
};

/* --- values --- */

/* Ends in `[+12 bytes]`, or is `[+3 more]`: record.h writes so what does not fit. */
static bool is_cut(struct str text)
{
        return text.len > 4 && text.ptr[text.len - 1] == ']' &&
               (str_ends(text, STR(" bytes]")) || str_ends(text, STR(" more]"))) &&
               str_find_str(text, STR("[+")) >= 0;
}

static bool take_item(struct reader *r, const struct row *row, struct str *out)
{
        if (!pull_text(&r->json, out))
                return false;
        if (row->tells_cut && is_cut(*out))
                r->cut = true;
        return true;
}

/* A copy of a list that was gathered on the stack; false: the arena is full. */
static bool keep_list(struct reader *r, const struct row *row, struct audit_line *out,
        const void *items, size_t n, size_t bytes)
{
        void *kept = arena_alloc(r->json.arena, n * bytes + 1);

        if (!kept)
                return false;
        memcpy(kept, items, n * bytes);
        *(const void **)((char *)out + row->at) = kept;
        *(size_t *)((char *)out + row->n_at) = n;
        return true;
}

/* ["a","b"] */
static bool take_items(struct reader *r, const struct row *row, struct str *items, size_t *n)
{
        struct str text;

        *n = 0;
        if (!pull_char(&r->json, '['))
                return false;
        if (pull_char(&r->json, ']'))
                return true;
        do {
                if (!take_item(r, row, &text))
                        return false;
                if (*n < MOST_ITEMS)
                        items[(*n)++] = text;
                else
                        r->cut = true;
        } while (pull_char(&r->json, ','));
        return pull_char(&r->json, ']');
}

static bool take_texts(struct reader *r, const struct row *row, struct audit_line *out)
{
        struct str items[MOST_ITEMS];
        size_t n;

        return take_items(r, row, items, &n) && keep_list(r, row, out, items, n, sizeof(items[0]));
}

/* The same as kind:value. */
static bool take_pairs(struct reader *r, const struct row *row, struct audit_line *out)
{
        struct str items[MOST_ITEMS];
        struct pair pairs[MOST_ITEMS];
        size_t n;

        if (!take_items(r, row, items, &n))
                return false;
        for (size_t i = 0; i < n; i++)
                pairs[i].value = str_cut(items[i], ':', &pairs[i].name);
        return keep_list(r, row, out, pairs, n, sizeof(pairs[0]));
}

/* {"cause":"..."} of an event. */
static bool take_detail(struct reader *r, const struct row *row, struct audit_line *out)
{
        struct pair *made = arena_alloc(r->json.arena, MOST_DETAILS * sizeof(*made));
        size_t n = 0;

        if (!made || !pull_char(&r->json, '{'))
                return false;
        if (!pull_char(&r->json, '}')) {
                do {
                        struct pair one;
                        if (!pull_text(&r->json, &one.name) || !pull_char(&r->json, ':') ||
                                !pull_text(&r->json, &one.value))
                                return false;
                        if (n < MOST_DETAILS)
                                made[n++] = one;
                } while (pull_char(&r->json, ','));
                if (!pull_char(&r->json, '}'))
                        return false;
        }
        *(const struct pair **)((char *)out + row->at) = made;
        *(size_t *)((char *)out + row->n_at) = n;
        return true;
}

static bool take_u64(struct reader *r, uint64_t *out)
{
        struct str text;

        return pull_number(&r->json, &text) && str_to_u64(text, out);
}

/* Milliseconds with three places, to microseconds. */
static bool take_duration(struct reader *r, int64_t *out)
{
        struct str text, whole, places;
        uint64_t ms, rest = 0;

        if (!pull_number(&r->json, &text))
                return false;
        places = str_cut(text, '.', &whole);
        if (!str_to_u64(whole, &ms) || ms > INT64_MAX / 1000 - 1 ||
                (places.ptr && (places.len != 3 || !str_to_u64(places, &rest))))
                return false;
        *out = (int64_t)(ms * 1000 + rest);
        return true;
}

static bool take_choice(struct reader *r, const struct str *names, unsigned n, unsigned *out)
{
        struct str text;

        if (!pull_text(&r->json, &text))
                return false;
        for (*out = 0; *out < n; (*out)++)
                if (str_eq(text, names[*out]))
                        return true;
        return false;
}

static bool take_value(struct reader *r, const struct row *row, struct audit_line *out)
{
        void *to = (char *)out + row->at;
        uint64_t number;
        unsigned choice;

        switch (row->type) {
        case TEXT: return take_item(r, row, to);
        case TIME:
                return pull_text(&r->json, &out->time) &&
                       clock_parse(out->time, &out->fields.time_ms);
        case KIND:
                if (!take_choice(r, audit_kind_names, AUDIT_KINDS, &choice))
                        return false;
                out->fields.kind = (enum audit_kind)choice;
                return true;
        case EFFECT:
                if (!take_choice(r, audit_effect_names, AUDIT_EFFECTS, &choice))
                        return false;
                out->fields.decision.effect = (enum audit_effect)choice;
                return true;
        case COUNT: return take_u64(r, to);
        case STATUS:
        case ATTEMPTS: /* an int and an unsigned: the same bits below this bound */
                if (!take_u64(r, &number) || number > INT32_MAX)
                        return false;
                *(unsigned *)to = (unsigned)number;
                return true;
        case DURATION: return take_duration(r, to);
        case ITEMS: return take_texts(r, row, out);
        case PAIRS: return take_pairs(r, row, out);
        case DETAIL: return take_detail(r, row, out);
        case OBJECT: break;
        }
        return false; /* the caller's */
}

/* --- the table --- */

#define ROW(text, what, ...)                                                                       \
        {                                                                                          \
                .name = {text, sizeof(text) - 1}, .type = what, __VA_ARGS__                        \
        }
#define AT(member) .at = offsetof(struct audit_line, member)
#define FIELD(member) AT(fields.member)
#define LIST(member, count) FIELD(member), .n_at = offsetof(struct audit_line, fields.count)
#define ROWS(table) .rows = (table), .n_rows = sizeof(table) / sizeof((table)[0])

static const struct row caller_rows[] = {
        ROW("issuer", TEXT, FIELD(caller.issuer), .tells_cut = true),
        ROW("subject", TEXT, FIELD(caller.subject), .tells_cut = true),
        ROW("roles", ITEMS, LIST(caller.roles, caller.n_roles), .tells_cut = true),
        ROW("token_id", TEXT, FIELD(caller.token_id)),
        ROW("via", TEXT, FIELD(caller.via)),
        ROW("address", TEXT, FIELD(caller.address)),
};
static const struct row claimed_rows[] = {
        ROW("dag_id", TEXT, FIELD(claimed.dag_id), .tells_cut = true),
        ROW("run_id", TEXT, FIELD(claimed.run_id), .tells_cut = true),
        ROW("task_id", TEXT, FIELD(claimed.task_id), .tells_cut = true),
        ROW("map_index", TEXT, FIELD(claimed.map_index), .tells_cut = true),
        ROW("try_number", TEXT, FIELD(claimed.try_number), .tells_cut = true),
        ROW("user_agent", TEXT, FIELD(claimed.user_agent), .tells_cut = true),
};
static const struct row request_rows[] = {
        ROW("method", TEXT, FIELD(request.method), .tells_cut = true),
        ROW("host", TEXT, FIELD(request.host)),
        ROW("path", TEXT, FIELD(request.path), .tells_cut = true),
        ROW("query", TEXT, AT(query)),
        ROW("operation", TEXT, FIELD(request.operation)),
        ROW("access", TEXT, FIELD(request.access)),
        ROW("organization", TEXT, FIELD(request.organization), .tells_cut = true),
        ROW("project", TEXT, FIELD(request.project), .tells_cut = true),
        ROW("resources", PAIRS, LIST(request.resources, request.n_resources), .tells_cut = true),
        ROW("says", ITEMS, LIST(request.says, request.n_says), .tells_cut = true),
        ROW("bytes", COUNT, FIELD(request.bytes)),
};
static const struct row decision_rows[] = {
        ROW("effect", EFFECT, FIELD(decision.effect)),
        ROW("role", TEXT, FIELD(decision.role)),
        ROW("binding", TEXT, FIELD(decision.binding)),
        ROW("rule", TEXT, FIELD(decision.rule)),
        ROW("reason", TEXT, FIELD(decision.reason)),
        ROW("policy", TEXT, FIELD(decision.policy)),
        ROW("shadow", TEXT, FIELD(decision.shadow)),
        ROW("break_glass", TEXT, FIELD(decision.break_glass)),
};
static const struct row credential_rows[] = {
        ROW("name", TEXT, FIELD(credential.name)),
        ROW("type", TEXT, FIELD(credential.type)),
        ROW("assertion", TEXT, FIELD(credential.assertion)),
};
static const struct row upstream_rows[] = {
        ROW("host", TEXT, FIELD(upstream.host)),
        ROW("status", STATUS, FIELD(upstream.status)),
        ROW("activity_id", TEXT, FIELD(upstream.activity_id)),
        ROW("e2eid", TEXT, FIELD(upstream.e2eid)),
        ROW("attempts", ATTEMPTS, FIELD(upstream.attempts)),
        ROW("ms", DURATION, FIELD(upstream.duration_us)),
};
static const struct row response_rows[] = {
        ROW("status", STATUS, FIELD(response.status)),
        ROW("bytes", COUNT, FIELD(response.bytes)),
};
static const struct row run_rows[] = {
        ROW("id", TEXT, FIELD(run.id)),
        ROW("url", TEXT, FIELD(run.url)),
};
static const struct row trigger_rows[] = {
        ROW("key", TEXT, FIELD(trigger.key)),
        ROW("by", TEXT, FIELD(trigger.by)),
        ROW("state", TEXT, FIELD(trigger.state)),
        ROW("first", TEXT, FIELD(trigger.first)),
};
static const struct row event_rows[] = {
        ROW("name", TEXT, FIELD(event.name)),
        ROW("detail", DETAIL, LIST(event.detail, event.n_detail)),
};
/* In the order of record.c, so that the next member is nearly always the next row. */
static const struct row record_rows[] = {
        ROW("seq", COUNT, AT(seq)),
        ROW("time", TIME, AT(time)),
        ROW("kind", KIND, FIELD(kind)),
        ROW("request_id", TEXT, FIELD(request_id)),
        ROW("correlation_id", TEXT, FIELD(correlation_id)),
        ROW("traceparent", TEXT, FIELD(traceparent)),
        ROW("caller", OBJECT, ROWS(caller_rows)),
        ROW("claimed", OBJECT, ROWS(claimed_rows)),
        ROW("request", OBJECT, ROWS(request_rows)),
        ROW("decision", OBJECT, ROWS(decision_rows)),
        ROW("credential", OBJECT, ROWS(credential_rows)),
        ROW("upstream", OBJECT, ROWS(upstream_rows)),
        ROW("response", OBJECT, ROWS(response_rows)),
        ROW("ms", DURATION, FIELD(duration_us)),
        ROW("run", OBJECT, ROWS(run_rows)),
        ROW("trigger", OBJECT, ROWS(trigger_rows)),
        ROW("event", OBJECT, ROWS(event_rows)),
        ROW("prev", TEXT, AT(prev)),
        ROW("hash", TEXT, AT(hash)),
};
static const struct row line_row = ROW("a record", OBJECT, ROWS(record_rows));

static const struct row *row_named(const struct row *rows, unsigned n, struct str name)
{
        for (unsigned i = 0; i < n; i++)
                if (str_eq(rows[i].name, name))
                        return &rows[i];
        return NULL;
}

/* The next row, or one a little further on, when its name comes next. */
static const struct row *likely_row(struct reader *r, const struct row *object, unsigned likely)
{
        for (unsigned i = likely; i < object->n_rows && i < likely + LOOK_AHEAD; i++)
                if (pull_name(&r->json, object->rows[i].name))
                        return &object->rows[i];
        return NULL;
}

static bool take_members(struct reader *r, const struct row *object, struct audit_line *out,
        bool (*nested)(struct reader *, const struct row *, struct audit_line *))
{
        unsigned seen = 0, likely = 0;
        struct str name;

        if (!pull_char(&r->json, '{'))
                return false;
        if (pull_char(&r->json, '}'))
                return true;
        do {
                const struct row *row = likely_row(r, object, likely);
                if (!row) {
                        if (!pull_text(&r->json, &name) || !pull_char(&r->json, ':'))
                                return false;
                        row = row_named(object->rows, object->n_rows, name);
                }
                if (!row) {
                        if (!pull_skip(&r->json))
                                return false;
                        continue;
                }
                likely = (unsigned)(row - object->rows);
                if (seen & 1u << likely++)
                        return false;
                seen |= 1u << (likely - 1);
                if (row->type == OBJECT ? !nested || !nested(r, row, out)
                                        : !take_value(r, row, out))
                        return false;
        } while (pull_char(&r->json, ','));
        return pull_char(&r->json, '}');
}

static bool take_flat(struct reader *r, const struct row *object, struct audit_line *out)
{
        return take_members(r, object, out, NULL);
}

bool audit_line_read(struct str line, struct arena *arena, struct audit_line *out)
{
        struct reader r = {{line.ptr, line.ptr + line.len, arena}, false};

        *out = (struct audit_line){0};
        if (!take_members(&r, &line_row, out, take_flat))
                return false;
        pull_blanks(&r.json);
        out->cut = r.cut;
        return r.json.p == r.json.end && out->time.len;
}
