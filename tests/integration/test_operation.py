"""Running it: reload under load, drain, evidence that cannot be written, TLS, the admin listener."""
import copy
import fcntl
import os
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from kit import upstreams, wire
from kit.certs import Authority
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.upstreams import message
from kit.waiting import BINARY, free_port, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
OTHER = "/contoso/analytics/_apis/pipelines/7/runs"


class Load:
    """Clients that go on asking until told to stop, each on kept connections; remembers what came."""

    def __init__(self, proxy, token, clients=4):
        self.proxy, self.token = proxy, token
        self.stopping, self.answers, self.failures = threading.Event(), [], []
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def run(self):
        while not self.stopping.is_set():
            try:
                with self.proxy.connect() as client:
                    for _ in range(25):
                        self.answers.append(client.ask("POST", RUNS, [("Authorization", "Bearer " + self.token)], b"{}").status)
                        time.sleep(0.01)  # each has records, which the test reads again and again
                        if self.stopping.is_set():
                            break
            except (OSError, wire.CutOff) as e:
                self.failures.append(repr(e))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def test_reload_under_load_drops_no_request(proxy, upstream, operator):
    other = copy.deepcopy(POLICY)
    other["roles"]["operator"]["allow"][0]["pipelines"] = [42, 7]
    assert proxy.ask("POST", OTHER, operator, body=b"{}").status == 403
    with Load(proxy, operator) as load:
        for i in range(8):
            told = proxy.reload(policy=other if i % 2 == 0 else POLICY)
            assert told["policy"]
            assert proxy.ask("POST", OTHER, operator, body=b"{}").status == (200 if i % 2 == 0 else 403)
        until(lambda: len(load.answers) > 100, "the load makes progress")
    assert load.failures == [] and set(load.answers) == {200}
    proxy.outcomes(len(load.answers) + 9)


def test_a_bad_file_changes_nothing_and_says_why(proxy, upstream, operator):
    digest = proxy.outcome(proxy.ask("GET", RUNS, operator))["decision"]["policy"]
    good = proxy.config
    for policy, config in [("version: 1\nroles: {operator: {alow: []}}\n", None), ("{", None), (POLICY, {**good, "wrokers": 3})]:
        told = proxy.reload(policy=policy, config=config, good=False)
        assert told, "the event tells why"
        answer = proxy.ask("GET", RUNS, operator)
        assert answer.status == 200 and proxy.outcome(answer)["decision"]["policy"] == digest
    assert "alow" in proxy.log() and "allow" in proxy.log() and "wrokers" in proxy.log()
    assert proxy.metric("reload") >= 3
    proxy.reload(policy=POLICY, config=good)


def test_a_changed_file_is_noticed_without_a_signal(proxy, operator):
    assert proxy.ask("POST", OTHER, operator, body=b"{}").status == 403
    proxy.policy = copy.deepcopy(POLICY)
    proxy.policy["roles"]["operator"]["allow"][0]["pipelines"] = [7]
    proxy.write_files()
    until(lambda: proxy.ask("POST", OTHER, operator, body=b"{}").status == 200, "the new policy holds", within=20, every=0.2)


def test_SIGTERM_lets_requests_finish_and_takes_no_new_ones(proxy, upstream, operator):
    upstream.tell(upstreams.late(1.5, message(200, "late")))
    with proxy.connect() as busy, proxy.connect() as idle:
        assert idle.ask("GET", "/", [("Authorization", "Bearer " + operator)]).status == 200
        busy.request("POST", RUNS, [("Authorization", "Bearer " + operator)], b"{}")
        until(lambda: upstream.received, "the request is under way")
        proxy.signal(signal.SIGTERM)
        assert idle.is_closed(), "an idle connection is closed"
        until(lambda: refused(proxy), "new connections are refused")
        assert proxy.process.poll() is None, "it does not leave while a request is under way"
        answer = busy.answer()
        assert answer.status == 200 and answer.body == b"late"
    assert proxy.process.wait(timeout=seconds(10)) == 0
    assert [e["event"]["name"] for e in proxy.events("process")][-2:] == ["process.draining", "process.stopped"]
    assert len(proxy.records("outcome")) == 2


def refused(proxy):
    try:
        proxy.connect().close()
        return False
    except ConnectionRefusedError:
        return True


def test_the_drain_has_an_end(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, timeouts={"drain": "500ms"})
    upstream.tell(upstreams.silent)
    with proxy.connect() as client:
        client.request("POST", RUNS, [("Authorization", "Bearer " + operator)], b"{}")
        until(lambda: upstream.received, "the request is under way")
        proxy.signal(signal.SIGTERM)
        assert proxy.process.wait(timeout=seconds(10)) == 0
    assert len(proxy.records("outcome")) == 1


def test_without_evidence_there_is_no_request(start_proxy, issuer, upstream, operator):
    """The audit file may grow to 64 KiB and no more: then nothing is forwarded, and everything says so."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, file_size=64 * 1024, timeouts={"drain": "2s"})
    proxy.whole_audit = False
    answers = []
    for _ in range(200):
        answers.append(proxy.ask("POST", RUNS, operator, body=b"{}"))
        if answers[-1].status == 503:
            break
    assert answers[-1].status == 503 and "audit" in answers[-1].text and {a.status for a in answers[:-1]} == {200}
    posts = lambda: [r.method for r in upstream.received].count("POST")
    forwarded = posts()
    intents = [r["request_id"] for r in proxy.records("intent")]
    assert len(intents) == forwarded, "each request that went upstream has its intent on disk, no other has one"
    # A read waits for no record: all workers refuse them from the first failure on.
    until(lambda: {proxy.ask("GET", RUNS, operator).status for _ in range(8)} == {503}, "reads are refused too")
    for _ in range(5):
        assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 503
    assert posts() == forwarded
    until(lambda: proxy.admin_get("/readyz").status_code == 503, "readiness tells")
    told = subprocess.run([BINARY, "audit", "verify", proxy.audit_file], capture_output=True, text=True)
    assert told.returncode in (0, 1)


def test_a_full_disk_that_is_emptied_again_loses_no_outcome(start_proxy, issuer, upstream, operator, tmp_path):
    """As above; then the limit is lifted, and what was waiting is written."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, file_size=32 * 1024)
    sent = 0
    while proxy.ask("POST", RUNS, operator, body=b"{}").status == 200:
        sent += 1
    _, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    until(lambda: proxy.ask("POST", RUNS, operator, body=b"{}").status == 200, "it recovers", within=20, every=0.1)
    until(lambda: len(proxy.records("outcome")) >= sent + 2, "all outcomes are written")
    until(proxy.is_ready, "readiness recovers")


def test_reads_may_go_on_without_evidence_when_the_operator_says_so(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, file_size=32 * 1024,
                        audit={"on_failure": "allow-reads"}, timeouts={"drain": "2s"})
    proxy.whole_audit = False
    while proxy.ask("POST", RUNS, operator, body=b"{}").status == 200:
        pass
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 503


def test_a_read_only_audit_file_stops_the_start(start_proxy, issuer, tmp_path):
    proxy = Proxy(tmp_path / "p", [issuer.config()], POLICY)
    proxy.config["audit"]["file"] = str(tmp_path / "missing" / "audit.jsonl")
    proxy.start(expect_failure=True)
    assert proxy.process.wait(timeout=seconds(10)) == 2
    assert "audit" in proxy.log()


def test_an_intent_is_on_disk_before_upstream_hears_of_it(proxy, upstream, operator):
    found = []

    def look(sock, request):
        found.append([r for r in proxy.records("intent") if r["correlation_id"] == request["X-VSS-E2EID"]])
        return message(200, "{}")

    upstream.always = look
    for _ in range(10):
        assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
    assert [len(f) for f in found] == [1] * 10
    upstream.always = None
    answer = proxy.ask("GET", RUNS, operator)
    proxy.outcome(answer)
    assert [r["kind"] for r in proxy.of(answer)] == ["outcome"], "a read needs no intent"


def test_an_edited_audit_file_is_found_out(proxy, operator, tmp_path):
    for _ in range(5):
        proxy.ask("GET", RUNS, operator)
    proxy.outcomes(5)
    lines = proxy.audit_file.read_bytes().splitlines(keepends=True)
    verify = lambda content: (tmp_path / "copy").write_bytes(b"".join(content)) and subprocess.run(
        [BINARY, "audit", "verify", tmp_path / "copy"], capture_output=True, text=True)
    assert verify(lines).returncode == 0
    edited = verify(lines[:4] + [lines[4].replace(b'"GET"', b'"PUT"')] + lines[5:])
    assert edited.returncode == 1 and ":5" in edited.stdout + edited.stderr
    assert verify(lines[:3] + lines[4:]).returncode == 1
    assert verify(lines[:3] + [lines[4], lines[3]] + lines[5:]).returncode == 1


def test_a_caller_cannot_break_the_lines_of_the_audit_file(proxy, operator):
    nasty = [("User-Agent", 'x"\\ \xff\x80\t{"kind":"outcome"}'), ("X-Airflow-Dag-Id", "%0a%22%7b%00%ff"), ("X-Airflow-Run-Id", "%E2%80%AE%u0000" + "z" * 400)]
    answer = proxy.ask("GET", RUNS, operator, nasty)
    assert answer.status == 200
    claimed = proxy.outcome(answer)["claimed"]
    assert claimed["user_agent"].startswith('x"\\') and len(claimed["run_id"]) <= 250
    answer = proxy.ask("GET", "/contoso/analytics/_apis/pipelines?x=" + "%22%0a", operator)
    proxy.outcome(answer)


def test_a_log_that_is_rotated_goes_on_with_its_chain(proxy, operator):
    proxy.ask("GET", RUNS, operator)
    proxy.outcomes(1)
    moved = proxy.folder / "audit.1"
    proxy.audit_file.rename(moved)
    proxy.signal(signal.SIGUSR1)
    until(proxy.audit_file.exists, "a new file is begun")
    proxy.ask("GET", RUNS, operator)
    proxy.outcomes(1)
    told = subprocess.run([BINARY, "audit", "verify", moved, proxy.audit_file], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def tls_proxy(start_proxy, issuer, upstream, authority, **tls):
    certificate, key = authority.issue("localhost", "127.0.0.1")
    port = free_port()
    listen = [{"address": "127.0.0.1:%d" % port, "tls": {"certificate": certificate, "key": key, **tls}}]
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, listen=listen)
    proxy.port = port
    return proxy


def test_a_TLS_listener(start_proxy, issuer, upstream, authority, operator):
    proxy = tls_proxy(start_proxy, issuer, upstream, authority)
    token = [("Authorization", "Bearer " + operator)]
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.client()
        context.maximum_version = version
        with proxy.connect(tls=context) as client:
            for _ in range(3):
                assert client.ask("GET", RUNS, token).status == 200
            answer = client.ask("POST", RUNS, token, b"{" + b" " * 300_000 + b"}")
            assert answer.status == 200
    old = authority.client()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        proxy.connect(tls=old)
    with pytest.raises((wire.CutOff, OSError)):
        proxy.ask("GET", RUNS, operator)  # plain HTTP on a TLS port


def test_a_TLS_listener_with_client_certificates(start_proxy, issuer, upstream, authority, operator, tmp_path):
    proxy = tls_proxy(start_proxy, issuer, upstream, authority, client_ca=str(authority.file))
    stranger = Authority(tmp_path / "stranger", "stranger")
    token = [("Authorization", "Bearer " + operator)]
    with proxy.connect(tls=authority.client(authority.issue("worker"))) as client:
        assert client.ask("GET", RUNS, token).status == 200
        assert client.ask("GET", RUNS).status == 401, "a certificate is no token"
    for identity in (None, stranger.issue("worker")):
        with pytest.raises((ssl.SSLError, wire.CutOff, OSError)):
            with proxy.connect(tls=authority.client(identity)) as client:
                client.ask("GET", RUNS, token)


def test_a_new_certificate_is_shown_after_a_reload(start_proxy, issuer, upstream, authority, operator):
    proxy = tls_proxy(start_proxy, issuer, upstream, authority)

    def serial():
        with proxy.connect(tls=authority.client()) as client:
            return client.sock.getpeercert()["serialNumber"]

    before = serial()
    assert serial() == before
    authority.issue("localhost", "127.0.0.1")  # the same files
    proxy.reload()
    assert serial() != before


def test_the_admin_listener(proxy, upstream, operator, issuer):
    proxy.ask("GET", RUNS, operator)
    proxy.ask("POST", "/contoso/analytics/_apis/pipelines/99/runs", operator, body=b"{}")
    proxy.ask("GET", RUNS)
    proxy.outcomes(3)
    assert proxy.admin_get("/healthz").status_code == 200 and proxy.admin_get("/readyz").status_code == 200
    text = proxy.admin_get("/metrics").text
    assert 'decision="allow"' in text and 'decision="deny"' in text
    for secret in (operator, proxy.upstream_token):
        assert secret not in text
    assert proxy.admin_get("/nothing").status_code == 404
    assert requests.post(proxy.admin + "/readyz", timeout=5).status_code == 405


def test_who_holds_the_admin_listener_keeps_no_probe_away(proxy):
    held = []
    try:
        for _ in range(100):
            held.append(socket.create_connection(("127.0.0.1", proxy.admin_port), timeout=seconds(5)))
            held[-1].sendall(b"GET /heal")
        for _ in range(5):
            assert proxy.admin_get("/healthz").status_code == 200
    finally:
        for one in held:
            one.close()


def test_many_connections_at_once(proxy, upstream, operator):
    def one(_):
        with proxy.connect(timeout=30) as client:
            return [client.ask("GET", RUNS, [("Authorization", "Bearer " + operator)]).status for _ in range(5)]

    with ThreadPoolExecutor(50) as pool:
        assert all(got == [200] * 5 for got in pool.map(one, range(100)))
    proxy.outcomes(500, response_status=200)


def test_when_nobody_reads_stderr_it_serves_on_and_says_later_what_was_lost(start_proxy, issuer, upstream, operator, tmp_path):
    """A pipe whose reader stands still, as that of a log service that hangs."""
    proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, workers=2, log={"level": "debug"})
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    proxy.runner = ("bash", "-c", 'exec "$0" "$@" 2>%s' % pipe)
    proxy.start()
    for _ in range(20):  # each says more than a line
        proxy.signal(signal.SIGHUP)
        assert proxy.admin_get("/healthz").status_code == 200
        assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
    until(lambda: proxy.admin_get("/readyz").status_code == 200, "no sign of life")
    said = os.read(reader, 1 << 20)
    assert said.endswith(b"\n") and b"left out" not in said

    def is_told():
        proxy.signal(signal.SIGHUP)
        return b"log lines left out: " in read_what_is_there(reader)

    until(is_told, "it does not say what was lost")
    os.close(reader)


def read_what_is_there(fd):
    time.sleep(0.1)
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""
