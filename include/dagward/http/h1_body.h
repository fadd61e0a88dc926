/*
 * h1_body: where a body's bytes are, whatever frames them.
 *
 * A body is fed the bytes as they come and names the payload in them as views; it keeps none of
 * it. Chunks are read strictly (RFC 9112 7.1): 1 to 16 hex digits, no blanks, CRLF exactly. Chunk
 * extensions and trailers are checked, bounded, and dropped: they mean nothing to a proxy that
 * frames anew. A trailer that would frame or route the message is refused (RFC 9110 6.5.1).
 */
#ifndef DAGWARD_HTTP_H1_BODY_H
#define DAGWARD_HTTP_H1_BODY_H

#include "dagward/http/h1_parse.h"

enum {
        H1_MAX_EXTENSION = 256,   /* bytes behind one chunk size */
        H1_MAX_EXTENSIONS = 4096, /* bytes behind all chunk sizes of a body */
        H1_MAX_TRAILERS = 8192    /* bytes of the trailer section */
};

enum h1_body_state {
        BODY_LENGTH,
        BODY_UNTIL_CLOSE,
        BODY_SIZE_FIRST,
        BODY_SIZE,
        BODY_EXTENSION,
        BODY_EXTENSION_NAME,
        BODY_EXTENSION_EQUALS,
        BODY_EXTENSION_VALUE,
        BODY_EXTENSION_QUOTED,
        BODY_EXTENSION_ESCAPED,
        BODY_EXTENSION_UNQUOTED,
        BODY_SIZE_LF,
        BODY_DATA,
        BODY_DATA_CR,
        BODY_DATA_LF,
        BODY_TRAILER_START,
        BODY_TRAILER_NAME,
        BODY_TRAILER_VALUE,
        BODY_TRAILER_LF,
        BODY_END_LF,
        BODY_DONE,
        BODY_BAD
};

struct h1_body {
        uint64_t payload_bytes; /* named so far */
        uint64_t wire_bytes;    /* consumed so far, framing included */
        uint64_t left;          /* of the length, or of the chunk */
        enum h1_body_state state;
        unsigned digits;         /* of the chunk size being read */
        unsigned line_extension; /* bytes behind the size being read */
        unsigned extensions;     /* bytes behind all sizes */
        unsigned trailers;       /* bytes of the trailer section */
        unsigned trailer_name;   /* bytes of the name being read */
        char name[24];           /* its first bytes */
        bool done;               /* no byte behind this one belongs to the body */
        struct h1_fault fault;
};

/* Begins a body. H1_NO_BODY and a length of 0 are done at once. */
void h1_body_init(struct h1_body *body, enum h1_framing framing, uint64_t length);

/*
 * Reads on at data[0..len). Returns the bytes consumed, all framing or framing and then payload;
 * `payload` is the payload's view into `data`, maybe empty. Call again with what is left until it
 * is empty or body->done: at least one byte is consumed by each call with len > 0 before that.
 * H1_BAD when the framing is broken; `fault` is filled (400, or 413 and 431 for the bounds; offset
 * from the body's first byte) and every later call says the same. A body that is done consumes
 * nothing.
 */
ssize_t h1_body_next(struct h1_body *body, const char *data, size_t len, struct str *payload,
        struct h1_fault *fault) __attribute__((warn_unused_result));

/* The connection has ended: true if the body was complete, which makes an H1_UNTIL_CLOSE done. */
bool h1_body_close(struct h1_body *body) __attribute__((warn_unused_result));

#endif
