#include "dagward/audit/checkpoint.h"

#include "dagward/base/clock.h"

static const char time_name[] = "\"time\":\"";
static const char event_name[] = "\",\"kind\":\"event\",\"event\":{\"name\":\"log.";
static const char detail_name[] = "\",\"detail\":{";

static void signed_text(
        uint64_t seq, struct str time, struct str reason, struct str prev, struct buf *out)
{
        BUF_LITERAL(out, "dagward audit checkpoint 1\n");
        buf_u64(out, seq);
        buf_printf(out, "\n%.*s\n%.*s\n%.*s\n", STR_FMT(time), STR_FMT(reason), STR_FMT(prev));
}

void checkpoint_write(const struct signing_key *key, const struct chain_head *head, int64_t time_ms,
        struct str reason, struct buf *members)
{
        char time[CLOCK_RFC3339_LEN + 1], signature[SIGNING_LEN + 1], memory[512];
        struct buf text;

        clock_rfc3339(time_ms, time);
        buf_init_fixed(&text, memory, sizeof(memory));
        signed_text(head->seq + 1, str_of(time), reason, str_of(head->hash), &text);
        signing_sign(key, buf_str(&text), signature);
        buf_printf(members, "%s%s%scheckpoint%s\"reason\":\"%.*s\",\"public_key\":\"%s\",",
                time_name, time, event_name, detail_name, STR_FMT(reason), signing_key_text(key));
        buf_printf(members, "\"signature\":\"%s\"}}", signature);
}

static bool skip(struct str *s, struct str literal)
{
        if (s->len < literal.len || memcmp(s->ptr, literal.ptr, literal.len) != 0)
                return false;
        *s = str_from(*s, literal.len);
        return true;
}

/* The value of `time`, whatever it is; what follows is at its closing quote. */
static bool take_time(struct str *rest, struct str *time)
{
        if (!skip(rest, str_view(time_name, sizeof(time_name) - 1)))
                return false;
        size_t len = 0;
        while (len < rest->len && rest->ptr[len] != '"')
                len += rest->ptr[len] == '\\' ? 2 : 1;
        *time = str_head(*rest, len);
        *rest = str_from(*rest, time->len);
        return true;
}

struct str record_time(const struct chain_line *line)
{
        struct str rest = line->members, time;

        return take_time(&rest, &time) ? time : STR("");
}

bool log_event_read(const struct chain_line *line, struct str name, struct str *detail)
{
        struct str rest = line->members, time;

        /* The place of everything is known, so that a line which is something else, and most are,
         * costs one comparison. */
        if (!take_time(&rest, &time))
                return false;
        if (!skip(&rest, str_view(event_name, sizeof(event_name) - 1)))
                return false;
        *detail = rest;
        if (str_empty(name))
                return true;
        if (!skip(&rest, name) || !skip(&rest, str_view(detail_name, sizeof(detail_name) - 1)))
                return false;
        *detail = rest;
        return true;
}

struct str log_event_detail(struct str detail, struct str name)
{
        char memory[64];
        struct buf wanted;

        buf_init_fixed(&wanted, memory, sizeof(memory));
        buf_printf(&wanted, "\"%.*s\":\"", STR_FMT(name));
        ssize_t at = str_find_str(detail, buf_str(&wanted));
        if (at < 0)
                return STR_NONE;
        struct str value, rest = str_from(detail, (size_t)at + wanted.len);
        (void)str_cut(rest, '"', &value);
        return memchr(value.ptr, '\\', value.len) ? STR_NONE : value;
}

/* `"name":"value"` at the head of the rest, and what follows it. */
static bool take(struct str *rest, struct str name, struct str after, struct str *value)
{
        if (!skip(rest, STR("\"")) || !skip(rest, name) || !skip(rest, STR("\":\"")))
                return false;
        *rest = str_cut(*rest, '"', value);
        return rest->ptr && !str_empty(*value) && skip(rest, after);
}

/* As clock_rfc3339 writes it, and no other text of that length: it is signed, and shown. */
static bool is_time(struct str text)
{
        char again[CLOCK_RFC3339_LEN + 1];
        int64_t ms;

        if (!clock_parse(text, &ms))
                return false;
        clock_rfc3339(ms, again);
        return str_eq(text, str_of(again));
}

bool checkpoint_read(const struct chain_line *line, struct checkpoint *out)
{
        struct str rest;

        if (!log_event_read(line, STR("checkpoint"), &rest))
                return false;
        out->time = record_time(line);
        return is_time(out->time) && take(&rest, STR("reason"), STR(","), &out->reason) &&
               out->reason.len <= 32 && take(&rest, STR("public_key"), STR(","), &out->key) &&
               take(&rest, STR("signature"), STR("}}"), &out->signature) && rest.len == 0;
}

bool checkpoint_good(const struct chain_line *line, const struct checkpoint *checkpoint)
{
        char memory[512];
        struct buf text;

        buf_init_fixed(&text, memory, sizeof(memory));
        signed_text(line->seq, checkpoint->time, checkpoint->reason, line->prev, &text);
        return !text.overflow &&
               signing_verify(checkpoint->key, buf_str(&text), checkpoint->signature);
}

bool checkpoint_closes(const struct checkpoint *checkpoint)
{
        return str_eq(checkpoint->reason, STR("rotated")) ||
               str_eq(checkpoint->reason, STR("stopped"));
}
