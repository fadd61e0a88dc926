#include "issuer.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "dagward/token/mint.h"
#include "issuer_form.h"
#include "server.h"

enum {
        PAIRS_MOST = 8, /* of keys in the set: the newest and those kept */
        COUNTERS_MOST = 64,
        BODY_MOST = 64 << 10,
        URL_MOST = 512,
        LIFETIME_S = 3600,
};

/* What one rotation makes. */
struct key_pair {
        struct mint_key *rsa, *ec;
};

struct counter {
        char *path; /* canonical */
        uint64_t times;
};

struct emu_issuer {
        pthread_mutex_t lock;              /* of `pairs` and `counters` */
        struct key_pair pairs[PAIRS_MOST]; /* newest first */
        size_t n_pairs;
        struct counter counters[COUNTERS_MOST + 1]; /* the last one: all other paths */
        size_t n_counters;
        struct emu_server *server;
        char *url; /* set once, before the first request is looked at */
};

/* --- keys --- */

static struct key_pair pair_generate(void)
{
        return (struct key_pair){
                mint_key_generate(TOKEN_RS256, STR_NONE), mint_key_generate(TOKEN_ES256, STR_NONE)};
}

static void pair_free(struct key_pair *pair)
{
        mint_key_free(pair->rsa);
        mint_key_free(pair->ec);
}

static void rotate(struct emu_issuer *it, bool keep)
{
        struct key_pair fresh = pair_generate(); /* slow: not under the lock */

        pthread_mutex_lock(&it->lock);
        size_t kept = !keep ? 0 : it->n_pairs < PAIRS_MOST ? it->n_pairs : PAIRS_MOST - 1;
        for (size_t i = kept; i < it->n_pairs; i++)
                pair_free(&it->pairs[i]);
        memmove(it->pairs + 1, it->pairs, kept * sizeof(it->pairs[0]));
        it->pairs[0] = fresh;
        it->n_pairs = kept + 1;
        pthread_mutex_unlock(&it->lock);
}

static void write_key_set(struct emu_issuer *it, struct buf *out)
{
        const struct mint_key *keys[2 * PAIRS_MOST];
        size_t n = 0;

        pthread_mutex_lock(&it->lock);
        for (size_t i = 0; i < it->n_pairs; i++) {
                keys[n++] = it->pairs[i].rsa;
                keys[n++] = it->pairs[i].ec;
        }
        mint_key_set(keys, n, out);
        pthread_mutex_unlock(&it->lock);
}

/* --- tokens --- */

/* A default that is given as null is left out of the token. */
static void claim_default(json_t *claims, const char *name, json_t *value)
{
        json_t *given = json_object_get(claims, name);

        if (!given)
                json_object_set(claims, name, value);
        else if (json_is_null(given))
                json_object_del(claims, name);
        json_decref(value);
}

static void claim_defaults(const struct emu_issuer *it, json_t *claims)
{
        int64_t now_ms = clock_wall_ms();
        char id[ID_UUID_LEN + 1];

        id_uuid7(now_ms, id);
        claim_default(claims, "iss", json_string(it->url));
        claim_default(claims, "aud", json_string("dagward"));
        claim_default(claims, "sub", json_string("demo"));
        claim_default(claims, "jti", json_string(id));
        claim_default(claims, "iat", json_integer(now_ms / 1000));
        claim_default(claims, "exp", json_integer(now_ms / 1000 + LIFETIME_S));
}

/* Takes `_alg` out of the claims; leaves `*alg` alone when it is not there. */
static bool claim_alg(json_t *claims, enum token_alg *alg, struct error *err)
{
        json_t *given = json_object_get(claims, "_alg");

        if (!given)
                return true;
        if (!json_is_string(given) || !token_alg_named(str_of(json_string_value(given)), alg))
                return error_set(err, "`_alg` names no signature algorithm: RS256, ES256, PS256");
        json_object_del(claims, "_alg");
        return true;
}

static bool sign(struct emu_issuer *it, enum token_alg alg, const json_t *claims,
        struct secret *out, struct error *err)
{
        char *text = json_dumps(claims, JSON_COMPACT);

        if (!text)
                return error_set(err, "the claims cannot be written as JSON");
        pthread_mutex_lock(&it->lock);
        const struct key_pair *pair = &it->pairs[0];
        bool ec = (mint_key_algorithms(pair->ec) & TOKEN_ALG_BIT(alg)) != 0;
        bool good = mint_sign(ec ? pair->ec : pair->rsa, alg, NULL, 0, str_of(text), out, err);
        pthread_mutex_unlock(&it->lock);
        free(text);
        return good;
}

bool emu_issuer_mint(struct emu_issuer *it, struct str text, struct secret *out, struct error *err)
{
        json_error_t why = {.line = 0};
        enum token_alg alg = TOKEN_RS256;
        json_t *claims = str_empty(str_trim(text))
                                 ? json_object()
                                 : json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &why);

        if (!claims)
                return error_set(err, "the claims are not JSON: line %d: %s", why.line, why.text);
        bool good = json_is_object(claims) ? claim_alg(claims, &alg, err)
                                           : error_set(err, "the claims are not a JSON object");
        if (good) {
                claim_defaults(it, claims);
                good = sign(it, alg, claims, out, err);
        }
        json_decref(claims);
        return good;
}

/* --- answers --- */

static void reply_json(struct emu_request *request, int status, json_t *value)
{
        char *text = json_dumps(value, JSON_COMPACT);

        emu_header(request, STR("Cache-Control"), STR("no-store"));
        emu_reply(request, status, "application/json", str_of(text));
        free(text);
        json_decref(value);
}

static void reply_text(struct emu_request *request, int status, const char *text)
{
        char line[sizeof(struct error) + 1];

        snprintf(line, sizeof(line), "%s\n", text);
        emu_reply(request, status, "text/plain; charset=utf-8", str_of(line));
}

static void oauth_error(
        struct emu_request *request, int status, const char *code, const char *description)
{
        reply_json(request, status,
                json_pack("{s:s,s:s}", "error", code, "error_description", description));
}

static void get_discovery(struct emu_issuer *it, struct emu_request *request)
{
        struct str base = str_of(it->url);
        struct buf out;

        while (str_ends(base, STR("/")))
                base.len--;
        buf_init(&out, 64 << 10);
        BUF_LITERAL(&out, "{\"issuer\":");
        buf_json_str(&out, str_of(it->url));
        /* what url_ok lets through needs no escapes */
        buf_printf(&out,
                ",\"jwks_uri\":\"%.*s/jwks\",\"token_endpoint\":\"%.*s/token\","
                "\"authorization_endpoint\":\"%.*s/authorize\","
                "\"response_types_supported\":[\"code\"],"
                "\"subject_types_supported\":[\"public\"],"
                "\"grant_types_supported\":[\"client_credentials\"],"
                "\"token_endpoint_auth_methods_supported\":"
                "[\"client_secret_basic\",\"client_secret_post\"],"
                "\"id_token_signing_alg_values_supported\":[\"RS256\",\"ES256\",\"PS256\"]}",
                STR_FMT(base), STR_FMT(base), STR_FMT(base));
        emu_header(request, STR("Cache-Control"), STR("max-age=60"));
        emu_reply(request, 200, "application/json", buf_str(&out));
        buf_clear(&out);
}

static void get_jwks(struct emu_issuer *it, struct emu_request *request)
{
        struct buf out;

        buf_init(&out, 64 << 10);
        write_key_set(it, &out);
        emu_header(request, STR("Cache-Control"), STR("max-age=60"));
        emu_reply(request, 200, "application/jwk-set+json", buf_str(&out));
        buf_clear(&out);
}

static void get_count(struct emu_issuer *it, struct emu_request *request)
{
        json_t *counts = json_object();

        pthread_mutex_lock(&it->lock);
        for (size_t i = 0; i < it->n_counters; i++)
                json_object_set_new(counts, it->counters[i].path,
                        json_integer((json_int_t)it->counters[i].times));
        pthread_mutex_unlock(&it->lock);
        reply_json(request, 200, counts);
}

static void post_mint(struct emu_issuer *it, struct emu_request *request)
{
        struct secret token = {0};
        struct error err = {{0}};
        struct buf body;

        if (!emu_body_all(request, BODY_MOST, &body)) {
                reply_text(request, 413, "the claims are too long or did not come whole");
        } else if (!emu_issuer_mint(it, buf_str(&body), &token, &err)) {
                reply_text(request, 400, err.text);
        } else {
                emu_header(request, STR("Cache-Control"), STR("no-store"));
                emu_reply(request, 200, "text/plain; charset=utf-8", secret_reveal(&token));
        }
        secret_drop(&token);
        buf_clear(&body);
}

static void post_rotate(struct emu_issuer *it, struct emu_request *request)
{
        rotate(it, str_eq(target_query(&request->target, STR("keep")), STR("1")));
        get_jwks(it, request);
}

/* Reads the form of a token request, and whose it is. False: it is answered. */
static bool read_form(struct emu_request *request, struct issuer_form *form)
{
        struct buf body;

        bool whole = emu_body_all(request, BODY_MOST, &body);
        if (whole)
                issuer_form_read(form, buf_str(&body),
                        h1_field_value(&request->head, H1_AUTHORIZATION), request->arena);
        buf_clear(&body);
        if (!whole || !form->whole) {
                oauth_error(request, 400, "invalid_request", "the form cannot be read");
                return false;
        }
        if (str_empty(form->client_id)) {
                oauth_error(request, 400, "invalid_request", "client_id is missing");
                return false;
        }
        if (!str_eq(form->grant_type, STR("client_credentials"))) {
                oauth_error(request, 400, "unsupported_grant_type",
                        "grant_type has to be client_credentials");
                return false;
        }
        return true;
}

static void post_token(struct emu_issuer *it, struct emu_request *request)
{
        struct issuer_form form;
        struct secret token = {0};
        struct error err = {{0}};

        if (!read_form(request, &form))
                return;
        json_t *claims = json_object();
        json_object_set_new(claims, "sub", json_stringn(form.client_id.ptr, form.client_id.len));
        if (!str_empty(form.audience))
                json_object_set_new(
                        claims, "aud", json_stringn(form.audience.ptr, form.audience.len));
        claim_defaults(it, claims);
        if (sign(it, TOKEN_RS256, claims, &token, &err)) {
                struct str bytes = secret_reveal(&token);
                reply_json(request, 200,
                        json_pack("{s:s%,s:s,s:i}", "access_token", bytes.ptr, bytes.len,
                                "token_type", "Bearer", "expires_in", (int)LIFETIME_S));
        } else {
                oauth_error(request, 400, "invalid_request", err.text);
        }
        secret_drop(&token);
        json_decref(claims);
}

/* --- Entra ID --- */

static void entra_error(struct emu_request *request, int number, const char *text)
{
        char trace[ID_UUID_LEN + 1], correlation[ID_UUID_LEN + 1], when[CLOCK_RFC3339_LEN + 1];
        int64_t now_ms = clock_wall_ms();

        id_uuid7(now_ms, trace);
        id_uuid7(now_ms, correlation);
        clock_rfc3339(now_ms, when);
        /* 2026-01-15 10:00:00Z */
        when[10] = ' ';
        memcpy(when + 19, "Z", 2);
        emu_header(request, STR("x-ms-request-id"), str_of(trace));
        reply_json(request, 401,
                json_pack("{s:s,s:o,s:[i],s:s,s:s,s:s}", "error", "invalid_client",
                        "error_description",
                        json_sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
                                number, text, trace, correlation, when),
                        "error_codes", number, "timestamp", when, "trace_id", trace,
                        "correlation_id", correlation));
}

static void post_entra(struct emu_issuer *it, struct emu_request *request)
{
        struct issuer_form form;
        unsigned char random[24];
        char text[80];
        struct buf token;

        (void)it;
        if (!read_form(request, &form))
                return;
        if (str_empty(form.client_secret) && str_empty(form.client_assertion)) {
                entra_error(request, 7000218,
                        "The request body must contain the following parameter: "
                        "'client_assertion' or 'client_secret'.");
                return;
        }
        if (str_eq(form.client_id, STR("refused"))) {
                entra_error(request, 7000215, "Invalid client secret provided.");
                return;
        }
        id_random(random, sizeof(random));
        buf_init_fixed(&token, text, sizeof(text));
        BUF_LITERAL(&token, "emulated-");
        buf_hex(&token, random, sizeof(random));
        reply_json(request, 200,
                json_pack("{s:s,s:i,s:i,s:s%}", "token_type", "Bearer", "expires_in", 3599,
                        "ext_expires_in", 3599, "access_token", token.data, (size_t)token.len));
}

/* --- routes --- */

static const struct route {
        const char *method;
        const char *path;
        void (*answer)(struct emu_issuer *it, struct emu_request *request);
} routes[] = {
        {"GET", "/.well-known/openid-configuration", get_discovery},
        {"GET", "/jwks", get_jwks},
        {"GET", "/count", get_count},
        {"POST", "/mint", post_mint},
        {"POST", "/rotate", post_rotate},
        {"POST", "/token", post_token},
};

static void count(struct emu_issuer *it, struct str path)
{
        size_t i = 0;

        pthread_mutex_lock(&it->lock);
        while (i < it->n_counters && !str_eq(str_of(it->counters[i].path), path))
                i++;
        if (i > COUNTERS_MOST)
                i = COUNTERS_MOST;
        if (i == it->n_counters)
                it->counters[it->n_counters++].path =
                        str_dup(i < COUNTERS_MOST ? path : STR("(others)"));
        it->counters[i].times++;
        pthread_mutex_unlock(&it->lock);
}

static bool is_entra(const struct target *target)
{
        return target->n_segments == 4 && str_eq(target->segments[1], STR("oauth2")) &&
               str_eq(target->segments[2], STR("v2.0")) &&
               str_eq(target->segments[3], STR("token"));
}

static void answer_with(
        struct emu_issuer *it, struct emu_request *request, const struct route *route)
{
        if (str_eq(request->head.method, str_of(route->method))) {
                route->answer(it, request);
                return;
        }
        emu_header(request, STR("Allow"), str_of(route->method));
        reply_text(request, 405, "not with this method");
}

static void handle(struct emu_request *request, void *arg)
{
        static const struct route entra = {"POST", "", post_entra};
        struct emu_issuer *it = arg;
        struct buf path;

        buf_init(&path, (size_t)H1_MAX_TARGET * 3);
        target_write_path(&request->target, &path);
        const struct route *found = is_entra(&request->target) ? &entra : NULL;
        for (size_t i = 0; !found && i < sizeof(routes) / sizeof(routes[0]); i++)
                if (str_eq(buf_str(&path), str_of(routes[i].path)))
                        found = &routes[i];
        if (!found || found->answer != get_count)
                count(it, buf_str(&path));
        buf_clear(&path);
        if (found)
                answer_with(it, request, found);
        else
                reply_text(request, 404, "no such path; `dagward emulate --help` lists them");
}

/* --- life --- */

static void emu_issuer_free(struct emu_issuer *it)
{
        for (size_t i = 0; i < it->n_pairs; i++)
                pair_free(&it->pairs[i]);
        for (size_t i = 0; i < it->n_counters; i++)
                free(it->counters[i].path);
        pthread_mutex_destroy(&it->lock);
        free(it->url);
        free(it);
}

static bool url_ok(struct str url)
{
        if (!str_starts(url, STR("http://")) && !str_starts(url, STR("https://")))
                return false;
        for (size_t i = 0; i < url.len; i++)
                if (url.ptr[i] <= ' ' || url.ptr[i] > '~' || strchr("\"\\<>", url.ptr[i]))
                        return false;
        return url.len <= URL_MOST;
}

struct emu_issuer *emu_issuer_start(const struct emu_issuer_settings *settings, struct error *err)
{
        char own[64];

        if (!str_empty(settings->url) && !url_ok(settings->url)) {
                error_set(err, "the issuer's name has to be an http or https URL");
                return NULL;
        }
        struct emu_issuer *it = calloc(1, sizeof(*it));
        if (!it)
                abort();
        pthread_mutex_init(&it->lock, NULL);
        it->pairs[0] = pair_generate();
        it->n_pairs = 1;
        /* A request that comes at once waits at the lock until the issuer knows its name. */
        pthread_mutex_lock(&it->lock);
        it->server = emu_listen(settings->port, NULL, handle, it, err);
        if (it->server) {
                snprintf(own, sizeof(own), "http://127.0.0.1:%u", (unsigned)emu_port(it->server));
                it->url = str_dup(str_empty(settings->url) ? str_of(own) : settings->url);
        }
        pthread_mutex_unlock(&it->lock);
        if (it->server)
                return it;
        emu_issuer_free(it);
        return NULL;
}

uint16_t emu_issuer_port(const struct emu_issuer *it)
{
        return emu_port(it->server);
}

struct str emu_issuer_url(const struct emu_issuer *it)
{
        return str_of(it->url);
}

void emu_issuer_stop(struct emu_issuer *it)
{
        if (!it)
                return;
        emu_stop(it->server);
        emu_issuer_free(it);
}
