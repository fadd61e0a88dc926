/* bytes: what a byte may be. Private to this module. */
#ifndef DAGWARD_HTTP_BYTES_H
#define DAGWARD_HTTP_BYTES_H

#include "dagward/base/block.h"
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

/* The first control byte (BYTE_CONTROL) in [p, end), or `end`. Tab is none. Sixteen bytes at a
 * time: most of a head is values, and this loop is most of the work. */
static inline const char *bytes_find_control(const char *p, const char *end)
{
        for (; end - p >= BLOCK_BYTES; p += BLOCK_BYTES) {
                block b = block_load(p);
                size_t at = block_first((block)(((b < 0x20) & (b != '\t')) | (b == 0x7F)));
                if (at < BLOCK_BYTES)
                        return p + at;
        }
        while (p < end && !byte_is(*p, BYTE_CONTROL))
                p++;
        return p;
}

#endif
