"""Downloads that Azure DevOps keeps elsewhere: fetched by the proxy, which storage learns nothing from."""
import pytest

from kit import secrets, upstreams, wire
from kit.policies import POLICY
from kit.upstreams import Upstream, message
from kit.waiting import free_port, seconds, until

ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
SIGNED = "https://unit7.blob.core.windows.net/container/drop.zip?sv=2024&se=2026-12-01&sp=r&sig=%2Bsigned%2Fcanary%3D"
ALLOWED = {"host", "accept", "accept-encoding", "range", "if-none-match", "user-agent"}


@pytest.fixture
def storage():
    storage = Upstream()
    yield storage
    storage.close()


@pytest.fixture
def proxied(start_proxy, issuer, upstream, storage):
    """A proxy whose Azure DevOps is `upstream` and whose blob storage is `storage`."""

    def start(**settings):
        hosts = {"*": upstream.url, "*.blob.core.windows.net": storage.url}
        return start_proxy([issuer.config()], POLICY, {"hosts": hosts, **settings})

    return start


def redirect(url=SIGNED, status=302):
    return message(status, "Object moved", [("Location", url), ("X-VSS-UserData", "x:y"), ("ActivityId", "a-1")])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_storage_is_followed_inside(proxied, upstream, storage, operator, status):
    proxy = proxied()
    upstream.tell(redirect(status=status))
    storage.tell(message(200, b"PK content", [("ETag", '"7"'), ("x-ms-request-id", "r"), ("Set-Cookie", "a=b"), ("Location", "https://elsewhere/")],
                         type="application/zip"))
    answer = proxy.ask("GET", ITEM, operator, [("X-TFS-Session", "11111111-2222-3333-4444-555555555555"), ("Cookie", "c=d"), ("Accept", "*/*")])
    assert answer.status == 200 and answer.body == b"PK content"
    assert answer["ETag"] == '"7"' and answer["Content-Type"] == "application/zip"
    assert answer["Location"] is None and answer["Set-Cookie"] is None and answer["x-ms-request-id"] is None
    (seen,) = storage.received
    assert seen.method == "GET" and seen.target == SIGNED.split("windows.net")[1] and seen["Host"] == "unit7.blob.core.windows.net"
    assert set(seen.names()) <= ALLOWED, seen.names()
    assert answer.correlation not in str(seen.fields)
    record = proxy.outcome(answer)
    assert record["upstream"]["host"] == "unit7.blob.core.windows.net" and record["upstream"]["attempts"] == 2
    assert record["response"]["status"] == 200 and record["upstream"]["activity_id"] == "a-1"
    assert "canary" not in proxy.audit_file.read_text() and "canary" not in proxy.log()


def test_ranges_and_conditions_reach_storage(proxied, upstream, storage, operator):
    proxy = proxied()
    upstream.tell(redirect(), redirect())
    storage.tell(message(206, b"cde", [("Content-Range", "bytes 2-4/10")]), b"HTTP/1.1 304 Not Modified\r\nETag: \"7\"\r\n\r\n")
    part = proxy.ask("GET", ITEM, operator, [("Range", "bytes=2-4")])
    assert part.status == 206 and part.body == b"cde" and part["Content-Range"] == "bytes 2-4/10"
    assert storage.received[0]["Range"] == "bytes=2-4"
    same = proxy.ask("GET", ITEM, operator, [("If-None-Match", '"7"')])
    assert same.status == 304 and same.body == b""


def test_the_client_connection_goes_on_afterwards(proxied, upstream, storage, operator):
    proxy = proxied()
    with proxy.connect() as client:
        for n in range(5):
            upstream.tell(redirect())
            storage.tell(message(200, b"%d" % n))
            assert client.ask("GET", ITEM, [("Authorization", "Bearer " + operator)]).body == b"%d" % n
            assert client.ask("GET", ITEM, [("Authorization", "Bearer " + operator)]).status == 200


def test_a_large_download_streams_in_flat_memory(proxied, upstream, storage, operator):
    proxy = proxied()
    size = 96 << 20

    def pour(sock, _):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        block = b"x" * (1 << 20)
        for _ in range(size >> 20):
            sock.sendall(block)
        return b""

    upstream.always = redirect()
    storage.tell(message(200, b"warm"))
    assert proxy.ask("GET", ITEM, operator).body == b"warm"
    before = proxy.resident_kib()
    storage.tell(pour)
    answer = proxy.ask("GET", ITEM, operator)
    assert answer.body_size == size
    assert proxy.resident_kib() - before < 16 * 1024


@pytest.mark.parametrize("url", [
    "http://unit7.blob.core.windows.net/x?sig=1", "https://unit7.blob.core.windows.net.evil.example/x?sig=1",
    "https://evil.example/x?sig=1", "https://user@unit7.blob.core.windows.net/x", "https://unit7.blob.core.windows.net:8443/x",
    "https://.blob.core.windows.net/x", "https://evil.example\\.blob.core.windows.net/x", "https://evil.example#.blob.core.windows.net/",
    "https://evil.example?.blob.core.windows.net/", "https://blob.core.windows.net/x", "//unit7.blob.core.windows.net/x"])
def test_a_redirect_to_anywhere_else_is_an_error(proxied, upstream, storage, operator, url):
    proxy = proxied()
    upstream.tell(redirect(url))
    answer = proxy.ask("GET", ITEM, operator)
    assert answer.status == 502 and answer["Location"] is None and "sig=" not in answer.text
    assert not storage.received


def test_storage_that_redirects_on_and_on_is_given_up(proxied, upstream, storage, operator):
    proxy = proxied()
    upstream.tell(redirect())
    storage.always = message(302, b"", [("Location", SIGNED)])
    answer = proxy.ask("GET", ITEM, operator)
    assert answer.status == 502 and len(storage.received) == 3


@pytest.mark.parametrize("status, told", [(403, 502), (404, 404), (416, 416), (500, 502), (203, 502)])
def test_storage_that_refuses_is_explained_and_its_words_are_not_passed_on(proxied, upstream, storage, operator, status, told):
    proxy = proxied()
    upstream.tell(redirect())
    storage.tell(message(status, "<Error><AuthenticationErrorDetail>canary string to sign</AuthenticationErrorDetail></Error>", type="application/xml"))
    answer = proxy.ask("GET", ITEM, operator)
    assert answer.status == told and "canary" not in answer.text and "storage" in answer.text or "content" in answer.text
    assert proxy.outcome(answer)["upstream"]["status"] == status


def test_storage_that_cannot_be_reached_is_an_error(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url, "*.blob.core.windows.net": "http://127.0.0.1:%d" % free_port(),
                                                              "unit9.vsassets.io": "https://nowhere.invalid"}})
    upstream.tell(redirect(), redirect("https://unit9.vsassets.io/x?sig=1"))
    assert proxy.ask("GET", ITEM, operator).status == 502
    assert proxy.ask("GET", ITEM, operator).status == 502
    assert proxy.ask("GET", ITEM, operator).status == 200


def test_what_is_no_download_is_not_followed(proxied, upstream, storage, issuer):
    proxy = proxied()
    operator = issuer.mint("operator-1", roles=["operator"])
    upstream.tell(redirect(status=307))
    answer = proxy.ask("POST", "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1", operator, body=b"{}")
    assert answer.status == 502 and not storage.received


def test_relayed_when_the_operator_says_so(proxied, upstream, storage, operator):
    proxy = proxied(redirects="relay")
    upstream.tell(redirect(), redirect("https://evil.example/x?sig=1"))
    answer = proxy.ask("GET", ITEM, operator)
    assert answer.status == 302 and answer["Location"] == SIGNED and not storage.received
    assert proxy.ask("GET", ITEM, operator).status == 502


def test_an_empty_list_leads_nowhere(start_proxy, issuer, upstream, storage, operator):
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}, "storage": []})
    upstream.tell(redirect())
    assert proxy.ask("GET", ITEM, operator).status == 502 and not storage.received


def test_a_certificate_of_another_name_is_not_good_enough(start_proxy, issuer, upstream, authority, operator):
    storage = Upstream(tls=authority.server("someone.else"))
    proxy = start_proxy([issuer.config()], POLICY, {"ca": str(authority.file), "hosts": {"*": upstream.url, "*.blob.core.windows.net": storage.url}})
    upstream.tell(redirect())
    assert proxy.ask("GET", ITEM, operator).status == 502 and not storage.received
    storage.close()


def test_a_client_that_leaves_while_storage_is_looked_for_harms_nobody(proxied, upstream, storage, operator):
    proxy = proxied()
    for _ in range(20):
        upstream.tell(redirect())
        with proxy.connect() as client:
            client.send(b"GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (ITEM.encode(), operator.encode()))
    until(lambda: proxy.metric("dagward_exchanges") >= 0, "metrics", within=5)
    upstream.told.clear()
    assert proxy.ask("GET", ITEM, operator).status == 200
