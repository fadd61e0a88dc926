#include "make_catalogue.h"

#include <stdarg.h>
#include <stdlib.h>

#include "../row_flags.h"

/* resources.def, as far as it decides which rows an operation has. */
struct row {
        const char *operations;
        enum source source;
        const char *where;
        enum {
                KIND_ORGANIZATION,
                KIND_PROJECT,
                KIND_TEAM,
                KIND_PIPELINE,
                KIND_BUILD,
                KIND_RELEASE,
                KIND_REPOSITORY,
                KIND_FEED,
                KIND_ENVIRONMENT,
                KIND_WORK_ITEM,
                KIND_WORK_ITEM_TYPE,
                KIND_REF
        } kind;
        unsigned flags;
};

#define ROW(operations, source, where, kind, flags)                                                \
        {operations, SOURCE_##source, where, KIND_##kind, flags},
#define TOUCHES(operations, kind)
static const struct row rows[] = {
#include "../resources.def"
};
#undef ROW
#undef TOUCHES
#define ROW(operations, source, where, kind, flags)
#define TOUCHES(operations, kind) {operations, SOURCE_PATH, "", KIND_##kind, 0},
static const struct row touches[] = {
#include "../resources.def"
};
enum { N_ROWS = sizeof(rows) / sizeof(rows[0]), N_TOUCHES = sizeof(touches) / sizeof(touches[0]) };
_Static_assert(N_ROWS <= 256, "operation_extra.rows holds bytes");

/* facts.def likewise. */
enum { OPEN, GUARDED };
#define NAME(name, shape, guard, summary) name##_is = guard,
#define FACT(operations, source, where, name, flags)
enum {
#include "../facts.def"
};
#undef NAME
#undef FACT
#define NAME(name, shape, guard, summary)
#define FACT(operations, source, where, name, flags)                                               \
        {operations, SOURCE_##source, where, name##_is},
static const struct fact_row {
        const char *operations;
        enum source source;
        const char *where;
        int guard;
} fact_rows[] = {
#include "../facts.def"
};
enum { N_FACTS = sizeof(fact_rows) / sizeof(fact_rows[0]) };
_Static_assert(N_FACTS <= 256, "operation_extra.facts holds bytes");

struct source_operation operations[MOST_OPERATIONS];
size_t n_operations;

static const char *const hosts[SERVICE_COUNT] = {
        [SERVICE_DEV] = "dev.azure.com",
        [SERVICE_VSRM] = "vsrm.dev.azure.com",
        [SERVICE_VSSPS] = "vssps.dev.azure.com",
        [SERVICE_VSAEX] = "vsaex.dev.azure.com",
        [SERVICE_FEEDS] = "feeds.dev.azure.com",
        [SERVICE_PKGS] = "pkgs.dev.azure.com",
        [SERVICE_ALMSEARCH] = "almsearch.dev.azure.com",
        [SERVICE_VSTMR] = "vstmr.dev.azure.com",
        [SERVICE_EXTMGMT] = "extmgmt.dev.azure.com",
        [SERVICE_AUDITSERVICE] = "auditservice.dev.azure.com",
        [SERVICE_ADVSEC] = "advsec.dev.azure.com",
        [SERVICE_ARTIFACTS] = "artifacts.dev.azure.com",
        [SERVICE_ANALYTICS] = "analytics.dev.azure.com",
        [SERVICE_STATUS] = "status.dev.azure.com",
        [SERVICE_APP] = "app.vssps.visualstudio.com",
};
static const char *const methods[METHOD_COUNT] = {
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "*"};
static const char *const accesses[ACCESS_COUNT] = {"read", "write", "execute", "manage", "delete"};
static const char *const risks[] = {"mints-credential", "returns-credential", "tunnels-requests",
        "sends-data-out", "changes-permissions", "defines-what-runs", "body-decides-target",
        "body-decides-action", "project-not-in-path"};
static const char *const fields[] = {"id", "method", "host", "path", "access", "scopes", "summary",
        "resource", "api_version", "location_id", "param_types", "optional", "older_paths",
        "variants", "greedy", "tail", "discriminator", "risk", "anonymous", "note", "last_version",
        "part_of"};

void fail(const char *format, ...)
{
        va_list args;
        va_start(args, format);
        fputs("make_catalogue: ", stderr);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
        va_end(args);
        exit(1);
}

void *grow(void *array, size_t n, size_t size)
{
        if (n & (n - 1)) /* room is doubled at powers of two */
                return array;
        array = realloc(array, (n ? 2 * n : 1) * size);
        if (!array)
                fail("out of memory");
        return array;
}

const char *text_of(const json_t *object, const char *name)
{
        const char *text = json_string_value(json_object_get(object, name));
        return text ? text : "";
}

bool listed(const json_t *object, const char *name, const char *value)
{
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(object, name), i, item)
        {
                if (json_is_string(item) && strcmp(json_string_value(item), value) == 0)
                        return true;
        }
        return false;
}

void write_text(FILE *out, const char *text)
{
        fputc('"', out);
        for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
                if (*c == '"' || *c == '\\' || *c == '?' || *c < 0x20 || *c > 0x7e)
                        fprintf(out, "\\%03o", *c);
                else
                        fputc(*c, out);
        }
        fputc('"', out);
}

static size_t place_of(const char *const *names, size_t n, const char *name, const char *what)
{
        for (size_t i = 0; i < n; i++) {
                if (strcmp(names[i], name) == 0)
                        return i;
        }
        fail("%s \"%s\" is unknown", what, name);
}

static json_t *load(const char *path)
{
        json_error_t error;
        json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_array(json))
                fail("%s:%d: %s", path, error.line, error.text);
        return json;
}

static void load_operations(const char *path)
{
        size_t i;
        json_t *all = load(path), *json;
        json_array_foreach(all, i, json)
        {
                if (n_operations == MOST_OPERATIONS)
                        fail("more than %d operations", MOST_OPERATIONS);
                struct source_operation *op = &operations[n_operations++];
                op->json = json;
                op->id = text_of(json, "id");
                op->path = text_of(json, "path");
                if (!strchr(op->id, '.') || op->path[0] != '/')
                        fail("%s: operation %zu (\"%s\") lacks an id or a path", path, i, op->id);
                const char *field;
                json_t *value;
                json_object_foreach(json, field, value)
                        place_of(fields, sizeof(fields) / sizeof(fields[0]), field, "field");
                const char *host = text_of(json, "host");
                op->any_service = strcmp(host, "*") == 0;
                op->service = op->any_service
                                      ? SERVICE_DEV
                                      : (enum service)place_of(hosts, SERVICE_COUNT, host, "host");
                op->method = (enum table_method)place_of(
                        methods, METHOD_COUNT, text_of(json, "method"), "method");
        }
}

static int by_id(const void *a, const void *b)
{
        return str_cmp_fold(str_of(((const struct source_operation *)a)->id),
                str_of(((const struct source_operation *)b)->id));
}

static void sort_operations(void)
{
        qsort(operations, n_operations, sizeof(operations[0]), by_id);
        for (size_t i = 0; i < n_operations; i++) {
                operations[i].index = (unsigned)i;
                if (i && by_id(&operations[i - 1], &operations[i]) == 0)
                        fail("the id \"%s\" stands twice", operations[i].id);
        }
}

static void write_scopes(FILE *out)
{
        for (size_t i = 0; i < n_operations; i++) {
                const json_t *scopes = json_object_get(operations[i].json, "scopes");
                if (!json_array_size(scopes))
                        continue;
                fprintf(out, "static const char *const scopes_%zu[] = {", i);
                for (size_t k = 0; k < json_array_size(scopes); k++) {
                        write_text(out, json_string_value(json_array_get(scopes, k)));
                        fputs(", ", out);
                }
                fputs("NULL};\n", out);
        }
        fputs("static const char *const scopes_none[] = {NULL};\n\n", out);
}

static unsigned risks_of(const json_t *json)
{
        unsigned flags = 0;
        size_t i;
        json_t *risk;
        json_array_foreach(json_object_get(json, "risk"), i, risk) flags |=
                1U << place_of(
                        risks, sizeof(risks) / sizeof(risks[0]), json_string_value(risk), "risk");
        if (strncmp(text_of(json, "note"), "deny", 4) == 0)
                flags |= RISK_BY_NAME_ONLY;
        return flags;
}

/* Operations that answer with a file as somebody stored it. */
static bool is_content(const struct source_operation *op)
{
        static const char *const ids[] = {"*.attachments.get*", "*.downloadLog", "*.download*",
                "*Attachments.get", "*testattachments.get", "build.artifacts.getFile",
                "build.sourceProviders.getFileContents", "fileContainer.items.get", "git.blobs.*",
                "git.items.get", "gitHttp.gvfs.*", "gitHttp.lfs.*Object", "gitHttp.pack.*",
                "gitHttp.refs.*", "packages.maven.*", "packages.universal.get",
                "symbol.contents.get", "tfvc.items.get"};

        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
                if (str_glob(str_of(ids[i]), str_of(op->id), false))
                        return true;
        return false;
}

static void write_operation(FILE *out, const struct source_operation *op)
{
        static const char *const members[] = {
                "id", "method", "path", "summary", "note", "api_version", "location_id", "part_of"};
        size_t n_scopes = json_array_size(json_object_get(op->json, "scopes"));
        fputs("\t{", out);
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
                fprintf(out, ".%s = ", members[i]);
                write_text(out, text_of(op->json, members[i]));
                fputs(", ", out);
        }
        char area[64];
        struct str head;
        str_cut(str_of(op->id), '.', &head);
        snprintf(area, sizeof(area), "%.*s", STR_FMT(head));
        fputs(".area = ", out);
        write_text(out, area);
        fputs(", .resource = ", out);
        write_text(out, text_of(op->json, "resource"));
        if (n_scopes)
                fprintf(out, ", .scopes = scopes_%u", op->index);
        else
                fputs(", .scopes = scopes_none", out);
        fprintf(out, ", .n_scopes = %zu, .index = %u, .risks = %u, .service = %d", n_scopes,
                op->index, risks_of(op->json), (int)op->service);
        fprintf(out, ", .any_service = %d, .anonymous = %d, .is_content = %d, .access = %zu},\n",
                op->any_service, json_is_true(json_object_get(op->json, "anonymous")),
                is_content(op),
                place_of(accesses, ACCESS_COUNT, text_of(op->json, "access"), "access"));
}

static void write_discriminator(FILE *out, const struct source_operation *op)
{
        const json_t *json = json_object_get(op->json, "discriminator");
        if (!json)
                return;
        const json_t *present = json_object_get(json, "query_present");
        const json_t *equals = json_object_get(json, "query_equals");
        const json_t *body = json_object_get(json, "body_equals");
        if (json_array_size(present)) {
                fprintf(out, "static const struct str present_%u[] = {", op->index);
                for (size_t i = 0; i < json_array_size(present); i++) {
                        const char *name = json_string_value(json_array_get(present, i));
                        fprintf(out, "{\"%s\", %zu}, ", name, strlen(name));
                }
                fputs("};\n", out);
        }
        fprintf(out, "static const struct discriminator discriminator_%u = {.in_body = %d",
                op->index, body != NULL);
        if (json_array_size(present))
                fprintf(out, ", .present = present_%u, .n_present = %zu", op->index,
                        json_array_size(present));
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(equals ? equals : body), name, value)
                fprintf(out, ", .equals = {{\"%s\", %zu}, {\"%s\", %zu}}", name, strlen(name),
                        json_string_value(value), json_string_length(value));
        fputs("};\n", out);
}

/* Whether any template of the operation has that parameter; also the one of its tail. */
static bool has_parameter(const struct source_operation *op, const char *name)
{
        if (strcmp(text_of(op->json, "tail"), name) == 0)
                return true;
        char braces[64];
        int length = snprintf(braces, sizeof(braces), "{%s}", name);
        size_t n = json_array_size(json_object_get(op->json, "older_paths"));
        for (size_t i = 0; i <= n; i++) {
                const char *path = i ? json_string_value(json_array_get(
                                               json_object_get(op->json, "older_paths"), i - 1))
                                     : op->path;
                for (; *path; path++) {
                        if (str_starts_fold(str_of(path), str_view(braces, (size_t)length)))
                                return true;
                }
        }
        return false;
}

static size_t write_rows(FILE *out, const struct source_operation *op)
{
        size_t n = 0;
        for (size_t i = 0; i < N_ROWS; i++) {
                if (!str_glob(str_of(rows[i].operations), str_of(op->id), false) ||
                        (rows[i].source == SOURCE_PATH && !has_parameter(op, rows[i].where)))
                        continue;
                fprintf(out, n++ ? ", %zu" : "static const uint8_t rows_%2$u[] = {%1$zu", i,
                        op->index);
        }
        if (n)
                fputs("};\n", out);
        return n;
}

static size_t write_facts(FILE *out, const struct source_operation *op)
{
        size_t n = 0;
        for (size_t i = 0; i < N_FACTS; i++) {
                if (!str_glob(str_of(fact_rows[i].operations), str_of(op->id), false))
                        continue;
                fprintf(out, n++ ? ", %zu" : "static const uint8_t facts_%2$u[] = {%1$zu", i,
                        op->index);
        }
        if (n)
                fputs("};\n", out);
        return n;
}

static bool says_that_project_follows(const struct row *from)
{
        for (size_t i = 0; i < N_ROWS; i++)
                if (rows[i].kind == KIND_PROJECT && (rows[i].flags & FOLLOWS) &&
                        rows[i].source == from->source && strcmp(rows[i].where, from->where) == 0 &&
                        strcmp(rows[i].operations, from->operations) == 0)
                        return true;
        return false;
}

/* A work item's number is enough to find it, whatever project stands in front. Links see to it
 * themselves. */
static void check_rows(void)
{
        for (size_t i = 0; i < N_ROWS; i++)
                if (rows[i].kind == KIND_WORK_ITEM && !(rows[i].flags & LINK) &&
                        !says_that_project_follows(&rows[i]))
                        fail("resources.def: %s names a work item at \"%s\", and no row says that "
                             "its project FOLLOWS",
                                rows[i].operations, rows[i].where);
}

/* A row that is about no operation is a mistake. */
static void check_facts(void)
{
        for (size_t i = 0; i < N_FACTS; i++) {
                bool found = false;
                for (size_t k = 0; k < n_operations && !found; k++)
                        found = str_glob(
                                str_of(fact_rows[i].operations), str_of(operations[k].id), false);
                if (!found)
                        fail("facts.def: there is no operation %s", fact_rows[i].operations);
        }
}

/* The bit of a place's last member; see operation_extra.veil_letters. */
static uint32_t letter_of(const char *where)
{
        size_t len = strlen(where), at;

        while (len > 2 &&
                (strcmp(where + len - 2, "[]") == 0 || strcmp(where + len - 2, ".*") == 0))
                len -= 2;
        for (at = len; at > 0 && where[at - 1] != '.'; at--)
                ;
        return UINT32_C(1) << (where[at] & 0x1f);
}

/* One letter for each parameter of the path: i(nteger), u(uid), t(ext). */
static void write_types(FILE *out, const struct source_operation *op)
{
        fputs(", .types = \"", out);
        for (const char *at = op->path; (at = strchr(at, '{')); at++) {
                char name[64];
                const char *from = at + 1 + (at[1] == '*');
                snprintf(name, sizeof(name), "%.*s", (int)strcspn(from, "}"), from);
                const char *type = text_of(json_object_get(op->json, "param_types"), name);
                fputc(*type ? *type : 't', out);
        }
        fputs("\"", out);
}

static void write_extra(FILE *out, const struct source_operation *op, size_t n_rows, size_t n_facts)
{
        unsigned touched = 0, body_kinds = 0, body_facts = 0;
        uint32_t letters = 0;
        for (size_t i = 0; i < N_ROWS; i++) {
                if ((rows[i].source == SOURCE_BODY || rows[i].source == SOURCE_PATCH) &&
                        str_glob(str_of(rows[i].operations), str_of(op->id), false)) {
                        body_kinds |= 1U << rows[i].kind;
                        /* Of which project one is may be said by its id alone. */
                        if (rows[i].kind == KIND_REPOSITORY && !(rows[i].flags & ROW_ASIDE))
                                body_kinds |= 1U << KIND_PROJECT;
                        /* A link, or a pair, is there or is not: without one nothing is left
                         * open. */
                        if (!(rows[i].flags & (ROW_LINK | ROW_PAIR)))
                                touched |= 1U << rows[i].kind;
                        if (rows[i].flags & ROW_VEILS)
                                letters |= letter_of(rows[i].where);
                }
        }
        for (size_t i = 0; i < N_FACTS; i++) {
                if (fact_rows[i].source != SOURCE_QUERY &&
                        str_glob(str_of(fact_rows[i].operations), str_of(op->id), false)) {
                        body_facts |= BODY_FACTS;
                        if (fact_rows[i].guard != GUARDED)
                                continue;
                        body_facts |= BODY_GUARDED_FACTS;
                        letters |= letter_of(fact_rows[i].where);
                }
        }
        for (size_t i = 0; i < N_TOUCHES; i++) {
                if (str_glob(str_of(touches[i].operations), str_of(op->id), false))
                        touched |= 1U << touches[i].kind;
        }
        if (strstr(op->path, "{project}") || listed(op->json, "risk", "project-not-in-path"))
                touched |= 1U << KIND_PROJECT;
        if (strstr(op->path, "{team}"))
                touched |= 1U << KIND_TEAM;
        fprintf(out, "\t{.touches = %u, .body_kinds = %u", touched, body_kinds | body_facts);
        if (letters)
                fprintf(out, ", .veil_letters = %#x", letters);
        if (json_object_get(op->json, "discriminator"))
                fprintf(out, ", .discriminator = &discriminator_%u", op->index);
        if (n_rows)
                fprintf(out, ", .rows = rows_%u, .n_rows = %zu", op->index, n_rows);
        if (n_facts)
                fprintf(out, ", .facts = facts_%u, .n_facts = %zu", op->index, n_facts);
        if (strstr(op->path, "/npm/registry/"))
                fputs(", .encoded_slash = true", out);
        write_types(out, op);
        fputs("},\n", out);
}

static void write_areas(FILE *out, const char *path)
{
        size_t i, n = 0;
        json_t *all = load(path), *area;
        fputs("const struct resource_area table_areas[] = {\n", out);
        json_array_foreach(all, i, area)
        {
                const char *host = text_of(area, "host");
                size_t service = 0;
                while (service < SERVICE_COUNT && strcmp(hosts[service], host) != 0)
                        service++;
                if (service == SERVICE_COUNT) /* a host without operations: the gallery */
                        continue;
                fputs("\t{", out);
                write_text(out, text_of(area, "id"));
                fputs(", ", out);
                write_text(out, text_of(area, "name"));
                fputs(", ", out);
                write_text(out, text_of(area, "area"));
                fprintf(out, ", %zu},\n", service);
                n++;
        }
        fprintf(out, "};\nconst size_t table_n_areas = %zu;\n", n);
}

/* Several operations share a location: the one with the longest path stands for it. */
static bool stands_for_location(const struct source_operation *op)
{
        const char *location = text_of(op->json, "location_id");

        if (!*location)
                return false;
        for (size_t i = 0; i < n_operations; i++) {
                const struct source_operation *other = &operations[i];
                if (other == op || strcmp(text_of(other->json, "location_id"), location) != 0)
                        continue;
                size_t longer = strlen(other->path), own = strlen(op->path);
                if (longer > own || (longer == own && other->index < op->index))
                        return false;
        }
        return true;
}

static void write_locations(FILE *out)
{
        size_t n = 0;

        fputs("const uint16_t table_locations[] = {\n", out);
        for (size_t i = 0; i < n_operations; i++)
                if (stands_for_location(&operations[i]))
                        fprintf(out, "\t%u,%s", operations[i].index, ++n % 12 ? "" : "\n");
        fprintf(out, "};\nconst size_t table_n_locations = %zu;\n", n);
}

int main(int argc, char **argv)
{
        if (argc != 5)
                fail("usage: make_catalogue OPERATIONS EXTRA AREAS OUTPUT");
        load_operations(argv[1]);
        load_operations(argv[2]);
        sort_operations();
        trie_build();
        FILE *out = fopen(argv[4], "w");
        if (!out)
                fail("%s cannot be written", argv[4]);
        fputs("/* Made by make_catalogue from src/azdo/data/ and the tables beside it. */\n"
              "#include \"catalogue_table.h\"\n\n",
                out);
        write_scopes(out);
        fputs("const struct operation table_operations[] = {\n", out);
        for (size_t i = 0; i < n_operations; i++)
                write_operation(out, &operations[i]);
        fprintf(out, "};\nconst size_t table_n_operations = %zu;\n\n", n_operations);
        static size_t n_rows[MOST_OPERATIONS], n_facts[MOST_OPERATIONS];
        check_rows();
        check_facts();
        for (size_t i = 0; i < n_operations; i++) {
                write_discriminator(out, &operations[i]);
                n_rows[i] = write_rows(out, &operations[i]);
                n_facts[i] = write_facts(out, &operations[i]);
        }
        fputs("\nconst struct operation_extra table_extras[] = {\n", out);
        for (size_t i = 0; i < n_operations; i++)
                write_extra(out, &operations[i], n_rows[i], n_facts[i]);
        fputs("};\n\n", out);
        write_locations(out);
        write_areas(out, argv[3]);
        trie_write(out);
        if (fclose(out) != 0)
                fail("%s could not be written whole", argv[4]);
        return 0;
}
