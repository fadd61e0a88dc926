/*
 * What the confinement really takes away: each test confines a child and lets it try.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "dagward/base/reach.h"
#include "dagward/confine/confine.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(DAGWARD_COVERAGE)
#define CONFINE_UNAVAILABLE true
#else
#define CONFINE_UNAVAILABLE false
#endif

/* A child of a process with a sanitizer ends with _exit, so that nothing is traced there. */
enum { GOOD = 0, SKIPPED = 77 };

#ifdef DAGWARD_COVERAGE
void __gcov_dump(void);
static void count(void)
{
        __gcov_dump();
}
#else
static void count(void)
{
}
#endif

/* Runs `what` in a child; what it returns is its status. */
static int in_child(int (*what)(void))
{
        int status;
        pid_t child = fork();

        if (child == 0) {
                status = what();
                count();
                _exit(status);
        }
        assert_true(child > 0 && waitpid(child, &status, 0) == child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int complain(const char *what, long got, int number)
{
        dprintf(STDERR_FILENO, "%s: %ld, errno %d (%s)\n", what, got, number, strerror(number));
        return 1;
}

/* What this kernel (or the container around us) has: only without it a test may be skipped. */
static bool kernel_has_seccomp(void)
{
        uint32_t action = SECCOMP_RET_ERRNO;

        return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static bool kernel_has_landlock(void)
{
        return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

/* The status of a child that may have been skipped. */
static void judge(int status, bool has)
{
        if (status == SKIPPED && !has)
                skip();
        assert_int_equal(status, GOOD);
}

static bool filtered(void)
{
        struct error err;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && confine_filter_calls(&err))
                return true;
        dprintf(STDERR_FILENO, "no filter: %s\n", err.text);
        return false;
}

/* --- system calls --- */

static int try_calls(void)
{
        /* With arguments that make each fail otherwise, with another error, where it is allowed. */
        static const struct attempt {
                const char *name;
                long call, a, b, c;
                int wanted;
        } attempts[] = {
#define DENIED(name, ...) {#name, SYS_##name, __VA_ARGS__}
                DENIED(execve, 0, 0, 0, EPERM),
                DENIED(execveat, -1, 0, 0, EPERM),
                DENIED(ptrace, -1, 0, 0, EPERM),
                DENIED(process_vm_readv, 0, 0, 0, EPERM),
                DENIED(process_vm_writev, 0, 0, 0, EPERM),
                DENIED(kcmp, 0, 0, 0, EPERM),
                DENIED(personality, 0xffffffff, 0, 0, EPERM),
                DENIED(setuid, 0, 0, 0, EPERM),
                DENIED(setgid, 0, 0, 0, EPERM),
                DENIED(setresuid, -1, -1, -1, EPERM),
                DENIED(setgroups, 0, 0, 0, EPERM),
                DENIED(capset, 0, 0, 0, EPERM),
                DENIED(unshare, 0, 0, 0, EPERM),
                DENIED(setns, -1, 0, 0, EPERM),
                DENIED(mount, 0, 0, 0, EPERM),
                DENIED(umount2, 0, 0, 0, EPERM),
                DENIED(pivot_root, 0, 0, 0, EPERM),
                DENIED(chroot, 0, 0, 0, EPERM),
                DENIED(move_mount, -1, 0, -1, EPERM),
                DENIED(open_tree, -1, 0, 0, EPERM),
                DENIED(fsopen, 0, 0, 0, EPERM),
                DENIED(open_by_handle_at, -1, 0, 0, EPERM),
                DENIED(mknodat, -1, 0, 0, EPERM),
                DENIED(bpf, -1, 0, 0, EPERM),
                DENIED(perf_event_open, 0, 0, 0, EPERM),
                DENIED(userfaultfd, -1, 0, 0, EPERM),
                DENIED(io_uring_setup, 0, 0, 0, EPERM),
                DENIED(keyctl, -1, 0, 0, EPERM),
                DENIED(add_key, 0, 0, 0, EPERM),
                DENIED(memfd_create, 0, 0, 0, EPERM),
                DENIED(init_module, 0, 0, 0, EPERM),
                DENIED(finit_module, -1, 0, 0, EPERM),
                DENIED(delete_module, 0, 0, 0, EPERM),
                DENIED(kexec_load, 0, 0, 0, EPERM),
                DENIED(reboot, 0, 0, 0, EPERM),
                DENIED(swapon, 0, 0, 0, EPERM),
                DENIED(syslog, -1, 0, 0, EPERM),
                DENIED(settimeofday, 0, 0, 0, EPERM),
                DENIED(clock_settime, -1, 0, 0, EPERM),
                DENIED(sethostname, 0, -1, 0, EPERM),
                DENIED(clone3, 0, 0, 0, ENOSYS),
                DENIED(clone, SIGCHLD, 0, 0, EPERM),
                DENIED(clone, CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, EPERM),
                DENIED(socket, AF_PACKET, SOCK_RAW, 0, EAFNOSUPPORT),
                DENIED(socket, AF_ALG, SOCK_SEQPACKET, 0, EAFNOSUPPORT),
                DENIED(socket, AF_VSOCK, SOCK_STREAM, 0, EAFNOSUPPORT),
                DENIED(ioctl, -1, TIOCSTI, 0, EPERM),
                DENIED(ioctl, -1, TIOCLINUX, 0, EPERM),
                DENIED(mprotect, 0, 0, PROT_READ | PROT_EXEC, EPERM),
                DENIED(mmap, 0, 4096, PROT_WRITE | PROT_EXEC, EPERM),
#ifdef SYS_fork
                DENIED(fork, 0, 0, 0, EPERM),
                DENIED(vfork, 0, 0, 0, EPERM),
                DENIED(iopl, -1, 0, 0, EPERM),
                DENIED(modify_ldt, -1, 0, 0, EPERM),
#endif
        };

        if (!filtered())
                return SKIPPED;
        for (size_t i = 0; i < sizeof(attempts) / sizeof(*attempts); i++) {
                const struct attempt *it = &attempts[i];
                errno = 0;
                long got = syscall(it->call, it->a, it->b, it->c, 0, -1, 0);
                if (got != -1 || errno != it->wanted)
                        return complain(it->name, got, errno);
        }
        return GOOD;
}

static void calls_that_a_proxy_has_no_use_for_are_refused(void **state)
{
        (void)state;
        int status = in_child(try_calls);
        judge(status, kernel_has_seccomp());
}

static void *idle(void *argument)
{
        return argument;
}

/* What the program and its libraries do all day. */
static int try_daily_work(void)
{
        pthread_t thread;
        void *got = NULL;
        int word;

        if (!filtered())
                return SKIPPED;
        if (pthread_create(&thread, NULL, idle, &word) != 0 || pthread_join(thread, &got) != 0 ||
                got != &word)
                return complain("a thread", 0, errno);
        int families[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};
        for (size_t i = 0; i < 4; i++) {
                int fd = socket(families[i], families[i] == AF_NETLINK ? SOCK_RAW : SOCK_STREAM, 0);
                if (fd < 0 && errno != EAFNOSUPPORT) /* a machine without IPv6 */
                        return complain("a socket", families[i], errno);
                close(fd);
        }
        void *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (data == MAP_FAILED || code == MAP_FAILED || mprotect(data, 4096, PROT_READ) != 0)
                return complain("memory", 0, errno);
        return GOOD;
}

static void threads_sockets_and_memory_are_not(void **state)
{
        (void)state;
        int status = in_child(try_daily_work);
        judge(status, kernel_has_seccomp());
}

/* --- files --- */

static char folder[] = "/tmp/test-confine-XXXXXX";

static void path_of(char out[256], const char *name)
{
        snprintf(out, 256, "%s/%s", folder, name);
}

static void put(const char *name, const char *text)
{
        char path[256];

        path_of(path, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                abort();
        close(fd);
}

static void link_to(const char *target, const char *name)
{
        char path[256];

        path_of(path, name);
        unlink(path);
        if (symlink(target, path) != 0)
                abort();
}

static void make_folder(const char *name)
{
        char path[256];

        path_of(path, name);
        if (mkdir(path, 0755) != 0)
                abort();
}

static int reads(const char *name)
{
        char path[256];

        path_of(path, name);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static int makes(const char *name)
{
        char path[256];

        path_of(path, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static bool restricted(const struct confine_plan *plan)
{
        struct error err = {""};
        size_t reachable;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
                return false;
        int version = confine_restrict_files(plan, &reachable, &err);
        if (version > 0)
                return true;
        dprintf(STDERR_FILENO, "no landlock: %d %s\n", version, err.text);
        return false;
}

/* A file, one beside it, links that are moved, folders that are listed and written. */
static int try_files(void)
{
        struct confine_plan plan = {0};
        char path[256], other[256];

        put("open/token", "a");
        path_of(path, "open/token");
        confine_allow_file(&plan, path, CONFINE_READ);
        path_of(path, "mount/key");
        confine_allow_file(&plan, path, CONFINE_READ);
        path_of(path, "release/current/key");
        confine_allow_file(&plan, path, CONFINE_READ);
        path_of(path, "open/linked");
        confine_allow_file(&plan, path, CONFINE_READ);
        path_of(path, "policies/*.yaml");
        confine_allow_pattern(&plan, path);
        path_of(path, "log");
        confine_allow(&plan, path, CONFINE_READ | CONFINE_LIST | CONFINE_WRITE);
#ifdef DAGWARD_COVERAGE
        confine_allow(&plan, SOURCE_DIR, CONFINE_READ | CONFINE_LIST | CONFINE_WRITE);
#endif
        if (!restricted(&plan))
                return SKIPPED;
        confine_plan_clear(&plan);

        struct {
                const char *what;
                int got, wanted;
        } checks[] = {
                {"the file", reads("open/token"), 0},
                {"a file beside it", reads("open/other"), 0},
                {"a file elsewhere", reads("shut/secret"), EACCES},
                {"through a link in an open folder", reads("open/out"), EACCES},
                {"by dots", reads("open/../shut/secret"), EACCES},
                {"a mounted file", reads("mount/key"), 0},
                {"the next one of the mount", reads("mount/..2/key"), 0},
                {"the current release", reads("release/current/key"), 0},
                {"the next release", reads("release/v2/key"), 0},
                {"what a link leads to", reads("open/linked"), 0},
                {"and its folder", reads("far/other"), 0},
                {"a listed folder", reads("policies"), 0},
                {"a new policy", reads("policies/new.yaml"), 0},
                {"a folder that is only read", reads("open"), EACCES},
                {"a new file where only reading is", makes("open/new"), EACCES},
                {"appending where only reading is", makes("open/token"), EACCES},
                {"a new log", makes("log/audit.jsonl"), 0},
        };
        for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++)
                if (checks[i].got != checks[i].wanted)
                        return complain(checks[i].what, checks[i].wanted, checks[i].got);
        path_of(path, "log/audit.jsonl");
        path_of(other, "log/audit.1");
        if (rename(path, other) != 0 || unlink(other) != 0)
                return complain("rotation", 0, errno);
        path_of(other, "open/away");
        if (makes("log/audit.jsonl") != 0 || rename(path, other) == 0)
                return complain("a log is moved elsewhere", 0, 0);
        path_of(path, "shut/secret");
        path_of(other, "shut/nothing");
        if (!file_out_of_reach(path) || file_out_of_reach(other))
                return complain("what is hidden is told from what is not there", 0, 0);
        execl("/bin/true", "true", (char *)NULL);
        return errno == EACCES ? GOOD : complain("a program", 0, errno);
}

static void only_what_was_named_can_be_reached(void **state)
{
        (void)state;
        int status = in_child(try_files);
        judge(status, kernel_has_landlock());
}

static bool plan_has(const struct confine_plan *plan, const char *path)
{
        for (size_t i = 0; i < plan->n; i++)
                if (strcmp(plan->rules[i].path, path) == 0)
                        return true;
        return false;
}

static void folders_of_everybody_are_not_opened(void **state)
{
        struct confine_plan plan = {0};

        (void)state;
        confine_allow_file(&plan, "/etc/hostname", CONFINE_READ);
        confine_allow_file(&plan, "/tmp/token", CONFINE_READ);
        confine_allow_file(&plan, "/token", CONFINE_READ);
        assert_true(plan_has(&plan, "/etc/hostname") && plan_has(&plan, "/tmp/token"));
        assert_false(plan_has(&plan, "/etc") || plan_has(&plan, "/tmp") || plan_has(&plan, "/"));
        confine_allow_file(&plan, "/usr/share/zoneinfo/UTC", CONFINE_READ);
        assert_true(plan_has(&plan, "/usr/share/zoneinfo"));
        confine_plan_clear(&plan);
}

/* --- the whole --- */

static int try_all(void)
{
        struct confine_plan plan = {0};
        struct confine_state state;
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {{0}};
        struct error err = {""};

        confine_no_dumps();
        if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
                return complain("dumps", 0, 0);
        if (!confine_apply(&plan, CONFINE_REQUIRE, &state, &err)) {
                dprintf(STDERR_FILENO, "%s\n", err.text);
                return SKIPPED;
        }
        if (!state.capabilities || !state.no_new_privileges || !state.landlock || !state.seccomp ||
                state.missing[0])
                return complain("the state", state.landlock, 0);
        syscall(SYS_capget, &header, data);
        const unsigned kept = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;
        if (data[0].permitted & ~kept || data[1].permitted)
                return complain("capabilities", data[0].permitted, 0);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr address = {.sa_family = AF_INET};
        if (state.landlock >= 4 && (bind(fd, &address, sizeof(address)) == 0 || errno != EACCES))
                return complain("a port", 0, errno);
        return open("/etc/hostname", O_RDONLY) < 0 && errno == EACCES ? GOOD : 1;
}

static void all_of_it_together(void **state)
{
        (void)state;
        int status = in_child(try_all);
        judge(status, kernel_has_landlock() && kernel_has_seccomp() && !CONFINE_UNAVAILABLE);
}

static int try_nothing(void)
{
        struct confine_plan plan = {0};
        struct confine_state state;
        struct error err;

        if (!confine_apply(&plan, CONFINE_OFF, &state, &err) || state.seccomp || state.landlock ||
                state.no_new_privileges || state.missing[0])
                return 1;
        return open("/etc/hostname", O_RDONLY) >= 0 ? GOOD : 1;
}

static void off_takes_nothing(void **state)
{
        (void)state;
        assert_int_equal(in_child(try_nothing), GOOD);
}

/* --- the user --- */

static void users_are_found_and_root_is_none(void **state)
{
        static const struct {
                const char *text;
                bool good;
                uid_t uid;
                gid_t gid;
        } cases[] = {
                {"nobody", true, 65534, 65534},
                {"65534", true, 65534, 65534},
                {"10001:10001", true, 10001, 10001},
                {"nobody:10002", true, 65534, 10002},
                {"nobody:nogroup", true, 65534, 65534},
                {"10001", false, 0, 0}, /* which group? */
                {"root", false, 0, 0},
                {"0:10001", false, 0, 0},
                {"10001:0", false, 0, 0},
                {"10001:root", false, 0, 0},
                {"no-such-user", false, 0, 0},
                {"nobody:no-such-group", false, 0, 0},
                {"", false, 0, 0},
                {":", false, 0, 0},
                {"4294967295:1", false, 0, 0}, /* -1: "no change" to the kernel */
                {"4294967296:1", false, 0, 0},
                {"1:4294967295", false, 0, 0},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
                struct confine_user user;
                struct error err = {""};
                bool good = confine_user_find(cases[i].text, &user, &err);
                if (good != cases[i].good)
                        fail_msg("`%s`: %s", cases[i].text, err.text);
                if (good)
                        assert_true(user.uid == cases[i].uid && user.gid == cases[i].gid);
        }
}

static int try_becoming(void)
{
        struct confine_user user = {.uid = 10001, .gid = 10002};
        struct error err = {""};
        gid_t groups[64];

        if (geteuid() != 0)
                return confine_become(&user, &err) ? 1 : SKIPPED;
        if (!confine_become(&user, &err) || !confine_become(&user, &err))
                return complain(err.text, 0, 0);
        int n = getgroups(64, groups);
        if (getuid() != 10001 || getegid() != 10002 || n != 1 || groups[0] != 10002)
                return complain("somebody else", getuid(), n);
        user.uid = 10003; /* and not on to another one */
        if (confine_become(&user, &err) || setuid(0) == 0)
                return complain("it can be undone", 0, 0);
        return GOOD;
}

static void root_becomes_another_user_for_good(void **state)
{
        (void)state;
        int status = in_child(try_becoming);
        judge(status, geteuid() == 0);
}

static int make_files(void **state)
{
        (void)state;
        if (!mkdtemp(folder))
                return -1;
        static const char *const folders[] = {"open", "shut", "mount", "mount/..1", "mount/..2",
                "release", "release/v1", "release/v2", "far", "policies", "log"};
        for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
                make_folder(folders[i]);
        static const char *const files[] = {"open/token", "open/other", "shut/secret",
                "mount/..1/key", "mount/..2/key", "release/v1/key", "release/v2/key", "far/file",
                "far/other", "policies/new.yaml"};
        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
                put(files[i], "x");
        link_to("../shut/secret", "open/out");
        link_to("..1", "mount/..data");
        link_to("..data/key", "mount/key");
        link_to("v1", "release/current");
        char path[256];
        path_of(path, "far/file");
        link_to(path, "open/linked");
        return 0;
}

static int remove_files(void **state)
{
        char command[300];

        (void)state;
        snprintf(command, sizeof(command), "rm -rf %s", folder);
        return system(command);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(calls_that_a_proxy_has_no_use_for_are_refused),
                cmocka_unit_test(threads_sockets_and_memory_are_not),
                cmocka_unit_test(only_what_was_named_can_be_reached),
                cmocka_unit_test(folders_of_everybody_are_not_opened),
                cmocka_unit_test(all_of_it_together),
                cmocka_unit_test(off_takes_nothing),
                cmocka_unit_test(users_are_found_and_root_is_none),
                cmocka_unit_test(root_becomes_another_user_for_good),
        };

        return cmocka_run_group_tests(tests, make_files, remove_files);
}
