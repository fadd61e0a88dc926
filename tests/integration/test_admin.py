"""The admin listener under clients that are slow, cut what they say in pieces or talk nonsense."""
import re
import socket

import pytest

from kit import wire
from kit.policies import POLICY
from kit.waiting import ROOT, seconds


def connect(proxy, room=None):
    s = socket.socket()
    if room:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    s.settimeout(seconds(10))
    s.connect(("127.0.0.1", proxy.admin_port))
    return s


def rest_of(s, part=65536):
    got = b""
    while more := s.recv(part):
        got += more
    return got


def test_a_question_that_comes_byte_by_byte(proxy):
    with connect(proxy) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"HEAD /readyz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n":
            s.sendall(bytes([byte]))
        head, _, body = rest_of(s).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and not body


def test_a_reader_of_a_few_bytes_gets_all_of_the_page(proxy):
    whole = proxy.admin_get("/metrics").text
    with connect(proxy, room=2048) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = rest_of(s, 512).partition(b"\r\n\r\n")
    assert b"200" in head.splitlines()[0]
    # Numbers change meanwhile; what is named does not.
    names = lambda text: [line.split(" ")[0] for line in text.splitlines()]
    assert names(body.decode()) == names(whole)


@pytest.mark.parametrize("question, reads", [("/healthz", True), ("/healthz", False), ("/metrics", False)])
def test_who_has_its_answer_and_stays_keeps_no_probe_away(proxy, question, reads):
    """Read or not, and also where an answer is larger than what is taken of it without reading."""
    held = []
    try:
        for _ in range(100):
            held.append(connect(proxy, room=2048))
            held[-1].sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % question.encode())
            if reads:
                assert b" 200 " in rest_of(held[-1])
        for _ in range(5):
            assert proxy.admin_get("/healthz").status_code == 200
    finally:
        for one in held:
            one.close()


NONSENSE = [
    (b"GET /healthz HTTP/1.1\nHost: x\n\n", 400),
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    (b"BREW /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70000, 431),
]


def test_nonsense_is_named_and_who_hangs_up_harms_nobody(proxy):
    for raw, status in NONSENSE:
        with connect(proxy) as s:
            try:
                s.sendall(raw)
            except ConnectionError:
                pass
            first, _ = wire.Reader(s).head()
        assert int(first.split(" ")[1]) == status, first
    for _ in range(20):
        with connect(proxy) as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert proxy.admin_get("/readyz").status_code == 200


def test_the_guides_name_every_metric_and_no_other(start_proxy, issuer, upstream):
    """Those of sinks and of a shadow policy are there when there is one."""
    proxy = start_proxy([issuer.config()], POLICY, upstream.url, policies={"shadow": "policy.yaml"},
                        audit={"sinks": [{"name": "collector", "type": "stdout"}]})
    told = set(re.findall(r"^# TYPE (\w+)", proxy.admin_get("/metrics").text, re.M))
    named = {name for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
             for name in re.findall(r"\bdagward_\w+", page.read_text())}
    assert named == told, "not documented: %s; not there: %s" % (sorted(told - named), sorted(named - told))
