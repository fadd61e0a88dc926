"""Bodies: large, slow, early, late; and connections that carry several requests."""
import hashlib
import socket
import struct
import threading
import time

import pytest

from kit import upstreams
from kit.policies import POLICY
from kit.upstreams import before_body, message
from kit.waiting import sanitizer, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items?path=/big"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
LARGE = (256 if sanitizer() == "none" else 48) << 20
BLOCK = hashlib.sha512(b"dagward").digest() * 16384  # 1 MiB that is not all the same


def digest_of(size):
    sha = hashlib.sha1()
    for _ in range(size // len(BLOCK)):
        sha.update(BLOCK)
    return sha.hexdigest()


class Watch:
    """The most memory a proxy had while something went on, above what it had before."""

    def __init__(self, proxy):
        self.proxy, self.stopped = proxy, threading.Event()

    def __enter__(self):
        self.before = self.most = self.proxy.resident_kib()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.stopped.wait(0.02):
            self.most = max(self.most, self.proxy.resident_kib())

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    @property
    def growth_mib(self):
        return (self.most - self.before) / 1024


def send_large(client, chunked):
    for _ in range(LARGE // len(BLOCK)):
        client.send(b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK) if chunked else BLOCK)
    if chunked:
        client.send(b"0\r\n\r\n")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_large_body_goes_up_through_little_memory(proxy, upstream, publisher, chunked):
    upstream.keep = 0
    assert proxy.ask("GET", ITEM, publisher).status == 200
    with Watch(proxy) as watch, proxy.connect(timeout=40) as client:
        framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(LARGE))
        client.request("POST", PUSH, [("Authorization", "Bearer " + publisher), framing])
        send_large(client, chunked)
        answer = client.answer()
    assert answer.status == 200 and upstream.received[-1].body.size == LARGE
    assert upstream.received[-1].body.sha.hexdigest() == digest_of(LARGE)
    assert proxy.outcome(answer)["request"]["bytes"] == LARGE
    if sanitizer() == "none":
        assert watch.growth_mib < 32, "%.1f MiB for one request" % watch.growth_mib


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_large_body_comes_down_through_little_memory(proxy, upstream, publisher, framing):
    def send(sock, _):
        head = {"length": b"Content-Length: %d" % LARGE, "chunked": b"Transfer-Encoding: chunked", "close": b"Connection: close"}[framing]
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n" + head + b"\r\n\r\n")
        for _ in range(LARGE // len(BLOCK)):
            sock.sendall(b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK) if framing == "chunked" else BLOCK)
        return b"0\r\n\r\n" if framing == "chunked" else None

    assert proxy.ask("GET", ITEM, publisher).status == 200
    upstream.tell(send)
    with Watch(proxy) as watch, proxy.connect(timeout=40) as client:
        client.reader.keep = 0
        answer = client.ask("GET", ITEM, [("Authorization", "Bearer " + publisher)])
        assert answer.status == 200 and answer.body_size == LARGE and answer.sha1 == digest_of(LARGE)
    assert proxy.outcome(answer)["response"]["bytes"] == LARGE
    if sanitizer() == "none":
        assert watch.growth_mib < 32, "%.1f MiB for one request" % watch.growth_mib


def test_many_slow_readers_cost_little_memory(proxy, upstream, publisher):
    """Upstream is fast and offers 32 MiB to each of 20 clients that do not read: it is made to wait."""
    size = 32 << 20
    sent = []

    def send(sock, _):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        mine = len(sent)
        sent.append(0)
        for _ in range(size // len(BLOCK)):
            sock.sendall(BLOCK)
            sent[mine] += len(BLOCK)

    upstream.always = send
    clients = []
    with Watch(proxy) as watch:
        for _ in range(20):
            client = proxy.connect(timeout=60)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            client.request("GET", ITEM, [("Authorization", "Bearer " + publisher)])
            clients.append(client)
        until(lambda: len(sent) == 20, "all requests reach upstream")
        last = None
        while last != sum(sent):  # until nothing moves any more
            last = sum(sent)
            time.sleep(0.3)
        assert sum(sent) < 20 * size * 0.7, "nobody held upstream back"
        if sanitizer() == "none":
            assert watch.growth_mib < 32, "%.1f MiB for 20 stopped clients" % watch.growth_mib
        answer = clients[0].answer()  # one goes on reading, and gets all of it
        assert answer.body_size == size and answer.sha1 == digest_of(size)
    for client in clients:
        client.close()
    proxy.outcomes(20, response_status=200)


def test_a_slow_upstream_holds_a_fast_client_back(proxy, upstream, publisher):
    go_on = threading.Event()

    @before_body
    def slow(sock, request, reader):
        go_on.wait(seconds(60))
        reader.body(request.fields, request.body)
        sock.sendall(message(200, "{}", [("Connection", "close")]))

    upstream.keep = 0
    upstream.tell(slow)
    size = 64 << 20
    with proxy.connect(timeout=60) as client:
        client.request("POST", PUSH, [("Authorization", "Bearer " + publisher), ("Content-Length", str(size))])
        done, sender = [], threading.Thread(target=lambda: done.append([client.send(BLOCK) for _ in range(size // len(BLOCK))]))
        sender.start()
        until(lambda: upstream.received, "the head reaches upstream before the body is whole")
        time.sleep(0.5)
        assert not done, "64 MiB went somewhere though upstream reads nothing"
        go_on.set()
        sender.join()
        assert client.answer().status == 200
    assert upstream.received[0].body.size == size


def test_expect_100_continue_is_answered_after_the_decision(proxy, upstream, publisher, operator):
    body = b"x" * 100_000
    expects = [("Expect", "100-continue"), ("Content-Length", str(len(body)))]
    with proxy.connect() as client:
        client.request("POST", PUSH, [("Authorization", "Bearer " + publisher), *expects])
        assert client.reader.line() == b"HTTP/1.1 100 Continue" and client.reader.line() == b""
        client.send(body)
        assert client.answer().status == 200
    assert upstream.received[0].body.size == len(body) and upstream.received[0]["Expect"] is None
    with proxy.connect() as client:  # refused before a byte of the body is asked for
        client.request("POST", PUSH, [("Authorization", "Bearer " + operator), *expects])
        answer = client.answer()
        assert answer.status == 403 and answer.informational == []
        assert client.is_closed(), "the body may or may not come: the connection cannot go on"
    assert len(upstream.received) == 1


def test_a_refused_body_is_not_sent_on_and_the_connection_goes_on(proxy, upstream, operator):
    with proxy.connect() as client:
        token = [("Authorization", "Bearer " + operator)]
        assert client.ask("POST", PUSH, token, b"x" * 50_000).status == 403
        assert client.ask("GET", RUNS, token).status == 200
    assert [r.method for r in upstream.received] == ["GET"]


def test_pipelined_requests_are_answered_in_order(proxy, upstream, operator):
    upstream.tell(upstreams.late(0.3, message(200, "first")), message(200, "second"), message(200, "third"))
    with proxy.connect() as client:
        one = "GET %s?n=%%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (RUNS, operator)
        post = "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\n\r\n{}" % (RUNS, operator)
        client.send(one % 1 + post + one % 3 + "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [client.answer().body for _ in range(3)] == [b"first", b"second", b"third"]
        assert client.answer().status == 401
    assert [r.method for r in upstream.received] == ["GET", "POST", "GET"]
    proxy.outcomes(4)


def test_each_request_of_a_connection_is_judged_by_itself(proxy, upstream, operator, publisher, issuer):
    with proxy.connect() as client:
        statuses = []
        for token in (operator, issuer.mint(roles=["reader"]), None, operator, issuer.mint(roles=["operator"], exp=1, iat=0), operator):
            statuses.append(client.ask("GET", RUNS, [("Authorization", "Bearer " + token)] if token else []).status)
    assert statuses == [200, 403, 401, 200, 401, 200]
    assert len(upstream.received) == 3


def test_an_early_answer_ends_a_large_upload_well(proxy, upstream, publisher):
    @before_body
    def impatient(sock, request, reader):
        sock.sendall(message(413, "too much", [("Connection", "close")]))
        time.sleep(0.2)

    upstream.tell(impatient)
    with proxy.connect() as client:
        client.request("POST", PUSH, [("Authorization", "Bearer " + publisher), ("Content-Length", str(64 << 20))])
        try:
            for _ in range(64):
                client.send(BLOCK)
        except OSError:
            pass
        answer = client.answer()
    assert answer.status == 413 and answer.body == b"too much"
    assert proxy.outcome(answer)["upstream"]["status"] == 413


def test_a_client_that_leaves_in_the_middle_is_recorded_once(proxy, upstream, publisher):
    with proxy.connect() as client:
        client.request("POST", PUSH, [("Authorization", "Bearer " + publisher), ("Content-Length", "1000000")])
        client.send(b"x" * 1000)
        until(lambda: upstream.connections, "it is being sent on")
    proxy.outcomes(1, request_method="POST")
    upstream.tell(upstreams.silent)
    client = proxy.connect()
    client.request("GET", ITEM, [("Authorization", "Bearer " + publisher)])
    until(lambda: upstream.received, "the second request is with upstream")
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # with a reset: nobody can read an answer any more
    proxy.outcomes(1, request_method="GET")
    assert proxy.ask("GET", ITEM, publisher).status == 200


def test_a_client_that_never_finishes_its_head_is_shown_out(start_proxy, issuer, upstream):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, timeouts={"headers": "500ms", "body": "500ms"})
    with proxy.connect() as client:
        client.send("GET /contoso HTTP/1.1\r\nHost: x\r\n")
        assert client.answer().status == 408
    with proxy.connect() as client:
        client.request("POST", RUNS, [("Authorization", "Bearer " + issuer.mint(roles=["operator"])), ("Content-Length", "10")])
        answer = client.answer()
        assert answer.status == 408 and proxy.outcome(answer)["response"]["status"] == 408
    with proxy.connect() as client:
        assert client.is_closed(), "a connection that says nothing is closed"
    assert upstream.received == []


def test_answers_without_body(proxy, upstream, operator):
    upstream.tell(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n",
                  b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 77\r\n\r\n')
    with proxy.connect() as client:
        token = [("Authorization", "Bearer " + operator)]
        head = client.ask("HEAD", "/contoso/analytics/_apis/unheard/of", token)
        assert head.status == 200 and head["Content-Length"] == "12345"
        assert [client.ask("GET", RUNS, token).status for _ in range(3)] == [204, 304, 200]


def test_an_HTTP_1_0_client(proxy, upstream, operator):
    upstream.tell(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    with proxy.connect() as client:
        client.send("GET %s HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (RUNS, operator))
        answer = client.answer()
        assert answer.status == 200 and answer.body == b"hello" and answer["Transfer-Encoding"] is None
