"""Triggers that are sent once, and runs that carry their correlation (docs/triggers.md)."""
import copy
import json
import os
import random
import signal
import socket
import struct
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from kit.emulator import Emulator
from kit.policies import POLICY
from kit.upstreams import message
from kit.waiting import seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"
BUILDS = "/contoso/analytics/_apis/build/builds?api-version=7.1"
RELEASES = "/~vsrm/contoso/analytics/_apis/release/releases?api-version=7.1"
MARK = "DAGWARD_CORRELATION"
BUSY = "http://127.0.0.1:9"  # nobody listens there
MANY = int(os.environ.get("DAGWARD_TRIGGERS", "300"))  # 10000 take some ten minutes


def policy():
    it = copy.deepcopy(POLICY)
    it["roles"]["operator"]["allow"].append({"operations": ["release.releases.*", "build.builds.update"], "projects": ["analytics"]})
    return it


class Place:
    """An emulator, a proxy in front of it, and a caller."""

    def __init__(self, start_proxy, issuer, tmp_path, emulator=True, **settings):
        idempotency = {"wait": "8s", "settle": "2s", **settings.pop("idempotency", {})}
        correlation = {"variable": MARK, **settings.pop("correlation", {})}
        correlation = {k: v for k, v in correlation.items() if v is not None}
        self.issuer = issuer
        self.emulator = Emulator(tmp_path / "emulator", "token-of-the-test")
        upstream = {"hosts": {"*": self.emulator.url}, **settings.pop("upstream", {})}
        self.proxy = start_proxy([issuer.config()], policy(), upstream, idempotency=idempotency,
                                 correlation=correlation, ready=False, **settings)
        self.proxy.stop()
        self.proxy.token_file.write_text("token-of-the-test")
        self.proxy.start()
        self.token = issuer.mint("operator-1", roles=["operator"])

    def post(self, target=RUNS, body=None, run="r1", task="start", key=None, token=None, timeout=30, **fields):
        headers = {"Authorization": "Bearer " + (token or self.token)}
        if run:
            headers.update({"X-Airflow-Dag-Id": "etl", "X-Airflow-Run-Id": run, "X-Airflow-Task-Id": task})
        if key:
            headers["Idempotency-Key"] = key
        headers.update({"X-" + name.replace("_", "-"): value for name, value in fields.items()})
        return requests.post(self.proxy.url + target, json={} if body is None else body, headers=headers, timeout=seconds(timeout))

    def upstream(self):
        return requests.get(self.emulator.url + "/~emulator/runs", timeout=seconds(20)).json()

    def runs(self):
        return self.upstream()["runs"]

    def restart(self, how=signal.SIGTERM):
        if how == signal.SIGKILL:
            self.proxy.kill()
        else:
            self.proxy.stop()
        self.proxy.start()

    def stop(self):
        self.emulator.process.kill()
        self.emulator.process.wait()


@pytest.fixture
def place(start_proxy, issuer, tmp_path):
    made = []

    def make(**settings):
        made.append(Place(start_proxy, issuer, tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def replayed(answer):
    return answer.headers.get("Idempotent-Replayed") == "true"


# --- what is the same, and what is not ---


def test_a_retry_of_the_task_gets_the_first_answer(place):
    it = place()
    first = it.post(Airflow_Try_Number="1")
    again = it.post(Airflow_Try_Number="2")
    assert first.status_code == again.status_code == 200
    assert not replayed(first) and replayed(again)
    assert again.json() == first.json()  # links included: they lead to where the caller asked
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["ActivityId"] == first.headers["ActivityId"]
    assert again.headers["X-Correlation-Id"] != first.headers["X-Correlation-Id"]
    assert len(it.runs()) == 1
    one, two = it.proxy.outcome(first), it.proxy.outcome(again)
    assert one["trigger"]["state"] == "first" and two["trigger"]["state"] == "replayed"
    assert two["trigger"]["first"] == one["request_id"] and two["trigger"]["key"] == one["trigger"]["key"]
    assert one["run"]["id"] == two["run"]["id"] == str(first.json()["id"])
    assert "upstream" not in two and not [r for r in it.proxy.of(again) if r["kind"] == "intent"]


@pytest.mark.parametrize("change", [
    {"run": "r2"}, {"task": "other"}, {"Airflow_Map_Index": "1"}, {"Airflow_Max_Tries": "4"},
    {"body": {"resources": {"repositories": {"self": {"refName": "refs/heads/main"}}}}},
    {"target": RUNS + "&pipelineVersion=1"},
], ids=lambda change: ",".join(change))
def test_another_run_task_body_or_target_starts_another(place, change):
    it = place()
    assert not replayed(it.post())
    assert not replayed(it.post(**change))
    assert len(it.runs()) == 2


def test_without_airflow_fields_and_key_nothing_is_told_apart(place):
    it = place()
    for _ in range(2):
        assert not replayed(it.post(run=None))
    assert len(it.runs()) == 2
    assert "trigger" not in it.proxy.outcomes(2)[0]


def test_the_off_switch(place):
    it = place(idempotency={"enabled": False})
    for _ in range(2):
        assert not replayed(it.post(key="k"))
    assert len(it.runs()) == 2
    assert not (it.proxy.folder / "audit.jsonl.triggers").exists()


def test_a_chosen_key_is_used_whatever_airflow_says(place):
    it = place()
    first = it.post(key='"once"', run="r1")
    again = it.post(key="once", run="r2")
    assert replayed(again) and again.json()["id"] == first.json()["id"]
    assert not replayed(it.post(key="twice", run="r1"))
    assert it.proxy.outcome(again)["trigger"]["by"] == "key"


def test_a_key_of_another_body_is_422(place):
    it = place()
    it.post(key="k")
    wrong = it.post(key="k", body={"stagesToSkip": []})
    assert wrong.status_code == 422 and "Idempotency-Key" in wrong.json()["message"]
    assert len(it.runs()) == 1


@pytest.mark.parametrize("key", ["a b", '"a,b"', "x" * 256, '""'])
def test_a_key_that_is_none_is_400(place, key):
    it = place()
    assert it.post(key=key).status_code == 400
    assert not it.runs()


def test_nobody_sees_the_answer_of_another(place, issuer):
    it = place()
    mine = it.post(key="k")
    other = it.post(key="k", token=issuer.mint("operator-2", roles=["operator"]))
    assert not replayed(other) and other.json()["id"] != mine.json()["id"]
    stranger = it.post(key="k", token=issuer.mint("operator-1", roles=["reader"]))
    assert stranger.status_code == 403 and "_links" not in stranger.text


def test_each_replay_is_authorised_anew(place):
    it = place()
    assert it.post().status_code == 200
    closed = policy()
    closed["roles"]["operator"]["deny"].append({"operations": ["pipelines.runs.run"], "pipelines": [42]})
    it.proxy.reload(policy=closed)
    denied = it.post()
    assert denied.status_code == 403 and not replayed(denied)


def test_builds_and_releases_too(place):
    it = place()
    for target, body in ((BUILDS, {"definition": {"id": 42}}), (RELEASES, {"definitionId": 5})):
        first, again = it.post(target, body), it.post(target, body)
        assert first.status_code == 200 and replayed(again) and again.json()["id"] == first.json()["id"]
    assert len(it.runs()) == 1 and len(it.upstream()["releases"]) == 1
    assert MARK in it.upstream()["releases"][0]["variables"]


def test_other_executes_only_by_a_chosen_key(place):
    it = place()
    number = it.post().json()["id"]
    target = "/contoso/analytics/_apis/build/builds/%d?api-version=7.1" % number
    cancel = lambda **more: requests.patch(it.proxy.url + target, json={"status": "cancelling"}, timeout=seconds(10), headers={
        "Authorization": "Bearer " + it.token, "X-Airflow-Dag-Id": "d", "X-Airflow-Run-Id": "r", "X-Airflow-Task-Id": "t", **more})
    assert not replayed(cancel()) and not replayed(cancel())
    assert not replayed(cancel(**{"Idempotency-Key": "c"})) and replayed(cancel(**{"Idempotency-Key": "c"}))


def test_fields_of_a_first_answer_that_are_long_are_given_again_whole(start_proxy, issuer, upstream, operator):
    """A head that does not fit must not lose its end: what comes next would be taken for a part of it."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, workers=1)
    long = {"Location": "/contoso/analytics/" + "a" * 1900, "Content-Type": "application/json; x=" + "c" * 1900}
    upstream.tell(message(200, '{"id": 7}', [("Location", long["Location"])], type=long["Content-Type"]))
    token = ("Authorization", "Bearer " + operator)
    with proxy.connect() as client:
        for replay in (None, "true"):
            answer = client.ask("POST", RUNS, [token, ("Idempotency-Key", "k")], b"{}")
            assert (answer.status, answer.body, answer["Idempotent-Replayed"]) == (200, b'{"id": 7}', replay)
            assert {n: answer[n] for n in long} == long
        assert client.ask("GET", RUNS, [token]).status == 200
    assert [r.method for r in upstream.received if "/pipelines/42/runs?" in r.target] == ["POST", "GET"], "and the run is tagged"


# --- what upstream says no to, and what fails before it is sent, may be tried again ---


@pytest.mark.parametrize("status", [400, 403, 409, 429])
def test_a_refusal_of_upstream_is_not_kept(place, status):
    it = place()
    it.emulator.behave(next_status=status, method="POST")
    assert it.post().status_code == status
    assert it.post().status_code == 200
    assert len(it.runs()) == 1


def test_what_was_never_sent_is_sent(place):
    it = place()
    hosts = it.proxy.config["upstream"]["hosts"]
    config = copy.deepcopy(it.proxy.config)
    config["upstream"]["hosts"] = {"*": BUSY}
    it.proxy.reload(config=config)
    assert it.post().status_code == 502
    config["upstream"]["hosts"] = hosts
    it.proxy.reload(config=config)
    answer = it.post()
    assert answer.status_code == 200 and it.proxy.outcome(answer)["trigger"]["state"] == "first"
    assert len(it.runs()) == 1


def test_a_credential_that_is_turned_away_loses_nothing(place):
    it = place()
    it.emulator.behave(signin="401", times=1, method="POST")
    answer = it.post()
    assert answer.status_code in (200, 502)  # a static token may have nothing newer to offer
    assert it.post().status_code == 200
    assert len(it.runs()) == 1


# --- answers that are lost ---


def test_a_lost_answer_is_found(place):
    it = place()
    it.emulator.behave(lose=True, method="POST")
    lost = it.post()
    assert lost.status_code == 502 and it.proxy.outcome(lost)["trigger"]["state"] == "lost"
    found = it.post(Airflow_Try_Number="2")
    assert found.status_code == 200 and replayed(found)
    assert [found.json()["id"]] == [r["id"] for r in it.runs()]
    assert it.proxy.outcome(found)["trigger"]["state"] == "found"
    assert replayed(it.post()) and len(it.runs()) == 1
    assert it.proxy.url in found.text  # its links lead to the proxy


@pytest.mark.parametrize("target, body", [(BUILDS, {"definition": {"id": 42}}), (RELEASES, {"definitionId": 5})], ids=["build", "release"])
def test_a_lost_answer_of_a_build_or_release_is_found(place, target, body):
    it = place()
    it.emulator.behave(lose=True, method="POST")
    assert it.post(target, body).status_code == 502
    assert replayed(it.post(target, body))
    assert len(it.runs()) + len(it.upstream()["releases"]) == 1


def test_what_never_arrived_is_sent_again_when_that_is_sure(place):
    it = place()
    it.emulator.behave(close=True, method="POST")
    assert it.post().status_code == 502
    began = time.monotonic()
    answer = it.post()
    assert answer.status_code == 200 and not replayed(answer)
    assert time.monotonic() - began > 1.5  # not before it has settled
    assert it.proxy.outcome(answer)["trigger"]["state"] == "sent-again"
    assert replayed(it.post()) and len(it.runs()) == 1


def test_too_early_to_be_sure_is_409_with_retry_after(place):
    it = place(idempotency={"settle": "30s", "wait": "1s"})
    it.emulator.behave(close=True, method="POST")
    assert it.post().status_code == 502
    answer = it.post()
    assert answer.status_code == 409 and 20 < int(answer.headers["Retry-After"]) <= 31
    assert "too early" in answer.json()["message"]


def test_what_comes_late_is_not_sent_twice(place):
    """Upstream starts it after we gave up and after somebody looked: hence the time to settle."""
    it = place(idempotency={"settle": "5s", "wait": "20s"}, upstream={"timeouts": {"first_byte": "500ms"}})
    it.emulator.behave(delay_ms=2500, method="POST")
    assert it.post().status_code == 504
    answer = it.post()
    assert answer.status_code == 200 and replayed(answer)
    assert len(it.runs()) == 1


def test_without_a_mark_a_possible_run_is_left_to_people(place):
    it = place(correlation={"variable": None})
    it.emulator.behave(lose=True, method="POST")
    assert it.post().status_code == 502
    answer = it.post()
    number = it.runs()[0]["id"]
    assert answer.status_code == 409 and str(number) in answer.json()["message"]
    assert "Idempotency-Key" in answer.json()["message"]
    assert it.post().status_code == 409  # as often as it is asked
    forced = it.post(key="another")
    assert forced.status_code == 200 and len(it.runs()) == 2


def test_the_client_that_gave_up_finds_its_answer(place):
    it = place()
    it.emulator.behave(delay_ms=1500, method="POST")
    with pytest.raises(requests.exceptions.Timeout):
        it.post(timeout=0.4 / seconds(1))
    again = it.post()
    assert again.status_code == 200 and replayed(again)
    assert len(it.runs()) == 1
    assert it.proxy.metric("triggers_total.*lost") == 0


# --- at the same time ---


def test_duplicates_at_the_same_time_on_several_workers(place):
    it = place(workers=4)
    it.emulator.behave(delay_ms=300, method="POST", times=-1)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: it.post(Airflow_Try_Number=str(n)), range(16)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["id"] for a in answers}) == 1
    assert sum(not replayed(a) for a in answers) == 1
    assert len(it.runs()) == 1


def test_a_duplicate_does_not_wait_for_ever(place):
    it = place(idempotency={"wait": "500ms"})
    it.emulator.behave(delay_ms=2500, method="POST")
    thread = threading.Thread(target=it.post)
    thread.start()
    until(lambda: it.emulator.requests(), "the first request upstream")
    answer = it.post()
    thread.join()
    assert answer.status_code == 409 and "Retry-After" in answer.headers
    assert "still being answered" in answer.json()["message"]
    assert replayed(it.post()) and len(it.runs()) == 1


def test_who_hangs_up_in_line_stands_in_nobodys_way(place):
    """200 duplicates that hang up: each would have been the first for a moment, on disk, when the first was refused."""
    it = place(workers=1)
    it.emulator.behave(delay_ms=3000, next_status=400, method="POST")
    first = threading.Thread(target=it.post)
    first.start()
    until(lambda: it.emulator.requests(), "the first request upstream")
    head = ("POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nX-Airflow-Dag-Id: etl\r\nX-Airflow-Run-Id: r1\r\nX-Airflow-Task-Id: start\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % (RUNS, it.token)).encode()
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", it.proxy.port), timeout=seconds(15)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(head)
            until(lambda: it.proxy.metric(r"^dagward_exchanges ") >= 2, "it waits")
    until(lambda: it.proxy.metric(r"^dagward_exchanges ") == 1, "all have hung up")
    journal = it.proxy.folder / "audit.jsonl.triggers"
    before = journal.stat().st_size
    assert it.post().status_code == 200
    first.join()
    assert len(it.runs()) == 1
    assert journal.stat().st_size - before < 20_000, "as if each of them had been sent"


def test_who_waits_goes_next_when_the_first_was_refused(place):
    it = place()
    it.emulator.behave(delay_ms=700, next_status=400, method="POST")
    with ThreadPoolExecutor(3) as pool:
        answers = sorted(a.status_code for a in pool.map(lambda _: it.post(), range(3)))
    assert answers == [200, 200, 400]
    assert len(it.runs()) == 1


# --- over a restart ---


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "kill"])
def test_answers_survive(place, how):
    it = place()
    it.proxy.whole_audit = how != signal.SIGKILL
    first = it.post()
    it.restart(how)
    again = it.post()
    assert replayed(again) and again.json() == first.json()
    assert len(it.runs()) == 1


@pytest.mark.parametrize("fault, expected", [({"delay_ms": 1500}, "found"), ({"close": True, "delay_ms": 1500}, "sent-again")],
                         ids=["it arrives", "it does not"])
def test_killed_between_sending_and_answer(place, fault, expected):
    it = place()
    it.proxy.whole_audit = False  # an intent without an outcome is what this leaves
    it.emulator.behave(method="POST", **fault)
    client = threading.Thread(target=lambda: pytest.raises(requests.exceptions.RequestException, it.post))
    client.start()
    until(lambda: [r for r in it.emulator.requests() if r["method"] == "POST"], "the request upstream")
    it.proxy.kill()
    client.join()
    it.proxy.start()
    answer = it.post(Airflow_Try_Number="2")
    assert answer.status_code == 200
    assert it.proxy.outcome(answer)["trigger"]["state"] == expected
    assert replayed(it.post()) and len(it.runs()) == 1


def test_a_damaged_journal_is_not_passed_over(place):
    it = place()
    it.post(run="a"), it.post(run="b")
    it.proxy.stop()
    file = it.proxy.folder / "audit.jsonl.triggers"
    assert file.stat().st_mode & 0o777 == 0o600
    whole = file.read_bytes()
    file.write_bytes(whole[:60] + b"?" + whole[61:])
    it.proxy.start(expect_failure=True)
    assert it.proxy.process.wait(timeout=seconds(10)) == 2
    assert "damaged" in it.proxy.log()
    it.proxy.process = None
    file.write_bytes(whole[:-5])  # cut off by a crash: that is mended
    it.proxy.start()
    assert replayed(it.post(run="a"))


def test_the_window_ends(place):
    it = place(idempotency={"window": "2s"})
    assert not replayed(it.post())
    assert replayed(it.post())
    time.sleep(2.2)
    assert not replayed(it.post())
    assert len(it.runs()) == 2


def test_more_than_may_be_kept_is_refused(place):
    it = place(idempotency={"entries": 2})
    other = it.issuer.mint("operator-2", roles=["operator"])
    answers = [it.post(run=r, token=t) for r, t in (("a", None), ("b", other), ("c", None), ("a", None))]
    assert [a.status_code for a in answers] == [200, 200, 503, 200]
    assert "idempotency.entries: 2" in answers[2].text and answers[2].headers["Retry-After"] == "60"
    assert len(it.runs()) == 2


@pytest.mark.parametrize("again", ["", "restart"])
def test_one_caller_does_not_take_the_room_of_all(place, again):
    """Also when another process counts anew what it reads in the journal; test_handover.py has the other way."""
    it = place(idempotency={"entries": 8})
    other = it.issuer.mint("operator-2", roles=["operator"])
    noisy = [it.post(key="k%d" % i) for i in range(4)]
    if again:
        it.restart()
    noisy += [it.post(key="k%d" % i) for i in range(4, 6)]
    assert [a.status_code for a in noisy] == [200] * 4 + [429] * 2, "half of them is what one alone may have"
    refused = noisy[-1]
    assert "operator-1" in refused.text and "idempotency.entries: 8" in refused.text and refused.headers["Retry-After"] == "60"
    record = it.proxy.outcome(refused)
    assert "idempotency.entries" in record["decision"]["reason"] and record["response"]["status"] == 429 and "upstream" not in record
    assert record["trigger"]["state"] == "refused"
    assert it.proxy.metric(r'^dagward_refusals_total{reason="triggers"}') == 2
    event = until(lambda: it.proxy.events("limits.reached"), "the log says so")
    assert event[0]["event"]["detail"]["over_triggers"]
    assert replayed(it.post(key="k0")), "what it has is answered all the same"
    assert [it.post(key="k%d" % i, token=other).status_code for i in range(3)] == [200, 200, 429], "the other one: half of the rest"
    assert it.post(key="k9").status_code == 429
    assert len(it.runs()) == 6


# --- what runs carry ---


def test_tags_arrive_and_are_recorded(place):
    it = place(correlation={"tags": ["correlation:{correlation_id}", "airflow:{dag_id}", "try:{try_number}", "by {subject}"]})
    correlation = str(uuid.uuid4())
    answer = it.post(Correlation_Id=correlation)
    assert answer.headers["X-Correlation-Id"] == correlation
    (event,) = until(lambda: it.proxy.events("run.tagged"), "the event")
    assert it.runs()[0]["tags"] == ["correlation:" + correlation, "airflow:etl", "by operator-1"]
    detail = event["event"]["detail"]
    assert detail["run"] == str(answer.json()["id"]) and detail["correlation_id"] == correlation
    assert detail["request_id"] == it.proxy.outcome(answer)["request_id"]
    assert it.runs()[0]["e2eid"] == correlation


def test_tags_and_look_ups_use_whatever_credential_was_lent(place):
    it = place()
    it.proxy.config["credentials"][0]["type"] = "pat_file"  # Basic, not Bearer
    it.restart()
    it.post()
    until(lambda: it.proxy.events("run.tagged"), lambda: "the event: %s" % it.proxy.events("run."), within=20)
    it.emulator.behave(lose=True, method="POST")
    assert it.post(run="r2").status_code == 502
    found = it.post(run="r2")
    assert found.status_code == 200 and replayed(found) and len(it.runs()) == 2


def test_the_answer_does_not_wait_for_tags(place):
    it = place()
    it.emulator.behave(delay_ms=3000, method="PATCH")
    began = time.monotonic()
    it.post()
    assert time.monotonic() - began < 2.5
    until(lambda: it.proxy.events("run.tagged"), "the event")


def test_no_tag_goes_to_an_organization_that_a_reload_took_away(place):
    it = place()
    it.emulator.behave(next_status=503, method="PATCH", times=1)
    it.post()
    it.proxy.reload({**it.proxy.config, "upstream": {**it.proxy.config["upstream"], "organizations": ["fabrikam"]}})
    (event,) = until(lambda: it.proxy.events("run.tag"), "the event", within=20)
    assert event["event"]["name"] == "run.tag_failed" and "organization" in event["event"]["detail"]["error"]
    assert not it.runs()[0]["tags"]


def test_tags_that_fail_are_tried_again(place):
    it = place()
    it.emulator.behave(next_status=503, method="PATCH", times=2)
    it.post()
    (event,) = until(lambda: it.proxy.events("run.tagged"), "the event", within=20)
    assert event["event"]["detail"]["attempts"] == "3"
    assert len(it.runs()[0]["tags"]) == 2


def test_tags_that_cannot_be_put_are_given_up(place):
    it = place()
    it.emulator.behave(next_status=403, method="PATCH", times=-1)
    it.post()
    (event,) = until(lambda: it.proxy.events("run.tag_failed"), "the event")
    assert event["event"]["detail"]["status"] == "403" and event["event"]["detail"]["attempts"] == "1"


def test_the_mark_is_in_the_run(place):
    it = place(correlation={"parameter": "cid"})
    answer = it.post(run=None)
    run = it.runs()[0]
    expected = "%s/%s" % (answer.headers["X-Correlation-Id"], it.proxy.outcome(answer)["request_id"])
    assert json.loads(run["parameters"])[MARK] == expected and run["templateParameters"]["cid"] == expected
    taken = it.post(run=None, body={"variables": {MARK.lower(): {"value": "x"}}})
    assert taken.status_code == 400 and len(it.runs()) == 1


def test_a_run_with_an_empty_body_is_marked_too(place):
    it = place()
    answer = requests.post(it.proxy.url + RUNS, headers={"Authorization": "Bearer " + it.token}, timeout=seconds(10))
    assert answer.status_code == 200 and MARK in it.runs()[0]["parameters"]


def test_a_traceparent_that_is_none_is_not_passed_on(place):
    it = place()
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for given, kept in ((good, True), ("00-0-0-01", False), (good.upper(), False), (good.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), False)):
        it.emulator.forget()
        requests.post(it.proxy.url + RUNS, json={}, headers={"Authorization": "Bearer " + it.token, "traceparent": given, "tracestate": "a=b"},
                      timeout=seconds(10))
        (head,) = [r["headers"] for r in it.emulator.requests() if r["method"] == "POST"]
        head = {name.lower(): value for name, value in head.items()}
        assert (head["traceparent"] == given) == kept
        assert ("tracestate" in head) == kept
        assert head["traceparent"].split("-")[1] == (given.split("-")[1] if kept else head["x-correlation-id"].replace("-", ""))


# --- all of it at once ---


def test_many_triggers_in_bad_weather(place):
    """N tasks, each of which tries until it has its answer, while answers are lost, connections
    closed and requests delayed beyond deadlines on both sides: N runs, each joined to its task."""
    n = MANY
    it = place(workers=2, idempotency={"wait": "6s", "settle": "2500ms"}, upstream={"timeouts": {"first_byte": "1s"}})
    it.emulator.behave(mix=True, delay_ms=1600, percent=12, method="POST", times=-1)
    told, lock = {}, threading.Lock()

    def task(number):
        dice, answers = random.Random(number), []
        for attempt in range(1, 60):
            try:
                answer = it.post(run="run-%d" % number, task="task-%d" % (number % 7), Airflow_Try_Number=str(attempt),
                                 timeout=dice.choice([0.3, 1.2, 20, 20]))
            except requests.exceptions.RequestException:
                continue
            answers.append(answer.status_code)
            if answer.status_code == 200:
                with lock:
                    told[number] = answer.json()["id"]
                return
            assert answer.status_code in (409, 502, 503, 504), answer.text
            time.sleep(dice.random() * 0.5)
        raise AssertionError("task %d has no answer: %s" % (number, answers))

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(task, range(n)))
    it.emulator.behave(times=0)
    runs = it.runs()
    assert len(runs) == n, "%d runs for %d tasks" % (len(runs), n)
    assert len(told) == n and len(set(told.values())) == n
    # Task <-> record <-> run, by records alone.
    until(lambda: len({r["claimed"]["run_id"] for r in it.proxy.records("outcome") if r.get("run")}) == n, "a record with a run for each task", within=30)
    by_task = {}
    for record in it.proxy.records("outcome"):
        if record.get("run"):
            by_task.setdefault(record["claimed"]["run_id"], set()).add(record["run"]["id"])
    assert all(by_task["run-%d" % number] == {str(run)} for number, run in told.items())
    firsts = {r["request_id"]: r for r in it.proxy.records("outcome")}
    for run in runs:  # and the other way: the run says which request, the record which task
        correlation, first = json.loads(run["parameters"])[MARK].split("/")
        assert firsts[first]["claimed"]["run_id"] in {t for t, numbers in by_task.items() if numbers == {str(run["id"])}}
        assert run["e2eid"] == correlation
