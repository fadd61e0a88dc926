/*
 * dagward audit: what happened, and whether the log still says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit_looks.h"
#include "commands.h"
#include "dagward/audit/verify.h"
#include "dagward/audit/view.h"
#include "dagward/base/id.h"

#define AUDIT_FILE "/var/log/dagward/audit.jsonl"

static const char help[] =
        "usage: dagward audit verify FILE... [--json]\n"
        "       dagward audit show [FILE] [--id ID] [--caller SUBJECT] [--effect EFFECT]\n"
        "                          [--operation NAME] [--last N] [--follow] [--json]\n"
        "       dagward audit trace ID [FILE...]\n"
        "       dagward audit report FILE... -o OUT.html\n"
        "       dagward audit export --format csv|ocsf FILE...\n"
        "\n"
        "verify  recomputes the hash chain of one or more log files, given oldest first (`-` is\n"
        "        standard input), and names the first line that is not what was written.\n"
        "        Exit status: 0 whole, 1 something is wrong, 2 a file cannot be read.\n"
        "show    prints one line for each request and event. ID is a correlation or request id\n"
        "        (its intents are shown too); EFFECT is allow, deny or error; SUBJECT and NAME "
        "may\n"
        "        hold `*`. --json prints the records themselves. FILE defaults to\n"
        "        " AUDIT_FILE ".\n"
        "        Exit status: 0 something shown, 1 nothing found, 2 the file cannot be read.\n"
        "trace   tells one story: of a request, a run, a DAG run. See `dagward audit trace "
        "--help`.\n"
        "report  writes an HTML page about a log. See `dagward audit report --help`.\n"
        "export  writes CSV, or OCSF events. See `dagward audit export --help`.\n";

__attribute__((format(printf, 1, 2))) static int usage(const char *format, ...)
{
        va_list args;

        fprintf(stderr, "dagward audit: ");
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fprintf(stderr, "; see `dagward audit --help`\n");
        return 2;
}

static int unreadable(const char *file)
{
        fprintf(stderr, "dagward audit: %s: %s\n", file, strerror(errno));
        return 2;
}

/* --- verify --- */

enum { CHUNK = 256 * 1024 };

static bool verify_one(struct verify *verify, const char *file, char *chunk)
{
        bool standard = strcmp(file, "-") == 0;
        int fd = standard ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
        ssize_t n = -1;

        if (fd < 0)
                return false;
        verify_file(verify, standard ? "<stdin>" : file);
        for (;;) {
                n = read(fd, chunk, CHUNK);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                verify_feed(verify, chunk, (size_t)n);
        }
        if (n == 0)
                verify_file_end(verify);
        int why = errno;
        if (!standard)
                close(fd);
        errno = why;
        return n == 0;
}

static void print_json(const struct verify *verify, bool good)
{
        struct buf out;

        buf_init(&out, CHAIN_LINE_MOST);
        buf_printf(&out, "{\"ok\":%s,\"records\":%llu,\"first_seq\":%llu,\"last_seq\":%llu",
                good ? "true" : "false", (unsigned long long)verify->records,
                (unsigned long long)verify->first_seq, (unsigned long long)verify->head.seq);
        buf_printf(&out, ",\"last_hash\":\"%s\",\"lines\":%llu", verify->head.hash,
                (unsigned long long)verify->lines);
        if (!verify_good(verify)) {
                buf_printf(&out, ",\"fault\":{\"kind\":\"%s\",\"file\":",
                        verify_fault_name(verify->first.fault));
                buf_json_str(&out, str_of(verify->first.file));
                buf_printf(
                        &out, ",\"line\":%llu,\"text\":", (unsigned long long)verify->first.line);
                buf_json_str(&out, str_of(verify->first.text));
                buf_char(&out, '}');
        }
        BUF_LITERAL(&out, "}\n");
        fwrite(out.data, 1, out.len, stdout);
        buf_clear(&out);
}

static void print_text(const struct verify *verify, bool good)
{
        if (!verify_good(verify))
                printf("%s:%llu: %s: %s\n", verify->first.file,
                        (unsigned long long)verify->first.line,
                        verify_fault_name(verify->first.fault), verify->first.text);
        if (verify->records == 0) {
                printf("no good record\n");
                return;
        }
        printf("%s: %llu record(s), seq %llu to %llu\n", good ? "whole" : "good up to there",
                (unsigned long long)verify->records, (unsigned long long)verify->first_seq,
                (unsigned long long)verify->head.seq);
        printf("hash of seq %llu: %s\n", (unsigned long long)verify->head.seq, verify->head.hash);
        if (verify->first_seq > 1)
                printf("note: the chain begins before these files; give the older ones too\n");
}

static int audit_verify(int argc, char **argv)
{
        static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
        struct verify verify;
        bool json = false;
        int option, status = 0;

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (option != 'j')
                        return 2; /* getopt has said why */
                json = true;
        }
        if (optind == argc)
                return usage("verify needs at least one FILE");
        char *chunk = malloc(CHUNK);
        if (!chunk)
                abort();
        verify_init(&verify);
        for (int i = optind; i < argc && status == 0; i++)
                if (!verify_one(&verify, argv[i], chunk))
                        status = unreadable(argv[i]);
        if (status == 0) {
                bool good = verify_good(&verify) && verify.records > 0;
                (json ? print_json : print_text)(&verify, good);
                status = good ? 0 : 1;
        }
        verify_clear(&verify);
        free(chunk);
        return status;
}

/* --- show --- */

enum { LAST_MOST = 10000, FOLLOW_MS = 200 };

struct show {
        const char *file;
        struct view_filter filter;
        bool json, follow;
        size_t last; /* 0: all */

        int fd;
        uint64_t offset; /* of the next byte to read */
        char *line;      /* a line whose end has not come; CHAIN_LINE_MOST bytes */
        size_t line_len;
        bool skip;   /* the line is too long, or was begun before we looked */
        char **kept; /* the last ones shown, a ring of `last` */
        uint64_t shown;
        uint64_t not_records;
        struct buf text;
};

static void show_line(struct show *show, struct str line)
{
        buf_reset(&show->text);
        switch (view_line(line, &show->filter, show->json ? NULL : &show->text)) {
        case VIEW_SKIPPED: return;
        case VIEW_NOT_A_RECORD: show->not_records++; return;
        case VIEW_SHOWN: break;
        }
        if (show->json) {
                buf_str_add(&show->text, line);
                buf_char(&show->text, '\n');
        }
        if (show->kept) {
                char **place = &show->kept[show->shown % show->last];
                free(*place);
                *place = str_dup(buf_str(&show->text));
        } else {
                fwrite(show->text.data, 1, show->text.len, stdout);
        }
        show->shown++;
}

static void show_bytes(struct show *show, const char *bytes, size_t len)
{
        while (len) {
                const char *newline = memchr(bytes, '\n', len);
                size_t n = newline ? (size_t)(newline - bytes) : len;

                if (!show->skip && n > CHAIN_LINE_MOST - show->line_len) {
                        show->skip = true;
                        show->not_records++;
                }
                if (!show->skip) {
                        memcpy(show->line + show->line_len, bytes, n);
                        show->line_len += n;
                        if (newline)
                                show_line(show, str_view(show->line, show->line_len));
                }
                if (newline) {
                        show->skip = false;
                        show->line_len = 0;
                        n++;
                }
                bytes += n;
                len -= n;
        }
}

/* From `offset` to the end there is now; false with errno. */
static bool show_rest(struct show *show)
{
        static char chunk[CHUNK];

        for (;;) {
                ssize_t n = read(show->fd, chunk, sizeof(chunk));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n == 0;
                show->offset += (uint64_t)n;
                show_bytes(show, chunk, (size_t)n);
        }
}

static void print_kept(struct show *show)
{
        uint64_t n = show->shown < show->last ? show->shown : show->last;

        for (uint64_t i = show->shown - n; i < show->shown; i++)
                fputs(show->kept[i % show->last], stdout);
        for (size_t i = 0; i < show->last; i++)
                free(show->kept[i]);
        free(show->kept);
        show->kept = NULL;
}

/* The last ones: looks at more and more of the file's end until there are enough. */
static bool show_last(struct show *show)
{
        struct stat info;
        bool ok = true;

        if (fstat(show->fd, &info) != 0)
                return false;
        uint64_t size = S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
        show->kept = calloc(show->last, sizeof(*show->kept));
        if (!show->kept)
                abort();
        for (uint64_t window = 1 << 20; ok; window *= 8) {
                bool all = window >= size;
                show->shown = show->not_records = 0;
                show->offset = all ? 0 : size - window;
                show->skip = !all;
                show->line_len = 0;
                if (size)
                        ok = lseek(show->fd, (off_t)show->offset, SEEK_SET) >= 0;
                ok = ok && show_rest(show);
                if (all || show->shown >= show->last)
                        break;
        }
        print_kept(show);
        return ok;
}

/* At the end of the file: has another one taken its name, or was it emptied? */
static bool look_again(struct show *show)
{
        struct stat named, open_one;

        if (stat(show->file, &named) != 0 || fstat(show->fd, &open_one) != 0)
                return true; /* between two files of a rotation */
        if (named.st_ino == open_one.st_ino && named.st_dev == open_one.st_dev) {
                if ((uint64_t)named.st_size >= show->offset)
                        return true;
                show->offset = 0;
                show->line_len = 0;
                return lseek(show->fd, 0, SEEK_SET) == 0;
        }
        /* What came between the last read and the rename. */
        if (!show_rest(show))
                return false;
        close(show->fd);
        show->offset = 0;
        show->line_len = 0;
        show->fd = open(show->file, O_RDONLY | O_CLOEXEC);
        return show->fd >= 0;
}

static bool show_follow(struct show *show)
{
        for (;;) {
                fflush(stdout);
                usleep(FOLLOW_MS * 1000);
                if (!show_rest(show) || !look_again(show))
                        return false;
        }
}

static bool show_all(struct show *show)
{
        bool ok = show->last ? show_last(show) : show_rest(show);

        return ok && (!show->follow || show_follow(show));
}

static int show_option(struct show *show, int option, const char *value, char id[ID_UUID_LEN + 1])
{
        uint64_t number;

        switch (option) {
        case 'i':
                show->filter.id = str_of(value);
                show->filter.intents = true;
                if (id_uuid_canonical(str_of(value), id))
                        show->filter.id = str_of(id);
                return 0;
        case 'c': show->filter.caller = str_of(value); return 0;
        case 'o': show->filter.operation = str_of(value); return 0;
        case 'f': show->follow = true; return 0;
        case 'j': show->json = true; return 0;
        case 'e':
                show->filter.effect = str_of(value);
                if (strcmp(value, "allow") && strcmp(value, "deny") && strcmp(value, "error"))
                        return usage("--effect is allow, deny or error, not `%s`", value);
                return 0;
        case 'l':
                if (!str_to_u64(str_of(value), &number) || number < 1 || number > LAST_MOST)
                        return usage("--last is a number from 1 to 10000, not `%s`", value);
                show->last = (size_t)number;
                return 0;
        }
        return 2; /* getopt has said why */
}

static int audit_show(int argc, char **argv)
{
        static const struct option options[] = {{"id", required_argument, NULL, 'i'},
                {"caller", required_argument, NULL, 'c'}, {"effect", required_argument, NULL, 'e'},
                {"operation", required_argument, NULL, 'o'}, {"last", required_argument, NULL, 'l'},
                {"follow", no_argument, NULL, 'f'}, {"json", no_argument, NULL, 'j'}, {0}};
        struct show show = {.file = AUDIT_FILE};
        char id[ID_UUID_LEN + 1];
        int option, status;

        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
                if ((status = show_option(&show, option, optarg, id)) != 0)
                        return status;
        if (argc - optind > 1)
                return usage("show takes one FILE; what is `%s`?", argv[optind + 1]);
        if (optind < argc)
                show.file = argv[optind];
        if (show.follow && !show.last)
                show.last = 10;
        bool standard = strcmp(show.file, "-") == 0;
        show.fd = standard ? STDIN_FILENO : open(show.file, O_RDONLY | O_CLOEXEC);
        if (show.fd < 0)
                return unreadable(show.file);
        show.line = malloc(CHAIN_LINE_MOST);
        if (!show.line)
                abort();
        buf_init(&show.text, (size_t)8 * CHAIN_LINE_MOST);
        status = show_all(&show) ? 0 : unreadable(show.file);
        if (show.not_records)
                fprintf(stderr,
                        "dagward audit: %s: %llu line(s) that are no audit record; "
                        "`dagward audit verify` says where\n",
                        show.file, (unsigned long long)show.not_records);
        buf_clear(&show.text);
        free(show.line);
        if (show.fd >= 0 && !standard)
                close(show.fd);
        return status ? status : show.shown == 0;
}

int command_audit(int argc, char **argv)
{
        /* What getopt puts in front of its complaints. */
        static char verify_name[] = "dagward audit verify", show_name[] = "dagward audit show";
        static char trace_name[] = "dagward audit trace", report_name[] = "dagward audit report";
        static char export_name[] = "dagward audit export";
        static const struct {
                const char *word;
                char *name;
                int (*run)(int argc, char **argv);
        } looks[] = {{"trace", trace_name, audit_trace}, {"report", report_name, audit_report},
                {"export", export_name, audit_export}};
        const char *word = argc > 1 ? argv[1] : "";

        for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++)
                if (strcmp(word, looks[i].word) == 0) {
                        argv[1] = looks[i].name;
                        return looks[i].run(argc - 1, argv + 1);
                }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ||
                (argc > 2 && strcmp(argv[2], "--help") == 0)) {
                fputs(help, stdout);
                return 0;
        }
        if (strcmp(word, "verify") == 0) {
                argv[1] = verify_name;
                return audit_verify(argc - 1, argv + 1);
        }
        if (strcmp(word, "show") == 0) {
                argv[1] = show_name;
                return audit_show(argc - 1, argv + 1);
        }
        return *word ? usage("there is no `%s`", word) : usage("say what to do");
}
