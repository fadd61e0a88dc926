#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dagward/audit/view.h"

#define OUTCOME                                                                                    \
        "{\"seq\":2,\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"outcome\","                   \
        "\"request_id\":\"r-1\",\"correlation_id\":\"c-1\","                                       \
        "\"caller\":{\"issuer\":\"airflow\",\"subject\":\"system:sa:worker\"},"                    \
        "\"claimed\":{\"dag_id\":\"nightly\"},"                                                    \
        "\"request\":{\"method\":\"POST\",\"path\":\"/c/p/_apis/pipelines/42/runs\","              \
        "\"query\":\"api-version=7.1\",\"operation\":\"pipelines.runs.run\"},"                     \
        "\"decision\":{\"effect\":\"allow\",\"rule\":\"p.yaml:7\",\"reason\":\"allowed\"},"        \
        "\"upstream\":{\"status\":200},\"response\":{\"status\":200,\"bytes\":3},\"ms\":12.345}"
#define DENIED                                                                                     \
        "{\"seq\":3,\"time\":\"t\",\"kind\":\"outcome\",\"correlation_id\":\"c-2\","               \
        "\"caller\":{\"subject\":\"eve\"},\"request\":{\"method\":\"GET\",\"path\":\"/x\"},"       \
        "\"decision\":{\"effect\":\"deny\",\"reason\":\"no rule\"},\"response\":{\"status\":403}," \
        "\"ms\":0.100}"
#define STRANGER                                                                                   \
        "{\"time\":\"t\",\"kind\":\"outcome\",\"caller\":{\"address\":\"192.0.2.7\"},"             \
        "\"decision\":{\"effect\":\"deny\",\"reason\":\"no token\"}}"
#define INTENT                                                                                     \
        "{\"seq\":1,\"time\":\"t\",\"kind\":\"intent\",\"correlation_id\":\"c-1\","                \
        "\"request\":{\"method\":\"POST\",\"path\":\"/y\"}}"
#define EVENT                                                                                      \
        "{\"seq\":4,\"time\":\"t\",\"kind\":\"event\",\"event\":{\"name\":\"log.opened\","         \
        "\"detail\":{\"reason\":\"new\",\"previous_seq\":\"0\"}}}"
#define HOSTILE                                                                                    \
        "{\"time\":\"t\",\"kind\":\"outcome\",\"request\":{\"method\":\"GET\","                    \
        "\"path\":\"/\\u001b[2J\\u0000\\n\\u009b31m\\u202e\\u2069\xC3\xA9\"},"                     \
        "\"decision\":{\"effect\":\"deny\"}}"

static void records_are_shown_as_one_line_each(void **state)
{
        static const struct {
                const char *line;
                bool intents;
                enum view_result result;
                const char *text;
        } cases[] = {
                {OUTCOME, false, VIEW_SHOWN,
                        "2026-11-23T09:12:33.123Z allow  200 POST "
                        "/c/p/_apis/pipelines/42/runs?api-version=7.1 is pipelines.runs.run by "
                        "system:sa:worker of airflow dag nightly rule p.yaml:7 upstream 200 in "
                        "12.3 ms corr c-1\n"},
                {DENIED, false, VIEW_SHOWN,
                        "t deny   403 GET /x by eve because no rule in 0.1 ms corr c-2\n"},
                {STRANGER, false, VIEW_SHOWN, "t deny   -   from 192.0.2.7 because no token\n"},
                {INTENT, false, VIEW_SKIPPED, ""},
                {INTENT, true, VIEW_SHOWN, "t intent POST /y corr c-1\n"},
                {EVENT, false, VIEW_SHOWN, "t event  log.opened reason=new previous_seq=0\n"},
                {HOSTILE, false, VIEW_SHOWN,
                        "t deny   - GET /\\x1b[2J\\x00\\x0a\\xc2\\x9b31m\\xe2\\x80\\xae"
                        "\\xe2\\x81\\xa9\xC3\xA9\n"},
                {"{}", true, VIEW_NOT_A_RECORD, ""},
                {"", true, VIEW_NOT_A_RECORD, ""},
                {"[1]", true, VIEW_NOT_A_RECORD, ""},
                {"{\"kind\":1}", true, VIEW_NOT_A_RECORD, ""},
                {"{\"kind\":\"outcome\"", true, VIEW_NOT_A_RECORD, ""},
                {"{\"kind\":\"event\",\"kind\":\"event\"}", true, VIEW_NOT_A_RECORD, ""},
                {"{\"kind\":\"outcome\",\"request\":[],\"caller\":7}", true, VIEW_SHOWN,
                        " -       -  \n"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct view_filter filter = {.intents = cases[i].intents};
                struct buf out;
                buf_init(&out, 1 << 16);
                assert_int_equal(view_line(str_of(cases[i].line), &filter, &out), cases[i].result);
                buf_char(&out, '\0');
                assert_string_equal(out.data, cases[i].text);
                buf_clear(&out);
        }
}

static void a_filter_shows_what_meets_all_of_it(void **state)
{
        static const struct {
                struct view_filter filter;
                const char *line;
                enum view_result result;
        } cases[] = {
                {{.id = STR("c-1")}, OUTCOME, VIEW_SHOWN},
                {{.id = STR("r-1")}, OUTCOME, VIEW_SHOWN},
                {{.id = STR("c-2")}, OUTCOME, VIEW_SKIPPED},
                {{.id = STR("c-")}, OUTCOME, VIEW_SKIPPED},
                {{.id = STR("airflow")}, OUTCOME, VIEW_SKIPPED},
                {{.caller = STR("system:*")}, OUTCOME, VIEW_SHOWN},
                {{.caller = STR("System:*")}, OUTCOME, VIEW_SKIPPED},
                {{.caller = STR("*")}, EVENT, VIEW_SHOWN},
                {{.effect = STR("deny")}, OUTCOME, VIEW_SKIPPED},
                {{.effect = STR("deny")}, DENIED, VIEW_SHOWN},
                {{.operation = STR("PIPELINES.*")}, OUTCOME, VIEW_SHOWN},
                {{.operation = STR("git.*")}, OUTCOME, VIEW_SKIPPED},
                {{.effect = STR("allow"), .caller = STR("eve")}, OUTCOME, VIEW_SKIPPED},
                {{.id = STR("c-1"), .intents = true}, INTENT, VIEW_SHOWN},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_int_equal(
                        view_line(str_of(cases[i].line), &cases[i].filter, NULL), cases[i].result);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(records_are_shown_as_one_line_each),
                cmocka_unit_test(a_filter_shows_what_meets_all_of_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
