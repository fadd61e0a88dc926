/* Runs the tests that policy files carry. */
#include <stdlib.h>

#include "dagward/policy/known.h"
#include "policy_internal.h"

enum { ARENA_BLOCK = 64 * 1024, ARENA_CEILING = 32 << 20 };

struct run {
        const struct policy *policy;
        const struct policy_test_options *options;
        struct policy_test_counts counts;
        bool *reached;  /* by index of entry */
        struct buf out; /* what is printed at the end */
        struct arena arena;
};

struct outcome {
        bool decided;
        struct decision decision;
        struct error error;
        const char *why; /* NULL: as expected */
};

static const char *effect_name(enum effect effect)
{
        return effect == EFFECT_ALLOW ? "allow" : "deny";
}

static bool rule_expected(const struct policy_test *test, const struct decision *decision)
{
        return !test->rule.len || str_eq(test->rule, decision->rule) ||
               str_eq(test->rule, decision->role);
}

static void judge(struct run *run, const struct policy_test *test, struct outcome *outcome)
{
        const struct policy_question question = {
                test->method, test->url, test->body, test->claimed, test->n_claimed, 0};
        struct policy_request request = {0};
        static const struct tree_bounds most = {64, SIZE_MAX};
        const struct tree *claims = NULL;

        outcome->decided = run->options->namer(
                run->options->context, &question, &run->arena, &request, &outcome->error);
        if (!outcome->decided) {
                outcome->why = outcome->error.text;
                return;
        }
        request.now_ms = test->has_at ? test->at_ms : run->options->now_ms;
        request.reason_chars = test->reason_chars;
        if (test->claims.ptr)
                claims = tree_read(test->claims, &most, &run->arena);
        const struct policy_caller caller = {
                .issuer = test->issuer,
                .subject = test->subject,
                .roles = test->roles,
                .n_roles = test->n_roles,
                .claims = claims,
        };
        struct policy_grants *grants = policy_grants_new(run->policy, &caller);
        struct resources resources = *request.resources;
        request.resources = &resources;
        outcome->decided = policy_learn(
                run->policy, grants, &request, &resources, &run->arena, &outcome->error);
        const struct entry *entry = decide(run->policy, grants, &request, &outcome->decision);
        if (entry)
                run->reached[entry - run->policy->entries] = true;
        policy_grants_free(grants);
        if (!outcome->decided)
                outcome->why = outcome->error.text;
        else if (outcome->decision.effect != test->expect)
                outcome->why =
                        outcome->decision.effect == EFFECT_ALLOW ? "was allowed" : "was denied";
        else if (!rule_expected(test, &outcome->decision))
                outcome->why = "was decided by another rule";
}

static void print_text(
        const struct run *run, const struct policy_test *test, const struct outcome *outcome)
{
        const struct decision *decision = &outcome->decision;
        FILE *out = run->options->out;

        if (!outcome->why && !run->options->verbose)
                return;
        fprintf(out, "%s:%u:%u: %s: %s%stest \"%.*s\": ", test->at.file, test->at.line,
                test->at.column, outcome->why ? "FAILED" : "ok",
                run->options->which ? run->options->which : "", run->options->which ? ": " : "",
                STR_FMT(test->name));
        if (!outcome->decided) {
                fprintf(out, "%s\n", outcome->why);
                return;
        }
        if (outcome->why)
                fprintf(out, "expected %s%s%.*s, %s", effect_name(test->expect),
                        test->rule.len ? " by " : "", STR_FMT(test->rule), outcome->why);
        else
                fputs(effect_name(decision->effect), out);
        if (decision->rule.len)
                fprintf(out, " by %.*s (role %.*s, binding %.*s)", STR_FMT(decision->rule),
                        STR_FMT(decision->role), STR_FMT(decision->binding));
        if (outcome->why && decision->effect == EFFECT_DENY)
                fprintf(out, "\n        %s", decision->reason);
        fputc('\n', out);
}

static void add_json(struct run *run, const struct policy_test *test, const struct outcome *outcome)
{
        const struct decision *decision = &outcome->decision;
        struct buf *out = &run->out;

        report_object(out);
        report_flag(out, "passed", !outcome->why);
        report_count(out, "line", test->at.line);
        report_member(out, "file", str_of(test->at.file));
        report_member(out, "name", test->name);
        report_member(out, "expect", str_of(effect_name(test->expect)));
        if (!outcome->decided) {
                report_member(out, "error", str_of(outcome->error.text));
        } else {
                report_member(out, "effect", str_of(effect_name(decision->effect)));
                report_member(out, "rule", decision->rule);
                report_member(out, "role", decision->role);
                report_member(out, "binding", decision->binding);
                report_member(out, "reason", str_of(decision->reason));
        }
        buf_char(out, '}');
}

/* Only those that failed: a comment has to be read. */
static void add_markdown(
        struct run *run, const struct policy_test *test, const struct outcome *outcome)
{
        static const char *const headings[] = {"Failed test", "At", "Expected", "Because"};
        const struct decision *decision = &outcome->decision;
        char place[300];

        if (!outcome->why)
                return;
        if (!run->out.len)
                report_heading(&run->out, headings, 4);
        snprintf(place, sizeof(place), "%s:%u", test->at.file, test->at.line);
        struct str because =
                !outcome->decided || !decision->rule.len ? str_of(outcome->why) : decision->rule;
        if (outcome->decided && decision->effect == EFFECT_DENY)
                because = str_of(decision->reason);
        report_row(&run->out,
                (const struct str[]){
                        test->name, str_of(place), str_of(effect_name(test->expect)), because},
                4);
}

static void run_one(struct run *run, const struct policy_test *test)
{
        struct outcome outcome = {0};

        judge(run, test, &outcome);
        if (outcome.why)
                run->counts.failed++;
        else
                run->counts.passed++;
        if (run->options->out) {
                switch (run->options->format) {
                case REPORT_TEXT: print_text(run, test, &outcome); break;
                case REPORT_MARKDOWN: add_markdown(run, test, &outcome); break;
                case REPORT_JSON: add_json(run, test, &outcome); break;
                }
        }
        arena_reset(&run->arena);
}

/* Entries that no test reaches, as the format has them. */
static void add_unreached(const struct run *run, struct buf *out)
{
        const struct policy *policy = run->policy;

        for (size_t i = 0; i < policy->n_entries; i++) {
                const struct entry *entry = &policy->entries[i];
                struct str role = policy->roles[entry->role].name;
                if (run->reached[i])
                        continue;
                switch (run->options->format) {
                case REPORT_TEXT:
                        buf_printf(out, "%.*s: no test reaches this entry of role %.*s\n",
                                STR_FMT(entry->rule), STR_FMT(role));
                        break;
                case REPORT_MARKDOWN:
                        if (!out->len)
                                report_heading(
                                        out, (const char *const[]){"No test reaches", "Role"}, 2);
                        report_row(out, (const struct str[]){entry->rule, role}, 2);
                        break;
                case REPORT_JSON:
                        if (out->len)
                                buf_char(out, ',');
                        buf_json_str(out, entry->rule);
                        break;
                }
        }
}

static void print_end(const struct run *run)
{
        const struct policy_test_counts *counts = &run->counts;
        FILE *out = run->options->out;
        struct buf unreached;

        buf_init(&unreached, 256 << 20);
        if (run->options->verbose || run->options->format != REPORT_TEXT)
                add_unreached(run, &unreached);
        switch (run->options->format) {
        case REPORT_TEXT: fprintf(out, "%.*s", STR_FMT(buf_str(&unreached))); break;
        case REPORT_MARKDOWN:
                fprintf(out,
                        "## Policy tests\n\n**%zu passed, %zu failed; %zu of %zu entries reached "
                        "by a test**\n%s%.*s%s%.*s",
                        counts->passed, counts->failed, counts->reached, counts->entries,
                        run->out.len ? "\n" : "", STR_FMT(buf_str(&run->out)),
                        unreached.len ? "\n" : "", STR_FMT(buf_str(&unreached)));
                break;
        case REPORT_JSON:
                fprintf(out,
                        "{\"tests\":[%.*s],\"unreached\":[%.*s],\"passed\":%zu,\"failed\":%zu,"
                        "\"entries\":%zu,\"reached\":%zu}\n",
                        STR_FMT(buf_str(&run->out)), STR_FMT(buf_str(&unreached)), counts->passed,
                        counts->failed, counts->entries, counts->reached);
                break;
        }
        buf_clear(&unreached);
}

struct policy_test_counts policy_run_tests(
        const struct policy *policy, const struct policy_test_options *options)
{
        struct run run = {.policy = policy, .options = options};

        run.reached = calloc(policy->n_entries + 1, sizeof(*run.reached));
        if (!run.reached)
                abort();
        arena_init(&run.arena, ARENA_BLOCK, ARENA_CEILING);
        buf_init(&run.out, 256 << 20);
        for (size_t i = 0; i < policy->n_tests; i++)
                run_one(&run, &policy->tests[i]);
        run.counts.entries = policy->n_entries;
        for (size_t i = 0; i < policy->n_entries; i++)
                run.counts.reached += run.reached[i];
        if (options->out)
                print_end(&run);
        buf_clear(&run.out);
        arena_clear(&run.arena);
        free(run.reached);
        return run.counts;
}
