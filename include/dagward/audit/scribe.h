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
 * It signs what it has written with checkpoints (checkpoint.h) and closes a file that is too large
 * or too old; a second thread compresses and deletes closed ones.
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

/* All zeros but `path`: one file for ever, without checkpoints. */
struct scribe_settings {
        const char *path; /* a regular file, made with mode 0640 when it is not there; copied */
        enum scribe_durability durability;
        const char *signing_key;     /* a PEM file; NULL: `<path>.key`, made when it is not there */
        const char *anchor;          /* where each checkpoint is repeated; NULL: nowhere; copied */
        uint64_t checkpoint_records; /* at most so many records without one; 0: no checkpoints */
        int64_t checkpoint_ms;       /* at most so long after a record; 0: no such limit */
        uint64_t rotate_bytes;       /* a file that has so many is closed; 0: never */
        int64_t rotate_ms;           /* a file that is so old is closed; 0: never */
        uint64_t keep;               /* closed files that stay; 0: all */
        int64_t keep_ms; /* how long they stay; 0: for ever. Both set: until over both */
        bool compress;   /* closed files become gzip */
        /* Files in the shape of position.h: a closed file stays until all of them are behind it.
         * Copied. */
        const char *const *readers;
        size_t n_readers;
};

struct scribe;

/*
 * Opens the file for appending, takes its lock, finds the last good record and starts the thread.
 * What stands behind the last good record (a line cut off by a crash) is moved to a file beside it,
 * `<path>.torn-<seq>-<time>`, and an event `log.recovered` says so; a last record that lacks
 * nothing but its newline is completed. A new file begins with an event `log.opened`; where there
 * are closed ones beside it, the chain goes on after the newest. A file that was begun with another
 * key is closed. NULL with the reason in `err`: no access, another process has it, no record of
 * ours in the last 16 MiB, no key.
 */
struct scribe *scribe_open(const struct scribe_settings *settings, struct error *err)
        __attribute__((warn_unused_result));
/* The last record that there was when it was opened. */
uint64_t scribe_opened_seq(const struct scribe *scribe);
/* Once it is stopped: the last record that it wrote itself. What follows is of the process that the
 * file was given to. */
uint64_t scribe_final_seq(const struct scribe *scribe);
/* Nothing is written and nothing posted back from when this returns until scribe_stop: who posted
 * batches has those that could not be written until now, and may post them a last time. Waits for
 * the turn that is under way. To be called once, before scribe_stop; harmless on NULL. */
void scribe_hush(struct scribe *scribe);
/* Writes what was posted before and a checkpoint, makes it durable and ends the thread: nothing is
 * written any more. Batches are still posted back while this waits: mailboxes named in them must
 * outlive it. Harmless on NULL, and the second time. */
void scribe_stop(struct scribe *scribe);
/* The same, and frees: what is posted to it after that goes wrong. Harmless on NULL. */
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

/* Enough wait for what was posted: it is written and made durable at once, and not a few
 * milliseconds later together with what may be posted until then. */
void scribe_hurry(struct scribe *scribe);

/* --- the rest --- */

/* Writes an event record of now: life cycle, not requests. Copied; no answer; kept (up to 64 KiB of
 * them) until writing works. */
void scribe_event(struct scribe *scribe, struct str name, const struct pair *detail, size_t n);
/* Closes the file, unless nothing is in it yet, and begins a new one, whose first record is an
 * event `log.opened` that names the last seq and hash of the old one. If another program has
 * renamed the file, it stays under that name. When no new file can be made, writing goes on in the
 * old one and the log says why. */
void scribe_reopen(struct scribe *scribe);

/* The file goes to another process, at the other end of `fd` (a stream socket, the scribe's from
 * now on): what was posted before is written and signed, the file is closed and its lock let go,
 * and the other is told. From then on records are passed to it, which chains them among its own
 * (passed.h). When it goes away, or is silent for `limit_ms` and never had the lock, the file is
 * taken back; while one that is silent has it, writing fails. */
void scribe_hand_over(struct scribe *scribe, int fd, int64_t limit_ms);

/* Somebody who wants to know whether the log can be written, without having written. The scribe's
 * until scribe_close returns. */
struct scribe_watch {
        struct mail mail;
        struct mailbox *reply_to;
        /* Runs on the thread of reply_to: when writing fails and when it works again, each once. */
        void (*changed)(bool ok, void *receiver);
        struct scribe_watch *next;
};
void scribe_watch(struct scribe *scribe, struct scribe_watch *watch);

/* Somebody who reads the file and wants to know when there is more in it. Belongs to the scribe
 * until `done` runs on the thread of reply_to; never answered when the scribe stops before. */
struct scribe_await {
        struct mail mail;
        uint64_t after;      /* it is answered when there is a record behind this one */
        uint64_t seq;        /* answer: the last record in the file */
        uint64_t synced_seq; /* answer: the last one that is known to be on disk */
        struct mailbox *reply_to;
        void (*done)(struct scribe_await *await, void *receiver);
        struct scribe_await *next;
};
void scribe_await(struct scribe *scribe, struct scribe_await *await);

/* The public key of checkpoints as a PEM file; ends with the scribe. */
const char *scribe_public_key(const struct scribe *scribe);

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
        uint64_t checkpoints;             /* written since the start */
        uint64_t unsigned_records;        /* in the file behind the last checkpoint */
        bool anchor_ok;                   /* the anchor took the last one; true without anchor */
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
