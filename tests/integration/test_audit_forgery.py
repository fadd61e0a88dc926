"""Logs that somebody made, or made smaller, so that an auditor believes them."""
import gzip
import json
import os
import subprocess

import pytest

from kit.audit_log import AuditLog, new_key
from kit.waiting import BINARY, seconds


def audit(*arguments, **options):
    return subprocess.run([BINARY, "audit", *map(str, arguments)], capture_output=True, text=True, timeout=seconds(60), **options)


def verify(*arguments, **options):
    told = audit("verify", "--json", *arguments, **options)
    assert told.stdout, told.stderr
    return told.returncode, json.loads(told.stdout)


@pytest.fixture
def log(tmp_path):
    """A signed log of two files; `public` is the key."""
    log = AuditLog(tmp_path / "a.jsonl", new_key(tmp_path / "key"))
    for _ in range(3):
        log.request()
    log.checkpoint("rotated")
    log.begin(tmp_path / "b.jsonl")
    log.first, log.second, log.public = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "key"
    yield log
    log.close()


def delete_first(log):
    gone = log.seq - 1
    log.event("log.deleted", file="a.jsonl", first_seq="1", last_seq=str(gone), last_hash="")
    return gone


@pytest.mark.parametrize("signed", ["nobody", "another", "ours"])
def test_a_deletion_that_nobody_signed_is_not_believed(log, signed):
    gone = delete_first(log)
    if signed == "ours":
        log.checkpoint("deleted")
    text = audit("verify", log.second, "--key", log.public).stdout if signed == "ours" else audit("verify", log.second).stdout
    key = ["--key", log.public] if signed == "ours" else []
    told = verify(log.second, *key)[1]
    if signed == "another":
        # A log made anew, with a key of its own: only the auditor's key tells it apart.
        forged = AuditLog(log.second, new_key())
        forged.seq, forged.hash = gone, "ab" * 32
        forged.begin(log.second)
        delete_first(forged)
        forged.checkpoint("deleted")
        forged.close()
        text, told = audit("verify", log.second).stdout, verify(log.second)[1]
        assert verify(log.second, "--key", log.public)[1]["fault"]["kind"] == "unknown-key"
    assert told["first_seq"] == gone + 1
    if signed == "ours":
        assert told["deleted_seq"] == gone and "were deleted when their time was over, as the log tells, signed" in text
    else:
        assert told["deleted_seq"] == 0 and "seq 1 to %d are missing" % gone in text and "do not believe it" in text


def test_a_deletion_behind_the_last_signature_is_not_believed(log):
    log.request()
    log.checkpoint()
    gone = log.seq - 3
    log.event("log.deleted", file="a.jsonl", first_seq="1", last_seq=str(gone), last_hash="")
    status, told = verify(log.second, "--key", log.public)
    assert told["first_seq"] == gone + 1 and told["deleted_seq"] == 0, told
    assert "no checkpoint behind that is signed by a key that was given" in audit("verify", log.second, "--key", log.public).stdout


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("which", ["only", "older", "newer"])
def test_an_emptied_file_is_told_of(log, which, packed):
    log.request()
    log.checkpoint()
    key = ["--key", log.public]
    assert verify(*key, log.first, log.second)[1]["began"] is True
    emptied = log.first if which == "older" else log.second
    emptied.write_bytes(gzip.compress(b"") if packed else b"")
    files = [emptied] if which == "only" else [log.first, log.second]
    for arguments in (key + files, files):
        status, told = verify(*arguments)
        assert status == 1 and told["began"] is False, told
        if which != "only":
            assert told["fault"]["kind"] == "headless" and told["fault"]["file"] == str(emptied), told
        ended = audit("verify", *arguments)
        assert ended.returncode == 1 and "no first record is there" in ended.stdout, ended.stdout


def test_a_packed_file_that_is_cut_off_is_told_of(log):
    log.request()
    log.checkpoint("stopped")
    whole = gzip.compress(log.first.read_bytes())
    packed = log.first.with_suffix(".gz")
    packed.write_bytes(whole)
    assert verify("--key", log.public, "--closed", packed, log.second)[0] == 0
    for length in [1, 2, 9, 10, 18, len(whole) // 2, *range(len(whole) - 9, len(whole))]:
        packed.write_bytes(whole[:length])
        status, told = verify("--key", log.public, packed, log.second)
        assert status == 1 and told["fault"]["kind"] == "damaged" and "cut off" in told["fault"]["text"], (length, told)
        if length > len(whole) // 2:
            shown = audit("show", packed)
            assert shown.returncode == 2 and shown.stdout and "ends too early" in shown.stderr, length


def test_a_packed_file_is_whole_whatever_its_size(log):
    """Also where the last bytes fill a buffer of 64 KiB just so."""
    size = 65536
    while log.second.stat().st_size < size - 4000:
        log.request(claimed={"user_agent": "x" * 1000})
    # A record whose length makes up the rest.
    before = len(log.second.read_bytes())
    log.request(claimed={"user_agent": ""})
    missing = size - len(log.second.read_bytes())
    log.seq, log.hash = log.seq - 1, json.loads(log.second.read_text().splitlines()[-1])["prev"]
    log.file.truncate(before)
    log.file.seek(before)
    log.request(claimed={"user_agent": "x" * missing})
    assert len(log.second.read_bytes()) == size
    packed = log.second.with_suffix(".gz")
    packed.write_bytes(gzip.compress(log.second.read_bytes()))
    status, told = verify(log.first, packed)
    assert status == 0, told


def test_a_line_of_the_anchor_without_end_is_passed_over(log, tmp_path):
    log.request()
    log.checkpoint("stopped")
    lines = [line for file in (log.first, log.second) for line in file.read_bytes().splitlines() if b"log.checkpoint" in line]
    anchor = tmp_path / "anchor"
    huge = 1 << 29
    with open(anchor, "wb") as file:
        file.write(b"x" * ((1 << 20) - len(lines[0])) + lines[0] + b"\n")  # just short enough
        file.write(b"y" * ((1 << 20) - len(lines[0]) + 1) + lines[0] + b"\n")
        file.seek(huge, os.SEEK_CUR)  # zeros
        file.write(b"\n" + lines[1] + b"\n")
        file.seek(huge, os.SEEK_CUR)
        file.write(lines[0])
    process = subprocess.Popen([BINARY, "audit", "verify", "--json", "--key", log.public, "--anchor", anchor, log.first, log.second], stdout=subprocess.PIPE)
    told = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0 and told["anchor"] == {"checkpoints": 2, "met": 2, "others": 3}, told
    assert used.ru_maxrss * 1024 < huge // 2, used.ru_maxrss


@pytest.mark.parametrize("arguments", [["audit", "verify"], ["audit", "show"], ["audit", "trace", "7", "--no-index"], ["audit", "report", "-o", "-"],
                                       ["audit", "export", "--format", "csv"], ["policy", "suggest", "--log"]], ids=" ".join)
def test_a_fifo_among_the_files_keeps_nobody_waiting(log, tmp_path, arguments):
    """Of which somebody holds the other end, too."""
    os.mkfifo(tmp_path / "c.jsonl")
    files = [log.first, tmp_path / "c.jsonl"] if arguments[1] != "show" else [tmp_path / "c.jsonl"]
    for held in (False, True):
        end = os.open(tmp_path / "c.jsonl", os.O_RDWR | os.O_NONBLOCK) if held else -1
        ended = subprocess.run([BINARY, *arguments, *files], capture_output=True, text=True, timeout=seconds(30))
        assert ended.returncode == 2 and "c.jsonl: it is no file; a pipe is given as `-`" in ended.stderr, ended.stderr
        if held:
            os.close(end)
    # What a shell makes of <(...) is a pipe that was meant.
    if arguments[1] == "show":
        reader, writer = os.pipe()
        os.write(writer, log.second.read_bytes())
        os.close(writer)
        shown = audit("show", "/dev/fd/%d" % reader, pass_fds=[reader])
        os.close(reader)
        assert shown.returncode == 0 and "log.opened" in shown.stdout, shown.stderr


def test_an_anchor_that_is_a_fifo_keeps_nobody_waiting(log, tmp_path):
    os.mkfifo(tmp_path / "anchor")
    ended = audit("verify", "--anchor", tmp_path / "anchor", log.first)
    assert ended.returncode == 2 and "it is no file" in ended.stderr
