#include "dagward/net/fetch.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "dagward/base/clock.h"
#include "dagward/base/reach.h"
#include "dagward/net/tls.h"

enum {
        REDIRECTS_MOST = 3,
        HEAD_MOST_BYTES = 64 * 1024,
        CONNECTIONS_KEPT = 8,
        CONNECTION_MOST_MS = 3600 * 1000, /* is not used again when it is older */
};

struct fetcher {
        struct event_base *base;
        CURLM *multi;
        struct event timer;
        struct fetch *first;
        struct egress *egress;  /* one reference; NULL: none */
        int64_t forgot_mono_ms; /* connections from before it are not used again; 0: it never did */
};

struct fetch {
        struct fetcher *fetcher;
        struct fetch *next, **link;
        CURL *easy; /* NULL: the request is wrong, `refused` will say so */
        struct curl_slist *lines, *proxy_lines;
        struct egress *egress; /* what it goes through; NULL: nothing. One reference */
        struct secret body;
        bool is_post, may_redirect;
        unsigned redirects;
        int64_t deadline_mono_ms;
        char *received; /* grows, wiped when it moves */
        size_t received_bytes, received_room, most_bytes;
        size_t head_bytes;
        bool too_large;
        char why[CURL_ERROR_SIZE];
        struct event refused;
        struct error refusal;
        fetch_done *done;
        void *arg;
};

static void must(bool ok)
{
        if (!ok)
                abort(); /* memory is out, or an option this library was built without */
}

/* --- URLs --- */

struct origin {
        char *scheme, *host, *port;
};

static void origin_clear(struct origin *origin)
{
        curl_free(origin->scheme);
        curl_free(origin->host);
        curl_free(origin->port);
}

/* False for anything but http and https without user and password. */
static bool origin_of(const char *url, struct origin *origin)
{
        CURLU *parts = curl_url();
        char *user = NULL;

        must(parts != NULL);
        *origin = (struct origin){NULL, NULL, NULL};
        bool ok = curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
                  curl_url_get(parts, CURLUPART_SCHEME, &origin->scheme, 0) == CURLUE_OK &&
                  curl_url_get(parts, CURLUPART_HOST, &origin->host, 0) == CURLUE_OK &&
                  curl_url_get(parts, CURLUPART_PORT, &origin->port, CURLU_DEFAULT_PORT) ==
                          CURLUE_OK &&
                  curl_url_get(parts, CURLUPART_USER, &user, 0) == CURLUE_NO_USER &&
                  (strcmp(origin->scheme, "https") == 0 || strcmp(origin->scheme, "http") == 0);
        curl_free(user);
        curl_url_cleanup(parts);
        return ok;
}

static bool host_is_loopback(const char *host)
{
        struct in_addr v4;

        if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
                return true;
        return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* IPv4 only: no name, so that nobody's resolver decides. */
static bool host_is_link_local(const char *host)
{
        struct in_addr v4;

        return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 16 == (169u << 8 | 254u);
}

bool fetch_same_origin(const char *a, const char *b)
{
        struct origin one, other;
        bool same = origin_of(a, &one);

        same = origin_of(b, &other) && same && strcmp(one.scheme, other.scheme) == 0 &&
               strcasecmp(one.host, other.host) == 0 && strcmp(one.port, other.port) == 0;
        origin_clear(&one);
        origin_clear(&other);
        return same;
}

static bool is_allowed(const struct fetch_request *request, struct error *err)
{
        struct origin origin;
        bool ok = origin_of(request->url, &origin);

        if (!ok)
                error_set(err, "not an http or https URL without user and password");
        else if (strcmp(origin.scheme, "http") == 0 &&
                 !(request->allow_plain_loopback && host_is_loopback(origin.host)) &&
                 !(request->allow_plain_link_local && host_is_link_local(origin.host)))
                ok = error_set(err, "plain http is only for loopback addresses: use https");
        if (ok && request->ca && file_waits(request->ca)) /* curl would */
                ok = error_set(err, "%s: %s", request->ca, FILE_WAITS);
        origin_clear(&origin);
        return ok;
}

/* --- one fetch --- */

static void fetch_drop_received(struct fetch *fetch)
{
        if (fetch->received) {
                secret_wipe(fetch->received, fetch->received_room);
                free(fetch->received);
        }
        fetch->received = NULL;
        fetch->received_bytes = fetch->received_room = 0;
        fetch->head_bytes = 0;
}

static void fetch_free(struct fetch *fetch)
{
        *fetch->link = fetch->next;
        if (fetch->next)
                fetch->next->link = fetch->link;
        if (fetch->easy) {
                curl_multi_remove_handle(fetch->fetcher->multi, fetch->easy);
                curl_easy_cleanup(fetch->easy);
        } else {
                event_del(&fetch->refused);
        }
        for (struct curl_slist *line = fetch->lines; line; line = line->next)
                secret_wipe(line->data, strlen(line->data));
        for (struct curl_slist *line = fetch->proxy_lines; line; line = line->next)
                secret_wipe(line->data, strlen(line->data));
        curl_slist_free_all(fetch->lines);
        curl_slist_free_all(fetch->proxy_lines);
        egress_unref(fetch->egress);
        secret_drop(&fetch->body);
        fetch_drop_received(fetch);
        free(fetch);
}

void fetch_cancel(struct fetch *fetch)
{
        if (fetch)
                fetch_free(fetch);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
        struct fetch *fetch = arg;
        size_t len = size * count;

        if (len > fetch->most_bytes - fetch->received_bytes) {
                fetch->too_large = true;
                return 0;
        }
        if (len > fetch->received_room - fetch->received_bytes) {
                size_t room = fetch->received_room ? fetch->received_room * 2 : 4096;
                while (room < fetch->received_bytes + len)
                        room *= 2;
                char *grown = malloc(room);
                must(grown != NULL);
                if (fetch->received_bytes)
                        memcpy(grown, fetch->received, fetch->received_bytes);
                if (fetch->received) {
                        secret_wipe(fetch->received, fetch->received_room);
                        free(fetch->received);
                }
                fetch->received = grown;
                fetch->received_room = room;
        }
        if (len)
                memcpy(fetch->received + fetch->received_bytes, bytes, len);
        fetch->received_bytes += len;
        return len;
}

static size_t on_head(char *bytes, size_t size, size_t count, void *arg)
{
        struct fetch *fetch = arg;

        (void)bytes;
        fetch->head_bytes += size * count;
        if (fetch->head_bytes > HEAD_MOST_BYTES) {
                fetch->too_large = true;
                return 0;
        }
        return size * count;
}

static struct str answer_field(struct fetch *fetch, const char *name)
{
        struct curl_header *field;

        if (curl_easy_header(fetch->easy, name, 0, CURLH_HEADER, -1, &field) != CURLHE_OK)
                return STR_NONE;
        return str_of(field->value);
}

struct str fetch_field(const struct fetch_result *result, const char *name)
{
        return result->answered && result->fetch ? answer_field(result->fetch, name) : STR_NONE;
}

static int64_t max_age_of(struct str value)
{
        int64_t age = -1;

        while (value.ptr) {
                struct str directive;
                uint64_t seconds;

                value = str_cut(value, ',', &directive);
                directive = str_trim(directive);
                if (str_eq_fold(directive, STR("no-store")) ||
                        str_eq_fold(directive, STR("no-cache")))
                        return 0;
                if (str_starts_fold(directive, STR("max-age=")) &&
                        str_to_u64(str_from(directive, 8), &seconds))
                        age = seconds > 1000000000 ? 1000000000 : (int64_t)seconds;
        }
        return age;
}

/* Against the answer's own clock if it says what that is: ours may be wrong. */
static int64_t retry_after_of(struct str value, int64_t date_ms)
{
        uint64_t seconds;

        if (!value.ptr)
                return -1;
        if (str_to_u64(value, &seconds))
                return seconds > 1000000000 ? 1000000000 : (int64_t)seconds;
        time_t at = curl_getdate(value.ptr, NULL);
        if (at < 0)
                return -1;
        int64_t wait = (int64_t)at - (date_ms < 0 ? clock_wall_ms() : date_ms) / 1000;
        return wait < 0 ? 0 : wait;
}

static void result_fill(struct fetch *fetch, struct fetch_result *result)
{
        long status = 0;

        curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
        result->answered = true;
        result->fetch = fetch;
        result->status = (int)status;
        result->body = str_view(fetch->received ? fetch->received : "", fetch->received_bytes);
        result->content_type = answer_field(fetch, "Content-Type");
        result->challenge = answer_field(fetch, "WWW-Authenticate");
        result->max_age_s = max_age_of(answer_field(fetch, "Cache-Control"));
        struct str date = answer_field(fetch, "Date");
        time_t at = date.ptr ? curl_getdate(date.ptr, NULL) : -1;
        result->date_ms = at < 0 ? -1 : (int64_t)at * 1000;
        result->retry_after_s = retry_after_of(answer_field(fetch, "Retry-After"), result->date_ms);
}

static void result_fail(struct fetch *fetch, CURLcode code, struct fetch_result *result)
{
        struct error *err = &result->error;
        long proxy_status = 0;

        result->by_proxy = fetch->egress != NULL;
        if (fetch->egress)
                curl_easy_getinfo(fetch->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
        if (proxy_status >= 300)
                result->proxy_status = (int)proxy_status;
        if (fetch->too_large) {
                error_set(err, "the answer is longer than %zu bytes", fetch->most_bytes);
                return;
        }
        error_set(err, "%s", fetch->why[0] ? fetch->why : curl_easy_strerror(code));
        if (code == CURLE_PEER_FAILED_VERIFICATION)
                error_wrap(err, "its certificate is not trusted (set `ca` if it is your own)");
        else if (code == CURLE_SSL_CACERT_BADFILE)
                error_wrap(err, "the `ca` file cannot be used");
        if (fetch->egress)
                error_wrap(err, "through the outgoing proxy %s", fetch->egress->text);
}

/* Follows a redirect to the same origin; false: there is none that may be followed. */
static bool redirect_followed(struct fetch *fetch)
{
        long status = 0;
        char *to = NULL;
        char *from = NULL;

        curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(fetch->easy, CURLINFO_REDIRECT_URL, &to);
        curl_easy_getinfo(fetch->easy, CURLINFO_EFFECTIVE_URL, &from);
        int64_t left = fetch->deadline_mono_ms - clock_mono_ms();
        if (!fetch->may_redirect || status < 301 || status > 308 || !to || !from || left <= 0 ||
                fetch->redirects == REDIRECTS_MOST || !fetch_same_origin(from, to))
                return false;
        char *url = str_dup(str_of(to));
        fetch->redirects++;
        fetch_drop_received(fetch);
        curl_multi_remove_handle(fetch->fetcher->multi, fetch->easy);
        must(curl_easy_setopt(fetch->easy, CURLOPT_URL, url) == CURLE_OK &&
                curl_easy_setopt(fetch->easy, CURLOPT_TIMEOUT_MS, (long)left) == CURLE_OK &&
                curl_multi_add_handle(fetch->fetcher->multi, fetch->easy) == CURLM_OK);
        free(url);
        return true;
}

static void collect(struct fetcher *fetcher)
{
        CURLMsg *message;
        int left;

        while ((message = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
                struct fetch *fetch = NULL;
                struct fetch_result result = {.max_age_s = -1, .retry_after_s = -1, .date_ms = -1};

                if (message->msg != CURLMSG_DONE)
                        continue;
                CURLcode code = message->data.result;
                curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
                if (code == CURLE_OK && redirect_followed(fetch))
                        continue;
                if (code == CURLE_OK)
                        result_fill(fetch, &result);
                else
                        result_fail(fetch, code, &result);
                fetch->done(&result, fetch->arg);
                fetch_free(fetch);
        }
}

static void on_refused(evutil_socket_t fd, short what, void *arg)
{
        struct fetch *fetch = arg;
        struct fetch_result result = {.max_age_s = -1, .retry_after_s = -1, .date_ms = -1};

        (void)fd;
        (void)what;
        result.error = fetch->refusal;
        fetch->done(&result, fetch->arg);
        fetch_free(fetch);
}

static void fetch_add_line(struct fetch *fetch, const char *line)
{
        struct curl_slist *more = curl_slist_append(fetch->lines, line);

        must(more != NULL);
        fetch->lines = more;
}

static void fetch_lines(struct fetch *fetch, const struct fetch_request *request)
{
        if (request->bearer && request->bearer->len) {
                static const char head[] = "Authorization: Bearer ";
                size_t len = sizeof(head) - 1 + request->bearer->len;
                char *line = malloc(len + 1);

                must(line != NULL);
                memcpy(line, head, sizeof(head) - 1);
                memcpy(line + sizeof(head) - 1, request->bearer->bytes, request->bearer->len + 1);
                fetch_add_line(fetch, line);
                secret_wipe(line, len);
                free(line);
        }
        if (request->content_type) {
                char line[160];
                snprintf(line, sizeof(line), "Content-Type: %s", request->content_type);
                fetch_add_line(fetch, line);
        }
        if (request->secret_field)
                fetch_add_line(fetch, request->secret_field->bytes);
        for (size_t i = 0; i < request->n_fields; i++)
                fetch_add_line(fetch, request->fields[i]);
        fetch_add_line(fetch, "Accept: application/json");
        fetch_add_line(fetch, "Expect:"); /* curl would wait for a 100 before larger bodies */
}

#define SET(option, value) must(curl_easy_setopt(fetch->easy, (option), (value)) == CURLE_OK)

/* What the environment says about proxies counts for nothing here: it is for whoever made the
 * egress. */
static void fetch_way(struct fetch *fetch, const struct fetch_request *request)
{
        struct egress *egress = fetch->fetcher->egress;
        struct origin origin;

        SET(CURLOPT_NOPROXY, "");
        bool used = origin_of(request->url, &origin) && !request->no_egress &&
                    strcmp(origin.scheme, "https") == 0 && egress_serves(egress, origin.host);
        origin_clear(&origin);
        SET(CURLOPT_PROXY, used ? egress->text : "");
        if (!used)
                return;
        fetch->egress = egress_ref(egress);
        SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
        SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        SET(CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
        if (egress->authorization.len) {
                struct secret line = {0};
                static const char head[] = "Proxy-Authorization: ";
                char *to = secret_room(&line, sizeof(head) - 1 + egress->authorization.len);

                memcpy(to, head, sizeof(head) - 1);
                memcpy(to + sizeof(head) - 1, egress->authorization.bytes,
                        egress->authorization.len);
                fetch->proxy_lines = curl_slist_append(NULL, to);
                must(fetch->proxy_lines != NULL);
                secret_drop(&line);
        }
        SET(CURLOPT_PROXYHEADER, fetch->proxy_lines);
}

/* Certificates are looked at when a connection is made. One that is old, or from before the last
 * fetcher_forget, is not used, nor its TLS session, nor the authorities that curl has read and
 * keeps for a day. It counts in whole seconds. */
static void fetch_connection(struct fetch *fetch, const struct fetch_request *request)
{
        int64_t known_ms = clock_mono_ms() - fetch->fetcher->forgot_mono_ms;
        long age_s = known_ms < CONNECTION_MOST_MS ? (long)(known_ms / 1000) - 1
                                                   : CONNECTION_MOST_MS / 1000;

        SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);
        SET(CURLOPT_CA_CACHE_TIMEOUT, age_s < 1 || request->ca ? 0L : age_s);
        if (age_s < 1)
                SET(CURLOPT_FRESH_CONNECT, 1L);
        else
                SET(CURLOPT_MAXLIFETIME_CONN, age_s);
}

static CURLcode on_tls(CURL *easy, void *ctx, void *arg)
{
        (void)easy;
        (void)arg;
        tls_one_record(ctx);
        return CURLE_OK;
}

static void fetch_options(struct fetch *fetch, const struct fetch_request *request)
{
        SET(CURLOPT_URL, request->url);
        SET(CURLOPT_PRIVATE, fetch);
        SET(CURLOPT_ERRORBUFFER, fetch->why);
        SET(CURLOPT_NOSIGNAL, 1L);
        /* Names are looked up by a thread of the library's, which would be joined at a deadline or
         * a cancel, and everybody on the loop with it, for as long as no name server answers. It is
         * left behind instead. */
        SET(CURLOPT_QUICK_EXIT, 1L);
        fetch_way(fetch, request);
        fetch_connection(fetch, request);
        SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
        SET(CURLOPT_PROTOCOLS_STR, "http,https");
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_SSL_CTX_FUNCTION, on_tls);
        SET(CURLOPT_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_SSL_VERIFYHOST, 2L);
        if (request->ca) {
                SET(CURLOPT_CAINFO, request->ca);
                SET(CURLOPT_CAPATH, NULL);
        }
        SET(CURLOPT_USERAGENT, "dagward/" DAGWARD_VERSION);
        SET(CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
        SET(CURLOPT_CONNECTTIMEOUT_MS,
                (long)(request->connect_ms ? request->connect_ms : request->timeout_ms / 2 + 1));
        SET(CURLOPT_HTTPHEADER, fetch->lines);
        SET(CURLOPT_WRITEFUNCTION, on_body);
        SET(CURLOPT_WRITEDATA, fetch);
        SET(CURLOPT_HEADERFUNCTION, on_head);
        SET(CURLOPT_HEADERDATA, fetch);
        if (fetch->is_post) {
                SET(CURLOPT_POST, 1L);
                if (request->method)
                        SET(CURLOPT_CUSTOMREQUEST, request->method);
                SET(CURLOPT_POSTFIELDS, fetch->body.bytes ? fetch->body.bytes : "");
                SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)fetch->body.len);
        }
}

struct fetch *fetch_start(
        struct fetcher *fetcher, const struct fetch_request *request, fetch_done *done, void *arg)
{
        struct fetch *fetch = calloc(1, sizeof(*fetch));

        must(fetch != NULL);
        assert(request->timeout_ms > 0 && request->most_bytes > 0);
        fetch->fetcher = fetcher;
        fetch->done = done;
        fetch->arg = arg;
        fetch->link = &fetcher->first;
        fetch->next = fetcher->first;
        if (fetch->next)
                fetch->next->link = &fetch->next;
        fetcher->first = fetch;
        if (!is_allowed(request, &fetch->refusal)) {
                struct timeval now = {0, 0};
                evtimer_assign(&fetch->refused, fetcher->base, on_refused, fetch);
                evtimer_add(&fetch->refused, &now);
                return fetch;
        }
        fetch->is_post = request->body.ptr != NULL;
        fetch->may_redirect = !fetch->is_post && !request->no_redirects && !request->secret_field &&
                              !(request->bearer && request->bearer->len);
        fetch->most_bytes = request->most_bytes;
        fetch->deadline_mono_ms = clock_mono_ms() + request->timeout_ms;
        if (fetch->is_post)
                secret_set(&fetch->body, request->body);
        fetch->easy = curl_easy_init();
        must(fetch->easy != NULL);
        fetch_lines(fetch, request);
        fetch_options(fetch, request);
        must(curl_multi_add_handle(fetcher->multi, fetch->easy) == CURLM_OK);
        return fetch;
}

/* --- curl and the event loop --- */

static void on_descriptor(evutil_socket_t fd, short what, void *arg)
{
        struct fetcher *fetcher = arg;
        int running;
        int bits =
                (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

        curl_multi_socket_action(fetcher->multi, fd, bits, &running);
        collect(fetcher);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
        struct fetcher *fetcher = arg;
        int running;

        (void)fd;
        (void)what;
        curl_multi_socket_action(fetcher->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        collect(fetcher);
}

static int want_descriptor(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
        struct fetcher *fetcher = arg;
        struct event *event = known;

        (void)easy;
        if (event)
                event_del(event);
        if (what == CURL_POLL_REMOVE) {
                free(event);
                return 0;
        }
        if (!event) {
                event = calloc(1, sizeof(*event));
                must(event != NULL);
                curl_multi_assign(fetcher->multi, fd, event);
        }
        short bits = (short)(EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
                             (what & CURL_POLL_OUT ? EV_WRITE : 0));
        event_assign(event, fetcher->base, fd, bits, on_descriptor, fetcher);
        event_add(event, NULL);
        return 0;
}

static int want_timer(CURLM *multi, long timeout_ms, void *arg)
{
        struct fetcher *fetcher = arg;

        (void)multi;
        if (timeout_ms < 0) {
                event_del(&fetcher->timer);
        } else {
                struct timeval wait = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
                event_add(&fetcher->timer, &wait);
        }
        return 0;
}

struct fetcher *fetcher_new(struct event_base *base)
{
        struct fetcher *fetcher = calloc(1, sizeof(*fetcher));

        must(fetcher != NULL && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
        fetcher->base = base;
        fetcher->multi = curl_multi_init();
        must(fetcher->multi != NULL);
        evtimer_assign(&fetcher->timer, base, on_timer, fetcher);
        curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, want_descriptor);
        curl_multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
        curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, want_timer);
        curl_multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
        curl_multi_setopt(fetcher->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
        return fetcher;
}

void fetcher_set_egress(struct fetcher *fetcher, struct egress *egress)
{
        egress_ref(egress);
        egress_unref(fetcher->egress);
        fetcher->egress = egress;
}

void fetcher_forget(struct fetcher *fetcher)
{
        fetcher->forgot_mono_ms = clock_mono_ms();
}

void fetcher_free(struct fetcher *fetcher)
{
        if (!fetcher)
                return;
        while (fetcher->first)
                fetch_free(fetcher->first);
        curl_multi_cleanup(fetcher->multi);
        event_del(&fetcher->timer);
        egress_unref(fetcher->egress);
        free(fetcher);
        curl_global_cleanup(); /* counted: pairs with the one of fetcher_new */
}
