#include "audit_export.h"
#include "dagward/base/report.h"

struct row {
        struct buf *out;
        bool more;
        char memory[AUDIT_RECORD_MOST];
};

/* What makes a spreadsheet take a cell for a formula: = + - @, also as full-width forms. */
static bool is_formula(struct str text)
{
        static const struct str signs[] = {{"=", 1}, {"+", 1}, {"-", 1}, {"@", 1}, {"\t", 1},
                {"\r", 1}, {"\xEF\xBC\x9D", 3}, {"\xEF\xBC\x8B", 3}, {"\xEF\xBC\x8D", 3},
                {"\xEF\xBC\xA0", 3}};

        while (text.len && text.ptr[0] == ' ')
                text = str_from(text, 1);
        for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
                if (str_starts(text, signs[i]))
                        return true;
        return false;
}

/* Always in quotes, so that what stands in it never counts. */
static void cell(struct row *row, struct str text)
{
        struct buf *out = row->out;

        if (row->more)
                buf_char(out, ',');
        row->more = true;
        buf_char(out, '"');
        if (is_formula(text))
                buf_char(out, '\'');
        while (text.len) {
                ssize_t quote = str_find(text, '"');
                struct str head = quote < 0 ? text : str_head(text, (size_t)quote);
                report_text(out, head);
                if (quote >= 0)
                        BUF_LITERAL(out, "\"\"");
                text = str_from(text, head.len + (quote >= 0));
        }
        buf_char(out, '"');
}

static void number(struct row *row, bool there, uint64_t value)
{
        if (row->more)
                buf_char(row->out, ',');
        row->more = true;
        if (there)
                buf_u64(row->out, value);
}

static void duration(struct row *row, bool there, int64_t us)
{
        if (row->more)
                buf_char(row->out, ',');
        row->more = true;
        if (there)
                buf_printf(row->out, "%lld.%03lld", (long long)(us / 1000), (long long)(us % 1000));
}

static void list(struct row *row, const struct str *items, size_t n)
{
        struct buf text;

        buf_init_fixed(&text, row->memory, sizeof(row->memory));
        for (size_t i = 0; i < n; i++)
                BUF_ALL(&text, i ? STR(";") : STR(""), items[i]);
        cell(row, buf_str(&text));
}

static void pairs(struct row *row, const struct pair *items, size_t n, struct str between)
{
        struct buf text;

        buf_init_fixed(&text, row->memory, sizeof(row->memory));
        for (size_t i = 0; i < n; i++)
                BUF_ALL(&text, i ? STR(";") : STR(""), items[i].name, between, items[i].value);
        cell(row, buf_str(&text));
}

static const char head[] =
        "seq,time,kind,request_id,correlation_id,traceparent,"
        "caller_issuer,caller_subject,caller_roles,caller_token_id,caller_via,caller_address,"
        "claimed_dag_id,claimed_run_id,claimed_task_id,claimed_map_index,claimed_try_number,"
        "claimed_user_agent,"
        "request_method,request_host,request_path,request_query,request_operation,request_access,"
        "request_organization,request_project,request_resources,request_says,request_bytes,"
        "decision_effect,decision_role,decision_binding,decision_rule,decision_reason,"
        "decision_policy,decision_shadow,decision_break_glass,credential_name,credential_type,"
        "credential_assertion,"
        "upstream_host,upstream_status,upstream_activity_id,upstream_e2eid,upstream_attempts,"
        "upstream_ms,response_status,response_bytes,ms,run_id,run_url,"
        "trigger_key,trigger_by,trigger_state,trigger_first,event_name,event_detail,prev,hash\r\n";

void export_csv_head(struct buf *out)
{
        buf_add(out, head, sizeof(head) - 1);
}

static void who(struct row *row, const struct audit_fields *f)
{
        const struct str cells[] = {f->claimed.dag_id, f->claimed.run_id, f->claimed.task_id,
                f->claimed.map_index, f->claimed.try_number, f->claimed.user_agent};

        cell(row, f->caller.issuer);
        cell(row, f->caller.subject);
        list(row, f->caller.roles, f->caller.n_roles);
        cell(row, f->caller.token_id);
        cell(row, f->caller.via);
        cell(row, f->caller.address);
        for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
                cell(row, cells[i]);
}

static void what(struct row *row, const struct audit_line *line)
{
        static const struct str effects[] = {{"", 0}, {"allow", 5}, {"deny", 4}, {"error", 5}};
        const struct audit_fields *f = &line->fields;
        const struct str request[] = {f->request.method, f->request.host, f->request.path,
                line->query, f->request.operation, f->request.access, f->request.organization,
                f->request.project};
        const struct str decision[] = {effects[f->decision.effect], f->decision.role,
                f->decision.binding, f->decision.rule, f->decision.reason, f->decision.policy,
                f->decision.shadow, line->fields.decision.break_glass, f->credential.name,
                f->credential.type, f->credential.assertion};

        for (size_t i = 0; i < sizeof(request) / sizeof(request[0]); i++)
                cell(row, request[i]);
        pairs(row, f->request.resources, f->request.n_resources, STR(":"));
        list(row, f->request.says, f->request.n_says);
        number(row, f->kind == AUDIT_OUTCOME && f->request.method.len, f->request.bytes);
        for (size_t i = 0; i < sizeof(decision) / sizeof(decision[0]); i++)
                cell(row, decision[i]);
}

static void answer(struct row *row, const struct audit_fields *f)
{
        cell(row, f->upstream.host);
        number(row, f->upstream.status > 0, (uint64_t)f->upstream.status);
        cell(row, f->upstream.activity_id);
        cell(row, f->upstream.e2eid);
        number(row, f->upstream.attempts > 0, f->upstream.attempts);
        duration(row, f->upstream.attempts > 0, f->upstream.duration_us);
        number(row, f->response.status > 0, (uint64_t)f->response.status);
        number(row, f->response.status > 0, f->response.bytes);
        duration(row, f->kind == AUDIT_OUTCOME, f->duration_us);
        cell(row, f->run.id);
        cell(row, f->run.url);
        cell(row, f->trigger.key);
        cell(row, f->trigger.by);
        cell(row, f->trigger.state);
        cell(row, f->trigger.first);
        cell(row, f->event.name);
        pairs(row, f->event.detail, f->event.n_detail, STR("="));
}

void export_csv(struct buf *out, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;
        static struct row row;

        row.out = out;
        row.more = false;
        number(&row, true, line->seq);
        cell(&row, line->time);
        cell(&row, audit_kind_names[f->kind]);
        cell(&row, f->request_id);
        cell(&row, f->correlation_id);
        cell(&row, f->traceparent);
        who(&row, f);
        what(&row, line);
        answer(&row, f);
        cell(&row, line->prev);
        cell(&row, line->hash);
        BUF_LITERAL(out, "\r\n");
}
