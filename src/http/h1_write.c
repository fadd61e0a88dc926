#include "dagward/http/h1_write.h"

#include <assert.h>

#include "bytes.h"

bool h1_value_ok(struct str value)
{
        const char *end = value.ptr + value.len;

        if (value.len == 0)
                return true;
        return bytes_find_control(value.ptr, end) == end && !byte_blank(value.ptr[0]) &&
               !byte_blank(end[-1]);
}

bool h1_token_ok(struct str name)
{
        for (size_t i = 0; i < name.len; i++)
                if (!byte_is(name.ptr[i], BYTE_TOKEN))
                        return false;
        return name.len > 0;
}

static bool target_text_ok(struct str target)
{
        for (size_t i = 0; i < target.len; i++)
                if (!byte_is(target.ptr[i], BYTE_TARGET))
                        return false;
        return target.len > 0 && target.ptr[0] == '/';
}

void h1_write_request_line(struct buf *buf, struct str method, const struct target *target)
{
        assert(h1_token_ok(method));
        buf_str_add(buf, method);
        buf_char(buf, ' ');
        target_write(target, buf);
        BUF_LITERAL(buf, " HTTP/1.1\r\n");
}

void h1_write_request_line_text(struct buf *buf, struct str method, struct str target)
{
        assert(h1_token_ok(method) && target_text_ok(target));
        buf_str_add(buf, method);
        buf_char(buf, ' ');
        buf_str_add(buf, target);
        BUF_LITERAL(buf, " HTTP/1.1\r\n");
}

void h1_write_status_line(struct buf *buf, int status, struct str reason)
{
        assert(status >= 100 && status <= 599);
        BUF_LITERAL(buf, "HTTP/1.1 ");
        buf_u64(buf, (uint64_t)status);
        buf_char(buf, ' ');
        if (str_empty(reason))
                reason = str_of(h1_reason(status));
        for (size_t i = 0; i < reason.len; i++)
                if (!byte_is(reason.ptr[i], BYTE_CONTROL))
                        buf_char(buf, reason.ptr[i]);
        BUF_LITERAL(buf, "\r\n");
}

void h1_write_field(struct buf *buf, struct str name, struct str value)
{
        assert(h1_token_ok(name) && h1_value_ok(value));
        /* Room is asked for once: a head is mostly this. */
        size_t len = name.len + value.len + 4;
        if (!buf_reserve(buf, len))
                return;
        char *to = buf->data + buf->len;
        memcpy(to, name.ptr, name.len);
        memcpy(to + name.len, ": ", 2);
        if (value.len)
                memcpy(to + name.len + 2, value.ptr, value.len);
        memcpy(to + len - 2, "\r\n", 2);
        buf->len += len;
}

void h1_write_field_u64(struct buf *buf, struct str name, uint64_t value)
{
        assert(h1_token_ok(name));
        buf_str_add(buf, name);
        BUF_LITERAL(buf, ": ");
        buf_u64(buf, value);
        BUF_LITERAL(buf, "\r\n");
}

void h1_write_framing(struct buf *buf, enum h1_framing framing, uint64_t length)
{
        switch (framing) {
        case H1_LENGTH: h1_write_field_u64(buf, STR("Content-Length"), length); break;
        case H1_CHUNKED: BUF_LITERAL(buf, "Transfer-Encoding: chunked\r\n"); break;
        case H1_NO_BODY:
        case H1_UNTIL_CLOSE: break;
        }
}

void h1_write_end(struct buf *buf)
{
        BUF_LITERAL(buf, "\r\n");
}

size_t h1_chunk_head(char out[20], size_t payload_len)
{
        static const char hex[] = "0123456789abcdef";
        size_t n = 0;

        assert(payload_len > 0);
        for (int shift = 60; shift >= 0; shift -= 4) {
                unsigned digit = (unsigned)((uint64_t)payload_len >> shift) & 15u;
                if (digit || n)
                        out[n++] = hex[digit];
        }
        out[n++] = '\r';
        out[n++] = '\n';
        return n;
}

const char *h1_reason(int status)
{
        static const struct {
                int status;
                const char *text;
        } reasons[] = {{100, "Continue"}, {101, "Switching Protocols"}, {103, "Early Hints"},
                {200, "OK"}, {201, "Created"}, {202, "Accepted"},
                {203, "Non-Authoritative Information"}, {204, "No Content"}, {205, "Reset Content"},
                {206, "Partial Content"}, {207, "Multi-Status"}, {300, "Multiple Choices"},
                {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"},
                {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"},
                {400, "Bad Request"}, {401, "Unauthorized"}, {402, "Payment Required"},
                {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
                {406, "Not Acceptable"}, {407, "Proxy Authentication Required"},
                {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
                {411, "Length Required"}, {412, "Precondition Failed"}, {413, "Content Too Large"},
                {414, "URI Too Long"}, {415, "Unsupported Media Type"},
                {416, "Range Not Satisfiable"}, {417, "Expectation Failed"},
                {421, "Misdirected Request"}, {422, "Unprocessable Content"}, {423, "Locked"},
                {424, "Failed Dependency"}, {425, "Too Early"}, {426, "Upgrade Required"},
                {428, "Precondition Required"}, {429, "Too Many Requests"},
                {431, "Request Header Fields Too Large"}, {451, "Unavailable For Legal Reasons"},
                {500, "Internal Server Error"}, {501, "Not Implemented"}, {502, "Bad Gateway"},
                {503, "Service Unavailable"}, {504, "Gateway Timeout"},
                {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"},
                {511, "Network Authentication Required"}};

        for (size_t i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
                if (reasons[i].status == status)
                        return reasons[i].text;
        return "Unknown";
}
