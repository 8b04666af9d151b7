"""What programs in Python import, and the example that shows it."""

import asyncio
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from processes import PROCESS_SECONDS
from proxies import EXAMPLES
from sites import Site

import bitsd


async def example(*arguments: object) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / "python_api.py"),
        *map(str, arguments),
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(PROCESS_SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_example_uploads_a_file(site: Site, tmp_path: Path):
    path = tmp_path / "report.7z"
    path.write_bytes(bytes(1_000_000))
    code, out, err = await example(path, f"{site.url}/in/")

    assert (code, err) == (0, "")
    assert out.startswith(f"{site.url}/in/report.7z: 1000000 bytes\n")
    assert "\r100 %" in out
    assert (site.folder / "report.7z").read_bytes() == bytes(1_000_000)


async def test_example_tells_a_refusal(site: Site, tmp_path: Path):
    code, _out, err = await example(tmp_path / "none", f"{site.url}/in/")

    assert code == 1
    assert "No such file" in err


def test_everything_is_there():
    assert [name for name in bitsd.__all__ if getattr(bitsd, name) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        getattr(bitsd, "unheard" + "_of")


def test_import_is_cheap():
    code = "import bitsd, sys; print('aiohttp' in sys.modules, len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("False ")
