/* Which files stay reachable: the plan, and Landlock. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dagward/base/str.h"
#include "dagward/confine/confine.h"

/* --- the plan --- */

void confine_allow(struct confine_plan *plan, const char *path, unsigned may)
{
        if (!path || !path[0])
                return;
        for (size_t i = 0; i < plan->n; i++) {
                if (strcmp(plan->rules[i].path, path) == 0) {
                        plan->rules[i].may |= may;
                        return;
                }
        }
        plan->rules = realloc(plan->rules, (plan->n + 1) * sizeof(*plan->rules));
        if (!plan->rules)
                abort();
        plan->rules[plan->n++] = (struct confine_rule){str_dup(str_of(path)), may};
}

/* Everybody's: what is beneath belongs to others. */
static bool is_common(const char *folder)
{
        static const char *const common[] = {"/", "/bin", "/boot", "/dev", "/dev/shm", "/etc",
                "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run",
                "/run/lock", "/run/user", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin",
                "/usr/local", "/usr/local/etc", "/usr/sbin", "/var", "/var/lib", "/var/log",
                "/var/tmp"};
        char real[PATH_MAX];
        const char *home = getenv("HOME");

        if (!realpath(folder, real))
                return true;
        for (size_t i = 0; i < sizeof(common) / sizeof(*common); i++)
                if (strcmp(real, common[i]) == 0)
                        return true;
        return home && strcmp(real, home) == 0;
}

static void allow_folder_of(struct confine_plan *plan, const char *path, unsigned may)
{
        char copy[PATH_MAX];

        snprintf(copy, sizeof(copy), "%s", path);
        const char *folder = dirname(copy);
        if (!is_common(folder))
                confine_allow(plan, folder, may);
}

/* Puts what the link leads to in the place of its name; `at` is where the name begins, `end` where
 * it ends. False when there is no room. */
static bool follow(char path[PATH_MAX], size_t at, size_t end, const char *target)
{
        char next[PATH_MAX];
        int len = target[0] == '/' ? snprintf(next, sizeof(next), "%s%s", target, path + end)
                                   : snprintf(next, sizeof(next), "%.*s%s%s", (int)at, path, target,
                                             path + end);

        if (len < 0 || (size_t)len >= sizeof(next))
                return false;
        memcpy(path, next, (size_t)len + 1);
        return true;
}

/* Where the first link of the path stands: [*at, *end) is its name, `target` what it leads to. */
static bool find_link(const char *path, size_t *at, size_t *end, char target[PATH_MAX])
{
        char head[PATH_MAX];

        for (*end = 0; path[*end];) {
                *at = *end + strspn(path + *end, "/");
                *end = *at + strcspn(path + *at, "/");
                snprintf(head, sizeof(head), "%.*s", (int)*end, path);
                ssize_t len = readlink(head, target, PATH_MAX - 1);
                if (len > 0) {
                        target[len] = '\0';
                        return true;
                }
        }
        return false;
}

/* A link that leads on within its own folder (`..data` to `..2026_11_28`, `current` to
 * `releases/42`) is there to be moved to a sibling. */
static bool leads_within(const char *target)
{
        return target[0] != '/' && strncmp(target, "../", 3) != 0 && strcmp(target, "..") != 0;
}

void confine_allow_file(struct confine_plan *plan, const char *file, unsigned may)
{
        char path[PATH_MAX], link[PATH_MAX], target[PATH_MAX];
        enum { LINKS_MOST = 40 }; /* as the kernel */
        size_t at, end;

        if (!file || !file[0] || strlen(file) >= sizeof(path))
                return;
        strcpy(path, file);
        confine_allow(plan, path, may);
        allow_folder_of(plan, path, may);
        for (int i = 0; i < LINKS_MOST && find_link(path, &at, &end, target); i++) {
                if (leads_within(target)) {
                        snprintf(link, sizeof(link), "%.*s", (int)end, path);
                        allow_folder_of(plan, link, may);
                }
                if (!follow(path, at, end, target))
                        return;
                allow_folder_of(plan, path, may);
        }
        confine_allow(plan, path, may);
}

void confine_allow_pattern(struct confine_plan *plan, const char *pattern)
{
        char fixed[PATH_MAX];
        size_t wild = pattern ? strcspn(pattern, "*?[\\") : 0;

        if (!pattern || !pattern[wild]) {
                confine_allow_file(plan, pattern, CONFINE_READ);
                return;
        }
        snprintf(fixed, sizeof(fixed), "%.*s", (int)wild, pattern);
        char *slash = strrchr(fixed, '/');
        if (slash)
                slash[1] = '\0';
        /* The folder itself is listed, even one of everybody's: its pattern names many files. */
        confine_allow(plan, slash ? fixed : ".", CONFINE_READ | CONFINE_LIST);
}

static void allow_etc(struct confine_plan *plan)
{
        static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
                "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/localtime",
                "/etc/ld.so.cache", "/etc/passwd", "/etc/group"};
        struct stat folder, resolver;

        for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
                confine_allow_file(plan, files[i], CONFINE_READ);
        /* Where DHCP renames a new file over resolv.conf, the inode of now is not enough: without
         * it, names would be asked of nobody some day. Then a service user may read what all users
         * may; root may not. */
        if (geteuid() != 0 && stat("/etc", &folder) == 0 &&
                lstat("/etc/resolv.conf", &resolver) == 0 && S_ISREG(resolver.st_mode) &&
                folder.st_dev == resolver.st_dev)
                confine_allow(plan, "/etc", CONFINE_READ);
}

void confine_allow_system(struct confine_plan *plan)
{
        static const char *const folders[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64",
                "/usr/share/zoneinfo", "/usr/share/ca-certificates",
                "/usr/local/share/ca-certificates", "/usr/share/pki", "/etc/ssl",
                "/etc/ca-certificates", "/etc/pki", "/etc/crypto-policies",
                "/sys/devices/system/cpu",
                /* where the agent of Azure Arc leaves what proves that we are on this machine */
                "/var/opt/azcmagent/tokens"};

        allow_etc(plan);
        for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
                confine_allow(plan, folders[i], CONFINE_READ | CONFINE_LIST);
        confine_allow(plan, "/dev/null", CONFINE_READ | CONFINE_WRITE);
        confine_allow(plan, "/dev/urandom", CONFINE_READ);
        confine_allow(plan, "/dev/random", CONFINE_READ);
        /* OpenSSL looks here when it is told to. */
        confine_allow_file(plan, getenv("SSL_CERT_FILE"), CONFINE_READ);
        confine_allow(plan, getenv("SSL_CERT_DIR"), CONFINE_READ | CONFINE_LIST);
}

void confine_plan_clear(struct confine_plan *plan)
{
        for (size_t i = 0; i < plan->n; i++)
                free(plan->rules[i].path);
        free(plan->rules);
        *plan = (struct confine_plan){0};
}

/* --- Landlock --- */

/* The header of the C library may be older than the kernel that runs us: what came later is said
 * here, with the version of the interface that brought it. */
enum {
        FS_REFER = 1 << 13,                  /* 2 */
        FS_TRUNCATE = 1 << 14,               /* 3 */
        FS_IOCTL_DEV = 1 << 15,              /* 5 */
        NET_BIND_TCP = 1 << 0,               /* 4 */
        SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0, /* 6 */
        SCOPE_SIGNAL = 1 << 1,               /* 6 */
        RULE_NET_PORT = 2,
};

struct ruleset_attr {
        uint64_t handled_access_fs, handled_access_net, scoped;
};
struct net_port_attr {
        uint64_t allowed_access, port;
};

enum {
        FS_FILE = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                  LANDLOCK_ACCESS_FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
        FS_WRITE = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                   LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_REFER | FS_TRUNCATE,
};

static uint64_t handled_fs(int version)
{
        uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

        if (version >= 2)
                all |= FS_REFER;
        if (version >= 3)
                all |= FS_TRUNCATE;
        if (version >= 5)
                all |= FS_IOCTL_DEV;
        return all;
}

/* 1: added, 0: it is not there, -1: refused. */
static int add_path(int ruleset, const struct confine_rule *rule, uint64_t handled)
{
        struct landlock_path_beneath_attr attr = {0};
        struct stat st;

        attr.parent_fd = open(rule->path, O_PATH | O_CLOEXEC);
        if (attr.parent_fd < 0 || fstat(attr.parent_fd, &st) != 0)
                return 0;
        if (rule->may & (CONFINE_READ | CONFINE_LIST))
                attr.allowed_access |= LANDLOCK_ACCESS_FS_READ_FILE;
        if (rule->may & CONFINE_LIST)
                attr.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
        if (rule->may & CONFINE_WRITE)
                attr.allowed_access |= FS_WRITE;
        if (rule->may & CONFINE_REMOVE)
                attr.allowed_access |= LANDLOCK_ACCESS_FS_REMOVE_FILE;
        attr.allowed_access &= handled;
        if (!S_ISDIR(st.st_mode))
                attr.allowed_access &= FS_FILE;
        long failed = attr.allowed_access ? syscall(SYS_landlock_add_rule, ruleset,
                                                    LANDLOCK_RULE_PATH_BENEATH, &attr, 0)
                                          : 0;
        close(attr.parent_fd);
        return failed == 0 ? 1 : -1;
}

static int fill(int ruleset, int version, const struct confine_plan *plan, size_t *reachable,
        struct error *err)
{
        struct net_port_attr port = {NET_BIND_TCP, plan->listen_port};

        *reachable = 0;
        for (size_t i = 0; i < plan->n; i++) {
                int added = add_path(ruleset, &plan->rules[i], handled_fs(version));
                if (added < 0) {
                        error_set(err, "%s: %s", plan->rules[i].path, strerror(errno));
                        return -1;
                }
                *reachable += (size_t)added;
        }
        if (plan->listens && version >= 4 &&
                syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &port, 0) != 0) {
                error_set(err, "port: %s", strerror(errno));
                return -1;
        }
        if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
                error_set(err, "%s", strerror(errno));
                return -1;
        }
        return version;
}

int confine_restrict_files(const struct confine_plan *plan, size_t *reachable, struct error *err)
{
        long version =
                syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

        if (version < 1)
                return 0;
        struct ruleset_attr attr = {
                .handled_access_fs = handled_fs((int)version),
                .handled_access_net = version >= 4 ? NET_BIND_TCP : 0,
                .scoped = version >= 6 ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0,
        };
        /* An older kernel wants the attribute as long as it knows it. */
        size_t size = version >= 6 ? sizeof(attr) : version >= 4 ? 16 : 8;
        int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
        if (ruleset < 0) {
                error_set(err, "%s", strerror(errno));
                return -1;
        }
        int got = fill(ruleset, (int)version, plan, reachable, err);
        close(ruleset);
        return got;
}
