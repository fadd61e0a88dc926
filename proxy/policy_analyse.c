/*
 * dagward policy lint, who-can, can: what a policy gives, and what in it looks like a mistake.
 */
#include "policy_analyse.h"

#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "dagward/policy/analyse.h"

/* What is found one by one, and printed at the end. */
struct printing {
        enum report_format format;
        const char *const *headings; /* of the table in Markdown, NULL at the end */
        struct buf out;
        size_t errors;
};

static struct printing begin(enum report_format format, const char *const *headings)
{
        struct printing p = {.format = format, .headings = headings};

        buf_init(&p.out, 1 << 30);
        return p;
}

static void add_row(struct printing *p, const struct str *cells)
{
        size_t n = 0;

        while (p->headings[n])
                n++;
        if (!p->out.len)
                report_heading(&p->out, p->headings, n);
        report_row(&p->out, cells, n);
}

/* `title`: of the Markdown; `last`: the line of text at the end, or ''. */
static void finish(struct printing *p, const char *title, const char *last)
{
        struct str body = buf_str(&p->out);

        switch (p->format) {
        case REPORT_TEXT: printf("%.*s%s%s", STR_FMT(body), last, *last ? "\n" : ""); break;
        case REPORT_MARKDOWN:
                printf("## %s\n\n%s%s%.*s", title, last, *last ? "\n\n" : "", STR_FMT(body));
                break;
        case REPORT_JSON: printf("[%.*s\n]\n", STR_FMT(body)); break;
        }
        buf_clear(&p->out);
}

/* --- lint --- */

static void add_finding(void *owner, const struct policy_finding *finding)
{
        struct printing *p = owner;
        struct buf *out = &p->out;
        struct str level = finding->is_error ? STR("error") : STR("warning");
        char place[1200];

        snprintf(place, sizeof(place), "%.*s:%u", STR_FMT(finding->place), finding->column);
        p->errors += finding->is_error;
        switch (p->format) {
        case REPORT_TEXT:
                buf_printf(out, "%s: %.*s: %s [%s]\n", place, STR_FMT(level), finding->text,
                        finding->check);
                break;
        case REPORT_MARKDOWN:
                add_row(p, (const struct str[]){level, str_of(place), str_of(finding->check),
                                   str_of(finding->text)});
                break;
        case REPORT_JSON:
                report_object(out);
                report_member(out, "place", finding->place);
                report_count(out, "column", finding->column);
                report_member(out, "level", level);
                report_member(out, "check", str_of(finding->check));
                report_member(out, "text", str_of(finding->text));
                buf_char(out, '}');
                break;
        }
}

int policy_print_lint(const struct policy *policy, int64_t now_ms, enum report_format format)
{
        static const char *const headings[] = {"Level", "At", "Check", "Finding", NULL};
        struct printing p = begin(format, headings);
        char last[100];

        size_t n = policy_lint(policy, now_ms, add_finding, &p);
        snprintf(last, sizeof(last), "%zu findings, %zu of them errors", n, p.errors);
        finish(&p, "Policy lint", last);
        return n ? EXIT_NO : EXIT_YES;
}

/* --- who-can --- */

static void add_way(void *owner, const struct policy_way *way)
{
        struct printing *p = owner;
        struct buf *out = &p->out;

        switch (p->format) {
        case REPORT_TEXT:
                buf_printf(out, "%.*s (%.*s)\n  by %.*s, role %.*s%s%.*s\n", STR_FMT(way->binding),
                        STR_FMT(way->callers), STR_FMT(way->rule), STR_FMT(way->role),
                        way->limits.len ? ", only: " : "", STR_FMT(way->limits));
                if (way->except.len)
                        buf_printf(out, "  but not: %.*s\n", STR_FMT(way->except));
                break;
        case REPORT_MARKDOWN:
                add_row(p, (const struct str[]){way->binding, way->callers, way->rule, way->role,
                                   way->limits, way->except});
                break;
        case REPORT_JSON:
                report_object(out);
                report_member(out, "binding", way->binding);
                report_member(out, "callers", way->callers);
                report_member(out, "credential", way->credential);
                report_member(out, "role", way->role);
                report_member(out, "rule", way->rule);
                report_member(out, "limits", way->limits);
                report_member(out, "except", way->except);
                buf_char(out, '}');
                break;
        }
}

/* `pipelines=42`: selector and value. */
static bool take_resource(struct resources *resources, const char *word)
{
        struct str name, value = str_cut(str_of(word), '=', &name);
        struct str known[RESOURCE_KINDS];

        for (int kind = 0; kind < RESOURCE_KINDS; kind++) {
                known[kind] = str_of(resource_kind_selector((enum resource_kind)kind));
                if (!str_eq(name, known[kind]) || !value.len || resources->n == RESOURCES_MAX)
                        continue;
                resources->items[resources->n++] =
                        (struct resource){.kind = (enum resource_kind)kind, .value = value};
                return true;
        }
        fprintf(stderr, "dagward policy: `%s` is no resource: SELECTOR=VALUE, as pipelines=42%s\n",
                word, error_did_you_mean(name, known, RESOURCE_KINDS));
        return false;
}

/* Aliases and patterns stand for several: each has callers of its own. */
static void no_operation(const char *word)
{
        size_t n;
        const struct operation *all = catalogue_all(&n);
        struct str *ids = calloc(n + 1, sizeof(*ids));

        if (!ids)
                abort();
        for (size_t i = 0; i < n; i++)
                ids[i] = str_of(all[i].id);
        fprintf(stderr,
                "dagward policy: who-can needs the id of one operation%s%s%s%s; `dagward "
                "operations "
                "PATTERN` lists those behind an alias or a pattern\n",
                word ? ", and `" : "", word ? word : "", word ? "` is none" : "",
                word ? error_did_you_mean(str_head(str_of(word), 100), ids, n) : "");
        free(ids);
}

int policy_print_who_can(
        const struct policy *policy, char **words, int n, int64_t now_ms, enum report_format format)
{
        static const char *const headings[] = {
                "Binding", "Callers", "Rule", "Role", "Only", "But not", NULL};
        struct resources resources = {0};
        struct policy_request request = {.resources = &resources, .now_ms = now_ms};
        char title[200], last[200] = "";

        if (n < 1 || !(request.op = catalogue_find(str_of(words[0])))) {
                no_operation(n < 1 ? NULL : words[0]);
                return EXIT_USAGE;
        }
        for (int i = 1; i < n; i++)
                if (!take_resource(&resources, words[i]))
                        return EXIT_USAGE;
        struct printing p = begin(format, headings);
        size_t ways = policy_who_can(policy, &request, add_way, &p);
        if (!ways)
                snprintf(last, sizeof(last), "nobody may do %s%s", request.op->id,
                        resources.n ? " there" : "");
        snprintf(title, sizeof(title), "Who may do `%s`", request.op->id);
        finish(&p, title, last);
        return ways ? EXIT_YES : EXIT_NO;
}

/* --- can --- */

static void add_right(void *owner, const struct policy_right *right)
{
        struct printing *p = owner;
        struct buf *out = &p->out;
        bool allow = right->effect == EFFECT_ALLOW;
        char number[24];

        switch (p->format) {
        case REPORT_TEXT:
                buf_printf(out,
                        "%s %.*s (%zu operations)%s%.*s\n    %.*s, role %.*s, by binding %.*s\n",
                        allow ? "may    " : "may not", STR_FMT(right->what), right->n_operations,
                        right->limits.len ? ", only: " : "", STR_FMT(right->limits),
                        STR_FMT(right->rule), STR_FMT(right->role), STR_FMT(right->binding));
                break;
        case REPORT_MARKDOWN:
                snprintf(number, sizeof(number), "%zu", right->n_operations);
                add_row(p, (const struct str[]){allow ? STR("may") : STR("may not"), right->what,
                                   str_of(number), right->limits, right->rule, right->role,
                                   right->binding});
                break;
        case REPORT_JSON:
                report_object(out);
                report_member(out, "effect", allow ? STR("allow") : STR("deny"));
                report_member(out, "what", right->what);
                report_count(out, "operations", right->n_operations);
                report_member(out, "limits", right->limits);
                report_member(out, "rule", right->rule);
                report_member(out, "role", right->role);
                report_member(out, "binding", right->binding);
                buf_char(out, '}');
                break;
        }
}

int policy_print_can(const struct policy *policy, const struct policy_caller *caller,
        int64_t now_ms, enum report_format format)
{
        static const char *const headings[] = {
                "", "What", "Operations", "Only", "Rule", "Role", "Binding", NULL};
        struct printing p = begin(format, headings);

        size_t n = policy_can(policy, caller, now_ms, add_right, &p);
        finish(&p, "What this caller may do",
                n || format == REPORT_JSON ? "" : "no binding applies to this caller: nothing");
        return n ? EXIT_YES : EXIT_NO;
}
