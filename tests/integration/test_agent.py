"""`dagward agent` and `dagward git-credential`: clients that hold no credential at all."""
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
import requests

from kit import secrets, wire
from kit.certs import Authority
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.traced import Traced, may_trace
from kit.upstreams import Hole, cut_after
from kit.waiting import BINARY, free_port, lasting, sanitizer, seconds, until
from test_flows_git import Git, head_of
from test_flows_sdk import client, sdk  # noqa: F401


class Agent:
    def __init__(self, folder, proxy_url, token, **settings):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.token_file = folder / "token"
        if token:
            self.token_file.write_text(token + "\n")
        self.config = {"listen": "127.0.0.1:%d" % self.port, "proxy": proxy_url, "token_file": "token", **settings}
        (folder / "agent.yaml").write_text(json.dumps(self.config))
        self.log = folder / "agent.log"
        self.process = subprocess.Popen([BINARY, "agent", "--config", folder / "agent.yaml"], stdin=subprocess.DEVNULL,
                                        stderr=open(self.log, "wb"), env=lasting())
        until(lambda: self.answers(), lambda: self.log.read_text())

    def answers(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def rotate(self, token):
        """As Kubernetes does: another file under the same name."""
        (self.folder / "fresh").write_text(token)
        os.replace(self.folder / "fresh", self.token_file)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=seconds(20)) == 0, self.log.read_text()
        secrets.assert_no_leak(self.log.read_bytes(), "the agent's log")


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*arguments, **settings):
        started.append(Agent(tmp_path / ("agent%d" % len(started)), *arguments, **settings))
        return started[-1]

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.stop()


@pytest.fixture
def agent(start, world):
    return start(world.proxy.url, world.provider.token())


@pytest.fixture
def git(tmp_path):
    (tmp_path / "work").mkdir()
    return Git(tmp_path / "work")


RUNS = "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"


def test_L1_H1_a_hook_without_a_credential(world, agent):
    for auth in (None, ("", ""), ("airflow", "")):  # what a connection without password makes of it
        answer = requests.post(agent.url + RUNS, json={}, auth=auth, timeout=seconds(10))
        assert answer.status_code == 200, answer.text
        # Links lead back to the agent, and so does what follows them.
        assert answer.json()["url"].startswith(agent.url + "/contoso/")
        assert requests.get(answer.json()["url"], timeout=seconds(10)).status_code == 200
    assert {r["caller"]["subject"] for r in world.records()} == {"airflow-worker"}


def test_L1_S1_the_sdk_without_a_credential(world, agent, sdk):  # noqa: F811
    from msrest.authentication import BasicAuthentication
    connection = sdk.Connection(base_url=agent.url + "/contoso", creds=BasicAuthentication("", ""))
    projects = client(connection, "core").get_projects()
    assert "analytics" in [p.name for p in getattr(projects, "value", projects)]


def test_L1_G1_git_without_a_credential(world, agent, git, start, issuer):
    git("clone", "-q", agent.url + "/contoso/analytics/_git/dags", "clone")
    assert git("rev-parse", "HEAD", cwd=git.folder / "clone") == head_of(world)
    publisher = start(world.proxy.url, issuer.mint("publisher-1", roles=["publisher"]))
    here = git.folder / "clone"
    (here / "large.bin").write_bytes(os.urandom(3 << 20))
    git("add", ".", cwd=here)
    git("commit", "-q", "-m", "large", cwd=here)
    refused = git.try_("push", agent.url + "/contoso/analytics/_git/dags", "HEAD:refs/heads/agent", cwd=here)
    assert refused.returncode != 0 and "Dagward" in refused.stderr, refused.stderr
    git("push", "-q", publisher.url + "/contoso/analytics/_git/dags", "HEAD:refs/heads/agent", cwd=here)
    git("push", "-q", publisher.url + "/contoso/analytics/_git/dags", ":refs/heads/agent", cwd=here)


@pytest.mark.skipif(not may_trace(), reason="strace may not trace here")
def test_the_client_speaks_to_the_agent_alone(world, agent, tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "GIT_TERMINAL_PROMPT": "0"}
    Traced(["git", "clone", "-q", agent.url + "/contoso/analytics/_git/dags", str(tmp_path / "traced")], tmp_path, env=environment).only(agent.port)


def test_a_rotated_token_serves_the_next_request(world, agent, issuer):
    assert requests.get(agent.url + "/contoso/_apis/projects", timeout=seconds(10)).status_code == 200
    agent.rotate(issuer.mint("other-1", roles=["reader"]))
    assert requests.post(agent.url + RUNS, json={}, timeout=seconds(10)).status_code == 403
    agent.token_file.unlink()
    gone = requests.get(agent.url + "/contoso/_apis/projects", timeout=seconds(10))
    assert gone.status_code == 503 and "no token" in gone.json()["message"]
    agent.rotate("not a token\nat all")
    assert requests.get(agent.url + "/contoso/_apis/projects", timeout=seconds(10)).status_code == 503
    agent.rotate(world.provider.token())
    assert requests.get(agent.url + "/contoso/_apis/projects", timeout=seconds(10)).status_code == 200


def test_what_the_client_brings_is_no_credential(world, agent):
    fields = {"Authorization": "Bearer of-somebody-else", "X-Dagward-Token": "of-somebody-else", "Cookie": "a=b", "X-Dagward-Agent": "0", "Connection": "X-Secret", "X-Secret": "1"}
    answer = requests.get(agent.url + "/", headers=fields, timeout=seconds(10))
    assert answer.status_code == 200 and answer.json()["subject"] == "airflow-worker", answer.text


def test_what_says_where_a_request_ends_goes_on(world, agent):
    body = b'{"resources": {}}'
    answer = requests.post(agent.url + RUNS, data=body, headers={"Content-Type": "application/json", "Connection": "Content-Length, Host"}, timeout=seconds(10))
    assert answer.status_code == 200, answer.text
    assert world.records()[-1]["request"]["bytes"] == len(body)


@pytest.mark.parametrize("fields", [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}, {"Host": "localhost.evil.example:8021"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
                                    {"Sec-Fetch-Site": "cross-site"}])
def test_a_web_page_gets_nothing(world, agent, fields):
    before = len(world.records())
    answer = requests.get(agent.url + "/contoso/_apis/projects", headers=fields, timeout=seconds(10))
    assert answer.status_code == 403 and len(world.records()) == before


def test_an_old_client_gets_what_it_understands(world, agent):
    s = socket.create_connection(("127.0.0.1", agent.port))
    s.sendall(b"GET /contoso/_apis/projects HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    s.settimeout(seconds(10))
    got = b""
    while part := s.recv(65536):
        got += part
    head, body = got.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200") and b"chunked" not in head.lower() and json.loads(body)["count"] == 2


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_an_answer_that_was_cut_off_does_not_look_whole(start, start_proxy, issuer, upstream, authority, operator, tls):
    """What HTTP/1.0 is told ends with the connection: whoever sees an orderly end takes the part for the whole."""
    port = free_port()
    certificate, key = authority.issue("localhost")
    listener = {"address": "127.0.0.1:%d" % port, **({"tls": {"certificate": certificate, "key": key}} if tls else {})}
    start_proxy([issuer.config()], POLICY, upstream.url, listen=[listener])
    agent = start("https://localhost:%d" % port if tls else "http://127.0.0.1:%d" % port, operator, **({"ca": str(authority.file)} if tls else {}))

    def whole():
        with wire.Client(agent.port) as client:
            client.send("GET /contoso/analytics/_apis/pipelines HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return client.answer().text

    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    upstream.tell(head + b"0\r\n\r\n")
    assert whole() == "first"
    upstream.tell(cut_after(head))
    with pytest.raises(wire.Reset):
        whole()


class Amid:
    """A proxy that has the head of a request, and says what the test says."""

    def __init__(self, context=None, address="127.0.0.1", port=0):
        self.context, self.listener = context, socket.create_server((address, port))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def take(self):
        self.listener.settimeout(seconds(20))
        sock, _ = self.listener.accept()
        if self.context:
            sock = self.context.wrap_socket(sock, server_side=True)
        sock.settimeout(seconds(20))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(65536)
        return sock, head


HALF = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_ends_amid_an_answer_does_not_make_it_look_whole(start, number):
    with Amid() as proxy:
        agent = start("http://127.0.0.1:%d" % proxy.port, secrets.caller("aaa.bbb.ccc"))
        with wire.Client(agent.port, timeout=seconds(30)) as client:
            client.send("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            there, _ = proxy.take()
            there.sendall(HALF)
            got = client.sock.recv(1000)
            agent.process.send_signal(number)
            with pytest.raises(ConnectionResetError):
                while part := client.sock.recv(1000):
                    got += part
            assert got == HALF and agent.process.wait(timeout=seconds(20)) in (0, -number)


def test_an_address_of_the_proxy_that_says_nothing_is_not_the_only_one(start, authority, tmp_path, monkeypatch):
    if sanitizer() != "none":
        pytest.skip("a sanitizer's runtime must be the first library: no resolver can be preloaded")
    (tmp_path / "hosts").write_text("dagward.test 127.0.0.2 127.0.0.1\n")
    with Amid(authority.server("dagward.test")) as proxy:
        hole = Hole("127.0.0.2", proxy.port)
        with monkeypatch.context() as environment:
            environment.setenv("LD_PRELOAD", str(BINARY.parent / "libdagward_resolver.so"))
            environment.setenv("DAGWARD_HOSTS_FILE", str(tmp_path / "hosts"))
            agent = start("https://dagward.test:%d" % proxy.port, secrets.caller("aaa.bbb.ccc"), ca=str(authority.file))
        with wire.Client(agent.port, timeout=seconds(30)) as client:
            client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            there, head = proxy.take()
            assert b"Authorization: Bearer aaa.bbb.ccc" in head
            there.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            there.unwrap()
            assert client.answer().status == 204
        hole.close()


def test_askpass_is_there_when_it_is_wanted(world, start, git):
    token = world.provider.token()
    secrets.basic("airflow", token)
    silent = start(world.proxy.url, token)
    assert "password" not in requests.get(silent.url + "/askpass", timeout=seconds(10)).text
    agent = start(world.proxy.url, token, askpass=True, user="sync")
    began = time.monotonic()
    told = requests.get(agent.url + "/askpass", timeout=seconds(10))
    assert time.monotonic() - began < seconds(1)
    assert told.text == "username=sync\npassword=%s\n" % token and told.headers["Cache-Control"] == "no-store"
    assert requests.get(agent.url + "/askpass", headers={"Origin": "null"}, timeout=seconds(10)).status_code == 403


def test_a_unix_socket_is_for_its_user_alone(world, start, tmp_path):
    agent = start(world.proxy.url, world.provider.token(), socket="agent.sock")
    path = agent.folder / "agent.sock"
    until(path.exists, lambda: agent.log.read_text())  # it listens at its port before
    assert path.stat().st_mode & 0o777 == 0o600
    told = subprocess.run(["curl", "-sS", "--unix-socket", path, "http://localhost/contoso/_apis/projects"], capture_output=True, text=True, timeout=seconds(20))
    assert told.returncode == 0 and "analytics" in told.stdout, told.stderr
    agent.stop()
    assert not path.exists()


def test_two_agents_do_not_share_a_socket(tmp_path):
    """The second one neither takes it, nor does the end of one that is gone take it from its successor."""
    (tmp_path / "token").write_text("aaa.bbb.ccc")
    (tmp_path / "agent.yaml").write_text(json.dumps({"socket": "agent.sock", "proxy": "http://127.0.0.1:1", "token_file": "token"}))
    path = tmp_path / "agent.sock"
    command, quiet = [BINARY, "agent", "--config", tmp_path / "agent.yaml"], {"stderr": subprocess.PIPE, "text": True}

    def serves():
        told = subprocess.run(["curl", "-sS", "--unix-socket", path, "http://localhost/"], capture_output=True, text=True, timeout=seconds(20))
        return "The agent cannot reach the proxy" in told.stdout

    first = subprocess.Popen(command, **quiet)
    running = [first]
    try:
        until(serves, "the first one serves")
        second = subprocess.run(command, **quiet, timeout=seconds(20))
        assert second.returncode == 2 and "Address already in use" in second.stderr and serves()
        os.unlink(path)  # as somebody did who thought that it was left over
        running.append(subprocess.Popen(command, **quiet))
        until(serves, "the next one serves")
        first.terminate()
        assert first.wait(timeout=seconds(20)) == 0 and serves()
        running[1].kill()
        running[1].wait()
        assert path.exists() and not serves()
        running.append(subprocess.Popen(command, **quiet))
        until(serves, "what a dead one left is in nobody's way")
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stderr.close()


def test_large_bodies_and_many_clients_at_once(world, agent):
    size = 20 << 20
    got = requests.get(agent.url + "/contoso/analytics/_apis/build/builds/1001/logs/1?bytes=%d" % size, timeout=seconds(60))
    assert got.status_code == 200 and len(got.content) == size
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(requests.get(agent.url + "/contoso/_apis/projects", timeout=seconds(30)).status_code)) for _ in range(40)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert answers == [200] * 40


def test_to_a_proxy_by_TLS(world, start, start_proxy, issuer, authority):
    from kit.policies import POLICY
    certificate, key = authority.issue("localhost")
    port = free_port()
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": world.emulator.url}}, listen=[{"address": "127.0.0.1:%d" % port, "tls": {"certificate": certificate, "key": key}}])
    proxy.token_file.write_text(world.proxy.upstream_token + "\n")
    proxy.reload()
    token = issuer.mint("operator-1", roles=["operator"])
    good = start("https://localhost:%d" % port, token, ca=str(authority.file))
    answer = requests.get(good.url + "/contoso/_apis/projects", timeout=seconds(10))
    assert answer.status_code == 200 and answer.json()["value"][0]["url"].startswith(good.url)
    sent = requests.post(good.url + RUNS, json={"templateParameters": {"x": "y" * 60000}}, timeout=seconds(10))
    assert sent.status_code in (200, 403), sent.text
    # Nobody who cannot prove to be the proxy is given the token.
    for name, settings in (("https://localhost:%d" % port, {}), ("https://127.0.0.1:%d" % port, {"ca": str(authority.file)})):
        stranger = start(name, token, **settings)
        refused = requests.get(stranger.url + "/contoso/_apis/projects", timeout=seconds(10))
        assert refused.status_code == 502 and "certificate" in refused.json()["message"], refused.text


def test_a_proxy_that_is_not_there(start, operator):
    agent = start("http://127.0.0.1:%d" % free_port(), operator)
    answer = requests.get(agent.url + "/contoso/_apis/projects", timeout=seconds(20))
    assert answer.status_code == 502 and "cannot reach the proxy" in answer.json()["message"]


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                                 b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 70000 + b"\r\n\r\n", b""])
def test_nonsense_is_refused(world, agent, raw):
    before = len(world.records())
    s = socket.create_connection(("127.0.0.1", agent.port))
    s.settimeout(seconds(20))
    try:
        s.sendall(raw)
        s.shutdown(socket.SHUT_WR)
        got = s.recv(4096)
    except TimeoutError:
        raise
    except OSError:  # reset, before all of it was sent or at the end
        got = b""
    assert not got or got.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431", b"HTTP/1.1 505")), got
    assert len(world.records()) == before and agent.answers()


@pytest.mark.parametrize("settings,said", [
    ({"listen": "0.0.0.0:8021"}, "must be on loopback"), ({"listen": "8021"}, "an address and a port"), ({"proxy": "http://dagward.example"}, "must be https"),
    ({"proxy": "dagward.example"}, "`proxy`"), ({"proxi": "x"}, "proxy"), ({"askpass": "perhaps"}, "askpass")])
def test_a_bad_configuration_is_said(tmp_path, settings, said):
    config = {"listen": "127.0.0.1:1", "proxy": "https://dagward.example", "token_file": "t", **settings}
    (tmp_path / "agent.yaml").write_text(json.dumps(config, indent=1))
    done = subprocess.run([BINARY, "agent", "--config", tmp_path / "agent.yaml"], capture_output=True, text=True, timeout=seconds(10))
    assert done.returncode == 2 and said in done.stderr and "agent.yaml:" in done.stderr, done.stderr


def test_git_asks_the_helper_each_time(world, git, tmp_path):
    token_file = tmp_path / "token"
    secrets.basic("airflow", world.provider.token())
    token_file.write_text(world.provider.token() + "\n")
    helper = "credential.%s.helper=!%s git-credential --url %s --token-file %s" % (world.proxy.url, BINARY, world.proxy.url, token_file)
    git("-c", helper, "clone", "-q", world.proxy.url + "/contoso/analytics/_git/dags", "clone")
    assert git("rev-parse", "HEAD", cwd=git.folder / "clone") == head_of(world)
    token_file.unlink()
    done = git.try_("-c", helper, "fetch", cwd=git.folder / "clone")
    assert done.returncode != 0 and "dagward git-credential" in done.stderr and str(token_file) in done.stderr


PROXY = "https://dagward.example:8443"


@pytest.mark.parametrize("asked,arguments,status,given", [
    ("protocol=https\nhost=dagward.example:8443\n\n", ["--url", PROXY], 0, True),
    ("capability[]=authtype\nprotocol=https\nhost=Dagward.example:8443\npath=contoso/_git/dags\nwwwauth[]=Basic\n\n", ["--url", PROXY], 0, True),
    ("protocol=https\nhost=dagward.example\n", ["--url", "https://dagward.example"], 0, True),
    ("protocol=https\nhost=dagward.example:443\n", ["--url", "https://dagward.example/"], 0, True),
    ("protocol=http\nhost=dagward.example:8080\n\n", ["--url", "http://dagward.example:8080"], 0, True),
    ("protocol=https\nhost=evil.example\n\n", ["--url", PROXY], 0, False),
    ("protocol=https\nhost=dagward.example\n\n", ["--url", PROXY], 0, False),
    ("protocol=http\nhost=dagward.example:8443\n\n", ["--url", PROXY], 0, False),
    ("protocol=https\nhost=dagward.example:8443.evil.example\n\n", ["--url", PROXY], 0, False),
    ("protocol=https\nhost=dagward.example:8443@evil.example\n\n", ["--url", PROXY], 0, False),
    ("protocol=https\nhost=evil.example/@dagward.example:8443\n\n", ["--url", PROXY], 0, False),
    ("protocol=https\nhost=evil.example\nhost=dagward.example:8443\n\n", ["--url", PROXY], 1, False),
    ("protocol=http\nprotocol=https\nhost=dagward.example:8443\n\n", ["--url", PROXY], 1, False),
    ("protocol=https\nhost=dagward.example:8443\r\n\r\n", ["--url", PROXY], 1, False),
    ("protocol=https\nhost=dagward.example:8443\0.evil.example\n\n", ["--url", PROXY], 1, False),
    ("protocol=https\nhost=" + "a" * 1000 + "\n\n", ["--url", PROXY], 1, False),
    ("protocol=https\npath=" + "a" * 20000 + "\nhost=dagward.example:8443\n\n", ["--url", PROXY], 1, False),
    ("a=b\n" * 5000 + "protocol=https\nhost=dagward.example:8443\n\n", ["--url", PROXY], 1, False),
    ("host=dagward.example:8443\n\n", ["--url", PROXY], 1, False), ("protocol=https\n\n", ["--url", PROXY], 1, False), ("", [], 1, False), ("\n", [], 1, False),
    ("protocol=https\nhost=anywhere.example\n\n", [], 0, True), ("protocol=http\nhost=localhost:8080\n\n", [], 0, True),
    ("protocol=http\nhost=anywhere.example\n\n", [], 1, False), ("protocol=http\nhost=127.0.0.1.evil.example\n\n", [], 1, False),
    ("protocol=https\nhost=dagward.example:8443\n\n", ["--url", "dagward.example"], 2, False), ("protocol=https\nhost=a\n\n", ["--url", "https://a/b"], 2, False)],
    ids=lambda value: repr(value)[:60])
def test_the_helper_gives_the_token_to_whom_it_is_for(tmp_path, asked, arguments, status, given):
    (tmp_path / "token").write_text(secrets.caller("aaa.bbb.ccc") + "\n")
    told = subprocess.run([BINARY, "git-credential", *arguments, "--token-file", tmp_path / "token", "get"], input=asked, capture_output=True, text=True, timeout=seconds(20))
    assert told.returncode == status, told.stderr
    assert told.stdout == ("username=airflow\npassword=aaa.bbb.ccc\n" if given else "") and "aaa.bbb" not in told.stderr
    assert bool(told.stderr) == (status != 0)
