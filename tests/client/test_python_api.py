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


async def test_example_uploads_and_downloads_a_file(site: Site, tmp_path: Path):
    path, copy = tmp_path / "report.7z", tmp_path / "copy.7z"
    path.write_bytes(bytes(1_000_000))
    url = f"{site.url}/in/report.7z"
    code, out, err = await example("upload", path, f"{site.url}/in/")

    assert (code, err) == (0, "")
    assert f"\r100 %\nreport.7z: uploaded to {url}, 1000000 bytes\n" in out
    assert (site.folder / "report.7z").read_bytes() == bytes(1_000_000)

    code, out, err = await example("download", url, copy)

    assert (code, err) == (0, "")
    assert "\r100 %\ncopy.7z: fetched, 1000000 bytes\n" in out
    assert copy.read_bytes() == bytes(1_000_000)

    code, out, err = await example("download", url, copy)

    assert (code, err) == (0, "")
    assert out.startswith("\ncopy.7z: already there, 1000000 bytes\n")


@pytest.mark.parametrize(
    ("what", "said"),
    [("upload", "No such file"), ("download", "there is no such file on the server")],
)
async def test_example_tells_a_refusal(
    site: Site, tmp_path: Path, what: str, said: str
):
    of = [tmp_path / "none", f"{site.url}/in/none"]
    code, _out, err = await example(what, *(of if what == "upload" else of[::-1]))

    assert code == 1
    assert said in err


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
