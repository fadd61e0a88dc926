"""A small CONNECT proxy, as networks have them at their edge, and a front that ends TLS for a server that speaks plain."""
import base64
import socket
import struct
import threading

from kit import secrets

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except (OSError, ValueError):
        pass
    finally:
        for sock in (a, b):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def join(a, b):
    threading.Thread(target=pump, args=(a, b), daemon=True).start()
    pump(b, a)
    a.close()
    b.close()


class Acceptor:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            self.serve(sock)
        except (OSError, ValueError):
            sock.close()

    def close(self):
        self.listener.close()


class Front(Acceptor):
    """TLS in front of a server on loopback."""

    def __init__(self, context, port):
        self.context, self.behind = context, port
        super().__init__()

    def serve(self, sock):
        join(self.context.wrap_socket(sock, server_side=True), socket.create_connection(("127.0.0.1", self.behind)))


class Outgoing(Acceptor):
    """`routes`: "host:port" -> port on loopback; what is not in there is refused with 403. `user`: "name:password" that has
    to be shown. `answer`: bytes that are sent instead of opening a tunnel; "hang" and "reset" do what they say."""

    def __init__(self, routes, user=None):
        self.routes, self.user, self.answer = routes, user, None
        self.heads = []
        super().__init__()
        self.url = "http://127.0.0.1:%d" % self.port

    def asked(self):
        """The places that tunnels were asked for."""
        return [head.split(b" ")[1].decode() for head in list(self.heads)]

    def serve(self, sock):
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(4096)
            if not data:
                sock.close()
                return
            head += data
        head, rest = head.split(b"\r\n\r\n", 1)
        assert not rest, "something came before the tunnel was there"
        self.heads.append(head)
        if self.answer == "hang":
            sock.recv(1)
        elif self.answer == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self.answer is not None:
            sock.sendall(self.answer)
        elif self.user and b"Proxy-Authorization: Basic " + base64.b64encode(self.user.encode()) not in head:
            sock.sendall(b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="edge"\r\nContent-Length: 4\r\n\r\nwho?')
        elif head.split(b" ")[1].decode() not in self.routes:
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        else:
            to = socket.create_connection(("127.0.0.1", self.routes[head.split(b" ")[1].decode()]))
            sock.sendall(ESTABLISHED)
            join(sock, to)
            return
        sock.close()

    def assert_clean(self, *more):
        """Nothing of a caller's nor of upstream's credential was ever told to the proxy."""
        for head in self.heads:
            secrets.assert_no_leak(head, "what the outgoing proxy was told")
            for name in [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]:
                assert name in (b"host", b"user-agent", b"proxy-authorization", b"proxy-connection"), head
