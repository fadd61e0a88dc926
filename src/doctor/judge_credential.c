#include <stdlib.h>

#include "judge.h"

enum { EXPIRES_SOON_S = 15 * 60 };

/* --- what Entra says --- */

/* {tenant}, {client_id}, {file}, {authority}, {scope}, {iss}, {sub}, {aud} are filled in. */
struct meaning {
        int64_t aadsts;
        const char *name, *cause, *remedy;
};

static const struct meaning meanings[] = {
        {7000215, "secret-wrong",
                "Entra does not know the secret in {file} as one of application {client_id}: it is "
                "that of another application, a removed one, or the secret's id and not its value",
                "make a new client secret for application {client_id} and write its value (the "
                "column Value, shown once) into {file}"},
        {7000222, "secret-expired",
                "the client secret or certificate of application {client_id} has expired in Entra",
                "add a new one to application {client_id} in tenant {tenant}, write it into "
                "{file}, and remove the old one"},
        {700016, "application-unknown", "there is no application {client_id} in tenant {tenant}",
                "check `client_id` {client_id} and `tenant` {tenant} (swapped? the object id "
                "instead of the application id?), or create its service principal there"},
        {7000112, "application-disabled", "application {client_id} is disabled in tenant {tenant}",
                "enable its enterprise application, after asking who disabled it"},
        {90002, "tenant-unknown", "{authority} knows no tenant {tenant}",
                "correct `tenant` {tenant}; for a national cloud set `authority` (now "
                "{authority})"},
        {9001023, "tenant-common",
                "this grant does not work over `common` or `organizations` ({tenant})",
                "set `tenant` to the tenant's id or a verified domain"},
        {70021, "federation-mismatch",
                "no federated credential of application {client_id} matches the assertion in "
                "{file}: issuer {iss}, subject {sub}, audience {aud}",
                "make the federated credential equal to these three to the byte: issuer {iss}, "
                "subject {sub}, audience {aud} (a new one takes minutes to work)"},
        {700211, "federation-issuer",
                "no federated credential of application {client_id} has the issuer {iss}",
                "set the issuer of the federated credential to {iss}, to the last slash; is this "
                "the cluster that was meant?"},
        {700212, "federation-audience",
                "no federated credential of application {client_id} has the audience {aud} that "
                "the assertion in {file} is made for",
                "project the token for api://AzureADTokenExchange (`audience` of the "
                "serviceAccountToken volume), or set the audience of the credential to {aud}"},
        {700213, "federation-subject",
                "no federated credential of application {client_id} has the subject {sub} "
                "(issuer {iss})",
                "set the subject of the federated credential to {sub}: namespace, service "
                "account and letter case count"},
        {700024, "assertion-time", "the assertion in {file} is not valid at this time",
                "is {file} still being renewed? compare `date -u` with a clock you trust and run "
                "chrony"},
        {500133, "assertion-expired", "the assertion in {file} has expired",
                "is {file} still being renewed? a pod's projected token is; a copy is not"},
        {500011, "resource-unknown", "the resource of `scope` {scope} is not known in {tenant}",
                "is {tenant} the tenant of the Azure DevOps organization? `scope` is "
                "499b84ac-1321-427f-aa17-267ca6975798/.default unless you know better"},
        {90061, "federation-metadata", "Entra could not fetch the metadata of {iss}",
                "discovery document and key set of {iss} must be public over https, with a "
                "certificate of a public authority"},
        {501661, "federation-metadata", "Entra could not reach {iss}",
                "discovery document and key set of {iss} must be public over https, with a "
                "certificate of a public authority"},
        {50166, "federation-metadata", "Entra could not reach {iss}",
                "discovery document and key set of {iss} must be public over https, with a "
                "certificate of a public authority"},
        {700027, "certificate-unknown",
                "the certificate that signed is not one of application {client_id}",
                "upload the certificate to application {client_id}; compare thumbprints"},
        {53003, "conditional-access", "Conditional Access blocked application {client_id}",
                "allow this machine's egress address in the location policy for workload "
                "identities"},
};

int64_t aadsts_of(const char *text)
{
        const char *at = strstr(text, "AADSTS");

        return at && at[6] >= '0' && at[6] <= '9' ? strtoll(at + 6, NULL, 10) : 0;
}

static const char *file_of(const struct config_credential *c)
{
        return c->secret_file.ptr        ? c->secret_file.ptr
               : c->assertion_file.ptr   ? c->assertion_file.ptr
               : c->certificate_file.ptr ? c->certificate_file.ptr
               : c->file.ptr             ? c->file.ptr
                                         : "(no file)";
}

static const char *or_none(const char *text)
{
        return text && text[0] ? text : "(none)";
}

static void fill(const char *pattern, const struct credential_seen *seen, char out[640])
{
        const struct config_credential *c = seen->config;
        const struct {
                const char *key, *value;
        } values[] = {
                {"{tenant}", or_none(c->tenant.ptr)},
                {"{client_id}", or_none(c->client_id.ptr)},
                {"{file}", file_of(c)},
                {"{authority}", or_none(c->authority.text.ptr)},
                {"{scope}", or_none(c->scope.ptr)},
                {"{iss}", or_none(seen->claims.iss)},
                {"{sub}", or_none(seen->claims.sub)},
                {"{aud}", or_none(seen->claims.aud)},
        };
        struct buf text;

        buf_init_fixed(&text, out, 639);
        while (*pattern) {
                size_t i = 0, n = sizeof(values) / sizeof(*values);
                while (i < n && strncmp(pattern, values[i].key, strlen(values[i].key)) != 0)
                        i++;
                if (i < n) {
                        buf_str_add(&text, str_of(values[i].value));
                        pattern += strlen(values[i].key);
                } else {
                        buf_char(&text, *pattern++);
                }
        }
        out[text.len] = '\0';
}

static const struct meaning *meaning_of(int64_t aadsts)
{
        for (size_t i = 0; i < sizeof(meanings) / sizeof(*meanings); i++) {
                if (meanings[i].aadsts == aadsts)
                        return &meanings[i];
        }
        return NULL;
}

static void judge_aadsts(struct diagnoses *out, const struct about *about,
        const struct credential_seen *seen, int64_t aadsts, const char *fallback)
{
        const struct meaning *meaning = meaning_of(aadsts);
        char cause[640], remedy[640];
        struct diagnosis *d = diagnose(out, about, DOCTOR_PROBLEM,
                meaning ? meaning->name : "refused-by-entra", "no token: %s", seen->why);

        fill(meaning       ? meaning->cause
                : fallback ? fallback
                           : "Entra refused application {client_id} of tenant {tenant}",
                seen, cause);
        fill(meaning ? meaning->remedy
                     : "look into the sign-in log of application {client_id} in tenant {tenant}, "
                       "with the trace id above",
                seen, remedy);
        if (aadsts == 7000215 && seen->looks_like_id) {
                size_t len = strlen(cause);
                snprintf(cause + len, sizeof(cause) - len,
                        "; what the file holds has the shape of an id");
        }
        diagnosis_cause(d, "%s", cause);
        diagnosis_remedy(d, "%s", remedy);
}

bool judge_obtained(struct diagnoses *out, const struct about *about,
        const struct credential_seen *seen, const char *fallback)
{
        const struct config_credential *c = seen->config;
        struct diagnosis *d;

        if (seen->obtained) {
                diagnose(out, about, DOCTOR_OK, "obtained", "a token was obtained%s%s",
                        c->file.ptr ? " from " : "", c->file.ptr ? c->file.ptr : "");
                return true;
        }
        const char *why = seen->settled ? seen->why : "no answer in time";
        int64_t aadsts = aadsts_of(why);
        if (aadsts) {
                judge_aadsts(out, about, seen, aadsts, fallback);
        } else if (c->file.ptr && strstr(why, "has expired")) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "token-expired", "no token: %s", why);
                diagnosis_cause(d, "a token in a file is not renewed by anybody here");
                diagnosis_remedy(d, "put a fresh token into %s, or use a type that renews itself",
                        c->file.ptr);
        } else if (strstr(why, "HTML page")) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "captive-portal", "no token: %s", why);
                diagnosis_cause(d,
                        "a proxy or captive portal of the network answers in place of "
                        "%s",
                        or_none(c->authority.text.ptr));
                diagnosis_remedy(d,
                        "let this machine reach %s directly; look at the page with curl -i",
                        or_none(c->authority.text.ptr));
        } else {
                d = diagnose(out, about, DOCTOR_PROBLEM, "not-obtained", "no token: %s", why);
                diagnosis_cause(d, "the attempt that `serve` would make ended so");
                diagnosis_remedy(d, "check the settings of credential %s, %s and %s",
                        about->subject, file_of(c), or_none(c->authority.text.ptr));
        }
        return false;
}

/* --- what the proof looks like --- */

static void judge_assertion(struct diagnoses *out, const struct about *about,
        const struct credential_seen *seen, int64_t now_s)
{
        const char *path = seen->config->assertion_file.ptr;
        const struct token_claims *c = &seen->claims;
        struct diagnosis *d;
        char span[32];

        if (!c->jwt) {
                d = diagnose(
                        out, about, DOCTOR_PROBLEM, "assertion-no-jwt", "%s holds no JWT", path);
                diagnosis_cause(d, "it is another kind of file than a projected token");
                diagnosis_remedy(d, "let `assertion_file` name the projected token, not %s", path);
                return;
        }
        if (c->exp_s != INT64_MIN && c->exp_s <= now_s) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "assertion-expired",
                        "the assertion in %s expired %s ago", path,
                        span_text(now_s - c->exp_s, span));
                diagnosis_cause(d,
                        "nobody renews %s: it is a copy, or the pod's volume is not a "
                        "projected one",
                        path);
                diagnosis_remedy(d, "mount a projected serviceAccountToken at %s", path);
        }
        if (strcmp(c->alg, "RS256") != 0) {
                d = diagnose(out, about, DOCTOR_WARNING, "assertion-algorithm",
                        "the assertion in %s is signed with %s", path, c->alg);
                diagnosis_cause(d, "Entra takes RS256 from federated issuers; %s signs with %s",
                        c->iss, c->alg);
                diagnosis_remedy(d, "have %s sign with RS256, or use a certificate", c->iss);
        }
}

void judge_proof(struct diagnoses *out, const struct about *about,
        const struct credential_seen *seen, int64_t now_s)
{
        const struct config_credential *c = seen->config;
        struct diagnosis *d;
        char span[32];

        if (c->assertion_file.ptr)
                judge_assertion(out, about, seen, now_s);
        if (c->secret_file.ptr && seen->looks_like_id) {
                d = diagnose(out, about, DOCTOR_WARNING, "secret-is-id",
                        "%s holds a GUID, as a secret's id is", c->secret_file.ptr);
                diagnosis_cause(d, "Entra shows an id and a value for each secret; the value is "
                                   "what proves anything");
                diagnosis_remedy(d, "write the secret's value into %s", c->secret_file.ptr);
        }
        if (config_credential_is_emergency(c)) {
                d = diagnose(out, about, DOCTOR_WARNING, "emergency",
                        "what is lent is of type %s, for emergencies",
                        config_credential_type_name(c->type).ptr);
                diagnosis_cause(d, "it is lent as it is, and nobody here renews or bounds it");
                diagnosis_remedy(d, "once the emergency is over, use a type that renews itself");
        }
        if (c->file.ptr && seen->claims.jwt && seen->claims.exp_s > now_s &&
                seen->claims.exp_s - now_s < EXPIRES_SOON_S) {
                d = diagnose(out, about, DOCTOR_WARNING, "token-expires",
                        "the token in %s expires in %s", c->file.ptr,
                        span_text(seen->claims.exp_s - now_s, span));
                diagnosis_cause(d, "a token in a file is not renewed by anybody here");
                diagnosis_remedy(d, "put a fresh one into %s in time", c->file.ptr);
        }
}
