/*
 * Any bytes as a chunked body: cut by the first byte, read one by one, or at once, they come to the
 * same payload, end and fault; and the payload framed anew is read as itself.
 */
#include <assert.h>
#include <stdlib.h>

#include "dagward/base/buf.h"
#include "dagward/http/h1_body.h"
#include "dagward/http/h1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
        struct buf payload;
        size_t used;
        bool done, bad;
        struct h1_fault fault;
};

static void read_body(const char *raw, size_t size, size_t step, struct outcome *outcome)
{
        struct h1_body body;

        *outcome = (struct outcome){.used = 0};
        buf_init(&outcome->payload, size + 1);
        h1_body_init(&body, H1_CHUNKED, 0);
        while (outcome->used < size && !body.done) {
                struct str payload;
                size_t len = size - outcome->used < step ? size - outcome->used : step;
                ssize_t got =
                        h1_body_next(&body, raw + outcome->used, len, &payload, &outcome->fault);
                if (got == H1_BAD) {
                        outcome->bad = true;
                        break;
                }
                assert(got > 0 && (size_t)got <= len);
                assert(payload.ptr >= raw && payload.ptr + payload.len <= raw + size);
                buf_str_add(&outcome->payload, payload);
                outcome->used += (size_t)got;
        }
        assert(body.payload_bytes == outcome->payload.len && !outcome->payload.overflow);
        outcome->done = body.done;
}

static void same(const struct outcome *a, const struct outcome *b)
{
        assert(a->done == b->done && a->bad == b->bad && a->payload.len == b->payload.len);
        assert(a->payload.len == 0 ||
                memcmp(a->payload.data, b->payload.data, a->payload.len) == 0);
        if (a->bad)
                assert(a->fault.offset == b->fault.offset && a->fault.why == b->fault.why);
        else
                assert(a->used == b->used);
}

static void write_and_read(const struct outcome *whole)
{
        struct outcome again;
        struct buf buf;
        char head[20];

        buf_init(&buf, whole->payload.len + 64);
        if (whole->payload.len) {
                buf_add(&buf, head, h1_chunk_head(head, whole->payload.len));
                buf_add(&buf, whole->payload.data, whole->payload.len);
                BUF_LITERAL(&buf, H1_CHUNK_TAIL);
        }
        BUF_LITERAL(&buf, H1_CHUNK_LAST);
        read_body(buf.data, buf.len, 5, &again);
        assert(again.done && again.used == buf.len && again.payload.len == whole->payload.len);
        buf_clear(&again.payload);
        buf_clear(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct outcome whole, bytes, cut;

        if (size < 2)
                return 0;
        const char *raw = (const char *)data + 1;
        read_body(raw, size - 1, size, &whole);
        read_body(raw, size - 1, 1, &bytes);
        read_body(raw, size - 1, (size_t)data[0] + 1, &cut);
        same(&whole, &bytes);
        same(&whole, &cut);
        if (whole.done)
                write_and_read(&whole);
        buf_clear(&whole.payload);
        buf_clear(&bytes.payload);
        buf_clear(&cut.payload);
        return 0;
}
