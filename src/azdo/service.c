#include "dagward/azdo/catalogue.h"

static const char *const access_names[ACCESS_COUNT] = {
        [ACCESS_READ] = "read",
        [ACCESS_WRITE] = "write",
        [ACCESS_EXECUTE] = "execute",
        [ACCESS_MANAGE] = "manage",
        [ACCESS_DELETE] = "delete",
};

static const struct {
        const char *name, *host;
} services[SERVICE_COUNT] = {
        [SERVICE_DEV] = {"dev", "dev.azure.com"},
        [SERVICE_VSRM] = {"vsrm", "vsrm.dev.azure.com"},
        [SERVICE_VSSPS] = {"vssps", "vssps.dev.azure.com"},
        [SERVICE_VSAEX] = {"vsaex", "vsaex.dev.azure.com"},
        [SERVICE_FEEDS] = {"feeds", "feeds.dev.azure.com"},
        [SERVICE_PKGS] = {"pkgs", "pkgs.dev.azure.com"},
        [SERVICE_ALMSEARCH] = {"almsearch", "almsearch.dev.azure.com"},
        [SERVICE_VSTMR] = {"vstmr", "vstmr.dev.azure.com"},
        [SERVICE_EXTMGMT] = {"extmgmt", "extmgmt.dev.azure.com"},
        [SERVICE_AUDITSERVICE] = {"auditservice", "auditservice.dev.azure.com"},
        [SERVICE_ADVSEC] = {"advsec", "advsec.dev.azure.com"},
        [SERVICE_ARTIFACTS] = {"artifacts", "artifacts.dev.azure.com"},
        [SERVICE_ANALYTICS] = {"analytics", "analytics.dev.azure.com"},
        [SERVICE_STATUS] = {"status", "status.dev.azure.com"},
        [SERVICE_APP] = {"app", "app.vssps.visualstudio.com"},
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
        return services[service].host;
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
        for (unsigned i = 0; i < SERVICE_COUNT; i++) {
                if (str_eq_fold(host, str_of(services[i].host))) {
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
