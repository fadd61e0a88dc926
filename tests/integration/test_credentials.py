"""Credentials for Azure DevOps: obtained at a token endpoint, renewed ahead, replaced when they are refused."""
import http.server
import json
import os
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit import secrets, upstreams
from kit.policies import POLICY
from kit.waiting import until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
PUSH = "/contoso/analytics/_git/dags/git-receive-pack"


class TokenEndpoint:
    """Answers as Entra does, until told otherwise."""

    def __init__(self):
        self.asked, self.given, self.lifetime, self.fail = [], [], 3599, None
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                endpoint.asked.append((self.path, form))
                status, body = endpoint.answer()
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self):
        if self.fail:
            return self.fail
        self.given.append(secrets.upstream("entra-%d-%s" % (len(self.given), os.urandom(8).hex())))
        return 200, {"token_type": "Bearer", "expires_in": self.lifetime, "ext_expires_in": self.lifetime, "access_token": self.given[-1]}

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint():
    endpoint = TokenEndpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(params=["client_secret", "federated"])
def credential(request, endpoint, tmp_path):
    """Each type that asks the endpoint; what it proves itself with is in `credential["secret"]`."""
    file = tmp_path / "proof"
    proof = secrets.upstream("proof-" + os.urandom(16).hex())
    file.write_text(proof + "\n")
    setting = "secret_file" if request.param == "client_secret" else "assertion_file"
    return {"name": "etl", "type": request.param, "tenant": "contoso.example", "client_id": "22222222-2222-2222-2222-222222222222",
            "authority": endpoint.url, setting: str(file)}, proof, file


@pytest.fixture
def with_credential(start_proxy, issuer, upstream, credential):
    def start(**more):
        return start_proxy([issuer.config()], POLICY, upstream.url, credentials=[credential[0]], **more)

    return start


def test_a_token_is_obtained_and_lent(with_credential, endpoint, credential, upstream, operator):
    proxy = with_credential()
    answers = [proxy.ask("GET", RUNS, operator) for _ in range(5)]
    assert {a.status for a in answers} == {200}
    assert {r["Authorization"] for r in upstream.received} == {"Bearer " + endpoint.given[0]}
    assert len(endpoint.asked) == 1, "one token serves many requests"
    path, form = endpoint.asked[0]
    assert path == "/contoso.example/oauth2/v2.0/token"
    assert form["grant_type"] == "client_credentials" and form["client_id"] == "22222222-2222-2222-2222-222222222222"
    assert form["scope"] == "499b84ac-1321-427f-aa17-267ca6975798/.default"
    if credential[0]["type"] == "client_secret":
        assert form["client_secret"] == credential[1]
    else:
        assert form["client_assertion"] == credential[1]
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    record = proxy.outcome(answers[0])
    assert record["credential"] == {"name": "etl", "type": credential[0]["type"]}


@pytest.mark.parametrize("credential", ["client_secret"], indirect=True)
def test_a_token_is_renewed_before_it_ends(with_credential, endpoint, upstream, operator):
    endpoint.lifetime = 6
    proxy = with_credential()
    used = set()

    def ask():
        assert proxy.ask("GET", RUNS, operator).status == 200
        used.add(upstream.received[-1]["Authorization"])
        return len(used) >= 2

    until(ask, "a second token comes into use", within=40, every=0.1)


def test_a_rejected_token_is_replaced_and_the_request_sent_again(with_credential, endpoint, upstream, operator):
    proxy = with_credential()
    upstream.tell(upstreams.SIGN_IN_CHALLENGE)
    answer = proxy.ask("POST", RUNS, operator, body=b'{"x":1}')
    assert answer.status == 200
    assert [r["Authorization"] for r in upstream.received] == ["Bearer " + t for t in endpoint.given[:2]]
    assert [r.body.kept for r in upstream.received] == [b'{"x":1}'] * 2
    record = proxy.outcome(answer)
    assert record["upstream"]["attempts"] == 2 and record["upstream"]["status"] == 200 and record["decision"]["effect"] == "allow"
    assert proxy.the_event("credential")["event"]["name"] == "credential.replaced"


def test_what_came_of_a_request_sent_again_is_not_recorded_as_its_rejection(with_credential, endpoint, upstream, operator):
    """The second time no answer came: that upstream said 401, to a request that may have been carried out, would be untrue."""
    proxy = with_credential()
    rejects = upstreams.message(401, "", [("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/t"), ("ActivityId", "a-1")])
    upstream.tell(rejects, None)
    answer = proxy.ask("POST", RUNS, operator, body=b"{}")
    assert answer.status == 502 and len(upstream.received) == 2
    record = proxy.outcome(answer)["upstream"]
    assert record["attempts"] == 2 and not {"status", "activity_id"} & record.keys() and record["ms"] > 0, record


def test_a_credential_that_is_always_rejected_is_502(with_credential, endpoint, upstream, operator):
    proxy = with_credential()
    upstream.always = upstreams.SIGN_IN_PAGE
    for _ in range(4):
        answer = proxy.ask("GET", RUNS, operator)
        assert answer.status == 502 and "credential" in answer.text
        assert proxy.outcome(answer)["decision"]["effect"] == "error"
    assert len(endpoint.asked) <= 2, "a rejection is no reason to hammer Entra"
    upstream.always = None
    assert proxy.ask("GET", RUNS, operator).status == 200


def test_a_streamed_body_is_not_sent_again_with_another_token(with_credential, endpoint, upstream, publisher):
    proxy = with_credential()
    upstream.tell(upstreams.SIGN_IN_CHALLENGE)
    answer = proxy.ask("POST", PUSH, publisher, body=b"x" * 200_000)
    assert answer.status == 502 and len(upstream.received) == 1
    assert answer["Content-Type"].startswith("text/plain") and answer.correlation in answer.text


def test_while_Entra_refuses_requests_are_503_and_it_recovers(with_credential, endpoint, credential, upstream, operator):
    endpoint.fail = (401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided.", "error_codes": [7000215]})
    proxy = with_credential(ready=False)
    assert proxy.admin_get("/readyz").status_code == 503
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 503 and upstream.received == [] and "AADSTS7000215 (wrong client secret)" in answer.text
    assert proxy.outcome(answer)["decision"]["effect"] == "error"
    assert "AADSTS7000215" in proxy.log() and "client secret" in proxy.log()
    endpoint.fail = None
    credential[2].write_text(credential[1] + "\n\n")  # somebody looked at it
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it recovers", within=30, every=0.2)


def test_when_Entra_is_away_the_token_is_used_until_it_ends(with_credential, endpoint, upstream, operator):
    proxy = with_credential()
    assert proxy.ask("GET", RUNS, operator).status == 200
    endpoint.close()
    upstream.tell(upstreams.SIGN_IN_CHALLENGE)
    answer = proxy.ask("GET", RUNS, operator)
    assert answer.status == 502, "no other token can be had"
    proxy.outcome(answer)
    endpoint.__init__()


def test_single_flight(with_credential, endpoint, upstream, operator):
    proxy = with_credential()
    assert proxy.ask("GET", RUNS, operator).status == 200
    asked = len(endpoint.asked)
    first = "Bearer " + endpoint.given[0]
    upstream.always = lambda sock, request: upstreams.SIGN_IN_CHALLENGE if request["Authorization"] == first else upstreams.Upstream.standard(sock, request)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: proxy.ask("GET", RUNS, operator).status, range(32)))
    assert answers == [200] * 32
    assert len(endpoint.asked) == asked + 1, "one replacement for all that met the refusal"


def test_a_token_file_is_read_again_when_it_changes(proxy, upstream, operator):
    assert proxy.ask("GET", RUNS, operator).status == 200
    fresh = secrets.upstream("fresh-" + os.urandom(12).hex())
    proxy.token_file.write_text(fresh)

    def ask():
        assert proxy.ask("GET", RUNS, operator).status == 200
        return upstream.received[-1]["Authorization"] == "Bearer " + fresh

    until(ask, "the new token is in use", within=20, every=0.2)


def test_a_token_file_that_is_deleted_takes_its_token_with_it(proxy, upstream, operator):
    """Nothing else would end a PAT before a restart. What cannot be read, but is there, takes nothing away."""
    kept = proxy.token_file.read_text()
    proxy.token_file.write_text("")
    until(lambda: proxy.events("credential.refresh_failed"), "it is noticed")
    assert proxy.ask("GET", RUNS, operator).status == 200
    proxy.token_file.unlink()
    until(lambda: proxy.ask("GET", RUNS, operator).status == 503, "it is not lent any more", within=30, every=0.2)
    event = proxy.the_event("credential.withdrawn")
    assert event["event"]["detail"]["credential"] == "etl"
    assert proxy.metric(r'^dagward_credential_usable{credential="etl"}') == 0 and proxy.admin_get("/readyz").status_code == 503
    sent = len(upstream.received)
    assert proxy.ask("GET", RUNS, operator).status == 503 and len(upstream.received) == sent
    proxy.token_file.write_text(kept)
    until(lambda: proxy.ask("GET", RUNS, operator).status == 200, "it is lent again", within=20, every=0.2)


def test_each_binding_has_its_credential(start_proxy, issuer, upstream, operator, publisher, tmp_path):
    second = secrets.upstream("second-" + os.urandom(12).hex())
    (tmp_path / "second").write_text(second)
    policy = json.loads(json.dumps(POLICY))
    policy["bindings"][1]["credential"] = "other"
    (tmp_path / "first").write_text(secrets.upstream("first-canary-0123456789"))
    proxy = start_proxy([issuer.config()], policy, upstream.url, credentials=[
        {"name": "etl", "type": "static_file", "file": str(tmp_path / "first")}, {"name": "other", "type": "static_file", "file": str(tmp_path / "second")}])
    proxy.ask("GET", RUNS, operator)
    answer = proxy.ask("GET", "/contoso/analytics/_apis/git/repositories", publisher)
    assert [r["Authorization"] for r in upstream.received] == ["Bearer first-canary-0123456789", "Bearer " + second]
    assert proxy.outcome(answer)["credential"]["name"] == "other"


@pytest.mark.parametrize("organization", ["fabrikam", "contoso.evil.example", "conto"])
def test_a_credential_goes_to_no_other_organization(proxy, upstream, issuer, organization):
    policy = {"version": 1, "roles": {"all": {"allow": [{"access": ["read"]}]}},
              "bindings": [{"callers": {"issuer": "airflow", "subject": "*"}, "roles": ["all"], "credential": "etl"}]}
    proxy.reload(policy=policy)
    assert proxy.ask("GET", "/contoso/_apis/projects", issuer.mint()).status == 200
    answer = proxy.ask("GET", "/%s/_apis/projects" % organization, issuer.mint())
    assert answer.status in (400, 403) and len(upstream.received) == 1
    answer = proxy.ask("GET", "/~vsrm/%s/analytics/_apis/release/releases" % organization, issuer.mint())
    assert answer.status in (400, 403) and len(upstream.received) == 1
