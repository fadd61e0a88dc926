/*
 * dagward audit report: a page about a log.
 */
#include "audit_report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "audit.h"
#include "audit_files.h"
#include "audit_looks.h"
#include "commands.h"
#include "dagward/base/clock.h"
#include "dagward/world/preflight.h"

enum { MOST_POLICIES = 200, PAGE_MOST = 256 << 20 };

static const char help[] =
        "usage: dagward audit report FILE... -o OUT.html [--since TIME] [--until TIME]\n"
        "                            [--policy FILE... | --config FILE] [--compare-since TIME]\n"
        "                            [--key FILE]...\n"
        "\n"
        "Writes one HTML page that needs nothing else: who did what, denials, authentication,\n"
        "break-glass uses, unused rights, drift, DAGs, the life of credentials and keys, requests\n"
        "per hour, how long they took, and whether the chain is whole.\n"
        "\n"
        "FILEs may be gzip, in any order; `-` is standard input.\n"
        "-o, --output     where to write it; `-` is standard output\n"
        "--since, --until  only records of that time: 2026-11-23, or with a time of day and Z or "
        "an\n"
        "                 offset; the end does not belong to it. The chain is checked in any "
        "case.\n"
        "--policy         a policy file, once or several times; or the configuration that names\n"
        "--config         them: tells which rights were not used\n"
        "--compare-since  tells what was used since then and not before, and the other way round\n"
        "--key            the public key that signs the log, once or several times: the page says\n"
        "                 that it was checked; without it the files' own word is taken\n"
        "\n"
        "Exit status: 0 done and the chain is whole, 1 done but it is not, 2 wrong usage or a "
        "file\n"
        "that cannot be read.\n";

struct options {
        const char *output, *config;
        const char *policies[MOST_POLICIES];
        size_t n_policies;
        char keys[VERIFY_KEYS_MOST][SIGNING_KEY_LEN + 1];
        size_t n_keys;
        int64_t since_ms, until_ms, compare_ms;
};

static bool take_time(const char *name, const char *text, int64_t *out)
{
        if (clock_parse(str_of(text), out))
                return true;
        audit_complain("report", "%s: not a time: %s", name, text);
        return false;
}

static bool take_key(struct options *o, const char *file)
{
        struct error err;

        if (o->n_keys == VERIFY_KEYS_MOST)
                error_set(&err, "too many keys");
        else if (signing_public_load(file, o->keys[o->n_keys], &err))
                return ++o->n_keys;
        audit_complain("report", "--key: %s", err.text);
        return false;
}

static bool take_option(struct options *o, int option)
{
        switch (option) {
        case 'o': o->output = optarg; return true;
        case 'c': o->config = optarg; return true;
        case 'p':
                if (o->n_policies == MOST_POLICIES) {
                        audit_complain("report", "too many policy files");
                        return false;
                }
                o->policies[o->n_policies++] = optarg;
                return true;
        case 'k': return take_key(o, optarg);
        case 's': return take_time("--since", optarg, &o->since_ms);
        case 'u': return take_time("--until", optarg, &o->until_ms);
        case 'C': return take_time("--compare-since", optarg, &o->compare_ms);
        }
        return false; /* getopt has said why */
}

/* False when there are errors; without --policy and --config nothing is loaded. */
static bool load_policy(const struct options *o, struct preflight *p)
{
        struct error_list errors;
        bool good = true;

        *p = (struct preflight){0};
        error_list_init(&errors);
        if (o->config)
                good = preflight_load(o->config, clock_wall_ms(), p, &errors) && p->policy;
        else if (o->n_policies)
                good = (p->policy = policy_load(o->policies, o->n_policies, &errors)) != NULL;
        error_list_print(&errors, stderr);
        error_list_clear(&errors);
        return good;
}

static bool read_file(struct audit_report *r, const char *name)
{
        struct audit_file file;
        struct str line;
        uint64_t too_long = 0;

        if (!audit_file_open(&file, name)) {
                audit_file_complain("report", &file);
                return false;
        }
        verify_file(&r->verify, strcmp(name, "-") == 0 ? "<stdin>" : name);
        while (audit_file_line(&file, &line)) {
                for (; too_long < file.too_long; too_long++)
                        verify_feed(&r->verify, "(too long)\n", 11);
                verify_feed(&r->verify, line.ptr, line.len);
                if (!file.torn) {
                        verify_feed(&r->verify, "\n", 1);
                        audit_report_add(r, line);
                }
        }
        verify_file_end(&r->verify);
        r->damaged += file.too_long + file.torn;
        bool good = !file.why[0];
        if (!good)
                audit_file_complain("report", &file);
        audit_file_close(&file);
        return good;
}

/* Whole or not at all, and only for the one who asked: it says who did what. */
static bool write_page(struct audit_report *r, const char *name)
{
        struct buf page;
        char part[4200];
        bool standard = strcmp(name, "-") == 0, good = false;

        buf_init(&page, PAGE_MOST);
        audit_report_page(r, &page);
        if (page.overflow) {
                errno = EFBIG;
        } else if (standard) {
                good = fwrite(page.data, 1, page.len, stdout) == page.len;
        } else {
                snprintf(part, sizeof(part), "%s.XXXXXX", name);
                int fd = mkostemp(part, O_CLOEXEC);
                FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
                good = file && fwrite(page.data, 1, page.len, file) == page.len;
                good = file && fclose(file) == 0 && good && rename(part, name) == 0;
                int why = errno;
                if (fd >= 0 && !good)
                        unlink(part);
                errno = why;
        }
        if (!good && !(standard && ferror(stdout))) /* that the program says at its end */
                fprintf(stderr, "dagward audit report: %s: %s\n", audit_shown(name),
                        strerror(errno));
        buf_clear(&page);
        return good;
}

static int report_files(
        const struct options *o, const struct preflight *p, const char **files, size_t n)
{
        struct audit_report *r = calloc(1, sizeof(*r));
        int status = EXIT_USAGE;
        bool good = true;

        if (!r)
                abort();
        audit_files_sort(files, n);
        r->files = files;
        r->n_files = n;
        r->since_ms = o->since_ms;
        r->until_ms = o->until_ms;
        r->compare_ms = o->compare_ms;
        r->has_policy = p->policy != NULL;
        audit_report_init(r);
        for (size_t i = 0; i < o->n_keys; i++)
                good = verify_pin(&r->verify, o->keys[i]) && good;
        if (r->has_policy || o->compare_ms != INT64_MIN)
                r->usage = policy_usage_new(p->policy, o->compare_ms, REPORT_USES_MOST);
        for (size_t i = 0; i < n && good; i++)
                good = read_file(r, files[i]);
        if (good) {
                verify_end(&r->verify, false);
                audit_report_end(r);
                if (write_page(r, o->output))
                        status = verify_good(&r->verify) && r->verify.records ? EXIT_YES : EXIT_NO;
        }
        if (status == EXIT_NO)
                fprintf(stderr, "dagward audit report: the chain is not whole; "
                                "`dagward audit verify` says more\n");
        audit_report_clear(r);
        free(r);
        return status;
}

int audit_report(int argc, char **argv)
{
        static const struct option longs[] = {{"output", required_argument, NULL, 'o'},
                {"config", required_argument, NULL, 'c'}, {"policy", required_argument, NULL, 'p'},
                {"since", required_argument, NULL, 's'}, {"until", required_argument, NULL, 'u'},
                {"compare-since", required_argument, NULL, 'C'},
                {"key", required_argument, NULL, 'k'}, {"help", no_argument, NULL, 'h'}, {0}};
        struct audit_options taken = {.shorts = "ho:", .longs = longs, .repeatable = "pk"};
        struct options o = {.since_ms = INT64_MIN, .until_ms = INT64_MAX, .compare_ms = INT64_MIN};
        struct preflight p;
        int option, status = EXIT_USAGE;

        while ((option = audit_option(&taken, argc, argv)) != -1) {
                if (option == 'h') {
                        fputs(help, stdout);
                        return EXIT_YES;
                }
                if (!take_option(&o, option))
                        return EXIT_USAGE;
        }
        if (optind == argc)
                return audit_complain("report", "say which FILE");
        if (!o.output)
                return audit_complain("report", "-o OUT.html is missing");
        if (o.since_ms >= o.until_ms)
                return audit_complain("report", "nothing lies between --since and --until");
        if (o.config && o.n_policies)
                return audit_complain("report", "give either --config or --policy");
        if (load_policy(&o, &p))
                status = report_files(&o, &p, (const char **)argv + optind,
                        audit_files_logs("report", argv + optind, (size_t)(argc - optind)));
        preflight_clear(&p);
        return status;
}
