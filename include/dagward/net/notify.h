/*
 * notify: what a service manager is told of the process (sd_notify(3)), one datagram each.
 *
 * Without NOTIFY_SOCKET nothing is sent and nothing fails.
 */
#ifndef DAGWARD_NET_NOTIFY_H
#define DAGWARD_NET_NOTIFY_H

#include <stdint.h>

#include "dagward/base/error.h"

struct notifier {
        int fd;              /* connected; -1: nobody wants to know */
        int64_t watchdog_ms; /* how long the process may be silent; 0: as long as it likes */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, takes them out of the environment and
 * connects, which a confined process could not any more. What cannot be used is logged. */
void notifier_open(struct notifier *out);
/* Sends assignments, one a line; values hold no newline. Waits a second at most; what cannot be
 * sent is lost, as with a manager that is gone. NULL is nobody. */
void notifier_say(const struct notifier *notifier, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
void notifier_close(struct notifier *notifier);

#endif
