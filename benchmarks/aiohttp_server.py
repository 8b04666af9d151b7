"""aiohttp used in the obvious way: what bitsd would cost without its own paths.

    python -m benchmarks.aiohttp_server FOLDER FILES     PUT /up/NAME, GET /files/NAME
    python -m benchmarks.aiohttp_server --bare           an empty 200 to everything

`--bare` is `web.Server` with the pure-Python parser, which bitsd needs for BITS_POST:
the floor for a packet without a body.
"""

import asyncio
import sys
from pathlib import Path

from aiohttp import web, web_protocol
from aiohttp.http_parser import HttpRequestParserPy


class Application:
    """Uploads appended to `folder`, downloads from `files`."""

    def __init__(self, folder: Path, files: Path) -> None:
        self._folder, self._files = folder, files

    async def put(self, request: web.Request) -> web.Response:
        """Append the body to a file."""
        # It blocks the event loop, as the obvious way does.
        with (self._folder / request.match_info["name"]).open("ab", 0) as file:
            async for chunk in request.content.iter_any():
                file.write(chunk)
        return web.Response()

    async def get(self, request: web.Request) -> web.FileResponse:
        """Send a file."""
        return web.FileResponse(self._files / request.match_info["name"])

    def runner(self) -> web.AppRunner:
        """The application, ready to be set up."""
        app = web.Application(client_max_size=0)
        app.router.add_put("/up/{name}", self.put)
        app.router.add_get("/files/{name}", self.get)
        return web.AppRunner(app, access_log=None)


async def _nothing(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


def _bare() -> web.ServerRunner:
    # No argument chooses the parser, and the name is not exported. If this stops
    # working, BITS_POST is answered 400 and the benchmark says so.
    web_protocol.HttpRequestParser = HttpRequestParserPy  # type: ignore[attr-defined]
    return web.ServerRunner(web.Server(_nothing, access_log=None))


async def serve(arguments: list[str]) -> None:
    """Serve until the process ends."""
    runner: web.ServerRunner | web.AppRunner
    if arguments == ["--bare"]:
        runner = _bare()
    else:
        folder, files = map(Path, arguments)
        runner = Application(folder, files).runner()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
