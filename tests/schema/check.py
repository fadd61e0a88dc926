#!/usr/bin/python3
"""Holds the JSON Schema of policies, which editors check them with, to the parser that decides.

Usage: check.py POLICIES TESTS PROGRAM. Each policy file below POLICIES and TESTS, and each mutant of
a small one, is given to both. They have to agree, except where EXCEPTIONS says why a schema cannot
express the rule, or sees something else than the parser. Exit status 77: python3-jsonschema or
python3-yaml is not installed.
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

try:
    import jsonschema
    import yaml
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)


class Loader(yaml.SafeLoader):
    """YAML as editors read it: a date is text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

# Why a document that the parser refuses passes the schema, or the other way round.
EXCEPTIONS = {
    "duplicate keys": "a schema sees the last of two equal keys",
    "yaml extras": "anchors, aliases and tags are gone before a schema sees anything",
    "letter case": "the parser ignores it in names of the catalogue; a schema compares them exactly",
    "nothing matches": "whether a wildcard matches any name of the catalogue is no pattern",
    "references": "a schema cannot look up a name elsewhere in the document, or in another file",
    "two values": "a schema cannot compare two values of a document",
    "calendar": "how many days a month has is no pattern",
    "big numbers": "64 bits are no pattern",
    "bytes": "a schema counts characters, the parser bytes",
    "operations": "which facts an operation says is known for each of a thousand, and by wildcard",
    "number spelling": "1.0 and 1 are one number to a schema, and 042 is read before it sees it",
}

BASE = """\
version: 1
groups: {etl: [42, 57]}
roles:
  r:
    description: Start pipelines.
    allow:
      - {operations: [pipelines.runs.run], projects: [analytics], pipelines: ["group:etl"]}
    deny:
      - {projects: [payroll]}
bindings:
  - name: b
    callers: {issuer: airflow, subject: "system:*", claims: {team: data}}
    roles: [r]
    credential: etl
    not_before: 2026-01-01
    expires: 2026-02-01T12:00:00Z
tests:
  - name: t
    caller: {issuer: airflow, subject: "system:a"}
    request: POST /contoso/analytics/_apis/pipelines/42/runs
    expect: allow
"""

ALLOW = "{operations: [pipelines.runs.run], projects: [analytics], pipelines: [\"group:etl\"]}"
DENY = "{projects: [payroll]}"
BREAKS = "expires: 2026-02-01T12:00:00Z"
EXPECT = "expect: allow"


def allow(entry):
    return (ALLOW, entry.replace("pipelines: ETL", "pipelines: [\"group:etl\"]"))


def with_run(rest):
    return allow("{operations: [pipelines.runs.run], pipelines: ETL, %s}" % rest)


def deny_run(rest):
    return (DENY, "{operations: [pipelines.runs.run], %s}" % rest)


def binding(rest):
    return (BREAKS, BREAKS + "\n    " + rest)


def a_test(rest):
    return (EXPECT, EXPECT + "\n    " + rest)


# What is changed in BASE; whether it is a policy then; the exception if the schema says otherwise.
MUTANTS = [
    # keys
    ("nothing", ("version: 1", "version: 1"), True, None),
    ("an unknown key of the file", ("groups:", "group:"), False, None),
    ("an unknown key of a role", ("description:", "summary:"), False, None),
    ("an unknown selector", ("projects: [analytics]", "project: [analytics]"), False, None),
    ("an unknown key of a binding", ("credential:", "credentials:"), False, None),
    ("an unknown key of callers", ("subject: \"system:*\"", "sub: \"system:*\""), False, None),
    ("an unknown key of a test", a_test("when: now"), False, None),
    ("an unknown key of a test's caller", ("subject: \"system:a\"", "sub: a"), False, None),
    ("a key twice", ("version: 1", "version: 1\nversion: 1"), False, "duplicate keys"),
    ("a role twice", ("bindings:", "  r: {deny: [{projects: [x]}]}\nbindings:"), False, "duplicate keys"),
    ("a role twice, letter case apart", ("bindings:", "  R: {deny: [{projects: [x]}]}\nbindings:"), False, "references"),
    ("a binding's name twice", ("tests:", "  - {name: b, callers: {issuer: i}, roles: r, credential: c}\ntests:"), False, "references"),
    ("no version", ("version: 1\n", ""), False, None),
    ("another version", ("version: 1", "version: 2"), False, None),
    ("a version as text", ("version: 1", "version: \"1\""), False, None),
    ("a version with a point", ("version: 1", "version: 1.0"), False, "number spelling"),
    # what is known
    ("a pipeline that is known", ("tests:", "known: [{pipeline: 42, name: nightly, project: analytics}]\ntests:"), True, None),
    ("a pipeline's number as text", ("tests:", "known: [{pipeline: \"42\"}]\ntests:"), True, None),
    ("a build that is known", ("tests:", "known: [{build: 7, pipeline: 42, ref: refs/heads/main}]\ntests:"), True, None),
    ("a project that is known", ("tests:", "known: [{project: 6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c, name: a}]\ntests:"), True, None),
    ("a pipeline known by its name", ("tests:", "known: [{pipeline: nightly}]\ntests:"), False, None),
    ("a repository known by its name", ("tests:", "known: [{repository: dags, project: analytics}]\ntests:"), False, None),
    ("a project known by its name", ("tests:", "known: [{project: analytics}]\ntests:"), False, None),
    ("a build of a pipeline by name", ("tests:", "known: [{build: 7, pipeline: nightly}]\ntests:"), False, None),
    ("a ref of a pipeline", ("tests:", "known: [{pipeline: 42, ref: refs/heads/main}]\ntests:"), False, None),
    ("known without an id", ("tests:", "known: [{name: x}]\ntests:"), False, None),
    ("known as a mapping", ("tests:", "known: {pipeline: 42}\ntests:"), False, None),
    ("known below zero", ("tests:", "known: [{pipeline: -1}]\ntests:"), False, None),
    # kinds of values
    ("roles as a list", ("roles:\n  r:", "roles:\n - r:"), False, None),
    ("tests as a mapping", ("tests:\n  - name: t", "tests:\n    name: t"), False, None),
    ("an entry as text", allow("everything"), False, None),
    ("an entry as a list", allow("[pipelines.runs.run]"), False, None),
    ("a description that is a number", ("Start pipelines.", "42"), True, None),
    ("an empty description", ("Start pipelines.", "\"\""), False, None),
    ("a description that is a list", ("Start pipelines.", "[a]"), False, None),
    ("a project that is true", ("[analytics]", "[true]"), True, None),
    ("a project that is nothing", ("[analytics]", "[null]"), False, None),
    ("one project without a list", ("[analytics]", "analytics"), True, None),
    ("a mapping in place of a list", ("[analytics]", "{a: b}"), False, None),
    ("an empty name of a project", ("[analytics]", "[\"\"]"), False, None),
    # empty ones
    ("an empty list of operations", ("[pipelines.runs.run]", "[]"), False, None),
    ("an empty list of projects", ("[analytics]", "[]"), False, None),
    ("an empty entry", allow("{}"), False, None),
    ("an empty list of entries", ("deny:\n      - {projects: [payroll]}", "deny: []"), False, None),
    ("a role of nothing", ("bindings:", "  s: {description: x}\nbindings:"), False, None),
    ("an empty role name", ("bindings:", "  \"\": {deny: [{projects: [x]}]}\nbindings:"), False, None),
    ("a long role name", ("bindings:", "  %s: {deny: [{projects: [x]}]}\nbindings:" % ("x" * 101)), False, None),
    ("a role name of many bytes", ("bindings:", "  %s: {deny: [{projects: [x]}]}\nbindings:" % ("é" * 51)), False, "bytes"),
    ("a control character in a name", ("name: b", "name: \"a\\x01\""), False, None),
    ("an empty group", ("[42, 57]", "[]"), False, None),
    ("a group of groups", ("[42, 57]", "[\"group:a\", 42]"), False, None),
    ("no claims", ("{team: data}", "{}"), False, None),
    # operations and the like
    ("an unknown operation", ("[pipelines.runs.run]", "[pipelines.runs.rum]"), False, None),
    ("an operation in other letters", ("[pipelines.runs.run]", "[Pipelines.Runs.Run]"), True, "letter case"),
    ("an alias", ("[pipelines.runs.run]", "[git.fetch]"), True, None),
    ("a wildcard", ("[pipelines.runs.run]", "[\"pipelines.*\"]"), True, None),
    ("a wildcard for nothing", ("[pipelines.runs.run]", "[\"pipes.*\"]"), False, "nothing matches"),
    ("a wildcard inside", ("[pipelines.runs.run]", "[\"pipe*s.run\"]"), False, None),
    ("two wildcards in a row", ("[pipelines.runs.run]", "[\"pipelines.**\"]"), False, None),
    ("an unknown class", allow("{access: [reed], pipelines: ETL}"), False, None),
    ("a class in other letters", allow("{access: [READ], pipelines: ETL}"), False, None),
    ("every class", allow("{access: [\"*\"], pipelines: ETL}"), False, None),
    ("an area", allow("{areas: [git, \"pipe*\"], pipelines: ETL}"), True, None),
    ("an unknown area", allow("{areas: [gitt], pipelines: ETL}"), False, None),
    ("a scope", allow("{scopes: [vso.code, \"vso.b*\"], pipelines: ETL}"), True, None),
    ("an unknown scope", allow("{scopes: [vso.coded], pipelines: ETL}"), False, None),
    ("a scope for nothing", allow("{scopes: [\"v.*\"], pipelines: ETL}"), False, "nothing matches"),
    ("an allow that names no operation", allow("{pipelines: ETL}"), False, None),
    ("a deny that names none", deny_run("projects: [x]"), True, None),
    # resources
    ("a wildcard inside a project", ("[analytics]", "[\"a*b\"]"), False, None),
    ("a wildcard before a project", ("[analytics]", "[\"*b\"]"), False, None),
    ("a project with a slash", ("[analytics]", "[a/b]"), False, None),
    ("a repository of a project", with_run("repositories: [\"a/b*\", \"*/b\", c]"), True, None),
    ("a repository of three parts", with_run("repositories: [a/b/c]"), False, None),
    ("a repository without a name", with_run("repositories: [a/]"), False, None),
    ("a ref in full", with_run("refs: [refs/heads/main, \"refs/tags/v*\", \"*\"]"), True, None),
    ("a short ref", with_run("refs: [main]"), False, None),
    ("a build by number", with_run("builds: [7, \"*\"]"), True, None),
    ("a build by name", with_run("builds: [nightly]"), False, None),
    ("a build of many digits", with_run("builds: [\"99999999999999999999\"]"), False, "big numbers"),
    ("a pipeline with a zero in front", ("\"group:etl\"", "\"042\""), False, None),
    ("a pipeline with a zero, bare", ("[\"group:etl\"]", "[09, \"group:etl\"]"), False, None),
    ("an octal pipeline", ("[\"group:etl\"]", "[042, \"group:etl\"]"), False, "number spelling"),
    ("a pipeline in a folder", ("[\"group:etl\"]", "['\\etl\\nightly', \"group:etl\"]"), True, None),
    ("an unknown group", ("\"group:etl\"", "\"group:elt\""), False, "references"),
    ("a group of no name", ("\"group:etl\"", "\"group:\""), False, None),
    # methods and paths
    ("a path", allow("{method: [GET], path: [\"/a/*/b*/**\"], pipelines: ETL}"), True, None),
    ("a relative path", allow("{method: [GET], path: [a], pipelines: ETL}"), False, None),
    ("a path with a query", allow("{method: [GET], path: [\"/a?b\"], pipelines: ETL}"), False, None),
    ("a path with stars inside", allow("{method: [GET], path: [\"/a/**/b\"], pipelines: ETL}"), False, None),
    ("an unknown method", allow("{method: [FETCH], path: [/a], pipelines: ETL}"), False, None),
    ("a method in small letters", allow("{method: [get], path: [/a], pipelines: ETL}"), False, None),
    # conditions
    ("conditions", with_run("where: {templateParameters: {a: [b, \"c*\"]}, variables: [], refs: [\"refs/heads/*\"]}"), True, None),
    ("an unknown condition", with_run("where: {templateParameter: {a: [b]}}"), False, None),
    ("no condition", with_run("where: {}"), False, None),
    ("a condition that is a list of names", with_run("where: {variables: [a]}"), False, None),
    ("a condition with a star inside", with_run("where: {previewRun: [\"t*e\"]}"), False, None),
    ("a condition on what it does not say", with_run("where: {vote: [10]}"), False, "operations"),
    ("a deny by a condition", deny_run("where: {variables: {\"*\": [\"*\"]}}"), True, None),
    ("a deny by an empty list", deny_run("where: {stagesToSkip: []}"), False, None),
    ("a deny by an empty list of a name", deny_run("where: {variables: {a: []}}"), False, None),
    ("a deny by an empty mapping", deny_run("where: {variables: {}}"), False, None),
    ("a claim", with_run("claimed: {dag_id: [nightly, \"a*\"]}"), True, None),
    ("an unknown claim", with_run("claimed: {dag: [nightly]}"), False, None),
    ("an empty claim", with_run("claimed: {dag_id: []}"), False, None),
    ("a deny by a claim", deny_run("claimed: {dag_id: [nightly]}"), False, None),
    # times
    ("a window", with_run("where: {time: [\"Mon-Fri 06:00-20:00 +01:00\", \"22:00-04:00\", \"Sun 00:00-24:00\"]}"), True, None),
    ("one window", deny_run("where: {time: 06:00-20:00+02:00}"), True, None),
    ("no window", with_run("where: {time: []}"), False, None),
    ("a window of a zone", with_run("where: {time: [\"06:00-20:00 Europe/Berlin\"]}"), False, None),
    ("a window of an unknown day", with_run("where: {time: [\"Mo 06:00-20:00\"]}"), False, None),
    ("a window of two days apart", with_run("where: {time: [\"Mon,Wed 06:00-20:00\"]}"), False, None),
    ("a window past the day", with_run("where: {time: [\"06:00-24:30\"]}"), False, None),
    ("a window of no length", with_run("where: {time: [\"06:00-06:00\"]}"), False, None),
    ("a window of days only", with_run("where: {time: [Mon-Fri]}"), False, None),
    ("a window with a far offset", with_run("where: {time: [\"06:00-20:00 +14:30\"]}"), False, None),
    # bindings
    ("a binding without callers", ("callers: {issuer: airflow, subject: \"system:*\", claims: {team: data}}", "callers: {}"), False, None),
    ("an issuer with a star", ("issuer: airflow, subject: \"system:*\"", "issuer: \"air*\""), False, None),
    ("a subject with a star inside", ("\"system:*\"", "\"a:*:b\""), False, None),
    ("a claim with a star inside", ("{team: data}", "{team: \"d*a\"}"), False, None),
    ("a claim that is true", ("{team: data}", "{team: [true, 7]}"), True, None),
    ("a binding without roles", ("roles: [r]", "# "), False, None),
    ("a binding to an unknown role", ("roles: [r]", "roles: [s]"), False, "references"),
    ("a binding without a credential", ("credential: etl", "# "), False, "references"),
    ("an end that is no date", (BREAKS, "expires: soon"), False, None),
    ("an end in another month", (BREAKS, "expires: 2026-13-01"), False, None),
    ("an end on a day that is not there", (BREAKS, "expires: 2026-02-31"), False, "calendar"),
    ("an end with an hour too many", (BREAKS, "expires: 2026-02-01T24:00:00Z"), False, None),
    ("an end before the beginning", (BREAKS, "expires: 2025-01-01"), False, "two values"),
    ("a role that includes itself", ("description: Start pipelines.", "includes: [r]"), False, "references"),
    # break-glass
    ("a break-glass binding", binding("break_glass: true"), True, None),
    ("with a length", binding("break_glass: {reason_at_least: 20}"), True, None),
    ("with a short length", binding("break_glass: {reason_at_least: 5}"), False, None),
    ("with a long length", binding("break_glass: {reason_at_least: 501}"), False, None),
    ("with a length as text", binding("break_glass: {reason_at_least: \"20\"}"), False, None),
    ("with another option", binding("break_glass: {reason_at_least: 20, mail: a}"), False, None),
    ("with no option", binding("break_glass: {}"), False, None),
    ("break-glass as text", binding("break_glass: \"true\""), False, None),
    ("break-glass without an end", (BREAKS, "break_glass: true"), False, None),
    ("with a length, without an end", (BREAKS, "break_glass: {reason_at_least: 20}"), False, None),
    ("no break-glass, and no end", (BREAKS, "break_glass: false"), True, None),
    # tests
    ("a test without a caller", ("caller: {issuer: airflow, subject: \"system:a\"}", "# "), False, None),
    ("a test without an expectation", ("expect: allow", "# "), False, None),
    ("another expectation", ("expect: allow", "expect: maybe"), False, None),
    ("a request without a method", ("request: POST ", "request: "), False, None),
    ("a request in small letters", ("request: POST", "request: post"), False, None),
    ("a request with blanks", ("/pipelines/42/runs", "/pipelines/42 7/runs"), False, None),
    ("a test at a time", a_test("at: 2026-01-15T12:00:00Z"), True, None),
    ("a test at no time", a_test("at: noon"), False, None),
    ("a test with a body", a_test("body: {a: [1, null, {b: true}]}"), True, None),
    ("a test with a reason", a_test("reason: INC-4711 is on fire"), True, None),
    ("a test with an empty reason", a_test("reason: \"\""), False, None),
    ("a test with a long reason", a_test("reason: \"%s\"" % ("x" * 501)), False, None),
    ("a test with a reason of many bytes", a_test("reason: \"%s\"" % ("é" * 251)), False, "bytes"),
    ("a test with a reason on two lines", a_test("reason: \"a\\nb\""), False, None),
    ("a test with a claim", ("subject: \"system:a\"}", "subject: a, claimed: {dag_id: x}}"), True, None),
    ("a test with an unknown claim", ("subject: \"system:a\"}", "subject: a, claimed: {dag: x}}"), False, None),
    # YAML itself
    ("an anchor", ("projects: [payroll]", "projects: &x [payroll]"), False, "yaml extras"),
    ("a tag", ("projects: [payroll]", "projects: !!seq [payroll]"), False, "yaml extras"),
]


class Checker:
    def __init__(self, schema, program, folder):
        self.validator = jsonschema.Draft202012Validator(schema)
        self.program, self.folder = program, folder
        self.wrong = 0

    def complain(self, text):
        print(text)
        self.wrong += 1

    def parser(self, path):
        """Whether the file alone is a policy, and what is said of it."""
        done = subprocess.run([self.program, "policy", "lint", "--policy", path], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1, 2), done
        return done.returncode != 2, done.stderr

    def schema(self, text):
        try:
            document = yaml.load(text, Loader)
        except yaml.YAMLError as error:
            return False, str(error)
        errors = list(self.validator.iter_errors(document))
        return not errors, "; ".join(f"{e.json_path}: {e.message[:200]}" for e in errors[:3])

    def file(self, path):
        """False: not a policy file."""
        with open(path, encoding="utf-8") as file:
            text = file.read()
        try:
            document = yaml.load(text, Loader)
        except yaml.YAMLError:
            return False
        if not isinstance(document, dict) or "version" not in document:
            return False
        by_parser, said = self.parser(path)
        by_schema, why = self.schema(text)
        # One that refers to roles of other files is no policy by itself.
        references = all("no role `" in line or "warning:" in line for line in said.splitlines())
        if by_parser != by_schema and not (by_schema and references):
            self.complain(f"{path}: parser {by_parser} ({said.strip()}), schema {by_schema} ({why})")
        return True

    def mutant(self, what, change, expected, exception):
        if BASE.count(change[0]) != 1:
            self.complain(f"{what}: `{change[0]}` stands {BASE.count(change[0])} times in the base")
            return
        text = BASE.replace(change[0], change[1])
        path = os.path.join(self.folder, "mutant.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        by_parser, said = self.parser(path)
        by_schema, why = self.schema(text)
        if by_parser != expected:
            self.complain(f"{what}: the parser says {by_parser}: {said.strip()}")
        if by_schema != (expected if not exception else not expected):
            self.complain(f"{what}: the schema says {by_schema}: {why}")


def main(policies, tests, program):
    with open(os.path.join(policies, "policy.schema.json"), encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(schema, program, folder)
        files = sorted(glob.glob(os.path.join(policies, "*.yaml")) + glob.glob(os.path.join(tests, "**", "*.yaml"), recursive=True))
        n = sum(checker.file(path) for path in files)
        for mutant in MUTANTS:
            checker.mutant(*mutant)
    examples = 0
    for path in glob.glob(os.path.join(policies, "*.yaml")):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if "\nroles:" not in text:
            continue
        examples += 1
        if "\n# yaml-language-server: $schema=policy.schema.json\n" not in "\n" + text:
            checker.complain(f"{path}: no line that names the schema for editors")
    unused = set(EXCEPTIONS) - {m[3] for m in MUTANTS}
    if unused:
        checker.complain(f"exceptions that nothing needs: {unused}")
    print(f"{n} policy files, {len(MUTANTS)} mutants, {len(EXCEPTIONS)} kinds of exception, {checker.wrong} wrong")
    return 1 if checker.wrong or n < 10 or examples < 9 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
