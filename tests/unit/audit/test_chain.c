#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/audit/verify.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define FIRST "681fc1d524aca8759f5ae134a581bf7460a40d20fc1e70c1d7801f1e71401190"
#define SECOND "9cc9eea48af1d546c88ee9042e5dfff9dcc4366affad769b94abed7a760a93c0"
#define OPENED                                                                                     \
        "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\","                                \
        "\"event\":{\"name\":\"log.opened\",\"detail\":{}}"

/* A log of `n` records from the head on; the first one opens the file if `opened`. */
static void write_log(struct chain_head *head, unsigned n, bool opened, struct buf *out)
{
        struct chain *chain = chain_new();

        for (unsigned i = 0; i < n; i++) {
                char members[128];
                snprintf(members, sizeof(members), "\"time\":\"t\",\"kind\":\"outcome\",\"n\":%u",
                        i);
                assert_true(chain_write(
                        chain, head, i == 0 && opened ? STR(OPENED) : str_of(members), out));
        }
        chain_free(chain);
}

/* Fresh log of n records. */
static struct str fresh(unsigned n, struct buf *out)
{
        struct chain_head head;

        chain_head_init(&head);
        buf_init(out, 1 << 22);
        write_log(&head, n, true, out);
        return buf_str(out);
}

/* The i-th line (from 1) with its newline. */
static struct str line_at(struct str log, unsigned i)
{
        struct str line = {0};

        for (; i; i--) {
                const char *newline = memchr(log.ptr, '\n', log.len);
                assert_non_null(newline);
                line = str_head(log, (size_t)(newline - log.ptr) + 1);
                log = str_from(log, line.len);
        }
        return line;
}

/* Puts lines together by their numbers. */
static void assemble(struct str log, const unsigned *lines, struct buf *out)
{
        buf_reset(out);
        for (; *lines; lines++)
                buf_str_add(out, line_at(log, *lines));
}

/* Verifies in pieces of `piece` bytes. */
static void check(struct verify *verify, struct str log, size_t piece)
{
        verify_init(verify);
        verify_file(verify, "log");
        for (; log.len; log = str_from(log, piece))
                verify_feed(verify, log.ptr, log.len < piece ? log.len : piece);
        verify_file_end(verify);
}

static void a_line_is_what_the_documentation_says(void **state)
{
        struct chain *chain = chain_new();
        struct chain_head head;
        struct buf out;

        (void)state;
        chain_head_init(&head);
        assert_string_equal(head.hash, ZEROS);
        buf_init(&out, 4096);
        assert_true(chain_write(chain, &head, STR("\"kind\":\"event\""), &out));
        assert_true(chain_write(chain, &head, STR("\"kind\":\"intent\""), &out));
        buf_char(&out, '\0');
        /* Computed with sha256sum from the text without the hash. */
        assert_string_equal(out.data,
                "{\"seq\":1,\"kind\":\"event\",\"prev\":\"" ZEROS "\",\"hash\":\"" FIRST "\"}\n"
                "{\"seq\":2,\"kind\":\"intent\",\"prev\":\"" FIRST "\",\"hash\":\"" SECOND "\"}\n");
        assert_int_equal(head.seq, 2);
        buf_clear(&out);
        chain_free(chain);
}

static void what_cannot_be_a_record_is_not_chained(void **state)
{
        struct chain *chain = chain_new();
        struct chain_head head;
        struct buf out;
        static char huge[CHAIN_LINE_MOST];

        (void)state;
        chain_head_init(&head);
        buf_init(&out, 300);
        memset(huge, 'x', sizeof(huge));
        assert_false(chain_write(chain, &head, STR(""), &out));
        assert_false(chain_write(chain, &head, STR("a\nb"), &out));
        assert_false(chain_write(chain, &head, str_view(huge, sizeof(huge)), &out));
        assert_false(chain_write(chain, &head, str_view(huge, 100), &out)); /* no room */
        assert_int_equal(out.len, 0);
        assert_int_equal(head.seq, 0);
        assert_string_equal(head.hash, ZEROS);
        assert_true(chain_write(chain, &head, str_view(huge, 40), &out));
        buf_clear(&out);
        chain_free(chain);
}

static void a_line_of_another_shape_is_foreign(void **state)
{
        static const char *const cases[] = {
                "",
                "{}",
                "hello",
                "{\"seq\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}",
                "{\"seq\":,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}",
                "{\"seq\":01,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}",
                "{\"seq\":-1,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}",
                "{\"seq\":0,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}",
                "{\"seq\":18446744073709551616,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS
                "\"}",
                "{ \"seq\":1,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}",
                "{\"seq\":1,\"a\":1,\"prev\":\"A" ZEROS "\",\"hash\":\"" ZEROS "\"}",
                "{\"seq\":1,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}\r",
                "{\"seq\":1,\"a\":1,\"prev\":\"" ZEROS "\", \"hash\":\"" ZEROS "\"}",
        };
        struct chain *chain = chain_new();
        struct chain_line line;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
                assert_int_equal(chain_read(chain, str_of(cases[i]), &line), CHAIN_FOREIGN);
        assert_int_equal(
                chain_read(chain,
                        STR("{\"seq\":1,\"a\":1,\"prev\":\"" ZEROS "\",\"hash\":\"" ZEROS "\"}"),
                        &line),
                CHAIN_EDITED);
        assert_int_equal(line.seq, 1);
        assert_true(str_eq(line.members, STR("\"a\":1")));
        chain_free(chain);
}

static void an_untouched_log_is_whole_however_it_is_read(void **state)
{
        static const size_t pieces[] = {1, 7, 100, 4096, 1 << 20};
        struct buf out;
        struct str log = fresh(20, &out);

        (void)state;
        for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
                struct verify verify;
                check(&verify, log, pieces[i]);
                assert_int_equal(verify.first.fault, VERIFY_NONE);
                assert_int_equal(verify.records, 20);
                assert_int_equal(verify.first_seq, 1);
                assert_int_equal(verify.head.seq, 20);
                verify_clear(&verify);
        }
        buf_clear(&out);
}

static void a_changed_byte_is_found_wherever_it_is(void **state)
{
        static const unsigned char masks[] = {0x01, 0x20, 0x80, 0xFF};
        struct buf out;
        struct str log = fresh(4, &out);

        (void)state;
        for (size_t i = 0; i < log.len; i++) {
                unsigned at_line = 1;
                for (size_t j = 0; j < i; j++)
                        at_line += log.ptr[j] == '\n';
                for (size_t m = 0; m < sizeof(masks); m++) {
                        struct verify verify;
                        out.data[i] ^= (char)masks[m];
                        check(&verify, log, 64);
                        if (verify_good(&verify))
                                fail_msg("byte %zu with mask %02x was not found", i, masks[m]);
                        assert_int_equal(verify.first.line, at_line);
                        assert_int_equal(verify.records, at_line - 1);
                        verify_clear(&verify);
                        out.data[i] ^= (char)masks[m];
                }
        }
        buf_clear(&out);
}

static void a_removed_or_doubled_byte_is_found_wherever_it_is(void **state)
{
        struct buf out, other;
        struct str log = fresh(4, &out);

        (void)state;
        buf_init(&other, 1 << 20);
        for (size_t i = 0; i < log.len; i++) {
                struct verify verify;
                buf_reset(&other);
                buf_str_add(&other, str_head(log, i));
                buf_str_add(&other, str_from(log, i + 1));
                check(&verify, buf_str(&other), 1000);
                assert_false(verify_good(&verify));
                verify_clear(&verify);

                buf_reset(&other);
                buf_str_add(&other, str_head(log, i + 1));
                buf_str_add(&other, str_from(log, i));
                check(&verify, buf_str(&other), 1000);
                assert_false(verify_good(&verify));
                verify_clear(&verify);
        }
        buf_clear(&other);
        buf_clear(&out);
}

static void tampering_is_named(void **state)
{
        static const struct {
                unsigned lines[12];
                enum verify_fault fault;
                uint64_t line;
                uint64_t good;
        } cases[] = {
                {{1, 2, 3, 4, 5, 6}, VERIFY_NONE, 0, 6},
                {{1, 2, 4, 5, 6}, VERIFY_DELETED, 3, 2},
                {{1, 2, 6}, VERIFY_DELETED, 3, 2},
                {{1, 2, 4, 3, 5, 6}, VERIFY_REORDERED, 3, 2},
                {{1, 3, 4, 5, 6, 2}, VERIFY_REORDERED, 2, 1},
                {{1, 2, 5, 3, 4, 6}, VERIFY_REORDERED, 3, 2},
                {{1, 2, 2, 3, 4, 5, 6}, VERIFY_INSERTED, 3, 2},
                {{1, 2, 3, 4, 2, 5, 6}, VERIFY_INSERTED, 5, 4},
                {{1, 2, 1, 2, 3}, VERIFY_INSERTED, 3, 2},
                {{2, 3, 4, 5, 6}, VERIFY_HEADLESS, 1, 0},
                {{6, 5, 4, 3, 2, 1}, VERIFY_HEADLESS, 1, 0},
                /* Not found without checkpoints: the end cut off at a line's end. */
                {{1, 2, 3, 4}, VERIFY_NONE, 0, 4},
        };
        struct buf out, other;
        struct str log = fresh(6, &out);

        (void)state;
        buf_init(&other, 1 << 20);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct verify verify;
                assemble(log, cases[i].lines, &other);
                check(&verify, buf_str(&other), 333);
                assert_string_equal(
                        verify_fault_name(verify.first.fault), verify_fault_name(cases[i].fault));
                assert_int_equal(verify.first.line, cases[i].line);
                assert_int_equal(verify.records, cases[i].good);
                assert_int_equal(verify.head.seq, cases[i].good);
                verify_clear(&verify);
        }
        buf_clear(&other);
        buf_clear(&out);
}

static void a_record_made_anew_with_its_own_hash_is_found_by_the_next(void **state)
{
        struct buf out, other;
        struct str log = fresh(3, &out);
        struct chain *chain = chain_new();
        struct chain_line line;
        struct chain_head head;
        struct verify verify;
        struct str second = line_at(log, 2);

        (void)state;
        assert_int_equal(chain_read(chain, str_head(second, second.len - 1), &line), CHAIN_GOOD);
        head.seq = 1;
        memcpy(head.hash, line.prev.ptr, CHAIN_HEX);
        head.hash[CHAIN_HEX] = '\0';
        buf_init(&other, 1 << 20);
        buf_str_add(&other, line_at(log, 1));
        assert_true(chain_write(chain, &head, STR("\"kind\":\"forged\""), &other));
        buf_str_add(&other, line_at(log, 3));
        check(&verify, buf_str(&other), 4096);
        assert_int_equal(verify.first.fault, VERIFY_REPLACED);
        assert_int_equal(verify.first.line, 3);
        verify_clear(&verify);
        chain_free(chain);
        buf_clear(&other);
        buf_clear(&out);
}

static void a_cut_off_end_is_found_at_every_byte_but_line_ends(void **state)
{
        struct buf out;
        struct str log = fresh(3, &out);

        (void)state;
        for (size_t len = 1; len < log.len; len++) {
                struct verify verify;
                check(&verify, str_head(log, len), 50);
                if (log.ptr[len - 1] == '\n')
                        assert_true(verify_good(&verify));
                else
                        assert_int_equal(verify.first.fault, VERIFY_TORN);
                verify_clear(&verify);
        }
        buf_clear(&out);
}

static void foreign_lines_are_found_long_ones_too(void **state)
{
        static const size_t lengths[] = {0, 1, 100, CHAIN_LINE_MOST, CHAIN_LINE_MOST + 1, 1 << 20};
        struct buf out, other;
        struct str log = fresh(3, &out);
        char *filler = malloc(1 << 20);

        (void)state;
        memset(filler, 'x', 1 << 20);
        buf_init(&other, 1 << 22);
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
                for (int newline = 0; newline < 2; newline++) {
                        struct verify verify;
                        if (!newline && !lengths[i])
                                continue;
                        buf_reset(&other);
                        buf_str_add(&other, line_at(log, 1));
                        buf_add(&other, filler, lengths[i]);
                        if (newline)
                                buf_str_add(&other, STR("\n"));
                        check(&verify, buf_str(&other), 10000);
                        assert_false(verify_good(&verify));
                        assert_int_equal(verify.first.line, 2);
                        assert_int_equal(verify.lines, 2);
                        verify_clear(&verify);
                }
        }
        free(filler);
        buf_clear(&other);
        buf_clear(&out);
}

static void rotated_files_are_one_chain_in_their_order(void **state)
{
        static const struct {
                unsigned files[4];
                enum verify_fault fault;
                uint64_t records;
        } cases[] = {
                {{1, 2, 3}, VERIFY_NONE, 9},
                {{2, 3}, VERIFY_NONE, 6},
                {{3}, VERIFY_NONE, 3},
                {{1, 3}, VERIFY_GAP, 3},
                {{2, 1, 3}, VERIFY_RESTARTED, 3},
                {{3, 2}, VERIFY_INSERTED, 3},
                {{1, 1}, VERIFY_RESTARTED, 3},
                {{1, 2, 2}, VERIFY_INSERTED, 6},
                {{1, 4}, VERIFY_HEADLESS, 3},
        };
        struct buf files[5];
        struct chain_head head, third;

        (void)state;
        chain_head_init(&head);
        for (int i = 1; i <= 4; i++)
                buf_init(&files[i], 1 << 20);
        write_log(&head, 3, true, &files[1]);
        third = head;
        write_log(&third, 3, false, &files[4]); /* goes on without a log.opened */
        write_log(&head, 3, true, &files[2]);
        write_log(&head, 3, true, &files[3]);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct verify verify;
                verify_init(&verify);
                for (const unsigned *file = cases[i].files; *file; file++) {
                        verify_file(&verify, "file");
                        verify_feed(&verify, files[*file].data, files[*file].len);
                        verify_file_end(&verify);
                }
                assert_string_equal(
                        verify_fault_name(verify.first.fault), verify_fault_name(cases[i].fault));
                assert_int_equal(verify.records, cases[i].records);
                verify_clear(&verify);
        }
        for (int i = 1; i <= 4; i++)
                buf_clear(&files[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_line_is_what_the_documentation_says),
                cmocka_unit_test(what_cannot_be_a_record_is_not_chained),
                cmocka_unit_test(a_line_of_another_shape_is_foreign),
                cmocka_unit_test(an_untouched_log_is_whole_however_it_is_read),
                cmocka_unit_test(a_changed_byte_is_found_wherever_it_is),
                cmocka_unit_test(a_removed_or_doubled_byte_is_found_wherever_it_is),
                cmocka_unit_test(tampering_is_named),
                cmocka_unit_test(a_record_made_anew_with_its_own_hash_is_found_by_the_next),
                cmocka_unit_test(a_cut_off_end_is_found_at_every_byte_but_line_ends),
                cmocka_unit_test(foreign_lines_are_found_long_ones_too),
                cmocka_unit_test(rotated_files_are_one_chain_in_their_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
