#include "audit_story.h"

#include <stdio.h>
#include <stdlib.h>

#include "audit_index.h"

enum {
        MOST_LISTED = 20,
        ARENA_BYTES = 64 * 1024,
        ARENA_MOST = 1 << 20,
        OUT_MOST = 1 << 30,
};

/* A few different texts, in order of arrival. */
struct list {
        struct str texts[MOST_LISTED]; /* owned */
        size_t n;
        bool more;
};

struct telling {
        const struct story *story;
        struct buf out, text;
        struct arena arena;
        struct audit_line line, next; /* `next`: of the record behind, in `ahead` */
        struct arena ahead;
        struct list callers, tasks, runs, correlations;
};

static void list_add(struct list *list, struct str text)
{
        for (size_t i = 0; i < list->n; i++)
                if (str_eq(list->texts[i], text))
                        return;
        if (list->n == MOST_LISTED)
                list->more = true;
        else
                list->texts[list->n++] = str_view(str_dup(text), text.len);
}

static void list_clear(struct list *list)
{
        while (list->n)
                free((char *)list->texts[--list->n].ptr);
}

static bool read_record(struct telling *t, size_t i, struct audit_line *out, struct arena *arena)
{
        arena_reset(arena);
        return audit_line_read(t->story->records[i].line, arena, out);
}

/* --- what the story is about --- */

static void note_task(struct telling *t, const struct audit_fields *f)
{
        struct buf *out = &t->text;

        if (!f->claimed.dag_id.len)
                return;
        buf_reset(out);
        BUF_ALL(out, f->claimed.dag_id, STR(" / "), f->claimed.run_id, STR(" / "),
                f->claimed.task_id);
        if (f->claimed.map_index.len && !str_eq(f->claimed.map_index, STR("-1")))
                BUF_ALL(out, STR(" ["), f->claimed.map_index, STR("]"));
        list_add(&t->tasks, buf_str(out));
}

static void note(struct telling *t, unsigned ties)
{
        const struct audit_fields *f = &t->line.fields;
        struct buf *out = &t->text;

        note_task(t, f);
        if (f->caller.issuer.len) {
                buf_reset(out);
                BUF_ALL(out, f->caller.subject, STR(", verified by issuer "), f->caller.issuer);
                list_add(&t->callers, buf_str(out));
        }
        if (f->run.id.len) {
                buf_reset(out);
                BUF_ALL(out, f->run.id, STR(" of "), f->request.organization, STR("/"),
                        f->request.project);
                if (f->run.url.len)
                        BUF_ALL(out, STR(", "), f->run.url);
                list_add(&t->runs, buf_str(out));
        }
        /* A sensor has another one for each look at the run. */
        bool looks = !(ties & TIE_ID) && str_eq(f->request.access, STR("read"));
        if (f->correlation_id.len && !looks)
                list_add(&t->correlations, f->correlation_id);
}

/* --- one record --- */

/* What it is, in one word or two. */
static const char *role_of(const struct story_record *record, const struct audit_fields *f)
{
        if (f->kind == AUDIT_EVENT)
                return "event";
        if (f->kind == AUDIT_INTENT)
                return "intent";
        if (f->run.id.len)
                return "start";
        if (record->ties & TIE_RUN)
                return str_eq(f->request.access, STR("read")) ? "poll" : "later";
        return record->ties & TIE_ID ? "request" : "other try";
}

static void phrase(struct buf *out, const char *before, struct str value)
{
        if (!value.len)
                return;
        if (out->len)
                buf_str_add(out, STR(", "));
        BUF_ALL(out, str_of(before), value);
}

static void say_request(struct buf *out, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;

        buf_reset(out);
        BUF_ALL(out, f->request.method, STR(" "), f->request.path,
                line->query.len ? STR("?") : STR(""), line->query);
}

static void say_operation(struct buf *out, const struct audit_fields *f)
{
        buf_reset(out);
        phrase(out, "", f->request.operation);
        phrase(out, "access ", f->request.access);
        for (size_t i = 0; i < f->request.n_resources; i++)
                BUF_ALL(out, out->len ? STR(", ") : STR(""), f->request.resources[i].name, STR(":"),
                        f->request.resources[i].value);
}

static void say_decision(struct buf *out, const struct audit_line *line)
{
        static const char *const effects[] = {"", "allowed", "DENIED", "allowed, but it failed"};
        const struct audit_fields *f = &line->fields;

        buf_reset(out);
        phrase(out, "",
                audit_failed_unjudged(f) ? STR("none") : str_of(effects[f->decision.effect]));
        phrase(out, "by ", f->decision.rule);
        phrase(out, "role ", f->decision.role);
        phrase(out, "binding ", f->decision.binding);
        phrase(out, "because: ", f->decision.effect == AUDIT_ALLOW ? STR_NONE : f->decision.reason);
        phrase(out, "BREAK-GLASS, with the reason: ", line->fields.decision.break_glass);
        phrase(out, "shadow policy: ", f->decision.shadow);
}

static void say_trigger(struct buf *out, const struct audit_fields *f)
{
        buf_reset(out);
        phrase(out, "", f->trigger.state);
        phrase(out, "told apart by ", f->trigger.by);
        phrase(out, "the first request was ", f->trigger.first);
}

static void say_upstream(struct buf *out, const struct audit_fields *f)
{
        buf_reset(out);
        phrase(out, "", f->upstream.host);
        if (f->upstream.status)
                buf_printf(out, "%sanswered %d", out->len ? " " : "", f->upstream.status);
        if (f->upstream.attempts > 1)
                buf_printf(out, ", sent %u times", f->upstream.attempts);
        if (f->upstream.attempts)
                buf_printf(out, ", %.1f ms", (double)f->upstream.duration_us / 1000);
        phrase(out, "ActivityId ", f->upstream.activity_id);
}

static void say_answer(struct buf *out, const struct audit_fields *f)
{
        buf_reset(out);
        if (f->response.status)
                buf_printf(out, "%d to the caller after %.1f ms", f->response.status,
                        (double)f->duration_us / 1000);
        else if (f->kind == AUDIT_OUTCOME && f->request.method.len)
                buf_printf(
                        out, "none: the caller left after %.1f ms", (double)f->duration_us / 1000);
}

static void say_event(struct buf *out, const struct audit_fields *f)
{
        buf_reset(out);
        buf_str_add(out, f->event.name);
        for (size_t i = 0; i < f->event.n_detail; i++)
                BUF_ALL(out, i ? STR(", ") : STR(": "), f->event.detail[i].name, STR(" "),
                        f->event.detail[i].value);
}

static void say_caller(struct buf *out, const struct audit_fields *f)
{
        buf_reset(out);
        phrase(out, "", f->caller.subject);
        phrase(out, "issuer ", f->caller.issuer);
        phrase(out, "token ", f->caller.token_id);
        phrase(out, "by ", f->caller.via);
        phrase(out, "from ", f->caller.address);
}

static void say_claim(struct buf *out, const struct audit_fields *f)
{
        buf_reset(out);
        phrase(out, "dag ", f->claimed.dag_id);
        phrase(out, "run ", f->claimed.run_id);
        phrase(out, "task ", f->claimed.task_id);
        phrase(out, "try ", f->claimed.try_number);
}

/* Requests of one kind in a row, as a sensor makes them: told once. */
static bool goes_on(const struct audit_line *a, const struct audit_line *b)
{
        const struct audit_fields *f = &a->fields, *g = &b->fields;

        return f->kind == AUDIT_OUTCOME && g->kind == AUDIT_OUTCOME && !f->run.id.len &&
               !g->run.id.len && f->decision.effect == g->decision.effect &&
               f->response.status == g->response.status &&
               str_eq(f->request.method, g->request.method) &&
               str_eq(f->request.path, g->request.path) &&
               str_eq(f->caller.subject, g->caller.subject) &&
               str_eq(f->caller.issuer, g->caller.issuer) &&
               str_eq(f->claimed.task_id, g->claimed.task_id) &&
               str_eq(f->decision.rule, g->decision.rule) &&
               str_eq(f->decision.reason, g->decision.reason);
}

/* How many behind the i-th are like it; t->line is that one. `*edited`: one of them was. */
static size_t count_like(struct telling *t, size_t i, bool *edited)
{
        size_t n = 0;

        while (i + n + 1 < t->story->n && read_record(t, i + n + 1, &t->next, &t->ahead) &&
                goes_on(&t->line, &t->next)) {
                n++;
                *edited = *edited || !t->story->records[i + n].intact;
        }
        return n;
}

/* --- text --- */

static void fact(struct telling *t, const char *label)
{
        if (!t->text.len)
                return;
        buf_printf(&t->out, "    %-10s ", label);
        report_text(&t->out, buf_str(&t->text));
        buf_char(&t->out, '\n');
}

static void list_text(struct telling *t, const char *label, const struct list *list)
{
        for (size_t i = 0; i < list->n; i++) {
                buf_printf(&t->out, "%-12s ", i ? "" : label);
                report_text(&t->out, list->texts[i]);
                buf_char(&t->out, '\n');
        }
        if (list->more)
                buf_printf(&t->out, "%-12s and more\n", "");
}

static void record_text(struct telling *t, const struct story_record *record)
{
        const struct audit_fields *f = &t->line.fields;

        report_text(&t->out, t->line.time);
        buf_printf(&t->out, "  %+.3f s  %s  (seq %llu)\n",
                (double)(record->time_ms - t->story->records[0].time_ms) / 1000, role_of(record, f),
                (unsigned long long)record->seq);
        if (!record->intact)
                BUF_LITERAL(&t->out, "    EDITED     its bytes are not those that were hashed: "
                                     "do not believe it\n");
        if (f->event.name.len) {
                say_event(&t->text, f);
                fact(t, "event");
        }
        say_claim(&t->text, f);
        fact(t, "claims");
        say_caller(&t->text, f);
        fact(t, "caller");
        if (f->request.method.len) {
                say_request(&t->text, &t->line);
                fact(t, "request");
        }
        say_operation(&t->text, f);
        fact(t, "operation");
        say_decision(&t->text, &t->line);
        fact(t, "decision");
        say_trigger(&t->text, f);
        fact(t, "trigger");
        buf_reset(&t->text);
        phrase(&t->text, "", f->credential.name);
        phrase(&t->text, "type ", f->credential.type);
        fact(t, "credential");
        say_upstream(&t->text, f);
        fact(t, "upstream");
        say_answer(&t->text, f);
        fact(t, "answer");
        buf_reset(&t->text);
        phrase(&t->text, "", f->run.id);
        phrase(&t->text, "", f->run.url);
        fact(t, "run");
        buf_reset(&t->text);
        phrase(&t->text, "", f->correlation_id);
        phrase(&t->text, "request ", f->request_id);
        fact(t, "ids");
}

static void tell_text(struct telling *t)
{
        const struct story *story = t->story;

        report_text(&t->out, str_of(story->asked));
        if (!story->n) {
                BUF_LITERAL(&t->out, ": nothing found\n");
                return;
        }
        buf_printf(&t->out, ": %zu record(s)\n", story->n);
        list_text(t, "task", &t->tasks);
        if (t->tasks.n)
                buf_printf(&t->out, "%-12s (as the caller claims; nobody verified it)\n", "");
        list_text(t, "caller", &t->callers);
        list_text(t, "run", &t->runs);
        list_text(t, "correlation", &t->correlations);
        for (size_t i = 0; i < story->n; i++) {
                bool edited = false;
                if (!read_record(t, i, &t->line, &t->arena))
                        continue;
                buf_char(&t->out, '\n');
                record_text(t, &story->records[i]);
                size_t like = count_like(t, i, &edited);
                i += like;
                if (like && read_record(t, i, &t->next, &t->ahead)) {
                        buf_printf(&t->out, "    ... and %zu more like it, the last at ", like);
                        report_text(&t->out, t->next.time);
                        buf_str_add(&t->out,
                                edited ? STR("; NOT ALL OF THEM AS WRITTEN\n") : STR("\n"));
                }
        }
        if (story->left_out)
                BUF_LITERAL(&t->out, "\nThere is more than is shown: the story is too long.\n");
}

/* --- Markdown --- */

static void list_markdown(struct telling *t, const char *label, const struct list *list)
{
        for (size_t i = 0; i < list->n; i++) {
                buf_printf(&t->out, "- %s: ", label);
                report_cell(&t->out, list->texts[i]);
                buf_char(&t->out, '\n');
        }
        if (list->more)
                buf_printf(&t->out, "- %s: and more\n", label);
}

static struct str kept(struct telling *t)
{
        struct str copy = arena_copy(&t->arena, buf_str(&t->text));

        return copy.ptr ? copy : STR_NONE;
}

static void record_markdown(struct telling *t, const struct story_record *record, size_t like)
{
        const struct audit_fields *f = &t->line.fields;
        struct str what, decision, upstream, answer;
        char role[80];

        if (f->event.name.len)
                say_event(&t->text, f);
        else
                say_request(&t->text, &t->line);
        what = kept(t);
        say_decision(&t->text, &t->line);
        decision = kept(t);
        say_upstream(&t->text, f);
        upstream = kept(t);
        say_answer(&t->text, f);
        phrase(&t->text, "run ", f->run.id);
        phrase(&t->text, "trigger ", f->trigger.state);
        answer = kept(t);
        snprintf(role, sizeof(role), "%s%s", role_of(record, f), record->intact ? "" : " (EDITED)");
        if (like)
                snprintf(role + strlen(role), sizeof(role) - strlen(role), ", %zu times", like + 1);
        report_row(&t->out,
                (const struct str[]){t->line.time, str_of(role), f->request.operation, what,
                        decision, upstream, answer},
                7);
}

static void tell_markdown(struct telling *t)
{
        const struct story *story = t->story;

        BUF_LITERAL(&t->out, "## Trace of ");
        report_cell(&t->out, str_of(story->asked));
        BUF_LITERAL(&t->out, "\n\n");
        if (!story->n) {
                BUF_LITERAL(&t->out, "Nothing found.\n");
                return;
        }
        list_markdown(t, "Airflow task (claimed)", &t->tasks);
        list_markdown(t, "Caller", &t->callers);
        list_markdown(t, "Run", &t->runs);
        list_markdown(t, "Correlation", &t->correlations);
        buf_char(&t->out, '\n');
        report_heading(&t->out,
                (const char *const[]){
                        "Time", "What", "Operation", "Request", "Decision", "Upstream", "Answer"},
                7);
        for (size_t i = 0; i < story->n; i++) {
                bool edited = !story->records[i].intact;
                if (!read_record(t, i, &t->line, &t->arena))
                        continue;
                size_t like = count_like(t, i, &edited);
                struct story_record one = story->records[i];
                one.intact = !edited;
                record_markdown(t, &one, like);
                i += like;
        }
        if (story->left_out)
                BUF_LITERAL(&t->out, "\nThere is more than is shown: the story is too long.\n");
}

/* --- JSON --- */

static void list_json(struct telling *t, const char *name, const struct list *list)
{
        buf_printf(&t->out, ",\"%s\":[", name);
        for (size_t i = 0; i < list->n; i++) {
                if (i)
                        buf_char(&t->out, ',');
                buf_json_str(&t->out, list->texts[i]);
        }
        buf_char(&t->out, ']');
}

static void tell_json(struct telling *t)
{
        const struct story *story = t->story;
        struct buf *out = &t->out;

        buf_char(out, '{');
        report_member(out, "asked", str_of(story->asked));
        list_json(t, "tasks", &t->tasks);
        list_json(t, "callers", &t->callers);
        list_json(t, "runs", &t->runs);
        list_json(t, "correlations", &t->correlations);
        report_flag(out, "complete", !story->left_out);
        report_count(out, "damaged_lines", story->damaged);
        BUF_LITERAL(out, ",\"records\":[");
        for (size_t i = 0; i < story->n; i++) {
                const struct story_record *one = &story->records[i];
                if (!read_record(t, i, &t->line, &t->arena))
                        continue;
                report_object(out);
                report_member(out, "what", str_of(role_of(one, &t->line.fields)));
                report_member(out, "file", str_of(one->file));
                report_count(out, "offset", one->at);
                report_flag(out, "intact", one->intact);
                /* It was read as one JSON object, so it is one. */
                BUF_LITERAL(out, ",\"record\":");
                buf_str_add(out, one->line);
                buf_char(out, '}');
        }
        BUF_LITERAL(out, "]}\n");
}

void story_print(const struct story *story, enum report_format format)
{
        static void (*const tell[])(struct telling *) = {
                [REPORT_TEXT] = tell_text,
                [REPORT_MARKDOWN] = tell_markdown,
                [REPORT_JSON] = tell_json,
        };
        struct telling *t = calloc(1, sizeof(*t));

        if (!t)
                abort();
        t->story = story;
        buf_init(&t->out, OUT_MOST);
        buf_init(&t->text, ARENA_MOST);
        arena_init(&t->arena, ARENA_BYTES, ARENA_MOST);
        arena_init(&t->ahead, ARENA_BYTES, ARENA_MOST);
        for (size_t i = 0; i < story->n; i++)
                if (read_record(t, i, &t->line, &t->arena))
                        note(t, story->records[i].ties);
        tell[format](t);
        fwrite(t->out.data, 1, t->out.len, stdout);
        list_clear(&t->callers);
        list_clear(&t->tasks);
        list_clear(&t->runs);
        list_clear(&t->correlations);
        arena_clear(&t->arena);
        arena_clear(&t->ahead);
        buf_clear(&t->text);
        buf_clear(&t->out);
        free(t);
}
