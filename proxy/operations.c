/*
 * operations: what Azure DevOps can be asked for, and which of it a request is.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "commands.h"
#include "dagward/world/naming.h"

struct options {
        bool json, help;
        const char *body; /* file */
};

static void usage(FILE *out)
{
        fputs("usage: dagward operations [PATTERN] [--json]\n"
              "       dagward operations match METHOD URL [--body FILE] [--json]\n\n"
              "Lists the operations that requests are named by: id, access class, scopes, route.\n"
              "PATTERN is an id, an alias, a part of an id or route, or has `*` in it.\n\n"
              "match names the operation of a request and prints what it touches. URL is a path "
              "as\n"
              "the proxy has it (/contoso/..., /~vsrm/contoso/...) or absolute\n"
              "(https://vsrm.dev.azure.com/contoso/...). Without --body the body counts as not\n"
              "read.\n\n"
              "  --body FILE  the request's body; `-` is standard input\n"
              "  --json       one JSON document on stdout\n\n"
              "A resource followed by `?` is touched but not named by the request.\n"
              "Exit status: 0 found, 1 nothing found, 2 wrong usage or a malformed request.\n",
                out);
}

static bool parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                {"json", no_argument, NULL, 'j'},
                {"body", required_argument, NULL, 'b'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        int option;

        while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
                switch (option) {
                case 'j': o->json = true; break;
                case 'b': o->body = optarg; break;
                case 'h': o->help = true; break;
                default: return false;
                }
        }
        return true;
}

static void json_member(struct buf *out, const char *name, struct str value)
{
        buf_json_str(out, str_of(name));
        buf_char(out, ':');
        buf_json_str(out, value);
}

static void json_operation(struct buf *out, const struct operation *op)
{
        BUF_LITERAL(out, "{");
        json_member(out, "id", str_of(op->id));
        buf_char(out, ',');
        json_member(out, "access", str_of(access_name(op->access)));
        BUF_LITERAL(out, ",\"scopes\":[");
        for (size_t i = 0; i < op->n_scopes; i++) {
                if (i)
                        buf_char(out, ',');
                buf_json_str(out, str_of(op->scopes[i]));
        }
        BUF_LITERAL(out, "],");
        json_member(out, "method", str_of(op->method));
        buf_char(out, ',');
        json_member(out, "host", str_of(op->any_service ? "*" : service_host(op->service)));
        buf_char(out, ',');
        json_member(out, "path", str_of(op->path));
        buf_char(out, ',');
        json_member(out, "summary", str_of(op->summary));
        BUF_LITERAL(out, ",\"risk\":[");
        bool more = false;
        for (unsigned bit = 0; bit < RISK_COUNT; bit++) {
                if (!(op->risks >> bit & 1))
                        continue;
                if (more)
                        buf_char(out, ',');
                more = true;
                buf_json_str(out, str_of(risk_name(bit)));
        }
        BUF_LITERAL(out, "],\"conditions\":[");
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);
        more = false;
        for (unsigned i = 0; i < n; i++) {
                if (!operation_has_fact(op, i))
                        continue;
                if (more)
                        buf_char(out, ',');
                more = true;
                buf_json_str(out, str_of(kinds[i].name));
        }
        BUF_LITERAL(out, "]}");
}

static int flush(struct buf *out, int status)
{
        if (out->overflow) {
                fprintf(stderr, "dagward operations: the answer is too long\n");
                status = EXIT_USAGE;
        } else if (out->len) {
                fwrite(out->data, 1, out->len, stdout);
        }
        buf_clear(out);
        return status;
}

static void scopes_write(const struct operation *op, char *text, size_t size)
{
        size_t n = 0;

        snprintf(text, size, "-");
        for (size_t i = 0; i < op->n_scopes && n < size; i++)
                n += (size_t)snprintf(text + n, size - n, "%s%s", i ? "," : "", op->scopes[i]);
}

/* The route as the proxy has it. */
static void route_write(const struct operation *op, struct buf *out)
{
        buf_printf(out, "%s ", op->method);
        if (op->any_service)
                BUF_LITERAL(out, "/~*");
        else if (op->service != SERVICE_DEV)
                buf_printf(out, "/~%s", service_name(op->service));
        buf_str_add(out, str_of(op->path));
}

/* --- list --- */

static bool part_of(const char *pattern, const char *text)
{
        struct str wanted = str_of(pattern), all = str_of(text);

        for (size_t i = 0; i + wanted.len <= all.len; i++) {
                if (str_starts_fold(str_from(all, i), wanted))
                        return true;
        }
        return false;
}

/* What the pattern means: an id, an alias, a pattern over ids; else a part of an id or a route. */
static size_t select_operations(const char *pattern, struct operation_set *set)
{
        size_t n, found = 0;
        const struct operation *all = catalogue_all(&n);

        if (pattern)
                found = catalogue_select(str_of(pattern), set);
        for (size_t i = 0; i < n && !found; i++) {
                bool wanted = !pattern || part_of(pattern, all[i].id) ||
                              part_of(pattern, all[i].path) ||
                              str_glob(str_of(pattern), str_of(all[i].path), true);
                if (wanted)
                        operation_set_add(set, all[i].index);
        }
        for (size_t i = 0; i < n && !found; i++)
                found += operation_set_has(set, all[i].index);
        return found;
}

static void list_table(const struct operation_set *set, struct buf *out)
{
        size_t n, widest = 0, widest_scopes = 0;
        const struct operation *all = catalogue_all(&n);
        char scopes[256];

        for (size_t i = 0; i < n; i++) {
                if (!operation_set_has(set, all[i].index))
                        continue;
                scopes_write(&all[i], scopes, sizeof(scopes));
                size_t length = strlen(all[i].id), scopes_length = strlen(scopes);
                widest = length > widest ? length : widest;
                widest_scopes = scopes_length > widest_scopes ? scopes_length : widest_scopes;
        }
        /* A few operations have long ids or many scopes; the others keep their columns. */
        int width = widest > 52 ? 52 : (int)widest;
        int scopes_width = widest_scopes > 28 ? 28 : (int)widest_scopes;
        for (size_t i = 0; i < n; i++) {
                if (!operation_set_has(set, all[i].index))
                        continue;
                scopes_write(&all[i], scopes, sizeof(scopes));
                buf_printf(out, "%-*s  %-7s  %-*s  ", width, all[i].id, access_name(all[i].access),
                        scopes_width, scopes);
                route_write(&all[i], out);
                buf_char(out, '\n');
        }
}

static void did_you_mean(const char *pattern)
{
        static struct str names[OPERATIONS_MAX + 64];
        size_t n, n_aliases;
        const struct operation *all = catalogue_all(&n);
        const struct operation_alias *aliases = catalogue_aliases(&n_aliases);

        for (size_t i = 0; i < n; i++)
                names[i] = str_of(all[i].id);
        for (size_t i = 0; i < n_aliases && n < OPERATIONS_MAX + 64; i++)
                names[n++] = str_of(aliases[i].name);
        fprintf(stderr, "dagward operations: nothing is named `%s`%s\n", pattern,
                error_did_you_mean(str_of(pattern), names, n));
}

static int list(const char *pattern, bool json)
{
        struct operation_set set = {{0}};
        struct buf out;
        size_t n, written = 0;
        const struct operation *all = catalogue_all(&n);

        size_t found = select_operations(pattern, &set);
        if (!found)
                did_you_mean(pattern);
        buf_init(&out, 4 << 20);
        if (json) {
                buf_char(&out, '[');
                for (size_t i = 0; i < n; i++) {
                        if (!operation_set_has(&set, all[i].index))
                                continue;
                        buf_str_add(&out, written++ ? STR(",\n") : STR("\n"));
                        json_operation(&out, &all[i]);
                }
                BUF_LITERAL(&out, "\n]\n");
        } else {
                list_table(&set, &out);
        }
        return flush(&out, found ? EXIT_YES : EXIT_NO);
}

/* --- match --- */

enum { BODY_CEILING = 1 << 20 };

static bool read_body(const char *file, struct buf *body)
{
        FILE *in = strcmp(file, "-") == 0 ? stdin : fopen(file, "rb");
        char chunk[16384];
        size_t got;

        buf_init(body, BODY_CEILING);
        if (!in) {
                fprintf(stderr, "dagward operations: %s: %s\n", file, strerror(errno));
                return false;
        }
        while ((got = fread(chunk, 1, sizeof(chunk), in)) > 0)
                buf_add(body, chunk, got);
        bool whole = !ferror(in) && !body->overflow;
        if (in != stdin)
                fclose(in);
        if (!whole)
                fprintf(stderr, "dagward operations: %s cannot be read, or is over 1 MiB\n", file);
        return whole;
}

/* What `where` of a policy may put conditions on. */
static void print_facts(const struct facts *facts, struct buf *out)
{
        size_t n;
        const struct fact_kind *kinds = facts_all(&n);

        for (size_t i = 0; facts && i < facts->n; i++) {
                const struct fact *fact = &facts->items[i];
                buf_printf(out, "  %-10s %s", i ? "" : "says", kinds[fact->kind].name);
                if (kinds[fact->kind].is_map)
                        buf_printf(out, " %.*s:", STR_FMT(fact->key));
                buf_printf(out, " %.*s\n", STR_FMT(fact->value));
        }
}

static void print_match(const struct named *named, bool certain, struct buf *out)
{
        const struct operation *op = named->op;
        char scopes[256];

        scopes_write(op, scopes, sizeof(scopes));
        buf_printf(out, "%s%s\n", op->id, certain ? "" : "  (or its sibling: the body decides)");
        buf_printf(out, "  %s\n", op->summary);
        buf_printf(out, "  %-10s %s\n  %-10s %s\n  %-10s ", "access", access_name(op->access),
                "scopes", scopes, "route");
        route_write(op, out);
        buf_printf(out, "\n  %-10s %.*s\n", "path", STR_FMT(named->path));
        for (unsigned bit = 0; bit < RISK_COUNT; bit++) {
                if (op->risks >> bit & 1)
                        buf_printf(out, "  %-10s %s\n", "risk", risk_name(bit));
        }
        for (size_t i = 0; i < named->route.n_params; i++) {
                buf_printf(out, "  %-10s %.*s = ", i ? "" : "params",
                        STR_FMT(named->route.params[i].name));
                route_param_write(&named->route, i, out);
                buf_char(out, '\n');
        }
        const char *label = "touches";
        for (size_t i = 0; certain && i < named->resources.n; i++, label = "") {
                const struct resource *resource = &named->resources.items[i];
                buf_printf(out, "  %-10s %s %.*s\n", label, resource_kind_name(resource->kind),
                        STR_FMT(resource->value));
        }
        for (unsigned k = 0; certain && k < RESOURCE_KINDS; k++) {
                if (!named->resources.unresolved[k])
                        continue;
                buf_printf(out, "  %-10s %s ?\n", label, resource_kind_name((enum resource_kind)k));
                label = "";
        }
        if (certain)
                print_facts(named->facts, out);
}

static void json_match(const struct named *named, bool certain, struct buf *out)
{
        BUF_LITERAL(out, "{\"operation\":");
        json_operation(out, named->op);
        buf_printf(out, ",\"certain\":%s,", certain ? "true" : "false");
        json_member(out, "path", named->path);
        BUF_LITERAL(out, ",\"params\":{");
        for (size_t i = 0; i < named->route.n_params; i++) {
                struct buf value;
                buf_init(&value, 65536);
                route_param_write(&named->route, i, &value);
                if (i)
                        buf_char(out, ',');
                buf_json_str(out, named->route.params[i].name);
                buf_char(out, ':');
                buf_json_str(out, buf_str(&value));
                buf_clear(&value);
        }
        BUF_LITERAL(out, "},\"resources\":{");
        bool more = false;
        for (unsigned k = 0; k < RESOURCE_KINDS; k++) {
                enum resource_kind kind = (enum resource_kind)k;
                if (!resources_first(&named->resources, kind).ptr)
                        continue;
                if (more)
                        buf_char(out, ',');
                more = true;
                buf_json_str(out, str_of(resource_kind_selector(kind)));
                BUF_LITERAL(out, ":[");
                bool another = false;
                for (size_t i = 0; i < named->resources.n; i++) {
                        if (named->resources.items[i].kind != kind)
                                continue;
                        if (another)
                                buf_char(out, ',');
                        another = true;
                        buf_json_str(out, named->resources.items[i].value);
                }
                buf_char(out, ']');
        }
        BUF_LITERAL(out, "},\"unresolved\":[");
        more = false;
        for (unsigned k = 0; k < RESOURCE_KINDS; k++) {
                if (!named->resources.unresolved[k])
                        continue;
                if (more)
                        buf_char(out, ',');
                more = true;
                buf_json_str(out, str_of(resource_kind_selector((enum resource_kind)k)));
        }
        BUF_LITERAL(out, "]}\n");
}

static int no_match(const char *why, int status, bool json)
{
        struct buf out;

        buf_init(&out, 65536);
        if (json) {
                BUF_LITERAL(&out, "{\"operation\":null,");
                json_member(&out, status == EXIT_USAGE ? "refused" : "unknown", str_of(why));
                BUF_LITERAL(&out, "}\n");
        } else {
                fprintf(stderr, "dagward operations: %s\n", why);
        }
        return flush(&out, status);
}

static int match_in(const char *method, const char *url, struct str body, bool json,
        struct arena *arena, struct target *target, struct named *named)
{
        struct naming_input input = {.method = str_of(method), .target = target, .body = body};
        struct h1_fault fault = {0};
        struct error err;
        struct str origin;
        const char *why = "";
        struct buf out;

        if (!naming_split_url(str_of(url), &origin, &input.service, &input.organization, &err))
                return no_match(err.text, EXIT_USAGE, json);
        if (!target_parse(origin, STR_NONE, arena, target, &fault))
                return no_match(fault.why, EXIT_USAGE, json);
        enum naming_result result = request_name(&input, arena, named, &why);
        switch (result) {
        case NAMING_REFUSED: return no_match(why, EXIT_USAGE, json);
        case NAMING_FULL: return no_match("the request is too large", EXIT_USAGE, json);
        case NAMING_UNKNOWN:
                return no_match(
                        "the catalogue has no operation with this method and path", EXIT_NO, json);
        case NAMING_FOUND:
        case NAMING_NEEDS_BODY: break;
        }
        buf_init(&out, 1 << 20);
        if (json)
                json_match(named, result == NAMING_FOUND, &out);
        else
                print_match(named, result == NAMING_FOUND, &out);
        return flush(&out, EXIT_YES);
}

static int match(const char *method, const char *url, const struct options *o)
{
        static struct target target;
        static struct named named;
        struct buf body = {0};
        struct arena arena;

        if (o->body && !read_body(o->body, &body)) {
                buf_clear(&body);
                return EXIT_USAGE;
        }
        struct str text = !o->body ? STR_NONE : body.len ? buf_str(&body) : STR("");
        arena_init(&arena, 16384, 4 << 20);
        int status = match_in(method, url, text, o->json, &arena, &target, &named);
        arena_clear(&arena);
        if (o->body)
                buf_clear(&body);
        return status;
}

int command_operations(int argc, char **argv)
{
        struct options o = {0};

        if (!parse(argc, argv, &o)) {
                usage(stderr);
                return EXIT_USAGE;
        }
        if (o.help) {
                usage(stdout);
                return EXIT_YES;
        }
        int n = argc - optind;
        char **rest = argv + optind;
        if (n == 3 && strcmp(rest[0], "match") == 0)
                return match(rest[1], rest[2], &o);
        if (n <= 1 && !o.body && (n == 0 || strcmp(rest[0], "match") != 0))
                return list(n ? rest[0] : NULL, o.json);
        usage(stderr);
        return EXIT_USAGE;
}
