/*
 * inside: the scribe's own state, for the files that it is made of. Private to audit.
 *
 * scribe.c is the thread and its mailbox; commit.c is what a turn of it does with the file;
 * passing.c is what it does when another process has the file.
 */
#ifndef DAGWARD_AUDIT_INSIDE_H
#define DAGWARD_AUDIT_INSIDE_H

#include <pthread.h>
#include <semaphore.h>

#include "dagward/audit/journal.h"
#include "keeper.h"

/* What was sent to the process that has the file, and is not answered. */
struct scribe_passing {
        bool under_way;
        size_t sent;      /* of the frame, which stands in `lines` */
        size_t events;    /* bytes of `events` that are in it; 0: it is the first batch */
        int64_t since_ms; /* monotonic */
};

struct scribe {
        struct journal journal;
        struct signing_key *key;
        struct keeper *keeper;
        enum scribe_durability durability;
        uint64_t checkpoint_records, rotate_bytes; /* as in the settings */
        int64_t checkpoint_ms, rotate_ms;
        struct mailbox *box;
        sem_t hush_heard;
        int urgent_fd; /* eventfd: somebody waits */
        int hurry_fd;  /* eventfd: no more are waited for */
        pthread_t thread;

        /* what one drain of the mailbox brought */
        struct mail *first; /* batches */
        struct mail **last;
        struct mail *asks;
        bool hurry;  /* the batches are to be written at once */
        bool hushed; /* whatever waits is written when it stops, and not before */
        bool stop;

        struct buf events; /* bodies that are not in the file yet */
        size_t events_lost;
        struct buf lines;
        struct scribe_stats stats;
        int64_t failing_since_ms; /* monotonic; 0: writing works */
        int64_t synced_us;        /* monotonic; when the last fdatasync ended */
        int64_t failed_wall_ms;
        uint64_t failed_records; /* since then */

        uint64_t unsigned_records; /* behind the last checkpoint */
        int64_t sign_by_ms;        /* monotonic; 0: nothing to sign, or no such limit */
        struct str sign;           /* why a checkpoint is due whatever the limits say; or empty */
        int64_t rotate_after_ms;   /* monotonic; the last attempt failed */
        struct expire *expiring;   /* what is to be said of closed files */
        struct scribe_watch *watches;

        struct scribe_settings settings; /* its path and anchor are owned */
        int heir_fd;                     /* to the process that gets the file; -1: there is none */
        bool released;                   /* it has it, or nobody: no journal, no keeper */
        int64_t heir_ms;                 /* how long it may be silent */
        int patience_ms;                 /* how long its lock is waited for when it has gone */
        struct scribe_passing passing;
        struct scribe_await *awaits;
        uint64_t opened_seq; /* as scribe_opened_seq */
        uint64_t given_seq;  /* released: the last record before */
        uint64_t synced_seq; /* records up to here are known to be on disk */
        bool stopped;        /* the thread has ended */
};

/* All on the scribe's thread. */

/* Writes whatever waits and answers it; false: writing fails. */
bool scribe_commit(struct scribe *scribe);
/* The same, and signs all that is written; `reason` as in a checkpoint. */
bool scribe_commit_signed(struct scribe *scribe, struct str reason);
/* Closes the file, unless nothing is in it but its first record, and begins another. */
bool scribe_rotate(struct scribe *scribe, struct error *err);
void scribe_rotate_if_due(struct scribe *scribe);
void scribe_tell_state(const struct scribe_watch *watch, bool ok);
void scribe_answer(struct audit_batch *batch, bool ok);

/* Signs and closes the file, and tells the process at heir_fd. */
void scribe_release(struct scribe *scribe);
/* scribe_commit, through that process; or by ourselves again, when it has gone. */
bool scribe_pass_on(struct scribe *scribe);

#endif
