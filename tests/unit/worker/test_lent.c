/* The credentials that callers of a worker have of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../../../src/worker/lent.h"

enum { MOST = 64 };

static void digest_of(unsigned n, unsigned char digest[TOKEN_DIGEST_BYTES])
{
        char text[16];

        snprintf(text, sizeof(text), "%u", n);
        token_digest(str_of(text), digest);
}

static struct credential *made(unsigned n, uint64_t generation, int64_t until)
{
        char token[16];

        snprintf(token, sizeof(token), "t%u", n);
        return credential_new(str_of(token), generation, until);
}

/* Puts one for caller `n` and keeps no reference of it. */
static void put(struct lent *lent, unsigned n, unsigned index, uint64_t generation, int64_t until)
{
        unsigned char digest[TOKEN_DIGEST_BYTES];
        struct credential *credential = made(n, generation, until);

        digest_of(n, digest);
        lent_put(lent, digest, index, credential);
        credential_unref(credential);
}

static struct credential *found(struct lent *lent, unsigned n, unsigned index, int64_t now)
{
        unsigned char digest[TOKEN_DIGEST_BYTES];

        digest_of(n, digest);
        return lent_find(lent, digest, index, now);
}

static void whoever_has_another_token_or_credential_has_nothing(void **state)
{
        struct lent *lent = lent_new(MOST);
        unsigned char digest[TOKEN_DIGEST_BYTES];

        (void)state;
        put(lent, 1, 3, 1, 1000);
        assert_non_null(found(lent, 1, 3, 0));
        assert_null(found(lent, 2, 3, 0));
        assert_null(found(lent, 1, 2, 0));
        /* Every byte of the digest counts, not those that find the set. */
        for (size_t i = 0; i < TOKEN_DIGEST_BYTES; i++) {
                digest_of(1, digest);
                digest[i] ^= 1;
                assert_null(lent_find(lent, digest, 3, 0));
        }
        lent_free(lent);
}

static void what_has_ended_is_not_found_and_dropped(void **state)
{
        struct lent *lent = lent_new(MOST);

        (void)state;
        put(lent, 1, 0, 1, 1000);
        put(lent, 2, 0, 1, 2000);
        assert_non_null(found(lent, 1, 0, 999));
        assert_null(found(lent, 1, 0, 1000));
        assert_int_equal(lent_held(lent), 1);
        lent_expire(lent, 1999);
        assert_int_equal(lent_held(lent), 1);
        lent_expire(lent, 2000);
        assert_int_equal(lent_held(lent), 0);
        lent_free(lent);
}

static void a_newer_one_takes_the_place_and_is_not_forgotten_for_the_old(void **state)
{
        struct lent *lent = lent_new(MOST);
        unsigned char digest[TOKEN_DIGEST_BYTES];

        (void)state;
        put(lent, 1, 0, 1, 1000);
        put(lent, 1, 0, 2, 1000);
        assert_int_equal(lent_held(lent), 1);
        digest_of(1, digest);
        lent_forget(lent, digest, 0, 1);
        assert_int_equal(found(lent, 1, 0, 0)->generation, 2);
        lent_forget(lent, digest, 0, 2);
        assert_null(found(lent, 1, 0, 0));
        lent_free(lent);
}

static void it_holds_no_more_than_it_may_and_nobody_gets_anothers(void **state)
{
        struct lent *lent = lent_new(MOST);
        unsigned kept = 0;

        (void)state;
        for (unsigned n = 0; n < 10000; n++) {
                put(lent, n, 0, 1, 1000);
                assert_in_range(lent_held(lent), 1, MOST);
                assert_non_null(found(lent, n, 0, 0));
        }
        for (unsigned n = 0; n < 10000; n++) {
                struct credential *credential = found(lent, n, 0, 0), *right = made(n, 1, 1000);
                if (credential)
                        assert_true(credential_same(credential, right));
                kept += credential != NULL;
                credential_unref(right);
        }
        assert_int_equal(kept, lent_held(lent));
        assert_int_equal(kept, MOST);
        lent_free(lent);
}

static void who_is_used_stays(void **state)
{
        struct lent *lent = lent_new(MOST);

        (void)state;
        put(lent, 1, 0, 1, 1000);
        for (unsigned n = 2; n < 2000; n++) {
                put(lent, n, 0, 1, 1000);
                assert_non_null(found(lent, 1, 0, 0));
        }
        lent_free(lent);
}

static void a_credential_in_use_outlives_the_cache(void **state)
{
        struct lent *lent = lent_new(MOST);

        (void)state;
        put(lent, 1, 0, 1, 1000);
        struct credential *mine = credential_ref(found(lent, 1, 0, 0));
        lent_clear(lent);
        assert_int_equal(lent_held(lent), 0);
        assert_null(found(lent, 1, 0, 0));
        assert_true(str_eq(credential_token(mine), STR("t1")));
        credential_unref(mine);
        lent_free(lent);
        lent_clear(NULL);
        lent_free(NULL);
        lent_expire(NULL, 0);
        assert_int_equal(lent_held(NULL), 0);
}

static void what_is_due_is_asked_for_once_in_a_while(void **state)
{
        const unsigned char digest[TOKEN_DIGEST_BYTES] = {9};
        struct lent *lent = lent_new(8);
        struct credential *one = credential_new(STR("one"), 1, 100000);
        struct credential *next = credential_new(STR("next"), 2, 200000);

        (void)state;
        one->refresh_mono_ms = 5000;
        lent_put(lent, digest, 0, one);
        assert_false(lent_is_due(lent, digest, 0, 4999));
        assert_true(lent_is_due(lent, digest, 0, 5000));
        assert_false(lent_is_due(lent, digest, 0, 5001));
        assert_false(lent_is_due(lent, digest, 1, 5001)); /* another credential's */
        lent_put(lent, digest, 0, one); /* the answer: there is nothing newer yet */
        assert_false(lent_is_due(lent, digest, 0, 5002));
        assert_true(lent_is_due(lent, digest, 0, 5000 + 15000));
        lent_put(lent, digest, 0, next); /* whose caller's token ends no later */
        assert_false(lent_is_due(lent, digest, 0, 199999));
        credential_unref(one);
        credential_unref(next);
        lent_free(lent);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(whoever_has_another_token_or_credential_has_nothing),
                cmocka_unit_test(what_has_ended_is_not_found_and_dropped),
                cmocka_unit_test(a_newer_one_takes_the_place_and_is_not_forgotten_for_the_old),
                cmocka_unit_test(it_holds_no_more_than_it_may_and_nobody_gets_anothers),
                cmocka_unit_test(who_is_used_stays),
                cmocka_unit_test(a_credential_in_use_outlives_the_cache),
                cmocka_unit_test(what_is_due_is_asked_for_once_in_a_while),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
