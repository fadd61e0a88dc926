/*
 * What a build leaves: a log that grows while it runs, a timeline, and an artifact, whose content
 * is in storage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "embedded/emu.h"

enum { LOG_LINE = 64, LOG_LINES = 16 };

/* --- logs --- */

/* How many lines the log of a run has by now: it grows while the run goes on. */
static uint64_t log_lines(struct emu_call *call)
{
        pthread_mutex_lock(&call->azure->lock);
        const struct emu_run *run = emu_run_named(call, 0);
        uint64_t lines = !run ? LOG_LINES : run->result ? LOG_LINES : 4 * (run->polls + 1);
        pthread_mutex_unlock(&call->azure->lock);
        return lines < LOG_LINES ? lines : LOG_LINES;
}

/* `startLine` and `endLine`, from 1, cut it. `?bytes=N`: exactly N bytes, streamed, of any build.
 */
void emu_build_log(struct emu_call *call)
{
        char lines[LOG_LINE * 1024 + 1];
        uint64_t left, first = 1, last = log_lines(call);

        if (!str_to_u64(emu_query(call, "startLine"), &first) || first < 1)
                first = 1;
        if (!str_to_u64(emu_query(call, "endLine"), &left) || left > last)
                left = last;
        last = left;
        if (!str_to_u64(emu_query(call, "bytes"), &left))
                left = last < first ? 0 : (last - first + 1) * LOG_LINE;
        else
                first = 1;
        for (unsigned i = 0; i < 1024; i++)
                snprintf(lines + (size_t)i * LOG_LINE, LOG_LINE + 1,
                        "2026-08-24T06:15:00.%07uZ loading part %04u of the night's data...\n%20s",
                        i, i, "");
        /* Each line has its end in its last byte. */
        for (unsigned i = 0; i < 1024; i++) {
                char *line = lines + (size_t)i * LOG_LINE;
                char *end = memchr(line, '\n', LOG_LINE);

                if (end)
                        *end = '.';
                line[LOG_LINE - 1] = '\n';
        }
        if (!emu_reply_begin(call->request, 200, "text/plain; charset=utf-8"))
                return;
        for (size_t from = (size_t)(first - 1) * LOG_LINE; left > 0; from = 0) {
                size_t room = LOG_LINE * 1024 - from;
                size_t part = left < room ? (size_t)left : room;

                if (!emu_write(call->request, str_view(lines + from, part)))
                        return;
                left -= part;
        }
        emu_reply_end(call->request);
}

void emu_build_logs(struct emu_call *call)
{
        uint64_t lines = log_lines(call);
        char url[256];

        snprintf(url, sizeof(url), EMU_BASE "/%s/_apis/build/builds/%.*s/logs/1", call->project->id,
                STR_FMT(str_head(call->arguments[0], 20)));
        json_t *list = json_pack("[{si ss ss sI}]", "id", 1, "type", "Container", "url", url,
                "lineCount", (json_int_t)lines);
        emu_list(call, list);
}

void emu_build_timeline(struct emu_call *call)
{
        json_t *answer = NULL;

        pthread_mutex_lock(&call->azure->lock);
        const struct emu_run *run = emu_run_named(call, 0);
        if (run)
                answer = json_pack("{s[{ss ss ss ss?}] sI}", "records", "type", "Job", "name",
                        "load", "state",
                        run->result  ? "completed"
                        : run->polls ? "inProgress"
                                     : "pending",
                        "result", run->result, "changeId", (json_int_t)run->polls);
        pthread_mutex_unlock(&call->azure->lock);
        if (answer)
                emu_json(call, 200, answer);
        else
                emu_no_build(call);
}

/* --- artifacts: one, `drop`, which is in storage --- */

/* Its blob, made when somebody asks; its content follows from the build's number. */
static bool artifact_make(struct emu_call *call, long long id, char name[64])
{
        struct buf text;

        snprintf(name, 64, "artifacts/%lld-drop.zip", id);
        buf_init(&text, 1 << 20);
        BUF_LITERAL(&text, "PK\3\4");
        for (unsigned i = 0; i < 4096; i++)
                buf_printf(&text, "part %04u of the drop of build %lld\n", i, id);
        bool made = emu_blob_write(call->azure, str_of(name), buf_str(&text));
        buf_clear(&text);
        return made;
}

static long long build_number(struct emu_call *call, size_t argument)
{
        pthread_mutex_lock(&call->azure->lock);
        const struct emu_run *run = emu_run_named(call, argument);
        long long id = run ? run->id : 0;
        pthread_mutex_unlock(&call->azure->lock);
        return id;
}

/* The list; `artifactName=drop` the one; with `$format=zip` its content, which is elsewhere. */
void emu_build_artifacts(struct emu_call *call)
{
        long long id = build_number(call, 0);
        struct str wanted = emu_query(call, "artifactName");
        char name[64], url[256];

        if (!id || !artifact_make(call, id, name)) {
                emu_no_build(call);
                return;
        }
        if (wanted.len && !str_eq_fold(wanted, STR("drop"))) {
                emu_error(call, 404, "ArtifactNotFoundException",
                        "The artifact %.*s was not found.", STR_FMT(wanted));
                return;
        }
        if (str_eq_fold(emu_query(call, "$format"), STR("zip"))) {
                struct buf location;

                buf_init(&location, 4096);
                emu_signed_url(call->azure, str_of(name), &location);
                emu_header(call->request, STR("Location"), buf_str(&location));
                emu_reply(call->request, 302, NULL, STR_NONE);
                buf_clear(&location);
                return;
        }
        snprintf(url, sizeof(url),
                EMU_BASE "/%s/_apis/build/builds/%lld/artifacts?artifactName=drop&api-version=7.1"
                         "&%%24format=zip",
                call->project->id, id);
        json_t *drop = json_pack("{si ss s{ss ss ss}}", "id", 1, "name", "drop", "resource", "type",
                "PipelineArtifact", "data", name, "downloadUrl", url);
        if (wanted.len)
                emu_json(call, 200, drop);
        else
                emu_list(call, json_pack("[o]", drop));
}

/* `$expand=signedContent`: the URL itself, as the original gives it away. */
void emu_run_artifact(struct emu_call *call)
{
        long long id = build_number(call, 1);
        struct buf url;
        char name[64];

        if (!id || !artifact_make(call, id, name)) {
                emu_no_build(call);
                return;
        }
        json_t *answer = json_pack("{ss ss}", "name", "drop", "url", name);
        if (str_eq_fold(emu_query(call, "$expand"), STR("signedContent"))) {
                buf_init(&url, 4096);
                emu_signed_url(call->azure, str_of(name), &url);
                json_object_set_new(
                        answer, "signedContent", json_pack("{ss%}", "url", url.data, url.len));
                buf_clear(&url);
        }
        emu_json(call, 200, answer);
}
