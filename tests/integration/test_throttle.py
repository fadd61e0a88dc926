"""Azure DevOps says that a credential asks too much: the caller is told, and nobody makes it worse."""
import threading
import time
from email.utils import formatdate

import pytest

from kit import secrets
from kit.policies import POLICY
from kit.upstreams import message
from kit.waiting import seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
SLOW_DOWN = '{"message":"TF400733: The request has been canceled: Request was blocked due to exceeding usage of resource <Concurrency> in namespace <x>."}'


@pytest.fixture
def serve(start_proxy, issuer, upstream, tmp_path):
    """One worker, two credentials: `etl` of operators, `git` of publishers."""

    def start(**more):
        file = tmp_path / "git-token"
        file.write_text(secrets.upstream("upstream-canary-git-0123456789"))
        bindings = [{**b, "credential": "git" if b["roles"] == ["publisher"] else "etl"} for b in POLICY["bindings"]]
        credentials = [{"name": "etl", "type": "static_file", "file": "upstream-token"}, {"name": "git", "type": "static_file", "file": str(file)}]
        return start_proxy([issuer.config()], {**POLICY, "bindings": bindings}, {"hosts": {"*": upstream.url}, **more}, workers=1, credentials=credentials)

    return start


def test_who_shares_a_throttled_credential_is_refused_here_until_its_time_is_over(serve, upstream, operator, publisher, issuer):
    proxy = serve()
    span = int(seconds(3))
    upstream.tell(message(429, SLOW_DOWN, [("Retry-After", str(span)), ("X-RateLimit-Resource", "Concurrency")]))
    first = proxy.ask("GET", RUNS, operator)
    told_at = time.monotonic()
    assert first.status == 429 and first["Retry-After"] == str(span) and "TF400733" in first.text, "the caller is told as it is"
    other = issuer.mint("operator-2", roles=["operator"])
    for token, method in ((operator, "GET"), (other, "GET"), (other, "POST")):
        answer = proxy.ask(method, RUNS, token, body=b"{}" if method == "POST" else b"")
        assert answer.status == 429 and 1 <= int(answer["Retry-After"]) <= span and answer.correlation in answer.reason
        record = proxy.outcome(answer)
        assert record["decision"]["effect"] == "error" and record["response"]["status"] == 429 and "upstream" not in record
        assert [r["kind"] for r in proxy.of(answer)] == ["outcome"], "what is not sent needs no intent"
    assert len(upstream.received) == 1, "they were not sent"
    assert proxy.ask("GET", ITEM, publisher).status == 200, "another credential has its own account"
    assert proxy.ask("GET", "/", operator).status == 200, "what is answered here is no request to Azure DevOps"
    assert proxy.metric(r'^dagward_credential_throttled_total{credential="etl"}') == 1
    assert proxy.metric(r'^dagward_credential_throttled_total{credential="git"}') == 0
    assert proxy.metric(r'^dagward_credential_throttle_refusals_total{credential="etl"}') == 3
    assert proxy.metric(r'^dagward_refusals_total{reason="throttled"}') == 3
    event = proxy.the_event("upstream.throttled")
    detail = event["event"]["detail"]
    assert detail["credential"] == "etl" and detail["status"] == "429" and detail["seconds"] == str(span) and detail["resource"] == "Concurrency"
    assert detail["correlation_id"] == first.correlation
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "its time is over")
    assert time.monotonic() - told_at > span - 0.5
    assert proxy.metric(r'^dagward_credential_throttled{credential="etl"}') == 0


def test_relayed_and_nothing_else_when_the_operator_says_so(serve, upstream, operator):
    proxy = serve(throttle="relay")
    upstream.tell(message(429, SLOW_DOWN, [("Retry-After", "60")]))
    assert proxy.ask("GET", RUNS, operator).status == 429
    assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200
    assert proxy.metric(r'^dagward_credential_throttled_total{credential="etl"}') == 1


def test_how_long(serve, upstream, operator):
    proxy = serve()
    date = lambda: formatdate(time.time() + 60, usegmt=True)
    for name, value, least, most in (("Retry-After", "17", 10, 17), ("X-RateLimit-Delay", "20.500", 10, 21),
                                     ("Retry-After", "86400", 200, 300), ("Retry-After", date(), 40, 60)):
        upstream.received.clear()
        upstream.tell(message(429, SLOW_DOWN, [(name, value)]))
        assert proxy.ask("GET", RUNS, operator).status == 429
        answer = proxy.ask("GET", RUNS, operator)
        assert answer.status == 429 and least <= int(answer["Retry-After"]) <= most, (name, value)
        assert len(upstream.received) == 1
        proxy.reload()
        assert proxy.ask("GET", RUNS, operator).status == 200, "a reload forgets"


def test_what_is_not_understood_holds_nobody_back(serve, upstream, operator):
    proxy = serve()
    for value in ("", "soon", "-5", "1e9", "Sun, 99 Nov 1994 08:49:37 GMT", "0", "99999999999999999999"):
        upstream.tell(message(429, SLOW_DOWN, [("Retry-After", value)]))
        assert proxy.ask("GET", RUNS, operator).status == 429
        assert proxy.ask("GET", RUNS, operator).status == 200, value


def test_a_503_is_about_one_service(serve, upstream, issuer, operator):
    proxy = serve()
    upstream.tell(message(503, '{"message":"maintenance"}', [("Retry-After", "60")]))
    assert proxy.ask("GET", RUNS, operator).status == 503
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 503 and 40 <= int(answer["Retry-After"]) <= 60 and len(upstream.received) == 1
    answer = proxy.ask("GET", "/~vstmr/contoso/analytics/_apis/testresults/runs", operator)
    assert answer.status in (200, 403)
    assert "throttle" not in answer.reason.lower() and answer.status != 503


def test_a_503_does_not_shorten_what_a_429_said(serve, upstream, operator):
    """It is the answer to an earlier request, and about one service."""
    proxy, go = serve(), threading.Event()

    def late(sock, request):
        go.wait(seconds(20))
        return message(503, '{"message":"maintenance"}', [("Retry-After", "1")])

    upstream.tell(late, message(429, SLOW_DOWN, [("Retry-After", "60")]))
    with proxy.connect() as client:
        client.request("GET", RUNS, [("Authorization", "Bearer " + operator)])
        until(lambda: len(upstream.received) == 1, "the first request is under way")
        assert proxy.ask("GET", RUNS, operator).status == 429
        go.set()
        assert client.answer().status == 503
    until(lambda: proxy.ask("GET", RUNS, operator).status == 429, "the second of the 503 is over")
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 429 and int(answer["Retry-After"]) > 30 and len(upstream.received) == 2


def test_an_answer_that_was_delayed_is_counted_and_holds_nobody_back(serve, upstream, operator):
    proxy = serve()
    delayed = [("Retry-After", "20"), ("X-RateLimit-Delay", "1.250"), ("X-RateLimit-Remaining", "0")]
    upstream.tell(message(200, "{}", delayed))
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 200 and answer["X-RateLimit-Delay"] == "1.250" and answer["Retry-After"] == "20"
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert proxy.metric(r'^dagward_credential_delayed_total{credential="etl"}') == 1


def test_a_trigger_that_is_not_sent_may_be_sent_later(serve, upstream, operator):
    proxy = serve()
    key = [("Idempotency-Key", "throttled-1")]
    upstream.tell(message(429, SLOW_DOWN, [("Retry-After", "2")]))
    assert proxy.ask("POST", RUNS, operator, key, b"{}").status == 429
    begun = time.monotonic()
    answer = proxy.ask("POST", RUNS, operator, key, b"{}")
    assert answer.status == 429 or time.monotonic() - begun > 1.5
    until(lambda: proxy.ask("POST", RUNS, operator, key, b"{}").status == 200, "it is sent")
    started = len(upstream.received)
    assert proxy.ask("POST", RUNS, operator, key, b"{}")["Idempotent-Replayed"] == "true"
    assert len(upstream.received) == started == 2
