/*
 * headers: the field names Dagward knows, and what a proxy does with a field.
 *
 * Names compare without letter case (RFC 9110 5.1). What is not in the table is H1_OTHER, which
 * says nothing about danger: h1_request_class also judges unknown names, by their spelling.
 */
#ifndef DAGWARD_HTTP_HEADERS_H
#define DAGWARD_HTTP_HEADERS_H

#include "dagward/base/str.h"

enum h1_name {
        H1_OTHER,
        /* framing and routing */
        H1_HOST,
        H1_CONTENT_LENGTH,
        H1_TRANSFER_ENCODING,
        H1_EXPECT,
        /* hop by hop */
        H1_CONNECTION,
        H1_KEEP_ALIVE,
        H1_PROXY_CONNECTION,
        H1_TE,
        H1_TRAILER,
        H1_UPGRADE,
        H1_HTTP2_SETTINGS,
        H1_MAX_FORWARDS,
        H1_VIA,
        H1_ALT_SVC,
        H1_STRICT_TRANSPORT_SECURITY,
        /* credentials and challenges */
        H1_AUTHORIZATION,
        H1_X_DAGWARD_TOKEN,
        H1_PROXY_AUTHORIZATION,
        H1_COOKIE,
        H1_SET_COOKIE,
        H1_WWW_AUTHENTICATE,
        H1_PROXY_AUTHENTICATE,
        H1_LFS_AUTHENTICATE,
        H1_P3P,
        H1_X_VSS_AUTHORIZATIONENDPOINT,
        H1_X_VSS_RESOURCETENANT,
        H1_X_VSS_USERDATA,
        H1_X_VSS_FORWARDEDIDENTITY,
        H1_X_TFS_IMPERSONATE,
        H1_X_TFS_FEDAUTHREDIRECT,
        /* another method or path than the request line's */
        H1_X_HTTP_METHOD_OVERRIDE,
        H1_X_HTTP_METHOD,
        H1_X_METHOD_OVERRIDE,
        H1_X_ORIGINAL_URL,
        H1_X_REWRITE_URL,
        H1_FORWARDED,
        H1_X_FORWARDED_FOR,
        H1_X_FORWARDED_HOST,
        H1_X_FORWARDED_PROTO,
        H1_X_REAL_IP,
        /* content and negotiation */
        H1_ACCEPT,
        H1_ACCEPT_ENCODING,
        H1_ACCEPT_LANGUAGE,
        H1_CACHE_CONTROL,
        H1_CONTENT_TYPE,
        H1_CONTENT_ENCODING,
        H1_CONTENT_RANGE,
        H1_CONTENT_DISPOSITION,
        H1_DATE,
        H1_ETAG,
        H1_EXPIRES,
        H1_GIT_PROTOCOL,
        H1_IF_MATCH,
        H1_IF_MODIFIED_SINCE,
        H1_IF_NONE_MATCH,
        H1_LAST_MODIFIED,
        H1_LINK,
        H1_LOCATION,
        H1_ORIGIN,
        H1_PRAGMA,
        H1_RANGE,
        H1_REFERER,
        H1_RETRY_AFTER,
        H1_SERVER,
        H1_USER_AGENT,
        H1_VARY,
        H1_X_MS_CONTINUATIONTOKEN,
        H1_X_RATELIMIT_DELAY,
        H1_X_RATELIMIT_LIMIT,
        H1_X_RATELIMIT_REMAINING,
        H1_X_RATELIMIT_RESET,
        H1_X_RATELIMIT_RESOURCE,
        H1_X_VSS_FORCEMSAPASSTHROUGH,
        /* correlation, idempotency, and what Airflow tells about itself */
        H1_ACTIVITY_ID,
        H1_BAGGAGE,
        H1_IDEMPOTENCY_KEY,
        H1_REQUEST_ID,
        H1_TRACEPARENT,
        H1_TRACESTATE,
        H1_X_CORRELATION_ID,
        H1_X_DAGWARD_REASON,
        H1_X_REQUEST_ID,
        H1_X_TFS_SESSION,
        H1_X_VSS_E2EID,
        H1_X_AIRFLOW_DAG_ID,
        H1_X_AIRFLOW_RUN_ID,
        H1_X_AIRFLOW_TASK_ID,
        H1_X_AIRFLOW_MAP_INDEX,
        H1_X_AIRFLOW_TRY_NUMBER,
        H1_X_AIRFLOW_TI_ID,
        H1_NAME_COUNT
};

struct h1_field {
        struct str name;  /* a token (RFC 9110 5.6.2), as spelt by the peer */
        struct str value; /* without optional white space at both ends; no CR, LF, NUL */
        enum h1_name id;
};

/* What the proxy does with a field of one direction. Only FIELD_FORWARD travels. */
enum h1_class {
        FIELD_FORWARD,       /* copied, unless Connection names it (h1_connection_names) */
        FIELD_HOP,           /* about this connection only (RFC 9110 7.6.1), or answered by us */
        FIELD_CREDENTIAL,    /* a secret, a challenge, or whose session upstream's is */
        FIELD_IMPERSONATION, /* claims an identity, origin, host or path; or cannot be trusted */
        FIELD_OURS,          /* read by Dagward, or composed by it from this value or its own: Host,
                                length, User-Agent, correlation, X-Airflow-*, X-Dagward-Reason */
        FIELD_OVERRIDE       /* another method than the request line's: refuse the request */
};

/* The id of a name that is a token; H1_OTHER when it is not in the table. */
enum h1_name h1_name_find(struct str name);
/* The canonical spelling ("Content-Length"); "" for H1_OTHER. */
struct str h1_name_text(enum h1_name id);
/* What becomes of a client's field on its way upstream. A name that is more than letters, digits
 * and dashes never travels: a CGI-like upstream reads X_Forwarded_User as X-Forwarded-User. */
enum h1_class h1_request_class(const struct h1_field *field);
/* What becomes of upstream's field on its way to the client. */
enum h1_class h1_response_class(const struct h1_field *field);

#endif
