/*
 * chain: what ties each audit record to the one before it.
 *
 * A line is
 *
 *     {"seq":N,<members>,"prev":"<64 hex>","hash":"<64 hex>"}\n
 *
 * `seq` counts from 1 without gaps; `prev` is the hash of the line before (64 zeros in front of the
 * first); `hash` is the SHA-256 of the line's bytes without `,"hash":"<64 hex>"` and without the
 * newline. Hex digits are lower case. The chain goes on over file ends. Knows no file and no
 * thread.
 */
#ifndef DAGWARD_AUDIT_CHAIN_H
#define DAGWARD_AUDIT_CHAIN_H

#include "dagward/base/buf.h"

enum {
        CHAIN_HEX = 64,
        CHAIN_LINE_MOST = 64 * 1024, /* a longer line is not one of ours */
        CHAIN_OVERHEAD = 256,        /* what a line has beyond its members, at most, bytes */
};

/* The last record there is. */
struct chain_head {
        uint64_t seq;             /* 0: none yet */
        char hash[CHAIN_HEX + 1]; /* 64 zeros when there is none yet */
};

struct chain; /* the hash function, ready to be used again; one thread at a time */

struct chain *chain_new(void);
void chain_free(struct chain *chain);
/* In front of the first record. */
void chain_head_init(struct chain_head *head);
/* Appends the whole line of a record to `out` and moves `head` on to it. False when `out` has no
 * room or `members` cannot be a record's (empty, a newline in it, over CHAIN_LINE_MOST with all
 * around it): nothing is appended and `head` stays. */
bool chain_write(struct chain *chain, struct chain_head *head, struct str members, struct buf *out)
        __attribute__((warn_unused_result));

/* A line, taken apart; views into it. */
struct chain_line {
        uint64_t seq;
        struct str members;
        struct str prev, hash; /* CHAIN_HEX digits each */
};

enum chain_verdict {
        CHAIN_GOOD,
        CHAIN_FOREIGN, /* not of the shape above */
        CHAIN_EDITED,  /* the shape is right, the hash is not that of the bytes */
};

/* Takes a line (without its newline) apart and recomputes its hash. `out` is filled unless the
 * verdict is CHAIN_FOREIGN. Whether it follows another line is the caller's question. */
enum chain_verdict chain_read(struct chain *chain, struct str line, struct chain_line *out)
        __attribute__((warn_unused_result));
/* SHA-256 as lower-case hex and a NUL. */
void chain_digest(struct chain *chain, struct str bytes, char out[CHAIN_HEX + 1]);

#endif
