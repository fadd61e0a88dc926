#include "dagward/net/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "dagward/net/tls.h"

enum { MOST_FREE_BLOCKS = 256 };
enum { TLS_RECORD = 16 * 1024 };

static char *block_take(struct stream_blocks *blocks, size_t size)
{
        char *block = blocks->free;

        blocks->n_used++;
        if (block) {
                memcpy(&blocks->free, block, sizeof(void *));
                blocks->n_free--;
                return block;
        }
        block = malloc(size);
        if (!block)
                abort();
        return block;
}

static void block_return(struct stream_blocks *blocks, char **block)
{
        if (!*block)
                return;
        blocks->n_used--;
        if (blocks->n_free < MOST_FREE_BLOCKS) {
                memcpy(*block, &blocks->free, sizeof(void *));
                blocks->free = *block;
                blocks->n_free++;
        } else {
                free(*block);
        }
        *block = NULL;
}

static void blocks_clear(struct stream_blocks *blocks)
{
        while (blocks->free) {
                char *block = blocks->free;
                memcpy(&blocks->free, block, sizeof(void *));
                free(block);
        }
        blocks->n_free = 0;
}

void stream_pool_clear(struct stream_pool *pool)
{
        blocks_clear(&pool->plain);
        blocks_clear(&pool->ahead);
}

/* What has been read ahead wakes nobody by itself: the loop only knows the descriptor. */
static void wake_for_ahead(struct stream *stream)
{
        if (stream_ahead(stream) && stream->listening && !stream->stuck)
                stream_wake(stream);
}

static void await_bytes(struct stream *stream)
{
        if (stream->listening && !stream->stuck)
                event_add(&stream->read_event, NULL);
        else
                event_del(&stream->read_event);
        wake_for_ahead(stream);
}

/* TLS reads no further before it has said something. What is there to be read must not wake anybody
 * until then: a peer that takes nothing would keep the loop busy with that. */
static void stick(struct stream *stream, bool stuck)
{
        if (stuck == stream->stuck)
                return;
        stream->stuck = stuck;
        await_bytes(stream);
}

static void forget_ahead(struct stream *stream)
{
        stream->ahead_start = stream->ahead_end = 0;
        block_return(&stream->pool->ahead, &stream->ahead);
}

/* After each call that may have read. */
static void settle_ahead(struct stream *stream)
{
        if (!stream_ahead(stream) || stream->failed || stream->eof)
                forget_ahead(stream);
        else
                wake_for_ahead(stream);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
        struct stream *stream = arg;

        (void)fd;
        if (what & EV_WRITE) {
                stream->wants_write = false; /* the event was not persistent */
                stick(stream, false);
        }
        if (what & EV_TIMEOUT)
                stream->waking = false;
        if (what & (EV_READ | EV_TIMEOUT))
                stream->drained = false;
        stream->on_ready(stream, stream->owner);
        wake_for_ahead(stream);
}

/* Reads a record, or a part of one, and ahead: OpenSSL asks for the five bytes of its head first,
 * which would be a system call of its own. */
static int carry_in(BIO *bio, char *bytes, int len)
{
        struct stream *stream = BIO_get_data(bio);

        BIO_clear_retry_flags(bio);
        if (stream_ahead(stream)) {
                size_t n = stream_ahead(stream);
                if (n > (size_t)len)
                        n = (size_t)len;
                memcpy(bytes, stream->ahead + stream->ahead_start, n);
                stream->ahead_start += (uint32_t)n;
                return (int)n;
        }
        if (!stream->ahead)
                stream->ahead = block_take(&stream->pool->ahead, STREAM_AHEAD);
        struct iovec to[] = {
                {.iov_base = bytes, .iov_len = (size_t)len},
                {.iov_base = stream->ahead, .iov_len = STREAM_AHEAD},
        };
        ssize_t n = readv(stream->fd, to, 2);
        stream->drained = n < len + STREAM_AHEAD && (n >= 0 || errno != EINTR);
        stream->ahead_start = 0;
        stream->ahead_end = n > len ? (uint32_t)(n - len) : 0;
        if (n < 0 && BIO_sock_should_retry((int)n))
                BIO_set_retry_read(bio);
        if (n == 0)
                BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        return n > len ? len : (int)n;
}

static int carry_out(BIO *bio, const char *bytes, int len)
{
        const struct stream *stream = BIO_get_data(bio);
        ssize_t n = send(stream->fd, bytes, (size_t)len, MSG_NOSIGNAL);

        BIO_clear_retry_flags(bio);
        if (n < 0 && BIO_sock_should_retry((int)n))
                BIO_set_retry_write(bio);
        return (int)n;
}

static long carry_control(BIO *bio, int what, long number, void *arg)
{
        (void)number;
        (void)arg;
        switch (what) {
        case BIO_CTRL_EOF: return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
        case BIO_CTRL_FLUSH: return 1; /* nothing is kept */
        default: return 0;
        }
}

static pthread_once_t carrier_once = PTHREAD_ONCE_INIT;
static BIO_METHOD *carrier;

static void carrier_make(void)
{
        carrier = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
        if (!carrier || !BIO_meth_set_read(carrier, carry_in) ||
                !BIO_meth_set_write(carrier, carry_out) ||
                !BIO_meth_set_ctrl(carrier, carry_control))
                abort();
}

/* Lets TLS read and write through the stream. */
static void carry(struct stream *stream)
{
        pthread_once(&carrier_once, carrier_make);
        BIO *bio = BIO_new(carrier);
        if (!bio)
                abort();
        BIO_set_data(bio, stream);
        BIO_set_init(bio, 1);
        SSL_set_bio(stream->ssl, bio, bio);
}

void stream_open(struct stream *stream, struct event_base *base, struct stream_pool *pool, int fd,
        SSL *ssl, void (*on_ready)(struct stream *, void *), void *owner)
{
        *stream = (struct stream){
                .fd = fd, .ssl = ssl, .pool = pool, .on_ready = on_ready, .owner = owner};
        if (ssl)
                carry(stream);
        event_assign(&stream->read_event, base, fd, EV_READ | EV_PERSIST, on_event, stream);
        stream_listen(stream, true);
}

/* Made at the first need. */
static void event_await(struct stream *stream, struct event **event, int fd, short what,
        const struct timeval *after)
{
        if (!*event)
                *event = event_new(event_get_base(&stream->read_event), fd, what, on_event, stream);
        if (!*event)
                abort();
        event_add(*event, after);
}

static void event_drop(struct event **event)
{
        if (*event)
                event_free(*event);
        *event = NULL;
}

bool stream_secure(struct stream *stream, SSL *ssl)
{
        if (stream->ssl || stream->failed || stream->fd < 0 || stream_pending(stream) ||
                stream_in(stream).len) {
                SSL_free(ssl);
                return false;
        }
        stream->ssl = ssl;
        stream->sent = 0;
        stream->drained = false;
        carry(stream);
        return true;
}

void stream_close(struct stream *stream)
{
        if (stream->fd < 0)
                return;
        event_del(&stream->read_event);
        event_drop(&stream->write_event);
        event_drop(&stream->wake_event);
        if (stream->ssl) {
                if (!stream->failed && !stream->deaf && SSL_is_init_finished(stream->ssl))
                        SSL_shutdown(stream->ssl);
                SSL_free(stream->ssl);
                stream->ssl = NULL;
        }
        close(stream->fd);
        stream->fd = -1;
        block_return(&stream->pool->plain, &stream->in);
        block_return(&stream->pool->plain, &stream->out);
        forget_ahead(stream);
        stream->in_floor = stream->in_start = stream->in_end = 0;
        stream->out_start = stream->out_end = 0;
}

void stream_listen(struct stream *stream, bool on)
{
        if (on == stream->listening)
                return;
        stream->listening = on;
        await_bytes(stream);
}

void stream_wake(struct stream *stream)
{
        static const struct timeval at_once = {0, 0};

        /* A timer, because event_active would run us again before anybody else's descriptor is
         * looked at: libevent empties its queue of active events before it polls. */
        if (!stream->waking)
                event_await(stream, &stream->wake_event, -1, 0, &at_once);
        stream->waking = true;
}

static void want_write(struct stream *stream)
{
        if (!stream->wants_write) {
                stream->wants_write = true;
                event_await(stream, &stream->write_event, stream->fd, EV_WRITE, NULL);
        }
}

static void fail(struct stream *stream, int error)
{
        stream->failed = true;
        if (!stream->deaf) /* the first reason is the better one */
                stream->error = error;
        if (stream->error == 0) {
                stream->tls_verdict =
                        stream->ssl ? (int)SSL_get_verify_result(stream->ssl) : X509_V_OK;
                stream->tls_error = (uint32_t)ERR_peek_last_error();
                ERR_clear_error();
        }
}

/* Makes room behind in_end; false when the block is full. */
static bool in_room(struct stream *stream)
{
        if (!stream->in) {
                stream->in = block_take(&stream->pool->plain, STREAM_BLOCK);
                stream->in_floor = stream->in_start = stream->in_end = 0;
        }
        if (stream->in_start == stream->in_end)
                stream->in_start = stream->in_end = stream->in_floor;
        if (stream->in_end == STREAM_BLOCK && stream->in_start > stream->in_floor) {
                memmove(stream->in + stream->in_floor, stream->in + stream->in_start,
                        stream->in_end - stream->in_start);
                stream->in_end -= stream->in_start - stream->in_floor;
                stream->in_start = stream->in_floor;
        }
        return stream->in_end < STREAM_BLOCK;
}

static enum stream_io read_tls(struct stream *stream, size_t room)
{
        ERR_clear_error();
        int n = SSL_read(stream->ssl, stream->in + stream->in_end, (int)room);
        if (stream->unsent && SSL_is_init_finished(stream->ssl)) {
                stream->unsent = false;
                stream_wake(stream);
        }
        if (n > 0) {
                stream->in_end += (uint32_t)n;
                stick(stream, false);
                return STREAM_OK;
        }
        int why = SSL_get_error(stream->ssl, n);
        stick(stream, why == SSL_ERROR_WANT_WRITE);
        switch (why) {
        case SSL_ERROR_WANT_READ: return STREAM_AGAIN;
        case SSL_ERROR_WANT_WRITE:
                stream->drained = false; /* it goes on with reading, whether or not more comes */
                want_write(stream);
                return STREAM_AGAIN;
        case SSL_ERROR_ZERO_RETURN: stream->eof = true; return STREAM_EOF;
        case SSL_ERROR_SYSCALL: fail(stream, errno ? errno : ECONNRESET); return STREAM_ERROR;
        default: fail(stream, 0); return STREAM_ERROR;
        }
}

static enum stream_io fill_tls(struct stream *stream, size_t room)
{
        enum stream_io io = read_tls(stream, room);

        settle_ahead(stream);
        return io;
}

static enum stream_io fill_plain(struct stream *stream, size_t room)
{
        ssize_t n = recv(stream->fd, stream->in + stream->in_end, room, 0);

        if (n > 0) {
                stream->in_end += (uint32_t)n;
                /* A short read emptied the socket: the loop will say when there is more. */
                stream->drained = (size_t)n < room;
                return STREAM_OK;
        }
        if (n == 0) {
                stream->eof = true;
                return STREAM_EOF;
        }
        if (errno == EAGAIN || errno == EINTR) {
                stream->drained = errno == EAGAIN;
                return STREAM_AGAIN;
        }
        fail(stream, errno);
        return STREAM_ERROR;
}

enum stream_io stream_fill(struct stream *stream)
{
        if (stream->failed || stream->fd < 0)
                return STREAM_ERROR;
        if (stream->eof)
                return STREAM_EOF;
        if (stream_is_drained(stream))
                return STREAM_AGAIN;
        if (!in_room(stream))
                return STREAM_FULL;
        size_t room = STREAM_BLOCK - stream->in_end;
        enum stream_io io = stream->ssl ? fill_tls(stream, room) : fill_plain(stream, room);
        if (io != STREAM_OK && stream->in_start == stream->in_end && stream->in_floor == 0)
                block_return(&stream->pool->plain, &stream->in);
        return io;
}

void stream_consume(struct stream *stream, size_t len)
{
        assert(len <= stream->in_end - stream->in_start);
        stream->in_start += (uint32_t)len;
        if (stream->in_start == stream->in_end && stream->in_floor == 0) {
                stream->in_start = stream->in_end = 0;
                block_return(&stream->pool->plain, &stream->in);
        }
}

void stream_fix(struct stream *stream, size_t len)
{
        assert(len <= stream->in_end - stream->in_start);
        stream->in_start += (uint32_t)len;
        stream->in_floor = stream->in_start;
}

void stream_unfix(struct stream *stream)
{
        size_t left = stream->in_end - stream->in_start;

        stream->in_floor = 0;
        if (left && stream->in_start)
                memmove(stream->in, stream->in + stream->in_start, left);
        stream->in_start = 0;
        stream->in_end = (uint32_t)left;
        if (left == 0)
                block_return(&stream->pool->plain, &stream->in);
}

bool stream_queue(struct stream *stream, struct str bytes)
{
        if (bytes.len > stream_room(stream))
                return false;
        if (bytes.len == 0)
                return true;
        if (!stream->out)
                stream->out = block_take(&stream->pool->plain, STREAM_BLOCK);
        if (bytes.len > STREAM_BLOCK - stream->out_end) {
                memmove(stream->out, stream->out + stream->out_start,
                        stream->out_end - stream->out_start);
                stream->out_end -= stream->out_start;
                stream->out_start = 0;
        }
        memcpy(stream->out + stream->out_end, bytes.ptr, bytes.len);
        stream->out_end += (uint32_t)bytes.len;
        return true;
}

static ssize_t put_tls(struct stream *stream, const char *bytes, size_t len)
{
        ERR_clear_error();
        int n = SSL_write(stream->ssl, bytes, len > TLS_RECORD ? TLS_RECORD : (int)len);
        if (n > 0) {
                stream->unsent = false;
                stream->sent += (size_t)n;
                return n;
        }
        switch (SSL_get_error(stream->ssl, n)) {
        case SSL_ERROR_WANT_WRITE: want_write(stream); return 0;
        case SSL_ERROR_WANT_READ: stream->unsent = true; return 0; /* the handshake */
        case SSL_ERROR_SYSCALL:
                stream->deaf = true;
                stream->error = errno ? errno : ECONNRESET;
                return -1;
        default: fail(stream, 0); return -1;
        }
}

/* One write: bytes taken, 0 for "later", -1 for broken. */
static ssize_t put(struct stream *stream, const char *bytes, size_t len)
{
        if (stream->failed || stream->deaf || stream->fd < 0)
                return -1;
        if (!stream->ssl) {
                ssize_t n = send(stream->fd, bytes, len, MSG_NOSIGNAL);
                if (n >= 0) {
                        stream->sent += (size_t)n;
                        return n;
                }
                if (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) {
                        want_write(stream);
                        return 0;
                }
                stream->deaf = true;
                stream->error = errno;
                return -1;
        }
        ssize_t taken = put_tls(stream, bytes, len);
        settle_ahead(stream); /* a handshake reads */
        return taken;
}

enum stream_io stream_flush(struct stream *stream)
{
        while (stream_pending(stream)) {
                ssize_t n = put(stream, stream->out + stream->out_start,
                        stream->out_end - stream->out_start);
                if (n < 0)
                        return STREAM_ERROR;
                if (n == 0)
                        return STREAM_AGAIN;
                stream->out_start += (uint32_t)n;
        }
        stream->out_start = stream->out_end = 0;
        block_return(&stream->pool->plain, &stream->out);
        return STREAM_OK;
}

ssize_t stream_write(struct stream *stream, struct str bytes)
{
        assert(!stream_pending(stream));
        return bytes.len ? put(stream, bytes.ptr, bytes.len) : 0;
}

void stream_finish(struct stream *stream)
{
        if (stream->fd < 0 || stream->failed || stream->deaf)
                return;
        if (stream->ssl && SSL_is_init_finished(stream->ssl))
                SSL_shutdown(stream->ssl);
        shutdown(stream->fd, SHUT_WR);
}

void stream_abort(struct stream *stream)
{
        struct linger now = {.l_onoff = 1};

        if (stream->fd < 0)
                return;
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        stream->failed = true;
        stream_close(stream);
}

const char *stream_why(const struct stream *stream)
{
        static _Thread_local char text[96];

        if (stream->error)
                return strerror(stream->error);
        if (!stream_tls_failed(stream))
                return "connection closed";
        if (stream->tls_verdict == X509_V_OK)
                snprintf(text, sizeof(text), "TLS: %s", tls_error_text(stream->tls_error));
        else
                snprintf(text, sizeof(text), "TLS: certificate not accepted: %s",
                        X509_verify_cert_error_string(stream->tls_verdict));
        return text;
}
