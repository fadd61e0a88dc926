"""A handover in which one of the two is frozen or killed, at each stage: nobody waits without end, what is in
force until then goes on, and the log has one writer and each record once."""
import array
import fcntl
import os
import re
import signal
import socket
import threading
import time

import pytest

from kit.outgoing import Outgoing
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.upstreams import Upstream, message
from kit.waiting import seconds, until
from test_handover import ITEM, RUNS, Line, keyed, line  # noqa: F401

SILENCE = 1.0  # what is set here as timeouts.handover


class Peer:
    """Somebody else's end of the handover socket: a process that stops where the test wants."""

    def __init__(self, sock):
        self.sock, self.files, self.audit = sock, [], None
        self.sock.settimeout(seconds(20))

    def say(self, text, files=()):
        more = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        self.sock.sendmsg([text], more)

    def hear(self):
        text, more, _, _ = self.sock.recvmsg(512, socket.CMSG_SPACE(4 * 128))
        for level, kind, data in more:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.files += array.array("i", data[: len(data) - len(data) % 4])
        return text

    def die(self):
        """As the kernel does it for a process that is killed."""
        self.sock.close()
        if self.audit:
            self.audit.close()
        for file in self.files:
            os.close(file)
        self.files = []

    # --- a process that takes over, as far as it comes ---

    def connected(self):
        pass

    def offered(self):
        self.say(b"TAKE 3")
        assert self.hear().startswith(b"SOCKETS ")

    def given(self):
        self.offered()
        self.say(b"READY")
        assert self.hear() == b"GO"

    def locked(self, proxy):
        self.given()
        self.audit = socket.socket(fileno=os.dup(self.files[-2]))
        self.audit.settimeout(seconds(20))
        assert self.audit.recv(1) == b"R"
        for file in (proxy.audit_file, proxy.folder / "audit.jsonl.triggers"):
            if file.exists():
                self.files.append(os.open(file, os.O_RDWR))
                until(lambda: locks(self.files[-1]), "it is released, each file in its time")


def locks(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def taker(line, stage):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    until(lambda: sock.connect_ex(line.path) == 0, "it listens")
    peer = Peer(sock)
    peer.locked(line.proxy) if stage == "locked" else getattr(peer, stage)()
    return peer


def serves(proxy, token, key=None):
    fields = keyed(token, key) if key else [("Authorization", "Bearer " + token)]
    return proxy.ask("POST", RUNS, fields=fields, body=b"{}").status


@pytest.fixture
def quick(line):  # noqa: F811
    line.proxy.config["timeouts"]["handover"] = "%dms" % (SILENCE * 1000)
    line.start()
    return line


@pytest.mark.parametrize("stage", ["connected", "offered", "given", "locked"])
def test_a_taker_that_dies_changes_nothing(quick, operator, stage):
    proxy = quick.proxy
    peer = taker(quick, stage)
    assert stage == "locked" or serves(proxy, operator) == 200
    peer.die()
    until(lambda: proxy.events("handover.failed"), "the log tells")
    until(lambda: serves(proxy, operator) == 200, "records are written again")
    assert serves(proxy, operator, "k") == 200
    old = proxy.process
    proxy.config["timeouts"]["handover"] = "60s"
    quick.next()
    quick.gone(old)
    assert serves(proxy, operator) == 200


@pytest.mark.parametrize("stage", ["connected", "offered"])
def test_a_taker_that_is_silent_before_it_has_the_files_is_left(quick, operator, stage):
    proxy, began = quick.proxy, time.monotonic()
    peer = taker(quick, stage)
    assert serves(proxy, operator) == 200
    (told,) = until(lambda: proxy.events("handover.failed"), "it is given up")
    assert time.monotonic() - began >= SILENCE and told["event"]["detail"]["reason"] == "it was not ready in time"
    assert peer.hear() == b"NO it was not ready in time", "and hears why, when it wakes"
    peer.die()
    old = proxy.process
    proxy.config["timeouts"]["handover"] = "60s"
    quick.next()
    quick.gone(old)
    assert serves(proxy, operator) == 200


def test_a_taker_that_is_silent_without_having_opened_the_files_does_not_get_them(quick, operator):
    """The old process writes again; the locks are its own, which the other finds when it wakes."""
    proxy = quick.proxy
    peer = taker(quick, "given")
    assert serves(proxy, operator) == 200
    until(lambda: serves(proxy, operator, "k") == 200, "triggers are told apart again")
    for file in (proxy.audit_file, proxy.folder / "audit.jsonl.triggers"):
        if file.exists():
            with open(file) as opened, pytest.raises(BlockingIOError):
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    quick.failed_next()
    assert "process %d is taking over just now" % os.getpid() in proxy.log()
    peer.say(b"NO the log is another's")
    until(lambda: proxy.events("handover.failed"), "the log tells")
    peer.die()


def test_a_taker_that_is_silent_with_the_files_makes_all_refused_until_it_ends(quick, operator):
    """Never two writers; and nothing without a record, so nothing at all."""
    proxy = quick.proxy
    assert proxy.ask("GET", ITEM, operator).status == 200
    proxy.outcomes(1)
    peer = taker(quick, "locked")
    waits = threading.Thread(target=lambda: answers.append(proxy.ask("POST", RUNS, operator, body=b"{}").status))
    answers = []
    waits.start()  # its record is under way; it may be written yet
    until(lambda: "does not answer" in proxy.log(), "the log tells why")
    refused = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert refused.status == 503 and b"audit" in refused.body
    assert proxy.ask("GET", ITEM, operator).status == 503
    ready = proxy.admin_get("/readyz")
    assert ready.status_code == 503
    quick.failed_next()
    assert "process %d is taking over just now" % os.getpid() in proxy.log()
    until(lambda: "does not serve" in proxy.log(), "who reads the log knows whom to end")
    peer.die()
    waits.join(seconds(20))
    assert answers == [200]
    until(lambda: serves(proxy, operator) == 200, "records are written again")
    proxy.outcome(refused)


def test_a_process_that_freezes_when_it_serves_delays_no_end_and_loses_no_record(line, upstream, operator):  # noqa: F811
    """Its predecessor has a request of which the record is passed on, and one whose intent is; it ends in time, and what
    it said is written when the other wakes."""
    proxy, gate = line.proxy, threading.Event()
    proxy.config["timeouts"].update({"handover": "%dms" % (SILENCE * 1000), "drain": "%ds" % seconds(6)})
    first = line.start()
    upstream.tell(lambda sock, request: gate.wait(60) and message(200, "{}"))
    with proxy.connect(timeout=60) as busy, proxy.connect(timeout=60) as late:
        busy.request("GET", ITEM, [("Authorization", "Bearer " + operator)])
        late.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\n\r\n{" % (RUNS, operator))
        until(lambda: upstream.received, "the request is under way")
        proxy.config["timeouts"]["handover"] = "60s"
        second = line.next()
        second.send_signal(signal.SIGSTOP)
        try:
            gate.set()
            answer = busy.answer()
            assert answer.status == 200, "reads need no record first"
            until(lambda: "records are not written" in proxy.log(), "the old process has noticed")
            late.send("}")
            refused = late.answer()
            assert refused.status == 503
            line.gone(first)
        finally:
            second.send_signal(signal.SIGCONT)
    assert serves(proxy, operator) == 200
    assert proxy.outcome(answer)["response"]["status"] == 200
    until(lambda: proxy.events("process.stopped"), "its last word")
    # What it refused while nothing could be written it had to keep to itself.
    proxy.whole_audit = bool([r for r in proxy.of(refused) if r["kind"] == "outcome"])


def test_what_a_process_could_not_pass_on_is_sent_with_its_last_words(line, upstream, operator):  # noqa: F811
    """The new process says nothing from the first frame on, which is an event. An outcome of the old one is refused
    for as long as it drains; it is in the socket all the same when the old process has ended."""
    proxy, gate = line.proxy, threading.Event()
    proxy.config["timeouts"].update({"handover": "%dms" % (SILENCE * 1000), "drain": "%ds" % seconds(3)})
    old = line.start()
    upstream.tell(lambda sock, request: gate.wait(60) and message(200, "{}"))
    peer = taker(line, "locked")
    with proxy.connect(timeout=60) as busy:
        busy.request("GET", ITEM, [("Authorization", "Bearer " + operator)])
        until(lambda: upstream.received, "the request is under way")
        peer.say(b"SERVING")
        until(lambda: "does not answer" in proxy.log(), "its event is not answered in time")
        gate.set()
        answer = busy.answer()
        assert answer.status == 200, "reads need no record first"
    line.gone(old, within=60)
    said = b""
    while part := peer.audit.recv(65536):
        said += part
    outcomes = [record for record in said.split(b"\n") if answer.correlation.encode() in record]
    assert b"process.draining" in said and len(outcomes) == 1
    assert b"process.stopped" in said, "its last word"
    proxy.whole_audit = False  # nobody wrote down what it said
    peer.die()


@pytest.mark.parametrize("delay", ["0s", "5m"])
def test_a_process_that_is_told_to_end_while_it_hands_over_finishes_what_it_has(line, upstream, operator, delay):  # noqa: F811
    """It drains already when the new one says that it serves: that is no second order to end, and no reason to wait on."""
    proxy, gate = line.proxy, threading.Event()
    proxy.config["timeouts"].update({"handover": "60s", "drain": "2m", "drain_delay": delay})
    old = line.start()
    upstream.tell(lambda sock, request: gate.wait(60) and message(200, "{}"))
    peer = taker(line, "given")
    with proxy.connect(timeout=60) as busy:
        busy.request("GET", ITEM, [("Authorization", "Bearer " + operator)])
        until(lambda: upstream.received, "the request is under way")
        old.send_signal(signal.SIGTERM)
        until(lambda: "draining cause=" in proxy.log(), "it has heard that")
        peer.say(b"SERVING")
        until(lambda: "is done" in proxy.log(), "and that the new one serves")
        time.sleep(0.5)
        gate.set()
        assert busy.answer().status == 200
    peer.die()
    line.gone(old, within=60)


def test_a_process_that_waits_for_a_frozen_one_ends_when_it_is_told_to(line, operator):  # noqa: F811
    """timeouts.handover is a minute here."""
    proxy, first = line.proxy, line.start()
    first.send_signal(signal.SIGSTOP)
    second = line.start(expect_failure=True)
    until(lambda: int(re.search(r"SigBlk:\s*(\w+)", open("/proc/%d/status" % second.pid).read())[1], 16) >> signal.SIGTERM - 1 & 1, "it takes no signal yet")
    time.sleep(0.3)  # now it waits for the other one
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=seconds(20)) == 0, proxy.log()
    first.send_signal(signal.SIGCONT)
    proxy.process = line.old.pop()
    assert "told to end" in proxy.log() and proxy.ask("POST", RUNS, operator, body=b"{}").status == 200


@pytest.mark.parametrize("stage", ["asked", "offered", "given", "released"])
def test_a_process_that_is_frozen_hands_nothing_over_and_the_new_one_says_so(line, operator, stage):  # noqa: F811
    """The new one ends, in time and with the reason."""
    proxy = line.proxy
    proxy.config["timeouts"]["handover"] = "%dms" % (SILENCE * 1000)
    proxy.config["workers"] = 1
    seen = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as old, socket.create_server(("127.0.0.1", proxy.port)) as listener:
        proxy.folder.mkdir(exist_ok=True)
        old.bind(line.path)
        old.listen(1)

        def serve():
            peer = Peer(old.accept()[0])
            seen.append(peer)
            assert peer.hear() == b"TAKE 3"
            if stage == "asked":
                return
            peer.say(b"SOCKETS LH", [listener.fileno(), old.fileno()])
            assert peer.hear() == b"READY"
            if stage == "offered":
                return
            audit, triggers = socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            seen.append((audit, triggers))
            peer.say(b"GO", [audit[1].fileno(), triggers[1].fileno()])
            if stage == "released":
                audit[0].sendall(b"R")

        thread = threading.Thread(target=serve)
        thread.start()
        began = time.monotonic()
        proxy.start(expect_failure=True, arguments=["--handover", line.path])
        assert proxy.process.wait(timeout=seconds(30)) == 2
        assert time.monotonic() - began >= SILENCE
        thread.join(seconds(10))
        words = "does not answer in time" if stage in ("asked", "offered") else "did not let go of its files, or not in time"
        assert words in proxy.log()
        assert not proxy.audit_file.exists(), "a file that was not released is not opened"
        proxy.process = None
        seen[0].sock.close()


def test_a_queue_of_takers_that_is_full_is_no_wait_without_end(line):  # noqa: F811
    proxy = line.proxy
    proxy.config["timeouts"]["handover"] = "%dms" % (SILENCE * 1000)
    proxy.folder.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as old:
        old.bind(line.path)
        old.listen(0)
        waiting = []
        while True:  # nobody accepts them
            one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            waiting.append(one)
            if one.connect_ex(line.path):
                break
        proxy.start(expect_failure=True, arguments=["--handover", line.path])
        assert proxy.process.wait(timeout=seconds(30)) == 2
        assert "does not answer at " + line.path in proxy.log()
        proxy.process = None
        for one in waiting:
            one.close()


def test_budgets_and_ejections_begin_anew(line, issuer, operator, at):  # noqa: F811
    """Each process counts by itself; what it would know of addresses it finds out."""
    proxy = line.proxy
    at("::1")
    proxy.config["upstream"].update({"hosts": {"*": "http://localhost:%d" % at.port},
                                     "ejection": {"failures": 1, "time": "1m", "most": "1m"}})
    proxy.config["limits"] = {"rate": {"requests": 4, "per": "1h"}}
    ask = lambda: proxy.ask("GET", ITEM, operator).status
    first = line.start()
    assert [ask() for _ in range(5)] == [200] * 4 + [429]
    assert proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') >= 1
    second = line.next()
    line.gone(first)
    assert [ask() for _ in range(5)] == [200] * 4 + [429]
    assert second.poll() is None and proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') >= 1


def test_a_transfer_through_the_outgoing_proxy_goes_on(tmp_path, issuer, authority, operator):
    azure = Upstream(tls=authority.server("dev.azure.com", "*.dev.azure.com"))
    outgoing = Outgoing({"dev.azure.com:443": azure.port})
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, {"ca": str(authority.file)}, outgoing_proxy={"url": outgoing.url}, log={"level": "info"})
    line, gate, size = Line(proxy), threading.Event(), 4 << 20  # noqa: F811

    def slow(sock, _):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size)
        sock.sendall(b"x" * (size // 2))
        gate.wait(60)
        sock.sendall(b"x" * (size // 2))
        return b""

    try:
        first = line.start()
        azure.tell(slow)
        with proxy.connect(timeout=60) as download:
            download.request("GET", ITEM, [("Authorization", "Bearer " + operator)])
            until(lambda: azure.received, "the download is under way")
            line.next()
            assert serves(proxy, operator) == 200
            gate.set()
            answer = download.answer()
            assert answer.status == 200 and answer.body_size == size
        line.gone(first)
        assert set(outgoing.asked()) == {"dev.azure.com:443"} and len(outgoing.heads) == 2, "one way each"
        outgoing.assert_clean()
        proxy.stop()
    finally:
        line.kill()
        proxy.kill()
        outgoing.close()
        azure.close()
