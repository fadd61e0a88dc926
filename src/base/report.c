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

/* Controls, and what is not seen or turns the direction of a line around: how many bytes it has; 0:
 * none of these. The text is valid UTF-8. */
static size_t unsafe_sequence(struct str text, size_t i)
{
        unsigned char c = (unsigned char)text.ptr[i];

        return c < 0x20 || c == 0x7F ? 1 : str_invisible_at(text, i);
}

/* In a code span a backslash before the `|` that has to be escaped would be one escape with the
 * next, and a backtick would end it: then as HTML, with nothing in it that could be a link, a
 * mention or markup. */
static bool breaks_code(struct str text)
{
        for (size_t i = 0; i < text.len; i++)
                if (text.ptr[i] == '`' ||
                        (text.ptr[i] == '\\' && i + 1 < text.len && text.ptr[i + 1] == '|'))
                        return true;
        return false;
}

static bool is_plain(char c)
{
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == ' ' || c == '-' || (unsigned char)c >= 0x80;
}

void report_cell(struct buf *out, struct str text)
{
        bool code = !breaks_code(text);

        if (!text.len)
                return;
        buf_str_add(out, code ? STR("`") : STR("<code>"));
        for (size_t i = 0; i < text.len; i++) {
                size_t n = unsafe_sequence(text, i);
                char c = text.ptr[i];
                if (n) {
                        buf_char(out, n == 1 ? ' ' : '?');
                        i += n - 1;
                } else if (code && c == '|') {
                        BUF_LITERAL(out, "\\|");
                } else if (code || is_plain(c)) {
                        buf_char(out, c);
                } else {
                        buf_printf(out, "&#%d;", c);
                }
        }
        buf_str_add(out, code ? STR("`") : STR("</code>"));
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

void report_text(struct buf *out, struct str text)
{
        for (size_t i = 0; i < text.len;) {
                size_t n = unsafe_sequence(text, i);
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
                char c = text.ptr[i];
                size_t n = unsafe_sequence(text, i);
                if (n) {
                        unsigned code = str_code_point(text, &i);
                        buf_printf(out, n == 4 ? "\\U%08x" : "\\u%04x", code);
                        continue;
                }
                if (c == '"' || c == '\\')
                        buf_char(out, '\\');
                buf_char(out, c);
                i++;
        }
        buf_char(out, '"');
}
