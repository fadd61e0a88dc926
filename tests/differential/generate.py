"""Raw HTTP/1.1 requests from a grammar, most of them a little wrong; the same ones for the same seed."""
import random

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
ODD_METHODS = ["get", "TRACE", "CONNECT", "PRI", "G\u00c4T", "GET\t", " GET", "PROPFIND", "X" * 21, "G,T", ""]
TARGETS = ["/", "/contoso/_apis/projects", "/contoso/a%20b/_git/r?x=1&y=%2F", "/a?q=a/b?c", "/%E2%82%AC", "/a/b/c", "/a.b/c~d!$&'()*+,=:@"]
ODD_TARGETS = ["*", "/a;p=1", "/a//b", "http://other.example/a", "http://h/a", "HTTP://H/a?b", "h:443", "a", "//a/b", "/a#b", "/a%", "/a%zz", "/a b", "/\u00e9", "/a\tb", "/..", "/a/../b",
               "/%2e%2e/a", "/a%2fb", "/a\\b", "/a%00", "/<>", "/a|b", "/\x7f", "http://h", "http://u@h/", "", "/" + "x" * 3000]
VERSIONS = ["HTTP/1.1", "HTTP/1.0"]
ODD_VERSIONS = ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "HTTP/1.10", "HTTP/01.1", "HTTP /1.1", "HTTPS/1.1", "", "HTTP/1,1"]
HOSTS = ["h", "h:80", "dev.azure.com", "127.0.0.1:8080", "[::1]:8080"]
ODD_HOSTS = ["", "h, h", "h/a", "u@h", "h h", "h:x", "h#", "[::1", "h\u00e9"]
NAMES = ["Accept", "User-Agent", "X-A", "x_b", "X.C", "Content-Type", "Origin", "A!#$%&'*+-.^_`|~9"]
ODD_NAMES = ["X A", "X\t", "", "X\u00e9", "X(", "X\x00", "X\x01", "\x0bX", "X\"", "@"]
VALUES = ["", "a", "a b", "a, b", "\"q\\\"\"", "\u00e9", "a:b", "=", "(c)", "a" * 300]
ODD_VALUES = ["\t a\t", "a\x00b", "a\rb", "a\x0bb", "a\x7f", "\x01", "a\r\n b", "a\r\n\tb", "a\n b", "a\nX: b"]
HOP = ["Connection: close", "Connection: keep-alive", "Connection: close, X-A", "Connection: Content-Length", "Keep-Alive: 5", "TE: trailers", "TE: gzip",
       "Proxy-Connection: keep-alive", "Upgrade: h2c", "Connection: upgrade", "Expect: 100-continue", "Expect: other", "Trailer: X-T", "HTTP2-Settings: AAA"]
LENGTHS = ["{n}", "{n}", "{n}", "+{n}", "-{n}", "0{n}", " {n} ", "{n}, {n}", "{n},{m}", "{n} {m}", "0x{n}", "{n}.0", "{m}", "", "\t{n}", "18446744073709551616{n}", "{n}\x0b", "{n};"]
CODINGS = ["chunked", "chunked", "chunked", "Chunked", "CHUNKED", " chunked ", "chunked ", "\tchunked", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked;q=1",
           "xchunked", "chunked,", ",chunked", "\"chunked\"", "\x0bchunked", "chun ked", ""]
CODING_NAMES = ["Transfer-Encoding", "Transfer-Encoding", "transfer-encoding", "Transfer-Encoding ", "Transfer_Encoding", "Transfer-Encoding\t", " Transfer-Encoding",
                "Transfer-\u00c9ncoding", "X-Transfer-Encoding"]
LENGTH_NAMES = ["Content-Length", "Content-Length", "content-length", "Content-Length ", "Content_Length", "CONTENT-LENGTH", "Content-Length\x00"]
SIZES = ["{x}", "{x}", "{X}", "0{x}", "{x};a=b", "{x} ;a", "{x};a=\"b;c\"", "{x} ", "0x{x}", "+{x}", "-{x}", " {x}", "{x}\t", "{x};\n", "{x};a\rb", "ffffffffffffffff{x}", "{x}g", ""]
BODIES = ["", "a", "{\"id\":42}", "GET /b HTTP/1.1\r\nHost: h\r\n\r\n", "0\r\n\r\n", "\r\n", "a" * 20, "5\r\nabcde\r\n0\r\n\r\n"]
LINE_ENDS = ["\r\n"] * 40 + ["\n", "\r", "\r\r\n", " \r\n", "\n\r"]
BYTES = "\r\n\t :;,=%#?&/\\\"'0123456789aAfFxXgG+-_.@*\0\x01\x0b\x0c\x7f\x80\xa0\xff"


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, good, odd, odds=0.06):
        return self.random.choice(odd if self.random.random() < odds else good)

    def chance(self, odds):
        return self.random.random() < odds

    def end(self):
        return self.random.choice(LINE_ENDS) if self.chance(0.05) else "\r\n"

    def some_fields(self, most=3):
        return ["%s:%s%s" % (self.pick(NAMES, ODD_NAMES, 0.04), self.pick([" ", ""], ["\t", "  ", "\x0b"], 0.05), self.pick(VALUES, ODD_VALUES, 0.05))
                for _ in range(self.random.randint(0, most))]

    def lines(self, first, fields):
        return first + self.end() + "".join(field + self.end() for field in fields) + self.end()

    def damaged(self, raw):
        """The same, now and then with a byte or two changed, added or taken out."""
        raw = bytearray(raw)
        if self.chance(0.2):
            for _ in range(self.random.randint(1, 2)):
                at, byte = self.random.randrange(len(raw)), ord(self.random.choice(BYTES))
                how = self.random.randrange(3)
                if how == 0:
                    raw[at] = byte
                elif how == 1:
                    raw.insert(at, byte)
                else:
                    del raw[at]
        return bytes(raw)

    def chunked(self, body):
        text, rest = "", body
        while rest:
            n = self.random.randint(1, len(rest))
            size = self.pick(SIZES[:3], SIZES, 0.15).format(x="%x" % n, X="%X" % n)
            text += size + self.end() + rest[:n] + self.end()
            rest = rest[n:]
        text += self.pick(["0"], ["00", "0;a", "0 ", "-0", "", "0x0"]) + self.end()
        if self.chance(0.15):
            text += self.pick(["X-T: 1\r\n"], ["Content-Length: 3\r\n", "X T: 1\r\n", "X-T : 1\r\n", " folded\r\n", "X-T\r\n", "Host: b\r\n"], 0.4)
        return text + self.end()

    def framing(self, body):
        """Lines of the head, and how the body is written."""
        kind = self.random.choice(["none", "none", "length", "length", "length", "chunked", "chunked", "chunked", "both", "two"])
        length = [self.pick(LENGTH_NAMES[:1], LENGTH_NAMES, 0.1) + ": " + self.pick(LENGTHS[:1], LENGTHS, 0.25).format(n=len(body), m=len(body) + self.random.choice([-1, 1, 5]))]
        coding = [self.pick(CODING_NAMES[:1], CODING_NAMES, 0.15) + ": " + self.pick(CODINGS[:1], CODINGS, 0.3)]
        if kind == "none":
            return [], body if self.chance(0.1) else ""
        if kind == "length":
            return (length, body) if body or self.chance(0.5) else ([], body)
        if kind == "chunked":
            return coding, self.chunked(body)
        if not self.chance(0.3):
            return (length, body) if self.chance(0.5) else (coding, self.chunked(body))
        lines = length + coding if kind == "both" else self.random.choice([length * 2, coding * 2, length + [length[0] + "0"]])
        self.random.shuffle(lines)
        return lines, self.chunked(body) if self.chance(0.6) else body

    def request(self):
        line = "%s%s%s%s%s" % (self.pick(METHODS, ODD_METHODS, 0.04), self.pick([" "], ["  ", "\t", ""], 0.02), self.pick(TARGETS, ODD_TARGETS, 0.08),
                               self.pick([" "], ["  ", "\t", ""], 0.02), self.pick(VERSIONS[:1] * 9 + VERSIONS[1:], ODD_VERSIONS, 0.03))
        fields = [] if self.chance(0.02) else ["%s:%s%s" % (self.pick(["Host", "Host", "host", "HOST"], ["Host ", "\tHost", "H0st"], 0.02),
                                                           self.pick([" ", "", "  "], ["\t", "\r\n "], 0.02), self.pick(HOSTS, ODD_HOSTS, 0.03))]
        if self.chance(0.02):
            fields.append("Host: " + self.random.choice(HOSTS))
        fields += self.some_fields()
        if self.chance(0.2):
            fields.append(self.random.choice(HOP))
        lines, body = self.framing(self.random.choice(BODIES))
        fields += lines
        self.random.shuffle(fields)
        if self.chance(0.02):
            fields.insert(self.random.randint(0, len(fields)), self.random.choice(["", " x: y", "no colon", ":", "\x00"]))
        head = self.lines(line, fields)
        return (self.random.choice(["\r\n", "\n", " "]) if self.chance(0.02) else "") + head + body

    def message(self):
        raw = "".join(self.request() for _ in range(self.random.choice([1, 1, 1, 1, 2, 2, 3]))).encode("latin-1", "replace")
        return self.damaged(raw)[:8000]
