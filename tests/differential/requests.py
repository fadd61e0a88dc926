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
import argparse
import asyncio
import collections
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from generate import Maker  # noqa: E402

try:
    import h11
except ImportError:
    h11 = None

DEADLINE = 20
Request = collections.namedtuple("Request", "method target fields body complete")


def text(hexed):
    return bytes.fromhex(hexed)


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
    told = subprocess.run([read], input=b"".join(struct.pack(">I", len(m)) + m for m in messages), capture_output=True, check=True).stdout.splitlines()
    assert len(told) == len(messages)
    answers = []
    for line in map(json.loads, told):
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
    told = subprocess.run([shutil.which("node") or "nodejs", HERE / "oracle_node.js"], input=b"".join(m.hex().encode() + b"\n" for m in messages), capture_output=True,
                          check=True).stdout.splitlines()
    assert len(told) == len(messages)
    return [Answer(requests_of(line["seen"]), line["refused"] or "") for line in map(json.loads, told)]


# --- nginx ---

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error crit;
events {{ worker_connections 2048; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    ignore_invalid_headers off; underscores_in_headers on; merge_slashes off; keepalive_requests 1000; large_client_header_buffers 8 64k;
    client_header_timeout 20; client_body_timeout 20; lingering_close off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1; proxy_ignore_client_abort on; proxy_set_header X-Recorded-Port $remote_port; proxy_set_header Host $http_host;
        }}
    }}
}}
"""
# What a proxy says itself or takes away (RFC 9110 7.6.1), and what tells whom a record is of.
OF_THE_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"expect", b"transfer-encoding", b"content-length", b"host", b"x-recorded-port",
              b"trailer", b"http2-settings"}


class Nginx:
    def __init__(self, folder):
        self.folder, self.records, self.port = Path(folder), collections.defaultdict(list), None

    async def recorded(self, reader, writer):
        """The backend. nginx sends what it has read, with a length."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *lines = head[:-4].split(b"\r\n")
            method, target, _ = line.split(b" ", 2) if line.count(b" ") == 2 else (line.split(b" ")[0], b" ".join(line.split(b" ")[1:-1]), b"")
            fields = [(n.lower(), v.strip(b" \t")) for n, _, v in (one.partition(b":") for one in lines)]
            known = dict(fields)
            body = await reader.readexactly(int(known.get(b"content-length", 0)))
            fields = [(n, v) for n, v in fields if n not in OF_THE_HOP]
            self.records[int(known[b"x-recorded-port"])].append(Request(method, target, fields, body, True))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def ask(self, raw, room):
        async with room:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            port, told = writer.get_extra_info("sockname")[1], b""
            self.records.pop(port, None)
            try:
                writer.write(raw)
                writer.write_eof()
                told = await asyncio.wait_for(reader.read(-1), DEADLINE)
            except (OSError, asyncio.TimeoutError):
                pass
            writer.close()
            refused = [line for line in told.split(b"\r\n") if line.startswith(b"HTTP/1.1 ") and not line.startswith((b"HTTP/1.1 200", b"HTTP/1.1 100"))]
            why = refused[0].decode() if refused else "" if told else "no answer"
            return Answer(self.records.pop(port, []), why)

    async def run(self, messages):
        backend = await asyncio.start_server(self.recorded, "127.0.0.1", 0, limit=1 << 20)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        (self.folder / "conf").write_text(NGINX.format(folder=self.folder, port=self.port, backend=backend.sockets[0].getsockname()[1]))
        process = await asyncio.create_subprocess_exec(nginx_program(), "-p", str(self.folder), "-e", str(self.folder / "error"), "-c", str(self.folder / "conf"))
        try:
            for _ in range(1000):
                try:
                    socket.create_connection(("127.0.0.1", self.port)).close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            room = asyncio.Semaphore(32)
            return await asyncio.gather(*(self.ask(raw, room) for raw in messages))
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
            backend.close()


def nginx_program():
    return shutil.which("nginx") or ("/usr/sbin/nginx" if os.access("/usr/sbin/nginx", os.X_OK) else None)


def ask_nginx(messages):
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(Nginx(folder).run(messages))


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
    options = argparse.ArgumentParser()
    options.add_argument("read")
    options.add_argument("--count", type=int, default=int(os.environ.get("DAGWARD_DIFFERENTIAL_RUNS", 2000)))
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--table", action="store_true")
    options.add_argument("--show")
    options = options.parse_args()
    asks = {}
    if h11:
        asks["h11"] = ask_h11
    if shutil.which("node") or shutil.which("nodejs"):
        asks["node"] = ask_node
    if nginx_program():
        asks["nginx"] = ask_nginx
    if not asks:
        print("neither h11, Node.js nor nginx is here")
        sys.exit(77)

    maker = Maker(options.seed)
    messages = [maker.message() for _ in range(options.count)]
    ours = ask_us(options.read, messages)
    # What we accepted is all that a proxy would act on: behind it the connection ends.
    judged = [m[:a.used] if a.seen else m for m, a in zip(messages, ours)]
    theirs = {name: ask(judged) for name, ask in asks.items()}

    agreed, differences, alone = collections.Counter(), [], []
    stricter, refused_alone = collections.defaultdict(collections.Counter), collections.Counter()
    for i, (raw, mine) in enumerate(zip(judged, ours)):
        if not mine.seen:
            who = [name for name in theirs if accepts(theirs[name][i])]
            refused_alone["refused"] += bool(mine.why)
            for name in who:
                stricter[mine.why or "(not complete)"][name] += 1
            if mine.why and options.show == mine.why:
                print(raw, who)
            continue
        if not all(r.complete for r in mine.seen):
            continue
        friends = 0
        for name, answers in theirs.items():
            if not accepts(answers[i]):
                continue
            friends += 1
            found = difference(name, mine.seen, answers[i])
            if found:
                differences.append((name, found, raw))
            else:
                agreed[name] += 1
        if not friends:
            alone.append((raw, {name: answers[i].why for name, answers in theirs.items()}))

    for name, found, raw in differences[:20]:
        print("%s differs in %s\n  %r" % (name, found, raw))
    for raw, why in alone[:20]:
        print("only we accept %r\n  %r" % (raw, why))
    whole = sum(bool(a.seen) and all(r.complete for r in a.seen) for a in ours)
    print("%d messages; %d accepted and complete, %d with requests in a row; agreed: %s; %d differences, %d that only we accept" % (
        len(messages), whole, sum(len(a.seen) > 1 for a in ours), ", ".join("%s %d" % pair for pair in sorted(agreed.items())), len(differences), len(alone)))
    if options.table:
        for why, counts in sorted(stricter.items(), key=lambda pair: -sum(pair[1].values())):
            print("| %s | %s |" % (why, " | ".join(str(counts[name]) for name in sorted(theirs))))
        print("of %d refused" % refused_alone["refused"])
    # A generator that makes hardly anything good would prove nothing.
    funded = whole > options.count // 5 and all(agreed[name] > options.count // 10 for name in theirs)
    sys.exit(0 if funded and not differences and not alone else 1)


main()
