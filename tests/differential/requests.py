#!/usr/bin/python3
"""What we accept of a request, other parsers must understand the same way: the HTTP server of
Node.js (llhttp), h11, and nginx as a proxy in front of a backend that records what arrives.

    requests.py READ [--count N] [--seed N] [--table] [--show CLASS]

READ is the build's differential_read. Requests come from a grammar (generate.py). Two claims are
held, over the bytes that we accept:

  1. whoever else accepts them sees the same number of requests with the same methods, targets,
     fields, bodies and ends (nobody can be made to see another request than the one we judged);
  2. somebody else accepts them.

--table prints what we refuse and others accept, by our reason, for docs/http.md; --show prints
examples of one. Parsers that are not installed are left out, but not all of them.
Exit status: 0 the claims hold, 1 they do not, 2 wrong usage, 77 nobody to compare with.
"""
import asyncio
import collections
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import oracles  # noqa: E402
from generate import Maker  # noqa: E402
from oracles import h11, text  # noqa: E402

Request = collections.namedtuple("Request", "method target fields body complete")


def requests_of(seen):
    made = []
    for one in seen:
        fields = [text(f) for f in one["fields"]]
        made.append(Request(text(one["method"]), text(one["target"]), [(n.lower(), v.strip(b" \t")) for n, v in zip(fields[::2], fields[1::2])],
                            text(one["body"]), one["complete"]))
    return made


class Answer:
    """What a parser said: the requests it saw, and why it refused something (empty: it did not)."""

    def __init__(self, seen, why="", closed=False):
        self.seen, self.why = seen, why
        self.closed = closed  # it would have closed the connection behind the last one


# --- ours ---

def ask_us(read, messages):
    answers = []
    for line in oracles.ask_program([read], b"".join(struct.pack(">I", len(m)) + m for m in messages), len(messages)):
        answer = Answer(requests_of(line["seen"]), text(line["why"]).decode())
        answer.used = line["used"]
        answers.append(answer)
    return answers


# --- h11 ---

def ask_h11_one(raw):
    connection, seen = h11.Connection(h11.SERVER, max_incomplete_event_size=65536), []
    try:
        connection.receive_data(raw)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                seen.append([event.method, event.target, [(n.lower(), v) for n, v in event.headers.raw_items()], b"", False])
            elif isinstance(event, h11.Data):
                seen[-1][3] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                seen[-1][4] = True
            else:
                break
            if not isinstance(event, h11.EndOfMessage):
                continue
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE:
                break
            connection.start_next_cycle()
    except h11.ProtocolError as error:  # also what switches to another protocol
        return Answer([Request(*one) for one in seen], str(error) or "refused")
    return Answer([Request(*one) for one in seen], closed=connection.our_state is h11.MUST_CLOSE)


def ask_h11(messages):
    return [ask_h11_one(raw) for raw in messages]


# --- Node.js ---

def ask_node(messages):
    told = oracles.ask_program([oracles.node_program(), HERE / "oracle_node.js"], b"".join(m.hex().encode() + b"\n" for m in messages), len(messages))
    return [Answer(requests_of(line["seen"]), line["refused"] or "") for line in told]


# --- nginx ---

# What a proxy says itself or takes away (RFC 9110 7.6.1), and what tells whom a record is of.
OF_THE_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"expect", b"transfer-encoding", b"content-length", b"host", b"x-recorded-port",
              b"trailer", b"http2-settings"}


class Nginx(oracles.Nginx):
    settings = """ignore_invalid_headers off; underscores_in_headers on; merge_slashes off; keepalive_requests 1000; large_client_header_buffers 8 64k;
    client_header_timeout 20; client_body_timeout 20; lingering_close off;"""
    location = "proxy_ignore_client_abort on; proxy_set_header X-Recorded-Port $remote_port; proxy_set_header Host $http_host;"

    def __init__(self, messages):
        super().__init__()
        self.messages, self.records = messages, collections.defaultdict(list)

    async def backend(self, reader, writer):
        """nginx sends what it has read, with a length."""
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head[:-4].split(b"\r\n")
        method, target, _ = line.split(b" ", 2) if line.count(b" ") == 2 else (line.split(b" ")[0], b" ".join(line.split(b" ")[1:-1]), b"")
        fields = [(n.lower(), v.strip(b" \t")) for n, _, v in (one.partition(b":") for one in lines)]
        known = dict(fields)
        body = await reader.readexactly(int(known.get(b"content-length", 0)))
        fields = [(n, v) for n, v in fields if n not in OF_THE_HOP]
        self.records[int(known[b"x-recorded-port"])].append(Request(method, target, fields, body, True))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async def ask(self, i):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        port, told = writer.get_extra_info("sockname")[1], b""
        self.records.pop(port, None)
        try:
            writer.write(self.messages[i])
            writer.write_eof()
            told = await asyncio.wait_for(reader.read(-1), oracles.DEADLINE)
        except (OSError, asyncio.TimeoutError):
            pass
        writer.close()
        refused = [line for line in told.split(b"\r\n") if line.startswith(b"HTTP/1.1 ") and not line.startswith((b"HTTP/1.1 200", b"HTTP/1.1 100"))]
        why = refused[0].decode() if refused else "" if told else "no answer"
        return Answer(self.records.pop(port, []), why)


def ask_nginx(messages):
    return Nginx(messages).ask_all(len(messages))


# --- the claims ---

def same_target(name, ours, theirs):
    if ours == theirs:
        return True
    # A proxy takes scheme and authority off an absolute target.
    rest = ours.partition(b"://")[2] if name == "nginx" and not ours.startswith(b"/") else None
    return rest is not None and (rest[rest.find(b"/"):] if b"/" in rest else b"/") == theirs


def told_fields(name, fields):
    """Our fields as that parser tells them."""
    if name == "nginx":
        return [f for f in fields if f[0] not in OF_THE_HOP]
    if name == "h11":
        return [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in fields]
    return fields


def difference(name, ours, theirs):
    """None, or in what they differ; what the parser does not tell is not compared."""
    if name == "nginx":
        ours = [r for r in ours if r.complete]
    if theirs.closed and theirs.seen:
        ours = ours[:len(theirs.seen)]
    theirs = theirs.seen
    if len(ours) != len(theirs):
        return "number of requests: %d and %d" % (len(ours), len(theirs))
    for a, b in zip(ours, theirs):
        if a.method != b.method:
            return "method: %r and %r" % (a.method, b.method)
        if not same_target(name, a.target, b.target):
            return "target: %r and %r" % (a.target, b.target)
        fields = told_fields(name, a.fields)
        if sorted(fields) != sorted(b.fields):
            return "fields: %r and %r" % (fields, b.fields)
        if a.body != b.body and (a.complete or b.complete):
            return "body: %r and %r" % (a.body, b.body)
        if a.complete != b.complete:
            return "end: %r and %r" % (a.complete, b.complete)
    return None


def accepts(answer):
    return not answer.why and bool(answer.seen)


def main():
    options = oracles.options()
    asks = oracles.here(ask_h11, ask_node, ask_nginx)
    maker = Maker(options.seed)
    messages = [maker.message() for _ in range(options.count)]
    ours = ask_us(options.read, messages)
    # What we accepted is all that a proxy would act on: behind it the connection ends.
    judged = [m[:a.used] if a.seen else m for m, a in zip(messages, ours)]
    theirs = {name: ask(judged) for name, ask in asks.items()}

    verdict = oracles.Verdict(theirs, options)
    for i, (raw, mine) in enumerate(zip(judged, ours)):
        answers = {name: said[i] for name, said in theirs.items()}
        if not mine.seen:
            verdict.we_refuse(mine.why, [name for name, answer in answers.items() if accepts(answer)], raw)
        elif all(r.complete for r in mine.seen):
            verdict.we_accept(raw, answers, accepts, lambda name, answer: difference(name, mine.seen, answer))
    whole = sum(bool(a.seen) and all(r.complete for r in a.seen) for a in ours)
    rows = sum(len(a.seen) > 1 for a in ours)
    verdict.tell("%d messages; %d accepted and complete, %d with requests in a row" % (len(messages), whole, rows), whole)


main()
