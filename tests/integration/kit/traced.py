"""What a client says to the network: its system calls, and those of its children."""
import re
import shutil
import subprocess

from kit.waiting import seconds

CALLS = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(.*?sa_family=(AF_INET6?), sin6?_port=htons\((\d+)\), .*?"
                   r"(?:inet_addr\(\"([^\"]+)\"\)|inet_pton\(AF_INET6, \"([^\"]+)\")")


def may_trace():
    done = subprocess.run(["strace", "-f", "-qq", "-e", "trace=connect", "-o", "/dev/null", "true"], capture_output=True)
    return done.returncode == 0


class Traced:
    """A finished process and the addresses that it, or a child of it, connected or sent to."""

    def __init__(self, command, folder, limit=120, **more):
        log = folder / "strace.log"
        command = ["strace", "-f", "-qq", "-s", "0", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", log, shutil.which(command[0]), *command[1:]]
        self.done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(limit), stdin=subprocess.DEVNULL, **more)
        self.addresses = {(a or b, int(port)) for _, port, a, b in CALLS.findall(log.read_text(errors="replace"))}

    def only(self, *ports):
        """It ended well, and nothing but these ports of 127.0.0.1 was reached for."""
        assert self.done.returncode == 0, "%s\n%s" % (self.done.stdout[-2000:], self.done.stderr[-3000:])
        astray = {a for a in self.addresses if a[0] != "127.0.0.1" or a[1] not in ports}
        assert self.addresses and not astray, "it also went to %s" % sorted(astray)
        return self.done.stdout
