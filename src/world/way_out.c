#include "dagward/world/way_out.h"

#include <stdlib.h>

#include "dagward/token/base64.h"

enum { CREDENTIALS_MOST_BYTES = 1024 };

/* Cuts the next item off a list that commas or blanks divide. */
static struct str next_item(struct str rest, struct str *item)
{
        size_t start = 0, end;

        while (start < rest.len && strchr(", \t", rest.ptr[start]))
                start++;
        for (end = start; end < rest.len && !strchr(", \t", rest.ptr[end]);)
                end++;
        *item = str_view(rest.ptr + start, end - start);
        return str_from(rest, end);
}

void way_out_check(const struct config *config, struct error_list *errors)
{
        const struct config_outgoing_proxy *proxy = &config->outgoing_proxy;
        struct str rest = proxy->no_proxy, item;

        for (size_t i = 0; i < proxy->n_except; i++)
                if (!egress_exception_ok(proxy->except[i]))
                        error_list_add(errors, config_place(config, &proxy->except[i]),
                                "`except`: `%s` is no host name, address, network or `*`",
                                proxy->except[i].ptr);
        while (rest.len) {
                rest = next_item(rest, &item);
                if (item.len && !egress_exception_ok(item))
                        error_list_warn(errors, config_place(config, &proxy->environment),
                                "an entry of NO_PROXY is no host name, address, network or `*`, "
                                "and is ignored: %.*s",
                                STR_FMT(str_head(item, 64)));
        }
}

static int hex_of(char c)
{
        c = char_lower(c);
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "%40" becomes "@". At most CREDENTIALS_MOST_BYTES. */
static void decode(struct str text, struct secret *out)
{
        char to[CREDENTIALS_MOST_BYTES];
        size_t n = 0;

        for (size_t i = 0; i < text.len; i++) {
                int high = text.ptr[i] == '%' && i + 2 < text.len ? hex_of(text.ptr[i + 1]) : -1;
                int low = high >= 0 ? hex_of(text.ptr[i + 2]) : -1;
                if (low >= 0)
                        i += 2;
                to[n++] = (char)(low >= 0 ? high << 4 | low : text.ptr[i]);
        }
        secret_set(out, str_view(to, n));
        secret_wipe(to, sizeof(to));
}

static bool set_authorization(struct egress *egress, const struct secret *user, struct error *err)
{
        struct buf text;

        if (str_find(secret_reveal(user), ':') < 0)
                return error_set(err, "must hold `user:password`");
        for (size_t i = 0; i < user->len; i++)
                if ((unsigned char)user->bytes[i] < ' ' || user->bytes[i] == 0x7f)
                        return error_set(err, "must hold `user:password` in one line");
        buf_init(&text, 2 * CREDENTIALS_MOST_BYTES);
        BUF_LITERAL(&text, "Basic ");
        base64_write(&text, user->bytes, user->len);
        secret_set(&egress->authorization, buf_str(&text));
        if (text.data)
                secret_wipe(text.data, text.len);
        buf_clear(&text);
        return true;
}

static bool read_credentials(
        const struct config_outgoing_proxy *proxy, struct egress *egress, struct error *err)
{
        struct secret user = {0};
        struct str found, host;
        uint16_t port;
        bool ok = true;

        if (proxy->credentials_file.ptr) {
                ok = secret_read(&user, proxy->credentials_file.ptr, CREDENTIALS_MOST_BYTES, err) &&
                     set_authorization(egress, &user, err);
                if (!ok)
                        error_wrap(err, "%s", proxy->credentials_file.ptr);
        } else if (proxy->variable) {
                const char *value = getenv(proxy->variable);
                if (value && config_proxy_cut(str_of(value), &found, &host, &port, err) &&
                        found.len) {
                        if (found.len > CREDENTIALS_MOST_BYTES)
                                return error_set(err, "%s: too long", proxy->variable);
                        decode(found, &user);
                        ok = set_authorization(egress, &user, err);
                        if (!ok)
                                error_wrap(err, "the user in %s", proxy->variable);
                }
        }
        secret_drop(&user);
        return ok;
}

bool way_out_of(const struct config *config, struct egress **out, struct error *err)
{
        const struct config_outgoing_proxy *proxy = &config->outgoing_proxy;
        struct str rest = proxy->no_proxy, item;

        *out = NULL;
        if (!proxy->url.text.ptr)
                return true;
        struct egress *egress = egress_new(proxy->url.host, proxy->url.port,
                proxy->variable ? proxy->variable : "outgoing_proxy.url");
        for (size_t i = 0; i < proxy->n_except; i++)
                (void)!egress_except(egress, proxy->except[i]);
        while (rest.len) {
                rest = next_item(rest, &item);
                (void)!egress_except(egress, item);
        }
        if (!read_credentials(proxy, egress, err)) {
                egress_unref(egress);
                return false;
        }
        *out = egress;
        return true;
}

const char *way_out_text(const struct config *config, const struct egress *egress)
{
        static _Thread_local char text[512];

        if (egress)
                snprintf(text, sizeof(text), "%s (%s%s)", egress->text, egress->from,
                        egress->authorization.len ? ", with credentials" : "");
        else
                snprintf(text, sizeof(text), "none%s",
                        config->outgoing_proxy.environment ? " (the environment names none)" : "");
        return text;
}
