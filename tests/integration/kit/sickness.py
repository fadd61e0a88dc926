"""A world for `dagward doctor`: everything in it is well until a test spoils one thing."""
import contextlib
import datetime
import http.server
import ipaddress
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from email.utils import formatdate
from pathlib import Path

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from kit import secrets
from kit.emulator import ready_line
from kit.issuers import Key, b64, number, some_key
from kit.waiting import BINARY, free_port, seconds

DAY = datetime.timedelta(days=1)
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
CLIENT = "22222222-2222-2222-2222-222222222222"


class Certificates:
    """An authority whose certificates may be wrong in the way that a test asks for."""

    def __init__(self, folder, name="doctor's authority", parent=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.parent = parent or self
        self.certificate = self.parent.sign(self.name, self.key.public_key(), [(x509.BasicConstraints(True, None), True)])
        self.file = self.folder / (name.replace(" ", "-").replace("'", "") + ".pem")
        self.file.write_bytes(self.pem())

    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, subject, public_key, extensions, begins=-1, ends=365):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public_key)
                   .serial_number(x509.random_serial_number()).not_valid_before(now + begins * DAY).not_valid_after(now + ends * DAY))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, *names, stem=None, begins=-1, ends=365, more=(), behind=b""):
        """-> (certificate file, key file); `behind` follows in the certificate file."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self.sign(subject, key.public_key(), [(x509.SubjectAlternativeName(alternatives), False), *more], begins, ends)
        stem = self.folder / (stem or names[0])
        crt, pem = Path(str(stem) + ".crt"), Path(str(stem) + ".key")
        crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + behind)
        pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        pem.chmod(0o600)
        return str(crt), str(pem)


ISSUER_URL = (x509.AuthorityInformationAccess([x509.AccessDescription(
    AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example/intermediate.cer"))]), False)


class Server:
    """A real HTTP server that answers what a table says: {path: (status, content type, body, fields)};
    "*" stands for every other path. `clock` seconds are added to its Date; `tls` is (certificate, key)."""

    def __init__(self, table, clock=0, tls=None):
        self.table, self.clock = table, clock
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                entry = outer.table.get(self.path.split("?")[0], outer.table.get("*", (404, "application/json", "{}")))
                status, kind, body, *fields = entry
                raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(raw)))
                for name, value in (fields[0] if fields else ()):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = answer

            def date_time_string(self, timestamp=None):
                return formatdate(time.time() + outer.clock, usegmt=True)

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
            scheme = "https"
        self.port = self.server.server_address[1]
        self.url = "%s://%s:%d" % (scheme, "localhost" if tls else "127.0.0.1", self.port)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def jwt(claims, alg="RS256", kid="first"):
    """A token that nobody signed: its claims are what matters."""
    part = lambda what: b64(json.dumps(what).encode())
    return part({"alg": alg, "kid": kid, "typ": "JWT"}) + "." + part(claims) + "." + b64(os.urandom(64))


def weak_key():
    n = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    return {"kid": "feeble", "use": "sig", "alg": "RS256", "kty": "RSA", "n": number(n.n), "e": number(n.e)}


class Embedded:
    """The embedded issuer (which also plays Entra) and emulator of Azure DevOps, for all worlds of a module."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.ends = contextlib.ExitStack()
        self.authority = Certificates(self.folder / "pki")
        self.issuer_url = self.start("issuer", "--port", "0")[0]
        crt, key = self.authority.issue("localhost", "127.0.0.1", stem="server")
        self.azure = self.start("azure-devops", "--port", "0", "--data", self.folder / "data", "--tls-port", "0", "--certificate", crt, "--key", key)[1]

    def start(self, *arguments):
        log = self.folder / (arguments[0] + ".log")
        process = subprocess.Popen([BINARY, "emulate", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=open(log, "ab"))
        self.ends.callback(lambda: (process.terminate(), process.wait(timeout=seconds(20))))
        return ready_line(process, log)

    def stop(self):
        self.ends.close()


class World:
    """A listener with a certificate, an issuer, a credential that is obtained, an organization that takes it."""

    def __init__(self, folder, embedded):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ends = contextlib.ExitStack()
        self.before = ()  # a command that runs the doctor
        self.authority = Certificates(self.folder / "pki")
        self.issuer_url, self.azure, self.azure_ca = embedded.issuer_url, embedded.azure, self.folder / "azure-ca.pem"
        self.azure_ca.write_bytes(embedded.authority.pem())
        self.crt, self.key = self.authority.issue("dagward.example", "localhost", stem="listener")
        self.port = free_port()
        with socket.socket() as taken:  # two calls may find the same one
            taken.bind(("127.0.0.1", self.port))
            self.admin = free_port()
        self.secret = self.folder / "client-secret"
        self.secret.write_text(secrets.upstream("s3cr3t~" + os.urandom(12).hex()))
        self.secret.chmod(0o600)
        self.audit = self.folder / "log" / "audit.jsonl"
        self.audit.parent.mkdir()
        self.config = {
            "listen": [{"address": "127.0.0.1:%d" % self.port, "tls": {"certificate": self.crt, "key": self.key}}],
            "public_url": "https://dagward.example",
            "admin": {"address": "127.0.0.1:%d" % self.admin},
            "workers": 1,
            "issuers": [{"name": "airflow", "issuer": self.issuer_url, "audiences": ["dagward"]}],
            "upstream": {"organizations": ["contoso"], "ca": str(self.azure_ca), "connections": 50, "hosts": {"*": self.azure}},
            "credentials": [{"name": "etl", "type": "client_secret", "tenant": TENANT, "client_id": CLIENT, "authority": self.issuer_url, "secret_file": str(self.secret)}],
            "policy": {"files": ["policy.yaml"]},
            "audit": {"file": str(self.audit)},
            "limits": {"connections": 100},
        }
        self.policy = {
            "version": 1,
            "roles": {"reader": {"allow": [{"operations": ["core.projects.list"]}]}},
            "bindings": [{"name": "workers", "callers": {"issuer": "airflow", "subject": "worker*"}, "roles": ["reader"], "credential": "etl"}],
        }

    # --- parts ---

    def serve(self, table, **more):
        server = Server(table, **more)
        self.ends.callback(server.close)
        return server

    def issuer(self, **more):
        """The configured issuer, to be changed."""
        self.config["issuers"][0].update(more)
        return self.config["issuers"][0]

    def serve_issuer(self, keys=None, document=None, **more):
        """Another issuer, whose discovery document and keys are as told; it becomes the configured one."""
        server = self.serve({}, **more)
        server.table["/.well-known/openid-configuration"] = (200, "application/json", {"issuer": server.url, "jwks_uri": server.url + "/jwks", **(document or {})})
        server.table["/jwks"] = (200, "application/json", {"keys": keys if keys is not None else [some_key("first").public()]})
        self.issuer(issuer=server.url)
        return server

    def serve_entra(self, code, error="invalid_client", status=401):
        """A token endpoint that refuses with this AADSTS code."""
        body = {"error": error, "error_description": "AADSTS%d: somebody said no." % code, "error_codes": [code], "trace_id": "33333333-3333"}
        server = self.serve({"*": (status, "application/json", body)})
        self.credential(authority=server.url)
        return server

    def serve_azure(self, table):
        """Azure DevOps that answers as told."""
        server = self.serve(table)
        self.config["upstream"]["hosts"] = {"*": server.url}
        return server

    def credential(self, **more):
        self.config["credentials"][0].update(more)
        return self.config["credentials"][0]

    def federated(self, token):
        path = self.folder / "assertion"
        path.write_text(secrets.upstream(token))
        path.chmod(0o600)
        one = self.credential(type="federated", assertion_file=str(path))
        one.pop("secret_file", None)
        return path

    def mint(self, **claims):
        answer = requests.post(self.issuer_url + "/mint", json={"sub": "worker-1", "aud": "dagward", **claims}, timeout=seconds(10))
        answer.raise_for_status()
        return secrets.caller(answer.text.strip())

    def token(self, text):
        path = self.folder / "token"
        path.write_text(secrets.caller(text))
        return path

    # --- looking ---

    def write(self):
        config = self.config if isinstance(self.config, str) else json.dumps(self.config, indent=1)
        (self.folder / "dagward.yaml").write_text(config)
        (self.folder / "policy.yaml").write_text(json.dumps(self.policy, indent=1))

    def doctor(self, *arguments, before=(), **more):
        """-> (exit status, stdout): no secret of this world is in it, and nothing on stderr."""
        self.write()
        done = subprocess.run([*(before or self.before), str(BINARY), "doctor", "--config", str(self.folder / "dagward.yaml"), *map(str, arguments)],
                              capture_output=True, text=True, timeout=seconds(40), **more)
        secrets.assert_no_leak(done.stdout + done.stderr, "what doctor says")
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr[-4000:]
        return done.returncode, done.stdout

    def diagnose(self, *arguments, **more):
        """-> (exit status, findings by JSON)."""
        status, out = self.doctor("--json", *arguments, **more)
        return status, json.loads(out)

    def stop(self):
        self.ends.close()
