/*
 * The emulator's own endpoint, `/~emulator`, which asks for no credential:
 *
 *   POST   /~emulator           JSON, says how to misbehave; replaces what was said before:
 *     signin        "203" | "302" | "401": refuses every credential in that way; null: no more
 *     next_status   answers with that status instead
 *     retry_after   seconds: adds Retry-After and X-RateLimit-*, also to answers that are all right
 *     delay_ms      waits before it answers
 *     close         closes the connection instead of answering, after reading the body
 *     lose          does what was asked for, then closes the connection instead of answering
 *     mix           close, lose, or delay_ms alone: one of them at random
 *     percent       of the requests that match, chosen at random; 0 (default): all
 *     method        only requests of that method
 *     times         how many requests are met; -1: all. Default 1; with signin -1
 *     match         only requests whose target holds this text
 *     resource_areas  "none": ResourceAreas is an empty list, as on premises; "real"; stays set
 *   GET    /~emulator           that state, and how many requests came to storage with a credential
 *   GET    /~emulator/requests  the heads of the last EMU_RECORDS requests, oldest first
 *   DELETE /~emulator/requests  forgets them
 *   GET    /~emulator/runs      every run and release ever started: number, tags, variables and the
 *                               X-VSS-E2EID it was asked for with
 */
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/id.h"
#include "embedded/emu.h"

static json_t *text_of(struct str s)
{
        json_t *text = json_stringn(s.ptr ? s.ptr : "", s.len);

        return text ? text : json_string("(not UTF-8)");
}

void emu_record(struct azure_devops *azure, const struct emu_request *request, bool storage)
{
        const struct h1_request *head = &request->head;
        json_t *headers = json_object();

        for (size_t i = 0; i < head->n_fields; i++) {
                const struct h1_field *f = &head->fields[i];
                struct str name = arena_copy(request->arena, f->name);
                json_t *before = name.ptr ? json_object_get(headers, name.ptr) : NULL;
                struct str value = f->value;

                if (!name.ptr)
                        continue;
                if (before)
                        value = arena_printf(request->arena, "%s, %.*s", json_string_value(before),
                                STR_FMT(f->value));
                json_object_set_new(headers, name.ptr, text_of(value));
        }
        json_t *record = json_pack("{so so so sb sb sI}", "method", text_of(head->method), "target",
                text_of(head->target), "headers", headers, "tls", request->tls, "storage", storage,
                "at_ms", (json_int_t)clock_wall_ms());
        if (!record)
                abort();
        pthread_mutex_lock(&azure->lock);
        if (azure->n_records == EMU_RECORDS) {
                json_decref(azure->records[azure->first_record]);
                azure->records[azure->first_record] = record;
                azure->first_record = (azure->first_record + 1) % EMU_RECORDS;
        } else {
                azure->records[(azure->first_record + azure->n_records++) % EMU_RECORDS] = record;
        }
        pthread_mutex_unlock(&azure->lock);
}

struct emu_fault emu_fault_take(struct azure_devops *azure, const struct emu_request *request)
{
        struct emu_fault fault = {.retry_after = -1};
        uint32_t dice;

        id_random(&dice, sizeof(dice));
        pthread_mutex_lock(&azure->lock);
        if (azure->fault.times != 0 &&
                (!azure->fault.match[0] ||
                        str_find_str(request->head.target, str_of(azure->fault.match)) >= 0) &&
                (!azure->fault.method[0] ||
                        str_eq(request->head.method, str_of(azure->fault.method))) &&
                (!azure->fault.percent || dice % 100 < (uint32_t)azure->fault.percent)) {
                fault = azure->fault;
                if (azure->fault.times > 0)
                        azure->fault.times--;
        }
        pthread_mutex_unlock(&azure->lock);
        if (fault.mix) {
                unsigned which = dice / 100 % 3;
                fault.close = which == 0;
                fault.lose = which == 1;
                fault.delay_ms = which == 2 ? fault.delay_ms : 0;
        }
        return fault;
}

static void answer(struct emu_request *request, int status, json_t *body)
{
        char *text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);

        if (!text)
                abort();
        emu_reply(request, status, "application/json", str_of(text));
        free(text);
        json_decref(body);
}

static bool fault_read(const json_t *body, struct emu_fault *fault, const char **why)
{
        const char *signin = NULL, *match = "", *areas = NULL, *method = "";
        json_int_t status = 0, retry = -1, delay = 0, times = 0, percent = 0;
        json_t *signin_value = json_object_get(body, "signin");
        json_t *times_value = json_object_get(body, "times");
        json_t *retry_value = json_object_get(body, "retry_after");
        json_t *copy = json_copy((json_t *)body);
        json_error_t at;
        int close = 0, lose = 0, mix = 0;

        /* null says the same as leaving it out. */
        if (json_is_null(signin_value))
                json_object_del(copy, "signin");
        if (json_is_null(times_value))
                json_object_del(copy, "times");
        if (json_is_null(retry_value))
                json_object_del(copy, "retry_after");
        times_value = json_object_get(copy, "times");
        *why = NULL;
        if (json_unpack_ex(copy, &at, JSON_STRICT,
                    "{s?s s?I s?I s?I s?b s?b s?b s?I s?I s?s s?s s?s}", "signin", &signin,
                    "next_status", &status, "retry_after", &retry, "delay_ms", &delay, "close",
                    &close, "lose", &lose, "mix", &mix, "percent", &percent, "times", &times,
                    "match", &match, "method", &method, "resource_areas", &areas) < 0)
                *why = "no such member, or a value of another kind";
        else if (signin && strcmp(signin, "203") != 0 && strcmp(signin, "302") != 0 &&
                 strcmp(signin, "401") != 0)
                *why = "signin is \"203\", \"302\", \"401\" or null";
        else if (status != 0 && (status < 200 || status > 599))
                *why = "next_status is 200 to 599";
        else if (retry < -1 || retry > 86400 || delay < 0 || delay > 600000 || times < -1 ||
                 times > 1000000 || percent < 0 || percent > 100 ||
                 strlen(match) >= sizeof(fault->match) || strlen(method) >= sizeof(fault->method))
                *why = "a number or a text is too large";
        if (!*why) {
                *fault = (struct emu_fault){.next_status = (int)status,
                        .retry_after = (long)retry,
                        .delay_ms = (long)delay,
                        .close = close,
                        .lose = lose,
                        .mix = mix,
                        .percent = (long)percent,
                        .times = times_value ? (long)times
                                 : signin    ? -1
                                             : 1};
                snprintf(fault->signin, sizeof(fault->signin), "%s", signin ? signin : "");
                snprintf(fault->match, sizeof(fault->match), "%s", match);
                snprintf(fault->method, sizeof(fault->method), "%s", method);
        }
        json_decref(copy);
        return !*why;
}

static json_t *fault_json(struct azure_devops *azure)
{
        struct emu_fault f = azure->fault;

        return json_pack("{ss? si sI sI sb sI ss ss sI}", "signin", f.signin[0] ? f.signin : NULL,
                "next_status", f.next_status, "retry_after", (json_int_t)f.retry_after, "delay_ms",
                (json_int_t)f.delay_ms, "close", f.close, "times", (json_int_t)f.times, "match",
                f.match, "resource_areas", azure->no_areas ? "none" : "real",
                "credentials_to_storage", (json_int_t)azure->n_credentials_to_storage);
}

static void control_state(struct azure_devops *azure, struct emu_request *request)
{
        struct emu_fault fault;
        const char *why = "this is no JSON object";
        struct buf text;
        json_t *body;

        if (str_eq(request->head.method, STR("POST"))) {
                bool all = emu_body_all(request, 65536, &text);

                body = all ? json_loadb(
                                     text.len ? text.data : "{}", text.len ? text.len : 2, 0, NULL)
                           : NULL;
                buf_clear(&text);
                if (!json_is_object(body) || !fault_read(body, &fault, &why)) {
                        json_decref(body);
                        answer(request, 400, json_pack("{ss}", "error", why));
                        return;
                }
                const char *areas = json_string_value(json_object_get(body, "resource_areas"));
                pthread_mutex_lock(&azure->lock);
                azure->fault = fault;
                if (areas)
                        azure->no_areas = strcmp(areas, "none") == 0;
                pthread_mutex_unlock(&azure->lock);
                json_decref(body);
        }
        pthread_mutex_lock(&azure->lock);
        json_t *state = fault_json(azure);
        pthread_mutex_unlock(&azure->lock);
        answer(request, 200, state);
}

static void control_requests(struct azure_devops *azure, struct emu_request *request)
{
        json_t *all = json_array();

        pthread_mutex_lock(&azure->lock);
        for (size_t i = 0; i < azure->n_records; i++) {
                json_t **record = &azure->records[(azure->first_record + i) % EMU_RECORDS];

                json_array_append(all, *record);
                if (str_eq(request->head.method, STR("DELETE"))) {
                        json_decref(*record);
                        *record = NULL;
                }
        }
        if (str_eq(request->head.method, STR("DELETE")))
                azure->n_records = azure->first_record = 0;
        pthread_mutex_unlock(&azure->lock);
        if (str_eq(request->head.method, STR("DELETE"))) {
                json_decref(all);
                emu_reply(request, 204, NULL, STR_NONE);
        } else {
                answer(request, 200, all);
        }
}

static void control_runs(struct azure_devops *azure, struct emu_request *request)
{
        pthread_mutex_lock(&azure->lock);
        json_t *all = json_pack(
                "{so so}", "runs", emu_runs_json(azure), "releases", emu_releases_json(azure));
        pthread_mutex_unlock(&azure->lock);
        answer(request, 200, all);
}

bool emu_control(struct azure_devops *azure, struct emu_request *request)
{
        const struct target *target = &request->target;

        if (target->n_segments == 0 || !str_eq(target->segments[0], STR("~emulator")))
                return false;
        if (target->n_segments == 1)
                control_state(azure, request);
        else if (target->n_segments == 2 && str_eq(target->segments[1], STR("requests")))
                control_requests(azure, request);
        else if (target->n_segments == 2 && str_eq(target->segments[1], STR("runs")))
                control_runs(azure, request);
        else
                emu_reply(request, 404, "text/plain", STR("no such thing\n"));
        return true;
}
