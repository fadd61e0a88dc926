#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dagward/http/headers.h"

static struct h1_field field_of(const char *name)
{
        struct str text = str_of(name);

        return (struct h1_field){text, STR("x"), h1_name_find(text)};
}

static void every_name_is_found_by_its_text_in_any_case(void **state)
{
        (void)state;
        for (enum h1_name id = H1_OTHER + 1; id < H1_NAME_COUNT; id++) {
                struct str text = h1_name_text(id);
                char upper[64], lower[64];
                assert_true(text.len > 0 && text.len < sizeof(upper));
                for (size_t i = 0; i < text.len; i++) {
                        char c = text.ptr[i];
                        lower[i] = char_lower(c);
                        upper[i] = lower[i] >= 'a' && lower[i] <= 'z' ? (char)(lower[i] - 32) : c;
                }
                assert_int_equal(h1_name_find(text), id);
                assert_int_equal(h1_name_find(str_view(upper, text.len)), id);
                assert_int_equal(h1_name_find(str_view(lower, text.len)), id);
        }
        assert_true(str_empty(h1_name_text(H1_OTHER)));
}

static void a_name_with_any_byte_changed_is_another(void **state)
{
        static const char token[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "abcdefghijklmnopqrstuvwxyz";
        (void)state;
        for (enum h1_name id = H1_OTHER + 1; id < H1_NAME_COUNT; id++) {
                struct str text = h1_name_text(id);
                char copy[64];
                for (size_t i = 0; i < text.len; i++) {
                        memcpy(copy, text.ptr, text.len);
                        for (const char *c = token; *c; c++) {
                                copy[i] = *c;
                                bool same = str_eq_fold(str_view(copy, text.len), text);
                                assert_true((h1_name_find(str_view(copy, text.len)) == id) == same);
                        }
                }
                memcpy(copy, text.ptr, text.len);
                copy[text.len] = 's';
                assert_int_not_equal(h1_name_find(str_view(copy, text.len + 1)), id);
                assert_int_not_equal(h1_name_find(str_view(copy, text.len - 1)), id);
        }
        assert_int_equal(h1_name_find(STR("")), H1_OTHER);
}

struct class_case {
        const char *name;
        enum h1_class class;
};

static void a_clients_field_is_classed_by_name(void **state)
{
        static const struct class_case cases[] = {
                {"Accept", FIELD_FORWARD},
                {"Content-Type", FIELD_FORWARD},
                {"Git-Protocol", FIELD_FORWARD},
                {"X-Test", FIELD_FORWARD},
                {"X-TFS-Session", FIELD_FORWARD},
                {"X-VSS-ForceMsaPassThrough", FIELD_FORWARD},
                {"x-ms-client-request-id", FIELD_FORWARD},
                {"If-None-Match", FIELD_FORWARD},
                {"X-Api-Version", FIELD_FORWARD},
                {"npm-session", FIELD_FORWARD},
                {"Connection", FIELD_HOP},
                {"Keep-Alive", FIELD_HOP},
                {"TE", FIELD_HOP},
                {"Trailer", FIELD_HOP},
                {"Upgrade", FIELD_HOP},
                {"HTTP2-Settings", FIELD_HOP},
                {"Proxy-Connection", FIELD_HOP},
                {"Proxy-Whatever", FIELD_HOP},
                {"Expect", FIELD_HOP},
                {"Authorization", FIELD_CREDENTIAL},
                {"aUTHORIZATION", FIELD_CREDENTIAL},
                {"X-Dagward-Token", FIELD_CREDENTIAL},
                {"X_Dagward_Token", FIELD_CREDENTIAL},
                {"x-dagward_token", FIELD_CREDENTIAL},
                {"X-Dagward-Tokens", FIELD_CREDENTIAL},
                {"X-Dagward-Reason", FIELD_OURS},
                {"x_dagward_reason", FIELD_OURS},
                {"X-Dagward-Reason2", FIELD_CREDENTIAL},
                {"Authorization_", FIELD_CREDENTIAL},
                {"Proxy_Authorization", FIELD_CREDENTIAL},
                {"Cookie", FIELD_CREDENTIAL},
                {"Cookie2", FIELD_CREDENTIAL},
                {"X-Ms-Authorization-Auxiliary", FIELD_CREDENTIAL},
                {"X-MS-TOKEN-AAD-ID-TOKEN", FIELD_CREDENTIAL},
                {"X-NuGet-ApiKey", FIELD_CREDENTIAL},
                {"X-TFS-Impersonate", FIELD_IMPERSONATION},
                {"X-VSS-Impersonation", FIELD_IMPERSONATION},
                {"Impersonate-User", FIELD_IMPERSONATION},
                {"X-VSS-UserData", FIELD_IMPERSONATION},
                {"X-TFS-ServiceIdentity", FIELD_IMPERSONATION},
                {"x-vss-anything-not-known", FIELD_IMPERSONATION},
                {"x_vss_userdata", FIELD_IMPERSONATION},
                {"X-VSS-ForwardedIdentity", FIELD_IMPERSONATION},
                {"X-Forwarded-For", FIELD_IMPERSONATION},
                {"X-Forwarded-User", FIELD_IMPERSONATION},
                {"X_Forwarded_User", FIELD_IMPERSONATION},
                {"Forwarded", FIELD_IMPERSONATION},
                {"X-Real-IP", FIELD_IMPERSONATION},
                {"X-Original-URL", FIELD_IMPERSONATION},
                {"X-Rewrite-URL", FIELD_IMPERSONATION},
                {"X-Override-URL", FIELD_IMPERSONATION},
                {"X-MS-CLIENT-PRINCIPAL-NAME", FIELD_IMPERSONATION},
                {"X-ARR-ClientCert", FIELD_IMPERSONATION},
                {"X-ARR-SSL", FIELD_IMPERSONATION},
                {"REMOTE_USER", FIELD_IMPERSONATION},
                {"Remote-User", FIELD_IMPERSONATION},
                {"X-Client-IP", FIELD_IMPERSONATION},
                {"True-Client-IP", FIELD_IMPERSONATION},
                {"X-Endpoint-API-UserInfo", FIELD_IMPERSONATION},
                {"X-SSL-Client-S-DN", FIELD_IMPERSONATION},
                {"X-Host", FIELD_IMPERSONATION},
                {"X_Harmless", FIELD_IMPERSONATION},
                {"X.Harmless", FIELD_IMPERSONATION},
                {"Host", FIELD_OURS},
                {"Content-Length", FIELD_OURS},
                {"Content_Length", FIELD_OURS},
                {"Transfer-Encoding", FIELD_OURS},
                {"Transfer_Encoding", FIELD_OURS},
                {"Transfer-Encodings", FIELD_OURS},
                {"Content-Length-", FIELD_OURS},
                {"User-Agent", FIELD_OURS},
                {"X-Correlation-Id", FIELD_OURS},
                {"X-Request-Id", FIELD_OURS},
                {"X-VSS-E2EID", FIELD_OURS},
                {"traceparent", FIELD_OURS},
                {"X-Airflow-Dag-Id", FIELD_OURS},
                {"X-Airflow-Whatever", FIELD_OURS},
                {"X_Airflow_Dag_Id", FIELD_OURS},
                {"X-TFS-FedAuthRedirect", FIELD_OURS},
                {"Idempotency-Key", FIELD_OURS},
                {"X-HTTP-Method-Override", FIELD_OVERRIDE},
                {"x-http-method-override", FIELD_OVERRIDE},
                {"X-HTTP-Method", FIELD_OVERRIDE},
                {"X-Method-Override", FIELD_OVERRIDE},
                {"X-METHOD-OVERRIDE", FIELD_OVERRIDE},
                {"X-HTTP-Method_Override", FIELD_OVERRIDE},
                {"X_HTTP_METHOD", FIELD_OVERRIDE},
                {"X.HTTP.Method.Override", FIELD_OVERRIDE},
                {"HTTP-Method-Override", FIELD_OVERRIDE},
        };
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct h1_field field = field_of(cases[i].name);
                if (h1_request_class(&field) != cases[i].class)
                        fail_msg("%s: %d", cases[i].name, h1_request_class(&field));
        }
}

static void upstreams_field_is_classed_by_name(void **state)
{
        static const struct class_case cases[] = {
                {"Content-Type", FIELD_FORWARD},
                {"ETag", FIELD_FORWARD},
                {"ActivityId", FIELD_FORWARD},
                {"X-VSS-E2EID", FIELD_FORWARD},
                {"X-RateLimit-Remaining", FIELD_FORWARD},
                {"Retry-After", FIELD_FORWARD},
                {"x-ms-continuationtoken", FIELD_FORWARD},
                {"Location", FIELD_FORWARD},
                {"X-TFS-ProcessId", FIELD_FORWARD},
                {"Connection", FIELD_HOP},
                {"Alt-Svc", FIELD_HOP},
                {"Strict-Transport-Security", FIELD_HOP},
                {"Trailer", FIELD_HOP},
                {"Content_Type", FIELD_HOP},
                {"Set-Cookie", FIELD_CREDENTIAL},
                {"Set-Cookie2", FIELD_CREDENTIAL},
                {"set_cookie", FIELD_CREDENTIAL},
                {"WWW-Authenticate", FIELD_CREDENTIAL},
                {"Proxy-Authenticate", FIELD_CREDENTIAL},
                {"Lfs-Authenticate", FIELD_CREDENTIAL},
                {"Authentication-Info", FIELD_CREDENTIAL},
                {"X-VSS-AuthorizationEndpoint", FIELD_CREDENTIAL},
                {"X-VSS-ResourceTenant", FIELD_CREDENTIAL},
                {"X-TFS-FedAuthRealm", FIELD_CREDENTIAL},
                {"X-TFS-FedAuthIssuer", FIELD_CREDENTIAL},
                {"X-VSS-UserData", FIELD_CREDENTIAL},
                {"P3P", FIELD_CREDENTIAL},
                {"Content-Length", FIELD_OURS},
                {"Transfer-Encoding8", FIELD_OURS},
                {"Transfer-Encoding", FIELD_OURS},
                {"X-Correlation-Id", FIELD_OURS},
        };
        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct h1_field field = field_of(cases[i].name);
                if (h1_response_class(&field) != cases[i].class)
                        fail_msg("%s: %d", cases[i].name, h1_response_class(&field));
        }
}

static void a_very_long_unknown_name_does_not_travel(void **state)
{
        char name[400];

        (void)state;
        memset(name, 'x', sizeof(name));
        struct h1_field field = {str_view(name, sizeof(name)), STR("v"), H1_OTHER};
        assert_int_equal(h1_request_class(&field), FIELD_IMPERSONATION);
        field.name.len = 128;
        assert_int_equal(h1_request_class(&field), FIELD_FORWARD);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_name_is_found_by_its_text_in_any_case),
                cmocka_unit_test(a_name_with_any_byte_changed_is_another),
                cmocka_unit_test(a_clients_field_is_classed_by_name),
                cmocka_unit_test(upstreams_field_is_classed_by_name),
                cmocka_unit_test(a_very_long_unknown_name_does_not_travel),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
