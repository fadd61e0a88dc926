"""Audit logs as the proxy writes them, of records that a test makes up.

    log = AuditLog(path)
    log.request(subject="ann", operation="pipelines.runs.run", run={"id": "7"})
    log.event("keys.changed", issuer="airflow")

Also a program, that writes large logs for measuring: `audit_log.py DIRECTORY FILES RECORDS`.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import re
import sys
import uuid

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

START = datetime.datetime(2026, 11, 23, 9, 0, tzinfo=datetime.timezone.utc)


def new_key(file=None):
    """A signing key; its public half as PEM into `file`."""
    key = Ed25519PrivateKey.generate()
    if file:
        file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key


def public_text(key):
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def stamp(ms):
    """RFC 3339 with milliseconds, of milliseconds behind START."""
    when = START + datetime.timedelta(milliseconds=ms)
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (when.microsecond // 1000)


def merge(into, more):
    """`more` over `into`; a member that is None is left out."""
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        elif value is None:
            into.pop(name, None)
        else:
            into[name] = value
    return into


class AuditLog:
    """One chain, over one or more files."""

    def __init__(self, path, key=None):
        self.key = key  # Ed25519PrivateKey: what checkpoints are signed with
        self.seq, self.hash, self.ms, self.file = 0, "0" * 64, 0, None
        self.begin(path, "new")

    def begin(self, path, reason="rotated"):
        """The next file."""
        if self.file:
            self.file.close()
        self.path = pathlib.Path(path)
        self.file = open(path, "w", encoding="utf-8", newline="\n")
        key = {"public_key": public_text(self.key)} if self.key else {}
        self.event("log.opened", reason=reason, previous_seq=str(self.seq), previous_hash=self.hash, **key)

    def checkpoint(self, reason="interval", key=None, time=None):
        """Signs all that is written; `key`: somebody else's."""
        self.ms += 10
        key, when = key or self.key, stamp(self.ms) if time is None else time
        text = "dagward audit checkpoint 1\n%d\n%s\n%s\n%s\n" % (self.seq + 1, when, reason, self.hash)
        signature = base64.b64encode(key.sign(text.encode())).decode()
        self.line('"time":"%s","kind":"event","event":{"name":"log.checkpoint","detail":{"reason":"%s","public_key":"%s","signature":"%s"}}'
                  % (when, reason, public_text(key), signature))
        self.file.flush()

    def line(self, members):
        """`members` is the inside of a JSON object."""
        self.seq += 1
        body = '{"seq":%d,%s,"prev":"%s"' % (self.seq, members, self.hash)
        self.hash = hashlib.sha256((body + "}").encode()).hexdigest()
        self.file.write('%s,"hash":"%s"}\n' % (body, self.hash))

    def record(self, record, step=10):
        """A record without seq, prev and hash; its time is the clock's, `step` ms on."""
        self.ms += step
        record = {"time": stamp(self.ms), **record}
        text = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
        text = re.sub(r'"ms":([0-9.]+)', lambda found: '"ms":%.3f' % float(found.group(1)), text)
        self.line(text[1:-1])
        self.file.flush()
        return record

    def event(self, name, step=10, **detail):
        return self.record({"kind": "event", "event": {"name": name, "detail": detail}}, step)

    def request(self, kind="outcome", step=10, **fields):
        """A request that a worker made and that was allowed, unless `fields` say otherwise."""
        record = {
            "kind": kind,
            "request_id": str(uuid.uuid4()),
            "correlation_id": str(uuid.uuid4()),
            "caller": {
                "issuer": "airflow",
                "subject": "system:serviceaccount:airflow:worker",
                "token_id": "t-1",
                "via": "bearer",
                "address": "10.0.0.7",
            },
            "claimed": {
                "dag_id": "nightly",
                "run_id": "scheduled__2026-11-23T00:00:00+00:00",
                "task_id": "start",
                "try_number": "1",
                "user_agent": "python-requests/2.32",
            },
            "request": {
                "method": "GET",
                "host": "dev.azure.com",
                "path": "/contoso/analytics/_apis/build/builds/7",
                "operation": "build.builds.get",
                "access": "read",
                "organization": "contoso",
                "project": "analytics",
                "resources": ["build:7"],
                "bytes": 0,
            },
            "decision": {
                "effect": "allow",
                "role": "etl-operator",
                "binding": "workers",
                "rule": "policy.yaml:5",
                "policy": "ab" * 32,
            },
            "credential": {"name": "etl", "type": "federated"},
            "upstream": {
                "host": "dev.azure.com",
                "status": 200,
                "activity_id": str(uuid.uuid4()),
                "attempts": 1,
                "ms": 20.125,
            },
            "response": {"status": 200, "bytes": 512},
            "ms": 21.5,
        }
        merge(record, fields)
        if kind != "outcome":
            for name in ("upstream", "response", "ms", "run"):
                record.pop(name, None)
            record["request"].pop("bytes", None)
            record["decision"] = {**record["decision"], "effect": "allow"}
            record["decision"].pop("reason", None)
        return self.record(record, step)

    def start(self, run, step=10, **fields):
        """Intent and outcome of a request that starts a run (None: it failed to); the outcome."""
        ids = {"request_id": str(uuid.uuid4()), "correlation_id": str(uuid.uuid4())}
        ids.update({name: fields.pop(name) for name in list(ids) if name in fields})
        about = {
            "request": {
                "method": "POST",
                "path": "/contoso/analytics/_apis/pipelines/42/runs",
                "operation": "pipelines.runs.run",
                "access": "execute",
                "resources": ["pipeline:42"],
            }
        }
        merge(about, fields)
        self.request("intent", step, **ids, **json.loads(json.dumps(about)))
        if run is not None:
            url = "https://dev.azure.com/contoso/_build?buildId=%s" % run
            about["run"] = {"id": str(run), "url": url}
        return self.request("outcome", step, **ids, **about)

    def close(self):
        self.file.close()


def write_large(folder, files, records):
    """What ten busy days look like; quick rather than varied."""
    log = None
    head = '"kind":"%s","request_id":"%s","correlation_id":"%s","caller":{"issuer":"airflow",'
    head += '"subject":"system:serviceaccount:airflow:worker-%d","token_id":"0198c0de%08x",'
    head += '"via":"bearer","address":"10.0.%d.7"},"claimed":{"dag_id":"dag_%d","run_id":'
    head += '"scheduled__2026-11-%02dT%02d:00:00+00:00","task_id":"task_%d","try_number":"1",'
    head += '"user_agent":"python-requests/2.32"},"request":{"method":"%s","host":"dev.azure.com",'
    head += '"path":"/contoso/analytics/_apis/%s","query":"api-version=7.1","operation":"%s",'
    head += '"access":"%s","organization":"contoso","project":"analytics","resources":["%s"],'
    head += '"bytes":0},"decision":{"effect":"allow","role":"etl-operator","binding":"workers",'
    head += '"rule":"policy.yaml:%d","policy":"' + "ab" * 32 + '"},"credential":{"name":"etl",'
    head += '"type":"federated"},"upstream":{"host":"dev.azure.com","status":200,"activity_id":'
    head += '"%s","attempts":1,"ms":%d.125},"response":{"status":200,"bytes":512},"ms":%d.500'
    number = 0
    for f in range(files):
        path = pathlib.Path(folder) / ("audit.jsonl.%d" % (files - f))
        log = AuditLog(path) if log is None else (log.begin(path), log)[1]
        for i in range(records - 1):
            number += 1
            log.ms += 86
            ids = ["%08x-0000-4000-8000-%012x" % (number * 2654435761 % 2**32, number * 3 + k) for k in range(3)]
            start = i % 20 == 0
            run = number // 20
            made = head % (
                "outcome", ids[0], ids[1], i % 50, i % 50, i % 200, run % 300, f + 1, i * 24 // records,
                run % 7, "POST" if start else "GET",
                "pipelines/%d/runs" % (run % 90) if start else "build/builds/%d" % run,
                "pipelines.runs.run" if start else "build.builds.get",
                "execute" if start else "read",
                "pipeline:%d" % (run % 90) if start else "build:%d" % run,
                run % 40, ids[2], i % 97, i % 97 + 1,
            )
            if start:
                made += ',"run":{"id":"%d","url":"https://dev.azure.com/contoso/_build?buildId=%d"}' % (run, run)
            log.line('"time":"%s",%s' % (stamp(log.ms), made))
    log.close()


if __name__ == "__main__":
    write_large(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
