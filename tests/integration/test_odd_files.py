"""Where a file is expected there is something else: nobody waits for it, and what is in force stays."""
import json
import os
import pty
import subprocess

import pytest
import requests

from kit.policies import POLICY
from kit.waiting import BINARY, free_port, seconds, until

RUNS = "/contoso/analytics/_apis/pipelines/42/runs"


@pytest.fixture
def files(start_proxy, issuer, upstream, authority, tmp_path):
    """A proxy, and each kind of file that it reads again at a reload."""
    certificate, key = authority.issue("localhost")
    made = {name: tmp_path / name for name in ("client-ca", "upstream-ca", "keys", "bearer", "more.yaml", "token")}
    for name in ("client-ca", "upstream-ca"):
        made[name].write_bytes(authority.file.read_bytes())
    made["keys"].write_text(json.dumps(issuer.key_set()))
    made["bearer"].write_text("the-bearer")
    made["token"].write_text("another-upstream-token")
    made["more.yaml"].write_text(json.dumps({"version": 1}))
    plain, tls = free_port(), free_port()
    other = {**issuer.config({"discovery": True, "bearer_file": str(made["bearer"])}), "name": "other", "issuer": "https://other.example"}
    other["keys"] = {"url": issuer.url + "/jwks", "bearer_file": str(made["bearer"])}
    proxy = start_proxy.unstarted(
        [issuer.config({"file": str(made["keys"])}), other], POLICY, {"hosts": {"dev.azure.com": upstream.url}, "ca": str(made["upstream-ca"])},
        policies={"files": ["policy.yaml", str(made["more.yaml"])]},
        listen=[{"address": "127.0.0.1:%d" % plain}, {"address": "127.0.0.1:%d" % tls, "tls": {"certificate": certificate, "key": key, "client_ca": str(made["client-ca"])}}])
    proxy.config["credentials"].append({"name": "more", "type": "static_file", "file": str(made["token"])})
    proxy.port = plain
    proxy.start()
    return proxy, {**made, "certificate": certificate, "key": key, "configuration": proxy.config_file, "policy": proxy.policy_file}


def test_a_fifo_where_a_file_was_keeps_nobody_waiting(files, operator):
    proxy, all_of_them = files
    for name, path in all_of_them.items():
        os.rename(path, str(path) + ".kept")
        os.mkfifo(path)
        failed = len(proxy.events("reload.failed"))
        proxy.signal(1)
        until(lambda: len(proxy.events("reload.failed")) > failed, lambda: "%s: no word of it: %s" % (name, proxy.log()[-500:]))
        assert "FIFO" in proxy.events("reload.failed")[-1]["event"]["detail"]["first"], name
        assert requests.get(proxy.admin + "/healthz", timeout=seconds(5)).status_code == 200, name
        assert proxy.ask("GET", RUNS, operator).status == 200, name
        os.rename(str(path) + ".kept", path)
    proxy.reload()


def test_a_key_with_a_passphrase_asks_nobody_at_the_terminal(files, tmp_path):
    """Whoever reloads would wait for an answer that nobody gives."""
    proxy, all_of_them = files
    key = all_of_them["key"]
    locked = tmp_path / "locked"
    subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked], check=True)
    os.replace(locked, key)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(BINARY, [str(BINARY), "check", "--config", str(proxy.config_file)])
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
            if b"pass phrase" in shown:
                os.write(terminal, b"\n\n\n")  # so that it ends
    except OSError:  # it has closed the terminal
        pass
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    assert status == 2 and b"pass phrase" not in shown and key.encode() in shown, shown
