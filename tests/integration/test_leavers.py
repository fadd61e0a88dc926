"""A request waits for somebody else (keys, a credential, a name, the disk, the same trigger before it), and its caller does not:
it closes, resets, says that it will say no more, or says far too much. While nothing else happens, while files are loaded
again, and while the proxy goes down. Whoever stays is answered, whoever left is not served, and nothing of it is left."""
import http.server
import json
import mmap
import os
import threading
import uuid

import pytest

from kit import secrets
from kit.directory import ANALYTICS, Directory, is_lookup
from kit.gauges import wait_idle
from kit.issuers import some_key
from kit.policies import POLICY
from kit.upstreams import Upstream, reset
from kit.waiting import BINARY, sanitizer, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
STAY, LEAVE = ["quiet", "half", "junk", "flood", "more"], ["close", "reset", "flood and reset"]
SHIM = BINARY.parent / "libdagward_faults.so"


def hosts(upstream):
    return {"hosts": {"*": upstream.url}, "timeouts": {"keep_alive": "300ms"}}


class Wait:
    """What is waited for. `go` ends it; `method`, `path`, `body`, `fields` are what is asked for; `nothing_before`: none of it can have
    reached upstream before that."""

    method, path, body, fields, nothing_before, settings = "GET", RUNS, b"", [], True, {}

    def __init__(self, issuer, upstream, tmp_path, monkeypatch):
        self.issuer, self.upstream, self.gate = issuer, upstream, threading.Event()
        upstream.always = self.standard
        self.key = None
        self.prepare(tmp_path, monkeypatch)

    def prepare(self, tmp_path, monkeypatch):
        pass

    def standard(self, sock, request):
        return Upstream.standard(sock, request)

    def start(self, start_proxy):
        return start_proxy([self.issuer.config({"discovery": True, "cooldown": "1h"})], POLICY, hosts(self.upstream), workers=1,
                           correlation={"tags": []}, **self.settings)

    def begin(self, proxy):
        pass

    def token(self):
        return self.issuer.mint(roles=["operator"])

    def go(self):
        self.gate.set()

    def end(self):
        self.gate.set()


class Keys(Wait):
    def begin(self, proxy):
        self.issuer.hold, self.issuer.keys = self.gate, [some_key("second")]


class Credential(Wait):
    def prepare(self, tmp_path, _):
        gate, token = self.gate, secrets.upstream("lent-" + os.urandom(9).hex())

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                gate.wait(seconds(60))
                raw = json.dumps({"token_type": "Bearer", "expires_in": 3599, "access_token": token}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    pass  # a reload asks anew

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        proof = tmp_path / "proof"
        proof.write_text(secrets.upstream("proof-" + os.urandom(9).hex()))
        self.settings = {"credentials": [{"name": "etl", "type": "federated", "tenant": "contoso.example", "client_id": ANALYTICS,
                                          "authority": "http://127.0.0.1:%d" % self.server.server_address[1], "assertion_file": str(proof)}]}

    def start(self, start_proxy):
        proxy = start_proxy([self.issuer.config()], POLICY, hosts(self.upstream), workers=1, ready=False, **self.settings)
        until(lambda: proxy.metric(r"^dagward_issuer_keys\b|^dagward_keys\b") or "keys=1" in proxy.log(), "keys are there")
        return proxy

    def end(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


class Name(Wait):
    path = "/contoso/%s/_apis/pipelines" % ANALYTICS

    def prepare(self, *_):
        self.directory = Directory()

    def standard(self, sock, request):
        if is_lookup(request):
            self.gate.wait(seconds(60))
        return self.directory(sock, request)


class Trigger(Wait):
    method, body, nothing_before = "POST", b"{}", False
    fields = [("Idempotency-Key", "one")]

    def standard(self, sock, request):
        self.gate.wait(seconds(60))
        return Upstream.standard(sock, request)

    def begin(self, proxy):
        """The first one is on its way, and its caller is gone."""
        with proxy.connect() as client:
            client.request("POST", self.path, [("Authorization", "Bearer " + self.token()), *self.fields], self.body)
            until(lambda: self.upstream.received, "the first trigger is under way")


class Record(Wait):
    method, body = "POST", b"{}"

    def prepare(self, tmp_path, monkeypatch):
        if sanitizer() != "none" or not SHIM.exists():
            pytest.skip("no faults can be preloaded")
        self.control = tmp_path / "fault"
        self.control.write_bytes(b"0")
        monkeypatch.setenv("DAGWARD_FAULTS_CONTROL", str(self.control))
        monkeypatch.setenv("DAGWARD_FAULTS_FILE", str(tmp_path / "proxy0" / "audit.jsonl"))
        monkeypatch.setenv("LD_PRELOAD", str(SHIM))

    def set(self, letter):
        with open(self.control, "r+b") as f, mmap.mmap(f.fileno(), 1) as page:
            page[0:1] = letter

    def begin(self, proxy):
        self.set(b"h")

    def go(self):
        self.set(b"0")

    end = go


def ask(wait, proxy):
    """A caller and its mark."""
    mark, client = str(uuid.uuid4()), proxy.connect()
    fields = [("Authorization", "Bearer " + wait.token()), ("X-Correlation-Id", mark), *wait.fields]
    client.request(wait.method, wait.path, fields, wait.body)
    return client, mark


def misbehave(client, how, token):
    flood = ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % token) * 4000
    if how.startswith("flood"):
        client.sock.setblocking(False)
        try:
            client.sock.send(flood.encode())
            client.sock.send(flood.encode())
        except BlockingIOError:
            pass
        client.sock.settimeout(seconds(20))
    if how == "half":
        client.sock.shutdown(1)
    if how == "junk":
        client.send(b"\x00\r\n\r\n junk")
    if how == "more":
        client.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % token)
    if how.endswith("reset"):
        reset(client.sock)
    if how == "close":
        client.close()


@pytest.mark.parametrize("meanwhile", ["nothing", "reload", "drain"])
@pytest.mark.parametrize("kind", [Keys, Credential, Name, Trigger, Record], ids=lambda k: k.__name__.lower())
def test_whoever_stays_is_served_and_whoever_leaves_leaves_nothing(start_proxy, own_issuer, upstream, tmp_path, monkeypatch, kind, meanwhile):
    wait = kind(own_issuer, upstream, tmp_path, monkeypatch)
    try:
        proxy = wait.start(start_proxy)
        wait.begin(proxy)
        callers = [(how, *ask(wait, proxy)) for how in STAY + LEAVE]
        begun = len(callers) + (kind is Trigger)
        until(lambda: proxy.metric(r"^dagward_exchanges\b") == begun, "all of them wait")
        for how, client, _ in callers:
            misbehave(client, how, wait.token())
        if meanwhile == "reload" and kind is not Record:  # whose event would have to be written first
            proxy.reload()
        if meanwhile == "drain":
            proxy.process.terminate()
            until(lambda: "draining" in proxy.log(), "it goes down")
        if wait.nothing_before:
            assert not [r for r in upstream.received if not is_lookup(r)]
        wait.go()
        answers = {}
        for how, client, mark in callers:
            if how in STAY:
                answers[how] = client.answer(), mark
        for how, (answer, mark) in answers.items():
            assert answer.status == 200 and answer.correlation == mark, (how, answer.status, answer.text)
        if meanwhile != "drain":
            for how, client, _ in callers:
                if how in ("more", "flood"):
                    answer = client.answer()
                    assert answer.status == 200 and b'"product"' in answer.body, (how, answer.status)
                if how == "junk":
                    assert client.answer().status == 400
        for how, client, _ in callers:
            client.close()
        if meanwhile != "drain":
            wait_idle(proxy)
        else:
            until(lambda: proxy.process.poll() is not None, "it has gone down", within=25)
        marks = {mark: how for how, _, mark in callers}
        told = lambda: [r["correlation_id"] for r in proxy.records("outcome")]
        until(lambda: set(marks) <= set(told()), "each has an outcome")
        outcomes = told()
        for mark, how in marks.items():
            assert outcomes.count(mark) == 1, (how, outcomes.count(mark))
        reached = [r["X-VSS-E2EID"] for r in upstream.received if not is_lookup(r) and r.target.startswith("/contoso")]
        assert len(reached) == len(set(reached))
        if kind is Trigger:
            assert len(reached) == 1, "one is sent, the others are told what came of it"
        else:
            assert {m for how, (_, m) in answers.items()} <= set(reached)
            assert not [marks[m] for m in reached if m in marks and marks[m] == "reset"], "who is gone is not served"
    finally:
        wait.end()
