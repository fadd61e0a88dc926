/* Bodies through the pipe: any cut, any framing, a slow receiver, flat memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../src/worker/pipe.h"

/* A pipe between two socket pairs: write into `in`, read from `out`. */
struct rig {
        struct event_base *base;
        struct stream_pool pool;
        struct stream from, to;
        struct pipe pipe;
        int in, out;
};

static void nothing(struct stream *stream, void *owner)
{
        (void)stream;
        (void)owner;
}

static void pair(int fds[2])
{
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
}

static struct rig *rig_new(enum h1_framing arrives, uint64_t length, enum h1_framing leaves)
{
        struct rig *rig = calloc(1, sizeof(*rig));
        int left[2], right[2];

        assert_non_null(rig);
        pair(left);
        pair(right);
        rig->base = event_base_new();
        rig->in = left[0];
        rig->out = right[0];
        stream_open(&rig->from, rig->base, &rig->pool, left[1], NULL, nothing, NULL);
        stream_open(&rig->to, rig->base, &rig->pool, right[1], NULL, nothing, NULL);
        pipe_init(&rig->pipe, &rig->from, &rig->to, arrives, length, leaves);
        return rig;
}

static void rig_free(struct rig *rig)
{
        stream_close(&rig->from);
        stream_close(&rig->to);
        assert_int_equal(rig->pool.plain.n_used, 0); /* an idle stream holds no block */
        stream_pool_clear(&rig->pool);
        event_base_free(rig->base);
        if (rig->in >= 0)
                close(rig->in);
        close(rig->out);
        free(rig);
}

static void send_all(int fd, const char *bytes, size_t len)
{
        assert_int_equal(write(fd, bytes, len), (ssize_t)len);
}

/* Pumps as the loop would: input readiness is announced by hand. */
static enum pipe_state pump(struct rig *rig)
{
        enum pipe_state state;

        rig->from.drained = false;
        do
                state = pipe_pump(&rig->pipe);
        while (state == PIPE_MORE);
        return state;
}

static size_t receive(struct rig *rig, char *out, size_t most)
{
        ssize_t n = read(rig->out, out, most);

        return n < 0 ? 0 : (size_t)n;
}

static void a_body_of_known_length_passes_and_what_follows_stays(void **state)
{
        struct rig *rig = rig_new(H1_LENGTH, 5, H1_LENGTH);
        char got[64];

        (void)state;
        send_all(rig->in, "helloNEXT", 9);
        assert_int_equal(pump(rig), PIPE_DONE);
        assert_int_equal(receive(rig, got, sizeof(got)), 5);
        assert_memory_equal(got, "hello", 5);
        assert_true(str_eq(stream_in(&rig->from), STR("NEXT")));
        assert_int_equal(rig->pipe.moved, 5);
        rig_free(rig);
}

static void chunks_are_framed_anew_wherever_the_bytes_are_cut(void **state)
{
        const char wire[] = "5;x=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: dropped\r\n\r\n";

        (void)state;
        for (size_t cut = 1; cut < sizeof(wire) - 1; cut++) {
                struct rig *rig = rig_new(H1_CHUNKED, 0, H1_CHUNKED);
                char got[256] = {0};
                size_t len = 0;
                send_all(rig->in, wire, cut);
                assert_int_equal(pump(rig), PIPE_HUNGRY);
                send_all(rig->in, wire + cut, sizeof(wire) - 1 - cut);
                assert_int_equal(pump(rig), PIPE_DONE);
                len = receive(rig, got, sizeof(got));
                /* Whatever the chunks are, they must carry the payload and end once. */
                struct h1_body body;
                struct str payload, rest = str_view(got, len);
                struct h1_fault fault;
                char whole[32] = {0};
                size_t have = 0;
                h1_body_init(&body, H1_CHUNKED, 0);
                while (!body.done) {
                        ssize_t n = h1_body_next(&body, rest.ptr, rest.len, &payload, &fault);
                        assert_true(n > 0);
                        memcpy(whole + have, payload.ptr, payload.len);
                        have += payload.len;
                        rest = str_from(rest, (size_t)n);
                }
                assert_string_equal(whole, "hello world");
                assert_int_equal(rest.len, 0);
                rig_free(rig);
        }
}

/* `wire` in chunks, read whole from the other end: what they carry, NUL-terminated. */
static void unchunk(struct str wire, char *out, size_t size)
{
        struct h1_body body;
        struct h1_fault fault;
        size_t have = 0;

        h1_body_init(&body, H1_CHUNKED, 0);
        while (!body.done) {
                struct str payload;
                ssize_t n = h1_body_next(&body, wire.ptr, wire.len, &payload, &fault);
                assert_true(n > 0);
                assert_true(have + payload.len < size);
                if (payload.len)
                        memcpy(out + have, payload.ptr, payload.len);
                have += payload.len;
                wire = str_from(wire, (size_t)n);
        }
        out[have] = '\0';
        assert_int_equal(wire.len, 0);
}

static bool as_it_is(void *owner, const struct link_start *start, struct buf *out)
{
        (void)owner;
        (void)start;
        (void)out;
        return false;
}

/* A body that comes faster than it can be passed on in one turn, ending anywhere in a turn; a small
 * block stands for a long body. */
static void the_end_stands_behind_the_last_payload_wherever_a_turn_ends(void **state)
{
        enum { ROOM = 64, MOST = 40 * ROOM };
        static char junk[STREAM_BLOCK - ROOM], wire[MOST], got[4 * MOST], whole[MOST + 1];

        (void)state;
        memset(wire, 'x', sizeof(wire));
        for (size_t n = ROOM / 2; n <= MOST; n += ROOM / 2)
                for (int rewritten = 0; rewritten < 2; rewritten++) {
                        struct rig *rig = rig_new(H1_LENGTH, n, H1_CHUNKED);
                        struct rewrite rewrite;

                        send_all(rig->in, junk, sizeof(junk));
                        assert_int_equal(stream_fill(&rig->from), STREAM_OK);
                        stream_fix(&rig->from, sizeof(junk));
                        rewrite_init(&rewrite, false, LINKS_JSON, as_it_is, NULL);
                        if (rewritten)
                                rig->pipe.rewrite = &rewrite;
                        send_all(rig->in, wire, n);
                        assert_int_equal(pump(rig), PIPE_DONE);
                        unchunk(str_view(got, receive(rig, got, sizeof(got))), whole,
                                sizeof(whole));
                        assert_int_equal(strlen(whole), n);
                        stream_unfix(&rig->from);
                        rewrite_clear(&rewrite);
                        rig_free(rig);
                }
}

static void a_body_until_close_leaves_in_chunks_and_ends_with_the_connection(void **state)
{
        struct rig *rig = rig_new(H1_UNTIL_CLOSE, 0, H1_CHUNKED);
        char got[64] = {0};

        (void)state;
        send_all(rig->in, "abc", 3);
        assert_int_equal(pump(rig), PIPE_HUNGRY);
        close(rig->in);
        rig->in = -1;
        assert_int_equal(pump(rig), PIPE_DONE);
        receive(rig, got, sizeof(got) - 1);
        assert_string_equal(got, "3\r\nabc\r\n0\r\n\r\n");
        rig_free(rig);
}

static void a_sender_that_closes_early_is_noticed(void **state)
{
        static const enum h1_framing framings[] = {H1_LENGTH, H1_CHUNKED};

        (void)state;
        for (size_t i = 0; i < 2; i++) {
                struct rig *rig = rig_new(framings[i], 10, framings[i]);
                send_all(rig->in, "5\r\nab", 5);
                assert_int_equal(pump(rig), PIPE_HUNGRY);
                close(rig->in);
                rig->in = -1;
                assert_int_equal(pump(rig), PIPE_CUT);
                rig_free(rig);
        }
}

static void broken_chunks_are_a_fault(void **state)
{
        struct rig *rig = rig_new(H1_CHUNKED, 0, H1_CHUNKED);

        (void)state;
        send_all(rig->in, "5\r\nhelloX\r\n", 11);
        assert_int_equal(pump(rig), PIPE_BAD);
        assert_non_null(rig->pipe.fault.why);
        rig_free(rig);
}

/* 64 MiB through a receiver that reads in odd pieces: same bytes, two blocks at most. */
static void a_slow_receiver_stops_the_sender_and_loses_nothing(void **state)
{
        static const enum h1_framing leaves[] = {H1_LENGTH, H1_CHUNKED};
        enum { TOTAL = 64 << 20, PIECE = 48 * 1024 + 7 };
        static char piece[PIECE], got[100003];

        (void)state;
        for (int way = 0; way < 2; way++) {
                struct rig *rig = rig_new(H1_LENGTH, TOTAL, leaves[way]);
                struct h1_body body;
                uint32_t sent_sum = 0, got_sum = 0;
                size_t sent = 0, received = 0;
                unsigned most_blocks = 0;
                h1_body_init(&body, leaves[way], TOTAL);
                for (unsigned turn = 0; !body.done; turn++) {
                        for (size_t i = 0; i < PIECE; i++)
                                piece[i] = (char)((sent + i) * 31 >> 3);
                        size_t want = TOTAL - sent < PIECE ? TOTAL - sent : PIECE;
                        ssize_t n = want ? write(rig->in, piece, want) : 0;
                        for (ssize_t i = 0; i < n; i++)
                                sent_sum = sent_sum * 33 + (unsigned char)piece[i];
                        sent += n > 0 ? (size_t)n : 0;
                        rig->to.wants_write = false;
                        pump(rig);
                        if (rig->pool.plain.n_used > most_blocks)
                                most_blocks = rig->pool.plain.n_used;
                        size_t len = receive(rig, got, 1 + (turn * 7919) % sizeof(got));
                        struct str rest = str_view(got, len), payload;
                        struct h1_fault fault;
                        while (rest.len) {
                                ssize_t used =
                                        h1_body_next(&body, rest.ptr, rest.len, &payload, &fault);
                                assert_true(used > 0);
                                for (size_t i = 0; i < payload.len; i++)
                                        got_sum = got_sum * 33 + (unsigned char)payload.ptr[i];
                                received += payload.len;
                                rest = str_from(rest, (size_t)used);
                        }
                }
                assert_int_equal(received, TOTAL);
                assert_int_equal(sent_sum, got_sum);
                assert_true(most_blocks <= 2);
                rig_free(rig);
        }
}

static void without_a_receiver_the_body_is_thrown_away(void **state)
{
        struct rig *rig = rig_new(H1_LENGTH, 5, H1_LENGTH);

        (void)state;
        rig->pipe.to = NULL;
        send_all(rig->in, "helloNEXT", 9);
        assert_int_equal(pump(rig), PIPE_DONE);
        assert_true(str_eq(stream_in(&rig->from), STR("NEXT")));
        rig_free(rig);
}

static void what_stands_below_the_floor_is_not_overwritten(void **state)
{
        struct rig *rig = rig_new(H1_LENGTH, 300000, H1_LENGTH);
        static char block[60000], sink[65536];

        (void)state;
        send_all(rig->in, "HEAD", 4);
        assert_int_equal(stream_fill(&rig->from), STREAM_OK);
        struct str head = stream_in(&rig->from);
        stream_fix(&rig->from, 4);
        memset(block, 'b', sizeof(block));
        for (int i = 0; i < 5; i++) {
                send_all(rig->in, block, sizeof(block));
                enum pipe_state now = pump(rig);
                assert_true(now == (i < 4 ? PIPE_HUNGRY : PIPE_DONE));
                while (receive(rig, sink, sizeof(sink)))
                        ;
        }
        assert_memory_equal(head.ptr, "HEAD", 4);
        stream_unfix(&rig->from);
        rig_free(rig);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_body_of_known_length_passes_and_what_follows_stays),
                cmocka_unit_test(chunks_are_framed_anew_wherever_the_bytes_are_cut),
                cmocka_unit_test(the_end_stands_behind_the_last_payload_wherever_a_turn_ends),
                cmocka_unit_test(a_body_until_close_leaves_in_chunks_and_ends_with_the_connection),
                cmocka_unit_test(a_sender_that_closes_early_is_noticed),
                cmocka_unit_test(broken_chunks_are_a_fault),
                cmocka_unit_test(a_slow_receiver_stops_the_sender_and_loses_nothing),
                cmocka_unit_test(without_a_receiver_the_body_is_thrown_away),
                cmocka_unit_test(what_stands_below_the_floor_is_not_overwritten),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
