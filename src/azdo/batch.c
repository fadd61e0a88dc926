#include "dagward/azdo/batch.h"

#include <jansson.h>
#include <stdlib.h>

#include "body.h"

struct batch {
        json_t *list;
};

bool operation_is_batch(const struct operation *op)
{
        return op && str_starts(str_of(op->id), STR("wit.batch."));
}

struct batch *batch_open(struct str text, const char **why)
{
        json_t *list = body_parse(text, why);

        if (!list)
                return NULL;
        if (!json_is_array(list) || json_array_size(list) == 0)
                *why = "the body is not a list of requests";
        else if (json_array_size(list) > BATCH_MOST)
                *why = "the batch has more than 200 requests";
        else {
                struct batch *batch = malloc(sizeof(*batch));
                if (!batch)
                        abort();
                batch->list = list;
                return batch;
        }
        json_decref(list);
        return NULL;
}

void batch_free(struct batch *batch)
{
        if (!batch)
                return;
        json_decref(batch->list);
        free(batch);
}

size_t batch_count(const struct batch *batch)
{
        return json_array_size(batch->list);
}

/* Fields that say what the item's body is, and nothing else. */
static bool headers_fit(const json_t *headers, const char **why)
{
        const char *key;
        json_t *value;

        if (!headers || json_is_null(headers))
                return true;
        *why = "a request in the batch has `headers` that are not an object of texts";
        if (!json_is_object(headers))
                return false;
        json_object_foreach((json_t *)headers, key, value)
        {
                if (!json_is_string(value) || !body_member(headers, str_of(key), why))
                        return false;
                if (str_eq_fold(str_of(key), STR("Content-Type")) ||
                        str_eq_fold(str_of(key), STR("Accept")))
                        continue;
                *why = "a request in the batch has a header other than Content-Type and Accept";
                return false;
        }
        return true;
}

static bool members_fit(const json_t *item, const char **why)
{
        static const char *const known[] = {"method", "uri", "headers", "body"};
        const char *key;
        json_t *value;

        json_object_foreach((json_t *)item, key, value)
        {
                bool found = false;
                for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++)
                        found = str_eq_fold(str_of(key), str_of(known[i]));
                if (!found) {
                        *why = "a request in the batch has a member other than method, uri, "
                               "headers and body";
                        return false;
                }
        }
        return true;
}

/* The text of a member, a view into the batch; STR_NONE with `*why` when it is not one. */
static struct str text_of(const json_t *item, struct str name, const char **why)
{
        const json_t *member = body_member(item, name, why);

        if (!member || !json_is_string(member))
                return STR_NONE;
        return str_view(json_string_value(member), json_string_length(member));
}

/* Whether a plus stands in the path, encoded or not: what is inside of a body may be decoded as a
 * form is. */
static bool has_plus(struct str uri)
{
        struct str path;

        str_cut(uri, '?', &path);
        for (size_t i = 0; i < path.len; i++)
                if (path.ptr[i] == '+' || str_starts_fold(str_from(path, i), STR("%2b")))
                        return true;
        return false;
}

bool batch_item(const struct batch *batch, size_t i, struct arena *arena, struct batch_item *out,
        const char **why)
{
        const json_t *item = json_array_get(batch->list, i);

        *why = "a request in the batch is not an object with method and uri";
        if (!json_is_object(item))
                return false;
        *why = NULL;
        const json_t *headers = body_member(item, STR("headers"), why);
        if (*why || !members_fit(item, why) || !headers_fit(headers, why))
                return false;
        *why = NULL;
        const json_t *body = body_member(item, STR("body"), why);
        out->method = text_of(item, STR("method"), why);
        out->uri = text_of(item, STR("uri"), why);
        if (*why)
                return false;
        *why = "a request in the batch lacks its method or its uri";
        if (!out->method.len || !out->uri.len)
                return false;
        *why = "a request in the batch has a uri that does not begin with one slash";
        if (out->uri.ptr[0] != '/' || str_starts(out->uri, STR("//")))
                return false;
        *why = "a request in the batch has a `+` in the path of its uri, which upstream may read "
               "as a "
               "blank";
        if (has_plus(out->uri))
                return false;
        out->body = STR("");
        if (!body || json_is_null(body))
                return true;
        size_t most = json_dumpb(body, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
        char *text = arena_alloc(arena, most + 1);
        *why = "the batch is too large to be judged";
        if (!text)
                return false;
        json_dumpb(body, text, most, JSON_COMPACT | JSON_ENCODE_ANY);
        out->body = str_view(text, most);
        return true;
}

void batch_readdress(struct batch *batch, size_t i, struct str uri)
{
        json_t *item = json_array_get(batch->list, i);
        const char *key;
        json_t *value;

        json_object_foreach(item, key, value)
        {
                if (str_eq_fold(str_of(key), STR("uri"))) {
                        json_object_set_new(item, key, json_stringn(uri.ptr, uri.len));
                        return;
                }
        }
}

static int add(const char *bytes, size_t len, void *out)
{
        buf_add(out, bytes, len);
        return 0;
}

void batch_write(const struct batch *batch, struct buf *out)
{
        (void)json_dump_callback(batch->list, add, out, JSON_COMPACT);
}
