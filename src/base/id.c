#include "dagward/base/id.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static void kernel_random(void *out, size_t len)
{
        size_t have = 0;

        while (have < len) {
                ssize_t n = getrandom((char *)out + have, len - have, 0);
                if (n < 0 && errno != EINTR)
                        abort();
                if (n > 0)
                        have += (size_t)n;
        }
}

void id_random(void *out, size_t len)
{
        static _Thread_local unsigned char pool[1024];
        static _Thread_local size_t left;

        if (len > sizeof(pool)) {
                kernel_random(out, len);
                return;
        }
        if (left < len) {
                kernel_random(pool, sizeof(pool));
                left = sizeof(pool);
        }
        left -= len;
        memcpy(out, pool + left, len);
        memset(pool + left, 0, len); /* a value is given out once and kept nowhere */
}

static void uuid_text(const unsigned char bytes[16], char out[ID_UUID_LEN + 1])
{
        static const char hex[] = "0123456789abcdef";

        for (size_t i = 0; i < 16; i++) {
                if (i == 4 || i == 6 || i == 8 || i == 10)
                        *out++ = '-';
                *out++ = hex[bytes[i] >> 4];
                *out++ = hex[bytes[i] & 15];
        }
        *out = '\0';
}

void id_uuid7(int64_t wall_ms, char out[ID_UUID_LEN + 1])
{
        unsigned char bytes[16];

        id_random(bytes + 6, 10);
        for (int i = 0; i < 6; i++)
                bytes[i] = (unsigned char)((uint64_t)wall_ms >> (40 - 8 * i));
        bytes[6] = (unsigned char)(0x70 | (bytes[6] & 0x0F));
        bytes[8] = (unsigned char)(0x80 | (bytes[8] & 0x3F));
        uuid_text(bytes, out);
}

static int hex_value(char c)
{
        c = char_lower(c);
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool id_uuid_canonical(struct str s, char out[ID_UUID_LEN + 1])
{
        unsigned char bytes[16];
        bool dashes = s.len == ID_UUID_LEN;
        size_t at = 0;

        if (!dashes && s.len != 32)
                return false;
        for (size_t i = 0; i < 16; i++) {
                if (dashes && (i == 4 || i == 6 || i == 8 || i == 10) && s.ptr[at++] != '-')
                        return false;
                int high = hex_value(s.ptr[at]), low = hex_value(s.ptr[at + 1]);
                if (high < 0 || low < 0)
                        return false;
                bytes[i] = (unsigned char)(high << 4 | low);
                at += 2;
        }
        uuid_text(bytes, out);
        return true;
}
