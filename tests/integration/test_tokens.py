"""Tokens as they come: where they may stand, and what is wrong with them."""
import hashlib
import hmac
import json
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization

from kit import secrets
from kit.issuers import b64, some_key
from kit.policies import POLICY
from kit.waiting import ROOT, free_port, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"


def test_the_four_places_for_a_token(proxy, operator):
    for fields, via in [([("Authorization", "Bearer " + operator)], "bearer"),
                        ([("Authorization", "bearer   " + operator)], "bearer"),
                        ([("Authorization", secrets.basic("airflow", operator))], "basic"),
                        ([("Authorization", secrets.basic("", operator))], "basic"),
                        ([("Authorization", secrets.basic("airflow", operator + "\n"))], "basic"),
                        ([("Authorization", secrets.basic(operator, ""))], "basic"),
                        ([("X-Dagward-Token", operator)], "header")]:
        answer = proxy.ask("GET", RUNS, fields=fields)
        assert answer.status == 200, fields[0][1][:20]
        caller = proxy.outcome(answer)["caller"]
        assert caller["subject"] == "operator-1" and caller["issuer"] == "airflow" and caller["via"] == via and caller["roles"] == ["operator"]


def test_no_token_is_a_challenge(proxy):
    answer = proxy.ask("GET", RUNS)
    assert answer.status == 401 and answer.all("WWW-Authenticate") == ['Basic realm="dagward"', 'Bearer realm="dagward"']
    assert proxy.outcome(answer)["decision"]["effect"] == "deny"
    answer = proxy.ask("GET", "/contoso/analytics/_git/dags/info/refs?service=git-upload-pack")
    assert answer.status == 401 and answer.all("WWW-Authenticate") == ['Basic realm="dagward"'], "git would try Bearer and fail"
    assert answer["Content-Type"].startswith("text/plain") and answer.correlation in answer.text.splitlines()[0]


def now():
    return int(time.time())


@pytest.mark.parametrize("claims, status", [
    ({"exp": now() - 3600, "iat": now() - 7200}, 401), ({"nbf": now() + 3600}, 401), ({"iat": now() + 3600}, 401), ({"aud": "other"}, 401),
    ({"aud": ["other", "dagward"]}, 200), ({"iss": "https://other.example"}, 401), ({"exp": None}, 401), ({"exp": now() + 90 * 86400}, 401),
    ({"exp": "soon"}, 401), ({"sub": None}, 401), ({"roles": []}, 403), ({"roles": "operator"}, 200)],
    ids=["expired", "not-yet", "from-the-future", "audience", "one-of-audiences", "issuer", "no-exp", "too-long", "exp-text", "no-sub", "no-role", "role-text"])
def test_claims(proxy, issuer, claims, status):
    answer = proxy.ask("GET", RUNS, issuer.mint(**{"roles": ["operator"], **claims}))
    assert answer.status == status
    record = proxy.outcome(answer)
    assert record["decision"]["effect"] == ("allow" if status == 200 else "deny")
    assert ("subject" in record.get("caller", {})) == (status != 401), "an unverified subject is nobody's name"


def test_forgeries(proxy, issuer, upstream, operator):
    head, body, signature = operator.split(".")
    flipped = signature[:-8] + ("A" if signature[-8] != "A" else "B") + signature[-7:]
    none = b64(json.dumps({"alg": "none"}).encode()) + "." + body + "."
    hs = b64(json.dumps({"alg": "HS256", "kid": "first"}).encode())
    pem = some_key("first").key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    confused = hs + "." + body + "." + b64(hmac.new(pem, (hs + "." + body).encode(), hashlib.sha256).digest())
    bigger = head + "." + b64(json.dumps({"iss": issuer.url, "aud": "dagward", "sub": "root", "exp": now() + 600}).encode()) + "." + signature
    for token in (head + "." + body + "." + flipped, none, confused, bigger, head + "." + body, operator + ".x", operator + "=", "." + operator):
        answer = proxy.ask("GET", RUNS, secrets.caller(token))
        assert answer.status == 401 and len(upstream.received) == 0
        assert "subject" not in proxy.outcome(answer).get("caller", {})


def test_a_token_of_16_KiB_is_taken_and_a_larger_one_refused(proxy, issuer):
    assert proxy.ask("GET", RUNS, issuer.mint(roles=["operator"], pad="p" * 10000)).status == 200
    answer = proxy.ask("GET", RUNS, issuer.mint(roles=["operator"], pad="p" * 16000))
    assert answer.status == 431
    proxy.outcome(answer)


def test_a_cached_verdict_ends_with_the_token(proxy, issuer):
    skewed = issuer.mint(roles=["operator"], iat=now() - 100, exp=now() - 57)  # 60 s of skew are granted
    assert proxy.ask("GET", RUNS, skewed).status == 200
    deadline = time.monotonic() + seconds(15)
    while proxy.ask("GET", RUNS, skewed).status == 200:
        assert time.monotonic() < deadline, "an expired token goes on working"
        time.sleep(0.2)
    assert proxy.ask("GET", RUNS, skewed).status == 401


def test_a_key_that_is_used_much_is_verified_in_another_way_and_says_the_same(start_proxy, issuer, upstream):
    """For a key of P-256 a table is made beside the requests; those that come meanwhile, and a reload, change nothing."""
    issuer.keys = [some_key("curve", "ES256"), some_key("first")]
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=2, log={"level": "info"})
    made = 'kid="curve" is used much'

    def ask(pad, bent=False):
        token = issuer.mint(roles=["operator"], pad=str(pad))
        if bent:
            head, body, signature = token.split(".")
            token = head + "." + body + "." + signature[:-8] + ("A" if signature[-8] != "A" else "B") + signature[-7:]
        return proxy.ask("GET", RUNS, token).status

    for i in range(80):
        assert ask(i) == 200
    assert ask(0, bent=True) == 401
    until(lambda: made in proxy.log() or ask("meanwhile") != 200, "the table is made")
    for i in range(20):
        assert ask(100 + i) == 200
        assert ask(100 + i, bent=True) == 401
    proxy.reload()
    assert ask(200) == 200 and ask(200, bent=True) == 401
    assert proxy.log().count(made) == 1, "the key is the same after a reload, and so is its table"


def test_the_corpus_of_tokens(start_proxy, tmp_path):
    """Every vector that one live key set can express, with its verdict, over HTTP."""
    corpus = ROOT / "tests/corpora"
    vectors = json.loads((corpus / "jwt/vectors.json").read_text())
    (tmp_path / "jwks.json").write_text(json.dumps(vectors["keysets"]["main"]))
    upstream_port = free_port()
    defaults = vectors["defaults"]
    issuer = {"name": "a", "issuer": defaults["issuer"], "audiences": [defaults["audience"]], "keys": {"file": str(tmp_path / "jwks.json")},
              "algorithms": ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], "max_lifetime": "36500d"}
    policy = {"version": 1, "roles": {"reader": {"allow": [{"operations": ["git.repositories.list"], "projects": ["widgets"]}]}},
              "bindings": [{"callers": {"issuer": "a", "subject": "*"}, "roles": ["reader"], "credential": "etl"}]}
    proxy = start_proxy([issuer], policy, {"organizations": ["acme"], "hosts": {"*": "http://127.0.0.1:%d" % upstream_port}}, workers=1)
    done = subprocess.run([sys.executable, corpus / "run-jwt", "--http", "127.0.0.1", str(proxy.port), "--jwks-port", str(free_port()), "--upstream-port",
                           str(upstream_port), "--timeout", str(seconds(5)), "--file", corpus / "jwt/vectors.json"],
                          capture_output=True, text=True, timeout=seconds(200))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "0 FAIL" in done.stdout and int(done.stdout.rsplit("total: ", 1)[1].split("/")[0]) > 300, done.stdout[-600:]
