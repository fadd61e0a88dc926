#include "dagward/http/headers.h"

#include "bytes.h"

/* A known name and what becomes of it in either direction. */
struct known {
        struct str text;
        unsigned char id, request, response;
};

enum { LONGEST = 30 };

/* The names, by length so that one look finds the few of the right one. X(name, id, request,
 * response) with F forward, H hop, C credential, I impersonation, O ours, V override. */
#define F FIELD_FORWARD
#define H FIELD_HOP
#define C FIELD_CREDENTIAL
#define I FIELD_IMPERSONATION
#define O FIELD_OURS
#define V FIELD_OVERRIDE
#define NAMES_2(X) X("TE", TE, H, H)
#define NAMES_3(X)                                                                                 \
        X("P3P", P3P, I, C)                                                                        \
        X("Via", VIA, I, H)
#define NAMES_4(X)                                                                                 \
        X("Date", DATE, F, F)                                                                      \
        X("ETag", ETAG, F, F)                                                                      \
        X("Host", HOST, O, I)                                                                      \
        X("Link", LINK, F, F)                                                                      \
        X("Vary", VARY, F, F)
#define NAMES_5(X) X("Range", RANGE, F, F)
#define NAMES_6(X)                                                                                 \
        X("Accept", ACCEPT, F, F)                                                                  \
        X("Cookie", COOKIE, C, C)                                                                  \
        X("Expect", EXPECT, H, H)                                                                  \
        X("Origin", ORIGIN, F, F)                                                                  \
        X("Pragma", PRAGMA, F, F)                                                                  \
        X("Server", SERVER, F, F)
#define NAMES_7(X)                                                                                 \
        X("Alt-Svc", ALT_SVC, H, H)                                                                \
        X("Baggage", BAGGAGE, O, F)                                                                \
        X("Expires", EXPIRES, F, F)                                                                \
        X("Referer", REFERER, F, F)                                                                \
        X("Trailer", TRAILER, H, H)                                                                \
        X("Upgrade", UPGRADE, H, H)
#define NAMES_8(X)                                                                                 \
        X("If-Match", IF_MATCH, F, F)                                                              \
        X("Location", LOCATION, F, F)
#define NAMES_9(X)                                                                                 \
        X("Forwarded", FORWARDED, I, H)                                                            \
        X("X-Real-IP", X_REAL_IP, I, H)
#define NAMES_10(X)                                                                                \
        X("ActivityId", ACTIVITY_ID, F, F)                                                         \
        X("Connection", CONNECTION, H, H)                                                          \
        X("Keep-Alive", KEEP_ALIVE, H, H)                                                          \
        X("Request-Id", REQUEST_ID, O, F)                                                          \
        X("Set-Cookie", SET_COOKIE, C, C)                                                          \
        X("Tracestate", TRACESTATE, O, F)                                                          \
        X("User-Agent", USER_AGENT, O, F)
#define NAMES_11(X)                                                                                \
        X("Retry-After", RETRY_AFTER, F, F)                                                        \
        X("Traceparent", TRACEPARENT, O, F)                                                        \
        X("X-VSS-E2EID", X_VSS_E2EID, O, F)
#define NAMES_12(X)                                                                                \
        X("Content-Type", CONTENT_TYPE, F, F)                                                      \
        X("Git-Protocol", GIT_PROTOCOL, F, F)                                                      \
        X("Max-Forwards", MAX_FORWARDS, H, H)                                                      \
        X("X-Request-Id", X_REQUEST_ID, O, F)
#define NAMES_13(X)                                                                                \
        X("Authorization", AUTHORIZATION, C, C)                                                    \
        X("Cache-Control", CACHE_CONTROL, F, F)                                                    \
        X("Content-Range", CONTENT_RANGE, F, F)                                                    \
        X("If-None-Match", IF_NONE_MATCH, F, F)                                                    \
        X("Last-Modified", LAST_MODIFIED, F, F)                                                    \
        X("X-HTTP-Method", X_HTTP_METHOD, V, H)                                                    \
        X("X-Rewrite-URL", X_REWRITE_URL, I, H)                                                    \
        X("X-TFS-Session", X_TFS_SESSION, F, F)
#define NAMES_14(X)                                                                                \
        X("Content-Length", CONTENT_LENGTH, O, O)                                                  \
        X("HTTP2-Settings", HTTP2_SETTINGS, H, H)                                                  \
        X("X-Original-URL", X_ORIGINAL_URL, I, H)                                                  \
        X("X-VSS-UserData", X_VSS_USERDATA, I, C)
#define NAMES_15(X)                                                                                \
        X("Accept-Encoding", ACCEPT_ENCODING, F, F)                                                \
        X("Accept-Language", ACCEPT_LANGUAGE, F, F)                                                \
        X("Idempotency-Key", IDEMPOTENCY_KEY, O, F)                                                \
        X("X-Airflow-TI-Id", X_AIRFLOW_TI_ID, O, O)                                                \
        X("X-Dagward-Token", X_DAGWARD_TOKEN, C, C)                                                \
        X("X-Forwarded-For", X_FORWARDED_FOR, I, H)
#define NAMES_16(X)                                                                                \
        X("Content-Encoding", CONTENT_ENCODING, F, F)                                              \
        X("LFS-Authenticate", LFS_AUTHENTICATE, C, C)                                              \
        X("Proxy-Connection", PROXY_CONNECTION, H, H)                                              \
        X("WWW-Authenticate", WWW_AUTHENTICATE, C, C)                                              \
        X("X-Airflow-Dag-Id", X_AIRFLOW_DAG_ID, O, O)                                              \
        X("X-Airflow-Run-Id", X_AIRFLOW_RUN_ID, O, O)                                              \
        X("X-Dagward-Reason", X_DAGWARD_REASON, O, O)                                              \
        X("X-Correlation-Id", X_CORRELATION_ID, O, O)                                              \
        X("X-Forwarded-Host", X_FORWARDED_HOST, I, H)
#define NAMES_17(X)                                                                                \
        X("If-Modified-Since", IF_MODIFIED_SINCE, F, F)                                            \
        X("Transfer-Encoding", TRANSFER_ENCODING, O, O)                                            \
        X("X-Airflow-Task-Id", X_AIRFLOW_TASK_ID, O, O)                                            \
        X("X-Forwarded-Proto", X_FORWARDED_PROTO, I, H)                                            \
        X("X-Method-Override", X_METHOD_OVERRIDE, V, H)                                            \
        X("X-RateLimit-Delay", X_RATELIMIT_DELAY, F, F)                                            \
        X("X-RateLimit-Limit", X_RATELIMIT_LIMIT, F, F)                                            \
        X("X-RateLimit-Reset", X_RATELIMIT_RESET, F, F)                                            \
        X("X-TFS-Impersonate", X_TFS_IMPERSONATE, I, C)
#define NAMES_18(X) X("Proxy-Authenticate", PROXY_AUTHENTICATE, C, C)
#define NAMES_19(X)                                                                                \
        X("Content-Disposition", CONTENT_DISPOSITION, F, F)                                        \
        X("Proxy-Authorization", PROXY_AUTHORIZATION, C, C)                                        \
        X("X-Airflow-Map-Index", X_AIRFLOW_MAP_INDEX, O, O)
#define NAMES_20(X)                                                                                \
        X("X-Airflow-Try-Number", X_AIRFLOW_TRY_NUMBER, O, O)                                      \
        X("X-RateLimit-Resource", X_RATELIMIT_RESOURCE, F, F)                                      \
        X("X-VSS-ResourceTenant", X_VSS_RESOURCETENANT, I, C)
#define NAMES_21(X)                                                                                \
        X("X-RateLimit-Remaining", X_RATELIMIT_REMAINING, F, F)                                    \
        X("X-TFS-FedAuthRedirect", X_TFS_FEDAUTHREDIRECT, O, C)
#define NAMES_22(X)                                                                                \
        X("X-HTTP-Method-Override", X_HTTP_METHOD_OVERRIDE, V, H)                                  \
        X("X-MS-ContinuationToken", X_MS_CONTINUATIONTOKEN, F, F)
#define NAMES_23(X) X("X-VSS-ForwardedIdentity", X_VSS_FORWARDEDIDENTITY, I, C)
#define NAMES_25(X)                                                                                \
        X("Strict-Transport-Security", STRICT_TRANSPORT_SECURITY, H, H)                            \
        X("X-VSS-ForceMsaPassThrough", X_VSS_FORCEMSAPASSTHROUGH, F, F)
#define NAMES_27(X) X("X-VSS-AuthorizationEndpoint", X_VSS_AUTHORIZATIONENDPOINT, I, C)

#define ROW(literal, name, request_class, response_class)                                          \
        {STR(literal), H1_##name, request_class, response_class},
/* clang-format off */
#define LENGTHS(X) \
        X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) \
        X(18) X(19) X(20) X(21) X(22) X(23) X(25) X(27)
/* clang-format on */
#define TABLE(length) static const struct known names_##length[] = {NAMES_##length(ROW)};
LENGTHS(TABLE)

#define SPAN(length) [length] = {names_##length, sizeof(names_##length) / sizeof(struct known)},
static const struct {
        const struct known *names;
        size_t n;
} by_length[LONGEST + 1] = {LENGTHS(SPAN)};

#define BY_ID(literal, name, request_class, response_class)                                        \
        [H1_##name] = {STR(literal), H1_##name, request_class, response_class},
#define IDS(length) NAMES_##length(BY_ID)
static const struct known by_id[H1_NAME_COUNT] = {LENGTHS(IDS)};

/* Whether a token equals a known name. Folding with |0x20 is exact: among token bytes only a
 * letter becomes a letter, and nothing but itself becomes a digit or a dash. */
static bool same_name(const char *token, const char *known, size_t len)
{
        const uint64_t fold = 0x2020202020202020u;

        for (; len >= 8; len -= 8, token += 8, known += 8)
                if ((bytes_word(token) | fold) != (bytes_word(known) | fold))
                        return false;
        for (; len; len--, token++, known++)
                if ((*token | 0x20) != (*known | 0x20))
                        return false;
        return true;
}

enum h1_name h1_name_find(struct str name)
{
        if (name.len > LONGEST || name.len == 0)
                return H1_OTHER;
        const struct known *known = by_length[name.len].names;
        /* The last byte tells names of one length apart better than the first. */
        int last = name.ptr[name.len - 1] | 0x20;
        for (size_t i = by_length[name.len].n; i; i--, known++)
                if ((known->text.ptr[name.len - 1] | 0x20) == last &&
                        same_name(name.ptr, known->text.ptr, name.len))
                        return known->id;
        return H1_OTHER;
}

struct str h1_name_text(enum h1_name id)
{
        return id == H1_OTHER ? STR("") : by_id[id].text;
}

enum pattern_place { AT_START, AT_END, ANYWHERE, WHOLE };

/* How names that are not in the table give themselves away. Lower case; `-` stands for every byte
 * that is no letter or digit. The first that fits decides. */
static const struct pattern {
        struct str text;
        unsigned char place, class;
} patterns[] = {
        {STR("method-override"), ANYWHERE, FIELD_OVERRIDE},
        {STR("methodoverride"), ANYWHERE, FIELD_OVERRIDE},
        {STR("x-http-method"), AT_START, FIELD_OVERRIDE},
        {STR("http-method"), WHOLE, FIELD_OVERRIDE},
        {STR("x-method"), WHOLE, FIELD_OVERRIDE},
        {STR("verb-override"), ANYWHERE, FIELD_OVERRIDE},
        /* Old parsers look no further than the end of these names. */
        {STR("transfer-encoding"), AT_START, FIELD_OURS},
        {STR("content-length"), AT_START, FIELD_OURS},
        {STR("x-airflow-"), AT_START, FIELD_OURS},
        {STR("x-dagward-"), AT_START, FIELD_CREDENTIAL},
        {STR("impersonat"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("forwarded"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("original-"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("rewrite-"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("override"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("authoriz"), ANYWHERE, FIELD_CREDENTIAL},
        {STR("authentica"), ANYWHERE, FIELD_CREDENTIAL},
        {STR("cookie"), ANYWHERE, FIELD_CREDENTIAL},
        {STR("-token"), AT_END, FIELD_CREDENTIAL},
        {STR("-token-"), ANYWHERE, FIELD_CREDENTIAL},
        {STR("apikey"), AT_END, FIELD_CREDENTIAL},
        {STR("x-auth-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-ms-client-principal"), AT_START, FIELD_IMPERSONATION},
        {STR("x-arr-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-iis-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-waws-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-appservice-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-ssl-"), AT_START, FIELD_IMPERSONATION},
        {STR("ssl-client-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-client-"), AT_START, FIELD_IMPERSONATION},
        {STR("client-cert"), AT_START, FIELD_IMPERSONATION},
        {STR("client-ip"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("connecting-ip"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("remote-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-remote-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-user"), AT_START, FIELD_IMPERSONATION},
        {STR("x-webauth-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-gateway-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-jwt-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-goog-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-amzn-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-envoy-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-azure-"), AT_START, FIELD_IMPERSONATION},
        /* Azure DevOps' own: who speaks for whom between its services is said with such names, and
         * not all of them are public. Those that clients need are in the table. */
        {STR("x-tfs-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-vss-"), AT_START, FIELD_IMPERSONATION},
        {STR("x-fd-"), AT_START, FIELD_IMPERSONATION},
        {STR("cf-"), AT_START, FIELD_IMPERSONATION},
        {STR("userinfo"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("userdata"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("fedauth"), ANYWHERE, FIELD_IMPERSONATION},
        {STR("front-end-https"), WHOLE, FIELD_IMPERSONATION},
        {STR("x-host"), AT_START, FIELD_IMPERSONATION},
        {STR("x-url-scheme"), WHOLE, FIELD_IMPERSONATION},
        {STR("x-scheme"), WHOLE, FIELD_IMPERSONATION},
        {STR("proxy"), WHOLE, FIELD_IMPERSONATION},
        {STR("proxy-"), AT_START, FIELD_HOP},
};

/* What upstream may say about its own sessions or connections by names that are not in the table.
 */
static const struct pattern response_patterns[] = {
        {STR("set-cookie"), AT_START, FIELD_CREDENTIAL},
        {STR("x-tfs-fedauth"), AT_START, FIELD_CREDENTIAL},
        {STR("authentica"), ANYWHERE, FIELD_CREDENTIAL},
        {STR("authoriz"), ANYWHERE, FIELD_CREDENTIAL},
        {STR("x-vss-userdata"), AT_START, FIELD_CREDENTIAL},
        {STR("proxy-"), AT_START, FIELD_HOP},
        {STR("public-key-pins"), AT_START, FIELD_HOP},
        {STR("report-to"), WHOLE, FIELD_HOP},
        {STR("nel"), WHOLE, FIELD_HOP},
        {STR("transfer-encoding"), AT_START, FIELD_OURS},
        {STR("content-length"), AT_START, FIELD_OURS},
        {STR("x-dagward-"), AT_START, FIELD_OURS},
        {STR("x-airflow-"), AT_START, FIELD_OURS},
};

static bool pattern_fits(const struct pattern *pattern, struct str name)
{
        switch ((enum pattern_place)pattern->place) {
        case AT_START: return str_starts(name, pattern->text);
        case AT_END: return str_ends(name, pattern->text);
        case ANYWHERE: return str_find_str(name, pattern->text) >= 0;
        case WHOLE: return str_eq(name, pattern->text);
        }
        return false;
}

static enum h1_class by_pattern(const struct pattern *pattern, size_t n, struct str name)
{
        for (; n; n--, pattern++)
                if (pattern_fits(pattern, name))
                        return pattern->class;
        return FIELD_FORWARD;
}

/* Lower case, a dash for every byte that is no letter or digit; `*plain` when there was none but
 * dashes. Names longer than `size` are cut: 128 bytes say enough. */
static struct str normalise(struct str name, char *out, size_t size, bool *plain)
{
        size_t len = name.len < size ? name.len : size;

        *plain = name.len <= size;
        for (size_t i = 0; i < len; i++) {
                char c = name.ptr[i];
                if (!byte_is(c, BYTE_ALNUM)) {
                        *plain = *plain && c == '-';
                        c = '-';
                }
                out[i] = char_lower(c);
        }
        return str_view(out, len);
}

enum h1_class h1_request_class(const struct h1_field *field)
{
        char space[128];
        bool plain;

        if (field->id != H1_OTHER)
                return by_id[field->id].request;
        struct str name = normalise(field->name, space, sizeof(space), &plain);
        enum h1_name id = plain ? H1_OTHER : h1_name_find(name);
        enum h1_class class =
                id != H1_OTHER ? (enum h1_class)by_id[id].request
                               : by_pattern(patterns, sizeof(patterns) / sizeof(*patterns), name);
        return class == FIELD_FORWARD && !plain ? FIELD_IMPERSONATION : class;
}

enum h1_class h1_response_class(const struct h1_field *field)
{
        char space[128];
        bool plain;

        if (field->id != H1_OTHER)
                return by_id[field->id].response;
        struct str name = normalise(field->name, space, sizeof(space), &plain);
        enum h1_name id = plain ? H1_OTHER : h1_name_find(name);
        enum h1_class class =
                id != H1_OTHER
                        ? (enum h1_class)by_id[id].response
                        : by_pattern(response_patterns,
                                  sizeof(response_patterns) / sizeof(*response_patterns), name);
        return class == FIELD_FORWARD && !plain ? FIELD_HOP : class;
}
