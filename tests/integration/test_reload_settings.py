"""What a reload takes over is in force, what was taken away is honoured no more, what needs a restart is refused."""
import copy
import json
import re
import subprocess
import time

from kit import wire
from kit.certs import Authority
from kit.policies import POLICY
from kit.upstreams import Upstream, message, silent
from kit.waiting import BINARY, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
LINK = json.dumps({"url": "https://dev.azure.com/contoso/analytics"})


def changed(config, path, value):
    """A copy with the setting at `path` ("issuers.0.roles") set; None: left out."""
    config = copy.deepcopy(config)
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    at = config
    for step, following in zip(steps, [*steps[1:], last]):
        at = at[step] if isinstance(step, int) else at.setdefault(step, [{}] if following == 0 else {})
    if value is None:
        at.pop(last, None)
    else:
        at[last] = value
    return config


class Eye:
    """Looks at a running proxy from outside; each method tells what one setting does."""

    def __init__(self, proxy, issuer, upstream, others):
        self.proxy, self.issuer, self.upstream, self.others, self.n = proxy, issuer, upstream, others, 0

    def get(self, target=RUNS, fields=(), body=b"", method="GET", **claims):
        return self.proxy.ask(method, target, self.issuer.mint("eye-1", **{"roles": ["operator"], **claims}), fields, body)

    def status(self, **more):
        return self.get(**more).status

    def expired(self):
        now = int(time.time())
        return self.status(iat=now - 900, exp=now - 150)

    def roles(self):
        return self.proxy.outcome(self.get(roles=None, duties=["chief"]))["caller"].get("roles", [])

    def body(self):
        self.upstream.tell(message(200, LINK))
        return self.get().text

    def upstreams(self):
        before = [len(one.received) for one in self.others]
        self.get()
        return [len(one.received) - n for one, n in zip(self.others, before)]

    def lent(self):
        self.get()
        return self.upstream.received[-1]["Authorization"]

    def redirect(self):
        self.upstream.tell(message(302, "", [("Location", "https://unit7.blob.core.windows.net/x?sig=1")]))
        return self.get(ITEM).status

    def throttled(self):
        self.upstream.tell(message(429, "", [("Retry-After", "300")]))
        return [self.get().status for _ in range(2)]

    def late(self):
        self.upstream.tell(silent)
        return self.status()

    def head(self, size, n):
        return self.status(fields=[("X-Large", "x" * size)] * n)

    def part_of_a_head(self):
        with self.proxy.connect() as client:
            client.send("GET / HTTP/1.1\r\nHost: a\r\n")
            return client.answer().status

    def part_of_a_body(self):
        with self.proxy.connect() as client:
            client.send("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: 9\r\n\r\n{" % (
                RUNS, self.issuer.mint("eye-1", roles=["operator"])))
            return client.answer().status

    def idle(self):
        with self.proxy.connect() as client:
            assert client.ask("GET", "/").status == 401
            return client.is_closed(within=seconds(5))

    def large(self):
        return self.status(method="POST", body=b"{" + b" " * 5000 + b"}")

    def two_connections(self):
        answers = []
        with self.proxy.connect() as first:
            assert first.ask("GET", "/").status == 401
            try:
                with self.proxy.connect() as second:
                    answers.append(second.ask("GET", "/").status)
            except (wire.CutOff, OSError):
                answers.append("refused")
        return answers[0]

    def three(self):
        self.n += 1  # an identity of its own: nobody else's requests count
        token = self.issuer.mint("counted-%d" % self.n, roles=["operator"])
        return [self.proxy.ask("GET", RUNS, token).status for _ in range(3)]

    def debug_lines(self):
        before = self.proxy.log().count(" debug ")
        self.status(audience="x", aud="nobody")
        return self.proxy.log().count(" debug ") > before

    def triggers(self):
        answers = []
        for _ in range(2):
            self.n += 1
            self.upstream.tell(message(200, '{"id": 7}'))
            answers.append(self.get(method="POST", body=b"{}", fields=[("Idempotency-Key", "k%d" % self.n)]).status)
            self.upstream.told.clear()
        return answers

    def variable(self):
        self.upstream.tell(message(200, '{"id": 7}'))
        self.get(method="POST", body=b"{}")
        self.upstream.told.clear()
        return b"ORIGIN" in [r for r in self.upstream.received if r.method == "POST"][-1].body.kept


def see(what, *arguments, **more):
    return lambda eye: getattr(eye, what)(*arguments, **more)


# setting, its other value, how it is seen, what is seen before and after
TAKEN_OVER = [
    ("public_url", "https://proxy.example.com", see("body"), '"http://dagward.test/contoso', '"https://proxy.example.com/contoso'),
    ("issuers.0.audiences", ["another"], see("status"), 200, 401),
    ("issuers.0.issuer", ["http://127.0.0.1:1/other"], see("status"), 200, 401),
    ("issuers.0.algorithms", ["ES256"], see("status"), 200, 401),
    ("issuers.0.clock_skew", "5m", see("expired"), 401, 200),
    ("issuers.0.max_lifetime", "1m", see("status"), 200, 401),
    ("issuers.0.require", {"tid": "ours"}, see("status"), 200, 401),
    ("issuers.0.roles", ["duties"], see("roles"), [], ["chief"]),
    ("upstream.organizations", ["fabrikam"], see("status"), 200, 403),
    ("upstream.hosts", lambda eye: {"*": eye.others[1].url}, see("upstreams"), [1, 0], [0, 1]),
    ("upstream.redirects", "relay", see("redirect"), 502, 302),
    ("upstream.links", "keep", see("body"), '"http://dagward.test/contoso', '"https://dev.azure.com/contoso'),
    ("upstream.timeouts.first_byte", "100ms", see("late"), None, 504),
    ("credentials.0.file", lambda eye: eye.second_token, see("lent"), lambda eye: "Bearer " + eye.proxy.upstream_token, "Bearer the-second-one"),
    ("policy.files", ["other.yaml"], see("status"), 200, 403),
    ("limits", {"headers": "4KiB", "header": "2KiB", "token": "2KiB"}, see("head", 1000, 5), 200, 431),
    ("limits", {"header": "1KiB", "token": "1KiB"}, see("head", 2000, 1), 200, 431),
    ("limits.token", "1KiB", see("status", padding="x" * 2000), 200, 431),
    ("limits.inspect", "1KiB", see("large"), 200, 413),
    ("limits.connections_per_address", 1, see("two_connections"), 401, "refused"),
    ("limits.rate", {"requests": 2, "per": "1d"}, see("three"), [200] * 3, [200, 200, 429]),
    ("timeouts.headers", "100ms", see("part_of_a_head"), None, 408),
    ("timeouts.body", "100ms", see("part_of_a_body"), None, 408),
    ("timeouts.keep_alive", "100ms", see("idle"), None, True),
    ("log.level", "info", see("debug_lines"), True, False),
    ("correlation.variable", "ORIGIN", see("variable"), False, True),
    ("idempotency.entries", 1, see("triggers"), [200, 200], [503, 503]),
    ("upstream.throttle", "relay", see("throttled"), [429, 429], [429, 200]),
]  # the last one says something to the credential that only a reload makes forgotten


def agrees(eye, seen, wanted):
    wanted = wanted(eye) if callable(wanted) else wanted
    return (wanted in seen if isinstance(wanted, str) and isinstance(seen, str) else seen == wanted)


def test_settings_that_a_reload_takes_over_are_in_force_behind_it(start_proxy, issuer, upstream, tmp_path):
    """Each alone, and all are as they were before when that is taken back."""
    other = Upstream()
    # Tags would go upstream in between.
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1, correlation={"tags": []})
    eye = Eye(proxy, issuer, upstream, [upstream, other])
    eye.second_token = str(proxy.folder / "second-token")
    (proxy.folder / "second-token").write_text("the-second-one\n")
    (proxy.folder / "other.yaml").write_text(json.dumps({**POLICY, "bindings": []}))
    first, wrong = proxy.config, []

    def look(setting, what, wanted, when):
        try:
            seen = what(eye)
        except Exception as problem:  # noqa: BLE001: the others are tried as well
            seen = repr(problem)
        if not agrees(eye, seen, wanted):
            wrong.append("%s %s: %r instead of %r" % (setting, when, seen, wanted))

    def look_at_all(when):
        for setting, _, what, before, _ in TAKEN_OVER:
            if before is not None:
                look(setting, what, before, when)

    look_at_all("before")
    for setting, value, what, _, after in TAKEN_OVER:
        proxy.reload(changed(first, setting, value(eye) if callable(value) else value))
        look(setting, what, after, "after the reload")
    proxy.reload(first)
    look_at_all("when all is taken back")
    other.close()
    assert not wrong, "\n".join(wrong)


# --- what only a restart takes over ---

def needs_restart():
    """All settings that the reference says so of, as "audit.sinks.0.name"."""
    found, section = [], ""
    for line in subprocess.run([BINARY, "check", "--reference"], capture_output=True, text=True, check=True).stdout.splitlines():
        if line.startswith("### "):
            section = re.sub(r"\[\]", ".0", line.split("`")[1]) + "."
        elif line.startswith("| `") and re.search(r"\| restart \|", line):
            found.append(section + line.split("`")[1])
    return found


SYSLOG, MONITOR = "audit.sinks.0.", "audit.sinks.1."
OTHERWISE = {
    "workers": 2, "confine": "off", "user": "65534:65534", "listen.0.address": "127.0.0.2:0", "admin.address": "127.0.0.2:0", "audit.file": "another.jsonl",
    "audit.durability": "all", "audit.signing_key": "sign.pem", "audit.anchor": "anchor", "audit.checkpoints.records": 7,
    "audit.checkpoints.interval": "7s", "audit.rotate.size": "7MiB", "audit.rotate.age": "7d", "audit.rotate.keep": 7, "audit.rotate.keep_for": "7d",
    "audit.rotate.wait_for_sinks": True, "audit.rotate.compress": False, SYSLOG + "name": "renamed", SYSLOG + "type": ("stdout", None),
    SYSLOG + "from": "start", SYSLOG + "server": "tls://127.0.0.1:10", SYSLOG + "insecure": True, SYSLOG + "certificate": None, SYSLOG + "key": None,
    SYSLOG + "facility": "audit", SYSLOG + "hostname": "h", SYSLOG + "app_name": "a", SYSLOG + "enterprise": 7, MONITOR + "endpoint": "http://127.0.0.1:10",
    MONITOR + "rule": "dcr-other", MONITOR + "stream": "Custom-Other_CL", MONITOR + "credential": "app2", MONITOR + "scope": "https://other/.default",
    MONITOR + "interval": "1s", SYSLOG + "ca": None, SYSLOG + "severity.routine": "debug", SYSLOG + "severity.denied": "alert",
    SYSLOG + "severity.failed": "alert", "limits.connections": 7, "timeouts.handover": "7s", "idempotency.enabled": False, "idempotency.file": "t",
}


def test_a_change_that_needs_a_restart_is_refused_with_its_name_and_place(start_proxy, issuer, upstream, authority, tmp_path):
    """Every setting that the reference says so of; and nothing else of the file counts then."""
    certificate, key = authority.issue("sink")
    sinks = [{"name": "s0", "type": "syslog", "server": "tls://127.0.0.1:9", "ca": str(authority.file), "certificate": certificate, "key": key},
             {"name": "s1", "type": "azure_monitor", "endpoint": "http://127.0.0.1:9", "rule": "dcr-a", "credential": "app"}]
    proxy = start_proxy.unstarted([issuer.config()], POLICY, upstream.url, workers=1, audit={"sinks": sinks}, log={"level": "info"})
    (proxy.folder / "secret").write_text("s3cr3t")
    app = {"name": "app", "type": "client_secret", "authority": "http://127.0.0.1:9", "tenant": "t", "client_id": "c", "secret_file": "secret"}
    proxy.config["credentials"] += [app, {**app, "name": "app2"}]
    proxy.start(ready=False)  # nobody gives app2 a token
    signing = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True).stdout
    (proxy.folder / "sign.pem").write_bytes(signing)
    token, first, wrong = issuer.mint("operator-1", roles=["operator"]), proxy.config, []
    tried, known = {path.replace(MONITOR, SYSLOG) for path in OTHERWISE}, set(needs_restart())
    until(lambda: proxy.ask("GET", RUNS, token).status == 200, "it serves")
    assert tried == known, "only in the reference, or only here: %s" % (tried ^ known)
    for path, value in OTHERWISE.items():
        config = changed(first, "issuers.0.audiences", ["another"])
        if isinstance(value, tuple):  # another type has none of the settings of this one
            config["audit"]["sinks"][0] = {"name": "s0", "type": value[0]}
        elif path in (SYSLOG + "certificate", SYSLOG + "key"):  # one is nothing without the other
            config = changed(changed(config, SYSLOG + "certificate", None), SYSLOG + "key", None)
        else:
            config = changed(config, path, value)
        told = proxy.reload(config, good=False)["first"]
        name = re.sub(r"\.(\d)", r"[\1]", path)
        place = re.match(r".*/dagward\.yaml:(\d+):(\d+): these settings need a restart: ", told)
        there = value is not None and not isinstance(value, tuple)
        if not place or name not in told or (there and json.dumps(value) not in proxy.config_file.read_text().splitlines()[int(place.group(1)) - 1]):
            wrong.append("%s: %s" % (name, told))
    assert not wrong, "\n".join(wrong)
    assert proxy.ask("GET", RUNS, token).status == 200, "the other change was not taken over"
    proxy.reload(first)
    assert "the running state stays as it was" in proxy.log()


# --- a reload that fails ---

def test_of_a_reload_that_fails_nothing_is_in_force(start_proxy, issuer, upstream, authority, tmp_path):
    """Everything else in the file is good, and would change what a caller sees."""
    folder, other = tmp_path / "files", Upstream()
    folder.mkdir()
    ca, secret, keys = folder / "ca.pem", folder / "secret", folder / "keys.json"
    ca.write_bytes(authority.file.read_bytes())
    secret.write_text("name:password")
    keys.write_text(json.dumps(issuer.key_set()))
    proxy = start_proxy([issuer.config()], POLICY, {"hosts": {"*": upstream.url}, "ca": str(ca)}, workers=1, outgoing_proxy={"url": "http://127.0.0.1:9", "credentials_file": str(secret)})
    token, first = issuer.mint("operator-1", roles=["operator"]), proxy.config
    (proxy.folder / "bad.yaml").write_text("version: 1\nroles: {}\nbindings: [{name: x, roles: [nobody]}]\n")
    fresh = changed(changed(changed(first, "upstream.hosts", {"*": other.url}), "log.level", "error"), "limits.inspect", "1KiB")
    bad = [("policy.files", ["policy.yaml", "bad.yaml"], "bad.yaml:3:"), ("policy.shadow", ["bad.yaml"], "bad.yaml:3:"), ("policy.files", ["nothing*.yaml"], "dagward.yaml:"),
           ("upstream.ca", str(secret), "dagward.yaml:"), ("upstream.ca", str(folder / "nowhere"), "dagward.yaml:"),
           ("issuers.0.keys", {"file": str(ca) + "x"}, "dagward.yaml:"), ("issuers.0.keys", {"file": str(secret)}, "dagward.yaml:"), ("issuers.0.keys.ca", str(secret), "dagward.yaml:"),
           ("credentials.0.file", "gone", "dagward.yaml:"), ("outgoing_proxy.credentials_file", str(ca), "dagward.yaml:"),
           ("listen.0.tls", {"certificate": str(ca), "key": str(ca)}, "dagward.yaml:"), ("limits.token", "64KiB", "dagward.yaml:"), ("unheard", 1, "dagward.yaml:")]
    wrong = []
    for path, value, place in bad:
        before = len(proxy.log())
        told = proxy.reload(changed(fresh, path, value), good=False)
        log = proxy.log()[before:]
        if not re.search(re.escape(place) + r".*:", told["first"]) or not re.search(r"dagward\.yaml:[1-9]|bad\.yaml:[1-9]", told["first"]):
            wrong.append("%s: no place: %s" % (path, told["first"]))
        if told["first"] not in log or "the running state stays as it was" not in log:
            wrong.append("%s: the log says: %s" % (path, log))
        seen = len(upstream.received)
        answer = proxy.ask("POST", RUNS, token, body=b"{" + b" " * 2000 + b"}")
        if answer.status != 200 or len(upstream.received) != seen + 1 or other.received:
            wrong.append("%s: something of it is in force: %d" % (path, answer.status))
    assert not wrong, "\n".join(wrong)
    secret.write_text("name:password")
    proxy.reload(fresh)
    assert proxy.ask("GET", RUNS, token).status == 200 and len(other.received) == 1, "and without these errors all of it is"
    other.close()
