/* What Entra, key vaults and identity endpoints say, one case for each thing an operator can do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../../../src/control/challenge.h"
#include "../../../src/control/entra_answer.h"
#include "../../../src/control/managed_answer.h"
#include "../../../src/control/vault_answer.h"

#define JSON STR("application/json; charset=utf-8")

static bool holds(const char *text, const char *part)
{
        return strstr(text, part) != NULL;
}

/* Every code that is worth a message: whether it passes by itself, and a word of what to do. */
static void every_code_has_a_cause_and_a_remedy(void **state)
{
        static const struct {
                int code;
                bool retry;
                const char *advice;
        } cases[] = {
                {700016, false, "`client_id` and `tenant`"},
                {7000112, false, "enable it"},
                {7000215, false, "the secret's value, not its id"},
                {7000222, false, "add a new one"},
                {7000218, false, "public client"},
                {700025, false, "public client"},
                {700027, false, "thumbprint"},
                {700030, false, "upload this certificate"},
                {50012, false, "algorithm"},
                {50013, false, "clock"},
                {500133, false, "still being renewed"},
                {900384, false, "RS256"},
                {700024, false, "chrony"},
                {70021, true, "to the byte"},
                {700211, true, "slash at the end"},
                {700212, true, "api://AzureADTokenExchange"},
                {700213, true, "letter case"},
                {700223, false, "tenant policy"},
                {700238, false, "tenant policy"},
                {90061, true, "public over https"},
                {50166, true, "public"},
                {501661, true, "public"},
                {500011, false, "ever used Azure DevOps"},
                {50001, false, "`scope`"},
                {70011, false, "/.default"},
                {28002, false, "/.default"},
                {900144, false, "form field"},
                {9001023, false, "set `tenant`"},
                {90002, false, "another cloud"},
                {900382, false, "`authority`"},
                {90038, false, "`authority`"},
                {900432, false, "`authority`"},
                {50034, false, "`tenant`"},
                {65001, false, "consent"},
                {7000114, false, "`type`"},
                {500131, false, "audience"},
                {53003, false, "egress address"},
                {530003, false, "Entra administrator"},
                {53000, false, "Entra administrator"},
                {50196, true, "loop"},
                {90006, true, "tried again"},
                {90012, true, "tried again"},
                {90024, true, "tried again"},
                {90033, true, "tried again"},
                {90055, true, "throttled"},
                {40010, true, "tried again"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct entra_answer answer;
                char body[300], number[32];
                snprintf(body, sizeof(body),
                        "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS1: hunter2\","
                        "\"error_codes\":[%d],\"trace_id\":\"t-1\",\"correlation_id\":\"c-1\"}",
                        cases[i].code);
                snprintf(number, sizeof(number), "AADSTS%d invalid_client: ", cases[i].code);
                entra_answer_read(400, JSON, str_of(body), false, &answer);
                if (answer.verdict != (cases[i].retry ? ENTRA_RETRY : ENTRA_OPERATOR) ||
                        answer.aadsts != cases[i].code || !holds(answer.why.text, number) ||
                        !holds(answer.why.text, cases[i].advice) ||
                        !holds(answer.why.text, "(trace_id t-1, correlation_id c-1)") ||
                        holds(answer.why.text, "hunter2"))
                        fail_msg("%d: %s", cases[i].code, answer.why.text);
        }
}

static void a_vault_gives_values_and_versions(void **state)
{
        struct vault_answer a;

        (void)state;
        vault_answer_read(VAULT_SECRET, 200, JSON,
                STR("{\"value\":\" "
                    "s3cret\\n\",\"id\":\"https://v.vault.azure.net/secrets/etl/0aF9\","
                    "\"attributes\":{\"enabled\":true,\"exp\":1800000000}}"),
                &a);
        assert_int_equal(a.verdict, VAULT_GOOD);
        assert_true(str_eq(secret_reveal(&a.value), STR("s3cret")));
        assert_string_equal(a.version, "0aF9");
        assert_int_equal(a.until_s, 1800000000);
        secret_drop(&a.value);
        vault_answer_read(VAULT_CERTIFICATE, 200, JSON,
                STR("{\"kid\":\"https://v/keys/k/ab12\",\"cer\":\"Zm9vYg==\"}"), &a);
        assert_int_equal(a.verdict, VAULT_GOOD);
        assert_true(str_eq(secret_reveal(&a.value), STR("foob")));
        assert_string_equal(a.version, "ab12");
        secret_drop(&a.value);
        vault_answer_read(
                VAULT_KEY, 200, JSON, STR("{\"key\":{\"kid\":\"https://v/keys/k/ab12\"}}"), &a);
        assert_int_equal(a.verdict, VAULT_GOOD);
        assert_string_equal(a.version, "ab12");
        vault_answer_read(
                VAULT_SIGNATURE, 200, JSON, STR("{\"kid\":\"x\",\"value\":\"Zm9v\"}"), &a);
        assert_int_equal(a.verdict, VAULT_GOOD);
        assert_true(str_eq(secret_reveal(&a.value), STR("Zm9v")));
        secret_drop(&a.value);
}

static void what_a_vault_says_wrongly_is_no_value(void **state)
{
        static const struct {
                enum vault_kind kind;
                int status;
                const char *body;
                enum vault_verdict verdict;
                const char *why;
        } cases[] = {
                {VAULT_SECRET, 200, "<html>", VAULT_RETRY, "not a JSON object"},
                {VAULT_SECRET, 200, "{}", VAULT_RETRY, "no value"},
                {VAULT_SECRET, 200, "{\"value\":\" \\n\"}", VAULT_RETRY, "is empty"},
                {VAULT_SIGNATURE, 200, "{\"value\":\"a b\"}", VAULT_RETRY, "not base64url"},
                {VAULT_CERTIFICATE, 200, "{\"kid\":\"https://v/keys/k/1\",\"cer\":\"*\"}",
                        VAULT_RETRY, "not base64"},
                {VAULT_CERTIFICATE, 200, "{\"cer\":\"Zm9v\"}", VAULT_RETRY, "no certificate"},
                {VAULT_KEY, 200, "{\"key\":{\"kid\":\"https://v/keys/k/../x\"}}", VAULT_RETRY,
                        "no version"},
                {VAULT_KEY, 200, "{\"key\":{\"kid\":\"https://v/keys/k/a?b\"}}", VAULT_RETRY,
                        "no version"},
                {VAULT_SECRET, 401, "{\"error\":{\"code\":\"Unauthorized\"}}", VAULT_REJECTED,
                        "status 401 Unauthorized: it does not accept the token"},
                {VAULT_SECRET, 403,
                        "{\"error\":{\"code\":\"Forbidden\",\"innererror\":{\"code\":"
                        "\"ForbiddenByRbac\"}}}",
                        VAULT_OPERATOR,
                        "Forbidden ForbiddenByRbac: give `vault_credential` the "
                        "role Key Vault Secrets User"},
                {VAULT_SIGNATURE, 403, "{\"error\":{\"code\":\"Forbidden\"}}", VAULT_OPERATOR,
                        "Key Vault Crypto User"},
                {VAULT_CERTIFICATE, 403, "{}", VAULT_OPERATOR, "Key Vault Certificate User"},
                {VAULT_SECRET, 403,
                        "{\"error\":{\"code\":\"Forbidden\",\"innererror\":{\"code\":"
                        "\"ForbiddenByFirewall\"}}}",
                        VAULT_OPERATOR, "firewall"},
                {VAULT_SECRET, 403, "{\"error\":{\"innererror\":{\"code\":\"SecretDisabled\"}}}",
                        VAULT_GONE, "it is disabled"},
                {VAULT_SECRET, 404, "{\"error\":{\"code\":\"SecretNotFound\"}}", VAULT_GONE,
                        "nothing of that name"},
                /* somebody else's page, of a network in between, takes nothing away */
                {VAULT_SECRET, 404, "<html>", VAULT_OPERATOR, "nothing of that name"},
                {VAULT_SECRET, 429, "", VAULT_RETRY, "throttled"},
                {VAULT_SECRET, 503, "", VAULT_RETRY, "has trouble"},
                {VAULT_SECRET, 302, "", VAULT_OPERATOR, "status 302"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct vault_answer a;
                vault_answer_read(cases[i].kind, cases[i].status, JSON, str_of(cases[i].body), &a);
                if (a.verdict != cases[i].verdict || !holds(a.why.text, cases[i].why))
                        fail_msg("case %zu: %d %s", i, a.verdict, a.why.text);
                assert_null(a.value.bytes);
        }
}

static void an_identity_endpoint_says_how_long_in_several_ways(void **state)
{
        static const struct {
                const char *life;
                int64_t expires_in_s; /* 0: no token */
        } cases[] = {
                {"\"expires_in\":\"86399\"", 86399},
                {"\"expires_in\":3600,\"expires_on\":\"1\"", 3600},
                {"\"expires_on\":\"1768550400\"", 1768550400 - 1768460000},
                {"\"expires_on\":1768550400", 1768550400 - 1768460000},
                {"\"expires_on\":\"2026-01-16T08:00:00Z\"", 1768550400 - 1768460000},
                {"\"expires_on\":\"1768460000\"", 0},
                {"\"expires_on\":\"yesterday\"", 0},
                {"\"x\":1", 0},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct managed_answer a;
                char body[300];
                snprintf(body, sizeof(body),
                        "{\"access_token\":\"tok\",\"token_type\":\"Bearer\",\"client_id\":\"c-1\","
                        "%s}",
                        cases[i].life);
                managed_answer_read(200, JSON, str_of(body), 1768460000, &a);
                assert_int_equal(a.verdict == ENTRA_TOKEN, cases[i].expires_in_s > 0);
                assert_int_equal(a.expires_in_s, cases[i].expires_in_s);
                if (a.verdict == ENTRA_TOKEN)
                        assert_string_equal(a.client_id, "c-1");
                else
                        assert_null(a.token.bytes);
                secret_drop(&a.token);
        }
}

static void an_identity_endpoint_that_refuses_says_what_to_do(void **state)
{
        static const struct {
                int status;
                const char *body;
                bool retry;
                const char *why;
        } cases[] = {
                {400, "{\"error\":\"invalid_request\"}", false, "no identity is assigned"},
                {400, "{\"error\":\"invalid_resource\"}", false, "`scope`"},
                {401, "{\"error\":\"unknown_source\"}", false, "container's network"},
                {401, "", false, "IDENTITY_HEADER"},
                {403, "<html>", false, "a proxy answered"},
                {404, "", true, "being set up"},
                {410, "", true, "being updated"},
                {429, "", true, "throttled"},
                {500, "", true, "has trouble"},
                {200, "[]", true, "not a JSON object"},
                {200, "{}", true, "no access_token"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct managed_answer a;
                managed_answer_read(cases[i].status, JSON, str_of(cases[i].body), 0, &a);
                if ((a.verdict == ENTRA_RETRY) != cases[i].retry ||
                        !holds(a.why.text, cases[i].why))
                        fail_msg("case %zu: %d %s", i, a.verdict, a.why.text);
        }
}

static void challenges_are_read_and_never_believed(void **state)
{
        static const struct {
                const char *text, *scheme, *name, *value; /* NULL: none */
        } cases[] = {
                {"Basic realm=/var/opt/x.key", "Basic", "realm", "/var/opt/x.key"},
                {"Basic realm=\"a b\"", "basic", "REALM", "a b"},
                {"Basic realm=\"a\\\"b\"", "Basic", "realm", "a\"b"},
                {"Bearer authorization=\"https://l/t\", resource=\"https://v\"", "Bearer",
                        "resource", "https://v"},
                {"Bearer authorization=\"https://l/t\" , scope = x", "Bearer", "scope", "x"},
                {"Negotiate, Bearer error=\"insufficient_claims\"", "Bearer", "error",
                        "insufficient_claims"},
                {"Basic realm=x, Bearer error=y", "Basic", "error", NULL},
                {"Bearer realm=x", "Basic", "realm", NULL},
                {"Basic realm=\"never closed", "Basic", "realm", NULL},
                {"Basic realm=", "Basic", "realm", NULL},
                {"Basic realm=\"\"", "Basic", "realm", NULL},
                {"Basic realm=a\x01", "Basic", "realm", NULL},
                {"Basic", "Basic", "realm", NULL},
                {"", "Basic", "realm", NULL},
                {"Basic realm=0123456789012345678901234567890123456789", "Basic", "realm", NULL},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                char out[40];
                bool found = challenge_param(str_of(cases[i].text), str_of(cases[i].scheme),
                        str_of(cases[i].name), out, sizeof(out));
                if (found != (cases[i].value != NULL) ||
                        (found && strcmp(out, cases[i].value) != 0))
                        fail_msg("case %zu: %s", i, found ? out : "none");
        }
        assert_false(challenge_param(STR_NONE, STR("Basic"), STR("realm"), (char[8]){0}, 8));
}

static void only_the_keys_of_the_agent_are_read(void **state)
{
        static const char *const bad[] = {"/etc/passwd", "/var/opt/azcmagent/tokens/../a.key",
                "/var/opt/azcmagent/tokens/a/b.key", "/var/opt/azcmagent/tokens/.key",
                "/var/opt/azcmagent/tokens/a.txt", "/var/opt/azcmagent/tokensx/a.key",
                "var/opt/azcmagent/tokens/a.key", "/var/opt/azcmagent/tokens/", ""};

        (void)state;
        assert_true(challenge_arc_path(STR("/var/opt/azcmagent/tokens/0b1f.key")));
        assert_false(challenge_arc_path(STR("/var/opt/azcmagent/tokens/a\0b.key")));
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                assert_false(challenge_arc_path(str_of(bad[i])));
}

static void claims_are_taken_out_of_a_challenge(void **state)
{
        static const struct {
                const char *challenge, *claims; /* NULL: none */
        } cases[] = {
                {"Bearer error=\"insufficient_claims\", claims=\"eyJhIjoxfQ==\"", "{\"a\":1}"},
                {"Bearer error=\"insufficient_claims\", claims=\"eyJhIjoxfQ\"", "{\"a\":1}"},
                {"Basic realm=\"x\", Bearer a=b, claims=eyJhIjoxfQ, error=insufficient_claims",
                        "{\"a\":1}"},
                {"Bearer error=\"invalid_token\", claims=\"eyJhIjoxfQ==\"", NULL},
                {"Basic error=\"insufficient_claims\", claims=\"eyJhIjoxfQ==\"", NULL},
                {"Bearer error=\"insufficient_claims\"", NULL},
                {"Bearer error=\"insufficient_claims\", claims=\"WzFd\"", NULL},     /* [1] */
                {"Bearer error=\"insufficient_claims\", claims=\"eyJhIjox\"", NULL}, /* cut */
                {"Bearer error=\"insufficient_claims\", claims=\"e y\"", NULL},
                {NULL, NULL},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char out[CLAIMS_MOST] = "before";
                bool found = challenge_claims(cases[i].challenge, out);
                assert_int_equal(found, cases[i].claims != NULL);
                assert_string_equal(out, found ? cases[i].claims : "");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_code_has_a_cause_and_a_remedy),
                cmocka_unit_test(a_vault_gives_values_and_versions),
                cmocka_unit_test(what_a_vault_says_wrongly_is_no_value),
                cmocka_unit_test(an_identity_endpoint_says_how_long_in_several_ways),
                cmocka_unit_test(an_identity_endpoint_that_refuses_says_what_to_do),
                cmocka_unit_test(challenges_are_read_and_never_believed),
                cmocka_unit_test(only_the_keys_of_the_agent_are_read),
                cmocka_unit_test(claims_are_taken_out_of_a_challenge),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
