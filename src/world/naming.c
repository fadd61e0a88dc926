#include "dagward/world/naming.h"

#include <stddef.h>
#include <string.h>

/* A slash inside a segment must not read as one between segments. */
static void add_segment(struct buf *out, struct str segment)
{
        for (size_t i = 0; i < segment.len; i++) {
                char c = segment.ptr[i];
                if (c == '/')
                        BUF_LITERAL(out, "%2F");
                else if (c == '%')
                        BUF_LITERAL(out, "%25");
                else
                        buf_char(out, c);
        }
}

static bool write_path(struct named *named, struct arena *arena)
{
        const struct route *route = &named->route;
        size_t most = 40;
        struct buf out;

        for (size_t i = 0; i < route->n_segments; i++)
                most += 1 + 3 * route->segments[i].len;
        char *memory = arena_alloc(arena, most);
        if (!memory)
                return false;
        buf_init_fixed(&out, memory, most);
        if (named->service != SERVICE_DEV) {
                BUF_LITERAL(&out, "/~");
                buf_str_add(&out, str_of(service_name(named->service)));
        }
        for (size_t i = 0; i < route->n_segments; i++) {
                buf_char(&out, '/');
                add_segment(&out, route->segments[i]);
        }
        if (!out.len)
                buf_char(&out, '/');
        named->path = buf_str(&out);
        return true;
}

/* Routes without an organization begin with `_apis` or the like. */
static struct str organization_of(const struct named *named)
{
        struct str first = named->query.n_segments ? named->query.segments[0] : STR_NONE;

        return first.len && first.ptr[0] != '_' ? first : STR_NONE;
}

static bool refuse(const char **why, const char *text)
{
        *why = text;
        return false;
}

static bool is_service(const struct target *target)
{
        return target->n_segments && target->segments[0].ptr[0] == '~';
}

/* Picks the service and lays out the segments, organization first. */
static bool lay_out(const struct naming_input *input, struct named *out, const char **why)
{
        const struct target *target = input->target;
        size_t n = 0, from = 0;

        out->service = input->service;
        if (is_service(target)) {
                if (input->service != SERVICE_DEV)
                        return refuse(why, "the host and `~service` both name a service");
                if (target->encoded_slash & 1 ||
                        !service_named(str_from(target->segments[0], 1), &out->service))
                        return refuse(why, "there is no such `~service`");
                from = 1;
        }
        uint64_t slashes = target->encoded_slash >> from;
        if (input->organization.len) {
                out->segments[n++] = input->organization;
                slashes <<= 1;
        }
        if (target->n_segments - from + n > TARGET_MAX_SEGMENTS)
                return refuse(why, "too many path segments");
        for (size_t i = from; i < target->n_segments; i++)
                out->segments[n++] = target->segments[i];
        out->query = (struct route_query){
                .method = input->method,
                .service = out->service,
                .segments = out->segments,
                .n_segments = n,
                .encoded_slash = slashes,
                .query = target->query,
                .n_query = target->n_query,
                .body = input->body,
        };
        return true;
}

static void name_unknown(struct named *out)
{
        out->route = (struct route){
                .n_segments = out->query.n_segments,
                .encoded_slash = out->query.encoded_slash,
                .greedy_param = -1,
        };
        for (size_t i = 0; i < out->query.n_segments && i < ROUTE_MAX_SEGMENTS; i++)
                out->route.segments[i] = out->query.segments[i];
        if (out->organization.len)
                out->resources.items[out->resources.n++] = (struct resource){
                        .kind = RESOURCE_ORGANIZATION, .value = out->organization};
}

/* Nothing is known. What is counted has room for the largest request and is not emptied: this is
 * done for each request, and hardly one fills a tenth of it. */
static void begin(struct named *out)
{
        out->op = NULL;
        out->service_found = false;
        memset(&out->route, 0, offsetof(struct route, params));
        out->query = (struct route_query){0};
        memset(&out->resources, 0, offsetof(struct resources, items));
        out->facts = NULL;
        out->organization = out->path = STR_NONE;
}

enum naming_result request_name(
        const struct naming_input *input, struct arena *arena, struct named *out, const char **why)
{
        begin(out);
        if (!lay_out(input, out, why))
                return NAMING_REFUSED;
        out->organization = organization_of(out);
        bool anywhere = out->service == SERVICE_DEV && !is_service(input->target);
        enum route_result result = anywhere
                                           ? catalogue_match_anywhere(&out->query, &out->route, why)
                                           : catalogue_match(&out->query, &out->route, why);
        out->service_found = anywhere && out->query.service != out->service;
        out->service = out->query.service;
        if (result == ROUTE_REFUSED)
                return NAMING_REFUSED;
        if (result == ROUTE_UNKNOWN)
                name_unknown(out);
        else
                out->op = out->route.op;
        if (!write_path(out, arena))
                return NAMING_FULL;
        if (result == ROUTE_NEEDS_BODY) {
                *why = "which operation this is depends on the body, and the body does not tell";
                return NAMING_NEEDS_BODY;
        }
        if (result == ROUTE_UNKNOWN)
                return NAMING_UNKNOWN;
        if (!resources_gather(&out->route, &out->query, input->body, arena, &out->resources,
                    &out->facts, why))
                return NAMING_REFUSED;
        return NAMING_FOUND;
}

bool naming_split_url(struct str url, struct str *origin, enum service *service,
        struct str *organization, struct error *err)
{
        struct str authority;

        *service = SERVICE_DEV;
        *organization = STR_NONE;
        *origin = url;
        if (url.len && url.ptr[0] == '/')
                return true;
        if (str_starts_fold(url, STR("https://")))
                *origin = str_from(url, 8);
        else if (str_starts_fold(url, STR("http://")))
                *origin = str_from(url, 7);
        else
                return error_set(err, "a URL begins with `/` or `https://`");
        ssize_t slash = str_find(*origin, '/');
        authority = slash < 0 ? *origin : str_head(*origin, (size_t)slash);
        *origin = slash < 0 ? STR("/") : str_from(*origin, (size_t)slash);
        ssize_t at = str_find(authority, '@');
        if (at >= 0)
                authority = str_from(authority, (size_t)at + 1);
        if (!service_of_host(authority, service, organization))
                *service = SERVICE_DEV;
        return true;
}

bool naming_for_policy(void *unused, const struct policy_question *question, struct arena *arena,
        struct policy_request *out, struct error *err)
{
        struct target *target = arena_alloc(arena, sizeof(*target));
        struct named *named = arena_alloc(arena, sizeof(*named));
        struct naming_input input = {.method = question->method, .target = target};
        struct h1_fault fault = {0};
        struct str origin;
        const char *why = "";

        (void)unused;
        if (!target || !named)
                return error_set(err, "the request is too large");
        if (!naming_split_url(question->url, &origin, &input.service, &input.organization, err))
                return false;
        if (!target_parse(origin, STR_NONE, arena, target, &fault))
                return error_set(err, "the proxy refuses this request: %s", fault.why);
        /* A question without a body is one whose body is empty, not one that was not read. */
        input.body = question->body.ptr ? question->body : STR("");
        switch (request_name(&input, arena, named, &why)) {
        case NAMING_FOUND:
        case NAMING_UNKNOWN:
                *out = (struct policy_request){
                        .op = named->op,
                        .method = question->method,
                        .path = named->path,
                        .service = named->service,
                        .resources = &named->resources,
                        .facts = named->facts,
                        .claimed = question->claimed,
                        .n_claimed = question->n_claimed,
                };
                return true;
        case NAMING_NEEDS_BODY:
                return error_set(err, "which operation this is depends on the body: give one");
        case NAMING_REFUSED: return error_set(err, "the proxy refuses this request: %s", why);
        case NAMING_FULL: return error_set(err, "the request is too large");
        }
        return false;
}
