"""Checkpoints, rotation and retention of the whole program, and the log checked with public tools."""
import copy
import gzip
import json
import re
import shutil
import signal
import subprocess
import time

import pytest

from kit.policies import POLICY
from kit.upstreams import message
from kit.waiting import BINARY, ROOT, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"


def verify(*arguments):
    told = subprocess.run([BINARY, "audit", "verify", "--json", *arguments], capture_output=True, text=True)
    return told.returncode, json.loads(told.stdout)


def closed(proxy, suffix=""):
    return sorted(proxy.folder.glob("audit.jsonl.2*Z-*" + suffix))


@pytest.fixture
def signed(start_proxy, issuer, upstream, tmp_path):
    """A proxy that signs often and has an anchor."""
    audit = {"checkpoints": {"records": 5, "interval": "1s"}, "anchor": str(tmp_path / "anchor")}
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, audit=audit)
    proxy.anchor = tmp_path / "anchor"
    proxy.public = tmp_path / "public.pem"
    proxy.public.write_text(proxy.admin_get("/.well-known/dagward/audit-key").text)
    return proxy


def test_the_log_is_signed_with_the_key_that_the_admin_listener_shows(signed, operator):
    assert signed.public.read_text().startswith("-----BEGIN PUBLIC KEY-----\n")
    for _ in range(12):
        signed.ask("POST", RUNS, operator, body=b"{}")
    status, told = verify("--key", signed.public, signed.audit_file)
    assert status == 0 and told["checkpoints"] >= 4 and told["live"] and not told["closed"], told
    signed.stop()
    status, told = verify("--key", signed.public, "--anchor", signed.anchor, "--closed", signed.audit_file)
    assert status == 0 and told["closed"] and told["signed_seq"] == told["last_seq"], told
    assert told["anchor"] == {"checkpoints": told["checkpoints"], "met": told["checkpoints"], "others": 0}
    key = signed.folder / "audit.jsonl.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in signed.audit_file.read_text() + signed.log() + signed.public.read_text()


def test_a_report_says_whose_key_it_was_verified_with(signed, operator, tmp_path):
    for _ in range(6):
        signed.ask("GET", RUNS, operator)
    signed.stop()
    other = tmp_path / "other.pem"
    secret = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True).stdout
    subprocess.run(["openssl", "pkey", "-pubout", "-out", other], input=secret, check=True)

    def report(*key):
        told = subprocess.run([BINARY, "audit", "report", "-o", "-", *key, signed.audit_file], capture_output=True, text=True)
        return told.returncode, told.stdout

    status, page = report("--key", signed.public)
    assert status == 0 and "verified with the public key that was given" in page
    status, page = report()
    assert status == 0 and "by the key that the files themselves name" in page
    status, page = report("--key", other)
    assert status == 1 and "unknown-key" in page and "do not rely" in page
    assert report("--key", signed.audit_file)[0] == 2


def test_a_record_waits_a_moment_for_its_signature(signed, operator):
    signed.ask("GET", RUNS, operator)
    signed.outcomes(1)
    until(lambda: signed.records()[-1].get("event", {}).get("name") == "log.checkpoint", "the interval is over")


def test_the_log_is_rotated_and_stays_one_chain(signed, operator):
    for _ in range(3):
        for _ in range(3):
            signed.ask("POST", RUNS, operator, body=b"{}")
        signed.outcomes(3)
        n = len(closed(signed))
        signed.signal(signal.SIGUSR1)
        until(lambda: len(closed(signed, ".gz")) == n + 1, "the file is closed and packed")
    signed.stop()
    files = [*closed(signed), signed.audit_file]
    arguments = ["--key", signed.public, "--anchor", signed.anchor, "--closed"]
    status, told = verify(*arguments, *reversed(files))
    assert status == 0 and told["first_seq"] == 1, told
    status, told = verify(*arguments, files[0], files[2], files[3])
    missing = files[1].name.rsplit("-", 1)[1].removesuffix(".gz")
    assert status == 1 and told["fault"]["kind"] == "gap" and missing in told["fault"]["text"], told
    assert str(files[0]) in told["fault"]["text"] and told["fault"]["file"] == str(files[2])
    status, told = verify(*arguments, *files[:3])
    assert status == 1 and told["fault"]["kind"] == "truncated", told
    shown = subprocess.run([BINARY, "audit", "show", files[0], "--last", "5"], capture_output=True, text=True)
    assert shown.returncode == 0 and "log.checkpoint" in shown.stdout.splitlines()[-1]


def test_a_log_is_closed_by_its_size_and_old_ones_go(start_proxy, issuer, upstream, operator):
    audit = {"rotate": {"size": "64KiB", "keep": 2}}
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, audit=audit)
    proxy.whole_audit = False  # outcomes and intents are in different files
    deadline = time.monotonic() + seconds(60)
    while not any("log.deleted" in gzip.open(f, "rt").read() for f in closed(proxy, ".gz")) and time.monotonic() < deadline:
        proxy.ask("POST", RUNS, operator, body=b"{}")
    until(lambda: len(closed(proxy)) <= 3, "old files are deleted")
    key = proxy.folder / "public.pem"
    key.write_text(proxy.admin_get("/.well-known/dagward/audit-key").text)
    proxy.stop()
    status, told = verify("--closed", "--key", key, *closed(proxy), proxy.audit_file)
    assert status == 0 and told["first_seq"] > 1 and told["deleted_seq"] >= told["first_seq"] - 1, told


def test_a_log_without_its_end_is_found_by_the_anchor(signed, operator, tmp_path):
    for _ in range(10):
        signed.ask("POST", RUNS, operator, body=b"{}")
    signed.stop()
    lines = signed.audit_file.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut"
    for n in (3, len(lines) - 1):
        cut.write_bytes(b"".join(lines[:n]))
        status, told = verify("--anchor", signed.anchor, cut)
        assert status == 1 and told["fault"]["kind"] == "truncated", told
    status, told = verify("--key", signed.public, cut)
    assert status == 0 and not told["closed"] and not told["live"], "of this the log alone cannot tell"


def test_a_given_key_signs_and_another_one_begins_a_file(start_proxy, issuer, upstream, operator, tmp_path):
    keys = []
    for name in ("one", "two"):
        keys.append(tmp_path / (name + ".pem"))
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", keys[-1]], check=True)
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, audit={"signing_key": str(keys[0])})
    proxy.ask("GET", RUNS, operator)
    proxy.outcomes(1)
    proxy.stop()
    assert not (proxy.folder / "audit.jsonl.key").exists()
    assert verify("--key", keys[0], "--closed", proxy.audit_file)[0] == 0
    status, told = verify("--key", keys[1], proxy.audit_file)
    assert status == 1 and told["fault"]["kind"] == "unknown-key"
    proxy.config["audit"]["signing_key"] = str(keys[1])
    proxy.start()
    proxy.stop()
    (first,) = closed(proxy)
    assert verify("--key", keys[0], "--key", keys[1], "--closed", first, proxy.audit_file)[0] == 0
    assert verify("--key", keys[0], first)[0] == 0


def test_a_bad_signing_key_stops_the_start_and_the_check(start_proxy, issuer, upstream, tmp_path):
    key = tmp_path / "bad.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", key], check=True, capture_output=True)
    proxy = start_proxy([issuer.config()], POLICY, upstream.url)
    proxy.stop()
    proxy.config["audit"]["signing_key"] = str(key)
    proxy.start(expect_failure=True)
    assert proxy.process.wait(timeout=seconds(10)) == 2
    proxy.process = None
    assert "not Ed25519" in proxy.log()
    told = subprocess.run([BINARY, "check", "--config", proxy.config_file], capture_output=True, text=True)
    assert told.returncode == 2 and "not Ed25519" in told.stdout + told.stderr


def script_of_the_guide():
    """The script that docs/audit.md gives to auditors."""
    return re.search(r"```sh\n(#!/bin/sh\n# check-audit.*?)```", (ROOT / "docs/audit.md").read_text(), re.S).group(1)


def test_the_log_can_be_checked_with_public_tools_alone(signed, operator, tmp_path):
    for tool in ("sh", "openssl", "jq"):
        if not shutil.which(tool):
            pytest.skip("there is no %s" % tool)
    for _ in range(4):
        signed.ask("POST", RUNS, operator, [("X-Airflow-Dag-Id", '"hash":"\\x'), ("User-Agent", '%d ,"prev":" \\n')], body=b"{}")
    signed.outcomes(4)
    signed.signal(signal.SIGUSR1)
    until(lambda: closed(signed, ".gz"), "the file is packed")
    signed.ask("POST", RUNS, operator, body=b"{}")
    signed.outcomes(1)
    signed.stop()
    script, plain = tmp_path / "check-audit", tmp_path / "first"
    script.write_text(script_of_the_guide())
    plain.write_bytes(gzip.decompress(closed(signed)[0].read_bytes()))
    run = lambda *files, key=signed.public: subprocess.run(["sh", script, key, *files], capture_output=True, text=True)
    last = signed.records()[-1]["seq"]
    told = run(plain, signed.audit_file)
    assert (told.returncode, told.stdout, told.stderr) == (0, "whole up to seq %d, signed up to seq %d\n" % (last, last), "")
    assert run(signed.audit_file).returncode == 0, "one that is not the first"
    lines = plain.read_bytes().splitlines(keepends=True)
    changed = tmp_path / "changed"
    post = next(i for i, line in enumerate(lines) if b'"POST"' in line)
    cases = {
        "edited": lines[:post] + [lines[post].replace(b'"POST"', b'"PUT"')] + lines[post + 1:],
        "does not follow": lines[:3] + lines[4:],
        "torn": [*lines, lines[0][:100]],
        "the signature is not this key's": lines,
    }
    for why, content in cases.items():
        changed.write_bytes(b"".join(content))
        key = signed.public
        if "signature" in why:
            key = tmp_path / "other.pem"
            private = tmp_path / "other-private.pem"
            subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
            subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", key], check=True)
        told = run(changed, key=key)
        assert told.returncode == 1 and why in told.stdout, (why, told.stdout, told.stderr)


def test_what_a_caller_says_leaves_room_for_its_record(start_proxy, issuer, upstream, operator):
    """A ref nearly as long as a request may name: what was started, and with what, is recorded all the same."""
    policy = copy.deepcopy(POLICY)
    policy["roles"]["operator"] = {"allow": [{"operations": ["build.builds.queue"], "projects": ["analytics"], "pipelines": [42], "where": {"refs": ["refs/heads/*"]}}]}
    proxy = start_proxy([issuer.config()], policy, upstream.url, workers=1)
    upstream.always = message(200, '{"id": 7, "url": "https://dev.azure.com/contoso/7"}')

    def queue(length):
        body = {"definition": {"id": 42}, "sourceBranch": "refs/heads/" + "m" * length, "templateParameters": {"environment": "staging"}}
        return proxy.ask("POST", "/contoso/analytics/_apis/build/builds?api-version=7.1", operator, [("Content-Type", "application/json")], json.dumps(body).encode())

    least, most = 1000, 300_000
    while most - least > 1:
        length = (least + most) // 2
        least, most = (length, most) if queue(length).status == 200 else (least, length)
    assert queue(most).status == 431
    for length in range(least, least - 3000, -150):
        answer = queue(length)
        assert answer.status == 200
        for record in proxy.of(answer):
            assert "pipeline:42" in record["request"]["resources"] and record["request"]["says"] == ["templateParameters.environment"]
        assert proxy.outcome(answer)["run"]["id"] == "7"
