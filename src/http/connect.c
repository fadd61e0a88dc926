#include "dagward/http/connect.h"

#include <stdio.h>
#include <string.h>

#include "dagward/http/h1_parse.h"
#include "dagward/http/h1_write.h"

enum { FIELD_MOST = 8 * 1024 };

void connect_write(struct buf *out, const char *host, unsigned port, struct str authorization)
{
        const char *form = strchr(host, ':') ? "[%s]:%u" : "%s:%u";

        BUF_LITERAL(out, "CONNECT ");
        buf_printf(out, form, host, port);
        BUF_LITERAL(out, " HTTP/1.1\r\nHost: ");
        buf_printf(out, form, host, port);
        BUF_LITERAL(out, "\r\n");
        if (authorization.len)
                h1_write_field(out, STR("Proxy-Authorization"), authorization);
        h1_write_field(out, STR("User-Agent"), STR("dagward/" DAGWARD_VERSION));
        h1_write_end(out);
}

enum connect_answer connect_judge(struct str received, size_t *scanned, int *status)
{
        static const struct h1_limits limits = {.head_bytes = CONNECT_ANSWER_MOST,
                .field_bytes = FIELD_MOST,
                .fields = H1_MAX_FIELDS};
        struct h1_response response;
        struct h1_fault fault;

        *status = 0;
        if (received.len == 0)
                return CONNECT_AGAIN;
        ssize_t n = h1_parse_response(
                received.ptr, received.len, scanned, &limits, STR("CONNECT"), &response, &fault);
        if (n == H1_AGAIN)
                return CONNECT_AGAIN;
        /* Nothing was asked for that an interim answer could be about. */
        if (n == H1_BAD || response.status < 200)
                return CONNECT_BROKEN;
        *status = response.status;
        if (response.status >= 300)
                return CONNECT_NO;
        return (size_t)n == received.len ? CONNECT_OPEN : CONNECT_STRAY;
}

const char *connect_refusal(int status)
{
        static _Thread_local char text[96];

        switch (status) {
        case 407: return "wants credentials, or others than it was given (407)";
        case 403: return "does not allow connections to that host (403)";
        case 502: return "could not connect to it (502)";
        case 503: return "cannot serve at the moment (503)";
        case 504: return "got no answer from it in time (504)";
        default: break;
        }
        snprintf(text, sizeof(text), "answered %d where a tunnel was asked for", status);
        return text;
}

int connect_refusal_status(int status)
{
        return status == 503 || status == 504 ? status : 502;
}
