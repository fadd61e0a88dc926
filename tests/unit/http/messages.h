/*
 * messages: raw requests from a file, and what this module reads in them.
 *
 * Shared by the unit test of the corpus and the differential test. A stream of bytes is read the
 * way a connection is: head, body, next head, until something is refused or the bytes end.
 */
#ifndef TESTS_HTTP_MESSAGES_H
#define TESTS_HTTP_MESSAGES_H

#include <stdio.h>
#include <stdlib.h>

#include "dagward/http/h1_body.h"
#include "dagward/http/target.h"

enum { MESSAGES_MAX = 24, MESSAGE_BYTES = 8192 };

/* One line of the file, unescaped. */
struct message_case {
        char name[96];
        char expect[16];
        char raw[MESSAGE_BYTES];
        size_t len;
};

static inline unsigned message_hex(const char *p)
{
        char digits[3] = {p[0], p[1], 0};

        return (unsigned)strtoul(digits, NULL, 16);
}

/* Reads the next case; false at the end. */
static inline bool message_next(FILE *file, struct message_case *message)
{
        static char line[4 * MESSAGE_BYTES + 256];

        do {
                if (!fgets(line, sizeof(line), file))
                        return false;
        } while (line[0] == '#' || line[0] == '\n');
        int at = 0;
        if (sscanf(line, "%95s %15s %n", message->name, message->expect, &at) != 2)
                abort();
        message->len = 0;
        for (const char *p = line + at; *p && *p != '\n'; p++) {
                char c = *p;
                if (c == '\\') {
                        c = *++p;
                        if (c == 'x') {
                                c = (char)message_hex(p + 1);
                                p += 2;
                        } else {
                                c = c == 'r' ? '\r' : c == 'n' ? '\n' : c == 's' ? ' ' : c;
                        }
                }
                message->raw[message->len++] = c;
                if (message->len == MESSAGE_BYTES)
                        abort();
        }
        return true;
}

/* One request as it was understood. */
struct seen {
        struct str method, target; /* views into the bytes */
        struct h1_field fields[H1_MAX_FIELDS];
        size_t n_fields;
        bool keep_alive;
        char body[MESSAGE_BYTES];
        size_t body_len;
        bool complete;
};

struct reading {
        struct seen seen[MESSAGES_MAX];
        size_t n;     /* requests whose head was accepted */
        bool refused; /* something was */
        size_t used;  /* bytes of the accepted part */
        struct h1_fault fault;
};

static inline size_t reading_body(struct reading *reading, struct seen *seen,
        const struct h1_request *request, const char *raw, size_t len)
{
        struct h1_body body;
        size_t used = 0;

        h1_body_init(&body, request->framing, request->content_length);
        while (!body.done && used < len) {
                struct str payload;
                ssize_t got =
                        h1_body_next(&body, raw + used, len - used, &payload, &reading->fault);
                if (got == H1_BAD) {
                        reading->refused = true;
                        return used;
                }
                memcpy(seen->body + seen->body_len, payload.ptr, payload.len);
                seen->body_len += payload.len;
                used += (size_t)got;
        }
        seen->complete = body.done;
        return used;
}

/* Reads all of a connection's bytes. */
static inline void reading_run(struct reading *reading, const char *raw, size_t len)
{
        static const struct h1_limits limits = {65536, 32768, 100};
        static struct h1_request request;
        struct target target;
        struct arena arena;

        reading->n = reading->used = 0;
        reading->refused = false;
        arena_init(&arena, 16384, 1 << 20);
        while (reading->used < len && !reading->refused && reading->n < MESSAGES_MAX) {
                size_t scanned = 0;
                ssize_t got = h1_parse_request(raw + reading->used, len - reading->used, &scanned,
                        &limits, &request, &reading->fault);
                reading->refused = got == H1_BAD;
                if (got <= 0)
                        break;
                arena_reset(&arena);
                reading->refused = !target_parse(
                        request.target, request.host, &arena, &target, &reading->fault);
                if (reading->refused)
                        break;
                struct seen *seen = &reading->seen[reading->n++];
                seen->method = request.method;
                seen->target = request.target;
                memcpy(seen->fields, request.fields, request.n_fields * sizeof(*seen->fields));
                seen->n_fields = request.n_fields;
                seen->keep_alive = request.keep_alive;
                seen->body_len = 0;
                seen->complete = false;
                reading->used += (size_t)got;
                reading->used += reading_body(
                        reading, seen, &request, raw + reading->used, len - reading->used);
                if (!seen->keep_alive)
                        break;
        }
        arena_clear(&arena);
}

#endif
