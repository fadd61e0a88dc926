/*
 * audit_files: lines of audit logs, from plain files, gzip files (whatever their name) and standard
 * input.
 *
 * Offsets are those of the text: of a gzip file, of what it unfolds to. Nothing is ever written
 * to a log.
 */
#ifndef DAGWARD_PROXY_AUDIT_FILES_H
#define DAGWARD_PROXY_AUDIT_FILES_H

#include <sys/stat.h>

#include "dagward/base/str.h"

struct gzFile_s;

struct audit_file {
        const char *name; /* for messages; the caller's */
        struct gzFile_s *gz;
        struct stat info; /* when it was opened */
        bool plain;       /* neither gzip nor a pipe: seeking costs nothing */
        char *chunk;
        size_t at, len;    /* what of it was not handed out yet */
        uint64_t offset;   /* of the byte at `at` */
        uint64_t line_at;  /* where the last line began */
        uint64_t number;   /* of the last line, counted from the last seek */
        uint64_t too_long; /* lines that were passed over: none of ours is so long */
        bool end, torn;    /* torn: the last line has no newline */
        char why[120];     /* reading failed; else "" */
};

/* For reading; -1 with errno. A FIFO that stands among files is refused: its other end would keep
 * who opens it waiting for ever. One of /dev or /proc is a pipe that somebody meant. */
int audit_open(const char *name);
/* Why that failed, for people. */
const char *audit_why(void);
/* A name of a file, or a text with one, as a terminal may have it: whoever can make a file can give
 * it any name. Good until the fourth call after it. */
const char *audit_shown(const char *text);
/* `-` is standard input. False with errno. Close it in the end. */
bool audit_file_open(struct audit_file *file, const char *name) __attribute__((warn_unused_result));
/* The same for a descriptor, which it takes over. */
bool audit_file_open_fd(struct audit_file *file, const char *name, int fd)
        __attribute__((warn_unused_result));
/* The next line without its newline, good until the next call; false at the end, and when reading
 * failed (`why`). */
bool audit_file_line(struct audit_file *file, struct str *line) __attribute__((warn_unused_result));
/* Goes to the first line that begins at `offset` or behind it. */
bool audit_file_seek(struct audit_file *file, uint64_t offset) __attribute__((warn_unused_result));
void audit_file_close(struct audit_file *file);

/* Puts files in the order of the seq of their first record; those without one stay in front. */
void audit_files_sort(const char **names, size_t n);

/* Leaves out of `names` what stands beside a log of that name among them and is none: its key,
 * positions of sinks, what was torn off (`audit.jsonl*` names these as well). Tells of it on
 * standard error; the number of names that are left. Tells also of a log that is there plain and
 * packed, which both stay: which of them is the one that was meant, only the caller knows. */
size_t audit_files_logs(const char *command, char **names, size_t n);

/* Prints to standard error and is 2, for `return audit_complain("trace", ...)`. */
int audit_complain(const char *command, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
/* Why reading `file` ended early, to standard error. */
void audit_file_complain(const char *command, const struct audit_file *file);

#endif
