#include "entra_answer.h"

#include <jansson.h>

enum { EXPIRES_MOST_S = 10 * 365 * 24 * 3600 };

struct remedy {
        int64_t aadsts;
        bool retry;       /* passes by itself */
        const char *text; /* "fact: what to do" */
};

static const struct remedy remedies[] = {
        {700016, false,
                "the application is not in this tenant: check `client_id` and `tenant` (swapped?), "
                "or create its service principal there"},
        {7000112, false, "the application is disabled in the tenant: enable it"},
        {7000215, false,
                "wrong client secret: the file must hold the secret's value, not its id, and be "
                "of this application"},
        {7000222, false, "the client secret or certificate has expired: add a new one"},
        {7000218, false,
                "no credential reached the token endpoint: is the application a public client?"},
        {700025, false,
                "the application is a public client: turn off \"allow public client flows\""},
        {700027, false,
                "the assertion's signature or certificate is not known to the application: upload "
                "this certificate, or compare its SHA-256 thumbprint with those that are there"},
        {700030, false,
                "the certificate's subject is not authorised for the application: upload this "
                "certificate to it"},
        {50012, false, "the assertion is malformed: check its algorithm (RS256) and audience"},
        {50013, false,
                "the assertion's signature is wrong or it has expired: check the issuer, the "
                "clock, and that the token file is the current one"},
        {500133, false, "the assertion has expired: is `assertion_file` still being renewed?"},
        {900384, false, "the assertion's signature is wrong: it must be RS256 by its issuer"},
        {700024, false,
                "the assertion is not valid now: check the clock (chrony) and whether "
                "`assertion_file` is still being renewed"},
        {70021, true,
                "no federated credential of the application matches the assertion: compare issuer, "
                "subject and audience to the byte (a new one takes minutes to work)"},
        {700211, true,
                "no federated credential has the assertion's issuer: look for a missing or "
                "additional slash at the end, http against https, another cluster"},
        {700212, true,
                "no federated credential has the assertion's audience: the projected token must "
                "be made for api://AzureADTokenExchange, or for what the credential says"},
        {700213, true,
                "no federated credential has the assertion's subject: check namespace, service "
                "account and letter case"},
        {700223, false, "a tenant policy restricts federation: ask the Entra administrator"},
        {700238, false, "a tenant policy restricts federation: ask the Entra administrator"},
        {90061, true,
                "Entra could not fetch the assertion issuer's metadata: discovery document and "
                "key set must be public over https with a public certificate"},
        {50166, true, "Entra could not reach the assertion's issuer: make its metadata public"},
        {501661, true, "Entra could not reach the assertion's issuer: make its metadata public"},
        {500011, false,
                "the resource is not known in the tenant: check `scope` and `tenant`; has the "
                "tenant ever used Azure DevOps?"},
        {50001, false, "the resource is unknown or disabled in the tenant: check `scope`"},
        {70011, false, "the scope is malformed: use 499b84ac-1321-427f-aa17-267ca6975798/.default"},
        {28002, false, "the scope is malformed: use 499b84ac-1321-427f-aa17-267ca6975798/.default"},
        {900144, false, "a form field is missing: check `client_id` and `scope`"},
        {9001023, false,
                "this grant does not work over common, organizations or consumers: set `tenant`"},
        {90002, false, "the tenant does not exist: check `tenant`, or it is in another cloud"},
        {900382, false, "the application is in another cloud: check `authority`"},
        {90038, false, "the tenant is in another cloud: check `authority`"},
        {900432, false, "the tenant is in another cloud: check `authority`"},
        {50034, false, "the account is not in the tenant: check `tenant` and `client_id`"},
        {65001, false,
                "consent is missing: an administrator of the tenant has to give it to the "
                "application"},
        {7000114, false,
                "the application may not act for somebody with a token of its own: check `type`"},
        {500131, false, "the assertion is for another audience: check whom its issuer made it for"},
        {53003, false,
                "Conditional Access blocked the application: allow this machine's egress address"},
        {530003, false,
                "Conditional Access blocked the application: ask the Entra administrator which "
                "policy it was"},
        {53000, false,
                "Conditional Access blocked the application: ask the Entra administrator which "
                "policy it was"},
        {50196, true, "Entra saw a loop of requests: is another program using the application?"},
        {90006, true, "Entra has trouble: it is tried again; see its status page"},
        {90012, true, "Entra timed out: it is tried again"},
        {90024, true, "Entra has trouble: it is tried again"},
        {90033, true, "Entra is unavailable for the moment: it is tried again"},
        {90055, true, "the tenant is throttled by Entra: it is tried again later"},
        {40010, true, "Entra has trouble: it is tried again"},
};

/* What is said instead when the assertion was a caller's own token. */
static const struct remedy callers_remedies[] = {
        {50013, false,
                "the assertion's signature is wrong or it has expired: check the issuer of the "
                "caller's token, and that it is a fresh one"},
        {500133, false, "the assertion has expired: the caller has to send a fresh token"},
        {700024, false,
                "the assertion is not valid now: check the clock of the caller's issuer, and that "
                "the caller sends a fresh token"},
        {700212, false,
                "no federated credential has the assertion's audience: the caller's token must be "
                "made for api://AzureADTokenExchange, or for what the credential says"},
        {700213, false,
                "no federated credential has the assertion's subject: compare it with the "
                "caller's, letter case included"},
};

static const char *advice_of(const struct remedy *remedy, bool callers)
{
        for (size_t i = 0; callers && i < sizeof(callers_remedies) / sizeof(*remedy); i++)
                if (callers_remedies[i].aadsts == remedy->aadsts)
                        return callers_remedies[i].text;
        return remedy->text;
}

static const struct remedy *remedy_of(int64_t aadsts)
{
        for (size_t i = 0; i < sizeof(remedies) / sizeof(*remedies); i++) {
                if (remedies[i].aadsts == aadsts)
                        return &remedies[i];
        }
        return NULL;
}

const char *entra_remedy(int64_t aadsts)
{
        const struct remedy *remedy = remedy_of(aadsts);

        return remedy ? remedy->text : NULL;
}

const char *entra_fact(int64_t aadsts)
{
        static _Thread_local char fact[160];
        const struct remedy *remedy = remedy_of(aadsts);

        snprintf(fact, sizeof(fact), "%s", remedy ? remedy->text : "");
        fact[strcspn(fact, ":")] = '\0';
        return fact;
}

bool entra_refuses_assertion(int64_t aadsts)
{
        static const int64_t codes[] = {70021, 700211, 700212, 700213, 700223, 700238, 700024,
                50012, 50013, 500131, 500133, 900384};

        for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
                if (codes[i] == aadsts)
                        return true;
        return false;
}

int64_t answer_seconds(const json_t *value)
{
        uint64_t digits;

        if (json_is_integer(value) && json_integer_value(value) >= 0)
                return json_integer_value(value);
        if (json_is_real(value) && json_real_value(value) >= 0 && json_real_value(value) < 1e15)
                return (int64_t)json_real_value(value);
        if (json_is_string(value) &&
                str_to_u64(
                        str_view(json_string_value(value), json_string_length(value)), &digits) &&
                digits <= INT64_MAX)
                return (int64_t)digits;
        return -1;
}

void answer_word(const json_t *value, char out[ANSWER_WORD])
{
        const char *text = json_is_string(value) ? json_string_value(value) : "";
        size_t n = 0;

        while (n < ANSWER_WORD - 1) {
                char c = char_lower(text[n]);
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                            c == '_'))
                        break;
                out[n] = text[n];
                n++;
        }
        out[n] = '\0';
}

bool answer_token(json_t *root, const char *who, struct secret *token, struct error *why)
{
        const json_t *value = json_object_get(root, "access_token");
        const json_t *type = json_object_get(root, "token_type");
        bool good = false;

        if (!json_is_string(value) || json_string_length(value) == 0)
                error_set(why, "%s's answer has no access_token", who);
        else if (json_is_string(type) &&
                 !str_eq_fold(str_of(json_string_value(type)), STR("bearer")))
                error_set(why, "%s's answer is not a bearer token", who);
        else
                good = true;
        if (good)
                secret_set(token, str_view(json_string_value(value), json_string_length(value)));
        /* The library does not wipe what it frees; the string is ours until then. */
        if (json_is_string(value))
                secret_wipe((void *)json_string_value(value), json_string_length(value));
        return good;
}

static void token_read(json_t *root, struct entra_answer *out)
{
        int64_t expires = answer_seconds(json_object_get(root, "expires_in"));

        out->verdict = ENTRA_RETRY;
        if (!answer_token(root, "the token endpoint", &out->token, &out->why))
                return;
        if (expires <= 0) {
                secret_drop(&out->token);
                error_set(&out->why, "the token endpoint's answer has no usable expires_in");
                return;
        }
        out->verdict = ENTRA_TOKEN;
        out->expires_in_s = expires < EXPIRES_MOST_S ? expires : EXPIRES_MOST_S;
        out->refresh_in_s = answer_seconds(json_object_get(root, "refresh_in"));
}

static void error_read(int status, const json_t *root, bool callers, struct entra_answer *out)
{
        char word[64], trace[64], correlation[64];
        const json_t *code = json_array_get(json_object_get(root, "error_codes"), 0);

        answer_word(json_object_get(root, "error"), word);
        answer_word(json_object_get(root, "trace_id"), trace);
        answer_word(json_object_get(root, "correlation_id"), correlation);
        if (json_is_integer(code) && json_integer_value(code) > 0)
                out->aadsts = json_integer_value(code);
        const struct remedy *remedy = remedy_of(out->aadsts);
        bool passes = status == 429 || status >= 500 ||
                      str_eq(str_of(word), STR("temporarily_unavailable")) ||
                      str_eq(str_of(word), STR("server_error"));
        out->verdict = (remedy ? remedy->retry || passes : passes) ? ENTRA_RETRY : ENTRA_OPERATOR;
        char ids[160] = "";
        if (trace[0] || correlation[0])
                snprintf(ids, sizeof(ids), " (trace_id %s, correlation_id %s)", trace, correlation);
        if (out->aadsts)
                error_set(&out->why, "AADSTS%lld %s: %s%s", (long long)out->aadsts, word,
                        remedy ? advice_of(remedy, callers)
                               : "see the sign-in log of the application in Entra",
                        ids);
        else
                error_set(&out->why, "the token endpoint answered %d %s%s", status,
                        word[0] ? word : "without an error code", ids);
}

void entra_answer_read(int status, struct str content_type, struct str body, bool callers,
        struct entra_answer *out)
{
        json_error_t where;
        json_t *root = json_loadb(body.ptr ? body.ptr : "", body.len, 0, &where);

        *out = (struct entra_answer){.verdict = ENTRA_RETRY, .refresh_in_s = -1};
        if (!json_is_object(root)) {
                bool html = str_starts_fold(content_type, STR("text/html"));
                error_set(&out->why, "the token endpoint answered %d with %s%s", status,
                        html ? "an HTML page" : "something that is not a JSON object",
                        status == 200 ? ": is a proxy of the network in between?" : "");
        } else if (status == 200) {
                token_read(root, out);
        } else {
                error_read(status, root, callers, out);
        }
        json_decref(root);
}
