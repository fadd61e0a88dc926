"""What one caller, one address and all together may take, and what who is over it sees."""
import json
import threading
import time

import pytest

from kit import upstreams, wire
from kit.policies import POLICY
from kit.waiting import seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
BUILDS = "/contoso/analytics/_apis/build/builds"
FETCH = "/contoso/analytics/_git/dags/git-upload-pack"


@pytest.fixture
def start(start_proxy, issuer, upstream):
    def start(limits, workers=2, **settings):
        more = settings.pop("upstream", {})
        return start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}, **more}, workers=workers, limits=limits, **settings)

    return start


def token(issuer, name, role="operator"):
    return issuer.mint(name, roles=[role])


def bearer(token):
    return ("Authorization", "Bearer " + token)


class Held:
    """Requests that upstream lets wait until it is told otherwise."""

    def __init__(self, upstream):
        self.go, self.upstream = threading.Event(), upstream
        upstream.always = self.answer

    def answer(self, sock, request):
        self.go.wait(seconds(60))
        return upstreams.Upstream.standard(sock, request)

    def begin(self, proxy, n, token, method="GET", target=RUNS, fields=()):
        before = len(self.upstream.received)
        clients = []
        for _ in range(n):
            clients.append(proxy.connect())
            clients[-1].request(method, target, [bearer(token), *fields])
        until(lambda: len(self.upstream.received) >= before + n, "the requests reach upstream")
        return clients

    def end(self, *clients):
        self.go.set()
        for client in clients:
            assert client.answer().status == 200
            client.close()


@pytest.fixture
def held(upstream):
    held = Held(upstream)
    yield held
    held.go.set()


def is_turned_away(proxy, source, within=5):
    try:
        with wire.Client(proxy.port, source=source) as client:
            return client.is_closed(within)
    except ConnectionError:
        return True  # the reset came before connect had returned


def is_taken(proxy, source):
    return not is_turned_away(proxy, source, within=0.3)


# --- rates ---

def test_a_caller_over_its_rate_is_told_when_to_come_again_and_others_notice_nothing(start, issuer):
    proxy = start({"rate": {"requests": 30, "per": "1m", "burst": 3}})  # one in 2 s
    noisy, quiet = token(issuer, "noisy"), token(issuer, "quiet")
    told = [proxy.ask("GET", RUNS, noisy) for _ in range(4)]
    assert [a.status for a in told] == [200, 200, 200, 429]
    assert told[3]["Retry-After"] in ("1", "2") and "noisy has sent more than its 30 requests in 60 s" in told[3].text
    record = proxy.outcome(told[3])
    assert record["decision"]["effect"] == "deny" and "its 30 requests" in record["decision"]["reason"]
    assert "rule" not in record["decision"] and record["caller"]["subject"] == "noisy" and "upstream" not in record
    assert proxy.ask("GET", "/", noisy).status == 429  # whatever it asks for, on whichever worker
    assert [proxy.ask("GET", RUNS, quiet).status for _ in range(3)] == [200] * 3
    assert proxy.ask("GET", RUNS, token(issuer, "noisy")).status == 429  # another token is no other caller
    until(lambda: proxy.ask("GET", RUNS, noisy).status == 200, "it comes back")
    assert proxy.metric(r'refusals_total\{reason="rate"\}') >= 3


def test_changes_may_have_a_rate_of_their_own(start, issuer):
    proxy = start({"rate": {"requests": 600, "writes": {"requests": 2, "per": "1h"}}})
    operator = token(issuer, "both")
    assert [proxy.ask("POST", RUNS, operator, body=b"{}").status for _ in range(3)] == [200, 200, 429]
    refused = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert int(refused["Retry-After"]) > 1000 and "2 changing requests in 3600 s" in refused.text
    assert [proxy.ask("GET", RUNS, operator).status for _ in range(5)] == [200] * 5


def test_a_rate_by_role_is_shared_by_its_callers(start, issuer):
    proxy = start({"rate": {"requests": 2, "per": "1h", "by": "role"}})
    assert [proxy.ask("GET", RUNS, token(issuer, name)).status for name in ("a", "b", "c")] == [200, 200, 429]
    assert proxy.ask("GET", "/contoso/_apis/projects", token(issuer, "a", "reader")).status == 200
    assert proxy.ask("GET", RUNS, token(issuer, "a", "reader")).status == 403  # what is denied costs the role nothing


def test_a_body_of_who_is_over_the_rate_is_not_waited_for(start, issuer, upstream):
    proxy = start({"rate": {"requests": 1, "per": "1h"}})
    operator = token(issuer, "one")
    assert proxy.ask("GET", RUNS, operator).status == 200
    with proxy.connect() as client:
        client.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: 9000\r\n\r\n" % (RUNS, operator))
        answer = client.answer()  # not a byte of the body has been sent
        assert answer.status == 429 and answer["Connection"] == "close"
        assert client.is_closed()
    with proxy.connect() as client:  # one that is here already costs no connection
        assert [client.ask("POST", RUNS, [bearer(operator)], b"{}").status for _ in range(3)] == [429] * 3
    assert len(upstream.received) == 1


def test_a_reload_changes_rates_and_who_is_counted(start, issuer):
    proxy = start({"rate": {"requests": 1, "per": "1h"}})
    operator = token(issuer, "one")
    assert [proxy.ask("GET", RUNS, operator).status for _ in range(2)] == [200, 429]
    proxy.config["limits"] = {}
    proxy.reload()
    assert proxy.ask("GET", RUNS, operator).status == 200


# --- requests of one caller at once ---

def test_one_caller_has_so_many_requests_under_way_and_the_others_have_theirs(start, issuer, held):
    proxy = start({"requests_per_identity": 3})
    noisy, quiet = token(issuer, "noisy"), token(issuer, "quiet")
    clients = held.begin(proxy, 3, noisy)
    refused = proxy.ask("GET", RUNS, noisy)
    assert refused.status == 429 and refused["Retry-After"] == "1" and "as many requests under way" in refused.text
    assert proxy.outcome(refused)["decision"]["effect"] == "deny"
    others = held.begin(proxy, 2, quiet)
    held.end(*clients, *others)
    until(lambda: proxy.ask("GET", RUNS, noisy).status == 200, "what has ended counts no more")
    assert proxy.metric(r'refusals_total\{reason="concurrency"\}') == 1


def test_who_hangs_up_is_not_counted_any_more(start, issuer, held):
    proxy = start({"requests_per_identity": 2})
    operator = token(issuer, "one")
    for client in held.begin(proxy, 2, operator):
        client.close()
    held.go.set()
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "a place is free again")


def test_clones_leave_room_for_the_short_requests_of_the_same_caller(start, issuer, held):
    proxy = start({"requests_per_identity": 4})
    publisher = token(issuer, "git", "publisher")
    kind = [("Content-Type", "application/x-git-upload-pack-request")]
    clones = held.begin(proxy, 3, publisher, "POST", FETCH, kind)
    refused = proxy.ask("POST", FETCH, publisher, kind)
    assert refused.status == 429 and refused["Content-Type"].startswith("text/plain") and "three quarters" in refused.text
    assert proxy.ask("GET", "/", publisher).status == 200
    held.end(*clones)


# --- connections ---

def test_an_address_has_so_many_connections_and_another_has_its_own(start, issuer):
    proxy = start({"connections_per_address": 3})
    operator = token(issuer, "one")
    clients = [wire.Client(proxy.port, source="127.0.0.2") for _ in range(3)]
    for client in clients:
        assert client.ask("GET", "/", [bearer(operator)]).status == 200
    assert is_turned_away(proxy, "127.0.0.2")
    assert is_taken(proxy, "127.0.0.3")
    clients[0].close()
    until(lambda: is_taken(proxy, "127.0.0.2"), "who hangs up leaves a place")
    for client in clients[1:]:
        assert client.ask("GET", "/", [bearer(operator)]).status == 200
        client.close()
    assert proxy.metric(r'connections_refused_total\{reason="address"\}') >= 1
    until(lambda: proxy.events("limits.reached"), "the log says so")
    assert int(proxy.events("limits.reached")[0]["event"]["detail"]["connections_over_address"]) >= 1


def test_who_stands_for_many_is_trusted_with_more(start):
    proxy = start({"connections_per_address": 2, "trusted_addresses": ["127.0.0.2/31"]})
    for source in ("127.0.0.2", "127.0.0.3"):
        clients = [wire.Client(proxy.port, source=source) for _ in range(3)]
        assert not any(client.is_closed(within=0.2) for client in clients)
        for client in clients:
            client.close()
    kept = [wire.Client(proxy.port, source="127.0.0.4") for _ in range(2)]
    until(lambda: proxy.metric(r"^dagward_client_connections\b") == 2, "they were taken, by whichever worker, and the others are gone")
    assert is_turned_away(proxy, "127.0.0.4")
    for client in kept:
        client.close()


def test_strangers_make_room_and_then_who_rests_but_never_who_is_served(start, issuer, held):
    """Eight connections in all: two that are served, two that rest, and then four strangers after another four."""
    proxy = start({"connections": 8, "connections_per_address": 100}, workers=1)
    operator = token(issuer, "one")
    served = held.begin(proxy, 2, operator)
    resting = [proxy.connect() for _ in range(2)]
    for client in resting:
        assert client.ask("GET", "/", [bearer(operator)]).status == 200
    first = [proxy.connect() for _ in range(4)]
    first[1].send("GET / HTTP/1.1\r\nHost: slow")
    first[2].send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x.y.z\r\n\r\n")
    assert first[2].answer().status == 401  # a bad token makes nobody known
    second = [proxy.connect() for _ in range(4)]
    assert all(client.is_closed() for client in first)
    for client in resting:
        assert client.ask("GET", "/", [bearer(operator)]).status == 200
    for client in second:
        assert client.ask("GET", "/", [bearer(operator)]).status == 200
    late = proxy.connect()  # nobody is a stranger now
    assert late.ask("GET", "/", [bearer(operator)]).status == 200
    assert resting[0].is_closed() and not resting[1].is_closed(within=0.2)
    held.end(*served)
    assert proxy.metric(r'evicted_total\{which="stranger"\}') == 4
    assert proxy.metric(r'evicted_total\{which="idle"\}') == 1
    for client in (*resting, *first, *second, late):
        client.close()


def test_when_all_are_being_served_who_comes_is_turned_away(start, issuer, held):
    proxy = start({"connections": 2}, workers=1)
    operator = token(issuer, "one")
    served = held.begin(proxy, 2, operator)
    assert is_turned_away(proxy, "127.0.0.1")
    held.end(*served)
    until(lambda: is_taken(proxy, "127.0.0.1"), "there is room again")
    assert proxy.metric(r'connections_refused_total\{reason="full"\}') >= 1


# --- shedding ---

def test_what_cannot_be_served_is_refused_at_its_head(start, issuer, upstream, held):
    """One upstream connection, which is in use: nobody is asked for a body in vain."""
    proxy = start({}, workers=1, upstream={"connections": 1})
    first, second = token(issuer, "first"), token(issuer, "second")
    served = held.begin(proxy, 1, first)
    with proxy.connect() as client:
        client.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: 9000\r\n\r\n"
                    % (RUNS, second))
        answer = client.answer()
        assert answer.status == 503 and answer.informational == [] and answer["Retry-After"] == "1" and answer["Connection"] == "close"
        assert "typeKey" in answer.text and client.is_closed()
    assert proxy.outcome(answer)["decision"]["effect"] == "deny"
    with proxy.connect() as client:
        assert [client.ask("GET", RUNS, [bearer(second)]).status for _ in range(2)] == [503] * 2
        held.end(*served)
        until(lambda: client.ask("GET", RUNS, [bearer(second)]).status == 200, "there is room again")
    assert proxy.metric(r'refusals_total\{reason="overload"\}') >= 3
    assert all(r.body.size == 0 for r in upstream.received)


def body_to_come(proxy, token, length):
    """A request whose body has to be read, and does not come yet."""
    client = proxy.connect()
    client.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
                "Content-Length: %d\r\n\r\n" % (BUILDS, token, length))
    return client


def test_bodies_that_are_read_to_decide_have_their_memory_set_aside(start, issuer):
    """Requests of which each may take 1 MB of 8 MiB: those that are let in are read to their end."""
    proxy = start({"memory": "8MiB"}, workers=1)
    body = b'{"definition": {"id": 42}, "x": "' + b"x" * 1000000 + b'"}'
    names = ("one", "two", "three", "four")
    clients = [body_to_come(proxy, token(issuer, name), len(body)) for _ in range(4) for name in names]
    until(lambda: proxy.metric(r"^dagward_memory_bytes ") > 6 << 20, "the memory is in use")
    refused = proxy.outcomes(response_status=503)
    with body_to_come(proxy, token(issuer, "one"), len(body)) as client:
        answer = client.answer()
        assert answer.status == 503 and answer["Connection"] == "close"
    assert proxy.ask("GET", RUNS, token(issuer, "one")).status == 200  # what is small finds room
    statuses = []
    for client in clients:
        try:
            client.send(body)
            statuses.append(client.answer().status)
        except (OSError, wire.CutOff):
            statuses.append(503)  # it had its answer before
        client.close()
    assert 4 <= statuses.count(200) <= 8 and set(statuses) == {200, 503}, (statuses, len(refused))
    until(lambda: proxy.metric(r"^dagward_memory_bytes ") < 1 << 20, "all of it is given back")


def test_what_is_understood_of_requests_is_memory_too(start, issuer, held):
    """A body is let go when upstream has it; the names in it stay until the record of what came."""
    proxy, named = start({}, workers=1), 150_000
    body = json.dumps({"definition": {"id": 42}, "sourceBranch": "refs/heads/" + "m" * named}).encode()
    clients = []
    for _ in range(4):
        clients.append(proxy.connect())
        clients[-1].request("POST", BUILDS, [bearer(token(issuer, "one")), ("Content-Type", "application/json")], body)
    until(lambda: len(held.upstream.received) >= 4, "the requests reach upstream")
    until(lambda: proxy.metric(r"^dagward_memory_bytes ") > 4 * 2 * named, "bodies and names are counted")
    held.end(*clients)
    until(lambda: proxy.metric(r"^dagward_memory_bytes ") < named, "all of it is given back")


def test_one_callers_bodies_leave_memory_to_others(start, issuer):
    """However many it sends at once: it has half of 8 MiB, and what is free then is for others."""
    proxy = start({"memory": "8MiB"}, workers=1)
    body = b'{"definition": {"id": 42}, "x": "' + b"x" * 1000000 + b'"}'
    clients = [body_to_come(proxy, token(issuer, "one"), len(body)) for _ in range(12)]
    until(lambda: len(proxy.outcomes(response_status=503)) >= 8, "most of them are refused")
    others = [body_to_come(proxy, token(issuer, "other"), len(body)) for _ in range(2)]
    for client in others:
        client.send(body)
        assert client.answer().status == 200
        client.close()
    for client in clients:
        client.close()
    until(lambda: proxy.metric(r"^dagward_memory_bytes ") < 1 << 20, "all of it is given back")
    # Whatever it had does not count any more.
    with body_to_come(proxy, token(issuer, "one"), len(body)) as client:
        client.send(body)
        assert client.answer().status == 200


def test_slow_heads_make_room_before_anybody_is_refused(start, issuer):
    """150 strangers with 40 KB of a head each are more than the memory; a caller with a token finds room."""
    proxy = start({"memory": "8MiB"}, workers=1)
    operator = token(issuer, "one")
    before = proxy.resident_kib()
    clients = []
    for _ in range(150):
        clients.append(proxy.connect())
        clients[-1].send("GET / HTTP/1.1\r\nHost: a\r\nX-A: " + "a" * 20000 + "\r\nX-B: " + "b" * 20000)
    began = time.monotonic()
    assert [proxy.ask("GET", RUNS, operator).status for _ in range(10)] == [200] * 10
    assert time.monotonic() - began < seconds(5)
    assert proxy.metric(r"^dagward_memory_bytes ") <= 9 << 20
    assert proxy.metric(r'evicted_total\{which="stranger"\}') > 40
    print("heads: RSS %d KiB before, %d after" % (before, proxy.resident_kib()))
    for client in clients:
        client.close()
