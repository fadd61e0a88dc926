/* TLS sessions: what is resumed, and what must not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "certificate_kit.h"
#include "dagward/net/stream.h"
#include "dagward/net/tls.h"

static char folder[] = "/tmp/dagward-tls-XXXXXX";
static char certificate[64], key[64], other_certificate[64], other_key[64];

static int set_up(void **state)
{
        (void)state;
        if (!mkdtemp(folder))
                return -1;
        snprintf(certificate, sizeof(certificate), "%s/a.crt", folder);
        snprintf(key, sizeof(key), "%s/a.key", folder);
        snprintf(other_certificate, sizeof(other_certificate), "%s/b.crt", folder);
        snprintf(other_key, sizeof(other_key), "%s/b.key", folder);
        return certificate_write("DNS:a.test,DNS:b.test,IP:127.0.0.1", 7200, certificate, key) &&
                               certificate_write("DNS:a.test", 7200, other_certificate, other_key)
                       ? 0
                       : -1;
}

static int tear_down(void **state)
{
        (void)state;
        unlink(certificate);
        unlink(key);
        unlink(other_certificate);
        unlink(other_key);
        return rmdir(folder);
}

static struct tls_context *server(const char *client_ca)
{
        struct error err = {{0}};
        struct tls_context *context = tls_server(certificate, key, client_ca, &err);

        assert_non_null(context);
        return context;
}

static struct tls_context *client(const char *ca, int version)
{
        struct error err = {{0}};
        struct tls_context *context = tls_client(ca, &err);

        assert_non_null(context);
        SSL_CTX_set_max_proto_version(context->ctx, version);
        return context;
}

enum met { FAILED, WHOLE, RESUMED };

/* Both ends shake hands, the server says a byte, and both say good-bye. */
static enum met ends_meet(SSL *there, SSL *here)
{
        bool done[2] = {false, false};
        char byte = 'a', got = '\0';
        enum met met = FAILED;

        for (int turn = 0; turn < 100 && !(done[0] && done[1]); turn++) {
                done[0] = done[0] || SSL_do_handshake(there) == 1;
                done[1] = done[1] || SSL_do_handshake(here) == 1;
        }
        done[0] = done[0] && done[1] && SSL_write(there, &byte, 1) == 1;
        for (int turn = 0; turn < 10 && done[0] && !got; turn++) /* tickets come first */
                (void)SSL_read(here, &got, 1);
        if (got) {
                assert_int_equal(got, byte);
                assert_int_equal(SSL_session_reused(there), SSL_session_reused(here));
                met = SSL_session_reused(here) ? RESUMED : WHOLE;
                SSL_shutdown(here);
                SSL_shutdown(there);
        }
        return met;
}

static enum met meet(struct tls_context *at, struct tls_context *from, const char *host,
        struct tls_session *session)
{
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        SSL *there = tls_accept(at, fds[0]);
        SSL *here =
                session ? tls_resume(from, fds[1], host, session) : tls_connect(from, fds[1], host);
        assert_non_null(there);
        assert_non_null(here);
        enum met met = ends_meet(there, here);
        SSL_free(there);
        SSL_free(here);
        close(fds[0]);
        close(fds[1]);
        return met;
}

static void on_ready(struct stream *stream, void *owner)
{
        (void)stream;
        ++*(unsigned *)owner;
}

/* A stream over TLS, and OpenSSL's end of it. */
struct ends {
        struct tls_context *at, *from;
        struct event_base *base;
        struct stream_pool pool;
        struct stream stream;
        unsigned woken;
        SSL *peer;
        int peer_fd;
};

/* Before the handshake. `accepts`: the stream is the server's. */
static struct ends *ends_new(int version, bool accepts)
{
        struct ends *ends = calloc(1, sizeof(*ends));
        int fds[2];

        assert_non_null(ends);
        ends->at = server(NULL);
        ends->from = client(certificate, version);
        ends->base = event_base_new();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        SSL *there = tls_accept(ends->at, fds[0]),
            *here = tls_connect(ends->from, fds[1], "a.test");
        ends->peer = accepts ? here : there;
        ends->peer_fd = fds[accepts];
        stream_open(&ends->stream, ends->base, &ends->pool, fds[!accepts], accepts ? there : here,
                on_ready, &ends->woken);
        return ends;
}

/* Until both have said all, tickets included. */
static struct ends *ends_shaken(int version, bool accepts)
{
        struct ends *ends = ends_new(version, accepts);

        while (!SSL_is_init_finished(ends->stream.ssl) || !SSL_is_init_finished(ends->peer)) {
                (void)SSL_do_handshake(ends->peer);
                stream_look_again(&ends->stream);
                assert_int_equal(stream_fill(&ends->stream), STREAM_AGAIN);
        }
        for (stream_look_again(&ends->stream); !stream_is_drained(&ends->stream);)
                assert_int_equal(stream_fill(&ends->stream), STREAM_AGAIN);
        return ends;
}

static void ends_free(struct ends *ends)
{
        stream_close(&ends->stream);
        assert_int_equal(stream_pool_bytes(&ends->pool), 0);
        SSL_free(ends->peer);
        close(ends->peer_fd);
        stream_pool_clear(&ends->pool);
        event_base_free(ends->base);
        tls_unref(ends->at);
        tls_unref(ends->from);
        free(ends);
}

/* How often on_ready runs in a turn of the loop. */
static unsigned woken_in_turn(struct ends *ends)
{
        ends->woken = 0;
        event_base_loop(ends->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        return ends->woken;
}

/* One system call takes both records from the descriptor, which has nothing to tell after that. */
static void a_record_that_was_read_ahead_wakes_who_listens(void **state)
{
        static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct ends *ends = ends_shaken(versions[i], true);
                struct stream *stream = &ends->stream;
                assert_int_equal(SSL_write(ends->peer, "one", 3), 3);
                assert_int_equal(SSL_write(ends->peer, "two", 3), 3);
                assert_int_equal(woken_in_turn(ends), 1);
                assert_int_equal(stream_fill(stream), STREAM_OK);
                assert_true(str_eq(stream_in(stream), STR("one")));
                assert_true(stream_has_news(stream));
                assert_false(stream_is_drained(stream));
                for (int turn = 0; turn < 3; turn++) /* as long as it is not read */
                        assert_int_equal(woken_in_turn(ends), 1);
                stream_listen(stream, false);
                (void)woken_in_turn(ends); /* it was on its way */
                for (int turn = 0; turn < 3; turn++)
                        assert_int_equal(woken_in_turn(ends), 0);
                stream_listen(stream, true);
                assert_int_equal(woken_in_turn(ends), 1);
                assert_int_equal(stream_fill(stream), STREAM_OK);
                assert_true(str_eq(stream_in(stream), STR("onetwo")));
                stream_consume(stream, 6);
                (void)woken_in_turn(ends);
                assert_true(stream_is_drained(stream) || stream_fill(stream) == STREAM_AGAIN);
                for (int turn = 0; turn < 3; turn++)
                        assert_int_equal(woken_in_turn(ends), 0);
                ends_free(ends);
        }
}

/* Whatever the size of records and of what arrives at once, all bytes come, in order. */
static void bytes_come_whole_however_they_are_cut(void **state)
{
        enum { BYTES = 400 * 1000 };
        unsigned char *sent = malloc(BYTES);
        unsigned seed = 7;

        (void)state;
        assert_non_null(sent);
        for (size_t i = 0; i < BYTES; i++)
                sent[i] = (unsigned char)(i * 131 >> 3);
        struct ends *ends = ends_shaken(TLS1_3_VERSION, true);
        size_t written = 0, got = 0;
        int next = 0; /* what could not be written yet is written with the same length */
        while (got < BYTES) {
                seed = seed * 1103515245 + 12345;
                int most = (int)(seed >> 16) % (seed & 1024 ? 40 : 20000) + 1;
                if (!next)
                        next = (size_t)most < BYTES - written ? most : (int)(BYTES - written);
                int n = next ? SSL_write(ends->peer, sent + written, next) : 0;
                if (n > 0) {
                        written += (size_t)n;
                        next = 0;
                        if (seed & (1 << 14))
                                continue; /* more at once */
                }
                assert_true(woken_in_turn(ends) > 0);
                enum stream_io io = stream_fill(&ends->stream);
                assert_true(io == STREAM_OK || io == STREAM_AGAIN || io == STREAM_FULL);
                struct str in = str_head(stream_in(&ends->stream), (size_t)most);
                assert_memory_equal(in.ptr ? in.ptr : "", sent + got, in.len);
                got += in.len;
                stream_consume(&ends->stream, in.len);
                if (stream_in(&ends->stream).len)
                        stream_wake(&ends->stream);
        }
        assert_int_equal(got, BYTES);
        ends_free(ends);
        free(sent);
}

/* On an idle connection a ticket is no news; what hides behind it is. */
static void what_comes_with_a_ticket_is_seen(void **state)
{
        struct ends *ends = ends_shaken(TLS1_3_VERSION, false);
        struct stream *stream = &ends->stream;

        (void)state;
        assert_int_equal(SSL_new_session_ticket(ends->peer), 1);
        assert_int_equal(SSL_write(ends->peer, "stray", 5), 5);
        stream_look_again(stream);
        assert_int_equal(stream_fill(stream), STREAM_AGAIN);
        assert_false(stream_is_drained(stream));
        assert_int_equal(stream_fill(stream), STREAM_OK);
        assert_true(str_eq(stream_in(stream), STR("stray")));
        ends_free(ends);
}

/* A peer that sends one after the other, faster than they can be understood, would else be read for
 * as long as it likes, and nobody beside it. */
static void a_read_takes_one_update_of_keys_and_no_more(void **state)
{
        enum { UPDATES = 50 };
        struct ends *ends = ends_shaken(TLS1_3_VERSION, true);
        int reads = 0;

        (void)state;
        for (int i = 0; i < UPDATES; i++) {
                assert_int_equal(SSL_key_update(ends->peer, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
                assert_int_equal(SSL_do_handshake(ends->peer), 1);
        }
        assert_int_equal(SSL_write(ends->peer, "a", 1), 1);
        assert_int_equal(stream_fill(&ends->stream), STREAM_AGAIN); /* nobody said that it came */
        assert_int_equal(woken_in_turn(ends), 1);
        while (stream_fill(&ends->stream) == STREAM_AGAIN) {
                reads++;
                assert_int_equal(woken_in_turn(ends), 1); /* there is more, and that is told */
                assert_true(reads <= UPDATES);
        }
        assert_int_equal(reads, UPDATES);
        assert_true(str_eq(stream_in(&ends->stream), STR("a")));
        ends_free(ends);
}

/* An update that asks for one in return is answered; who does not take the answers is not read
 * from, or the loop would say over and over that there is something to read. */
static void who_takes_no_answers_to_updates_of_keys_keeps_nobody_busy(void **state)
{
        struct ends *ends = ends_shaken(TLS1_3_VERSION, true);
        struct stream *stream = &ends->stream;
        unsigned woken = 0;
        char got[8];

        (void)state;
        for (int i = 0; i < 100000 && !stream->wants_write; i++) {
                if (SSL_key_update(ends->peer, SSL_KEY_UPDATE_REQUESTED) == 1)
                        (void)SSL_do_handshake(ends->peer);
                (void)woken_in_turn(ends);
                assert_int_equal(stream_fill(stream), STREAM_AGAIN);
        }
        assert_true(stream->wants_write);
        for (int i = 0; i < 10; i++)
                if (SSL_key_update(ends->peer, SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
                        (void)SSL_do_handshake(ends->peer);
        assert_int_equal(SSL_write(ends->peer, "a", 1), 1);
        for (int turn = 0; turn < 20; turn++) {
                if (!woken_in_turn(ends))
                        continue;
                woken++;
                assert_int_equal(stream_fill(stream), STREAM_AGAIN);
        }
        assert_in_range(woken, 0, 2);
        /* Nor does it when it is listened to anew. */
        stream_listen(stream, false);
        stream_listen(stream, true);
        assert_int_equal(woken_in_turn(ends), 0);
        for (int turn = 0; turn < 1000 && !stream_in(stream).len; turn++) {
                (void)SSL_read(ends->peer, got, sizeof(got));
                if (woken_in_turn(ends))
                        (void)(stream_fill(stream) == STREAM_OK);
        }
        assert_true(str_eq(stream_in(stream), STR("a")));
        ends_free(ends);
}

/* What the peer said last is read before anybody is told that it is there: nothing else comes, and
 * what could not be sent is to be sent all the same. */
static void a_handshake_that_ends_while_it_is_read_wakes_who_has_something_to_send(void **state)
{
        static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

        (void)state;
        for (size_t i = 0; i < sizeof(versions) / sizeof(*versions); i++) {
                struct ends *ends = ends_new(versions[i], false);
                struct stream *stream = &ends->stream;
                char got[8];
                SSL_set_num_tickets(ends->peer, 0); /* they would wake it */
                assert_true(stream_queue(stream, STR("hello")));
                assert_int_equal(stream_flush(stream), STREAM_AGAIN);
                while (!SSL_is_init_finished(stream->ssl)) {
                        (void)SSL_do_handshake(ends->peer);
                        assert_int_equal(stream_fill(stream), STREAM_AGAIN);
                }
                assert_int_equal(ends->woken, 0);
                assert_int_equal(woken_in_turn(ends), 1);
                assert_int_equal(stream_flush(stream), STREAM_OK);
                assert_int_equal(SSL_read(ends->peer, got, sizeof(got)), 5);
                assert_int_equal(woken_in_turn(ends), 0);
                ends_free(ends);
        }
}

/* Where tls.c keeps the end of a session: the only index of this program. */
static int index_of_until(void)
{
        static int index = -1;

        if (index < 0)
                index = SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, NULL) - 1;
        return index;
}

static int64_t until(const struct tls_session *session)
{
        return (int64_t)(intptr_t)SSL_SESSION_get_ex_data(session->session, index_of_until());
}

static void set_until(struct tls_session *session, int64_t s)
{
        SSL_SESSION_set_ex_data(session->session, index_of_until(), (void *)(intptr_t)s);
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void a_session_is_resumed_with_the_host_it_was_made_with(void **state)
{
        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct tls_context *at = server(NULL), *from = client(certificate, versions[i]);
                struct tls_session session = {0};
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                for (int again = 0; again < 3; again++)
                        assert_int_equal(meet(at, from, "a.test", &session), RESUMED);
                assert_int_equal(meet(at, from, "a.test", NULL), WHOLE);
                assert_int_equal(meet(at, from, "b.test", &session), WHOLE);
                assert_int_equal(meet(at, from, "b.test", &session), RESUMED);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                tls_session_clear(&session);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                tls_session_clear(&session);
                tls_unref(at);
                tls_unref(from);
        }
}

static void an_address_is_no_name_and_is_not_remembered(void **state)
{
        struct tls_context *at = server(NULL), *from = client(certificate, TLS1_3_VERSION);
        struct tls_session session = {0};

        (void)state;
        assert_int_equal(meet(at, from, "127.0.0.1", &session), WHOLE);
        assert_int_equal(meet(at, from, "127.0.0.1", &session), WHOLE);
        tls_session_clear(&session);
        tls_unref(at);
        tls_unref(from);
}

static void another_context_verifies_by_itself(void **state)
{
        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct tls_context *at = server(NULL), *from = client(certificate, versions[i]);
                struct tls_context *distrusts = client(other_certificate, versions[i]);
                struct tls_session session = {0};
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                assert_int_equal(meet(at, distrusts, "a.test", &session), FAILED);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                assert_int_equal(meet(at, from, "a.test", &session), RESUMED);
                tls_session_clear(&session);
                tls_unref(at);
                tls_unref(from);
                tls_unref(distrusts);
        }
}

/* As when a ticket comes on a connection that is older than a reload. */
static void a_late_ticket_of_an_older_context_is_not_kept(void **state)
{
        struct tls_context *at = server(NULL), *older = client(certificate, TLS1_3_VERSION);
        struct tls_context *newer = client(certificate, TLS1_3_VERSION);
        struct tls_session session = {0};
        int fds[2];

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        SSL *there = tls_accept(at, fds[0]), *here = tls_resume(older, fds[1], "a.test", &session);
        assert_int_equal(meet(at, newer, "a.test", &session), WHOLE);
        SSL_SESSION *before = session.session;
        assert_int_equal(ends_meet(there, here), WHOLE);
        assert_ptr_equal(session.session, before);
        assert_ptr_equal(session.context, newer);
        assert_int_equal(meet(at, newer, "a.test", &session), RESUMED);
        SSL_free(there);
        SSL_free(here);
        close(fds[0]);
        close(fds[1]);
        tls_session_clear(&session);
        tls_unref(at);
        tls_unref(older);
        tls_unref(newer);
}

static void a_peer_is_admitted_as_long_as_its_authority_is_trusted(void **state)
{
        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct error err = {{0}};
                struct tls_context *at = server(other_certificate), *open = server(NULL);
                struct tls_context *same = server(other_certificate),
                                   *another = server(certificate);
                struct tls_context *from =
                        tls_client_certified(certificate, other_certificate, other_key, &err);
                int fds[2][2];
                SSL *there[2], *here[2];
                assert_non_null(from);
                SSL_CTX_set_max_proto_version(from->ctx, versions[i]);
                for (size_t k = 0; k < 2; k++) {
                        assert_int_equal(
                                socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds[k]), 0);
                        there[k] = tls_accept(k ? open : at, fds[k][0]);
                        here[k] = tls_connect(from, fds[k][1], "a.test");
                        assert_int_equal(ends_meet(there[k], here[k]), WHOLE);
                }
                assert_true(tls_admits(at, there[0]));
                assert_true(tls_admits(same, there[0]));
                assert_true(tls_admits(open, there[0]));
                assert_false(tls_admits(another, there[0]));
                /* It was not asked for a certificate. */
                assert_true(tls_admits(open, there[1]));
                assert_false(tls_admits(same, there[1]));
                assert_int_equal(ERR_peek_error(), 0);
                for (size_t k = 0; k < 2; k++) {
                        SSL_free(there[k]);
                        SSL_free(here[k]);
                        close(fds[k][0]);
                        close(fds[k][1]);
                }
                tls_unref(at);
                tls_unref(open);
                tls_unref(same);
                tls_unref(another);
                tls_unref(from);
        }
}

static void a_session_ends_an_hour_after_the_whole_handshake_however_often_it_was_resumed(
        void **state)
{
        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct tls_context *at = server(NULL), *from = client(certificate, versions[i]);
                struct tls_session session = {0};
                int64_t now_s = time(NULL);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                assert_in_range(until(&session), now_s + 3599, now_s + 3660);
                set_until(&session, now_s + 600);
                assert_int_equal(meet(at, from, "a.test", &session), RESUMED);
                assert_int_equal(until(&session), now_s + 600);
                set_until(&session, now_s - 1);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                /* Made by a clock that ran ahead. */
                set_until(&session, now_s + 7200);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                assert_int_equal(meet(at, from, "a.test", &session), RESUMED);
                tls_session_clear(&session);
                tls_unref(at);
                tls_unref(from);
        }
}

static void a_session_ends_with_the_certificate(void **state)
{
        struct tls_context *at = server(NULL), *from = client(certificate, TLS1_3_VERSION);
        struct tls_session session = {0};

        (void)state;
        assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
        X509 *seen = SSL_SESSION_get0_peer(session.session);
        X509_gmtime_adj(X509_getm_notAfter(seen), -1);
        assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
        tls_session_clear(&session);
        tls_unref(at);
        tls_unref(from);
}

static void another_listener_knows_no_ticket_of_this_one(void **state)
{
        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct tls_context *one = server(NULL), *another = server(NULL);
                struct tls_context *from = client(certificate, versions[i]);
                struct tls_session session = {0};
                assert_int_equal(meet(one, from, "a.test", &session), WHOLE);
                assert_int_equal(meet(another, from, "a.test", &session), WHOLE);
                assert_int_equal(meet(another, from, "a.test", &session), RESUMED);
                tls_session_clear(&session);
                tls_unref(one);
                tls_unref(another);
                tls_unref(from);
        }
}

static void who_has_to_show_a_certificate_shows_it_each_time(void **state)
{
        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct tls_context *at = server(certificate);
                struct error err = {{0}};
                struct tls_context *from =
                        tls_client_certified(certificate, certificate, key, &err);
                struct tls_session session = {0};
                assert_non_null(from);
                SSL_CTX_set_max_proto_version(from->ctx, versions[i]);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                assert_int_equal(meet(at, from, "a.test", &session), WHOLE);
                tls_session_clear(&session);
                tls_unref(at);
                tls_unref(from);
        }
}

static void files_that_do_not_fit_are_named(void **state)
{
        struct error err = {{0}};

        (void)state;
        assert_null(tls_server("/nowhere", key, NULL, &err));
        assert_non_null(strstr(err.text, "/nowhere: cannot read the certificate"));
        assert_null(tls_server(certificate, "/nowhere", NULL, &err));
        assert_non_null(strstr(err.text, "/nowhere"));
        assert_null(tls_server(certificate, other_key, NULL, &err));
        assert_non_null(strstr(err.text, "b.key"));
        assert_null(tls_server(certificate, key, "/nowhere", &err));
        assert_non_null(strstr(err.text, "/nowhere: cannot read the client CA"));
        assert_null(tls_client("/nowhere", &err));
        assert_non_null(strstr(err.text, "/nowhere: cannot read the CA certificates"));
        assert_null(tls_client_certified("/nowhere", NULL, NULL, &err));
        assert_null(tls_client_certified(certificate, "/nowhere", key, &err));
        assert_non_null(strstr(err.text, "/nowhere: cannot read the certificate"));
        assert_null(tls_client_certified(certificate, certificate, "/nowhere", &err));
        assert_null(tls_client_certified(certificate, certificate, other_key, &err));
        struct tls_context *plain = tls_client_certified(certificate, NULL, NULL, &err);
        assert_non_null(plain);
        /* No host has a name as long as that. */
        char name[400];
        memset(name, 'a', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        struct tls_session session = {0};
        assert_null(tls_connect(plain, 0, name));
        assert_null(tls_resume(plain, 0, name, &session));
        assert_null(session.context);
        tls_unref(plain);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_peer_is_admitted_as_long_as_its_authority_is_trusted),
                cmocka_unit_test(
                        a_handshake_that_ends_while_it_is_read_wakes_who_has_something_to_send),
                cmocka_unit_test(a_record_that_was_read_ahead_wakes_who_listens),
                cmocka_unit_test(bytes_come_whole_however_they_are_cut),
                cmocka_unit_test(what_comes_with_a_ticket_is_seen),
                cmocka_unit_test(a_read_takes_one_update_of_keys_and_no_more),
                cmocka_unit_test(who_takes_no_answers_to_updates_of_keys_keeps_nobody_busy),
                cmocka_unit_test(a_session_is_resumed_with_the_host_it_was_made_with),
                cmocka_unit_test(an_address_is_no_name_and_is_not_remembered),
                cmocka_unit_test(another_context_verifies_by_itself),
                cmocka_unit_test(a_late_ticket_of_an_older_context_is_not_kept),
                cmocka_unit_test(
                        a_session_ends_an_hour_after_the_whole_handshake_however_often_it_was_resumed),
                cmocka_unit_test(a_session_ends_with_the_certificate),
                cmocka_unit_test(another_listener_knows_no_ticket_of_this_one),
                cmocka_unit_test(who_has_to_show_a_certificate_shows_it_each_time),
                cmocka_unit_test(files_that_do_not_fit_are_named),
        };
        return cmocka_run_group_tests(tests, set_up, tear_down);
}
