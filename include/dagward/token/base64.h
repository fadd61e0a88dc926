/*
 * base64: the two alphabets that credentials travel in.
 *
 * Strict both ways: a byte outside the alphabet, padding where there should be none (or none where
 * there should be some), an impossible length and stray bits in the last character are refused, so
 * that a value has exactly one spelling (RFC 4648 3.5, 4, 5; RFC 7515 2).
 */
#ifndef DAGWARD_TOKEN_BASE64_H
#define DAGWARD_TOKEN_BASE64_H

#include "dagward/base/buf.h"
#include "dagward/base/str.h"

/* Bytes that `len` characters without padding stand for. */
#define BASE64_DECODED(len) ((len) / 4 * 3 + ((len) % 4 * 3) / 4)

/* Unpadded base64url into `out`, which holds at least BASE64_DECODED(text.len) bytes; the count of
 * bytes, or -1. */
ssize_t base64url_decode(struct str text, void *out);
/* Padded standard base64 (RFC 7617) into `out`, same size rule; the count of bytes, or -1. */
ssize_t base64_decode(struct str text, void *out);
/* Appends padded standard base64. */
void base64_write(struct buf *buf, const void *bytes, size_t len);
/* Appends unpadded base64url. */
void base64url_write(struct buf *buf, const void *bytes, size_t len);

#endif
