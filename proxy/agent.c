/*
 * agent: listens beside a client and lends its requests the token of a file.
 */
#include "agent.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "confine.h"
#include "dagward/base/log.h"
#include "dagward/net/listener.h"

enum { CONNECTIONS_MOST = 256 };

struct serving {
        struct agent_settings settings;
        struct agent agent;
        int listeners[2];
        size_t n;
        struct stat socket; /* as it was made */
        bool has_socket;
        atomic_uint connections; /* threads that serve one */
};

struct job {
        struct serving *serving;
        int fd;
};

static void usage(FILE *out)
{
        fputs("usage: dagward agent --config FILE\n\n"
              "Listens on loopback, or on a Unix socket, beside a client that should hold no\n"
              "credential, and passes its requests to the proxy with the token of a file, which "
              "is\n"
              "read for each of them. The file is YAML:\n\n"
              "  listen: 127.0.0.1:8021          # loopback only\n"
              "  socket: /run/dagward/agent.sock # and, or instead: for this user only\n"
              "  proxy: https://dagward.example.internal:8443\n"
              "  ca: /etc/dagward/ca.pem         # who may vouch for it; default: the system's\n"
              "  token_file: /var/run/secrets/dagward/token\n"
              "  askpass: true                   # GET /askpass gives the token away (git-sync)\n"
              "  user: airflow                   # the user name it says with it\n"
              "  confine: auto                   # or off, require: what it takes from itself\n\n"
              "Exit status: 0 after SIGTERM or SIGINT, 2 when something is invalid or cannot be\n"
              "had.\n",
                out);
}

static void *serve_one(void *arg)
{
        struct job *job = arg;

        agent_connection(&job->serving->agent, job->fd);
        atomic_fetch_sub(&job->serving->connections, 1);
        free(job);
        return NULL;
}

static void take(struct serving *it, int listener)
{
        char peer[LISTENER_PEER];
        int fd = listener_accept(listener, peer);
        pthread_t thread;

        if (fd < 0) {
                if (errno != EAGAIN && errno != EINTR)
                        (void)poll(NULL, 0, 50); /* out of descriptors: somebody has to go first */
                return;
        }
        struct job *job = malloc(sizeof(*job));
        if (!job)
                abort();
        *job = (struct job){it, fd};
        if (atomic_fetch_add(&it->connections, 1) < CONNECTIONS_MOST &&
                pthread_create(&thread, NULL, serve_one, job) == 0) {
                pthread_detach(thread);
                return;
        }
        atomic_fetch_sub(&it->connections, 1);
        close(fd);
        free(job);
}

/* Unless another process has put its own there since. */
static void remove_socket(const struct serving *it)
{
        const char *path = it->settings.socket.ptr;
        struct stat there;

        if (it->has_socket && lstat(path, &there) == 0 && there.st_dev == it->socket.st_dev &&
                there.st_ino == it->socket.st_ino)
                unlink(path);
}

static bool open_all(struct serving *it, struct error *err)
{
        const struct agent_settings *settings = &it->settings;

        it->agent.settings = settings;
        if (settings->proxy.https && !(it->agent.tls = tls_client(settings->ca.ptr, err)))
                return false;
        if (settings->listen.ptr) {
                it->listeners[it->n] = listener_open(settings->listen.ptr, false, err);
                if (it->listeners[it->n] < 0)
                        return false;
                it->n++;
        }
        if (settings->socket.ptr) {
                it->listeners[it->n] =
                        listener_open_local(settings->socket.ptr, SOCK_STREAM, 64, err);
                if (it->listeners[it->n] < 0)
                        return false;
                it->n++;
                it->has_socket = stat(settings->socket.ptr, &it->socket) == 0;
        }
        return true;
}

static void serve(struct serving *it, int signals)
{
        struct pollfd fds[3] = {{.fd = signals, .events = POLLIN}};

        for (size_t i = 0; i < it->n; i++)
                fds[i + 1] = (struct pollfd){.fd = it->listeners[i], .events = POLLIN};
        for (;;) {
                if (poll(fds, it->n + 1, -1) < 0 && errno != EINTR)
                        return;
                if (fds[0].revents)
                        return;
                for (size_t i = 0; i < it->n; i++)
                        if (fds[i + 1].revents)
                                take(it, fds[i + 1].fd);
        }
}

static int signals_open(void)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        return signalfd(-1, &set, SFD_CLOEXEC);
}

static int run(const char *path)
{
        static struct serving it;
        struct error_list errors;
        struct error err = {{0}};
        struct secret token = {0};

        error_list_init(&errors);
        if (!agent_settings_load(path, &it.settings, &errors)) {
                error_list_print(&errors, stderr);
                error_list_clear(&errors);
                return EXIT_USAGE;
        }
        error_list_clear(&errors);
        confine_begin();
        int signals = signals_open();
        if (!open_all(&it, &err)) {
                fprintf(stderr, "dagward agent: %s\n", err.text);
                return EXIT_USAGE;
        }
        if (!confine_agent(&it.settings, path, &err)) {
                fprintf(stderr, "dagward agent: %s\n", err.text);
                return EXIT_USAGE;
        }
        /* It may come later: clients are told as long as it is not there. */
        if (!agent_token_read(it.settings.token_file.ptr, &token, &err))
                log_error("agent has no token yet: %s", err.text);
        secret_drop(&token);
        log_info("agent listen=%s socket=%s proxy=%s",
                it.settings.listen.ptr ? it.settings.listen.ptr : "",
                it.settings.socket.ptr ? it.settings.socket.ptr : "", it.settings.proxy.text.ptr);
        log_wait_for_nobody();
        serve(&it, signals);
        remove_socket(&it); /* before anybody can find that nobody listens there */
        for (size_t i = 0; i < it.n; i++)
                close(it.listeners[i]);
        /* Those that run get a moment; their clients try again. */
        for (int i = 0; i < 50 && atomic_load(&it.connections); i++)
                (void)poll(NULL, 0, 100);
        if (!atomic_load(&it.connections)) {
                tls_unref(it.agent.tls);
                arena_clear(&it.settings.arena);
        }
        return EXIT_YES;
}

int command_agent(int argc, char **argv)
{
        static const struct option longs[] = {
                {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
        const char *config = NULL;
        int option;

        while ((option = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
                switch (option) {
                case 'c': config = optarg; break;
                case 'h': usage(stdout); return EXIT_YES;
                default: return EXIT_USAGE;
                }
        }
        if (!config || optind < argc) {
                fprintf(stderr, "dagward agent: %s\n",
                        config ? "one argument too many" : "--config FILE is missing");
                return EXIT_USAGE;
        }
        return run(config);
}
