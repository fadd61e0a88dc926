#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dagward/base/clock.h"
#include "dagward/net/fetch.h"
#include "stub_server.h"

/* What a fetch said, copied. */
struct said {
        int calls;
        bool answered;
        int status;
        char body[4096];
        int64_t max_age_s, retry_after_s, date_ms;
        char error[512];
        char field[64]; /* X-Field */
};

struct rig {
        struct event_base *base;
        struct fetcher *fetcher;
        struct stub *stub;
};

static struct rig rig_start(void)
{
        struct rig rig = {.base = event_base_new(), .stub = stub_start()};

        rig.fetcher = fetcher_new(rig.base);
        return rig;
}

static void rig_stop(struct rig *rig)
{
        fetcher_free(rig->fetcher);
        event_base_free(rig->base);
        stub_stop(rig->stub);
}

static void on_done(const struct fetch_result *result, void *arg)
{
        struct said *said = arg;

        said->calls++;
        said->answered = result->answered;
        said->status = result->status;
        said->max_age_s = result->max_age_s;
        said->retry_after_s = result->retry_after_s;
        said->date_ms = result->date_ms;
        snprintf(said->body, sizeof(said->body), "%.*s", STR_FMT(result->body));
        struct str field = fetch_field(result, "x-field");
        snprintf(said->field, sizeof(said->field), "%.*s", (int)field.len,
                field.ptr ? field.ptr : "");
        snprintf(
                said->error, sizeof(said->error), "%s", result->answered ? "" : result->error.text);
}

static void run(struct rig *rig, const struct said *said)
{
        int64_t end = clock_mono_ms() + 8000;
        while (said->calls == 0 && clock_mono_ms() < end) {
                struct timeval moment = {0, 20 * 1000};
                event_base_loopexit(rig->base, &moment);
                event_base_dispatch(rig->base);
        }
        assert_int_equal(said->calls, 1);
}

static const char *url_of(const struct rig *rig, const char *path)
{
        static char url[300];

        snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", rig->stub->port, path);
        return url;
}

static struct said get(struct rig *rig, const char *url, const struct secret *bearer)
{
        struct said said = {0};
        struct fetch_request request = {.url = url,
                .bearer = bearer,
                .timeout_ms = 2000,
                .most_bytes = 1000,
                .allow_plain_loopback = true};

        assert_non_null(fetch_start(rig->fetcher, &request, on_done, &said));
        assert_int_equal(said.calls, 0);
        run(rig, &said);
        return said;
}

static void a_field_of_the_answer_is_found_by_its_name(void **state)
{
        struct rig rig = rig_start();

        (void)state;
        stub_set(rig.stub, "/a", 401, "X-Other: no\r\nX-Field: yes\r\n", "{}");
        assert_string_equal(get(&rig, url_of(&rig, "/a"), NULL).field, "yes");
        stub_set(rig.stub, "/a", 200, "", "{}");
        assert_string_equal(get(&rig, url_of(&rig, "/a"), NULL).field, "");
        assert_string_equal(get(&rig, "http://127.0.0.1:1/", NULL).field, "");
        rig_stop(&rig);
}

static void an_answer_comes_whole_with_the_fields_that_matter(void **state)
{
        struct rig rig = rig_start();
        static const struct {
                const char *fields;
                int64_t max_age_s, retry_after_s, date_ms;
        } cases[] = {
                {"", -1, -1, -1},
                {"Cache-Control: public, max-age=300, must-revalidate\r\n", 300, -1, -1},
                {"cache-control: MAX-AGE=5\r\n", 5, -1, -1},
                {"Cache-Control: no-store, max-age=300\r\n", 0, -1, -1},
                {"Cache-Control: max-age=-1\r\n", -1, -1, -1},
                {"Cache-Control: max-age=99999999999\r\n", 1000000000, -1, -1},
                {"Retry-After: 17\r\n", -1, 17, -1},
                {"Retry-After: Thu, 01 Jan 1970 00:00:10 GMT\r\n", -1, 0, -1},
                {"Retry-After: soon\r\n", -1, -1, -1},
                {"Date: Thu, 01 Jan 1970 00:00:10 GMT\r\n", -1, -1, 10000},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                stub_set(rig.stub, "/a", 200, cases[i].fields, "{\"x\":1}");
                struct said said = get(&rig, url_of(&rig, "/a"), NULL);
                assert_true(said.answered);
                assert_int_equal(said.status, 200);
                assert_string_equal(said.body, "{\"x\":1}");
                assert_int_equal(said.max_age_s, cases[i].max_age_s);
                assert_int_equal(said.retry_after_s, cases[i].retry_after_s);
                assert_int_equal(said.date_ms, cases[i].date_ms);
        }
        rig_stop(&rig);
}

static void a_post_carries_its_body_and_a_bearer_its_token(void **state)
{
        struct rig rig = rig_start();
        struct secret bearer = {NULL, 0};
        struct said said = {0};
        const char *const fields[] = {"X-One: 1"};

        (void)state;
        secret_set(&bearer, STR("opaque"));
        stub_set(rig.stub, "/t", 400, "", "{}");
        struct fetch_request request = {.url = url_of(&rig, "/t"),
                .body = STR("a=b&c=d"),
                .content_type = "application/x-www-form-urlencoded",
                .bearer = &bearer,
                .fields = fields,
                .n_fields = 1,
                .timeout_ms = 2000,
                .most_bytes = 10,
                .allow_plain_loopback = true};
        assert_non_null(fetch_start(rig.fetcher, &request, on_done, &said));
        secret_drop(&bearer);
        run(&rig, &said);
        assert_int_equal(said.status, 400);
        assert_true(stub_saw(rig.stub, "/t", "POST /t HTTP/1.1\r\n"));
        assert_true(stub_saw(rig.stub, "/t", "Authorization: Bearer opaque\r\n"));
        assert_true(
                stub_saw(rig.stub, "/t", "Content-Type: application/x-www-form-urlencoded\r\n"));
        assert_true(stub_saw(rig.stub, "/t", "X-One: 1\r\n"));
        assert_true(stub_saw(rig.stub, "/t", "\r\n\r\na=b&c=d"));
        assert_false(stub_saw(rig.stub, "/t", "Expect"));
        rig_stop(&rig);
}

static void a_body_over_the_limit_is_an_error(void **state)
{
        struct rig rig = rig_start();
        char body[1100];

        (void)state;
        memset(body, 'x', sizeof(body));
        body[1000] = '\0';
        stub_set(rig.stub, "/fits", 200, "", body);
        assert_true(get(&rig, url_of(&rig, "/fits"), NULL).answered);
        body[1000] = 'x';
        body[1001] = '\0';
        stub_set(rig.stub, "/long", 200, "", body);
        struct said said = get(&rig, url_of(&rig, "/long"), NULL);
        assert_false(said.answered);
        assert_non_null(strstr(said.error, "longer than 1000 bytes"));
        rig_stop(&rig);
}

static void redirects_stay_at_the_origin_that_was_asked(void **state)
{
        struct rig rig = rig_start();
        struct stub *other = stub_start();
        struct secret bearer = {NULL, 0};
        char away[100];

        (void)state;
        stub_set(rig.stub, "/there", 200, "", "here");
        stub_set(rig.stub, "/same", 302, "Location: /there\r\n", "");
        assert_string_equal(get(&rig, url_of(&rig, "/same"), NULL).body, "here");
        /* Another port is another origin. */
        snprintf(away, sizeof(away), "Location: http://127.0.0.1:%u/there\r\n", other->port);
        stub_set(rig.stub, "/away", 302, away, "");
        stub_set(other, "/there", 200, "", "stolen");
        struct said said = get(&rig, url_of(&rig, "/away"), NULL);
        assert_int_equal(said.status, 302);
        assert_int_equal(stub_requests(other), 0);
        /* A loop ends. */
        stub_set(rig.stub, "/loop", 302, "Location: /loop\r\n", "");
        said = get(&rig, url_of(&rig, "/loop"), NULL);
        assert_int_equal(said.status, 302);
        assert_int_equal(stub_hits(rig.stub, "/loop"), 4);
        /* Credentials do not travel along. */
        secret_set(&bearer, STR("opaque"));
        assert_int_equal(get(&rig, url_of(&rig, "/same"), &bearer).status, 302);
        secret_drop(&bearer);
        stub_stop(other);
        rig_stop(&rig);
}

static void urls_that_must_not_be_asked_are_refused_without_a_connection(void **state)
{
        struct rig rig = rig_start();
        static const char *const refused[] = {
                "http://example.com/keys",
                "http://127.0.0.1.example.com/",
                "http://10.0.0.1/",
                "ftp://127.0.0.1/",
                "file:///etc/passwd",
                "http://user:password@127.0.0.1/",
                "not a url",
                "",
        };

        (void)state;
        for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
                struct said said = get(&rig, refused[i], NULL);
                assert_false(said.answered);
                assert_non_null(strstr(said.error, "http"));
        }
        struct said said = {0};
        struct fetch_request request = {
                .url = url_of(&rig, "/a"), .timeout_ms = 1000, .most_bytes = 10};
        assert_non_null(fetch_start(rig.fetcher, &request, on_done, &said));
        run(&rig, &said);
        assert_false(said.answered);
        assert_int_equal(stub_requests(rig.stub), 0);
        rig_stop(&rig);
}

static void a_fifo_in_place_of_the_authorities_is_not_opened(void **state)
{
        struct rig rig = rig_start();
        char path[] = "/tmp/dagward-fifo-XXXXXX";
        struct said said = {0};
        struct fetch_request request = {
                .url = "https://127.0.0.1:1/", .ca = path, .timeout_ms = 1000, .most_bytes = 10};

        (void)state;
        assert_non_null(mkdtemp(path));
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_non_null(fetch_start(rig.fetcher, &request, on_done, &said));
        run(&rig, &said);
        unlink(path);
        assert_false(said.answered);
        assert_non_null(strstr(said.error, "FIFO"));
        rig_stop(&rig);
}

static void a_silent_server_is_given_up_and_a_dead_one_too(void **state)
{
        struct rig rig = rig_start();
        struct said said = {0};
        char dead[100];

        (void)state;
        stub_set(rig.stub, "/slow", 200, "", "late");
        stub_delay(rig.stub, "/slow", 1500);
        struct fetch_request request = {.url = url_of(&rig, "/slow"),
                .timeout_ms = 150,
                .most_bytes = 10,
                .allow_plain_loopback = true};
        int64_t start = clock_mono_ms();
        assert_non_null(fetch_start(rig.fetcher, &request, on_done, &said));
        run(&rig, &said);
        assert_false(said.answered);
        assert_in_range(clock_mono_ms() - start, 100, 1400);

        struct stub *gone = stub_start();
        snprintf(dead, sizeof(dead), "http://127.0.0.1:%u/", gone->port);
        stub_stop(gone);
        assert_false(get(&rig, dead, NULL).answered);
        rig_stop(&rig);
}

static void a_cancelled_fetch_says_nothing(void **state)
{
        struct rig rig = rig_start();
        struct said cancelled = {0}, kept = {0}, refused = {0}, left = {0};

        (void)state;
        stub_set(rig.stub, "/a", 200, "", "a");
        struct fetch_request request = {.url = url_of(&rig, "/a"),
                .timeout_ms = 1000,
                .most_bytes = 10,
                .allow_plain_loopback = true};
        struct fetch *one = fetch_start(rig.fetcher, &request, on_done, &cancelled);
        assert_non_null(fetch_start(rig.fetcher, &request, on_done, &kept));
        fetch_cancel(one);
        request.url = "nonsense";
        fetch_cancel(fetch_start(rig.fetcher, &request, on_done, &refused));
        run(&rig, &kept);
        assert_int_equal(cancelled.calls + refused.calls, 0);
        /* What is under way when everything ends is dropped as well. */
        assert_non_null(fetch_start(rig.fetcher, &request, on_done, &left));
        rig_stop(&rig);
        assert_int_equal(left.calls, 0);
}

/* Stands before libc's for the library: while `dns_hangs`, nobody answers for silent.test. */
static atomic_bool dns_hangs;
static atomic_int dns_waiting;

int getaddrinfo(
        const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
        int (*libc)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

        if (!node || strcmp(node, "silent.test") != 0) {
                *(void **)&libc = dlsym(RTLD_NEXT, "getaddrinfo");
                return libc(node, service, hints, out);
        }
        int64_t end = clock_mono_ms() + 6000; /* whoever waits for it fails below, not for ever */
        dns_waiting++;
        while (dns_hangs && clock_mono_ms() < end)
                usleep(10 * 1000);
        dns_waiting--;
        return EAI_AGAIN;
}

/* The loop belongs to everybody who asks for something: neither a deadline nor a cancel waits for
 * the name service. */
static void a_name_service_that_does_not_answer_holds_nobody_up(void **state)
{
        struct fetch_request request = {
                .url = "https://silent.test/", .timeout_ms = 300, .most_bytes = 1000};
        struct rig rig = rig_start();
        struct said said = {0}, cancelled = {0};
        int64_t began = clock_mono_ms();

        (void)state;
        dns_hangs = true;
        assert_non_null(fetch_start(rig.fetcher, &request, on_done, &said));
        run(&rig, &said);
        assert_false(said.answered);
        assert_in_range(clock_mono_ms() - began, 100, 3000);
        request.timeout_ms = 60 * 1000;
        struct fetch *fetch = fetch_start(rig.fetcher, &request, on_done, &cancelled);
        while (dns_waiting < 2) {
                struct timeval moment = {0, 20 * 1000};
                event_base_loopexit(rig.base, &moment);
                event_base_dispatch(rig.base);
        }
        began = clock_mono_ms();
        fetch_cancel(fetch);
        assert_in_range(clock_mono_ms() - began, 0, 2000);
        stub_set(rig.stub, "/a", 200, "", "{}");
        assert_int_equal(get(&rig, url_of(&rig, "/a"), NULL).status, 200);
        rig_stop(&rig);
        assert_int_equal(cancelled.calls, 0);
        dns_hangs = false;
        while (dns_waiting)
                usleep(10 * 1000);
}

static void the_environment_does_not_choose_a_proxy(void **state)
{
        struct rig rig = rig_start();

        (void)state;
        setenv("http_proxy", "http://127.0.0.1:9", 1);
        setenv("ALL_PROXY", "http://127.0.0.1:9", 1);
        stub_set(rig.stub, "/a", 200, "", "straight");
        assert_string_equal(get(&rig, url_of(&rig, "/a"), NULL).body, "straight");
        unsetenv("http_proxy");
        unsetenv("ALL_PROXY");
        rig_stop(&rig);
}

static void origins_compare_by_scheme_host_and_port(void **state)
{
        (void)state;
        assert_true(fetch_same_origin("https://a.example/x", "https://A.example:443/y?z"));
        assert_false(fetch_same_origin("https://a.example/", "http://a.example/"));
        assert_false(fetch_same_origin("https://a.example/", "https://a.example:8443/"));
        assert_false(fetch_same_origin("https://a.example/", "https://b.example/"));
        assert_false(fetch_same_origin("https://a.example/", "https://u@a.example/"));
        assert_false(fetch_same_origin("nonsense", "nonsense"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_field_of_the_answer_is_found_by_its_name),
                cmocka_unit_test(an_answer_comes_whole_with_the_fields_that_matter),
                cmocka_unit_test(a_post_carries_its_body_and_a_bearer_its_token),
                cmocka_unit_test(a_body_over_the_limit_is_an_error),
                cmocka_unit_test(redirects_stay_at_the_origin_that_was_asked),
                cmocka_unit_test(urls_that_must_not_be_asked_are_refused_without_a_connection),
                cmocka_unit_test(a_fifo_in_place_of_the_authorities_is_not_opened),
                cmocka_unit_test(a_silent_server_is_given_up_and_a_dead_one_too),
                cmocka_unit_test(a_cancelled_fetch_says_nothing),
                cmocka_unit_test(a_name_service_that_does_not_answer_holds_nobody_up),
                cmocka_unit_test(the_environment_does_not_choose_a_proxy),
                cmocka_unit_test(origins_compare_by_scheme_host_and_port),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
