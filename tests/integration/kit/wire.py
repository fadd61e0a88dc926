"""HTTP/1.1 by hand, where a client library would hide or repair what matters."""
import hashlib
import socket
import time

from kit.waiting import seconds


class Answer:
    def __init__(self, status, reason, fields, body, informational):
        self.status, self.reason, self.fields, self.body = status, reason, fields, body
        self.informational = informational  # statuses of 1xx answers before it

    def __getitem__(self, name):
        found = self.all(name)
        return found[0] if found else None

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    @property
    def correlation(self):
        return self["X-Correlation-Id"]

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")


class CutOff(Exception):
    """The peer ended the connection inside, or instead of, an answer."""


class Reset(CutOff):
    """It did so with a reset: what came until then is not all there is."""


class Reader:
    """Reads messages from a socket. Bodies are counted and hashed, and kept up to `keep` bytes."""

    def __init__(self, sock, keep=8 << 20):
        self.sock, self.buffer, self.keep = sock, b"", keep

    def more(self):
        try:
            data = self.sock.recv(1 << 20)
        except (ConnectionResetError, BrokenPipeError) as e:
            raise Reset(str(e))
        if not data:
            raise CutOff("closed with %r unread" % self.buffer[:80])
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def head(self):
        first = self.line().decode("latin-1")
        fields = []
        while line := self.line().decode("latin-1"):
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        return first, fields

    def exactly(self, n, sink):
        while n:
            if not self.buffer:
                self.more()
            part, self.buffer = self.buffer[:n], self.buffer[n:]
            sink(part)
            n -= len(part)

    def body(self, fields, sink, until_close=False):
        get = {n.lower(): v for n, v in fields}
        if get.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.line().split(b";")[0], 16):
                self.exactly(size, sink)
                assert self.line() == b""
            while self.line():
                pass
        elif "content-length" in get:
            self.exactly(int(get["content-length"]), sink)
        elif until_close:
            try:
                while True:
                    if self.buffer:
                        sink(self.buffer)
                        self.buffer = b""
                    self.more()
            except Reset:
                raise
            except CutOff:
                pass


class Body:
    """Takes a body in parts; keeps its size and digest, and its beginning."""

    def __init__(self, keep=8 << 20):
        self.size, self.sha, self.kept, self.keep = 0, hashlib.sha1(), b"", keep

    def __call__(self, part):
        self.size += len(part)
        self.sha.update(part)
        if len(self.kept) < self.keep:
            self.kept += part[: self.keep - len(self.kept)]


class Client:
    """One connection, kept open."""

    def __init__(self, port, host="127.0.0.1", tls=None, server_name=None, timeout=15, source=None, session=None):
        self.sock = socket.create_connection((host, port), timeout=seconds(timeout), source_address=source and (source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server_name or "localhost", session=session)
        self.reader = Reader(self.sock)

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def request(self, method, target, fields=(), body=b"", host="dagward.test"):
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: " + host]
        lines += ["%s: %s" % f for f in fields]
        names = {n.lower() for n, _ in fields}
        if (body or method in ("POST", "PUT", "PATCH")) and not names & {"content-length", "transfer-encoding"}:
            lines.append("Content-Length: %d" % len(body))
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def answer(self, head_only=False):
        informational = []
        while True:
            first, fields = self.reader.head()
            _, status, reason = (first + " ").split(" ", 2)
            if not status.startswith("1"):
                break
            informational.append(int(status))
        body = Body()
        if not head_only and int(status) not in (204, 304):
            self.reader.body(fields, body, until_close=True)
        answer = Answer(int(status), reason.strip(), fields, body.kept, informational)
        answer.body_size, answer.sha1 = body.size, body.sha.hexdigest()
        return answer

    def ask(self, method, target, fields=(), body=b"", **more):
        self.request(method, target, fields, body, **more)
        return self.answer(head_only=method == "HEAD")

    def is_closed(self, within=5):
        """Whether the peer closes, with nothing more to say."""
        self.sock.settimeout(seconds(within))
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True
        except (TimeoutError, socket.timeout):
            return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ask(port, method, target, fields=(), body=b"", **more):
    """One request on a connection of its own."""
    with Client(port) as client:
        return client.ask(method, target, fields, body, **more)


def pause(s):
    """For a peer that is slow on purpose; never to wait for something."""
    time.sleep(s)
