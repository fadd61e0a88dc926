/*
 * past: requests that audit records tell of, so that they can be decided again.
 *
 * A record has no token and no body. What it does not tell: claims beside subject and roles (then
 * the binding that allowed or denied it is a witness), and the values of what a body said (then the
 * answer is a pair of bounds).
 */
#ifndef DAGWARD_PROXY_PAST_H
#define DAGWARD_PROXY_PAST_H

#include "dagward/audit/verify.h"
#include "dagward/base/arena.h"
#include "dagward/policy/policy.h"

/* One request. Views, good during the callback. */
struct past {
        struct str time, correlation_id, place; /* place: file:line */
        struct policy_caller caller;            /* claims: what the record tells of them */
        struct policy_request request;          /* facts: NULL; now_ms: when it was */
        struct facts *said;                     /* what it said, values unknown; NULL: nothing */
        bool incomplete;                        /* the record was too long to tell all of it */
        enum effect effect;
        struct str operation; /* as recorded */
        struct str binding, role, rule, credential;
        bool broke_glass; /* `request` has a reason as long as the recorded one */
};

struct past_counts {
        size_t records;   /* outcomes of requests that a policy decided */
        size_t others;    /* events, intents, requests refused before a policy was asked */
        size_t damaged;   /* lines that are no record */
        size_t unvouched; /* lines behind the last signature of a key that was given: left out */
};

typedef void past_seen(void *owner, const struct past *past);

/* Line by line, for who reads files for other reasons too. */
struct past_reader;
struct past_reader *past_reader_new(void);
/* Harmless on NULL. */
void past_reader_free(struct past_reader *reader);
/* `place` is good during the callback. */
void past_reader_line(struct past_reader *reader, struct str line, struct str place,
        past_seen *seen, void *owner, struct past_counts *counts);

enum { PAST_MOST_FILES = 200 };

/* Where requests are read from. Views. */
struct past_log {
        const char *files[PAST_MOST_FILES]; /* gzip or not; `-` is standard input */
        size_t n_files;
        const char *keys[VERIFY_KEYS_MOST]; /* files (PEM): only these may have signed; none: any */
        size_t n_keys;
        bool unverified; /* taken as it is: a log that was changed by somebody, too */
};

/* Reads the files, oldest first, and checks the chain and the signatures of each by itself, unless
 * it is told not to. With keys, what stands in a file behind the last checkpoint that one of them
 * signed is not seen (said on stderr): it may be anybody's. False, after all was seen, when one
 * cannot be read or is not what was written (said on stderr): what was made of it is worth nothing.
 */
bool past_read(const struct past_log *log, past_seen *seen, void *owner, struct past_counts *counts)
        __attribute__((warn_unused_result));

/* Decides again what was decided; remembers the bindings of callers. Free with past_judge_free. */
struct past_judge *past_judge_new(const struct policy *policy);
/* Harmless on NULL. */
void past_judge_free(struct past_judge *judge);

enum past_answer { PAST_ALLOWED, PAST_DENIED, PAST_UNCLEAR };
/* What the policy makes of it now. `*decision`: by which entry, and if `reasons` why; of an unclear
 * one, as if the values of all that it said were unknown. */
enum past_answer past_decide(
        struct past_judge *judge, const struct past *past, bool reasons, struct decision *decision);

#endif
