/* Another user than root. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dagward/base/str.h"
#include "dagward/confine/confine.h"

static bool find_group(struct str text, gid_t *gid, struct error *err)
{
        char name[64];
        uint64_t number;

        snprintf(name, sizeof(name), "%.*s", STR_FMT(text));
        if (str_to_u64(text, &number)) {
                if (number == 0 || number >= UINT32_MAX)
                        return error_set(err, "`%s` is no group that a service should have", name);
                *gid = (gid_t)number;
                return true;
        }
        const struct group *group = text.len < sizeof(name) ? getgrnam(name) : NULL;
        if (!group)
                return error_set(err, "there is no group `%s`", name);
        *gid = group->gr_gid;
        return true;
}

bool confine_user_find(const char *text, struct confine_user *out, struct error *err)
{
        struct str rest = str_of(text), user;
        const struct passwd *known;
        uint64_t number;
        bool has_group = memchr(text, ':', rest.len) != NULL;

        *out = (struct confine_user){0};
        if (has_group)
                rest = str_cut(rest, ':', &user);
        else
                user = rest;
        snprintf(out->name, sizeof(out->name), "%.*s", STR_FMT(user));
        if (user.len == 0 || user.len >= sizeof(out->name))
                return error_set(err, "`%s` is no user", text);
        if (str_to_u64(user, &number)) {
                if (number >= UINT32_MAX)
                        return error_set(err, "`%s` is no user", text);
                known = getpwuid((uid_t)number);
                out->uid = (uid_t)number;
                if (!known && !has_group)
                        return error_set(err,
                                "there is no user %s here, so its group is not known: "
                                "write `%s:GROUP`",
                                out->name, out->name);
                snprintf(out->name, sizeof(out->name), "%s", known ? known->pw_name : "");
        } else {
                known = getpwnam(out->name);
                if (!known)
                        return error_set(err, "there is no user `%s`", out->name);
                out->uid = known->pw_uid;
        }
        if (known)
                out->gid = known->pw_gid;
        if (has_group && !find_group(rest, &out->gid, err))
                return false;
        if (out->uid == 0 || out->gid == 0)
                return error_set(err, "`%s` is root, or has its group", text);
        return true;
}

bool confine_become(const struct confine_user *user, struct error *err)
{
        uid_t now = geteuid();

        if (now == user->uid && getuid() == user->uid && getegid() == user->gid)
                return true;
        if (now != 0)
                return error_set(err,
                        "cannot become user %u: only a process that is started as root can, and "
                        "this one is %u",
                        (unsigned)user->uid, (unsigned)now);
        int failed = user->name[0] ? initgroups(user->name, user->gid) : setgroups(1, &user->gid);
        /* Groups first: afterwards nobody may change them. */
        if (failed != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
                setresuid(user->uid, user->uid, user->uid) != 0)
                return error_set(
                        err, "cannot become user %u: %s", (unsigned)user->uid, strerror(errno));
        if (setresuid(0, 0, 0) == 0 || geteuid() != user->uid || getegid() != user->gid)
                return error_set(
                        err, "became user %u, but could become root again", (unsigned)user->uid);
        return true;
}
