#include "scribe_kit.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void records_go_into_the_file_in_the_order_they_were_posted(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct audit_batch batches[20];
        struct client client;
        struct stat info;

        (void)state;
        client_open(&client);
        for (int i = 0; i < 20; i++) {
                audit_batch_init(&batches[i], client.box, answered, &client);
                for (int j = 0; j < 5; j++) {
                        char id[16];
                        snprintf(id, sizeof(id), "r%d", i * 5 + j);
                        add(&batches[i], id, i % 3 == 0);
                }
                scribe_post(scribe, &batches[i]);
        }
        wait_answers(&client, 20);
        assert_int_equal(client.ok, 20);
        assert_int_equal(whole(path, NULL), 101);
        struct scribe_stats stats = stats_of(&client, scribe);
        assert_true(stats.ok);
        assert_int_equal(stats.seq, 101);
        assert_int_equal(stats.records, 100);
        assert_int_equal(stats.batches, 20);
        assert_in_range(stats.writes, 1, 20);
        assert_in_range(stats.syncs, 1, stats.writes);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(stats.file_bytes, info.st_size);
        assert_int_equal(info.st_mode & 07777 & ~0640u, 0);
        struct buf bytes = read_file(path);
        struct str rest = buf_str(&bytes);
        for (int i = 0; i < 100; i++) {
                char id[32];
                snprintf(id, sizeof(id), "\"request_id\":\"r%d\"", i);
                ssize_t at = str_find_str(rest, str_of(id));
                assert_true(at > 0);
                rest = str_from(rest, (size_t)at);
        }
        buf_clear(&bytes);
        for (int i = 0; i < 20; i++)
                audit_batch_clear(&batches[i]);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void durability_decides_what_is_synced(void **state)
{
        static const struct {
                enum scribe_durability durability;
                bool durable;
                uint64_t syncs;
        } cases[] = {
                {SCRIBE_SYNC_WRITES, false, 0},
                {SCRIBE_SYNC_WRITES, true, 1},
                {SCRIBE_SYNC_ALL, false, 1},
                {SCRIBE_SYNC_NONE, true, 0},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct scribe *scribe = open_scribe(cases[i].durability);
                struct client client;
                client_open(&client);
                assert_true(post_one(&client, scribe, "x", cases[i].durable));
                assert_int_equal(stats_of(&client, scribe).syncs, cases[i].syncs);
                scribe_close(scribe);
                mailbox_free(client.box);
        }
}

static void haste_is_about_what_was_posted_before(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;

        (void)state;
        client_open(&client);
        for (int i = 0; i < 20; i++) {
                struct audit_batch batch;
                client.ok = 0;
                audit_batch_init(&batch, client.box, answered, &client);
                add(&batch, "in a hurry", true);
                scribe_hurry(scribe); /* nothing of the kind is there */
                scribe_post(scribe, &batch);
                scribe_hurry(scribe);
                wait_answers(&client, 1);
                assert_int_equal(client.ok, 1);
                audit_batch_clear(&batch);
        }
        assert_int_equal(stats_of(&client, scribe).syncs, 20);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void what_is_posted_in_a_hush_is_written_at_the_end(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct audit_batch batch;
        struct client client;

        (void)state;
        client_open(&client);
        assert_true(post_one(&client, scribe, "before", true));
        scribe_hush(scribe);
        audit_batch_init(&batch, client.box, answered, &client);
        add(&batch, "the last", true);
        client.ok = 0;
        scribe_post(scribe, &batch);
        scribe_event(scribe, STR("process.stopped"), NULL, 0);
        assert_int_equal(whole(path, NULL), 2);
        scribe_stop(scribe);
        wait_answers(&client, 1);
        assert_int_equal(client.ok, 1);
        assert_int_equal(whole(path, NULL), 4);
        audit_batch_clear(&batch);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void closing_writes_what_was_posted_and_the_chain_goes_on_afterwards(void **state)
{
        struct client client;

        (void)state;
        client_open(&client);
        for (int i = 0; i < 3; i++) {
                struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
                struct audit_batch batch;
                audit_batch_init(&batch, client.box, answered, &client);
                add(&batch, "last words", false);
                scribe_event(scribe, STR("process.stopping"), NULL, 0);
                scribe_post(scribe, &batch);
                scribe_close(scribe);
                wait_answers(&client, 1);
                audit_batch_clear(&batch);
                assert_int_equal(whole(path, NULL), 1 + 2 * (i + 1));
        }
        assert_int_equal(count(path, "log.opened"), 1);
        assert_int_equal(count(path, "log.recovered"), 0);
        mailbox_free(client.box);
}

static void a_second_process_cannot_write_the_same_file(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct scribe_settings settings = {.path = path};
        struct error err = {""};

        (void)state;
        assert_null(scribe_open(&settings, &err));
        assert_non_null(strstr(err.text, "another process"));
        scribe_close(scribe);
        scribe = open_scribe(SCRIBE_SYNC_WRITES);
        scribe_close(scribe);
}

static void what_is_no_audit_file_is_refused_and_left_alone(void **state)
{
        static const char *const contents[] = {
                "hello\n", "{\"seq\":1}\n", "\n", "x", "{\"a\":1}", "{\"seq\":1,\"time\":\"x\n"};
        struct scribe_settings settings = {.path = path};
        struct error err;

        (void)state;
        for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
                write_file(path, str_of(contents[i]));
                assert_null(scribe_open(&settings, &err));
                assert_non_null(strstr(err.text, path));
                struct buf now = read_file(path);
                assert_true(str_eq(buf_str(&now), str_of(contents[i])));
                buf_clear(&now);
        }
        settings.path = "/dev/full";
        assert_null(scribe_open(&settings, &err));
        assert_non_null(strstr(err.text, "not a regular file"));
        assert_int_equal(access("/dev/full.key", F_OK), -1);
        settings.path = "/nonexistent/audit.jsonl";
        assert_null(scribe_open(&settings, &err));
        assert_non_null(strstr(err.text, "/nonexistent/audit.jsonl"));
}

/* The sum of all torn bytes kept beside the log. */
static size_t torn_bytes(void)
{
        DIR *dir = opendir(folder);
        size_t sum = 0;

        for (struct dirent *entry; (entry = readdir(dir));) {
                char name[512];
                struct stat info;
                if (!strstr(entry->d_name, ".torn-"))
                        continue;
                snprintf(name, sizeof(name), "%s/%s", folder, entry->d_name);
                assert_int_equal(stat(name, &info), 0);
                sum += (size_t)info.st_size;
                unlink(name);
        }
        closedir(dir);
        return sum;
}

static void a_log_cut_at_any_byte_of_its_last_record_is_mended(void **state)
{
        struct client client;
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_NONE);

        (void)state;
        client_open(&client);
        for (int i = 0; i < 3; i++)
                assert_true(post_one(&client, scribe, "before", false));
        size_t before = stats_of(&client, scribe).file_bytes;
        assert_true(post_one(&client, scribe, "the torn one", false));
        size_t after = stats_of(&client, scribe).file_bytes;
        scribe_close(scribe);
        struct buf log = read_file(path);
        for (size_t len = before; len <= after; len++) {
                write_file(path, str_head(buf_str(&log), len));
                scribe_close(open_scribe(SCRIBE_SYNC_NONE));
                bool clean = len == before || len == after;
                bool kept = len >= after - 1; /* all of it but its newline */
                assert_int_equal(whole(path, NULL), 4 + kept + !clean);
                assert_int_equal(count(path, "log.recovered"), !clean);
                assert_int_equal(count(path, "the torn one"), kept);
                assert_int_equal(torn_bytes(), clean || kept ? 0 : len - before);
        }
        buf_clear(&log);
        mailbox_free(client.box);
}

static void a_log_cut_within_its_first_record_is_begun_anew(void **state)
{
        (void)state;
        scribe_close(open_scribe(SCRIBE_SYNC_NONE));
        struct buf log = read_file(path);
        for (size_t len = 1; len < log.len - 1; len++) {
                write_file(path, str_head(buf_str(&log), len));
                scribe_close(open_scribe(SCRIBE_SYNC_NONE));
                assert_int_equal(whole(path, NULL), 2);
                assert_int_equal(torn_bytes(), len);
        }
        buf_clear(&log);
}

static void a_tail_of_zeros_after_a_power_failure_is_moved_aside(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_NONE);
        static const char zeros[70000];

        (void)state;
        scribe_close(scribe);
        struct buf log = read_file(path);
        buf_add(&log, zeros, sizeof(zeros));
        buf_str_add(&log, STR("\n{\"seq\":3,\"time\"\n"));
        write_file(path, buf_str(&log));
        scribe_close(open_scribe(SCRIBE_SYNC_NONE));
        assert_int_equal(whole(path, NULL), 2);
        assert_int_equal(torn_bytes(), sizeof(zeros) + 17);
        buf_clear(&log);
}

static void limit_file_size(rlim_t bytes)
{
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        limit.rlim_cur = bytes ? bytes : limit.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Once a second the scribe tries again, and what it writes then is there for a moment. */
static bool soon_is_as_before(const struct buf *before)
{
        bool same = false;

        for (int i = 0; i < 1000 && !same; i++) {
                struct buf now = read_file(path);
                same = str_eq(buf_str(&now), buf_str(before));
                buf_clear(&now);
                if (!same)
                        usleep(1000);
        }
        return same;
}

static void a_full_disk_leaves_nothing_half_written_and_heals(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        struct scribe_stats stats;

        (void)state;
        client_open(&client);
        assert_true(post_one(&client, scribe, "good", true));
        uint64_t size = stats_of(&client, scribe).file_bytes;
        assert_int_equal(whole(path, NULL), 2);
        struct buf before = read_file(path);
        for (rlim_t room = 0; room < 200; room += 40) {
                limit_file_size(size + room); /* a part of the record fits */
                assert_false(post_one(&client, scribe, "refused", true));
                stats = stats_of(&client, scribe);
                assert_false(stats.ok);
                assert_non_null(strstr(stats.error, "write"));
                assert_int_equal(stats.file_bytes, size);
                assert_true(soon_is_as_before(&before));
        }
        buf_clear(&before);
        scribe_event(scribe, STR("kept.event"), NULL, 0);
        assert_false(stats_of(&client, scribe).ok);
        limit_file_size(0);
        assert_true(post_one(&client, scribe, "good again", true));
        stats = stats_of(&client, scribe);
        assert_true(stats.ok);
        assert_int_equal(stats.failing_ms, 0);
        assert_int_equal(stats.refused_records, 5);
        assert_int_equal(whole(path, NULL), 5); /* and log.write_failed, kept.event */
        assert_int_equal(count(path, "\"refused\""), 0);
        assert_int_equal(count(path, "kept.event"), 1);
        assert_int_equal(count(path, "log.write_failed"), 1);
        assert_int_equal(count(path, "\"refused_records\":\"5\""), 1);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void writing_resumes_by_itself_when_nothing_is_posted(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;

        (void)state;
        client_open(&client);
        limit_file_size(stats_of(&client, scribe).file_bytes + 10);
        assert_false(post_one(&client, scribe, "refused", true));
        limit_file_size(0);
        for (int i = 0; i < 100 && count(path, "log.write_failed") == 0; i++)
                usleep(100000);
        assert_true(stats_of(&client, scribe).ok);
        scribe_close(scribe);
        assert_int_equal(whole(path, NULL), 2);
        mailbox_free(client.box);
}

static void a_refused_batch_can_be_posted_again(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        struct audit_batch batch;

        (void)state;
        client_open(&client);
        audit_batch_init(&batch, client.box, answered, &client);
        add(&batch, "twice posted", true);
        limit_file_size(stats_of(&client, scribe).file_bytes + 10);
        scribe_post(scribe, &batch);
        wait_answers(&client, 1);
        assert_false(batch.ok);
        assert_int_equal(batch.n, 1);
        limit_file_size(0);
        scribe_post(scribe, &batch);
        wait_answers(&client, 1);
        assert_true(batch.ok);
        assert_int_equal(count(path, "twice posted"), 1);
        audit_batch_clear(&batch);
        scribe_close(scribe);
        mailbox_free(client.box);
}

static void rotation_goes_on_with_the_chain_in_a_new_file(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        char old[128];

        (void)state;
        snprintf(old, sizeof(old), "%s.1", path);
        client_open(&client);
        assert_true(post_one(&client, scribe, "first", false));
        assert_true(post_one(&client, scribe, "second", false));
        assert_int_equal(rename(path, old), 0);
        assert_true(post_one(&client, scribe, "third, in the old file", false));
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "fourth", false));
        assert_int_equal(stats_of(&client, scribe).reopens, 1);
        scribe_close(scribe);
        assert_int_equal(whole(old, NULL), 4);
        assert_int_equal(whole(path, NULL), 2);
        assert_int_equal(whole(old, path, NULL), 6);
        assert_int_equal(count(path, "\"reason\":\"rotated\",\"previous_seq\":\"4\""), 1);
        mailbox_free(client.box);
}

static void a_rotation_that_cannot_be_done_goes_on_in_the_old_file(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        char old[128];

        (void)state;
        snprintf(old, sizeof(old), "%s.1", path);
        client_open(&client);
        assert_int_equal(rename(path, old), 0);
        write_file(path, STR("something else\n"));
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "still here", false));
        assert_int_equal(count(old, "still here"), 1);
        assert_int_equal(count(path, "something else"), 1);
        assert_int_equal(unlink(path), 0);
        scribe_reopen(scribe);
        assert_true(post_one(&client, scribe, "now there", false));
        scribe_close(scribe);
        assert_int_equal(whole(old, path, NULL), 4);
        mailbox_free(client.box);
}

static void a_removed_file_is_made_again(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;

        (void)state;
        client_open(&client);
        assert_int_equal(unlink(path), 0);
        assert_true(post_one(&client, scribe, "saved", false));
        scribe_close(scribe);
        assert_int_equal(whole(path, NULL), 2);
        assert_int_equal(count(path, "\"reason\":\"removed\",\"previous_seq\":\"1\""), 1);
        mailbox_free(client.box);
}

static void a_file_that_was_copied_and_emptied_keeps_the_chain(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        char copy[128];

        (void)state;
        snprintf(copy, sizeof(copy), "%s.1", path);
        client_open(&client);
        assert_true(post_one(&client, scribe, "copied", false));
        struct buf bytes = read_file(path);
        write_file(copy, buf_str(&bytes));
        assert_int_equal(truncate(path, 0), 0);
        assert_true(post_one(&client, scribe, "after", false));
        scribe_close(scribe);
        assert_int_equal(whole(copy, path, NULL), 4);
        assert_int_equal(count(path, "\"reason\":\"emptied\""), 1);
        buf_clear(&bytes);
        mailbox_free(client.box);
}

static void foreign_bytes_under_the_running_scribe_are_recorded(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        struct verify verify;

        (void)state;
        client_open(&client);
        int fd = open(path, O_WRONLY | O_APPEND);
        assert_int_equal(write(fd, "intruder", 8), 8);
        close(fd);
        assert_true(post_one(&client, scribe, "after", false));
        scribe_close(scribe);
        assert_int_equal(count(path, "log.changed"), 1);
        assert_int_equal(count(path, "intruder\n{\"seq\":2,"), 1);
        struct buf bytes = read_file(path);
        verify_init(&verify);
        verify_file(&verify, path);
        verify_feed(&verify, bytes.data, bytes.len);
        verify_file_end(&verify);
        assert_int_equal(verify.first.fault, VERIFY_FOREIGN);
        assert_int_equal(verify.first.line, 2);
        verify_clear(&verify);
        buf_clear(&bytes);
        mailbox_free(client.box);
}

static void a_batch_that_is_full_says_so(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        struct audit_batch batch;
        struct client client;
        struct audit_fields fields = {.kind = AUDIT_OUTCOME};
        unsigned n = 0;

        (void)state;
        client_open(&client);
        audit_batch_init(&batch, client.box, answered, &client);
        while (audit_batch_add(&batch, &fields, false))
                n++;
        assert_in_range(n, 1000, 10000);
        assert_int_equal(batch.n, n);
        scribe_post(scribe, &batch);
        wait_answers(&client, 1);
        assert_int_equal(whole(path, NULL), n + 1);
        audit_batch_reset(&batch);
        assert_true(audit_batch_add(&batch, &fields, false));
        audit_batch_clear(&batch);
        scribe_close(scribe);
        mailbox_free(client.box);
}

enum { WORKERS = 4, ROUNDS = 200 };

static void *work(void *argument)
{
        struct scribe *scribe = argument;
        struct client client;
        struct audit_batch batches[4];

        client_open(&client);
        for (int i = 0; i < 4; i++)
                audit_batch_init(&batches[i], client.box, answered, &client);
        for (int round = 0; round < ROUNDS; round++) {
                for (int i = 0; i < 4; i++) {
                        audit_batch_reset(&batches[i]);
                        add(&batches[i], "a", false);
                        add(&batches[i], "b", round % 8 == 0);
                        scribe_post(scribe, &batches[i]);
                }
                if (round % 50 == 0)
                        scribe_event(scribe, STR("worker.event"), NULL, 0);
                wait_answers(&client, 4);
        }
        assert_int_equal(client.ok, 4 * ROUNDS);
        for (int i = 0; i < 4; i++)
                audit_batch_clear(&batches[i]);
        mailbox_free(client.box);
        return NULL;
}

static void many_threads_write_one_whole_chain(void **state)
{
        struct scribe *scribe = open_scribe(SCRIBE_SYNC_WRITES);
        pthread_t threads[WORKERS];

        (void)state;
        for (int i = 0; i < WORKERS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, work, scribe), 0);
        for (int i = 0; i < WORKERS; i++)
                pthread_join(threads[i], NULL);
        scribe_close(scribe);
        assert_int_equal(whole(path, NULL), 1 + WORKERS * (ROUNDS * 8 + ROUNDS / 50));
}

static void a_killed_process_leaves_a_log_that_is_whole_or_mended(void **state)
{
        (void)state;
        for (int round = 0; round < 5; round++) {
                pid_t child = fork();
                assert_true(child >= 0);
                if (child == 0) {
                        struct scribe_settings settings = {.path = path};
                        struct error err;
                        struct scribe *scribe = scribe_open(&settings, &err);
                        for (;;)
                                scribe_event(scribe, STR("busy"), NULL, 0), usleep(10);
                }
                usleep(100000);
                kill(child, SIGKILL);
                waitpid(child, NULL, 0);
                struct scribe *scribe = open_scribe(SCRIBE_SYNC_NONE);
                scribe_close(scribe);
                whole(path, NULL);
        }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(records_go_into_the_file_in_the_order_they_were_posted),
                TEST(durability_decides_what_is_synced),
                TEST(haste_is_about_what_was_posted_before),
                TEST(what_is_posted_in_a_hush_is_written_at_the_end),
                TEST(closing_writes_what_was_posted_and_the_chain_goes_on_afterwards),
                TEST(a_second_process_cannot_write_the_same_file),
                TEST(what_is_no_audit_file_is_refused_and_left_alone),
                TEST(a_log_cut_at_any_byte_of_its_last_record_is_mended),
                TEST(a_log_cut_within_its_first_record_is_begun_anew),
                TEST(a_tail_of_zeros_after_a_power_failure_is_moved_aside),
                TEST(a_full_disk_leaves_nothing_half_written_and_heals),
                TEST(writing_resumes_by_itself_when_nothing_is_posted),
                TEST(a_refused_batch_can_be_posted_again),
                TEST(rotation_goes_on_with_the_chain_in_a_new_file),
                TEST(a_rotation_that_cannot_be_done_goes_on_in_the_old_file),
                TEST(a_removed_file_is_made_again),
                TEST(a_file_that_was_copied_and_emptied_keeps_the_chain),
                TEST(foreign_bytes_under_the_running_scribe_are_recorded),
                TEST(a_batch_that_is_full_says_so),
                TEST(many_threads_write_one_whole_chain),
                TEST(a_killed_process_leaves_a_log_that_is_whole_or_mended),
        };

        signal(SIGXFSZ, SIG_IGN); /* for what the tests themselves write under a limit */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
