"""Receivers of copies of the audit log: a real syslog server, one that misbehaves, and the Logs Ingestion API."""
import gzip
import json
import re
import socket
import struct
import subprocess
import threading
import time

import pytest

from kit.azure import MONITOR, Refused, Server
from kit.policies import POLICY
from kit.waiting import free_port, until

RULE, STREAM = "dcr-0123456789abcdef0123456789abcdef", "Custom-Dagward_CL"
RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
MESSAGE = re.compile(r"<(\d+)>1 (\S+) (\S+) (\S+) (\S+) (\S+) \[(.*?[^\\])\] (\ufeff?)(\{.*\})$", re.S)


class Rsyslog:
    """rsyslogd with a TCP and a TLS listener; its file holds messages as it stored them."""

    def __init__(self, folder, identity=None, ca=None):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.tls_port, self.file = free_port(), free_port(), folder / "messages"
        lines = ['global(workDirectory="%s" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")' % folder]
        if identity:
            lines[0] = lines[0][:-1] + (' defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="%s" defaultNetstreamDriverCertFile="%s"'
                                        ' defaultNetstreamDriverKeyFile="%s")' % (ca, *identity))
        lines += ['template(name="plain" type="string" string="<%pri%>1 %timereported:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\\n")',
                  'ruleset(name="all") { action(type="omfile" file="%s" template="plain") }' % self.file,
                  'module(load="imptcp")', 'input(type="imptcp" address="127.0.0.1" port="%d" ruleset="all")' % self.port]
        if identity:
            lines += ['module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")',
                      'input(type="imtcp" address="127.0.0.1" port="%d" ruleset="all")' % self.tls_port]
        self.config = folder / "rsyslog.conf"
        self.config.write_text("\n".join(lines) + "\n")
        self.process, self.needed = None, [self.port] + ([self.tls_port] if identity else [])

    def start(self):
        self.process = subprocess.Popen(["rsyslogd", "-n", "-f", self.config, "-i", self.folder / "pid"],
                                        stdout=subprocess.DEVNULL, stderr=open(self.folder / "stderr", "ab"))
        until(lambda: all(listens(port) for port in self.needed), lambda: "no rsyslogd: " + (self.folder / "stderr").read_text()[-2000:])
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
        self.process = None

    def lines(self):
        raw = self.file.read_bytes() if self.file.exists() else b""
        return raw[: raw.rfind(b"\n") + 1].decode().splitlines()

    def records(self):
        return [parse(line) for line in self.lines()]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def parse(text):
    """A message's parts; `line` is the record as it was sent."""
    found = MESSAGE.match(text)
    assert found, "not a message of RFC 5424: " + text[:300]
    pri, when, host, app, pid, msgid, data, bom, line = found.groups()
    return {"facility": int(pri) // 8, "severity": int(pri) % 8, "time": when, "host": host, "app": app, "pid": pid, "msgid": msgid,
            "data": dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', data)), "id": data.split(" ")[0], "bom": bool(bom), "line": line,
            "seq": json.loads(line)["seq"]}


class Receiver:
    """A syslog server (octet counting) that can stop reading and break connections. `got` has the messages in their order."""

    def __init__(self, tls=None):
        self.tls, self.got, self.raw_bytes = tls, [], 0
        self.reading, self.reset_after, self.connections = True, None, 0
        self.talks, self.said = False, 0  # as fast as it can, to who does not want to hear it
        self.listener, self.live, self.lock = None, [], threading.Lock()
        self.port = free_port()

    def start(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()
        return self

    def accept(self, listener):
        while True:
            try:
                peer, _ = listener.accept()
                if self.tls:
                    peer = self.tls.wrap_socket(peer, server_side=True)
            except OSError:
                if listener.fileno() < 0:
                    return
                continue
            self.connections += 1
            self.live.append(peer)
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()
            if self.talks:
                threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer):
        try:
            while True:
                self.said += peer.send(b"\0" * (1 << 20))
        except OSError:
            pass

    def serve(self, peer):
        data = b""
        try:
            while True:
                while not self.reading:
                    time.sleep(0.02)
                piece = peer.recv(65536)
                if not piece:
                    break
                data += piece
                while b" " in data[:10]:
                    length, rest = data.split(b" ", 1)
                    if len(rest) < int(length):
                        break
                    message, data = rest[: int(length)], rest[int(length):]
                    with self.lock:
                        self.got.append(parse(message.decode()))
                    if self.reset_after is not None:
                        self.reset_after -= 1
                        if self.reset_after <= 0:
                            self.reset_after = None
                            return self.break_off(peer)
        except OSError:
            pass
        peer.close()

    @staticmethod
    def break_off(peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    def stop(self):
        """Like a machine that is gone: whatever was received and not read is lost."""
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who accepts
            self.listener.close()
        self.listener = None
        for peer in self.live:
            try:
                self.break_off(peer)
            except OSError:
                pass
        self.live = []

    def seqs(self):
        with self.lock:
            return [m["seq"] for m in self.got]


class Ingestion(Server):
    """POST /dataCollectionRules/{rule}/streams/{stream}; `taken` holds what was accepted. `refuses` tells a record it does not take."""

    LIMIT = 1000 * 1000

    def __init__(self, tenant):
        super().__init__(tenant)
        self.taken, self.calls, self.limit, self.refuses = [], [], self.LIMIT, None

    def answer(self, request):
        if request.command != "POST" or request.route != "/dataCollectionRules/%s/streams/%s" % (RULE, STREAM):
            raise Refused(404, {"error": {"code": "NotFound", "message": "Data collection rule with immutable Id was not found."}})
        if request.query != {"api-version": "2023-01-01"}:
            raise Refused(400, {"error": {"code": "InvalidApiVersion", "message": "The api-version is not known."}})
        token = self.tenant.known((request.headers.get("Authorization") or "").removeprefix("Bearer "))
        if not token or token["resource"] != MONITOR or token["until"] < time.monotonic():
            raise Refused(401, {"error": {"code": "InvalidToken", "message": "The token is not valid."}})
        if request.headers.get("Content-Type") != "application/json" or request.headers.get("Content-Encoding") != "gzip":
            raise Refused(415, {"error": {"code": "UnsupportedMediaType", "message": "JSON in gzip is wanted."}})
        body = gzip.decompress(request.body)
        if len(body) > self.limit:
            raise Refused(413, {"error": {"code": "ContentLengthLimitExceeded", "message": "Maximum allowed content length was exceeded."}})
        rows = json.loads(body)
        assert isinstance(rows, list) and rows
        if self.refuses and any(self.refuses(row) for row in rows):
            raise Refused(400, {"error": {"code": "InvalidRecord", "message": "A record is not valid."}})
        with self.lock:
            self.taken += rows
            self.calls.append((len(rows), len(body), len(request.body)))
        return b""

    def seqs(self):
        with self.lock:
            return [row["Seq"] for row in self.taken]


# --- looking at a proxy with sinks ---


def sink(proxy, what, name="siem"):
    return proxy.metric(r'^dagward_audit_sink_%s\{sink="%s"' % (what, name))


def ask(proxy, operator, n, method="GET"):
    """Requests, and their records are in the file when it returns."""
    before = proxy.metric("^dagward_audit_seq ")
    for _ in range(n):
        assert proxy.ask(method, RUNS, operator, body=b"{}" if method == "POST" else b"").status in (200, 404, 502)
    until(lambda: proxy.metric("^dagward_audit_seq ") >= before + n, "the records")


def lines_of(proxy):
    return proxy.audit_file.read_text().splitlines()


def caught_up(proxy, name="siem"):
    until(lambda: sink(proxy, "ok", name) == 1 and sink(proxy, "pending_records", name) == 0,
          lambda: "the sink is behind: " + "\n".join(l for l in proxy.admin_get("/metrics").text.splitlines() if "audit_sink" in l), within=30)


def at_least_once(seqs, upto, first=1):
    """Nothing is missing; what comes again comes in one piece, as from a position that is a little old."""
    assert sorted(set(seqs)) == list(range(first, upto + 1)), "missing: %s" % sorted(set(range(first, upto + 1)) - set(seqs))[:20]
    for before, after in zip(seqs, seqs[1:]):
        assert after <= before + 1, "seq %d follows %d" % (after, before)


# fixtures of the files that import them


@pytest.fixture
def serve(start_proxy, issuer, upstream):
    def start(*sinks, stdout=None, rotate=None, ready=True, **audit):
        if rotate:
            audit["rotate"] = rotate
        proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, audit={"sinks": list(sinks), **audit})
        if stdout is not None:
            proxy.stdout = stdout
        return proxy.start(ready=ready)

    return start


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()
