/*
 * buf: bytes being written.
 *
 * Either growable up to a ceiling (buf_init) or over memory of the caller's (buf_init_fixed). A
 * write that does not fit sets `overflow` and writes nothing from then on: check once at the end.
 */
#ifndef DAGWARD_BASE_BUF_H
#define DAGWARD_BASE_BUF_H

#include <stdarg.h>

#include "dagward/base/str.h"

struct buf {
        char *data;
        size_t len;
        size_t cap;
        size_t ceiling; /* 0: fixed memory */
        bool overflow;
};

/* Growable, at most `ceiling` bytes; memory is taken at the first write. */
void buf_init(struct buf *buf, size_t ceiling);
/* Over `cap` bytes at `memory`, which stays the caller's. */
void buf_init_fixed(struct buf *buf, void *memory, size_t cap);
/* Frees a growable buffer's memory; harmless on a fixed one. */
void buf_clear(struct buf *buf);
/* Empties it, keeps the memory, forgets an overflow. */
static inline void buf_reset(struct buf *buf)
{
        buf->len = 0;
        buf->overflow = false;
}
static inline struct str buf_str(const struct buf *buf)
{
        return str_view(buf->data, buf->len);
}
/* Makes room for `bytes` more; false sets overflow. */
bool buf_reserve(struct buf *buf, size_t bytes);
/* Appends bytes. */
static inline void buf_add(struct buf *buf, const void *bytes, size_t len)
{
        if (len <= buf->cap - buf->len ? !buf->overflow : buf_reserve(buf, len)) {
                if (len)
                        memcpy(buf->data + buf->len, bytes, len);
                buf->len += len;
        }
}
static inline void buf_str_add(struct buf *buf, struct str s)
{
        buf_add(buf, s.ptr, s.len);
}
static inline void buf_char(struct buf *buf, char c)
{
        buf_add(buf, &c, 1);
}
/* Appends several views; unlike `%.*s` it does not end at a NUL in one of them. */
#define BUF_ALL(buf, ...)                                                                          \
        do {                                                                                       \
                const struct str all_parts[] = {__VA_ARGS__};                                      \
                for (size_t all_i = 0; all_i < sizeof(all_parts) / sizeof(all_parts[0]); all_i++)  \
                        buf_str_add((buf), all_parts[all_i]);                                      \
        } while (0)
#define BUF_LITERAL(buf, literal) buf_add((buf), "" literal, sizeof(literal) - 1)
void buf_u64(struct buf *buf, uint64_t value);
void buf_i64(struct buf *buf, int64_t value);
void buf_hex(struct buf *buf, const void *bytes, size_t len);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *buf, const char *format, va_list args);
/* A JSON string with its quotes, on one line, valid UTF-8 whatever `s` holds (RFC 8259 7): bytes
 * that are not UTF-8 become U+FFFD; controls and what is not seen (str_invisible_at: C1 controls,
 * marks that turn the direction of text around, separators) are escaped, so that a terminal that
 * prints it shows what is there. */
void buf_json_str(struct buf *buf, struct str s);

#endif
