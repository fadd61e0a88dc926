"""Copies of the audit log: nothing is missing, whatever happens to sinks and proxy, and nobody waits for them."""
import json
import os
import socket
import subprocess

import pytest

from kit.policies import POLICY
from kit.sinks import RUNS, Receiver, Rsyslog, ask, at_least_once, caught_up, lines_of, parse, receiver, serve, sink  # noqa: F401, as fixtures
from kit.waiting import BINARY, until


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


def test_a_server_that_never_stops_talking_gets_every_record(serve, operator, receiver):
    receiver.talks = True
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    ask(proxy, operator, 20)
    until(lambda: receiver.said > 4 << 20, "it talks", within=30)
    ask(proxy, operator, 20)
    caught_up(proxy)
    proxy.stop()
    at_least_once(receiver.seqs(), len(lines_of(proxy)))


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


def test_a_server_that_breaks_off_after_each_record_is_not_fed_by_its_own_events(serve, operator, receiver):
    receiver.start()
    receiver.reset_after = 1
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    for _ in range(4):
        until(lambda: receiver.reset_after is None, "the reset")
        receiver.reset_after = 1
    receiver.reset_after = None
    caught_up(proxy)
    assert len(proxy.events("sink.failed")) <= 1
    at_least_once(receiver.seqs(), max(receiver.seqs()))


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
