/*
 * stdout: one record a line, for whatever collects the output of a container.
 *
 * The descriptor is shared with whoever started the process, so that its mode is left alone: a pipe
 * is only written to when it has room, and at most as much as fits then (POSIX, PIPE_BUF).
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "inside.h"

enum { FILE_PIECE = 64 * 1024, WAIT_MS = 60 * 1000 };

/* What has been read and not been written. */
struct gathered {
        struct buf bytes;
        size_t piece; /* at most so much is gathered before it is written */
        bool socket;
        uint64_t seq, records, size;
        char hash[CHAIN_HEX];
};

static ssize_t write_some(const struct gathered *g, struct str bytes)
{
        if (g->socket)
                return send(STDOUT_FILENO, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        return write(STDOUT_FILENO, bytes.ptr, bytes.len < g->piece ? bytes.len : g->piece);
}

/* False with a reason, or without one (text empty) when the time is over. */
static bool write_all(struct sink *sink, struct gathered *g, struct error *err)
{
        struct str left = buf_str(&g->bytes);

        err->text[0] = '\0';
        while (left.len) {
                short found = sink_wait(sink, STDOUT_FILENO, POLLOUT, WAIT_MS);
                if (found & POLLNVAL)
                        return error_set(err, "standard output is closed");
                if (found) {
                        ssize_t n = write_some(g, left);
                        if (n < 0 && errno != EAGAIN && errno != EINTR)
                                return error_set(err, "standard output: %s", strerror(errno));
                        if (n > 0)
                                sink->torn = left.ptr[n - 1] != '\n';
                        left = str_from(left, n > 0 ? (size_t)n : 0);
                }
                if (left.len && sink_over(sink))
                        return false;
        }
        return true;
}

static void take(struct gathered *g, const struct tail_record *record)
{
        buf_str_add(&g->bytes, record->line);
        buf_char(&g->bytes, '\n');
        g->seq = record->seq;
        g->records++;
        g->size += record->line.len + 1;
        memset(g->hash, '0', CHAIN_HEX);
        if (record->hash.len)
                memcpy(g->hash, record->hash.ptr, CHAIN_HEX);
}

/* Whole lines, as many as a piece holds, or one that is longer. */
static bool hand_on(struct sink *sink, struct gathered *g, struct error *err)
{
        struct tail_record record;
        bool more = sink_next(sink, &record);

        while (more) {
                take(g, &record);
                more = sink_next(sink, &record);
                if (more && g->bytes.len + record.line.len + 1 <= g->piece)
                        continue;
                if (!write_all(sink, g, err))
                        return false;
                sink_delivered(sink, g->seq, g->records, g->size);
                sink_confirm(sink, g->seq, g->hash);
                buf_reset(&g->bytes);
                g->records = g->size = 0;
        }
        return true;
}

bool stdout_deliver(struct sink *sink, struct error *err)
{
        struct gathered g = {.piece = PIPE_BUF};
        struct stat info;
        bool ok;

        if (fstat(STDOUT_FILENO, &info) != 0)
                return error_set(err, "standard output is closed");
        g.socket = S_ISSOCK(info.st_mode);
        if (g.socket || S_ISREG(info.st_mode))
                g.piece = FILE_PIECE;
        buf_init(&g.bytes, FILE_PIECE + CHAIN_LINE_MOST + 2);
        /* A line that was begun is not continued, but sent again. */
        if (sink->torn)
                buf_char(&g.bytes, '\n');
        while ((ok = hand_on(sink, &g, err)) && !sink->stop)
                (void)sink_wait(sink, -1, 0, WAIT_MS);
        buf_clear(&g.bytes);
        return ok || sink_over(sink);
}
