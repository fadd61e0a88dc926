"""Canaries: every credential that a test makes is remembered here, and looked for where it must not be."""
import base64

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
    """A night's log is long and its tokens are many, but they begin alike: what no beginning is in, no secret is in."""
    raw = _bytes(text)
    known = [s for kind in kinds for s in kind if len(s) > 8]
    begun = {start for start in {s[:4] for s in known} if start in raw}
    return [s[:12] + b"..." for s in known if s[:4] in begun and s in raw]


def assert_no_leak(text, where, *kinds):
    found = leaks(text, kinds or (CALLERS, UPSTREAM))
    assert not found, "secrets %s found in %s" % (found, where)
