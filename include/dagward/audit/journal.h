/*
 * journal: the audit file itself, for the scribe.
 *
 * Opens and locks it, finds where the chain stands, mends what a crash left, appends whole lines or
 * nothing. One thread at a time; knows no batches and no mailboxes.
 */
#ifndef DAGWARD_AUDIT_JOURNAL_H
#define DAGWARD_AUDIT_JOURNAL_H

#include "dagward/audit/checkpoint.h"

struct journal {
        int fd;
        char *path; /* owned */
        uint64_t size;
        struct chain *chain; /* owned */
        struct chain_head head;
        const struct signing_key *key; /* named in the first record of every file; not owned */
        uint64_t first_seq;            /* of the first record in this file */
        int64_t opened_wall_ms;        /* when that was written */
        bool ragged; /* the file may be longer than `size`: cut it before writing */
        struct buf scratch;
};

enum {
        JOURNAL_SEARCH = 16 * 1024 * 1024, /* how far back a good record is looked for, bytes */
};

/* As scribe_open says. Anything written here is on disk when it returns. False: nothing is open. */
bool journal_open(struct journal *journal, const char *path, const struct signing_key *key,
        struct error *err) __attribute__((warn_unused_result));
/* Frees and closes, does not sync. */
void journal_close(struct journal *journal);
/* Another file at the path: goes on there, with a log.opened that gives `reason`. `*moved` says
 * whether there was another. False: still in the old file. */
bool journal_reopen(struct journal *journal, struct str reason, bool *moved, struct error *err)
        __attribute__((warn_unused_result));

/* Gives the file the name of one that is closed (closed.h), puts a new one in its place and goes on
 * there, with a log.opened that gives `reason`. Its last record is on disk already. At every moment
 * a file is at the path. False: still in the old file, which has its name. */
bool journal_rotate(struct journal *journal, struct str reason, struct error *err)
        __attribute__((warn_unused_result));

/* Chains one record body to `lines` and moves the head on. Bodies are never refused: `lines` must
 * have room, and the body be one of audit_record_write's. */
void journal_chain(struct journal *journal, struct str body, struct buf *lines);
/* The same for an event of now, of the log itself: names and values hold nothing of a caller's. */
void journal_chain_event(struct journal *journal, struct str name, const struct pair *detail,
        size_t n, struct buf *lines);

/* The same for a checkpoint. */
void journal_chain_checkpoint(struct journal *journal, struct str reason, struct buf *lines);

enum journal_state {
        JOURNAL_SAME,
        JOURNAL_REMOVED, /* no name leads to the file any more */
        JOURNAL_EMPTIED, /* cut to nothing by somebody else */
        JOURNAL_CHANGED, /* shorter or longer than we left it */
};

/* Looks at the file before a write; `*found` is its size. Except for JOURNAL_SAME and
 * JOURNAL_REMOVED the journal takes the new size as given. */
enum journal_state journal_look(struct journal *journal, uint64_t *found);
/* Appends; all or nothing. After a failure the head is the caller's to put back. */
bool journal_append(struct journal *journal, struct str lines, struct error *err)
        __attribute__((warn_unused_result));
/* fdatasync. */
bool journal_sync(struct journal *journal, struct error *err) __attribute__((warn_unused_result));
/* Takes back what was appended since the file had `size` bytes, now or before the next append. */
void journal_cut(struct journal *journal, uint64_t size);

#endif
