"""What `policy suggest` writes allows all that was used and, as far as entries can say it, nothing else."""

import itertools
import json
import random
import subprocess

from kit.audit_log import AuditLog
from kit.proxy import BINARY

PROJECTS, PIPELINES, REFS = ["red", "blue", "green"], ["1", "2", "3", "4"], ["refs/heads/main", "refs/heads/x", None]
EVERYTHING = list(itertools.product(PROJECTS, PIPELINES, REFS))


def write(log, project, pipeline, ref, effect="allow"):
    log.request(
        request={
            "method": "POST",
            "path": f"/contoso/{project}/_apis/pipelines/{pipeline}/runs",
            "operation": "pipelines.runs.run",
            "access": "execute",
            "project": project,
            "resources": [f"pipeline:{pipeline}", f"ref:{ref or '?'}"],
        },
        decision={"effect": effect, **({} if effect == "allow" else {"role": None, "binding": None, "rule": None})},
        response={"status": 200 if effect == "allow" else 403},
    )


def policy(*arguments):
    return subprocess.run([BINARY, "policy", *arguments], capture_output=True, text=True, check=False)


def test_what_is_suggested_allows_what_was_used_and_no_other_combination(tmp_path):
    chance = random.Random(5)
    for turn in range(12):
        used = chance.sample(EVERYTHING, 1 + chance.randrange(12))
        log = AuditLog(tmp_path / f"used-{turn}.jsonl")
        for one in used:
            write(log, *one)
        suggested = policy("suggest", "--log", str(log.path))
        assert suggested.returncode == 0, suggested.stderr
        (tmp_path / "suggested.yaml").write_text(suggested.stdout)
        again = policy("replay", "--policy", str(tmp_path / "suggested.yaml"), "--log", str(log.path))
        assert again.returncode == 0, again.stdout + again.stderr
        # A run that leaves its ref open can only be allowed with any ref.
        expected = [(p, n, r) for p, n, r in EVERYTHING if (p, n, r) in used or (p, n, None) in used]
        rest = AuditLog(tmp_path / f"all-{turn}.jsonl")
        for one in EVERYTHING:
            write(rest, *one, effect="deny")
        told = json.loads(policy("replay", "--policy", str(tmp_path / "suggested.yaml"), "--json", "--log", str(rest.path)).stdout)
        assert told["records"] == len(EVERYTHING) and told["unclear"] == 0
        assert told["allowed"] == len(expected), (used, suggested.stdout)


def test_nothing_is_suggested_by_a_log_that_was_changed(tmp_path):
    log = AuditLog(tmp_path / "log.jsonl")
    for one in EVERYTHING[:5]:
        write(log, *one)
    text = log.path.read_text()
    log.path.write_text(text.replace('"pipeline:1"', '"pipeline:9"', 1))
    told = policy("suggest", "--log", str(log.path))
    assert told.returncode == 2 and told.stdout == "" and "log.jsonl:2: edited" in told.stderr
    assert policy("suggest", "--unverified", "--log", str(log.path)).returncode == 0
