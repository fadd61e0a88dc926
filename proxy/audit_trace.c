/*
 * dagward audit trace: one story, found by any of its ids.
 *
 * What was asked for leads to first records; these name runs, correlations and tasks, which lead to
 * more. An index says which blocks to read; only what the log says there counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit.h"
#include "audit_files.h"
#include "audit_index.h"
#include "audit_looks.h"
#include "audit_story.h"
#include "commands.h"
#include "dagward/audit/chain.h"
#include "dagward/base/clock.h"
#include "dagward/base/id.h"

#define AUDIT_FILE "/var/log/dagward/audit.jsonl"

static const char help[] =
        "usage: dagward audit trace ID [FILE...] [--format FORMAT | --json]\n"
        "                           [--index DIRECTORY | --no-index]\n"
        "\n"
        "Tells one story in order of time: which Airflow task asked, who was verified, what was\n"
        "decided and why, what Azure DevOps answered, the run that was started, and later "
        "requests\n"
        "about it.\n"
        "\n"
        "ID is  a UUID, or 32 hex digits  a correlation id, a request id, an ActivityId of Azure\n"
        "                                 DevOps, or the trace id of a traceparent\n"
        "       run:1234, or 1234         a pipeline run or build\n"
        "       dag:DAG/RUN, DAG/RUN      a DAG run; DAG/RUN/TASK: one task of it\n"
        "FILEs may be gzip, in any order; `-` is standard input. Default:\n"
        "       " AUDIT_FILE "\n"
        "\n"
        "FORMAT   text, markdown or json; --json is short for the last\n"
        "--index  where to keep what was learnt about the files, so that the next search is "
        "quick;\n"
        "         default: $XDG_CACHE_HOME/dagward, or ~/.cache/dagward. The logs are not "
        "written.\n"
        "--no-index  reads all of each file and keeps nothing\n"
        "\n"
        "Exit status: 0 found, 1 nothing found, 2 wrong usage or a file that cannot be read.\n";

enum {
        MOST_WANTS = 512,
        MOST_RECORDS = 10000,
        MOST_BLOCKS = 20000, /* of one file and one round */
        ROUNDS = 4,          /* id -> run -> task -> its other tries */
        SLOW_MS = 1000,
        ARENA_BYTES = 64 * 1024,
        ARENA_MOST = 1 << 20,
};

/* Something that records of the story have. Texts are owned. */
struct want {
        enum audit_key_kind kind;
        uint32_t key;
        struct str text;         /* the id, the number, or DAG/RUN */
        struct str organization; /* of a run: "" any */
        struct str task, map;    /* of a DAG run: "" any task */
        struct str issuer,
                subject; /* of a task that was not asked for: nobody else's claim counts */
};

struct log {
        const char *name;
        int fd; /* a copy of standard input has no name */
        struct audit_file file;
        struct audit_index index;
};

struct trace {
        struct want wants[MOST_WANTS];
        size_t n_wants, done; /* those in front of `done` were looked for */
        struct log *logs;
        size_t n_logs;
        struct story story;
        struct arena arena;
        struct chain *chain;
        uint32_t *blocks;
        char *text; /* of a block that was unpacked */
        const char *directory;
        bool seed; /* the first round: what was asked for */
};

/* --- what is wanted --- */

static bool same_want(const struct want *a, const struct want *b)
{
        return a->kind == b->kind && str_eq(a->text, b->text) &&
               str_eq(a->organization, b->organization) && str_eq(a->task, b->task) &&
               str_eq(a->map, b->map) && str_eq(a->issuer, b->issuer) &&
               str_eq(a->subject, b->subject);
}

static struct str keep(struct str text)
{
        return str_view(str_dup(text), text.len);
}

static void want_clear(struct want *want)
{
        free((char *)want->text.ptr);
        free((char *)want->organization.ptr);
        free((char *)want->task.ptr);
        free((char *)want->map.ptr);
        free((char *)want->issuer.ptr);
        free((char *)want->subject.ptr);
}

static void add_want(struct trace *t, enum audit_key_kind kind, struct str text,
        struct str organization, const struct audit_fields *task)
{
        struct want want = {
                .kind = kind,
                .text = keep(text),
                .key = audit_key(kind, text),
                .organization = keep(organization),
                .task = keep(task ? task->claimed.task_id : STR("")),
                .map = keep(task ? task->claimed.map_index : STR("")),
                .issuer = keep(task ? task->caller.issuer : STR("")),
                .subject = keep(task ? task->caller.subject : STR("")),
        };

        for (size_t i = 0; i < t->n_wants; i++)
                if (same_want(&t->wants[i], &want)) {
                        want_clear(&want);
                        return;
                }
        if (t->n_wants == MOST_WANTS) {
                t->story.left_out++;
                want_clear(&want);
                return;
        }
        t->wants[t->n_wants++] = want;
}

/* DAG/RUN or DAG/RUN/TASK: a run_id has no slash unless somebody allowed that in Airflow. */
static bool add_dag(struct trace *t, struct str text)
{
        struct str dag, run, rest = str_cut(text, '/', &dag), task = str_cut(rest, '/', &run);
        struct audit_fields only = {.claimed.task_id = task.ptr ? task : STR("")};

        if (!dag.len || !run.len || (task.ptr && !task.len))
                return false;
        add_want(t, AUDIT_KEY_DAG, str_view(text.ptr, dag.len + 1 + run.len), STR(""), &only);
        return true;
}

static bool add_asked(struct trace *t, struct str text)
{
        char id[ID_UUID_LEN + 1];
        uint64_t number;

        if (str_starts(text, STR("dag:")))
                return add_dag(t, str_from(text, 4));
        if (str_starts(text, STR("run:"))) {
                text = str_from(text, 4);
                if (!str_to_u64(text, &number))
                        return false;
        }
        if (id_uuid_canonical(text, id))
                add_want(t, AUDIT_KEY_ID, str_of(id), STR(""), NULL);
        else if (str_to_u64(text, &number))
                add_want(t, AUDIT_KEY_RUN, text, STR(""), NULL);
        else
                return add_dag(t, text);
        return true;
}

/* --- what matches --- */

static bool is_id(struct str field, struct str wanted)
{
        char id[ID_UUID_LEN + 1];

        return id_uuid_canonical(field, id) && str_eq(str_of(id), wanted);
}

static bool has_id(const struct audit_line *line, struct str wanted)
{
        const struct audit_fields *f = &line->fields;
        char id[ID_UUID_LEN + 1];

        return is_id(f->correlation_id, wanted) || is_id(f->request_id, wanted) ||
               is_id(f->upstream.activity_id, wanted) ||
               (audit_trace_id(f->traceparent, id) && str_eq(str_of(id), wanted));
}

static bool has_run(const struct audit_line *line, const struct want *want)
{
        struct str organization = line->fields.request.organization, run;
        size_t i = 0;

        if (want->organization.len && organization.len &&
                !str_eq_fold(organization, want->organization))
                return false;
        if (str_eq(line->fields.run.id, want->text))
                return true;
        while (audit_run_named(line, &i, &run))
                if (str_eq(run, want->text))
                        return true;
        return false;
}

static bool has_task(const struct audit_line *line, const struct want *want)
{
        const struct audit_fields *f = &line->fields;
        struct str dag, run = str_cut(want->text, '/', &dag);

        if (!str_eq(f->claimed.dag_id, dag) || !str_eq(f->claimed.run_id, run))
                return false;
        if (want->task.len && !str_eq(f->claimed.task_id, want->task))
                return false;
        if (!want->issuer.len)
                return true;
        return str_eq(f->claimed.map_index, want->map) && str_eq(f->caller.issuer, want->issuer) &&
               str_eq(f->caller.subject, want->subject);
}

static unsigned ties_of(const struct trace *t, const struct audit_line *line)
{
        unsigned ties = 0;

        for (size_t i = 0; i < t->n_wants; i++) {
                const struct want *want = &t->wants[i];
                switch (want->kind) {
                case AUDIT_KEY_ID: ties |= has_id(line, want->text) ? TIE_ID : 0; break;
                case AUDIT_KEY_RUN: ties |= has_run(line, want) ? TIE_RUN : 0; break;
                case AUDIT_KEY_DAG: ties |= has_task(line, want) ? TIE_TASK : 0; break;
                }
        }
        return ties;
}

/* What a record of the story leads to: the run it started, the request that started it, and the
 * task that asked, which may have asked before. Polling leads no further. */
static void follow(struct trace *t, const struct audit_line *line)
{
        const struct audit_fields *f = &line->fields;
        bool starts = f->run.id.len > 0, asked = t->seed && t->wants[0].kind == AUDIT_KEY_ID;
        char memory[2048], id[ID_UUID_LEN + 1];
        struct buf text;

        if (starts)
                add_want(t, AUDIT_KEY_RUN, f->run.id, f->request.organization, NULL);
        if (!starts && !asked)
                return;
        if (id_uuid_canonical(f->correlation_id, id))
                add_want(t, AUDIT_KEY_ID, str_of(id), STR(""), NULL);
        if (!f->caller.issuer.len || !f->claimed.dag_id.len || !f->claimed.run_id.len ||
                !f->claimed.task_id.len)
                return;
        buf_init_fixed(&text, memory, sizeof(memory));
        BUF_ALL(&text, f->claimed.dag_id, STR("/"), f->claimed.run_id);
        if (!text.overflow)
                add_want(t, AUDIT_KEY_DAG, buf_str(&text), STR(""), f);
}

/* --- reading --- */

static void look_at(struct trace *t, const struct log *log, struct str line, uint64_t at)
{
        struct chain_line parts;
        struct audit_line record;
        struct story *story = &t->story;

        arena_reset(&t->arena);
        if (!audit_line_read(line, &t->arena, &record)) {
                story->damaged++;
                return;
        }
        unsigned ties = ties_of(t, &record);
        if (!ties)
                return;
        /* Duplicates of an earlier round are taken out behind each round. */
        if (story->n == 2 * MOST_RECORDS) {
                story->left_out++;
                return;
        }
        story->records[story->n++] = (struct story_record){
                .line = str_view(str_dup(line), line.len),
                .file = log->file.name,
                .at = at,
                .time_ms = record.fields.time_ms,
                .seq = record.seq,
                .ties = ties,
                .intact = chain_read(t->chain, line, &parts) == CHAIN_GOOD,
        };
}

static int by_number(const void *left, const void *right)
{
        uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

        return a < b ? -1 : a > b;
}

/* A block of a gzip file, without what stands in front of it. False: that cannot be done. */
static bool unpack_block(struct trace *t, struct log *log, uint64_t begin, uint64_t end)
{
        uint64_t from = begin ? begin - 1 : 0; /* whose newline says that a line begins here */
        ssize_t got = audit_points_read(&log->index.points, log->fd, from, t->text,
                AUDIT_INDEX_BLOCK + 1 + CHAIN_LINE_MOST);

        if (got < 0)
                return false;
        struct str rest = str_view(t->text, (size_t)got), line;
        if (begin)
                rest = str_cut(rest, '\n', &line);
        while (rest.len) {
                uint64_t at = from + (uint64_t)(rest.ptr - t->text);
                struct str behind = str_cut(rest, '\n', &line);
                if (at >= end || !behind.ptr)
                        break;
                if (at < log->index.covered)
                        look_at(t, log, line, at);
                rest = behind;
        }
        return true;
}

static bool read_block(struct trace *t, struct log *log, uint32_t block)
{
        uint64_t begin = (uint64_t)block * AUDIT_INDEX_BLOCK, end = begin + AUDIT_INDEX_BLOCK;
        struct str line;

        if (log->index.points.fd >= 0 && unpack_block(t, log, begin, end))
                return true;
        if (!audit_file_seek(&log->file, begin))
                return false;
        while (log->file.offset < end && audit_file_line(&log->file, &line))
                if (log->file.line_at < log->index.covered)
                        look_at(t, log, line, log->file.line_at);
        return !log->file.why[0];
}

static bool read_tail(struct trace *t, struct log *log)
{
        struct str line;

        if (!audit_file_seek(&log->file, log->index.covered))
                return false;
        while (audit_file_line(&log->file, &line))
                if (!log->file.torn) /* being written, or cut off */
                        look_at(t, log, line, log->file.line_at);
        return !log->file.why[0];
}

/* Its memory is taken only while it is read: there may be hundreds. */
static bool open_text(struct log *log)
{
        int again = lseek(log->fd, 0, SEEK_SET) == 0 ? dup(log->fd) : -1;

        return again >= 0 && audit_file_open_fd(&log->file, log->file.name, again);
}

static bool read_blocks(struct trace *t, struct log *log, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if ((i == 0 || t->blocks[i] != t->blocks[i - 1]) &&
                        !read_block(t, log, t->blocks[i]))
                        return false;
        return log->index.whole || read_tail(t, log);
}

/* What was added since the last round, in one log. */
static bool search(struct trace *t, struct log *log)
{
        size_t n = 0;

        for (size_t i = t->done; i < t->n_wants; i++)
                n = audit_index_find(&log->index, t->wants[i].key, t->blocks, n, MOST_BLOCKS);
        if (n == MOST_BLOCKS)
                t->story.left_out++;
        if (!n && log->index.whole)
                return true;
        qsort(t->blocks, n, sizeof(*t->blocks), by_number);
        if (!open_text(log))
                return false;
        bool good = read_blocks(t, log, n);
        audit_file_close(&log->file);
        return good;
}

static int by_time(const void *left, const void *right)
{
        const struct story_record *a = left, *b = right;

        if (a->time_ms != b->time_ms)
                return a->time_ms < b->time_ms ? -1 : 1;
        if (a->seq != b->seq)
                return a->seq < b->seq ? -1 : 1;
        return str_cmp(a->line, b->line);
}

/* Also what stands in two files: a log and its compressed copy. */
static void remove_duplicates(struct story *story)
{
        size_t n = 0;

        qsort(story->records, story->n, sizeof(*story->records), by_time);
        for (size_t i = 0; i < story->n; i++) {
                struct story_record *one = &story->records[i];
                bool again = n && str_eq(story->records[n - 1].line, one->line);
                if (again)
                        story->records[n - 1].ties |= one->ties;
                if (again || n == MOST_RECORDS) {
                        story->left_out += !again;
                        free((char *)one->line.ptr);
                } else {
                        story->records[n++] = *one;
                }
        }
        story->n = n;
}

static bool tell(struct trace *t)
{
        t->seed = true;
        for (int round = 0; round < ROUNDS && t->done < t->n_wants; round++) {
                t->story.damaged = 0;
                for (size_t i = 0; i < t->n_logs; i++)
                        if (!search(t, &t->logs[i])) {
                                audit_file_complain("trace", &t->logs[i].file);
                                return false;
                        }
                t->done = t->n_wants;
                remove_duplicates(&t->story);
                for (size_t i = 0; i < t->story.n; i++) {
                        struct audit_line record;
                        arena_reset(&t->arena);
                        if (audit_line_read(t->story.records[i].line, &t->arena, &record))
                                follow(t, &record);
                }
                t->seed = false;
        }
        return true;
}

/* --- the files --- */

/* What comes from a pipe is read several times. */
static int copy_of_stdin(void)
{
        char block[65536];
        FILE *copy = tmpfile();
        ssize_t got;

        if (!copy)
                return -1;
        while ((got = read(STDIN_FILENO, block, sizeof(block))) > 0)
                if (fwrite(block, 1, (size_t)got, copy) != (size_t)got)
                        break;
        int fd = got == 0 && fflush(copy) == 0 ? dup(fileno(copy)) : -1;
        fclose(copy);
        return fd;
}

static bool open_log(struct trace *t, struct log *log)
{
        bool standard = strcmp(log->name, "-") == 0;
        int64_t begin_ms = clock_mono_ms();

        log->file.name = standard ? "<stdin>" : log->name;
        log->fd = standard ? copy_of_stdin() : audit_open(log->name);
        bool good =
                log->fd >= 0 && open_text(log) &&
                audit_index_open(&log->index, standard ? NULL : t->directory, &log->file, log->fd);
        if (!good)
                audit_file_complain("trace", &log->file);
        audit_file_close(&log->file);
        int64_t took_ms = clock_mono_ms() - begin_ms;
        if (good && log->index.built && took_ms > SLOW_MS)
                fprintf(stderr, "dagward audit trace: %s: read all of it in %.1f s; %s\n",
                        audit_shown(log->file.name), (double)took_ms / 1000,
                        t->directory && !standard ? "the next search in it is quick"
                                                  : "the next search will be as slow");
        return good;
}

static int search_all(struct trace *t, enum report_format format)
{
        bool good = true;

        arena_init(&t->arena, ARENA_BYTES, ARENA_MOST);
        t->chain = chain_new();
        t->blocks = malloc(MOST_BLOCKS * sizeof(*t->blocks));
        t->story.records = malloc(2 * (size_t)MOST_RECORDS * sizeof(*t->story.records));
        t->text = malloc(AUDIT_INDEX_BLOCK + 1 + CHAIN_LINE_MOST);
        if (!t->blocks || !t->story.records || !t->text)
                abort();
        for (size_t i = 0; i < t->n_logs && good; i++)
                good = open_log(t, &t->logs[i]);
        good = good && tell(t);
        if (good) {
                story_print(&t->story, format);
                if (t->story.damaged)
                        fprintf(stderr,
                                "dagward audit trace: %zu line(s) that are no audit record; "
                                "`dagward audit verify` says where\n",
                                t->story.damaged);
        }
        for (size_t i = 0; i < t->story.n; i++)
                free((char *)t->story.records[i].line.ptr);
        free(t->story.records);
        free(t->blocks);
        free(t->text);
        chain_free(t->chain);
        arena_clear(&t->arena);
        return !good ? EXIT_USAGE : t->story.n ? EXIT_YES : EXIT_NO;
}

static int trace_files(
        struct trace *t, const char *const *names, size_t n, enum report_format format)
{
        t->logs = calloc(n, sizeof(*t->logs));
        if (!t->logs)
                abort();
        t->n_logs = t->story.n_files = n;
        for (size_t i = 0; i < n; i++)
                t->logs[i] = (struct log){
                        .name = names[i], .fd = -1, .index = {.fd = -1, .points.fd = -1}};
        int status = search_all(t, format);
        for (size_t i = 0; i < n; i++) {
                audit_index_close(&t->logs[i].index);
                if (t->logs[i].fd >= 0)
                        close(t->logs[i].fd);
        }
        for (size_t i = 0; i < t->n_wants; i++)
                want_clear(&t->wants[i]);
        free(t->logs);
        return status;
}

int audit_trace(int argc, char **argv)
{
        static const struct option options[] = {{"format", required_argument, NULL, 'f'},
                {"json", no_argument, NULL, 'j'}, {"index", required_argument, NULL, 'i'},
                {"no-index", no_argument, NULL, 'n'}, {"help", no_argument, NULL, 'h'}, {0}};
        static const char *const usual[] = {AUDIT_FILE};
        struct audit_options taken = {.shorts = "h", .longs = options, .repeatable = ""};
        static struct trace t;
        enum report_format format = REPORT_TEXT;
        char directory[4096 - 64];
        const char *given = NULL, *why;
        bool keep = true;
        int option;

        while ((option = audit_option(&taken, argc, argv)) != -1) {
                switch (option) {
                case 'f':
                        if (!report_format_named(str_of(optarg), &format))
                                return audit_complain("trace",
                                        "--format is text, markdown or json, not `%s`", optarg);
                        break;
                case 'j': format = REPORT_JSON; break;
                case 'i': given = optarg; break;
                case 'n': keep = false; break;
                case 'h': fputs(help, stdout); return EXIT_YES;
                default: return EXIT_USAGE; /* getopt has said why */
                }
        }
        if (taken.seen['f'] && taken.seen['j'])
                return audit_complain("trace", "give either --format or --json");
        if (given && !keep)
                return audit_complain("trace", "give either --index or --no-index");
        if (optind == argc)
                return audit_complain("trace", "say which ID");
        t.story.asked = argv[optind];
        if (!add_asked(&t, str_of(argv[optind])))
                return audit_complain(
                        "trace", "`%s` is no UUID, no run:NUMBER and no dag:DAG/RUN", argv[optind]);
        if (keep && audit_index_directory(given, directory, sizeof(directory), &why))
                t.directory = directory;
        else if (keep)
                fprintf(stderr,
                        "dagward audit trace: no index can be kept (%s); the files are read "
                        "whole\n",
                        why);
        size_t n = audit_files_logs("trace", argv + optind + 1, (size_t)(argc - optind - 1));
        return trace_files(
                &t, n ? (const char *const *)argv + optind + 1 : usual, n ? n : 1, format);
}
