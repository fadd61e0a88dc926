"""A request is somewhere when something happens to the process: in its handshake, its head or body, waiting for the disk,
for a credential, a tunnel, another trigger or Azure DevOps, or streaming. At each of these, SIGTERM ends the process in
time with whole evidence, and a reload lets it go on."""
import os
import signal
import ssl
import threading
import time

import pytest

from kit.issuers import Issuer
from kit.outgoing import Outgoing
from kit.policies import POLICY
from kit.upstreams import SIGN_IN_CHALLENGE, Hole, Upstream, message
from kit.waiting import free_port, sanitizer, seconds, until
from test_audit_faults import SHIM
from test_credentials import TokenEndpoint
from test_storage import redirect
from test_upstream_names import RESOLVER

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
DRAIN = 0.5


class Place:
    """A proxy, and clients that come as far as a stage. Each stage returns how many outcomes there will be."""

    def __init__(self, start_proxy, issuer, upstream, authority, tmp_path):
        self.start_proxy, self.issuer, self.upstream, self.authority, self.folder = start_proxy, issuer, upstream, authority, tmp_path
        self.token = issuer.mint("both-1", roles=["operator", "publisher"])
        self.clients, self.closing, self.go = [], [], threading.Event()
        self.environment = None

    def start(self, to=None, ready=True, **settings):
        proxy = self.start_proxy.unstarted([self.issuer.config()], POLICY, to or self.upstream.url,
                                           timeouts={"drain": "%dms" % (DRAIN * 1000)}, log={"level": "info"}, **settings)
        self.proxy = proxy.start(ready=ready, environment=self.environment)
        return proxy

    def send(self, *parts):
        client = self.proxy.connect(timeout=60)
        self.clients.append(client)
        for part in parts:
            client.send(part)
        self.proxy.admin_get("/metrics")  # the workers have read it
        return client

    def head(self, method, target, fields=""):
        return "%s %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n%s\r\n" % (method, target, self.token, fields)

    def post(self, key=None):
        return self.send(self.head("POST", RUNS, "Content-Length: 2\r\n" + ("Idempotency-Key: %s\r\n" % key if key else "")), "{}")

    def serving(self, n=1):
        until(lambda: self.proxy.metric(r"^dagward_exchanges\b") == n, "%d are being served" % n)
        return n

    # --- stages ---

    def handshake(self):
        certificate, key = self.authority.issue("localhost")
        self.start(listen=[{"address": "127.0.0.1:%d" % free_port(), "tls": {"certificate": certificate, "key": key}}])
        self.proxy.port = int(self.proxy.config["listen"][0]["address"].rpartition(":")[2])
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            self.authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
        hello = outgoing.read()
        self.send(hello[: len(hello) // 2])
        self.send(hello)
        until(lambda: self.proxy.metric(r"^dagward_client_connections\b") == 2, "they are there")
        return 0

    def part_of_a_head(self):
        self.start()
        self.send(self.head("GET", ITEM)[:-10])
        return 1

    def part_of_a_held_body(self):
        self.start()
        self.send(self.head("POST", RUNS, "Content-Length: 20\r\n"), "{")
        return self.serving()

    def part_of_a_stream(self):
        self.start()
        self.send(self.head("POST", PUSH, "Transfer-Encoding: chunked\r\n"), "10000\r\n" + "x" * 5000)
        return self.serving()

    def durable_intent(self):
        if sanitizer() != "none" or not SHIM.exists():
            pytest.skip("no faults can be preloaded")
        control = self.folder / "fault"
        control.write_bytes(b"0")
        audit = self.folder / "slow.jsonl"
        self.environment = {"LD_PRELOAD": str(SHIM), "DAGWARD_FAULTS_CONTROL": str(control), "DAGWARD_FAULTS_FILE": os.path.realpath(audit)}
        proxy = self.start(audit={"file": str(audit)})
        proxy.audit_file = audit

        def fault(letter):
            with open(control, "r+b") as file:
                file.write(letter)

        fault(b"h")
        self.post()
        n = self.serving()
        self.closing.append(threading.Timer(2 * DRAIN, fault, (b"0",)))
        self.closing[-1].start()
        return n

    def keys(self):
        self.issuer = issuer = Issuer()
        issuer.hold = self.go
        self.closing.append(issuer)
        self.token = issuer.mint("both-1", roles=["operator", "publisher"])
        self.start(ready=False)
        until(lambda: issuer.fetches, "the keys are asked for")
        self.post()
        return self.serving()

    def credential(self):
        endpoint = TokenEndpoint()
        endpoint.answer = lambda: self.go.wait(60) and (200, {"token_type": "Bearer", "expires_in": 3600, "access_token": "ey.late"})
        self.endpoint = endpoint
        secret = self.folder / "secret"
        secret.write_text("a client secret\n")
        self.start(ready=False, credentials=[{"name": "etl", "type": "client_secret", "tenant": "t", "client_id": "c", "authority": endpoint.url, "secret_file": str(secret)}])
        asked = []
        until(lambda: asked.append(1) or self.proxy.ask("GET", "/", self.token).status == 200, "the keys are there")
        until(lambda: endpoint.asked, "a token is asked for")
        self.post()
        self.closing.append(endpoint)
        return self.serving() + len(asked)

    def replacement(self):
        """Of a credential that upstream has turned away."""
        endpoint, secret, tokens = TokenEndpoint(), self.folder / "secret", iter(["ey.rejected"])
        answer = lambda token: (200, {"token_type": "Bearer", "expires_in": 3600, "access_token": token})
        endpoint.answer = lambda: answer(next(tokens, None) or self.go.wait(60) and "ey.late")
        self.endpoint = endpoint
        self.closing.append(endpoint)
        secret.write_text("a client secret\n")
        self.start(credentials=[{"name": "etl", "type": "client_secret", "tenant": "t", "client_id": "c", "authority": endpoint.url, "secret_file": str(secret)}])
        self.upstream.tell(SIGN_IN_CHALLENGE)
        self.post()
        until(lambda: len(endpoint.asked) == 2, "another one is asked for")
        return self.serving()

    def connection(self):
        hole = Hole()
        self.closing.append(hole)
        self.start({"hosts": {"*": "http://127.0.0.1:%d" % hole.port}, "timeouts": {"connect": "60s"}})
        self.post()
        return self.serving()

    def tunnel(self):
        azure = Upstream(tls=self.authority.server("dev.azure.com"))
        outgoing = Outgoing({"dev.azure.com:443": azure.port})
        serve = outgoing.serve
        outgoing.serve = lambda sock: self.go.wait(60) and serve(sock)
        self.closing += [azure, outgoing]
        self.start({"ca": str(self.authority.file), "timeouts": {"connect": "60s"}}, outgoing_proxy={"url": outgoing.url})
        self.post()
        return self.serving()

    def other_trigger(self):
        self.start(idempotency={"wait": "60s"})
        self.upstream.tell(lambda sock, request: self.go.wait(60) and message(200, '{"id": 7, "state": "completed"}'))
        self.post("k")
        until(lambda: self.upstream.received, "the first is under way")
        self.post("k")
        return self.serving(2)

    def first_byte(self):
        self.start()
        self.upstream.tell(lambda sock, request: self.go.wait(60) and message(200, "{}"))
        self.post()
        until(lambda: self.upstream.received, "it is under way")
        return 1

    def streaming(self):
        self.start()

        def half(sock, _):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50000)
            self.go.wait(60)
            sock.sendall(b"x" * 50000)
            return b""

        self.upstream.tell(half)
        client = self.send(self.head("GET", ITEM))
        client.reader.more()
        return 1

    def storage_name(self):
        """Of a host in storage that Azure DevOps has redirected to."""
        if sanitizer() != "none" or not RESOLVER.exists():
            pytest.skip("no resolver can be preloaded")
        storage, names = Upstream(), self.folder / "hosts"
        storage.tell(message(200, b"PK content"))
        names.write_text("storage.test later\n".ljust(200, "\n"))
        self.environment = {"LD_PRELOAD": str(RESOLVER), "DAGWARD_HOSTS_FILE": str(names)}

        def tell():
            self.go.wait(60)
            with open(names, "r+b") as file:
                file.write(b"storage.test 127.0.0.1\n".ljust(200, b"\n"))

        self.closing += [threading.Thread(target=tell), storage]
        self.closing[-2].start()
        self.start({"hosts": {"*": self.upstream.url, "*.blob.core.windows.net": "http://storage.test:%d" % storage.port}, "insecure": True})
        self.upstream.tell(redirect())
        self.send(self.head("GET", ITEM))
        until(lambda: self.upstream.received, "it is told where the content is")
        self.proxy.admin_get("/metrics")
        return self.serving()

    def end(self):
        self.go.set()
        for client in self.clients:
            client.close()
        for thing in self.closing:
            thing.join() if isinstance(thing, threading.Thread) else thing.down() if isinstance(thing, Issuer) else thing.close()


STAGES = ["handshake", "part_of_a_head", "part_of_a_held_body", "part_of_a_stream", "durable_intent", "keys", "credential", "replacement", "connection", "tunnel",
          "other_trigger", "first_byte", "streaming", "storage_name"]


@pytest.fixture
def place(start_proxy, issuer, upstream, authority, tmp_path):
    place = Place(start_proxy, issuer, upstream, authority, tmp_path)
    yield place
    place.end()


@pytest.mark.parametrize("stage", STAGES)
def test_SIGTERM_ends_in_time_whatever_a_request_waits_for(place, stage):
    """The drain ends although nothing goes on; each request that was one has an outcome, and the chain is whole."""
    n = getattr(place, stage)()
    began = time.monotonic()
    place.proxy.signal(signal.SIGTERM)
    assert place.proxy.process.wait(timeout=seconds(20)) == 0
    assert time.monotonic() - began < seconds(DRAIN + 3)
    outcomes = place.proxy.records("outcome")
    assert len(outcomes) == n, outcomes
    assert place.proxy.events("process.stopped")
    place.proxy.check_evidence()


@pytest.mark.parametrize("stage", ["keys", "credential", "replacement", "tunnel", "connection", "other_trigger", "first_byte", "streaming", "storage_name",
                                   "part_of_a_held_body"])
def test_a_reload_lets_a_request_go_on_whatever_it_waits_for(place, stage):
    """What it waits for comes, and it is answered: with the configuration that it was decided with, or, when its body or the
    answer of another trigger was not here yet, with the new one."""
    getattr(place, stage)()
    proxy = place.proxy
    policy = {**POLICY, "roles": {**POLICY["roles"], "new": {"allow": [{"operations": ["discovery"]}]}}}
    before = proxy.reload({**proxy.config, "limits": {"inspect": "512KiB"}}, policy)
    assert before["policy"] != before["policy_before"]
    proxy.reload()
    place.go.set()
    if stage == "part_of_a_held_body":
        place.clients[0].send("                   }"[:19].replace("}", " ")[:18] + "}")
    if stage == "connection":  # there is nobody: it is refused, by the settings it began with
        place.clients[0].close()
    else:
        for client in place.clients:
            answer = client.answer()
            assert answer.status == 200, answer.text
    if stage == "credential":
        assert place.upstream.received[0]["Authorization"] == "Bearer ey.late"
        assert len(place.endpoint.asked) <= 3, "one each"
    if stage == "replacement":
        assert [r["Authorization"] for r in place.upstream.received] == ["Bearer ey.rejected", "Bearer ey.late"]
    if stage == "tunnel":
        with proxy.connect() as client:
            assert client.ask("GET", ITEM, [("Authorization", "Bearer " + place.token)]).status == 200


def test_a_reload_while_addresses_are_ejected_keeps_them_so(start_proxy, issuer, operator, at):
    """What was learnt of addresses is not forgotten: no request meets the dead one again before its time."""
    good = at("::1")
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": "http://localhost:%d" % at.port}, "timeouts": {"connect": "3s"},
                                                    "ejection": {"failures": 1, "time": "5m", "most": "5m"}}, workers=1)
    assert proxy.ask("GET", ITEM, operator).status == 200
    assert proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') == 1
    for n in range(3):
        proxy.reload({**proxy.config, "limits": {"inspect": "%dKiB" % (512 + n)}})
        assert proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') == 1
        answer = proxy.ask("POST", RUNS, operator, body=b"{}")
        assert answer.status == 200 and proxy.outcome(answer)["upstream"]["attempts"] == 1
    assert len(good.received) == 4 and len(proxy.events("upstream.ejected")) == 1
    # And when ejection is switched off, it is.
    proxy.reload({**proxy.config, "upstream": {**proxy.config["upstream"], "ejection": {"failures": 0}}})
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
