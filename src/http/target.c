#include "dagward/http/target.h"

#include "bytes.h"

/* A target being read. */
struct reader {
        struct str raw;
        struct arena *arena;
        struct target *target;
        struct h1_fault *fault;
};

static bool refuse(const struct reader *reader, const char *rule, const char *why, const char *at)
{
        return h1_fault_set(reader->fault, 400, rule, why, (size_t)(at - reader->raw.ptr));
}

/* Decodes percent escapes once, and `+` to a blank where that is so (query). Without anything to
 * decode the result is `text` itself. `*slashes` counts the escapes that stand for a slash. */
static bool decode(const struct reader *reader, struct str text, bool plus, unsigned *slashes,
        struct str *decoded)
{
        const char *p = text.ptr, *end = text.ptr + text.len;

        while (p < end && *p != '%' && !(plus && *p == '+'))
                p++;
        *decoded = text;
        if (p == end)
                return true;
        char *copy = arena_alloc(reader->arena, text.len), *out = copy;
        if (!copy)
                return h1_fault_set(reader->fault, 431, "", "the target takes too much memory", 0);
        memcpy(copy, text.ptr, (size_t)(p - text.ptr));
        out += p - text.ptr;
        for (; p < end; p++) {
                char c = *p;
                if (c == '+' && plus) {
                        c = ' ';
                } else if (c == '%') {
                        if (end - p < 3 || !byte_is(p[1], BYTE_HEX) || !byte_is(p[2], BYTE_HEX))
                                return refuse(reader, "RFC 3986 2.1",
                                        "a percent escape without two hex digits", p);
                        c = (char)(byte_hex(p[1]) << 4 | byte_hex(p[2]));
                        *slashes += c == '/';
                        p += 2;
                }
                *out++ = c;
        }
        *decoded = str_view(copy, (size_t)(out - copy));
        return true;
}

/* Code points that are not seen, or that a server or its database may take for ASCII: controls,
 * zero widths, direction marks, full-width forms, look-alikes of `.` and `/`, two letters whose
 * other case is ASCII, variation and language tags, what is no character. */
static bool code_point_deceives(uint32_t point)
{
        static const struct {
                uint32_t from, to;
        } ranges[] = {{0x80, 0xA0}, {0xAD, 0xAD}, {0x034F, 0x034F}, {0x061C, 0x061C},
                {0x115F, 0x1160}, {0x1680, 0x1680}, {0x17B4, 0x17B5}, {0x180B, 0x180F},
                {0x017F, 0x017F}, {0x2000, 0x200F}, {0x2024, 0x2026}, {0x2028, 0x202F},
                {0x2044, 0x2044}, {0x205F, 0x206F}, {0x212A, 0x212A}, {0x2215, 0x2216},
                {0x29F5, 0x29F5}, {0x29F8, 0x29F9}, {0x3000, 0x3000}, {0x3164, 0x3164},
                {0xE000, 0xF8FF}, {0xFDD0, 0xFDEF}, {0xFE00, 0xFE0F}, {0xFE52, 0xFE52},
                {0xFE68, 0xFE68}, {0xFEFF, 0xFEFF}, {0xFF00, 0xFF5E}, {0xFFA0, 0xFFA0},
                {0xFFF0, 0xFFFF}, {0xE0000, 0x10FFFF}};

        for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++)
                if (point >= ranges[i].from && point <= ranges[i].to)
                        return true;
        return (point & 0xFFFE) == 0xFFFE;
}

/* Whether any byte is outside ASCII. */
static bool has_high(struct str s)
{
        for (size_t i = 0; i < s.len; i++)
                if ((unsigned char)s.ptr[i] >= 0x80)
                        return true;
        return false;
}

static bool check_controls(const struct reader *reader, struct str decoded, const char *at)
{
        for (size_t i = 0; i < decoded.len; i++)
                if ((unsigned char)decoded.ptr[i] < 0x20 || decoded.ptr[i] == 0x7F)
                        return refuse(reader, "RFC 9112 3.2", "an encoded control byte", at);
        return true;
}

/* What ASP.NET calls dangerous in a path, what would end or extend a segment for some, and `%`,
 * which a second decoding would take up. */
static bool segment_byte_ok(char c)
{
        switch (c) {
        case '<':
        case '>':
        case '*':
        case '%':
        case '&':
        case ':':
        case '\\':
        case '?':
        case '#':
        case ';': return false;
        default: return true;
        }
}

/* A piece between slashes, sent or encoded ones. Windows drops dots and blanks at the end of a
 * name, and `.` and `..` are such. */
static bool piece_ok(struct str piece)
{
        return piece.len && piece.ptr[0] != ' ' && piece.ptr[piece.len - 1] != '.' &&
               piece.ptr[piece.len - 1] != ' ';
}

static bool check_segment(const struct reader *reader, struct str decoded, const char *at)
{
        struct str rest = decoded, piece;

        if (!check_controls(reader, decoded, at))
                return false;
        for (size_t i = 0; i < decoded.len; i++)
                if (!segment_byte_ok(decoded.ptr[i]))
                        return refuse(
                                reader, "", "a byte that servers read differently in a path", at);
        do {
                rest = str_cut(rest, '/', &piece);
                if (!piece_ok(piece))
                        return refuse(reader, "RFC 3986 5.2.4",
                                "a path segment that begins or ends with a blank or slash, or ends "
                                "with a dot",
                                at);
        } while (rest.ptr);
        if (!has_high(decoded))
                return true;
        if (!str_utf8_valid(decoded))
                return refuse(reader, "RFC 3629 4", "a path that is not UTF-8", at);
        for (size_t i = 0; i < decoded.len;)
                if (code_point_deceives(str_code_point(decoded, &i)))
                        return refuse(reader, "",
                                "a character that is invisible or looks like "
                                "another in a path",
                                at);
        return true;
}

static bool read_segment(struct reader *reader, struct str text)
{
        struct target *target = reader->target;
        unsigned slashes = 0;
        struct str decoded;

        for (size_t i = 0; i < text.len; i++)
                if (!byte_is(text.ptr[i], BYTE_PATH_RAW))
                        return refuse(reader, "RFC 3986 3.3", "a byte that may not stand in a path",
                                text.ptr + i);
        if (target->n_segments == TARGET_MAX_SEGMENTS)
                return refuse(reader, "", "a path of too many segments", text.ptr);
        if (!decode(reader, text, false, &slashes, &decoded) ||
                !check_segment(reader, decoded, text.ptr))
                return false;
        if (slashes)
                target->encoded_slash |= (uint64_t)1 << target->n_segments;
        target->segments[target->n_segments++] = decoded;
        return true;
}

/* `path` begins with a slash. */
static bool read_path(struct reader *reader, struct str path)
{
        struct str rest = path, text;

        reader->target->trailing_slash = path.len > 1 && path.ptr[path.len - 1] == '/';
        do {
                rest = str_cut(rest, '/', &text);
                if (text.len && !read_segment(reader, text))
                        return false;
        } while (rest.ptr);
        return true;
}

static bool check_query_name(const struct reader *reader, struct str name, const char *at)
{
        if (name.len == 0)
                return refuse(reader, "", "a query parameter without a name", at);
        for (size_t i = 0; i < name.len; i++) {
                char c = name.ptr[i];
                if (c <= 0x20 || c >= 0x7F)
                        return refuse(reader, "", "a query name that is not plain ASCII", at);
                /* ASP.NET reads `a[]` as `a`, and `a[b]` as `a.b`. */
                if (c == '[' || c == ']')
                        return refuse(reader, "", "a query name with brackets", at);
        }
        for (size_t i = 0; i < reader->target->n_query; i++)
                if (str_eq_fold(reader->target->query[i].name, name))
                        return refuse(reader, "", "a query parameter twice", at);
        return true;
}

static bool read_parameter(struct reader *reader, struct str text)
{
        struct target *target = reader->target;
        struct pair pair;
        unsigned slashes = 0;
        struct str name, value = str_cut(text, '=', &name);

        if (target->n_query == TARGET_MAX_QUERY)
                return refuse(reader, "", "too many query parameters", text.ptr);
        if (!value.ptr)
                value = str_view(text.ptr + text.len, 0);
        if (!decode(reader, name, true, &slashes, &pair.name) ||
                !decode(reader, value, true, &slashes, &pair.value))
                return false;
        if (!check_query_name(reader, pair.name, text.ptr) ||
                !check_controls(reader, pair.value, text.ptr))
                return false;
        if (has_high(pair.value) && !str_utf8_valid(pair.value))
                return refuse(reader, "RFC 3629 4", "a query that is not UTF-8", text.ptr);
        target->query[target->n_query++] = pair;
        return true;
}

static bool read_query(struct reader *reader, struct str query)
{
        struct str text;

        for (size_t i = 0; i < query.len; i++)
                if (!byte_is(query.ptr[i], BYTE_TARGET))
                        return refuse(reader, "RFC 3986 3.4",
                                "a byte that may not stand in a query", query.ptr + i);
        while (query.ptr) {
                query = str_cut(query, '&', &text);
                if (text.len && !read_parameter(reader, text))
                        return false;
        }
        return true;
}

/* Leaves the path and query of `*rest`, which may be a whole URL whose authority is `host`. */
static bool strip_authority(const struct reader *reader, struct str host, struct str *rest)
{
        size_t scheme = str_starts_fold(*rest, STR("http://"))    ? 7
                        : str_starts_fold(*rest, STR("https://")) ? 8
                                                                  : 0;

        if (rest->len && rest->ptr[0] == '/')
                return true;
        if (!scheme)
                return refuse(
                        reader, "RFC 9112 3.2", "the target is no path and no URL", rest->ptr);
        *rest = str_from(*rest, scheme);
        ssize_t slash = str_find(*rest, '/');
        if (slash < 0)
                return refuse(reader, "RFC 9112 3.2.2", "a URL without a path", rest->ptr);
        if (host.len == 0 || !str_eq_fold(str_head(*rest, (size_t)slash), host))
                return refuse(
                        reader, "RFC 9112 3.2.2", "a URL of another host than Host", rest->ptr);
        *rest = str_from(*rest, (size_t)slash);
        return true;
}

bool target_parse(struct str raw, struct str host, struct arena *arena, struct target *target,
        struct h1_fault *fault)
{
        struct reader reader = {raw, arena, target, fault};
        struct str rest = raw, path;

        target->raw = raw;
        target->encoded_slash = 0;
        target->n_segments = 0;
        target->n_query = 0;
        target->trailing_slash = false;
        if (raw.len == 0)
                return h1_fault_set(fault, 400, "RFC 9112 3.2", "no target", 0);
        ssize_t fragment = str_find(raw, '#');
        if (fragment >= 0)
                return refuse(
                        &reader, "RFC 9112 3.2", "a fragment in the target", raw.ptr + fragment);
        if (!strip_authority(&reader, host, &rest))
                return false;
        rest = str_cut(rest, '?', &path);
        return read_path(&reader, path) && read_query(&reader, rest);
}

static void escape(struct str decoded, enum byte_class plain, struct buf *buf)
{
        static const char hex[] = "0123456789ABCDEF";
        const char *p = decoded.ptr, *end = p + decoded.len;

        while (p < end) {
                const char *from = p;
                while (p < end && byte_is(*p, plain))
                        p++;
                buf_add(buf, from, (size_t)(p - from));
                if (p == end)
                        return;
                char escaped[3] = {'%', hex[(unsigned char)*p >> 4], hex[*p & 15]};
                buf_add(buf, escaped, sizeof(escaped));
                p++;
        }
}

void segment_write(struct str decoded, struct buf *buf)
{
        escape(decoded, BYTE_SEGMENT, buf);
}

void query_write(struct str decoded, struct buf *buf)
{
        escape(decoded, BYTE_QUERY, buf);
}

void target_write_path(const struct target *target, struct buf *buf)
{
        for (size_t i = 0; i < target->n_segments; i++) {
                buf_char(buf, '/');
                segment_write(target->segments[i], buf);
        }
        if (target->n_segments == 0)
                buf_char(buf, '/');
}

void target_write_query(const struct target *target, struct buf *buf)
{
        for (size_t i = 0; i < target->n_query; i++) {
                buf_char(buf, i ? '&' : '?');
                query_write(target->query[i].name, buf);
                buf_char(buf, '=');
                query_write(target->query[i].value, buf);
        }
}

void target_write(const struct target *target, struct buf *buf)
{
        target_write_path(target, buf);
        target_write_query(target, buf);
}

struct str target_query(const struct target *target, struct str name)
{
        for (size_t i = 0; i < target->n_query; i++)
                if (str_eq_fold(target->query[i].name, name))
                        return target->query[i].value;
        return STR_NONE;
}
