/*
 * handover: gives this process' place to a new one. Private to control; control.h says what
 * happens.
 *
 *      the new one     TAKE version      it wants what this one has
 *      this one        SOCKETS kinds     with the descriptors: L listens, A is the admin's, H is
 *                                        where this was asked
 *      the new one     READY             keys and credentials are at hand
 *      this one        GO                with the ends of two channels, for records and triggers
 *      the new one     SERVING           and this one drains
 *
 * Either may say NO and why, or end: then this one goes on, with what it has given taken back.
 */
#ifndef DAGWARD_CONTROL_HANDOVER_H
#define DAGWARD_CONTROL_HANDOVER_H

#include "dagward/control/control.h"

struct handover;

/* Whether a new process has the sockets and gets ready, to serve or to fail within
 * `timeouts.handover`; its PID. */
bool handover_is_under_way(const struct handover *handover, pid_t *pid);
struct handover *handover_new(
        struct control *control, int fd, const struct control_handover_hooks *hooks);
/* Harmless on NULL. */
void handover_free(struct handover *handover);

#endif
