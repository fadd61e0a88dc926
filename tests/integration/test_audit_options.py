"""Options of `dagward audit`: what a subcommand does not take, or cannot mean, is an error and not passed over."""
import gzip
import subprocess

import pytest

from kit.audit_log import AuditLog
from kit.waiting import BINARY, sanitizer, seconds

# Every option there is, with a value that is good, and who takes it; `*`: more than once.
OPTIONS = {
    "--key": ("{key}", {"verify": "*", "report": "*"}),
    "--anchor": ("{log}", {"verify": ""}),
    "--closed": (None, {"verify": ""}),
    "--json": (None, {"verify": "", "show": "", "trace": ""}),
    "--id": ("019ab1c2-0000-7000-8000-000000000002", {"show": ""}),
    "--caller": ("*", {"show": ""}),
    "--effect": ("allow", {"show": ""}),
    "--operation": ("*", {"show": ""}),
    "--last": ("3", {"show": ""}),
    "--follow": (None, {"show": ""}),
    "--format": ("{format}", {"trace": "", "export": ""}),
    "--index": ("{index}", {"trace": ""}),
    "--no-index": (None, {"trace": ""}),
    "--output": ("-", {"report": ""}),
    "-o": ("-", {"report": ""}),
    "--since": ("2026-11-01", {"report": "", "export": ""}),
    "--until": ("2026-12-01", {"report": "", "export": ""}),
    "--policy": ("{policy}", {"report": "*"}),
    "--config": ("{config}", {"report": ""}),
    "--compare-since": ("2026-11-23", {"report": ""}),
    "--intents": (None, {"export": ""}),
    "--csv": (None, {}),
    "--verbose": (None, {}),
}
COMMANDS = {
    "verify": ["{log}"],
    "show": ["{log}"],
    "trace": ["1", "{log}"],
    "report": ["{log}", "-o", "-"],
    "export": ["{log}", "--format", "{format}"],
}


def run(*arguments):
    return subprocess.run([BINARY, "audit", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=seconds(30))


@pytest.fixture
def filled(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    log.start(1)
    log.close()
    secret = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True).stdout
    subprocess.run(["openssl", "pkey", "-pubout", "-out", tmp_path / "key"], input=secret, check=True)
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nroles: {r: {allow: [{operations: [discovery]}]}}\n"
                      "bindings: [{name: b, callers: {issuer: airflow}, roles: [r], credential: etl}]\n")

    def fill(command, arguments):
        values = {"log": log.path, "key": tmp_path / "key", "policy": policy, "config": tmp_path / "nowhere.yaml", "index": tmp_path / "index",
                  "format": "text" if command == "trace" else "ocsf"}
        return [a.format(**values) for a in arguments]

    return fill


def given(option):
    value = OPTIONS[option][0]
    return [option] if value is None else [option, value]


def known_by(option, command):
    return command in OPTIONS[option][1]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_is_taken_or_refused(command, filled):
    for option in list(OPTIONS)[:: 1 if sanitizer() == "none" else 3]:
        if option == "--follow" and known_by(option, command):
            continue  # does not end; below
        base = [] if option in COMMANDS[command] or option == "--output" else COMMANDS[command]
        base = base or [a for a in COMMANDS[command] if a not in ("-o", "-", "--format", "{format}")]
        ended = run(command, *filled(command, base + given(option)))
        refused = "unrecognized option" in ended.stderr or "invalid option" in ended.stderr
        assert refused != known_by(option, command), (option, ended.stderr)
        if refused:
            assert ended.returncode == 2 and ended.stdout == "", (option, ended)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_means_one_thing_is_given_once(command, filled):
    for option in OPTIONS:
        if not known_by(option, command):
            continue
        repeatable = OPTIONS[option][1][command] == "*"
        ended = run(command, *filled(command, COMMANDS[command] + given(option) * 2))
        assert ("given twice: " in ended.stderr) != repeatable, (option, ended.stderr)
        assert repeatable or (ended.returncode == 2 and ended.stdout == ""), (option, ended)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_given_wherever_it_is_asked_for(command, filled):
    for arguments in (["--help"], [*COMMANDS[command], "--help"], ["-h"]):
        ended = run(command, *filled(command, arguments))
        assert ended.returncode == 0 and "usage: dagward audit" in ended.stdout and ended.stderr == "", (arguments, ended)
        for option, (_, takers) in OPTIONS.items():
            if command in takers:
                assert option in ended.stdout, "--help of %s does not name %s" % (command, option)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["export", "--format", "csv", "--intents", "{log}"], "--intents is for ocsf"),
        (["export", "--format", "csv", "--since", "2026-11-02", "--until", "2026-11-01", "{log}"], "nothing lies between"),
        (["report", "-o", "-", "--since", "2026-11-02", "--until", "2026-11-02", "{log}"], "nothing lies between"),
        (["trace", "1", "--index", "{index}", "--no-index", "{log}"], "either --index or --no-index"),
        (["trace", "1", "--format", "markdown", "--json", "{log}"], "either --format or --json"),
        (["show", "-", "--follow"], "--follow needs a FILE"),
        (["show", "{log}", "{log}"], "show takes one FILE"),
    ],
)
def test_what_cannot_be_meant_together_is_refused(filled, arguments, says):
    ended = run(*filled("trace", arguments))
    assert ended.returncode == 2 and ended.stdout == "" and says in ended.stderr, ended


def write_two_files(folder):
    """A closed one, and the one that follows it."""
    log = AuditLog(folder / "audit.jsonl.1")
    log.start(7)
    log.begin(folder / "audit.jsonl")
    log.request()
    log.close()


def test_what_stands_beside_a_log_is_left_out_and_said(tmp_path):
    """`audit.jsonl*` names the signing key, which an auditor cannot read, positions and torn pieces as well."""
    write_two_files(tmp_path)
    beside = ["audit.jsonl" + end for end in (".key", ".sink-siem", ".torn-3-2026-11-28", ".triggers", ".triggers.new")]
    for name in beside:
        (tmp_path / name).write_text("no record\n")
    files = sorted(map(str, tmp_path.glob("audit.jsonl*")))
    for command in (["verify"], ["report", "-o", "-"], ["export", "--format", "csv"], ["trace", "--no-index", "run:7"]):
        ended = run(*command, *files)
        assert ended.returncode == 0, (command, ended.stderr)
        assert ended.stderr == "dagward audit %s: left out, being no logs: %s\n" % (command[0], " ".join(str(tmp_path / name) for name in beside))
    # A name alone makes nothing harmless: without its log, and another name, it counts.
    assert run("verify", str(tmp_path / "audit.jsonl.key")).returncode == 1
    (tmp_path / "audit.jsonl.keys").write_text("no record\n")
    ended = run("verify", *files, str(tmp_path / "audit.jsonl.keys"))
    assert ended.returncode == 1 and "foreign" in ended.stdout


def test_a_log_that_is_there_plain_and_packed_is_said_to_be_there_twice(tmp_path):
    """So a stop leaves it that comes between the two, until the next start."""
    write_two_files(tmp_path)
    closed = tmp_path / "audit.jsonl.1"
    (tmp_path / "audit.jsonl.1.gz").write_bytes(gzip.compress(closed.read_bytes()))
    files = sorted(map(str, tmp_path.glob("audit.jsonl*")))
    for command in (["verify"], ["report", "-o", "-"], ["export", "--format", "csv"], ["trace", "--no-index", "run:7"]):
        ended = run(*command, *files)
        assert f"dagward audit {command[0]}: {closed} is given, and packed as well: the same records twice" in ended.stderr
    assert run("verify", *files).returncode == 1
    for one in (closed, closed.with_name("audit.jsonl.1.gz")):
        ended = run("verify", str(one), str(tmp_path / "audit.jsonl"))
        assert ended.returncode == 0 and ended.stderr == "", ended
