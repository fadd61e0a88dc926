/* Records written and read again, cut at each byte, and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/trigger/journal.h"
#include "dagward/trigger/table.h"

static const char id[] = "019ab1c2-0000-7000-8000-000000000001";

static struct trigger_record begun(unsigned char key)
{
        struct trigger_record record = {.kind = TRIGGER_RECORD_BEGUN,
                .time_ms = 1700000000000 + key,
                .id = STR("019ab1c2-0000-7000-8000-000000000001"),
                .correlation_id = STR("019ab1c2-0000-7000-8000-000000000002")};

        memset(record.key.key, key, TRIGGER_DIGEST);
        memset(record.key.request, key + 1, TRIGGER_DIGEST);
        memset(record.key.caller, key % 2 ? 0xc1 : 0xc2, TRIGGER_DIGEST);
        return record;
}

static struct trigger_record answered(unsigned char key)
{
        struct trigger_record record = begun(key);

        record.kind = TRIGGER_RECORD_ANSWERED;
        record.answer = (struct trigger_answer){.status = 200,
                .whole = true,
                .run_id = STR("1001"),
                .content_type = STR("application/json"),
                .body = STR("{\"id\":1001}")};
        return record;
}

static struct trigger_record plain(unsigned char key, enum trigger_record_kind kind)
{
        struct trigger_record record = begun(key);

        record.kind = kind;
        return record;
}

static void write_all(struct buf *out)
{
        struct trigger_record records[] = {begun(1), begun(2), answered(1),
                plain(2, TRIGGER_RECORD_LOST), begun(3), plain(3, TRIGGER_RECORD_RELEASED),
                begun(4)};

        buf_init(out, 1 << 20);
        BUF_LITERAL(out, TRIGGER_JOURNAL_HEAD);
        for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
                trigger_record_write(out, &records[i]);
}

static struct trigger_table *replay(struct str bytes, enum trigger_read *end, size_t *at)
{
        struct trigger_table *table = trigger_table_new();
        struct trigger_record record;

        *at = 0;
        for (;;) {
                size_t before = *at;
                *end = trigger_record_read(bytes, at, &record);
                if (*end != TRIGGER_READ_RECORD)
                        return table;
                (void)trigger_table_replay(table, &record, before, *at - before);
        }
}

static enum trigger_state state_of(struct trigger_table *table, unsigned char key)
{
        unsigned char bytes[TRIGGER_DIGEST];

        memset(bytes, key, sizeof(bytes));
        struct trigger_entry *entry = trigger_table_find(table, bytes);
        assert_non_null(entry);
        return entry->state;
}

static void what_was_written_is_read(void **state)
{
        enum trigger_read end;
        struct buf file;
        size_t at;
        (void)state;

        write_all(&file);
        struct trigger_table *table = replay(buf_str(&file), &end, &at);
        assert_int_equal(end, TRIGGER_READ_END);
        assert_int_equal(at, file.len);
        assert_int_equal(trigger_table_count(table), 3);
        assert_int_equal(state_of(table, 1), TRIGGER_ANSWERED);
        assert_int_equal(state_of(table, 2), TRIGGER_LOST);
        assert_int_equal(state_of(table, 4), TRIGGER_RUNNING);
        /* What was in hand when the process ended is exactly what is not known. */
        trigger_table_recover(table, 1800000000000);
        assert_int_equal(state_of(table, 4), TRIGGER_LOST);
        assert_int_equal(state_of(table, 1), TRIGGER_ANSWERED);
        assert_string_equal(trigger_table_oldest(table)->id, id);
        trigger_table_free(table);
        buf_clear(&file);
}

static size_t held_by(const struct trigger_table *table, unsigned char caller)
{
        unsigned char bytes[TRIGGER_DIGEST];

        memset(bytes, caller, sizeof(bytes));
        return trigger_table_held(table, bytes);
}

static void whose_they_are_is_read_as_well(void **state)
{
        enum trigger_read end;
        struct buf file;
        size_t at;
        (void)state;

        write_all(&file); /* 1 and 3 are of one caller, 2 and 4 of another; 3 was let go */
        struct trigger_table *table = replay(buf_str(&file), &end, &at);
        assert_int_equal(held_by(table, 0xc1), 1);
        assert_int_equal(held_by(table, 0xc2), 2);
        assert_int_equal(held_by(table, 0xc3), 0);
        trigger_table_free(table);
        buf_clear(&file);
}

static void a_table_counts_what_each_caller_has(void **state)
{
        struct trigger_table *table = trigger_table_new();
        (void)state;

        for (unsigned i = 0; i < 5000; i++) { /* 50 callers, more than there are buckets at first */
                struct trigger_key key = {{0}, {0}, {0}};
                unsigned caller = i < 2500 ? i : i % 50 + 10000;
                memcpy(key.key, &i, sizeof(i));
                memcpy(key.caller, &caller, sizeof(caller));
                key.caller[TRIGGER_DIGEST - 1] = 1;
                trigger_table_add(table, &key, i)->state = TRIGGER_ANSWERED;
        }
        for (unsigned i = 0; i < 2550; i++) {
                unsigned char caller[TRIGGER_DIGEST] = {0};
                unsigned number = i < 2500 ? i : i - 2500 + 10000;
                memcpy(caller, &number, sizeof(number));
                caller[TRIGGER_DIGEST - 1] = 1;
                assert_int_equal(trigger_table_held(table, caller), i < 2500 ? 1 : 50);
        }
        trigger_table_expire(table, 2550);
        for (unsigned i = 0; i < 2550; i += 51) {
                unsigned char caller[TRIGGER_DIGEST] = {0};
                unsigned number = i < 2500 ? i : i - 2500 + 10000;
                memcpy(caller, &number, sizeof(number));
                caller[TRIGGER_DIGEST - 1] = 1;
                assert_int_equal(trigger_table_held(table, caller), i < 2500 ? 0 : 49);
        }
        trigger_table_free(table);
}

static void a_file_cut_anywhere_loses_only_its_last_record(void **state)
{
        struct buf file;
        (void)state;

        write_all(&file);
        for (size_t len = sizeof(TRIGGER_JOURNAL_HEAD) - 1; len < file.len; len++) {
                enum trigger_read end;
                size_t at;
                trigger_table_free(replay(str_head(buf_str(&file), len), &end, &at));
                assert_true(end == TRIGGER_READ_TORN || (end == TRIGGER_READ_END && at == len));
                assert_true(at <= len);
        }
        buf_clear(&file);
}

static void a_byte_changed_in_the_middle_is_damage(void **state)
{
        struct buf file;
        size_t last;
        (void)state;

        write_all(&file);
        struct buf one;
        struct trigger_record record = begun(4);
        buf_init(&one, 4096);
        trigger_record_write(&one, &record);
        last = file.len - one.len;
        for (size_t i = 0; i < file.len; i++) {
                enum trigger_read end;
                size_t at;
                file.data[i] = (char)(file.data[i] ^ 0x20);
                trigger_table_free(replay(buf_str(&file), &end, &at));
                assert_int_equal(end, i < last ? TRIGGER_READ_DAMAGED : TRIGGER_READ_TORN);
                file.data[i] = (char)(file.data[i] ^ 0x20);
        }
        buf_clear(&one);
        buf_clear(&file);
}

static void an_answer_that_is_too_large_is_kept_without_its_body(void **state)
{
        struct trigger_record record = answered(1), read;
        char *body = calloc(1, TRIGGER_BODY_MOST + 1);
        struct buf file;
        size_t at = 0;
        (void)state;

        record.answer.body = str_view(body, TRIGGER_BODY_MOST + 1);
        buf_init(&file, 1 << 20);
        BUF_LITERAL(&file, TRIGGER_JOURNAL_HEAD);
        trigger_record_write(&file, &record);
        assert_int_equal(trigger_record_read(buf_str(&file), &at, &read), TRIGGER_READ_RECORD);
        assert_false(read.answer.whole);
        assert_int_equal(read.answer.body.len, 0);
        assert_true(str_eq(read.answer.run_id, STR("1001")));
        buf_clear(&file);
        free(body);
}

static void a_table_forgets_what_is_old_and_in_nobodys_hand(void **state)
{
        struct trigger_table *table = trigger_table_new();
        (void)state;

        for (unsigned i = 0; i < 5000; i++) { /* grows on the way */
                struct trigger_key key = {{0}, {0}, {0}};
                memcpy(key.key, &i, sizeof(i));
                trigger_table_add(table, &key, i)->state = i % 100 == 0 ? TRIGGER_RUNNING
                                                           : i % 2      ? TRIGGER_ANSWERED
                                                                        : TRIGGER_LOST;
        }
        for (unsigned i = 0; i < 5000; i++) {
                struct trigger_key key = {{0}, {0}, {0}};
                memcpy(key.key, &i, sizeof(i));
                assert_non_null(trigger_table_find(table, key.key));
        }
        trigger_table_expire(table, 3000);
        assert_int_equal(trigger_table_count(table), 2000 + 30);
        trigger_table_free(table);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_was_written_is_read),
                cmocka_unit_test(whose_they_are_is_read_as_well),
                cmocka_unit_test(a_table_counts_what_each_caller_has),
                cmocka_unit_test(a_file_cut_anywhere_loses_only_its_last_record),
                cmocka_unit_test(a_byte_changed_in_the_middle_is_damage),
                cmocka_unit_test(an_answer_that_is_too_large_is_kept_without_its_body),
                cmocka_unit_test(a_table_forgets_what_is_old_and_in_nobodys_hand),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
