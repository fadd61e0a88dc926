"""What a command prints and cannot get rid of: status 2 and a word, whatever the answer was. An auditor's `verify > report` on a full disk must
not look like a log that is whole."""
import os
import signal
import subprocess

import pytest

from kit.audit_log import AuditLog
from kit.waiting import BINARY, sanitizer, seconds

pytestmark = pytest.mark.skipif(sanitizer() != "none", reason="hundreds of starts, and one place in the program")

POLICY = """version: 1
roles:
  reader: {allow: [{operations: [build.builds.get], projects: [analytics]}]}
bindings: [{name: b, callers: {issuer: airflow, subject: ann}, roles: [reader], credential: etl}]
tests:
  - {name: t, caller: {issuer: airflow, subject: ann}, request: GET /contoso/analytics/_apis/build/builds/7, expect: allow}
"""
CONFIG = """listen: [{address: 127.0.0.1:8080}]
issuers: [{name: airflow, issuer: "https://127.0.0.1:9", audiences: dagward}]
upstream: {organizations: contoso}
credentials: [{name: etl, type: client_secret, tenant: a.example, client_id: 22222222-2222-2222-2222-222222222222, secret_file: secret}]
policy: {files: policy.yaml}
audit: {file: audit.jsonl}
"""
URL = "/contoso/analytics/_apis/build/builds/7"
POLICY_LOOKS = {
    "test": ["test", "--policy", "policy.yaml", "--verbose"],
    "explain": ["explain", "--policy", "policy.yaml", "--issuer", "airflow", "--subject", "ann", "GET", URL],
    "who-can": ["who-can", "--policy", "policy.yaml", "build.builds.get"],
    "can": ["can", "--policy", "policy.yaml", "--issuer", "airflow", "--subject", "ann"],
    "lint": ["lint", "--policy", "policy.yaml"],
    "diff": ["diff", "policy.yaml", "other.yaml"],
    "replay": ["replay", "--policy", "policy.yaml", "--log", "a.jsonl"],
    "suggest": ["suggest", "--log", "a.jsonl"],
}
COMMANDS = [[], ["serve"], ["demo"], ["check"], ["doctor"], ["policy"], ["audit"], ["operations"], ["agent"], ["git-credential"], ["emulate"], ["version"],
            ["audit", "verify"], ["audit", "show"], ["audit", "trace"], ["audit", "report"], ["audit", "export"]]
PRINTS = [
    *[[*command, "--help"] for command in COMMANDS],
    ["help"], ["--version"], ["version"], ["version", "--json"],
    ["check", "--config", "dagward.yaml"], ["check", "--schema", "config"], ["check", "--reference"],
    ["doctor", "--config", "dagward.yaml", "--only", "configuration"], ["doctor", "--config", "dagward.yaml", "--only", "configuration", "--json"],
    *[["policy", *arguments, "--format", form] for arguments in POLICY_LOOKS.values() for form in ("text", "markdown", "json")],
    ["audit", "verify", "a.jsonl"], ["audit", "verify", "a.jsonl", "--json"], ["audit", "verify", "bad.jsonl"],
    ["audit", "show", "a.jsonl"], ["audit", "show", "a.jsonl", "--json"], ["audit", "show", "a.jsonl", "--last", "1"],
    ["audit", "show", "a.jsonl", "--follow"],
    *[["audit", "trace", "7", "a.jsonl", "--no-index", *form] for form in ([], ["--format", "markdown"], ["--json"])],
    ["audit", "report", "a.jsonl", "-o", "-"], ["audit", "export", "--format", "csv", "a.jsonl"], ["audit", "export", "--format", "ocsf", "a.jsonl"],
    ["operations"], ["operations", "--json"], ["operations", "match", "GET", URL], ["operations", "match", "GET", URL, "--json"],
    ["git-credential", "--token-file", "token", "get"],
    ["emulate", "issuer", "--port", "0"], ["emulate", "azure-devops", "--port", "0", "--data", "data"],
]
# These do not end by themselves while their output is read.
STAY = [["audit", "show", "a.jsonl", "--follow"], ["emulate", "issuer", "--port", "0"], ["emulate", "azure-devops", "--port", "0", "--data", "data"]]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "other.yaml").write_text(POLICY.replace("[analytics]", "[other]").replace("expect: allow", "expect: deny"))
    (tmp_path / "dagward.yaml").write_text(CONFIG)
    (tmp_path / "secret").write_text("s3cret-for-tests")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "token").write_text("a.b.c")
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "stdin").write_text("protocol=https\nhost=dagward.example\n\n")  # what git asks with
    log = AuditLog(tmp_path / "a.jsonl")
    log.start(7)
    log.request(caller={"subject": "ann"})
    log.close()
    (tmp_path / "bad.jsonl").write_text((tmp_path / "a.jsonl").read_text().replace("nightly", "knightly"))
    return tmp_path


def start(arguments, folder, stdout):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with open(folder / "stdin") as stdin:
        return subprocess.Popen([BINARY, *arguments], cwd=folder, env=environment, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("arguments", PRINTS, ids=" ".join)
def test_what_cannot_be_printed_is_status_2(arguments, folder):
    with open("/dev/full", "w") as full:
        process = start(arguments, folder, full)
        said = process.communicate(timeout=seconds(90))[1]
    assert process.returncode == 2, said
    assert "dagward: standard output cannot be written" in said
    if arguments in STAY:
        return
    # It is the output that was wrong with it.
    process = start(arguments, folder, subprocess.PIPE)
    printed, said = process.communicate(timeout=seconds(90))
    assert process.returncode in (0, 1) and printed and "cannot be written" not in said, said


def test_a_standard_output_that_is_closed_is_status_2(folder):
    for arguments in (["audit", "verify", "a.jsonl"], ["version"]):
        ended = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', BINARY, *arguments], cwd=folder, capture_output=True, text=True, timeout=seconds(30))
        assert ended.returncode == 2 and "standard output cannot be written" in ended.stderr


def test_a_reader_that_has_gone_is_no_success(folder):
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([BINARY, "audit", "verify", "a.jsonl"], cwd=folder, stdout=writer, stderr=subprocess.PIPE, timeout=seconds(30),
                           preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN), restore_signals=False)
    os.close(writer)
    assert ended.returncode == 2 and b"standard output cannot be written" in ended.stderr
