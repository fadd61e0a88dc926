"""git and git-lfs as they are: clone, fetch and push through the proxy."""
import copy
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
import requests

from kit import secrets
from kit.policies import POLICY
from kit.waiting import seconds

REPOSITORY = "/contoso/analytics/_git/dags"


class Git:
    """git in a folder, with an environment of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.environment = {**os.environ, "LC_ALL": "C", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com", "GIT_COMMITTER_NAME": "t",
                            "GIT_COMMITTER_EMAIL": "t@example.com", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader",
                            "GIT_CONFIG_VALUE_0": "X-Airflow-Dag-Id: nightly%20load"}

    def try_(self, *arguments, cwd=None, **environment):
        return subprocess.run(["git", *map(str, arguments)], cwd=cwd or self.folder, env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=seconds(60))

    def __call__(self, *arguments, **more):
        done = self.try_(*arguments, **more)
        assert done.returncode == 0, "git %s: %s" % (arguments[0], done.stderr)
        return done.stdout.strip()


@pytest.fixture
def git(tmp_path):
    (tmp_path / "work").mkdir()
    return Git(tmp_path / "work")


def url_with(world, user, password):
    secrets.basic(user, password)
    return world.proxy.url.replace("://", "://%s%s@" % (user, ":" + password if password else "")) + REPOSITORY


def bearer(token):
    return ["-c", "http.extraHeader=Authorization: Bearer " + token]


def head_of(world):
    return subprocess.run(["git", "-C", world.emulator.repository("analytics", "dags"), "rev-parse", "refs/heads/main"], capture_output=True, text=True).stdout.strip()


def assert_cloned(world, git, folder, anonymous_first):
    assert git("rev-parse", "HEAD", cwd=git.folder / folder) == head_of(world)
    records = world.records()
    if anonymous_first:
        assert records[0]["response"]["status"] == 401 and "subject" not in records[0]["caller"]
        records = records[1:]
    assert len(records) == len(world.emulator.requests()) >= 2
    for record in records:
        assert record["request"]["operation"].startswith("gitHttp.") and record["decision"]["effect"] == "allow" and record["upstream"]["status"] == 200
        assert record["caller"]["subject"] == "airflow-worker" and "repository:dags" in record["request"]["resources"]
        assert record["claimed"]["dag_id"] == "nightly load" and record["decision"]["rule"].startswith("policy.yaml:")


def test_G1_clone_with_credentials_in_the_URL(world, git):
    git("clone", url_with(world, "airflow", world.provider.token()), "clone")
    assert_cloned(world, git, "clone", anonymous_first=True)


def test_G1_clone_with_the_token_as_user(world, git):
    git("clone", url_with(world, world.provider.token(), ""), "clone", GIT_ASKPASS="true")
    assert_cloned(world, git, "clone", anonymous_first=True)


def test_G1_clone_with_askpass(world, git, tmp_path):
    token = world.provider.token()
    secrets.basic("airflow", token)
    script = tmp_path / "askpass"
    script.write_text('#!/bin/sh\ncase "$1" in Username*) echo airflow;; *) echo "%s";; esac\n' % token)
    script.chmod(0o700)
    git("clone", world.proxy.url + REPOSITORY, "clone", GIT_ASKPASS=str(script))
    assert_cloned(world, git, "clone", anonymous_first=True)


def test_G1_clone_with_a_credential_helper(world, git):
    token = world.provider.token()
    secrets.basic("airflow", token)
    git("-c", "credential.helper=!f() { echo username=airflow; echo password=%s; }; f" % token, "clone", world.proxy.url + REPOSITORY, "clone")
    assert_cloned(world, git, "clone", anonymous_first=True)


def test_G1_clone_with_http_extraHeader(world, git):
    git(*bearer(world.provider.token()), "clone", world.proxy.url + REPOSITORY, "clone")
    assert_cloned(world, git, "clone", anonymous_first=False)


def test_G1_a_repository_that_no_rule_names_is_refused_in_words(world, git):
    done = git.try_(*bearer(world.provider.token()), "clone", world.proxy.url + "/contoso/platform/_git/platform", "clone")
    assert done.returncode != 0 and "remote: Dagward refused this (403, correlation" in done.stderr
    assert world.emulator.requests() == []


def test_G2_fetch_depth_1_and_again_with_nothing_new(world, git):
    token = world.provider.token()
    git("init", "-q", "mirror")
    mirror = git.folder / "mirror"
    git("remote", "add", "origin", world.proxy.url + REPOSITORY, cwd=mirror)
    for _ in range(2):
        git(*bearer(token), "fetch", "--depth", "1", "origin", "main", cwd=mirror)
        assert git("rev-parse", "FETCH_HEAD", cwd=mirror) == head_of(world)
    assert git("rev-list", "--count", "FETCH_HEAD", cwd=mirror) == "1"
    assert {r["upstream"]["status"] for r in world.records()} == {200}, "no request was refused on the way"


def test_G3_a_partial_and_a_bare_clone(world, git):
    token = world.provider.token()
    git(*bearer(token), "clone", "--filter=blob:none", "--no-checkout", world.proxy.url + REPOSITORY, "partial")
    git(*bearer(token), "clone", "--bare", world.proxy.url + REPOSITORY, "bare")
    assert git("rev-parse", "refs/heads/main", cwd=git.folder / "bare") == head_of(world)


def test_G4_push_of_3_MB_is_allowed_for_one_role_and_refused_for_another(world, git, issuer):
    publisher, operator = issuer.mint("publisher-1", roles=["publisher"]), world.provider.token()
    git(*bearer(publisher), "clone", world.proxy.url + REPOSITORY, "clone")
    clone = git.folder / "clone"
    (clone / "large.bin").write_bytes(os.urandom(3 << 20))
    git("add", "large.bin", cwd=clone)
    git("commit", "-q", "-m", "3 MB", cwd=clone)
    done = git.try_(*bearer(operator), "push", "origin", "HEAD:refs/heads/main", cwd=clone)
    assert done.returncode != 0
    refused = [r for r in world.records() if r["response"]["status"] == 403]
    assert len(refused) == 1
    line = [x for x in done.stderr.splitlines() if x.startswith("remote:")]
    assert line and refused[0]["correlation_id"] in line[0] and "Dagward" in line[0], done.stderr
    assert not any("receive-pack" in r["target"] for r in world.emulator.requests())
    git(*bearer(publisher), "push", "origin", "HEAD:refs/heads/main", cwd=clone)
    assert head_of(world) == git("rev-parse", "HEAD", cwd=clone)
    pushed = [r for r in world.records() if r["request"]["bytes"] > 3 << 20]
    assert len(pushed) == 1 and pushed[0]["caller"]["subject"] == "publisher-1" and pushed[0]["request"]["access"] == "write"
    posts = [r for r in world.emulator.requests() if r["method"] == "POST" and "receive-pack" in r["target"]]
    assert any("chunked" in {k.lower(): v for k, v in r["headers"].items()}.get("transfer-encoding", "") for r in posts)
    kinds = [r["kind"] for r in world.proxy.of(pushed[0]["correlation_id"])]
    assert kinds == ["intent", "outcome"]


@pytest.fixture
def committer(issuer):
    """May push below refs/heads/airflow/, and nowhere else."""
    return issuer.mint("committer-1", roles=["committer"])


@pytest.fixture
def working_copy(world, git, committer):
    git(*bearer(committer), "clone", world.proxy.url + REPOSITORY, "clone")
    folder = git.folder / "clone"
    (folder / "new.txt").write_text("new")
    git("add", ".", cwd=folder)
    git("commit", "-m", "new", cwd=folder)
    return folder


def refs_of(world):
    done = subprocess.run(["git", "-C", world.emulator.repository("analytics", "dags"), "for-each-ref", "--format=%(refname)"], capture_output=True, text=True)
    return done.stdout.split()


def test_a_push_is_decided_by_the_refs_it_moves(world, git, committer, working_copy):
    git(*bearer(committer), "push", "origin", "HEAD:refs/heads/airflow/a", cwd=working_copy)
    assert "refs/heads/airflow/a" in refs_of(world)
    record = [r for r in world.records() if r["request"]["operation"] == "gitHttp.pack.push" and r["kind"] == "outcome"][-1]
    assert "ref:refs/heads/airflow/a" in record["request"]["resources"] and record["decision"]["effect"] == "allow"
    git(*bearer(committer), "push", "origin", ":refs/heads/airflow/a", cwd=working_copy)
    assert "refs/heads/airflow/a" not in refs_of(world)


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/heads/airflow", "refs/heads/airflowx", "refs/heads/Airflow/a", "refs/tags/airflow/a", "refs/pull/1/merge"])
def test_git_says_ref_by_ref_why_a_push_is_refused(world, git, committer, working_copy, ref):
    before = refs_of(world), head_of(world)
    done = git.try_(*bearer(committer), "push", "origin", "HEAD:" + ref, "HEAD:refs/heads/airflow/b", cwd=working_copy)
    assert done.returncode != 0
    assert done.stderr.count("[remote rejected]") == 2 and "(no role allows gitHttp.push." in done.stderr, done.stderr
    assert "another ref of this push is refused" in done.stderr
    assert (refs_of(world), head_of(world)) == before
    assert not [r for r in world.emulator.requests() if "receive-pack" in r["target"] and r["method"] == "POST"]
    record = [r for r in world.records() if r["request"]["operation"] == "gitHttp.pack.push" and r["kind"] == "outcome"][-1]
    assert record["decision"]["effect"] == "deny" and "ref:" + ref in record["request"]["resources"]


def test_a_refused_push_of_3_MB_in_chunks_is_still_told_why(world, git, committer, working_copy):
    (working_copy / "large.bin").write_bytes(os.urandom(3 << 20))
    git("add", ".", cwd=working_copy)
    git("commit", "-m", "large", cwd=working_copy)
    done = git.try_(*bearer(committer), "push", "origin", "HEAD:refs/heads/main", cwd=working_copy)
    assert done.returncode != 0 and "[remote rejected]" in done.stderr and "no role allows gitHttp.push." in done.stderr, done.stderr
    git(*bearer(committer), "push", "origin", "HEAD:refs/heads/airflow/large", cwd=working_copy)
    assert "refs/heads/airflow/large" in refs_of(world)
    git(*bearer(committer), "push", "origin", ":refs/heads/airflow/large", cwd=working_copy)


ZERO, SOME = "0" * 40, "c0ffee" * 6 + "c0ff"


def line(text):
    return b"%04x%s" % (len(text) + 4, text)


@pytest.mark.parametrize("body", [
    b"", b"00", b"zzzz", b"0001", b"0003", line(b"hello\n") + b"0000",
    line(("%s %s refs/heads/airflow/a\0 report-status" % (ZERO, SOME)).encode()),
    line(("%s %s refs/heads/airflow/../main\0 report-status" % (ZERO, SOME)).encode()) + b"0000",
    line(("%s %s heads/airflow/a\0 report-status" % (ZERO, SOME)).encode()) + b"0000",
    line(("%s %s refs/heads/airflow/a\0 report-status" % (ZERO, SOME)).encode()) + line(("%s %s refs/heads/main\0" % (ZERO, SOME)).encode()) + b"0000",
    line(("%s %s refs/heads/airflow/a\0 report-status" % (ZERO, SOME)).encode()) + line(("%s %s refs/heads/airflow/a" % (ZERO, SOME)).encode()) + b"0000",
    line(b"push-cert\0 report-status") + b"0000",
    b"".join(line(("%s %s refs/heads/airflow/%d" % (ZERO, SOME, i)).encode()) for i in range(49)) + b"0000",
])
def test_malformed_commands_are_refused(world, committer, body):
    answer = world.proxy.ask("POST", REPOSITORY + "/git-receive-pack", committer, [("Content-Type", "application/x-git-receive-pack-request")], body)
    assert answer.status == 400, answer.text
    assert not world.emulator.requests()


def test_commands_that_end_in_the_middle_of_a_chunked_body_are_refused_at_once(world, committer):
    with world.proxy.connect() as client:
        client.send(("POST %s/git-receive-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n" % (REPOSITORY, committer)).encode())
        client.send(b"2\r\n00\r\n0\r\n\r\n")
        assert client.answer().status == 400
    assert not world.emulator.requests()


def test_compressed_commands_are_not_guessed_at(world, committer):
    answer = world.proxy.ask("POST", REPOSITORY + "/git-receive-pack", committer, [("Content-Encoding", "gzip")], b"\x1f\x8b")
    assert answer.status == 400 and not world.emulator.requests()


def test_G7_an_expired_token_is_refused_in_words_and_a_fresh_one_works(world, git, issuer):
    git(*bearer(world.provider.token()), "clone", world.proxy.url + REPOSITORY, "clone")
    clone = git.folder / "clone"
    expired = issuer.mint("operator-1", roles=["operator"], iat=1000, exp=2000)
    git("remote", "set-url", "origin", url_with(world, "airflow", expired), cwd=clone)
    done = git.try_("fetch", cwd=clone)
    refused = [r for r in world.records() if r["response"]["status"] == 401][-1]
    assert done.returncode != 0 and "expired" in done.stderr and "remote:" in done.stderr and refused["correlation_id"] in done.stderr, done.stderr
    git("remote", "set-url", "origin", url_with(world, "airflow", world.provider.token()), cwd=clone)
    git("fetch", cwd=clone)


@pytest.mark.parametrize("how", ["203", "302", "401"])
def test_G8_a_sign_in_page_makes_git_fail(world, git, how):
    world.emulator.behave(signin=how, times=4)
    done = git.try_(*bearer(world.provider.token()), "clone", world.proxy.url + REPOSITORY, "clone")
    world.emulator.behave(signin=None)
    assert done.returncode != 0 and not (git.folder / "clone" / ".git").exists()
    assert "remote: Dagward" in done.stderr and "502" in done.stderr, done.stderr


def test_G9_a_token_file_rewritten_half_way(world, git, tmp_path):
    """As git-sync does: the credential is read again for each round."""
    file = tmp_path / "token"
    git("init", "-q", "sync")
    sync = git.folder / "sync"
    helper = "credential.helper=!f() { echo username=git-sync; printf 'password=%%s\\n' \"$(cat %s)\"; }; f" % file
    for round_ in range(12):
        if round_ % 6 == 0:
            token = world.provider.token()
            secrets.basic("git-sync", token)
            file.write_text(token + "\n")
        git("-c", helper, "fetch", "--depth", "1", world.proxy.url + REPOSITORY, "main", cwd=sync)


@pytest.mark.parametrize("allowed,may", [
    (["git.branch.create"], {"create": True, "update": False, "delete": False, "tag": False}),
    (["git.branch.create", "git.branch.update"], {"create": True, "update": True, "delete": False, "tag": False}),
    (["git.tag.create"], {"create": False, "update": False, "delete": False, "tag": True}),
    (["git.branch.*"], {"create": True, "update": True, "delete": True, "tag": False}),
    (["git.push"], {"create": True, "update": True, "delete": True, "tag": True}),
    (["gitHttp.pack.push", "gitHttp.refs.advertisePush"], {"create": True, "update": True, "delete": True, "tag": True}),
])
def test_branches_and_tags_are_operations_of_their_own(start_proxy, issuer, world, git, allowed, may):
    policy = copy.deepcopy(POLICY)
    policy["roles"]["committer"] = {"allow": [{"operations": ["git.fetch", *allowed], "repositories": ["analytics/dags"]}]}
    pushes_by(start_proxy, issuer, world, git, policy, may)


def test_deleting_a_branch_can_be_denied_by_itself(start_proxy, issuer, world, git):
    policy = copy.deepcopy(POLICY)
    policy["roles"]["committer"] = {"allow": [{"operations": ["git.fetch", "git.push"], "repositories": ["analytics/dags"]}],
                                    "deny": [{"operations": ["git.branch.delete"]}]}
    pushes_by(start_proxy, issuer, world, git, policy, {"create": True, "update": True, "delete": False, "tag": True})
    # The class says it as well: removing is not writing.
    policy["roles"]["committer"] = {"allow": [{"access": ["read", "write"], "areas": ["gitHttp"]}]}
    pushes_by(start_proxy, issuer, world, git, policy, {"create": True, "update": True, "delete": False, "tag": True})


def pushes_by(start_proxy, issuer, world, git, policy, may):
    proxy = start_proxy([issuer.config()], policy, {"hosts": {"*": world.emulator.url}}, workers=1)
    proxy.token_file.write_text(world.proxy.upstream_token + "\n")
    proxy.reload()
    committer = bearer(issuer.mint("committer-1", roles=["committer"]))
    name = "b" + os.urandom(4).hex()
    git(*committer, "clone", "-q", proxy.url + REPOSITORY, name)
    here = git.folder / name
    publisher = issuer.mint("publisher-1", roles=["publisher"])
    behind = lambda *a: git(*bearer(publisher), "push", "-q", world.proxy.url + REPOSITORY, *a, cwd=here)
    for what, arguments in (("create", ["HEAD:refs/heads/" + name]), ("update", ["HEAD:refs/heads/" + name]), ("tag", ["HEAD:refs/tags/" + name]), ("delete", [":refs/heads/" + name])):
        if what == "update":
            if not may["create"]:
                behind("HEAD:refs/heads/" + name)
            git("commit", "-q", "--allow-empty", "-m", "more", cwd=here)
        done = git.try_(*committer, "push", "origin", *arguments, cwd=here)
        assert (done.returncode == 0) == may[what], (what, done.stderr)
        if not may[what]:
            assert "[remote rejected]" in done.stderr and "gitHttp.push." in done.stderr, done.stderr
    world.emulator.forget()


def lfs_batch(world, token, operation):
    """What git-lfs asks before it moves objects."""
    body = {"operation": operation, "transfers": ["basic"], "objects": [{"oid": "ab" * 32, "size": 10}]}
    return requests.post(world.proxy.url + REPOSITORY + ".git/info/lfs/objects/batch", data=json.dumps(body), auth=("airflow", token), timeout=seconds(10),
                         headers={"Accept": "application/vnd.git-lfs+json", "Content-Type": "application/vnd.git-lfs+json; charset=utf-8"})


def test_G6_an_LFS_batch_is_judged_by_what_it_is_for(world, issuer):
    publisher, operator = issuer.mint("publisher-1", roles=["publisher"]), world.provider.token()
    for token in (publisher, operator):
        secrets.basic("airflow", token)
    assert [lfs_batch(world, token, op).status_code for token in (publisher, operator) for op in ("download", "upload")] == [200, 200, 200, 403]
    refused = lfs_batch(world, operator, "upload")
    assert refused.headers["Content-Type"].startswith("application/vnd.git-lfs+json") and refused.json()["message"]
    assert len(world.emulator.requests()) == 3
    # The object itself, at the place where the answer's links belong.
    content = os.urandom(300_000)
    where = "%s%s.git/info/lfs/objects/%s" % (world.proxy.url, REPOSITORY, hashlib.sha256(content).hexdigest())
    put = lambda token: requests.put(where, data=content, auth=("airflow", token), timeout=seconds(10), headers={"Content-Type": "application/octet-stream"})
    assert put(operator).status_code == 403 and put(publisher).status_code == 200
    assert requests.get(where, auth=("airflow", operator), timeout=seconds(10)).content == content


def test_curl(world):
    token = world.provider.token()
    for arguments in (["-H", "Authorization: Bearer " + token], ["-u", "airflow:" + token], ["-H", "X-Dagward-Token: " + token]):
        secrets.basic("airflow", token)
        done = subprocess.run(["curl", "-sS", "-D", "-", *arguments, "-H", "Content-Type: application/json", "-d", "{}",
                               world.proxy.url + "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"], capture_output=True, text=True, timeout=seconds(20))
        assert done.returncode == 0 and done.stdout.startswith("HTTP/1.1 200"), done.stdout + done.stderr
    assert len(world.emulator.requests()) == 3
