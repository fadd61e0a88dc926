/*
 * passing: what the ledger does once another process has the journal: it hands on what it is asked
 * and told. When the other one is gone, the journal is taken back; what it was told and did not
 * write is lost then, which makes it something to be looked up, never something to be sent again.
 *
 * The thread waits for nobody: what the other one's socket has no room for is kept in order.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

enum { PATIENCE_MS = 2000, MOMENT_MS = 20, LOOK_MS = 1000 };

struct unsent {
        struct unsent *next;
        struct passed_trigger what;
        struct trigger_answer *answer; /* owned */
};

/* --- sending --- */

static void keep_unsent(struct ledger *ledger, const struct passed_trigger *what,
        const struct trigger_answer *answer)
{
        struct unsent *unsent = calloc(1, sizeof(*unsent));

        if (!unsent)
                abort();
        unsent->what = *what;
        unsent->answer = answer ? trigger_answer_keep(answer) : NULL;
        *ledger->last_unsent = unsent;
        ledger->last_unsent = &unsent->next;
}

static void drop_first_unsent(struct ledger *ledger)
{
        struct unsent *unsent = ledger->unsent;

        ledger->unsent = unsent->next;
        if (!ledger->unsent)
                ledger->last_unsent = &ledger->unsent;
        free(unsent->answer);
        free(unsent);
}

/* False: the other one is gone. */
static bool say(
        struct ledger *ledger, struct passed_trigger *what, const struct trigger_answer *answer)
{
        bool full = ledger->unsent != NULL;

        if (!full && passed_offer(ledger->heir_fd, what, answer, &full))
                return true;
        if (full)
                keep_unsent(ledger, what, answer);
        return full;
}

static bool say_unsent(struct ledger *ledger)
{
        bool full = false;

        while (ledger->unsent &&
                passed_offer(ledger->heir_fd, &ledger->unsent->what, ledger->unsent->answer, &full))
                drop_first_unsent(ledger);
        return !ledger->unsent || full;
}

/* --- release --- */

static bool say_held(struct ledger *ledger, const struct trigger_entry *entry)
{
        struct passed_trigger held = {.kind = PASSED_HELD,
                .flag = entry->state == TRIGGER_LOOKING,
                .key = entry->key,
                .lost_ms = entry->lost_ms};

        memcpy(held.request_id, entry->owner, sizeof(held.request_id));
        return say(ledger, &held, NULL);
}

/* Who waits in line for one of ours waits in the other's line from now on. */
static void pass_waiters(struct ledger *ledger)
{
        struct mail *all = NULL;
        struct trigger_ask *waiter;

        for (struct trigger_entry *entry = trigger_table_oldest(ledger->table); entry;
                entry = entry->newer)
                while ((waiter = ledger_next_in_line(entry))) {
                        waiter->mail.next = all;
                        all = &waiter->mail;
                }
        /* The table may be another one when one could not be passed. */
        while (all) {
                waiter = (struct trigger_ask *)all;
                all = all->next;
                ledger_pass_ask(ledger, waiter);
        }
}

void ledger_release(struct ledger *ledger)
{
        struct passed_trigger released = {.kind = PASSED_RELEASED};
        bool ok = true;

        for (struct trigger_entry *entry = trigger_table_oldest(ledger->table); ok && entry;
                entry = entry->newer)
                if (entry->state == TRIGGER_RUNNING || entry->state == TRIGGER_LOOKING)
                        ok = say_held(ledger, entry);
        ledger->path = str_dup(str_of(ledger->store.path));
        store_close(&ledger->store);
        ledger->released = true;
        ledger->patience_ms = PATIENCE_MS;
        ledger->heard_ms = clock_mono_ms();
        if (!ok || !say(ledger, &released, NULL))
                log_error("triggers: the new process cannot be told what is under way");
        pass_waiters(ledger);
}

/* --- while it is away --- */

static void answer_broken(struct ledger *ledger)
{
        struct mail *mail;

        while ((mail = ledger->passed)) {
                ledger->passed = mail->next;
                ledger_answer((struct trigger_ask *)mail, TRIGGER_BROKEN);
        }
}

/* A fresh table of what the journal says by now; what is in hand here stays so. */
static bool take_back(struct ledger *ledger, bool silent)
{
        struct trigger_table *old = ledger->table, *fresh = trigger_table_new();
        const struct timespec moment = {.tv_nsec = MOMENT_MS * 1000000};
        struct error err = {{0}};
        bool ok;

        /* A process that ends lets go of its files one after the other. */
        while (!(ok = store_open(&ledger->store, ledger->path, fresh, &err)) && !silent &&
                (ledger->patience_ms -= MOMENT_MS) > 0)
                nanosleep(&moment, NULL);
        if (!ok) {
                if (!silent)
                        log_error("%s", err.text);
                trigger_table_free(fresh);
                return false;
        }
        ledger->table = fresh;
        for (struct trigger_entry *entry = trigger_table_oldest(old); entry; entry = entry->newer)
                if (entry->state == TRIGGER_RUNNING || entry->state == TRIGGER_LOOKING)
                        ledger_take_held(ledger, &entry->key, entry->owner,
                                entry->state == TRIGGER_LOOKING, entry->lost_ms);
        trigger_table_free(old);
        free(ledger->path);
        ledger->path = NULL;
        ledger->released = false;
        log_info("triggers: %s is written by this process again", ledger->store.path);
        return true;
}

bool ledger_take_back(struct ledger *ledger)
{
        return take_back(ledger, false);
}

static void leave_heir(struct ledger *ledger)
{
        close(ledger->heir_fd);
        ledger->heir_fd = -1;
        while (ledger->unsent)
                drop_first_unsent(ledger);
        answer_broken(ledger);
}

static void heir_is_gone(struct ledger *ledger)
{
        leave_heir(ledger);
        if (!ledger_take_back(ledger))
                log_error("triggers: they cannot be told apart until the journal is free");
}

void ledger_pass_ask(struct ledger *ledger, struct trigger_ask *ask)
{
        struct passed_trigger what = {.kind = PASSED_ASK,
                .flag = ask->renew,
                .number = (uint64_t)(uintptr_t)ask,
                .key = ask->key,
                .window_ms = ask->window_ms,
                .most = ask->most};

        memcpy(what.request_id, ask->request_id, sizeof(what.request_id));
        memcpy(what.correlation_id, ask->correlation_id, sizeof(what.correlation_id));
        if (!ledger->passed)
                ledger->heard_ms = clock_mono_ms();
        ask->mail.next = ledger->passed;
        ledger->passed = &ask->mail;
        if (ledger->heir_fd < 0)
                answer_broken(ledger);
        else if (!say(ledger, &what, NULL))
                heir_is_gone(ledger);
}

/* In the table here the key is in nobody's hand any more. */
static void let_go(struct ledger *ledger, const struct trigger_key *key, const char *request_id)
{
        struct trigger_entry *entry = trigger_table_find(ledger->table, key->key);

        if (entry && strcmp(entry->owner, request_id) == 0)
                entry->state = TRIGGER_LOST;
}

bool ledger_pass_tell(struct ledger *ledger, const struct trigger_key *key, const char *request_id,
        enum trigger_end end, const struct trigger_answer *answer)
{
        struct passed_trigger what = {.kind = PASSED_TELL, .result = (int8_t)end, .key = *key};

        memcpy(what.request_id, request_id, sizeof(what.request_id));
        if (ledger->heir_fd >= 0 && !say(ledger, &what, answer)) {
                heir_is_gone(ledger);
                if (!ledger->released)
                        return false;
        }
        let_go(ledger, key, request_id);
        return true;
}

/* The question with that number; it is taken out of the list. */
static struct trigger_ask *find_passed(struct ledger *ledger, uint64_t number)
{
        for (struct mail **link = &ledger->passed; *link; link = &(*link)->next) {
                struct mail *mail = *link;
                if ((uint64_t)(uintptr_t)mail == number) {
                        *link = mail->next;
                        return (struct trigger_ask *)mail;
                }
        }
        return NULL;
}

/* Should the journal be taken back, this key is in hand. */
static void remember(struct ledger *ledger, const struct passed_trigger *what)
{
        struct trigger_entry *entry = trigger_table_find(ledger->table, what->key.key);

        if (!entry)
                entry = trigger_table_add(ledger->table, &what->key, what->begun_ms);
        entry->state = what->result == TRIGGER_LOOK ? TRIGGER_LOOKING : TRIGGER_RUNNING;
        entry->lost_ms = what->lost_ms;
        memcpy(entry->owner, what->request_id, sizeof(entry->owner));
}

static void hear(struct ledger *ledger)
{
        struct passed_trigger what;
        struct trigger_answer *answer;

        if (!passed_receive(ledger->heir_fd, &what, &answer)) {
                heir_is_gone(ledger);
                return;
        }
        ledger->heard_ms = clock_mono_ms();
        struct trigger_ask *ask = find_passed(ledger, what.number);
        if (!ask || what.kind != PASSED_VERDICT) {
                free(answer);
                return;
        }
        memcpy(ask->first_id, what.first_id, sizeof(ask->first_id));
        memcpy(ask->first_correlation_id, what.first_correlation_id,
                sizeof(ask->first_correlation_id));
        ask->begun_ms = what.begun_ms;
        ask->lost_ms = what.lost_ms;
        ask->lost_steady_ms = clock_steady_ms() - what.lost_age_ms;
        ask->answer = answer;
        if (what.result == TRIGGER_FIRST || what.result == TRIGGER_LOOK)
                remember(ledger, &what);
        ledger_answer(ask, (enum trigger_verdict)what.result);
}

int ledger_heir_wait_ms(const struct ledger *ledger)
{
        return ledger->released && ledger->heir_fd >= 0 && ledger->passed ? LOOK_MS : -1;
}

/* Questions may wait long, behind a run that another request has in hand; so silence alone says
 * nothing. Who has not opened the journal in all that time will find that it is ours. */
static void doubt_heir(struct ledger *ledger)
{
        if (ledger->passed && clock_mono_ms() - ledger->heard_ms > ledger->heir_ms &&
                take_back(ledger, true))
                leave_heir(ledger);
}

void ledger_heed_heir(struct ledger *ledger, short events)
{
        if (ledger->heir_fd >= 0 && (events & POLLOUT) && !say_unsent(ledger))
                heir_is_gone(ledger);
        if (ledger->heir_fd >= 0 && (events & ~POLLOUT))
                hear(ledger);
        if (ledger->heir_fd >= 0)
                doubt_heir(ledger);
}

void ledger_passing_end(struct ledger *ledger)
{
        answer_broken(ledger);
        if (ledger->heir_fd >= 0)
                leave_heir(ledger);
        free(ledger->path);
}
