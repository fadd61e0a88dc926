/*
 * The report's page, section by section.
 */
#include <stdio.h>

#include "audit_html.h"
#include "audit_report.h"
#include "dagward/base/clock.h"

enum { ROWS_SHOWN = 200 };

static const struct str unknown = {"(none)", 6};

/* Rows that are not shown, and things that were not even counted apart. */
static void rest(struct buf *out, size_t rows, uint64_t left_out)
{
        if (rows > ROWS_SHOWN) {
                HTML(out, "<p class=\"soft\">");
                html_count(out, rows - ROWS_SHOWN);
                HTML(out, " more rows are behind these and not shown.</p>\n");
        }
        if (left_out) {
                HTML(out, "<p class=\"soft\">");
                html_count(out, left_out);
                HTML(out, " records are not in this table: it has room for so many different rows "
                          "only, and these came later.</p>\n");
        }
}

static size_t shown(const struct tally *tally)
{
        return tally->n < ROWS_SHOWN ? tally->n : ROWS_SHOWN;
}

static void section_begin(struct buf *out, const char *id, const char *title)
{
        HTML(out, "<section id=\"");
        html_text(out, str_of(id));
        HTML(out, "\"><h2>");
        html_text(out, str_of(title));
        HTML(out, "</h2>\n");
}

static void section_end(struct buf *out)
{
        HTML(out, "</section>\n");
}

static void empty(struct buf *out, const char *text)
{
        HTML(out, "<p class=\"soft\">");
        html_text(out, str_of(text));
        HTML(out, "</p>\n");
}

/* --- the head --- */

static void tile(struct buf *out, const char *label, uint64_t value, const char *class)
{
        HTML(out, "<div><dt>");
        html_text(out, str_of(label));
        HTML(out, "</dt><dd class=\"");
        html_text(out, str_of(value ? class : ""));
        HTML(out, "\">");
        html_count(out, value);
        HTML(out, "</dd></div>\n");
}

static void tiles(const struct audit_report *r, struct buf *out)
{
        HTML(out, "<dl class=\"tiles\">\n");
        tile(out, "Requests", r->requests, "");
        tile(out, "Allowed", r->allowed, "allow");
        tile(out, "Denied", r->denied, "deny");
        tile(out, "Failed", r->failed, "fail");
        tile(out, "Callers", r->who.n, "");
        tile(out, "Runs started", r->runs, "");
        tile(out, "Break-glass uses", r->glass_all, "deny");
        tile(out, "Intents without outcome", r->open_intents, "fail");
        HTML(out, "</dl>\n");
}

static void chain_state(const struct audit_report *r, struct buf *out)
{
        const struct verify *v = &r->verify;
        bool good = verify_good(v) && v->records > 0;

        if (good)
                HTML(out, "<div class=\"state\"><p><strong>The chain is whole.</strong> ");
        else
                HTML(out, "<div class=\"state bad\" role=\"alert\"><p><strong>The chain is not "
                          "whole: do not rely on what this page says.</strong> ");
        if (!verify_good(v)) {
                HTML(out, "<code>");
                html_text(out, str_of(v->first.file));
                HTML(out, ":");
                buf_u64(out, v->first.line);
                HTML(out, "</code> ");
                html_text(out, str_of(verify_fault_name(v->first.fault)));
                HTML(out, ": ");
                html_text(out, str_of(v->first.text));
                HTML(out, ". ");
        }
        html_count(out, v->records);
        HTML(out, " records fit together, seq ");
        html_count(out, v->first_seq);
        HTML(out, " to ");
        html_count(out, v->head.seq);
        HTML(out, ".</p>\n<p class=\"soft\">Hash of the last one: <code>");
        html_text(out, str_of(v->head.hash));
        HTML(out, "</code>");
        if (v->first_seq > 1)
                HTML(out, " The chain begins before these files.");
        if (v->checkpoints) {
                HTML(out, " Signed up to seq ");
                html_count(out, v->signed_seq);
                if (v->pinned)
                        HTML(out, ", verified with the public key that was given.");
                else
                        HTML(out, ", by the key that the files themselves name: <code>--key</code> "
                                  "checks whose it is.");
        }
        HTML(out, "</p></div>\n");
}

static void period(const struct audit_report *r, struct buf *out)
{
        if (r->records) {
                html_time(out, r->first_ms);
                HTML(out, " to ");
                html_time(out, r->last_ms);
                HTML(out, " UTC");
        } else {
                HTML(out, "No record in this period");
        }
        if (r->outside) {
                HTML(out, "; ");
                html_count(out, r->outside);
                HTML(out, " records before or behind that period were passed over");
        }
}

static void head(const struct audit_report *r, struct buf *out)
{
        HTML(out, "<header><h1>Audit report</h1>\n<p class=\"soft\">");
        period(r, out);
        HTML(out, ".</p>\n");
        chain_state(r, out);
        tiles(r, out);
        HTML(out, "</header>\n<nav aria-label=\"Sections\"><ul>"
                  "<li><a href=\"#traffic\">Traffic</a></li>"
                  "<li><a href=\"#who\">Who did what</a></li>"
                  "<li><a href=\"#denials\">Denials</a></li>"
                  "<li><a href=\"#authentication\">Authentication</a></li>"
                  "<li><a href=\"#glass\">Break-glass</a></li>"
                  "<li><a href=\"#rights\">Unused rights</a></li>"
                  "<li><a href=\"#drift\">Drift</a></li>"
                  "<li><a href=\"#dags\">DAGs</a></li>"
                  "<li><a href=\"#life\">Life cycle</a></li>"
                  "<li><a href=\"#about\">About</a></li></ul></nav>\n<main id=\"main\">\n");
}

/* --- sections --- */

static void traffic(const struct audit_report *r, struct buf *out)
{
        section_begin(out, "traffic", "Traffic");
        if (r->requests) {
                report_plot_hours(r, out);
                report_plot_latency(r, out);
        } else {
                empty(out, "No requests.");
        }
        if (r->hours_left_out) {
                html_count(out, r->hours_left_out);
                HTML(out, " requests are too far from the others in time to be drawn.\n");
        }
        section_end(out);
}

static void effects(struct buf *out, const struct html_column *columns, const struct tally_row *row)
{
        html_cell_count(out, &columns[0], row->n);
        html_cell_count(out, &columns[1], row->allowed);
        html_cell_count(out, &columns[2], row->denied);
        html_cell_count(out, &columns[3], row->failed);
}

static void caller(struct buf *out, const struct html_column *column, const struct tally_row *row)
{
        html_cell_begin(out, column);
        HTML(out, "<span>");
        html_text(out, row->parts[1].len ? row->parts[1] : unknown);
        HTML(out, "<small>");
        html_text(out, row->parts[0]);
        HTML(out, "</small></span>");
        html_cell_end(out);
}

static void who(const struct audit_report *r, struct buf *out)
{
        static const struct html_column columns[] = {{"Caller, issuer", false},
                {"Operation", false}, {"Requests", true}, {"Allowed", true}, {"Denied", true},
                {"Failed", true}, {"Last", false}};

        section_begin(out, "who", "Who did what");
        HTML(out, "<p>Callers are named by the verified subject of their token and the issuer that "
                  "vouched for it.</p>\n");
        if (!r->callers.n)
                empty(out, "Nobody was identified.");
        else
                html_table_begin(
                        out, STR("Callers and operations, the most frequent first"), columns, 7);
        for (size_t i = 0; i < shown(&r->callers); i++) {
                const struct tally_row *row = &r->callers.rows[i];
                HTML(out, "<tr>");
                caller(out, &columns[0], row);
                html_cell_code(out, &columns[1], row->parts[2]);
                effects(out, &columns[2], row);
                html_cell_time(out, &columns[6], row->last_ms);
                HTML(out, "</tr>\n");
        }
        if (r->callers.n)
                html_table_end(out);
        rest(out, r->callers.n, r->callers.left_out);
        section_end(out);
}

static void two_texts(struct buf *out, const struct tally *tally, struct str caption,
        const struct html_column *columns)
{
        if (!tally->n)
                return;
        html_table_begin(out, caption, columns, 5);
        for (size_t i = 0; i < shown(tally); i++) {
                const struct tally_row *row = &tally->rows[i];
                HTML(out, "<tr>");
                html_cell_code(out, &columns[0], row->parts[0]);
                html_cell_text(out, &columns[1], row->parts[1]);
                html_cell_count(out, &columns[2], row->n);
                html_cell_time(out, &columns[3], row->first_ms);
                html_cell_time(out, &columns[4], row->last_ms);
                HTML(out, "</tr>\n");
        }
        html_table_end(out);
        rest(out, tally->n, tally->left_out);
}

static void denials(const struct audit_report *r, struct buf *out)
{
        static const struct html_column columns[] = {{"Rule", false}, {"Reason", false},
                {"Times", true}, {"First", false}, {"Last", false}};
        static const struct html_column shadow[] = {{"Shadow policy says", false},
                {"Operation", false}, {"Times", true}, {"First", false}, {"Last", false}};

        section_begin(out, "denials", "Denials");
        HTML(out, "<p>Requests of known callers that were refused. Without a rule, nothing allows "
                  "them.</p>\n");
        if (!r->denials.n)
                empty(out, "None.");
        two_texts(out, &r->denials, STR("By rule and reason"), columns);
        if (r->shadow.n) {
                HTML(out, "<h3>Where the shadow policy disagrees</h3>\n");
                two_texts(out, &r->shadow, STR("What a change to it would do"), shadow);
        }
        section_end(out);
}

static void authentication(const struct audit_report *r, struct buf *out)
{
        static const struct html_column columns[] = {{"Reason", false}, {"Address", false},
                {"Issuer", false}, {"Times", true}, {"First", false}, {"Last", false}};

        section_begin(out, "authentication", "Authentication");
        HTML(out, "<p>Refused before anybody was known: no token, one that is expired or not "
                  "genuine, or a request that is malformed.</p>\n");
        if (!r->authentication.n)
                empty(out, "None.");
        else
                html_table_begin(out, STR("By reason and network address"), columns, 6);
        for (size_t i = 0; i < shown(&r->authentication); i++) {
                const struct tally_row *row = &r->authentication.rows[i];
                HTML(out, "<tr>");
                html_cell_text(out, &columns[0], row->parts[0]);
                html_cell_code(out, &columns[1], row->parts[1]);
                html_cell_text(out, &columns[2], row->parts[2].len ? row->parts[2] : unknown);
                html_cell_count(out, &columns[3], row->n);
                html_cell_time(out, &columns[4], row->first_ms);
                html_cell_time(out, &columns[5], row->last_ms);
                HTML(out, "</tr>\n");
        }
        if (r->authentication.n)
                html_table_end(out);
        rest(out, r->authentication.n, r->authentication.left_out);
        section_end(out);
}

static void glass(const struct audit_report *r, struct buf *out)
{
        static const struct html_column columns[] = {{"Time", false}, {"Caller", false},
                {"Operation", false}, {"On", false}, {"Reason given", false}, {"Binding", false},
                {"Correlation", false}};

        section_begin(out, "glass", "Break-glass");
        if (!r->n_glass)
                empty(out, "Nobody broke the glass.");
        else
                html_table_begin(
                        out, STR("Requests that only a break-glass binding allowed"), columns, 7);
        for (size_t i = 0; i < r->n_glass; i++) {
                const struct glass *one =
                        &r->glass[(r->glass_all - r->n_glass + i) % REPORT_GLASS_MOST];
                HTML(out, "<tr>");
                html_cell_time(out, &columns[0], one->time_ms);
                html_cell_text(out, &columns[1], one->caller);
                html_cell_code(out, &columns[2], one->operation);
                html_cell_text(out, &columns[3], one->resources);
                html_cell_text(out, &columns[4], one->reason);
                html_cell_text(out, &columns[5], one->binding);
                html_cell_code(out, &columns[6], one->correlation);
                HTML(out, "</tr>\n");
        }
        if (r->n_glass)
                html_table_end(out);
        if (r->glass_all > r->n_glass) {
                HTML(out, "<p class=\"soft\">");
                html_count(out, r->glass_all - r->n_glass);
                HTML(out, " earlier uses are not in this table.</p>\n");
        }
        section_end(out);
}

static const struct html_column right_columns[] = {
        {"Role", false}, {"Rule", false}, {"Grants", false}, {"Only", false}, {"Use", false}};

static void add_unused(void *owner, const struct policy_right *right, size_t used)
{
        struct buf *out = owner;
        char text[80];

        policy_usage_text(right, used, text, sizeof(text));
        HTML(out, "<tr>");
        html_cell_text(out, &right_columns[0], right->role);
        html_cell_code(out, &right_columns[1], right->rule);
        html_cell_text(out, &right_columns[2], right->what);
        html_cell_text(out, &right_columns[3], right->limits);
        html_cell_text(out, &right_columns[4], str_of(text));
        HTML(out, "</tr>\n");
}

static void rights(const struct audit_report *r, struct buf *out)
{
        struct buf rows;

        section_begin(out, "rights", "Unused rights");
        HTML(out, "<p>What roles allow and nobody used in this period, as the policy stands "
                  "today.</p>\n");
        buf_init(&rows, 64 << 20);
        if (r->has_policy)
                policy_usage_unused(r->usage, add_unused, &rows);
        if (!r->has_policy) {
                empty(out, "No policy was given: see --policy and --config.");
        } else if (!rows.len) {
                empty(out, "Every right was used.");
        } else {
                html_table_begin(
                        out, STR("Entries that allow more than was used"), right_columns, 5);
                buf_str_add(out, buf_str(&rows));
                html_table_end(out);
        }
        buf_clear(&rows);
        section_end(out);
}

struct drift_rows {
        struct buf out;
        size_t n;
        const struct html_column *columns;
};

static void add_drift(void *owner, struct str use, struct str time)
{
        struct drift_rows *rows = owner;

        if (rows->n++ >= ROWS_SHOWN)
                return;
        HTML(&rows->out, "<tr>");
        html_cell_text(&rows->out, &rows->columns[0], use);
        int64_t time_ms = 0;
        if (clock_parse(time, &time_ms))
                html_cell_time(&rows->out, &rows->columns[1], time_ms);
        HTML(&rows->out, "</tr>\n");
}

static void drift_table(const struct audit_report *r, struct buf *out, struct str caption,
        const struct html_column *columns,
        void (*uses)(const struct policy_usage *, policy_drift_found *, void *))
{
        struct drift_rows rows = {.columns = columns};

        buf_init(&rows.out, 64 << 20);
        uses(r->usage, add_drift, &rows);
        HTML(out, "<h3>");
        html_text(out, caption);
        HTML(out, "</h3>\n");
        if (rows.n) {
                html_table_begin(out, caption, columns, 2);
                buf_str_add(out, buf_str(&rows.out));
                html_table_end(out);
        } else {
                empty(out, "Nothing.");
        }
        rest(out, rows.n, 0);
        buf_clear(&rows.out);
}

static void drift(const struct audit_report *r, struct buf *out)
{
        static const struct html_column fresh[] = {{"Use", false}, {"First", false}};
        static const struct html_column gone[] = {{"Use", false}, {"Last", false}};

        section_begin(out, "drift", "Drift of privileges");
        if (r->compare_ms == INT64_MIN) {
                empty(out, "Nothing was compared: see --compare-since.");
                section_end(out);
                return;
        }
        HTML(out, "<p>What was used, by operation, role and resources, before and since ");
        html_time(out, r->compare_ms);
        HTML(out, " UTC.</p>\n");
        drift_table(r, out, STR("New since then"), fresh, policy_usage_new_uses);
        drift_table(r, out, STR("Not used any more"), gone, policy_usage_gone_uses);
        section_end(out);
}

static void dags(const struct audit_report *r, struct buf *out)
{
        static const struct html_column columns[] = {{"DAG", false}, {"Task", false},
                {"Requests", true}, {"Allowed", true}, {"Denied", true}, {"Failed", true},
                {"Runs started", true}, {"Mean, ms", true}, {"Last", false}};

        section_begin(out, "dags", "Busiest DAGs and tasks");
        HTML(out, "<p>As callers claim it of themselves; nobody verified these names.</p>\n");
        if (!r->dags.n)
                empty(out, "No request named a DAG.");
        else
                html_table_begin(out, STR("DAGs and their tasks"), columns, 9);
        for (size_t i = 0; i < shown(&r->dags); i++) {
                const struct tally_row *row = &r->dags.rows[i];
                char mean[40];
                snprintf(mean, sizeof(mean), "%.1f",
                        (double)row->sum_us / 1000 / (double)(row->n ? row->n : 1));
                HTML(out, "<tr>");
                html_cell_text(out, &columns[0], row->parts[0]);
                html_cell_text(out, &columns[1], row->parts[1]);
                effects(out, &columns[2], row);
                html_cell_count(out, &columns[6], row->extra);
                html_cell_text(out, &columns[7], str_of(mean));
                html_cell_time(out, &columns[8], row->last_ms);
                HTML(out, "</tr>\n");
        }
        if (r->dags.n)
                html_table_end(out);
        rest(out, r->dags.n, r->dags.left_out);
        section_end(out);
}

/* Which part of the section an event belongs to. */
enum part { CREDENTIALS, KEYS, SETTINGS, OTHERS };

static enum part part_of(struct str name)
{
        if (str_starts(name, STR("credential.")) || str_starts(name, STR("token.")))
                return CREDENTIALS;
        if (str_starts(name, STR("keys.")) || str_starts(name, STR("auth")))
                return KEYS;
        if (str_starts(name, STR("reload.")) || str_starts(name, STR("binding.")) ||
                str_starts(name, STR("process.")))
                return SETTINGS;
        return OTHERS;
}

static void life_part(
        const struct audit_report *r, struct buf *out, enum part part, struct str title)
{
        static const struct html_column columns[] = {{"Event", false}, {"About", false},
                {"What it says", false}, {"Times", true}, {"First", false}, {"Last", false}};
        size_t n = 0;

        HTML(out, "<h3>");
        html_text(out, title);
        HTML(out, "</h3>\n");
        for (size_t i = 0; i < r->life.n; i++) {
                const struct tally_row *row = &r->life.rows[i];
                if (part_of(row->parts[0]) != part)
                        continue;
                if (n++ == 0)
                        html_table_begin(out, title, columns, 6);
                if (n > ROWS_SHOWN)
                        continue;
                HTML(out, "<tr>");
                html_cell_code(out, &columns[0], row->parts[0]);
                html_cell_text(out, &columns[1], row->parts[1]);
                html_cell_text(out, &columns[2], row->parts[2]);
                html_cell_count(out, &columns[3], row->n);
                html_cell_time(out, &columns[4], row->first_ms);
                html_cell_time(out, &columns[5], row->last_ms);
                HTML(out, "</tr>\n");
        }
        if (n)
                html_table_end(out);
        else
                empty(out, "Nothing happened.");
        rest(out, n, 0);
}

static void life(const struct audit_report *r, struct buf *out)
{
        section_begin(out, "life", "Life cycle");
        life_part(r, out, CREDENTIALS, STR("Credentials"));
        life_part(r, out, KEYS, STR("Keys of issuers and authentication"));
        life_part(r, out, SETTINGS, STR("Process, configuration and policy"));
        life_part(r, out, OTHERS, STR("The log itself, and other events"));
        rest(out, 0, r->life.left_out);
        section_end(out);
}

static void about_line(struct buf *out, uint64_t n, const char *text)
{
        if (!n)
                return;
        HTML(out, "<li>");
        html_count(out, n);
        HTML(out, " ");
        html_text(out, str_of(text));
        HTML(out, "</li>\n");
}

static void about(const struct audit_report *r, struct buf *out)
{
        section_begin(out, "about", "About this report");
        HTML(out, "<ul class=\"plain\">\n");
        for (size_t i = 0; i < r->n_files; i++) {
                HTML(out, "<li><code>");
                html_text(out, str_of(r->files[i]));
                HTML(out, "</code></li>\n");
        }
        about_line(out, r->records, "records in this period");
        about_line(out, r->intents, "of them are intents");
        about_line(out, r->events, "of them are events");
        about_line(out, r->damaged, "lines are no audit record and were passed over");
        about_line(out, r->uses_left_out,
                "requests are not among rights and drift: no entry can name them, or there were "
                "too many different ones");
        HTML(out,
                "</ul>\n<p class=\"soft\">Counts of operations are of outcomes, one for each "
                "request. Failed is what was allowed and then went wrong, or what its caller left "
                "before a decision. Percentiles are within 6 %. An intent without an outcome is a "
                "request of which nobody knows how it ended.</p>\n");
        section_end(out);
}

void audit_report_page(struct audit_report *r, struct buf *out)
{
        static void (*const sections[])(const struct audit_report *, struct buf *) = {
                traffic, who, denials, authentication, glass, rights, drift, dags, life, about};
        char now[CLOCK_RFC3339_LEN + 1];

        html_begin(out, STR("Dagward audit report"));
        head(r, out);
        for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
                sections[i](r, out);
        clock_rfc3339(clock_wall_ms(), now);
        HTML(out, "</main>\n<footer>Made by Dagward ");
        html_text(out, STR(DAGWARD_VERSION));
        HTML(out, " at ");
        html_text(out, str_view(now, 19));
        HTML(out, " UTC.</footer>\n");
        html_end(out);
}
