/* Break-glass bindings: who gets what for which reason, and that glass is broken only if need be.
 */
#include "policy_kit.h"

#include "dagward/base/clock.h"
#include "dagward/policy/analyse.h"
#include "dagward/policy/diff.h"
#include "dagward/policy/explain.h"

#define RUN "pipelines.runs.run"

/* An ordinary reader, an operator behind glass, one behind thicker glass, and what none may do. */
#define GLASS                                                                                      \
        "version: 1\n"                                                                             \
        "roles:\n"                                                                                 \
        "  reader: {allow: [{operations: [build.builds.list], projects: [a]}]}\n"                  \
        "  operator:\n"                                                                            \
        "    allow: [{operations: [pipelines.runs.run, build.builds.list], projects: [a]}]\n"      \
        "    deny: [{operations: [pipelines.runs.run], pipelines: [99]}]\n"                        \
        "  owner: {allow: [{operations: [pipelines.runs.run, git.refs.updateMany]}]}\n"            \
        "  never: {deny: [{operations: [build.builds.queue]},\n"                                   \
        "                 {operations: [git.refs.updateMany], projects: [b]}]}\n"                  \
        "bindings:\n"                                                                              \
        "  - {name: glass, callers: {issuer: i}, roles: [operator], credential: g,\n"              \
        "     break_glass: true, expires: 2026-12-01}\n"                                           \
        "  - {name: thick, callers: {issuer: i}, roles: [owner], credential: o,\n"                 \
        "     break_glass: {reason_at_least: 30}, expires: 2026-12-01}\n"                          \
        "  - {name: plain, callers: {issuer: i}, roles: [reader, never], credential: p}\n"

static struct decision decide(const struct policy *policy, const char *what, const char *resources,
        unsigned reason_chars, const char *at)
{
        const struct policy_caller caller = {.issuer = STR("i"), .subject = STR("ann")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        struct resources touched;
        struct policy_request request;
        struct decision decision;

        kit_resources(resources, &touched);
        kit_request(what, &touched, &request);
        request.reason_chars = reason_chars;
        assert_true(clock_parse(str_of(at), &request.now_ms));
        policy_decide(policy, grants, &request, &decision);
        policy_grants_free(grants);
        return decision;
}

static void glass_is_broken_for_a_reason_and_only_if_nothing_else_allows(void **state)
{
        static const struct {
                const char *what, *resources;
                unsigned reason;
                const char *at;
                const char *binding; /* of an allow; NULL: denied */
                bool breaks;
                const char *hint; /* of a denial */
                unsigned hint_chars;
        } rows[] = {
                {"build.builds.list", "projects=a", 0, "2026-11-01", "plain", false, "", 0},
                {"build.builds.list", "projects=a", 40, "2026-11-01", "plain", false, "", 0},
                {RUN, "projects=a pipelines=42", 0, "2026-11-01", NULL, false, "glass", 10},
                {RUN, "projects=a pipelines=42", 9, "2026-11-01", NULL, false, "glass", 10},
                {RUN, "projects=a pipelines=42", 10, "2026-11-01", "glass", true, "", 0},
                {RUN, "projects=a pipelines=42", 500, "2026-11-01", "glass", true, "", 0},
                /* only the thick one has it */
                {RUN, "projects=b pipelines=42", 0, "2026-11-01", NULL, false, "thick", 30},
                {RUN, "projects=b pipelines=42", 29, "2026-11-01", NULL, false, "thick", 30},
                {RUN, "projects=b pipelines=42", 30, "2026-11-01", "thick", true, "", 0},
                /* a role behind glass denies as well, and then no longer reason helps */
                {RUN, "projects=a pipelines=99", 0, "2026-11-01", NULL, false, "", 0},
                {RUN, "projects=b pipelines=99", 30, "2026-11-01", NULL, false, "", 0},
                {"git.refs.updateMany", "projects=a", 30, "2026-11-01", "thick", true, "", 0},
                /* an ordinary deny cannot be broken */
                {"git.refs.updateMany", "projects=b", 30, "2026-11-01", NULL, false, "", 0},
                {"build.builds.queue", "projects=a", 30, "2026-11-01", NULL, false, "", 0},
                /* what nothing allows */
                {"git.items.get", "projects=a", 30, "2026-11-01", NULL, false, "", 0},
                /* the end of it */
                {RUN, "projects=a pipelines=42", 40, "2026-12-01", NULL, false, "", 0},
                {"build.builds.list", "projects=a", 40, "2026-12-01", "plain", false, "", 0},
        };
        struct policy *policy = kit_policy(GLASS);

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct decision got =
                        decide(policy, rows[i].what, rows[i].resources, rows[i].reason, rows[i].at);
                bool allowed = got.effect == EFFECT_ALLOW;
                if (allowed != (rows[i].binding != NULL) || got.breaks_glass != rows[i].breaks ||
                        (allowed && !str_eq(got.binding, str_of(rows[i].binding))) ||
                        !str_eq(got.glass_binding, str_of(rows[i].hint)) ||
                        got.glass_chars != rows[i].hint_chars)
                        fail_msg("row %zu: %d by %.*s, glass %d, hint %.*s of %u: %s", i, allowed,
                                STR_FMT(got.binding), got.breaks_glass, STR_FMT(got.glass_binding),
                                got.glass_chars, got.reason);
                assert_int_equal(strstr(got.reason, "would allow it with a reason of") != NULL,
                        rows[i].hint_chars != 0);
        }
        policy_unref(policy);
}

static void the_credential_is_that_of_the_glass(void **state)
{
        struct policy *policy = kit_policy(GLASS);
        struct decision got = decide(policy, RUN, "projects=a pipelines=42", 12, "2026-11-01");

        (void)state;
        assert_true(str_eq(got.credential, STR("g")));
        got = decide(policy, RUN, "projects=a pipelines=42", 0, "2026-11-01");
        assert_int_equal(got.credential.len, 0);
        assert_non_null(strstr(
                got.reason, "; binding glass would allow it with a reason of 10 characters"));
        policy_unref(policy);
}

static void a_caller_whose_only_binding_is_behind_glass_is_told_so(void **state)
{
        struct policy *policy =
                kit_policy("version: 1\nroles: {r: {allow: [{operations: [build.builds.list]}]}}\n"
                           "bindings: [{name: b, callers: {issuer: i}, roles: r, credential: c,\n"
                           "            break_glass: true, expires: 2026-12-01}]\n");

        (void)state;
        struct decision got = decide(policy, RUN, "projects=a", 0, "2026-11-01");
        assert_non_null(strstr(got.reason, "is a break-glass one"));
        got = decide(policy, RUN, "projects=a", 0, "2026-12-01");
        assert_non_null(strstr(got.reason, "has expired or has not begun"));
        policy_unref(policy);
}

static void doubts_of_ordinary_bindings_are_told_without_the_reason(void **state)
{
        struct policy *policy = kit_policy(
                "version: 1\n"
                "roles: {n: {allow: [{operations: [pipelines.runs.run], pipelines: [nightly]}]},\n"
                "        g: {allow: [{operations: [pipelines.runs.run], pipelines: [other]}]}}\n"
                "bindings:\n"
                "  - {callers: {issuer: i}, roles: g, credential: glass, break_glass: true, "
                "expires: "
                "2030-01-01}\n"
                "  - {callers: {issuer: i}, roles: n, credential: plain}\n");
        const struct policy_caller caller = {.issuer = STR("i")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        struct resources touched;
        struct policy_request request;
        struct str credential = STR_NONE;

        (void)state;
        kit_resources("pipelines=42", &touched);
        kit_request(RUN, &touched, &request);
        assert_int_equal(
                policy_doubts(policy, grants, &request, &credential), 1U << RESOURCE_PIPELINE);
        assert_true(str_eq(credential, STR("plain")));
        policy_grants_free(grants);
        policy_unref(policy);
}

static void reasons_are_text_of_a_bounded_length(void **state)
{
        static const struct {
                const char *text;
                const char *reason; /* NULL: refused */
                unsigned chars;
        } rows[] = {
                {"", "", 0},
                {"  \t ", "", 0},
                {" INC-4711 is on fire ", "INC-4711 is on fire", 19},
                {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9", 3},
                {"\xe2\x82\xac\xf0\x9f\x94\xa5", "\xe2\x82\xac\xf0\x9f\x94\xa5", 2},
                {"\xd7\xa9\xe2\x80\x8f!", "\xd7\xa9\xe2\x80\x8f!",
                        3}, /* a mark, which only tells */
                {"a\x01z", NULL, 0},
                {"a\tz", NULL, 0},
                {"a\x7fz", NULL, 0},
                {"a\xc2\x85z", NULL, 0},
                {"a\xe2\x80\xa8z", NULL, 0},
                {"a\xe2\x80\xaez", NULL, 0},
                {"a\xe2\x81\xa6z", NULL, 0},
                {"a\xc3", NULL, 0},
                {"a\xc0\x80", NULL, 0},
                {"a\xed\xa0\x80", NULL, 0},
        };
        char long_text[POLICY_GLASS_MOST_BYTES + 2];
        struct str reason;
        unsigned chars;
        const char *why;

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                bool good = policy_reason_read(str_of(rows[i].text), &reason, &chars, &why);
                if (good != (rows[i].reason != NULL) || chars != rows[i].chars ||
                        (good && !str_eq(reason, str_of(rows[i].reason))))
                        fail_msg("row %zu: %d, %u characters", i, good, chars);
        }
        memset(long_text, 'x', sizeof(long_text));
        assert_true(policy_reason_read(
                str_view(long_text, POLICY_GLASS_MOST_BYTES), &reason, &chars, &why));
        assert_int_equal(chars, POLICY_GLASS_MOST_BYTES);
        assert_false(policy_reason_read(
                str_view(long_text, POLICY_GLASS_MOST_BYTES + 1), &reason, &chars, &why));
        assert_true(policy_reason_read(STR_NONE, &reason, &chars, &why));
}

/* --- what analyses say --- */

static void note_way(void *owner, const struct policy_way *way)
{
        char *text = owner;

        snprintf(text + strlen(text), 2000 - strlen(text), "%.*s: %.*s\n", STR_FMT(way->binding),
                STR_FMT(way->limits));
}

static void note_right(void *owner, const struct policy_right *right)
{
        char *text = owner;

        snprintf(text + strlen(text), 4000 - strlen(text), "%s %.*s: %.*s\n",
                right->effect == EFFECT_ALLOW ? "may" : "not", STR_FMT(right->binding),
                STR_FMT(right->limits));
}

static void who_can_and_can_say_that_a_way_is_behind_glass(void **state)
{
        struct policy *policy = kit_policy(GLASS);
        const struct policy_caller caller = {.issuer = STR("i")};
        struct resources none = {0};
        struct policy_request request;
        char text[4000] = "";

        (void)state;
        kit_request(RUN, &none, &request);
        assert_int_equal(policy_who_can(policy, &request, note_way, text), 2);
        assert_string_equal(text,
                "glass: projects a; break-glass: needs a reason of 10 characters or more\n"
                "thick: break-glass: needs a reason of 30 characters or more\n");
        text[0] = '\0';
        assert_int_equal(policy_can(policy, &caller, 1000, note_right, text), 6);
        assert_non_null(strstr(text, "may plain: projects a\n"));
        assert_non_null(strstr(text, "not plain: projects b\n"));
        assert_non_null(strstr(text, "not glass: pipelines 99; break-glass: needs a reason of 10"));
        assert_non_null(strstr(text, "may thick: break-glass: needs a reason of 30"));
        policy_unref(policy);
}

static void explanations_show_the_reason_as_a_condition_of_the_binding(void **state)
{
        struct policy *policy = kit_policy(GLASS);
        const struct policy_caller caller = {.issuer = STR("i"), .subject = STR("ann")};
        static const struct {
                unsigned chars;
                const char *says[3];
        } rows[] = {
                {0, {"DENIED", "break_glass    a reason of 10 characters or more; has none: NO",
                            "its `break_glass` wants a reason of 10 characters or more"}},
                {12, {"ALLOWED", "has one of 12: yes", "binding glass, break-glass)"}},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct policy_explanation explanation;
                struct resources touched;
                struct policy_request request;
                struct arena arena;
                struct buf out;
                arena_init(&arena, 65536, 1 << 24);
                buf_init(&out, 1 << 20);
                kit_resources("projects=a pipelines=42", &touched);
                kit_request(RUN, &touched, &request);
                request.reason_chars = rows[i].chars;
                assert_true(policy_explain(policy, &caller, &request, &arena, &explanation));
                policy_explanation_text(&explanation, &out);
                for (size_t k = 0; k < 3; k++)
                        if (str_find_str(buf_str(&out), str_of(rows[i].says[k])) < 0)
                                fail_msg("no \"%s\" in %.*s", rows[i].says[k],
                                        STR_FMT(buf_str(&out)));
                buf_reset(&out);
                policy_explanation_json(&explanation, &out);
                assert_true(str_find_str(buf_str(&out),
                                    rows[i].chars ? STR("\"breaks_glass\":true")
                                                  : STR("\"breaks_glass\":false")) > 0);
                buf_clear(&out);
                arena_clear(&arena);
        }
        policy_unref(policy);
}

static void note_finding(void *owner, const struct policy_finding *finding)
{
        char *text = owner;

        snprintf(text + strlen(text), 2000 - strlen(text), "%.*s %s: %s\n", STR_FMT(finding->place),
                finding->check, finding->text);
}

static void lint_tells_of_glass_that_is_wide_or_lasts(void **state)
{
        struct policy *policy = kit_policy(
                "version: 1\n"
                "roles: {r: {allow: [{operations: ['*'], where: {time: 00:00-12:00}}]},\n"
                "        s: {allow: [{operations: ['*'], projects: [a]}]}}\n"
                "bindings:\n"
                "  - {name: wide, callers: {issuer: i}, roles: r, credential: c, break_glass: "
                "true,\n"
                "     not_before: 2026-01-01, expires: 2026-04-01}\n"
                "  - {name: long, callers: {issuer: i, subject: a}, roles: s, credential: c,\n"
                "     break_glass: true, not_before: 2026-01-01, expires: 2026-04-02}\n"
                "  - {name: good, callers: {issuer: i, subject: a}, roles: s, credential: c,\n"
                "     break_glass: true, expires: 2026-03-01}\n");
        char text[2000] = "";
        int64_t now;

        (void)state;
        assert_true(clock_parse(STR("2025-12-30"), &now));
        (void)policy_lint(policy, now, note_finding, text);
        assert_non_null(strstr(text, "p.yaml:5 break-glass: every caller of the issuer i"));
        assert_non_null(strstr(text, "p.yaml:5 break-glass: who breaks the glass of the binding "
                                     "`wide` may do everything, everywhere (p.yaml:2)"));
        assert_non_null(strstr(text, "p.yaml:7 break-glass: the break-glass binding `long` lasts "
                                     "for more than 90 days"));
        assert_null(strstr(text, "p.yaml:9"));
        assert_null(strstr(text, "everybody"));
        /* what is left of it is what counts */
        text[0] = '\0';
        assert_true(clock_parse(STR("2026-01-03"), &now));
        (void)policy_lint(policy, now, note_finding, text);
        assert_null(strstr(text, "p.yaml:7 break-glass"));
        policy_unref(policy);
}

static void the_review_warns_of_glass_that_lasts(void **state)
{
        static const struct str issuers[] = {{"i", 1}}, credentials[] = {{"c", 1}};
        static const char text[] =
                "version: 1\nroles: {r: {allow: [{operations: [build.builds.list]}]}}\n"
                "bindings: [{callers: {issuer: i}, roles: r, credential: c, break_glass: true,\n"
                "            expires: 2026-04-02}]\n";
        static const struct {
                const char *at;
                size_t warnings;
        } rows[] = {{"2026-01-01", 1}, {"2026-01-02", 0}, {"2026-03-01", 0}, {"2026-04-01", 1},
                {"2026-04-02", 1}};
        struct policy *policy = kit_policy(text);

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct error_list errors;
                int64_t now;
                error_list_init(&errors);
                assert_true(clock_parse(str_of(rows[i].at), &now));
                assert_true(policy_review(policy, issuers, 1, credentials, 1, now, &errors));
                if (errors.n != rows[i].warnings)
                        fail_msg("row %zu: %zu warnings", i, errors.n);
                error_list_clear(&errors);
        }
        policy_unref(policy);
}

static void note_binding(void *owner, struct str name, struct str old, struct str new_one)
{
        char *text = owner;

        snprintf(text, 2000, "%.*s: %.*s -> %.*s", STR_FMT(name), STR_FMT(old), STR_FMT(new_one));
}

static void note_nothing(void *owner, const struct policy_change *change)
{
        (void)owner;
        fail_msg("%.*s", STR_FMT(change->touches));
}

static bool name_nothing(void *context, const struct policy_question *question, struct arena *arena,
        struct policy_request *out, struct error *err)
{
        (void)context, (void)question, (void)arena, (void)out;
        return error_set(err, "not named here");
}

static void a_difference_of_glass_is_told_in_words(void **state)
{
        static const char with[] =
                "version: 1\nroles: {r: {allow: [{operations: [build.builds.list]}]}}\n"
                "bindings: [{name: b, callers: {issuer: i}, roles: r, credential: c, expires: "
                "2026-01-01, break_glass: %s}]\n";
        char text[2000] = "", old[400], new_one[400];
        const struct policy_diff_options options = {.namer = name_nothing,
                .changed = note_nothing,
                .binding_changed = note_binding,
                .owner = text};

        (void)state;
        snprintf(old, sizeof(old), with, "false");
        snprintf(new_one, sizeof(new_one), with, "{reason_at_least: 25}");
        struct policy *a = kit_policy(old), *b = kit_policy(new_one);
        struct policy_diff_counts counts = policy_diff(a, b, &options);
        assert_int_equal(counts.bindings, 1);
        assert_non_null(strstr(text, "Z -> "));
        assert_non_null(strstr(text, "Z; break-glass: needs a reason of 25 characters or more"));
        policy_unref(a);
        policy_unref(b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(glass_is_broken_for_a_reason_and_only_if_nothing_else_allows),
                cmocka_unit_test(the_credential_is_that_of_the_glass),
                cmocka_unit_test(a_caller_whose_only_binding_is_behind_glass_is_told_so),
                cmocka_unit_test(doubts_of_ordinary_bindings_are_told_without_the_reason),
                cmocka_unit_test(reasons_are_text_of_a_bounded_length),
                cmocka_unit_test(who_can_and_can_say_that_a_way_is_behind_glass),
                cmocka_unit_test(explanations_show_the_reason_as_a_condition_of_the_binding),
                cmocka_unit_test(lint_tells_of_glass_that_is_wide_or_lasts),
                cmocka_unit_test(the_review_warns_of_glass_that_lasts),
                cmocka_unit_test(a_difference_of_glass_is_told_in_words),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
