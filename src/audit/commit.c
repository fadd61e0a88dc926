/*
 * commit: one turn of the scribe: what waits becomes lines, a write, perhaps a sync, and answers.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

enum {
        GROUP_BYTES = 4 * 1024 * 1024, /* one write is about this at most */
        ROTATE_RETRY_MS = 60 * 1000,
};

static void batch_answered(struct mail *mail, void *receiver)
{
        struct audit_batch *batch = (struct audit_batch *)mail;

        batch->done(batch, receiver);
}

void scribe_answer(struct audit_batch *batch, bool ok)
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

void scribe_tell_state(const struct scribe_watch *watch, bool ok)
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
                scribe_tell_state(watch, ok);
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

        if (ok)
                scribe->synced_seq = scribe->journal.head.seq;
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
                scribe_answer(batch, ok);
        }
        if (!group.end)
                scribe->last = &scribe->first;
        return ok;
}

bool scribe_commit(struct scribe *scribe)
{
        bool ok;

        do {
                ok = commit_group(scribe);
        } while (scribe->first);
        return ok;
}

bool scribe_commit_signed(struct scribe *scribe, struct str reason)
{
        scribe->sign = reason;
        bool ok = scribe_commit(scribe);
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

bool scribe_rotate(struct scribe *scribe, struct error *err)
{
        struct journal *journal = &scribe->journal;
        bool moved = false, used = false;

        bool ok = scribe_commit(scribe);
        if (ok && journal->head.seq > journal->first_seq) {
                used = true;
                ok = scribe_commit_signed(scribe, STR("rotated"));
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

void scribe_rotate_if_due(struct scribe *scribe)
{
        struct error err;

        if (!rotation_due(scribe) || scribe_rotate(scribe, &err))
                return;
        scribe->rotate_after_ms = clock_mono_ms() + ROTATE_RETRY_MS;
        log_error("audit: no new file is begun, the old one is written on: %s", err.text);
}
