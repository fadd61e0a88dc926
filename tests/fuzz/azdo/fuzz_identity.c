/* What upstream says about a name: kind, length of the value, the value, then the answer. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "dagward/azdo/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char memory[IDENTITY_QUESTION_MOST_BYTES];
        struct identity *identity = NULL;
        enum service service;
        const char *why = "";
        struct arena arena;
        struct buf path;

        if (size < 2 || size < 2u + data[1])
                return 0;
        enum resource_kind kind = (enum resource_kind)(data[0] % RESOURCE_KINDS);
        struct str value = str_view((const char *)data + 2, data[1]);
        struct str text = str_view((const char *)data + 2 + data[1], size - 2 - data[1]);
        buf_init_fixed(&path, memory, sizeof(memory));
        if (!identity_question(kind, STR("contoso"), value, value, &path, &service))
                return 0;
        /* Nothing of the value leads elsewhere. */
        struct str written = buf_str(&path);
        for (size_t i = 0; i < written.len; i++)
                assert(written.ptr[i] > ' ' && written.ptr[i] < 0x7f && written.ptr[i] != '#');
        assert(str_starts(written, STR("/contoso/")) && str_find_str(written, STR("/../")) < 0 &&
                str_find_str(written, STR("/..?")) < 0 && !str_ends(written, STR("/..")));
        if (identity_read(kind, value, text, &identity, &why) != IDENTITY_KNOWN) {
                assert(!identity);
                return 0;
        }
        assert(identity->id.len);
        arena_init(&arena, 4096, 1 << 20);
        const struct identity *kept = identity_keep(identity, &arena);
        assert(kept && str_eq(kept->id, identity->id) && str_eq(kept->ref, identity->ref));
        arena_clear(&arena);
        free(identity);
        return 0;
}
