"""A new process takes the place of one that serves (`--handover`): no connection is refused, no request is
lost, the audit log stays one chain, and a trigger is sent once, whichever of the two has it in hand."""
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests

from kit import wire
from kit.emulator import Emulator
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.upstreams import message
from kit.waiting import seconds, until
from test_continuity import Load, bearer

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
VERSION = "?api-version=7.1"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"


class Line:
    """Processes, each of which takes the place of the one before."""

    def __init__(self, proxy):
        self.proxy, self.old = proxy, []
        self.path = str(proxy.folder / "handover.sock")

    def start(self, **how):
        """The next one, which is asked to take over; it may not have done so yet."""
        if self.proxy.process:
            self.old.append(self.proxy.process)
        self.proxy.start(arguments=["--handover", self.path], **how)
        return self.proxy.process

    def next(self):
        """The next one, when it serves."""
        done = len(self.proxy.events("handover.done"))
        self.start(ready=False)
        until(lambda: len(self.proxy.events("handover.done")) > done, lambda: "it has taken over: " + self.proxy.log()[-3000:], within=40)
        return self.proxy.process

    def gone(self, process, within=30):
        assert process.wait(timeout=seconds(within)) == 0

    def failed_next(self, status=2):
        """The next one, which is to fail; the one that serves goes on."""
        serving = self.proxy.process
        self.start(expect_failure=True)
        assert self.proxy.process.wait(timeout=seconds(60)) == status
        self.proxy.process = self.old.pop()
        assert self.proxy.process is serving and serving.poll() is None

    def kill(self):
        for process in self.old:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def line(tmp_path, issuer, upstream):
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, upstream.url, audit={"checkpoints": {"records": 20}}, log={"level": "info"})
    line = Line(proxy)
    try:
        yield line
        proxy.stop()
        for process in line.old:
            assert process.poll() is not None, "an old process is still there"
    finally:
        line.kill()
        proxy.kill()


def listening_sockets(port):
    """The inodes of all sockets that listen there."""
    rows = [row.split() for row in open("/proc/net/tcp").read().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(":%04X" % port) and row[3] == "0A"}


def keyed(token, key):
    return bearer(token) + [("Idempotency-Key", key)]


def test_no_request_fails_while_processes_follow_each_other(line, upstream, operator):
    """The number of workers changes as well: each listening socket goes on being listened on."""
    proxy = line.proxy
    line.start()
    sockets = listening_sockets(proxy.port)
    assert len(sockets) == 2
    with Load(lambda _: proxy.connect(timeout=40), operator, clients=6) as load:
        for workers in (3, 1, 2, 2):
            seen = len(load.statuses)
            until(lambda: len(load.statuses) > seen + 40, "the load makes progress")
            old, proxy.config["workers"] = proxy.process, workers
            line.next()
            line.gone(old)
            assert listening_sockets(proxy.port) == sockets, "who is queued in one that is closed is lost"
        seen = len(load.statuses)
        until(lambda: len(load.statuses) > seen + 40, "the load makes progress")
    load.check(upstream, 200)
    proxy.outcomes(len(load.statuses))
    posts = [r for r in upstream.received if r.method == "POST"]
    assert len(proxy.records("intent")) == len(posts)
    names = [e["event"]["name"] for e in proxy.events()]
    assert names.count("process.started") == 5 and names.count("process.stopped") == 4 and names.count("handover.done") == 4
    for _ in range(3):
        assert proxy.admin_get("/readyz").status_code == 200


def test_the_sockets_of_many_workers_are_all_handed_over_also_to_one(line, operator):
    """A worker for each of many CPUs, each with a socket of its own."""
    proxy = line.proxy
    proxy.config["workers"] = 100
    line.start()
    sockets = listening_sockets(proxy.port)
    assert len(sockets) == 100
    for workers in (1, 3):
        old, proxy.config["workers"] = proxy.process, workers
        line.next()
        line.gone(old)
        assert listening_sockets(proxy.port) == sockets, "who is queued in one that is closed is lost"
        for _ in range(30):
            assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200


def test_more_sockets_than_can_be_handed_over_stay_where_they_are(line, operator):
    proxy = line.proxy
    proxy.config["workers"] = 250
    line.start()
    line.failed_next()
    assert "it listens on more sockets than can be handed over" in proxy.log()
    assert len(listening_sockets(proxy.port)) == 250 and proxy.ask("POST", RUNS, operator, body=b"{}").status == 200


def test_what_is_under_way_is_finished_by_the_old_process_while_the_new_one_serves(line, upstream, operator):
    proxy, size = line.proxy, 8 << 20
    gate = threading.Event()

    def slow(sock, _):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size)
        sock.sendall(b"x" * (size // 2))
        gate.wait(60)
        sock.sendall(b"x" * (size - size // 2))
        return b""

    proxy.config["timeouts"]["drain"] = "2m"
    first = line.start()
    upstream.tell(slow)
    with proxy.connect(timeout=60) as download, proxy.connect(timeout=60) as upload:
        download.request("GET", ITEM, bearer(operator))
        until(lambda: upstream.received, "the download is under way")
        upload.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\n\r\n{" % (RUNS, operator))
        second = line.next()
        assert first.poll() is None and second.poll() is None
        for _ in range(4):
            assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
        line.failed_next()  # one at a time: who drains is still heard
        assert "still drains" in proxy.log() and second.poll() is None
        upload.send("}")  # its intent is written by the new process
        answer = upload.answer()
        assert answer.status == 200 and answer["Connection"] == "close"
        assert [r["kind"] for r in proxy.of(answer)][0] == "intent"
        gate.set()
        answer = download.answer()
        assert answer.status == 200 and answer.body_size == size
    line.gone(first)
    assert proxy.outcome(answer)["response"]["bytes"] == size
    line.next()
    line.gone(second)
    proxy.outcomes(6)


def test_a_process_that_cannot_start_changes_nothing(line, upstream, operator):
    proxy = line.proxy
    line.start()
    good = proxy.policy
    proxy.policy = "version: 1\nroles: {x: {alow: []}}\n"
    line.failed_next()
    proxy.policy = good
    # It gets as far as the files: the admin address is somebody else's.
    with socket.create_server(("127.0.0.1", 0)) as other:
        proxy.config["admin"]["address"] = "127.0.0.1:%d" % other.getsockname()[1]
        for round in range(2):
            line.failed_next()
            proxy.config["admin"]["address"] = "127.0.0.1:%d" % proxy.admin_port
            told = until(lambda: proxy.events("handover.failed")[round:], "the log tells")
            assert "admin address" in told[0]["event"]["detail"]["reason"]
            for _ in range(5):
                assert proxy.ask("POST", RUNS, operator, fields=[("Idempotency-Key", "after-%d" % round)], body=b"{}").status == 200
            proxy.config["admin"]["address"] = "127.0.0.1:%d" % other.getsockname()[1]
        proxy.config["admin"]["address"] = "127.0.0.1:%d" % proxy.admin_port
    assert len([r for r in upstream.received if r["Idempotency-Key"] or r.method == "POST"]) == 2
    old = proxy.process
    line.next()
    line.gone(old)
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200


def test_a_process_that_is_killed_before_it_is_ready_changes_nothing(tmp_path, own_issuer, upstream):
    proxy = Proxy(tmp_path / "proxy", [own_issuer.config()], POLICY, upstream.url, log={"level": "info"})
    line, token = Line(proxy), own_issuer.mint("operator-1", roles=["operator"])
    try:
        first = line.start()
        own_issuer.down()  # the next one gets no keys
        second = line.start(ready=False)
        until(lambda: "handover to process %d begins" % second.pid in proxy.log(), "it has begun")
        assert proxy.ask("POST", RUNS, token, body=b"{}").status == 200
        second.kill()
        second.wait()
        until(lambda: proxy.events("handover.failed"), "the log tells")
        assert first.poll() is None and proxy.ask("POST", RUNS, token, body=b"{}").status == 200
        proxy.process = line.old.pop()
        own_issuer.up()
        line.next()
        line.gone(first)
        assert proxy.ask("POST", RUNS, token, body=b"{}").status == 200
        proxy.stop()
    finally:
        line.kill()
        proxy.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_is_told_to_end_before_it_serves_takes_nothing(tmp_path, own_issuer, upstream, number):
    """It would take the place of the one that serves, which then ends, only to end itself."""
    proxy = Proxy(tmp_path / "proxy", [own_issuer.config()], POLICY, upstream.url, log={"level": "info"})
    line, token = Line(proxy), own_issuer.mint("operator-1", roles=["operator"])
    try:
        first = line.start()
        own_issuer.down()
        second = line.start(ready=False)
        until(lambda: "handover to process %d begins" % second.pid in proxy.log(), "it has begun")
        for other in (signal.SIGHUP, signal.SIGUSR1, number):
            second.send_signal(other)
        own_issuer.up()  # it could serve now
        assert second.wait(timeout=seconds(25)) == 0
        until(lambda: proxy.events("handover.failed"), "the log tells")
        assert "told to end" in proxy.events("handover.failed")[0]["event"]["detail"]["reason"]
        time.sleep(1)
        assert first.poll() is None and proxy.ask("POST", RUNS, token, body=b"{}").status == 200
        proxy.process = line.old.pop()
        line.next()
        line.gone(first)
        assert proxy.ask("POST", RUNS, token, body=b"{}").status == 200
        proxy.stop()
    finally:
        line.kill()
        proxy.kill()


@pytest.mark.parametrize("ends", ["serves", "dies", "told twice"])
def test_an_old_process_that_is_told_to_end_while_the_new_one_gets_ready_waits_for_it(tmp_path, own_issuer, upstream, ends):
    """Started and ended in one breath, as scripts do: nobody is refused in between."""
    proxy = Proxy(tmp_path / "proxy", [own_issuer.config()], POLICY, upstream.url, log={"level": "info"})
    line, token = Line(proxy), own_issuer.mint("operator-1", roles=["operator"])
    try:
        first = line.start()
        assert proxy.ask("POST", RUNS, token, body=b"{}").status == 200  # and it has the keys
        own_issuer.down()
        second = line.start(ready=False)
        until(lambda: "handover to process %d begins" % second.pid in proxy.log(), "it has begun")
        first.send_signal(signal.SIGTERM)
        until(lambda: "told to end: when process %d serves" % second.pid in proxy.log(), "it has heard that")
        assert proxy.ask("POST", RUNS, token, body=b"{}").status == 200 and first.poll() is None
        if ends == "serves":
            own_issuer.up()
            line.gone(first)
            assert proxy.ask("POST", RUNS, token, body=b"{}").status == 200
            assert proxy.events("handover.done") and not proxy.events("handover.failed")
            proxy.stop()
            return
        if ends == "dies":
            second.kill()
            second.wait()
        else:
            first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=seconds(25)) == 0
        until(lambda: proxy.events("process.stopped"), "the log tells")
        if ends == "dies":
            assert proxy.events("handover.failed")
        proxy.process = line.old.pop()
    finally:
        line.kill()
        proxy.kill()


def test_a_new_process_that_is_killed_leaves_the_log_to_the_old_one(line, upstream, operator):
    """It dies while the old one still has a request: the old one takes audit log and triggers back."""
    proxy, gate = line.proxy, threading.Event()
    proxy.config["timeouts"]["drain"] = "2m"
    first = line.start()
    upstream.tell(lambda sock, request: gate.wait(60) and message(200, '{"id": 7, "state": "completed"}'))
    with proxy.connect(timeout=60) as busy:
        busy.request("POST", RUNS, keyed(operator, "k"), b"{}")
        until(lambda: upstream.received, "the request is under way")
        second = line.next()
        assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
        proxy.outcomes(1)  # what is not on disk dies with the process
        second.kill()
        second.wait()
        gate.set()
        answer = busy.answer()
        assert answer.status == 200
    line.gone(first)
    assert proxy.outcome(answer)["trigger"]["state"] == "first"
    line.old.remove(first)
    proxy.process = None
    line.start()  # nobody is there any more
    again = proxy.ask("POST", RUNS, fields=keyed(operator, "k"), body=b"{}")
    assert again.status == 200 and again["Idempotent-Replayed"] == "true", again.body
    assert len([r for r in upstream.received if r.method == "POST"]) == 2


def test_a_trigger_is_sent_once_whichever_process_has_it(line, upstream, operator):
    proxy, gate = line.proxy, threading.Event()
    proxy.config["timeouts"]["drain"] = "2m"
    proxy.config["idempotency"] = {"wait": "60s"}
    first = line.start()
    upstream.tell(lambda sock, request: gate.wait(60) and message(200, '{"id": 7, "state": "completed"}'))
    with proxy.connect(timeout=60) as sent, proxy.connect(timeout=60) as waits, proxy.connect(timeout=60) as late, proxy.connect(timeout=60) as asks:
        sent.request("POST", RUNS, keyed(operator, "one"), b"{}")
        until(lambda: upstream.received, "the trigger is under way in the old process")
        waits.request("POST", RUNS, keyed(operator, "one"), b"{}")
        late.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nIdempotency-Key: two\r\nContent-Length: 2\r\n\r\n{" % (RUNS, operator))
        asks.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nIdempotency-Key: three\r\nContent-Length: 2\r\n\r\n{" % (RUNS, operator))
        proxy.admin_get("/metrics")  # all of it has been read by the workers
        line.next()
        assert first.poll() is None
        new = threading.Thread(target=lambda: answers.append(proxy.ask("POST", RUNS, fields=keyed(operator, "one"), body=b"{}")))
        answers = []
        new.start()
        assert proxy.ask("POST", RUNS, fields=keyed(operator, "three"), body=b"{}").status == 200  # in the new one, first
        late.send("}")  # the old one asks the new one
        asks.send("}")
        assert late.answer().status == 200
        replayed = asks.answer()
        assert replayed.status == 200 and replayed["Idempotent-Replayed"] == "true"
        gate.set()
        got = sent.answer()
        assert got.status == 200 and got["Idempotent-Replayed"] is None
        assert waits.answer()["Idempotent-Replayed"] == "true"
        new.join(seconds(60))
        assert answers[0].status == 200 and answers[0]["Idempotent-Replayed"] == "true" and answers[0].body == got.body
    line.gone(first)
    two = proxy.ask("POST", RUNS, fields=keyed(operator, "two"), body=b"{}")
    assert two["Idempotent-Replayed"] == "true"
    assert len([r for r in upstream.received if r.method == "POST"]) == 3


def test_a_callers_share_of_triggers_is_one_for_both_processes(line, upstream, operator, issuer):
    """Half of six for one caller: one that the old one has in hand, one it has answered, one of the new one."""
    proxy, gate = line.proxy, threading.Event()
    proxy.config["timeouts"]["drain"] = "2m"
    proxy.config["idempotency"] = {"wait": "60s", "entries": 6}
    post = lambda key, token=operator: proxy.ask("POST", RUNS, fields=keyed(token, key), body=b"{}")
    first = line.start()
    assert post("one").status == 200
    upstream.tell(lambda sock, request: gate.wait(60) and message(200, '{"id": 7, "state": "completed"}'))
    with proxy.connect(timeout=60) as sent, proxy.connect(timeout=60) as asks:
        sent.request("POST", RUNS, keyed(operator, "two"), b"{}")
        until(lambda: len(upstream.received) == 2, "the trigger is under way in the old process")
        asks.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nIdempotency-Key: four\r\nContent-Length: 2\r\n\r\n{" % (RUNS, operator))
        proxy.admin_get("/metrics")  # it has been read by a worker
        line.next()
        assert first.poll() is None
        assert post("three").status == 200
        refused = post("four")
        assert refused.status == 429 and "idempotency.entries: 6" in refused.text
        asks.send("}")  # the old one asks the new one
        assert asks.answer().status == 429
        assert post("other", issuer.mint("operator-2", roles=["operator"])).status == 200
        gate.set()
        assert sent.answer().status == 200
    line.gone(first)
    assert post("two")["Idempotent-Replayed"] == "true" and post("four").status == 429


@pytest.fixture
def emulator(line, tmp_path):
    """Stands for Azure DevOps, for the processes of the line."""
    emulator = Emulator(tmp_path / "emulator", line.proxy.upstream_token)
    line.proxy.config["upstream"]["hosts"] = {"*": emulator.url}
    yield emulator
    emulator.process.kill()
    emulator.process.wait()


def test_what_an_old_process_had_in_hand_when_it_was_killed_is_looked_up(line, issuer, emulator):
    proxy = line.proxy
    proxy.config["timeouts"]["drain"] = "2m"
    proxy.config["idempotency"] = {"wait": "30s", "settle": "15s"}
    proxy.config["correlation"] = {"variable": "DAGWARD_CORRELATION"}
    proxy.whole_audit = False  # an intent without an outcome is what this leaves
    token = issuer.mint("operator-1", roles=["operator"])
    first = line.start()
    emulator.behave(method="POST", delay_ms=5000)
    client = threading.Thread(target=lambda: pytest.raises((OSError, wire.CutOff), proxy.ask, "POST", RUNS + VERSION, fields=keyed(token, "k"), body=b"{}"))
    client.start()
    until(lambda: [r for r in emulator.requests() if r["method"] == "POST"], "the request upstream")
    line.next()
    first.kill()
    first.wait()
    client.join(seconds(20))
    answer = proxy.ask("POST", RUNS + VERSION, fields=keyed(token, "k"), body=b"{}")
    assert answer.status == 200 and proxy.outcome(answer)["trigger"]["state"] == "found"
    runs = requests.get(emulator.url + "/~emulator/runs", timeout=seconds(20)).json()["runs"]
    assert len(runs) == 1


def test_what_the_new_process_lost_is_not_sent_by_the_old_one_before_its_time(line, issuer, emulator):
    """It may still be on its way, however long the old process has been running."""
    proxy = line.proxy
    proxy.config["timeouts"]["drain"] = "2m"
    proxy.config["idempotency"] = {"wait": "1s", "settle": "1h"}
    token = issuer.mint("operator-1", roles=["operator"])
    first = line.start()
    with proxy.connect(timeout=60) as asks:
        asks.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nIdempotency-Key: k\r\nContent-Length: 2\r\n\r\n{" % (RUNS + VERSION, token))
        proxy.admin_get("/metrics")  # it has been read by a worker
        line.next()
        emulator.behave(method="POST", close=True)
        assert proxy.ask("POST", RUNS + VERSION, fields=keyed(token, "k"), body=b"{}").status == 502
        asks.send("}")
        answer = asks.answer()
        assert answer.status == 409 and "too early" in answer.text, answer.text
    line.gone(first)
    assert len([r for r in emulator.requests() if r["method"] == "POST"]) == 1


def seqs(file):
    """Of whole lines: the last may be under way."""
    return [json.loads(line)["seq"] for line in file.read_bytes().split(b"\n")[:-1]]


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_copies_of_the_log_go_on_behind_a_handover(line, operator, tmp_path, fails):
    """The old process hands on what it wrote; the new one goes on there when that has ended. Each record at least once,
    whichever wrote it. When the new one fails, the old one's go on."""
    proxy = line.proxy
    proxy.config["audit"]["sinks"] = [{"name": "collector", "type": "stdout"}]
    out = tmp_path / "collected"
    with open(out, "ab") as proxy.stdout:
        old = line.start()
        with Load(lambda _: proxy.connect(timeout=40), operator) as load:
            until(lambda: len(load.statuses) > 50, lambda: "requests are served: %s" % load.failures)
            if fails:
                proxy.config["upstream"]["ca"] = "missing.pem"
                line.failed_next()
            else:
                line.next()
                line.gone(old)
            served = len(load.statuses)
            until(lambda: len(load.statuses) > served + 50, lambda: "requests are served: %s" % load.failures)
        assert not load.failures and not proxy.events("sink.restarted")
        last = lambda: max(r["seq"] for r in proxy.records())
        until(lambda: set(range(1, last() + 1)) <= set(seqs(out)), lambda: "missing of %d: %s" % (last(), sorted(set(range(1, last() + 1)) - set(seqs(out)))[:9]), within=30)


STRANGER = """
import socket
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
    s.connect("handover.sock")
    try:
        s.send(b"TAKE 3")
    except OSError:
        pass
    print(s.recv(500).decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_gets_no_sockets(line, operator):
    """Not by the file's mode, nor, if that is opened, by who asks."""
    proxy = line.proxy
    line.start()
    ask = lambda: subprocess.run([sys.executable, "-I", "-c", STRANGER], cwd=proxy.folder, user=65534, capture_output=True, text=True)
    assert os.stat(line.path).st_mode & 0o777 == 0o600
    assert "PermissionError" in ask().stderr
    os.chmod(proxy.folder, 0o755)
    os.chmod(line.path, 0o666)
    told = ask()
    assert told.stdout.startswith("NO it is not for you"), told
    assert "turned away" in proxy.log() and proxy.ask("GET", "/", operator).status == 200


def test_who_says_nonsense_gets_nothing(line, operator):
    line.start()
    for words, reply in [([b"TAKE 0"], b"NO the two versions"), ([b"READY"], b""), ([b"SERVING"], b""), ([b"TAKE 3", b"SERVING"], b"SOCKETS"), ([b"NO thanks"], b"")]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(seconds(10))
            until(lambda: peer.connect_ex(line.path) == 0, "it listens")
            for word in words:
                peer.send(word)
            assert peer.recv(500).startswith(reply)
            if reply == b"SOCKETS":
                assert peer.recv(500) == b""
    assert line.proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
    assert len(line.proxy.events("handover.failed")) == 5 and not line.proxy.events("process.draining")
