#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>
#include <zlib.h>

#include "dagward/sink/monitor.h"
#include "dagward/sink/syslog.h"

#define TAIL                                                                                       \
        ",\"prev\":\"0000000000000000000000000000000000000000000000000000000000000000\","          \
        "\"hash\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"
#define HEAD "{\"seq\":7,\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":"
#define OUTCOME(effect)                                                                            \
        HEAD "\"outcome\",\"request_id\":\"r-1\",\"correlation_id\":\"c-1\",\"decision\":{"        \
             "\"effect\":\"" effect "\"},\"response\":{\"status\":403,\"bytes\":1},"               \
             "\"ms\":1.500" TAIL
#define EVENT(name) HEAD "\"event\",\"event\":{\"name\":\"" name "\",\"detail\":{}}" TAIL

static const struct sink_syslog settings = {
        .facility = 16,
        .severity = {6, 4, 3},
        .hostname = "edge 1",
        .app_name = "dagward",
        .enterprise = 32473,
};

static void expect_message(const char *line, const char *before)
{
        struct syslog_writer writer;
        struct buf out;
        char wanted[2000], counted[2100];

        syslog_writer_init(&writer, &settings);
        writer.pid = 42;
        buf_init(&out, 1 << 20);
        snprintf(wanted, sizeof(wanted), "%s%s", before, line);
        syslog_write(&writer, str_of(line), false, &out);
        buf_char(&out, '\0');
        assert_string_equal(out.data, wanted);
        /* The count is of bytes, and of the message alone. */
        buf_reset(&out);
        syslog_write(&writer, str_of(line), true, &out);
        buf_char(&out, '\0');
        snprintf(counted, sizeof(counted), "%zu %s", strlen(wanted), wanted);
        assert_string_equal(out.data, counted);
        buf_clear(&out);
        syslog_writer_clear(&writer);
}

static void a_record_is_the_message_behind_a_header_of_RFC_5424(void **state)
{
#define START " 2026-11-23T09:12:33.123Z edge_1 dagward 42 "
        (void)state;
        expect_message(OUTCOME("allow"),
                "<134>1" START "outcome [dagward@32473 seq=\"7\" kind=\"outcome\" "
                "correlationId=\"c-1\" requestId=\"r-1\" effect=\"allow\"] ");
        expect_message(OUTCOME("deny"),
                "<132>1" START "outcome [dagward@32473 seq=\"7\" kind=\"outcome\" "
                "correlationId=\"c-1\" requestId=\"r-1\" effect=\"deny\"] ");
        expect_message(OUTCOME("error"),
                "<131>1" START "outcome [dagward@32473 seq=\"7\" kind=\"outcome\" "
                "correlationId=\"c-1\" requestId=\"r-1\" effect=\"error\"] ");
        expect_message(EVENT("keys.refresh_failed"),
                "<131>1" START "keys.refresh_failed [dagward@32473 seq=\"7\" kind=\"event\"] ");
        expect_message(EVENT("reload.done"),
                "<134>1" START "reload.done [dagward@32473 seq=\"7\" kind=\"event\"] ");
        expect_message(EVENT("break_glass.used"),
                "<132>1" START "break_glass.used [dagward@32473 seq=\"7\" kind=\"event\"] ");
        /* MSGID has 32 characters. */
        expect_message(EVENT("a.name.that.is.longer.than.32.characters"),
                "<134>1" START "a.name.that.is.longer.than.32.ch [dagward@32473 seq=\"7\" "
                "kind=\"event\"] ");
}

static void what_is_not_ASCII_has_a_byte_order_mark(void **state)
{
        (void)state;
        expect_message(HEAD
                "\"event\",\"event\":{\"name\":\"a\",\"detail\":{\"b\":\"\xC3\xA4\"}}" TAIL,
                "<134>1" START "a [dagward@32473 seq=\"7\" kind=\"event\"] \xEF\xBB\xBF");
}

static void structured_data_cannot_be_left(void **state)
{
        (void)state;
        expect_message(HEAD "\"outcome\",\"correlation_id\":\"a]b\\\"c\\\\d\"" TAIL,
                "<134>1" START "outcome [dagward@32473 seq=\"7\" kind=\"outcome\" "
                "correlationId=\"a\\]b\\\"c\\\\d\"] ");
}

static void what_is_no_record_is_sent_all_the_same(void **state)
{
        (void)state;
        expect_message("{\"seq\":7",
                "<134>1 - edge_1 dagward 42 intent [dagward@32473 seq=\"0\" kind=\"intent\"] ");
}

static json_t *row_of(const char *line)
{
        struct arena arena;
        struct buf out;

        arena_init(&arena, 4096, 1 << 20);
        buf_init(&out, 1 << 20);
        monitor_write(&out, str_of(line), "edge-1", &arena);
        json_t *row = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(row);
        buf_clear(&out);
        arena_clear(&arena);
        return row;
}

static void a_row_has_the_columns_and_the_record(void **state)
{
        json_t *row = row_of(OUTCOME("deny"));
        json_t *record = json_loads(OUTCOME("deny"), 0, NULL);

        (void)state;
#define TEXT(name) json_string_value(json_object_get(row, name))
        assert_string_equal(TEXT("TimeGenerated"), "2026-11-23T09:12:33.123Z");
        assert_string_equal(TEXT("Source"), "edge-1");
        assert_string_equal(TEXT("Effect"), "deny");
        assert_string_equal(TEXT("CorrelationId"), "c-1");
        assert_int_equal(json_integer_value(json_object_get(row, "Seq")), 7);
        assert_int_equal(json_integer_value(json_object_get(row, "Status")), 403);
        assert_true(json_real_value(json_object_get(row, "DurationMs")) == 1.5);
        assert_true(json_equal(json_object_get(row, "Record"), record));
        assert_null(json_object_get(row, "Subject")); /* empty: left out */
        json_decref(record);
        json_decref(row);
        row = row_of("{\"seq\":7,broken");
        assert_string_equal(TEXT("Record"), "{\"seq\":7,broken");
        assert_int_equal(json_integer_value(json_object_get(row, "Seq")), 7);
        json_decref(row);
}

static void a_body_is_packed_and_unpacked(void **state)
{
        const struct str body = STR("[{\"a\":1},{\"a\":1},{\"a\":1},{\"a\":1}]");
        unsigned char plain[200];
        z_stream z = {0};
        struct buf out;

        (void)state;
        buf_init(&out, 1 << 20);
        monitor_pack(body, &out);
        assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
        z.next_in = (unsigned char *)out.data;
        z.avail_in = (unsigned)out.len;
        z.next_out = plain;
        z.avail_out = sizeof(plain);
        assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
        assert_int_equal(z.total_out, body.len);
        assert_memory_equal(plain, body.ptr, body.len);
        inflateEnd(&z);
        buf_clear(&out);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_record_is_the_message_behind_a_header_of_RFC_5424),
                cmocka_unit_test(what_is_not_ASCII_has_a_byte_order_mark),
                cmocka_unit_test(structured_data_cannot_be_left),
                cmocka_unit_test(what_is_no_record_is_sent_all_the_same),
                cmocka_unit_test(a_row_has_the_columns_and_the_record),
                cmocka_unit_test(a_body_is_packed_and_unpacked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
