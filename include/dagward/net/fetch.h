/*
 * fetch: small HTTP requests of the control thread, without waiting.
 *
 * For key sets, discovery documents and token endpoints: a bounded body, a deadline, a verified
 * certificate (chain and host name, TLS 1.2 or newer). Plain http is for loopback hosts and only
 * where the caller allows it. Proxies, .netrc and cookies of the environment are not used; the
 * outgoing proxy that was set is, for https only, and sees nothing of a request but its host. A
 * redirect is followed only for a GET without a secret, and only to the origin that was asked;
 * anything else is an answer with its status. Request bodies, bearer tokens and answers are wiped
 * when they are done with, and no error text holds a byte of them. The module knows no JSON and no
 * retry.
 *
 * One thread only: that of the event base.
 */
#ifndef DAGWARD_NET_FETCH_H
#define DAGWARD_NET_FETCH_H

#include "dagward/base/error.h"
#include "dagward/base/secret.h"
#include "dagward/base/str.h"
#include "dagward/net/egress.h"

struct event_base;
struct fetcher; /* connections that may be used again, and what is under way */
struct fetch;   /* one request under way */

struct fetch_request {
        const char *url;
        struct str body;             /* ptr not NULL: a POST. Copied */
        const char *method;          /* instead of POST, for a request with a body; NULL: POST */
        const char *content_type;    /* of the body */
        const struct secret *bearer; /* NULL or empty: no Authorization field. Copied */
        const struct secret
                *secret_field;     /* NULL or one more header line, secret as well. Copied */
        const char *const *fields; /* more header lines, "Name: value", no secrets. Copied */
        size_t n_fields;
        const char *ca;              /* PEM bundle; NULL: the system's. Copied */
        int64_t timeout_ms;          /* for everything */
        int64_t connect_ms;          /* of that, for connecting; 0: half of it */
        size_t most_bytes;           /* of the answer's body */
        bool allow_plain_loopback;   /* http:// to 127.0.0.0/8, ::1 and localhost */
        bool allow_plain_link_local; /* and to 169.254.0.0/16, which no router forwards */
        bool no_redirects;           /* any redirect is an answer */
        bool no_egress;              /* not through the outgoing proxy, whatever its exceptions */
};

/* Valid during the callback only. */
struct fetch_result {
        bool answered; /* an HTTP answer came, whole; else `error` says why not */
        int status;
        struct str body;
        struct str content_type; /* ptr NULL: none */
        struct str challenge;    /* the first WWW-Authenticate; ptr NULL: none */
        int64_t max_age_s; /* Cache-Control max-age, 0 for no-store and no-cache; -1: not said */
        int64_t retry_after_s; /* seconds form, or the date form against its Date; -1: not said */
        int64_t date_ms;       /* Date, wall clock; -1: not said */
        bool by_proxy;         /* it went through the outgoing proxy, or was to */
        int proxy_status;      /* what that answered instead of opening a tunnel; 0: nothing */
        struct error error;
        struct fetch *fetch; /* for fetch_field */
};

/* Runs exactly once, never inside fetch_start; may start and cancel others. `fetch` is gone after
 * it. */
typedef void fetch_done(const struct fetch_result *result, void *arg);

struct fetcher *fetcher_new(struct event_base *base);
/* What is begun from now on goes through that, and NULL: directly. Takes a reference of its own. */
void fetcher_set_egress(struct fetcher *fetcher, struct egress *egress);
/* What was trusted until now may be trusted no longer: what is begun from now on uses no connection
 * that is there, so that its server shows its certificate anew. */
void fetcher_forget(struct fetcher *fetcher);
/* Cancels what is under way. Harmless on NULL. */
void fetcher_free(struct fetcher *fetcher);
/* Never NULL: whatever is wrong with the request reaches `done`. */
struct fetch *fetch_start(struct fetcher *fetcher, const struct fetch_request *request,
        fetch_done *done, void *arg) __attribute__((warn_unused_result));
/* `done` will not run. Harmless on NULL. */
void fetch_cancel(struct fetch *fetch);
/* A field of the answer, the first of that name; STR_NONE when there is none, or no answer. During
 * the callback only. */
struct str fetch_field(const struct fetch_result *result, const char *name);
/* Whether two URLs have the same scheme, host and port. */
bool fetch_same_origin(const char *a, const char *b);

#endif
