/* What a key vault may answer: first byte picks kind and status, the rest is the body. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../src/control/vault_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const int statuses[] = {200, 401, 403, 404, 429, 503, 302, 200};
        struct vault_answer answer;

        if (size == 0)
                return 0;
        vault_answer_read((enum vault_kind)(data[0] & 3), statuses[data[0] >> 2 & 7],
                data[0] & 32 ? STR("text/html") : STR("application/json"),
                str_view((const char *)data + 1, size - 1), &answer);
        /* The version becomes a part of a path. */
        for (const char *c = answer.version; *c; c++)
                assert((*c >= '0' && *c <= '9') ||
                        (char_lower(*c) >= 'a' && char_lower(*c) <= 'z'));
        if (answer.verdict == VAULT_GOOD) {
                assert(answer.value.len > 0 || (data[0] & 3) == VAULT_KEY);
                assert(answer.until_s >= 0);
        } else {
                assert(!answer.value.bytes && answer.why.text[0]);
                for (const char *c = answer.why.text; *c; c++)
                        assert((unsigned char)*c >= ' ' && (unsigned char)*c < 0x7f);
        }
        secret_drop(&answer.value);
        return 0;
}
