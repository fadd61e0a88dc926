#include "dagward/token/token.h"

#include <inttypes.h>
#include <stdlib.h>
#include <openssl/evp.h>

#include "claims.h"
#include "dagward/token/base64.h"

enum {
        HEADER_MOST_BYTES = 8 * 1024, /* encoded; certificate chains do occur in headers */
        KID_MOST_BYTES = KEYSET_KID_MOST_BYTES,
        ID_MOST_BYTES = 256, /* a longer `jti` is replaced by the digest */
        CALLER_BLOCK_BYTES = 2048,
        /* Two parts, decoded; their values, and the list by which two of one name are found. */
        CALLER_CEILING = 2 * TOKEN_MOST_BYTES +
                         2 * TOKEN_MOST_VALUES * (int)(sizeof(struct tree) + sizeof(void *)) +
                         32 * 1024,
};

/* A token on its way through the checks. */
struct trial {
        struct str compact, header_text, payload_text, signature_text;
        const struct tree *header, *claims; /* in the arena, with their text; the caller gets it */
        struct arena arena;
        enum token_alg alg;
        struct str kid, iss, subject;
        int64_t now_s, exp_s, iat_s; /* iat_s INT64_MIN: absent */
        const struct token_rules *rules;
        const struct keyset *keys;
        const struct key *key;
        unsigned issuer_index;
        struct error *why;
        unsigned char signature[BASE64_DECODED(TOKEN_MOST_BYTES)];
};

static bool base64url_only(struct str s)
{
        for (size_t i = 0; i < s.len; i++) {
                char c = s.ptr[i], lower = char_lower(c);
                if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                            c == '_'))
                        return false;
        }
        return s.len > 0;
}

static bool three_parts(struct str compact, struct str part[3])
{
        struct str rest = str_cut(compact, '.', &part[0]);

        rest = str_cut(rest, '.', &part[1]);
        part[2] = rest;
        return part[0].len && part[1].len && rest.len && str_find(rest, '.') < 0;
}

bool token_looks_like_jwt(struct str secret)
{
        struct str part[3];

        return three_parts(secret, part) && base64url_only(part[0]) && base64url_only(part[1]) &&
               base64url_only(part[2]);
}

bool token_looks_like_pat(struct str secret)
{
        struct str part[3];

        if (secret.len == 84 && memcmp(secret.ptr + 76, "AZDO", 4) == 0)
                return true;
        return !three_parts(secret, part); /* the 52 characters of an older PAT hold no dot */
}

/* One JSON object in base64url. */
static const struct tree *read_part(struct trial *t, struct str text)
{
        static const struct tree_bounds most = {TOKEN_MOST_DEPTH, TOKEN_MOST_VALUES};
        char *bytes = arena_alloc(&t->arena, BASE64_DECODED(text.len));
        ssize_t len = bytes ? base64url_decode(text, bytes) : -1;
        const struct tree *value =
                len < 0 ? NULL : tree_read(str_view(bytes, (size_t)len), &most, &t->arena);

        return value && value->kind == TREE_OBJECT ? value : NULL;
}

static enum token_verdict split(struct trial *t)
{
        struct str part[3];

        if (t->compact.len > TOKEN_MOST_BYTES)
                return TOKEN_TOO_LARGE;
        if (token_looks_like_pat(t->compact))
                return TOKEN_PAT;
        if (!three_parts(t->compact, part) || part[0].len > HEADER_MOST_BYTES) {
                error_set(t->why, "the header is longer than %d bytes", HEADER_MOST_BYTES);
                return TOKEN_MALFORMED;
        }
        t->header_text = part[0];
        t->payload_text = part[1];
        t->signature_text = part[2];
        return TOKEN_OK;
}

/* `typ` as RFC 8725 3.11 wants it: only what an access token calls itself. */
static bool typ_is_ours(const struct tree *typ)
{
        struct str name = tree_text(typ);

        if (!typ)
                return true;
        if (str_starts_fold(name, STR("application/")))
                name = str_from(name, sizeof("application/") - 1);
        return str_eq_fold(name, STR("JWT")) || str_eq_fold(name, STR("at+jwt"));
}

/* The tokens of one issuer begin alike: the header that was accepted last is not parsed again. */
static _Thread_local struct {
        char text[512], kid[256];
        size_t len, kid_len;
        enum token_alg alg;
} last_header;

static bool is_last_header(struct trial *t)
{
        if (!last_header.len ||
                !str_eq(t->header_text, str_view(last_header.text, last_header.len)))
                return false;
        t->alg = last_header.alg;
        t->kid = last_header.kid_len ? str_view(last_header.kid, last_header.kid_len) : STR_NONE;
        return true;
}

static void keep_header(const struct trial *t)
{
        last_header.len = 0;
        if (t->header_text.len > sizeof(last_header.text) || t->kid.len > sizeof(last_header.kid))
                return;
        memcpy(last_header.text, t->header_text.ptr, t->header_text.len);
        if (t->kid.len)
                memcpy(last_header.kid, t->kid.ptr, t->kid.len);
        last_header.len = t->header_text.len;
        last_header.kid_len = t->kid.len;
        last_header.alg = t->alg;
}

static enum token_verdict read_header(struct trial *t)
{
        if (is_last_header(t))
                return TOKEN_OK;
        t->header = read_part(t, t->header_text);
        const struct tree *kid = tree_member(t->header, STR("kid"));

        if (!t->header) {
                error_set(t->why, "the header is not base64url of one JSON object");
                return TOKEN_MALFORMED;
        }
        if (tree_member(t->header, STR("crit")) || tree_member(t->header, STR("b64"))) {
                error_set(t->why, "`crit` and `b64` are not understood here");
                return TOKEN_WRONG_KIND;
        }
        if (!typ_is_ours(tree_member(t->header, STR("typ")))) {
                error_set(t->why, "header `typ` is neither JWT nor at+jwt");
                return TOKEN_WRONG_KIND;
        }
        if (!token_alg_named(tree_text(tree_member(t->header, STR("alg"))), &t->alg))
                return TOKEN_WRONG_ALG;
        t->kid = tree_text(kid);
        if (kid && (str_empty(t->kid) || t->kid.len > KID_MOST_BYTES)) {
                error_set(t->why, "`kid` is not a string of 1 to %d bytes", KID_MOST_BYTES);
                return TOKEN_MALFORMED;
        }
        keep_header(t);
        return TOKEN_OK;
}

static enum token_verdict read_payload(struct trial *t)
{
        t->claims = read_part(t, t->payload_text);
        if (t->claims)
                return TOKEN_OK;
        error_set(t->why, "the payload is not base64url of one JSON object");
        return TOKEN_MALFORMED;
}

/* `iss` is not proven yet: it only chooses whose rules and keys the token is held against. */
static enum token_verdict choose_issuer(
        struct trial *t, const struct issuer_view *issuers, size_t n)
{
        t->iss = tree_text(tree_member(t->claims, STR("iss")));
        for (size_t i = 0; t->iss.ptr && i < n; i++)
                for (size_t j = 0; j < issuers[i].rules->n_issuers; j++)
                        if (str_eq(t->iss, issuers[i].rules->issuers[j])) {
                                t->issuer_index = (unsigned)i;
                                t->rules = issuers[i].rules;
                                t->keys = issuers[i].keys;
                                return TOKEN_OK;
                        }
        return TOKEN_UNKNOWN_ISSUER;
}

static enum token_verdict check_times(struct trial *t)
{
        int64_t nbf_s = INT64_MIN, skew_s = t->rules->clock_skew_s;

        t->iat_s = INT64_MIN;
        if (claims_date(t->claims, STR("exp"), false, &t->exp_s) != DATE_OK) {
                error_set(t->why, "`exp` is missing or not a date");
                return TOKEN_MALFORMED;
        }
        if (claims_date(t->claims, STR("nbf"), true, &nbf_s) == DATE_BAD ||
                claims_date(t->claims, STR("iat"), false, &t->iat_s) == DATE_BAD) {
                error_set(t->why, "`nbf` or `iat` is not a date");
                return TOKEN_MALFORMED;
        }
        if (t->now_s - skew_s >= t->exp_s) {
                if (t->now_s - t->exp_s < INT32_MAX)
                        error_set(t->why, "expired %" PRId64 " s ago", t->now_s - t->exp_s);
                return TOKEN_EXPIRED;
        }
        if (nbf_s > t->now_s + skew_s || t->iat_s > t->now_s + skew_s) {
                error_set(t->why, "`%s` lies in the future by more than the allowed %" PRId64 " s",
                        nbf_s > t->now_s + skew_s ? "nbf" : "iat", skew_s);
                return TOKEN_NOT_YET;
        }
        return TOKEN_OK;
}

static enum token_verdict check_audience(struct trial *t)
{
        return claims_audience(t->claims, t->rules->audiences, t->rules->n_audiences)
                       ? TOKEN_OK
                       : TOKEN_WRONG_AUDIENCE;
}

static enum token_verdict choose_key(struct trial *t)
{
        bool other_alg;

        if (!(t->rules->algorithms & TOKEN_ALG_BIT(t->alg))) {
                error_set(t->why, "%s is not among the issuer's `algorithms`",
                        token_alg_name(t->alg));
                return TOKEN_WRONG_ALG;
        }
        if (!t->keys)
                return TOKEN_NO_KEYS;
        t->key = keyset_find(t->keys, t->kid, t->alg, &other_alg);
        if (t->key)
                return TOKEN_OK;
        if (other_alg) {
                error_set(t->why, "the named key is not for %s", token_alg_name(t->alg));
                return TOKEN_WRONG_ALG;
        }
        if (!t->kid.ptr)
                error_set(t->why, "the token names no key and there is not exactly one for %s",
                        token_alg_name(t->alg));
        return TOKEN_UNKNOWN_KID;
}

static enum token_verdict check_signature(struct trial *t)
{
        size_t signed_len = t->header_text.len + 1 + t->payload_text.len;
        ssize_t len = base64url_decode(t->signature_text, t->signature);

        if (len < 0) {
                error_set(t->why, "the signature is not base64url");
                return TOKEN_MALFORMED;
        }
        return key_verify(t->key, t->alg, str_head(t->compact, signed_len),
                       str_view((const char *)t->signature, (size_t)len))
                       ? TOKEN_OK
                       : TOKEN_BAD_SIGNATURE;
}

/* Tokens that are not for calling anybody, though the same issuer signs them with the same key. */
static bool another_kind(const struct tree *claims)
{
        static const struct str kinds[] = {
                {"ID", 2}, {"Refresh", 7}, {"Offline", 7}, {"Logout", 6}, {"DPoP", 4}};
        struct str typ = tree_text(tree_member(claims, STR("typ"))); /* Keycloak says it here */

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (str_eq_fold(typ, kinds[i]))
                        return true;
        return tree_member(claims, STR("at_hash")) || tree_member(claims, STR("c_hash"));
}

static bool subject_is_sane(struct str subject)
{
        if (str_empty(subject) || subject.len > TOKEN_SUBJECT_MOST_BYTES)
                return false;
        for (size_t i = 0; i < subject.len; i++)
                if ((unsigned char)subject.ptr[i] < 0x20 || subject.ptr[i] == 0x7f)
                        return false;
        return true;
}

static enum token_verdict check_claims(struct trial *t)
{
        int64_t most_s = t->rules->max_lifetime_s;
        int64_t from_s = t->iat_s == INT64_MIN ? t->now_s : t->iat_s;

        if (another_kind(t->claims))
                return TOKEN_WRONG_KIND;
        if (most_s > 0 && t->exp_s - from_s > most_s) {
                error_set(t->why, "lives for %" PRId64 " s, allowed are %" PRId64,
                        t->exp_s - from_s, most_s);
                return TOKEN_TOO_LONG_LIVED;
        }
        const struct pair *unmet = claims_unmet(t->claims, t->rules->require, t->rules->n_require);
        if (unmet) {
                error_set(t->why, "claim `%.*s` is not what the configuration requires",
                        STR_FMT(unmet->name));
                return TOKEN_REQUIRED_CLAIM;
        }
        t->subject = tree_text(tree_member(t->claims, STR("sub")));
        return subject_is_sane(t->subject) ? TOKEN_OK : TOKEN_NO_SUBJECT;
}

static void caller_drop(struct snapshot *snap)
{
        struct caller *caller = (struct caller *)snap; /* snap is its first member */

        arena_clear(&caller->arena);
        free(caller);
}

void caller_unref(struct caller *caller)
{
        if (caller)
                snapshot_unref(&caller->snap);
}

void token_digest(struct str compact, unsigned char out[TOKEN_DIGEST_BYTES])
{
        if (EVP_Digest(compact.ptr, compact.len, out, NULL, EVP_sha256(), NULL) != 1)
                abort();
}

static struct str token_id(struct trial *t, struct arena *arena)
{
        struct str jti = tree_text(tree_member(t->claims, STR("jti")));
        unsigned char digest[32];
        char text[64];
        struct buf out;

        if (jti.len > 0 && jti.len <= ID_MOST_BYTES)
                return jti;
        if (EVP_Digest(t->compact.ptr, t->compact.len, digest, NULL, EVP_sha256(), NULL) != 1)
                abort();
        buf_init_fixed(&out, text, sizeof(text));
        BUF_LITERAL(&out, "sha256:");
        buf_hex(&out, digest, 16);
        return arena_copy(arena, buf_str(&out));
}

static enum token_verdict make_caller(struct trial *t, struct caller **out)
{
        struct caller *caller = calloc(1, sizeof(*caller));

        if (!caller)
                abort();
        snapshot_init(&caller->snap, caller_drop);
        caller->arena = t->arena; /* with what t->claims, iss and subject are views of */
        arena_init(&t->arena, CALLER_BLOCK_BYTES, CALLER_CEILING);
        caller->issuer_index = t->issuer_index;
        caller->issuer = arena_copy(&caller->arena, t->rules->name);
        caller->iss = t->iss;
        caller->subject = t->subject;
        caller->token_id = token_id(t, &caller->arena);
        caller->groups_unknown = claims_groups_unknown(t->claims);
        caller->issued_s = t->iat_s;
        caller->expires_s = t->exp_s;
        caller->claims = t->claims;
        if (!claims_roles(t->claims, t->rules->roles_paths, t->rules->n_roles_paths, caller)) {
                caller_unref(caller);
                return TOKEN_TOO_MANY_ROLES;
        }
        *out = caller;
        return TOKEN_OK;
}

/* The order is the point: nothing here costs more than reading the token before check_signature,
 * and an unknown `kid` is only reported for a token that would otherwise be worth a new key set. */
static enum token_verdict judge(struct trial *t, const struct issuer_view *issuers, size_t n)
{
        enum token_verdict verdict = split(t);

        if (verdict == TOKEN_OK)
                verdict = read_header(t);
        if (verdict == TOKEN_OK)
                verdict = read_payload(t);
        if (verdict == TOKEN_OK)
                verdict = choose_issuer(t, issuers, n);
        if (verdict == TOKEN_OK)
                verdict = check_times(t);
        if (verdict == TOKEN_OK)
                verdict = check_audience(t);
        if (verdict == TOKEN_OK)
                verdict = choose_key(t);
        if (verdict == TOKEN_OK)
                verdict = check_signature(t);
        if (verdict == TOKEN_OK)
                verdict = check_claims(t);
        return verdict;
}

enum token_verdict token_verify(struct str compact, const struct issuer_view *issuers, size_t n,
        int64_t now_s, struct caller **out, unsigned *issuer_index, struct error *why)
{
        struct trial t;

        /* Not one initializer: it would clear the 12 KiB of `signature` each time. */
        t.compact = compact;
        t.header = t.claims = NULL;
        arena_init(&t.arena, CALLER_BLOCK_BYTES, CALLER_CEILING);
        t.now_s = now_s;
        t.issuer_index = (unsigned)n;
        t.why = why;
        if (why)
                why->text[0] = '\0';
        *out = NULL;
        enum token_verdict verdict = judge(&t, issuers, n);
        if (verdict == TOKEN_OK)
                verdict = make_caller(&t, out);
        arena_clear(&t.arena);
        *issuer_index = t.issuer_index;
        if (verdict != TOKEN_OK && why && !why->text[0])
                error_set(why, "%s", token_verdict_text(verdict));
        return verdict;
}

static const struct {
        const char *name, *text;
} verdicts[TOKEN_VERDICT_COUNT] = {
        [TOKEN_OK] = {"ok", "the token is good"},
        [TOKEN_TOO_LARGE] = {"too_large",
                "the token is longer than 16 KiB; ask the issuer for one with fewer claims"},
        [TOKEN_MALFORMED] = {"malformed",
                "this is not a well-formed JWT; send the token exactly as the issuer gave it"},
        [TOKEN_PAT] = {"pat",
                "personal access tokens are not accepted here; send an OIDC token (JWT) of a "
                "configured issuer in its place"},
        [TOKEN_WRONG_KIND] = {"wrong_kind",
                "this JWT is of another kind (an ID, refresh or logout token, or one with "
                "extensions); send an access token"},
        [TOKEN_WRONG_ALG] = {"wrong_alg",
                "the token is signed with an algorithm that is not accepted from its issuer or "
                "does not belong to its key"},
        [TOKEN_UNKNOWN_ISSUER] = {"unknown_issuer",
                "the token comes from an issuer that is not configured here; `iss` must be exactly "
                "one of the configured ones"},
        [TOKEN_NO_KEYS] = {"no_keys",
                "the keys of the token's issuer are not available yet; try again shortly"},
        [TOKEN_UNKNOWN_KID] = {"unknown_kid",
                "the token is signed with a key that its issuer does not publish; get a new token"},
        [TOKEN_BAD_SIGNATURE] = {"bad_signature",
                "the token's signature is not valid; send the token exactly as the issuer gave it"},
        [TOKEN_EXPIRED] = {"expired", "the token has expired; get a new one"},
        [TOKEN_NOT_YET] = {"not_yet",
                "the token is not valid yet; the issuer's clock and ours differ by more than is "
                "allowed"},
        [TOKEN_WRONG_AUDIENCE] = {"wrong_audience",
                "the token is meant for somebody else; ask the issuer for one whose `aud` is this "
                "proxy's"},
        [TOKEN_TOO_LONG_LIVED] = {"too_long_lived",
                "the token lives longer than is allowed here; use a short-lived (projected) token"},
        [TOKEN_REQUIRED_CLAIM] = {"required_claim",
                "the token lacks a claim that is required of its issuer, or has another value"},
        [TOKEN_NO_SUBJECT] = {"no_subject",
                "the token does not say who its owner is: `sub` must be a plain string of at most "
                "1024 bytes"},
        [TOKEN_TOO_MANY_ROLES] = {"too_many_roles",
                "the token names more than 512 roles; ask the issuer to send only those that count "
                "here"},
};

const char *token_verdict_name(enum token_verdict verdict)
{
        return verdicts[verdict].name;
}

const char *token_verdict_text(enum token_verdict verdict)
{
        return verdicts[verdict].text;
}
