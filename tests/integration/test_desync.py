"""Messages out of step. Callers send good and bad requests in a row, cut anywhere, and end in every way; upstream answers
early, late, in pieces, with too much or too little. Every request has a mark of its own, and at the end three books are laid
side by side: what callers were told, what upstream received, and what the audit log says. They have to agree to the request.

DAGWARD_DESYNC_SEED repeats a run's choices (not its timing; upstream speaks TLS if it is odd), DAGWARD_DESYNC is how many
connections there are.
"""
import collections
import hashlib
import json
import os
import random
import re
import signal
import socket
import ssl
import threading
import time
import uuid

import pytest

from kit import wire
from kit.gauges import wait_idle
from kit.issuers import some_key
from kit.policies import POLICY
from kit.upstreams import Upstream, message, reset
from kit.waiting import free_port, sanitizer, seconds, until

SEED = int(os.environ.get("DAGWARD_DESYNC_SEED", random.SystemRandom().randrange(1 << 32)))
MANY = int(os.environ.get("DAGWARD_DESYNC", 1200 if sanitizer() == "none" else 400))
CALLERS = 12
RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
POISON = "GET %s?path=/poison HTTP/1.1\r\nHost: a\r\nX-Mark: poison\r\n\r\n" % ITEM

CUTS = ["cut-head", "cut-body", "reset", "close", "early-reset"]  # an answer need not be whole, or there
NO_REQUESTS = ["malformed", "expects-more", "upgrade"]  # refused before they have an id
ACTS = ["plain"] * 6 + ["chunked", "chunked", "pieces", "until-close", "interims", "no-content", "not-modified", "slow", "early", "early-close",
                        "more", "too-much", "refused", "sign-in", "hang"] + CUTS


class Request:
    """As its caller sent it. `may`: statuses that it may be answered with."""

    def __init__(self, kind, method, target, body, act, may, allowed=False, key=None):
        self.id = str(uuid.uuid4())
        self.kind, self.method, self.target, self.body, self.act, self.may, self.allowed, self.key = kind, method, target, body, act, may, allowed, key
        self.whole, self.bytes, self.expects, self.status, self.replayed = False, b"", False, None, False

    def __str__(self):
        return "%s %s %s act=%s key=%s %d bytes" % (self.id, self.kind, self.method, self.act, self.key, len(self.body))


class Book:
    """What all sides have seen."""

    def __init__(self):
        self.lock, self.sent, self.received, self.wrong = threading.Lock(), {}, collections.defaultdict(list), []
        self.strangers = set()  # ids of answers to what was no request
        self.malformed = 0
        self.counts = collections.Counter()

    def fault(self, text, *more):
        with self.lock:
            self.wrong.append(text % more)


class Acting(Upstream):
    """Does what the request's X-Act says; what is no request, or nobody's, is a fault."""

    def __init__(self, book, **more):
        self.book = book
        super().__init__(**more)

    def _serve(self, sock, number):
        try:
            super()._serve(sock, number)
        except Exception as e:
            self.book.fault("upstream: %r", e)

    def _one(self, sock, reader, number):
        first, fields = reader.head()
        get = {n.lower(): v for n, v in fields}
        if not re.fullmatch(r"(GET|HEAD|POST) /\S* HTTP/1\.1", first):
            self.book.fault("upstream received the head %r %r", first, fields)
            return False
        method, target, _ = first.split(" ")
        act, mark, body = get.get("x-act"), get.get("x-mark"), wire.Body(0)
        if target.startswith("/contoso/analytics/_apis/build/builds?") and not mark:  # the proxy looks for a run
            sock.sendall(message(200, '{"count": 0, "value": []}'))
            return True
        if len(get) != len(fields) or not act or not mark:
            self.book.fault("upstream received the head %r %r", first, fields)
            return False
        seen = {"method": method, "target": target, "whole": False, "body": body, "connection": number}
        with self.book.lock:
            self.book.received[mark].append(seen)
        if get.get("x-vss-e2eid") != mark:
            self.book.fault("upstream received the mark %s with %s", mark, get.get("x-vss-e2eid"))
        early = act.startswith("early")
        if early:
            sock.sendall(message(413, "early " + mark, [("X-Mark-Back", mark)]))
        if act == "early-close":
            return False
        if act == "early-reset":
            reset(sock)
            return False
        try:
            reader.body(get.items(), body)
        except (ValueError, AssertionError) as e:
            self.book.fault("upstream received a body that is none: %r of %s", e, mark)
            return False
        seen["whole"] = True
        return early or self.answer(sock, method, mark, act)

    def answer(self, sock, method, mark, act):
        """Whether the connection goes on."""
        back = [("X-Mark-Back", mark)]
        body = (mark + "\n").encode() * {"pieces": 20, "chunked": 500, "until-close": 3000, "cut-body": 400, "slow": 3}.get(act, 1)
        plain = message(200, body, back)
        poison = message(200, "poison", [("X-Mark-Back", "poison")])
        if method == "HEAD" and act not in ("too-much", *CUTS, "hang", "not-modified", "no-content", "refused", "sign-in"):
            sock.sendall(plain[: plain.index(b"\r\n\r\n") + 4])
            return True
        if act in ("plain", "early"):
            sock.sendall(plain)
        elif act == "chunked":
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Mark-Back: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % mark.encode())
            for i in range(0, len(body), 4001):
                sock.sendall(b"%x;a=b\r\n%s\r\n" % (len(body[i:i + 4001]), body[i:i + 4001]))
            sock.sendall(b"0\r\nLate: field\r\n\r\n")
        elif act == "pieces":
            whole = b"HTTP/1.1 200 OK\r\nX-Mark-Back: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % mark.encode()
            whole += b"".join(b"1\r\n%c\r\n" % c for c in body[:74]) + b"0\r\n\r\n"
            for i in range(0, len(whole), 61):
                sock.sendall(whole[i:i + 61])
                time.sleep(0.0005)
        elif act == "until-close":
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Mark-Back: %s\r\n\r\n" % mark.encode() + body)
            if isinstance(sock, ssl.SSLSocket):  # else it is cut off, and no end
                sock.settimeout(seconds(2))
                sock.unwrap()
            return False
        elif act == "interims":
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: <a>\r\n\r\n" + plain)
        elif act == "no-content":
            sock.sendall(b"HTTP/1.1 204 Nothing\r\nX-Mark-Back: %s\r\n\r\n" % mark.encode())
        elif act == "not-modified":  # with the length that a 200 would have
            sock.sendall(b"HTTP/1.1 304 Same\r\nContent-Length: 70\r\nX-Mark-Back: %s\r\n\r\n" % mark.encode())
        elif act == "slow":
            time.sleep(0.05)
            for i in range(0, len(plain), 40):
                sock.sendall(plain[i:i + 40])
                time.sleep(0.002)
        elif act == "more":  # than was asked for
            sock.sendall(plain + poison)
        elif act == "too-much":  # a body where none may be, if it is HEAD
            sock.sendall(message(200 if method == "HEAD" else 304, poison, back))
        elif act == "refused":
            sock.sendall(message(404, "not here " + mark, back))
        elif act == "sign-in":
            sock.sendall(message(401, "<html>", [("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/t")]))
        elif act == "hang":
            sock.settimeout(seconds(3))
            try:
                sock.recv(1)
            except OSError:
                pass
            return False
        elif act == "cut-head":
            sock.sendall(plain[:20])
            return False
        elif act == "cut-body":
            sock.sendall(plain[:-30])
            return False
        elif act == "reset":
            reset(sock)
            return False
        else:
            return False
        return True


class Caller(threading.Thread):
    def __init__(self, seed, n, book, connect, tokens, deadline=None):
        super().__init__(daemon=True)
        self.rng, self.n, self.book, self.connect, self.tokens, self.deadline = random.Random(seed), n, book, connect, tokens, deadline

    # --- what is asked ---

    def make(self):
        rng = self.rng
        kind = rng.choice(["get"] * 6 + ["head", "post", "post", "trigger", "push", "push", "push", "whoami", "denied", "denied-body", "denied-body",
                                         "nobody", "forged", "unheard", "malformed", "expects-more", "upgrade"])
        act = rng.choice(ACTS)
        sizes = [0, 1, 300, 9000, 15000, 15361, 40000, 90000, 200000]
        passes = {200, 204, 304, 404, 413, 502, 504}
        if kind in ("get", "head", "upgrade"):
            r = Request(kind, "HEAD" if kind == "head" else "GET", ITEM, b"", act, passes, True)
        elif kind in ("post", "trigger"):
            key = "k%d" % rng.randrange(max(4, MANY // 20)) if kind == "trigger" else None
            act = rng.choice(["plain", "plain", "slow", "chunked", "reset", "cut-body"]) if key else act
            r = Request(kind, "POST", RUNS, b'{"templateParameters": {"a": "%s"}}' % (key or POISON * rng.randrange(9)).replace("\r\n", " ").encode(), act,
                        passes | ({409, 503} if key else set()), True, key)
        elif kind == "push":
            size = rng.choice(sizes)
            r = Request(kind, "POST", PUSH, (POISON.encode() * (size // len(POISON) + 1))[:size], act, passes, True)
        elif kind == "whoami":
            r = Request(kind, "GET", "/", b"", None, {200})
        elif kind == "denied":
            r = Request(kind, "GET", "/contoso/other/_apis/build/builds", b"", None, {403})
        elif kind == "denied-body":
            size = rng.choice(sizes)
            r = Request(kind, "POST", PUSH.replace("dags", "other"), (POISON.encode() * (size // len(POISON) + 1))[:size], None, {403})
        elif kind in ("nobody", "forged", "unheard"):
            size = rng.choice([0, 0, 500, 30000])
            r = Request(kind, "POST" if size else "GET", RUNS, b"x" * size, None, {401} if kind == "nobody" else {401, 429})
        elif kind == "expects-more":
            r = Request(kind, "POST", RUNS, b"", None, {400, 417})
        else:
            r = Request(kind, "GET", rng.choice([ITEM + "?path=%2", "/a/../b", ITEM + " HTTP/1.1\r\nX: y\r\n z", "*"]), b"", None, {400})
        r.bytes = self.spell(r)
        return r

    def spell(self, r):
        rng = self.rng
        lines = ["%s %s HTTP/1.%d" % (r.method, r.target, 0 if r.kind == "get" and rng.random() < 0.05 else 1), "Host: a", "X-Correlation-Id: " + r.id, "X-Mark: " + r.id]
        if r.act:
            lines.append("X-Act: " + r.act)
        if r.key:
            lines.append("Idempotency-Key: " + r.key)
        if r.kind in self.tokens:
            lines.append("Authorization: Bearer " + self.tokens[r.kind])
        elif r.kind != "nobody":  # a key is one only with its caller
            good = self.tokens["good"]
            lines.append("Authorization: Bearer " + (good[int(r.key[1:]) % len(good)] if r.key else rng.choice(good)))
        if r.kind == "expects-more":
            lines.append("Expect: more")
        if r.kind == "upgrade":
            lines += rng.choice([["Connection: Upgrade", "Upgrade: websocket"], ["Connection: Upgrade, X-Act", "Upgrade: h2c"]])
            r.may, r.allowed = {400, 426, 501}, False
        connection = rng.random()
        if r.kind == "get" and connection < 0.1:
            lines.append("Connection: " + rng.choice(["close", "close, keep-alive", "keep-alive, close", "keep-alive", ", keep-alive ,"]))
        if not r.body and r.method == "GET":
            return ("\r\n".join(lines) + "\r\n\r\n").encode()
        if rng.random() < 0.25:
            r.expects = True
            lines.append("Expect: 100-continue")
        if r.body and rng.random() < 0.5:
            lines.append("Transfer-Encoding: chunked")
            step = rng.choice([7 if len(r.body) < 5000 else 700, 1000, 65536])
            extension = rng.choice([b"", b"", b";a", b';a="b;c"'])
            body = b"".join(b"%x%s\r\n%s\r\n" % (len(r.body[i:i + step]), extension, r.body[i:i + step]) for i in range(0, len(r.body), step))
            body += b"0\r\n" + rng.choice([b"", b"", b"Late: field\r\n"]) + b"\r\n"
        elif r.method == "HEAD":
            body = b""
        else:
            lines.append("Content-Length: %d" % len(r.body))
            body = r.body
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body

    # --- how ---

    def run(self):
        while self.n > 0 and (not self.deadline or time.monotonic() < self.deadline):
            self.n -= 1
            requests = [self.make() for _ in range(self.rng.choice([1, 1, 2, 3, 6]))]
            try:
                client = self.connect(self.rng)
            except OSError:
                if not self.deadline:
                    raise
                return
            with client:
                self.connection(client, requests)

    def connection(self, client, requests):
        rng, book = self.rng, self.book
        tls = isinstance(client.sock, ssl.SSLSocket)
        with book.lock:
            book.sent.update((r.id, r) for r in requests)
        data, fate = b"".join(r.bytes for r in requests), rng.random()
        ends = "whole" if fate < 0.6 or tls and fate < 0.9 else "half" if fate < 0.7 else "cut-half" if fate < 0.77 else "junk" if fate < 0.84 else "cut"
        cut = len(data) if ends in ("whole", "half", "junk") or rng.random() < 0.3 else rng.randrange(len(data))
        at = 0
        for r in requests:
            at += len(r.bytes)
            r.whole = at <= cut
        if cut < len(data) or ends == "junk" or any(r.kind in NO_REQUESTS for r in requests):
            with book.lock:
                book.malformed += 1  # what is no request is the last of its connection
        data = data[:cut]
        if ends == "junk":
            data += rng.choice([b"\x00" * 300, b"\r\n\r\n\r\n", os.urandom(200), b"G" * 300000, b"0\r\n\r\n" * 40000])
        gone = client.broken = self.send(client, data)
        try:
            if ends.endswith("half") and not gone:
                client.sock.shutdown(socket.SHUT_WR)
            if ends == "cut":
                time.sleep(rng.choice([0, 0, 0.002, 0.03]))
                if rng.random() < 0.5:
                    reset(client.sock)
                return
        except OSError:
            gone = True
        self.read(client, requests, gone or ends != "whole")

    def send(self, client, data):
        """In pieces, or not; whether the proxy would not take all of it."""
        rng = self.rng
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice([0, 0, 1, 3, 10])))
        try:
            for begin, end in zip([0, *cuts], [*cuts, len(data)]):
                client.send(data[begin:end])
                if end < len(data):
                    time.sleep(rng.choice([0, 0.001, 0.005]))
        except OSError:
            return True
        return False

    def read(self, client, requests, may_end):
        for r in requests:
            if not r.whole and r.kind not in NO_REQUESTS:
                may_end = True
            try:
                answer = strict(client, r)
            except wire.CutOff as e:
                if not may_end and r.act not in CUTS and not self.deadline:
                    self.book.fault("the connection ended before the answer to %s: %s", r, e)
                return
            except TimeoutError:
                self.book.fault("no answer to %s (%s)", r, [str(o) for o in requests])
                return
            except OSError:
                if not may_end and r.act not in CUTS:
                    self.book.fault("the connection broke before the answer to %s", r)
                return
            except (ValueError, AssertionError) as e:
                self.book.fault("what came for %s is no answer: %r", r, e)
                return
            if not self.judge(client, r, answer):
                return
            # An answer while its request is under way: the rest of that may be too much to wait for.
            may_end = may_end or bool(r.body)
            if answer["Connection"] == "close":
                break
        try:
            client.sock.settimeout(seconds(0.02))
            more = client.reader.buffer + client.sock.recv(100)
            if more and not (may_end and re.match(rb"HTTP/1.1 (4..|501) .*\(corr ", more)):
                self.book.fault("%r came behind the last answer, to %s", more, r)
        except OSError:
            pass

    def judge(self, client, r, answer):
        """Whether what follows can be read."""
        book, back = self.book, answer["X-Mark-Back"]
        book.counts[answer.status] += 1
        if not answer.correlation:
            book.fault("%s was answered %s %s, without an id", r, answer.status, answer.reason)
            return False
        if answer.correlation != r.id:
            with book.lock:
                book.strangers.add(answer.correlation)
            cut_short = not r.whole or r.kind in NO_REQUESTS
            if not cut_short or answer.correlation in book.sent or answer.status not in (400, 408, 414, 417, 431, 426, 501):
                book.fault("%s was given the answer %s %s of %s", r, answer.status, answer.reason, answer.correlation)
            return False
        r.status, r.replayed = answer.status, answer["Idempotent-Replayed"] == "true"
        if answer.status not in r.may and not (not r.whole and answer.status in (400, 408)):
            book.fault("%s was answered %s %s", r, answer.status, answer.text[:300])
        if back not in (None, r.id):
            book.fault("%s was given what is for %s", r, back)
        if r.replayed:
            first = answer.text.split("\n")[0][-36:]
            if not r.key or first not in book.sent or book.sent[first].key != r.key:
                book.fault("%s was given again what is for %s", r, first)
        elif client.broken and not {"Content-Length", "Transfer-Encoding"} & {n for n, _ in answer.fields}:
            pass  # the reset was told to who was sending, and looks like an end to who reads
        elif back and r.method != "HEAD" and answer.status not in (204, 304):
            part = answer.text.replace("early ", "").replace("not here ", "").replace("\n", "")
            if not part or part.replace(r.id, ""):
                if r.act != "pieces" or not part.startswith(r.id):
                    book.fault("%s was given %r", r, answer.body[:200])
        return True


def strict(client, r):
    """An answer, of which every byte is as it has to be."""
    while True:
        first, fields = client.reader.head()
        assert re.fullmatch(r"HTTP/1\.1 [1-5]\d\d [ -~]*", first), first
        assert all(re.fullmatch(r"[!-9;-~]+", n) for n, _ in fields), fields
        names = [n.lower() for n, _ in fields]
        status = int(first[9:12])
        if status >= 200:
            break
        assert status == 100 and r.expects and not fields, (first, fields)
        r.expects = False
    assert names.count("content-length") + names.count("transfer-encoding") <= 1, fields
    body = wire.Body()
    until_close = not {"content-length", "transfer-encoding"} & set(names)
    if r.method != "HEAD" and status not in (204, 304):
        assert not until_close or dict(fields).get("Connection") == "close", fields
        client.reader.body(fields, body, until_close=True)
    return wire.Answer(status, first[13:], fields, body.kept, [])


def lay_side_by_side(book, proxy):
    outcomes, fault = collections.defaultdict(list), book.fault
    for record in proxy.records("outcome"):
        outcomes[record["correlation_id"]].append(record)
    for mark, records in outcomes.items():
        if len(records) > 1:
            fault("%d outcomes of %s", len(records), book.sent.get(mark, mark))
    keys = collections.defaultdict(list)
    for mark, r in book.sent.items():
        seen, record = book.received.get(mark, []), outcomes.get(mark, [None])[0]
        if r.status and not record:
            fault("%s was answered %s, and there is no outcome", r, r.status)
        if r.status and record and record["response"]["status"] != r.status:
            fault("%s was answered %s, recorded is %s", r, r.status, record["response"])
        if seen and not record:
            fault("%s was sent to upstream, and there is no outcome", r)
        if seen and not r.allowed:
            fault("%s reached upstream", r)
        attempts = (record or {}).get("upstream", {}).get("attempts", 0)
        if len(seen) > attempts:
            fault("%s reached upstream %d times, recorded are %d", r, len(seen), attempts)
        most = 1 + (r.act == "sign-in") + (r.method != "POST")
        if len(seen) > most:
            fault("%s reached upstream %d times", r, len(seen))
        if r.allowed and r.status in (200, 204, 304, 404, 413) and not seen and not r.replayed:
            fault("%s was answered %s, and upstream knows nothing of it", r, r.status)
        for one in seen:
            if one["whole"] and (not r.whole or one["body"].sha.digest() != hashlib.sha1(r.body).digest()):
                fault("upstream took %d bytes for the whole of %s (whole: %s)", one["body"].size, r, r.whole)
            if one["method"] != r.method or one["target"] != r.target:
                fault("upstream received %s %s for %s", one["method"], one["target"], r)
        if r.key and seen:
            keys[r.key].append(r)
    for key, several in keys.items():
        if len(several) > 1:
            fault("the trigger %s was sent more than once: %s", key, [str(r) for r in several])
    unknown = set(book.received) - set(book.sent)
    if unknown:
        fault("upstream received what nobody sent: %s", unknown)
    odd = set(outcomes) - set(book.sent)
    if book.strangers - odd:
        fault("answers without an outcome: %s", book.strangers - odd)
    if len(odd) > book.malformed:
        fault("%d outcomes of what was no request, of %d", len(odd), book.malformed)
    assert not book.wrong, "%d faults, the first of them: %s" % (len(book.wrong), "\n".join(book.wrong[:8]))


def test_three_books_agree(start_proxy, own_issuer, authority, monkeypatch):
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4")
    print("DAGWARD_DESYNC_SEED=%d" % SEED)
    rng, book = random.Random(SEED), Book()
    upstream = Acting(book, keep=0, tls=authority.server("upstream", "localhost") if SEED % 2 else None)
    certificate, key = authority.issue("localhost")
    plain, tls_port = free_port(), free_port()
    proxy = start_proxy.unstarted(
        [own_issuer.config({"discovery": True, "cooldown": "1s"})], POLICY,
        {"hosts": {"*": upstream.url}, "ca": str(authority.file), "timeouts": {"connect": "5s", "first_byte": "%dms" % (seconds(1) * 1000), "idle": "%ds" % seconds(4), "keep_alive": "1s"},
         "ejection": {"failures": 100}},
        listen=[{"address": "127.0.0.1:%d" % plain}, {"address": "127.0.0.1:%d" % tls_port, "tls": {"certificate": certificate, "key": key}}],
        timeouts={"headers": "2s", "body": "2s", "keep_alive": "2s"}, idempotency={"wait": "2s"}, correlation={"tags": []}, audit={"strangers": "each"}, log={"level": "info"})
    proxy.port = plain
    proxy.start()
    stranger = own_issuer.mint("stranger", key=some_key("stranger"), header={"kid": "unheard"})
    good = [own_issuer.mint("caller-%d" % i, roles=["operator", "publisher"]) for i in range(8)]
    tokens = {"good": good, "forged": good[0][:-8] + "AAAAAAAA", "unheard": stranger}
    context = authority.client()

    def connect(rng):
        tls = rng.random() < 0.3
        client = wire.Client(tls_port if tls else plain, tls=context if tls else None)
        if tls:
            client.sock.suppress_ragged_eofs = False  # an end without close_notify is no end
        return client

    def load(n, during, **more):
        callers = [Caller(rng.randrange(1 << 30), n, book, connect, tokens, **more) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        while any(c.is_alive() for c in callers):
            during()
            time.sleep(0.5)
        assert proxy.process.poll() in (None, 0), proxy.log()[-3000:]

    load(MANY // CALLERS, lambda: proxy.process.poll() is None and proxy.signal(signal.SIGHUP))
    wait_idle(proxy)
    deadline = time.monotonic() + seconds(1)
    load(1 << 20, lambda: time.monotonic() > deadline - seconds(0.6) and proxy.process.poll() is None and proxy.process.terminate(), deadline=deadline)
    until(lambda: proxy.process.poll() is not None, "it has drained", within=30)
    print("%d connections, %d requests, %d reached upstream on %d connections; %s" % (
        MANY, len(book.sent), sum(map(len, book.received.values())), upstream.connections, sorted(book.counts.items())))
    lay_side_by_side(book, proxy)
    upstream.close()
