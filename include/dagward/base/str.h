/*
 * str: a view of bytes somebody else owns.
 *
 * A `struct str` is a pointer and a length, passed by value. It is not terminated, may hold NUL,
 * and lives as long as what it points into (the arena of an exchange, an input buffer, a literal).
 */
#ifndef DAGWARD_BASE_STR_H
#define DAGWARD_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

struct str {
        const char *ptr;
        size_t len;
};

/* A name and its value: a query parameter, a field, a path parameter. */
struct pair {
        struct str name;
        struct str value;
};

#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})
#define STR_NONE ((struct str){NULL, 0})
/* For printf: printf("%.*s", STR_FMT(s)). */
#define STR_FMT(s) (int)(s).len, (s).ptr

static inline struct str str_of(const char *text)
{
        return text ? (struct str){text, strlen(text)} : STR_NONE;
}

static inline struct str str_view(const char *ptr, size_t len)
{
        return (struct str){ptr, len};
}

static inline bool str_empty(struct str s)
{
        return s.len == 0;
}

static inline bool str_eq(struct str a, struct str b)
{
        return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* The part of `s` from `from` (clamped to its end). */
static inline struct str str_from(struct str s, size_t from)
{
        return from >= s.len ? str_view(s.ptr ? s.ptr + s.len : NULL, 0)
                             : str_view(s.ptr + from, s.len - from);
}

/* The first `len` bytes of `s` (clamped to its length). */
static inline struct str str_head(struct str s, size_t len)
{
        return str_view(s.ptr, len < s.len ? len : s.len);
}

static inline char char_lower(char c)
{
        return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* Equal when ASCII letter case is ignored; other bytes must be the same. */
bool str_eq_fold(struct str a, struct str b);
/* Byte order like memcmp, the shorter first when one begins the other. */
int str_cmp(struct str a, struct str b);
/* str_cmp with ASCII letter case ignored. */
int str_cmp_fold(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_starts_fold(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_ends_fold(struct str s, struct str suffix);
/* Offset of the first `c`, or -1. */
ssize_t str_find(struct str s, char c);
/* Offset of the first occurrence of `needle`, or -1; an empty needle is found at 0. */
ssize_t str_find_str(struct str s, struct str needle);
/* Without blanks and tabs, CR and LF at both ends. */
struct str str_trim(struct str s);
/* The same of all that .NET knows as blanks (Char.IsWhiteSpace), beyond ASCII too. */
struct str str_trim_wide(struct str s);
/* Splits at the first `c`: `*head` is what stands before it, the result what follows; no `c`: all
 * of `s` is the head and the result is STR_NONE (ptr NULL). */
struct str str_cut(struct str s, char c, struct str *head);
/* Decimal digits only, no sign, no blanks, at least one, no overflow. */
bool str_to_u64(struct str s, uint64_t *out);
/* No byte beyond 0x7f. */
bool str_is_ascii(struct str s);
/* Well-formed UTF-8 without surrogates or overlong forms (RFC 3629 4). */
bool str_utf8_valid(struct str s);
/* The code point at `*i`, which begins a character of valid UTF-8; moves `*i` behind it. */
uint32_t str_code_point(struct str s, size_t *i);
/* How many bytes the character at `i` has if it is a control beyond ASCII, ends a line, shows
 * nothing or turns the direction of text around (zero widths, fillers, tags, direction marks); else
 * 0. The text is valid UTF-8. */
size_t str_invisible_at(struct str s, size_t i);
/* `pattern` with `*` standing for any run of bytes (also none), letter case ignored if `fold`. */
bool str_glob(struct str pattern, struct str s, bool fold);
/* FNV-1a over the bytes, ASCII letters folded: for tables keyed by names. Not for hostile keys. */
uint32_t str_hash_fold(struct str s);
/* A malloc'd, terminated copy; aborts when memory is out. */
char *str_dup(struct str s);
/* Edit distance (Damerau-Levenshtein, capped at 255; ASCII case ignored), for "did you mean". */
unsigned str_distance(struct str a, struct str b);

#endif
