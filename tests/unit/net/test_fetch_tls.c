/* Whether fetch trusts only who it should: a TLS server in a thread, certificates made on the spot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <event2/event.h>
#include <openssl/ssl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>

#include "dagward/base/clock.h"
#include "certificate_kit.h"
#include "dagward/net/fetch.h"
#include "stub_server.h"

struct tls_stub {
        pthread_t thread;
        SSL_CTX *ctx;
        int fd;
        unsigned short port;
};

static SSL_CTX *context_for(const char *names, long lifetime_s, const char *path)
{
        SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
        char key_path[100];

        snprintf(key_path, sizeof(key_path), "%s.key", path);
        assert_true(certificate_write(names, lifetime_s, path, key_path));
        assert_int_equal(SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM), 1);
        unlink(key_path);
        return ctx;
}

/* Serves one connection. */
static void *tls_run(void *arg)
{
        struct tls_stub *stub = arg;
        int fd = accept(stub->fd, NULL, NULL);
        SSL *ssl = SSL_new(stub->ctx);
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        char in[4096];

        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, in, sizeof(in)) > 0) {
                SSL_write(ssl, answer, sizeof(answer) - 1);
                SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(fd);
        return NULL;
}

/* Serves requests on the connection that came last, until the listener is shut down. */
static void *tls_run_kept(void *arg)
{
        struct tls_stub *stub = arg;
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        SSL *ssl = NULL;
        char in[4096];

        for (;;) {
                struct pollfd fds[2] = {{.fd = stub->fd, .events = POLLIN},
                        {.fd = ssl ? SSL_get_fd(ssl) : -1, .events = POLLIN}};
                poll(fds, 2, -1);
                int fd = fds[0].revents ? accept(stub->fd, NULL, NULL) : -1;
                bool gone = !fds[0].revents && SSL_read(ssl, in, sizeof(in)) <= 0;
                if (ssl && (fds[0].revents || gone)) {
                        close(SSL_get_fd(ssl));
                        SSL_free(ssl);
                        ssl = NULL;
                }
                if (fds[0].revents && fd < 0)
                        return NULL;
                if (fd >= 0) {
                        ssl = SSL_new(stub->ctx);
                        SSL_set_fd(ssl, fd);
                        SSL_accept(ssl);
                } else if (!gone) {
                        SSL_write(ssl, answer, sizeof(answer) - 1);
                }
        }
}

static void on_done(const struct fetch_result *result, void *arg)
{
        char *said = arg;

        if (result->answered)
                snprintf(said, 600, "%d %.*s", result->status, STR_FMT(result->body));
        else
                snprintf(said, 600, "%s", result->error.text);
}

static void fetch_now(struct event_base *base, struct fetcher *fetcher, const char *url,
        const char *ca, char said[600])
{
        struct fetch_request request = {
                .url = url, .ca = ca, .timeout_ms = 3000, .most_bytes = 100};

        said[0] = '\0';
        assert_non_null(fetch_start(fetcher, &request, on_done, said));
        int64_t end = clock_mono_ms() + 5000;
        while (!said[0] && clock_mono_ms() < end) {
                struct timeval moment = {0, 10 * 1000};
                event_base_loopexit(base, &moment);
                event_base_dispatch(base);
        }
}

static void listen_here(struct tls_stub *stub)
{
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(at);

        stub->fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(stub->fd, (struct sockaddr *)&at, len), 0);
        assert_int_equal(listen(stub->fd, 1), 0);
        getsockname(stub->fd, (struct sockaddr *)&at, &len);
        stub->port = ntohs(at.sin_port);
}

enum { UPDATES = 60 };

/* Says all at once: updates of its keys, and the answer behind them. */
static void *tls_run_updating(void *arg)
{
        struct tls_stub *stub = arg;
        int fd = accept(stub->fd, NULL, NULL), on = 1, off = 0;
        SSL *ssl = SSL_new(stub->ctx);
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        char in[4096];

        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1 && SSL_read(ssl, in, sizeof(in)) > 0) {
                setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
                for (int i = 0; i < UPDATES; i++)
                        if (SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
                                (void)SSL_do_handshake(ssl);
                SSL_write(ssl, answer, sizeof(answer) - 1);
                setsockopt(fd, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
                SSL_shutdown(ssl);
        }
        SSL_free(ssl);
        close(fd);
        return NULL;
}

static void other_fetches_have_a_turn_between_updates_of_keys(void **state)
{
        char path[] = "/tmp/dagward-updates-XXXXXX", url[100], said[600] = "";
        struct event_base *base = event_base_new();
        struct fetcher *fetcher = fetcher_new(base);
        struct tls_stub stub;
        int turns = 0;

        (void)state;
        close(mkstemp(path));
        stub.ctx = context_for("IP:127.0.0.1", 7200, path);
        listen_here(&stub);
        pthread_create(&stub.thread, NULL, tls_run_updating, &stub);
        snprintf(url, sizeof(url), "https://127.0.0.1:%u/", stub.port);
        struct fetch_request request = {
                .url = url, .ca = path, .timeout_ms = 10000, .most_bytes = 100};
        assert_non_null(fetch_start(fetcher, &request, on_done, said));
        for (; !said[0]; turns++)
                event_base_loop(base, EVLOOP_ONCE);
        assert_string_equal(said, "200 ok");
        assert_true(turns > UPDATES);
        pthread_join(stub.thread, NULL);
        close(stub.fd);
        SSL_CTX_free(stub.ctx);
        fetcher_free(fetcher);
        event_base_free(base);
        unlink(path);
}

/* Fetches https://`host`:port/ from a server with a certificate for `names`, trusting `ca` (or the
 * certificate itself when it is NULL). */
static const char *said_by(
        const char *host, const char *names, long lifetime_s, int newest, const char *ca)
{
        static char said[600];
        struct tls_stub stub;
        struct event_base *base = event_base_new();
        struct fetcher *fetcher = fetcher_new(base);
        char path[] = "/tmp/dagward-ca-XXXXXX", url[100];

        close(mkstemp(path));
        stub.ctx = context_for(names, lifetime_s, path);
        if (newest)
                SSL_CTX_set_max_proto_version(stub.ctx, newest);
        SSL_CTX_set_security_level(stub.ctx, 0);
        listen_here(&stub);
        pthread_create(&stub.thread, NULL, tls_run, &stub);
        snprintf(url, sizeof(url), "https://%s:%u/", host, stub.port);
        fetch_now(base, fetcher, url, ca ? ca : path, said);
        fetcher_free(fetcher);
        event_base_free(base);
        pthread_join(stub.thread, NULL);
        close(stub.fd);
        SSL_CTX_free(stub.ctx);
        unlink(path);
        return said;
}

static void only_a_certificate_for_the_host_by_a_known_authority_is_trusted(void **state)
{
        const long day = 86400;

        (void)state;
        assert_string_equal(said_by("127.0.0.1", "IP:127.0.0.1", day, 0, NULL), "200 ok");
        assert_string_equal(said_by("localhost", "DNS:localhost", day, 0, NULL), "200 ok");
        assert_string_equal(
                said_by("127.0.0.1", "IP:127.0.0.1", day, TLS1_2_VERSION, NULL), "200 ok");
        assert_non_null(strstr(said_by("127.0.0.1", "IP:127.0.0.2", day, 0, NULL), "not trusted"));
        assert_non_null(
                strstr(said_by("localhost", "DNS:example.com", day, 0, NULL), "not trusted"));
        assert_non_null(
                strstr(said_by("127.0.0.1", "IP:127.0.0.1", -3600, 0, NULL), "not trusted"));
        assert_non_null(strstr(
                said_by("127.0.0.1", "IP:127.0.0.1", day, 0, "/etc/ssl/certs/ca-certificates.crt"),
                "not trusted"));
}

static void older_tls_is_refused(void **state)
{
        (void)state;
        const char *said = said_by("127.0.0.1", "IP:127.0.0.1", 86400, TLS1_1_VERSION, NULL);
        assert_null(strstr(said, "200"));
        assert_true(said[0]);
}

/* An authority that is taken out of its file: a connection it once vouched for is not used on. */
static void an_authority_taken_out_of_its_file_vouches_for_no_old_connection(void **state)
{
        static const int newest[] = {TLS1_2_VERSION, TLS1_3_VERSION};
        char said[600], url[100];

        (void)state;
        for (size_t i = 0; i < sizeof(newest) / sizeof(newest[0]); i++) {
                struct event_base *base = event_base_new();
                struct fetcher *fetcher = fetcher_new(base);
                char path[] = "/tmp/dagward-ca-XXXXXX";
                struct tls_stub stub;

                close(mkstemp(path));
                stub.ctx = context_for("IP:127.0.0.1", 86400, path);
                SSL_CTX_set_max_proto_version(stub.ctx, newest[i]);
                listen_here(&stub);
                pthread_create(&stub.thread, NULL, tls_run_kept, &stub);
                snprintf(url, sizeof(url), "https://127.0.0.1:%u/", stub.port);
                fetch_now(base, fetcher, url, path, said);
                assert_string_equal(said, "200 ok");
                SSL_CTX_free(context_for("IP:127.0.0.1", 86400, path));
                fetch_now(base, fetcher, url, path, said);
                assert_string_equal(said, "200 ok"); /* the connection is kept */
                fetcher_forget(fetcher);
                fetch_now(base, fetcher, url, path, said);
                assert_non_null(strstr(said, "not trusted"));
                usleep(2100 * 1000); /* from here on by the age of connections */
                fetch_now(base, fetcher, url, path, said);
                assert_non_null(strstr(said, "not trusted"));
                fetcher_free(fetcher);
                event_base_free(base);
                shutdown(stub.fd, SHUT_RDWR);
                pthread_join(stub.thread, NULL);
                close(stub.fd);
                SSL_CTX_free(stub.ctx);
                unlink(path);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_authority_taken_out_of_its_file_vouches_for_no_old_connection),
                cmocka_unit_test(only_a_certificate_for_the_host_by_a_known_authority_is_trusted),
                cmocka_unit_test(older_tls_is_refused),
                cmocka_unit_test(other_fetches_have_a_turn_between_updates_of_keys),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
