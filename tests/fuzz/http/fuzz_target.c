/* Any bytes as a target: what is accepted has one written form, which reads back as the same. */
#include <assert.h>

#include "dagward/http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_segment(struct str segment)
{
        assert(segment.len && str_utf8_valid(segment));
        for (size_t i = 0; i < segment.len; i++)
                assert((unsigned char)segment.ptr[i] >= 0x20 &&
                        !memchr("<>*%&:\\?#;\x7f", segment.ptr[i], 11));
        assert(segment.ptr[segment.len - 1] != '.' && segment.ptr[segment.len - 1] != ' ');
        assert(segment.ptr[0] != '/' && segment.ptr[segment.len - 1] != '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct target target, again;
        struct arena arena;
        struct buf buf;
        struct h1_fault fault;

        arena_init(&arena, 16384, 1 << 22);
        buf_init(&buf, 1 << 22);
        if (target_parse(str_view((const char *)data, size), STR("h"), &arena, &target, &fault)) {
                target_write(&target, &buf);
                assert(!buf.overflow && buf.len && buf.data[0] == '/');
                for (size_t i = 0; i < buf.len; i++)
                        assert(buf.data[i] > 0x20 && buf.data[i] < 0x7F);
                assert(target_parse(buf_str(&buf), STR(""), &arena, &again, &fault));
                assert(target.n_segments == again.n_segments && target.n_query == again.n_query);
                assert(target.encoded_slash == again.encoded_slash);
                for (size_t i = 0; i < target.n_segments; i++) {
                        check_segment(target.segments[i]);
                        assert(str_eq(target.segments[i], again.segments[i]));
                }
                for (size_t i = 0; i < target.n_query; i++)
                        assert(str_eq(target.query[i].name, again.query[i].name) &&
                                str_eq(target.query[i].value, again.query[i].value));
        } else {
                assert(fault.why && fault.offset <= size);
        }
        buf_clear(&buf);
        arena_clear(&arena);
        return 0;
}
