/*
 * keeper: the thread that looks after what the scribe has closed. Private to audit.
 *
 * Compresses closed files, deletes those whose time is over, and repeats checkpoints to the anchor:
 * whatever may take long and nobody waits for. Before a file is deleted the scribe has written,
 * signed and made durable that it will be.
 */
#ifndef DAGWARD_AUDIT_KEEPER_H
#define DAGWARD_AUDIT_KEEPER_H

#include <sys/types.h>

#include "dagward/audit/chain.h"
#include "dagward/audit/scribe.h"

enum { EXPIRE_MOST = 16 };

/* A file that is to be deleted, as the log will tell of it. */
struct expired_file {
        char *path; /* owned by the keeper */
        dev_t device;
        ino_t inode; /* another file of that name is not deleted */
        uint64_t first_seq, last_seq;
        char last_hash[CHAIN_HEX + 1]; /* of its last record */
};

/* A question of the keeper; the scribe's until `done` runs on the thread of reply_to. */
struct expire {
        struct mail mail;
        struct expired_file files[EXPIRE_MOST];
        size_t n;
        bool ok; /* answer: it is written and on disk */
        struct mailbox *reply_to;
        void (*done)(struct expire *expire, void *receiver);
};

struct keeper;

/* Looks at the files at once. `settings` and `key`, the public half, are read only here. */
struct keeper *keeper_new(struct scribe *scribe, const struct scribe_settings *settings,
        const char *key, struct error *err) __attribute__((warn_unused_result));
/* Writes waiting checkpoints to the anchor if that works and ends the thread. A file that is just
 * being compressed stays as it was. Harmless on NULL. */
void keeper_stop(struct keeper *keeper);
/* After that. Harmless on NULL. */
void keeper_free(struct keeper *keeper);
/* From any thread: a file was closed; a checkpoint was written (its line, copied). */
void keeper_closed(struct keeper *keeper);
void keeper_anchor(struct keeper *keeper, struct str line);

/* scribe.c, from any thread. */
void scribe_expire(struct scribe *scribe, struct expire *expire);
/* The anchor failed, or takes checkpoints again (`why` empty); becomes an event. */
void scribe_anchored(struct scribe *scribe, struct str why);

#endif
