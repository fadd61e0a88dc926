#include "token_kit.h"

#include <jansson.h>

static struct mint_key *key;
static struct keyset *keys;

static int make_keys(void **state)
{
        (void)state;
        key = mint_key_generate(TOKEN_ES256, STR("k"));
        keys = kit_keyset(&key, 1);
        return 0;
}

static int drop_keys(void **state)
{
        (void)state;
        keyset_unref(keys);
        mint_key_free(key);
        return 0;
}

static enum token_verdict verify(const char *claims, const struct token_rules *rules, int64_t now_s,
        struct caller **caller, struct error *why)
{
        struct secret token = kit_sign(key, TOKEN_ES256, claims);
        struct issuer_view view = {rules, keys};
        unsigned index;
        enum token_verdict verdict =
                token_verify(secret_reveal(&token), &view, 1, now_s, caller, &index, why);

        secret_drop(&token);
        return verdict;
}

#define HEAD "{\"iss\":\"https://issuer.example\",\"aud\":\"dagward\",\"sub\":\"s\""
#define GOOD HEAD ",\"exp\":1800003600,\"iat\":1800000000"

static void claims_are_held_against_the_rules(void **state)
{
        static const struct {
                const char *claims;
                enum token_verdict verdict;
        } cases[] = {
                {GOOD "}", TOKEN_OK},
                {HEAD "}", TOKEN_MALFORMED},
                {HEAD ",\"exp\":1800000000}", TOKEN_OK}, /* within the skew */
                {HEAD ",\"exp\":1799999941}", TOKEN_OK},
                {HEAD ",\"exp\":1799999940}", TOKEN_EXPIRED},
                {HEAD ",\"exp\":1799999940.9}", TOKEN_EXPIRED},
                {HEAD ",\"exp\":1.8000001e9}", TOKEN_OK},
                {HEAD ",\"exp\":\"1800003600\"}", TOKEN_MALFORMED},
                {HEAD ",\"exp\":true}", TOKEN_MALFORMED},
                {HEAD ",\"exp\":1e300}", TOKEN_MALFORMED},
                {HEAD ",\"exp\":9007199254740993}", TOKEN_MALFORMED},
                {HEAD ",\"exp\":9007199254740992}", TOKEN_OK},
                {HEAD ",\"exp\":-9223372036854775808}", TOKEN_MALFORMED},
                {HEAD ",\"exp\":-5}", TOKEN_EXPIRED},
                {GOOD ",\"nbf\":1800000060}", TOKEN_OK},
                {GOOD ",\"nbf\":1800000060.1}", TOKEN_NOT_YET},
                {GOOD ",\"nbf\":1800000061}", TOKEN_NOT_YET},
                {GOOD ",\"nbf\":-1.5}", TOKEN_OK},
                {GOOD ",\"nbf\":null}", TOKEN_MALFORMED},
                {HEAD ",\"exp\":1800003600,\"iat\":1800000061}", TOKEN_NOT_YET},
                {HEAD ",\"exp\":1800003600,\"iat\":\"x\"}", TOKEN_MALFORMED},
                {"{\"iss\":\"https://issuer.example/\",\"aud\":\"dagward\",\"exp\":1800003600}",
                        TOKEN_UNKNOWN_ISSUER},
                {"{\"iss\":[\"https://issuer.example\"],\"aud\":\"dagward\",\"exp\":1800003600}",
                        TOKEN_UNKNOWN_ISSUER},
                {"{\"aud\":\"dagward\",\"exp\":1800003600}", TOKEN_UNKNOWN_ISSUER},
                {"{\"iss\":\"https://issuer.example\",\"aud\":[\"x\",\"api://dagward\"],"
                 "\"sub\":\"s\",\"exp\":1800003600}",
                        TOKEN_OK},
                {"{\"iss\":\"https://issuer.example\",\"aud\":[\"dagward\",7],\"sub\":\"s\","
                 "\"exp\":1800003600}",
                        TOKEN_WRONG_AUDIENCE},
                {"{\"iss\":\"https://issuer.example\",\"aud\":[],\"sub\":\"s\",\"exp\":1800003600}",
                        TOKEN_WRONG_AUDIENCE},
                {"{\"iss\":\"https://issuer.example\",\"sub\":\"s\",\"exp\":1800003600}",
                        TOKEN_WRONG_AUDIENCE},
                {"{\"iss\":\"https://issuer.example\",\"aud\":\"dagward\",\"exp\":1800003600}",
                        TOKEN_NO_SUBJECT},
                {"{\"iss\":\"https://issuer.example\",\"aud\":\"dagward\",\"exp\":1800003600,"
                 "\"sub\":\"a\\nb\"}",
                        TOKEN_NO_SUBJECT},
                {GOOD ",\"typ\":\"Bearer\"}", TOKEN_OK},
                {GOOD ",\"typ\":\"Refresh\"}", TOKEN_WRONG_KIND},
                {GOOD ",\"typ\":\"ID\"}", TOKEN_WRONG_KIND},
                {GOOD ",\"at_hash\":\"x\"}", TOKEN_WRONG_KIND},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct caller *caller;
                struct error why;
                enum token_verdict verdict =
                        verify(cases[i].claims, &kit_rules, NOW, &caller, &why);
                if (verdict != cases[i].verdict)
                        fail_msg("case %zu: %s", i, token_verdict_name(verdict));
                assert_int_equal(caller != NULL, verdict == TOKEN_OK);
                assert_int_equal(why.text[0] != '\0', verdict != TOKEN_OK);
                caller_unref(caller);
        }
}

static void a_life_too_long_is_refused(void **state)
{
        struct token_rules rules = kit_rules;
        struct caller *caller;
        static const struct {
                const char *claims;
                enum token_verdict verdict;
        } cases[] = {
                {HEAD ",\"exp\":1800003600,\"iat\":1800000000}", TOKEN_OK},
                {HEAD ",\"exp\":1800003601,\"iat\":1800000000}", TOKEN_TOO_LONG_LIVED},
                {HEAD ",\"exp\":1800000100,\"iat\":1700000000}", TOKEN_TOO_LONG_LIVED},
                {HEAD ",\"exp\":1800003600}", TOKEN_OK},
                {HEAD ",\"exp\":1800003601}", TOKEN_TOO_LONG_LIVED},
        };

        (void)state;
        rules.max_lifetime_s = 3600;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                assert_int_equal(
                        verify(cases[i].claims, &rules, NOW, &caller, NULL), cases[i].verdict);
                caller_unref(caller);
        }
}

static void a_required_claim_must_be_exactly_this(void **state)
{
        static const struct {
                struct pair require;
                const char *claims;
                bool met;
        } cases[] = {
                {{{"tid", 3}, {"a-b", 3}}, GOOD ",\"tid\":\"a-b\"}", true},
                {{{"tid", 3}, {"a-b", 3}}, GOOD ",\"tid\":\"A-b\"}", false},
                {{{"tid", 3}, {"a-b", 3}}, GOOD ",\"tid\":[\"a-b\"]}", false},
                {{{"tid", 3}, {"a-b", 3}}, GOOD "}", false},
                {{{"n", 1}, {"42", 2}}, GOOD ",\"n\":42}", true},
                {{{"n", 1}, {"42", 2}}, GOOD ",\"n\":42.0}", false},
                {{{"n", 1}, {"true", 4}}, GOOD ",\"n\":true}", true},
                {{{"n", 1}, {"true", 4}}, GOOD ",\"n\":false}", false},
                {{{"n", 1}, {"null", 4}}, GOOD ",\"n\":null}", false},
                {{{"k.ns", 4}, {"x", 1}}, GOOD ",\"k\":{\"ns\":\"x\"}}", true},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct token_rules rules = kit_rules;
                struct caller *caller;
                struct error why;
                rules.require = &cases[i].require;
                rules.n_require = 1;
                assert_int_equal(verify(cases[i].claims, &rules, NOW, &caller, &why),
                        cases[i].met ? TOKEN_OK : TOKEN_REQUIRED_CLAIM);
                if (!cases[i].met)
                        assert_non_null(strstr(why.text, "is not what the configuration requires"));
                caller_unref(caller);
        }
}

static void roles_come_from_several_claims(void **state)
{
        static const struct {
                const char *claims, *roles; /* with '|' between */
        } cases[] = {
                {GOOD "}", ""},
                {GOOD ",\"roles\":[\"a\",\"b c\"]}", "a|b c"},
                {GOOD ",\"roles\":\"a\"}", "a"},
                {GOOD ",\"roles\":\" a  b \"}", "a|b"},
                {GOOD ",\"roles\":\"\"}", ""},
                {GOOD ",\"roles\":7}", ""},
                {GOOD ",\"roles\":{\"a\":true}}", ""},
                {GOOD ",\"roles\":[7,\"a\",null,\"\"]}", "a"},
                {GOOD ",\"realm_access\":{\"roles\":[\"x\"]},\"roles\":[\"a\"]}", "a|x"},
                {GOOD ",\"realm_access.roles\":[\"y\"]}", "y"},
                {GOOD ",\"realm_access.roles\":[\"y\"],\"realm_access\":{\"roles\":[\"x\"]}}", "y"},
                {GOOD ",\"realm_access\":[\"x\"]}", ""},
                {GOOD ",\"https://example.com/roles\":\"z\"}", "z"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct caller *caller;
                struct buf text;
                char memory[256];
                assert_int_equal(verify(cases[i].claims, &kit_rules, NOW, &caller, NULL), TOKEN_OK);
                buf_init_fixed(&text, memory, sizeof(memory));
                for (size_t j = 0; j < caller->n_roles; j++) {
                        if (j)
                                buf_char(&text, '|');
                        buf_str_add(&text, caller->roles[j]);
                }
                if (!str_eq(buf_str(&text), str_of(cases[i].roles)))
                        fail_msg("case %zu: %.*s", i, STR_FMT(buf_str(&text)));
                caller_unref(caller);
        }
}

static void too_many_roles_are_not_cut_short(void **state)
{
        struct buf claims;
        struct caller *caller;

        (void)state;
        buf_init(&claims, 1 << 16);
        BUF_LITERAL(&claims, GOOD ",\"roles\":\"r");
        for (int i = 1; i < TOKEN_MOST_ROLES; i++)
                BUF_LITERAL(&claims, " r");
        size_t full = claims.len;
        buf_add(&claims, "\"}", 3);
        assert_int_equal(verify(claims.data, &kit_rules, NOW, &caller, NULL), TOKEN_OK);
        assert_int_equal(caller->n_roles, TOKEN_MOST_ROLES);
        caller_unref(caller);
        claims.len = full;
        buf_add(&claims, " r\"}", 5);
        assert_int_equal(verify(claims.data, &kit_rules, NOW, &caller, NULL), TOKEN_TOO_MANY_ROLES);
        assert_null(caller);
        buf_clear(&claims);
}

static void a_caller_holds_what_the_token_said(void **state)
{
        struct caller *caller;

        (void)state;
        assert_int_equal(verify(GOOD ",\"jti\":\"id-7\",\"hasgroups\":true,\"x\":{\"y\":1}}",
                                 &kit_rules, NOW, &caller, NULL),
                TOKEN_OK);
        assert_true(str_eq(caller->issuer, STR("kit")));
        assert_true(str_eq(caller->iss, STR("https://issuer.example")));
        assert_true(str_eq(caller->subject, STR("s")));
        assert_true(str_eq(caller->token_id, STR("id-7")));
        assert_int_equal(caller->issuer_index, 0);
        assert_true(caller->groups_unknown);
        assert_true(caller->expires_s == 1800003600);
        assert_true(caller->issued_s == 1800000000);
        assert_int_equal(tree_at(caller->claims, STR("x.y"))->whole, 1);
        assert_null(tree_at(caller->claims, STR("x.z")));
        assert_null(tree_at(caller->claims, STR("")));
        caller_unref(caller);

        assert_int_equal(
                verify(HEAD ",\"exp\":1800003600,\"jti\":7}", &kit_rules, NOW, &caller, NULL),
                TOKEN_OK);
        assert_int_equal(caller->token_id.len, 7 + 32);
        assert_true(str_starts(caller->token_id, STR("sha256:")));
        assert_true(caller->issued_s == INT64_MIN);
        assert_false(caller->groups_unknown);
        caller_unref(caller);
}

/* What is refused before a key is looked at must not need one. */
static void cheap_checks_come_before_the_signature(void **state)
{
        static const struct {
                const char *claims;
                enum token_verdict with_stranger; /* signed with a key the issuer does not have */
        } cases[] = {
                {GOOD "}", TOKEN_BAD_SIGNATURE},
                {HEAD ",\"exp\":1}", TOKEN_EXPIRED},
                {HEAD ",\"exp\":1800003600,\"nbf\":1900000000}", TOKEN_NOT_YET},
                {"{\"iss\":\"x\",\"exp\":1800003600}", TOKEN_UNKNOWN_ISSUER},
                {"{\"iss\":\"https://issuer.example\",\"aud\":\"x\",\"exp\":1800003600}",
                        TOKEN_WRONG_AUDIENCE},
        };
        struct mint_key *stranger = mint_key_generate(TOKEN_ES256, STR("k"));
        struct issuer_view view = {&kit_rules, keys};
        struct caller *caller;
        unsigned index;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct secret token = kit_sign(stranger, TOKEN_ES256, cases[i].claims);
                assert_int_equal(
                        token_verify(secret_reveal(&token), &view, 1, NOW, &caller, &index, NULL),
                        cases[i].with_stranger);
                assert_int_equal(index, i == 3 ? 1 : 0);
                secret_drop(&token);
        }
        mint_key_free(stranger);
}

static void the_algorithm_is_the_issuers_choice_and_the_keys(void **state)
{
        struct mint_key *rsa = mint_key_generate(TOKEN_RS256, STR("r"));
        struct keyset *set = kit_keyset(&rsa, 1);
        struct token_rules rules = kit_rules;
        struct issuer_view view = {&rules, set};
        struct caller *caller;
        unsigned index;

        (void)state;
        rules.algorithms = TOKEN_ALGS_DEFAULT;
        for (int alg = TOKEN_RS256; alg <= TOKEN_PS512; alg++) {
                struct secret token = kit_sign(rsa, (enum token_alg)alg, GOOD "}");
                assert_int_equal(
                        token_verify(secret_reveal(&token), &view, 1, NOW, &caller, &index, NULL),
                        alg == TOKEN_RS256 ? TOKEN_OK : TOKEN_WRONG_ALG);
                caller_unref(caller);
                secret_drop(&token);
        }
        /* allowed, but the key of that name is another kind */
        struct mint_key *named_r = mint_key_generate(TOKEN_ES256, STR("r"));
        struct secret token = kit_sign(named_r, TOKEN_ES256, GOOD "}");
        assert_int_equal(token_verify(secret_reveal(&token), &view, 1, NOW, &caller, &index, NULL),
                TOKEN_WRONG_ALG);
        secret_drop(&token);
        mint_key_free(named_r);
        keyset_unref(set);
        mint_key_free(rsa);
}

static void unknown_keys_are_told_from_missing_sets(void **state)
{
        struct mint_key *next = mint_key_generate(TOKEN_ES256, STR("next"));
        struct secret token = kit_sign(next, TOKEN_ES256, GOOD "}");
        struct issuer_view views[] = {{&kit_rules, keys}, {&kit_rules, NULL}};
        struct caller *caller;
        struct error why;
        unsigned index = 9;

        (void)state;
        assert_int_equal(
                token_verify(secret_reveal(&token), &views[0], 1, NOW, &caller, &index, &why),
                TOKEN_UNKNOWN_KID);
        assert_int_equal(index, 0);
        assert_string_equal(why.text, token_verdict_text(TOKEN_UNKNOWN_KID));
        assert_int_equal(
                token_verify(secret_reveal(&token), &views[1], 1, NOW, &caller, &index, &why),
                TOKEN_NO_KEYS);
        assert_int_equal(token_verify(secret_reveal(&token), NULL, 0, NOW, &caller, &index, &why),
                TOKEN_UNKNOWN_ISSUER);
        assert_int_equal(index, 0);
        secret_drop(&token);
        mint_key_free(next);
}

static void what_is_no_jwt_is_named(void **state)
{
        static char large[TOKEN_MOST_BYTES + 2];
        struct issuer_view view = {&kit_rules, keys};
        struct caller *caller;
        unsigned index;
        static const struct {
                const char *text;
                enum token_verdict verdict;
        } cases[] = {
                {"", TOKEN_PAT}, {"hunter2", TOKEN_PAT}, {"a.b", TOKEN_PAT},
                {"a.b.c.d.e", TOKEN_PAT}, {"a.b.c", TOKEN_MALFORMED},
                {"e30.e30.AA", TOKEN_WRONG_ALG}, {"W10.e30.AA", TOKEN_MALFORMED},
                {"eyJ0eXAiOiJKT1NFIiwiYWxnIjoiRVMyNTYifQ.e30.AA",
                        TOKEN_WRONG_KIND}, /* {"typ":"JOSE","alg":"ES256"} */
                {"eyJ0eXAiOiJhcHBsaWNhdGlvbi9hdCtqd3QiLCJhbGciOiJFUzI1NiJ9.e30.AA",
                        TOKEN_UNKNOWN_ISSUER}, /* {"typ":"application/at+jwt","alg":"ES256"} */
                {"eyJ0eXAiOiJhcHBsaWNhdGlvbi9qd2siLCJhbGciOiJFUzI1NiJ9.e30.AA",
                        TOKEN_WRONG_KIND}, /* {"typ":"application/jwk","alg":"ES256"} */
                {"eyJhbGciOiJFUzI1NiIsImtpZCI6N30.e30.AA",
                        TOKEN_MALFORMED}, /* {"alg":"ES256","kid":7} */
                {"eyJhbGciOiJFUzI1NiIsImtpZCI6IiJ9.e30.AA",
                        TOKEN_MALFORMED}, /* {"alg":"ES256","kid":""} */
                {"eyJhbGciOiJFUzI1NiIsImNyaXQiOltdfQ.e30.AA",
                        TOKEN_WRONG_KIND}, /* {"alg":"ES256","crit":[]} */
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_int_equal(
                        token_verify(str_of(cases[i].text), &view, 1, NOW, &caller, &index, NULL),
                        cases[i].verdict);
        memset(large, 'a', sizeof(large));
        assert_int_equal(token_verify(str_view(large, TOKEN_MOST_BYTES + 1), &view, 1, NOW, &caller,
                                 &index, NULL),
                TOKEN_TOO_LARGE);
        memcpy(large + 4, ".a.", 3);
        assert_int_equal(token_verify(str_view(large, TOKEN_MOST_BYTES), &view, 1, NOW, &caller,
                                 &index, NULL),
                TOKEN_MALFORMED);
        memset(large, 'a', 100);
        memcpy(large + 9000, ".a.", 3); /* a header of 9000 characters */
        assert_int_equal(token_verify(str_view(large, TOKEN_MOST_BYTES), &view, 1, NOW, &caller,
                                 &index, NULL),
                TOKEN_MALFORMED);
}

static void json_too_deep_or_too_wide_is_refused(void **state)
{
        struct buf claims;
        struct caller *caller;

        (void)state;
        buf_init(&claims, 1 << 16);
        for (int depth = TOKEN_MOST_DEPTH - 1; depth <= TOKEN_MOST_DEPTH; depth++) {
                buf_reset(&claims);
                BUF_LITERAL(&claims, GOOD ",\"text\":\"\\\"[[[[\",\"x\":");
                for (int i = 0; i < depth; i++)
                        buf_char(&claims, '[');
                for (int i = 0; i < depth; i++)
                        buf_char(&claims, ']');
                buf_add(&claims, "}", 2);
                assert_int_equal(verify(claims.data, &kit_rules, NOW, &caller, NULL),
                        depth < TOKEN_MOST_DEPTH ? TOKEN_OK : TOKEN_MALFORMED);
                caller_unref(caller);
        }
        buf_reset(&claims);
        BUF_LITERAL(&claims, GOOD ",\"x\":[1");
        for (int i = 0; i < TOKEN_MOST_VALUES; i++)
                BUF_LITERAL(&claims, ",1");
        buf_add(&claims, "]}", 3);
        assert_int_equal(verify(claims.data, &kit_rules, NOW, &caller, NULL), TOKEN_MALFORMED);
        buf_clear(&claims);
}

static void every_verdict_has_words(void **state)
{
        (void)state;
        for (int v = 0; v < TOKEN_VERDICT_COUNT; v++) {
                assert_true(strlen(token_verdict_text((enum token_verdict)v)) > 10);
                for (int w = 0; w < v; w++)
                        assert_string_not_equal(token_verdict_name((enum token_verdict)v),
                                token_verdict_name((enum token_verdict)w));
        }
        for (int a = 0; a < TOKEN_ALG_COUNT; a++) {
                enum token_alg alg;
                assert_true(token_alg_named(str_of(token_alg_name((enum token_alg)a)), &alg));
                assert_int_equal(alg, a);
        }
        enum token_alg alg;
        static const char *const others[] = {"none", "HS256", "rs256", "RS256 ", "", "ES256K"};
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
                assert_false(token_alg_named(str_of(others[i]), &alg));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(claims_are_held_against_the_rules),
                cmocka_unit_test(a_life_too_long_is_refused),
                cmocka_unit_test(a_required_claim_must_be_exactly_this),
                cmocka_unit_test(roles_come_from_several_claims),
                cmocka_unit_test(too_many_roles_are_not_cut_short),
                cmocka_unit_test(a_caller_holds_what_the_token_said),
                cmocka_unit_test(cheap_checks_come_before_the_signature),
                cmocka_unit_test(the_algorithm_is_the_issuers_choice_and_the_keys),
                cmocka_unit_test(unknown_keys_are_told_from_missing_sets),
                cmocka_unit_test(what_is_no_jwt_is_named),
                cmocka_unit_test(json_too_deep_or_too_wide_is_refused),
                cmocka_unit_test(every_verdict_has_words),
        };
        return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
