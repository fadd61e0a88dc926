/*
 * git: repositories below {data}/git, served by `git http-backend` as a child for each request.
 *
 * Both ways are streamed; what a child needs of the request it gets by CGI's variables, and nothing
 * of the user's own git configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "embedded/emu.h"

enum { PART = 65536, CGI_HEAD = 16384, VARIABLES = 32 };

/* --- children --- */

struct child {
        pid_t pid;
        int in, out; /* our ends; -1: closed */
};

static const char *const git_environment[] = {"GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
        "GIT_AUTHOR_NAME=Contoso", "GIT_AUTHOR_EMAIL=data@contoso.example",
        "GIT_COMMITTER_NAME=Contoso", "GIT_COMMITTER_EMAIL=data@contoso.example",
        "HOME=/nonexistent", "LC_ALL=C", NULL};

/* Starts argv[0] with pipes; `environment` stands behind git_environment. Signals that the
 * emulator blocks or ignores are as usual for the child. */
static bool child_start(struct child *child, const char *const *argv, char **environment)
{
        char *all[VARIABLES + 16], path[4096];
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attr;
        sigset_t set;
        size_t n = 0;
        int in[2], out[2];

        for (; git_environment[n]; n++)
                all[n] = (char *)git_environment[n];
        snprintf(path, sizeof(path), "PATH=%s", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
        all[n++] = path;
        for (size_t i = 0; environment && environment[i] && n < VARIABLES + 15; i++)
                all[n++] = environment[i];
        all[n] = NULL;
        if (pipe2(in, O_CLOEXEC) < 0)
                return false;
        if (pipe2(out, O_CLOEXEC) < 0) {
                close(in[0]);
                close(in[1]);
                return false;
        }
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_adddup2(&files, in[0], 0);
        posix_spawn_file_actions_adddup2(&files, out[1], 1);
        posix_spawnattr_init(&attr);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        sigemptyset(&set);
        posix_spawnattr_setsigmask(&attr, &set);
        sigaddset(&set, SIGPIPE);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        posix_spawnattr_setsigdefault(&attr, &set);
        int error = posix_spawnp(&child->pid, argv[0], &files, &attr, (char **)argv, all);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&files);
        close(in[0]);
        close(out[1]);
        child->in = in[1];
        child->out = out[0];
        if (error) {
                close(in[1]);
                close(out[0]);
        }
        return error == 0;
}

static void child_close_in(struct child *child)
{
        if (child->in >= 0)
                close(child->in);
        child->in = -1;
}

/* Reaps it; true when it ended well. */
static bool child_end(struct child *child, bool stop)
{
        int status = 0;

        child_close_in(child);
        close(child->out);
        if (stop)
                kill(child->pid, SIGTERM);
        while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
                ;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Runs argv[0] to its end with `input`; its output goes to `out` (may be NULL). The input has to be
 * small enough for a pipe, or the program one that reads first. */
static bool run(const char *const *argv, char **environment, struct str input, struct buf *out)
{
        struct child child;
        char part[4096];
        ssize_t n;

        if (!child_start(&child, argv, environment))
                return false;
        while (input.len > 0 && (n = write(child.in, input.ptr, input.len)) > 0)
                input = str_from(input, (size_t)n);
        child_close_in(&child);
        while ((n = read(child.out, part, sizeof(part))) > 0) {
                if (out)
                        buf_add(out, part, (size_t)n);
        }
        return child_end(&child, false);
}

/* --- repositories --- */

static void repository_path(
        const struct azure_devops *azure, const struct emu_repository *r, char out[4096])
{
        snprintf(
                out, 4096, "%s/git/%s/%s.git", azure->data, emu_projects[r->project].name, r->name);
}

bool emu_git_output(struct azure_devops *azure, const struct emu_repository *repository,
        const char *const *arguments, struct buf *out)
{
        const char *argv[16] = {"git", "--git-dir"};
        char path[4096];
        size_t n = 3;

        repository_path(azure, repository, path);
        argv[2] = path;
        for (; *arguments && n < 15; arguments++)
                argv[n++] = *arguments;
        return run(argv, NULL, STR_NONE, out) && !out->overflow;
}

static void commit_begin(struct buf *b, unsigned mark, int64_t when, const char *message)
{
        buf_printf(b,
                "commit refs/heads/main\nmark :%u\nauthor Contoso <data@contoso.example> %lld "
                "+0000\ncommitter Contoso <data@contoso.example> %lld +0000\ndata %zu\n%s\n",
                mark, (long long)when, (long long)when, strlen(message), message);
}

static void commit_file(struct buf *b, const char *name, struct str text)
{
        buf_printf(b, "M 644 inline %s\ndata %zu\n", name, text.len);
        buf_str_add(b, text);
        BUF_LITERAL(b, "\n");
}

/* A history for git fast-import: always the same one, so that its ids are too. */
static void history_write(struct buf *b, const struct emu_repository *r)
{
        struct buf text;
        int64_t when = 1767225600; /* 2026-01-01 */

        buf_init(&text, 1 << 20);
        buf_printf(&text, "# %s\n\nA repository of %s.\n", r->name, emu_projects[r->project].name);
        commit_begin(b, 1, when, "Begin");
        commit_file(b, "README.md", buf_str(&text));
        buf_reset(&text);
        buf_printf(&text,
                "\"\"\"Loads what the day left behind.\"\"\"\nfrom airflow.sdk import dag, "
                "task\n\n\n@dag(schedule=\"@daily\")\ndef nightly_load():\n"
                "    @task\n    def load():\n        print(\"loading\")\n\n    load()\n\n\n"
                "nightly_load()\n");
        commit_begin(b, 2, when + 86400, "Add the nightly load");
        commit_file(b, "dags/nightly_load.py", buf_str(&text));
        buf_reset(&text);
        BUF_LITERAL(&text, "day,rows,checksum\n");
        for (unsigned i = 0; i < 2000; i++)
                buf_printf(&text, "%u,%u,%08x\n", i, i * 7919 % 100003, i * 2654435761u);
        commit_begin(b, 3, when + 172800, "Add reference data");
        commit_file(b, "data/reference.csv", buf_str(&text));
        commit_begin(b, 4, when + 259200, "Say who looks after this");
        commit_file(b, "OWNERS", STR("data-team\n"));
        BUF_LITERAL(b, "tag v1.0\nfrom :3\ntagger Contoso <data@contoso.example> 1767398400 +0000\n"
                       "data 13\nFirst release\n");
        BUF_LITERAL(b, "done\n");
        buf_clear(&text);
}

static bool repository_make(const struct emu_repository *r, const char *path, struct error *err)
{
        static const char *const settings[][2] = {{"http.receivepack", "true"},
                {"http.uploadpack", "true"}, {"gc.auto", "0"}, {"receive.autogc", "false"},
                {"uploadpack.allowFilter", "true"}, {"uploadpack.allowAnySHA1InWant", "true"}};
        const char *const init[] = {"git", "init", "-q", "--bare", "-b", "main", path, NULL};
        const char *const import[] = {
                "git", "--git-dir", path, "fast-import", "--quiet", "--done", NULL};
        struct buf history;
        bool good = run(init, NULL, STR_NONE, NULL);

        for (size_t i = 0; good && i < sizeof(settings) / sizeof(settings[0]); i++) {
                const char *const config[] = {
                        "git", "--git-dir", path, "config", settings[i][0], settings[i][1], NULL};
                good = run(config, NULL, STR_NONE, NULL);
        }
        buf_init(&history, 4 << 20);
        history_write(&history, r);
        good = good && !history.overflow && run(import, NULL, buf_str(&history), NULL);
        buf_clear(&history);
        return good || error_set(err, "git cannot make the repository %s; is git installed?", path);
}

bool emu_git_prepare(struct azure_devops *azure, struct error *err)
{
        const char *const where[] = {"git", "--exec-path", NULL};
        struct buf text;
        char path[4096];
        struct stat st;

        buf_init(&text, 4096);
        if (!run(where, NULL, STR_NONE, &text) || text.overflow) {
                buf_clear(&text);
                return error_set(err, "git cannot be run; is it installed?");
        }
        azure->exec_path = str_dup(str_trim(buf_str(&text)));
        buf_clear(&text);
        for (size_t i = 0; i < EMU_REPOSITORIES; i++) {
                const struct emu_repository *r = &emu_repositories[i];

                snprintf(path, sizeof(path), "%s/git", azure->data);
                if (mkdir(path, 0700) < 0 && errno != EEXIST)
                        return error_set(err, "cannot make %s: %s", path, strerror(errno));
                snprintf(path, sizeof(path), "%s/git/%s", azure->data,
                        emu_projects[r->project].name);
                if (mkdir(path, 0700) < 0 && errno != EEXIST)
                        return error_set(err, "cannot make %s: %s", path, strerror(errno));
                repository_path(azure, r, path);
                if (stat(path, &st) < 0 && !repository_make(r, path, err))
                        return false;
        }
        return true;
}

/* --- http-backend --- */

static void variable(
        struct emu_call *call, char **all, size_t *n, const char *name, struct str value)
{
        struct str text = arena_printf(call->request->arena, "%s=%.*s", name, STR_FMT(value));

        if (value.ptr && text.ptr && *n < VARIABLES)
                all[(*n)++] = (char *)text.ptr;
}

/* The variables of RFC 3875 that http-backend looks at. */
static void variables(struct emu_call *call, const struct emu_repository *r, struct str rest,
        char *all[VARIABLES + 1])
{
        const struct h1_request *head = &call->request->head;
        struct arena *arena = call->request->arena;
        struct buf query;
        size_t n = 0;

        buf_init(&query, 8192);
        target_write_query(&call->request->target, &query);
        variable(call, all, &n, "GIT_PROJECT_ROOT",
                arena_printf(arena, "%s/git", call->azure->data));
        variable(call, all, &n, "GIT_HTTP_EXPORT_ALL", STR("1"));
        variable(call, all, &n, "PATH_INFO",
                arena_printf(arena, "/%s/%s.git/%.*s", emu_projects[r->project].name, r->name,
                        STR_FMT(rest)));
        variable(call, all, &n, "REQUEST_METHOD", call->method);
        variable(call, all, &n, "QUERY_STRING", str_from(buf_str(&query), 1));
        variable(call, all, &n, "REMOTE_USER", STR("dagward"));
        variable(call, all, &n, "REMOTE_ADDR", STR("127.0.0.1"));
        variable(call, all, &n, "SERVER_PROTOCOL", STR("HTTP/1.1"));
        variable(call, all, &n, "GATEWAY_INTERFACE", STR("CGI/1.1"));
        variable(call, all, &n, "CONTENT_TYPE", h1_field_value(head, H1_CONTENT_TYPE));
        variable(call, all, &n, "HTTP_CONTENT_ENCODING", h1_field_value(head, H1_CONTENT_ENCODING));
        variable(call, all, &n, "GIT_PROTOCOL", h1_field_value(head, H1_GIT_PROTOCOL));
        variable(call, all, &n, "HTTP_GIT_PROTOCOL", h1_field_value(head, H1_GIT_PROTOCOL));
        if (head->framing == H1_LENGTH)
                variable(call, all, &n, "CONTENT_LENGTH",
                        arena_printf(arena, "%llu", (unsigned long long)head->content_length));
        all[n] = NULL;
        buf_clear(&query);
}

/* What goes to the client, in two states: the child's head, then its body. */
struct relay {
        struct emu_call *call;
        char head[CGI_HEAD];
        size_t len;
        bool begun;
};

/* Sends the head if it is complete; false when it is none, or the client is gone. */
static bool relay_head(struct relay *relay)
{
        struct str rest = str_view(relay->head, relay->len), line, name, value, type = STR_NONE;
        ssize_t end = str_find_str(rest, STR("\r\n\r\n"));
        uint64_t status = 200;
        char text[256];

        if (end < 0)
                return relay->len < CGI_HEAD;
        struct str body = str_from(rest, (size_t)end + 4);
        rest = str_head(rest, (size_t)end);
        while (rest.len > 0) {
                rest = str_trim(str_cut(rest, '\n', &line));
                value = str_trim(str_cut(line, ':', &name));
                if (str_eq_fold(name, STR("Status"))) {
                        if (!str_to_u64(str_head(value, 3), &status) || status < 200 ||
                                status > 599)
                                return false;
                } else if (str_eq_fold(name, STR("Content-Type"))) {
                        type = value;
                } else if (!str_eq_fold(name, STR("Content-Length"))) {
                        emu_header(relay->call->request, name, value);
                }
        }
        snprintf(text, sizeof(text), "%.*s", STR_FMT(type));
        relay->begun = true;
        return emu_reply_begin(relay->call->request, (int)status, type.len ? text : NULL) &&
               emu_write(relay->call->request, body);
}

static bool relay_output(struct relay *relay, struct child *child, bool *ended)
{
        char part[PART];
        ssize_t n;

        if (relay->begun) {
                n = read(child->out, part, sizeof(part));
                *ended = n <= 0;
                return n <= 0 || emu_write(relay->call->request, str_view(part, (size_t)n));
        }
        n = read(child->out, relay->head + relay->len, CGI_HEAD - relay->len);
        *ended = n <= 0;
        if (n <= 0)
                return true;
        relay->len += (size_t)n;
        return relay_head(relay);
}

/* Feeds the body to the child and its output to the client until the child closes it. Never waits
 * for one of the pipes while the other one could go on. */
static bool relay_both(struct relay *relay, struct child *child)
{
        struct emu_request *request = relay->call->request;
        char part[PART];
        struct str pending = STR_NONE;
        bool ended = false;

        fcntl(child->in, F_SETFL, O_NONBLOCK);
        while (!ended) {
                if (child->in >= 0 && pending.len == 0) {
                        ssize_t n = emu_body_read(request, part, sizeof(part));

                        if (n < 0)
                                return false;
                        pending = str_view(part, (size_t)n);
                        if (n == 0)
                                child_close_in(child);
                }
                struct pollfd fds[2] = {
                        {.fd = child->out, .events = POLLIN}, {.fd = child->in, .events = POLLOUT}};
                if (poll(fds, 2, 200) < 0 && errno != EINTR)
                        return false;
                if (emu_stopping(request))
                        return false;
                if (child->in >= 0 && fds[1].revents) {
                        ssize_t n = write(child->in, pending.ptr, pending.len);

                        if (n > 0)
                                pending = str_from(pending, (size_t)n);
                        else if (errno != EAGAIN && errno != EINTR)
                                child_close_in(child); /* it has read enough */
                }
                if (fds[0].revents && !relay_output(relay, child, &ended))
                        return false;
        }
        return relay->begun;
}

static void backend(struct emu_call *call, const struct emu_repository *r, struct str rest)
{
        char program[4096], *environment[VARIABLES + 1];
        const char *const argv[] = {program, NULL};
        struct relay relay = {.call = call};
        struct child child;

        snprintf(program, sizeof(program), "%s/git-http-backend", call->azure->exec_path);
        variables(call, r, rest, environment);
        if (!child_start(&child, argv, environment)) {
                emu_error(call, 500, "GitCommandException", "git http-backend cannot be run");
                return;
        }
        bool good = relay_both(&relay, &child);
        child_end(&child, !good);
        if (good)
                emu_reply_end(call->request);
        else if (relay.begun || emu_stopping(call->request))
                emu_drop(call->request);
        else
                emu_error(call, 500, "GitCommandException", "git http-backend failed");
}

/* --- routes --- */

void emu_git(struct emu_call *call, size_t at)
{
        struct str name = at < call->n_segments ? call->segments[at] : STR_NONE;
        const struct str *rest = call->segments + at + 1;
        size_t n = at < call->n_segments ? call->n_segments - at - 1 : 0;

        if (str_ends_fold(name, STR(".git")))
                name.len -= 4;
        /* A repository can be named by its id without its project. */
        const struct emu_repository *r = call->project || at > 1
                                                 ? emu_repository_named(call->project, name)
                                                 : emu_repository_named(NULL, name);
        if (!r || (at > 1 && !call->project)) {
                emu_error(call, 404, "GitRepositoryNotFoundException",
                        "TF401019: The Git repository with name or identifier %.*s does not exist "
                        "or you do not have permissions for the operation you are attempting.",
                        STR_FMT(name));
                return;
        }
        bool post = str_eq(call->method, STR("POST"));
        if (n >= 2 && str_eq(rest[0], STR("info")) && str_eq(rest[1], STR("lfs"))) {
                emu_lfs(call, r, at + 3);
        } else if (n == 2 && !post && str_eq(rest[0], STR("info")) &&
                   str_eq(rest[1], STR("refs"))) {
                backend(call, r, STR("info/refs"));
        } else if (n == 1 && post &&
                   (str_eq(rest[0], STR("git-upload-pack")) ||
                           str_eq(rest[0], STR("git-receive-pack")))) {
                backend(call, r, rest[0]);
        } else if (n == 0) {
                emu_reply(call->request, 200, "text/html; charset=utf-8",
                        STR("<html><head><title>Files - Repos</title></head></html>\n"));
        } else {
                emu_error(call, 404, "VssResourceNotFoundException", "There is no such thing.");
        }
}
