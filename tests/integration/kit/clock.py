"""A wall clock that is set while the proxy runs (kit/clock.c)."""
import struct

import pytest

from kit.waiting import BINARY, sanitizer, until

SHIM = BINARY.parent / "libdagward_clock.so"


class Clock:
    def __init__(self, file, monkeypatch):
        if sanitizer() != "none":
            pytest.skip("a sanitizer's runtime must be the first library: no clock can be preloaded")
        if not SHIM.exists():
            pytest.skip("%s was not built" % SHIM)
        self.file = file
        self.file.write_bytes(struct.pack("=q", 0))
        monkeypatch.setenv("DAGWARD_CLOCK_FILE", str(file))
        self.monkeypatch = monkeypatch

    def __enter__(self):
        self.monkeypatch.setenv("LD_PRELOAD", str(SHIM))
        return self

    def __exit__(self, *_):
        self.monkeypatch.delenv("LD_PRELOAD")

    def set(self, seconds, proxy=None):
        """Off by so much from now on; returns when the proxy has noticed."""
        seen = lambda: proxy.log().count("clock moved by_s=")
        before = seen() if proxy else 0
        with open(self.file, "r+b") as file:
            file.write(struct.pack("=q", seconds))
        if proxy:
            until(lambda: seen() > before, "it is not noticed that the clock moved")
