"""Host override: the names of Azure DevOps lead to the proxy, and nothing else in a client is changed."""
import importlib
import socket

import pytest
import requests

from conftest import World
from kit import secrets
from kit.certs import Authority
from kit.emulator import Emulator
from kit.policies import policy_for
from kit.proxy import Proxy
from kit.waiting import free_port, seconds
from test_flows_git import Git, bearer, head_of

NAMES = ("dev.azure.com", "vsrm.dev.azure.com", "contoso.visualstudio.com")


class OverriddenWorld(World):
    """The same world, with a TLS listener whose certificate names Azure DevOps' own hosts."""

    def __init__(self, folder, provider, issuer):
        self.provider, self.issuer = provider, issuer
        self.authority = Authority(folder / "certs")
        certificate, key = self.authority.issue(*NAMES)
        self.tls_port = free_port()
        self.proxy = Proxy(folder / "proxy", [provider.config(), issuer.config()], policy_for("certified", "airflow"))
        self.proxy.config["listen"].append({"address": "127.0.0.1:%d" % self.tls_port, "tls": {"certificate": certificate, "key": key}})
        self.emulator = Emulator(folder / "emulator", self.proxy.upstream_token)
        self.proxy.config["upstream"]["hosts"] = {"*": self.emulator.url, "*.blob.core.windows.net": self.emulator.storage}
        self.proxy.start()


@pytest.fixture(scope="module")
def _overridden(tmp_path_factory, provider, issuer):
    world = OverriddenWorld(tmp_path_factory.mktemp("overridden"), provider, issuer)
    yield world
    world.stop()


@pytest.fixture
def overridden(_overridden):
    _overridden.emulator.forget()
    yield _overridden
    _overridden.emulator.assert_clean()


@pytest.fixture
def dns(monkeypatch, overridden):
    """What DNS would say; a client that looks up or connects to anything else fails the test."""
    astray, real = [], socket.getaddrinfo

    def look_up(host, port, *arguments, **more):
        if host in NAMES:
            return real("127.0.0.1", overridden.tls_port, *arguments, **more)
        if host not in ("127.0.0.1", "localhost"):
            astray.append(host)
            raise socket.gaierror("astray: %s" % host)
        return real(host, port, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(overridden.authority.file))
    yield
    assert astray == []


@pytest.fixture
def git(tmp_path):
    (tmp_path / "work").mkdir()
    return Git(tmp_path / "work")


def resolve(world):
    """git's own way to be told an address; curl's HTTPS port is part of the name there."""
    options = ["-c", "http.sslCAInfo=%s" % world.authority.file]
    for name in NAMES:
        options += ["-c", "http.curloptResolve=%s:%d:127.0.0.1" % (name, world.tls_port)]
    return options


@pytest.mark.parametrize("url", ["https://contoso@dev.azure.com:%d/contoso/analytics/_git/dags", "https://contoso.visualstudio.com:%d/analytics/_git/dags",
                                 "https://contoso.visualstudio.com:%d/DefaultCollection/analytics/_git/dags"])
def test_L2_git_clones_by_the_names_of_azure_devops(overridden, git, url):
    git(*resolve(overridden), *bearer(overridden.provider.token()), "clone", url % overridden.tls_port, "clone")
    assert git("rev-parse", "HEAD", cwd=git.folder / "clone") == head_of(overridden)


def test_L2_the_SDK_works_with_dev_azure_com(overridden, dns, monkeypatch, tmp_path):
    from msrest.authentication import BasicAuthentication
    monkeypatch.setenv("AZURE_DEVOPS_CACHE_DIR", str(tmp_path / "cache"))
    sdk = importlib.import_module("azext_devops.devops_sdk.connection")
    token = overridden.provider.token()
    secrets.basic("", token)
    connection = sdk.Connection(base_url="https://dev.azure.com/contoso", creds=BasicAuthentication("", token))
    core = connection.get_client("azext_devops.devops_sdk.v6_0.core.core_client.CoreClient")
    projects = core.get_projects()
    assert "analytics" in [p.name for p in getattr(projects, "value", projects)]


def test_L2_links_keep_the_names_that_the_client_uses(overridden, dns):
    for base in ("https://dev.azure.com/contoso", "https://contoso.visualstudio.com"):
        answer = requests.get(base + "/_apis/projects?api-version=7.1", auth=("airflow", overridden.provider.token()), timeout=seconds(10))
        assert answer.status_code == 200
        assert "127.0.0.1" not in answer.text and str(overridden.emulator.url) not in answer.text
        for project in answer.json()["value"]:
            assert project["url"].startswith("https://dev.azure.com/contoso/_apis/projects/") or project["url"].startswith(base)


def test_G5_a_submodule_with_an_absolute_URL_comes_through_the_proxy(overridden, git, issuer):
    publisher = bearer(issuer.mint("publisher-1", roles=["publisher"]))
    base = overridden.proxy.url
    git(*publisher, "clone", base + "/contoso/analytics/_git/dags", "super")
    top = git.folder / "super"
    (top / ".gitmodules").write_text('[submodule "lib"]\n\tpath = lib\n\turl = https://contoso@dev.azure.com/contoso/analytics/_git/dags\n')
    git("update-index", "--add", "--cacheinfo", "160000,%s,lib" % head_of(overridden), cwd=top)
    git("add", ".gitmodules", cwd=top)
    git("commit", "-q", "-m", "a submodule", cwd=top)
    git(*publisher, "push", "-q", "origin", "HEAD:refs/heads/with-submodule", cwd=top)
    instead = ["-c", "url.%s/.insteadOf=https://contoso@dev.azure.com/" % base, "-c", "url.%s/.insteadOf=https://dev.azure.com/" % base]
    git(*publisher, *instead, "clone", "-q", "--recurse-submodules", "-b", "with-submodule", "https://dev.azure.com/contoso/analytics/_git/dags", "whole")
    assert (git.folder / "whole" / "lib" / ".git").exists()
    assert git("rev-parse", "HEAD", cwd=git.folder / "whole" / "lib") == head_of(overridden)
