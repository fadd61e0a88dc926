/*
 * read: one audit record, from a line of the file to fields.
 *
 * The inverse of record.h, for programs that look at what happened: fast enough for millions of
 * lines, strict about JSON (RFC 8259; a member twice, broken UTF-8 and lone surrogates are
 * refused), and patient with members of later versions, which it passes over. Whether a line is
 * genuine is not its business: that is chain.h's.
 */
#ifndef DAGWARD_AUDIT_READ_H
#define DAGWARD_AUDIT_READ_H

#include "dagward/audit/record.h"
#include "dagward/base/arena.h"

struct audit_line {
        /* As record.h has them, but: `request.query` is empty (see `query`), and `decision.effect`
         * is AUDIT_UNDECIDED where the record has none. */
        struct audit_fields fields;
        struct str time; /* as written */
        struct str query;
        uint64_t seq;
        struct str prev, hash;
        bool cut; /* a value or a list of `request` or `caller` is there in part only */
};

/* Reads `line` (without newline). Views lead into it, or into `arena` where a value had escapes;
 * lists are in `arena`. False when the line is no JSON object, has a known member of another type,
 * or needs more than the arena's ceiling. */
bool audit_line_read(struct str line, struct arena *arena, struct audit_line *out)
        __attribute__((warn_unused_result));

#endif
