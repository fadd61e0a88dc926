/*
 * git-credential: a helper of git that answers with the token of a file (gitcredentials(7)).
 *
 *   git config credential.https://dagward.example.helper '!dagward git-credential --token-file F'
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "commands.h"

static void usage(FILE *out)
{
        fputs("usage: dagward git-credential --token-file FILE [--user NAME] get|store|erase\n\n"
              "Answers git's question for a credential with the token that FILE holds now. What "
              "git\n"
              "wants to store or erase is ignored: the file is somebody else's. For one host:\n\n"
              "  git config --global credential.https://dagward.example.helper \\\n"
              "      '!dagward git-credential --token-file /var/run/secrets/dagward/token'\n\n"
              "  --user NAME   the user name beside it (default: airflow)\n\n"
              "Exit status: 0 done, 1 there is no token, 2 wrong usage.\n",
                out);
}

/* What git says about the request; there is nothing in it to decide by. */
static void read_all(FILE *in)
{
        char line[1024];

        while (fgets(line, sizeof(line), in))
                if (line[0] == '\n')
                        return;
}

static int get(const char *path, const char *user)
{
        struct secret token = {0};
        struct error err = {{0}};

        read_all(stdin);
        if (!agent_token_read(path, &token, &err)) {
                fprintf(stderr, "dagward git-credential: %s\n", err.text);
                return EXIT_NO;
        }
        struct str text = secret_reveal(&token);
        printf("username=%s\npassword=%.*s\n", user, STR_FMT(text));
        secret_drop(&token);
        return EXIT_YES;
}

int command_git_credential(int argc, char **argv)
{
        static const struct option longs[] = {{"token-file", required_argument, NULL, 't'},
                {"user", required_argument, NULL, 'u'}, {"help", no_argument, NULL, 'h'}, {0}};
        const char *path = NULL, *user = "airflow";
        int option;

        while ((option = getopt_long(argc, argv, "t:u:h", longs, NULL)) != -1) {
                switch (option) {
                case 't': path = optarg; break;
                case 'u': user = optarg; break;
                case 'h': usage(stdout); return EXIT_YES;
                default: return EXIT_USAGE;
                }
        }
        const char *what = optind < argc ? argv[optind] : "";
        if (!path || strpbrk(user, "\r\n") || optind + 1 != argc) {
                fprintf(stderr, "dagward git-credential: --token-file FILE and `get` are needed\n");
                return EXIT_USAGE;
        }
        if (strcmp(what, "get") == 0)
                return get(path, user);
        /* git says more than this in versions to come, and wants no answer (gitcredentials(7)). */
        read_all(stdin);
        return EXIT_YES;
}
