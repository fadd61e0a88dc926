#include "dagward/azdo/discovery.h"

#include <stdio.h>

#include "catalogue_table.h"

#define ORGANIZATION "/{organization}/"

/* The area a path names: what stands behind `_apis`, or "". */
static struct str path_area(const struct operation *op)
{
        struct str path = str_of(op->path), area;
        ssize_t at = str_find_str(path, STR("/_apis/"));

        if (at < 0)
                return STR_NONE;
        str_cut(str_from(path, (size_t)at + 7), '/', &area);
        return area;
}

static bool in_area(const struct operation *op, struct str area)
{
        if (str_empty(area))
                return true;
        if (str_eq_fold(area, STR("Location")))
                return str_eq_fold(str_of(op->area), STR("discovery"));
        return str_eq_fold(area, str_of(op->area)) || str_eq_fold(area, path_area(op));
}

/* The last segment of a path that is no parameter. */
static struct str last_word(struct str path)
{
        struct str word = path, part;

        while (path.len > 0) {
                path = str_cut(path, '/', &part);
                if (part.len > 0 && part.ptr[0] != '{')
                        word = part;
        }
        return word;
}

static unsigned resource_version(const char *api_version)
{
        const char *preview = strstr(api_version, "-preview.");
        unsigned version = 1;

        if (preview && sscanf(preview, "-preview.%2u", &version) != 1)
                version = 1;
        return version;
}

static void write_location(const struct operation *op, struct buf *out)
{
        struct str path = str_of(op->path);
        struct str name = op->resource[0] ? str_of(op->resource) : last_word(path);

        path = str_from(path, str_starts(path, STR(ORGANIZATION)) ? sizeof(ORGANIZATION) - 1 : 1);
        BUF_LITERAL(out, "{\"id\":");
        buf_json_str(out, str_of(op->location_id));
        BUF_LITERAL(out, ",\"area\":");
        buf_json_str(out, strcmp(op->area, "discovery") == 0 ? STR("Location") : str_of(op->area));
        BUF_LITERAL(out, ",\"resourceName\":");
        buf_json_str(out, name);
        BUF_LITERAL(out, ",\"routeTemplate\":");
        buf_json_str(out, path);
        BUF_LITERAL(out, ",\"resourceVersion\":");
        buf_u64(out, resource_version(op->api_version));
        BUF_LITERAL(out, ",\"minVersion\":\"1.0\",\"maxVersion\":\"7.2\","
                         "\"releasedVersion\":\"7.1\"}");
}

void discovery_locations_write(
        struct str area, enum service service, bool anywhere, bool organization, struct buf *out)
{
        struct buf list;
        size_t count = 0;

        buf_init(&list, 4 << 20);
        for (size_t i = 0; i < table_n_locations; i++) {
                const struct operation *op = &table_operations[table_locations[i]];
                bool served = anywhere || op->any_service || op->service == service ||
                              strcmp(op->area, "discovery") == 0;
                if (!served || str_starts(str_of(op->path), STR(ORGANIZATION)) != organization ||
                        !in_area(op, area))
                        continue;
                if (count++)
                        buf_char(&list, ',');
                write_location(op, &list);
        }
        BUF_LITERAL(out, "{\"count\":");
        buf_u64(out, count);
        BUF_LITERAL(out, ",\"value\":[");
        buf_add(out, list.data, list.len);
        BUF_LITERAL(out, "]}");
        buf_clear(&list);
}

static void write_area(
        const struct resource_area *area, discovery_place *place, void *owner, struct buf *out)
{
        char memory[2048];
        struct buf url;

        buf_init_fixed(&url, memory, sizeof(memory));
        place(owner, area->service, &url);
        BUF_LITERAL(out, "{\"id\":");
        buf_json_str(out, str_of(area->id));
        BUF_LITERAL(out, ",\"name\":");
        buf_json_str(out, str_of(area->name));
        BUF_LITERAL(out, ",\"locationUrl\":");
        buf_json_str(out, buf_str(&url));
        buf_char(out, '}');
}

void discovery_areas_write(struct str id, discovery_place *place, void *owner, struct buf *out)
{
        if (id.len) {
                for (size_t i = 0; i < table_n_areas; i++) {
                        if (!str_eq_fold(id, str_of(table_areas[i].id)))
                                continue;
                        write_area(&table_areas[i], place, owner, out);
                        return;
                }
                BUF_LITERAL(out, "null");
                return;
        }
        BUF_LITERAL(out, "{\"count\":");
        buf_u64(out, table_n_areas);
        BUF_LITERAL(out, ",\"value\":[");
        for (size_t i = 0; i < table_n_areas; i++) {
                if (i)
                        buf_char(out, ',');
                write_area(&table_areas[i], place, owner, out);
        }
        BUF_LITERAL(out, "]}");
}
