/* What an identity endpoint may answer: first byte picks the status, the rest is the body. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../src/control/managed_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const int statuses[] = {200, 400, 401, 403, 404, 410, 429, 500};
        struct managed_answer answer;

        if (size == 0)
                return 0;
        managed_answer_read(statuses[data[0] & 7],
                data[0] & 8 ? STR("text/html") : STR("application/json"),
                str_view((const char *)data + 1, size - 1), 1768460000, &answer);
        if (answer.verdict == ENTRA_TOKEN) {
                assert(answer.token.len > 0);
                assert(answer.expires_in_s > 0 && answer.expires_in_s < INT64_MAX / 1000);
        } else {
                assert(!answer.token.bytes && answer.why.text[0]);
                for (const char *c = answer.why.text; *c; c++)
                        assert((unsigned char)*c >= ' ' && (unsigned char)*c < 0x7f);
        }
        secret_drop(&answer.token);
        return 0;
}
