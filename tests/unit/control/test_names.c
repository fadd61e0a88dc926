#include "control_kit.h"

#include "../../../src/control/names.h"

/* What the look-up answers; guarded, because it runs on the resolver's thread. */
static struct {
        pthread_mutex_t lock;
        const char *addresses[3]; /* of every name; none: not found */
        unsigned calls, delay_ms;
        char names[4096];
} dns = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool lookup(const char *host, uint16_t port, struct endpoint *out, struct error *err)
{
        pthread_mutex_lock(&dns.lock);
        unsigned delay_ms = dns.delay_ms;
        size_t at = strlen(dns.names);
        dns.calls++;
        snprintf(dns.names + at, sizeof(dns.names) - at, "%s:%u ", host, port);
        out->n_addresses = 0;
        for (int i = 0; i < 3 && dns.addresses[i]; i++) {
                struct sockaddr_in *v4 = (struct sockaddr_in *)&out->addresses[i];
                *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
                inet_pton(AF_INET, dns.addresses[i], &v4->sin_addr);
                out->address_lens[i] = sizeof(*v4);
                out->n_addresses++;
        }
        pthread_mutex_unlock(&dns.lock);
        usleep(delay_ms * 1000);
        return out->n_addresses ? true : error_set(err, "not found");
}

static void dns_set(const char *a, const char *b, unsigned delay_ms)
{
        pthread_mutex_lock(&dns.lock);
        dns.addresses[0] = a;
        dns.addresses[1] = b;
        dns.calls = 0;
        dns.delay_ms = delay_ms;
        dns.names[0] = '\0';
        pthread_mutex_unlock(&dns.lock);
}

static unsigned dns_calls(void)
{
        pthread_mutex_lock(&dns.lock);
        unsigned calls = dns.calls;
        pthread_mutex_unlock(&dns.lock);
        return calls;
}

static struct names *names_of(
        struct event_base *base, struct told *told, struct config_host *hosts, size_t n_hosts)
{
        static struct config config; /* only read while names_new runs */
        struct source_hooks hooks = {told_changed, told_settled, told_event, told};

        config = (struct config){
                .upstream = {.hosts = hosts, .n_hosts = n_hosts, .resolve_ms = 60 * 1000}};
        return names_new(&config, NULL, base, lookup, &hooks);
}

static void every_service_is_found_where_the_catalogue_says(void **state)
{
        struct event_base *base = event_base_new();
        struct told told = {0};

        (void)state;
        dns_set("192.0.2.1", "192.0.2.2", 0);
        struct names *names = names_of(base, &told, NULL, 0);
        assert_int_equal(names->endpoints[SERVICE_DEV].n_addresses, 0);
        names_start(names);
        assert_true(turn_until(base, &told.changed, 1, 5000));
        turn(base, 100);
        const struct endpoint *dev = &names->endpoints[SERVICE_DEV];
        assert_string_equal(dev->host, "dev.azure.com");
        assert_string_equal(dev->authority, "dev.azure.com");
        assert_true(dev->tls);
        assert_int_equal(dev->port, 443);
        for (unsigned s = 0; s < SERVICE_COUNT; s++)
                assert_int_equal(names->endpoints[s].n_addresses, 2);
        assert_int_equal(dns_calls(), SERVICE_COUNT);
        assert_true(told.changed <= 3); /* answers that come together are published together */
        names_free(names);
        event_base_free(base);
}

static void an_override_replaces_host_port_and_scheme(void **state)
{
        static const struct {
                const char *pattern, *host;
                bool https;
                uint16_t port;
                const char *authority; /* of dev.azure.com */
                size_t n_addresses;
        } cases[] = {
                {"*", "127.0.0.1", true, 9443, "127.0.0.1:9443", 1},
                {"dev.azure.com", "::1", true, 443, "[::1]", 1},
                {"*", "::1", false, 8080, "[::1]:8080", 1},
                {"*", "localhost", false, 80, "localhost", 2},
                {"*", "emulator.test", true, 443, "emulator.test", 0},
                {"vsrm.dev.azure.com", "127.0.0.1", true, 9443, "dev.azure.com", 0},
        };
        struct event_base *base = event_base_new();
        struct told told = {0};

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct config_host host = {.pattern = str_of(cases[i].pattern),
                        .url = {.https = cases[i].https,
                                .host = str_of(cases[i].host),
                                .port = cases[i].port}};
                struct names *names = names_of(base, &told, &host, 1);
                const struct endpoint *dev = &names->endpoints[SERVICE_DEV];
                assert_string_equal(dev->authority, cases[i].authority);
                assert_int_equal(dev->n_addresses, cases[i].n_addresses);
                names_free(names);
        }
        event_base_free(base);
}

static void a_name_that_many_services_share_is_looked_up_once(void **state)
{
        struct event_base *base = event_base_new();
        struct told told = {0};
        struct config_host host = {.pattern = STR("*"),
                .url = {.https = true, .host = STR("emulator.test"), .port = 9443}};

        (void)state;
        dns_set("192.0.2.1", NULL, 0);
        struct names *names = names_of(base, &told, &host, 1);
        names_start(names);
        assert_true(turn_until(base, &told.changed, 1, 5000));
        assert_int_equal(dns_calls(), 1);
        assert_string_equal(dns.names, "emulator.test:9443 ");
        for (unsigned s = 0; s < SERVICE_COUNT; s++)
                assert_int_equal(names->endpoints[s].n_addresses, 1);
        names_free(names);
        event_base_free(base);
}

static void only_news_are_published_and_failures_keep_what_was_known(void **state)
{
        struct event_base *base = event_base_new();
        struct told told = {0};
        struct config_host host = {.pattern = STR("*"),
                .url = {.https = true, .host = STR("emulator.test"), .port = 9443}};

        (void)state;
        dns_set("192.0.2.1", "192.0.2.2", 0);
        struct names *names = names_of(base, &told, &host, 1);
        names_start(names);
        assert_true(turn_until(base, &told.changed, 1, 5000));
        /* The same in another order. */
        dns_set("192.0.2.2", "192.0.2.1", 0);
        names_start(names);
        turn(base, 100);
        assert_int_equal(dns_calls(), 1);
        assert_int_equal(told.changed, 1);
        dns_set(NULL, NULL, 0);
        names_start(names);
        turn(base, 100);
        assert_int_equal(told.changed, 1);
        assert_int_equal(names->endpoints[SERVICE_DEV].n_addresses, 2);
        assert_true(names->failing[SERVICE_DEV]);
        dns_set("192.0.2.3", NULL, 0);
        names_start(names);
        assert_true(turn_until(base, &told.changed, 2, 5000));
        assert_int_equal(names->endpoints[SERVICE_DEV].n_addresses, 1);
        assert_false(names->failing[SERVICE_DEV]);
        names_free(names);
        event_base_free(base);
}

static void a_look_up_that_hangs_stops_nobody(void **state)
{
        struct event_base *base = event_base_new();
        struct told told = {0}, told_fresh = {0};
        struct config_host host = {.pattern = STR("*"),
                .url = {.https = true, .host = STR("emulator.test"), .port = 9443}};

        (void)state;
        dns_set("192.0.2.1", NULL, 1000);
        struct names *names = names_of(base, &told, &host, 1);
        names_start(names);
        int64_t start = clock_mono_ms();
        turn(base, 50);
        /* A reload takes the thread along; its answer reaches the new names. */
        struct names *fresh = names_of(base, &told_fresh, &host, 1);
        names_adopt(fresh, names);
        names_free(names);
        names_start(fresh);
        assert_true(clock_mono_ms() - start < 800);
        assert_true(turn_until(base, &told_fresh.changed, 1, 5000));
        assert_int_equal(told.changed, 0);
        /* So does the end, while another look-up hangs. */
        names_start(fresh);
        turn(base, 50);
        start = clock_mono_ms();
        names_free(fresh);
        assert_true(clock_mono_ms() - start < 800);
        event_base_free(base);
        usleep(3000 * 1000); /* the thread that was left behind cleans up */
}

static void whoever_cannot_reach_an_address_has_it_looked_up_soon_and_not_often(void **state)
{
        struct event_base *base = event_base_new();
        struct told told = {0};

        (void)state;
        dns_set("192.0.2.1", NULL, 0);
        struct names *names = names_of(base, &told, NULL, 0);
        names_start(names);
        assert_true(turn_until(base, &told.changed, 1, 5000));
        turn(base, 100);
        unsigned before = told.changed;
        dns_set("192.0.2.7", NULL, 0);
        for (int i = 0; i < 50; i++)
                names_again(names);
        turn(base, 100);
        assert_int_equal(dns_calls(), 0); /* there was a round a moment ago */
        assert_true(turn_until(base, &told.changed, before + 1, 10000));
        turn(base, 100);
        assert_int_equal(dns_calls(), SERVICE_COUNT);
        names_free(names);
        event_base_free(base);
}

static struct {
        int calls;
        size_t n_addresses; /* 0: in vain */
} place_told;

static void on_place(
        void *owner, const char *host, const struct endpoint *endpoint, const char *why)
{
        (void)owner;
        (void)why;
        assert_string_equal(host, "a.blob.core.windows.net");
        place_told.n_addresses = endpoint ? endpoint->n_addresses : 0;
        place_told.calls++;
}

static void storage_that_was_found_once_stays_while_look_ups_fail(void **state)
{
        static const char host[] = "a.blob.core.windows.net";
        struct event_base *base = event_base_new();
        struct told told = {0};
        struct endpoint endpoint;
        struct error err;
        static const struct {
                const char *address;
                size_t found;
        } rounds[] = {{NULL, 0}, {"192.0.2.1", 1}, {NULL, 1}, {"192.0.2.2", 1}};

        (void)state;
        place_told.calls = 0;
        struct names *names = names_of(base, &told, NULL, 0);
        names->found = on_place;
        for (int i = 0; i < 4; i++) {
                dns_set(rounds[i].address, NULL, 0);
                names->places[0].found_mono_ms = i > 1; /* a minute has passed */
                assert_int_equal(names_place(names, host, &endpoint, &err), SOURCE_WAIT);
                for (int turns = 0; turns < 500 && place_told.calls <= i; turns++)
                        turn(base, 10);
                assert_int_equal(place_told.calls, i + 1);
                assert_int_equal(place_told.n_addresses, rounds[i].found);
        }
        names_free(names);
        event_base_free(base);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_service_is_found_where_the_catalogue_says),
                cmocka_unit_test(an_override_replaces_host_port_and_scheme),
                cmocka_unit_test(a_name_that_many_services_share_is_looked_up_once),
                cmocka_unit_test(only_news_are_published_and_failures_keep_what_was_known),
                cmocka_unit_test(a_look_up_that_hangs_stops_nobody),
                cmocka_unit_test(storage_that_was_found_once_stays_while_look_ups_fail),
                cmocka_unit_test(
                        whoever_cannot_reach_an_address_has_it_looked_up_soon_and_not_often),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
