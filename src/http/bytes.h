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

typedef unsigned char bytes_block __attribute__((vector_size(16)));

/* How far into the block the first byte of 0xFF stands; all others are 0. 16: there is none. */
static inline size_t bytes_first_set(bytes_block block)
{
        uint64_t halves[2];

        memcpy(halves, &block, sizeof(halves));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        if (halves[0])
                return (size_t)__builtin_ctzll(halves[0]) / 8;
        return halves[1] ? 8 + (size_t)__builtin_ctzll(halves[1]) / 8 : 16;
#else
        size_t at = halves[0] | halves[1] ? 0 : 16;
        while (at < 16 && !block[at])
                at++;
        return at;
#endif
}

/* The first control byte (BYTE_CONTROL) in [p, end), or `end`. Tab is none. Sixteen bytes at a
 * time: most of a head is values, and this loop is most of the work. */
static inline const char *bytes_find_control(const char *p, const char *end)
{
        for (; end - p >= 16; p += 16) {
                bytes_block block;
                memcpy(&block, p, sizeof(block));
                size_t at = bytes_first_set(
                        (bytes_block)(((block < 0x20) & (block != '\t')) | (block == 0x7F)));
                if (at < 16)
                        return p + at;
        }
        while (p < end && !byte_is(*p, BYTE_CONTROL))
                p++;
        return p;
}

#endif
