#include "dagward/http/h1_parse.h"

#include <assert.h>

#include "bytes.h"

/* A head being read. The parts that requests and responses share are reached through pointers. */
struct head {
        const char *data;
        const char *end; /* of what may be looked at: the bytes there are, or the limit */
        const struct h1_limits *limits;
        struct h1_fault *fault;
        struct h1_field *fields;
        size_t n_fields;
        short *first;
        int minor;
        bool request;
        bool close, keep_alive; /* named by Connection */
        bool has_length, chunked;
        uint64_t length;
};

/* Results of the steps; a pointer is where the next one goes on. */
#define MORE ((const char *)NULL)
static const char bad_place;
#define BAD (&bad_place)

static const char *refuse(
        const struct head *head, int status, const char *rule, const char *why, const char *at)
{
        h1_fault_set(head->fault, status, rule, why, (size_t)(at - head->data));
        return BAD;
}

/* "\r\n" at `p`, which is before the end. */
static const char *line_end(const struct head *head, const char *p)
{
        if (*p == '\n')
                return refuse(head, 400, "RFC 9112 2.2", "a line ends with a bare LF", p);
        if (*p != '\r')
                return refuse(head, 400, "RFC 9112 2.2", "a line does not end where it has to", p);
        if (p + 1 == head->end)
                return MORE;
        if (p[1] != '\n')
                return refuse(head, 400, "RFC 9112 2.2", "a CR without LF", p + 1);
        return p + 2;
}

/* What is wrong with a line that begins, or whose name ends, with this byte. */
static const char *bad_name(const struct head *head, const char *line, const char *p)
{
        if (byte_blank(*p) && p == line)
                return head->n_fields ? refuse(head, 400, "RFC 9112 5.2", "a folded field", p)
                                      : refuse(head, 400, "RFC 9112 2.2",
                                                "blanks before the first field", p);
        if (byte_blank(*p))
                return refuse(head, 400, "RFC 9112 5.1", "a blank in or after a field name", p);
        if (*p == ':')
                return refuse(head, 400, "RFC 9112 5", "a field without a name", p);
        if (*p == '\r' || *p == '\n')
                return refuse(head, 400, "RFC 9112 5", "a field line without a colon", p);
        return refuse(head, 400, "RFC 9110 5.1", "a field name that is not a token", p);
}

/* Reads one token of a comma list at `*rest` and moves on; STR_NONE at the end. */
static struct str list_next(struct str *rest)
{
        while (rest->len) {
                struct str member;
                *rest = str_cut(*rest, ',', &member);
                member = str_trim(member);
                if (member.len)
                        return member;
        }
        return STR_NONE;
}

static bool all_token(struct str s)
{
        for (size_t i = 0; i < s.len; i++)
                if (!byte_is(s.ptr[i], BYTE_TOKEN))
                        return false;
        return true;
}

static bool note_connection(struct head *head, struct str value)
{
        for (struct str member; (member = list_next(&value)).ptr;) {
                if (!all_token(member))
                        return h1_fault_set(head->fault, 400, "RFC 9110 7.6.1",
                                "Connection holds something else than names",
                                (size_t)(member.ptr - head->data));
                head->close = head->close || str_eq_fold(member, STR("close"));
                head->keep_alive = head->keep_alive || str_eq_fold(member, STR("keep-alive"));
        }
        return true;
}

/* Means nothing (RFC 9112 C.2.2), but many obey it: who says close is not read on. */
static void note_proxy_connection(struct head *head, struct str value)
{
        for (struct str member; (member = list_next(&value)).ptr;)
                head->close = head->close || str_eq_fold(member, STR("close"));
}

/* Digits alone, no leading zero (010 is eight to some), below 2^63 (it is signed to some). */
static bool read_length(struct str value, uint64_t *length)
{
        return value.len && value.len <= 19 && (value.ptr[0] != '0' || value.len == 1) &&
               str_to_u64(value, length) && *length <= INT64_MAX;
}

/* Checks a field that frames the message or names its connection. False: refused. */
static bool note_field(struct head *head, const struct h1_field *field)
{
        size_t at = (size_t)(field->name.ptr - head->data);
        bool again = head->first[field->id] >= 0;

        switch ((unsigned)field->id) {
        case H1_CONTENT_LENGTH:
                if (again)
                        return h1_fault_set(
                                head->fault, 400, "RFC 9112 6.3", "two Content-Length fields", at);
                if (head->first[H1_TRANSFER_ENCODING] >= 0)
                        return h1_fault_set(head->fault, 400, "RFC 9112 6.3",
                                "Content-Length and Transfer-Encoding", at);
                if (!read_length(field->value, &head->length))
                        return h1_fault_set(head->fault, 400, "RFC 9112 6.3",
                                "Content-Length is not a plain decimal number", at);
                head->has_length = true;
                return true;
        case H1_TRANSFER_ENCODING:
                if (again)
                        return h1_fault_set(head->fault, 400, "RFC 9112 6.1",
                                "two Transfer-Encoding fields", at);
                if (head->has_length)
                        return h1_fault_set(head->fault, 400, "RFC 9112 6.3",
                                "Content-Length and Transfer-Encoding", at);
                if (head->minor == 0)
                        return h1_fault_set(head->fault, 400, "RFC 9112 6.1",
                                "Transfer-Encoding in HTTP/1.0", at);
                if (!str_eq_fold(field->value, STR("chunked")))
                        return h1_fault_set(head->fault, 400, "RFC 9112 6.1",
                                "Transfer-Encoding is not exactly chunked", at);
                head->chunked = true;
                return true;
        case H1_CONNECTION: return note_connection(head, field->value);
        case H1_PROXY_CONNECTION: note_proxy_connection(head, field->value); return true;
        }
        return true;
}

/* Checks a field that only requests are strict about. */
static bool note_request_field(struct head *head, const struct h1_field *field)
{
        size_t at = (size_t)(field->name.ptr - head->data);
        bool again = head->first[field->id] >= 0;

        switch ((unsigned)field->id) {
        case H1_HOST:
                if (again)
                        return h1_fault_set(
                                head->fault, 400, "RFC 9112 3.2", "two Host fields", at);
                if (!h1_host_ok(field->value))
                        return h1_fault_set(head->fault, 400, "RFC 9112 3.2",
                                "Host is not a name or address with an optional port", at);
                return true;
        /* They say how the body is read: by the first for some, by the last for others. */
        case H1_CONTENT_TYPE:
        case H1_CONTENT_ENCODING:
                return !again || h1_fault_set(head->fault, 400, "RFC 9110 5.3",
                                         "two Content-Type or Content-Encoding fields", at);
        case H1_EXPECT:
                if (again)
                        return h1_fault_set(
                                head->fault, 400, "RFC 9110 10.1.1", "two Expect fields", at);
                if (!str_eq_fold(field->value, STR("100-continue")))
                        return h1_fault_set(head->fault, 417, "RFC 9110 10.1.1",
                                "an expectation other than 100-continue", at);
                return true;
        case H1_UPGRADE:
                return h1_fault_set(
                        head->fault, 400, "RFC 9110 7.8", "only HTTP/1.1 is spoken here", at);
        }
        return true;
}

static bool add_field(struct head *head, struct str name, struct str value)
{
        struct h1_field *field = &head->fields[head->n_fields];

        *field = (struct h1_field){name, value, h1_name_find(name)};
        if (field->id == H1_OTHER) {
                head->n_fields++;
                return true;
        }
        if (!note_field(head, field) || (head->request && !note_request_field(head, field)))
                return false;
        if (head->first[field->id] < 0)
                head->first[field->id] = (short)head->n_fields;
        head->n_fields++;
        return true;
}

/* One field line at `line`; returns where the next line begins. */
static const char *parse_field(struct head *head, const char *line)
{
        size_t most = head->limits->field_bytes;
        bool cut = (size_t)(head->end - line) > most;
        /* One byte more than the limit is looked at: it has to be the CR. */
        const char *stop = cut ? line + most + 1 : head->end;
        const char *p = line;

        if (head->n_fields >= head->limits->fields || head->n_fields >= H1_MAX_FIELDS)
                return refuse(head, 431, "RFC 6585 5", "too many fields", line);
        while (p < stop && byte_is(*p, BYTE_TOKEN))
                p++;
        if (p < stop && (*p != ':' || p == line))
                return bad_name(head, line, p);
        struct str name = str_view(line, (size_t)(p - line));
        const char *value = NULL, *value_end = NULL;
        if (p < stop) {
                for (p++; p < stop && byte_blank(*p); p++)
                        ;
                value = p;
                p = value_end = bytes_find_control(p, stop);
        }
        if (p == stop)
                return cut ? refuse(head, 431, "RFC 6585 5", "a field is too long", line + most)
                           : MORE;
        if (*p != '\r' && *p != '\n')
                return refuse(head, 400, "RFC 9110 5.5", "a control byte in a field value", p);
        const char *next = line_end(head, p);
        if (next == MORE || next == BAD)
                return next;
        while (value_end > value && byte_blank(value_end[-1]))
                value_end--;
        return add_field(head, name, str_view(value, (size_t)(value_end - value))) ? next : BAD;
}

/* All field lines and the empty one; returns where the head ends. */
static const char *parse_fields(struct head *head, const char *p)
{
        for (;;) {
                if (p == head->end)
                        return MORE;
                if (*p == '\r' || *p == '\n')
                        return line_end(head, p);
                p = parse_field(head, p);
                if (p == MORE || p == BAD)
                        return p;
        }
}

/* "HTTP/1.x" at `p`. */
static const char *parse_version(struct head *head, const char *p)
{
        static const char form[] = "HTTP/d.d";

        for (size_t i = 0; i < sizeof(form) - 1; i++) {
                if (p + i == head->end)
                        return MORE;
                if (form[i] == 'd' ? p[i] < '0' || p[i] > '9' : p[i] != form[i])
                        return refuse(head, 400, "RFC 9112 2.3", "not an HTTP version", p + i);
        }
        if (p[5] != '1' || p[7] > '1')
                return refuse(
                        head, 505, "RFC 9110 15.6.6", "only HTTP/1.1 and 1.0 are spoken here", p);
        head->minor = p[7] - '0';
        return p + sizeof(form) - 1;
}

static bool method_known(struct str method)
{
        static const struct str methods[] = {STR("GET"), STR("HEAD"), STR("POST"), STR("PUT"),
                STR("PATCH"), STR("DELETE"), STR("OPTIONS")};

        for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
                if (str_eq(method, methods[i]))
                        return true;
        return false;
}

static const char *parse_method(struct head *head, const char *line, struct str *method)
{
        const char *p = line;

        while (p < head->end && byte_is(*p, BYTE_TOKEN) && p - line <= H1_MAX_METHOD)
                p++;
        if (p - line > H1_MAX_METHOD)
                return refuse(head, 501, "RFC 9110 9.1", "the method is too long", p);
        if (p == head->end)
                return MORE;
        if (*p != ' ' || p == line)
                return refuse(head, 400, "RFC 9112 3", "the method is not a token", p);
        *method = str_view(line, (size_t)(p - line));
        if (!method_known(*method))
                return refuse(head, 501, "RFC 9110 9.1", "a method that is not served", line);
        return p + 1;
}

static const char *parse_target(struct head *head, const char *start, struct str *target)
{
        bool cut = head->end - start > H1_MAX_TARGET;
        const char *stop = cut ? start + H1_MAX_TARGET + 1 : head->end;
        const char *p = start;

        if (p < stop && *p == '*')
                return refuse(head, 400, "RFC 9112 3.2.4", "OPTIONS * asks for nothing here", p);
        if (p < stop && *p != '/' && (*p | 0x20) != 'h')
                return refuse(head, 400, "RFC 9112 3.2", "the target is no path and no URL", p);
        while (p < stop && byte_is(*p, BYTE_TARGET))
                p++;
        if (p == stop)
                return cut ? refuse(head, 414, "RFC 9112 3", "the target is too long", p - 1)
                           : MORE;
        if (*p != ' ')
                return refuse(
                        head, 400, "RFC 9112 3.2", "a byte that may not stand in a target", p);
        *target = str_view(start, (size_t)(p - start));
        return p + 1;
}

static const char *parse_request_line(
        struct head *head, const char *p, struct str *method, struct str *target)
{
        /* Two empty lines at most before it: clients of old send one behind a body. */
        for (int i = 0; i < 2 && p < head->end && *p == '\r'; i++)
                if ((p = line_end(head, p)) == MORE || p == BAD)
                        return p;
        if ((p = parse_method(head, p, method)) == MORE || p == BAD)
                return p;
        if ((p = parse_target(head, p, target)) == MORE || p == BAD)
                return p;
        if ((p = parse_version(head, p)) == MORE || p == BAD)
                return p;
        return p == head->end ? MORE : line_end(head, p);
}

static const char *parse_status_line(
        struct head *head, const char *p, int *status, struct str *reason)
{
        if ((p = parse_version(head, p)) == MORE || p == BAD)
                return p;
        *status = 0;
        for (int i = 0; i < 4; i++, p++) {
                if (p == head->end)
                        return MORE;
                if (i == 0 ? *p != ' ' : *p < '0' || *p > '9')
                        return refuse(head, 400, "RFC 9112 4", "not a status line", p);
                if (i > 0)
                        *status = *status * 10 + (*p - '0');
        }
        if (*status < 100 || *status > 599)
                return refuse(head, 400, "RFC 9110 15", "a status that means nothing", p - 1);
        if (p == head->end)
                return MORE;
        *reason = str_view(p, 0);
        /* The blank belongs there even when no reason follows, but some servers leave it out. */
        if (*p == ' ') {
                const char *stop = bytes_find_control(++p, head->end);
                *reason = str_view(p, (size_t)(stop - p));
                if ((p = stop) == head->end)
                        return MORE;
        }
        return line_end(head, p);
}

/* Whether the bytes that came since the last look can change what is said: with a line end, a
 * control byte, or the limit. Keeps a head that drips in from being read over and over. */
static bool worth_a_look(const char *data, size_t len, size_t *scanned, size_t limit)
{
        size_t from = *scanned;

        assert(from <= len);
        *scanned = len;
        if (from == 0 || len >= limit)
                return true;
        /* From one byte before: the byte behind a CR decides. */
        return bytes_find_control(data + from - 1, data + len) < data + len;
}

static ssize_t incomplete(const struct head *head, size_t len)
{
        if (len < head->limits->head_bytes)
                return H1_AGAIN;
        h1_fault_set(
                head->fault, 431, "RFC 6585 5", "the head is too long", head->limits->head_bytes);
        return H1_BAD;
}

static void head_begin(struct head *head, const char *data, size_t len)
{
        size_t most = head->limits->head_bytes;

        head->data = data;
        head->end = data + (len < most ? len : most);
        memset(head->first, 0xFF, H1_NAME_COUNT * sizeof(*head->first));
}

static bool finish_request(const struct head *head, struct h1_request *request)
{
        if (head->minor == 1 && head->first[H1_HOST] < 0)
                return h1_fault_set(head->fault, 400, "RFC 9112 3.2", "no Host field", 0);
        request->host = h1_field_value(request, H1_HOST);
        request->framing = head->chunked ? H1_CHUNKED : head->has_length ? H1_LENGTH : H1_NO_BODY;
        request->content_length = head->length;
        request->keep_alive = !head->close && (head->minor == 1 || head->keep_alive);
        request->expect_continue = head->minor == 1 && head->first[H1_EXPECT] >= 0 &&
                                   (head->chunked || head->length > 0);
        return true;
}

ssize_t h1_parse_request(const char *data, size_t len, size_t *scanned,
        const struct h1_limits *limits, struct h1_request *request, struct h1_fault *fault)
{
        struct head head = {.limits = limits,
                .fault = fault,
                .fields = request->fields,
                .first = request->first,
                .request = true};

        if (len == 0 || !worth_a_look(data, len, scanned, limits->head_bytes))
                return H1_AGAIN;
        head_begin(&head, data, len);
        const char *p = parse_request_line(&head, data, &request->method, &request->target);
        if (p != MORE && p != BAD)
                p = parse_fields(&head, p);
        if (p == MORE)
                return incomplete(&head, len);
        if (p == BAD)
                return H1_BAD;
        request->minor = head.minor;
        request->n_fields = head.n_fields;
        request->head_bytes = (size_t)(p - data);
        return finish_request(&head, request) ? (ssize_t)request->head_bytes : H1_BAD;
}

static bool finish_response(
        const struct head *head, struct str request_method, struct h1_response *response)
{
        bool interim = response->status < 200, empty = interim || response->status == 204;

        if (response->status == 101)
                return h1_fault_set(head->fault, 502, "RFC 9110 15.2.2",
                        "101 though no upgrade was asked for", 0);
        if (empty && (head->chunked || head->length > 0))
                return h1_fault_set(head->fault, 502, "RFC 9112 6.3",
                        "a body is announced where none can be", 0);
        if (empty || response->status == 304 || str_eq(request_method, STR("HEAD")))
                response->framing = H1_NO_BODY;
        else
                response->framing = head->chunked      ? H1_CHUNKED
                                    : head->has_length ? H1_LENGTH
                                                       : H1_UNTIL_CLOSE;
        response->content_length = head->length;
        response->has_length = head->has_length;
        response->keep_alive = !head->close && (head->minor == 1 || head->keep_alive) &&
                               response->framing != H1_UNTIL_CLOSE;
        return true;
}

ssize_t h1_parse_response(const char *data, size_t len, size_t *scanned,
        const struct h1_limits *limits, struct str request_method, struct h1_response *response,
        struct h1_fault *fault)
{
        struct head head = {.limits = limits,
                .fault = fault,
                .fields = response->fields,
                .first = response->first};
        ssize_t result = H1_BAD;

        if (len == 0 || !worth_a_look(data, len, scanned, limits->head_bytes))
                return H1_AGAIN;
        head_begin(&head, data, len);
        const char *p = parse_status_line(&head, data, &response->status, &response->reason);
        if (p != MORE && p != BAD)
                p = parse_fields(&head, p);
        if (p == MORE) {
                result = incomplete(&head, len);
        } else if (p != BAD) {
                response->minor = head.minor;
                response->n_fields = head.n_fields;
                response->head_bytes = (size_t)(p - data);
                if (finish_response(&head, request_method, response))
                        result = (ssize_t)response->head_bytes;
        }
        if (result == H1_BAD)
                fault->status = 502;
        return result;
}

struct str h1_field_value(const struct h1_request *request, enum h1_name id)
{
        short index = request->first[id];

        return index < 0 ? STR_NONE : request->fields[index].value;
}

struct str h1_response_value(const struct h1_response *response, enum h1_name id)
{
        short index = response->first[id];

        return index < 0 ? STR_NONE : response->fields[index].value;
}

size_t h1_field_values(
        const struct h1_request *request, enum h1_name id, struct str *values, size_t most)
{
        size_t n = 0;

        assert(id != H1_OTHER);
        if (request->first[id] < 0)
                return 0;
        for (size_t i = (size_t)request->first[id]; i < request->n_fields; i++)
                if (request->fields[i].id == id && n++ < most)
                        values[n - 1] = request->fields[i].value;
        return n;
}

static bool connection_names(
        const struct h1_field *fields, size_t n, const short *first, struct str name)
{
        if (first[H1_CONNECTION] < 0)
                return false;
        for (size_t i = (size_t)first[H1_CONNECTION]; i < n; i++) {
                struct str rest = fields[i].value;
                if (fields[i].id != H1_CONNECTION)
                        continue;
                for (struct str member; (member = list_next(&rest)).ptr;)
                        if (str_eq_fold(member, name))
                                return true;
        }
        return false;
}

bool h1_connection_names(const struct h1_request *request, struct str name)
{
        return connection_names(request->fields, request->n_fields, request->first, name);
}

bool h1_response_connection_names(const struct h1_response *response, struct str name)
{
        return connection_names(response->fields, response->n_fields, response->first, name);
}

/* "[" hex, colons, dots "]": enough that nothing else can hide in it. */
static size_t ipv6_length(struct str value)
{
        size_t i = 1, colons = 0;

        for (; i < value.len && value.ptr[i] != ']'; i++) {
                colons += value.ptr[i] == ':';
                if (!byte_is(value.ptr[i], BYTE_HEX) && value.ptr[i] != ':' && value.ptr[i] != '.')
                        return 0;
        }
        return i < value.len && colons >= 2 && i <= 46 ? i + 1 : 0;
}

bool h1_host_ok(struct str value)
{
        size_t i = 0;
        uint64_t port;

        if (value.len && value.ptr[0] == '[')
                i = ipv6_length(value);
        else
                while (i < value.len && (byte_is(value.ptr[i], BYTE_ALNUM) || value.ptr[i] == '-' ||
                                                value.ptr[i] == '.' || value.ptr[i] == '_'))
                        i++;
        if (i == 0 || i > 255)
                return false;
        if (i == value.len)
                return true;
        struct str digits = str_from(value, i + 1);
        return value.ptr[i] == ':' && digits.len <= 5 && str_to_u64(digits, &port) &&
               port <= 65535 && port > 0;
}

bool h1_host_is_loopback(struct str value)
{
        struct str host, rest, part;
        unsigned parts = 0;

        if (str_starts(value, STR("[::1]")))
                return value.len == 5 || value.ptr[5] == ':';
        str_cut(value, ':', &host);
        if (str_eq_fold(host, STR("localhost")))
                return true;
        if (!str_starts(host, STR("127.")))
                return false;
        /* Four numbers: 127.0.0.1.example.com is somebody's name. */
        for (rest = host; rest.ptr; parts++) {
                uint64_t number;
                rest = str_cut(rest, '.', &part);
                if (!str_to_u64(part, &number) || number > 255)
                        return false;
        }
        return parts == 4;
}
