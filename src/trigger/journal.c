#include "dagward/trigger/journal.h"

#include <zlib.h>

#define MAGIC "DwT1"

enum { HEAD = sizeof(TRIGGER_JOURNAL_HEAD) - 1 };

/* --- writing --- */

static void put_number(struct buf *out, uint64_t value, int bytes)
{
        for (int i = 0; i < bytes; i++)
                buf_char(out, (char)(value >> (8 * i)));
}

static void put_text(struct buf *out, struct str text, size_t most)
{
        text = str_head(text, most);
        put_number(out, text.len, 4);
        buf_str_add(out, text);
}

static void put_answer(struct buf *out, const struct trigger_answer *answer)
{
        bool whole = answer->whole && answer->body.len <= TRIGGER_BODY_MOST;

        put_number(out, (uint64_t)answer->status, 2);
        put_number(out, whole, 1);
        put_text(out, answer->run_id, TRIGGER_TEXT_MOST);
        put_text(out, answer->run_url, TRIGGER_TEXT_MOST);
        put_text(out, answer->content_type, TRIGGER_TEXT_MOST);
        put_text(out, answer->location, TRIGGER_TEXT_MOST);
        put_text(out, answer->activity_id, TRIGGER_TEXT_MOST);
        put_text(out, whole ? answer->body : STR(""), TRIGGER_BODY_MOST);
}

static void put_payload(struct buf *out, const struct trigger_record *record)
{
        buf_char(out, (char)record->kind);
        buf_add(out, record->key.key, TRIGGER_DIGEST);
        put_number(out, (uint64_t)record->time_ms, 8);
        if (record->kind == TRIGGER_RECORD_BEGUN) {
                buf_add(out, record->key.request, TRIGGER_DIGEST);
                put_text(out, record->id, TRIGGER_ID);
                put_text(out, record->correlation_id, TRIGGER_ID);
                if (trigger_caller_known(&record->key))
                        buf_add(out, record->key.caller, TRIGGER_DIGEST);
        }
        if (record->kind == TRIGGER_RECORD_ANSWERED)
                put_answer(out, &record->answer);
}

static uint32_t checksum(struct str bytes)
{
        return (uint32_t)crc32(0, (const unsigned char *)bytes.ptr, (unsigned)bytes.len);
}

void trigger_record_write(struct buf *out, const struct trigger_record *record)
{
        struct buf payload;

        buf_init(&payload, TRIGGER_RECORD_MOST);
        put_payload(&payload, record);
        buf_add(out, MAGIC, 4);
        put_number(out, payload.len, 4);
        put_number(out, checksum(buf_str(&payload)), 4);
        buf_str_add(out, buf_str(&payload));
        buf_clear(&payload);
}

/* --- reading --- */

static bool take_number(struct str *in, int bytes, uint64_t *value)
{
        if (in->len < (size_t)bytes)
                return false;
        *value = 0;
        for (int i = 0; i < bytes; i++)
                *value |= (uint64_t)(unsigned char)in->ptr[i] << (8 * i);
        *in = str_from(*in, (size_t)bytes);
        return true;
}

static bool take_bytes(struct str *in, void *out, size_t n)
{
        if (in->len < n)
                return false;
        memcpy(out, in->ptr, n);
        *in = str_from(*in, n);
        return true;
}

static bool take_text(struct str *in, size_t most, struct str *text)
{
        uint64_t len;

        if (!take_number(in, 4, &len) || len > most || in->len < len)
                return false;
        *text = str_head(*in, (size_t)len);
        *in = str_from(*in, (size_t)len);
        return true;
}

static bool take_answer(struct str *in, struct trigger_answer *answer)
{
        uint64_t status, whole;

        if (!take_number(in, 2, &status) || status < 200 || status > 599 ||
                !take_number(in, 1, &whole) || whole > 1 ||
                !take_text(in, TRIGGER_TEXT_MOST, &answer->run_id) ||
                !take_text(in, TRIGGER_TEXT_MOST, &answer->run_url) ||
                !take_text(in, TRIGGER_TEXT_MOST, &answer->content_type) ||
                !take_text(in, TRIGGER_TEXT_MOST, &answer->location) ||
                !take_text(in, TRIGGER_TEXT_MOST, &answer->activity_id) ||
                !take_text(in, TRIGGER_BODY_MOST, &answer->body))
                return false;
        answer->status = (int)status;
        answer->whole = whole;
        return whole || !answer->body.len;
}

static bool take_payload(struct str in, struct trigger_record *out)
{
        uint64_t kind, time;

        *out = (struct trigger_record){0};
        if (!take_number(&in, 1, &kind) || !take_bytes(&in, out->key.key, TRIGGER_DIGEST) ||
                !take_number(&in, 8, &time) || time > INT64_MAX)
                return false;
        out->kind = (enum trigger_record_kind)kind;
        out->time_ms = (int64_t)time;
        switch (kind) {
        case TRIGGER_RECORD_BEGUN:
                if (!take_bytes(&in, out->key.request, TRIGGER_DIGEST) ||
                        !take_text(&in, TRIGGER_ID, &out->id) ||
                        !take_text(&in, TRIGGER_ID, &out->correlation_id) ||
                        out->id.len != TRIGGER_ID || out->correlation_id.len != TRIGGER_ID)
                        return false;
                /* A journal of before ends here. */
                if (in.len && !(take_bytes(&in, out->key.caller, TRIGGER_DIGEST) &&
                                      trigger_caller_known(&out->key)))
                        return false;
                break;
        case TRIGGER_RECORD_ANSWERED:
                if (!take_answer(&in, &out->answer))
                        return false;
                break;
        case TRIGGER_RECORD_LOST:
        case TRIGGER_RECORD_RELEASED: break;
        default: return false;
        }
        return in.len == 0;
}

/* The record that `in` begins with: how long it is, or 0 when there is none. */
static size_t record_at(struct str in, struct trigger_record *out)
{
        struct str rest = str_from(in, 4);
        uint64_t len, sum;

        if (!str_starts(in, STR(MAGIC)) || !take_number(&rest, 4, &len) ||
                !take_number(&rest, 4, &sum) || len > TRIGGER_RECORD_MOST - TRIGGER_RECORD_HEAD ||
                rest.len < len)
                return 0;
        rest = str_head(rest, (size_t)len);
        if (checksum(rest) != sum || !take_payload(rest, out))
                return 0;
        return TRIGGER_RECORD_HEAD + (size_t)len;
}

static bool any_record_in(struct str bytes)
{
        struct trigger_record ignored;

        while (bytes.len) {
                ssize_t at = str_find_str(bytes, STR(MAGIC));
                if (at < 0)
                        return false;
                bytes = str_from(bytes, (size_t)at);
                if (record_at(bytes, &ignored))
                        return true;
                bytes = str_from(bytes, 1);
        }
        return false;
}

enum trigger_read trigger_record_read(struct str bytes, size_t *at, struct trigger_record *out)
{
        if (*at == 0) {
                if (!str_starts(bytes, STR(TRIGGER_JOURNAL_HEAD)) &&
                        !str_starts(bytes, STR(TRIGGER_JOURNAL_HEAD_BEFORE)))
                        return any_record_in(bytes) ? TRIGGER_READ_DAMAGED : TRIGGER_READ_TORN;
                *at = HEAD;
        }
        struct str rest = str_from(bytes, *at);
        if (!rest.len)
                return TRIGGER_READ_END;
        size_t n = record_at(rest, out);
        if (!n)
                return any_record_in(str_from(rest, 1)) ? TRIGGER_READ_DAMAGED : TRIGGER_READ_TORN;
        *at += n;
        return TRIGGER_READ_RECORD;
}
