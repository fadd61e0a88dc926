/* Lists of requests: what is taken apart can be put together, and is then taken apart again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "dagward/azdo/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *why = NULL;
        struct batch *batch = batch_open(str_view((const char *)data, size), &why);
        struct arena arena;
        struct batch_item item;
        struct buf out;

        if (!batch)
                return 0;
        arena_init(&arena, 4096, 1 << 20);
        bool good = true;
        for (size_t i = 0; i < batch_count(batch) && good; i++)
                good = batch_item(batch, i, &arena, &item, &why);
        buf_init(&out, 64 << 20);
        batch_write(batch, &out);
        struct batch *again = batch_open(buf_str(&out), &why);
        assert(again && batch_count(again) == batch_count(batch));
        batch_free(again);
        buf_clear(&out);
        arena_clear(&arena);
        batch_free(batch);
        return 0;
}
