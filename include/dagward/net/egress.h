/*
 * egress: the outgoing proxy of the network, and what does not go through it.
 *
 * Only TLS goes through it, in a tunnel (CONNECT, RFC 9110 9.3.6): the proxy learns a host, a port
 * and how many bytes pass. Plain http, loopback and link-local addresses (where machines keep their
 * metadata services) never do, whatever is configured. Immutable and counted; knows no HTTP and no
 * configuration. A NULL egress is the direct way to everywhere.
 */
#ifndef DAGWARD_NET_EGRESS_H
#define DAGWARD_NET_EGRESS_H

#include "dagward/base/secret.h"
#include "dagward/base/snapshot.h"
#include "dagward/base/str.h"

struct egress_exception; /* private to egress.c */

struct egress {
        struct snapshot snap;
        uint64_t number; /* of no other one in this process, never 0 */
        char host[256];  /* of the proxy: name or address, IPv6 without brackets */
        uint16_t port;
        char text[288]; /* "http://host:port", for people */
        char from[64];  /* what named it: a setting or a variable, for people */
        /* The value of Proxy-Authorization; empty: none is sent. Set before it is shared. */
        struct secret authorization;
        struct egress_exception *exceptions;
        size_t n_exceptions;
        bool excepts_all;
};

/* With one reference, and without exceptions. `host` at most 255 characters. */
struct egress *egress_new(struct str host, uint16_t port, const char *from);
/* Before it is shared: what is reached directly. "*", an address, a network ("10.0.0.0/8"), or a
 * name that stands for the names below it as well, with or without "." or "*." in front (as curl
 * reads NO_PROXY). False: none of these. */
bool egress_except(struct egress *egress, struct str item) __attribute__((warn_unused_result));
/* Whether `item` could be an exception. */
bool egress_exception_ok(struct str item);
/* Whether TLS to that host goes through the proxy. `host`: a name or an address, IPv6 with or
 * without brackets. */
bool egress_serves(const struct egress *egress, const char *host);

static inline struct egress *egress_ref(struct egress *egress)
{
        if (egress)
                snapshot_ref(&egress->snap);
        return egress;
}

static inline void egress_unref(struct egress *egress)
{
        if (egress)
                snapshot_unref(&egress->snap);
}

#endif
