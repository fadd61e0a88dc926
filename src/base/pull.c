#include "dagward/base/pull.h"

#include "dagward/base/block.h"

/* Four hexadecimal digits. */
static bool take_hex(struct pull *r, unsigned *out)
{
        unsigned value = 0;

        if (r->end - r->p < 4)
                return false;
        for (int i = 0; i < 4; i++) {
                char c = char_lower(*r->p++);
                if (c >= '0' && c <= '9')
                        value = value * 16 + (unsigned)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        value = value * 16 + (unsigned)(c - 'a' + 10);
                else
                        return false;
        }
        *out = value;
        return true;
}

static char *put_utf8(char *to, unsigned code)
{
        if (code < 0x80) {
                *to++ = (char)code;
        } else if (code < 0x800) {
                *to++ = (char)(0xC0 | code >> 6);
                *to++ = (char)(0x80 | (code & 0x3F));
        } else if (code < 0x10000) {
                *to++ = (char)(0xE0 | code >> 12);
                *to++ = (char)(0x80 | (code >> 6 & 0x3F));
                *to++ = (char)(0x80 | (code & 0x3F));
        } else {
                *to++ = (char)(0xF0 | code >> 18);
                *to++ = (char)(0x80 | (code >> 12 & 0x3F));
                *to++ = (char)(0x80 | (code >> 6 & 0x3F));
                *to++ = (char)(0x80 | (code & 0x3F));
        }
        return to;
}

/* Behind the backslash; what comes out is never longer than what stands there. */
static char *unescape(struct pull *r, char *to)
{
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        unsigned code, low;

        if (r->p == r->end)
                return NULL;
        char c = *r->p++;
        const char *found = c ? strchr(names, c) : NULL;
        if (found) {
                *to++ = values[found - names];
                return to;
        }
        if (c != 'u' || !take_hex(r, &code) || (code >= 0xDC00 && code < 0xE000))
                return NULL;
        if (code >= 0xD800 && code < 0xDC00) {
                if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
                        return NULL;
                r->p += 2;
                if (!take_hex(r, &low) || low < 0xDC00 || low >= 0xE000)
                        return NULL;
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        return put_utf8(to, code);
}

/* From the first backslash on; `begin` is behind the opening quote, r->p at the backslash. */
static bool take_escaped(struct pull *r, const char *begin, struct str *out)
{
        const char *close = r->p;

        while (close < r->end && *close != '"')
                close += *close == '\\' && r->end - close > 1 ? 2 : 1;
        if (close == r->end)
                return false;
        char *copy = arena_alloc(r->arena, (size_t)(close - begin) + 1), *to = copy;
        if (!copy)
                return false;
        memcpy(copy, begin, (size_t)(r->p - begin));
        to += r->p - begin;
        while (r->p < close) {
                if ((unsigned char)*r->p < 0x20)
                        return false;
                if (*r->p != '\\') {
                        *to++ = *r->p++;
                        continue;
                }
                r->p++;
                if (!(to = unescape(r, to)))
                        return false;
        }
        r->p = close + 1;
        *out = str_view(copy, (size_t)(to - copy));
        return true;
}

/* The first quote, backslash, control or byte beyond ASCII from `p` on; `end`: there is none. */
static const char *find_special(const char *p, const char *end)
{
        for (; end - p >= BLOCK_BYTES; p += BLOCK_BYTES) {
                block b = block_load(p);
                size_t at =
                        block_first((block)((b == '"') | (b == '\\') | (b < 0x20) | (b > 0x7F)));
                if (at < BLOCK_BYTES)
                        return p + at;
        }
        while (p < end && *p != '"' && *p != '\\' && (unsigned char)*p >= 0x20 &&
                (unsigned char)*p < 0x80)
                p++;
        return p;
}

bool pull_text(struct pull *r, struct str *out)
{
        bool ascii = true;

        if (!pull_char(r, '"'))
                return false;
        const char *begin = r->p, *p = find_special(begin, r->end);
        while (p < r->end && (unsigned char)*p >= 0x80) {
                ascii = false;
                while (p < r->end && (unsigned char)*p >= 0x80)
                        p++;
                p = find_special(p, r->end);
        }
        r->p = p;
        if (p == r->end || (unsigned char)*p < 0x20)
                return false;
        if (*p == '\\')
                return take_escaped(r, begin, out) && str_utf8_valid(*out);
        *out = str_view(begin, (size_t)(p - begin));
        r->p++;
        return ascii || str_utf8_valid(*out);
}

bool pull_name(struct pull *r, struct str name)
{
        const char *p = r->p;

        if ((size_t)(r->end - p) < name.len + 3 || p[0] != '"' || p[name.len + 1] != '"' ||
                p[name.len + 2] != ':' || memcmp(p + 1, name.ptr, name.len) != 0)
                return false;
        r->p += name.len + 3;
        return true;
}

bool pull_number(struct pull *r, struct str *out)
{
        pull_blanks(r);
        const char *begin = r->p;
        while (r->p < r->end && *r->p && strchr("+-.0123456789Ee", *r->p))
                r->p++;
        *out = str_view(begin, (size_t)(r->p - begin));
        return out->len > 0;
}

bool pull_literal(struct pull *r)
{
        static const struct str literals[] = {{"true", 4}, {"false", 5}, {"null", 4}};

        for (size_t i = 0; i < 3; i++)
                if (str_starts(str_view(r->p, (size_t)(r->end - r->p)), literals[i])) {
                        r->p += literals[i].len;
                        return true;
                }
        return false;
}

bool pull_skip(struct pull *r)
{
        char closing[PULL_MOST_DEPTH];
        unsigned depth = 0;
        struct str ignored;

        for (;;) {
                pull_blanks(r);
                char c = r->p < r->end ? *r->p : '\0';
                if (c == '{' || c == '[') {
                        if (depth == PULL_MOST_DEPTH)
                                return false;
                        closing[depth++] = c == '{' ? '}' : ']';
                        r->p++;
                        if (pull_char(r, closing[depth - 1]))
                                depth--;
                        else if (c == '[' || (pull_text(r, &ignored) && pull_char(r, ':')))
                                continue; /* its first value */
                        else
                                return false;
                } else if (c == '"' ? !pull_text(r, &ignored)
                                    : !pull_literal(r) && !pull_number(r, &ignored)) {
                        return false;
                }
                /* A value is over: so may be what it stands in. */
                while (depth && pull_char(r, closing[depth - 1]))
                        depth--;
                if (!depth)
                        return true;
                if (!pull_char(r, ',') || (closing[depth - 1] == '}' &&
                                                  !(pull_text(r, &ignored) && pull_char(r, ':'))))
                        return false;
        }
}
