"""Break-glass bindings: more rights for a reason, and a record before anything is done with them."""
import datetime
import json
import subprocess

import pytest
import requests

from kit.emulator import Emulator
from kit.proxy import Proxy
from kit.upstreams import message
from kit.waiting import BINARY, seconds
from test_agent import Agent
from test_flows_git import Git, bearer, head_of

RUN = "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"
FORBIDDEN = "/contoso/analytics/_apis/pipelines/99/runs?api-version=7.1"
BUILDS = "/contoso/analytics/_apis/build/builds?api-version=7.1"
REPOSITORY = "/contoso/analytics/_git/dags"
REASON = "INC-4711, the load of the night hangs"
JSON = [("Content-Type", "application/json")]


def in_days(n):
    return (datetime.datetime.utcnow() + datetime.timedelta(days=n)).strftime("%Y-%m-%d")


def glass_policy(issuer="airflow", **more):
    return {
        "version": 1,
        "roles": {
            "reader": {"allow": [{"access": ["read"], "areas": ["build"], "projects": ["analytics"]}]},
            "never": {"deny": [{"operations": ["pipelines.runs.run"], "pipelines": [99]}]},
            "operator": {"allow": [{"operations": ["pipelines.runs.run", "git.items.get"], "projects": ["analytics"]},
                                   {"operations": ["git.fetch", "git.push"], "repositories": ["analytics/dags"]},
                                   {"operations": ["discovery"]}]},
        },
        "bindings": [
            {"name": "on call", "callers": {"issuer": issuer, "subject": "ann"}, "roles": ["reader", "never"], "credential": "etl"},
            {"name": "emergency", "callers": {"issuer": issuer, "subject": "ann"}, "roles": ["operator"], "credential": "etl",
             "break_glass": {"reason_at_least": 20}, "expires": in_days(30), **more},
        ],
    }


@pytest.fixture
def proxy(start_proxy, issuer, upstream):
    return start_proxy([issuer.config()], glass_policy(), {"hosts": {"*": upstream.url}})


@pytest.fixture
def ann(issuer):
    return issuer.mint("ann")


def with_reason(text=REASON):
    return [("X-Dagward-Reason", text)]


def used(proxy, answer):
    return [r for r in proxy.of(answer) if r["kind"] == "event"]


def test_a_post_with_a_reason_passes_and_its_record_is_on_disk_before(proxy, upstream, ann):
    seen = []

    def look(sock, request):
        seen.append([r for r in proxy.records() if r.get("correlation_id") == request["X-VSS-E2EID"]])
        return message(200, "{}")

    upstream.always = look
    answer = proxy.ask("POST", RUN, ann, [*JSON, *with_reason()], b"{}")
    assert answer.status == 200, answer.text
    assert [r["kind"] for r in seen[0]] == ["event", "intent"]
    event, intent = seen[0]
    assert event["event"]["name"] == "break_glass.used"
    assert event["caller"]["subject"] == "ann" and event["request"]["operation"] == "pipelines.runs.run"
    assert "pipeline:42" in event["request"]["resources"]
    for record in (event, intent, proxy.outcome(answer)):
        assert record["decision"]["break_glass"] == REASON and record["decision"]["binding"] == "emergency"
        assert record["decision"]["effect"] == "allow"
    received = upstream.received[-1]
    assert not [n for n in received.names() if "dagward" in n]
    assert REASON not in str(received.fields)
    assert proxy.metric(r"^dagward_break_glass_total ") == 1
    log = proxy.log()
    assert "glass is broken" in log and answer.correlation in log and REASON not in log


def test_so_is_that_of_a_read(proxy, upstream, ann):
    seen = []

    def look(sock, request):
        seen.append([r["kind"] for r in proxy.records() if r.get("correlation_id") == request["X-VSS-E2EID"]])
        return message(200, "{}")

    upstream.always = look
    path = "/contoso/analytics/_apis/git/repositories/dags/items?path=/a&api-version=7.1"
    answer = proxy.ask("GET", path, ann, with_reason())
    assert answer.status == 200 and seen == [["event"]], answer.text
    proxy.outcome(answer)
    assert [r["kind"] for r in proxy.of(answer)] == ["event", "outcome"]


def test_glass_is_not_broken_for_what_is_allowed_anyway(proxy, upstream, ann):
    answer = proxy.ask("GET", BUILDS, ann, with_reason())
    record = proxy.outcome(answer)
    assert answer.status == 200 and record["decision"]["binding"] == "on call" and "break_glass" not in record["decision"]
    assert not proxy.events("break_glass") and proxy.metric(r"^dagward_break_glass_total ") == 0
    assert "x-dagward-reason" not in upstream.received[-1].names()


@pytest.mark.parametrize("fields", [[], with_reason("too short"), with_reason("  nineteen letters...  "), with_reason("")])
def test_without_enough_of_a_reason_the_refusal_asks_for_it(proxy, upstream, ann, fields):
    answer = proxy.ask("POST", RUN, ann, [*JSON, *fields], b"{}")
    assert answer.status == 403 and not upstream.received
    assert "binding emergency would allow it with a reason of 20 characters or more in X-Dagward-Reason" in json.loads(answer.text)["message"]
    record = proxy.outcome(answer)
    assert "X-Dagward-Reason" in record["decision"]["reason"] and "break_glass" not in record["decision"]
    assert not used(proxy, answer)


def test_who_has_no_such_binding_is_not_told_of_it(proxy, upstream, issuer):
    answer = proxy.ask("POST", RUN, issuer.mint("bob"), [*JSON, *with_reason()], b"{}")
    assert answer.status == 403 and "emergency" not in answer.text and not upstream.received


def test_a_deny_cannot_be_broken(proxy, upstream, ann):
    answer = proxy.ask("POST", FORBIDDEN, ann, [*JSON, *with_reason()], b"{}")
    assert answer.status == 403 and "role never denies" in answer.text and "X-Dagward-Reason" not in answer.text
    proxy.outcome(answer)
    assert not upstream.received and not used(proxy, answer)


@pytest.mark.parametrize("times", [{"expires": in_days(-1)}, {"not_before": in_days(10), "expires": in_days(20)}])
def test_a_binding_outside_its_time_gives_nothing(start_proxy, issuer, upstream, ann, times):
    proxy = start_proxy([issuer.config()], glass_policy(**times), {"hosts": {"*": upstream.url}})
    answer = proxy.ask("POST", RUN, ann, [*JSON, *with_reason()], b"{}")
    assert answer.status == 403 and "would allow" not in answer.text and not upstream.received


@pytest.mark.parametrize("fields,status", [
    ([("X-Dagward-Reason", REASON), ("X-Dagward-Reason", REASON)], 400),
    ([("X-Dagward-Reason", REASON), ("x-dagward-REASON", "")], 400),
    (with_reason("x" * 501), 400), (with_reason("x" * 500), 200),
    (with_reason("INC-4711 is on fire \x01!"), 400), (with_reason("INC-4711 is on fire \x7f!"), 400), (with_reason("INC-4711\tis on fire, all of it"), 400),
    (with_reason("INC-4711 is on fire \xff\xfe"), 400), (with_reason("INC-4711 is on fire \xc3"), 400), (with_reason("INC-4711 is on fire \xed\xa0\x80"), 400),
    (with_reason("INC-4711 is on fire \u0085".encode().decode("latin-1")), 400), (with_reason("INC-4711 is on fire \u2028".encode().decode("latin-1")), 400),
    (with_reason("INC-4711 is on fire \u202e".encode().decode("latin-1")), 400),
    (with_reason("Störung der nächtlichen Läufe 🔥".encode().decode("latin-1")), 200),
    (with_reason('"}],"kind":"outcome","x":"\\u0000 %0d%0a'), 200), (with_reason("${jndi:ldap://x} <script>alert(1)</script>"), 200)])
def test_hostile_bytes_are_refused_or_written_as_what_they_are(proxy, upstream, ann, fields, status):
    answer = proxy.ask("POST", RUN, ann, [*JSON, *fields], b"{}")
    assert answer.status == status, answer.text
    assert len(upstream.received) == (status == 200)
    record = proxy.outcome(answer)
    if status == 200:
        given = fields[0][1].encode("latin-1").decode()
        assert record["decision"]["break_glass"] == given and used(proxy, answer)[0]["decision"]["break_glass"] == given
    else:
        assert record["decision"]["effect"] == "deny" and not used(proxy, answer)
    whole = subprocess.run([BINARY, "audit", "verify", proxy.audit_file], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stdout


def test_what_looks_like_a_secret_in_a_reason_is_not_kept(proxy, ann, issuer):
    token = issuer.mint("ann")[:300]
    answer = proxy.ask("POST", RUN, ann, [*JSON, *with_reason("I was told to use " + token)], b"{}")
    assert answer.status == 200
    assert proxy.outcome(answer)["decision"]["break_glass"].startswith("I was told to use ***")


@pytest.mark.parametrize("name", ["X_Dagward_Reason", "X-Dagward_Reason", "X-Dagward-Reason2", "X-DagwardReason"])
def test_other_spellings_are_no_reason_and_go_nowhere(proxy, upstream, ann, name):
    assert proxy.ask("POST", RUN, ann, [*JSON, (name, REASON)], b"{}").status == 403
    assert proxy.ask("GET", BUILDS, ann, [(name, REASON)]).status == 200
    if name != "X-DagwardReason":  # a field of nobody's
        assert REASON not in str(upstream.received[-1].fields)


def test_a_trailer_or_a_hop_by_hop_reason_does_not_travel(proxy, upstream, ann):
    answer = proxy.ask("POST", RUN, ann, [*JSON, *with_reason(), ("Connection", "X-Dagward-Reason")], b"{}")
    assert answer.status == 200 and REASON not in str(upstream.received[-1].fields)


def test_who_asks_who_it_is_learns_of_the_glass(proxy, ann):
    grants = json.loads(proxy.ask("GET", "/", ann).body)["grants"]
    assert {"binding": "emergency", "role": "operator", "needsReasonOf": 20} in grants
    assert {"binding": "on call", "role": "reader"} in grants


def test_an_answer_that_is_given_here_is_told_as_well(proxy, upstream, ann):
    answer = proxy.ask("GET", "/contoso/_apis/ResourceAreas", ann, with_reason())
    assert answer.status == 200 and not upstream.received
    proxy.outcome(answer)
    assert [r["kind"] for r in proxy.of(answer)] == ["event", "outcome"]
    assert proxy.metric(r"^dagward_break_glass_total ") == 1


def test_no_glass_is_broken_without_evidence(start_proxy, issuer, upstream, ann):
    """Also not for a read, also where reads may go on."""
    proxy = start_proxy([issuer.config()], glass_policy(), {"hosts": {"*": upstream.url}}, file_size=32 * 1024, audit={"on_failure": "allow-reads"}, timeouts={"drain": "2s"})
    proxy.whole_audit = False
    item = "/contoso/analytics/_apis/git/repositories/dags/items?path=/a&api-version=7.1"
    refused = 0  # in a row: where two records do not fit any more, one may
    for _ in range(200):
        refused = refused + 1 if proxy.ask("GET", item, ann, with_reason()).status == 503 else 0
        if refused == 5:
            break
    assert refused == 5 and upstream.received
    assert len(proxy.events("break_glass.used")) == len(upstream.received)
    assert proxy.ask("GET", BUILDS, ann).status == 200


def test_an_ordinary_rule_in_doubt_is_settled_before_glass_is_broken(start_proxy, issuer, upstream, ann):
    """The ordinary rule names the pipeline, the request its number; whoever knows both spares the glass."""
    policy = glass_policy()
    policy["roles"]["reader"]["allow"].append({"operations": ["pipelines.runs.run"], "pipelines": ["nightly"]})
    proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
    name = ["nightly"]

    def answer(sock, request):
        if request.method == "GET":
            if not name[0]:
                return message(500, "{}")
            return message(200, json.dumps({"id": 42, "name": name[0], "folder": "\\", "path": "\\",
                                            "project": {"id": "11111111-2222-3333-4444-555555555555", "name": "analytics"}}))
        return message(200, "{}")

    upstream.always = answer
    first = proxy.ask("POST", RUN, ann, [*JSON, *with_reason()], b"{}")
    assert first.status == 200, first.text
    assert proxy.outcome(first)["decision"]["binding"] == "on call" and not used(proxy, first)
    for other in ("weekly", None):  # it is another one; nobody can say
        name[0] = other
        proxy.reload()
        second = proxy.ask("POST", RUN, ann, [*JSON, *with_reason()], b"{}")
        assert second.status == 200, second.text
        assert proxy.outcome(second)["decision"]["binding"] == "emergency" and len(used(proxy, second)) == 1


def test_a_rule_behind_glass_in_doubt_asks_nobody_once_glass_is_broken(start_proxy, issuer, upstream, ann):
    policy = glass_policy()
    policy["roles"]["operator"]["allow"].append({"operations": ["pipelines.runs.run"], "pipelines": ["weekly"]})
    proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
    answer = proxy.ask("POST", RUN, ann, [*JSON, *with_reason()], b"{}")
    assert answer.status == 200 and [r.method for r in upstream.received] == ["POST"]


def test_a_push_names_the_glass_of_any_ref(start_proxy, issuer, upstream, ann):
    policy = glass_policy()
    policy["roles"]["reader"]["allow"].append(
        {"operations": ["git.push"], "repositories": ["analytics/dags"], "refs": ["refs/heads/ann/*"]})
    proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
    line = lambda text: b"%04x%s" % (len(text) + 4, text)
    zero, one = b"0" * 40, b"1" * 40

    def push(*refs, fields=()):
        lines = [b"%s %s %s" % (zero, one, ref) + (b"\0report-status\n" if i == 0 else b"\n") for i, ref in enumerate(refs)]
        body = b"".join(line(text) for text in lines) + b"0000PACK"
        return proxy.ask("POST", REPOSITORY + "/git-receive-pack", ann,
                         [("Content-Type", "application/x-git-receive-pack-request"), *fields], body)

    upstream.always = message(200, b"", type="application/x-git-receive-pack-result")
    own = push(b"refs/heads/ann/x", fields=with_reason())
    assert proxy.outcome(own)["decision"]["binding"] == "on call" and not used(proxy, own)
    both = push(b"refs/heads/ann/x", b"refs/heads/main", fields=with_reason())
    assert proxy.outcome(both)["decision"]["binding"] == "emergency" and len(used(proxy, both)) == 1
    assert len(upstream.received) == 2
    refused = push(b"refs/heads/ann/x", b"refs/heads/main")
    assert "X-Dagward-Reason" in refused.text and len(upstream.received) == 2


def test_a_batch_names_the_glass_of_any_item(start_proxy, issuer, upstream, ann):
    policy = glass_policy()
    policy["roles"]["reader"]["allow"].append({"operations": ["wit.batch.execute"]})
    policy["roles"]["reader"]["allow"].append({"operations": ["wit.workItems.create"], "projects": ["analytics"]})
    policy["roles"]["operator"]["allow"].append({"operations": ["wit.workItems.create"], "projects": ["payroll"]})
    proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})

    def send(*projects, fields=()):
        items = [{"method": "POST", "uri": "/%s/_apis/wit/workItems/$Task?api-version=5.0" % p, "headers": {"Content-Type": "application/json-patch+json"},
                  "body": [{"op": "add", "path": "/fields/System.Title", "value": "x"}]} for p in projects]
        return proxy.ask("PATCH", "/contoso/_apis/wit/$batch?api-version=5.0", ann, [*JSON, *fields], json.dumps(items).encode())

    upstream.always = message(200, b'{"count":1,"value":[]}')
    own = send("analytics", fields=with_reason())
    assert own.status == 200 and "break_glass" not in proxy.outcome(own)["decision"] and not used(proxy, own)
    both = send("analytics", "payroll", "analytics", fields=with_reason())
    assert both.status == 200 and proxy.outcome(both)["decision"]["binding"] == "emergency" and len(used(proxy, both)) == 1
    assert send("analytics", "payroll").status == 403 and len(upstream.received) == 2


def test_replay_knows_that_glass_was_broken_and_suggest_leaves_it_out(proxy, upstream, ann):
    proxy.outcome(proxy.ask("POST", RUN, ann, [*JSON, *with_reason()], b"{}"))
    proxy.outcome(proxy.ask("GET", BUILDS, ann))
    run = lambda *words: subprocess.run([BINARY, "policy", *words, "--policy", proxy.policy_file, "--log", proxy.audit_file], capture_output=True, text=True)
    replayed = run("replay")
    assert replayed.returncode == 0 and "2 as before" in replayed.stdout, replayed.stdout + replayed.stderr
    suggested = run("suggest")
    policy, _, remarks = suggested.stdout.partition("# policy.yaml")
    assert "build.builds.list" in policy and "pipelines.runs.run" not in policy, suggested.stdout
    assert "1 requests that broke glass" in suggested.stderr
    shown = subprocess.run([BINARY, "audit", "show", proxy.audit_file], capture_output=True, text=True).stdout
    assert [line for line in shown.splitlines() if "break_glass.used" in line and "by ann" in line and REASON in line]


# --- clients as they are ---


@pytest.fixture
def place(tmp_path, issuer):
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], glass_policy())
    emulator = Emulator(tmp_path / "emulator", proxy.upstream_token)
    proxy.config["upstream"]["hosts"] = {"*": emulator.url}
    proxy.start()
    try:
        yield proxy, emulator
        emulator.stop()
        proxy.stop()
    finally:
        proxy.kill()
        if emulator.process.poll() is None:
            emulator.process.kill()


def test_git_fetches_with_a_reason(place, ann, tmp_path):
    proxy, emulator = place
    (tmp_path / "work").mkdir()
    git = Git(tmp_path / "work")
    refused = git.try_(*bearer(ann), "clone", proxy.url + REPOSITORY, "a")
    assert refused.returncode != 0 and "X-Dagward-Reason" in refused.stderr, refused.stderr
    git(*bearer(ann), "-c", "http.extraHeader=X-Dagward-Reason: " + REASON, "clone", proxy.url + REPOSITORY, "a")
    world = type("", (), {"emulator": emulator})
    assert git("rev-parse", "HEAD", cwd=git.folder / "a") == head_of(world)
    events = proxy.events("break_glass.used")
    assert events and {e["decision"]["break_glass"] for e in events} == {REASON}
    assert {e["request"]["operation"].split(".")[0] for e in events} == {"gitHttp"}
    assert not [h for r in emulator.requests() for h in r["headers"] if "reason" in h.lower()]


def test_requests_and_the_agent_pass_a_reason_on(place, ann, tmp_path):
    proxy, emulator = place
    agent = Agent(tmp_path / "agent", proxy.url, ann)
    try:
        for url, headers in ((proxy.url, {"Authorization": "Bearer " + ann}), (agent.url, {})):
            ask = lambda **more: requests.post(url + RUN, json={}, headers={**headers, **more}, timeout=seconds(10))
            assert ask().status_code == 403
            answer = ask(**{"X-Dagward-Reason": REASON})
            assert answer.status_code == 200, answer.text
            assert proxy.outcome(answer)["decision"]["break_glass"] == REASON
        assert requests.get(agent.url + BUILDS, headers={"X-Dagward-Token": "x"}, timeout=seconds(10)).status_code == 200
    finally:
        agent.stop()
    assert not [h for r in emulator.requests() for h in r["headers"] if "reason" in h.lower()]
