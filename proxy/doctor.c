/*
 * doctor: does the world around a configuration work, seen from this machine?
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "dagward/base/buf.h"
#include "dagward/base/log.h"
#include "dagward/doctor/doctor.h"

struct options {
        struct doctor_request request;
        bool json, help;
};

static void usage(FILE *out)
{
        fputs("usage: dagward doctor --config FILE [--token FILE] [--only PART]... [--json]\n\n"
              "Checks the running world from this machine: issuers and their keys, clocks, TLS\n"
              "chains, whether each credential can be had and what each organization says to it,\n"
              "upstream, the audit log, ports, files and limits. Each finding has a cause and a\n"
              "remedy. Changes nothing, shows no secret, and ends within 30 seconds.\n\n"
              "  --config FILE  the configuration\n"
              "  --token FILE   a caller's token: says why it is refused, or which bindings apply\n"
              "  --only PART    configuration, policy, listener, issuer, token, credential,\n"
              "                 upstream, audit, sink or limits; may be given more than once\n"
              "  --json         the findings as one JSON object on stdout\n\n"
              "Run it as the user that dagward runs as: rights on files are that user's.\n"
              "docs/doctor.md lists all findings.\n"
              "Exit status: 0 all is well, 1 something is not, 2 wrong usage or a configuration\n"
              "that cannot be used.\n",
                out);
}

static bool add_part(const char *name, struct doctor_request *request)
{
        enum doctor_part part;

        if (doctor_part_named(str_of(name), &part)) {
                request->parts |= 1u << part;
                return true;
        }
        struct str names[DOCTOR_PARTS];
        for (int i = 0; i < DOCTOR_PARTS; i++)
                names[i] = str_of(doctor_part_name((enum doctor_part)i));
        fprintf(stderr, "dagward doctor: no part `%s`%s\n", name,
                error_did_you_mean(str_of(name), names, DOCTOR_PARTS));
        return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                {"config", required_argument, NULL, 'c'},
                {"token", required_argument, NULL, 't'},
                {"only", required_argument, NULL, 'o'},
                {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        int option;

        while ((option = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
                switch (option) {
                case 'c': o->request.config = optarg; break;
                case 't': o->request.token_file = optarg; break;
                case 'o':
                        if (!add_part(optarg, &o->request))
                                return false;
                        break;
                case 'j': o->json = true; break;
                case 'h': o->help = true; return true;
                default: return false;
                }
        }
        if (optind < argc) {
                fprintf(stderr, "dagward doctor: `%s` is one argument too many\n", argv[optind]);
                return false;
        }
        if (!o->request.parts)
                o->request.parts = DOCTOR_ALL_PARTS;
        else if (o->request.parts & 1u << DOCTOR_TOKEN && !o->request.token_file) {
                fprintf(stderr, "dagward doctor: --only token needs --token FILE\n");
                return false;
        }
        if (!o->request.config)
                fprintf(stderr, "dagward doctor: --config FILE is missing\n");
        return o->request.config != NULL;
}

/* --- JSON --- */

static void add_member(struct buf *out, const char *name, const char *value)
{
        buf_printf(out, ",\"%s\":", name);
        buf_json_str(out, str_of(value));
}

static void print_json(const struct diagnoses *list, bool loaded)
{
        struct buf out;

        buf_init(&out, 8 << 20);
        buf_printf(&out, "{\"healthy\":%s,\"problems\":%zu,\"warnings\":%zu,\"findings\":[",
                loaded && !list->problems && !list->warnings ? "true" : "false", list->problems,
                list->warnings);
        for (size_t i = 0; i < list->n; i++) {
                const struct diagnosis *d = &list->items[i];
                buf_printf(&out, "%s\n{\"part\":\"%s\"", i ? "," : "", doctor_part_name(d->part));
                add_member(&out, "subject", d->subject);
                add_member(&out, "name", d->name);
                add_member(&out, "level", doctor_level_name(d->level));
                add_member(&out, "found", d->found);
                add_member(&out, "cause", d->cause);
                add_member(&out, "remedy", d->remedy);
                buf_char(&out, '}');
        }
        BUF_LITERAL(&out, "]}\n");
        fwrite(out.data, 1, out.len, stdout);
        buf_clear(&out);
}

/* --- a terminal --- */

static bool colored;

static const char *color(enum doctor_level level)
{
        static const char *const codes[] = {"\033[32m", "\033[2m", "\033[33m", "\033[31m"};

        return colored ? codes[level] : "";
}

/* Breaks at blanks, so that no line is longer than a terminal. `used` columns of the first line are
 * taken; the others begin at `indent`. */
static void print_wrapped(const char *text, size_t used, int indent)
{
        enum { WIDTH = 100 };
        size_t room = used < WIDTH ? WIDTH - used : 0;

        while (strlen(text) > room) {
                size_t at = room;
                while (at > 0 && text[at] != ' ')
                        at--;
                if (at == 0 && used == (size_t)indent)
                        at = strcspn(text, " "); /* a word that fits no line */
                printf("%.*s", (int)at, text);
                text += at;
                while (*text == ' ')
                        text++;
                if (!*text)
                        break;
                printf("\n%*s", indent, "");
                used = (size_t)indent;
                room = WIDTH - used;
        }
        printf("%s\n", text);
}

static void print_labelled(const char *label, const char *text)
{
        enum { INDENT = 12, LABEL = 8 };

        printf("%*s%-*s", INDENT, "", LABEL, label);
        print_wrapped(text, INDENT + LABEL, INDENT + LABEL);
}

static void print_one(const struct diagnosis *d)
{
        enum { INDENT = 12 };
        size_t used = INDENT;

        printf("  %s%-8s%s  ", color(d->level), doctor_level_name(d->level),
                colored ? "\033[0m" : "");
        if (d->level >= DOCTOR_WARNING)
                used += (size_t)printf("%s: ", d->name);
        print_wrapped(d->found, used, INDENT);
        if (d->cause[0])
                print_labelled("cause:", d->cause);
        if (d->remedy[0])
                print_labelled("remedy:", d->remedy);
}

static bool same_group(const struct diagnosis *a, const struct diagnosis *b)
{
        return a->part == b->part && strcmp(a->subject, b->subject) == 0;
}

static void print_text(const struct diagnoses *list)
{
        size_t good = 0;

        colored = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
        for (size_t i = 0; i < list->n; i++) {
                const struct diagnosis *d = &list->items[i];
                if (i == 0 || !same_group(d, d - 1))
                        printf("%s%s%s%s\n", i ? "\n" : "", doctor_part_name(d->part),
                                d->subject[0] ? " " : "", d->subject);
                print_one(d);
                good += d->level == DOCTOR_OK;
        }
        printf("\n%zu problem%s, %zu warning%s, %zu ok", list->problems,
                list->problems == 1 ? "" : "s", list->warnings, list->warnings == 1 ? "" : "s",
                good);
        if (list->skipped)
                printf(", %zu not looked at", list->skipped);
        putchar('\n');
}

int command_doctor(int argc, char **argv)
{
        struct options o = {0};
        struct diagnoses list;

        if (!parse(argc, argv, &o)) {
                fprintf(stderr, "`dagward doctor --help` says more.\n");
                return EXIT_USAGE;
        }
        if (o.help) {
                usage(stdout);
                return EXIT_YES;
        }
        signal(SIGPIPE, SIG_IGN);
        log_set_level(LOG_LEVEL_NONE); /* the findings say it */
        diagnoses_init(&list);
        bool loaded = doctor_run(&o.request, &list);
        if (o.json)
                print_json(&list, loaded);
        else
                print_text(&list);
        bool well = list.problems == 0 && list.warnings == 0;
        diagnoses_clear(&list);
        if (!loaded)
                return EXIT_USAGE;
        return well ? EXIT_YES : EXIT_NO;
}
