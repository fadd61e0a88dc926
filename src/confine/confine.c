#include "dagward/confine/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A sanitizer traces its own threads and runs a program that reads symbols; gcov writes files where
 * the program was built. Both are for tests. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNCONFINED "built with a sanitizer"
#elif defined(DAGWARD_COVERAGE)
#define UNCONFINED "built to measure coverage"
#endif

void confine_no_dumps(void)
{
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        /* The limit does not hold where a program takes the dumps (core_pattern with a pipe). */
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void note_missing(struct confine_state *state, const char *what, const char *why)
{
        size_t at = strlen(state->missing);

        snprintf(state->missing + at, sizeof(state->missing) - at, "%s%s: %s", at ? "; " : "", what,
                why);
}

#ifdef UNCONFINED
static bool apply(const struct confine_plan *plan, struct confine_state *state, struct error *err)
{
        (void)plan;
        (void)err;
        note_missing(state, "all", UNCONFINED);
        return true;
}
#else
/* Who runs as root (in a container, say) may need to read files of others; nobody needs the rest.
 * Sockets are bound by now. */
static bool drop_capabilities(void)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {{0}};
        const uint32_t kept = 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH;

        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if (syscall(SYS_capget, &header, data) != 0)
                return false;
        uint32_t left = geteuid() == 0 ? data[0].permitted & kept : 0;
        /* A filter around us may refuse what need not be done. */
        if (data[0].permitted == left && data[0].effective == left && !data[1].permitted &&
                !data[0].inheritable && !data[1].inheritable)
                return true;
        data[0] = (struct __user_cap_data_struct){.effective = left, .permitted = left};
        data[1] = (struct __user_cap_data_struct){0};
        return syscall(SYS_capset, &header, data) == 0;
}

static bool apply(const struct confine_plan *plan, struct confine_state *state, struct error *err)
{
        struct error why = {{0}};

        state->capabilities = drop_capabilities();
        if (!state->capabilities)
                note_missing(state, "capabilities", strerror(errno));
        /* From here on, no program that is run could get more rights than this one has; the next
         * two ask for that. */
        state->no_new_privileges = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
        if (!state->no_new_privileges) {
                note_missing(state, "no_new_privs", strerror(errno));
                return true;
        }
        state->landlock = confine_restrict_files(plan, &state->reachable, &why);
        if (state->landlock < 0)
                return error_set(err, "confine: landlock: %s", why.text);
        if (state->landlock == 0)
                note_missing(state, "landlock", "not in this kernel, or switched off");
        state->seccomp = confine_filter_calls(&why);
        if (!state->seccomp)
                note_missing(state, "seccomp", why.text);
        return true;
}
#endif

bool confine_apply(const struct confine_plan *plan, enum confine_mode mode,
        struct confine_state *state, struct error *err)
{
        *state = (struct confine_state){0};
        if (mode == CONFINE_OFF)
                return true;
        if (!apply(plan, state, err))
                return false;
        if (mode == CONFINE_REQUIRE && state->missing[0])
                return error_set(
                        err, "`confine: require`, but not all can be had: %s", state->missing);
        return true;
}
