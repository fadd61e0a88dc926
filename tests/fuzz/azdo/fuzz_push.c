/* Commands of a push: every ref that is read is one that git allows, and more bytes behind the
 * flush change nothing. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "dagward/azdo/push.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str body = str_view((const char *)data, size);
        struct arena arena;
        struct push push;
        struct buf out;
        const char *why = NULL;
        const char *reasons[PUSH_REFS_MOST];

        arena_init(&arena, 4096, 1 << 20);
        if (push_read(body, &arena, &push, &why) == PUSH_READ) {
                for (size_t i = 0; i < push.n; i++) {
                        assert(str_starts(push.refs[i], STR("refs/")));
                        assert(str_find_str(push.refs[i], STR("..")) < 0);
                        reasons[i] = "no";
                }
                buf_init(&out, 1 << 20);
                push_refusal_write(&push, reasons, &out);
                assert(push.report_status == (out.len > 0) && !out.overflow);
                buf_clear(&out);
        }
        arena_clear(&arena);
        return 0;
}
