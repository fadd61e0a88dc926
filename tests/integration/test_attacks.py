"""Ways to run pipeline 42 or to push to main, for a role that may only run 41 and push below airflow/.

Each is refused, and nothing of it reaches Azure DevOps."""
import gzip
import json

import pytest

from kit.directory import ANALYTICS, DAGS, PAYROLL, WAGES, Directory, served

PIPELINES = ["pipelines.runs.run", "pipelines.runs.get", "pipelines.preview.preview", "build.builds.*", "build.stages.update", "build.definitions.*",
             "approvalsAndChecks.*", "build.leases.add"]
REFS = ["git.*", "wiki.*"]
POLICY = {
    "version": 1,
    "roles": {
        "narrow": {
            "allow": [
                {"operations": PIPELINES, "projects": ["analytics"], "pipelines": [41]},
                {"operations": REFS, "repositories": ["analytics/dags"], "refs": ["refs/heads/airflow/*"]},
                {"operations": ["wit.batch.*"]},
            ]
        },
        "branch": {"allow": [{"operations": ["pipelines.runs.run", "build.builds.queue"], "projects": ["analytics"], "pipelines": [41],
                              "refs": ["refs/heads/airflow/*"]}]},
    },
    "bindings": [{"name": role, "callers": {"issuer": "airflow", "claims": {"roles": role}}, "roles": [role], "credential": "etl"}
                 for role in ("narrow", "branch")],
}
ORG, P, GIT = "/contoso", "/contoso/analytics", "/contoso/analytics/_apis/git/repositories/dags"
MAIN, OURS = "refs/heads/main", "refs/heads/airflow/a"
ZERO, SOME = "0" * 40, "c0ffee" * 6 + "c0ff"
JSON = ("Content-Type", "application/json")


def pack(*refs):
    lines = [("%s %s %s" % (ZERO, SOME, ref) + ("\0 report-status" if i == 0 else "")).encode() for i, ref in enumerate(refs)]
    return b"".join(b"%04x%s" % (len(line) + 4, line) for line in lines) + b"0000PACK"


def run(**body):
    return {"resources": {"repositories": {"self": {"refName": OURS}}}, **body}


# what it is: method, target, body (JSON unless bytes), fields
WAYS = {
    "the path": ("POST", P + "/_apis/pipelines/42/runs", {}),
    "the project's id": ("POST", "/contoso/%s/_apis/pipelines/42/runs" % ANALYTICS, {}),
    "another project's id": ("POST", "/contoso/%s/_apis/pipelines/41/runs" % PAYROLL, run()),
    "an id of no project": ("POST", "/contoso/%s/_apis/pipelines/41/runs" % WAGES, run()),
    "a push by the repository's id": ("POST", GIT.replace("dags", DAGS) + "/pushes", {"refUpdates": [{"name": MAIN}]}),
    "a push by another repository's id": ("POST", GIT.replace("dags", WAGES) + "/pushes", {"refUpdates": [{"name": OURS}]}),
    "git by another repository's id": ("POST", ORG + "/_git/%s/git-receive-pack" % WAGES, pack(OURS)),
    "git by the repository's id": ("POST", ORG + "/_git/%s/git-receive-pack" % DAGS, pack(MAIN)),
    "another case": ("POST", "/Contoso/ANALYTICS/_APIS/Pipelines/42/RUNS", {}),
    "the host override": ("POST", P + "/_apis/pipelines/42/runs", {}, [("Host", "dev.azure.com")]),
    "the old host": ("POST", "/analytics/_apis/pipelines/42/runs", {}, [("Host", "contoso.visualstudio.com")]),
    "the collection of the old host": ("POST", "/DefaultCollection/analytics/_apis/pipelines/42/runs", {}, [("Host", "contoso.visualstudio.com")]),
    "a service's name": ("POST", "/~dev" + P + "/_apis/pipelines/42/runs", {}),
    "a wrong service": ("POST", "/~vsrm" + P + "/_apis/pipelines/42/runs", {}),
    "an encoded digit": ("POST", P + "/_apis/pipelines/%34%32/runs", {}),
    "a digit encoded twice": ("POST", P + "/_apis/pipelines/%2534%2532/runs", {}),
    "a leading zero": ("POST", P + "/_apis/pipelines/042/runs", {}),
    "a sign": ("POST", P + "/_apis/pipelines/+42/runs", {}),
    "dot segments": ("POST", P + "/_apis/pipelines/41/../42/runs", {}),
    "encoded dot segments": ("POST", P + "/_apis/pipelines/41/%2e%2e/42/runs", {}),
    "an encoded slash": ("POST", P + "/_apis/pipelines/41%2f..%2f42/runs", {}),
    "a backslash": ("POST", P + "/_apis/pipelines/41\\..\\42/runs", {}),
    "a doubled slash": ("POST", P + "//_apis/pipelines/42/runs", {}),
    "a path parameter": ("POST", P + "/_apis/pipelines/42;x=41/runs", {}),
    "an absolute target": ("POST", "https://dev.azure.com" + P + "/_apis/pipelines/42/runs", {}),
    "a number in the query": ("POST", P + "/_apis/pipelines/41/runs?pipelineId=42", {}),
    "a number in a query that is not looked at": ("PATCH", P + "/_apis/build/builds/7?definitionId=41", {}),
    "all numbers in the query": ("PATCH", P + "/_apis/build/builds/7?definitionId=41&definitions=41&definitionIds=41&pipelineId=41", {}),
    "a project in the query": ("POST", ORG + "/_apis/git/repositories/%s/pushes?projectId=%s&project=analytics&repositoryId=dags" % (WAGES, ANALYTICS),
                               {"refUpdates": [{"name": OURS}]}),
    "a build in the query": ("PUT", P + "/_apis/build/folders?path=x&buildId=1001&definitionId=41", {}),
    "a method field": ("POST", P + "/_apis/pipelines/41/runs", {}, [("X-HTTP-Method-Override", "PATCH")]),
    "a method field in another case": ("POST", P + "/_apis/pipelines/41/runs", {}, [("x-http-METHOD-override", "PATCH")]),
    "a method in the query": ("GET", P + "/_apis/pipelines/42/runs?_method=POST", None),
    "no project": ("POST", ORG + "/_apis/pipelines/42/runs", {}),
    "another project": ("POST", "/contoso/secret/_apis/pipelines/41/runs", {}),
    "another organization": ("POST", "/fabrikam/analytics/_apis/pipelines/41/runs", {}),
    "other YAML": ("POST", P + "/_apis/pipelines/41/runs", {"previewRun": True, "yamlOverride": "steps: []"}),
    "other YAML in another case": ("POST", P + "/_apis/pipelines/41/runs", {"YAMLoverride": "steps: []"}),
    "other YAML with escapes": ("POST", P + "/_apis/pipelines/41/runs", b'{"yaml\\u004fverride":"steps: []"}'),
    "other YAML in gzip": ("POST", P + "/_apis/pipelines/41/runs", gzip.compress(b'{"yamlOverride":"steps: []"}'), [("Content-Encoding", "gzip")]),
    "other YAML in UTF-16": ("POST", P + "/_apis/pipelines/41/runs", '{"yamlOverride":"steps: []"}'.encode("utf-16")),
    "other YAML in another charset": ("POST", P + "/_apis/pipelines/41/runs", '{"yamlOverride":"x"}'.encode("utf-7"), [("Content-Type", "application/json; charset=utf-7")]),
    "other YAML in single quotes": ("POST", P + "/_apis/pipelines/41/runs", b"{'yamlOverride':'steps: []'}"),
    "other YAML without quotes": ("POST", P + "/_apis/pipelines/41/runs", b'{yamlOverride:"steps: []"}'),
    "other YAML behind a comment": ("POST", P + "/_apis/pipelines/41/runs", b'{/*"*/yamlOverride:/*"*/"steps: []"}'),
    "a preview with other YAML": ("POST", P + "/_apis/pipelines/41/preview", {"yamlOverride": "steps: []"}),
    "a body beyond what is read": ("POST", P + "/_apis/pipelines/41/runs", b'{"a":"' + b"x" * (1 << 20) + b'","yamlOverride":"y"}'),
    "a build by body": ("POST", P + "/_apis/build/builds", {"definition": {"id": 42}}),
    "a build by text in the body": ("POST", P + "/_apis/build/builds", {"definition": {"id": "42"}}),
    "a build by name": ("POST", P + "/_apis/build/builds", {"definition": {"name": "nightly"}}),
    "a build by query": ("POST", P + "/_apis/build/builds?definitionId=42", None),
    "a build by both": ("POST", P + "/_apis/build/builds?definitionId=41", {"definition": {"id": 42}}),
    "a build with a member twice": ("POST", P + "/_apis/build/builds", b'{"definition":{"id":41},"definition":{"id":42}}'),
    "a build with a member in two cases": ("POST", P + "/_apis/build/builds", b'{"definition":{"id":41},"Definition":{"id":42}}'),
    "a build again": ("POST", P + "/_apis/build/builds?sourceBuildId=7", None),
    "a build again under a number": ("POST", P + "/_apis/build/builds?definitionId=41&sourceBuildId=7", None),
    "a retry": ("PATCH", P + "/_apis/build/builds/7?retry=true", {}),
    "retries": ("PATCH", P + "/_apis/build/builds", [{"id": 7, "status": "inProgress"}]),
    "a stage again": ("PATCH", P + "/_apis/build/builds/7/stages/deploy", {"state": "retry"}),
    "an approval": ("PATCH", P + "/_apis/pipelines/approvals", [{"approvalId": "6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", "status": "approved"}]),
    "a definition rewritten": ("PUT", P + "/_apis/build/definitions/42", {"id": 42}),
    "a definition rewritten by body": ("PUT", P + "/_apis/build/definitions/41", {"id": 42}),
    "a release": ("POST", "/~vsrm" + P + "/_apis/release/releases", {"definitionId": 1}),
    "a release's environment": ("PATCH", "/~vsrm" + P + "/_apis/Release/releases/1/environments/2", {"status": "inProgress"}),
    "a batch": ("POST", ORG + "/_apis/wit/$batch", [{"method": "POST", "uri": "/analytics/_apis/pipelines/42/runs", "body": {}}]),
    "a batch with a method field": ("PATCH", ORG + "/_apis/wit/$batch", [{"method": "POST", "uri": "/analytics/_apis/pipelines/41/runs", "headers": {"X-HTTP-Method-Override": "PATCH"}}]),
    "an endpoint proxy": ("POST", P + "/_apis/serviceendpoint/endpointproxy?endpointId=x", {"dataSourceDetails": {"dataSourceUrl": "https://dev.azure.com/"}}),
    "a hierarchy query": ("POST", ORG + "/_apis/Contribution/HierarchyQuery", {"contributionIds": ["ms.vss-build-web.run"]}),
    "a token": ("POST", "/~vssps" + ORG + "/_apis/tokens/pats", {"displayName": "x"}),
    "a push": ("POST", P + "/_git/dags/git-receive-pack", pack(MAIN)),
    "a push of two refs": ("POST", P + "/_git/dags/git-receive-pack", pack(OURS, MAIN)),
    "a push by the repository's full address": ("POST", P + "/_git/_full/dags/git-receive-pack", pack(MAIN)),
    "a push with .git": ("POST", P + "/_git/dags.git/git-receive-pack", pack(MAIN)),
    "a push to a tag": ("POST", P + "/_git/dags/git-receive-pack", pack("refs/tags/airflow/a")),
    "a push with dots": ("POST", P + "/_git/dags/git-receive-pack", pack("refs/heads/airflow/../main")),
    "a push in another case": ("POST", P + "/_git/dags/git-receive-pack", pack("refs/heads/AIRFLOW/a")),
    "a push to another repository": ("POST", P + "/_git/other/git-receive-pack", pack(OURS)),
    "a push in gzip": ("POST", P + "/_git/dags/git-receive-pack", gzip.compress(pack(MAIN)), [("Content-Encoding", "gzip")]),
    "a push by REST": ("POST", GIT + "/pushes", {"refUpdates": [{"name": MAIN, "oldObjectId": ZERO}], "commits": []}),
    "a push of two refs by REST": ("POST", GIT + "/pushes", {"refUpdates": [{"name": OURS}, {"name": MAIN}]}),
    "a push of nothing by REST": ("POST", GIT + "/pushes", {}),
    "refs": ("POST", GIT + "/refs", [{"name": MAIN, "newObjectId": ZERO, "oldObjectId": SOME}]),
    "refs of another repository": ("POST", GIT + "/refs", [{"name": OURS, "repositoryId": "other", "newObjectId": ZERO}]),
    "a lock": ("PATCH", GIT + "/refs?filter=heads/main", {"isLocked": True}),
    "a pull request": ("POST", GIT + "/pullrequests", {"sourceRefName": OURS, "targetRefName": MAIN}),
    "a pull request from another repository": ("POST", GIT + "/pullrequests", {"sourceRefName": OURS, "targetRefName": OURS,
                                                                              "forkSource": {"repository": {"id": WAGES}}}),
    "a pull request to where the server likes": ("POST", GIT + "/pullrequests", {"sourceRefName": OURS, "targetRefName": OURS,
                                                                                "ignoreTargetRefAndChooseDynamically": True}),
    "a ref of ours deleted": ("POST", GIT + "/refs", [{"name": OURS, "newObjectId": ZERO, "oldObjectId": SOME}]),
    "a ref of ours set to nothing": ("POST", GIT + "/refs", [{"name": OURS, "oldObjectId": SOME}]),
    "a ref of ours deleted beside others": ("POST", GIT + "/refs", [{"name": OURS, "newObjectId": SOME}, {"name": OURS + "b", "oldObjectId": SOME}]),
    "a ref in place of another": ("POST", GIT + "/refs", [{"$id": "1", "name": OURS, "newObjectId": SOME}, {"$ref": "1"}]),
    "a build of another project": ("POST", P + "/_apis/build/builds", {"definition": {"id": 41, "project": {"id": PAYROLL}}}),
    "a completion": ("PATCH", GIT + "/pullrequests/9", {"status": "completed", "completionOptions": {"bypassPolicy": True}}),
    "a completion that names a branch": ("PATCH", GIT + "/pullrequests/9", {"status": "completed", "targetRefName": OURS}),
    "a cherry-pick": ("POST", GIT + "/cherryPicks", {"ontoRefName": OURS, "generatedRefName": MAIN}),
    "a revert": ("POST", GIT + "/reverts", {"ontoRefName": OURS, "generatedRefName": MAIN}),
    "a fork's sync": ("POST", GIT + "/forkSyncRequests", {"sourceToTargetRefs": [{"sourceRef": OURS, "targetRef": MAIN}]}),
    "an import": ("POST", GIT + "/importRequests", {"parameters": {"gitSource": {"url": "https://example.com/x.git"}}}),
    "a tag object": ("POST", GIT + "/annotatedtags", {"name": "v1", "taggedObject": {"objectId": SOME}}),
    "another default branch": ("PATCH", GIT, {"defaultBranch": MAIN}),
    "a wiki's page": ("PUT", P + "/_apis/wiki/wikis/w/pages?path=/x", {"content": "x"}),
}
# for a role that is limited to pipeline 41 and to branches
BRANCHES = {
    "the default branch": {},
    "main": {"resources": {"repositories": {"self": {"refName": MAIN}}}},
    "a commit": {"resources": {"repositories": {"self": {"refName": OURS, "version": SOME}}}},
    "a token": {"resources": {"repositories": {"self": {"refName": OURS, "token": "x"}}}},
    "main of another repository": {"resources": {"repositories": {"self": {"refName": OURS}, "lib": {"refName": MAIN}}}},
    "only another repository": {"resources": {"repositories": {"lib": {"refName": OURS}}}},
    "two cases": {"resources": {"repositories": {"self": {"refName": OURS, "RefName": MAIN}}}},
    "other YAML": run(yamlOverride="steps: []"),
}




class AllOf42(dict):
    """Every build there is, is one of 42 on main."""

    def __contains__(self, number):
        return True

    def __missing__(self, number):
        return 42, MAIN


@pytest.fixture
def proxy(start_proxy, issuer, upstream):
    upstream.always = Directory()
    upstream.always.pipelines = {41: ("narrow", "\\", "analytics"), 42: ("wide", "\\", "analytics")}
    upstream.always.builds = AllOf42()
    return start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}})


def send(proxy, token, method, target, body, fields=()):
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = dict(fields)
    host = fields.pop("Host", "dagward.test")
    with proxy.connect() as client:
        return client.ask(method, target, [("Authorization", "Bearer " + token), *({**dict([JSON]), **fields}).items()], raw, host=host)


def test_every_way_round_the_limits_is_refused(proxy, issuer, upstream):
    assert len(WAYS) + len(BRANCHES) >= 80
    narrow, branch = issuer.mint("narrow-1", roles=["narrow"]), issuer.mint("branch-1", roles=["branch"])
    assert send(proxy, narrow, "POST", P + "/_apis/pipelines/41/runs", run()).status == 200
    assert send(proxy, narrow, "POST", P + "/_git/dags/git-receive-pack", pack(OURS)).status == 200
    assert send(proxy, narrow, "POST", GIT + "/pushes", {"refUpdates": [{"name": OURS}]}).status == 200
    assert send(proxy, branch, "POST", P + "/_apis/pipelines/41/runs", run()).status == 200
    assert send(proxy, branch, "POST", P + "/_apis/build/builds", {"definition": {"id": 41}, "sourceBranch": OURS}).status == 200
    allowed, through = len(served(upstream)), {}
    assert allowed == 5
    cases = [(name, narrow, way) for name, way in WAYS.items()]
    cases += [("a run on " + name, branch, ("POST", P + "/_apis/pipelines/41/runs", body)) for name, body in BRANCHES.items()]
    cases += [("a build on main", branch, ("POST", P + "/_apis/build/builds", {"definition": {"id": 41}, "sourceBranch": MAIN})),
              ("a build of a commit", branch, ("POST", P + "/_apis/build/builds", {"definition": {"id": 41}, "sourceBranch": OURS, "sourceVersion": SOME}))]
    for name, token, way in cases:
        answer = send(proxy, token, *way)
        refused = answer.status in (400, 403, 413) or (answer.status == 200 and b"ng refs/" in answer.body)
        if not refused or len(served(upstream)) != allowed:
            through[name] = answer.status
            allowed = len(served(upstream))
    assert not through, through
