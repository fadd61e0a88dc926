#include "discovery.h"

#include <event2/event.h>
#include <jansson.h>
#include <stdlib.h>

#include "dagward/base/buf.h"
#include "dagward/base/clock.h"
#include "dagward/base/log.h"

enum {
        DOCUMENT_MOST_BYTES = 256 * 1024,
        BEARER_MOST_BYTES = 16 * 1024,
        LIFETIME_LEAST_MS = 60 * 1000,
        LIFETIME_MOST_MS = 24 * 60 * 60 * 1000,
        BACKOFF_MOST_MS = 60 * 1000,
        RETRY_AFTER_MOST_S = 3600,
        PREPARE_MS = 1000, /* between two looks at which keys are used much */
};

static void issuer_refresh(struct issuer *issuer);
static void keys_fetch(struct issuer *issuer);

static void arm(struct event *event, int64_t ms)
{
        struct timeval wait = {ms / 1000, ms % 1000 * 1000};

        event_add(event, &wait);
}

int64_t issuer_lifetime_ms(int64_t max_age_s, int64_t configured_ms)
{
        if (max_age_s < 0)
                return configured_ms;
        if (max_age_s < LIFETIME_LEAST_MS / 1000)
                return LIFETIME_LEAST_MS;
        if (max_age_s > LIFETIME_MOST_MS / 1000)
                return LIFETIME_MOST_MS;
        return max_age_s * 1000;
}

/* --- the end of an attempt --- */

static void issuer_event(struct issuer *issuer, const char *name, const char *key, struct str value)
{
        struct pair detail[] = {
                {STR("issuer"), issuer->config->name},
                {str_of(key), value},
        };

        issuer->hooks.event(issuer->hooks.owner, name, detail, value.ptr ? 2 : 1);
}

static void issuer_failed(struct issuer *issuer, int64_t retry_after_s, const struct error *why)
{
        int64_t wait = backoff_ms(issuer->failures, BACKOFF_MOST_MS);

        if (retry_after_s > RETRY_AFTER_MOST_S)
                retry_after_s = RETRY_AFTER_MOST_S;
        if (retry_after_s * 1000 > wait)
                wait = later_ms(retry_after_s * 1000);
        if (issuer->config->keys.file.ptr && wait > SOURCE_FILE_POLL_MS)
                wait = SOURCE_FILE_POLL_MS;
        issuer->fetch = NULL;
        issuer->n_failed++;
        issuer->last_error = *why;
        log_error("keys issuer=%s failed again_in_ms=%lld: %s", issuer->config->name.ptr,
                (long long)wait, why->text);
        /* The first failure and the recovery are on record; the ones between are not a flood. */
        if (issuer->failures++ == 0)
                issuer_event(issuer, "keys.refresh_failed", "reason", str_of(why->text));
        arm(&issuer->timer, wait);
        issuer->again = false;
        issuer->hooks.settled(issuer->hooks.owner, issuer->index, false, why->text);
}

static const struct key *key_of(const struct keyset *set, const struct key *wanted)
{
        for (size_t i = 0; set && i < set->n; i++) {
                if (str_eq(set->keys[i].kid, wanted->kid))
                        return &set->keys[i];
        }
        return NULL;
}

/* The names of keys that `set` has and `other` has not. */
static struct str kids_only_in(
        const struct keyset *set, const struct keyset *other, struct buf *text)
{
        for (size_t i = 0; set && i < set->n; i++) {
                const struct key *key = &set->keys[i];
                if (key_of(other, key))
                        continue;
                buf_printf(text, "%s%.*s", text->len ? " " : "",
                        key->kid.ptr ? (int)(key->kid.len < 80 ? key->kid.len : 80) : 9,
                        key->kid.ptr ? key->kid.ptr : "(unnamed)");
        }
        return buf_str(text);
}

static void keys_changed_event(
        struct issuer *issuer, const struct keyset *old, const struct keyset *fresh)
{
        struct buf added, removed;

        buf_init(&added, 4096);
        buf_init(&removed, 4096);
        struct pair detail[] = {
                {STR("issuer"), issuer->config->name},
                {STR("added"), kids_only_in(fresh, old, &added)},
                {STR("removed"), kids_only_in(old, fresh, &removed)},
        };
        log_info("keys issuer=%s keys=%zu dropped=%zu added=\"%.*s\" removed=\"%.*s\"",
                issuer->config->name.ptr, fresh->n, fresh->dropped, STR_FMT(detail[1].value),
                STR_FMT(detail[2].value));
        issuer->hooks.event(issuer->hooks.owner, "keys.changed", detail, 3);
        buf_clear(&added);
        buf_clear(&removed);
}

/* Takes over the reference of `fresh`. */
static void issuer_succeeded(struct issuer *issuer, struct keyset *fresh, int64_t max_age_s)
{
        struct keyset *old = issuer->keys;
        bool changed = !old || old->generation != fresh->generation;
        int64_t lifetime = issuer_lifetime_ms(max_age_s, issuer->config->keys.refresh_ms);

        issuer->fetch = NULL;
        memcpy(issuer->keys_ca, issuer->asked_ca, sizeof(issuer->keys_ca));
        issuer->n_refreshed++;
        issuer->refreshed_mono_ms = clock_mono_ms();
        if (issuer->failures)
                issuer_event(issuer, "keys.refresh_recovered", "", STR_NONE);
        issuer->failures = 0;
        if (changed) {
                keys_changed_event(issuer, old, fresh);
                issuer->keys = fresh;
                arm(&issuer->prepare, PREPARE_MS);
                issuer->hooks.changed(issuer->hooks.owner);
                keyset_unref(old);
        } else {
                keyset_unref(fresh);
        }
        arm(&issuer->stale, issuer->config->keys.keep_ms);
        int64_t again = lifetime * 8 / 10;
        if (again > issuer->config->keys.keep_ms / 2)
                again = issuer->config->keys.keep_ms / 2; /* or keys would die of a long lifetime */
        arm(&issuer->timer, issuer->config->keys.file.ptr ? SOURCE_FILE_POLL_MS : jitter_ms(again));
        if (issuer->again && !changed) {
                /* What ran was older than the question: the key may have appeared since. */
                issuer->again = false;
                issuer->asked_mono_ms = clock_mono_ms();
                issuer_refresh(issuer);
                return;
        }
        issuer->again = false;
        issuer->hooks.settled(issuer->hooks.owner, issuer->index, changed,
                changed ? "" : "the issuer publishes no other keys than those known");
}

static void keys_take(
        struct issuer *issuer, struct str text, bool pem_allowed, const char *source, int64_t age_s)
{
        struct error_list warnings;
        struct error err;

        error_list_init(&warnings);
        struct keyset *fresh = keyset_parse(text, pem_allowed, source, &warnings, &err);
        /* Said again only when the set is another one. */
        if (!fresh || !issuer->keys || issuer->keys->generation != fresh->generation) {
                for (size_t i = 0; i < warnings.n; i++)
                        log_error("keys issuer=%s: %s", issuer->config->name.ptr,
                                warnings.findings[i].text);
        }
        error_list_clear(&warnings);
        if (fresh) {
                issuer_succeeded(issuer, fresh, age_s);
        } else {
                error_wrap(&err, "%s", source);
                issuer_failed(issuer, -1, &err);
        }
}

/* --- fetching --- */

/* The URL that the operator wrote: what it leads to must be as well protected. */
static const char *configured_url(const struct issuer *issuer)
{
        return issuer->config->keys.discovery ? issuer->config->issuers[0].ptr
                                              : issuer->config->keys.url.text.ptr;
}

static bool url_is_https(const char *url)
{
        return str_starts_fold(str_of(url), STR("https://"));
}

/* False when the bearer file cannot be read: the attempt has failed then. */
static bool issuer_fetch(
        struct issuer *issuer, const char *url, size_t most_bytes, fetch_done *done)
{
        const struct config_keys *keys = &issuer->config->keys;
        struct secret bearer = {NULL, 0};
        struct error err;

        /* A token for the issuer is for nobody else, whatever its document says. */
        if (keys->bearer_file.ptr && fetch_same_origin(url, configured_url(issuer)) &&
                !secret_read(&bearer, keys->bearer_file.ptr, BEARER_MOST_BYTES, &err)) {
                issuer_failed(issuer, -1, &err);
                return false;
        }
        struct fetch_request request = {
                .url = url,
                .bearer = &bearer,
                .ca = keys->ca.ptr,
                .timeout_ms = keys->timeout_ms,
                .most_bytes = most_bytes,
                .allow_plain_loopback = !url_is_https(configured_url(issuer)),
        };
        issuer->fetch = fetch_start(issuer->fetcher, &request, done, issuer);
        secret_drop(&bearer);
        return true;
}

static bool answer_good(const struct fetch_result *result, const char *url, struct error *err)
{
        if (!result->answered) {
                *err = result->error;
                return error_wrap(err, "%s", url);
        }
        if (result->status >= 300 && result->status < 400)
                return error_set(err, "%s: redirects elsewhere (status %d), which is not followed",
                        url, result->status);
        if (result->status == 401 || result->status == 403)
                return error_set(
                        err, "%s: status %d (does it need `bearer_file`?)", url, result->status);
        if (result->status != 200)
                return error_set(err, "%s: status %d", url, result->status);
        return true;
}

static void on_keys(const struct fetch_result *result, void *arg)
{
        struct issuer *issuer = arg;
        char *url = str_dup(
                str_of(issuer->config->keys.discovery ? issuer->jwks_url : configured_url(issuer)));
        struct error err;

        issuer->fetch = NULL;
        if (answer_good(result, url, &err)) {
                keys_take(issuer, result->body, false, url, result->max_age_s);
        } else {
                issuer->jwks_url_until_mono_ms = 0; /* it may have moved: ask the document again */
                issuer_failed(issuer, result->retry_after_s, &err);
        }
        free(url);
}

static void keys_fetch(struct issuer *issuer)
{
        const char *url =
                issuer->config->keys.discovery ? issuer->jwks_url : configured_url(issuer);

        issuer_fetch(issuer, url, KEYSET_MOST_BYTES, on_keys);
}

/* Reads `jwks_uri` out of a discovery document (OpenID Connect Discovery 1.0, 4.3). */
static bool document_read(struct issuer *issuer, struct str body, struct error *err)
{
        json_error_t where;
        json_t *document = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, &where);
        const char *wanted = issuer->config->issuers[0].ptr;
        const json_t *name = json_object_get(document, "issuer");
        const json_t *uri = json_object_get(document, "jwks_uri");
        bool ok = false;

        if (!json_is_object(document))
                error_set(err, "the discovery document is not a JSON object");
        else if (!json_is_string(name) || !json_is_string(uri))
                error_set(err, "the discovery document lacks `issuer` or `jwks_uri`");
        else if (!str_eq(str_view(json_string_value(name), json_string_length(name)),
                         issuer->config->issuers[0]))
                error_set(err,
                        "the discovery document is for issuer \"%.200s\", configured is \"%s\": "
                        "they must be equal to the last slash",
                        json_string_value(name), wanted);
        else if (json_string_length(uri) != strlen(json_string_value(uri)) ||
                 (url_is_https(wanted) && !url_is_https(json_string_value(uri))))
                error_set(err, "the `jwks_uri` of the discovery document is not an https URL");
        else
                ok = true;
        if (ok) {
                free(issuer->jwks_url);
                issuer->jwks_url = str_dup(str_of(json_string_value(uri)));
        }
        json_decref(document);
        return ok;
}

static void on_document(const struct fetch_result *result, void *arg)
{
        struct issuer *issuer = arg;
        struct error err;

        issuer->fetch = NULL;
        if (!answer_good(result, "discovery", &err) || !document_read(issuer, result->body, &err)) {
                error_wrap(&err, "%s", issuer->config->issuers[0].ptr);
                issuer_failed(issuer, result->retry_after_s, &err);
                return;
        }
        issuer->jwks_url_until_mono_ms = clock_mono_ms() + issuer_lifetime_ms(result->max_age_s,
                                                                   issuer->config->keys.refresh_ms);
        keys_fetch(issuer);
}

static void document_fetch(struct issuer *issuer)
{
        struct str base = issuer->config->issuers[0];
        struct buf url;

        while (base.len && base.ptr[base.len - 1] == '/')
                base.len--;
        buf_init(&url, 8192);
        buf_str_add(&url, base);
        BUF_LITERAL(&url, "/.well-known/openid-configuration");
        buf_char(&url, '\0');
        issuer_fetch(issuer, url.data, DOCUMENT_MOST_BYTES, on_document);
        buf_clear(&url);
}

static void file_read(struct issuer *issuer)
{
        const char *path = issuer->config->keys.file.ptr;
        struct secret text = {NULL, 0};
        struct error err;

        /* Stamped before it is read: a change in between is seen at the next look. */
        issuer->stamp = file_stamp_of(path);
        if (!secret_read(&text, path, KEYSET_MOST_BYTES, &err)) {
                issuer_failed(issuer, -1, &err);
                return;
        }
        keys_take(issuer, secret_reveal(&text), true, path, -1);
        secret_drop(&text);
}

static void issuer_refresh(struct issuer *issuer)
{
        if (issuer->fetch)
                return;
        authorities_of_keys(&issuer->config->keys, issuer->asked_ca);
        issuer->started_mono_ms = clock_mono_ms();
        if (issuer->config->keys.file.ptr)
                file_read(issuer);
        else if (issuer->config->keys.discovery &&
                 (!issuer->jwks_url || clock_mono_ms() >= issuer->jwks_url_until_mono_ms))
                document_fetch(issuer);
        else
                keys_fetch(issuer);
}

static void on_issuer_timer(evutil_socket_t fd, short what, void *arg)
{
        struct issuer *issuer = arg;

        (void)fd;
        (void)what;
        if (issuer->config->keys.file.ptr && issuer->keys && !issuer->failures) {
                struct file_stamp now = file_stamp_of(issuer->config->keys.file.ptr);
                if (file_stamp_same(&now, &issuer->stamp)) {
                        issuer->refreshed_mono_ms = clock_mono_ms();
                        arm(&issuer->stale, issuer->config->keys.keep_ms);
                        arm(&issuer->timer, SOURCE_FILE_POLL_MS);
                        return;
                }
        }
        issuer_refresh(issuer);
}

static void on_stale(evutil_socket_t fd, short what, void *arg)
{
        struct issuer *issuer = arg;

        (void)fd;
        (void)what;
        if (!issuer->keys)
                return;
        log_error("keys issuer=%s dropped: not confirmed for %lld s, callers of this issuer are "
                  "refused until its keys can be fetched",
                issuer->config->name.ptr, (long long)issuer->config->keys.keep_ms / 1000);
        issuer_event(issuer, "keys.dropped", "reason", STR("not confirmed for too long"));
        struct keyset *old = issuer->keys;
        issuer->keys = NULL;
        issuer->hooks.changed(issuer->hooks.owner);
        keyset_unref(old);
}

enum source_answer issuer_ask(struct issuer *issuer, uint64_t seen, struct error *why)
{
        int64_t now = clock_mono_ms();
        uint64_t generation = issuer->keys ? issuer->keys->generation : 0;

        issuer->n_asked++;
        if (generation && generation != seen)
                return SOURCE_NEWER;
        bool cooling = issuer->asked_mono_ms != INT64_MIN &&
                       now - issuer->asked_mono_ms < issuer->config->keys.cooldown_ms;
        if (issuer->fetch) {
                if (!cooling)
                        issuer->again = true;
                return SOURCE_WAIT;
        }
        if (cooling) {
                issuer->n_cooled++;
                error_set(why, "the keys of issuer %s were asked for %lld s ago",
                        issuer->config->name.ptr, (long long)(now - issuer->asked_mono_ms) / 1000);
                return SOURCE_NO;
        }
        issuer->asked_mono_ms = now;
        issuer_refresh(issuer);
        if (issuer->fetch)
                return SOURCE_WAIT;
        if (issuer->keys && issuer->keys->generation != seen)
                return SOURCE_NEWER; /* a file: read at once */
        if (issuer->failures)
                *why = issuer->last_error;
        else
                error_set(why, "issuer %s has no other keys than those known",
                        issuer->config->name.ptr);
        return SOURCE_NO;
}

bool issuer_unheard(const struct issuer *issuer)
{
        return issuer->failures > 0 || issuer->fetch;
}

/* Keys that turn out to be used much get their tables from this thread, which nobody waits for. */
static void on_prepare(evutil_socket_t fd, short what, void *arg)
{
        struct issuer *issuer = arg;
        const struct key *made;

        (void)fd;
        (void)what;
        if (!issuer->keys)
                return;
        if (keyset_prepare(issuer->keys, &made))
                arm(&issuer->prepare, PREPARE_MS);
        if (made)
                log_info(
                        "keys issuer=%s kid=\"%.*s\" is used much: verified by a table from now on",
                        issuer->config->name.ptr, made->kid.len < 80 ? (int)made->kid.len : 80,
                        made->kid.ptr ? made->kid.ptr : "");
}

/* --- life --- */

struct issuer *issuer_new(const struct config_issuer *config, unsigned index,
        struct event_base *base, struct fetcher *fetcher, const struct source_hooks *hooks)
{
        struct issuer *issuer = calloc(1, sizeof(*issuer));

        if (!issuer)
                abort();
        issuer->config = config;
        issuer->index = index;
        issuer->base = base;
        issuer->fetcher = fetcher;
        issuer->hooks = *hooks;
        issuer->asked_mono_ms = INT64_MIN;
        evtimer_assign(&issuer->timer, base, on_issuer_timer, issuer);
        evtimer_assign(&issuer->stale, base, on_stale, issuer);
        evtimer_assign(&issuer->prepare, base, on_prepare, issuer);
        return issuer;
}

void issuer_free(struct issuer *issuer)
{
        if (!issuer)
                return;
        fetch_cancel(issuer->fetch);
        event_del(&issuer->timer);
        event_del(&issuer->stale);
        event_del(&issuer->prepare);
        keyset_unref(issuer->keys);
        free(issuer->jwks_url);
        free(issuer);
}

void issuer_adopt(struct issuer *issuer, const struct issuer *old)
{
        const struct config_keys *mine = &issuer->config->keys, *other = &old->config->keys;
        char ca[65];

        if (!str_eq(issuer->config->issuers[0], old->config->issuers[0]) ||
                mine->discovery != other->discovery || !str_eq(mine->file, other->file) ||
                !str_eq(mine->url.text, other->url.text) || !str_eq(mine->ca, other->ca) ||
                !old->keys)
                return;
        authorities_of_keys(mine, ca);
        if (mine->ca.ptr && (!ca[0] || strcmp(ca, old->keys_ca) != 0)) {
                log_info("keys issuer=%s fetched anew: other authorities vouch for their server",
                        issuer->config->name.ptr);
                return;
        }
        memcpy(issuer->keys_ca, ca, sizeof(ca));
        issuer->keys = keyset_ref(old->keys);
        arm(&issuer->prepare, PREPARE_MS);
        issuer->refreshed_mono_ms = old->refreshed_mono_ms;
        issuer->asked_mono_ms = old->asked_mono_ms;
        issuer->n_refreshed = old->n_refreshed;
        issuer->n_failed = old->n_failed;
        issuer->n_asked = old->n_asked;
        issuer->n_cooled = old->n_cooled;
        int64_t left = old->refreshed_mono_ms + issuer->config->keys.keep_ms - clock_mono_ms();
        arm(&issuer->stale, left > 0 ? left : 0);
}

void issuer_start(struct issuer *issuer)
{
        issuer_refresh(issuer);
}
