"""`dagward audit trace`: one story, found by any of its ids, however the logs lie around."""

import gzip
import json
import os
import shutil
import subprocess

import pytest

from kit import waiting
from kit.audit_log import AuditLog

CORRELATION = "019ab1c2-0000-7000-8000-000000000002"
REQUEST = "019ab1c2-0000-7000-8000-0000000000aa"
ACTIVITY = "0f8fad5b-d9cb-469f-a165-70867728950e"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
DAG = "nightly/scheduled__2026-11-23T00:00:00+00:00"
HOSTILE = "x\x1b[2J\x1b]0;owned\x07\u202egpj\u2066\r\nfoo\x00`|<b>"


def run(*arguments, **options):
    return subprocess.run(
        [waiting.BINARY, "audit", "trace", *map(str, arguments)],
        capture_output=True,
        timeout=waiting.seconds(60),
        **options,
    )


def trace(*arguments, **options):
    ended = run(*arguments, "--json", **options)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def told(story):
    """(what, seq) of each record."""
    return [(one["what"], one["record"]["seq"]) for one in story["records"]]


@pytest.fixture
def logs(tmp_path):
    """Two files of one chain: a try that fails, one that starts run 1234, six looks at it, a tag."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AuditLog(folder / "audit.jsonl.1")
    log.request(request={"resources": ["build:77"]}, claimed={"dag_id": "other"})
    log.start(None, response={"status": 502}, decision={"effect": "error", "reason": "upstream died"})
    log.start(
        1234,
        correlation_id=CORRELATION,
        request_id=REQUEST,
        traceparent="00-%s-00f067aa0ba902b7-01" % TRACE,
        claimed={"try_number": "2"},
        upstream={"activity_id": ACTIVITY.upper()},
    )
    log.begin(folder / "audit.jsonl")
    for _ in range(6):
        log.request(
            step=5000,
            request={"resources": ["build:1234"], "path": "/contoso/analytics/_apis/build/builds/1234"},
            claimed={"task_id": "wait"},
        )
    log.event("run.tagged", run="1234", tag="airflow:nightly")
    log.request(request={"resources": ["build:1234"], "organization": "fabrikam"}, claimed={"dag_id": "other"})
    log.close()
    return [folder / "audit.jsonl.1", folder / "audit.jsonl"]


# The tries (seq 3 and 4), the start (5 and 6), the looks (8 to 13) and the tag.
WHOLE = [3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    "asked",
    [
        CORRELATION,
        CORRELATION.upper(),
        CORRELATION.replace("-", ""),
        REQUEST,
        ACTIVITY,
        TRACE,
        DAG,
        "dag:%s" % DAG,
        DAG + "/start",
    ],
)
def test_any_id_leads_to_the_whole_story(logs, asked):
    story = trace(asked, *logs)
    assert [seq for _, seq in told(story)] == WHOLE
    assert [what for what, _ in told(story)] == ["intent", "other try", "intent", "start"] + ["poll"] * 6 + ["event"]
    assert story["complete"] and story["damaged_lines"] == 0
    assert all(one["intact"] for one in story["records"])
    assert story["runs"] == ["1234 of contoso/analytics, https://dev.azure.com/contoso/_build?buildId=1234"]


@pytest.mark.parametrize("asked", ["run:1234", "1234"])
def test_a_number_is_a_run_of_whatever_organization(logs, asked):
    # Who started it belongs to contoso; a bare number also finds fabrikam's run of that number.
    assert [seq for _, seq in told(trace(asked, *logs))] == WHOLE + [15]


def test_what_is_shown_is_what_stands_in_the_log(logs):
    lines = [line for path in logs for line in path.read_text().splitlines()]
    for one in trace(CORRELATION, *logs)["records"]:
        assert one["record"] == json.loads(lines[one["record"]["seq"] - 1])
        text = open(one["file"], "rb").read()
        assert json.loads(text[one["offset"] :].split(b"\n")[0]) == one["record"]


def test_files_may_be_compressed_come_in_any_order_and_twice(logs, tmp_path):
    packed = tmp_path / "old.gz"
    packed.write_bytes(gzip.compress(logs[0].read_bytes()))
    for files in ([logs[1], packed], [packed, logs[0], logs[1]], [logs[1], logs[1], logs[0]]):
        assert [seq for _, seq in told(trace(CORRELATION, *files))] == WHOLE
    both = gzip.compress(logs[0].read_bytes()) + gzip.compress(logs[1].read_bytes())
    assert [seq for _, seq in told(trace(CORRELATION, "-", input=both))] == WHOLE


def test_a_gzip_file_that_ends_too_early_is_an_error(logs, tmp_path):
    packed = tmp_path / "old.gz"
    packed.write_bytes(gzip.compress(logs[0].read_bytes())[:-20])
    ended = run(CORRELATION, packed)
    assert ended.returncode == 2 and b"ends too early" in ended.stderr


def test_somebody_else_who_claims_the_same_task_is_not_followed(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    log.start(5, correlation_id=CORRELATION)
    log.start(6, caller={"subject": "mallory"})
    log.close()
    assert trace(CORRELATION, tmp_path / "a.jsonl")["callers"] == [
        "system:serviceaccount:airflow:worker, verified by issuer airflow"
    ]
    # Asked for the DAG run itself, both claims are shown, each with its caller.
    assert len(trace(DAG, tmp_path / "a.jsonl")["callers"]) == 2


def test_a_record_that_was_edited_is_said_to_be(logs):
    text = logs[0].read_text()
    logs[0].write_text(text.replace('"try_number":"2"', '"try_number":"9"'))
    story = trace(CORRELATION, *logs)
    assert [one["record"]["seq"] for one in story["records"] if not one["intact"]] == [5, 6]
    assert b"EDITED" in run(CORRELATION, *logs).stdout
    assert b"EDITED" in run(CORRELATION, *logs, "--format", "markdown").stdout


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_terminal_obeys_nothing_of_a_record(tmp_path, form):
    log = AuditLog(tmp_path / "a.jsonl")
    fields = {
        "caller": {"subject": HOSTILE, "token_id": HOSTILE, "address": HOSTILE, "via": HOSTILE},
        "claimed": {name: HOSTILE for name in ("dag_id", "run_id", "task_id", "try_number", "map_index", "user_agent")},
        "request": {"method": HOSTILE, "path": HOSTILE, "query": HOSTILE, "project": HOSTILE, "resources": ["ref:" + HOSTILE]},
        "decision": {"effect": "deny", "reason": HOSTILE, "break_glass": HOSTILE},
        "run": {"id": HOSTILE, "url": HOSTILE},
    }
    log.request(correlation_id=CORRELATION, **fields)
    log.event("odd", run=HOSTILE, note=HOSTILE)
    log.close()
    ended = run(CORRELATION, tmp_path / "a.jsonl", "--format", form)
    text = ended.stdout.decode()
    assert ended.returncode == 0 and "owned" in text
    assert not set(text) & set("\x1b\x07\x00\r\x9b"), "a control"
    if form == "text":
        assert not set(text) & set("\u202e\u2066"), "a change of direction"
    else:
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len(rows) == 4 and all(len(row.replace("\\|", "").split("|")) == 9 for row in rows)


def test_a_sensor_is_told_once(logs):
    text = run(CORRELATION, *logs).stdout.decode()
    assert "... and 5 more like it, the last at 2026-11-23T09:00:30" in text
    assert text.count("/_apis/build/builds/1234\n") == 1
    assert "claims; nobody verified it" in text


# --- the index ---

HEAD = 8 + 8 * 8 + 1024 * 8  # bytes in front of its entries


def index_files(folder):
    return sorted(path for path in folder.glob("trace-*.idx*"))


def test_the_index_is_made_once_and_the_log_is_not_touched(logs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in logs]
    trace(CORRELATION, *logs)
    kept = tmp_path / "cache" / "dagward"
    made = {path: (path.stat().st_ino, path.stat().st_mode & 0o777) for path in index_files(kept)}
    assert len(made) == 2 and {mode for _, mode in made.values()} == {0o600}
    assert kept.stat().st_mode & 0o777 == 0o700
    assert [seq for _, seq in told(trace(CORRELATION, *logs))] == WHOLE
    assert {path: path.stat().st_ino for path in index_files(kept)} == {path: ino for path, (ino, _) in made.items()}
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in logs] == before
    assert sorted(path.name for path in logs[0].parent.iterdir()) == ["audit.jsonl", "audit.jsonl.1"]


def test_what_was_appended_since_is_found(logs, tmp_path):
    cache = tmp_path / "index"
    log = AuditLog(tmp_path / "a.jsonl")
    log.start(5, correlation_id=CORRELATION)
    assert len(trace(CORRELATION, log.path, "--index", cache)["records"]) == 2
    log.request(request={"resources": ["build:5"]})
    assert len(trace(CORRELATION, log.path, "--index", cache)["records"]) == 3
    # A lot: the index is brought up to date.
    for _ in range(9000):
        log.line('"time":"2026-11-23T10:00:00.000Z","kind":"event","event":{"name":"noise","detail":{"x":"%s"}}' % ("y" * 900))
    log.request(request={"resources": ["build:5"]})
    size = index_files(cache)[0].stat().st_size
    assert len(trace(CORRELATION, log.path, "--index", cache)["records"]) == 4
    log.request(request={"resources": ["build:5"]})
    assert len(trace(CORRELATION, log.path, "--index", cache)["records"]) == 5
    assert len(index_files(cache)) == 1 and index_files(cache)[0].stat().st_size > size
    log.close()


def test_after_a_rotation_the_index_goes_with_its_file(logs, tmp_path):
    cache = tmp_path / "index"
    trace(CORRELATION, *logs, "--index", cache)
    made = {path: path.stat().st_ino for path in index_files(cache)}
    logs[0].rename(tmp_path / "moved")
    assert [seq for _, seq in told(trace(CORRELATION, tmp_path / "moved", logs[1], "--index", cache))] == WHOLE
    assert {path: path.stat().st_ino for path in index_files(cache)} == made


def test_a_log_that_was_written_anew_is_read_anew(logs, tmp_path):
    cache = tmp_path / "index"
    trace(CORRELATION, *logs, "--index", cache)
    other = CORRELATION.replace("2", "3")
    stat = logs[0].stat()
    text = logs[0].read_text().replace(CORRELATION, other)
    with open(logs[0], "r+") as file:  # the same file, the same size
        file.write(text)
    os.utime(logs[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert trace(other, logs[0], "--index", cache)["records"]
    assert run(CORRELATION, logs[0], "--index", cache).returncode == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "noise", "segments"])
def test_an_index_that_is_damaged_is_made_again(logs, tmp_path, damage):
    cache = tmp_path / "index"
    trace(CORRELATION, *logs, "--index", cache)
    for path in index_files(cache):
        good = path.read_bytes()
        path.write_bytes(
            {
                "empty": b"",
                "cut": good[:HEAD],
                "zeros": bytes(len(good)),
                "noise": bytes(range(256)) * (len(good) // 256),
                "segments": good[:64] + b"\xff" * 64 + good[128:],
            }[damage]
        )
    assert [seq for _, seq in told(trace(CORRELATION, *logs, "--index", cache))] == WHOLE


def key_of(uuid):
    """As audit_index.c makes keys of ids."""
    value = (0xCBF29CE484222325 ^ ord("i")) * 0x100000001B3 % 2**64
    for byte in uuid.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD % 2**64
    return (value ^ value >> 33) >> 32


def test_what_an_index_says_is_looked_up_in_the_log(logs, tmp_path):
    cache, absent = tmp_path / "index", "00000000-0000-4000-8000-000000000000"
    trace(CORRELATION, *logs, "--index", cache)
    indexes = [path.read_bytes() for path in index_files(cache)]
    assert any(key_of(CORRELATION).to_bytes(4, "little") in index[HEAD:] for index in indexes)
    for path, index in zip(index_files(cache), indexes):
        # Every entry says that this id stands in the first block.
        lie = (key_of(absent) << 32).to_bytes(8, "little")
        path.write_bytes(index[:HEAD] + lie * ((len(index) - HEAD) // 8))
    assert run(absent, *logs, "--index", cache).returncode == 1


def test_two_that_build_at_once_leave_one_whole_index(logs, tmp_path):
    cache = tmp_path / "index"
    started = [
        subprocess.Popen(
            [waiting.BINARY, "audit", "trace", CORRELATION, *logs, "--json", "--index", cache],
            stdout=subprocess.PIPE,
        )
        for _ in range(8)
    ]
    for one in started:
        out, _ = one.communicate(timeout=waiting.seconds(60))
        assert one.returncode == 0 and [seq for _, seq in told(json.loads(out))] == WHOLE
    assert len(index_files(cache)) == 2


def test_without_a_place_for_an_index_it_reads_everything_and_says_so(logs, tmp_path, monkeypatch):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a directory should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    ended = run(CORRELATION, *logs, "--json")
    assert ended.returncode == 0 and [seq for _, seq in told(json.loads(ended.stdout))] == WHOLE
    assert b"no index can be kept" in ended.stderr and b"read whole" in ended.stderr
    ended = run(CORRELATION, *logs, "--json", "--no-index")
    assert [seq for _, seq in told(json.loads(ended.stdout))] == WHOLE and ended.stderr == b""


@pytest.mark.parametrize("members, damage", [(1, None), (3, None), (1, "cut"), (3, "zeros"), (1, "noise"), (3, "windows")])
def test_a_gzip_file_is_unpacked_from_the_middle(tmp_path, members, damage):
    """As much text as needs several places to begin at; each run stands in another part."""
    log, cache = AuditLog(tmp_path / "a.jsonl"), tmp_path / "index"
    runs = range(10) if waiting.sanitizer() == "none" else (0, 4, 9)
    for n in range(10):
        log.start(100 + n, claimed={"dag_id": "d%d" % n})
        for _ in range(30):
            log.event("noise", x=os.urandom(15000).hex())
    log.close()
    plain, packed = log.path.read_bytes(), tmp_path / "a.gz"
    assert len(plain) > 2 * 4 * 2**20
    size = len(plain) // members + 1
    packed.write_bytes(b"".join(gzip.compress(plain[i : i + size], 1) for i in range(0, len(plain), size)))

    def found(path, *options):
        stories = [trace(100 + n, path, *options)["records"] for n in runs]
        return [[(one["offset"], one["record"]) for one in story] for story in stories]

    wanted = found(log.path, "--no-index")
    assert all(len(story) == 2 for story in wanted) and found(packed, "--index", cache) == wanted
    (points,) = cache.glob("trace-*.idx.gz")
    good = points.read_bytes()
    assert len(good) > 2 * 32768 and points.stat().st_mode & 0o777 == 0o600
    if damage:
        points.write_bytes(
            {
                "cut": good[:-1],
                "zeros": bytes(len(good)),
                "noise": os.urandom(len(good)),
                "windows": os.urandom(len(good) // 32768 * 32768) + good[len(good) // 32768 * 32768 :],
            }[damage]
        )
    ended = [run(100 + n, packed, "--json", "--index", cache) for n in runs]
    if damage != "windows":  # those are not checked: what they lead to are no records
        assert [[(one["offset"], one["record"]) for one in json.loads(e.stdout)["records"]] for e in ended] == wanted
    else:
        for story, one in zip(wanted, ended):
            assert one.returncode in (0, 1)
            assert all(r["record"] in [w for _, w in story] for r in json.loads(one.stdout)["records"])


# --- usage ---


def test_lines_that_are_no_record_are_counted_and_passed_over(logs):
    with open(logs[0], "a") as file:
        file.write("not json\n" + "x" * 70000 + "\n")
    ended = run(CORRELATION, *logs)
    assert ended.returncode == 0 and b"no audit record" in ended.stderr


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        ([], 2, b"say which ID"),
        (["nonsense"], 2, b"is no UUID"),
        (["run:x"], 2, b"is no UUID"),
        (["dag:x"], 2, b"is no UUID"),
        (["a/b/"], 2, b"is no UUID"),
        (["1", "nowhere.jsonl"], 2, b"No such file"),
        (["1", "/"], 2, b"Is a directory"),
        (["1", "--format", "html"], 2, b"text, markdown or json"),
        (["--frobnicate"], 2, b"unrecognized option"),
        (["--help"], 0, b""),
    ],
)
def test_usage(arguments, status, says):
    ended = run(*arguments)
    assert ended.returncode == status and says in ended.stderr
    assert (b"usage: dagward audit trace" in ended.stdout) == (arguments == ["--help"])


def test_a_replayed_trigger_and_a_caller_who_left_are_told_as_such(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    first = log.start(7, trigger={"key": "ab", "by": "task", "state": "first"})
    log.request(**{"request": {"method": "POST", "operation": "pipelines.runs.run", "access": "execute"}, "run": {"id": "7"}, "upstream": None,
                   "trigger": {"key": "ab", "by": "task", "state": "replayed", "first": first["request_id"]}})
    gone = log.request(claimed={"dag_id": "other"}, decision={"effect": "error", "rule": None, "role": None, "binding": None, "reason": "the client left before a decision"},
                       upstream=None, credential=None, response=None)
    log.close()
    told = run("run:7", log.path).stdout.decode()
    assert "    trigger    replayed, told apart by task, the first request was " + first["request_id"] in told
    assert "trigger replayed" in run("run:7", "--format", "markdown", log.path).stdout.decode()
    told = run(gone["correlation_id"], log.path).stdout.decode()
    assert "    decision   none, because: the client left before a decision" in told and "allowed" not in told


def test_nothing_found_is_a_negative_answer(logs):
    ended = run("run:999999", *logs)
    assert ended.returncode == 1 and ended.stdout == b"run:999999: nothing found\n"


def test_policy_suggest_reads_compressed_logs(logs, tmp_path):
    packed = tmp_path / "old.gz"
    with open(logs[0], "rb") as plain, gzip.open(packed, "wb") as out:
        shutil.copyfileobj(plain, out)
    answers = [
        subprocess.run([waiting.BINARY, "policy", "suggest", "--log", path], capture_output=True) for path in (logs[0], packed)
    ]
    assert answers[0].returncode == 0 and answers[0].stdout == answers[1].stdout
