/*
 * dagward audit export: records for other programs.
 */
#include "audit_export.h"

#include <errno.h>
#include <stdio.h>

#include "audit.h"
#include "audit_files.h"
#include "audit_looks.h"
#include "commands.h"
#include "dagward/base/clock.h"

enum { ARENA_BYTES = 64 * 1024, ARENA_MOST = 1 << 20, FLUSH_BYTES = 1 << 20, OUT_MOST = 4 << 20 };

static const char help[] =
        "usage: dagward audit export --format csv|ocsf FILE... [--since TIME] [--until TIME]\n"
        "                            [--intents]\n"
        "\n"
        "Writes records to standard output.\n"
        "\n"
        "csv   RFC 4180, one row for each record and a first one with names. A value that a\n"
        "      spreadsheet would take for a formula (it begins with = + - @) has an apostrophe in\n"
        "      front.\n"
        "ocsf  one JSON object a line, Open Cybersecurity Schema Framework 1.3: API Activity "
        "(6003)\n"
        "      for requests, Base Event for events. Intents are left out unless --intents is "
        "given,\n"
        "      since the outcome of the same request says all of it again.\n"
        "\n"
        "FILEs may be gzip, and are written in the order given; `-` is standard input.\n"
        "--since, --until  only records of that time: 2026-11-23, or with a time of day and Z or "
        "an\n"
        "                  offset; the end does not belong to it\n"
        "\n"
        "Exit status: 0 done, 1 some lines are no records and were passed over, 2 wrong usage, or "
        "a\n"
        "file that cannot be read or written.\n";

struct exporting {
        bool csv, ocsf, intents;
        int64_t since_ms, until_ms;
        struct buf out;
        struct arena arena;
        uint64_t damaged;
};

static bool flush(struct exporting *e)
{
        bool good = fwrite(e->out.data, 1, e->out.len, stdout) == e->out.len;

        buf_reset(&e->out);
        return good;
}

static bool export_line(struct exporting *e, struct str line)
{
        struct audit_line record;

        arena_reset(&e->arena);
        if (!audit_line_read(line, &e->arena, &record)) {
                e->damaged++;
                return true;
        }
        if (record.fields.time_ms < e->since_ms || record.fields.time_ms >= e->until_ms)
                return true;
        if (e->csv)
                export_csv(&e->out, &record);
        else if (record.fields.kind != AUDIT_INTENT || e->intents)
                export_ocsf(&e->out, &record);
        return e->out.len < FLUSH_BYTES || flush(e);
}

static int export_file(struct exporting *e, const char *name)
{
        struct audit_file file;
        struct str line;
        bool written = true;

        if (!audit_file_open(&file, name)) {
                audit_file_complain("export", &file);
                return EXIT_USAGE;
        }
        while (written && audit_file_line(&file, &line))
                written = export_line(e, line);
        bool good = !file.why[0];
        if (!good)
                audit_file_complain("export", &file);
        e->damaged += file.too_long;
        audit_file_close(&file);
        return good && written ? EXIT_YES : EXIT_USAGE;
}

static int export_all(struct exporting *e, const char *const *files, size_t n)
{
        int status = EXIT_YES;

        buf_init(&e->out, OUT_MOST);
        arena_init(&e->arena, ARENA_BYTES, ARENA_MOST);
        if (e->csv)
                export_csv_head(&e->out);
        for (size_t i = 0; i < n && status == EXIT_YES; i++)
                status = export_file(e, files[i]);
        /* What was read before a failure is there. */
        if (!flush(e) && status == EXIT_YES)
                status = EXIT_USAGE;
        if (e->damaged) {
                fprintf(stderr,
                        "dagward audit export: %llu line(s) that are no audit record; "
                        "`dagward audit verify` says where\n",
                        (unsigned long long)e->damaged);
                if (status == EXIT_YES)
                        status = EXIT_NO;
        }
        buf_clear(&e->out);
        arena_clear(&e->arena);
        return status;
}

int audit_export(int argc, char **argv)
{
        static const struct option longs[] = {{"format", required_argument, NULL, 'f'},
                {"since", required_argument, NULL, 's'}, {"until", required_argument, NULL, 'u'},
                {"intents", no_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'}, {0}};
        struct audit_options taken = {.shorts = "h", .longs = longs, .repeatable = ""};
        struct exporting e = {.since_ms = INT64_MIN, .until_ms = INT64_MAX};
        int option;

        while ((option = audit_option(&taken, argc, argv)) != -1) {
                int64_t *time = option == 's' ? &e.since_ms : &e.until_ms;
                switch (option) {
                case 'f':
                        e.csv = strcmp(optarg, "csv") == 0;
                        e.ocsf = strcmp(optarg, "ocsf") == 0;
                        if (!e.csv && !e.ocsf)
                                return audit_complain(
                                        "export", "--format is csv or ocsf, not `%s`", optarg);
                        break;
                case 's':
                case 'u':
                        if (!clock_parse(str_of(optarg), time))
                                return audit_complain("export", "not a time: %s", optarg);
                        break;
                case 'i': e.intents = true; break;
                case 'h': fputs(help, stdout); return EXIT_YES;
                default: return EXIT_USAGE; /* getopt has said why */
                }
        }
        if (!e.csv && !e.ocsf)
                return audit_complain("export", "--format csv or --format ocsf is missing");
        if (e.csv && e.intents)
                return audit_complain("export", "--intents is for ocsf: csv has them in any case");
        if (e.since_ms >= e.until_ms)
                return audit_complain("export", "nothing lies between --since and --until");
        if (optind == argc)
                return audit_complain("export", "say which FILE");
        return export_all(&e, (const char *const *)argv + optind,
                audit_files_logs("export", argv + optind, (size_t)(argc - optind)));
}
