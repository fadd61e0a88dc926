/*
 * jwt_exec: the token module behind the corpus runner.
 *
 * Reads one vector per line (a JSON object: token or token_b64, jwks or jwks_b64, issuer, audience,
 * or issuers; now, leeway) and answers "accept" or "reject: why" on a line of its own. With --jws
 * only the key and the signature are judged (for vectors whose payload is no JSON).
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/token/base64.h"
#include "dagward/token/token.h"

enum { MOST_ISSUERS = 4 };

struct vector {
        struct token_rules rules[MOST_ISSUERS];
        struct str iss[MOST_ISSUERS], audience[MOST_ISSUERS];
        struct issuer_view views[MOST_ISSUERS];
        size_t n;
};

static struct str text_of(const json_t *object, const char *name)
{
        const json_t *value = json_object_get(object, name);

        return value ? str_view(json_string_value(value), json_string_length(value)) : STR_NONE;
}

/* The bytes of `name`_b64; the caller frees *memory. */
static struct str bytes_of(const json_t *object, const char *name, char **memory)
{
        struct str text = text_of(object, name);

        *memory = malloc(BASE64_DECODED(text.len) + 1);
        ssize_t len = *memory ? base64_decode(text, *memory) : -1;
        if (len < 0)
                abort();
        return str_view(*memory, (size_t)len);
}

static struct keyset *keys_of(const json_t *vector, const json_t *jwks, struct error *err)
{
        char *memory;
        struct keyset *keys;

        if (json_object_get(vector, "jwks_b64")) {
                keys = keyset_parse(
                        bytes_of(vector, "jwks_b64", &memory), false, "vector", NULL, err);
        } else {
                memory = json_dumps(jwks, JSON_ENCODE_ANY);
                if (!memory)
                        abort();
                keys = keyset_parse(str_of(memory), false, "vector", NULL, err);
        }
        free(memory);
        return keys;
}

static void add_issuer(
        struct vector *v, const json_t *vector, const json_t *issuer, struct error *err)
{
        static const struct str roles[] = {{"roles", 5}};
        size_t i = v->n++;

        if (i >= MOST_ISSUERS)
                abort();
        v->iss[i] = text_of(issuer, "issuer");
        v->audience[i] = text_of(issuer, "audience");
        v->rules[i] = (struct token_rules){
                .name = STR("issuer"),
                .issuers = &v->iss[i],
                .n_issuers = 1,
                .audiences = &v->audience[i],
                .n_audiences = 1,
                .algorithms = TOKEN_ALGS_ALL,
                .clock_skew_s = json_integer_value(json_object_get(vector, "leeway")),
                .roles_paths = roles,
                .n_roles_paths = 1,
        };
        v->views[i].rules = &v->rules[i];
        v->views[i].keys = keys_of(vector, json_object_get(issuer, "jwks"), err);
}

/* The layer below claims: header, key, signature. */
static bool signature_good(struct str token, const struct keyset *keys)
{
        unsigned char header_bytes[4096], signature[1024];
        struct str header, payload, rest = str_cut(token, '.', &header);
        enum token_alg alg;
        bool other_alg;

        rest = str_cut(rest, '.', &payload);
        if (!keys || !rest.ptr || BASE64_DECODED(header.len) > sizeof(header_bytes) ||
                BASE64_DECODED(rest.len) > sizeof(signature))
                return false;
        ssize_t header_len = base64url_decode(header, header_bytes);
        ssize_t len = base64url_decode(rest, signature);
        if (header_len <= 0 || len < 0)
                return false;
        json_t *json =
                json_loadb((char *)header_bytes, (size_t)header_len, JSON_REJECT_DUPLICATES, NULL);
        const struct key *key = NULL;
        if (token_alg_named(text_of(json, "alg"), &alg))
                key = keyset_find(keys, text_of(json, "kid"), alg, &other_alg);
        json_decref(json);
        return key && key_verify(key, alg, str_head(token, header.len + 1 + payload.len),
                              str_view((char *)signature, (size_t)len));
}

static void answer(const json_t *vector, bool jws)
{
        struct vector v = {.n = 0};
        struct error why = {""};
        const json_t *issuers = json_object_get(vector, "issuers");
        char *memory = NULL;
        struct caller *caller;
        unsigned index;

        if (issuers)
                for (size_t i = 0; i < json_array_size(issuers); i++)
                        add_issuer(&v, vector, json_array_get(issuers, i), &why);
        else
                add_issuer(&v, vector, vector, &why);
        struct str token = json_object_get(vector, "token_b64")
                                   ? bytes_of(vector, "token_b64", &memory)
                                   : text_of(vector, "token");
        enum token_verdict verdict;
        if (jws) {
                verdict = signature_good(token, v.views[0].keys) ? TOKEN_OK : TOKEN_BAD_SIGNATURE;
                caller = NULL;
        } else {
                verdict = token_verify(token, v.views, v.n,
                        json_integer_value(json_object_get(vector, "now")), &caller, &index, &why);
        }
        if (verdict == TOKEN_OK)
                puts("accept");
        else
                printf("reject: %s: %s\n", token_verdict_name(verdict), why.text);
        fflush(stdout);
        caller_unref(caller);
        for (size_t i = 0; i < v.n; i++)
                keyset_unref((struct keyset *)v.views[i].keys);
        free(memory);
}

int main(int argc, char **argv)
{
        bool jws = argc > 1 && strcmp(argv[1], "--jws") == 0;
        char *line = NULL;
        size_t room = 0;

        for (ssize_t len; (len = getline(&line, &room, stdin)) > 0;) {
                json_t *vector = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);
                if (vector)
                        answer(vector, jws);
                else
                        puts("not a vector");
                fflush(stdout);
                json_decref(vector);
        }
        free(line);
        return 0;
}
