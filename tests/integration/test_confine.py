"""What a running proxy can no longer do: seen from outside, in /proc, and by what it refuses."""
import ctypes
import json
import os
import platform
import shutil
import signal
import struct
import subprocess

import pytest

from kit import secrets
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.waiting import BINARY, confines, free_port, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"

pytestmark = pytest.mark.skipif(not confines(), reason="a program with a sanitizer, or that measures coverage, does not confine itself")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")


def threads(proxy):
    """/proc/PID/status of each thread."""
    found = []
    for task in os.listdir("/proc/%d/task" % proxy.process.pid):
        with open("/proc/%d/task/%s/status" % (proxy.process.pid, task)) as lines:
            found.append(dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line))
    return found


def confined(proxy):
    """The line of the log that says what is active."""
    (line,) = [line for line in proxy.log().splitlines() if " confined mode=" in line]
    return dict(part.split("=", 1) for part in line.split(" info confined ")[1].split(" missing=")[0].split())


def kernel_has_landlock():
    return ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def needs_landlock(proxy):
    if not kernel_has_landlock():
        pytest.skip("this kernel has no Landlock")
    assert confined(proxy)["landlock"].startswith("v")


def test_every_thread_is_confined(proxy, operator):
    assert proxy.ask("GET", RUNS, operator).status == 200
    said, all_of_them = confined(proxy), threads(proxy)
    assert said["mode"] == "auto" and said["no_new_privs"] == said["seccomp"] == "yes" and said["capabilities"] == "dropped"
    assert len(all_of_them) >= 4, "main, two workers, the scribe"
    for status in all_of_them:
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and status["CoreDumping"] == "0"
        assert int(status["CapEff"], 16) & ~0b110 == 0, "nothing but reading the files of others"
        assert int(status["CapPrm"], 16) & ~0b110 == int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    limits = open("/proc/%d/limits" % proxy.process.pid).read()
    assert "Max core file size        0                    0" in limits
    assert os.stat("/proc/%d/environ" % proxy.process.pid).st_uid == 0


def test_secrets_lie_in_pages_of_their_own(proxy, operator):
    """Locked, left out of dumps, wiped in a child: `lo`, `dd`, `wf`."""
    assert proxy.ask("GET", RUNS, operator).status == 200
    with open("/proc/%d/smaps" % proxy.process.pid) as lines:
        flags = [line.split()[1:] for line in lines if line.startswith("VmFlags")]
    own = [f for f in flags if "dd" in f and "wf" in f]
    assert own, "the token of the credential is there"
    if confined(proxy)["secrets_locked"] != "0KiB":
        assert all("lo" in f for f in own)


def test_off_takes_nothing(start_proxy, issuer, upstream, operator):
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, confine="off")
    assert proxy.ask("GET", RUNS, operator).status == 200
    for status in threads(proxy):
        assert status["NoNewPrivs"] == status["Seccomp"] == "0"
    assert confined(proxy)["landlock"] == "no" and confined(proxy)["mode"] == "off"


def test_require_is_kept_or_refused(tmp_path, issuer):
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, confine="require")
    try:
        proxy.start(ready=False, expect_failure=True)
        until(lambda: proxy.process.poll() is not None or " confined mode=require" in proxy.log(), "one of both")
        if proxy.process.poll() is None:
            assert kernel_has_landlock() and confined(proxy)["seccomp"] == "yes"
            until(proxy.is_alive, "it runs")
            proxy.stop()
        else:
            assert not kernel_has_landlock() and proxy.process.returncode == 2 and "`confine: require`" in proxy.log()
    finally:
        proxy.kill()


def without_landlock_and_seccomp():
    """In a child: a filter around it refuses both, as that of a container may."""
    code = b"".join(struct.pack("=HBBI", *one) for one in (
        (0x20, 0, 0, 0),  # the number of the call
        (0x15, 2, 0, 317), (0x35, 0, 2, 444), (0x25, 1, 0, 446),  # seccomp; landlock's three
        (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)))  # EPERM; allow
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(program)):
        os._exit(99)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
@pytest.mark.parametrize("mode", ["auto", "require"])
def test_where_the_kernel_has_neither(tmp_path, issuer, mode):
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, confine=mode)
    proxy.write_files()
    proxy.process = subprocess.Popen([BINARY, "serve", "--config", proxy.config_file], stderr=open(proxy.stderr_file, "wb"), preexec_fn=without_landlock_and_seccomp)
    try:
        if mode == "require":
            assert proxy.process.wait(timeout=seconds(10)) == 2
            assert "`confine: require`, but not all can be had: landlock: not in this kernel, or switched off; seccomp: Operation not permitted" in proxy.log()
            return
        until(proxy.is_alive, "it serves all the same")
        assert confined(proxy)["landlock"] == confined(proxy)["seccomp"] == "no" and confined(proxy)["no_new_privs"] == "yes"
        assert 'missing="landlock: not in this kernel' in proxy.log()
        proxy.stop()
    finally:
        proxy.kill()


def moved(proxy, change):
    """The configuration with a change in its credential."""
    config = json.loads(json.dumps(proxy.config))
    change(config["credentials"][0])
    return config


def test_a_file_outside_cannot_be_reached_and_the_reload_says_so(proxy, operator, tmp_path):
    needs_landlock(proxy)
    good = json.loads(json.dumps(proxy.config))
    outside = tmp_path / "elsewhere" / "token"
    outside.parent.mkdir()
    outside.write_text(secrets.upstream("upstream-canary-elsewhere") + "\n")
    told = proxy.reload(moved(proxy, lambda c: c.update(file=str(outside))), good=False)
    assert told["first"].startswith(str(proxy.config_file) + ":") and str(outside) in told["first"]
    assert "it takes a restart" in told["first"] and told["errors"] == "1"
    assert proxy.ask("GET", RUNS, operator).status == 200
    # A link inside leads out: the same.
    inside = proxy.folder / "link"
    inside.symlink_to(outside)
    told = proxy.reload(moved(proxy, lambda c: c.update(file=str(inside))), good=False)
    assert "it takes a restart" in told["first"] and str(inside) in told["first"]
    # Policies as well, one by one and by pattern.
    (outside.parent / "p.yaml").write_text(json.dumps(POLICY))
    for pattern in (outside.parent / "p.yaml", outside.parent / "*.yaml"):
        told = proxy.reload({**good, "policy": {"files": [str(pattern)]}}, good=False)
        assert "it takes a restart" in told["first"] and str(outside.parent) in told["first"]
    proxy.config = good
    # What does not exist is not taken for what is hidden.
    told = proxy.reload(moved(proxy, lambda c: c.update(file=str(proxy.folder / "nothing"))), good=False)
    assert "restart" not in told["first"]
    proxy.reload(good)
    proxy.stop()
    proxy.config["credentials"][0]["file"] = str(outside)
    proxy.start()  # which is the restart
    assert proxy.ask("GET", RUNS, operator).status == 200


def test_what_is_written_elsewhere_can_be_written(start_proxy, issuer, upstream, operator, tmp_path):
    """The journal of triggers and the anchor of the log, each in a folder of its own; the first is made anew as it grows."""
    for name in ("triggers", "anchor"):
        (tmp_path / name).mkdir()
    anchor, journal = tmp_path / "anchor" / "log", tmp_path / "triggers" / "journal"
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, confine="auto",
                        audit={"anchor": str(anchor), "checkpoints": {"records": 10}}, idempotency={"file": str(journal)})
    needs_landlock(proxy)
    before = journal.stat().st_size
    for key in range(12):
        assert proxy.ask("POST", RUNS, operator, [("Idempotency-Key", "k%d" % key)], b"{}").status == 200
    assert journal.stat().st_size > before
    until(lambda: anchor.exists() and anchor.stat().st_size, "a checkpoint is anchored")
    assert not proxy.events("log.anchor_failed")


def test_files_that_are_replaced_stay_reachable(start_proxy, issuer, upstream, operator, tmp_path):
    """By a rename, by a folder that is swapped behind a link, and for a credential without a reload."""
    mount = tmp_path / "mount"
    (mount / "..1").mkdir(parents=True)
    (mount / "..1/token").write_text(secrets.upstream("upstream-canary-mount-1"))
    (mount / "..data").symlink_to("..1")
    (mount / "token").symlink_to("..data/token")
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, credentials=[{"name": "etl", "type": "static_file", "file": str(mount / "token")}])
    assert proxy.ask("GET", RUNS, operator).status == 200
    for n in (2, 3):
        (mount / ("..%d" % n)).mkdir()
        (mount / ("..%d/token" % n)).write_text(secrets.upstream("upstream-canary-mount-%d" % n))
        (mount / "..tmp").symlink_to("..%d" % n)
        os.rename(mount / "..tmp", mount / "..data")
        shutil.rmtree(mount / ("..%d" % (n - 1)))
        wanted = b"upstream-canary-mount-%d" % n
        until(lambda: proxy.ask("GET", RUNS, operator).status == 200 and wanted in upstream.received[-1]["Authorization"].encode(), "the new token is lent", within=20, every=0.2)
    for name in ("dagward.yaml", "policy.yaml"):
        shutil.copy(proxy.folder / name, proxy.folder / "new")
        os.rename(proxy.folder / "new", proxy.folder / name)
    proxy.reload()


@as_root
def test_root_becomes_the_user_that_is_named(start_proxy, issuer, upstream, operator, tmp_path):
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        os.chmod(folder, 0o755)
    proxy = Proxy(tmp_path / "proxy0", [issuer.config()], POLICY, upstream.url, user="10001:10002")
    os.chown(proxy.folder, 10001, 10002)
    try:
        proxy.start()
        assert proxy.ask("GET", RUNS, operator).status == 200
        for status in threads(proxy):
            assert status["Uid"].split() == ["10001"] * 4 and status["Gid"].split() == ["10002"] * 4 and status["Groups"].split() == ["10002"]
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert confined(proxy)["uid"] == "10001"
        assert os.stat(proxy.audit_file).st_uid == 10001
        os.rename(proxy.audit_file, proxy.folder / "audit.1")
        proxy.signal(signal.SIGUSR1)
        until(proxy.audit_file.exists, "the log is rotated by that user")
        proxy.reload()
        # Nobody of the same user can look at its memory or environment.
        for what in ("mem", "environ", "maps"):
            told = subprocess.run(["setpriv", "--reuid=10001", "--regid=10002", "--clear-groups", "cat", "/proc/%d/%s" % (proxy.process.pid, what)], capture_output=True, text=True)
            assert told.returncode != 0 and "ermission denied" in told.stderr
        proxy.whole_audit = False  # two files
        proxy.stop()
    finally:
        proxy.kill()


@as_root
def test_a_key_that_the_user_could_not_read_again_stops_the_start(tmp_path, issuer):
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        os.chmod(folder, 0o755)
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, user="10001:10002")
    os.chown(proxy.folder, 10001, 10002)
    os.chmod(proxy.token_file, 0o600)
    proxy.start(expect_failure=True)
    assert proxy.process.wait(timeout=seconds(10)) == 2
    assert "%s: Permission denied" % proxy.token_file in proxy.log() and "cannot be used by the confined process" in proxy.log()


def test_users_that_cannot_be(tmp_path, issuer):
    for user, said in (("root", "is root"), ("no-such-user", "there is no user `no-such-user`")):
        proxy = Proxy(tmp_path / user, [issuer.config()], POLICY, user=user)
        proxy.start(expect_failure=True)
        assert proxy.process.wait(timeout=seconds(10)) == 2 and said in proxy.log()
        assert "dagward.yaml:" in proxy.log()


def test_an_agent_is_confined_too(tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/token").write_text("token\n")
    port = free_port()
    config = tmp_path / "agent/agent.yaml"
    config.write_text(json.dumps({"listen": "127.0.0.1:%d" % port, "socket": "a.sock", "proxy": "http://127.0.0.1:9", "token_file": "token", "confine": "auto"}))
    agent = subprocess.Popen([BINARY, "agent", "--config", config], stderr=open(tmp_path / "stderr", "wb"))
    try:
        until(lambda: b"agent listen=" in (tmp_path / "stderr").read_bytes(), "it serves")
        status = open("/proc/%d/status" % agent.pid).read()
        assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    finally:
        agent.terminate()
        assert agent.wait(timeout=seconds(15)) == 0
    assert not (tmp_path / "agent/a.sock").exists(), "it still removes its socket"
    config.write_text(config.read_text().replace('"auto"', '"sometimes"'))
    told = subprocess.run([BINARY, "agent", "--config", config], capture_output=True, text=True)
    assert told.returncode == 2 and "`confine` is one of auto, off, require" in told.stderr
