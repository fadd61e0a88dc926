"""What a reload takes away is not honoured any more: by no connection, no key and no credential that is older than it."""
import shutil
import ssl

import pytest

from kit import wire
from kit.azure import APP, TENANT, Tenant
from kit.certs import Authority
from kit.outgoing import Front, Outgoing
from kit.policies import POLICY
from kit.sinks import RULE, Ingestion, ask, caught_up
from kit.upstreams import message
from kit.waiting import free_port, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
COMMAND = b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/airflow/a\0report-status"
COMMANDS = b"%04x" % (len(COMMAND) + 4) + COMMAND + b"0000PACK"
INGESTION = "edge.ingest.monitor.azure.com"


def bearer(token):
    return [("Authorization", "Bearer " + token)]


@pytest.fixture
def with_listener(start_proxy, issuer, upstream):
    def start(**listener):
        port = free_port()
        proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1, listen=[{"address": "127.0.0.1:%d" % port, **listener}])
        proxy.port = port
        return proxy

    return start


# --- connections of callers ---


def refused(client, token):
    try:
        answer = client.ask("GET", RUNS, bearer(token))
    except (wire.CutOff, OSError):
        return True
    pytest.fail("it was answered %d" % answer.status)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_connection_does_not_outlive_trust_in_the_clients_authority(with_listener, authority, operator, tmp_path, version):
    """Whoever goes on sending requests would have it for ever."""
    old, new = Authority(tmp_path / "old", "the old one"), Authority(tmp_path / "new", "the new one")
    ca = tmp_path / "clients.pem"
    ca.write_bytes(old.file.read_bytes() + new.file.read_bytes())
    certificate, key = authority.issue("localhost")
    proxy = with_listener(tls={"certificate": certificate, "key": key, "client_ca": str(ca)})
    contexts = [authority.client(one.issue("worker")) for one in (old, new)]
    for context in contexts:
        context.maximum_version = version
    with proxy.connect(tls=contexts[0]) as of_old, proxy.connect(tls=contexts[1]) as of_new:
        for client in (of_old, of_new):
            assert client.ask("GET", RUNS, bearer(operator)).status == 200
        proxy.reload({**proxy.config, "limits": {"inspect": "512KiB"}})
        for client in (of_old, of_new):
            assert client.ask("GET", RUNS, bearer(operator)).status == 200, "both are trusted still"
        ca.write_bytes(new.file.read_bytes())
        proxy.reload()
        assert refused(of_old, operator)
        for _ in range(2):
            assert of_new.ask("GET", RUNS, bearer(operator)).status == 200, "whom the file still names has lost nothing"


def test_a_connection_without_certificate_ends_when_one_is_wanted(with_listener, authority, operator):
    certificate, key = authority.issue("localhost")
    tls = {"certificate": certificate, "key": key}
    proxy = with_listener(tls=tls)
    with proxy.connect(tls=authority.client()) as client:
        assert client.ask("GET", RUNS, bearer(operator)).status == 200
        proxy.reload({**proxy.config, "listen": [{**proxy.config["listen"][0], "tls": {**tls, "client_ca": str(authority.file)}}]})
        assert refused(client, operator)


def test_a_plain_connection_ends_when_the_listener_has_TLS(with_listener, authority, operator):
    proxy = with_listener()
    certificate, key = (shutil.copy(file, proxy.folder) for file in authority.issue("localhost"))
    with proxy.connect() as client:
        assert client.ask("GET", RUNS, bearer(operator)).status == 200
        proxy.reload({**proxy.config, "listen": [{**proxy.config["listen"][0], "tls": {"certificate": certificate, "key": key}}]})
        assert refused(client, operator)
    with proxy.connect(tls=authority.client()) as client:
        assert client.ask("GET", RUNS, bearer(operator)).status == 200
        proxy.reload({**proxy.config, "listen": [{"address": proxy.config["listen"][0]["address"]}]})
        assert client.ask("GET", RUNS, bearer(operator)).status == 200, "better than it has to be"


def test_a_head_that_comes_slowly_keeps_no_rights(start_proxy, issuer, upstream, operator):
    """What is in force when it is whole counts: it may be begun as often as one likes before something is taken away."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1, timeouts={"headers": "60s"})
    head = "GET %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % (RUNS, operator)
    with proxy.connect() as of_policy, proxy.connect() as of_issuer:
        for client in (of_policy, of_issuer):
            client.send(head[:-2])
        until(lambda: proxy.metric(r"^dagward_exchanges\b") == 2, "both have begun")
        proxy.reload(policy={**POLICY, "bindings": []})
        of_policy.send(head[-2:])
        assert of_policy.answer().status == 403
        proxy.reload({**proxy.config, "issuers": [{**issuer.config(), "audiences": ["another"]}]}, POLICY)
        of_issuer.send(head[-2:])
        assert of_issuer.answer().status == 401


@pytest.mark.parametrize("target, body", [(RUNS, b"{}"), ("/contoso/analytics/_apis/build/builds", b'{"definition": {"id": 42}}'), (PUSH, COMMANDS)],
                         ids=["small", "decides", "push"])
def test_a_body_that_comes_slowly_keeps_no_rights(start_proxy, issuer, upstream, target, body):
    """Whether the decision needed it or not; and whose rights are still there is served."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    token = issuer.mint("both-1", roles=["operator", "committer"])
    head = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n" % (
        target, "application/x-git-receive-pack-request" if target == PUSH else "application/json", token, len(body))
    clients = [proxy.connect() for _ in range(2)]
    for client in clients:
        client.send(head.encode() + body[:1])
    until(lambda: proxy.metric(r"^dagward_exchanges\b") == 2, "both are being served")
    proxy.reload(config={**proxy.config, "limits": {"inspect": "512KiB"}})
    clients[0].send(body[1:])
    assert clients[0].answer().status == 200 and len(upstream.received) == 1
    proxy.reload(policy={**POLICY, "bindings": []})
    clients[1].send(body[1:])
    assert clients[1].answer().status == 403
    for client in clients:
        client.close()
    assert [r.method for r in upstream.received] == ["POST"]


# --- keys ---


def test_keys_do_not_outlive_trust_in_the_authority_that_vouched_for_them(start_proxy, own_issuer, upstream, tmp_path):
    """Keys that cannot be fetched are kept for a day, but not what a server said that is not trusted any more."""
    old, new = Authority(tmp_path / "old", "the old one"), Authority(tmp_path / "new", "the new one")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(old.file.read_bytes())
    own_issuer.show(old.issue("127.0.0.1"))
    proxy = start_proxy([own_issuer.config({"discovery": True, "ca": str(ca), "cooldown": "1s"})], POLICY, upstream.url)
    token = own_issuer.mint(roles=["operator"])
    assert proxy.ask("GET", RUNS, token).status == 200
    fetched = len(own_issuer.fetches)
    own_issuer.down()
    proxy.reload({**proxy.config, "limits": {"inspect": "512KiB"}})
    assert proxy.ask("GET", RUNS, token).status == 200, "the same authority vouched for them"
    own_issuer.up()
    ca.write_bytes(new.file.read_bytes())
    proxy.reload()
    assert proxy.ask("GET", RUNS, token).status == 503 and len(own_issuer.fetches) <= fetched + 1
    ca.write_bytes(old.file.read_bytes() + new.file.read_bytes())
    proxy.reload()
    until(lambda: proxy.ask("GET", RUNS, token).status == 200, "it is trusted again", within=40, every=0.2)


# --- tokens for Azure DevOps ---


@pytest.fixture
def entra(tmp_path):
    """A tenant whose token endpoint shows a certificate of `old`, and the settings of a credential that asks it."""
    tenant = Tenant()
    tenant.old, tenant.new = Authority(tmp_path / "old", "the old one"), Authority(tmp_path / "new", "the new one")
    tenant.ca = tmp_path / "entra-ca.pem"
    tenant.ca.write_bytes(tenant.old.file.read_bytes())
    tenant.entra.show(tenant.old.issue("127.0.0.1"))
    (tmp_path / "secret").write_text(tenant.secret())
    tenant.settings = {"name": "etl", "tenant": TENANT, "client_id": APP, "authority": tenant.entra.url, "ca": str(tenant.ca)}
    yield tenant
    tenant.close()


def both(tenant):
    return tenant.old.file.read_bytes() + tenant.new.file.read_bytes()


def test_a_token_is_asked_for_anew_when_other_authorities_vouch_for_where_it_comes_from(start_proxy, issuer, upstream, operator, entra, tmp_path):
    """And is lent until there is another one: a file that is rotated, well or badly, fails no request."""
    credential = {**entra.settings, "type": "client_secret", "secret_file": str(tmp_path / "secret")}
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, credentials=[credential])

    def lent():
        assert proxy.ask("GET", RUNS, operator).status == 200
        return entra.given().index(upstream.received[-1]["Authorization"][len("Bearer "):])

    assert lent() == 0
    proxy.reload({**proxy.config, "limits": {"inspect": "512KiB"}})
    assert lent() == 0
    entra.ca.write_bytes(both(entra))
    proxy.reload()
    until(lambda: lent() == 1, "a new one is lent")
    proxy.reload({**proxy.config, "limits": {"inspect": "1MiB"}})
    assert lent() == 1
    entra.ca.write_bytes(entra.new.file.read_bytes())  # too early: the endpoint still shows the old certificate
    proxy.reload()
    until(lambda: proxy.events("credential.refresh_failed"), "it is tried, and nobody trusts that server any more")
    assert lent() == 1, "better than none"
    proxy.reload({**proxy.config, "limits": {"inspect": "512KiB"}})  # another one does not make it forget
    assert lent() == 1
    entra.entra.show(entra.new.issue("127.0.0.1"))
    until(lambda: lent() == 2, "the next attempt", within=40)
    elsewhere = tmp_path / "elsewhere.pem"
    shutil.copy(entra.ca, elsewhere)
    proxy.reload({**proxy.config, "credentials": [{**credential, "ca": str(elsewhere)}]})
    until(lambda: lent() == 3, "another file")
    assert len(entra.given()) == 4, "reloads that changed nothing of this asked for nothing"


def test_a_callers_own_token_is_renewed_when_other_authorities_vouch_for_where_it_comes_from(start_proxy, issuer, upstream, entra):
    entra.apps[APP]["federated"].append({"issuer": issuer.url, "subject": "worker", "audience": "dagward"})
    token = issuer.mint("worker", roles=["operator"])
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, credentials=[{**entra.settings, "type": "federated", "assertion": "caller"}])

    def lent():
        assert proxy.ask("GET", RUNS, token).status == 200
        return entra.given().index(upstream.received[-1]["Authorization"][len("Bearer "):])

    assert [lent() for _ in range(3)] == [0, 0, 0]
    proxy.reload({**proxy.config, "limits": {"inspect": "512KiB"}})
    assert [lent() for _ in range(3)] == [0, 0, 0]
    entra.ca.write_bytes(both(entra))
    proxy.reload()
    assert lent() in (0, 1), "nobody waits for it"
    until(lambda: lent() == 1, "the next one", within=40)


# --- addresses of Azure DevOps ---


def test_an_address_is_tried_again_when_ejection_is_switched_off_in_an_outage(start_proxy, issuer, operator, at):
    """The failure of the one request that tried it meanwhile must not close it for good."""
    upstream = {"hosts": {"*": "http://127.0.0.1:%d" % at.port}, "ejection": {"failures": 1, "time": "100ms"}}
    proxy = start_proxy([issuer.config()], POLICY, upstream, workers=1)
    assert proxy.ask("GET", RUNS, operator).status == 502
    proxy.reload({**proxy.config, "upstream": {**proxy.config["upstream"], "ejection": {"failures": 0}}})
    for _ in range(3):
        until(lambda: proxy.ask("GET", RUNS, operator).status == 502, "it is tried, in vain")
    at("127.0.0.1")
    assert proxy.ask("GET", RUNS, operator).status == 200, "it is tried each time"


def test_no_address_is_left_alone_for_longer_than_the_new_settings_say(start_proxy, issuer, operator, at):
    ejection = lambda most: {"hosts": {"*": "http://localhost:%d" % at.port}, "ejection": {"failures": 1, "time": most, "most": most}}
    at("::1").always = message(200, "{}", [("Connection", "close")])
    proxy = start_proxy([issuer.config()], POLICY, {"organizations": ["contoso"], **ejection("10m")}, workers=1)
    assert proxy.ask("GET", RUNS, operator).status == 200
    assert proxy.metric(r'^dagward_upstream_addresses_ejected{service="dev"}') == 1
    proxy.reload({**proxy.config, "upstream": {"organizations": ["contoso"], **ejection("100ms")}})
    back = at("127.0.0.1")
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200 and back.received, "it is used again")


# --- copies of the audit log ---


def test_a_sink_goes_through_the_outgoing_proxy_of_the_last_reload(start_proxy, issuer, upstream, authority, operator, tmp_path):
    """With its new password, too, and not through one that is not to be used any more."""
    tenant = Tenant()
    ingestion = Ingestion(tenant)
    front = Front(authority.server(INGESTION), ingestion.port)
    first, second = [Outgoing({INGESTION + ":443": front.port}, user=user) for user in ("first:password-1", "second:password-2")]
    (tmp_path / "way").write_text("first:password-1")
    (tmp_path / "secret").write_text(tenant.secret())
    sinks = [{"name": "siem", "type": "azure_monitor", "endpoint": "https://" + INGESTION, "rule": RULE, "credential": "app", "interval": "100ms", "ca": str(authority.file)}]
    way = lambda outgoing: {"url": outgoing.url, "credentials_file": str(tmp_path / "way")}
    proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, audit={"sinks": sinks}, outgoing_proxy=way(first))
    proxy.config["credentials"].append({"name": "app", "type": "client_secret", "authority": tenant.entra.url, "tenant": TENANT, "client_id": APP, "secret_file": str(tmp_path / "secret")})
    proxy.start()
    ask(proxy, operator, 1)
    caught_up(proxy)
    assert first.heads
    (tmp_path / "way").write_text("second:password-2")
    proxy.reload({**proxy.config, "outgoing_proxy": way(second)})
    before = len(first.heads)
    ask(proxy, operator, 1)
    caught_up(proxy)
    assert second.heads and len(first.heads) == before
    proxy.stop()
    for thing in (first, second, front, tenant):
        thing.close()
    ingestion.down()
