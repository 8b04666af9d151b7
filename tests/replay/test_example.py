"""examples/test_replay.py says what a server does wrong."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE

from proxies import EXAMPLES
from sites import Serve

#: Long enough for a pytest of its own, in seconds.
PATIENCE = 50.0


async def ran(url: str) -> tuple[int | None, str]:
    """The example against a server: exit code and output."""
    plugins = ("-p", "no:cacheprovider", "-p", "no:xdist")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", *plugins),
        str(EXAMPLES / "test_replay.py"),
        env=os.environ | {"BITS_SERVER": url},
        stdout=PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_a_good_server_passes(serve: Serve):
    site = await serve(directory="overwrite = true")
    code, out = await ran(site.url)

    assert (code, "7 passed" in out) == (0, True), out


async def test_a_bad_server_is_told_what_it_does(serve: Serve):
    site = await serve(directory='maximum_upload_size = "5kB"')
    code, out = await ran(site.url)

    assert code == 1
    assert "bits-error: captured nothing, got 0x80200020" in out
