"""Names and ids are one resource: what a rule means is what Azure DevOps says it is."""
import copy
import json
import socket
import threading
import time
import urllib.parse

import pytest

from kit.directory import ANALYTICS, DAGS, PAYROLL, WAGES, Directory, is_lookup, served
from kit.policies import POLICY
from kit.upstreams import message
from kit.waiting import until

JSON = [("Content-Type", "application/json")]


@pytest.fixture
def directory(upstream):
    upstream.always = Directory()
    return upstream.always


@pytest.fixture
def start(start_proxy, issuer, upstream, directory):
    def start(*entries, deny=(), workers=1, **settings):
        policy = copy.deepcopy(POLICY)
        policy["roles"]["operator"] = {"allow": list(entries), **({"deny": list(deny)} if deny else {})}
        return start_proxy([issuer.config()], policy, {"hosts": {"*": upstream.url}, **settings.pop("upstream", {})}, workers=workers, **settings)

    return start


def get(proxy, token, path):
    return proxy.ask("GET", path, token)


def test_a_rule_by_name_allows_the_id_of_the_same_project_and_no_other(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]})
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS).status == 200
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS.upper()).status == 200
    assert get(proxy, operator, "/contoso/analytics/_apis/pipelines").status == 200
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % PAYROLL).status == 403
    assert get(proxy, operator, "/contoso/00000000-0000-4000-8000-000000000000/_apis/pipelines").status == 403
    assert get(proxy, operator, "/contoso/payroll/_apis/pipelines").status == 403
    assert len(served(upstream)) == 3
    # Each was asked for once, and what the names already tell was not asked for.
    assert directory.asked == ["/contoso/_apis/projects/" + g for g in (ANALYTICS, PAYROLL, "00000000-0000-4000-8000-000000000000")]


def test_a_rule_by_id_allows_the_name(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": [ANALYTICS]})
    assert get(proxy, operator, "/contoso/Analytics/_apis/pipelines").status == 200
    # What was judged is what is asked for, even if the name should move on meanwhile.
    assert served(upstream) == ["/contoso/%s/_apis/pipelines" % ANALYTICS]
    answer = get(proxy, operator, "/contoso/payroll/_apis/pipelines")
    assert answer.status == 403 and "payroll" in json.loads(answer.body)["message"]


def test_a_repository_of_its_projects_name_stays_where_it_is(start, operator, upstream, directory):
    directory.repositories[DAGS] = ("analytics", "analytics")
    proxy = start({"operations": ["git.fetch"], "repositories": [ANALYTICS + "/" + DAGS]})
    for path in ("/contoso/_git/analytics", "/contoso/analytics/_git/analytics"):
        assert get(proxy, operator, path + "/info/refs?service=git-upload-pack").status == 200
    assert [t.split("/info")[0] for t in served(upstream)] == ["/contoso/_git/" + DAGS, "/contoso/%s/_git/%s" % (ANALYTICS, DAGS)]
    assert get(proxy, operator, "/contoso/payroll/_git/wages/info/refs?service=git-upload-pack").status == 403


def test_a_denial_by_name_holds_for_the_id_and_only_for_it(start, operator, upstream):
    proxy = start({"access": ["read"], "projects": ["*"]}, deny=[{"access": ["read"], "projects": ["payroll"]}])
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % PAYROLL).status == 403
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS).status == 200
    assert len(served(upstream)) == 1


class DotNet(Directory):
    """Reads a GUID in all the forms that .NET reads."""

    def find(self, segments, query):
        return super().find([self.plain(s) for s in segments], query)

    def plain(self, segment):
        digits = "".join(c for c in urllib.parse.unquote(segment).lower() if c not in "-{}()")
        return next((id for id in (*self.projects.values(), *self.repositories) if id.replace("-", "") == digits), segment)


@pytest.mark.parametrize("spelt", ["%s", "%%7B%s%%7D", "(%s)"], ids=["digits", "braces", "parentheses"])
def test_a_denial_by_name_holds_for_every_spelling_of_the_id(start, operator, upstream, spelt):
    upstream.always = DotNet()
    spell = lambda id: "/contoso/%s/_apis/pipelines" % (spelt % id if spelt != "%s" else id.replace("-", ""))
    proxy = start({"access": ["read"], "projects": ["*"]}, deny=[{"access": ["read"], "projects": ["payroll"]}])
    assert get(proxy, operator, spell(PAYROLL)).status == 403
    assert get(proxy, operator, spell(ANALYTICS)).status == 200
    assert served(upstream) == ["/contoso/%s/_apis/pipelines" % ANALYTICS], "it leaves in the plain form"


@pytest.mark.parametrize("name,status", [("payroll", 403), ("\u00a0payroll", 403), ("payroll\u2003", 403), ("\u3000payroll\u0085", 403), ("payroll\u000b", 403),
                                         ("\u1680payroll", 403), ("pay\u00a0roll", 200), ("\ufeffpayroll", 200)])
def test_a_denied_name_is_denied_with_blanks_around_it(start, operator, upstream, name, status):
    proxy = start({"access": ["read", "write", "manage"], "projects": ["*"]}, deny=[{"access": ["read", "write", "manage"], "projects": ["payroll"]}], upstream={"names": "literal"})
    body = json.dumps({"name": "x", "serviceEndpointProjectReferences": [{"projectReference": {"name": name}}]}).encode()
    assert proxy.ask("POST", "/contoso/_apis/serviceendpoint/endpoints?api-version=7.1", operator, JSON, body).status == status
    assert len(served(upstream)) == (status == 200)
    # In a path no such blank may stand.
    answer = get(proxy, operator, "/contoso/%s/_apis/pipelines" % urllib.parse.quote(name))
    assert answer.status == (403 if name == "payroll" else 400), answer.body


def test_a_denial_by_id_holds_for_every_spelling_of_it(start, operator, upstream):
    upstream.always = DotNet()
    proxy = start({"access": ["read"], "projects": ["*"]}, deny=[{"access": ["read"], "projects": [PAYROLL]}], upstream={"names": "literal"})
    for spelt in (PAYROLL, PAYROLL.upper(), PAYROLL.replace("-", ""), "(%s)" % PAYROLL, "%%7B%s%%7D" % PAYROLL):
        assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % spelt).status == 403, spelt
    assert served(upstream) == []


def test_repositories_by_id_belong_to_their_own_project(start, operator, upstream):
    proxy = start({"operations": ["git.refs.list"], "repositories": ["analytics/dags"]})
    refs = "_apis/git/repositories/%s/refs?api-version=7.1"
    assert get(proxy, operator, "/contoso/analytics/" + refs % DAGS).status == 200
    assert get(proxy, operator, "/contoso/%s/" % ANALYTICS + refs % DAGS).status == 200
    assert get(proxy, operator, "/contoso/" + refs % DAGS).status == 200, "without a project"
    assert get(proxy, operator, "/contoso/" + refs % WAGES).status == 403
    # The id of one below the name of another project.
    wrong = get(proxy, operator, "/contoso/analytics/" + refs % WAGES)
    assert wrong.status == 400 and "does not belong to the project" in json.loads(wrong.body)["message"]
    assert len(served(upstream)) == 3


@pytest.mark.parametrize("entry", [{"projects": ["analytics"]}, {"repositories": ["analytics/*"]}], ids=["projects", "repositories"])
@pytest.mark.parametrize("names", ["resolve", "literal"])
def test_a_repository_by_an_odd_spelling_of_its_id_is_of_its_own_project(start, operator, upstream, entry, names):
    upstream.always = DotNet()
    proxy = start({"operations": ["git.refs.list"], **entry}, upstream={"names": names})
    for spelt in (WAGES.replace("-", ""), "%%7B%s%%7D" % WAGES, "(%s)" % WAGES):
        assert get(proxy, operator, "/contoso/analytics/_apis/git/repositories/%s/refs" % spelt).status in (400, 403), spelt
    assert served(upstream) == []


# What a body takes from a repository: of which project that is, is not what the path says.
TAKES = [
    ("git.repositories.create", "/_apis/git/repositories", lambda id: {"name": "copy", "parentRepository": {"id": id}}),
    ("git.pullRequests.create", "/_apis/git/repositories/dags/pullrequests",
     lambda id: {"sourceRefName": "refs/heads/a", "targetRefName": "refs/heads/b", "forkSource": {"repository": {"id": id}}}),
    ("git.forks.createForkSyncRequest", "/_apis/git/repositories/dags/forkSyncRequests", lambda id: {"source": {"repositoryId": id}}),
    ("git.refs.updateMany", "/_apis/git/repositories/dags/refs", lambda id: [{"name": "refs/heads/a", "newObjectId": "1" * 40, "repositoryId": id}]),
    ("git.cherryPicks.create", "/_apis/git/repositories/dags/cherryPicks", lambda id: {"repository": {"id": id}}),
    ("wiki.wikis.create", "/_apis/wiki/wikis", lambda id: {"name": "w", "type": "codeWiki", "repositoryId": id}),
    ("pipelines.pipelines.create", "/_apis/pipelines", lambda id: {"name": "p", "configuration": {"type": "yaml", "repository": {"id": id}}}),
    ("build.definitions.create", "/_apis/build/definitions", lambda id: {"name": "d", "repository": {"id": id, "type": "TfsGit"}}),
    ("approvalsAndChecks.checkConfigurations.add", "/_apis/pipelines/checks/configurations",
     lambda id: {"resource": {"type": "repository", "id": "%s.%s" % (ANALYTICS, id)}}),
]


@pytest.mark.parametrize("operation,path,body", TAKES, ids=[t[0] for t in TAKES])
def test_a_repository_that_a_body_names_is_of_its_own_project(start, operator, upstream, operation, path, body):
    post = lambda proxy, id: proxy.ask("POST", "/contoso/analytics" + path, operator, JSON, json.dumps(body(id)).encode())
    proxy = start({"operations": [operation], "projects": ["analytics"]})
    assert post(proxy, DAGS).status == 200
    for spelt in (WAGES, WAGES.replace("-", ""), "{%s}" % WAGES):
        assert post(proxy, spelt).status in (400, 403), spelt
    both = start({"operations": [operation], "projects": ["analytics", "payroll"]})
    assert post(both, WAGES).status == 200
    open_ = start({"operations": [operation], "projects": ["*"]}, deny=[{"projects": ["payroll"]}])
    assert post(open_, DAGS).status == 200 and post(open_, WAGES).status == 403
    assert len(served(upstream)) == 3


# What else a request may take from another project, and the same from its own.
ELSEWHERE = [
    ("git.mergeBases.list", "GET", "/_apis/git/repositories/dags/commits/c0ffee/mergebases?otherCommitId=c0ffed&otherRepositoryId=%s", None, DAGS, WAGES),
    ("git.pullRequests.create", "POST", "/_apis/git/repositories/dags/pullrequests",
     lambda id: {"sourceRefName": "refs/heads/a", "targetRefName": "refs/heads/b", "workItemRefs": [{"id": id}]}, "7", "8"),
    ("git.importRequests.create", "POST", "/_apis/git/repositories/dags/importRequests", lambda source: {"parameters": source},
     {"gitSource": {"url": "https://example.com/x.git"}}, {"tfvcSource": {"path": "$/payroll/x"}}),
    ("artifacts.feedManagement.updateFeed", "PATCH", "/_apis/packaging/feeds/data", lambda source: {"upstreamSources": [source]},
     {"location": "https://registry.npmjs.org/", "serviceEndpointProjectId": ANALYTICS}, {"location": "https://registry.npmjs.org/", "serviceEndpointProjectId": PAYROLL}),
    ("artifacts.feedManagement.updateFeed", "PATCH", "/_apis/packaging/feeds/data", lambda source: {"upstreamSources": [source]},
     {"location": "https://registry.npmjs.org/"}, {"upstreamSourceType": "internal", "location": "azure-feed://contoso/payroll/secret@local"}),
    ("artifacts.feedManagement.createFeed", "POST", "/_apis/packaging/feeds", lambda source: {"name": "x", "upstreamSources": [source]},
     {"location": "https://registry.npmjs.org/"}, {"internalUpstreamProjectId": ANALYTICS, "location": "vsts-feed://contoso/payroll/secret@local"}),
]


@pytest.mark.parametrize("operation,method,path,body,ours,theirs", ELSEWHERE, ids=["%s-%d" % (e[0], i) for i, e in enumerate(ELSEWHERE)])
def test_what_is_taken_from_another_project_has_to_be_allowed_there(start, operator, upstream, operation, method, path, body, ours, theirs):
    def ask(proxy, what):
        service = "/~feeds" if "packaging" in path else ""
        target = path % what if body is None else path
        return proxy.ask(method, service + "/contoso/analytics" + target, operator, JSON, b"" if body is None else json.dumps(body(what)).encode()).status

    proxy = start({"operations": [operation], "projects": ["analytics"]})
    assert ask(proxy, ours) == 200 and ask(proxy, theirs) == 403
    open_ = start({"operations": [operation]}, deny=[{"projects": ["payroll"]}])
    assert ask(open_, ours) == 200 and ask(open_, theirs) == 403
    assert len(served(upstream)) == 2


def test_a_policy_that_asks_for_a_build_is_denied_by_its_pipeline(start, operator, upstream):
    proxy = start({"operations": ["policy.configurations.create"], "projects": ["analytics"]}, deny=[{"pipelines": [99]}])
    for settings, status in (({"minimumApproverCount": 1}, 200), ({"buildDefinitionId": 42}, 200), ({"buildDefinitionId": 99}, 403), ({"BuildDefinitionId": "99"}, 403)):
        body = json.dumps({"isEnabled": True, "settings": settings}).encode()
        assert proxy.ask("POST", "/contoso/analytics/_apis/policy/configurations", operator, JSON, body).status == status, settings
    assert len(served(upstream)) == 2


@pytest.mark.parametrize("spelt,status", [("heads/main", 403), ("%20heads/main", 403), ("%C2%A0heads/main", 400), ("heads/main%E3%80%80", 400), ("heads/other", 200)])
def test_a_branch_that_is_denied_is_locked_under_no_other_spelling(start, operator, upstream, spelt, status):
    proxy = start({"operations": ["git.refs.updateLock"], "projects": ["analytics"]}, deny=[{"refs": ["refs/heads/main"]}])
    target = "/contoso/analytics/_apis/git/repositories/dags/refs?filter=" + spelt
    assert proxy.ask("PATCH", target, operator, JSON, b'{"isLocked":false}').status == status
    assert len(served(upstream)) == (status == 200)


def test_who_lets_pipelines_into_a_repository_may_do_so_in_its_project(start, operator, upstream):
    permissions = "/contoso/analytics/_apis/pipelines/pipelinepermissions"
    lets = json.dumps({"pipelines": [{"id": 42, "authorized": True}]}).encode()
    one = lambda proxy, project, id: proxy.ask("PATCH", "%s/repository/%s.%s" % (permissions, project, id), operator, JSON, lets).status
    several = lambda proxy, id: proxy.ask("PATCH", permissions, operator, JSON, json.dumps(
        [{"resource": {"type": "repository", "id": "%s.%s" % (ANALYTICS, id)}, "pipelines": [{"id": 42, "authorized": True}]}]).encode()).status
    everything = {"operations": ["approvalsAndChecks.pipelinePermissions.*"]}
    proxy = start({**everything, "projects": ["analytics"]})
    assert one(proxy, ANALYTICS, DAGS) == several(proxy, DAGS) == 200
    for project in (ANALYTICS, PAYROLL):
        assert one(proxy, project, WAGES) == 403
    assert several(proxy, WAGES) == 403
    assert proxy.ask("PATCH", permissions + "/endpoint/" + WAGES, operator, JSON, lets).status == 200, "no repository"
    both = start({**everything, "projects": ["analytics", "payroll"]})
    assert one(both, PAYROLL, WAGES) == several(both, WAGES) == 200
    open_ = start({**everything, "projects": ["*"]}, deny=[{"repositories": ["wages"]}])
    assert one(open_, ANALYTICS, DAGS) == 200 and one(open_, PAYROLL, WAGES) == several(open_, WAGES) == 403
    assert len(served(upstream)) == 6


def test_who_lets_one_pipeline_in_does_not_let_in_every_pipeline(start, operator, upstream):
    permissions = "/contoso/analytics/_apis/pipelines/pipelinepermissions/endpoint/" + DAGS
    lets = lambda proxy, body: proxy.ask("PATCH", permissions, operator, JSON, json.dumps(body).encode()).status
    everything, one = {"operations": ["approvalsAndChecks.pipelinePermissions.*"]}, {"pipelines": [{"id": 42, "authorized": True}]}
    for proxy in (start({**everything, "pipelines": [42]}), start(everything, deny=[{"pipelines": [99]}])):
        assert lets(proxy, one) == lets(proxy, {**one, "allPipelines": None}) == 200
        assert lets(proxy, {**one, "allPipelines": {"authorized": True}}) == 403
        assert lets(proxy, {"pipelines": [{"id": 99, "authorized": True}]}) == 403
    assert len(served(upstream)) == 4


def test_a_delivery_plan_shows_teams_of_admitted_projects_only(start, operator, upstream, directory):
    plan = lambda proxy, *teams: proxy.ask("POST", "/contoso/analytics/_apis/work/plans", operator, JSON, json.dumps(
        {"name": "p", "type": "deliveryTimelineView", "properties": {"teamBacklogMappings": [{"teamId": t} for t in teams]}}).encode()).status
    red, blue = "bbbbbbbb-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"
    directory.teams = {red: ("red", "analytics"), blue: ("blue", "payroll")}
    proxy = start({"access": ["write"], "areas": ["work"], "projects": ["analytics"]})
    assert plan(proxy, red) == 200
    assert plan(proxy, blue) == plan(proxy, red, blue) == 403
    assert plan(start({"access": ["write"], "areas": ["work"], "projects": ["*"]}), red, blue) == 200
    assert len(served(upstream)) == 2


@pytest.mark.parametrize("path,body", [
    ("testplan/Plans/CloneOperation", {"destinationTestPlan": {"project": "%s"}}),
    ("testplan/Suites/CloneOperation", {"destinationTestSuite": {"id": 7, "project": "%s"}}),
    ("test/Plans/7/cloneoperation", {"destinationTestPlan": {"project": {"id": "%s"}}}),
    ("test/Plans/7/Suites/8/cloneoperation", {"destinationSuiteProjectName": "%s"}),
], ids=["plan", "suite", "older-plan", "older-suite"])
def test_tests_are_copied_into_admitted_projects_only(start, operator, upstream, path, body):
    copied = lambda to: proxy.ask("POST", "/contoso/analytics/_apis/" + path, operator, JSON, (json.dumps(body) % to).encode()).status
    proxy = start({"access": ["write"], "areas": ["test", "testPlan"], "projects": ["analytics"]})
    assert copied("analytics") == copied(ANALYTICS) == 200
    assert copied("payroll") == copied(PAYROLL) == 403
    assert len(served(upstream)) == 2


def test_a_file_that_is_read_for_a_build_is_of_its_repositorys_project(start, operator, upstream):
    proxy = start({"operations": ["build.sourceProviders.getFileContents"], "projects": ["analytics"]})
    read = "/contoso/analytics/_apis/sourceProviders/tfsgit/filecontents?path=/x&repository=%s"
    assert get(proxy, operator, read % DAGS).status == 200
    assert get(proxy, operator, read % "dags").status == 200
    assert get(proxy, operator, read % WAGES).status == 403
    assert get(proxy, operator, read % WAGES.replace("-", "")).status == 403
    assert len(served(upstream)) == 2


def test_a_route_without_a_project_is_that_of_its_resource(start, operator, upstream):
    proxy = start({"access": ["read"], "projects": ["analytics"]})
    assert get(proxy, operator, "/contoso/_apis/git/repositories/%s/refs" % DAGS).status == 200
    assert get(proxy, operator, "/contoso/_apis/git/repositories/%s/refs" % WAGES).status == 403
    # The id of one below a project that is allowed: who says that Azure DevOps minds?
    assert get(proxy, operator, "/contoso/analytics/_apis/git/repositories/%s/refs" % DAGS).status == 200
    assert get(proxy, operator, "/contoso/analytics/_apis/git/repositories/%s/refs" % WAGES).status == 400
    assert get(proxy, operator, "/contoso/analytics/_git/%s/info/refs?service=git-upload-pack" % WAGES).status == 400
    # One that names nothing may be anything.
    assert get(proxy, operator, "/contoso/_apis/git/repositories").status == 403
    assert len(served(upstream)) == 2


@pytest.mark.parametrize("rule", [42, "nightly-load", "nightly-*", "\\etl\\nightly-load", "\\ETL\\*"])
def test_a_build_is_its_pipelines(start, operator, upstream, rule):
    proxy = start({"operations": ["build.builds.get", "build.timeline.get", "build.builds.update", "pipelines.runs.run"], "projects": ["analytics"], "pipelines": [rule]})
    base = "/contoso/analytics/_apis/"
    assert get(proxy, operator, base + "build/builds/1001?api-version=7.1").status == 200
    assert get(proxy, operator, base + "build/builds/1001/timeline?api-version=7.1").status == 200
    cancel = proxy.ask("PATCH", base + "build/builds/1001?api-version=7.1", operator, JSON, b'{"status":"cancelling"}')
    assert cancel.status == 200, cancel.body
    assert proxy.ask("POST", base + "pipelines/42/runs?api-version=7.1", operator, JSON, b"{}").status == 200
    # There is no such build in this project, nor such a pipeline.
    assert get(proxy, operator, base + "build/builds/2002?api-version=7.1").status == 403
    assert proxy.ask("POST", base + "pipelines/99/runs?api-version=7.1", operator, JSON, b"{}").status == 403
    assert len(served(upstream)) == 4
    record = proxy.outcome(cancel)
    assert "build:1001" in record["request"]["resources"] and "pipeline:42" in record["request"]["resources"]
    assert "pipeline.name:\\etl\\nightly-load" in record["request"]["resources"]


class AnyProject(Directory):
    """Finds builds by their number, whatever project stands in front."""

    def find(self, segments, query):
        return super().find(segments[:1] + segments[2:], query) if segments[2:5] == ["_apis", "build", "builds"] else super().find(segments, query)


@pytest.mark.parametrize("pipelines", [[42], None])
def test_a_build_is_changed_in_its_own_project(start, operator, upstream, pipelines):
    upstream.always = AnyProject()
    role = {"operations": ["build.*"], "projects": ["analytics"], **({"pipelines": pipelines} if pipelines else {})}
    change = lambda proxy, method, path, body: proxy.ask(method, "/contoso/%s?api-version=7.1" % path, operator, JSON, json.dumps(body).encode()).status
    asked = (("PATCH", "analytics/_apis/build/builds/%d", {"status": "cancelling"}), ("DELETE", ANALYTICS + "/_apis/build/builds/%d", {}), ("PUT", "analytics/_apis/build/builds/%d/tags/x", {}),
             ("PATCH", "analytics/_apis/build/builds/%d/stages/s", {"state": "retry"}))
    proxy = start(role)
    for method, path, body in asked:
        assert change(proxy, method, path % 1001, body) == 200, path
        assert change(proxy, method, path % 2002, body) in (400, 403), path
    assert change(proxy, "PATCH", "analytics/_apis/build/builds", [{"id": 1001, "status": "cancelling"}]) == 200
    assert change(proxy, "PATCH", "analytics/_apis/build/builds", [{"id": 1001, "status": "cancelling"}, {"id": 2002, "status": "cancelling"}]) in (400, 403)
    assert len(served(upstream)) == 5


def test_of_whom_nobody_is_asked_no_build_is_changed_in_a_project(start, operator, upstream):
    proxy = start({"operations": ["build.*"], "projects": ["analytics"]}, {"operations": ["build.builds.delete"], "projects": ["*"]}, upstream={"names": "literal"})
    assert proxy.ask("PATCH", "/contoso/analytics/_apis/build/builds/1001", operator, JSON, b'{"status":"cancelling"}').status == 403
    assert proxy.ask("DELETE", "/contoso/analytics/_apis/build/builds/1001", operator).status == 200
    assert get(proxy, operator, "/contoso/analytics/_apis/build/builds/1001").status == 200


def test_a_body_that_names_another_build_than_the_path_is_refused(start, operator, upstream):
    """The pipeline follows from the build of the path; the body must not mean another one."""
    proxy = start({"operations": ["build.builds.update"], "projects": ["analytics"], "pipelines": [42]})
    path = "/contoso/analytics/_apis/build/builds/1001?api-version=7.1"
    body = lambda id: json.dumps({"id": id, "status": "cancelling"}).encode()
    for id in (2002, "2002", 99999999):
        answer = proxy.ask("PATCH", path, operator, JSON, body(id))
        assert answer.status == 400, (id, answer.status)
    assert not served(upstream)
    assert proxy.ask("PATCH", path, operator, JSON, body(1001)).status == 200


@pytest.mark.parametrize("rule", ["wages", "\\nightly-load", "\\etl\\wages", 4, 421])
def test_other_pipelines_are_not(start, operator, upstream, rule):
    proxy = start({"access": ["read", "execute"], "projects": ["analytics"], "pipelines": [rule]})
    assert get(proxy, operator, "/contoso/analytics/_apis/build/builds/1001?api-version=7.1").status == 403
    assert not served(upstream)


@pytest.mark.parametrize("query", ["definitionId=42", "definitions=42", "definitionIds=42", "buildId=1001", "buildIds=1001", "DEFINITIONID=42&buildIds=1001"])
def test_saying_which_pipeline_it_is_does_not_make_it_so(start, operator, upstream, query):
    proxy = start({"operations": ["build.builds.get", "build.builds.update", "build.authorizedresources.*"], "projects": ["analytics"], "pipelines": [42]})
    path = "/contoso/analytics/_apis/build/builds/2002?api-version=7.1&" + query
    assert get(proxy, operator, path).status in (400, 403)
    assert proxy.ask("PATCH", path, operator, JSON, b'{"status":"cancelling"}').status in (400, 403)
    assert get(proxy, operator, "/contoso/analytics/_apis/build/authorizedresources?" + query).status in (400, 403)


@pytest.mark.parametrize("query", ["project=analytics", "projectId=" + ANALYTICS, "projectName=analytics", "repositoryId=dags", "projectIds=analytics&repositoryIds=dags"])
def test_saying_which_project_it_is_does_not_make_it_so(start, operator, upstream, query):
    proxy = start({"operations": ["git.repositories.get", "core.projects.list"], "projects": ["analytics"]})
    assert get(proxy, operator, "/contoso/_apis/git/repositories/%s" % DAGS).status == 200
    assert get(proxy, operator, "/contoso/_apis/git/repositories/%s?%s" % (WAGES, query)).status in (400, 403)
    assert get(proxy, operator, "/contoso/_apis/projects?" + query).status == 403


def test_running_a_build_again_is_running_its_pipeline(start, operator, upstream):
    proxy = start({"operations": ["build.builds.queue", "build.builds.list"], "projects": ["analytics"], "pipelines": [42]})
    again = "/contoso/analytics/_apis/build/builds?api-version=7.1&sourceBuildId=%d"
    assert proxy.ask("POST", again % 1001, operator, JSON, b"{}").status == 200
    assert proxy.ask("POST", again % 2002, operator, JSON, b"{}").status == 403
    several = "/contoso/analytics/_apis/build/builds?api-version=7.1&buildIds="
    assert get(proxy, operator, several + "1001,1002").status == 200
    assert get(proxy, operator, several + "1001,2002").status == 403
    assert len(served(upstream)) == 2


def test_the_ref_of_a_build_counts(start, operator, upstream):
    proxy = start({"operations": ["build.builds.update"], "pipelines": [42], "refs": ["refs/heads/main"]})
    path = "/contoso/analytics/_apis/build/builds/%d?api-version=7.1"
    assert proxy.ask("PATCH", path % 1001, operator, JSON, b'{"status":"cancelling"}').status == 200
    assert proxy.ask("PATCH", path % 1002, operator, JSON, b'{"status":"cancelling"}').status == 403


def test_a_push_by_id_is_decided_like_one_by_name(start, operator, upstream, directory):
    line = "%s %s refs/heads/airflow/x\0 report-status\n" % ("0" * 40, "1" * 40)
    push = ("%04x%s0000" % (len(line) + 4, line)).encode() + b"PACK"
    proxy = start({"operations": ["git.push"], "repositories": ["analytics/dags"], "refs": ["refs/heads/airflow/*"]})
    fields = [("Content-Type", "application/x-git-receive-pack-request")]
    for where in ("%s/_git/%s" % (ANALYTICS, DAGS), "analytics/_git/" + DAGS, "_git/" + DAGS):
        answer = proxy.ask("POST", "/contoso/%s/git-receive-pack" % where, operator, fields, push)
        assert answer.status == 200, (where, answer.body)
    refused = proxy.ask("POST", "/contoso/%s/_git/%s/git-receive-pack" % (PAYROLL, WAGES), operator, fields, push)
    assert b"ng refs/heads/airflow/x" in refused.body or refused.status == 403
    assert len(served(upstream)) == 3


def test_items_of_a_batch_are_asked_about_too(start, operator, upstream):
    proxy = start({"operations": ["wit.batch.executePost"]}, {"access": ["read", "write"], "projects": ["analytics"], "areas": ["wit"]})
    item = lambda project: {"method": "POST", "uri": "/%s/_apis/wit/workitems/$Task?api-version=7.1" % project, "headers": {}, "body": []}
    ask = lambda *projects: proxy.ask("POST", "/contoso/_apis/wit/$batch?api-version=7.1", operator, JSON, json.dumps([item(p) for p in projects]).encode())
    both = ask("analytics", ANALYTICS)
    assert both.status == 200, both.body[:900].decode()
    assert ask(ANALYTICS, PAYROLL).status == 403


ITEM = "_apis/wit/workitems/%s?api-version=7.1"
PATCH = [("Content-Type", "application/json-patch+json")]


def title(*more):
    return json.dumps([{"op": "add", "path": "/fields/System.Title", "value": "x"}, *more]).encode()


@pytest.mark.parametrize("rule", ["analytics", ANALYTICS, "anal*"])
def test_a_work_item_is_of_its_own_project(start, operator, upstream, directory, rule):
    proxy = start({"access": ["read", "write", "delete"], "areas": ["wit"], "projects": [rule]})
    for method, path, body in (("GET", ITEM % 7, b""), ("DELETE", ITEM % 7, b""), ("PATCH", ITEM % 7, title()), ("GET", ITEM.replace("%s", "%s/updates") % 7, b""),
                               ("POST", "_apis/wit/workItems/7/comments?api-version=7.1-preview.4", b"{}")):
        for home in ("analytics/", ANALYTICS + "/", "")[:2 if method == "POST" else 3]:
            before = len(served(upstream))
            answer = proxy.ask(method, "/contoso/" + home + path, operator, PATCH if method == "PATCH" else JSON, body)
            assert answer.status == 200, (method, home, path, answer.body)
            # Another project's, by its number: below a project that is allowed, or below none.
            other = proxy.ask(method, "/contoso/" + home + path.replace("7", "8", 1), operator, PATCH if method == "PATCH" else JSON, body)
            assert other.status == 403, (method, home, path, other.body)
            assert len(served(upstream)) == before + 1
    assert proxy.ask("DELETE", "/contoso/payroll/" + ITEM % 7, operator).status == 403
    assert proxy.ask("DELETE", "/contoso/analytics/" + ITEM % 9, operator).status == 403, "nobody knows it"
    assert directory.asked.count("/contoso/_apis/wit/workitems/7") == 1


def test_a_denied_project_is_denied_by_the_numbers_of_its_work_items(start, operator, upstream):
    proxy = start({"access": ["read", "write", "delete"], "areas": ["wit"], "projects": ["*"]}, deny=[{"access": ["read", "write", "delete"], "projects": ["payroll"]}])
    for home in ("analytics/", "payroll/", ""):
        assert proxy.ask("DELETE", "/contoso/" + home + ITEM % 8, operator).status == 403
    assert proxy.ask("DELETE", "/contoso/" + ITEM % 7, operator).status == 200
    # A link from one shows in the other.
    link = {"op": "add", "path": "/relations/-", "value": {"rel": "System.LinkTypes.Related", "url": "https://dev.azure.com/contoso/_apis/wit/workItems/8"}}
    assert proxy.ask("PATCH", "/contoso/" + ITEM % 7, operator, PATCH, title(link)).status == 403
    assert proxy.ask("PATCH", "/contoso/" + ITEM % 7, operator, PATCH, title()).status == 200
    assert len(served(upstream)) == 2


def test_a_test_is_linked_to_work_items_of_admitted_projects_only(start, operator, upstream):
    links = "/~vstmr/contoso/analytics/_apis/testresults/testmethods/workitems"
    proxy = start({"access": ["write", "delete"], "areas": ["testResults"], "projects": ["analytics"]})
    link = lambda item: proxy.ask("POST", links, operator, JSON, json.dumps({"workItem": {"id": str(item)}, "tests": [{"name": "t"}]}).encode()).status
    unlink = lambda item: proxy.ask("DELETE", links + "?testName=t&workItemId=%d" % item, operator).status
    assert link(7) == unlink(7) == 200
    assert link(8) == unlink(8) == 403
    assert len(served(upstream)) == 2


def test_each_of_many_work_items_counts(start, operator, upstream, directory):
    directory.work_items.update({n: "analytics" for n in range(100, 133)})
    proxy = start({"operations": ["wit.workItems.*", "wit.batch.*"], "projects": ["analytics"]}, {"operations": ["wit.batch.*"]})
    listed = lambda numbers: get(proxy, operator, "/contoso/analytics/_apis/wit/workitems?api-version=7.1&ids=" + ",".join(map(str, numbers)))
    ids = lambda what, numbers: proxy.ask("POST", "/contoso/analytics/_apis/wit/workitems" + what + "?api-version=7.1", operator, JSON, json.dumps({"ids": list(numbers)}).encode())
    item = lambda n: {"method": "DELETE", "uri": "/analytics/_apis/wit/workitems/%d?api-version=7.1" % n}
    batch = lambda *numbers: proxy.ask("POST", "/contoso/_apis/wit/$batch?api-version=7.1", operator, JSON, json.dumps([item(n) for n in numbers]).encode())
    assert listed(range(100, 132)).status == 200
    assert ids("batch", range(100, 132)).status == ids("delete", range(100, 132)).status == batch(100, 101).status == 200
    for answer in (listed([100, 8]), ids("batch", [100, 8]), ids("delete", [100, 8]), batch(100, 8)):
        assert answer.status == 403
    # Nobody is asked about more.
    asked = len(directory.asked)
    assert listed(range(100, 133)).status == ids("delete", range(100, 133)).status == 403 and len(directory.asked) == asked
    assert len(served(upstream)) == 4


def test_a_batch_of_many_work_items_is_decided_the_same_whatever_is_known_of_them(start, operator, upstream, directory):
    """Each name that is waited for has all of it decided anew."""
    directory.work_items.update({n: "analytics" for n in range(100, 140)})
    proxy = start({"operations": ["wit.workItems.*", "wit.batch.*"], "projects": ["analytics"]}, {"operations": ["wit.batch.*"]})
    items = [{"method": "DELETE", "uri": "/analytics/_apis/wit/workitems/%d?api-version=7.1" % n} for n in range(100, 138)]
    answer = proxy.ask("POST", "/contoso/_apis/wit/$batch?api-version=7.1", operator, JSON, json.dumps(items).encode())
    assert answer.status == 200, answer.text
    assert len(served(upstream)) == 1 and len(directory.asked) == len(set(directory.asked)) == 38 + 1


def test_of_whom_nobody_is_asked_no_work_item_is_of_a_project(start, operator, upstream, directory):
    proxy = start({"operations": ["wit.*"], "projects": ["analytics"]}, {"operations": ["wit.workItems.update"], "projects": ["*"]}, upstream={"names": "literal"})
    assert get(proxy, operator, "/contoso/analytics/" + ITEM % 7).status == 403
    assert proxy.ask("DELETE", "/contoso/analytics/" + ITEM % 7, operator).status == 403
    assert proxy.ask("PATCH", "/contoso/analytics/" + ITEM % 7, operator, PATCH, title()).status == 200
    assert proxy.ask("POST", "/contoso/analytics/" + ITEM % "$Task", operator, PATCH, title()).status == 200
    assert directory.asked == []


def test_what_a_bin_holds_or_only_a_guid_tells_is_of_no_project(start, operator, upstream):
    proxy = start({"operations": ["wit.*", "git.pullRequests.*"], "projects": ["analytics"]}, {"operations": ["wit.attachments.get"], "projects": ["*"]})
    for method, path in (("PATCH", "wit/recyclebin/9"), ("DELETE", "wit/recyclebin/9"), ("DELETE", "wit/attachments/" + DAGS), ("GET", "git/pullrequests/9")):
        assert proxy.ask(method, "/contoso/analytics/_apis/" + path, operator, JSON, b"{}").status == 403, path
    assert get(proxy, operator, "/contoso/analytics/_apis/wit/attachments/" + DAGS).status == 200
    assert get(proxy, operator, "/contoso/analytics/_apis/wit/recyclebin").status == 200


def test_a_work_item_that_moved_is_asked_about_again(start, operator, upstream, directory):
    proxy = start({"operations": ["wit.*"], "projects": ["analytics", "payroll"]}, deny=[{"operations": ["wit.workItems.delete"], "projects": ["payroll"]}])
    assert get(proxy, operator, "/contoso/" + ITEM % 7).status == 200
    move = {"op": "add", "path": "/fields/System.TeamProject", "value": "payroll"}
    assert proxy.ask("PATCH", "/contoso/" + ITEM % 7, operator, PATCH, title(move)).status == 200
    directory.work_items[7] = "payroll"
    assert proxy.ask("DELETE", "/contoso/" + ITEM % 7, operator).status == 403


@pytest.mark.parametrize("broken", [message(500, "x"), message(401, ""), message(203, "<html>", type="text/html"), message(200, "{"),
                                    message(200, json.dumps({"id": PAYROLL, "name": "analytics"})), message(429, "", [("Retry-After", "1")]), None])
def test_who_cannot_be_asked_allows_nothing(start, operator, upstream, directory, broken):
    proxy = start({"access": ["read"], "projects": ["analytics"]})
    directory.broken = broken or message(302, "", [("Location", "https://login.microsoftonline.com/")])
    answer = get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS)
    assert answer.status == 503 and answer["Retry-After"] and "which project is meant" in json.loads(answer.body)["message"]
    asked = len(directory.asked)
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS).status == 503
    assert len(directory.asked) == asked, "a failure is not asked about again at once"
    assert not served(upstream)
    directory.broken = None
    until(lambda: get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS).status == 200, "it recovers")
    assert "decision" in proxy.outcome(answer)


def test_many_who_want_to_know_the_same_ask_once(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]}, workers=2)
    whole = directory.__call__

    def slow(sock, request):
        if is_lookup(request):
            time.sleep(0.3)
        return whole(sock, request)

    upstream.always = slow
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS).status)) for _ in range(12)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert answers == [200] * 12
    assert len(directory.asked) <= 2  # one for each worker at most


def test_a_client_that_leaves_meanwhile_harms_nobody(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]})
    whole = directory.__call__
    upstream.always = lambda s, r: (time.sleep(0.2), whole(s, r))[1]
    s = socket.create_connection(("127.0.0.1", proxy.port))
    s.sendall(("GET /contoso/%s/_apis/pipelines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (ANALYTICS, operator)).encode())
    time.sleep(0.05)
    s.close()
    time.sleep(0.3)
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS).status == 200
    assert len(directory.asked) == 1


def test_renaming_through_the_proxy_is_noticed_at_once(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]}, {"operations": ["core.projects.update"]}, workers=2)
    path = "/contoso/%s/_apis/pipelines" % ANALYTICS
    for _ in range(6):
        assert get(proxy, operator, path).status == 200
    directory.projects = {"renamed": ANALYTICS, "analytics": PAYROLL}
    assert proxy.ask("PATCH", "/contoso/_apis/projects/%s?api-version=7.1" % ANALYTICS, operator, JSON, b'{"name":"renamed"}').status == 200
    until(lambda: all(get(proxy, operator, path).status == 403 for _ in range(6)), "every worker forgets")
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % PAYROLL).status == 200


def test_what_is_gone_is_forgotten(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]})
    path = "/contoso/%s/_apis/pipelines" % ANALYTICS
    assert get(proxy, operator, path).status == 200
    directory.projects = {"analytics": PAYROLL}
    upstream.tell(message(404, "{}"))
    assert get(proxy, operator, path).status == 404
    assert get(proxy, operator, path).status == 403
    assert len(directory.asked) == 2


def test_a_reload_asks_anew(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]})
    path = "/contoso/%s/_apis/pipelines" % ANALYTICS
    assert get(proxy, operator, path).status == 200
    proxy.reload()
    assert get(proxy, operator, path).status == 200 and len(directory.asked) == 2


def test_literal_names_ask_nobody(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]}, upstream={"names": "literal"})
    assert get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS).status == 403
    assert not directory.asked


def test_callers_decide_nothing_about_what_is_asked(start, operator, upstream, directory):
    """Values that could make another request of the question are never asked about."""
    proxy = start({"operations": ["git.repositories.create", "git.refs.list"], "projects": ["analytics"]})
    body = lambda id: json.dumps({"name": "x", "project": {"id": id}}).encode()
    for id in ("../../../_apis/projects/analytics", "a?b=c", "a#b", "..", "a/b", "a\\b", "x" * 400):
        answer = proxy.ask("POST", "/contoso/_apis/git/repositories?api-version=7.1", operator, JSON, body(id))
        assert answer.status in (400, 403), (id, answer.status)
    assert get(proxy, operator, "/fabrikam/%s/_apis/git/repositories/%s/refs" % (ANALYTICS, DAGS)).status == 403
    assert not directory.asked and not served(upstream)
    assert proxy.ask("POST", "/contoso/_apis/git/repositories?api-version=7.1", operator, JSON, body(ANALYTICS)).status == 200


def test_lookups_carry_the_lent_credential_and_nothing_of_the_caller(start, operator, upstream, directory):
    proxy = start({"access": ["read"], "projects": ["analytics"]})
    get(proxy, operator, "/contoso/%s/_apis/pipelines" % ANALYTICS)
    (asked,) = [r for r in upstream.received if is_lookup(r)]
    assert asked["Authorization"] == "Bearer " + proxy.upstream_token
    assert asked.method == "GET" and set(asked.names()) <= {"host", "authorization", "accept", "user-agent", "x-tfs-fedauthredirect"}
