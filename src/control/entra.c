#include "entra.h"

#include <event2/event.h>
#include <jansson.h>
#include <stdlib.h>

#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "dagward/base/log.h"
#include "dagward/token/base64.h"
#include "entra_answer.h"

enum {
        SECRET_MOST_BYTES = 64 * 1024,
        ANSWER_MOST_BYTES = 128 * 1024,
        TIMEOUT_MS = 9 * 1000, /* below the bound in which asks are answered */
        MARGIN_MS = 30 * 1000, /* before its end a token is not lent any more */
        BACKOFF_MOST_MS = 60 * 1000,
        OPERATOR_LEAST_MS = 60 * 1000, /* what somebody has to change does not change in seconds */
        OPERATOR_MOST_MS = 300 * 1000,
        THROTTLED_MS = 60 * 1000, /* 429 without Retry-After */
        RETRY_AFTER_MOST_S = 3600,
        REPLACE_LEAST_MS = 60 * 1000,
};

static void source_attempt(struct token_source *source);

struct str token_source_type(enum config_credential_type type)
{
        switch (type) {
        case CREDENTIAL_STATIC_FILE: return STR("static_file");
        case CREDENTIAL_CLIENT_SECRET: return STR("client_secret");
        case CREDENTIAL_FEDERATED: return STR("federated");
        }
        abort();
}

/* The file that the token, or what it is obtained with, is read from. */
static const char *source_file(const struct token_source *source)
{
        switch (source->config->type) {
        case CREDENTIAL_STATIC_FILE: return source->config->file.ptr;
        case CREDENTIAL_CLIENT_SECRET: return source->config->secret_file.ptr;
        case CREDENTIAL_FEDERATED: return source->config->assertion_file.ptr;
        }
        abort();
}

/* Files are looked at in between: a static token always, others while they might be the cause. */
static void source_arm(struct token_source *source, int64_t wait_ms)
{
        bool look = source->config->type == CREDENTIAL_STATIC_FILE || source->failures > 0;

        source->next_mono_ms = clock_mono_ms() + wait_ms;
        if (look && wait_ms > SOURCE_FILE_POLL_MS)
                wait_ms = SOURCE_FILE_POLL_MS;
        struct timeval wait = {wait_ms / 1000, wait_ms % 1000 * 1000};
        event_add(&source->timer, &wait);
}

static void source_event(struct token_source *source, const char *name, const char *reason)
{
        struct pair detail[] = {
                {STR("credential"), source->config->name},
                {STR("type"), token_source_type(source->config->type)},
                {STR("reason"), str_of(reason)},
        };

        source->hooks.event(source->hooks.owner, name, detail, reason ? 3 : 2);
}

/* The claims of a token that is a JWT, unverified: for a message, and for its end. NULL: it is not.
 */
static json_t *jwt_claims(struct str token)
{
        struct str head, payload;
        struct str rest = str_cut(token, '.', &head);

        rest = str_cut(rest, '.', &payload);
        if (!rest.ptr || payload.len == 0)
                return NULL;
        char *json = malloc(BASE64_DECODED(payload.len) + 1);
        if (!json)
                abort();
        ssize_t len = base64url_decode(payload, json);
        json_t *claims = len > 0 ? json_loadb(json, (size_t)len, 0, NULL) : NULL;
        free(json);
        return claims;
}

/* `exp`, or INT64_MAX: a file says nothing else about the end of a token. */
static int64_t jwt_expires_s(struct str token)
{
        json_t *claims = jwt_claims(token);
        const json_t *exp = json_object_get(claims, "exp");
        int64_t expires = INT64_MAX;

        if (json_is_number(exp) && json_number_value(exp) > 0 && json_number_value(exp) < 1e12)
                expires = (int64_t)json_number_value(exp);
        json_decref(claims);
        return expires;
}

/* What must equal the record in Entra to the byte: worth more in a message than any advice. */
static void assertion_describe(struct str token, char *out, size_t size)
{
        json_t *claims = jwt_claims(token);
        const json_t *aud = json_object_get(claims, "aud");
        const char *iss = json_string_value(json_object_get(claims, "iss"));
        const char *sub = json_string_value(json_object_get(claims, "sub"));

        if (json_is_array(aud))
                aud = json_array_get(aud, 0);
        out[0] = '\0';
        if (claims)
                snprintf(out, size, "; sent was iss \"%.120s\" sub \"%.120s\" aud \"%.80s\"",
                        iss ? iss : "", sub ? sub : "",
                        json_is_string(aud) ? json_string_value(aud) : "");
        else
                snprintf(out, size, "; `assertion_file` holds no JWT");
        json_decref(claims);
}

/* --- the end of an attempt --- */

static void source_failed(struct token_source *source, int64_t wait_ms, const struct error *why)
{
        int64_t now = clock_mono_ms();

        source->n_failed++;
        source->last_error = *why;
        if (source->rejected) {
                /* Better one that some request was refused with than none at all. */
                if (now < source->rejected->until_mono_ms) {
                        source->credential = source->rejected;
                        source->rejected = NULL;
                        source->hooks.changed(source->hooks.owner);
                }
                credential_unref(source->rejected);
                source->rejected = NULL;
        }
        log_error("credential name=%s failed usable=%s again_in_ms=%lld: %s",
                source->config->name.ptr,
                source->credential && now < source->credential->until_mono_ms ? "yes" : "no",
                (long long)wait_ms, why->text);
        if (source->failures++ == 0)
                source_event(source, "credential.refresh_failed", why->text);
        source_arm(source, wait_ms);
        source->hooks.settled(source->hooks.owner, source->index, false, why->text);
}

/* `refresh_ms`: from now. */
static void source_succeeded(
        struct token_source *source, struct credential *fresh, int64_t refresh_ms)
{
        struct credential *old = source->credential;

        source->n_obtained++;
        source->obtained_mono_ms = clock_mono_ms();
        if (source->failures)
                source_event(source, "credential.refresh_recovered", NULL);
        source->failures = 0;
        source->credential = fresh;
        credential_unref(source->rejected);
        source->rejected = NULL;
        log_info("credential name=%s type=%s generation=%llu refresh_in_s=%lld",
                source->config->name.ptr, token_source_type(source->config->type).ptr,
                (unsigned long long)fresh->generation, (long long)refresh_ms / 1000);
        source->hooks.changed(source->hooks.owner);
        credential_unref(old);
        source_arm(source, refresh_ms);
        source->hooks.settled(source->hooks.owner, source->index, true, "");
}

static int64_t margin_ms(int64_t life_ms)
{
        return life_ms / 4 < MARGIN_MS ? life_ms / 4 : MARGIN_MS;
}

static void token_take(struct token_source *source, const struct entra_answer *answer)
{
        struct error err;
        int64_t life_ms = answer->expires_in_s * 1000;
        int64_t until = source->started_mono_ms + life_ms - margin_ms(life_ms);
        int64_t refresh_ms = life_ms / 2;
        struct credential *fresh =
                credential_new(secret_reveal(&answer->token), ++*source->generations, until);

        if (!fresh) {
                error_set(&err,
                        "credential %s: the token endpoint's access_token cannot stand in a header",
                        source->config->name.ptr);
                source_failed(source, backoff_ms(source->failures, BACKOFF_MOST_MS), &err);
                return;
        }
        if (answer->refresh_in_s > 0 && answer->refresh_in_s < answer->expires_in_s)
                refresh_ms = answer->refresh_in_s * 1000;
        source_succeeded(source, fresh, jitter_ms(refresh_ms));
}

static int64_t wait_after(const struct token_source *source, const struct entra_answer *answer,
        int status, int64_t retry_after_s)
{
        int64_t wait = backoff_ms(source->failures, BACKOFF_MOST_MS);

        if (answer->verdict == ENTRA_OPERATOR) {
                wait = OPERATOR_LEAST_MS * (1 + (int64_t)source->failures);
                wait = jitter_ms(wait < OPERATOR_MOST_MS ? wait : OPERATOR_MOST_MS);
        }
        if (status == 429 && retry_after_s < 0)
                wait = jitter_ms(THROTTLED_MS);
        if (retry_after_s > RETRY_AFTER_MOST_S)
                retry_after_s = RETRY_AFTER_MOST_S;
        return retry_after_s * 1000 > wait ? retry_after_s * 1000 : wait;
}

static void on_answer(const struct fetch_result *result, void *arg)
{
        struct token_source *source = arg;
        struct entra_answer answer = {.verdict = ENTRA_RETRY};

        source->fetch = NULL;
        if (result->answered)
                entra_answer_read(result->status, result->content_type, result->body, &answer);
        else
                answer.why = result->error;
        if (answer.verdict == ENTRA_TOKEN) {
                token_take(source, &answer);
        } else {
                error_wrap(&answer.why, "credential %s", source->config->name.ptr);
                if (answer.aadsts) {
                        size_t len = strlen(answer.why.text);
                        snprintf(answer.why.text + len, sizeof(answer.why.text) - len, "%s",
                                source->assertion);
                }
                source_failed(source,
                        wait_after(source, &answer, result->status, result->retry_after_s),
                        &answer.why);
        }
        secret_drop(&answer.token);
}

/* --- obtaining --- */

/* application/x-www-form-urlencoded, which is also right in a path segment. */
static void form_write(struct buf *buf, struct str value)
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

static void token_request(struct token_source *source, struct str secret)
{
        const struct config_credential *config = source->config;
        char id[ID_UUID_LEN + 1], id_line[64];
        const char *fields[] = {id_line, "return-client-request-id: true"};
        struct buf body, url;

        buf_init(&url, 8192);
        buf_str_add(&url, config->authority.text);
        buf_char(&url, '/');
        form_write(&url, config->tenant);
        BUF_LITERAL(&url, "/oauth2/v2.0/token");
        buf_char(&url, '\0');
        /* All of its room at once: a buffer that moved would leave the secret behind. */
        buf_init(&body, 8192 + 3 * SECRET_MOST_BYTES);
        buf_reserve(&body, body.ceiling);
        BUF_LITERAL(&body, "grant_type=client_credentials&client_id=");
        form_write(&body, config->client_id);
        BUF_LITERAL(&body, "&scope=");
        form_write(&body, config->scope);
        if (config->type == CREDENTIAL_FEDERATED) {
                BUF_LITERAL(&body, "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3A"
                                   "client-assertion-type%3Ajwt-bearer&client_assertion=");
                assertion_describe(secret, source->assertion, sizeof(source->assertion));
        } else {
                BUF_LITERAL(&body, "&client_secret=");
        }
        form_write(&body, secret);
        id_uuid7(clock_wall_ms(), id);
        snprintf(id_line, sizeof(id_line), "client-request-id: %s", id);
        struct fetch_request request = {
                .url = url.data,
                .body = buf_str(&body),
                .content_type = "application/x-www-form-urlencoded",
                .fields = fields,
                .n_fields = 2,
                .ca = config->ca.ptr,
                .timeout_ms = TIMEOUT_MS,
                .most_bytes = ANSWER_MOST_BYTES,
                .allow_plain_loopback = !config->authority.https,
        };
        source->started_mono_ms = clock_mono_ms();
        source->fetch = fetch_start(source->fetcher, &request, on_answer, source);
        secret_wipe(body.data, body.len);
        buf_clear(&body);
        buf_clear(&url);
}

static void static_take(struct token_source *source, struct str token)
{
        const char *path = source->config->file.ptr;
        int64_t expires_s = jwt_expires_s(token);
        int64_t now_ms = clock_wall_ms();
        int64_t until = INT64_MAX;
        struct error err;

        if (expires_s != INT64_MAX) {
                int64_t life_ms = expires_s * 1000 - now_ms;
                if (life_ms <= 0) {
                        error_set(&err,
                                "credential %s: the token in %s has expired: put a new one there",
                                source->config->name.ptr, path);
                        source_failed(source, BACKOFF_MOST_MS, &err);
                        return;
                }
                until = clock_mono_ms() + life_ms - margin_ms(life_ms);
        }
        struct credential *fresh = credential_new(token, ++*source->generations, until);
        if (fresh) {
                source_succeeded(source, fresh, BACKOFF_MOST_MS);
        } else {
                error_set(&err,
                        "credential %s: %s holds no token (letters, digits and -._~+/= only)",
                        source->config->name.ptr, path);
                source_failed(source, BACKOFF_MOST_MS, &err);
        }
}

static bool static_unchanged(const struct token_source *source, struct str token)
{
        static const size_t head = sizeof("Authorization: Bearer ") - 1;

        if (!source->credential || clock_mono_ms() >= source->credential->until_mono_ms)
                return false;
        struct str line = secret_reveal(&source->credential->line);
        return str_eq(str_view(line.ptr + head, line.len - head - 2), token);
}

static void static_confirmed(struct token_source *source)
{
        if (source->failures)
                source_event(source, "credential.refresh_recovered", NULL);
        source->failures = 0;
        source_arm(source, BACKOFF_MOST_MS);
}

static void source_attempt(struct token_source *source)
{
        struct secret secret = {NULL, 0};
        struct error err;

        if (source->fetch)
                return;
        source->stamp = file_stamp_of(source_file(source));
        if (!secret_read(&secret, source_file(source), SECRET_MOST_BYTES, &err)) {
                error_wrap(&err, "credential %s", source->config->name.ptr);
                source_failed(source, backoff_ms(source->failures, BACKOFF_MOST_MS), &err);
                return;
        }
        if (source->config->type != CREDENTIAL_STATIC_FILE)
                token_request(source, secret_reveal(&secret));
        else if (static_unchanged(source, secret_reveal(&secret)))
                static_confirmed(source);
        else
                static_take(source, secret_reveal(&secret));
        secret_drop(&secret);
}

static void on_source_timer(evutil_socket_t fd, short what, void *arg)
{
        struct token_source *source = arg;
        int64_t left = source->next_mono_ms - clock_mono_ms();

        (void)fd;
        (void)what;
        struct file_stamp now = file_stamp_of(source_file(source));
        if (left > 0 && file_stamp_same(&now, &source->stamp))
                source_arm(source, left);
        else
                source_attempt(source);
}

/* --- asks --- */

enum source_answer token_source_ask(struct token_source *source, uint64_t seen, struct error *why)
{
        int64_t now = clock_mono_ms();
        const struct credential *credential = source->credential;

        if (credential && credential->generation != seen && now < credential->until_mono_ms)
                return SOURCE_NEWER;
        if (source->fetch)
                return SOURCE_WAIT;
        if (source->failures && now < source->next_mono_ms) {
                *why = source->last_error;
                return SOURCE_NO;
        }
        source_attempt(source);
        if (source->fetch)
                return SOURCE_WAIT;
        credential = source->credential;
        if (credential && credential->generation != seen && now < credential->until_mono_ms)
                return SOURCE_NEWER; /* a file: read at once */
        if (source->failures)
                *why = source->last_error;
        else
                error_set(why, "credential %s: there is no other token than the one known",
                        source->config->name.ptr);
        return SOURCE_NO;
}

enum source_answer token_source_replace(
        struct token_source *source, uint64_t seen, struct error *why)
{
        int64_t now = clock_mono_ms();

        if (!source->credential || source->credential->generation != seen)
                return token_source_ask(source, seen, why);
        if (source->replaced_mono_ms != INT64_MIN &&
                now - source->replaced_mono_ms < REPLACE_LEAST_MS) {
                error_set(why,
                        "credential %s was renewed %lld s ago and is rejected again: is its "
                        "service "
                        "principal a member of the organization?",
                        source->config->name.ptr,
                        (long long)(now - source->replaced_mono_ms) / 1000);
                return SOURCE_NO;
        }
        if (source->failures && now < source->next_mono_ms && !source->fetch) {
                *why = source->last_error;
                return SOURCE_NO;
        }
        source->replaced_mono_ms = now;
        source->n_replaced++;
        log_error("credential name=%s generation=%llu rejected by upstream, replacing it",
                source->config->name.ptr, (unsigned long long)seen);
        source_event(source, "credential.replaced", "upstream rejected it");
        if (source->config->type != CREDENTIAL_STATIC_FILE) {
                source->rejected = source->credential;
                source->credential = NULL;
                source->hooks.changed(source->hooks.owner);
        }
        return token_source_ask(source, seen, why);
}

/* --- life --- */

struct token_source *token_source_new(const struct config_credential *config, unsigned index,
        struct event_base *base, struct fetcher *fetcher, uint64_t *generations,
        const struct source_hooks *hooks)
{
        struct token_source *source = calloc(1, sizeof(*source));

        if (!source)
                abort();
        source->config = config;
        source->index = index;
        source->base = base;
        source->fetcher = fetcher;
        source->generations = generations;
        source->hooks = *hooks;
        source->replaced_mono_ms = INT64_MIN;
        evtimer_assign(&source->timer, base, on_source_timer, source);
        return source;
}

void token_source_free(struct token_source *source)
{
        if (!source)
                return;
        fetch_cancel(source->fetch);
        event_del(&source->timer);
        credential_unref(source->credential);
        credential_unref(source->rejected);
        free(source);
}

void token_source_adopt(struct token_source *source, const struct token_source *old)
{
        const struct config_credential *a = source->config, *b = old->config;

        if (a->type != b->type || !str_eq(a->name, b->name) || !str_eq(a->tenant, b->tenant) ||
                !str_eq(a->client_id, b->client_id) || !str_eq(a->scope, b->scope) ||
                !str_eq(a->authority.text, b->authority.text) || !str_eq(a->file, b->file))
                return;
        source->credential = credential_ref(old->credential ? old->credential : old->rejected);
        source->obtained_mono_ms = old->obtained_mono_ms;
        source->replaced_mono_ms = old->replaced_mono_ms;
        source->next_mono_ms = old->next_mono_ms;
        source->n_obtained = old->n_obtained;
        source->n_failed = old->n_failed;
        source->n_replaced = old->n_replaced;
}

void token_source_start(struct token_source *source)
{
        int64_t left = source->next_mono_ms - clock_mono_ms();

        /* A reload does not make every credential ask for a new token. */
        if (source->credential && left > 0 && source->config->type != CREDENTIAL_STATIC_FILE)
                source_arm(source, left);
        else
                source_attempt(source);
}
