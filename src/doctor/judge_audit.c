#include <errno.h>

#include "judge.h"

enum { FREE_LEAST_BYTES = 1 << 30, FREE_LEAST_PERCENT = 5 };

static void judge_rights(
        struct diagnoses *out, const struct about *about, const struct audit_seen *seen)
{
        struct diagnosis *d;

        if (seen->folder_error) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "folder", "%s: no file can be made: %s",
                        seen->folder, strerror(seen->folder_error));
                diagnosis_cause(d,
                        seen->folder_error == ENOSPC || seen->folder_error == EDQUOT
                                ? "the file system of %s is full"
                        : seen->folder_error == ENOENT ? "the folder %s does not exist"
                        : seen->folder_error == EROFS
                                ? "the file system of %s is mounted read-only"
                                : "the user that runs this may not write into %s",
                        seen->folder);
                diagnosis_remedy(d, "make %s a folder with room that uid %u may write",
                        seen->folder, seen->uid);
        }
        if (seen->there && !seen->regular) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "not-a-file", "%s is no regular file",
                        seen->path);
                diagnosis_cause(d, "the chain of records needs a file that can be read again");
                diagnosis_remedy(d, "let `audit.file` name a file, not %s", seen->path);
        } else if (seen->there && seen->file_error) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "unwritable", "%s cannot be written: %s",
                        seen->path, strerror(seen->file_error));
                diagnosis_cause(d, "%s belongs to uid %u, this runs as uid %u", seen->path,
                        seen->owner, seen->uid);
                diagnosis_remedy(
                        d, "chown %u %s, or run as uid %u", seen->uid, seen->path, seen->owner);
        } else if (seen->there && seen->owner != seen->uid) {
                d = diagnose(out, about, DOCTOR_WARNING, "owner",
                        "%s belongs to uid %u, this runs as uid %u", seen->path, seen->owner,
                        seen->uid);
                diagnosis_cause(d, "dagward was started by another user before, or this command "
                                   "is run by another user than dagward is");
                diagnosis_remedy(d,
                        "run doctor as the user that runs dagward (setpriv --reuid %u ...), or "
                        "chown %u %s",
                        seen->owner, seen->uid, seen->path);
        }
}

static void judge_space(
        struct diagnoses *out, const struct about *about, const struct audit_seen *seen)
{
        uint64_t percent = seen->total_bytes ? seen->free_bytes * 100 / seen->total_bytes : 100;

        if (seen->total_bytes == 0)
                return;
        if (seen->free_bytes >= FREE_LEAST_BYTES && percent >= FREE_LEAST_PERCENT) {
                diagnose(out, about, DOCTOR_OK, "space", "%llu MiB (%llu %%) are free in %s",
                        (unsigned long long)(seen->free_bytes >> 20), (unsigned long long)percent,
                        seen->folder);
                return;
        }
        struct diagnosis *d =
                diagnose(out, about, seen->free_bytes < 16 << 20 ? DOCTOR_PROBLEM : DOCTOR_WARNING,
                        "space", "only %llu MiB (%llu %%) are free in %s",
                        (unsigned long long)(seen->free_bytes >> 20), (unsigned long long)percent,
                        seen->folder);
        diagnosis_cause(d,
                "the file system of %s is nearly full; requests are refused with 503 "
                "when a record cannot be written",
                seen->folder);
        diagnosis_remedy(d, "make room in %s, or rotate and move old audit files away (SIGUSR1)",
                seen->folder);
}

static void judge_holder(
        struct diagnoses *out, const struct about *about, const struct audit_seen *seen)
{
        struct diagnosis *d;

        if (!seen->locked)
                return;
        if (strcmp(seen->holder_name, "dagward") == 0) {
                diagnose(out, about, DOCTOR_OK, "held",
                        "dagward (process %lld) is running here and writes %s",
                        (long long)seen->holder, seen->path);
                return;
        }
        d = diagnose(out, about, DOCTOR_PROBLEM, "held", "%s is locked by another process%s%s",
                seen->path, seen->holder_name[0] ? ": " : "", seen->holder_name);
        if (seen->holder)
                diagnosis_cause(d, "process %lld (%s) holds the lock that dagward needs",
                        (long long)seen->holder, seen->holder_name);
        else
                diagnosis_cause(d, "a process of another container or machine holds the lock");
        diagnosis_remedy(
                d, "each dagward needs an audit file of its own: see `lsof %s`", seen->path);
}

void judge_audit(struct diagnoses *out, const struct about *about, const struct audit_seen *seen)
{
        struct diagnosis *d;

        judge_rights(out, about, seen);
        judge_space(out, about, seen);
        judge_holder(out, about, seen);
        if (seen->foreign) {
                d = diagnose(out, about, DOCTOR_PROBLEM, "foreign",
                        "%s does not end in an audit record", seen->path);
                diagnosis_cause(d, "it is damaged, was edited, or is another kind of file");
                diagnosis_remedy(d,
                        "`dagward audit verify %s` says from where on; keep it under another name, "
                        "a new one is begun",
                        seen->path);
        } else if (seen->torn && !seen->locked) {
                d = diagnose(out, about, DOCTOR_WARNING, "torn",
                        "%s ends in a record that was cut off, behind record %llu", seen->path,
                        (unsigned long long)seen->seq);
                diagnosis_cause(d, "the machine or the disk stopped while it was written");
                diagnosis_remedy(d,
                        "nothing: at its next start dagward moves the end to a file "
                        "beside %s and says so in the chain",
                        seen->path);
        } else if (seen->seq) {
                diagnose(out, about, DOCTOR_OK, "chain", "%s ends at record %llu", seen->path,
                        (unsigned long long)seen->seq);
        } else if (!seen->there && !seen->folder_error) {
                diagnose(out, about, DOCTOR_OK, "new", "%s will be made", seen->path);
        }
}
