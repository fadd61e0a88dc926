/*
 * Open Cybersecurity Schema Framework 1.3.0: API Activity (class 6003) with the profile
 * security_control, and Base Event (class 0).
 */
#include "audit_export.h"
#include "dagward/base/report.h"

enum { API_ACTIVITY = 6003, CREATE = 1, READ = 2, UPDATE = 3, DELETE = 4, OTHER = 99 };

/* --- members --- */

static void comma(struct buf *out)
{
        char last = out->len ? out->data[out->len - 1] : '{';

        if (last != '{' && last != '[')
                buf_char(out, ',');
}

static void begin(struct buf *out, const char *name)
{
        comma(out);
        buf_json_str(out, str_of(name));
        BUF_LITERAL(out, ":{");
}

static void end(struct buf *out)
{
        buf_char(out, '}');
}

/* Only where there is something. */
static void text(struct buf *out, const char *name, struct str value)
{
        if (value.len)
                report_member(out, name, value);
}

/* --- what a request is --- */

static int activity_of(const struct audit_fields *f)
{
        struct str access = f->request.access, method = f->request.method;
        bool post = str_eq(method, STR("POST"));

        if (str_eq(access, STR("read")))
                return READ;
        if (str_eq(access, STR("delete")))
                return DELETE;
        if (str_eq(access, STR("write")))
                return post ? CREATE : UPDATE;
        if (str_eq(access, STR("manage")))
                return UPDATE;
        if (access.len)
                return OTHER;
        if (post)
                return CREATE;
        if (str_eq(method, STR("GET")) || str_eq(method, STR("HEAD")) ||
                str_eq(method, STR("OPTIONS")))
                return READ;
        if (str_eq(method, STR("PUT")) || str_eq(method, STR("PATCH")))
                return UPDATE;
        return str_eq(method, STR("DELETE")) ? DELETE : OTHER;
}

static const char *activity_name(int activity, struct str access)
{
        switch (activity) {
        case CREATE: return "Create";
        case READ: return "Read";
        case UPDATE: return "Update";
        case DELETE: return "Delete";
        default: return str_eq(access, STR("execute")) ? "Execute" : "Other";
        }
}

static void class(struct buf *out, unsigned class_uid, const char *name, int activity)
{
        report_count(out, "class_uid", class_uid);
        report_member(out, "class_name", str_of(name));
        report_count(out, "category_uid", class_uid / 1000);
        report_member(out, "category_name",
                class_uid ? STR("Application Activity") : STR("Uncategorized"));
        report_count(out, "activity_id", (uint64_t)activity);
        report_count(out, "type_uid", class_uid * 100 + (uint64_t)activity);
}

static void metadata(struct buf *out, const struct audit_line *line, bool control)
{
        const struct audit_fields *f = &line->fields;

        begin(out, "metadata");
        report_member(out, "version", STR("1.3.0"));
        begin(out, "product");
        report_member(out, "name", STR("Dagward"));
        report_member(out, "vendor_name", STR("Dagward"));
        report_member(out, "version", STR(DAGWARD_VERSION));
        end(out);
        if (control)
                BUF_LITERAL(out, ",\"profiles\":[\"security_control\"]");
        report_member(out, "log_name", STR("audit"));
        report_count(out, "sequence", line->seq);
        report_member(out, "original_time", line->time);
        text(out, "uid", line->hash);
        text(out, "correlation_uid", f->correlation_id);
        end(out);
}

static void severity(struct buf *out, const struct audit_line *line)
{
        static const char *const names[] = {"Unknown", "Informational", "Low", "Medium", "High"};
        enum audit_effect effect = line->fields.decision.effect;
        unsigned id = line->fields.decision.break_glass.len                      ? 4
                      : effect == AUDIT_ERROR                                    ? 3
                      : effect == AUDIT_DENY                                     ? 2
                      : str_ends(line->fields.event.name, STR("failed"))         ? 3
                      : str_eq(line->fields.event.name, STR("break_glass.used")) ? 4
                                                                                 : 1;

        report_count(out, "severity_id", id);
        report_member(out, "severity", str_of(names[id]));
}

/* An intent is not known to have gone well or not. */
static void status(struct buf *out, const struct audit_fields *f)
{
        bool known = f->kind == AUDIT_OUTCOME, good = f->decision.effect == AUDIT_ALLOW;

        report_count(out, "status_id", !known ? 0 : good ? 1 : 2);
        report_member(out, "status",
                !known ? STR("Unknown")
                : good ? STR("Success")
                       : STR("Failure"));
        if (f->response.status) {
                comma(out);
                buf_printf(out, "\"status_code\":\"%d\"", f->response.status);
        }
        text(out, "status_detail", f->decision.reason);
}

/* What the policy said; what failed later had been allowed. */
static void control(struct buf *out, const struct audit_fields *f)
{
        bool denied = f->decision.effect == AUDIT_DENY, none = audit_failed_unjudged(f);

        report_count(out, "action_id", none ? 0 : denied ? 2 : 1);
        report_member(out, "action",
                none     ? STR("Unknown")
                : denied ? STR("Denied")
                         : STR("Allowed"));
        report_count(out, "disposition_id", none ? 0 : denied ? 2 : 1);
        report_member(out, "disposition",
                none     ? STR("Unknown")
                : denied ? STR("Blocked")
                         : STR("Allowed"));
}

static void authorization(struct buf *out, const struct audit_fields *f)
{
        bool denied = f->decision.effect == AUDIT_DENY;

        BUF_LITERAL(out, ",\"authorizations\":[{");
        report_member(out, "decision", denied ? STR("deny") : STR("allow"));
        begin(out, "policy");
        report_member(out, "name", f->decision.rule.len ? f->decision.rule : STR("default"));
        text(out, "uid", f->decision.policy);
        end(out);
        BUF_LITERAL(out, "}]");
}

static void actor(struct buf *out, const struct audit_fields *f)
{
        begin(out, "actor");
        begin(out, "user");
        report_member(out, "name", f->caller.subject.len ? f->caller.subject : STR("unknown"));
        if (f->caller.n_roles) {
                BUF_LITERAL(out, ",\"groups\":[");
                for (size_t i = 0; i < f->caller.n_roles; i++) {
                        comma(out);
                        buf_char(out, '{');
                        report_member(out, "name", f->caller.roles[i]);
                        end(out);
                }
                buf_char(out, ']');
        }
        end(out);
        if (f->caller.token_id.len || f->caller.issuer.len) {
                begin(out, "session");
                text(out, "uid", f->caller.token_id);
                text(out, "issuer", f->caller.issuer);
                end(out);
        }
        if (f->caller.issuer.len) {
                begin(out, "idp");
                report_member(out, "name", f->caller.issuer);
                end(out);
        }
        if (f->decision.effect != AUDIT_UNDECIDED && !audit_failed_unjudged(f))
                authorization(out, f);
        end(out);
}

static void api(struct buf *out, const struct audit_fields *f)
{
        begin(out, "api");
        report_member(out, "operation",
                f->request.operation.len ? f->request.operation : f->request.method);
        begin(out, "service");
        report_member(out, "name", f->request.host.len ? f->request.host : STR("unknown"));
        end(out);
        begin(out, "request");
        report_member(out, "uid", f->request_id);
        end(out);
        if (f->response.status) {
                begin(out, "response");
                report_count(out, "code", (uint64_t)f->response.status);
                end(out);
        }
        end(out);
}

static void http(struct buf *out, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;

        begin(out, "http_request");
        text(out, "http_method", f->request.method);
        text(out, "user_agent", f->claimed.user_agent);
        text(out, "uid", f->request_id);
        report_count(out, "length", f->request.bytes);
        begin(out, "url");
        text(out, "hostname", f->request.host);
        text(out, "path", f->request.path);
        text(out, "query_string", line->query);
        end(out);
        end(out);
        if (f->response.status) {
                begin(out, "http_response");
                report_count(out, "code", (uint64_t)f->response.status);
                report_count(out, "length", f->response.bytes);
                end(out);
        }
        begin(out, "src_endpoint");
        if (f->caller.address.len)
                report_member(out, "ip", f->caller.address);
        else
                report_member(out, "name", STR("unknown"));
        end(out);
        if (f->upstream.host.len) {
                begin(out, "dst_endpoint");
                report_member(out, "hostname", f->upstream.host);
                end(out);
        }
}

static void resources(struct buf *out, const struct audit_fields *f)
{
        if (!f->request.n_resources)
                return;
        BUF_LITERAL(out, ",\"resources\":[");
        for (size_t i = 0; i < f->request.n_resources; i++) {
                comma(out);
                buf_char(out, '{');
                report_member(out, "type", f->request.resources[i].name);
                report_member(out, "name", f->request.resources[i].value);
                end(out);
        }
        buf_char(out, ']');
}

/* Of an event: the request it is about, and its details. */
static void unmapped_event(struct buf *out, const struct audit_fields *f)
{
        if (f->kind != AUDIT_EVENT)
                return;
        text(out, "request_id", f->request_id);
        text(out, "caller.issuer", f->caller.issuer);
        text(out, "caller.subject", f->caller.subject);
        text(out, "request.operation", f->request.operation);
        text(out, "decision.rule", f->decision.rule);
        for (size_t i = 0; i < f->event.n_detail; i++) {
                char name[96];
                struct buf joined;
                buf_init_fixed(&joined, name, sizeof(name) - 1);
                buf_printf(&joined, "event.%.*s", STR_FMT(f->event.detail[i].name));
                name[joined.len] = '\0';
                if (!joined.overflow)
                        report_member(out, name, f->event.detail[i].value);
        }
}

/* What OCSF has no place for, under the names of the record. */
static void unmapped(struct buf *out, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;

        begin(out, "unmapped");
        report_member(out, "kind", audit_kind_names[f->kind]);
        text(out, "traceparent", f->traceparent);
        unmapped_event(out, f);
        text(out, "caller.via", f->caller.via);
        text(out, "claimed.dag_id", f->claimed.dag_id);
        text(out, "claimed.run_id", f->claimed.run_id);
        text(out, "claimed.task_id", f->claimed.task_id);
        text(out, "claimed.map_index", f->claimed.map_index);
        text(out, "claimed.try_number", f->claimed.try_number);
        text(out, "request.access", f->request.access);
        text(out, "request.organization", f->request.organization);
        text(out, "request.project", f->request.project);
        if (f->request.n_says) {
                BUF_LITERAL(out, ",\"request.says\":[");
                for (size_t i = 0; i < f->request.n_says; i++) {
                        comma(out);
                        buf_json_str(out, f->request.says[i]);
                }
                buf_char(out, ']');
        }
        text(out, "decision.role", f->decision.role);
        text(out, "decision.binding", f->decision.binding);
        text(out, "decision.shadow", f->decision.shadow);
        text(out, "decision.break_glass", line->fields.decision.break_glass);
        text(out, "credential.name", f->credential.name);
        text(out, "credential.type", f->credential.type);
        text(out, "credential.assertion", f->credential.assertion);
        if (f->upstream.status)
                report_count(out, "upstream.status", (uint64_t)f->upstream.status);
        text(out, "upstream.activity_id", f->upstream.activity_id);
        text(out, "upstream.e2eid", f->upstream.e2eid);
        if (f->upstream.attempts) {
                report_count(out, "upstream.attempts", f->upstream.attempts);
                comma(out);
                buf_printf(out, "\"upstream.ms\":%lld.%03lld",
                        (long long)(f->upstream.duration_us / 1000),
                        (long long)(f->upstream.duration_us % 1000));
        }
        text(out, "run.id", f->run.id);
        text(out, "run.url", f->run.url);
        text(out, "trigger.key", f->trigger.key);
        text(out, "trigger.by", f->trigger.by);
        text(out, "trigger.state", f->trigger.state);
        text(out, "trigger.first", f->trigger.first);
        text(out, "prev", line->prev);
        text(out, "hash", line->hash);
        end(out);
}

void export_ocsf(struct buf *out, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;
        bool event = f->kind == AUDIT_EVENT;
        int activity = event ? OTHER : activity_of(f);

        buf_char(out, '{');
        class(out, event ? 0 : API_ACTIVITY, event ? "Base Event" : "API Activity", activity);
        report_member(out, "activity_name",
                event ? f->event.name : str_of(activity_name(activity, f->request.access)));
        /* No record of ours is older; OCSF counts from 1970 on. */
        report_count(out, "time", f->time_ms > 0 ? (uint64_t)f->time_ms : 0);
        severity(out, line);
        metadata(out, line, !event);
        if (event) {
                report_member(out, "message", f->event.name);
        } else {
                if (f->kind == AUDIT_OUTCOME)
                        report_count(out, "duration", (uint64_t)(f->duration_us / 1000));
                status(out, f);
                control(out, f);
                actor(out, f);
                api(out, f);
                http(out, line);
                resources(out, f);
        }
        unmapped(out, line);
        BUF_LITERAL(out, "}\n");
}
