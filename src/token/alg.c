#include "dagward/token/alg.h"

static const char *const names[TOKEN_ALG_COUNT] = {
        [TOKEN_RS256] = "RS256",
        [TOKEN_RS384] = "RS384",
        [TOKEN_RS512] = "RS512",
        [TOKEN_PS256] = "PS256",
        [TOKEN_PS384] = "PS384",
        [TOKEN_PS512] = "PS512",
        [TOKEN_ES256] = "ES256",
        [TOKEN_ES384] = "ES384",
        [TOKEN_ES512] = "ES512",
        [TOKEN_EDDSA] = "EdDSA",
};

const char *token_alg_name(enum token_alg alg)
{
        return names[alg];
}

bool token_alg_named(struct str name, enum token_alg *alg)
{
        for (int i = 0; i < TOKEN_ALG_COUNT; i++)
                if (str_eq(name, str_of(names[i]))) {
                        *alg = (enum token_alg)i;
                        return true;
                }
        return false;
}
