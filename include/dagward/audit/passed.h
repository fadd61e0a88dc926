/*
 * passed: the records of a process that ends, as the process receives them that has taken its file
 * over (scribe_hand_over). Blocking; the caller's thread has nothing else to do.
 */
#ifndef DAGWARD_AUDIT_PASSED_H
#define DAGWARD_AUDIT_PASSED_H

#include "dagward/audit/scribe.h"

/* Waits until the other process has let go of the file; false: it never will, or has not within
 * `limit_ms`. */
bool passed_wait_released(int fd, int64_t limit_ms) __attribute__((warn_unused_result));
/* Reads the next batch into one that is empty; false: there will be none any more, or what came is
 * none. */
bool passed_read(int fd, struct audit_batch *batch) __attribute__((warn_unused_result));
/* Says what came of it; false when nobody is there to hear. */
bool passed_answer(int fd, bool ok) __attribute__((warn_unused_result));

#endif
