/*
 * syslog: messages over TCP or TLS, each with its length in front, or to a socket of this machine.
 *
 * The protocol has no acknowledgement. What is known is what the other machine's kernel has
 * acknowledged; that a program there has read it is not. So a restart goes on behind what was
 * acknowledged some seconds ago on a connection that still stands, and when a connection breaks,
 * everything after that is sent again.
 */
#include "dagward/sink/syslog.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/net/dial.h"
#include "inside.h"

enum {
        GROUP_BYTES = 64 * 1024, /* taken from the log at once */
        MARKS = 1024,
        SETTLE_MS = 5 * 1000, /* acknowledged so long ago, it counts as read */
        STALL_MS = 30 * 1000,
        CONNECT_MS = 5 * 1000,
        LOOK_MS = 100,      /* at acknowledgements, while some are missing */
        FAREWELL_MS = 2000, /* for the server to end the connection as well */
        IDLE_MS = 60 * 1000,
};

/* Records that were sent together. */
struct sent_mark {
        uint64_t seq, records, bytes;
        uint64_t end; /* of the connection's bytes */
        char hash[CHAIN_HEX];
        int64_t settled_ms; /* monotonic; counts as read from then on */
};

struct talk {
        struct sink *sink;
        struct syslog_writer writer;
        struct dial *dial;
        bool datagrams, plain;
        struct buf out;
        size_t out_start;
        struct sent_mark filling;      /* what `out` holds */
        struct sent_mark marks[MARKS]; /* a ring: first those that were acknowledged */
        size_t first, n, n_acknowledged;
        bool starved; /* there were no more records */
        short events; /* what sending waits for */
        int64_t moved_ms;
        uint64_t acknowledged;
};

static struct sent_mark *mark_at(struct talk *t, size_t i)
{
        return &t->marks[(t->first + i) % MARKS];
}

/* --- connecting --- */

static bool open_dial(struct talk *t, struct error *err)
{
        const struct sink_syslog *s = &t->sink->settings->syslog;
        struct tls_context *tls = NULL;

        if (s->transport == SINK_UNIX) {
                t->dial = dial_unix(s->host, err);
                return t->dial != NULL;
        }
        /* Read anew each time: files are replaced while nobody is told. */
        if (s->transport == SINK_TLS) {
                tls = tls_client_certified(s->ca, s->certificate, s->key, err);
                if (!tls)
                        return false;
        }
        struct dial_settings settings = {
                .host = s->host,
                .port = s->port,
                .tls = tls,
                .timeout_ms = CONNECT_MS,
                .cancelled = sink_cancelled,
                .owner = t->sink,
        };
        t->dial = dial_open(&settings, err);
        tls_unref(tls);
        return t->dial != NULL;
}

/* --- sending --- */

static void take(struct talk *t, const struct tail_record *record)
{
        syslog_write(&t->writer, record->line, !t->datagrams, &t->out);
        t->filling.seq = record->seq;
        t->filling.records++;
        t->filling.bytes += record->line.len + 1;
        memset(t->filling.hash, '0', CHAIN_HEX);
        if (record->hash.len)
                memcpy(t->filling.hash, record->hash.ptr, CHAIN_HEX);
}

static void fill(struct talk *t)
{
        struct tail_record record;

        if (t->out.len)
                return;
        t->filling = (struct sent_mark){.seq = 0};
        t->starved = false;
        while (t->out.len < (t->datagrams ? 1 : GROUP_BYTES) && !t->starved) {
                t->starved = !sink_next(t->sink, &record);
                if (!t->starved)
                        take(t, &record);
        }
}

/* All of `out` has gone. */
static void mark_sent(struct talk *t)
{
        struct sent_mark *last = t->n ? mark_at(t, t->n - 1) : NULL;

        t->filling.end = dial_sent(t->dial);
        buf_reset(&t->out);
        t->out_start = 0;
        if (t->n == MARKS && t->n_acknowledged < t->n) {
                /* More than one can keep apart: they are acknowledged together. */
                t->filling.records += last->records;
                t->filling.bytes += last->bytes;
                *last = t->filling;
                return;
        }
        if (t->n == MARKS) {
                sink_confirm(t->sink, mark_at(t, 0)->seq, mark_at(t, 0)->hash);
                t->first = (t->first + 1) % MARKS;
                t->n--;
                t->n_acknowledged--;
        }
        *mark_at(t, t->n++) = t->filling;
}

static bool flush(struct talk *t, struct error *err)
{
        t->events = 0;
        while (t->out_start < t->out.len) {
                ssize_t n = dial_send(
                        t->dial, str_from(buf_str(&t->out), t->out_start), &t->events, err);
                if (n < 0 && t->datagrams && errno == EMSGSIZE) {
                        sink_lose(t->sink, SINK_LOST_TOO_LARGE, t->filling.seq, t->filling.seq, 1);
                        t->filling.records = t->filling.bytes = 0;
                        n = (ssize_t)t->out.len;
                }
                if (n <= 0)
                        return n == 0;
                t->out_start += (size_t)n;
                t->moved_ms = clock_mono_ms();
        }
        if (t->out.len)
                mark_sent(t);
        return true;
}

/* --- what is known of it --- */

static void confirm_first(struct talk *t)
{
        struct sent_mark *mark = mark_at(t, 0);

        sink_confirm(t->sink, mark->seq, mark->hash);
        t->first = (t->first + 1) % MARKS;
        t->n--;
        if (t->n_acknowledged)
                t->n_acknowledged--;
}

static void look(struct talk *t)
{
        uint64_t acknowledged = dial_acknowledged(t->dial);
        int64_t now = clock_mono_ms(), settle = t->datagrams ? 0 : SETTLE_MS;

        if (acknowledged != t->acknowledged)
                t->moved_ms = now;
        t->acknowledged = acknowledged;
        while (t->n_acknowledged < t->n) {
                struct sent_mark *mark = mark_at(t, t->n_acknowledged);
                if (mark->end > acknowledged)
                        break;
                mark->settled_ms = now + settle;
                t->n_acknowledged++;
                sink_delivered(t->sink, mark->seq, mark->records, mark->bytes);
        }
        /* A server that does not read: what it has acknowledged is not read either. */
        if (t->n_acknowledged < t->n && now - t->moved_ms > LOOK_MS * 10)
                for (size_t i = 0; i < t->n_acknowledged; i++)
                        mark_at(t, i)->settled_ms = now + settle;
        while (t->n_acknowledged && mark_at(t, 0)->settled_ms <= now)
                confirm_first(t);
}

static bool pending(const struct talk *t)
{
        return t->out.len || t->n_acknowledged < t->n;
}

/* The server has ended the connection in order; a kernel does that only for a program that has read
 * all there was (else it is a reset). TLS can end above that, and is believed only when it was told
 * first. */
static void confirm_all(struct talk *t)
{
        while (t->n)
                confirm_first(t);
}

static int64_t next_look_ms(const struct talk *t)
{
        if (pending(t))
                return LOOK_MS;
        if (!t->n)
                return IDLE_MS;
        int64_t left = t->marks[t->first].settled_ms - clock_mono_ms();
        return left > 0 ? left : 0;
}

/* --- the talk --- */

enum outcome { TALK_FAILED, TALK_ENDED, TALK_DONE };

/* Tells the server that nothing more comes, and waits until it has read all. */
static enum outcome farewell(struct talk *t, struct error *err)
{
        int64_t until = clock_mono_ms() + FAREWELL_MS;

        if (!t->datagrams)
                dial_finish(t->dial);
        while (!t->datagrams && clock_mono_ms() < until && !sink_over(t->sink)) {
                (void)sink_wait(t->sink, dial_fd(t->dial), POLLIN, LOOK_MS);
                switch (dial_listen(t->dial, err)) {
                case DIAL_OPEN: continue;
                case DIAL_ENDED: confirm_all(t); return TALK_DONE;
                case DIAL_BROKEN: return TALK_FAILED;
                }
        }
        look(t);
        return TALK_DONE;
}

static enum outcome talk(struct talk *t, struct error *err)
{
        t->moved_ms = clock_mono_ms();
        for (;;) {
                int64_t now;
                fill(t);
                if (!flush(t, err))
                        return TALK_FAILED;
                look(t);
                enum dial_peer peer = t->datagrams ? DIAL_OPEN : dial_listen(t->dial, err);
                if (peer == DIAL_BROKEN)
                        return TALK_FAILED;
                if (peer == DIAL_ENDED) {
                        look(t);
                        if (!pending(t) && (t->plain || !t->n))
                                return TALK_ENDED;
                        (void)error_set(err, "the server closed the connection");
                        return TALK_FAILED;
                }
                now = clock_mono_ms();
                if (!pending(t))
                        t->moved_ms = now;
                if (now - t->moved_ms > STALL_MS) {
                        (void)error_set(
                                err, "the server has taken nothing for %d s", STALL_MS / 1000);
                        return TALK_FAILED;
                }
                if (sink_over(t->sink))
                        return TALK_DONE;
                if (t->sink->stop && !pending(t))
                        return farewell(t, err);
                (void)sink_wait(t->sink, dial_fd(t->dial), (short)(POLLIN | t->events),
                        t->out.len || t->starved ? next_look_ms(t) : 0);
        }
}

/* What may have arrived or not is sent again. */
static void count_unconfirmed(struct talk *t)
{
        for (size_t i = 0; i < t->n; i++)
                t->sink->stats.unconfirmed += mark_at(t, i)->records;
        if (t->out_start)
                t->sink->stats.unconfirmed += t->filling.records;
}

static void hang_up(struct talk *t)
{
        dial_close(t->dial);
        t->dial = NULL;
        buf_reset(&t->out);
        t->out_start = t->first = t->n = t->n_acknowledged = 0;
        t->acknowledged = 0;
}

/* After the server has ended the connection: another one when there is something to send. */
static void wait_for_records(struct sink *sink)
{
        while (!sink->stop && tail_seq(sink->tail) >= sink->known)
                (void)sink_wait(sink, -1, 0, IDLE_MS);
}

bool syslog_deliver(struct sink *sink, struct error *err)
{
        struct talk *t = calloc(1, sizeof(*t));
        enum outcome outcome = TALK_ENDED;

        if (!t)
                abort();
        t->sink = sink;
        t->datagrams = sink->settings->syslog.transport == SINK_UNIX;
        t->plain = sink->settings->syslog.transport == SINK_TCP;
        syslog_writer_init(&t->writer, &sink->settings->syslog);
        buf_init(&t->out, GROUP_BYTES + 2 * CHAIN_LINE_MOST);
        while (outcome == TALK_ENDED && open_dial(t, err)) {
                outcome = talk(t, err);
                if (outcome == TALK_ENDED)
                        confirm_all(t);
                else if (outcome == TALK_FAILED)
                        count_unconfirmed(t);
                hang_up(t);
                if (outcome == TALK_ENDED)
                        wait_for_records(sink);
        }
        syslog_writer_clear(&t->writer);
        buf_clear(&t->out);
        free(t);
        return outcome == TALK_DONE;
}
