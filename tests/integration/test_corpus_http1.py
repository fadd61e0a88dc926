"""The corpus of raw HTTP/1.1 requests against running proxies: number and shape of what arrives
upstream must be what was authorised. Most of the time is spent waiting for what must not come, so
it runs in parts side by side, each with a proxy of its own."""
import subprocess
import sys

from kit.waiting import ROOT, free_port, seconds

PARTS = 8
POLICY = {
    "version": 1,
    "roles": {"reader": {"allow": [{"operations": ["git.repositories.list", "wit.wiql.queryByWiql"], "projects": ["widgets"]}]}},
    "bindings": [{"callers": {"issuer": "airflow", "subject": "worker"}, "roles": ["reader"], "credential": "etl"}],
}


def test_the_corpus_of_http1_requests(start_proxy, issuer, tmp_path):
    token = tmp_path / "token"
    token.write_text(issuer.mint())
    running = []
    for part in range(PARTS):
        upstream_port = free_port()
        proxy = start_proxy([issuer.config()], POLICY, {"organizations": ["acme"], "hosts": {"*": "http://127.0.0.1:%d" % upstream_port}}, workers=1)
        command = [sys.executable, ROOT / "tests/corpora/run-http1", "127.0.0.1", str(proxy.port), "--upstream-port", str(upstream_port), "--token-file", token,
                   "--upstream-auth", "Bearer " + proxy.upstream_token, "--shard", "%d/%d" % (part, PARTS)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    told = [process.communicate(timeout=seconds(240))[0] for process in running]
    failures = [line for text in told for line in text.splitlines() if line.startswith(("FAIL", "Traceback"))]
    assert not failures and all(p.returncode == 0 for p in running), "\n".join(failures) or "\n".join(t[-500:] for t in told)
    judged = sum(int(text.rsplit("total: ", 1)[1].split(" ")[0].split("/")[1]) for text in told)
    assert judged >= 870, "%d cases were judged" % judged
