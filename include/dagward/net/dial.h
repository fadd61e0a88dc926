/*
 * dial: one outgoing connection of a thread that may wait, plain or TLS.
 *
 * For what is sent and not answered, like syslog. Making the connection waits (also for the name
 * service, which cannot be interrupted); sending does not. It can tell how much of what was sent
 * the other machine has acknowledged. Knows no protocol.
 */
#ifndef DAGWARD_NET_DIAL_H
#define DAGWARD_NET_DIAL_H

#include "dagward/base/error.h"
#include "dagward/net/tls.h"

struct dial;

struct dial_settings {
        const char *host; /* a name or an address; the certificate must be for it */
        uint16_t port;
        const struct tls_context *tls;  /* NULL: plain */
        int64_t timeout_ms;             /* for connecting and TLS together, each address */
        bool (*cancelled)(void *owner); /* asked while it waits; NULL: never */
        void *owner;
};

/* NULL with a reason. Close with dial_close. */
struct dial *dial_open(const struct dial_settings *settings, struct error *err)
        __attribute__((warn_unused_result));
/* A datagram socket of this machine (/dev/log). */
struct dial *dial_unix(const char *path, struct error *err) __attribute__((warn_unused_result));
/* Harmless on NULL. */
void dial_close(struct dial *dial);

/* For poll. */
int dial_fd(const struct dial *dial);
/* Bytes taken; 0: no room now (wait for `*events`); -1: broken. A datagram is taken whole. */
ssize_t dial_send(struct dial *dial, struct str bytes, short *events, struct error *err)
        __attribute__((warn_unused_result));

enum dial_peer {
        DIAL_OPEN,   /* whatever it said was thrown away */
        DIAL_ENDED,  /* it has finished sending, in order */
        DIAL_BROKEN, /* reset, or broken TLS */
};
/* What the peer says is read and thrown away; of one that says much, a part, so that nobody is
 * held: what is left is still there to poll for. */
enum dial_peer dial_listen(struct dial *dial, struct error *err);
/* No more will be sent; the peer is told. */
void dial_finish(struct dial *dial);

/* Bytes on the wire so far (TLS: records and handshake included), and how many of them the other
 * machine's kernel has acknowledged: that a program there has read them is not known. */
uint64_t dial_sent(const struct dial *dial);
uint64_t dial_acknowledged(const struct dial *dial);

#endif
