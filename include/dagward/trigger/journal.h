/*
 * journal: what must be known of triggers after a crash.
 *
 * A file of records, appended. BEGUN is on disk before anything of its request goes upstream, so a
 * key whose last record is BEGUN is exactly one whose outcome is not known. Others are written
 * without waiting for the disk: what is lost of them turns an answer that was known into one that
 * has to be looked up.
 *
 *      "dagward triggers 2\n" { "DwT1" length(4) crc32(4) payload(length) }
 *
 * A file of before, "dagward triggers 1\n", does not say whose its triggers are; it is read, and
 * written anew at once. What wrote such files takes this for no journal, instead of cutting off
 * what it does not know.
 *
 * Numbers are little endian. Reading stops at a record that was cut off by a crash; one that is
 * damaged with good ones behind it is an error, because what it said would be forgotten.
 */
#ifndef DAGWARD_TRIGGER_JOURNAL_H
#define DAGWARD_TRIGGER_JOURNAL_H

#include "dagward/base/buf.h"
#include "dagward/trigger/key.h"

#define TRIGGER_JOURNAL_HEAD "dagward triggers 2\n"
#define TRIGGER_JOURNAL_HEAD_BEFORE "dagward triggers 1\n" /* as long */

enum {
        TRIGGER_ID = 36,              /* characters of a UUID */
        TRIGGER_BODY_MOST = 64 << 10, /* of an answer that is kept, bytes */
        TRIGGER_TEXT_MOST = 2048,     /* each other text of it */
        TRIGGER_RECORD_HEAD = 12,
        TRIGGER_RECORD_MOST = TRIGGER_RECORD_HEAD + 256 + 5 * TRIGGER_TEXT_MOST + TRIGGER_BODY_MOST,
};

enum trigger_record_kind {
        TRIGGER_RECORD_BEGUN = 'B',
        TRIGGER_RECORD_ANSWERED = 'A',
        TRIGGER_RECORD_LOST = 'L',     /* sent, and no answer came that would tell */
        TRIGGER_RECORD_RELEASED = 'R', /* nothing was started */
};

/* The first answer, as upstream gave it. Views. */
struct trigger_answer {
        int status;
        bool whole; /* false: the body was too large to be kept, and is empty */
        struct str run_id, run_url, content_type, location, activity_id;
        struct str body;
};

/* One record; which members count depends on the kind. Views into the bytes read. */
struct trigger_record {
        enum trigger_record_kind kind;
        struct trigger_key key;
        int64_t time_ms; /* wall clock */
        struct str id;   /* BEGUN: of the first request with this key, a UUID */
        struct str correlation_id;
        struct trigger_answer answer; /* ANSWERED */
};

/* Appends the record; texts longer than they may be are cut. */
void trigger_record_write(struct buf *out, const struct trigger_record *record);

enum trigger_read {
        TRIGGER_READ_RECORD,
        TRIGGER_READ_END,  /* all has been read */
        TRIGGER_READ_TORN, /* what stands from `*at` on is no record, nor is anything behind it */
        TRIGGER_READ_DAMAGED, /* the record at `*at` is none, but there are good ones behind it */
};

/* Reads the record at `*at` of the whole file `bytes` and moves on; `*at` 0 is the file's
 * beginning, and a file that is empty or begins otherwise than one of both TRIGGER_JOURNAL_HEADs is
 * TORN or DAMAGED. */
enum trigger_read trigger_record_read(struct str bytes, size_t *at, struct trigger_record *out);

#endif
