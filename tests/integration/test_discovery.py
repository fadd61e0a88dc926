"""Where services are: one URL for all of them, or one for each; never one that leaves the proxy."""
import copy
import importlib
import json
import shutil
import subprocess

import pytest

from kit import secrets
from kit.issuers import node_modules
from kit.policies import POLICY
from kit.upstreams import Upstream, message
from kit.waiting import seconds
from test_flows_sdk import client, sdk  # noqa: F401

RELEASES = {"id": "a166fde7-27ad-408e-ba75-703c2cc9d500", "area": "Release", "resourceName": "releases",
            "routeTemplate": "{project}/_apis/{area}/{resource}/{releaseId}", "resourceVersion": 8,
            "minVersion": "1.0", "maxVersion": "7.2", "releasedVersion": "7.1"}
AREAS = {**RELEASES, "id": "e81700f7-3be2-46de-8624-2eb35882fcaa", "area": "Location", "resourceName": "ResourceAreas",
         "routeTemplate": "_apis/{resource}/{areaId}", "resourceVersion": 1, "releasedVersion": "0.0"}
ANSWER = {"count": 1, "value": [{"id": 7, "name": "Release-7", "status": "active"}]}


@pytest.fixture
def vsrm():
    """The host of classic releases, and of nothing else."""

    def answer(_, request):
        if request.method == "OPTIONS":
            return message(200, json.dumps({"count": 1, "value": [RELEASES]}))
        found = "/release/releases" in request.target.lower()
        return message(200 if found else 404, json.dumps(ANSWER if found else {"message": "VS800075"}))

    upstream = Upstream()
    upstream.always = answer
    yield upstream
    upstream.close()


@pytest.fixture
def start(start_proxy, issuer, upstream, vsrm):
    def start(discovery, **settings):
        upstream.always = lambda _, r: message(200, json.dumps({"count": 1, "value": [AREAS]})) if r.method == "OPTIONS" else Upstream.standard(_, r)
        policy = copy.deepcopy(POLICY)
        policy["roles"]["operator"]["allow"].append({"access": ["read"], "areas": ["release"], "projects": ["analytics"]})
        hosts = {"hosts": {"vsrm.dev.azure.com": vsrm.url, "*": upstream.url}, "discovery": discovery}
        return start_proxy([issuer.config()], policy, hosts, **settings)

    return start


@pytest.mark.parametrize("discovery", ["single", "mirror"])
def test_the_python_sdk_finds_a_sibling_service(start, sdk, operator, upstream, vsrm, discovery):  # noqa: F811
    from msrest.authentication import BasicAuthentication
    proxy = start(discovery)
    secrets.basic("", operator)
    connection = sdk.Connection(base_url=proxy.url + "/contoso", creds=BasicAuthentication("", operator))
    found = client(connection, "release").get_releases(project="analytics")
    assert [r.name for r in getattr(found, "value", found)] == ["Release-7"]
    assert [r.target.split("?")[0].lower() for r in vsrm.received if r.method == "GET"] == ["/contoso/analytics/_apis/release/releases"]
    asked = [r.target for r in vsrm.received + upstream.received if r.method == "OPTIONS"]
    assert len(asked) == {"single": 0, "mirror": 2}[discovery], asked
    assert not any("resourceareas" in r.target.lower() for r in upstream.received)
    proxy.outcomes(1, request_operation="release.releases.list")


@pytest.mark.parametrize("discovery", ["single", "mirror"])
def test_the_node_client_finds_a_sibling_service(start, operator, upstream, vsrm, discovery, tmp_path):
    proxy = start(discovery)
    script = tmp_path / "releases.js"
    script.write_text("""
const azdev = require("azure-devops-node-api");
(async () => {
    const api = new azdev.WebApi(process.argv[2], azdev.getBearerHandler(process.argv[3]));
    const releases = await (await api.getReleaseApi()).getReleases("analytics");
    console.log(JSON.stringify(releases.map(r => r.name)));
})().catch(e => { console.error(e); process.exit(1); });
""")
    told = subprocess.run([shutil.which("node"), script, proxy.url + "/contoso", operator], capture_output=True, text=True, timeout=seconds(60),
                          env={"NODE_PATH": str(node_modules()), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    assert told.returncode == 0, told.stderr[-2000:]
    assert json.loads(told.stdout) == ["Release-7"]
    assert len([r for r in vsrm.received if r.method == "GET"]) == 1


def test_one_base_lists_all_locations_whatever_the_size(start, operator, upstream):
    proxy = start("single")
    whole = proxy.ask("OPTIONS", "/contoso/_apis", operator)
    listed = json.loads(whole.body)
    assert whole.status == 200 and listed["count"] == len(listed["value"]) > 400 and len(whole.body) > 100000
    area = json.loads(proxy.ask("OPTIONS", "/contoso/_apis/release", operator).body)
    assert 0 < area["count"] < 100 and {v["area"].lower() for v in area["value"]} == {"release"}
    own = json.loads(proxy.ask("OPTIONS", "/~vsrm/contoso/_apis", operator).body)
    assert area["count"] <= own["count"] < 100
    assert json.loads(proxy.ask("OPTIONS", "/contoso/_apis/nothing", operator).body) == {"count": 0, "value": []}
    assert not upstream.received
    assert proxy.outcome(whole)["response"]["bytes"] == len(whole.body)


def test_a_client_that_reads_slowly_gets_all_of_it(start, operator):
    import socket
    import time
    proxy = start("single")
    s = socket.create_connection(("127.0.0.1", proxy.port))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    request = "OPTIONS /contoso/_apis HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % operator
    s.sendall((request * 2).encode())
    s.settimeout(seconds(20))
    got = b""
    while got.count(b"HTTP/1.1 200") < 2 or not got.endswith(b"]}"):
        time.sleep(0.001)
        part = s.recv(8192)
        assert part, len(got)
        got += part
    first, second = got.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert json.loads(first.split(b"\r\n\r\n", 1)[1]) == json.loads(second.split(b"\r\n\r\n", 1)[1])
    # One who leaves in the middle harms nobody.
    s.sendall(request.encode())
    s.recv(100)
    s.close()
    assert proxy.ask("GET", "/", operator).status == 200


@pytest.mark.parametrize("discovery", ["single", "mirror"])
def test_areas_never_lead_off_the_proxy(start, operator, upstream, discovery):
    proxy = start(discovery)
    areas = json.loads(proxy.ask("GET", "/contoso/_apis/ResourceAreas", operator).body)
    if discovery == "single":
        assert areas == {"count": 0, "value": None}
    else:
        urls = {a["name"]: a["locationUrl"] for a in areas["value"]}
        assert areas["count"] >= 45 and all(u.startswith("http://dagward.test/") for u in urls.values()), urls
        assert "http://dagward.test/~vsrm/contoso/" in urls.values() and "http://dagward.test/~app/" in urls.values()
    # The area of accounts, which the Python SDK would look for at a host of Microsoft's.
    one = json.loads(proxy.ask("GET", "/contoso/_apis/ResourceAreas/0d55247a-1c47-4462-9b1f-5e2125590ee6", operator).body)
    assert one["locationUrl"] == "http://dagward.test" + {"single": "/contoso/", "mirror": "/~app/"}[discovery]
    assert proxy.ask("GET", "/contoso/_apis/ResourceAreas/00000000-0000-0000-0000-000000000000", operator).body == b"null"
    assert not upstream.received


def test_who_may_not_ask_is_not_told(start, issuer, upstream):
    proxy = start("single")
    nobody = issuer.mint("nobody-1", roles=["none"])
    assert proxy.ask("OPTIONS", "/contoso/_apis", nobody).status == 403
    assert proxy.ask("OPTIONS", "/contoso/_apis").status == 401


def test_a_path_without_a_service_is_judged_as_the_service_that_has_it(start, operator, upstream, vsrm):
    proxy = start("single")
    path = "/contoso/analytics/_apis/release/releases/7?api-version=7.1"
    assert proxy.ask("GET", path, operator).status == 200
    assert proxy.ask("GET", "/~vsrm" + path, operator).status == 200
    assert proxy.ask("GET", "/~dev" + path, operator).status == 403, "there is no such route"
    assert proxy.ask("GET", path.replace("analytics", "payroll"), operator).status == 403
    assert proxy.ask("POST", path, operator, [("Content-Type", "application/json")], b"{}").status == 403
    assert len(vsrm.received) == 2 and not upstream.received
