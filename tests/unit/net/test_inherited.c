/* Sockets that others have opened, and what is said between processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dagward/net/descriptors.h"
#include "dagward/net/inherited.h"
#include "dagward/net/notify.h"

/* Listens on 127.0.0.1, where port 0 becomes one. */
static int listening(struct sockaddr_in *where)
{
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        socklen_t len = sizeof(*where);

        where->sin_family = AF_INET;
        where->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)where, len), 0);
        assert_int_equal(listen(fd, 4), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)where, &len), 0);
        return fd;
}

static uint64_t cookie(int fd)
{
        uint64_t cookie = 0;
        socklen_t len = sizeof(cookie);

        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
        return cookie;
}

static void every_socket_has_a_user_and_every_user_a_socket(void **state)
{
        static const struct {
                size_t sockets;
                unsigned users;
        } cases[] = {{1, 1}, {1, 4}, {2, 2}, {2, 3}, {3, 2}, {5, 1}, {7, 3}, {8, 8}, {100, 1},
                {INHERITED_MOST, 3}};

        (void)state;
        for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
                struct inherited all = {.n = 0};
                struct sockaddr_in where = {.sin_port = 0};
                uint64_t cookies[INHERITED_MOST];
                bool used[INHERITED_MOST] = {false};
                struct error err;
                for (size_t i = 0; i < cases[c].sockets; i++) {
                        int fd = listening(&where);
                        cookies[i] = cookie(fd);
                        assert_true(inherited_add(&all, fd, "test", &err));
                }
                for (unsigned user = 0; user < cases[c].users; user++) {
                        int fds[INHERITED_SHARE];
                        size_t n = inherited_take(
                                &all, (struct sockaddr *)&where, user, cases[c].users, fds);
                        assert_true(n > 0);
                        for (size_t k = 0; k < n; k++) {
                                for (size_t i = 0; i < cases[c].sockets; i++)
                                        used[i] |= cookies[i] == cookie(fds[k]);
                                assert_true(fcntl(fds[k], F_GETFD) & FD_CLOEXEC);
                                assert_true(fcntl(fds[k], F_GETFL) & O_NONBLOCK);
                                close(fds[k]);
                        }
                }
                for (size_t i = 0; i < cases[c].sockets; i++)
                        assert_true(used[i]);
                assert_true(inherited_end(&all, &err));
        }
}

static void an_address_is_matched_exactly(void **state)
{
        struct inherited all = {.n = 0};
        struct sockaddr_in where = {.sin_port = 0}, other;
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
        int fds[INHERITED_SHARE];
        struct error err;
        char list[100], expected[100];

        (void)state;
        assert_true(inherited_add(&all, listening(&where), "test", &err));
        other = where;
        other.sin_port = htons((uint16_t)(ntohs(where.sin_port) ^ 1));
        assert_int_equal(inherited_take(&all, (struct sockaddr *)&other, 0, 1, fds), 0);
        other = where;
        other.sin_addr.s_addr = htonl(INADDR_ANY);
        assert_int_equal(inherited_take(&all, (struct sockaddr *)&other, 0, 1, fds), 0);
        six.sin6_port = where.sin_port;
        assert_int_equal(inherited_take(&all, (struct sockaddr *)&six, 0, 1, fds), 0);
        inherited_list(&all, list, sizeof(list));
        snprintf(expected, sizeof(expected), "127.0.0.1:%u", ntohs(where.sin_port));
        assert_string_equal(list, expected);
        assert_false(inherited_end(&all, &err)); /* it was nobody's */
        assert_non_null(strstr(err.text, expected));
        assert_true(inherited_add(&all, listening(&where), "test", &err));
        all.handed_over = true; /* then it is one that is not wanted any more */
        assert_true(inherited_end(&all, &err));
}

static void texts_and_descriptors_arrive_together(void **state)
{
        int ends[2], pipes[2], fds[DESCRIPTORS_MOST];
        char text[DESCRIPTORS_TEXT];
        size_t n;

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
        assert_int_equal(pipe(pipes), 0);
        assert_true(descriptors_send(ends[0], "both", pipes, 2));
        assert_true(descriptors_send(ends[0], "none", NULL, 0));
        assert_true(descriptors_send(ends[0], "not wanted", pipes, 2));
        assert_true(descriptors_receive(ends[1], text, fds, &n));
        assert_string_equal(text, "both");
        assert_int_equal(n, 2);
        assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
        assert_int_equal(write(fds[1], "x", 1), 1);
        assert_int_equal(read(pipes[0], text, 1), 1);
        int next = dup(0); /* the lowest that is free: nothing stays open of what is not wanted */
        close(next);
        assert_true(descriptors_receive(ends[1], text, fds + 2, &n));
        assert_int_equal(n, 0);
        assert_true(descriptors_receive(ends[1], text, NULL, NULL));
        assert_string_equal(text, "not wanted");
        int again = dup(0);
        assert_int_equal(again, next);
        close(again);
        close(ends[0]);
        assert_false(descriptors_receive(ends[1], text, NULL, NULL));
        for (int i = 0; i < 2; i++) {
                close(fds[i]);
                close(pipes[i]);
        }
        close(ends[1]);
}

static void the_manager_is_told_and_the_environment_forgets(void **state)
{
        char folder[] = "/tmp/notify.XXXXXX", text[100];
        struct sockaddr_un where = {.sun_family = AF_UNIX};
        struct notifier notifier;

        (void)state;
        assert_non_null(mkdtemp(folder));
        snprintf(where.sun_path, sizeof(where.sun_path), "%s/socket", folder);
        int manager = socket(AF_UNIX, SOCK_DGRAM, 0);
        assert_int_equal(bind(manager, (struct sockaddr *)&where, sizeof(where)), 0);
        setenv("NOTIFY_SOCKET", where.sun_path, 1);
        setenv("WATCHDOG_USEC", "3000000", 1);
        notifier_open(&notifier);
        assert_int_equal(notifier.watchdog_ms, 3000);
        assert_null(getenv("NOTIFY_SOCKET"));
        assert_null(getenv("WATCHDOG_USEC"));
        notifier_say(&notifier, "READY=%d", 1);
        assert_int_equal(recv(manager, text, sizeof(text), 0), 7);
        assert_memory_equal(text, "READY=1", 7);
        notifier_close(&notifier);
        notifier_say(&notifier, "nobody hears this");
        notifier_say(NULL, "nor this");

        static const char *const wrong[] = {"", "relative", "@", "/nowhere/at/all"};
        for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
                setenv("NOTIFY_SOCKET", wrong[i], 1);
                setenv("WATCHDOG_USEC", "3000000", 1);
                notifier_open(&notifier);
                assert_int_equal(notifier.fd, -1);
                assert_int_equal(notifier.watchdog_ms, 0);
        }
        close(manager);
        unlink(where.sun_path);
        rmdir(folder);
}

static void what_a_dead_process_left_is_removed_and_nothing_else(void **state)
{
        char folder[] = "/tmp/handover.XXXXXX", path[64], file[64];
        struct error err;

        (void)state;
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/socket", folder);
        snprintf(file, sizeof(file), "%s/file", folder);
        assert_int_equal(descriptors_connect(path, 5000), -1);
        int fd = descriptors_listen(path, &err);
        assert_true(fd >= 0);
        int peer = descriptors_connect(path, 5000);
        assert_true(peer >= 0);
        close(peer);
        close(fd);
        assert_int_equal(descriptors_connect(path, 5000), -1);
        fd = descriptors_listen(path, &err);
        assert_true(fd >= 0);
        close(fd);
        fd = open(file, O_CREAT | O_WRONLY, 0600);
        close(fd);
        assert_int_equal(descriptors_listen(file, &err), -1);
        assert_int_equal(access(file, F_OK), 0);
        unlink(file);
        unlink(path);
        rmdir(folder);
}

enum { AT_ONCE = 4, ROUNDS = 100 }; /* fewer than the queue of the socket takes */

static void *listen_at(void *path)
{
        struct error err;
        int fd = descriptors_listen(path, &err);

        return (void *)(intptr_t)fd;
}

static void two_at_once_do_not_take_a_path_from_each_other(void **state)
{
        char folder[] = "/tmp/handover.XXXXXX", path[64];
        pthread_t threads[AT_ONCE];
        void *fd;

        (void)state;
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/socket", folder);
        for (int round = 0; round < ROUNDS; round++) {
                int listening = -1, n = 0;
                for (int i = 0; i < AT_ONCE; i++)
                        assert_int_equal(pthread_create(&threads[i], NULL, listen_at, path), 0);
                for (int i = 0; i < AT_ONCE; i++) {
                        pthread_join(threads[i], &fd);
                        if ((intptr_t)fd < 0)
                                continue;
                        listening = (int)(intptr_t)fd;
                        n++;
                }
                assert_int_equal(n, 1);
                int peer = descriptors_connect(path, 5000);
                assert_true(peer >= 0);
                close(peer);
                close(listening); /* its path is what the next round finds */
        }
        unlink(path);
        rmdir(folder);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_socket_has_a_user_and_every_user_a_socket),
                cmocka_unit_test(an_address_is_matched_exactly),
                cmocka_unit_test(texts_and_descriptors_arrive_together),
                cmocka_unit_test(the_manager_is_told_and_the_environment_forgets),
                cmocka_unit_test(what_a_dead_process_left_is_removed_and_nothing_else),
                cmocka_unit_test(two_at_once_do_not_take_a_path_from_each_other),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
