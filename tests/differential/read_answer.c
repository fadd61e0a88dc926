/*
 * read_answer: what we read in answers that come on standard input, one JSON object a line.
 *
 * An answer is 'H' or 'G' (whether a HEAD was asked, or a GET), its length as four bytes, the
 * highest first, and its bytes; then the connection ends. Texts are in hex: `statuses` with the
 * interim ones first, `fields` of the final answer, whose head stands at `begun` and which ends at
 * `used`; `why` is the reason at which reading ended, empty when nothing was refused.
 */
#include "seen_json.h"

static const struct h1_limits limits = {65536, 32768, 100};
static struct h1_response response;
static char body[MESSAGE_BYTES];
static size_t begun, used, body_len;
static const char *why;

/* As the relay reads: on until the end of the body, or of the connection. True: it is whole. */
static bool read_body(const char *raw, size_t len)
{
        struct h1_body state;
        struct h1_fault fault;
        struct str payload;

        h1_body_init(&state, response.framing, response.content_length);
        while (!state.done && used < len) {
                ssize_t n = h1_body_next(&state, raw + used, len - used, &payload, &fault);
                if (n == H1_BAD) {
                        why = fault.why;
                        return false;
                }
                memcpy(body + body_len, payload.ptr, payload.len);
                body_len += payload.len;
                used += (size_t)n;
        }
        return state.done || response.framing == H1_UNTIL_CLOSE;
}

/* Prints the statuses. True: the last one is final. */
static bool read_heads(const char *raw, size_t len, struct str method)
{
        struct h1_fault fault;
        bool first = true;

        for (;;) {
                size_t scanned = 0;
                ssize_t n = h1_parse_response(
                        raw + used, len - used, &scanned, &limits, method, &response, &fault);
                if (n == H1_BAD)
                        why = fault.why;
                if (n <= 0)
                        return false;
                printf(first ? "%d" : ",%d", response.status);
                first = false;
                begun = used;
                used += (size_t)n;
                if (response.status >= 200)
                        return true;
        }
}

static void put(const char *raw, size_t len, struct str method)
{
        begun = used = body_len = 0;
        why = "";
        printf("{\"statuses\":[");
        bool final = read_heads(raw, len, method);
        bool complete = final && read_body(raw, len);
        printf("],\"final\":%s,\"complete\":%s,\"fields\":[", final ? "true" : "false",
                complete ? "true" : "false");
        for (size_t i = 0; final && i < response.n_fields; i++) {
                printf(i ? "," : "");
                put_hex(response.fields[i].name.ptr, response.fields[i].name.len);
                printf(",");
                put_hex(response.fields[i].value.ptr, response.fields[i].value.len);
        }
        printf("],\"begun\":%zu,\"used\":%zu,\"body\":", begun, used);
        put_hex(body, body_len);
        printf(",\"why\":");
        put_hex(why, strlen(why));
        printf("}\n");
}

static bool read_all(unsigned char *out, size_t len)
{
        return fread(out, 1, len, stdin) == len;
}

int main(void)
{
        static unsigned char raw[MESSAGE_BYTES];
        unsigned char head[5];

        while (read_all(head, sizeof(head))) {
                size_t len = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 |
                             head[4];
                if (len > sizeof(raw) || !read_all(raw, len))
                        return 2;
                put((const char *)raw, len, head[0] == 'H' ? STR("HEAD") : STR("GET"));
        }
        return 0;
}
