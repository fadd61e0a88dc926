"""Links in answers lead back to the proxy, whatever service they name; data stays data."""
import gzip
import json

import pytest

from kit.policies import POLICY
from kit.upstreams import message

BUILDS = "/contoso/analytics/_apis/build/builds?api-version=7.1"
BASE = "http://dagward.test"
LFS = "/contoso/analytics/_git/dags.git/info/lfs/objects/batch"


@pytest.fixture
def proxy(start_proxy, issuer, upstream):
    return start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}})


def told(answer):
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def test_members_that_clients_follow_lead_to_the_proxy(proxy, upstream, operator):
    upstream.tell(message(200, json.dumps({
        "url": "https://dev.azure.com/contoso/_apis/build/builds/7",
        "_links": {"timeline": {"href": "https://vsrm.dev.azure.com/contoso/p?a=b"}, "badge": {"href": "https://example.org/b.svg"}},
        "repository": {"remoteUrl": "https://contoso@dev.azure.com/contoso/analytics/_git/dags"},
        "owner": {"imageUrl": "https://fabrikam.visualstudio.com/_apis/GraphProfile", "url": "https://contoso.vssps.visualstudio.com/_apis/Identities/1"},
        "again": {"url": upstream.url + "/contoso/x"},
        "parameters": "{\"url\":\"https://dev.azure.com/contoso\"}",
        "message": "see https://dev.azure.com/contoso/_build"})))
    answer = proxy.ask("GET", BUILDS, operator)
    body, base = told(answer), BASE
    assert body["url"] == base + "/contoso/_apis/build/builds/7"
    assert body["_links"] == {"timeline": {"href": base + "/~vsrm/contoso/p?a=b"}, "badge": {"href": "https://example.org/b.svg"}}
    assert body["repository"]["remoteUrl"] == base.replace("//", "//contoso@") + "/contoso/analytics/_git/dags"
    assert body["owner"] == {"imageUrl": base + "/fabrikam/_apis/GraphProfile", "url": base + "/~vssps/contoso/_apis/Identities/1"}
    assert body["again"]["url"] == base + "/contoso/x"
    assert body["parameters"] == '{"url":"https://dev.azure.com/contoso"}' and "https://dev.azure.com/contoso/_build" in body["message"]
    assert answer["Content-Length"] is None and answer["Transfer-Encoding"] == "chunked"


def test_links_can_be_kept(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}, "links": "keep"})
    body = b'{"url":"https://dev.azure.com/contoso"}'
    upstream.tell(message(200, body))
    answer = proxy.ask("GET", BUILDS, operator, [("Accept-Encoding", "br")])
    assert answer.body == body and answer["Content-Length"] == str(len(body))
    assert upstream.received[-1]["Accept-Encoding"] == "br"


def test_links_take_the_configured_public_url(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}}, public_url="https://dagward.example")
    upstream.tell(message(200, '{"remoteUrl":"https://o@dev.azure.com/o/p","url":"https://feeds.dev.azure.com/o"}'))
    assert told(proxy.ask("GET", BUILDS, operator)) == {"remoteUrl": "https://o@dagward.example/o/p", "url": "https://dagward.example/~feeds/o"}


@pytest.mark.parametrize("sent,wanted", [("gzip, deflate", "gzip"), ("br", "identity"), (None, "identity")])
def test_compressed_answers_are_unfolded_on_the_way(proxy, upstream, operator, sent, wanted):
    body = json.dumps({"value": [{"url": "https://dev.azure.com/contoso/%d" % n, "text": "x" * (n % 700)} for n in range(3000)]})
    packed = gzip.compress(body.encode())
    upstream.tell(message(200, packed, [("Content-Encoding", "gzip"), ("ETag", '"1"')]))
    answer = proxy.ask("GET", BUILDS, operator, [("Accept-Encoding", sent)] if sent else [])
    assert upstream.received[-1]["Accept-Encoding"] == wanted
    assert answer["Content-Encoding"] is None and answer["ETag"] == '"1"'
    assert answer.body.decode() == body.replace("https://dev.azure.com", BASE)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:200] + b"\0\0\0\0" + b[204:], lambda b: b"PK" + b])
def test_a_damaged_answer_is_cut_and_not_taken_for_whole(proxy, upstream, operator, damage):
    packed = damage(gzip.compress(json.dumps({"value": [n * 7919 % 10007 for n in range(40000)]}).encode()))
    upstream.tell(message(200, packed, [("Content-Encoding", "gzip")]))
    with pytest.raises(Exception):
        proxy.ask("GET", BUILDS, operator)
    assert proxy.ask("GET", BUILDS, operator).status == 200


def test_many_small_chunks_and_large_bodies_keep_every_byte(proxy, upstream, operator):
    body = json.dumps([{"url": "https://vsrm.dev.azure.com/contoso/é/%d" % n, "data": "https://dev.azure.com"} for n in range(20000)])
    raw, chunks, at, n = body.encode(), [], 0, 0
    while at < len(raw):
        n = n % 97 + 1
        chunks.append(b"%x\r\n%s\r\n" % (len(raw[at:at + n]), raw[at:at + n]))
        at += n
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.tell(head + b"".join(chunks) + b"0\r\n\r\n")
    answer = proxy.ask("GET", BUILDS, operator)
    assert answer.body.decode() == body.replace("https://vsrm.dev.azure.com", BASE + "/~vsrm")


def test_file_contents_are_never_changed(proxy, upstream, operator):
    content = b'{"url": "https://dev.azure.com/contoso"}'
    upstream.tell(message(200, content), message(200, content, type="text/plain"), message(200, content, [("Content-Disposition", "attachment")]))
    item = proxy.ask("GET", "/contoso/analytics/_apis/git/repositories/dags/items?path=/package.json", operator, [("Accept-Encoding", "br")])
    assert item.body == content and item["Content-Length"] == str(len(content))
    assert upstream.received[-1]["Accept-Encoding"] == "br"
    assert proxy.ask("GET", BUILDS, operator).body == content
    assert proxy.ask("GET", BUILDS, operator).body == content


def test_link_fields_lead_to_the_proxy(proxy, upstream, operator):
    upstream.tell(message(200, "[]", [("Link", '<https://dev.azure.com/contoso?x=1>; rel="next", <https://example.org/>; rel="help"')]))
    answer = proxy.ask("GET", BUILDS, operator)
    assert answer["Link"] == '<http://dagward.test/contoso?x=1>; rel="next", <https://example.org/>; rel="help"'


def test_what_a_client_read_it_can_send_back(proxy, upstream, operator):
    base = BASE
    sent = {"resources": {}, "_links": {"web": {"href": base + "/~vsrm/contoso/x"}}, "url": base + "/contoso/_apis/wit/workItems/4",
            "comment": base + "/contoso"}
    answer = proxy.ask("POST", "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1", operator,
                       [("Content-Type", "application/json")], json.dumps(sent).encode())
    assert answer.status == 200, answer.body
    got = json.loads(upstream.received[-1].body.kept)
    assert got["url"] == upstream.url + "/contoso/_apis/wit/workItems/4" and got["comment"] == base + "/contoso"
    assert got["_links"]["web"]["href"] == upstream.url + "/contoso/x"


def test_lfs_links_stay_on_the_proxy(proxy, upstream, operator):
    oid = "0" * 64
    upstream.tell(message(200, json.dumps({"objects": [{"oid": oid, "size": 3, "actions": {
        "download": {"href": "https://dev.azure.com/contoso/analytics/_git/dags/info/lfs/objects/" + oid},
        "upload": {"href": "https://x.blob.core.windows.net/c?sig=1"}}}]}), type="application/vnd.git-lfs+json"))
    answer = proxy.ask("POST", LFS, operator, [("Content-Type", "application/vnd.git-lfs+json")], b'{"operation":"download","objects":[]}')
    actions = told(answer)["objects"][0]["actions"]
    assert actions["download"]["href"].startswith(BASE + "/contoso/analytics/_git/dags/")
    assert actions["upload"]["href"] == "https://x.blob.core.windows.net/c?sig=1"
