"""Floods. Whoever asks properly is answered while others hold connections, drip bytes, do not read, or send without end;
what the proxy keeps for them is bounded. Figures are printed (pytest -rP), and gate nothing."""
import contextlib
import gzip
import os
import resource
import select
import selectors
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

import kit.proxy
from kit import upstreams
from kit.policies import POLICY
from kit.upstreams import message
from kit.waiting import BINARY, free_port, sanitizer, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items?path=/big"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
PLAIN = sanitizer() == "none"


def bearer(token):
    return ("Authorization", "Bearer " + token)


@pytest.fixture
def start(start_proxy, issuer, upstream):
    def start(limits=None, workers=2, **settings):
        return start_proxy([issuer.config()], POLICY, upstream.url, workers=workers, limits=limits or {}, log={"level": "info"}, **settings)

    return start


@pytest.fixture(autouse=True)
def descriptors():
    """This process holds the other end of all connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def cpu_seconds(pid):
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hold(proxy, n, sources=1, first=b"", address=None):
    """So many connections that say `first` and no more, from `address` or from one address after the other."""
    held = []
    for i in range(n):
        sock = socket.create_connection(("127.0.0.1", proxy.port), timeout=seconds(15), source_address=(address or "127.0.0.%d" % (2 + i % sources), 0))
        try:
            sock.sendall(first)
        except OSError:
            pass  # it had to make room already
        held.append(sock)
    return held


def let_go(socks):
    for sock in socks:
        sock.close()


class Drip:
    """Sends one byte on each connection, over and over."""

    def __init__(self, socks, byte=b"a", every=0.2):
        self.socks, self.byte, self.every, self.stopped = list(socks), byte, every, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while not self.stopped.wait(self.every):
            for sock in list(self.socks):
                try:
                    sock.send(self.byte)
                except OSError:
                    self.socks.remove(sock)

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()


def answered(proxy, token, n, target=RUNS):
    """Asks n times, each of which has to be answered; milliseconds, sorted."""
    took = []
    for _ in range(n):
        began = time.monotonic()
        assert proxy.ask("GET", target, token).status == 200
        took.append((time.monotonic() - began) * 1000)
    return sorted(took)


def p99(took):
    return took[max(0, len(took) * 99 // 100 - 1)]


def report(what, proxy, before_kib, quiet, loud):
    print("%s: RSS %d -> %d KiB; %d requests of another caller, p50/p99 %.1f/%.1f ms quiet, %.1f/%.1f ms meanwhile"
          % (what, before_kib, proxy.resident_kib(), len(loud), quiet[len(quiet) // 2], p99(quiet), loud[len(loud) // 2], p99(loud)))


def test_500_heads_that_never_end(start, operator):
    """Each is given its ten seconds (here one), then 408; the others are answered meanwhile."""
    proxy = start(timeouts={"headers": "1s"})
    quiet = answered(proxy, operator, 50)
    before = proxy.resident_kib()
    socks = hold(proxy, 500, first=b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    with Drip(socks):
        loud = answered(proxy, operator, 50)
        report("slow heads", proxy, before, quiet, loud)
        if PLAIN:
            assert proxy.resident_kib() - before < 60 << 10  # a block of 80 KiB each, of which the first page is used
        until(lambda: proxy.metric(r"^dagward_client_connections ") <= 1, "all of them are shown out")
    for sock in socks[:5]:
        sock.settimeout(seconds(5))
        assert sock.recv(100).startswith(b"HTTP/1.1 408 ")
    let_go(socks)


@pytest.fixture
def over_tls(start_proxy, issuer, upstream, authority):
    certificate, key = authority.issue("localhost", "127.0.0.1")
    port = free_port()
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1, listen=[{"address": "127.0.0.1:%d" % port, "tls": {"certificate": certificate, "key": key}}],
                        timeouts={"headers": "60s"})  # who waits for a handshake is not to be shown out meanwhile
    proxy.port = port
    return proxy


@pytest.fixture
def hello(authority):
    """The first bytes a client of TLS sends."""
    told = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        authority.client().wrap_bio(ssl.MemoryBIO(), told, server_hostname="localhost").do_handshake()
    return told.read()


@contextlib.contextmanager
def standing_still(proxy):
    """All that is sent meanwhile is there at once when it begins."""
    proxy.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        proxy.signal(signal.SIGCONT)


def ready_to_read(socks):
    poll = select.poll()
    for sock in socks:
        poll.register(sock, select.POLLIN)
    return len(poll.poll(0))


def test_handshakes_wait_for_each_other_and_are_all_done(over_tls, hello, authority, operator):
    """1,000 hellos of one address are there at once, and then another address comes: it does not wait for them all."""
    proxy = over_tls
    with standing_still(proxy):
        many = hold(proxy, 1000, first=hello)
        other = socket.create_connection(("127.0.0.1", proxy.port), timeout=seconds(15), source_address=("127.0.0.77", 0))
        other.sendall(hello)
    assert other.recv(5)[:1] == b"\x16"
    first = ready_to_read(many)
    print("handshakes: %d of %d before that of another address" % (first, len(many)))
    assert first < 500, "%d had theirs before" % first
    with proxy.connect(tls=authority.client()) as client:  # whoever else comes has its handshake, too, and its answer
        assert client.ask("GET", RUNS, [bearer(operator)]).status == 200
    until(lambda: ready_to_read(many) == len(many), lambda: "%d of %d were answered" % (ready_to_read(many), len(many)))
    assert all(sock.recv(1) == b"\x16" for sock in many)
    assert proxy.metric(r"^dagward_client_handshakes_delayed_total ") > 500
    let_go([other] + many)


def test_addresses_that_take_much_take_turns(over_tls, hello):
    """Many machines behind one address take more than their share when they all come at once: they do not wait for all of a flood that was there before."""
    proxy = over_tls
    with standing_still(proxy):
        flood = hold(proxy, 1000, first=hello)
        sites = [hold(proxy, 60, first=hello, address="127.0.0.%d" % (77 + i)) for i in range(4)]
    before = []  # how many of the flood had theirs when all of a site had

    def sites_are_served():
        for site in [site for site in sites if ready_to_read(site) == len(site)]:
            before.append(ready_to_read(flood))
            sites.remove(site)
            let_go(site)
        return not sites

    until(sites_are_served, lambda: "%d sites wait" % len(sites))
    print("handshakes: %s of %d before those of a site" % (before, len(flood)))
    assert sorted(before)[1] < 500, before  # one may be in the flood's own line, one time in 64
    let_go(flood)


@pytest.mark.parametrize("strangers", ["counted", "each"])
def test_strangers_do_not_fill_the_log(start, operator, strangers):
    """2,000 requests without a token and 500 that are no HTTP: none is forgotten, and all of a known caller's are written."""
    proxy = start(workers=1, audit={"strangers": strangers})
    with proxy.connect() as client:
        for _ in range(2000):
            assert client.ask("GET", RUNS).status == 401
    for _ in range(500):
        with proxy.connect() as client:
            client.send(b"nonsense\r\n\r\n")
            assert client.answer().status == 400
    answered(proxy, operator, 150)
    proxy.stop()
    outcomes = proxy.records("outcome")
    of = lambda status: len([r for r in outcomes if r["response"]["status"] == status])
    counted = {e["event"]["detail"]["reason"]: 0 for e in proxy.events("strangers.refused")}
    for event in proxy.events("strangers.refused"):
        assert event["event"]["detail"]["address"] == "127.0.0.1"
        counted[event["event"]["detail"]["reason"]] += int(event["event"]["detail"]["requests"])
    assert of(200) == 150
    if strangers == "each":
        assert (of(401), of(400), counted) == (2000, 500, {})
    else:
        assert of(401) + counted["no-token"] == 2000 and of(400) + counted["malformed"] == 500
        assert 100 <= of(401) < 400 and 100 <= of(400) < 400  # some seconds may have passed


def test_strangers_of_many_addresses_are_all_told(start):
    """At the end each worker has some 250 of them to tell, all at once."""
    proxy, asked = start(workers=4), 0
    for n in range(4 * 500):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=seconds(15), source_address=("127.0.%d.%d" % (1 + n % 500 // 250, 2 + n % 250), 0)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 9 + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            asked += b"".join(iter(lambda: sock.recv(65536), b"")).count(b"HTTP/1.1 401 ")
    proxy.stop()
    told = [e["event"]["detail"] for e in proxy.events("strangers.refused")]
    assert asked == 20000 and len(told) > 600  # more than the scribe has room for
    assert len(proxy.records("outcome")) + sum(int(t["requests"]) for t in told) == asked


def test_bodies_that_never_end_are_their_callers_own_affair(start, issuer, operator, publisher):
    """A push of which a byte comes now and then may take what its caller may have at once, and no more."""
    proxy = start({"requests_per_identity": 40})
    quiet = answered(proxy, operator, 30)
    before = proxy.resident_kib()
    socks = hold(proxy, 60, first=("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-git-receive-pack-request\r\n"
                                   "Content-Length: 1000000\r\n\r\n0" % (PUSH, publisher)).encode())
    with Drip(socks):
        until(lambda: proxy.metric(r'refusals_total\{reason="concurrency"\}') == 30, "three quarters of 40 are let in")
        report("slow bodies", proxy, before, quiet, answered(proxy, operator, 30))
    let_go(socks)


def test_who_asks_for_much_and_reads_slowly_is_not_kept_in_memory(start, upstream, issuer, operator):
    """60 downloads of 32 MiB that nobody reads: upstream is made to wait, and the others are answered."""
    block = b"x" * (1 << 20)

    def pour(sock, request):
        if request.target.startswith(RUNS):
            return upstreams.Upstream.standard(sock, request)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 << 20))
        for _ in range(32):
            sock.sendall(block)

    upstream.always = pour
    proxy = start()
    quiet = answered(proxy, operator, 30)
    before = proxy.resident_kib()
    other = issuer.mint("slow", roles=["operator"])
    socks = hold(proxy, 60, first=("GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % (ITEM, other)).encode())
    until(lambda: len(upstream.received) >= 90, "all requests reach upstream")
    report("slow readers", proxy, before, quiet, answered(proxy, operator, 30))
    if PLAIN:
        assert proxy.resident_kib() - before < 30 << 10  # two blocks of 80 KiB each, and an exchange
    let_go(socks)
    until(lambda: proxy.metric(r"^dagward_exchanges ") == 0, "nothing is left of them")


def test_requests_sent_without_reading_the_answers(start, issuer, operator):
    """A pipeline is answered one by one, as far as its client reads; then it is not read any more."""
    proxy = start()
    quiet = answered(proxy, operator, 30)
    before = proxy.resident_kib()
    other = issuer.mint("pipeline", roles=["operator"])
    request = ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % other).encode()
    stop = threading.Event()

    def flood():
        with proxy.connect() as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.sock.setblocking(False)
            while not stop.wait(0.02):
                try:
                    client.sock.send(request * 20)
                except OSError:
                    pass  # neither side takes any more

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    loud = answered(proxy, operator, 50)
    report("pipelines", proxy, before, quiet, loud)
    if PLAIN:
        assert proxy.resident_kib() - before < 16 << 10
    stop.set()
    for thread in threads:
        thread.join(seconds(10))


def test_heads_as_large_as_they_may_be(start, issuer, operator):
    """300 heads of which 60 KiB have come, and 300 with more fields than are allowed: 431 for these."""
    proxy = start({"memory": "16MiB"}, workers=2)
    quiet = answered(proxy, operator, 30)
    before = proxy.resident_kib()
    large = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 6000) for i in range(10))
    socks = hold(proxy, 300, first=large)
    loud = answered(proxy, operator, 30)
    report("large heads", proxy, before, quiet, loud)
    if PLAIN:
        assert proxy.resident_kib() - before < 40 << 10  # 16 MiB, and what was freed and is kept for the next
    assert proxy.metric(r'evicted_total\{which="stranger"\}') > 50
    let_go(socks)
    many = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n"
    for sock in hold(proxy, 20, first=many):
        with sock:
            assert sock.recv(100).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("how", ["a body that is not wanted", "refusals that are not read"])
def test_strangers_who_wait_make_room_for_those_who_are_known(start, operator, how):
    """150 without a token, each of which has its request refused and keeps it waiting, and memory for a part of them."""
    proxy = start({"memory": "8MiB"}, workers=1)
    if how == "a body that is not wanted":
        socks = hold(proxy, 150, first=b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    else:
        socks = hold(proxy, 150)
        left = {sock: memoryview(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 40000) for sock in socks}
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setblocking(False)

        def pour():
            for sock in socks:
                with contextlib.suppress(OSError):
                    left[sock] = left[sock][sock.send(left[sock]):]
            return proxy.metric(r'evicted_total\{which="stranger"\}') > 20 or proxy.metric(r"^dagward_exchanges ") > 100

        until(pour, "answers are not taken any more, and there is no room for that", within=40)
    # What has been sent may still be looked at for a moment; how long they would wait is more.
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "there is room for a known caller", within=3)
    answered(proxy, operator, 30)
    assert proxy.metric(r'evicted_total\{which="stranger"\}') > 20
    until(lambda: proxy.metric(r"^dagward_memory_bytes ") < 9 << 20, "it is no more than it may be")
    let_go(socks)


def test_what_little_bodies_unfold_to_is_memory_too(start, upstream, operator):
    """A body of 1 KiB is 900 KiB without its Content-Encoding: as many are held as there is memory for."""
    go = threading.Event()

    def wait(sock, request):
        go.wait(seconds(60))
        return message(200, b"{}", type="application/json")

    upstream.always = wait
    proxy = start({"memory": "8MiB"}, workers=1)
    body = gzip.compress(b'{"variables": {}}'.ljust(900_000))
    assert len(body) < 2048
    ask = ("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
           "Content-Length: %d\r\n\r\n" % (RUNS, operator, len(body))).encode() + body
    socks = hold(proxy, 24, first=ask)
    refused = until(lambda: len(upstream.received) + proxy.metric(r'refusals_total\{reason="overload"\}') == 24
                    and proxy.metric(r'refusals_total\{reason="overload"\}'), "all are on their way or refused")
    assert 12 < refused < 23, "%d of 24 refused" % refused
    until(lambda: proxy.metric(r"^dagward_memory_bytes ") > 3 << 20, "what is held is counted")
    assert proxy.metric(r"^dagward_memory_bytes ") < 9 << 20
    go.set()
    let_go(socks)
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200


@pytest.mark.skipif(not PLAIN, reason="a sanitizer keeps what is freed for a while")
def test_what_a_busy_moment_needed_is_given_back(start, operator):
    proxy = start(workers=1)
    head = ("GET %s HTTP/1.1\r\nHost: p\r\nAuthorization: Bearer %s\r\n" % (RUNS, operator)).encode() + b"X-Filler: a\r\n" * 100
    before = proxy.resident_kib()
    held = hold(proxy, 400, first=head + b"X-Last: " + b"a" * 4000)
    until(lambda: proxy.resident_kib() > before + 2048, "heads take memory")
    for sock in held:
        sock.sendall(b"\r\n\r\n")
    for sock in held:
        assert sock.recv(65536).startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 429 "))  # it is one caller
    busy = proxy.resident_kib()
    until(lambda: proxy.resident_kib() < busy - (busy - before) / 3, lambda: "memory is given back: before %d KiB, busy %d, now %d" % (before, busy, proxy.resident_kib()), within=10)
    print("before %d KiB, busy %d, after a second of rest %d" % (before, busy, proxy.resident_kib()))
    let_go(held)


def test_10000_connections_that_idle(start, operator, descriptors):
    """They cost a descriptor and a little memory each, and nobody any time."""
    n = 10000 if descriptors >= 16000 and PLAIN else 4000 if descriptors >= 8000 and PLAIN else 800
    proxy = start(timeouts={"headers": "1m"})
    quiet = answered(proxy, operator, 50)
    before, cpu = proxy.resident_kib(), cpu_seconds(proxy.process.pid)
    socks = hold(proxy, n, sources=4)
    until(lambda: proxy.metric(r"^dagward_client_connections ") >= n, "all are taken")
    loud = answered(proxy, operator, 50)
    report("%d idle connections, %.1f s of CPU to take them" % (n, cpu_seconds(proxy.process.pid) - cpu), proxy, before, quiet, loud)
    if PLAIN:
        assert (proxy.resident_kib() - before) * 1024 < n * 4096
    let_go(socks)
    until(lambda: proxy.metric(r"^dagward_client_connections ") <= 1, "all are gone")


def test_one_caller_floods_and_another_is_served(start, upstream, issuer, operator):
    """One service principal with 300 connections that ask as fast as they can: each request of the other is answered."""
    proxy = start({"requests_per_identity": 32})
    quiet = answered(proxy, operator, 100)
    before = proxy.resident_kib()
    noisy = issuer.mint("noisy", roles=["operator"])
    request = ("GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % (RUNS, noisy)).encode()
    stop, statuses = threading.Event(), {}
    socks = hold(proxy, 300, first=request)

    def flood():
        selector = selectors.DefaultSelector()
        for sock in socks:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        while not stop.is_set():
            for key, _ in selector.select(0.1):
                try:
                    data = key.fileobj.recv(65536)
                    for line in data.split(b"HTTP/1.1 ")[1:]:
                        statuses[line[:3]] = statuses.get(line[:3], 0) + 1
                    key.fileobj.send(request) if data else selector.unregister(key.fileobj)
                except OSError:
                    selector.unregister(key.fileobj)

    thread = threading.Thread(target=flood)
    thread.start()
    loud = answered(proxy, operator, 50)
    stop.set()
    thread.join()
    report("a flood of %s" % {k.decode(): v for k, v in statuses.items()}, proxy, before, quiet, loud)
    assert set(statuses) <= {b"200", b"429"} and statuses.get(b"200")
    let_go(socks)


def test_a_client_that_has_said_all_it_will_still_gets_its_answer(start, upstream, operator):
    proxy = start()
    upstream.always = upstreams.late(0.3)
    with proxy.connect() as client:
        client.request("GET", RUNS, [bearer(operator)])
        client.sock.shutdown(socket.SHUT_WR)
        assert client.answer().status == 200
        assert client.is_closed()
    proxy.outcomes(1, response_status=200)


@contextlib.contextmanager
def descriptors_of_it(monkeypatch, n):
    """What is started meanwhile has so many."""

    def limited(*arguments, **more):
        assert not more["preexec_fn"]

        def limits():
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))

        return popen(*arguments, **{**more, "preexec_fn": limits})

    popen = kit.proxy.subprocess.Popen
    with monkeypatch.context() as patch:
        patch.setattr(kit.proxy.subprocess, "Popen", limited)
        yield


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_with_too_few_descriptors_to_start_it_says_so(start_proxy, issuer, upstream, operator, workers):
    """And neither aborts nor blames a file; with as many as it asks for, it serves."""
    proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, workers=workers)
    needed = 20 + 6 * workers
    for limit in (6, 12, 16, 20, 24, needed - 1):
        proxy.write_files()
        command = [BINARY, "serve", "--config", proxy.config_file]
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        told = subprocess.run(command, capture_output=True, text=True, preexec_fn=few, timeout=seconds(30))
        assert told.returncode == 2 and "RLIMIT_NOFILE=%d is less than" % limit in told.stderr.splitlines()[-1], told
    proxy.runner = ("bash", "-c", 'ulimit -n %d; exec "$0" "$@"' % needed)
    proxy.start()
    assert proxy.ask("POST", "/contoso/analytics/_apis/pipelines/42/runs", operator, body=b"{}").status == 200


def test_few_descriptors_are_shared_out_and_some_are_kept(start_proxy, issuer, upstream, operator, monkeypatch):
    """With 300 of them, 500 strangers take what is there for clients; requests, records and probes go on."""
    with descriptors_of_it(monkeypatch, 300):
        proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=2, log={"level": "info"})
    assert "RLIMIT_NOFILE=300" in proxy.log()
    cpu = cpu_seconds(proxy.process.pid)
    socks = hold(proxy, 500)
    answered(proxy, operator, 20)
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
    before = len(proxy.events("log.opened"))
    proxy.audit_file.rename(proxy.audit_file.with_suffix(".1"))
    proxy.signal(signal.SIGUSR1)
    until(lambda: len(proxy.events("log.opened")) >= 1, "the audit log is begun anew")
    assert proxy.admin_get("/readyz").status_code == 200
    assert len(os.listdir("/proc/%d/fd" % proxy.process.pid)) < 300 and before
    assert cpu_seconds(proxy.process.pid) - cpu < seconds(3)
    proxy.whole_audit = False  # its beginning is in the other file
    let_go(socks)


def test_a_reload_may_ask_for_more_upstream_connections_as_far_as_descriptors_go(start_proxy, issuer, upstream, operator, monkeypatch):
    """1 connection at the start, 6 after a reload; and then more than there is, which the log says."""
    arrived, gate = [], threading.Event()

    def gated(_, request):
        arrived.append(request)
        gate.wait(60)
        return upstreams.message(200, "{}")

    with descriptors_of_it(monkeypatch, 160):
        proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}, "connections": 1}, workers=1, limits={"connections": 50},
                            log={"level": "info"})
    assert proxy.log().count("RLIMIT_NOFILE=160") == 1
    proxy.reload({**proxy.config, "upstream": {**proxy.config["upstream"], "connections": 6}})
    upstream.always = gated
    clients = [proxy.connect(timeout=60) for _ in range(7)]
    for n, client in enumerate(clients[:6]):
        client.request("GET", RUNS, [bearer(operator)])
        until(lambda: len(arrived) == n + 1, lambda: "%d of %d are there: %s" % (len(arrived), n + 1, proxy.log()[-500:]))
    refused = clients[6].ask("GET", RUNS, [bearer(operator)])
    assert refused.status == 503 and int(refused["Retry-After"]) >= 1
    gate.set()
    assert [client.answer().status for client in clients[:6]] == [200] * 6
    proxy.reload({**proxy.config, "upstream": {**proxy.config["upstream"], "connections": 64}})
    told = [line for line in proxy.log().splitlines() if "RLIMIT_NOFILE=160" in line]
    assert len(told) == 3 and "and 8 upstream connections per worker" in told[-1], told
    for client in clients:
        client.close()


def test_without_any_descriptor_nobody_spins_and_probes_are_answered_later(start, operator):
    proxy = start()
    pid = proxy.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(fd) for fd in os.listdir("/proc/%d/fd" % pid)}
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(taken) + 1)) - taken), before[1]))
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=seconds(10)) for port in (proxy.port, proxy.admin_port) * 3]
    cpu = cpu_seconds(pid)
    time.sleep(2)  # in which a thread that spins spends all that it is given, and one that waits about 10 ms
    assert cpu_seconds(pid) - cpu < 0.2
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    for sock in waiting[1::2]:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    answered(proxy, operator, 5)
    let_go(waiting)
