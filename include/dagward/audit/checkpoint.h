/*
 * checkpoint: the record that signs all records before it.
 *
 * Its members are
 *
 *     "time":"<T>","kind":"event","event":{"name":"log.checkpoint","detail":{
 *     "reason":"<R>","public_key":"<K>","signature":"<S>"}}
 *
 * on one line. What is signed is the text
 *
 *     dagward audit checkpoint 1\n<seq>\n<T>\n<R>\n<prev>\n
 *
 * with the record's own seq and prev, so that all of it is covered and, through prev, all that was
 * written before it. Knows no file.
 */
#ifndef DAGWARD_AUDIT_CHECKPOINT_H
#define DAGWARD_AUDIT_CHECKPOINT_H

#include "dagward/audit/chain.h"
#include "dagward/audit/signing.h"

enum { CHECKPOINT_LINE_MOST = 768 };

/* Why one was made: `interval`, `deleted`, `rotated`, `stopped`. After the last two no record
 * follows in the same file, unless rotating failed. */
struct checkpoint {
        struct str time, reason, key, signature; /* views of the line */
};

/* Appends the members of the checkpoint that follows `head`; `reason` is a word of ours. */
void checkpoint_write(const struct signing_key *key, const struct chain_head *head, int64_t time_ms,
        struct str reason, struct buf *members);
/* Whether the record has the shape of one; who signed it is checkpoint_good's question. */
bool checkpoint_read(const struct chain_line *line, struct checkpoint *out)
        __attribute__((warn_unused_result));
/* Whether the signature is that of the key in the record. */
bool checkpoint_good(const struct chain_line *line, const struct checkpoint *checkpoint)
        __attribute__((warn_unused_result));
/* Whether a file that ends here was ended on purpose. */
bool checkpoint_closes(const struct checkpoint *checkpoint);

/* The `time` of a record, as it stands there, whatever it is; empty: there is none in its place. */
struct str record_time(const struct chain_line *line);
/* The detail members of an event of the log itself, `log.<name>`; false: another record. An empty
 * name asks whether it is any of these events. */
bool log_event_read(const struct chain_line *line, struct str name, struct str *detail)
        __attribute__((warn_unused_result));
/* A member of them that is a string without escapes; empty: not there. */
struct str log_event_detail(struct str detail, struct str name);

#endif
