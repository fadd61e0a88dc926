/*
 * dagward demo: sets up the little world, walks through it, and stays up to be played with.
 */
#include "tour.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"

enum { ARENA_BLOCK = 64 * 1024, ARENA_CEILING = 64 << 20, PASSED_MOST = 4096, LOOK_MS = 500 };

struct options {
        const char *keep;
        uint16_t port;
        bool once, help;
};

static void usage(FILE *out)
{
        fputs("usage: dagward demo [--once] [--port N] [--keep DIR]\n\n"
              "Shows Dagward at work on this machine, with nothing to set up: starts an OIDC\n"
              "issuer, an Azure DevOps emulator and the proxy on loopback, walks through allowed "
              "and\n"
              "refused requests, shows each beside its audit record, and stays up with commands "
              "to\n"
              "paste until Ctrl-C.\n\n"
              "  --once       end after the tour\n"
              "  --port N     the proxy's port on 127.0.0.1; default: any that is free\n"
              "  --keep DIR   use this folder (empty, or not there yet) for configuration, "
              "policy,\n"
              "               tokens, logs and the audit file, and leave it behind; default: a\n"
              "               temporary folder that goes when the demo ends\n\n"
              "Exit status: 0 every step went as it should, 1 one did not, or the demo could not "
              "be\n"
              "set up, 2 wrong usage.\n",
                out);
}

static bool parse_port(const char *text, uint16_t *port)
{
        uint64_t number;

        if (!str_to_u64(str_of(text), &number) || number == 0 || number > UINT16_MAX) {
                fprintf(stderr, "dagward demo: --port %s: is not a port (1 to 65535)\n", text);
                return false;
        }
        *port = (uint16_t)number;
        return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                {"once", no_argument, NULL, 'o'},
                {"port", required_argument, NULL, 'p'},
                {"keep", required_argument, NULL, 'k'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        int option;

        while ((option = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
                switch (option) {
                case 'o': o->once = true; break;
                case 'p':
                        if (!parse_port(optarg, &o->port))
                                return false;
                        break;
                case 'k': o->keep = optarg; break;
                case 'h': o->help = true; break;
                default: usage(stderr); return false;
                }
        }
        if (optind < argc) {
                fprintf(stderr, "dagward demo: `%s` is not expected here\n", argv[optind]);
                usage(stderr);
                return false;
        }
        return true;
}

/* The demo is the same on every machine: neither proxies, nor credentials, nor git's settings of
 * the user's are taken over by the programs it starts. */
static void forget_environment(void)
{
        static const char *const names[] = {"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY",
                "HTTPS_PROXY", "ALL_PROXY", "AZURE_TENANT_ID", "AZURE_CLIENT_ID",
                "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST", "GIT_DIR", "GIT_WORK_TREE",
                "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
                "GIT_NAMESPACE", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT",
                "GIT_CONFIG_SYSTEM", "GIT_SSL_NO_VERIFY", "GIT_TRACE", "GIT_CURL_VERBOSE",
                "GIT_TRACE_CURL", "GIT_TRACE_PACKET", "GIT_TEMPLATE_DIR", "GIT_EXEC_PATH",
                "GIT_PROXY_COMMAND", "GIT_ALLOW_PROTOCOL", "GIT_PROTOCOL", "SSH_ASKPASS"};

        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
                unsetenv(names[i]);
}

/* `dagward` when a shell finds this very file by that name, else its path. */
static const char *program_name(struct tour *t)
{
        char path[PATH_MAX];
        ssize_t len = readlink("/proc/self/exe", path, sizeof(path));
        struct str folder, rest = str_of(getenv("PATH"));
        struct stat self, other;

        if (len <= 0 || len == (ssize_t)sizeof(path) || stat("/proc/self/exe", &self) != 0)
                return "dagward";
        while (rest.len) {
                rest = str_cut(rest, ':', &folder);
                const char *name = arena_printf(&t->arena, "%.*s/dagward", STR_FMT(folder)).ptr;
                if (stat(name, &other) != 0)
                        continue;
                if (other.st_ino == self.st_ino && other.st_dev == self.st_dev)
                        return "dagward";
                break; /* a shell would run that one */
        }
        return arena_copy(&t->arena, str_view(path, (size_t)len)).ptr;
}

/* --- what is said before and after --- */

static void introduce(struct tour *t)
{
        report_title(t, "Dagward: a tour");
        report_prose(t,
                "Dagward stands between Airflow and Azure DevOps. A caller shows an OIDC token, a "
                "policy file says what it may ask for, Dagward lends a fresh upstream credential "
                "for "
                "that one request, and every request leaves evidence.");
        report_line(t, "issuer", "%-22s  signs the callers' tokens (and stands for Entra ID)",
                t->issuer_url);
        report_line(t, "upstream", "%-22s  an emulator of Azure DevOps", t->emulator_url);
        report_line(t, "proxy", "%-22s  Dagward; health and metrics on port %u", t->proxy_url,
                t->admin_port);
        report_line(t, "files", "%s  config.yaml, policy.yaml, audit.jsonl, token", t->folder);
        fflush(stdout);
}

static void offer_requests(struct tour *t)
{
        const char *token = tour_path(t, "token");

        report_paste(t, "start pipeline 42; then try 99",
                "curl -i -H \"Authorization: Bearer $(cat %s)\" \\\n"
                "  -H 'Content-Type: application/json' -d '{}' \\\n"
                "  '%s/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1'",
                token, t->proxy_url);
        report_paste(t, "somebody who may only look, by the role Viewer in the token",
                "curl -i -H \"Authorization: Bearer $(cat %s)\" \\\n"
                "  '%s/contoso/analytics/_apis/pipelines?api-version=7.1'",
                tour_path(t, "viewer-token"), t->proxy_url);
        report_paste(t, "clone the repository with the DAGs",
                "git -c http.extraHeader=\"Authorization: Bearer $(cat %s)\" \\\n"
                "  clone %s/contoso/analytics/_git/dags",
                token, t->proxy_url);
        report_paste(t, "an Airflow connection for HttpHook, HttpOperator and HttpSensor",
                "export AIRFLOW_CONN_AZDO='{\"conn_type\": \"http\", \"host\": \"%s\",\n"
                "  \"login\": \"airflow\", \"password\": \"'\"$(cat %s)\"'\"}'",
                t->proxy_url, token);
}

static void offer_commands(struct tour *t)
{
        const char *config = tour_path(t, "config.yaml");

        report_paste(t, "why pipeline 99 is refused, condition by condition",
                "%s policy explain --config %s \\\n"
                "  --issuer airflow --subject system:serviceaccount:airflow:worker \\\n"
                "  POST /contoso/analytics/_apis/pipelines/99/runs",
                t->program, config);
        report_paste(t, "one story by its correlation ID, and everything as it happens",
                "%s audit trace \\\n  %s %s\n%s audit show %s --follow", t->program,
                t->refused_correlation ? t->refused_correlation : "ID", t->audit_file, t->program,
                t->audit_file);
        report_paste(t, "who did what, what was refused, how long it took: a page for a browser",
                "%s audit report %s \\\n  --config %s -o %s/report.html", t->program, t->audit_file,
                config, t->folder);
        report_paste(t, "which operation a request is",
                "%s operations match POST \\\n"
                "  https://dev.azure.com/contoso/analytics/_apis/pipelines/42/runs",
                t->program);
        report_paste(t, "change the policy, check it, and let the proxy read it again",
                "${EDITOR:-vi} %s\n%s check --config %s && kill -HUP %d",
                tour_path(t, "policy.yaml"), t->program, config, (int)t->proxy.pid);
}

/* Until Ctrl-C, or until one of the programs ends. */
static bool stay(struct tour *t)
{
        report_title(t, "To paste into another terminal");
        offer_requests(t);
        offer_commands(t);
        report_prose(t, "All stays up until Ctrl-C.%s",
                t->kept ? "" : " Then the folder goes; `dagward demo --keep DIR` leaves one.");
        fflush(stdout);
        while (!tour_stopped()) {
                if (!tour_alive(t, &t->proxy) || !tour_alive(t, &t->emulator) ||
                        !tour_alive(t, &t->issuer))
                        return false;
                poll(NULL, 0, LOOK_MS);
        }
        return true;
}

/* Everything between the first child and the last. */
static int show_tour(struct tour *t)
{
        bool ok = tour_world_start(t);

        if (ok) {
                introduce(t);
                tour_walk(t);
                if (t->step == TOUR_STEPS)
                        report_summary(t);
                if (!t->once && !tour_stopped())
                        ok = stay(t);
        }
        if (!ok)
                fprintf(stderr, "dagward demo: %s\n", t->err.text);
        else if (t->step < TOUR_STEPS)
                fprintf(stderr, "dagward demo: %s\n",
                        ferror(stdout) ? "ended early: its output cannot be written"
                                       : "stopped before its end");
        return ok && t->good == TOUR_STEPS ? EXIT_YES : EXIT_NO;
}

int command_demo(int argc, char **argv)
{
        struct options o = {0};
        struct tour t = {0};
        int status = EXIT_NO;

        if (!parse(argc, argv, &o))
                return EXIT_USAGE;
        if (o.help) {
                usage(stdout);
                return EXIT_YES;
        }
        tour_catch_signals();
        forget_environment();
        umask(077);
        arena_init(&t.arena, ARENA_BLOCK, ARENA_CEILING);
        buf_init(&t.passed, PASSED_MOST);
        t.once = o.once;
        t.port = o.port;
        t.colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
        t.program = program_name(&t);
        if (tour_folder_make(&t, o.keep))
                status = show_tour(&t);
        else
                fprintf(stderr, "dagward demo: %s\n", t.err.text);
        tour_stop_children(&t);
        tour_folder_remove(&t);
        if (t.kept && t.folder)
                printf("Left behind: %s\n", t.folder);
        buf_clear(&t.passed);
        arena_clear(&t.arena);
        return status;
}
