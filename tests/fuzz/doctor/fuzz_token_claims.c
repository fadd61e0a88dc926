/* A token or assertion that `dagward doctor` is shown, unverified: texts end, fit and are what can
 * be printed; then the number in a text of Entra's. */
#include <assert.h>
#include <stdlib.h>

#include "../../../src/doctor/inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct token_claims claims;

        memset(&claims, 'x', sizeof(claims));
        token_claims_read(str_view((const char *)data, size), &claims);
        assert(memchr(claims.alg, 0, sizeof(claims.alg)));
        assert(memchr(claims.kid, 0, sizeof(claims.kid)));
        assert(memchr(claims.iss, 0, sizeof(claims.iss)));
        assert(memchr(claims.sub, 0, sizeof(claims.sub)));
        assert(memchr(claims.aud, 0, sizeof(claims.aud)));
        assert(memchr(claims.tid, 0, sizeof(claims.tid)));
        assert(memchr(claims.version, 0, sizeof(claims.version)));
        assert(claims.exp_s == INT64_MIN || (claims.exp_s >= 0 && claims.exp_s < 1000000000000));
        assert(claims.jwt || (!claims.iss[0] && claims.exp_s == INT64_MIN));
        char *text = malloc(size + 1);
        if (!text)
                abort();
        memcpy(text, data, size);
        text[size] = 0;
        assert(aadsts_of(text) >= 0);
        free(text);
        return 0;
}
