/*
 * dagward policy: what a policy would decide, and whether its tests agree.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "commands.h"
#include "dagward/base/clock.h"
#include "dagward/policy/explain.h"
#include "dagward/policy/known.h"
#include "dagward/policy/tests.h"
#include "dagward/token/token.h"
#include "dagward/world/naming.h"
#include "dagward/world/preflight.h"
#include "policy_analyse.h"
#include "policy_diff.h"
#include "policy_log.h"

enum { MOST_FILES = 200, MOST_ROLES = 512, MOST_INPUT_BYTES = 16 << 20, MOST_CLAIMED = 16 };
enum { DIFF_MOST = 1000000 }; /* half a minute */

static const char help[] =
        "usage: dagward policy test    POLICY [--verbose]\n"
        "       dagward policy explain POLICY CALLER METHOD URL [--body FILE]\n"
        "                              [--claimed NAME=VALUE] [--reason TEXT] [--at TIME]\n"
        "       dagward policy who-can POLICY OPERATION [SELECTOR=VALUE...] [--at TIME]\n"
        "       dagward policy can     POLICY CALLER [--at TIME]\n"
        "       dagward policy lint    POLICY [--at TIME]\n"
        "       dagward policy diff    OLD NEW [--limit REQUESTS]\n"
        "       dagward policy replay  POLICY --log FILE... [--key PUBLIC] [--unverified]\n"
        "       dagward policy suggest [POLICY] --log FILE... [--since TIME] [--key PUBLIC] "
        "[--unverified]\n"
        "\n"
        "POLICY is --config FILE, which takes the policy files, and where issuers keep roles, "
        "from\n"
        "a configuration, or --policy FILE, once or several times. --format text, markdown (for\n"
        "comments on pull requests) or json goes with all of them; --json is short for the last.\n"
        "\n"
        "test     runs the `tests` of the policy files; --verbose also shows those that pass and\n"
        "         the entries that no test reaches. Exit status: 0 all passed, 1 one failed.\n"
        "explain  decides one request and says why, condition by condition, and what would have\n"
        "         to change. Exit status: 0 allowed, 1 denied.\n"
        "who-can  lists everybody who may do an operation, by which rule, and within which "
        "limits;\n"
        "         resources (projects=analytics pipelines=42) narrow the question. Exit status: 0\n"
        "         somebody may, 1 nobody.\n"
        "can      lists what one caller may and may not, entry by entry. Exit status: 0 some "
        "binding\n"
        "         applies, 1 none.\n"
        "lint     tells what looks like a mistake: what can never allow, adds nothing, is for "
        "every\n"
        "         project or everybody, grants credentials or tunnels, has expired, is a wide or\n"
        "         long break-glass binding, can never match, has a name that looks like another.\n"
        "         Exit status: 0 nothing found, 1 something.\n"
        "diff     tells what one policy allows and the other does not, role by role, with an "
        "example\n"
        "         request for each; OLD and NEW are files, or directories of *.yaml. At most\n"
        "         --limit requests (1000000) are tried. Exit status: 0 no difference, 1 some, or\n"
        "         not everything could be tried.\n"
        "replay   decides the requests of audit logs again. Exit status: 0 nothing would change, "
        "1\n"
        "         something would, or cannot be told.\n"
        "suggest  writes the least policy that allows what was allowed; with a policy, also which "
        "of\n"
        "         its rights were never used; with --since, what was used since then and never\n"
        "         before. Exit status: 0 something was used, 1 nothing.\n"
        "\n"
        "replay and suggest check the chain of each log as `dagward audit verify` does, and make\n"
        "nothing of one that was changed (exit status 2). --key PUBLIC (PEM): only this key may\n"
        "have signed; --unverified: the log is taken as it is, as one of lines picked out of it.\n"
        "\n"
        "CALLER is  --claims FILE    the token's payload, as JSON (`-`: standard input)\n"
        "           --issuer NAME    as bindings name it; default: found by the `iss` claim\n"
        "           --subject TEXT   default: the `sub` claim\n"
        "           --role NAME      a role that the token names; repeat it for more\n"
        "--claimed  what the caller says about itself (dag_id, run_id, task_id, map_index,\n"
        "           try_number, user_agent); repeat it for more\n"
        "--reason   the reason that it gives for breaking glass, as in X-Dagward-Reason\n"
        "--at       the time of the request, as 2027-03-31T18:00:00Z; default: now\n"
        "\n"
        "URL is a path (/contoso/...) or a whole URL.\n"
        "Exit status 2: wrong usage, or a file that has errors.\n";

struct options {
        const char *config;
        const char *policies[MOST_FILES];
        size_t n_policies;
        struct past_log log;
        size_t most;             /* requests that diff tries */
        int64_t at_ms, since_ms; /* since_ms: INT64_MIN: there is only one period */
        const char *claims, *issuer, *subject, *body, *reason;
        struct pair claimed[MOST_CLAIMED];
        size_t n_claimed;
        struct str roles[MOST_ROLES];
        size_t n_roles;
        enum report_format format;
        bool verbose, help;
};

static bool complain(const char *text, const char *detail)
{
        fprintf(stderr, "dagward policy: %s%s\n`dagward policy --help` says more.\n", text, detail);
        return false;
}

/* `dag_id=nightly` */
static bool take_claim(struct options *o, struct str text)
{
        struct str name, value = str_cut(text, '=', &name);

        if (!name.len || !value.len)
                return complain("--claimed takes NAME=VALUE, as dag_id=nightly", "");
        if (o->n_claimed == MOST_CLAIMED)
                return complain("too many claims", "");
        o->claimed[o->n_claimed++] = (struct pair){name, value};
        return true;
}

static bool take_format(struct options *o, const char *name)
{
        return report_format_named(str_of(name), &o->format) ||
               complain("--format is text, markdown or json, not ", name);
}

static bool take_time(const char *option, int64_t *wall_ms)
{
        char text[100];

        if (clock_parse(str_of(optarg), wall_ms))
                return true;
        snprintf(text, sizeof(text),
                "%s: not a date (2027-03-31) or time (2027-03-31T18:00:00Z): ", option);
        return complain(text, optarg);
}

static bool take_log(struct options *o, const char *name)
{
        if (o->log.n_files == PAST_MOST_FILES)
                return complain("too many logs: give them in parts", "");
        o->log.files[o->log.n_files++] = name;
        return true;
}

static bool take_limit(struct options *o, const char *text)
{
        uint64_t number;

        if (!str_to_u64(str_of(text), &number) || !number || number > SIZE_MAX)
                return complain("--limit is a number of requests, not ", text);
        o->most = (size_t)number;
        return true;
}

static bool take_option(struct options *o, int option)
{
        switch (option) {
        case 'c': o->config = optarg; return true;
        case 'p':
                if (o->n_policies == MOST_FILES)
                        return complain("too many policy files", "");
                o->policies[o->n_policies++] = optarg;
                return true;
        case 'l': return take_log(o, optarg);
        case 'u': o->log.unverified = true; return true;
        case 'k':
                if (o->log.n_keys == VERIFY_KEYS_MOST)
                        return complain("too many keys", "");
                o->log.keys[o->log.n_keys++] = optarg;
                return true;
        case 'L': return take_limit(o, optarg);
        case 'S': return take_time("--since", &o->since_ms);
        case 'C': o->claims = optarg; return true;
        case 'i': o->issuer = optarg; return true;
        case 's': o->subject = optarg; return true;
        case 'r':
                if (o->n_roles == MOST_ROLES)
                        return complain("too many roles", "");
                o->roles[o->n_roles++] = str_of(optarg);
                return true;
        case 'm': return take_claim(o, str_of(optarg));
        case 'b': o->body = optarg; return true;
        case 'a': return take_time("--at", &o->at_ms);
        case 'R': o->reason = optarg; return true;
        case 'f': return take_format(o, optarg);
        case 'j': o->format = REPORT_JSON; return true;
        case 'v': o->verbose = true; return true;
        case 'h': o->help = true; return true;
        default: return complain("see above", "");
        }
}

static const struct str subcommands[] = {{"test", 4}, {"explain", 7}, {"who-can", 7}, {"can", 3},
        {"lint", 4}, {"diff", 4}, {"replay", 6}, {"suggest", 7}};
enum subcommand { TEST, EXPLAIN, WHO_CAN, CAN, LINT, DIFF, REPLAY, SUGGEST };
enum { SUBCOMMANDS = SUGGEST + 1 };

/* The options that each takes, beside those that all do; and those that may be given twice. */
static const char *const taken[SUBCOMMANDS] = {[TEST] = "cpv",
        [EXPLAIN] = "cpCisrmbaR",
        [WHO_CAN] = "cpa",
        [CAN] = "cpCisra",
        [LINT] = "cpa",
        [DIFF] = "L",
        [REPLAY] = "cpluk",
        [SUGGEST] = "cplukS"};
static const char everybody_takes[] = "fjh", repeatable[] = "plrmk";

/* What would be passed over is refused: who gave it, meant something by it. */
static bool is_taken(enum subcommand what, const struct option *option, bool seen)
{
        char text[100];
        int letter = option->val;

        if (!strchr(taken[what], letter) && !strchr(everybody_takes, letter)) {
                snprintf(text, sizeof(text), "%s takes no --", subcommands[what].ptr);
                return complain(text, option->name);
        }
        if (seen && !strchr(repeatable, letter))
                return complain("given twice: --", option->name);
        return true;
}

static bool parse(int argc, char **argv, struct options *o, enum subcommand what)
{
        static const struct option longs[] = {
                {"config", required_argument, NULL, 'c'},
                {"policy", required_argument, NULL, 'p'},
                {"log", required_argument, NULL, 'l'},
                {"unverified", no_argument, NULL, 'u'},
                {"key", required_argument, NULL, 'k'},
                {"limit", required_argument, NULL, 'L'},
                {"since", required_argument, NULL, 'S'},
                {"claims", required_argument, NULL, 'C'},
                {"issuer", required_argument, NULL, 'i'},
                {"subject", required_argument, NULL, 's'},
                {"role", required_argument, NULL, 'r'},
                {"claimed", required_argument, NULL, 'm'},
                {"body", required_argument, NULL, 'b'},
                {"at", required_argument, NULL, 'a'},
                {"reason", required_argument, NULL, 'R'},
                {"format", required_argument, NULL, 'f'},
                {"json", no_argument, NULL, 'j'},
                {"verbose", no_argument, NULL, 'v'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        bool seen[128] = {false};
        int option;

        while ((option = getopt_long(argc, argv, "c:p:vh", longs, NULL)) != -1) {
                const struct option *one = longs;
                while (one->name && one->val != option)
                        one++;
                if ((one->name && !is_taken(what, one, seen[one->val])) || !take_option(o, option))
                        return false;
                if (one->name)
                        seen[one->val] = true;
        }
        if (o->help || what == DIFF)
                return true;
        if (what == SUGGEST && !o->config && !o->n_policies)
                return true;
        if (!o->config == !o->n_policies)
                return complain("give either --config FILE or --policy FILE", "");
        return true;
}

/* A whole file; `-` is standard input. Free the text with free(). */
static bool read_input(const char *path, struct str *out)
{
        FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
        struct buf bytes;
        char block[16384];
        size_t got;

        if (!file) {
                perror(path);
                return false;
        }
        buf_init(&bytes, MOST_INPUT_BYTES);
        while ((got = fread(block, 1, sizeof(block), file)) > 0)
                buf_add(&bytes, block, got);
        bool good = !ferror(file) && !bytes.overflow;
        if (file != stdin)
                fclose(file);
        if (good)
                *out = str_view(str_dup(buf_str(&bytes)), bytes.len);
        else
                fprintf(stderr, "%s: cannot be read, or is larger than 16 MiB\n", path);
        buf_clear(&bytes);
        return good;
}

/* The policy, and with --config what else the configuration says. */
static bool load(const struct options *o, struct preflight *p)
{
        struct error_list errors;
        bool good;

        error_list_init(&errors);
        *p = (struct preflight){0};
        if (o->config) {
                good = preflight_load(o->config, clock_wall_ms(), p, &errors);
        } else {
                p->policy = policy_load(o->policies, o->n_policies, &errors);
                good = p->policy != NULL;
        }
        error_list_print(&errors, stderr);
        error_list_clear(&errors);
        return good && p->policy;
}

static int run_tests(const struct options *o, const struct preflight *p)
{
        const struct policy_test_options options = {
                .namer = naming_for_policy,
                .now_ms = clock_wall_ms(),
                .out = stdout,
                .verbose = o->verbose,
                .format = o->format,
        };
        struct policy_test_counts counts = policy_run_tests(p->policy, &options);

        if (o->format == REPORT_TEXT)
                printf("%zu passed, %zu failed; %zu of %zu entries reached by a test\n",
                        counts.passed, counts.failed, counts.reached, counts.entries);
        return counts.failed ? EXIT_NO : EXIT_YES;
}

static const struct config_issuer *find_issuer(
        const struct options *o, const struct config *config, const struct tree *claims)
{
        struct str iss = tree_text(tree_member(claims, STR("iss")));

        for (size_t i = 0; config && i < config->n_issuers; i++) {
                const struct config_issuer *issuer = &config->issuers[i];
                if (o->issuer ? str_eq(issuer->name, str_of(o->issuer)) : false)
                        return issuer;
                for (size_t k = 0; !o->issuer && k < issuer->n_issuers; k++)
                        if (iss.ptr && str_eq(issuer->issuers[k], iss))
                                return issuer;
        }
        return NULL;
}

static void add_role(struct options *o, struct str role)
{
        if (role.len && o->n_roles < MOST_ROLES)
                o->roles[o->n_roles++] = role;
}

/* As a token's roles are read: a list, or one text with blanks between. */
static void add_roles(struct options *o, const struct tree *claim)
{
        struct str rest = tree_text(claim);
        bool list = claim && claim->kind == TREE_ARRAY;

        for (const struct tree *one = list ? claim->first : NULL; one; one = one->next)
                add_role(o, tree_text(one));
        while (rest.len) {
                struct str one;
                rest = str_cut(rest, ' ', &one);
                add_role(o, one);
        }
}

static bool build_caller(struct options *o, const struct config *config, const struct tree *claims,
        struct policy_caller *out)
{
        const struct config_issuer *issuer = find_issuer(o, config, claims);
        const struct tree *sub = tree_member(claims, STR("sub"));

        if (!issuer && !o->issuer)
                return complain("--issuer NAME is missing",
                        claims ? " (no configured issuer has the `iss` of these claims)" : "");
        if (config && !issuer)
                return complain("the configuration has no issuer ", o->issuer);
        for (size_t i = 0; issuer && i < issuer->n_roles_paths; i++)
                add_roles(o, tree_at(claims, issuer->roles_paths[i]));
        *out = (struct policy_caller){
                .issuer = issuer ? issuer->name : str_of(o->issuer),
                .subject = o->subject ? str_of(o->subject) : tree_text(sub),
                .roles = o->roles,
                .n_roles = o->n_roles,
                .claims = claims,
        };
        return true;
}

static int print_explanation(const struct options *o, const struct policy *policy,
        const struct policy_caller *caller, const struct policy_request *request,
        struct arena *arena)
{
        struct policy_explanation explanation;
        struct buf out;

        if (!policy_explain(policy, caller, request, arena, &explanation)) {
                complain("the explanation is too large", "");
                return EXIT_USAGE;
        }
        buf_init(&out, 16 << 20);
        switch (o->format) {
        case REPORT_TEXT: policy_explanation_text(&explanation, &out); break;
        case REPORT_MARKDOWN: policy_explanation_markdown(&explanation, &out); break;
        case REPORT_JSON: policy_explanation_json(&explanation, &out); break;
        }
        fwrite(out.data, 1, out.len, stdout);
        buf_clear(&out);
        return explanation.decision.effect == EFFECT_ALLOW ? EXIT_YES : EXIT_NO;
}

/* Adds to the request what the policy's files say that its names and ids are. */
static bool learn(const struct policy *policy, const struct policy_caller *caller,
        struct policy_request *request, struct arena *arena, struct error *err)
{
        struct resources *resources = arena_alloc(arena, sizeof(*resources));
        struct policy_grants *grants = policy_grants_new(policy, caller);

        if (resources) {
                *resources = *request->resources;
                request->resources = resources;
        }
        bool good = resources ? policy_learn(policy, grants, request, resources, arena, err)
                              : error_set(err, "the request is too large");
        policy_grants_free(grants);
        return good;
}

static int explain_request(struct options *o, const struct preflight *p, const struct tree *claims,
        const struct policy_question *question)
{
        struct policy_request request = {0};
        struct policy_caller caller;
        struct str reason;
        struct arena arena;
        struct error err;
        unsigned chars;
        const char *why = "";
        int status = EXIT_USAGE;

        if (!policy_reason_read(str_of(o->reason), &reason, &chars, &why)) {
                fprintf(stderr, "dagward policy: the --reason %s\n", why);
                return EXIT_USAGE;
        }

        if (!build_caller(o, p->config, claims, &caller))
                return EXIT_USAGE;
        arena_init(&arena, 64 * 1024, 256 << 20);
        if (!naming_for_policy(NULL, question, &arena, &request, &err)) {
                fprintf(stderr, "dagward policy: %s\n", err.text);
        } else {
                request.now_ms = o->at_ms;
                request.reason_chars = chars;
                if (!learn(p->policy, &caller, &request, &arena, &err))
                        fprintf(stderr, "dagward policy: %s\n", err.text);
                else
                        status = print_explanation(o, p->policy, &caller, &request, &arena);
        }
        arena_clear(&arena);
        return status;
}

/* --claims FILE, while it is used. */
struct claims_file {
        struct str text;
        struct arena arena;
        const struct tree *claims; /* NULL: the option is not given */
};

static void claims_file_close(struct claims_file *file)
{
        arena_clear(&file->arena);
        free((char *)file->text.ptr);
}

/* As tokens are read, but with a place for what is wrong. */
static bool claims_file_open(struct claims_file *file, const char *path)
{
        static const struct tree_bounds most = {TOKEN_MOST_DEPTH, TOKEN_MOST_VALUES};
        json_error_t error;

        *file = (struct claims_file){0};
        arena_init(&file->arena, 16 * 1024, 64 << 20);
        if (!path)
                return true;
        if (!read_input(path, &file->text))
                return false;
        json_t *json = json_loadb(file->text.ptr, file->text.len, JSON_REJECT_DUPLICATES, &error);
        if (json)
                file->claims = tree_read(file->text, &most, &file->arena);
        if (!json)
                fprintf(stderr, "%s:%d:%d: %s\n", path, error.line, error.column, error.text);
        else if (!file->claims || file->claims->kind != TREE_OBJECT)
                fprintf(stderr, "%s:1:1: %s\n", path,
                        file->claims ? "not a JSON object" : "more than a token may hold");
        bool good = file->claims && file->claims->kind == TREE_OBJECT;
        json_decref(json);
        if (!good)
                claims_file_close(file);
        return good;
}

static int explain(struct options *o, const struct preflight *p, char **words, int n)
{
        struct policy_question question = {0};
        struct claims_file file;
        int status = EXIT_USAGE;

        if (n != 2) {
                complain("explain needs METHOD and URL", n > 2 ? ", and nothing more" : "");
                return EXIT_USAGE;
        }
        for (const char *c = words[0]; *c; c++)
                if (*c >= 'a' && *c <= 'z') {
                        complain("a method is written in upper case, unlike ", words[0]);
                        return EXIT_USAGE;
                }
        question.method = str_of(words[0]);
        question.url = str_of(words[1]);
        question.claimed = o->claimed;
        question.n_claimed = o->n_claimed;
        if (!claims_file_open(&file, o->claims))
                return EXIT_USAGE;
        if (!o->body || read_input(o->body, &question.body))
                status = explain_request(o, p, file.claims, &question);
        free((char *)question.body.ptr);
        claims_file_close(&file);
        return status;
}

static int who_can(const struct options *o, const struct preflight *p, char **words, int n)
{
        return policy_print_who_can(p->policy, words, n, o->at_ms, o->format);
}

static int can(struct options *o, const struct preflight *p)
{
        struct policy_caller caller;
        struct claims_file file;
        int status = EXIT_USAGE;

        if (!claims_file_open(&file, o->claims))
                return EXIT_USAGE;
        if (build_caller(o, p->config, file.claims, &caller))
                status = policy_print_can(p->policy, &caller, o->at_ms, o->format);
        claims_file_close(&file);
        return status;
}

static int run(struct options *o, enum subcommand what, char **words, int n)
{
        struct preflight p = {0};
        int status = EXIT_USAGE;

        bool reads_logs = what == REPLAY || what == SUGGEST;
        bool has_words = what == EXPLAIN || what == WHO_CAN || what == DIFF || reads_logs;

        if (!has_words && n) {
                complain("one argument too many: ", words[0]);
                return status;
        }
        if (what == DIFF) {
                if (n == 2)
                        return policy_print_diff(words[0], words[1], o->most, o->format);
                complain("diff needs OLD and NEW", "");
                return status;
        }
        /* The shell makes several words of --log audit*.jsonl. */
        for (int i = 0; reads_logs && i < n && o->log.n_files; i++)
                if (!take_log(o, words[i]))
                        return status;
        if (reads_logs && !o->log.n_files) {
                complain("--log FILE is missing", "");
                return status;
        }
        if ((!o->config && !o->n_policies) || load(o, &p)) {
                switch (what) {
                case TEST: status = run_tests(o, &p); break;
                case EXPLAIN: status = explain(o, &p, words, n); break;
                case WHO_CAN: status = who_can(o, &p, words, n); break;
                case CAN: status = can(o, &p); break;
                case LINT: status = policy_print_lint(p.policy, o->at_ms, o->format); break;
                case REPLAY: status = policy_print_replay(p.policy, &o->log, o->format); break;
                case SUGGEST:
                        status = policy_print_suggestion(p.policy, &o->log, o->since_ms, o->format);
                        break;
                case DIFF: break; /* has policies of its own */
                }
        }
        preflight_clear(&p);
        return status;
}

int command_policy(int argc, char **argv)
{
        struct options o = {.at_ms = clock_wall_ms(), .since_ms = INT64_MIN, .most = DIFF_MOST};
        const char *what = argc > 1 ? argv[1] : "";

        if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0) {
                fputs(help, stdout);
                return EXIT_YES;
        }
        unsigned which = 0;
        while (which < SUBCOMMANDS && !str_eq(str_of(what), subcommands[which]))
                which++;
        if (which == SUBCOMMANDS) {
                fprintf(stderr, "dagward policy: %s%s%s\n%s",
                        *what ? "no subcommand " : "a subcommand is missing", what,
                        error_did_you_mean(str_of(what), subcommands, SUBCOMMANDS), help);
                return EXIT_USAGE;
        }
        if (!parse(argc - 1, argv + 1, &o, (enum subcommand)which))
                return EXIT_USAGE;
        if (o.help) {
                fputs(help, stdout);
                return EXIT_YES;
        }
        return run(&o, (enum subcommand)which, argv + 1 + optind, argc - 1 - optind);
}
