/*
 * The report's pictures. Text stands beside the drawings, not in them, so that it keeps its size
 * when a drawing is stretched; each drawing has a title, a description, and its values in a table.
 */
#include <math.h>
#include <stdio.h>

#include "audit_html.h"
#include "audit_report.h"
#include "dagward/base/clock.h"

enum { BARS_MOST = 120, BARS_LEAST = 24, HOUR_MS = 3600 * 1000, LABELS = 5 };

struct bars {
        struct hour all[BARS_MOST];
        size_t n, drawn;     /* drawn: with empty ones behind, so that few are not broad */
        int64_t first, step; /* in hours */
        uint64_t most, top;  /* the highest bar; the end of the axis */
};

/* The next of 1, 2, 5, 10, 20, ... */
static uint64_t round_up(uint64_t value)
{
        uint64_t step = 1;

        for (;;) {
                if (value <= step)
                        return step;
                if (value <= 2 * step)
                        return 2 * step;
                if (value <= 5 * step)
                        return 5 * step;
                step *= 10;
        }
}

static uint64_t sum(const struct hour *hour)
{
        return hour->allowed + hour->denied + hour->failed;
}

static void group(const struct audit_report *r, struct bars *bars)
{
        static const int64_t steps[] = {1, 2, 3, 6, 12, 24, 48, 96, 192, 384, 768, 1536};
        size_t k = 0;

        *bars = (struct bars){0};
        do {
                bars->step = steps[k++];
                bars->first = r->first_hour / bars->step * bars->step;
        } while ((r->first_hour + (int64_t)r->n_hours - bars->first + bars->step - 1) / bars->step >
                         BARS_MOST &&
                 k < sizeof(steps) / sizeof(steps[0]));
        for (size_t i = 0; i < r->n_hours; i++) {
                size_t at = (size_t)((r->first_hour + (int64_t)i - bars->first) / bars->step);
                if (at >= BARS_MOST)
                        break;
                bars->all[at].allowed += r->hours[i].allowed;
                bars->all[at].denied += r->hours[i].denied;
                bars->all[at].failed += r->hours[i].failed;
                bars->n = at + 1;
        }
        for (size_t i = 0; i < bars->n; i++)
                if (sum(&bars->all[i]) > bars->most)
                        bars->most = sum(&bars->all[i]);
        bars->drawn = bars->n < BARS_LEAST ? BARS_LEAST : bars->n;
        bars->top = round_up(bars->most);
}

/* 2026-11-23 09:00, or the day alone. */
static void when(struct buf *out, const struct bars *bars, size_t i)
{
        char text[CLOCK_RFC3339_LEN + 1];

        clock_rfc3339((bars->first + (int64_t)i * bars->step) * HOUR_MS, text);
        html_text(out, str_view(text, 10));
        if (bars->step < 24) {
                HTML(out, " ");
                html_text(out, str_view(text + 11, 5));
        }
}

static void unit(struct buf *out, const struct bars *bars)
{
        char text[40];

        if (bars->step == 1)
                snprintf(text, sizeof(text), "hour");
        else if (bars->step < 24)
                snprintf(text, sizeof(text), "%d hours", (int)bars->step);
        else if (bars->step == 24)
                snprintf(text, sizeof(text), "day");
        else
                snprintf(text, sizeof(text), "%d days", (int)(bars->step / 24));
        html_text(out, str_of(text));
}

static double part(struct buf *out, uint64_t n, double below, const struct bars *bars, size_t i)
{
        double height = 100.0 * (double)n / (double)bars->top;

        html_number(out, (double)i * 10 + 1);
        HTML(out, "\" y=\"");
        html_number(out, 100 - below - height);
        HTML(out, "\" width=\"8\" height=\"");
        html_number(out, height);
        HTML(out, "\"/>");
        return below + height;
}

static void draw_bar(struct buf *out, const struct bars *bars, size_t i)
{
        const struct hour *hour = &bars->all[i];
        double below = 0;

        if (!sum(hour))
                return;
        HTML(out, "<g><title>");
        when(out, bars, i);
        HTML(out, ": ");
        html_count(out, hour->allowed);
        HTML(out, " allowed, ");
        html_count(out, hour->denied);
        HTML(out, " denied, ");
        html_count(out, hour->failed);
        HTML(out, " failed</title>");
        if (hour->allowed) {
                HTML(out, "<rect class=\"a\" x=\"");
                below = part(out, hour->allowed, below, bars, i);
        }
        if (hour->failed) {
                HTML(out, "<rect class=\"f\" x=\"");
                below = part(out, hour->failed, below, bars, i);
        }
        if (hour->denied) {
                HTML(out, "<rect class=\"d\" x=\"");
                (void)part(out, hour->denied, below, bars, i);
        }
        HTML(out, "</g>\n");
}

static void hours_table(struct buf *out, const struct bars *bars)
{
        static const struct html_column columns[] = {
                {"From (UTC)", false}, {"Allowed", true}, {"Denied", true}, {"Failed", true}};

        HTML(out, "<details><summary>The same as a table</summary>\n");
        html_table_begin(out, STR("Requests over time"), columns, 4);
        for (size_t i = 0; i < bars->n; i++) {
                HTML(out, "<tr>");
                html_cell_begin(out, &columns[0]);
                when(out, bars, i);
                html_cell_end(out);
                html_cell_count(out, &columns[1], bars->all[i].allowed);
                html_cell_count(out, &columns[2], bars->all[i].denied);
                html_cell_count(out, &columns[3], bars->all[i].failed);
                HTML(out, "</tr>\n");
        }
        html_table_end(out);
        HTML(out, "</details>\n");
}

static void draw_hours(struct buf *out, const struct bars *bars)
{
        HTML(out, "<svg class=\"bars\" role=\"img\" aria-labelledby=\"ht hd\" "
                  "preserveAspectRatio=\"none\" viewBox=\"0 0 ");
        html_number(out, (double)bars->drawn * 10);
        HTML(out, " 100\"><title id=\"ht\">Requests per ");
        unit(out, bars);
        HTML(out, "</title><desc id=\"hd\">Stacked bars from ");
        when(out, bars, 0);
        HTML(out, " to ");
        when(out, bars, bars->n - 1);
        HTML(out, " UTC; the highest is ");
        html_count(out, bars->most);
        HTML(out, " requests. The values stand in the table below.</desc>\n");
        HTML(out, "<path class=\"grid\" d=\"M0 .5H");
        html_number(out, (double)bars->drawn * 10);
        HTML(out, "M0 50H");
        html_number(out, (double)bars->drawn * 10);
        HTML(out, "\"/>\n");
        for (size_t i = 0; i < bars->n; i++)
                draw_bar(out, bars, i);
        HTML(out, "</svg>");
}

void report_plot_hours(const struct audit_report *r, struct buf *out)
{
        struct bars bars;

        if (!r->n_hours)
                return;
        group(r, &bars);
        HTML(out, "<figure><figcaption><strong>Requests per ");
        unit(out, &bars);
        HTML(out, "</strong><span class=\"key\">allowed</span><span class=\"key f\">failed</span>"
                  "<span class=\"key d\">denied</span></figcaption>\n<div class=\"plot\">"
                  "<div class=\"y\" aria-hidden=\"true\"><span>");
        html_count(out, bars.top);
        HTML(out, "</span><span>");
        if (bars.top % 2 == 0)
                html_count(out, bars.top / 2);
        HTML(out, "</span><span>0</span></div>\n");
        draw_hours(out, &bars);
        HTML(out, "<div class=\"x\" aria-hidden=\"true\">");
        size_t labels = bars.drawn < LABELS ? bars.drawn : LABELS;
        for (size_t i = 0; i < labels; i++) {
                HTML(out, "<span>");
                when(out, &bars, labels > 1 ? i * (bars.drawn - 1) / (labels - 1) : 0);
                HTML(out, "</span>");
        }
        HTML(out, "</div></div></figure>\n");
        hours_table(out, &bars);
}

/* --- how long it took --- */

struct scale {
        double low, high; /* decades: log10 of milliseconds */
};

static double place(const struct scale *scale, uint64_t us)
{
        double at = log10((double)(us ? us : 1) / 1000);

        at = (at - scale->low) / (scale->high - scale->low) * 100;
        return at < 0 ? 0 : at > 100 ? 100 : at;
}

static void ms(struct buf *out, const struct html_column *column, uint64_t us)
{
        char text[40];

        snprintf(text, sizeof(text), "%.1f", (double)us / 1000);
        html_cell_text(out, column, str_of(text));
}

static void draw_span(struct buf *out, const struct scale *scale, const struct histogram *h)
{
        double from = place(scale, histogram_at(h, 0.5)), to = place(scale, histogram_at(h, 0.99));

        HTML(out, "<svg class=\"span\" role=\"img\" preserveAspectRatio=\"none\" "
                  "viewBox=\"0 0 100 10\"><title>Half of them within ");
        html_number(out, (double)histogram_at(h, 0.5) / 1000);
        HTML(out, " ms, 99 % within ");
        html_number(out, (double)histogram_at(h, 0.99) / 1000);
        HTML(out, " ms</title>");
        for (int decade = (int)scale->low; decade <= (int)scale->high; decade++) {
                HTML(out, "<path class=\"b\" d=\"M");
                html_number(out, ((double)decade - scale->low) / (scale->high - scale->low) * 100);
                HTML(out, " 0V10\"/>");
        }
        HTML(out, "<rect class=\"r\" y=\"3\" height=\"4\" x=\"");
        html_number(out, from);
        HTML(out, "\" width=\"");
        html_number(out, to - from < 0.5 ? 0.5 : to - from);
        HTML(out, "\"/><path class=\"m\" d=\"M");
        html_number(out, from);
        HTML(out, " 1V9\"/></svg>");
}

static void latency_row(struct buf *out, const struct html_column *columns, const char *name,
        const struct scale *scale, const struct histogram *h)
{
        if (!h->n)
                return;
        HTML(out, "<tr>");
        html_cell_text(out, &columns[0], str_of(name));
        html_cell_count(out, &columns[1], h->n);
        ms(out, &columns[2], histogram_at(h, 0.5));
        ms(out, &columns[3], histogram_at(h, 0.9));
        ms(out, &columns[4], histogram_at(h, 0.99));
        ms(out, &columns[5], h->most_us);
        html_cell_begin(out, &columns[6]);
        draw_span(out, scale, h);
        html_cell_end(out);
        HTML(out, "</tr>\n");
}

static void widen(struct scale *scale, const struct histogram *h)
{
        if (!h->n)
                return;
        double low = floor(log10((double)(histogram_at(h, 0.5) | 1) / 1000));
        double high = ceil(log10((double)(histogram_at(h, 0.99) | 1) / 1000));
        if (low < scale->low)
                scale->low = low;
        if (high > scale->high)
                scale->high = high;
}

void report_plot_latency(const struct audit_report *r, struct buf *out)
{
        static const char *const names[REPORT_ACCESSES] = {
                "read", "write", "execute", "manage", "delete", "other"};
        static const struct html_column columns[] = {{"Access", false}, {"Requests", true},
                {"p50, ms", true}, {"p90, ms", true}, {"p99, ms", true}, {"Slowest, ms", true},
                {"p50 to p99, logarithmic", false}};
        struct scale scale = {0, 1};

        for (size_t i = 0; i < REPORT_ACCESSES; i++)
                widen(&scale, &r->whole[i]);
        widen(&scale, &r->own);
        html_table_begin(out,
                STR("How long allowed requests took, the body's transfer included. The last row is "
                    "what Dagward and the caller's connection took of it: all but Azure DevOps."),
                columns, 7);
        for (size_t i = 0; i < REPORT_ACCESSES; i++)
                latency_row(out, columns, names[i], &scale, &r->whole[i]);
        latency_row(out, columns, "without upstream", &scale, &r->own);
        html_table_end(out);
}
