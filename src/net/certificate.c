#include "dagward/net/certificate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/reach.h"
#include "dagward/net/tls.h"

/* --- what one certificate says --- */

static void text_keep(char *out, size_t size, struct str text)
{
        size_t n = 0;

        for (size_t i = 0; i < text.len && n + 1 < size; i++)
                out[n++] = text.ptr[i] >= 0x20 && text.ptr[i] < 0x7F ? text.ptr[i] : '?';
        out[n] = '\0';
}

static void name_text(const X509_NAME *name, char out[CERTIFICATE_TEXT])
{
        BIO *memory = BIO_new(BIO_s_mem());
        char *text;

        if (!memory)
                abort();
        X509_NAME_print_ex(memory, name, 0, XN_FLAG_ONELINE & ~(unsigned long)XN_FLAG_SPC_EQ);
        long len = BIO_get_mem_data(memory, &text);
        text_keep(out, CERTIFICATE_TEXT, str_view(text, len > 0 ? (size_t)len : 0));
        BIO_free(memory);
}

static int64_t time_s(const ASN1_TIME *time)
{
        struct tm parts;

        return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

static void add_name(struct buf *out, struct str name)
{
        char shown[CERTIFICATE_TEXT];

        text_keep(shown, sizeof(shown), name);
        if (out->len + strlen(shown) + 8 < out->cap)
                buf_printf(out, "%s%s", out->len ? ", " : "", shown);
}

static void names_of(X509 *certificate, char text[CERTIFICATE_NAMES])
{
        GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
        struct buf out;

        buf_init_fixed(&out, text, CERTIFICATE_NAMES - 1);
        for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
                const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
                char address[INET6_ADDRSTRLEN];

                if (name->type == GEN_DNS) {
                        const ASN1_STRING *dns = name->d.dNSName;
                        add_name(&out, str_view((const char *)ASN1_STRING_get0_data(dns),
                                               (size_t)ASN1_STRING_length(dns)));
                } else if (name->type == GEN_IPADD) {
                        const ASN1_STRING *ip = name->d.iPAddress;
                        int family = ASN1_STRING_length(ip) == 4 ? AF_INET : AF_INET6;
                        if ((family == AF_INET || ASN1_STRING_length(ip) == 16) &&
                                inet_ntop(family, ASN1_STRING_get0_data(ip), address,
                                        sizeof(address)))
                                add_name(&out, str_of(address));
                }
        }
        text[out.len] = '\0';
        GENERAL_NAMES_free(names);
}

static void describe(X509 *certificate, struct certificate *out)
{
        *out = (struct certificate){
                .not_before_s = time_s(X509_get0_notBefore(certificate)),
                .not_after_s = time_s(X509_get0_notAfter(certificate)),
                .self_issued = X509_NAME_cmp(X509_get_subject_name(certificate),
                                       X509_get_issuer_name(certificate)) == 0,
                .issuer_url = X509_get_ext_by_NID(certificate, NID_info_access, -1) >= 0,
        };
        name_text(X509_get_subject_name(certificate), out->subject);
        name_text(X509_get_issuer_name(certificate), out->issuer);
        names_of(certificate, out->names);
}

static bool covers(X509 *certificate, const char *host)
{
        unsigned char address[16];

        if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
                return X509_check_ip_asc(certificate, host, 0) == 1;
        return X509_check_host(certificate, host, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) ==
               1;
}

/* --- verification --- */

/* The verdict of a verification, and the certificate it is about (not owned). */
static int verify(X509_STORE *store, X509 *leaf, STACK_OF(X509) * others, X509 **about)
{
        X509_STORE_CTX *work = X509_STORE_CTX_new();
        int error = X509_V_ERR_UNSPECIFIED;

        if (!work || X509_STORE_CTX_init(work, store, leaf, others) != 1)
                abort();
        X509_STORE_CTX_set_purpose(work, X509_PURPOSE_SSL_SERVER);
        if (X509_verify_cert(work) == 1)
                error = X509_V_OK;
        else
                error = X509_STORE_CTX_get_error(work);
        if (about) {
                *about = X509_STORE_CTX_get_current_cert(work);
                if (*about)
                        X509_up_ref(*about);
        }
        X509_STORE_CTX_free(work);
        ERR_clear_error();
        return error;
}

static enum tls_trust trust_of(int error)
{
        switch (error) {
        case X509_V_OK: return TLS_TRUSTED;
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: return TLS_UNKNOWN_ISSUER;
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return TLS_SELF_SIGNED;
        case X509_V_ERR_CERT_HAS_EXPIRED: return TLS_EXPIRED;
        case X509_V_ERR_CERT_NOT_YET_VALID: return TLS_NOT_YET_VALID;
        default: return TLS_DISTRUSTED;
        }
}

/* --- files --- */

static void chain_free(STACK_OF(X509) * chain)
{
        sk_X509_pop_free(chain, X509_free);
}

/* All certificates of a file; NULL with a reason. */
static STACK_OF(X509) * chain_read(const char *path, struct error *err)
{
        BIO *file = file_waits(path) ? NULL : BIO_new_file(path, "r");
        STACK_OF(X509) *chain = sk_X509_new_null();
        X509 *one;

        if (!chain)
                abort();
        if (!file) {
                error_set(err, "%s: %s", path, file_waits(path) ? FILE_WAITS : strerror(errno));
                ERR_clear_error();
                chain_free(chain);
                return NULL;
        }
        while (sk_X509_num(chain) < CERTIFICATE_CHAIN_MOST &&
                (one = PEM_read_bio_X509(file, NULL, NULL, NULL)) != NULL)
                sk_X509_push(chain, one);
        BIO_free(file);
        ERR_clear_error();
        if (sk_X509_num(chain) > 0)
                return chain;
        error_set(err, "%s: holds no certificate in PEM", path);
        chain_free(chain);
        return NULL;
}

bool certificate_file_read(const char *path, struct certificate_file *out, struct error *err)
{
        STACK_OF(X509) *chain = chain_read(path, err);
        X509_STORE *store;

        if (!chain)
                return false;
        out->n = (size_t)sk_X509_num(chain);
        out->broken_at = out->n;
        for (size_t i = out->n; i-- > 0;) {
                X509 *one = sk_X509_value(chain, (int)i);
                describe(one, &out->chain[i]);
                if (i + 1 < out->n &&
                        X509_check_issued(sk_X509_value(chain, (int)i + 1), one) != X509_V_OK)
                        out->broken_at = i;
        }
        store = X509_STORE_new();
        if (!store)
                abort();
        X509_STORE_set_default_paths(store);
        out->system_trusts = verify(store, sk_X509_value(chain, 0), chain, NULL) == X509_V_OK;
        X509_STORE_free(store);
        ERR_clear_error();
        chain_free(chain);
        return true;
}

bool certificate_covers(const char *path, const char *host)
{
        struct error err;
        STACK_OF(X509) *chain = chain_read(path, &err);
        bool is = chain && covers(sk_X509_value(chain, 0), host);

        chain_free(chain);
        return is;
}

enum key_fit certificate_key_fit(const char *certificate, const char *key)
{
        struct error err;
        STACK_OF(X509) *chain = chain_read(certificate, &err);
        BIO *file = file_waits(key) ? NULL : BIO_new_file(key, "r");
        EVP_PKEY *private =
                file ? PEM_read_bio_PrivateKey(file, NULL, tls_no_passphrase, NULL) : NULL;
        enum key_fit fit = KEY_UNREADABLE;

        if (private && chain)
                fit = X509_check_private_key(sk_X509_value(chain, 0), private) == 1 ? KEY_FITS
                                                                                    : KEY_OTHER;
        EVP_PKEY_free(private);
        BIO_free(file);
        chain_free(chain);
        ERR_clear_error();
        return fit;
}

/* --- servers --- */

static bool handshake(SSL *ssl, int fd, int64_t deadline_mono_ms, struct tls_seen *out)
{
        for (;;) {
                int done = SSL_connect(ssl);
                int error = done == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, done);
                int64_t left = deadline_mono_ms - clock_mono_ms();
                struct pollfd waiting = {.fd = fd, .events = POLLIN};

                if (done == 1)
                        return true;
                if (error == SSL_ERROR_WANT_WRITE)
                        waiting.events = POLLOUT;
                else if (error != SSL_ERROR_WANT_READ)
                        break;
                if (left <= 0 || poll(&waiting, 1, (int)left) == 0) {
                        out->timed_out = true;
                        text_keep(out->why, sizeof(out->why), STR("no answer in time"));
                        return false;
                }
        }
        int reason = ERR_GET_REASON(ERR_peek_last_error());
        out->not_tls = reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST ||
                       reason == SSL_R_UNKNOWN_PROTOCOL;
        text_keep(out->why, sizeof(out->why), str_of(tls_reason()));
        return false;
}

static void judge(SSL *ssl, X509 *leaf, const char *host, struct tls_seen *out)
{
        STACK_OF(X509) *sent = SSL_get_peer_cert_chain(ssl);
        X509 *about = NULL;
        int error = verify(SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl)), leaf, sent, &about);

        out->n_chain = (size_t)(sk_X509_num(sent) > 0 ? sk_X509_num(sent) : 0);
        describe(leaf, &out->leaf);
        out->faulty = out->leaf;
        if (about)
                describe(about, &out->faulty);
        X509_free(about);
        out->trust = trust_of(error);
        if (error != X509_V_OK)
                text_keep(out->why, sizeof(out->why), str_of(X509_verify_cert_error_string(error)));
        if (out->trust == TLS_UNKNOWN_ISSUER)
                text_keep(out->unknown_issuer, sizeof(out->unknown_issuer),
                        str_of(out->faulty.issuer));
        if (out->trust == TLS_TRUSTED && !covers(leaf, host))
                out->trust = TLS_WRONG_NAME;
}

bool tls_look(int fd, const char *host, const char *ca, int64_t deadline_mono_ms,
        struct tls_seen *out, struct error *err)
{
        struct tls_context *context = tls_client(ca, err);
        SSL *ssl = context ? tls_connect(context, fd, host) : NULL;

        *out = (struct tls_seen){.shaken = false};
        if (!context)
                return false;
        if (!ssl) {
                text_keep(out->why, sizeof(out->why), STR("the host name cannot be used"));
                tls_unref(context);
                return true;
        }
        /* Looks at what it would refuse: nothing is sent over this connection. */
        SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
        if (handshake(ssl, fd, deadline_mono_ms, out)) {
                X509 *leaf = SSL_get1_peer_certificate(ssl);
                out->shaken = leaf != NULL;
                if (leaf)
                        judge(ssl, leaf, host, out);
                X509_free(leaf);
        }
        SSL_free(ssl);
        ERR_clear_error();
        tls_unref(context);
        return true;
}
