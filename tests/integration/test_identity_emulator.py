"""That the emulated tenant refuses what Azure refuses: a test against a lenient one proves nothing."""
import base64
import json
import time
import urllib.parse

import pytest
import requests

from kit.azure import ADO, APP, ASSERTION_TYPE, TENANT, VAULT, Certificate, Tenant
from kit.issuers import b64, some_key


@pytest.fixture
def tenant():
    tenant = Tenant()
    yield tenant
    tenant.close()


def jwt(key, header, claims):
    signed = b64(json.dumps(header).encode()) + "." + b64(json.dumps(claims).encode())
    return signed + "." + b64(key.sign(signed.encode()))


def ask(tenant, path="/%s/oauth2/v2.0/token" % TENANT, **form):
    form = {"grant_type": "client_credentials", "client_id": APP, "scope": ADO + "/.default", **form}
    answer = requests.post(tenant.entra.url + path, data={k: v for k, v in form.items() if v is not None}, timeout=10)
    body = answer.json()
    return body["error_codes"][0] if "error_codes" in body else body


def test_Entra_takes_a_certificate_only_if_everything_is_right(tenant):
    certificate = Certificate("certificate-1")
    tenant.apps[APP]["certificates"].append(certificate)
    key, stranger = some_key("certificate-1"), some_key("certificate-2")
    endpoint = tenant.entra.url + "/%s/oauth2/v2.0/token" % TENANT
    now = int(time.time())
    good = ({"alg": "RS256", "typ": "JWT", "x5t": certificate.x5t}, {"aud": endpoint, "iss": APP, "sub": APP, "jti": "1", "nbf": now - 60, "exp": now + 600})

    def code(signer=key, head=(), claims=()):
        assertion = jwt(signer, {**good[0], **dict(head)}, {**good[1], **dict(claims)})
        return ask(tenant, client_assertion_type=ASSERTION_TYPE, client_assertion=assertion)

    assert code()["access_token"] == tenant.given()[-1]
    assert code(stranger) == 700027
    assert code(head={"x5t": Certificate("certificate-2").x5t}) == 700027
    assert code(head={"alg": "PS256"}) == 700027, "the signature is another algorithm's"
    assert code(head={"alg": "none"}) == 700027
    assert code(claims={"aud": "https://login.microsoftonline.com/x"}) == 50012
    assert code(claims={"sub": "somebody"}) == 50012
    assert code(claims={"exp": now - 900}) == 700024
    assert code(claims={"nbf": now + 900, "exp": now + 1800}) == 700024
    tenant.clock = 3600
    assert code() == 700024, "its clock is not ours"


def test_Entra_takes_no_request_that_is_incomplete(tenant):
    secret = tenant.secret()
    assert "access_token" in ask(tenant, client_secret=secret)
    for form, code in [({}, 7000218), ({"client_secret": "x"}, 7000215), ({"client_secret": secret, "client_id": "x"}, 700016),
                       ({"client_secret": secret, "client_id": None}, 900144), ({"client_secret": secret, "scope": ADO}, 70011),
                       ({"client_secret": secret, "scope": "https://else/.default"}, 500011), ({"client_secret": secret, "grant_type": "password"}, 70003)]:
        assert ask(tenant, **form) == code
    assert ask(tenant, "/common/oauth2/v2.0/token", client_secret=secret) == 9001023
    assert ask(tenant, "/other.example/oauth2/v2.0/token", client_secret=secret) == 90002
    tenant.apps[APP]["secrets"][secret]["expired"] = True
    assert ask(tenant, client_secret=secret) == 7000222
    tenant.apps[APP]["disabled"] = True
    assert ask(tenant, client_secret=secret) == 7000112


def test_Entra_takes_an_assertion_only_of_a_record_and_an_issuer_it_reaches(tenant, own_issuer):
    record = {"issuer": own_issuer.url, "subject": "s", "audience": "a"}
    send = lambda **claims: ask(tenant, client_assertion_type=ASSERTION_TYPE, client_assertion=own_issuer.mint("s", **{"aud": "a", **claims}))
    assert send() == 70021
    tenant.apps[APP]["federated"].append(record)
    assert "access_token" in send()
    assert (send(iss=own_issuer.url + "/"), send(aud="A"), send(sub="S")) == (700211, 700212, 700213)
    assert send(exp=int(time.time()) - 900) == 700024
    forged = own_issuer.mint("s", aud="a", key=some_key("stranger"), header={"kid": "first"})
    assert ask(tenant, client_assertion_type=ASSERTION_TYPE, client_assertion=forged) == 50013
    own_issuer.down()
    assert send() == 90061


@pytest.mark.parametrize("fields, query, status", [
    ({"Metadata": "true"}, {}, 200), ({}, {}, 400), ({"Metadata": "True"}, {}, 400), ({"Metadata": "true", "X-Forwarded-For": "1.2.3.4"}, {}, 400),
    ({"Metadata": "true"}, {"api-version": "1999-01-01"}, 400), ({"Metadata": "true"}, {"api-version": ""}, 400),
    ({"Metadata": "true"}, {"resource": "x"}, 400), ({"Metadata": "true"}, {"client_id": "nobody"}, 400)])
def test_the_metadata_service_guards_itself(tenant, fields, query, status):
    query = {"api-version": "2018-02-01", "resource": ADO, **query}
    answer = requests.get(tenant.imds.url + tenant.imds.PATH, params=query, headers=fields, timeout=10)
    assert answer.status_code == status and ("access_token" in answer.json()) == (status == 200)


def test_App_Service_wants_its_header(tenant):
    url = "%s%s?%s" % (tenant.app_service.url, tenant.app_service.PATH, urllib.parse.urlencode({"api-version": "2019-08-01", "resource": ADO}))
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers={"X-IDENTITY-HEADER": tenant.app_service.header}, timeout=10).status_code == 200


def test_a_vault_opens_only_for_its_own_tokens(tenant):
    tenant.vault.put("etl", "s" * 20)
    url = tenant.vault.url + "/secrets/etl"
    get = lambda token, version="7.5": requests.get(url, params={"api-version": version}, headers={"Authorization": "Bearer " + token} if token else {}, timeout=10)
    challenged = get(None)
    assert challenged.status_code == 401
    assert challenged.headers["WWW-Authenticate"] == 'Bearer authorization="https://login.microsoftonline.com/%s", resource="%s"' % (TENANT, VAULT)
    assert get(tenant.issue("reader", "test", ADO)).status_code == 401, "a token for Azure DevOps is none for a vault"
    token = tenant.issue("reader", "test", VAULT)
    assert get(token).json()["error"]["innererror"]["code"] == "ForbiddenByRbac"
    tenant.vault.may.add("reader")
    assert get(token).json()["value"] == "s" * 20
    assert get(token, "1.0").status_code == 400


def test_a_vault_signs_digests_for_real(tenant):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    import hashlib
    tenant.vault.certificates["k"] = certificate = Certificate()
    tenant.vault.may.add("signer")
    headers = {"Authorization": "Bearer " + tenant.issue("signer", "test", VAULT)}
    kid = requests.get(tenant.vault.url + "/keys/k?api-version=7.5", headers=headers, timeout=10).json()["key"]["kid"]
    body = {"alg": "PS256", "value": b64(hashlib.sha256(b"text").digest())}
    answer = requests.post(tenant.vault.url + urllib.parse.urlsplit(kid).path + "/sign?api-version=7.5", json=body, headers=headers, timeout=10).json()
    signature = base64.urlsafe_b64decode(answer["value"] + "==")
    certificate.key.public_key().verify(signature, b"text", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    assert requests.post(tenant.vault.url + "/keys/k/%s/sign?api-version=7.5" % ("0" * 32), json=body, headers=headers, timeout=10).status_code == 404
