/*
 * dump: what we read in the messages of a file and their mutants, one JSON object a line, all bytes
 * in hex. For oracles that are not written in C.
 *
 * Usage: dump FILE MUTANTS-PER-CASE
 */
#include "mutants.h"

static void put_hex(const char *bytes, size_t len)
{
        putchar('"');
        for (size_t i = 0; i < len; i++)
                printf("%02x", (unsigned)(unsigned char)bytes[i]);
        putchar('"');
}

static void put_seen(const struct seen *seen)
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

static void put_reading(const struct message_case *message)
{
        static struct reading reading;

        reading_run(&reading, message->raw, message->len);
        if (reading.n == 0)
                return;
        printf("{\"name\":\"%s\",\"raw\":", message->name);
        put_hex(message->raw, reading.used);
        printf(",\"seen\":[");
        for (size_t i = 0; i < reading.n; i++) {
                printf(i ? "," : "");
                put_seen(&reading.seen[i]);
        }
        printf("]}\n");
}

int main(int argc, char **argv)
{
        static struct message_case message, mutant;
        uint32_t random = 88172645;
        FILE *file = argc == 3 ? fopen(argv[1], "r") : NULL;

        if (!file)
                return 2;
        while (message_next(file, &message)) {
                put_reading(&message);
                for (long i = strtol(argv[2], NULL, 10); i > 0; i--) {
                        mutant = message;
                        mutants_change(&mutant, &random);
                        put_reading(&mutant);
                }
        }
        fclose(file);
        return 0;
}
