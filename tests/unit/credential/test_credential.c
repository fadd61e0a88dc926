#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/credential/credential.h"

static void a_credential_is_a_ready_made_header_line(void **state)
{
        (void)state;
        struct credential *one = credential_new(STR("eyJ.a-b_~+/=="), 7, 1000);
        assert_non_null(one);
        assert_true(
                str_eq(secret_reveal(&one->line), STR("Authorization: Bearer eyJ.a-b_~+/==\r\n")));
        assert_int_equal(one->generation, 7);
        credential_unref(one);
}

static void a_token_that_could_end_its_line_is_no_credential(void **state)
{
        static const char *const bad[] = {
                "", "=", "a b", "a\r\nX-Evil: 1", "a\n", "a=b", "\"a\"", "t\xc3\xa9", "a,b"};
        char nul[] = {'a', '\0', 'b'};
        char *large = malloc(CREDENTIAL_TOKEN_MOST_BYTES + 1);

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                assert_null(credential_new(str_of(bad[i]), 1, 1));
        assert_null(credential_new(str_view(nul, sizeof(nul)), 1, 1));
        memset(large, 'a', CREDENTIAL_TOKEN_MOST_BYTES + 1);
        assert_null(credential_new(str_view(large, CREDENTIAL_TOKEN_MOST_BYTES + 1), 1, 1));
        struct credential *fits =
                credential_new(str_view(large, CREDENTIAL_TOKEN_MOST_BYTES), 1, 1);
        assert_non_null(fits);
        credential_unref(fits);
        free(large);
}

static void an_expired_or_missing_credential_is_never_lent(void **state)
{
        struct credential *one = credential_new(STR("one"), 3, 1000);
        struct credential_slot slots[] = {
                {STR("etl"), STR("federated"), one}, {STR("reader"), STR("static_file"), NULL}};
        unsigned index;

        (void)state;
        struct credential_store *store = credential_store_new(slots, 2);
        credential_unref(one); /* the store has its own reference */
        assert_true(credential_find(store, STR("reader"), &index));
        assert_int_equal(index, 1);
        assert_null(credential_lend(store, index, 0));
        assert_int_equal(credential_generation(store, index), 0);
        assert_true(credential_find(store, STR("etl"), &index));
        assert_ptr_equal(credential_lend(store, index, 999), one);
        assert_null(credential_lend(store, index, 1000));
        assert_int_equal(credential_generation(store, index), 3);
        assert_true(str_eq(store->slots[0].type, STR("federated")));
        assert_false(credential_find(store, STR("ETL"), &index));
        credential_store_unref(store);
}

static void a_credential_outlives_the_store_it_was_lent_from(void **state)
{
        struct credential *one = credential_new(STR("one"), 1, 1000);
        struct credential_slot slot = {STR("etl"), STR("federated"), one};

        (void)state;
        struct credential_store *store = credential_store_new(&slot, 1);
        struct credential_store *next = credential_store_new(&slot, 1);
        credential_unref(one);
        struct credential *lent = credential_ref((struct credential *)credential_lend(store, 0, 0));
        credential_store_unref(store);
        credential_store_unref(next);
        assert_true(str_eq(secret_reveal(&lent->line), STR("Authorization: Bearer one\r\n")));
        credential_unref(lent);
}

static void a_password_is_lent_as_Basic(void **state)
{
        struct credential *one = credential_new_basic(STR("OnBhdA=="), 1, 1);
        struct credential *same = credential_new_basic(STR("OnBhdA=="), 2, 9);
        struct credential *bearer = credential_new(STR("OnBhdA=="), 3, 1);

        (void)state;
        assert_true(str_eq(secret_reveal(&one->line), STR("Authorization: Basic OnBhdA==\r\n")));
        assert_true(str_eq(credential_field(one), STR("Authorization: Basic OnBhdA==")));
        assert_true(str_empty(credential_token(one)));
        assert_true(str_eq(credential_token(bearer), STR("OnBhdA==")));
        assert_true(credential_same(one, same));
        assert_false(credential_same(one, bearer));
        assert_null(credential_new_basic(STR("a b"), 1, 1));
        credential_unref(one);
        credential_unref(same);
        credential_unref(bearer);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_password_is_lent_as_Basic),
                cmocka_unit_test(a_credential_is_a_ready_made_header_line),
                cmocka_unit_test(a_token_that_could_end_its_line_is_no_credential),
                cmocka_unit_test(an_expired_or_missing_credential_is_never_lent),
                cmocka_unit_test(a_credential_outlives_the_store_it_was_lent_from),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
