/*
 * verify: is an audit log what was written?
 *
 * Reads one or more files as one chain, in bounded memory, and keeps the first thing that is wrong.
 * What it finds and what it cannot (records cut off at the very end, a chain computed anew by
 * whoever can write the file) stands in docs/audit.md. Knows no file: bytes are fed to it.
 */
#ifndef DAGWARD_AUDIT_VERIFY_H
#define DAGWARD_AUDIT_VERIFY_H

#include "dagward/audit/chain.h"

enum verify_fault {
        VERIFY_NONE,
        VERIFY_FOREIGN,   /* a line that is no record */
        VERIFY_TRUNCATED, /* the last line has no end */
        VERIFY_EDITED,    /* the bytes of a record are not those that were hashed */
        VERIFY_REPLACED,  /* seq fits, prev does not: this record or the one before is another */
        VERIFY_MISSING,   /* records are gone */
        VERIFY_REORDERED, /* records stand in another order */
        VERIFY_DUPLICATE, /* a seq that was there before */
        VERIFY_HEADLESS,  /* a file that does not begin with log.opened */
        VERIFY_RESTARTED, /* a new chain where the old one should go on */
};

struct verify {
        struct chain *chain;
        struct chain_head head; /* last good record */
        uint64_t first_seq;     /* where the chain that was fed begins; 0: no record yet */
        uint64_t records;       /* good ones, before the first fault */
        uint64_t lines;         /* all, over all files */
        uint64_t file_lines;    /* of the current file */
        uint64_t missing_from;  /* VERIFY_MISSING: looked for further down */
        const char *file;       /* current one, not owned */
        char *partial;          /* a line whose end has not come yet; CHAIN_LINE_MOST bytes */
        size_t partial_len;
        bool too_long; /* the current line is over CHAIN_LINE_MOST: skipping to its end */
        struct {
                enum verify_fault fault;
                const char *file; /* as given to verify_file */
                uint64_t line;    /* 1-based in that file */
                char text[256];   /* what is wrong, for people */
        } first;
};

void verify_init(struct verify *verify);
void verify_clear(struct verify *verify);
/* A new file begins; `name` must stay until verify_clear. */
void verify_file(struct verify *verify, const char *name);
/* The file's bytes, in pieces of any size. */
void verify_feed(struct verify *verify, const char *bytes, size_t len);
/* The file ends. */
void verify_file_end(struct verify *verify);
static inline bool verify_good(const struct verify *verify)
{
        return verify->first.fault == VERIFY_NONE;
}
/* `edited`, `missing` ...: for programs. */
const char *verify_fault_name(enum verify_fault fault);

#endif
