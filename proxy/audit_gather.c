#include <stdio.h>
#include <stdlib.h>

#include "audit_report.h"
#include "dagward/base/clock.h"

enum {
        CALLERS_MOST = 20000,
        ROWS_MOST = 5000,
        HOUR_MS = 3600 * 1000,
        HOURS_MOST = 24 * 366 * 10,
        INTENTS_MOST = 1 << 16,
        ARENA_BYTES = 64 * 1024,
        ARENA_MOST = 1 << 20,
};

/* --- durations --- */

static size_t bucket_of(uint64_t us)
{
        unsigned power = 0;

        if (us < 16)
                return (size_t)us;
        while (us >> power >= 32)
                power++;
        return 16 * (size_t)power + (size_t)(us >> power);
}

/* The middle of what falls into it. */
static uint64_t bucket_us(size_t bucket)
{
        if (bucket < 32)
                return bucket;
        size_t power = bucket / 16 - 1;
        return ((uint64_t)(bucket - 16 * power) << power) + ((uint64_t)1 << power) / 2;
}

void histogram_add(struct histogram *h, int64_t us)
{
        uint64_t value = us > 0 ? (uint64_t)us : 0;
        size_t bucket = bucket_of(value);

        h->counts[bucket < REPORT_BUCKETS ? bucket : REPORT_BUCKETS - 1]++;
        h->n++;
        if (value > h->most_us)
                h->most_us = value;
}

uint64_t histogram_at(const struct histogram *h, double part)
{
        uint64_t seen = 0, wanted = (uint64_t)(part * (double)h->n);

        if (!h->n)
                return 0;
        if (wanted >= h->n)
                wanted = h->n - 1;
        for (size_t i = 0; i < REPORT_BUCKETS; i++) {
                seen += h->counts[i];
                if (seen > wanted)
                        return bucket_us(i) < h->most_us ? bucket_us(i) : h->most_us;
        }
        return h->most_us;
}

/* --- intents without an outcome --- */

/* Request ids by their hash, with linear probing: few are open at any time. */
struct intents {
        uint64_t slots[INTENTS_MOST]; /* 0: empty */
        size_t n;
        uint64_t left_out;
};

static uint64_t id_hash(struct str id)
{
        uint64_t hash = 0xCBF29CE484222325u;

        for (size_t i = 0; i < id.len; i++)
                hash = (hash ^ (unsigned char)id.ptr[i]) * 0x100000001B3u;
        hash = (hash ^ hash >> 29) * 0xBF58476D1CE4E5B9u;
        hash ^= hash >> 32;
        return hash ? hash : 1;
}

static void intent_begins(struct intents *intents, struct str id)
{
        uint64_t hash = id_hash(id);
        size_t at = hash % INTENTS_MOST;

        if (!id.len)
                return;
        if (intents->n >= INTENTS_MOST / 2) {
                intents->left_out++;
                return;
        }
        while (intents->slots[at])
                at = (at + 1) % INTENTS_MOST;
        intents->slots[at] = hash;
        intents->n++;
}

static void intent_ends(struct intents *intents, struct str id)
{
        uint64_t hash = id_hash(id);
        size_t at = hash % INTENTS_MOST, next;

        while (intents->slots[at] && intents->slots[at] != hash)
                at = (at + 1) % INTENTS_MOST;
        if (!intents->slots[at])
                return;
        intents->n--;
        /* Those behind move up, unless their place is behind the hole. */
        for (next = (at + 1) % INTENTS_MOST; intents->slots[next];
                next = (next + 1) % INTENTS_MOST) {
                size_t home = intents->slots[next] % INTENTS_MOST;
                if ((next - home + INTENTS_MOST) % INTENTS_MOST >=
                        (next - at + INTENTS_MOST) % INTENTS_MOST) {
                        intents->slots[at] = intents->slots[next];
                        at = next;
                }
        }
        intents->slots[at] = 0;
}

/* --- one record --- */

static void count_hour(
        struct audit_report *r, int64_t time_ms, enum audit_effect effect, uint64_t n)
{
        int64_t hour = time_ms / HOUR_MS;

        if (!r->n_hours)
                r->first_hour = hour;
        int64_t first = hour < r->first_hour ? hour : r->first_hour;
        int64_t end = r->first_hour + (int64_t)r->n_hours;
        if (hour + 1 > end)
                end = hour + 1;
        if (end - first > HOURS_MOST) {
                r->hours_left_out++;
                return;
        }
        if (first != r->first_hour || (size_t)(end - first) != r->n_hours) {
                struct hour *grown = calloc((size_t)(end - first), sizeof(*grown));
                if (!grown)
                        abort();
                if (r->n_hours)
                        memcpy(grown + (r->first_hour - first), r->hours,
                                r->n_hours * sizeof(*grown));
                free(r->hours);
                r->hours = grown;
                r->first_hour = first;
                r->n_hours = (size_t)(end - first);
        }
        struct hour *one = &r->hours[hour - first];
        one->allowed += effect == AUDIT_ALLOW ? n : 0;
        one->denied += effect == AUDIT_DENY ? n : 0;
        one->failed += effect != AUDIT_ALLOW && effect != AUDIT_DENY ? n : 0;
}

static size_t access_of(struct str access)
{
        static const struct str names[] = {
                {"read", 4}, {"write", 5}, {"execute", 7}, {"manage", 6}, {"delete", 6}};
        size_t i = 0;

        while (i < REPORT_ACCESSES - 1 && !str_eq(access, names[i]))
                i++;
        return i;
}

/* Refused before anybody was known, or because the token was not good. */
static bool is_authentication(const struct audit_fields *f)
{
        return f->response.status == 401 ||
               (f->decision.effect == AUDIT_DENY && !f->caller.issuer.len && !f->decision.rule.len);
}

static void add_outcome(struct audit_report *r, const struct audit_fields *f)
{
        enum audit_effect effect = f->decision.effect;
        struct str operation = f->request.operation.len ? f->request.operation : f->request.method;

        r->requests++;
        r->allowed += effect == AUDIT_ALLOW;
        r->denied += effect == AUDIT_DENY;
        r->failed += effect != AUDIT_ALLOW && effect != AUDIT_DENY;
        r->runs += f->run.id.len > 0;
        intent_ends(r->started, f->request_id);
        count_hour(r, f->time_ms, effect, 1);
        if (f->caller.issuer.len) {
                const struct str parts[] = {f->caller.issuer, f->caller.subject, operation};
                (void)tally_effect(&r->who, parts, 2, f->time_ms, effect);
                (void)tally_effect(&r->callers, parts, 3, f->time_ms, effect);
        }
        if (is_authentication(f)) {
                const struct str parts[] = {
                        f->decision.reason, f->caller.address, f->caller.issuer};
                (void)tally_count(&r->authentication, parts, 3, f->time_ms);
        } else if (effect == AUDIT_DENY) {
                const struct str parts[] = {f->decision.rule, f->decision.reason};
                (void)tally_count(&r->denials, parts, 2, f->time_ms);
        }
        if (f->claimed.dag_id.len) {
                const struct str parts[] = {f->claimed.dag_id, f->claimed.task_id};
                struct tally_row *row = tally_effect(&r->dags, parts, 2, f->time_ms, effect);
                if (row) {
                        row->extra += f->run.id.len > 0;
                        row->sum_us += f->duration_us > 0 ? (uint64_t)f->duration_us : 0;
                }
        }
        if (f->decision.shadow.len) {
                const struct str parts[] = {f->decision.shadow, operation};
                (void)tally_count(&r->shadow, parts, 2, f->time_ms);
        }
        if (effect == AUDIT_ALLOW) {
                histogram_add(&r->whole[access_of(f->request.access)], f->duration_us);
                if (f->upstream.attempts)
                        histogram_add(&r->own, f->duration_us - f->upstream.duration_us);
        }
}

static struct str keep(struct str text)
{
        return str_view(str_dup(text), text.len);
}

static void glass_clear(struct glass *glass)
{
        free((char *)glass->caller.ptr);
        free((char *)glass->operation.ptr);
        free((char *)glass->resources.ptr);
        free((char *)glass->reason.ptr);
        free((char *)glass->binding.ptr);
        free((char *)glass->correlation.ptr);
}

static void add_glass(struct audit_report *r, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;
        struct buf resources;
        struct glass *one = &r->glass[r->glass_all++ % REPORT_GLASS_MOST];

        if (r->n_glass < REPORT_GLASS_MOST) {
                r->n_glass++;
        } else { /* the oldest makes room */
                glass_clear(one);
        }
        buf_init(&resources, ARENA_MOST);
        for (size_t i = 0; i < f->request.n_resources; i++)
                BUF_ALL(&resources, i ? STR(", ") : STR(""), f->request.resources[i].name, STR(":"),
                        f->request.resources[i].value);
        *one = (struct glass){
                .time_ms = f->time_ms,
                .caller = keep(f->caller.subject),
                .operation = keep(f->request.operation),
                .resources = keep(buf_str(&resources)),
                .reason = keep(line->fields.decision.break_glass),
                .binding = keep(f->decision.binding),
                .correlation = keep(f->correlation_id),
        };
        buf_clear(&resources);
}

static struct str detail(const struct audit_fields *f, struct str name)
{
        for (size_t i = 0; i < f->event.n_detail; i++)
                if (str_eq(f->event.detail[i].name, name))
                        return f->event.detail[i].value;
        return STR_NONE;
}

/* The issuer, credential, binding or file that an event is about; the first detail of that name. */
static struct str about(const struct audit_fields *f)
{
        static const struct str names[] = {
                {"credential", 10}, {"issuer", 6}, {"binding", 7}, {"address", 7}, {"file", 4}};

        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
                struct str value = detail(f, names[k]);
                if (value.ptr)
                        return value;
        }
        return STR("");
}

/* What else it says, of the details that tell why. */
static struct str details(const struct audit_fields *f, struct buf *out)
{
        static const struct str names[] = {{"reason", 6}, {"cause", 5}, {"first", 5}, {"error", 5},
                {"added", 5}, {"removed", 7}, {"expires", 7}, {"policy", 6}};

        buf_reset(out);
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
                for (size_t i = 0; i < f->event.n_detail; i++)
                        if (str_eq(f->event.detail[i].name, names[k]) &&
                                f->event.detail[i].value.len)
                                BUF_ALL(out, out->len ? STR("; ") : STR(""), names[k], STR(" "),
                                        f->event.detail[i].value);
        return buf_str(out);
}

/* Requests that were counted instead of having a record each. They stand where their records would:
 * who left was not refused. */
static void add_strangers(struct audit_report *r, const struct audit_fields *f)
{
        bool left = str_eq(detail(f, STR("reason")), STR("left"));
        char reason[80];
        uint64_t n = 0;

        if (!str_to_u64(detail(f, STR("requests")), &n))
                return;
        r->requests += n;
        count_hour(r, f->time_ms, left ? AUDIT_ERROR : AUDIT_DENY, n);
        if (left) {
                r->failed += n;
                return;
        }
        r->denied += n;
        snprintf(reason, sizeof(reason), "%.*s: counted, without a record each",
                STR_FMT(str_head(detail(f, STR("reason")), 40)));
        const struct str parts[] = {str_of(reason), detail(f, STR("address")), STR("")};
        struct tally_row *row = tally_count(&r->authentication, parts, 3, f->time_ms);
        if (row)
                row->n += n - 1;
}

static void add_event(struct audit_report *r, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;
        char memory[2048];
        struct buf text;

        r->events++;
        if (str_eq(f->event.name, STR("break_glass.used"))) {
                add_glass(r, line);
                return;
        }
        if (str_eq(f->event.name, STR("strangers.refused"))) {
                add_strangers(r, f);
                return;
        }
        buf_init_fixed(&text, memory, sizeof(memory));
        const struct str parts[] = {f->event.name, about(f), details(f, &text)};
        (void)tally_count(&r->life, parts, 3, f->time_ms);
}

static void use_seen(void *owner, const struct past *past)
{
        struct audit_report *r = owner;
        char key[4096];

        if (past->effect != EFFECT_ALLOW || !past->role.len)
                return;
        if (policy_usage_key(past, key, sizeof(key)))
                policy_usage_note(r->usage, past, key);
        else
                r->uses_left_out++;
}

void audit_report_add(struct audit_report *r, struct str line)
{
        struct audit_line record;

        arena_reset(&r->arena);
        if (!audit_line_read(line, &r->arena, &record)) {
                r->damaged++;
                return;
        }
        const struct audit_fields *f = &record.fields;
        if (f->time_ms < r->since_ms || f->time_ms >= r->until_ms) {
                r->outside++;
                return;
        }
        r->records++;
        if (f->time_ms < r->first_ms)
                r->first_ms = f->time_ms;
        if (f->time_ms > r->last_ms)
                r->last_ms = f->time_ms;
        switch (f->kind) {
        case AUDIT_INTENT:
                r->intents++;
                intent_begins(r->started, f->request_id);
                break;
        case AUDIT_OUTCOME: add_outcome(r, f); break;
        case AUDIT_EVENT: add_event(r, &record); break;
        }
        if (r->usage)
                past_reader_line(r->past, line, STR(""), use_seen, r, &r->past_counts);
}

/* --- all of them --- */

void audit_report_init(struct audit_report *r)
{
        r->first_ms = INT64_MAX;
        r->last_ms = INT64_MIN;
        tally_init(&r->callers, CALLERS_MOST);
        tally_init(&r->who, ROWS_MOST);
        tally_init(&r->denials, ROWS_MOST);
        tally_init(&r->authentication, ROWS_MOST);
        tally_init(&r->dags, ROWS_MOST);
        tally_init(&r->life, ROWS_MOST);
        tally_init(&r->shadow, ROWS_MOST);
        r->started = calloc(1, sizeof(*r->started));
        if (!r->started)
                abort();
        r->past = past_reader_new();
        arena_init(&r->arena, ARENA_BYTES, ARENA_MOST);
        verify_init(&r->verify);
}

void audit_report_end(struct audit_report *r)
{
        tally_sort(&r->callers);
        tally_sort(&r->who);
        tally_sort(&r->denials);
        tally_sort(&r->authentication);
        tally_sort(&r->dags);
        tally_sort_time(&r->life);
        tally_sort(&r->shadow);
        r->open_intents = r->started->n + r->started->left_out;
        if (r->usage)
                r->uses_left_out += policy_usage_left_out(r->usage);
}

void audit_report_clear(struct audit_report *r)
{
        tally_clear(&r->callers);
        tally_clear(&r->who);
        tally_clear(&r->denials);
        tally_clear(&r->authentication);
        tally_clear(&r->dags);
        tally_clear(&r->life);
        tally_clear(&r->shadow);
        for (size_t i = 0; i < r->n_glass; i++)
                glass_clear(&r->glass[i]);
        free(r->hours);
        free(r->started);
        past_reader_free(r->past);
        policy_usage_free(r->usage);
        arena_clear(&r->arena);
        verify_clear(&r->verify);
}
