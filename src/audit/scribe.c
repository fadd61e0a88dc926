#include "dagward/audit/scribe.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "dagward/audit/journal.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"

enum {
        GROUP_BYTES = 4 * 1024 * 1024, /* one write is about this at most */
        EVENTS_BYTES = 64 * 1024,
        RETRY_MS = 1000,
        /* How long records that nobody waits for are gathered: a wake-up for each would cost more
         * than writing them. Whatever somebody waits for cuts it short. */
        GATHER_MS = 2,
        /* Under load, who comes within this time after an fdatasync shares the next one; after a
         * pause nobody is delayed. */
        SYNC_DISTANCE_US = 1000,
};

struct scribe {
        struct journal journal;
        enum scribe_durability durability;
        struct mailbox *box;
        int urgent_fd; /* eventfd: somebody waits */
        pthread_t thread;

        /* what one drain of the mailbox brought */
        struct mail *first; /* batches */
        struct mail **last;
        struct mail *asks;
        bool stop;

        struct buf events; /* bodies that are not in the file yet */
        size_t events_lost;
        struct buf lines;
        struct scribe_stats stats;
        int64_t failing_since_ms; /* monotonic; 0: writing works */
        int64_t synced_us;        /* monotonic; when the last fdatasync ended */
        int64_t failed_wall_ms;
        uint64_t failed_records; /* since then */
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

static void batch_answered(struct mail *mail, void *receiver)
{
        struct audit_batch *batch = (struct audit_batch *)mail;

        batch->done(batch, receiver);
}

static void answer(struct audit_batch *batch, bool ok)
{
        batch->ok = ok;
        batch->mail.deliver = batch_answered;
        mailbox_post(batch->reply_to, &batch->mail);
}

/* --- the commit --- */

static void chain_bodies(struct scribe *scribe, struct str bodies)
{
        while (bodies.len) {
                struct str body;
                bodies = str_cut(bodies, '\n', &body);
                journal_chain(&scribe->journal, body, &scribe->lines);
        }
}

static void chain_failure(struct scribe *scribe)
{
        char since[CLOCK_RFC3339_LEN + 1], records[24], events[24];

        clock_rfc3339(scribe->failed_wall_ms, since);
        snprintf(records, sizeof(records), "%llu", (unsigned long long)scribe->failed_records);
        snprintf(events, sizeof(events), "%zu", scribe->events_lost);
        struct pair detail[] = {
                {STR("since"), str_of(since)},
                {STR("error"), str_of(scribe->stats.error)},
                {STR("refused_records"), str_of(records)},
                {STR("lost_events"), str_of(events)},
        };
        journal_chain_event(&scribe->journal, STR("log.write_failed"), detail, 4, &scribe->lines);
}

/* Something else than us was at the file: the chain says so before it goes on. */
static bool look_at_file(struct scribe *scribe, bool *moved, struct error *err)
{
        uint64_t expected = scribe->journal.size, found;
        char was[24], is[24], seq[24];

        switch (journal_look(&scribe->journal, &found)) {
        case JOURNAL_SAME: return true;
        case JOURNAL_REMOVED:
                log_error("audit: %s was removed; a new file is begun", scribe->journal.path);
                if (!journal_reopen(&scribe->journal, STR("removed"), moved, err))
                        return false;
                scribe->stats.reopens += *moved;
                return true;
        case JOURNAL_EMPTIED:
        case JOURNAL_CHANGED: break;
        }
        log_error("audit: %s was changed by somebody else: %llu bytes, expected %llu",
                scribe->journal.path, (unsigned long long)found, (unsigned long long)expected);
        char hash[CHAIN_HEX + 1];
        memcpy(hash, scribe->journal.head.hash, sizeof(hash));
        snprintf(was, sizeof(was), "%llu", (unsigned long long)expected);
        snprintf(is, sizeof(is), "%llu", (unsigned long long)found);
        snprintf(seq, sizeof(seq), "%llu", (unsigned long long)scribe->journal.head.seq);
        struct pair detail[] = {
                {STR("reason"), found ? STR("changed") : STR("emptied")},
                {STR("previous_seq"), str_of(seq)},
                {STR("previous_hash"), str_of(hash)},
                {STR("expected_bytes"), str_of(was)},
                {STR("found_bytes"), str_of(is)},
        };
        journal_chain_event(&scribe->journal, found ? STR("log.changed") : STR("log.opened"),
                detail, 5, &scribe->lines);
        return true;
}

static void count_failure(struct scribe *scribe, uint64_t records, const struct error *err)
{
        if (!scribe->failing_since_ms) {
                scribe->failing_since_ms = clock_mono_ms();
                scribe->failed_wall_ms = clock_wall_ms();
                log_error("audit: cannot write %s: %s", scribe->journal.path, err->text);
        }
        scribe->stats.ok = false;
        scribe->stats.failures++;
        scribe->stats.refused_records += records;
        scribe->failed_records += records;
        snprintf(scribe->stats.error, sizeof(scribe->stats.error), "%s", err->text);
}

static void count_success(struct scribe *scribe, uint64_t records, unsigned batches)
{
        if (scribe->failing_since_ms)
                log_info("audit: %s can be written again", scribe->journal.path);
        scribe->failing_since_ms = 0;
        scribe->failed_records = 0;
        scribe->events_lost = 0;
        scribe->stats.ok = true;
        scribe->stats.error[0] = '\0';
        scribe->stats.writes++;
        scribe->stats.records += records;
        scribe->stats.batches += batches;
        scribe->stats.bytes += scribe->lines.len;
        buf_reset(&scribe->events);
}

static bool sync_file(struct scribe *scribe, struct error *err)
{
        int64_t start = clock_mono_us();
        bool ok = journal_sync(&scribe->journal, err);

        scribe->synced_us = clock_mono_us();
        uint64_t took = (uint64_t)(scribe->synced_us - start);
        scribe->stats.syncs++;
        scribe->stats.sync_us += took;
        if (took > scribe->stats.sync_most_us)
                scribe->stats.sync_most_us = took;
        return ok;
}

/* Chains as many of the waiting batches as make a group; the first one that is not of it. */
static struct mail *chain_group(
        struct scribe *scribe, uint64_t *records, unsigned *batches, bool *durable)
{
        struct mail *mail = scribe->first;

        for (; mail && scribe->lines.len < GROUP_BYTES; mail = mail->next) {
                struct audit_batch *batch = (struct audit_batch *)mail;
                chain_bodies(scribe, buf_str(&batch->records));
                *records += batch->n;
                *durable |= batch->durable;
                ++*batches;
        }
        return mail;
}

/* What was chained goes into the file, or nothing of it. */
static bool write_group(struct scribe *scribe, bool durable, struct error *err)
{
        uint64_t size = scribe->journal.size;

        if (!journal_append(&scribe->journal, buf_str(&scribe->lines), err))
                return false;
        if (!durable || sync_file(scribe, err))
                return true;
        /* Whether the bytes are on disk is unknown now: they count as not written, so they must
         * not stay. */
        journal_cut(&scribe->journal, size);
        return false;
}

/* Writes waiting events and as many batches as make a group; answers them. */
static void commit_group(struct scribe *scribe)
{
        struct journal *journal = &scribe->journal;
        struct error err = {""};
        bool durable = scribe->durability == SCRIBE_SYNC_ALL || scribe->events.len > 0;
        uint64_t records = 0, expected = journal->size;
        unsigned batches = 0;
        bool moved = false;

        buf_reset(&scribe->lines);
        struct chain_head before = journal->head;
        bool ok = look_at_file(scribe, &moved, &err);
        if (moved)
                before = journal->head; /* the new file's first record is in it already */
        if (scribe->failing_since_ms)
                chain_failure(scribe);
        chain_bodies(scribe, buf_str(&scribe->events));
        struct mail *end = chain_group(scribe, &records, &batches, &durable);
        if (scribe->lines.len) {
                durable = durable && scribe->durability != SCRIBE_SYNC_NONE;
                ok = ok && write_group(scribe, durable, &err);
                if (ok) {
                        count_success(scribe, records, batches);
                } else {
                        journal->head = before;
                        if (!moved && !journal->ragged)
                                journal->size = expected; /* a change is still to be recorded */
                        count_failure(scribe, records, &err);
                }
        }
        while (scribe->first != end) {
                struct audit_batch *batch = (struct audit_batch *)scribe->first;
                scribe->first = batch->mail.next;
                answer(batch, ok);
        }
        if (!end)
                scribe->last = &scribe->first;
}

static void commit(struct scribe *scribe)
{
        do {
                commit_group(scribe);
        } while (scribe->first);
}

/* --- the mailbox --- */

static void wake(struct scribe *scribe)
{
        uint64_t one = 1;
        ssize_t n = write(scribe->urgent_fd, &one, sizeof(one));

        (void)n; /* a full counter is a wake-up as well */
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
        bool moved = false;

        free(mail);
        commit(scribe);
        if (!journal_reopen(&scribe->journal, STR("rotated"), &moved, &err)) {
                log_error("audit: the log was not reopened, the old file is written on: %s",
                        err.text);
                return;
        }
        scribe->stats.reopens += moved;
        if (moved)
                log_info("audit: %s begun, after seq %llu", scribe->journal.path,
                        (unsigned long long)scribe->journal.head.seq - 1);
}

static void stop_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;

        scribe->stop = true;
        free(mail);
}

static void post_word(struct scribe *scribe, void (*deliver)(struct mail *mail, void *receiver))
{
        struct mail *mail = calloc(1, sizeof(*mail));

        if (!mail)
                abort();
        mail->deliver = deliver;
        mailbox_post(scribe->box, mail);
        wake(scribe);
}

void scribe_reopen(struct scribe *scribe)
{
        post_word(scribe, reopen_arrived);
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
                if (scribe->failing_since_ms)
                        ask->stats.failing_ms = clock_mono_ms() - scribe->failing_since_ms;
                ask->mail.deliver = ask_answered;
                mailbox_post(ask->reply_to, &ask->mail);
        }
}

/* --- the thread --- */

/* Waits for mail; for a moment longer when nobody waits for what it brings. */
static void wait_for_mail(struct scribe *scribe, bool gather)
{
        struct pollfd fds[] = {
                {.fd = scribe->urgent_fd, .events = POLLIN},
                {.fd = mailbox_fd(scribe->box), .events = POLLIN},
        };
        uint64_t count;

        if (gather)
                poll(fds, 1, GATHER_MS);
        poll(fds, 2, scribe->failing_since_ms ? RETRY_MS : -1);
        ssize_t n = read(scribe->urgent_fd, &count, sizeof(count));
        (void)n; /* EAGAIN: it was the mailbox */
}

/* Lets a group grow when the last one was made durable only a moment ago. */
static void keep_distance(struct scribe *scribe)
{
        int64_t left = SYNC_DISTANCE_US - (clock_mono_us() - scribe->synced_us);

        if (!scribe->first || left <= 0 || left > SYNC_DISTANCE_US)
                return;
        struct timespec pause = {.tv_nsec = left * 1000};
        nanosleep(&pause, NULL);
        mailbox_drain(scribe->box);
}

static void *run(void *argument)
{
        struct scribe *scribe = argument;
        bool gather = false;

        while (!scribe->stop) {
                wait_for_mail(scribe, gather);
                mailbox_drain(scribe->box);
                gather = scribe->first && !scribe->failing_since_ms;
                keep_distance(scribe);
                commit(scribe);
                answer_asks(scribe);
        }
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
        journal_close(&scribe->journal);
        mailbox_free(scribe->box);
        close(scribe->urgent_fd);
        buf_clear(&scribe->events);
        buf_clear(&scribe->lines);
        free(scribe);
}

struct scribe *scribe_open(const struct scribe_settings *settings, struct error *err)
{
        struct scribe *scribe = calloc(1, sizeof(*scribe));

        if (!scribe)
                abort();
        if (!journal_open(&scribe->journal, settings->path, err)) {
                free(scribe);
                return NULL;
        }
        scribe->durability = settings->durability;
        scribe->box = mailbox_new(scribe);
        scribe->urgent_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        scribe->last = &scribe->first;
        scribe->stats.ok = true;
        buf_init(&scribe->events, EVENTS_BYTES);
        buf_init(&scribe->lines, (size_t)64 * 1024 * 1024);
        if (scribe->urgent_fd < 0 || !start_thread(scribe)) {
                error_set(err, "the audit thread cannot be started");
                scribe_free(scribe);
                return NULL;
        }
        return scribe;
}

void scribe_close(struct scribe *scribe)
{
        struct error err;

        if (!scribe)
                return;
        post_word(scribe, stop_arrived);
        pthread_join(scribe->thread, NULL);
        if (!journal_sync(&scribe->journal, &err))
                log_error("audit: %s: %s", scribe->journal.path, err.text);
        scribe_free(scribe);
}
