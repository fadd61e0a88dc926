"""What requests.py and answers.py have in common: who is here to be compared with, how Node.js and nginx are asked, and the
verdict."""
import argparse
import asyncio
import collections
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import h11
except ImportError:
    h11 = None

HERE = Path(__file__).resolve().parent
DEADLINE = 20

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error crit;
events {{ worker_connections 2048; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {settings}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1; {location}
        }}
    }}
}}
"""


def text(hexed):
    return bytes.fromhex(hexed)


def node_program():
    return shutil.which("node") or shutil.which("nodejs")


def nginx_program():
    return shutil.which("nginx") or ("/usr/sbin/nginx" if os.access("/usr/sbin/nginx", os.X_OK) else None)


def ask_program(command, sent, n):
    """One line of JSON for each of `n` messages."""
    told = subprocess.run(command, input=sent, capture_output=True, check=True).stdout.splitlines()
    assert len(told) == n
    return [json.loads(line) for line in told]


def here(h11_asks, node_asks, nginx_asks):
    """Those whose program or module is installed; ends when there is none."""
    asks = {name: ask for name, ask, there in (("h11", h11_asks, h11), ("node", node_asks, node_program()), ("nginx", nginx_asks, nginx_program())) if there}
    if not asks:
        print("neither h11, Node.js nor nginx is here")
        sys.exit(77)
    return asks


class Nginx:
    """A proxy between `ask`, which sends it the message of that number, and `backend`. One life for each object."""

    settings = location = ""

    def __init__(self):
        self.port = None

    async def backend(self, reader, writer):
        raise NotImplementedError

    async def ask(self, i):
        raise NotImplementedError

    async def serve(self, reader, writer):
        try:
            await self.backend(reader, writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run(self, folder, n):
        backend = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 20)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        (folder / "conf").write_text(NGINX.format(folder=folder, port=self.port, backend=backend.sockets[0].getsockname()[1], settings=self.settings, location=self.location))
        process = await asyncio.create_subprocess_exec(nginx_program(), "-p", str(folder), "-e", str(folder / "error"), "-c", str(folder / "conf"))
        room = asyncio.Semaphore(32)

        async def one(i):
            async with room:
                return await self.ask(i)

        try:
            for _ in range(1000):
                try:
                    socket.create_connection(("127.0.0.1", self.port)).close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
            return await asyncio.gather(*(one(i) for i in range(n)))
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()
            backend.close()

    def ask_all(self, n):
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(self.run(Path(folder), n))


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("read")
    parser.add_argument("--count", type=int, default=int(os.environ.get("DAGWARD_DIFFERENTIAL_RUNS", 2000)))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--show")
    return parser.parse_args()


class Verdict:
    def __init__(self, names, options):
        self.names, self.options = sorted(names), options
        self.agreed, self.differences, self.alone = collections.Counter(), [], []
        self.stricter, self.refused = collections.defaultdict(collections.Counter), 0

    def we_refuse(self, why, who, message):
        """`who` accepts it."""
        self.refused += bool(why)
        for name in who:
            self.stricter[why or "(not complete)"][name] += 1
        if why and self.options.show == why:
            print(message, who)

    def we_accept(self, message, answers, accepts, difference):
        theirs = {name: answer for name, answer in answers.items() if accepts(answer)}
        for name, answer in theirs.items():
            found = difference(name, answer)
            if found:
                self.differences.append((name, found, message))
            else:
                self.agreed[name] += 1
        if not theirs:
            self.alone.append((message, {name: answer.why for name, answer in answers.items()}))

    def tell(self, counted, whole):
        """Ends the program; `whole`: how many we accepted."""
        for name, found, message in self.differences[:20]:
            print("%s differs in %s\n  %r" % (name, found, message))
        for message, why in self.alone[:20]:
            print("only we accept %r\n  %r" % (message, why))
        print("%s, %d refused; agreed: %s; %d differences, %d that only we accept" % (
            counted, self.refused, ", ".join("%s %d" % pair for pair in sorted(self.agreed.items())), len(self.differences), len(self.alone)))
        if self.options.table:
            for why, counts in sorted(self.stricter.items(), key=lambda pair: -sum(pair[1].values())):
                print("| %s | %s |" % (why, " | ".join(str(counts[name]) for name in self.names)))
        # A generator that makes hardly anything good would prove nothing.
        count = self.options.count
        funded = whole > count // 5 and all(self.agreed[name] > count // 10 for name in self.names)
        sys.exit(0 if funded and not self.differences and not self.alone else 1)
