"""What the guides name is there: pages and chapters behind links, files, options of the commands they show, events of the audit log;
and what they show as configuration, policy or agent's file is accepted by the program.

    docs.py PROGRAM SOURCE_DIR
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.S | re.M)
# Around settings of which a guide shows a part.
AROUND = {
    "listen": "[{address: 127.0.0.1:8080}]",
    "issuers": "[{name: airflow, issuer: https://issuer.example.com, audiences: dagward}]",
    "upstream": "{organizations: contoso}",
    "credentials": "[{name: etl, type: client_secret, tenant: a.example, client_id: 22222222-2222-2222-2222-222222222222, secret_file: secret}]",
    "policy": "{files: policy.yaml}",
    "audit": "{file: audit.jsonl}",
}
POLICY = "version: 1\n"
# Numbers that a guide says and the program does not print: page, words, source, the constant there.
NUMBERS = [
    ("overload.md", "16,384 identities", "src/world/budget.c", "IDENTITIES = 16 * 1024"),
    ("overload.md", "128 and 16 for each worker", "src/worker/admit.c", "OWN_DESCRIPTORS = 128"),
    ("overload.md", "128 and 16 for each worker", "src/worker/admit.c", "OWN_DESCRIPTORS_OF_WORKER = 16"),
    ("overload.md", "5 % of a worker for each address", "src/worker/accounts.c", "RECOVERY_US = 50"),
    ("overload.md", "1 ms of each turn of a worker", "src/worker/shakes.c", "[SHAKER_GOOD] = 1000"),
    ("overload.md", "100 of an address for one reason, then one a second", "src/worker/strangers.c", "BURST = 100, EVERY_MS = 1000"),
    ("audit.md", "1,000, then 20 a second", "src/worker/strangers.c", "BURST_ALL = 1000, EVERY_ALL_MS = 50"),
    ("overload.md", "429 after 5 s", "src/worker/identify.c", "TURN_MS = 5000"),
    ("overload.md", "256 batches", "src/worker/evidence.c", "BATCHES_MOST = 256"),
    ("overload.md", "fixed | 32, 64 |", "src/control/lookup.h", "LOOKUPS_MOST = 32"),
    ("overload.md", "fixed | 32, 64 |", "src/control/assertions.h", "ASSERTIONS_AT_ONCE = 64"),
    ("overload.md", "at most every 10 s from each worker", "src/worker/admit.c", "TOLD_MS = 10000"),
    ("overload.md", "pause for 250 ms", "src/worker/worker.c", "TICK_MS = 250"),
    ("upstream.md", "up to eight addresses", "include/dagward/world/world.h", "addresses[8]"),
    ("upstream.md", "up to 100 are saved, ten are there at the start", "src/worker/inside.h",
     "UPSTREAM_RETRY = 100, UPSTREAM_RETRIES_MOST = 10000, UPSTREAM_RETRIES_QUIET = 1000"),
    ("upstream.md", "five minutes are the most", "src/worker/throttle.c", "THROTTLED_MOST_S = 300"),
    ("upstream.md", "more than 16 interim answers", "src/worker/relay.c", "INTERIMS_MOST = 16"),
    ("upstream.md", "a head over 64 KiB", "src/worker/relay.c", ".head_bytes = 64 * 1024"),
    ("upstream.md", "beyond the 32nd of the configuration", "include/dagward/world/metrics.h", "METRICS_CREDENTIALS = 33"),
    ("upstream.md", "at most 20 of them at once and one every ten seconds", "src/worker/addresses.c", "EVENTS_MS = 10 * 1000, EVENTS_AT_ONCE = 20"),
    ("upstream.md", "every two seconds whatever `ejection.most` is", "src/worker/addresses.c", "DOWN_MS = 2000"),
    ("upstream.md", "once in five seconds at most", "src/worker/addresses.c", "RESOLVE_MS = 5000"),
    ("upstream.md", "five good minutes", "src/worker/health.h", "HEALTH_FORGET_MS = 5 * 60 * 1000"),
    ("upstream.md", "503, `Retry-After: 5`", "src/worker/upstream.c", "NOT_RESOLVED_S = 5"),
    ("operations.md", "The admin listener has 32 connections", "src/control/admin.c", "CLIENTS_MOST = 32"),
    ("operations.md", "waits for it up to 10 s", "include/dagward/control/control.h", "CONTROL_ASK_BOUND_MS = 10 * 1000"),
    ("operations.md", "one request (within 2 s)", "src/worker/client.c", "FRESH_MS = 2000"),
    ("operations.md", "keys, credentials and addresses, within 30 s", "proxy/serve.c", "WARM_MS = 30 * 1000"),
    ("operations.md", "after 5 s without an answer", "proxy/serve.c", "PASSING_MS = 5 * 1000"),
    ("threat-model.md", "on reload, after 5 minutes", "src/worker/directory.c", "KNOWN_MS = 5 * 60 * 1000"),
    ("threat-model.md", "an hour at most from the last verification", "src/net/tls.c", "SESSION_S = 3600"),
    ("threat-model.md", "none longer than an hour", "src/net/fetch.c", "CONNECTION_MOST_MS = 3600 * 1000"),
    ("threat-model.md", "three hops", "src/worker/detour.c", "HOPS_MOST = 3"),
    ("clients.md", "256 at a time", "proxy/agent.c", "CONNECTIONS_MOST = 256"),
    ("doctor.md", "expires within 21 days", "src/doctor/judge_listener.c", "SOON_S = 21 * 24 * 3600"),
    ("doctor.md", "ends within 21 days", "src/doctor/judge_reach.c", "SOON_S = 21 * 24 * 3600"),
    ("doctor.md", "ends within 14 days", "src/doctor/run.c", "SOON_MS = 14 * 24 * 3600 * 1000"),
    ("doctor.md", "ends within 15 minutes", "src/doctor/judge_credential.c", "EXPIRES_SOON_S = 15 * 60"),
    ("doctor.md", "more than 60 s (warning) or 5 minutes (problem)", "src/doctor/judge_answer.c", "SKEW_WARNING_S = 60, SKEW_PROBLEM_S = 300"),
    ("doctor.md", "less than 1 GiB or 5 % is free", "src/doctor/judge_audit.c", "FREE_LEAST_BYTES = 1 << 30, FREE_LEAST_PERCENT = 5"),
    ("doctor.md", "more than 10,000 records behind", "src/doctor/judge_sink.c", "BEHIND_RECORDS = 10000"),
    ("doctor.md", "It ends within 30 seconds", "include/dagward/doctor/doctor.h", "DOCTOR_BOUND_MS = 28 * 1000"),
    ("audit.md", "no answer of the disk for 30 seconds", "src/worker/evidence.c", "AUDIT_MOST_MS = 30000"),
    ("audit.md", "the outcomes of the last 20 ms", "src/worker/evidence.c", "BATCH_MS = 20"),
    ("audit.md", "a record is at most 18 KiB", "include/dagward/audit/record.h", "AUDIT_RECORD_MOST = 18 * 1024"),
    ("audit.md", "(up to 1 MiB, the newest)", "src/audit/keeper.c", "ANCHOR_BYTES = 1024 * 1024"),
    ("audit.md", "(soon: within 7 days)", "include/dagward/policy/policy.h", "POLICY_EXPIRES_SOON_MS = 7 * 24 * 60 * 60 * 1000"),
    ("audit.md", "the first 32 of each policy", "src/control/reload.c", "EXPIRIES_MOST = 32"),
    ("audit.md", "at most 1,000,000 bytes before packing and 25 minutes", "include/dagward/sink/monitor.h", "MONITOR_CALL_MOST = 1000 * 1000"),
    ("audit.md", "at most 1,000,000 bytes before packing and 25 minutes", "include/dagward/sink/monitor.h", "25 * 60 * 1000"),
    ("audit.md", "more than 1 MiB.", "proxy/audit_verify.c", "ANCHOR_LINE_MOST = 1 << 20"),
    ("audit.md", "At most 10,000 records; more", "proxy/audit_trace.c", "MOST_RECORDS = 10000"),
    ("audit.md", "nobody asked for in 60 days", "proxy/audit_index.c", "UNUSED_S = 60 * 24 * 3600"),
    ("audit.md", "at most 5,000 different rows (20,000 callers", "proxy/audit_gather.c", "ROWS_MOST = 5000"),
    ("audit.md", "at most 5,000 different rows (20,000 callers", "proxy/audit_gather.c", "CALLERS_MOST = 20000"),
]


class Guides:
    def __init__(self, program, source):
        self.program, self.source, self.wrong = program, Path(source).resolve(), 0
        self.pages = {page: page.read_text() for page in
                      [self.source / "README.md", self.source / "SECURITY.md", *sorted((self.source / "docs").glob("*.md"))]}
        self.helps = {}

    def complain(self, page, offset, text):
        line = self.pages[page].count("\n", 0, offset) + 1
        print(f"{page.relative_to(self.source)}:{line}: {text}")
        self.wrong += 1

    def run(self, *arguments, **more):
        return subprocess.run([self.program, *arguments], capture_output=True, text=True, check=False, timeout=60, **more)

    # --- links ---

    def chapters(self, page):
        """As forges name them: small letters, blanks as hyphens, no punctuation."""
        text = BLOCK.sub("", self.pages[page])
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)}

    def links(self):
        n = 0
        for page, text in self.pages.items():
            for link in re.finditer(r"\]\(([^)\s]+)\)", text):
                where, _, chapter = link[1].partition("#")
                if "://" in where:
                    continue
                n += 1
                target = (page.parent / where).resolve() if where else page
                if not target.exists():
                    self.complain(page, link.start(), f"no {where}")
                elif chapter and chapter not in self.chapters(target):
                    self.complain(page, link.start(), f"no chapter {chapter} in {target.name}")
        return n

    def paths(self):
        """Of sources, tests and examples, as the code tour writes them: modules without the folders above them."""
        n = 0
        for page, text in self.pages.items():
            for path in re.finditer(r"`([a-z_.]+(?:/[A-Za-z0-9_.-]+)+\.(?:c|h|py|sh|yaml|json|service|md))`", text):
                n += 1
                if not any((self.source / above / path[1]).exists() for above in (".", "include/dagward", "src", "tests")):
                    self.complain(page, path.start(), f"no {path[1]}")
        return n

    # --- commands ---

    def help_of(self, command):
        if command not in self.helps:
            done = self.run(*command, "--help")
            self.helps[command] = done.stdout if done.returncode == 0 else None
        return self.helps[command]

    def command(self, page, offset, words):
        """`dagward COMMAND [SUBCOMMAND] ...`: each option stands in its help."""
        n = 2 if words[0] in ("policy", "audit", "operations", "emulate") and len(words) > 1 and re.fullmatch("[a-z-]+", words[1]) else 1
        said = self.help_of(tuple(words[:n]))
        if said is None:
            self.complain(page, offset, "no command " + " ".join(words[:n]))
            return
        for word in words[n:]:
            option = re.match(r"--[a-z-]+", word)
            if option and not re.search(re.escape(option[0]) + r"(?![a-z-])", said):
                self.complain(page, offset, f"{' '.join(words[:n])} has no option {option[0]}")

    def commands(self):
        n = 0
        for page, text in self.pages.items():
            shown = [(m.start(), m[1]) for m in re.finditer(r"`([^`\n]+)`", BLOCK.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text))]
            shown += [(m.start(3), m[3]) for m in BLOCK.finditer(text) if m[2] in ("sh", "yaml", "")]
            shown += [(m.start(), m[0]) for m in re.finditer(r"^    .*(\n    .*)*", text, re.M)]
            for start, code in shown:
                joined = code.replace("\\\n", "  ")  # as long as before
                for m in re.finditer(r"(?:^|(?<=[ !(']))(?:\./build/|build/)?dagward (?=[a-z-])([^\n|#;>`&']*)", joined, re.M):
                    words = m[1].split()
                    if not re.fullmatch("[a-z][a-z-]*", words[0]) or words[:2] == ["audit", "checkpoint"]:  # a text that is signed
                        continue
                    n += 1
                    self.command(page, start + m.start(), words)
        return n

    # --- snippets ---

    def snippet(self, folder, text):
        """What the program says against it; None: it is nothing that the program reads."""
        keys = re.findall(r"^([a-z_]+):", text, re.M)
        if "version" in keys:
            (folder / "policy.yaml").write_text(text)
            done = self.run("policy", "test", "--policy", "policy.yaml", cwd=folder)
        elif "proxy" in keys:
            (folder / "agent.yaml").write_text(re.sub(r"^listen: .*", "listen: 127.0.0.1:0", text, flags=re.M))
            return self.agent(folder)
        elif keys and set(keys) <= {*AROUND, "outgoing_proxy", "idempotency", "correlation", "limits", "timeouts", "admin"}:
            (folder / "policy.yaml").write_text(POLICY)
            whole = text + "\n" + "".join(f"{key}: {value}\n" for key, value in AROUND.items() if key not in keys)
            whole = re.sub(r"(files|shadow): *\[?[^\]\n}]*\]?", r"\1: policy.yaml", whole)
            (folder / "dagward.yaml").write_text(whole)
            done = self.run("check", "--no-files", "--config", "dagward.yaml", cwd=folder)
        else:
            return None
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def agent(self, folder):
        """It says what is wrong with its settings before it looks for the files that they name; without one it listens."""
        process = subprocess.Popen([self.program, "agent", "--config", "agent.yaml"], cwd=folder, stderr=subprocess.PIPE, text=True)
        said = ""
        for line in process.stderr:
            said += line
            if " info agent listen=" in line:
                process.terminate()
        process.wait()
        return said if "agent.yaml:" in said or process.returncode not in (0, 2) else ""

    def snippets(self):
        n = 0
        with tempfile.TemporaryDirectory() as folder:
            for page, text in self.pages.items():
                for block in BLOCK.finditer(text):
                    inside = re.search(r"^ *agent\.yaml: \|\n((?: +.*\n)+)", block[3], re.M)
                    indent = len(block[1]) if not inside else len(inside[1]) - len(inside[1].lstrip())
                    lines = (inside[1] if inside else block[3]).splitlines()
                    said = self.snippet(Path(folder), "\n".join(line[indent:] for line in lines) + "\n") if block[2] == "yaml" else None
                    n += said is not None
                    if said:
                        self.complain(page, block.start(), f"the program does not take this: {said.strip()}")
        return n

    # --- numbers ---

    def numbers(self):
        for name, words, source, constant in NUMBERS:
            page = self.source / "docs" / name
            if words not in " ".join(self.pages[page].split()):
                self.complain(page, 0, f"it does not say `{words}` any more (of {constant})")
            if not re.search(re.escape(constant) + r"(?![\d ]*[\d*])", " ".join((self.source / source).read_text().split())):
                self.complain(page, 0, f"it says `{words}`, but {source} has not {constant}")
        return len(NUMBERS)

    # --- events ---

    def events(self):
        page = self.source / "docs/audit.md"
        chapters = self.pages[page][self.pages[page].index("### Events of the log itself"):self.pages[page].index("\n## The chain")]
        listed = set()
        for cell in re.findall(r"^\| (`.*?) \|", chapters, re.M):
            for name in re.findall(r"`([a-z_]*\.[a-z_]+)`", cell.replace("`event.name`", "")):
                family = name.split(".")[0] or family
                listed.add(family + "." + name.split(".")[1])
        written = set()
        for module in ("audit", "sink", "control", "worker"):
            for file in (*(self.source / "src" / module).glob("*.c"), *(self.source / "include/dagward" / module).glob("*.h")):
                code = re.sub(r"^#include.*", "", file.read_text(), flags=re.M)
                written |= set(re.findall(r'"([a-z_]+\.[a-z_]{3,})\\?"', code))
        written.discard("pipeline.name")  # a member of Azure DevOps' answers
        if listed != written:
            self.complain(page, 0, f"events: not documented {sorted(written - listed)}, not written {sorted(listed - written)}")
        return len(listed)


def main(program, source):
    guides = Guides(Path(program).resolve(), source)
    found = {kind: getattr(guides, kind)() for kind in ("links", "paths", "commands", "snippets", "numbers", "events")}
    print(", ".join(f"{n} {kind}" for kind, n in found.items()) + f": {guides.wrong} wrong")
    few = [kind for kind, least in (("links", 60), ("paths", 200), ("commands", 60), ("snippets", 15), ("events", 30)) if found[kind] < least]
    if few:
        print(f"so few {few}: are the guides written otherwise now?")
    return 1 if guides.wrong or few else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
