#include "dagward/token/mint.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <jwt.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "dagward/token/base64.h"
#include "dagward/token/keyset.h"
#include "jwk.h"
#include "json.h"

enum {
        RSA_BITS = 2048,
        SIGNATURE_MOST_BYTES = 1024, /* RSA of 8192 bits */
        CLAIMS_MOST_DEPTH = 64,
        CLAIMS_MOST_VALUES = 65536,
        TOKEN_CEILING = 1 << 20,
};

struct mint_key {
        EVP_PKEY *pkey;
        struct secret pem; /* PKCS #8, for libjwt */
        char *kid;
        unsigned algorithms;
};

/* libjwt's name for an algorithm; JWT_ALG_INVAL: it has none, OpenSSL signs. */
static const jwt_alg_t libjwt_algs[TOKEN_ALG_COUNT] = {
        [TOKEN_RS256] = JWT_ALG_RS256,
        [TOKEN_RS384] = JWT_ALG_RS384,
        [TOKEN_RS512] = JWT_ALG_RS512,
        [TOKEN_PS256] = JWT_ALG_INVAL,
        [TOKEN_PS384] = JWT_ALG_INVAL,
        [TOKEN_PS512] = JWT_ALG_INVAL,
        [TOKEN_ES256] = JWT_ALG_ES256,
        [TOKEN_ES384] = JWT_ALG_ES384,
        [TOKEN_ES512] = JWT_ALG_ES512,
        [TOKEN_EDDSA] = JWT_ALG_INVAL,
};

/* Takes `pkey`; NULL with a reason when it is of no use. */
static struct mint_key *mint_key_of(EVP_PKEY *pkey, struct str kid, struct error *err)
{
        struct key judged = {.pkey = pkey};

        if (!jwk_judge(&judged, err)) {
                EVP_PKEY_free(pkey);
                return NULL;
        }
        struct mint_key *key = calloc(1, sizeof(*key));
        BIO *bio = BIO_new(BIO_s_secmem());
        char name[64], *pem;
        struct buf thumbprint;
        if (!key || !bio ||
                PEM_write_bio_PKCS8PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL) != 1)
                abort();
        long len = BIO_get_mem_data(bio, &pem);
        secret_set(&key->pem, str_view(pem, (size_t)len));
        BIO_free(bio);
        buf_init_fixed(&thumbprint, name, sizeof(name));
        jwk_thumbprint(pkey, &thumbprint);
        key->kid = str_dup(str_empty(kid) ? buf_str(&thumbprint) : kid);
        key->pkey = pkey;
        key->algorithms = judged.algorithms;
        return key;
}

struct mint_key *mint_key_generate(enum token_alg alg, struct str kid)
{
        EVP_PKEY *pkey = NULL;

        switch (alg) {
        case TOKEN_RS256:
        case TOKEN_RS384:
        case TOKEN_RS512:
        case TOKEN_PS256:
        case TOKEN_PS384:
        case TOKEN_PS512: pkey = EVP_RSA_gen(RSA_BITS); break;
        case TOKEN_ES256: pkey = EVP_EC_gen("P-256"); break;
        case TOKEN_ES384: pkey = EVP_EC_gen("P-384"); break;
        case TOKEN_ES512: pkey = EVP_EC_gen("P-521"); break;
        case TOKEN_EDDSA: pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"); break;
        }
        struct mint_key *key = pkey ? mint_key_of(pkey, kid, NULL) : NULL;
        if (!key)
                abort(); /* no random numbers, or no memory */
        return key;
}

/* Never a prompt: a key with a pass phrase is simply unreadable. */
static int no_pass_phrase(char *out, int size, int writing, void *unused)
{
        (void)out, (void)size, (void)writing, (void)unused;
        return -1;
}

struct mint_key *mint_key_from_pem(struct str pem, struct str kid, struct error *err)
{
        EVP_PKEY *pkey = NULL;

        if (pem.len && pem.len <= KEYSET_MOST_BYTES) {
                BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
                if (!bio)
                        abort();
                pkey = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL);
                BIO_free(bio);
                ERR_clear_error();
        }
        if (!pkey) {
                error_set(err, "not a PEM private key without pass phrase");
                return NULL;
        }
        return mint_key_of(pkey, kid, err);
}

void mint_key_free(struct mint_key *key)
{
        if (!key)
                return;
        EVP_PKEY_free(key->pkey);
        secret_drop(&key->pem);
        free(key->kid);
        free(key);
}

struct str mint_key_kid(const struct mint_key *key)
{
        return str_of(key->kid);
}

unsigned mint_key_algorithms(const struct mint_key *key)
{
        return key->algorithms;
}

void mint_key_pem(const struct mint_key *key, struct secret *out)
{
        secret_set(out, secret_reveal(&key->pem));
}

void mint_key_jwk(const struct mint_key *key, int alg, struct buf *out)
{
        buf_char(out, '{');
        jwk_write_members(key->pkey, out);
        BUF_LITERAL(out, ",\"use\":\"sig\",\"kid\":");
        buf_json_str(out, str_of(key->kid));
        if (alg >= 0)
                buf_printf(out, ",\"alg\":\"%s\"", token_alg_name((enum token_alg)alg));
        buf_char(out, '}');
}

void mint_key_set(const struct mint_key *const *keys, size_t n, struct buf *out)
{
        BUF_LITERAL(out, "{\"keys\":[");
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(out, ',');
                mint_key_jwk(keys[i], -1, out);
        }
        BUF_LITERAL(out, "]}");
}

static bool is_object(struct str claims, struct error *err)
{
        json_t *object = json_read_object(claims, CLAIMS_MOST_DEPTH, CLAIMS_MOST_VALUES);

        json_decref(object);
        return object ? true : error_set(err, "the claims are not one JSON object");
}

bool mint_signing_input(enum token_alg alg, const struct pair *header, size_t n, struct str claims,
        struct buf *out, struct error *err)
{
        struct buf head;

        if (!is_object(claims, err))
                return false;
        buf_init(&head, TOKEN_CEILING);
        buf_printf(&head, "{\"alg\":\"%s\",\"typ\":\"JWT\"", token_alg_name(alg));
        for (size_t i = 0; i < n; i++) {
                buf_char(&head, ',');
                buf_json_str(&head, header[i].name);
                buf_char(&head, ':');
                buf_json_str(&head, header[i].value);
        }
        buf_char(&head, '}');
        base64url_write(out, head.data, head.len);
        buf_char(out, '.');
        base64url_write(out, claims.ptr, claims.len);
        bool fits = !head.overflow && !out->overflow;
        buf_clear(&head);
        return fits ? true : error_set(err, "the token would be too long");
}

void mint_signing_digest(struct str input, unsigned char digest[MINT_DIGEST_BYTES])
{
        if (EVP_Digest(input.ptr, input.len, digest, NULL, EVP_sha256(), NULL) != 1)
                abort();
}

static bool sign_openssl(const struct mint_key *key, enum token_alg alg, const struct pair *header,
        size_t n, struct str claims, struct secret *out, struct error *err)
{
        static const char *const digests[TOKEN_ALG_COUNT] = {
                [TOKEN_PS256] = "SHA256", [TOKEN_PS384] = "SHA384", [TOKEN_PS512] = "SHA512"};
        unsigned char signature[SIGNATURE_MOST_BYTES];
        size_t len = sizeof(signature);
        EVP_PKEY_CTX *pctx;
        struct buf text;

        buf_init(&text, TOKEN_CEILING);
        if (!mint_signing_input(alg, header, n, claims, &text, err)) {
                buf_clear(&text);
                return false;
        }
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        if (!ctx ||
                EVP_DigestSignInit_ex(ctx, &pctx, digests[alg], NULL, NULL, key->pkey, NULL) != 1)
                abort();
        if (digests[alg] &&
                (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) != 1 ||
                        EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) != 1))
                abort();
        if (EVP_DigestSign(ctx, signature, &len, (const unsigned char *)text.data, text.len) != 1)
                abort();
        EVP_MD_CTX_free(ctx);
        buf_char(&text, '.');
        base64url_write(&text, signature, len);
        bool fits = !text.overflow;
        if (fits)
                secret_set(out, buf_str(&text));
        secret_wipe(text.data, text.len);
        buf_clear(&text);
        return fits ? true : error_set(err, "the token would be too long");
}

static bool add_header(jwt_t *jwt, struct pair member)
{
        char *name = str_dup(member.name), *value = str_dup(member.value);
        bool added = jwt_add_header(jwt, name, value) == 0;

        free(name);
        free(value);
        return added;
}

static bool sign_libjwt(const struct mint_key *key, enum token_alg alg, const struct pair *header,
        size_t n, struct str claims, struct secret *out, struct error *err)
{
        jwt_t *jwt = NULL;
        struct str pem = secret_reveal(&key->pem);
        char *text = NULL, *grants = str_dup(claims);

        if (jwt_new(&jwt) != 0)
                abort();
        bool good = is_object(claims, err);
        if (good && (jwt_set_alg(jwt, libjwt_algs[alg], (const unsigned char *)pem.ptr,
                             (int)pem.len) != 0 ||
                            jwt_add_grants_json(jwt, grants) != 0))
                good = error_set(err, "libjwt refuses the key or the claims");
        for (size_t i = 0; good && i < n; i++)
                if (!add_header(jwt, header[i]))
                        good = error_set(
                                err, "header member %zu is there twice or not text", i + 1);
        if (good && !(text = jwt_encode_str(jwt)))
                good = error_set(err, "libjwt could not sign: %s", strerror(errno));
        if (good)
                secret_set(out, str_of(text));
        if (text) {
                secret_wipe(text, strlen(text));
                free(text);
        }
        free(grants);
        jwt_free(jwt);
        ERR_clear_error();
        return good;
}

bool mint_sign(const struct mint_key *key, enum token_alg alg, const struct pair *header, size_t n,
        struct str claims, struct secret *out, struct error *err)
{
        enum { HEADER_MOST = 16 };
        struct pair members[HEADER_MOST + 1];
        bool named = false;

        assert(n <= HEADER_MOST);
        if (!(key->algorithms & TOKEN_ALG_BIT(alg)))
                return error_set(err, "the key is not for %s", token_alg_name(alg));
        for (size_t i = 0; i < n; i++) {
                members[i] = header[i];
                named = named || str_eq(header[i].name, STR("kid"));
        }
        if (!named)
                members[n++] = (struct pair){STR("kid"), str_of(key->kid)};
        /* An empty kid asks for none. */
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
                if (!(str_eq(members[i].name, STR("kid")) && str_empty(members[i].value)))
                        members[kept++] = members[i];
        return libjwt_algs[alg] == JWT_ALG_INVAL
                       ? sign_openssl(key, alg, members, kept, claims, out, err)
                       : sign_libjwt(key, alg, members, kept, claims, out, err);
}
