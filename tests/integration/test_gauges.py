"""After some thousands of requests that ended in every way there is, nothing is left: each gauge is at what it
was, each place that was taken is free, and no descriptors have been lost.

DAGWARD_GAUGES_SEED repeats a run's choices (not its timing), DAGWARD_GAUGES sets how many there are.
"""
import collections
import os
import random
import socket
import ssl
import struct
import threading
import time

import pytest

from kit import wire
from kit.gauges import descriptors, wait_idle
from kit.outgoing import Outgoing
from kit.policies import POLICY
from kit.upstreams import Upstream, message, reset
from kit.waiting import free_port, sanitizer, seconds, until

SEED = int(os.environ.get("DAGWARD_GAUGES_SEED", random.SystemRandom().randrange(1 << 32)))
MANY = int(os.environ.get("DAGWARD_GAUGES", 3000 if sanitizer() == "none" else 1500))
CLIENTS = 16
RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
RELEASES = "/~vsrm/contoso/analytics/_apis/release/releases"
PROJECTS = "/contoso/_apis/projects"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
PER_IDENTITY, PER_ADDRESS, UPSTREAMS = 20, 64, 12
RULES = {**POLICY, "roles": {**POLICY["roles"], "releaser": {"allow": [{"access": ["read"], "areas": ["release"], "projects": ["analytics"]}]}},
         "bindings": [{**b, "credential": "busy"} if b["roles"] == ["reader"] else b for b in POLICY["bindings"]]
         + [{"name": "releases", "callers": {"issuer": "airflow", "claims": {"roles": "releaser"}}, "roles": ["releaser"], "credential": "etl"}]}


class Moody(Upstream):
    """Does what the target's last word says."""

    gate = None

    def _one(self, sock, reader, number):
        del self.received[:]
        return super()._one(sock, reader, number)

    def act(self, sock, request):
        what = request.target.partition("path=/")[2].partition("&")[0].replace("%2F", "/")
        if self.gate:
            self.gate.wait(seconds(60))
        if "_apis/projects" in request.target:
            return message(429, "{}", [("Retry-After", "1")])
        if what == "reset":
            reset(sock)
            return None
        if what == "cut":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000)
            return None
        if what == "hang":
            sock.settimeout(seconds(30))
            sock.recv(1)
            return None
        if what == "nonsense":
            return b"HTTP/1.1 200\x00 what\r\n\r\n"
        if what == "large":
            return message(200, b"y" * 3_000_000)
        if what == "storage":
            return message(302, "", [("Location", "https://unit7.blob.core.windows.net/c/drop.zip?sig=x")])
        return message(200, '{"id": 7, "state": "completed"}')


class Fickle(Outgoing):
    """Opens no way, in one of the ways in which none is opened."""

    def serve(self, sock):
        self.answer = random.choice([b"HTTP/1.1 503 Busy\r\n\r\n", b"SSH-2.0-x\r\n", "hang", "reset", b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 407 No\r\n\r\n"])
        super().serve(sock)


class Outcomes:
    def __init__(self, proxy, tls_port, authority, tokens):
        self.proxy, self.tls_port, self.context, self.tokens = proxy, tls_port, authority.client(), tokens
        self.seen = collections.Counter()
        self.all = [getattr(self, name) for name in dir(self) if name.startswith("do_")]

    def bearer(self, who="operator"):
        return "Authorization: Bearer %s\r\n" % self.tokens[who]

    def head(self, method, target, fields="", who="operator"):
        return "%s %s HTTP/1.1\r\nHost: a\r\n%s%s\r\n" % (method, target, self.bearer(who) if who else "", fields)

    def ask(self, *parts, read=1):
        with self.proxy.connect(timeout=20) as client:
            for part in parts:
                client.send(part)
            for _ in range(read):
                answer = client.answer()
                self.seen[answer.status] += 1
                if answer["Connection"] == "close":
                    return

    def leave(self, rng, *parts):
        """Sends, and is gone, with an end or a reset."""
        with self.proxy.connect(timeout=20) as client:
            for part in parts:
                client.send(part)
            if rng.random() < 0.5:
                time.sleep(rng.random() * 0.05)
            if rng.random() < 0.5:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.seen["left"] += 1

    def do_allowed(self, rng):
        self.ask(self.head("GET", ITEM))

    def do_posted(self, rng):
        self.ask(self.head("POST", RUNS, "Content-Length: 2\r\n"), "{}")

    def do_nobody(self, rng):
        self.ask(self.head("GET", ITEM, who=None))

    def do_forged(self, rng):
        self.ask("GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %sAAAA\r\n\r\n" % (ITEM, self.tokens["operator"][:-4]))

    def do_denied(self, rng):
        self.ask(self.head("POST", RUNS.replace("42", "99"), "Content-Length: 2\r\n"), "{}")

    def do_malformed(self, rng):
        self.ask(rng.choice([self.head("GET", ITEM, "Host: b\r\n"), self.head("GET", "/a/../b"), self.head("GET", ITEM, " folded: x\r\n"), "GET\r\n\r\n"]))

    def do_too_large(self, rng):
        self.ask(self.head("POST", RUNS, "Content-Length: 5000\r\n"), "{}".ljust(5000))

    def do_head_too_large(self, rng):
        self.ask(self.head("GET", ITEM, "X: %s\r\n" % ("y" * 40000)))

    def do_slow_head(self, rng):
        if rng.random() < 0.2:
            with self.proxy.connect(timeout=20) as client:
                client.send("GET / HT")
                client.is_closed(within=10)

    def do_slow_body(self, rng):
        if rng.random() < 0.2:
            self.ask(self.head("POST", RUNS, "Content-Length: 20\r\n"), "{")

    def do_slow_stream(self, rng):
        if rng.random() < 0.2:
            self.ask(self.head("POST", PUSH, "Content-Length: 90000\r\n", who="publisher"), "x" * 30000)

    def do_leave_in_the_head(self, rng):
        head = self.head("GET", ITEM)
        self.leave(rng, head[: rng.randrange(len(head))])

    def do_leave_before_the_answer(self, rng):
        self.leave(rng, self.head("GET", ITEM + rng.choice(["", "?path=/hang", "?path=/large"])))

    def do_leave_in_the_body(self, rng):
        self.leave(rng, self.head("POST", PUSH, "Transfer-Encoding: chunked\r\n", who="publisher"), "2000\r\n" + "x" * rng.choice([0, 10, 8191]))

    def do_leave_in_a_held_body(self, rng):
        self.leave(rng, self.head("POST", RUNS, "Content-Length: 900\r\n"), "{")

    def do_leave_in_the_answer(self, rng):
        with self.proxy.connect(timeout=20) as client:
            client.send(self.head("GET", ITEM + "?path=/large"))
            client.sock.recv(rng.choice([1, 5000]))

    def do_leave_with_a_trigger(self, rng):
        self.leave(rng, self.head("POST", RUNS, "Content-Length: 2\r\nIdempotency-Key: left-%d\r\n" % rng.randrange(50)), "{}")

    def do_reset_upstream(self, rng):
        self.ask(self.head("GET", ITEM + "?path=/reset"))

    def do_cut_upstream(self, rng):
        try:
            self.ask(self.head("GET", ITEM + "?path=/cut"))  # refused, when there is no room or time
        except (wire.CutOff, OSError):
            self.seen["cut"] += 1

    def do_hang_upstream(self, rng):
        if rng.random() < 0.3:
            self.ask(self.head("GET", ITEM + "?path=/hang"))

    def do_nonsense_upstream(self, rng):
        self.ask(self.head("GET", ITEM + "?path=/nonsense"))

    def do_large(self, rng):
        self.ask(self.head("GET", ITEM + "?path=/large"))

    def do_storage(self, rng):
        self.ask(self.head("GET", ITEM + "?path=/storage"))

    def do_tunnel(self, rng):
        self.ask(self.head("GET", RELEASES, who="releaser"))

    def do_throttled(self, rng):
        self.ask(self.head("GET", PROJECTS, who="reader"))

    def do_replayed(self, rng):
        """Several have the same key in hand: one is sent, the others wait or are told again."""
        self.ask(self.head("POST", RUNS, "Content-Length: 2\r\nIdempotency-Key: k%d\r\n" % rng.randrange(80)), "{}")

    def do_pipelined(self, rng):
        self.ask(self.head("GET", ITEM) + self.head("GET", "/") + self.head("GET", ITEM, who=None), read=3)

    def do_push(self, rng):
        self.ask(self.head("POST", PUSH, "Content-Length: 40000\r\nExpect: 100-continue\r\n", who="publisher"), "x" * 40000)

    def do_tls(self, rng):
        with wire.Client(self.tls_port, tls=self.context, timeout=20) as client:
            client.send(self.head("GET", ITEM))
            self.seen[client.answer().status] += 1

    def do_no_tls(self, rng):
        with socket.create_connection(("127.0.0.1", self.tls_port), timeout=seconds(20)) as sock:
            sock.sendall(rng.choice([b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"", os.urandom(600)]))
            if rng.random() < 0.5:
                sock.recv(100)
        self.seen["no TLS"] += 1

    def do_half_tls(self, rng):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        half = self.context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            half.do_handshake()
        with socket.create_connection(("127.0.0.1", self.tls_port), timeout=seconds(20)) as sock:
            sock.sendall(outgoing.read())
            if rng.random() < 0.7:
                sock.recv(1 if rng.random() < 0.5 else 4096)


def test_nothing_is_left_of_what_ended_in_any_way(start_proxy, issuer, authority, tmp_path, monkeypatch):
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4")
    print("DAGWARD_GAUGES_SEED=%d" % SEED)
    upstream, outgoing = Moody(keep=1), Fickle({})
    upstream.always = upstream.act
    certificate, key = authority.issue("localhost")
    tls_port, plain = free_port(), free_port()
    secret = tmp_path / "busy"
    secret.write_text("another-token\n")
    proxy = start_proxy.unstarted(
        [issuer.config()], RULES,
        {"hosts": {"dev.azure.com": upstream.url}, "ca": str(authority.file), "connections": UPSTREAMS,
         "timeouts": {"connect": "300ms", "first_byte": "400ms", "idle": "500ms", "keep_alive": "500ms"}},
        listen=[{"address": "127.0.0.1:%d" % plain}, {"address": "127.0.0.1:%d" % tls_port, "tls": {"certificate": certificate, "key": key}}],
        limits={"connections": 1000, "inspect": "1KiB", "requests_per_identity": PER_IDENTITY, "connections_per_address": PER_ADDRESS},
        timeouts={"headers": "600ms", "body": "400ms", "keep_alive": "600ms"}, outgoing_proxy={"url": outgoing.url},
        idempotency={"wait": "1s"}, log={"level": "error"}, workers=2)
    proxy.config["credentials"].append({"name": "busy", "type": "static_file", "file": str(secret)})
    proxy.port = plain
    proxy.start()
    tokens = {role: issuer.mint(role + "-1", roles=[role]) for role in ("operator", "publisher", "reader", "releaser")}
    outcomes = Outcomes(proxy, tls_port, authority, tokens)
    wrong = []

    def run(seed, n):
        rng = random.Random(seed)
        for _ in range(n):
            do = rng.choice(outcomes.all)
            try:
                do(rng)
            except (wire.CutOff, OSError):
                outcomes.seen["closed"] += 1
            except Exception as e:
                wrong.append("%s: %r" % (do.__name__, e))

    def load(n):
        threads = [threading.Thread(target=run, args=(SEED + i, n // CLIENTS)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds(120))
        assert not wrong, wrong[:5]
        wait_idle(proxy)

    load(CLIENTS * 10)  # what is opened once is open
    before = descriptors(proxy)
    load(MANY)
    print(dict(outcomes.seen))
    for status in (200, 400, 401, 403, 408, 413, 429, 431, 502, 503, 504, "left", "cut", "no TLS"):
        assert outcomes.seen[status], "there was no %s: %s" % (status, outcomes.seen)
    # The control thread keeps a connection to an issuer or not; what leaked would have leaked a hundred times.
    until(lambda: descriptors(proxy) <= before + 4, lambda: "%d descriptors, %d before" % (descriptors(proxy), before))
    assert proxy.metric(r'^dagward_triggers_total{outcome="replayed"}') > 0
    assert proxy.metric(r"^dagward_upstream_unreachable_refusals_total") + proxy.metric(r'refusals_total{reason="upstream') > 0

    # Each place that an identity, an address and upstream have is free: as many as ever, and not one more.
    proxy.reload({**proxy.config, "upstream": {**proxy.config["upstream"], "connections": 64, "timeouts": {"first_byte": "60s"}},
                  "timeouts": {**proxy.config["timeouts"], "keep_alive": "60s", "headers": "60s"}})
    until(lambda: proxy.ask("GET", ITEM, tokens["operator"]).status == 200, "upstream is trusted again", within=30, every=0.2)
    until(lambda: proxy.metric(r"^dagward_exchanges\b") == 0, "nobody is being served")
    upstream.gate = threading.Event()
    held = [proxy.connect(timeout=60) for _ in range(PER_IDENTITY)]
    for client in held:
        client.send(outcomes.head("GET", ITEM))
    until(lambda: proxy.metric(r"^dagward_exchanges\b") == PER_IDENTITY, "all of them are being served")
    assert proxy.ask("GET", ITEM, tokens["operator"]).status == 429
    upstream.gate.set()
    for client in held:
        assert client.answer().status == 200
    upstream.gate = None
    more = [proxy.connect(timeout=60) for _ in range(PER_ADDRESS - PER_IDENTITY)]
    for client in more:
        client.send(outcomes.head("GET", "/"))
        assert client.answer().status == 200
    try:
        with proxy.connect() as one_more:
            assert one_more.is_closed()
    except ConnectionError:
        pass
    for client in held + more:
        client.close()
    wait_idle_but_pool = lambda: proxy.metric(r"^dagward_client_connections\b") == 0 and proxy.metric(r"^dagward_memory_bytes\b") == 0
    until(wait_idle_but_pool, "all are gone")
    upstream.close()
    outgoing.close()
