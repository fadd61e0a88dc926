/*
 * unzip: the bytes of a log file, whether it is plain or gzip (RFC 1952).
 *
 * Fed in pieces of any size, in bounded memory. A file whose first byte is 0x1F is gzip: no line of
 * a log begins so. Several members behind each other are one file. Knows no file.
 */
#ifndef DAGWARD_AUDIT_UNZIP_H
#define DAGWARD_AUDIT_UNZIP_H

#include <stdbool.h>
#include <stddef.h>

struct unzip;

/* Gets what was inside; false ends the feeding. */
typedef bool unzip_sink(void *owner, const char *bytes, size_t len);

enum unzip_state {
        UNZIP_GOOD,
        UNZIP_STOPPED, /* the sink said so */
        UNZIP_DAMAGED, /* no gzip after all, or its check does not fit */
};

struct unzip *unzip_new(void);
/* Harmless on NULL. */
void unzip_free(struct unzip *unzip);
/* Another file begins. */
void unzip_reset(struct unzip *unzip);
/* After another answer than UNZIP_GOOD nothing more may be fed. */
enum unzip_state unzip_feed(struct unzip *unzip, const char *bytes, size_t len, unzip_sink *sink,
        void *owner) __attribute__((warn_unused_result));
/* At the end of the file: is it whole? */
bool unzip_whole(const struct unzip *unzip);

#endif
