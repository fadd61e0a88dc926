/*
 * monitor: audit records as the Logs Ingestion API of Azure Monitor takes them.
 *
 * A JSON array of objects, one a record, whose members are the columns of the table in
 * docs/audit.md (docs/azure-monitor-table.json); `Record` is the record itself. Knows no
 * connection.
 */
#ifndef DAGWARD_SINK_MONITOR_H
#define DAGWARD_SINK_MONITOR_H

#include "dagward/audit/read.h"

enum {
        /* Of a call, before it is packed: the service's limit is 1 MB, whichever that is. */
        MONITOR_CALL_MOST = 1000 * 1000,
        MONITOR_SPAN_MS =
                25 * 60 * 1000, /* of the times in a call; some tables want less than 30 */
};

/* Appends the object of one record. `source` names the machine. */
void monitor_write(struct buf *out, struct str line, const char *source, struct arena *arena);
/* gzip (RFC 1952); memory for `out` is taken as needed. */
void monitor_pack(struct str body, struct buf *out);

#endif
