"""Time: everything that is awaited is polled against a deadline, and all deadlines share one factor."""
import functools
import os
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("DAGWARD", ROOT / "build" / "dagward")).resolve()
INSPECTOR = Path(os.environ.get("DAGWARD_INSPECTOR", BINARY)).resolve()


@functools.lru_cache(None)
def sanitizer():
    """What the binary under test was built with: "none", "address,undefined", "thread"."""
    told = subprocess.run([BINARY, "version"], capture_output=True, text=True).stdout
    for line in told.splitlines():
        if line.startswith("sanitizer"):
            return line.split()[1]
    return "none"


@functools.lru_cache(None)
def covers():
    """Whether the binary under test counts what of it is run."""
    return b"built to measure coverage" in BINARY.read_bytes()


def confines():
    """Whether the binary under test confines itself when it is told to: one for tests of another kind does not."""
    return sanitizer() == "none" and not covers()


@functools.lru_cache(None)
def slowness():
    """How much longer than a release binary on a quiet machine things may take."""
    given = os.environ.get("DAGWARD_SLOWNESS")
    return float(given) if given else 1.0 if sanitizer() == "none" else 4.0


# A command looks for leaks only when whoever runs the tests says so: with a sanitizer that look takes as long as the command.
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")


def lasting(more=None):
    """The environment of a process that stays, with `more`. At its end it does look for leaks. Nor does it take a third
    of its start to read the world's certificates, unless it should."""
    found = {"SSL_CERT_FILE": os.devnull, **os.environ, **(more or {})}
    return {**found, "ASAN_OPTIONS": found["ASAN_OPTIONS"] + ":detect_leaks=1"}


def seconds(n):
    return n * slowness()


def until(what, about, within=10, every=0.02):
    """The first truthy answer of `what`; fails with `about` when none comes in time."""
    deadline = time.monotonic() + seconds(within)
    while True:
        got = what()
        if got:
            return got
        if time.monotonic() > deadline:
            raise AssertionError("waited %.0f s in vain: %s" % (seconds(within), about() if callable(about) else about))
        time.sleep(every)


PORTS, PORTS_EACH = 10000, 4000  # below the ports that the system gives to connections
_next_port = os.getpid() * 37 % PORTS_EACH


def free_port():
    """One that nobody listens on, and that neither a connection nor another process of these tests takes meanwhile."""
    global _next_port
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 5
    while True:
        _next_port = (_next_port + 1) % PORTS_EACH
        port = PORTS + process * PORTS_EACH + _next_port
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue