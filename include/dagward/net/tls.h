/*
 * tls: contexts for both sides, made once, shared by all threads.
 *
 * TLS 1.2 and 1.3 only, AEAD suites only, no compression, no renegotiation. The client side always
 * verifies chain and host name. A context is counted and immutable.
 *
 * Sessions are resumed (RFC 8446 2.2, RFC 5077), never early data. A server context has ticket keys
 * of its own that never leave the process: what another listener, an older reload or another
 * process issued means a whole handshake. A client resumes with the context and the host it was
 * verified with, for an hour, and not beyond the end of the certificate that was seen.
 */
#ifndef DAGWARD_NET_TLS_H
#define DAGWARD_NET_TLS_H

#include <openssl/ssl.h>

#include "dagward/base/error.h"
#include "dagward/base/snapshot.h"

struct tls_context {
        struct snapshot snap;
        SSL_CTX *ctx;
};

/* The newest session with one host, for the next connection to it. Zeros: none yet. One thread's,
 * and it must outlive the connections that were made with it. */
struct tls_session {
        struct tls_context *context; /* that verified the host; a reference */
        SSL_SESSION *session;
        char host[256];
};

/* For a listener. `client_ca` may be NULL; when given, clients must show a certificate it signed,
 * at each connection: no session is resumed. NULL and a reason (file, and what to do) when a file
 * cannot be read or the key does not fit. */
struct tls_context *tls_server(
        const char *certificate, const char *key, const char *client_ca, struct error *err);
/* For the upstream side. `ca` is a PEM bundle, NULL for the system's. */
struct tls_context *tls_client(const char *ca, struct error *err);
/* For what is no HTTP: no protocol is negotiated. `certificate` and `key` are shown to a server
 * that asks; both may be NULL. */
struct tls_context *tls_client_certified(
        const char *ca, const char *certificate, const char *key, struct error *err);
/* A connection of a client context that will accept only a certificate for `host` (DNS name, sent
 * as SNI, or IP address). The caller owns it. NULL when memory is out or the name is unusable. */
SSL *tls_connect(const struct tls_context *context, int fd, const char *host);
/* The same, which resumes what `session` holds, if it is of this context and host, and leaves the
 * newest session there. A peer that does not know it any more costs a whole handshake, no failure.
 */
SSL *tls_resume(struct tls_context *context, int fd, const char *host, struct tls_session *session);
/* Nothing is resumed until there was another whole handshake. */
void tls_session_clear(struct tls_session *session);
/* A connection of a server context. */
SSL *tls_accept(const struct tls_context *context, int fd);
/* Whether `context`, of a listener, would accept the peer of `ssl` as well, which another context
 * of that listener accepted: with what it showed then, and as of now. The handshake is over. */
bool tls_admits(const struct tls_context *context, SSL *ssl);
/* Reading takes one record at a time: a peer that sends updates of keys, one after the other, gives
 * a turn to others, and to deadlines, in between. All contexts that are made here are so. */
void tls_one_record(SSL_CTX *ctx);
/* For OpenSSL, where it reads a key (pem_password_cb): one that needs a passphrase is not read. It
 * would ask whoever sits at the terminal, and wait. */
int tls_no_passphrase(char *out, int size, int writing, void *unused);
/* The newest reason of OpenSSL's error queue, in words; empties the queue. Static per thread. */
const char *tls_reason(void);
/* The same of a code from that queue; 0: "connection closed". Static per thread. */
const char *tls_error_text(unsigned long code);

static inline struct tls_context *tls_ref(struct tls_context *context)
{
        if (context)
                snapshot_ref(&context->snap);
        return context;
}

static inline void tls_unref(struct tls_context *context)
{
        if (context)
                snapshot_unref(&context->snap);
}

#endif
