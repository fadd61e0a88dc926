"""Who hands out identity in Azure: Entra's token endpoint, IMDS, App Service, the agent of Azure Arc and Key Vault.

Exact in what they ask for and how they refuse: signatures, thumbprints and audiences are checked for real, and what the real ones
refuse is refused. One `Tenant` is behind all of them and keeps a record of who got which token.
"""
import atexit
import base64
import datetime
import fcntl
import hashlib
import http.server
import json
import os
import ssl
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.x509.oid import NameOID

from kit import secrets
from kit.issuers import b64, number, some_key

ADO = "499b84ac-1321-427f-aa17-267ca6975798"
VAULT = "https://vault.azure.net"
MONITOR = "https://monitor.azure.com"
TENANT = "11111111-1111-1111-1111-111111111111"
APP = "22222222-2222-2222-2222-222222222222"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ARC_FOLDER = "/var/opt/azcmagent/tokens"


def arc_folder():
    """Makes the agent's folder. A confined proxy may read the very folder that was there when it started, and tests run
    side by side: the last process that has used it removes it, unless a real agent lives there."""
    if not hasattr(arc_folder, "lock"):
        lock = arc_folder.lock = open(os.path.join(tempfile.gettempdir(), "dagward-arc.lock"), "a")
        fcntl.flock(lock, fcntl.LOCK_SH)

        def leave():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rmdir(ARC_FOLDER)
                os.rmdir(os.path.dirname(ARC_FOLDER))
            except OSError:
                pass

        atexit.register(leave)
    os.makedirs(ARC_FOLDER, exist_ok=True)


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Certificate:
    """Self-signed, as one uploads it to an application; `name` picks one of a few keys, which are dear to make."""

    def __init__(self, name="certificate-1", days=30):
        self.key = some_key(name).key
        now = datetime.datetime.utcnow()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.x509 = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(self.key.public_key())
                     .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=60))
                     .not_valid_after(now + datetime.timedelta(days=days)).sign(self.key, hashes.SHA256()))
        self.der = self.x509.public_bytes(serialization.Encoding.DER)
        self.pem = self.x509.public_bytes(serialization.Encoding.PEM).decode()
        self.key_pem = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        self.x5t = b64(hashlib.sha1(self.der).digest())
        self.x5t_s256 = b64(hashlib.sha256(self.der).digest())
        self.hex = hashlib.sha256(self.der).hexdigest().upper()


class Refused(Exception):
    def __init__(self, status, body, fields=()):
        self.status, self.body, self.fields = status, body, list(fields)


def aadsts(code, error, status=400, text="It is refused"):
    """Entra's error body; the description holds what must never be shown to anybody."""
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    stamp = datetime.datetime.utcnow().strftime("%Y-%m-%d %H:%M:%SZ")
    return Refused(status, {
        "error": error, "error_description": "AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s" % (code, text, trace, correlation, stamp),
        "error_codes": [code], "timestamp": stamp, "trace_id": trace, "correlation_id": correlation,
        "error_uri": "https://login.microsoftonline.com/error?code=%d" % code}, [("x-ms-request-id", trace)])


class Server:
    """A loopback server. `behave` holds what the next requests are answered with in place of the truth: (status, body[, fields]), or a
    function of the connection's handler. `always` is the same for all until it is None."""

    def __init__(self, tenant):
        self.tenant, self.asked, self.behave, self.always = tenant, [], [], None
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                url = urllib.parse.urlsplit(self.path)
                self.route, self.query = url.path, dict(urllib.parse.parse_qsl(url.query))
                self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with outer.lock:
                    outer.asked.append({"method": self.command, "path": self.route, "query": self.query, "headers": dict(self.headers), "body": self.body,
                                        "at": time.monotonic()})
                    canned = outer.behave.pop(0) if outer.behave else outer.always
                try:
                    if callable(canned):
                        return canned(self)
                    status, body, fields = (*canned, ())[:3] if canned else (200, outer.answer(self), ())
                except Refused as refused:
                    status, body, fields = refused.status, refused.body, refused.fields
                self.say(status, body, fields)

            def say(self, status, body, fields=()):
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in fields:
                    self.send_header(name, value)
                if not any(name.lower() == "content-type" for name, _ in fields):
                    self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = serve

            def log_message(self, *_):
                pass

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    pass

        self.handler, self.context = Handler, None
        self.port = 0
        self.up()
        self.url = "http://127.0.0.1:%d" % self.port

    def up(self):
        http.server.ThreadingHTTPServer.allow_reuse_address = True
        http.server.ThreadingHTTPServer.request_queue_size = 256  # many callers may come at once
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self.handler)
        self.server.daemon_threads = True
        if self.context:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def show(self, identity):
        """By https from now on, and with this certificate in each handshake that follows: (certificate, key)."""
        if self.context:
            self.context.load_cert_chain(*identity)
            return
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*identity)
        self.url = self.url.replace("http:", "https:")
        self.down()
        self.up()

    def down(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class Tenant:
    """Applications, identities and the tokens they were given."""

    def __init__(self):
        self.apps = {APP: {"secrets": {}, "certificates": [], "federated": [], "disabled": False}}
        self.issued = []  # {"token", "who", "how", "resource", "until"}
        self.lifetime, self.refresh_in, self.as_text = 3599, None, False
        self.clock = 0  # seconds that this tenant's clock is ahead
        self.lock = threading.Lock()
        self.entra = Entra(self)
        self.imds = Imds(self)
        self.app_service = AppService(self)
        self.arc = Arc(self)
        self.vault = Vault(self)

    def close(self):
        self.arc.forget()
        for server in (self.entra, self.imds, self.app_service, self.arc, self.vault):
            server.down()

    def now(self):
        return time.time() + self.clock

    def issue(self, who, how, resource):
        with self.lock:
            token = secrets.upstream("eyJ%d.%s" % (len(self.issued), os.urandom(24).hex()))
            self.issued.append({"token": token, "who": who, "how": how, "resource": resource, "until": time.monotonic() + self.lifetime})
            return token

    def given(self, resource=ADO):
        """The tokens for a resource, oldest first."""
        return [i["token"] for i in self.issued if i["resource"] == resource]

    def known(self, token):
        return next((i for i in reversed(self.issued) if i["token"] == token), None)

    def secret(self, app=APP, **more):
        """A new client secret of an application."""
        value = secrets.upstream("Abc8Q~" + os.urandom(14).hex())
        self.apps[app]["secrets"][value] = {"expired": False, **more}
        return value


class Entra(Server):
    """`POST /{tenant}/oauth2/v2.0/token` (client credentials)."""

    def answer(self, request):
        tenant = self.tenant
        parts = request.route.split("/")
        if request.command != "POST" or parts[2:] != ["oauth2", "v2.0", "token"]:
            raise Refused(404, b"", [("Content-Type", "text/html")])
        if parts[1] in ("common", "organizations", "consumers"):
            raise aadsts(9001023, "invalid_request")
        if parts[1] not in (TENANT, "contoso.example"):
            raise aadsts(90002, "invalid_request")
        if not (request.headers.get("Content-Type") or "").startswith("application/x-www-form-urlencoded"):
            raise aadsts(900144, "invalid_request")
        form = dict(urllib.parse.parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))
        for field in ("grant_type", "client_id", "scope"):
            if not form.get(field):
                raise aadsts(900144, "invalid_request", text="The request body must contain the following parameter: '%s'." % field)
        if form["grant_type"] != "client_credentials":
            raise aadsts(70003, "unsupported_grant_type")
        if not form["scope"].endswith("/.default") or " " in form["scope"]:
            raise aadsts(70011, "invalid_scope")
        resource = form["scope"][:-len("/.default")]
        if resource not in (ADO, VAULT, MONITOR):
            raise aadsts(500011, "invalid_resource")
        app = tenant.apps.get(form["client_id"])
        if not app:
            raise aadsts(700016, "unauthorized_client")
        if app["disabled"]:
            raise aadsts(7000112, "unauthorized_client")
        if "client_secret" in form:
            how = self.by_secret(app, form["client_secret"])
        elif form.get("client_assertion_type") == ASSERTION_TYPE and form.get("client_assertion"):
            how = self.by_assertion(app, form["client_id"], form["client_assertion"], self.url + request.route)
        else:
            raise aadsts(7000218, "invalid_client", 401)
        text = str if tenant.as_text else int
        body = {"token_type": "Bearer", "expires_in": text(tenant.lifetime), "ext_expires_in": text(tenant.lifetime),
                "access_token": tenant.issue(form["client_id"], how, resource)}
        if tenant.refresh_in:
            body["refresh_in"] = text(tenant.refresh_in)
        return body

    def by_secret(self, app, secret):
        known = app["secrets"].get(secret)
        if not known:
            raise aadsts(7000215, "invalid_client", 401, "Invalid client secret provided: %s" % secret)
        if known["expired"]:
            raise aadsts(7000222, "invalid_client", 401)
        return "secret " + secret

    def by_assertion(self, app, client_id, assertion, endpoint):
        try:
            signed, signature = assertion.rsplit(".", 1)
            head, claims = (json.loads(unb64(part)) for part in signed.split("."))
            signature = unb64(signature)
        except ValueError:
            raise aadsts(50012, "invalid_client", 401)
        if "x5t" in head or "x5t#S256" in head:
            return self.by_certificate(app, client_id, head, claims, signed.encode(), signature, endpoint)
        return self.by_federation(app, head, claims, signed.encode(), signature)

    def check_times(self, claims):
        now = self.tenant.now()
        if not claims.get("exp") or not claims.get("nbf", 0) - 300 <= now <= claims["exp"] + 300:
            raise aadsts(700024, "invalid_client", 401)

    def by_certificate(self, app, client_id, head, claims, signed, signature, endpoint):
        certificate = next((c for c in app["certificates"] if c.x5t == head.get("x5t") or c.x5t_s256 == head.get("x5t#S256")), None)
        if not certificate or "kid" in head:
            raise aadsts(700027, "invalid_client", 401, "The certificate with identifier used to sign the client assertion is not registered")
        pads = {"PS256": padding.PSS(padding.MGF1(hashes.SHA256()), 32), "RS256": padding.PKCS1v15()}
        try:
            certificate.key.public_key().verify(signature, signed, pads[head["alg"]], hashes.SHA256())
        except (InvalidSignature, KeyError):
            raise aadsts(700027, "invalid_client", 401, "Invalid signature")
        if claims.get("iss") != client_id or claims.get("sub") != client_id or claims.get("aud") != endpoint or not claims.get("jti"):
            raise aadsts(50012, "invalid_client", 401)
        self.check_times(claims)
        if certificate.x509.not_valid_after < datetime.datetime.utcnow():
            raise aadsts(7000222, "invalid_client", 401)
        return "certificate %s %s" % (head["alg"], certificate.hex)

    def by_federation(self, app, head, claims, signed, signature):
        """Issuer, then audience, then subject; every one to the byte."""
        records = [r for r in app["federated"] if r["issuer"] == claims.get("iss")]
        if not app["federated"]:
            raise aadsts(70021, "invalid_client", 401)
        if not records:
            raise aadsts(700211, "invalid_client", 401)
        records = [r for r in records if r["audience"] == claims.get("aud")]
        if not records:
            raise aadsts(700212, "invalid_client", 401)
        records = [r for r in records if r["subject"] == claims.get("sub")]
        if not records:
            raise aadsts(700213, "invalid_client", 401)
        if self.tenant.now() < records[0].get("works_from", 0):
            raise aadsts(70021, "invalid_client", 401)
        try:
            base = claims["iss"].rstrip("/")
            found = json.load(urllib.request.urlopen(base + "/.well-known/openid-configuration", timeout=5))
            keys = json.load(urllib.request.urlopen(found["jwks_uri"], timeout=5))["keys"]
        except (OSError, ValueError):
            raise aadsts(90061, "invalid_request")
        key = next((k for k in keys if k.get("kid") == head.get("kid") and k["kty"] == "RSA"), None)
        if not key or head.get("alg") != "RS256":
            raise aadsts(50013, "invalid_client", 401)
        public = rsa.RSAPublicNumbers(int.from_bytes(unb64(key["e"]), "big"), int.from_bytes(unb64(key["n"]), "big")).public_key()
        try:
            public.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise aadsts(50013, "invalid_client", 401)
        self.check_times(claims)
        return "federated %s %s" % (claims["iss"], claims["sub"])


class Managed(Server):
    """What the endpoints on the host have in common. `assigned` are user-assigned identities: {client_id, object_id, resource_id}."""

    PATH, VERSIONS, RESOURCE_ID = "/metadata/identity/oauth2/token", ("2018-02-01", "2019-08-01"), "msi_res_id"

    def __init__(self, tenant):
        super().__init__(tenant)
        self.system, self.assigned, self.keeps, self.kept = "system-identity", [], False, {}

    def check(self, request):
        if request.command != "GET" or request.route != self.PATH:
            raise Refused(404, {"error": "not_found"})
        if request.headers.get("X-Forwarded-For") or request.headers.get("Forwarded"):
            raise Refused(400, {"error": "invalid_request", "error_description": "Request contains forwarding headers"})
        if request.query.get("api-version") not in self.VERSIONS:
            raise Refused(400, {"error": "bad_request_102", "error_description": "Required api-version parameter is missing or unknown"})
        if request.query.get("resource") not in (ADO, VAULT):
            raise Refused(400, {"error": "invalid_resource", "error_description": "AADSTS50001: The application was not found in the tenant"})

    def metadata(self, request):
        if request.headers.get("Metadata") != "true":
            raise Refused(400, {"error": "invalid_request", "error_description": "Required metadata header not specified"})

    def identity(self, query):
        names = [(name, query[name]) for name in ("client_id", "object_id", self.RESOURCE_ID) if name in query]
        if not names and self.system:
            return {"client_id": self.system}
        if len(names) != 1:
            raise Refused(400, {"error": "invalid_request", "error_description": "Identity not found"})
        name, value = names[0]
        key = "resource_id" if name == self.RESOURCE_ID else name
        found = next((i for i in self.assigned if i.get(key) == value), None)
        if not found:
            raise Refused(400, {"error": "invalid_request", "error_description": "Identity not found"})
        return found

    def give(self, query):
        who = self.identity(query)
        kept = (who["client_id"], query["resource"])
        if not self.keeps or kept not in self.kept:
            self.kept[kept] = self.tenant.issue(who["client_id"], type(self).__name__, query["resource"]), time.monotonic()
        token, at = self.kept[kept]
        left = int(self.tenant.lifetime - (time.monotonic() - at))
        return who, token, left


class Imds(Managed):
    def answer(self, request):
        self.metadata(request)
        self.check(request)
        who, token, left = self.give(request.query)
        now = int(time.time())
        return {"access_token": token, "client_id": who["client_id"], "expires_in": str(left), "expires_on": str(now + left), "ext_expires_in": str(left),
                "not_before": str(now - 300), "resource": request.query["resource"], "token_type": "Bearer"}


class AppService(Managed):
    """Says when a token ends, not how long it lasts."""

    PATH, VERSIONS, RESOURCE_ID = "/msi/token", ("2019-08-01",), "mi_res_id"
    header = "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"

    def answer(self, request):
        if request.headers.get("X-IDENTITY-HEADER") != self.header:
            raise Refused(401, {"statusCode": 401, "message": "Unauthorized"})
        self.check(request)
        who, token, left = self.give(request.query)
        return {"access_token": token, "client_id": who["client_id"], "expires_on": str(int(time.time()) + left), "resource": request.query["resource"],
                "token_type": "Bearer"}

    def environment(self):
        return {"IDENTITY_ENDPOINT": self.url + self.PATH, "IDENTITY_HEADER": secrets.upstream(self.header)}


class Arc(Managed):
    """Wants to see that the asker can read its files. `realm` in place of the truth, for hostile agents."""

    VERSIONS = ("2020-06-01", "2019-11-01")

    def __init__(self, tenant):
        super().__init__(tenant)
        self.keys, self.realm, self.ignores_names = {}, None, False

    def challenge(self):
        if self.realm:
            return self.realm
        path = "%s/%s.key" % (ARC_FOLDER, uuid.uuid4())
        self.keys[path] = secrets.upstream(os.urandom(24).hex())
        arc_folder()
        with open(path, "w") as file:
            file.write(self.keys[path])
        return path

    def answer(self, request):
        self.metadata(request)
        self.check(request)
        shown = request.headers.get("Authorization")
        if not shown:
            raise Refused(401, {"error": "unauthorized_client"}, [("WWW-Authenticate", "Basic realm=" + self.challenge())])
        if shown[:6] != "Basic " or shown[6:] not in self.keys.values():
            raise Refused(401, {"error": "unauthorized_client"})
        query = request.query if not self.ignores_names else {"resource": request.query["resource"]}
        who, token, left = self.give(query)
        return {"access_token": token, "client_id": who["client_id"], "object_id": who.get("object_id", ""), "msi_res_id": who.get("resource_id", ""),
                "expires_in": str(left), "expires_on": str(int(time.time()) + left), "resource": request.query["resource"], "token_type": "Bearer"}

    def forget(self):
        for path in self.keys:
            if os.path.exists(path):
                os.unlink(path)


class Vault(Server):
    """`secrets` is {name: [(version, value, attributes)]}, the newest last; `certificates` {name: Certificate} with a key each."""

    def __init__(self, tenant):
        super().__init__(tenant)
        self.host = "contoso.vault.azure.net"
        self.secrets, self.certificates, self.may = {}, {}, set()
        self.signed = 0

    def put(self, name, value, **attributes):
        version = os.urandom(16).hex()
        self.secrets.setdefault(name, []).append((version, secrets.upstream(value), {"enabled": True, **attributes}))
        return version

    def refuse(self, status, code, inner=None, fields=()):
        error = {"code": code, "message": "It is refused"}
        if inner:
            error["innererror"] = {"code": inner}
        return Refused(status, {"error": error}, fields)

    def caller(self, request):
        shown = request.headers.get("Authorization") or ""
        issued = self.tenant.known(shown[7:]) if shown[:7] == "Bearer " else None
        challenge = [("WWW-Authenticate", 'Bearer authorization="https://login.microsoftonline.com/%s", resource="%s"' % (TENANT, VAULT))]
        if not issued or issued["resource"] != VAULT or issued["until"] < time.monotonic():
            raise self.refuse(401, "Unauthorized", fields=challenge)
        if issued["who"] not in self.may:
            raise self.refuse(403, "Forbidden", "ForbiddenByRbac")
        return issued["who"]

    def answer(self, request):
        self.caller(request)
        if request.query.get("api-version") not in ("7.4", "7.5", "7.6", "2025-07-01"):
            raise self.refuse(400, "BadParameter")
        kind, name, *rest = request.route.strip("/").split("/")
        if kind == "secrets" and request.command == "GET":
            return self.secret(name, rest)
        if name not in self.certificates:
            raise self.refuse(404, "CertificateNotFound" if kind == "certificates" else "KeyNotFound")
        certificate, version = self.certificates[name], hashlib.md5(self.certificates[name].der).hexdigest()
        base = "https://%s/%%s/%s/%s" % (self.host, name, version)
        if rest and rest[0] != version:
            raise self.refuse(404, "KeyNotFound")
        if kind == "certificates" and request.command == "GET":
            return {"id": base % "certificates", "kid": base % "keys", "sid": base % "secrets", "x5t": certificate.x5t,
                    "cer": base64.b64encode(certificate.der).decode(), "attributes": {"enabled": True}}
        if kind == "keys" and request.command == "GET":
            n = certificate.key.public_key().public_numbers()
            return {"key": {"kid": base % "keys", "kty": "RSA", "n": number(n.n), "e": number(n.e), "key_ops": ["sign", "verify"]}, "attributes": {"enabled": True}}
        if kind == "keys" and request.command == "POST" and rest[1:] == ["sign"]:
            return self.sign(certificate, base % "keys", json.loads(request.body))
        raise self.refuse(404, "NotFound")

    def secret(self, name, rest):
        versions = self.secrets.get(name, [])
        found = next((v for v in reversed(versions) if not rest or v[0] == rest[0]), None)
        if not found:
            raise self.refuse(404, "SecretNotFound")
        if not found[2]["enabled"]:
            raise self.refuse(403, "Forbidden", "SecretDisabled")
        return {"value": found[1], "id": "https://%s/secrets/%s/%s" % (self.host, name, found[0]), "attributes": found[2]}

    def sign(self, certificate, kid, body):
        digest = unb64(body["value"])
        pads = {"PS256": padding.PSS(padding.MGF1(hashes.SHA256()), 32), "RS256": padding.PKCS1v15()}
        if len(digest) != 32 or body["alg"] not in pads:
            raise self.refuse(400, "BadParameter")
        self.signed += 1
        return {"kid": kid, "value": b64(certificate.key.sign(digest, pads[body["alg"]], utils.Prehashed(hashes.SHA256())))}
