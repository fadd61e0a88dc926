#include "dagward/base/str.h"

#include <stdlib.h>

/* Mostly both are written alike, which eight bytes at a time can tell. */
bool str_eq_fold(struct str a, struct str b)
{
        size_t i = 0;

        if (a.len != b.len)
                return false;
        while (i < a.len) {
                uint64_t x, y;
                if (a.len - i >= sizeof(x)) {
                        memcpy(&x, a.ptr + i, sizeof(x));
                        memcpy(&y, b.ptr + i, sizeof(y));
                        if (x == y) {
                                i += sizeof(x);
                                continue;
                        }
                }
                if (a.ptr[i] != b.ptr[i] && char_lower(a.ptr[i]) != char_lower(b.ptr[i]))
                        return false;
                i++;
        }
        return true;
}

int str_cmp(struct str a, struct str b)
{
        size_t common = a.len < b.len ? a.len : b.len;
        int order = common ? memcmp(a.ptr, b.ptr, common) : 0;

        if (order != 0)
                return order;
        return a.len < b.len ? -1 : a.len > b.len;
}

int str_cmp_fold(struct str a, struct str b)
{
        size_t common = a.len < b.len ? a.len : b.len;

        for (size_t i = 0; i < common; i++) {
                int order =
                        (unsigned char)char_lower(a.ptr[i]) - (unsigned char)char_lower(b.ptr[i]);
                if (order != 0)
                        return order;
        }
        return a.len < b.len ? -1 : a.len > b.len;
}

bool str_starts(struct str s, struct str prefix)
{
        return s.len >= prefix.len && str_eq(str_head(s, prefix.len), prefix);
}

bool str_starts_fold(struct str s, struct str prefix)
{
        return s.len >= prefix.len && str_eq_fold(str_head(s, prefix.len), prefix);
}

bool str_ends(struct str s, struct str suffix)
{
        return s.len >= suffix.len && str_eq(str_from(s, s.len - suffix.len), suffix);
}

bool str_ends_fold(struct str s, struct str suffix)
{
        return s.len >= suffix.len && str_eq_fold(str_from(s, s.len - suffix.len), suffix);
}

ssize_t str_find(struct str s, char c)
{
        const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;

        return at ? at - s.ptr : -1;
}

ssize_t str_find_str(struct str s, struct str needle)
{
        if (needle.len == 0)
                return 0;
        if (s.len < needle.len)
                return -1;
        const char *at = s.ptr, *last = s.ptr + (s.len - needle.len);
        for (; at <= last; at++) {
                at = memchr(at, needle.ptr[0], (size_t)(last - at) + 1);
                if (!at)
                        return -1;
                if (memcmp(at, needle.ptr, needle.len) == 0)
                        return at - s.ptr;
        }
        return -1;
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
        while (s.len && is_blank(s.ptr[0])) {
                s.ptr++;
                s.len--;
        }
        while (s.len && is_blank(s.ptr[s.len - 1]))
                s.len--;
        return s;
}

/* How many bytes of a blank the text begins with, as .NET knows them, or 0. */
static size_t wide_blank(struct str text)
{
        static const struct str blanks[] = {{"\xc2\x85", 2}, {"\xc2\xa0", 2}, {"\xe1\x9a\x80", 3},
                {"\xe2\x80\xa8", 3}, {"\xe2\x80\xa9", 3}, {"\xe2\x80\xaf", 3}, {"\xe2\x81\x9f", 3},
                {"\xe3\x80\x80", 3}};

        if (text.ptr[0] == ' ' || (text.ptr[0] >= '\t' && text.ptr[0] <= '\r'))
                return 1;
        for (size_t i = 0; i < sizeof(blanks) / sizeof(blanks[0]); i++)
                if (str_starts(text, blanks[i]))
                        return blanks[i].len;
        bool en_quad = text.len >= 3 && str_starts(text, STR("\xe2\x80")) &&
                       (unsigned char)text.ptr[2] >= 0x80 && (unsigned char)text.ptr[2] <= 0x8a;
        return en_quad ? 3 : 0;
}

struct str str_trim_wide(struct str s)
{
        size_t n;

        while (s.len && (n = wide_blank(s)))
                s = str_from(s, n);
        for (size_t i = s.len; i > 0; i--) {
                struct str end = str_from(s, i - 1);
                if (end.len == wide_blank(end))
                        s = str_head(s, i - 1);
                else if (end.len >= 3)
                        break;
        }
        return s;
}

struct str str_cut(struct str s, char c, struct str *head)
{
        ssize_t at = str_find(s, c);

        if (at < 0) {
                *head = s;
                return STR_NONE;
        }
        *head = str_head(s, (size_t)at);
        return str_from(s, (size_t)at + 1);
}

bool str_to_u64(struct str s, uint64_t *out)
{
        uint64_t value = 0;

        if (s.len == 0)
                return false;
        for (size_t i = 0; i < s.len; i++) {
                if (s.ptr[i] < '0' || s.ptr[i] > '9')
                        return false;
                uint64_t digit = (uint64_t)(s.ptr[i] - '0');
                if (value > (UINT64_MAX - digit) / 10)
                        return false;
                value = value * 10 + digit;
        }
        *out = value;
        return true;
}

/* Length of the UTF-8 sequence that starts at p[0], 0 if it is not well formed within `left`. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
        if (p[0] < 0x80)
                return 1;
        if (p[0] >= 0xC2 && p[0] <= 0xDF)
                return left >= 2 && (p[1] & 0xC0) == 0x80 ? 2 : 0;
        if (p[0] >= 0xE0 && p[0] <= 0xEF) {
                if (left < 3 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80)
                        return 0;
                if (p[0] == 0xE0 && p[1] < 0xA0) /* overlong */
                        return 0;
                if (p[0] == 0xED && p[1] > 0x9F) /* surrogate */
                        return 0;
                return 3;
        }
        if (p[0] >= 0xF0 && p[0] <= 0xF4) {
                if (left < 4 || (p[1] & 0xC0) != 0x80 || (p[2] & 0xC0) != 0x80 ||
                        (p[3] & 0xC0) != 0x80)
                        return 0;
                if (p[0] == 0xF0 && p[1] < 0x90) /* overlong */
                        return 0;
                if (p[0] == 0xF4 && p[1] > 0x8F) /* beyond U+10FFFF */
                        return 0;
                return 4;
        }
        return 0;
}

bool str_is_ascii(struct str s)
{
        for (size_t i = 0; i < s.len; i++)
                if ((unsigned char)s.ptr[i] >= 0x80)
                        return false;
        return true;
}

uint32_t str_code_point(struct str s, size_t *i)
{
        unsigned char c = (unsigned char)s.ptr[(*i)++];
        int more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC0 ? 1 : 0;
        uint32_t point = more ? c & (0x3Fu >> more) : c;

        for (; more && *i < s.len; more--)
                point = point << 6 | ((unsigned char)s.ptr[(*i)++] & 0x3Fu);
        return point;
}

size_t str_invisible_at(struct str s, size_t i)
{
        static const struct {
                unsigned first, last;
        } ranges[] = {{0x80, 0x9F}, {0xAD, 0xAD}, {0x61C, 0x61C}, {0x115F, 0x1160},
                {0x180E, 0x180E}, {0x200B, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F},
                {0x3164, 0x3164}, {0xFEFF, 0xFEFF}, {0xFFA0, 0xFFA0}, {0xE0000, 0xE007F}};
        size_t behind = i;
        uint32_t code = str_code_point(s, &behind);

        for (size_t k = 0; k < sizeof(ranges) / sizeof(ranges[0]); k++)
                if (behind - i > 1 && code >= ranges[k].first && code <= ranges[k].last)
                        return behind - i;
        return 0;
}

bool str_utf8_valid(struct str s)
{
        for (size_t i = 0; i < s.len;) {
                size_t n = utf8_sequence((const unsigned char *)s.ptr + i, s.len - i);
                if (n == 0)
                        return false;
                i += n;
        }
        return true;
}

bool str_glob(struct str pattern, struct str s, bool fold)
{
        size_t p = 0, i = 0, star = SIZE_MAX, resume = 0;

        /* Greedy with one point of return: linear in practice, never exponential. */
        while (i < s.len) {
                if (p < pattern.len && pattern.ptr[p] == '*') {
                        star = p++;
                        resume = i;
                } else if (p < pattern.len &&
                           (fold ? char_lower(pattern.ptr[p]) == char_lower(s.ptr[i])
                                 : pattern.ptr[p] == s.ptr[i])) {
                        p++;
                        i++;
                } else if (star != SIZE_MAX) {
                        p = star + 1;
                        i = ++resume;
                } else {
                        return false;
                }
        }
        while (p < pattern.len && pattern.ptr[p] == '*')
                p++;
        return p == pattern.len;
}

uint32_t str_hash_fold(struct str s)
{
        uint32_t hash = 2166136261u;

        for (size_t i = 0; i < s.len; i++)
                hash = (hash ^ (unsigned char)char_lower(s.ptr[i])) * 16777619u;
        return hash;
}

char *str_dup(struct str s)
{
        char *copy = malloc(s.len + 1);

        if (!copy)
                abort();
        if (s.len)
                memcpy(copy, s.ptr, s.len);
        copy[s.len] = '\0';
        return copy;
}

unsigned str_distance(struct str a, struct str b)
{
        enum { longest = 64 };
        unsigned char d[longest + 1][longest + 1]; /* d[i][j]: between the first i and first j */

        if (a.len > longest || b.len > longest)
                return 255;
        for (size_t i = 0; i <= a.len; i++)
                d[i][0] = (unsigned char)i;
        for (size_t j = 0; j <= b.len; j++)
                d[0][j] = (unsigned char)j;
        for (size_t i = 1; i <= a.len; i++) {
                for (size_t j = 1; j <= b.len; j++) {
                        bool same = char_lower(a.ptr[i - 1]) == char_lower(b.ptr[j - 1]);
                        unsigned best = d[i - 1][j - 1] + (same ? 0u : 1u);
                        if (d[i - 1][j] + 1u < best)
                                best = d[i - 1][j] + 1u;
                        if (d[i][j - 1] + 1u < best)
                                best = d[i][j - 1] + 1u;
                        if (i > 1 && j > 1 &&
                                char_lower(a.ptr[i - 1]) == char_lower(b.ptr[j - 2]) &&
                                char_lower(a.ptr[i - 2]) == char_lower(b.ptr[j - 1]) &&
                                d[i - 2][j - 2] + 1u < best)
                                best = d[i - 2][j - 2] + 1u; /* two neighbours swapped */
                        d[i][j] = (unsigned char)best;
                }
        }
        return d[a.len][b.len];
}
