"""Debian's Chromium, without a window."""

import shutil
import subprocess

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def found():
    return shutil.which("chromium")


def dump_dom(page, profile, seconds):
    """The document as it is when a page was loaded and its scripts have run."""
    ended = subprocess.run(
        [found(), *FLAGS, "--user-data-dir=%s" % profile, "--virtual-time-budget=3000", "--dump-dom", page.as_uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=seconds,
        check=True,
    )
    return ended.stdout.decode()
