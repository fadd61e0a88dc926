#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <unistd.h>
#include <zlib.h>

#include "dagward/audit/verify.h"

enum { RECORDS = 1000, EVERY = 250 };

static struct signing_key *key, *other_key;

static struct signing_key *make_key(void)
{
        char path[64];
        struct error err;

        snprintf(path, sizeof(path), "/tmp/dagward-verify-%d.key", (int)getpid());
        struct signing_key *made = signing_key_load_or_make(path, &err);
        assert_non_null(made);
        unlink(path);
        return made;
}

static void chain_one(
        struct chain *chain, struct chain_head *head, const char *members, struct buf *out)
{
        assert_true(chain_write(chain, head, str_of(members), out));
}

static void chain_checkpoint(struct chain *chain, struct chain_head *head,
        const struct signing_key *by, const char *reason, struct buf *out)
{
        struct buf members;

        buf_init(&members, CHECKPOINT_LINE_MOST);
        checkpoint_write(by, head, 1795425153123, str_of(reason), &members);
        assert_true(chain_write(chain, head, buf_str(&members), out));
        buf_clear(&members);
}

/* A file of `n` records from the head on, with a checkpoint every EVERY and one at the end. */
static void write_file(struct chain_head *head, unsigned n, const struct signing_key *by,
        const char *last, struct buf *out)
{
        struct chain *chain = chain_new();
        char members[256];

        snprintf(members, sizeof(members),
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\",\"event\":{\"name\":"
                "\"log.opened\",\"detail\":{\"reason\":\"new\",\"public_key\":\"%s\"}}",
                signing_key_text(key));
        chain_one(chain, head, members, out);
        for (unsigned i = 2; i < n; i++) {
                if (i % EVERY == 0) {
                        chain_checkpoint(chain, head, by, "interval", out);
                        continue;
                }
                snprintf(members, sizeof(members),
                        "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"outcome\",\"n\":%u", i);
                chain_one(chain, head, members, out);
        }
        chain_checkpoint(chain, head, by, last, out);
        chain_free(chain);
}

/* --- the lines of a log --- */

struct log {
        struct buf bytes;
        struct str lines[RECORDS + 1]; /* from 1, with their newlines */
};

static struct log *make_log(void)
{
        struct log *log = calloc(1, sizeof(*log));
        struct chain_head head;

        assert_non_null(log);
        chain_head_init(&head);
        buf_init(&log->bytes, 1 << 24);
        write_file(&head, RECORDS, key, "rotated", &log->bytes);
        struct str rest = buf_str(&log->bytes);
        for (unsigned i = 1; i <= RECORDS; i++) {
                const char *newline = memchr(rest.ptr, '\n', rest.len);
                assert_non_null(newline);
                log->lines[i] = str_head(rest, (size_t)(newline - rest.ptr) + 1);
                rest = str_from(rest, log->lines[i].len);
        }
        assert_int_equal(rest.len, 0);
        return log;
}

static void free_log(struct log *log)
{
        buf_clear(&log->bytes);
        free(log);
}

static void feed_lines(struct verify *verify, const struct log *log, unsigned from, unsigned to)
{
        if (from > to)
                return;
        const char *begin = log->lines[from].ptr;
        const char *end = log->lines[to].ptr + log->lines[to].len;
        verify_feed(verify, begin, (size_t)(end - begin));
}

static void begin(struct verify *verify)
{
        verify_init(verify);
        assert_true(verify_pin(verify, signing_key_text(key)));
        verify_file(verify, "log");
}

/* Ends it, asserts what was found and where. */
static void ended(struct verify *verify, bool closed, enum verify_fault fault, uint64_t line)
{
        verify_file_end(verify);
        verify_end(verify, closed);
        if (verify->first.fault != fault || verify->first.line != line)
                fail_msg("%s at line %llu, not %s at line %llu: %s",
                        verify_fault_name(verify->first.fault),
                        (unsigned long long)verify->first.line, verify_fault_name(fault),
                        (unsigned long long)line, verify->first.text);
}

static void found(struct verify *verify, enum verify_fault fault, uint64_t line)
{
        ended(verify, true, fault, line);
        verify_clear(verify);
}

/* --- the log as it is --- */

static void an_untouched_log_is_whole_and_signed_to_its_end(void **state)
{
        struct log *log = make_log();
        struct verify verify;

        (void)state;
        begin(&verify);
        feed_lines(&verify, log, 1, RECORDS);
        assert_int_equal(verify.records, RECORDS);
        assert_int_equal(verify.signed_seq, RECORDS);
        assert_int_equal(verify.checkpoints, RECORDS / EVERY);
        assert_string_equal(verify.signed_time, "2026-11-23T09:12:33.123Z");
        assert_true(verify.closed);
        found(&verify, VERIFY_NONE, 0);
        free_log(log);
}

/* --- every single record --- */

/* Between two lines a copy of the struct is another reading of the same log, as far as it got: what
 * it points to is not changed by lines that are whole. So each case begins at the record that it is
 * about. */

/* One bit of each record, at its beginning, in its middle, in its hash and at its end. */
static void a_flip_in_any_record_is_found_there(void **state)
{
        struct log *log = make_log();
        struct verify before;

        (void)state;
        begin(&before);
        for (unsigned i = 1; i <= RECORDS; i++) {
                struct str line = log->lines[i];
                size_t places[] = {0, 7, line.len / 2, line.len - 100, line.len - 10, line.len - 2,
                        line.len - 1};
                for (size_t p = 0; p < sizeof(places) / sizeof(*places); p++) {
                        struct verify verify = before;
                        char *byte = log->bytes.data + (line.ptr - log->bytes.data) + places[p];
                        *byte ^= 1;
                        feed_lines(&verify, log, i, RECORDS);
                        verify_file_end(&verify);
                        if (verify_good(&verify) || verify.first.line != i)
                                fail_msg("byte %zu of line %u: %s at line %llu", places[p], i,
                                        verify_fault_name(verify.first.fault),
                                        (unsigned long long)verify.first.line);
                        assert_int_equal(verify.records, i - 1);
                        *byte ^= 1;
                }
                feed_lines(&before, log, i, i);
        }
        found(&before, VERIFY_NONE, 0);
        free_log(log);
}

static void any_deleted_record_is_missed(void **state)
{
        struct log *log = make_log();
        struct verify before;

        (void)state;
        begin(&before);
        for (unsigned i = 1; i <= RECORDS; i++) {
                struct verify verify = before;
                feed_lines(&verify, log, i + 1, RECORDS);
                if (i == 1)
                        ended(&verify, true, VERIFY_HEADLESS, 1);
                else if (i == RECORDS)
                        ended(&verify, true, VERIFY_TRUNCATED, RECORDS - 1);
                else
                        ended(&verify, true, VERIFY_DELETED, i);
                feed_lines(&before, log, i, i);
        }
        found(&before, VERIFY_NONE, 0);
        free_log(log);
}

static void a_record_put_in_behind_any_other_is_found(void **state)
{
        struct log *log = make_log();
        struct chain *chain = chain_new();
        struct verify before;

        (void)state;
        begin(&before);
        for (unsigned i = 1; i <= RECORDS; i++) {
                struct chain_line line;
                struct chain_head head;
                struct buf forged;

                /* a copy of the one before */
                feed_lines(&before, log, i, i);
                struct verify verify = before;
                feed_lines(&verify, log, i, RECORDS);
                ended(&verify, true, VERIFY_INSERTED, i + 1);

                /* one that follows it as it should: what is behind it does not */
                struct str text = log->lines[i];
                assert_int_equal(
                        chain_read(chain, str_head(text, text.len - 1), &line), CHAIN_GOOD);
                head.seq = line.seq;
                memcpy(head.hash, line.hash.ptr, CHAIN_HEX);
                head.hash[CHAIN_HEX] = '\0';
                buf_init(&forged, 4096);
                chain_one(chain, &head, "\"time\":\"now\",\"kind\":\"outcome\"", &forged);
                verify = before;
                verify_feed(&verify, forged.data, forged.len);
                feed_lines(&verify, log, i + 1, RECORDS);
                if (i < RECORDS)
                        ended(&verify, true, VERIFY_INSERTED, i + 2);
                else
                        ended(&verify, true, VERIFY_TRUNCATED, RECORDS + 1);
                buf_clear(&forged);
        }
        found(&before, VERIFY_NONE, 0);
        chain_free(chain);
        free_log(log);
}

static void any_two_records_that_changed_places_are_found(void **state)
{
        struct log *log = make_log();
        struct verify before;

        (void)state;
        begin(&before);
        for (unsigned i = 1; i < RECORDS; i++) {
                struct verify verify = before;
                feed_lines(&verify, log, i + 1, i + 1);
                feed_lines(&verify, log, i, i);
                feed_lines(&verify, log, i + 2, RECORDS);
                ended(&verify, true, i == 1 ? VERIFY_HEADLESS : VERIFY_REORDERED, i);
                feed_lines(&before, log, i, i);
        }
        verify_clear(&before);
        free_log(log);
}

static void a_log_cut_off_behind_any_record_is_found(void **state)
{
        struct log *log = make_log();
        struct str last = log->lines[RECORDS];
        struct verify before, anchored;

        (void)state;
        begin(&before);
        verify_init(&anchored);
        assert_true(verify_pin(&anchored, signing_key_text(key)));
        assert_true(verify_anchor(&anchored, str_head(last, last.len - 1)));
        verify_file(&anchored, "log");
        for (unsigned i = 1; i < RECORDS; i++) {
                feed_lines(&before, log, i, i);
                struct verify verify = before;
                ended(&verify, true, VERIFY_TRUNCATED, i);
                /* Of one that is not said to be closed, the anchor tells. */
                feed_lines(&anchored, log, i, i);
                verify = anchored;
                ended(&verify, false, VERIFY_TRUNCATED, i);
                assert_non_null(strstr(verify.first.text, "anchor"));
        }
        verify_clear(&before);
        verify_clear(&anchored);
        free_log(log);
}

/* Whoever can write the file can compute all hashes anew; the next checkpoint tells. */
static void a_log_that_was_computed_anew_from_any_record_on_is_found(void **state)
{
        struct log *log = make_log();
        struct chain *chain = chain_new();

        (void)state;
        for (unsigned i = 1; i < RECORDS; i += 37) {
                struct verify verify;
                struct chain_line line;
                struct chain_head head;
                struct buf forged;

                chain_head_init(&head);
                buf_init(&forged, 1 << 24);
                for (unsigned j = 1; j <= RECORDS; j++) {
                        struct str text = log->lines[j];
                        assert_int_equal(
                                chain_read(chain, str_head(text, text.len - 1), &line), CHAIN_GOOD);
                        char members[1024];
                        memcpy(members, line.members.ptr, line.members.len);
                        if (j == i) /* the last digit of the time's milliseconds */
                                members[8 + 22] ^= 1;
                        assert_true(chain_write(
                                chain, &head, str_view(members, line.members.len), &forged));
                }
                begin(&verify);
                verify_feed(&verify, forged.data, forged.len);
                found(&verify, VERIFY_SIGNATURE, (i + EVERY - 1) / EVERY * EVERY);
                buf_clear(&forged);
        }
        chain_free(chain);
        free_log(log);
}

/* --- keys --- */

static void a_checkpoint_of_another_key_is_found(void **state)
{
        struct chain_head head;
        struct verify verify;
        struct buf out;

        (void)state;
        chain_head_init(&head);
        buf_init(&out, 1 << 20);
        write_file(&head, 20, other_key, "stopped", &out);
        /* The first record names `key`: that is found without knowing which one is right, ... */
        verify_init(&verify);
        verify_file(&verify, "log");
        verify_feed(&verify, out.data, out.len);
        found(&verify, VERIFY_UNKNOWN_KEY, 20);
        /* ... and with it. */
        begin(&verify);
        verify_feed(&verify, out.data, out.len);
        found(&verify, VERIFY_UNKNOWN_KEY, 20);
        verify_init(&verify);
        assert_true(verify_pin(&verify, signing_key_text(key)));
        assert_true(verify_pin(&verify, signing_key_text(other_key)));
        verify_file(&verify, "log");
        verify_feed(&verify, out.data, out.len);
        found(&verify, VERIFY_NONE, 0);
        buf_clear(&out);
}

static void a_log_without_a_signature_of_a_pinned_key_is_found(void **state)
{
        struct log *log = make_log();
        struct verify verify;

        (void)state;
        begin(&verify);
        feed_lines(&verify, log, 1, EVERY - 1);
        verify_file_end(&verify);
        verify_end(&verify, false);
        assert_int_equal(verify.first.fault, VERIFY_UNSIGNED);
        verify_clear(&verify);
        free_log(log);
}

/* --- files and the anchor --- */

static void a_file_that_is_not_there_is_named(void **state)
{
        struct buf files[3];
        struct chain_head head;
        struct verify verify;

        (void)state;
        chain_head_init(&head);
        for (int i = 0; i < 3; i++) {
                buf_init(&files[i], 1 << 20);
                write_file(&head, 30, key, i < 2 ? "rotated" : "stopped", &files[i]);
        }
        verify_init(&verify);
        verify_file(&verify, "first");
        verify_feed(&verify, files[0].data, files[0].len);
        verify_file_end(&verify);
        verify_file(&verify, "third");
        verify_feed(&verify, files[2].data, files[2].len);
        assert_string_equal(verify.first.file, "third");
        assert_non_null(strstr(verify.first.text, "seq 31 to 60"));
        assert_non_null(strstr(verify.first.text, "a whole file is not here"));
        assert_non_null(strstr(verify.first.text, "-000000000060"));
        found(&verify, VERIFY_GAP, 1);
        /* The end of the first one is gone. */
        verify_init(&verify);
        verify_file(&verify, "first");
        struct str bytes = buf_str(&files[0]);
        const char *newline = memrchr(bytes.ptr, '\n', bytes.len - 1);
        verify_feed(&verify, bytes.ptr, (size_t)(newline - bytes.ptr) + 1);
        verify_file_end(&verify);
        verify_file(&verify, "second");
        verify_feed(&verify, files[1].data, files[1].len);
        assert_non_null(strstr(verify.first.text, "the end of first was cut off"));
        found(&verify, VERIFY_GAP, 1);
        for (int i = 0; i < 3; i++)
                buf_clear(&files[i]);
}

static void the_anchor_finds_a_log_that_went_another_way(void **state)
{
        struct chain_head head;
        struct verify verify;
        struct buf ours, theirs;

        (void)state;
        buf_init(&ours, 1 << 20);
        buf_init(&theirs, 1 << 20);
        chain_head_init(&head);
        write_file(&head, 20, key, "stopped", &ours);
        chain_head_init(&head);
        write_file(&head, 20, key, "rotated", &theirs); /* the same, with another last record */
        struct str bytes = str_head(buf_str(&theirs), theirs.len - 1);
        const char *newline = memrchr(bytes.ptr, '\n', bytes.len);
        struct str anchored = str_from(bytes, (size_t)(newline - bytes.ptr) + 1);
        begin(&verify);
        verify_clear(&verify);
        verify_init(&verify);
        assert_false(verify_anchor(&verify, STR("hello")));
        assert_false(verify_anchor(&verify, str_head(anchored, anchored.len - 1)));
        assert_true(verify_anchor(&verify, anchored));
        verify_file(&verify, "log");
        verify_feed(&verify, ours.data, ours.len);
        found(&verify, VERIFY_FORKED, 20);
        /* Its own anchor fits. */
        verify_init(&verify);
        assert_true(verify_anchor(&verify, anchored));
        verify_file(&verify, "log");
        verify_feed(&verify, theirs.data, theirs.len);
        assert_int_equal(verify.anchors_met, 1);
        found(&verify, VERIFY_NONE, 0);
        /* An anchor line of a key that was not pinned counts for nothing. */
        verify_init(&verify);
        assert_true(verify_pin(&verify, signing_key_text(other_key)));
        assert_false(verify_anchor(&verify, anchored));
        verify_clear(&verify);
        buf_clear(&ours);
        buf_clear(&theirs);
}

/* --- gzip --- */

static void pack(struct str bytes, struct buf *out)
{
        z_stream z = {0};
        static unsigned char packed[1 << 20];

        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (unsigned char *)(uintptr_t)bytes.ptr;
        z.avail_in = (unsigned)bytes.len;
        z.next_out = packed;
        z.avail_out = sizeof(packed);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        buf_add(out, packed, sizeof(packed) - z.avail_out);
        deflateEnd(&z);
}

static void check_packed(struct str bytes, size_t piece, enum verify_fault fault, uint64_t records)
{
        struct verify verify;

        begin(&verify);
        for (; bytes.len; bytes = str_from(bytes, piece))
                verify_feed(&verify, bytes.ptr, bytes.len < piece ? bytes.len : piece);
        verify_file_end(&verify);
        assert_string_equal(verify_fault_name(verify.first.fault), verify_fault_name(fault));
        if (records)
                assert_int_equal(verify.records, records);
        verify_clear(&verify);
}

static void a_packed_log_is_read_and_its_damage_found(void **state)
{
        static const size_t pieces[] = {1, 7, 1000, 1 << 20};
        struct log *log = make_log();
        struct buf packed;

        (void)state;
        buf_init(&packed, 1 << 22);
        pack(buf_str(&log->bytes), &packed);
        for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++)
                check_packed(buf_str(&packed), pieces[i], VERIFY_NONE, RECORDS);
        /* two members, one behind the other */
        size_t half = (size_t)(log->lines[RECORDS / 2].ptr - log->bytes.data);
        buf_reset(&packed);
        pack(str_head(buf_str(&log->bytes), half), &packed);
        size_t first = packed.len;
        pack(str_from(buf_str(&log->bytes), half), &packed);
        check_packed(buf_str(&packed), 100, VERIFY_NONE, RECORDS);
        for (size_t len = packed.len - 20; len < packed.len; len++)
                check_packed(str_head(buf_str(&packed), len), 999, VERIFY_DAMAGED, 0);
        packed.data[first - 6] ^= 1; /* the check of the first one */
        check_packed(buf_str(&packed), 999, VERIFY_DAMAGED, 0);
        check_packed(STR("\x1F\x8B"), 1, VERIFY_DAMAGED, 0);
        check_packed(STR("\x1Fhello"), 3, VERIFY_DAMAGED, 0);
        buf_clear(&packed);
        free_log(log);
}

static void a_deletion_is_believed_when_a_pinned_key_has_signed_it(void **state)
{
        static const char told[] =
                "\"time\":\"2026-11-23T09:12:33.123Z\",\"kind\":\"event\",\"event\":{\"name\":"
                "\"log.deleted\",\"detail\":{\"file\":\"f\",\"first_seq\":\"1\",\"last_seq\":\"%"
                "u\","
                "\"last_hash\":\"\"}}";
        enum { PINNED = 1, SIGNED = 2, AGAIN = 4 };

        (void)state;
        for (int how = 0; how < 8; how++) {
                struct chain *chain = chain_new();
                struct chain_head head;
                struct verify verify;
                struct buf bytes;
                char members[256];

                chain_head_init(&head);
                head.seq = 100;
                buf_init(&bytes, 1 << 20);
                write_file(&head, 5, key, "interval", &bytes);
                snprintf(members, sizeof(members), told, 100);
                chain_one(chain, &head, members, &bytes);
                if (how & SIGNED)
                        chain_checkpoint(chain, &head, key, "deleted", &bytes);
                if (how & AGAIN) { /* behind all that is signed */
                        snprintf(members, sizeof(members), told, 200);
                        chain_one(chain, &head, members, &bytes);
                }
                verify_init(&verify);
                if (how & PINNED)
                        assert_true(verify_pin(&verify, signing_key_text(key)));
                verify_file(&verify, "log");
                verify_feed(&verify, bytes.data, bytes.len);
                verify_file_end(&verify);
                verify_end(&verify, false);
                assert_true(verify_good(&verify));
                assert_int_equal(verify.deleted_told, how & AGAIN ? 200 : 100);
                assert_int_equal(verify.deleted_seq, (how & PINNED) && (how & SIGNED) ? 100 : 0);
                verify_clear(&verify);
                buf_clear(&bytes);
                chain_free(chain);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_untouched_log_is_whole_and_signed_to_its_end),
                cmocka_unit_test(a_flip_in_any_record_is_found_there),
                cmocka_unit_test(any_deleted_record_is_missed),
                cmocka_unit_test(a_record_put_in_behind_any_other_is_found),
                cmocka_unit_test(any_two_records_that_changed_places_are_found),
                cmocka_unit_test(a_log_cut_off_behind_any_record_is_found),
                cmocka_unit_test(a_log_that_was_computed_anew_from_any_record_on_is_found),
                cmocka_unit_test(a_checkpoint_of_another_key_is_found),
                cmocka_unit_test(a_log_without_a_signature_of_a_pinned_key_is_found),
                cmocka_unit_test(a_file_that_is_not_there_is_named),
                cmocka_unit_test(the_anchor_finds_a_log_that_went_another_way),
                cmocka_unit_test(a_packed_log_is_read_and_its_damage_found),
                cmocka_unit_test(a_deletion_is_believed_when_a_pinned_key_has_signed_it),
        };

        key = make_key();
        other_key = make_key();
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        signing_key_free(key);
        signing_key_free(other_key);
        return failed;
}
