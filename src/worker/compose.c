/*
 * compose: the heads that leave, made from parsed parts. Nothing is copied by default: a field
 * travels when its class says so and Connection does not name it.
 */
#include "inside.h"

#include "dagward/http/h1_write.h"

static void write_target(struct exchange *x, struct buf *out)
{
        const struct named *named = &x->named;

        for (size_t i = 0; i < named->route.n_segments; i++) {
                buf_char(out, '/');
                segment_write(named->route.segments[i], out);
        }
        if (named->route.n_segments == 0)
                buf_char(out, '/');
        target_write_query(&x->target, out);
}

/* `00-<trace>-<span>-01` (W3C Trace Context 2.2) when the client sent none: trace is the
 * correlation ID, span a part of the request ID. */
static void write_traceparent(struct exchange *x, struct buf *out)
{
        BUF_LITERAL(out, "traceparent: 00-");
        for (const char *p = x->correlation_id; *p; p++)
                if (*p != '-')
                        buf_char(out, *p);
        BUF_LITERAL(out, "-");
        buf_add(out, x->request_id + 19, 4);
        buf_add(out, x->request_id + 24, 12);
        BUF_LITERAL(out, "-01\r\n");
}

/* The client's first field of that name, if there is one. */
static void write_given(struct exchange *x, enum h1_name name, struct buf *out)
{
        struct str value = h1_field_value(&x->request, name);

        if (value.len)
                h1_write_field(out, h1_name_text(name), value);
}

static bool is_hex(struct str s)
{
        bool zero = true;

        for (size_t i = 0; i < s.len; i++) {
                char c = s.ptr[i];
                if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
                        return false;
                zero = zero && c == '0';
        }
        return !zero;
}

/* W3C Trace Context 3.2: a trace that is malformed is not continued. Versions to come may say more
 * behind what is known. */
static bool trace_is_good(const struct exchange *x)
{
        struct str given = h1_field_value(&x->request, H1_TRACEPARENT), part;
        bool known = str_starts(given, STR("00-"));
        const size_t lengths[] = {32, 16};

        if (h1_field_values(&x->request, H1_TRACEPARENT, NULL, 0) != 1 || given.len < 55 ||
                (known && given.len != 55) || (!known && !is_hex(str_head(given, 2))) ||
                str_starts(given, STR("ff")) || given.ptr[2] != '-' ||
                (given.len > 55 && given.ptr[55] != '-'))
                return false;
        given = str_from(given, 3);
        for (size_t i = 0; i < 2; i++) {
                given = str_cut(given, '-', &part);
                if (part.len != lengths[i] || !is_hex(part))
                        return false;
        }
        part = str_head(given, 2);
        return str_eq(part, STR("00")) || is_hex(part);
}

static void write_correlation(struct exchange *x, struct buf *out)
{
        struct str id = str_view(x->correlation_id, ID_UUID_LEN);

        h1_write_field(out, STR("X-Correlation-Id"), id);
        h1_write_field(out, STR("X-VSS-E2EID"), id);
        if (x->request.first[H1_X_TFS_SESSION] < 0)
                h1_write_field(out, STR("X-TFS-Session"), id);
        if (x->request.first[H1_TRACEPARENT] < 0 || !trace_is_good(x)) {
                write_traceparent(x, out);
        } else {
                write_given(x, H1_TRACEPARENT, out);
                write_given(x, H1_TRACESTATE, out);
        }
        write_given(x, H1_BAGGAGE, out);
        struct str agent = h1_field_value(&x->request, H1_USER_AGENT);
        BUF_LITERAL(out, "User-Agent: ");
        if (agent.len) {
                buf_str_add(out, agent);
                buf_char(out, ' ');
        }
        BUF_LITERAL(out, "dagward/" DAGWARD_VERSION " (cid ");
        buf_str_add(out, id);
        BUF_LITERAL(out, ")\r\n");
}

bool compose_request(struct exchange *x, struct buf *out)
{
        const struct h1_request *request = &x->request;
        /* The answer of a trigger is kept as plain text: whoever asks again may not know gzip. */
        bool is_content = !x->trigger && (x->world->config->upstream.links == LINKS_KEEP ||
                                                 (x->named.op && x->named.op->is_content));
        bool gzip = false;

        buf_str_add(out, request->method);
        buf_char(out, ' ');
        write_target(x, out);
        BUF_LITERAL(out, " HTTP/1.1\r\n");
        h1_write_field(out, STR("Host"), str_of(x->world->endpoints[x->named.service].authority));
        buf_str_add(out, secret_reveal(&x->credential->line));
        for (size_t i = 0; i < request->n_fields; i++) {
                const struct h1_field *field = &request->fields[i];
                if (field->id == H1_ACCEPT_ENCODING && !is_content) {
                        gzip = !x->trigger &&
                               (gzip || str_find_str(field->value, STR("gzip")) >= 0);
                        continue;
                }
                if (field->id == H1_X_TFS_FEDAUTHREDIRECT ||
                        (field->id == H1_CONTENT_ENCODING && x->decoded_body) ||
                        h1_request_class(field) != FIELD_FORWARD ||
                        h1_connection_names(request, field->name))
                        continue;
                h1_write_field(out, field->name, field->value);
        }
        /* An answer that is looked through has to come in a coding that is understood here. */
        if (!is_content)
                h1_write_field(out, STR("Accept-Encoding"), gzip ? STR("gzip") : STR("identity"));
        /* So that a credential upstream does not like is answered with 401 and no sign-in page. */
        h1_write_field(out, STR("X-TFS-FedAuthRedirect"), STR("Suppress"));
        write_correlation(x, out);
        if (x->holds_body) {
                bool has_body = x->held.len || request->framing != H1_NO_BODY;
                if (x->held.len && request->framing == H1_NO_BODY) /* it is the mark */
                        h1_write_field(out, STR("Content-Type"), STR("application/json"));
                h1_write_framing(out, has_body ? H1_LENGTH : H1_NO_BODY, x->held.len);
        } else {
                h1_write_framing(out, request->framing, request->content_length);
        }
        h1_write_end(out);
        return !out->overflow;
}

/* Location in terms of our own URL. A place that we do not serve is not passed on: the client would
 * go there with its token. Only a redirect is nothing without it. */
bool compose_location(
        struct exchange *x, int status, struct str value, struct buf *out, struct error *why)
{
        struct str host, path;
        struct place place = {x->named.service, STR_NONE};
        bool redirect = status >= 300 && status < 400;
        bool relative = !place_split(value, &host, &path);
        struct str storage, content;

        if (relative) {
                bool ours = str_starts(value, STR("/")) && !str_starts(value, STR("//")) &&
                            str_find(value, '\\') < 0;
                if (!ours)
                        return !redirect ||
                               error_set(why, "Azure DevOps redirected to an unusable place");
                path = value;
        } else if (redirect && detour_leads_to(x->world->config, value, &storage, &content) &&
                   x->world->config->upstream.redirects == REDIRECTS_RELAY) {
                h1_write_field(out, STR("Location"), value);
                return true;
        } else if (!place_of_host(x, host, &place)) {
                return !redirect || error_set(why,
                                            "Azure DevOps redirected to %.*s, which is not behind "
                                            "this proxy; the redirect was not passed on",
                                            (int)(host.len < 200 ? host.len : 200), host.ptr);
        }
        BUF_LITERAL(out, "Location: ");
        place_write(x, &place, STR(""), relative, out);
        buf_str_add(out, path);
        BUF_LITERAL(out, "\r\n");
        return true;
}

/* What is true of upstream's bytes and not of those that leave. */
static bool tells_bytes(const struct h1_field *field)
{
        return field->id == H1_CONTENT_ENCODING || str_eq_fold(field->name, STR("Content-MD5")) ||
               str_eq_fold(field->name, STR("Accept-Ranges"));
}

bool compose_response(
        struct exchange *x, enum h1_framing leaves, struct buf *out, struct error *why)
{
        const struct h1_response *response = &x->response;

        h1_write_status_line(out, response->status, response->reason);
        for (size_t i = 0; i < response->n_fields; i++) {
                const struct h1_field *field = &response->fields[i];
                if (field->id == H1_LOCATION && !x->detour) {
                        if (!compose_location(x, response->status, field->value, out, why))
                                return false;
                        continue;
                }
                if (h1_response_class(field) != FIELD_FORWARD ||
                        (x->detour && !detour_passes(field)) ||
                        (x->rewrites && tells_bytes(field)) ||
                        h1_response_connection_names(response, field->name))
                        continue;
                if (field->id == H1_LINK) {
                        place_write_links_field(x, field->value, out);
                        continue;
                }
                h1_write_field(out, field->name, field->value);
        }
        h1_write_field(out, STR("X-Correlation-Id"), str_view(x->correlation_id, ID_UUID_LEN));
        h1_write_field(out, STR("X-Request-Id"), str_view(x->request_id, ID_UUID_LEN));
        if (response->framing == H1_NO_BODY && response->has_length && response->status != 204)
                h1_write_field_u64(out, STR("Content-Length"), response->content_length);
        else
                h1_write_framing(out, leaves, response->content_length);
        if (!x->keep_alive)
                h1_write_field(out, STR("Connection"), STR("close"));
        else if (x->request.minor == 0)
                h1_write_field(out, STR("Connection"), STR("keep-alive"));
        h1_write_end(out);
        return !out->overflow || error_set(why, "Azure DevOps' answer has too large a head");
}

/* Hosts and paths that a browser would be sent to for signing in. */
static bool is_sign_in_place(struct str location)
{
        struct str host, path;

        if (!place_split(location, &host, &path))
                return str_find_str(location, STR("/_signin")) >= 0;
        return str_find_str(path, STR("/_signin")) >= 0 ||
               str_starts_fold(host, STR("login.microsoftonline.")) ||
               str_starts_fold(host, STR("login.windows.")) ||
               str_starts_fold(host, STR("login.live.")) ||
               str_starts_fold(host, STR("login.partner.microsoftonline.")) ||
               str_ends_fold(host, STR("vssps.visualstudio.com"));
}

/* A 401 whose text says that nobody was recognised, though it has the mark of somebody. */
static bool names_the_anonymous(const struct h1_response *response)
{
        for (size_t i = 0; i < response->n_fields; i++) {
                const struct h1_field *field = &response->fields[i];
                if (!str_eq_fold(field->name, STR("X-TFS-ServiceError")))
                        continue;
                return str_find_str(field->value, STR("TF400813")) >= 0 &&
                       (str_find_str(field->value, STR("''")) >= 0 ||
                               str_find_str(field->value, STR("%27%27")) >= 0 ||
                               str_find_str(field->value,
                                       STR("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa")) >= 0);
        }
        return false;
}

struct str response_wants_claims(const struct h1_response *response)
{
        for (size_t i = 0; response->status == 401 && i < response->n_fields; i++) {
                const struct h1_field *field = &response->fields[i];
                if (field->id == H1_WWW_AUTHENTICATE &&
                        str_find_str(field->value, STR("insufficient_claims")) >= 0)
                        return field->value;
        }
        return STR_NONE;
}

bool response_is_sign_in(const struct h1_response *response)
{
        struct str type = h1_response_value(response, H1_CONTENT_TYPE);
        bool html = str_starts_fold(type, STR("text/html"));

        if (response->status == 203)
                return html || type.len == 0;
        if (response->status >= 300 && response->status < 400) {
                for (size_t i = 0; i < response->n_fields; i++)
                        if (str_starts_fold(response->fields[i].name, STR("X-TFS-FedAuth")))
                                return true;
                return is_sign_in_place(h1_response_value(response, H1_LOCATION));
        }
        if (response->status == 401)
                return response_wants_claims(response).ptr ||
                       response->first[H1_X_VSS_USERDATA] < 0 || names_the_anonymous(response);
        return false;
}
