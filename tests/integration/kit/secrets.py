"""Canaries: every credential that a test makes is remembered here, and looked for where it must not be."""
import base64
import subprocess
import tempfile

SHORT = 1 << 16  # what is looked through once for each secret
CALLERS = set()  # must reach neither upstream nor any log
UPSTREAM = set()  # the proxy's own: must reach no log and no client


def _bytes(value):
    return value if isinstance(value, bytes) else value.encode()


def caller(value):
    """Remembers a caller's secret, and hands it back. A token counts as leaked by its signature too."""
    raw = _bytes(value)
    CALLERS.add(raw)
    tail = raw.rsplit(b".", 1)[-1]
    if raw.count(b".") == 2 and len(tail) > 20:
        CALLERS.add(tail)
    return value


def upstream(value):
    UPSTREAM.add(_bytes(value))
    return value


def basic(user, password):
    """The value of a Basic Authorization field; its encoded form is a secret like the token."""
    return "Basic " + caller(base64.b64encode(_bytes("%s:%s" % (user, password))).decode())


def leaks(text, kinds):
    raw = _bytes(text)
    known = {s for kind in kinds for s in kind if len(s) > 8}
    if len(raw) > SHORT:
        known = {s for s in known if b"\n" in s} | _found_by_grep(raw, {s for s in known if b"\n" not in s})
    return [s[:12] + b"..." for s in known if s in raw]


def _found_by_grep(raw, known):
    """Those that are in what is long: it looks for all of them at once."""
    with tempfile.NamedTemporaryFile() as patterns:
        patterns.write(b"".join(s + b"\n" for s in known))
        patterns.flush()
        told = subprocess.run(["grep", "-aoFf", patterns.name], input=raw, stdout=subprocess.PIPE, env={"LC_ALL": "C"})
    assert told.returncode in (0, 1), "grep failed"
    return known & set(told.stdout.split(b"\n"))


def assert_no_leak(text, where, *kinds):
    found = leaks(text, kinds or (CALLERS, UPSTREAM))
    assert not found, "secrets %s found in %s" % (found, where)
