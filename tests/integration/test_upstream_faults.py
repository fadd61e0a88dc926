"""What goes wrong upstream, one fault a test, each with the outcome it has: no crash, nothing opened,
one outcome record, and the next request is served. More of them: test_upstream.py, test_bodies.py,
test_connections.py, test_storage.py."""
import os
import resource
import signal
import socket
import ssl
import subprocess
import threading
import uuid

import pytest

from kit import upstreams, wire
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.sickness import Certificates
from kit.upstreams import Hole, Upstream, before_body, message, reset, reset_after
from kit.waiting import BINARY, sanitizer, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"


class Place:
    """A proxy and its upstream, for all faults that can share one."""

    def __init__(self, folder, issuer):
        self.upstream = Upstream()
        timeouts = {"connect": "2s", "first_byte": "1s", "idle": "1s"}
        self.proxy = Proxy(folder, [issuer.config()], POLICY, {"hosts": {"*": self.upstream.url}, "timeouts": timeouts}, workers=1).start()
        self.token = issuer.mint("operator-1", roles=["operator"])
        self.publisher = issuer.mint("publisher-1", roles=["publisher"])

    def ask(self, method="GET", target=RUNS, body=b""):
        """None instead of an answer that was cut off; `correlation` finds its records all the same."""
        self.upstream.received.clear()
        self.correlation = str(uuid.uuid4())
        with self.proxy.connect() as client:
            try:
                return client.ask(method, target, [("Authorization", "Bearer " + self.token), ("X-Correlation-Id", self.correlation)], body)
            except (wire.CutOff, ValueError, ConnectionError):
                return None

    def is_well(self):
        for method, body in (("GET", b""), ("POST", b"{}")):
            answer = self.ask(method, RUNS, body)
            assert answer is not None and answer.status == 200 and b'"n"' in answer.body, "it does not go on"
        assert self.proxy.metric(r"^dagward_exchanges ") == 0

    def stop(self):
        try:
            self.proxy.stop()
        finally:
            self.proxy.kill()
            self.upstream.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory, issuer):
    place = Place(tmp_path_factory.mktemp("faults"), issuer)
    yield place
    place.stop()


@before_body
def reset_at_once(sock, request, reader):
    reset(sock)


def half_close(data):
    def action(sock, _):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        upstreams.silent(sock, None)
    return action


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# fault: (what upstream does, status of the answer; None: the answer is cut off, status in the record)
FAULTS = {
    "resets before it has read": (reset_at_once, 502, 502),
    "resets without an answer": (reset_after(b""), 502, 502),
    "resets in the head": (reset_after(b"HTTP/1.1 200 OK\r\nContent-Le"), 502, 502),
    "resets behind the head": (reset_after(LONG[:-4]), None, 200),
    "resets in the body": (reset_after(LONG), None, 200),
    "resets in a chunk": (reset_after(CHUNKED + b"64\r\nsome"), None, 200),
    "half-closes without an answer": (half_close(b""), 502, 502),
    "half-closes in the head": (half_close(b"HTTP/1.1 200 OK\r\n"), 502, 502),
    "half-closes in the body": (half_close(LONG), None, 200),
    "half-closes behind a whole answer": (half_close(message(200, '{"n":0}')), 200, 200),
    "is silent": (upstreams.silent, 504, 504),
    "is silent in the head": (lambda sock, _: (sock.sendall(b"HTTP/1.1 200 OK\r\n"), upstreams.silent(sock, _))[1], 504, 504),
    "is silent in the body": (lambda sock, _: (sock.sendall(LONG), upstreams.silent(sock, _))[1], None, 200),
    "answers in HTTP/2": (upstreams.cut_after(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18), 502, 502),
    "answers in HTTP/0.9": (upstreams.cut_after(b"<html>hello</html>"), 502, 502),
    "a chunk size that is none": (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", None, 200),
    "a chunk size that overflows": (CHUNKED + b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", None, 200),
    "chunked, and not as the last coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 502, 502),
    "a length with a sign": (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", 502, 502),
    "two lengths in one field": (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", 502, 502),
    "a folded field": (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", 502, 502),
    "a bare line feed": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 502, 502),
    "a status that is none": (b"HTTP/1.1 99 No\r\nContent-Length: 0\r\n\r\n", 502, 502),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_fault_has_its_outcome_and_the_next_request_is_served(place, fault, method):
    action, status, recorded = FAULTS[fault]
    place.upstream.hang_up()  # a connection of its own: no fault is repaired by another attempt
    until(lambda: not place.upstream.open, "old connections are gone")
    until(lambda: place.proxy.metric(r"^dagward_upstream_connections ") == 0, "the proxy knows")
    place.upstream.tell(action)
    answer = place.ask(method, RUNS, b"{}" if method == "POST" else b"")
    assert (answer.status if answer else None) == status
    if answer is not None and status >= 500:
        assert answer.correlation in answer.reason and "upstream-canary" not in answer.text
    assert len(place.upstream.received) == (0 if action is None else 1), "it was sent other than once"
    record = place.proxy.outcome(place.correlation)
    assert record["response"]["status"] == recorded
    assert record["decision"]["effect"] == ("error" if recorded >= 500 else "allow")
    place.is_well()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_POST_of_which_a_byte_was_written_is_not_sent_again(start_proxy, issuer, authority, operator, publisher, tls):
    """On a kept connection, too, where a GET is repeated; whether its body is at hand or streams."""
    upstream = Upstream(tls=authority.server("localhost") if tls else None)
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}, **({"ca": str(authority.file)} if tls else {})}, workers=1)
    for target, token, body in ((RUNS, operator, b"{}"), (PUSH, publisher, b"0000" * 8000)):
        assert proxy.ask("GET", RUNS, operator).status == 200
        before, told = upstream.connections, len(upstream.received)
        upstream.tell(reset_at_once)
        answer = proxy.ask("POST", target, token, body=body)
        assert answer.status == 502
        record = proxy.outcome(answer)
        assert record["upstream"]["attempts"] == 1 and record["decision"]["effect"] == "error"
        assert upstream.connections == before and len(upstream.received) == told + 1
        assert proxy.ask("GET", RUNS, operator).status == 200
        upstream.tell(reset_at_once)
        assert proxy.ask("GET", RUNS, operator).status == 200, "the fault is one that a GET survives"
    upstream.close()


def test_what_comes_on_an_idle_connection_reaches_nobody(place):
    place.is_well()
    (sock,) = place.upstream.open
    sock.sendall(message(200, '{"stolen":true}'))
    answer = place.ask()
    assert answer.status == 200 and "stolen" not in answer.text
    until(lambda: sock not in place.upstream.open, "that connection is closed")
    place.is_well()


def test_an_upload_that_is_not_taken_ends(place):
    @before_body
    def stop_reading(sock, request, reader):
        upstreams.silent_peer = sock
        threading.Event().wait(seconds(4))

    place.upstream.hang_up()
    until(lambda: place.proxy.metric(r"^dagward_upstream_connections ") == 0, "the proxy knows")
    place.upstream.tell(stop_reading)
    size = 64 << 20
    with place.proxy.connect() as client:
        client.sock.settimeout(seconds(10))
        client.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n" % (PUSH, place.publisher, size))

        def push():
            try:
                while True:
                    client.sock.sendall(b"0000" * 4096)
            except OSError:
                pass

        threading.Thread(target=push, daemon=True).start()
        assert client.answer().status == 504
    place.is_well()


@pytest.mark.parametrize("what, words", [("expired", "expired"), ("not yet valid", "not yet valid"), ("of another host", "mismatch"), ("of nobody known", "issuer")])
def test_a_certificate_that_is_no_good_is_502_and_gets_no_credential(start_proxy, issuer, operator, tmp_path, what, words):
    good = Certificates(tmp_path / "pki")
    other = Certificates(tmp_path / "other", name="another authority")
    crt, key = {"expired": lambda: good.issue("localhost", begins=-9, ends=-1),
                "not yet valid": lambda: good.issue("localhost", begins=1, ends=9),
                "of another host": lambda: good.issue("azure.example"),
                "of nobody known": lambda: other.issue("localhost")}[what]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    upstream = Upstream(tls=context)
    proxy = start_proxy([issuer.config()], POLICY, {"ca": str(good.file), "hosts": {"*": upstream.url}}, workers=1)
    for method in ("GET", "POST"):
        answer = proxy.ask(method, RUNS, operator)
        assert answer.status == 502 and words in answer.text, answer.text
        assert proxy.outcome(answer)["decision"]["effect"] == "error"
    assert upstream.received == []
    upstream.close()


def test_an_address_that_does_not_answer_is_504(start_proxy, issuer, operator):
    hole = Hole()
    proxy = start_proxy([issuer.config()], POLICY, {"timeouts": {"connect": "300ms"}, "hosts": {"*": "http://127.0.0.1:%d" % hole.port}}, workers=1)
    answer = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert answer.status == 504 and "reached in time" in answer.text
    record = proxy.outcome(answer)
    assert record["decision"]["effect"] == "error" and record["upstream"]["attempts"] == 1
    hole.close()


def next_descriptor(pid):
    """The number that the next one will have, which is what a limit is about, once none is open for a moment only."""
    seen = []

    def rests():
        seen.append({int(n) for n in os.listdir("/proc/%d/fd" % pid)})
        return len(seen) > 10 and all(taken == seen[-1] for taken in seen[-10:])

    until(rests, "descriptors come and go")
    return next(n for n in range(1 << 20) if n not in seen[-1])


def test_without_descriptors_a_request_is_503_and_the_next_one_is_served(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    pid = proxy.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with proxy.connect() as client:
        fields = [("Authorization", "Bearer " + operator)]
        assert client.ask("GET", "/", fields).status == 200
        free = next_descriptor(pid)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))
        answer = client.ask("POST", RUNS, fields, b"{}")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert answer.status == 503 and answer["Retry-After"] == "1" and "open files" in answer.text
        assert proxy.outcome(answer)["decision"]["effect"] == "error" and upstream.received == []
        assert client.ask("POST", RUNS, fields, b"{}").status == 200
    assert proxy.metric(r"^dagward_upstream_connections_failed_total") == 0, "it is no fault of upstream's"


def test_without_descriptors_an_idle_connection_makes_room(start_proxy, issuer, upstream, operator):
    """What is idle to one host is worth less than a request to another."""
    storage = Upstream()
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": storage.url, "dev.azure.com": upstream.url}}, workers=1)
    pid = proxy.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with proxy.connect() as client:
        fields = [("Authorization", "Bearer " + operator)]
        assert client.ask("GET", RUNS, fields).status == 200
        free = next_descriptor(pid)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))
        answer = client.ask("GET", "/~vstmr/contoso/analytics/_apis/build/builds", fields)
        again = client.ask("GET", RUNS, fields)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert answer.status in (200, 403, 503) and again.status == 200
    storage.close()


# --- memory ---


@pytest.fixture
def frugal(tmp_path, issuer, upstream):
    if sanitizer() != "none":
        pytest.skip("a sanitizer needs more address space than there is")
    proxy = Proxy(tmp_path / "frugal", [issuer.config()], POLICY, upstream.url, workers=1)
    yield proxy
    proxy.kill()


def test_without_memory_at_boot_it_ends_and_says_so(frugal, operator):
    """Some allocation fails, whichever is first: it ends with a signal or a status, soon, and serves nothing."""
    proxy = frugal
    proxy.write_files()
    ended = 0
    for mib in (16, 24, 32, 40, 56):
        limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
        process = subprocess.Popen([BINARY, "serve", "--config", proxy.config_file], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=limit)
        try:
            said, _ = process.communicate(timeout=seconds(3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue  # it has what it needs
        ended += 1
        assert process.returncode not in (0, -signal.SIGSEGV, -signal.SIGBUS), (mib, said[-500:])
        assert b"error" in said, (mib, process.returncode, said[-500:])
    assert ended >= 2
    proxy.start()
    assert proxy.ask("GET", RUNS, operator).status == 200
    proxy.stop()


def test_without_memory_at_a_reload_it_refuses_or_ends_and_the_log_stays_whole(frugal, issuer, operator, upstream):
    """The house aborts when memory is out. What was recorded stays, and a restart goes on behind it."""
    proxy = frugal.start()
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
    until(lambda: proxy.records("outcome"), "it is recorded")
    size = next(int(line.split()[1]) for line in open("/proc/%d/status" % proxy.process.pid) if line.startswith("VmSize")) << 10
    _, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_AS)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_AS, (size + (1 << 20), hard))
    # a policy that takes more than there is
    roles = {"role-%d" % n: {"allow": [{"operations": ["pipelines.runs.get"], "projects": ["p%d-%d" % (n, i) for i in range(50)]}]} for n in range(400)}
    proxy.policy = {**POLICY, "roles": {**POLICY["roles"], **roles}}
    proxy.write_files()
    proxy.signal(signal.SIGHUP)
    until(lambda: proxy.process.poll() is not None or proxy.events("reload."), "it ends, or says that it cannot")
    if proxy.process.poll() is not None:
        assert proxy.process.returncode == -signal.SIGABRT, proxy.log()[-500:]
        assert "the process aborts: memory is out" in proxy.log()
    else:
        assert proxy.ask("GET", RUNS, operator).status == 200
        proxy.kill()
    proxy.process = None
    proxy.check_evidence()
    proxy.policy = POLICY
    proxy.start()
    assert proxy.ask("GET", RUNS, operator).status == 200
    proxy.stop()
