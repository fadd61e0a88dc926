/*
 * report: how findings are written down: as text for a terminal, as Markdown for a comment on a
 * pull request, as JSON for programs.
 */
#ifndef DAGWARD_BASE_REPORT_H
#define DAGWARD_BASE_REPORT_H

#include "dagward/base/buf.h"

enum report_format { REPORT_TEXT, REPORT_MARKDOWN, REPORT_JSON };

/* text, markdown or json. */
bool report_format_named(struct str name, enum report_format *out)
        __attribute__((warn_unused_result));

/* Text for a terminal, UTF-8: of what turns lines around or is obeyed, each byte as \xNN. */
void report_text(struct buf *out, struct str text);
/* In double quotes, as YAML 1.2 (7.3.1) and JSON both read it, with the same as \uNNNN. */
void report_quoted(struct buf *out, struct str text);

/* Appends `"name":"value"` to an object, with a comma unless it is the first member. */
void report_member(struct buf *out, const char *name, struct str value);
/* The same with a number, and with true or false. */
void report_count(struct buf *out, const char *name, uint64_t value);
void report_flag(struct buf *out, const char *name, bool value);
/* Begins the next object of a list: a comma unless it is the first, a newline, `{`. */
void report_object(struct buf *out);

/* One row of a Markdown table (GitHub Flavored Markdown 4.10). Nothing in a cell can end it or be
 * markup: values stand in code spans, blanks in place of line ends. */
void report_row(struct buf *out, const struct str *cells, size_t n);
/* Its two first lines; headings are taken as they are. */
void report_heading(struct buf *out, const char *const *headings, size_t n);
/* A single value so. */
void report_cell(struct buf *out, struct str text);

#endif
