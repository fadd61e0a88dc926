/* What a sink of each type needs, and what its server is. */
#include "settings.h"

#define BIT(type) (1u << (type))
#define SYSLOG BIT(CONFIG_SINK_SYSLOG)
#define MONITOR BIT(CONFIG_SINK_MONITOR)

struct trait {
        const char *key;
        size_t offset;
        unsigned needed, allowed; /* BITs */
};

#define FIELD(name) #name, offsetof(struct config_sink, name)

static const struct trait traits[] = {
        {FIELD(server), SYSLOG, SYSLOG},
        {FIELD(insecure), 0, SYSLOG},
        {FIELD(certificate), 0, SYSLOG},
        {FIELD(key), 0, SYSLOG},
        {FIELD(facility), 0, SYSLOG},
        {FIELD(severity), 0, SYSLOG},
        {FIELD(hostname), 0, SYSLOG},
        {FIELD(app_name), 0, SYSLOG},
        {FIELD(enterprise), 0, SYSLOG},
        {FIELD(endpoint), MONITOR, MONITOR},
        {FIELD(rule), MONITOR, MONITOR},
        {FIELD(stream), 0, MONITOR},
        {FIELD(credential), MONITOR, MONITOR},
        {FIELD(scope), 0, MONITOR},
        {FIELD(interval_ms), 0, MONITOR},
        {FIELD(ca), 0, SYSLOG | MONITOR},
};

static const char *type_name(enum config_sink_type type)
{
        switch (type) {
        case CONFIG_SINK_STDOUT: return "stdout";
        case CONFIG_SINK_SYSLOG: return "syslog";
        case CONFIG_SINK_MONITOR: return "azure_monitor";
        }
        return "";
}

static void check_traits(struct reader *r, const struct config_sink *sink)
{
        for (size_t i = 0; i < sizeof(traits) / sizeof(*traits); i++) {
                const struct trait *t = &traits[i];
                const void *field = (const char *)sink + t->offset;
                const char *key = strcmp(t->key, "interval_ms") == 0 ? "interval" : t->key;
                if (config_given(r, field) && !(t->allowed & BIT(sink->type)))
                        error_list_add(r->errors, config_place(r->config, field),
                                "`%s` has no meaning for a sink of type %s", key,
                                type_name(sink->type));
                if (!config_given(r, field) && (t->needed & BIT(sink->type)))
                        error_list_add(r->errors, config_place(r->config, sink),
                                "`%s` is missing for type %s", key, type_name(sink->type));
        }
}

/* `host:port`, read as the host and port of a URL. */
static bool parse_host(struct reader *r, struct config_sink *sink, struct str rest)
{
        struct config_url url;
        struct error err;
        struct str text = arena_printf(&r->doc->arena, "https://%.*s", STR_FMT(rest));

        if (!config_url_parse(&r->doc->arena, text, &url, &err) || url.path.len > 1 ||
                (!str_ends(rest, STR("]")) && str_find(str_from(rest, url.host.len), ':') < 0))
                return false;
        sink->host = url.host;
        sink->port = url.port;
        if (sink->transport == CONFIG_SINK_TCP && !url.loopback && !sink->insecure)
                error_list_add(r->errors, config_place(r->config, &sink->server),
                        "`server` sends records to another machine in the clear: use tls://, or "
                        "add `insecure: true` if that is wanted");
        return true;
}

static void check_server(struct reader *r, struct config_sink *sink)
{
        struct str text = sink->server;
        bool ok = false;

        if (!text.ptr)
                return;
        if (str_starts(text, STR("tls://"))) {
                sink->transport = CONFIG_SINK_TLS;
                ok = parse_host(r, sink, str_from(text, 6));
        } else if (str_starts(text, STR("tcp://"))) {
                sink->transport = CONFIG_SINK_TCP;
                ok = parse_host(r, sink, str_from(text, 6));
        } else if (str_starts(text, STR("unix:/"))) {
                sink->transport = CONFIG_SINK_UNIX;
                sink->host = str_from(text, 5);
                ok = sink->host.len < 108;
        }
        if (!ok)
                error_list_add(r->errors, config_place(r->config, &sink->server),
                        "`server` must be tls://HOST:PORT, tcp://HOST:PORT or unix:/PATH, not "
                        "`%s`",
                        yaml_shown(text));
        if (sink->transport != CONFIG_SINK_TLS &&
                (sink->ca.ptr || sink->certificate.ptr || sink->key.ptr))
                error_list_add(r->errors, config_at(r, &sink->ca, sink),
                        "`ca`, `certificate` and `key` need a server of tls://");
        if (!sink->certificate.ptr != !sink->key.ptr)
                error_list_add(r->errors, config_at(r, &sink->certificate, sink),
                        "`certificate` and `key` belong together");
}

/* --- Azure Monitor --- */

static struct str scope_of(const struct config_url *endpoint)
{
        if (str_ends(endpoint->host, STR(".monitor.azure.us")))
                return STR("https://monitor.azure.us/.default");
        if (str_ends(endpoint->host, STR(".monitor.azure.cn")))
                return STR("https://monitor.azure.cn/.default");
        return STR("https://monitor.azure.com/.default");
}

static void link_credential(struct reader *r, struct config_sink *sink)
{
        enum { most = 64 };
        const struct config *config = r->config;
        struct mark at = config_place(config, &sink->credential);
        struct str names[most];
        size_t n = 0;

        for (size_t i = 0; i < config->n_credentials; i++) {
                const struct config_credential *one = &config->credentials[i];
                if (n < most && one->name.ptr)
                        names[n++] = one->name;
                if (!str_eq(one->name, sink->credential))
                        continue;
                sink->credential_index = (unsigned)i;
                if (one->type && config_credential_is_emergency(one))
                        error_list_add(r->errors, at,
                                "`%s` is a %s, which Azure Monitor does not take",
                                yaml_shown(one->name), config_credential_type_name(one->type).ptr);
                else if (one->assertion_is_callers)
                        error_list_add(r->errors, at,
                                "`%s` is each caller's own (`assertion: caller`): records have no "
                                "caller",
                                yaml_shown(one->name));
                return;
        }
        error_list_add(r->errors, at, "there is no credential named `%s`%s",
                yaml_shown(sink->credential),
                error_did_you_mean(str_head(sink->credential, 64), names, n));
}

static void check_monitor(struct reader *r, struct config_sink *sink)
{
        config_check_confidential(r, "endpoint", &sink->endpoint);
        if (sink->credential.ptr)
                link_credential(r, sink);
        if (!sink->scope.ptr)
                sink->scope = scope_of(&sink->endpoint);
        else if (!str_ends(sink->scope, STR("/.default")) || str_find(sink->scope, ' ') >= 0)
                error_list_add(r->errors, config_place(r->config, &sink->scope),
                        "`scope` must be one resource and end in `/.default`");
}

void config_check_sinks(struct reader *r)
{
        struct config_audit *audit = &r->config->audit;
        unsigned outputs = 0;

        for (size_t i = 0; i < audit->n_sinks; i++) {
                struct config_sink *sink = &audit->sinks[i];
                for (size_t before = 0; before < i; before++)
                        if (sink->name.ptr && str_eq(sink->name, audit->sinks[before].name))
                                error_list_add(r->errors, config_place(r->config, &sink->name),
                                        "there are two sinks named `%s`", yaml_shown(sink->name));
                if (!sink->type)
                        continue;
                check_traits(r, sink);
                if (sink->type == CONFIG_SINK_STDOUT && ++outputs == 2)
                        error_list_add(r->errors, config_place(r->config, sink),
                                "there are two sinks of type stdout, and one standard output");
                if (sink->type == CONFIG_SINK_SYSLOG)
                        check_server(r, sink);
                if (sink->type == CONFIG_SINK_MONITOR)
                        check_monitor(r, sink);
        }
}
