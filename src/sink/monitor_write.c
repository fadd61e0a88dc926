#include <stdlib.h>
#include <zlib.h>

#include "dagward/audit/tail.h"
#include "dagward/base/clock.h"
#include "dagward/sink/monitor.h"

enum { WINDOW_GZIP = 15 + 16, MEMORY_LEVEL = 8, LEVEL = 6 };

static void text(struct buf *out, const char *name, struct str value)
{
        if (str_empty(value))
                return;
        buf_printf(out, ",\"%s\":", name);
        buf_json_str(out, value);
}

static void number(struct buf *out, const char *name, int64_t value)
{
        if (value)
                buf_printf(out, ",\"%s\":%lld", name, (long long)value);
}

static void columns(struct buf *out, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;

        number(out, "Seq", (int64_t)line->seq);
        text(out, "Kind", audit_kind_names[f->kind]);
        text(out, "RequestId", f->request_id);
        text(out, "CorrelationId", f->correlation_id);
        text(out, "Issuer", f->caller.issuer);
        text(out, "Subject", f->caller.subject);
        text(out, "Address", f->caller.address);
        text(out, "DagId", f->claimed.dag_id);
        text(out, "DagRunId", f->claimed.run_id);
        text(out, "TaskId", f->claimed.task_id);
        text(out, "Operation", f->request.operation);
        text(out, "Access", f->request.access);
        text(out, "Organization", f->request.organization);
        text(out, "Project", f->request.project);
        text(out, "Effect", audit_effect_names[f->decision.effect]);
        text(out, "Rule", f->decision.rule);
        text(out, "Reason", f->decision.reason);
        text(out, "BreakGlass", f->decision.break_glass);
        number(out, "Status", f->response.status);
        if (f->duration_us)
                buf_printf(out, ",\"DurationMs\":%.3f", (double)f->duration_us / 1000);
        text(out, "StartedRunId", f->run.id);
        text(out, "EventName", f->event.name);
        text(out, "Hash", line->hash);
}

void monitor_write(struct buf *out, struct str line, const char *source, struct arena *arena)
{
        char now[CLOCK_RFC3339_LEN + 1];
        struct audit_line record;

        arena_reset(arena);
        buf_reserve(out, line.len + 4096);
        clock_rfc3339(clock_wall_ms(), now);
        bool known = audit_line_read(line, arena, &record);
        buf_printf(out, "{\"TimeGenerated\":");
        buf_json_str(out, known ? record.time : str_of(now));
        text(out, "Source", str_of(source));
        if (known)
                columns(out, &record);
        else
                number(out, "Seq", (int64_t)tail_line_seq(line));
        buf_printf(out, ",\"Record\":");
        /* One that cannot be understood must not spoil those beside it. */
        if (known)
                buf_str_add(out, line);
        else
                buf_json_str(out, line);
        buf_char(out, '}');
}

void monitor_pack(struct str body, struct buf *out)
{
        z_stream z = {0};

        if (deflateInit2(&z, LEVEL, Z_DEFLATED, WINDOW_GZIP, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) !=
                Z_OK)
                abort();
        size_t most = deflateBound(&z, (uLong)body.len);
        if (!buf_reserve(out, most))
                abort();
        z.next_in = (unsigned char *)(uintptr_t)body.ptr;
        z.avail_in = (unsigned)body.len;
        z.next_out = (unsigned char *)out->data + out->len;
        z.avail_out = (unsigned)most;
        if (deflate(&z, Z_FINISH) != Z_STREAM_END)
                abort();
        out->len += most - z.avail_out;
        deflateEnd(&z);
}
