/*
 * dagward policy suggest: the least policy that allows what was used, and what is granted beside.
 *
 * What was used is kept as jansson objects, which are hash tables with their keys in order of
 * arrival.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "dagward/azdo/resources.h"
#include "past.h"
#include "policy_log.h"
#include "policy_usage.h"

enum { MOST_COMPARED = 1000 };

struct suggesting {
        struct policy_usage *usage;
        json_t *roles;      /* role -> operation -> what one request touches -> how often */
        struct buf request; /* scratch */
        json_t *callers;    /* role -> issuer -> credential -> subject -> how often */
        size_t n, left_out;
        size_t broke_glass; /* allowed, but by what is there for emergencies */
        enum report_format format;
        struct buf unused; /* what is granted and was never used, as the format has it */
        struct buf drift;  /* what was used since a time and never before */
};

/* The object at `key` in `object`, made if need be. */
static json_t *at(json_t *object, struct str key)
{
        json_t *found = json_object_getn(object, key.ptr, key.len);

        if (!found) {
                found = json_object();
                json_object_setn_new(object, key.ptr, key.len, found);
        }
        return found;
}

static void count(json_t *object, struct str key)
{
        json_t *found = json_object_getn(object, key.ptr, key.len);

        if (found)
                json_integer_set(found, json_integer_value(found) + 1);
        else
                json_object_setn_new(object, key.ptr, key.len, json_integer(1));
}

static void open_member(struct buf *out, const char *name)
{
        BUF_LITERAL(out, ",");
        buf_json_str(out, str_of(name));
        BUF_LITERAL(out, ":[");
}

/* What one request touches: {"projects":["a"],"pipelines":["42"]}. Kinds that it leaves open cannot
 * be asked for, and are left out. */
static void write_touched(struct buf *out, const struct past *past)
{
        const struct resources *resources = past->request.resources;

        for (int k = 0; k < RESOURCE_KINDS; k++) {
                bool any = false;
                if (!policy_usage_lasts((enum resource_kind)k) || resources->unresolved[k])
                        continue;
                for (size_t i = 0; i < resources->n; i++) {
                        if (resources->items[i].kind != (enum resource_kind)k)
                                continue;
                        if (any)
                                buf_char(out, ',');
                        else
                                open_member(out, resource_kind_selector((enum resource_kind)k));
                        any = true;
                        buf_json_str(out, resources->items[i].value);
                }
                if (any)
                        buf_char(out, ']');
        }
}

/* What it said, by name. */
static void write_said(struct buf *out, const struct past *past)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (unsigned kind = 0; past->said && kind < n; kind++)
                for (size_t i = 0; i < past->said->n; i++) {
                        if (past->said->items[i].kind != kind)
                                continue;
                        if (out->len && out->data[out->len - 1] == '"')
                                buf_char(out, ',');
                        else
                                open_member(out, "where");
                        buf_json_str(out, str_of(kinds[kind].name));
                        break;
                }
        if (out->len && out->data[out->len - 1] == '"')
                buf_char(out, ']');
}

static void note_request(struct suggesting *s, json_t *operation, const struct past *past)
{
        struct buf *out = &s->request;

        buf_reset(out);
        BUF_LITERAL(out, "{\"\":[]");
        write_touched(out, past);
        write_said(out, past);
        buf_char(out, '}');
        count(operation, buf_str(out));
}

/* As a value of a policy the text is itself: no wildcard, no group, nothing that ends it early.
 * What somebody asked for with a `*` in its name is no reason to allow whatever it matches. */
static bool is_literal(struct str text)
{
        return str_find(text, '*') < 0 && str_find(text, '\0') < 0 &&
               !str_starts(text, STR("group:"));
}

/* Whether an entry can be written that means this request and no other. */
static bool is_writable(const struct past *past)
{
        const struct policy_request *request = &past->request;

        for (size_t i = 0; i < request->resources->n; i++)
                if (!is_literal(request->resources->items[i].value))
                        return false;
        return past->caller.subject.len && is_literal(past->caller.subject) &&
               is_literal(past->role) && is_literal(request->path) && is_literal(request->method);
}

static void seen(void *owner, const struct past *past)
{
        struct suggesting *s = owner;
        char key[4096];

        if (past->effect != EFFECT_ALLOW || !past->role.len)
                return;
        bool named = is_writable(past) && policy_usage_key(past, key, sizeof(key));
        if (named)
                policy_usage_note(s->usage, past, key);
        if (past->broke_glass || !named) {
                ++*(past->broke_glass ? &s->broke_glass : &s->left_out);
                return;
        }
        s->n++;
        note_request(s, at(at(s->roles, past->role), str_of(key)), past);
        json_t *credentials = at(at(s->callers, past->role), past->caller.issuer);
        count(at(credentials, past->credential), past->caller.subject);
}

/* --- the policy --- */

/* The requests of an operation, each as sets: kind -> value -> true. */
static json_t *requests_of(const json_t *operation)
{
        json_t *all = json_array(), *seen, *values, *value;
        const char *text, *kind;
        size_t i;

        json_object_foreach((json_t *)operation, text, seen)
        {
                json_t *lists = json_loads(text, JSON_ALLOW_NUL, NULL), *sets = json_object();
                json_object_foreach(lists, kind, values)
                {
                        json_t *set = json_object();
                        json_array_foreach(values, i, value)
                        {
                                json_object_setn_new(set, json_string_value(value),
                                        json_string_length(value), json_true());
                        }
                        if (*kind)
                                json_object_set_new(sets, kind, set);
                        else
                                json_decref(set);
                }
                json_array_append_new(all, sets);
                json_decref(lists);
        }
        return all;
}

/* Joins those that differ in the values of that one kind only: together they are these and no
 * other. */
static json_t *joined_by(json_t *all, const char *kind)
{
        json_t *kept = json_array(), *places = json_object(), *sets;
        size_t i;

        json_array_foreach(all, i, sets)
        {
                json_t *values = json_incref(json_object_get(sets, kind));
                if (!values) {
                        json_array_append(kept, sets);
                        continue;
                }
                json_object_del(sets, kind);
                char *rest = json_dumps(sets, JSON_SORT_KEYS | JSON_COMPACT);
                json_object_set(sets, kind, values);
                json_t *first = json_object_get(places, rest);
                if (first) {
                        json_object_update(json_object_get(first, kind), values);
                } else {
                        json_object_set(places, rest, sets);
                        json_array_append(kept, sets);
                }
                free(rest);
                json_decref(values);
        }
        json_decref(places);
        json_decref(all);
        return kept;
}

static bool has_guarded(const json_t *said)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; i < n; i++)
                if (kinds[i].is_guarded && json_object_get(said, kinds[i].name))
                        return true;
        return false;
}

/* Whether an entry of `whole` allows all that one of `part` does. */
static bool contains(json_t *whole, json_t *part)
{
        const char *kind, *value;
        json_t *values, *one;

        json_object_foreach(whole, kind, values)
        {
                json_t *of_part = json_object_get(part, kind);
                if (!of_part)
                        return false;
                json_object_foreach(of_part, value, one)
                {
                        if (!json_object_get(values, value))
                                return false;
                }
        }
        return json_object_get(whole, "where") || !has_guarded(json_object_get(part, "where"));
}

static bool is_contained(const json_t *all, size_t which)
{
        json_t *sets, *part = json_array_get(all, which);
        size_t i;

        if (json_array_size(all) > MOST_COMPARED)
                return false;
        json_array_foreach(all, i, sets)
        {
                if (i != which && contains(sets, part) && (!contains(part, sets) || i < which))
                        return true;
        }
        return false;
}

/* The fewest entries that are easily found and allow just these requests: one value after the other
 * is joined where all else is the same. */
static json_t *entries_of(const json_t *operation)
{
        json_t *all = requests_of(operation);

        for (int k = RESOURCE_KINDS - 1; k >= 0; k--)
                all = joined_by(all, resource_kind_selector((enum resource_kind)k));
        return all;
}

/* As text, with lists: operations with the same share an entry. */
static char *selectors_of(json_t *sets)
{
        json_t *out = json_object(), *values, *n;
        const char *kind, *value;

        json_object_foreach(sets, kind, values)
        {
                json_t *list = json_array();
                json_object_foreach(values, value, n)
                {
                        json_array_append_new(list, json_string(value));
                }
                json_object_set_new(out, kind, list);
        }
        char *text = json_dumps(out, JSON_SORT_KEYS | JSON_COMPACT);
        json_decref(out);
        return text;
}

static bool is_map(const char *name)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; i < n; i++)
                if (strcmp(kinds[i].name, name) == 0)
                        return kinds[i].is_map;
        return false;
}

/* pipelines: ["42"], or where: {variables: {"*": ["*"]}}. */
static void add_selector(struct buf *out, const char *kind, const json_t *values)
{
        bool where = strcmp(kind, "where") == 0;

        buf_printf(out, "        %s: %s", kind, where ? "{" : "[");
        for (size_t i = 0; i < json_array_size(values); i++) {
                const char *text = json_string_value(json_array_get(values, i));
                if (i)
                        BUF_LITERAL(out, ", ");
                if (where)
                        buf_printf(
                                out, "%s: %s", text, is_map(text) ? "{\"*\": [\"*\"]}" : "[\"*\"]");
                else
                        report_quoted(out, str_of(text));
        }
        buf_printf(out, "%s\n", where ? "}" : "]");
}

/* `operations`: with commas between; of one that is spelt out, method and path. */
static void add_entry(struct buf *out, const char *operations, const char *selectors)
{
        json_t *all = json_loads(selectors, 0, NULL), *values;
        const char *kind, *path = strstr(operations, " /");

        if (path) {
                BUF_LITERAL(out, "      - method: ");
                report_quoted(out, str_view(operations, (size_t)(path - operations)));
                BUF_LITERAL(out, "\n        path: ");
                report_quoted(out, str_of(path + 1));
                buf_char(out, '\n');
        } else {
                buf_printf(out, "      - operations: [%s]\n", operations);
        }
        json_object_foreach(all, kind, values)
        {
                add_selector(out, kind, values);
        }
        json_decref(all);
}

/* One that is spelt out has entries of its own; others go to those with the same selectors. */
static void add_operation(struct buf *out, json_t *entries, const char *id, const json_t *operation)
{
        json_t *all = entries_of(operation), *sets;
        size_t i;

        json_array_foreach(all, i, sets)
        {
                if (is_contained(all, i))
                        continue;
                char *text = selectors_of(sets);
                const char *so_far = json_string_value(json_object_get(entries, text));
                if (strstr(id, " /"))
                        add_entry(out, id, text);
                else
                        json_object_set_new(entries, text,
                                json_sprintf(
                                        "%s%s%s", so_far ? so_far : "", so_far ? ", " : "", id));
                free(text);
        }
        json_decref(all);
}

static void add_role(struct buf *out, const char *role, json_t *operations)
{
        json_t *entries = json_object(), *operation, *list;
        const char *id, *selectors;

        BUF_LITERAL(out, "  ");
        report_quoted(out, str_of(role));
        BUF_LITERAL(out, ":\n    allow:\n");
        json_object_foreach(operations, id, operation)
        {
                add_operation(out, entries, id, operation);
        }
        json_object_foreach(entries, selectors, list)
        {
                add_entry(out, json_string_value(list), selectors);
        }
        json_decref(entries);
}

/* The callers of one issuer that had a role with one credential: nobody is lent another's. */
static void add_binding(
        struct buf *out, const char *role, const char *issuer, const char *lent, json_t *subjects)
{
        const char *subject, *separator = "";
        json_t *n;

        BUF_LITERAL(out, "  - callers:\n      issuer: ");
        report_quoted(out, str_of(issuer));
        BUF_LITERAL(out, "\n      subject: [");
        json_object_foreach(subjects, subject, n)
        {
                buf_str_add(out, str_of(separator));
                report_quoted(out, str_of(subject));
                separator = ", ";
        }
        BUF_LITERAL(out, "]\n    roles: [");
        report_quoted(out, str_of(role));
        BUF_LITERAL(out, "]\n    credential: ");
        report_quoted(out, str_of(*lent ? lent : "unknown"));
        buf_char(out, '\n');
}

static void add_policy(struct buf *out, const struct suggesting *s)
{
        const char *role, *issuer, *credential;
        json_t *operations, *issuers, *credentials, *subjects;

        buf_printf(out,
                "# The least that allows the %zu allowed requests of these records.\n"
                "version: 1\nroles:\n",
                s->n);
        json_object_foreach(s->roles, role, operations)
        {
                add_role(out, role, operations);
        }
        BUF_LITERAL(out, "bindings:\n");
        json_object_foreach(s->callers, role, issuers)
        {
                json_object_foreach(issuers, issuer, credentials)
                {
                        json_object_foreach(credentials, credential, subjects)
                        {
                                add_binding(out, role, issuer, credential, subjects);
                        }
                }
        }
}

/* --- what was not used, and what is new --- */

static void add_unused(void *owner, const struct policy_right *right, size_t n)
{
        struct suggesting *s = owner;
        struct buf *out = &s->unused;
        struct buf line;
        char text[80];

        policy_usage_text(right, n, text, sizeof(text));
        buf_init(&line, 1 << 20);
        switch (s->format) {
        case REPORT_TEXT:
                buf_printf(&line, "%.*s, role %.*s: %s (%.*s%s%.*s)", STR_FMT(right->rule),
                        STR_FMT(right->role), text, STR_FMT(right->what),
                        right->limits.len ? "; " : "", STR_FMT(right->limits));
                BUF_LITERAL(out, "# ");
                report_text(out, buf_str(&line));
                buf_char(out, '\n');
                break;
        case REPORT_MARKDOWN:
                if (!out->len)
                        report_heading(out,
                                (const char *const[]){"Role", "Rule", "Grants", "Only", "Use"}, 5);
                report_row(out,
                        (const struct str[]){
                                right->role, right->rule, right->what, right->limits, str_of(text)},
                        5);
                break;
        case REPORT_JSON:
                report_object(out);
                report_member(out, "role", right->role);
                report_member(out, "rule", right->rule);
                report_member(out, "what", right->what);
                report_member(out, "limits", right->limits);
                report_count(out, "operations", right->n_operations);
                report_count(out, "used", n);
                buf_char(out, '}');
                break;
        }
        buf_clear(&line);
}

static void add_drift(void *owner, struct str use, struct str first)
{
        struct suggesting *s = owner;
        struct buf *out = &s->drift;

        switch (s->format) {
        case REPORT_TEXT:
                BUF_LITERAL(out, "# new since then: ");
                report_text(out, use);
                BUF_LITERAL(out, " (first at ");
                report_text(out, first);
                BUF_LITERAL(out, ")\n");
                break;
        case REPORT_MARKDOWN:
                if (!out->len)
                        report_heading(out, (const char *const[]){"New since then", "First"}, 2);
                report_row(out, (const struct str[]){use, first}, 2);
                break;
        case REPORT_JSON:
                report_object(out);
                report_member(out, "use", use);
                report_member(out, "first", first);
                buf_char(out, '}');
                break;
        }
}

static void print_all(const struct suggesting *s, const struct past_counts *counts)
{
        struct buf policy;

        buf_init(&policy, 1 << 30);
        if (s->n)
                add_policy(&policy, s);
        else
                BUF_LITERAL(&policy, "# no request was allowed in these records\n");
        struct str unused = buf_str(&s->unused), fresh = buf_str(&s->drift);
        switch (s->format) {
        case REPORT_TEXT:
                printf("%.*s%.*s%.*s", STR_FMT(buf_str(&policy)), STR_FMT(unused), STR_FMT(fresh));
                break;
        case REPORT_MARKDOWN:
                printf("## Suggested policy\n\n```yaml\n%.*s```\n%s%.*s%s%.*s",
                        STR_FMT(buf_str(&policy)), unused.len ? "\n" : "", STR_FMT(unused),
                        fresh.len ? "\n" : "", STR_FMT(fresh));
                break;
        case REPORT_JSON: {
                struct buf out;
                buf_init(&out, 1 << 30);
                buf_char(&out, '{');
                report_count(&out, "requests", s->n);
                report_count(&out, "left_out", s->left_out);
                report_count(&out, "unsigned", counts->unvouched);
                report_count(&out, "broke_glass", s->broke_glass);
                report_member(&out, "policy", s->n ? buf_str(&policy) : STR(""));
                printf("%.*s,\"unused\":[%.*s],\"new\":[%.*s]}\n", STR_FMT(buf_str(&out)),
                        STR_FMT(unused), STR_FMT(fresh));
                buf_clear(&out);
                break;
        }
        }
        buf_clear(&policy);
}

int policy_print_suggestion(const struct policy *policy, const struct past_log *log,
        int64_t since_ms, enum report_format format)
{
        struct suggesting s = {
                .usage = policy_usage_new(policy, since_ms, SIZE_MAX),
                .roles = json_object(),
                .callers = json_object(),
                .format = format,
        };
        struct past_counts counts;
        int status = EXIT_USAGE;

        buf_init(&s.request, 1 << 20);
        buf_init(&s.unused, 1 << 30);
        buf_init(&s.drift, 1 << 30);
        if (past_read(log, seen, &s, &counts)) {
                status = s.n ? EXIT_YES : EXIT_NO;
                policy_usage_unused(s.usage, add_unused, &s);
                policy_usage_new_uses(s.usage, add_drift, &s);
                print_all(&s, &counts);
                if (s.broke_glass && format != REPORT_JSON)
                        fprintf(stderr, "dagward policy: left out: %zu requests that broke glass\n",
                                s.broke_glass);
                if (counts.damaged)
                        fprintf(stderr, "dagward policy: %zu lines are no audit records\n",
                                counts.damaged);
                if (s.left_out)
                        fprintf(stderr,
                                "dagward policy: %zu requests cannot be named by an entry: their "
                                "path is not whole, or something that they name, or their "
                                "caller, has a `*` or is no value of a policy\n",
                                s.left_out);
        }
        buf_clear(&s.request);
        buf_clear(&s.unused);
        buf_clear(&s.drift);
        json_decref(s.roles);
        json_decref(s.callers);
        policy_usage_free(s.usage);
        return status;
}
