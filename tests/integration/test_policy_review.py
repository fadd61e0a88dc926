"""The pipelines of docs/policy.md review a change of policy: their steps are taken from the page and run as the CI system would, beside stand-ins for `gh` and `curl`."""

import json
import os
import re
import subprocess

import pytest
import yaml

from kit.waiting import BINARY, ROOT

POLICY = """version: 1
roles:
  etl:
    allow: [{operations: [pipelines.runs.run], organizations: [contoso], projects: [analytics], pipelines: [42]}]
bindings: [{name: workers, callers: {issuer: airflow, subject: worker}, roles: [etl], credential: etl}]
tests:
  - name: a worker starts 42
    caller: {issuer: airflow, subject: worker}
    request: POST /contoso/analytics/_apis/pipelines/42/runs
    expect: allow
  - name: a worker does not start 99
    caller: {issuer: airflow, subject: worker}
    request: POST /contoso/analytics/_apis/pipelines/99/runs
    expect: deny
"""

STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" >"$STAND_IN_DIR/$(basename "$0").arguments"
cat >"$STAND_IN_DIR/$(basename "$0").input"
"""


def snippets():
    """The `yaml` blocks of the section, by their first line."""
    page = (ROOT / "docs/policy.md").read_text()
    section = page.split("### In a pull request", 1)[1].split("\n## ", 1)[0]
    return {block.split("\n", 1)[0]: yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", section, re.S)}


def snippet(name):
    return next(content for first, content in snippets().items() if name in first)


class Review:
    """A repository in which a pull request changes policies/, checked out as its merge."""

    def __init__(self, folder):
        self.folder, self.repo = folder, folder / "repo"
        self.temp, self.bin = folder / "temp", folder / "bin"
        for one in (self.repo / "policies", self.temp, self.bin):
            one.mkdir(parents=True)
        (self.bin / "dagward").symlink_to(BINARY)
        for name in ("gh", "curl"):
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        self.git("init", "-q", "-b", "main")
        (self.repo / "policies/etl.yaml").write_text(POLICY)
        self.commit("before")
        self.git("update-ref", "refs/remotes/origin/main", "HEAD")
        self.base = self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments):
        return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t.example", *arguments], cwd=self.repo, check=True, capture_output=True, text=True).stdout

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def change(self, before, after):
        file = self.repo / "policies/etl.yaml"
        assert before in POLICY
        file.write_text(POLICY.replace(before, after))
        self.commit("after")

    def bash(self, script, *options, **environment):
        return subprocess.run(["bash", "--noprofile", "--norc", *options, "-c", script], cwd=self.repo, capture_output=True, text=True, check=False,
                              env={"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.folder), "STAND_IN_DIR": str(self.folder), **environment})

    def said(self, name):
        """What the stand-in was given, or None if it was not called."""
        file = self.folder / f"{name}.arguments"
        return (file.read_text().splitlines(), (self.folder / f"{name}.input").read_text()) if file.exists() else None


def on_github(review):
    values = {"github.event.pull_request.base.sha": review.base, "github.event.number": "7", "github.token": "canary"}
    steps = [step for step in snippet("workflows")["jobs"]["policy"]["steps"] if "run" in step]
    for step in steps:
        script = re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: values[found[1]], step["run"])
        done = review.bash(script, "-e", RUNNER_TEMP=str(review.temp))  # the default shell of a step is `bash -e`
        if done.returncode:
            break
    given = review.said("gh")
    if given:
        assert given[0][:3] == ["pr", "comment", "7"]
    return done, given and given[1]


def on_azure(review):
    (step,) = [step for step in snippet("azure-pipelines.yml")["steps"] if "bash" in step]
    done = review.bash(step["bash"], AGENT_TEMPDIRECTORY=str(review.temp), SYSTEM_PULLREQUEST_TARGETBRANCH="refs/heads/main", SYSTEM_ACCESSTOKEN="canary",
                       SYSTEM_COLLECTIONURI="https://dev.azure.com/contoso/", SYSTEM_TEAMPROJECTID="p1", BUILD_REPOSITORY_ID="r1", SYSTEM_PULLREQUEST_PULLREQUESTID="7")
    given = review.said("curl")
    if not given:
        return done, None
    assert "https://dev.azure.com/contoso/p1/_apis/git/repositories/r1/pullRequests/7/threads?api-version=7.1" in given[0]
    thread = json.loads(given[1])
    assert thread["status"] == "active"
    return done, thread["comments"][0]["content"]


@pytest.fixture
def review(tmp_path):
    return Review(tmp_path)


BOTH = pytest.mark.parametrize("pipeline", [on_github, on_azure])


@BOTH
def test_a_change_without_effect_passes(review, pipeline):
    review.change("name: a worker starts 42", "name: a worker starts the load")
    done, comment = pipeline(review)
    assert done.returncode == 0, done.stderr
    assert "**2 passed, 0 failed; 1 of 1 entries reached by a test**" in comment
    assert "0 more possible, 0 no longer, 0 bindings changed" in comment
    assert "0 findings" in comment


@BOTH
def test_a_change_that_widens_passes_and_is_told(review, pipeline):
    review.change("pipelines: [42]", "pipelines: [42, 57, 58]")
    done, comment = pipeline(review)
    assert done.returncode == 0, done.stderr
    assert "1 more possible, 0 no longer" in comment
    assert "pipeline 57, and 1 more that were tried" in comment and "POST /contoso/analytics/_apis/pipelines/57/runs" in comment


@BOTH
def test_what_lint_finds_is_told_and_does_not_stop(review, pipeline):
    review.change("pipelines: [42]}]", "pipelines: [42]}, {operations: [git.fetch], projects: [analytics], pipelines: [42]}]")
    done, comment = pipeline(review)
    assert done.returncode == 0, done.stderr
    assert "never-matches" in comment and "etl.yaml:4:" in comment


@BOTH
def test_a_change_that_fails_a_test_is_told_and_stops(review, pipeline):
    review.change("pipelines: [42]", "pipelines: ['*']")
    done, comment = pipeline(review)
    assert done.returncode != 0
    assert "a worker does not start 99" in comment
    assert "more possible" in comment, "the difference is told even so"


@BOTH
def test_a_policy_that_does_not_load_stops(review, pipeline):
    review.change("pipelines.runs.run", "pipelines.runs.rum")
    done, comment = pipeline(review)
    assert done.returncode != 0
    assert "etl.yaml:4:" in done.stderr and "pipelines.runs.run" in done.stderr
    assert comment is None or "more possible" not in comment


@BOTH
def test_the_first_policies_of_a_repository_are_all_new(review, pipeline):
    review.git("rm", "-q", "-r", "policies")
    (review.repo / "README").write_text("empty\n")
    review.commit("nothing yet")
    review.git("update-ref", "refs/remotes/origin/main", "HEAD")
    review.base = review.git("rev-parse", "HEAD").strip()
    (review.repo / "policies").mkdir()
    (review.repo / "policies/etl.yaml").write_text(POLICY)
    review.commit("first")
    done, comment = pipeline(review)
    assert done.returncode == 0, done.stderr
    assert "1 more possible, 0 no longer, 1 bindings changed" in comment


@BOTH
def test_a_long_comment_is_cut_and_told(review, pipeline):
    # Of each entry that is new, a line is told.
    entries = "".join(f", {{operations: [pipelines.runs.run], organizations: [contoso], projects: [analytics], pipelines: [{number}]}}" for number in range(1000, 1400))
    review.change("pipelines: [42]}]", f"pipelines: [42]}}{entries}]")
    done, comment = pipeline(review)
    assert done.returncode == 0, done.stderr
    assert "| Operation |" in comment
    if pipeline is on_github:
        assert len(comment) < 65536, "the most that GitHub takes"
    assert len(comment) < 150000, "the most that Azure DevOps takes"
