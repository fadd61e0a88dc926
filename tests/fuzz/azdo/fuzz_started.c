/* What starting a run is answered with, the list of runs, and a request that is marked: the first
 * byte picks the operation, the rest is the body. */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "dagward/azdo/started.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char mine[] = "019ab1c2-0000-7000-8000-000000000001";

static bool is_number(const char *text)
{
        uint64_t number;

        return str_to_u64(str_of(text), &number);
}

/* What is marked is an object that holds the mark, and marking it again is refused: a caller cannot
 * be taken for us. */
static void mark(const struct operation *op, struct str body, bool variable, bool parameter)
{
        struct started_mark where = {.variable = variable ? STR("CID") : STR_NONE,
                .parameter = parameter ? STR("cid") : STR_NONE};
        struct buf out, again;
        const char *why = NULL;

        buf_init(&out, 8 << 20);
        buf_init(&again, 8 << 20);
        if (started_mark_write(op, body, &where, str_of(mine), &out, &why)) {
                json_t *json = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
                assert(json_is_object(json));
                json_decref(json);
                bool marks = variable || (parameter && strcmp(op->id, "release.releases.create"));
                assert(!marks || str_find_str(buf_str(&out), str_of(mine)) >= 0);
                bool twice =
                        started_mark_write(op, buf_str(&out), &where, str_of(mine), &again, &why);
                assert(twice == !marks);
        } else {
                assert(why || out.overflow);
        }
        buf_clear(&out);
        buf_clear(&again);
}

static void list(const struct operation *op, struct str body)
{
        struct started_wanted wanted = {.op = op,
                .organization = "contoso",
                .project = "analytics",
                .definition = "42",
                .correlation_id = "019ab1c2-0000-7000-8000-00000000000c",
                .names = {"CID", "cid"}};
        struct started_seen seen = {0};
        const char *why = NULL;

        memcpy(wanted.id, mine, sizeof(mine));
        for (int page = 0; page < 2; page++) {
                if (!started_list_read(&wanted, body, &seen, &why)) {
                        assert(why);
                        break;
                }
                assert(!seen.found[0] || is_number(seen.found));
                for (size_t i = 0; i < seen.n_maybe && i < STARTED_SHOWN; i++)
                        assert(seen.shown[i][0] == 0 || is_number(seen.shown[i]) ||
                                seen.shown[i][0] == '-');
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const ops[] = {
                "pipelines.runs.run", "build.builds.queue", "release.releases.create"};
        struct str id, url, definition;
        struct arena arena;
        uint64_t number;

        if (size < 1)
                return 0;
        const struct operation *op = catalogue_find(str_of(ops[data[0] % 3]));
        struct str body = str_view((const char *)data + 1, size - 1);
        arena_init(&arena, 4096, 1 << 20);
        if (started_read(op, body, &arena, &id, &url))
                assert(str_to_u64(id, &number));
        definition = started_definition(op, STR_NONE, body, &arena);
        assert(!definition.len || str_to_u64(definition, &number));
        arena_clear(&arena);
        mark(op, body, data[0] & 4, data[0] & 8);
        list(op, body);
        return 0;
}
