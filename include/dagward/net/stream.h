/*
 * stream: one connected descriptor, plain or TLS, with one input and one output block.
 *
 *      in   [ floor | ... start ====received==== end ... ]     block of STREAM_BLOCK bytes
 *      out  [ start ===not yet sent=== end ............... ]   block, taken when needed
 *
 * Blocks come from a pool of the owner's thread when bytes arrive and go back when they are empty:
 * an idle stream holds none. `floor` protects bytes that views still point into: what arrives
 * later is never put below it. Backpressure is the reader's: a full block is not read into, and
 * stream_listen(false) stops the descriptor from waking anybody. The stream knows no protocol.
 *
 * `on_ready` runs when the descriptor can be read or written; which of the two does not matter,
 * TLS may want either. It may close the stream, but must not free its memory before the loop turn
 * is over. One thread only.
 */
#ifndef DAGWARD_NET_STREAM_H
#define DAGWARD_NET_STREAM_H

#include <event2/event_struct.h>
#include <openssl/ssl.h>

#include "dagward/base/str.h"

enum { STREAM_BLOCK = 80 * 1024 }; /* the largest head, and 16 KiB (one TLS record) behind it */

/* How much is read behind what TLS asked for: head and body of a small record, or the rest of a
 * large one and the head of the next, come in one system call. */
enum { STREAM_AHEAD = 16 * 1024 };

struct stream_blocks {
        void *free; /* a list through their first bytes */
        unsigned n_free;
        unsigned n_used;
};

struct stream_pool {
        struct stream_blocks plain; /* of STREAM_BLOCK bytes */
        struct stream_blocks ahead; /* of STREAM_AHEAD bytes, not decrypted yet */
};

enum stream_io {
        STREAM_OK,    /* something was moved */
        STREAM_AGAIN, /* nothing to read now, or no room to write: on_ready will run */
        STREAM_FULL,  /* the input block is full: consume first */
        STREAM_EOF,   /* the peer has finished sending */
        STREAM_ERROR, /* the connection is broken; see stream_why */
};

struct stream {
        int fd;   /* -1 when closed */
        SSL *ssl; /* owned; NULL on plain connections */
        struct stream_pool *pool;
        struct event read_event;
        /* NULL until there is need: most connections rest, and there are many of them. */
        struct event *write_event, *wake_event;
        bool listening, wants_write, waking;
        bool drained; /* the last read took everything there was */
        bool eof, failed;
        bool deaf;       /* the peer takes no more bytes; what it said before can still be read */
        bool unsent;     /* TLS took nothing, because its handshake has to read first */
        bool stuck;      /* TLS reads nothing, because it has to send something first */
        int error;       /* errno of the failure, 0: TLS */
        int tls_verdict; /* when TLS failed: X509_V_OK, or what is wrong with the certificate */
        char *in, *out, *ahead;
        uint32_t in_floor, in_start, in_end;
        uint32_t out_start, out_end;
        uint32_t ahead_start, ahead_end;
        uint32_t tls_error; /* OpenSSL's code, when TLS failed: of 32 bits, for all its type */
        uint64_t sent;      /* bytes that the descriptor, or TLS, has taken */
        void (*on_ready)(struct stream *stream, void *owner);
        void *owner;
};

void stream_pool_clear(struct stream_pool *pool);

/* Takes over `fd` (non-blocking) and `ssl`, and starts listening for bytes. */
void stream_open(struct stream *stream, struct event_base *base, struct stream_pool *pool, int fd,
        SSL *ssl, void (*on_ready)(struct stream *, void *), void *owner);
/* Goes on in TLS. Nothing may be queued, nor received and not consumed: false when there is. `sent`
 * begins at 0 again. Takes over `ssl`, whatever it answers. */
bool stream_secure(struct stream *stream, SSL *ssl) __attribute__((warn_unused_result));
/* Gives everything back; harmless on a closed stream. TLS peers get a close_notify if it fits. */
void stream_close(struct stream *stream);
/* Whether readable bytes wake the owner. */
void stream_listen(struct stream *stream, bool on);
/* Runs on_ready once in the next loop turn, whatever the descriptor says and whether or not it is
 * listened to by then: for who stops in the middle of what has been received to let others have
 * their turn. */
void stream_wake(struct stream *stream);
/* Bytes of TLS that have been received and not been asked for yet. on_ready runs as if they still
 * were in the descriptor. */
static inline size_t stream_ahead(const struct stream *stream)
{
        return stream->ahead_end - stream->ahead_start;
}
/* Whether the loop has found it readable in this turn and on_ready has not run yet, or bytes have
 * been read ahead. */
static inline bool stream_has_news(const struct stream *stream)
{
        return (stream->read_event.ev_evcallback.evcb_flags & EVLIST_ACTIVE) ||
               stream_ahead(stream);
}
/* Whether there is TLS whose handshake is not over. */
static inline bool stream_is_shaking(const struct stream *stream)
{
        return stream->ssl && !SSL_is_init_finished(stream->ssl);
}
/* Whether the last read took everything there was. What has come since is not known yet. */
static inline bool stream_is_drained(const struct stream *stream)
{
        return stream->drained &&
               (!stream->ssl || (!stream_is_shaking(stream) && !stream_ahead(stream) &&
                                        SSL_pending(stream->ssl) == 0));
}
/* Has the next stream_fill ask the descriptor, though its last read took everything. */
static inline void stream_look_again(struct stream *stream)
{
        stream->drained = false;
}
/* Reads once, as much as there is room for, or a record of TLS. STREAM_AGAIN on TLS: that record
 * was none of the peer's bytes (a ticket, say); on_ready will run if there is more behind it. When
 * that ends a handshake for which something could not be sent, on_ready runs in the next turn, as
 * nothing need come from the peer any more. */
enum stream_io stream_fill(struct stream *stream);
/* What has been received and not consumed. */
static inline struct str stream_in(const struct stream *stream)
{
        return str_view(stream->in ? stream->in + stream->in_start : NULL,
                stream->in_end - stream->in_start);
}
/* Forgets `len` received bytes. An empty block without a floor goes back to the pool. */
void stream_consume(struct stream *stream, size_t len);
/* Forgets `len` received bytes, but keeps them, and all before, in place: views into them stay
 * valid until stream_unfix. */
void stream_fix(struct stream *stream, size_t len);
/* Views may go; unread bytes move to the front of the block. */
void stream_unfix(struct stream *stream);
/* Memory that the streams of a pool hold. */
static inline uint64_t stream_pool_bytes(const struct stream_pool *pool)
{
        return (uint64_t)pool->plain.n_used * STREAM_BLOCK +
               (uint64_t)pool->ahead.n_used * STREAM_AHEAD;
}
/* Room left in the output block. */
static inline size_t stream_room(const struct stream *stream)
{
        return STREAM_BLOCK - (stream->out_end - stream->out_start);
}
static inline bool stream_pending(const struct stream *stream)
{
        return stream->out_end > stream->out_start;
}
/* Appends to the output block; false if it does not fit (nothing is taken then). */
bool stream_queue(struct stream *stream, struct str bytes);
/* Sends the output block; STREAM_OK when all of it has gone. */
enum stream_io stream_flush(struct stream *stream);
/* Sends straight from the caller's memory, only when nothing is queued: bytes taken, 0 when the
 * descriptor has no room now (on_ready will run), -1 when it is broken. */
ssize_t stream_write(struct stream *stream, struct str bytes);
/* Half-closes: the peer sees the end, its bytes can still be read. Plain connections only send FIN,
 * TLS ones close_notify first. */
void stream_finish(struct stream *stream);
/* Closes so that the peer cannot take what it has for all there is: no close_notify, and a reset
 * instead of FIN. */
void stream_abort(struct stream *stream);
/* Whether it was TLS that failed, or the peer broke its rules: not the descriptor. */
static inline bool stream_tls_failed(const struct stream *stream)
{
        return stream->failed && stream->error == 0;
}
/* Why it failed, for a log. Static per thread. */
const char *stream_why(const struct stream *stream);

#endif
