#include "dagward/base/tree.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "dagward/base/pull.h"

enum { COMPARED_IN_PAIRS = 16 }; /* members; more of them are sorted to find two of one name */

struct reading {
        struct pull pull;
        size_t depth, values; /* that may still come */
};

static bool digits(const char **p, const char *end)
{
        const char *begin = *p;

        while (*p < end && **p >= '0' && **p <= '9')
                ++*p;
        return *p > begin;
}

/* The grammar of RFC 8259 6. */
static bool number_well_formed(struct str s, bool *whole)
{
        const char *p = s.ptr, *end = s.ptr + s.len;

        if (*p == '-')
                p++;
        bool zero = p < end && *p == '0';
        const char *begin = p;
        if (!digits(&p, end) || (zero && p - begin > 1))
                return false;
        *whole = p == end;
        if (p < end && *p == '.') {
                p++;
                if (!digits(&p, end))
                        return false;
        }
        if (p < end && (*p | 0x20) == 'e') {
                p++;
                if (p < end && (*p == '+' || *p == '-'))
                        p++;
                if (!digits(&p, end))
                        return false;
        }
        return p == end;
}

static bool whole_of(struct str s, int64_t *out)
{
        bool minus = s.ptr[0] == '-';
        uint64_t most = (uint64_t)INT64_MAX + minus, value;

        if (!str_to_u64(str_from(s, minus), &value) || value > most)
                return false;
        *out = minus ? (int64_t)(0 - value) : (int64_t)value;
        return true;
}

static bool read_number(struct reading *r, struct tree *value)
{
        struct str s;
        bool whole;

        if (!pull_number(&r->pull, &s) || !number_well_formed(s, &whole))
                return false;
        value->kind = whole ? TREE_WHOLE : TREE_REAL;
        if (whole)
                return whole_of(s, &value->whole);
        struct str copy = arena_copy(r->pull.arena, s); /* strtod needs its end */
        value->real = copy.ptr ? strtod(copy.ptr, NULL) : HUGE_VAL;
        return isfinite(value->real);
}

static bool read_text(struct reading *r, struct str *out)
{
        return pull_text(&r->pull, out) && str_find(*out, '\0') < 0;
}

static int by_name(const void *a, const void *b)
{
        const struct tree *const *x = a, *const *y = b;

        return str_cmp((*x)->name, (*y)->name);
}

/* `n` members, none of them with the name of another. */
static bool names_differ(const struct tree *first, size_t n, struct arena *arena)
{
        if (n <= COMPARED_IN_PAIRS) {
                for (const struct tree *a = first; a; a = a->next)
                        for (const struct tree *b = a->next; b; b = b->next)
                                if (str_eq(a->name, b->name))
                                        return false;
                return true;
        }
        const struct tree **sorted = arena_alloc(arena, n * sizeof(const struct tree *));
        if (!sorted)
                return false;
        for (size_t i = 0; i < n; i++, first = first->next)
                sorted[i] = first;
        qsort(sorted, n, sizeof(const struct tree *), by_name);
        for (size_t i = 1; i < n; i++)
                if (str_eq(sorted[i - 1]->name, sorted[i]->name))
                        return false;
        return true;
}

static bool read_value(struct reading *r, struct tree *value);

/* Behind the opening bracket. */
static bool read_inside(struct reading *r, struct tree *value)
{
        bool object = value->kind == TREE_OBJECT;
        const struct tree **link = &value->first;
        size_t n = 0;

        if (r->depth == 0 || r->values == 0)
                return false;
        r->depth--;
        r->values--;
        value->first = NULL;
        if (!pull_char(&r->pull, object ? '}' : ']')) {
                do {
                        struct tree *inner = arena_alloc(r->pull.arena, sizeof(*inner));
                        if (!inner || (n++ && r->values-- == 0))
                                return false;
                        if (object && !(read_text(r, &inner->name) && pull_char(&r->pull, ':')))
                                return false;
                        if (!read_value(r, inner))
                                return false;
                        *link = inner;
                        link = &inner->next;
                } while (pull_char(&r->pull, ','));
                if (!pull_char(&r->pull, object ? '}' : ']'))
                        return false;
        }
        r->depth++;
        return !object || names_differ(value->first, n, r->pull.arena);
}

/* Calls itself as often as r->depth allows. */
static bool read_value(struct reading *r, struct tree *value)
{
        pull_blanks(&r->pull);
        switch (r->pull.p < r->pull.end ? *r->pull.p : '\0') {
        case '{':
        case '[':
                value->kind = *r->pull.p++ == '{' ? TREE_OBJECT : TREE_ARRAY;
                return read_inside(r, value);
        case '"': value->kind = TREE_TEXT; return read_text(r, &value->text);
        case 't': value->kind = TREE_TRUE; return pull_literal(&r->pull);
        case 'f': value->kind = TREE_FALSE; return pull_literal(&r->pull);
        case 'n': value->kind = TREE_NULL; return pull_literal(&r->pull);
        default: return read_number(r, value);
        }
}

const struct tree *tree_read(struct str text, const struct tree_bounds *most, struct arena *arena)
{
        struct reading r = {
                .pull = {text.ptr, text.ptr + text.len, arena},
                .depth = most->depth,
                .values = most->values,
        };
        struct tree *value = text.len ? arena_alloc(arena, sizeof(*value)) : NULL;

        if (!value || !read_value(&r, value))
                return NULL;
        pull_blanks(&r.pull);
        return r.pull.p == r.pull.end ? value : NULL;
}

const struct tree *tree_member(const struct tree *object, struct str name)
{
        if (!object || object->kind != TREE_OBJECT)
                return NULL;
        for (const struct tree *member = object->first; member; member = member->next)
                if (str_eq(member->name, name))
                        return member;
        return NULL;
}

const struct tree *tree_at(const struct tree *object, struct str path)
{
        while (path.len) {
                const struct tree *found;
                size_t len = path.len;
                while (!(found = tree_member(object, str_head(path, len)))) {
                        do
                                len--;
                        while (len && path.ptr[len] != '.');
                        if (!len)
                                return NULL;
                }
                if (len == path.len)
                        return found;
                object = found;
                path = str_from(path, len + 1);
        }
        return NULL;
}

struct str tree_text(const struct tree *value)
{
        return value && value->kind == TREE_TEXT ? value->text : STR_NONE;
}

/* So that it is read as one again: with a fraction, if not with an exponent. */
static void write_real(double real, struct buf *out)
{
        char text[40];

        snprintf(text, sizeof(text), "%.17g", real);
        buf_str_add(out, str_of(text));
        if (!strpbrk(text, ".e"))
                BUF_LITERAL(out, ".0");
}

/* Calls itself as deep as the tree is, which tree_read has bounded. */
void tree_write(const struct tree *value, struct buf *out)
{
        static const struct str words[] = {
                [TREE_NULL] = {"null", 4}, [TREE_FALSE] = {"false", 5}, [TREE_TRUE] = {"true", 4}};
        bool object = value->kind == TREE_OBJECT;

        switch (value->kind) {
        case TREE_NULL:
        case TREE_FALSE:
        case TREE_TRUE: buf_str_add(out, words[value->kind]); break;
        case TREE_WHOLE: buf_i64(out, value->whole); break;
        case TREE_REAL: write_real(value->real, out); break;
        case TREE_TEXT: buf_json_str(out, value->text); break;
        case TREE_ARRAY:
        case TREE_OBJECT:
                buf_char(out, object ? '{' : '[');
                for (const struct tree *inner = value->first; inner; inner = inner->next) {
                        if (inner != value->first)
                                buf_char(out, ',');
                        if (object) {
                                buf_json_str(out, inner->name);
                                buf_char(out, ':');
                        }
                        tree_write(inner, out);
                }
                buf_char(out, object ? '}' : ']');
                break;
        }
}
