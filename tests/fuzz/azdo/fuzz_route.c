/*
 * A request line, and a body behind the first newline: the matcher and the gatherer keep inside
 * their tables, are deterministic, and what they give back names the same operation again.
 */
#include <stdlib.h>

#include "dagward/azdo/resources.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct request {
        struct str segments[48];
        struct pair pairs[16];
        struct route_query query;
};

/* METHOD, the service's number as a digit or letter, and "/segment/segment?name=value"; 0x01 in a
 * segment is an encoded slash. */
static void read_request(struct str line, char *scratch, struct request *request)
{
        struct route_query *query = &request->query;
        memset(request, 0, sizeof(*request));
        line = str_cut(line, ' ', &query->method);
        query->service = (enum service)(line.len ? (unsigned char)line.ptr[0] % SERVICE_COUNT : 0);
        struct str path, part, pairs = str_cut(str_from(line, 1), '?', &path);
        query->segments = request->segments;
        query->query = request->pairs;
        while (path.ptr && query->n_segments < 48) {
                path = str_cut(path, '/', &part);
                if (str_empty(part))
                        continue;
                memcpy(scratch, part.ptr, part.len);
                for (size_t i = 0; i < part.len; i++) {
                        if (scratch[i] == 1) {
                                scratch[i] = '/';
                                query->encoded_slash |= UINT64_C(1) << query->n_segments;
                        }
                }
                request->segments[query->n_segments++] = str_view(scratch, part.len);
                scratch += part.len;
        }
        while (pairs.ptr && query->n_query < 16) {
                pairs = str_cut(pairs, '&', &part);
                struct pair *pair = &request->pairs[query->n_query++];
                pair->value = str_cut(part, '=', &pair->name);
        }
}

static void check_again(const struct request *request, const struct route *route)
{
        struct route_query query = request->query;
        struct route again;
        const char *why;
        query.segments = route->segments;
        query.n_segments = route->n_segments;
        query.encoded_slash = route->encoded_slash;
        /* What is taken off once may be there twice: those forms are not fixed points. */
        for (size_t i = 0; i < route->n_segments; i++) {
                if (str_ends_fold(route->segments[i], STR(".git")) ||
                        str_eq_fold(route->segments[i], STR("DefaultCollection")))
                        return;
        }
        if (catalogue_match(&query, &again, &why) != ROUTE_FOUND || again.op != route->op)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct request request;
        struct route route;
        struct resources resources;
        struct facts *facts;
        struct arena arena;
        const char *why = NULL;
        if (size > 16384)
                return 0;
        char *scratch = malloc(size + 1);
        if (!scratch)
                abort();
        struct str line, body = str_cut(str_view((const char *)data, size), '\n', &line);
        read_request(line, scratch, &request);
        enum route_result result = catalogue_match(&request.query, &route, &why);
        if (result == ROUTE_NEEDS_BODY && body.ptr) {
                request.query.body = body;
                result = catalogue_match(&request.query, &route, &why);
                if (result == ROUTE_NEEDS_BODY)
                        abort();
        }
        if (result == ROUTE_REFUSED && !why)
                abort();
        if (result == ROUTE_FOUND) {
                check_again(&request, &route);
                arena_init(&arena, 4096, 1 << 20);
                why = NULL;
                if (!resources_gather(
                            &route, &request.query, body, &arena, &resources, &facts, &why)) {
                        if (!why)
                                abort();
                } else if (resources.n > RESOURCES_MAX) {
                        abort();
                }
                arena_clear(&arena);
        }
        free(scratch);
        return 0;
}
