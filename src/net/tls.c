#include "dagward/net/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dagward/base/clock.h"
#include "dagward/base/reach.h"

enum { SESSION_S = 3600 }; /* from a whole handshake on, however often it was resumed */

static void context_drop(struct snapshot *snap)
{
        struct tls_context *context = (struct tls_context *)snap;

        SSL_CTX_free(context->ctx);
        free(context);
}

const char *tls_error_text(unsigned long code)
{
        static _Thread_local char text[256];

        if (code == 0)
                snprintf(text, sizeof(text), "connection closed");
        else if (ERR_reason_error_string(code))
                snprintf(text, sizeof(text), "%s", ERR_reason_error_string(code));
        else
                ERR_error_string_n(code, text, sizeof(text));
        return text;
}

const char *tls_reason(void)
{
        unsigned long code = ERR_peek_last_error();

        ERR_clear_error();
        return tls_error_text(code);
}

void tls_one_record(SSL_CTX *ctx)
{
        SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
}

int tls_no_passphrase(char *out, int size, int writing, void *unused)
{
        (void)out;
        (void)size;
        (void)writing;
        (void)unused;
        return -1;
}

/* What both sides have in common. */
static struct tls_context *context_new(const SSL_METHOD *method)
{
        struct tls_context *context = calloc(1, sizeof(*context));
        SSL_CTX *ctx = SSL_CTX_new(method);

        if (!context || !ctx)
                abort();
        snapshot_init(&context->snap, context_drop);
        context->ctx = ctx;
        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
        SSL_CTX_set_default_passwd_cb(ctx, tls_no_passphrase);
        SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
        SSL_CTX_set_options(ctx,
                SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
        SSL_CTX_set_num_tickets(ctx, 1);
        /* Partial writes and moving buffers suit a stream whose buffer is compacted; released
         * buffers let an idle connection hold no record memory. */
        SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
        tls_one_record(ctx);
        return context;
}

/* OpenSSL opens files by itself. */
static bool waits(const char *path, struct error *err)
{
        return path && file_waits(path) && !error_set(err, "%s: %s", path, FILE_WAITS);
}

static int choose_http11(SSL *ssl, const unsigned char **out, unsigned char *outlen,
        const unsigned char *in, unsigned inlen, void *arg)
{
        static const unsigned char ours[] = "\x08http/1.1";
        unsigned char *chosen;

        (void)ssl;
        (void)arg;
        if (SSL_select_next_proto(&chosen, outlen, ours, sizeof(ours) - 1, in, inlen) !=
                OPENSSL_NPN_NEGOTIATED)
                return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 3.2: no protocol in common */
        *out = chosen;
        return SSL_TLSEXT_ERR_OK;
}

struct tls_context *tls_server(
        const char *certificate, const char *key, const char *client_ca, struct error *err)
{
        struct tls_context *context = context_new(TLS_server_method());
        SSL_CTX *ctx = context->ctx;
        static const unsigned char session_id[] = "dagward";

        SSL_CTX_set_alpn_select_cb(ctx, choose_http11, NULL);
        SSL_CTX_set_session_id_context(ctx, session_id, sizeof(session_id) - 1);
        /* Clients keep their sessions, in tickets: nothing that threads would share or that
         * strangers could fill. */
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_timeout(ctx, SESSION_S);
        if (waits(certificate, err) || waits(key, err) || waits(client_ca, err))
                ; /* said */
        else if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
                error_set(err, "%s: cannot read the certificate: %s", certificate, tls_reason());
        else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
                error_set(err, "%s: cannot read the private key: %s", key, tls_reason());
        else if (SSL_CTX_check_private_key(ctx) != 1)
                error_set(err, "%s: is not the key of certificate %s: %s", key, certificate,
                        tls_reason());
        else if (client_ca && SSL_CTX_load_verify_locations(ctx, client_ca, NULL) != 1)
                error_set(err, "%s: cannot read the client CA: %s", client_ca, tls_reason());
        else {
                if (client_ca) {
                        /* A ticket would outlive the certificate it stands for. */
                        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
                        SSL_CTX_set_num_tickets(ctx, 0);
                        SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(client_ca));
                        SSL_CTX_set_verify(
                                ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
                }
                return context;
        }
        tls_unref(context);
        return NULL;
}

/* Until when (s since 1970) a session may be resumed stands in it, so that its heirs, from tickets
 * that came when it was resumed, end with it: a host that was verified once is not good for ever.
 */
static pthread_once_t until_once = PTHREAD_ONCE_INIT;
static int until_index;

/* OpenSSL copies to heirs only what has an index of its own. */
static void until_register(void)
{
        until_index = SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, NULL);
        if (until_index < 0)
                abort();
}

static int64_t until_s(const SSL_SESSION *session)
{
        return (int64_t)(intptr_t)SSL_SESSION_get_ex_data(session, until_index);
}

static void limit(SSL_SESSION *session, int64_t s)
{
        if (!SSL_SESSION_set_ex_data(session, until_index, (void *)(intptr_t)s))
                abort();
}

/* A handshake or, in TLS 1.3, a ticket behind it has brought a session. 1: it was taken. */
static int on_session(SSL *ssl, SSL_SESSION *new)
{
        struct tls_session *session = SSL_get_app_data(ssl);
        const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

        /* The connection may be older than what is remembered by now. */
        if (!session || !session->context || session->context->ctx != SSL_get_SSL_CTX(ssl) ||
                !host || strcmp(session->host, host) != 0 || !SSL_SESSION_is_resumable(new))
                return 0;
        if (!until_s(new))
                limit(new, clock_wall_ms() / 1000 + SESSION_S);
        SSL_SESSION_free(session->session);
        session->session = new;
        return 1;
}

static bool is_good_still(const SSL_SESSION *session)
{
        X509 *seen = SSL_SESSION_get0_peer((SSL_SESSION *)session);
        int64_t left_s = until_s(session) - clock_wall_ms() / 1000;

        /* A clock that was set back does not prolong it. */
        return left_s > 0 && left_s <= SESSION_S && seen &&
               X509_cmp_current_time(X509_get0_notAfter(seen)) > 0;
}

void tls_session_clear(struct tls_session *session)
{
        SSL_SESSION_free(session->session);
        tls_unref(session->context);
        *session = (struct tls_session){0};
}

struct tls_context *tls_client(const char *ca, struct error *err)
{
        struct tls_context *context = context_new(TLS_client_method());
        static const unsigned char http11[] = "\x08http/1.1";

        SSL_CTX_set_verify(context->ctx, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_session_cache_mode(
                context->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        pthread_once(&until_once, until_register);
        SSL_CTX_sess_set_new_cb(context->ctx, on_session);
        SSL_CTX_set_alpn_protos(context->ctx, http11, sizeof(http11) - 1);
        if (waits(ca, err)) {
                tls_unref(context);
                return NULL;
        }
        if (ca ? SSL_CTX_load_verify_locations(context->ctx, ca, NULL) != 1
               : SSL_CTX_set_default_verify_paths(context->ctx) != 1) {
                error_set(err, "%s: cannot read the CA certificates: %s",
                        ca ? ca : "the system's CA bundle", tls_reason());
                tls_unref(context);
                return NULL;
        }
        return context;
}

struct tls_context *tls_client_certified(
        const char *ca, const char *certificate, const char *key, struct error *err)
{
        struct tls_context *context = tls_client(ca, err);

        if (!context)
                return NULL;
        SSL_CTX_set_alpn_protos(context->ctx, NULL, 0);
        if (!certificate)
                return context;
        if (waits(certificate, err) || waits(key, err))
                ; /* said */
        else if (SSL_CTX_use_certificate_chain_file(context->ctx, certificate) != 1)
                error_set(err, "%s: cannot read the certificate: %s", certificate, tls_reason());
        else if (SSL_CTX_use_PrivateKey_file(context->ctx, key, SSL_FILETYPE_PEM) != 1)
                error_set(err, "%s: cannot read the private key: %s", key, tls_reason());
        else if (SSL_CTX_check_private_key(context->ctx) != 1)
                error_set(err, "%s: is not the key of certificate %s: %s", key, certificate,
                        tls_reason());
        else
                return context;
        tls_unref(context);
        return NULL;
}

SSL *tls_connect(const struct tls_context *context, int fd, const char *host)
{
        SSL *ssl = SSL_new(context->ctx);
        unsigned char address[16];
        bool is_address =
                inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
        bool ok = ssl != NULL;

        if (ok && is_address) {
                ok = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
        } else if (ok) {
                SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
                ok = SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
        }
        ok = ok && SSL_set_fd(ssl, fd) == 1;
        if (!ok) {
                SSL_free(ssl);
                return NULL;
        }
        SSL_set_connect_state(ssl);
        return ssl;
}

SSL *tls_resume(struct tls_context *context, int fd, const char *host, struct tls_session *session)
{
        SSL *ssl = tls_connect(context, fd, host);

        if (!ssl)
                return NULL;
        if (session->context != context || strcmp(session->host, host) != 0 ||
                (session->session && !is_good_still(session->session)))
                tls_session_clear(session);
        if (!session->context) {
                session->context = tls_ref(context);
                snprintf(session->host, sizeof(session->host), "%s", host);
        }
        SSL_set_app_data(ssl, session);
        /* If it does not fit after all, the handshake is a whole one. */
        if (session->session)
                (void)SSL_set_session(ssl, session->session);
        return ssl;
}

SSL *tls_accept(const struct tls_context *context, int fd)
{
        SSL *ssl = SSL_new(context->ctx);

        if (ssl && SSL_set_fd(ssl, fd) == 1) {
                SSL_set_accept_state(ssl);
                return ssl;
        }
        SSL_free(ssl);
        return NULL;
}

bool tls_admits(const struct tls_context *context, SSL *ssl)
{
        X509 *shown = SSL_get0_peer_certificate(ssl);
        X509_STORE_CTX *check;

        if (!(SSL_CTX_get_verify_mode(context->ctx) & SSL_VERIFY_PEER))
                return true;
        if (!shown)
                return false;
        check = X509_STORE_CTX_new();
        if (!check)
                abort();
        /* As OpenSSL verifies it in a handshake. */
        bool good = X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(context->ctx), shown,
                            SSL_get_peer_cert_chain(ssl)) == 1 &&
                    X509_STORE_CTX_set_default(check, "ssl_client") == 1;
        if (good) {
                X509_VERIFY_PARAM_set_auth_level(
                        X509_STORE_CTX_get0_param(check), SSL_get_security_level(ssl));
                good = X509_verify_cert(check) == 1;
        }
        X509_STORE_CTX_free(check);
        ERR_clear_error();
        return good;
}
