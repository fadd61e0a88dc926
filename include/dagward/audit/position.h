/*
 * position: how far somebody has read the log, kept in a small file of one line.
 *
 *     dagward position 1 <seq, 20 digits> <hash of that record, 64 hex>
 *
 * The line has always the same length and is written over in place, so that a crash leaves the old
 * one or the new one; a mixture names a record that is not there, which is found out when it is
 * read on from (the next record's `prev` is another hash).
 */
#ifndef DAGWARD_AUDIT_POSITION_H
#define DAGWARD_AUDIT_POSITION_H

#include "dagward/audit/chain.h"
#include "dagward/base/error.h"

enum position_state {
        POSITION_NONE, /* there is no such file */
        POSITION_GOOD,
        POSITION_BROKEN, /* it cannot be read, or holds something else */
};

enum position_state position_read(const char *path, struct chain_head *out)
        __attribute__((warn_unused_result));
/* Makes the file (mode 0640, on disk when this returns) or writes over it, which the kernel brings
 * to the disk in its time: an old position costs repetitions, never records. */
bool position_write(const char *path, const struct chain_head *head, struct error *err)
        __attribute__((warn_unused_result));

#endif
