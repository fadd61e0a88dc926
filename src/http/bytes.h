/* bytes: what a byte may be. Private to this module. */
#ifndef DAGWARD_HTTP_BYTES_H
#define DAGWARD_HTTP_BYTES_H

#include "dagward/base/str.h"

enum byte_class {
        BYTE_TOKEN = 1,     /* RFC 9110 5.6.2 tchar */
        BYTE_TARGET = 2,    /* visible ASCII */
        BYTE_HEX = 4,       /* RFC 5234 HEXDIG, either case */
        BYTE_ALNUM = 8,     /* letters and digits */
        BYTE_SEGMENT = 16,  /* RFC 3986 unreserved and those sub-delims that a path may show raw */
        BYTE_QUERY = 32,    /* the same for names and values of a query, with `/` and `?` */
        BYTE_PATH_RAW = 64, /* RFC 3986 pchar, that may stand raw in a path that is read */
        BYTE_CONTROL = 128  /* below 0x20 except tab; 0x7F */
};

extern const unsigned char byte_classes[256];

static inline bool byte_is(char c, enum byte_class class)
{
        return (byte_classes[(unsigned char)c] & class) != 0;
}

/* 0 to 15; the byte must be BYTE_HEX. */
static inline unsigned byte_hex(char c)
{
        return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c | 0x20) - 'a' + 10;
}

static inline bool byte_blank(char c)
{
        return c == ' ' || c == '\t';
}

/* Eight bytes, in whatever order: for tests that are true of all of them. */
static inline uint64_t bytes_word(const char *p)
{
        uint64_t word;

        memcpy(&word, p, sizeof(word));
        return word;
}

/* The first control byte (BYTE_CONTROL) in [p, end), or `end`. Tab is none. */
static inline const char *bytes_find_control(const char *p, const char *end)
{
        const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;

        for (;;) {
                /* Eight at a time while no byte is below 0x20 or 0x7F; borrows between bytes only
                 * ever follow a byte that is one, so "none" is exact. */
                for (; end - p >= 8; p += 8) {
                        uint64_t word = bytes_word(p), del = word ^ (0x7F * ones);
                        if (((word - 0x20 * ones) & ~word & tops) | ((del - ones) & ~del & tops))
                                break;
                }
                const char *stop = end - p > 8 ? p + 8 : end;
                for (; p < stop; p++)
                        if (byte_is(*p, BYTE_CONTROL))
                                return p;
                if (p == end)
                        return end;
        }
}

#endif
