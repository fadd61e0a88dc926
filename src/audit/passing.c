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
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dagward/audit/passed.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"

enum { PATIENCE_MS = 2000, MOMENT_MS = 20 };

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

bool passed_wait_released(int fd)
{
        char word;

        return recv_all(fd, &word, 1) && word == 'R';
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

enum passing { PASSED, NOT_WRITTEN, NOBODY_THERE };

static enum passing pass(int fd, struct str bodies, unsigned n, bool durable)
{
        uint32_t len = (uint32_t)bodies.len;
        const unsigned char head[] = {'B', durable, (unsigned char)n, (unsigned char)(n >> 8),
                (unsigned char)(n >> 16), (unsigned char)(n >> 24), (unsigned char)len,
                (unsigned char)(len >> 8), (unsigned char)(len >> 16), (unsigned char)(len >> 24)};
        char word;

        if (!send_all(fd, head, sizeof(head)) || !send_all(fd, bodies.ptr, bodies.len) ||
                !recv_all(fd, &word, 1))
                return NOBODY_THERE;
        return word == '1' ? PASSED : NOT_WRITTEN;
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

/* A process that ends lets go of its files one after the other. */
static bool open_patiently(struct scribe *scribe, struct error *err)
{
        const struct timespec moment = {.tv_nsec = MOMENT_MS * 1000000};

        for (; scribe->patience_ms > 0; scribe->patience_ms -= MOMENT_MS) {
                if (journal_open(&scribe->journal, scribe->settings.path, scribe->key, err))
                        return true;
                nanosleep(&moment, NULL);
        }
        return journal_open(&scribe->journal, scribe->settings.path, scribe->key, err);
}

/* The other one is gone, and its lock with it, unless a third has it by now. */
static bool take_back(struct scribe *scribe)
{
        struct error err;

        if (!open_patiently(scribe, &err)) {
                say_state(scribe, false, err.text);
                return false;
        }
        scribe->keeper = keeper_new(scribe, &scribe->settings, &err);
        if (!scribe->keeper) {
                journal_close(&scribe->journal);
                say_state(scribe, false, err.text);
                return false;
        }
        scribe->released = false;
        scribe->unsigned_records = 1;
        log_info("audit: %s is written by this process again", scribe->journal.path);
        return true;
}

static bool went(struct scribe *scribe, enum passing came)
{
        switch (came) {
        case PASSED: say_state(scribe, true, ""); return true;
        case NOT_WRITTEN:
                say_state(scribe, false, "the new process could not write them");
                return false;
        case NOBODY_THERE:
                close(scribe->heir_fd);
                scribe->heir_fd = -1;
                return false;
        }
        return false;
}

static bool pass_events(struct scribe *scribe)
{
        struct str bodies = buf_str(&scribe->events);
        unsigned n = 0;

        for (size_t i = 0; i < bodies.len; i++)
                n += bodies.ptr[i] == '\n';
        if (n == 0)
                return true;
        if (!went(scribe, pass(scribe->heir_fd, bodies, n, true)))
                return false;
        buf_reset(&scribe->events);
        return true;
}

bool scribe_pass_on(struct scribe *scribe)
{
        bool ok = scribe->heir_fd >= 0 && pass_events(scribe);
        struct mail *mail;

        while (ok && (mail = scribe->first)) {
                struct audit_batch *batch = (struct audit_batch *)mail;
                ok = went(scribe, pass(scribe->heir_fd, buf_str(&batch->records), batch->n,
                                          batch->durable || scribe->durability == SCRIBE_SYNC_ALL));
                /* Whether the other one has written it before it went is not known: it is sent back
                 * to be posted again, and in doubt is there twice. */
                if (!ok)
                        break;
                scribe->first = mail->next;
                if (!scribe->first)
                        scribe->last = &scribe->first;
                scribe_answer(batch, true);
        }
        if (!ok && scribe->heir_fd < 0 && take_back(scribe))
                return scribe_commit(scribe);
        while (!ok && (mail = scribe->first)) {
                struct audit_batch *batch = (struct audit_batch *)mail;
                scribe->first = mail->next;
                scribe->failed_records += batch->n;
                scribe->stats.refused_records += batch->n;
                scribe_answer(batch, false);
        }
        if (!scribe->first)
                scribe->last = &scribe->first;
        return ok;
}
