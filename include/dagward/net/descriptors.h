/*
 * descriptors: short texts with descriptors beside them, between two processes of one machine.
 *
 * Over a SOCK_SEQPACKET socket with a path (unix(7), SCM_RIGHTS); one text is one message.
 */
#ifndef DAGWARD_NET_DESCRIPTORS_H
#define DAGWARD_NET_DESCRIPTORS_H

#include <stddef.h>
#include <stdint.h>

#include "dagward/base/error.h"

enum { DESCRIPTORS_MOST = 253, DESCRIPTORS_TEXT = 512 }; /* of the first, unix(7) allows no more */

/* Sends the text and `n` descriptors, which stay the caller's; false: nobody is there. */
bool descriptors_send(int fd, const char *text, const int *fds, size_t n)
        __attribute__((warn_unused_result));
/* Waits for a message; `text` (DESCRIPTORS_TEXT) ends in NUL, `fds` (DESCRIPTORS_MOST, or NULL:
 * what comes is closed) are the caller's, close-on-exec. False: nobody is there any more. */
bool descriptors_receive(int fd, char *text, int *fds, size_t *n)
        __attribute__((warn_unused_result));
/* Connects; -1 with errno: ENOENT or ECONNREFUSED when nobody listens there, EAGAIN when who does
 * has not answered others for `limit_ms`. */
int descriptors_connect(const char *path, int64_t limit_ms);
/* Listens, for this user alone; what a process that is gone left there is removed. -1 with a
 * reason. */
int descriptors_listen(const char *path, struct error *err);

#endif
