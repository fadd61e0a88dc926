"""The life of tokens: expiries under load, an authority that is away, answers that are none, files that change, proxies of the environment.

DAGWARD_EXPIRIES is how many tokens of five seconds must end under load; 20 by default, 1,000 for a night (ten minutes).
"""
import base64
import os
import threading
import time
import urllib.parse
import uuid

import pytest

from kit.azure import APP, TENANT, Tenant, aadsts
from kit.policies import POLICY
from kit.upstreams import SIGN_IN_CHALLENGE, message
from kit.waiting import seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
EXPIRIES = int(os.environ.get("DAGWARD_EXPIRIES", "20"))
CREDENTIALS = 10


@pytest.fixture
def tenant():
    tenant = Tenant()
    yield tenant
    tenant.close()


@pytest.fixture
def credential(tenant, tmp_path):
    (tmp_path / "secret").write_text(tenant.secret())
    return {"name": "etl", "type": "client_secret", "tenant": TENANT, "client_id": APP, "authority": tenant.entra.url, "secret_file": str(tmp_path / "secret")}


@pytest.fixture
def serve(start_proxy, issuer, upstream, credential):
    def start(*more_credentials, **more):
        return start_proxy([issuer.config()], POLICY, upstream.url, credentials=[credential, *more_credentials], **more)

    return start


class Load:
    """Callers that never stop asking. `failed` is everything but 200."""

    def __init__(self, proxy, token, callers=4):
        self.failed, self.asked, self.stopped = [], 0, False
        self.threads = [threading.Thread(target=self.run, args=(proxy, token), daemon=True) for _ in range(callers)]
        for thread in self.threads:
            thread.start()

    def run(self, proxy, token):
        while not self.stopped:
            answer = proxy.ask("GET", RUNS, token)
            self.asked += 1
            if answer.status != 200:
                self.failed.append((answer.status, answer.text))
            time.sleep(0.01)

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("workers", [2, 8])
def test_expiries_under_load_are_seen_by_nobody(start_proxy, issuer, tenant, upstream, credential, tmp_path, workers):
    """One request for a token in each life of each credential, and no request of a caller that fails."""
    tenant.lifetime = 5
    names = ["etl-%d" % i for i in range(CREDENTIALS)]
    credentials = [{**credential, "name": name, "client_id": str(uuid.uuid4()), "secret_file": str(tmp_path / name)} for name in names]
    for each in credentials:
        tenant.apps[each["client_id"]] = {**tenant.apps[APP], "secrets": {}}
        (tmp_path / each["name"]).write_text(tenant.secret(each["client_id"]))
    bindings = [{"name": name, "callers": {"issuer": "airflow", "subject": name}, "roles": ["operator"], "credential": name} for name in names]
    lent, lent_late = set(), []

    def checked(sock, request):
        """As Azure DevOps does it: what has ended is refused. The proxy would mend that, so it is counted."""
        token = tenant.known(request["Authorization"].partition("Bearer ")[2])
        lent.add(token["token"])
        upstream.received.clear()  # a night's would not fit
        if time.monotonic() < token["until"]:
            return message(200, "{}")
        lent_late.append(request["Authorization"])
        return SIGN_IN_CHALLENGE

    upstream.always = checked
    proxy = start_proxy([issuer.config()], {**POLICY, "bindings": bindings}, upstream.url, credentials=credentials, workers=workers)
    loads = [Load(proxy, issuer.mint(name), callers=1) for name in names]
    until(lambda: len(tenant.issued) > EXPIRIES + CREDENTIALS, lambda: "%d tokens" % len(tenant.issued), within=EXPIRIES / CREDENTIALS * 5 + 20, every=0.1)
    given = len(tenant.given())
    for load in loads:
        load.stop()
    assert not lent_late and not any(load.failed for load in loads)
    assert sum(load.asked for load in loads) > EXPIRIES
    for each in credentials:
        times = [asked["at"] for asked in tenant.entra.asked if each["client_id"].encode() in asked["body"]]
        gaps = sorted(b - a for a, b in zip(times, times[1:]))
        assert gaps and gaps[0] > 0.3 * tenant.lifetime, "two requests within one life: %s" % gaps[:5]
    assert len(lent) >= 0.95 * given - CREDENTIALS, "but for callers that were held up, each token has been lent"


def test_two_credentials_renew_each_by_itself(serve, tenant, upstream, operator, publisher, credential, start_proxy, issuer):
    import json
    tenant.lifetime = 2
    policy = json.loads(json.dumps(POLICY))
    policy["bindings"][1]["credential"] = "other"
    proxy = start_proxy([issuer.config()], policy, upstream.url, credentials=[credential, {**credential, "name": "other"}])
    load = Load(proxy, operator, 2)
    until(lambda: len(tenant.issued) >= 12, "both are renewed", within=40, every=0.1)
    load.stop()
    assert load.failed == []
    names = {line.split("name=")[1].split()[0] for line in proxy.log().splitlines() if "generation=" in line and "credential name=" in line}
    assert names == {"etl", "other"}


def test_an_authority_that_is_away_for_more_than_half_a_life(serve, tenant, upstream, operator):
    tenant.lifetime = 6
    proxy = serve()
    load = Load(proxy, operator, 2)
    until(lambda: len(tenant.issued) >= 2, "it has been renewed once", within=20)
    tenant.entra.always = (503, b"down", [("Content-Type", "text/plain")])
    until(lambda: len(proxy.events("credential.refresh_failed")) == 1, "a renewal fails", within=20)
    time.sleep(1)
    assert load.failed == [], "nothing is visible while the old token lives"
    until(lambda: load.failed, "the token ends", within=20)
    load.stop()
    began = time.monotonic()
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 503 and time.monotonic() - began < seconds(10), "within the bound"
    assert "credential" in answer.text
    assert {status for status, _ in load.failed} == {503}
    assert "the token endpoint answered 503" in proxy.log()
    assert "the token endpoint answered 503" in proxy.admin_get("/readyz").text and proxy.admin_get("/readyz").status_code == 503
    failures = proxy.log().count("credential name=etl failed")
    tenant.entra.always = None
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it recovers", within=30, every=0.1)
    assert proxy.log().count("credential name=etl failed") <= failures + 1, "within one step of the back-off"
    until(lambda: proxy.events("credential.refresh_recovered"), "the log tells of it")


def test_the_start_does_not_wait_for_Azure_and_readiness_does(serve, tenant, operator):
    held = threading.Event()

    def hold(handler):
        held.wait(8)
        handler.say(500, b"")

    tenant.entra.behave.append(hold)
    began = time.monotonic()
    proxy = serve(ready=False)
    assert time.monotonic() - began < seconds(5)
    assert proxy.admin_get("/healthz").status_code == 200 and proxy.admin_get("/readyz").status_code == 503
    held.set()
    until(proxy.is_ready, "it gets ready", within=15)


def drip(handler):
    """An answer that never ends, a byte at a time."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n")
        for _ in range(300):
            handler.wfile.write(b"{")
            time.sleep(0.1)
    except OSError:
        pass
    handler.close_connection = True


def hang_up(handler):
    handler.close_connection = True


def refused(code, error, status=400):
    answer = aadsts(code, error, status)
    return answer.status, answer.body, answer.fields


BAD = {
    "html": ((200, b"<html>secret", [("Content-Type", "text/html")]), "an HTML page: is a proxy of the network in between?"),
    "an error with status 200": ((200, {"error": "server_error"}), "no access_token"),
    "a huge body": ((200, b"{" + b" " * 300_000), "longer than 131072 bytes"),
    "no expires_in": ((200, {"token_type": "Bearer", "access_token": "x"}), "no usable expires_in"),
    "another kind of token": ((200, {"token_type": "pop", "access_token": "x", "expires_in": 60}), "not a bearer token"),
    "a token that is a header": ((200, {"access_token": "x\r\nX-A: b", "expires_in": 60}), "cannot stand in a header"),
    "nothing": ((200, b""), "not a JSON object"),
    "a redirect": ((307, b"", [("Location", "http://127.0.0.1:9/")]), "answered 307"),
    "no answer": (hang_up, "credential etl: "),
    "a slow drip": (drip, "credential etl: "),
    "throttling": ((429, {}, [("Retry-After", "2")]), "answered 429"),
    "an outage": (refused(90033, "temporarily_unavailable", 503), "AADSTS90033 temporarily_unavailable: Entra is unavailable"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_answer_takes_no_token_away(serve, tenant, operator, what):
    """At the first renewal; the old token serves, and the next attempt is a good one."""
    canned, says = BAD[what]
    tenant.lifetime = 30 if canned is drip else 8
    tenant.refresh_in = 2
    proxy = serve()
    assert proxy.ask("GET", RUNS, operator).status == 200
    # A reused connection that dies is tried anew, without a word.
    tenant.entra.behave += [canned] * (2 if canned is hang_up else 1)
    until(lambda: "failed usable=yes" in proxy.log(), "the renewal fails", within=25)
    assert says in proxy.log() and proxy.ask("GET", RUNS, operator).status == 200
    until(lambda: proxy.events("credential.refresh_recovered"), "the next one works", within=20)
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert proxy.admin_get("/readyz").status_code == 200


def test_numbers_may_be_text_and_refresh_in_is_obeyed(serve, tenant, operator):
    tenant.as_text, tenant.refresh_in, tenant.lifetime = True, 2, 3599
    proxy = serve()
    until(lambda: len(tenant.issued) >= 3, "it is renewed when Entra says so", within=20)
    assert proxy.ask("GET", RUNS, operator).status == 200


def test_a_secret_is_rotated_without_a_restart(serve, tenant, operator, tmp_path):
    tenant.lifetime = 3
    serve()
    fresh = tenant.secret()
    (tmp_path / "secret.new").write_text(fresh)
    os.replace(tmp_path / "secret.new", tmp_path / "secret")
    until(lambda: tenant.issued[-1]["how"] == "secret " + fresh, "the new secret is sent", within=15)


def test_a_redirect_takes_no_secret_elsewhere(serve, tenant, operator):
    elsewhere = Tenant()
    tenant.entra.always = (307, b"", [("Location", elsewhere.entra.url + "/%s/oauth2/v2.0/token" % TENANT)])
    proxy = serve(ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert elsewhere.entra.asked == []
    elsewhere.close()


def test_proxies_of_the_environment_see_nothing(serve, tenant, operator, monkeypatch):
    trap = Tenant()
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    for name in names:
        monkeypatch.setenv(name, trap.entra.url)
    identity = {"name": "machine", "type": "managed_identity", "source": "imds", "endpoint": tenant.imds.url}
    proxy = serve(identity, ready=False)
    for name in names:  # this process asks the proxy with a library that heeds them
        monkeypatch.delenv(name)
    until(proxy.is_ready, "it is ready", within=15)
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert len(tenant.imds.asked) == 1 and trap.entra.asked == []
    trap.close()


def test_a_reload_costs_no_token(serve, tenant, operator):
    proxy = serve()
    for _ in range(3):
        proxy.reload()
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert len(tenant.entra.asked) == 1


def test_a_stranger_tenant_is_an_error_that_stops_early(serve, tenant, operator, credential):
    credential["tenant"] = "99999999-9999-9999-9999-999999999999"
    proxy = serve(ready=False)
    for _ in range(5):
        answer = proxy.ask("GET", RUNS, operator)
        assert answer.status == 503
    assert len(tenant.entra.asked) == 1, "what somebody has to change is not asked for again and again"
    assert 'AADSTS90002 invalid_request' in proxy.log() and "99999999-9999" in proxy.log()


@pytest.mark.parametrize("what, words", [
    ("unknown", "Microsoft Entra refused: AADSTS700016 (the application is not in this tenant), since 2"),
    ("new", "Microsoft Entra refused: AADSTS999999, since 2"),
    ("ill", "Microsoft Entra answered 503, since 2"),
    ("html", "Microsoft Entra answered with something else than a token, since 2"),
    ("away", "Microsoft Entra is unreachable, since 2"),
    ("no file", "a file that it is obtained with cannot be read, since 2"),
])
def test_503_says_whose_fault_it_is(serve, tenant, operator, credential, tmp_path, what, words):
    answers = {"unknown": aadsts(700016, "unauthorized_client"), "new": aadsts(999999, "invalid_request"), "ill": None, "html": None}
    if what == "away":
        tenant.entra.down()
    elif what in ("ill", "no file"):
        tenant.entra.always = (503, {"error": "temporarily_unavailable"})
    elif what == "html":
        tenant.entra.always = (200, b"<html>", [("Content-Type", "text/html")])
    elif what in answers:
        tenant.entra.always = (answers[what].status, answers[what].body)
    proxy = serve(ready=False)
    until(lambda: proxy.events("credential.refresh_failed"), "it fails")
    if what == "no file":
        (tmp_path / "secret").unlink()
        until(lambda: "No such file" in proxy.log(), "its file is missed")
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 503 and words in answer.text, answer.text
    reason = proxy.outcome(answer)["decision"]["reason"]
    assert words in reason and proxy.outcome(answer)["decision"]["effect"] == "error"
    for secret in (TENANT, APP, "secret", str(tmp_path), tenant.entra.url, "trace_id"):
        assert secret not in answer.text and secret not in reason, "an outsider learns " + secret


WANTED = '{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}'


def wants_claims(claims=WANTED):
    """Continuous Access Evaluation: upstream takes no token that was evaluated before."""
    encoded = base64.b64encode(claims.encode()).decode()
    return message(401, "", [("WWW-Authenticate", "Basic realm=\"x\""), ("X-VSS-UserData", "id:somebody"), ("WWW-Authenticate",
                             'Bearer authorization_uri="https://login.microsoftonline.com/t", error="insufficient_claims", claims="%s"' % encoded)])


def claims_of(asked):
    return urllib.parse.parse_qs(asked["body"].decode()).get("claims")


@pytest.mark.parametrize("whose", ["the proxy's", "the caller's"])
def test_claims_that_upstream_wants_go_into_the_next_token(serve, tenant, upstream, operator, credential, issuer, start_proxy, whose):
    if whose == "the caller's":
        tenant.apps[APP]["federated"].append({"issuer": issuer.url, "subject": "operator-1", "audience": "dagward"})
        own = {"name": "etl", "type": "federated", "assertion": "caller", "tenant": TENANT, "client_id": APP, "authority": tenant.entra.url}
        # Each worker keeps what it lent: another one would begin with the older token.
        proxy = start_proxy([issuer.config()], POLICY, upstream.url, credentials=[own], workers=1)
    else:
        proxy = serve()
    assert proxy.ask("GET", RUNS, operator).status == 200
    upstream.tell(wants_claims())
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert [claims_of(a) for a in tenant.entra.asked] == [None, [WANTED]]
    assert upstream.received[-1]["Authorization"] != upstream.received[-2]["Authorization"]
    upstream.tell(wants_claims())
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502 and answer["WWW-Authenticate"] is None, "once in a minute"
    assert len(tenant.entra.asked) == 2 and "1604106651" not in proxy.log() + answer.text


@pytest.mark.parametrize("claims", ["x" * 4000, '{"a":"%s"}' % ("x" * 1100), "[1]", "{", '{"a":1,"a":2}'],
                         ids=["long", "longer than claims are", "a list", "cut off", "twice"])
def test_claims_that_are_none_are_left_out(serve, tenant, upstream, operator, claims):
    proxy = serve()
    upstream.tell(wants_claims(claims))
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert [claims_of(a) for a in tenant.entra.asked] == [None, None]
