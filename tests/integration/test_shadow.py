"""A shadow policy is asked beside the live one and changes nothing; policy files that are replaced
as Kubernetes does it are taken whole; bindings that end say so."""
import copy
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import threading

import pytest

from kit import secrets
from kit.directory import ANALYTICS, Directory, is_lookup
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.upstreams import message
from kit.waiting import BINARY, seconds, until
from test_attacks import pack
from test_operation import Load

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
OTHER = "/contoso/analytics/_apis/pipelines/7/runs"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"
BATCH = "/contoso/_apis/wit/$batch?api-version=5.0"
JSON = [("Content-Type", "application/json")]


def rules(*allow, deny=(), role="operator", credential="etl", **binding):
    """A policy that gives whoever has the role `operator` this."""
    return {
        "version": 1,
        "roles": {role: {"allow": list(allow), **({"deny": list(deny)} if deny else {})}},
        "bindings": [{"name": "operators", "callers": {"issuer": "airflow", "claims": {"roles": "operator"}}, "roles": [role], "credential": credential, **binding}],
    }


RUN_42 = {"operations": ["pipelines.runs.*"], "projects": ["analytics"], "pipelines": [42]}
RUN_ANY = {"operations": ["pipelines.runs.*"], "projects": ["analytics"]}


def write(path, policy):
    path.write_text(policy if isinstance(policy, str) else json.dumps(policy, indent=1))


@pytest.fixture
def start(start_proxy, issuer, upstream, tmp_path):
    def start(live, shadow, workers=1, credentials=("etl",), **settings):
        write(tmp_path / "candidate.yaml", shadow)
        lent = []
        for name in credentials:
            (tmp_path / (name + ".token")).write_text(secrets.upstream("upstream-canary-%s-%s" % (name, os.urandom(8).hex())) + "\n")
            lent.append({"name": name, "type": "static_file", "file": str(tmp_path / (name + ".token"))})
        return start_proxy([issuer.config()], live, {"hosts": {"*": upstream.url}, **settings.pop("upstream", {})}, workers=workers, credentials=lent,
                           policies={"shadow": [str(tmp_path / "candidate.yaml")]}, **settings)

    return start


def says(proxy, answer):
    """What the record of a request says of the shadow policy; None: nothing."""
    return proxy.outcome(answer)["decision"].get("shadow")


def line_of(path, text):
    """Where the entry that holds `text` begins, as rules are named."""
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if text in line)
    while lines[at].strip() != "{":
        at -= 1
    return "%s:%d" % (path.name, at + 1)


def run(proxy, token, path=RUNS, body=None):
    return proxy.ask("POST", path, token, JSON, json.dumps(body or {}).encode())


# --- what it says ---


def test_a_disagreement_is_recorded_and_changes_nothing(start, upstream, operator, tmp_path):
    live = rules({**RUN_ANY, "pipelines": [42, 7, 8]}, deny=[{"operations": ["pipelines.runs.run"], "pipelines": [13]}])
    shadow = rules({**RUN_ANY, "pipelines": [42, 99]}, deny=[{"operations": ["pipelines.runs.run"], "pipelines": [8]}], role="candidate")
    proxy = start(live, shadow)
    at = lambda text: line_of(tmp_path / "candidate.yaml", text)
    path = lambda n: "/contoso/analytics/_apis/pipelines/%d/runs" % n
    expected = {
        42: (200, None),
        7: (200, "deny"),
        8: (200, "deny by " + at("  8")),
        99: (403, "allow by %s, role candidate" % at("  99")),
        13: (403, None),
        5: (403, None),
    }
    for number, (status, said) in expected.items():
        answer = run(proxy, operator, path(number))
        assert answer.status == status and says(proxy, answer) == said, (number, answer.status, says(proxy, answer))
        assert said is None or said not in answer.text, "callers are not told"
    assert [r.target for r in upstream.received] == [path(42), path(7), path(8)]
    count = lambda live, shadow: proxy.metric('shadow_decisions_total.*live="%s",shadow="%s"' % (live, shadow))
    assert [count("allow", "allow"), count("allow", "deny"), count("deny", "allow"), count("deny", "deny")] == [1, 2, 1, 2]
    assert proxy.metric("shadow_disagreements_total") == 3
    # An intent says what is about to happen; only the outcome says what another policy thinks.
    assert all("shadow" not in r["decision"] for r in proxy.records("intent"))


def test_another_credential_is_a_disagreement_another_rule_is_not(start, upstream, operator, tmp_path):
    live = rules(RUN_42)
    shadow = rules({"access": ["read"], "areas": ["build"]}, {"operations": ["pipelines.runs.*"], "pipelines": [42]}, role="renamed")
    proxy = start(live, shadow, credentials=("etl", "other"))
    answer = run(proxy, operator)
    assert answer.status == 200 and says(proxy, answer) is None
    sent = upstream.received[-1]["Authorization"]
    write(tmp_path / "candidate.yaml", rules(RUN_42, credential="other"))
    told = proxy.reload()
    assert told["shadow"] != told["shadow_before"] and told["policy"] == told["policy_before"]
    answer = run(proxy, operator)
    said = "allow by %s, role operator, credential other" % line_of(tmp_path / "candidate.yaml", "  42")
    assert answer.status == 200 and says(proxy, answer) == said
    assert upstream.received[-1]["Authorization"] == sent, "the live policy chooses what is lent"
    assert proxy.outcome(answer)["credential"]["name"] == "etl"


def test_a_policy_never_disagrees_with_itself(start, upstream, issuer):
    """Whatever is asked: allowed, denied, in doubt, learnt from upstream, with parts, without a body."""
    upstream.always = Directory()
    live = copy.deepcopy(POLICY)
    live["roles"]["operator"]["allow"] += [{"operations": ["git.pullRequestReviewers.*"], "projects": ["analytics"], "where": {"vote": [10]}},
                                           {"operations": ["wit.batch.execute"]}, {"operations": ["wit.workItems.update"], "projects": ["analytics"]}]
    proxy = start(live, live)
    item = {"method": "PATCH", "uri": "/analytics/_apis/wit/workItems/7?api-version=5.0", "headers": {"Content-Type": "application/json-patch+json"}, "body": []}
    batch = lambda *items: json.dumps(items).encode()
    vote = "/contoso/analytics/_apis/git/repositories/dags/pullRequests/1/reviewers/7?api-version=7.1"
    asked = [
        ("POST", RUNS, "operator", b"{}"), ("POST", RUNS, "operator", b'{"yamlOverride":"x"}'), ("POST", OTHER, "operator", b"{}"),
        ("GET", "/contoso/%s/_apis/pipelines" % ANALYTICS, "operator", b""), ("GET", "/contoso/11111111-2222-4333-8444-555555555555/_apis/pipelines", "operator", b""),
        ("GET", "/contoso/00000000-0000-4000-8000-000000000000/_apis/pipelines", "operator", b""), ("GET", "/contoso/_apis/pipelines", "operator", b""),
        ("GET", "/contoso/_apis/build/builds/1001", "operator", b""), ("GET", "/contoso/_apis/resourceAreas", "operator", b""),
        ("GET", "/fabrikam/analytics/_apis/build/builds", "operator", b""), ("GET", "/_apis/profile/profiles/me", "operator", b""),
        ("HEAD", "/contoso/analytics/_apis/unheard/x", "operator", b""), ("POST", PUSH, "committer", pack("refs/heads/airflow/a")),
        ("POST", PUSH, "committer", pack("refs/heads/airflow/a", "refs/heads/main")), ("POST", PUSH, "publisher", pack("refs/heads/main")),
        ("POST", PUSH, "committer", b"0000"), ("PUT", vote, "operator", b'{"vote":10}'), ("PUT", vote, "operator", b'{"vote":5}'),
        ("PATCH", BATCH, "operator", batch(item)), ("PATCH", BATCH, "operator", batch(item, {**item, "uri": "/secret/_apis/wit/workItems/7"})),
        ("PATCH", BATCH, "reader", batch(item)),
    ]
    effects = set()
    for method, target, role, body in asked:
        answer = proxy.ask(method, target, issuer.mint("someone", roles=[role]), JSON, body)
        record = proxy.outcome(answer)
        effects.add(record["decision"]["effect"])
        assert "shadow" not in record["decision"], (method, target, role, body, record["decision"])
    assert effects == {"allow", "deny"}
    assert proxy.metric("shadow_disagreements_total") == 0 and proxy.metric('shadow_decisions_total.*live="allow"') >= 8
    assert proxy.metric('shadow_decisions_total.*live="deny"') >= 8


def test_what_only_the_body_tells_is_looked_at_where_it_was_read(start, upstream, operator, tmp_path):
    """The live policy names the pipeline only; the candidate asks for a branch as well."""
    proxy = start(rules(RUN_42), rules({**RUN_42, "refs": ["refs/heads/main"], "where": {"variables": []}}))
    ref = lambda name: {"resources": {"repositories": {"self": {"refName": name}}}}
    for body, said in ((ref("refs/heads/main"), None), (ref("refs/heads/wip"), "deny"), ({**ref("refs/heads/main"), "variables": {"a": {"value": "b"}}}, "deny"), ({}, "deny")):
        answer = run(proxy, operator, body=body)
        assert answer.status == 200 and says(proxy, answer) == said, (body, says(proxy, answer))
        assert json.loads(upstream.received[-1].body.kept) == body
    # Not to be understood, and nobody minded so far.
    answer = proxy.ask("POST", RUNS, operator, JSON, b'{"a":1,"a":2}')
    assert answer.status == 200 and says(proxy, answer) == "unclear"


def test_no_body_is_read_for_its_sake(start, upstream, operator):
    change = {"operations": ["git.pullRequestReviewers.create"], "projects": ["analytics"]}
    proxy = start(rules(change), rules({**change, "where": {"vote": [10]}}), limits={"inspect": "1KiB"})
    target = "/contoso/analytics/_apis/git/repositories/dags/pullRequests/1/reviewers/7?api-version=7.1"
    for body in (b'{"vote":10}', b'{"vote":10,"x":"%s"}' % (b"y" * 5000)):
        answer = proxy.ask("PUT", target, operator, JSON, body)
        assert answer.status == 200 and says(proxy, answer) == "unclear"
        assert upstream.received[-1].body.kept == body
    # Without a body there is nothing to know.
    answer = proxy.ask("PUT", target, operator, [("Content-Length", "0")])
    assert answer.status == 200 and says(proxy, answer) in (None, "unclear")
    assert proxy.metric('shadow_decisions_total.*live="allow",shadow="unclear"') >= 2


def test_nobody_is_asked_what_a_name_is_for_its_sake(start, upstream, operator):
    upstream.always = Directory()
    read = {"access": ["read"], "areas": ["pipelines"]}
    proxy = start(rules({**read, "projects": ["analytics"]}), rules({**read, "projects": [ANALYTICS]}))
    answer = proxy.ask("GET", "/contoso/analytics/_apis/pipelines", operator)
    assert answer.status == 200 and says(proxy, answer) == "unclear"
    assert not [r for r in upstream.received if is_lookup(r)]
    # What the live policy had to learn serves both.
    answer = proxy.ask("GET", "/contoso/%s/_apis/pipelines" % ANALYTICS, operator)
    assert answer.status == 200 and says(proxy, answer) is None
    assert proxy.metric('live="allow",shadow="unclear"') == 1


@pytest.mark.parametrize("refs, said", [
    (["refs/heads/airflow/a"], None), (["refs/heads/airflow/b"], "deny"), (["refs/heads/airflow/a", "refs/heads/airflow/b"], "deny")])
def test_a_push_is_asked_about_ref_by_ref(start, upstream, operator, refs, said):
    entry = {"operations": ["git.push", "git.fetch"], "repositories": ["analytics/dags"]}
    proxy = start(rules({**entry, "refs": ["refs/heads/airflow/*"]}), rules({**entry, "refs": ["refs/heads/airflow/a"]}))
    answer = proxy.ask("POST", PUSH, operator, body=pack(*refs))
    assert answer.status == 200 and says(proxy, answer) == said and len(upstream.received) == 1


def test_a_refused_push_and_one_that_is_not_looked_into(start, upstream, operator, tmp_path):
    entry = {"operations": ["git.push", "git.fetch"], "repositories": ["analytics/dags"]}
    proxy = start(rules({**entry, "refs": ["refs/heads/airflow/a"]}), rules({**entry, "refs": ["refs/heads/airflow/*"]}))
    answer = proxy.ask("POST", PUSH, operator, body=pack("refs/heads/airflow/a", "refs/heads/airflow/b"))
    said = "allow by %s, role operator" % line_of(tmp_path / "candidate.yaml", "airflow/*")
    assert says(proxy, answer) == said and proxy.outcome(answer)["decision"]["effect"] == "deny" and not upstream.received
    proxy.reload(policy=rules(entry))
    answer = proxy.ask("POST", PUSH, operator, body=pack("refs/heads/airflow/a"))
    assert answer.status == 200 and says(proxy, answer) == "unclear", "the live policy did not look at the refs"


def test_a_batch_is_asked_about_item_by_item(start, upstream, operator):
    upstream.always = message(200, b'{"count":1,"value":[]}')
    batch, create = {"operations": ["wit.batch.execute"]}, {"operations": ["wit.workItems.create"]}
    item = lambda project: {"method": "POST", "uri": "/%s/_apis/wit/workItems/$Task?api-version=5.0" % project,
                            "headers": {"Content-Type": "application/json-patch+json"}, "body": []}
    send = lambda *items: proxy.ask("PATCH", BATCH, operator, JSON, json.dumps(items).encode())
    proxy = start(rules(batch, {**create, "projects": ["a", "b"]}), rules(batch, {**create, "projects": ["a", "c"]}))
    for projects, status, said in ((["a"], 200, None), (["a", "b"], 200, "deny"), (["c", "a"], 403, "unclear"), (["d"], 403, None)):
        answer = send(*map(item, projects))
        assert answer.status == status and says(proxy, answer) == said, (projects, says(proxy, answer))


def test_what_no_policy_opens_is_no_disagreement(start, upstream, operator, tmp_path):
    """Organizations that are not served; addresses of no organization, which only rules by method and path open."""
    path = "/~app/_apis/profile/profiles/me"
    read = {"access": ["read"]}
    proxy = start(rules(read), rules(read, {"method": "GET", "path": path}))
    answer = proxy.ask("GET", "/fabrikam/analytics/_apis/build/builds", operator)
    assert answer.status == 403 and "does not serve" in answer.text and says(proxy, answer) is None
    answer = proxy.ask("GET", path, operator)
    assert answer.status == 403 and says(proxy, answer) == "allow by %s, role operator" % line_of(tmp_path / "candidate.yaml", "profiles/me")
    write(tmp_path / "candidate.yaml", rules(read))
    proxy.reload()
    assert says(proxy, proxy.ask("GET", path, operator)) is None
    assert not upstream.received


# --- what it is made of ---


def check(proxy):
    return subprocess.run([BINARY, "check", "--config", proxy.config_file, "--no-files"], capture_output=True, text=True)


@pytest.mark.parametrize("shadow, error", [
    ("version: 1\nroles: {r: {alow: []}}\n", "candidate.yaml:2:13: unknown key `alow`; did you mean `allow`?"),
    (rules(RUN_42, credential="elt"), "no credential `elt` in the configuration; did you mean `etl`?"),
    ("{", "candidate.yaml:"),
])
def test_a_bad_shadow_policy_refuses_check_start_and_reload(start_proxy, issuer, tmp_path, shadow, error):
    write(tmp_path / "candidate.yaml", shadow)
    settings = {"policies": {"shadow": str(tmp_path / "candidate.yaml")}}
    refused = Proxy(tmp_path / "refused", [issuer.config()], rules(RUN_42), **settings).start(expect_failure=True)
    try:
        assert refused.process.wait(timeout=seconds(10)) == 2 and error in refused.log()
    finally:
        refused.kill()
    told = check(refused)
    assert told.returncode == 2 and error in told.stderr
    proxy = start_proxy([issuer.config()], rules(RUN_42))
    write(proxy.folder / "candidate.yaml", shadow)
    told = proxy.reload(config={**proxy.config, "policy": {"files": ["policy.yaml"], "shadow": "candidate.yaml"}}, good=False)
    assert error in told["first"] and "candidate.yaml:" in told["first"]
    # When it is mended, the reload that was refused is made up for.
    write(proxy.folder / "candidate.yaml", rules(RUN_ANY))
    until(lambda: proxy.events("reload.done"), "the mended file is noticed", within=20)
    assert proxy.events("reload.done")[-1]["event"]["detail"]["shadow"]


def test_check_runs_the_tests_of_both_and_says_which_failed(tmp_path, issuer):
    test = {"name": "42 starts", "caller": {"issuer": "airflow", "claims": {"roles": "operator"}}, "request": "POST " + RUNS, "body": {}, "expect": "allow"}
    write(tmp_path / "candidate.yaml", {**rules({**RUN_ANY, "pipelines": [7]}), "tests": [test]})
    proxy = Proxy(tmp_path / "p", [issuer.config()], {**rules(RUN_42), "tests": [test]}, policies={"shadow": str(tmp_path / "candidate.yaml")})
    proxy.write_files()
    told = check(proxy)
    assert told.returncode == 1 and "FAILED: shadow policy: test \"42 starts\"" in told.stderr and "FAILED: test" not in told.stderr
    assert "tests: 1 passed, 0 failed" in told.stdout and "shadow policy " in told.stdout and "tests: 0 passed, 1 failed" in told.stdout
    as_json = json.loads(subprocess.run([BINARY, "check", "--config", proxy.config_file, "--no-files", "--json"], capture_output=True, text=True).stdout)
    assert as_json["tests"]["failed"] == 0 and as_json["shadow_tests"]["failed"] == 1 and len(as_json["shadow"]) == 64


@pytest.mark.parametrize("which", ["files", "shadow"])
def test_a_file_that_comes_or_goes_under_a_pattern_is_noticed(start_proxy, issuer, operator, tmp_path, which):
    folder = tmp_path / "policies"
    folder.mkdir()
    write(folder / "a.yaml", rules(RUN_42))
    more = {**rules({**RUN_ANY, "pipelines": [7]}, role="more"), "bindings": [{**rules()["bindings"][0], "name": "more", "roles": ["more"]}]}
    other = {"files": str(tmp_path / "policies/a.yaml"), "shadow": []}
    proxy = start_proxy([issuer.config()], rules(RUN_42), policies={**other, which: str(folder / "*.yaml")})
    allowed = lambda: run(proxy, operator, OTHER).status != 403 if which == "files" else (says(proxy, run(proxy, operator, OTHER)) or "").startswith("allow by b.yaml:")
    assert not allowed()
    write(folder / "b.yaml", more)
    until(allowed, "the new file counts", within=20, every=0.3)
    (folder / "b.yaml").unlink()
    until(lambda: not allowed(), "it is gone", within=20, every=0.3)
    details = [e["event"]["detail"] for e in proxy.events("reload.done")]
    before, after = ("policy_before", "policy") if which == "files" else ("shadow_before", "shadow")
    assert len(details) == 2 and details[0][before] == details[1][after] and details[0][after] == details[1][before] != details[0][before]


# --- as Kubernetes replaces files ---


class ConfigMap:
    """A mounted ConfigMap: files are links through `..data`, which leads to a folder that is named by the
    time; an update makes a new folder and moves `..data` to it by one rename (kubelet's atomic writer)."""

    def __init__(self, folder, **files):
        self.folder, self.n, self.now = folder, 0, None
        folder.mkdir()
        self.swap(**files)

    def swap(self, **files):
        self.n += 1
        old, self.now = self.now, self.folder / ("..%s.%09d" % (datetime.datetime.utcnow().strftime("%Y_%m_%d_%H_%M_%S"), self.n))
        self.now.mkdir(mode=0o755)
        files = {name.replace("_", "."): what for name, what in files.items()}
        for name, policy in files.items():
            write(self.now / name, policy)
        os.symlink(self.now.name, self.folder / "..data_tmp")
        os.rename(self.folder / "..data_tmp", self.folder / "..data")
        for name in files:
            if not (self.folder / name).is_symlink():
                os.symlink("..data/" + name, self.folder / name)
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        if old:
            shutil.rmtree(old)


def test_a_config_map_is_swapped_under_load(start_proxy, issuer, upstream, operator, tmp_path):
    tight, wide = rules(RUN_42), rules({**RUN_ANY, "pipelines": [42, 7]})
    live = ConfigMap(tmp_path / "live", policy_yaml=tight)
    shadow = ConfigMap(tmp_path / "shadow", candidate_yaml=tight)
    proxy = start_proxy([issuer.config()], tight, {"hosts": {"*": upstream.url}}, workers=2,
                        policies={"files": [str(live.folder / "policy.yaml")], "shadow": [str(shadow.folder / "*.yaml")]})
    began = proxy.events("process.started")[0]["event"]["detail"]
    done = lambda: [e["event"]["detail"] for e in proxy.events("reload.done")]
    digest = lambda file: hashlib.sha256(file.read_bytes()).hexdigest()
    taken = lambda: done() and (done()[-1]["policy"], done()[-1]["shadow"]) == (digest(live.folder / "policy.yaml"), digest(shadow.folder / "candidate.yaml"))
    with Load(proxy, operator) as load:
        for now, candidate in ((wide, tight), (tight, wide), (wide, tight), (tight, wide)):
            live.swap(policy_yaml=now)
            shadow.swap(candidate_yaml=candidate)
            until(taken, lambda: "the swap is not taken: " + proxy.log()[-800:], within=20, every=0.1)
            proxy.in_force()
            answer = run(proxy, operator, OTHER)
            assert answer.status == (200 if now is wide else 403)
            said = says(proxy, answer)
            assert said == "deny" if now is wide else said.startswith("allow by candidate.yaml:")
        until(lambda: len(load.answers) > 100, "the load makes progress")
    assert load.failures == [] and set(load.answers) == {200}, "no request failed"
    details = done()
    assert not proxy.events("reload.failed")
    assert details[0]["policy_before"] == began["policy"] and details[0]["shadow_before"] == began["shadow"]
    for earlier, later in zip(details, details[1:]):
        assert later["policy_before"] == earlier["policy"] and later["shadow_before"] == earlier["shadow"]
    proxy.outcomes(len(load.answers) + 4)


@pytest.mark.parametrize("which", ["files", "shadow"])
def test_a_swap_to_a_bad_file_changes_nothing_and_the_next_good_one_is_taken(start_proxy, issuer, operator, tmp_path, which):
    mount = ConfigMap(tmp_path / "mount", policy_yaml=rules(RUN_42))
    settings = {"files": ["policy.yaml"], which: [str(mount.folder / "policy.yaml")]}
    proxy = start_proxy([issuer.config()], rules(RUN_42), policies=settings)
    before = proxy.outcome(run(proxy, operator, OTHER))["decision"]["policy"]
    mount.swap(policy_yaml="version: 1\nroles: {operator: {alow: []}}\n")
    until(lambda: proxy.events("reload.failed"), "the bad file is noticed", within=20)
    first = proxy.events("reload.failed")[0]["event"]["detail"]["first"]
    assert first.startswith("%s/policy.yaml:2:20: " % mount.folder) and "alow" in first
    assert proxy.outcome(run(proxy, operator, OTHER))["decision"]["policy"] == before
    assert proxy.metric('reloads_total.*"refused"') == 1
    mount.swap(policy_yaml=rules(RUN_ANY))
    until(lambda: proxy.events("reload.done"), "the good file is taken", within=20)
    proxy.in_force()
    answer = run(proxy, operator, OTHER)
    if which == "files":
        assert answer.status != 403
    else:
        assert answer.status == 403 and says(proxy, answer).startswith("allow by policy.yaml:")
    assert len(proxy.events("reload.failed")) == 1, "it is said once"


def test_a_reload_while_a_decision_waits(start, upstream, operator):
    """It is decided by the policy of the reload, as everybody else is: nothing had been sent of it."""
    knows = Directory()
    gate = threading.Event()

    def slow(sock, request):
        if is_lookup(request):
            gate.wait(seconds(10))
        return knows(sock, request)

    upstream.always = slow
    read = {"access": ["read"], "areas": ["pipelines"]}
    proxy = start(rules({**read, "projects": ["analytics"]}), rules({**read, "projects": ["analytics"]}))
    with proxy.connect() as client:
        client.request("GET", "/contoso/%s/_apis/pipelines" % ANALYTICS, [("Authorization", "Bearer " + operator)])
        until(lambda: [r for r in upstream.received if is_lookup(r)], "upstream is asked")
        proxy.reload(policy=rules(RUN_42))
        until(lambda: run(proxy, operator).status == 200, "others are served under the new one")
        gate.set()
        answer = client.answer()
    outcome = proxy.outcome(answer)
    assert answer.status == 403 and outcome["decision"]["policy"] == proxy.events("reload.done")[-1]["event"]["detail"]["policy"]


# --- bindings that end ---


def utc(seconds_from_now):
    return (datetime.datetime.utcnow() + datetime.timedelta(seconds=seconds_from_now)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_binding_warns_before_it_ends_and_denies_after(start, upstream, operator, tmp_path):
    soon = utc(3)
    policy = rules(RUN_42, expires=soon)
    proxy = start(policy, rules(RUN_42, expires=utc(-60)))
    events = [(e["event"]["name"], e["event"]["detail"]) for e in proxy.events("binding")]
    assert [(n, d["binding"], d["policy"]) for n, d in events] == [("binding.expires_soon", "operators", "live"), ("binding.expired", "operators", "shadow")]
    assert events[0][1]["expires"] == soon.replace("Z", ".000Z") and events[0][1]["place"].startswith("policy.yaml:")
    assert "the binding `operators` expires at %s, within 7 days" % soon in proxy.log() and "has expired" in proxy.log()
    told = check(proxy)
    assert told.returncode == 0 and "expires at %s" % soon in told.stderr
    answer = run(proxy, operator)
    if answer.status == 200:  # it may have taken too long to get here
        assert says(proxy, answer) == "deny"
    answer = until(lambda: [a for a in [run(proxy, operator)] if a.status == 403], "the binding has expired")[0]
    reason = proxy.outcome(answer)["decision"]["reason"]
    assert "the binding operators, which allowed it, expired at %s" % soon in reason and reason in json.loads(answer.body)["message"]
    assert says(proxy, answer) is None
    proxy.reload()
    assert [e["event"]["name"] for e in proxy.events("binding")][-2:] == ["binding.expired"] * 2
    assert "which allowed it" not in run(proxy, operator, OTHER).text, "only where that is why"
