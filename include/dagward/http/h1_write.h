/*
 * h1_write: the head of an HTTP/1.1 message, composed from parts.
 *
 * Writes into a struct buf; the caller checks buf.overflow once at the end. A name or value that
 * could end its line is a programmer's mistake here (assertion): ask h1_value_ok before handing
 * over what came from outside and did not come through a parser of this module.
 */
#ifndef DAGWARD_HTTP_H1_WRITE_H
#define DAGWARD_HTTP_H1_WRITE_H

#include "dagward/base/buf.h"
#include "dagward/http/h1_parse.h"
#include "dagward/http/target.h"

/* "GET /a?b=c HTTP/1.1": the target in its canonical form. */
void h1_write_request_line(struct buf *buf, struct str method, const struct target *target);
/* The same with a target that is written already: it must begin with `/` and hold no blank. */
void h1_write_request_line_text(struct buf *buf, struct str method, struct str target);
/* "HTTP/1.1 403 reason"; an empty reason becomes h1_reason(status). Bytes of a reason that may not
 * stand there are left out. */
void h1_write_status_line(struct buf *buf, int status, struct str reason);
/* "Name: value". */
void h1_write_field(struct buf *buf, struct str name, struct str value);
void h1_write_field_u64(struct buf *buf, struct str name, uint64_t value);
/* The framing field: Content-Length, Transfer-Encoding, or nothing. */
void h1_write_framing(struct buf *buf, enum h1_framing framing, uint64_t length);
/* The empty line. */
void h1_write_end(struct buf *buf);

/* "1f4\r\n" for payload_len > 0; returns its length. CRLF belongs behind the payload. */
size_t h1_chunk_head(char out[20], size_t payload_len);
/* What stands behind the last payload byte of a chunk, and behind the last chunk. */
#define H1_CHUNK_TAIL "\r\n"
#define H1_CHUNK_LAST "0\r\n\r\n"

/* Whether `value` may be a field value: no control byte but tab, no blank at either end. */
bool h1_value_ok(struct str value);
/* Whether `name` is a token (RFC 9110 5.6.2), not empty. */
bool h1_token_ok(struct str name);
/* The usual reason phrase; "Unknown" for a status without one. */
const char *h1_reason(int status);

#endif
