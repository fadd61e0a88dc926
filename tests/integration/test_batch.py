"""Requests inside a request: each is judged, and one that is refused refuses all."""
import gzip
import json

import pytest

from kit.directory import ANALYTICS, Directory, served

POLICY = {
    "version": 1,
    "roles": {
        "planner": {
            "allow": [
                {"operations": ["wit.batch.execute", "wit.batch.executePost"]},
                {"operations": ["wit.workItems.update", "wit.workItems.create", "wit.workItems.get"], "projects": ["analytics"]},
            ]
        },
        "writer": {"allow": [{"access": ["read", "write"], "areas": ["wit"]}]},
    },
    "bindings": [
        {"name": "planners", "callers": {"issuer": "airflow", "claims": {"roles": "planner"}}, "roles": ["planner"], "credential": "etl"},
        {"name": "writers", "callers": {"issuer": "airflow", "claims": {"roles": "writer"}}, "roles": ["writer"], "credential": "etl"},
    ],
}
BATCH = "/contoso/_apis/wit/$batch?api-version=5.0"
TYPE = {"Content-Type": "application/json-patch+json"}
PATCH = [{"op": "add", "path": "/fields/System.Title", "value": "x"}]
GOOD = {"method": "PATCH", "uri": "/Analytics/_apis/wit/workItems/7?api-version=5.0", "headers": TYPE, "body": PATCH}


@pytest.fixture(autouse=True)
def directory(upstream):
    upstream.always = Directory()
    return upstream.always


@pytest.fixture
def proxy(start_proxy, issuer, upstream):
    return start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}})


@pytest.fixture
def planner(issuer):
    return issuer.mint("planner-1", roles=["planner"])


def send(proxy, token, items, method="PATCH", fields=(), body=None):
    body = json.dumps(items).encode() if body is None else body
    return proxy.ask(method, BATCH, token, [("Content-Type", "application/json"), *fields], body)


@pytest.mark.parametrize("method", ["PATCH", "POST"])
def test_a_batch_of_allowed_requests_goes_upstream_as_it_was_judged(proxy, upstream, planner, method):
    answer = send(proxy, planner, [GOOD], method)
    assert answer.status == 200, answer.text
    (item,) = json.loads(upstream.received[-1].body.kept)
    assert item["method"] == "PATCH" and item["body"] == PATCH and item["headers"] == TYPE
    assert item["uri"].split("?")[0].lower() == "/%s/_apis/wit/workitems/7" % ANALYTICS
    assert "analytics" in str(proxy.outcome(answer)["request"]).lower()


def test_a_class_of_access_opens_batches_but_not_what_they_may_not_carry(proxy, upstream, issuer):
    writer = issuer.mint("writer-1", roles=["writer"])
    assert send(proxy, writer, [GOOD]).status == 200
    assert send(proxy, writer, [{"method": "DELETE", "uri": "/analytics/_apis/wit/workItems/7"}]).status == 403


def test_a_batch_in_gzip_is_judged_too(proxy, upstream, planner):
    bad = gzip.compress(json.dumps([{**GOOD, "uri": "/secret/_apis/wit/workItems/7"}]).encode())
    assert send(proxy, planner, None, fields=[("Content-Encoding", "gzip")], body=bad).status == 403
    assert not served(upstream)
    good = gzip.compress(json.dumps([GOOD]).encode())
    assert send(proxy, planner, None, fields=[("Content-Encoding", "gzip")], body=good).status == 200
    assert upstream.received[-1]["Content-Encoding"] is None and json.loads(upstream.received[-1].body.kept)


@pytest.mark.parametrize("item", [
    {"method": "PATCH", "uri": "/secret/_apis/wit/workItems/7", "headers": TYPE, "body": PATCH},
    {"method": "DELETE", "uri": "/analytics/_apis/wit/workItems/7"},
    {"method": "POST", "uri": "/analytics/_apis/pipelines/42/runs", "body": {}},
    {"method": "POST", "uri": "/analytics/_apis/build/builds?definitionId=42", "body": {}},
    {"method": "PATCH", "uri": "/analytics/_apis/wit/workItems/8", "headers": TYPE, "body": PATCH},
    {"method": "PATCH", "uri": "/_apis/wit/workItems/8", "headers": TYPE, "body": PATCH},
    {"method": "GET", "uri": "/_apis/nobody/knows/this"},
])
def test_one_that_is_not_allowed_refuses_all(proxy, upstream, planner, item):
    answer = send(proxy, planner, [GOOD, item])
    assert answer.status == 403 and "request 2 of the batch" in answer.text
    assert not served(upstream)
    assert proxy.outcome(answer)["decision"]["effect"] == "deny"


@pytest.mark.parametrize("item", [
    {"method": "PATCH", "uri": "https://dev.azure.com/contoso/_apis/wit/workItems/7"},
    {"method": "PATCH", "uri": "//evil.example/_apis/wit/workItems/7"},
    {"method": "PATCH", "uri": "/analytics/../secret/_apis/wit/workItems/7"},
    {"method": "PATCH", "uri": "/analytics%2f..%2fsecret/_apis/wit/workItems/7"},
    {"method": "PATCH", "uri": "/ana+lytics/_apis/wit/workItems/7", "headers": TYPE, "body": PATCH},
    {"method": "PATCH", "uri": "/ana%2Blytics/_apis/wit/workItems/7", "headers": TYPE, "body": PATCH},
    {"method": "POST", "uri": "/analytics/_apis/wit/workItems/7?_method=DELETE"},
    {"method": "POST", "uri": "/analytics/_apis/wit/workItems/7", "headers": {"X-HTTP-Method-Override": "DELETE"}},
    {"method": "POST", "uri": "/_apis/wit/$batch", "body": [GOOD]},
    {"uri": "/analytics/_apis/wit/workItems/7"},
    "PATCH /analytics/_apis/wit/workItems/7",
])
def test_one_that_is_ambiguous_refuses_all(proxy, upstream, planner, item):
    answer = send(proxy, planner, [GOOD, item])
    assert answer.status == 400, answer.text
    assert not served(upstream)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[", b"null", b'[{"method":"GET","method":"DELETE","uri":"/_apis/x"}]', b"[" * 5000])
def test_what_is_no_list_of_requests_is_refused(proxy, upstream, planner, body):
    assert send(proxy, planner, None, body=body).status == 400
    assert not served(upstream)


def test_a_batch_larger_than_what_is_inspected_is_refused(proxy, upstream, planner):
    answer = send(proxy, planner, [{**GOOD, "body": "x" * (1 << 20)}])
    assert answer.status == 413 and not served(upstream)
    bomb = gzip.compress(b"[" + b" " * (64 << 20) + b"]")
    assert send(proxy, planner, None, fields=[("Content-Encoding", "gzip")], body=bomb).status == 413
    broken = gzip.compress(json.dumps([GOOD]).encode())[:-3]
    assert send(proxy, planner, None, fields=[("Content-Encoding", "gzip")], body=broken).status == 400
    assert not served(upstream)


def test_a_batch_that_is_longer_when_it_is_written_anew_arrives_whole(proxy, upstream, planner):
    """0.1 is sent on as the nearest number that there is, with all its digits."""
    item = {**GOOD, "body": [{"op": "add", "path": "/fields/Custom.X", "value": [0.1] * 10_000}]}
    assert send(proxy, planner, None, body=json.dumps([item] * 25, separators=(",", ":")).encode()).status == 200
    assert upstream.received[-1].body.size > 25 * 10_000 * len("0.10000000000000001,")
