/* Mailboxes and snapshots between threads: nothing lost, order kept, dropped once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>

#include "dagward/base/mailbox.h"
#include "dagward/base/snapshot.h"

enum { SENDERS = 4, LETTERS = 20000 };

struct letter {
        struct mail mail;
        int sender, number;
};

struct receiver {
        struct mailbox *box;
        int next[SENDERS];
        int received, out_of_order;
};

static void deliver(struct mail *mail, void *arg)
{
        struct letter *letter = (struct letter *)mail;
        struct receiver *receiver = arg;

        receiver->received++;
        if (letter->number != receiver->next[letter->sender]++)
                receiver->out_of_order++;
        free(letter);
}

struct sender {
        struct mailbox *box;
        int number;
};

static void *send_letters(void *arg)
{
        struct sender *sender = arg;

        for (int i = 0; i < LETTERS; i++) {
                struct letter *letter = calloc(1, sizeof(*letter));
                letter->mail.deliver = deliver;
                letter->sender = sender->number;
                letter->number = i;
                mailbox_post(sender->box, &letter->mail);
        }
        return NULL;
}

static void letters_of_each_sender_arrive_once_and_in_order(void **state)
{
        struct receiver receiver = {0};
        struct sender senders[SENDERS];
        pthread_t threads[SENDERS];

        (void)state;
        receiver.box = mailbox_new(&receiver);
        for (int i = 0; i < SENDERS; i++) {
                senders[i] = (struct sender){receiver.box, i};
                pthread_create(&threads[i], NULL, send_letters, &senders[i]);
        }
        struct pollfd fd = {.fd = mailbox_fd(receiver.box), .events = POLLIN};
        while (receiver.received < SENDERS * LETTERS) {
                /* A letter that nobody announced would leave us waiting. */
                assert_int_equal(poll(&fd, 1, 10000), 1);
                mailbox_drain(receiver.box);
        }
        for (int i = 0; i < SENDERS; i++)
                pthread_join(threads[i], NULL);
        assert_false(mailbox_drain(receiver.box));
        assert_int_equal(receiver.out_of_order, 0);
        mailbox_free(receiver.box);
}

struct thing {
        struct snapshot snap;
        int *drops;
        int value;
};

static void drop(struct snapshot *snap)
{
        struct thing *thing = (struct thing *)snap;

        (*thing->drops)++;
        free(thing);
}

static void *hold_and_let_go(void *arg)
{
        struct thing *thing = arg;

        for (int i = 0; i < 100000; i++) {
                snapshot_ref(&thing->snap);
                if (thing->value != 42)
                        abort();
                snapshot_unref(&thing->snap);
        }
        snapshot_unref(&thing->snap);
        return NULL;
}

static void the_last_to_let_go_drops_once(void **state)
{
        struct thing *thing = calloc(1, sizeof(*thing));
        pthread_t threads[SENDERS];
        int drops = 0;

        (void)state;
        snapshot_init(&thing->snap, drop);
        thing->drops = &drops;
        thing->value = 42;
        for (int i = 0; i < SENDERS; i++) {
                snapshot_ref(&thing->snap);
                pthread_create(&threads[i], NULL, hold_and_let_go, thing);
        }
        snapshot_unref(&thing->snap);
        for (int i = 0; i < SENDERS; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(drops, 1);
        snapshot_unref(NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(letters_of_each_sender_arrive_once_and_in_order),
                cmocka_unit_test(the_last_to_let_go_drops_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
