/* Requests that are made for proofs about policies hold what they were made of. */
#include "request.h"

#include <jansson.h>

#include "dagward/azdo/example.h"
#include "dagward/azdo/facts.h"

/* Names differ in length, so that a map's key is told from its value. */
#define VALUE "unit7"
#define KEY "unitKey"

static bool holds(const struct example *made, const char *text)
{
        return str_find_str(made->url, str_of(text)) >= 0 ||
               (made->body.ptr && str_find_str(made->body, str_of(text)) >= 0);
}

/* -1: it cannot be spelt; else whether the request holds it: `text`, and the key of a map. */
static int wished(
        const struct operation *op, const struct wish *wish, const char *text, bool is_map)
{
        struct arena arena;
        struct example made;
        int holds_it = -1;

        arena_init(&arena, 1 << 14, 1 << 20);
        if (operation_example(op, wish, 1, &arena, &made)) {
                holds_it = holds(&made, text) && (!is_map || holds(&made, KEY));
                if (made.body.ptr) {
                        json_t *body = json_loadb(made.body.ptr, made.body.len, 0, NULL);
                        if (!body)
                                fail_msg("%s: %.*s", op->id, STR_FMT(made.body));
                        json_decref(body);
                }
        }
        arena_clear(&arena);
        return holds_it;
}

static void each_fact_of_each_operation_can_be_said(void **state)
{
        size_t n_operations, n_kinds, said = 0, unsaid = 0;
        const struct operation *all = catalogue_all(&n_operations);
        const struct fact_kind *kinds = facts_all(&n_kinds);

        (void)state;
        for (size_t i = 0; i < n_operations; i++) {
                for (unsigned kind = 0; kind < n_kinds; kind++) {
                        struct wish wish = {.is_fact = true, .kind = kind, .value = STR(VALUE)};
                        if (kinds[kind].is_map)
                                wish.key = STR(KEY);
                        const char *text =
                                strcmp(kinds[kind].name, "deletesRef") == 0 ? "0000" : VALUE;
                        int got = wished(&all[i], &wish, text, kinds[kind].is_map);
                        if (!operation_has_fact(&all[i], kind))
                                assert_int_equal(got, -1);
                        if (got == 0)
                                fail_msg("%s does not say %s", all[i].id, kinds[kind].name);
                        said += got == 1;
                        unsaid += got < 0 && operation_has_fact(&all[i], kind);
                }
        }
        assert_true(said > 100);
        assert_true(unsaid < said / 10); /* those that a path says */
}

static void each_resource_that_a_request_can_name_is_named(void **state)
{
        size_t n_operations, named = 0;
        const struct operation *all = catalogue_all(&n_operations);

        (void)state;
        for (size_t i = 0; i < n_operations; i++) {
                for (unsigned kind = 0; kind < RESOURCE_KINDS; kind++) {
                        struct wish wish = {.kind = kind, .value = STR(VALUE)};
                        int got = wished(&all[i], &wish, VALUE, false);
                        if (got == 0)
                                fail_msg("%s does not name the %s", all[i].id,
                                        resource_kind_name(kind));
                        if (operation_takes(&all[i], kind) == TAKES_NONE)
                                assert_int_equal(got, -1);
                        named += got == 1;
                }
        }
        assert_true(named > 500);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_fact_of_each_operation_can_be_said),
                cmocka_unit_test(each_resource_that_a_request_can_name_is_named),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
