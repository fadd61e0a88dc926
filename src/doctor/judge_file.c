#include <errno.h>

#include "judge.h"

static void judge_unopened(struct diagnoses *out, const struct about *about, const char *setting,
        const struct file_seen *seen, unsigned uid)
{
        bool missing = seen->error == ENOENT || seen->error == ENOTDIR;
        struct diagnosis *d =
                diagnose(out, about, DOCTOR_PROBLEM, missing ? "file-missing" : "file-unreadable",
                        "%s %s: %s", setting, seen->path, strerror(seen->error));

        if (missing) {
                diagnosis_cause(d, "%s names a file that is not there", setting);
                diagnosis_remedy(d, "make %s, mount it, or correct %s", seen->path, setting);
        } else if (seen->error == EACCES || seen->error == EPERM) {
                diagnosis_cause(d,
                        "uid %u, which runs this, may not read %s (owner uid %u, mode %04o), or "
                        "may not pass one of its folders",
                        uid, seen->path, seen->owner, seen->mode);
                diagnosis_remedy(d, "let uid %u read it: chown %u %s && chmod 0400 %s", uid, uid,
                        seen->path, seen->path);
        } else {
                diagnosis_cause(d, "it cannot be opened");
                diagnosis_remedy(d, "look at %s and what it is mounted from", seen->path);
        }
}

bool judge_file(struct diagnoses *out, const struct about *about, const char *setting,
        const struct file_seen *seen, enum file_care care, unsigned uid)
{
        struct diagnosis *d;
        unsigned others = care == CARE_NONE ? 0 : care == CARE_WORLD ? 007 : 077;

        if (seen->error) {
                judge_unopened(out, about, setting, seen, uid);
                return false;
        }
        if (!seen->regular) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "file-unreadable",
                        "%s %s is not a regular file", setting, seen->path);
                diagnosis_cause(d, "it is a folder or a device");
                diagnosis_remedy(d, "name the file itself in %s", setting);
                return false;
        }
        if (seen->empty) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "file-empty", "%s %s is empty", setting,
                        seen->path);
                diagnosis_cause(d, "nothing has been written into %s yet, or it was cut to nothing",
                        seen->path);
                diagnosis_remedy(d, "write into %s what %s is for (docs/configuration.md)",
                        seen->path, setting);
                return false;
        }
        if (seen->mode & others) {
                d = diagnose(out, about, DOCTOR_WARNING, "file-open", "%s %s has mode %04o",
                        setting, seen->path, seen->mode);
                diagnosis_cause(d, "%s on this machine may read or change a secret",
                        seen->mode & 007 ? "everybody" : "its group");
                diagnosis_remedy(d, "chmod %s %s (in a pod: `defaultMode: %s` of the volume)",
                        care == CARE_GROUP ? "0600" : "0640", seen->path,
                        care == CARE_GROUP ? "0400" : "0440");
        }
        return true;
}
