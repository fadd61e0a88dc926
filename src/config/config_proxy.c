/* The outgoing proxy: its settings, and what the environment says of it. */
#include "settings.h"

enum { CURLS_PORT = 1080 }; /* what curl takes when a proxy's URL names none */

static const struct setting proxy_rows[] = {
        {.key = "url",
                .type = SETTING_ORIGIN,
                AT(config_outgoing_proxy, url),
                .without = "none",
                .help = "The proxy: `http://host:port`. Not together with `environment`."},
        {.key = "environment",
                .type = SETTING_BOOL,
                AT(config_outgoing_proxy, environment),
                .fallback = "false",
                .help = "Take the proxy from the environment as curl does for https: the first of "
                        "`https_proxy`, `HTTPS_PROXY`, `all_proxy` and `ALL_PROXY` that is set, "
                        "with a user and password in it or not, and what is reached directly from "
                        "`no_proxy` or `NO_PROXY`. Read when the configuration is."},
        {.key = "except",
                .type = SETTING_TEXTS,
                LIST(config_outgoing_proxy, except),
                .without = "loopback and link-local addresses only",
                .help = "What is reached directly all the same: host names (and all below them), "
                        "addresses, networks such as `10.0.0.0/8`, `*`. Issuers inside a cluster "
                        "belong here: `kubernetes.default.svc`."},
        {.key = "credentials_file",
                .type = SETTING_PATH,
                AT(config_outgoing_proxy, credentials_file),
                .without = "none are sent, or those of the environment's URL",
                .help = "File with `user:password` for the proxy (Basic). Read again at every "
                        "reload."},
};
const struct settings settings_outgoing_proxy = TABLE(struct config_outgoing_proxy, proxy_rows);

bool config_proxy_cut(
        struct str value, struct str *user, struct str *host, uint16_t *port, struct error *err)
{
        ssize_t scheme = str_find_str(value, STR("://"));
        uint64_t number = CURLS_PORT;

        *user = STR_NONE;
        if (scheme >= 0) {
                if (!str_eq_fold(str_head(value, (size_t)scheme), STR("http")))
                        return error_set(err, "names a proxy that is not spoken to over http://");
                value = str_from(value, (size_t)scheme + 3);
        }
        str_cut(value, '/', &value);
        for (size_t i = value.len; i > 0 && !user->ptr; i--) {
                if (value.ptr[i - 1] != '@')
                        continue;
                *user = str_head(value, i - 1);
                value = str_from(value, i);
        }
        ssize_t end = str_starts(value, STR("[")) ? str_find(value, ']') : str_find(value, ':');
        *host = end < 0 ? value : str_head(value, (size_t)end);
        struct str rest = end < 0 ? STR("") : str_from(value, (size_t)end);
        if (str_starts(*host, STR("["))) {
                *host = str_from(*host, 1);
                rest = rest.len ? str_from(rest, 1) : rest;
        }
        if (rest.len && (rest.ptr[0] != ':' || !str_to_u64(str_from(rest, 1), &number)))
                return error_set(err, "has no port that can be read");
        *port = (uint16_t)number;
        if (number == 0 || number > 65535)
                return error_set(err, "has no port that can be read");
        for (size_t i = 0; i < host->len; i++)
                if ((unsigned char)host->ptr[i] <= ' ' || (unsigned char)host->ptr[i] >= 0x7f ||
                        strchr("\"<>\\^`{|}%?#", host->ptr[i]))
                        return error_set(err, "names no host");
        return (host->len > 0 && host->len < 254) || error_set(err, "names no host");
}

static void read_environment(struct reader *r, struct config_outgoing_proxy *proxy)
{
        static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
        struct str user = STR_NONE, host = STR_NONE;
        uint16_t port = 0;
        struct error err;
        const char *value = NULL;

        for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !(value && value[0]); i++) {
                value = r->environment(names[i]);
                proxy->variable = names[i];
        }
        if (!value || !value[0]) {
                proxy->variable = NULL;
                return;
        }
        struct mark at = config_place(r->config, &proxy->environment);
        if (!config_proxy_cut(str_of(value), &user, &host, &port, &err)) {
                error_list_add(r->errors, at, "`environment`: %s %s", proxy->variable, err.text);
                return;
        }
        struct str url = arena_printf(&r->doc->arena,
                str_find(host, ':') >= 0 ? "http://[%.*s]:%u" : "http://%.*s:%u", STR_FMT(host),
                (unsigned)port);
        bool good = url.ptr ? config_url_parse(&r->doc->arena, url, &proxy->url, &err)
                            : error_set(&err, "is too long");
        if (!good)
                error_list_add(r->errors, at, "`environment`: %s %s", proxy->variable, err.text);
        const char *direct = r->environment("no_proxy");
        if (!direct || !direct[0])
                direct = r->environment("NO_PROXY");
        if (direct && direct[0])
                proxy->no_proxy = arena_copy(&r->doc->arena, str_of(direct));
}

void config_check_outgoing_proxy(struct reader *r)
{
        struct config_outgoing_proxy *proxy = &r->config->outgoing_proxy;

        if (proxy->environment && config_given(r, &proxy->url))
                error_list_add(r->errors, config_place(r->config, &proxy->url),
                        "`url` and `environment` exclude each other: one proxy at most");
        else if (proxy->environment)
                read_environment(r, proxy);
        else if (proxy->url.https)
                error_list_add(r->errors, config_place(r->config, &proxy->url),
                        "`url` must begin with http://: the proxy is asked for a tunnel in plain, "
                        "and what passes through the tunnel is TLS");
        if (!proxy->environment && !proxy->url.text.ptr && proxy->credentials_file.ptr)
                error_list_add(r->errors, config_place(r->config, &proxy->credentials_file),
                        "`credentials_file` has no meaning without a proxy: add `url` or "
                        "`environment: true`");
}
