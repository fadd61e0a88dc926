#include "token_kit.h"

#include "dagward/token/verdicts.h"

#define CLAIMS                                                                                     \
        "{\"iss\":\"https://issuer.example\",\"aud\":\"dagward\",\"sub\":\"s%d\","                 \
        "\"exp\":%" PRId64 "}"

enum { NOW_MONO_MS = 5000000 };

static struct mint_key *key;
static struct keyset *keys, *other_keys;
static struct issuer_view view;

static int make_keys(void **state)
{
        struct mint_key *other = mint_key_generate(TOKEN_EDDSA, STR("other"));

        (void)state;
        key = mint_key_generate(TOKEN_EDDSA, STR("k"));
        keys = kit_keyset(&key, 1);
        other_keys = kit_keyset(&other, 1);
        mint_key_free(other);
        view = (struct issuer_view){&kit_rules, keys};
        return 0;
}

static int drop_keys(void **state)
{
        (void)state;
        keyset_unref(keys);
        keyset_unref(other_keys);
        mint_key_free(key);
        return 0;
}

/* Signs, verifies and remembers a token for subject `n`. */
static struct secret remember(struct verdicts *verdicts, int n, int64_t exp_s)
{
        char claims[256];
        struct caller *caller;
        unsigned index;

        snprintf(claims, sizeof(claims), CLAIMS, n, exp_s);
        struct secret token = kit_sign(key, TOKEN_EDDSA, claims);
        assert_int_equal(token_verify(secret_reveal(&token), &view, 1, NOW, &caller, &index, NULL),
                TOKEN_OK);
        verdicts_put(verdicts, secret_reveal(&token), caller, &view, 1, 7,
                &(struct verdicts_now){NOW, NOW_MONO_MS});
        caller_unref(caller);
        return token;
}

static bool found(struct verdicts *verdicts, struct str token, const struct keyset *now_keys,
        uint64_t config, int64_t now_s)
{
        struct issuer_view now_view = {&kit_rules, now_keys};
        const struct verdicts_now now = {now_s, NOW_MONO_MS + (now_s - NOW) * 1000};
        bool ended;
        struct caller *caller = verdicts_find(verdicts, token, &now_view, 1, config, &now, &ended);

        caller_unref(caller);
        return caller != NULL;
}

static void a_verdict_holds_only_for_what_it_was_made_from(void **state)
{
        static const struct {
                bool same_keys, no_keys;
                uint64_t config;
                int64_t now_s;
                bool hit;
        } cases[] = {
                {true, false, 7, NOW, true},
                {true, false, 7, NOW + 99, true},
                {true, false, 7, NOW + 100, false}, /* exp, without any skew */
                {true, false, 8, NOW, false},
                {false, false, 7, NOW, false},
                {false, true, 7, NOW, false},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct verdicts *verdicts = verdicts_new(8);
                struct secret token = remember(verdicts, 1, NOW + 100);
                const struct keyset *now_keys = cases[i].same_keys ? keys
                                                : cases[i].no_keys ? NULL
                                                                   : other_keys;
                assert_true(found(verdicts, secret_reveal(&token), keys, 7, NOW));
                assert_int_equal(found(verdicts, secret_reveal(&token), now_keys, cases[i].config,
                                         cases[i].now_s),
                        cases[i].hit);
                /* what no longer held is gone for good */
                assert_int_equal(
                        found(verdicts, secret_reveal(&token), keys, 7, NOW), cases[i].hit);
                secret_drop(&token);
                verdicts_free(verdicts);
        }
}

static void every_byte_of_the_token_counts(void **state)
{
        struct verdicts *verdicts = verdicts_new(8);
        struct secret token = remember(verdicts, 1, NOW + 100);
        struct str all = secret_reveal(&token);
        char *changed = str_dup(all);

        (void)state;
        for (size_t i = 0; i < all.len; i++) {
                changed[i] = (char)(changed[i] ^ 1);
                assert_false(found(verdicts, str_view(changed, all.len), keys, 7, NOW));
                changed[i] = (char)(changed[i] ^ 1);
        }
        assert_true(found(verdicts, str_view(changed, all.len), keys, 7, NOW));
        for (size_t len = 0; len < all.len; len++)
                assert_false(found(verdicts, str_head(all, len), keys, 7, NOW));
        assert_false(found(verdicts, str_from(all, 1), keys, 7, NOW));
        free(changed);
        secret_drop(&token);
        verdicts_free(verdicts);
}

static void the_cache_is_bounded_and_keeps_what_is_used(void **state)
{
        struct verdicts *verdicts = verdicts_new(16);
        struct verdicts_counts counts;
        struct secret favourite = remember(verdicts, 0, NOW + 100);

        (void)state;
        for (int i = 1; i < 200; i++) {
                struct secret token = remember(verdicts, i, NOW + 100);
                assert_true(found(verdicts, secret_reveal(&token), keys, 7, NOW));
                assert_true(found(verdicts, secret_reveal(&favourite), keys, 7, NOW));
                secret_drop(&token);
        }
        verdicts_count(verdicts, &counts);
        assert_true(counts.held <= 16);
        assert_true(counts.evictions >= 200 - 16);
        assert_int_equal(counts.hits, 2 * 199);
        secret_drop(&favourite);
        verdicts_free(verdicts);
}

static void the_dead_are_cleared_away(void **state)
{
        struct verdicts *verdicts = verdicts_new(64);
        struct verdicts_counts counts;

        (void)state;
        for (int i = 0; i < 4; i++) {
                struct secret token = remember(verdicts, i, NOW + 100 + 100 * (i % 2));
                secret_drop(&token);
        }
        verdicts_expire(verdicts, NOW + 99);
        verdicts_count(verdicts, &counts);
        assert_int_equal(counts.held, 4);
        verdicts_expire(verdicts, NOW + 100);
        verdicts_count(verdicts, &counts);
        assert_int_equal(counts.held, 2);
        verdicts_expire(verdicts, NOW + 200);
        verdicts_count(verdicts, &counts);
        assert_int_equal(counts.held, 0);
        verdicts_free(verdicts);
}

static void putting_twice_keeps_one(void **state)
{
        struct verdicts *verdicts = verdicts_new(8);
        struct verdicts_counts counts;
        struct secret a = remember(verdicts, 1, NOW + 100), b = remember(verdicts, 1, NOW + 100);

        (void)state;
        assert_true(str_eq(secret_reveal(&a), secret_reveal(&b))); /* EdDSA signs the same way */
        verdicts_count(verdicts, &counts);
        assert_int_equal(counts.held, 1);
        assert_int_equal(counts.evictions, 0);
        secret_drop(&a);
        secret_drop(&b);
        verdicts_free(verdicts);
}

static void a_caller_outlives_the_cache(void **state)
{
        struct verdicts *verdicts = verdicts_new(8);
        struct secret token = remember(verdicts, 5, NOW + 100);
        struct caller *caller = verdicts_find(verdicts, secret_reveal(&token), &view, 1, 7,
                &(struct verdicts_now){NOW, NOW_MONO_MS}, &(bool){false});

        (void)state;
        verdicts_free(verdicts);
        secret_drop(&token);
        assert_non_null(caller);
        assert_true(str_eq(caller->subject, STR("s5")));
        caller_unref(caller);
}

static void a_clock_that_is_set_makes_no_token_live_longer(void **state)
{
        static const struct {
                int64_t wall_s, mono_ms;
                bool hit, ended;
        } cases[] = {
                {NOW - 3600, NOW_MONO_MS + 99999, true, false},
                {NOW - 3600, NOW_MONO_MS + 100000, false, true},
                {NOW - 3600, NOW_MONO_MS + 3600000, false,
                        true}, /* and again: it is not forgotten */
                {NOW + 3600, NOW_MONO_MS + 1, false, false},
        };
        struct verdicts *verdicts = verdicts_new(8);
        struct secret token = remember(verdicts, 1, NOW + 100);

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const struct verdicts_now now = {cases[i].wall_s, cases[i].mono_ms};
                bool ended;
                struct caller *caller =
                        verdicts_find(verdicts, secret_reveal(&token), &view, 1, 7, &now, &ended);
                assert_int_equal(caller != NULL, cases[i].hit);
                assert_int_equal(ended, cases[i].ended);
                caller_unref(caller);
        }
        secret_drop(&token);
        verdicts_free(verdicts);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_verdict_holds_only_for_what_it_was_made_from),
                cmocka_unit_test(every_byte_of_the_token_counts),
                cmocka_unit_test(the_cache_is_bounded_and_keeps_what_is_used),
                cmocka_unit_test(the_dead_are_cleared_away),
                cmocka_unit_test(putting_twice_keeps_one),
                cmocka_unit_test(a_caller_outlives_the_cache),
                cmocka_unit_test(a_clock_that_is_set_makes_no_token_live_longer),
        };
        return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
