/* seen_json: what was read of messages, as JSON whose texts are in hex, for oracles in other
 * languages. */
#ifndef TESTS_DIFFERENTIAL_SEEN_JSON_H
#define TESTS_DIFFERENTIAL_SEEN_JSON_H

#include "../unit/http/messages.h"

static inline void put_hex(const char *bytes, size_t len)
{
        putchar('"');
        for (size_t i = 0; i < len; i++)
                printf("%02x", (unsigned)(unsigned char)bytes[i]);
        putchar('"');
}

static inline void put_seen(const struct seen *seen)
{
        printf("{\"method\":");
        put_hex(seen->method.ptr, seen->method.len);
        printf(",\"target\":");
        put_hex(seen->target.ptr, seen->target.len);
        printf(",\"fields\":[");
        for (size_t i = 0; i < seen->n_fields; i++) {
                printf(i ? "," : "");
                put_hex(seen->fields[i].name.ptr, seen->fields[i].name.len);
                printf(",");
                put_hex(seen->fields[i].value.ptr, seen->fields[i].value.len);
        }
        printf("],\"body\":");
        put_hex(seen->body, seen->body_len);
        printf(",\"complete\":%s,\"keepAlive\":%s}", seen->complete ? "true" : "false",
                seen->keep_alive ? "true" : "false");
}

static inline void put_all_seen(const struct reading *reading)
{
        putchar('[');
        for (size_t i = 0; i < reading->n; i++) {
                printf(i ? "," : "");
                put_seen(&reading->seen[i]);
        }
        putchar(']');
}

#endif
