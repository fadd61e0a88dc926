/*
 * server: a small HTTP/1.1 server for programs that pretend to be somebody else.
 *
 * One thread for each connection, blocking sockets, loopback only, no pipelining ahead. Reads with
 * the strict parsers of dagward/http, so what a test sends wrongly is noticed here. Made for demos
 * and tests: at most EMU_MAX_CONNECTIONS at a time (more are answered 503), everything bounded.
 * Ignores SIGPIPE for the whole process.
 *
 * A handler runs in the connection's thread, reads the body if it wants it, and answers exactly
 * once: emu_reply, or emu_reply_begin / emu_write / emu_reply_end, or emu_drop.
 */
#ifndef DAGWARD_EMBEDDED_SERVER_H
#define DAGWARD_EMBEDDED_SERVER_H

#include <openssl/ssl.h>

#include "dagward/base/arena.h"
#include "dagward/base/buf.h"
#include "dagward/base/error.h"
#include "dagward/http/h1_body.h"
#include "dagward/http/h1_parse.h"
#include "dagward/http/target.h"

enum { EMU_MAX_CONNECTIONS = 256, EMU_IDLE_S = 120 };

struct emu_connection;
struct emu_server;

struct emu_request {
        struct h1_request head; /* views are good until the handler returns */
        struct target target;
        struct arena *arena; /* for the handler; forgotten when it returns */
        bool tls;
        struct emu_connection *connection; /* private to server.c */
};

typedef void emu_handler(struct emu_request *request, void *arg);

/* Listens on 127.0.0.1:port (0: any) and serves until emu_stop. `tls` (may be NULL) is referenced.
 * NULL with `err` when the port cannot be had. */
struct emu_server *emu_listen(
        uint16_t port, SSL_CTX *tls, emu_handler *handle, void *arg, struct error *err);
uint16_t emu_port(const struct emu_server *server);
/* Shuts every connection, waits for its thread, frees `server` (may be NULL). */
void emu_stop(struct emu_server *server);
/* Whether emu_stop was called: a handler that waits has to give up. */
bool emu_stopping(const struct emu_request *request);
/* Waits; false when the server stops meanwhile. */
bool emu_wait_ms(const struct emu_request *request, int64_t ms);

/* Up to `most` bytes of the body without its framing; 0 at its end, -1 when it is broken or the
 * client is gone. Sends 100 Continue first if the client waits for it. */
ssize_t emu_body_read(struct emu_request *request, char *out, size_t most);
/* The whole body into `out` (initialized here; the caller clears it also on failure); false when it
 * is longer than `most` or broken. */
bool emu_body_all(struct emu_request *request, size_t most, struct buf *out);
/* Reads and forgets the rest of the body, whatever its length; returns how much that was. */
uint64_t emu_body_discard(struct emu_request *request);

/* Adds a field to the answer that has not begun yet. A value that is no valid one is left out. */
void emu_header(struct emu_request *request, struct str name, struct str value);
/* A whole answer. `type` NULL: none. The body is left out for HEAD, 204 and 304. */
void emu_reply(struct emu_request *request, int status, const char *type, struct str body);
/* Begins an answer of unknown length; false when the client is gone. */
bool emu_reply_begin(struct emu_request *request, int status, const char *type);
/* Begins an answer of `length` bytes. */
bool emu_reply_begin_length(
        struct emu_request *request, int status, const char *type, uint64_t length);
/* Sends a part of the body now; false when the client is gone. */
bool emu_write(struct emu_request *request, struct str part);
/* Ends an answer that was begun. */
void emu_reply_end(struct emu_request *request);
/* Whatever is answered is not sent, and the connection is closed instead. */
void emu_lose(struct emu_request *request);
/* Closes the connection as it is: no answer, or half of one. */
void emu_drop(struct emu_request *request);

#endif
