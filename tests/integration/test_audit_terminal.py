"""What callers write reaches a terminal, a spreadsheet and a browser as text: through the proxy, and out of every `dagward audit`."""
import csv
import gzip
import io
import json
import re
import subprocess

import pytest

from kit.audit_log import AuditLog, new_key
from kit.policies import POLICY
from kit.waiting import BINARY, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
# What a token may hold (JSON) and what a field line may (bytes from 0x80 on, RFC 9110 5.5).
IN_TOKENS = ["\x1b]0;owned\x07", "\x9b31m\x85", "\u202egpj.\u2066exe\u200f", "\x00\x08\x7f", "\uffff\U0010ffff\U0001fffe", "=1+1", "+1", "-1", "@SUM(A1)"]
IN_FIELDS = [b"\x9b31m", b"\xc2\x9b31m", b"\xe2\x80\xaegpj.\xe2\x81\xa6exe", b"\xff\xfe\xc0\x80", b"\xed\xa0\x80", b"\xf4\x8f\xbf\xbf\xf0\x9f\xbf\xbe", b"=1+1", b"+1", b"-1", b"@SUM(A1)"]
IN_TARGETS = ["%1b]0;owned%07", "%c2%9b31m", "%e2%80%aegpj.exe", "%ff%fe", "%f4%8f%bf%bf", "%0d%0aHTTP/1.1", "=1+1", "@SUM(A1)"]
CLAIMS = ["X-Airflow-Dag-Id", "X-Airflow-Run-Id", "X-Airflow-Task-Id", "X-Airflow-Map-Index", "X-Airflow-Try-Number", "User-Agent", "X-Correlation-Id",
          "traceparent", "Idempotency-Key", "X-Dagward-Reason", "Host"]
MOVES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def spoken_to(start_proxy, issuer, upstream):
    """A proxy whose log has something hostile in every field that a caller controls."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url)
    n = 0
    for text in IN_TOKENS:
        token = issuer.mint(text, roles=["operator", text], jti=text)
        proxy.ask("GET", RUNS, token)
        proxy.ask("GET", "/contoso/other/_apis/pipelines/42/runs", token)
        n += 2
    token = issuer.mint("operator-1", roles=["operator"])
    for value in IN_FIELDS:
        proxy.ask("POST", RUNS, token, [(name, value.decode("latin-1")) for name in CLAIMS if name != "Host"], body=b"{}")
        proxy.ask("GET", RUNS, token, host=value.decode("latin-1"))
        n += 2
    for text in IN_TARGETS:
        for target in ("/contoso/analytics/_apis/git/repositories/%s/items" % text, "/contoso/%s/_apis/pipelines" % text, "/%s/x" % text,
                       RUNS + "?%s=%s" % (text, text)):
            proxy.ask("GET", target, token)
            n += 1
    until(lambda: len(proxy.outcomes()) >= n, lambda: "%d of %d outcomes" % (len(proxy.outcomes()), n))
    proxy.stop()
    return proxy


def audit(*arguments):
    return subprocess.run([BINARY, "audit", *map(str, arguments)], capture_output=True, timeout=seconds(60))


def check_harmless(ended, what):
    for stream in (ended.stdout, ended.stderr):
        text = stream.decode()  # UTF-8, or it raises
        found = MOVES.search(text)
        assert not found, "%s: %r" % (what, text[max(0, found.start() - 80): found.end() + 20])


def test_each_line_is_one_object_and_no_command_lets_a_terminal_obey(spoken_to, tmp_path):
    log = spoken_to.audit_file
    raw = log.read_bytes()
    assert raw.endswith(b"\n") and not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)
    records = [json.loads(line) for line in raw.decode().split("\n")[:-1]]
    assert all(isinstance(record, dict) for record in records)
    subjects = {r.get("caller", {}).get("subject") for r in records}
    assert {"\x9b31m\x85", "\u202egpj.\u2066exe\u200f", "=1+1"} <= subjects, "they did arrive"
    assert "\x1b]0;owned\x07" not in subjects, "a subject with controls is nobody's"
    assert any("\u202e" in r.get("claimed", {}).get("dag_id", "") for r in records)
    assert not MOVES.search(raw.decode()), "nor has the log itself what some terminals would obey: it is escaped"
    check_harmless(audit("show", log), "show")
    for record in records:
        if record.get("claimed", {}).get("dag_id") and record["kind"] == "outcome" or record.get("caller", {}).get("subject") in IN_TOKENS:
            for form in ("text", "markdown"):
                ended = audit("trace", "--no-index", "--format", form, record["correlation_id"], log)
                assert ended.returncode == 0
                if form == "text":
                    check_harmless(ended, "trace")
                else:
                    assert not set(ended.stdout.decode()) & set("\x1b\x07\x00\r\x9b\x85"), "trace"
    check_harmless(audit("report", "-o", "-", log), "report")
    check_harmless(audit("verify", log), "verify")


def test_no_cell_of_an_export_is_a_formula_or_a_control(spoken_to):
    ended = audit("export", "--format", "csv", spoken_to.audit_file)
    assert ended.returncode == 0
    text = ended.stdout.decode()
    assert not MOVES.search(text.replace("\r\n", "\n"))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {row["caller_subject"] for row in rows} >= {"'=1+1", "'+1", "'-1", "'@SUM(A1)"}
    numbers = {"upstream_ms", "ms"}
    for row in rows:
        for name, value in row.items():
            assert name in numbers or value.lstrip(" ")[:1] not in tuple("=+-@\t\r") or not value, (name, value)
    for line in audit("export", "--format", "ocsf", "--intents", spoken_to.audit_file).stdout.decode().split("\n")[:-1]:
        assert isinstance(json.loads(line), dict)


HOSTILE = "\x1b]0;owned\x07\u202e\x9b31m"


@pytest.mark.parametrize("damage", ["edited", "foreign", "torn", "key", "opened", "deleted", "seq"])
def test_what_verify_says_of_a_damaged_log_is_harmless(tmp_path, damage):
    log = AuditLog(tmp_path / "a.jsonl")
    log.request(caller={"subject": HOSTILE})
    if damage == "key":
        log.event("log.checkpoint", reason=HOSTILE, public_key=HOSTILE, signature=HOSTILE)
    if damage == "deleted":
        log.event("log.deleted", file=HOSTILE, first_seq=HOSTILE, last_seq=HOSTILE, last_hash=HOSTILE)
    if damage == "opened":
        log.begin(tmp_path / "a.jsonl", HOSTILE)
        log.event("log.opened", reason=HOSTILE, previous_seq=HOSTILE, previous_hash=HOSTILE, public_key=HOSTILE)
    log.request()
    log.close()
    text = (tmp_path / "a.jsonl").read_bytes()
    hostile = HOSTILE.encode()
    if damage == "edited":
        text = text.replace(b'"status":200', b'"status":201', 1)
    if damage == "foreign":
        text += hostile + b"\n"
    if damage == "torn":
        text += b'{"seq":4,"time":"' + hostile
    if damage == "seq":
        text += b'{"seq":4' + hostile + b',"prev":"' + hostile + b'","hash":"' + hostile + b'"}\n'
    (tmp_path / "a.jsonl").write_bytes(text)
    for arguments in (["verify"], ["verify", "--json"], ["show"], ["show", "--last", "3"], ["report", "-o", "-"], ["trace", "--no-index", "1"],
                      ["export", "--format", "csv"]):
        ended = audit(*arguments, tmp_path / "a.jsonl")
        ended.stdout = ended.stdout.replace(b"\r\n", b"\n")
        if arguments != ["verify", "--json"]:
            check_harmless(ended, arguments)
        else:
            json.loads(ended.stdout)


@pytest.mark.parametrize("when", ["\x1b]0;owned\x07\x9b31m...........", "all of it is fine, sir ", "2026-11-23 09:00:00.010Z",
                                  "noon", "", 'a\\"b', "2026-11-23T09:00:00.010Z and all before it is fine"], ids=ascii)
def test_a_time_that_is_none_makes_no_good_checkpoint_and_is_not_shown(tmp_path, when):
    """Signed with the right key as it stands there."""
    log = AuditLog(tmp_path / "a.jsonl", new_key(tmp_path / "key"))
    log.request()
    log.checkpoint(time=when)
    log.close()
    for key in ([], ["--key", tmp_path / "key"]):
        ended = audit("verify", *key, tmp_path / "a.jsonl")
        assert ended.returncode == 1 and b"bad-signature" in ended.stdout, ended.stdout
        assert (not when or when.encode() not in ended.stdout) and b"signed: nothing" in ended.stdout
        check_harmless(ended, "verify")
        told = json.loads(audit("verify", "--json", *key, tmp_path / "a.jsonl").stdout)
        assert told["signed_time"] == "" and told["fault"]["kind"] == "bad-signature"
    log = AuditLog(tmp_path / "b.jsonl", new_key(tmp_path / "key"))
    log.request()
    log.checkpoint()
    log.close()
    assert audit("verify", "--key", tmp_path / "key", tmp_path / "b.jsonl").returncode == 0


@pytest.mark.parametrize("command", [["audit", "verify"], ["audit", "show"], ["audit", "trace", "7", "--no-index"], ["audit", "report", "-o", "-"],
                                     ["audit", "export", "--format", "csv"], ["policy", "suggest", "--log"], ["policy", "replay", "--policy", "p.yaml", "--log"]],
                         ids=" ".join)
@pytest.mark.parametrize("kind", ["none", "noise", "cut", "gap", "beside"])
def test_the_name_of_a_file_steers_no_terminal(tmp_path, command, kind):
    (tmp_path / "p.yaml").write_text("version: 1\nroles: {}\nbindings: []\n")
    log = AuditLog(tmp_path / (HOSTILE + "a.jsonl"), new_key(tmp_path / "key"))
    log.request()
    log.begin(tmp_path / (HOSTILE + "b.jsonl"))
    log.begin(tmp_path / (HOSTILE + "c.jsonl"))
    log.close()
    first, last = tmp_path / (HOSTILE + "a.jsonl"), tmp_path / (HOSTILE + "c.jsonl")
    files = [first]
    if kind == "none":
        files = [tmp_path / HOSTILE]
    if kind == "noise":
        first.write_text("noise\n")
    if kind == "cut":
        first.write_bytes(gzip.compress(first.read_bytes())[:-20])
    if kind == "gap":
        files = [first, last]
    if kind == "beside":
        files = [first, tmp_path / (HOSTILE + "a.jsonl.key")]
    if command[1] == "show":
        files = files[:1]
    ended = subprocess.run([BINARY, *command, *files], cwd=tmp_path, capture_output=True, timeout=seconds(60))
    ended.stdout = ended.stdout.replace(b"\r\n", b"\n")
    check_harmless(ended, command)
