/*
 * dagward policy diff: what a change of policy makes possible, and what it stops.
 */
#include "policy_diff.h"

#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>

#include "commands.h"
#include "dagward/base/clock.h"
#include "dagward/policy/diff.h"
#include "dagward/world/naming.h"

struct printing {
        enum report_format format;
        struct buf changes, bindings, unsure; /* JSON or Markdown rows, printed at the end */
        char subject[200];                    /* whose changes are being printed */
};

/* A file, or all *.yaml of a directory. */
static struct policy *load(const char *path)
{
        struct error_list errors;
        struct policy *policy = NULL;
        struct stat info;
        char pattern[4096];
        glob_t found = {0};

        error_list_init(&errors);
        if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
                snprintf(pattern, sizeof(pattern), "%s/*.yaml", path);
                if (glob(pattern, 0, NULL, &found) == 0)
                        policy = policy_load(
                                (const char *const *)found.gl_pathv, found.gl_pathc, &errors);
                else
                        error_list_add(&errors, (struct mark){0}, "%s: no *.yaml in it", path);
                globfree(&found);
        } else {
                policy = policy_load(&path, 1, &errors);
        }
        /* Warnings are for `dagward check` and `policy lint`. */
        if (!policy)
                error_list_print(&errors, stderr);
        error_list_clear(&errors);
        return policy;
}

static struct str operation_of(const struct policy_change *change)
{
        return change->op ? str_of(change->op->id) : STR("(unknown to the catalogue)");
}

static void add_json(struct buf *out, const struct policy_change *change)
{
        const struct policy_question *example = change->example;

        report_object(out);
        report_member(out, "change", change->now_allowed ? STR("allowed") : STR("denied"));
        report_member(out, "subject", change->subject);
        report_member(out, "operation", change->op ? str_of(change->op->id) : STR(""));
        report_member(out, "old_rule", change->old_rule);
        report_member(out, "new_rule", change->new_rule);
        report_member(out, "touches", change->touches);
        report_member(out, "method", example->method);
        report_member(out, "url", example->url);
        if (example->body.ptr)
                report_member(out, "body", example->body);
        BUF_LITERAL(out, ",\"claimed\":{");
        for (size_t i = 0; i < example->n_claimed; i++) {
                buf_str_add(out, i ? STR(",") : STR(""));
                buf_json_str(out, example->claimed[i].name);
                buf_char(out, ':');
                buf_json_str(out, example->claimed[i].value);
        }
        buf_char(out, '}');
        if (example->at_ms) {
                char at[CLOCK_RFC3339_LEN + 1];
                clock_rfc3339(example->at_ms, at);
                report_member(out, "at", str_of(at));
        }
        report_count(out, "requests", change->n);
        buf_char(out, '}');
}

/* The example on one line: POST /contoso/... {"a":1} claiming dag_id=x at 2024-... (a Monday). */
static void add_example(struct buf *out, const struct policy_question *example)
{
        buf_str_add(out, example->method);
        buf_char(out, ' ');
        buf_str_add(out, example->url);
        if (example->body.ptr) {
                buf_char(out, ' ');
                buf_str_add(out, example->body);
        }
        for (size_t i = 0; i < example->n_claimed; i++)
                buf_printf(out, "%s%.*s=%.*s", i ? ", " : " claiming ",
                        STR_FMT(example->claimed[i].name), STR_FMT(example->claimed[i].value));
        if (!example->at_ms)
                return;
        static const char *const days[] = {
                "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
        char at[CLOCK_RFC3339_LEN + 1];
        clock_rfc3339(example->at_ms, at);
        buf_printf(out, " at %s (a %s)", at, days[(example->at_ms / 86400000 + 3) % 7]);
}

/* Which entry made the difference. */
static void add_cause(struct buf *out, const struct policy_change *change)
{
        struct str now = change->new_rule, before = change->old_rule;

        if (change->now_allowed) {
                buf_printf(out, "allowed by %.*s", STR_FMT(now));
                if (before.len)
                        buf_printf(out, ", was denied by %.*s", STR_FMT(before));
        } else {
                if (now.len)
                        buf_printf(out, "denied by %.*s, ", STR_FMT(now));
                buf_printf(out, "was allowed by %.*s", STR_FMT(before));
        }
}

/* A heading when another subject begins. */
static bool is_new_subject(struct printing *p, struct str subject)
{
        if (str_eq(str_of(p->subject), subject))
                return false;
        snprintf(p->subject, sizeof(p->subject), "%.*s", STR_FMT(subject));
        return true;
}

/* One request stands for all that changed by the same entries: a reader has to see that there are
 * others. */
static void add_touches(struct buf *out, const struct policy_change *change)
{
        buf_str_add(out, change->touches);
        if (change->n > 1)
                buf_printf(out, ", and %zu more that were tried", change->n - 1);
}

static void add_text(struct printing *p, const struct policy_change *change)
{
        struct buf *out = &p->changes;

        if (is_new_subject(p, change->subject))
                buf_printf(out, "%.*s\n", STR_FMT(change->subject));
        buf_printf(out, "  %s %.*s: ", change->now_allowed ? "+ may now" : "- no longer",
                STR_FMT(operation_of(change)));
        add_touches(out, change);
        BUF_LITERAL(out, "\n      ");
        add_cause(out, change);
        BUF_LITERAL(out, "\n      ");
        add_example(out, change->example);
        buf_char(out, '\n');
}

static void add_markdown(struct printing *p, const struct policy_change *change)
{
        static const char *const headings[] = {
                "Change", "Operation", "Touches", "Because", "Example"};
        struct buf *out = &p->changes, cause, example, touches;

        if (is_new_subject(p, change->subject)) {
                BUF_LITERAL(out, "\n### ");
                report_cell(out, change->subject);
                BUF_LITERAL(out, "\n\n");
                report_heading(out, headings, 5);
        }
        buf_init(&cause, 1 << 20);
        buf_init(&example, 1 << 20);
        buf_init(&touches, 1 << 20);
        add_touches(&touches, change);
        add_cause(&cause, change);
        add_example(&example, change->example);
        buf_printf(out, "| %s ", change->now_allowed ? "➕ may now" : "➖ no longer");
        report_row(out,
                (const struct str[]){operation_of(change), buf_str(&touches), buf_str(&cause),
                        buf_str(&example)},
                4);
        buf_clear(&touches);
        buf_clear(&cause);
        buf_clear(&example);
}

static void changed(void *owner, const struct policy_change *change)
{
        struct printing *p = owner;

        switch (p->format) {
        case REPORT_TEXT: add_text(p, change); break;
        case REPORT_MARKDOWN: add_markdown(p, change); break;
        case REPORT_JSON: add_json(&p->changes, change); break;
        }
}

static void binding_changed(void *owner, struct str name, struct str old, struct str new_one)
{
        struct printing *p = owner;
        struct buf *out = &p->bindings;
        const char *what = !old.len ? "added" : !new_one.len ? "removed" : "changed";

        if (p->format == REPORT_JSON) {
                report_object(out);
                report_member(out, "change", str_of(what));
                report_member(out, "binding", name);
                report_member(out, "old", old);
                report_member(out, "new", new_one);
                buf_char(out, '}');
        } else if (p->format == REPORT_MARKDOWN) {
                if (!out->len)
                        report_heading(
                                out, (const char *const[]){"Binding", "", "Before", "After"}, 4);
                report_row(out, (const struct str[]){name, str_of(what), old, new_one}, 4);
        } else {
                buf_printf(out, "binding %.*s: %s\n", STR_FMT(name), what);
                if (old.len)
                        buf_printf(out, "  - %.*s\n", STR_FMT(old));
                if (new_one.len)
                        buf_printf(out, "  + %.*s\n", STR_FMT(new_one));
        }
}

static void is_unsure(void *owner, const struct policy_unsure *unsure)
{
        struct printing *p = owner;
        struct buf *out = &p->unsure;
        const char *change = unsure->is_new ? "added" : "removed";

        if (p->format == REPORT_JSON) {
                report_object(out);
                report_member(out, "subject", unsure->subject);
                report_member(out, "change", str_of(change));
                report_member(out, "rule", unsure->rule);
                report_member(out, "operation", str_of(unsure->op->id));
                report_count(out, "operations", unsure->n);
                buf_char(out, '}');
        } else if (p->format == REPORT_MARKDOWN) {
                if (!out->len)
                        report_heading(out,
                                (const char *const[]){"Cannot be tried", "Entry", "", "Operations"},
                                4);
                char count[80];
                snprintf(count, sizeof(count), "%s%s", unsure->op->id,
                        unsure->n > 1 ? " and others" : "");
                report_row(out,
                        (const struct str[]){
                                unsure->subject, unsure->rule, str_of(change), str_of(count)},
                        4);
        } else {
                buf_printf(out,
                        "%.*s\n  ? cannot be tried: entry %.*s was %s, and what it does to %s%s is "
                        "up to what "
                        "Azure DevOps knows of a name or an id\n",
                        STR_FMT(unsure->subject), STR_FMT(unsure->rule), change, unsure->op->id,
                        unsure->n > 1 ? " and others" : "");
        }
}

static void print_buf(const struct buf *text)
{
        if (text->len)
                fwrite(text->data, 1, text->len, stdout);
}

static void print_all(struct printing *p, const struct policy_diff_counts *counts)
{
        if (p->format == REPORT_JSON) {
                printf("{\"exhaustive\":%s,\"allowed\":%zu,\"denied\":%zu,\"requests\":%zu,"
                       "\"unfinished\":%zu,"
                       "\"untried\":%zu,\n\"bindings\":[",
                        counts->unfinished || counts->untried || counts->unsure ? "false" : "true",
                        counts->allowed, counts->denied, counts->requests, counts->unfinished,
                        counts->untried);
                print_buf(&p->bindings);
                printf("],\n\"unsure\":[");
                print_buf(&p->unsure);
                printf("],\n\"changes\":[");
                print_buf(&p->changes);
                printf("]}\n");
                return;
        }
        bool markdown = p->format == REPORT_MARKDOWN;
        if (markdown)
                printf("## What this changes\n\n");
        printf("%s%zu more possible, %zu no longer, %zu bindings changed (%zu requests decided by "
               "both policies)%s\n",
                markdown ? "**" : "", counts->allowed, counts->denied, counts->bindings,
                counts->requests, markdown ? "**\n" : "");
        if (counts->unfinished)
                printf("NOT EXHAUSTIVE: %zu operations have more combinations of what the policies "
                       "name than were tried\n",
                        counts->unfinished);
        if (counts->untried)
                printf("NOT EXHAUSTIVE: of %zu operations no request could be made\n",
                        counts->untried);
        if (counts->unsure)
                printf("NOT EXHAUSTIVE: what %zu entries do hinges on what Azure DevOps says of "
                       "names "
                       "and ids, so read them yourself\n",
                        counts->unsure);
        const struct buf *const parts[] = {&p->bindings, &p->unsure, &p->changes};
        for (size_t i = 0; i < 3; i++) {
                if (markdown && parts[i]->len)
                        printf("\n");
                print_buf(parts[i]);
        }
}

int policy_print_diff(const char *old, const char *new_one, size_t most, enum report_format format)
{
        struct policy *before = load(old), *after = load(new_one);
        struct printing p = {.format = format};
        int status = EXIT_USAGE;

        if (before && after) {
                const struct policy_diff_options options = {
                        .namer = naming_for_policy,
                        .changed = changed,
                        .binding_changed = binding_changed,
                        .unsure = is_unsure,
                        .owner = &p,
                        .most = most,
                };
                buf_init(&p.changes, 1 << 30);
                buf_init(&p.bindings, 1 << 30);
                buf_init(&p.unsure, 1 << 30);
                struct policy_diff_counts counts = policy_diff(before, after, &options);
                print_all(&p, &counts);
                buf_clear(&p.changes);
                buf_clear(&p.bindings);
                buf_clear(&p.unsure);
                status = counts.allowed || counts.denied || counts.bindings || counts.unfinished ||
                                         counts.untried || counts.unsure
                                 ? EXIT_NO
                                 : EXIT_YES;
        }
        policy_unref(before);
        policy_unref(after);
        return status;
}
