#include "dagward/audit/scribe.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

enum {
        EVENTS_BYTES = 64 * 1024,
        RETRY_MS = 1000,
        /* How long records that nobody waits for are gathered: a wake-up for each would cost more
         * than writing them. Whatever somebody waits for cuts it short. */
        GATHER_MS = 2,
        /* Under load, who comes within this time after an fdatasync shares the next one, unless
         * enough are waiting; after a pause nobody is delayed. */
        SYNC_DISTANCE_US = 4000,
};

/* --- batches --- */

void audit_batch_init(struct audit_batch *batch, struct mailbox *reply_to,
        void (*done)(struct audit_batch *batch, void *receiver), void *owner)
{
        *batch = (struct audit_batch){.reply_to = reply_to, .done = done, .owner = owner};
        buf_init(&batch->records, AUDIT_BATCH_BYTES);
}

bool audit_batch_add(struct audit_batch *batch, const struct audit_fields *fields, bool durable)
{
        /* One byte kept for the newline. */
        if (batch->records.len + AUDIT_RECORD_MOST + 1 > AUDIT_BATCH_BYTES ||
                !audit_record_write(&batch->records, fields))
                return false;
        buf_char(&batch->records, '\n');
        batch->n++;
        batch->durable |= durable;
        return true;
}

void audit_batch_reset(struct audit_batch *batch)
{
        buf_reset(&batch->records);
        batch->n = 0;
        batch->durable = false;
        batch->ok = false;
}

void audit_batch_clear(struct audit_batch *batch)
{
        audit_batch_reset(batch);
        buf_clear(&batch->records);
}

/* --- the mailbox --- */

static void raise_fd(int fd)
{
        uint64_t one = 1;
        ssize_t n = write(fd, &one, sizeof(one));

        (void)n; /* a full counter is a wake-up as well */
}

static void lower_fd(int fd)
{
        uint64_t count;
        ssize_t n = read(fd, &count, sizeof(count));

        (void)n; /* EAGAIN: nobody had raised it */
}

static void wake(struct scribe *scribe)
{
        raise_fd(scribe->urgent_fd);
}

static void batch_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        mail->next = NULL;
        *scribe->last = mail;
        scribe->last = &mail->next;
}

void scribe_post(struct scribe *scribe, struct audit_batch *batch)
{
        /* Read before the post: afterwards the batch is no longer ours. */
        bool urgent = batch->durable || scribe->durability == SCRIBE_SYNC_ALL;

        batch->ok = false;
        batch->mail.deliver = batch_arrived;
        mailbox_post(scribe->box, &batch->mail);
        if (urgent)
                wake(scribe);
}

struct event_mail {
        struct mail mail;
        struct buf body;
};

static void event_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;
        struct event_mail *event = (struct event_mail *)mail;

        if (buf_reserve(&scribe->events, event->body.len))
                buf_str_add(&scribe->events, buf_str(&event->body));
        else
                scribe->events_lost++;
        scribe->events.overflow = false;
        buf_clear(&event->body);
        free(event);
}

void scribe_event(struct scribe *scribe, struct str name, const struct pair *detail, size_t n)
{
        struct audit_fields fields = {
                .time_ms = clock_wall_ms(),
                .kind = AUDIT_EVENT,
                .event = {.name = name, .detail = detail, .n_detail = n},
        };
        struct event_mail *event = calloc(1, sizeof(*event));

        if (!event)
                abort();
        buf_init(&event->body, AUDIT_RECORD_MOST + 1);
        bool written = audit_record_write(&event->body, &fields);
        assert(written);
        (void)written;
        buf_char(&event->body, '\n');
        event->mail.deliver = event_arrived;
        mailbox_post(scribe->box, &event->mail);
        wake(scribe);
}

/* In its turn: what was posted before goes into the old file, what comes after into the new one. */
static void reopen_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;
        struct error err;

        free(mail);
        if (!scribe->released && !scribe_rotate(scribe, &err))
                log_error("audit: no new file is begun, the old one is written on: %s", err.text);
}

static void watch_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;
        struct scribe_watch *watch = (struct scribe_watch *)mail;

        watch->next = scribe->watches;
        scribe->watches = watch;
        if (scribe->failing_since_ms)
                scribe_tell_state(watch, false);
}

void scribe_watch(struct scribe *scribe, struct scribe_watch *watch)
{
        watch->mail.deliver = watch_arrived;
        mailbox_post(scribe->box, &watch->mail);
        wake(scribe);
}

const char *scribe_public_key(const struct scribe *scribe)
{
        return signing_key_pem(scribe->key);
}

static void expire_answered(struct mail *mail, void *receiver)
{
        struct expire *expire = (struct expire *)mail;

        expire->done(expire, receiver);
}

static void expire_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        scribe->expiring = (struct expire *)mail;
        mail->deliver = expire_answered;
}

void scribe_expire(struct scribe *scribe, struct expire *expire)
{
        expire->mail.deliver = expire_arrived;
        mailbox_post(scribe->box, &expire->mail);
        wake(scribe);
}

static void await_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;
        struct scribe_await *await = (struct scribe_await *)mail;

        await->next = scribe->awaits;
        scribe->awaits = await;
}

void scribe_await(struct scribe *scribe, struct scribe_await *await)
{
        await->mail.deliver = await_arrived;
        mailbox_post(scribe->box, &await->mail);
}

static void await_answered(struct mail *mail, void *receiver)
{
        struct scribe_await *await = (struct scribe_await *)mail;

        await->done(await, receiver);
}

static void answer_awaits(struct scribe *scribe)
{
        struct scribe_await **link = &scribe->awaits;

        while (*link) {
                struct scribe_await *await = *link;
                if (scribe->journal.head.seq <= await->after) {
                        link = &await->next;
                        continue;
                }
                *link = await->next;
                await->seq = scribe->journal.head.seq;
                await->synced_seq = scribe->synced_seq;
                await->mail.deliver = await_answered;
                mailbox_post(await->reply_to, &await->mail);
        }
}

static void anchor_works(struct mail *mail, void *receiver)
{
        ((struct scribe *)receiver)->stats.anchor_ok = true;
        free(mail);
}

static void anchor_fails(struct mail *mail, void *receiver)
{
        ((struct scribe *)receiver)->stats.anchor_ok = false;
        free(mail);
}

static void hush_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        scribe->hushed = true;
        sem_post(&scribe->hush_heard);
        free(mail);
}

static void stop_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        scribe->stop = true;
        free(mail);
}

/* `fd`: whom it wakes. */
static void post_to(
        struct scribe *scribe, int fd, void (*deliver)(struct mail *mail, void *receiver))
{
        struct mail *mail = calloc(1, sizeof(*mail));

        if (!mail)
                abort();
        mail->deliver = deliver;
        mailbox_post(scribe->box, mail);
        raise_fd(fd);
}

static void post_word(struct scribe *scribe, void (*deliver)(struct mail *mail, void *receiver))
{
        post_to(scribe, scribe->urgent_fd, deliver);
}

/* It comes behind the batches that it is about; when they are written by then, it says nothing. */
static void hurry_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        scribe->hurry = scribe->first != NULL;
        free(mail);
}

void scribe_hurry(struct scribe *scribe)
{
        post_to(scribe, scribe->hurry_fd, hurry_arrived);
}

void scribe_reopen(struct scribe *scribe)
{
        post_word(scribe, reopen_arrived);
}

void scribe_anchored(struct scribe *scribe, struct str why)
{
        bool ok = str_empty(why);
        struct pair detail = {STR("error"), why};

        post_word(scribe, ok ? anchor_works : anchor_fails);
        scribe_event(
                scribe, ok ? STR("log.anchor_recovered") : STR("log.anchor_failed"), &detail, !ok);
}

struct heir_mail {
        struct mail mail;
        int fd;
        int64_t limit_ms;
};

static void heir_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        scribe->heir_fd = ((struct heir_mail *)mail)->fd;
        scribe->heir_ms = ((struct heir_mail *)mail)->limit_ms;
        free(mail);
}

void scribe_hand_over(struct scribe *scribe, int fd, int64_t limit_ms)
{
        struct heir_mail *heir = calloc(1, sizeof(*heir));

        if (!heir)
                abort();
        *heir = (struct heir_mail){.mail.deliver = heir_arrived, .fd = fd, .limit_ms = limit_ms};
        mailbox_post(scribe->box, &heir->mail);
        wake(scribe);
}

static void ask_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        mail->next = scribe->asks;
        scribe->asks = mail;
}

void scribe_ask(struct scribe *scribe, struct scribe_ask *ask)
{
        ask->mail.deliver = ask_arrived;
        mailbox_post(scribe->box, &ask->mail);
        wake(scribe);
}

static void ask_answered(struct mail *mail, void *receiver)
{
        struct scribe_ask *ask = (struct scribe_ask *)mail;

        ask->done(ask, receiver);
}

static void answer_asks(struct scribe *scribe)
{
        while (scribe->asks) {
                struct scribe_ask *ask = (struct scribe_ask *)scribe->asks;
                scribe->asks = ask->mail.next;
                ask->stats = scribe->stats;
                ask->stats.seq = scribe->journal.head.seq;
                ask->stats.file_bytes = scribe->journal.size;
                ask->stats.unsigned_records = scribe->unsigned_records;
                if (scribe->failing_since_ms)
                        ask->stats.failing_ms = clock_mono_ms() - scribe->failing_since_ms;
                ask->mail.deliver = ask_answered;
                mailbox_post(ask->reply_to, &ask->mail);
        }
}

/* --- the thread --- */

/* How long nothing is due. */
static int idle_ms(const struct scribe *scribe)
{
        int64_t wait = INT32_MAX, now = clock_mono_ms();

        if (scribe->failing_since_ms)
                return RETRY_MS;
        if (scribe->sign_by_ms)
                wait = scribe->sign_by_ms - now;
        if (scribe->rotate_ms && !scribe->released) {
                int64_t left =
                        scribe->rotate_ms - (clock_wall_ms() - scribe->journal.opened_wall_ms);
                if (left < scribe->rotate_after_ms - now)
                        left = scribe->rotate_after_ms - now;
                /* Of an old file with nothing in it, the first record tells. */
                if (left > 0 && left < wait)
                        wait = left;
        }
        return wait <= 0 ? 0 : wait == INT32_MAX ? -1 : (int)wait + 1;
}

/* Waits for mail; for a moment longer when nobody waits for what it brings. */
static void wait_for_mail(struct scribe *scribe, bool gather)
{
        bool heir_may_answer = scribe->passing.under_way && !scribe->hushed;
        struct pollfd fds[] = {
                {.fd = scribe->urgent_fd, .events = POLLIN},
                {.fd = mailbox_fd(scribe->box), .events = POLLIN},
                {.fd = heir_may_answer ? scribe->heir_fd : -1, .events = POLLIN},
        };

        if (gather)
                poll(fds, 1, GATHER_MS);
        poll(fds, 3, idle_ms(scribe));
        lower_fd(scribe->urgent_fd);
}

/* Lets a group grow when the last one was made durable only a moment ago. */
static void keep_distance(struct scribe *scribe)
{
        struct pollfd hurry = {.fd = scribe->hurry_fd, .events = POLLIN};

        while (scribe->first && !scribe->hurry) {
                int64_t left = scribe->synced_us + SYNC_DISTANCE_US - clock_mono_us();
                if (left <= 0)
                        break;
                struct timespec pause = {.tv_nsec = left * 1000};
                if (ppoll(&hurry, 1, &pause, NULL) > 0)
                        lower_fd(scribe->hurry_fd);
                mailbox_drain(scribe->box);
        }
        scribe->hurry = false;
}

static void write_turn(struct scribe *scribe)
{
        (void)scribe_commit(scribe);
        scribe_rotate_if_due(scribe);
}

static void *run(void *argument)
{
        struct scribe *scribe = argument;
        bool gather = false;

        while (!scribe->stop) {
                wait_for_mail(scribe, gather);
                mailbox_drain(scribe->box);
                if (scribe->hushed)
                        continue;
                gather = scribe->first && !scribe->failing_since_ms;
                keep_distance(scribe);
                if (scribe->heir_fd >= 0 && !scribe->released)
                        scribe_release(scribe);
                if (scribe->released)
                        (void)scribe_pass_on(scribe);
                else
                        write_turn(scribe);
                answer_asks(scribe);
                answer_awaits(scribe);
        }
        if (scribe->released)
                (void)scribe_pass_on(scribe);
        else
                (void)scribe_commit_signed(scribe, STR("stopped"));
        return NULL;
}

static bool start_thread(struct scribe *scribe)
{
        sigset_t all, before;

        /* Signals are the main thread's, and SIGXFSZ must become EFBIG. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        bool ok = pthread_create(&scribe->thread, NULL, run, scribe) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return ok;
}

static void scribe_free(struct scribe *scribe)
{
        keeper_stop(scribe->keeper);
        mailbox_drain(scribe->box); /* what the keeper said last */
        keeper_free(scribe->keeper);
        journal_close(&scribe->journal);
        mailbox_free(scribe->box);
        sem_destroy(&scribe->hush_heard);
        if (scribe->urgent_fd >= 0)
                close(scribe->urgent_fd);
        if (scribe->hurry_fd >= 0)
                close(scribe->hurry_fd);
        buf_clear(&scribe->events);
        buf_clear(&scribe->lines);
        signing_key_free(scribe->key);
        if (scribe->heir_fd >= 0)
                close(scribe->heir_fd);
        free((char *)scribe->settings.path);
        free((char *)scribe->settings.anchor);
        free(scribe);
}

static struct signing_key *open_key(const struct scribe_settings *settings, struct error *err)
{
        struct stat info;
        char path[4096];

        /* Nothing is made beside what cannot be a log. */
        if (stat(settings->path, &info) == 0 && !S_ISREG(info.st_mode)) {
                error_set(err, "%s: is not a regular file", settings->path);
                return NULL;
        }
        if (settings->signing_key)
                return signing_key_load(settings->signing_key, err);
        snprintf(path, sizeof(path), "%s.key", settings->path);
        return signing_key_load_or_make(path, err);
}

static void take_settings(struct scribe *scribe, const struct scribe_settings *settings)
{
        scribe->settings = *settings;
        scribe->settings.path = str_dup(str_of(settings->path));
        scribe->settings.anchor = settings->anchor ? str_dup(str_of(settings->anchor)) : NULL;
        scribe->settings.signing_key = NULL; /* it is read once */
        scribe->heir_fd = -1;
        scribe->durability = settings->durability;
        scribe->checkpoint_records = settings->checkpoint_records;
        scribe->checkpoint_ms = settings->checkpoint_ms;
        scribe->rotate_bytes = settings->rotate_bytes;
        scribe->rotate_ms = settings->rotate_ms;
}

struct scribe *scribe_open(const struct scribe_settings *settings, struct error *err)
{
        struct scribe *scribe = calloc(1, sizeof(*scribe));

        if (!scribe)
                abort();
        scribe->key = open_key(settings, err);
        if (!scribe->key || !journal_open(&scribe->journal, settings->path, scribe->key, err)) {
                signing_key_free(scribe->key);
                free(scribe);
                return NULL;
        }
        take_settings(scribe, settings);
        scribe->opened_seq = scribe->journal.head.seq;
        scribe->box = mailbox_new(scribe);
        sem_init(&scribe->hush_heard, 0, 0);
        scribe->urgent_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        scribe->hurry_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        scribe->last = &scribe->first;
        scribe->stats.ok = scribe->stats.anchor_ok = true;
        /* How much of it is signed is not known: what comes next signs it all. */
        scribe->unsigned_records = 1;
        buf_init(&scribe->events, EVENTS_BYTES);
        buf_init(&scribe->lines, (size_t)64 * 1024 * 1024);
        scribe->keeper = keeper_new(scribe, settings, signing_key_text(scribe->key), err);
        if (!scribe->keeper || scribe->urgent_fd < 0 || scribe->hurry_fd < 0 ||
                !start_thread(scribe)) {
                error_set(err, "the audit thread cannot be started");
                scribe_free(scribe);
                return NULL;
        }
        return scribe;
}

uint64_t scribe_opened_seq(const struct scribe *scribe)
{
        return scribe->opened_seq;
}

uint64_t scribe_final_seq(const struct scribe *scribe)
{
        assert(scribe->stopped);
        return scribe->released ? scribe->given_seq : scribe->journal.head.seq;
}

void scribe_hush(struct scribe *scribe)
{
        if (!scribe)
                return;
        post_word(scribe, hush_arrived);
        while (sem_wait(&scribe->hush_heard) < 0 && errno == EINTR)
                ;
}

void scribe_stop(struct scribe *scribe)
{
        struct error err;

        if (!scribe || scribe->stopped)
                return;
        post_word(scribe, stop_arrived);
        pthread_join(scribe->thread, NULL);
        scribe->stopped = true;
        if (!scribe->released && !journal_sync(&scribe->journal, &err))
                log_error("audit: %s: %s", scribe->journal.path, err.text);
}

void scribe_close(struct scribe *scribe)
{
        if (!scribe)
                return;
        scribe_stop(scribe);
        scribe_free(scribe);
}
