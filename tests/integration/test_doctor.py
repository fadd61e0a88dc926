"""`dagward doctor`: a world in which all is well, and the same world with one thing spoiled, once for each finding."""
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from kit import seeds
from kit.sickness import Embedded, World
from kit.waiting import BINARY, free_port, sanitizer, seconds, until


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    embedded = Embedded(tmp_path_factory.mktemp("embedded"))
    yield embedded
    embedded.stop()


@pytest.fixture
def world(embedded):
    folder = tempfile.mkdtemp(prefix="doctor-")
    os.chmod(folder, 0o755)  # some tests look as nobody
    world = World(folder, embedded)
    yield world
    world.stop()
    shutil.rmtree(folder, ignore_errors=True)


# --- a world in which all is well ---


def nearly_full(path):
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize < 1 << 30 or space.f_bavail * 20 < space.f_blocks


def test_where_all_is_well_it_says_so(world):
    token = world.token(world.mint())
    if nearly_full(world.folder):
        pytest.skip("this machine's disk is nearly full, which doctor would rightly say")
    status, told = world.diagnose("--token", token)
    assert status == 0, told
    assert told["healthy"] is True and told["problems"] == told["warnings"] == 0
    assert {f["level"] for f in told["findings"]} == {"ok"}
    names = {f["name"] for f in told["findings"]}
    assert {"configuration-loaded", "policy-loaded", "listener-port", "listener-certificate", "issuer-reachable", "issuer-document", "issuer-keys", "token-accepted",
            "token-bindings", "credential-obtained", "organization-accepted", "upstream-reachable", "upstream-answers", "audit-space", "audit-new",
            "limits-descriptors"} <= names
    status, out = world.doctor("--token", token)
    assert status == 0 and "0 problems, 0 warnings" in out and "problem " not in out and "cause:" not in out
    assert os.listdir(world.audit.parent) == [], "what it made to see whether it can, it removed"


def test_beside_a_running_proxy_all_is_well_too(world):
    if nearly_full(world.folder):
        pytest.skip("this machine's disk is nearly full, which doctor would rightly say")
    world.write()
    other = world.folder / "exe"  # as the demo starts it, which knows itself as /proc/self/exe
    other.symlink_to(BINARY)
    proxy = subprocess.Popen([other, "serve", "--config", world.folder / "dagward.yaml"], stderr=open(world.folder / "serve.log", "ab"))

    def listens():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", world.port)) == 0 and world.audit.exists()

    try:
        until(listens, lambda: (world.folder / "serve.log").read_text())
        status, told = world.diagnose()
        assert status == 0, told
        ports = [f for f in told["findings"] if f["name"] == "listener-port"]
        assert len(ports) == 2 and all("in use: dagward is running here" in f["found"] for f in ports)
        held = [f for f in told["findings"] if f["name"] == "audit-held"]
        assert held and held[0]["level"] == "ok" and "process %d" % proxy.pid in held[0]["found"]
        assert any(f["name"] == "audit-chain" for f in told["findings"])
    finally:
        proxy.send_signal(signal.SIGTERM)
        assert proxy.wait(timeout=seconds(30)) == 0
    before = world.audit.read_bytes()
    assert world.diagnose("--only", "audit")[0] == 0
    assert world.audit.read_bytes() == before

    def audit_says():
        status, told = world.diagnose("--only", "audit")
        return status, {f["name"] for f in told["findings"] if f["level"] != "ok"}

    world.audit.write_bytes(before + b'{"seq":99,"time":"2026-')
    assert audit_says() == (1, {"audit-torn"})
    world.audit.write_bytes(before[:-200] + before[-199:])
    assert audit_says() == (1, {"audit-foreign"}), "the last record was edited"


# --- one thing spoiled (kit/seeds.py) ---


def texts(wanted, world):
    wanted = wanted(world) if callable(wanted) else wanted
    return [wanted] if isinstance(wanted, str) else wanted


def flowing(text):
    """The text on one line, without how many seconds it tells of: two runs tell of other seconds."""
    return re.sub(r"\b\d+ s\b", "N s", re.sub(r"\s+", " ", text))


@pytest.mark.parametrize("spoil, name, cause, remedy, level, arguments, run", seeds.SEEDS)
def test_what_is_spoiled_is_found(world, spoil, name, cause, remedy, level, arguments, run):
    more = spoil(world) or ()
    arguments = [*arguments, *more]
    status, told = world.diagnose(*arguments, **run)
    found = [f for f in told["findings"] if f["name"] == name]
    assert found, json.dumps(told, indent=1)
    assert status == 1 and told["healthy"] is False
    assert told["problems"] + told["warnings"] > 0
    one = found[0]
    assert set(one) == {"part", "subject", "name", "level", "found", "cause", "remedy"}
    assert one["level"] == level
    for text in texts(cause, world):
        assert text in one["cause"], one
    for text in texts(remedy, world):
        assert text in one["remedy"], one
    if sanitizer() != "none":
        return  # twice the time, for what is only another form of it
    status, out = world.doctor("--only", one["part"], *arguments, **run)
    flat = flowing(out)
    assert status == 1 and "%s: " % name in flat
    assert "cause: " + flowing(one["cause"])[:60] in flat
    assert "remedy: " + flowing(one["remedy"])[:60] in flat


# --- many hosts ---


def test_hosts_beside_dev_azure_com_are_told_together(world):
    good, closed = world.azure, "https://127.0.0.1:%d" % free_port()
    world.config["upstream"]["hosts"] = {"*": good.replace("localhost", "127.0.0.1"), "dev.azure.com": good, "vsrm.dev.azure.com": closed}
    status, told = world.diagnose("--only", "upstream")
    by_name = {f["name"]: f for f in told["findings"]}
    assert status == 1 and (told["problems"], told["warnings"]) == (0, 1)
    assert by_name["upstream-refused"]["subject"] == "vsrm.dev.azure.com" and by_name["upstream-refused"]["level"] == "warning"
    assert "vssps.dev.azure.com" in by_name["upstream-siblings"]["found"] and by_name["upstream-siblings"]["level"] == "ok"
    world.config["upstream"]["hosts"] = {"*": "https://127.0.0.1:%d" % free_port(), "dev.azure.com": closed}
    status, told = world.diagnose("--only", "upstream")
    by_name = {f["name"]: f for f in told["findings"]}
    assert (told["problems"], told["warnings"]) == (1, 0) and by_name["upstream-siblings"]["level"] == "skipped"


# --- how it is used ---


def test_seeds_are_many():
    assert len(seeds.SEEDS) >= 25 and len({s.id for s in seeds.SEEDS}) == len(seeds.SEEDS)


def test_a_configuration_that_cannot_be_used_is_2_with_all_its_errors(world):
    world.config["workres"] = 3
    world.config["limits"]["connections"] = "many"
    status, told = world.diagnose()
    assert status == 2 and told["healthy"] is False
    found = [f for f in told["findings"] if f["name"] == "configuration-invalid"]
    assert len(found) == 2 and any("did you mean `workers`" in f["found"] for f in found)
    assert all(re.search(r"dagward\.yaml:\d+:\d+: ", f["found"]) for f in found)
    done = subprocess.run([BINARY, "doctor", "--config", world.folder / "none.yaml"], capture_output=True, text=True)
    assert done.returncode == 2 and "none.yaml" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["--config"], ["--config", "x", "more"], ["--config", "x", "--only", "isuer"], ["--config", "x", "--only", "token"], ["--what"]])
def test_wrong_usage_is_2(arguments):
    done = subprocess.run([BINARY, "doctor", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and "doctor" in done.stderr


def test_help_is_0_and_names_the_parts():
    done = subprocess.run([BINARY, "doctor", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for part in "configuration policy listener issuer token credential upstream audit limits".split():
        assert part in done.stdout


def test_only_looks_at_one_part(world):
    w = world
    seeds.a_secret_that_is_not_there(w)
    status, told = w.diagnose("--only", "issuer", "--only", "limits")
    assert status == 0 and {f["part"] for f in told["findings"]} == {"issuer", "limits"}


def test_several_things_are_found_in_one_run(world):
    seeds.a_secret_that_entra_does_not_know(world)
    seeds.a_certificate_that_has_expired(world)
    seeds.an_audit_folder_that_does_not_exist(world)
    seeds.an_issuer_whose_clock_is_ten_minutes_off(world)
    status, told = world.diagnose()
    assert status == 1 and {"credential-secret-wrong", "listener-certificate-expired", "audit-folder", "issuer-clock"} <= {f["name"] for f in told["findings"]}
    parts = [f["part"] for f in told["findings"]]
    order = "configuration policy listener issuer token credential upstream audit limits".split()
    assert parts == sorted(parts, key=order.index), "grouped"


def test_it_ends_although_everything_hangs(world):
    """Sockets that take connections and never say a word."""
    holes = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [hole.getsockname()[1] for hole in holes]
    world.issuer(issuer="http://127.0.0.1:%d" % ports[0])
    world.credential(authority="http://127.0.0.1:%d" % ports[1])
    world.config["upstream"]["hosts"] = {"*": "https://127.0.0.1:%d" % ports[2]}
    status, told = world.diagnose()  # bounded by the deadline of World.doctor
    names = {f["name"] for f in told["findings"]}
    assert status == 1 and {"issuer-no-answer", "credential-not-obtained", "upstream-tls-failed"} <= names
    for hole in holes:
        hole.close()


def test_the_other_side_cannot_steer_the_terminal(world):
    """By controls of ASCII or beyond, nor turn the text around or hide a part of it."""
    world.serve_issuer(document={"issuer": "https://evil.example/\x1b[2J\u0007\u009b2J\u202egnp\u200b\u2028\U000e0041 \u00e9"})
    status, out = world.doctor("--only", "issuer")
    assert status == 1 and "evil.example" in out and "\u00e9" in out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]", out)


@pytest.mark.parametrize("say", ["issuer", "escaped", "location"])
def test_a_server_that_says_the_token_back_is_not_repeated(world, say):
    """Neither in words nor in --json."""
    token = "aaaa.bearer-of-the-issuer.cccc"
    (world.folder / "bearer").write_text(token + "\n")
    (world.folder / "bearer").chmod(0o600)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard = self.headers["Authorization"].split()[1]
            spelt = "\\u0061" + heard[1:] if say == "escaped" else heard
            body = b"" if say == "location" else b'{"issuer": "https://evil.example/%s", "jwks_uri": "https://evil.example/%s"}' % ((spelt.encode(),) * 2)
            self.send_response(302 if say == "location" else 200)
            if say == "location":
                self.send_header("Location", "https://evil.example/?token=" + heard)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        world.issuer(issuer="http://127.0.0.1:%d" % server.server_port, keys={"discovery": True, "bearer_file": "bearer"})
        for arguments in ((), ("--json",)):
            status, out = world.doctor("--only", "issuer", *arguments)
            assert status == 1 and "issuer-no-answer" in out and "bearer-of-the-issuer" not in out, out
    finally:
        server.shutdown()
        server.server_close()


def test_bytes_that_are_no_text_do_not_reach_the_terminal(world):
    """A redirect leads to where its field says, in whatever bytes: 0x9b begins a sequence in a terminal of Latin-1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            while True:
                try:
                    with listener.accept()[0] as peer:
                        peer.settimeout(seconds(5))
                        while peer.recv(65536):
                            peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\x9b2J\xc2\x9b2J\xe2\x80\xae\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        world.issuer(issuer="http://127.0.0.1:%d" % listener.getsockname()[1])
        world.write()
        done = subprocess.run([BINARY, "doctor", "--config", world.folder / "dagward.yaml", "--only", "issuer"], capture_output=True, timeout=seconds(40))
        out = done.stdout.decode()  # it is UTF-8
        assert done.returncode == 1 and not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out), out
        assert "evil.example" in out, out
        listener.shutdown(socket.SHUT_RDWR)


def test_the_list_of_findings_is_whole_and_true():
    """docs/doctor.md has each name that is seeded here, and none that the sources cannot say."""
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "doctor.md").read_text()
    listed = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    assert {s.values[1] for s in seeds.SEEDS} <= listed
    sources = "".join(file.read_text() for file in (root / "src" / "doctor").glob("*.c"))
    prefixes = re.compile("^(issuer-keys|configuration|policy|binding|listener|issuer|token|credential|authority|organization|upstream|audit|sink|limits)-")
    for name in sorted(listed):
        assert prefixes.match(name) and '"%s"' % prefixes.sub("", name, count=1) in sources, name
