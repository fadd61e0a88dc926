/*
 * fuzz_carrier: field values, one a line; the first byte of a line says which field it is ('A' for
 * Authorization, anything else for X-Dagward-Token).
 */
#include <stdlib.h>

#include "dagward/token/carrier.h"
#include "dagward/token/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str rest = str_view((const char *)data, size), line, values[2][4], token, user;
        size_t n[2] = {0, 0};
        enum token_via via;
        struct arena arena;

        while (rest.len && n[0] < 4 && n[1] < 4) {
                rest = str_cut(rest, '\n', &line);
                size_t which = line.len && line.ptr[0] == 'A' ? 0 : 1;
                values[which][n[which]++] = str_from(line, 1);
        }
        arena_init(&arena, 4096, 65536);
        enum carrier_result result =
                carrier_find(values[0], n[0], values[1], n[1], &arena, &token, &via, &user);
        if ((result == CARRIER_TOKEN) != (token.len > 0))
                abort();
        if (n[0] + n[1] > 1 && result != CARRIER_SEVERAL)
                abort();
        if (token.len > TOKEN_MOST_BYTES || user.len > CARRIER_CLAIMED_MOST_BYTES ||
                token_looks_like_jwt(user))
                abort();
        for (size_t i = 0; i < token.len; i++)
                if ((unsigned char)token.ptr[i] <= ' ')
                        abort();
        arena_clear(&arena);
        return 0;
}
