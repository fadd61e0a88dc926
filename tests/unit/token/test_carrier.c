#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "dagward/token/carrier.h"
#include "dagward/token/token.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* "Basic " and the pair; static memory. */
static const char *basic(const char *pair)
{
        static char out[64 * 1024];
        size_t len = strlen(pair), o = 6;

        memcpy(out, "Basic ", 6);
        for (size_t i = 0; i < len; i += 3) {
                unsigned left = (unsigned)(len - i);
                unsigned word = (unsigned)(unsigned char)pair[i] << 16 |
                                (left > 1 ? (unsigned)(unsigned char)pair[i + 1] << 8 : 0) |
                                (left > 2 ? (unsigned char)pair[i + 2] : 0);
                out[o++] = alphabet[word >> 18];
                out[o++] = alphabet[word >> 12 & 63];
                out[o++] = left > 1 ? alphabet[word >> 6 & 63] : '=';
                out[o++] = left > 2 ? alphabet[word & 63] : '=';
        }
        out[o] = '\0';
        return out;
}

struct seen {
        enum carrier_result result;
        char token[32 * 1024], user[512];
        enum token_via via;
};

static struct seen look(const char *first, const char *second, const char *header)
{
        static struct seen seen;
        struct str authorization[2] = {str_of(first), str_of(second)}, own = str_of(header), token,
                   user;
        struct arena arena;

        memset(&seen, 0, sizeof(seen));
        arena_init(&arena, 1024, 1 << 20);
        seen.result = carrier_find(authorization, (size_t)(first != NULL) + (second != NULL), &own,
                header != NULL, &arena, &token, &seen.via, &user);
        memcpy(seen.token, token.ptr ? token.ptr : "", token.len);
        memcpy(seen.user, user.ptr ? user.ptr : "", user.len);
        arena_clear(&arena);
        return seen;
}

#define JWT "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln"
#define PAT52 "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst"
#define PAT84                                                                                      \
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMN"             \
        "AZDO4567"

static void each_of_the_four_places_is_read(void **state)
{
        static const struct {
                const char *field, *pair, *header; /* pair: becomes a Basic field */
                enum carrier_result result;
                const char *token, *user;
                enum token_via via;
        } cases[] = {
                {"Bearer " JWT, NULL, NULL, CARRIER_TOKEN, JWT, "", VIA_BEARER},
                {"bearer   " JWT "  ", NULL, NULL, CARRIER_TOKEN, JWT, "", VIA_BEARER},
                {NULL, "x:" JWT, NULL, CARRIER_TOKEN, JWT, "x", VIA_BASIC_PASSWORD},
                {NULL, ":" JWT, NULL, CARRIER_TOKEN, JWT, "", VIA_BASIC_PASSWORD},
                {NULL, ":" JWT "\n", NULL, CARRIER_TOKEN, JWT, "", VIA_BASIC_PASSWORD},
                {NULL, ":" JWT " \r\n", NULL, CARRIER_TOKEN, JWT, "", VIA_BASIC_PASSWORD},
                {NULL, JWT ":", NULL, CARRIER_TOKEN, JWT, "", VIA_BASIC_USER},
                {NULL, JWT "\n:", NULL, CARRIER_TOKEN, JWT, "", VIA_BASIC_USER},
                {NULL, NULL, JWT, CARRIER_TOKEN, JWT, "", VIA_HEADER},
                {NULL, NULL, " " JWT "\t", CARRIER_TOKEN, JWT, "", VIA_HEADER},
                /* nothing that is a credential */
                {NULL, NULL, NULL, CARRIER_NONE, "", "", VIA_BEARER},
                {"", NULL, NULL, CARRIER_NONE, "", "", VIA_BEARER},
                {"Bearer", NULL, NULL, CARRIER_NONE, "", "", VIA_BEARER},
                {"Bearer ", NULL, NULL, CARRIER_NONE, "", "", VIA_BEARER},
                {"Negotiate abc", NULL, NULL, CARRIER_NONE, "", "", VIA_BEARER},
                {"BearerX " JWT, NULL, NULL, CARRIER_NONE, "", "", VIA_BEARER},
                {NULL, ":", NULL, CARRIER_NONE, "", "", VIA_BASIC_USER},
                {NULL, "someone:", NULL, CARRIER_PAT, "", "", VIA_BASIC_USER},
                {NULL, NULL, "", CARRIER_NONE, "", "", VIA_HEADER},
                /* personal access tokens and other secrets that are no JWT */
                {"Bearer " PAT52, NULL, NULL, CARRIER_PAT, "", "", VIA_BEARER},
                {NULL, ":" PAT52, NULL, CARRIER_PAT, "", "", VIA_BASIC_PASSWORD},
                {NULL, PAT52 ":", NULL, CARRIER_PAT, "", "", VIA_BASIC_USER},
                {NULL, "me:" PAT84, NULL, CARRIER_PAT, "", "me", VIA_BASIC_PASSWORD},
                {NULL, NULL, PAT84, CARRIER_PAT, "", "", VIA_HEADER},
                {NULL, "me:hunter2", NULL, CARRIER_PAT, "", "me", VIA_BASIC_PASSWORD},
                /* not what it says */
                {"Bearer Bearer " JWT, NULL, NULL, CARRIER_BAD, "", "", VIA_BEARER},
                {"Bearer a b", NULL, NULL, CARRIER_BAD, "", "", VIA_BEARER},
                {"Bearer a\tb", NULL, NULL, CARRIER_BAD, "", "", VIA_BEARER},
                {"Basic !!!!", NULL, NULL, CARRIER_BAD, "", "", VIA_BEARER},
                {"Basic eDp5eno", NULL, NULL, CARRIER_BAD, "", "", VIA_BEARER},  /* no padding */
                {"Basic eDp5enp=", NULL, NULL, CARRIER_BAD, "", "", VIA_BEARER}, /* stray bits */
                {NULL, "nocolon", NULL, CARRIER_BAD, "", "", VIA_BEARER},
                {NULL, "a\nb:" JWT, NULL, CARRIER_BAD, "", "", VIA_BEARER},
                {NULL, "a:b\001c.d.e", NULL, CARRIER_BAD, "", "a", VIA_BASIC_PASSWORD},
                /* two secrets in one pair, and secrets where the user's name goes */
                {NULL, JWT ":" JWT, NULL, CARRIER_SEVERAL, "", "", VIA_BEARER},
                {NULL, JWT ":x-oauth-basic", NULL, CARRIER_SEVERAL, "", "", VIA_BEARER},
                {NULL, PAT52 ":" JWT, NULL, CARRIER_TOKEN, JWT, "", VIA_BASIC_PASSWORD},
                {NULL, "a-person-with-a-rather-long-name@example.com:" JWT, NULL, CARRIER_TOKEN,
                        JWT, "a-person-with-a-rather-long-name@example.com", VIA_BASIC_PASSWORD},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                const char *field = cases[i].pair ? basic(cases[i].pair) : cases[i].field;
                struct seen seen = look(field, NULL, cases[i].header);
                if (seen.result != cases[i].result || seen.via != cases[i].via)
                        fail_msg("case %zu: result %d via %d", i, seen.result, seen.via);
                assert_string_equal(seen.token, cases[i].token);
                assert_string_equal(seen.user, cases[i].user);
        }
}

static void two_credentials_are_never_a_pick(void **state)
{
        (void)state;
        assert_int_equal(look("Bearer " JWT, "Bearer " JWT, NULL).result, CARRIER_SEVERAL);
        assert_int_equal(look("Bearer " JWT, NULL, JWT).result, CARRIER_SEVERAL);
        assert_int_equal(look("Negotiate x", NULL, JWT).result, CARRIER_SEVERAL);
        assert_int_equal(look("", NULL, JWT).result, CARRIER_SEVERAL);
}

static void a_long_secret_is_refused_unread(void **state)
{
        static char field[7 + TOKEN_MOST_BYTES + 2], pair[40 * 1024];

        (void)state;
        memset(field, 'a', sizeof(field) - 1);
        memcpy(field, "Bearer ", 7);
        assert_int_equal(look(field, NULL, NULL).result, CARRIER_LARGE);
        memcpy(field + 10, ".a.", 3);
        field[sizeof(field) - 2] = '\0';
        assert_int_equal(look(field, NULL, NULL).result, CARRIER_TOKEN);
        memset(pair, 'a', sizeof(pair) - 1);
        pair[1] = ':';
        assert_int_equal(look(basic(pair), NULL, NULL).result, CARRIER_LARGE);
}

static void an_arena_that_is_full_is_an_answer(void **state)
{
        struct arena arena;
        struct str field = str_of(basic(":" JWT)), token, user;
        enum token_via via;

        (void)state;
        arena_init(&arena, 16, 16);
        assert_int_equal(
                carrier_find(&field, 1, NULL, 0, &arena, &token, &via, &user), CARRIER_LARGE);
        assert_null(token.ptr);
        arena_clear(&arena);
}

static void the_shape_of_a_pat_is_known(void **state)
{
        (void)state;
        assert_true(token_looks_like_pat(STR(PAT52)));
        assert_true(token_looks_like_pat(STR(PAT84)));
        assert_true(token_looks_like_pat(STR("")));
        assert_true(token_looks_like_pat(STR("a.b")));
        assert_true(token_looks_like_pat(STR("a.b.c.d")));
        assert_true(token_looks_like_pat(STR("a..c")));
        assert_false(token_looks_like_pat(STR(JWT)));
        assert_true(token_looks_like_jwt(STR(JWT)));
        assert_false(token_looks_like_jwt(STR("www.example.c om")));
        assert_int_equal(sizeof(PAT52) - 1, 52);
        assert_int_equal(sizeof(PAT84) - 1, 84);
}

static void via_has_the_names_of_the_audit_log(void **state)
{
        (void)state;
        assert_string_equal(token_via_name(VIA_BEARER), "bearer");
        assert_string_equal(token_via_name(VIA_BASIC_PASSWORD), "basic");
        assert_string_equal(token_via_name(VIA_BASIC_USER), "basic");
        assert_string_equal(token_via_name(VIA_HEADER), "header");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_of_the_four_places_is_read),
                cmocka_unit_test(two_credentials_are_never_a_pick),
                cmocka_unit_test(a_long_secret_is_refused_unread),
                cmocka_unit_test(an_arena_that_is_full_is_an_answer),
                cmocka_unit_test(the_shape_of_a_pat_is_known),
                cmocka_unit_test(via_has_the_names_of_the_audit_log),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
