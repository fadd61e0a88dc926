#include "judge.h"

/* The tenant in https://sts.windows.net/{tid}/ or https://login.microsoftonline.com/{tid}/v2.0. */
static bool entra_tenant(struct str issuer, bool *v2, struct str *tenant)
{
        static const struct str v1_head = {"https://sts.windows.net/", 24};
        static const struct str v2_head = {"https://login.microsoftonline.com/", 34};

        *v2 = str_starts(issuer, v2_head);
        if (!*v2 && !str_starts(issuer, v1_head))
                return false;
        struct str rest = str_cut(str_from(issuer, *v2 ? v2_head.len : v1_head.len), '/', tenant);
        return !str_empty(*tenant) && (!*v2 || str_starts(rest, STR("v2.0")));
}

static struct str without_slash(struct str s)
{
        while (s.len && s.ptr[s.len - 1] == '/')
                s.len--;
        return s;
}

static struct str without_scheme(struct str s)
{
        ssize_t at = str_find_str(s, STR("://"));

        return at < 0 ? s : str_from(s, (size_t)at + 3);
}

enum issuer_difference issuer_compare(struct str configured, struct str found)
{
        struct str a, b;
        bool a2, b2;

        if (str_eq(configured, found))
                return ISSUER_SAME;
        if (str_eq(without_slash(configured), without_slash(found)))
                return ISSUER_SLASH;
        if (str_find_str(found, STR("{tenantid}")) >= 0)
                return ISSUER_PLACEHOLDER;
        if (entra_tenant(configured, &a2, &a) && entra_tenant(found, &b2, &b) && a2 != b2 &&
                str_eq_fold(a, b))
                return ISSUER_ENTRA_FORM;
        if (str_eq(without_scheme(configured), without_scheme(found)))
                return ISSUER_SCHEME;
        if (str_eq_fold(without_slash(configured), without_slash(found)))
                return ISSUER_CASE;
        return ISSUER_OTHER;
}

static void explain_difference(struct diagnosis *d, enum issuer_difference difference,
        const char *configured, const char *found)
{
        switch (difference) {
        case ISSUER_SAME: return;
        case ISSUER_SLASH:
                diagnosis_cause(d, "they differ by the slash at the end only, but `iss` is "
                                   "compared to the byte");
                break;
        case ISSUER_ENTRA_FORM:
                diagnosis_cause(d,
                        "one is Entra's v1 form (https://sts.windows.net/TENANT/), the other its "
                        "v2 form (https://login.microsoftonline.com/TENANT/v2.0): the application "
                        "that tokens are made for decides which (requestedAccessTokenVersion)");
                break;
        case ISSUER_PLACEHOLDER:
                diagnosis_cause(d, "the metadata of `common` or `organizations` is for every "
                                   "tenant; its issuer is a pattern");
                diagnosis_remedy(
                        d, "write the tenant's id into `issuer` where %s stands now", configured);
                return;
        case ISSUER_CASE: diagnosis_cause(d, "they differ in letter case, which counts"); break;
        case ISSUER_SCHEME: diagnosis_cause(d, "one is http, the other https"); break;
        case ISSUER_OTHER:
                diagnosis_cause(d, "this is another issuer: its server may follow the host name of "
                                   "the request, or stand behind a name of its own");
                break;
        }
        diagnosis_remedy(d,
                "tokens carry what the issuer calls itself: set `issuer: %s` (now %s)%s", found,
                configured, difference == ISSUER_ENTRA_FORM ? ", or list both forms" : "");
}

void judge_document(struct diagnoses *out, const struct about *about,
        const struct config_issuer *issuer, const char *found_issuer, const char *jwks_uri)
{
        struct str configured = issuer->issuers[0];
        struct diagnosis *d;

        if (!found_issuer[0] || !jwks_uri[0]) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "document",
                        "the discovery document of %s lacks `%s`", configured.ptr,
                        found_issuer[0] ? "jwks_uri" : "issuer");
                diagnosis_cause(d, "it is JSON, but no OpenID discovery document");
                diagnosis_remedy(d, "correct `issuer: %s`, or set `keys.url` to the key set",
                        configured.ptr);
                return;
        }
        enum issuer_difference difference = issuer_compare(configured, str_of(found_issuer));
        if (difference == ISSUER_SAME) {
                diagnose(out, about, DOCTOR_OK, "document", "discovery names %s and keys at %s",
                        found_issuer, jwks_uri);
                return;
        }
        d = diagnose(out, about, DOCTOR_PROBLEM, "mismatch",
                "the discovery document is for issuer %s, configured is %s", found_issuer,
                configured.ptr);
        explain_difference(d, difference, configured.ptr, found_issuer);
}

/* --- keys --- */

static unsigned wanted_algorithms(const struct config_issuer *issuer)
{
        unsigned bits = 0;
        enum token_alg alg;

        for (size_t i = 0; i < issuer->n_algorithms; i++) {
                if (token_alg_named(issuer->algorithms[i], &alg))
                        bits |= TOKEN_ALG_BIT(alg);
        }
        return bits;
}

/* "RS256 2, ES256 1" of those in `bits` that have a key. */
static void count_keys(const struct keyset *keys, unsigned bits, struct buf *out)
{
        for (int alg = 0; alg < TOKEN_ALG_COUNT; alg++) {
                size_t n = 0;
                for (size_t i = 0; i < keys->n; i++)
                        n += (keys->keys[i].algorithms & TOKEN_ALG_BIT(alg)) != 0;
                if (n && (bits & TOKEN_ALG_BIT(alg)))
                        buf_printf(out, "%s%s %zu", out->len ? ", " : "",
                                token_alg_name((enum token_alg)alg), n);
        }
}

static void list_algorithms(unsigned bits, struct buf *out)
{
        for (int alg = 0; alg < TOKEN_ALG_COUNT; alg++) {
                if (bits & TOKEN_ALG_BIT(alg))
                        buf_printf(out, "%s%s", out->len ? ", " : "",
                                token_alg_name((enum token_alg)alg));
        }
}

static void judge_dropped(
        struct diagnoses *out, const struct about *about, const struct error_list *dropped)
{
        for (size_t i = 0; i < dropped->n && i < 5; i++) {
                struct diagnosis *d = diagnose(out, about, DOCTOR_WARNING, "key-dropped",
                        "a key is not used: %s", dropped->findings[i].text);
                diagnosis_cause(d, "keys that are weak, malformed or ambiguous are left out; "
                                   "tokens signed with them are refused");
                diagnosis_remedy(d,
                        "have %s publish RSA keys of 2048 bits or more, or P-256; nothing is lost "
                        "if no token is signed with this one",
                        about->subject);
        }
}

void judge_keys(struct diagnoses *out, const struct about *about,
        const struct config_issuer *issuer, const char *source, const struct keyset *keys,
        const struct error_list *dropped, const char *why)
{
        char counts[256], wanted[128];
        unsigned bits = wanted_algorithms(issuer), have = 0;
        struct buf count, want;
        struct diagnosis *d;

        if (dropped)
                judge_dropped(out, about, dropped);
        if (!keys) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "no-keys", "%s has no usable key: %s",
                        source, why);
                diagnosis_cause(d, "without a key nobody of issuer %s gets in", about->subject);
                diagnosis_remedy(d, "compare %s with what the issuer signs with", source);
                return;
        }
        buf_init_fixed(&count, counts, sizeof(counts) - 1);
        buf_init_fixed(&want, wanted, sizeof(wanted) - 1);
        for (size_t i = 0; i < keys->n; i++)
                have |= keys->keys[i].algorithms;
        count_keys(keys, have & bits ? bits : TOKEN_ALGS_ALL, &count);
        list_algorithms(bits, &want);
        counts[count.len] = wanted[want.len] = '\0';
        if (have & bits) {
                diagnose(out, about, DOCTOR_OK, "keys", "%zu key%s of %s, usable for %s", keys->n,
                        keys->n == 1 ? "" : "s", source, counts);
                return;
        }
        d = diagnose(out, about, DOCTOR_PROBLEM, "algorithms",
                "none of the %zu keys of %s is for %s", keys->n, source, wanted);
        diagnosis_cause(d, "the issuer signs with %s, `algorithms` allows %s", counts, wanted);
        buf_reset(&want);
        list_algorithms(have, &want);
        wanted[want.len] = '\0';
        diagnosis_remedy(d, "set `algorithms: [%s]` for issuer %s, if that is what it signs with",
                wanted, about->subject);
}
