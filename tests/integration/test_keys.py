"""Keys of issuers: where they come from, how they change, and what a caller notices (nothing)."""
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.certs import Authority
from kit.issuers import some_key
from kit.policies import POLICY, policy_for
from kit.waiting import until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"


@pytest.fixture(params=["discovery", "url", "file"])
def source(request, own_issuer, tmp_path):
    """Each way to come by keys: (setting, function that publishes the issuer's keys there)."""
    file = tmp_path / "jwks.json"

    def publish():
        file.write_text(json.dumps(own_issuer.key_set()))

    publish()
    return {"discovery": {"discovery": True, "cooldown": "1s"}, "url": {"url": own_issuer.url + "/jwks", "cooldown": "1s"},
            "file": {"file": str(file)}}[request.param], publish


def test_keys_come_from_discovery_url_or_file(start_proxy, own_issuer, upstream, source):
    proxy = start_proxy([own_issuer.config(source[0])], POLICY, upstream.url)
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"], key=some_key("stranger"))).status == 401


def test_after_a_rotation_the_first_request_succeeds_and_the_old_key_is_dead(start_proxy, own_issuer, upstream, source):
    setting, publish = source
    proxy = start_proxy([own_issuer.config(setting)], POLICY, upstream.url)
    old = own_issuer.mint(roles=["operator"])
    assert proxy.ask("GET", RUNS, old).status == 200  # the verdict is in the cache now
    own_issuer.keys = [some_key("second")]
    publish()
    if "file" in setting:
        proxy.reload()
    answer = proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"]))
    assert answer.status == 200, "the first request with the new key"
    assert proxy.ask("GET", RUNS, old).status == 401, "a token of the removed key, although its verdict was cached"
    told = lambda: [(e["event"]["detail"]["added"], e["event"]["detail"]["removed"]) for e in proxy.events("keys.changed")]
    until(lambda: told()[-1] == ("second", "first"), "the change of keys is on record")


def test_a_storm_of_unknown_keys_causes_one_fetch_and_hurts_nobody(start_proxy, own_issuer, upstream):
    proxy = start_proxy([own_issuer.config({"discovery": True, "cooldown": "1h"})], POLICY, upstream.url, audit={"strangers": "each"})
    good = own_issuer.mint(roles=["operator"])
    assert proxy.ask("GET", RUNS, good).status == 200
    before = len(own_issuer.fetches)
    forged = [own_issuer.mint(header={"kid": "forged-%d" % i}, key=some_key("stranger")) for i in range(200)]
    with ThreadPoolExecutor(16) as pool:
        storm = [pool.submit(proxy.ask, "GET", RUNS, token) for token in forged]
        for _ in range(20):
            assert proxy.ask("GET", RUNS, good).status == 200
        assert {f.result().status for f in storm} == {401}
    assert len(own_issuer.fetches) - before <= 1
    proxy.outcomes(200, response_status=401)


def test_whoever_waits_for_keys_during_a_reload_goes_on_waiting(start_proxy, own_issuer, upstream):
    proxy = start_proxy([own_issuer.config({"discovery": True, "cooldown": "1h"})], POLICY, upstream.url)
    own_issuer.keys = [some_key("second")]
    held, key_set, before = threading.Event(), own_issuer.key_set, len(own_issuer.fetches)
    own_issuer.key_set = lambda: held.wait(60) and key_set()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(proxy.ask, "GET", RUNS, own_issuer.mint(roles=["operator"]))
        try:
            until(lambda: len(own_issuer.fetches) > before, "its keys are asked for")
            proxy.reload()
            until(lambda: len(own_issuer.fetches) > before + 1, "they are asked for again")
        finally:
            held.set()
        assert answer.result().status == 200


def test_while_the_issuer_is_down_its_keys_are_kept(start_proxy, own_issuer, upstream):
    proxy = start_proxy([own_issuer.config({"discovery": True, "cooldown": "1s"})], POLICY, upstream.url)
    own_issuer.down()
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200
    for _ in range(2):  # asked in vain, and within the cooldown
        answer = proxy.ask("GET", RUNS, own_issuer.mint(header={"kid": "other"}, key=some_key("stranger")))
        assert answer.status == 503 and answer["Retry-After"] == "5", "nobody knows whose key it is"
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200
    proxy.reload()
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200, "a reload must not lose keys"
    own_issuer.up()
    stranger = own_issuer.mint(header={"kid": "other"}, key=some_key("stranger"))
    until(lambda: proxy.ask("GET", RUNS, stranger).status == 401, "the issuer says that it has no such key", within=40, every=0.2)


@pytest.mark.parametrize("rubbish", [(500, {"error": "x"}), (200, b"<html>"), (200, {"keys": []}), (200, b"x" * 3_000_000)],
                         ids=["500", "html", "empty", "huge"])
def test_a_bad_key_set_changes_nothing(start_proxy, own_issuer, upstream, rubbish):
    proxy = start_proxy([own_issuer.config({"discovery": True, "cooldown": "1s"})], POLICY, upstream.url)
    before = len(own_issuer.fetches)
    own_issuer.misbehave = rubbish
    proxy.ask("GET", RUNS, own_issuer.mint(header={"kid": "other"}, key=some_key("stranger")))
    assert len(own_issuer.fetches) > before
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200


def test_an_issuer_that_is_late_is_waited_for(start_proxy, own_issuer, upstream):
    own_issuer.down()
    proxy = start_proxy([own_issuer.config({"discovery": True, "cooldown": "1s"})], POLICY, upstream.url, ready=False)
    assert proxy.admin_get("/readyz").status_code == 503 and proxy.admin_get("/healthz").status_code == 200
    answer = proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"]))
    assert answer.status == 503
    assert proxy.outcome(answer)["response"]["status"] == 503
    own_issuer.up()
    until(proxy.is_ready, "ready once the issuer is there", within=40, every=0.2)
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200


def test_a_reload_trusts_whom_the_ca_file_trusts_now(start_proxy, own_issuer, upstream, tmp_path):
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(old.file.read_bytes())
    own_issuer.show(old.issue("127.0.0.1"))
    proxy = start_proxy([own_issuer.config({"discovery": True, "ca": str(ca), "cooldown": "1s"})], POLICY, upstream.url)
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200
    own_issuer.keys = [some_key("second")]
    own_issuer.show(new.issue("127.0.0.1"))
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 503, "that is nobody's certificate yet"
    ca.write_bytes(new.file.read_bytes())
    proxy.reload()
    until(lambda: proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200, "the file was read again", within=40, every=0.2)


def test_weak_keys_are_dropped(start_proxy, own_issuer, upstream):
    jwks = own_issuer.key_set()
    jwks["keys"] += [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
                     {"kty": "RSA", "kid": "small", "use": "sig", "e": "AQAB", "n": "x" * 170}]
    own_issuer.misbehave = (200, jwks)
    proxy = start_proxy([own_issuer.config()], POLICY, upstream.url)
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200
    assert "small" in proxy.log() and "shared" in proxy.log()


def test_two_issuers_do_not_vouch_for_each_other(start_proxy, own_issuer, issuer, upstream):
    own_issuer.name, own_issuer.keys = "other", [some_key("second")]
    proxy = start_proxy([issuer.config(), own_issuer.config()], POLICY, upstream.url)
    assert proxy.ask("GET", RUNS, issuer.mint(roles=["operator"])).status == 200
    answer = proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"]))
    assert answer.status == 403, "the bindings name the other issuer"
    assert proxy.outcome(answer)["caller"]["issuer"] == "other"
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"], iss=issuer.url)).status == 401


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
def test_algorithms(start_proxy, own_issuer, upstream, alg):
    own_issuer.keys = [some_key("of-" + alg, alg)]
    proxy = start_proxy([own_issuer.config(algorithms=[alg])], POLICY, upstream.url)
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 200
    proxy.config["issuers"][0]["algorithms"] = ["RS512"]
    proxy.reload()
    assert proxy.ask("GET", RUNS, own_issuer.mint(roles=["operator"])).status == 401


def test_the_certified_provider(start_proxy, provider, upstream, tmp_path):
    proxy = start_proxy([provider.config(keys={"discovery": True, "cooldown": "1s"})], policy_for("certified"), upstream.url)
    for alg in ("RS256", "ES256", "PS256", "EdDSA"):
        answer = proxy.ask("GET", RUNS, provider.token(alg=alg))
        assert answer.status == 200, alg
        assert proxy.outcome(answer)["caller"]["subject"] == "airflow-worker"
    assert proxy.ask("GET", RUNS, provider.token("airflow-reader")).status == 403
    assert proxy.ask("GET", RUNS, provider.token("stranger")).status == 403
    old = provider.token()
    provider.rotate()
    assert proxy.ask("GET", RUNS, provider.token()).status == 200, "the first token after the rotation"
    assert proxy.ask("GET", RUNS, old).status == 401
