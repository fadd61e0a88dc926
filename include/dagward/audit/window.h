/*
 * window: a file looked at through a mapping, a piece at a time, where copying its bytes
 * would cost as much as hashing them.
 *
 * A file that another program cuts short meanwhile, or whose disk fails, raises SIGBUS under such a
 * mapping. Here it becomes an error: the piece turns into zeros, and the call that looked says why.
 * For one thread, and one file at a time.
 */
#ifndef DAGWARD_AUDIT_WINDOW_H
#define DAGWARD_AUDIT_WINDOW_H

#include <stdbool.h>
#include <stddef.h>

/* Hands on all bytes of the regular file, in order, also what is appended meanwhile. False with
 * errno: EFBIG, and nothing was handed on, when it cannot be mapped and has to be read; ESTALE when
 * it became shorter meanwhile, EIO when its bytes cannot be had: zeros may have been handed on. */
bool window_feed(int fd, void (*take)(void *owner, const char *bytes, size_t len), void *owner)
        __attribute__((warn_unused_result));

#endif
