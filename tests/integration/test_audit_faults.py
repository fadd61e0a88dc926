"""Crashes and disks that fail, under load: what reached Azure DevOps is in the log, and what was
answered stays there.

DAGWARD_FAULT_ROUNDS sets how often each kind happens (default 5).
"""
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest

from kit import wire
from kit.emulator import Emulator
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.waiting import BINARY, sanitizer, seconds, until

ROUNDS = int(os.environ.get("DAGWARD_FAULT_ROUNDS", 5))
RUNS = "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"
SHIM = BINARY.parent / "libdagward_faults.so"


class Load:
    """Callers that start pipelines and look at them; remembers what they were answered."""

    def __init__(self, proxy, token, callers=4):
        self.proxy, self.token = proxy, token
        self.stopped = threading.Event()
        self.answers = []  # (method, status, correlation), in order
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(callers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def run(self, number):
        method = "GET" if number == 0 else "POST"
        while not self.stopped.is_set():
            try:
                answer = self.proxy.ask(method, RUNS, self.token, body=b"{}" if method == "POST" else b"")
                self.answers.append((method, answer.status, answer.correlation))
            except (OSError, wire.CutOff):
                pass  # the proxy died under it
            time.sleep(0.01)  # the emulator remembers every request, and is asked often

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(seconds(60))
            assert not thread.is_alive()

    def answered(self, method, status):
        return {c for m, s, c in list(self.answers) if (m, s) == (method, status)}


def verify(*arguments):
    told = subprocess.run([BINARY, "audit", "verify", "--json", *arguments], capture_output=True, text=True)
    return told.returncode, json.loads(told.stdout)


def by_kind(proxy, kind):
    return {r["correlation_id"] for r in proxy.records(kind)}


def forwarded(emulator, method="POST"):
    """Correlation IDs of the requests that Azure DevOps, by its own account, received."""
    fields = lambda r: {k.lower(): v for k, v in r["headers"].items()}
    return [fields(r)["x-vss-e2eid"] for r in emulator.requests() if r["method"] == method and r["target"].split("?")[0].endswith("/runs")]


@pytest.fixture
def emulated(tmp_path, issuer):
    """A proxy that is not started yet, and the emulator behind it."""
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, audit={"checkpoints": {"records": 20}}, log={"level": "info"})
    emulator = Emulator(tmp_path / "emulator", proxy.upstream_token)
    proxy.config["upstream"]["hosts"] = {"*": emulator.url}
    yield proxy, emulator
    try:
        proxy.stop()
        emulator.stop()
    finally:
        proxy.kill()
        if emulator.process.poll() is None:
            emulator.process.kill()


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Starts a proxy on a disk whose faults are set by a letter (kit/faults.c)."""
    if sanitizer() != "none":
        pytest.skip("a sanitizer's runtime must be the first library: no faults can be preloaded")
    if not SHIM.exists():
        pytest.skip("%s was not built" % SHIM)
    control = tmp_path / "fault"

    class Disk:
        @staticmethod
        def set(letter):
            with open(control, "r+b") as file:
                file.write(letter.encode())

        @staticmethod
        def start(proxy):
            control.write_bytes(b"0")
            with monkeypatch.context() as environment:
                environment.setenv("LD_PRELOAD", str(SHIM))
                environment.setenv("DAGWARD_FAULTS_CONTROL", str(control))
                environment.setenv("DAGWARD_FAULTS_FILE", os.path.realpath(proxy.audit_file))
                return proxy.start()

    return Disk


def check(proxy, emulator, load):
    """While the proxy runs and is quiet."""
    sent = forwarded(emulator)
    intents = by_kind(proxy, "intent")
    missing = [c for c in sent if c not in intents]
    assert not missing, "forwarded without an intent: %s" % missing[:3]
    lost = load.answered("POST", 200) - intents
    assert not lost, "answered, and no intent in the log: %s" % list(lost)[:3]
    assert len(sent) == len(set(sent)), "a request was forwarded twice"
    return len(sent)


def test_a_killed_proxy_has_written_what_it_forwarded(emulated, operator):
    proxy, emulator = emulated
    rng = random.Random(7)
    for _ in range(ROUNDS):
        proxy.start()
        status, told = verify(proxy.audit_file)
        assert status == 0, told
        with Load(proxy, operator) as load:
            until(lambda: len(load.answered("POST", 200)) > 5, "some requests are served")
            time.sleep(rng.random() * 0.2)
            proxy.kill()
        proxy.start()  # mends what there is to mend
        status, told = verify(proxy.audit_file)
        assert status == 0, told
        assert check(proxy, emulator, load) >= len(load.answered("POST", 200))
        emulator.forget()  # it remembers only so many
        proxy.kill()
    # Intents of requests that were under way have no outcome, and the last 20 ms of outcomes are gone.
    proxy.whole_audit = False
    proxy.start()
    proxy.stop()
    status, told = verify("--closed", proxy.audit_file)
    assert status == 0 and told["checkpoints"] >= 1, told


@pytest.mark.parametrize("fault", ["n", "p", "e", "s", "r"], ids=["full", "half", "EIO", "sync-EIO", "read-only"])
def test_a_failing_disk_stops_requests_and_loses_no_record(emulated, disk, operator, fault):
    proxy, emulator = emulated
    disk.start(proxy)
    with Load(proxy, operator) as load:
        for _ in range(ROUNDS):
            until(lambda n=len(load.answers): any(s == 200 and m == "POST" for m, s, _ in load.answers[n:]), "requests are served", within=30)
            before = len(load.answers)
            disk.set(fault)
            until(lambda: {("POST", 503), ("GET", 503)} <= {(m, s) for m, s, _ in load.answers[before:]}, "both are refused", within=30)
            # From here on nothing goes upstream: what was on its way has arrived after a moment.
            time.sleep(seconds(0.5))
            sent = emulator.requests()
            time.sleep(0.2)
            assert emulator.requests()[len(sent):] == [], "forwarded while no record could be written"
            assert proxy.admin_get("/readyz").status_code == 503
            disk.set("0")
        until(lambda n=len(load.answers): any(s == 200 and m == "POST" for m, s, _ in load.answers[n:]), "it recovers", within=30)
    until(proxy.is_ready, "it says so", within=20)
    answered = {c for _, _, c in load.answers}
    until(lambda: answered <= by_kind(proxy, "outcome"), "every answer has its outcome", within=20)
    assert check(proxy, emulator, load) > ROUNDS
    assert len(proxy.events("log.write_failed")) >= ROUNDS
    proxy.stop()  # checks the chain, and one outcome for each request
    status, told = verify("--closed", proxy.audit_file)
    assert status == 0, told


def test_a_slow_disk_delays_and_refuses_nothing(emulated, disk, operator):
    proxy, emulator = emulated
    disk.start(proxy)
    disk.set("d")
    with Load(proxy, operator) as load:
        until(lambda: len(load.answered("POST", 200)) > 10, "requests are served", within=30)
    assert not load.answered("POST", 503) and not load.answered("GET", 503)
    check(proxy, emulator, load)


def test_a_disk_that_does_not_answer_lets_nothing_through(emulated, disk, operator):
    proxy, emulator = emulated
    disk.start(proxy)
    disk.set("h")
    with Load(proxy, operator) as load:
        time.sleep(1)
        assert not load.answered("POST", 200) and not forwarded(emulator)
        disk.set("0")
        until(lambda: len(load.answered("POST", 200)) > 3, "they go on when it does", within=30)
    check(proxy, emulator, load)


def test_a_file_that_is_deleted_or_renamed_under_it_is_begun_anew(emulated, operator):
    proxy, emulator = emulated
    proxy.start()
    kept = []
    with Load(proxy, operator) as load:
        for i in range(ROUNDS):
            until(lambda n=len(load.answers): len(load.answers) > n + 10, "requests are served")
            kept.append(proxy.folder / ("kept%d" % i))
            os.link(proxy.audit_file, kept[-1])
            proxy.audit_file.rename(proxy.folder / "gone")
            time.sleep(0.1)  # it goes on in the renamed file
            (proxy.folder / "gone").unlink()
            os.unlink(kept.pop()) if i % 2 else None  # now no name leads to it
            if i % 2 == 0:
                proxy.signal(10)  # SIGUSR1
            until(proxy.audit_file.exists, "a new file is begun")
    assert not load.answered("POST", 503)
    until(lambda: len(proxy.events("log.opened")) == 1, "it begins with its reason")
    assert proxy.events("log.opened")[0]["event"]["detail"]["reason"] in ("rotated", "removed")
    proxy.whole_audit = False  # files were thrown away


def test_a_small_volume_that_is_full_refuses_and_recovers(tmp_path, emulated, operator):
    """A real file system without space, where the tests may mount one."""
    proxy, emulator = emulated
    volume = tmp_path / "volume"
    volume.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", volume], capture_output=True, text=True)
    if made.returncode:
        pytest.skip("no file system can be mounted here: " + made.stderr.strip())
    try:
        proxy.audit_file = volume / "audit.jsonl"
        proxy.config["audit"]["file"] = str(proxy.audit_file)
        filler = volume / "filler"
        filler.write_bytes(b"x" * (16000 << 10))
        proxy.start()
        with Load(proxy, operator) as load:
            until(lambda: load.answered("POST", 503) and load.answered("GET", 503), "the volume is full", within=60)
            time.sleep(0.2)
            sent = len(emulator.requests())
            time.sleep(0.3)
            assert len(emulator.requests()) == sent
            filler.unlink()
            until(lambda n=len(load.answers): any(s == 200 and m == "POST" for m, s, _ in load.answers[n:]), "it recovers", within=30)
        until(lambda: by_kind(proxy, "outcome") >= {c for _, _, c in load.answers}, "every answer has its outcome", within=20)
        check(proxy, emulator, load)
        proxy.stop()
        status, told = verify("--closed", proxy.audit_file)
        assert status == 0, told
    finally:
        proxy.kill()
        subprocess.run(["umount", "-l", volume], check=True)


def test_a_disk_that_fails_at_the_end_costs_no_record(emulated, disk, operator):
    proxy, _ = emulated
    disk.start(proxy)
    assert proxy.ask("GET", RUNS, operator).status == 200
    disk.set("e")
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 200, "nobody waits for the record of what only reads"
    until(lambda: "audit" in proxy.log() and "error" in proxy.log(), "it cannot be written")
    proxy.signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        proxy.process.wait(1.5)
    disk.set("0")
    assert proxy.process.wait(seconds(20)) == 0
    assert answer.correlation in by_kind(proxy, "outcome")
