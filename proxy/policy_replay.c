/*
 * dagward policy replay: what another policy would have made of recorded requests.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "dagward/base/buf.h"
#include "past.h"
#include "policy_log.h"

enum { MOST_GROUPS = 2000 };

/* Requests of one caller for one operation that would change in the same way. */
struct group {
        enum past_answer answer;
        char *operation, *caller, *before, *after, *reason;
        char *place, *correlation_id, *path; /* of the first */
        size_t n;
};

struct replaying {
        const struct policy *policy;
        struct group *groups;
        size_t n_groups, left_out;
        size_t same, allowed, denied, unclear;
};

static bool is_text(const char *text, struct str other)
{
        return str_eq(str_of(text), other);
}

static void add_to_group(struct replaying *r, enum past_answer answer, const struct past *past,
        const struct decision *now)
{
        char caller[600];

        snprintf(caller, sizeof(caller), "%.*s (issuer %.*s)", STR_FMT(past->caller.subject),
                STR_FMT(past->caller.issuer));
        for (size_t i = 0; i < r->n_groups; i++) {
                struct group *group = &r->groups[i];
                if (group->answer == answer && is_text(group->operation, past->operation) &&
                        is_text(group->before, past->rule) && is_text(group->after, now->rule) &&
                        strcmp(group->caller, caller) == 0) {
                        group->n++;
                        return;
                }
        }
        if (r->n_groups == MOST_GROUPS) {
                r->left_out++;
                return;
        }
        r->groups[r->n_groups++] = (struct group){
                .answer = answer,
                .operation = str_dup(past->operation),
                .caller = strdup(caller),
                .before = str_dup(past->rule),
                .after = str_dup(now->rule),
                .reason = strdup(now->reason),
                .place = str_dup(past->place),
                .correlation_id = str_dup(past->correlation_id),
                .path = str_dup(past->request.path),
                .n = 1,
        };
}

static void seen(void *owner, const struct past *past)
{
        struct replaying *r = owner;
        struct decision now;
        enum past_answer answer = past_decide(r->policy, past, &now);
        bool was_allowed = past->effect == EFFECT_ALLOW;

        if (answer == (was_allowed ? PAST_ALLOWED : PAST_DENIED)) {
                r->same++;
                return;
        }
        switch (answer) {
        case PAST_ALLOWED: r->allowed++; break;
        case PAST_DENIED: r->denied++; break;
        case PAST_UNCLEAR: r->unclear++; break;
        }
        add_to_group(r, answer, past, &now);
}

static const char *answer_text(enum past_answer answer)
{
        return answer == PAST_ALLOWED  ? "now allowed"
               : answer == PAST_DENIED ? "now denied"
                                       : "cannot tell";
}

static void print_text(const struct group *group)
{
        printf("%s, %zu times: %s by %s\n", answer_text(group->answer), group->n,
                *group->operation ? group->operation : "(unknown to the catalogue)", group->caller);
        printf("  before: %s; after: %s\n", *group->before ? group->before : "nothing allowed it",
                group->answer == PAST_UNCLEAR ? "depends on what the request said"
                : *group->after               ? group->after
                                              : "nothing allows it");
        printf("  first: %s, %s, %s\n", group->place, group->path, group->correlation_id);
}

static void print_markdown(const struct group *group)
{
        printf("| %s | %zu | `%s` | `%s` | `%s` | `%s` | `%s` |\n", answer_text(group->answer),
                group->n, group->operation, group->caller, group->before, group->after,
                group->correlation_id);
}

static void print_json(const struct group *group, bool first)
{
        const char *const names[] = {"change", "operation", "caller", "before", "after", "reason",
                "record", "correlation_id", "path"};
        const char *const values[] = {answer_text(group->answer), group->operation, group->caller,
                group->before, group->after, group->reason, group->place, group->correlation_id,
                group->path};
        struct buf out;

        buf_init(&out, 1 << 20);
        buf_printf(&out, "%s{\"requests\":%zu", first ? "\n" : ",\n", group->n);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                buf_char(&out, ',');
                buf_json_str(&out, str_of(names[i]));
                buf_char(&out, ':');
                buf_json_str(&out, str_of(values[i]));
        }
        buf_char(&out, '}');
        fwrite(out.data, 1, out.len, stdout);
        buf_clear(&out);
}

static void print_all(
        const struct replaying *r, const struct past_counts *counts, enum policy_format format)
{
        if (format == FORMAT_JSON) {
                printf("{\"records\":%zu,\"same\":%zu,\"allowed\":%zu,\"denied\":%zu,"
                       "\"unclear\":%zu,\"others\":%zu,\"damaged\":%zu,\"changes\":[",
                        counts->records, r->same, r->allowed, r->denied, r->unclear, counts->others,
                        counts->damaged);
        } else {
                printf("%s%zu requests: %zu as before, %zu now allowed, %zu now denied, %zu cannot "
                       "be told%s\n",
                        format == FORMAT_MARKDOWN ? "## Replayed\n\n**" : "", counts->records,
                        r->same, r->allowed, r->denied, r->unclear,
                        format == FORMAT_MARKDOWN ? "**\n" : "");
                if (counts->damaged)
                        printf("%zu lines are no audit records\n", counts->damaged);
                if (r->left_out)
                        printf("%zu more that are not listed\n", r->left_out);
                if (format == FORMAT_MARKDOWN && r->n_groups)
                        printf("| Change | Requests | Operation | Caller | Before | After | First "
                               "|\n|---|---|---|---|---|---|---|\n");
        }
        for (size_t i = 0; i < r->n_groups; i++) {
                switch (format) {
                case FORMAT_TEXT: print_text(&r->groups[i]); break;
                case FORMAT_MARKDOWN: print_markdown(&r->groups[i]); break;
                case FORMAT_JSON: print_json(&r->groups[i], i == 0); break;
                }
        }
        if (format == FORMAT_JSON)
                printf("]}\n");
}

int policy_print_replay(const struct policy *policy, const char *const *logs, size_t n_logs,
        enum policy_format format)
{
        struct replaying r = {.policy = policy};
        struct past_counts counts;
        int status = EXIT_USAGE;

        r.groups = calloc(MOST_GROUPS, sizeof(*r.groups));
        if (!r.groups)
                abort();
        if (past_read(logs, n_logs, seen, &r, &counts)) {
                print_all(&r, &counts, format);
                status = r.allowed || r.denied || r.unclear || counts.damaged ? EXIT_NO : EXIT_YES;
        }
        for (size_t i = 0; i < r.n_groups; i++) {
                struct group *group = &r.groups[i];
                char *const texts[] = {group->operation, group->caller, group->before, group->after,
                        group->reason, group->place, group->correlation_id, group->path};
                for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
                        free(texts[k]);
        }
        free(r.groups);
        return status;
}
