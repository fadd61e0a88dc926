#!/usr/bin/python3
"""What we accept of an answer, other parsers must understand the same way: the HTTP client of
Node.js (llhttp), h11, and nginx as a proxy between its client and whoever answers so.

    answers.py READ_ANSWER [--count N] [--seed N] [--table] [--show CLASS]

READ_ANSWER is the build's differential_read_answer. Answers come from a grammar
(generate_answers.py). Two claims are held, over the bytes that we accept as one whole answer:

  1. whoever else accepts them sees the same status, body and end (and fields and interim answers,
     where it tells them), and nothing behind it: nobody can be made to see another answer, or one
     more, than the one we pass on;
  2. somebody else accepts them.

Exit status: 0 the claims hold, 1 they do not, 2 wrong usage, 77 nobody to compare with.
"""
import asyncio
import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import oracles  # noqa: E402
from generate_answers import AnswerMaker  # noqa: E402
from oracles import h11, text  # noqa: E402


class Answer:
    """What a parser said: statuses (None: it tells none but the last), fields (None: it changes them), body, whether that
    is all of it, and why it refused something (empty: it did not)."""

    def __init__(self, statuses=(), fields=None, body=b"", complete=False, why=""):
        self.statuses, self.fields, self.body, self.complete, self.why = list(statuses), fields, body, complete, why


def pairs(hexed):
    raw = [text(one) for one in hexed]
    return [(n.lower(), v.strip(b" \t")) for n, v in zip(raw[::2], raw[1::2])]


# --- ours ---

def ask_us(read, exchanges):
    sent = b"".join((b"H" if head else b"G") + struct.pack(">I", len(raw)) + raw for head, raw in exchanges)
    answers = []
    for line in oracles.ask_program([read], sent, len(exchanges)):
        answer = Answer(line["statuses"], pairs(line["fields"]), text(line["body"]), line["complete"], text(line["why"]).decode())
        answer.begun, answer.used = line["begun"], line["used"]
        answers.append(answer)
    return answers


# --- h11 ---

def ask_h11_one(head, raw):
    connection, told = h11.Connection(h11.CLIENT, max_incomplete_event_size=65536), Answer(fields=[])
    connection.send(h11.Request(method="HEAD" if head else "GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(raw)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                told.statuses.append(event.status_code)
            elif isinstance(event, h11.Response):
                told.statuses.append(event.status_code)
                told.fields = [(n.lower(), v) for n, v in event.headers.raw_items()]
            elif isinstance(event, h11.Data):
                told.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                told.complete = True
                told.rest = connection.trailing_data[0]
                break
            else:
                break
    except h11.ProtocolError as error:
        told.why = str(error) or "refused"
    return told


def ask_h11(exchanges):
    return [ask_h11_one(head, raw) for head, raw in exchanges]


# --- Node.js ---

def ask_node(exchanges):
    sent = b"".join((b"H" if head else b"G") + raw.hex().encode() + b"\n" for head, raw in exchanges)
    told = oracles.ask_program([oracles.node_program(), HERE / "oracle_node_client.js"], sent, len(exchanges))
    # What is cut off is an error to it as well as an answer; whether it is whole is what is compared.
    return [Answer(one["statuses"], pairs(one["fields"]), text(one["body"]), one["complete"], one["refused"] or "") for one in told]


# --- nginx ---

class Nginx(oracles.Nginx):
    settings = "proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 64k;"
    location = "proxy_intercept_errors off; proxy_next_upstream off; proxy_read_timeout 15;"

    def __init__(self, exchanges):
        super().__init__()
        self.exchanges = exchanges

    async def backend(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(self.exchanges[int(head.split(b" ")[1][1:])][1])

    async def ask(self, i):
        head = self.exchanges[i][0]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        writer.write(b"%s /%d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % (b"HEAD" if head else b"GET", i))
        try:
            told = await asyncio.wait_for(reader.read(-1), oracles.DEADLINE)
        except (OSError, asyncio.TimeoutError):
            told = b""
        writer.close()
        try:
            return self.understand(told, head)
        except ValueError:  # it has passed on what nobody can read
            return Answer([-1], body=told)

    @staticmethod
    def understand(told, head):
        """nginx itself frames well: what it has passed on, and whether it thinks that it was all."""
        first, _, rest = told.partition(b"\r\n\r\n")
        line, *lines = first.split(b"\r\n")
        if not line.startswith(b"HTTP/1.1 "):
            return Answer(why="no answer")
        fields = dict((n.lower(), v.strip()) for n, _, v in (one.partition(b":") for one in lines))
        code = line.split(b" ")[1]
        status = int(code) if code.isdigit() else -1
        if status == 502:  # no answer here says so by itself
            return Answer(why="502")
        answer = Answer([status], body=rest, complete=True)
        if head or status in (204, 304):
            answer.body, answer.rest = b"", rest
        elif fields.get(b"transfer-encoding") == b"chunked":
            answer.body, answer.complete = b"", False
            while rest:
                size, _, rest = rest.partition(b"\r\n")
                n = int(size, 16)
                if n == 0:
                    answer.complete, answer.rest = True, rest[2:]
                    break
                answer.complete = False
                answer.body, rest = answer.body + rest[:n], rest[n + 2:]
        elif b"content-length" in fields:
            n = int(fields[b"content-length"])
            answer.body, answer.complete, answer.rest = rest[:n], len(rest) >= n, rest[n:]
        return answer


def ask_nginx(exchanges):
    return Nginx(exchanges).ask_all(len(exchanges))


# --- the claims ---

def told_fields(name, fields):
    """h11 folds the case of a coding."""
    return sorted((n, v.lower() if name == "h11" and n == b"transfer-encoding" else v) for n, v in fields)


def difference(name, ours, theirs):
    if name == "nginx":
        if ours.statuses[-1:] != theirs.statuses:
            return "status: %r and %r" % (ours.statuses, theirs.statuses)
    elif ours.statuses != [s for s in theirs.statuses]:
        # Node.js keeps 100 to itself.
        if name != "node" or [s for s in ours.statuses if s != 100] != [s for s in theirs.statuses if s != 100]:
            return "statuses: %r and %r" % (ours.statuses, theirs.statuses)
    if theirs.fields is not None and told_fields(name, ours.fields) != told_fields(name, theirs.fields):
        return "fields: %r and %r" % (ours.fields, theirs.fields)
    if ours.body != theirs.body:
        return "body: %r and %r" % (ours.body, theirs.body)
    if ours.complete != theirs.complete:
        return "end: %r and %r" % (ours.complete, theirs.complete)
    if getattr(theirs, "rest", b""):
        return "rest: %r" % theirs.rest
    return None


def accepts(answer):
    return not answer.why and bool(answer.statuses)


def main():
    options = oracles.options()
    asks = oracles.here(ask_h11, ask_node, ask_nginx)
    maker = AnswerMaker(options.seed)
    exchanges = [maker.exchange() for _ in range(options.count)]
    ours = ask_us(options.read, exchanges)
    # What we took is all that is passed on: behind it the connection ends, with what was left in it.
    judged = [(head, raw[:mine.used] if mine.complete else raw) for (head, raw), mine in zip(exchanges, ours)]
    # nginx 1.22 takes an interim answer for the final one. None goes further than us: it gets what would be passed on.
    passed_on = [(head, raw[mine.begun:] if mine.complete else raw) for (head, raw), mine in zip(judged, ours)]
    theirs = {name: ask(passed_on if name == "nginx" else judged) for name, ask in asks.items()}

    verdict = oracles.Verdict(theirs, options)
    for i, (exchange, mine) in enumerate(zip(judged, ours)):
        answers = {name: said[i] for name, said in theirs.items()}
        if mine.complete:
            verdict.we_accept(exchange, answers, accepts, lambda name, answer: difference(name, mine, answer))
        else:
            verdict.we_refuse(mine.why, [name for name, answer in answers.items() if accepts(answer) and answer.complete], exchange)
    whole = sum(mine.complete for mine in ours)
    interim = sum(mine.complete and len(mine.statuses) > 1 for mine in ours)
    verdict.tell("%d answers; %d whole, %d behind interim ones" % (len(exchanges), whole, interim), whole)


main()
