#include "dagward/net/egress.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* An address of either family, IPv4 as the IPv6 address it is mapped to. */
struct address {
        unsigned char bytes[16];
};

struct egress_exception {
        char name[256]; /* "": a network */
        struct address network;
        unsigned bits;
};

static void egress_drop(struct snapshot *snap)
{
        struct egress *egress = (struct egress *)snap;

        secret_drop(&egress->authorization);
        free(egress->exceptions);
        free(egress);
}

struct egress *egress_new(struct str host, uint16_t port, const char *from)
{
        static uint64_t last; /* made by one thread only, the control thread's */
        struct egress *egress = calloc(1, sizeof(*egress));
        bool v6 = str_find(host, ':') >= 0;

        if (!egress)
                abort();
        snapshot_init(&egress->snap, egress_drop);
        egress->number = ++last;
        snprintf(egress->host, sizeof(egress->host), "%.*s", STR_FMT(host));
        egress->port = port;
        snprintf(egress->text, sizeof(egress->text), v6 ? "http://[%s]:%u" : "http://%s:%u",
                egress->host, (unsigned)port);
        snprintf(egress->from, sizeof(egress->from), "%s", from);
        return egress;
}

static bool text_of(struct str host, char out[256])
{
        if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
                host = str_head(str_from(host, 1), host.len - 2);
        if (host.len == 0 || host.len > 255)
                return false;
        for (size_t i = 0; i < host.len; i++)
                out[i] = char_lower(host.ptr[i]);
        out[host.len] = '\0';
        /* a fully qualified name may end with a dot, and is the same name without */
        if (host.len > 1 && out[host.len - 1] == '.')
                out[host.len - 1] = '\0';
        return true;
}

/* `*v4`: written as an IPv4 address. */
static bool address_of(const char *text, struct address *out, bool *v4)
{
        static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

        memcpy(out->bytes, mapped, sizeof(mapped));
        *v4 = inet_pton(AF_INET, text, out->bytes + 12) == 1;
        return *v4 || inet_pton(AF_INET6, text, out->bytes) == 1;
}

static bool is_in(const struct address *address, const struct address *network, unsigned bits)
{
        unsigned whole = bits / 8, rest = bits % 8;

        if (memcmp(address->bytes, network->bytes, whole) != 0)
                return false;
        return rest == 0 || (address->bytes[whole] ^ network->bytes[whole]) >> (8 - rest) == 0;
}

static bool name_ok(const char *name)
{
        for (; *name; name++)
                if (!((*name >= 'a' && *name <= 'z') || (*name >= '0' && *name <= '9') ||
                            strchr("-._", *name)))
                        return false;
        return true;
}

static bool exception_of(struct str item, struct egress_exception *out)
{
        ssize_t slash = str_find(item, '/');
        uint64_t bits = 128;
        char text[256];
        bool v4;

        *out = (struct egress_exception){.bits = 128};
        if (slash >= 0 && !str_to_u64(str_from(item, (size_t)slash + 1), &bits))
                return false;
        if (!text_of(slash >= 0 ? str_head(item, (size_t)slash) : item, text))
                return false;
        if (address_of(text, &out->network, &v4)) {
                if (slash >= 0 && bits > (v4 ? 32 : 128))
                        return false;
                out->bits = (unsigned)bits + (slash >= 0 && v4 ? 96 : 0);
                return true;
        }
        const char *name = strncmp(text, "*.", 2) == 0 ? text + 2 : text + (text[0] == '.');
        if (slash >= 0 || !name[0] || name[0] == '.' || !name_ok(name))
                return false;
        snprintf(out->name, sizeof(out->name), "%s", name);
        return true;
}

bool egress_exception_ok(struct str item)
{
        struct egress_exception exception;

        return str_eq(item, STR("*")) || exception_of(item, &exception);
}

bool egress_except(struct egress *egress, struct str item)
{
        struct egress_exception exception;

        if (str_eq(item, STR("*"))) {
                egress->excepts_all = true;
                return true;
        }
        if (!exception_of(item, &exception))
                return false;
        egress->exceptions = realloc(
                egress->exceptions, (egress->n_exceptions + 1) * sizeof(*egress->exceptions));
        if (!egress->exceptions)
                abort();
        egress->exceptions[egress->n_exceptions++] = exception;
        return true;
}

/* Of this machine or this wire: what stands there is not reached through anybody. */
static bool is_near(const struct address *address)
{
        static const struct {
                struct address network;
                unsigned bits;
        } near[] = {
                {{{[10] = 0xff, [11] = 0xff, [12] = 127}}, 104},
                {{{[10] = 0xff, [11] = 0xff, [12] = 169, [13] = 254}}, 112},
                {{{[15] = 1}}, 128},
                {{{0xfe, 0x80}}, 10},
        };

        for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++)
                if (is_in(address, &near[i].network, near[i].bits))
                        return true;
        return false;
}

bool egress_serves(const struct egress *egress, const char *host)
{
        struct address address;
        char text[256];
        bool v4;

        if (!egress || egress->excepts_all || !text_of(str_of(host), text))
                return false;
        struct str name = str_of(text);
        bool literal = address_of(text, &address, &v4);
        if (literal ? is_near(&address)
                    : str_eq(name, STR("localhost")) || str_ends(name, STR(".localhost")))
                return false;
        for (size_t i = 0; i < egress->n_exceptions; i++) {
                const struct egress_exception *one = &egress->exceptions[i];
                struct str end = str_of(one->name);
                if (literal ? !end.len && is_in(&address, &one->network, one->bits)
                            : end.len && (str_eq(name, end) ||
                                                 (str_ends(name, end) &&
                                                         name.ptr[name.len - end.len - 1] == '.')))
                        return false;
        }
        return true;
}
