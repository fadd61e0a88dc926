"""Airflow's flows over plain HTTP: what HttpHook, HttpSensor and deferrable tasks do, with nothing
changed but URL and credential. The caller's tokens come from a certified provider."""
import asyncio
import itertools
import json

import aiohttp
import pytest
import requests

from kit import secrets, wire
from kit.waiting import seconds

RUNS = "/contoso/analytics/_apis/pipelines/42/runs?api-version=7.1"
AIRFLOW = {"X-Airflow-Dag-Id": "nightly%20load", "X-Airflow-Run-Id": "scheduled__2026-11-24T00%3A00%3A00", "X-Airflow-Task-Id": "start", "X-Airflow-Try-Number": "1"}
TASKS = itertools.count()


@pytest.fixture(autouse=True)
def a_task_of_its_own():
    """Each test is another mapped task: the same one would be given the first one's answer."""
    AIRFLOW["X-Airflow-Map-Index"] = str(next(TASKS))


def http_hook(world, method, endpoint, login=None, password=None, extra=None, data=None, headers=None):
    """As Airflow's HttpHook sends it: a session per call, Basic when there is a login, extras as headers."""
    with requests.Session() as session:
        if login:
            session.auth = (login, password)
            secrets.basic(login, password)
        session.headers.update(extra or {})
        request = requests.Request(method, world.proxy.url + endpoint, data=data, headers={**(headers or {})})
        prepared = session.prepare_request(request)
        return session.send(prepared, timeout=seconds(20), allow_redirects=True)


def assert_recorded(world, answer, effect="allow", subject="airflow-worker", upstream=None, claimed=AIRFLOW):
    record = world.proxy.outcome(answer)
    assert record["correlation_id"] == answer.headers["X-Correlation-Id"]
    assert record["decision"]["effect"] == effect and record["response"]["status"] == answer.status_code
    if subject:
        assert record["caller"]["subject"] == subject and record["caller"]["issuer"] == "certified"
    else:
        assert "subject" not in record["caller"]
    if effect == "allow" and upstream:
        assert record["decision"]["rule"].startswith("policy.yaml:") and record["decision"]["role"] and record["decision"]["binding"]
    assert record.get("upstream", {}).get("status") == upstream
    if claimed:
        assert record["claimed"]["dag_id"] == "nightly load" and record["claimed"]["task_id"] == "start"
        assert record["claimed"]["run_id"] == "scheduled__2026-11-24T00:00:00" and record["claimed"]["try_number"] == "1"
    return record


def test_H1_sync_post_with_the_token_as_password(world):
    token = world.provider.token()
    answer = http_hook(world, "POST", RUNS, "airflow", token, data=json.dumps({"resources": {}}), headers={"Content-Type": "application/json", **AIRFLOW})
    assert answer.status_code == 200 and answer.json()["id"] and answer.json()["state"]
    record = assert_recorded(world, answer, upstream=200)
    assert record["request"]["operation"] == "pipelines.runs.run" and record["request"]["access"] == "execute"
    assert record["caller"]["via"] == "basic" and record["credential"]["name"] == "etl"
    assert [r["kind"] for r in world.proxy.of(answer)] == ["intent", "outcome"]
    got = world.emulator.requests()
    assert len(got) == 1 and got[0]["method"] == "POST"
    headers = {k.lower(): v for k, v in got[0]["headers"].items()}
    assert headers["authorization"] == "Bearer " + world.proxy.upstream_token
    assert headers["x-vss-e2eid"] == answer.headers["X-Correlation-Id"]
    assert not [h for h in headers if h.startswith("x-airflow")]


def test_H2_sync_post_with_bearer_in_extra(world):
    answer = http_hook(world, "POST", RUNS, extra={"Authorization": "Bearer " + world.provider.token(), "X-Correlation-Id": "5f0d3a8e-93d5-4e51-a3a8-0d4c3a0f9a10"},
                       data="{}", headers={"Content-Type": "application/json", **AIRFLOW})
    assert answer.status_code == 200 and answer.headers["X-Correlation-Id"] == "5f0d3a8e-93d5-4e51-a3a8-0d4c3a0f9a10"
    assert assert_recorded(world, answer, upstream=200)["caller"]["via"] == "bearer"
    answer = http_hook(world, "POST", RUNS.replace("/42/", "/99/"), extra={"Authorization": "Bearer " + world.provider.token()}, data="{}", headers=AIRFLOW)
    assert answer.status_code == 403 and answer.json()["correlationId"] == answer.headers["X-Correlation-Id"]
    record = assert_recorded(world, answer, effect="deny")
    assert record["decision"]["rule"].startswith("policy.yaml:") and record["decision"]["rule"] == answer.json()["rule"]


def test_H3_polling_survives_a_rotated_token(world):
    first, second = world.provider.token(), world.provider.token()
    assert first != second
    run = http_hook(world, "POST", RUNS, "airflow", first, data="{}", headers=AIRFLOW).json()["id"]
    for n in range(20):
        answer = http_hook(world, "GET", "/contoso/analytics/_apis/pipelines/42/runs/%d?api-version=7.1" % run, "airflow", first if n < 10 else second, headers=AIRFLOW)
        assert answer.status_code == 200 and answer.json()["id"] == run
        assert assert_recorded(world, answer, upstream=200)["request"]["operation"] == "pipelines.runs.get"
    assert len(world.emulator.requests()) == 21
    assert len(world.records()) == 21


def test_H4_a_deferred_post_that_is_refused_is_one_request_with_its_reason(world):
    token = world.provider.token("airflow-reader")

    async def hook():
        """HttpAsyncHook: aiohttp, Basic, three tries on 5xx."""
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                secrets.basic("airflow", token)
                async with session.post(world.proxy.url + RUNS, data="{}", auth=aiohttp.BasicAuth("airflow", token)) as answer:
                    if answer.status < 500:
                        return answer.status, answer.reason, answer.headers["X-Correlation-Id"]

    status, reason, correlation = asyncio.run(hook())
    assert status == 403 and correlation in reason, "the reason phrase is all that reaches the user"
    assert world.proxy.outcome(correlation)["caller"]["subject"] == "airflow-reader"
    assert world.emulator.requests() == []


def test_H5_a_sensor_sees_404_only_for_what_is_not_there(world):
    token = world.provider.token()
    answer = http_hook(world, "GET", "/contoso/analytics/_apis/pipelines/42/runs/999999?api-version=7.1", "airflow", token, headers=AIRFLOW)
    assert answer.status_code == 404
    assert_recorded(world, answer, upstream=404)
    answer = http_hook(world, "GET", "/contoso/platform/_apis/pipelines/42/runs/999999?api-version=7.1", "airflow", token, headers=AIRFLOW)
    assert answer.status_code == 403, "a denial must not look like 'not yet'"
    assert_recorded(world, answer, effect="deny")


def test_H6_test_connection(world):
    answer = http_hook(world, "POST", "/", "airflow", world.provider.token())
    assert answer.status_code == 200
    told = answer.json()
    assert told["subject"] == "airflow-worker" and told["issuer"] == "certified"
    assert told["grants"] == [{"binding": "by claim: operator of certified", "role": "operator"}]
    assert_recorded(world, answer, claimed=None)
    answer = http_hook(world, "POST", "/", "airflow", "no-token")
    assert answer.status_code == 401
    assert_recorded(world, answer, effect="deny", subject=None, claimed=None)
    assert world.emulator.requests() == []


@pytest.mark.parametrize("path", [
    "/contoso/analytics/_apis/pipelines/42/runs", "//contoso//analytics/_apis/pipelines/42/runs", "/Contoso/ANALYTICS/_apis/Pipelines/42/Runs",
    "/contoso/analytics/_apis/pipelines/42/runs/", "/contoso/%61nalytics/_apis/pipelines/42/runs"])
def test_H7_spellings_of_one_request_have_one_decision(world, path):
    token = world.provider.token()
    answer = wire.ask(world.proxy.port, "POST", path + "?api-version=7.1", [("Authorization", "Bearer " + token), ("Content-Type", "application/json")], b"{}")
    assert answer.status == 200
    record = world.proxy.outcome(answer)
    assert record["request"]["operation"] == "pipelines.runs.run" and record["request"]["project"].lower() == "analytics"
    denied = wire.ask(world.proxy.port, "POST", path.replace("42", "99"), [("Authorization", "Bearer " + token)], b"{}")
    assert denied.status == 403


@pytest.mark.parametrize("path", ["/contoso/analytics/_apis/pipelines/99/../42/runs", "/contoso/analytics/_apis/pipelines/42%2fruns", "/contoso/platform%2f..%2fanalytics/_apis/pipelines/42/runs",
                                  "/contoso/analytics/_apis/pipelines/42/runs%00", "/contoso/analytics/_apis/pipelines/42/runs?a=1&A=2", "/contoso\\analytics/_apis/pipelines/42/runs"])
def test_H7_spellings_that_may_mean_two_things_are_refused(world, path):
    answer = wire.ask(world.proxy.port, "POST", path, [("Authorization", "Bearer " + world.provider.token())], b"{}")
    assert answer.status == 400
    assert world.proxy.outcome(answer)["decision"]["effect"] == "deny"
    assert world.emulator.requests() == []


@pytest.mark.parametrize("how", ["203", "302", "401"])
def test_H8_a_sign_in_page_is_an_error(world, how):
    world.emulator.behave(signin=how, times=2)
    answer = http_hook(world, "POST", RUNS, "airflow", world.provider.token(), data="{}", headers=AIRFLOW)
    assert answer.status_code == 502 and answer.history == [] and "Location" not in answer.headers
    assert "<html" not in answer.text.lower() and answer.headers["X-Correlation-Id"] in answer.text
    assert_recorded(world, answer, effect="error", upstream=int(how))


def test_H9_a_429_is_passed_on_with_retry_after(world):
    world.emulator.behave(next_status=429, retry_after=7, times=1)
    answer = http_hook(world, "POST", RUNS, "airflow", world.provider.token(), data="{}", headers=AIRFLOW)
    assert answer.status_code == 429 and answer.headers["Retry-After"] == "7"
    assert_recorded(world, answer, upstream=429)
    assert len(world.emulator.requests()) == 1


def test_H10_a_post_is_sent_once_when_the_connection_dies(world):
    token = world.provider.token()
    assert http_hook(world, "GET", RUNS, "airflow", token).status_code == 200
    world.emulator.forget()
    world.emulator.behave(close=True, times=1)
    answer = http_hook(world, "POST", RUNS, "airflow", token, data="{}", headers=AIRFLOW)
    assert answer.status_code == 502
    assert len(world.emulator.requests()) == 1
    assert_recorded(world, answer, effect="error", upstream=None)


def test_X1_two_credentials_are_refused(world):
    token = world.provider.token()
    for fields in ([("Authorization", "Bearer " + token), ("X-Dagward-Token", token)], [("Authorization", "Bearer " + token), ("Authorization", secrets.basic("a", token))],
                   [("X-Dagward-Token", token), ("X-Dagward-Token", token)]):
        answer = wire.ask(world.proxy.port, "GET", RUNS, fields)
        assert answer.status == 400 and "one" in answer.text
        record = world.proxy.outcome(answer)
        assert record["decision"]["effect"] == "deny" and record["response"]["status"] == 400
    assert world.emulator.requests() == []


@pytest.mark.parametrize("pat", ["a" * 26 + "7x" * 13, "B" * 76 + "AZDO" + "c4d5"], ids=["52", "84"])
def test_X2_a_personal_access_token_is_refused_with_advice(world, pat):
    secrets.caller(pat)
    for login in ("", "airflow"):
        secrets.basic(login, pat)
        answer = requests.post(world.proxy.url + RUNS, data="{}", auth=(login, pat), timeout=seconds(10))
        assert answer.status_code == 401 and "personal access token" in answer.json()["message"].lower()
        assert pat not in answer.text
        assert_recorded(world, answer, effect="deny", subject=None, claimed=None)
    assert world.emulator.requests() == []
    secrets.assert_no_leak(world.proxy.stderr_file.read_bytes(), "the proxy's log")
    secrets.assert_no_leak(world.proxy.audit_file.read_bytes(), "the audit file")
