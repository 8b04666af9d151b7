"""A server in this process, and an application that it tells of uploads."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from sites import CONFIG, EVERYBODY, Application, Serve, Site, running
from wire_client import Line

from bitsd import loops


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], loops.Loop]]:
    """Tests run on the loop that serves, as do the processes that they start."""
    return {"loop": loops.factory()}


def pytest_report_header() -> str:
    """Which loop that is."""
    loop = loops.factory()()
    loop.close()
    return f"event loop: {type(loop).__module__}"


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a server with settings added to the file or to its directory."""
    started_sites: list[Site] = []

    async def started(
        *, directory: str = "", top: str = "", who: str = EVERYBODY
    ) -> Site:
        config = tmp_path / "bitsd.toml"
        text = CONFIG.format(top=top, directory=directory, who=who)
        config.write_text(text, "utf-8")
        site = Site(config)
        site.folder.mkdir(exist_ok=True)
        started_sites.append(site)
        await site.start()
        return site

    yield started
    for site in started_sites:
        await site.lines.hang_up()
        await site.stop()


@pytest.fixture
async def site(serve: Serve) -> Site:
    """A server with the default settings."""
    return await serve()


@pytest.fixture
async def line(site: Site) -> Line:
    """A connection to the default server."""
    return await site.dial()


@pytest.fixture
async def application() -> AsyncIterator[Application]:
    """An application on loopback."""
    async with running(Application()) as application:
        yield application


# What runs before anything is served, or is a test's own look at the disk.
NOT_SERVING = (
    ("bitsd/config.py", {"load", "from_table"}),
    ("bitsd/latest.py", {"__init__"}),
    ("bitsd/listeners.py", {"__enter__", "__exit__"}),
    ("bitsd/server.py", {"__init__"}),
    ("bitsd/sessions.py", {"__init__"}),
    ("bitsd/record.py", {"read", "write"}),
    ("tests/store_kit.py", {"disk_in"}),
    ("tests/client/test_upload.py", {"happened"}),
)


@pytest.fixture(autouse=True)
def event_loop_never_waits(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call of ours on the event loop fails the test.

    Where one is meant it is named here: chunks go to the page cache from the loop,
    and a request file is opened that a thread has just looked at.
    """
    if request.path.name == "test_disk.py":  # which calls what blocks by itself
        yield
        return
    with blockbuster_ctx("bitsd") as blocking:
        for function in blocking.functions.values():
            for file, name in NOT_SERVING:
                function.can_block_in(file, name)
        blocking.functions["os.write"].can_block_in("bitsd/disk.py", {"write"})
        for function in ("os.sendfile", "socket.socket.send"):
            blocking.functions[function].can_block_in("bitsd/pieces.py", {"_some"})
        yield
