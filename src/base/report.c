#include "dagward/base/report.h"

bool report_format_named(struct str name, enum report_format *out)
{
        static const struct str names[] = {{"text", 4}, {"markdown", 8}, {"json", 4}};

        for (unsigned i = 0; i < 3; i++) {
                if (!str_eq(name, names[i]))
                        continue;
                *out = (enum report_format)i;
                return true;
        }
        return false;
}

static void name_of(struct buf *out, const char *name)
{
        if (out->len && out->data[out->len - 1] != '{')
                buf_char(out, ',');
        buf_json_str(out, str_of(name));
        buf_char(out, ':');
}

void report_member(struct buf *out, const char *name, struct str value)
{
        name_of(out, name);
        buf_json_str(out, value);
}

void report_count(struct buf *out, const char *name, uint64_t value)
{
        name_of(out, name);
        buf_u64(out, value);
}

void report_flag(struct buf *out, const char *name, bool value)
{
        name_of(out, name);
        buf_str_add(out, value ? STR("true") : STR("false"));
}

void report_object(struct buf *out)
{
        if (out->len && out->data[out->len - 1] == '}')
                buf_char(out, ',');
        BUF_LITERAL(out, "\n{");
}

void report_cell(struct buf *out, struct str text)
{
        bool code = str_find(text, '`') < 0;

        if (!text.len)
                return;
        if (code)
                buf_char(out, '`');
        for (size_t i = 0; i < text.len; i++) {
                char c = text.ptr[i];
                if (c == '|')
                        BUF_LITERAL(out, "\\|");
                else if ((unsigned char)c < 0x20 || c == 0x7F)
                        buf_char(out, ' ');
                else if (!code && (c == '<' || c == '&'))
                        buf_str_add(out, c == '<' ? STR("&lt;") : STR("&amp;"));
                else if (!code && strchr("\\`*_[]!#~", c))
                        buf_printf(out, "\\%c", c);
                else
                        buf_char(out, c);
        }
        if (code)
                buf_char(out, '`');
}

void report_row(struct buf *out, const struct str *cells, size_t n)
{
        BUF_LITERAL(out, "|");
        for (size_t i = 0; i < n; i++) {
                buf_char(out, ' ');
                report_cell(out, cells[i]);
                BUF_LITERAL(out, " |");
        }
        buf_char(out, '\n');
}

void report_heading(struct buf *out, const char *const *headings, size_t n)
{
        BUF_LITERAL(out, "|");
        for (size_t i = 0; i < n; i++)
                buf_printf(out, " %s |", headings[i]);
        BUF_LITERAL(out, "\n|");
        for (size_t i = 0; i < n; i++)
                BUF_LITERAL(out, "---|");
        buf_char(out, '\n');
}

/* U+0080..U+009F, U+061C, U+200E, U+200F, U+2028..U+202E, U+2066..U+2069: controls, and what turns
 * the direction of a line around. The text is valid UTF-8. */
static size_t unsafe_sequence(const unsigned char *p, size_t left)
{
        if (*p < 0x20 || *p == 0x7F)
                return 1;
        if (left >= 2 && ((p[0] == 0xC2 && p[1] < 0xA0) || (p[0] == 0xD8 && p[1] == 0x9C)))
                return 2;
        if (left >= 3 && p[0] == 0xE2 &&
                ((p[1] == 0x80 &&
                         (p[2] == 0x8E || p[2] == 0x8F || (p[2] >= 0xA8 && p[2] <= 0xAE))) ||
                        (p[1] == 0x81 && p[2] >= 0xA6 && p[2] <= 0xA9)))
                return 3;
        return 0;
}

void report_text(struct buf *out, struct str text)
{
        for (size_t i = 0; i < text.len;) {
                size_t n = unsafe_sequence((const unsigned char *)text.ptr + i, text.len - i);
                if (n == 0) {
                        buf_char(out, text.ptr[i++]);
                        continue;
                }
                for (; n; n--, i++)
                        buf_printf(out, "\\x%02x", (unsigned char)text.ptr[i]);
        }
}

void report_quoted(struct buf *out, struct str text)
{
        buf_char(out, '"');
        for (size_t i = 0; i < text.len;) {
                const unsigned char *p = (const unsigned char *)text.ptr + i;
                size_t n = unsafe_sequence(p, text.len - i);
                unsigned code = n == 3 ? (p[0] & 0xFu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu)
                                : n == 2 ? (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu)
                                         : *p;
                if (n)
                        buf_printf(out, "\\u%04x", code);
                else if (*p == '"' || *p == '\\')
                        buf_printf(out, "\\%c", *p);
                else
                        buf_char(out, (char)*p);
                i += n ? n : 1;
        }
        buf_char(out, '"');
}
