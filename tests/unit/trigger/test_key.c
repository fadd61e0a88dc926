/* Which requests are the same trigger, and which are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/trigger/key.h"

static struct trigger_parts task(void)
{
        static const struct pair query[] = {{STR("api-version"), STR("7.1")}};

        return (struct trigger_parts){.issuer = STR("airflow"),
                .subject = STR("worker"),
                .dag_id = STR("etl"),
                .run_id = STR("scheduled__2026-11-01"),
                .task_id = STR("start"),
                .method = STR("POST"),
                .service = STR("dev"),
                .operation = STR("pipelines.runs.run"),
                .path = STR("/contoso/analytics/_apis/pipelines/42/runs"),
                .query = query,
                .n_query = 1,
                .body = STR("{}")};
}

static bool same(const struct trigger_parts *a, const struct trigger_parts *b)
{
        struct trigger_key one, other;

        assert_int_not_equal(trigger_key_make(a, &one), TRIGGER_UNKEYED);
        assert_int_not_equal(trigger_key_make(b, &other), TRIGGER_UNKEYED);
        return memcmp(one.key, other.key, TRIGGER_DIGEST) == 0;
}

static void each_part_of_a_task_makes_another_trigger(void **state)
{
        struct trigger_parts first = task(), other;
        (void)state;
#define DIFFERS(member, value)                                                                     \
        other = task();                                                                            \
        other.member = STR(value);                                                                 \
        assert_false(same(&first, &other))
        DIFFERS(issuer, "entra");
        DIFFERS(subject, "worker2");
        DIFFERS(dag_id, "etl2");
        DIFFERS(run_id, "manual__2026-11-01");
        DIFFERS(task_id, "start2");
        DIFFERS(map_index, "3");
        DIFFERS(max_tries, "5");
        DIFFERS(operation, "build.builds.queue");
        DIFFERS(path, "/contoso/analytics/_apis/pipelines/7/runs");
        DIFFERS(body, "{ }");
#undef DIFFERS
        other = task();
        other.n_query = 0;
        assert_false(same(&first, &other));
        other = task();
        assert_true(same(&first, &other));
}

static void a_task_that_is_not_mapped_has_index_minus_one(void **state)
{
        struct trigger_parts first = task(), other = task();
        (void)state;

        other.map_index = STR("-1");
        assert_true(same(&first, &other));
}

static void parts_cannot_be_shifted_into_each_other(void **state)
{
        struct trigger_parts first = task(), other = task();
        (void)state;

        first.dag_id = STR("ab");
        first.run_id = STR("c");
        other.dag_id = STR("a");
        other.run_id = STR("bc");
        assert_false(same(&first, &other));
}

static void half_a_task_has_no_key(void **state)
{
        struct trigger_parts parts = task();
        struct trigger_key key;
        (void)state;

        parts.run_id = STR_NONE;
        assert_int_equal(trigger_key_make(&parts, &key), TRIGGER_UNKEYED);
        parts = task();
        parts.dag_id = STR_NONE;
        assert_int_equal(trigger_key_make(&parts, &key), TRIGGER_UNKEYED);
        parts = task();
        parts.task_id = STR("");
        assert_int_equal(trigger_key_make(&parts, &key), TRIGGER_UNKEYED);
}

static void a_chosen_key_stands_for_itself_but_knows_its_request(void **state)
{
        struct trigger_parts parts = task(), other = task();
        struct trigger_key one, two;
        (void)state;

        parts.chosen = other.chosen = STR("k");
        other.body = STR("{\"x\":1}");
        other.run_id = STR("another");
        assert_int_equal(trigger_key_make(&parts, &one), TRIGGER_BY_CHOICE);
        assert_int_equal(trigger_key_make(&other, &two), TRIGGER_BY_CHOICE);
        assert_memory_equal(one.key, two.key, TRIGGER_DIGEST);
        assert_memory_not_equal(one.request, two.request, TRIGGER_DIGEST);
        other.subject = STR("somebody else");
        assert_int_equal(trigger_key_make(&other, &two), TRIGGER_BY_CHOICE);
        assert_memory_not_equal(one.key, two.key, TRIGGER_DIGEST);
}

static void a_chosen_key_is_read_with_quotes_and_without(void **state)
{
        struct str chosen;
        char longest[TRIGGER_CHOSEN_MOST + 1];
        (void)state;

        assert_true(trigger_chosen_read(STR(" \"8e03978e-40d5\" "), &chosen));
        assert_true(str_eq(chosen, STR("8e03978e-40d5")));
        assert_true(trigger_chosen_read(STR("8e03978e-40d5"), &chosen));
        assert_true(str_eq(chosen, STR("8e03978e-40d5")));
        memset(longest, 'a', sizeof(longest));
        assert_true(trigger_chosen_read(str_view(longest, TRIGGER_CHOSEN_MOST), &chosen));
        assert_false(trigger_chosen_read(str_view(longest, sizeof(longest)), &chosen));
        static const char *const bad[] = {
                "", "\"\"", "a b", "a\"b", "\"a\\\"b\"", "a, b", "\"a\";x=1", "caf\xc3\xa9", "\""};
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_false(trigger_chosen_read(str_of(bad[i]), &chosen));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_part_of_a_task_makes_another_trigger),
                cmocka_unit_test(a_task_that_is_not_mapped_has_index_minus_one),
                cmocka_unit_test(parts_cannot_be_shifted_into_each_other),
                cmocka_unit_test(half_a_task_has_no_key),
                cmocka_unit_test(a_chosen_key_stands_for_itself_but_knows_its_request),
                cmocka_unit_test(a_chosen_key_is_read_with_quotes_and_without),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
