"""What `policy suggest` writes allows all that was used and, as far as entries can say it, nothing else."""

import gzip
import itertools
import json
import random
import re
import subprocess

from kit.audit_log import AuditLog, new_key
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


def test_what_nobody_signed_becomes_no_right(tmp_path):
    log = AuditLog(tmp_path / "log.jsonl", new_key(tmp_path / "key"))
    key = ["--key", str(tmp_path / "key")]
    new_key(tmp_path / "another")
    write(log, "red", "1", None)
    log.checkpoint()
    write(log, "blue", "2", None)
    log.checkpoint()
    for pipeline in ("3", "4"):
        write(log, "green", pipeline, None)

    def told(command, *arguments, path=log.path, **options):
        with_policy = ["--policy", str(tmp_path / "suggested.yaml")] if command == "replay" else []
        done = subprocess.run([BINARY, "policy", command, *with_policy, *arguments, "--json", "--log", str(path)], capture_output=True, text=True, **options)
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout), done.stderr

    without, said = told("suggest")
    assert without["requests"] == 4 and without["unsigned"] == 0 and "green" in without["policy"] and not said
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(log.path.read_bytes()))
    for path, options in ((log.path, {}), (packed, {}), ("-", {"stdin": open(log.path)})):
        signed, said = told("suggest", *key, path=path, **options)
        assert signed["requests"] == 2 and signed["unsigned"] == 2 and "green" not in signed["policy"] and "blue" in signed["policy"], signed
        assert "2 record(s) behind seq 5 are left out: no key that was given has signed them" in said
    (tmp_path / "suggested.yaml").write_text(signed["policy"])
    replayed, said = told("replay", *key)
    assert replayed["records"] == 2 and replayed["same"] == 2 and replayed["unsigned"] == 2 and "left out" in said
    assert told("replay")[0]["records"] == 4
    text = policy("replay", "--policy", str(tmp_path / "suggested.yaml"), *key, "--log", str(log.path))
    assert text.returncode == 0 and "2 records behind the last signature are left out" in text.stdout
    # A place is still that of its line.
    changed = re.sub(r"\bred\b", "green", signed["policy"])
    (tmp_path / "suggested.yaml").write_text(changed)
    assert {one["record"].rsplit(":", 1)[1] for one in told("replay", *key)[0]["changes"]} == {"2"}
    # And nothing where that key has signed nothing; all of it is taken as it is when that is asked for.
    assert policy("suggest", "--key", str(tmp_path / "another"), "--log", str(log.path)).returncode == 2
    assert told("suggest", *key, "--unverified")[0]["requests"] == 4
