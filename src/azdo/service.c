#include "dagward/azdo/catalogue.h"

static const char *const access_names[ACCESS_COUNT] = {
        [ACCESS_READ] = "read",
        [ACCESS_WRITE] = "write",
        [ACCESS_EXECUTE] = "execute",
        [ACCESS_MANAGE] = "manage",
        [ACCESS_DELETE] = "delete",
};

static const struct {
        const char *name;
        struct str host; /* ends with NUL */
} services[SERVICE_COUNT] = {
        [SERVICE_DEV] = {"dev", STR("dev.azure.com")},
        [SERVICE_VSRM] = {"vsrm", STR("vsrm.dev.azure.com")},
        [SERVICE_VSSPS] = {"vssps", STR("vssps.dev.azure.com")},
        [SERVICE_VSAEX] = {"vsaex", STR("vsaex.dev.azure.com")},
        [SERVICE_FEEDS] = {"feeds", STR("feeds.dev.azure.com")},
        [SERVICE_PKGS] = {"pkgs", STR("pkgs.dev.azure.com")},
        [SERVICE_ALMSEARCH] = {"almsearch", STR("almsearch.dev.azure.com")},
        [SERVICE_VSTMR] = {"vstmr", STR("vstmr.dev.azure.com")},
        [SERVICE_EXTMGMT] = {"extmgmt", STR("extmgmt.dev.azure.com")},
        [SERVICE_AUDITSERVICE] = {"auditservice", STR("auditservice.dev.azure.com")},
        [SERVICE_ADVSEC] = {"advsec", STR("advsec.dev.azure.com")},
        [SERVICE_ARTIFACTS] = {"artifacts", STR("artifacts.dev.azure.com")},
        [SERVICE_ANALYTICS] = {"analytics", STR("analytics.dev.azure.com")},
        [SERVICE_STATUS] = {"status", STR("status.dev.azure.com")},
        [SERVICE_APP] = {"app", STR("app.vssps.visualstudio.com")},
};

static const char *const risk_names[RISK_COUNT] = {
        "mints-credential",
        "returns-credential",
        "tunnels-requests",
        "sends-data-out",
        "changes-permissions",
        "defines-what-runs",
        "body-decides-target",
        "body-decides-action",
        "project-not-in-path",
        "by-name-only",
};

const char *access_name(enum access access)
{
        return access_names[access];
}

bool access_named(struct str name, enum access *access)
{
        for (unsigned i = 0; i < ACCESS_COUNT; i++) {
                if (str_eq_fold(name, str_of(access_names[i]))) {
                        *access = (enum access)i;
                        return true;
                }
        }
        return false;
}

const char *service_name(enum service service)
{
        return services[service].name;
}

const char *service_host(enum service service)
{
        return services[service].host.ptr;
}

bool service_named(struct str name, enum service *service)
{
        for (unsigned i = 0; i < SERVICE_COUNT; i++) {
                if (str_eq_fold(name, str_of(services[i].name))) {
                        *service = (enum service)i;
                        return true;
                }
        }
        return false;
}

const char *risk_name(unsigned bit)
{
        return bit < RISK_COUNT ? risk_names[bit] : "";
}

bool service_of_host(struct str host, enum service *service, struct str *organization)
{
        *organization = STR_NONE;
        str_cut(host, ':', &host);
        /* All names end in "com": most others are seen to be none at once. */
        if (host.len < 4 || char_lower(host.ptr[host.len - 1]) != 'm')
                return false;
        for (unsigned i = 0; i < SERVICE_COUNT; i++) {
                if (host.len == services[i].host.len && str_eq_fold(host, services[i].host)) {
                        *service = (enum service)i;
                        return true;
                }
        }
        if (!str_ends_fold(host, STR(".visualstudio.com")))
                return false;
        struct str label = str_head(host, host.len - sizeof(".visualstudio.com") + 1), name;
        struct str rest = str_cut(label, '.', &name);
        if (str_empty(name) || (rest.ptr && !service_named(rest, service)))
                return false;
        /* app.vssps is the shared host above; of the services only these had a name of old. */
        if (rest.ptr && (*service == SERVICE_DEV || *service == SERVICE_APP))
                return false;
        /* {unit}prod*.vssps and the marketplace are no organizations. */
        if (!rest.ptr) {
                if (str_eq_fold(name, STR("marketplace")) || str_eq_fold(name, STR("app")))
                        return false;
                *service = SERVICE_DEV;
        } else if (str_starts_fold(name, STR("spsprod"))) {
                return false;
        }
        *organization = name;
        return true;
}
