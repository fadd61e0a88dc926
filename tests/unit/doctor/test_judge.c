/* What observations mean: tables of what was seen, and what has to be said about it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../../src/doctor/judge.h"

#define TEXT(literal)                                                                              \
        {                                                                                          \
                literal, sizeof(literal) - 1                                                       \
        }

enum { NOW_S = 1800000000, DAY_S = 24 * 3600 };

static const struct about about = {DOCTOR_ISSUER, 0, "airflow", "issuer"};

static const struct diagnosis *named(const struct diagnoses *list, const char *name)
{
        for (size_t i = 0; i < list->n; i++) {
                if (strcmp(list->items[i].name, name) == 0)
                        return &list->items[i];
        }
        print_error("no finding %s among:\n", name);
        for (size_t i = 0; i < list->n; i++)
                print_error("  %s: %s\n", list->items[i].name, list->items[i].found);
        fail();
        return NULL;
}

static void contains(const char *text, const char *part)
{
        if (!strstr(text, part)) {
                print_error("no \"%s\" in \"%s\"\n", part, text);
                fail();
        }
}

/* The one finding that is not fine; it must have a cause and a remedy. */
static const struct diagnosis *complaint(
        const struct diagnoses *list, const char *name, enum doctor_level level)
{
        const struct diagnosis *d = named(list, name);

        assert_int_equal(d->level, level);
        assert_int_equal(list->problems + list->warnings, 1);
        assert_true(d->cause[0] && d->remedy[0]);
        return d;
}

static void issuers_are_told_apart_by_how_they_differ(void **state)
{
        static const struct {
                const char *configured, *found;
                enum issuer_difference difference;
        } cases[] = {
                {"https://a.example", "https://a.example", ISSUER_SAME},
                {"https://a.example", "https://a.example/", ISSUER_SLASH},
                {"https://a.example/", "https://a.example", ISSUER_SLASH},
                {"https://a.example", "http://a.example", ISSUER_SCHEME},
                {"https://a.example/Realm", "https://a.example/realm", ISSUER_CASE},
                {"https://a.example", "https://b.example", ISSUER_OTHER},
                {"https://a.example", "", ISSUER_OTHER},
                {"https://login.microsoftonline.com/72f988bf/v2.0",
                        "https://sts.windows.net/72f988bf/", ISSUER_ENTRA_FORM},
                {"https://sts.windows.net/72f988bf/",
                        "https://login.microsoftonline.com/72F988BF/v2.0", ISSUER_ENTRA_FORM},
                {"https://sts.windows.net/72f988bf/",
                        "https://login.microsoftonline.com/other/v2.0", ISSUER_OTHER},
                {"https://login.microsoftonline.com/common/v2.0",
                        "https://login.microsoftonline.com/{tenantid}/v2.0", ISSUER_PLACEHOLDER},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
                assert_int_equal(
                        issuer_compare(str_of(cases[i].configured), str_of(cases[i].found)),
                        cases[i].difference);
}

static void a_place_that_cannot_be_reached_is_explained(void **state)
{
        static const struct {
                struct reach_seen seen;
                const char *name, *cause, *remedy;
        } cases[] = {
                {{.stage = REACH_PENDING}, "issuer-dns-silent", "a.example", "resolv.conf"},
                {{.stage = REACH_NO_NAME}, "issuer-dns", "a.example", "getent hosts a.example"},
                {{.stage = REACH_REFUSED, .address = "192.0.2.1"}, "issuer-refused", "192.0.2.1",
                        "port 443"},
                {{.stage = REACH_SILENT, .address = "192.0.2.1"}, "issuer-silent", "firewall",
                        "a.example port 443"},
                {{.stage = REACH_NO_ROUTE, .address = "192.0.2.1"}, "issuer-no-route", "192.0.2.1",
                        "network policy"},
                {{.stage = REACH_NO_CA, .ca = "/etc/ca.pem"}, "issuer-ca", "/etc/ca.pem",
                        "/etc/ca.pem"},
                {{.stage = REACH_TLS, .tls = {.not_tls = true}}, "issuer-tls-plain",
                        "not speak TLS", "port"},
                {{.stage = REACH_TLS, .tls = {.timed_out = true}}, "issuer-tls-failed", "nothing",
                        "s_client"},
                {{.stage = REACH_TLS,
                         .tls = {.shaken = true,
                                 .trust = TLS_UNKNOWN_ISSUER,
                                 .unknown_issuer = "CN=Corp Root"}},
                        "issuer-tls-untrusted", "CN=Corp Root", "\"CN=Corp Root\""},
                {{.stage = REACH_TLS,
                         .tls = {.shaken = true,
                                 .trust = TLS_SELF_SIGNED,
                                 .leaf = {.subject = "CN=me"}}},
                        "issuer-tls-untrusted", "CN=me", "\"CN=me\""},
                {{.stage = REACH_TLS,
                         .tls = {.shaken = true,
                                 .trust = TLS_EXPIRED,
                                 .faulty = {.not_after_s = NOW_S - 3 * DAY_S}}},
                        "issuer-tls-expired", "renewed", "a.example"},
                {{.stage = REACH_TLS, .tls = {.shaken = true, .trust = TLS_NOT_YET_VALID}},
                        "issuer-tls-not-yet", "clock", "chrony"},
                {{.stage = REACH_TLS,
                         .tls = {.shaken = true,
                                 .trust = TLS_WRONG_NAME,
                                 .leaf = {.names = "b.example, c.example"}}},
                        "issuer-tls-name", "b.example, c.example", "a.example"},
                {{.stage = REACH_TLS,
                         .tls = {.shaken = true,
                                 .trust = TLS_DISTRUSTED,
                                 .why = "path length constraint exceeded"}},
                        "issuer-tls-untrusted", "path length", "a.example"},
                {{.stage = REACH_TLS,
                         .tls = {.shaken = true, .leaf = {.not_after_s = NOW_S + 5 * DAY_S}}},
                        "issuer-tls-expires", "renewal", "a.example"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct reach_seen seen = cases[i].seen;
                struct diagnoses list;

                snprintf(seen.host, sizeof(seen.host), "a.example");
                seen.port = 443;
                diagnoses_init(&list);
                bool good = judge_reach(&list, &about, &seen, DOCTOR_PROBLEM, false, NOW_S);
                bool soon = strcmp(cases[i].name, "issuer-tls-expires") == 0;
                assert_int_equal(good, soon);
                const struct diagnosis *d =
                        complaint(&list, cases[i].name, soon ? DOCTOR_WARNING : DOCTOR_PROBLEM);
                contains(d->cause, cases[i].cause);
                contains(d->remedy, cases[i].remedy);
                diagnoses_clear(&list);
        }
}

static void a_proxy_of_the_environment_is_named_where_the_way_is_shut(void **state)
{
        struct reach_seen seen = {.host = "a.example", .port = 443, .stage = REACH_SILENT};
        struct diagnoses list;

        (void)state;
        diagnoses_init(&list);
        assert_false(judge_reach(&list, &about, &seen, DOCTOR_PROBLEM, true, NOW_S));
        contains(named(&list, "issuer-silent")->remedy, "proxy of the environment is not used");
        diagnoses_clear(&list);
}

static void clocks_are_judged_by_how_far_they_are_apart(void **state)
{
        static const struct {
                int64_t ahead_s;
                size_t warnings, problems;
                const char *text;
        } cases[] = {
                {0, 0, 0, NULL},
                {60, 0, 0, NULL},
                {-60, 0, 0, NULL},
                {61, 1, 0, "1 minute ahead of"},
                {-120, 1, 0, "2 minutes behind"},
                {300, 1, 0, "5 minutes ahead of"},
                {301, 0, 1, "5 minutes ahead of"},
                {-7200, 0, 1, "2 hours behind"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct diagnoses list;
                struct http_seen seen = {.url = "https://a.example",
                        .answered = true,
                        .date_ms = (int64_t)NOW_S * 1000,
                        .at_ms = (NOW_S + cases[i].ahead_s) * 1000};
                diagnoses_init(&list);
                judge_clock(&list, &about, &seen);
                assert_int_equal(list.warnings, cases[i].warnings);
                assert_int_equal(list.problems, cases[i].problems);
                if (cases[i].text)
                        contains(named(&list, "issuer-clock")->found, cases[i].text);
                diagnoses_clear(&list);
        }
}

static void answers_that_are_no_json_are_explained(void **state)
{
        static const struct {
                struct http_seen seen;
                const char *name, *cause;
        } cases[] = {
                {{.tried = true}, "issuer-no-answer", "no whole answer"},
                {{.tried = true, .answered = true, .status = 200, .html = true},
                        "issuer-captive-portal", "captive portal"},
                {{.tried = true, .answered = true, .status = 302, .location = "https://x"},
                        "issuer-captive-portal", "captive portal"},
                {{.tried = true, .answered = true, .status = 404, .json = true}, "issuer-status",
                        "nothing at"},
                {{.tried = true, .answered = true, .status = 401, .json = true}, "issuer-status",
                        "Kubernetes"},
                {{.tried = true, .answered = true, .status = 500}, "issuer-status", "trouble"},
                {{.tried = true, .answered = true, .status = 200}, "issuer-not-json",
                        "another kind"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct http_seen seen = cases[i].seen;
                struct diagnoses list;
                seen.url = "https://a.example/x";
                diagnoses_init(&list);
                assert_false(judge_json_answer(&list, &about, &seen));
                contains(complaint(&list, cases[i].name, DOCTOR_PROBLEM)->cause, cases[i].cause);
                diagnoses_clear(&list);
        }
}

/* --- credentials --- */

static struct config_credential credential = {
        .name = {"etl", 3},
        .tenant = {"t-1", 3},
        .client_id = {"c-1", 3},
        .assertion_file = {"/run/assertion", 14},
        .authority = {.text = {"https://login.example", 21}},
        .scope = {"ado/.default", 12},
};

static void what_entra_says_names_what_was_sent(void **state)
{
        static const struct {
                const char *why, *name, *cause, *remedy;
        } cases[] = {
                {"AADSTS7000222 x", "credential-secret-expired", "application c-1", "tenant t-1"},
                {"AADSTS7000215 x", "credential-secret-wrong", "/run/assertion", "c-1"},
                {"AADSTS700016 x", "credential-application-unknown", "c-1 in tenant t-1",
                        "`client_id` c-1"},
                {"AADSTS90002 x", "credential-tenant-unknown", "no tenant t-1",
                        "https://login.example"},
                {"AADSTS70021 x", "credential-federation-mismatch",
                        "issuer https://i, subject s, audience a", "issuer https://i, subject s"},
                {"AADSTS700211 x", "credential-federation-issuer", "https://i", "https://i"},
                {"AADSTS700212 x", "credential-federation-audience", "audience a",
                        "AzureADTokenExchange"},
                {"AADSTS700213 x", "credential-federation-subject", "subject s", "to s:"},
                {"AADSTS700024 x", "credential-assertion-time", "/run/assertion", "chrony"},
                {"AADSTS500011 x", "credential-resource-unknown", "ado/.default", "t-1"},
                {"AADSTS1234567 x", "credential-refused-by-entra", "in general", "c-1"},
                {"could not connect", "credential-not-obtained", "serve", "https://login.example"},
                {"answered 200 with an HTML page", "credential-captive-portal",
                        "https://login.example", "directly"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                const struct about who = {DOCTOR_CREDENTIAL, 0, "etl", "credential"};
                struct credential_seen seen = {.config = &credential,
                        .settled = true,
                        .why = cases[i].why,
                        .claims = {.jwt = true, .iss = "https://i", .sub = "s", .aud = "a"}};
                struct diagnoses list;
                diagnoses_init(&list);
                assert_false(judge_obtained(&list, &who, &seen, "what is known in general"));
                const struct diagnosis *d = complaint(&list, cases[i].name, DOCTOR_PROBLEM);
                contains(d->found, cases[i].why);
                contains(d->cause, cases[i].cause);
                contains(d->remedy, cases[i].remedy);
                assert_null(strchr(d->cause, '{'));
                assert_null(strchr(d->remedy, '{'));
                diagnoses_clear(&list);
        }
}

static void a_code_is_found_in_a_text(void **state)
{
        (void)state;
        assert_int_equal(aadsts_of("credential etl: AADSTS7000215 invalid_client: x"), 7000215);
        assert_int_equal(aadsts_of("no code"), 0);
        assert_int_equal(aadsts_of("AADSTS"), 0);
}

static void refusals_tell_nobody_from_somebody(void **state)
{
        static const struct {
                const char *message, *code, *identity;
                bool somebody;
        } cases[] = {
                {"TF400813: The user '' is not authorized", "TF400813", "", false},
                {"TF400813: The user 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa' is not authorized",
                        "TF400813", "", false},
                {"TF400813: The user '5e51ce00-1' is not authorized", "TF400813", "5e51ce00-1",
                        true},
                {"TF401444: Please sign-in at least once as x", "TF401444", "", true},
                {"something else", "", "", false},
                {NULL, "", "", false},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                char code[16], identity[128];
                assert_int_equal(
                        refusal_read(str_of(cases[i].message), code, identity), cases[i].somebody);
                assert_string_equal(code, cases[i].code);
                assert_string_equal(identity, cases[i].identity);
        }
}

static void what_an_organization_answers_is_explained(void **state)
{
#define ANSWER(code) .http = {.tried = true, .answered = true, .status = (code), .json = true }
        static const struct {
                struct organization_seen seen;
                const char *name, *remedy;
                enum doctor_level level;
        } cases[] = {
                {{ANSWER(203), .sign_in = true}, "organization-not-accepted", "object id",
                        DOCTOR_PROBLEM},
                {{ANSWER(401)}, "organization-not-accepted", "contoso/_settings/users",
                        DOCTOR_PROBLEM},
                {{ANSWER(200), .anonymous = true}, "organization-not-accepted", "object id",
                        DOCTOR_PROBLEM},
                {{ANSWER(401), .tenant = "2-2", .own_tenant = "1-1"}, "organization-other-tenant",
                        "`tenant: 2-2`", DOCTOR_PROBLEM},
                {{ANSWER(401), .tenant = "1-1", .own_tenant = "1-1"}, "organization-not-accepted",
                        "object id", DOCTOR_PROBLEM},
                {{ANSWER(401), .tenant = "2-2", .own_tenant = "contoso.example"},
                        "organization-not-accepted", "object id", DOCTOR_PROBLEM},
                {{ANSWER(401), .recognized = true}, "organization-no-access", "Basic",
                        DOCTOR_PROBLEM},
                {{ANSWER(403)}, "organization-no-access", "Basic", DOCTOR_PROBLEM},
                {{ANSWER(404)}, "organization-not-found", "contoso", DOCTOR_PROBLEM},
                {{ANSWER(429)}, "organization-busy", "minutes", DOCTOR_WARNING},
                {{ANSWER(503)}, "organization-busy", "minutes", DOCTOR_WARNING},
                {{ANSWER(200), .projects_status = 403}, "organization-no-project", "Readers",
                        DOCTOR_WARNING},
                {{ANSWER(200), .projects_status = 200, .projects = 0}, "organization-no-project",
                        "Readers", DOCTOR_WARNING},
                {{ANSWER(200), .projects_status = 200, .projects = 3, .repositories_status = 404},
                        "organization-stakeholder", "Basic", DOCTOR_WARNING},
                {{ANSWER(200), .projects_status = 200, .projects = 3, .repositories_status = 200},
                        "organization-stakeholder", "Basic", DOCTOR_WARNING},
        };
        const struct about who = {DOCTOR_CREDENTIAL, 0, "etl", "organization"};
        struct diagnoses list;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct organization_seen seen = cases[i].seen;
                seen.organization = "contoso";
                seen.credential = "etl";
                seen.http.url = "https://dev.azure.com/contoso";
                diagnoses_init(&list);
                judge_organization(&list, &who, &seen);
                contains(complaint(&list, cases[i].name, cases[i].level)->remedy, cases[i].remedy);
                diagnoses_clear(&list);
        }
        struct organization_seen good = {ANSWER(200), .organization = "contoso",
                .projects_status = 200, .projects = 3, .repositories_status = 200,
                .repositories = 2};
        diagnoses_init(&list);
        judge_organization(&list, &who, &good);
        assert_int_equal(list.problems + list.warnings, 0);
        diagnoses_clear(&list);
#undef ANSWER
}

/* --- this machine --- */

static void files_are_judged_by_what_they_would_give_away(void **state)
{
        static const struct {
                struct file_seen seen;
                enum file_care care;
                const char *name;
                bool good;
        } cases[] = {
                {{.regular = true, .mode = 0600}, CARE_GROUP, NULL, true},
                {{.regular = true, .mode = 0640}, CARE_GROUP, "x-file-open", true},
                {{.regular = true, .mode = 0640}, CARE_WORLD, NULL, true},
                {{.regular = true, .mode = 0644}, CARE_WORLD, "x-file-open", true},
                {{.regular = true, .mode = 0644}, CARE_NONE, NULL, true},
                {{.error = ENOENT}, CARE_NONE, "x-file-missing", false},
                {{.error = ENOTDIR}, CARE_NONE, "x-file-missing", false},
                {{.error = EACCES}, CARE_NONE, "x-file-unreadable", false},
                {{.error = EIO}, CARE_NONE, "x-file-unreadable", false},
                {{.regular = false}, CARE_NONE, "x-file-unreadable", false},
                {{.regular = true, .empty = true}, CARE_NONE, "x-file-empty", false},
        };
        const struct about who = {DOCTOR_CREDENTIAL, 0, "etl", "x"};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct file_seen seen = cases[i].seen;
                struct diagnoses list;
                seen.path = "/run/file";
                diagnoses_init(&list);
                assert_int_equal(judge_file(&list, &who, "secret_file", &seen, cases[i].care, 7),
                        cases[i].good);
                if (cases[i].name)
                        contains(complaint(&list, cases[i].name,
                                         cases[i].good ? DOCTOR_WARNING : DOCTOR_PROBLEM)
                                         ->found,
                                "/run/file");
                else
                        assert_int_equal(list.n, 0);
                diagnoses_clear(&list);
        }
}

static void ports_are_judged_by_why_they_cannot_be_had(void **state)
{
        static const struct {
                int error;
                bool running;
                const char *name;
        } cases[] = {
                {0, false, NULL},
                {EADDRINUSE, true, NULL},
                {EADDRINUSE, false, "x-port-in-use"},
                {EADDRNOTAVAIL, true, "x-address-not-here"},
                {EACCES, false, "x-port-privileged"},
                {EAFNOSUPPORT, false, "x-port-unusable"},
        };
        const struct about who = {DOCTOR_LISTENER, 0, "", "x"};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                const struct port_seen seen = {"0.0.0.0:443", cases[i].error, cases[i].running};
                struct diagnoses list;
                diagnoses_init(&list);
                judge_port(&list, &who, &seen);
                if (cases[i].name)
                        contains(complaint(&list, cases[i].name, DOCTOR_PROBLEM)->remedy,
                                "0.0.0.0:443");
                else
                        assert_int_equal(named(&list, "x-port")->level, DOCTOR_OK);
                diagnoses_clear(&list);
        }
}

static void certificates_of_listeners_are_judged(void **state)
{
        static const struct {
                int64_t from_days, to_days;
                enum key_fit fit;
                const char *host;
                bool covers, issuer_url, self_issued, system_trusts;
                size_t n, broken_at;
                const char *name;
                enum doctor_level level;
        } cases[] = {
                {-1, 90, KEY_FITS, "a", true, false, false, false, 1, 1, NULL, DOCTOR_OK},
                {-1, 90, KEY_FITS, "a", true, true, false, true, 1, 1, NULL, DOCTOR_OK},
                {-1, 90, KEY_FITS, "a", true, true, true, false, 1, 1, NULL, DOCTOR_OK},
                {-1, 90, KEY_FITS, NULL, false, false, false, false, 1, 1, NULL, DOCTOR_OK},
                {-1, 21, KEY_FITS, "a", true, false, false, false, 1, 1, NULL, DOCTOR_OK},
                {-1, 20, KEY_FITS, "a", true, false, false, false, 1, 1, "x-certificate-expires",
                        DOCTOR_WARNING},
                {-9, -1, KEY_FITS, "a", true, false, false, false, 1, 1, "x-certificate-expired",
                        DOCTOR_PROBLEM},
                {1, 90, KEY_FITS, "a", true, false, false, false, 1, 1, "x-certificate-not-yet",
                        DOCTOR_PROBLEM},
                {-1, 90, KEY_OTHER, "a", true, false, false, false, 1, 1, "x-key-mismatch",
                        DOCTOR_PROBLEM},
                {-1, 90, KEY_UNREADABLE, "a", true, false, false, false, 1, 1, "x-key-unusable",
                        DOCTOR_PROBLEM},
                {-1, 90, KEY_FITS, "b", false, false, false, false, 1, 1, "x-certificate-name",
                        DOCTOR_PROBLEM},
                {-1, 90, KEY_FITS, "a", true, true, false, false, 1, 1, "x-chain-incomplete",
                        DOCTOR_WARNING},
                {-1, 90, KEY_FITS, "a", true, false, false, false, 2, 0, "x-chain-broken",
                        DOCTOR_PROBLEM},
        };
        const struct about who = {DOCTOR_LISTENER, 0, "", "x"};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct certificate_file file = {
                        .chain = {{.subject = "CN=a",
                                .issuer = "CN=ca",
                                .not_before_s = NOW_S + cases[i].from_days * DAY_S,
                                .not_after_s = NOW_S + cases[i].to_days * DAY_S,
                                .self_issued = cases[i].self_issued,
                                .issuer_url = cases[i].issuer_url}},
                        .n = cases[i].n,
                        .broken_at = cases[i].broken_at,
                        .system_trusts = cases[i].system_trusts};
                const struct certificate_seen seen = {.path = "a.crt",
                        .key = "a.key",
                        .file = &file,
                        .fit = cases[i].fit,
                        .public_host = cases[i].host,
                        .covers = cases[i].covers};
                struct diagnoses list;
                diagnoses_init(&list);
                judge_certificate(&list, &who, &seen, NOW_S);
                if (cases[i].name)
                        complaint(&list, cases[i].name, cases[i].level);
                else
                        assert_int_equal(list.problems + list.warnings, 0);
                diagnoses_clear(&list);
        }
}

static void audit_files_are_judged(void **state)
{
        const uint64_t GIB = 1 << 30;
        const struct {
                struct audit_seen seen;
                const char *name;
                enum doctor_level level;
        } cases[] = {
                {{.free_bytes = 50 * GIB, .total_bytes = 100 * GIB}, NULL, DOCTOR_OK},
                {{.free_bytes = GIB - 1, .total_bytes = 10 * GIB}, "audit-space", DOCTOR_WARNING},
                {{.free_bytes = 4 * GIB, .total_bytes = 100 * GIB}, "audit-space", DOCTOR_WARNING},
                {{.free_bytes = 1, .total_bytes = GIB}, "audit-space", DOCTOR_PROBLEM},
                {{.folder_error = EACCES}, "audit-folder", DOCTOR_PROBLEM},
                {{.there = true}, "audit-not-a-file", DOCTOR_PROBLEM},
                {{.there = true, .regular = true, .file_error = EACCES}, "audit-unwritable",
                        DOCTOR_PROBLEM},
                {{.there = true, .regular = true, .owner = 3, .seq = 1}, "audit-owner",
                        DOCTOR_WARNING},
                {{.there = true,
                         .regular = true,
                         .locked = true,
                         .holder = 9,
                         .holder_name = "dagward",
                         .torn = true,
                         .seq = 4},
                        NULL, DOCTOR_OK},
                {{.there = true, .regular = true, .locked = true, .holder = 9, .holder_name = "vi"},
                        "audit-held", DOCTOR_PROBLEM},
                {{.there = true, .regular = true, .locked = true}, "audit-held", DOCTOR_PROBLEM},
                {{.there = true, .regular = true, .foreign = true}, "audit-foreign",
                        DOCTOR_PROBLEM},
                {{.there = true, .regular = true, .torn = true, .seq = 4}, "audit-torn",
                        DOCTOR_WARNING},
        };
        const struct about who = {DOCTOR_AUDIT, 0, "", "audit"};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct audit_seen seen = cases[i].seen;
                struct diagnoses list;
                seen.path = "/var/log/audit.jsonl";
                seen.folder = "/var/log";
                diagnoses_init(&list);
                judge_audit(&list, &who, &seen);
                if (cases[i].name)
                        contains(complaint(&list, cases[i].name, cases[i].level)->remedy,
                                "/var/log");
                else
                        assert_int_equal(list.problems + list.warnings, 0);
                diagnoses_clear(&list);
        }
}

/* --- the list --- */

static void what_a_sink_of_azure_monitor_says_is_explained(void **state)
{
        static const struct config_sink sink = {.type = CONFIG_SINK_MONITOR,
                .endpoint = {.text = TEXT("https://e.example")},
                .rule = TEXT("dcr-7"),
                .stream = TEXT("Custom-A"),
                .credential = TEXT("writer"),
                .scope = TEXT("https://monitor.azure.com/.default")};
        static const struct {
                struct sink_seen seen;
                const char *name;
                enum doctor_level level;
                const char *found;
        } cases[] = {
                {{.tried = false}, "issuer-not-called", DOCTOR_SKIPPED, "was not called"},
                {{.tried = true, .why = "AADSTS700016"}, "issuer-token", DOCTOR_PROBLEM,
                        "AADSTS700016"},
                {{.tried = true, .obtained = true, .http = {.error = "timed out"}},
                        "issuer-unanswered", DOCTOR_PROBLEM, "timed out"},
                {{.tried = true, .obtained = true, .http = {.answered = true, .status = 204}},
                        "issuer-accepted", DOCTOR_OK, "dcr-7 takes records for stream Custom-A"},
                {{.tried = true, .obtained = true, .http = {.answered = true, .status = 401}},
                        "issuer-token-rejected", DOCTOR_PROBLEM, "no reason"},
                {{.tried = true, .obtained = true, .http = {.answered = true, .status = 403}},
                        "issuer-forbidden", DOCTOR_PROBLEM, "writer may not write"},
                {{.tried = true, .obtained = true, .http = {.answered = true, .status = 404}},
                        "issuer-not-found", DOCTOR_PROBLEM, "no rule dcr-7"},
                {{.tried = true, .obtained = true, .http = {.answered = true, .status = 429}},
                        "issuer-answer", DOCTOR_WARNING, "429"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct diagnoses list = {0};
                struct sink_seen seen = cases[i].seen;
                seen.config = &sink;
                judge_sink(&list, &about, &seen);
                const struct diagnosis *d =
                        cases[i].level == DOCTOR_PROBLEM || cases[i].level == DOCTOR_WARNING
                                ? complaint(&list, cases[i].name, cases[i].level)
                                : named(&list, cases[i].name);
                assert_int_equal(d->level, cases[i].level);
                contains(d->found, cases[i].found);
                diagnoses_clear(&list);
        }
}

static void tokens_that_are_refused_are_explained(void **state)
{
        static struct str issuers[] = {TEXT("https://a.example")};
        static const struct config_issuer issuer = {
                .name = TEXT("airflow"), .issuers = issuers, .n_issuers = 1};
        static const struct {
                struct token_seen seen;
                const char *name, *cause;
        } cases[] = {
                {{.verdict = TOKEN_NOT_YET, .why = "in 300 s", .issuer = &issuer}, "issuer-not-yet",
                        "clock is behind"},
                {{.verdict = TOKEN_EXPIRED, .issuer = &issuer}, "issuer-expired", "clock is ahead"},
                {{.verdict = TOKEN_UNKNOWN_ISSUER}, "issuer-issuer", "nobody configured"},
                {{.verdict = TOKEN_UNKNOWN_ISSUER, .near = &issuer, .difference = ISSUER_SLASH},
                        "issuer-issuer", "the slash at the end counts"},
                {{.verdict = TOKEN_UNKNOWN_ISSUER,
                         .near = &issuer,
                         .difference = ISSUER_ENTRA_FORM},
                        "issuer-issuer", "v1 form"},
                {{.verdict = TOKEN_UNKNOWN_ISSUER, .near = &issuer, .difference = ISSUER_CASE},
                        "issuer-issuer", "not equal to the byte"},
                {{.verdict = TOKEN_UNKNOWN_KID, .issuer = &issuer, .kids = "k1"}, "issuer-kid",
                        "published are: k1"},
                {{.verdict = TOKEN_NO_SUBJECT, .issuer = &issuer}, "issuer-refused", ""},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct diagnoses list = {0};
                judge_token(&list, &about, &cases[i].seen, NOW_S);
                contains(complaint(&list, cases[i].name, DOCTOR_PROBLEM)->cause, cases[i].cause);
                diagnoses_clear(&list);
        }
        struct diagnoses list = {0};
        struct token_seen seen = {.verdict = TOKEN_NO_KEYS};
        judge_token(&list, &about, &seen, NOW_S);
        assert_int_equal(named(&list, "issuer-not-verified")->level, DOCTOR_SKIPPED);
        seen = (struct token_seen){.issuer = &issuer, .no_policy = true};
        judge_token(&list, &about, &seen, NOW_S);
        assert_int_equal(named(&list, "issuer-bindings")->level, DOCTOR_SKIPPED);
        assert_int_equal(list.problems + list.warnings, 0);
        diagnoses_clear(&list);
}

static void findings_stand_in_the_order_of_parts_and_subjects(void **state)
{
        const struct about audit = {DOCTOR_AUDIT, 0, "", "c"};
        const struct about second = {DOCTOR_ISSUER, 1, "b", "b"};
        const struct about first = {DOCTOR_ISSUER, 0, "a", "a"};
        static const char *const expected[] = {"a-1", "a-2", "b-1", "b-2", "c-1"};
        struct diagnoses list;

        (void)state;
        diagnoses_init(&list);
        diagnose(&list, &second, DOCTOR_OK, "1", "x");
        diagnose(&list, &audit, DOCTOR_PROBLEM, "1", "x");
        diagnose(&list, &first, DOCTOR_WARNING, "1", "x");
        diagnose(&list, &second, DOCTOR_SKIPPED, "2", "x");
        diagnose(&list, &first, DOCTOR_OK, "2", "x");
        for (size_t i = 0; i < 5; i++)
                assert_string_equal(list.items[i].name, expected[i]);
        assert_int_equal(list.problems, 1);
        assert_int_equal(list.warnings, 1);
        assert_int_equal(list.skipped, 1);
        diagnoses_clear(&list);
}

static void controls_of_the_other_side_become_blanks(void **state)
{
        struct diagnoses list;

        (void)state;
        diagnoses_init(&list);
        struct diagnosis *d = diagnose(&list, &about, DOCTOR_PROBLEM, "x", "a%sb", "\x1b[2J\n\x7f");
        diagnosis_cause(d, "%s", "one\r\ntwo");
        assert_string_equal(d->found, "a [2J  b");
        assert_string_equal(d->cause, "one  two");
        diagnoses_clear(&list);
}

static void spans_are_told_in_their_larger_unit(void **state)
{
        char text[32];

        (void)state;
        assert_string_equal(span_text(0, text), "0 seconds");
        assert_string_equal(span_text(1, text), "1 second");
        assert_string_equal(span_text(-59, text), "59 seconds");
        assert_string_equal(span_text(3600, text), "1 hour");
        assert_string_equal(span_text(86400 * 3 + 5, text), "3 days");
        assert_string_equal(day_text(NOW_S, text), "2027-01-15");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(issuers_are_told_apart_by_how_they_differ),
                cmocka_unit_test(a_place_that_cannot_be_reached_is_explained),
                cmocka_unit_test(a_proxy_of_the_environment_is_named_where_the_way_is_shut),
                cmocka_unit_test(clocks_are_judged_by_how_far_they_are_apart),
                cmocka_unit_test(answers_that_are_no_json_are_explained),
                cmocka_unit_test(what_entra_says_names_what_was_sent),
                cmocka_unit_test(a_code_is_found_in_a_text),
                cmocka_unit_test(refusals_tell_nobody_from_somebody),
                cmocka_unit_test(what_an_organization_answers_is_explained),
                cmocka_unit_test(files_are_judged_by_what_they_would_give_away),
                cmocka_unit_test(ports_are_judged_by_why_they_cannot_be_had),
                cmocka_unit_test(certificates_of_listeners_are_judged),
                cmocka_unit_test(audit_files_are_judged),
                cmocka_unit_test(what_a_sink_of_azure_monitor_says_is_explained),
                cmocka_unit_test(tokens_that_are_refused_are_explained),
                cmocka_unit_test(findings_stand_in_the_order_of_parts_and_subjects),
                cmocka_unit_test(controls_of_the_other_side_become_blanks),
                cmocka_unit_test(spans_are_told_in_their_larger_unit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
