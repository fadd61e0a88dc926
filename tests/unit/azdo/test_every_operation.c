/*
 * Every operation of the catalogue is reached by its own requests: as written, with the letter case
 * of its literals turned round, without the parameters that may be left out, by its older paths,
 * and without saying which service it belongs to. Requests are made from the data files themselves,
 * not from the tables that were made of them.
 */
#include "request.h"

#include <ctype.h>
#include <jansson.h>

#define GUID "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c"

static unsigned tried[5];
enum spelling { WRITTEN, TURNED, SHORTENED, OLDER, ANYWHERE };

static const char *text(const json_t *json, const char *name)
{
        const char *found = json_string_value(json_object_get(json, name));
        return found ? found : "";
}

static bool lists(const json_t *json, const char *name, const char *value)
{
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(json, name), i, item)
        {
                if (strcmp(json_string_value(item), value) == 0)
                        return true;
        }
        return false;
}

static const char *sample(const json_t *json, const char *parameter)
{
        const char *type = text(json_object_get(json, "param_types"), parameter);

        if (strcmp(type, "integer") == 0)
                return "7";
        if (strcmp(parameter, "page") == 0) /* that is how a page is told from a team */
                return "_x1";
        return strcmp(type, "uuid") == 0 ? GUID : "x1";
}

/* The template with values in it. `without`: a parameter whose segment is left out, or NULL. */
static void fill(const json_t *json, const char *path, const char *without, bool turn, char *out,
        size_t most)
{
        size_t n = 0;

        while (*path) {
                if (*path != '{') {
                        int c = (unsigned char)*path++;
                        out[n++] = (char)(!turn ? c : islower(c) ? toupper(c) : tolower(c));
                        assert_true(n < most);
                        continue;
                }
                size_t length = strcspn(path, "}");
                char name[64];
                const char *from = path + 1 + (path[1] == '*');
                snprintf(name, sizeof(name), "%.*s", (int)(path + length - from), from);
                path += length + 1;
                if (without && strcmp(name, without) == 0)
                        n--; /* the slash in front */
                else
                        n += (size_t)snprintf(out + n, most - n, "%s", sample(json, name));
                assert_true(n < most);
        }
        out[n] = '\0';
}

static size_t add_query(const json_t *json, char *out, size_t most)
{
        const json_t *rules = json_object_get(json, "discriminator");
        size_t n = 0, i;
        json_t *item;
        const char *name;

        json_array_foreach(json_object_get(rules, "query_present"), i, item) n += (size_t)snprintf(
                out + n, most - n, "%c%s=1", n ? '&' : '?', json_string_value(item));
        json_object_foreach(json_object_get(rules, "query_equals"), name, item) n +=
                (size_t)snprintf(
                        out + n, most - n, "%c%s=%s", n ? '&' : '?', name, json_string_value(item));
        return n;
}

static bool reaches(
        const json_t *json, const char *path, const char *query, bool anywhere, char *found)
{
        static struct request request;
        struct route route;
        const char *why = NULL, *host = text(json, "host");
        char line[2048], body[256] = "";
        const char *name;
        json_t *value;

        json_object_foreach(
                json_object_get(json_object_get(json, "discriminator"), "body_equals"), name, value)
                snprintf(body, sizeof(body), "{\"%s\":\"%s\"}", name, json_string_value(value));
        snprintf(line, sizeof(line), "%s %s%s",
                strcmp(text(json, "method"), "*") == 0 ? "GET" : text(json, "method"), path, query);
        request_read(&request, line);
        if (strcmp(host, "*") != 0 && !anywhere)
                assert_true(service_of_host(
                        str_of(host), &request.query.service, &(struct str){NULL, 0}));
        request.query.body = str_of(body);
        enum route_result result = anywhere ? catalogue_match_anywhere(&request.query, &route, &why)
                                            : catalogue_match(&request.query, &route, &why);
        snprintf(found, 200, "%s",
                result == ROUTE_FOUND ? route.op->id
                : why                 ? why
                                      : "no template");
        return result == ROUTE_FOUND && strcmp(route.op->id, text(json, "id")) == 0;
}

static unsigned missed;

static void try(const json_t *json, const char *path, enum spelling spelling, const char *without)
{
        char target[1024], query[256] = "", found[200];

        fill(json, path, without, spelling == TURNED, target, sizeof(target));
        (void)add_query(json, query, sizeof(query));
        tried[spelling]++;
        if (reaches(json, target, query, spelling == ANYWHERE, found))
                return;
        print_error("%s %s%s: %s, not %s\n", text(json, "method"), target, query, found,
                text(json, "id"));
        missed++;
}

static void try_all(const char *file, size_t least)
{
        json_error_t error;
        json_t *all = json_load_file(file, 0, &error), *json, *older;
        size_t i, k;

        assert_true(json_array_size(all) >= least);
        json_array_foreach(all, i, json)
        {
                const char *path = text(json, "path");
                if (*text(json, "part_of")) /* what requests of another one turn out to be */
                        continue;
                try(json, path, WRITTEN, NULL);
                try(json, path, TURNED, NULL);
                try(json, path, ANYWHERE, NULL);
                if (lists(json, "optional", "team"))
                        try(json, path, SHORTENED, "team");
                else if (lists(json, "optional", "project") && strstr(path, "{project}"))
                        try(json, path, SHORTENED, "project");
                json_array_foreach(json_object_get(json, "older_paths"), k, older)
                        try(json, json_string_value(older), OLDER, NULL);
        }
        json_decref(all);
}

static void every_operation_is_reached_by_its_own_requests(void **state)
{
        (void)state;
        missed = 0;
        try_all(SOURCE_DIR "/src/azdo/data/operations.json", 1194);
        try_all(SOURCE_DIR "/src/azdo/data/operations-extra.json", 67);
        print_message("%u as written, %u in other case, %u shortened, %u older\n", tried[WRITTEN],
                tried[TURNED], tried[SHORTENED], tried[OLDER]);
        assert_int_equal(missed, 0);
        assert_true(tried[WRITTEN] >= 1261 && tried[SHORTENED] >= 200);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_operation_is_reached_by_its_own_requests),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
