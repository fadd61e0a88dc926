"""How far a sink is survives restarts, kills, rotation and retention, and is honest about what is gone."""
import json
import subprocess

import pytest

from kit.audit_log import AuditLog
from kit.sinks import Receiver, ask, at_least_once, caught_up, receiver, serve, sink  # noqa: F401, as fixtures
from kit.waiting import BINARY, until


def test_kills_and_restarts_repeat_and_lose_nothing(serve, operator, receiver):
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port}, rotate={"size": "64KiB"})
    for round_ in range(3):
        ask(proxy, operator, 40, "POST" if round_ else "GET")
        if round_ == 1:
            proxy.process.terminate()
            proxy.process.wait()
        else:
            proxy.kill()
        proxy.start()
    ask(proxy, operator, 2)
    caught_up(proxy)
    last = proxy.records()[-1]["seq"]
    until(lambda: max(receiver.seqs()) >= last, "the end")
    assert len(list(proxy.folder.glob("audit.jsonl.2*"))) >= 1
    at_least_once(receiver.seqs(), max(receiver.seqs()))
    proxy.whole_audit = False  # killed: intents may lack outcomes; the chain is looked at here
    files = sorted(proxy.folder.glob("audit.jsonl.2*")) + [proxy.audit_file]
    assert subprocess.run([BINARY, "audit", "verify", *files], capture_output=True).returncode == 0


@pytest.mark.parametrize("position", ["dagward position 1 %020d %s\n" % (999999, "a" * 64), "dagward position 1 %020d %s\n" % (4, "a" * 64), "nonsense"],
                         ids=["beyond-the-end", "other-hash", "nonsense"])
def test_a_position_of_another_log_begins_anew(serve, operator, receiver, position):
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    ask(proxy, operator, 5)
    caught_up(proxy)
    proxy.stop()
    before = len(receiver.seqs())
    (proxy.folder / "audit.jsonl.sink-siem").write_text(position)
    proxy.start()
    caught_up(proxy)
    until(lambda: proxy.events("sink.restarted"), "the event")
    caught_up(proxy)
    again = receiver.seqs()[before:]
    assert again == list(range(1, max(again) + 1)) and max(again) >= proxy.events("sink.restarted")[0]["seq"]


def test_a_sink_is_not_changed_by_a_reload(serve, operator, receiver):
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    config = json.loads(json.dumps(proxy.config))
    proxy.reload(good=True)
    config["audit"]["sinks"][0]["facility"] = "local7"
    told = proxy.reload(config=config, good=False)
    assert "need a restart: audit.sinks[0].facility" in told["first"]
    proxy.config["audit"]["sinks"][0].pop("facility")
    caught_up(proxy)


def test_what_retention_deletes_first_is_counted_to_the_record(serve, operator, receiver):
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port}, rotate={"size": "64KiB", "keep": 1})
    while not proxy.events("log.deleted") and len(list(proxy.folder.glob("audit.jsonl.2*"))) < 3:
        ask(proxy, operator, 30)
    proxy.whole_audit = False  # its beginning is gone
    until(lambda: "was deleted" in proxy.log(), "files are deleted")
    receiver.start()
    caught_up(proxy)
    until(lambda: max(receiver.seqs()) >= proxy.records()[-1]["seq"], "the end")
    got, lost = set(receiver.seqs()), sink(proxy, "lost_records_total")
    missing = set(range(1, max(got) + 1)) - got
    assert missing and len(missing) == lost, (len(missing), lost)
    told = [e["event"]["detail"] for e in proxy.events("sink.lost")]
    assert sum(int(t["records"]) for t in told) == lost and {t["reason"] for t in told} == {"deleted"}


def test_retention_can_wait(serve, operator, receiver):
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port},
                  rotate={"size": "64KiB", "keep": 1, "wait_for_sinks": True})
    while len(list(proxy.folder.glob("audit.jsonl.2*.gz"))) < 2:
        ask(proxy, operator, 30)
    assert "was deleted" not in proxy.log()
    proxy.whole_audit = False
    receiver.start()
    caught_up(proxy)
    at_least_once(receiver.seqs(), max(receiver.seqs()))
    assert sink(proxy, "lost_records_total") == 0


def test_ten_thousand_records_behind(serve, operator, receiver, tmp_path):
    """Over a packed file, a plain one, and a start with another key."""
    folder = tmp_path / "proxy0"
    folder.mkdir()
    log = AuditLog(folder / "part1")
    for _ in range(6000):
        log.event("made.up", step=1, text="x" * 40)
    log.begin(folder / "audit.jsonl")
    for _ in range(4000):
        log.event("made.up", step=1, text="x" * 40)
    log.close()
    subprocess.run(["gzip", folder / "part1"], check=True)
    (folder / "part1.gz").rename(folder / "audit.jsonl.20261123T090000Z-000000006001.gz")
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port, "from": "start"})
    caught_up(proxy)
    until(lambda: max(receiver.seqs()) >= proxy.records()[-1]["seq"], "the end")
    assert receiver.seqs() == list(range(1, max(receiver.seqs()) + 1)) and len(receiver.seqs()) > 10000
    proxy.whole_audit = False  # no signatures in its first half


def test_a_position_that_cannot_be_kept_is_told_of_and_tried_again(serve, operator, receiver):
    receiver.start()
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port})
    ask(proxy, operator, 1)
    caught_up(proxy)
    position = proxy.folder / "audit.jsonl.sink-siem"
    position.unlink()
    position.mkdir()
    ask(proxy, operator, 1)
    until(lambda: proxy.events("sink.position_failed"), "the failure is told of")
    until(lambda: "note sink siem: its position is not kept" in proxy.admin_get("/readyz").text, "the note")
    assert proxy.admin_get("/readyz").status_code == 200
    position.rmdir()
    until(lambda: proxy.events("sink.position_recovered"), "it is tried again")
    until(lambda: "note sink" not in proxy.admin_get("/readyz").text, "the note is gone")
    caught_up(proxy)
    assert position.read_text().startswith("dagward position 1 ")
