#include "dagward/trigger/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

struct tell_mail {
        struct mail mail;
        struct trigger_key key;
        char request_id[TRIGGER_ID + 1];
        enum trigger_end end;
        struct trigger_answer *answer; /* owned */
};

/* --- answers --- */

void ledger_answer(struct trigger_ask *ask, enum trigger_verdict verdict)
{
        ask->verdict = verdict;
        ask->mail.deliver = ask->answered;
        mailbox_post(ask->reply_to, &ask->mail);
}

static void tell_first(struct trigger_ask *ask, const struct trigger_entry *entry)
{
        memcpy(ask->first_id, entry->id, sizeof(ask->first_id));
        memcpy(ask->first_correlation_id, entry->correlation_id, sizeof(entry->correlation_id));
        ask->begun_ms = entry->begun_ms;
        ask->lost_ms = entry->lost_ms;
        ask->lost_steady_ms = entry->lost_steady_ms;
}

/* A line is a ring, of which the entry knows the last: whoever comes stands behind it, and the next
 * one behind that is the first. */
static void wait_in_line(struct trigger_entry *entry, struct trigger_ask *ask)
{
        struct mail *last = entry->waiters, *mail = &ask->mail;

        mail->next = last ? last->next : mail;
        if (last)
                last->next = mail;
        entry->waiters = mail;
}

/* Takes out whoever stands behind `before`. */
static struct trigger_ask *leave_line(struct trigger_entry *entry, struct mail *before)
{
        struct mail *mail = before->next;

        before->next = mail->next;
        if (mail == entry->waiters)
                entry->waiters = before == mail ? NULL : before;
        return (struct trigger_ask *)mail;
}

struct trigger_ask *ledger_next_in_line(struct trigger_entry *entry)
{
        return entry->waiters ? leave_line(entry, entry->waiters) : NULL;
}

/* --- the journal --- */

static bool record(struct ledger *ledger, const struct trigger_record *what, struct store_place *at)
{
        struct error err = {{0}};

        if (store_append(&ledger->store, what, at, &err))
                return true;
        log_error("triggers: %s: %s", ledger->store.path, err.text);
        return false;
}

static bool record_begun(struct ledger *ledger, const struct trigger_entry *entry)
{
        struct trigger_record begun = {.kind = TRIGGER_RECORD_BEGUN,
                .key = entry->key,
                .time_ms = entry->begun_ms,
                .id = str_of(entry->id),
                .correlation_id = str_of(entry->correlation_id)};

        return record(ledger, &begun, NULL);
}

/* A key that is said twice to be lost is lost; that this could not be written changes nothing. */
static void record_lost(struct ledger *ledger, const struct trigger_entry *entry)
{
        struct trigger_record lost = {
                .kind = TRIGGER_RECORD_LOST, .key = entry->key, .time_ms = entry->lost_ms};

        (void)record(ledger, &lost, NULL);
}

static void record_released(struct ledger *ledger, const struct trigger_entry *entry)
{
        struct trigger_record released = {
                .kind = TRIGGER_RECORD_RELEASED, .key = entry->key, .time_ms = clock_wall_ms()};

        (void)record(ledger, &released, NULL);
}

/* --- a question --- */

/* The asker has the key in hand as soon as that is on disk. */
static void take_in_hand(
        struct ledger *ledger, struct trigger_entry *entry, struct trigger_ask *ask)
{
        entry->state = TRIGGER_RUNNING;
        memcpy(entry->owner, ask->request_id, sizeof(entry->owner));
        tell_first(ask, entry);
        /* A record that could not be written is noticed when the file is made durable. */
        if (!record_begun(ledger, entry))
                ledger->store.failed = true;
        ask->mail.next = NULL;
        *ledger->last_begun = &ask->mail;
        ledger->last_begun = &ask->mail.next;
}

static void begin(struct ledger *ledger, struct trigger_ask *ask)
{
        struct trigger_entry *entry = trigger_table_add(ledger->table, &ask->key, clock_wall_ms());

        entry->begun_steady_ms = clock_steady_ms();
        memcpy(entry->id, ask->request_id, sizeof(entry->id));
        memcpy(entry->correlation_id, ask->correlation_id, sizeof(entry->correlation_id));
        take_in_hand(ledger, entry, ask);
}

static void replay(struct ledger *ledger, struct trigger_entry *entry, struct trigger_ask *ask)
{
        struct store_place at = {entry->answer_at, entry->answer_bytes};
        struct error err = {{0}};

        tell_first(ask, entry);
        ask->answer = store_answer(&ledger->store, &at, &err);
        if (!ask->answer)
                log_error("triggers: %s: %s", ledger->store.path, err.text);
        ledger_answer(ask, ask->answer ? TRIGGER_REPLAY : TRIGGER_BROKEN);
}

static void look(struct trigger_entry *entry, struct trigger_ask *ask)
{
        entry->state = TRIGGER_LOOKING;
        memcpy(entry->owner, ask->request_id, sizeof(entry->owner));
        tell_first(ask, entry);
        ledger_answer(ask, TRIGGER_LOOK);
}

/* Whoever has at least as many entries as are free gets no more. So one caller alone has half of
 * them at most, and of n that take what they can get each has one part of n + 1: however many do,
 * some room is left for the next. */
static void begin_if_room(struct ledger *ledger, struct trigger_ask *ask)
{
        size_t n = trigger_table_count(ledger->table);

        if (n >= ask->most)
                ledger_answer(ask, TRIGGER_FULL);
        else if (trigger_table_held(ledger->table, ask->key.caller) >= ask->most - n)
                ledger_answer(ask, TRIGGER_SHARE);
        else
                begin(ledger, ask);
}

static void claim(struct ledger *ledger, struct trigger_ask *ask)
{
        trigger_table_expire(ledger->table, clock_steady_ms() - ask->window_ms);
        struct trigger_entry *entry = trigger_table_find(ledger->table, ask->key.key);

        if (!entry) {
                begin_if_room(ledger, ask);
                return;
        }
        if (memcmp(entry->key.request, ask->key.request, TRIGGER_DIGEST) != 0) {
                tell_first(ask, entry);
                ledger_answer(ask, TRIGGER_OTHER);
                return;
        }
        switch (entry->state) {
        case TRIGGER_RUNNING:
        case TRIGGER_LOOKING: wait_in_line(entry, ask); return;
        case TRIGGER_ANSWERED: replay(ledger, entry, ask); return;
        case TRIGGER_LOST: look(entry, ask); return;
        }
}

static bool in_hand(const struct trigger_entry *entry, const char *request_id)
{
        return entry && (entry->state == TRIGGER_RUNNING || entry->state == TRIGGER_LOOKING) &&
               strcmp(entry->owner, request_id) == 0;
}

static void on_ask(struct mail *mail, void *receiver)
{
        struct ledger *ledger = receiver;
        struct trigger_ask *ask = (struct trigger_ask *)mail;

        /* Nobody else may have it by now. */
        bool away = ledger->released && (ledger->heir_fd >= 0 || !ledger_take_back(ledger));
        if (away) {
                ledger_pass_ask(ledger, ask);
                return;
        }
        if (!ask->renew) {
                claim(ledger, ask);
                return;
        }
        struct trigger_entry *entry = trigger_table_find(ledger->table, ask->key.key);
        if (in_hand(entry, ask->request_id))
                take_in_hand(ledger, entry, ask);
        else
                ledger_answer(ask, TRIGGER_BROKEN);
}

struct withdrawal {
        struct mail mail;
        unsigned char key[TRIGGER_DIGEST];
        char request_id[TRIGGER_ID + 1];
};

/* Who is in no line has its answer, or is about to have one. */
static void on_withdrawal(struct mail *mail, void *receiver)
{
        struct ledger *ledger = receiver;
        struct withdrawal *withdrawal = (struct withdrawal *)mail;
        struct trigger_entry *entry = trigger_table_find(ledger->table, withdrawal->key);
        struct mail *last = entry ? entry->waiters : NULL, *before = last;

        while (before) {
                struct trigger_ask *ask = (struct trigger_ask *)before->next;
                if (strcmp(ask->request_id, withdrawal->request_id) == 0) {
                        ledger_answer(leave_line(entry, before), TRIGGER_BROKEN);
                        break;
                }
                before = before->next == last ? NULL : before->next;
        }
        free(withdrawal);
}

/* --- what came of it --- */

static void tell_waiters(struct ledger *ledger, struct trigger_entry *entry)
{
        struct trigger_ask *ask;

        while (entry->state == TRIGGER_ANSWERED && (ask = ledger_next_in_line(entry)))
                replay(ledger, entry, ask);
        if (entry->state == TRIGGER_LOST && (ask = ledger_next_in_line(entry)))
                look(entry, ask);
}

static void keep_answer(
        struct ledger *ledger, struct trigger_entry *entry, const struct trigger_answer *answer)
{
        struct trigger_record answered = {.kind = TRIGGER_RECORD_ANSWERED,
                .key = entry->key,
                .time_ms = clock_wall_ms(),
                .answer = *answer};
        struct store_place at;

        if (!record(ledger, &answered, &at)) {
                entry->state = TRIGGER_LOST; /* it can be looked up */
                entry->lost_ms = answered.time_ms;
                entry->lost_steady_ms = clock_steady_ms();
                return;
        }
        entry->state = TRIGGER_ANSWERED;
        entry->answer_at = at.offset;
        entry->answer_bytes = at.bytes;
}

/* Nothing was started: whoever waits next is the first now. */
static void release(struct ledger *ledger, struct trigger_entry *entry)
{
        struct trigger_ask *first = ledger_next_in_line(entry);
        void *others = entry->waiters;

        record_released(ledger, entry);
        trigger_table_remove(ledger->table, entry);
        if (!first)
                return;
        begin(ledger, first);
        entry = trigger_table_find(ledger->table, first->key.key);
        entry->waiters = others;
}

static void on_tell(struct mail *mail, void *receiver)
{
        struct ledger *ledger = receiver;
        struct tell_mail *tell = (struct tell_mail *)mail;
        bool passed = ledger->released && ledger_pass_tell(ledger, &tell->key, tell->request_id,
                                                  tell->end, tell->answer);
        struct trigger_entry *entry = trigger_table_find(ledger->table, tell->key.key);

        if (!passed && in_hand(entry, tell->request_id)) {
                switch (tell->end) {
                case TRIGGER_ENDED:
                        keep_answer(ledger, entry, tell->answer);
                        tell_waiters(ledger, entry);
                        break;
                case TRIGGER_ENDED_LOST:
                        /* Who only looked has sent nothing: it is lost since it was. */
                        if (entry->state == TRIGGER_RUNNING) {
                                entry->lost_ms = clock_wall_ms();
                                entry->lost_steady_ms = clock_steady_ms();
                        }
                        entry->state = TRIGGER_LOST;
                        record_lost(ledger, entry);
                        tell_waiters(ledger, entry);
                        break;
                case TRIGGER_NOT_STARTED: release(ledger, entry); break;
                }
        }
        free(tell->answer);
        free(tell);
}

/* --- the thread --- */

/* What was to begin does not: nobody may send what is not on disk. */
static void take_back(struct ledger *ledger, struct trigger_ask *ask)
{
        struct trigger_entry *entry = trigger_table_find(ledger->table, ask->key.key);
        struct trigger_ask *waiter;

        ledger_answer(ask, TRIGGER_BROKEN);
        if (!entry)
                return;
        while ((waiter = ledger_next_in_line(entry)))
                ledger_answer(waiter, TRIGGER_BROKEN);
        if (entry->lost_ms) /* it was sent before, and is still to be found out about */
                entry->state = TRIGGER_LOST;
        else
                trigger_table_remove(ledger->table, entry);
}

static void commit(struct ledger *ledger)
{
        struct mail *mail = ledger->begun;
        struct error err = {{0}};

        if (!mail)
                return;
        ledger->begun = NULL;
        ledger->last_begun = &ledger->begun;
        bool ok = store_sync(&ledger->store, &err);
        if (!ok)
                log_error("triggers: %s: %s", ledger->store.path, err.text);
        while (mail) {
                struct trigger_ask *ask = (struct trigger_ask *)mail;
                mail = mail->next;
                if (ok)
                        ledger_answer(ask, TRIGGER_FIRST);
                else
                        take_back(ledger, ask);
        }
}

static void tidy(struct ledger *ledger)
{
        struct error err = {{0}};

        if (!store_wants_tidying(&ledger->store, ledger->table))
                return;
        if (!store_tidy(&ledger->store, ledger->table, &err))
                log_error("triggers: %s cannot be written anew: %s", ledger->store.path, err.text);
}

static void *run(void *argument)
{
        struct ledger *ledger = argument;

        while (!ledger->stop) {
                struct pollfd fds[] = {{.fd = mailbox_fd(ledger->box), .events = POLLIN},
                        {.fd = ledger->heir_fd,
                                .events = (short)(POLLIN | (ledger->unsent ? POLLOUT : 0))}};
                poll(fds, 2, ledger_heir_wait_ms(ledger));
                mailbox_drain(ledger->box);
                if (ledger->released) {
                        ledger_heed_heir(ledger, fds[1].revents);
                        continue;
                }
                commit(ledger);
                if (ledger->heir_fd >= 0)
                        ledger_release(ledger);
                else
                        tidy(ledger);
        }
        return NULL;
}

struct heir_mail {
        struct mail mail;
        int fd;
        int64_t limit_ms;
};

static void on_heir(struct mail *mail, void *receiver)
{
        struct ledger *ledger = receiver;

        ledger->heir_fd = ((struct heir_mail *)mail)->fd;
        ledger->heir_ms = ((struct heir_mail *)mail)->limit_ms;
        free(mail);
}

struct held_mail {
        struct mail mail;
        struct trigger_key key;
        char owner[TRIGGER_ID + 1];
        bool looking;
        int64_t lost_ms;
};

void ledger_take_held(struct ledger *ledger, const struct trigger_key *key, const char *owner,
        bool looking, int64_t lost_ms)
{
        struct trigger_entry *entry = trigger_table_find(ledger->table, key->key);

        if (!entry) /* it has begun, so it is in the journal; else it was let go since */
                return;
        entry->state = looking ? TRIGGER_LOOKING : TRIGGER_RUNNING;
        entry->lost_ms = lost_ms;
        memcpy(entry->owner, owner, sizeof(entry->owner));
}

static void on_held(struct mail *mail, void *receiver)
{
        struct held_mail *held = (struct held_mail *)mail;

        ledger_take_held(receiver, &held->key, held->owner, held->looking, held->lost_ms);
        free(held);
}

static void on_stop(struct mail *mail, void *receiver)
{
        struct ledger *ledger = receiver;

        ledger->stop = true;
        free(mail);
}

/* --- from outside --- */

void ledger_ask(struct ledger *ledger, struct trigger_ask *ask)
{
        ask->mail.deliver = on_ask;
        mailbox_post(ledger->box, &ask->mail);
}

void ledger_withdraw(struct ledger *ledger, const struct trigger_key *key, const char *request_id)
{
        struct withdrawal *withdrawal = calloc(1, sizeof(*withdrawal));

        if (!withdrawal)
                abort();
        withdrawal->mail.deliver = on_withdrawal;
        memcpy(withdrawal->key, key->key, sizeof(withdrawal->key));
        snprintf(withdrawal->request_id, sizeof(withdrawal->request_id), "%s", request_id);
        mailbox_post(ledger->box, &withdrawal->mail);
}

void ledger_hand_over(struct ledger *ledger, int fd, int64_t limit_ms)
{
        struct heir_mail *heir = calloc(1, sizeof(*heir));

        if (!heir)
                abort();
        *heir = (struct heir_mail){.mail.deliver = on_heir, .fd = fd, .limit_ms = limit_ms};
        mailbox_post(ledger->box, &heir->mail);
}

void ledger_hold(struct ledger *ledger, const struct trigger_key *key, const char *request_id,
        bool looking, int64_t lost_ms)
{
        struct held_mail *held = calloc(1, sizeof(*held));

        if (!held)
                abort();
        *held = (struct held_mail){
                .mail.deliver = on_held, .key = *key, .looking = looking, .lost_ms = lost_ms};
        snprintf(held->owner, sizeof(held->owner), "%s", request_id);
        mailbox_post(ledger->box, &held->mail);
}

void ledger_tell(struct ledger *ledger, const struct trigger_key *key, const char *request_id,
        enum trigger_end end, const struct trigger_answer *answer)
{
        struct tell_mail *tell = calloc(1, sizeof(*tell));

        if (!tell)
                abort();
        *tell = (struct tell_mail){.mail.deliver = on_tell, .key = *key, .end = end};
        snprintf(tell->request_id, sizeof(tell->request_id), "%s", request_id);
        if (answer)
                tell->answer = trigger_answer_keep(answer);
        mailbox_post(ledger->box, &tell->mail);
}

struct ledger *ledger_open(const char *path, struct error *err)
{
        struct ledger *ledger = calloc(1, sizeof(*ledger));
        sigset_t all, before;

        if (!ledger)
                abort();
        ledger->table = trigger_table_new();
        ledger->heir_fd = -1;
        ledger->last_begun = &ledger->begun;
        ledger->last_unsent = &ledger->unsent;
        if (!store_open(&ledger->store, path, ledger->table, err)) {
                trigger_table_free(ledger->table);
                free(ledger);
                return NULL;
        }
        ledger->box = mailbox_new(ledger);
        /* Signals are the main thread's. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        bool ok = pthread_create(&ledger->thread, NULL, run, ledger) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (ok)
                return ledger;
        error_set(err, "the thread of the triggers cannot be started");
        mailbox_free(ledger->box);
        store_close(&ledger->store);
        trigger_table_free(ledger->table);
        free(ledger);
        return NULL;
}

void ledger_close(struct ledger *ledger)
{
        struct mail *mail;
        struct trigger_ask *waiter;

        if (!ledger)
                return;
        mail = calloc(1, sizeof(*mail));
        if (!mail)
                abort();
        mail->deliver = on_stop;
        mailbox_post(ledger->box, mail);
        pthread_join(ledger->thread, NULL);
        mailbox_drain(ledger->box); /* what came in the very last turn */
        for (mail = ledger->begun; mail;) {
                waiter = (struct trigger_ask *)mail;
                mail = mail->next;
                ledger_answer(waiter, TRIGGER_BROKEN);
        }
        for (struct trigger_entry *entry = trigger_table_oldest(ledger->table); entry;
                entry = entry->newer)
                while ((waiter = ledger_next_in_line(entry)))
                        ledger_answer(waiter, TRIGGER_BROKEN);
        ledger_passing_end(ledger);
        mailbox_free(ledger->box);
        store_close(&ledger->store);
        trigger_table_free(ledger->table);
        free(ledger);
}
