"""Raw HTTP/1.1 answers from a grammar, most of them a little wrong; the same ones for the same seed."""
from generate import BODIES, Maker

STATUSES = ["200 OK", "200 OK", "200 OK", "201 Created", "203 x", "206 Partial", "301 Moved", "400 Bad Request", "404 ", "500 Internal Server Error", "503 Busy"]
BODILESS = ["204 No Content", "304 Not Modified", "205 Reset Content"]
INTERIM = ["100 Continue", "102 Processing", "103 Early Hints"]
ODD_STATUSES = ["200", "200  OK", "2000 OK", "20 OK", "099 x", "600 x", "999 x", "abc OK", "200\tOK", " 200 OK", "200 O\x00K", "200 O\rK", "+200 OK", "200 \u00e9", "101 Switching Protocols", "200 OK\n X: b"]
ODD_VERSIONS = ["HTTP/1.2", "HTTP/2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1.1 ", "ICY", "HTTP", ""]
HOP = ["Connection: close", "Connection: keep-alive", "Connection: close, X-A", "Keep-Alive: timeout=5", "Trailer: X-T", "Upgrade: h2c", "Proxy-Connection: close", "Connection: upgrade", "Connection: Content-Length"]


class AnswerMaker(Maker):
    def head(self, status, fields):
        version = self.pick(["HTTP/1.1"] * 9 + ["HTTP/1.0"], ODD_VERSIONS, 0.03)
        line = version + self.pick([" "], ["  ", "\t", ""], 0.02) + status
        return self.lines(line, fields)

    def answer(self):
        body = self.random.choice(BODIES)
        fields = self.some_fields()
        if self.chance(0.2):
            fields.append(self.random.choice(HOP))
        bodiless = self.chance(0.15)
        status = self.pick(BODILESS if bodiless else STATUSES, ODD_STATUSES, 0.05)
        lines, rest = self.framing(body)
        if bodiless and self.chance(0.6):
            lines, rest = (lines if self.chance(0.5) else []), ""
        if not lines and not bodiless and self.chance(0.7):
            lines, rest = ["Content-Length: %d" % len(body)], body
        fields += lines
        self.random.shuffle(fields)
        if self.chance(0.02):
            fields.insert(self.random.randint(0, len(fields)), self.random.choice(["", " x: y", "no colon", ":", "\x00"]))
        return self.head(status, fields) + rest

    def exchange(self):
        """Whether a HEAD was asked, and what comes: interim answers, the answer, and perhaps one that nobody asked for."""
        text = "".join(self.head(self.random.choice(INTERIM), self.some_fields(1) + (["Content-Length: 5"] if self.chance(0.05) else []))
                       for _ in range(self.random.choice([0, 0, 0, 0, 1, 2])))
        text += self.answer()
        if self.chance(0.2):
            text += self.answer()
        raw = bytearray(self.damaged(text.encode("latin-1", "replace")))
        if self.chance(0.1):
            del raw[self.random.randrange(1, len(raw)):]  # cut off
        return self.chance(0.12), bytes(raw[:8000])
