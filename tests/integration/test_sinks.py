"""Copies of the audit log: nothing is missing, whatever happens to sinks and proxy, and nobody waits for them."""
import json
import os
import socket
import subprocess

import pytest

from kit.audit_log import AuditLog
from kit.azure import APP, MONITOR, TENANT, Tenant
from kit.policies import POLICY
from kit.sinks import RULE, STREAM, Ingestion, Receiver, Rsyslog, parse
from kit.waiting import BINARY, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"


@pytest.fixture
def serve(start_proxy, issuer, upstream):
    def start(*sinks, stdout=None, rotate=None, ready=True, **audit):
        if rotate:
            audit["rotate"] = rotate
        proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, audit={"sinks": list(sinks), **audit})
        if stdout is not None:
            proxy.stdout = stdout
        return proxy.start(ready=ready)

    return start


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


def sink(proxy, what, name="siem"):
    return proxy.metric(r'^dagward_audit_sink_%s\{sink="%s"' % (what, name))


def ask(proxy, operator, n, method="GET"):
    """Requests, and their records are in the file when it returns."""
    before = proxy.metric("^dagward_audit_seq ")
    for _ in range(n):
        assert proxy.ask(method, RUNS, operator, body=b"{}" if method == "POST" else b"").status in (200, 404, 502)
    until(lambda: proxy.metric("^dagward_audit_seq ") >= before + n, "the records")


def lines_of(proxy):
    return proxy.audit_file.read_text().splitlines()


def caught_up(proxy, name="siem"):
    until(lambda: sink(proxy, "ok", name) == 1 and sink(proxy, "pending_records", name) == 0,
          lambda: "the sink is behind: " + "\n".join(l for l in proxy.admin_get("/metrics").text.splitlines() if "audit_sink" in l), within=30)


def at_least_once(seqs, upto, first=1):
    """Nothing is missing; what comes again comes in one piece, as from a position that is a little old."""
    assert sorted(set(seqs)) == list(range(first, upto + 1)), "missing: %s" % sorted(set(range(first, upto + 1)) - set(seqs))[:20]
    for before, after in zip(seqs, seqs[1:]):
        assert after <= before + 1, "seq %d follows %d" % (after, before)


# stdout


def test_stdout_has_the_lines_of_the_file(serve, operator, tmp_path):
    with open(tmp_path / "out", "wb") as out:
        proxy = serve({"name": "collector", "type": "stdout"}, stdout=out)
    ask(proxy, operator, 5)
    ask(proxy, operator, 3, "POST")
    caught_up(proxy, "collector")
    proxy.stop()
    assert (tmp_path / "out").read_text() == proxy.audit_file.read_text()
    assert json.loads(lines_of(proxy)[-1])["event"]["detail"]["reason"] == "stopped"


def test_a_reader_of_stdout_that_sleeps_or_dies_delays_nothing(serve, operator):
    reader, writer = os.pipe()
    proxy = serve({"name": "collector", "type": "stdout"}, stdout=writer)
    os.close(writer)
    ask(proxy, operator, 60)  # a pipe holds 64 KiB
    until(lambda: sink(proxy, "pending_records", "collector") > 0, "the pipe is full")
    assert proxy.admin_get("/readyz").status_code == 200
    count = len(lines_of(proxy))
    data = b""
    while data.count(b"\n") < count:
        data += os.read(reader, 65536)
    assert [json.loads(line)["seq"] for line in data.splitlines()][:count] == list(range(1, count + 1))
    caught_up(proxy, "collector")
    os.close(reader)
    ask(proxy, operator, 2)
    until(lambda: sink(proxy, "ok", "collector") == 0, "nobody reads")
    ask(proxy, operator, 2)
    assert proxy.admin_get("/readyz").status_code == 200
    until(lambda: proxy.events("sink.failed"), "the event")


def test_stdout_that_is_closed_is_told_of(serve, operator, tmp_path, issuer, upstream, start_proxy):
    proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, audit={"sinks": [{"name": "collector", "type": "stdout"}]})
    proxy.close_stdout = True
    proxy.start()
    until(lambda: proxy.events("sink.failed"), "the event")
    assert proxy.events("sink.failed")[0]["event"]["detail"]["error"].startswith("standard output")
    ask(proxy, operator, 2)
    proxy.stop()
    # Nothing of it went into what has the descriptor's number now.
    assert b'"seq":' not in proxy.config_file.read_bytes()


# syslog


def test_rsyslog_gets_every_record_over_TCP_and_TLS(serve, operator, issuer, authority, tmp_path):
    server = Rsyslog(tmp_path / "rsyslog", authority.issue("127.0.0.1"), authority.file).start()
    try:
        proxy = serve({"name": "plain", "type": "syslog", "server": "tcp://127.0.0.1:%d" % server.port, "facility": "local3", "app_name": "plain"},
                      {"name": "tls", "type": "syslog", "server": "tls://127.0.0.1:%d" % server.tls_port, "ca": str(authority.file), "app_name": "tls",
                       "hostname": "edge-1", "severity": {"denied": "alert"}},
                      checkpoints={"records": 5})
        allowed = proxy.ask("GET", RUNS, operator, fields=[("X-Correlation-Id", "0190a0b0-0000-7000-8000-00000000abcd"), ("User-Agent", "Käse")])
        denied = proxy.ask("GET", "/contoso/other/_apis/pipelines/42/runs", operator)
        assert denied.status == 403
        caught_up(proxy, "plain")
        caught_up(proxy, "tls")
        public = tmp_path / "public.pem"
        public.write_text(proxy.admin_get("/.well-known/dagward/audit-key").text)
        proxy.stop()
        until(lambda: len(server.lines()) >= 2 * len(lines_of(proxy)), lambda: "%d lines" % len(server.lines()))
    finally:
        server.stop()
    for app, facility, grave in (("plain", 19, 4), ("tls", 16, 1)):
        got = [m for m in server.records() if m["app"] == app]
        # rsyslog drops the byte order mark and may cut the space in front of the text: the record's bytes are the file's
        assert [m["line"] for m in got] == lines_of(proxy)
        assert {m["facility"] for m in got} == {facility}
        by_id = {m["data"].get("correlationId"): m for m in got if m["msgid"] == "outcome"}
        assert by_id[allowed.correlation]["data"]["seq"] == str(by_id[allowed.correlation]["seq"])
        assert by_id[denied.correlation]["severity"] == grave and by_id[denied.correlation]["data"]["effect"] == "deny"
        assert by_id[allowed.correlation]["id"] == "dagward@32473"
    assert {m["host"] for m in server.records() if m["app"] == "tls"} == {"edge-1"}
    # What the server stored is an anchor.
    told = subprocess.run([BINARY, "audit", "verify", "--json", "--key", public, "--anchor", server.file, proxy.audit_file], capture_output=True, text=True)
    assert told.returncode == 0 and json.loads(told.stdout)["anchor"]["met"] >= 2, told.stdout + told.stderr
    cut = tmp_path / "cut.jsonl"
    cut.write_text("\n".join(lines_of(proxy)[:-3]) + "\n")
    told = subprocess.run([BINARY, "audit", "verify", "--anchor", server.file, cut], capture_output=True, text=True)
    assert told.returncode == 1 and "truncated" in told.stdout, told.stdout


@pytest.mark.parametrize("wrong, says", [("name", "not for localhost"), ("ca", "not trusted"), ("dns", "not resolved"), ("closed", "refused")])
def test_a_server_that_cannot_be_trusted_or_found_gets_nothing(serve, operator, authority, tmp_path, receiver, wrong, says):
    receiver.tls = authority.server("other.example" if wrong == "name" else "localhost")
    if wrong != "closed":
        receiver.start()
    host = "nowhere.invalid" if wrong == "dns" else "localhost"
    settings = {} if wrong == "ca" else {"ca": str(authority.file)}
    proxy = serve({"name": "siem", "type": "syslog", "server": "tls://%s:%d" % (host, receiver.port), **settings})
    until(lambda: proxy.events("sink.failed"), "the event", within=30)
    assert says in proxy.events("sink.failed")[0]["event"]["detail"]["error"]
    ask(proxy, operator, 3)
    until(lambda: sink(proxy, "ok") == 0 and sink(proxy, "pending_records") > 0, "the metrics")
    assert receiver.got == []
    assert proxy.admin_get("/readyz").status_code == 200


def test_a_client_certificate_is_shown(serve, operator, authority, receiver):
    receiver.tls = authority.server("localhost")
    receiver.tls.verify_mode = 2
    receiver.tls.load_verify_locations(str(authority.file))
    crt, key = authority.issue("client.example")
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tls://localhost:%d" % receiver.port, "ca": str(authority.file), "certificate": crt, "key": key})
    ask(proxy, operator, 2)
    caught_up(proxy)
    proxy.stop()
    assert receiver.seqs() == list(range(1, len(lines_of(proxy)) + 1))


def test_a_text_beyond_ASCII_has_its_mark(serve, operator, receiver):
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    proxy.ask("GET", RUNS, operator, fields=[("User-Agent", "K\u00e4se")])
    ask(proxy, operator, 1)
    caught_up(proxy)
    assert {m["line"].isascii() for m in receiver.got} == {True, False}
    for message in receiver.got:
        assert message["bom"] != message["line"].isascii()


def test_a_server_that_does_not_read_delays_nothing_and_misses_nothing(serve, operator, receiver):
    receiver.reading = False
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    until(lambda: receiver.connections, "it connects")
    ask(proxy, operator, 40)
    assert proxy.admin_get("/readyz").status_code == 200
    # It dies with what it had received; another one takes its place.
    receiver.stop()
    receiver.reading = True
    receiver.start()
    ask(proxy, operator, 1)
    until(lambda: len(set(receiver.seqs())) >= len(lines_of(proxy)), lambda: "%d of %d" % (len(set(receiver.seqs())), len(lines_of(proxy))), within=30)
    at_least_once(receiver.seqs(), max(receiver.seqs()))
    assert sink(proxy, "unconfirmed_records_total") > 0


def test_resets_repeat_and_lose_nothing(serve, operator, receiver):
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    for _ in range(3):
        receiver.reset_after = 3
        ask(proxy, operator, 5)
        until(lambda: receiver.reset_after is None, "the reset")
        caught_up(proxy)
    assert receiver.connections >= 4
    until(lambda: max(receiver.seqs()) == len(lines_of(proxy)), "the end")
    at_least_once(receiver.seqs(), len(lines_of(proxy)))


def test_kills_and_restarts_repeat_and_lose_nothing(serve, operator, receiver):
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port}, rotate={"size": "64KiB"})
    for round_ in range(3):
        ask(proxy, operator, 40, "POST" if round_ else "GET")
        if round_ == 1:
            proxy.process.terminate()
            proxy.process.wait()
        else:
            proxy.kill()
        proxy.start()
    ask(proxy, operator, 2)
    caught_up(proxy)
    last = proxy.records()[-1]["seq"]
    until(lambda: max(receiver.seqs()) >= last, "the end")
    assert len(list(proxy.folder.glob("audit.jsonl.2*"))) >= 1
    at_least_once(receiver.seqs(), max(receiver.seqs()))
    proxy.whole_audit = False  # killed: intents may lack outcomes; the chain is looked at here
    files = sorted(proxy.folder.glob("audit.jsonl.2*")) + [proxy.audit_file]
    assert subprocess.run([BINARY, "audit", "verify", *files], capture_output=True).returncode == 0


def test_what_retention_deletes_first_is_counted_to_the_record(serve, operator, receiver):
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port}, rotate={"size": "64KiB", "keep": 1})
    while not proxy.events("log.deleted") and len(list(proxy.folder.glob("audit.jsonl.2*"))) < 3:
        ask(proxy, operator, 30)
    proxy.whole_audit = False  # its beginning is gone
    until(lambda: "was deleted" in proxy.log(), "files are deleted")
    receiver.start()
    caught_up(proxy)
    until(lambda: max(receiver.seqs()) >= proxy.records()[-1]["seq"], "the end")
    got, lost = set(receiver.seqs()), sink(proxy, "lost_records_total")
    missing = set(range(1, max(got) + 1)) - got
    assert missing and len(missing) == lost, (len(missing), lost)
    told = [e["event"]["detail"] for e in proxy.events("sink.lost")]
    assert sum(int(t["records"]) for t in told) == lost and {t["reason"] for t in told} == {"deleted"}


def test_retention_can_wait(serve, operator, receiver):
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port},
                  rotate={"size": "64KiB", "keep": 1, "wait_for_sinks": True})
    while len(list(proxy.folder.glob("audit.jsonl.2*.gz"))) < 2:
        ask(proxy, operator, 30)
    assert "was deleted" not in proxy.log()
    proxy.whole_audit = False
    receiver.start()
    caught_up(proxy)
    at_least_once(receiver.seqs(), max(receiver.seqs()))
    assert sink(proxy, "lost_records_total") == 0


def test_a_socket_of_this_machine(serve, operator, tmp_path):
    path = tmp_path / "log"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(path))
    server.settimeout(10)
    proxy = serve({"name": "siem", "type": "syslog", "server": "unix:%s" % path})
    ask(proxy, operator, 3)
    got = []
    while len(got) < 5:
        got.append(parse(server.recv(65536).decode())["seq"])
    assert got == [1, 2, 3, 4, 5]
    server.close()


def test_ten_thousand_records_behind(serve, operator, receiver, tmp_path):
    """Over a packed file, a plain one, and a start with another key."""
    folder = tmp_path / "proxy0"
    folder.mkdir()
    log = AuditLog(folder / "part1")
    for _ in range(6000):
        log.event("made.up", step=1, text="x" * 40)
    log.begin(folder / "audit.jsonl")
    for _ in range(4000):
        log.event("made.up", step=1, text="x" * 40)
    log.close()
    subprocess.run(["gzip", folder / "part1"], check=True)
    (folder / "part1.gz").rename(folder / "audit.jsonl.20261123T090000Z-000000006001.gz")
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port, "from": "start"})
    caught_up(proxy)
    until(lambda: max(receiver.seqs()) >= proxy.records()[-1]["seq"], "the end")
    assert receiver.seqs() == list(range(1, max(receiver.seqs()) + 1)) and len(receiver.seqs()) > 10000
    proxy.whole_audit = False  # no signatures in its first half


# Azure Monitor


@pytest.fixture
def tenant():
    tenant = Tenant()
    yield tenant
    tenant.close()


@pytest.fixture
def ingestion(tenant):
    ingestion = Ingestion(tenant)
    yield ingestion
    ingestion.down()


@pytest.fixture
def sentinel(serve, start_proxy, issuer, upstream, tenant, ingestion, tmp_path):
    secret = tmp_path / "client-secret"
    secret.write_text(tenant.secret())

    def start(**more):
        app = {"name": "app", "type": "client_secret", "authority": tenant.entra.url, "tenant": TENANT, "client_id": APP, "secret_file": str(secret)}
        sinks = [{"name": "siem", "type": "azure_monitor", "endpoint": ingestion.url, "rule": RULE, "credential": "app", "interval": "100ms"}]
        proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, audit={"sinks": sinks, **more})
        proxy.config["credentials"].append(app)
        return proxy.start()

    return start


def test_the_logs_ingestion_API_gets_every_record(sentinel, operator, tenant, ingestion):
    proxy = sentinel()
    allowed = proxy.ask("GET", RUNS, operator)
    denied = proxy.ask("GET", "/contoso/other/_apis/pipelines/42/runs", operator)
    caught_up(proxy)
    proxy.stop()
    assert ingestion.seqs() == list(range(1, len(lines_of(proxy)) + 1))
    rows = {row["CorrelationId"]: row for row in ingestion.taken if row["Kind"] == "outcome"}
    row = rows[allowed.correlation]
    assert row["TimeGenerated"] == row["Record"]["time"] and row["Hash"] == row["Record"]["hash"] and row["Effect"] == "allow"
    assert row["Subject"] == "operator-1" and row["Operation"] == row["Record"]["request"]["operation"] and row["Source"]
    assert rows[denied.correlation]["Effect"] == "deny" and rows[denied.correlation]["Status"] == 403
    assert [row["Record"] for row in ingestion.taken] == [json.loads(line) for line in lines_of(proxy)]
    # Its columns are those of the table in the documentation.
    from kit.waiting import ROOT
    table = json.loads((ROOT / "docs/azure-monitor-table.json").read_text())
    columns = {c["name"] for c in table["properties"]["schema"]["columns"]}
    used = set().union(*ingestion.taken)
    assert used <= columns and len(used) > 12, used - columns
    assert tenant.given(MONITOR) and all(i["how"].startswith("secret") for i in tenant.issued)


def test_what_the_service_answers_is_obeyed(sentinel, operator, tenant, ingestion):
    proxy = sentinel()
    caught_up(proxy)
    ingestion.behave = [(429, {"error": {"code": "TooManyRequests", "message": "Slow down."}}, [("Retry-After", "2")]),
                        (503, {"error": {"message": "Later."}}), lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)]
    before = len(ingestion.asked)
    ask(proxy, operator, 3)
    caught_up(proxy)
    times = [a["at"] for a in ingestion.asked[before:]]
    assert len(times) >= 4 and times[1] - times[0] >= 1.95
    # A token that is not taken any more is renewed, once.
    given = len(tenant.given(MONITOR))
    for issued in tenant.issued:
        if issued["resource"] == MONITOR:
            issued["until"] = 0
    ask(proxy, operator, 2)
    caught_up(proxy)
    assert len(tenant.given(MONITOR)) == given + 1
    assert sink(proxy, "lost_records_total") == 0 and sink(proxy, "failures_total") >= 4
    proxy.stop()
    at_least_once(ingestion.seqs(), len(lines_of(proxy)))


def test_what_is_too_large_is_split_and_what_is_refused_is_lost_alone(sentinel, operator, ingestion):
    ingestion.always = (503, {})
    proxy = sentinel()
    refused = proxy.ask("GET", RUNS, operator).correlation
    ask(proxy, operator, 60)
    ingestion.limit, ingestion.refuses = 20000, lambda row: row.get("CorrelationId") == refused
    ingestion.always = None
    caught_up(proxy)
    assert max(size for _, size, _ in ingestion.calls) <= 20000 and len(ingestion.calls) > 5
    lost = proxy.outcome(refused)["seq"]
    last = max(ingestion.seqs())
    assert set(range(1, last + 1)) - set(ingestion.seqs()) == {lost}
    assert sink(proxy, "lost_records_total") == 1
    told = until(lambda: proxy.events("sink.lost"), "the event")[0]["event"]["detail"]
    assert told["reason"] == "rejected" and told["first_seq"] == told["last_seq"] == str(lost)


def test_many_records_go_in_few_calls_that_are_not_too_large(sentinel, operator, ingestion):
    ingestion.always = (503, {})
    proxy = sentinel()
    long = "/contoso/analytics/_apis/pipelines/42/runs?x=" + "y" * 3000
    for _ in range(500):
        proxy.ask("GET", long, operator, fields=[("User-Agent", "z" * 3000)])
    ingestion.always = None
    caught_up(proxy)
    assert ingestion.calls[0][1] > 900000 and max(size for _, size, _ in ingestion.calls) <= 1000000, ingestion.calls
    assert max(packed for _, _, packed in ingestion.calls) < 300000


def test_a_kill_in_the_middle_of_a_call_repeats_and_loses_nothing(sentinel, operator, ingestion):
    proxy = sentinel()
    for _ in range(2):
        ask(proxy, operator, 10)
        proxy.kill()
        proxy.start()
    caught_up(proxy)
    at_least_once(ingestion.seqs(), max(ingestion.seqs()))
    proxy.whole_audit = False


@pytest.mark.parametrize("status, says", [(403, "Monitoring Metrics Publisher"), (404, "no rule")])
def test_what_somebody_has_to_put_right_is_told_and_loses_nothing(sentinel, operator, ingestion, status, says):
    ingestion.always = (status, {"error": {"code": "X", "message": "It is refused."}})
    proxy = sentinel()
    ask(proxy, operator, 2)
    told = until(lambda: proxy.events("sink.failed"), "the event")[0]["event"]["detail"]["error"]
    assert says in told and "It is refused." in told
    assert proxy.admin_get("/readyz").status_code == 200
    ingestion.always = None
    caught_up(proxy)
    assert until(lambda: proxy.events("sink.recovered"), "the event") and sink(proxy, "lost_records_total") == 0
    at_least_once(ingestion.seqs(), max(ingestion.seqs()))
