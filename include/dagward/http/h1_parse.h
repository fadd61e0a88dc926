/*
 * h1_parse: the head of an HTTP/1 message, strictly.
 *
 * One grammar, RFC 9112 read narrowly: what another parser might read differently is refused, with
 * the rule and the byte. No allocation, no callbacks; every view points into the bytes given.
 * Knows nothing of connections: the caller keeps the bytes and asks again when there are more.
 *
 * Refused besides malformed bytes: bare LF or CR, folding, a name that is no token, blanks before
 * a colon, controls other than tab in a value, versions other than 1.0 and 1.1, methods other than
 * GET HEAD POST PUT PATCH DELETE OPTIONS, asterisk and authority targets, no Host or two, any two
 * framing fields, Transfer-Encoding other than one `chunked`, Upgrade. Up to two empty lines before
 * a request line are skipped (RFC 9112 2.2).
 */
#ifndef DAGWARD_HTTP_H1_PARSE_H
#define DAGWARD_HTTP_H1_PARSE_H

#include "dagward/http/fault.h"
#include "dagward/http/headers.h"

enum {
        H1_MAX_FIELDS = 128,
        H1_MAX_METHOD = 20,           /* bytes */
        H1_MAX_TARGET = 16384,        /* bytes */
        H1_DEFAULT_HEAD_BYTES = 65536 /* request or response head */
};

/* Results that are not a count of bytes. */
enum { H1_AGAIN = -1, H1_BAD = -2 };

enum h1_framing {
        H1_NO_BODY,    /* no framing field, or an answer that never has a body */
        H1_LENGTH,     /* content_length bytes, also 0 */
        H1_CHUNKED,    /* Transfer-Encoding: chunked */
        H1_UNTIL_CLOSE /* responses only: ends with the connection */
};

struct h1_limits {
        size_t head_bytes;  /* whole head with its empty line */
        size_t field_bytes; /* one field line without its CRLF */
        size_t fields;      /* at most H1_MAX_FIELDS */
};

struct h1_request {
        struct str method;
        struct str target; /* as sent; origin-form or absolute-form; target_parse judges it */
        struct str host;   /* value of Host; empty when an HTTP/1.0 request has none */
        int minor;         /* HTTP/1.minor: 0 or 1 */
        struct h1_field fields[H1_MAX_FIELDS];
        size_t n_fields;
        enum h1_framing framing;
        uint64_t content_length; /* H1_LENGTH only, else 0 */
        bool keep_alive;
        bool expect_continue;       /* the client waits for 100 before it sends its body */
        size_t head_bytes;          /* what the parser consumed */
        short first[H1_NAME_COUNT]; /* index of the first field of that name, or -1 */
};

struct h1_response {
        int minor;
        int status;        /* 100 to 599 */
        struct str reason; /* may be empty */
        struct h1_field fields[H1_MAX_FIELDS];
        size_t n_fields;
        enum h1_framing framing;
        /* H1_LENGTH: bytes of the body. H1_NO_BODY: what Content-Length says of the answer to a
         * HEAD, or of a 304; has_length tells whether it says anything. */
        uint64_t content_length;
        bool has_length;
        bool keep_alive; /* false whenever framing is H1_UNTIL_CLOSE */
        size_t head_bytes;
        short first[H1_NAME_COUNT];
};

/*
 * Parses a request head at data[0..len). Returns the bytes consumed (body or next request follow),
 * H1_AGAIN when it is not complete: call again with the same bytes and more, which may have moved;
 * or H1_BAD with `fault` filled, its offset counted from `data`.
 *
 * `*scanned` is 0 at the first call for a head and else left alone by the caller: it keeps the
 * work linear in the bytes (each new line costs one more look at the head so far, and lines are
 * limited). What is said of a head does not depend on how its bytes were cut; in a line that is
 * not complete yet, a fault may be noticed only when its end has come, or the limit. `request`
 * means something only after success, and while the bytes stay where they are.
 */
ssize_t h1_parse_request(const char *data, size_t len, size_t *scanned,
        const struct h1_limits *limits, struct h1_request *request, struct h1_fault *fault)
        __attribute__((warn_unused_result));

/*
 * Parses a response head to a request of `request_method`; otherwise as h1_parse_request, as
 * strict. 1xx is returned as any status with H1_NO_BODY: the caller skips it and parses on behind
 * (with *scanned = 0 again); 101 is a fault, nothing asked for it. 204, 304 and answers to HEAD
 * have no body. Without a framing field the body is H1_UNTIL_CLOSE (RFC 9112 6.3). Two framing
 * fields are a fault even when they agree. Every fault's status is 502.
 */
ssize_t h1_parse_response(const char *data, size_t len, size_t *scanned,
        const struct h1_limits *limits, struct str request_method, struct h1_response *response,
        struct h1_fault *fault) __attribute__((warn_unused_result));

/* Value of the first field of that name, or STR_NONE (ptr NULL). */
struct str h1_field_value(const struct h1_request *request, enum h1_name id);
struct str h1_response_value(const struct h1_response *response, enum h1_name id);

/* Writes up to `most` values of that name in order; returns how many fields there are. */
size_t h1_field_values(
        const struct h1_request *request, enum h1_name id, struct str *values, size_t most);

/* Whether a Connection field names `name`, case ignored: it goes no further (RFC 9110 7.6.1). */
bool h1_connection_names(const struct h1_request *request, struct str name);
bool h1_response_connection_names(const struct h1_response *response, struct str name);

/* Whether `value` is a valid Host: a registered name, IPv4 or [IPv6], and an optional port
 * (RFC 9110 7.2, RFC 3986 3.2.2); percent escapes and user information are not valid here. */
bool h1_host_ok(struct str value);
/* Whether a Host is this machine for whoever says it: localhost, 127.0.0.0/8 or [::1], and an
 * optional port. */
bool h1_host_is_loopback(struct str value);

#endif
