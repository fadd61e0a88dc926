"""Whoever is slow keeps nothing: what ended while a request was being sent, or waited, has ended for it too."""
import threading
import time

import pytest

from kit.issuers import some_key
from kit.policies import POLICY
from kit.upstreams import message
from kit.waiting import seconds, until
from test_reload_trust import COMMANDS, PUSH, RUNS

QUEUE = "/contoso/analytics/_apis/build/builds"
REQUEUE = "/contoso/analytics/_apis/policy/evaluations/11111111-2222-3333-4444-555555555555"
RULES = {**POLICY, "roles": {**POLICY["roles"], "operator": {**POLICY["roles"]["operator"], "allow": POLICY["roles"]["operator"]["allow"] + [
    {"operations": ["policy.evaluations.*"], "projects": ["analytics"]}]}}}
LENGTH, CHUNKED = "Content-Length: %d\r\n", "Transfer-Encoding: chunked\r\nIdempotency-Key: slow-1\r\n"
# What is read before it is decided about or sent, in each of the places where that is done.
SLOW = [("POST", RUNS, b"{}", LENGTH), ("POST", QUEUE, b'{"definition": {"id": 42}}', LENGTH), ("POST", PUSH, COMMANDS, LENGTH),
        ("PATCH", REQUEUE, b"10\r\n" + b" " * 14 + b"{}\r\n0\r\n\r\n", CHUNKED)]


def begin(proxy, token, method, target, body, framing):
    """All but the last byte has been sent."""
    client = proxy.connect(timeout=60)
    head = "%s %s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\n%s\r\n" % (
        method, target, "application/x-git-receive-pack-request" if target == PUSH else "application/json", token,
        framing % len(body) if "%d" in framing else framing)
    client.send(head.encode() + body[:-1])
    return client


def begin_all(proxy, token, times=1):
    clients = [(begin(proxy, token, *slow), slow[2][-1:]) for slow in SLOW * times]
    until(lambda: proxy.metric(r"^dagward_exchanges\b") == len(clients), "all are being served")
    return clients


def end_all(clients):
    answers = []
    for client, last in clients:
        with client:
            client.send(last)
            answers.append(client.answer())
    return answers


def rules_until(ends):
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
    return {**RULES, "bindings": [{**binding, "expires": expires} for binding in RULES["bindings"]]}


def past(when):
    until(lambda: time.time() > when, "time passes", within=60)


def test_bodies_that_come_slowly_do_not_outlive_their_token(start_proxy, issuer, upstream):
    """They may be begun as often as one likes while the token is good, and ended days later."""
    proxy = start_proxy([issuer.config(clock_skew="0s")], RULES, upstream.url, workers=1, timeouts={"body": "60s"})
    ends = int(time.time()) + int(seconds(2)) + 1
    token = issuer.mint("both-1", roles=["operator", "committer"], exp=ends)
    clients = begin_all(proxy, token)
    assert proxy.ask("GET", RUNS, token).status == 200
    until(lambda: time.time() > ends + 0.5, "time passes", within=60)
    for answer in end_all(clients):
        assert answer.status == 401 and "expired" in answer.text
    assert [r.method for r in upstream.received] == ["GET"]


def test_bodies_that_come_slowly_do_not_outlive_the_key_of_their_token(start_proxy, own_issuer, upstream):
    """A key that was stolen is taken out of the key set: what was begun with it ends with it."""
    proxy = start_proxy([own_issuer.config({"discovery": True, "cooldown": "1s"})], RULES, upstream.url, workers=1, timeouts={"body": "60s"})
    token = own_issuer.mint("both-1", roles=["operator", "committer"])
    clients = begin_all(proxy, token, 30)
    own_issuer.keys = [some_key("second")]
    until(lambda: proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200, "the new key is known", every=0.3)
    assert proxy.ask("GET", RUNS, token).status == 401
    assert [answer.status for answer in end_all(clients)] == [401] * 30 * len(SLOW)
    assert not [r for r in upstream.received if r.method != "GET"]
    proxy.stop()  # each was a known caller's when it began: none is one of a flood of strangers
    assert not proxy.events("strangers.refused")
    assert len([r for r in proxy.records("outcome") if r["request"]["method"] != "GET"]) == 30 * len(SLOW)


def test_bodies_that_come_slowly_do_not_outlive_their_binding(start_proxy, issuer, upstream):
    proxy = start_proxy([issuer.config()], RULES, upstream.url, workers=1, timeouts={"body": "60s"})
    clients = begin_all(proxy, issuer.mint("both-1", roles=["operator", "committer"]))
    proxy.reload(policy={**RULES, "bindings": []})
    assert [answer.status for answer in end_all(clients)] == [403] * len(SLOW)
    assert not upstream.received


def test_bodies_that_come_slowly_do_not_outlive_their_bindings_time(start_proxy, issuer, upstream):
    ends = int(time.time()) + int(seconds(2)) + 1
    rules = rules_until(ends)
    proxy = start_proxy([issuer.config()], rules, upstream.url, workers=1, timeouts={"body": "60s"})
    token = issuer.mint("both-1", roles=["operator", "committer"])
    clients = begin_all(proxy, token)
    assert proxy.ask("GET", RUNS, token).status == 200
    until(lambda: time.time() > ends + 0.5, "time passes", within=60)
    answers = end_all(clients)
    assert [r.method for r in upstream.received] == ["GET"]
    for slow, answer in zip(SLOW, answers):  # git reads of each ref what became of it
        assert "ng refs/heads/airflow/a" in answer.text if slow[1] == PUSH else answer.status == 403, answer.text


def test_bodies_that_come_slowly_are_served_when_nothing_has_ended(start_proxy, issuer, upstream):
    proxy = start_proxy([issuer.config()], RULES, upstream.url, workers=1, timeouts={"body": "60s"})
    clients = begin_all(proxy, issuer.mint("both-1", roles=["operator", "committer"]))
    proxy.reload(policy={**RULES, "tests": []})
    assert [answer.status for answer in end_all(clients)] == [200] * len(SLOW)
    assert len(upstream.received) == len(SLOW)


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("what", ["token", "binding", "bindings time"])
def test_a_trigger_that_waited_for_another_gets_nothing_that_has_ended_meanwhile(start_proxy, issuer, upstream, what, status):
    """Neither the first one's answer nor, when that had started nothing, its place."""
    ends, go = int(time.time()) + int(seconds(2)) + 1, threading.Event()
    proxy = start_proxy([issuer.config(clock_skew="0s")], rules_until(ends) if what == "bindings time" else RULES, upstream.url, workers=1, idempotency={"wait": "60s"})
    upstream.tell(lambda sock, _: go.wait(seconds(60)) and message(status, '{"id": 7}'))
    fields = lambda **more: [("Authorization", "Bearer " + issuer.mint("worker-1", roles=["operator"], **more)), ("Idempotency-Key", "one")]
    with proxy.connect(timeout=60) as first, proxy.connect(timeout=60) as second:
        first.request("POST", RUNS, fields(), b"{}")
        until(lambda: len(upstream.received) == 1, "the first one is there")
        second.request("POST", RUNS, fields(**({"exp": ends} if what == "token" else {})), b"{}")
        until(lambda: proxy.metric(r"^dagward_exchanges\b") == 2, "the second one waits")
        if what != "binding":
            past(ends + 0.5)
        else:
            proxy.reload(policy={**RULES, "bindings": [b for b in RULES["bindings"] if "operator" not in b["roles"]], "tests": []})
        go.set()
        assert first.answer().status == status
        assert second.answer().status == (401 if what == "token" else 403)
    sent = lambda: len([r for r in upstream.received if r.target.startswith(RUNS)])  # the run is tagged, too
    assert sent() == 1
    if what != "token":
        proxy.reload(policy={**RULES, "tests": []})
    again = proxy.ask("POST", RUNS, None, fields(), b"{}")
    assert again.status == 200 and (again["Idempotent-Replayed"] == "true") == (status == 200)
    assert sent() == (1 if status == 200 else 2)
