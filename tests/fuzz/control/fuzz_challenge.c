/* A WWW-Authenticate field of whoever answers in the place of a vault or an agent. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../../src/control/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *copy = malloc(size + 1); /* so that a byte read beyond is seen */
        char out[64];

        if (!copy)
                abort();
        memcpy(copy, data, size);
        struct str text = str_view(copy, size);
        if (challenge_param(text, STR("Basic"), STR("realm"), out, sizeof(out))) {
                assert(out[0] && strlen(out) < sizeof(out));
                /* Nothing but a name in that folder is ever opened. */
                if (challenge_arc_path(str_of(out)))
                        assert(!strchr(out + 26, '/') &&
                                strncmp(out, "/var/opt/azcmagent/", 19) == 0);
        }
        if (challenge_param(text, STR("Bearer"), STR("authorization"), out, sizeof(out)))
                for (const char *c = out; *c; c++)
                        assert(*c >= ' ' && *c <= '~');
        char claims[CLAIMS_MOST];
        if (challenge_claims(memchr(copy, '\0', size) ? copy : NULL, claims))
                assert(claims[0] == '{' || strchr(" \t\r\n", claims[0]));
        if (challenge_arc_path(text))
                assert(size > 26 && !memchr(copy + 26, '/', size - 26));
        free(copy);
        return 0;
}
