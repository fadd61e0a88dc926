"""What an operator does refuses and breaks no request: reload, restart, drain; and who manages the service
is told of it.

DAGWARD_RELOAD_SECONDS sets how long is reloaded under load (default 10), DAGWARD_DRAIN_MIB how much is on
its way in a drain (default 100).
"""
import copy
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests

from kit import upstreams, wire
from kit.emulator import Emulator
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.upstreams import message
from kit.waiting import BINARY, free_port, sanitizer, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
SHIM = BINARY.parent / "libdagward_faults.so"
RELOAD_SECONDS = float(os.environ.get("DAGWARD_RELOAD_SECONDS", 10))
DRAIN_MIB = int(os.environ.get("DAGWARD_DRAIN_MIB", 100))


def bearer(token):
    return [("Authorization", "Bearer " + token)]


class Manager:
    """The service manager's end of sd_notify(3)."""

    def __init__(self, folder, abstract=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = "dagward-test-%d" % os.getpid() if abstract else str(folder / "notify")
        self.socket.bind("\0" + name if abstract else name)
        self.environment = {"NOTIFY_SOCKET": "@" + name if abstract else name}
        self.told = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                text = self.socket.recv(4096).decode()
            except OSError:
                return
            if text:
                self.told.append(dict(line.split("=", 1) for line in text.split("\n")))

    def has(self, key, value=None):
        return [t for t in self.told if key in t and value in (None, t[key])]


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.socket.close()


class Load:
    """Clients that never stop asking, half of them on kept connections. A connection that is closed between two
    requests is no failure if the request on it was not passed on: it is sent again, as HTTP allows."""

    def __init__(self, connect, token, clients=4, gap=0.002):
        self.connect, self.token, self.gap = connect, token, gap
        self.stopping, self.statuses, self.failures, self.again, self.slowest = threading.Event(), [], [], [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(clients)]

    def run(self, number):
        client, sent = None, 0
        while not self.stopping.is_set():
            mark = "%d-%d" % (number, sent)
            method = "POST" if sent % 2 else "GET"
            began = time.monotonic()
            try:
                fresh = client is None
                if fresh:
                    client = self.connect(number)
                answer = client.ask(method, RUNS, bearer(self.token) + [("User-Agent", mark)], b"{}" if method == "POST" else b"")
                with self.lock:
                    self.statuses.append(answer.status)
                    self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status != 200:
                    self.failures.append("%s %s" % (answer.status, answer.text[:300]))
                if number % 2 or (answer["Connection"] or "").lower() == "close":
                    client.close()
                    client = None
            except (OSError, wire.CutOff) as e:
                if fresh:
                    self.failures.append("%s: %r" % (mark, e))
                else:
                    self.again.append(mark)
                client.close() if client else None
                client = None
            sent += 1
            time.sleep(self.gap)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(seconds(60))

    def check(self, upstream, least):
        assert self.failures == [] and len(self.statuses) >= least
        passed_on = {(r["User-Agent"] or "").split(" ")[0] for r in upstream.received}
        assert not passed_on & set(self.again), "a request that got no answer was passed on"


# --- sockets that are passed ---

def listening(port, address="127.0.0.1", reuse=False):
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((address, port))
    held.listen(1024)
    return held


@pytest.fixture
def unstarted(tmp_path, issuer, upstream):
    """A proxy that the test starts, perhaps more than once."""
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, upstream.url, log={"level": "info"})
    yield proxy
    try:
        proxy.stop()
    finally:
        proxy.kill()


@pytest.mark.parametrize("reuse", [False, True], ids=["one-socket", "one-for-each-worker"])
def test_a_restart_refuses_no_connection_when_the_sockets_are_held(unstarted, upstream, operator, reuse):
    proxy = unstarted
    held = [listening(proxy.port, reuse=reuse) for _ in range(2 if reuse else 1)] + [listening(proxy.admin_port)]
    proxy.start(sockets=held)
    with Load(lambda _: proxy.connect(timeout=40), operator) as load:
        for _ in range(2):
            seen = len(load.statuses)
            until(lambda: len(load.statuses) > seen + 20, "the load makes progress")
            proxy.signal(signal.SIGTERM)
            assert proxy.process.wait(timeout=seconds(30)) == 0
            proxy.start(sockets=held)
        seen = len(load.statuses)
        until(lambda: len(load.statuses) > seen + 20, "the load makes progress")
    load.check(upstream, 60)
    assert "socket=inherited" in proxy.log()
    proxy.stop()
    proxy.outcomes(len(load.statuses))
    with socket.create_connection(("127.0.0.1", proxy.port)):
        pass  # it waits for the next process
    for one in held:
        one.close()


def refused(proxy, sockets, environment=None):
    proxy.start(sockets=sockets, environment=environment, expect_failure=True)
    status = proxy.process.wait(timeout=seconds(15))
    proxy.process = None
    return status, proxy.log()


def test_passed_sockets_must_be_those_of_the_configuration(unstarted):
    proxy = unstarted
    with listening(proxy.port) as ours, listening(free_port()) as other, socket.socket() as deaf, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, listening(proxy.port, "127.0.0.2") as elsewhere:
        deaf.bind(("127.0.0.1", 0))
        datagrams.bind(("127.0.0.1", 0))
        for sockets, environment, why in [
                ([ours, other], {"LISTEN_FDNAMES": "main:spare"}, "127.0.0.1:%d was passed (`spare`), which is no address of" % other.getsockname()[1]),
                ([other], {}, "cannot listen on 127.0.0.1:%d: sockets were passed" % proxy.port),
                ([elsewhere], {}, "there are 127.0.0.2:%d" % proxy.port),
                ([ours, deaf], {}, "does not listen"),
                ([ours, datagrams], {}, "is no TCP socket"),
                ([ours], {"LISTEN_FDS": "2"}, "descriptor 4"),
                ([ours], {"LISTEN_FDS": "many"}, "LISTEN_FDS=many")]:
            status, log = refused(proxy, sockets, environment)
            assert status == 2 and why in log, (why, log[-1500:])


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="no systemd-socket-activate")
def test_sockets_that_systemd_passes(unstarted, operator):
    """It starts the program at the first connection, which is then served."""
    proxy = unstarted
    proxy.write_files()
    proxy.process = subprocess.Popen(
        ["systemd-socket-activate", "--listen=127.0.0.1:%d" % proxy.port, "--fdname=listen", BINARY, "serve", "--config", proxy.config_file],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(proxy.stderr_file, "ab"))
    until(lambda: "Listening on" in proxy.log(), "systemd listens")
    assert proxy.ask("GET", "/", operator).status == 200
    until(proxy.is_ready, "it is ready")
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200 and "socket=inherited" in proxy.log()


def test_sockets_for_another_process_are_not_taken(unstarted, operator):
    proxy = unstarted
    proxy.start(environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert proxy.ask("GET", "/", operator).status == 200 and "socket=inherited" not in proxy.log()


# --- the service manager ---

@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_service_manager_is_told_of_start_reload_and_end(unstarted, tmp_path, abstract):
    manager, proxy = Manager(tmp_path, abstract), unstarted
    proxy.start(environment=manager.environment)
    until(lambda: manager.has("READY", "1"), "READY=1")
    assert not manager.has("WATCHDOG") and "policy" in manager.told[-1]["STATUS"]
    told = len(manager.told)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    proxy.reload()
    until(lambda: len(manager.told) >= told + 2, "what a reload tells")
    begun, done = manager.told[told:]
    assert begun["RELOADING"] == "1" and before <= int(begun["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert done["READY"] == "1" and "failed" not in done["STATUS"]
    proxy.reload(policy="{", good=False)
    until(lambda: len(manager.told) >= told + 4, "what a bad reload tells")
    assert manager.told[-1]["READY"] == "1" and "failed" in manager.told[-1]["STATUS"]
    proxy.signal(signal.SIGTERM)
    assert proxy.process.wait(timeout=seconds(15)) == 0
    stopping = until(lambda: manager.has("STOPPING", "1"), "what the end tells")
    assert len(stopping) == 1 and int(stopping[0]["EXTEND_TIMEOUT_USEC"]) > 20_000_000
    manager.socket.close()


def test_a_process_that_never_serves_is_never_ready(unstarted, manager):
    unstarted.policy = "{"
    unstarted.start(environment=manager.environment, expect_failure=True)
    assert unstarted.process.wait(timeout=seconds(15)) == 2 and not manager.has("READY")
    unstarted.process = None


def test_it_is_alive_only_while_every_thread_answers(unstarted, manager, tmp_path):
    """The scribe hangs in the disk, then a worker is held: both times the beat stops, and comes back."""
    if sanitizer() != "none" or not SHIM.exists():
        pytest.skip("no faults can be preloaded: a sanitizer's runtime must be the first library, or %s was not built" % SHIM)
    fault = tmp_path / "fault"
    fault.write_bytes(b"0")

    def set_fault(letter):
        with open(fault, "r+b") as file:
            file.write(letter)

    unstarted.config["audit"]["durability"] = "all"
    unstarted.start(environment={**manager.environment, "WATCHDOG_USEC": "200000", "LD_PRELOAD": str(SHIM),
                                 "DAGWARD_FAULTS_CONTROL": str(fault), "DAGWARD_FAULTS_FILE": os.path.realpath(unstarted.audit_file)})
    beats = lambda: len(manager.has("WATCHDOG", "1"))
    until(lambda: beats() > 3, "it beats")
    set_fault(b"h")
    unstarted.signal(signal.SIGHUP)  # an event, which is made durable
    try:
        # On a slow machine the reload holds others, too.
        until(lambda: re.search(r"watchdog: \d+ threads do not answer", unstarted.log()), "the scribe is missed")
        silent = beats()
        wire.pause(1.0)
        assert beats() == silent
    finally:
        set_fault(b"0")
    until(lambda: beats() > silent, "it beats again")
    assert "all threads answer again" in unstarted.log()


def test_a_watchdog_of_another_process_is_not_ours(unstarted, manager):
    unstarted.start(environment={**manager.environment, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    until(lambda: manager.has("READY"), "READY=1")
    wire.pause(0.5)
    assert not manager.has("WATCHDOG")


# --- reload ---

def test_a_reload_every_second_under_load_fails_no_request(start_proxy, issuer, upstream, authority, operator):
    """Policy and certificate change in turn; plain and TLS, kept and new connections, two workers."""
    certificate, key = authority.issue("localhost", "127.0.0.1")
    tls_port = free_port()
    listen = [{"address": "127.0.0.1:%d" % free_port()},
              {"address": "127.0.0.1:%d" % tls_port, "tls": {"certificate": certificate, "key": key}}]
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, listen=listen, log={"level": "info"})
    proxy.port = int(listen[0]["address"].rpartition(":")[2])
    other = copy.deepcopy(POLICY)
    other["roles"]["operator"]["allow"][0]["pipelines"] = [42, 7]

    def connect(number):
        if number < 2:
            return proxy.connect()
        return wire.Client(tls_port, tls=authority.client())

    def serial():
        with wire.Client(tls_port, tls=authority.client()) as client:
            return client.sock.getpeercert()["serialNumber"]

    serials = {serial()}
    began, rounds = time.monotonic(), 0
    with Load(connect, operator, clients=4, gap=0) as load:
        while time.monotonic() - began < RELOAD_SECONDS:
            if rounds % 2:
                authority.issue("localhost", "127.0.0.1")  # the same files
            proxy.reload(policy=other if rounds % 4 < 2 else POLICY)
            if rounds % 2:
                serials.add(serial())
            rounds += 1
            wire.pause(max(0, began + rounds - time.monotonic()))
    load.check(upstream, 100)
    assert load.again == [] and set(load.statuses) == {200}
    assert len(serials) == 1 + rounds // 2, "each new certificate was shown"
    proxy.outcomes(len(load.statuses))


def test_a_burst_of_SIGHUPs_is_few_reloads(start_proxy, issuer, upstream, operator):
    """One that has not begun takes up those that came before; those that come during one are one more, which reads
    what was written before the last of them. A file that is looked at by itself would be another cause."""
    wide = copy.deepcopy(POLICY)  # takes a while to be read
    wide["roles"]["wide"] = {"allow": [{"operations": ["pipelines.runs.get"], "projects": ["p%d" % i], "pipelines": [1]} for i in range(3000)]}
    last = copy.deepcopy(wide)
    last["roles"]["operator"]["allow"][0]["pipelines"] = [42, 7]
    proxy = start_proxy([issuer.config()], wide, upstream.url, log={"level": "info"})
    seven = lambda: proxy.ask("POST", RUNS.replace("42", "7"), operator, body=b"{}").status
    assert seven() == 403
    with Load(lambda number: proxy.connect(), operator, clients=2) as load:
        for i in range(200):
            if i == 199:
                proxy.policy = last
                proxy.write_files()
            proxy.signal(signal.SIGHUP)
            wire.pause(0.0002)
        until(lambda: seven() == 200, "what was written last is in force")
    load.check(upstream, 10)
    proxy.stop()  # which comes behind all that were asked for
    reloads = proxy.events("reload.")
    assert {r["event"]["detail"]["cause"] for r in reloads} == {"SIGHUP"}
    assert 1 <= len(reloads) < 50, "as good as each signal had its own: %d" % len(reloads)


# --- drain ---

def test_before_a_drain_it_is_not_ready_but_serves(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, timeouts={"drain_delay": "3s"})
    with proxy.connect() as kept:
        assert kept.ask("POST", RUNS, bearer(operator), b"{}")["Connection"] != "close"
        proxy.signal(signal.SIGTERM)
        until(lambda: proxy.admin_get("/readyz").status_code == 503, "readiness tells first")
        assert "draining" in proxy.admin_get("/readyz").text and proxy.admin_get("/healthz").status_code == 200
        fresh = proxy.ask("POST", RUNS, operator, body=b"{}")
        assert fresh.status == 200 and fresh["Connection"] == "close", "all are served, and told to go elsewhere"
        last = kept.ask("POST", RUNS, bearer(operator), b"{}")
        assert last.status == 200 and last["Connection"] == "close" and kept.is_closed()
        assert proxy.process.poll() is None
    assert proxy.process.wait(timeout=seconds(15)) == 0
    assert len(proxy.records("outcome")) == 3


def unread_connections(port):
    """How many connections to it have bytes that were not read."""
    rows = [row.split() for row in open("/proc/net/tcp").read().splitlines()[1:]]
    return sum(1 for row in rows if row[1].endswith(":%04X" % port) and row[3] == "01" and int(row[4].partition(":")[2], 16))


def test_what_has_reached_it_when_it_drains_is_answered(start_proxy, issuer, upstream, operator):
    """Requests that wait in the queue of the socket, or unread on a kept connection."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    kept = [proxy.connect() for _ in range(4)]
    for client in kept:
        assert client.ask("GET", "/", bearer(operator)).status == 200
    proxy.signal(signal.SIGSTOP)
    # More than are accepted at a time, so that the drain finds some in the queue.
    fresh = [proxy.connect() for _ in range(300)]
    for client in fresh:
        client.request("GET", "/", bearer(operator))
    for client in kept:
        client.request("POST", RUNS, bearer(operator), b"{}")
    # A busy kernel may still have the last packets of a handshake on its way, and a socket that closes meanwhile resets them.
    until(lambda: unread_connections(proxy.port) == 304, "all of it has reached its sockets")
    proxy.signal(signal.SIGTERM)
    proxy.signal(signal.SIGCONT)
    for client in kept + fresh:
        assert client.answer().status == 200  # not each of them the last of its connection: the drain comes meanwhile
        assert client.is_closed()
        client.close()
    assert proxy.process.wait(timeout=seconds(15)) == 0
    assert len([r for r in proxy.records("outcome") if r["request"]["method"] == "POST"]) == 4


def test_an_idle_connection_is_closed_and_what_races_with_it_was_not_passed_on(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, log={"level": "info"})
    with Load(lambda _: proxy.connect(), operator, clients=6, gap=0.0005) as load:
        until(lambda: len(load.statuses) > 100, "the load makes progress")
        proxy.signal(signal.SIGTERM)
        assert proxy.process.wait(timeout=seconds(30)) == 0
    # Connections that are refused, later: the clients do not know that it is gone. What connects between the last accept
    # and the close of a socket that nobody takes over is reset: once for each client at most, and nothing goes upstream.
    at_the_end = [f.partition(":")[0] for f in load.failures if "ConnectionReset" in f]
    assert len({mark.partition("-")[0] for mark in at_the_end}) == len(at_the_end)
    load.again += at_the_end
    load.failures = [f for f in load.failures if "ConnectionRefused" not in f and "ConnectionReset" not in f]
    load.check(upstream, 100)
    sent = [r for r in upstream.received if r.method == "POST"]
    intents = {r["correlation_id"] for r in proxy.records("intent")}
    outcomes = {r["correlation_id"] for r in proxy.records("outcome")}
    assert intents <= outcomes and len(intents) == len(sent)


def test_a_large_download_is_finished_in_a_drain(start_proxy, issuer, upstream, operator):
    block = os.urandom(1 << 20)

    def large(sock, _):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % (DRAIN_MIB << 20))
        for _ in range(DRAIN_MIB):
            sock.sendall(block)
        return b""

    upstream.tell(large)
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, timeouts={"drain": "10m"})
    with proxy.connect(timeout=60) as client:
        client.request("GET", ITEM, bearer(operator))
        client.reader.more()
        proxy.signal(signal.SIGTERM)
        until(lambda: "draining" in proxy.log(), "the drain begins")
        _, fields = client.reader.head()
        body = wire.Body(0)
        reads = client.reader.more

        def slowly():
            reads()
            wire.pause(0.005)

        client.reader.more = slowly
        client.reader.body(fields, body)
        assert body.size == DRAIN_MIB << 20
        assert client.is_closed()
    assert proxy.process.wait(timeout=seconds(15)) == 0
    assert [r["response"]["bytes"] for r in proxy.records("outcome")] == [DRAIN_MIB << 20]


@pytest.mark.parametrize("delay", ["0s", "5m"], ids=["while-draining", "before-draining"])
def test_a_second_SIGTERM_ends_at_once(start_proxy, issuer, upstream, operator, delay):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, timeouts={"drain": "10m", "drain_delay": delay})
    upstream.tell(upstreams.silent)
    with proxy.connect() as client:
        client.request("POST", RUNS, bearer(operator), b"{}")
        until(lambda: upstream.received, "the request is under way")
        proxy.signal(signal.SIGTERM)
        until(lambda: proxy.events("process.draining"), "the drain begins")
        assert proxy.process.poll() is None
        proxy.signal(signal.SIGTERM)
        assert proxy.process.wait(timeout=seconds(10)) == 0
    assert [r["kind"] for r in proxy.records() if r["kind"] != "event" and r.get("request", {}).get("method") == "POST"] == ["intent", "outcome"]


# --- killed ---

def test_signals_that_come_to_the_very_end_change_nothing_of_it(unstarted):
    """Before its status is known, what it listened to must not end it in their way."""
    for _ in range(6):
        unstarted.start()
        unstarted.signal(signal.SIGTERM)
        while unstarted.process.poll() is None:
            for number in (signal.SIGHUP, signal.SIGUSR1):
                unstarted.process.send_signal(number)
        unstarted.stop()  # with status 0


def test_a_proxy_that_is_killed_under_load_recovers_by_itself(unstarted, issuer, tmp_path):
    """Its sockets are held: who connects meanwhile waits. Callers try again with the same key until they have an
    answer: each trigger has started one run, and the chain goes on."""
    proxy = unstarted
    emulator = Emulator(tmp_path / "emulator", proxy.upstream_token)
    proxy.config["upstream"]["hosts"] = {"*": emulator.url}
    proxy.config["idempotency"] = {"wait": "20s", "settle": "1s"}
    proxy.config["correlation"] = {"variable": "DAGWARD_CORRELATION"}
    proxy.whole_audit = False  # intents without an outcome are what a kill leaves
    token, held = issuer.mint("operator-1", roles=["operator"]), [listening(proxy.port)]
    answered, stopping, refusals = {}, threading.Event(), []

    def call(number):
        sent = 0
        while not stopping.is_set():
            key = "%d-%d" % (number, sent)
            for _ in range(100):
                try:
                    answer = proxy.ask("POST", RUNS + "?api-version=7.1", token, [("Idempotency-Key", key)], b"{}")
                except ConnectionRefusedError as e:
                    refusals.append(repr(e))
                    continue
                except (OSError, wire.CutOff):
                    continue  # killed with it
                if answer.status == 200:
                    answered[key] = answer.body
                    break
                wire.pause(0.1)
            else:
                refusals.append("%s was never answered, last with %d %s" % (key, answer.status, answer.text[:300]))
            sent += 1

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    try:
        proxy.start(sockets=held)
        for thread in threads:
            thread.start()
        for _ in range(3):
            seen = len(answered)
            until(lambda: len(answered) > seen + 8, "the load makes progress", within=30)
            proxy.kill()
            proxy.start(sockets=held)
        seen = len(answered)
        until(lambda: len(answered) > seen + 8, "the load makes progress", within=30)
        stopping.set()
        for thread in threads:
            thread.join(seconds(60))
        assert refusals == []
        runs = requests.get(emulator.url + "/~emulator/runs", timeout=seconds(20)).json()["runs"]
        assert len(runs) == len(answered), "a trigger has started another number of runs than one"
        proxy.stop()
        told = subprocess.run([BINARY, "audit", "verify", proxy.audit_file], capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr
    finally:
        stopping.set()
        emulator.process.kill()
        emulator.process.wait()
        held[0].close()
