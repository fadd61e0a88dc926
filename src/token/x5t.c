#include "dagward/token/x5t.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <time.h>

#include "dagward/token/base64.h"
#include "jwk.h"

static void text_of(char *out, size_t size, const void *bytes, size_t len)
{
        struct buf buf;

        buf_init_fixed(&buf, out, size - 1);
        base64url_write(&buf, bytes, len);
        out[buf.len] = '\0';
}

static bool time_of(const ASN1_TIME *time, int64_t *seconds)
{
        struct tm broken;

        if (!time || ASN1_TIME_to_tm(time, &broken) != 1)
                return false;
        *seconds = (int64_t)timegm(&broken);
        return true;
}

static bool key_of(X509 *x509, struct x5t *out, struct error *err)
{
        struct key judged = {.pkey = X509_get0_pubkey(x509)};
        struct buf id;

        if (!judged.pkey)
                return error_set(err, "the certificate's key cannot be read");
        if (!jwk_judge(&judged, err))
                return error_wrap(err, "the certificate's key");
        buf_init_fixed(&id, out->key_id, sizeof(out->key_id) - 1);
        jwk_thumbprint(judged.pkey, &id);
        out->key_id[id.len] = '\0';
        out->algorithms = judged.algorithms;
        return true;
}

/* Takes `x509`. */
static bool certificate_of(X509 *x509, struct x5t *out, struct error *err)
{
        unsigned char digest[SHA256_DIGEST_LENGTH], *der = NULL;
        int len = i2d_X509(x509, &der);
        struct buf hex;

        *out = (struct x5t){.algorithms = 0};
        bool good = len > 0 && time_of(X509_get0_notBefore(x509), &out->not_before_s) &&
                    time_of(X509_get0_notAfter(x509), &out->not_after_s);
        if (good) {
                SHA1(der, (size_t)len, digest);
                text_of(out->sha1, sizeof(out->sha1), digest, SHA_DIGEST_LENGTH);
                SHA256(der, (size_t)len, digest);
                text_of(out->sha256, sizeof(out->sha256), digest, SHA256_DIGEST_LENGTH);
                buf_init_fixed(&hex, out->hex, sizeof(out->hex) - 1);
                buf_hex(&hex, digest, SHA256_DIGEST_LENGTH);
                for (char *c = out->hex; *c; c++)
                        *c = (char)(*c >= 'a' && *c <= 'f' ? *c - 32 : *c);
                good = key_of(x509, out, err);
        } else {
                error_set(err, "the certificate cannot be read");
        }
        OPENSSL_free(der);
        X509_free(x509);
        ERR_clear_error();
        return good;
}

bool x5t_read_pem(struct str pem, struct x5t *out, struct error *err)
{
        X509 *x509 = NULL;

        if (pem.len && pem.len <= X5T_MOST_BYTES) {
                BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
                if (!bio)
                        abort();
                x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
                BIO_free(bio);
                ERR_clear_error();
        }
        return x509 ? certificate_of(x509, out, err) : error_set(err, "no PEM certificate in it");
}

bool x5t_read_der(struct str der, struct x5t *out, struct error *err)
{
        const unsigned char *at = (const unsigned char *)der.ptr;
        X509 *x509 =
                der.len && der.len <= X5T_MOST_BYTES ? d2i_X509(NULL, &at, (long)der.len) : NULL;

        ERR_clear_error();
        return x509 ? certificate_of(x509, out, err) : error_set(err, "not a DER certificate");
}
