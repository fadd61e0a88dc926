"""One life of the proxy under Valgrind's memcheck: it starts, serves, refuses, is loaded again and ends
without an error and without a byte that nobody holds any more.

Libraries below us that sanitizers do not see into (OpenSSL, libcurl, jansson) are looked at here. It takes
some minutes, so it runs where DAGWARD_MEMCHECK is set, as tests/nightly does.
"""
import os
import shutil
import signal

import pytest

from kit import waiting, wire
from kit.policies import POLICY
from kit.proxy import Proxy
from kit.waiting import free_port, until

pytestmark = [
    pytest.mark.skipif(not os.environ.get("DAGWARD_MEMCHECK"), reason="takes minutes: set DAGWARD_MEMCHECK=1"),
    pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not here"),
    pytest.mark.skipif(waiting.sanitizer() != "none", reason="not together with a sanitizer"),
]
LIST = "/contoso/analytics/_apis/pipelines"
RUNS = "/contoso/analytics/_apis/pipelines/42/runs"
ERRORS = 97


@pytest.fixture
def slowly(monkeypatch):
    monkeypatch.setenv("DAGWARD_SLOWNESS", "20")
    waiting.slowness.cache_clear()
    yield
    monkeypatch.undo()
    waiting.slowness.cache_clear()


def test_a_life_under_memcheck(tmp_path, issuer, upstream, authority, operator, slowly):
    certificate, key = authority.issue("localhost")
    port = free_port()
    proxy = Proxy(tmp_path / "proxy", [issuer.config()], POLICY, upstream.url, log={"level": "info"},
                  timeouts={"headers": "120s"})  # a handshake alone may take longer than callers are given
    proxy.config["listen"].append({"address": "127.0.0.1:%d" % port, "tls": {"certificate": str(certificate), "key": str(key)}})
    report = tmp_path / "memcheck"
    # What a thread keeps for its next errno or locale, and what libraries keep until the end, is still reachable.
    proxy.runner = ["valgrind", "-q", "--error-exitcode=%d" % ERRORS, "--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible",
                    "--show-leak-kinds=definite,indirect,possible", "--num-callers=30", "--fair-sched=yes", "--log-file=%s" % report]
    proxy.start()
    try:
        for _ in range(3):
            assert proxy.ask("GET", LIST, operator).status == 200
            assert proxy.ask("POST", RUNS, operator, [("Content-Type", "application/json")], b'{"resources":{}}').status in (200, 201, 403)
        assert proxy.ask("GET", "/", operator).status == 200
        assert proxy.ask("GET", "/elsewhere/x/_apis/projects", operator).status == 403
        assert proxy.ask("GET", LIST, operator[:-8] + "AAAAAAAA").status == 401
        assert proxy.ask("GET", LIST, None).status == 401
        assert proxy.ask("GET", LIST + "/%2e%2e/x", operator).status == 400
        over_tls = wire.Client(port, tls=authority.client())
        assert over_tls.ask("GET", LIST, [("Authorization", "Bearer " + operator)]).status == 200
        over_tls.close()
        assert proxy.admin_get("/metrics").status_code == 200
        before = len(proxy.events("reload.done"))
        proxy.signal(signal.SIGHUP)
        until(lambda: len(proxy.events("reload.done")) > before, "no reload", within=30)
        assert proxy.ask("GET", LIST, operator).status == 200
        proxy.process.terminate()
        until(lambda: proxy.process.poll() is not None, "it does not end", within=30)
        status = proxy.process.returncode
    finally:
        proxy.kill()
    # Lines with dashes are Valgrind's own: system calls of the confinement that it does not know.
    told = "\n".join(line for line in report.read_text().splitlines() if not line.startswith("--")) if report.exists() else ""
    assert status == 0 and not told, "exit status %s\n%s\n%s" % (status, told[:6000], proxy.log()[-2000:])
