#include "pipe.h"

#include "dagward/http/h1_write.h"

enum { ROUNDS = 16 };           /* reads per call, so that one busy stream cannot starve the rest */
enum { COPY_MOST = 16 * 1024 }; /* payload that is worth a copy to save a system call */
enum { MARKS = 24 };            /* room for the marks of one chunk */
enum { QUEUE_MOST = 64 * 1024 }; /* queued bytes after which they are sent */

void pipe_init(struct pipe *pipe, struct stream *from, struct stream *to, enum h1_framing arrives,
        uint64_t length, enum h1_framing leaves)
{
        *pipe = (struct pipe){.from = from, .to = to, .framing = leaves};
        h1_body_init(&pipe->body, arrives, length);
}

/* Payload that has gone: forgets it and the framing behind it. */
static void passed(struct pipe *pipe, size_t len)
{
        if (pipe->copy)
                buf_str_add(pipe->copy, str_head(stream_in(pipe->from), len));
        pipe->payload_left -= len;
        pipe->moved += len;
        if (pipe->payload_left == 0) {
                len += pipe->tail;
                pipe->tail = 0;
        }
        stream_consume(pipe->from, len);
}

/* Finds the next payload in what was received. False: there is none yet, or a fault. */
static bool next_payload(struct pipe *pipe)
{
        while (!pipe->body.done) {
                struct str in = stream_in(pipe->from), payload;
                if (in.len == 0)
                        return false;
                ssize_t n = h1_body_next(&pipe->body, in.ptr, in.len, &payload, &pipe->fault);
                if (n < 0)
                        return false;
                if (payload.len == 0) {
                        stream_consume(pipe->from, (size_t)n);
                        continue;
                }
                size_t lead = (size_t)(payload.ptr - in.ptr);
                pipe->payload_left = payload.len;
                pipe->tail = (size_t)n - lead - payload.len;
                stream_consume(pipe->from, lead);
                return true;
        }
        return false;
}

/* Puts payload (and its chunk marks) into the receiver's output block; bytes taken. */
static size_t queue_payload(struct pipe *pipe)
{
        struct stream *to = pipe->to;
        size_t room = stream_room(to), len = pipe->payload_left;

        if (room <= MARKS)
                return 0;
        if (len > room - MARKS)
                len = room - MARKS;
        bool ok = true;
        if (pipe->framing == H1_CHUNKED) {
                char head[20];
                ok = stream_queue(to, str_view(head, h1_chunk_head(head, len)));
        }
        ok = ok && stream_queue(to, str_head(stream_in(pipe->from), len));
        if (pipe->framing == H1_CHUNKED)
                ok = ok && stream_queue(to, STR(H1_CHUNK_TAIL));
        return ok ? len : 0; /* always ok: the room was counted */
}

enum { PIECE = 16 * 1024 }; /* rewritten bytes that become one chunk */

static void queue_chunk(struct pipe *pipe, struct str bytes)
{
        char head[20];
        bool chunked = pipe->framing == H1_CHUNKED;

        if (bytes.len == 0)
                return;
        bool ok = (!chunked ||
                          stream_queue(pipe->to, str_view(head, h1_chunk_head(head, bytes.len)))) &&
                  stream_queue(pipe->to, bytes) &&
                  (!chunked || stream_queue(pipe->to, STR(H1_CHUNK_TAIL)));
        (void)ok; /* the room was counted */
}

/* Makes room for one piece in the receiver's output block. */
static enum pipe_state make_room(struct pipe *pipe)
{
        enum stream_io io =
                stream_room(pipe->to) < PIECE + MARKS ? stream_flush(pipe->to) : STREAM_OK;

        if (io == STREAM_ERROR)
                return PIPE_TO_BROKEN;
        return stream_room(pipe->to) < PIECE + MARKS ? PIPE_BLOCKED : PIPE_HUNGRY;
}

/* The same through a rewrite. */
static enum pipe_state send_rewritten(struct pipe *pipe)
{
        static _Thread_local char memory[PIECE];

        while (pipe->payload_left || rewrite_waits(pipe->rewrite)) {
                struct buf piece;
                enum pipe_state state = make_room(pipe);
                if (state != PIPE_HUNGRY)
                        return state;
                buf_init_fixed(&piece, memory, sizeof(memory));
                struct str in = str_head(stream_in(pipe->from), pipe->payload_left);
                size_t taken = rewrite_feed(pipe->rewrite, in, &piece);
                if (pipe->payload_left)
                        passed(pipe, taken);
                queue_chunk(pipe, buf_str(&piece));
                if (pipe->rewrite->damaged) {
                        pipe->fault = (struct h1_fault){502, "RFC 1952", "the gzip is damaged", 0};
                        return PIPE_BAD;
                }
        }
        return PIPE_HUNGRY;
}

/* What the rewrite still held when the body ended. */
static enum pipe_state end_rewritten(struct pipe *pipe)
{
        char memory[LINKS_ROOM];
        struct buf piece;
        enum pipe_state state = make_room(pipe);

        if (state != PIPE_HUNGRY)
                return state;
        buf_init_fixed(&piece, memory, sizeof(memory));
        if (!rewrite_end(pipe->rewrite, &piece)) {
                pipe->fault = (struct h1_fault){502, "RFC 1952", "the gzip is cut short", 0};
                return PIPE_BAD;
        }
        queue_chunk(pipe, buf_str(&piece));
        pipe->rewrite = NULL;
        return PIPE_HUNGRY;
}

/* Passes payload on. PIPE_HUNGRY: all of it. */
static enum pipe_state send_payload(struct pipe *pipe)
{
        struct stream *to = pipe->to;

        if (pipe->rewrite)
                return send_rewritten(pipe);
        while (pipe->payload_left) {
                if (!to) {
                        passed(pipe, pipe->payload_left);
                        return PIPE_HUNGRY;
                }
                bool copy = pipe->framing == H1_CHUNKED ||
                            (stream_pending(to) && pipe->payload_left <= COPY_MOST);
                if (copy && to->out_end - to->out_start < QUEUE_MOST) {
                        passed(pipe, queue_payload(pipe));
                        continue;
                }
                if (stream_pending(to)) {
                        enum stream_io io = stream_flush(to);
                        if (io != STREAM_OK)
                                return io == STREAM_ERROR ? PIPE_TO_BROKEN : PIPE_BLOCKED;
                        continue;
                }
                ssize_t n = stream_write(to, str_head(stream_in(pipe->from), pipe->payload_left));
                if (n <= 0)
                        return n < 0 ? PIPE_TO_BROKEN : PIPE_BLOCKED;
                passed(pipe, (size_t)n);
        }
        return PIPE_HUNGRY;
}

/* The body is known to end together with its last payload, which may not have gone yet. */
static bool all_passed(const struct pipe *pipe)
{
        return pipe->body.done && pipe->payload_left == 0 &&
               (!pipe->rewrite || !rewrite_waits(pipe->rewrite));
}

/* Queues the end of the body, once; sends what is queued. */
static enum pipe_state end_and_flush(struct pipe *pipe)
{
        bool whole = all_passed(pipe);

        if (whole && pipe->rewrite) {
                enum pipe_state state = end_rewritten(pipe);
                if (state != PIPE_HUNGRY)
                        return state;
        }
        if (whole && !pipe->ended && pipe->to && pipe->framing == H1_CHUNKED) {
                if (!stream_queue(pipe->to, STR(H1_CHUNK_LAST)))
                        return stream_flush(pipe->to) == STREAM_ERROR ? PIPE_TO_BROKEN
                                                                      : PIPE_BLOCKED;
        }
        pipe->ended = whole;
        enum stream_io io = pipe->to ? stream_flush(pipe->to) : STREAM_OK;
        if (io == STREAM_ERROR)
                return PIPE_TO_BROKEN;
        if (io == STREAM_AGAIN)
                return PIPE_BLOCKED;
        return pipe->ended ? PIPE_DONE : PIPE_HUNGRY;
}

enum pipe_state pipe_pump(struct pipe *pipe)
{
        for (int round = 0; round < ROUNDS; round++) {
                enum pipe_state state = send_payload(pipe);
                if (state != PIPE_HUNGRY)
                        return state;
                if (next_payload(pipe))
                        continue;
                if (pipe->fault.why)
                        return PIPE_BAD;
                if (pipe->body.done)
                        return end_and_flush(pipe);
                switch (stream_fill(pipe->from)) {
                case STREAM_OK: continue;
                case STREAM_FULL: /* cannot be: what was received has been passed on */
                case STREAM_AGAIN: return end_and_flush(pipe);
                case STREAM_EOF:
                        if (!h1_body_close(&pipe->body))
                                return PIPE_CUT;
                        continue;
                case STREAM_ERROR: return PIPE_FROM_BROKEN;
                }
        }
        return end_and_flush(pipe) == PIPE_TO_BROKEN ? PIPE_TO_BROKEN : PIPE_MORE;
}
