#include "tags.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dagward/base/clock.h"
#include "dagward/base/log.h"
#include "inside.h"
#include "source.h"

struct job {
        struct job *next;
        struct tags *tags;
        struct fetch *fetch; /* NULL: it waits */
        char *path, *json, *credential;
        struct credential *lent; /* a caller's own; NULL: the one of that name */
        enum service service;
        char run[24], request_id[40], correlation_id[40];
        unsigned attempts;
        int64_t due_mono_ms;
};

struct tags {
        struct control *control;
        struct event timer;
        struct job *jobs; /* all of them, the oldest last */
        size_t n_jobs, n_active;
};

static void begin_due(struct tags *tags);

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        begin_due(arg);
}

struct tags *tags_new(struct control *control)
{
        struct tags *tags = calloc(1, sizeof(*tags));

        if (!tags)
                abort();
        tags->control = control;
        evtimer_assign(&tags->timer, control->base, on_timer, tags);
        return tags;
}

static void job_free(struct job *job)
{
        free(job->path);
        free(job->json);
        free(job->credential);
        credential_unref(job->lent);
        free(job);
}

static void record(struct job *job, const char *error, int status)
{
        char attempts[16], answer[16];

        snprintf(attempts, sizeof(attempts), "%u", job->attempts);
        snprintf(answer, sizeof(answer), "%d", status);
        struct pair detail[] = {
                {STR("run"), str_of(job->run)},
                {STR("request_id"), str_of(job->request_id)},
                {STR("correlation_id"), str_of(job->correlation_id)},
                {STR("tags"), str_of(job->json)},
                {STR("attempts"), str_of(attempts)},
                {STR("status"), str_of(answer)},
                {STR("error"), str_of(error ? error : "")},
        };
        control_event(
                job->tags->control, error ? "run.tag_failed" : "run.tagged", detail, error ? 7 : 6);
        if (error)
                log_info("correlation=%s run=%s could not be tagged: %s", job->correlation_id,
                        job->run, error);
}

static void end(struct job *job, const char *error, int status)
{
        struct tags *tags = job->tags;
        struct job **link = &tags->jobs;

        while (*link != job)
                link = &(*link)->next;
        *link = job->next;
        tags->n_jobs--;
        record(job, error, status);
        job_free(job);
}

/* Another attempt, unless it was the last, or upstream said that none will help. */
static void again(struct job *job, const char *error, int status, int64_t retry_after_s)
{
        bool final = status >= 400 && status < 500 && status != 408 && status != 429 &&
                     status != 401 && status != 404;
        int64_t pause = TAGS_PAUSE_MS;

        if (final || job->attempts >= TAGS_ATTEMPTS) {
                end(job, error, status);
                return;
        }
        for (unsigned i = 1; i < job->attempts; i++)
                pause *= 5;
        if (retry_after_s > 0 && retry_after_s < 3600 && retry_after_s * 1000 > pause)
                pause = retry_after_s * 1000;
        /* Runs that failed together are not tried again together. */
        job->due_mono_ms = clock_mono_ms() + later_ms(pause);
}

static void on_answer(const struct fetch_result *answer, void *arg)
{
        struct job *job = arg;
        struct tags *tags = job->tags;

        job->fetch = NULL;
        tags->n_active--;
        if (!answer->answered)
                again(job, answer->error.text, 0, -1);
        else if (answer->status == 200 || answer->status == 201 || answer->status == 204)
                end(job, NULL, answer->status);
        else /* a sign-in page (203) is no tag either */
                again(job, "Azure DevOps did not take the tags", answer->status,
                        answer->retry_after_s);
        begin_due(tags);
}

static unsigned credential_of(const struct tags *tags, const char *name)
{
        const struct config *config = tags->control->parts->config;
        unsigned i = 0;

        while (i < config->n_credentials && !str_eq(config->credentials[i].name, str_of(name)))
                i++;
        return i;
}

/* A reload may have taken its organization away meanwhile, and no credential is sent there then. */
static bool is_reached_still(const struct job *job)
{
        const struct config_upstream *upstream = &job->tags->control->parts->config->upstream;
        struct str organization;

        str_cut(str_from(str_of(job->path), 1), '/', &organization);
        for (size_t i = 0; i < upstream->n_organizations; i++)
                if (str_eq_fold(upstream->organizations[i], organization))
                        return true;
        return false;
}

static void begin(struct job *job)
{
        struct tags *tags = job->tags;
        const struct fetch_request request = {.body = str_of(job->json),
                .method = "PATCH",
                .content_type = "application/json",
                .timeout_ms = TAGS_TIMEOUT_MS,
                .most_bytes = 256 * 1024};

        job->attempts++;
        job->fetch = control_fetch(tags->control, credential_of(tags, job->credential), job->lent,
                job->service, job->path, request, on_answer, job);
        if (job->fetch)
                tags->n_active++;
        else
                again(job, "there is no usable credential", 0, -1);
}

/* Begins what is due, and sees when to look again. */
static void begin_due(struct tags *tags)
{
        int64_t now = clock_mono_ms(), soonest = INT64_MAX;

        for (struct job *job = tags->jobs, *next; job; job = next) {
                next = job->next; /* beginning may end it */
                if (job->fetch || job->due_mono_ms > now)
                        continue;
                if (tags->control->audit_failing)
                        job->due_mono_ms = now + TAGS_PAUSE_MS;
                else if (!is_reached_still(job))
                        end(job, "its organization is not in `upstream.organizations` any more", 0);
                else if (tags->n_active < TAGS_AT_ONCE)
                        begin(job);
        }
        /* What is due and has not begun begins when one that has is answered. */
        for (struct job *job = tags->jobs; job; job = job->next)
                if (!job->fetch && job->due_mono_ms > now && job->due_mono_ms < soonest)
                        soonest = job->due_mono_ms;
        if (soonest == INT64_MAX)
                return;
        struct timeval wait = {(soonest - now) / 1000, (soonest - now) % 1000 * 1000};
        event_add(&tags->timer, &wait);
}

void tags_add(struct tags *tags, struct ask *ask)
{
        struct run_ask *run = ask->run;
        const struct config *config = tags->control->parts->config;
        struct job *job = calloc(1, sizeof(*job));

        if (!job)
                abort();
        job->tags = tags;
        job->path = run->path;
        job->json = run->tags;
        run->path = run->tags = NULL;
        job->lent = run->lent;
        run->lent = NULL;
        job->service = run->service;
        job->credential =
                str_dup(ask->index < config->n_credentials ? config->credentials[ask->index].name
                                                           : STR(""));
        snprintf(job->run, sizeof(job->run), "%s", run->id);
        snprintf(job->request_id, sizeof(job->request_id), "%s", run->request_id);
        snprintf(job->correlation_id, sizeof(job->correlation_id), "%s", run->correlation_id);
        if (tags->n_jobs >= TAGS_MOST) {
                record(job, "too many runs wait to be tagged", 0);
                job_free(job);
                return;
        }
        job->next = tags->jobs;
        tags->jobs = job;
        tags->n_jobs++;
        begin_due(tags);
}

void tags_give_up(struct tags *tags)
{
        event_del(&tags->timer);
        while (tags->jobs) {
                fetch_cancel(tags->jobs->fetch);
                end(tags->jobs, "the proxy was stopped before it was done", 0);
        }
        tags->n_active = 0;
}

void tags_free(struct tags *tags)
{
        if (!tags)
                return;
        event_del(&tags->timer);
        while (tags->jobs) {
                struct job *job = tags->jobs;
                tags->jobs = job->next;
                fetch_cancel(job->fetch);
                job_free(job);
        }
        free(tags);
}
