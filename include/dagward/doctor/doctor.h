/*
 * doctor: does the world around a configuration work, seen from this machine?
 *
 * Observing and judging are apart. What is observed (a handshake, a file, an answer) is plain data;
 * what that means, and what to do about it, is said by pure functions (src/doctor/judge.h). It
 * connects, resolves, reads and binds without listening; it writes nothing but one empty file
 * beside the audit log, which it removes. Each check has a deadline, most run side by side, and all
 * together end within DOCTOR_BOUND_MS. No secret is part of any text.
 */
#ifndef DAGWARD_DOCTOR_DOCTOR_H
#define DAGWARD_DOCTOR_DOCTOR_H

#include "dagward/base/error.h"
#include "dagward/base/str.h"

enum { DOCTOR_BOUND_MS = 28 * 1000 };

enum doctor_part {
        DOCTOR_CONFIGURATION,
        DOCTOR_POLICY,
        DOCTOR_LISTENER,
        DOCTOR_ISSUER,
        DOCTOR_TOKEN,
        DOCTOR_CREDENTIAL,
        DOCTOR_UPSTREAM,
        DOCTOR_AUDIT,
        DOCTOR_SINK,
        DOCTOR_LIMITS,
};
enum { DOCTOR_PARTS = DOCTOR_LIMITS + 1 };
enum { DOCTOR_ALL_PARTS = (1u << DOCTOR_PARTS) - 1u };

enum doctor_level {
        DOCTOR_OK,
        DOCTOR_SKIPPED, /* not looked at, because of something else that is wrong */
        DOCTOR_WARNING,
        DOCTOR_PROBLEM,
};

/* One finding. Printable text on one line each. */
struct diagnosis {
        enum doctor_part part;
        unsigned order; /* of the subject in the configuration */
        enum doctor_level level;
        char subject[160]; /* "airflow", "0.0.0.0:8443", "" */
        char name[64];     /* "issuer-dns": stable, for programs; docs/doctor.md has them all */
        char found[512];
        char cause[640], remedy[640]; /* "" when the level is ok or skipped */
};

struct diagnoses {
        struct diagnosis *items; /* by part and subject, each in the order of the checks */
        size_t n, problems, warnings, skipped;
};

void diagnoses_init(struct diagnoses *list);
void diagnoses_clear(struct diagnoses *list);

struct doctor_request {
        const char *config;
        const char *token_file; /* a caller's token that is or would be refused; NULL: none */
        unsigned parts;         /* bits 1 << enum doctor_part */
};

/* Looks at everything that is asked for. False when the configuration cannot be used: then the list
 * holds all that is wrong with it. One thread runs this; it leaves others behind only when a name
 * service does not answer. */
bool doctor_run(const struct doctor_request *request, struct diagnoses *out);

/* "issuer"; for texts and --only. */
const char *doctor_part_name(enum doctor_part part);
bool doctor_part_named(struct str name, enum doctor_part *part);
/* "problem" */
const char *doctor_level_name(enum doctor_level level);

#endif
