"""What can be wrong in a world, one thing each, and what `dagward doctor` has to say about it."""
import datetime
import fcntl
import json
import os
import resource
import shutil
import socket
import subprocess
import time

import pytest

from kit.audit_log import AuditLog
from kit.issuers import some_key
from kit.sickness import CLIENT, ISSUER_URL, TENANT, Certificates, jwt, weak_key
from kit.waiting import BINARY, free_port

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
PAGE = (200, "text/html", "<html><title>Welcome to the guest network</title></html>")
OTHER_TENANT = "99999999-0000-4000-8000-000000000000"

SEEDS = []


def seed(name, cause, remedy, *arguments, level="problem", **run):
    """Spoils a world so that the finding `name` appears; `cause` and `remedy` are texts (or several,
    or a function of the world) that have to stand there."""

    def keep(spoil):
        SEEDS.append(pytest.param(spoil, name, cause, remedy, level, arguments, run, id=spoil.__name__))
        return spoil

    return keep


# policy


@seed("policy-invalid", "`serve` does not start", "policy.yaml")
def a_policy_with_an_unknown_role(w):
    w.policy["bindings"][0]["roles"] = ["raeder"]


@seed("binding-expired", "`workers` is past", "policy.yaml:", level="warning")
def a_binding_that_has_expired(w):
    w.policy["bindings"][0]["expires"] = "2020-01-01"


@seed("binding-expires", "`workers` is near", "policy.yaml:", level="warning")
def a_binding_that_expires_soon(w):
    w.policy["bindings"][0]["expires"] = (datetime.date.today() + datetime.timedelta(days=5)).isoformat()


# listeners


@seed("listener-port-in-use", lambda w: "127.0.0.1:%d" % w.port, lambda w: "127.0.0.1:%d" % w.port)
def a_port_that_somebody_has(w):
    taken = socket.create_server(("127.0.0.1", w.port))
    w.ends.callback(taken.close)


@seed("listener-address-not-here", "203.0.113.7:8443", "203.0.113.7:8443")
def an_address_of_another_machine(w):
    w.config["listen"][0]["address"] = "203.0.113.7:8443"


def listen_with(w, crt, key=None):
    w.config["listen"][0]["tls"] = {"certificate": crt, "key": key or w.key}


@seed("listener-certificate-expired", "dagward.example", "late.crt")
def a_certificate_that_has_expired(w):
    listen_with(w, *w.authority.issue("dagward.example", stem="late", begins=-30, ends=-3))


@seed("listener-certificate-expires", "dagward.example", "soon.crt", level="warning")
def a_certificate_that_expires_soon(w):
    listen_with(w, *w.authority.issue("dagward.example", stem="soon", ends=10))


@seed("listener-certificate-name", ["proxy.example", "other.example"], "subjectAltName proxy.example")
def a_certificate_for_another_name(w):
    w.config["public_url"] = "https://proxy.example"
    listen_with(w, *w.authority.issue("other.example"))


@seed("listener-key-mismatch", ["listener.crt", "other.example.key"], ["CN=dagward.example", "other.example.key"])
def a_key_of_another_certificate(w):
    listen_with(w, w.crt, w.authority.issue("other.example")[1])


@seed("listener-key-unusable", "passphrase", "locked.key")
def a_key_with_a_passphrase(w):
    locked = w.folder / "locked.key"
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", w.key, "-out", locked, "-passout", "pass:canary"], check=True, capture_output=True)
    locked.chmod(0o600)
    listen_with(w, w.crt, str(locked))


@seed("listener-file-open", "everybody", "chmod 0600", level="warning")
def a_key_that_everybody_reads(w):
    os.chmod(w.key, 0o644)


@seed("listener-file-missing", "tls.certificate", "nowhere.crt")
def a_certificate_that_is_not_there(w):
    listen_with(w, str(w.folder / "nowhere.crt"))


@seed("listener-certificate-unusable", "not a certificate in PEM", "text.crt")
def a_certificate_that_is_none(w):
    (w.folder / "text.crt").write_text("to be done\n")
    listen_with(w, str(w.folder / "text.crt"))


@seed("listener-chain-incomplete", "CN=middle", ["CN=middle", "leaf.crt"], level="warning")
def a_chain_without_its_intermediate(w):
    middle = Certificates(w.folder / "middle", "middle", parent=w.authority)
    listen_with(w, *middle.issue("dagward.example", stem="leaf", more=[ISSUER_URL]))


@seed("listener-chain-broken", "wrong order", ["leaf.crt", "CN=doctor's authority"])
def a_chain_of_strangers(w):
    stranger = Certificates(w.folder / "stranger", "stranger")
    listen_with(w, *w.authority.issue("dagward.example", stem="leaf", behind=stranger.pem()))


# issuers


@seed("issuer-dns", "issuer.invalid", ["issuer.invalid", "getent hosts issuer.invalid"])
def an_issuer_whose_name_does_not_exist(w):
    w.issuer(issuer="https://issuer.invalid/realms/a")


@seed("issuer-dns-silent", "did not answer for issuer.example", "/etc/resolv.conf")
def a_name_service_that_does_not_answer(w):
    server = socket.socket(type=socket.SOCK_DGRAM)
    w.ends.callback(server.close)
    try:
        server.bind(("127.53.53.53", 53))
    except OSError:
        pytest.skip("only root can be a name service")
    resolv = w.folder / "resolv.conf"
    resolv.write_text("nameserver 127.53.53.53\noptions timeout:30 attempts:3\n")
    w.before = ("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolv))
    if subprocess.run([*w.before, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be had here")
    w.issuer(issuer="https://issuer.example")


@seed("issuer-refused", "nothing listens", "correct port")
def an_issuer_that_does_not_listen(w):
    w.issuer(issuer="https://127.0.0.1:%d" % free_port())


@seed("issuer-tls-untrusted", "CN=doctor's authority is not in the system's authorities", ["CN=doctor's authority", "name it in `ca`"])
def an_issuer_whose_authority_is_unknown(w):
    w.serve_issuer(tls=w.authority.issue("localhost", stem="issuer"))


@seed("issuer-tls-untrusted", "CN=self.example", "CN=self.example")
def an_issuer_with_a_certificate_signed_by_itself(w):
    crt, key = str(w.folder / "self.crt"), str(w.folder / "self.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=self.example", "-addext", "subjectAltName=DNS:localhost",
                    "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", crt], check=True, capture_output=True)
    w.serve_issuer(tls=(crt, key))


def trusted(w):
    return {"discovery": True, "ca": str(w.authority.file)}


@seed("issuer-tls-name", ["localhost is none of", "idp.example, 192.0.2.1"], "localhost")
def an_issuer_with_a_certificate_for_another_name(w):
    w.serve_issuer(tls=w.authority.issue("idp.example", "192.0.2.1"))
    w.issuer(keys=trusted(w))


@seed("issuer-tls-expired", "renewed", "localhost")
def an_issuer_whose_certificate_has_expired(w):
    w.serve_issuer(tls=w.authority.issue("localhost", stem="issuer", begins=-9, ends=-2))
    w.issuer(keys=trusted(w))


@seed("issuer-tls-expires", "renewal", "localhost", level="warning")
def an_issuer_whose_certificate_expires_soon(w):
    w.serve_issuer(tls=w.authority.issue("localhost", stem="issuer", ends=5))
    w.issuer(keys=trusted(w))


@seed("issuer-tls-plain", "does not speak TLS", "127.0.0.1")
def an_issuer_that_speaks_plain_http(w):
    w.issuer(issuer=w.serve_issuer().url.replace("http:", "https:"))


@seed("issuer-ca", "empty.pem", "empty.pem")
def an_issuer_whose_ca_file_is_empty(w):
    (w.folder / "empty.pem").write_text("\n")
    w.serve_issuer(tls=w.authority.issue("localhost", stem="issuer"))
    w.issuer(keys={"discovery": True, "ca": str(w.folder / "empty.pem")})


@seed("issuer-captive-portal", "captive portal", "/.well-known/openid-configuration")
def an_issuer_behind_a_captive_portal(w):
    w.issuer(issuer=w.serve({"*": PAGE}).url)


@seed("issuer-captive-portal", "captive portal", "/.well-known/openid-configuration")
def an_issuer_behind_a_portal_that_redirects(w):
    w.issuer(issuer=w.serve({"*": (302, "text/plain", "", [("Location", "https://portal.invalid/login")])}).url)


@seed("issuer-status", "nothing at", "`keys.url`")
def an_issuer_without_discovery(w):
    w.issuer(issuer=w.serve({}).url)


@seed("issuer-status", "Kubernetes", "keys.bearer_file")
def an_issuer_that_wants_a_token(w):
    w.issuer(issuer=w.serve({"*": (403, "application/json", {"kind": "Status"})}).url)


@seed("issuer-not-json", "another kind of document", "/.well-known/openid-configuration")
def an_issuer_that_answers_text(w):
    w.issuer(issuer=w.serve({"*": (200, "text/plain", "hello")}).url)


@seed("issuer-mismatch", "slash at the end", lambda w: "`issuer: %s/`" % w.config["issuers"][0]["issuer"])
def an_issuer_with_a_slash_at_its_end(w):
    server = w.serve_issuer()
    w.serve_issuer(document={"issuer": None})
    server.table["/.well-known/openid-configuration"][2]["issuer"] = server.url + "/"
    w.issuer(issuer=server.url)


@seed("issuer-mismatch", "for every tenant", "the tenant's id")
def an_issuer_with_the_metadata_of_common(w):
    w.serve_issuer(document={"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"})


@seed("issuer-mismatch", "another issuer", "`issuer: https://internal.example`")
def an_issuer_that_has_another_name(w):
    w.serve_issuer(document={"issuer": "https://internal.example"})


@seed("issuer-document", "no OpenID discovery document", "`keys.url`")
def an_issuer_whose_document_says_nothing(w):
    w.serve_issuer(document={"jwks_uri": None})


@seed("issuer-keys-status", "/jwks", "`keys.url`")
def an_issuer_whose_keys_are_not_there(w):
    w.serve_issuer().table["/jwks"] = (404, "application/json", {})


@seed("issuer-algorithms", ["signs with ES384 1", "allows RS256, ES256"], "`algorithms: [ES384]`")
def an_issuer_that_signs_with_another_algorithm(w):
    w.serve_issuer(keys=[some_key("curve", "ES384").public()])


@seed("issuer-key-dropped", "weak", "2048", level="warning")
def an_issuer_with_a_weak_key(w):
    w.serve_issuer(keys=[some_key("first").public(), weak_key()])


@seed("issuer-no-keys", "nobody of issuer airflow", "/jwks")
def an_issuer_with_nothing_but_a_weak_key(w):
    w.serve_issuer(keys=[weak_key()])


@seed("issuer-clock", "AADSTS700024", "chrony")
def an_issuer_whose_clock_is_ten_minutes_off(w):
    w.serve_issuer(clock=-600)


@seed("issuer-clock", "one of the two clocks", "chrony", level="warning")
def an_issuer_whose_clock_is_two_minutes_off(w):
    w.serve_issuer(clock=120)


@seed("issuer-file-missing", "keys.file", "keys.json")
def an_issuer_whose_key_file_is_not_there(w):
    w.issuer(keys={"file": str(w.folder / "keys.json")})


# callers' tokens


@seed("token-audience", "tokens made for dagward only", ["for a token for dagward", "https://other.example"])
def a_token_for_somebody_else(w):
    return ["--token", w.token(w.mint(aud="https://other.example"))]


@seed("token-expired", "longer than it is good", "read its token anew")
def a_token_that_has_expired(w):
    return ["--token", w.token(w.mint(iat=int(time.time()) - 7200, exp=int(time.time()) - 3600))]


@seed("token-kid", "published are: ", "`keys` of issuer airflow")
def a_token_of_a_key_that_is_gone(w):
    claims = {"iss": w.issuer_url, "aud": "dagward", "sub": "worker-1", "iat": int(time.time()), "exp": int(time.time()) + 600}
    return ["--token", w.token(jwt(claims, kid="gone"))]


@seed("token-algorithm", "issuer airflow allows RS256, ES256", "HS512 is never accepted")
def a_token_signed_with_a_shared_secret(w):
    claims = {"iss": w.issuer_url, "aud": "dagward", "sub": "worker-1", "iat": int(time.time()), "exp": int(time.time()) + 600}
    return ["--token", w.token(jwt(claims, alg="HS512"))]


@seed("token-issuer", ["v1 form (sts.windows.net)", "https://login.microsoftonline.com/%s/v2.0" % TENANT], "https://sts.windows.net/%s/]`" % TENANT)
def a_token_of_entra_in_its_v1_form(w):
    keys = w.folder / "entra.json"
    keys.write_text(json.dumps({"keys": [some_key("first").public()]}))
    w.config["issuers"].append({"name": "entra", "issuer": "https://login.microsoftonline.com/%s/v2.0" % TENANT, "audiences": ["dagward"], "keys": {"file": str(keys)}})
    claims = {"iss": "https://sts.windows.net/%s/" % TENANT, "aud": "dagward", "sub": "worker-1", "iat": int(time.time()), "exp": int(time.time()) + 600}
    return ["--token", w.token(jwt(claims))]


@seed("token-issuer", "https://stranger.example", "`issuer: https://stranger.example`")
def a_token_of_a_stranger(w):
    return ["--token", w.token(jwt({"iss": "https://stranger.example", "aud": "dagward", "sub": "x", "exp": int(time.time()) + 600}))]


@seed("token-refused", "personal access token", "access token")
def a_personal_access_token(w):
    return ["--token", w.token("a1" * 26)]


@seed("token-no-binding", "403", "subject: \"somebody\"")
def a_token_that_no_binding_is_for(w):
    return ["--token", w.token(w.mint(sub="somebody"))]


# credentials


@seed("credential-file-missing", "secret_file", "client-secret")
def a_secret_that_is_not_there(w):
    w.secret.unlink()


@seed("credential-file-empty", "client-secret", "client-secret")
def a_secret_that_is_empty(w):
    w.secret.write_text(" \n")


@seed("credential-file-open", "everybody", "chmod 0640", level="warning")
def a_secret_that_everybody_reads(w):
    w.secret.chmod(0o644)


@seed("credential-file-unreadable", ["uid 65534", "owner uid 0", "mode 0000"], "let uid 65534 read it", before=NOBODY)
def a_secret_that_this_user_may_not_read(w):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become nobody, with setpriv")
    os.chmod(w.folder, 0o755)
    w.secret.chmod(0)
    probe = subprocess.run([*NOBODY, str(BINARY), "version"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("nobody may not run %s" % BINARY)


@seed("credential-secret-wrong", [CLIENT, "client-secret"], [CLIENT, "client-secret", "value"])
def a_secret_that_entra_does_not_know(w):
    w.serve_entra(7000215)


@seed("credential-secret-is-id", "the value is what proves", "client-secret", level="warning")
def an_id_in_place_of_the_secret(w):
    w.secret.write_text("0f8fad5b-d9cb-469f-a165-70867728950e\n")


@seed("credential-secret-wrong", "has the shape of an id", "value")
def an_id_that_entra_refuses(w):
    w.secret.write_text("0f8fad5b-d9cb-469f-a165-70867728950e\n")
    w.serve_entra(7000215)


@seed("credential-secret-expired", ["expired", CLIENT], [CLIENT, TENANT])
def a_secret_that_has_expired(w):
    w.serve_entra(7000222)


@seed("credential-application-unknown", [CLIENT, TENANT], ["`client_id` " + CLIENT, "`tenant` " + TENANT])
def an_application_that_is_not_in_the_tenant(w):
    w.serve_entra(700016, "unauthorized_client", 400)


@seed("credential-tenant-unknown", TENANT, "`tenant` " + TENANT)
def a_tenant_that_does_not_exist(w):
    w.serve_entra(90002, "invalid_request", 400)


@seed("credential-refused-by-entra", "the scope is malformed", [CLIENT, TENANT])
def a_code_with_a_general_remedy(w):
    w.serve_entra(70011, "invalid_scope", 400)


ASSERTION = {"iss": "https://oidc.cluster.example/", "sub": "system:serviceaccount:airflow:dagward", "aud": ["api://AzureADTokenExchange"]}


@seed("credential-federation-mismatch", list(ASSERTION.values())[:2], ["https://oidc.cluster.example/", "system:serviceaccount:airflow:dagward", "api://AzureADTokenExchange"])
def a_federated_credential_that_does_not_match(w):
    w.federated(jwt({**ASSERTION, "exp": int(time.time()) + 600}))
    w.serve_entra(70021, "invalid_request", 400)


@seed("credential-federation-subject", "system:serviceaccount:airflow:dagward", "system:serviceaccount:airflow:dagward")
def a_federated_subject_that_does_not_match(w):
    w.federated(jwt({**ASSERTION, "exp": int(time.time()) + 600}))
    w.serve_entra(700213)


@seed("credential-federation-audience", "the audience dagward", "api://AzureADTokenExchange")
def a_federated_audience_that_does_not_match(w):
    w.federated(jwt({**ASSERTION, "aud": "dagward", "exp": int(time.time()) + 600}))
    w.serve_entra(700212)


@seed("credential-federation-issuer", "https://oidc.cluster.example/", "https://oidc.cluster.example/")
def a_federated_issuer_that_does_not_match(w):
    w.federated(jwt({**ASSERTION, "exp": int(time.time()) + 600}))
    w.serve_entra(700211)


@seed("credential-assertion-expired", "nobody renews", "/assertion")
def an_assertion_that_has_expired(w):
    w.federated(jwt({**ASSERTION, "exp": int(time.time()) - 600}))


@seed("credential-assertion-no-jwt", "another kind of file", "/assertion")
def an_assertion_that_is_none(w):
    w.federated("just-some-words-in-a-file")


@seed("credential-assertion-algorithm", "https://oidc.cluster.example/ signs with ES256", "RS256", level="warning")
def an_assertion_that_entra_does_not_take(w):
    w.federated(jwt({**ASSERTION, "exp": int(time.time()) + 600}, alg="ES256"))


@seed("credential-captive-portal", "http://127.0.0.1", "http://127.0.0.1")
def entra_behind_a_captive_portal(w):
    w.credential(authority=w.serve({"*": PAGE}).url)


@seed("authority-refused", "nothing listens", "correct port")
def entra_that_does_not_listen(w):
    w.credential(authority="http://127.0.0.1:%d" % free_port())


@seed("authority-tls-untrusted", "CN=doctor's authority", "CN=doctor's authority")
def entra_behind_a_proxy_that_breaks_tls_open(w):
    w.credential(authority=w.serve({}, tls=w.authority.issue("localhost", stem="entra")).url)


@seed("credential-token-expired", "not renewed by anybody", "/static")
def a_token_in_a_file_that_has_expired(w):
    path = w.folder / "static"
    path.write_text(jwt({"aud": "azdo", "exp": int(time.time()) - 60}))
    path.chmod(0o600)
    w.config["credentials"] = [{"name": "etl", "type": "static_file", "file": str(path)}]


# organizations

WHO = {"authenticatedUser": {"id": "5e51ce00-0000-4d1a-b0de-da6aa2d00001", "providerDisplayName": "dagward-etl"}}
CONNECTION = (200, "application/json", WHO, [("X-VSS-UserData", "5e51ce00:dagward-etl"), ("ActivityId", "1")])
REFUSED = [("ActivityId", "1"), ("X-TFS-ProcessId", "2"), ("X-VSS-ResourceTenant", TENANT)]


def refusal(text):
    return {"$id": "1", "message": text, "typeKey": "UnauthorizedRequestException"}


@seed("organization-not-accepted", ["credential etl", "organization contoso", TENANT], ["https://dev.azure.com/contoso/_settings/users", "enterprise application"])
def an_organization_that_shows_its_sign_in_page(w):
    w.serve_azure({"*": (203, "text/html", "<html>Sign in</html>", REFUSED)})


@seed("organization-not-accepted", "credential etl", "object id")
def an_organization_that_redirects_to_sign_in(w):
    w.serve_azure({"*": (302, "text/html", "", [*REFUSED, ("Location", "https://spsprodweu3.vssps.visualstudio.com/_signin?realm=dev.azure.com")])})


@seed("organization-not-accepted", "credential etl", "object id")
def an_organization_that_takes_it_for_nobody(w):
    w.serve_azure({"*": (401, "application/json", refusal("TF400813: The user 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa' is not authorized to access this resource."), REFUSED)})


@seed("organization-other-tenant", [OTHER_TENANT, TENANT], "`tenant: %s`" % OTHER_TENANT)
def an_organization_of_another_tenant(w):
    w.serve_azure({"*": (401, "application/json", refusal("TF400813: The user '' is not authorized."), [("ActivityId", "1"), ("X-VSS-ResourceTenant", OTHER_TENANT)])})


@seed("organization-no-access", ["credential etl", "organization contoso"], "access level Basic")
def an_organization_that_it_was_never_added_to(w):
    w.serve_azure({"*": (401, "application/json", refusal("TF401444: Please sign-in at least once as 5e51ce00 in a web browser to enable access."), REFUSED)})


@seed("organization-no-access", ["credential etl", "no access level"], "access level Basic")
def an_organization_that_knows_it_and_says_no_more(w):
    w.serve_azure({"*": (401, "application/json", {}, [*REFUSED, ("X-VSS-UserData", "5e51ce00:dagward-etl")])})


@seed("organization-not-found", "`upstream.organizations` names contoso", "contoso")
def an_organization_that_does_not_exist(w):
    w.serve_azure({"*": (404, "text/html", "<html>not found</html>", REFUSED)})


@seed("organization-no-project", "dagward-etl", "Readers", level="warning")
def an_organization_without_a_project_for_it(w):
    w.serve_azure({"/contoso/_apis/connectionData": CONNECTION, "*": (200, "application/json", {"count": 0, "value": []}, REFUSED)})


@seed("organization-stakeholder", ["dagward-etl", "Stakeholder"], "Basic in https://dev.azure.com/contoso/_settings/users", level="warning")
def an_organization_that_gave_it_a_stakeholder_licence(w):
    w.serve_azure({"/contoso/_apis/connectionData": CONNECTION, "/contoso/_apis/projects": (200, "application/json", {"count": 1, "value": [{"name": "a"}]}, REFUSED),
                   "*": (404, "application/json", refusal("TF401019"), REFUSED)})


@seed("organization-busy", "budget", "some minutes", level="warning")
def an_organization_that_throttles_it(w):
    w.serve_azure({"*": (429, "application/json", refusal("TF400733"), REFUSED)})


# upstream


@seed("upstream-dns", "azure.invalid", "azure.invalid")
def upstream_whose_name_does_not_exist(w):
    w.config["upstream"]["hosts"] = {"*": "https://azure.invalid"}


@seed("upstream-refused", "nothing listens", "correct port")
def upstream_that_does_not_listen(w):
    w.config["upstream"]["hosts"] = {"*": "https://127.0.0.1:%d" % free_port()}


@seed("upstream-tls-untrusted", "CN=doctor's authority is not in the system's authorities", "CN=doctor's authority")
def upstream_whose_authority_is_unknown(w):
    del w.config["upstream"]["ca"]


@seed("upstream-tls-name", ["localhost is none of", "proxy.corp.example"], "localhost")
def upstream_with_a_certificate_for_another_name(w):
    w.config["upstream"].update(hosts={"*": w.serve({}, tls=w.authority.issue("proxy.corp.example")).url}, ca=str(w.authority.file))


@seed("upstream-captive-portal", "captive portal", "/contoso/_apis/connectionData")
def upstream_behind_a_captive_portal(w):
    w.serve_azure({"*": PAGE})


# audit log


@seed("audit-folder", "does not exist", "make")
def an_audit_folder_that_does_not_exist(w):
    w.config["audit"]["file"] = str(w.folder / "nowhere" / "audit.jsonl")


@seed("audit-space", "nearly full", "rotate")
def an_audit_folder_that_is_full(w):
    place = w.folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "doctor", place], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    w.ends.callback(lambda: subprocess.run(["umount", place], check=True))
    with open(place / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError:
            pass
    w.config["audit"]["file"] = str(place / "audit.jsonl")


@seed("audit-held", "process %d" % os.getpid(), "lsof")
def an_audit_file_that_somebody_has(w):
    file = open(w.audit, "a")
    fcntl.flock(file, fcntl.LOCK_EX)
    w.ends.callback(file.close)


@seed("audit-unwritable", ["uid 0", "uid 65534"], "chown 65534", before=NOBODY)
def an_audit_file_of_another_user(w):
    if os.geteuid() != 0 or subprocess.run([*NOBODY, str(BINARY), "version"], capture_output=True).returncode != 0:
        pytest.skip("only root can become nobody, with setpriv")
    w.audit.write_text("")
    w.audit.chmod(0o600)


@seed("audit-owner", "another user", "--reuid 65534", level="warning")
def an_audit_file_of_the_service_user(w):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    w.audit.write_text("")
    os.chown(w.audit, 65534, 65534)


@seed("audit-foreign", "another kind of file", "audit verify")
def an_audit_file_of_something_else(w):
    w.audit.write_text("Jan  1 00:00:00 host daemon: a line of another log\n")


@seed("audit-not-a-file", "read again", "audit.jsonl")
def an_audit_file_that_is_a_folder(w):
    w.audit.mkdir()


# sinks


def sink(w, **settings):
    w.config["audit"]["sinks"] = [{"name": "siem", **settings}]


def syslog(w, port, **more):
    sink(w, type="syslog", server="tls://localhost:%d" % port, ca=str(w.authority.file), **more)


@seed("sink-refused", "nothing listens", lambda w: "localhost")
def a_syslog_server_that_is_not_there(w):
    syslog(w, free_port())


@seed("sink-tls-untrusted", "stranger", "stranger")
def a_syslog_server_of_another_authority(w):
    stranger = Certificates(w.folder / "stranger", "stranger")
    syslog(w, w.serve({}, tls=stranger.issue("localhost", stem="log")).port)


@seed("sink-tls-name", "logs.example", "subjectAltName")
def a_syslog_server_of_another_name(w):
    syslog(w, w.serve({}, tls=w.authority.issue("logs.example", stem="log")).port)


@seed("sink-socket", "no syslog daemon", "nowhere")
def a_socket_that_nobody_has(w):
    sink(w, type="syslog", server="unix:%s" % (w.folder / "nowhere"))


def monitor(w, status, **error):
    server = w.serve({"*": (status, "application/json", {"error": error} if error else {})})
    sink(w, type="azure_monitor", endpoint=server.url, rule="dcr-1", credential="etl")


@seed("sink-forbidden", "Monitoring Metrics Publisher", "dcr-1")
def a_rule_that_the_credential_may_not_write_to(w):
    monitor(w, 403, message="The authentication token provided does not have access.")


@seed("sink-not-found", "immutable id", "data-collection rule show")
def a_rule_that_does_not_exist(w):
    monitor(w, 404, message="Data collection rule was not found.")


@seed("sink-token-rejected", "https://monitor.azure.com/.default", "scope")
def an_endpoint_of_another_cloud(w):
    monitor(w, 401, message="Wrong audience.")


@seed("sink-answer", "Custom-Dagward_CL", "streamDeclarations", level="warning")
def a_stream_that_the_rule_does_not_have(w):
    monitor(w, 400, message="The stream is not configured.")


def behind(w, seq):
    (w.audit.parent / "audit.jsonl.sink-siem").write_text("dagward position 1 %020d %s\n" % (seq, "0" * 64))
    sink(w, type="stdout")


@seed("sink-behind", "receiver", "dagward_audit_sink_ok", level="warning")
def a_sink_that_is_far_behind(w):
    log = AuditLog(w.audit)
    for _ in range(10020):
        log.event("made.up", step=1)
    log.close()
    behind(w, 7)


@seed("sink-lost", "audit.rotate", "wait_for_sinks")
def a_sink_that_retention_has_overtaken(w):
    log = AuditLog(w.folder / "deleted")
    for _ in range(20):
        log.event("made.up")
    log.begin(w.audit)
    log.close()
    behind(w, 7)


# limits


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


@seed("limits-descriptors", "run out", "LimitNOFILE=", level="warning", preexec_fn=few_descriptors)
def too_few_descriptors(w):
    w.config["limits"]["connections"] = 20000


@seed("limits-proxy-ignored", "directly", "environment: true", level="warning", env={**os.environ, "https_proxy": "http://proxy.corp.example:3128"})
def a_proxy_in_the_environment(w):
    pass


@seed("limits-admin-open", "0.0.0.0:", "127.0.0.1", level="warning")
def an_admin_listener_for_everybody(w):
    w.config["admin"] = {"address": "0.0.0.0:%d" % w.admin, "insecure": True}
