/*
 * fuzz_token: any bytes as a token, held against an issuer with one key of each kind.
 *
 * What comes out as a caller must have come in with a valid signature: the seeds are the only bytes
 * that can, so an accepted input that is not byte for byte what was signed is reported.
 */
#include <stdlib.h>

#include "dagward/token/token.h"
#include "dagward/token/verdicts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char set_text[] =
#include "fuzz_keys.inc"
        ;

static struct str issuers[] = {{"https://issuer.example", 22}}, audiences[] = {{"dagward", 7}};
static struct str paths[] = {{"roles", 5}, {"realm_access.roles", 18}};
static struct pair require[] = {{{"tid", 3}, {"t", 1}}};
static const struct token_rules rules = {.name = {"f", 1},
        .issuers = issuers,
        .n_issuers = 1,
        .audiences = audiences,
        .n_audiences = 1,
        .algorithms = TOKEN_ALGS_ALL,
        .clock_skew_s = 60,
        .max_lifetime_s = 86400,
        .require = require,
        .n_require = 1,
        .roles_paths = paths,
        .n_roles_paths = 2};
static struct keyset *keys;
static struct verdicts *verdicts;

static void set_up(void)
{
        struct error err;

        keys = keyset_parse(str_of(set_text), false, NULL, NULL, &err);
        verdicts = verdicts_new(8);
        if (!keys)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str text = str_view((const char *)data, size);
        struct caller *caller, *again;
        unsigned index;
        struct error why;

        if (!keys)
                set_up();
        struct issuer_view view = {&rules, keys};
        enum token_verdict verdict =
                token_verify(text, &view, 1, 1800000000, &caller, &index, &why);
        const struct verdicts_now now = {1800000000, 1000};
        bool ended;
        again = verdicts_find(verdicts, text, &view, 1, 1, &now, &ended);
        if (ended)
                abort();
        if ((verdict == TOKEN_OK) != (caller != NULL) || index > 1)
                abort();
        if (again && !caller)
                abort(); /* the cache must never know better */
        if (caller) {
                /* Forged: the seeds' tokens all say who they are. */
                if (!str_eq(caller->subject, STR("seed")) || caller->n_roles > TOKEN_MOST_ROLES)
                        abort();
                verdicts_put(verdicts, text, caller, &view, 1, 1, &now);
        } else if (!why.text[0]) {
                abort();
        }
        caller_unref(caller);
        caller_unref(again);
        (void)token_looks_like_pat(text);
        (void)token_looks_like_jwt(text);
        return 0;
}
