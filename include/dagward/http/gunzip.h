/*
 * gunzip: bodies that come with `Content-Encoding: gzip`, made readable.
 *
 * Compressed bytes are bytes from a stranger: what they unfold to is bounded by the buffer that
 * takes it, so that a small body cannot become a large one. RFC 1952; several members in a row are
 * one body (section 2.2).
 */
#ifndef DAGWARD_HTTP_GUNZIP_H
#define DAGWARD_HTTP_GUNZIP_H

#include "dagward/base/buf.h"
#include "dagward/base/error.h"
#include "dagward/base/str.h"

/* Appends what `in` unfolds to. False with a reason: it is damaged, cut short, has something behind
 * its end, or (`out->overflow`) does not fit under the buffer's ceiling. */
bool gunzip_whole(struct str in, struct buf *out, struct error *err)
        __attribute__((warn_unused_result));

#endif
