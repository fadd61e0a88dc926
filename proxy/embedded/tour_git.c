/*
 * The rest of the tour: real git through the proxy, and the audit file looked at afterwards.
 */
#include "tour.h"

#include <stdlib.h>
#include <string.h>

#include "dagward/base/clock.h"
#include "dagward/base/id.h"

enum { GIT_CHALLENGED = 2, GIT_CLONE_RECORDS = 3, SHOWN_LINES = 8 };

/* All requests of one git command carry one correlation ID, which is ours to choose. */
static const char *correlation_header(struct tour *t, const char *id)
{
        return arena_printf(&t->arena, "http.extraHeader=X-Correlation-Id: %s", id).ptr;
}

static const char *new_id(struct tour *t)
{
        char id[ID_UUID_LEN + 1];

        id_uuid7(clock_wall_ms(), id);
        return arena_copy(&t->arena, str_of(id)).ptr;
}

/* git takes no settings of the user's, asks nobody and leaves nothing running. The token is read
 * from its file at each use, as it should be. */
static void prepare_git(struct tour *t)
{
        struct str script = arena_printf(&t->arena,
                "#!/bin/sh\n# git asks for a user name, then for a password.\n"
                "case \"$1\" in\nUsername*) echo airflow ;;\n*) cat '%s' ;;\nesac\n",
                tour_path(t, "token"));

        tour_write(t, "askpass", script, 0700);
        setenv("GIT_ASKPASS", tour_path(t, "askpass"), 1);
        setenv("GIT_TERMINAL_PROMPT", "0", 1);
        setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
        tour_write(t, "gitconfig", STR("[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"), 0600);
        setenv("GIT_CONFIG_GLOBAL", tour_path(t, "gitconfig"), 1);
        setenv("GIT_ATTR_NOSYSTEM", "1", 1);
        setenv("HOME", t->folder, 1);
        setenv("LC_ALL", "C", 1);
}

static const char *git_outcome(int status)
{
        if (status == 127)
                return "git cannot be run; is it installed? (apt-get install git)";
        return status < 0 ? "git did not end in time" : "git ended with an error";
}

static void show_records(struct tour *t, const char *id, size_t outcomes, const char *effect,
        const char *operation, int upstream_least)
{
        json_t *records[TOUR_RECORDS_MOST], *all = NULL, *first = NULL;
        size_t n = records_find(t, id, outcomes, records);
        int saw = tour_upstream_saw(t, id, &all, &first);
        const json_t *last = records_outcome(records, n);

        report_gap(t);
        report_records(t, records, n, saw);
        step_check(t, n >= outcomes, "every request is recorded", "there are %zu records", n);
        step_check(t, strcmp(record_text(last, "decision.effect"), effect) == 0,
                arena_printf(&t->arena, "decision %s", effect).ptr, "the record says `%s`",
                record_text(last, "decision.effect"));
        step_check(t, strcmp(record_text(last, "request.operation"), operation) == 0, operation,
                "the record says `%s`", record_text(last, "request.operation"));
        if (upstream_least)
                step_check(t, saw >= upstream_least, "upstream saw the same ID",
                        "it saw it %d times", saw);
        else
                step_check(t, saw == 0, "nothing reached upstream", "it saw the ID %d times", saw);
        json_decref(all);
        records_clear(records, n);
}

/* Whether the clone has files beside .git, and how many git counts. */
static size_t count_files(struct tour *t, const char *clone)
{
        const char *const argv[] = {"git", "-C", clone, "ls-files", NULL};
        struct buf out;
        size_t n = 0;

        if (tour_run(t, NULL, argv, &out) == 0) {
                report_output(t, "files", buf_str(&out), SHOWN_LINES);
                for (size_t i = 0; i < out.len; i++)
                        n += out.data[i] == '\n';
        }
        buf_clear(&out);
        return n;
}

void step_clone(struct tour *t)
{
        const char *id = new_id(t);
        const char *clone = tour_path(t, "dags");
        const char *url = arena_printf(&t->arena,
                "http://127.0.0.1:%u/contoso/analytics/"
                "_git/dags",
                t->port)
                                  .ptr;
        const char *const argv[] = {
                "git", "-c", correlation_header(t, id), "clone", url, clone, NULL};
        struct buf out;

        prepare_git(t);
        step_begin(t, "git clone");
        report_prose(t, "git, unchanged, with the token as password: a DAG bundle or git-sync does "
                        "the same. "
                        "git asks without a credential first and is challenged; that is normal, "
                        "and recorded "
                        "too. All requests of the clone share one correlation ID.");
        report_command(t, "request", "GIT_ASKPASS=%s git clone\n%s", tour_path(t, "askpass"), url);
        int status = tour_run(t, NULL, argv, &out);
        report_output(t, "answer", buf_str(&out), SHOWN_LINES);
        step_check(t, status == 0, "git is content", "%s", git_outcome(status));
        buf_clear(&out);
        size_t files = status == 0 ? count_files(t, clone) : 0;
        show_records(t, id, GIT_CLONE_RECORDS, "allow", "gitHttp.pack.fetch", GIT_CHALLENGED);
        step_check(t, files > 0, "the files are there", "there are none");
        step_end(t);
}

/* Something to push. */
static bool commit(struct tour *t, const char *clone)
{
        const char *const argv[] = {"git", "-C", clone, "-c", "user.name=Airflow", "-c",
                "user.email=airflow@example.com", "commit", "-q", "--allow-empty", "-m", "A change",
                NULL};
        struct buf out;
        int status = tour_run(t, NULL, argv, &out);

        buf_clear(&out);
        return status == 0;
}

void step_push(struct tour *t)
{
        const char *id = new_id(t);
        const char *clone = tour_path(t, "dags");
        const char *const argv[] = {"git", "-C", clone, "-c", correlation_header(t, id), "push",
                "origin", "HEAD:refs/heads/main", NULL};
        struct buf out;

        step_begin(t, "git push");
        report_prose(t, "Fetching is allowed, pushing is not: no rule grants it. git shows people "
                        "the refusal as `remote:` lines, with the correlation ID to ask about.");
        report_command(t, "request", "git -C %s push origin HEAD:refs/heads/main", clone);
        bool committed = commit(t, clone);
        step_check(t, committed, "there is a commit to push", "there is no clone to commit in");
        int status = tour_run(t, NULL, argv, &out);
        report_output(t, "answer", buf_str(&out), SHOWN_LINES);
        struct str said = buf_str(&out);
        step_check(t, status > 0 && status != 127, "git ended with an error", "%s",
                status == 0 ? "it was content" : git_outcome(status));
        step_check(t,
                str_find_str(said, STR("remote: Dagward refused this (403")) >= 0 &&
                        str_find_str(said, str_of(id)) >= 0,
                "a readable `remote:` line with the ID", "git shows none");
        buf_clear(&out);
        show_records(t, id, GIT_CHALLENGED, "deny", "gitHttp.refs.advertisePush", 0);
        step_end(t);
}

/* --- the audit file --- */

/* Runs `dagward audit verify` and shows what it says. */
static int verify(struct tour *t, const char *file, struct buf *out)
{
        const char *const argv[] = {NULL, "audit", "verify", file, NULL};

        report_command(t, "request", "%s audit verify %s", t->program, file);
        int status = tour_run(t, NULL, argv, out);
        report_output(t, "answer", buf_str(out), SHOWN_LINES);
        return status;
}

/* A copy of the audit file in which the refused run of pipeline 99 is one of 98. The line, or 0. */
static size_t tamper(struct tour *t, const char *name)
{
        static const char place[] = "/pipelines/99/";
        const char *const texts[] = {
                t->refused_correlation ? t->refused_correlation : place, place, NULL};
        size_t offset, len, line = 0;
        struct buf file;

        if (tour_read(t->audit_file, &file))
                line = records_line(buf_str(&file), texts, &offset, &len);
        if (line) {
                ssize_t at = str_find_str(str_view(file.data + offset, len), str_of(place));
                file.data[offset + (size_t)at + strlen(place) - 2] = '8';
                if (!tour_write(t, name, buf_str(&file), 0600))
                        line = 0;
        }
        buf_clear(&file);
        return line;
}

/* The signature is what makes a token worth stealing. */
static void check_no_token(struct tour *t)
{
        const char *good = strrchr(t->token, '.'), *old = strrchr(t->expired, '.');
        struct buf file;
        bool read = tour_read(t->audit_file, &file);

        bool held = (good && str_find_str(buf_str(&file), str_of(good)) >= 0) ||
                    (old && str_find_str(buf_str(&file), str_of(old)) >= 0);
        step_check(
                t, read && !held, "no token is in it", "%s", read ? "one is" : "it cannot be read");
        buf_clear(&file);
}

void step_audit(struct tour *t)
{
        const char *copy = tour_path(t, "tampered.jsonl");
        struct buf out;

        step_begin(t, "The audit file can be believed");
        report_prose(t, "Every record holds the hash of the one before it, so the file as a whole "
                        "can be checked by anybody who has it.");
        int status = verify(t, t->audit_file, &out);
        step_check(t, status == 0 && str_find_str(buf_str(&out), STR("whole")) >= 0,
                "the file is whole", "verify ended with %d", status);
        buf_clear(&out);
        check_no_token(t);
        report_gap(t);
        size_t line = tamper(t, "tampered.jsonl");
        report_prose(t,
                "Now a copy in which somebody made the refused run of pipeline 99 one of "
                "pipeline 98. One byte was changed, in line %zu:",
                line);
        status = verify(t, copy, &out);
        const char *place = arena_printf(&t->arena, "%s:%zu:", copy, line).ptr;
        step_check(t, line > 0, "one byte was changed", "the refused run is not in the file");
        step_check(t, status == 1, "verify says no", "it ended with %d", status);
        step_check(t, str_find_str(buf_str(&out), str_of(place)) >= 0, "and names the line",
                "it does not name line %zu", line);
        buf_clear(&out);
        step_end(t);
}
