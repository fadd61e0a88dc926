/*
 * What SDKs ask before anything else: which host serves an area, which template a route has, who
 * the caller is. All from the catalogue.
 */
#include <stdio.h>
#include <stdlib.h>

#include "dagward/azdo/catalogue.h"
#include "embedded/emu.h"

/* The area a path names: what stands behind `_apis`, or "" */
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

/* Several operations share a location: the longest path has all of its optional parts. */
static const struct operation *longest_of_location(
        const struct operation *all, size_t n, const struct operation *op)
{
        const struct operation *best = op;

        for (size_t i = 0; i < n; i++) {
                if (strcmp(all[i].location_id, op->location_id) == 0 &&
                        strlen(all[i].path) > strlen(best->path))
                        best = &all[i];
        }
        return best;
}

static bool first_of_location(const struct operation *all, const struct operation *op)
{
        for (const struct operation *i = all; i < op; i++) {
                if (strcmp(i->location_id, op->location_id) == 0)
                        return false;
        }
        return true;
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

static void location_write(struct buf *out, const struct operation *op)
{
        struct str path = str_of(op->path);
        struct str name = op->resource[0] ? str_of(op->resource) : last_word(path);

        if (str_starts(path, STR("/{organization}/")))
                path = str_from(path, 16);
        else
                path = str_from(path, 1);
        BUF_LITERAL(out, "{\"id\":");
        buf_json_str(out, str_of(op->location_id));
        BUF_LITERAL(out, ",\"area\":");
        buf_json_str(out, strcmp(op->area, "discovery") == 0 ? STR("Location") : str_of(op->area));
        BUF_LITERAL(out, ",\"resourceName\":");
        buf_json_str(out, name);
        BUF_LITERAL(out, ",\"routeTemplate\":");
        buf_json_str(out, path);
        buf_printf(out, ",\"resourceVersion\":%u", resource_version(op->api_version));
        BUF_LITERAL(out, ",\"minVersion\":\"1.0\",\"maxVersion\":\"7.2\","
                         "\"releasedVersion\":\"7.1\"}");
}

/* Which services a host stands for: its own, or all when it is not one of Azure's. */
static bool host_serves(struct str host, const struct operation *op)
{
        struct str organization;
        enum service service;

        return !service_of_host(host, &service, &organization) || op->any_service ||
               op->service == service || strcmp(op->area, "discovery") == 0;
}

void emu_locations(struct emu_call *call, struct str area)
{
        const struct operation *all;
        size_t n, count = 0;
        struct buf list, body;

        all = catalogue_all(&n);
        buf_init(&list, 4 << 20);
        for (size_t i = 0; i < n; i++) {
                if (!all[i].location_id[0] || !first_of_location(all, &all[i]))
                        continue;
                const struct operation *op = longest_of_location(all, n, &all[i]);
                if (!in_area(op, area) || !host_serves(call->request->head.host, op))
                        continue;
                if (count++)
                        buf_char(&list, ',');
                location_write(&list, op);
        }
        buf_init(&body, 5 << 20);
        buf_printf(&body, "{\"count\":%zu,\"value\":[", count);
        buf_str_add(&body, buf_str(&list));
        BUF_LITERAL(&body, "]}");
        emu_reply(call->request, 200, "application/json; charset=utf-8", buf_str(&body));
        buf_clear(&list);
        buf_clear(&body);
}

static json_t *area_json(const struct resource_area *area)
{
        char url[256];

        snprintf(url, sizeof(url), "https://%s/%s", service_host(area->service),
                area->service == SERVICE_APP ? "" : EMU_ORGANIZATION "/");
        return json_pack("{ss ss ss}", "id", area->id, "name", area->name, "locationUrl", url);
}

void emu_resource_areas(struct emu_call *call)
{
        const struct resource_area *areas;
        json_t *list = json_array();
        size_t n;

        pthread_mutex_lock(&call->azure->lock);
        bool none = call->azure->no_areas;
        pthread_mutex_unlock(&call->azure->lock);
        if (none) {
                json_decref(list);
                emu_json(call, 200, json_pack("{si sn}", "count", 0, "value"));
                return;
        }
        areas = catalogue_resource_areas(&n);
        for (size_t i = 0; i < n; i++)
                json_array_append_new(list, area_json(&areas[i]));
        emu_json(call, 200, json_pack("{si so}", "count", (int)n, "value", list));
}

void emu_resource_area(struct emu_call *call)
{
        const struct resource_area *areas;
        size_t n;

        areas = catalogue_resource_areas(&n);
        for (size_t i = 0; i < n; i++) {
                if (str_eq_fold(call->arguments[0], str_of(areas[i].id))) {
                        emu_json(call, 200, area_json(&areas[i]));
                        return;
                }
        }
        /* The original says null, not 404. */
        emu_reply(call->request, 200, "application/json; charset=utf-8", STR("null"));
}

void emu_connection_data(struct emu_call *call)
{
        json_t *user = json_pack("{ss ss ss ss sb s{s{ss ss}}}", "id", EMU_USER_ID, "descriptor",
                "Microsoft.VisualStudio.Services.Claims.AadServicePrincipal;" EMU_TENANT
                "\\" EMU_USER_ID,
                "subjectDescriptor", "aadsp.NWU1MWNlMDAtMDAwMC00ZDFh", "providerDisplayName",
                "dagward", "isActive", 1, "properties", "Account", "$type", "System.String",
                "$value", "dagward");
        json_t *mapping = json_pack("{ss ss ss ss ss}", "displayName", "Host Guid Access Mapping",
                "moniker", "HostGuidAccessMapping", "accessPoint", EMU_BASE "/", "serviceOwner",
                "00025394-6065-48ca-87d9-7f5672854ef7", "virtualDirectory", "");
        json_t *definition = json_pack("{ss ss ss s[{ss ss}]}", "serviceType", "LocationService2",
                "identifier", "951917ac-a960-4999-8464-e3f0aa25b381", "displayName",
                "SPS Location Service", "locationMappings", "accessMappingMoniker",
                "HostGuidAccessMapping", "location",
                "https://vssps.dev.azure.com/" EMU_ORGANIZATION "/");

        emu_json(call, 200,
                json_pack("{sO so ss ss ss s{ss ss so s[o] s[o]}}", "authenticatedUser", user,
                        "authorizedUser", user, "instanceId", EMU_ORGANIZATION_ID, "deploymentId",
                        "5f0e9000-0000-4c1d-8001-0e0a0de77a02", "deploymentType", "hosted",
                        "locationServiceData", "serviceOwner",
                        "00025394-6065-48ca-87d9-7f5672854ef7", "defaultAccessMappingMoniker",
                        "HostGuidAccessMapping", "lastChangeId", json_integer(1), "accessMappings",
                        mapping, "serviceDefinitions", definition));
}
