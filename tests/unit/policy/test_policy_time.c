/* Windows of time: `where: {time: [...]}`. */
#include "policy_kit.h"

#include "dagward/base/clock.h"
#include "dagward/policy/analyse.h"
#include "dagward/policy/diff.h"

#define LIST "build.builds.list"

static bool allowed_at(const struct policy *policy, int64_t now_ms)
{
        const struct policy_caller caller = {.issuer = STR("i")};
        struct policy_grants *grants = policy_grants_new(policy, &caller);
        struct resources none = {0};
        struct policy_request request;
        struct decision decision;

        kit_request(LIST, &none, &request);
        request.now_ms = now_ms;
        policy_decide(policy, grants, &request, &decision);
        policy_grants_free(grants);
        return decision.effect == EFFECT_ALLOW;
}

static struct policy *policy_of(const char *windows, bool deny)
{
        char text[1000];

        snprintf(text, sizeof(text),
                "version: 1\nroles: {r: {allow: [{operations: [" LIST "]%s%s%s}]%s%s%s}}\n"
                "bindings: [{callers: {issuer: i}, roles: r, credential: c}]\n",
                deny ? "" : ", where: {time: ", deny ? "" : windows, deny ? "" : "}",
                deny ? ", deny: [{where: {time: " : "", deny ? windows : "", deny ? "}}]" : "");
        return kit_policy(text);
}

static void a_window_holds_from_its_first_minute_until_before_its_last(void **state)
{
        /* 2026-11-23 was a Monday. */
        static const struct {
                const char *windows, *at;
                bool inside;
        } rows[] = {
                {"06:00-20:00", "2026-11-23T05:59:59.999Z", false},
                {"06:00-20:00", "2026-11-23T06:00:00Z", true},
                {"06:00-20:00", "2026-11-23T19:59:59.999Z", true},
                {"06:00-20:00", "2026-11-23T20:00:00Z", false},
                {"00:00-24:00", "2026-11-23T23:59:59Z", true},
                {"Mon-Fri 06:00-20:00", "2026-11-27T12:00:00Z", true},
                {"Mon-Fri 06:00-20:00", "2026-11-28T12:00:00Z", false},
                {"Mon-Fri 06:00-20:00", "2026-11-29T12:00:00Z", false},
                {"Sat 06:00-20:00", "2026-11-28T12:00:00Z", true},
                {"Sat 06:00-20:00", "2026-11-29T12:00:00Z", false},
                /* days that go over the weekend */
                {"Fri-Mon 06:00-20:00", "2026-11-27T12:00:00Z", true},
                {"Fri-Mon 06:00-20:00", "2026-11-29T12:00:00Z", true},
                {"Fri-Mon 06:00-20:00", "2026-11-30T12:00:00Z", true},
                {"Fri-Mon 06:00-20:00", "2026-11-24T12:00:00Z", false},
                {"Fri-Mon 06:00-20:00", "2026-11-26T12:00:00Z", false},
                /* a night belongs to the day it begins on */
                {"Fri 22:00-04:00", "2026-11-27T21:59:59Z", false},
                {"Fri 22:00-04:00", "2026-11-27T22:00:00Z", true},
                {"Fri 22:00-04:00", "2026-11-28T03:59:59Z", true},
                {"Fri 22:00-04:00", "2026-11-28T04:00:00Z", false},
                {"Fri 22:00-04:00", "2026-11-27T03:00:00Z", false},
                {"Sun 22:00-04:00", "2026-11-30T03:00:00Z", true},
                {"22:00-04:00", "2026-11-25T02:00:00Z", true},
                {"22:00-04:00", "2026-11-25T12:00:00Z", false},
                {"22:00-00:00", "2026-11-25T23:59:00Z", true},
                {"22:00-00:00", "2026-11-25T00:00:00Z", false},
                /* offsets: the day is that of the place */
                {"06:00-20:00 +02:00", "2026-11-23T04:00:00Z", true},
                {"06:00-20:00 +02:00", "2026-11-23T18:00:00Z", false},
                {"06:00-20:00+02:00", "2026-11-23T04:00:00Z", true},
                {"06:00-20:00 -05:30", "2026-11-23T11:29:00Z", false},
                {"06:00-20:00 -05:30", "2026-11-23T11:30:00Z", true},
                {"Mon 00:00-02:00 +09:00", "2026-11-22T15:00:00Z", true},
                {"Mon 00:00-02:00 +09:00", "2026-11-23T00:30:00Z", false},
                {"Mon 22:00-24:00 -08:00", "2026-11-24T07:00:00Z", true},
                {"Sun 22:00-04:00 -08:00", "2026-11-30T11:59:00Z", true},
                {"Sun 22:00-04:00 -08:00", "2026-11-30T12:00:00Z", false},
                /* one of several */
                {"[\"Mon 06:00-07:00\", \"Tue 08:00-09:00\"]", "2026-11-24T08:30:00Z", true},
                {"[\"Mon 06:00-07:00\", \"Tue 08:00-09:00\"]", "2026-11-24T06:30:00Z", false},
                /* before 1970 nothing is special */
                {"Wed 22:00-24:00", "1969-12-31T23:00:00Z", true},
                {"Thu 22:00-24:00", "1969-12-31T23:00:00Z", false},
        };
        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                int64_t now;
                assert_true(clock_parse(str_of(rows[i].at), &now));
                struct policy *allow = policy_of(rows[i].windows, false);
                struct policy *deny = policy_of(rows[i].windows, true);
                if (allowed_at(allow, now) != rows[i].inside ||
                        allowed_at(deny, now) == rows[i].inside)
                        fail_msg("row %zu: %s at %s", i, rows[i].windows, rows[i].at);
                policy_unref(allow);
                policy_unref(deny);
        }
}

/* Each minute of a week, told by counting minutes of one day after the other. */
static void every_minute_of_a_week_is_as_counted(void **state)
{
        static const struct {
                const char *window;
                int first, last, begin, end, offset;
        } rows[] = {
                {"Tue-Thu 07:15-18:45 +05:45", 1, 3, 435, 1125, 345},
                {"Sat-Tue 20:10-03:20 -11:00", 5, 1, 1210, 200, -660},
                {"Sun 12:00-11:59 +14:00", 6, 6, 720, 719, 840},
        };
        enum { WEEK = 7 * 1440 };
        int64_t monday;

        (void)state;
        assert_true(clock_parse(STR("2026-11-23"), &monday));
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                bool inside[WEEK] = {false};
                int end = rows[i].end > rows[i].begin ? rows[i].end : rows[i].end + 1440;
                for (int day = rows[i].first;; day = (day + 1) % 7) {
                        for (int m = rows[i].begin; m < end; m++)
                                inside[(day * 1440 + m - rows[i].offset + WEEK) % WEEK] = true;
                        if (day == rows[i].last)
                                break;
                }
                struct policy *policy = policy_of(rows[i].window, false);
                for (int m = 0; m < WEEK; m++)
                        if (allowed_at(policy, monday + m * INT64_C(60000) + 59999) != inside[m])
                                fail_msg("%s, minute %d", rows[i].window, m);
                policy_unref(policy);
        }
}

static void what_is_no_window_is_an_error_at_its_place(void **state)
{
        static const char *const wrong[] = {"6:00-20:00", "06:00", "06:00-", "06:00-20",
                "0600-2000", "06:00 - 20:00", "06:00-24:01", "24:00-06:00", "06:60-20:00",
                "25:00-26:00", "06:00-06:00", "Mon", "Mon-Fri", "Mon-Fri  06:00-20:00",
                "mon 06:00-20:00", "Monday 06:00-20:00", "Mon,Tue 06:00-20:00", "Mon- 06:00-20:00",
                "06:00-20:00 Europe/Berlin", "06:00-20:00 UTC", "06:00-20:00Z", "06:00-20:00 +2",
                "06:00-20:00 +02", "06:00-20:00 +0200", "06:00-20:00 +14:01", "06:00-20:00 +02:60",
                "06:00-20:00  +02:00", "06:00-20:00 02:00", "06:00-20:00 +02:00 x", "*", "*06:00",
                "06:00:00-20:00:00", "Fri-Mon06:00-20:00"};
        char text[1000];

        (void)state;
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
                struct error_list errors;
                error_list_init(&errors);
                snprintf(text, sizeof(text),
                        "version: 1\nroles: {r: {allow: [{operations: [" LIST "],\n"
                        "  where: {time: [\"00:00-12:00\", \"%s\"]}}]}}\n",
                        wrong[i]);
                struct policy *policy = policy_load_text("p.yaml", str_of(text), &errors);
                if (policy || errors.errors != 1 || errors.findings[0].line != 3 ||
                        errors.findings[0].column != 33)
                        fail_msg("%s: %zu errors", wrong[i], errors.errors);
                assert_true(strstr(errors.findings[0].text, "Mon-Fri 06:00-20:00") ||
                            strstr(errors.findings[0].text, "00:00-24:00"));
                error_list_clear(&errors);
        }
}

/* --- analyses --- */

struct notes {
        char text[4000];
        size_t changes;
};

static void note_finding(void *owner, const struct policy_finding *finding)
{
        struct notes *notes = owner;
        size_t len = strlen(notes->text);

        snprintf(notes->text + len, sizeof(notes->text) - len, "%.*s %s\n", STR_FMT(finding->place),
                finding->check);
}

static void a_limited_entry_makes_no_other_needless(void **state)
{
#define TWO(a, b)                                                                                  \
        "version: 1\nroles: {r: {allow: [\n{operations: [" LIST "], projects: [p]" a               \
        "},\n{operations: [" LIST "], projects: [p]" b "}]}}\n"                                    \
        "bindings: [{callers: {issuer: i, subject: s}, roles: r, credential: c}]\n"
#define DAY ", where: {time: 06:00-20:00}"
#define NIGHT ", where: {time: 20:00-06:00}"
        static const struct {
                const char *text, *findings;
        } rows[] = {
                {TWO("", ""), "p.yaml:4 adds-nothing\n"},
                {TWO("", DAY), "p.yaml:4 adds-nothing\n"},
                {TWO(DAY, ""), "p.yaml:3 adds-nothing\n"},
                {TWO(DAY, NIGHT), ""},
                {TWO(DAY, DAY), "p.yaml:4 adds-nothing\n"},
                {"version: 1\nroles: {r: {allow: [{operations: [" LIST "], projects: [p]}],\n"
                 "deny: [{operations: [" LIST "]" NIGHT "}]}}\n"
                 "bindings: [{callers: {issuer: i, subject: s}, roles: r, credential: c}]\n",
                        ""},
                {"version: 1\nroles: {r: {allow: [{operations: [" LIST "], projects: [p]}],\n"
                 "deny: [{operations: [" LIST "]}]}}\n"
                 "bindings: [{callers: {issuer: i, subject: s}, roles: r, credential: c}]\n",
                        "p.yaml:2 never-allows\n"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct policy *policy = kit_policy(rows[i].text);
                struct notes notes = {0};
                (void)policy_lint(policy, 1000, note_finding, &notes);
                if (strcmp(notes.text, rows[i].findings) != 0)
                        fail_msg("row %zu: %s", i, notes.text);
                policy_unref(policy);
        }
}

static void note_way(void *owner, const struct policy_way *way)
{
        struct notes *notes = owner;
        size_t len = strlen(notes->text);

        snprintf(notes->text + len, sizeof(notes->text) - len, "%.*s / %.*s\n",
                STR_FMT(way->limits), STR_FMT(way->except));
}

static void who_can_tells_windows_whatever_the_time_is(void **state)
{
        struct policy *policy = kit_policy(
                "version: 1\nroles: {r: {allow: [{operations: [" LIST "]" DAY "}],\n"
                "deny: [{operations: [" LIST "], where: {time: Sun 00:00-24:00}}]}}\n"
                "bindings: [{callers: {issuer: i, subject: s}, roles: r, credential: c}]\n");
        struct resources none = {0};
        struct policy_request request;
        struct notes notes = {0};

        (void)state;
        kit_request(LIST, &none, &request);
        assert_int_equal(policy_who_can(policy, &request, note_way, &notes), 1);
        assert_string_equal(
                notes.text, "where.time 06:00-20:00 / p.yaml:3 where.time Sun 00:00-24:00\n");
        policy_unref(policy);
}

static void note_change(void *owner, const struct policy_change *change)
{
        struct notes *notes = owner;
        size_t len = strlen(notes->text);
        char at[CLOCK_RFC3339_LEN + 1];

        notes->changes++;
        clock_rfc3339(change->example->at_ms, at);
        snprintf(notes->text + len, sizeof(notes->text) - len, "%c %s\n",
                change->now_allowed ? '+' : '-', at);
}

static void note_binding(void *owner, struct str name, struct str old, struct str new_one)
{
        (void)owner, (void)old, (void)new_one;
        fail_msg("%.*s", STR_FMT(name));
}

static bool name_list(void *context, const struct policy_question *question, struct arena *arena,
        struct policy_request *out, struct error *err)
{
        static const struct resources none;

        (void)context, (void)arena, (void)err;
        *out = (struct policy_request){
                .method = question->method, .path = question->url, .resources = &none};
        if (!str_starts(question->url, STR("/odd")))
                out->op = catalogue_find(STR(LIST));
        return true;
}

static void a_change_of_window_is_told_with_a_time(void **state)
{
#define ONE(window) "version: 1\nroles: {r: {allow: [{operations: [" LIST "]" window "}]}}\n"
        static const struct {
                const char *old, *new_one, *changes;
        } rows[] = {
                {ONE(DAY), ONE(DAY), ""},
                {ONE(DAY), ONE(", where: {time: '06:00-20:00 +00:00'}"), ""},
                {ONE(", where: {time: Mon-Fri 06:00-20:00}"),
                        ONE(", where: {time: Mon-Fri 06:00-21:00}"),
                        "+ 2024-01-01T20:00:00.000Z\n"},
                {ONE(", where: {time: Mon-Fri 06:00-20:00}"),
                        ONE(", where: {time: Mon-Sat 06:00-20:00}"),
                        "+ 2024-01-06T06:00:00.000Z\n"},
                /* The hour is Saturday's, of a night that began on Friday. */
                {ONE(", where: {time: Fri 18:00-06:00}"), ONE(", where: {time: Fri 18:00-07:00}"),
                        "+ 2024-01-06T06:00:00.000Z\n"},
                /* Of Sunday, in UTC. */
                {ONE(", where: {time: 'Mon 09:00-10:00 +14:00'}"),
                        ONE(", where: {time: 'Mon 09:00-11:00 +14:00'}"),
                        "+ 2024-01-07T20:00:00.000Z\n"},
                {ONE(DAY), ONE(NIGHT), "+ 2024-01-01T20:00:00.000Z\n- 2024-01-01T06:00:00.000Z\n"},
                {ONE(""), ONE(DAY), "- 2024-01-01T20:00:00.000Z\n"},
                {ONE(DAY), ONE(""), "+ 2024-01-01T20:00:00.000Z\n"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                struct policy *old = kit_policy(rows[i].old);
                struct policy *new_one = kit_policy(rows[i].new_one);
                struct notes notes = {0};
                const struct policy_diff_options options = {.namer = name_list,
                        .changed = note_change,
                        .binding_changed = note_binding,
                        .owner = &notes};
                (void)policy_diff(old, new_one, &options);
                char sorted[sizeof(notes.text)] = "";
                for (const char *sign = "+-"; *sign; sign++)
                        for (char *line = notes.text; *line; line = strchr(line, '\n') + 1)
                                if (*line == *sign)
                                        strncat(sorted, line,
                                                (size_t)(strchr(line, '\n') + 1 - line));
                if (strcmp(sorted, rows[i].changes) != 0)
                        fail_msg("row %zu: %s", i, notes.text);
                policy_unref(old);
                policy_unref(new_one);
        }
}

static void so_is_one_of_a_path_that_nobody_knows(void **state)
{
#define PATH(window) "version: 1\nroles: {r: {allow: [{method: GET, path: /odd" window "}]}}\n"
        struct policy *old = kit_policy(PATH(DAY)), *new_one = kit_policy(PATH(""));
        struct notes notes = {0};
        const struct policy_diff_options options = {.namer = name_list,
                .changed = note_change,
                .binding_changed = note_binding,
                .owner = &notes};

        (void)state;
        (void)policy_diff(old, new_one, &options);
        assert_non_null(strstr(notes.text, "+ 2024-01-01T20:00:00.000Z\n"));
        assert_null(strstr(notes.text, "- "));
        policy_unref(old);
        policy_unref(new_one);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_window_holds_from_its_first_minute_until_before_its_last),
                cmocka_unit_test(every_minute_of_a_week_is_as_counted),
                cmocka_unit_test(what_is_no_window_is_an_error_at_its_place),
                cmocka_unit_test(a_limited_entry_makes_no_other_needless),
                cmocka_unit_test(who_can_tells_windows_whatever_the_time_is),
                cmocka_unit_test(a_change_of_window_is_told_with_a_time),
                cmocka_unit_test(so_is_one_of_a_path_that_nobody_knows),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
