"""Microsoft's own clients, unchanged: the Python SDK as Debian ships it, and azure-devops-node-api."""
import importlib
import json
import subprocess

import pytest

from kit import secrets
from kit.issuers import NODE, node_modules
from kit.waiting import seconds


@pytest.fixture
def sdk(monkeypatch, tmp_path_factory):
    """The SDK's package; its file cache goes to a folder of its own for each run."""
    monkeypatch.setenv("AZURE_DEVOPS_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "sdk-cache"))
    return importlib.import_module("azext_devops.devops_sdk.connection")


def client(connection, name, version="v6_0"):
    """By full name: Debian's factories name a package that it does not ship."""
    words = "".join(word.title() for word in name.split("_"))
    return connection.get_client("azext_devops.devops_sdk.%s.%s.%s_client.%sClient" % (version, name, name, words))


def models(name, version="v6_0"):
    return importlib.import_module("azext_devops.devops_sdk.%s.%s.models" % (version, name))


def connect(sdk, world, token):
    from msrest.authentication import BasicAuthentication
    secrets.basic("", token)
    return sdk.Connection(base_url=world.proxy.url + "/contoso", creds=BasicAuthentication("", token))


def operations(world):
    return [r["request"].get("operation") for r in world.records()]


def test_S1_get_projects_leaves_the_proxy_for_nothing(sdk, world):
    projects = client(connect(sdk, world, world.provider.token()), "core").get_projects()
    names = [p.name for p in getattr(projects, "value", projects)]
    assert "analytics" in names and "platform" in names
    seen = operations(world)
    assert seen[-1] == "core.projects.list" and "discovery.locations.listAll" in seen and "discovery.resourceAreas.list" in seen
    for record in world.records():
        assert record["decision"]["effect"] == "allow" and record["caller"]["subject"] == "airflow-worker"
    assert not any("resourceareas" in r["target"].lower() for r in world.emulator.requests()), "the proxy answers where services are"


def test_S2_run_pipeline(sdk, world, monkeypatch):
    monkeypatch.setenv("AZURE_HTTP_USER_AGENT", "airflow-dag/nightly-load")  # how a DAG can say who it is without code
    pipelines = client(connect(sdk, world, world.provider.token()), "pipelines")
    run = pipelines.run_pipeline(models("pipelines").RunPipelineParameters(), "analytics", 42)
    assert run.id
    posted = [r for r in world.emulator.requests() if r["method"] == "POST"]
    assert len(posted) == 1 and "api-version=" in {k.lower(): v for k, v in posted[0]["headers"].items()}["accept"]
    record = [r for r in world.records() if r["request"].get("operation") == "pipelines.runs.run"][-1]
    assert record["caller"]["subject"] == "airflow-worker" and record["upstream"]["status"] == 200
    assert "airflow-dag/nightly-load" in record["claimed"]["user_agent"] and record["decision"]["rule"].startswith("policy.yaml:")


def test_S3_queue_build_is_judged_by_its_body(sdk, world):
    from azext_devops.devops_sdk.exceptions import AzureDevOpsServiceError
    build, of = client(connect(sdk, world, world.provider.token()), "build"), models("build")
    queued = build.queue_build(of.Build(definition=of.DefinitionReference(id=42)), "analytics")
    assert queued.id
    with pytest.raises(AzureDevOpsServiceError) as refused:
        build.queue_build(of.Build(definition=of.DefinitionReference(id=99)), "analytics")
    assert "Dagward" in str(refused.value)
    assert len([r for r in world.emulator.requests() if r["method"] == "POST"]) == 1


def test_S4_the_exception_of_a_refusal_says_what_we_said(sdk, world):
    from azext_devops.devops_sdk.exceptions import AzureDevOpsServiceError
    reader = connect(sdk, world, world.provider.token("airflow-reader"))
    parameters = models("pipelines").RunPipelineParameters()
    with pytest.raises(AzureDevOpsServiceError) as refused:
        client(reader, "pipelines").run_pipeline(parameters, "analytics", 42)
    denied = [r for r in world.records() if r["response"]["status"] == 403]
    assert len(denied) == 1 and denied[0]["correlation_id"] in str(refused.value) and "Dagward" in str(refused.value)
    with pytest.raises(Exception) as unknown:
        client(connect(sdk, world, "not-a-token"), "core").get_projects()
    refusals = [r for r in world.records() if r["response"]["status"] == 401]
    assert refusals and any(r["correlation_id"] in str(unknown.value) for r in refusals)
    assert not [r for r in world.emulator.requests() if r["method"] == "POST"]


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
def test_the_node_client_lists_projects_and_runs_a_pipeline(world, scheme):
    node_modules()
    token = world.provider.token()
    secrets.basic("PAT", token)
    done = subprocess.run(["node", NODE / "client.mjs", world.proxy.url + "/contoso", scheme], input=token, capture_output=True, text=True, timeout=seconds(60))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert "analytics" in told["projects"] and told["run"] and "Dagward" in told["refused"]
    seen = operations(world)
    assert "core.projects.list" in seen and seen.count("pipelines.runs.run") == 2
