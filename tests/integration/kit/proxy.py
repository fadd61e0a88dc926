"""The proxy under test: a process, its configuration, its records."""
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

from kit import secrets, wire
from kit.waiting import BINARY, INSPECTOR, free_port, lasting, seconds, until

REPORTS = re.compile(r"ERROR: \w*Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer: detected|assert\w* .*failed", re.I)


class Proxy:
    """`dagward serve` in a folder of its own. Configuration and policy are dictionaries (JSON is
    YAML) or text; what is not said here has a default that suits most tests."""

    runner = ()  # a program that runs it, with its options

    def __init__(self, folder, issuers, policy, upstream=None, workers=2, policies=None, **settings):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self.admin_port = free_port(), free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.admin = "http://127.0.0.1:%d" % self.admin_port
        self.audit_file = self.folder / "audit.jsonl"
        self.config_file = self.folder / "dagward.yaml"
        self.policy_file = self.folder / "policy.yaml"
        self.stderr_file = self.folder / "stderr"
        self.token_file = self.folder / "upstream-token"
        self.upstream_token = secrets.upstream("upstream-canary-" + os.urandom(12).hex())
        self.token_file.write_text(self.upstream_token + "\n")
        self.config = {
            "listen": [{"address": "127.0.0.1:%d" % self.port}],
            "admin": {"address": "127.0.0.1:%d" % self.admin_port},
            "workers": workers,
            "issuers": issuers,
            "upstream": {"organizations": ["contoso"], **upstream_settings(upstream)},
            "credentials": [{"name": "etl", "type": "static_file", "file": str(self.token_file)}],
            "policy": {"files": ["policy.yaml"], **(policies or {})},
            "audit": {"file": str(self.audit_file)},
            "timeouts": {"drain": "20s"},
            "log": {"level": "debug"},
        }
        for key, value in settings.items():
            if isinstance(value, dict) and isinstance(self.config.get(key), dict):
                value = {**self.config[key], **value}
            self.config[key] = value
        self.policy = policy
        self.process = None
        self.stdout, self.close_stdout = subprocess.DEVNULL, False
        self.whole_audit = True  # False: a test broke the file on purpose
        self.seen_outcomes = set()

    # --- life ---

    def write_files(self):
        as_text = lambda what: what if isinstance(what, str) else json.dumps(what, indent=1)
        self.config_file.write_text(as_text(self.config))
        self.policy_file.write_text(as_text(self.policy))

    def start(self, ready=True, file_size=None, expect_failure=False, sockets=(), environment=None, arguments=()):
        """`sockets` are passed as a service manager does; `environment` is added to this one's, `arguments` to
        those of the command."""
        self.write_files()

        def limits():
            if self.close_stdout:
                os.close(1)
            if file_size:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        command = [*self.runner, BINARY, "serve", "--config", self.config_file, *arguments]
        if sockets:  # the number of the process is known only to itself
            command = ["bash", "-c", 'export LISTEN_PID=$$; exec "$0" "$@" ' + passed(sockets)] + command
            environment = {"LISTEN_FDS": str(len(sockets)), **(environment or {})}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.stdout, stderr=open(self.stderr_file, "ab"),
            # What runs before the program needs a copy of this process; without it the start is cheaper by far.
            preexec_fn=limits if self.close_stdout or file_size else None, pass_fds=[s.fileno() for s in sockets], env=lasting(environment))
        if not expect_failure:
            until(self.is_ready if ready else self.is_alive, lambda: "the proxy is not there: " + self.log()[-2000:], within=15)
        return self

    def is_alive(self):
        assert self.process.poll() is None, "the proxy ended with %s: %s" % (self.process.returncode, self.log()[-3000:])
        try:
            socket.create_connection(("127.0.0.1", self.admin_port), timeout=1).close()
            return True
        except OSError:
            return False

    def is_ready(self):
        return self.is_alive() and self.admin_get("/readyz").status_code == 200

    def admin_get(self, path):
        return requests.get(self.admin + path, timeout=seconds(5))

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self, config=None, policy=None, good=True):
        """Writes new files, asks for a reload and waits until the log says what came of it."""
        if config is not None:
            self.config = config
        if policy is not None:
            self.policy = policy
        kind = "reload.done" if good else "reload.failed"
        before = len(self.events(kind))
        self.write_files()
        self.signal(signal.SIGHUP)
        until(lambda: len(self.events(kind)) > before, lambda: "no %s event: %s" % (kind, self.log()[-1500:]))
        self.in_force()
        return self.events(kind)[-1]["event"]["detail"]

    def in_force(self):
        """Returns when every worker has what was last loaded. The event of a reload is written first, then the
        workers are told; their numbers are asked for in the same queue, behind that."""
        self.admin_get("/metrics")

    def stop(self, status=0):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            got = self.process.wait(timeout=seconds(40))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            got = "nothing, it had to be killed"
        self.process = None
        log = self.log()
        report = REPORTS.search(log)
        assert not report, "the sanitizer reports: " + log[max(0, report.start() - 200):][:6000]
        assert got == status, "exit status %s: %s" % (got, log[-2000:])
        self.check_evidence()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    # --- what it leaves behind ---

    def log(self):
        return self.stderr_file.read_text(errors="replace") if self.stderr_file.exists() else ""

    def records(self, kind=None):
        if not self.audit_file.exists():
            return []
        raw = self.audit_file.read_bytes()
        lines = raw[: raw.rfind(b"\n") + 1].splitlines()  # the last one may be half written
        found = [json.loads(line) for line in lines]
        return [r for r in found if kind is None or r["kind"] == kind]

    def events(self, name=""):
        """Event records whose name begins so."""
        return [r for r in self.records("event") if r["event"]["name"].startswith(name)]

    def the_event(self, name):
        """The one event whose name begins so, which may still be on its way to the log."""
        until(lambda: self.events(name), "no event " + name)
        (event,) = self.events(name)
        return event

    def of(self, answer):
        """All records of one request, by the correlation ID of its answer (or by the ID itself)."""
        wanted = correlation_of(answer)
        return [r for r in self.records() if r.get("correlation_id") == wanted]

    def outcome(self, answer):
        """The one outcome record of a request."""
        wanted = correlation_of(answer)
        assert wanted, "an answer without correlation ID"
        until(lambda: any(r["kind"] == "outcome" for r in self.of(wanted)), "no outcome record for " + wanted)
        outcomes = [r for r in self.of(wanted) if r["kind"] == "outcome"]
        assert len(outcomes) == 1, "%d outcome records for one request" % len(outcomes)
        return outcomes[0]

    def outcomes(self, n=None, **having):
        """Outcome records with these flattened fields (request.path -> request_path); waits for n."""

        def look():
            return [r for r in self.records("outcome")
                    if all(flat(r, key) == value for key, value in having.items())]

        if n is not None:
            until(lambda: len(look()) >= n, lambda: "%d of %d outcome records with %s" % (len(look()), n, having))
            time.sleep(0.05)  # one too many would be here by now, as batches are written every 20 ms
            assert len(look()) == n, "%d outcome records instead of %d with %s" % (len(look()), n, having)
        return look()

    def check_evidence(self):
        """What must be true of every proxy that ever ran: no secret in its files, a whole chain,
        one outcome for each request."""
        secrets.assert_no_leak(self.stderr_file.read_bytes(), "the proxy's log")
        if not self.audit_file.exists():
            return
        secrets.assert_no_leak(self.audit_file.read_bytes(), "the audit file")
        if not self.whole_audit:
            return
        told = subprocess.run([INSPECTOR, "audit", "verify", self.audit_file], capture_output=True, text=True)
        assert told.returncode == 0, told.stdout + told.stderr
        records = self.records()
        ids = [r["request_id"] for r in records if r["kind"] == "outcome"]
        assert len(ids) == len(set(ids)), "two outcome records of one request"
        left = {r["request_id"] for r in records if r["kind"] == "intent"} - set(ids)
        assert not left, "intents without outcome: %s" % left
        if not any(r["kind"] == "event" and r["event"]["name"] == "reload.done" for r in records):
            self.check_replay()

    def check_replay(self):
        """Decided again from its records, nothing comes out otherwise; some answers cannot be told."""
        told = subprocess.run([INSPECTOR, "policy", "replay", "--config", self.config_file, "--json", "--log", self.audit_file],
                              capture_output=True, text=True)
        assert told.returncode in (0, 1), told.stdout + told.stderr
        result = json.loads(told.stdout)
        assert not result["allowed"] and not result["denied"] and not result["damaged"], json.dumps(result, indent=1)[:4000]

    def resident_kib(self):
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return 0

    def metric(self, pattern):
        """The sum of all samples whose line matches."""
        total = 0.0
        for line in self.admin_get("/metrics").text.splitlines():
            if not line.startswith("#") and re.search(pattern, line):
                total += float(line.rsplit(" ", 1)[1])
        return total

    # --- asking ---

    def ask(self, method, target, token=None, fields=(), body=b"", **more):
        fields = list(fields)
        if token:
            fields.append(("Authorization", "Bearer " + token))
        return wire.ask(self.port, method, target, fields, body, **more)

    def connect(self, **more):
        return wire.Client(self.port, **more)


def passed(sockets):
    """Redirections of a shell that make these 3, 4 and so on; theirs are larger than that."""
    return " ".join("%d<&%d" % (3 + i, s.fileno()) for i, s in enumerate(sockets))


def upstream_settings(upstream):
    """A URL for every host, or settings as they are."""
    return upstream if isinstance(upstream, dict) else {"hosts": {"*": upstream or "http://127.0.0.1:9"}}


def correlation_of(answer):
    if isinstance(answer, str):
        return answer
    if isinstance(answer, wire.Answer):
        return answer.correlation
    return answer.headers.get("X-Correlation-Id")


def flat(record, key):
    for step in key.split("_", 1) if key.split("_", 1)[0] in record else [key]:
        record = record.get(step) if isinstance(record, dict) else None
    return record
