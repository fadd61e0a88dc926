"""Marked secrets in every place where there can be one, and a look at everything that the proxy says, writes or shows:
none of them may be there. Then `confine: require` with every feature."""
import base64
import json
import os
import re
import subprocess

import pytest
import requests

from kit import secrets
from kit.azure import APP, TENANT, Certificate, Tenant
from kit.outgoing import Outgoing
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.sinks import RULE, Ingestion, Receiver
from kit.upstreams import Upstream, message
from kit.waiting import BINARY, confines, free_port, sanitizer, seconds, until
from test_confine import confined, kernel_has_landlock

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
KINDS = ["client_secret", "federated", "certificate", "pat_file", "static_file", "managed_identity", "key_vault_secret"]


def pem_secret(pem):
    """A key's lines; of each its own mark."""
    for line in pem.splitlines():
        if not line.startswith("-----"):
            secrets.upstream(line)
    return pem


def pat():
    return secrets.caller("q7" + os.urandom(40).hex()[:49] + "z")  # 52, as they were


class Everything:
    """A proxy with a credential of each kind (and a role that uses it), sinks, an outgoing proxy with a password, keys in files."""

    def __init__(self, folder, issuer, authority, **settings):
        self.folder, self.issuer = folder, issuer
        self.tenant, self.upstream = Tenant(), Upstream(tls=authority.server("dev.azure.com", "localhost"))
        self.ingestion, self.receiver = Ingestion(self.tenant), Receiver()
        self.receiver.start()
        self.outgoing = Outgoing({"dev.azure.com:443": self.upstream.port}, user="edge:" + secrets.upstream("Pr0xy-" + os.urandom(10).hex()))
        secrets.upstream(base64.b64encode(self.outgoing.user.encode()).decode())
        certificate, key = authority.issue("localhost")
        pem_secret(open(key).read())
        tls, plain = free_port(), free_port()
        policy = {**POLICY, "bindings": POLICY["bindings"] + [
            {"name": kind, "callers": {"issuer": "airflow", "claims": {"roles": kind}}, "roles": ["operator", "publisher"], "credential": kind} for kind in KINDS]}
        self.proxy = Proxy(folder / "proxy", [issuer.config()], policy, {"ca": str(authority.file)},
                           listen=[{"address": "127.0.0.1:%d" % plain}, {"address": "127.0.0.1:%d" % tls, "tls": {"certificate": certificate, "key": key}}],
                           outgoing_proxy={"url": self.outgoing.url, "credentials_file": self.file("proxy-user", self.outgoing.user)},
                           audit={"checkpoints": {"records": 10}, "signing_key": self.key_file(), "sinks": [
                               {"name": "siem", "type": "azure_monitor", "endpoint": self.ingestion.url, "rule": RULE, "credential": "client_secret", "interval": "100ms"},
                               {"name": "out", "type": "stdout"},
                               {"name": "syslog", "type": "syslog", "server": "tcp://127.0.0.1:%d" % self.receiver.port}]}, **settings)
        self.proxy.config["credentials"] += self.credentials()
        self.proxy.port = plain
        self.stdout = folder / "stdout"
        self.said = []

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text + ("" if text.endswith("\n") else "\n"))
        path.chmod(0o600)
        return str(path)

    def key_file(self):
        path = self.folder / "audit-key.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ED25519", "-out", path], check=True, capture_output=True)
        path.chmod(0o600)
        pem_secret(path.read_text())
        return str(path)

    def credentials(self):
        tenant = self.tenant
        app = {"tenant": TENANT, "client_id": APP, "authority": tenant.entra.url}
        certificate = Certificate()
        tenant.apps[APP]["certificates"].append(certificate)
        pem_secret(certificate.key_pem)
        assertion = secrets.upstream(self.issuer.mint("system:serviceaccount:dagward:proxy", aud="api://AzureADTokenExchange"))
        tenant.apps[APP]["federated"].append({"issuer": self.issuer.url, "subject": "system:serviceaccount:dagward:proxy", "audience": "api://AzureADTokenExchange"})
        tenant.vault.may.add("system-identity")
        tenant.vault.put("etl", secrets.upstream("v" * 20 + os.urandom(16).hex()))
        one_pat = secrets.upstream("p" * 20 + os.urandom(16).hex())
        secrets.upstream(base64.b64encode((":" + one_pat).encode()).decode())
        return [
            {"name": "client_secret", "type": "client_secret", "secret_file": self.file("client-secret", tenant.secret()), **app},
            {"name": "federated", "type": "federated", "assertion_file": self.file("assertion", assertion), **app},
            {"name": "certificate", "type": "certificate", "certificate_file": self.file("both.pem", certificate.key_pem + certificate.pem), **app},
            {"name": "pat_file", "type": "pat_file", "file": self.file("pat", one_pat)},
            {"name": "static_file", "type": "static_file", "file": self.file("static", secrets.upstream("s" * 20 + os.urandom(16).hex()))},
            {"name": "managed_identity", "type": "managed_identity", "source": "imds", "endpoint": tenant.imds.url},
            {"name": "key_vault_secret", "type": "key_vault_secret", "key_vault_secret": "https://contoso.vault.azure.net/secrets/etl", "holds": "pat",
             "vault_endpoint": tenant.vault.url, "vault_credential": "managed_identity"},
        ]

    def ask(self, method, target, fields=(), body=b""):
        answer = self.proxy.ask(method, target, fields=fields, body=body)
        self.said.append(("%s %s" % (method, target), "%d %s\n%r\n" % (answer.status, answer.reason, answer.fields) + answer.text))
        return answer

    def close(self):
        self.proxy.kill()
        self.tenant.close()
        self.ingestion.down()
        self.receiver.stop()
        self.outgoing.close()
        self.upstream.close()


@pytest.fixture
def everything(tmp_path, issuer, authority):
    made = []

    def make(**settings):
        made.append(Everything(tmp_path, issuer, authority, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ask_all_ways(it, token):
    """Each place where a caller can put a secret, right or wrong, on answers of every kind."""
    bearer = ("Authorization", "Bearer " + token)
    cookie = secrets.caller("session-" + os.urandom(12).hex())
    for target in (ITEM, "/contoso/analytics/_apis/pipelines/99/runs", "/contoso/other/_apis/git/repositories", PUSH, "/", "/nonsense/%00", "/contoso/_apis/projects"):
        for method in ("GET", "POST"):
            body = json.dumps({"token": token, "password": pat()}).encode() if method == "POST" else b""
            for fields in ([bearer], [("Authorization", secrets.basic("airflow", token))], [("Authorization", secrets.basic(token, ""))], [("X-Dagward-Token", token)],
                           [bearer, ("X-Dagward-Token", token)], [("Authorization", "Bearer " + token[:-5] + "AAAAA")], [("Authorization", secrets.basic("", pat()))],
                           [("Authorization", "Token " + token)], [("Proxy-Authorization", "Bearer " + token)], [("X-Authorization", token)],
                           [bearer, ("Cookie", "UserAuthentication=" + cookie), ("X-Forwarded-Authorization", "Bearer " + token), ("Proxy-Authorization", secrets.basic("a", token)),
                            ("X-Ms-Token-Aad-Access-Token", token), ("Authorization-Copy", token), ("X-Correlation-Id", token),
                            ("traceparent", token), ("Idempotency-Key", token[-60:]), ("X-Airflow-Dag-Id", token)]):
                it.ask(method, target, fields, body)
    # What a caller writes into a URL is its request, and goes to Azure DevOps; but into nothing that the proxy writes.
    fine = list(it.upstream.received)
    it.upstream.always = lambda sock, r: message(200, "{}")
    it.ask("GET", ITEM + "?access_token=" + token, [bearer, ("Referer", "https://a/?access_token=" + token)])
    for target in (ITEM + "?path=/" + pat(), "http://user:%s@dagward.test%s" % (token, ITEM), "/contoso/%s/_apis/git/repositories" % token, "/contoso/analytics/_apis/build/%s" % pat()):
        it.proxy.ask("GET", target, fields=[bearer, ("User-Agent", "curl " + token)])  # its answer says what was asked
    it.upstream.received[:], it.upstream.always = fine, None


def test_no_secret_is_shown_anywhere(everything, issuer):
    it = everything()
    proxy = it.proxy
    with open(it.stdout, "ab") as proxy.stdout:
        proxy.start(ready=False)
    until(lambda: proxy.admin_get("/readyz").status_code == 200, lambda: proxy.admin_get("/readyz").text + proxy.log()[-2000:])
    for kind in KINDS:
        token = issuer.mint(kind + "-1", roles=[kind])
        until(lambda: it.ask("GET", ITEM, [("Authorization", "Bearer " + token)]).status == 200, lambda: "%s is lent: %s" % (kind, proxy.log()[-1500:]))
        it.ask("POST", RUNS, [("Authorization", "Bearer " + token)], b"{}")
    assert len({r["Authorization"] for r in it.upstream.received}) == len(KINDS), "each was lent, so each has been in the process"
    token = issuer.mint("operator-1", roles=["operator", "publisher"])
    ask_all_ways(it, token)
    # Upstream and the outgoing proxy echo what they were told, and turn the credential away.
    it.upstream.always = lambda sock, r: message(401, "", [("WWW-Authenticate", "Bearer error=%s" % r["Authorization"]), ("X-VSS-ResourceTenant", "t")])
    it.ask("GET", ITEM, [("Authorization", "Bearer " + token)])
    it.upstream.always = None
    it.outgoing.answer = b"HTTP/1.1 407 %s\r\nX: y\r\n\r\n" % it.outgoing.user.encode()
    it.upstream.hang_up()
    it.ask("GET", ITEM, [("Authorization", "Bearer " + token)])
    it.outgoing.answer = None
    # Credentials that cannot be obtained, and Entra's answer quotes the secret.
    client_secret = (it.folder / "client-secret").read_text().strip()
    it.tenant.entra.always = (400, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret: " + client_secret, "error_codes": [7000215]})
    proxy.reload({**proxy.config, "log": {"level": "debug"}, "limits": {"inspect": "512KiB"}})
    proxy.reload(policy="roles: {%s" % token, good=False)
    proxy.write_files()
    it.tenant.entra.always = None
    pages = {path: proxy.admin_get(path) for path in ("/healthz", "/readyz", "/metrics", "/.well-known/dagward/audit-key", "/nothing?token=" + token)}
    assert pages["/metrics"].status_code == 200 and len(pages["/metrics"].text) > 2000
    process = "/proc/%d/" % proxy.process.pid
    shown = {"environ": open(process + "environ", "rb").read(), "cmdline": open(process + "cmdline", "rb").read()}
    limits = open(process + "limits").read()
    if sanitizer() == "none":
        assert re.search(r"Max core file size +0 +0 ", limits)
        assert "CoreDumping:\t0" in open(process + "status").read()
        assert os.stat(process + "environ").st_uid == 0, "nobody else reads its memory"
    last = lambda: proxy.records()[-1]["seq"]
    seen = last()
    until(lambda: it.ingestion.seqs() and max(it.ingestion.seqs()) >= seen and it.receiver.seqs() and max(it.receiver.seqs()) >= seen, "copies of all records have arrived", within=20)
    proxy.policy = json.loads(json.dumps(proxy.policy)) if not isinstance(proxy.policy, str) else proxy.policy
    for name, command in {"check": ["check", "--config", proxy.config_file], "doctor": ["doctor", "--config", proxy.config_file],
                          "replay": ["policy", "replay", "--config", proxy.config_file, "--log", proxy.audit_file],
                          "suggest": ["policy", "suggest", "--config", proxy.config_file, "--log", proxy.audit_file],
                          "show": ["audit", "show", proxy.audit_file], "export": ["audit", "export", "--format", "ocsf", proxy.audit_file]}.items():
        told = subprocess.run([BINARY, *command], capture_output=True, timeout=seconds(60))
        shown[name] = told.stdout + told.stderr
    process = proxy.process
    process.terminate()
    assert process.wait(timeout=seconds(40)) == 0
    proxy.process = None
    for file in [it.stdout, proxy.stderr_file, *proxy.folder.glob("audit*")]:
        shown[file.name] = file.read_bytes()
    shown["ingestion"] = json.dumps(it.ingestion.taken)
    shown["syslog"] = json.dumps(it.receiver.got)
    for path, page in pages.items():
        shown["admin " + path] = page.text + repr(page.headers)
    for asked, answer in it.said:
        shown["answer to " + asked[:60]] = answer
        secrets.assert_no_leak(answer, "the answer to " + asked[:60])
    assert len(it.said) > 150 and len(shown["stdout"]) > 10000 and len(shown["stderr"]) > 1000
    for where, what in shown.items():
        secrets.assert_no_leak(what, where)
    it.outgoing.user = None
    for head in it.outgoing.heads:
        secrets.assert_no_leak(head, "what the outgoing proxy was told", secrets.CALLERS)


def test_helpers_of_clients_show_the_token_to_who_asks_and_to_nobody_else(tmp_path, operator):
    file = tmp_path / "token"
    file.write_text(operator + "\n")
    told = subprocess.run([BINARY, "git-credential", "--token-file", file, "get"], input="protocol=https\nhost=a\n\n", capture_output=True, text=True)
    assert operator in told.stdout
    secrets.assert_no_leak(told.stderr, "what git-credential says besides")
    file.write_text("not a token but " + secrets.caller("a-password-" + os.urandom(8).hex()) + "\n")
    told = subprocess.run([BINARY, "git-credential", "--token-file", file, "get"], input="protocol=https\nhost=a\n\n", capture_output=True, text=True)
    secrets.assert_no_leak(told.stderr, "what git-credential says of a file that is none")
    file.write_text(operator + "\n")
    port = free_port()
    config, log = tmp_path / "agent.yaml", tmp_path / "agent.log"
    config.write_text(json.dumps({"listen": "127.0.0.1:%d" % port, "proxy": "http://127.0.0.1:%d" % free_port(), "token_file": str(file), "askpass": True}))
    agent = subprocess.Popen([BINARY, "agent", "--config", config], stdin=subprocess.DEVNULL, stdout=open(tmp_path / "agent.out", "wb"), stderr=open(log, "wb"))
    try:
        ask = lambda path, **more: requests.get("http://127.0.0.1:%d%s" % (port, path), timeout=seconds(10), **more)

        def answers():
            assert agent.poll() is None, log.read_text()
            try:
                return ask("/askpass")
            except requests.ConnectionError:
                return None

        told = until(answers, "it answers")
        assert operator in told.text
        for other in (ask("/contoso", headers={"Cookie": "x=" + secrets.caller("agent-" + os.urandom(8).hex())}), ask("/askpass", headers={"Origin": "null"}), ask("/nothing")):
            secrets.assert_no_leak(other.text + repr(other.headers), "the agent's answer")
        for name in ("environ", "cmdline"):
            secrets.assert_no_leak(open("/proc/%d/%s" % (agent.pid, name), "rb").read(), name)
    finally:
        agent.terminate()
        assert agent.wait(timeout=seconds(20)) == 0
    for file in (log, tmp_path / "agent.out"):
        secrets.assert_no_leak(file.read_bytes(), file.name)


@pytest.mark.skipif(not confines(), reason="a program with a sanitizer, or that measures coverage, does not confine itself")
def test_confine_require_with_every_feature(everything, issuer, tmp_path):
    """Sinks, outgoing proxy, all credentials, names that are resolved, rotation, a handover: it works confined, or, where the
    kernel lacks something, it does not start and says why."""
    it = everything(confine="require", log={"level": "info"})
    proxy, path = it.proxy, str(tmp_path / "handover.sock")
    proxy.config["audit"]["rotate"] = {"compress": True}
    proxy.start(arguments=["--handover", path], ready=False, expect_failure=not kernel_has_landlock())
    if not kernel_has_landlock():
        assert proxy.process.wait(timeout=seconds(20)) == 2 and "`confine: require`" in proxy.log()
        return
    until(lambda: proxy.admin_get("/readyz").status_code == 200, lambda: proxy.admin_get("/readyz").text)
    said = confined(proxy)
    assert said["mode"] == "require" and said["seccomp"] == said["no_new_privs"] == "yes" and said["landlock"].startswith("v")
    for kind in KINDS:
        token = issuer.mint(kind + "-1", roles=[kind])
        until(lambda: it.ask("GET", ITEM, [("Authorization", "Bearer " + token)]).status == 200, lambda: "%s is lent: %s" % (kind, proxy.log()[-1500:]))
        assert it.ask("POST", RUNS, [("Authorization", "Bearer " + token), ("Idempotency-Key", kind)], b"{}").status == 200
    proxy.signal(10)  # SIGUSR1: another file
    until(lambda: list(proxy.folder.glob("audit.jsonl*.gz")), "the closed file is compressed")
    proxy.reload({**proxy.config, "limits": {"inspect": "512KiB"}})
    old = proxy.process
    proxy.stderr_file = proxy.folder / "stderr2"
    proxy.start(arguments=["--handover", path], ready=False)
    assert old.wait(timeout=seconds(40)) == 0
    until(lambda: proxy.admin_get("/readyz").status_code == 200, lambda: proxy.log()[-2000:])
    assert confined(proxy)["mode"] == "require"
    assert it.ask("POST", RUNS, [("Authorization", "Bearer " + token), ("Idempotency-Key", KINDS[-1])], b"{}")["Idempotent-Replayed"] == "true"
    seen = proxy.records()[-1]["seq"]
    until(lambda: it.ingestion.seqs() and max(it.ingestion.seqs()) >= seen and it.receiver.seqs() and max(it.receiver.seqs()) >= seen, "the sinks go on", within=20)
    proxy.stop()


@pytest.mark.skipif(not confines(), reason="a program with a sanitizer, or that measures coverage, does not confine itself")
@pytest.mark.parametrize("how", ["sockets passed", "agent"])
def test_confine_require_elsewhere(tmp_path, issuer, upstream, operator, how):
    if not kernel_has_landlock():
        pytest.skip("this kernel has no Landlock")
    if how == "sockets passed":
        import socket
        proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, {"hosts": {"*": "http://localhost:%d" % upstream.port}}, confine="require")
        with socket.create_server(("127.0.0.1", proxy.port)) as one, socket.create_server(("127.0.0.1", proxy.admin_port)) as two:
            try:
                proxy.start(sockets=[one, two])
                assert "socket=inherited" in proxy.log() and confined(proxy)["mode"] == "require"
                assert proxy.ask("POST", RUNS, operator, body=b"{}").status == 200, "a name is resolved in the confined process"
                proxy.stop()
            finally:
                proxy.kill()
        return
    port, file = free_port(), tmp_path / "token"
    file.write_text(operator)
    config, log = tmp_path / "agent.yaml", tmp_path / "log"
    config.write_text(json.dumps({"listen": "127.0.0.1:%d" % port, "proxy": "http://localhost:%d" % upstream.port, "token_file": str(file), "confine": "require"}))
    agent = subprocess.Popen([BINARY, "agent", "--config", config], stdin=subprocess.DEVNULL, stderr=open(log, "wb"))
    try:
        until(lambda: agent.poll() is None and " confined mode=require" in log.read_text(), lambda: log.read_text())
        got = until(lambda: requests.get("http://127.0.0.1:%d%s" % (port, ITEM), timeout=seconds(10)), "it answers")
        assert got.status_code == 200 and upstream.received[-1]["Authorization"] == "Bearer " + operator
    finally:
        secrets.CALLERS.discard(operator.encode())
        secrets.CALLERS.discard(operator.rsplit(".", 1)[-1].encode())
        agent.terminate()
        assert agent.wait(timeout=seconds(20)) == 0
