"""`dagward emulate azure-devops` as a child process: REST, discovery, git and LFS on loopback."""
import subprocess
from pathlib import Path

import requests

from kit import secrets
from kit.waiting import BINARY, lasting, seconds


def ready_line(process, log):
    """The line with which an embedded server says where it is."""
    line = process.stdout.readline().decode()
    assert line.startswith("READY "), "%r %s" % (line, Path(log).read_text())
    return line.split()[1:]


class Emulator:
    def __init__(self, folder, *tokens, command=BINARY):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = [command, "emulate", "azure-devops", "--port", "0", "--data", self.folder / "data"]
        for token in tokens:
            arguments += ["--token", token]
        self.log = self.folder / "emulator.log"
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(self.log, "ab"), env=lasting())
        said = ready_line(self.process, self.log)
        self.url = said[0]
        self.storage = said[-1].split("storage=")[1]

    def repository(self, project, name):
        return self.folder / "data" / "git" / project / (name + ".git")

    def requests(self):
        """Received heads, [{method, target, headers}], oldest first."""
        return requests.get(self.url + "/~emulator/requests", timeout=seconds(10)).json()

    def forget(self):
        requests.delete(self.url + "/~emulator/requests", timeout=seconds(10)).raise_for_status()

    def behave(self, **settings):
        requests.post(self.url + "/~emulator", json=settings, timeout=seconds(10)).raise_for_status()

    def assert_clean(self):
        """No caller's credential in anything that came here."""
        answer = requests.get(self.url + "/~emulator/requests", timeout=seconds(10))
        secrets.assert_no_leak(answer.content, "what the emulator received", secrets.CALLERS)
        state = requests.get(self.url + "/~emulator", timeout=seconds(10)).json()
        assert state["credentials_to_storage"] == 0, "storage was sent a credential"

    def stop(self):
        self.assert_clean()
        self.process.terminate()
        assert self.process.wait(timeout=seconds(20)) == 0, self.log.read_text()[-2000:]
