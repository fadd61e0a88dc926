/*
 * clock: the two clocks, and how a time is written.
 *
 * Wall time (`_wall_`) is for people and for token claims; monotonic time for durations and
 * deadlines. Both in milliseconds as int64_t.
 */
#ifndef DAGWARD_BASE_CLOCK_H
#define DAGWARD_BASE_CLOCK_H

#include "dagward/base/str.h"

enum { CLOCK_RFC3339_LEN = 24 }; /* 2026-11-23T09:12:33.123Z */

int64_t clock_wall_ms(void);
int64_t clock_mono_ms(void);
/* Microseconds of the monotonic clock, for measuring. */
int64_t clock_mono_us(void);
/* Microseconds for which this thread has run: not those in which others had the processor. */
int64_t clock_thread_us(void);
/* Wall time as it was when the program began, and monotonic time since: for ages of what has a wall
 * time and must not grow old, or young, because somebody sets the clock. */
int64_t clock_steady_ms(void);
/* RFC 3339, UTC, milliseconds; writes CLOCK_RFC3339_LEN bytes and a NUL. Years 1970 to 9999. */
void clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_LEN + 1]);
/* Reads `2026-11-23`, or date and time with `Z` or an offset; false if it is neither. */
bool clock_parse(struct str text, int64_t *wall_ms);

#endif
