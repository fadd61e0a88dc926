/*
 * dagward audit: what happened, and whether the log still says so.
 */
#include "audit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "audit_files.h"
#include "audit_looks.h"
#include "commands.h"

static const char help[] =
        "usage: dagward audit verify FILE... [--key PUBLIC] [--anchor FILE] [--closed] [--json]\n"
        "       dagward audit show [FILE] [--id ID] [--caller SUBJECT] [--effect EFFECT]\n"
        "                          [--operation NAME] [--last N] [--follow] [--json]\n"
        "       dagward audit trace ID [FILE...]\n"
        "       dagward audit report FILE... -o OUT.html\n"
        "       dagward audit export --format csv|ocsf FILE...\n"
        "\n"
        "verify  recomputes the hash chain of one or more log files, plain or gzip, in any order\n"
        "        (`-` is standard input), checks the signatures of its checkpoints, and names the\n"
        "        first line that is not what was written.\n"
        "          --key PUBLIC   only this key may have signed (PEM); may be given several times\n"
        "          --anchor FILE  the checkpoints in FILE must be in the log, if it reaches so "
        "far\n"
        "          --closed       the log must end with the checkpoint of a rotation or a stop\n"
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

int audit_help(void)
{
        fputs(help, stdout);
        return 0;
}

int audit_usage(const char *format, ...)
{
        va_list args;

        fprintf(stderr, "dagward audit: ");
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fprintf(stderr, "; see `dagward audit --help`\n");
        return 2;
}

int audit_option(struct audit_options *options, int argc, char **argv)
{
        int letter = getopt_long(argc, argv, options->shorts, options->longs, NULL);
        const struct option *one = options->longs;

        if (letter == -1 || letter == '?')
                return letter;
        while (one->name && one->val != letter)
                one++;
        bool twice = options->seen[letter] && !strchr(options->repeatable, letter);
        options->seen[letter] = true;
        if (!twice)
                return letter;
        fprintf(stderr, "%s: given twice: --%s\n", argv[0], one->name);
        return '?';
}

int audit_unreadable(const char *file)
{
        fprintf(stderr, "dagward audit: %s: %s\n", audit_shown(file), audit_why());
        return 2;
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
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
                return audit_help();
        if (strcmp(word, "verify") == 0) {
                argv[1] = verify_name;
                return audit_verify(argc - 1, argv + 1);
        }
        if (strcmp(word, "show") == 0) {
                argv[1] = show_name;
                return audit_show(argc - 1, argv + 1);
        }
        return *word ? audit_usage("there is no `%s`", word) : audit_usage("say what to do");
}
