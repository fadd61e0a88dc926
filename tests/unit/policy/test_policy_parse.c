#include "policy_kit.h"

#include <unistd.h>

#include "dagward/base/buf.h"

#include "dagward/base/clock.h"

/* A file, and what is said about it: "line:column: text" each on a line; "" nothing. */
struct row {
        const char *text;
        const char *findings;
};

static void write_findings(const struct error_list *errors, struct buf *out)
{
        for (size_t i = 0; i < errors->n; i++) {
                const struct finding *one = &errors->findings[i];
                buf_printf(out, "%u:%u: %s%s\n", one->line, one->column,
                        one->warning ? "warning: " : "", one->text);
        }
}

static void check_rows(const struct row *rows, size_t n)
{
        size_t wrong = 0;

        for (size_t i = 0; i < n; i++) {
                struct error_list errors;
                struct buf said;
                error_list_init(&errors);
                buf_init(&said, 1 << 20);
                struct policy *policy = policy_load_text("p.yaml", str_of(rows[i].text), &errors);
                write_findings(&errors, &said);
                /* errors refuse the file, warnings do not */
                if (!str_eq(buf_str(&said), str_of(rows[i].findings)) ||
                        (policy == NULL) != (errors.errors > 0)) {
                        print_message("row %zu:\n%s\nsaid:\n%.*s\nwanted:\n%s\n", i, rows[i].text,
                                STR_FMT(buf_str(&said)), rows[i].findings);
                        wrong++;
                }
                policy_unref(policy);
                buf_clear(&said);
                error_list_clear(&errors);
        }
        assert_int_equal(wrong, 0);
}
#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

#define B "bindings: [{callers: {issuer: i}, roles: r, credential: c}]\n"
#define ENTRY(entry) "version: 1\nroles: {r: {allow: [\n" entry "\n]}}\n" B
#define DENY(entry) "version: 1\nroles: {r: {deny: [\n" entry "\n]}}\n" B

static void entries_that_are_not_understood_refuse_the_file(void **state)
{
        static const struct row rows[] = {
                {ENTRY("{operations: [pipelines.runs.run]}"), ""},
                {ENTRY("{operation: [pipelines.runs.run]}"),
                        "3:2: no selector `operation`; did you mean `operations`?\n"},
                {ENTRY("{operations: [pipelines.runs.rum]}"),
                        "3:15: no operation `pipelines.runs.rum` in the catalogue; did you mean "
                        "`pipelines.runs.run`?\n"},
                {ENTRY("{operations: [git.fetsh]}"), "3:15: no operation `git.fetsh` in the "
                                                     "catalogue; did you mean `git.fetch`?\n"},
                {ENTRY("{operations: ['pipline.*']}"), "3:15: `pipline.*` matches no operation\n"},
                {ENTRY("{operations: ['pipe*lines.runs.run']}"),
                        "3:15: `pipe*lines.runs.run`: `*` may only stand alone or at the end of a "
                        "part between dots\n"},
                {ENTRY("{access: [reed]}"), "3:11: no access class `reed`: read, write, execute, "
                                            "manage or delete; did you mean `read`?\n"},
                {ENTRY("{access: [Read]}"), "3:11: no access class `Read`: read, write, execute, "
                                            "manage or delete; did you mean `read`?\n"},
                {ENTRY("{scopes: [vso.biuld]}"),
                        "3:11: no scope `vso.biuld` in the catalogue; did you mean `vso.build`?\n"},
                {ENTRY("{areas: [piplines]}"),
                        "3:10: no area `piplines` in the catalogue; did you mean `pipelines`?\n"},
                {ENTRY("{areas: ['*lines']}"),
                        "3:10: `*lines`: `*` may only stand alone or at the end\n"},
                {ENTRY("{operations: []}"), "3:14: `operations` is empty and would match nothing: "
                                            "leave it out, or name something\n"},
                {ENTRY("{operations: ['*'], projects: []}"),
                        "3:31: `projects` is empty and would match nothing: leave it out, or name "
                        "something\n"},
                {ENTRY("{projects: [analytics]}"),
                        "3:1: an `allow` entry needs one of `operations`, `access`, `scopes`, "
                        "`areas` or `path`\n"},
                {ENTRY("{method: GET}"),
                        "3:1: an `allow` entry needs one of `operations`, `access`, `scopes`, "
                        "`areas` or `path`\n"},
                {ENTRY("{}"), "3:1: an `allow` entry without selectors; for everything write "
                              "operations: [\"*\"]\n"},
                {DENY("{}"), "3:1: a `deny` entry without selectors; for everything write "
                             "operations: [\"*\"]\n"},
                {DENY("{projects: [a]}"), ""},
                {ENTRY("{operations: ['*'], where: {refs: [refs/heads/main], status: []}}"), ""},
                {ENTRY("{operations: [pipelines.runs.run], where: {refs: [refs/heads/a]}, where: "
                       "{paths: [a]}}"),
                        "3:67: duplicate key `where`, already given in line 3\n"},
                {ENTRY("{operations: ['*'], where: {}}"), "3:28: `where` without a condition\n"},
                {ENTRY("{operations: ['*'], where: [a]}"),
                        "3:28: `where` must be a mapping, not a list\n"},
                {ENTRY("{operations: ['*'], where: {variable: []}}"),
                        "3:29: `where` knows no `variable`; did you mean `variables`?\n"},
                {ENTRY("{operations: ['*'], where: {variables: [a]}}"),
                        "3:40: `variables` has values by name: {name: [values]}; or [] for none at "
                        "all\n"},
                {ENTRY("{operations: ['*'], where: {variables: {'a*b': c}}}"),
                        "3:41: `a*b` in `variables`: `*` may only stand alone or at the end\n"},
                {ENTRY("{operations: ['*'], where: {status: ['*x']}}"),
                        "3:38: `*x` in `status`: `*` may only stand alone or at the end\n"},
                {ENTRY("{operations: [build.builds.list], where: {variables: []}}"),
                        "3:43: no operation of this entry says `variables`\n"},
                {DENY("{operations: ['*'], where: {status: []}}"),
                        "3:37: an empty list means \"may not be said\", which only an `allow` can "
                        "ask for; on a `deny`, list what is refused (`*` is any value)\n"},
                {ENTRY("{operations: ['*'], claimed: {dag_id: [a, 'b*']}}"), ""},
                {ENTRY("{operations: ['*'], claimed: {dagid: a}}"),
                        "3:31: callers claim no `dagid`; did you mean `dag_id`?\n"},
                {DENY("{operations: ['*'], claimed: {dag_id: a}}"),
                        "3:30: what a caller claims about itself nobody has verified: `claimed` "
                        "can "
                        "narrow an `allow`, and a `deny` by it would be gone with the claim\n"},
                {ENTRY("{operations: ['*'], projects: ['a*b']}"),
                        "3:32: `a*b` in `projects`: `*` may only stand alone or at the end; write "
                        "the values one by one\n"},
                {ENTRY("{operations: ['*'], projects: [a/b]}"),
                        "3:32: `a/b` in `projects`: a name has no `/`\n"},
                {ENTRY("{operations: ['*'], repositories: [a/b/c]}"),
                        "3:36: `a/b/c` in `repositories`: a name has no `/`\n"},
                {ENTRY("{operations: ['*'], repositories: [/b]}"),
                        "3:36: `/b` in `repositories`: a repository is `name` or `project/name`\n"},
                {ENTRY("{operations: [pipelines.runs.run], refs: [main]}"),
                        "3:43: `main` in `refs`: a ref is written in full: refs/heads/main, "
                        "refs/tags/v1, refs/heads/*\n"},
                {ENTRY("{operations: ['*'], builds: [last]}"),
                        "3:30: `last` in `builds`: these are known by number, or `*`\n"},
                {ENTRY("{operations: ['*'], pipelines: [042]}"),
                        "3:33: `042` in `pipelines`: a number has no leading zero\n"},
                {ENTRY("{operations: [git.fetch], refs: [refs/heads/main]}"),
                        "3:27: warning: a fetch reads what is reachable from any ref: `refs` does "
                        "not limit it\n"},
                {DENY("{operations: [git.fetch], refs: [refs/heads/main]}"),
                        "3:27: warning: a fetch reads what is reachable from any ref: `refs` does "
                        "not limit it, and this entry denies nothing\n"},
                {ENTRY("{operations: [git.fetch, git.push], refs: [refs/heads/main]}"), ""},
                {ENTRY("{method: [GTE], path: /a}"),
                        "3:11: no method `GTE`; did you mean `GET`?\n"},
                {ENTRY("{method: [get], path: /a}"),
                        "3:11: no method `get`; did you mean `GET`?\n"},
                {ENTRY("{method: GET, path: a/b}"),
                        "3:21: `a/b` in `path`: begins with `/`; a segment is text, `text*` or "
                        "`*`; the last one may be `**`\n"},
                {ENTRY("{method: GET, path: '/a/**/b'}"),
                        "3:21: `/a/**/b` in `path`: begins with `/`; a segment is text, `text*` or "
                        "`*`; the last one may be `**`\n"},
                {ENTRY("{method: GET, path: '/a?b=c'}"),
                        "3:21: `/a?b=c` in `path`: a path pattern has no query\n"},
                /* all of a file in one run */
                {ENTRY("{operations: [nope.nope.nope], project: a}, {acess: [read]}"),
                        "3:15: no operation `nope.nope.nope` in the catalogue\n"
                        "3:32: no selector `project`; did you mean `projects`?\n"
                        "3:46: no selector `acess`; did you mean `access`?\n"},
        };
        (void)state;
        CHECK_ROWS(rows);
}

#define R "version: 1\nroles: {r: {allow: [{access: [read]}]}}\n"

static void bindings_that_are_not_understood_refuse_the_file(void **state)
{
        static const struct row rows[] = {
                {R B, ""},
                {R, "2:9: warning: no binding gives anybody the role `r`\n"},
                {R "bindings: [{callers: {issuer: i}, roles: rr, credential: c}]\n",
                        "3:42: no role `rr`; did you mean `r`?\n"
                        "2:9: warning: no binding gives anybody the role `r`\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r}]\n",
                        "3:12: the binding's roles allow requests, so it needs a `credential` for "
                        "them\n"},
                {R "bindings: [{callers: {issuer: i}, credential: c}]\n",
                        "3:12: a binding needs `roles`\n"
                        "2:9: warning: no binding gives anybody the role `r`\n"},
                {R "bindings: [{roles: r, credential: c}]\n",
                        "3:12: a binding needs `callers`, with at least an `issuer`\n"},
                {R "bindings: [{callers: {subject: a}, roles: r, credential: c}]\n",
                        "3:22: `callers` needs an `issuer`: a subject means nothing without it\n"},
                {R "bindings: [{callers: {issuer: '*'}, roles: r, credential: c}]\n",
                        "3:31: an `issuer` is one name from the configuration, without `*`\n"},
                {R "bindings: [{callers: {issuer: i, subject: 'a*b'}, roles: r, credential: c}]\n",
                        "3:43: `a*b`: `*` may only stand alone or at the end\n"},
                {R "bindings: [{callers: {issuer: i, subjekt: a}, roles: r, credential: c}]\n",
                        "3:34: unknown key `subjekt`; did you mean `subject`?\n"},
                {R "bindings: [{callers: {issuer: i, claims: {}}, roles: r, credential: c}]\n",
                        "3:42: `claims` is empty: leave it out\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, expires: soon}]\n",
                        "3:69: `expires`: not a date (2027-03-31) or time "
                        "(2027-03-31T18:00:00Z)\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c,\n"
                   "  not_before: 2026-02-02, expires: 2026-02-01}]\n",
                        "3:12: the binding expires before it begins\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, break_glass: "
                   "true}]\n",
                        "3:60: a break-glass binding needs `expires`: whoever it is for is asked "
                        "again then; at most 90 days after it begins are advised\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, expires: "
                   "2030-01-01,\nbreak_glass: {reason_at_least: 9}}]\n",
                        "4:32: `reason_at_least` must be a whole number from 10 to 500, not `9`\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, expires: "
                   "2030-01-01,\nbreak_glass: {reason: 20}}]\n",
                        "4:15: unknown key `reason`\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, expires: "
                   "2030-01-01,\nbreak_glass: {}}]\n",
                        "4:14: `break_glass` without `reason_at_least`: write `break_glass: "
                        "true`\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, expires: "
                   "2030-01-01,\nbreak_glass: sometimes}]\n",
                        "4:14: `break_glass` must be true or false, not `sometimes`\n"},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, break_glass: "
                   "false}]\n",
                        ""},
                {R "bindings: [{callers: {issuer: i}, roles: r, credential: c, expires: "
                   "2030-01-01, break_glass: {reason_at_least: 500}}]\n",
                        ""},
                {R "bindings:\n- {name: a, callers: {issuer: i}, roles: r, credential: c}\n"
                   "- {name: A, callers: {issuer: j}, roles: r, credential: c}\n",
                        "5:3: a binding named `A` is already at p.yaml:4\n"},
                {"version: 1\nroles: {r: {allow: [{access: [read]}]}, R: {deny: [{access: "
                 "[read]}]}}\n" B,
                        "2:41: role `R` is already defined at p.yaml:2\n"
                        "2:41: warning: no binding gives anybody the role `R`\n"},
                {"version: 1\nroles: {r: {includes: [a], allow: [{access: [read]}]},\n"
                 "  a: {allow: [{areas: [git]}]}}\n" B,
                        ""},
                {"version: 1\nroles: {r: {includes: a}, a: {allow: [{areas: [git]}]}}\n" B, ""},
                {"version: 1\nroles: {r: {includes: [aa]}, a: {allow: [{areas: [git]}]}}\n" B,
                        "2:24: no role `aa`; did you mean `a`?\n"
                        "2:30: warning: no binding gives anybody the role `a`\n"},
                {"version: 1\nroles: {r: {includes: [a]}, a: {includes: [b]},\n"
                 "  b: {includes: [r], allow: [{areas: [git]}]}}\n" B,
                        "2:9: role `r` includes itself\n2:29: role `a` includes itself\n"
                        "3:3: role `b` includes itself\n"},
                {"version: 1\nroles: {\"r\\u200b\": {allow: [{access: [read]}]}}\n",
                        "2:9: the role's name holds an invisible character\n"},
                {"version: 1\nroles: {r: {includes: []}}\n" B,
                        "2:23: `includes` is empty and would match nothing: leave it out, or name "
                        "something\n"},
                {"version: 1\ngroups: {etl: [42, 57]}\nroles: {r: {allow: [{access: [read], "
                 "pipelines: "
                 "['group:etl', 7]}]}}\n" B,
                        ""},
                {"version: 1\ngroups: {etl: [42, 57]}\nroles: {r: {allow: [{access: [read], "
                 "pipelines: "
                 "['group:elt']}]}}\n" B,
                        "3:50: no group `elt`; did you mean `etl`?\n"
                        "2:10: warning: no selector uses the group `etl`\n"},
                {"version: 1\ngroups: {etl: [042]}\nroles: {r: {allow: [{access: [read], "
                 "pipelines: "
                 "'group:etl'}]}}\n" B,
                        "3:49: `042` in `pipelines`: a number has no leading zero\n"},
                {"version: 1\ngroups: {a: ['group:b'], b: []}\n"
                 "roles: {r: {allow: [{access: [read]}]}}\n" B,
                        "2:13: a group holds resources, no other groups: `group:b`\n"
                        "2:29: `groups` is empty and would match nothing: leave it out, or name "
                        "something\n"
                        "2:10: warning: no selector uses the group `a`\n"},
                {"version: 1\nroles: {r: {description: nothing}}\n" B,
                        "2:9: role `r` has neither `allow` nor `deny`, and includes no other\n"},
                {"version: 1\nroles: {r: {allow: []}}\n" B, "2:20: `allow` is empty: leave it "
                                                            "out\n"},
                {"roles: {r: {allow: [{access: [read]}]}}\n" B,
                        "1:1: a policy file begins with `version: 1`\n"},
                {"version: 1\ngroups: [a]\n", "2:9: `groups` must be a mapping, not a list\n"},
                {"version: 1\nrules: {}\n", "2:1: unknown key `rules`; did you mean `roles`?\n"},
        };
        (void)state;
        CHECK_ROWS(rows);
}

static void tests_that_are_not_understood_refuse_the_file(void **state)
{
#define T R B "tests: [\n"
        static const struct row rows[] = {
                {T "{caller: {issuer: i}, request: GET /contoso, expect: allow}]\n", ""},
                {T "{caller: {issuer: i}, request: GET /contoso}]\n",
                        "5:1: a test needs `expect: allow` or `deny`\n"},
                {T "{caller: {issuer: i}, request: GET /contoso, expect: yes}]\n",
                        "5:54: `expect` is `allow` or `deny`\n"},
                {T "{caller: {issuer: i}, request: /contoso, expect: deny}]\n",
                        "5:32: `request` is a method, a blank and a path or URL: GET "
                        "/contoso/...\n"},
                {T "{request: GET /contoso, expect: deny}]\n", "5:1: a test needs a `caller`\n"},
                {T "{caller: {subject: i}, request: GET /contoso, expect: deny}]\n",
                        "5:10: the `caller` needs an `issuer`\n"},
                {T "{caller: {issuer: i}, request: GET /contoso, expect: deny, at: noon}]\n",
                        "5:64: `at`: not a date (2027-03-31) or time (2027-03-31T18:00:00Z)\n"},
        };
        (void)state;
        CHECK_ROWS(rows);
}

/* Writes a file into a fresh folder; its path is static. */
static const char *temporary(const char *folder, const char *name, const char *text)
{
        static char paths[4][256];
        static unsigned turn;
        char *path = paths[turn++ % 4];

        snprintf(path, 256, "%s/%s", folder, name);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
        return path;
}

static void several_files_are_one_policy(void **state)
{
        char folder[] = "/tmp/dagward-policy-XXXXXX";
        struct error_list errors;

        (void)state;
        assert_non_null(mkdtemp(folder));
        const char *files[] = {
                temporary(folder, "a.yaml", R),
                temporary(folder, "b.yaml", "version: 1\n" B),
                temporary(folder, "c.yaml", R),
        };
        error_list_init(&errors);
        struct policy *policy = policy_load(files, 2, &errors);
        error_list_print(&errors, stderr);
        assert_non_null(policy);
        struct decision decision = kit_decide(policy, "build.builds.list", "");
        assert_int_equal(decision.effect, EFFECT_ALLOW);
        assert_true(str_eq(decision.rule, STR("a.yaml:2")));
        assert_int_equal(policy_size(policy).files, 2);
        policy_unref(policy);

        assert_null(policy_load(files, 3, &errors));
        assert_int_equal(errors.errors, 1);
        char wanted[300];
        snprintf(wanted, sizeof(wanted), "role `r` is already defined at %s:2", files[0]);
        assert_string_equal(errors.findings[0].text, wanted);
        assert_string_equal(errors.findings[0].file, files[2]);
        error_list_clear(&errors);

        const char *missing[] = {"/nonexistent/p.yaml"};
        assert_null(policy_load(missing, 1, &errors));
        assert_int_equal(errors.errors, 1);
        assert_null(policy_load(NULL, 0, &errors));
        assert_int_equal(errors.errors, 2);
        error_list_clear(&errors);
        for (size_t i = 0; i < 3; i++)
                unlink(files[i]);
        rmdir(folder);
}

static void the_review_finds_issuers_and_credentials_that_are_not_configured(void **state)
{
        struct policy *policy = kit_policy(
                R "bindings:\n- {callers: {issuer: airflwo}, roles: r, credential: etll}\n"
                  "- {callers: {issuer: airflow}, roles: r, credential: etl, expires: 2026-01-01}"
                  "\n"
                  "- {name: soon, callers: {issuer: airflow}, roles: r, credential: etl, expires: "
                  "2026-06-08}\n"
                  "- {callers: {issuer: airflow}, roles: r, credential: etl, expires: "
                  "2026-06-08T00:00:01Z}\n");
        const struct str issuers[] = {STR("airflow"), STR("entra")};
        const struct str credentials[] = {STR("etl")};
        struct error_list errors;
        struct buf said;
        int64_t now_ms;

        (void)state;
        assert_true(clock_parse(STR("2026-06-01"), &now_ms));
        error_list_init(&errors);
        buf_init(&said, 4096);
        assert_false(policy_review(policy, issuers, 2, credentials, 1, now_ms, &errors));
        write_findings(&errors, &said);
        buf_char(&said, '\0');
        assert_string_equal(said.data,
                "4:22: no issuer `airflwo` in the configuration; did you mean `airflow`?\n"
                "4:54: no credential `etll` in the configuration; did you mean `etl`?\n"
                "5:3: warning: the binding `p.yaml:5` has expired and gives nothing any more\n"
                "6:3: warning: the binding `soon` expires at 2026-06-08T00:00:00Z, within 7 "
                "days\n");
        buf_clear(&said);
        error_list_clear(&errors);
        policy_unref(policy);
}

static struct policy *load_made(const struct buf *text, size_t *n_errors)
{
        struct error_list errors;

        error_list_init(&errors);
        struct policy *policy = policy_load_text("p.yaml", buf_str(text), &errors);
        *n_errors = errors.errors;
        error_list_clear(&errors);
        return policy;
}

/* Small files that stand for much: a long chain of roles, and a group that many entries name. */
static void what_stands_for_too_much_is_an_error(void **state)
{
        struct buf text;
        size_t n;

        (void)state;
        for (int most = 0; most < 2; most++) {
                int roles = most ? 20000 : POLICY_MOST_TOGETHER - 1;
                buf_init(&text, 4 << 20);
                BUF_LITERAL(&text, "version: 1\nroles:\n");
                for (int i = 0; i < roles; i++)
                        buf_printf(&text, "  r%d: {includes: [r%d]}\n", i, i + 1);
                buf_printf(&text, "  r%d: {allow: [{access: [read]}]}\n", roles);
                struct policy *policy = load_made(&text, &n);
                assert_true(most ? !policy && n : policy && !n);
                policy_unref(policy);
                buf_clear(&text);
        }
        buf_init(&text, 4 << 20);
        BUF_LITERAL(&text, "version: 1\ngroups:\n  g: [1");
        for (int i = 2; i <= 50000; i++)
                buf_printf(&text, ",%d", i);
        BUF_LITERAL(&text, "]\nroles:\n  r:\n    allow:\n");
        for (int i = 0; i < 300; i++)
                BUF_LITERAL(&text, "    - {access: [read], pipelines: 'group:g'}\n");
        assert_null(load_made(&text, &n));
        assert_true(n >= 280);
        buf_clear(&text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(entries_that_are_not_understood_refuse_the_file),
                cmocka_unit_test(bindings_that_are_not_understood_refuse_the_file),
                cmocka_unit_test(tests_that_are_not_understood_refuse_the_file),
                cmocka_unit_test(several_files_are_one_policy),
                cmocka_unit_test(the_review_finds_issuers_and_credentials_that_are_not_configured),
                cmocka_unit_test(what_stands_for_too_much_is_an_error),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
