/* A line of any bytes read as a record: what is accepted is JSON for jansson too, with the same
 * values, and written and read again it says the same. */
#include <assert.h>
#include <jansson.h>

#include "dagward/audit/read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct str text_at(const json_t *record, const char *object, const char *name)
{
        const json_t *value =
                json_object_get(object ? json_object_get(record, object) : record, name);

        return json_is_string(value) ? str_view(json_string_value(value), json_string_length(value))
                                     : STR_NONE;
}

static void compare(const json_t *record, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;
        const json_t *list = json_object_get(json_object_get(record, "request"), "resources");

        assert(str_eq(line->time, text_at(record, NULL, "time")));
        assert(str_eq(f->request_id, text_at(record, NULL, "request_id")));
        assert(str_eq(f->caller.subject, text_at(record, "caller", "subject")));
        assert(str_eq(f->request.path, text_at(record, "request", "path")));
        assert(str_eq(f->decision.rule, text_at(record, "decision", "rule")));
        assert(line->cut || f->request.n_resources == json_array_size(list));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str text = str_view((const char *)data, size);
        struct audit_line line;
        struct arena arena;

        arena_init(&arena, 4096, 4 << 20);
        if (audit_line_read(text, &arena, &line)) {
                json_t *record = json_loadb(text.ptr, text.len, JSON_ALLOW_NUL, NULL);
                /* jansson also refuses numbers beyond its range, in members that we pass over. */
                if (record)
                        compare(record, &line);
                json_decref(record);
        }
        arena_clear(&arena);
        return 0;
}
