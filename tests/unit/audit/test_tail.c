#include "scribe_kit.h"

#include <zlib.h>

#include "dagward/audit/closed.h"
#include "dagward/audit/position.h"
#include "dagward/audit/tail.h"

#define CLOSED "20261127T234512Z"

/* A log that is made up, record by record. */
struct log {
        struct chain *chain;
        struct chain_head head;
        struct buf lines;
};

static void log_begin(struct log *log)
{
        log->chain = chain_new();
        chain_head_init(&log->head);
        buf_init(&log->lines, (size_t)1 << 26);
}

static void log_end(struct log *log)
{
        chain_free(log->chain);
        buf_clear(&log->lines);
}

static void grow(struct log *log, unsigned n)
{
        char members[2000];

        memset(members, 'x', sizeof(members));
        for (unsigned i = 0; i < n; i++) {
                int len = snprintf(members, 40, "\"a\":\"%u", i);
                members[len] = 'x';
                /* Lengths differ, so that records end anywhere in a piece. */
                size_t all = 300 + (i * 37) % 1500;
                members[all] = '"';
                assert_true(chain_write(
                        log->chain, &log->head, str_view(members, all + 1), &log->lines));
                members[all] = 'x';
        }
}

static void write_lines(struct log *log, const char *name, bool packed)
{
        gzFile gz = packed ? gzopen(name, "wb") : NULL;

        if (packed) {
                assert_int_equal(
                        gzwrite(gz, log->lines.data, (unsigned)log->lines.len), log->lines.len);
                gzclose(gz);
        } else {
                write_file(name, buf_str(&log->lines));
        }
        buf_reset(&log->lines);
}

static void closed_path(char out[200], uint64_t last, bool packed)
{
        snprintf(out, 200, "%s." CLOSED "-%012llu%s", path, (unsigned long long)last,
                packed ? ".gz" : "");
}

static void close_file(struct log *log, bool packed)
{
        char name[200];

        closed_path(name, log->head.seq, packed);
        write_lines(log, name, packed);
}

static void expect(struct tail *tail, uint64_t from, uint64_t last, uint64_t until)
{
        struct tail_record record;
        struct error err = {""};

        for (uint64_t seq = from; seq <= last; seq++) {
                enum tail_state state = tail_next(tail, until, &record, &err);
                if (state != TAIL_RECORD || record.seq != seq)
                        fail_msg("state %d, seq %llu instead of %llu: %s", state,
                                (unsigned long long)record.seq, (unsigned long long)seq, err.text);
                assert_int_equal(tail_line_seq(record.line), seq);
                assert_int_equal(record.hash.len, CHAIN_HEX);
                assert_int_equal(record.prev.len, CHAIN_HEX);
        }
}

static void expect_lost(
        struct tail *tail, uint64_t first, uint64_t last, bool unreadable, uint64_t until)
{
        struct tail_record record;
        struct error err;

        assert_int_equal(tail_next(tail, until, &record, &err), TAIL_LOST);
        assert_int_equal(record.first, first);
        assert_int_equal(record.last, last);
        assert_int_equal(record.unreadable, unreadable);
}

static void expect_end(struct tail *tail, uint64_t until)
{
        struct tail_record record;
        struct error err;

        assert_int_equal(tail_next(tail, until, &record, &err), TAIL_END);
}

static void a_log_is_read_from_any_record_over_all_its_files(void **state)
{
        struct log log;

        (void)state;
        log_begin(&log);
        grow(&log, 400);
        close_file(&log, true);
        grow(&log, 500);
        close_file(&log, false);
        grow(&log, 300);
        write_lines(&log, path, false);
        for (uint64_t from = 0; from <= 1200; from += 100 - from % 7) {
                struct tail *tail = tail_new(path);
                tail_seek(tail, from);
                expect(tail, from + 1, 1200, 1200);
                expect_end(tail, 1200);
                tail_free(tail);
        }
        assert_int_equal(tail_oldest_seq(path), 1);
        assert_int_equal(tail_first_seq(path), 901);
        log_end(&log);
}

/* What is behind the last acknowledged record may be taken back and written anew. */
static void what_is_not_acknowledged_is_neither_given_nor_kept(void **state)
{
        struct tail *tail = tail_new(path);
        struct chain_head head;
        struct log log;

        (void)state;
        log_begin(&log);
        grow(&log, 10);
        size_t good = log.lines.len;
        head = log.head;
        grow(&log, 10); /* not acknowledged */
        write_file(path, buf_str(&log.lines));
        expect(tail, 1, 5, 10);
        expect(tail, 6, 10, 10);
        expect_end(tail, 10);
        /* The same numbers, other records. */
        log.lines.len = good;
        log.head = head;
        assert_true(chain_write(log.chain, &log.head, STR("\"other\":1"), &log.lines));
        write_file(path, buf_str(&log.lines));
        struct tail_record record;
        struct error err;
        assert_int_equal(tail_next(tail, 11, &record, &err), TAIL_RECORD);
        assert_true(str_find_str(record.line, STR("\"other\":1")) > 0);
        tail_free(tail);
        log_end(&log);
}

static void more_may_be_acknowledged_while_it_is_read(void **state)
{
        struct tail *tail = tail_new(path);
        struct chain_head head;
        struct log log;

        (void)state;
        log_begin(&log);
        grow(&log, 10);
        size_t good = log.lines.len;
        head = log.head;
        grow(&log, 5);
        write_file(path, buf_str(&log.lines));
        expect(tail, 1, 5, 10); /* and 6 to 15 are read ahead */
        log.lines.len = good;
        log.head = head;
        assert_true(chain_write(log.chain, &log.head, STR("\"other\":1"), &log.lines));
        write_file(path, buf_str(&log.lines));
        expect(tail, 6, 10, 11);
        struct tail_record record;
        struct error err;
        assert_int_equal(tail_next(tail, 11, &record, &err), TAIL_RECORD);
        assert_true(str_find_str(record.line, STR("\"other\":1")) > 0);
        tail_free(tail);
        log_end(&log);
}

static void a_file_may_be_closed_packed_and_deleted_while_it_is_read(void **state)
{
        struct tail *tail = tail_new(path);
        char name[200], packed[200];
        struct log log;

        (void)state;
        log_begin(&log);
        grow(&log, 300);
        struct buf copy;
        buf_init(&copy, (size_t)1 << 26);
        buf_str_add(&copy, buf_str(&log.lines));
        write_lines(&log, path, false);
        expect(tail, 1, 20, 300);
        closed_path(name, 300, false);
        closed_path(packed, 300, true);
        assert_int_equal(rename(path, name), 0);
        grow(&log, 10);
        write_lines(&log, path, false);
        expect(tail, 21, 30, 310);
        /* Packed: the descriptor still has it, and one that comes back finds the other form. */
        gzFile gz = gzopen(packed, "wb");
        gzwrite(gz, copy.data, (unsigned)copy.len);
        gzclose(gz);
        unlink(name);
        expect(tail, 31, 200, 310);
        tail_seek(tail, 150);
        expect(tail, 151, 310, 310);
        tail_seek(tail, 150);
        unlink(packed);
        expect_lost(tail, 151, 300, false, 310);
        expect(tail, 301, 310, 310);
        tail_free(tail);
        buf_clear(&copy);
        log_end(&log);
}

static void a_damaged_file_gives_what_can_be_read(void **state)
{
        struct tail *tail = tail_new(path);
        struct tail_record record;
        struct error err;
        char name[200];
        struct log log;
        uint64_t last = 0;

        (void)state;
        log_begin(&log);
        grow(&log, 400);
        close_file(&log, true);
        grow(&log, 5);
        write_lines(&log, path, false);
        closed_path(name, 400, true);
        struct buf bytes = read_file(name);
        write_file(name, str_head(buf_str(&bytes), bytes.len / 2));
        enum tail_state got;
        while ((got = tail_next(tail, 405, &record, &err)) == TAIL_RECORD)
                last = record.seq;
        assert_in_range(last, 10, 390);
        assert_int_equal(got, TAIL_LOST);
        assert_int_equal(record.first, last + 1);
        assert_int_equal(record.last, 400);
        assert_true(record.unreadable);
        expect(tail, 401, 405, 405);
        buf_clear(&bytes);
        tail_free(tail);
        log_end(&log);
}

static void put_beside(const char *date, unsigned last, struct str bytes)
{
        char name[200];

        snprintf(name, sizeof(name), "%s.%s-%012u", path, date, last);
        write_file(name, bytes);
}

/* All of it, each record following the one before. */
static void expect_chain(const struct chain_head *from, uint64_t last)
{
        struct tail *tail = tail_new(path);
        struct tail_record record;
        struct error err = {""};
        char hash[CHAIN_HEX + 1] = "";

        tail_seek_behind(tail, from);
        for (uint64_t seq = from->seq + 1; seq <= last; seq++) {
                enum tail_state got = tail_next(tail, last, &record, &err);
                if (got != TAIL_RECORD || record.seq != seq)
                        fail_msg("from %llu: state %d, seq %llu, lost %llu to %llu",
                                (unsigned long long)from->seq, got, (unsigned long long)record.seq,
                                (unsigned long long)record.first, (unsigned long long)record.last);
                if (hash[0])
                        assert_true(str_eq(record.prev, str_of(hash)));
                memcpy(hash, record.hash.ptr, CHAIN_HEX);
        }
        expect_end(tail, last);
        tail_free(tail);
}

/* Whoever can make files in the folder can give them such names, and copy what stands in others. */
static void files_that_only_have_a_name_lead_nobody_astray(void **state)
{
        struct chain_head from[5];
        struct log log, other;
        struct buf first, second;
        struct str line;
        char name[200];

        (void)state;
        log_begin(&log);
        log_begin(&other);
        other.head.hash[0] = '1';
        from[0] = log.head;
        grow(&log, 299);
        from[1] = log.head;
        grow(&log, 1);
        from[2] = log.head;
        buf_init(&first, (size_t)1 << 26);
        buf_str_add(&first, buf_str(&log.lines));
        close_file(&log, true);
        grow(&log, 5);
        from[3] = log.head;
        grow(&log, 295);
        buf_init(&second, (size_t)1 << 26);
        buf_str_add(&second, buf_str(&log.lines));
        close_file(&log, false);
        grow(&log, 20);
        from[4] = log.head;
        grow(&log, 30);
        write_lines(&log, path, false);
        for (int stage = 0; stage < 6; stage++) {
                switch (stage) {
                case 0: /* nothing, and nothing of a log */
                        put_beside("20200101T000000Z", 100, STR(""));
                        put_beside("20200101T000000Z", 350, STR("{\"seq\":301,\"noise\":1}\n"));
                        put_beside("20200101T000000Z", 600, STR("noise"));
                        break;
                case 1: /* a link to a good one */
                        closed_path(name, 300, true);
                        name[strlen(name) - 3] = 0; /* without `.gz` */
                        assert_int_equal(symlink(path, name), 0);
                        break;
                case 2: /* the beginning of a good one, and then no more, or something else */
                        (void)str_cut(buf_str(&first), '\n', &line);
                        put_beside(
                                "20200101T000000Z", 200, str_head(buf_str(&first), line.len + 1));
                        put_beside(
                                "20200101T000000Z", 299, str_head(buf_str(&first), first.len / 2));
                        break;
                case 3: /* and of the one behind */
                        (void)str_cut(buf_str(&second), '\n', &line);
                        put_beside(
                                "20200101T000000Z", 400, str_head(buf_str(&second), line.len + 1));
                        put_beside("20200101T000000Z", 9999,
                                str_head(buf_str(&second), second.len / 2));
                        break;
                case 4: /* another chain, sound in itself, of the same numbers */
                        grow(&other, 300);
                        buf_reset(&other.lines);
                        grow(&other, 100);
                        put_beside("20200101T000000Z", 401, buf_str(&other.lines));
                        break;
                case 5: /* one of the second file in which records are left out */
                        buf_reset(&other.lines);
                        buf_str_add(&other.lines, str_head(buf_str(&second), line.len + 1));
                        buf_str_add(&other.lines, str_from(buf_str(&second), second.len / 2));
                        put_beside("20200101T000000Z", 500, buf_str(&other.lines));
                        break;
                }
                for (size_t i = 0; i < sizeof(from) / sizeof(*from); i++)
                        expect_chain(&from[i], 650);
        }
        buf_clear(&first);
        buf_clear(&second);
        log_end(&log);
        log_end(&other);
}

static void the_last_record_can_be_given_again(void **state)
{
        struct tail *tail = tail_new(path);
        struct log log;

        (void)state;
        log_begin(&log);
        grow(&log, 5);
        write_lines(&log, path, false);
        expect(tail, 1, 3, 5);
        tail_back(tail);
        assert_int_equal(tail_seq(tail), 2);
        expect(tail, 3, 5, 5);
        tail_free(tail);
        log_end(&log);
}

static void a_position_is_kept_in_a_file(void **state)
{
        struct chain_head head = {.seq = UINT64_MAX}, got;
        struct error err;
        char name[200];

        (void)state;
        snprintf(name, sizeof(name), "%s.sink-a", path);
        memset(head.hash, 'a', CHAIN_HEX);
        assert_int_equal(position_read(name, &got), POSITION_NONE);
        assert_true(position_write(name, &head, &err));
        assert_int_equal(position_read(name, &got), POSITION_GOOD);
        assert_int_equal(got.seq, UINT64_MAX);
        assert_string_equal(got.hash, head.hash);
        head.seq = 7; /* a shorter number leaves nothing of the longer one */
        assert_true(position_write(name, &head, &err));
        assert_int_equal(position_read(name, &got), POSITION_GOOD);
        assert_int_equal(got.seq, 7);
        struct buf bytes = read_file(name);
        for (size_t cut = 0; cut < bytes.len; cut += 9) {
                write_file(name, str_head(buf_str(&bytes), cut));
                assert_int_equal(position_read(name, &got), POSITION_BROKEN);
        }
        buf_clear(&bytes);
}

/* A reader is told once there is more, and what of it is on disk. */
static void more_told(struct scribe_await *await, void *receiver)
{
        (void)await;
        ((struct client *)receiver)->answers++;
}

static void the_scribe_tells_who_waits_for_records(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;

        (void)state;
        client_open(&client);
        assert_int_equal(scribe_opened_seq(scribe), 1);
        struct scribe_await await = {.reply_to = client.box, .done = more_told};
        scribe_await(scribe, &await);
        wait_answers(&client, 1);
        assert_int_equal(await.seq, 1);
        await.after = 1;
        scribe_await(scribe, &await);
        struct pollfd fd = {.fd = mailbox_fd(client.box), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 50), 0);
        struct audit_batch batch;
        audit_batch_init(&batch, client.box, answered, &client);
        add(&batch, "r1", true);
        scribe_post(scribe, &batch);
        wait_answers(&client, 2);
        assert_int_equal(await.seq, 2);
        assert_int_equal(await.synced_seq, 2);
        await.after = 100;
        scribe_await(scribe, &await); /* never answered, and nobody waits for it */
        audit_batch_clear(&batch);
        scribe_stop(scribe);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static size_t closed_files(void)
{
        struct closed_list closed;
        struct error err;

        assert_true(closed_list_read(path, &closed, &err));
        size_t n = closed.n;
        closed_list_clear(&closed);
        return n;
}

static void a_file_that_a_reader_needs_is_not_deleted(void **state)
{
        char reader[120];
        const char *readers[] = {reader};
        struct chain_head head = {.seq = 1};
        struct error err;

        (void)state;
        snprintf(reader, sizeof(reader), "%s.sink-a", path);
        memset(head.hash, '0', CHAIN_HEX);
        for (int late = 1; late >= 0; late--) {
                struct scribe_settings settings = {
                        .path = path, .keep = 1, .readers = readers, .n_readers = 1};
                struct client client;
                head.seq = late ? 1 : UINT64_MAX;
                assert_true(position_write(reader, &head, &err));
                struct scribe *scribe = scribe_open(&settings, &err);
                assert_non_null(scribe);
                client_open(&client);
                for (int i = 0; i < 3; i++) {
                        assert_true(post_one(&client, scribe, "r", true));
                        scribe_reopen(scribe);
                        (void)stats_of(&client, scribe);
                }
                /* Deleting is another thread's. */
                for (int i = 0; i < 2000 && !late && closed_files() > 1; i++)
                        usleep(10000);
                assert_int_equal(closed_files(), late ? 3 : 1);
                scribe_close(scribe);
                mailbox_free(client.box);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(a_log_is_read_from_any_record_over_all_its_files),
                TEST(what_is_not_acknowledged_is_neither_given_nor_kept),
                TEST(more_may_be_acknowledged_while_it_is_read),
                TEST(a_file_may_be_closed_packed_and_deleted_while_it_is_read),
                TEST(a_damaged_file_gives_what_can_be_read),
                cmocka_unit_test_setup_teardown(
                        files_that_only_have_a_name_lead_nobody_astray, setup, teardown),
                TEST(the_last_record_can_be_given_again),
                TEST(a_position_is_kept_in_a_file),
                TEST(the_scribe_tells_who_waits_for_records),
                TEST(a_file_that_a_reader_needs_is_not_deleted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
