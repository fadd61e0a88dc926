/*
 * tour: `dagward demo`, the narrated walk through what Dagward does.
 *
 * The issuer, the Azure DevOps emulator and the proxy run as child processes of the same binary,
 * started as anybody would start them; the tour is only a client of theirs that talks. Each step
 * shows a request, its answer and the audit records it left, and checks all three.
 */
#ifndef DAGWARD_EMBEDDED_TOUR_H
#define DAGWARD_EMBEDDED_TOUR_H

#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

#include "dagward/base/arena.h"
#include "dagward/base/buf.h"
#include "dagward/base/error.h"

enum { TOUR_STEPS = 9, TOUR_COLUMNS = 100, TOUR_RECORDS_MOST = 32 };

/* A program that runs beside the tour. `log` gets its standard output and error. */
struct tour_child {
        const char *name;
        const char *log;
        pid_t pid; /* 0: does not run */
};

struct tour {
        struct arena arena; /* holds every string here */
        struct error err;
        bool once, colour;
        bool kept; /* the folder is the user's and stays */
        uint16_t port, admin_port;
        const char *program; /* how to type this binary */
        const char *folder;  /* configuration, tokens, audit file, clone; mode 0700 */
        const char *audit_file;
        struct tour_child issuer, emulator, proxy;
        const char *issuer_url, *emulator_url, *proxy_url; /* without slash at the end */
        const char *token, *expired;                       /* compact JWTs of the worker */
        long long run_id;                                  /* of the run that step 2 started */
        const char *refused_correlation;                   /* of the run that step 4 asked for */
        unsigned step, good;
        bool step_bad;
        struct buf passed; /* what held in this step, for its last line */
};

/* Ctrl-C, SIGTERM or SIGHUP came, or nobody reads the output any more. */
bool tour_stopped(void);

/* --- tour_process.c: programs and files --- */

/* Installs what tour_stopped looks at. */
void tour_catch_signals(void);
/* Makes the folder: `keep` (created, or empty already), or a temporary one. False: t->err. */
bool tour_folder_make(struct tour *t, const char *keep);
/* Removes the folder and all in it, unless it is kept. */
void tour_folder_remove(struct tour *t);
/* `name` in the tour's folder. */
const char *tour_path(struct tour *t, const char *name);
/* Writes a file of the folder with `mode`. False: t->err. */
bool tour_write(struct tour *t, const char *name, struct str text, unsigned mode);
/* Reads a whole file, at most 16 MiB; false if it cannot be read. `out` is initialized here. */
bool tour_read(const char *path, struct buf *out);
/* Starts this binary with `argv` (NULL-terminated; argv[0] is replaced). False: t->err. */
bool tour_start(struct tour *t, struct tour_child *child, const char *const *argv);
/* Waits for the child's line `READY url` and stores the url. False: t->err. */
bool tour_ready(struct tour *t, struct tour_child *child, const char **url);
/* Whether the child is there; when it is not, t->err says how it ended and what it said last. */
bool tour_alive(struct tour *t, struct tour_child *child);
/* SIGTERM to all children, up to 5 s, SIGKILL. */
void tour_stop_children(struct tour *t);
/* Runs a program to its end, standard output and error to `out` (initialized here); at most 30 s.
 * `argv[0]` NULL means this binary; `folder` may be NULL. Returns its exit status, 128 + signal, or
 * -1 when it could not be run or was stopped. */
int tour_run(struct tour *t, const char *folder, const char *const *argv, struct buf *out);
/* A port of loopback that nobody has, or 0. With `wanted`: that one, or 0. */
uint16_t tour_free_port(uint16_t wanted);

/* --- tour_http.c: one request --- */

struct tour_call {
        const char *method, *url;
        const char *user_password;  /* Basic, or NULL */
        const char *bearer;         /* or NULL */
        const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
        const char *body;           /* or NULL */
};

struct tour_answer {
        int status;              /* 0: no answer, `line` says why */
        const char *line;        /* status line without line end */
        const char *correlation; /* X-Correlation-Id, or "" */
        struct str body;
        json_t *json; /* the body, if it is JSON; tour_answer_clear releases it */
};

/* Calls and waits at most 15 s. Strings live in the tour's arena. */
void tour_call(struct tour *t, const struct tour_call *call, struct tour_answer *answer);
void tour_answer_clear(struct tour_answer *answer);
/* What the emulator received with this correlation ID: how many requests; `first` (borrowed from
 * `*all`, which the caller releases) is one of them or NULL. -1 when the emulator does not answer.
 */
int tour_upstream_saw(struct tour *t, const char *correlation, json_t **all, json_t **first);
/* A header of a recorded request, letter case ignored; "" when it is not there. */
const char *tour_recorded_header(const json_t *request, const char *name);

/* --- tour_report.c: what people see --- */

void report_title(struct tour *t, const char *text);
/* A paragraph, wrapped. */
void report_prose(struct tour *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line in the block `label`, the label only when it is not NULL; long ones are wrapped. */
void report_line(struct tour *t, const char *label, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* A shell command; each line end in it becomes a backslash and a new line. */
void report_command(struct tour *t, const char *label, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* A whole command to paste, never wrapped, under a comment. */
void report_paste(struct tour *t, const char *comment, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* Status line, and the members of a JSON body that `members` names (NULL-terminated; `a.b` goes
 * down). */
void report_answer(struct tour *t, const struct tour_answer *answer, const char *const *members);
/* Text of another program, line by line, at most `most` lines. */
void report_output(struct tour *t, const char *label, struct str text, size_t most);
/* The audit records in readable lines: one line for each, and all of the last outcome. `saw`: how
 * many requests upstream received with this correlation ID, -1 when it cannot be told. */
void report_records(struct tour *t, json_t *const *records, size_t n, int saw);
void report_gap(struct tour *t);
/* "eyJhbGciOi…Qk3w". */
const char *report_short(struct tour *t, const char *token);

void step_begin(struct tour *t, const char *title);
/* `what` is a short phrase that is true when all is well; the format says what was found instead.
 */
void step_check(struct tour *t, bool good, const char *what, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
void step_end(struct tour *t);
/* How many steps went as they should. */
void report_summary(struct tour *t);

/* --- tour_records.c: the audit file as a reader sees it --- */

/* The records with this correlation ID, oldest first, once `outcomes` outcomes are there and no
 * more come (up to 2 s). The caller releases them with records_clear. */
size_t records_find(struct tour *t, const char *correlation, size_t outcomes,
        json_t *records[TOUR_RECORDS_MOST]);
void records_clear(json_t **records, size_t n);
/* Text at a path such as "decision.effect", "" when there is none. */
const char *record_text(const json_t *record, const char *path);
/* The newest outcome among the records, or NULL. */
json_t *records_outcome(json_t *const *records, size_t n);
/* The number of the first line that holds all of the texts (1-based), and where it begins; 0: none.
 */
size_t records_line(struct str file, const char *const *texts, size_t *offset, size_t *len);

/* --- tour_world.c: the configuration, and the three programs --- */

/* Starts issuer, emulator and proxy and gets the caller's tokens. False: t->err. */
bool tour_world_start(struct tour *t);

/* --- tour_steps.c, tour_git.c --- */

void tour_walk(struct tour *t);
void step_clone(struct tour *t);
void step_push(struct tour *t);
void step_audit(struct tour *t);

#endif
