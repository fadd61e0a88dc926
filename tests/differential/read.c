/*
 * read: what we read in messages that come on standard input, one JSON object a line.
 *
 * A message is its length as four bytes, the highest first, and its bytes. All texts of the answer
 * are in hex: `seen` are the requests that were accepted, `used` how many bytes they have, `why` is
 * the reason at which reading ended, empty when nothing was refused.
 */
#include "seen_json.h"

static bool read_all(unsigned char *out, size_t len)
{
        return fread(out, 1, len, stdin) == len;
}

int main(void)
{
        static struct reading reading;
        static unsigned char raw[MESSAGE_BYTES];
        unsigned char head[4];

        while (read_all(head, sizeof(head))) {
                size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 |
                             head[3];
                if (len > sizeof(raw) || !read_all(raw, len))
                        return 2;
                reading_run(&reading, (const char *)raw, len);
                const char *why = reading.refused ? reading.fault.why : "";
                printf("{\"used\":%zu,\"why\":", reading.used);
                put_hex(why, strlen(why));
                printf(",\"seen\":");
                put_all_seen(&reading);
                printf("}\n");
        }
        return 0;
}
