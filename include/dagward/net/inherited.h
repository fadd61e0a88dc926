/*
 * inherited: listening sockets that whoever started this process has opened for it.
 *
 * A service manager that keeps the sockets never refuses a connection while the program is
 * restarted: who connects meanwhile waits in the kernel's queue (sd_listen_fds(3),
 * systemd.socket(5)). A socket is matched to a configured address by the address it is bound to,
 * exactly.
 */
#ifndef DAGWARD_NET_INHERITED_H
#define DAGWARD_NET_INHERITED_H

#include <sys/socket.h>

#include "dagward/base/error.h"

enum { INHERITED_MOST = 250 };

struct inherited_socket {
        int fd;
        char name[64];    /* FileDescriptorName=, perhaps cut; for people */
        char address[64]; /* numeric, with port; for people */
        struct sockaddr_storage bound;
        bool used;
};

/* Of one address, for one worker: it may be the only one, after many. */
enum { INHERITED_SHARE = INHERITED_MOST };

/* All zeros: none. */
struct inherited {
        struct inherited_socket sockets[INHERITED_MOST];
        size_t n;
        bool handed_over; /* of a process that is replaced: what is not among them may be bound,
                             what is not wanted any more is closed */
};

/* Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES and takes them out of the environment; n is 0
 * when there are none or they are meant for another process. The sockets become non-blocking and
 * close-on-exec. False with a reason: a number that is none, or a descriptor that is no listening
 * TCP socket. To be called before anything else opens descriptors. */
bool inherited_read(struct inherited *out, struct error *err) __attribute__((warn_unused_result));
/* One more, as inherited_read would; its name is for people. */
bool inherited_add(struct inherited *out, int fd, const char *name, struct error *err)
        __attribute__((warn_unused_result));
/* Descriptors of the caller's own for user `number` of `of` of that address: so that each socket
 * has a user, and each user a socket, of which several then have the same. How many (at most
 * INHERITED_SHARE); 0: there is no socket for it. */
size_t inherited_take(struct inherited *from, const struct sockaddr *address, unsigned number,
        unsigned of, int fds[INHERITED_SHARE]);
/* Everybody has taken theirs: closes what is held here. False with a reason when one was nobody's.
 */
bool inherited_end(struct inherited *from, struct error *err) __attribute__((warn_unused_result));
/* All addresses that there are sockets for, for a message. */
void inherited_list(const struct inherited *from, char *out, size_t size);

#endif
