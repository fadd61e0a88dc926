/* Cache-Control and Retry-After of whoever answers control: what is said stays in a range that can
 * be multiplied to milliseconds. The static functions are reached by including their file. */
#include <assert.h>

#include "../../../src/net/fetch.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text = malloc(size + 1); /* as curl hands a field out: it ends with a NUL */

        if (!text)
                abort();
        memcpy(text, data, size);
        text[size] = 0;
        struct str value = str_of(text);
        int64_t age = max_age_of(value), after = retry_after_of(value, (int64_t)size * 1000);
        assert(age >= -1 && age <= 1000000000);
        assert(after >= -1 && after < INT64_MAX / 1000);
        free(text);
        return 0;
}
