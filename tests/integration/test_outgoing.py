"""Through the proxy of the network: everything if that is configured, nothing if it is not."""
import json
import os
import socket
import subprocess
import threading

import pytest

from kit import upstreams
from kit.emulator import Emulator
from kit.outgoing import ESTABLISHED, Front, Outgoing
from kit.policies import POLICY
from kit.upstreams import Upstream, message
from kit.waiting import BINARY, free_port, seconds, until

ITEM = "/contoso/analytics/_apis/git/repositories/dags/items"
RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
LOGIN = "login.microsoftonline.com"
BLOB = "unit7.blob.core.windows.net"


@pytest.fixture
def azure(authority):
    """Azure DevOps, Entra and storage, over TLS and under their real names, none of which this machine could find."""
    azure = Upstream(tls=authority.server("dev.azure.com", "*.dev.azure.com", LOGIN, BLOB))
    yield azure
    azure.close()


@pytest.fixture
def outgoing(azure):
    outgoing = Outgoing({"dev.azure.com:443": azure.port, LOGIN + ":443": azure.port, BLOB + ":443": azure.port})
    yield outgoing
    outgoing.assert_clean()
    outgoing.close()


@pytest.fixture
def proxied(start_proxy, issuer, outgoing, authority):
    def start(setting=None, **settings):
        return start_proxy([issuer.config()], POLICY, {"ca": str(authority.file), "timeouts": {"connect": "%gs" % seconds(2)}, **settings.pop("upstream", {})},
                           outgoing_proxy={"url": outgoing.url} if setting is None else setting, **settings)

    return start


def test_requests_go_through_a_tunnel_and_arrive_whole(proxied, outgoing, azure, operator):
    proxy = proxied()
    answer = proxy.ask("GET", ITEM, operator)
    assert answer.status == 200
    for size in (0, 100, 300_000):
        posted = proxy.ask("POST", RUNS, operator, [("Content-Type", "application/json")], json.dumps({"x": "y" * size}).encode())
        assert posted.status == 200, posted.body
    assert [r.method for r in azure.received[:4]] == ["GET", "POST", "POST", "POST"]
    assert azure.received[0]["Host"] == "dev.azure.com" and azure.received[0]["Authorization"] == "Bearer " + proxy.upstream_token
    assert outgoing.asked().count("dev.azure.com:443") >= 1
    assert len(outgoing.heads) < 4, "the tunnels are used again"
    record = proxy.outcome(answer)
    assert record["upstream"]["host"] == "dev.azure.com" and record["upstream"]["attempts"] == 1
    assert 'outgoing_proxy="%s (outgoing_proxy.url)"' % outgoing.url in proxy.log()


def test_storage_is_reached_through_it_as_well(proxied, outgoing, azure, operator):
    proxy = proxied()
    azure.tell(message(302, "", [("Location", "https://%s/c/drop.zip?sig=canary" % BLOB)]), message(200, b"PK", type="application/zip"))
    answer = proxy.ask("GET", ITEM, operator)
    assert answer.status == 200 and answer.body == b"PK"
    assert outgoing.asked() == ["dev.azure.com:443", BLOB + ":443"]


def test_an_address_of_a_proxy_that_was_replaced_twice_meanwhile_is_not_used(proxied, outgoing, azure, operator):
    """A file in storage: its way was found through the second proxy, which opens none at its first address; before its second
    address is tried it has been replaced, and its credentials are gone."""
    second = Outgoing({})
    other = socket.create_server(("::1", second.port), family=socket.AF_INET6)
    redirect, refuse = threading.Event(), threading.Event()
    second.answer = b"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"
    at_once = second.serve

    def later(sock):
        arrived.set()
        refuse.wait(60)
        at_once(sock)

    arrived, second.serve = threading.Event(), later

    def redirected(_, request):
        redirect.wait(60)
        return message(302, "", [("Location", "https://%s/c/drop.zip?sig=canary" % BLOB)])

    azure.tell(redirected)
    proxy = proxied(workers=1, upstream={"timeouts": {"connect": "60s", "attempt": "4s"}})
    with proxy.connect(timeout=60) as client:
        client.request("GET", ITEM, [("Authorization", "Bearer " + operator)])
        until(lambda: azure.received, "it is under way")
        proxy.reload({**proxy.config, "outgoing_proxy": {"url": "http://localhost:%d" % second.port}})
        redirect.set()
        assert arrived.wait(seconds(10)), "the second proxy is asked for a way"
        proxy.reload({**proxy.config, "outgoing_proxy": {"url": outgoing.url}})
        refuse.set()
        answer = client.answer()
    assert answer.status in (502, 503) and "another one now" in answer.text, answer.text
    record = proxy.outcome(answer)
    assert record["decision"]["effect"] == "error"
    other.settimeout(seconds(10))
    sock, _ = other.accept()
    sock.settimeout(seconds(10))
    assert sock.recv(100) == b"", "nothing was said to the second address"
    azure.tell(message(200, "{}"))
    assert proxy.ask("GET", ITEM, operator).status == 200
    until(lambda: proxy.metric(r"^dagward_upstream_connections\b") <= 2, "none is left over")
    for thing in (sock, other, second):
        thing.close()


def test_tokens_are_fetched_through_it(proxied, outgoing, azure, operator, authority, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a client secret")
    azure.always = lambda _, request: message(200, json.dumps({"token_type": "Bearer", "expires_in": 3599, "access_token": "ey.lent.token"})
                                              if request.target.endswith("/token") else "{}")
    proxy = proxied(credentials=[{"name": "etl", "type": "client_secret", "tenant": "t", "client_id": "c", "secret_file": str(secret), "ca": str(authority.file)}])
    assert proxy.ask("GET", ITEM, operator).status == 200
    assert azure.received[-1]["Authorization"] == "Bearer ey.lent.token"
    assert LOGIN + ":443" in outgoing.asked()
    assert not any(b"secret" in head for head in outgoing.heads)


def test_git_clones_through_it(start_proxy, issuer, operator, authority, tmp_path):
    proxy_folder = tmp_path / "emulator"
    proxy = start_proxy([issuer.config()], POLICY, {"ca": str(authority.file)}, ready=False)
    emulator = Emulator(proxy_folder, proxy.upstream_token)
    front = Front(authority.server("dev.azure.com"), int(emulator.url.rsplit(":", 1)[1]))
    outgoing = Outgoing({"dev.azure.com:443": front.port})
    try:
        proxy.reload({**proxy.config, "outgoing_proxy": {"url": outgoing.url}})
        done = subprocess.run(["git", "-c", "http.extraHeader=Authorization: Bearer " + operator, "clone", "-q",
                               proxy.url + "/contoso/analytics/_git/dags", tmp_path / "clone"], capture_output=True, text=True, timeout=seconds(60))
        assert done.returncode == 0, done.stderr
        assert set(outgoing.asked()) == {"dev.azure.com:443"}
        outgoing.assert_clean()
    finally:
        emulator.stop()
        front.close()
        outgoing.close()


def test_its_user_and_password_come_from_a_file(proxied, outgoing, azure, operator, tmp_path):
    outgoing.user = "dagward:p@ss:word"
    file = tmp_path / "proxy-user"
    file.write_text("dagward:wrong\n")
    proxy = proxied({"url": outgoing.url, "credentials_file": str(file)})
    refused = proxy.ask("GET", ITEM, operator)
    assert refused.status == 502 and b"407" in refused.body and b"outgoing proxy" in refused.body
    assert not azure.received
    record = proxy.outcome(refused)
    assert record["decision"]["effect"] == "error" and "407" in record["decision"]["reason"]
    file.write_text("dagward:p@ss:word\n")
    proxy.reload()
    assert proxy.ask("GET", ITEM, operator).status == 200
    for place in (proxy.log(), proxy.audit_file.read_text()):
        assert "p@ss" not in place and "ZGFnd2FyZDpwQHNz" not in place


@pytest.mark.parametrize("answer, status, words", [
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 502, b"(403)"),
    (b"HTTP/1.1 503 Busy\r\n\r\n", 503, b"(503)"),
    (b"HTTP/1.1 504 Late\r\n\r\n", 504, b"(504)"),
    (b"HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\n\r\n", 502, b"answered 302"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", 502, b"not HTTP"),
    (b"HTTP/1.1 200 OK\nX: bare line feeds\n\n", 502, b"not HTTP"),
    (b"HTTP/1.1 100 Continue\r\n\r\n", 502, b"not HTTP"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20000 + b"\r\n\r\n", 502, b"not HTTP"),
    (ESTABLISHED + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", 502, b"more than its answer"),
    ("reset", 502, b"through the outgoing proxy"),
    (b"", 502, b"through the outgoing proxy"),
    ("hang", 504, b"outgoing proxy did not open a way"),
])
def test_a_way_that_is_not_opened_has_a_reason(proxied, outgoing, azure, operator, answer, status, words):
    proxy = proxied()
    outgoing.answer = answer
    refused = proxy.ask("POST", RUNS, operator, [("Content-Type", "application/json")], b"{}")
    assert refused.status == status and words in refused.body, (refused.status, refused.body)
    assert proxy.outcome(refused)["decision"]["effect"] == "error"
    assert b"forged" not in refused.body and not azure.received
    assert "canary" not in proxy.log()
    outgoing.answer = None
    assert proxy.ask("POST", RUNS, operator, [("Content-Type", "application/json")], b'{"a": 1}').status == 200


def test_an_address_that_opens_no_way_in_time_is_followed_by_the_next(proxied, outgoing, azure, operator):
    """The first address of localhost connects, and never answers."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), socket.create_server(("::1", port), family=socket.AF_INET6) as good:
        threading.Thread(target=outgoing.accept, args=(good,), daemon=True).start()
        proxy = proxied({"url": "http://localhost:%d" % port}, upstream={"timeouts": {"connect": "10s", "attempt": "300ms"}})
        for _ in range(3):
            posted = proxy.ask("POST", RUNS, operator, [("Content-Type", "application/json")], b"{}")
            assert posted.status == 200, posted.body
        assert [r.method for r in azure.received] == ["POST"] * 3


@pytest.mark.parametrize("answer, blamed", [
    (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", False),
    (b"HTTP/1.1 503 Busy\r\n\r\n", False),
    (b"SSH-2.0-OpenSSH_9.2\r\n", True),
    (ESTABLISHED + b"forged", True),
])
def test_an_address_that_opens_no_way_is_followed_by_the_next(proxied, outgoing, azure, operator, answer, blamed):
    """Nothing was sent yet, so that goes for every method. What is no answer of a proxy is held against its address;
    that a proxy reaches nobody is not."""
    sick = Outgoing({})
    sick.answer = answer
    with socket.create_server(("::1", sick.port), family=socket.AF_INET6) as good:
        threading.Thread(target=outgoing.accept, args=(good,), daemon=True).start()
        proxy = proxied({"url": "http://localhost:%d" % sick.port}, workers=1, upstream={"ejection": {"failures": 1, "time": "1m", "most": "1m"}})
        posted = proxy.ask("POST", RUNS, operator, [("Content-Type", "application/json")], b"{}")
        assert posted.status == 200, posted.body
        assert [r.method for r in azure.received] == ["POST"] and len(sick.heads) == 1
        assert proxy.outcome(posted)["upstream"]["attempts"] == 2
        ejected = [e["event"]["detail"]["address"] for e in proxy.events("upstream.ejected")]
        assert ejected == (["127.0.0.1"] if blamed else [])
        sick.answer = outgoing.answer = b"HTTP/1.1 504 Late\r\n\r\n"
        azure.hang_up()
        until(lambda: proxy.metric(r"^dagward_upstream_connections ") == 0, "the proxy knows")
        refused = proxy.ask("POST", RUNS, operator, [("Content-Type", "application/json")], b"{}")
        assert refused.status == 504 and b"(504)" in refused.body, refused.body
    sick.close()


def test_an_address_that_says_no_has_the_last_word(proxied, outgoing, azure, operator):
    """What a proxy forbids is not asked of the next."""
    strict = Outgoing({})  # 403
    with socket.create_server(("::1", strict.port), family=socket.AF_INET6) as good:
        threading.Thread(target=outgoing.accept, args=(good,), daemon=True).start()
        refused = proxied({"url": "http://localhost:%d" % strict.port}).ask("GET", ITEM, operator)
        assert refused.status == 502 and b"(403)" in refused.body and not outgoing.heads
    strict.close()


def test_a_proxy_that_opens_tls_gets_nothing(proxied, outgoing, azure, operator, tmp_path):
    from kit.certs import Authority

    spy = Upstream(tls=Authority(tmp_path / "spy", "spy").server("dev.azure.com"))
    outgoing.routes["dev.azure.com:443"] = spy.port
    refused = proxied().ask("GET", ITEM, operator)
    assert refused.status == 502 and b"certificate not accepted" in refused.body and b"through the outgoing proxy" in refused.body
    assert not spy.received
    spy.close()


def test_the_environment_counts_only_if_it_is_asked_for(proxied, outgoing, azure, operator, monkeypatch, start_proxy, issuer, authority):
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, outgoing.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # for what this test asks itself
    here = Upstream(tls=authority.server("localhost"))
    direct = start_proxy([issuer.config()], POLICY, {"ca": str(authority.file), "hosts": {"*": here.url}})
    assert direct.ask("GET", ITEM, operator).status == 200
    alone = start_proxy([issuer.config()], POLICY, {"ca": str(authority.file), "timeouts": {"connect": "1s"}}, ready=False)
    assert alone.ask("GET", ITEM, operator).status in (502, 503, 504)
    assert not outgoing.heads, "the environment's proxy was used"
    told = proxied({"environment": True})
    assert told.ask("GET", ITEM, operator).status == 200
    assert outgoing.asked() == ["dev.azure.com:443"]
    assert "(https_proxy)" in told.log()
    here.close()


def test_user_and_exceptions_of_the_environment(proxied, outgoing, azure, operator, monkeypatch):
    outgoing.user = "edge:a/b@c"
    monkeypatch.setenv("HTTPS_PROXY", "http://edge:a%%2Fb%%40c@127.0.0.1:%d/" % outgoing.port)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8, .example.internal")
    proxy = proxied({"environment": True})
    assert proxy.ask("GET", ITEM, operator).status == 200
    assert "a/b@c" not in proxy.log() and "a%2Fb" not in proxy.log()
    monkeypatch.setenv("NO_PROXY", ".azure.com")
    direct = proxied({"environment": True}, upstream={"timeouts": {"connect": "1s"}}, ready=False)
    before = len(outgoing.heads)
    assert direct.ask("GET", ITEM, operator).status in (502, 503, 504)
    assert len(outgoing.heads) == before


def doctor(proxy):
    proxy.write_files()
    told = subprocess.run([BINARY, "doctor", "--config", proxy.config_file, "--only", "upstream", "--only", "limits", "--json"], capture_output=True, text=True,
                          timeout=seconds(60))
    found = json.loads(told.stdout)
    return {d["name"]: d for d in found["diagnoses" if "diagnoses" in found else "findings"]}


def test_the_doctor_names_what_is_wrong_with_it(proxied, outgoing, azure, authority, tmp_path):
    from kit.certs import Authority

    proxy = proxied()
    found = doctor(proxy)
    assert outgoing.url in found["limits-outgoing-proxy"]["found"]
    assert "upstream-reachable" in found, found
    outgoing.user = "edge:secret"
    found = doctor(proxy)["upstream-proxy-credentials"]
    assert "407" in found["cause"] and "credentials_file" in found["remedy"]
    outgoing.user, outgoing.answer = None, b"220 mail.example ESMTP\r\n"
    assert "not HTTP" in doctor(proxy)["upstream-proxy-broken"]["found"]
    outgoing.answer = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    assert "allowed" in doctor(proxy)["upstream-proxy-refuses"]["remedy"]
    outgoing.answer = None
    spy = Upstream(tls=Authority(tmp_path / "spy", "spy").server("dev.azure.com"))
    outgoing.routes["dev.azure.com:443"] = spy.port
    found = doctor(proxy)["upstream-tls-untrusted"]
    assert "opens the TLS" in found["cause"] and "spy" in found["remedy"]
    spy.close()
    gone = Outgoing({})
    gone.close()
    proxy.config["outgoing_proxy"] = {"url": gone.url}
    found = doctor(proxy)["upstream-proxy-unreachable"]
    assert gone.url in found["cause"] and "outgoing_proxy" in found["remedy"]


def test_check_says_which_proxy_is_used(proxied, outgoing, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://edge:hidden@proxy.example:3128")
    proxy = proxied({"environment": True}, ready=False)
    told = subprocess.run([BINARY, "check", "--config", proxy.config_file], capture_output=True, text=True)
    assert told.returncode == 0 and "outgoing proxy: http://proxy.example:3128, from HTTPS_PROXY" in told.stdout, told.stdout + told.stderr
    assert "hidden" not in told.stdout + told.stderr
