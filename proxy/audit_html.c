#include "audit_html.h"

#include <stdio.h>

#include "audit_html_assets.h"
#include "dagward/audit/chain.h"
#include "dagward/base/clock.h"
#include "dagward/token/base64.h"

/* The code point at `*p`, which moves behind it; 0xFFFD for a byte that is none. */
static unsigned next_code(const char **p, const char *end)
{
        for (size_t n = 1; n <= 4 && n <= (size_t)(end - *p); n++) {
                const unsigned char *u = (const unsigned char *)*p;
                if (!str_utf8_valid(str_view(*p, n)))
                        continue;
                *p += n;
                switch (n) {
                case 1: return u[0];
                case 2: return (u[0] & 0x1Fu) << 6 | (u[1] & 0x3Fu);
                case 3: return (u[0] & 0xFu) << 12 | (u[1] & 0x3Fu) << 6 | (u[2] & 0x3Fu);
                default:
                        return (u[0] & 7u) << 18 | (u[1] & 0x3Fu) << 12 | (u[2] & 0x3Fu) << 6 |
                               (u[3] & 0x3Fu);
                }
        }
        ++*p;
        return 0xFFFD;
}

/* Controls, directions, joiners and blanks of no width, tags: what hides or moves other text. */
static bool is_hidden(unsigned code)
{
        return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0xAD || code == 0x61C ||
               code == 0x180E || (code >= 0x200B && code <= 0x200F) ||
               (code >= 0x2028 && code <= 0x202E) || (code >= 0x2060 && code <= 0x206F) ||
               code == 0xFEFF || (code >= 0xFFF9 && code <= 0xFFFB) ||
               (code >= 0xE0000 && code <= 0xE0FFF);
}

void html_text(struct buf *out, struct str text)
{
        const char *p = text.ptr, *end = text.ptr + text.len;

        while (p < end) {
                const char *begin = p;
                unsigned code = next_code(&p, end);
                if (is_hidden(code))
                        buf_printf(out, "[U+%04X]", code);
                else if (code == '&')
                        HTML(out, "&amp;");
                else if (code == '<')
                        HTML(out, "&lt;");
                else if (code == '>')
                        HTML(out, "&gt;");
                else if (code == '"')
                        HTML(out, "&quot;");
                else if (code == '\'')
                        HTML(out, "&#39;");
                else if (code == '`')
                        HTML(out, "&#96;");
                else if (code == 0xFFFD)
                        HTML(out, "\xEF\xBF\xBD");
                else
                        buf_add(out, begin, (size_t)(p - begin));
        }
}

void html_count(struct buf *out, uint64_t value)
{
        char digits[24];
        int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);

        for (int i = 0; i < n; i++) {
                if (i && (n - i) % 3 == 0)
                        HTML(out, "\xE2\x80\xAF"); /* a narrow blank that does not break */
                buf_char(out, digits[i]);
        }
}

void html_number(struct buf *out, double value)
{
        char text[40];
        int n = snprintf(text, sizeof(text), "%.2f", value);

        while (n && text[n - 1] == '0')
                n--;
        if (n && text[n - 1] == '.')
                n--;
        buf_add(out, text, (size_t)n);
}

void html_time(struct buf *out, int64_t wall_ms)
{
        char text[CLOCK_RFC3339_LEN + 1];

        clock_rfc3339(wall_ms, text);
        HTML(out, "<time datetime=\"");
        html_text(out, str_of(text));
        HTML(out, "\">");
        html_text(out, str_view(text, 10));
        HTML(out, " ");
        html_text(out, str_view(text + 11, 8));
        HTML(out, "</time>");
}

/* 'sha256-<base64>' of what stands between the tags (CSP 3, 2.3.1; base64url is as good). */
static void digest(struct buf *out, struct str bytes)
{
        struct chain *chain = chain_new();
        char hex[CHAIN_HEX + 1];
        unsigned char raw[CHAIN_HEX / 2];

        chain_digest(chain, bytes, hex);
        chain_free(chain);
        for (size_t i = 0; i < sizeof(raw); i++) {
                unsigned high = (unsigned char)hex[2 * i], low = (unsigned char)hex[2 * i + 1];
                high = high <= '9' ? high - '0' : high - 'a' + 10;
                low = low <= '9' ? low - '0' : low - 'a' + 10;
                raw[i] = (unsigned char)(high << 4 | low);
        }
        HTML(out, "'sha256-");
        base64url_write(out, raw, sizeof(raw));
        HTML(out, "='");
}

void html_begin(struct buf *out, struct str title)
{
        HTML(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                  "style-src ");
        digest(out, STR(STYLE));
        HTML(out, "; script-src ");
        digest(out, STR(SCRIPT));
        HTML(out, "; base-uri 'none'; form-action 'none'\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta name=\"color-scheme\" content=\"light dark\">\n"
                  "<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
        html_text(out, title);
        HTML(out, "</title>\n<style>" STYLE "</style>\n</head>\n<body>\n"
                  "<a class=\"skip\" href=\"#main\">Skip to the content</a>\n");
}

void html_end(struct buf *out)
{
        HTML(out, "<script>" SCRIPT "</script>\n</body>\n</html>\n");
}

void html_table_begin(
        struct buf *out, struct str caption, const struct html_column *columns, size_t n)
{
        HTML(out, "<div class=\"scroll\"><table><caption>");
        html_text(out, caption);
        HTML(out, "</caption>\n<thead><tr>");
        for (size_t i = 0; i < n; i++) {
                if (columns[i].number)
                        HTML(out, "<th scope=\"col\" class=\"n\">");
                else
                        HTML(out, "<th scope=\"col\">");
                html_text(out, str_of(columns[i].label));
                HTML(out, "</th>");
        }
        HTML(out, "</tr></thead>\n<tbody>\n");
}

void html_table_end(struct buf *out)
{
        HTML(out, "</tbody></table></div>\n");
}

void html_cell_begin(struct buf *out, const struct html_column *column)
{
        if (column->number)
                HTML(out, "<td class=\"n\" data-label=\"");
        else
                HTML(out, "<td data-label=\"");
        html_text(out, str_of(column->label));
        HTML(out, "\">");
}

void html_cell_end(struct buf *out)
{
        HTML(out, "</td>");
}

void html_cell_text(struct buf *out, const struct html_column *column, struct str text)
{
        html_cell_begin(out, column);
        HTML(out, "<span>");
        html_text(out, text);
        HTML(out, "</span>");
        html_cell_end(out);
}

void html_cell_code(struct buf *out, const struct html_column *column, struct str text)
{
        html_cell_begin(out, column);
        if (text.len) {
                HTML(out, "<code>");
                html_text(out, text);
                HTML(out, "</code>");
        } else {
                HTML(out, "<span class=\"none\">\xE2\x80\x94</span>");
        }
        html_cell_end(out);
}

void html_cell_count(struct buf *out, const struct html_column *column, uint64_t value)
{
        html_cell_begin(out, column);
        if (value)
                HTML(out, "<span>");
        else
                HTML(out, "<span class=\"none\">");
        html_count(out, value);
        HTML(out, "</span>");
        html_cell_end(out);
}

void html_cell_time(struct buf *out, const struct html_column *column, int64_t wall_ms)
{
        html_cell_begin(out, column);
        html_time(out, wall_ms);
        html_cell_end(out);
}
