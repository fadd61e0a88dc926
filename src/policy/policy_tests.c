/* Runs the tests that policy files carry. */
#include <stdlib.h>

#include "policy_internal.h"

enum { ARENA_BLOCK = 64 * 1024, ARENA_CEILING = 32 << 20 };

struct run {
        const struct policy *policy;
        const struct policy_test_options *options;
        struct policy_test_counts counts;
        bool *reached; /* by index of entry */
        struct buf json;
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
        json_t *claims = NULL;

        outcome->decided = run->options->namer(
                run->options->context, &question, &run->arena, &request, &outcome->error);
        if (!outcome->decided) {
                outcome->why = outcome->error.text;
                return;
        }
        request.now_ms = test->has_at ? test->at_ms : run->options->now_ms;
        request.reason_chars = test->reason_chars;
        if (test->claims.ptr)
                claims = json_loadb(test->claims.ptr, test->claims.len, 0, NULL);
        const struct policy_caller caller = {
                .issuer = test->issuer,
                .subject = test->subject,
                .roles = test->roles,
                .n_roles = test->n_roles,
                .claims = claims,
        };
        struct policy_grants *grants = policy_grants_new(run->policy, &caller);
        const struct entry *entry = decide(run->policy, grants, &request, &outcome->decision);
        if (entry)
                run->reached[entry - run->policy->entries] = true;
        policy_grants_free(grants);
        json_decref(claims);
        if (outcome->decision.effect != test->expect)
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
        fprintf(out, "%s:%u:%u: %s: test \"%.*s\": ", test->at.file, test->at.line, test->at.column,
                outcome->why ? "FAILED" : "ok", STR_FMT(test->name));
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

static void json_member(struct buf *out, const char *name, struct str value)
{
        buf_char(out, ',');
        buf_json_str(out, str_of(name));
        buf_char(out, ':');
        buf_json_str(out, value);
}

static void add_json(struct run *run, const struct policy_test *test, const struct outcome *outcome)
{
        const struct decision *decision = &outcome->decision;
        struct buf *out = &run->json;

        if (run->counts.passed + run->counts.failed > 1)
                buf_char(out, ',');
        buf_printf(out, "\n{\"passed\":%s,\"line\":%u", outcome->why ? "false" : "true",
                test->at.line);
        json_member(out, "file", str_of(test->at.file));
        json_member(out, "name", test->name);
        json_member(out, "expect", str_of(effect_name(test->expect)));
        if (!outcome->decided) {
                json_member(out, "error", str_of(outcome->error.text));
        } else {
                json_member(out, "effect", str_of(effect_name(decision->effect)));
                json_member(out, "rule", decision->rule);
                json_member(out, "role", decision->role);
                json_member(out, "binding", decision->binding);
                json_member(out, "reason", str_of(decision->reason));
        }
        buf_char(out, '}');
}

static void run_one(struct run *run, const struct policy_test *test)
{
        struct outcome outcome = {0};

        judge(run, test, &outcome);
        if (outcome.why)
                run->counts.failed++;
        else
                run->counts.passed++;
        if (run->options->out && run->options->json)
                add_json(run, test, &outcome);
        else if (run->options->out)
                print_text(run, test, &outcome);
        arena_reset(&run->arena);
}

static void print_unreached(struct run *run)
{
        const struct policy *policy = run->policy;
        FILE *out = run->options->out;

        for (size_t i = 0; i < policy->n_entries; i++) {
                if (run->reached[i])
                        continue;
                if (run->options->json) {
                        if (run->json.data[run->json.len - 1] != '[')
                                buf_char(&run->json, ',');
                        buf_json_str(&run->json, policy->entries[i].rule);
                } else {
                        fprintf(out, "%.*s: no test reaches this entry of role %.*s\n",
                                STR_FMT(policy->entries[i].rule),
                                STR_FMT(policy->roles[policy->entries[i].role].name));
                }
        }
}

struct policy_test_counts policy_run_tests(
        const struct policy *policy, const struct policy_test_options *options)
{
        struct run run = {.policy = policy, .options = options};

        run.reached = calloc(policy->n_entries + 1, sizeof(*run.reached));
        if (!run.reached)
                abort();
        arena_init(&run.arena, ARENA_BLOCK, ARENA_CEILING);
        buf_init(&run.json, 256 << 20);
        BUF_LITERAL(&run.json, "{\"tests\":[");
        for (size_t i = 0; i < policy->n_tests; i++)
                run_one(&run, &policy->tests[i]);
        run.counts.entries = policy->n_entries;
        for (size_t i = 0; i < policy->n_entries; i++)
                run.counts.reached += run.reached[i];
        BUF_LITERAL(&run.json, "],\"unreached\":[");
        if (options->out && (options->verbose || options->json))
                print_unreached(&run);
        if (options->out && options->json) {
                buf_printf(&run.json, "],\"passed\":%zu,\"failed\":%zu}\n", run.counts.passed,
                        run.counts.failed);
                fwrite(run.json.data, 1, run.json.len, options->out);
        }
        buf_clear(&run.json);
        arena_clear(&run.arena);
        free(run.reached);
        return run.counts;
}
