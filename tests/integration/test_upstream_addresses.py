"""Hosts with several addresses: one that does not work costs a moment, all that do not work are an
error that says so, and what comes back is used again."""
import time

import pytest

from kit import upstreams
from kit.policies import POLICY
from kit.upstreams import Hole, Upstream, message
from kit.waiting import free_port, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
V4, V6 = "127.0.0.1", "::1"  # of localhost, in this order


def serve(start_proxy, issuer, at, workers=1, **upstream):
    upstream = {"timeouts": {"connect": "3s", "attempt": "300ms"}, "ejection": {"failures": 3, "time": "500ms", "most": "1s"}, **upstream}
    return start_proxy([issuer.config()], POLICY, {"hosts": {"*": "http://localhost:%d" % at.port}, **upstream}, workers=workers)


@pytest.mark.parametrize("how", ["refused", "hole"])
@pytest.mark.parametrize("bad, good", [(V4, V6), (V6, V4)])
def test_an_address_that_does_not_work_is_passed_over(start_proxy, issuer, operator, at, how, bad, good):
    if how == "hole":
        at(bad, Hole)
    upstream = at(good)
    proxy = serve(start_proxy, issuer, at)
    for n in range(3):
        answer = proxy.ask("POST", RUNS, operator, body=b"{}")
        assert answer.status == 200, answer.text
        assert proxy.outcome(answer)["decision"]["effect"] == "allow"
        upstream.hang_up()
    assert len(upstream.received) == 3, "a POST was sent other than once"


def test_a_body_that_streams_stays_with_its_client_until_there_is_a_connection(start_proxy, issuer, publisher, at):
    at(V4, Hole)
    upstream = at(V6)
    proxy = serve(start_proxy, issuer, at)
    whole = b"".join(b"3e8\r\n%s\r\n" % (b"%04d" % n * 250) for n in range(40)) + b"0\r\n\r\n"
    with proxy.connect() as client:
        client.send("POST /contoso/analytics/_git/dags/git-receive-pack HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n" % publisher)
        client.send(whole)
        answer = client.answer()
    assert answer.status == 200 and b"40000" in answer.body
    assert [r.body.size for r in upstream.received] == [40000]
    assert upstream.received[0].body.kept == b"".join(b"%04d" % n * 250 for n in range(40))


def test_an_address_that_takes_connections_and_says_nothing_in_TLS_is_passed_over(start_proxy, issuer, authority, operator, at):
    def mute(sock, _):
        upstreams.silent(sock, None)

    class Mute(Upstream):
        def _serve(self, sock, number):
            mute(sock, number)

    bad = at(V4, Mute)
    good = at(V6, tls=authority.server("localhost"))
    proxy = serve(start_proxy, issuer, at, hosts={"*": "https://localhost:%d" % at.port}, ca=str(authority.file))
    answer = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert answer.status == 200 and len(good.received) == 1 and bad.connections == 1


def test_while_none_can_be_reached_requests_are_refused_at_once_and_it_recovers(start_proxy, issuer, operator, at):
    proxy = serve(start_proxy, issuer, at)
    answers = [proxy.ask("POST", RUNS, operator, body=b"{}") for _ in range(12)]
    assert {a.status for a in answers[:3]} == {502} and answers[-1].status in (502, 503)
    refused = [a for a in answers if a.status == 503]
    assert len(refused) >= 5
    for answer in refused:
        assert int(answer["Retry-After"]) in (1, 2) and answer.correlation in answer.reason
        record = proxy.outcome(answer)
        assert record["decision"]["effect"] == "error" and record["response"]["status"] == 503 and "upstream" not in record
    assert proxy.metric(r"^dagward_upstream_unreachable_refusals_total") >= 5
    assert proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') == 2
    assert proxy.metric(r'^dagward_upstream_addresses{service="dev"}') == 2
    assert proxy.admin_get("/readyz").status_code == 200, "the process is well, and restarting it would not help"
    upstream = at(V6)
    until(lambda: proxy.ask("POST", RUNS, operator, body=b"{}").status == 200, "it is used again")
    assert len(upstream.received) == 1
    (event,) = until(lambda: proxy.events("upstream.restored"), "an event that it is back")
    assert event["event"]["detail"]["address"] == V6 and event["event"]["detail"]["host"] == "localhost"
    ejected = proxy.events("upstream.ejected")
    assert ejected and "refused" in ejected[0]["event"]["detail"]["cause"] and len(ejected) < 8


def test_an_outage_is_not_made_longer_by_long_ejections(start_proxy, issuer, operator, at):
    proxy = serve(start_proxy, issuer, at, ejection={"failures": 1, "time": "10m", "most": "10m"})
    assert proxy.ask("GET", RUNS, operator).status == 502
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 503 and answer["Retry-After"] in ("1", "2")
    at(V6)
    until(lambda: proxy.ask("POST", RUNS, operator, body=b"{}").status == 200, "it is used again")


def test_one_request_at_a_time_tries_what_cannot_be_reached(start_proxy, issuer, operator, at):
    at(V4, Hole)
    at(V6, Hole)
    proxy = serve(start_proxy, issuer, at, timeouts={"connect": "500ms", "attempt": "100ms"}, ejection={"failures": 1, "time": "3s", "most": "3s"})
    assert proxy.ask("GET", RUNS, operator).status == 504
    begun, quick = time.monotonic(), []
    while len(quick) < 20 and time.monotonic() - begun < seconds(8):
        at_ = time.monotonic()
        answer = proxy.ask("GET", RUNS, operator)
        assert answer.status in (503, 504)
        if answer.status == 503:
            quick.append(time.monotonic() - at_)
    assert len(quick) == 20 and sorted(quick)[10] < seconds(0.1), "most are refused at once"


BAD = {
    "502 without a word": lambda: message(502),
    "garbage": lambda: upstreams.cut_after(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "no answer": lambda: None,
}


@pytest.mark.parametrize("what", BAD)
def test_an_address_that_answers_badly_is_left_alone_until_it_is_well(start_proxy, issuer, operator, at, what):
    bad, good = at(V4), at(V6)
    proxy = serve(start_proxy, issuer, at, ejection={"failures": 1, "time": "1s", "most": "1s"})
    bad.always = BAD[what]() if what != "no answer" else lambda sock, _: None

    def ask(method):
        answer = proxy.ask(method, RUNS, operator, body=b"{}" if method == "POST" else b"")
        good.hang_up()  # so that connections are made again and again
        until(lambda: not good.open, "good closes")
        return answer.status

    told = []
    until(lambda: told.append(ask("GET")) or proxy.events("upstream.ejected"), "it is ejected")
    assert told.count(502) == 1
    sent, begun = len(bad.received), time.monotonic()
    while time.monotonic() - begun < 1.5:  # longer than the ejection
        assert ask("POST") == 200
    assert len(bad.received) == sent, "a POST tries nothing out"
    bad.always = None
    until(lambda: ask("GET") == 200 and proxy.events("upstream.restored"), "it is back")


def test_when_all_answer_badly_they_are_asked_all_the_same(start_proxy, issuer, operator, at):
    both = at(V4), at(V6)
    proxy = serve(start_proxy, issuer, at, ejection={"failures": 2, "time": "1m", "most": "1m"})
    for one in both:
        one.always = message(503)
    for _ in range(12):
        answer = proxy.ask("GET", RUNS, operator)
        assert answer.status == 503 and answer.body == b"" and answer["Retry-After"] is None, "upstream's own"
    assert sum(len(one.received) for one in both) == 12
    for one in both:
        one.always = None
    assert proxy.ask("GET", RUNS, operator).status == 200, "the least bad one is used at once"


def test_an_error_of_Azure_DevOps_itself_is_no_fault_of_an_address(start_proxy, issuer, operator, at):
    upstream = at(V4)
    proxy = serve(start_proxy, issuer, at, ejection={"failures": 1, "time": "1m", "most": "1m"})
    upstream.always = message(500, '{"message":"TF000: no"}')
    for _ in range(3):
        assert proxy.ask("GET", RUNS, operator).status == 500
    upstream.always = message(503, '{"message":"busy"}')
    for _ in range(3):
        assert proxy.ask("GET", RUNS, operator).status == 503
    assert not [e for e in proxy.events("upstream.ejected") if e["event"]["detail"]["address"] == V4]


def test_retries_have_a_budget(start_proxy, issuer, operator, at):
    """Each ten requests earn two, one comes back in a second, ten are there at first."""
    upstream = at(V4)
    proxy = serve(start_proxy, issuer, at)
    begun, requests, statuses = time.monotonic(), 0, []
    for _ in range(40):
        assert proxy.ask("GET", RUNS, operator).status == 200
        upstream.tell(None)  # the next one on this connection is not answered
        statuses.append(proxy.ask("GET", RUNS, operator).status)
        requests += 2
        if statuses[-1] == 502:
            break
    assert set(statuses) == {200, 502}, "all of them were repeated"
    retried = proxy.metric(r"^dagward_retries_total")
    assert 5 <= retried <= 10 + requests / 5 + (time.monotonic() - begun) + 1
    assert proxy.metric(r"^dagward_retries_refused_total") == 1


def test_no_retries_at_all_when_the_operator_says_so(start_proxy, issuer, operator, at):
    upstream = at(V4)
    proxy = serve(start_proxy, issuer, at, retries=0)
    assert proxy.ask("GET", RUNS, operator).status == 200
    upstream.tell(None)
    assert proxy.ask("GET", RUNS, operator).status == 502
    assert len(upstream.received) == 2
