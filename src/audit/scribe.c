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
#include "keeper.h"

enum {
        GROUP_BYTES = 4 * 1024 * 1024, /* one write is about this at most */
        EVENTS_BYTES = 64 * 1024,
        RETRY_MS = 1000,
        ROTATE_RETRY_MS = 60 * 1000,
        /* How long records that nobody waits for are gathered: a wake-up for each would cost more
         * than writing them. Whatever somebody waits for cuts it short. */
        GATHER_MS = 2,
        /* Under load, who comes within this time after an fdatasync shares the next one; after a
         * pause nobody is delayed. */
        SYNC_DISTANCE_US = 1000,
};

struct scribe {
        struct journal journal;
        struct signing_key *key;
        struct keeper *keeper;
        enum scribe_durability durability;
        uint64_t checkpoint_records, rotate_bytes; /* as in the settings */
        int64_t checkpoint_ms, rotate_ms;
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

        uint64_t unsigned_records; /* behind the last checkpoint */
        int64_t sign_by_ms;        /* monotonic; 0: nothing to sign, or no such limit */
        struct str sign;           /* why a checkpoint is due whatever the limits say; or empty */
        int64_t rotate_after_ms;   /* monotonic; the last attempt failed */
        struct expire *expiring;   /* what is to be said of closed files */
        struct scribe_watch *watches;
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
                {STR("public_key"), str_of(signing_key_text(scribe->key))},
        };
        journal_chain_event(&scribe->journal, found ? STR("log.changed") : STR("log.opened"),
                detail, 6, &scribe->lines);
        if (!found)
                scribe->journal.first_seq = scribe->journal.head.seq;
        return true;
}

struct state_mail {
        struct mail mail;
        bool ok;
        void (*changed)(bool ok, void *receiver);
};

static void state_told(struct mail *mail, void *receiver)
{
        struct state_mail *state = (struct state_mail *)mail;

        state->changed(state->ok, receiver);
        free(state);
}

static void tell_state(const struct scribe_watch *watch, bool ok)
{
        struct state_mail *state = calloc(1, sizeof(*state));

        if (!state)
                abort();
        *state = (struct state_mail){{.deliver = state_told}, ok, watch->changed};
        mailbox_post(watch->reply_to, &state->mail);
}

static void tell_all(const struct scribe *scribe, bool ok)
{
        for (const struct scribe_watch *watch = scribe->watches; watch; watch = watch->next)
                tell_state(watch, ok);
}

static void count_failure(struct scribe *scribe, uint64_t records, const struct error *err)
{
        if (!scribe->failing_since_ms) {
                tell_all(scribe, false);
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
        if (scribe->failing_since_ms) {
                log_info("audit: %s can be written again", scribe->journal.path);
                tell_all(scribe, true);
        }
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

/* --- checkpoints --- */

static bool checkpoint_due(const struct scribe *scribe, uint64_t unsigned_records)
{
        if (!scribe->checkpoint_records)
                return false;
        return !str_empty(scribe->sign) || unsigned_records >= scribe->checkpoint_records ||
               (scribe->sign_by_ms && clock_mono_ms() >= scribe->sign_by_ms);
}

/* What is about to be deleted is told of and signed first. */
static void chain_expiring(struct scribe *scribe)
{
        const struct expire *expire = scribe->expiring;

        for (size_t i = 0; expire && i < expire->n; i++) {
                const struct expired_file *file = &expire->files[i];
                const char *slash = strrchr(file->path, '/');
                char first[24], last[24];
                snprintf(first, sizeof(first), "%llu", (unsigned long long)file->first_seq);
                snprintf(last, sizeof(last), "%llu", (unsigned long long)file->last_seq);
                struct pair detail[] = {
                        {STR("file"), str_of(slash ? slash + 1 : file->path)},
                        {STR("first_seq"), str_of(first)},
                        {STR("last_seq"), str_of(last)},
                        {STR("last_hash"), str_of(file->last_hash)},
                };
                journal_chain_event(
                        &scribe->journal, STR("log.deleted"), detail, 4, &scribe->lines);
        }
        if (expire && str_empty(scribe->sign))
                scribe->sign = STR("deleted");
}

static void answer_expiring(struct scribe *scribe, bool ok)
{
        struct expire *expire = scribe->expiring;

        if (!expire)
                return;
        scribe->expiring = NULL;
        expire->ok = ok;
        mailbox_post(expire->reply_to, &expire->mail);
}

/* After the group is written: what is unsigned now, and what the anchor gets. */
static void count_signed(struct scribe *scribe, uint64_t unsigned_records, size_t checkpoint_at)
{
        bool checkpoint = checkpoint_at != SIZE_MAX;

        scribe->unsigned_records = checkpoint ? 0 : unsigned_records;
        if (checkpoint || !scribe->checkpoint_ms)
                scribe->sign_by_ms = 0;
        else if (!scribe->sign_by_ms && unsigned_records)
                scribe->sign_by_ms = clock_mono_ms() + scribe->checkpoint_ms;
        if (!checkpoint)
                return;
        scribe->sign = STR_NONE;
        scribe->stats.checkpoints++;
        keeper_anchor(scribe->keeper, str_from(buf_str(&scribe->lines), checkpoint_at));
}

/* --- the group --- */

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

struct group {
        struct mail *end; /* the first batch that is not of it */
        uint64_t records; /* of batches */
        unsigned batches;
        bool durable;
        size_t checkpoint_at; /* in the lines; SIZE_MAX: none */
        uint64_t unsigned_records;
};

/* Whatever waits becomes lines, with a checkpoint behind them when one is due. */
static void chain_all(struct scribe *scribe, struct group *group)
{
        uint64_t before = scribe->journal.head.seq;

        group->durable = scribe->durability == SCRIBE_SYNC_ALL || scribe->events.len > 0;
        if (scribe->failing_since_ms) {
                chain_failure(scribe);
                group->durable = true; /* it may be the sync that fails */
        }
        chain_expiring(scribe);
        chain_bodies(scribe, buf_str(&scribe->events));
        group->end = chain_group(scribe, &group->records, &group->batches, &group->durable);
        group->unsigned_records = scribe->unsigned_records + scribe->journal.head.seq - before;
        group->checkpoint_at = SIZE_MAX;
        if (checkpoint_due(scribe, group->unsigned_records)) {
                group->checkpoint_at = scribe->lines.len;
                journal_chain_checkpoint(&scribe->journal,
                        str_empty(scribe->sign) ? STR("interval") : scribe->sign, &scribe->lines);
                /* What is signed and anchored must not be lost by a power failure: another record
                 * would take its place. */
                group->durable = true;
        }
        group->durable = group->durable && scribe->durability != SCRIBE_SYNC_NONE;
}

/* Writes waiting events and as many batches as make a group; answers them. */
static bool commit_group(struct scribe *scribe)
{
        struct journal *journal = &scribe->journal;
        struct error err = {""};
        struct group group = {0};
        uint64_t expected = journal->size;
        bool moved = false;

        buf_reset(&scribe->lines);
        struct chain_head before = journal->head;
        bool ok = look_at_file(scribe, &moved, &err);
        if (moved)
                before = journal->head; /* the new file's first record is in it already */
        chain_all(scribe, &group);
        if (scribe->lines.len) {
                ok = ok && write_group(scribe, group.durable, &err);
                if (ok) {
                        count_success(scribe, group.records, group.batches);
                        count_signed(scribe, group.unsigned_records, group.checkpoint_at);
                } else {
                        journal->head = before;
                        if (!moved && !journal->ragged)
                                journal->size = expected; /* a change is still to be recorded */
                        count_failure(scribe, group.records, &err);
                }
                answer_expiring(scribe, ok);
        }
        while (scribe->first != group.end) {
                struct audit_batch *batch = (struct audit_batch *)scribe->first;
                scribe->first = batch->mail.next;
                answer(batch, ok);
        }
        if (!group.end)
                scribe->last = &scribe->first;
        return ok;
}

static bool commit(struct scribe *scribe)
{
        bool ok;

        do {
                ok = commit_group(scribe);
        } while (scribe->first);
        return ok;
}

/* Signs all that waits and all that is written; true when it is. */
static bool commit_signed(struct scribe *scribe, struct str reason)
{
        scribe->sign = reason;
        bool ok = commit(scribe);
        scribe->sign = STR_NONE;
        return ok;
}

/* --- rotation --- */

static void rotated(struct scribe *scribe)
{
        scribe->stats.reopens++;
        scribe->unsigned_records = 1;
        scribe->sign_by_ms = scribe->checkpoint_ms ? clock_mono_ms() + scribe->checkpoint_ms : 0;
        keeper_closed(scribe->keeper);
        log_info("audit: %s begun, after seq %llu", scribe->journal.path,
                (unsigned long long)scribe->journal.head.seq - 1);
}

/* Closes the file, unless nothing is in it but its first record, and begins another. */
static bool rotate(struct scribe *scribe, struct error *err)
{
        struct journal *journal = &scribe->journal;
        bool moved = false, used = false;

        bool ok = commit(scribe);
        if (ok && journal->head.seq > journal->first_seq) {
                used = true;
                ok = commit_signed(scribe, STR("rotated"));
        }
        if (!ok)
                return error_set(err, "%s", scribe->stats.error);
        /* Has another program renamed it? */
        if (!journal_reopen(journal, STR("rotated"), &moved, err) ||
                (!moved && used && !journal_rotate(journal, STR("rotated"), err)))
                return false;
        if (moved || used)
                rotated(scribe);
        return true;
}

static bool rotation_due(const struct scribe *scribe)
{
        const struct journal *journal = &scribe->journal;

        if (scribe->failing_since_ms || clock_mono_ms() < scribe->rotate_after_ms ||
                journal->head.seq <= journal->first_seq)
                return false;
        return (scribe->rotate_bytes && journal->size >= scribe->rotate_bytes) ||
               (scribe->rotate_ms &&
                       clock_wall_ms() - journal->opened_wall_ms >= scribe->rotate_ms);
}

static void rotate_if_due(struct scribe *scribe)
{
        struct error err;

        if (!rotation_due(scribe) || rotate(scribe, &err))
                return;
        scribe->rotate_after_ms = clock_mono_ms() + ROTATE_RETRY_MS;
        log_error("audit: no new file is begun, the old one is written on: %s", err.text);
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

        free(mail);
        if (!rotate(scribe, &err))
                log_error("audit: no new file is begun, the old one is written on: %s", err.text);
}

static void watch_arrived(struct mail *mail, void *receiver)
{
        struct scribe *scribe = receiver;
        struct scribe_watch *watch = (struct scribe_watch *)mail;

        watch->next = scribe->watches;
        scribe->watches = watch;
        if (scribe->failing_since_ms)
                tell_state(watch, false);
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

void scribe_anchored(struct scribe *scribe, struct str why)
{
        bool ok = str_empty(why);
        struct pair detail = {STR("error"), why};

        post_word(scribe, ok ? anchor_works : anchor_fails);
        scribe_event(
                scribe, ok ? STR("log.anchor_recovered") : STR("log.anchor_failed"), &detail, !ok);
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
        if (scribe->rotate_ms) {
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
        struct pollfd fds[] = {
                {.fd = scribe->urgent_fd, .events = POLLIN},
                {.fd = mailbox_fd(scribe->box), .events = POLLIN},
        };
        uint64_t count;

        if (gather)
                poll(fds, 1, GATHER_MS);
        poll(fds, 2, idle_ms(scribe));
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
                (void)commit(scribe);
                rotate_if_due(scribe);
                answer_asks(scribe);
        }
        (void)commit_signed(scribe, STR("stopped"));
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
        if (scribe->urgent_fd >= 0)
                close(scribe->urgent_fd);
        buf_clear(&scribe->events);
        buf_clear(&scribe->lines);
        signing_key_free(scribe->key);
        free(scribe);
}

static struct signing_key *open_key(const struct scribe_settings *settings, struct error *err)
{
        char path[4096];

        if (settings->signing_key)
                return signing_key_load(settings->signing_key, err);
        snprintf(path, sizeof(path), "%s.key", settings->path);
        return signing_key_load_or_make(path, err);
}

static void take_settings(struct scribe *scribe, const struct scribe_settings *settings)
{
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
        scribe->box = mailbox_new(scribe);
        scribe->urgent_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        scribe->last = &scribe->first;
        scribe->stats.ok = scribe->stats.anchor_ok = true;
        /* How much of it is signed is not known: what comes next signs it all. */
        scribe->unsigned_records = 1;
        buf_init(&scribe->events, EVENTS_BYTES);
        buf_init(&scribe->lines, (size_t)64 * 1024 * 1024);
        scribe->keeper = keeper_new(scribe, settings, err);
        if (!scribe->keeper || scribe->urgent_fd < 0 || !start_thread(scribe)) {
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
