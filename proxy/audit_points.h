/*
 * audit_points: places in a gzip file where unpacking can begin, so that a part of it is read
 * without all that stands in front.
 *
 * A cache as the index is, and no more believed: a wrong place gives bytes that are no records.
 */
#ifndef DAGWARD_PROXY_AUDIT_POINTS_H
#define DAGWARD_PROXY_AUDIT_POINTS_H

#include <sys/stat.h>

#include "dagward/base/str.h"

struct audit_points {
        int fd;
        struct point *all;
        size_t n;
};

/* The places of the gzip file `fd`, from the file `path`, which is made when it is not there or is
 * not of this file: one pass. False with errno. */
bool audit_points_open(struct audit_points *points, const char *path, int fd,
        const struct stat *info) __attribute__((warn_unused_result));
void audit_points_close(struct audit_points *points);
/* Up to `len` bytes of the text from `offset` on; how many, or -1. */
ssize_t audit_points_read(
        const struct audit_points *points, int fd, uint64_t offset, char *out, size_t len);

#endif
