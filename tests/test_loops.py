"""Which event loop serves."""

import asyncio
import errno
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


async def test_lack_of_handles_is_told_once_in_a_while(caplog, monkeypatch):
    monkeypatch.setattr(loops, "TELL_SECONDS", -1.0)
    loop, trouble = asyncio.get_running_loop(), loops.Trouble()
    none_left = {"message": "", "exception": OSError(errno.EMFILE, "many"), "socket": 1}
    trouble(loop, none_left)
    assert len(caplog.messages) == 1
    trouble(loop, none_left)
    monkeypatch.setattr(loops, "TELL_SECONDS", 60.0)
    trouble(loop, none_left)
    trouble(loop, none_left)

    assert len(caplog.messages) == 3
    assert all(line.startswith("cannot-accept detail=") for line in caplog.messages)


async def test_other_trouble_is_told_as_ever(caplog):
    trouble = loops.Trouble()
    no_socket = {"message": "first", "exception": OSError(errno.EMFILE, "many")}
    trouble(asyncio.get_running_loop(), no_socket)
    trouble(asyncio.get_running_loop(), {"message": "second", "socket": 1})

    assert [line.partition("\n")[0] for line in caplog.messages] == ["first", "second"]
