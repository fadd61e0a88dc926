"""Issuers and token endpoints as enemies, all at once: slow, endless, huge, absurd. What they are asked for ends in time and in
bounded memory, and an honest issuer and an honest endpoint beside them, which share thread and client, are not kept waiting."""
import gzip
import itertools
import json
import os
import socket
import threading
import time

from kit import secrets
from kit.issuers import some_key
from kit.policies import POLICY
from kit.waiting import sanitizer, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
JSON = "Content-Type: application/json\r\n"


def whole(status, body, fields=""):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ("HTTP/1.1 %d Told\r\n%sContent-Length: %d\r\n%s\r\n" % (status, JSON, len(body), fields)).encode() + body


class Enemy:
    """Answers each request as `act(socket, number)` does, and hangs up."""

    def __init__(self, act):
        self.act, self.asked, self.ended = act, 0, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.asked += 1
            threading.Thread(target=self.serve, args=(sock, self.asked), daemon=True).start()

    def serve(self, sock, number):
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                part = sock.recv(65536)
                if not part:
                    return
                head += part
            self.act(self, sock, number)
        except OSError:
            pass
        finally:
            sock.close()

    def forever(self, sock, data, pause=0.0, times=1 << 30):
        for _ in range(times):
            if self.ended.is_set():
                return
            sock.sendall(data)
            time.sleep(pause)

    def close(self):
        self.ended.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def says(data):
    return lambda enemy, sock, number: sock.sendall(data if isinstance(data, bytes) else data(enemy, number))


def goes_on(begin, data, pause=0.0):
    def act(enemy, sock, _):
        sock.sendall(begin)
        enemy.forever(sock, data, pause)

    return act


def silent(enemy, sock, _):
    enemy.ended.wait(60)


OK = b"HTTP/1.1 200 OK\r\n" + JSON.encode()
FOREVER = {
    "silent": silent,
    "drips its head": goes_on(b"HTTP/1.1 200 OK\r\n", b"X", 0.03),
    "drips its body": goes_on(OK + b"Content-Length: 1000000\r\n\r\n{", b" ", 0.03),
    "interims": goes_on(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "interims with fields": goes_on(b"", b"HTTP/1.1 103 Hints\r\nLink: <a>\r\n\r\n" * 100),
    "a line": goes_on(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 16384),
    "fields": goes_on(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
    "a body": goes_on(OK + b"\r\n", b" " * 16384),
    "chunks": goes_on(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 1000),
    "an extension": goes_on(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 16384),
    "trailers": goes_on(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: y\r\n" * 1000),
    "nested": says(whole(200, b"[" * 900_000)),
    "wide": says(whole(200, b'{"keys": [' + b"{}," * 300_000 + b"{}]}")),
    "bomb": says(whole(200, gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip\r\n")),
    "redirects": says(lambda enemy, _: ("HTTP/1.1 302 Found\r\nLocation: %s/%d\r\nContent-Length: 0\r\n\r\n" % (enemy.url, enemy.asked)).encode()),
    "redirects elsewhere": says(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"),
    "comes again in a year": says(whole(503, {}, "Retry-After: 31536000\r\n")),
    "comes again at no time": says(whole(429, {}, "Retry-After: -99999999999999999999999\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n")),
    "no version": says(b"HTTP/9.9 200 OK\r\n\r\n{}"),
    "nothing of HTTP": says(b"{}"),
}


def many_keys(n, kid="k"):
    key = some_key("first").public()
    return {"keys": [{**key, "kid": "%s-%d" % (kid, i)} for i in range(n)]}


KEYS = {
    **FOREVER,
    "too many keys": says(whole(200, many_keys(2000))),
    "as many keys as may be, others each time": says(lambda _, n: whole(200, many_keys(250, "k%d" % n), "Cache-Control: max-age=0\r\n")),
    "for ever": says(whole(200, many_keys(1), "Cache-Control: max-age=99999999999999999999999\r\n")),
    "the same twice": says(whole(200, {"keys": many_keys(1)["keys"] * 200})),
    "never": says(whole(200, many_keys(1), "Cache-Control: no-store, max-age=-5\r\n")),
}


def lent(**more):
    body = {"token_type": "Bearer", "expires_in": 3599, "access_token": secrets.upstream("enemy-" + os.urandom(9).hex()), **more}
    return says(whole(200, {k: v for k, v in body.items() if v is not None}))


TOKENS = {
    **FOREVER,
    **{"expires in %s" % json.dumps(v)[:30]: lent(expires_in=v) for v in
       (-1, 0, 0.4, 1e300, -1e300, 2 ** 63 - 1, 10 ** 30, "9" * 40, "-3", True, None, [], "1e9")},
    **{"refreshed in %s" % json.dumps(v)[:30]: lent(refresh_in=v) for v in (-1, 0, 1e300, 2 ** 63 - 1, "9" * 40, None, {})},
    "a number that is none": says(whole(200, b'{"token_type": "Bearer", "access_token": "x", "expires_in": NaN}')),
    "a token of lines": lent(access_token="a\r\nX-Admin: 1"),
    "a token of 1 MiB": lent(access_token="a" * (1 << 20)),
    "a token with a NUL": lent(access_token="a\0b"),
    "other tokens at once": says(lambda _, n: whole(200, {"token_type": "Bearer", "expires_in": 1, "refresh_in": 1, "access_token": "t%d" % n})),
}


def cpu(proxy):
    fields = open("/proc/%d/stat" % proxy.process.pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_enemies_keep_nobody_waiting(start_proxy, own_issuer, upstream, tmp_path):
    issuers, credentials = {n: Enemy(act) for n, act in KEYS.items()}, {n: Enemy(act) for n, act in TOKENS.items()}
    proof = tmp_path / "proof"
    proof.write_text(secrets.upstream("proof-" + os.urandom(9).hex()))
    honest = tmp_path / "honest"
    honest.write_text(secrets.upstream("honest-" + os.urandom(9).hex()))
    names = itertools.count()
    proxy = start_proxy.unstarted(
        [own_issuer.config({"discovery": True, "cooldown": "1s"})]
        + [{"name": "enemy-%d" % next(names), "issuer": e.url, "audiences": ["dagward"], "keys": {"url": e.url + "/jwks", "cooldown": "1s", "timeout": "4s"}}
           for e in issuers.values()],
        POLICY, upstream.url, log={"level": "info"})
    proxy.config["credentials"] += [
        {"name": "lent-%d" % i, "type": "federated", "tenant": "contoso.example", "client_id": "22222222-2222-2222-2222-222222222222",
         "authority": e.url, "assertion_file": str(proof)} for i, e in enumerate(credentials.values())]
    proxy.start(ready=False)
    until(lambda: proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200, "the honest are served", within=10)
    memory, began, used = proxy.resident_kib(), time.monotonic(), cpu(proxy)
    strangers = []

    def ask_for(enemy):
        """As one of theirs, with a key that nobody knows: they are asked again."""
        token = own_issuer.mint(iss=enemy.url, header={"kid": "unheard-of"})
        asked = time.monotonic()
        status = proxy.ask("GET", RUNS, token).status
        strangers.append((status, time.monotonic() - asked))

    threads = [threading.Thread(target=ask_for, args=(e,)) for e in issuers.values()]
    for thread in threads:
        thread.start()
    took, rotations = [], 0
    while time.monotonic() - began < 8:
        own_issuer.keys = [some_key("turn-%d" % (rotations % 3))]
        rotations += 1
        asked = time.monotonic()
        answer = proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"]))
        assert answer.status == 200, answer.text
        took.append(time.monotonic() - asked)
        assert proxy.admin_get("/metrics").status_code == 200
        time.sleep(1.1)  # the cooldown
    for thread in threads:
        thread.join(seconds(20))
        assert not thread.is_alive()
    spent = (cpu(proxy) - used) / (time.monotonic() - began)
    grown = proxy.resident_kib() - memory
    print("%d enemies; slowest of %d rotations %.2f s; %d KiB more; %.0f %% of a CPU; asked most: %s" % (
        len(issuers) + len(credentials), rotations, max(took), grown, spent * 100,
        sorted(((e.asked, n) for n, e in [*issuers.items(), *credentials.items()]), reverse=True)[:4]))
    print(sorted(strangers, key=lambda s: -s[1])[:5])
    assert max(took) < seconds(3)
    assert {s for s, _ in strangers} <= {401, 503} and len(strangers) == len(issuers)
    assert max(t for _, t in strangers) < seconds(12)
    assert sanitizer() != "none" or grown < 48 << 10
    assert max(e.asked for e in [*issuers.values(), *credentials.values()]) < 60
    for enemy in [*issuers.values(), *credentials.values()]:
        enemy.close()
