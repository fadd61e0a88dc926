/*
 * audit_html: an HTML page that holds what others wrote.
 *
 * There are two ways to write: HTML() for literals of ours, and html_text() for everything else.
 * Neither takes what the other is for, so nothing that comes from a record can be markup.
 */
#ifndef DAGWARD_PROXY_AUDIT_HTML_H
#define DAGWARD_PROXY_AUDIT_HTML_H

#include "dagward/base/buf.h"

/* Markup; only a literal compiles. */
#define HTML(out, literal) BUF_LITERAL(out, literal)
/* Text, in an element or in a quoted attribute. Controls and what turns the direction of a line
 * around (Unicode 15.0, UAX 9) are shown by their number; bytes that are not UTF-8 as U+FFFD. */
void html_text(struct buf *out, struct str text);
void html_count(struct buf *out, uint64_t value); /* 12 345 */
/* A number for an attribute, with at most two places. */
void html_number(struct buf *out, double value);
/* 2026-11-23 09:12:33 in a <time>. */
void html_time(struct buf *out, int64_t wall_ms);

/* A whole document up to <main>, with its style, script and a content security policy that allows
 * these two by their digests and nothing else: no request can leave the page. */
void html_begin(struct buf *out, struct str title);
/* From </main> on. */
void html_end(struct buf *out);

struct html_column {
        const char *label;
        bool number;
};
/* A table whose columns the reader's browser can sort; on a narrow screen each row is a card. */
void html_table_begin(
        struct buf *out, struct str caption, const struct html_column *columns, size_t n);
void html_cell_begin(struct buf *out, const struct html_column *column);
void html_cell_end(struct buf *out);
void html_cell_text(struct buf *out, const struct html_column *column, struct str text);
void html_cell_code(struct buf *out, const struct html_column *column, struct str text);
void html_cell_count(struct buf *out, const struct html_column *column, uint64_t value);
void html_cell_time(struct buf *out, const struct html_column *column, int64_t wall_ms);
void html_table_end(struct buf *out);

#endif
