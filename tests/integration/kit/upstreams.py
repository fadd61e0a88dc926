"""An upstream that does exactly what a test tells it, down to the byte. For an Azure DevOps that
behaves like one, there is the emulator."""
import json
import socket
import struct
import threading
import time

from kit import secrets, wire


class Received:
    def __init__(self, method, target, fields, body, connection):
        self.method, self.target, self.fields, self.body, self.connection = method, target, fields, body, connection

    def __getitem__(self, name):
        found = [v for n, v in self.fields if n.lower() == name.lower()]
        assert len(found) <= 1, "%s came %d times" % (name, len(found))
        return found[0] if found else None

    def names(self):
        return [n.lower() for n, _ in self.fields]


def message(status, body=b"", fields=(), reason="Told", type="application/json"):
    """An answer with Content-Length."""
    body = body.encode() if isinstance(body, str) else body
    head = ["HTTP/1.1 %d %s" % (status, reason), "Content-Length: %d" % len(body), "Content-Type: " + type]
    head += ["%s: %s" % f for f in fields]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


SIGN_IN_PAGE = message(203, "<html><title>Sign in</title></html>", type="text/html; charset=utf-8")
SIGN_IN_REDIRECT = message(302, "", [("Location", "https://login.microsoftonline.com/common/oauth2?x=1")])
SIGN_IN_CHALLENGE = message(401, "", [("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/t"),
                                      ("WWW-Authenticate", 'Basic realm="https://tfsprod.visualstudio.com/"'),
                                      ("X-VSS-ResourceTenant", "72f988bf-86f1-41af-91ab-2d7cd011db47")])


class Upstream:
    """Answers `{"n": bytes of body}` until told otherwise. What is told (`tell`) is used up by one
    request each: bytes are sent as they are; a function is called with (socket, request) and may
    return bytes; None closes the connection without a word. After bytes the connection is kept
    unless they say `Connection: close`."""

    def __init__(self, tls=None, keep=8 << 20, address="127.0.0.1", port=0):
        self.tls, self.keep = tls, keep
        self.received = []
        self.told = []
        self.always = None
        self.connections = 0
        self.open = set()
        self.lock = threading.Lock()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, port), family=family, backlog=256)
        self.port = self.listener.getsockname()[1]
        self.url = "%s://%s:%d" % ("https" if tls else "http", "localhost" if tls else "127.0.0.1", self.port)
        threading.Thread(target=self._accept, daemon=True).start()

    def tell(self, *what):
        self.told.extend(what)

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
                self.open.add(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock, number):
        try:
            if self.tls:
                plain, sock = sock, self.tls.wrap_socket(sock, server_side=True)
                self.open.discard(plain)
                self.open.add(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = wire.Reader(sock)
            while self._one(sock, reader, number):
                pass
        except (OSError, wire.CutOff, ValueError):
            pass
        finally:
            self.open.discard(sock)
            sock.close()

    def _one(self, sock, reader, number):
        first, fields = reader.head()
        method, target, _ = first.split(" ")
        body = wire.Body(self.keep)
        request = Received(method, target, fields, body, number)
        with self.lock:
            action = self.told.pop(0) if self.told else self.always if self.always is not None else self.standard
        if getattr(action, "before_body", False):
            with self.lock:
                self.received.append(request)
            action(sock, request, reader)
            return False
        reader.body(fields, body)
        with self.lock:
            self.received.append(request)
        if callable(action):
            action = action(sock, request)
        if action is None:
            return False
        sock.sendall(action)
        return b"connection: close" not in action[:4096].lower()

    @staticmethod
    def standard(_, request):
        return message(200, json.dumps({"n": request.body.size, "path": request.target}))

    def hang_up(self):
        """Closes all connections, as a server does that had them idle for too long."""
        with self.lock:
            for sock in list(self.open):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def stop_listening(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # close alone leaves it to the thread that accepts
        except OSError:
            pass
        self.listener.close()

    def close(self):
        self.stop_listening()
        self.hang_up()
        for request in self.received:
            for name, value in request.fields:
                secrets.assert_no_leak(value, "the upstream's " + name, secrets.CALLERS)
            secrets.assert_no_leak(request.target, "the upstream's target", secrets.CALLERS)


def before_body(function):
    """Marks an action (socket, request, reader) that runs before the request's body is read."""
    function.before_body = True
    return function


def cut_after(data):
    """Sends this much and closes."""

    def action(sock, _):
        sock.sendall(data)

    return action


def reset(sock):
    """Closes with a reset instead of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def reset_after(data):
    """Sends this much, and resets."""

    def action(sock, _):
        sock.sendall(data)
        reset(sock)

    return action


class Hole:
    """An address that takes no connection and refuses none: its queue is full."""

    def __init__(self, address="127.0.0.1", port=0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.waiting = []
        for _ in range(4):
            one = socket.socket(family)
            one.setblocking(False)
            one.connect_ex((address, self.port))
            self.waiting.append(one)

    def close(self):
        for one in [*self.waiting, self.listener]:
            one.close()


def silent(sock, _):
    """Never answers; ends when the peer gives up."""
    sock.settimeout(120)
    try:
        sock.recv(1)
    except OSError:
        pass


def late(seconds, data=None):
    def action(sock, request):
        time.sleep(seconds)
        return data or Upstream.standard(sock, request)

    return action
