#include "confine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dagward/base/log.h"
#include "dagward/confine/confine.h"
#include "dagward/world/preflight.h"

static void raise_limit(__rlimit_resource_t which)
{
        struct rlimit limit;

        if (getrlimit(which, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(which, &limit);
        }
}

void confine_begin(void)
{
        raise_limit(RLIMIT_NOFILE);  /* connections are descriptors */
        raise_limit(RLIMIT_MEMLOCK); /* secrets are kept out of swap */
        confine_no_dumps();
}

static const char *yes_no(bool yes)
{
        return yes ? "yes" : "no";
}

static void say(enum confine_mode mode, const struct confine_state *state)
{
        static const char *const modes[] = {"auto", "off", "require"};
        size_t lockable = secret_lockable();
        char landlock[24] = "no", locked[32] = "all";

        if (state->landlock)
                snprintf(landlock, sizeof(landlock), "v%d paths=%zu", state->landlock,
                        state->reachable);
        if (lockable != SIZE_MAX)
                snprintf(locked, sizeof(locked), "%zuKiB", lockable / 1024);
        log_info("confined mode=%s uid=%u gid=%u no_new_privs=%s capabilities=%s landlock=%s "
                 "seccomp=%s secrets_locked=%s%s%s%s",
                modes[mode], (unsigned)geteuid(), (unsigned)getegid(),
                yes_no(state->no_new_privileges), state->capabilities ? "dropped" : "kept",
                landlock, yes_no(state->seccomp), locked, state->missing[0] ? " missing=\"" : "",
                state->missing, state->missing[0] ? "\"" : "");
}

static bool confine(const struct confine_plan *plan, enum confine_mode mode, struct error *err)
{
        struct confine_state state;

        if (!confine_apply(plan, mode, &state, err))
                return false;
        say(mode, &state);
        return true;
}

/* --- serve --- */

struct planning {
        const struct config *config;
        struct confine_plan *plan;
};

static void plan_path(void *owner, const struct str *path, bool pattern)
{
        struct planning *it = owner;

        if (pattern)
                confine_allow_pattern(it->plan, path->ptr);
        else if (path == &it->config->audit.file || path == &it->config->audit.anchor ||
                 path == &it->config->idempotency.file)
                confine_allow_file(
                        it->plan, path->ptr, CONFINE_READ | CONFINE_LIST | CONFINE_WRITE);
        else
                confine_allow_file(it->plan, path->ptr, CONFINE_READ);
}

/* The folder of the file, even if it is one of everybody's. */
static void plan_folder_of(struct confine_plan *plan, const char *file, unsigned may)
{
        char *folder = str_dup(str_of(file)), *slash = strrchr(folder, '/');

        if (slash)
                slash[slash == folder] = '\0';
        confine_allow(plan, slash ? folder : ".", may);
        free(folder);
}

/* The ways of a `default` credential: their files come from the environment. */
static void plan_candidates(struct confine_plan *plan, const struct config_credential *credential)
{
        for (size_t i = 0; i < credential->n_candidates; i++) {
                const struct str *files[CONFIG_CREDENTIAL_FILES];
                size_t n = config_credential_files(&credential->candidates[i], files);
                for (size_t k = 0; k < n; k++)
                        confine_allow_file(plan, files[k]->ptr, CONFINE_READ);
        }
}

static void plan_serve(const struct config *config, struct confine_plan *plan)
{
        struct planning planning = {config, plan};
        struct file_list policies;
        const struct sockaddr *admin = (const struct sockaddr *)&config->admin.address.socket;

        confine_allow_system(plan);
        confine_allow_file(plan, config->file.ptr, CONFINE_READ);
        config_paths(config, plan_path, &planning);
        for (size_t i = 0; i < config->n_credentials; i++)
                plan_candidates(plan, &config->credentials[i]);
        /* Rotation makes, renames and removes files beside the log. */
        plan_folder_of(plan, config->audit.file.ptr, CONFINE_READ | CONFINE_LIST | CONFINE_WRITE);
        /* So the journal of triggers, which is written anew when it has grown. */
        if (config->idempotency.enabled)
                plan_folder_of(plan, config->idempotency.file.ptr,
                        CONFINE_READ | CONFINE_LIST | CONFINE_WRITE);
        preflight_policy_files(config, &policies);
        for (size_t i = 0; i < policies.n; i++)
                confine_allow_file(plan, policies.names[i], CONFINE_READ);
        file_list_clear(&policies);
        plan->listens = true;
        plan->listen_port =
                ntohs(admin->sa_family == AF_INET6 ? ((const struct sockaddr_in6 *)admin)->sin6_port
                                                   : ((const struct sockaddr_in *)admin)->sin_port);
}

bool confine_serve(const struct config *config, struct error_list *errors, struct error *err)
{
        static const enum confine_mode modes[] = {[CONFIG_CONFINE_AUTO] = CONFINE_AUTO,
                [CONFIG_CONFINE_OFF] = CONFINE_OFF,
                [CONFIG_CONFINE_REQUIRE] = CONFINE_REQUIRE};
        struct confine_user user;
        struct confine_plan plan = {0};

        if (config->user.ptr &&
                (!confine_user_find(config->user.ptr, &user, err) || !confine_become(&user, err)))
                return false;
        plan_serve(config, &plan);
        bool ok = confine(&plan, modes[config->confine], err);
        confine_plan_clear(&plan);
        if (!ok)
                return false;
        if (geteuid() == 0 && config->confine != CONFIG_CONFINE_OFF)
                log_info("confined: running as root; `user` names somebody with fewer rights");
        /* Better now than at the first reload. */
        if (preflight_reach(config, errors) && preflight_files(config, errors))
                return true;
        return error_set(err, "these files cannot be used by the confined process");
}

/* --- agent --- */

bool confine_agent(const struct agent_settings *settings, const char *path, struct error *err)
{
        struct confine_plan plan = {0};

        confine_allow_system(&plan);
        confine_allow_file(&plan, path, CONFINE_READ);
        confine_allow_file(&plan, settings->token_file.ptr, CONFINE_READ);
        confine_allow_file(&plan, settings->ca.ptr, CONFINE_READ);
        if (settings->socket.ptr)
                plan_folder_of(&plan, settings->socket.ptr, CONFINE_REMOVE);
        bool ok = confine(&plan, (enum confine_mode)settings->confine, err);
        confine_plan_clear(&plan);
        return ok;
}
