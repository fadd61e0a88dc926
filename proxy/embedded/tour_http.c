/*
 * One request of the tour, by libcurl: no proxy, no redirects, no netrc, nothing but what is said.
 */
#include "tour.h"

#include <curl/curl.h>
#include <strings.h>

enum { ANSWER_MOST_BYTES = 4 << 20, CALL_MS = 15000 };

/* What curl hands over, piece by piece. */
struct receiving {
        struct tour *t;
        struct tour_answer *answer;
        struct buf body;
};

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
        struct receiving *it = arg;
        struct str name, line = str_trim(str_view(bytes, size * n));

        if (str_starts(line, STR("HTTP/"))) {
                it->answer->line = arena_copy(&it->t->arena, line).ptr;
        } else {
                struct str value = str_trim(str_cut(line, ':', &name));
                if (str_eq_fold(name, STR("X-Correlation-Id")))
                        it->answer->correlation = arena_copy(&it->t->arena, value).ptr;
        }
        return size * n;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
        struct receiving *it = arg;

        buf_add(&it->body, bytes, size * n);
        return it->body.overflow ? 0 : size * n;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        (void)arg, (void)a, (void)b, (void)c, (void)d;
        return tour_stopped();
}

static struct curl_slist *header_list(struct tour *t, const struct tour_call *call)
{
        struct curl_slist *list = NULL;

        if (call->bearer)
                list = curl_slist_append(list,
                        arena_printf(&t->arena, "Authorization: Bearer %s", call->bearer).ptr);
        for (size_t i = 0; call->headers && call->headers[i]; i++)
                list = curl_slist_append(list, call->headers[i]);
        return list;
}

static void set_options(
        CURL *curl, const struct tour_call *call, struct curl_slist *list, struct receiving *it)
{
        curl_easy_setopt(curl, CURLOPT_URL, call->url);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)CALL_MS);
        curl_easy_setopt(curl, CURLOPT_USERAGENT, "dagward-demo/" DAGWARD_VERSION);
        curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(curl, CURLOPT_HEADERDATA, it);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, it);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        if (call->user_password) {
                curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
                curl_easy_setopt(curl, CURLOPT_USERPWD, call->user_password);
        }
        if (call->body) {
                curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(call->body));
                curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body);
        }
}

void tour_call(struct tour *t, const struct tour_call *call, struct tour_answer *answer)
{
        struct receiving it = {.t = t, .answer = answer};
        struct curl_slist *list = header_list(t, call);
        CURL *curl = curl_easy_init();
        CURLcode code = CURLE_FAILED_INIT;
        long status = 0;

        *answer = (struct tour_answer){.line = "", .correlation = ""};
        buf_init(&it.body, ANSWER_MOST_BYTES);
        if (curl) {
                set_options(curl, call, list, &it);
                code = curl_easy_perform(curl);
                curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        }
        if (code == CURLE_OK) {
                answer->status = (int)status;
                answer->body = arena_copy(&t->arena, buf_str(&it.body));
                answer->json = json_loadb(answer->body.ptr, answer->body.len, 0, NULL);
        } else {
                answer->line =
                        arena_printf(&t->arena, "no answer: %s", curl_easy_strerror(code)).ptr;
        }
        buf_clear(&it.body);
        curl_slist_free_all(list);
        curl_easy_cleanup(curl);
}

void tour_answer_clear(struct tour_answer *answer)
{
        json_decref(answer->json);
        answer->json = NULL;
}

const char *tour_recorded_header(const json_t *request, const char *name)
{
        json_t *headers = json_object_get(request, "headers"), *value;
        const char *key;

        json_object_foreach(headers, key, value)
        {
                if (strcasecmp(key, name) == 0 && json_is_string(value))
                        return json_string_value(value);
        }
        return "";
}

int tour_upstream_saw(struct tour *t, const char *correlation, json_t **all, json_t **first)
{
        const char *url = arena_printf(&t->arena, "%s/~emulator/requests", t->emulator_url).ptr;
        struct tour_call call = {.method = "GET", .url = url};
        struct tour_answer answer;
        json_t *request;
        size_t i;
        int n = 0;

        *first = NULL;
        tour_call(t, &call, &answer);
        *all = answer.json;
        if (answer.status != 200 || !json_is_array(*all))
                return -1;
        json_array_foreach(*all, i, request)
        {
                if (!correlation[0] ||
                        strcasecmp(tour_recorded_header(request, "X-VSS-E2EID"), correlation) != 0)
                        continue;
                *first = request;
                n++;
        }
        return n;
}
