"""The whole program, tested from outside with clients and providers of others.

    /usr/bin/python3 -m pytest -q tests/integration

DAGWARD names the binary (default build/dagward); DAGWARD_INSPECTOR the one that looks at what each test leaves
(default the same; beside one with sanitizers a faster one); DAGWARD_SLOWNESS multiplies every deadline (default 1, and 4
for a binary with sanitizers).
"""
import datetime
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kit import waiting  # noqa: E402
from kit.certs import Authority  # noqa: E402
from kit.emulator import Emulator  # noqa: E402
from kit.issuers import Issuer, OidcProvider  # noqa: E402
from kit.policies import POLICY, policy_for  # noqa: E402
from kit.proxy import Proxy  # noqa: E402
from kit.upstreams import Upstream  # noqa: E402


def pytest_configure(config):
    if not waiting.BINARY.exists():
        pytest.exit("there is no binary %s: build it, or name another one in DAGWARD" % waiting.BINARY, returncode=2)


def pytest_collection_modifyitems(items):
    """What takes minutes begins first, so that with several processes nobody waits for it alone at the end."""
    items.sort(key=lambda item: item.path.name != "test_soak.py")


def pytest_report_header(config):
    return "dagward: %s, sanitizer %s, deadlines times %g" % (waiting.BINARY, waiting.sanitizer(), waiting.slowness())


@pytest.fixture(autouse=True)
def environment_of_nobody(monkeypatch, tmp_path):
    """Settings of whoever runs the tests must not reach clients: no proxy, no netrc, no git config, no trust."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("GIT_", "AZURE_", "IDENTITY_", "IMDS_", "SSL_CERT_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")


@pytest.fixture
def start_proxy(tmp_path):
    """Starts proxies for this test alone; at its end each must end well and leave whole evidence."""
    started = []

    def make(*arguments, **settings):
        proxy = Proxy(tmp_path / ("proxy%d" % len(started)), *arguments, **settings)
        started.append(proxy)
        return proxy

    def start(*arguments, ready=True, file_size=None, **settings):
        return make(*arguments, **settings).start(ready=ready, file_size=file_size)

    start.unstarted = make
    yield start
    try:
        for proxy in started:
            proxy.stop()
    finally:
        for proxy in started:
            proxy.kill()


@pytest.fixture(scope="session")
def issuer():
    """Mints tokens inside the test process."""
    issuer = Issuer()
    yield issuer
    issuer.down()


@pytest.fixture
def own_issuer():
    """The same for one test, which may rotate its keys or take it down."""
    issuer = Issuer()
    yield issuer
    issuer.down()


@pytest.fixture
def upstream():
    """An upstream that does what the test says, byte by byte."""
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def at():
    """Starts upstreams at addresses, all at one port."""
    started, port = [], waiting.free_port()

    def start(address, kind=None, **more):
        one = (kind or Upstream)(address=address, port=port, **more)
        started.append(one)
        return one

    start.port = port
    yield start
    for one in started:
        one.close()


@pytest.fixture
def proxy(start_proxy, issuer, upstream):
    """A proxy between `issuer` and `upstream`, under the policy of kit/policies.py."""
    return start_proxy([issuer.config()], POLICY, upstream.url)


@pytest.fixture
def operator(issuer):
    return issuer.mint("operator-1", roles=["operator"])


@pytest.fixture
def publisher(issuer):
    return issuer.mint("publisher-1", roles=["publisher"])


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki")


@pytest.fixture(scope="session")
def provider(tmp_path_factory):
    """A certified OpenID provider."""
    provider = OidcProvider(tmp_path_factory.mktemp("provider"))
    yield provider
    provider.stop()


class World:
    """Certified provider, proxy, Azure DevOps emulator: what the acceptance flows run on."""

    def __init__(self, folder, provider, issuer):
        self.provider, self.issuer = provider, issuer
        # No tags: they are put some time later, and would meet the faults of the next test.
        self.proxy = Proxy(folder / "proxy", [provider.config(), issuer.config()], policy_for("certified", "airflow"),
                           correlation={"tags": []})
        self.emulator = Emulator(folder / "emulator", self.proxy.upstream_token)
        self.proxy.config["upstream"]["throttle"] = "relay"  # what one test is told must not hold for the next
        self.proxy.config["upstream"]["hosts"] = {"*": self.emulator.url, "*.blob.core.windows.net": self.emulator.storage}
        self.proxy.start()

    def asked_for_callers(self):
        """How many requests the emulator received that were some caller's; the proxy asks what names are by itself."""
        return len([r for r in self.emulator.requests() if "(cid " in {k.lower(): v for k, v in r["headers"].items()}.get("user-agent", "")])

    def records(self):
        """Outcome records of this test, when all that went upstream is among them."""

        def look():
            found = [r for r in self.proxy.records("outcome") if r["time"] >= self.began]
            sent = sum(r["upstream"]["attempts"] for r in found if "upstream" in r)
            return (found,) if sent >= self.asked_for_callers() else None

        waiting.until(look, "an outcome for each request that the emulator received")
        time.sleep(waiting.seconds(0.06))  # refusals are written within 20 ms
        (found,) = look()
        sent = sum(r["upstream"]["attempts"] for r in found if "upstream" in r)
        assert sent == self.asked_for_callers(), "what arrived is not what the records say was sent"
        return found

    def stop(self):
        try:
            self.emulator.assert_clean()
            self.proxy.stop()
            self.emulator.stop()
        finally:
            self.proxy.kill()
            if self.emulator.process.poll() is None:
                self.emulator.process.kill()


@pytest.fixture(scope="module")
def _world(tmp_path_factory, provider, issuer):
    world = World(tmp_path_factory.mktemp("world"), provider, issuer)
    yield world
    world.stop()


@pytest.fixture
def world(_world):
    """The module's world, with nothing remembered of other tests."""
    _world.emulator.behave(signin=None)
    _world.emulator.forget()
    time.sleep(0.002)  # the times of records are whole milliseconds
    _world.began = datetime.datetime.utcnow().isoformat(timespec="milliseconds") + "Z"
    yield _world
    _world.emulator.assert_clean()
