"""A server in this process, and an application that it tells of uploads."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aiohttp import web
from wire_client import Line, Lines

from bitsd.config import load
from bitsd.connection import Connection
from bitsd.latest import Latest
from bitsd.listeners import Listeners
from bitsd.server import Server

EVERYBODY = 'read = ["*"]\nwrite = ["*"]'

CONFIG = """
{top}
[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/in"
path = "in"
{who}
upload = true
{directory}
"""


@dataclass
class Site:
    """A server with one directory, `/in`, and the connections to it."""

    config: Path
    lines: Lines = field(default_factory=Lines)
    server: Server | None = None
    urls: list[str] = field(default_factory=list)
    entered: ExitStack = field(default_factory=ExitStack)

    @property
    def folder(self) -> Path:
        """Where the files of `/in` are."""
        return self.config.parent / "in"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return self.urls[0]

    @property
    def host(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    def held(self, named: str) -> int:
        """Bytes of a session that are on disk; none if there is no such session."""
        request = self.folder / "BITS-Sessions" / named / "request"
        return request.stat().st_size if request.exists() else 0

    @property
    def sessions(self) -> list[str]:
        """Ids of the sessions on disk."""
        return [path.name for path in (self.folder / "BITS-Sessions").glob("{*}")]

    @property
    def connections(self) -> list[Connection]:
        """Those that are open now."""
        http = None if self.server is None else self.server._http
        return [] if http is None else http.connections

    async def start(self) -> None:
        """Start it, on a new port."""
        config = load(self.config)
        listeners = self.entered.enter_context(Listeners(config.listen))
        self.urls = listeners.urls
        self.server = Server(
            config,
            listeners,
            latest=Latest(config, partial(load, self.config, tls=False)),
        )
        await self.server.start()

    async def stop(self) -> None:
        """Stop it; connections are closed by whoever is first."""
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop()
        self.entered.close()

    async def dial(self) -> Line:
        """A new connection."""
        return await self.lines.dial(self.url)


Serve = Callable[..., Awaitable[Site]]


@dataclass(frozen=True)
class Told:
    """A notification, and what the file that it names held at that moment."""

    target: str
    headers: dict[str, str]
    body: bytes
    entity: bytes | None


@dataclass
class Application:
    """The server application of upload-reply jobs ([MC-BUP] 3.4).

    Attributes:
        status: what it answers.
        headers: what it answers beside the status.
        body: what it answers with.
        file: what it writes where the notification says that a reply may be.
    """

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: bytes | None = None
    told: list[Told] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Note the notification, write the reply, answer."""
        body = await request.read()
        named = request.headers.get("BITS-Request-DataFile-Name")
        entity = None if named is None else read(named)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.told.append(Told(request.path_qs, headers, body, entity))
        if self.file is not None:
            write(request.headers["BITS-Response-DataFile-Name"], self.file)
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def running(application: Application) -> AsyncIterator[Application]:
    """It answers on loopback, as long as it is needed."""
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/app/handle", application.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        application.url = f"http://{host}:{port}/app/handle"
        yield application
    finally:
        await runner.cleanup()


def read(path: str) -> bytes:
    """All of a file."""
    return Path(path).read_bytes()


def write(path: str, octets: bytes) -> None:
    """All of a file."""
    Path(path).write_bytes(octets)
