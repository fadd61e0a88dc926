/* Any bytes as a response head: see fuzz_request_head. The first byte chooses the method. */
#include <assert.h>

#include "dagward/http/h1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct h1_response whole, dripped;

static void check_views(const char *raw, size_t len)
{
        for (size_t i = 0; i < whole.n_fields; i++) {
                const struct h1_field *field = &whole.fields[i];
                assert(field->name.ptr > raw && field->value.ptr + field->value.len <= raw + len);
                assert(h1_token_ok(field->name) && h1_value_ok(field->value));
                assert(str_eq(field->value, dripped.fields[i].value));
                (void)!h1_response_class(field);
                (void)!h1_response_connection_names(&whole, field->name);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const struct h1_limits limits = {65536, 32768, 100};
        struct h1_fault fault, drip_fault;
        size_t scanned = 0, drip_scanned = 0, len = 0;

        if (size == 0)
                return 0;
        struct str method = data[0] & 1 ? STR("GET") : STR("HEAD");
        const char *raw = (const char *)data + 1;
        size--;
        ssize_t got = h1_parse_response(raw, size, &scanned, &limits, method, &whole, &fault),
                drip = H1_AGAIN;
        while (drip == H1_AGAIN && len < size)
                drip = h1_parse_response(
                        raw, ++len, &drip_scanned, &limits, method, &dripped, &drip_fault);
        if (got == H1_AGAIN)
                assert(drip == H1_AGAIN);
        if (got == H1_BAD) {
                assert(fault.status == 502);
                assert(drip == H1_AGAIN || (drip == H1_BAD && drip_fault.offset == fault.offset &&
                                                   drip_fault.why == fault.why));
        }
        if (got <= 0)
                return 0;
        assert(drip == got && len == (size_t)got && whole.head_bytes == len);
        assert(whole.status >= 100 && whole.status <= 599 && whole.status != 101);
        assert(whole.framing == dripped.framing && whole.content_length == dripped.content_length);
        assert(whole.n_fields == dripped.n_fields && whole.status == dripped.status);
        assert(!(whole.framing == H1_UNTIL_CLOSE && whole.keep_alive));
        check_views(raw, len);
        return 0;
}
