"""Callers with an identity of their own: each one's token is the assertion, and what Entra gives for it is lent to nobody else.

DAGWARD_CALLERS is how many distinct callers pass through one proxy; 500 by default, 10,000 for a night (with
`-o faulthandler_timeout=0`, as that takes minutes).
"""
import json
import os
import random
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.azure import APP, TENANT, Tenant, aadsts
from kit.issuers import some_key
from kit.policies import POLICY
from kit.upstreams import SIGN_IN_PAGE, message
from kit.waiting import BINARY, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
CALLERS = int(os.environ.get("DAGWARD_CALLERS", "500"))


@pytest.fixture
def tenant():
    tenant = Tenant()
    yield tenant
    tenant.close()


@pytest.fixture
def credential(tenant):
    return {"name": "etl", "type": "federated", "assertion": "caller", "tenant": TENANT, "client_id": APP, "authority": tenant.entra.url}


@pytest.fixture
def serve(start_proxy, issuer, upstream, credential):
    def start(**more):
        return start_proxy([more.pop("issuer", issuer.config())], POLICY, upstream.url, credentials=[credential], **more)

    return start


@pytest.fixture
def caller(tenant, issuer):
    """A caller that Entra knows (unless `known` says otherwise), and its token."""

    def make(name, known=True, **claims):
        if known:
            tenant.apps[APP]["federated"].append({"issuer": issuer.url, "subject": name, "audience": "dagward"})
        return issuer.mint(name, roles=["operator"], **claims)

    return make


def who(tenant, issuer, received, issued=None):
    """The subject whose assertion got what an upstream request carried."""
    kind, token = received["Authorization"].split(" ")
    assert kind == "Bearer"
    how = (issued or by_token(tenant))[token]["how"]
    assert how.startswith("federated %s " % issuer.url)
    return how.rsplit(" ", 1)[1]


def by_token(tenant):
    return {issued["token"]: issued for issued in tenant.issued}


def hang_up(handler):
    handler.close_connection = True


def target_of(name):
    return RUNS + "?who=" + name


def check_nobody_is_another(tenant, issuer, upstream):
    """Each request says in its target whose it is, and carries what Entra gave for that one's token."""
    seen, issued = set(), by_token(tenant)
    for received in upstream.received:
        name = received.target.rsplit("=", 1)[1]
        assert who(tenant, issuer, received, issued) == name
        seen.add(name)
    return seen


def test_two_callers_are_two_identities(serve, tenant, issuer, upstream, caller):
    tokens = {name: caller(name) for name in ("etl-1", "etl-2")}
    proxy = serve()
    assert tenant.entra.asked == [], "nothing is asked for ahead"
    assert "ok   credential etl for each caller" in proxy.admin_get("/readyz").text
    for _ in range(3):
        for name, token in tokens.items():
            answer = proxy.ask("GET", target_of(name), token)
            assert answer.status == 200, answer.text
    assert proxy.outcome(answer)["credential"] == {"name": "etl", "type": "federated", "assertion": "caller"}
    assert check_nobody_is_another(tenant, issuer, upstream) == set(tokens)
    assert len(tenant.issued) == 2
    assert proxy.metric("^dagward_caller_exchanges_total ") == 2 and proxy.metric("^dagward_caller_credentials ") == 2
    assert proxy.metric("^dagward_caller_exchanges ") == 0 and proxy.metric("^dagward_caller_credentials_cached ") >= 2
    assert proxy.metric("^dagward_caller_credential_hits_total ") + proxy.metric("^dagward_caller_credential_misses_total ") == 6


def test_connections_shared_by_callers_share_no_identity(serve, tenant, issuer, upstream, caller):
    """Sixteen connections, each used by all of forty callers in turn, while tokens of Entra end."""
    tenant.lifetime = 2
    tokens = {"worker-%d" % i: caller("worker-%d" % i) for i in range(40)}
    proxy = serve()
    bad = []

    def run(seed):
        names = list(tokens)
        random.Random(seed).shuffle(names)
        with proxy.connect() as client:
            for name in names * 4:
                answer = client.ask("GET", target_of(name), [("Authorization", "Bearer " + tokens[name])])
                if answer.status != 200:
                    bad.append(answer.text)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(16)))
    assert bad == []
    assert len(upstream.received) == 16 * 40 * 4
    assert check_nobody_is_another(tenant, issuer, upstream) == set(tokens)


def test_one_exchange_for_fifty_first_requests(serve, tenant, issuer, upstream, caller):
    token = caller("etl-1")
    go = threading.Event()

    def slow(handler):
        go.wait(5)
        handler.say(200, tenant.entra.answer(handler))

    tenant.entra.behave.append(slow)
    proxy = serve()
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(proxy.ask, "GET", target_of("etl-1"), token) for _ in range(50)]
        until(lambda: proxy.metric("^dagward_caller_credential_misses_total ") == 50, "all of them wait")
        assert proxy.metric("^dagward_caller_exchanges ") == 1
        go.set()
        assert {a.result().status for a in answers} == {200}
    assert len(tenant.entra.asked) == 1 and len(upstream.received) == 50


def test_it_is_renewed_when_it_ends(serve, tenant, issuer, upstream, caller):
    tenant.lifetime = 2
    token = caller("etl-1")
    proxy = serve()
    until(lambda: proxy.ask("GET", target_of("etl-1"), token).status == 200 and len(tenant.issued) >= 3, "three lives", within=20, every=0.1)
    lent = list(dict.fromkeys(received["Authorization"][7:] for received in upstream.received))
    assert lent == tenant.given()[: len(lent)] and len(lent) >= len(tenant.given()) - 1, "each in turn; the last may be for later"


def test_it_is_renewed_ahead_and_nobody_waits_for_that(serve, tenant, issuer, upstream, caller):
    tenant.lifetime = 8
    token = caller("etl-1")
    proxy = serve(workers=2)
    assert proxy.ask("GET", target_of("etl-1"), token).status == 200
    slow = threading.Event()
    tenant.entra.always = lambda handler: (slow.wait(seconds(30)), handler.say(200, tenant.entra.answer(handler)))
    began = time.monotonic()
    asked_in_vain = []
    while len(tenant.entra.asked) < 2:
        assert proxy.ask("GET", target_of("etl-1"), token).status == 200, "a good token was not lent"
        assert time.monotonic() - began < seconds(20), "no new one is asked for"
        time.sleep(0.02)
    assert time.monotonic() - began < 7.5, "not before the old one's end"
    for _ in range(20):  # on both workers, while the exchange hangs
        answer = proxy.ask("GET", target_of("etl-1"), token)
        asked_in_vain.append(answer.status)
    assert asked_in_vain == [200] * 20 and len(tenant.entra.asked) == 2, "one exchange at a time, and nobody waits for it"
    assert len(tenant.issued) == 1
    slow.set()
    until(lambda: len(tenant.issued) == 2, "it comes")
    new = tenant.issued[1]["token"]
    until(lambda: proxy.ask("GET", target_of("etl-1"), token).status == 200 and new in upstream.received[-1]["Authorization"], "the new one is lent")
    check_nobody_is_another(tenant, issuer, upstream)


def test_what_cannot_be_renewed_ahead_is_lent_to_its_end(serve, tenant, caller):
    tenant.lifetime = 5
    token, short = caller("etl-1"), caller("etl-2", exp=int(time.time()) + 4)
    proxy = serve(workers=1)
    for one, name in ((token, "etl-1"), (short, "etl-2")):
        assert proxy.ask("GET", target_of(name), one).status == 200
    began = time.monotonic()
    tenant.entra.always = (503, {"error": "temporarily_unavailable"})
    while time.monotonic() < began + 3.5:
        assert proxy.ask("GET", target_of("etl-1"), token).status == 200
        assert proxy.ask("GET", target_of("etl-2"), short).status in (200, 401)
        time.sleep(0.05)
    asked = len(tenant.entra.asked) - 2
    assert 1 <= asked <= 3, "%d exchanges; none for who could get nothing longer" % asked
    tenant.entra.always = None
    until(lambda: proxy.ask("GET", target_of("etl-1"), token).status == 200, "it recovers", within=30)


def test_a_caller_whose_token_has_ended_has_no_identity(serve, tenant, issuer, upstream, caller):
    """Whatever Entra's token still lasts."""
    token = caller("etl-1", exp=int(time.time()) + 3)
    proxy = serve()
    assert proxy.ask("GET", target_of("etl-1"), token).status == 200
    until(lambda: proxy.ask("GET", target_of("etl-1"), token).status == 401, "it ends", within=10, every=0.1)
    # A request in the very millisecond in which both end may have asked once more; none behind that does.
    sent, asked = len(upstream.received), len(tenant.entra.asked)
    until(lambda: proxy.metric("^dagward_caller_credentials_cached ") == 0, "it is wiped")
    answer = proxy.ask("GET", target_of("etl-1"), token)
    assert answer.status == 401 and answer["WWW-Authenticate"] and "expired" in answer.text
    assert len(upstream.received) == sent and len(tenant.entra.asked) == asked <= 2


def test_a_rejected_one_is_replaced_once(serve, tenant, issuer, upstream, caller):
    one, two = caller("etl-1"), caller("etl-2")
    proxy = serve()
    assert proxy.ask("GET", target_of("etl-1"), one).status == 200
    assert proxy.ask("GET", target_of("etl-2"), two).status == 200
    upstream.tell(SIGN_IN_PAGE)
    answer = proxy.ask("POST", target_of("etl-1"), one, [("Content-Type", "application/json")], b"{}")
    assert answer.status == 200 and upstream.received[-1].body.kept == b"{}"
    assert len(tenant.issued) == 3 and upstream.received[-1]["Authorization"] == "Bearer " + tenant.given()[2]
    assert who(tenant, issuer, upstream.received[-1]) == "etl-1"
    assert proxy.metric("^dagward_caller_credentials_replaced_total ") == 1
    upstream.always = SIGN_IN_PAGE
    for _ in range(3):
        answer = proxy.ask("GET", target_of("etl-1"), one)
        assert answer.status == 502 and "member of the organization" in answer.text
    assert len(tenant.issued) == 3, "once a minute"
    upstream.always = None
    assert proxy.ask("GET", target_of("etl-2"), two).status == 200
    check_nobody_is_another(tenant, issuer, upstream)


def test_Entra_is_away(serve, tenant, issuer, upstream, caller):
    one, two = caller("etl-1"), caller("etl-2")
    proxy = serve()
    assert proxy.ask("GET", target_of("etl-1"), one).status == 200
    tenant.entra.always = hang_up
    began = time.monotonic()
    answer = proxy.ask("GET", target_of("etl-2"), two)
    assert answer.status == 503 and time.monotonic() - began < seconds(10) and int(answer["Retry-After"]) >= 1
    assert proxy.ask("GET", target_of("etl-1"), one).status == 200, "others have theirs"
    assert proxy.is_ready(), "nobody has to wait for that"
    until(lambda: len(proxy.events("credential.refresh_failed")) == 1, "it is in the chain")
    tenant.entra.always = None
    until(lambda: proxy.ask("GET", target_of("etl-2"), two).status == 200, "it recovers", within=40, every=0.2)
    until(lambda: len(proxy.events("credential.refresh_recovered")) == 1, "that is, too")


def test_Entra_answers_nothing(serve, tenant, caller):
    token = caller("etl-1")
    tenant.entra.behave.append(lambda handler: time.sleep(seconds(12)))
    proxy = serve()
    began = time.monotonic()
    assert proxy.ask("GET", target_of("etl-1"), token).status == 503
    assert time.monotonic() - began < seconds(12)


def test_Entra_asks_for_a_pause(serve, tenant, caller):
    """For one caller, and so for all of the application."""
    one, two = caller("etl-1"), caller("etl-2")
    tenant.entra.behave.append((429, {}, [("Retry-After", "3")]))
    proxy = serve()
    began = time.monotonic()
    assert proxy.ask("GET", target_of("etl-1"), one)["Retry-After"] == "3"
    answer = proxy.ask("GET", target_of("etl-2"), two)
    assert answer.status == 503 and int(answer["Retry-After"]) <= 4, "with what spreads the next attempts"
    assert len(tenant.entra.asked) == 1
    until(lambda: proxy.ask("GET", target_of("etl-2"), two).status == 200, "it is over", within=15, every=0.1)
    assert time.monotonic() - began > 2.5


def test_a_caller_whom_Entra_does_not_know(serve, tenant, issuer, upstream, caller):
    known, stranger = caller("etl-1"), caller("stranger", known=False)
    proxy = serve()
    answers = [proxy.ask("GET", target_of("stranger"), stranger) for _ in range(5)]
    for answer in answers:
        assert answer.status == 403 and 1 <= int(answer["Retry-After"]) <= 30
        message = json.loads(answer.text)["message"]
        assert "AADSTS700213" in message and 'iss "%s" sub "stranger" aud "dagward"' % issuer.url in message
    assert len(tenant.entra.asked) == 1 and upstream.received == []
    assert "AADSTS700213" in proxy.log() and 'sub "stranger"' in proxy.log()
    outcome = proxy.outcome(answers[0])
    assert outcome["decision"]["effect"] == "error" and outcome["response"]["status"] == 403 and "credential" not in outcome
    assert proxy.ask("GET", target_of("etl-1"), known).status == 200, "it is nobody else's trouble"
    assert not proxy.events("credential.refresh_failed")


def test_an_application_that_is_not_there_is_the_operators_trouble(serve, tenant, credential, caller):
    credential["client_id"] = "99999999-9999-9999-9999-999999999999"
    token = caller("etl-1")
    proxy = serve()
    answer = proxy.ask("GET", target_of("etl-1"), token)
    assert answer.status == 502 and "operators" in answer.text
    assert "AADSTS700016" in proxy.log()
    until(lambda: proxy.events("credential.refresh_failed"), "it is in the chain")


def test_advice_is_about_the_callers_token(serve, tenant, caller):
    refused = aadsts(700024, "invalid_client")
    tenant.entra.always = (refused.status, refused.body)
    proxy = serve()
    answer = proxy.ask("GET", RUNS, caller("etl-1"))
    assert answer.status == 403 and "the caller sends a fresh token" in answer.text and "assertion_file" not in answer.text
    assert "assertion_file" not in proxy.log()


def test_503_says_that_it_is_Entra(serve, tenant, caller):
    tenant.entra.always = (500, {"error": "server_error"})
    proxy = serve()
    answer = proxy.ask("GET", RUNS, caller("etl-1"))
    assert answer.status == 503 and "Microsoft Entra answered 500" in answer.text
    assert "Microsoft Entra answered 500" in proxy.outcome(answer)["decision"]["reason"]


def test_an_algorithm_that_Entra_does_not_take(serve, tenant, own_issuer, caller, start_proxy, upstream, credential):
    own_issuer.keys = [some_key("elliptic", "ES256")]
    proxy = start_proxy([own_issuer.config(algorithms=["ES256"])], POLICY, upstream.url, credentials=[credential])
    answer = proxy.ask("GET", target_of("etl-1"), own_issuer.mint("etl-1", roles=["operator"]))
    assert answer.status == 403 and "RS256" in answer.text and "ES256" in answer.text
    assert tenant.entra.asked == []


def test_a_forged_token_never_gets_to_Entra(serve, tenant, issuer, upstream, caller):
    token = caller("etl-1")
    forged = issuer.mint("etl-1", roles=["operator"], key=some_key("forger"), header={"kid": issuer.keys[0].kid})
    head, body, signature = token.split(".")
    proxy = serve()
    for bad in (forged, ".".join((head, body, signature[:-8] + "AAAAAAAA")), ".".join((head, forged.split(".")[1], signature)),
                issuer.mint("etl-1", roles=["operator"], exp=int(time.time()) - 600), issuer.mint("etl-1", aud="other", roles=["operator"]), "opaque-0123456789"):
        assert proxy.ask("GET", target_of("etl-1"), bad).status == 401
    assert proxy.ask("GET", target_of("etl-1"), issuer.mint("etl-1", roles=["nobody"])).status == 403
    assert tenant.entra.asked == [] and upstream.received == []


def test_a_reload_costs_no_exchange_and_another_application_does(serve, tenant, issuer, upstream, caller):
    token = caller("etl-1")
    proxy = serve()
    assert proxy.ask("GET", target_of("etl-1"), token).status == 200
    proxy.reload()
    assert proxy.ask("GET", target_of("etl-1"), token).status == 200
    assert len(tenant.issued) == 1
    other = "33333333-3333-3333-3333-333333333333"
    tenant.apps[other] = tenant.apps[APP]
    proxy.reload(config={**proxy.config, "credentials": [{**proxy.config["credentials"][0], "client_id": other}]})
    assert proxy.ask("GET", target_of("etl-1"), token).status == 200
    assert tenant.issued[-1]["who"] == other and upstream.received[-1]["Authorization"] == "Bearer " + tenant.given()[-1]


def trigger(proxy, token, key):
    return proxy.ask("POST", RUNS, token, [("Content-Type", "application/json"), ("Idempotency-Key", key)], b"{}")


def test_runs_are_tagged_and_looked_for_with_the_callers_own(serve, tenant, issuer, upstream, caller):
    """Nobody else could: what is lent to one caller is no other's, and control has none of its own."""
    one, two = caller("etl-1"), caller("etl-2")
    proxy = serve(idempotency={"wait": "1s", "settle": "1s"})
    upstream.always = lambda _, request: message(200, json.dumps({"id": 7} if request.method == "POST" else {"count": 0, "value": []}))
    assert proxy.ask("GET", RUNS, two).status == 200
    assert trigger(proxy, one, "a").status == 200
    until(lambda: any(r.method == "PATCH" for r in upstream.received), lambda: "no tags: %s" % proxy.events("run."))
    (patch,) = [r for r in upstream.received if r.method == "PATCH"]
    assert who(tenant, issuer, patch) == "etl-1"
    upstream.tell(None)
    assert trigger(proxy, one, "b").status == 502
    before = len(upstream.received)
    proxy.reload()  # what the workers hold is forgotten: it is lent anew, in order to look
    until(lambda: trigger(proxy, one, "b").status == 200, "it is looked for, was not there, and is sent again", within=20, every=0.5)
    looked = [r for r in upstream.received[before:] if r.method == "GET"]
    assert looked and {who(tenant, issuer, r) for r in looked} == {"etl-1"}
    assert len([r for r in upstream.received if r.method == "POST"]) == 3


def test_too_many_at_once_are_told_to_come_back(serve, tenant, caller):
    go = threading.Event()

    def hold(handler):
        go.wait(8)
        handler.say(200, tenant.entra.answer(handler))

    tenant.entra.always = hold
    tokens = {"worker-%d" % i: caller("worker-%d" % i) for i in range(80)}
    proxy = serve()
    with ThreadPoolExecutor(80) as pool:
        answers = [pool.submit(proxy.ask, "GET", target_of(name), token) for name, token in tokens.items()]
        until(lambda: proxy.metric("^dagward_caller_exchanges_busy_total ") == 16, "the others are refused", within=5)
        assert proxy.metric("^dagward_caller_exchanges ") == 64
        go.set()
        answers = [a.result() for a in answers]
    assert sorted(a.status for a in answers) == [200] * 64 + [503] * 16
    assert {a["Retry-After"] for a in answers if a.status == 503} == {"1"}
    tenant.entra.always = None
    assert {proxy.ask("GET", target_of(name), token).status for name, token in tokens.items()} == {200}


def test_many_callers_take_bounded_memory(serve, tenant, issuer, upstream, caller):
    """Each twice, by eight connections, in an order of its own."""
    names = ["worker-%d" % i for i in range(CALLERS)]
    answer = tenant.entra.by_federation

    def by_federation(app, head, claims, signed, signature):
        """As with a record for each caller, which are more than one application can have."""
        assert claims["sub"] in tokens
        record = {"issuer": issuer.url, "subject": claims["sub"], "audience": "dagward"}
        return answer({"federated": [record]}, head, claims, signed, signature)

    tenant.entra.by_federation = by_federation
    tokens = dict(zip(names, ThreadPoolExecutor(2).map(lambda n: issuer.mint(n, roles=["operator"]), names)))
    proxy = serve(log={"level": "info"})
    for name in names[:50]:
        assert proxy.ask("GET", target_of(name), tokens[name]).status == 200
    before = proxy.resident_kib()
    bad = []

    def run(part):
        with proxy.connect() as client:
            for name in part + part:
                answer = client.ask("GET", target_of(name), [("Authorization", "Bearer " + tokens[name])])
                if answer.status != 200:
                    bad.append((name, answer.status, answer.text))

    random.Random(1).shuffle(names)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, [names[i::8] for i in range(8)]))
    grown = proxy.resident_kib() - before
    print("%d callers: %d KiB more, %d exchanges" % (CALLERS, grown, len(tenant.issued)))
    assert bad == []
    assert check_nobody_is_another(tenant, issuer, upstream) == set(names)
    del upstream.received[500:]  # what is left is looked through for each caller's token
    assert proxy.metric("^dagward_caller_credentials ") <= 4096 and proxy.metric("^dagward_caller_credentials_cached ") <= 2 * 1024
    assert grown < 64 * 1024


def test_it_opens_no_vault_and_has_no_file(start_proxy, issuer, upstream, credential):
    vault = {"name": "v", "type": "key_vault_secret", "tenant": TENANT, "client_id": APP, "key_vault_secret": "https://c.vault.azure.net/secrets/s",
             "vault_credential": "etl"}
    proxy = start_proxy([issuer.config()], POLICY, upstream.url)
    before = proxy.config
    for credentials in ([credential, vault], [{**credential, "assertion_file": "/x"}]):
        proxy.reload(config={**before, "credentials": credentials}, good=False)
    assert "opens no vault" in proxy.log() and "two ways" in proxy.log()
    proxy.reload(config=before)


def test_doctor_says_what_Entra_needs(serve, tenant):
    proxy = serve()
    told = subprocess.run([BINARY, "doctor", "--config", proxy.config_file, "--only", "credential", "--json"], capture_output=True, text=True)
    (found,) = [d for d in json.loads(told.stdout)["findings"] if d["name"] == "credential-for-each-caller"]
    assert found["level"] == "skipped" and all(word in found["found"] for word in ("issuer", "subject", "audience", "RS256", APP))
    assert tenant.entra.asked == []
