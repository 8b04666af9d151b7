"""Which event loop serves."""

import asyncio
import sys
from pathlib import Path

from bitsd import loops


def test_uvloop_is_used_where_it_is_installed(tmp_path: Path, monkeypatch):
    (tmp_path / "uvloop.py").write_text("new_event_loop = 'fast'")
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    made = loops.factory()
    del sys.modules["uvloop"]

    assert made == "fast"


def test_asyncio_has_the_loop_where_uvloop_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert loops.factory() is asyncio.new_event_loop
