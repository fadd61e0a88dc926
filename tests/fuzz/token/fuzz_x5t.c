/* The certificate of a credential, from a file (PEM) or from a key vault (DER). */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "dagward/token/x5t.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str text = str_view((const char *)data, size);
        struct x5t one;
        struct error err = {""};

        for (int der = 0; der < 2; der++) {
                bool read = der ? x5t_read_der(text, &one, &err) : x5t_read_pem(text, &one, &err);
                if (!read) {
                        assert(err.text[0]);
                        continue;
                }
                assert(strlen(one.sha1) == 27 && strlen(one.sha256) == 43);
                assert(strlen(one.hex) == 64 && strlen(one.key_id) == 43 && one.algorithms);
        }
        return 0;
}
