/*
 * audit_report: what `dagward audit report` learns from a log, in bounded memory, and the page
 * that it writes of it.
 */
#ifndef DAGWARD_PROXY_AUDIT_REPORT_H
#define DAGWARD_PROXY_AUDIT_REPORT_H

#include "audit_tally.h"
#include "dagward/audit/read.h"
#include "dagward/audit/verify.h"
#include "policy_usage.h"

enum {
        REPORT_ACCESSES = 6, /* read write execute manage delete, and unknown */
        REPORT_BUCKETS = 64 * 16,
        REPORT_GLASS_MOST = 500,
        REPORT_USES_MOST = 20000,
};

/* Durations in microseconds: 16 buckets for each power of two, so 6 % apart. */
struct histogram {
        uint64_t counts[REPORT_BUCKETS];
        uint64_t n, most_us;
};
void histogram_add(struct histogram *histogram, int64_t us);
/* In microseconds; 0 when there is nothing. `part`: 0.99. */
uint64_t histogram_at(const struct histogram *histogram, double part);

struct hour {
        uint64_t allowed, denied, failed;
};

/* One use of a break-glass binding; texts are owned. */
struct glass {
        int64_t time_ms;
        struct str caller, operation, resources, reason, binding, correlation;
};

struct audit_report {
        const char *const *files;
        size_t n_files;
        int64_t since_ms, until_ms, compare_ms; /* INT64_MIN, INT64_MAX, INT64_MIN: not given */

        uint64_t records, requests, intents, events, damaged, outside; /* outside the period */
        uint64_t allowed, denied, failed, runs, open_intents;
        int64_t first_ms, last_ms;

        struct tally callers;        /* issuer, subject, operation */
        struct tally who;            /* issuer, subject */
        struct tally denials;        /* rule, reason */
        struct tally authentication; /* reason, address, issuer */
        struct tally dags;           /* DAG, task; extra: runs, sum_us: all of their time */
        struct tally life;           /* event, what it is about, the rest */
        struct tally shadow;         /* what it says, operation */

        struct hour *hours; /* from first_hour on */
        size_t n_hours;
        int64_t first_hour;
        uint64_t hours_left_out;
        struct histogram whole[REPORT_ACCESSES], own; /* own: without upstream's time */

        struct glass glass[REPORT_GLASS_MOST];
        size_t n_glass;
        uint64_t glass_all;

        struct policy_usage *usage; /* NULL: neither a policy nor a time to compare was given */
        bool has_policy;
        struct past_reader *past;
        struct past_counts past_counts;
        uint64_t uses_left_out;

        struct verify verify;
        struct intents *started; /* intents whose outcome has not come */
        struct arena arena;
};

void audit_report_init(struct audit_report *report);
void audit_report_clear(struct audit_report *report);
/* One line of a log. */
void audit_report_add(struct audit_report *report, struct str line);
/* All lines were there. */
void audit_report_end(struct audit_report *report);

/* The page. */
void audit_report_page(struct audit_report *report, struct buf *out);
/* Its pictures: requests per hour, and how long they took. */
void report_plot_hours(const struct audit_report *report, struct buf *out);
void report_plot_latency(const struct audit_report *report, struct buf *out);

#endif
