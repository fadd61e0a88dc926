"""Names of upstream that change, fail and come back: followed without a restart, never waited for by a request."""
import pytest

from kit.policies import POLICY
from kit.proxy import Proxy
from kit.upstreams import message
from kit.waiting import BINARY, sanitizer, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
RESOLVER = BINARY.parent / "libdagward_resolver.so"

class Names:
    """What azure.test resolves to."""

    def __init__(self, file):
        self.file = file
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")

    def say(self, *addresses):
        line = ("azure.test " + " ".join(addresses) + "\n").encode()
        with open(self.file, "r+b") as file:
            file.write(line.ljust(200, b"\n"))


@pytest.fixture
def named(tmp_path, issuer, at, monkeypatch):
    """Starts a proxy whose upstream is a name; (proxy, names)."""
    if sanitizer() != "none":
        pytest.skip("a sanitizer's runtime must be the first library: no resolver can be preloaded")
    if not RESOLVER.exists():
        pytest.skip("%s was not built" % RESOLVER)
    started = []

    def start(*addresses, ready=True, **upstream):
        folder = tmp_path / "named"
        names = Names(folder / "hosts")
        names.say(*addresses)
        upstream = {"hosts": {"*": "http://azure.test:%d" % at.port}, "insecure": True, "timeouts": {"connect": "2s", "attempt": "300ms"}, **upstream}
        proxy = Proxy(folder, [issuer.config()], POLICY, upstream, workers=1)
        started.append(proxy)
        with monkeypatch.context() as environment:
            environment.setenv("LD_PRELOAD", str(RESOLVER))
            environment.setenv("DAGWARD_HOSTS_FILE", str(names.file))
            proxy.start(ready=ready)
        return proxy, names

    yield start
    for proxy in started:
        try:
            proxy.stop()
        finally:
            proxy.kill()


def test_a_name_that_moves_is_followed_without_a_restart(named, at, operator):
    old, new = at("127.0.0.1"), at("127.0.0.2")
    proxy, names = named("127.0.0.1", resolve="1s")
    assert proxy.ask("GET", RUNS, operator).status == 200 and len(old.received) == 1
    names.say("127.0.0.2")
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200 and new.received, "requests go to the new address")
    until(lambda: not old.open, "the connection to the old one is closed")
    asked = len(old.received)
    for _ in range(5):
        assert proxy.ask("GET", RUNS, operator).status == 200
    assert len(old.received) == asked


def test_a_name_that_moves_is_looked_up_when_its_address_fails(named, at, operator):
    old, new = at("127.0.0.1"), at("127.0.0.2")
    proxy, names = named("127.0.0.1", resolve="1h")
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it is connected to, however slowly")
    names.say("again")  # the round that is made soon after the first one finds nothing
    until(lambda: proxy.metric(r"^dagward_name_failures_total") > 0, "the second round")
    names.say("127.0.0.2")
    old.stop_listening()
    old.hang_up()
    until(lambda: proxy.ask("POST", RUNS, operator, body=b"{}").status == 200, "the new address is found")
    assert [r.method for r in new.received] == ["POST"]


def test_while_names_cannot_be_resolved_the_last_addresses_are_used(named, at, operator):
    upstream = at("127.0.0.2")
    proxy, names = named("127.0.0.2", resolve="1s")
    assert proxy.ask("GET", RUNS, operator).status == 200
    for answer in (["again"], []):
        failures = proxy.metric(r"^dagward_name_failures_total")
        names.say(*answer)
        until(lambda: proxy.metric(r"^dagward_name_failures_total") > failures + 1, "look-ups fail")
        upstream.hang_up()
        assert proxy.ask("GET", RUNS, operator).status == 200
    assert "keeping the old addresses" in proxy.log()


def test_what_an_old_connection_does_is_held_against_its_own_address(named, at, operator):
    """The name has another first address now, and the connection is to what was the second one and still is there."""
    gone, ill, well = at("127.0.0.1"), at("127.0.0.2"), at("127.0.0.3")
    proxy, names = named("127.0.0.1", "127.0.0.2", resolve="1s", ejection={"failures": 1, "time": "60s", "most": "60s"})
    gone.stop_listening()
    gone.hang_up()
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200 and ill.received, "the second address serves")
    until(lambda: proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') == 1, "the first is known to be ill")
    names.say("127.0.0.2", "127.0.0.3", "127.0.0.4")
    until(lambda: proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') == 0, "the worker knows the new addresses")
    ill.always = message(503, "")
    assert proxy.ask("GET", RUNS, operator).status == 503
    until(lambda: [e["event"]["detail"]["address"] for e in proxy.events("upstream.ejected")] == ["127.0.0.1", "127.0.0.2"], "it is ejected")
    assert proxy.ask("GET", RUNS, operator).status == 200 and well.received


def test_before_the_name_is_known_requests_are_503(named, at, operator):
    at("127.0.0.1")
    proxy, names = named("again", ready=False, resolve="1s")
    answer = until(lambda: (lambda a: a if a.status == 503 else None)(proxy.ask("GET", RUNS, operator)), "the listener is there")
    assert answer["Retry-After"] == "5" and proxy.admin_get("/readyz").status_code == 503
    assert proxy.outcome(answer)["decision"]["effect"] == "error"
    names.say("127.0.0.1")
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "the name is known")


def test_families_take_turns_and_dead_ones_are_passed_over(named, at, operator):
    """Four that refuse, two families, and one that works at the end."""
    upstream = at("::1")
    proxy, _ = named("127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "::1")
    answer = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert answer.status == 200 and len(upstream.received) == 1
    # What refuses at once may not even count as an attempt; what is certain: ::1 came second.
    assert proxy.outcome(answer)["upstream"]["attempts"] <= 2
