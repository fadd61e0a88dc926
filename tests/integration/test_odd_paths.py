"""Ways through the proxy that only a caller who wants to hurt takes: what is handled well alone, two at a time."""
import socket
import threading
import time

from kit import upstreams
from kit.policies import POLICY
from kit.upstreams import Hole, message
from kit.waiting import free_port, seconds, until

MEMORY = 8 << 20  # the least that may be set
BLOCK = 80 << 10
RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
RELEASES = "/~vsrm/contoso/analytics/_apis/release/releases"
WITH_RELEASES = {**POLICY, "roles": {**POLICY["roles"], "releaser": {"allow": [{"access": ["read"], "areas": ["release"], "projects": ["analytics"]}]}},
                 "bindings": POLICY["bindings"] + [{"name": "releases", "callers": {"issuer": "airflow", "claims": {"roles": "releaser"}},
                                                    "roles": ["releaser"], "credential": "etl"}]}


def head(method, target, token, fields=""):
    return "%s %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n%s\r\n" % (method, target, token, fields)


def test_who_makes_room_may_be_whoever_is_looked_at_next(start_proxy, issuer, upstream):
    """A deadline passes, the request that begins behind it is one too many for the memory, and who makes room for it
    is the client whose deadline would have been looked at next."""
    go = threading.Event()

    def answer(sock, request):
        go.wait(seconds(60))
        return message(200, b"x" * 8_000_000, type="application/octet-stream")

    upstream.always = answer
    port = free_port()
    hole = Hole(port=port)  # and nobody at ::1
    proxy = start_proxy([issuer.config()], WITH_RELEASES,
                        {"hosts": {"dev.azure.com": "http://localhost:%d" % port, "vsrm.dev.azure.com": upstream.url},
                         "timeouts": {"connect": "20s", "attempt": "8s"}, "ejection": {"failures": 100}},
                        workers=1, limits={"memory": "8MiB"}, timeouts={"headers": "30s", "body": "30s"})
    releaser, operator = issuer.mint(roles=["releaser"]), issuer.mint(roles=["operator"])
    downloads, heads = [proxy.connect() for _ in range(20)], [proxy.connect() for _ in range(200)]
    for client in downloads:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(head("GET", RELEASES, releaser))
    until(lambda: len(upstream.received) == len(downloads), "the downloads have begun")
    evicted, asker = proxy.connect(), proxy.connect()
    evicted.send("GET / HTTP/1.1\r\nHost")
    memory, exchanges = r"^dagward_memory_bytes\b", r"^dagward_exchanges\b"
    begun = len(downloads) + 1
    until(lambda: proxy.metric(exchanges) == begun, "its head has begun")

    def steady():  # counted four times a second
        before = proxy.metric(memory)
        time.sleep(0.6)
        return before > begun * BLOCK and proxy.metric(memory) == before and before

    held = until(steady, "each has its memory")
    for client in heads[: int((MEMORY - held) / (held / begun)) - 3]:  # one for the asker, two to spare
        client.send("GET / HTTP/1.1\r\nHost")
        begun += 1
    until(lambda: proxy.metric(exchanges) == begun,
          lambda: "all %d heads have begun: %d, %d bytes of them" % (begun, proxy.metric(exchanges), proxy.metric(memory)))
    asker.send(head("GET", RUNS, operator) + "GET / HTTP/1.1\r\nHost")
    until(lambda: proxy.metric(exchanges) == begun + 1, "the asker waits for a connection")
    go.set()  # more than there is memory for, all of it allowed before
    answer = asker.answer()
    assert answer.status in (502, 504), answer.text
    assert proxy.metric(r'^dagward_client_connections_evicted_total{which="stranger"}') >= 1
    assert evicted.is_closed()
    for client in heads:
        client.close()
    for client in downloads:
        client.close()
    assert proxy.ask("GET", "/", operator).status == 200
    hole.close()
