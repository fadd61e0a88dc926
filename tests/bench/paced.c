/*
 * paced: requests at a fixed mean rate, whatever the answers take.
 *
 * Usage: paced PORT RATE SECONDS HEAD-FILE [CA-FILE]. HEAD-FILE holds one request without a body;
 * with CA-FILE it goes over TLS to "localhost". Arrivals are a Poisson process. Latency counts from
 * when a request was due, so that a stall is charged to all who came during it. Prints the number
 * of answers, of answers that were not 200, and the median, 99th percentile and worst latency in
 * microseconds.
 *
 * A thread for each connection takes the next arrival and sleeps until it is due. Built by
 * tests/bench/run: cc -O2 -pthread paced.c -lssl -lcrypto -lm.
 */
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 64, ANSWER_MOST = 64 * 1024 };

struct connection {
        int fd;
        SSL *tls;
};

static char head[16 * 1024];
static size_t head_len;
static int port;
static SSL_CTX *context;
static int64_t *due_ns; /* of each arrival, CLOCK_MONOTONIC */
static uint32_t *took_us;
static size_t arrivals;
static atomic_size_t next_arrival, not_200;

static void fail(const char *what)
{
        perror(what);
        exit(1);
}

static int64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void open_connection(struct connection *c)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int one = 1;

        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0)
                fail("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (!context)
                return;
        c->tls = SSL_new(context);
        if (!c->tls || !SSL_set1_host(c->tls, "localhost") || !SSL_set_fd(c->tls, c->fd) ||
                SSL_connect(c->tls) != 1)
                fail("TLS");
}

static size_t receive(const struct connection *c, char *to, size_t most)
{
        ssize_t n = c->tls ? SSL_read(c->tls, to, (int)most) : recv(c->fd, to, most, 0);

        if (n <= 0)
                fail("the connection ended");
        return (size_t)n;
}

/* One request and its whole answer, which has a Content-Length. */
static void ask(const struct connection *c)
{
        static _Thread_local char answer[ANSWER_MOST + 1];
        size_t got = 0, whole = 0;

        if (c->tls ? SSL_write(c->tls, head, (int)head_len) != (int)head_len
                   : send(c->fd, head, head_len, MSG_NOSIGNAL) != (ssize_t)head_len)
                fail("send");
        while (!whole || got < whole) {
                got += receive(c, answer + got, ANSWER_MOST - got);
                answer[got] = '\0';
                const char *end = strstr(answer, "\r\n\r\n");
                const char *length = strcasestr(answer, "\r\nContent-Length:");
                if (end && length)
                        whole = (size_t)(end + 4 - answer) + strtoul(length + 17, NULL, 10);
                if (whole > ANSWER_MOST || (end && !length))
                        exit(1);
        }
        if (strncmp(answer, "HTTP/1.1 200", 12) != 0)
                atomic_fetch_add(&not_200, 1);
}

static void *run(void *argument)
{
        const struct connection *c = argument;

        prctl(PR_SET_TIMERSLACK, 1UL);
        for (;;) {
                size_t i = atomic_fetch_add(&next_arrival, 1);
                if (i >= arrivals)
                        return NULL;
                struct timespec t = {due_ns[i] / 1000000000, due_ns[i] % 1000000000};
                while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
                        ;
                ask(c);
                took_us[i] = (uint32_t)((now_ns() - due_ns[i]) / 1000);
        }
}

static int by_size(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
        static struct connection connections[CONNECTIONS];
        pthread_t threads[CONNECTIONS];

        if (argc < 5)
                return 2;
        port = atoi(argv[1]);
        double rate = atof(argv[2]);
        arrivals = (size_t)(rate * atof(argv[3]));
        FILE *file = fopen(argv[4], "rb");
        head_len = file ? fread(head, 1, sizeof(head), file) : 0;
        if (!head_len || !arrivals)
                fail(argv[4]);
        if (argc > 5) {
                context = SSL_CTX_new(TLS_client_method());
                if (!context || !SSL_CTX_load_verify_locations(context, argv[5], NULL))
                        fail(argv[5]);
                SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        }
        due_ns = calloc(arrivals, sizeof(*due_ns));
        took_us = calloc(arrivals, sizeof(*took_us));
        if (!due_ns || !took_us)
                fail("memory");
        for (int i = 0; i < CONNECTIONS; i++) {
                open_connection(&connections[i]);
                ask(&connections[i]);
        }
        srand48(1); /* the same arrivals for everybody */
        double at = (double)now_ns() + 1e8;
        for (size_t i = 0; i < arrivals; i++)
                due_ns[i] = (int64_t)(at += -log(1 - drand48()) / rate * 1e9);
        for (int i = 0; i < CONNECTIONS; i++)
                if (pthread_create(&threads[i], NULL, run, &connections[i]) != 0)
                        fail("thread");
        for (int i = 0; i < CONNECTIONS; i++)
                pthread_join(threads[i], NULL);
        qsort(took_us, arrivals, sizeof(*took_us), by_size);
        printf("%zu %zu %u %u %u\n", arrivals, (size_t)not_200, took_us[arrivals / 2],
                took_us[arrivals * 99 / 100], took_us[arrivals - 1]);
        return 0;
}
