/*
 * Programs and files of the tour. Whatever happens, nothing of it is left behind: children die with
 * their parent (PR_SET_PDEATHSIG), and each leads a process group that is signalled as a whole.
 */
#include "tour.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <dirent.h>
#include <unistd.h>

#include "dagward/base/clock.h"

enum { READY_MS = 20000, STOP_MS = 5000, RUN_MS = 30000, LOOK_MS = 10 };
enum { FILE_MOST_BYTES = 16 << 20, OUTPUT_MOST_BYTES = 256 << 10, WORDS_MOST = 32 };

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
        (void)number;
        stopped = 1;
}

void tour_catch_signals(void)
{
        struct sigaction action = {.sa_handler = on_signal};

        sigemptyset(&action.sa_mask);
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGHUP, &action, NULL);
        signal(SIGPIPE, SIG_IGN); /* `| head` must not leave children behind */
        signal(SIGXFSZ, SIG_IGN);
}

bool tour_stopped(void)
{
        return stopped || ferror(stdout);
}

static void pause_ms(int ms)
{
        poll(NULL, 0, ms);
}

/* --- files --- */

static bool folder_is_empty(const char *path)
{
        DIR *folder = opendir(path);
        struct dirent *entry;
        bool empty = folder != NULL;

        while (empty && (entry = readdir(folder)))
                empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        if (folder)
                closedir(folder);
        return empty;
}

static bool keep_folder(struct tour *t, const char *keep)
{
        if (mkdir(keep, 0700) != 0 && errno != EEXIST)
                return error_set(&t->err, "--keep %s: cannot be made: %s", keep, strerror(errno));
        char *whole = realpath(keep, NULL);
        if (!whole)
                return error_set(&t->err, "--keep %s: %s", keep, strerror(errno));
        t->folder = arena_copy(&t->arena, str_of(whole)).ptr;
        t->kept = true;
        free(whole);
        if (!folder_is_empty(t->folder))
                return error_set(&t->err,
                        "--keep %s: is not an empty folder; name one that is empty or not there "
                        "yet",
                        keep);
        return true;
}

bool tour_folder_make(struct tour *t, const char *keep)
{
        const char *where = getenv("TMPDIR");

        if (keep)
                return keep_folder(t, keep);
        if (!where || where[0] != '/')
                where = "/tmp";
        char *name =
                (char *)(uintptr_t)arena_printf(&t->arena, "%s/dagward-demo-XXXXXX", where).ptr;
        if (!mkdtemp(name))
                return error_set(&t->err,
                        "no temporary folder in %s: %s; set TMPDIR to a folder that can be "
                        "written, or name one with --keep",
                        where, strerror(errno));
        t->folder = name;
        return true;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
        (void)status;
        (void)kind;
        (void)place;
        remove(path);
        return 0; /* the rest goes, whatever this one says */
}

void tour_folder_remove(struct tour *t)
{
        if (t->folder && !t->kept)
                nftw(t->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *tour_path(struct tour *t, const char *name)
{
        return arena_printf(&t->arena, "%s/%s", t->folder, name).ptr;
}

bool tour_write(struct tour *t, const char *name, struct str text, unsigned mode)
{
        const char *path = tour_path(t, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode_t)mode);
        bool ok = fd >= 0;

        for (size_t at = 0; ok && at < text.len;) {
                ssize_t n = write(fd, text.ptr + at, text.len - at);
                ok = n > 0;
                if (ok)
                        at += (size_t)n;
        }
        if (!ok)
                error_set(&t->err, "%s: %s", path, strerror(errno));
        if (fd >= 0)
                close(fd);
        return ok;
}

static bool read_all(int fd, struct buf *out)
{
        for (;;) {
                if (!buf_reserve(out, 4096))
                        return false;
                ssize_t n = read(fd, out->data + out->len, out->cap - out->len);
                if (n > 0)
                        out->len += (size_t)n;
                else if (n == 0)
                        return true;
                else if (errno != EINTR)
                        return false;
        }
}

bool tour_read(const char *path, struct buf *out)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        buf_init(out, FILE_MOST_BYTES);
        bool ok = fd >= 0 && read_all(fd, out);
        if (fd >= 0)
                close(fd);
        return ok;
}

/* --- programs --- */

/* In the child, after fork: only calls that are safe there. */
_Noreturn static void become(
        pid_t parent, const char *folder, int out, const char *const *argv, const char *file)
{
        static const int defaults[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ};
        sigset_t none;
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        setpgid(0, 0); /* Ctrl-C is for the tour, which then stops the rest in order */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        for (size_t i = 0; i < sizeof(defaults) / sizeof(*defaults); i++)
                signal(defaults[i], SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        bool ok = getppid() == parent && null >= 0 && dup2(null, STDIN_FILENO) >= 0 &&
                  dup2(out, STDOUT_FILENO) >= 0 && dup2(out, STDERR_FILENO) >= 0 &&
                  (!folder || chdir(folder) == 0);
        if (ok)
                execvp(file, (char *const *)(uintptr_t)argv);
        _exit(127);
}

static pid_t spawn(const char *folder, int out, const char *const *argv)
{
        const char *words[WORDS_MOST + 1] = {"dagward"};
        pid_t parent = getpid();
        size_t n = 1;

        for (; n < WORDS_MOST && argv[n]; n++)
                words[n] = argv[n];
        if (argv[0])
                words[0] = argv[0];
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0)
                become(parent, folder, out, words, argv[0] ? argv[0] : "/proc/self/exe");
        if (pid > 0)
                setpgid(pid, pid);
        return pid;
}

bool tour_start(struct tour *t, struct tour_child *child, const char *const *argv)
{
        child->log = tour_path(t, arena_printf(&t->arena, "%s.log", child->name).ptr);
        int out = open(child->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        if (out < 0)
                return error_set(&t->err, "%s: %s", child->log, strerror(errno));
        pid_t pid = spawn(t->folder, out, argv);
        int why = errno;
        close(out);
        if (pid < 0)
                return error_set(
                        &t->err, "the %s cannot be started: %s", child->name, strerror(why));
        child->pid = pid;
        return true;
}

/* The last lines that a child wrote, for an error message. */
static void add_last_words(struct tour *t, const struct tour_child *child)
{
        enum { WORDS = 300 };
        struct buf log;
        struct str text, cut;

        bool ok = tour_read(child->log, &log);
        text = str_trim(buf_str(&log));
        if (ok && text.len > WORDS) {
                struct str rest = str_cut(str_from(text, text.len - WORDS), '\n', &cut);
                text = rest.ptr ? rest : cut;
        }
        size_t len = strlen(t->err.text);
        if (ok && text.len)
                snprintf(t->err.text + len, sizeof(t->err.text) - len, "\nIts last words:\n%.*s",
                        STR_FMT(text));
        buf_clear(&log);
}

bool tour_alive(struct tour *t, struct tour_child *child)
{
        int status;

        if (child->pid && waitpid(child->pid, &status, WNOHANG) == 0)
                return true;
        if (!child->pid)
                return error_set(&t->err, "the %s does not run", child->name);
        kill(-child->pid, SIGKILL); /* what it had started, if anything */
        child->pid = 0;
        if (WIFSIGNALED(status))
                error_set(&t->err, "the %s was ended by signal %d", child->name, WTERMSIG(status));
        else
                error_set(&t->err, "the %s ended with exit status %d", child->name,
                        WEXITSTATUS(status));
        add_last_words(t, child);
        return false;
}

/* The url of a whole line "READY url ..." in the log. */
static const char *find_ready(struct tour *t, const struct tour_child *child)
{
        struct buf log;
        struct str rest, line, url;
        const char *found = NULL;

        if (tour_read(child->log, &log)) {
                rest = buf_str(&log);
                while (!found && str_find(rest, '\n') >= 0) {
                        rest = str_cut(rest, '\n', &line);
                        if (!str_starts(line, STR("READY ")))
                                continue;
                        str_cut(str_trim(str_from(line, 6)), ' ', &url);
                        found = arena_copy(&t->arena, url).ptr;
                }
        }
        buf_clear(&log);
        return found;
}

bool tour_ready(struct tour *t, struct tour_child *child, const char **url)
{
        int64_t end = clock_mono_ms() + READY_MS;

        while (!(*url = find_ready(t, child))) {
                if (tour_stopped())
                        return error_set(&t->err, "stopped");
                if (!tour_alive(t, child))
                        return false;
                if (clock_mono_ms() > end) {
                        error_set(&t->err, "the %s is not ready after %d s", child->name,
                                READY_MS / 1000);
                        add_last_words(t, child);
                        return false;
                }
                pause_ms(LOOK_MS);
        }
        return true;
}

/* Waits up to `ms` for a child's end. */
static bool gone(pid_t pid, int *status, int ms)
{
        int64_t end = clock_mono_ms() + ms;

        while (waitpid(pid, status, WNOHANG) == 0) {
                if (clock_mono_ms() >= end)
                        return false;
                pause_ms(LOOK_MS);
        }
        return true;
}

void tour_stop_children(struct tour *t)
{
        struct tour_child *children[] = {&t->proxy, &t->emulator, &t->issuer};
        enum { N = sizeof(children) / sizeof(*children) };
        int64_t end = clock_mono_ms() + STOP_MS;
        int status;

        for (size_t i = 0; i < N; i++)
                if (children[i]->pid)
                        kill(children[i]->pid, SIGTERM);
        for (size_t i = 0; i < N; i++) {
                pid_t pid = children[i]->pid;
                int64_t left = end - clock_mono_ms();
                if (!pid)
                        continue;
                bool ended = gone(pid, &status, left > 0 ? (int)left : 0);
                kill(-pid, SIGKILL); /* also what a child may have started */
                if (!ended)
                        waitpid(pid, &status, 0);
                children[i]->pid = 0;
        }
}

/* Reads what a program says until it ends; false when it takes too long or the tour is stopped. */
static bool listen_to(int fd, struct buf *out)
{
        int64_t end = clock_mono_ms() + RUN_MS;

        while (!tour_stopped() && clock_mono_ms() < end) {
                struct pollfd look = {.fd = fd, .events = POLLIN};
                if (poll(&look, 1, 100) <= 0)
                        continue;
                char bytes[4096];
                ssize_t n = read(fd, bytes, sizeof(bytes));
                if (n == 0)
                        return true;
                if (n > 0)
                        buf_add(out, bytes, (size_t)n);
        }
        return false;
}

int tour_run(struct tour *t, const char *folder, const char *const *argv, struct buf *out)
{
        int ends[2], status = 0;

        (void)t;
        buf_init(out, OUTPUT_MOST_BYTES);
        if (pipe2(ends, O_CLOEXEC) != 0)
                return -1;
        pid_t pid = spawn(folder, ends[1], argv);
        close(ends[1]);
        bool ended = pid > 0 && listen_to(ends[0], out) && gone(pid, &status, STOP_MS);
        close(ends[0]);
        if (pid <= 0)
                return -1;
        kill(-pid, SIGKILL);
        if (!ended) {
                waitpid(pid, &status, 0);
                return -1;
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

uint16_t tour_free_port(uint16_t wanted)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(wanted)};
        socklen_t len = sizeof(address);
        int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
                  bind(fd, (struct sockaddr *)&address, len) == 0 &&
                  getsockname(fd, (struct sockaddr *)&address, &len) == 0;
        if (fd >= 0)
                close(fd);
        return ok ? ntohs(address.sin_port) : 0;
}
