/*
 * What SDKs ask before anything else: which host serves an area, which template a route has, who
 * the caller is. All from the catalogue.
 */
#include "dagward/azdo/discovery.h"
#include "embedded/emu.h"

void emu_locations(struct emu_call *call, struct str area)
{
        struct str organization;
        enum service service = SERVICE_DEV;
        struct buf body;

        /* A host that is none of Azure's stands for all of them. */
        bool known = service_of_host(call->request->head.host, &service, &organization);
        buf_init(&body, 5 << 20);
        discovery_locations_write(area, service, !known, true, &body);
        emu_reply(call->request, 200, "application/json; charset=utf-8", buf_str(&body));
        buf_clear(&body);
}

static void write_place(void *owner, enum service service, struct buf *out)
{
        (void)owner;
        buf_printf(out, "https://%s/%s", service_host(service),
                service == SERVICE_APP ? "" : EMU_ORGANIZATION "/");
}

static void reply_areas(struct emu_call *call, struct str id)
{
        struct buf body;

        buf_init(&body, 1 << 20);
        discovery_areas_write(id, write_place, NULL, &body);
        emu_reply(call->request, 200, "application/json; charset=utf-8", buf_str(&body));
        buf_clear(&body);
}

void emu_resource_areas(struct emu_call *call)
{
        pthread_mutex_lock(&call->azure->lock);
        bool none = call->azure->no_areas;
        pthread_mutex_unlock(&call->azure->lock);
        if (none)
                emu_json(call, 200, json_pack("{si sn}", "count", 0, "value"));
        else
                reply_areas(call, STR_NONE);
}

void emu_resource_area(struct emu_call *call)
{
        reply_areas(call, call->arguments[0]);
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
