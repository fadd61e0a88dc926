"""Every way in which Azure hands out identity, from the proof to a request that Azure DevOps gets."""
import base64
import json
import os
import subprocess
import time

import pytest

from kit import secrets, upstreams
from kit.azure import ADO, APP, ARC_FOLDER, TENANT, VAULT, Certificate, Tenant, arc_folder
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.waiting import BINARY, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
SUBJECT = "system:serviceaccount:dagward:proxy"
EXCHANGE = "api://AzureADTokenExchange"
IDENTITY = {"client_id": "33333333-3333-3333-3333-333333333333", "object_id": "44444444-4444-4444-4444-444444444444",
            "resource_id": "/subscriptions/s/resourcegroups/r/providers/Microsoft.ManagedIdentity/userAssignedIdentities/etl"}


@pytest.fixture
def tenant():
    tenant = Tenant()
    yield tenant
    tenant.close()


@pytest.fixture
def serve(start_proxy, issuer, upstream):
    def start(*credentials, **more):
        return start_proxy([issuer.config()], POLICY, upstream.url, credentials=list(credentials), **more)

    return start


def app(tenant, type, **more):
    return {"name": "etl", "type": type, "tenant": TENANT, "client_id": APP, "authority": tenant.entra.url, **more}


def vault_opened_by_identity(tenant):
    """A managed identity that may read the vault, and nothing else."""
    tenant.vault.may.add("system-identity")
    return {"name": "opener", "type": "managed_identity", "source": "imds", "endpoint": tenant.imds.url}


def check(proxy, upstream, operator, tenant, how, type):
    """A request goes out with the token that was given in the way `how`."""
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 200, answer.text
    last = [i for i in tenant.issued if i["resource"] == ADO][-1]
    assert upstream.received[-1]["Authorization"] == "Bearer " + last["token"]
    assert last["how"].startswith(how), last["how"]
    assert proxy.outcome(answer)["credential"] == {"name": "etl", "type": type}
    return last


def write(folder, name, text):
    """As Kubernetes and careful people do it: a rename, so that nobody reads a half."""
    (folder / (name + ".new")).write_text(text)
    os.replace(folder / (name + ".new"), folder / name)
    return str(folder / name)


# --- certificate ---

@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_certificate(serve, tenant, upstream, operator, tmp_path, algorithm, apart):
    certificate = Certificate()
    tenant.apps[APP]["certificates"].append(certificate)
    if apart:
        files = {"certificate_file": write(tmp_path, "crt", certificate.pem), "key_file": write(tmp_path, "key", certificate.key_pem)}
    else:
        files = {"certificate_file": write(tmp_path, "both", certificate.key_pem + certificate.pem)}
    proxy = serve(app(tenant, "certificate", algorithm=algorithm, **files))
    check(proxy, upstream, operator, tenant, "certificate %s %s" % (algorithm, certificate.hex), "certificate")
    assert proxy.metric(r'credential_proof_expires_seconds\{credential="etl"') > 29 * 86400


def test_a_certificate_that_nobody_uploaded_is_named_in_the_log(serve, tenant, upstream, operator, tmp_path):
    certificate, renewed = Certificate(), Certificate("certificate-2")
    tenant.apps[APP]["certificates"].append(renewed)
    proxy = serve(app(tenant, "certificate", certificate_file=write(tmp_path, "both", certificate.key_pem + certificate.pem)), ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert "AADSTS700027" in proxy.log() and certificate.hex in proxy.log()
    write(tmp_path, "both", renewed.key_pem + renewed.pem)
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "the new file is tried", within=10, every=0.2)
    check(proxy, upstream, operator, tenant, "certificate PS256 " + renewed.hex, "certificate")


@pytest.mark.parametrize("wrong, says", [("expired", "ended at"), ("other key", "is not the key of the certificate"), ("no key", "not a PEM private key")])
def test_a_certificate_of_no_use(serve, tenant, operator, tmp_path, wrong, says):
    certificate = Certificate(days=-1) if wrong == "expired" else Certificate()
    key = {"expired": certificate.key_pem, "other key": Certificate("certificate-2").key_pem, "no key": ""}[wrong]
    proxy = serve(app(tenant, "certificate", certificate_file=write(tmp_path, "both", key + certificate.pem)), ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert says in proxy.log() and tenant.entra.asked == []


@pytest.mark.parametrize("public", [False, True])
@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
def test_a_key_that_never_leaves_its_vault(serve, tenant, upstream, operator, tmp_path, algorithm, public):
    certificate = Certificate()
    tenant.apps[APP]["certificates"].append(certificate)
    tenant.vault.certificates["signer"] = certificate
    more = {"certificate_file": write(tmp_path, "crt", certificate.pem)} if public else {}
    proxy = serve(app(tenant, "certificate", key_vault_key="https://contoso.vault.azure.net/keys/signer", vault_endpoint=tenant.vault.url,
                      vault_credential="opener", algorithm=algorithm, **more), vault_opened_by_identity(tenant))
    check(proxy, upstream, operator, tenant, "certificate %s %s" % (algorithm, certificate.hex), "certificate")
    assert tenant.vault.signed == 1
    assert "on demand" in proxy.admin_get("/readyz").text
    assert {i["resource"] for i in tenant.issued if i["who"] == "system-identity"} == {VAULT}, "the opener gets no token for Azure DevOps"


@pytest.mark.parametrize("text, says", [("", "is empty"), ("-----BEGIN X-----", "no PEM certificate in it"), (None, "No such file")])
def test_check_looks_into_the_files(tenant, issuer, tmp_path, text, says):
    path = tmp_path / "both"
    if text is not None:
        path.write_text(text)
    proxy = Proxy(tmp_path / "checked", [issuer.config()], POLICY, credentials=[app(tenant, "certificate", certificate_file=str(path))])
    proxy.write_files()
    told = subprocess.run([BINARY, "check", "--config", proxy.config_file], capture_output=True, text=True)
    assert told.returncode == 2 and says in told.stdout + told.stderr and "dagward.yaml:" in told.stdout + told.stderr


# --- federated ---

def federate(tenant, issuer, subject=SUBJECT, audience=EXCHANGE):
    tenant.apps[APP]["federated"].append({"issuer": issuer.url, "subject": subject, "audience": audience})


def test_a_projected_token_is_read_again(serve, tenant, issuer, upstream, operator, tmp_path):
    federate(tenant, issuer)
    tenant.lifetime = 4
    path = write(tmp_path, "token", issuer.mint(SUBJECT, aud=EXCHANGE, jti="one"))
    proxy = serve(app(tenant, "federated", assertion_file=path))
    check(proxy, upstream, operator, tenant, "federated %s %s" % (issuer.url, SUBJECT), "federated")
    fresh = issuer.mint(SUBJECT, aud=EXCHANGE, jti="two")
    write(tmp_path, "token", fresh)
    until(lambda: fresh.encode() in tenant.entra.asked[-1]["body"], "the file of that moment is sent", within=10)


@pytest.mark.parametrize("claims, code", [({"iss": "https://elsewhere.example/"}, 700211), ({"aud": "dagward"}, 700212), ({"sub": "system:serviceaccount:x:y"}, 700213)])
def test_an_assertion_that_matches_no_record_is_shown_beside_the_advice(serve, tenant, issuer, operator, tmp_path, claims, code):
    federate(tenant, issuer)
    sent = {"iss": issuer.url, "sub": SUBJECT, "aud": EXCHANGE, **claims}
    proxy = serve(app(tenant, "federated", assertion_file=write(tmp_path, "token", issuer.mint(**{"subject": SUBJECT, **sent}))), ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    log = proxy.log()
    assert "AADSTS%d" % code in log and 'iss "%(iss)s" sub "%(sub)s" aud "%(aud)s"' % sent in log


def test_an_assertion_that_has_expired_is_not_sent(serve, tenant, issuer, operator, tmp_path):
    federate(tenant, issuer)
    path = write(tmp_path, "token", issuer.mint(SUBJECT, aud=EXCHANGE, exp=1000))
    proxy = serve(app(tenant, "federated", assertion_file=path), ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert "is it still being renewed" in proxy.log() and tenant.entra.asked == []
    write(tmp_path, "token", issuer.mint(SUBJECT, aud=EXCHANGE))
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "the renewed one is sent", within=10, every=0.2)


def test_a_new_record_takes_a_while(serve, tenant, issuer, operator, tmp_path):
    federate(tenant, issuer)
    tenant.apps[APP]["federated"][0]["works_from"] = tenant.now() + 2
    proxy = serve(app(tenant, "federated", assertion_file=write(tmp_path, "token", issuer.mint(SUBJECT, aud=EXCHANGE))), ready=False)
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it is tried again by itself", within=20, every=0.2)
    assert "AADSTS70021 " in proxy.log()


def test_the_assertion_of_an_issuer(serve, tenant, provider, upstream, operator, tmp_path):
    """A certified provider is asked with client credentials, and its token is what Entra gets."""
    claims = decoded(provider.token())
    federate(tenant, provider, claims["sub"], claims["aud"])
    credential = app(tenant, "federated", assertion={
        "token_endpoint": provider.url + "/token", "client_id": "airflow-worker", "secret_file": write(tmp_path, "secret", provider.client_secret),
        "scope": "sign:RS256", "resource": "urn:dagward"})
    proxy = serve(credential)
    check(proxy, upstream, operator, tenant, "federated %s %s" % (provider.url, claims["sub"]), "federated")


def decoded(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_an_issuer_that_refuses_is_the_step_that_is_named(serve, tenant, provider, operator, tmp_path):
    credential = app(tenant, "federated", assertion={"token_endpoint": provider.url + "/token", "client_id": "airflow-worker",
                                                     "secret_file": write(tmp_path, "secret", "wrong"), "scope": "sign:RS256", "resource": "urn:dagward"})
    proxy = serve(credential, ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert "credential etl: assertion: %s/token: the token endpoint answered 401 invalid_client" % provider.url in proxy.log()
    assert tenant.entra.asked == []


# --- managed identity ---

def test_the_identity_of_a_machine(serve, tenant, upstream, operator):
    proxy = serve({"name": "etl", "type": "managed_identity", "endpoint": tenant.imds.url, "source": "imds"})
    check(proxy, upstream, operator, tenant, "Imds", "managed_identity")
    (asked,) = tenant.imds.asked
    assert asked["query"] == {"api-version": "2018-02-01", "resource": ADO}


@pytest.mark.parametrize("name", ["client_id", "object_id", "resource_id"])
@pytest.mark.parametrize("source", ["imds", "app_service", "arc"])
def test_a_user_assigned_identity(serve, tenant, upstream, operator, monkeypatch, name, source):
    server = {"imds": tenant.imds, "app_service": tenant.app_service, "arc": tenant.arc}[source]
    server.assigned.append(IDENTITY)
    if source == "arc":
        need_arc_folder()
    for variable, value in tenant.app_service.environment().items():
        monkeypatch.setenv(variable, value)
    proxy = serve({"name": "etl", "type": "managed_identity", "source": source, "endpoint": server.url, name: IDENTITY[name]})
    last = check(proxy, upstream, operator, tenant, type(server).__name__, "managed_identity")
    assert last["who"] == IDENTITY["client_id"]


def test_App_Service_is_found_by_its_variables(serve, tenant, upstream, operator, monkeypatch):
    for variable, value in tenant.app_service.environment().items():
        monkeypatch.setenv(variable, value)
    proxy = serve({"name": "etl", "type": "managed_identity"})
    check(proxy, upstream, operator, tenant, "AppService", "managed_identity")


def need_arc_folder():
    try:
        arc_folder()
    except OSError as error:
        pytest.skip("the folder of Azure Arc's agent cannot be made: %s" % error)


def test_Azure_Arc_is_shown_that_we_can_read_its_key(serve, tenant, upstream, operator, monkeypatch):
    need_arc_folder()
    monkeypatch.setenv("IDENTITY_ENDPOINT", tenant.arc.url + tenant.arc.PATH)
    monkeypatch.setenv("IMDS_ENDPOINT", tenant.arc.url)
    proxy = serve({"name": "etl", "type": "managed_identity"})
    check(proxy, upstream, operator, tenant, "Arc", "managed_identity")
    assert len(tenant.arc.asked) == 2


@pytest.mark.parametrize("realm", ["/etc/passwd", ARC_FOLDER + "/../../../../etc/passwd", ARC_FOLDER + "/a/b.key", ARC_FOLDER + "/.key", "relative.key",
                                   ARC_FOLDER + "/x.txt", '"%s/%s.key"' % (ARC_FOLDER, "a" * 200)])
def test_an_agent_that_wants_another_file_gets_none(serve, tenant, operator, realm):
    tenant.arc.realm = realm
    proxy = serve({"name": "etl", "type": "managed_identity", "source": "arc", "endpoint": tenant.arc.url}, ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert all("Authorization" not in asked["headers"] for asked in tenant.arc.asked)
    assert "not one of its keys" in proxy.log()


def test_an_old_agent_that_gives_another_identity_is_not_believed(serve, tenant, upstream, operator):
    need_arc_folder()
    tenant.arc.ignores_names = True
    proxy = serve({"name": "etl", "type": "managed_identity", "source": "arc", "endpoint": tenant.arc.url, "client_id": IDENTITY["client_id"]}, ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert "another identity" in proxy.log() and upstream.received == []


@pytest.mark.parametrize("answer, says, comes_back", [
    ((404, {"error": "not_found"}), "being set up", True), ((410, b""), "being updated", True), ((429, {}, [("Retry-After", "1")]), "throttled", True),
    ((500, b"<html>"), "has trouble", True), ((400, {"error": "invalid_request"}), "no identity is assigned", False),
    ((403, b"<html>"), "a proxy answered", False), ((200, b"<html>", [("Content-Type", "text/html")]), "an HTML page", True),
    ((302, b"", [("Location", "/elsewhere")]), "answered 302", False), ((200, {"access_token": "x"}), "no usable expires_in", True)])
def test_what_the_metadata_service_may_answer(serve, tenant, operator, answer, says, comes_back):
    tenant.imds.behave.append(answer)
    proxy = serve({"name": "etl", "type": "managed_identity", "source": "imds", "endpoint": tenant.imds.url}, ready=False)
    until(lambda: says in proxy.log(), lambda: "the log says %s: %s" % (says, proxy.log()), within=10)
    if comes_back:
        until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it is asked again", within=10, every=0.2)
    else:
        assert proxy.ask("GET", RUNS, operator).status == 503 and len(tenant.imds.asked) == 1
    assert all(asked["path"] == tenant.imds.PATH for asked in tenant.imds.asked), "no redirect is followed"


def test_a_token_that_the_platform_keeps_is_no_new_one(serve, tenant, upstream, operator):
    """IMDS hands out one token for hours. After a rejection there is no other, and that is what is said."""
    tenant.imds.keeps = True
    proxy = serve({"name": "etl", "type": "managed_identity", "source": "imds", "endpoint": tenant.imds.url})
    assert proxy.ask("GET", RUNS, operator).status == 200
    upstream.tell(upstreams.SIGN_IN_CHALLENGE)
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502
    proxy.outcome(answer)
    assert proxy.ask("GET", RUNS, operator).status == 200, "what there is is lent again"


# --- key vault ---

def vault_secret(tenant, **more):
    return app(tenant, "key_vault_secret", key_vault_secret="https://contoso.vault.azure.net/secrets/etl", vault_endpoint=tenant.vault.url,
               vault_credential="opener", **more)


def test_a_client_secret_in_a_vault(serve, tenant, upstream, operator):
    secret = tenant.secret()
    tenant.vault.put("etl", secret)
    proxy = serve(vault_secret(tenant), vault_opened_by_identity(tenant))
    check(proxy, upstream, operator, tenant, "secret " + secret, "key_vault_secret")


def test_a_new_version_is_used_and_the_old_one_until_the_new_one_works(serve, tenant, upstream, operator):
    tenant.lifetime = 20
    first = tenant.secret()
    tenant.vault.put("etl", first)
    proxy = serve(vault_secret(tenant, poll="1s"), vault_opened_by_identity(tenant))
    check(proxy, upstream, operator, tenant, "secret " + first, "key_vault_secret")
    until(lambda: len([a for a in tenant.vault.asked if a["path"] == "/secrets/etl"]) >= 3, "the vault is polled", within=10)
    assert len(tenant.given()) == 1, "the same version is no reason for a new token"
    second = "Abc8Q~" + os.urandom(14).hex()
    tenant.vault.put("etl", second)  # Entra does not know it yet
    until(lambda: "AADSTS7000215" in proxy.log(), "the new version is tried", within=10)
    assert proxy.ask("GET", RUNS, operator).status == 200
    tenant.apps[APP]["secrets"][second] = {"expired": False}
    proxy.reload()
    until(lambda: tenant.issued[-1]["how"] == "secret " + second, "the new version is in use", within=30, every=0.2)
    assert proxy.ask("GET", RUNS, operator).status == 200


def test_the_version_before_is_gone_back_to_when_a_token_is_wanted(serve, tenant, upstream, operator):
    first = tenant.secret()
    tenant.vault.put("etl", first)
    proxy = serve(vault_secret(tenant, poll="1d"), vault_opened_by_identity(tenant))
    check(proxy, upstream, operator, tenant, "secret " + first, "key_vault_secret")
    tenant.vault.put("etl", "Abc8Q~" + os.urandom(14).hex())
    upstream.tell(upstreams.SIGN_IN_CHALLENGE)
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert len(tenant.given()) == 2 and tenant.issued[-1]["how"] == "secret " + first
    assert "the version before is used" in proxy.log()


def test_a_chain_is_asked_once_for_all_that_hang_on_it(serve, tenant, upstream, operator):
    tenant.vault.put("etl", tenant.secret())
    more = [{**vault_secret(tenant), "name": "etl%d" % i} for i in range(5)]
    proxy = serve(vault_secret(tenant), vault_opened_by_identity(tenant), *more)
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert len(tenant.imds.asked) == 1, "one token opens the vault for six"


def test_a_chain_of_three(serve, tenant, upstream, operator):
    """The vault is opened with an application whose secret lies in the vault, which an identity opens."""
    tenant.apps["55555555-5555-5555-5555-555555555555"] = {"secrets": {}, "certificates": [], "federated": [], "disabled": False}
    middle = tenant.secret("55555555-5555-5555-5555-555555555555")
    tenant.vault.put("middle", middle)
    tenant.vault.put("etl", tenant.secret())
    tenant.vault.may.add("55555555-5555-5555-5555-555555555555")
    between = {**vault_secret(tenant), "name": "between", "client_id": "55555555-5555-5555-5555-555555555555",
               "key_vault_secret": "https://contoso.vault.azure.net/secrets/middle"}
    proxy = serve({**vault_secret(tenant), "vault_credential": "between"}, between, vault_opened_by_identity(tenant))
    check(proxy, upstream, operator, tenant, "secret ", "key_vault_secret")
    assert [i["who"] for i in tenant.issued] == ["system-identity", "55555555-5555-5555-5555-555555555555", APP]


@pytest.mark.parametrize("broken, says", [
    ("opener", "credential etl: token for the key vault: credential opener: the identity endpoint answered 400"),
    ("role", "credential etl: secret from the key vault contoso.vault.azure.net: status 403 Forbidden ForbiddenByRbac: give `vault_credential` the role"),
    ("name", "credential etl: secret from the key vault contoso.vault.azure.net: status 404 SecretNotFound: there is nothing of that name"),
    ("disabled", "status 403 Forbidden SecretDisabled: it is disabled"),
    ("token", "it does not accept the token of `vault_credential`; it wants one of https://login.microsoftonline.com/" + TENANT),
    ("html", "with an HTML page: is a proxy of the network in between?"),
    ("throttled", "status 429: it is throttled"),
    ("secret", "credential etl: version %s of the secret: AADSTS7000215")])
def test_the_step_that_failed_is_named(serve, tenant, upstream, operator, broken, says):
    opener = vault_opened_by_identity(tenant)
    version = tenant.vault.put("etl", tenant.secret() if broken != "secret" else "Abc8Q~" + os.urandom(14).hex(), enabled=broken != "disabled")
    if broken == "opener":
        tenant.imds.system = None
    elif broken == "role":
        tenant.vault.may.clear()
    elif broken == "name":
        tenant.vault.secrets.clear()
    elif broken == "token":
        tenant.known = lambda _: None
    elif broken == "html":
        tenant.vault.always = (200, b"<html>", [("Content-Type", "text/html")])
    elif broken == "throttled":
        tenant.vault.always = (429, b"")
    proxy = serve(vault_secret(tenant), opener, ready=False)
    says = says % version if "%s" in says else says
    until(lambda: says in proxy.log(), lambda: proxy.log()[-3000:], within=10)
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 503 and says not in answer.text, "callers learn whose fault it is, and no more"
    assert ("Microsoft Entra refused" if broken == "secret" else " since ") in answer.text
    assert tenant.vault.url not in answer.text and TENANT not in answer.text and "vault_credential" not in answer.text
    assert upstream.received == []


def test_a_pat_in_a_vault(serve, tenant, upstream, operator):
    pat = secrets.upstream("p" * 20 + os.urandom(16).hex())
    tenant.vault.put("etl", pat)
    credential = {k: v for k, v in vault_secret(tenant, holds="pat", poll="1s").items() if k not in ("tenant", "client_id", "authority")}
    proxy = serve(credential, vault_opened_by_identity(tenant))
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert upstream.received[-1]["Authorization"] == "Basic " + base64.b64encode((":" + pat).encode()).decode()
    fresh = secrets.upstream("q" * 20 + os.urandom(16).hex())
    tenant.vault.put("etl", fresh)
    encoded = "Basic " + base64.b64encode((":" + fresh).encode()).decode()
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200 and upstream.received[-1]["Authorization"] == encoded, "the new version is lent", within=15,
          every=0.2)


def test_a_vault_is_polled_as_the_last_reload_says(serve, tenant, upstream, operator):
    """The look that was due in a day is not waited for."""
    tenant.vault.put("etl", secrets.upstream("p" * 20 + os.urandom(16).hex()))
    credential = {k: v for k, v in vault_secret(tenant, holds="pat", poll="1d").items() if k not in ("tenant", "client_id", "authority")}
    proxy = serve(credential, vault_opened_by_identity(tenant))
    assert proxy.ask("GET", RUNS, operator).status == 200
    tenant.vault.secrets.pop("etl")
    proxy.reload({**proxy.config, "credentials": [{**credential, "poll": "1s"}, *proxy.config["credentials"][1:]]})
    until(lambda: proxy.ask("GET", RUNS, operator).status == 503, "it is not lent", within=15, every=0.2)


@pytest.mark.parametrize("how", ["deleted", "disabled", "expired"])
def test_a_pat_that_is_taken_out_of_its_vault_is_not_lent_any_more(serve, tenant, upstream, operator, how):
    """It has no end of its own. A vault that is only away takes nothing back."""
    pat = secrets.upstream("p" * 20 + os.urandom(16).hex())
    tenant.vault.put("etl", pat)
    credential = {k: v for k, v in vault_secret(tenant, holds="pat", poll="1s").items() if k not in ("tenant", "client_id", "authority")}
    proxy = serve(credential, vault_opened_by_identity(tenant))
    assert proxy.ask("GET", RUNS, operator).status == 200
    if how == "deleted":
        versions = tenant.vault.secrets.pop("etl")
    else:
        attributes = tenant.vault.secrets["etl"][-1][2]
        attributes.update({"enabled": False} if how == "disabled" else {"exp": int(time.time()) - 10})
    until(lambda: proxy.ask("GET", RUNS, operator).status == 503, "it is not lent", within=15, every=0.2)
    event = proxy.the_event("credential.withdrawn")
    assert event["event"]["detail"]["credential"] == "etl"
    if how == "deleted":
        tenant.vault.secrets["etl"] = versions
        proxy.reload()
        until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it is back", within=15, every=0.2)


# --- emergencies ---

@pytest.mark.parametrize("type", ["pat_file", "static_file"])
def test_an_emergency_is_loud(serve, upstream, operator, tmp_path, type):
    value = secrets.upstream("abcdefghijklmnopqrstuvwxyz" + os.urandom(13).hex())
    proxy = serve({"name": "etl", "type": type, "file": write(tmp_path, "value", value + "\n")})
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 200
    encoded = base64.b64encode((":" + value).encode()).decode()
    secrets.upstream(encoded)
    assert upstream.received[-1]["Authorization"] == ("Basic " + encoded if type == "pat_file" else "Bearer " + value)
    assert proxy.outcome(answer)["credential"] == {"name": "etl", "type": type}
    assert "EMERGENCY" in proxy.log() and "EMERGENCY" in proxy.admin_get("/readyz").text
    assert proxy.metric(r"credential_emergency\{") == 1
    event = proxy.the_event("credential.emergency")
    assert event["event"]["detail"]["credential"] == "etl" and event["event"]["detail"]["type"] == type
    proxy.reload()
    until(lambda: len(proxy.events("credential.emergency")) == 2, "it is said again")


# --- what the environment offers ---

def test_default_takes_the_secret_of_the_environment(serve, tenant, upstream, operator, monkeypatch):
    secret = tenant.secret()
    for name, value in {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": APP, "AZURE_CLIENT_SECRET": secret, "AZURE_AUTHORITY_HOST": tenant.entra.url + "/"}.items():
        monkeypatch.setenv(name, value)
    proxy = serve({"name": "etl", "type": "default", "endpoint": tenant.imds.url})
    check(proxy, upstream, operator, tenant, "secret " + secret, "default")
    assert "uses client_secret" in proxy.admin_get("/readyz").text
    event = proxy.the_event("credential.chosen")
    assert event["event"]["detail"] == {"credential": "etl", "type": "default", "reason": "client_secret"}


def test_default_takes_the_certificate_of_the_environment(serve, tenant, upstream, operator, monkeypatch, tmp_path):
    certificate = Certificate()
    tenant.apps[APP]["certificates"].append(certificate)
    for name, value in {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": APP, "AZURE_AUTHORITY_HOST": tenant.entra.url,
                        "AZURE_CLIENT_CERTIFICATE_PATH": write(tmp_path, "both", certificate.key_pem + certificate.pem)}.items():
        monkeypatch.setenv(name, value)
    proxy = serve({"name": "etl", "type": "default", "endpoint": tenant.imds.url})
    check(proxy, upstream, operator, tenant, "certificate", "default")


def test_default_takes_the_workload_identity(serve, tenant, issuer, upstream, operator, monkeypatch, tmp_path):
    federate(tenant, issuer)
    for name, value in {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": APP, "AZURE_AUTHORITY_HOST": tenant.entra.url,
                        "AZURE_FEDERATED_TOKEN_FILE": write(tmp_path, "token", issuer.mint(SUBJECT, aud=EXCHANGE))}.items():
        monkeypatch.setenv(name, value)
    proxy = serve({"name": "etl", "type": "default"})
    check(proxy, upstream, operator, tenant, "federated", "default")
    assert tenant.imds.asked == []


def test_default_goes_on_to_the_identity_of_the_machine_and_stays(serve, tenant, issuer, upstream, operator, monkeypatch, tmp_path):
    federate(tenant, issuer)
    tenant.imds.system = APP
    path = tmp_path / "token"
    path.write_text(issuer.mint(SUBJECT, aud=EXCHANGE))
    for name, value in {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": APP, "AZURE_AUTHORITY_HOST": tenant.entra.url,
                        "AZURE_FEDERATED_TOKEN_FILE": str(path)}.items():
        monkeypatch.setenv(name, value)
    tenant.imds.assigned.append({"client_id": APP})
    tenant.lifetime = 3
    path.write_text("")
    proxy = serve({"name": "etl", "type": "default", "source": "imds", "endpoint": tenant.imds.url})
    check(proxy, upstream, operator, tenant, "Imds", "default")
    path.write_text(issuer.mint(SUBJECT, aud=EXCHANGE))
    until(lambda: len(tenant.given()) >= 3, "it is renewed", within=20)
    assert {i["how"] for i in tenant.issued} == {"Imds"}, "who once worked stays"
    assert tenant.entra.asked == []


def test_default_that_is_refused_does_not_become_somebody_else(serve, tenant, upstream, operator, monkeypatch):
    for name, value in {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": APP, "AZURE_CLIENT_SECRET": secrets.upstream("wrong-" + os.urandom(8).hex()),
                        "AZURE_AUTHORITY_HOST": tenant.entra.url}.items():
        monkeypatch.setenv(name, value)
    proxy = serve({"name": "etl", "type": "default", "endpoint": tenant.imds.url}, ready=False)
    assert proxy.ask("GET", RUNS, operator).status == 503
    assert "credential etl: client_secret: AADSTS7000215" in proxy.log() and tenant.imds.asked == []


# --- doctor ---

def test_doctor_obtains_a_chain_and_warns_of_emergencies(tenant, issuer, upstream, tmp_path):
    tenant.vault.put("etl", tenant.secret())
    pat = write(tmp_path, "pat", secrets.upstream("z" * 20 + os.urandom(12).hex()))
    proxy = Proxy(tmp_path / "doctor", [issuer.config()], POLICY, upstream.url,
                  credentials=[vault_secret(tenant), vault_opened_by_identity(tenant), {"name": "glass", "type": "pat_file", "file": pat}])
    proxy.write_files()
    told = subprocess.run([BINARY, "doctor", "--config", proxy.config_file, "--only", "credential", "--json"], capture_output=True, text=True, timeout=60)
    findings = {(f["subject"], f["name"]): f for f in json.loads(told.stdout)["findings"]}
    assert findings["etl", "credential-obtained"]["level"] == "ok"
    assert findings["opener", "credential-on-demand"]["level"] == "skipped"
    assert findings["glass", "credential-emergency"]["level"] == "warning"
    secrets.assert_no_leak(told.stdout + told.stderr, "what doctor says")
    assert {r["Authorization"][:6] for r in upstream.received if r["Authorization"]} == {"Bearer", "Basic "}
