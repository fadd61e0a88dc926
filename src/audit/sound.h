/*
 * sound: whether a closed file is what its name says, a part of a log that is whole. Private to
 * audit.
 *
 * Whoever can write to the folder can put anything there under the name of a closed file. So no
 * link is followed, nothing but a regular file is read, and all of it is: each record hashed, each
 * checkpoint verified, the last one being that of the name.
 */
#ifndef DAGWARD_AUDIT_SOUND_H
#define DAGWARD_AUDIT_SOUND_H

#include <sys/stat.h>

#include "dagward/audit/closed.h"
#include "dagward/audit/signing.h"

struct sound {
        struct stat info; /* of the file that was read */
        bool good, seen;  /* seen: the keeper's */
        uint64_t first_seq, last_seq;
        char before[CHAIN_HEX + 1]; /* the hash of the record before the first one */
        char last_hash[CHAIN_HEX + 1];
        int64_t last_wall_ms;          /* when its last record was made */
        char key[SIGNING_KEY_LEN + 1]; /* by which all of it is signed; or "" */
};

/* A regular file in the folder, no link. -1 with errno. */
int sound_open(int folder, const char *name);
/* Asked now and then while a file is read; false ends that. */
typedef bool sound_going_on(void *owner);
/* Reads all of it: `out->good`, or `err` says why not. False: it was ended, or cannot be read. */
bool sound_read(int fd, const char *path, uint64_t last_seq, sound_going_on *going_on, void *owner,
        struct sound *out, struct error *err) __attribute__((warn_unused_result));
/* Nothing of it has changed since it was read. */
bool sound_same(const struct sound *sound, const struct stat *info);
/* Whether `packed` unfolds to the bytes of `plain`, all of them. */
bool sound_copy(int plain, int packed, sound_going_on *going_on, void *owner)
        __attribute__((warn_unused_result));

#endif
