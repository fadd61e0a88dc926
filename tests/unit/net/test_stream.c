/* Streams: who wakes whom, and what the peer can tell of how a connection ended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dagward/net/stream.h"

struct rig {
        struct event_base *base;
        struct stream_pool pool;
        struct stream stream;
        int peer;
        unsigned woken;
        bool again; /* on_ready asks for another turn */
};

static void on_ready(struct stream *stream, void *owner)
{
        struct rig *rig = owner;

        rig->woken++;
        if (rig->again)
                stream_wake(stream);
}

/* A TCP connection over loopback: a socket pair knows no reset. */
static void connected(int fds[2])
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t len = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM, 0);

        assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
        fds[0] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[0], (struct sockaddr *)&address, len), 0);
        fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        assert_true(fds[1] >= 0);
        close(listener);
}

static struct rig *rig_new(void)
{
        struct rig *rig = calloc(1, sizeof(*rig));
        int fds[2];

        assert_non_null(rig);
        connected(fds);
        rig->base = event_base_new();
        rig->peer = fds[0];
        stream_open(&rig->stream, rig->base, &rig->pool, fds[1], NULL, on_ready, rig);
        return rig;
}

static void rig_free(struct rig *rig)
{
        stream_close(&rig->stream);
        assert_int_equal(rig->pool.plain.n_used, 0);
        stream_pool_clear(&rig->pool);
        event_base_free(rig->base);
        close(rig->peer);
        free(rig);
}

static void turn(struct rig *rig)
{
        event_base_loop(rig->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static void a_stream_that_wakes_itself_runs_once_in_a_turn(void **state)
{
        struct rig *rig = rig_new();

        (void)state;
        rig->again = true;
        stream_wake(&rig->stream);
        for (unsigned i = 1; i <= 5; i++) {
                turn(rig);
                assert_int_equal(rig->woken, i); /* others have had their turn in between */
        }
        rig_free(rig);
}

static void a_wake_up_is_not_lost_when_nobody_listens_any_more(void **state)
{
        struct rig *rig = rig_new();

        (void)state;
        stream_wake(&rig->stream);
        stream_listen(&rig->stream, false);
        turn(rig);
        assert_int_equal(rig->woken, 1);
        turn(rig);
        assert_int_equal(rig->woken, 1);
        rig_free(rig);
}

static void after_a_wake_up_the_descriptor_is_still_watched(void **state)
{
        struct rig *rig = rig_new();

        (void)state;
        stream_wake(&rig->stream);
        turn(rig);
        assert_int_equal(rig->woken, 1);
        assert_int_equal(write(rig->peer, "x", 1), 1);
        event_base_loop(rig->base, EVLOOP_ONCE);
        assert_int_equal(rig->woken, 2);
        rig_free(rig);
}

static void what_a_peer_said_before_it_stopped_taking_can_be_read(void **state)
{
        static char bytes[STREAM_BLOCK];
        struct rig *rig = rig_new();
        struct linger now = {.l_onoff = 1};

        (void)state;
        assert_int_equal(write(rig->peer, "answer", 6), 6);
        assert_int_equal(setsockopt(rig->peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
        close(rig->peer);
        rig->peer = -1;
        while (stream_write(&rig->stream, str_view(bytes, sizeof(bytes))) > 0)
                ;
        assert_int_equal(stream_write(&rig->stream, STR("more")), -1);
        assert_true(rig->stream.deaf);
        assert_int_equal(stream_fill(&rig->stream), STREAM_OK);
        assert_true(str_eq(stream_in(&rig->stream), STR("answer")));
        stream_consume(&rig->stream, 6);
        rig_free(rig);
}

static void an_aborted_stream_does_not_look_finished(void **state)
{
        struct rig *rig = rig_new();
        char got[8];

        (void)state;
        assert_true(stream_queue(&rig->stream, STR("part")));
        assert_int_equal(stream_flush(&rig->stream), STREAM_OK);
        assert_int_equal(rig->stream.sent, 4);
        assert_int_equal(read(rig->peer, got, sizeof(got)), 4);
        stream_abort(&rig->stream);
        assert_int_equal(read(rig->peer, got, sizeof(got)), -1);
        assert_int_equal(errno, ECONNRESET);
        rig_free(rig);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_stream_that_wakes_itself_runs_once_in_a_turn),
                cmocka_unit_test(a_wake_up_is_not_lost_when_nobody_listens_any_more),
                cmocka_unit_test(after_a_wake_up_the_descriptor_is_still_watched),
                cmocka_unit_test(what_a_peer_said_before_it_stopped_taking_can_be_read),
                cmocka_unit_test(an_aborted_stream_does_not_look_finished),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
