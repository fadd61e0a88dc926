/* One outgoing connection: a peer that says more than anybody wants to hear. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "dagward/net/dial.h"

/* Called instead of libc's: a peer that has always said more, until it has said so much. */
enum { WORDS = 100 * 1000 };
static int left, heard;
static ssize_t at_last; /* what recv says then */

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
        (void)fd;
        (void)flags;
        heard++;
        if (left == 0) {
                errno = EAGAIN;
                return at_last;
        }
        left--;
        memset(bytes, 'x', len);
        return (ssize_t)len;
}

static struct dial *open_to_nobody(void)
{
        struct sockaddr_in address = {
                .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(address);
        struct error err = {""};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
        assert_int_equal(listen(fd, 1), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
        struct dial_settings settings = {
                .host = "127.0.0.1", .port = ntohs(address.sin_port), .timeout_ms = 10 * 1000};
        struct dial *dial = dial_open(&settings, &err);
        if (!dial)
                fail_msg("%s", err.text);
        close(fd);
        return dial;
}

static void a_peer_that_is_never_silent_holds_nobody(void **state)
{
        struct dial *dial = open_to_nobody();
        struct error err = {""};
        int turns = 0;

        (void)state;
        left = WORDS;
        at_last = -1;
        while (left) {
                heard = 0;
                assert_int_equal(dial_listen(dial, &err), DIAL_OPEN);
                assert_in_range(heard, 1, 64);
                turns++;
        }
        assert_true(turns >= WORDS / 64);
        dial_close(dial);
}

static void behind_all_that_it_says_its_end_is_seen(void **state)
{
        struct dial *dial = open_to_nobody();
        struct error err = {""};
        enum dial_peer peer = DIAL_OPEN;

        (void)state;
        left = 1000;
        at_last = 0;
        for (int i = 0; i < 1000 && peer == DIAL_OPEN; i++)
                peer = dial_listen(dial, &err);
        assert_int_equal(peer, DIAL_ENDED);
        assert_int_equal(left, 0);
        dial_close(dial);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_peer_that_is_never_silent_holds_nobody),
                cmocka_unit_test(behind_all_that_it_says_its_end_is_seen),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
