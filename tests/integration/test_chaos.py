"""Everybody misbehaves at once, by chance: clients cut, half-close, reset, pipeline and dawdle at any
byte; upstream answers early, late, twice, in halves or not at all; files are loaded again meanwhile.
Nothing may crash, leak, hang or lose a record, and no answer may be somebody else's.

DAGWARD_CHAOS_SEED repeats a run's choices (not its timing), DAGWARD_CHAOS_SECONDS sets its length.
"""
import os
import random
import signal
import socket
import ssl
import struct
import threading
import time

import pytest

from kit import wire
from kit.policies import POLICY
from kit.upstreams import Upstream, message
from kit.waiting import free_port, seconds, until

SEED = int(os.environ.get("DAGWARD_CHAOS_SEED", random.SystemRandom().randrange(1 << 32)))
LENGTH = float(os.environ.get("DAGWARD_CHAOS_SECONDS", 12))
RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
CLIENTS = 12


def reset(sock):
    """Closes with a reset instead of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Chance(Upstream):
    """Answers with the mark of the request, so that a client knows its own answer; or does something else."""

    def __init__(self, rng, **more):
        self.rng = rng
        self.counts = {}
        super().__init__(**more)
        self.always = self.act

    def _one(self, sock, reader, number):
        del self.received[:]  # hundreds of megabytes otherwise
        if self.rng.random() < 0.05:
            reader.head()
            kind = self.rng.randrange(3)
            if kind == 0:
                reset(sock)
            elif kind == 1:  # before the body was read
                sock.sendall(message(413, b'{"message":"early"}'))
            return False
        return super()._one(sock, reader, number)

    def act(self, sock, request):
        rng = self.rng
        mark = request["X-Mark"] or "none"
        body = (mark + " ").encode() * rng.choice([1, 1, 1, 40, 3000, 60000])
        body = body[:rng.choice([len(body), 1 << 20])]
        whole = message(200, body, [("X-Mark-Back", mark)])
        if request.method == "HEAD":
            return whole[:whole.index(b"\r\n\r\n") + 4]
        what = rng.randrange(24)
        if what < 8:
            return whole
        if what == 8:
            return None
        if what == 9:
            sock.sendall(whole[:rng.randrange(len(whole))])
            return None
        if what == 10:
            reset(sock)
            return None
        if what == 11:
            return b"HTTP/1.1 100 Continue\r\n\r\n" * rng.randrange(1, 30) + whole
        if what == 12:  # more than was announced
            return whole + message(200, "poison", [("X-Mark-Back", "poison")])
        if what == 13:
            time.sleep(rng.random() * 0.6)
            return whole
        if what == 14:
            return b"\x00\x01nonsense\r\n\r\n"
        if what == 15:
            return message(204, reason="Nothing").replace(b"Content-Length: 0\r\n", b"")
        if what == 16:
            return message(rng.choice([203, 302, 401]), "<html>", type="text/html")
        if what == 17:  # until the end of the connection
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Mark-Back: %s\r\n\r\n" % mark.encode() + body)
            return None
        if what == 18:
            for i in range(0, len(whole), max(1, len(whole) // 7)):
                sock.sendall(whole[i:i + max(1, len(whole) // 7)])
                time.sleep(0.01)
            return b""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Mark-Back: %s\r\n\r\n" % mark.encode()
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 5000]), body[i:i + 5000]) for i in range(0, len(body), 5000))
        if what == 19:
            sock.sendall(head + chunks[:rng.randrange(len(chunks) + 1)])
            return None
        return head + chunks + b"0\r\n" + rng.choice([b"", b"Late: field\r\n"]) + b"\r\n"


class Caller(threading.Thread):
    """Sends requests of all kinds, most of them whole; checks that what comes whole is its own."""

    def __init__(self, seed, connect, tokens, deadline):
        super().__init__(daemon=True)
        self.rng, self.connect, self.tokens, self.deadline = random.Random(seed), connect, tokens, deadline
        self.asked, self.answered, self.wrong, self.correlations = 0, 0, [], []
        self.name = "caller %d" % seed

    def head(self, mark):
        rng = self.rng
        method, target = rng.choice([("GET", RUNS), ("GET", ITEM), ("HEAD", ITEM), ("POST", RUNS), ("POST", PUSH), ("POST", PUSH), ("GET", "/")])
        token = rng.choice(self.tokens)
        size = 0 if method != "POST" else rng.choice([0, 1, 900, 15000, 16384, 16385, 30000, 70000, 300000])
        payload = b"{}".ljust(size, b" ") if size > 1 else b"x" * size
        fields = [("Host", "chaos.test"), ("X-Mark", mark), ("Authorization", "Bearer " + token)]
        version = "1.0" if rng.random() < 0.08 else "1.1"
        body = payload
        if method == "POST" and version == "1.1" and rng.random() < 0.4:
            fields.append(("Transfer-Encoding", "chunked"))
            step = rng.choice([1000, 7000, 65536])
            body = b"".join(b"%x\r\n%s\r\n" % (len(payload[i:i + step]), payload[i:i + step]) for i in range(0, size, step)) + b"0\r\n\r\n"
        elif method == "POST":
            fields.append(("Content-Length", str(size)))
        if body and rng.random() < 0.1:
            fields.append(("Expect", "100-continue"))
        if rng.random() < 0.05:
            fields.append(("Connection", "close"))
        head = "%s %s HTTP/%s\r\n" % (method, target, version) + "".join("%s: %s\r\n" % f for f in fields) + "\r\n"
        return method, head.encode() + body

    def run(self):
        while time.monotonic() < self.deadline:
            try:
                self.connection()
            except (OSError, wire.CutOff, ValueError, AssertionError):
                pass

    def connection(self):
        rng = self.rng
        with self.connect() as client:
            for _ in range(rng.randrange(1, 6)):
                marks = ["%s-%d" % (self.name.replace(" ", ""), self.asked + i) for i in range(rng.choice([1, 1, 1, 3]))]
                whole, methods = b"", []
                for mark in marks:
                    method, data = self.head(mark)
                    whole += data
                    methods.append(method)
                self.asked += len(marks)
                fate = rng.random()
                if fate < 0.12:  # a part, and an end of some kind
                    client.send(whole[:rng.randrange(len(whole))])
                    time.sleep(rng.random() * 0.02)
                    if fate < 0.04:
                        reset(client.sock)
                    elif fate < 0.08 and not isinstance(client.sock, ssl.SSLSocket):
                        client.sock.shutdown(socket.SHUT_WR)
                        client.is_closed(within=1)
                    return
                if fate < 0.2:
                    for i in range(0, len(whole), max(1, len(whole) // 9)):
                        client.send(whole[i:i + max(1, len(whole) // 9)])
                        time.sleep(0.003)
                else:
                    client.send(whole)
                if fate > 0.95:  # whole, and gone
                    if fate > 0.97:
                        reset(client.sock)
                    return
                if fate > 0.92 and not isinstance(client.sock, ssl.SSLSocket):
                    client.sock.shutdown(socket.SHUT_WR)
                if fate > 0.9:
                    time.sleep(rng.random() * 0.2)
                for method, mark in zip(methods, marks):
                    answer = client.answer(head_only=method == "HEAD")
                    self.judge(answer, mark)
                    if answer["Connection"] == "close":
                        return

    def judge(self, answer, mark):
        self.answered += 1
        if not answer.correlation:
            self.wrong.append("an answer without correlation ID: %s %s" % (answer.status, answer.reason))
            return
        self.correlations.append(answer.correlation)
        back = answer["X-Mark-Back"]
        if back is not None and back != mark:
            self.wrong.append("%s got the answer of %s" % (mark, back))
        if back == mark and answer.body and mark.encode() not in answer.body[: 2 * len(mark) + 2]:
            self.wrong.append("%s got the body %r" % (mark, answer.body[:60]))
        if answer.status >= 400 and answer.status != 413 and answer.correlation not in answer.reason and back is None:
            self.wrong.append("%s was told %s %s" % (mark, answer.status, answer.reason))


def bystander(proxy, token, deadline, took):
    """An ordinary caller among them."""
    while time.monotonic() < deadline:
        began = time.monotonic()
        assert proxy.ask("GET", "/", token).status == 200
        took.append(time.monotonic() - began)
        time.sleep(0.05)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_nothing_is_lost_in_chaos(start_proxy, issuer, authority, monkeypatch, tls):
    # What the sanitizer holds back of freed memory would look like a leak for the first 256 MiB.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4")
    print("DAGWARD_CHAOS_SEED=%d" % SEED)
    rng = random.Random(SEED)
    upstream = Chance(random.Random(rng.random()), tls=authority.server("localhost") if tls else None, keep=1)
    port = free_port()
    listen = {"address": "127.0.0.1:%d" % port}
    if tls:
        certificate, key = authority.issue("localhost")
        listen["tls"] = {"certificate": certificate, "key": key}
    plain = free_port()
    hosts = {"hosts": {"*": upstream.url}, "timeouts": {"connect": "2s", "first_byte": "400ms", "idle": "500ms"}}
    if tls:
        hosts["ca"] = str(authority.file)
    proxy = start_proxy([issuer.config()], POLICY, hosts, listen=[listen, {"address": "127.0.0.1:%d" % plain}],
                        timeouts={"headers": "1s", "body": "700ms", "keep_alive": "1s"}, audit={"strangers": "each"}, log={"level": "info"})
    proxy.port = plain
    context = authority.client() if tls else None
    tokens = [issuer.mint("operator-1", roles=["operator"]), issuer.mint("publisher-1", roles=["publisher"]),
              issuer.mint("both-1", roles=["operator", "publisher"])] * 4
    tokens += [issuer.mint("nobody"), tokens[0][:-8] + "AAAAAAAA", "no-token"]

    def connect():
        client = wire.Client(port, tls=context, timeout=5)
        # An end without close_notify is no end; Python takes even a reset for one.
        if tls:
            client.sock.suppress_ragged_eofs = False
        return client

    deadline = time.monotonic() + LENGTH
    callers = [Caller(rng.randrange(1 << 30), connect, tokens, deadline) for _ in range(CLIENTS)]
    took = []
    watcher = threading.Thread(target=bystander, args=(proxy, tokens[0], deadline, took), daemon=True)
    for thread in [*callers, watcher]:
        thread.start()
    sizes, reloads = [], 0
    while time.monotonic() < deadline:
        time.sleep(LENGTH / 8)
        assert proxy.process.poll() is None, proxy.log()[-4000:]
        sizes.append(proxy.resident_kib())
        proxy.signal(signal.SIGHUP)
        reloads += 1
    for thread in [*callers, watcher]:
        thread.join(seconds(20))
        assert not thread.is_alive(), "%s hangs" % thread.name

    wrong = [w for caller in callers for w in caller.wrong]
    assert not wrong, wrong[:5]
    asked, answered = sum(c.asked for c in callers), sum(c.answered for c in callers)
    print("asked %d, answered %d, slowest bystander %.3f s, memory %s KiB" % (asked, answered, max(took), sizes))
    assert answered > asked / 8 and len(took) > LENGTH
    assert max(took) < seconds(2)
    assert sizes[-1] < sizes[len(sizes) // 2] * 1.25 + 16384, sizes

    until(lambda: proxy.metric(r"^dagward_client_connections\b") == 0, "connections of clients that are gone", within=10)
    time.sleep(0.3)
    outcomes = {}
    for record in proxy.records("outcome"):
        outcomes.setdefault(record["correlation_id"], []).append(record)
    lost = [c for caller in callers for c in caller.correlations if c not in outcomes]
    assert not lost, "answers without outcome record: %s" % lost[:5]
    doubled = [c for c, records in outcomes.items() if len(records) > 1]
    assert not doubled, "requests with several outcome records: %s" % doubled[:5]
    assert answered + len(took) <= len(outcomes) <= asked + len(took)
    upstream.close()
