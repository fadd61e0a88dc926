/*
 * dagward audit show: one line for each request and event.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit.h"
#include "audit_files.h"
#include "dagward/audit/chain.h"
#include "dagward/audit/unzip.h"
#include "dagward/audit/view.h"
#include "dagward/base/id.h"

enum { CHUNK = 256 * 1024, LAST_MOST = 10000, FOLLOW_MS = 200, GZIP_FIRST = 0x1F };

struct show {
        const char *file;
        struct view_filter filter;
        bool json, follow;
        size_t last; /* 0: all */

        int fd;
        struct unzip *unzip;
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

static bool show_bytes(void *owner, const char *bytes, size_t len)
{
        struct show *show = owner;

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
        return true;
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
                if (unzip_feed(show->unzip, chunk, (size_t)n, show_bytes, show) != UNZIP_GOOD) {
                        errno = EILSEQ; /* what is not gzip after all */
                        return false;
                }
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

static bool is_gzip(const struct show *show)
{
        char first = 0;

        return pread(show->fd, &first, 1, 0) == 1 && first == GZIP_FIRST;
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
                bool all = window >= size || is_gzip(show);
                show->shown = show->not_records = 0;
                show->offset = all ? 0 : size - window;
                show->skip = !all;
                show->line_len = 0;
                unzip_reset(show->unzip);
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
                unzip_reset(show->unzip);
                return lseek(show->fd, 0, SEEK_SET) == 0;
        }
        /* What came between the last read and the rename. */
        if (!show_rest(show))
                return false;
        close(show->fd);
        show->offset = 0;
        show->line_len = 0;
        unzip_reset(show->unzip);
        show->fd = audit_open(show->file);
        return show->fd >= 0;
}

static bool show_follow(struct show *show)
{
        for (;;) {
                if (fflush(stdout) != 0)
                        return true; /* that the program says at its end */
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
        case 'h': return 0;
        case 'j': show->json = true; return 0;
        case 'e':
                show->filter.effect = str_of(value);
                if (strcmp(value, "allow") != 0 && strcmp(value, "deny") != 0 &&
                        strcmp(value, "error") != 0)
                        return audit_usage("--effect is allow, deny or error, not `%s`", value);
                return 0;
        case 'l':
                if (!str_to_u64(str_of(value), &number) || number < 1 || number > LAST_MOST)
                        return audit_usage("--last is a number from 1 to 10000, not `%s`", value);
                show->last = (size_t)number;
                return 0;
        }
        return 2; /* getopt has said why */
}

int audit_show(int argc, char **argv)
{
        static const struct option options[] = {{"id", required_argument, NULL, 'i'},
                {"caller", required_argument, NULL, 'c'}, {"effect", required_argument, NULL, 'e'},
                {"operation", required_argument, NULL, 'o'}, {"last", required_argument, NULL, 'l'},
                {"follow", no_argument, NULL, 'f'}, {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'}, {0}};
        struct audit_options taken = {.shorts = "h", .longs = options, .repeatable = ""};
        struct show show = {.file = AUDIT_FILE};
        char id[ID_UUID_LEN + 1];
        int option, status;

        while ((option = audit_option(&taken, argc, argv)) != -1)
                if ((status = show_option(&show, option, optarg, id)) != 0)
                        return status;
        if (taken.seen['h'])
                return audit_help();
        if (argc - optind > 1)
                return audit_usage("show takes one FILE; what is `%s`?", argv[optind + 1]);
        if (optind < argc)
                show.file = argv[optind];
        if (show.follow && !show.last)
                show.last = 10;
        bool standard = strcmp(show.file, "-") == 0;
        if (standard && show.follow)
                return audit_usage("--follow needs a FILE that grows, not standard input");
        show.fd = standard ? STDIN_FILENO : audit_open(show.file);
        if (show.fd < 0)
                return audit_unreadable(show.file);
        show.unzip = unzip_new();
        show.line = malloc(CHAIN_LINE_MOST);
        if (!show.line)
                abort();
        buf_init(&show.text, (size_t)8 * CHAIN_LINE_MOST);
        status = show_all(&show) ? 0 : audit_unreadable(show.file);
        if (status == 0 && !unzip_whole(show.unzip)) {
                fprintf(stderr, "dagward audit: %s: the gzip file ends too early\n",
                        audit_shown(show.file));
                status = 2;
        }
        if (show.not_records)
                fprintf(stderr,
                        "dagward audit: %s: %llu line(s) that are no audit record; "
                        "`dagward audit verify` says where\n",
                        audit_shown(show.file), (unsigned long long)show.not_records);
        buf_clear(&show.text);
        unzip_free(show.unzip);
        free(show.line);
        if (show.fd >= 0 && !standard)
                close(show.fd);
        return status ? status : show.shown == 0;
}
