"""Sinks when processes end and follow each other: positions are kept, nothing is lost."""
import threading

import pytest

from kit.policies import POLICY
from kit.proxy import Proxy
from kit.sinks import RUNS, Receiver, ask, at_least_once, caught_up, receiver, serve, sink  # noqa: F401, as fixtures
from kit.upstreams import message
from kit.waiting import BINARY, sanitizer, until
from test_handover import Line

FAULTS = BINARY.parent / "libdagward_faults.so"


def test_a_stop_while_a_sink_waits_is_quick_and_the_next_process_sends_the_rest(serve, operator, receiver):
    proxy = serve({"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port}, checkpoints={"records": 5})
    ask(proxy, operator, 12)
    # Not the first attempt, after which it waits for a moment only.
    until(lambda: sink(proxy, "failures_total") >= 3, "attempts", within=40)
    position = proxy.folder / "audit.jsonl.sink-siem"
    before = position.read_text()
    proxy.stop()
    assert "its thread does not end" not in proxy.log()
    assert position.read_text() == before
    receiver.start()
    proxy.start()
    caught_up(proxy)
    until(lambda: max(receiver.seqs(), default=0) >= proxy.records()[-1]["seq"], "the end")
    assert receiver.seqs() == list(range(1, max(receiver.seqs()) + 1)), "nothing was handed on before, so nothing comes again"
    assert sink(proxy, "lost_records_total") == 0


def test_a_sink_that_is_changed_added_or_removed_leaves_positions_alone(serve, operator, receiver, tmp_path):
    """Settings of sinks are for the next process: what it hands on begins where the one before ended."""
    receiver.start()
    other = Receiver().start()
    to = lambda name, where, **more: {"name": name, "type": "syslog", "server": "tcp://127.0.0.1:%d" % where.port, **more}
    try:
        proxy = serve(to("siem", receiver))
        ask(proxy, operator, 5)
        caught_up(proxy)
        proxy.stop()
        first = lines(proxy)
        # Another server and facility under the same name, and one more that begins with this start.
        proxy.config["audit"]["sinks"] = [to("siem", other, facility="local7"), to("new", receiver, app_name="new")]
        proxy.start()
        ask(proxy, operator, 5)
        caught_up(proxy)
        caught_up(proxy, "new")
        proxy.stop()
        second = lines(proxy)
        assert sorted(set(receiver_seqs(receiver, "dagward") + other.seqs())) == list(range(1, second + 1)), "lost, or out of order"
        repeated = set(receiver_seqs(receiver, "dagward")) & set(other.seqs())
        assert not repeated or min(repeated) > 1, "more than what was unconfirmed came again"
        assert min(receiver_seqs(receiver, "new")) == first + 1 and max(receiver_seqs(receiver, "new")) == second
        # One that is left out goes on where it was when it is back.
        proxy.config["audit"]["sinks"] = [to("siem", other)]
        proxy.start()
        ask(proxy, operator, 5)
        proxy.stop()
        proxy.config["audit"]["sinks"] = [to("siem", other), to("new", receiver, app_name="new")]
        proxy.start()
        caught_up(proxy, "new")
        caught_up(proxy)
        at_least_once(receiver_seqs(receiver, "new"), max(receiver_seqs(receiver, "new")), first + 1)
        assert max(receiver_seqs(receiver, "new")) > second + 5 and sink(proxy, "lost_records_total", "new") == 0
    finally:
        other.stop()


def lines(proxy):
    return len(proxy.audit_file.read_text().splitlines())


def receiver_seqs(receiver, app):
    with receiver.lock:
        return [m["seq"] for m in receiver.got if m["app"] == app]


@pytest.mark.skipif(sanitizer() != "none" or not FAULTS.exists(), reason="a preloaded library makes threads fail")
def test_a_thread_that_cannot_be_started_after_a_handover_is_told_of_and_tried_again(issuer, operator, upstream, receiver, tmp_path):
    receiver.start()
    control = tmp_path / "fault"
    control.write_bytes(b"0")
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, upstream.url,
                  audit={"sinks": [{"name": "siem", "type": "syslog", "server": "tcp://127.0.0.1:%d" % receiver.port}]}, timeouts={"drain": "2m"})
    environment = {"LD_PRELOAD": str(FAULTS), "DAGWARD_FAULTS_CONTROL": str(control), "DAGWARD_FAULTS_FILE": str(proxy.audit_file)}
    line, gate = Line(proxy), threading.Event()
    try:
        first = line.start()
        ask(proxy, operator, 2)

        def slow(sock, _):
            gate.wait(60)
            return message(200, "{}")

        upstream.tell(slow)
        with proxy.connect(timeout=60) as client:
            client.request("GET", RUNS, [("Authorization", "Bearer " + operator)])
            until(lambda: len(upstream.received) == 3, "it is under way")
            line.start(ready=False, environment=environment)
            until(lambda: proxy.events("handover.done"), "it has taken over", within=40)
            control.write_bytes(b"t")
            gate.set()
            assert client.answer().status == 200
        line.gone(first)
        told = until(lambda: proxy.events("sink.failed"), "the event")[0]["event"]["detail"]
        assert told["sink"] == "siem" and "thread cannot be started" in told["error"]
        until(lambda: "note sink siem: its thread cannot be started" in proxy.admin_get("/readyz").text, "the note")
        assert sink(proxy, "ok") == 0 and proxy.admin_get("/readyz").status_code == 200
        assert len(proxy.events("sink.failed")) == 1, "it is tried every two seconds, and told of once"
        control.write_bytes(b"0")
        until(lambda: proxy.events("sink.recovered"), "it is tried again", within=20)
        caught_up(proxy)
        until(lambda: max(receiver.seqs()) >= proxy.records()[-1]["seq"], "the end")
        at_least_once(receiver.seqs(), max(receiver.seqs()))
        proxy.stop()
    finally:
        gate.set()
        line.kill()
        proxy.kill()
