"""The clients themselves, unchanged, each with the connections that it really makes: to the proxy, and to nobody else."""
import copy
import datetime
import hashlib
import json
import os
import subprocess

import pytest
import requests

from conftest import World
from kit import secrets
from kit.certs import Authority
from kit.emulator import Emulator
from kit.issuers import node_modules
from kit.policies import policy_for
from kit.proxy import Proxy
from kit.traced import Traced, may_trace
from kit.waiting import free_port, sanitizer, seconds

traced = pytest.mark.skipif(not may_trace(), reason="strace may not trace here")
minutes_of_az = pytest.mark.skipif(sanitizer() != "none", reason="minutes of az, for what other clients ask as well")

SERVICES = {"allow": [
    {"access": ["read"], "areas": ["build", "pipelines", "git", "release", "core", "artifacts", "wiki"], "projects": ["analytics"]},
    {"operations": ["discovery", "core.projects.list", "core.projects.get"]},
    {"operations": ["release.releases.create"], "projects": ["analytics"], "where": {"releaseDefinition": [5]}},
    {"operations": ["pipelines.runs.run", "build.builds.queue"], "projects": ["analytics"], "pipelines": ["nightly-load"]},
    {"operations": ["packages.fetch", "packages.publish"], "feeds": ["data"], "projects": ["analytics"]},
    {"operations": ["git.fetch", "git.push", "git.lfs.fetch", "git.lfs.push"], "repositories": ["analytics/dags"]},
    {"operations": ["wiki.pages.createOrUpdate"], "projects": ["analytics"]},
]}


class ServicesWorld(World):
    """The world for callers who may do a little of everything, with a TLS listener by Azure DevOps' names."""

    def __init__(self, folder, provider, issuer):
        self.provider, self.issuer = provider, issuer
        self.authority = Authority(folder / "certs")
        certificate, key = self.authority.issue("dev.azure.com", "vsrm.dev.azure.com", "feeds.dev.azure.com")
        self.tls_port = free_port()
        policy = copy.deepcopy(policy_for("certified", "airflow"))
        policy["roles"]["services"] = SERVICES
        policy["bindings"].append({"name": "services", "callers": {"issuer": "airflow", "claims": {"roles": "services"}}, "roles": ["services"], "credential": "etl"})
        self.proxy = Proxy(folder / "proxy", [provider.config(), issuer.config()], policy)
        self.proxy.config["listen"].append({"address": "127.0.0.1:%d" % self.tls_port, "tls": {"certificate": certificate, "key": key}})
        self.emulator = Emulator(folder / "emulator", self.proxy.upstream_token)
        self.proxy.config["upstream"]["hosts"] = {"*": self.emulator.url, "*.blob.core.windows.net": self.emulator.storage}
        self.proxy.start()

    def storage_requests(self):
        return [r for r in self.emulator.requests() if r["storage"]]


@pytest.fixture(scope="module")
def _services(tmp_path_factory, provider, issuer):
    world = ServicesWorld(tmp_path_factory.mktemp("services"), provider, issuer)
    yield world
    world.stop()


@pytest.fixture
def services(_services):
    _services.emulator.behave(signin=None)
    _services.emulator.forget()
    yield _services
    _services.emulator.assert_clean()


@pytest.fixture
def token(issuer):
    token = issuer.mint("data-engineer", roles=["services"])
    secrets.basic("", token)
    secrets.basic("airflow", token)
    return token


def environment(folder, **more):
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", **more}


# --- git and git-lfs ---

def git(folder, services, token, *arguments, cwd=None, ports=None):
    config = ["-c", "http.%s/.extraHeader=Authorization: Bearer %s" % (services.proxy.url, token), "-c", "user.name=T", "-c", "user.email=t@example.com"]
    done = Traced(["git", *config, *arguments], folder, cwd=cwd or folder, env=environment(folder))
    return done.only(*(ports or (services.proxy.port,)))


@traced
def test_git_goes_nowhere_else(services, token, tmp_path):
    url = services.proxy.url + "/contoso/analytics/_git/dags"
    git(tmp_path, services, token, "clone", "-q", url, "clone")
    (tmp_path / "clone" / "new.txt").write_text("new\n")
    local = lambda *a: subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.com", *a], cwd=tmp_path / "clone", check=True, env=environment(tmp_path))
    local("add", "new.txt")
    local("commit", "-q", "-m", "new")
    git(tmp_path, services, token, "push", "-q", "origin", "HEAD:refs/heads/clients/git", cwd=tmp_path / "clone")
    git(tmp_path, services, token, "fetch", "-q", "origin", cwd=tmp_path / "clone")


@traced
def test_G6_git_lfs_moves_objects_through_the_proxy_alone(services, token, tmp_path):
    """Links in batches name Azure DevOps; followed as they are, the caller's token would leave with them."""
    url = services.proxy.url + "/contoso/analytics/_git/dags"
    work, content = tmp_path / "work", os.urandom(700_000)
    git(tmp_path, services, token, "clone", "-q", url, "work")
    plain = lambda *a: subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.com", *a], cwd=work, check=True, capture_output=True, env=environment(tmp_path))
    plain("lfs", "install", "--local")
    plain("lfs", "track", "*.bin")
    (work / "model.bin").write_bytes(content)
    plain("add", ".")
    plain("commit", "-q", "-m", "a model")
    git(tmp_path, services, token, "push", "-q", "origin", "HEAD:refs/heads/clients/lfs", cwd=work)
    pointer = subprocess.run(["git", "show", "HEAD:model.bin"], cwd=work, capture_output=True, text=True).stdout
    assert hashlib.sha256(content).hexdigest() in pointer
    objects = [r for r in services.emulator.requests() if "/info/lfs/objects/" in r["target"] and r["method"] == "PUT"]
    assert len(objects) == 1
    git(tmp_path, services, token, "-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.smudge=git-lfs smudge -- %f", "-c", "filter.lfs.required=true",
        "clone", "-q", "-b", "clients/lfs", url, "again")
    assert (tmp_path / "again" / "model.bin").read_bytes() == content


# --- Python ---

REQUESTS = """
import sys, requests
base, token, what = sys.argv[1:]
answer = requests.get(base + what, auth=("airflow", token), timeout=30)
answer.raise_for_status()
assert not answer.history, answer.history
sys.stdout.write(str(len(answer.content)))
"""

AIOHTTP = """
import asyncio, sys, aiohttp
base, token, what = sys.argv[1:]
async def main():
    async with aiohttp.ClientSession() as session:
        async with session.get(base + what, auth=aiohttp.BasicAuth("airflow", token)) as answer:
            answer.raise_for_status()
            assert not answer.history, answer.history
            sys.stdout.write(str(len(await answer.read())))
asyncio.run(main())
"""


@traced
@pytest.mark.parametrize("script", [REQUESTS, AIOHTTP], ids=["requests", "aiohttp"])
def test_an_artifact_comes_from_storage_without_the_client_going_there(services, token, tmp_path, script):
    """H1's credential, a download that Azure DevOps redirects to a signed URL, and no second host for the client."""
    run = requests.post(services.proxy.url + "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1", json={}, auth=("airflow", token), timeout=seconds(10)).json()
    what = "/contoso/analytics/_apis/build/builds/%d/artifacts?artifactName=drop&api-version=7.1&$format=zip" % run["id"]
    got = Traced(["/usr/bin/python3", "-c", script, services.proxy.url, token, what], tmp_path, env=environment(tmp_path)).only(services.proxy.port)
    assert int(got) > 100_000
    (fetched,) = services.storage_requests()
    assert "authorization" not in {k.lower() for k in fetched["headers"]}
    record = services.proxy.outcomes(1, request_path="/contoso/analytics/_apis/build/builds/%d/artifacts" % run["id"])[0]
    assert "sig=" not in json.dumps(record) and record["response"]["bytes"] == int(got)


SDK = """
import sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from msrest.authentication import BasicAuthentication
from azext_devops.devops_sdk.connection import Connection
base, token = sys.argv[1:]
connection = Connection(base_url=base + "/contoso", creds=BasicAuthentication("", token))
client = lambda name: connection.get_client("azext_devops.devops_sdk.v6_0.%s.%s_client.%sClient" % (name, name, name.title().replace("_", "")))
plain = lambda found: getattr(found, "value", found)
from azext_devops.devops_sdk.v6_0.release.models import ReleaseStartMetadata
release = client("release").create_release(ReleaseStartMetadata(definition_id=5), "analytics")
for _ in range(4):
    state = client("release").get_release("analytics", release.id)
print(len(plain(client("core").get_projects())), release.name, state.environments[0].status, [f.name for f in plain(client("feed").get_feeds(project="analytics"))])
"""


@traced
def test_the_python_sdk_reaches_three_services_through_one_url(services, token, tmp_path):
    told = Traced(["/usr/bin/python3", "-c", SDK, services.proxy.url, token], tmp_path, env=environment(tmp_path)).only(services.proxy.port)
    assert told.split()[1].startswith("Release-") and "succeeded" in told and "data" in told, told


# --- Node ---

NODE = """
const azdev = require("azure-devops-node-api");
(async () => {
    const api = new azdev.WebApi(process.argv[2] + "/contoso", azdev.getPersonalAccessTokenHandler(process.argv[3]));
    const projects = await (await api.getCoreApi()).getProjects();
    const release = await (await api.getReleaseApi()).createRelease({definitionId: 5}, "analytics");
    console.log(projects.map(p => p.name).join(), release.name);
})().catch(e => { console.error(e); process.exit(1); });
"""


@traced
def test_the_node_client_goes_nowhere_else(services, token, tmp_path):
    script = tmp_path / "client.js"
    script.write_text(NODE)
    done = Traced(["node", str(script), services.proxy.url, token], tmp_path, env=environment(tmp_path, NODE_PATH=str(node_modules())))
    assert "analytics" in done.only(services.proxy.port)


@traced
@pytest.mark.parametrize("base", ["/contoso/analytics/_packaging/data/npm/registry/", "/~pkgs/contoso/analytics/_packaging/data/npm/registry/"])
def test_npm_publishes_and_installs(services, token, tmp_path, base):
    """Tarball links name pkgs.dev.azure.com, and redirect to storage: npm sees neither."""
    registry = services.proxy.url + base
    name = "@data/left-pad-%d" % len(base)
    folder = tmp_path / "package"
    folder.mkdir()
    (tmp_path / ".npmrc").write_text("registry=%s\n%s:_authToken=%s\naudit=false\nfund=false\nupdate-notifier=false\n" % (registry, registry.split(":", 1)[1], token))
    (folder / "package.json").write_text(json.dumps({"name": name, "version": "1.0.0"}))
    (folder / "index.js").write_text("module.exports = 41 + 1;\n" + "// %s\n" % ("x" * 50000))
    npm = lambda *a, cwd: Traced(["npm", *a], tmp_path, cwd=cwd, env=environment(tmp_path, npm_config_cache=str(cwd / "cache"))).only(services.proxy.port)
    npm("publish", cwd=folder)
    user = tmp_path / "user"
    user.mkdir()
    (user / "package.json").write_text("{}")
    npm("install", name, cwd=user)
    assert "41 + 1" in (user / "node_modules" / name / "index.js").read_text()
    assert len(services.storage_requests()) == 1
    lock = (user / "package-lock.json").read_text()
    assert "pkgs.dev.azure.com" not in lock and "blob.core" not in lock
    other = requests.get(services.proxy.url + "/contoso/_packaging/shared/npm/registry/x", headers={"Authorization": "Bearer " + token}, timeout=seconds(10))
    assert other.status_code == 403, "another feed"


# --- az ---

SITE = """
import os, socket
_names, _port, _real = os.environ["TEST_NAMES"].split(","), int(os.environ["TEST_PORT"]), socket.getaddrinfo
def _look_up(host, port, *arguments, **more):
    return _real("127.0.0.1", _port, *arguments, **more) if host in _names else _real(host, port, *arguments, **more)
socket.getaddrinfo = _look_up
"""


def az(services, token, folder, organization, *arguments, port=None):
    """`AZURE_DEVOPS_EXT_PAT` is where az looks for a token. No telemetry, and no look for a newer az at its first run: they go
    to Microsoft, whichever URL is meant, and carry no credential."""
    from azure.cli.core import __version__ as version
    (folder / ".azure").mkdir(exist_ok=True)
    (folder / ".azure" / "versionCheck.json").write_text(json.dumps({"versions": {"azure-cli": {"local": version}, "core": {"local": version}},
                                                                     "update_time": str(datetime.datetime.now())}))
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)  # what DNS says, for this process
    env = environment(folder, AZURE_DEVOPS_EXT_PAT=token, AZURE_CORE_COLLECT_TELEMETRY="no", PYTHONPATH=str(site), REQUESTS_CA_BUNDLE=str(services.authority.file),
                      TEST_NAMES="dev.azure.com,vsrm.dev.azure.com", TEST_PORT=str(services.tls_port), AZURE_DEVOPS_CACHE_DIR=str(folder / "cache"))
    done = Traced(["az", *arguments, "--org", organization, "-o", "json"], folder, env=env)
    return json.loads(done.only(port or services.proxy.port))


@minutes_of_az
@traced
def test_az_by_the_proxys_url(services, token, tmp_path):
    url = services.proxy.url + "/contoso"
    assert "analytics" in [p["name"] for p in az(services, token, tmp_path, url, "devops", "project", "list")["value"]]
    run = az(services, token, tmp_path, url, "pipelines", "run", "--id", "42", "-p", "analytics")
    assert run["definition"]["id"] == 42 or run["pipeline"]["id"] == 42
    assert az(services, token, tmp_path, url, "repos", "list", "-p", "analytics")[0]["name"] == "dags"


@minutes_of_az
@traced
def test_az_by_host_override(services, token, tmp_path):
    """dev.azure.com leads to the proxy, whose certificate names it: az is not told anything else."""
    url = "https://dev.azure.com/contoso"
    assert "analytics" in [p["name"] for p in az(services, token, tmp_path, url, "devops", "project", "list", port=services.tls_port)["value"]]
    runs = az(services, token, tmp_path, url, "pipelines", "runs", "list", "-p", "analytics", port=services.tls_port)
    assert isinstance(runs, list)
    release = az(services, token, tmp_path, url, "pipelines", "release", "list", "-p", "analytics", port=services.tls_port)
    assert isinstance(release, list)


# --- what the roles of this world may not ---

def test_the_role_that_releases_does_not_approve(services, token):
    ask = lambda method, path, **more: requests.request(method, services.proxy.url + path, auth=("airflow", token), timeout=seconds(10), **more)
    base = "/contoso/analytics/_apis/release/"
    release = ask("POST", base + "releases?api-version=7.1", json={"definitionId": 5}).json()
    [ask("GET", base + "releases/%d?api-version=7.1" % release["id"]) for _ in range(3)]
    waiting = ask("GET", base + "approvals?api-version=7.1").json()["value"]
    assert release["id"] in [w["release"]["id"] for w in waiting]
    assert ask("PATCH", base + "approvals/%d?api-version=7.1" % release["id"], json={"status": "approved"}).status_code == 403
    assert ask("POST", base + "releases?api-version=7.1", json={"definitionId": 6}).status_code == 403
    assert ask("POST", "/contoso/platform/_apis/release/releases?api-version=7.1", json={"definitionId": 5}).status_code == 403


def test_pages_keep_their_etag(services, token):
    ask = lambda method, **more: requests.request(method, services.proxy.url + "/contoso/analytics/_apis/wiki/wikis/w/pages?path=/runs&api-version=7.1",
                                                  auth=("airflow", token), timeout=seconds(10), **more)
    made = ask("PUT", json={"content": "first https://dev.azure.com/contoso/analytics"})
    assert made.status_code == 201, made.text
    assert ask("PUT", json={"content": "again"}).status_code == 412
    assert ask("PUT", json={"content": "second"}, headers={"If-Match": made.headers["ETag"]}).status_code == 200
    assert ask("GET").json()["content"] == "second"


def test_a_log_is_followed_while_it_grows(services, token):
    ask = lambda path: requests.get(services.proxy.url + "/contoso/analytics/_apis/" + path, auth=("airflow", token), timeout=seconds(10))
    run = requests.post(services.proxy.url + "/contoso/analytics/_apis/build/builds?api-version=7.1", json={"definition": {"id": 42}}, auth=("airflow", token), timeout=seconds(10)).json()
    seen, sizes = 1, []
    for _ in range(6):
        part = ask("build/builds/%d/logs/1?startLine=%d" % (run["id"], seen)).text
        sizes.append(part.count("\n"))
        seen += sizes[-1]
        if ask("build/builds/%d" % run["id"]).json()["status"] == "completed" and not sizes[-1]:
            break
    assert len([s for s in sizes if s]) >= 2 and seen == 17, sizes
    assert ask("build/builds/%d/timeline" % run["id"]).json()["records"][0]["state"] == "completed"


def test_a_request_that_was_held_back_is_answered_all_the_same(services, token):
    services.emulator.behave(delay_ms=300, retry_after=1, match="/_apis/projects")
    answer = requests.get(services.proxy.url + "/contoso/_apis/projects?api-version=7.1", auth=("airflow", token), timeout=seconds(10))
    assert answer.status_code == 200 and answer.headers["Retry-After"] == "1" and answer.headers["X-RateLimit-Delay"] == "0.300"
