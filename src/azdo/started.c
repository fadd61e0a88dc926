#include "dagward/azdo/started.h"

#include <stdlib.h>

#include "body.h"
#include "dagward/base/clock.h"
#include "dagward/base/pull.h"

enum starts { STARTS_NOTHING, STARTS_RUN, STARTS_BUILD, STARTS_RELEASE };

static enum starts starts_of(const struct operation *op)
{
        static const struct {
                const char *id;
                enum starts starts;
        } which[] = {{"pipelines.runs.run", STARTS_RUN}, {"build.builds.queue", STARTS_BUILD},
                {"release.releases.create", STARTS_RELEASE}};

        for (size_t i = 0; op && i < sizeof(which) / sizeof(which[0]); i++)
                if (strcmp(op->id, which[i].id) == 0)
                        return which[i].starts;
        return STARTS_NOTHING;
}

bool operation_starts(const struct operation *op)
{
        return starts_of(op) != STARTS_NOTHING;
}

/* --- what is said --- */

static struct str text_of(const json_t *value)
{
        return json_is_string(value) ? str_view(json_string_value(value), json_string_length(value))
                                     : STR_NONE;
}

static json_t *member(const json_t *object, const char *name)
{
        const char *why = NULL;

        return body_member(object, str_of(name), &why);
}

/* A number, written as one or as text; a copy, or empty. */
static struct str number_of(const json_t *value, struct arena *arena)
{
        uint64_t number;

        if (json_is_integer(value) && json_integer_value(value) > 0)
                return arena_printf(arena, "%lld", (long long)json_integer_value(value));
        if (str_to_u64(text_of(value), &number))
                return arena_copy(arena, text_of(value));
        return STR_NONE;
}

/* A member that is looked for in an answer, and by which name in that member in turn. */
struct looked_for {
        const char *name;
        const struct looked_for *inner; /* NULL: the value itself, as text or number */
        size_t n_inner;
        unsigned slot;
};
enum { LOOKED_FOR_MOST = 3, SLOTS = 3 };
enum slot { SLOT_ID, SLOT_URL, SLOT_WEB };

static bool pull_scalar(struct pull *r, struct str *out)
{
        pull_blanks(r);
        if (r->p < r->end && *r->p == '"')
                return pull_text(r, out);
        if (r->p < r->end && (*r->p == '-' || (*r->p >= '0' && *r->p <= '9')))
                return pull_number(r, out);
        return pull_skip(r);
}

/* The members that are looked for of the object at `r`; false: no object, or it names one twice. */
static bool pull_members(
        struct pull *r, const struct looked_for *wanted, size_t n, struct str slots[SLOTS])
{
        bool seen[LOOKED_FOR_MOST] = {false};
        struct str key;

        if (!pull_char(r, '{'))
                return false;
        if (pull_char(r, '}'))
                return true;
        do {
                size_t i = 0;
                if (!pull_text(r, &key) || !pull_char(r, ':'))
                        return false;
                while (i < n && !str_eq_fold(key, str_of(wanted[i].name)))
                        i++;
                if (i == n) {
                        if (!pull_skip(r))
                                return false;
                        continue;
                }
                if (seen[i])
                        return false;
                seen[i] = true;
                pull_blanks(r);
                bool deeper = wanted[i].inner && r->p < r->end && *r->p == '{';
                if (deeper ? !pull_members(r, wanted[i].inner, wanted[i].n_inner, slots)
                           : !pull_scalar(r, &slots[wanted[i].slot]))
                        return false;
                if (wanted[i].inner && !deeper)
                        slots[wanted[i].slot] = STR_NONE;
        } while (pull_char(r, ','));
        return pull_char(r, '}');
}

/* Answers are read on the way of every trigger: no tree is made of them. */
bool started_read(const struct operation *op, struct str body, struct arena *arena, struct str *id,
        struct str *url)
{
        static const struct looked_for href[] = {{"href", NULL, 0, SLOT_WEB}};
        static const struct looked_for web[] = {{"web", href, 1, SLOT_WEB}};
        static const struct looked_for run[] = {
                {"id", NULL, 0, SLOT_ID}, {"url", NULL, 0, SLOT_URL}, {"_links", web, 1, SLOT_WEB}};
        struct str slots[SLOTS] = {{NULL, 0}};
        struct pull r = {body.ptr, body.ptr + body.len, arena};
        uint64_t number;

        *id = *url = STR_NONE;
        if (!operation_starts(op) || !body.len || !pull_members(&r, run, 3, slots))
                return false;
        pull_blanks(&r);
        if (r.p != r.end || !str_to_u64(slots[SLOT_ID], &number) || !number)
                return false;
        *id = arena_copy(arena, slots[SLOT_ID]);
        *url = arena_copy(arena, slots[slots[SLOT_WEB].len ? SLOT_WEB : SLOT_URL]);
        return id->len > 0;
}

struct str started_definition(
        const struct operation *op, struct str given, struct str body, struct arena *arena)
{
        enum starts starts = starts_of(op);
        struct str found = STR_NONE;
        const char *why = NULL;
        uint64_t number;

        if (str_to_u64(given, &number))
                return given;
        json_t *parsed =
                starts == STARTS_BUILD || starts == STARTS_RELEASE ? body_parse(body, &why) : NULL;
        if (starts == STARTS_BUILD)
                found = number_of(member(member(parsed, "definition"), "id"), arena);
        if (starts == STARTS_RELEASE)
                found = number_of(member(parsed, "definitionId"), arena);
        json_decref(parsed);
        return found;
}

/* --- the mark --- */

/* The member of that name, made when it is not there; NULL: it is something else. */
static json_t *object_in(json_t *object, const char *name, const char **why)
{
        json_t *value = body_member(object, str_of(name), why);

        if (*why)
                return NULL;
        if (!value || json_is_null(value)) {
                json_object_set_new(object, name, json_object());
                return json_object_get(object, name);
        }
        if (!json_is_object(value))
                *why = "the body has variables or parameters that are no object";
        return *why ? NULL : value;
}

static bool put(json_t *object, struct str name, json_t *value, const char **why)
{
        char text[STARTED_NAME_MOST + 1];

        snprintf(text, sizeof(text), "%.*s", STR_FMT(name));
        if (object && body_member(object, name, why))
                *why = "the body sets what the proxy marks its runs with";
        if (*why || !object) {
                json_decref(value);
                return false;
        }
        json_object_set_new(object, text, value);
        return true;
}

static bool mark_variable(
        enum starts starts, json_t *body, struct str name, struct str value, const char **why)
{
        if (starts != STARTS_BUILD)
                return put(object_in(body, "variables", why), name,
                        json_pack("{ss%}", "value", value.ptr, value.len), why);
        /* A build's variables are an object in a string. */
        json_t *given = body_member(body, STR("parameters"), why);
        bool none = !given || json_is_null(given) || (json_is_string(given) && !text_of(given).len);
        json_t *inner = none ? json_object() : body_parse(text_of(given), why);
        if (!json_is_object(inner)) {
                json_decref(inner);
                *why = "the body's parameters are no JSON object in a string";
                return false;
        }
        bool ok = put(inner, name, json_stringn(value.ptr, value.len), why);
        char *text = ok ? json_dumps(inner, JSON_COMPACT) : NULL;
        if (text)
                json_object_set_new(body, "parameters", json_string(text));
        free(text);
        json_decref(inner);
        return ok;
}

bool started_mark_write(const struct operation *op, struct str body,
        const struct started_mark *mark, struct str value, struct buf *out, const char **why)
{
        enum starts starts = starts_of(op);

        *why = NULL;
        json_t *parsed = body.len ? body_parse(body, why) : json_object();
        if (!*why && !json_is_object(parsed))
                *why = "the body is no JSON object";
        if (!*why && mark->variable.len)
                mark_variable(starts, parsed, mark->variable, value, why);
        if (!*why && mark->parameter.len && starts != STARTS_RELEASE)
                put(object_in(parsed, "templateParameters", why), mark->parameter,
                        json_stringn(value.ptr, value.len), why);
        char *text = *why ? NULL : json_dumps(parsed, JSON_COMPACT | JSON_REAL_PRECISION(17));
        if (text)
                buf_str_add(out, str_of(text));
        free(text);
        json_decref(parsed);
        return !*why && !out->overflow;
}

/* --- paths --- */

static bool add_segment(struct buf *out, const char *text)
{
        struct str value = str_of(text);

        if (!value.len || !str_utf8_valid(value) || str_eq(value, STR(".")) ||
                str_eq(value, STR("..")))
                return false;
        buf_char(out, '/');
        for (size_t i = 0; i < value.len; i++) {
                unsigned char c = (unsigned char)value.ptr[i];
                bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || strchr("-._~", c);
                if (c < 0x20 || c == 0x7f || strchr("/\\%?#", c))
                        return false;
                if (plain)
                        buf_char(out, (char)c);
                else
                        buf_printf(out, "%%%02X", c);
        }
        return true;
}

static bool add_project(const struct started_wanted *wanted, struct buf *out)
{
        return add_segment(out, wanted->organization) && add_segment(out, wanted->project);
}

static enum service service_of(const struct started_wanted *wanted)
{
        return starts_of(wanted->op) == STARTS_RELEASE ? SERVICE_VSRM : SERVICE_DEV;
}

bool started_list_path(const struct started_wanted *wanted, struct buf *out, enum service *service)
{
        bool release = starts_of(wanted->op) == STARTS_RELEASE;
        char since[CLOCK_RFC3339_LEN + 1], until[CLOCK_RFC3339_LEN + 1];
        uint64_t number;

        *service = service_of(wanted);
        if (!operation_starts(wanted->op) || !str_to_u64(str_of(wanted->definition), &number) ||
                !add_project(wanted, out))
                return false;
        clock_rfc3339(wanted->since_ms, since);
        clock_rfc3339(wanted->until_ms, until);
        if (release)
                buf_printf(out,
                        "/_apis/release/releases?api-version=7.1&definitionId=%s&minCreatedTime=%s"
                        "&maxCreatedTime=%s&queryOrder=ascending&$top=%d&$expand=variables",
                        wanted->definition, since, until, STARTED_PAGE);
        else
                buf_printf(out,
                        "/_apis/build/builds?api-version=7.1&definitions=%s&minTime=%s&maxTime=%s"
                        "&queryOrder=queueTimeAscending&$top=%d",
                        wanted->definition, since, until, STARTED_PAGE);
        return !out->overflow;
}

bool started_item_path(
        const struct started_wanted *wanted, struct str id, struct buf *out, enum service *service)
{
        uint64_t number;

        *service = service_of(wanted);
        if (!str_to_u64(id, &number) || !add_project(wanted, out))
                return false;
        switch (starts_of(wanted->op)) {
        case STARTS_NOTHING: return false;
        case STARTS_RUN:
                buf_printf(out, "/_apis/pipelines/%s/runs/%.*s?api-version=7.1", wanted->definition,
                        STR_FMT(id));
                break;
        case STARTS_BUILD:
                buf_printf(out, "/_apis/build/builds/%.*s?api-version=7.1", STR_FMT(id));
                break;
        case STARTS_RELEASE:
                buf_printf(out, "/_apis/release/releases/%.*s?api-version=7.1", STR_FMT(id));
                break;
        }
        return !out->overflow;
}

bool started_tags_write(const struct started_wanted *wanted, struct str id, const struct str *tags,
        size_t n, struct buf *path, struct buf *body, enum service *service)
{
        enum starts starts = starts_of(wanted->op);
        uint64_t number;

        *service = SERVICE_DEV;
        if ((starts != STARTS_RUN && starts != STARTS_BUILD) || !str_to_u64(id, &number) || !n ||
                !add_project(wanted, path))
                return false;
        buf_printf(path, "/_apis/build/builds/%.*s/tags?api-version=7.1", STR_FMT(id));
        BUF_LITERAL(body, "{\"tagsToAdd\":[");
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(body, ',');
                buf_json_str(body, tags[i]);
        }
        BUF_LITERAL(body, "],\"tagsToRemove\":[]}");
        return !path->overflow && !body->overflow;
}

/* --- the list --- */

static bool mentions(const char *text, const char *what)
{
        return what[0] && strstr(text, what);
}

/* A tag of ours that names another correlation. */
static bool is_tagged_otherwise(const struct started_wanted *wanted, const json_t *item)
{
        const json_t *tags = member(item, "tags"), *tag;
        char id[64];
        size_t i;

        json_array_foreach(tags, i, tag)
        {
                struct str text = text_of(tag);
                if (!str_starts(text, STR("correlation:")))
                        continue;
                snprintf(id, sizeof(id), "%.*s", STR_FMT(str_from(text, 12)));
                if (strlen(id) == 36 && strcmp(id, wanted->correlation_id) != 0)
                        return true;
        }
        return false;
}

/* What started it is something that no request of a caller is. */
static bool is_automatic(const struct started_wanted *wanted, const json_t *item)
{
        struct str reason = text_of(member(item, "reason"));

        return !wanted->any_reason && reason.len && !str_eq_fold(reason, STR("manual")) &&
               !str_eq_fold(reason, STR("userCreated")) && !str_eq_fold(reason, STR("none"));
}

/* Whether the run was marked under that name, whatever with. */
static bool has_mark(const json_t *item, const char *name)
{
        const char *why = NULL;

        if (!name[0])
                return false;
        json_t *inner = body_parse(text_of(member(item, "parameters")), &why);
        bool found = member(inner, name) || member(member(item, "variables"), name) ||
                     member(member(item, "templateParameters"), name);
        json_decref(inner);
        return found;
}

static void judge(
        const struct started_wanted *wanted, const json_t *item, struct started_seen *seen)
{
        char *text = json_dumps(item, JSON_COMPACT);
        json_int_t id = json_integer_value(member(item, "id"));
        bool mine = text && id > 0 && mentions(text, wanted->id);
        bool marked = has_mark(item, wanted->names[0]) || has_mark(item, wanted->names[1]);

        free(text);
        if (mine) {
                snprintf(seen->found, sizeof(seen->found), "%lld", (long long)id);
                return;
        }
        if (marked || is_tagged_otherwise(wanted, item) || is_automatic(wanted, item))
                return;
        if (seen->n_maybe < STARTED_SHOWN)
                snprintf(seen->shown[seen->n_maybe], sizeof(seen->shown[0]), "%lld", (long long)id);
        seen->n_maybe++;
}

bool started_list_read(const struct started_wanted *wanted, struct str body,
        struct started_seen *seen, const char **why)
{
        bool release = starts_of(wanted->op) == STARTS_RELEASE;
        json_t *parsed = body_parse(body, why);
        const json_t *list = member(parsed, "value"), *item;
        size_t i;

        if (!json_is_array(list)) {
                json_decref(parsed);
                *why = "Azure DevOps did not answer with a list of runs";
                return false;
        }
        int64_t newest = seen->newest_ms;
        json_array_foreach(list, i, item)
        {
                int64_t at;
                if (clock_parse(text_of(member(item, release ? "createdOn" : "queueTime")), &at) &&
                        at > newest)
                        newest = at;
                if (!seen->found[0])
                        judge(wanted, item, seen);
        }
        seen->n_listed += json_array_size(list);
        seen->more = !seen->found[0] && json_array_size(list) >= STARTED_PAGE;
        /* A list that does not move on would be read for ever: what it hides may be the one. */
        if (seen->more && newest <= seen->newest_ms) {
                seen->more = false;
                seen->n_maybe++;
        }
        seen->newest_ms = newest;
        json_decref(parsed);
        return true;
}
