/*
 * check: is the configuration, with the policy it names, fit to be run? Opens no socket.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "commands.h"
#include "dagward/base/clock.h"
#include "dagward/policy/tests.h"
#include "dagward/world/naming.h"
#include "dagward/world/preflight.h"

struct options {
        const char *config;
        const char *schema;
        bool reference, json, no_files, help;
};

static void usage(FILE *out)
{
        fputs("usage: dagward check --config FILE [--no-files] [--json]\n"
              "       dagward check --schema config|policy\n"
              "       dagward check --reference\n\n"
              "Validates a configuration and the policy files it names, looks into the files that\n"
              "both name, and runs the tests of the policy and of the shadow policy. Opens no\n"
              "socket.\n\n"
              "  --config FILE   the configuration\n"
              "  --no-files      do not look for certificates, keys, secrets and the audit log\n"
              "  --json          the result as one JSON object on stdout\n"
              "  --schema WHICH  print the JSON Schema of configuration or policy files\n"
              "  --reference     print all settings as Markdown\n\n"
              "Errors are printed as file:line:column: message, all of them in one run.\n"
              "Exit status: 0 good, 1 a policy test failed, 2 something is invalid.\n",
                out);
}

static bool parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                {"config", required_argument, NULL, 'c'},
                {"schema", required_argument, NULL, 's'},
                {"reference", no_argument, NULL, 'r'},
                {"no-files", no_argument, NULL, 'n'},
                {"json", no_argument, NULL, 'j'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        int option;

        while ((option = getopt_long(argc, argv, "c:h", longs, NULL)) != -1) {
                switch (option) {
                case 'c': o->config = optarg; break;
                case 's': o->schema = optarg; break;
                case 'r': o->reference = true; break;
                case 'n': o->no_files = true; break;
                case 'j': o->json = true; break;
                case 'h': o->help = true; break;
                default: return false;
                }
        }
        if (optind < argc) {
                fprintf(stderr, "dagward check: `%s` is one argument too many\n", argv[optind]);
                return false;
        }
        if (o->help || o->schema || o->reference || o->config)
                return true;
        fprintf(stderr, "dagward check: --config FILE is missing\n");
        return false;
}

static int print_buf(void (*write)(struct buf *out))
{
        struct buf out;

        buf_init(&out, 4 << 20);
        write(&out);
        fwrite(out.data, 1, out.len, stdout);
        buf_clear(&out);
        return EXIT_YES;
}

static int print_schema(const char *which)
{
        if (strcmp(which, "config") == 0)
                return print_buf(config_schema_write);
        if (strcmp(which, "policy") == 0)
                return print_buf(policy_schema_write);
        fprintf(stderr, "dagward check: --schema is `config` or `policy`, not `%s`\n", which);
        return EXIT_USAGE;
}

/* What came of the tests of one policy. */
struct tested {
        struct policy_test_counts counts;
        char *json; /* the object that policy_run_tests wrote; NULL: none. Owned */
};

static const char *json_of(const struct tested *tested)
{
        return tested->json && tested->json[0] ? tested->json : "null";
}

static void print_json(struct error_list *errors, const struct preflight *p,
        const struct tested *live, const struct tested *shadow)
{
        printf("{\"valid\":%s,\"policy\":\"%s\",\"shadow\":\"%s\",\"findings\":[",
                errors->errors ? "false" : "true", p->policy_digest, p->shadow_digest);
        for (size_t i = 0; i < errors->n; i++) {
                const struct finding *f = &errors->findings[i];
                struct buf out;
                buf_init(&out, 64 << 10);
                buf_str_add(&out, i ? STR(",{\"file\":") : STR("{\"file\":"));
                buf_json_str(&out, str_of(f->file));
                buf_printf(&out,
                        ",\"line\":%u,\"column\":%u,\"level\":\"%s\",\"message\":", f->line,
                        f->column, f->warning ? "warning" : "error");
                buf_json_str(&out, str_of(f->text));
                buf_char(&out, '}');
                fwrite(out.data, 1, out.len, stdout);
                buf_clear(&out);
        }
        printf("],\"tests\":%s,\"shadow_tests\":%s}\n", json_of(live), json_of(shadow));
}

static const char *plural(size_t n)
{
        return n == 1 ? "" : "s";
}

static void print_policy(const char *what, const struct policy *policy, const char *digest,
        const struct policy_test_counts *tests)
{
        struct policy_size size = policy_size(policy);

        printf("%s %.12s: %zu file%s, %zu role%s, %zu binding%s; tests: %zu passed, %zu failed\n",
                what, digest, size.files, plural(size.files), size.roles, plural(size.roles),
                size.bindings, plural(size.bindings), tests->passed, tests->failed);
}

static void print_summary(
        const struct preflight *p, const struct tested *live, const struct tested *shadow)
{
        const struct config *c = p->config;

        printf("%s: good: %zu listener%s, %zu issuer%s, %zu organization%s, %zu credential%s\n",
                c->file.ptr, c->n_listeners, plural(c->n_listeners), c->n_issuers,
                plural(c->n_issuers), c->upstream.n_organizations,
                plural(c->upstream.n_organizations), c->n_credentials, plural(c->n_credentials));
        if (c->outgoing_proxy.url.text.ptr || c->outgoing_proxy.environment)
                printf("outgoing proxy: %s%s%s\n",
                        c->outgoing_proxy.url.text.ptr ? c->outgoing_proxy.url.text.ptr : "none",
                        c->outgoing_proxy.environment ? ", from " : "",
                        !c->outgoing_proxy.environment ? ""
                        : c->outgoing_proxy.variable   ? c->outgoing_proxy.variable
                                                       : "an environment that names none");
        print_policy("policy", p->policy, p->policy_digest, &live->counts);
        if (p->shadow)
                print_policy("shadow policy", p->shadow, p->shadow_digest, &shadow->counts);
}

/* `which`: what the messages call the policy, or NULL. */
static void run_tests(const struct options *o, const struct policy *policy, const char *which,
        int64_t now_ms, struct tested *out)
{
        size_t len = 0;
        FILE *memory = o->json ? open_memstream(&out->json, &len) : NULL;
        const struct policy_test_options options = {
                .namer = naming_for_policy,
                .now_ms = now_ms,
                .out = o->json ? memory : stderr,
                .format = o->json ? REPORT_JSON : REPORT_TEXT,
                .which = which,
        };

        if (policy)
                out->counts = policy_run_tests(policy, &options);
        if (memory)
                fclose(memory);
}

static int check(const struct options *o)
{
        struct preflight p;
        struct error_list errors;
        struct tested live = {0}, shadow = {0};
        int64_t now_ms = clock_wall_ms();

        error_list_init(&errors);
        bool good = preflight_load(o->config, now_ms, &p, &errors);
        if (p.config && !o->no_files && !preflight_files(p.config, &errors))
                good = false;
        /* the tests say something even if a certificate is missing */
        run_tests(o, p.policy, NULL, now_ms, &live);
        run_tests(o, p.shadow, "shadow policy", now_ms, &shadow);
        if (o->json)
                print_json(&errors, &p, &live, &shadow);
        else
                error_list_print(&errors, stderr);
        if (good && !o->json)
                print_summary(&p, &live, &shadow);
        free(live.json);
        free(shadow.json);
        preflight_clear(&p);
        error_list_clear(&errors);
        if (!good)
                return EXIT_USAGE;
        return live.counts.failed || shadow.counts.failed ? EXIT_NO : EXIT_YES;
}

int command_check(int argc, char **argv)
{
        struct options o = {0};

        if (!parse(argc, argv, &o)) {
                usage(stderr);
                return EXIT_USAGE;
        }
        if (o.help) {
                usage(stdout);
                return EXIT_YES;
        }
        if (o.schema)
                return print_schema(o.schema);
        if (o.reference)
                return print_buf(config_reference_write);
        return check(&o);
}
