/*
 * dagward: an identity-aware reverse proxy between Apache Airflow and Azure DevOps.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "dagward/base/error.h"

static const struct command {
        const char *name;
        int (*run)(int argc, char **argv);
        const char *summary;
} commands[] = {
        {"serve", command_serve, "run the proxy"},
        {"demo", command_demo, "show it at work on this machine, with nothing to set up"},
        {"check", command_check, "validate configuration and policy, run the policy's tests"},
        {"doctor", command_doctor, "check the running world: issuers, credentials, upstream"},
        {"policy", command_policy, "explain a decision, run policy tests"},
        {"audit", command_audit, "verify and read audit files"},
        {"operations", command_operations, "list what Azure DevOps can be asked for"},
        {"agent", command_agent, "lend the token of a file to clients on this machine"},
        {"git-credential", command_git_credential, "answer git with the token of a file"},
        {"emulate", command_emulate, "run the demo's issuer or Azure DevOps emulator alone"},
        {"version", command_version, "version, build options, libraries"},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void usage(FILE *out)
{
        fprintf(out, "usage: dagward COMMAND [OPTION...]\n\n"
                     "An identity-aware proxy between Airflow and Azure DevOps.\n\n");
        for (size_t i = 0; i < N_COMMANDS; i++)
                fprintf(out, "  %-14s %s\n", commands[i].name, commands[i].summary);
        fprintf(out,
                "\n`dagward COMMAND --help` says more.\n"
                "Exit status: 0 yes or done, 1 a negative answer, 2 wrong usage or input, or what\n"
                "was to be printed could not be.\n");
}

/* What is opened later must not get the number of a standard stream that was closed: what is
 * written there would go into it. In its place stands what cannot be written. */
static void fill_standard_streams(void)
{
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        (void)!open("/dev/null", O_RDONLY);
}

/* An allocation that fails aborts without a word, because words may need memory. Async-signal-safe;
 * abort() ends the process behind it. */
static void on_abort(int number)
{
        static const char text[] =
                "error the process aborts: memory is out, or what it asserts is not so (then it is "
                "said above)\n";

        (void)number;
        if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
                _exit(128 + SIGABRT);
}

/* Used for the first time where memory is out, OpenSSL is set up by half, and its next use ends the
 * process. */
static bool set_up_openssl(void)
{
        return OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL) == 1 &&
               OSSL_LIB_CTX_get0_global_default() != NULL;
}

/* A report that is not all there must not look like a good one, whatever the command made of it. */
static int finish(int status)
{
        if (fflush(stdout) != 0)
                fprintf(stderr, "dagward: standard output cannot be written: %s\n",
                        strerror(errno));
        else if (ferror(stdout)) /* earlier, of what was more than a buffer */
                fprintf(stderr, "dagward: standard output cannot be written: not all is there\n");
        else
                return status;
        return EXIT_USAGE;
}

int main(int argc, char **argv)
{
        struct str names[N_COMMANDS];

        fill_standard_streams();
        signal(SIGABRT, on_abort);
        if (argc < 2) {
                usage(stderr);
                return EXIT_USAGE;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                strcmp(argv[1], "help") == 0) {
                usage(stdout);
                return finish(EXIT_YES);
        }
        const char *wanted = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
        if (!set_up_openssl()) {
                fprintf(stderr, "dagward: OpenSSL cannot be set up: memory is out, or its "
                                "configuration is wrong\n");
                return EXIT_USAGE;
        }
        for (size_t i = 0; i < N_COMMANDS; i++) {
                if (strcmp(wanted, commands[i].name) == 0)
                        return finish(commands[i].run(argc - 1, argv + 1));
                names[i] = str_of(commands[i].name);
        }
        fprintf(stderr, "dagward: no command `%s`%s\n`dagward --help` lists them.\n", argv[1],
                error_did_you_mean(str_of(argv[1]), names, N_COMMANDS));
        return EXIT_USAGE;
}
