#include "attempt.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>

#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/token/base64.h"
#include "token_source.h"

enum {
        SECRET_MOST_BYTES = 64 * 1024,
        ANSWER_MOST_BYTES = 128 * 1024,
        STEP_LEAST_MS = 1000, /* even when earlier steps have used up the time of all */
};

static attempt_step *way_of(enum config_credential_type type)
{
        switch (type) {
        case CREDENTIAL_STATIC_FILE: return way_static_file;
        case CREDENTIAL_PAT_FILE: return way_pat_file;
        case CREDENTIAL_CLIENT_SECRET: return way_client_secret;
        case CREDENTIAL_FEDERATED: return way_federated;
        case CREDENTIAL_CERTIFICATE: return way_certificate;
        case CREDENTIAL_MANAGED_IDENTITY: return way_managed_identity;
        case CREDENTIAL_KEY_VAULT_SECRET: return way_key_vault_secret;
        case CREDENTIAL_ISSUER: return way_assertion;
        case CREDENTIAL_DEFAULT: break; /* is one of its candidates */
        }
        abort();
}

void attempt_start(struct attempt *a, int64_t budget_ms)
{
        a->running = true;
        a->asked_mono_ms = clock_mono_ms();
        a->deadline_mono_ms = a->asked_mono_ms + budget_ms;
        a->sent[0] = a->version[0] = a->vault[0] = a->cause[0] = '\0';
        a->asked = NULL;
        a->step = NULL;
        a->aadsts = 0;
        if (a->config->type == CREDENTIAL_DEFAULT)
                a->config = &a->config->candidates[a->memory->candidate];
        way_of(a->config->type)(a);
}

void attempt_cancel(struct attempt *a)
{
        fetch_cancel(a->fetch);
        a->fetch = NULL;
        token_source_unneed(&a->need);
        secret_drop(&a->kept);
        a->running = false;
}

/* --- the end --- */

static void finish(struct attempt *a, const struct outcome *outcome)
{
        secret_drop(&a->kept);
        a->running = false;
        a->done(a->owner, outcome);
}

static void finish_token(
        struct attempt *a, struct str token, bool is_pat, int64_t life_ms, int64_t refresh_ms)
{
        struct outcome outcome = {.kind = OUTCOME_TOKEN,
                .token = token,
                .is_pat = is_pat,
                .asked_mono_ms = a->asked_mono_ms,
                .life_ms = life_ms,
                .refresh_ms = refresh_ms};

        finish(a, &outcome);
}

void attempt_token(struct attempt *a, struct str token, int64_t life_ms, int64_t refresh_ms)
{
        finish_token(a, token, false, life_ms, refresh_ms);
}

void attempt_pat(struct attempt *a, struct str pat, int64_t life_ms, int64_t refresh_ms)
{
        finish_token(a, pat, true, life_ms, refresh_ms);
}

void attempt_same(struct attempt *a, int64_t again_ms)
{
        struct outcome outcome = {.kind = OUTCOME_SAME, .refresh_ms = again_ms};

        finish(a, &outcome);
}

static void finish_failed(struct attempt *a, enum outcome_kind kind, const struct error *why,
        int64_t wait_least_ms, bool throttled)
{
        struct error text = *why; /* `why` may be the attempt's own memory */
        struct outcome outcome = {.kind = kind,
                .wait_least_ms = wait_least_ms,
                .throttled = throttled,
                .why = &text,
                .cause = a->cause[0] ? a->cause : "it cannot be obtained"};

        if (a->step)
                error_wrap(&text, "%s", a->step);
        finish(a, &outcome);
}

void attempt_cause(struct attempt *a, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        vsnprintf(a->cause, sizeof(a->cause), format, args);
        va_end(args);
}

void attempt_fail(struct attempt *a, enum outcome_kind kind, const struct error *why)
{
        finish_failed(a, kind, why, 0, false);
}

void attempt_failf(struct attempt *a, enum outcome_kind kind, const char *format, ...)
{
        struct error why;
        va_list args;

        va_start(args, format);
        vsnprintf(why.text, sizeof(why.text), format, args);
        va_end(args);
        attempt_fail(a, kind, &why);
}

void attempt_fail_answer(struct attempt *a, enum outcome_kind kind,
        const struct fetch_result *result, const struct error *why)
{
        int64_t after_s = result->retry_after_s;

        finish_failed(a, kind, why, after_s > 0 ? after_s * 1000 : 0,
                result->status == 429 && after_s < 0);
}

/* --- steps --- */

bool attempt_read(struct attempt *a, struct str path, struct secret *out)
{
        struct error err;

        if (secret_read(out, path.ptr, SECRET_MOST_BYTES, &err))
                return true;
        attempt_cause(a, "a file that it is obtained with cannot be read");
        attempt_fail(a, OUTCOME_ABSENT, &err);
        return false;
}

static void on_fetched(const struct fetch_result *result, void *arg)
{
        struct attempt *a = arg;

        a->fetch = NULL;
        if (!result->answered)
                attempt_cause(a, "%s is unreachable%s", a->asked,
                        result->by_proxy ? " through the outgoing proxy" : "");
        else if (result->status != 200)
                attempt_cause(a, "%s answered %d", a->asked, result->status);
        else /* and yet it may not be what was asked for */
                attempt_cause(a, "%s answered with something else than a token", a->asked);
        a->on_answer(a, result);
}

void attempt_fetch(struct attempt *a, struct fetch_request *request, attempt_answer *then)
{
        int64_t left = a->deadline_mono_ms - clock_mono_ms();

        request->timeout_ms = left > STEP_LEAST_MS ? left : STEP_LEAST_MS;
        request->most_bytes = ANSWER_MOST_BYTES;
        request->no_redirects = true;
        a->on_answer = then;
        a->asked_mono_ms = clock_mono_ms();
        a->fetch = fetch_start(a->fetcher, request, on_fetched, a);
}

static void need_failed(struct attempt *a, const char *why)
{
        struct error text;
        int64_t wait = token_source_wait_ms(a->other);

        error_set(&text, "%s", why);
        attempt_cause(a, "%s", token_source_cause(a->other));
        /* Trying again before the other one does gets the same answer. */
        finish_failed(a, OUTCOME_RETRY, &text, wait, false);
}

static void on_need_settled(void *owner, bool ok, const char *why)
{
        struct attempt *a = owner;

        if (ok)
                a->on_need(a);
        else
                need_failed(a, why);
}

void attempt_need(struct attempt *a, const char *what, attempt_step *then)
{
        struct error why;

        a->step = what;
        a->on_need = then;
        a->need.settled = on_need_settled;
        a->need.owner = a;
        switch (token_source_need(a->other, &a->need, &why)) {
        case SOURCE_NEWER: then(a); break;
        case SOURCE_WAIT: break;
        case SOURCE_NO: need_failed(a, why.text); break;
        }
}

/* --- what several ways need --- */

void form_write(struct buf *buf, struct str value)
{
        for (size_t i = 0; i < value.len; i++) {
                unsigned char c = (unsigned char)value.ptr[i];
                char lower = char_lower((char)c);
                if ((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                        c == '.' || c == '_' || c == '~')
                        buf_char(buf, (char)c);
                else
                        buf_printf(buf, "%%%02X", c);
        }
}

static json_t *decoded(struct str part)
{
        char *json = malloc(BASE64_DECODED(part.len) + 1);

        if (!json)
                abort();
        ssize_t len = base64url_decode(part, json);
        json_t *tree = len > 0 ? json_loadb(json, (size_t)len, 0, NULL) : NULL;
        free(json);
        return tree;
}

/* The claims of a token that is a JWT, unverified: for a message, and for its end. NULL: it is not.
 */
static json_t *jwt_claims(struct str token)
{
        struct str head, payload;
        struct str rest = str_cut(token, '.', &head);

        rest = str_cut(rest, '.', &payload);
        return rest.ptr && payload.len ? decoded(payload) : NULL;
}

void attempt_jwt_alg(struct str token, char out[16])
{
        char word[ANSWER_WORD];
        struct str head;
        struct str rest = str_cut(token, '.', &head);
        json_t *tree = rest.ptr && head.len ? decoded(head) : NULL;

        answer_word(json_object_get(tree, "alg"), word);
        snprintf(out, 16, "%.15s", word[0] ? word : "nothing");
        json_decref(tree);
}

int64_t attempt_jwt_expires_s(struct str token)
{
        json_t *claims = jwt_claims(token);
        const json_t *exp = json_object_get(claims, "exp");
        int64_t expires = INT64_MAX;

        if (json_is_number(exp) && json_number_value(exp) > 0 && json_number_value(exp) < 1e12)
                expires = (int64_t)json_number_value(exp);
        json_decref(claims);
        return expires;
}

void attempt_describe(struct str token, char *out, size_t size)
{
        json_t *claims = jwt_claims(token);
        const json_t *aud = json_object_get(claims, "aud");
        const char *iss = json_string_value(json_object_get(claims, "iss"));
        const char *sub = json_string_value(json_object_get(claims, "sub"));

        if (json_is_array(aud))
                aud = json_array_get(aud, 0);
        if (claims)
                snprintf(out, size, "; sent was iss \"%.120s\" sub \"%.120s\" aud \"%.80s\"",
                        iss ? iss : "", sub ? sub : "",
                        json_is_string(aud) ? json_string_value(aud) : "");
        else
                snprintf(out, size, "; the assertion that was sent is no JWT");
        json_decref(claims);
}
