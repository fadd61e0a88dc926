/*
 * detour: a download that Azure DevOps keeps elsewhere.
 *
 * Artifacts, logs and packages are answered with a redirect to storage, by a URL that is signed:
 * who has it has the content. By default it stays here: the proxy goes there itself, with nothing
 * of the caller's and no credential, and passes the content on. Where a detour may lead is a list
 * of the configuration; a redirect to anywhere else is an error, as it always was.
 */
#include "inside.h"

#include "dagward/http/h1_write.h"

enum { HOPS_MOST = 3 };

static bool host_is_plain(struct str host)
{
        for (size_t i = 0; i < host.len; i++) {
                char c = char_lower(host.ptr[i]);
                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
                        return false;
        }
        return host.len > 0 && host.len < sizeof(((struct detour *)0)->host);
}

/* Cuts `https://host/path?query` into host and path with query. User names, other ports and other
 * schemes are not what storage is reached by. */
static bool cut_url(struct str url, struct str *host, struct str *target)
{
        if (!str_starts_fold(url, STR("https://")))
                return false;
        url = str_from(url, 8);
        str_cut(url, '#', &url);
        ssize_t slash = str_find(url, '/');
        if (slash <= 0)
                return false;
        *host = str_head(url, (size_t)slash);
        *target = str_from(url, (size_t)slash);
        if (str_ends(*host, STR(":443")))
                *host = str_head(*host, host->len - 4);
        for (size_t i = 0; i < target->len; i++)
                if (target->ptr[i] <= ' ' || target->ptr[i] == '\x7f' || target->ptr[i] == '\\')
                        return false;
        return host_is_plain(*host);
}

bool detour_leads_to(
        const struct config *config, struct str url, struct str *host, struct str *target)
{
        if (!cut_url(url, host, target))
                return false;
        for (size_t i = 0; i < config->upstream.n_storage; i++)
                if (host->len > config->upstream.storage[i].len &&
                        str_ends_fold(*host, config->upstream.storage[i]))
                        return true;
        return false;
}

static bool is_redirect(int status)
{
        return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool detour_wanted(struct exchange *x)
{
        const struct config *config = x->world->config;
        struct str host, target, method = x->request.method;

        if (!is_redirect(x->response.status) || config->upstream.redirects != REDIRECTS_FOLLOW)
                return false;
        if (!str_eq(method, STR("GET")) && !str_eq(method, STR("HEAD")))
                return false;
        if (!x->holds_body || x->held.len || !x->request_sent)
                return false; /* a GET with a body: whoever that is, it is no download */
        return detour_leads_to(
                config, h1_response_value(&x->response, H1_LOCATION), &host, &target);
}

bool detour_begin(struct exchange *x)
{
        struct detour *detour = x->detour;
        struct str host, target;

        if (!detour && !(detour = arena_alloc(&x->arena, sizeof(*detour))))
                return false;
        if (!x->detour)
                detour->hops = 0;
        if (!detour_leads_to(x->world->config, h1_response_value(&x->response, H1_LOCATION), &host,
                    &target) ||
                ++detour->hops > HOPS_MOST)
                return false;
        for (size_t i = 0; i < host.len; i++)
                detour->host[i] = char_lower(host.ptr[i]);
        detour->host[host.len] = '\0';
        detour->target = arena_copy(&x->arena, target);
        detour->known = false;
        x->detour = detour;
        x->addresses_tried = 0;
        x->retried = false;
        return detour->target.ptr != NULL;
}

/* What the client said about which part of the content it wants. */
static bool is_conditional(const struct h1_field *field)
{
        static const char *const names[] = {"Accept", "Accept-Encoding", "Range", "If-Range",
                "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (str_eq_fold(field->name, str_of(names[i])))
                        return true;
        return false;
}

bool detour_compose(struct exchange *x, struct buf *out)
{
        const struct h1_request *request = &x->request;

        buf_str_add(out, request->method);
        buf_char(out, ' ');
        buf_str_add(out, x->detour->target);
        BUF_LITERAL(out, " HTTP/1.1\r\n");
        /* An override of the address does not change who is asked. */
        h1_write_field(out, STR("Host"), str_of(x->detour->host));
        for (size_t i = 0; i < request->n_fields; i++)
                if (is_conditional(&request->fields[i]) &&
                        !h1_connection_names(request, request->fields[i].name))
                        h1_write_field(out, request->fields[i].name, request->fields[i].value);
        h1_write_field(out, STR("User-Agent"), STR("dagward/" DAGWARD_VERSION));
        h1_write_end(out);
        return !out->overflow;
}

bool detour_passes(const struct h1_field *field)
{
        static const char *const names[] = {"Accept-Ranges", "Cache-Control", "Content-Disposition",
                "Content-Encoding", "Content-Language", "Content-MD5", "Content-Range",
                "Content-Type", "Date", "ETag", "Expires", "Last-Modified", "Vary"};

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                if (str_eq_fold(field->name, str_of(names[i])))
                        return true;
        return false;
}

int detour_refusal(struct exchange *x, const char **why)
{
        switch (x->response.status) {
        case 200:
        case 206:
        case 304: return 0;
        case 404:
                *why = "the storage that Azure DevOps named does not have this any more";
                return 404;
        case 412: *why = "the content is not the one that was asked for"; return 412;
        case 416: *why = "the content does not have the range that was asked for"; return 416;
        default:
                *why = "the storage that Azure DevOps named did not hand the content out";
                return 502;
        }
}
