#include "dagward/token/base64.h"

static const char url_alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* The six bits of a character, with 0x40 set; 0: not in the alphabet. 'x' and 'y' are the two
 * characters in which the alphabets differ. */
#define SIX_BITS(c, x, y)                                                                          \
        ((unsigned char)((c) >= 'A' && (c) <= 'Z'   ? 0x40 | ((c) - 'A')                           \
                         : (c) >= 'a' && (c) <= 'z' ? 0x40 | ((c) - 'a' + 26)                      \
                         : (c) >= '0' && (c) <= '9' ? 0x40 | ((c) - '0' + 52)                      \
                         : (c) == (x)               ? 0x40 | 62                                    \
                         : (c) == (y)               ? 0x40 | 63                                    \
                                                    : 0))
#define FOUR(c, x, y)                                                                              \
        SIX_BITS(c, x, y), SIX_BITS((c) + 1, x, y), SIX_BITS((c) + 2, x, y), SIX_BITS((c) + 3, x, y)
#define SIXTEEN(c, x, y)                                                                           \
        FOUR(c, x, y), FOUR((c) + 4, x, y), FOUR((c) + 8, x, y), FOUR((c) + 12, x, y)
#define ALL(x, y)                                                                                  \
        SIXTEEN(0, x, y), SIXTEEN(16, x, y), SIXTEEN(32, x, y), SIXTEEN(48, x, y),                 \
                SIXTEEN(64, x, y), SIXTEEN(80, x, y), SIXTEEN(96, x, y), SIXTEEN(112, x, y)

static const unsigned char url_bits[256] = {ALL('-', '_')};
static const unsigned char standard_bits[256] = {ALL('+', '/')};

static ssize_t decode(const unsigned char *bits, struct str text, unsigned char *out)
{
        const unsigned char *in = (const unsigned char *)text.ptr;
        unsigned char *o = out;
        size_t whole = text.len / 4, rest = text.len % 4;
        unsigned all = 0x40; /* loses the mark when any character was none */

        for (; whole; whole--, in += 4, o += 3) {
                unsigned a = bits[in[0]], b = bits[in[1]], c = bits[in[2]], d = bits[in[3]];
                unsigned word = (a & 63) << 18 | (b & 63) << 12 | (c & 63) << 6 | (d & 63);
                all &= a & b & c & d;
                o[0] = (unsigned char)(word >> 16);
                o[1] = (unsigned char)(word >> 8);
                o[2] = (unsigned char)word;
        }
        if (!(all & 0x40) || rest == 1)
                return -1;
        if (rest) {
                unsigned a = bits[in[0]], b = bits[in[1]], c = rest == 3 ? bits[in[2]] : 0x40;
                unsigned word = (a & 63) << 18 | (b & 63) << 12 | (c & 63) << 6;
                /* The bits that stand for nothing must be 0, or one value has many spellings. */
                if (!(a & b & c & 0x40) || (word & (rest == 2 ? 0xffffu : 0xffu)))
                        return -1;
                *o++ = (unsigned char)(word >> 16);
                if (rest == 3)
                        *o++ = (unsigned char)(word >> 8);
        }
        return o - out;
}

ssize_t base64url_decode(struct str text, void *out)
{
        return decode(url_bits, text, out);
}

ssize_t base64_decode(struct str text, void *out)
{
        if (text.len % 4 != 0)
                return -1;
        for (int pads = 0; pads < 2 && text.len && text.ptr[text.len - 1] == '='; pads++)
                text.len--;
        return decode(standard_bits, text, out);
}

/* The characters of all of it, without padding. */
static void write_all(struct buf *buf, const char *alphabet, const void *bytes, size_t len)
{
        const unsigned char *in = bytes;

        for (; len >= 3; len -= 3, in += 3) {
                unsigned word = (unsigned)in[0] << 16 | (unsigned)in[1] << 8 | in[2];
                char four[4] = {alphabet[word >> 18], alphabet[word >> 12 & 63],
                        alphabet[word >> 6 & 63], alphabet[word & 63]};
                buf_add(buf, four, 4);
        }
        if (len) {
                unsigned word = (unsigned)in[0] << 16 | (len == 2 ? (unsigned)in[1] << 8 : 0);
                char three[3] = {
                        alphabet[word >> 18], alphabet[word >> 12 & 63], alphabet[word >> 6 & 63]};
                buf_add(buf, three, len + 1);
        }
}

void base64url_write(struct buf *buf, const void *bytes, size_t len)
{
        write_all(buf, url_alphabet, bytes, len);
}

void base64_write(struct buf *buf, const void *bytes, size_t len)
{
        static const char alphabet[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

        write_all(buf, alphabet, bytes, len);
        if (len % 3)
                buf_add(buf, "==", 3 - len % 3);
}
