#include <stdlib.h>
#include <unistd.h>

#include "dagward/audit/chain.h"
#include "dagward/base/clock.h"
#include "dagward/sink/syslog.h"

enum { MESSAGE_MOST = CHAIN_LINE_MOST + 4096, APP_NAME_MOST = 48, MSGID_MOST = 32 };

#define BOM "\xEF\xBB\xBF"

void syslog_writer_init(struct syslog_writer *writer, const struct sink_syslog *settings)
{
        *writer = (struct syslog_writer){.settings = settings, .pid = (long)getpid()};
        if (settings->hostname)
                snprintf(writer->hostname, sizeof(writer->hostname), "%s", settings->hostname);
        else if (gethostname(writer->hostname, sizeof(writer->hostname) - 1) != 0)
                writer->hostname[0] = '\0';
        arena_init(&writer->arena, 16 * 1024, 1024 * 1024);
        buf_init(&writer->message, MESSAGE_MOST);
}

void syslog_writer_clear(struct syslog_writer *writer)
{
        arena_clear(&writer->arena);
        buf_clear(&writer->message);
}

enum sink_gravity sink_gravity_of(const struct audit_line *record)
{
        const struct audit_fields *f = &record->fields;

        if (f->decision.effect == AUDIT_ERROR || str_ends(f->event.name, STR("failed")) ||
                str_eq(f->event.name, STR("log.changed")) ||
                str_eq(f->event.name, STR("sink.lost")))
                return SINK_FAILED;
        if (f->decision.effect == AUDIT_DENY || !str_empty(f->decision.break_glass) ||
                str_starts(f->event.name, STR("break_glass.")))
                return SINK_DENIED;
        return SINK_ROUTINE;
}

/* PRINTUSASCII of at most so many characters; `-` when there is none. */
static void header_field(struct buf *out, struct str text, size_t most)
{
        size_t before = out->len;

        text = str_head(text, most);
        for (size_t i = 0; i < text.len; i++)
                buf_char(out, text.ptr[i] > ' ' && text.ptr[i] <= '~' ? text.ptr[i] : '_');
        if (out->len == before)
                buf_char(out, '-');
        buf_char(out, ' ');
}

/* RFC 5424 6.3.3: quote, backslash and closing bracket are escaped. */
static void parameter(struct buf *out, const char *name, struct str value)
{
        if (str_empty(value) || !str_utf8_valid(value))
                return;
        buf_printf(out, " %s=\"", name);
        for (size_t i = 0; i < value.len; i++) {
                char c = value.ptr[i];
                if (c == '"' || c == '\\' || c == ']')
                        buf_char(out, '\\');
                buf_char(out, c);
        }
        buf_char(out, '"');
}

static void structured_data(
        struct buf *out, const struct sink_syslog *settings, const struct audit_line *record)
{
        const struct audit_fields *f = &record->fields;
        char seq[24];

        snprintf(seq, sizeof(seq), "%llu", (unsigned long long)record->seq);
        buf_printf(out, "[dagward@%llu", (unsigned long long)settings->enterprise);
        parameter(out, "seq", str_of(seq));
        parameter(out, "kind", audit_kind_names[f->kind]);
        parameter(out, "correlationId", f->correlation_id);
        parameter(out, "requestId", f->request_id);
        parameter(out, "effect", audit_effect_names[f->decision.effect]);
        buf_add(out, "] ", 2);
}

static void write_header(
        struct syslog_writer *writer, const struct audit_line *record, struct buf *out)
{
        const struct sink_syslog *settings = writer->settings;
        const struct audit_fields *f = &record->fields;
        unsigned severity = settings->severity[sink_gravity_of(record)];

        buf_printf(out, "<%u>1 ", settings->facility * 8 + severity);
        header_field(out, record->time, CLOCK_RFC3339_LEN);
        header_field(out, str_of(writer->hostname), sizeof(writer->hostname));
        header_field(out, str_of(settings->app_name), APP_NAME_MOST);
        buf_printf(out, "%ld ", writer->pid);
        header_field(out, f->kind == AUDIT_EVENT ? f->event.name : audit_kind_names[f->kind],
                MSGID_MOST);
        structured_data(out, settings, record);
}

void syslog_write(struct syslog_writer *writer, struct str line, bool counted, struct buf *out)
{
        struct buf *message = &writer->message;
        struct audit_line record;

        arena_reset(&writer->arena);
        buf_reset(message);
        if (!audit_line_read(line, &writer->arena, &record))
                record = (struct audit_line){.seq = 0};
        write_header(writer, &record, message);
        if (!str_is_ascii(line))
                BUF_LITERAL(message, BOM);
        buf_str_add(message, line);
        if (counted)
                buf_printf(out, "%zu ", message->len);
        buf_str_add(out, buf_str(message));
}
