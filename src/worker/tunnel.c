/*
 * tunnel: the way through the outgoing proxy.
 *
 * A new connection to a host behind it is one to the proxy, which is asked for a way (CONNECT) and
 * told host and port only. Until it has said yes the connection is in plain, and nothing else is
 * put on it: the request is not even composed. Then TLS begins, with the host, whose certificate is
 * verified as ever; a proxy that looks into it is a certificate that is not accepted.
 */
#include "inside.h"

#include <assert.h>

#include "dagward/http/connect.h"

/* That of the exchange's world, or of a newer one from which the address was had. */
static const struct egress *egress_of(const struct exchange *x, uint64_t number)
{
        const struct egress *here = x->world->egress, *newest = x->worker->lease->world->egress;

        if (here && here->number == number)
                return here;
        return newest && newest->number == number ? newest : NULL;
}

bool tunnel_begin(struct exchange *x, struct upstream *upstream, const struct endpoint *endpoint,
        struct error *why)
{
        const struct egress *egress = egress_of(x, endpoint->via);
        char memory[4096];
        struct buf head;

        if (!egress)
                return error_set(why, "the outgoing proxy is another one now; try again");
        buf_init_fixed(&head, memory, sizeof(memory));
        connect_write(&head, endpoint->host, endpoint->port, secret_reveal(&egress->authorization));
        /* A name has 255 bytes and credentials have 1 KiB at most, and the stream is new. */
        bool ok = !head.overflow && stream_queue(&upstream->stream, buf_str(&head));
        secret_wipe(memory, head.len);
        assert(ok);
        upstream->by_proxy = upstream->tunnelling = true;
        return true;
}

static enum tunnel failed(
        struct exchange *x, int *status, struct error *why, int as, const char *text)
{
        *status = as;
        error_set(why, "%s cannot be reached: the outgoing proxy %s", x->upstream->host, text);
        log_info("correlation=%s outgoing_proxy=%s:%u %s", x->correlation_id,
                upstream_endpoint(x)->via_host, (unsigned)upstream_endpoint(x)->via_port,
                why->text);
        return TUNNEL_FAILED;
}

/* That it reaches nobody may be the fault of whom it was asked for: its address is not blamed. */
static enum tunnel refused(struct exchange *x, int *status, struct error *why, int said)
{
        (void)failed(x, status, why, connect_refusal_status(said), connect_refusal(said));
        return said >= 500 ? TUNNEL_SICK : TUNNEL_FAILED;
}

/* What is no answer of a proxy is held against its address. */
static enum tunnel broken(struct exchange *x, int *status, struct error *why, const char *text)
{
        (void)failed(x, status, why, 502, text);
        address_failed_for(x->upstream, FAULT_ANSWER, text);
        return TUNNEL_SICK;
}

/* What passes from here on is TLS. */
static enum tunnel secure(struct exchange *x, int *status, struct error *why)
{
        struct upstream *upstream = x->upstream;
        struct stream *stream = &upstream->stream;
        SSL *ssl = upstream_tls(x, stream->fd, upstream->host);

        stream_consume(stream, stream_in(stream).len);
        if (!ssl || !stream_secure(stream, ssl))
                return failed(x, status, why, 502, "opened a way, but TLS cannot begin");
        upstream->tunnelling = false;
        upstream->sent_before = 0;
        return TUNNEL_OPEN;
}

enum tunnel tunnel_go_on(struct exchange *x, int *status, struct error *why)
{
        struct upstream *upstream = x->upstream;
        struct stream *stream = &upstream->stream;
        int said;

        (void)stream_flush(stream); /* if it is broken, reading will tell */
        /* Of the request nothing has gone: it may be sent elsewhere. */
        upstream->sent_before = stream->sent;
        for (;;) {
                switch (connect_judge(stream_in(stream), &upstream->tunnel_scanned, &said)) {
                case CONNECT_OPEN: return secure(x, status, why);
                case CONNECT_NO: return refused(x, status, why, said);
                case CONNECT_STRAY: return broken(x, status, why, "sent more than its answer");
                case CONNECT_BROKEN:
                        return broken(x, status, why, "answered with something that is not HTTP");
                case CONNECT_AGAIN: break;
                }
                switch (stream_fill(stream)) {
                case STREAM_OK: continue;
                case STREAM_AGAIN: return TUNNEL_AGAIN;
                case STREAM_FULL: /* not with that little a head */
                case STREAM_EOF:
                case STREAM_ERROR: return TUNNEL_LOST;
                }
        }
}

const char *tunnel_words(const struct upstream *upstream)
{
        return upstream->by_proxy ? " through the outgoing proxy" : "";
}
