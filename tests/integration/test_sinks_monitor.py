"""Copies of the audit log in Azure Monitor: what the Logs Ingestion API answers is obeyed, and nothing is lost that it would take."""
import json
import socket

import pytest

from kit.azure import APP, MONITOR, TENANT, Tenant
from kit.policies import POLICY
from kit.sinks import RULE, RUNS, Ingestion, ask, at_least_once, caught_up, lines_of, sink
from kit.waiting import ROOT, until


@pytest.fixture
def tenant():
    tenant = Tenant()
    yield tenant
    tenant.close()


@pytest.fixture
def ingestion(tenant):
    ingestion = Ingestion(tenant)
    yield ingestion
    ingestion.down()


@pytest.fixture
def sentinel(start_proxy, issuer, upstream, tenant, ingestion, tmp_path):
    secret = tmp_path / "client-secret"
    secret.write_text(tenant.secret())

    def start(**more):
        app = {"name": "app", "type": "client_secret", "authority": tenant.entra.url, "tenant": TENANT, "client_id": APP, "secret_file": str(secret)}
        sinks = [{"name": "siem", "type": "azure_monitor", "endpoint": ingestion.url, "rule": RULE, "credential": "app", "interval": "100ms"}]
        proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, audit={"sinks": sinks, **more})
        proxy.config["credentials"].append(app)
        return proxy.start()

    return start


def test_the_logs_ingestion_API_gets_every_record(sentinel, operator, tenant, ingestion):
    proxy = sentinel()
    allowed = proxy.ask("GET", RUNS, operator)
    denied = proxy.ask("GET", "/contoso/other/_apis/pipelines/42/runs", operator)
    caught_up(proxy)
    proxy.stop()
    assert ingestion.seqs() == list(range(1, len(lines_of(proxy)) + 1))
    rows = {row["CorrelationId"]: row for row in ingestion.taken if row["Kind"] == "outcome"}
    row = rows[allowed.correlation]
    assert row["TimeGenerated"] == row["Record"]["time"] and row["Hash"] == row["Record"]["hash"] and row["Effect"] == "allow"
    assert row["Subject"] == "operator-1" and row["Operation"] == row["Record"]["request"]["operation"] and row["Source"]
    assert rows[denied.correlation]["Effect"] == "deny" and rows[denied.correlation]["Status"] == 403
    assert [row["Record"] for row in ingestion.taken] == [json.loads(line) for line in lines_of(proxy)]
    # Its columns are those of the table in the documentation.
    table = json.loads((ROOT / "docs/azure-monitor-table.json").read_text())
    columns = {c["name"] for c in table["properties"]["schema"]["columns"]}
    used = set().union(*ingestion.taken)
    assert used <= columns and len(used) > 12, used - columns
    assert tenant.given(MONITOR) and all(i["how"].startswith("secret") for i in tenant.issued)


def test_only_the_scope_that_is_used_is_asked_for(sentinel, operator, tenant, ingestion):
    """The credential is a sink's alone until a binding lends it, and then both tokens are there."""
    proxy = sentinel()
    caught_up(proxy)
    assert {i["resource"] for i in tenant.issued} == {MONITOR}
    assert "credential app on demand" in proxy.admin_get("/readyz").text
    policy = json.loads(json.dumps(POLICY))
    policy["bindings"][0]["credential"] = "app"
    proxy.reload(policy=policy)
    until(lambda: len({i["resource"] for i in tenant.issued}) == 2, "the other token")
    until(lambda: "credential app\n" in proxy.admin_get("/readyz").text, "it is kept fresh")


def test_what_the_service_answers_is_obeyed(sentinel, operator, tenant, ingestion):
    proxy = sentinel()
    caught_up(proxy)
    slow = (429, {"error": {"code": "TooManyRequests", "message": "Slow down."}}, [("Retry-After", "2")])
    for what in (slow, (503, {"error": {"message": "Later."}}), lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)):
        before = len(ingestion.asked)
        ingestion.behave = [what]
        ask(proxy, operator, 2)
        caught_up(proxy)
        times = [a["at"] for a in ingestion.asked[before:]]
        # A connection that was used before and breaks is tried anew at once.
        assert len(times) >= 2 and times[1] - times[0] >= (1.95 if what is slow else 0 if callable(what) else 0.4)
    # A token that is not taken any more is renewed, once.
    given = len(tenant.given(MONITOR))
    for issued in tenant.issued:
        if issued["resource"] == MONITOR:
            issued["until"] = 0
    ask(proxy, operator, 2)
    caught_up(proxy)
    assert len(tenant.given(MONITOR)) == given + 1
    assert sink(proxy, "lost_records_total") == 0 and sink(proxy, "failures_total") >= 3
    proxy.stop()
    at_least_once(ingestion.seqs(), len(lines_of(proxy)))


def test_what_is_too_large_is_split_and_what_is_refused_is_lost_alone(sentinel, operator, ingestion):
    ingestion.always = (503, {})
    proxy = sentinel()
    refused = proxy.ask("GET", RUNS, operator).correlation
    ask(proxy, operator, 60)
    ingestion.limit, ingestion.refuses = 20000, lambda row: row.get("CorrelationId") == refused
    ingestion.always = None
    caught_up(proxy)
    assert max(size for _, size, _ in ingestion.calls) <= 20000 and len(ingestion.calls) > 5
    lost = proxy.outcome(refused)["seq"]
    last = max(ingestion.seqs())
    assert set(range(1, last + 1)) - set(ingestion.seqs()) == {lost}
    assert sink(proxy, "lost_records_total") == 1
    told = until(lambda: proxy.events("sink.lost"), "the event")[0]["event"]["detail"]
    assert told["reason"] == "rejected" and told["first_seq"] == told["last_seq"] == str(lost)


def test_many_records_go_in_few_calls_that_are_not_too_large(sentinel, operator, ingestion):
    ingestion.always = (503, {})
    proxy = sentinel()
    long = "/contoso/analytics/_apis/pipelines/42/runs?x=" + "y" * 3000
    for _ in range(500):
        proxy.ask("GET", long, operator, fields=[("User-Agent", "z" * 3000)])
    ingestion.always = None
    caught_up(proxy)
    assert ingestion.calls[0][1] > 900000 and max(size for _, size, _ in ingestion.calls) <= 1000000, ingestion.calls
    assert max(packed for _, _, packed in ingestion.calls) < 300000


def test_a_kill_in_the_middle_of_a_call_repeats_and_loses_nothing(sentinel, operator, ingestion):
    proxy = sentinel()
    for _ in range(2):
        ask(proxy, operator, 10)
        proxy.kill()
        proxy.start()
    caught_up(proxy)
    at_least_once(ingestion.seqs(), max(ingestion.seqs()))
    proxy.whole_audit = False


@pytest.mark.parametrize("status, says", [(403, "Monitoring Metrics Publisher"), (404, "no rule")])
def test_what_somebody_has_to_put_right_is_told_and_loses_nothing(sentinel, operator, ingestion, status, says):
    ingestion.always = (status, {"error": {"code": "X", "message": "It is refused."}})
    proxy = sentinel()
    ask(proxy, operator, 2)
    told = until(lambda: proxy.events("sink.failed"), "the event")[0]["event"]["detail"]["error"]
    assert says in told and "It is refused." in told
    assert proxy.admin_get("/readyz").status_code == 200
    ingestion.always = None
    caught_up(proxy)
    assert until(lambda: proxy.events("sink.recovered"), "the event") and sink(proxy, "lost_records_total") == 0
    at_least_once(ingestion.seqs(), max(ingestion.seqs()))
