/*
 * emu: what the files of the Azure DevOps emulator share.
 */
#ifndef DAGWARD_EMBEDDED_EMU_H
#define DAGWARD_EMBEDDED_EMU_H

#include <jansson.h>
#include <pthread.h>

#include "embedded/azure_devops.h"
#include "embedded/server.h"

enum { EMU_RECORDS = 2000, EMU_RUNS = 16384, EMU_TAGS = 32, EMU_FIRST_RUN = 1001 };
enum { EMU_RELEASES = 1000, EMU_STAGES = 2, EMU_PAGES = 64 };

#define EMU_ORGANIZATION "contoso"
#define EMU_ORGANIZATION_ID "5e0c1a70-0000-4a11-9c05-0c0170500001"
#define EMU_TENANT "8f5c1d2e-0000-4e17-8a3f-7e0a0de77a01"
#define EMU_USER_ID "5e51ce00-0000-4d1a-b0de-da6aa2d00001"
#define EMU_BASE "https://dev.azure.com/" EMU_ORGANIZATION

struct emu_project {
        const char *id, *name, *description;
};

struct emu_pipeline {
        long long id;
        const char *name;
        unsigned project; /* index */
        unsigned repository;
};

struct emu_repository {
        const char *id, *name;
        unsigned project; /* index */
};

enum { EMU_PROJECTS = 2, EMU_PIPELINES = 3, EMU_REPOSITORIES = 3 };
extern const struct emu_project emu_projects[EMU_PROJECTS];
extern const struct emu_pipeline emu_pipelines[EMU_PIPELINES];
extern const struct emu_repository emu_repositories[EMU_REPOSITORIES];

/* A run of a pipeline is a build, as in the original. Strings are malloc'd. */
struct emu_run {
        long long id;
        unsigned pipeline; /* index */
        int64_t created_ms, finished_ms;
        unsigned polls;     /* how often its state was asked for */
        const char *result; /* NULL while it is in progress */
        char *branch;
        char e2eid[40];         /* the request's X-VSS-E2EID */
        char *build_parameters; /* JSON text, as asked for, or NULL */
        char *tags[EMU_TAGS];
        size_t n_tags;
        json_t *parameters, *variables; /* as asked for, or NULL */
};

/* A classic release; the texts are static. */
struct emu_release {
        long long id;
        unsigned definition, polls;
        const char *status[EMU_STAGES];
        bool approved; /* the second stage */
        int64_t created_ms;
        json_t *variables; /* as asked for, or NULL */
        char e2eid[40];
};

/* A page of the wiki; strings are malloc'd. */
struct emu_page {
        char *path, *content;
        uint64_t version; /* 0: not there yet */
};

/* What the control endpoint asked for. */
struct emu_fault {
        char signin[4];   /* "203", "302", "401", or "" */
        int next_status;  /* 0: none */
        long retry_after; /* seconds, -1: none */
        long delay_ms;
        bool close;
        bool lose;    /* does what was asked for, and closes the connection instead of answering */
        bool mix;     /* close, lose or delay_ms, one of them at random */
        long percent; /* of the requests that match; 0: all */
        char method[8];  /* only of this one, or "" */
        long times;      /* requests that are still met by it; -1: all */
        char match[128]; /* part of the target of those, or "" */
};

struct azure_devops {
        struct emu_server *plain, *tls, *storage;
        unsigned char storage_key[32]; /* signs URLs */
        char *data, *exec_path;        /* absolute data folder; git's program folder */
        char **tokens;
        size_t n_tokens;
        pthread_mutex_t lock; /* guards what follows */
        struct emu_fault fault;
        bool no_areas; /* ResourceAreas answers an empty list */
        json_t *records[EMU_RECORDS];
        size_t n_records, first_record;
        struct emu_run runs[EMU_RUNS]; /* a ring: run i is at (i - EMU_FIRST_RUN) % EMU_RUNS */
        long long next_run;
        struct emu_release releases[EMU_RELEASES];
        size_t n_releases;
        struct emu_page pages[EMU_PAGES];
        size_t n_pages;
        uint64_t n_credentials_to_storage; /* requests to storage that carried what they must not */
};

enum { EMU_ARGUMENTS = 4 };

/* A request on its way through the emulator. */
struct emu_call {
        struct azure_devops *azure;
        struct emu_request *request;
        struct str method;          /* after an override */
        const struct str *segments; /* behind the organization */
        size_t n_segments;
        bool identified;
        const struct emu_project *project;   /* or NULL */
        struct str arguments[EMU_ARGUMENTS]; /* what the route's wildcards stand for */
};

/* --- azure_devops.c --- */

/* Answers with `body`, which is released. */
void emu_json(struct emu_call *call, int status, json_t *body);
/* Answers an error in the original's shape. */
void emu_error(struct emu_call *call, int status, const char *type_key, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* The project of that name or id, or NULL. */
const struct emu_project *emu_project_named(struct str name);
/* The repository of that name or id in `project` (NULL: of any, by id only), or NULL. */
const struct emu_repository *emu_repository_named(
        const struct emu_project *project, struct str name);
/* Answers 404 or 400 VS800075. */
void emu_no_project(struct emu_call *call, int status, struct str name);
struct str emu_query(const struct emu_call *call, const char *name);

/* --- emu_recorder.c --- */

/* Serves /~emulator if that is what is asked for. */
bool emu_control(struct azure_devops *azure, struct emu_request *request);
/* `storage`: it came there. */
void emu_record(struct azure_devops *azure, const struct emu_request *request, bool storage);
/* The fault that meets this request, all empty if there is none. */
struct emu_fault emu_fault_take(struct azure_devops *azure, const struct emu_request *request);

/* --- emu_discovery.c --- */

void emu_locations(struct emu_call *call, struct str area);
void emu_resource_areas(struct emu_call *call);
void emu_resource_area(struct emu_call *call);
void emu_connection_data(struct emu_call *call);

/* --- emu_rest.c, emu_build.c, emu_artifact.c --- */

/* `segments` begin behind `_apis`. */
void emu_rest(struct emu_call *call, const struct str *segments, size_t n);

void emu_pipeline_list(struct emu_call *call);
void emu_pipeline_get(struct emu_call *call);
void emu_run_start(struct emu_call *call);
void emu_run_list(struct emu_call *call);
void emu_run_get(struct emu_call *call);
void emu_build_queue(struct emu_call *call);
void emu_build_list(struct emu_call *call);
void emu_build_get(struct emu_call *call);
void emu_build_update(struct emu_call *call);
void emu_build_tags(struct emu_call *call);
void emu_build_log(struct emu_call *call);
void emu_definition_list(struct emu_call *call);
void emu_definition_get(struct emu_call *call);
void emu_build_timeline(struct emu_call *call);
void emu_build_logs(struct emu_call *call);
void emu_build_artifacts(struct emu_call *call);
void emu_run_artifact(struct emu_call *call);
void emu_runs_free(struct azure_devops *azure);
/* All runs, oldest first, each with what a test wants to join it by; the caller holds the lock. */
json_t *emu_runs_json(struct azure_devops *azure);
/* The run of the call's project that argument `i` names, or NULL; the caller holds the lock. */
struct emu_run *emu_run_named(struct emu_call *call, size_t i);
void emu_no_build(struct emu_call *call);
json_t *emu_project_json(const struct emu_project *project);
json_t *emu_repository_json(const struct emu_repository *repository);
/* Answers 200 with `list`, which is released, and its count. */
void emu_list(struct emu_call *call, json_t *list);
/* The request's body as JSON; NULL after an answer if it is none. An empty body is {}. */
json_t *emu_body_json(struct emu_call *call);

/* --- emu_release.c, emu_feed.c, emu_wiki.c --- */

void emu_release_definitions(struct emu_call *call);
void emu_release_create(struct emu_call *call);
void emu_release_list(struct emu_call *call);
void emu_release_get(struct emu_call *call);
void emu_release_deploy(struct emu_call *call);
void emu_release_approvals(struct emu_call *call);
void emu_release_approve(struct emu_call *call);
void emu_releases_free(struct azure_devops *azure);
json_t *emu_releases_json(struct azure_devops *azure);
/* Whether `ms` is within the query's limits of those names (RFC 3339; missing: none). */
bool emu_in_time(const struct emu_call *call, const char *least, const char *most, int64_t ms);
void emu_feed_list(struct emu_call *call);
void emu_feed_get(struct emu_call *call);
/* Everything below `_packaging`; `at` is the segment behind it. */
void emu_packaging(struct emu_call *call, size_t at);
void emu_page_get(struct emu_call *call);
void emu_page_put(struct emu_call *call);
void emu_pages_free(struct azure_devops *azure);

/* --- emu_storage.c --- */

/* The handler of the storage listener. */
void emu_storage(struct emu_request *request, void *azure);
/* The file of a blob, "folder/name". */
void emu_blob_path(const struct azure_devops *azure, struct str name, char out[4096]);
bool emu_blob_write(struct azure_devops *azure, struct str name, struct str bytes);
/* A URL that serves the blob for a while. */
void emu_signed_url(struct azure_devops *azure, struct str name, struct buf *out);
/* Answers with a file, or the range of it that was asked for; false: there is none, nothing sent.
 */
bool emu_send_file(struct emu_request *request, const char *path, const char *type);

/* --- emu_git.c, emu_lfs.c --- */

/* Creates the repositories that are not there. */
bool emu_git_prepare(struct azure_devops *azure, struct error *err);
/* The output of git with `arguments` (NULL-terminated, without "git") in `repository`. */
bool emu_git_output(struct azure_devops *azure, const struct emu_repository *repository,
        const char *const *arguments, struct buf *out);
/* Everything below `_git/{repo}`; `at` is the segment behind `_git`. */
void emu_git(struct emu_call *call, size_t at);
/* Everything below `info/lfs`; `at` is the segment behind it. */
void emu_lfs(struct emu_call *call, const struct emu_repository *repository, size_t at);

#endif
