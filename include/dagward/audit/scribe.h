/*
 * scribe: the one thread that writes the audit file.
 *
 * It owns the file and the head of the chain. Others post it batches of record bodies; it chains
 * whatever is there, appends it with one write, makes it durable with one fdatasync if any of it
 * asks for that, and posts every batch back. A write that fails leaves nothing behind: the file is
 * cut back to what it was, the batches go back with `ok` false and their records still inside, and
 * the next ones are tried again. What failed, and for how long, becomes an event record as soon as
 * writing works.
 *
 * Everything here but scribe_open and scribe_close may be called from any thread and never waits.
 */
#ifndef DAGWARD_AUDIT_SCRIBE_H
#define DAGWARD_AUDIT_SCRIBE_H

#include "dagward/audit/record.h"
#include "dagward/base/error.h"
#include "dagward/base/mailbox.h"

enum scribe_durability {
        SCRIBE_SYNC_WRITES, /* fdatasync what a batch marks as durable */
        SCRIBE_SYNC_ALL,    /* fdatasync everything before it is acknowledged */
        SCRIBE_SYNC_NONE,   /* leave it to the kernel */
};

struct scribe_settings {
        const char *path; /* a regular file, made with mode 0640 when it is not there; copied */
        enum scribe_durability durability;
};

struct scribe;

/*
 * Opens the file for appending, takes its lock, finds the last good record and starts the thread.
 * What stands behind the last good record (a line cut off by a crash) is moved to a file beside it,
 * `<path>.torn-<seq>-<time>`, and an event `log.recovered` says so; a last record that lacks
 * nothing but its newline is completed. A new file begins with an event `log.opened`. NULL with the
 * reason in `err`: no access, another process has it, no record of ours in the last 16 MiB.
 */
struct scribe *scribe_open(const struct scribe_settings *settings, struct error *err)
        __attribute__((warn_unused_result));
/* Writes what was posted before, makes it durable, ends the thread and frees. Batches are still
 * posted back while this waits: mailboxes named in them must outlive it. Harmless on NULL. */
void scribe_close(struct scribe *scribe);

/* --- batches --- */

enum { AUDIT_BATCH_BYTES = 256 * 1024 };

/* Embed or allocate it; all zeros, then audit_batch_init. Belongs to whoever fills it until it is
 * posted, and again when `done` runs. */
struct audit_batch {
        struct mail mail;
        struct buf records; /* bodies, each ended by a newline */
        unsigned n;         /* how many */
        bool durable;       /* one of them must be on disk before the answer */
        bool ok;            /* answer: all written (and on disk, where asked for), or none */
        struct mailbox *reply_to;
        /* Runs on the thread of reply_to. */
        void (*done)(struct audit_batch *batch, void *receiver);
        void *owner; /* the filler's, not looked at */
};

void audit_batch_init(struct audit_batch *batch, struct mailbox *reply_to,
        void (*done)(struct audit_batch *batch, void *receiver), void *owner);
/* Appends one record; `durable` marks the batch. False when the batch is full: post it and take
 * another. */
bool audit_batch_add(struct audit_batch *batch, const struct audit_fields *fields, bool durable)
        __attribute__((warn_unused_result));
/* Forgets the records, keeps the memory: after an ok answer, before the next use. */
void audit_batch_reset(struct audit_batch *batch);
/* Gives the memory of the records back. */
void audit_batch_clear(struct audit_batch *batch);
/* Hands the batch over. Answers come in the order of posting. An empty batch is answered like any
 * other. A batch that came back with ok false may be posted again as it is. */
void scribe_post(struct scribe *scribe, struct audit_batch *batch);

/* --- the rest --- */

/* Writes an event record of now: life cycle, not requests. Copied; no answer; kept (up to 64 KiB of
 * them) until writing works. */
void scribe_event(struct scribe *scribe, struct str name, const struct pair *detail, size_t n);
/* Log rotation: after the file was renamed, opens the path anew and goes on there; the new file's
 * first record is an event `log.opened` that names the last seq and hash of the old one. Not
 * renamed: nothing happens. When it cannot be opened, writing goes on in the old file and the log
 * says why. */
void scribe_reopen(struct scribe *scribe);

struct scribe_stats {
        bool ok;                          /* the last attempt to write worked */
        char error[160];                  /* why not */
        int64_t failing_ms;               /* for how long not, 0 when ok */
        uint64_t seq;                     /* last record in the file */
        uint64_t file_bytes;              /* size of the file */
        uint64_t records, bytes, batches; /* written since the start */
        uint64_t writes;                  /* write(2) calls that worked = group commits */
        uint64_t syncs, sync_us;          /* fdatasync calls and the time in them, sum */
        uint64_t sync_most_us;            /* the longest */
        uint64_t failures;                /* group commits that failed */
        uint64_t refused_records;         /* records sent back not written */
        uint64_t reopens;                 /* files begun since the start */
};

/* A question; belongs to the scribe until `done` runs on the thread of reply_to. */
struct scribe_ask {
        struct mail mail;
        struct scribe_stats stats; /* the answer */
        struct mailbox *reply_to;
        void (*done)(struct scribe_ask *ask, void *receiver);
        void *owner;
};

void scribe_ask(struct scribe *scribe, struct scribe_ask *ask);

#endif
