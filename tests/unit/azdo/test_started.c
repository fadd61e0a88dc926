/* What starting a run is answered with, how a run is marked, and whether a list has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/azdo/started.h"

#define MINE "019ab1c2-0000-7000-8000-000000000001"
#define CORRELATION "019ab1c2-0000-7000-8000-00000000000c"
#define OTHER "019ab1c2-0000-7000-8000-000000000009"

static const struct operation *op(const char *id)
{
        const struct operation *found = catalogue_find(str_of(id));

        assert_non_null(found);
        return found;
}

static struct started_wanted wanted(const char *id)
{
        return (struct started_wanted){.op = op(id),
                .organization = "contoso",
                .project = "ana lytics",
                .definition = "42",
                .id = MINE,
                .correlation_id = CORRELATION,
                .names = {"CID", ""},
                .since_ms = 1700000000000,
                .until_ms = 1700000100000};
}

static void three_operations_start_runs(void **state)
{
        size_t n, found = 0;
        const struct operation *all = catalogue_all(&n);
        (void)state;

        for (size_t i = 0; i < n; i++) {
                found += operation_starts(&all[i]);
                assert_true(!operation_starts(&all[i]) || all[i].access == ACCESS_EXECUTE);
        }
        assert_int_equal(found, 3);
        assert_false(operation_starts(NULL));
}

static void an_answer_names_its_run(void **state)
{
        struct arena arena;
        struct str id, url;
        (void)state;

        arena_init(&arena, 4096, 1 << 20);
        assert_true(started_read(op("pipelines.runs.run"),
                STR("{\"id\":7,\"url\":\"u\",\"_links\":{\"web\":{\"href\":\"w\"}}}"), &arena, &id,
                &url));
        assert_true(str_eq(id, STR("7")) && str_eq(url, STR("w")));
        assert_true(started_read(
                op("build.builds.queue"), STR("{\"id\":8,\"url\":\"u\"}"), &arena, &id, &url));
        assert_true(str_eq(id, STR("8")) && str_eq(url, STR("u")));
        /* A preview starts nothing. */
        assert_false(started_read(
                op("pipelines.runs.run"), STR("{\"state\":\"unknown\"}"), &arena, &id, &url));
        assert_false(started_read(op("pipelines.runs.run"), STR("<html>"), &arena, &id, &url));
        assert_false(started_read(op("build.builds.update"), STR("{\"id\":8}"), &arena, &id, &url));
        arena_clear(&arena);
}

/* `id` of an answer to a run; NULL: none is read. */
static void expect_run(const char *body, const char *wanted, const char *wanted_url)
{
        struct arena arena;
        struct str id, url;

        arena_init(&arena, 4096, 1 << 20);
        bool ok = started_read(op("pipelines.runs.run"), str_of(body), &arena, &id, &url);
        if (ok != (wanted != NULL) || (ok && !str_eq(id, str_of(wanted))) ||
                (ok && !str_eq(url, str_of(wanted_url))))
                fail_msg("%s: %.*s, %.*s", body, STR_FMT(id), STR_FMT(url));
        arena_clear(&arena);
}

static void only_a_whole_and_unambiguous_answer_names_a_run(void **state)
{
        (void)state;
        expect_run(" { \"a\" : [1, {\"id\": 9}] , \"id\" : 7 } \r\n", "7", "");
        expect_run("{\"ID\":\"7\",\"url\":\"a\\/\\u0062\"}", "7", "a/b");
        expect_run("{\"id\":7,\"_links\":null,\"url\":5}", "7", "5");
        expect_run("{\"id\":7,\"_links\":{\"web\":[],\"self\":{\"href\":\"s\"}},\"url\":\"u\"}",
                "7", "u");
        expect_run("{\"id\":7,\"_links\":{\"web\":{\"href\":{}}},\"url\":\"u\"}", "7", "u");
        expect_run("{\"id\":7,\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
                "7", "");
        static const char *const not_read[] = {"", "{}", "[]", "7", "{\"id\":7", "{\"id\":7}}",
                "{\"id\":7} x", "{\"id\":7,\"id\":7}", "{\"id\":7,\"Id\":8}", "{\"id\":0}",
                "{\"id\":-7}", "{\"id\":7.5}", "{\"id\":\"7 \"}", "{\"id\":null}", "{\"id\":[7]}",
                "{\"id\":{\"id\":7}}", "{\"id\":99999999999999999999}", "{\"id\":7,}", "{\"id\" 7}",
                "{id:7}", "{\"id\":7,\"a\":\"\xff\"}", "{\"id\":7,\"a\":tru}",
                "{\"id\":7,\"a\":\"\n\"}", "{\"id\":7,\"url\":\"\\ud800\"}",
                "{\"id\":7,\"_links\":{\"web\":{\"href\":\"a\",\"href\":\"b\"}}}"};
        for (size_t i = 0; i < sizeof(not_read) / sizeof(*not_read); i++)
                expect_run(not_read[i], NULL, NULL);
        char deep[256];
        memset(deep, '[', sizeof(deep));
        memcpy(deep, "{\"id\":7,\"x\":", 12);
        deep[sizeof(deep) - 1] = 0;
        expect_run(deep, NULL, NULL);
}

static void expect_mark(const char *id, const char *variable, const char *parameter,
        const char *body, const char *marked)
{
        struct started_mark mark = {str_of(variable), str_of(parameter)};
        const char *why = NULL;
        struct buf out;

        buf_init(&out, 4096);
        bool ok = started_mark_write(op(id), str_of(body), &mark, STR("V"), &out, &why);
        assert_int_equal(ok, marked != NULL);
        if (marked && !str_eq(buf_str(&out), str_of(marked)))
                fail_msg("%.*s, not %s", STR_FMT(buf_str(&out)), marked);
        assert_int_equal(why == NULL, ok);
        buf_clear(&out);
}

static void a_mark_is_put_where_each_kind_of_run_shows_it(void **state)
{
        (void)state;
        expect_mark("pipelines.runs.run", "CID", NULL, "",
                "{\"variables\":{\"CID\":{\"value\":\"V\"}}}");
        expect_mark("pipelines.runs.run", "CID", NULL, "{\"variables\":{\"a\":{\"value\":\"1\"}}}",
                "{\"variables\":{\"a\":{\"value\":\"1\"},\"CID\":{\"value\":\"V\"}}}");
        expect_mark("pipelines.runs.run", NULL, "cid", "{\"resources\":{}}",
                "{\"resources\":{},\"templateParameters\":{\"cid\":\"V\"}}");
        expect_mark("build.builds.queue", "CID", NULL, "{\"definition\":{\"id\":42}}",
                "{\"definition\":{\"id\":42},\"parameters\":\"{\\\"CID\\\":\\\"V\\\"}\"}");
        expect_mark("build.builds.queue", "CID", NULL, "{\"parameters\":\"{\\\"a\\\":\\\"1\\\"}\"}",
                "{\"parameters\":\"{\\\"a\\\":\\\"1\\\",\\\"CID\\\":\\\"V\\\"}\"}");
        expect_mark("release.releases.create", "CID", "cid", "{\"definitionId\":5}",
                "{\"definitionId\":5,\"variables\":{\"CID\":{\"value\":\"V\"}}}");
}

static void what_the_caller_set_is_not_set_again(void **state)
{
        (void)state;
        expect_mark("pipelines.runs.run", "CID", NULL,
                "{\"variables\":{\"cid\":{\"value\":\"x\"}}}", NULL);
        expect_mark("pipelines.runs.run", NULL, "cid", "{\"templateParameters\":{\"CID\":\"x\"}}",
                NULL);
        expect_mark("build.builds.queue", "CID", NULL,
                "{\"parameters\":\"{\\\"CID\\\":\\\"1\\\"}\"}", NULL);
        expect_mark("build.builds.queue", "CID", NULL, "{\"parameters\":7}", NULL);
        expect_mark("pipelines.runs.run", "CID", NULL, "[]", NULL);
        expect_mark("pipelines.runs.run", "CID", NULL, "{\"variables\":[]}", NULL);
        expect_mark("pipelines.runs.run", "CID", NULL, "{", NULL);
}

static void paths_hold_what_was_named_and_nothing_else(void **state)
{
        struct started_wanted it = wanted("pipelines.runs.run");
        struct str tags[] = {STR("a:b"), STR("c\"d")};
        enum service service;
        struct buf path, body;
        (void)state;

        buf_init(&path, STARTED_PATH_MOST_BYTES);
        buf_init(&body, 4096);
        assert_true(started_list_path(&it, &path, &service));
        assert_int_equal(service, SERVICE_DEV);
        assert_true(str_starts(buf_str(&path),
                STR("/contoso/ana%20lytics/_apis/build/builds?api-version=7.1&definitions=42&")));
        buf_reset(&path);
        assert_true(started_item_path(&it, STR("7"), &path, &service));
        assert_true(str_eq(buf_str(&path),
                STR("/contoso/ana%20lytics/_apis/pipelines/42/runs/7?api-version=7.1")));
        buf_reset(&path);
        assert_true(started_tags_write(&it, STR("7"), tags, 2, &path, &body, &service));
        assert_true(str_eq(buf_str(&path),
                STR("/contoso/ana%20lytics/_apis/build/builds/7/tags?api-version=7.1")));
        assert_true(str_eq(
                buf_str(&body), STR("{\"tagsToAdd\":[\"a:b\",\"c\\\"d\"],\"tagsToRemove\":[]}")));
        buf_reset(&path);
        assert_false(started_item_path(&it, STR("7/../8"), &path, &service));
        snprintf(it.project, sizeof(it.project), "a/b");
        assert_false(started_list_path(&it, &path, &service));
        it = wanted("pipelines.runs.run");
        it.definition[0] = '\0';
        assert_false(started_list_path(&it, &path, &service));
        it = wanted("build.builds.queue");
        buf_reset(&path);
        assert_true(started_item_path(&it, STR("7"), &path, &service));
        assert_true(str_eq(
                buf_str(&path), STR("/contoso/ana%20lytics/_apis/build/builds/7?api-version=7.1")));
        it = wanted("release.releases.create");
        buf_reset(&path);
        assert_true(started_list_path(&it, &path, &service));
        assert_int_equal(service, SERVICE_VSRM);
        buf_reset(&path);
        assert_true(started_item_path(&it, STR("7"), &path, &service));
        assert_int_equal(service, SERVICE_VSRM);
        assert_true(str_eq(buf_str(&path),
                STR("/contoso/ana%20lytics/_apis/release/releases/7?api-version=7.1")));
        assert_false(started_tags_write(&it, STR("7"), tags, 2, &path, &body, &service));
        buf_clear(&path);
        buf_clear(&body);
}

/* Reads a list of these items. */
static struct started_seen seen_in(struct started_wanted *it, const char *items)
{
        struct started_seen seen = {.newest_ms = 0};
        const char *why = NULL;
        char list[4096];

        snprintf(list, sizeof(list), "{\"value\":[%s]}", items);
        assert_true(started_list_read(it, str_of(list), &seen, &why));
        return seen;
}

static void a_run_is_found_by_its_mark_alone(void **state)
{
        struct started_wanted it = wanted("pipelines.runs.run");
        struct started_seen seen;
        (void)state;

        seen = seen_in(
                &it, "{\"id\":1},{\"id\":2,\"parameters\":\"{\\\"CID\\\":\\\"x/" MINE "\\\"}\"}");
        assert_string_equal(seen.found, "2");
        seen = seen_in(&it, "{\"id\":3,\"templateParameters\":{\"p\":\"x/" MINE "\"}}");
        assert_string_equal(seen.found, "3");
        seen = seen_in(&it, "{\"id\":4,\"tags\":[\"request:" MINE "\"]}");
        assert_string_equal(seen.found, "4");
}

static void what_might_be_it_is_neither_there_nor_absent(void **state)
{
        struct started_wanted it = wanted("pipelines.runs.run");
        struct started_seen seen;
        (void)state;

        seen = seen_in(&it, "");
        assert_true(!seen.found[0] && seen.n_maybe == 0);
        seen = seen_in(&it, "{\"id\":1},{\"id\":2,\"reason\":\"manual\"}");
        assert_true(!seen.found[0] && seen.n_maybe == 2);
        assert_string_equal(seen.shown[1], "2");
        /* The same correlation may be shared by several triggers of one caller. */
        seen = seen_in(&it, "{\"id\":1,\"tags\":[\"correlation:" CORRELATION "\"]}");
        assert_int_equal(seen.n_maybe, 1);
}

static void what_is_somebody_elses_is_not_it(void **state)
{
        struct started_wanted it = wanted("pipelines.runs.run");
        struct started_seen seen;
        (void)state;

        seen = seen_in(&it, "{\"id\":1,\"tags\":[\"correlation:" OTHER "\"]},"
                            "{\"id\":2,\"reason\":\"schedule\"},"
                            "{\"id\":3,\"parameters\":\"{\\\"CID\\\":\\\"" OTHER "\\\"}\"}");
        assert_true(!seen.found[0] && seen.n_maybe == 0);
        /* The name of the mark as a value is no mark. */
        seen = seen_in(&it, "{\"id\":3,\"parameters\":\"{\\\"x\\\":\\\"CID\\\"}\"}");
        assert_int_equal(seen.n_maybe, 1);
        it.any_reason = true;
        seen = seen_in(&it, "{\"id\":2,\"reason\":\"schedule\"}");
        assert_int_equal(seen.n_maybe, 1);
}

static void a_full_page_is_not_all(void **state)
{
        struct started_wanted it = wanted("pipelines.runs.run");
        struct started_seen seen = {.newest_ms = 0};
        const char *why = NULL;
        struct buf list;
        (void)state;

        buf_init(&list, 1 << 20);
        BUF_LITERAL(&list, "{\"value\":[");
        for (int i = 0; i < STARTED_PAGE; i++)
                buf_printf(&list,
                        "%s{\"id\":%d,\"reason\":\"schedule\",\"queueTime\":"
                        "\"2026-11-01T00:00:%02dZ\"}",
                        i ? "," : "", i + 1, i % 60);
        BUF_LITERAL(&list, "]}");
        assert_true(started_list_read(&it, buf_str(&list), &seen, &why));
        assert_true(seen.more && seen.n_maybe == 0);
        /* The same page once more: it does not move on, so what is behind it stays unknown. */
        assert_true(started_list_read(&it, buf_str(&list), &seen, &why));
        assert_true(!seen.more && seen.n_maybe == 1);
        buf_clear(&list);
        assert_false(started_list_read(&it, STR("{\"value\":7}"), &seen, &why));
        assert_false(started_list_read(&it, STR("<html>"), &seen, &why));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(three_operations_start_runs),
                cmocka_unit_test(only_a_whole_and_unambiguous_answer_names_a_run),
                cmocka_unit_test(an_answer_names_its_run),
                cmocka_unit_test(a_mark_is_put_where_each_kind_of_run_shows_it),
                cmocka_unit_test(what_the_caller_set_is_not_set_again),
                cmocka_unit_test(paths_hold_what_was_named_and_nothing_else),
                cmocka_unit_test(a_run_is_found_by_its_mark_alone),
                cmocka_unit_test(what_might_be_it_is_neither_there_nor_absent),
                cmocka_unit_test(what_is_somebody_elses_is_not_it),
                cmocka_unit_test(a_full_page_is_not_all),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
