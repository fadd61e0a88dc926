/*
 * push: which refs a git push moves.
 *
 * The body of a git-receive-pack request begins with pkt-lines (gitprotocol-common(5)): one command
 * per ref, a flush, then the pack (gitprotocol-pack(5), "Reference Update Request"). Only the
 * commands are read here. The report that refuses them is the one that git shows ref by ref
 * ("Report Status").
 */
#ifndef DAGWARD_AZDO_PUSH_H
#define DAGWARD_AZDO_PUSH_H

#include "dagward/azdo/catalogue.h"
#include "dagward/base/arena.h"

enum { PUSH_REFS_MOST = 48 }; /* in one push that is judged ref by ref */

enum push_result {
        PUSH_READ,
        PUSH_MORE, /* the flush has not come: call again with more behind the same bytes */
        PUSH_BAD,
};

enum push_change { PUSH_CREATES, PUSH_UPDATES, PUSH_DELETES };

struct push {
        struct str refs[PUSH_REFS_MOST]; /* full names, each once; in the arena */
        enum push_change changes[PUSH_REFS_MOST];
        size_t n;                      /* 0: a probe, which moves nothing */
        bool report_status, side_band; /* what the client asked to be answered with */
};

/* Whether `op` is such a request. */
bool operation_is_push(const struct operation *op);
/* What changing `ref` so is: gitHttp.push.createBranch, ... */
const struct operation *push_operation(enum push_change change, struct str ref);
/* The ids of all of these. */
const char *const *push_operation_ids(size_t *n);
/* Reads the commands at the beginning of `body`. PUSH_BAD with `*why` (static text): malformed, a
 * ref twice, a name that git does not allow, a signed push, more than PUSH_REFS_MOST. */
enum push_result push_read(struct str body, struct arena *arena, struct push *out, const char **why)
        __attribute__((warn_unused_result));
/* The body of an answer that refuses all refs, `reasons[i]` for refs[i] (one line; what is not
 * printable is replaced). Without report_status there is nothing to say: out stays empty. */
void push_refusal_write(const struct push *push, const char *const *reasons, struct buf *out);

#endif
