/*
 * verify: is an audit log what was written?
 *
 * Reads one or more files as one chain, plain or gzip, in bounded memory, and keeps the first thing
 * that is wrong. Checks the signatures of checkpoints: against the keys that were pinned, or else
 * against the key that each file's first record names, which proves no more than that whoever wrote
 * the file had that key. What it finds and what it cannot stands in docs/audit.md. Knows no file:
 * bytes are fed to it.
 */
#ifndef DAGWARD_AUDIT_VERIFY_H
#define DAGWARD_AUDIT_VERIFY_H

#include "dagward/audit/checkpoint.h"
#include "dagward/base/clock.h"

enum verify_fault {
        VERIFY_NONE,
        VERIFY_FOREIGN,     /* a line that is no record */
        VERIFY_TORN,        /* the last line has no end */
        VERIFY_EDITED,      /* the bytes of a record are not those that were hashed */
        VERIFY_REPLACED,    /* seq fits, prev does not: this record or the one before is another */
        VERIFY_DELETED,     /* records are gone from the middle */
        VERIFY_REORDERED,   /* records stand in another order */
        VERIFY_INSERTED,    /* a seq that was there before */
        VERIFY_HEADLESS,    /* a file that does not begin with log.opened, or not at all */
        VERIFY_RESTARTED,   /* a new chain where the old one should go on */
        VERIFY_GAP,         /* a file between two files is not there */
        VERIFY_TRUNCATED,   /* records are gone from the end */
        VERIFY_SIGNATURE,   /* a checkpoint whose signature is not its key's */
        VERIFY_UNKNOWN_KEY, /* a checkpoint of a key that is not one of the log's */
        VERIFY_UNSIGNED,    /* keys were pinned, and none of them has signed anything */
        VERIFY_FORKED,      /* the anchor knows another record of this seq */
        VERIFY_DAMAGED,     /* the gzip file is not whole */
};

enum { VERIFY_KEYS_MOST = 16 };

struct verify_anchor {
        uint64_t seq;
        char hash[CHAIN_HEX];
};

struct verify {
        struct chain *chain;
        struct chain_head head;                /* last good record */
        char head_time[CLOCK_RFC3339_LEN + 1]; /* of it, as it stands there */
        uint64_t first_seq;         /* where the chain that was fed begins; 0: no record yet */
        char before[CHAIN_HEX + 1]; /* what that record names as the one before it */
        uint64_t records;           /* good ones, before the first fault */
        uint64_t lines;             /* all, over all files */
        uint64_t file_lines;        /* of the current file */
        uint64_t missing_from;      /* VERIFY_DELETED: looked for further down */
        const char *file;           /* current one, not owned */
        const char *file_before;
        struct unzip *unzip;
        bool unreadable;   /* the rest of the file is */
        const char *empty; /* the first file in which nothing stands; NULL: none */
        char *partial;     /* a line whose end has not come yet; CHAIN_LINE_MOST bytes */
        size_t partial_len;
        bool too_long; /* the current line is over CHAIN_LINE_MOST: skipping to its end */

        uint64_t checkpoints, signed_seq; /* good ones, and the seq of the last; 0: none */
        char signed_time[32];             /* when that was */
        bool closed;                      /* the last good record is a checkpoint that closes */
        uint64_t deleted_told;            /* up to there, log.deleted says, files were deleted */
        uint64_t deleted_seq; /* the same, and a pinned key has signed it; else nobody vouches */
        char file_key[SIGNING_KEY_LEN + 1]; /* what the current file's first record names; or "" */
        char keys[VERIFY_KEYS_MOST][SIGNING_KEY_LEN + 1]; /* pinned, or those that were met */
        size_t n_keys;
        bool pinned;
        struct verify_anchor *anchors; /* by seq */
        size_t n_anchors, anchor_at, anchors_met;
        bool anchors_sorted;
        struct {
                enum verify_fault fault;
                const char *file; /* as given to verify_file */
                uint64_t line;    /* 1-based in that file */
                char text[512];   /* what is wrong, for people */
        } first;
};

void verify_init(struct verify *verify);
void verify_clear(struct verify *verify);

/* Before the first file: only checkpoints of keys that were pinned are good. False when there are
 * too many. */
bool verify_pin(struct verify *verify, const char key[SIGNING_KEY_LEN + 1])
        __attribute__((warn_unused_result));
/* Before the first file and after the keys: a line of the anchor, which the log must contain if it
 * reaches so far. False when it is no checkpoint, or not one of a pinned key; it is left out then.
 */
bool verify_anchor(struct verify *verify, struct str line) __attribute__((warn_unused_result));

/* A new file begins; `name` must stay until verify_clear. Files come in the order of their seqs. */
void verify_file(struct verify *verify, const char *name);
/* The file's bytes, in pieces of any size. */
void verify_feed(struct verify *verify, const char *bytes, size_t len);
/* The file ends. */
void verify_file_end(struct verify *verify);
/* All files were fed. `closed`: the last one was ended on purpose, so that it ends with a
 * checkpoint that says so. */
void verify_end(struct verify *verify, bool closed);
static inline bool verify_good(const struct verify *verify)
{
        return verify->first.fault == VERIFY_NONE;
}
/* Every file that was fed has its first record. */
static inline bool verify_began(const struct verify *verify)
{
        return verify->records && !verify->empty && verify->first.fault != VERIFY_HEADLESS;
}
/* `edited`, `deleted` ...: for programs. */
const char *verify_fault_name(enum verify_fault fault);

#endif
