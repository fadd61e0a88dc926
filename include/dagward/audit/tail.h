/*
 * tail: the log, record by record, from any record on, while it is written.
 *
 * Over closed files (plain, gzip) and the one that is written, through rotation, compression and
 * deletion. Only records up to a `seq` that the scribe has acknowledged are given: what stands
 * behind them may still be taken back. What is not there any more is told of, not passed over.
 * Hashes are not checked: that is verify.h's. But a closed file goes by what stands in it, and not
 * by its name: it is read when its first record is good and it leads on from the last one.
 *
 * One thread at a time; reads files and may wait for the disk.
 */
#ifndef DAGWARD_AUDIT_TAIL_H
#define DAGWARD_AUDIT_TAIL_H

#include "dagward/audit/chain.h"
#include "dagward/base/error.h"

struct tail;

struct tail *tail_new(const char *log);
/* Harmless on NULL. */
void tail_free(struct tail *tail);
/* The next record is the one behind `seq`. Gives the file back, so that one which is deleted does
 * not keep its place on the disk. */
void tail_seek(struct tail *tail, uint64_t seq);
/* The same behind a record of that hash (zeros: not known), which tells its successor from others
 * of the same number. */
void tail_seek_behind(struct tail *tail, const struct chain_head *head);
/* The last record that was given or lost. */
uint64_t tail_seq(const struct tail *tail);

enum tail_state {
        TAIL_RECORD,
        TAIL_END,   /* no more up to `until` */
        TAIL_LOST,  /* `first` to `last` are not there; the next one may be */
        TAIL_ERROR, /* a file or folder cannot be read now */
};

struct tail_record {
        uint64_t seq;
        struct str line;       /* without newline, until the next call */
        struct str prev, hash; /* of it; empty when it has another shape */
        uint64_t first, last;  /* TAIL_LOST */
        bool unreadable;       /* TAIL_LOST: the file is there and damaged */
};

enum tail_state tail_next(struct tail *tail, uint64_t until, struct tail_record *out,
        struct error *err) __attribute__((warn_unused_result));

/* The record that the last call gave is given again by the next one. */
void tail_back(struct tail *tail);

/* `seq` at the beginning of a line; 0: it is no record. */
uint64_t tail_line_seq(struct str line);
/* `seq` of the first record of the file at `log`; 0: none. */
uint64_t tail_first_seq(const char *log);
/* The record that the log begins with, closed files included; 0: none. */
uint64_t tail_oldest_seq(const char *log);
/* fdatasync of the file that is written. */
bool tail_sync(const char *log, struct error *err) __attribute__((warn_unused_result));

#endif
