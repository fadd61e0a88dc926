#include "dagward/audit/record.h"

#include <assert.h>

#include "dagward/base/block.h"
#include "dagward/base/clock.h"
#include "redact.h"

/* How many bytes of a record each value may take once it is written (escapes included; quotes and
 * the marker of a cut not). Together they stay below AUDIT_RECORD_MOST: see the assertion. */
enum {
        MOST_WORD = 32,     /* a word from a short list, a number */
        MOST_ID = 128,      /* ids, names of things of ours, addresses */
        MOST_SUBJECT = 512, /* also dag, run and task, which Airflow limits to 250 characters */
        MOST_LIST = 1024,   /* all items of a list together */
        MOST_ITEM = 256,    /* one of them */
        MOST_PLACE = 256,   /* host, file:line */
        MOST_PATH = 2048,
        MOST_QUERY = 1024,
        MOST_PARAMETER = 192, /* a value in it */
        MOST_TEXT = 512,      /* reason, user agent, url of a run */
        MOST_GLASS = 1024,    /* 500 bytes, each of which may need an escape */
        MOST_NAMES = 1280,    /* members' names, punctuation, numbers, times */
        MARKER = 32,          /* [+18446744073709551615 bytes] */
};

enum { WORDS = 9, IDS = 20, SUBJECTS = 4, LISTS = 4, PLACES = 3, TEXTS = 3 };
_Static_assert(WORDS *(MOST_WORD + MARKER) + IDS * (MOST_ID + MARKER) +
                               SUBJECTS * (MOST_SUBJECT + MARKER) + LISTS * (MOST_LIST + MARKER) +
                               PLACES * (MOST_PLACE + MARKER) + TEXTS * (MOST_TEXT + MARKER) +
                               MOST_PATH + MOST_QUERY + MOST_GLASS + 3 * MARKER + MOST_NAMES <=
                       AUDIT_RECORD_MOST,
        "a record may outgrow its bound");

/* --- strings --- */

/* No byte that needs an escape or is not ASCII. */
static bool plain_block(block b)
{
        return !block_holds((block)((b < 0x20) | (b > 0x7E) | (b == '"') | (b == '\\')));
}

/* Its first and last `half` bytes, which meet or overlap, in a block; copied to `to` as well. */
__attribute__((always_inline)) static inline block copy_ends(
        char *to, struct str s, const size_t half)
{
        unsigned char ends[BLOCK_BYTES];

        memset(ends, ' ', sizeof(ends));
        memcpy(ends, s.ptr, half);
        memcpy(ends + half, s.ptr + s.len - half, half);
        memcpy(to, ends, half);
        memcpy(to + s.len - half, ends + half, half);
        return block_load(ends);
}

/* Copies `s` to `to`, which has room for it; false: it holds something that is not plain, and what
 * was copied is of no use. */
static bool copy_plain(char *to, struct str s)
{
        size_t i = 0;

        if (s.len >= BLOCK_BYTES) {
                for (; i + BLOCK_BYTES < s.len; i += BLOCK_BYTES) {
                        block b = block_load(s.ptr + i);
                        if (!plain_block(b))
                                return false;
                        memcpy(to + i, &b, sizeof(b));
                }
                /* The last one overlaps the one before. */
                block b = block_load(s.ptr + s.len - BLOCK_BYTES);
                memcpy(to + s.len - BLOCK_BYTES, &b, sizeof(b));
                return plain_block(b);
        }
        if (s.len >= 8)
                return plain_block(copy_ends(to, s, 8));
        if (s.len >= 4)
                return plain_block(copy_ends(to, s, 4));
        for (; i < s.len; i++) {
                char c = s.ptr[i];
                if (c < 0x20 || c > 0x7E || c == '"' || c == '\\')
                        return false;
                to[i] = c;
        }
        return true;
}

/* How much of `s` takes at most `most` bytes when buf_json_str writes it; never splits a
 * character. */
static size_t fitting(struct str s, size_t most)
{
        size_t i = 0, used = 0;

        while (i < s.len) {
                unsigned char c = (unsigned char)s.ptr[i];
                size_t step = 1, cost = 1;
                if (c < 0x20 || c == 0x7F) {
                        cost = 6;
                } else if (c == '"' || c == '\\') {
                        cost = 2;
                } else if (c >= 0x80) {
                        cost = 3; /* U+FFFD, unless it begins a character */
                        for (size_t n = 2; n <= 4 && n <= s.len - i; n++) {
                                if (str_utf8_valid(str_view(s.ptr + i, n))) {
                                        step = n;
                                        cost = n;
                                        break;
                                }
                        }
                        if (step > 1 && str_invisible_at(s, i))
                                cost = step == 4 ? 12 : 6; /* escaped, as one or two units */
                }
                if (used + cost > most)
                        break;
                used += cost;
                i += step;
        }
        return i;
}

/* The inside of a JSON string when not all of `s` is plain. */
__attribute__((noinline)) static struct str inside_escaped(
        struct buf *out, struct str s, size_t most)
{
        struct str head = str_head(s, fitting(s, most));
        size_t start = out->len;

        /* With its quotes, and then without them: the escapes are base's. */
        buf_json_str(out, head);
        assert(!out->overflow && out->len >= start + 2);
        memmove(out->data + start, out->data + start + 1, out->len - start - 2);
        out->len -= 2;
        return head;
}

/* The inside of a JSON string: `s` in at most `most` bytes, and a marker when it is cut or `left`
 * bytes of it are not here at all. */
static void inside_cut(struct buf *out, struct str s, size_t most, size_t left)
{
        struct str head = str_head(s, most);

        if (buf_reserve(out, head.len) && copy_plain(out->data + out->len, head))
                out->len += head.len;
        else
                head = inside_escaped(out, s, most);
        left += s.len - head.len;
        if (left)
                buf_printf(out, "[+%zu bytes]", left);
}

static void inside(struct buf *out, struct str s, size_t most)
{
        inside_cut(out, s, most, 0);
}

/* Takes at most what fits into `clean` from the head of `*s`. */
static void take(struct buf *clean, struct str *s, size_t len)
{
        struct str head = str_head(*s, len);

        head = str_head(head, clean->cap - clean->len);
        buf_str_add(clean, head);
        *s = str_from(*s, head.len);
}

/* The same for what a caller wrote: without what looks like a secret. */
static void inside_claimed(struct buf *out, struct str s, size_t most)
{
        char memory[MOST_PATH];
        struct buf clean;
        size_t at, len;

        if (!redact_find(s, &at, &len)) {
                inside(out, s, most);
                return;
        }
        /* A byte of the input is at least one of the output: more than `most` never matter. */
        buf_init_fixed(&clean, memory, most);
        do {
                take(&clean, &s, at);
                if (clean.cap - clean.len < 3)
                        break;
                BUF_LITERAL(&clean, "***");
                s = str_from(s, len);
        } while (redact_find(s, &at, &len));
        if (!redact_find(s, &at, &len))
                take(&clean, &s, s.len);
        inside_cut(out, buf_str(&clean), most, s.len);
}

/* Where members are being written: whether one stands before, and whether the object is open. */
struct object {
        struct buf *out;
        const char *name; /* of an object that is opened by its first member; NULL: the record */
        bool open;
};

/* `name` with a comma in front. Inlined, so that names are copied as constants. */
__attribute__((always_inline)) static inline void member(
        struct object *object, const char *name, size_t len)
{
        struct buf *out = object->out;

        if (object->open) {
                buf_add(out, name, len);
                return;
        }
        BUF_LITERAL(out, ",\"");
        buf_add(out, object->name, strlen(object->name));
        BUF_LITERAL(out, "\":{");
        object->open = true;
        buf_add(out, name + 1, len - 1);
}
#define MEMBER_UP_TO(object, literal) member((object), "" literal, sizeof(literal) - 1)
/* Up to where the value begins. */
#define MEMBER(object, name) MEMBER_UP_TO(object, ",\"" name "\":")
/* Up to the inside of a value that is a string. */
#define MEMBER_STRING(object, name) MEMBER_UP_TO(object, ",\"" name "\":\"")

static void object_end(struct object *object)
{
        if (object->open)
                buf_char(object->out, '}');
}

/* Ours: names from configuration and catalogue. */
#define TEXT(object, name, s, most)                                                                \
        do {                                                                                       \
                if (!str_empty(s)) {                                                               \
                        MEMBER_STRING(object, name);                                               \
                        inside((object)->out, (s), (most));                                        \
                        buf_char((object)->out, '"');                                              \
                }                                                                                  \
        } while (0)

/* Theirs: may hold anything. */
#define CLAIM(object, name, s, most)                                                               \
        do {                                                                                       \
                if (!str_empty(s)) {                                                               \
                        MEMBER_STRING(object, name);                                               \
                        inside_claimed((object)->out, (s), (most));                                \
                        buf_char((object)->out, '"');                                              \
                }                                                                                  \
        } while (0)

/* Milliseconds with three places: 12.345 */
static void duration(struct object *object, int64_t us)
{
        uint64_t u = us > 0 ? (uint64_t)us : 0;
        char places[4] = {
                '.', (char)('0' + u / 100 % 10), (char)('0' + u / 10 % 10), (char)('0' + u % 10)};

        MEMBER(object, "ms");
        buf_u64(object->out, u / 1000);
        buf_add(object->out, places, sizeof(places));
}

/* Room for one more item of a list that began at `start`; else says how many were left out. */
static bool list_room(struct buf *out, size_t start, size_t left)
{
        if (out->len - start + MOST_ITEM + 2 * MARKER <= MOST_LIST)
                return true;
        buf_printf(out, "\"[+%zu more]\"", left);
        return false;
}

static void list(struct buf *out, const struct str *items, size_t n)
{
        buf_char(out, '[');
        size_t start = out->len;
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(out, ',');
                if (!list_room(out, start, n - i))
                        break;
                buf_char(out, '"');
                inside_claimed(out, items[i], MOST_ITEM);
                buf_char(out, '"');
        }
        buf_char(out, ']');
}

static void resources(struct object *object, const struct pair *items, size_t n)
{
        struct buf *out = object->out;

        if (!n)
                return;
        MEMBER(object, "resources");
        buf_char(out, '[');
        size_t start = out->len;
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(out, ',');
                if (!list_room(out, start, n - i))
                        break;
                buf_char(out, '"');
                inside(out, items[i].name, 32);
                buf_char(out, ':');
                inside_claimed(out, items[i].value, MOST_ITEM - 33);
                buf_char(out, '"');
        }
        buf_char(out, ']');
}

/* --- query --- */

/* Percent-encoded again, so that the text can be taken apart like a query; needs no JSON escape. */
static void query_value(struct buf *out, struct str value)
{
        static const char digits[] = "0123456789ABCDEF";
        size_t start = out->len;

        for (size_t i = 0; i < value.len; i++) {
                unsigned char c = (unsigned char)value.ptr[i];
                if (out->len - start + 3 > MOST_PARAMETER) {
                        buf_printf(out, "[+%zu bytes]", value.len - i);
                        return;
                }
                if (redact_token_char(c) || (c && strchr("./:,$*~@;", c))) {
                        buf_char(out, (char)c);
                } else {
                        char encoded[3] = {'%', digits[c >> 4], digits[c & 15]};
                        buf_add(out, encoded, sizeof(encoded));
                }
        }
}

static void query(struct object *object, const struct pair *pairs, size_t n)
{
        struct buf *out = object->out;
        size_t at, len;

        if (!n)
                return;
        MEMBER_STRING(object, "query");
        size_t start = out->len;
        for (size_t i = 0; i < n; i++) {
                if (i)
                        buf_char(out, '&');
                /* The longest pair, and what is said instead of the ones after it. */
                if (out->len - start + 42 + MOST_PARAMETER + 2 * MARKER > MOST_QUERY) {
                        buf_printf(out, "[+%zu more]", n - i);
                        break;
                }
                if (redact_plain_name(pairs[i].name))
                        buf_str_add(out, pairs[i].name);
                else
                        BUF_LITERAL(out, "***");
                buf_char(out, '=');
                if (str_empty(pairs[i].value))
                        continue;
                if (redact_harmless(pairs[i].name) && !redact_find(pairs[i].value, &at, &len))
                        query_value(out, pairs[i].value);
                else
                        BUF_LITERAL(out, "***");
        }
        buf_char(out, '"');
}

/* --- the record --- */

/* The text of a second is kept: gmtime_r takes a lock and costs more than the rest of the record's
 * head, and thousands of records share a second. */
static void write_time(struct buf *out, int64_t wall_ms)
{
        static _Thread_local int64_t second = -1;
        static _Thread_local char kept[CLOCK_RFC3339_LEN + 1];
        int ms = (int)(wall_ms % 1000);

        if (wall_ms / 1000 != second) {
                second = wall_ms / 1000;
                clock_rfc3339(second * 1000, kept);
        }
        kept[20] = (char)('0' + ms / 100);
        kept[21] = (char)('0' + ms / 10 % 10);
        kept[22] = (char)('0' + ms % 10);
        buf_add(out, kept, CLOCK_RFC3339_LEN);
}

const struct str audit_kind_names[AUDIT_KINDS] = {[AUDIT_INTENT] = {"intent", 6},
        [AUDIT_OUTCOME] = {"outcome", 7},
        [AUDIT_EVENT] = {"event", 5}};
const struct str audit_effect_names[AUDIT_EFFECTS] = {[AUDIT_UNDECIDED] = {"", 0},
        [AUDIT_ALLOW] = {"allow", 5},
        [AUDIT_DENY] = {"deny", 4},
        [AUDIT_ERROR] = {"error", 5}};

static void write_caller(struct buf *out, const struct audit_fields *f)
{
        struct object caller = {.out = out, .name = "caller"};
        struct object claimed = {.out = out, .name = "claimed"};

        TEXT(&caller, "issuer", f->caller.issuer, MOST_ID);
        CLAIM(&caller, "subject", f->caller.subject, MOST_SUBJECT);
        if (f->caller.n_roles) {
                MEMBER(&caller, "roles");
                list(out, f->caller.roles, f->caller.n_roles);
        }
        CLAIM(&caller, "token_id", f->caller.token_id, MOST_ID);
        TEXT(&caller, "via", f->caller.via, MOST_WORD);
        TEXT(&caller, "address", f->caller.address, MOST_ID);
        object_end(&caller);

        CLAIM(&claimed, "dag_id", f->claimed.dag_id, MOST_SUBJECT);
        CLAIM(&claimed, "run_id", f->claimed.run_id, MOST_SUBJECT);
        CLAIM(&claimed, "task_id", f->claimed.task_id, MOST_SUBJECT);
        CLAIM(&claimed, "map_index", f->claimed.map_index, MOST_WORD);
        CLAIM(&claimed, "try_number", f->claimed.try_number, MOST_WORD);
        CLAIM(&claimed, "user_agent", f->claimed.user_agent, MOST_TEXT);
        object_end(&claimed);
}

static void write_request(struct buf *out, const struct audit_fields *f)
{
        struct object request = {.out = out, .name = "request"};

        CLAIM(&request, "method", f->request.method, MOST_WORD);
        CLAIM(&request, "host", f->request.host, MOST_PLACE);
        CLAIM(&request, "path", f->request.path, MOST_PATH);
        query(&request, f->request.query, f->request.n_query);
        TEXT(&request, "operation", f->request.operation, MOST_ID);
        TEXT(&request, "access", f->request.access, MOST_WORD);
        CLAIM(&request, "organization", f->request.organization, MOST_ID);
        CLAIM(&request, "project", f->request.project, MOST_ID);
        resources(&request, f->request.resources, f->request.n_resources);
        if (f->request.n_says) {
                MEMBER(&request, "says");
                list(out, f->request.says, f->request.n_says);
        }
        if (f->kind == AUDIT_OUTCOME && !str_empty(f->request.method)) {
                MEMBER(&request, "bytes");
                buf_u64(out, f->request.bytes);
        }
        object_end(&request);
}

static void write_decision(struct buf *out, const struct audit_fields *f)
{
        struct object decision = {.out = out, .name = "decision"};
        struct object credential = {.out = out, .name = "credential"};

        TEXT(&decision, "effect", audit_effect_names[f->decision.effect], MOST_WORD);
        TEXT(&decision, "role", f->decision.role, MOST_ID);
        TEXT(&decision, "binding", f->decision.binding, MOST_ID);
        TEXT(&decision, "rule", f->decision.rule, MOST_PLACE);
        CLAIM(&decision, "reason", f->decision.reason, MOST_TEXT);
        TEXT(&decision, "policy", f->decision.policy, MOST_ID);
        TEXT(&decision, "shadow", f->decision.shadow, MOST_PLACE);
        CLAIM(&decision, "break_glass", f->decision.break_glass, MOST_GLASS);
        object_end(&decision);

        TEXT(&credential, "name", f->credential.name, MOST_ID);
        TEXT(&credential, "type", f->credential.type, MOST_WORD);
        TEXT(&credential, "assertion", f->credential.assertion, MOST_WORD);
        object_end(&credential);
}

static void write_answer(struct buf *out, const struct audit_fields *f)
{
        struct object upstream = {.out = out, .name = "upstream"};
        struct object response = {.out = out, .name = "response"};
        struct object run = {.out = out, .name = "run"};
        struct object trigger = {.out = out, .name = "trigger"};

        CLAIM(&upstream, "host", f->upstream.host, MOST_ID);
        if (f->upstream.status) {
                MEMBER(&upstream, "status");
                buf_i64(out, f->upstream.status);
        }
        CLAIM(&upstream, "activity_id", f->upstream.activity_id, MOST_ID);
        CLAIM(&upstream, "e2eid", f->upstream.e2eid, MOST_ID);
        if (f->upstream.attempts) {
                MEMBER(&upstream, "attempts");
                buf_u64(out, f->upstream.attempts);
                duration(&upstream, f->upstream.duration_us);
        }
        object_end(&upstream);

        if (f->response.status) {
                MEMBER(&response, "status");
                buf_i64(out, f->response.status);
                MEMBER(&response, "bytes");
                buf_u64(out, f->response.bytes);
        }
        object_end(&response);
        if (f->kind == AUDIT_OUTCOME)
                duration(&(struct object){.out = out, .open = true}, f->duration_us);

        CLAIM(&run, "id", f->run.id, MOST_ID);
        CLAIM(&run, "url", f->run.url, MOST_TEXT);
        object_end(&run);
        CLAIM(&trigger, "key", f->trigger.key, MOST_ID);
        TEXT(&trigger, "by", f->trigger.by, MOST_WORD);
        TEXT(&trigger, "state", f->trigger.state, MOST_WORD);
        CLAIM(&trigger, "first", f->trigger.first, MOST_ID);
        object_end(&trigger);
}

static void write_event(struct buf *out, const struct audit_fields *f)
{
        struct object event = {.out = out, .name = "event"};

        TEXT(&event, "name", f->event.name, MOST_ID);
        if (f->event.n_detail) {
                MEMBER(&event, "detail");
                buf_char(out, '{');
                size_t start = out->len;
                for (size_t i = 0; i < f->event.n_detail; i++) {
                        if (out->len - start + 64 + MOST_ITEM + 4 * MARKER > MOST_LIST) {
                                buf_printf(out, "%s\"more\":\"[+%zu more]\"", i ? "," : "",
                                        f->event.n_detail - i);
                                break;
                        }
                        if (i)
                                buf_char(out, ',');
                        buf_char(out, '"');
                        inside(out, f->event.detail[i].name, 64);
                        BUF_LITERAL(out, "\":\"");
                        inside_claimed(out, f->event.detail[i].value, MOST_ITEM);
                        buf_char(out, '"');
                }
                buf_char(out, '}');
        }
        object_end(&event);
}

bool audit_record_write(struct buf *out, const struct audit_fields *fields)
{
        size_t start = out->len;
        struct object record = {.out = out, .open = true};

        if (!buf_reserve(out, AUDIT_RECORD_MOST)) {
                out->overflow = false; /* what stands in it is whole */
                return false;
        }
        BUF_LITERAL(out, "\"time\":\"");
        write_time(out, fields->time_ms);
        BUF_LITERAL(out, "\",\"kind\":\"");
        buf_str_add(out, audit_kind_names[fields->kind]);
        buf_char(out, '"');
        CLAIM(&record, "request_id", fields->request_id, MOST_ID);
        CLAIM(&record, "correlation_id", fields->correlation_id, MOST_ID);
        CLAIM(&record, "traceparent", fields->traceparent, MOST_ID);
        write_caller(out, fields);
        write_request(out, fields);
        write_decision(out, fields);
        write_answer(out, fields);
        write_event(out, fields);
        assert(!out->overflow && out->len - start <= AUDIT_RECORD_MOST);
        return true;
}
