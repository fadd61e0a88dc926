"""Who vouches for callers: a minting issuer inside the test process, for odd tokens and misbehaviour,
and a certified OpenID provider (oidc-provider under node) for the ordinary way."""
import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import ssl
import threading
import time
from pathlib import Path

import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kit import secrets
from kit.waiting import free_port, seconds, until

NODE = Path(__file__).resolve().parents[1] / "node"


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(n):
    return b64(n.to_bytes((n.bit_length() + 7) // 8, "big"))


class Key:
    """A signing key with its JWK. `alg` is what it signs with."""

    CURVES = {"ES256": (ec.SECP256R1, "P-256", 32, hashes.SHA256), "ES384": (ec.SECP384R1, "P-384", 48, hashes.SHA384)}

    def __init__(self, kid, alg="RS256"):
        self.kid, self.alg = kid, alg
        if alg in self.CURVES:
            self.key = ec.generate_private_key(self.CURVES[alg][0]())
        elif alg == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
        else:
            self.key = rsa.generate_private_key(65537, 2048)

    def public(self):
        jwk = {"kid": self.kid, "use": "sig", "alg": self.alg}
        if self.alg in self.CURVES:
            _, name, size, _ = self.CURVES[self.alg]
            n = self.key.public_key().public_numbers()
            return {**jwk, "kty": "EC", "crv": name, "x": b64(n.x.to_bytes(size, "big")), "y": b64(n.y.to_bytes(size, "big"))}
        if self.alg == "EdDSA":
            raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            return {**jwk, "kty": "OKP", "crv": "Ed25519", "x": b64(raw)}
        n = self.key.public_key().public_numbers()
        return {**jwk, "kty": "RSA", "n": number(n.n), "e": number(n.e)}

    def private(self):
        n = self.key.private_numbers()
        p = n.public_numbers
        return {"kty": "RSA", "kid": self.kid, "alg": self.alg, "use": "sig", "n": number(p.n), "e": number(p.e), "d": number(n.d), "p": number(n.p),
                "q": number(n.q), "dp": number(n.dmp1), "dq": number(n.dmq1), "qi": number(n.iqmp)}

    def sign(self, data):
        if self.alg in self.CURVES:
            _, _, size, digest = self.CURVES[self.alg]
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(digest())))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        if self.alg == "EdDSA":
            return self.key.sign(data)
        if self.alg.startswith("PS"):
            return self.key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())


@functools.lru_cache(None)
def some_key(kid, alg="RS256"):
    """Keys are dear to make; the same name is the same key for the whole run."""
    return Key(kid, alg)


class Issuer:
    """Mints what it is told to, and serves discovery and keys as it is told to."""

    def __init__(self, name="airflow"):
        self.name = name
        self.keys = [some_key("first")]
        self.fetches = []  # monotonic times of fetches of the key set
        self.misbehave = None  # (status, body): what the key set's URL answers instead
        self.hold = None  # an event: keys are not given before it is set
        self.cache_control = "max-age=3600"
        self.port = free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.certificate = None  # see show()
        self.server = None
        self.up()

    def up(self):
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = 200, None
                if self.path == "/.well-known/openid-configuration":
                    body = {"issuer": issuer.url, "jwks_uri": issuer.url + "/jwks"}
                elif self.path == "/jwks":
                    issuer.fetches.append(time.monotonic())
                    if issuer.hold:
                        issuer.hold.wait(60)
                    status, body = issuer.misbehave or (200, issuer.key_set())
                else:
                    status, body = 404, {}
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                if status == 200:
                    self.send_header("Cache-Control", issuer.cache_control)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        http.server.ThreadingHTTPServer.allow_reuse_address = True
        http.server.ThreadingHTTPServer.request_queue_size = 256
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self.certificate:
            self.url = self.url.replace("http:", "https:")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def show(self, certificate):
        """Comes up again with that (certificate file, key file)."""
        self.down()
        self.certificate = certificate
        self.up()

    def down(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def key_set(self):
        return {"keys": [key.public() for key in self.keys]}

    def config(self, keys=None, **more):
        return {"name": self.name, "issuer": self.url, "audiences": ["dagward"], "keys": keys or {"discovery": True}, **more}

    def mint(self, subject="worker", key=None, header=None, **claims):
        key = key or self.keys[0]
        now = int(time.time())
        head = {"alg": key.alg, "typ": "JWT", "kid": key.kid, **(header or {})}
        body = {"iss": self.url, "aud": "dagward", "sub": subject, "iat": now, "exp": now + 3600, "jti": os.urandom(6).hex(), **claims}
        head = {k: v for k, v in head.items() if v is not None}
        body = {k: v for k, v in body.items() if v is not None}
        signed = b64(json.dumps(head).encode()) + "." + b64(json.dumps(body).encode())
        return secrets.caller(signed + "." + b64(key.sign(signed.encode())))


def node_modules():
    """The packages of others, installed once from the lock file."""
    marker = NODE / "node_modules" / ".package-lock.json"
    if not marker.exists() or marker.stat().st_mtime < (NODE / "package-lock.json").stat().st_mtime:
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=NODE, check=True, timeout=300)
        os.utime(marker)
    return NODE / "node_modules"


class OidcProvider:
    """oidc-provider, certified by the OpenID foundation: tokens by client_credentials, keys by discovery."""

    def __init__(self, folder, name="certified"):
        node_modules()
        self.folder, self.name = Path(folder), name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = "http://127.0.0.1:%d" % self.port
        self.client_secret = secrets.caller("client-" + os.urandom(16).hex())
        self.generation = 0
        self.process = None
        self.start()

    def start(self):
        jwks = {"keys": [self._private("RS256"), *self._others()]}
        settings = {"port": self.port, "issuer": self.url, "secret": self.client_secret, "jwks": jwks}
        (self.folder / "provider.json").write_text(json.dumps(settings))
        self.process = subprocess.Popen([shutil.which("node"), NODE / "issuer.mjs", self.folder / "provider.json"],
                                        stdout=open(self.folder / "provider.log", "ab"), stderr=subprocess.STDOUT)
        until(self.answers, lambda: "the provider does not answer: " + (self.folder / "provider.log").read_text(), within=20)

    def answers(self):
        assert self.process.poll() is None, (self.folder / "provider.log").read_text()
        try:
            return requests.get(self.url + "/.well-known/openid-configuration", timeout=2).ok
        except requests.RequestException:
            return False

    def _private(self, alg):
        return {**some_key("certified-%d" % self.generation).private(), "alg": alg}

    def _others(self):
        def pem(key):
            return key.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()

        return [{"pem": pem(some_key("certified-%s-%d" % (alg, self.generation), alg)), "kid": "%s-%d" % (alg.lower(), self.generation), "alg": alg}
                for alg in ("ES256", "EdDSA", "PS256")]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)

    def rotate(self):
        """New keys, and none of the old ones."""
        self.stop()
        self.generation += 1
        self.start()

    def config(self, **more):
        return {"name": self.name, "issuer": self.url, "audiences": ["urn:dagward"], "keys": {"discovery": True},
                "algorithms": ["RS256", "ES256", "PS256", "EdDSA"], **more}

    def token(self, client="airflow-worker", alg="RS256"):
        answer = requests.post(self.url + "/token", auth=(client, self.client_secret), timeout=seconds(10),
                               data={"grant_type": "client_credentials", "resource": "urn:dagward", "scope": "sign:" + alg})
        assert answer.ok, answer.text
        return secrets.caller(answer.json()["access_token"])
