"""`dagward audit report`: a page that counts right, and in which nothing of a record is markup."""

import gzip
import html.parser
import http.server
import re
import subprocess
import threading

import pytest

from kit import chromium, waiting
from kit.audit_log import AuditLog, merge

GLASS = {
    "kind": "event",
    "correlation_id": "019ab1c2-0000-7000-8000-000000000002",
    "caller": {"issuer": "entra", "subject": "ann"},
    "request": {"operation": "pipelines.runs.run", "resources": ["pipeline:42"]},
    "decision": {"effect": "allow", "binding": "incident", "rule": "policy.yaml:60", "break_glass": "INC-4711"},
    "event": {"name": "break_glass.used"},
}


def run(*arguments, **options):
    return subprocess.run(
        [waiting.BINARY, "audit", "report", *map(str, arguments)],
        capture_output=True,
        timeout=waiting.seconds(60),
        **options,
    )


class Page(html.parser.HTMLParser):
    """What a page is made of: markup without text, and rows of tables."""

    def __init__(self, text):
        super().__init__()
        self.markup, self.tables, self.caption, self.texts = [], {}, None, []
        self.inside = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.markup.append((tag, tuple((n, v) for n, v in attributes if n not in ("datetime", "content"))))
        if tag != "meta":
            self.inside.append(tag)
        if tag == "table":
            self.caption, self.rows = "", []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.markup.append((tag, tuple(attributes)))

    def handle_endtag(self, tag):
        assert tag in self.inside, "</%s> closes nothing" % tag
        while self.inside.pop() != tag:
            pass
        if tag == "table":
            self.tables[self.caption] = self.rows
            self.caption = None

    def handle_data(self, text):
        self.texts.append(text)
        if self.caption is None:
            return
        if "caption" in self.inside:
            self.caption += text
        elif "td" in self.inside or "th" in self.inside:
            self.rows[-1][-1] += text


def tiles(page):
    """{"Requests": 12, ...}"""
    text = "".join(page.texts)
    found = re.search(r"Requests.*?Intents without outcome[0-9\u202f]+", text, re.S).group(0)
    return {n: int(v.replace("\u202f", "")) for n, v in re.findall(r"([A-Z][^0-9\n]*?)([0-9][0-9\u202f]*)\n?", found)}


def report(log, *options):
    out = log.path.parent / "out.html"
    ended = run(log.path, "-o", out, *options)
    assert ended.returncode == 0, ended.stderr
    return Page(out.read_text())


def fill(log, hostile=lambda text: text):
    """One of everything; each value that a caller chooses goes through `hostile`."""
    h = hostile
    about = {
        "caller": {n: h(n) for n in ("subject", "token_id", "via", "address")},
        "claimed": {n: h(n) for n in ("dag_id", "run_id", "task_id", "map_index", "try_number", "user_agent")},
        "request": {n: h(n) for n in ("method", "host", "path", "query", "operation", "access", "organization", "project")},
    }
    about["caller"]["issuer"] = h("issuer")
    about["caller"]["roles"] = [h("role")]
    about["request"]["resources"] = ["pipeline:" + h("resource")]
    about["request"]["says"] = [h("says")]

    def with_all(**more):
        return merge({n: dict(v) for n, v in about.items()}, more)

    log.request(**with_all(decision={"rule": h("rule"), "role": h("role"), "binding": h("binding")}, run={"id": h("7"), "url": h("u")}))
    log.request(**with_all(decision={"effect": "deny", "rule": h("rule"), "reason": h("reason"), "shadow": h("shadow")}, response={"status": 403}))
    log.request(**with_all(decision={"effect": "error", "reason": h("reason")}, upstream={"host": h("host"), "activity_id": h("a")}))
    log.request(**with_all(caller=None, decision={"effect": "deny", "rule": None, "reason": h("bad")}, response={"status": 401}))
    log.request("intent", **with_all())
    glass = merge(with_all(), {n: v for n, v in GLASS.items() if n not in ("caller", "request", "decision")})
    log.record({**glass, "decision": {"effect": "allow", "binding": h("binding"), "break_glass": h("INC")}})
    for name in ("credential.replaced", "keys.changed", "reload.failed", "other"):
        log.event(name, issuer=h("issuer"), reason=h("why"), first=h("first"), added=h("k"))
    log.event(h("name"), credential=h("etl"))


HOSTILE = [
    "<script>document.title='pwned'</script>",
    "\"'><img src=x onerror=\"document.title='pwned'\">",
    "</style></title></textarea></svg><svg onload=alert(1)>",
    "--><!-- <![CDATA[ ]]> &lt;script&gt; &amp;",
    "javascript:alert(1)//' onmouseover='alert(1)",
    "\u202egpj.\u2066exe\u200b\u00ad\ufeff\u061c",
    "\x00\x01\x1b[31m\x7f\x85\r\n\t",
    "`${1}` {{7*7}} <%= 1 %>",
    "\U000e0041\ud7ff\ufffd\uffff\U0010ffff",
]
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_of_a_record_is_markup(tmp_path, value):
    pages = []
    for name, hostile in (("tame", lambda text: "T" + text), ("wild", lambda text: value + text)):
        (tmp_path / name).mkdir()
        log = AuditLog(tmp_path / name / "a.jsonl")
        fill(log, hostile)
        log.close()
        pages.append(report(log, "--compare-since", "2026-11-24"))
    tame, wild = pages
    # The same elements and attributes, whatever the values are.
    assert [m for m in wild.markup if m[0] != "rect"] == [m for m in tame.markup if m[0] != "rect"]
    assert not wild.inside and not HIDDEN.search("".join(wild.texts))
    assert "".join(wild.texts).count("pwned") == 0 or "script" in value or "onerror" in value


def test_what_is_hidden_is_shown_by_its_number(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    log.request(caller={"subject": "ann\u202egpj.exe\x1b"})
    log.close()
    assert "ann[U+202E]gpj.exe[U+001B]" in "".join(report(log).texts)


@pytest.fixture
def listener():
    """A server on loopback that remembers what it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield "http://127.0.0.1:%d/" % server.server_address[1], asked
    server.shutdown()


@pytest.mark.skipif(not chromium.found(), reason="there is no chromium (.ci/packages, section browser)")
def test_a_browser_runs_and_asks_for_nothing_of_a_record(tmp_path, listener):
    url, asked = listener
    payload = (
        "</td></style></script><img src='%simg' onerror=\"fetch('%serror')\"><svg onload=\"fetch('%ssvg')\">"
        "<script>document.title='pwned';fetch('%sscript')</script><link rel=stylesheet href=%scss>"
        "<iframe src=%sframe></iframe><a href='javascript:x' autofocus onfocus=\"fetch('%sfocus')\">" % ((url,) * 7)
    )
    log = AuditLog(tmp_path / "a.jsonl")
    fill(log, lambda text: payload + text)
    log.close()
    report(log, "--compare-since", "2026-11-24")
    page = tmp_path / "out.html"

    def load(path):
        asked.clear()
        dom = chromium.dump_dom(path, tmp_path / ("profile-" + path.stem), waiting.seconds(60))
        return dom, list(asked)

    # That the listener hears: the payload as markup, without the policy.
    naked = tmp_path / "naked.html"
    naked.write_text("<!doctype html><table><tr><td>%s</table>" % payload)
    dom, heard = load(naked)
    assert "/img" in heard and "/script" in heard and "<title>pwned" in dom
    # The page; and the page without its policy, since escapes have to be enough.
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text()))
    assert bare.read_text() != page.read_text()
    for path in (page, bare):
        dom, heard = load(path)
        assert heard == [] and "<title>Dagward audit report</title>" in dom
        # Its own script ran: the policy's digests are those of the page.
        assert '<th scope="col" class="n"><button type="button">' in dom


def test_the_page_needs_and_names_nothing_else(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    fill(log)
    log.close()
    page = report(log)
    text = (tmp_path / "out.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!#)|url\(|@import|https?:", re.sub(r"<td.*?</td>", "", text, flags=re.S))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert [attributes for tag, attributes in page.markup if any(n.startswith("on") for n, _ in attributes)] == []
    for tag, attributes in page.markup:
        if tag == "svg":
            assert ("role", "img") in attributes
    assert text.count("<svg") == len(re.findall(r"<svg [^>]*><title", text))


def test_it_counts_right(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    for n in range(30):
        log.request(step=600000, ms=100 + n, upstream={"ms": 90 + n})
    for n in range(4):
        log.start(n + 1, caller={"subject": "ann", "issuer": "entra"})
    for n in range(3):
        log.request(decision={"effect": "deny", "rule": "policy.yaml:9", "reason": "no"}, response={"status": 403})
    for n in range(2):
        log.request(
            caller={"issuer": None, "subject": None},
            decision={"effect": "deny", "rule": None, "reason": "the token has expired"},
            response={"status": 401},
        )
    log.request(decision={"effect": "error", "reason": "upstream"}, response={"status": 504})
    log.request("intent")
    log.record(GLASS)
    log.event("keys.changed", issuer="airflow", added="k2", removed="k1")
    for n in (1000, 234):
        log.event("strangers.refused", address="10.0.0.9", reason="no-token", requests=str(n), seconds="60", worker="0")
    log.event("strangers.refused", address="10.0.0.9", reason="left", requests="70", seconds="60", worker="0")
    log.event("credential.refresh_failed", credential="etl", reason="AADSTS700024")
    log.close()
    page = report(log)
    assert tiles(page) == {
        "Requests": 1344,
        "Allowed": 34,
        "Denied": 1239,
        "Failed": 71,
        "Callers": 2,
        "Runs started": 4,
        "Break-glass uses": 1,
        "Intents without outcome": 1,
    }
    worker = "system:serviceaccount:airflow:workerairflow"
    who = {tuple(row[:2]): row[2:6] for row in page.tables["Callers and operations, the most frequent first"][1:]}
    assert who == {
        (worker, "build.builds.get"): ["34", "30", "3", "1"],
        ("annentra", "pipelines.runs.run"): ["4", "4", "0", "0"],
    }
    assert [row[:3] for row in page.tables["By rule and reason"][1:]] == [["policy.yaml:9", "no", "3"]]
    assert [row[:4] for row in page.tables["By reason and network address"][1:]] == [
        ["no-token: counted, without a record each", "10.0.0.9", "(none)", "1\u202f234"],
        ["the token has expired", "10.0.0.7", "(none)", "2"],
    ]
    glass = page.tables["Requests that only a break-glass binding allowed"][1]
    assert glass[1:] == ["ann", "pipelines.runs.run", "pipeline:42", "INC-4711", "incident", GLASS["correlation_id"]]
    assert [row[:7] for row in page.tables["DAGs and their tasks"][1:]] == [["nightly", "start", "40", "34", "5", "1", "4"]]
    assert [row[:4] for row in page.tables["Credentials"][1:]] == [["credential.refresh_failed", "etl", "reason AADSTS700024", "1"]]
    assert page.tables["Keys of issuers and authentication"][1][2] == "added k2; removed k1"
    hours = page.tables["Requests over time"][1:]
    assert [hours[0][0], hours[-1][0]] == ["2026-11-23 09:00", "2026-11-23 14:00"]
    assert [sum(int(row[i].replace("\u202f", "")) for row in hours) for i in (1, 2, 3)] == [34, 1239, 71]
    took = {row[0]: row[1:] for row in [r for c, r in page.tables.items() if c.startswith("How long")][0][1:]}
    assert took["read"][0] == "30" and took["execute"][0] == "4"
    assert abs(float(took["read"][1]) - 115) < 115 * 0.07 and took["read"][4] == "129.0"
    assert abs(float(took["without upstream"][1]) - 10) < 1


def test_a_period_leaves_out_the_rest_and_not_from_the_chain(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    for _ in range(6):
        log.request(step=24 * 3600 * 1000)
    log.close()
    page = report(log, "--since", "2026-11-25", "--until", "2026-11-27T09:00:00.010Z")
    assert tiles(page)["Requests"] == 2
    text = "".join(page.texts)
    assert "7 records fit together" in text and "5 records before or behind" in text


def test_rights_and_drift(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nroles:\n  r:\n    allow:\n      - {operations: [build.builds.get, pipelines.runs.run], projects: [analytics]}\n"
        "      - {operations: [git.fetch]}\n"
        "bindings: [{name: workers, callers: {issuer: airflow}, roles: [r], credential: etl}]\n"
    )
    log = AuditLog(tmp_path / "a.jsonl")
    log.request(decision={"role": "r"}, request={"path": "/contoso/analytics/_apis/build/builds/7"})
    log.request(step=24 * 3600 * 1000, decision={"role": "r"}, request={"project": "other"})
    log.close()
    page = report(log, "--policy", policy, "--compare-since", "2026-11-24")
    unused = page.tables["Entries that allow more than was used"][1:]
    assert [(row[0], row[4]) for row in unused] == [("r", "1 of 2 operations were used"), ("r", "never used")]
    new, gone = page.tables["New since then"][1:], page.tables["Not used any more"][1:]
    assert ["other" in row[0] for row in new] == [True] and ["analytics" in row[0] for row in gone] == [True]
    # Without a policy and a time it says how to get these.
    text = "".join(report(log).texts)
    assert "--policy" in text and "--compare-since" in text


def test_a_broken_chain_is_said_first(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    for _ in range(3):
        log.request()
    log.close()
    log.path.write_text(log.path.read_text().replace('"status":200', '"status":201', 1))
    ended = run(log.path, "-o", tmp_path / "out.html")
    assert ended.returncode == 1 and b"chain is not whole" in ended.stderr
    text = "".join(Page((tmp_path / "out.html").read_text()).texts)
    assert "The chain is not whole: do not rely on what this page says." in text and "a.jsonl:2 edited" in text


def test_files_may_be_compressed_and_come_in_any_order(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    log.request()
    log.begin(tmp_path / "b.jsonl")
    log.request()
    log.close()
    (tmp_path / "old").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    ended = run(log.path, tmp_path / "old", "-o", "-")
    assert ended.returncode == 0 and tiles(Page(ended.stdout.decode()))["Requests"] == 2


def test_a_flood_of_names_is_cut_and_said(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    for n in range(5300):
        log.line(
            '"time":"2026-11-23T10:00:00.000Z","kind":"outcome","request_id":"%d","claimed":{"dag_id":"d%d"},'
            '"request":{"method":"GET"},"decision":{"effect":"allow"},"ms":1.000' % (n, n)
        )
    log.close()
    page = report(log)
    text = "".join(page.texts)
    assert len(page.tables["DAGs and their tasks"]) == 201 and "4\u202f800 more rows" in text and "300 records are not in this table" in text
    assert tiles(page)["Requests"] == 5300


def test_nobody_else_reads_it_and_it_is_whole_or_not_there(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    log.request()
    log.close()
    report(log)
    assert (tmp_path / "out.html").stat().st_mode & 0o777 == 0o600
    ended = run(log.path, "-o", tmp_path / "none" / "out.html")
    assert ended.returncode == 2 and b"No such file" in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "home", "out.html"]


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        ([], 2, b"say which FILE"),
        (["a.jsonl"], 2, b"-o OUT.html is missing"),
        (["nowhere.jsonl", "-o", "-"], 2, b"No such file"),
        (["-o", "-", "x", "--since", "noon"], 2, b"--since: not a time: noon"),
        (["-o", "-", "x", "--policy", "nowhere.yaml"], 2, b"nowhere.yaml"),
        (["-o", "-", "x", "--policy", "a", "--config", "b"], 2, b"either --config or --policy"),
        (["--frobnicate"], 2, b"unrecognized option"),
        (["--help"], 0, b""),
    ],
)
def test_usage(arguments, status, says):
    ended = run(*arguments)
    assert ended.returncode == status and says in ended.stderr
    assert (b"usage: dagward audit report" in ended.stdout) == (arguments == ["--help"])


def test_an_empty_log_has_a_page_too(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    ended = run(tmp_path / "a.jsonl", "-o", "-")
    assert ended.returncode == 1 and tiles(Page(ended.stdout.decode()))["Requests"] == 0
