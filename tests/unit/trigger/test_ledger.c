/* The ledger as workers see it: who goes first, who waits, and what a start after a crash knows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/trigger/ledger.h"

struct rig {
        char folder[64], path[96];
        struct mailbox *box;
        struct ledger *ledger;
        struct trigger_ask *last; /* answered last */
        char caller;              /* who asks; 0: nobody in particular */
        size_t most;
};

static void on_answer(struct mail *mail, void *receiver)
{
        struct rig *rig = receiver;

        rig->last = (struct trigger_ask *)mail;
}

static void start(struct rig *rig)
{
        struct error err = {{0}};

        rig->ledger = ledger_open(rig->path, &err);
        if (!rig->ledger)
                fail_msg("%s", err.text);
}

static int set_up(void **state)
{
        struct rig *rig = calloc(1, sizeof(*rig));

        snprintf(rig->folder, sizeof(rig->folder), "/tmp/ledger.XXXXXX");
        assert_non_null(mkdtemp(rig->folder));
        snprintf(rig->path, sizeof(rig->path), "%s/triggers", rig->folder);
        rig->box = mailbox_new(rig);
        rig->most = 3;
        start(rig);
        *state = rig;
        return 0;
}

static int tear_down(void **state)
{
        struct rig *rig = *state;

        ledger_close(rig->ledger);
        mailbox_drain(rig->box);
        mailbox_free(rig->box);
        unlink(rig->path);
        rmdir(rig->folder);
        free(rig);
        return 0;
}

static struct trigger_ask *ask_of(struct rig *rig, char key, char body, const char *who)
{
        struct trigger_ask *ask = calloc(1, sizeof(*ask));

        *ask = (struct trigger_ask){.window_ms = 3600000,
                .most = rig->most,
                .reply_to = rig->box,
                .answered = on_answer};
        memset(ask->key.key, key, TRIGGER_DIGEST);
        memset(ask->key.request, body, TRIGGER_DIGEST);
        memset(ask->key.caller, rig->caller, TRIGGER_DIGEST);
        snprintf(ask->request_id, sizeof(ask->request_id), "%s-0000-7000-8000-000000000000", who);
        snprintf(ask->correlation_id, sizeof(ask->correlation_id), "%s", ask->request_id);
        return ask;
}

static bool is_answered(struct rig *rig, int ms)
{
        struct pollfd fd = {.fd = mailbox_fd(rig->box), .events = POLLIN};

        rig->last = NULL;
        poll(&fd, 1, ms);
        mailbox_drain(rig->box);
        return rig->last != NULL;
}

/* Asks, and waits for the answer; free it. */
static struct trigger_ask *ask(struct rig *rig, char key, char body, const char *who)
{
        ledger_ask(rig->ledger, ask_of(rig, key, body, who));
        assert_true(is_answered(rig, 10000));
        return rig->last;
}

static void expect(struct rig *rig, char key, const char *who, enum trigger_verdict verdict)
{
        struct trigger_ask *told = ask(rig, key, 'b', who);

        assert_int_equal(told->verdict, verdict);
        free(told->answer);
        free(told);
}

static void tell(struct rig *rig, char key, const char *who, enum trigger_end end)
{
        struct trigger_ask *said = ask_of(rig, key, 'b', who);
        struct trigger_answer answer = {
                .status = 200, .whole = true, .run_id = STR("7"), .body = STR("{\"id\":7}")};

        ledger_tell(rig->ledger, &said->key, said->request_id, end,
                end == TRIGGER_ENDED ? &answer : NULL);
        free(said);
}

static void restart(struct rig *rig)
{
        ledger_close(rig->ledger);
        start(rig);
}

static void the_first_is_sent_and_the_second_gets_its_answer(void **state)
{
        struct rig *rig = *state;

        expect(rig, 'k', "00000001", TRIGGER_FIRST);
        tell(rig, 'k', "00000001", TRIGGER_ENDED);
        struct trigger_ask *told = ask(rig, 'k', 'b', "00000002");
        assert_int_equal(told->verdict, TRIGGER_REPLAY);
        assert_string_equal(told->first_id, "00000001-0000-7000-8000-000000000000");
        assert_true(str_eq(told->answer->body, STR("{\"id\":7}")));
        assert_true(str_eq(told->answer->run_id, STR("7")));
        free(told->answer);
        free(told);
}

static void the_second_waits_while_the_first_is_under_way(void **state)
{
        struct rig *rig = *state;

        expect(rig, 'k', "00000001", TRIGGER_FIRST);
        ledger_ask(rig->ledger, ask_of(rig, 'k', 'b', "00000002"));
        ledger_ask(rig->ledger, ask_of(rig, 'k', 'b', "00000003"));
        assert_false(is_answered(rig, 100));
        tell(rig, 'k', "00000001", TRIGGER_NOT_STARTED);
        assert_true(is_answered(rig, 10000)); /* the next one goes first now, the third waits on */
        assert_int_equal(rig->last->verdict, TRIGGER_FIRST);
        assert_string_equal(rig->last->request_id, "00000002-0000-7000-8000-000000000000");
        free(rig->last);
        assert_false(is_answered(rig, 100));
        tell(rig, 'k', "00000002", TRIGGER_ENDED);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_REPLAY);
        free(rig->last->answer);
        free(rig->last);
}

static void withdraw(struct rig *rig, char key, const char *who)
{
        struct trigger_ask *said = ask_of(rig, key, 'b', who);

        ledger_withdraw(rig->ledger, &said->key, said->request_id);
        free(said);
}

static void expect_answer(struct rig *rig, const char *who, enum trigger_verdict verdict)
{
        assert_true(is_answered(rig, 10000));
        assert_memory_equal(rig->last->request_id, who, strlen(who));
        assert_int_equal(rig->last->verdict, verdict);
        free(rig->last->answer);
        free(rig->last);
}

static void who_withdraws_stands_in_line_no_more(void **state)
{
        struct rig *rig = *state;
        const char *const line[] = {"00000002", "00000003", "00000004", "00000005"};

        expect(rig, 'k', "00000001", TRIGGER_FIRST);
        for (size_t i = 0; i < 4; i++)
                ledger_ask(rig->ledger, ask_of(rig, 'k', 'b', line[i]));
        assert_false(is_answered(rig, 100));
        withdraw(rig, 'k', "00000004"); /* in the middle, at the end, at the beginning */
        expect_answer(rig, "00000004", TRIGGER_BROKEN);
        withdraw(rig, 'k', "00000005");
        expect_answer(rig, "00000005", TRIGGER_BROKEN);
        withdraw(rig, 'k', "00000002");
        expect_answer(rig, "00000002", TRIGGER_BROKEN);
        ledger_ask(rig->ledger, ask_of(rig, 'k', 'b', "00000006"));
        withdraw(rig, 'k', "00000009"); /* who asked nothing */
        withdraw(rig, 'x', "00000003"); /* nor this */
        withdraw(rig, 'k', "00000001"); /* who has its answer, and the key in hand */
        assert_false(is_answered(rig, 100));
        tell(rig, 'k', "00000001", TRIGGER_NOT_STARTED);
        expect_answer(rig, "00000003", TRIGGER_FIRST);
        withdraw(rig, 'k', "00000006"); /* the last of all */
        expect_answer(rig, "00000006", TRIGGER_BROKEN);
        ledger_ask(rig->ledger, ask_of(rig, 'k', 'b', "00000007"));
        tell(rig, 'k', "00000003", TRIGGER_ENDED);
        expect_answer(rig, "00000007", TRIGGER_REPLAY);
}

static void what_was_lost_is_looked_for_by_one(void **state)
{
        struct rig *rig = *state;

        expect(rig, 'k', "00000001", TRIGGER_FIRST);
        tell(rig, 'k', "00000001", TRIGGER_ENDED_LOST);
        expect(rig, 'k', "00000002", TRIGGER_LOOK);
        ledger_ask(rig->ledger, ask_of(rig, 'k', 'b', "00000003"));
        assert_false(is_answered(rig, 100));
        /* It was not there: the one who looked sends it, under the first one's id. */
        struct trigger_ask *renewed = ask_of(rig, 'k', 'b', "00000002");
        renewed->renew = true;
        ledger_ask(rig->ledger, renewed);
        assert_true(is_answered(rig, 10000));
        assert_ptr_equal(rig->last, renewed);
        assert_int_equal(renewed->verdict, TRIGGER_FIRST);
        assert_string_equal(renewed->first_id, "00000001-0000-7000-8000-000000000000");
        free(renewed);
        tell(rig, 'k', "00000002", TRIGGER_ENDED);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_REPLAY);
        free(rig->last->answer);
        free(rig->last);
}

static void only_who_has_it_in_hand_may_tell(void **state)
{
        struct rig *rig = *state;

        expect(rig, 'k', "00000001", TRIGGER_FIRST);
        tell(rig, 'k', "00000009", TRIGGER_NOT_STARTED);
        ledger_ask(rig->ledger, ask_of(rig, 'k', 'b', "00000002"));
        assert_false(is_answered(rig, 100));
        tell(rig, 'k', "00000001", TRIGGER_ENDED_LOST);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_LOOK);
        free(rig->last);
}

static void a_key_of_another_request_is_told_apart(void **state)
{
        struct rig *rig = *state;

        expect(rig, 'k', "00000001", TRIGGER_FIRST);
        struct trigger_ask *told = ask(rig, 'k', 'x', "00000002");
        assert_int_equal(told->verdict, TRIGGER_OTHER);
        free(told);
}

static void no_more_are_kept_than_may_be(void **state)
{
        struct rig *rig = *state;

        expect(rig, 'a', "00000001", TRIGGER_FIRST);
        expect(rig, 'b', "00000001", TRIGGER_FIRST);
        expect(rig, 'c', "00000001", TRIGGER_FIRST);
        expect(rig, 'd', "00000001", TRIGGER_FULL);
        tell(rig, 'a', "00000001", TRIGGER_NOT_STARTED);
        expect(rig, 'd', "00000001", TRIGGER_FIRST);
}

/* Asks with fresh keys until there is an answer other than that it may send; how often it might. */
static size_t take_all(struct rig *rig, char caller, unsigned *keys, enum trigger_verdict *verdict)
{
        struct trigger_ask *told;
        size_t n = 0;

        rig->caller = caller;
        for (;; n++) {
                struct trigger_ask *asked = ask_of(rig, 0, 'b', "00000001");
                ++*keys;
                memcpy(asked->key.key, keys, sizeof(*keys));
                ledger_ask(rig->ledger, asked);
                assert_true(is_answered(rig, 10000));
                told = rig->last;
                *verdict = told->verdict;
                free(told);
                if (*verdict != TRIGGER_FIRST)
                        return n;
        }
}

static void nobody_takes_the_room_of_all(void **state)
{
        struct rig *rig = *state;
        enum trigger_verdict verdict;
        unsigned keys = 0;

        rig->most = 60;
        assert_int_equal(take_all(rig, 'a', &keys, &verdict), 30);
        assert_int_equal(verdict, TRIGGER_SHARE);
        assert_int_equal(take_all(rig, 'b', &keys, &verdict), 15); /* half of what was left */
        assert_int_equal(verdict, TRIGGER_SHARE);
        assert_int_equal(take_all(rig, 'a', &keys, &verdict), 0);
        /* What it has gets its answers all the same. */
        unsigned first = 1;
        struct trigger_ask *again = ask_of(rig, 0, 'b', "00000002");
        struct trigger_answer answer = {.status = 200, .whole = true};
        memcpy(again->key.key, &first, sizeof(first));
        ledger_tell(rig->ledger, &again->key, "00000001-0000-7000-8000-000000000000", TRIGGER_ENDED,
                &answer);
        ledger_ask(rig->ledger, again);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_REPLAY);
        free(rig->last->answer);
        free(rig->last);
        /* The very last is for whoever has none, and then it is full. */
        assert_true(take_all(rig, 'c', &keys, &verdict) >= 7);
        for (char other = 'd'; verdict == TRIGGER_SHARE; other++)
                assert_true(take_all(rig, other, &keys, &verdict) >= 1);
        assert_int_equal(verdict, TRIGGER_FULL);
}

static void shares_are_known_after_a_start(void **state)
{
        struct rig *rig = *state;
        enum trigger_verdict verdict;
        unsigned keys = 0;

        rig->most = 60;
        assert_int_equal(take_all(rig, 'a', &keys, &verdict), 30);
        restart(rig);
        assert_int_equal(take_all(rig, 'a', &keys, &verdict), 0);
        assert_int_equal(verdict, TRIGGER_SHARE);
        assert_int_equal(take_all(rig, 'b', &keys, &verdict), 15);
        rig->most = 90; /* a reload may give more */
        assert_int_equal(take_all(rig, 'a', &keys, &verdict), 8);
}

static void what_was_not_started_gives_its_room_back(void **state)
{
        struct rig *rig = *state;

        rig->most = 4;
        rig->caller = 'a';
        expect(rig, '1', "00000001", TRIGGER_FIRST);
        expect(rig, '2', "00000001", TRIGGER_FIRST);
        expect(rig, '3', "00000001", TRIGGER_SHARE);
        tell(rig, '1', "00000001", TRIGGER_NOT_STARTED);
        expect(rig, '3', "00000001", TRIGGER_FIRST);
        expect(rig, '4', "00000001", TRIGGER_SHARE);
}

/* As a journal looks that was written before shares were counted. */
static void write_journal_of_before(struct rig *rig)
{
        struct trigger_record record = {.kind = TRIGGER_RECORD_BEGUN,
                .time_ms = clock_wall_ms(),
                .id = STR("019ab1c2-0000-7000-8000-000000000001"),
                .correlation_id = STR("019ab1c2-0000-7000-8000-000000000002")};
        struct buf out;

        memset(record.key.key, 'k', TRIGGER_DIGEST);
        memset(record.key.request, 'b', TRIGGER_DIGEST);
        buf_init(&out, 4096);
        BUF_LITERAL(&out, TRIGGER_JOURNAL_HEAD_BEFORE);
        trigger_record_write(&out, &record); /* nobody's, so it says nothing of that */
        FILE *file = fopen(rig->path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(out.data, 1, out.len, file), out.len);
        fclose(file);
        buf_clear(&out);
}

static void a_journal_of_before_is_read_and_written_anew(void **state)
{
        struct rig *rig = *state;
        char head[sizeof(TRIGGER_JOURNAL_HEAD)] = "";

        ledger_close(rig->ledger);
        write_journal_of_before(rig);
        start(rig);
        FILE *file = fopen(rig->path, "r");
        assert_non_null(file);
        assert_non_null(fgets(head, sizeof(head), file));
        fclose(file);
        assert_string_equal(head, TRIGGER_JOURNAL_HEAD);
        expect(rig, 'k', "00000001", TRIGGER_LOOK);
        restart(rig);
        expect(rig, 'k', "00000002", TRIGGER_LOOK);
}

static void a_start_knows_what_was_known(void **state)
{
        struct rig *rig = *state;

        expect(rig, 'a', "00000001", TRIGGER_FIRST);
        tell(rig, 'a', "00000001", TRIGGER_ENDED);
        expect(rig, 'b', "00000001", TRIGGER_FIRST); /* in hand when the process ends */
        expect(rig, 'c', "00000001", TRIGGER_FIRST);
        tell(rig, 'c', "00000001", TRIGGER_NOT_STARTED);
        int64_t before = clock_wall_ms();
        restart(rig);
        expect(rig, 'a', "00000002", TRIGGER_REPLAY);
        struct trigger_ask *told = ask(rig, 'b', 'b', "00000002");
        assert_int_equal(told->verdict, TRIGGER_LOOK);
        /* Not when it began: it was under way until now. Told by another clock, each rounded down.
         */
        assert_true(told->lost_ms >= before - 1);
        free(told);
        expect(rig, 'c', "00000002", TRIGGER_FIRST);
}

static void one_file_is_one_process(void **state)
{
        struct rig *rig = *state;
        struct error err = {{0}};

        assert_null(ledger_open(rig->path, &err));
        assert_non_null(strstr(err.text, "another process"));
}

static void a_file_of_somebody_else_is_left_alone(void **state)
{
        struct rig *rig = *state;
        struct error err = {{0}};
        struct stat status;

        ledger_close(rig->ledger);
        rig->ledger = NULL;
        FILE *file = fopen(rig->path, "w");
        assert_true(fputs("precious, and no journal\n", file) >= 0);
        fclose(file);
        assert_null(ledger_open(rig->path, &err));
        assert_non_null(strstr(err.text, "no journal"));
        assert_int_equal(stat(rig->path, &status), 0);
        assert_int_equal(status.st_size, 25);
}

static void nothing_begins_that_is_not_on_disk(void **state)
{
        struct rig *rig = *state;
        struct rlimit before, none;
        struct stat status;

        /* The file may not grow: SIGXFSZ is not for the ledger's thread, so it is an error. What is
         * in doubt afterwards is written anew each time, which takes no more room. */
        expect(rig, 'a', "00000001", TRIGGER_FIRST);
        assert_int_equal(stat(rig->path, &status), 0);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        none = before;
        none.rlim_cur = (rlim_t)status.st_size;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
        expect(rig, 'b', "00000001", TRIGGER_BROKEN);
        expect(rig, 'b', "00000002", TRIGGER_BROKEN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        expect(rig, 'b', "00000003", TRIGGER_FIRST);
        restart(rig);
        expect(rig, 'a', "00000004", TRIGGER_LOOK);
        expect(rig, 'b', "00000004", TRIGGER_LOOK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(the_first_is_sent_and_the_second_gets_its_answer),
                TEST(the_second_waits_while_the_first_is_under_way),
                TEST(who_withdraws_stands_in_line_no_more),
                TEST(what_was_lost_is_looked_for_by_one),
                TEST(only_who_has_it_in_hand_may_tell),
                TEST(a_key_of_another_request_is_told_apart),
                TEST(no_more_are_kept_than_may_be),
                TEST(nobody_takes_the_room_of_all),
                TEST(shares_are_known_after_a_start),
                TEST(what_was_not_started_gives_its_room_back),
                TEST(a_journal_of_before_is_read_and_written_anew),
                TEST(a_start_knows_what_was_known),
                TEST(one_file_is_one_process),
                TEST(a_file_of_somebody_else_is_left_alone),
                TEST(nothing_begins_that_is_not_on_disk),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
