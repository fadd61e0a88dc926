/* A request for the tests, written as "GET /contoso/_apis/projects?x=1"; "~vsrm" in front of the
 * organization is a service. "%2f" marks an encoded slash; nothing else is decoded. */
#ifndef TESTS_AZDO_REQUEST_H
#define TESTS_AZDO_REQUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dagward/azdo/catalogue.h"

struct request {
        char text[2048];
        struct str segments[64];
        struct pair pairs[32];
        struct route_query query;
};

static inline void request_segment(struct request *request, struct str segment)
{
        size_t i = request->query.n_segments;
        for (ssize_t at; (at = str_find_str(segment, STR("%2f"))) >= 0;) {
                char *slash = (char *)segment.ptr + at; /* in request->text */
                *slash = '/';
                memmove(slash + 1, slash + 3, segment.len - (size_t)at - 3);
                segment.len -= 2;
                request->query.encoded_slash |= UINT64_C(1) << i;
        }
        request->segments[request->query.n_segments++] = segment;
}

static inline void request_read(struct request *request, const char *line)
{
        memset(request, 0, sizeof(*request));
        assert_true(strlen(line) < sizeof(request->text));
        strcpy(request->text, line);
        struct route_query *query = &request->query;
        struct str rest = str_cut(str_of(request->text), ' ', &query->method), path, segment;
        struct str pairs = str_cut(rest, '?', &path);
        query->segments = request->segments;
        query->query = request->pairs;
        query->service = SERVICE_DEV;
        path = str_from(path, 1);
        while (path.ptr && path.len) {
                path = str_cut(path, '/', &segment);
                if (str_starts(segment, STR("~")) && query->n_segments == 0)
                        assert_true(service_named(str_from(segment, 1), &query->service));
                else
                        request_segment(request, segment);
        }
        while (pairs.ptr) {
                struct str pair, name;
                pairs = str_cut(pairs, '&', &pair);
                struct str value = str_cut(pair, '=', &name);
                request->pairs[query->n_query++] = (struct pair){name, value};
        }
}

#endif
