#include "settings.h"

#include <arpa/inet.h>

static bool is_loopback(const struct sockaddr_storage *socket)
{
        if (socket->ss_family == AF_INET) {
                const struct sockaddr_in *v4 = (const struct sockaddr_in *)socket;
                return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
        }
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)socket)->sin6_addr);
}

/* A port as people write it: no sign, no leading zeros. */
static bool port_parse(struct str text, uint16_t *port)
{
        uint64_t number;

        if (!str_to_u64(text, &number) || number > 65535 || (text.len > 1 && text.ptr[0] == '0'))
                return false;
        *port = (uint16_t)number;
        return true;
}

/* An address in text form, IPv6 without brackets. */
static bool ip_parse(struct str host, uint16_t port, struct config_address *out)
{
        struct sockaddr_in *v4 = (struct sockaddr_in *)&out->socket;
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->socket;
        char text[INET6_ADDRSTRLEN];

        if (host.len >= sizeof(text))
                return false;
        memcpy(text, host.ptr, host.len);
        text[host.len] = '\0';
        memset(&out->socket, 0, sizeof(out->socket));
        if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
                v4->sin_family = AF_INET;
                v4->sin_port = htons(port);
                out->socket_len = sizeof(*v4);
        } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
                v6->sin6_family = AF_INET6;
                v6->sin6_port = htons(port);
                out->socket_len = sizeof(*v6);
        } else {
                return false;
        }
        out->loopback = is_loopback(&out->socket);
        return true;
}

bool config_address_parse(struct str text, struct config_address *out, struct error *err)
{
        struct str host, rest;
        uint16_t port;
        bool bracket = str_starts(text, STR("["));

        *out = (struct config_address){.text = text};
        if (bracket) {
                rest = str_cut(str_from(text, 1), ']', &host);
                if (!str_starts(rest, STR(":")) || str_find(host, ':') < 0)
                        return error_set(err, "must be [ipv6]:port");
                rest = str_from(rest, 1);
        } else {
                rest = str_cut(text, ':', &host);
                if (!rest.ptr)
                        return error_set(err, "must be ip:port; the port is missing");
                if (str_find(rest, ':') >= 0)
                        return error_set(
                                err, "an IPv6 address needs brackets: [%.*s]:port", STR_FMT(text));
        }
        if (!port_parse(rest, &port))
                return error_set(err, "`%.*s` is not a port", STR_FMT(str_head(rest, 40)));
        if (str_empty(host) || str_eq(host, STR("*")))
                return error_set(err, "must name an address; every one is 0.0.0.0:%u or [::]:%u",
                        port, port);
        if (!bracket && str_eq_fold(host, STR("localhost")))
                host = STR("127.0.0.1");
        if (!ip_parse(host, port, out))
                return error_set(err,
                        "must be ip:port, [ipv6]:port or localhost:port; `%.*s` is "
                        "not an IP address",
                        STR_FMT(str_head(host, 60)));
        return true;
}

static bool host_char(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* A DNS name or IPv4 address, lower case. */
static bool host_ok(struct str host)
{
        if (host.len == 0 || host.len > 253 || host.ptr[0] == '.' || host.ptr[0] == '-' ||
                str_find_str(host, STR("..")) >= 0)
                return false;
        for (size_t i = 0; i < host.len; i++)
                if (!host_char(host.ptr[i]))
                        return false;
        return true;
}

/* `host`, `host:port`, `[v6]` or `[v6]:port`, already in lower case. */
static bool authority_parse(struct str authority, struct config_url *out, struct error *err)
{
        struct config_address ip;
        struct str host, port;
        bool bracket = str_starts(authority, STR("["));

        if (bracket) {
                port = str_cut(str_from(authority, 1), ']', &host);
                if (!port.ptr || (port.len && port.ptr[0] != ':') || str_find(host, ':') < 0 ||
                        !ip_parse(host, 0, &ip))
                        return error_set(err, "is not a URL: [ipv6] expected behind `://`");
                port = port.len ? str_from(port, 1) : STR_NONE;
        } else {
                port = str_cut(authority, ':', &host);
                if (!host_ok(host))
                        return error_set(err, "is not a URL: a host name expected behind `://`");
        }
        out->port = out->https ? 443 : 80;
        if (port.ptr && (!port_parse(port, &out->port) || out->port == 0))
                return error_set(
                        err, "is not a URL: `%.*s` is not a port", STR_FMT(str_head(port, 40)));
        out->host = host;
        out->loopback = str_eq(host, STR("localhost")) || (ip_parse(host, 0, &ip) && ip.loopback);
        return true;
}

bool config_url_parse(
        struct arena *arena, struct str text, struct config_url *out, struct error *err)
{
        struct str rest, authority;
        size_t end = 0;

        *out = (struct config_url){.text = text};
        if (str_starts_fold(text, STR("https://")))
                out->https = true;
        else if (!str_starts_fold(text, STR("http://")))
                return error_set(err, "must be a URL that begins with https:// (or http://)");
        rest = str_from(text, out->https ? 8 : 7);
        for (size_t i = 0; i < text.len; i++)
                if ((unsigned char)text.ptr[i] <= ' ' || (unsigned char)text.ptr[i] >= 0x7f ||
                        strchr("\"<>\\^`{|}", text.ptr[i]))
                        return error_set(err, "is not a URL: a character that must be encoded");
        if (str_find(rest, '#') >= 0)
                return error_set(err, "must not have a fragment (`#`)");
        while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
                end++;
        authority = arena_copy(arena, str_head(rest, end));
        out->path = str_from(rest, end);
        if (!authority.ptr)
                return error_set(err, "is too long");
        if (str_find(authority, '@') >= 0)
                return error_set(err, "must not hold a user or password");
        for (size_t i = 0; i < authority.len; i++)
                ((char *)authority.ptr)[i] = char_lower(authority.ptr[i]);
        if (!authority_parse(authority, out, err))
                return false;
        /* ends at the colon or bracket: a copy is needed for the NUL behind it */
        out->host = arena_copy(arena, out->host);
        return out->host.ptr || error_set(err, "is too long");
}

struct unit {
        uint64_t times;
        const char *name;
};

/* `units` ends with one of 1. */
static void unit_text(uint64_t value, const struct unit *units, char out[32])
{
        while (units->times > 1 && (value < units->times || value % units->times))
                units++;
        snprintf(out, 32, "%llu%s", (unsigned long long)(value / units->times), units->name);
}

void config_duration_text(uint64_t ms, char out[32])
{
        static const struct unit units[] = {
                {86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};

        if (ms == 0)
                snprintf(out, 32, "0s");
        else
                unit_text(ms, units, out);
}

void config_size_text(uint64_t bytes, char out[32])
{
        static const struct unit units[] = {
                {1ull << 30, "GiB"}, {1ull << 20, "MiB"}, {1ull << 10, "KiB"}, {1, "B"}};

        unit_text(bytes, units, out);
}
