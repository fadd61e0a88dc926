/*
 * What the parts of `dagward audit` share: audit.c names them, each has a file of its own.
 */
#ifndef DAGWARD_AUDIT_H
#define DAGWARD_AUDIT_H

#include <getopt.h>
#include <stdbool.h>

#define AUDIT_FILE "/var/log/dagward/audit.jsonl"

enum { AUDIT_LETTERS = 128 };

/* The options of one subcommand, which it takes one by one. */
struct audit_options {
        const char *shorts;
        const struct option *longs; /* their `val` are letters */
        const char *repeatable;     /* the letters that may be given more than once */
        bool seen[AUDIT_LETTERS];
};

/* As getopt_long does, the next option's letter, -1 behind the last, and '?' for one that is not
 * taken or given twice, of which it has told: nothing that somebody gave is passed over. */
int audit_option(struct audit_options *options, int argc, char **argv);

/* Prints what all of `dagward audit` takes; it is 0. */
int audit_help(void);
/* Both print to standard error and are 2, for `return audit_usage(...)`. */
int audit_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* With the text of errno. */
int audit_unreadable(const char *file);

/* The arguments behind `dagward audit`, argv[0] being the word. The exit status. */
int audit_verify(int argc, char **argv);
int audit_show(int argc, char **argv);

#endif
