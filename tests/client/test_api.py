"""Downloads from Python, as the example does them."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from proxies import EXAMPLES
from sites import Site

CONTENT = bytes(range(256)) * 100


async def ran(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, EXAMPLES / "python_download.py", *arguments),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_example_fetches_a_file(site: Site, tmp_path: Path):
    (site.folder / "image.ckm").write_bytes(CONTENT)
    url, file = f"{site.url}/in/image.ckm", tmp_path / "image.ckm"
    first = await ran(url, str(file))
    second = await ran(url, str(file))
    none = await ran(f"{site.url}/in/none.ckm", str(file))

    assert first == (0, f"{file}: fetched, {len(CONTENT)} bytes\n", "")
    assert second == (0, f"{file}: already there, {len(CONTENT)} bytes\n", "")
    assert none == (1, "", "there is no such file on the server\n")
    assert file.read_bytes() == CONTENT
