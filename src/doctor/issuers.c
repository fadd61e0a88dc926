#include <stdlib.h>

#include "inside.h"

enum { FETCH_MOST_MS = 6000, DOCUMENT_MOST_BYTES = 256 * 1024, BEARER_MOST_BYTES = 16 * 1024 };

void issuer_check_prepare(struct issuer_check *check)
{
        const struct config_issuer *config = check->config;
        struct error err;

        error_list_init(&check->dropped);
        arena_init(&check->arena, 4096, 64 * 1024);
        if (config->keys.bearer_file.ptr)
                file_look(config->keys.bearer_file.ptr, &check->bearer_file);
        if (config->keys.file.ptr) {
                file_look(config->keys.file.ptr, &check->file);
                return;
        }
        if (!config->keys.discovery)
                check->url = config->keys.url;
        else if (!config_url_parse(&check->arena, config->issuers[0], &check->url, &err))
                check->why = err;
        if (check->url.host.ptr)
                check->reach = reach_want(&check->doctor->reaches, check->url.host, check->url.port,
                        check->url.https, config->keys.ca.ptr);
}

static void keys_take(struct issuer_check *check, struct str text, bool pem, const char *source)
{
        check->keys = keyset_parse(text, pem, source, &check->dropped, &check->why);
}

static void on_jwks(struct ask_once *ask, const struct fetch_result *result)
{
        struct issuer_check *check = ask->owner;

        if (result->answered && result->status == 200 && ask->json)
                keys_take(check, result->body, false, ask->url);
}

/* As the proxy does it: a token for the issuer goes to its origin only. */
static void issuer_ask(struct issuer_check *check, struct ask_once *ask, size_t most_bytes)
{
        const struct config_keys *keys = &check->config->keys;
        const char *origin = keys->discovery ? check->config->issuers[0].ptr : keys->url.text.ptr;
        struct secret bearer = {NULL, 0};
        struct error err;

        if (keys->bearer_file.ptr && !check->bearer_file.error &&
                fetch_same_origin(ask->url, origin))
                (void)!secret_read(&bearer, keys->bearer_file.ptr, BEARER_MOST_BYTES, &err);
        const struct ask_settings settings = {
                .bearer = &bearer,
                .ca = keys->ca.ptr,
                .plain = !check->url.https,
                .timeout_ms = keys->timeout_ms < FETCH_MOST_MS ? keys->timeout_ms : FETCH_MOST_MS,
                .most_bytes = most_bytes,
        };
        ask->owner = check;
        ask_start(check->doctor, ask, &settings);
        secret_drop(&bearer);
}

static void jwks_fetch(struct issuer_check *check, const char *url)
{
        snprintf(check->jwks.url, sizeof(check->jwks.url), "%s", url);
        check->jwks.done = on_jwks;
        issuer_ask(check, &check->jwks, KEYSET_MOST_BYTES);
}

static void on_document(struct ask_once *ask, const struct fetch_result *result)
{
        struct issuer_check *check = ask->owner;
        const char *issuer = json_string_value(json_object_get(ask->json, "issuer"));
        const char *uri = json_string_value(json_object_get(ask->json, "jwks_uri"));

        (void)result;
        snprintf(check->found_issuer, sizeof(check->found_issuer), "%s", issuer ? issuer : "");
        snprintf(check->jwks_uri, sizeof(check->jwks_uri), "%s", uri ? uri : "");
        if (ask->seen.status == 200 && uri)
                jwks_fetch(check, check->jwks_uri);
}

static void key_file_read(struct issuer_check *check)
{
        struct secret text = {NULL, 0};
        const char *path = check->config->keys.file.ptr;

        if (secret_read(&text, path, KEYSET_MOST_BYTES, &check->why))
                keys_take(check, secret_reveal(&text), true, path);
        secret_drop(&text);
}

void issuer_check_start(struct issuer_check *check)
{
        const struct config_keys *keys = &check->config->keys;
        struct str base = check->config->issuers[0];

        if (keys->file.ptr) {
                key_file_read(check);
                return;
        }
        if (!check->reach || !reach_good(check->reach))
                return;
        if (!keys->discovery) {
                jwks_fetch(check, keys->url.text.ptr);
                return;
        }
        while (base.len && base.ptr[base.len - 1] == '/')
                base.len--;
        snprintf(check->document.url, sizeof(check->document.url),
                "%.*s/.well-known/openid-configuration", STR_FMT(base));
        check->document.done = on_document;
        issuer_ask(check, &check->document, DOCUMENT_MOST_BYTES);
}

static void judge_network(struct issuer_check *check, const struct about *about)
{
        struct diagnoses *out = check->doctor->out;
        struct ask_once *document = &check->document, *jwks = &check->jwks;

        if (check->config->keys.discovery) {
                judge_clock(out, about, &document->seen);
                if (!judge_json_answer(out, about, &document->seen))
                        return;
                judge_document(out, about, check->config, check->found_issuer, check->jwks_uri);
        } else {
                judge_clock(out, about, &jwks->seen);
        }
        if (!jwks->seen.tried)
                return;
        const struct about keys = {about->part, about->order, about->subject, "issuer-keys"};
        if (judge_json_answer(out, &keys, &jwks->seen))
                judge_keys(out, about, check->config, jwks->url, check->keys, &check->dropped,
                        check->why.text);
}

void issuer_check_judge(struct issuer_check *check)
{
        const struct config_keys *keys = &check->config->keys;
        struct doctor *doctor = check->doctor;
        struct about about = {DOCTOR_ISSUER, check->index, check->config->name.ptr, "issuer"};

        if (keys->bearer_file.ptr)
                (void)judge_file(doctor->out, &about, "bearer_file", &check->bearer_file,
                        CARE_WORLD, doctor->uid);
        if (keys->file.ptr) {
                if (judge_file(
                            doctor->out, &about, "keys.file", &check->file, CARE_NONE, doctor->uid))
                        judge_keys(doctor->out, &about, check->config, keys->file.ptr, check->keys,
                                &check->dropped, check->why.text);
                return;
        }
        if (!check->reach) {
                struct diagnosis *d = diagnose(doctor->out, &about, DOCTOR_PROBLEM, "no-url",
                        "%s is no URL: %s", check->config->issuers[0].ptr, check->why.text);
                diagnosis_cause(d, "discovery needs an issuer that is an https URL");
                diagnosis_remedy(d, "set `keys.url` or `keys.file` for %s", about.subject);
                return;
        }
        struct reach_seen seen = reach_view(check->reach);
        if (judge_reach(doctor->out, &about, &seen, DOCTOR_PROBLEM,
                    doctor->machine.limits.n_proxies > 0, doctor->now_s))
                judge_network(check, &about);
        else
                diagnose(doctor->out, &about, DOCTOR_SKIPPED, "not-tried",
                        "keys were not fetched: %s cannot be reached", check->url.host.ptr);
}

void issuer_check_clear(struct issuer_check *check)
{
        ask_clear(&check->document);
        ask_clear(&check->jwks);
        keyset_unref(check->keys);
        error_list_clear(&check->dropped);
        arena_clear(&check->arena);
}
