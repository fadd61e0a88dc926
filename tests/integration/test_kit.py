"""The tests' own tools: what they must find, they find."""

import pytest

from kit import secrets
from kit.proxy import REPORTS


def test_a_leaked_token_is_found_whole_and_by_its_signature(issuer):
    token = issuer.mint()
    for text in (token, "x " + token.rsplit(".", 1)[1] + " y", "Authorization: Bearer " + token):
        with pytest.raises(AssertionError):
            secrets.assert_no_leak(text, "a text")
    secrets.assert_no_leak(token.rsplit(".", 1)[0], "a token without its signature proves nothing")


def test_a_leaked_password_is_found_in_its_encoded_form_too():
    field = secrets.basic("airflow", "canary-of-this-test")
    with pytest.raises(AssertionError):
        secrets.assert_no_leak(field, "a field")


def test_a_leak_into_the_proxy_files_fails_its_stop(proxy, issuer, operator):
    proxy.ask("GET", "/", operator)
    proxy.check_evidence()
    for file in (proxy.stderr_file, proxy.audit_file):
        kept = file.read_bytes()
        file.write_bytes(kept + operator.encode() + b"\n")
        with pytest.raises(AssertionError):
            proxy.check_evidence()
        file.write_bytes(kept)


def test_reports_of_sanitizers_are_recognised():
    for line in ("==1==ERROR: AddressSanitizer: heap-use-after-free", "WARNING: ThreadSanitizer: data race (pid=1)", "a.c:1:2: runtime error: signed integer overflow",
                 "==1==ERROR: LeakSanitizer: detected memory leaks"):
        assert REPORTS.search(line), line
    assert not REPORTS.search("2026-11-24T00:29:44.946Z info credential name=etl")
