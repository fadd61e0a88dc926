/*
 * listener: a bound, listening TCP socket of one worker, or a Unix socket of a process.
 *
 * Every worker binds its own with SO_REUSEPORT; the kernel spreads connections. Addresses are
 * numeric `ip:port` or `[ip6]:port`, or `localhost:port`.
 */
#ifndef DAGWARD_NET_LISTENER_H
#define DAGWARD_NET_LISTENER_H

#include <sys/socket.h>

#include "dagward/base/error.h"

/* The descriptor (non-blocking, close-on-exec), or -1 with a reason. `reuse_port`: several threads
 * will listen on it. */
int listener_open(const char *address, bool reuse_port, struct error *err);
/* Whether the address can be had by one that shares it with nobody; false with a reason. To be
 * asked before the first of several listeners is opened: SO_REUSEPORT alone lets other processes
 * in. */
bool listener_is_free(const char *address, struct error *err);
enum { LISTENER_PEER = 48 }; /* holds INET6_ADDRSTRLEN, which is 46 */
/* Takes one waiting connection: the descriptor (non-blocking, no delay), or -1 when none waits or
 * descriptors have run out (errno tells). `peer` gets the numeric address, without port. */
int listener_accept(int fd, char peer[LISTENER_PEER]);
/* Where it listens, as `ip:port` or `[ip6]:port`: the port that the kernel chose for port 0. */
enum { LISTENER_TEXT = 80 };
void listener_text(int fd, char text[LISTENER_TEXT]);
/* Numeric text of a socket address, without port. */
void listener_peer_text(const struct sockaddr *address, socklen_t len, char peer[LISTENER_PEER]);

/* The descriptor of a Unix socket of that type (non-blocking, close-on-exec) at the path, for this
 * user alone, or -1 with a reason. What a process that is gone left there is removed; where one
 * still listens, nothing is. */
int listener_open_local(const char *path, int type, int backlog, struct error *err);

#endif
