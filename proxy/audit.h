/*
 * What the parts of `dagward audit` share: audit.c names them, each has a file of its own.
 */
#ifndef DAGWARD_AUDIT_H
#define DAGWARD_AUDIT_H

#define AUDIT_FILE "/var/log/dagward/audit.jsonl"

/* Both print to standard error and are 2, for `return audit_usage(...)`. */
int audit_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* With the text of errno. */
int audit_unreadable(const char *file);

/* The arguments behind `dagward audit`, argv[0] being the word. The exit status. */
int audit_verify(int argc, char **argv);
int audit_show(int argc, char **argv);

#endif
