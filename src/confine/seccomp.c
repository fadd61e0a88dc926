/*
 * Which system calls are refused.
 *
 * A list of what is denied, and not of what is allowed: what a C library, a TLS library and a
 * resolver call changes with each of their versions, and a list of that which is too short by one
 * fails in production, some day, in an error path. What is denied here does not change: it is what
 * a proxy has no use for and an intruder has. Most of it would fail without privileges anyway; the
 * filter keeps the code behind it, where kernels have had their holes, out of reach. The refusal is
 * EPERM, so that code which tries goes on.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dagward/confine/confine.h"

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#endif

#ifdef MACHINE
static const int denied[] = {
        /* other programs and processes */
        SYS_execve,
        SYS_execveat,
#ifdef SYS_fork
        SYS_fork,
        SYS_vfork,
#endif
        SYS_ptrace,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_kcmp,
        SYS_personality,
        SYS_pidfd_getfd,
        SYS_process_madvise,
        /* other users */
        SYS_setuid,
        SYS_setgid,
        SYS_setreuid,
        SYS_setregid,
        SYS_setresuid,
        SYS_setresgid,
        SYS_setgroups,
        SYS_setfsuid,
        SYS_setfsgid,
        SYS_capset,
        /* namespaces and mounts */
        SYS_unshare,
        SYS_setns,
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_move_mount,
        SYS_open_tree,
        SYS_fsopen,
        SYS_fsconfig,
        SYS_fsmount,
        SYS_fspick,
#ifdef SYS_mount_setattr
        SYS_mount_setattr,
#endif
        SYS_open_by_handle_at,
        SYS_name_to_handle_at,
        SYS_mknodat,
#ifdef SYS_mknod
        SYS_mknod,
#endif
        /* parts of the kernel that are large, and not for us */
        SYS_bpf,
        SYS_perf_event_open,
        SYS_userfaultfd,
        SYS_io_uring_setup,
        SYS_io_uring_enter,
        SYS_io_uring_register,
        SYS_keyctl,
        SYS_add_key,
        SYS_request_key,
        SYS_fanotify_init,
        SYS_memfd_create,
        SYS_vmsplice,
        SYS_remap_file_pages,
#ifdef SYS_memfd_secret
        SYS_memfd_secret,
#endif
#ifdef SYS_modify_ldt
        SYS_modify_ldt,
        SYS_uselib,
        SYS_ustat,
        SYS__sysctl,
#endif
        /* the machine */
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_kexec_load,
#ifdef SYS_kexec_file_load
        SYS_kexec_file_load,
#endif
        SYS_reboot,
        SYS_swapon,
        SYS_swapoff,
        SYS_acct,
        SYS_quotactl,
        SYS_nfsservctl,
        SYS_lookup_dcookie,
        SYS_syslog,
        SYS_vhangup,
        SYS_sethostname,
        SYS_setdomainname,
        SYS_settimeofday,
        SYS_clock_settime,
        SYS_clock_adjtime,
        SYS_adjtimex,
#ifdef SYS_iopl
        SYS_iopl,
        SYS_ioperm,
#endif
};
enum { N_DENIED = sizeof(denied) / sizeof(*denied), FILTER_MOST = 2 * N_DENIED + 80 };

struct filter {
        struct sock_filter code[FILTER_MOST];
        unsigned short n;
};

static void emit(struct filter *f, struct sock_filter one)
{
        f->code[f->n++] = one;
}

static void load(struct filter *f, size_t offset)
{
        emit(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset));
}

/* The lower half; both machines are little-endian. */
static void load_argument(struct filter *f, unsigned n)
{
        load(f, offsetof(struct seccomp_data, args) + 8 * n);
}

static void answer(struct filter *f, unsigned what)
{
        emit(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

static void when_equal(struct filter *f, unsigned value, unsigned then)
{
        emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
        answer(f, then);
}

/* Runs `rules` for one call only; each must end with an answer. */
static void for_call(struct filter *f, int call, void (*rules)(struct filter *f))
{
        unsigned short jump = f->n;

        emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 0));
        rules(f);
        f->code[jump].jf = (unsigned char)(f->n - jump - 1);
}

/* Memory is written or run, never both: what is read from the network does not become code. */
static void no_code_of_data(struct filter *f)
{
        load_argument(f, 2);
        emit(f, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC));
        when_equal(f, PROT_WRITE | PROT_EXEC, SECCOMP_RET_ERRNO | EPERM);
        answer(f, SECCOMP_RET_ALLOW);
}

static void no_code_later(struct filter *f)
{
        load_argument(f, 2);
        emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1));
        answer(f, SECCOMP_RET_ERRNO | EPERM);
        answer(f, SECCOMP_RET_ALLOW);
}

/* Threads, but no processes and no namespaces. */
static void threads_only(struct filter *f)
{
        const unsigned spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

        load_argument(f, 0);
        emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, spaces, 0, 1));
        answer(f, SECCOMP_RET_ERRNO | EPERM);
        emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0));
        answer(f, SECCOMP_RET_ERRNO | EPERM);
        answer(f, SECCOMP_RET_ALLOW);
}

/* AF_UNIX and AF_NETLINK are the C library's, to resolve names. */
static void families(struct filter *f)
{
        static const int allowed[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};

        load_argument(f, 0);
        for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++)
                when_equal(f, (unsigned)allowed[i], SECCOMP_RET_ALLOW);
        answer(f, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
}

/* Input that is pushed into the terminal that serve was started from. */
static void no_typing(struct filter *f)
{
        load_argument(f, 1);
        when_equal(f, TIOCSTI, SECCOMP_RET_ERRNO | EPERM);
        when_equal(f, TIOCLINUX, SECCOMP_RET_ERRNO | EPERM);
        answer(f, SECCOMP_RET_ALLOW);
}

static void write_filter(struct filter *f)
{
        load(f, offsetof(struct seccomp_data, arch));
        emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0));
        /* The calls of another architecture have other numbers. */
        answer(f, SECCOMP_RET_KILL_PROCESS);
        load(f, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
        emit(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1));
        answer(f, SECCOMP_RET_ERRNO | ENOSYS); /* x32 */
#endif
        for (size_t i = 0; i < N_DENIED; i++)
                when_equal(f, (unsigned)denied[i], SECCOMP_RET_ERRNO | EPERM);
        /* Its flags are in memory, where a filter cannot look; the C library goes back to clone. */
        when_equal(f, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
        for_call(f, SYS_clone, threads_only);
        for_call(f, SYS_mmap, no_code_of_data);
        for_call(f, SYS_mprotect, no_code_later);
        for_call(f, SYS_pkey_mprotect, no_code_later);
        for_call(f, SYS_socket, families);
        for_call(f, SYS_ioctl, no_typing);
        answer(f, SECCOMP_RET_ALLOW);
}

bool confine_filter_calls(struct error *err)
{
        struct filter filter = {.n = 0};

        write_filter(&filter);
        struct sock_fprog program = {.len = filter.n, .filter = filter.code};
        /* 0: done; a number: a thread that could not take it over. */
        long failed =
                syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
        if (failed > 0)
                return error_set(err, "thread %ld has a filter of its own", failed);
        return failed == 0 ? true : error_set(err, "%s", strerror(errno));
}

#else
bool confine_filter_calls(struct error *err)
{
        return error_set(err, "no filter for this machine");
}
#endif
