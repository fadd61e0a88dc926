#include "dagward/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *buf, size_t ceiling)
{
        *buf = (struct buf){.ceiling = ceiling};
}

void buf_init_fixed(struct buf *buf, void *memory, size_t cap)
{
        *buf = (struct buf){.data = memory, .cap = cap};
}

void buf_clear(struct buf *buf)
{
        if (buf->ceiling) {
                free(buf->data);
                buf->data = NULL;
                buf->cap = 0;
        }
        buf_reset(buf);
}

bool buf_reserve(struct buf *buf, size_t bytes)
{
        if (buf->overflow)
                return false;
        if (bytes <= buf->cap - buf->len)
                return true;
        if (buf->ceiling < buf->len || bytes > buf->ceiling - buf->len) {
                buf->overflow = true;
                return false;
        }
        size_t cap = buf->cap ? buf->cap : 256;
        while (cap < buf->len + bytes)
                cap *= 2;
        if (cap > buf->ceiling)
                cap = buf->ceiling;
        char *data = realloc(buf->data, cap);
        if (!data)
                abort();
        buf->data = data;
        buf->cap = cap;
        return true;
}

void buf_u64(struct buf *buf, uint64_t value)
{
        char digits[20];
        size_t at = sizeof(digits);

        do {
                digits[--at] = (char)('0' + value % 10);
                value /= 10;
        } while (value);
        buf_add(buf, digits + at, sizeof(digits) - at);
}

void buf_i64(struct buf *buf, int64_t value)
{
        if (value < 0)
                buf_char(buf, '-');
        buf_u64(buf, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void buf_hex(struct buf *buf, const void *bytes, size_t len)
{
        static const char digits[] = "0123456789abcdef";
        const unsigned char *p = bytes;

        if (!buf_reserve(buf, len * 2))
                return;
        for (size_t i = 0; i < len; i++) {
                buf->data[buf->len++] = digits[p[i] >> 4];
                buf->data[buf->len++] = digits[p[i] & 15];
        }
}

void buf_vprintf(struct buf *buf, const char *format, va_list args)
{
        char small[512];
        va_list again;

        va_copy(again, args);
        int len = vsnprintf(small, sizeof(small), format, args);
        if (len >= 0 && (size_t)len < sizeof(small)) {
                buf_add(buf, small, (size_t)len);
        } else if (len >= 0) {
                char *text = malloc((size_t)len + 1);
                if (!text)
                        abort();
                vsnprintf(text, (size_t)len + 1, format, again);
                buf_add(buf, text, (size_t)len);
                free(text);
        }
        va_end(again);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        buf_vprintf(buf, format, args);
        va_end(args);
}

/* Length of a valid UTF-8 sequence at p, 0 if there is none. */
static size_t sequence_at(const char *p, size_t left)
{
        for (size_t n = 2; n <= 4 && n <= left; n++)
                if (str_utf8_valid(str_view(p, n)))
                        return n;
        return 0;
}

/* One character that may not stand in a JSON string as it is. */
static void json_escape(struct buf *buf, unsigned char c)
{
        switch (c) {
        case '"': BUF_LITERAL(buf, "\\\""); break;
        case '\\': BUF_LITERAL(buf, "\\\\"); break;
        case '\n': BUF_LITERAL(buf, "\\n"); break;
        case '\r': BUF_LITERAL(buf, "\\r"); break;
        case '\t': BUF_LITERAL(buf, "\\t"); break;
        default: buf_printf(buf, "\\u%04x", c); break;
        }
}

/* The character at `i`; beyond U+FFFF as two surrogates (RFC 8259 7). */
static void json_escape_point(struct buf *buf, struct str s, size_t i)
{
        uint32_t point = str_code_point(s, &i);

        if (point > 0xFFFF)
                buf_printf(buf, "\\u%04x\\u%04x", 0xD800 + ((point - 0x10000) >> 10),
                        0xDC00 + (point & 0x3FF));
        else
                buf_printf(buf, "\\u%04x", point);
}

void buf_json_str(struct buf *buf, struct str s)
{
        size_t plain = 0, i = 0; /* bytes plain..i stand as they are */

        buf_char(buf, '"');
        while (i < s.len) {
                unsigned char c = (unsigned char)s.ptr[i];
                if (c >= 0x20 && c < 0x7F && c != '"' && c != '\\') {
                        i++;
                        continue;
                }
                size_t n = c >= 0x80 ? sequence_at(s.ptr + i, s.len - i) : 0;
                bool unseen = n && str_invisible_at(s, i);
                if (n && !unseen) {
                        i += n;
                        continue;
                }
                buf_add(buf, s.ptr + plain, i - plain);
                if (unseen)
                        json_escape_point(buf, s, i);
                else if (c >= 0x80)
                        BUF_LITERAL(buf, "\xEF\xBF\xBD");
                else
                        json_escape(buf, c);
                i += n ? n : 1;
                plain = i;
        }
        if (i > plain)
                buf_add(buf, s.ptr + plain, i - plain);
        buf_char(buf, '"');
}
