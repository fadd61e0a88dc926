/* One audit record in the words of others. docs/audit.md has the mapping, field by field. */
#ifndef DAGWARD_PROXY_AUDIT_EXPORT_H
#define DAGWARD_PROXY_AUDIT_EXPORT_H

#include "dagward/audit/read.h"

/* The names of the columns, and a row: RFC 4180, CRLF. A value that a spreadsheet would take for a
 * formula gets an apostrophe in front; controls are written as \xNN. */
void export_csv_head(struct buf *out);
void export_csv(struct buf *out, const struct audit_line *line);
/* One OCSF 1.3 event on a line: a request as API Activity (6003), an event of ours as Base Event.
 */
void export_ocsf(struct buf *out, const struct audit_line *line);

#endif
