#include "bytes.h"

#define T BYTE_TOKEN
#define V BYTE_TARGET
#define S BYTE_SEGMENT
#define Q BYTE_QUERY
#define P BYTE_PATH_RAW
#define LETTER (T | V | BYTE_ALNUM | S | Q | P)

const unsigned char byte_classes[256] = {
        [0x00 ... 0x08] = BYTE_CONTROL,
        [0x0A ... 0x1F] = BYTE_CONTROL,
        [0x7F] = BYTE_CONTROL,
        ['!'] = T | V | S | Q | P,
        ['"'] = V,
        ['#'] = T | V,
        ['$'] = T | V | S | Q | P,
        ['%'] = T | V | P,
        ['&'] = T | V | P,
        ['\''] = T | V | S | Q | P,
        ['('] = V | S | Q | P,
        [')'] = V | S | Q | P,
        ['*'] = T | V | Q | P,
        ['+'] = T | V | P,
        [','] = V | S | Q | P,
        ['-'] = T | V | S | Q | P,
        ['.'] = T | V | S | Q | P,
        ['/'] = V | Q,
        ['0' ... '9'] = LETTER | BYTE_HEX,
        [':'] = V | Q | P,
        [';'] = V | P,
        ['<'] = V,
        ['='] = V | S | P,
        ['>'] = V,
        ['?'] = V | Q,
        ['@'] = V | S | Q | P,
        ['A' ... 'F'] = LETTER | BYTE_HEX,
        ['G' ... 'Z'] = LETTER,
        ['['] = V,
        ['\\'] = V,
        [']'] = V,
        ['^'] = T | V,
        ['_'] = T | V | S | Q | P,
        ['`'] = T | V,
        ['a' ... 'f'] = LETTER | BYTE_HEX,
        ['g' ... 'z'] = LETTER,
        ['{'] = V,
        ['|'] = T | V,
        ['}'] = V,
        ['~'] = T | V | S | Q | P,
};
