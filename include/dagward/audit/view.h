/*
 * view: audit records for people.
 *
 * Reads a line of the audit file and writes it as one line of text, or says whether it is one that
 * was asked for. What a caller sent is shown with controls escaped: a terminal must not obey it.
 */
#ifndef DAGWARD_AUDIT_VIEW_H
#define DAGWARD_AUDIT_VIEW_H

#include "dagward/base/buf.h"

/* Empty views ask for nothing. All that is asked for must hold. */
struct view_filter {
        struct str id;        /* correlation or request id, whole, as recorded (lower case) */
        struct str caller;    /* subject, `*` as wildcard */
        struct str effect;    /* allow, deny, error */
        struct str operation; /* `*` as wildcard, any letter case */
        bool intents;         /* intents too; without it only outcomes and events */
};

enum view_result { VIEW_SHOWN, VIEW_SKIPPED, VIEW_NOT_A_RECORD };

/* Appends one line with its newline to `out` (which may be NULL: only asks) when `line` (without
 * newline) is a record that `filter` asks for. */
enum view_result view_line(struct str line, const struct view_filter *filter, struct buf *out);

#endif
