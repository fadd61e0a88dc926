/*
 * emulate: the demo's identity provider or its Azure DevOps, alone, for the tests and for trying
 * things out by hand.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "azure_devops.h"
#include "commands.h"
#include "issuer.h"

enum { TOKENS_MOST = 32 };

struct options {
        uint16_t port, tls_port;
        bool has_port, has_tls_port, help;
        const char *issuer, *data, *certificate, *key;
        struct str tokens[TOKENS_MOST];
        size_t n_tokens;
};

static void usage(FILE *out)
{
        fputs("usage: dagward emulate issuer --port N [--issuer URL]\n"
              "       dagward emulate azure-devops --port N --data DIR [--token T]...\n"
              "               [--tls-port N --certificate FILE --key FILE]\n\n"
              "Runs one half of the demo's surroundings on 127.0.0.1. When it listens, it prints\n"
              "one line, `READY http://127.0.0.1:PORT`, and serves until SIGTERM or Ctrl-C.\n"
              "A port of 0 is any free one.\n\n"
              "issuer: an OpenID provider that signs what it is asked to sign.\n"
              "  --issuer URL         its name in tokens and discovery (default: its address)\n"
              "  GET  /.well-known/openid-configuration, /jwks\n"
              "  POST /mint           JSON claims -> token; `_alg`: RS256, ES256, PS256\n"
              "  POST /rotate         new keys; ?keep=1 leaves the old ones in the set\n"
              "  POST /token          grant_type=client_credentials&client_id=... -> token\n"
              "  POST /TENANT/oauth2/v2.0/token   as Entra ID; client_id `refused` is refused\n"
              "  GET  /count          requests by path\n"
              "  try: curl -d '{\"sub\":\"me\",\"roles\":[\"operator\"]}' URL/mint\n\n"
              "azure-devops: organization contoso: REST, discovery, npm, git and LFS.\n"
              "  --data DIR           where its repositories are; made when missing\n"
              "  --token T            a token it takes, besides any that begins with emulated-\n"
              "  --tls-port N, --certificate FILE, --key FILE\n"
              "                       the same by TLS; its URL is behind the first one in READY,\n"
              "                       and behind that `storage=URL`, for *.blob.core.windows.net\n"
              "  POST /~emulator      JSON: how to misbehave (signin, next_status, retry_after,\n"
              "                       delay_ms, close, lose, times, ...)\n"
              "  GET  /~emulator/runs all runs and releases ever started\n"
              "  GET, DELETE /~emulator/requests   heads of what came; forget them\n\n"
              "Exit status: 0 after SIGTERM or SIGINT, 2 wrong usage or no such port.\n",
                out);
}

static bool complain(const char *format, const char *what)
{
        fputs("dagward emulate: ", stderr);
        fprintf(stderr, format, what);
        fputs("\n`dagward emulate --help` says more.\n", stderr);
        return false;
}

static bool read_port(const char *text, uint16_t *port, bool *has)
{
        uint64_t number;

        if (!str_to_u64(str_of(text), &number) || number > UINT16_MAX)
                return complain("`%s` is no port: 0 to 65535, 0 for any free one", text);
        *port = (uint16_t)number;
        *has = true;
        return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                {"port", required_argument, NULL, 'p'},
                {"issuer", required_argument, NULL, 'i'},
                {"data", required_argument, NULL, 'd'},
                {"token", required_argument, NULL, 't'},
                {"tls-port", required_argument, NULL, 's'},
                {"certificate", required_argument, NULL, 'c'},
                {"key", required_argument, NULL, 'k'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        int option;

        opterr = 0;
        while ((option = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
                switch (option) {
                case 'p':
                        if (!read_port(optarg, &o->port, &o->has_port))
                                return false;
                        break;
                case 's':
                        if (!read_port(optarg, &o->tls_port, &o->has_tls_port))
                                return false;
                        break;
                case 't':
                        if (o->n_tokens == TOKENS_MOST)
                                return complain("%s", "too many --token");
                        o->tokens[o->n_tokens++] = str_of(optarg);
                        break;
                case 'i': o->issuer = optarg; break;
                case 'd': o->data = optarg; break;
                case 'c': o->certificate = optarg; break;
                case 'k': o->key = optarg; break;
                case 'h': o->help = true; return true;
                case ':': return complain("%s needs a value", argv[optind - 1]);
                default: return complain("no option `%s`", argv[optind - 1]);
                }
        }
        if (optind < argc)
                return complain("`%s` is one argument too many", argv[optind]);
        return o->has_port || complain("%s", "--port N is missing");
}

/* Before there are threads, so that only wait_for_end takes them. */
static void block_signals(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGTERM);
        sigaddset(set, SIGINT);
        pthread_sigmask(SIG_BLOCK, set, NULL);
        signal(SIGPIPE, SIG_IGN);
}

static void wait_for_end(const sigset_t *set)
{
        int number;

        while (sigwait(set, &number) != 0)
                ;
}

static int failed(const struct error *err)
{
        fprintf(stderr, "dagward emulate: %s\n", err->text);
        return EXIT_USAGE;
}

static int run_issuer(const struct options *o, const sigset_t *signals)
{
        struct emu_issuer_settings settings = {.port = o->port, .url = str_of(o->issuer)};
        struct error err = {{0}};
        struct emu_issuer *issuer = emu_issuer_start(&settings, &err);

        if (!issuer)
                return failed(&err);
        printf("READY http://127.0.0.1:%u\n", (unsigned)emu_issuer_port(issuer));
        if (fflush(stdout) == 0) /* else nobody learns where it is */
                wait_for_end(signals);
        emu_issuer_stop(issuer);
        return EXIT_YES;
}

static int run_azure_devops(const struct options *o, const sigset_t *signals)
{
        struct azure_devops_settings settings = {
                .port = o->port,
                .tls = o->has_tls_port,
                .tls_port = o->tls_port,
                .certificate = o->certificate,
                .key = o->key,
                .data = o->data,
                .tokens = o->tokens,
                .n_tokens = o->n_tokens,
        };
        struct error err = {{0}};
        struct azure_devops *emulator = azure_devops_start(&settings, &err);

        if (!emulator)
                return failed(&err);
        printf("READY http://127.0.0.1:%u", (unsigned)azure_devops_port(emulator));
        if (o->has_tls_port)
                printf(" https://localhost:%u", (unsigned)azure_devops_tls_port(emulator));
        printf(" storage=http://127.0.0.1:%u\n", (unsigned)azure_devops_storage_port(emulator));
        if (fflush(stdout) == 0) /* else nobody learns where it is */
                wait_for_end(signals);
        azure_devops_stop(emulator);
        return EXIT_YES;
}

/* An option that the chosen half does not know is a mistake, not something to pass over. */
static bool fits(const struct options *o, bool issuer)
{
        if (issuer) {
                const char *other = o->data           ? "--data"
                                    : o->n_tokens     ? "--token"
                                    : o->has_tls_port ? "--tls-port"
                                    : o->certificate  ? "--certificate"
                                    : o->key          ? "--key"
                                                      : NULL;
                return !other || complain("%s is for azure-devops", other);
        }
        if (o->issuer)
                return complain("%s is for issuer", "--issuer");
        if (!o->data)
                return complain("%s", "--data DIR is missing");
        if (o->has_tls_port != (o->certificate != NULL) || o->has_tls_port != (o->key != NULL))
                return complain("%s", "--tls-port, --certificate and --key go together");
        return true;
}

int command_emulate(int argc, char **argv)
{
        struct options o = {0};
        sigset_t signals;

        if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
                usage(stdout);
                return EXIT_YES;
        }
        if (argc < 2) {
                complain("%s", "what? `issuer` or `azure-devops`");
                return EXIT_USAGE;
        }
        bool issuer = strcmp(argv[1], "issuer") == 0;
        if (!issuer && strcmp(argv[1], "azure-devops") != 0) {
                complain("`%s` is neither `issuer` nor `azure-devops`", argv[1]);
                return EXIT_USAGE;
        }
        if (!parse(argc - 1, argv + 1, &o))
                return EXIT_USAGE;
        if (o.help) {
                usage(stdout);
                return EXIT_YES;
        }
        if (!fits(&o, issuer))
                return EXIT_USAGE;
        block_signals(&signals);
        return issuer ? run_issuer(&o, &signals) : run_azure_devops(&o, &signals);
}
