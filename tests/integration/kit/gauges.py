"""What has to be nothing when nobody is being served."""
import os

from kit.waiting import until

IDLE = ["client_connections", "exchanges", "memory_bytes", "upstream_connections", "upstream_connections_idle", "credential_throttled", "caller_exchanges"]


def descriptors(proxy):
    return len(os.listdir("/proc/%d/fd" % proxy.process.pid))


def busy(proxy):
    """The gauges that are not zero."""
    text = proxy.admin_get("/metrics").text
    found = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0].removeprefix("dagward_")
        if name in IDLE and float(line.rsplit(" ", 1)[1]):
            found[line.rsplit(" ", 1)[0]] = float(line.rsplit(" ", 1)[1])
    assert all("\ndagward_%s" % name in text for name in IDLE)
    return found


def wait_idle(proxy):
    until(lambda: not busy(proxy), lambda: "something is left: %s" % busy(proxy), within=15)
