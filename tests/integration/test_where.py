"""Conditions on what a request says: run parameters, pull requests, and what an Airflow worker claims."""
import copy
import gzip
import json

import pytest

from kit.directory import Directory
from kit.policies import POLICY

RUN = "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"
BUILD = "/contoso/analytics/_apis/build/builds?api-version=7.1"
PULL = "/contoso/analytics/_apis/git/repositories/dags/pullrequests/7?api-version=7.1"
JSON = [("Content-Type", "application/json")]

ROLE = {"allow": [
    {"operations": ["pipelines.runs.run"], "pipelines": [42],
     "where": {"templateParameters": {"environment": ["staging", "test*"]}, "variables": [], "stagesToSkip": []}},
    {"operations": ["build.builds.queue"], "pipelines": [57], "claimed": {"dag_id": ["analytics.*", "é*"]}},
    {"operations": ["git.pullRequests.update"], "where": {"status": ["completed"]}},
    {"operations": ["wit.workItems.*"], "projects": ["analytics"]},
], "deny": [{"operations": ["wit.workItems.update"], "where": {"fields": {"System.State": ["Closed"]}}}]}


@pytest.fixture
def proxy(start_proxy, issuer, upstream):
    policy = copy.deepcopy(POLICY)
    policy["roles"]["operator"] = ROLE
    return start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})


def ask(proxy, token, method, path, body, fields=()):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return proxy.ask(method, path, token, [*JSON, *fields], data)


@pytest.mark.parametrize("body", [
    {}, {"templateParameters": {}}, {"templateParameters": {"environment": "staging"}}, {"templateParameters": {"Environment": "test-7"}},
    {"variables": {}, "stagesToSkip": []}, {"stagesToSkip": None, "yamlOverride": None}, {"previewRun": False}])
def test_runs_with_listed_values_pass(proxy, upstream, operator, body):
    answer = ask(proxy, operator, "POST", RUN, body)
    assert answer.status == 200, answer.body
    assert json.loads(upstream.received[-1].body.kept) == body


@pytest.mark.parametrize("body", [
    {"templateParameters": {"environment": "production"}}, {"templateParameters": {"image": "x"}},
    {"templateParameters": {"environment": "staging", "ENVIRONMENT": "production"}}, {"TemplateParameters": {"environment": "production"}},
    {"templateParameters": {"environment": ["staging"]}}, {"templateParameters": {"environment": None}}, {"templateParameters": {"environment": "test/../prod"}},
    {"variables": {"a": {"value": "1"}}}, {"variables": {"a": None}}, {"stagesToSkip": ["approve"]}, {"yamlOverride": "steps: []"},
    {"resources": {"repositories": {"self": {"token": "mine"}}}}])
def test_any_other_value_is_refused_and_reaches_nobody(proxy, upstream, operator, body):
    answer = ask(proxy, operator, "POST", RUN, body)
    assert answer.status == 403, answer.body
    assert not upstream.received
    compressed = proxy.ask("POST", RUN, operator, [*JSON, ("Content-Encoding", "gzip")], gzip.compress(json.dumps(body).encode()))
    assert compressed.status == 403 and not upstream.received


@pytest.mark.parametrize("body,status", [(b'{"variables":{"a":1},"variables":{}}', 400), (b'{"templateParameters":[]}', 400), (b"{", 400),
                                         (b'{"variables":{},"Variables":{"a":1}}', 400), (b"[" * 100 + b"]" * 100, 400),
                                         (b'{"variables":{"$ref":"1"}}', 400), (b'{"templateParameters":{"environment":{"\\u0024ref":"1"}}}', 400)])
def test_what_cannot_be_understood_is_not_passed_on(proxy, upstream, operator, body, status):
    assert ask(proxy, operator, "POST", RUN, body).status == status and not upstream.received


def test_a_body_too_large_to_judge_is_413(start_proxy, issuer, upstream, operator):
    policy = copy.deepcopy(POLICY)
    policy["roles"]["operator"] = ROLE
    proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}}, limits={"inspect": "4KiB"})
    assert ask(proxy, operator, "POST", RUN, {"comment": "x" * 8000}).status == 413
    assert not upstream.received


def test_x3_the_dag_of_another_team_is_refused(proxy, upstream, operator):
    body = {"definition": {"id": 57}}
    assert ask(proxy, operator, "POST", BUILD, body, [("X-Airflow-Dag-Id", "analytics.daily")]).status == 200
    assert ask(proxy, operator, "POST", BUILD, body, [("X-Airflow-Dag-Id", "%C3%A9t%C3%A9")]).status == 200
    for fields in ([("X-Airflow-Dag-Id", "payroll.daily")], [("X-Airflow-Dag-Id", "ANALYTICS.daily")], [("X-Airflow-Dag-Id", "")], []):
        answer = ask(proxy, operator, "POST", BUILD, body, fields)
        assert answer.status == 403, fields
        record = proxy.outcome(answer)
        assert record["decision"]["effect"] == "deny"
    assert len(upstream.received) == 2


@pytest.mark.parametrize("options,status", [
    ({}, 200), ({"bypassPolicy": False}, 200), ({"bypassPolicy": None}, 200), ({"mergeStrategy": "squash"}, 200), ({"squashMerge": True}, 200), ({"autoCompleteIgnoreConfigIds": []}, 200),
    ({"bypassPolicy": True}, 403), ({"BypassPolicy": True}, 403), ({"bypassPolicy": "true"}, 403), ({"bypassPolicy": 1}, 403),
    ({"autoCompleteIgnoreConfigIds": [1]}, 403), ({"bypass\\u0050olicy": True}, 403)])
def test_branch_policies_are_bypassed_only_by_who_may(proxy, upstream, operator, options, status):
    raw = json.dumps({"status": "completed", "completionOptions": options}).replace("\\\\u", "\\u")
    answer = ask(proxy, operator, "PATCH", PULL, raw.encode())
    assert answer.status == status, answer.body
    assert len(upstream.received) == (status == 200)
    if status == 403:
        assert "bypassPolicy" in answer.body.decode() or "autoCompleteIgnoreConfigIds" in answer.body.decode()


@pytest.mark.parametrize("query,status", [("", 200), ("&bypassRules=false", 200), ("&bypassRules=true", 403), ("&BYPASSRULES=1", 403)])
def test_a_query_that_raises_the_stakes_has_to_be_named(proxy, upstream, operator, query, status):
    step = [{"op": "add", "path": "/fields/System.Title", "value": "x"}]
    answer = proxy.ask("POST", "/contoso/analytics/_apis/wit/workitems/$Task?api-version=7.1" + query, operator,
                       [("Content-Type", "application/json-patch+json")], json.dumps(step).encode())
    assert answer.status == status, answer.body


@pytest.mark.parametrize("path,value,status", [("/fields/System.State", "Active", 200), ("/fields/System.State", "closed", 403),
                                               ("/Fields/system.state", "Closed", 403), ("/fields/System.State", " Closed", 403), ("/fields/System.Title", "Closed", 200)])
def test_a_deny_by_value_wins(proxy, upstream, operator, path, value, status):
    upstream.always = Directory()
    step = [{"op": "add", "path": path, "value": value}]
    answer = proxy.ask("PATCH", "/contoso/analytics/_apis/wit/workitems/7?api-version=7.1", operator,
                       [("Content-Type", "application/json-patch+json")], json.dumps(step).encode())
    assert answer.status == status, answer.body


@pytest.mark.parametrize("path,value", [("//fields/System.State", "Closed"), ("/fields//System.State", "Closed"), ("/fields", {"System.State": "Closed"}),
                                        ("", {"fields": {"System.State": "Closed"}})])
def test_a_patch_that_may_be_read_in_two_ways_is_refused(proxy, upstream, operator, path, value):
    step = [{"op": "add", "path": path, "value": value}]
    answer = proxy.ask("PATCH", "/contoso/analytics/_apis/wit/workitems/7?api-version=7.1", operator,
                       [("Content-Type", "application/json-patch+json")], json.dumps(step).encode())
    assert answer.status == 400 and not upstream.received, answer.body


@pytest.mark.parametrize("op", ["copy", "move"])
def test_a_patch_that_takes_its_value_from_elsewhere_is_refused(proxy, upstream, operator, op):
    upstream.always = Directory()
    title = {"op": "add", "path": "/fields/System.Title", "from": None, "value": "Closed"}
    patch = lambda *steps: proxy.ask("PATCH", "/contoso/analytics/_apis/wit/workitems/7?api-version=7.1", operator,
                                     [("Content-Type", "application/json-patch+json")], json.dumps(steps).encode())
    assert patch(title).status == 200
    reached = len(upstream.received)
    for step in ({"from": "/fields/System.Title"}, {"From": "/fields/System.Title", "value": "Active"}):
        answer = patch(title, {"op": op, "path": "/fields/System.State", **step})
        assert answer.status == 400 and len(upstream.received) == reached, answer.body


@pytest.mark.parametrize("options,rebases,never_squashes", [
    ({"mergeStrategy": "rebase"}, 200, 200), ({"squashMerge": True}, 403, 403), ({"squashMerge": "true"}, 403, 403), ({"mergeStrategy": "squash"}, 403, 403),
    ({"mergeStrategy": "rebase", "squashMerge": True}, 403, 403), ({"mergeStrategy": "rebase", "squashMerge": False}, 200, 200), ({"squashMerge": False}, 200, 200)])
def test_the_older_spelling_of_a_squash_is_one(start_proxy, issuer, upstream, operator, options, rebases, never_squashes):
    allow = {"operations": ["git.pullRequests.update"]}
    for role, status in (({"allow": [{**allow, "where": {"mergeStrategy": ["rebase"]}}]}, rebases),
                         ({"allow": [allow], "deny": [{**allow, "where": {"mergeStrategy": ["squash"]}}]}, never_squashes)):
        policy = copy.deepcopy(POLICY)
        policy["roles"]["operator"] = role
        proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
        assert ask(proxy, operator, "PATCH", PULL, {"status": "completed", "completionOptions": options}).status == status


@pytest.mark.parametrize("query,named,unnamed", [("", 200, 200), ("&includeDownloadTickets=false", 200, 200), ("&includeDownloadTickets=true", 200, 403),
                                                 ("&IncludeDownloadTickets=1", 200, 403)])
def test_tickets_that_open_content_have_to_be_named(start_proxy, issuer, upstream, operator, query, named, unnamed):
    read = {"access": ["read"], "areas": ["fileContainer", "build"]}
    for entry, status in (({**read, "where": {"includeDownloadTickets": ["*"]}}, named), (read, unnamed)):
        policy = copy.deepcopy(POLICY)
        policy["roles"]["operator"] = {"allow": [entry]}
        proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
        for path in ("/contoso/_apis/resources/Containers/9?itemPath=drop", "/contoso/analytics/_apis/build/builds/7/artifacts?api-version=7.1"):
            assert proxy.ask("GET", path + query, operator).status == status


def test_guards_hold_under_policies_without_conditions(start_proxy, issuer, upstream, operator):
    """The quick look at a body that nothing else makes worth parsing."""
    policy = copy.deepcopy(POLICY)
    policy["roles"]["operator"] = {"allow": [{"operations": ["pipelines.*", "git.pullRequests.update"]}]}
    proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
    assert ask(proxy, operator, "POST", RUN, {"variables": {"a": {"value": "1"}}}).status == 200
    assert ask(proxy, operator, "POST", RUN, {"yamlOverride": "x"}).status == 403
    assert ask(proxy, operator, "POST", RUN, {"resources": {"repositories": {"x": {"token": "y"}}}}).status == 403
    assert ask(proxy, operator, "PATCH", PULL, b'{"completionOptions":{"byp\\u0061ssPolicy":true}}').status == 403
    assert ask(proxy, operator, "PATCH", PULL, {"status": "completed"}).status == 200
    assert len(upstream.received) == 2


@pytest.mark.parametrize("batch", ["nuget/packagesbatch", "npm/packagesbatch", "npm/RecycleBin/PackagesBatch", "maven/RecycleBin/packagesBatch", "pypi/RecycleBin/packagesBatch"])
def test_what_is_done_to_packages_is_said_by_every_batch(start_proxy, issuer, upstream, operator, batch):
    allow = {"operations": ["artifactsPackageTypes.*"], "feeds": ["data"]}
    path = "/~pkgs/contoso/analytics/_apis/packaging/feeds/data/" + batch
    for role in ({"allow": [{**allow, "where": {"packageAction": ["promote"]}}]}, {"allow": [allow], "deny": [{**allow, "where": {"packageAction": ["permanentDelete"]}}]}):
        policy = copy.deepcopy(POLICY)
        policy["roles"]["operator"] = role
        proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
        assert ask(proxy, operator, "POST", path, {"operation": "promote"}).status == 200
        assert ask(proxy, operator, "POST", path, {"operation": "permanentDelete"}).status == 403


@pytest.mark.parametrize("package", ["x", "@s/x", "@s%2fx"])
def test_who_publishes_npm_packages_does_not_remove_versions(start_proxy, issuer, upstream, operator, package):
    path = "/~pkgs/contoso/analytics/_packaging/data/npm/registry/" + package
    for entry, removed in (({"operations": ["packages.publish"]}, 403), ({"access": ["read", "write"]}, 403), ({"access": ["write", "delete"]}, 200)):
        policy = copy.deepcopy(POLICY)
        policy["roles"]["operator"] = {"allow": [{**entry, "feeds": ["data"]}]}
        proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}})
        assert ask(proxy, operator, "PUT", path, {"versions": {}}).status == 200
        assert ask(proxy, operator, "PUT", path + "/-rev/3", {"versions": {}}).status == removed
