#include "judge.h"

/* "a, b" of at most 400 bytes. */
static const char *join(const struct str *items, size_t n, char out[400])
{
        struct buf text;

        buf_init_fixed(&text, out, 399);
        for (size_t i = 0; i < n && text.len + items[i].len + 4 < 399; i++)
                buf_printf(&text, "%s%.*s", i ? ", " : "", STR_FMT(items[i]));
        out[text.len] = '\0';
        return out;
}

static void judge_issuer_unknown(
        struct diagnoses *out, const struct about *about, const struct token_seen *seen)
{
        const char *iss = seen->claims.iss[0] ? seen->claims.iss : "(none)";
        struct diagnosis *d = diagnose(out, about, DOCTOR_PROBLEM, "issuer",
                "its issuer (iss) is %s, which is none of those configured", iss);

        if (!seen->near) {
                diagnosis_cause(d, "nobody configured the issuer %s", iss);
                diagnosis_remedy(d,
                        "if its callers should get in, add an entry with `issuer: %s` to "
                        "`issuers`, with its audience and a name for the policy",
                        iss);
                return;
        }
        diagnosis_cause(d, "issuer %s is configured as %s, and the two are not equal to the byte%s",
                seen->near->name.ptr, seen->near->issuers[0].ptr,
                seen->difference == ISSUER_ENTRA_FORM
                        ? ": one is Entra's v1 form (sts.windows.net), the other its v2 form "
                          "(login.microsoftonline.com/.../v2.0)"
                : seen->difference == ISSUER_SLASH ? ": the slash at the end counts"
                                                   : "");
        diagnosis_remedy(d, "add it to the issuer's list: `issuer: [%s, %s]`",
                seen->near->issuers[0].ptr, iss);
}

static const char *issuer_name(const struct token_seen *seen)
{
        return seen->issuer ? seen->issuer->name.ptr : "(not known)";
}

static void judge_audience(
        struct diagnoses *out, const struct about *about, const struct token_seen *seen)
{
        char wanted[400] = "(nobody)";
        struct diagnosis *d = diagnose(out, about, DOCTOR_PROBLEM, "audience",
                "its audience (aud) is %s", seen->claims.aud[0] ? seen->claims.aud : "(none)");

        if (seen->issuer)
                join(seen->issuer->audiences, seen->issuer->n_audiences, wanted);
        diagnosis_cause(d, "issuer %s accepts tokens made for %s only", issuer_name(seen), wanted);
        diagnosis_remedy(d,
                "have the caller ask for a token for %s (`audience` of a projected volume, the "
                "scope or resource of a token request), or add %s to `audiences`",
                wanted, seen->claims.aud[0] ? seen->claims.aud : "its audience");
}

static void judge_algorithm(
        struct diagnoses *out, const struct about *about, const struct token_seen *seen)
{
        const char *alg = seen->claims.alg;
        bool never = str_starts(str_of(alg), STR("HS")) || strcmp(alg, "none") == 0;
        struct diagnosis *d =
                diagnose(out, about, DOCTOR_PROBLEM, "algorithm", "it is signed with %s", alg);
        char list[400] = "others";

        if (seen->issuer)
                join(seen->issuer->algorithms, seen->issuer->n_algorithms, list);
        diagnosis_cause(d, "issuer %s allows %s: %s", issuer_name(seen), list, seen->why);
        if (never)
                diagnosis_remedy(
                        d, "%s is never accepted: have the issuer sign with a key pair", alg);
        else
                diagnosis_remedy(d,
                        "add %s to `algorithms` of issuer %s if it means to sign with "
                        "it",
                        alg, issuer_name(seen));
}

static void judge_refused(struct diagnoses *out, const struct about *about,
        const struct token_seen *seen, int64_t now_s)
{
        char span[32];
        const struct token_claims *c = &seen->claims;
        struct diagnosis *d;

        switch (seen->verdict) {
        case TOKEN_UNKNOWN_ISSUER: judge_issuer_unknown(out, about, seen); return;
        case TOKEN_WRONG_AUDIENCE: judge_audience(out, about, seen); return;
        case TOKEN_EXPIRED:
                d = diagnose(out, about, DOCTOR_PROBLEM, "expired", "it expired %s ago",
                        span_text(now_s - c->exp_s, span));
                diagnosis_cause(d, "the caller uses a token for longer than it is good, or this "
                                   "machine's clock is ahead");
                diagnosis_remedy(d, "have the caller read its token anew before each use (a "
                                    "projected file is renewed in place); compare `date -u`");
                return;
        case TOKEN_NOT_YET:
                d = diagnose(out, about, DOCTOR_PROBLEM, "not-yet", "it is not valid yet: %s",
                        seen->why);
                diagnosis_cause(d, "this machine's clock is behind that of the issuer");
                diagnosis_remedy(d, "run chrony here, or raise `clock_skew` of issuer %s",
                        issuer_name(seen));
                return;
        case TOKEN_UNKNOWN_KID:
                d = diagnose(out, about, DOCTOR_PROBLEM, "kid",
                        "it is signed with key (kid) %s, which issuer %s does not publish", c->kid,
                        issuer_name(seen));
                diagnosis_cause(d,
                        "the issuer has taken that key away, another server of the same name "
                        "signed, or `keys` leads to another key set; published are: %s",
                        seen->kids);
                diagnosis_remedy(d,
                        "take a fresh token; if it names %s again, correct `keys` of issuer %s",
                        c->kid, issuer_name(seen));
                return;
        case TOKEN_WRONG_ALG: judge_algorithm(out, about, seen); return;
        default: break;
        }
        d = diagnose(out, about, DOCTOR_PROBLEM, "refused", "it is refused: %s (%s)",
                token_verdict_name(seen->verdict), seen->why);
        diagnosis_cause(d, "%s", token_verdict_text(seen->verdict));
        diagnosis_remedy(d, "have the caller get an access token from one of the issuers that are "
                            "configured, for the audience that is configured");
}

void judge_token(struct diagnoses *out, const struct about *about, const struct token_seen *seen,
        int64_t now_s)
{
        char span[32];

        if (seen->verdict == TOKEN_NO_KEYS) {
                diagnose(out, about, DOCTOR_SKIPPED, "not-verified",
                        "it is of issuer %s, whose keys could not be had", issuer_name(seen));
                return;
        }
        if (seen->verdict != TOKEN_OK) {
                judge_refused(out, about, seen, now_s);
                return;
        }
        diagnose(out, about, DOCTOR_OK, "accepted",
                "it is accepted: %s of issuer %s, roles %s, for another %s", seen->subject,
                seen->issuer->name.ptr, seen->roles[0] ? seen->roles : "(none)",
                span_text(seen->claims.exp_s - now_s, span));
        if (seen->no_policy) {
                diagnose(out, about, DOCTOR_SKIPPED, "bindings",
                        "which bindings apply is not known: the policy cannot be loaded");
                return;
        }
        if (seen->n_bindings) {
                diagnose(out, about, DOCTOR_OK, "bindings", "%zu binding%s: %s", seen->n_bindings,
                        seen->n_bindings == 1 ? " applies" : "s apply", seen->bindings);
                return;
        }
        struct diagnosis *d = diagnose(out, about, DOCTOR_PROBLEM, "no-binding",
                "no binding of the policy applies to %s of issuer %s", seen->subject,
                seen->issuer->name.ptr);
        diagnosis_cause(d, "every request of this caller is denied (403)");
        diagnosis_remedy(d,
                "add a binding with `callers: {issuer: %s, subject: \"%s\"}`, or one that asks for "
                "a claim that the token has",
                seen->issuer->name.ptr, seen->subject);
}
