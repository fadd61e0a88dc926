"""A bad day at many times its speed. Good callers are in the middle of all that goes wrong elsewhere: forged and nonsensical
requests, slow clients, reloads, rotations of keys, tokens that end, processes that follow each other, an upstream and a disk
that fail, receivers of the log that stall. Each good request is answered, with 200 unless something it needs was broken at that
moment; each is in the log once; nothing grows.

DAGWARD_SOAK_SECONDS sets its length: 120 by default, 40 with a sanitizer, 900 for a night. DAGWARD_SOAK_SEED repeats its choices.
"""
import copy
import json
import os
import random
import signal
import statistics
import threading
import time
import uuid

import pytest
import requests

from kit import secrets, wire
from kit.azure import APP, TENANT, Tenant
from kit.emulator import Emulator
from kit.issuers import Key
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.sinks import Receiver
from kit.waiting import BINARY, sanitizer, seconds, until
from test_handover import Line

SEED = int(os.environ.get("DAGWARD_SOAK_SEED", random.SystemRandom().randrange(1 << 32)))
LENGTH = float(os.environ.get("DAGWARD_SOAK_SECONDS", 120 if sanitizer() == "none" else 40))
RUNS = "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"
ITEMS = "/contoso/analytics/_apis/git/repositories/dags/refs?api-version=7.1"
ELSEWHERE = "/contoso/other/_apis/pipelines/42/runs?api-version=7.1"
SHIM = BINARY.parent / "libdagward_faults.so"
LIFE = max(6, LENGTH / 45)  # seconds, of every token; each of them is looked for in the log at the end


class Trouble:
    """When something was broken that good requests need, and a little beyond."""

    def __init__(self):
        self.spans, self.since = [], None

    def __enter__(self):
        self.since = time.monotonic()

    def __exit__(self, *_):
        self.spans.append((self.since, time.monotonic()))
        self.since = None

    def excuses(self, began, ended):
        return any(a <= ended and began <= b for a, b in self.spans)


class Actor(threading.Thread):
    """Does something again and again, until it is told to stop; `wrong` is what should not have happened."""

    def __init__(self, day, number=0):
        super().__init__(daemon=True, name="%s %d" % (type(self).__name__, number))
        self.day, self.rng, self.number = day, random.Random("%d %s" % (SEED, self.name)), number
        self.wrong, self.count = [], 0

    def run(self):
        while not self.day.over.is_set():
            try:
                self.act()
                self.count += 1
            except Exception as e:  # an actor that dies silently would make the day a quiet one
                self.wrong.append("%s: %r" % (self.name, e))
            self.day.over.wait(self.pause * (0.5 + self.rng.random()))


class Good(Actor):
    """A caller as they should be: a fresh token before the old one ends, a connection that is kept for a while."""

    pause = 0.06
    client, token, until = None, None, 0

    def credential(self):
        if time.monotonic() > self.until:
            self.token, self.until = self.day.mint("good-%d" % self.number, roles=["operator"]), time.monotonic() + LIFE / 3
        return self.token

    def act(self):
        method, target = self.rng.choice([("GET", RUNS), ("GET", RUNS), ("GET", ITEMS), ("POST", RUNS)])
        fields = [("Authorization", "Bearer " + self.credential())]
        if method == "POST" and self.rng.random() < 0.5:
            fields.append(("Idempotency-Key", str(uuid.uuid4())))
        while not self.send(method, target, fields + [("X-Correlation-Id", str(uuid.uuid4()))]):
            pass

    def send(self, method, target, fields):
        """False if a connection that was kept ended before an answer: HTTP has the client send again then."""
        fresh, began = self.client is None, time.monotonic()
        mark = fields[-1][1]
        try:
            self.client = self.client or wire.Client(self.day.proxy.port, timeout=40)
            answer = self.client.ask(method, target, fields, b"{}" if method == "POST" else b"")
        except (OSError, wire.CutOff) as e:
            self.leave()
            if fresh:
                self.wrong.append("%s %s was not answered: %r" % (method, mark, e))
                return True
            self.day.unanswered.append(mark)
            return False
        except ValueError as e:  # something else than an answer, as behind one that ended too early
            self.wrong.append("%s %s: %r, then %r" % (method, mark, e, self.client.reader.buffer[:200]))
            self.leave()
            return True
        self.day.answers.append((mark, method, answer.status, began, time.monotonic(), answer.text[:200] if answer.status != 200 else ""))
        if answer.status == 200:
            json.loads(answer.body)
        if answer.correlation != mark:
            self.wrong.append("%s was answered as %s" % (mark, answer.correlation))
        if (answer["Connection"] or "").lower() == "close" or self.rng.random() < 0.1:
            self.leave()
        return True

    def leave(self):
        if self.client:
            self.client.close()
        self.client = None


class Bad(Actor):
    """Whoever should get nothing, at another address than the good ones. Never 2xx, and always one of the statuses that say why."""

    pause = 0.05

    def cases(self):
        good = self.day.mint("good-0", roles=["operator"])
        forged = good[:-12] + "A" * 12
        strange = self.day.mint("x", header={"kid": "kid-%d" % (time.monotonic() / 2)})
        bearer = lambda token: [("Authorization", "Bearer " + token)]
        return [
            ("GET", RUNS, bearer(forged), {401, 429, 503}),
            ("POST", RUNS, bearer(forged), {401, 429, 503}),
            ("GET", RUNS, bearer(strange), {401, 429, 503}),
            ("GET", RUNS, bearer(self.day.mint("x", exp=self.day.began - 3600)), {401, 429, 503}),
            ("GET", RUNS, bearer(self.day.mint("x", aud="somebody else")), {401, 429, 503}),
            ("GET", RUNS, [], {401, 503}),
            ("GET", ELSEWHERE, bearer(good), {403, 502, 503}),
            ("POST", RUNS, bearer(self.day.mint("no role")), {403, 502, 503}),
            ("GET", "/contoso/analytics/%2e%2e/other/_apis/pipelines/42/runs", bearer(good), {400, 503}),
            ("POST", RUNS, bearer(good) + [("Content-Length", "2"), ("Transfer-Encoding", "chunked")], {400, 503}),
            ("GET", RUNS, bearer(good) + [("X-Dagward-Token", good)], {400, 503}),
        ]

    def act(self):
        method, target, fields, expected = self.rng.choice(self.cases())
        try:
            with wire.Client(self.day.proxy.port, source="127.0.0.%d" % (2 + self.number), timeout=40) as client:
                answer = client.ask(method, target, fields, b"{}" if method == "POST" else b"")
        except (OSError, wire.CutOff):
            return  # a stranger has no right to an answer
        if answer.status not in expected:
            self.wrong.append("%s %s was told %d %s" % (method, target, answer.status, answer.text[:200]))


class Flood(Bad):
    """Forged tokens, as many as it can."""

    pause = 0

    def act(self):
        fields = [("Authorization", "Bearer " + self.day.mint("flood")[:-12] + "B" * 12)]
        with wire.Client(self.day.proxy.port, source="127.0.0.%d" % (20 + self.number), timeout=40) as client:
            for _ in range(200):
                try:
                    status = client.ask("GET", RUNS, fields).status
                except (OSError, wire.CutOff):
                    break
                if status not in (401, 429, 503):
                    self.wrong.append("a forged token was told %d" % status)
                if self.day.over.wait(0.005):
                    break
        self.day.over.wait(2)


class Slow(Actor):
    """Half a head, a body in drops, an answer that is not read; some of them go with a reset."""

    pause = 0.1

    def act(self):
        token, kind = self.day.mint("slow", roles=["operator"]), self.rng.randrange(4)
        head = "POST %s HTTP/1.1\r\nHost: soak.test\r\nAuthorization: Bearer %s\r\n" % (RUNS, token)
        try:
            with wire.Client(self.day.proxy.port, source="127.0.0.30", timeout=40) as client:
                if kind == 0:
                    client.send(head[: self.rng.randrange(len(head))])
                elif kind == 1:
                    client.send(head + "Content-Length: 400\r\n\r\n{")
                    for _ in range(self.rng.randrange(9)):
                        client.send(" ")
                        self.day.over.wait(0.1)
                elif kind == 2:
                    client.send(("GET %s HTTP/1.1\r\nHost: soak.test\r\nAuthorization: Bearer %s\r\n\r\n" % (RUNS, token)) * 20)
                    self.day.over.wait(self.rng.random())
                else:
                    client.is_closed(within=3)
        except (OSError, wire.CutOff):
            pass


class Reloads(Actor):
    pause = 1.5

    def act(self):
        new = self.day.proxy.folder / "policy.new"
        with self.day.start:
            self.day.policy["roles"]["operator"]["description"] = "Reload %d." % self.count
            new.write_text(json.dumps(self.day.policy))
            new.rename(self.day.proxy.policy_file)
            self.day.proxy.signal(signal.SIGHUP)


class Rotations(Actor):
    """A new key is published, then used, then the old one is taken out, as issuers do it."""

    pause = LIFE

    def act(self):
        issuer = self.day.issuer
        fetched = len(issuer.fetches)
        issuer.keys = [issuer.keys[0], Key("soak-%d" % self.count)]
        # Whoever sends a key ID that nobody knows has the keys fetched; two, as one may have begun before.
        until(lambda: len(issuer.fetches) > fetched + 1 or self.day.over.is_set(), "the keys are fetched", within=30)
        if self.day.over.wait(1):
            return
        self.day.key = issuer.keys[1]
        if not self.day.over.wait(2 * LIFE):
            issuer.keys = [self.day.key]


class Faults(Actor):
    """Upstream, disk and the receivers of the log in turn, each for a while, and none for longer."""

    pause = 3
    UPSTREAM = [{"signin": "203"}, {"next_status": 503, "percent": 50}, {"close": True, "percent": 30}, {"lose": True, "percent": 30, "method": "POST"},
                {"mix": True, "delay_ms": 300, "percent": 40}, {"delay_ms": 700, "percent": 50}, {"next_status": 429, "retry_after": 1}]

    def act(self):
        kind = self.count % 3
        if kind == 0:
            with self.day.trouble:
                self.day.emulator.behave(times=-1, **self.rng.choice(self.UPSTREAM))
                self.day.over.wait(1.5)
                self.day.emulator.behave(times=0)
                self.day.recovers()
        elif kind == 1 and self.day.disk:
            with self.day.start, self.day.trouble:
                self.day.fault(self.rng.choice("npesrd"))
                self.day.over.wait(1)
                self.day.fault("0")
                self.day.recovers()
        elif kind == 2:  # nobody waits for a receiver: no excuse
            self.day.receiver.reset_after = 5
            self.day.receiver.reading = False
            self.day.over.wait(1)
            self.day.receiver.reading = True


class Day:
    """All of them, and what they share."""

    def __init__(self, folder, issuer, stdout):
        self.over, self.trouble, self.began = threading.Event(), Trouble(), int(time.time())
        self.answers, self.unanswered, self.minted = [], [], {}
        self.start = threading.Lock()  # a process that starts knows no signal yet, and ends when a file changes or cannot be written
        self.issuer, self.key = issuer, issuer.keys[0]
        self.issuer.cache_control = "max-age=3600"
        self.tenant, self.receiver = Tenant(), Receiver().start()
        self.tenant.lifetime = LIFE
        self.disk = sanitizer() == "none" and SHIM.exists()
        self.policy = copy.deepcopy(POLICY)
        (folder / "secret").write_text(self.tenant.secret())
        credential = {"name": "etl", "type": "client_secret", "tenant": TENANT, "client_id": APP, "authority": self.tenant.entra.url,
                      "secret_file": str(folder / "secret")}
        sinks = [{"name": "collector", "type": "stdout"}, {"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % self.receiver.port}]
        self.proxy = Proxy(folder / "proxy", [issuer.config(keys={"discovery": True, "cooldown": "1s"})], self.policy, credentials=[credential],
                           audit={"strangers": "each", "checkpoints": {"records": 200}, "sinks": sinks}, idempotency={"window": "10s"}, log={"level": "info"},
                           timeouts={"headers": "1s", "body": "1s", "drain": "20s"})
        self.proxy.stdout = stdout
        # Any token of the tenant: the emulator is told of a beginning, not of each.
        issue = self.tenant.issue
        self.tenant.issue = lambda *how: self.emulated(issue(*how))
        self.emulator = Emulator(folder / "emulator")
        self.proxy.config["upstream"]["hosts"] = {"*": self.emulator.url}
        self.line = Line(self.proxy)
        self.control = folder / "fault"
        self.control.write_bytes(b"0")

    def emulated(self, token):
        self.tenant.issued[-1]["token"] = "emulated-" + token
        return secrets.upstream("emulated-" + token)

    def mint(self, subject, **claims):
        """The same token for a third of its life."""
        what = json.dumps([subject, self.key.kid, claims])
        token, until_ = self.minted.get(what, (None, 0))
        if time.monotonic() > until_:
            token = self.issuer.mint(subject, key=self.key, **{"exp": int(time.time() + LIFE), **claims})
            self.minted[what] = token, time.monotonic() + LIFE / 3
        return token

    def environment(self):
        if not self.disk:
            return None
        return {"LD_PRELOAD": str(SHIM), "DAGWARD_FAULTS_CONTROL": str(self.control), "DAGWARD_FAULTS_FILE": os.path.realpath(self.proxy.audit_file)}

    def fault(self, letter):
        with open(self.control, "r+b") as file:
            file.write(letter.encode())

    def recovers(self):
        """Every worker serves again; connections are spread over them by chance."""
        good = [0]

        def look():
            token = self.mint("probe", roles=["operator"])
            served = all(self.proxy.ask(m, RUNS, token, body=b"{}" if m == "POST" else b"").status == 200 for m in ("GET", "POST"))
            good[0] = good[0] + 1 if served else 0
            return good[0] >= 8

        until(look, "it recovers", within=30, every=0.05)

    def follow(self):
        """The next process takes over."""
        done = lambda: self.proxy.audit_file.read_bytes().count(b'"handover.done"')
        with self.start:
            before, old = done(), self.proxy.process
            self.line.start(ready=False, environment=self.environment())
            until(lambda: done() > before, lambda: "it takes over: " + self.proxy.log()[-3000:], within=40, every=0.1)
        self.line.gone(old)

    def journal(self):
        """Correlation IDs of the runs that Azure DevOps, by its own account, started; it knows the last 16,384."""
        return [run["e2eid"] for run in requests.get(self.emulator.url + "/~emulator/runs", timeout=seconds(30)).json()["runs"]]

    def close(self):
        self.over.set()
        self.line.kill()
        self.proxy.kill()
        self.tenant.close()
        self.receiver.stop()
        if self.emulator.process.poll() is None:
            self.emulator.process.kill()
            self.emulator.process.wait()


@pytest.fixture
def day(tmp_path, own_issuer, monkeypatch):
    # What the sanitizer holds back of freed memory would look like a leak for the first 256 MiB.
    monkeypatch.setenv("ASAN_OPTIONS", os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4")
    with open(tmp_path / "collected", "ab") as out:
        day = Day(tmp_path, own_issuer, out)
        try:
            yield day
        finally:
            day.close()


def flat(samples, slack):
    """Whether the last third is no more than the middle one, but for a part of it and some slack."""
    third = len(samples) // 3
    middle, last = statistics.median(samples[third: 2 * third]), statistics.median(samples[2 * third:])
    return last <= middle * 1.1 + slack


def test_a_bad_day(day, tmp_path):
    print("DAGWARD_SOAK_SEED=%d" % SEED)
    proxy, journal = day.proxy, set()
    day.line.start(environment=day.environment())
    actors = [Good(day, i) for i in range(4)] + [Bad(day, i) for i in range(2)] + [Flood(day), Slow(day), Reloads(day), Rotations(day), Faults(day)]
    began = time.monotonic()
    for actor in actors:
        actor.start()
    handovers, pick = 0, random.Random(SEED)
    while time.monotonic() - began < 0.4 * LENGTH:  # the last process then lives long enough to show whether it grows
        time.sleep(LENGTH * (0.05 + 0.05 * pick.random()))
        day.follow()
        handovers += 1
        journal.update(day.journal())
    rss, descriptors = [], []
    while time.monotonic() - began < LENGTH:
        time.sleep(LENGTH / 100)
        assert proxy.process.poll() is None, proxy.log()[-4000:]
        rss.append(proxy.resident_kib())
        descriptors.append(len(os.listdir("/proc/%d/fd" % proxy.process.pid)))
        if len(rss) % 8 == 0:
            journal.update(day.journal())
    day.over.set()
    for actor in actors:
        actor.join(seconds(60))
        assert not actor.is_alive(), actor.name + " hangs"
    day.emulator.behave(times=0)
    day.fault("0")
    day.recovers()
    journal.update(day.journal())

    counts = {actor.name: actor.count for actor in actors}
    statuses = {}
    for _, _, status, *_ in day.answers:
        statuses[status] = statuses.get(status, 0) + 1
    print("%d handovers, %s, good requests by status %s, again %d, %d runs, rss %s KiB, descriptors %s"
          % (handovers, counts, statuses, len(day.unanswered), len(journal), rss[::10], descriptors[::10]))
    wrong = [w for actor in actors for w in actor.wrong]
    assert not wrong, "%d: %s" % (len(wrong), wrong[:5])
    refused = [a for a in day.answers if a[2] != 200 and not day.trouble.excuses(a[3], a[4])]
    assert not refused, "%d good requests were refused while nothing was broken: %s" % (len(refused), refused[:3])
    assert handovers >= 2 and all(counts.values()), "somebody did nothing"
    assert statuses[200] > max(LENGTH, 0.4 * len(day.answers)) and len({i["token"] for i in day.tenant.issued}) >= LENGTH / LIFE
    assert flat(rss, 8192), "memory: %s KiB" % rss
    assert flat(descriptors, 16), "descriptors: %s" % descriptors

    last = lambda: int(proxy.metric("^dagward_audit_seq "))
    out = tmp_path / "collected"
    seqs = lambda: {json.loads(line)["seq"] for line in out.read_bytes().split(b"\n")[:-1]}
    until(lambda: set(range(1, last() + 1)) <= seqs(), "the collector has every record", within=30, every=0.5)
    until(lambda: set(range(1, last() + 1)) <= set(day.receiver.seqs()), "the syslog server has every record", within=30, every=0.5)
    records = proxy.records()
    intents = {r["correlation_id"] for r in records if r["kind"] == "intent"}
    outcomes = {}
    for r in records:
        if r["kind"] == "outcome":
            outcomes.setdefault(r["correlation_id"], []).append(r)
    lost = [a for a in day.answers if len(outcomes.get(a[0], ())) != 1]
    assert not lost, "answers without one outcome record: %s" % lost[:3]
    unheard = journal - intents
    assert not unheard, "started in Azure DevOps, and not in the log: %s" % list(unheard)[:3]
    invented = [a for a in day.answers if a[1:3] == ("POST", 200) and a[0] not in journal]
    assert not invented, "answered, and never started: %s" % invented[:3]
    assert not journal & set(day.unanswered), "a request that got no answer was passed on"
    proxy.stop()  # checks log and chain
    assert len(day.line.old) == handovers and all(process.poll() == 0 for process in day.line.old)
    day.emulator.stop()
