"""TLS sessions that are resumed: with callers and with Azure DevOps. They save time, and stand for nobody."""
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from kit.certs import Authority
from kit.outgoing import Outgoing
from kit.policies import POLICY
from kit.upstreams import Upstream, message
from kit.waiting import free_port, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def bearer(token):
    return [("Authorization", "Bearer " + token)]


# --- callers ---


@pytest.fixture
def serve(start_proxy, issuer, upstream, authority):
    """A proxy with so many TLS listeners, which show the same certificate; `ports` has theirs."""

    def serve(listeners=1, **tls):
        certificate, key = authority.issue("localhost", "127.0.0.1")
        ports = [free_port() for _ in range(listeners)]
        proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=2, listen=[
            {"address": "127.0.0.1:%d" % port, "tls": {"certificate": certificate, "key": key, **tls}} for port in ports])
        proxy.port, proxy.ports = ports[0], ports
        return proxy

    return serve


class Caller:
    """One that keeps its session, as TLS libraries do, and shows it at each connection."""

    def __init__(self, proxy, authority, version, identity=None):
        self.proxy, self.session = proxy, None
        self.context = authority.client(identity)
        self.context.maximum_version = version

    def ask(self, token=None, port=None):
        """-> (whether the session was resumed, answer)"""
        if port:
            self.proxy.port = port
        with self.proxy.connect(tls=self.context, session=self.session) as client:
            answer = client.ask("GET", RUNS, bearer(token) if token else ())
            self.session = client.sock.session
            return client.sock.session_reused, answer


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed_by_whichever_worker(serve, authority, operator, version):
    caller = Caller(serve(), authority, version)
    assert caller.ask(operator)[0] is False
    # The kernel chooses the worker by the port of the client: of 40 connections both get some.
    resumed = [caller.ask(operator) for _ in range(40)]
    assert all(again and answer.status == 200 for again, answer in resumed)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_resumed_connection_is_nobodys(serve, issuer, authority, operator, version):
    proxy = serve()
    caller = Caller(proxy, authority, version)
    assert caller.ask(operator)[1].status == 200
    for token, status in ((None, 401), (issuer.mint("nobody-1", roles=[]), 403), (issuer.mint("operator-1", exp=int(time.time()) - 300, iat=int(time.time()) - 600, roles=["operator"]), 401),
                          (operator, 200)):
        again, answer = caller.ask(token)
        assert again and answer.status == status, (again, answer.status, answer.text)
    other = issuer.mint("operator-2", roles=["operator"])
    again, answer = caller.ask(other)
    assert again and proxy.outcome(answer)["caller"]["subject"] == "operator-2"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_is_of_one_listener_and_one_load_of_its_files(serve, authority, operator, version):
    proxy = serve(listeners=2)
    one, two = proxy.ports
    caller = Caller(proxy, authority, version)
    assert [caller.ask(operator, port)[0] for port in (one, one, two, two, one)] == [False, True, False, True, False]
    assert caller.ask(operator)[0] is True
    proxy.reload()
    again, answer = caller.ask(operator)
    assert not again and answer.status == 200, "the certificate may be another one"
    assert caller.ask(operator)[0] is True


def test_a_new_process_knows_no_ticket_of_the_old_one(serve, start_proxy, authority, operator):
    proxy = serve()
    callers = [Caller(proxy, authority, version) for version in VERSIONS]
    for caller in callers:
        assert [caller.ask(operator)[0] for _ in range(2)] == [False, True]
    proxy.stop()
    proxy.start()
    for caller in callers:
        assert [(again, answer.status) for again, answer in (caller.ask(operator), caller.ask(operator))] == [(False, 200), (True, 200)]


@pytest.mark.parametrize("version", VERSIONS)
def test_where_certificates_are_asked_for_one_is_shown_each_time(serve, authority, operator, version):
    caller = Caller(serve(client_ca=str(authority.file)), authority, version, identity=authority.issue("worker"))
    for _ in range(3):
        again, answer = caller.ask(operator)
        assert answer.status == 200 and not again


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes_from_a_file_and_no_early_data_is_offered(serve, authority, tmp_path, version):
    proxy, ticket = serve(), tmp_path / "session.pem"
    asks = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    def connect(*more):
        command = ["openssl", "s_client", "-connect", "localhost:%d" % proxy.port, "-CAfile", authority.file, "-verify_return_error", "-ign_eof", version]
        told = subprocess.run([*command, *more], input=asks, capture_output=True, timeout=seconds(20)).stdout.decode("latin-1")
        assert "HTTP/1.1 401" in told, told
        return told

    first = connect("-sess_out", ticket)
    assert "\nNew, " in first and ("Max Early Data: 0" in first or version == "-tls1_2")
    assert "\nReused, " in connect("-sess_in", ticket)


# --- upstream ---


class Counting(Upstream):
    """Keeps no connection, and notes of each whether its session was resumed."""

    def __init__(self, tls, **more):
        super().__init__(tls, **more)
        self.resumed = []
        self.always = self.one

    def one(self, sock, request):
        self.resumed.append(sock.session_reused)
        return message(200, "{}", [("Connection", "close")])


def server(authority, version=ssl.TLSVersion.TLSv1_3):
    context = authority.server("localhost")
    context.maximum_version = version
    return context


def settings(upstream, authority, **more):
    return {"ca": str(authority.file), "hosts": {"*": upstream.url}, **more}


def starts_a_run(proxy, token):
    answer = proxy.ask("POST", RUNS, token, body=b"{}")
    assert answer.status == 200, answer.text + proxy.log()[-2000:]


@pytest.mark.parametrize("version", VERSIONS)
def test_new_connections_to_upstream_resume_until_a_reload(start_proxy, issuer, authority, operator, version):
    upstream = Counting(server(authority, version))
    proxy = start_proxy([issuer.config()], POLICY, settings(upstream, authority), workers=1)
    for _ in range(6):
        starts_a_run(proxy, operator)
    assert upstream.resumed == [False] + [True] * 5
    proxy.reload()
    for _ in range(2):
        assert proxy.ask("GET", RUNS, operator).status == 200
    assert upstream.resumed[6:] == [False, True]
    upstream.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_does_not_outlive_trust_in_the_authority(start_proxy, issuer, authority, operator, tmp_path, version):
    upstream = Counting(server(authority, version))
    proxy = start_proxy([issuer.config()], POLICY, settings(upstream, authority), workers=1)
    for _ in range(3):
        assert proxy.ask("GET", RUNS, operator).status == 200
    assert upstream.resumed == [False, True, True]
    good = authority.file.read_bytes()
    authority.file.write_bytes(Authority(tmp_path / "another", "another authority").file.read_bytes())
    proxy.reload()
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502 and "certificate" in answer.text + proxy.log()
    assert len(upstream.resumed) == 3, "what was verified once is not verified for ever"
    authority.file.write_bytes(good)
    proxy.reload()
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it was not reached again")
    assert upstream.resumed[3] is False
    upstream.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upstream_that_forgot_its_keys_costs_a_whole_handshake_and_no_request(start_proxy, issuer, authority, operator, version):
    upstream = Counting(server(authority, version))
    proxy = start_proxy([issuer.config()], POLICY, settings(upstream, authority), workers=1)
    for _ in range(2):
        starts_a_run(proxy, operator)
    upstream.tls = server(authority, version)  # new ticket keys, as behind a balancer
    for _ in range(2):
        starts_a_run(proxy, operator)
    assert upstream.resumed == [False, True, False, True]
    upstream.close()


def test_an_upstream_that_hangs_up_on_a_session_is_not_shown_it_again(start_proxy, issuer, authority, operator):
    class Picky(Counting):
        refused = 0

        def _serve(self, sock, number):
            if self.offers_key(sock.recv(4096, socket.MSG_PEEK)):
                self.refused += 1
                sock.close()
                return
            super()._serve(sock, number)

        @staticmethod
        def offers_key(hello):
            """Whether a ClientHello has pre_shared_key (41, RFC 8446 4.2.11)."""
            at = 5 + 4 + 2 + 32
            at += 1 + hello[at]
            at += 2 + int.from_bytes(hello[at:at + 2], "big")
            at += 1 + hello[at]
            end = at + 2 + int.from_bytes(hello[at:at + 2], "big")
            at += 2
            while at < end:
                if hello[at:at + 2] == b"\x00\x29":
                    return True
                at += 4 + int.from_bytes(hello[at + 2:at + 4], "big")
            return False

    upstream = Picky(server(authority))
    proxy = start_proxy([issuer.config()], POLICY, settings(upstream, authority, ejection={"failures": 0}), workers=1)
    statuses = [proxy.ask("GET", RUNS, operator).status for _ in range(4)]
    assert statuses == [200, 502, 200, 502] and upstream.refused == 2
    upstream.close()


def test_sessions_are_resumed_in_a_tunnel_through_the_outgoing_proxy(start_proxy, issuer, authority, operator):
    upstream = Counting(authority.server("dev.azure.com"))
    outgoing = Outgoing({"dev.azure.com:443": upstream.port})
    proxy = start_proxy([issuer.config()], POLICY, {"ca": str(authority.file)}, workers=1, outgoing_proxy={"url": outgoing.url})
    for _ in range(3):
        assert proxy.ask("GET", RUNS, operator).status == 200
    assert upstream.resumed == [False, True, True] and len(outgoing.heads) == 3
    outgoing.assert_clean()
    outgoing.close()
    upstream.close()
