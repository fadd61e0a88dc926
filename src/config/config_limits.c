/* What only makes sense across the settings of `limits`, and what `auto` is. */
#include <arpa/inet.h>
#include <string.h>

#include "settings.h"

enum {
        ADDRESS_AUTO_LEAST = 64,
        IDENTITY_AUTO_LEAST = 16,
        MAPPED_BITS = 96, /* of ::ffff:0:0/96, where IPv4 stands */
};

bool config_address_bytes(const char *text, unsigned char out[16])
{
        static const unsigned char mapped[12] = {[10] = 0xFF, [11] = 0xFF};
        unsigned char v4[4];

        if (inet_pton(AF_INET, text, v4) == 1) {
                memcpy(out, mapped, sizeof(mapped));
                memcpy(out + sizeof(mapped), v4, sizeof(v4));
                return true;
        }
        return inet_pton(AF_INET6, text, out) == 1;
}

static bool network_parse(struct str text, struct config_network *out)
{
        char address[64];
        struct str host, bits = str_cut(text, '/', &host);
        bool v6 = str_find(host, ':') >= 0;
        unsigned most = v6 ? 128 : 32;
        uint64_t n = most;

        if (host.len >= sizeof(address))
                return false;
        memcpy(address, host.ptr, host.len);
        address[host.len] = '\0';
        if (!config_address_bytes(address, out->address))
                return false;
        if (bits.ptr && (!str_to_u64(bits, &n) || n > most))
                return false;
        out->bits = (unsigned)n + (v6 ? 0 : MAPPED_BITS);
        return true;
}

static bool network_has(const struct config_network *network, const unsigned char address[16])
{
        unsigned whole = network->bits / 8, rest = network->bits % 8;

        if (memcmp(network->address, address, whole) != 0)
                return false;
        return rest == 0 || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

bool config_trusts_address(const struct config_limits *limits, const unsigned char address[16])
{
        for (size_t i = 0; i < limits->n_trusted_addresses; i++)
                if (network_has(&limits->trusted[i], address))
                        return true;
        return false;
}

static void check_networks(struct reader *r)
{
        struct config_limits *l = &r->config->limits;

        l->trusted = config_alloc(r, (l->n_trusted_addresses + 1) * sizeof(*l->trusted));
        for (size_t i = 0; i < l->n_trusted_addresses; i++)
                if (!network_parse(l->trusted_addresses[i], &l->trusted[i]))
                        error_list_add(r->errors, config_place(r->config, &l->trusted_addresses[i]),
                                "`trusted_addresses`: `%s` is not an address or a network like "
                                "10.1.0.0/16",
                                yaml_shown(l->trusted_addresses[i]));
}

static uint64_t at_least(uint64_t n, uint64_t least)
{
        return n > least ? n : least;
}

static void fill_in(struct config *c)
{
        struct config_limits *l = &c->limits;

        if (!l->connections_per_address)
                l->connections_per_address = at_least(l->connections / 4, ADDRESS_AUTO_LEAST);
        if (!l->requests_per_identity)
                l->requests_per_identity =
                        at_least(c->upstream.connections / 4, IDENTITY_AUTO_LEAST);
        if (!l->rate.reads.burst)
                l->rate.reads.burst = l->rate.reads.requests;
        if (!l->rate.writes.burst)
                l->rate.writes.burst = l->rate.writes.requests;
}

static void check_sizes(struct reader *r)
{
        const struct config_limits *l = &r->config->limits;

        /* 0: was not readable, and has been reported */
        if (!l->headers_bytes || !l->header_bytes || !l->token_bytes)
                return;
        if (l->header_bytes > l->headers_bytes)
                error_list_add(r->errors, config_at(r, &l->header_bytes, &l->headers_bytes),
                        "`header` is more than `headers`: one field larger than all together");
        /* in Basic the token is base64 once more, behind a user name */
        if (l->token_bytes > l->header_bytes)
                error_list_add(r->errors, config_at(r, &l->token_bytes, &l->header_bytes),
                        "`token` is more than `header`: a token comes in one header field");
        else if (l->token_bytes / 3 * 4 + 64 > l->header_bytes)
                error_list_warn(r->errors, config_at(r, &l->token_bytes, &l->header_bytes),
                        "a token of the allowed size does not fit into `header` when it comes as "
                        "a Basic password, which is a third longer");
}

void config_check_limits(struct reader *r)
{
        check_sizes(r);
        check_networks(r);
        fill_in(r->config);
}
