"""`dagward emulate issuer`: the demo's OpenID provider, by what other programs see of it."""
import base64
import json
import signal
import subprocess
import time

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from kit import secrets
from kit.emulator import ready_line
from kit.policies import POLICY
from kit.waiting import BINARY, seconds


class Served:
    def __init__(self, folder, *arguments):
        self.log = folder / "issuer.log"
        self.process = subprocess.Popen(
            [BINARY, "emulate", "issuer", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(self.log, "ab"))
        self.url = ready_line(self.process, self.log)[0]

    def get(self, path):
        return requests.get(self.url + path, timeout=seconds(10))

    def post(self, path, **how):
        return requests.post(self.url + path, timeout=seconds(20), **how)

    def mint(self, **claims):
        answer = self.post("/mint", json=claims)
        assert answer.status_code == 200, answer.text
        return secrets.caller(answer.text)

    def keys(self):
        return {key["kid"]: key for key in self.get("/jwks").json()["keys"]}

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=seconds(10))


@pytest.fixture
def served(tmp_path):
    served = Served(tmp_path)
    yield served
    if served.process.poll() is None:
        assert served.end() == 0, served.log.read_text()
    assert served.log.read_text() == ""


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text):
    return int.from_bytes(decode(text), "big")


def verify(token, keys):
    """Header and claims; raises InvalidSignature or KeyError when none of `keys` signed it."""
    head, claims, signature = token.split(".")
    header, signed, signature = json.loads(decode(head)), (head + "." + claims).encode(), decode(signature)
    key = keys[header["kid"]]
    if header["alg"] == "ES256":
        public = ec.EllipticCurvePublicNumbers(number(key["x"]), number(key["y"]), ec.SECP256R1()).public_key()
        assert len(signature) == 64
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        public.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    else:
        public = rsa.RSAPublicNumbers(number(key["e"]), number(key["n"])).public_key()
        how = padding.PKCS1v15() if header["alg"] == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        public.verify(signature, signed, how, hashes.SHA256())
    return header, json.loads(decode(claims))


def test_discovery_leads_to_the_keys(served):
    told = served.get("/.well-known/openid-configuration")
    assert told.json()["issuer"] == served.url
    assert told.json()["token_endpoint"] == served.url + "/token"
    keys = requests.get(told.json()["jwks_uri"], timeout=seconds(10))
    assert keys.headers["Cache-Control"] == "max-age=60"
    assert {key["kty"] for key in keys.json()["keys"]} == {"RSA", "EC"}
    assert not any("d" in key for key in keys.json()["keys"])


@pytest.mark.parametrize("alg", ["RS256", "ES256", "PS256"])
def test_a_minted_token_is_signed_as_asked(served, alg):
    header, claims = verify(served.mint(_alg=alg, roles=["operator"]), served.keys())
    assert header["alg"] == alg and claims["roles"] == ["operator"] and "_alg" not in claims


def test_claims_have_defaults_that_can_be_changed_or_left_out(served):
    now = time.time()
    _, claims = verify(served.post("/mint").text, served.keys())
    assert (claims["iss"], claims["aud"], claims["sub"]) == (served.url, "dagward", "demo")
    assert abs(claims["iat"] - now) < seconds(10) and claims["exp"] - claims["iat"] == 3600
    _, claims = verify(served.mint(aud=["a", "b"], exp=5, sub="ü", iat=None, nested={"a": [1, None]}), served.keys())
    assert (claims["aud"], claims["exp"], claims["sub"], claims["nested"]) == (["a", "b"], 5, "ü", {"a": [1, None]})
    assert "iat" not in claims


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"a":1,"a":2}', b'{"_alg":"HS256"}', b'{"_alg":"none"}',
                                  b'{"_alg":"ES384"}', b'{"_alg":1}', b"\xff\xfe", b"[" * 5000])
def test_what_is_no_set_of_claims_is_refused(served, body):
    answer = served.post("/mint", data=body)
    assert answer.status_code == 400 and answer.text.strip()


def test_claims_of_any_length_are_too_much(served):
    answer = served.post("/mint", data=b'{"a":"' + b"x" * (1 << 20) + b'"}')
    assert answer.status_code == 413


def test_after_a_rotation_old_tokens_no_longer_verify(served):
    token, before = served.mint(), served.keys()
    assert served.post("/rotate").status_code == 200
    after = served.keys()
    assert len(after) == 2 and not before.keys() & after.keys()
    with pytest.raises(KeyError):
        verify(token, after)
    verify(served.mint(), after)


def test_a_rotation_may_keep_old_keys(served):
    token, before = served.mint(), served.keys()
    served.post("/rotate?keep=1")
    after = served.keys()
    assert len(after) == 4 and before.keys() < after.keys()
    verify(token, after)
    assert verify(served.mint(), after)[0]["kid"] not in before


def test_kept_keys_are_bounded(served):
    for _ in range(10):
        served.post("/rotate?keep=1")
    assert len(served.keys()) == 16
    verify(served.mint(), served.keys())


@pytest.mark.parametrize("how", [
    {"data": {"grant_type": "client_credentials", "client_id": "my dag+1", "client_secret": "x"}},
    {"data": {"grant_type": "client_credentials"}, "auth": ("my+dag%2B1", "x")},
])
def test_client_credentials_give_a_token_for_the_client(served, how):
    answer = served.post("/token", **how)
    assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
    told = answer.json()
    assert told["token_type"] == "Bearer" and told["expires_in"] == 3600
    assert verify(told["access_token"], served.keys())[1]["sub"] == "my dag+1"


@pytest.mark.parametrize("path", ["/token", "/contoso.example/oauth2/v2.0/token"])
@pytest.mark.parametrize("body, code", [
    (b"", "invalid_request"),
    (b"grant_type=client_credentials", "invalid_request"),
    (b"client_id=a&client_id=b&grant_type=client_credentials", "invalid_request"),
    (b"client_id=%4&grant_type=client_credentials", "invalid_request"),
    (b"client_id=%ff&grant_type=client_credentials", "invalid_request"),
    (b"client_id=a&grant_type=password", "unsupported_grant_type"),
])
def test_other_forms_are_refused(served, path, body, code):
    answer = served.post(path, data=body)
    assert (answer.status_code, answer.json()["error"]) == (400, code)


def entra(served, **form):
    return served.post("/11111111-1111-1111-1111-111111111111/oauth2/v2.0/token",
                       data={"grant_type": "client_credentials", "client_id": "app", "scope": "x/.default", **form})


@pytest.mark.parametrize("proof", ["client_secret", "client_assertion"])
def test_entra_answers_a_token_of_its_own(served, proof):
    told = entra(served, **{proof: "x"}).json()
    assert told["token_type"] == "Bearer" and told["expires_in"] == 3599
    assert told["access_token"].startswith("emulated-")
    assert told["access_token"] != entra(served, **{proof: "x"}).json()["access_token"]


@pytest.mark.parametrize("form, number", [({"client_secret": ""}, 7000218), ({}, 7000218),
                                          ({"client_secret": "x", "client_id": "refused"}, 7000215)])
def test_entra_refuses_as_it_does(served, form, number):
    answer = entra(served, **form)
    told = answer.json()
    assert (answer.status_code, told["error"], told["error_codes"]) == (401, "invalid_client", [number])
    assert told["error_description"].startswith("AADSTS%d: " % number)
    assert told["trace_id"] == answer.headers["x-ms-request-id"]


def test_requests_are_counted_by_path(served):
    served.mint(), served.mint(), served.get("/jwks"), served.get("/nothing/here"), served.get("/count")
    assert served.get("/count").json() == {"/mint": 2, "/jwks": 1, "/nothing/here": 1}
    for i in range(100):
        served.get("/path%d" % i)
    counts = served.get("/count").json()
    assert len(counts) == 65 and sum(counts.values()) == 104


def test_a_path_has_its_method(served):
    answer = served.get("/mint")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert served.post("/jwks").status_code == 405
    assert served.get("/").status_code == 404


def test_the_issuer_may_have_another_name(tmp_path):
    served = Served(tmp_path, "--issuer", "https://idp.example/realm/")
    told = served.get("/.well-known/openid-configuration").json()
    assert told["issuer"] == "https://idp.example/realm/" and told["jwks_uri"] == "https://idp.example/realm/jwks"
    assert verify(served.mint(), served.keys())[1]["iss"] == "https://idp.example/realm/"
    assert served.end(signal.SIGINT) == 0


@pytest.mark.parametrize("arguments, about", [
    ([], "issuer"), (["nobody"], "nobody"), (["issuer"], "--port"), (["issuer", "--port"], "--port"),
    (["issuer", "--port", "65536"], "65536"), (["issuer", "--port", "-1"], "-1"), (["issuer", "--port", "0", "x"], "x"),
    (["issuer", "--port", "0", "--prot", "1"], "--prot"), (["issuer", "--port", "0", "--data", "x"], "--data"),
    (["issuer", "--port", "0", "--issuer", "ftp://x"], "http"),
    (["azure-devops", "--port", "0"], "--data"), (["azure-devops", "--port", "0", "--data", "/x", "--issuer", "y"], "--issuer"),
    (["azure-devops", "--port", "0", "--data", "/x", "--tls-port", "0"], "--certificate"),
])
def test_wrong_usage_is_explained(arguments, about):
    done = subprocess.run([BINARY, "emulate", *arguments], capture_output=True, text=True, timeout=seconds(10))
    assert done.returncode == 2 and about in done.stderr and not done.stdout


def test_a_port_that_is_taken_is_an_error(served):
    port = served.url.rsplit(":", 1)[1]
    done = subprocess.run([BINARY, "emulate", "issuer", "--port", port], capture_output=True, text=True, timeout=seconds(20))
    assert done.returncode == 2 and port in done.stderr and not done.stdout


def test_help_says_what_there_is():
    done = subprocess.run([BINARY, "emulate", "--help"], capture_output=True, text=True, timeout=seconds(10))
    assert done.returncode == 0 and "/rotate" in done.stdout and "--tls-port" in done.stdout


def test_the_proxy_believes_it_and_has_its_own_credential_from_it(served, start_proxy, upstream, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(secrets.upstream("the proxy's own secret"))
    proxy = start_proxy(
        [{"name": "airflow", "issuer": served.url, "audiences": ["dagward"], "keys": {"discovery": True},
          "algorithms": ["RS256", "ES256", "PS256"]}], POLICY, upstream.url,
        credentials=[{"name": "etl", "type": "client_secret", "tenant": "contoso.example", "client_id": "app",
                      "secret_file": str(secret), "authority": served.url}])
    for alg in "RS256", "ES256", "PS256":
        token = served.mint(_alg=alg, sub="worker-" + alg, roles=["operator"])
        answer = proxy.ask("GET", "/contoso/analytics/_apis/pipelines/42/runs", fields=[("Authorization", "Bearer " + token)])
        assert answer.status == 200, answer.text
        assert proxy.outcome(answer)["caller"]["subject"] == "worker-" + alg
        assert upstream.received[-1]["Authorization"].startswith("Bearer emulated-")
    expired = served.mint(roles=["operator"], exp=int(time.time()) - 600, iat=int(time.time()) - 900)
    answer = proxy.ask("GET", "/contoso/analytics/_apis/pipelines/42/runs", fields=[("Authorization", "Bearer " + expired)])
    assert answer.status == 401
    assert served.get("/count").json()["/contoso.example/oauth2/v2.0/token"] == 1
