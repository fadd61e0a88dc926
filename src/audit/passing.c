/*
 * passing: what the scribe does once another process has the file.
 *
 * That process writes the records of both into one chain; this one sends it the bodies and answers
 * a batch when the other says that it is written, and on disk where that was asked for. When the
 * other one is gone, so is its lock: the file is taken back and the chain goes on.
 *
 *      our side sends      'R'                                   the file is released
 *                          'B' durable(1) n(4) length(4) bodies  little endian
 *      the other answers   '1' or '0' to each 'B': written or not
 *
 * Nothing here waits without end. A batch that is not answered within the limit stays where it is,
 * since it may be written yet, and whatever else comes is refused, as when a disk fails. Who the
 * file belongs to is told by its lock alone: while another process has it, silent or not, nothing
 * is written by this one.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dagward/audit/passed.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

enum {
        PATIENCE_MS = 2000,
        MOMENT_MS = 20,
        DOUBT_BYTES = 8 * 1024 * 1024, /* of the file's end: more than one write is */
};

static bool send_all(int fd, const void *bytes, size_t n)
{
        const char *at = bytes;

        while (n) {
                ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
                if (sent < 0 && errno == EINTR)
                        continue;
                if (sent <= 0)
                        return false;
                at += sent;
                n -= (size_t)sent;
        }
        return true;
}

static bool recv_all(int fd, void *bytes, size_t n)
{
        char *at = bytes;

        while (n) {
                ssize_t got = recv(fd, at, n, 0);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return false;
                at += got;
                n -= (size_t)got;
        }
        return true;
}

/* --- the other side --- */

bool passed_wait_released(int fd, int64_t limit_ms)
{
        struct pollfd there = {.fd = fd, .events = POLLIN};
        char word;

        return poll(&there, 1, (int)limit_ms) > 0 && recv_all(fd, &word, 1) && word == 'R';
}

bool passed_read(int fd, struct audit_batch *batch)
{
        unsigned char head[10];
        char bodies[4096];

        if (!recv_all(fd, head, sizeof(head)) || head[0] != 'B')
                return false;
        uint32_t n = (uint32_t)head[2] | (uint32_t)head[3] << 8 | (uint32_t)head[4] << 16 |
                     (uint32_t)head[5] << 24;
        uint32_t left = (uint32_t)head[6] | (uint32_t)head[7] << 8 | (uint32_t)head[8] << 16 |
                        (uint32_t)head[9] << 24;
        if (left > AUDIT_BATCH_BYTES)
                return false;
        batch->n = n;
        batch->durable = head[1];
        while (left) {
                size_t part = left < sizeof(bodies) ? left : sizeof(bodies);
                if (!recv_all(fd, bodies, part))
                        return false;
                buf_add(&batch->records, bodies, part);
                left -= (uint32_t)part;
        }
        return true;
}

bool passed_answer(int fd, bool ok)
{
        return send_all(fd, ok ? "1" : "0", 1);
}

/* --- ours --- */

enum passing { PASSED, NOT_WRITTEN, SILENT, NOBODY_THERE };

static void add_u32(struct buf *out, size_t value)
{
        const unsigned char bytes[] = {(unsigned char)value, (unsigned char)(value >> 8),
                (unsigned char)(value >> 16), (unsigned char)(value >> 24)};

        buf_add(out, bytes, sizeof(bytes));
}

/* The frame is where lines stand while there is a journal. */
static void frame(struct scribe *scribe, struct str bodies, size_t n, bool durable)
{
        struct buf *out = &scribe->lines;

        buf_reset(out);
        buf_char(out, 'B');
        buf_char(out, (char)durable);
        add_u32(out, n);
        add_u32(out, bodies.len);
        buf_str_add(out, bodies);
        scribe->passing = (struct scribe_passing){.under_way = true, .since_ms = clock_mono_ms()};
}

/* Events first; false: nothing is left. */
static bool frame_next(struct scribe *scribe)
{
        const struct audit_batch *batch = (struct audit_batch *)scribe->first;
        struct str events = buf_str(&scribe->events);
        size_t n = 0;

        for (size_t i = 0; i < events.len; i++)
                n += events.ptr[i] == '\n';
        if (n) {
                frame(scribe, events, n, true);
                scribe->passing.events = events.len;
        } else if (batch) {
                frame(scribe, buf_str(&batch->records), batch->n,
                        batch->durable || scribe->durability == SCRIBE_SYNC_ALL);
        }
        return n || batch;
}

/* Waits as long as the frame's time is not over; afterwards it only looks. */
static enum passing pass(struct scribe *scribe)
{
        struct scribe_passing *passing = &scribe->passing;
        const struct buf *out = &scribe->lines;

        for (;;) {
                bool sending = passing->sent < out->len;
                char word;
                ssize_t n = sending ? send(scribe->heir_fd, out->data + passing->sent,
                                              out->len - passing->sent, MSG_NOSIGNAL | MSG_DONTWAIT)
                                    : recv(scribe->heir_fd, &word, 1, MSG_DONTWAIT);
                if (n > 0 && !sending)
                        return word == '1' ? PASSED : NOT_WRITTEN;
                if (n > 0) {
                        passing->sent += (size_t)n;
                        continue;
                }
                if (n < 0 && errno == EINTR)
                        continue;
                if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
                        return NOBODY_THERE;
                int64_t left = passing->since_ms + scribe->heir_ms - clock_mono_ms();
                if (left <= 0 && scribe->stop && !sending) {
                        /* At our end nobody hears an answer; what is in the socket outlives us, and
                         * what follows need not wait as long again. */
                        scribe->heir_ms = 0;
                        return PASSED;
                }
                if (left <= 0)
                        return SILENT;
                struct pollfd fd = {
                        .fd = scribe->heir_fd, .events = (short)(sending ? POLLOUT : POLLIN)};
                poll(&fd, 1, (int)left);
        }
}

static void say_state(struct scribe *scribe, bool ok, const char *why)
{
        bool was = scribe->failing_since_ms == 0;

        scribe->stats.ok = ok;
        snprintf(scribe->stats.error, sizeof(scribe->stats.error), "%s", why);
        if (ok == was)
                return;
        scribe->failing_since_ms = ok ? 0 : clock_mono_ms();
        scribe->failed_wall_ms = clock_wall_ms();
        scribe->failed_records = 0;
        for (const struct scribe_watch *watch = scribe->watches; watch; watch = watch->next)
                scribe_tell_state(watch, ok);
        if (ok)
                log_info("audit: the new process writes our records again");
        else
                log_error("audit: our records are not written: %s", why);
}

void scribe_release(struct scribe *scribe)
{
        struct error err;

        (void)scribe_commit_signed(scribe, STR("handover"));
        if (!journal_sync(&scribe->journal, &err))
                log_error("audit: %s: %s", scribe->journal.path, err.text);
        /* What the keeper asks for is the other one's business now. */
        keeper_stop(scribe->keeper);
        mailbox_drain(scribe->box);
        scribe->expiring = NULL;
        keeper_free(scribe->keeper);
        scribe->keeper = NULL;
        scribe->given_seq = scribe->journal.head.seq;
        journal_close(&scribe->journal);
        scribe->released = true;
        scribe->patience_ms = PATIENCE_MS;
        if (!send_all(scribe->heir_fd, "R", 1))
                log_errno("audit: the new process cannot be told that the file is free");
}

/* A process that ends lets go of its files one after the other; of one that is silent, whether it
 * has opened it at all is seen at once. */
static bool open_patiently(struct scribe *scribe, bool silent, struct error *err)
{
        const struct timespec moment = {.tv_nsec = MOMENT_MS * 1000000};

        for (; !silent && scribe->patience_ms > 0; scribe->patience_ms -= MOMENT_MS) {
                if (journal_open(&scribe->journal, scribe->settings.path, scribe->key, err))
                        return true;
                nanosleep(&moment, NULL);
        }
        return journal_open(&scribe->journal, scribe->settings.path, scribe->key, err);
}

/* Takes the lines out of `bodies` that are in `file`, where they stand one after the other. */
static unsigned drop_written(struct buf *bodies, struct str file)
{
        struct str rest = buf_str(bodies), body;
        unsigned dropped = 0;
        size_t done = 0;

        while (rest.len) {
                rest = str_cut(rest, '\n', &body);
                const char *at = memmem(file.ptr, file.len, body.ptr, body.len);
                if (!at)
                        break;
                file = str_from(file, (size_t)(at - file.ptr) + body.len);
                done = bodies->len - rest.len;
                dropped++;
        }
        memmove(bodies->data, bodies->data + done, bodies->len - done);
        bodies->len -= done;
        return dropped;
}

/* What was under way when the other one went may be written: each record is there once. False: that
 * it is on disk is not sure. */
static bool settle_doubt(struct scribe *scribe, struct error *err)
{
        struct audit_batch *batch = (struct audit_batch *)scribe->first;
        size_t len =
                scribe->journal.size < DOUBT_BYTES ? (size_t)scribe->journal.size : DOUBT_BYTES;
        bool events = scribe->passing.events > 0;
        unsigned dropped = 0;

        if (!scribe->passing.under_way)
                return true;
        char *bytes = malloc(len + 1);
        if (!bytes)
                abort();
        ssize_t n = pread(scribe->journal.fd, bytes, len, (off_t)(scribe->journal.size - len));
        struct str file = str_view(bytes, n > 0 ? (size_t)n : 0);
        if (events)
                dropped = drop_written(&scribe->events, file);
        else if (batch)
                batch->n -= dropped = drop_written(&batch->records, file);
        free(bytes);
        if (dropped && !journal_sync(&scribe->journal, err))
                return false;
        scribe->passing.under_way = false;
        return true;
}

/* The other one is gone, and its lock with it, unless a third has it by now; or it is silent and
 * never had the lock, and will find that it cannot have it. */
static bool take_back(struct scribe *scribe, bool silent, struct error *err)
{
        if (!open_patiently(scribe, silent, err))
                return false;
        if (settle_doubt(scribe, err))
                scribe->keeper =
                        keeper_new(scribe, &scribe->settings, signing_key_text(scribe->key), err);
        if (!scribe->keeper) {
                journal_close(&scribe->journal);
                return false;
        }
        scribe->released = false;
        scribe->unsigned_records = 1;
        log_info("audit: %s is written by this process again", scribe->journal.path);
        return true;
}

static void leave_heir(struct scribe *scribe)
{
        if (scribe->heir_fd >= 0)
                close(scribe->heir_fd);
        scribe->heir_fd = -1;
}

/* The frame has arrived and is written. */
static void passed(struct scribe *scribe)
{
        struct buf *events = &scribe->events;
        struct audit_batch *batch = (struct audit_batch *)scribe->first;
        size_t n = scribe->passing.events;

        scribe->passing.under_way = false;
        if (!scribe->stop)
                say_state(scribe, true, "");
        if (n) {
                memmove(events->data, events->data + n, events->len - n);
                events->len -= n;
                return;
        }
        scribe->first = batch->mail.next;
        if (!scribe->first)
                scribe->last = &scribe->first;
        scribe_answer(batch, true);
}

/* A batch that is under way stays: it may be written yet, and would be there twice. At our end
 * there is nobody who would send it again. */
static void refuse_others(struct scribe *scribe)
{
        bool stays = scribe->first && scribe->passing.under_way && !scribe->passing.events &&
                     !scribe->stop;
        struct mail *mail = stays ? scribe->first->next : scribe->first, *next;

        scribe->last = stays ? &scribe->first->next : &scribe->first;
        *scribe->last = NULL;
        for (; mail; mail = next) {
                struct audit_batch *batch = (struct audit_batch *)mail;
                next = mail->next;
                scribe->failed_records += batch->n;
                scribe->stats.refused_records += batch->n;
                scribe_answer(batch, false);
        }
}

bool scribe_pass_on(struct scribe *scribe)
{
        enum passing came = scribe->heir_fd < 0 ? NOBODY_THERE : PASSED;
        struct error err = {{0}};

        while (came == PASSED) {
                if (!scribe->passing.under_way && !frame_next(scribe))
                        return true;
                came = pass(scribe);
                if (came == PASSED)
                        passed(scribe);
        }
        switch (came) {
        case PASSED: break;
        case NOT_WRITTEN:
                scribe->passing.under_way = false;
                error_set(&err, "the new process could not write them");
                break;
        case SILENT:
                if (take_back(scribe, true, &err))
                        break;
                error_set(&err, "the new process has the file and does not answer");
                break;
        case NOBODY_THERE:
                if (!scribe->passing.sent)
                        scribe->passing.under_way = false;
                (void)take_back(scribe, false, &err);
                break;
        }
        if (!scribe->released || came == NOBODY_THERE)
                leave_heir(scribe);
        if (!scribe->released)
                return scribe_commit(scribe);
        say_state(scribe, false, err.text);
        refuse_others(scribe);
        return false;
}
