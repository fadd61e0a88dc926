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
        uint32_t hash;
        char *key; /* what they have in common */
        char *operation, *caller, *before, *after, *reason;
        char *place, *correlation_id, *path; /* of the first */
        size_t n;
};

struct replaying {
        struct past_judge *judge;
        struct group *groups;
        size_t n_groups, left_out;
        struct buf key;
        size_t same, allowed, denied, unclear;
};

/* For a terminal. Free with free(). */
static char *shown(struct str text)
{
        struct buf out;

        buf_init(&out, 1 << 20);
        report_text(&out, text);
        char *copy = str_dup(buf_str(&out));
        buf_clear(&out);
        return copy;
}

static void add_to_group(struct replaying *r, enum past_answer answer, const struct past *past,
        const struct decision *now)
{
        struct buf *key = &r->key;
        struct decision why;

        buf_reset(key);
        buf_printf(key, "%.*s (issuer %.*s)", STR_FMT(past->caller.subject),
                STR_FMT(past->caller.issuer));
        size_t caller_bytes = key->len;
        buf_printf(key, "\n%.*s\n%.*s\n%.*s\n%d", STR_FMT(past->operation), STR_FMT(past->rule),
                STR_FMT(now->rule), (int)answer);
        uint32_t hash = str_hash_fold(buf_str(key));
        for (size_t i = 0; i < r->n_groups; i++) {
                struct group *group = &r->groups[i];
                if (group->hash == hash && str_eq(str_of(group->key), buf_str(key))) {
                        group->n++;
                        return;
                }
        }
        if (r->n_groups == MOST_GROUPS) {
                r->left_out++;
                return;
        }
        (void)past_decide(r->judge, past, true, &why);
        r->groups[r->n_groups++] = (struct group){
                .answer = answer,
                .hash = hash,
                .key = str_dup(buf_str(key)),
                .operation = shown(past->operation),
                .caller = shown(str_head(buf_str(key), caller_bytes)),
                .before = shown(past->rule),
                .after = shown(now->rule),
                .reason = shown(str_of(why.reason)),
                .place = shown(past->place),
                .correlation_id = shown(past->correlation_id),
                .path = shown(past->request.path),
                .n = 1,
        };
}

static void seen(void *owner, const struct past *past)
{
        struct replaying *r = owner;
        struct decision now;
        enum past_answer answer = past_decide(r->judge, past, false, &now);
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

static void add_text(struct buf *out, const struct group *group)
{
        buf_printf(out, "%s, %zu times: %s by %s\n", answer_text(group->answer), group->n,
                *group->operation ? group->operation : "(unknown to the catalogue)", group->caller);
        buf_printf(out, "  before: %s; after: %s\n",
                *group->before ? group->before : "nothing allowed it",
                group->answer == PAST_UNCLEAR ? "depends on what the record does not tell"
                : *group->after               ? group->after
                                              : "nothing allows it");
        buf_printf(out, "  first: %s, %s, %s\n", group->place, group->path, group->correlation_id);
}

static void add_markdown(struct buf *out, const struct group *group)
{
        static const char *const headings[] = {
                "Change", "Requests", "Operation", "Caller", "Before", "After", "First"};
        char number[24];

        if (!out->len)
                report_heading(out, headings, 7);
        snprintf(number, sizeof(number), "%zu", group->n);
        report_row(out,
                (const struct str[]){str_of(answer_text(group->answer)), str_of(number),
                        str_of(group->operation), str_of(group->caller), str_of(group->before),
                        str_of(group->after), str_of(group->correlation_id)},
                7);
}

static void add_json(struct buf *out, const struct group *group)
{
        report_object(out);
        report_count(out, "requests", group->n);
        report_member(out, "change", str_of(answer_text(group->answer)));
        report_member(out, "operation", str_of(group->operation));
        report_member(out, "caller", str_of(group->caller));
        report_member(out, "before", str_of(group->before));
        report_member(out, "after", str_of(group->after));
        report_member(out, "reason", str_of(group->reason));
        report_member(out, "record", str_of(group->place));
        report_member(out, "correlation_id", str_of(group->correlation_id));
        report_member(out, "path", str_of(group->path));
        buf_char(out, '}');
}

static void print_counts(const struct replaying *r, const struct past_counts *counts)
{
        printf("%zu requests: %zu as before, %zu now allowed, %zu now denied, %zu cannot be told",
                counts->records, r->same, r->allowed, r->denied, r->unclear);
        if (counts->unvouched)
                printf("; %zu records behind the last signature are left out", counts->unvouched);
        if (counts->damaged)
                printf("; %zu lines are no audit records", counts->damaged);
        if (r->left_out)
                printf("; changes of %zu more requests are not listed", r->left_out);
}

static void print_all(
        struct replaying *r, const struct past_counts *counts, enum report_format format)
{
        struct buf out;

        buf_init(&out, 1 << 30);
        for (size_t i = 0; i < r->n_groups; i++) {
                switch (format) {
                case REPORT_TEXT: add_text(&out, &r->groups[i]); break;
                case REPORT_MARKDOWN: add_markdown(&out, &r->groups[i]); break;
                case REPORT_JSON: add_json(&out, &r->groups[i]); break;
                }
        }
        switch (format) {
        case REPORT_TEXT:
                print_counts(r, counts);
                printf("\n%.*s", STR_FMT(buf_str(&out)));
                break;
        case REPORT_MARKDOWN:
                printf("## Recorded requests, decided again\n\n**");
                print_counts(r, counts);
                printf("**\n\n%.*s", STR_FMT(buf_str(&out)));
                break;
        case REPORT_JSON:
                printf("{\"records\":%zu,\"same\":%zu,\"allowed\":%zu,\"denied\":%zu,"
                       "\"unclear\":%zu,\"others\":%zu,\"damaged\":%zu,\"unsigned\":%zu,"
                       "\"changes\":[%.*s]}\n",
                        counts->records, r->same, r->allowed, r->denied, r->unclear, counts->others,
                        counts->damaged, counts->unvouched, STR_FMT(buf_str(&out)));
                break;
        }
        buf_clear(&out);
}

int policy_print_replay(
        const struct policy *policy, const struct past_log *log, enum report_format format)
{
        struct replaying r = {.judge = past_judge_new(policy)};
        struct past_counts counts;
        int status = EXIT_USAGE;

        buf_init(&r.key, 1 << 20);
        r.groups = calloc(MOST_GROUPS, sizeof(*r.groups));
        if (!r.groups)
                abort();
        if (past_read(log, seen, &r, &counts)) {
                print_all(&r, &counts, format);
                status = r.allowed || r.denied || r.unclear || counts.damaged ? EXIT_NO : EXIT_YES;
        }
        for (size_t i = 0; i < r.n_groups; i++) {
                struct group *group = &r.groups[i];
                char *const texts[] = {group->key, group->operation, group->caller, group->before,
                        group->after, group->reason, group->place, group->correlation_id,
                        group->path};
                for (size_t k = 0; k < sizeof(texts) / sizeof(texts[0]); k++)
                        free(texts[k]);
        }
        free(r.groups);
        buf_clear(&r.key);
        past_judge_free(r.judge);
        return status;
}
