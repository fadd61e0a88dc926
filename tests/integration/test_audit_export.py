"""`dagward audit export`: each field of a record, in CSV and in OCSF."""

import csv
import gzip
import io
import json
import re
import subprocess

import pytest

from kit import waiting
from kit.audit_log import AuditLog

FULL = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "caller": {"roles": ["Op", "Viewer"]},
    "claimed": {"map_index": "3"},
    "request": {
        "query": "api-version=7.1&x=***",
        "resources": ["pipeline:42", "ref:refs/heads/main"],
        "says": ["variables.x", "stagesToSkip"],
        "bytes": 77,
    },
    "decision": {"reason": 'a "quoted", text\r\nof two lines', "shadow": "deny", "break_glass": "INC-1"},
    "upstream": {"e2eid": "e-1", "attempts": 2},
    "credential": {"assertion": "caller"},
    "trigger": {"key": "992a339bf0ee76cd", "by": "key", "state": "replayed", "first": "01a22261-dbdc-76ec-8da3-cad7a84d4059"},
    "run": {"id": "7", "url": "https://dev.azure.com/contoso/_build?buildId=7"},
}


def run(form, *arguments, **options):
    return subprocess.run(
        [waiting.BINARY, "audit", "export", "--format", form, *map(str, arguments)],
        capture_output=True,
        timeout=waiting.seconds(60),
        **options,
    )


def done(form, *arguments, **options):
    ended = run(form, *arguments, **options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.decode()


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def log(tmp_path):
    made = AuditLog(tmp_path / "a.jsonl")
    yield made
    made.close()


def lines(log):
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def flat(record):
    """Columns of CSV, by the rule in docs/audit.md."""
    out = {name: str(record.get(name, "")) for name in ("seq", "time", "kind", "request_id", "correlation_id", "traceparent")}
    out.update({name: record.get(name, "") for name in ("prev", "hash")})
    out["ms"] = "%.3f" % record["ms"] if "ms" in record else ""
    for group in ("caller", "claimed", "request", "decision", "credential", "upstream", "response", "run", "trigger"):
        for name, value in record.get(group, {}).items():
            if name == "ms":
                value = "%.3f" % value
            out["%s_%s" % (group, name)] = ";".join(value) if isinstance(value, list) else str(value)
    event = record.get("event", {})
    out["event_name"] = event.get("name", "")
    out["event_detail"] = ";".join("%s=%s" % pair for pair in event.get("detail", {}).items())
    return out


def test_csv_has_every_field_in_its_column(log):
    log.request(**FULL)
    log.request("intent")
    log.event("keys.changed", issuer="airflow", added="k2")
    text = done("csv", log.path)
    assert text.endswith("\r\n")
    told = rows(text)
    assert len(told) == 4
    for row, record in zip(told, lines(log)):
        wanted = flat(record)
        wanted["decision_reason"] = wanted.get("decision_reason", "").replace("\r", "\\x0d").replace("\n", "\\x0a")
        assert {name: value for name, value in row.items() if value} == {n: v for n, v in wanted.items() if v}
    # No column stays empty for the full record but those of events.
    assert {name for name, value in told[1].items() if not value} == {"event_name", "event_detail"}


def test_the_columns_are_the_fields_of_the_guide(log):
    guide = (waiting.ROOT / "docs/audit.md").read_text()
    table = re.search(r"\n\| field \| meaning \|\n(.*?)\n\n", guide, re.S).group(1)
    wanted = set()
    for row in table.splitlines():
        names = re.findall(r"`([a-z0-9_.*]+)`", row.split("|")[1])
        if names == ["claimed.*"]:
            names = ["claimed." + n for n in re.findall(r"`([a-z_]+)`", row.split("|")[2])]
        for name in names:
            group = names[0].rsplit(".", 1)[0]
            wanted.add((group + name if name.startswith(".") else name).replace(".", "_"))
    assert set(done("csv", log.path).split("\r\n")[0].split(",")) == wanted - {"---"}


@pytest.mark.parametrize("sign", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "＋1", "－1", "＠x", '=HYPERLINK("http://x","y")'])
def test_no_cell_is_a_formula(log, sign):
    log.request(
        caller={name: sign for name in ("issuer", "subject", "token_id", "via", "address")} | {"roles": [sign]},
        claimed={name: sign for name in ("dag_id", "run_id", "task_id", "map_index", "try_number", "user_agent")},
        request={n: sign for n in ("method", "host", "path", "query", "operation", "organization", "project")} | {"says": [sign]},
        decision={"reason": sign, "rule": sign, "role": sign, "break_glass": sign},
        upstream={"host": sign, "activity_id": sign},
        run={"id": sign, "url": sign},
    )
    (row,) = rows(done("csv", log.path))[1:]
    shown = sign.replace("\t", "\\x09").replace("\r", "\\x0d")
    defused = [name for name, value in row.items() if value == "'" + shown]
    assert len(defused) == 6 + 6 + 8 + 4 + 2 + 2
    assert not [value for value in row.values() if value.lstrip(" ")[:1] in tuple("=+-@\t\r＝＋－＠") and value]


def test_a_cell_cannot_end_itself_or_move_a_terminal(log):
    log.request(caller={"subject": 'a","b"\r\n=1\x1b[2J\u202e\x00z'})
    text = done("csv", log.path)
    assert text.count("\r\n") == 3 and "\x1b" not in text and "\u202e" not in text and "\x00" not in text
    assert rows(text)[1]["caller_subject"] == 'a","b"\\x0d\\x0a=1\\x1b[2J\\xe2\\x80\\xae\\x00z'


def test_ocsf_field_by_field(log):
    log.request(**FULL)
    (event,) = [json.loads(line) for line in done("ocsf", log.path).splitlines()][1:]
    record = lines(log)[1]
    assert event == {
        "class_uid": 6003,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": 2,
        "activity_name": "Read",
        "type_uid": 600302,
        "time": 1795424400020,
        "severity_id": 4,
        "severity": "High",
        "metadata": {
            "version": "1.3.0",
            "product": {"name": "Dagward", "vendor_name": "Dagward", "version": event["metadata"]["product"]["version"]},
            "profiles": ["security_control"],
            "log_name": "audit",
            "sequence": 2,
            "original_time": record["time"],
            "uid": record["hash"],
            "correlation_uid": record["correlation_id"],
        },
        "duration": 21,
        "status_id": 1,
        "status": "Success",
        "status_code": "200",
        "status_detail": FULL["decision"]["reason"],
        "action_id": 1,
        "action": "Allowed",
        "disposition_id": 1,
        "disposition": "Allowed",
        "actor": {
            "user": {"name": "system:serviceaccount:airflow:worker", "groups": [{"name": "Op"}, {"name": "Viewer"}]},
            "session": {"uid": "t-1", "issuer": "airflow"},
            "idp": {"name": "airflow"},
            "authorizations": [{"decision": "allow", "policy": {"name": "policy.yaml:5", "uid": "ab" * 32}}],
        },
        "api": {
            "operation": "build.builds.get",
            "service": {"name": "dev.azure.com"},
            "request": {"uid": record["request_id"]},
            "response": {"code": 200},
        },
        "http_request": {
            "http_method": "GET",
            "user_agent": "python-requests/2.32",
            "uid": record["request_id"],
            "length": 77,
            "url": {
                "hostname": "dev.azure.com",
                "path": "/contoso/analytics/_apis/build/builds/7",
                "query_string": "api-version=7.1&x=***",
            },
        },
        "http_response": {"code": 200, "length": 512},
        "src_endpoint": {"ip": "10.0.0.7"},
        "dst_endpoint": {"hostname": "dev.azure.com"},
        "resources": [{"type": "pipeline", "name": "42"}, {"type": "ref", "name": "refs/heads/main"}],
        "unmapped": {
            "kind": "outcome",
            "traceparent": FULL["traceparent"],
            "caller.via": "bearer",
            "claimed.dag_id": "nightly",
            "claimed.run_id": "scheduled__2026-11-23T00:00:00+00:00",
            "claimed.task_id": "start",
            "claimed.map_index": "3",
            "claimed.try_number": "1",
            "request.access": "read",
            "request.organization": "contoso",
            "request.project": "analytics",
            "request.says": ["variables.x", "stagesToSkip"],
            "decision.role": "etl-operator",
            "decision.binding": "workers",
            "decision.shadow": "deny",
            "decision.break_glass": "INC-1",
            "credential.name": "etl",
            "credential.type": "federated",
            "credential.assertion": "caller",
            **{"trigger." + name: value for name, value in FULL["trigger"].items()},
            "upstream.status": 200,
            "upstream.activity_id": record["upstream"]["activity_id"],
            "upstream.e2eid": "e-1",
            "upstream.attempts": 2,
            "upstream.ms": 20.125,
            "run.id": "7",
            "run.url": FULL["run"]["url"],
            "prev": record["prev"],
            "hash": record["hash"],
        },
    }


@pytest.mark.parametrize(
    "access, method, activity, name",
    [
        ("read", "POST", 2, "Read"),
        ("write", "POST", 1, "Create"),
        ("write", "PATCH", 3, "Update"),
        ("manage", "PUT", 3, "Update"),
        ("delete", "DELETE", 4, "Delete"),
        ("execute", "POST", 99, "Execute"),
        (None, "GET", 2, "Read"),
        (None, "POST", 1, "Create"),
        (None, "PATCH", 3, "Update"),
        (None, "DELETE", 4, "Delete"),
        (None, "BREW", 99, "Other"),
    ],
)
def test_ocsf_activities(log, access, method, activity, name):
    log.request(request={"access": access, "method": method})
    event = json.loads(done("ocsf", log.path).splitlines()[1])
    assert (event["activity_id"], event["activity_name"], event["type_uid"]) == (activity, name, 600300 + activity)


@pytest.mark.parametrize(
    "decision, status, wanted",
    [
        ({"effect": "allow"}, 200, (1, "Success", 1, 1, 1, "allow", "policy.yaml:5")),
        ({"effect": "deny", "rule": None}, 403, (2, "Failure", 2, 2, 2, "deny", "default")),
        ({"effect": "deny", "rule": "p:1"}, 403, (2, "Failure", 2, 2, 2, "deny", "p:1")),
        ({"effect": "error"}, 502, (2, "Failure", 1, 1, 3, "allow", "policy.yaml:5")),
        ({"effect": "error", "rule": None}, 499, (2, "Failure", 0, 0, 3, None, None)),
    ],
)
def test_ocsf_decisions(log, decision, status, wanted):
    log.request(decision=decision, response={"status": status})
    event = json.loads(done("ocsf", log.path).splitlines()[1])
    (said,) = event["actor"].get("authorizations", [{"decision": None, "policy": {"name": None}}])
    assert wanted == (
        event["status_id"],
        event["status"],
        event["action_id"],
        event["disposition_id"],
        event["severity_id"],
        said["decision"],
        said["policy"]["name"],
    )
    assert event["status_code"] == str(status)


def test_ocsf_of_nobody_has_what_the_class_requires(log):
    log.record({"kind": "outcome", "request_id": "r", "decision": {"effect": "deny"}, "ms": 1.0})
    event = json.loads(done("ocsf", log.path).splitlines()[1])
    assert event["actor"]["user"] == {"name": "unknown"} and event["src_endpoint"] == {"name": "unknown"}
    assert set(event) >= {"activity_id", "actor", "api", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}


def test_events_and_intents_in_ocsf(log):
    log.start(7)
    log.event("keys.refresh_failed", issuer="airflow", reason="timeout")
    events = [json.loads(line) for line in done("ocsf", log.path).splitlines()]
    assert [(e["class_uid"], e["unmapped"]["kind"]) for e in events] == [(0, "event"), (6003, "outcome"), (0, "event")]
    assert events[2]["activity_name"] == events[2]["message"] == "keys.refresh_failed" and events[2]["severity_id"] == 3
    assert events[2]["unmapped"]["event.issuer"] == "airflow" and events[2]["type_uid"] == 99
    with_intents = [json.loads(line) for line in done("ocsf", log.path, "--intents").splitlines()]
    assert [e["unmapped"]["kind"] for e in with_intents] == ["event", "intent", "outcome", "event"]
    assert (with_intents[1]["status_id"], with_intents[1]["status"]) == (0, "Unknown")
    glass = {"kind": "event", "caller": {"subject": "ann"}, "decision": {"break_glass": "INC"}, "event": {"name": "break_glass.used"}}
    log.record(glass)
    last = json.loads(done("ocsf", log.path).splitlines()[-1])
    assert last["severity_id"] == 4 and last["unmapped"]["caller.subject"] == "ann" and last["unmapped"]["decision.break_glass"] == "INC"


def test_any_bytes_stay_json_on_one_line(log):
    log.request(caller={"subject": '"}\n{"x":1}\u2028\x00\x1b'}, claimed={"user_agent": "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")})
    text = done("ocsf", log.path)
    assert text.count("\n") == 2
    assert json.loads(text.splitlines()[1])["actor"]["user"]["name"] == '"}\n{"x":1}\u2028\x00\x1b'


def test_periods_compressed_files_and_standard_input(log, tmp_path):
    for _ in range(4):
        log.request(step=24 * 3600 * 1000)
    assert len(rows(done("csv", log.path, "--since", "2026-11-25", "--until", "2026-11-27"))) == 2
    packed = tmp_path / "old.gz"
    packed.write_bytes(gzip.compress(log.path.read_bytes()))
    assert done("csv", packed) == done("csv", log.path) == done("csv", "-", input=log.path.read_bytes())
    packed.write_bytes(packed.read_bytes()[:-9])
    assert run("csv", packed).returncode == 2


def test_lines_that_are_no_records_are_counted(log):
    log.request()
    with open(log.path, "a") as file:
        file.write("noise\n")
    ended = run("csv", log.path)
    assert ended.returncode == 1 and b"1 line(s) that are no audit record" in ended.stderr
    assert len(rows(ended.stdout.decode())) == 2


def test_a_full_disk_is_an_error(log):
    log.request()
    with open("/dev/full", "w") as full:
        ended = subprocess.run([waiting.BINARY, "audit", "export", "--format", "csv", log.path], stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 2 and b"standard output cannot be written" in ended.stderr


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        ([], 2, b"--format csv or --format ocsf is missing"),
        (["--format", "xml", "a"], 2, b"csv or ocsf, not `xml`"),
        (["--format", "csv"], 2, b"say which FILE"),
        (["--format", "csv", "nowhere"], 2, b"No such file"),
        (["--format", "csv", "--since", "noon", "a"], 2, b"not a time: noon"),
        (["--help"], 0, b""),
    ],
)
def test_usage(arguments, status, says):
    ended = subprocess.run([waiting.BINARY, "audit", "export", *arguments], capture_output=True)
    assert ended.returncode == status and says in ended.stderr
    assert (b"usage: dagward audit export" in ended.stdout) == (arguments == ["--help"])
