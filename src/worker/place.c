/*
 * place: where the services of Azure DevOps are found under the URL that a client uses, and back.
 *
 * What upstream says about itself reaches a client in terms of the proxy, or the client would leave
 * it with its token; what a client says about the proxy reaches upstream in upstream's own terms.
 */
#include "inside.h"

#include <stdlib.h>

#include "dagward/azdo/links.h"
#include "dagward/http/h1_write.h"
#include "rewrite.h"

/* Whether an agent on the client's own machine stands between: what it is called there is where the
 * client's credential is. Only loopback, so that nobody is led anywhere else by saying so. */
static bool is_by_agent(const struct exchange *x)
{
        const struct h1_request *request = &x->request;

        for (size_t i = 0; h1_host_is_loopback(request->host) && i < request->n_fields; i++)
                if (str_eq_fold(request->fields[i].name, STR("X-Dagward-Agent")))
                        return true;
        return false;
}

/* The URL under which the client reaches us: configured, or what it used. */
static void write_base(struct exchange *x, struct str user, struct buf *out)
{
        struct str public_url = x->world->config->public_url.text, scheme;

        if (is_by_agent(x)) {
                BUF_LITERAL(out, "http://");
                buf_str_add(out, user);
                buf_str_add(out, x->request.host);
                return;
        }
        if (public_url.ptr) {
                struct str rest = str_from(str_cut(public_url, ':', &scheme), 2);
                buf_str_add(out, scheme);
                BUF_LITERAL(out, "://");
                buf_str_add(out, user);
                buf_str_add(out, rest);
                return;
        }
        buf_str_add(out, x->client->tls ? STR("https://") : STR("http://"));
        buf_str_add(out, user);
        buf_str_add(out, x->request.host);
}

bool place_split(struct str url, struct str *host, struct str *path)
{
        if (str_starts_fold(url, STR("https://")))
                url = str_from(url, 8);
        else if (str_starts_fold(url, STR("http://")))
                url = str_from(url, 7);
        else
                return false;
        size_t end = 0;
        while (end < url.len && url.ptr[end] != '/' && url.ptr[end] != '?' && url.ptr[end] != '#')
                end++;
        *host = str_head(url, end);
        *path = str_from(url, end);
        return host->len > 0;
}

bool place_of_host(struct exchange *x, struct str host, struct place *place)
{
        *place = (struct place){x->named.service, STR_NONE};
        if (service_of_host(host, &place->service, &place->organization))
                return true;
        for (unsigned i = 0; i < SERVICE_COUNT; i++) {
                /* With one override for all, the host says nothing: it is the one that was asked.
                 */
                unsigned candidate = (x->named.service + i) % SERVICE_COUNT;
                if (str_eq_fold(host, str_of(x->world->endpoints[candidate].authority))) {
                        place->service = (enum service)candidate;
                        return true;
                }
        }
        return false;
}

void place_write(struct exchange *x, const struct place *place, struct str user, bool relative,
        struct buf *out)
{
        struct str name, organization, port = str_cut(x->request.host, ':', &name);
        enum service service = place->service, used;
        bool by_name = !x->world->config->public_url.text.ptr &&
                       service_of_host(x->request.host, &used, &organization);

        /* When the client uses a name of Azure DevOps itself (its DNS points here), that says which
         * service is meant and a `~service` behind it is refused, but for the host that all of them
         * can be reached by. */
        if (!by_name || (organization.len == 0 && (used == SERVICE_DEV || used == service))) {
                if (!relative)
                        write_base(x, user, out);
        } else {
                buf_str_add(out, x->client->tls ? STR("https://") : STR("http://"));
                buf_str_add(out, user);
                buf_str_add(out, str_of(service_host(SERVICE_DEV)));
                if (port.ptr) {
                        buf_char(out, ':');
                        buf_str_add(out, port);
                }
                used = SERVICE_DEV;
        }
        /* A client that reached it without its name finds more of it there, and has its credential
         * for that URL. */
        bool found = x->named.service_found && service == x->named.service;
        if (service != SERVICE_DEV && !found && !(by_name && used == service))
                buf_printf(out, "/~%s", service_name(service));
        if (place->organization.len) {
                buf_char(out, '/');
                buf_str_add(out, place->organization);
        }
}

/* --- links of an answer --- */

enum { WRITTEN_MOST = LINKS_ROOM - LINKS_HOLD };

static bool write_ours(void *owner, const struct link_start *start, struct buf *out)
{
        struct exchange *x = owner;
        struct place place;
        char memory[WRITTEN_MOST];
        struct buf written;

        if (start->service.ptr || !place_of_host(x, start->authority, &place))
                return false;
        buf_init_fixed(&written, memory, sizeof(memory));
        place_write(x, &place, start->user, false, &written);
        if (written.overflow)
                return false;
        buf_str_add(out, buf_str(&written));
        return true;
}

static bool encoding_is_gzip(struct str encoding)
{
        return str_eq_fold(encoding, STR("gzip")) || str_eq_fold(encoding, STR("x-gzip"));
}

bool place_answer_has_links(struct exchange *x)
{
        const struct h1_response *response = &x->response;
        struct str encoding = h1_response_value(response, H1_CONTENT_ENCODING);
        enum links_form form =
                links_form_of(x->named.op, h1_response_value(response, H1_CONTENT_TYPE));

        if (form == LINKS_NONE || x->world->config->upstream.links == LINKS_KEEP ||
                response->framing == H1_NO_BODY || response->status == 206 ||
                (response->framing == H1_LENGTH && response->content_length == 0) ||
                h1_response_value(response, H1_CONTENT_DISPOSITION).len)
                return false;
        if (encoding.len && !encoding_is_gzip(encoding) &&
                !str_eq_fold(encoding, STR("identity"))) {
                log_info("correlation=%s links of an answer in %.*s cannot be told anew",
                        x->correlation_id, STR_FMT(str_head(encoding, 32)));
                return false;
        }
        if (!x->rewrite && !(x->rewrite = malloc(sizeof(*x->rewrite))))
                abort();
        rewrite_init(x->rewrite, encoding_is_gzip(encoding), form, write_ours, x);
        return true;
}

void place_write_links_field(struct exchange *x, struct str value, struct buf *out)
{
        struct links links;
        char memory[8 * 1024 + LINKS_ROOM];
        struct buf written;

        links_init(&links, LINKS_FIELD, write_ours, x);
        buf_init_fixed(&written, memory, sizeof(memory));
        if (links_feed(&links, value, &written) < value.len)
                return; /* longer than any that helps */
        links_end(&links, &written);
        h1_write_field(out, STR("Link"), buf_str(&written));
}

void place_tell_client(
        struct exchange *x, struct str content_type, struct str body, struct buf *out)
{
        enum links_form form = links_form_of(x->named.op, content_type);
        struct links links;
        size_t taken = 0;

        if (form == LINKS_NONE || x->world->config->upstream.links == LINKS_KEEP) {
                buf_str_add(out, body);
                return;
        }
        links_init(&links, form, write_ours, x);
        while (taken < body.len && buf_reserve(out, 2 * LINKS_ROOM))
                taken += links_feed(&links, str_from(body, taken), out);
        if (buf_reserve(out, LINKS_ROOM))
                links_end(&links, out);
}

/* --- links of a request --- */

static bool write_theirs(void *owner, const struct link_start *start, struct buf *out)
{
        struct exchange *x = owner;
        struct str public_url = x->world->config->public_url.text, authority, path;
        enum service service = SERVICE_DEV;

        bool used = str_eq_fold(start->authority, x->request.host);
        bool configured = public_url.ptr && place_split(public_url, &authority, &path) &&
                          str_eq_fold(start->authority, authority);
        if (!used && !configured)
                return false;
        if (start->service.ptr && !service_named(start->service, &service))
                return false;
        const struct endpoint *endpoint = &x->world->endpoints[service];
        buf_str_add(out, endpoint->tls ? STR("https://") : STR("http://"));
        buf_str_add(out, start->user);
        buf_str_add(out, str_of(endpoint->authority));
        return true;
}

static bool mentions_us(struct exchange *x)
{
        struct str public_url = x->world->config->public_url.text, authority, path;
        enum service service;
        struct str organization;

        if (public_url.ptr && place_split(public_url, &authority, &path) &&
                str_find_str(x->held, authority) >= 0)
                return true;
        return !service_of_host(x->request.host, &service, &organization) &&
               str_find_str(x->held, x->request.host) >= 0;
}

enum next place_tell_upstream(struct exchange *x)
{
        struct str type = h1_field_value(&x->request, H1_CONTENT_TYPE);
        struct str encoding = h1_field_value(&x->request, H1_CONTENT_ENCODING);
        bool plain = x->decoded_body || !encoding.len || str_eq_fold(encoding, STR("identity"));
        struct links links;
        struct buf told;

        if (x->world->config->upstream.links == LINKS_KEEP || !x->holds_body || !x->held.len ||
                !plain || links_form_of(NULL, type) != LINKS_JSON || !mentions_us(x))
                return NEXT;
        links_init(&links, LINKS_JSON, write_theirs, x);
        buf_init(&told, 2 * x->held.len + 2 * LINKS_ROOM);
        size_t taken = 0;
        while (taken < x->held.len && buf_reserve(&told, 2 * LINKS_ROOM))
                taken += links_feed(&links, str_from(x->held, taken), &told);
        if (buf_reserve(&told, LINKS_ROOM))
                links_end(&links, &told);
        if (told.overflow) {
                buf_clear(&told);
                return refuse(x, 413, REFUSED_TOO_LARGE,
                        "the body names too many addresses of the proxy");
        }
        return hold_instead(x, &told);
}
