/*
 * log: what operators read on stderr, one `time level key=value ...` line each.
 *
 * Four words. Never a token, a secret, a query or a body; the audit log is another thing. Safe from
 * any thread: a line is one write(2).
 */
#ifndef DAGWARD_BASE_LOG_H
#define DAGWARD_BASE_LOG_H

#include <stdbool.h>

/* NONE is for commands whose output says everything itself. */
enum log_level { LOG_LEVEL_NONE = -1, LOG_LEVEL_ERROR, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Default: info, to stderr. */
void log_set_level(enum log_level level);
/* For what must go on when nobody reads stderr (a pipe that is full, a log service that hangs):
 * from now on a line that there is no room for is left out, and the next one that there is room for
 * says how many were. */
void log_wait_for_nobody(void);
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* log_error with the text of errno behind it; keeps errno. */
void log_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
