/*
 * syslog: one audit record as a syslog message (RFC 5424).
 *
 *     <PRI>1 <time> <host> <app> <pid> <kind> [dagward@<number> seq="7" ...] <the record>
 *
 * The message is the record's line as it is in the file, so that a copy can be verified; in front
 * of it stands a byte order mark when it is not all ASCII (6.4: what is said to be UTF-8 begins
 * with one, and ASCII need not be said). Knows no connection.
 */
#ifndef DAGWARD_SINK_SYSLOG_H
#define DAGWARD_SINK_SYSLOG_H

#include "dagward/audit/read.h"
#include "dagward/sink/sinks.h"

struct syslog_writer {
        const struct sink_syslog *settings;
        char hostname[256]; /* RFC 5424 6.2.4: printable ASCII, `-` for none */
        long pid;
        struct arena arena;
        struct buf message;
};

void syslog_writer_init(struct syslog_writer *writer, const struct sink_syslog *settings);
void syslog_writer_clear(struct syslog_writer *writer);
/* Appends a message; with `counted` its length stands in front (RFC 5425 4.3, RFC 6587 3.4.1). */
void syslog_write(struct syslog_writer *writer, struct str line, bool counted, struct buf *out);

/* How grave it is what a record tells of. */
enum sink_gravity sink_gravity_of(const struct audit_line *record);

#endif
