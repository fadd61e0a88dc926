"""A wall clock that jumps by an hour while the proxy runs: nothing crashes, nothing opens, nothing is lost, and all heals by itself."""
import base64
import json
import subprocess
import time

import pytest

from kit import secrets
from kit.azure import APP, TENANT, Tenant
from kit.clock import Clock
from kit.policies import POLICY
from kit.upstreams import message
from kit.waiting import BINARY, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
HOUR = 3600


@pytest.fixture
def clock(tmp_path, monkeypatch):
    return Clock(tmp_path / "clock", monkeypatch)


@pytest.fixture
def tenant():
    tenant = Tenant()
    yield tenant
    tenant.close()


@pytest.fixture
def served(clock, start_proxy, issuer, upstream, tenant, tmp_path):
    """A proxy under that clock, with tokens of an hour."""
    (tmp_path / "secret").write_text(tenant.secret())
    credential = {"name": "etl", "type": "client_secret", "tenant": TENANT, "client_id": APP, "authority": tenant.entra.url,
                  "secret_file": str(tmp_path / "secret")}

    def start(**settings):
        with clock:
            return start_proxy([issuer.config()], POLICY, upstream.url, **{"credentials": [credential], **settings})

    return start


def asks(tenant):
    return len(tenant.entra.asked)


def forever(issuer):
    """A token that is good whatever the clock says within a day."""
    return issuer.mint("operator-1", roles=["operator"], iat=int(time.time()) - 5 * HOUR, exp=int(time.time()) + 10 * HOUR)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
def test_a_lent_token_goes_on_and_is_renewed(served, clock, tenant, issuer, by):
    proxy = served()
    caller = forever(issuer)
    assert proxy.ask("GET", RUNS, caller).status == 200
    before = asks(tenant)
    clock.set(by, proxy)
    for _ in range(5):
        assert proxy.ask("GET", RUNS, caller).status == 200
    event = proxy.the_event("clock.moved")
    assert event["event"]["detail"]["by_s"] in ["%+d" % (by + rounded) for rounded in (-1, 0, 1)]
    if by > 0:  # it may have been a machine that slept, whose token has ended
        until(lambda: asks(tenant) > before, "no new token was asked for")
    clock.set(0)
    assert proxy.ask("GET", RUNS, caller).status == 200
    assert proxy.admin_get("/readyz").status_code == 200
    assert asks(tenant) <= before + 2, "a jump is one renewal, not many"


def test_a_lent_token_ends_when_it_does(served, clock, tenant, upstream, issuer):
    """The authority is ill: what is lent ends neither sooner nor later than it would have."""
    tenant.lifetime = 6
    proxy = served()
    caller = forever(issuer)
    assert proxy.ask("GET", RUNS, caller).status == 200
    obtained = time.monotonic()
    tenant.entra.always = (503, {"error": "temporarily_unavailable"})
    clock.set(-HOUR)
    while time.monotonic() < obtained + 4:
        assert proxy.ask("GET", RUNS, caller).status == 200, "a good token was not lent"
        time.sleep(0.2)
    until(lambda: proxy.ask("GET", RUNS, caller).status == 503, "a token was lent beyond its end", within=15)
    tenant.entra.always = None
    until(lambda: proxy.ask("GET", RUNS, caller).status == 200, "it does not heal by itself", within=70)


def jwt(exp):
    part = lambda what: base64.urlsafe_b64encode(json.dumps(what).encode()).rstrip(b"=").decode()
    return secrets.upstream(part({"alg": "RS256"}) + "." + part({"exp": exp, "n": time.time()}) + ".c2lnbmF0dXJl")


def test_a_token_of_a_file_ends_when_it_did(served, clock, issuer, tmp_path):
    file = tmp_path / "lent"
    file.write_text(jwt(int(time.time()) + 5))
    proxy = served(credentials=[{"name": "etl", "type": "static_file", "file": str(file)}])
    caller = forever(issuer)
    assert proxy.ask("GET", RUNS, caller).status == 200
    clock.set(-HOUR)
    until(lambda: proxy.ask("GET", RUNS, caller).status == 503, "its life became longer", within=15)
    clock.set(0)
    file.write_text(jwt(int(time.time()) + 600))
    until(lambda: proxy.ask("GET", RUNS, caller).status == 200, "a new token is not taken")


def test_what_becomes_of_callers_tokens(served, clock, issuer):
    proxy = served(workers=1)
    known, short = issuer.mint("operator-1", roles=["operator"], iat=int(time.time()) - 2 * HOUR, exp=int(time.time()) + 4), issuer.mint("operator-2", roles=["operator"])
    began = time.monotonic()
    assert proxy.ask("GET", RUNS, known).status == 200 and proxy.ask("GET", RUNS, short).status == 200
    clock.set(-HOUR)
    assert proxy.ask("GET", RUNS, short).status == 200, "known, and not at its end"
    fresh = issuer.mint("operator-3", roles=["operator"])
    assert proxy.ask("GET", RUNS, fresh).status == 401, "of the future, by more than the skew"
    time.sleep(max(0, began + 5 - time.monotonic()))
    assert proxy.ask("GET", RUNS, known).status == 401, "it has ended, whatever the clock says"
    assert proxy.ask("GET", RUNS, known).status == 401, "and is not verified anew"
    clock.set(2 * HOUR)
    assert proxy.ask("GET", RUNS, short).status == 401
    clock.set(0)
    assert proxy.ask("GET", RUNS, short).status == 200 and proxy.ask("GET", RUNS, fresh).status == 200


def post(proxy, token, key):
    return proxy.ask("POST", RUNS, token, [("Idempotency-Key", key), ("Content-Type", "application/json")], b"{}")


def test_a_trigger_is_sent_once_all_the_same(served, clock, upstream, issuer):
    """Neither an hour that did not pass ends the window, nor does it make a run that was lost a minute ago one that never was."""
    proxy = served(idempotency={"window": "30m", "wait": "1s"})
    caller = forever(issuer)
    assert post(proxy, caller, "a").status == 200
    upstream.tell(None)
    assert post(proxy, caller, "b").status == 502
    sent = len([r for r in upstream.received if r.method == "POST"])
    upstream.always = lambda _, request: message(200, json.dumps({"count": 0, "value": []}))
    for by in (HOUR, -HOUR, 0):
        clock.set(by)
        again = post(proxy, caller, "a")
        assert again.status == 200 and again["Idempotent-Replayed"] == "true"
        lost = post(proxy, caller, "b")
        assert lost.status == 409 and 0 < int(lost["Retry-After"]) <= 121, (lost.status, lost.body)
    assert len([r for r in upstream.received if r.method == "POST"]) == sent


def test_the_log_stays_whole_and_signed(served, clock, issuer):
    proxy = served(audit={"checkpoints": {"interval": "1s"}, "rotate": {"age": "1h", "keep_for": "1d", "compress": False}})
    caller = forever(issuer)

    def closed():
        return sorted(proxy.folder.glob("audit.jsonl.2*"), key=lambda f: f.name.rsplit("-")[-1])

    def signed(correlation):
        """The record is there, and a signature behind it."""
        lines = [line for f in closed() + [proxy.audit_file] for line in f.read_text().splitlines() if line.endswith("}")]
        seqs = lambda mark: [json.loads(line)["seq"] for line in lines if mark in line]
        return seqs(correlation) and max(seqs('"name":"log.checkpoint"'), default=0) > max(seqs(correlation))

    for by in (0, HOUR, -HOUR, 0):
        clock.set(by)
        answer = proxy.ask("GET", RUNS, caller)
        assert answer.status == 200
        until(lambda: signed(answer.correlation), "no record, or no signature behind it, after a jump to %+d" % by)
    assert closed(), "an hour has passed by the clock of the log, and no file was closed"
    proxy.stop()  # else one more may be closed between the list and the look
    told = subprocess.run([BINARY, "audit", "verify", *closed(), proxy.audit_file], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
