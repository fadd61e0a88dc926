/*
 * dump: what we read in the messages of a file and their mutants, one JSON object a line, all bytes
 * in hex. For oracles that are not written in C.
 *
 * Usage: dump FILE MUTANTS-PER-CASE
 */
#include "mutants.h"
#include "seen_json.h"

static void put_reading(const struct message_case *message)
{
        static struct reading reading;

        reading_run(&reading, message->raw, message->len);
        if (reading.n == 0)
                return;
        printf("{\"name\":\"%s\",\"raw\":", message->name);
        put_hex(message->raw, reading.used);
        printf(",\"seen\":");
        put_all_seen(&reading);
        printf("}\n");
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
