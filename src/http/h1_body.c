#include "dagward/http/h1_body.h"

#include "bytes.h"

enum { MOST_DIGITS = 16 };

static const char rule_size[] = "RFC 9112 7.1";
static const char rule_extension[] = "RFC 9112 7.1.1";
static const char rule_trailer[] = "RFC 9112 7.1.2";

void h1_body_init(struct h1_body *body, enum h1_framing framing, uint64_t length)
{
        *body = (struct h1_body){.state = BODY_DONE};
        switch (framing) {
        case H1_NO_BODY: break;
        case H1_LENGTH:
                body->left = length;
                if (length)
                        body->state = BODY_LENGTH;
                break;
        case H1_CHUNKED: body->state = BODY_SIZE_FIRST; break;
        case H1_UNTIL_CLOSE: body->state = BODY_UNTIL_CLOSE; break;
        }
        body->done = body->state == BODY_DONE;
}

static enum h1_body_state broken(
        struct h1_body *body, int status, const char *rule, const char *why)
{
        h1_fault_set(&body->fault, status, rule, why, (size_t)body->wire_bytes);
        return BODY_BAD;
}

/* A byte of the chunk-size line behind the first digit. */
static enum h1_body_state size_byte(struct h1_body *body, char c)
{
        if (byte_is(c, BYTE_HEX)) {
                if (++body->digits > MOST_DIGITS)
                        return broken(body, 400, rule_size, "a chunk size of too many digits");
                /* Signed to some: the top bit is refused, so that no sum can wrap either. */
                if (body->left >> 59)
                        return broken(body, 400, rule_size, "a chunk size out of all bounds");
                body->left = body->left << 4 | byte_hex(c);
                return BODY_SIZE;
        }
        if (c == '\r' && body->digits)
                return BODY_SIZE_LF;
        if (c == ';' && body->digits)
                return BODY_EXTENSION;
        return broken(body, 400, rule_size, "a chunk size that is not plain hex");
}

/* A byte of `;name=value;name="quoted"`, without blanks. */
static enum h1_body_state extension_byte(struct h1_body *body, char c)
{
        bool token = byte_is(c, BYTE_TOKEN), named = body->state == BODY_EXTENSION_NAME;

        if (++body->line_extension > H1_MAX_EXTENSION || ++body->extensions > H1_MAX_EXTENSIONS)
                return broken(body, 413, rule_extension, "chunk extensions are too long");
        switch ((unsigned)body->state) {
        case BODY_EXTENSION_QUOTED:
                if (byte_is(c, BYTE_CONTROL))
                        break;
                return c == '"'    ? BODY_EXTENSION_UNQUOTED
                       : c == '\\' ? BODY_EXTENSION_ESCAPED
                                   : BODY_EXTENSION_QUOTED;
        case BODY_EXTENSION_ESCAPED:
                if (byte_is(c, BYTE_CONTROL))
                        break;
                return BODY_EXTENSION_QUOTED;
        case BODY_EXTENSION:
                if (token)
                        return BODY_EXTENSION_NAME;
                break;
        case BODY_EXTENSION_EQUALS:
                if (token || c == '"')
                        return token ? BODY_EXTENSION_VALUE : BODY_EXTENSION_QUOTED;
                break;
        default: /* behind a name or a value */
                if (c == '\r')
                        return BODY_SIZE_LF;
                if (c == ';')
                        return BODY_EXTENSION;
                if (named && c == '=')
                        return BODY_EXTENSION_EQUALS;
                if (token && body->state != BODY_EXTENSION_UNQUOTED)
                        return body->state;
        }
        return broken(body, 400, rule_extension, "a malformed chunk extension");
}

/* The LF behind a chunk size. */
static enum h1_body_state size_lf(struct h1_body *body, char c)
{
        if (c != '\n')
                return broken(body, 400, rule_size, "a CR without LF behind a chunk size");
        body->line_extension = 0;
        body->digits = 0;
        return body->left ? BODY_DATA : BODY_TRAILER_START;
}

static enum h1_body_state trailer_name_byte(struct h1_body *body, char c)
{
        if (byte_is(c, BYTE_TOKEN)) {
                if (body->trailer_name < sizeof(body->name))
                        body->name[body->trailer_name] = c;
                body->trailer_name++;
                return BODY_TRAILER_NAME;
        }
        if (c != ':' || body->trailer_name == 0)
                return broken(body, 400, rule_trailer, "a trailer name that is not a token");
        if (body->trailer_name > sizeof(body->name))
                return BODY_TRAILER_VALUE;
        switch ((unsigned)h1_name_find(str_view(body->name, body->trailer_name))) {
        case H1_HOST:
        case H1_CONTENT_LENGTH:
        case H1_TRANSFER_ENCODING:
        case H1_CONNECTION:
        case H1_PROXY_CONNECTION:
        case H1_UPGRADE:
        case H1_EXPECT:
                return broken(body, 400, "RFC 9110 6.5.1", "a trailer that frames or routes");
        }
        return BODY_TRAILER_VALUE;
}

static enum h1_body_state trailer_byte(struct h1_body *body, char c)
{
        if (++body->trailers > H1_MAX_TRAILERS)
                return broken(body, 431, rule_trailer, "the trailers are too long");
        switch ((unsigned)body->state) {
        case BODY_TRAILER_START:
                if (c == '\r')
                        return BODY_END_LF;
                body->trailer_name = 0;
                return trailer_name_byte(body, c);
        case BODY_TRAILER_NAME: return trailer_name_byte(body, c);
        case BODY_TRAILER_VALUE:
                if (c == '\r')
                        return BODY_TRAILER_LF;
                if (byte_is(c, BYTE_CONTROL))
                        return broken(body, 400, rule_trailer, "a control byte in a trailer");
                return BODY_TRAILER_VALUE;
        case BODY_TRAILER_LF:
                if (c != '\n')
                        return broken(body, 400, rule_trailer, "a CR without LF in a trailer");
                return BODY_TRAILER_START;
        }
        if (c != '\n')
                return broken(body, 400, rule_trailer, "a CR without LF behind the trailers");
        return BODY_DONE;
}

/* One byte of chunk framing; the states that pass payload on are not its business. */
static enum h1_body_state framing_byte(struct h1_body *body, char c)
{
        switch (body->state) {
        case BODY_SIZE_FIRST: body->left = 0; return size_byte(body, c);
        case BODY_SIZE: return size_byte(body, c);
        case BODY_EXTENSION:
        case BODY_EXTENSION_NAME:
        case BODY_EXTENSION_EQUALS:
        case BODY_EXTENSION_VALUE:
        case BODY_EXTENSION_QUOTED:
        case BODY_EXTENSION_ESCAPED:
        case BODY_EXTENSION_UNQUOTED: return extension_byte(body, c);
        case BODY_SIZE_LF: return size_lf(body, c);
        case BODY_DATA_CR:
                if (c != '\r')
                        return broken(body, 400, rule_size, "no CRLF behind a chunk's data");
                return BODY_DATA_LF;
        case BODY_DATA_LF:
                if (c != '\n')
                        return broken(body, 400, rule_size, "no CRLF behind a chunk's data");
                return BODY_SIZE_FIRST;
        case BODY_TRAILER_START:
        case BODY_TRAILER_NAME:
        case BODY_TRAILER_VALUE:
        case BODY_TRAILER_LF:
        case BODY_END_LF: return trailer_byte(body, c);
        case BODY_LENGTH:
        case BODY_UNTIL_CLOSE:
        case BODY_DATA:
        case BODY_DONE:
        case BODY_BAD: break;
        }
        return body->state;
}

static bool passes_payload(enum h1_body_state state)
{
        return state == BODY_DATA || state == BODY_LENGTH || state == BODY_UNTIL_CLOSE;
}

/* Names up to `len` bytes at `data` as payload. */
static size_t take_payload(struct h1_body *body, const char *data, size_t len, struct str *payload)
{
        if (body->state != BODY_UNTIL_CLOSE) {
                if (len > body->left)
                        len = (size_t)body->left;
                body->left -= len;
                if (body->left == 0)
                        body->state = body->state == BODY_DATA ? BODY_DATA_CR : BODY_DONE;
        }
        *payload = str_view(data, len);
        body->payload_bytes += len;
        body->wire_bytes += len;
        return len;
}

ssize_t h1_body_next(struct h1_body *body, const char *data, size_t len, struct str *payload,
        struct h1_fault *fault)
{
        size_t used = 0;

        *payload = str_view(data, 0);
        while (used < len && !passes_payload(body->state) && body->state != BODY_DONE &&
                body->state != BODY_BAD) {
                body->state = framing_byte(body, data[used]);
                if (body->state != BODY_BAD) {
                        body->wire_bytes++;
                        used++;
                }
        }
        if (body->state == BODY_BAD) {
                *fault = body->fault;
                return H1_BAD;
        }
        if (used < len && passes_payload(body->state))
                used += take_payload(body, data + used, len - used, payload);
        body->done = body->state == BODY_DONE;
        return (ssize_t)used;
}

bool h1_body_close(struct h1_body *body)
{
        if (body->state == BODY_UNTIL_CLOSE)
                body->state = BODY_DONE;
        body->done = body->state == BODY_DONE;
        return body->done;
}
