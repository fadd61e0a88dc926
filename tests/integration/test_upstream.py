"""Upstreams that are slow, broken or hostile: the client sees an error that says so, never a lie."""
import time

import pytest

from kit import upstreams, wire
from kit.policies import POLICY
from kit.upstreams import Upstream, message
from kit.waiting import seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"


@pytest.mark.parametrize("refusal", ["SIGN_IN_PAGE", "SIGN_IN_REDIRECT", "SIGN_IN_CHALLENGE"])
def test_a_sign_in_answer_is_an_error_and_is_never_passed_on(proxy, upstream, operator, refusal):
    upstream.always = getattr(upstreams, refusal)
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502
    assert "credential" in answer.text and answer.correlation in answer.reason
    assert answer["Location"] is None and answer["WWW-Authenticate"] is None and answer["X-VSS-ResourceTenant"] is None
    record = proxy.outcome(answer)
    assert record["decision"]["effect"] == "error" and record["response"]["status"] == 502
    assert record["upstream"]["status"] in (203, 302, 401)


def test_a_401_for_a_known_identity_is_passed_on_without_its_challenge(proxy, upstream, operator):
    upstream.tell(message(401, '{"message":"TF400813: no right"}', [("X-VSS-UserData", "aa:svc@x"), ("WWW-Authenticate", "Bearer x")]))
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 401 and "TF400813" in answer.text
    assert answer["WWW-Authenticate"] is None and answer["X-VSS-UserData"] is None
    assert proxy.outcome(answer)["upstream"]["status"] == 401


@pytest.mark.parametrize("garbage", [
    b"\x16\x03\x01 this is no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", b""],
    ids=["not-http", "two-lengths", "length-and-chunked", "bad-name", "upgrade", "huge-head", "nothing"])
def test_nonsense_becomes_502(proxy, upstream, operator, garbage):
    upstream.always = upstreams.cut_after(garbage)
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502 and answer.correlation in answer.reason
    assert proxy.outcome(answer)["decision"]["effect"] == "error"
    upstream.always = None
    assert proxy.ask("GET", RUNS, operator).status == 200


@pytest.mark.parametrize("part", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly a part",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwholeXX0\r\n\r\n"],
    ids=["length", "chunk", "last-chunk", "bad-chunk"])
def test_a_cut_off_answer_is_cut_off_for_the_client_too(proxy, upstream, operator, part):
    upstream.tell(upstreams.cut_after(part))
    with proxy.connect() as client:
        with pytest.raises((wire.CutOff, ValueError, AssertionError)):
            client.ask("GET", RUNS, [("Authorization", "Bearer " + operator)])
    record = proxy.outcomes(1, request_path=RUNS)[0]
    assert record["upstream"]["status"] == 200


def test_H9_a_silent_upstream_is_504(start_proxy, issuer, upstream, operator):
    timeouts = {"connect": "2s", "first_byte": "400ms", "idle": "2s"}
    proxy = start_proxy([issuer.config()], POLICY, {"timeouts": timeouts, "hosts": {"*": upstream.url}})
    upstream.tell(upstreams.silent, upstreams.silent)
    begun = time.monotonic()
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 504 and time.monotonic() - begun < seconds(5)
    assert proxy.outcome(answer)["decision"]["effect"] == "error"
    answer = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert answer.status == 504 and proxy.outcome(answer)["upstream"]["attempts"] == 1
    assert len(upstream.received) == 2, "a request with an unknown outcome was sent again"


def test_H9_a_429_is_passed_on_with_its_retry_after(proxy, upstream, operator):
    upstream.tell(message(429, '{"message":"TF400733: slow down"}', [("Retry-After", "17"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Resource", "Core")]))
    answer = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert answer.status == 429 and answer["Retry-After"] == "17"
    assert answer["X-RateLimit-Remaining"] == "0" and answer["X-RateLimit-Resource"] == "Core"
    record = proxy.outcome(answer)
    assert record["upstream"]["status"] == 429 and record["decision"]["effect"] == "allow"
    assert len(upstream.received) == 1


def test_an_upstream_that_stops_inside_a_body_is_cut_off(start_proxy, issuer, upstream, operator):
    timeouts = {"connect": "2s", "first_byte": "5s", "idle": "400ms"}
    proxy = start_proxy([issuer.config()], POLICY, {"timeouts": timeouts, "hosts": {"*": upstream.url}})

    def stall(sock, request):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        upstreams.silent(sock, request)

    upstream.tell(stall)
    with proxy.connect() as client, pytest.raises(wire.CutOff):
        client.ask("GET", RUNS, [("Authorization", "Bearer " + operator)])
    proxy.outcomes(1, request_path=RUNS)


def test_an_upstream_that_is_not_there_is_502(start_proxy, issuer, operator):
    proxy = start_proxy([issuer.config()], POLICY, "http://127.0.0.1:1")
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502 and "reached" in answer.text + proxy.log()
    assert proxy.outcome(answer)["decision"]["effect"] == "error"


def test_TLS_with_its_own_authority(start_proxy, issuer, authority, operator):
    upstream = Upstream(tls=authority.server("localhost", "127.0.0.1"))
    proxy = start_proxy([issuer.config()], POLICY, {"ca": str(authority.file), "hosts": {"*": upstream.url}})
    for _ in range(3):
        assert proxy.ask("GET", RUNS, operator).status == 200
    assert upstream.received[0]["Authorization"] == "Bearer " + proxy.upstream_token
    upstream.close()


@pytest.mark.parametrize("names, trusted", [(["another.example"], True), (["localhost"], False)], ids=["another-name", "unknown-authority"])
def test_a_certificate_that_does_not_fit_is_502_and_gets_no_credential(start_proxy, issuer, authority, operator, names, trusted):
    upstream = Upstream(tls=authority.server(*names))
    settings = {"hosts": {"*": upstream.url}}
    if trusted:
        settings["ca"] = str(authority.file)
    proxy = start_proxy([issuer.config()], POLICY, settings)
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502
    assert "certificate" in answer.text + proxy.log()
    assert upstream.received == []
    assert proxy.outcome(answer)["decision"]["effect"] == "error"
    upstream.close()


def test_connections_are_kept_and_used_again(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    for _ in range(20):
        assert proxy.ask("GET", RUNS, operator).status == 200
    assert upstream.connections == 1


def test_a_GET_is_repeated_when_a_kept_connection_died(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    assert proxy.ask("GET", RUNS, operator).status == 200
    upstream.tell(None)  # reads the request on the kept connection, and hangs up
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 200
    assert [r.connection for r in upstream.received] == [1, 1, 2]
    assert proxy.outcome(answer)["upstream"]["attempts"] == 2


def test_H10_a_POST_is_never_sent_twice(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    assert proxy.ask("GET", RUNS, operator).status == 200
    for action in (None, upstreams.cut_after(b"HTTP/1.1 2"), upstreams.cut_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")):
        upstream.received.clear()
        upstream.tell(action)
        with proxy.connect() as client:
            try:
                answer = client.ask("POST", RUNS, [("Authorization", "Bearer " + operator)], b"{}")
                assert answer.status == 502
                assert proxy.outcome(answer)["upstream"]["attempts"] == 1
            except wire.CutOff:
                pass
        assert len(upstream.received) == 1
        assert proxy.ask("GET", RUNS, operator).status == 200


def test_kept_connections_that_upstream_closed_are_not_used(start_proxy, issuer, upstream, operator):
    """A POST finds no dead connection in the pool when the close was there before it."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    for _ in range(5):
        assert proxy.ask("GET", RUNS, operator).status == 200
        upstream.hang_up()
        until(lambda: not upstream.open, "upstream closes")
        time.sleep(0.05)  # for the close to arrive
        answer = proxy.ask("POST", RUNS, operator, body=b"{}")
        assert answer.status == 200


def test_interim_answers_of_upstream_are_swallowed(proxy, upstream, operator):
    upstream.tell(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n" + message(200, "done"))
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 200 and answer.body == b"done" and answer.informational == []


def test_what_upstream_says_about_its_identity_is_dropped(proxy, upstream, operator):
    upstream.tell(message(200, "{}", [("Set-Cookie", "UserAuthentication=upstream-cookie; HttpOnly"), ("X-VSS-UserData", "guid:svc@contoso"), ("P3P", "CP=x"),
                                      ("X-VSS-ResourceTenant", "72f988bf"), ("X-TFS-Session", "0e0c2e0a-65f6-4d2d-9d14-4eb1a3b2b5ac"), ("ActivityId", "act-1"),
                                      ("X-MS-ContinuationToken", "next"), ("Connection", "X-Dropped"), ("X-Dropped", "1"), ("Keep-Alive", "timeout=5")]))
    answer = proxy.ask("GET", RUNS, operator)
    for name in ("Set-Cookie", "X-VSS-UserData", "P3P", "X-VSS-ResourceTenant", "X-Dropped", "Keep-Alive"):
        assert answer[name] is None, name
    assert answer["X-TFS-Session"] and answer["X-MS-ContinuationToken"] == "next" and answer["ActivityId"] == "act-1"
    assert proxy.outcome(answer)["upstream"]["activity_id"] == "act-1"


def test_what_a_caller_sends_for_itself_stays_here(proxy, upstream, operator):
    fields = [("Cookie", "session=caller-cookie"), ("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=1.2.3.4"), ("X-TFS-Impersonate", "root"),
              ("X-VSS-UserData", "guid:root"), ("Proxy-Authorization", "Basic cm9vdDpyb290"), ("Connection", "keep-alive, X-Mine"), ("X-Mine", "1"),
              ("X-Airflow-Dag-Id", "nightly%20load"), ("X-Airflow-Run-Id", "run%2F1"), ("X-Airflow-Task-Id", "start"), ("X-Airflow-Map-Index", "3"),
              ("X-Airflow-Try-Number", "2"), ("X-Correlation-Id", "0b7f5a52-6d3c-4c57-a2d0-8d2f0f1f6a11"), ("User-Agent", "airflow/3")]
    answer = proxy.ask("GET", RUNS, operator, fields)
    assert answer.status == 200 and answer.correlation == "0b7f5a52-6d3c-4c57-a2d0-8d2f0f1f6a11"
    got = upstream.received[0]
    for name in ("Cookie", "X-Forwarded-For", "Forwarded", "X-TFS-Impersonate", "X-VSS-UserData", "Proxy-Authorization", "X-Mine"):
        assert got[name] is None, name
    assert not [n for n in got.names() if n.startswith("x-airflow")]
    assert got["Authorization"] == "Bearer " + proxy.upstream_token
    assert got["X-VSS-E2EID"] == answer.correlation and answer.correlation in got["User-Agent"] and "airflow/3" in got["User-Agent"]
    assert got["X-TFS-FedAuthRedirect"] == "Suppress" and answer.correlation.replace("-", "") in got["traceparent"]
    claimed = proxy.outcome(answer)["claimed"]
    assert claimed == {"dag_id": "nightly load", "run_id": "run/1", "task_id": "start", "map_index": "3", "try_number": "2", "user_agent": "airflow/3"}


def test_a_redirect_off_the_proxy_is_not_passed_on(proxy, upstream, operator):
    upstream.tell(message(302, "", [("Location", "https://evil.example/steal")]), message(302, "", [("Location", "/contoso/analytics/_apis/pipelines")]))
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502 and answer["Location"] is None
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 302 and answer["Location"].endswith("/contoso/analytics/_apis/pipelines")


def test_absolute_links_come_back_in_terms_of_the_proxy(proxy, upstream, operator):
    upstream.tell(message(201, "{}", [("Location", "https://vsrm.dev.azure.com/contoso/analytics/_apis/release/releases/3")]))
    answer = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert answer["Location"] == "http://dagward.test/~vsrm/contoso/analytics/_apis/release/releases/3"


STOLEN = message(200, b'{"stolen": true}')


def late(sock, _):
    sock.sendall(message(200, "{}"))
    time.sleep(0.05)
    sock.sendall(STOLEN)


@pytest.mark.parametrize("method, told", [
    ("GET", message(200, "{}") + STOLEN),
    ("GET", late),
    ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + STOLEN),
    ("HEAD", message(200, STOLEN)),
    ("GET", b"HTTP/1.1 204 None\r\n\r\n" + STOLEN),
    ("GET", b"HTTP/1.1 204 None\r\nContent-Length: %d\r\n\r\n" % len(STOLEN) + STOLEN),
    ("GET", b"HTTP/1.1 304 Same\r\nContent-Length: %d\r\n\r\n" % len(STOLEN) + STOLEN),
], ids=["at once", "late", "chunked", "HEAD", "204", "204 with a length", "304"])
def test_bytes_behind_an_answer_reach_nobody_else(start_proxy, issuer, upstream, method, told):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    alice, bob = issuer.mint("alice", roles=["operator"]), issuer.mint("bob", roles=["operator"])
    upstream.tell(told)
    proxy.ask(method, RUNS, alice)
    time.sleep(seconds(0.15))  # what comes late is there
    answer = proxy.ask("GET", RUNS, bob)
    assert answer.status == 200 and "stolen" not in answer.text


@pytest.mark.parametrize("method, told, kept", [
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", False),
    ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False),
    ("GET", b"HTTP/1.1 304 Same\r\nContent-Length: 20\r\n\r\n", False),
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
    ("GET", b"HTTP/1.1 304 Same\r\n\r\n", True),
], ids=["HEAD", "HEAD chunked", "304", "HEAD of nothing", "304 without a length"])
def test_a_body_that_was_announced_and_may_still_come_is_nobodys(start_proxy, issuer, upstream, method, told, kept):
    """It may come when somebody else's request has been sent already: nothing tells it from that one's answer then."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    alice, bob = issuer.mint("alice", roles=["operator"]), issuer.mint("bob", roles=["operator"])
    upstream.tell(told)
    proxy.ask(method, RUNS, alice)
    assert proxy.ask("GET", RUNS, bob).status == 200
    assert [r.connection for r in upstream.received] == [1, 1 if kept else 2]
