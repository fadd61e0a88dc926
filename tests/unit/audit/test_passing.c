/* One log, two scribes: the file is handed over, records are passed, and it is taken back. */
#include "scribe_kit.h"

#include <pthread.h>
#include <sys/socket.h>

#include "dagward/audit/passed.h"

static int64_t limit_ms = 20000;

/* Lets go of the file at one end of a stream; the other end. */
static int hand_over(struct scribe *scribe)
{
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        scribe_hand_over(scribe, ends[0], limit_ms);
        assert_true(passed_wait_released(ends[1], 10000));
        return ends[1];
}

struct other {
        pthread_t thread;
        struct client client;
        struct scribe *scribe; /* NULL: nothing can be written */
        int fd;
        unsigned batches;
};

/* As proxy/heir.c does it. */
static void *write_for(void *argument)
{
        struct other *other = argument;
        struct audit_batch batch;

        audit_batch_init(&batch, other->client.box, answered, &other->client);
        while (passed_read(other->fd, &batch)) {
                bool ok = other->scribe != NULL;
                other->batches++;
                if (ok) {
                        other->client.ok = 0;
                        scribe_post(other->scribe, &batch);
                        wait_answers(&other->client, 1);
                        ok = other->client.ok;
                }
                (void)!passed_answer(other->fd, ok);
                audit_batch_reset(&batch);
        }
        audit_batch_clear(&batch);
        return NULL;
}

static void other_start(struct other *other, int fd, struct scribe *scribe)
{
        *other = (struct other){.fd = fd, .scribe = scribe};
        client_open(&other->client);
        assert_int_equal(pthread_create(&other->thread, NULL, write_for, other), 0);
}

static void other_stop(struct other *other)
{
        shutdown(other->fd, SHUT_RDWR);
        pthread_join(other->thread, NULL);
        close(other->fd);
        mailbox_free(other->client.box);
}

static void records_of_both_stand_in_one_chain(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        struct other other;

        (void)state;
        client_open(&client);
        assert_true(post_one(&client, old, "before", true));
        int fd = hand_over(old);
        struct scribe *new = open_scribe(SCRIBE_SYNC_WRITES); /* its lock is free */
        other_start(&other, fd, new);
        assert_true(post_one(&client, old, "passed", true));
        assert_true(post_one(&client, new, "own", true));
        scribe_event(old, STR("process.stopped"), NULL, 0);
        assert_true(post_one(&client, old, "passed too", false));
        assert_true(stats_of(&client, old).ok);
        assert_int_equal(stats_of(&client, new).syncs, 3); /* as it was asked for; the event, too */
        scribe_close(old);
        other_stop(&other);
        scribe_close(new);
        assert_int_equal(whole(path, NULL), 6);
        assert_int_equal(count(path, "log.opened"), 1);
        mailbox_free(client.box);
}

static void what_was_posted_before_is_written_before_it_lets_go(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct audit_batch batches[10];
        struct client client;

        (void)state;
        client_open(&client);
        for (int i = 0; i < 10; i++) {
                audit_batch_init(&batches[i], client.box, answered, &client);
                add(&batches[i], "r", false);
                scribe_post(old, &batches[i]);
        }
        int fd = hand_over(old);
        assert_int_equal(whole(path, NULL), 11);
        wait_answers(&client, 10);
        assert_int_equal(client.ok, 10);
        close(fd);
        scribe_close(old);
        for (int i = 0; i < 10; i++)
                audit_batch_clear(&batches[i]);
        mailbox_free(client.box);
}

static void a_file_whose_taker_is_gone_is_taken_back(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        struct other other;

        (void)state;
        client_open(&client);
        int fd = hand_over(old);
        struct scribe *new = open_scribe(SCRIBE_SYNC_WRITES);
        other_start(&other, fd, new);
        assert_true(post_one(&client, old, "passed", true));
        other_stop(&other);
        scribe_close(new);
        assert_true(post_one(&client, old, "by ourselves", true));
        assert_true(stats_of(&client, old).ok);
        scribe_close(old);
        assert_int_equal(whole(path, NULL), 3);
        mailbox_free(client.box);
}

static void a_file_that_a_third_has_cannot_be_taken_back(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;

        (void)state;
        client_open(&client);
        int fd = hand_over(old);
        close(fd);
        struct scribe *third = open_scribe(SCRIBE_SYNC_WRITES);
        assert_false(post_one(&client, old, "nowhere", true));
        struct scribe_stats stats = stats_of(&client, old);
        assert_false(stats.ok);
        assert_non_null(strstr(stats.error, "another process"));
        scribe_close(third);
        while (!post_one(&client, old, "at last", true))
                ;
        scribe_close(old);
        assert_int_equal(whole(path, NULL), 3);
        assert_int_equal(count(path, "log.write_failed"), 1);
        assert_int_equal(count(path, "\"since\":\"1970"), 0);
        assert_int_equal(count(path, "nowhere"), 0);
        mailbox_free(client.box);
}

static void what_the_taker_cannot_write_is_sent_back(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct client client;
        struct other other;

        (void)state;
        client_open(&client);
        other_start(&other, hand_over(old), NULL);
        assert_false(post_one(&client, old, "x", true));
        assert_false(stats_of(&client, old).ok);
        assert_int_equal(other.batches, 1);
        other_stop(&other);
        scribe_close(old);
        mailbox_free(client.box);
}

/* --- silence --- */

static int hand_over_impatiently(struct scribe *scribe)
{
        limit_ms = 300;
        int fd = hand_over(scribe);
        limit_ms = 20000;
        return fd;
}

static void wait_until_failing(struct client *client, struct scribe *scribe)
{
        while (stats_of(client, scribe).ok)
                ;
}

/* One batch, which stays under way: its answer is `patient`'s, when it comes. */
static void post_to_the_silent(struct scribe *scribe, struct client *client,
        struct audit_batch *batch, struct client *patient, const char *id, bool durable)
{
        audit_batch_init(batch, patient->box, answered, patient);
        add(batch, id, durable);
        scribe_post(scribe, batch);
        wait_until_failing(client, scribe);
}

static void a_taker_that_is_silent_with_the_file_makes_writing_fail_until_it_answers(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct audit_batch first;
        struct client client, patient;
        struct other other;

        (void)state;
        client_open(&client);
        client_open(&patient);
        int fd = hand_over_impatiently(old);
        struct scribe *new = open_scribe(SCRIBE_SYNC_WRITES);
        post_to_the_silent(old, &client, &first, &patient, "in doubt", true);
        assert_non_null(strstr(stats_of(&client, old).error, "does not answer"));
        assert_false(post_one(&client, old, "refused", true));
        mailbox_drain(patient.box);
        assert_int_equal(patient.answers, 0); /* it may be written yet */
        other_start(&other, fd, new);
        wait_answers(&patient, 1);
        assert_int_equal(patient.ok, 1);
        assert_true(post_one(&client, old, "passed", true));
        assert_true(stats_of(&client, old).ok);
        scribe_close(old);
        other_stop(&other);
        scribe_close(new);
        whole(path, NULL);
        assert_int_equal(count(path, "in doubt"), 1);
        assert_int_equal(count(path, "refused\""), 0);
        audit_batch_clear(&first);
        mailbox_free(client.box);
        mailbox_free(patient.box);
}

static void a_taker_that_is_silent_without_the_file_does_not_get_it(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct scribe_settings settings = {.path = path};
        struct client client;
        struct error err;

        (void)state;
        client_open(&client);
        int fd = hand_over_impatiently(old);
        assert_true(post_one(&client, old, "by ourselves", true));
        assert_null(scribe_open(&settings, &err));
        assert_non_null(strstr(err.text, "another process"));
        close(fd);
        scribe_close(old);
        whole(path, NULL);
        assert_int_equal(count(path, "by ourselves"), 1);
        mailbox_free(client.box);
}

/* The taker writes `n` of two records and dies without a word. */
static void what_is_written_when_the_taker_dies_is_there_once(void **state)
{
        (void)state;
        for (unsigned n = 0; n <= 2; n++) {
                struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
                struct audit_batch both, some;
                struct client client, taker;
                char ids[2][16];
                client_open(&client);
                client_open(&taker);
                int fd = hand_over(old);
                struct scribe *new = open_scribe(SCRIBE_SYNC_WRITES);
                audit_batch_init(&both, client.box, answered, &client);
                audit_batch_init(&some, taker.box, answered, &taker);
                for (unsigned i = 0; i < 2; i++) {
                        snprintf(ids[i], sizeof(ids[i]), "doubt %u of %u", i, n);
                        add(&both, ids[i], true);
                        if (i < n)
                                add(&some, ids[i], true);
                }
                scribe_post(old, &both);
                struct pollfd arrives = {.fd = fd, .events = POLLIN};
                assert_int_equal(poll(&arrives, 1, 20000), 1);
                if (n) {
                        scribe_post(new, &some);
                        wait_answers(&taker, 1);
                }
                scribe_close(new);
                close(fd);
                wait_answers(&client, 1);
                assert_int_equal(client.ok, 1);
                scribe_close(old);
                whole(path, NULL);
                for (unsigned i = 0; i < 2; i++)
                        assert_int_equal(count(path, ids[i]), 1);
                audit_batch_clear(&both);
                audit_batch_clear(&some);
                mailbox_free(client.box);
                mailbox_free(taker.box);
        }
}

static void what_is_said_last_is_written_by_a_taker_that_wakes_later(void **state)
{
        struct scribe *old = open_scribe(SCRIBE_SYNC_WRITES);
        struct audit_batch batch;
        struct client client, patient;
        struct other other;

        (void)state;
        client_open(&client);
        client_open(&patient);
        int fd = hand_over_impatiently(old);
        struct scribe *new = open_scribe(SCRIBE_SYNC_WRITES);
        post_to_the_silent(old, &client, &batch, &patient, "last words", false);
        scribe_event(old, STR("process.stopped"), NULL, 0);
        scribe_close(old); /* does not wait for who sleeps */
        other_start(&other, fd, new);
        pthread_join(other.thread, NULL); /* it hears the end behind the last one */
        assert_int_equal(other.batches, 2);
        close(fd);
        mailbox_free(other.client.box);
        scribe_close(new);
        whole(path, NULL);
        assert_int_equal(count(path, "last words"), 1);
        assert_int_equal(count(path, "process.stopped"), 1);
        mailbox_drain(patient.box);
        audit_batch_clear(&batch);
        mailbox_free(client.box);
        mailbox_free(patient.box);
}

static void what_is_no_batch_ends_it(void **state)
{
        static const char *const said[] = {
                "", "X123456789", "B", "B\1\1\0\0\0\xff\xff\xff\xff", "B\1\1\0\0\0\5\0\0\0ab"};
        static const size_t bytes[] = {0, 10, 1, 10, 12};

        (void)state;
        for (size_t i = 0; i < sizeof(bytes) / sizeof(*bytes); i++) {
                struct audit_batch batch;
                int ends[2];
                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
                assert_int_equal(write(ends[0], said[i], bytes[i]), bytes[i]);
                close(ends[0]);
                audit_batch_init(&batch, NULL, NULL, NULL);
                assert_false(passed_read(ends[1], &batch));
                audit_batch_clear(&batch);
                close(ends[1]);
        }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(records_of_both_stand_in_one_chain),
                TEST(what_was_posted_before_is_written_before_it_lets_go),
                TEST(a_file_whose_taker_is_gone_is_taken_back),
                TEST(a_file_that_a_third_has_cannot_be_taken_back),
                TEST(what_the_taker_cannot_write_is_sent_back),
                TEST(a_taker_that_is_silent_with_the_file_makes_writing_fail_until_it_answers),
                TEST(a_taker_that_is_silent_without_the_file_does_not_get_it),
                TEST(what_is_written_when_the_taker_dies_is_there_once),
                TEST(what_is_said_last_is_written_by_a_taker_that_wakes_later),
                TEST(what_is_no_batch_ends_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
