/*
 * connect: how a proxy is asked for a tunnel, and what it says (RFC 9110 9.3.6).
 *
 * The head that asks names the place and nothing else: no field of a caller, no credential but the
 * proxy's own. The answer is parsed as strictly as any, within a small limit.
 */
#ifndef DAGWARD_HTTP_CONNECT_H
#define DAGWARD_HTTP_CONNECT_H

#include "dagward/base/buf.h"
#include "dagward/base/error.h"

enum { CONNECT_ANSWER_MOST = 16 * 1024 };

/* "CONNECT host:port HTTP/1.1" with its fields. `host`: a name or an address, IPv6 without
 * brackets. `authorization`: the value of Proxy-Authorization, secret; empty: none is sent. */
void connect_write(struct buf *out, const char *host, unsigned port, struct str authorization);

enum connect_answer {
        CONNECT_AGAIN, /* it is not complete yet */
        CONNECT_OPEN,  /* the tunnel is there */
        CONNECT_NO,    /* the proxy says no; `status` is its reason */
        CONNECT_STRAY, /* bytes stand behind a good answer: nobody but the proxy can have sent them,
                          since TLS is begun by us */
        CONNECT_BROKEN, /* that is no HTTP, or too much of it */
};

/* Looks at what has been received so far; `*scanned` as in h1_parse_response. `*status`: of the
 * answer, 0 when there is none. */
enum connect_answer connect_judge(struct str received, size_t *scanned, int *status);

/* What a proxy that does not open a tunnel says of the reason: "wants a user name and a password
 * (407)". Static per thread. */
const char *connect_refusal(int status);
/* What the client is told then: 503 and 504 pass by, anything else is a bad gateway. */
int connect_refusal_status(int status);

#endif
