/*
 * git-credential: a helper of git that answers with the token of a file (gitcredentials(7)), for
 * one origin if it is told which.
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
        fputs("usage: dagward git-credential --token-file FILE [--user NAME]\n"
              "       [--url URL] get|store|erase\n\n"
              "Answers git's question for a credential with the token that FILE holds now. What "
              "git\n"
              "wants to store or erase is ignored: the file is somebody else's. For one host:\n\n"
              "  git config --global credential.https://dagward.example.helper \\\n"
              "      '!dagward git-credential --url https://dagward.example --token-file "
              "/var/run/secrets/dagward/token'\n\n"
              "  --user NAME   the user name beside it (default: airflow)\n"
              "  --url URL     answer for this scheme, host and port alone; without it for all "
              "that\n"
              "                git asks for, but not for http:// beyond loopback\n\n"
              "Exit status: 0 done, or not asked for that URL; 1 there is no token, or it may not "
              "go\n"
              "there; 2 wrong usage.\n",
                out);
}

/* --- whom git asks for --- */

enum { LINE_MOST = 16 * 1024, LINES_MOST = 1000 };

struct asked {
        char protocol[16], host[300]; /* "": not said */
        const char *wrong;            /* NULL: git would say it so */
};

/* Its length without the end, -1 at the end of all; what no line of git holds is `wrong`. */
static ssize_t read_line(FILE *in, char *line, const char **wrong)
{
        ssize_t n = 0;
        int c;

        while ((c = getc(in)) != EOF && c != '\n') {
                if (c == '\0' || c == '\r' || n + 1 == LINE_MOST) {
                        *wrong = "a line that git does not say";
                        return -1;
                }
                line[n++] = (char)c;
        }
        line[n] = '\0';
        return n || c == '\n' ? n : -1;
}

static void keep(struct asked *asked, char *out, size_t size, struct str value)
{
        if (out[0])
                asked->wrong = "two protocols or hosts";
        else if (value.len == 0 || value.len >= size)
                asked->wrong = "no protocol or host that can be";
        else
                snprintf(out, size, "%.*s", STR_FMT(value));
}

/* Up to an empty line, or the end. */
static void read_all(FILE *in, struct asked *asked)
{
        static char line[LINE_MOST];
        ssize_t n;

        *asked = (struct asked){.wrong = NULL};
        for (int i = 0; !asked->wrong && (n = read_line(in, line, &asked->wrong)) > 0; i++) {
                struct str name, value = str_cut(str_view(line, (size_t)n), '=', &name);
                if (i == LINES_MOST)
                        asked->wrong = "lines without end";
                else if (str_eq(name, STR("protocol")))
                        keep(asked, asked->protocol, sizeof(asked->protocol), value);
                else if (str_eq(name, STR("host")))
                        keep(asked, asked->host, sizeof(asked->host), value);
        }
}

static bool same_origin(const struct config_url *a, const struct config_url *b)
{
        return a->https == b->https && a->port == b->port && str_eq_fold(a->host, b->host);
}

enum answer { ANSWER, NOT_OURS, REFUSED };

/* Whether the token may go where git will send it. `only` is NULL when no URL was named: then git's
 * own configuration says whose helper this is. */
static enum answer judge(const struct asked *asked, const struct config_url *only)
{
        struct arena arena;
        struct config_url url;
        struct error err;
        enum answer answer = REFUSED;
        const char *why = asked->wrong;

        arena_init(&arena, 4096, 64 * 1024);
        struct str text = arena_printf(&arena, "%s://%s", asked->protocol, asked->host);
        if (!why && (!asked->protocol[0] || !asked->host[0]))
                why = "no protocol or no host";
        if (why)
                fprintf(stderr, "dagward git-credential: git asks with %s\n", why);
        else if (!config_url_parse(&arena, text, &url, &err) || url.path.len > 1)
                answer = NOT_OURS; /* ssh, smtp, file */
        else if (only)
                answer = same_origin(&url, only) ? ANSWER : NOT_OURS;
        else if (url.https || url.loopback)
                answer = ANSWER;
        else
                fprintf(stderr, "dagward git-credential: the token would cross the network in the "
                                "clear; `--url` may say that it is to\n");
        arena_clear(&arena);
        return answer;
}

static int get(const char *path, const char *user, const struct config_url *only)
{
        struct secret token = {0};
        struct error err = {{0}};
        struct asked asked;

        read_all(stdin, &asked);
        switch (judge(&asked, only)) {
        case NOT_OURS: return EXIT_YES; /* git asks the next one */
        case REFUSED: return EXIT_NO;
        case ANSWER: break;
        }
        if (!agent_token_read(path, &token, &err)) {
                fprintf(stderr, "dagward git-credential: %s\n", err.text);
                return EXIT_NO;
        }
        struct str text = secret_reveal(&token);
        printf("username=%s\npassword=%.*s\n", user, STR_FMT(text));
        secret_drop(&token);
        return EXIT_YES;
}

static bool read_url(const char *text, struct arena *arena, struct config_url *url)
{
        struct error err;

        arena_init(arena, 4096, 64 * 1024);
        if (!config_url_parse(arena, str_of(text), url, &err)) {
                fprintf(stderr, "dagward git-credential: --url: %s\n", err.text);
                return false;
        }
        if (url->path.len > 1) {
                fprintf(stderr, "dagward git-credential: --url is a URL without a path\n");
                return false;
        }
        return true;
}

int command_git_credential(int argc, char **argv)
{
        static const struct option longs[] = {{"token-file", required_argument, NULL, 't'},
                {"user", required_argument, NULL, 'u'}, {"url", required_argument, NULL, 'l'},
                {"help", no_argument, NULL, 'h'}, {0}};
        const char *path = NULL, *user = "airflow", *only = NULL;
        struct arena arena;
        struct config_url url;
        struct asked asked;
        int option;

        while ((option = getopt_long(argc, argv, "t:u:h", longs, NULL)) != -1) {
                switch (option) {
                case 't': path = optarg; break;
                case 'u': user = optarg; break;
                case 'l': only = optarg; break;
                case 'h': usage(stdout); return EXIT_YES;
                default: return EXIT_USAGE;
                }
        }
        const char *what = optind < argc ? argv[optind] : "";
        if (!path || strpbrk(user, "\r\n") || optind + 1 != argc) {
                fprintf(stderr, "dagward git-credential: --token-file FILE and `get` are needed\n");
                return EXIT_USAGE;
        }
        if (strcmp(what, "get") != 0) {
                /* git says more than this in versions to come, and wants no answer. */
                read_all(stdin, &asked);
                return EXIT_YES;
        }
        if (!only)
                return get(path, user, NULL);
        int status = read_url(only, &arena, &url) ? get(path, user, &url) : EXIT_USAGE;
        arena_clear(&arena);
        return status;
}
