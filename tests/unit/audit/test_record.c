#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "dagward/audit/record.h"

static const struct str roles[] = {STR("etl-operator"), STR("reader")};
static const struct pair query[] = {
        {STR("api-version"), STR("7.1")},
        {STR("sv"), STR("2023-01-01")},
        {STR("$Top"), STR("5 & 6")},
        {STR("sig"), STR("Zm9vYmFy")},
};
static const struct pair resources[] = {
        {STR("project"), STR("analytics")},
        {STR("pipeline"), STR("42")},
};
static const struct str says[] = {
        STR("templateParameters.environment"),
        STR("variables.x"),
};

static struct audit_fields typical(void)
{
        return (struct audit_fields){
                .time_ms = 1795425153123, /* 2026-11-23T09:12:33.123Z */
                .kind = AUDIT_OUTCOME,
                .request_id = STR("019ab1c2-0000-7000-8000-000000000001"),
                .correlation_id = STR("019ab1c2-0000-7000-8000-000000000002"),
                .traceparent = STR("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                .caller = {STR("airflow"), STR("system:serviceaccount:airflow:worker"), roles, 2,
                        STR("jti-1"), STR("bearer"), STR("10.0.0.7")},
                .claimed = {STR("nightly"), STR("scheduled__2026-11-23"), STR("load"), STR("3"),
                        STR("1"), STR("python-requests/2.28.1")},
                .request = {STR("POST"), STR("dagward.example"),
                        STR("/contoso/analytics/_apis/pipelines/42/runs"), query, 4,
                        STR("pipelines.runs.run"), STR("execute"), STR("contoso"), STR("analytics"),
                        resources, 2, says, 2, 17},
                .decision = {AUDIT_ALLOW, STR("production workers"), STR("etl-operator"),
                        STR("policy.yaml:12"), STR("allowed"), STR("abcdef"), STR("deny"),
                        STR("INC-4711 burns")},
                .credential = {STR("etl"), STR("federated")},
                .upstream = {STR("dev.azure.com"), 200, STR("act"), STR("e2e"), 1, 9876},
                .response = {200, 345},
                .duration_us = 12345,
                .run = {STR("1234"), STR("https://dev.azure.com/contoso/_build/results?id=1")},
        };
}

static const char *write_record(const struct audit_fields *fields)
{
        static char text[AUDIT_RECORD_MOST + 3];
        struct buf out;

        buf_init(&out, AUDIT_RECORD_MOST + 64);
        assert_true(audit_record_write(&out, fields));
        assert_in_range(out.len, 1, AUDIT_RECORD_MOST);
        snprintf(text, sizeof(text), "{%.*s}", (int)out.len, out.data);
        assert_int_equal(strlen(text), out.len + 2); /* no NUL came through */
        assert_null(strchr(text, '\n'));
        buf_clear(&out);
        return text;
}

static json_t *parse(const char *text)
{
        json_error_t error;
        json_t *json = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);

        if (!json)
                fail_msg("%s at %d: %.200s", error.text, error.position, text);
        return json;
}

static void all_fields_are_written_in_the_documented_order(void **state)
{
        struct audit_fields fields = typical();

        (void)state;
        assert_string_equal(write_record(&fields),
                "{\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"outcome\","
                "\"request_id\":\"019ab1c2-0000-7000-8000-000000000001\","
                "\"correlation_id\":\"019ab1c2-0000-7000-8000-000000000002\","
                "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\","
                "\"caller\":{\"issuer\":\"airflow\","
                "\"subject\":\"system:serviceaccount:airflow:worker\","
                "\"roles\":[\"etl-operator\",\"reader\"],\"token_id\":\"jti-1\","
                "\"via\":\"bearer\",\"address\":\"10.0.0.7\"},"
                "\"claimed\":{\"dag_id\":\"nightly\",\"run_id\":\"scheduled__2026-11-23\","
                "\"task_id\":\"load\",\"map_index\":\"3\",\"try_number\":\"1\","
                "\"user_agent\":\"python-requests/2.28.1\"},"
                "\"request\":{\"method\":\"POST\",\"host\":\"dagward.example\","
                "\"path\":\"/contoso/analytics/_apis/pipelines/42/runs\","
                "\"query\":\"api-version=7.1&sv=***&$Top=5%20%26%206&sig=***\","
                "\"operation\":\"pipelines.runs.run\",\"access\":\"execute\","
                "\"organization\":\"contoso\",\"project\":\"analytics\","
                "\"resources\":[\"project:analytics\",\"pipeline:42\"],"
                "\"says\":[\"templateParameters.environment\",\"variables.x\"],\"bytes\":17},"
                "\"decision\":{\"effect\":\"allow\",\"role\":\"etl-operator\","
                "\"binding\":\"production workers\",\"rule\":\"policy.yaml:12\","
                "\"reason\":\"allowed\",\"policy\":\"abcdef\",\"shadow\":\"deny\","
                "\"break_glass\":\"INC-4711 burns\"},"
                "\"credential\":{\"name\":\"etl\",\"type\":\"federated\"},"
                "\"upstream\":{\"host\":\"dev.azure.com\",\"status\":200,\"activity_id\":\"act\","
                "\"e2eid\":\"e2e\",\"attempts\":1,\"ms\":9.876},"
                "\"response\":{\"status\":200,\"bytes\":345},\"ms\":12.345,"
                "\"run\":{\"id\":\"1234\","
                "\"url\":\"https://dev.azure.com/contoso/_build/results?id=1\"}}");
}

static void empty_fields_leave_their_members_out(void **state)
{
        struct audit_fields fields = {.kind = AUDIT_INTENT};

        (void)state;
        assert_string_equal(write_record(&fields),
                "{\"time\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"intent\"}");
        fields.kind = AUDIT_OUTCOME;
        assert_string_equal(write_record(&fields),
                "{\"time\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"outcome\",\"ms\":0.000}");
        fields.caller.address = STR("::1");
        fields.response.status = 401;
        assert_string_equal(write_record(&fields),
                "{\"time\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"outcome\","
                "\"caller\":{\"address\":\"::1\"},\"response\":{\"status\":401,\"bytes\":0},"
                "\"ms\":0.000}");
}

static void an_event_has_a_name_and_details(void **state)
{
        static const struct pair detail[] = {
                {STR("issuer"), STR("entra")},
                {STR("why"), STR("line\nbreak")},
        };
        struct audit_fields fields = {
                .kind = AUDIT_EVENT,
                .event = {STR("keys.refresh_failed"), detail, 2},
        };

        (void)state;
        assert_string_equal(write_record(&fields),
                "{\"time\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"event\","
                "\"event\":{\"name\":\"keys.refresh_failed\","
                "\"detail\":{\"issuer\":\"entra\",\"why\":\"line\\nbreak\"}}}");
        fields.event.n_detail = 0;
        assert_string_equal(write_record(&fields),
                "{\"time\":\"1970-01-01T00:00:00.000Z\",\"kind\":\"event\","
                "\"event\":{\"name\":\"keys.refresh_failed\"}}");
}

static void the_time_is_right_when_seconds_and_milliseconds_change(void **state)
{
        static const struct {
                int64_t ms;
                const char *text;
        } cases[] = {
                {1795425153123, "2026-11-23T09:12:33.123Z"},
                {1795425153999, "2026-11-23T09:12:33.999Z"},
                {1795425154000, "2026-11-23T09:12:34.000Z"},
                {1795425153000, "2026-11-23T09:12:33.000Z"},
                {253402300799999, "9999-12-31T23:59:59.999Z"},
                {0, "1970-01-01T00:00:00.000Z"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct audit_fields fields = {.time_ms = cases[i].ms};
                json_t *json = parse(write_record(&fields));
                assert_string_equal(
                        json_string_value(json_object_get(json, "time")), cases[i].text);
                json_decref(json);
        }
}

/* Every view of the record, so that hostile bytes reach all of them. */
static void fill(struct audit_fields *f, struct str s)
{
        static struct str all_roles[40];
        static struct pair pairs[40];
        static struct pair detail = {STR("detail"), {0}}; /* names are ours */
        struct str *views[] = {&f->request_id, &f->correlation_id, &f->traceparent,
                &f->caller.issuer, &f->caller.subject, &f->caller.token_id, &f->caller.via,
                &f->caller.address, &f->claimed.dag_id, &f->claimed.run_id, &f->claimed.task_id,
                &f->claimed.map_index, &f->claimed.try_number, &f->claimed.user_agent,
                &f->request.method, &f->request.host, &f->request.path, &f->request.operation,
                &f->request.access, &f->request.organization, &f->request.project,
                &f->decision.binding, &f->decision.role, &f->decision.rule, &f->decision.reason,
                &f->decision.policy, &f->decision.shadow, &f->decision.break_glass,
                &f->credential.name, &f->credential.type, &f->upstream.host,
                &f->upstream.activity_id, &f->upstream.e2eid, &f->run.id, &f->run.url,
                &f->event.name};

        for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
                *views[i] = s;
        for (size_t i = 0; i < 40; i++) {
                all_roles[i] = s;
                pairs[i] = (struct pair){s, s};
        }
        pairs[1].name = STR("api-version"); /* the value is written */
        pairs[2].name = STR("$top");
        f->caller.roles = all_roles;
        f->request.query = pairs;
        f->request.resources = pairs;
        detail.value = s;
        f->event.detail = &detail;
        f->caller.n_roles = f->request.n_query = f->request.n_resources = 40;
        f->event.n_detail = 1;
        f->upstream.status = f->response.status = -2147483647;
        f->upstream.attempts = 4294967295u;
        f->request.bytes = f->response.bytes = INT64_MAX;
        f->duration_us = f->upstream.duration_us = INT64_MAX;
        f->time_ms = 253402300799999;
        f->kind = AUDIT_OUTCOME;
        f->decision.effect = AUDIT_ERROR;
}

static void every_byte_in_every_field_gives_valid_json_on_one_line(void **state)
{
        (void)state;
        for (unsigned c = 0; c < 256; c++) {
                char bytes[40];
                struct audit_fields fields = {0};

                memset(bytes, (int)c, sizeof(bytes));
                for (size_t len = 1; len <= sizeof(bytes); len += 13) {
                        fill(&fields, str_view(bytes, len));
                        json_decref(parse(write_record(&fields)));
                        bytes[0] = 'x'; /* and in the middle of others */
                        fill(&fields, str_view(bytes, len));
                        json_decref(parse(write_record(&fields)));
                        memset(bytes, (int)c, sizeof(bytes));
                }
        }
}

/* Copied in pieces that overlap: none of them is too short or too far. */
static void a_value_of_any_length_with_any_byte_anywhere_is_the_same_when_it_is_read(void **state)
{
        static const char specials[] = {'x', '"', '\\', 0x1f, 0x7f};

        (void)state;
        for (size_t len = 1; len <= 50; len++) {
                for (size_t at = 0; at < len; at++) {
                        for (size_t i = 0; i < sizeof(specials); i++) {
                                char *value = malloc(len); /* a sanitizer sees its ends */
                                for (size_t k = 0; k < len; k++)
                                        value[k] = (char)('A' + k);
                                value[at] = specials[i];
                                struct audit_fields fields = {
                                        .claimed = {.dag_id = str_view(value, len)}};
                                json_t *json = parse(write_record(&fields));
                                const json_t *read =
                                        json_object_get(json_object_get(json, "claimed"), "dag_id");
                                assert_int_equal(json_string_length(read), len);
                                assert_memory_equal(json_string_value(read), value, len);
                                json_decref(json);
                                free(value);
                        }
                }
        }
}

static void malformed_utf8_becomes_replacement_characters(void **state)
{
        static const struct {
                const char *in, *out;
        } cases[] = {
                {"caf\xC3\xA9", "caf\xC3\xA9"},
                {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
                {"a\xC0\xAF", "a\xEF\xBF\xBD\xEF\xBF\xBD"},               /* overlong / */
                {"\xE0\x80\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* overlong */
                {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* surrogate */
                {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                {"x\xE2\x82", "x\xEF\xBF\xBD\xEF\xBF\xBD"}, /* cut off */
                {"\xFF", "\xEF\xBF\xBD"},
                {"a\xE2\x80\xA8z", "a\xE2\x80\xA8z"}, /* escaped in the file */
                {"quote\" slash\\ tab\t nul-free del\x7F",
                        "quote\" slash\\ tab\t nul-free del\x7F"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct audit_fields fields = {.claimed.dag_id = str_of(cases[i].in)};
                json_t *json = parse(write_record(&fields));
                assert_string_equal(json_string_value(json_object_get(
                                            json_object_get(json, "claimed"), "dag_id")),
                        cases[i].out);
                json_decref(json);
        }
}

static void huge_values_are_cut_with_a_marker_and_the_record_stays_bounded(void **state)
{
        static const char *const units[] = {"a", "\x01", "\"", "\xFF", "\xC3\xA9", "\xE2\x80\xA8",
                "\xF0\x9F\x98\x80", "/", "a b", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln ",
                "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst.", "%"};
        enum { MEBIBYTE = 1 << 20 };
        char *bytes = malloc(MEBIBYTE);

        (void)state;
        for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
                size_t n = strlen(units[i]);
                struct audit_fields fields = {0};
                for (size_t at = 0; at < MEBIBYTE; at++)
                        bytes[at] = units[i][at % n];
                fill(&fields, str_view(bytes, MEBIBYTE));
                const char *text = write_record(&fields);
                assert_non_null(strstr(text, " bytes]"));
                assert_non_null(strstr(text, " more]"));
                json_decref(parse(text));
        }
        free(bytes);
}

static void a_cut_says_how_much_is_missing(void **state)
{
        static char bytes[600];
        char expected[700];
        struct audit_fields fields = {.claimed.dag_id = str_view(bytes, sizeof(bytes))};

        (void)state;
        memset(bytes, 'd', sizeof(bytes));
        snprintf(expected, sizeof(expected), "\"dag_id\":\"%.512s[+88 bytes]\"", bytes);
        assert_non_null(strstr(write_record(&fields), expected));
        fields.claimed.dag_id.len = 512;
        assert_null(strstr(write_record(&fields), "bytes]"));
}

#define PAT_52 "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst"
#define PAT_84                                                                                     \
        "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpJQQJ99BKACAAAAAAAAAAAAASAZDO4abc"
#define JWT "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJ3b3JrZXIifQ.c2lnbmF0dXJl"

static void what_looks_like_a_secret_is_not_written(void **state)
{
        static const struct {
                const char *in, *out;
        } cases[] = {
                {JWT, "***"},
                {"before " JWT " after", "before *** after"},
                {"x" JWT, "x***"},
                {"/a/" JWT "/b", "/a/***/b"},
                {"eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.", "***"},
                {JWT "," JWT, "***,***"},
                {PAT_52, "***"},
                {"user:" PAT_52 "@host", "user:***@host"},
                {PAT_84, "***"},
                /* not secrets */
                {"eyJ", "eyJ"},
                {"eyJones.and.friends", "eyJones.and.friends"},
                {"keyJump", "keyJump"},
                {"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", NULL},
                {PAT_52 "x", NULL}, /* 53: not the length of one */
                {"da39a3ee5e6b4b0d3255bfef95601890afd80709", NULL},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct audit_fields fields = {.request.path = str_of(cases[i].in),
                        .claimed.user_agent = str_of(cases[i].in)};
                const char *expected = cases[i].out ? cases[i].out : cases[i].in;
                json_t *json = parse(write_record(&fields));
                assert_string_equal(json_string_value(json_object_get(
                                            json_object_get(json, "request"), "path")),
                        expected);
                assert_string_equal(json_string_value(json_object_get(
                                            json_object_get(json, "claimed"), "user_agent")),
                        expected);
                json_decref(json);
        }
}

static void a_secret_behind_the_cut_or_across_it_is_not_written_either(void **state)
{
        static char bytes[4096];
        size_t len = strlen(JWT);

        (void)state;
        for (size_t at = 500; at < 530; at++) {
                struct audit_fields fields = {.claimed.dag_id = str_view(bytes, sizeof(bytes))};
                memset(bytes, '-', sizeof(bytes));
                bytes[at - 1] = ' ';
                memcpy(bytes + at, JWT, len);
                bytes[at + len] = ' ';
                assert_null(strstr(write_record(&fields), "eyJ"));
        }
}

static void query_values_are_written_only_where_they_are_known_to_be_harmless(void **state)
{
        static const struct {
                struct pair pair;
                const char *out;
        } cases[] = {
                {{STR("api-version"), STR("7.1-preview.1")}, "api-version=7.1-preview.1"},
                {{STR("API-Version"), STR("7.1")}, "API-Version=7.1"},
                {{STR("service"), STR("git-upload-pack")}, "service=git-upload-pack"},
                {{STR("$top"), STR("")}, "$top="},
                {{STR("searchCriteria.author"), STR("me")}, "searchCriteria.author=***"},
                {{STR("sig"), STR("abc")}, "sig=***"},
                {{STR("access_token"), STR("abc")}, "access_token=***"},
                {{STR("continuationToken"), STR("abc")}, "continuationToken=***"},
                {{STR("api-version"), STR(JWT)}, "api-version=***"},
                {{STR(JWT), STR("")}, "***="},
                {{STR("name with spaces"), STR("x")}, "***=***"},
                {{STR("path"), STR("/a b/\"c\"&d=e")}, "path=/a%20b/%22c%22%26d%3De"},
                {{STR("path"), STR("caf\xC3\xA9\n")}, "path=caf%C3%A9%0A"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct audit_fields fields = {.request = {.query = &cases[i].pair, .n_query = 1}};
                json_t *json = parse(write_record(&fields));
                assert_string_equal(json_string_value(json_object_get(
                                            json_object_get(json, "request"), "query")),
                        cases[i].out);
                json_decref(json);
        }
}

static void without_room_nothing_is_written(void **state)
{
        static char memory[AUDIT_RECORD_MOST + 10];
        struct audit_fields fields = typical();
        struct buf out;

        (void)state;
        buf_init_fixed(&out, memory, sizeof(memory));
        BUF_LITERAL(&out, "0123456789");
        assert_true(audit_record_write(&out, &fields));
        size_t len = out.len;
        assert_false(audit_record_write(&out, &fields));
        assert_int_equal(out.len, len);
        assert_false(out.overflow);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_fields_are_written_in_the_documented_order),
                cmocka_unit_test(empty_fields_leave_their_members_out),
                cmocka_unit_test(an_event_has_a_name_and_details),
                cmocka_unit_test(the_time_is_right_when_seconds_and_milliseconds_change),
                cmocka_unit_test(every_byte_in_every_field_gives_valid_json_on_one_line),
                cmocka_unit_test(
                        a_value_of_any_length_with_any_byte_anywhere_is_the_same_when_it_is_read),
                cmocka_unit_test(malformed_utf8_becomes_replacement_characters),
                cmocka_unit_test(huge_values_are_cut_with_a_marker_and_the_record_stays_bounded),
                cmocka_unit_test(a_cut_says_how_much_is_missing),
                cmocka_unit_test(what_looks_like_a_secret_is_not_written),
                cmocka_unit_test(a_secret_behind_the_cut_or_across_it_is_not_written_either),
                cmocka_unit_test(query_values_are_written_only_where_they_are_known_to_be_harmless),
                cmocka_unit_test(without_room_nothing_is_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
