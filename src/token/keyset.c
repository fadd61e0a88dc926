#include "dagward/token/keyset.h"

#include <stdlib.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "dagward/token/base64.h"
#include "fixed_base.h"
#include "jwk.h"
#include "json.h"

enum {
        DOCUMENT_MOST_DEPTH = 16,
        DOCUMENT_MOST_VALUES = 32 * KEYSET_MOST_KEYS,
        ARENA_BYTES = 4096,
        MOST_TABLES = 8, /* of a set: they are large */
        ARENA_CEILING = 2 * KEYSET_MOST_KEYS * (KEYSET_KID_MOST_BYTES + 512),
};

struct reading {
        struct keyset *set;
        const char *source;
        struct error_list *warnings;
};

static void key_drop(struct key *key)
{
        fixed_base_free(key->use->table);
        EVP_PKEY_free(key->pkey);
}

static void keyset_drop(struct snapshot *snap)
{
        struct keyset *set = (struct keyset *)snap; /* snap is its first member */

        for (size_t i = 0; i < set->n; i++)
                key_drop(&set->keys[i]);
        arena_clear(&set->arena);
        free(set);
}

void keyset_unref(struct keyset *set)
{
        if (set)
                snapshot_unref(&set->snap);
}

static struct keyset *keyset_empty(size_t room)
{
        struct keyset *set = calloc(1, sizeof(*set));

        if (!set)
                abort();
        snapshot_init(&set->snap, keyset_drop);
        arena_init(&set->arena, ARENA_BYTES, ARENA_CEILING);
        set->keys = arena_alloc(&set->arena, room * sizeof(*set->keys));
        return set;
}

static void warn_dropped(const struct reading *r, size_t index, struct str kid, const char *why)
{
        r->set->dropped++;
        if (!r->warnings)
                return;
        struct mark at = {.file = r->source};
        /* A kid comes from the issuer: printed only if it cannot forge a line of the log. */
        bool plain = kid.len > 0 && kid.len <= 100;
        for (size_t i = 0; i < kid.len; i++)
                plain = plain && kid.ptr[i] > ' ' && kid.ptr[i] < 0x7f;
        if (plain)
                error_list_warn(r->warnings, at, "key %zu (`%.*s`) is not used: %s", index + 1,
                        STR_FMT(kid), why);
        else
                error_list_warn(r->warnings, at, "key %zu is not used: %s", index + 1, why);
}

/* Adds the key, or joins it to an entry that holds the same one already. Takes key->pkey. */
static void add_key(struct reading *r, struct key *key)
{
        for (size_t i = 0; i < r->set->n; i++) {
                struct key *other = &r->set->keys[i];
                if (!other->kid.ptr == !key->kid.ptr && str_eq(other->kid, key->kid) &&
                        EVP_PKEY_eq(other->pkey, key->pkey) == 1) {
                        other->algorithms |= key->algorithms;
                        EVP_PKEY_free(key->pkey);
                        return;
                }
        }
        if (key->kid.ptr)
                key->kid = arena_copy(&r->set->arena, key->kid);
        key->use = arena_alloc(&r->set->arena, sizeof(*key->use));
        r->set->keys[r->set->n++] = *key;
}

/* `kid` must name one key (RFC 7517 4.5). Where it names two for one algorithm nobody can say which
 * is meant, and trying both would let either stand in for the other: both go. */
static void drop_ambiguous(struct reading *r)
{
        struct keyset *set = r->set;
        bool twice[KEYSET_MOST_KEYS] = {false};
        size_t kept = 0;

        for (size_t i = 0; i < set->n; i++)
                for (size_t j = 0; j < i; j++)
                        if (set->keys[i].kid.ptr && str_eq(set->keys[i].kid, set->keys[j].kid) &&
                                (set->keys[i].algorithms & set->keys[j].algorithms))
                                twice[i] = twice[j] = true;
        for (size_t i = 0; i < set->n; i++) {
                if (twice[i]) {
                        warn_dropped(r, i, set->keys[i].kid,
                                "the set has another key with this `kid` for the same algorithm");
                        key_drop(&set->keys[i]);
                } else {
                        set->keys[kept++] = set->keys[i];
                }
        }
        set->n = kept;
}

static bool read_jwks(struct reading *r, const json_t *document, struct error *err)
{
        const json_t *keys = json_object_get(document, "keys");
        size_t n = json_array_size(keys);

        if (!json_is_array(keys))
                return error_set(err, "not a JWK set: there is no array `keys`");
        if (n > KEYSET_MOST_KEYS)
                return error_set(err, "holds %zu keys, more than %d", n, KEYSET_MOST_KEYS);
        for (size_t i = 0; i < n; i++) {
                const json_t *jwk = json_array_get(keys, i);
                struct key key;
                struct error why;
                if (jwk_read(jwk, &key, &why))
                        add_key(r, &key);
                else
                        warn_dropped(r, i, json_str_member(jwk, "kid"), why.text);
        }
        return true;
}

/* The name that Kubernetes gives a key: base64url SHA-256 of its DER. */
static struct str der_name(struct arena *arena, const EVP_PKEY *pkey)
{
        char text[64];
        unsigned char *der = NULL, digest[32];
        struct buf out;
        int len = i2d_PUBKEY(pkey, &der);

        buf_init_fixed(&out, text, sizeof(text));
        if (len <= 0 || EVP_Digest(der, (size_t)len, digest, NULL, EVP_sha256(), NULL) != 1)
                abort();
        OPENSSL_free(der);
        base64url_write(&out, digest, sizeof(digest));
        return arena_copy(arena, buf_str(&out));
}

static bool read_pem(struct reading *r, struct str text, struct error *err)
{
        BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
        char name[64];
        size_t count = 0;

        if (!bio)
                abort();
        for (EVP_PKEY *pkey;
                count < KEYSET_MOST_KEYS && (pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL));
                count++) {
                struct key key = {.pkey = pkey};
                struct error why;
                struct buf out;
                if (!jwk_judge(&key, &why)) {
                        warn_dropped(r, count, STR_NONE, why.text);
                        EVP_PKEY_free(pkey);
                        continue;
                }
                buf_init_fixed(&out, name, sizeof(name));
                jwk_thumbprint(pkey, &out);
                key.kid = buf_str(&out);
                key.other_kid = der_name(&r->set->arena, pkey);
                add_key(r, &key);
        }
        ERR_clear_error();
        BIO_free(bio);
        r->set->pem = true;
        return count ? true : error_set(err, "holds no readable `BEGIN PUBLIC KEY` block");
}

static uint64_t generation_of(const struct keyset *set)
{
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        unsigned char digest[32];
        uint64_t generation;

        if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
                abort();
        for (size_t i = 0; i < set->n; i++) {
                const struct key *key = &set->keys[i];
                unsigned char *der = NULL;
                int len = i2d_PUBKEY(key->pkey, &der);
                uint64_t head[3] = {
                        key->kid.ptr ? key->kid.len + 1 : 0, key->algorithms, (uint64_t)len};
                if (len <= 0 || EVP_DigestUpdate(ctx, head, sizeof(head)) != 1 ||
                        EVP_DigestUpdate(ctx, key->kid.ptr, key->kid.len) != 1 ||
                        EVP_DigestUpdate(ctx, der, (size_t)len) != 1)
                        abort();
                OPENSSL_free(der);
        }
        if (EVP_DigestFinal_ex(ctx, digest, NULL) != 1)
                abort();
        EVP_MD_CTX_free(ctx);
        memcpy(&generation, digest, sizeof(generation));
        return generation ? generation : 1;
}

static bool read_document(struct reading *r, struct str text, bool pem_allowed, struct error *err)
{
        struct str start = str_trim(text);

        if (text.len > KEYSET_MOST_BYTES)
                return error_set(err, "longer than %d bytes", KEYSET_MOST_BYTES);
        if (pem_allowed && str_starts(start, STR("-----BEGIN ")))
                return read_pem(r, start, err);
        json_t *document = json_read_object(text, DOCUMENT_MOST_DEPTH, DOCUMENT_MOST_VALUES);
        if (!document)
                return error_set(err, pem_allowed ? "neither a JWK set nor PEM public keys"
                                                  : "not a JWK set: not one JSON object");
        bool good = read_jwks(r, document, err);
        json_decref(document);
        return good;
}

struct keyset *keyset_parse(struct str text, bool pem_allowed, const char *source,
        struct error_list *warnings, struct error *err)
{
        struct reading r = {keyset_empty(KEYSET_MOST_KEYS), source, warnings};
        bool good = read_document(&r, text, pem_allowed, err);

        if (good)
                drop_ambiguous(&r);
        if (good && r.set->n == 0)
                good = error_set(
                        err, "holds no key that can be used (%zu left out)", r.set->dropped);
        ERR_clear_error();
        if (!good) {
                keyset_unref(r.set);
                return NULL;
        }
        r.set->generation = generation_of(r.set);
        return r.set;
}

bool keyset_prepare(struct keyset *set, const struct key **made)
{
        size_t tables = 0;
        bool later = false;

        *made = NULL;
        for (size_t i = 0; i < set->n && tables < MOST_TABLES; i++) {
                struct key_use *use = set->keys[i].use;
                if (!(set->keys[i].algorithms & TOKEN_ALG_BIT(TOKEN_ES256)) || use->refused)
                        continue;
                if (atomic_load(&use->table)) {
                        tables++;
                } else if (atomic_load(&use->good) < KEY_WORTH_A_TABLE) {
                        later = true;
                } else {
                        atomic_store(&use->table, fixed_base_new(set->keys[i].pkey));
                        use->refused = !use->table;
                        *made = use->refused ? NULL : &set->keys[i];
                        return true; /* one in a call */
                }
        }
        return later && tables < MOST_TABLES;
}

/* The only key for `alg` among those that `kid` names (ptr NULL: among all); `*named` counts those
 * that have the name. */
static const struct key *only_key(
        const struct keyset *set, struct str kid, enum token_alg alg, size_t *named)
{
        const struct key *found = NULL;
        size_t fit = 0;

        *named = 0;
        for (size_t i = 0; i < set->n; i++) {
                const struct key *key = &set->keys[i];
                if (kid.ptr && !(key->kid.ptr && str_eq(key->kid, kid)) &&
                        !(key->other_kid.ptr && str_eq(key->other_kid, kid)))
                        continue;
                ++*named;
                if (key->algorithms & TOKEN_ALG_BIT(alg)) {
                        found = key;
                        fit++;
                }
        }
        return fit == 1 ? found : NULL;
}

const struct key *keyset_find(
        const struct keyset *set, struct str kid, enum token_alg alg, bool *other_alg)
{
        size_t named;
        const struct key *key = only_key(set, kid, alg, &named);

        *other_alg = kid.ptr && !key && named > 0;
        if (!named && kid.ptr && set->pem)
                key = only_key(set, STR_NONE, alg, &named);
        return key;
}
