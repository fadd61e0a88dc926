/* Lists of requests inside a request: taken apart, put together, or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dagward/azdo/batch.h"

#define ITEM(members) "[{" members "}]"
#define HEADERS "\"headers\":{\"Content-Type\":\"application/json-patch+json\"}"

static void items_are_taken_out_and_written_with_new_addresses(void **state)
{
        const char *why = "";
        struct arena arena;
        struct batch_item item;
        struct buf out;
        struct batch *batch = batch_open(
                STR("[{\"method\":\"PATCH\",\"uri\":\"/_apis/wit/workItems/"
                    "7?api-version=7.1\"," HEADERS ",\"body\":[{\"op\":\"add\",\"path\":\"/fields/"
                    "System.Title\",\"value\":\"x\"}]},"
                    "{\"method\":\"GET\",\"uri\":\"/_apis/wit/workItems/8?a=b+c\"}]"),
                &why);

        (void)state;
        assert_non_null(batch);
        assert_int_equal(batch_count(batch), 2);
        arena_init(&arena, 4096, 65536);
        assert_true(batch_item(batch, 0, &arena, &item, &why));
        assert_true(str_eq(item.method, STR("PATCH")));
        assert_true(str_eq(item.uri, STR("/_apis/wit/workItems/7?api-version=7.1")));
        assert_true(str_find_str(item.body, STR("System.Title")) > 0);
        assert_true(batch_item(batch, 1, &arena, &item, &why));
        assert_int_equal(item.body.len, 0);
        batch_readdress(batch, 0, STR("/analytics/_apis/wit/workitems/7"));
        buf_init(&out, 65536);
        batch_write(batch, &out);
        assert_true(str_find_str(buf_str(&out), STR("\"/analytics/_apis/wit/workitems/7\"")) > 0);
        assert_true(str_find_str(buf_str(&out), STR("workItems/7?")) < 0);
        buf_clear(&out);
        arena_clear(&arena);
        batch_free(batch);
}

/* Either the list or its only item is refused, with a reason. */
static void what_could_be_read_in_two_ways_is_refused(void **state)
{
        static const char *const cases[] = {
                "",
                "{}",
                "[]",
                "[1]",
                "[[]]",
                "[{\"method\":\"GET\"}]",
                ITEM("\"method\":\"GET\",\"method\":\"PATCH\",\"uri\":\"/_apis/x\""),
                ITEM("\"method\":\"GET\",\"Method\":\"PATCH\",\"uri\":\"/_apis/x\""),
                ITEM("\"method\":\"GET\",\"uri\":\"https://evil.example/_apis/x\""),
                ITEM("\"method\":\"GET\",\"uri\":\"//evil.example/_apis/x\""),
                ITEM("\"method\":\"GET\",\"uri\":\"_apis/x\""),
                ITEM("\"method\":\"GET\",\"uri\":\"/pay+roll/_apis/x\""),
                ITEM("\"method\":\"GET\",\"uri\":\"/pay%2Broll/_apis/x\""),
                ITEM("\"method\":\"GET\",\"uri\":\"/pay%2broll/_apis/x?a=b\""),
                ITEM("\"method\":7,\"uri\":\"/_apis/x\""),
                ITEM("\"method\":\"GET\",\"uri\":\"/_apis/x\",\"impersonate\":\"me\""),
                ITEM("\"method\":\"POST\",\"uri\":\"/_apis/x\",\"headers\":{"
                     "\"X-HTTP-Method-Override\":\"DELETE\"}"),
                ITEM("\"method\":\"POST\",\"uri\":\"/_apis/"
                     "x\",\"headers\":{\"Authorization\":\"x\"}"),
                ITEM("\"method\":\"POST\",\"uri\":\"/_apis/x\",\"headers\":{\"Content-Type\":"
                     "\"application/json\",\"content-type\":\"text/plain\"}"),
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const char *why = NULL;
                struct arena arena;
                struct batch_item item;
                struct batch *batch = batch_open(str_of(cases[i]), &why);
                arena_init(&arena, 4096, 65536);
                bool good = batch && batch_item(batch, 0, &arena, &item, &why);
                if (good)
                        print_error("case %zu was taken\n", i);
                assert_false(good);
                assert_non_null(why);
                arena_clear(&arena);
                batch_free(batch);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(items_are_taken_out_and_written_with_new_addresses),
                cmocka_unit_test(what_could_be_read_in_two_ways_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
