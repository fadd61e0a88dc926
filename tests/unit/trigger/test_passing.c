/* One journal, two ledgers: what is in hand stays in hand, what is asked is asked of the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/trigger/passed.h"

struct rig {
        char folder[64], path[96];
        struct mailbox *box;
        struct ledger *ledger;
        struct trigger_ask *last; /* answered last */
        int64_t limit_ms;
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
        rig->limit_ms = 20000;
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

        *ask = (struct trigger_ask){
                .window_ms = 3600000, .most = 3, .reply_to = rig->box, .answered = on_answer};
        memset(ask->key.key, key, TRIGGER_DIGEST);
        memset(ask->key.request, body, TRIGGER_DIGEST);
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

/* Lets go of the journal; the other end, before anything is read from it. */
static int hand_over(struct rig *rig)
{
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        ledger_hand_over(rig->ledger, ends[0], rig->limit_ms);
        return ends[1];
}

static struct passed_trigger hear(int fd, enum passed_kind kind, struct trigger_answer **answer)
{
        struct passed_trigger what;

        assert_true(passed_receive(fd, &what, answer));
        assert_int_equal(what.kind, kind);
        return what;
}

static void hear_released(int fd)
{
        struct trigger_answer *answer;

        hear(fd, PASSED_RELEASED, &answer);
        assert_null(answer);
}

static void say(int fd, struct passed_trigger *asked, enum trigger_verdict verdict,
        const struct trigger_answer *answer)
{
        struct passed_trigger what = *asked;

        what.kind = PASSED_VERDICT;
        what.result = (int8_t)verdict;
        what.begun_ms = 17;
        what.lost_age_ms = 5000;
        snprintf(what.first_id, sizeof(what.first_id), "%s", "of the other");
        assert_true(passed_send(fd, &what, answer));
}

static void what_is_in_hand_is_said_and_the_journal_is_free(void **state)
{
        struct rig *rig = *state;
        struct trigger_answer *answer;
        struct error err;

        expect(rig, 'a', "00000001", TRIGGER_FIRST); /* under way */
        expect(rig, 'b', "00000002", TRIGGER_FIRST);
        tell(rig, 'b', "00000002", TRIGGER_ENDED);
        expect(rig, 'c', "00000003", TRIGGER_FIRST);
        tell(rig, 'c', "00000003", TRIGGER_ENDED_LOST);
        expect(rig, 'c', "00000004", TRIGGER_LOOK); /* looked for */
        int fd = hand_over(rig);
        struct passed_trigger held = hear(fd, PASSED_HELD, &answer);
        assert_int_equal(held.key.key[0], 'a');
        assert_false(held.flag);
        assert_string_equal(held.request_id, "00000001-0000-7000-8000-000000000000");
        struct passed_trigger looked = hear(fd, PASSED_HELD, &answer);
        assert_int_equal(looked.key.key[0], 'c');
        assert_true(looked.flag && looked.lost_ms > 0);
        assert_string_equal(looked.request_id, "00000004-0000-7000-8000-000000000000");
        hear_released(fd);

        /* The other one opens it, and holds what it was told. */
        struct ledger *old = rig->ledger;
        rig->ledger = ledger_open(rig->path, &err);
        assert_non_null(rig->ledger);
        ledger_hold(rig->ledger, &held.key, held.request_id, false, 0);
        ledger_hold(rig->ledger, &looked.key, looked.request_id, true, looked.lost_ms);
        ledger_ask(rig->ledger, ask_of(rig, 'a', 'b', "00000005"));
        assert_false(is_answered(rig, 100)); /* it waits, and does not look */
        expect(rig, 'b', "00000006", TRIGGER_REPLAY);
        ledger_tell(rig->ledger, &held.key, held.request_id, TRIGGER_NOT_STARTED, NULL);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_FIRST);
        free(rig->last);
        ledger_tell(rig->ledger, &looked.key, looked.request_id, TRIGGER_ENDED_LOST, NULL);
        expect(rig, 'c', "00000007", TRIGGER_LOOK);
        close(fd);
        ledger_close(old);
}

static void questions_and_ends_are_passed_on(void **state)
{
        const struct trigger_answer first = {
                .status = 201, .whole = true, .run_id = STR("9"), .body = STR("{}")};
        struct rig *rig = *state;
        struct trigger_answer *answer;

        expect(rig, 'a', "00000001", TRIGGER_FIRST);
        ledger_ask(rig->ledger, ask_of(rig, 'a', 'b', "00000002")); /* waits in line here */
        int fd = hand_over(rig);
        hear(fd, PASSED_HELD, &answer);
        hear_released(fd);
        struct passed_trigger waits = hear(fd, PASSED_ASK, &answer); /* and there, from now on */
        assert_string_equal(waits.request_id, "00000002-0000-7000-8000-000000000000");
        ledger_ask(rig->ledger, ask_of(rig, 'n', 'b', "00000003"));
        struct passed_trigger fresh = hear(fd, PASSED_ASK, &answer);
        assert_int_equal(fresh.window_ms, 3600000);
        assert_int_equal(fresh.most, 3);
        assert_false(fresh.flag);
        say(fd, &fresh, TRIGGER_FIRST, NULL); /* in another order */
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_FIRST);
        assert_string_equal(rig->last->request_id, "00000003-0000-7000-8000-000000000000");
        assert_string_equal(rig->last->first_id, "of the other");
        assert_int_equal(rig->last->begun_ms, 17);
        free(rig->last);
        ledger_ask(rig->ledger, ask_of(rig, 'l', 'b', "00000004"));
        struct passed_trigger lost = hear(fd, PASSED_ASK, &answer);
        int64_t before_ms = clock_steady_ms();
        say(fd, &lost, TRIGGER_LOOK, NULL);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_LOOK);
        assert_true(rig->last->lost_steady_ms >= before_ms - 5000);
        assert_true(rig->last->lost_steady_ms <= clock_steady_ms() - 5000);
        free(rig->last);
        say(fd, &waits, TRIGGER_REPLAY, &first);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->answer->status, 201);
        assert_true(str_eq(rig->last->answer->run_id, STR("9")));
        free(rig->last->answer);
        free(rig->last);
        tell(rig, 'n', "00000003", TRIGGER_ENDED);
        struct passed_trigger told = hear(fd, PASSED_TELL, &answer);
        assert_int_equal(told.result, TRIGGER_ENDED);
        assert_string_equal(told.request_id, "00000003-0000-7000-8000-000000000000");
        assert_true(str_eq(answer->body, STR("{\"id\":7}")));
        free(answer);
        close(fd);
}

static void a_journal_whose_taker_is_gone_is_taken_back(void **state)
{
        struct rig *rig = *state;
        struct trigger_answer *answer;

        expect(rig, 'a', "00000001", TRIGGER_FIRST);
        expect(rig, 'b', "00000002", TRIGGER_FIRST);
        int fd = hand_over(rig);
        hear(fd, PASSED_HELD, &answer);
        hear(fd, PASSED_HELD, &answer);
        hear_released(fd);
        tell(rig, 'b', "00000002", TRIGGER_ENDED); /* which nobody has written */
        hear(fd, PASSED_TELL, &answer);
        free(answer);
        ledger_ask(rig->ledger, ask_of(rig, 'n', 'b', "00000003"));
        hear(fd, PASSED_ASK, &answer);
        close(fd);
        assert_true(is_answered(rig, 10000)); /* it may have begun there: nobody knows */
        assert_int_equal(rig->last->verdict, TRIGGER_BROKEN);
        free(rig->last);
        expect(rig, 'b', "00000004", TRIGGER_LOOK); /* and is not sent again */
        ledger_ask(rig->ledger, ask_of(rig, 'a', 'b', "00000005"));
        assert_false(is_answered(rig, 100)); /* still in our hand */
        tell(rig, 'a', "00000001", TRIGGER_ENDED);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_REPLAY);
        free(rig->last->answer);
        free(rig->last);
}

static void without_the_journal_nothing_is_first(void **state)
{
        struct rig *rig = *state;
        struct error err;
        int fd = hand_over(rig);

        hear_released(fd);
        struct ledger *third = ledger_open(rig->path, &err);
        assert_non_null(third);
        close(fd);
        expect(rig, 'n', "00000001", TRIGGER_BROKEN);
        ledger_close(third);
        expect(rig, 'n', "00000002", TRIGGER_FIRST);
}

/* Far more than a socket holds. */
enum { MANY = 2000 };

static void who_does_not_read_holds_nobody_up_and_hears_all_in_the_end(void **state)
{
        struct rig *rig = *state;
        struct trigger_answer *answer;
        struct error err;
        unsigned tells = 0, asks = 0;

        rig->limit_ms = 100;
        int fd = hand_over(rig);
        hear_released(fd);
        struct ledger *other = ledger_open(rig->path, &err); /* it has the lock, and is silent */
        assert_non_null(other);
        for (unsigned i = 0; i < MANY; i++)
                tell(rig, 'x', "00000001", TRIGGER_ENDED);
        ledger_ask(rig->ledger, ask_of(rig, 'n', 'b', "00000002"));
        assert_false(is_answered(rig, 1500));
        while (!asks) {
                struct passed_trigger what;
                assert_true(passed_receive(fd, &what, &answer));
                free(answer);
                tells += what.kind == PASSED_TELL;
                if (what.kind != PASSED_ASK)
                        continue;
                asks++;
                say(fd, &what, TRIGGER_FIRST, NULL);
        }
        assert_int_equal(tells, MANY);
        assert_true(is_answered(rig, 10000));
        assert_int_equal(rig->last->verdict, TRIGGER_FIRST);
        free(rig->last);
        close(fd);
        ledger_close(other);
}

static void who_is_silent_and_never_had_the_journal_does_not_get_it(void **state)
{
        struct rig *rig = *state;
        struct error err;

        rig->limit_ms = 100;
        int fd = hand_over(rig);
        hear_released(fd);
        expect(rig, 'n', "00000001", TRIGGER_BROKEN); /* it was asked already */
        expect(rig, 'n', "00000002", TRIGGER_FIRST);
        assert_null(ledger_open(rig->path, &err));
        close(fd);
}

static void what_is_no_message_ends_it(void **state)
{
        struct passed_trigger what = {.kind = PASSED_ASK, .has_answer = 1};
        struct trigger_answer *answer;
        int ends[2];

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        assert_int_equal(send(ends[0], &what, sizeof(what) - 1, 0), sizeof(what) - 1);
        assert_false(passed_receive(ends[1], &what, &answer));
        assert_int_equal(send(ends[0], &what, sizeof(what), 0), sizeof(what)); /* no answer in it */
        assert_false(passed_receive(ends[1], &what, &answer));
        memset(what.request_id, 'x', sizeof(what.request_id));
        what.has_answer = 0;
        assert_int_equal(send(ends[0], &what, sizeof(what), 0), sizeof(what));
        assert_false(passed_receive(ends[1], &what, &answer));
        assert_null(answer);
        close(ends[0]);
        assert_false(passed_receive(ends[1], &what, &answer));
        close(ends[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(what_is_in_hand_is_said_and_the_journal_is_free),
                TEST(questions_and_ends_are_passed_on),
                TEST(a_journal_whose_taker_is_gone_is_taken_back),
                TEST(without_the_journal_nothing_is_first),
                TEST(who_does_not_read_holds_nobody_up_and_hears_all_in_the_end),
                TEST(who_is_silent_and_never_had_the_journal_does_not_get_it),
                TEST(what_is_no_message_ends_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
