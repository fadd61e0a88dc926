/*
 * monitor: calls of the Logs Ingestion API, one at a time.
 *
 * An answer says of a whole call that it was taken or not. What is refused is halved until it is
 * one record, which alone is lost; while every record is refused, each one waits longer.
 */
#include "dagward/sink/monitor.h"

#include <event2/event.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/net/fetch.h"
#include "inside.h"

enum {
        CALL_MS = 30 * 1000,
        CONNECT_MS = 5 * 1000,
        ANSWER_MOST_BYTES = 64 * 1024,
        TICK_MS = 100,
        CREDENTIAL_MS = 10 * 1000,
};

#define API_VERSION "2023-01-01"

struct upload {
        struct sink *sink;
        struct event_base *base;
        struct fetcher *fetcher;
        uint64_t reloads; /* of the sink, that the fetcher knows of */
        struct event *tick, *mail;
        struct arena arena;
        char source[256], url[1024];
        struct buf body, packed;
        size_t cap; /* of the body */
        /* what the body holds */
        uint64_t seq, records, size;
        char hash[CHAIN_HEX];
        int64_t first_ms;
        bool full;  /* there are more */
        bool done;  /* the call is */
        int status; /* 0: no answer */
        int64_t retry_after_s;
        struct error why;
        char said[200]; /* what the service said of it */
};

/* --- the body --- */

static void take(struct upload *u, const struct tail_record *record)
{
        buf_char(&u->body, u->records ? ',' : '[');
        monitor_write(&u->body, record->line, u->source, &u->arena);
        if (!u->records)
                u->first_ms = u->sink->read_ms;
        u->seq = record->seq;
        u->records++;
        u->size += record->line.len + 1;
        memset(u->hash, '0', CHAIN_HEX);
        if (record->hash.len)
                memcpy(u->hash, record->hash.ptr, CHAIN_HEX);
}

/* Takes the record in unless that makes the call too large; one alone never does. */
static bool fits(struct upload *u, const struct tail_record *record)
{
        size_t before = u->body.len;
        struct upload was = *u;

        int64_t apart = u->sink->read_ms - u->first_ms;
        if (u->records && (apart > MONITOR_SPAN_MS || apart < -MONITOR_SPAN_MS))
                return false;
        take(u, record);
        if (was.records == 0 || u->body.len + 1 <= u->cap)
                return true;
        u->body.len = before;
        u->seq = was.seq;
        u->records = was.records;
        u->size = was.size;
        memcpy(u->hash, was.hash, CHAIN_HEX);
        return false;
}

/* False: there is nothing to send now. */
static bool gather(struct upload *u)
{
        struct tail_record record;

        buf_reset(&u->body);
        u->records = u->size = 0;
        u->full = false;
        while (sink_next(u->sink, &record)) {
                if (fits(u, &record))
                        continue;
                tail_back(u->sink->tail);
                u->full = true;
                break;
        }
        if (u->records)
                buf_char(&u->body, ']');
        return u->records > 0;
}

/* --- one call --- */

/* `error.code` and `error.message` of a refusal, as far as they are printable. */
static void read_refusal(struct upload *u, struct str body)
{
        json_t *json = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
        const json_t *error = json_object_get(json, "error");
        const char *code = json_string_value(json_object_get(error, "code"));
        const char *message = json_string_value(json_object_get(error, "message"));

        snprintf(u->said, sizeof(u->said), "%s%s%s", code ? code : "", code && message ? ": " : "",
                message ? message : "");
        for (char *c = u->said; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
        json_decref(json);
}

static void answered(const struct fetch_result *result, void *owner)
{
        struct upload *u = owner;

        u->done = true;
        u->status = result->answered ? result->status : 0;
        u->retry_after_s = result->retry_after_s;
        u->why = result->error;
        u->said[0] = '\0';
        if (result->body.len)
                read_refusal(u, result->body);
}

static void on_tick(evutil_socket_t fd, short what, void *owner)
{
        struct upload *u = owner;

        (void)fd;
        (void)what;
        sink_attend(u->sink);
}

static void follow_reload(struct upload *u)
{
        if (u->reloads == u->sink->reloads)
                return;
        u->reloads = u->sink->reloads;
        fetcher_set_egress(u->fetcher, u->sink->egress);
        fetcher_forget(u->fetcher);
}

/* False: the time is over. */
static bool call(struct upload *u, struct error *err)
{
        struct sink *sink = u->sink;
        struct secret field = {0};
        static const char *const fields[] = {"Content-Encoding: gzip"};

        follow_reload(u);
        buf_reset(&u->packed);
        monitor_pack(buf_str(&u->body), &u->packed);
        secret_set(&field, credential_field(sink->credential));
        struct fetch_request request = {
                .url = u->url,
                .body = buf_str(&u->packed),
                .content_type = "application/json",
                .secret_field = &field,
                .fields = fields,
                .n_fields = 1,
                .ca = sink->settings->monitor.ca,
                .timeout_ms = CALL_MS,
                .connect_ms = CONNECT_MS,
                .most_bytes = ANSWER_MOST_BYTES,
                .allow_plain_loopback = true,
                .no_redirects = true,
        };
        u->done = false;
        struct fetch *fetch = fetch_start(u->fetcher, &request, answered, u);
        secret_drop(&field);
        while (!u->done && !sink_over(sink))
                event_base_loop(u->base, EVLOOP_ONCE);
        if (u->done)
                return true;
        fetch_cancel(fetch);
        return error_set(err, "there was no time left for the last call");
}

/* --- what it means --- */

static void taken(struct upload *u)
{
        sink_delivered(u->sink, u->seq, u->records, u->size);
        sink_confirm(u->sink, u->seq, u->hash);
        u->cap = u->cap < MONITOR_CALL_MOST / 2 ? 2 * u->cap : MONITOR_CALL_MOST;
}

/* True: it is tried again at once, with less. */
static bool refused(struct upload *u, struct error *err)
{
        struct sink *sink = u->sink;
        bool large = u->status == 413;

        sink->stats.attempts_failed++;
        sink->stats_changed = true;
        if (u->records > 1) {
                u->cap = u->body.len / 2;
                tail_seek_behind(sink->tail, &sink->position);
                return true;
        }
        sink_lose(sink, large ? SINK_LOST_TOO_LARGE : SINK_LOST_REJECTED, u->seq, u->seq, 1);
        sink_confirm(sink, u->seq, u->hash);
        (void)error_set(err, "status %d: a record is not taken%s%s", u->status,
                u->said[0] ? ": " : "", u->said);
        return false;
}

/* True: goes on. */
static bool judge(struct upload *u, struct error *err)
{
        struct sink *sink = u->sink;
        const struct sink_monitor *settings = &sink->settings->monitor;

        if (u->status >= 200 && u->status < 300) {
                taken(u);
                return true;
        }
        if (!u->status)
                return error_set(err, "%s", u->why.text);
        if (u->retry_after_s > 0)
                sink->wait_least_ms = u->retry_after_s * 1000;
        switch (u->status) {
        case 401:
                sink_reject(sink);
                return error_set(err, "status 401: the token of credential %s is not accepted%s%s",
                        settings->credential, u->said[0] ? ": " : "", u->said);
        case 403:
                return error_set(err,
                        "status 403: credential %s may not write to %s, it needs the role "
                        "Monitoring Metrics Publisher on it%s%s",
                        settings->credential, settings->rule, u->said[0] ? ": " : "", u->said);
        case 404:
                return error_set(err,
                        "status 404: there is no rule %s with stream %s at this endpoint%s%s",
                        settings->rule, settings->stream, u->said[0] ? ": " : "", u->said);
        default: break;
        }
        if (u->status < 400 || u->status >= 500 || u->status == 408 || u->status == 429)
                return error_set(err, "status %d%s%s", u->status, u->said[0] ? ": " : "", u->said);
        return refused(u, err);
}

/* --- life --- */

static void open_upload(struct upload *u, struct sink *sink)
{
        const struct sink_monitor *settings = &sink->settings->monitor;
        struct timeval tick = {0, TICK_MS * 1000};

        *u = (struct upload){.sink = sink, .cap = MONITOR_CALL_MOST};
        u->base = event_base_new();
        if (!u->base)
                abort();
        u->fetcher = fetcher_new(u->base);
        fetcher_set_egress(u->fetcher, sink->egress);
        u->reloads = sink->reloads;
        u->tick = event_new(u->base, -1, EV_PERSIST, on_tick, u);
        u->mail = event_new(u->base, mailbox_fd(sink->box), EV_READ | EV_PERSIST, on_tick, u);
        event_add(u->tick, &tick);
        event_add(u->mail, NULL);
        arena_init(&u->arena, 16 * 1024, 1024 * 1024);
        buf_init(&u->body, MONITOR_CALL_MOST + 4 * CHAIN_LINE_MOST);
        buf_init(&u->packed, MONITOR_CALL_MOST + 8 * CHAIN_LINE_MOST);
        snprintf(u->url, sizeof(u->url),
                "%s/dataCollectionRules/%s/streams/%s?api-version=" API_VERSION, settings->endpoint,
                settings->rule, settings->stream);
        if (gethostname(u->source, sizeof(u->source) - 1) != 0)
                u->source[0] = '\0';
}

static void close_upload(struct upload *u)
{
        fetcher_free(u->fetcher);
        event_free(u->tick);
        event_free(u->mail);
        event_base_free(u->base);
        arena_clear(&u->arena);
        buf_clear(&u->body);
        buf_clear(&u->packed);
}

/* Records are gathered for a while, but not at the end. */
static void wait_for_more(struct sink *sink)
{
        int64_t until = clock_mono_ms() + sink->settings->monitor.interval_ms;

        for (int64_t left = 1; left > 0 && !sink->stop; left = until - clock_mono_ms())
                (void)sink_wait(sink, -1, 0, left);
}

static bool has_credential(const struct sink *sink)
{
        return sink->credential && clock_mono_ms() < sink->credential->until_mono_ms;
}

/* After a start, and when one was rejected, it comes within a moment. */
static bool wait_for_credential(struct sink *sink)
{
        int64_t until = clock_mono_ms() + CREDENTIAL_MS;

        for (int64_t left = 1; left > 0 && !sink->stop && !has_credential(sink);
                left = until - clock_mono_ms())
                (void)sink_wait(sink, -1, 0, left);
        return has_credential(sink);
}

bool monitor_deliver(struct sink *sink, struct error *err)
{
        struct upload u;
        bool ok = true, ended = false;

        open_upload(&u, sink);
        while (ok && !ended) {
                if (!u.full)
                        wait_for_more(sink);
                if (tail_seq(sink->tail) < sink->known && !wait_for_credential(sink))
                        ok = error_set(err, "credential %s has no token yet",
                                sink->settings->monitor.credential);
                else if (gather(&u))
                        ok = call(&u, err) && judge(&u, err);
                else
                        ended = sink->stop;
        }
        close_upload(&u);
        return ok;
}
