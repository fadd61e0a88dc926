/* What a token endpoint may answer: first byte picks status and content type, the rest is the body.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../src/control/entra_answer.h"
#include "dagward/credential/credential.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const int statuses[] = {200, 400, 401, 429, 500, 503, 302, 200};
        struct entra_answer answer;

        if (size == 0)
                return 0;
        entra_answer_read(statuses[data[0] & 7],
                data[0] & 8 ? STR("text/html") : STR("application/json"),
                str_view((const char *)data + 1, size - 1), data[0] & 16, &answer);
        if (answer.verdict == ENTRA_TOKEN) {
                assert(answer.token.len > 0);
                assert(answer.expires_in_s > 0 && answer.expires_in_s < INT64_MAX / 1000);
                struct credential *credential =
                        credential_new(secret_reveal(&answer.token), 1, answer.expires_in_s * 1000);
                if (credential) {
                        /* Nothing of an answer can end a header line early. */
                        struct str line = secret_reveal(&credential->line);
                        assert(str_find(line, '\r') == (ssize_t)line.len - 2);
                        assert(str_find(line, '\n') == (ssize_t)line.len - 1);
                }
                credential_unref(credential);
        } else {
                assert(answer.token.len == 0);
                assert(answer.why.text[0]);
                for (const char *c = answer.why.text; *c; c++)
                        assert((unsigned char)*c >= ' ');
        }
        secret_drop(&answer.token);
        return 0;
}
