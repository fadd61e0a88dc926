/*
 * Any bytes as a request head: what is said does not depend on how the bytes were cut, every view
 * lies inside them, and a head composed from what was read is read as the same.
 */
#include <assert.h>
#include <stdlib.h>

#include "dagward/http/h1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct h1_request whole, dripped, again;

static void inside(struct str view, const char *raw, size_t len)
{
        assert(view.len == 0 || (view.ptr >= raw && view.ptr + view.len <= raw + len));
}

static void same_request(const struct h1_request *a, const struct h1_request *b)
{
        assert(str_eq(a->method, b->method) && str_eq(a->target, b->target));
        assert(a->minor == b->minor && a->n_fields == b->n_fields && a->framing == b->framing);
        assert(a->content_length == b->content_length && a->keep_alive == b->keep_alive);
        for (size_t i = 0; i < a->n_fields; i++)
                assert(a->fields[i].id == b->fields[i].id &&
                        str_eq(a->fields[i].name, b->fields[i].name) &&
                        str_eq(a->fields[i].value, b->fields[i].value));
}

static void write_and_read(const struct h1_limits *limits)
{
        struct h1_fault fault;
        struct buf buf;
        size_t scanned = 0;

        if (whole.minor != 1 || whole.target.ptr[0] != '/')
                return;
        buf_init(&buf, 1 << 21);
        h1_write_request_line_text(&buf, whole.method, whole.target);
        for (size_t i = 0; i < whole.n_fields; i++)
                h1_write_field(&buf, whole.fields[i].name, whole.fields[i].value);
        h1_write_end(&buf);
        struct h1_limits wide = {1 << 21, limits->field_bytes + 2, limits->fields};
        assert(h1_parse_request(buf.data, buf.len, &scanned, &wide, &again, &fault) ==
                (ssize_t)buf.len);
        same_request(&whole, &again);
        buf_clear(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *raw = (const char *)data;
        struct h1_limits limits = {65536, 32768, 100};
        struct h1_fault fault, drip_fault;
        size_t scanned = 0, drip_scanned = 0, len = 0;

        if (size && data[0] == '!') { /* the same under narrow limits */
                limits = (struct h1_limits){300, 60, 6};
                raw++;
                size--;
        }
        ssize_t got = h1_parse_request(raw, size, &scanned, &limits, &whole, &fault),
                drip = H1_AGAIN;
        while (drip == H1_AGAIN && len < size)
                drip = h1_parse_request(raw, ++len, &drip_scanned, &limits, &dripped, &drip_fault);
        if (got == H1_AGAIN)
                assert(drip == H1_AGAIN);
        if (got == H1_BAD)
                assert(drip == H1_AGAIN || (drip == H1_BAD && drip_fault.offset == fault.offset &&
                                                   drip_fault.why == fault.why));
        if (got <= 0)
                return 0;
        assert(drip == got && len == (size_t)got && whole.head_bytes == len);
        same_request(&whole, &dripped);
        inside(whole.method, raw, len);
        inside(whole.target, raw, len);
        inside(whole.host, raw, len);
        for (size_t i = 0; i < whole.n_fields; i++) {
                inside(whole.fields[i].name, raw, len);
                inside(whole.fields[i].value, raw, len);
                assert(h1_token_ok(whole.fields[i].name) && h1_value_ok(whole.fields[i].value));
                (void)!h1_request_class(&whole.fields[i]);
                (void)!h1_connection_names(&whole, whole.fields[i].name);
        }
        write_and_read(&limits);
        return 0;
}
