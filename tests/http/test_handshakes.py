"""TLS handshakes that are under way: how many, and which gives way."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from authorities import Authority
from sites import Site
from wire_client import PATIENCE, Line, ping, until

from bitsd import handshakes
from bitsd.handshakes import Door

CONFIG = """
maximum_connections = {connections}
connections_per_address = {per_address}

[[listen]]
address = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"

[[directory]]
url = "/in"
path = "in"
"""

#: A message of a handshake that no client sends.
NO_HELLO = b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"

Start = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start(tmp_path: Path):
    """Start a server that has so many connections."""
    sites: list[Site] = []

    async def started(connections: int, per_address: int = 9) -> Site:
        Authority().serve().write(tmp_path, "server")
        (tmp_path / "in").mkdir()
        config = tmp_path / "bitsd.toml"
        text = CONFIG.format(connections=connections, per_address=per_address)
        config.write_text(text, "utf-8")
        sites.append(Site(config))
        await sites[-1].start()
        return sites[-1]

    yield started
    for site in sites:
        await site.lines.hang_up()
        await site.stop()


async def silent(site: Site, times: int = 1) -> list[Line]:
    """Connections that say nothing, accepted one after the other."""
    lines = []
    for _ in range(times):
        before = begun(site)
        lines.append(await site.lines.dial(site.url.replace("https", "http")))
        await until(lambda before=before: begun(site)[-1:] != before[-1:])
    return lines


def begun(site: Site) -> list[socket.socket]:
    """The handshakes under way, the oldest first."""
    assert site.server is not None
    assert site.server._handshakes is not None
    return list(site.server._handshakes._begun)


async def served(site: Site) -> int:
    """The status that a client gets that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    port = urlsplit(site.url).port
    line = Line(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
    site.lines.opened.append(line)
    return (await line.ask(ping("/in/"))).status


async def test_handshake_that_lasts_longest_gives_way(start: Start):
    site = await start(3)
    first, second, third = await silent(site, 3)
    got = await served(site)
    ended = await first.ended()
    await until(lambda: len(begun(site)) == 2)
    await silent(site, 2)

    assert (got, ended) == (501, b"")
    assert await second.ended() == b""
    assert not third.reader.at_eof()
    assert len(begun(site)) == 3


async def test_handshake_gives_way_to_one_of_its_own_address(start: Start, monkeypatch):
    clients = iter(["one", "two", "two", "two"])
    monkeypatch.setattr(handshakes, "counted", lambda _address: next(clients))
    site = await start(4, per_address=2)
    one, two, *_more = await silent(site, 4)

    assert await two.ended() == b""
    assert not one.reader.at_eof()
    assert len(begun(site)) == 3


async def test_handshake_that_failed_counts_until_its_farewell(
    start: Start, monkeypatch
):
    monkeypatch.setattr(handshakes, "FAREWELL_SECONDS", PATIENCE)
    site = await start(2)
    failed, _other = await silent(site, 2)
    await failed.send(NO_HELLO)
    alert = await failed.reader.read(1)
    assert len(begun(site)) == 2
    await silent(site)

    assert alert == b"\x15"
    await failed.ended()
    monkeypatch.setattr(handshakes, "FAREWELL_SECONDS", 0.001)
    (last,) = await silent(site)
    await last.send(NO_HELLO)
    await last.ended()
    await until(lambda: len(begun(site)) == 1)


async def test_handshake_whose_peer_goes_away_is_forgotten(start: Start):
    site = await start(2)
    (gone,) = await silent(site)
    gone.reset()
    await until(lambda: not begun(site))

    assert await served(site) == 501


async def test_handshake_that_never_comes_ends(start: Start):
    site = await start(2)
    assert site.server is not None
    http = site.server._http
    assert http is not None
    http.limits = replace(http.limits, header=0.001)
    line = await site.lines.dial(site.url.replace("https", "http"))

    assert await line.ended() == b""


async def test_handshakes_end_with_the_server(start: Start):
    site = await start(2)
    (line,) = await silent(site)
    await site.stop()

    assert await line.ended() == b""


class Listening(socket.socket):
    """A socket that cannot accept at first."""

    def __init__(self, *errors: int) -> None:
        super().__init__()
        self.errors = list(errors)
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.settimeout(0)

    def accept(self):
        """As it should, once all errors were made."""
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, "as told")
        return super().accept()


class Accepted:
    """Closes what it gets."""

    def __init__(self) -> None:
        self.come = asyncio.Event()

    def begin(self, accepted: socket.socket, *_more: object) -> None:
        """As that of `Handshakes`."""
        accepted.close()
        self.come.set()


@pytest.mark.parametrize("pause", [0.0, 3600.0])
async def test_door_goes_on_when_there_are_handles_again(monkeypatch, pause: float):
    monkeypatch.setattr(handshakes, "PAUSE_SECONDS", pause)
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context["socket"]))
    accepted = Accepted()
    with Listening(errno.EAGAIN, errno.EMFILE) as listening:
        # Not a Handshakes, and nothing to speak TLS with.
        door = Door(listening, None, accepted)  # type: ignore[arg-type]
        with socket.create_connection(listening.getsockname()):
            if pause:
                await until(lambda: bool(told))
            else:
                await asyncio.wait_for(accepted.come.wait(), PATIENCE)
        door.close()

    assert told == [listening]
    assert accepted.come.is_set() == (not pause)
