"""A server that ends, and the next one that goes on for it."""

import asyncio
import random
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from processes import Run, held, is_one_line, ran, rewrite, serving
from wire_client import Lines, close, fragment, ping, until

ENTITY = random.Random(3).randbytes(30_000)
UPLOADS = 50

#: What a stop may take, and a busy machine beside it, in seconds.
STOP_SECONDS = 10 + 10

either_way = pytest.mark.parametrize("workers", [1, 2])


# A stop.


@either_way
async def test_stop_amid_many_uploads_is_quick_and_keeps_what_came(
    run: Run, config: Path
):
    running = await serving(run, config)
    targets = [f"/in/{number}.dat" for number in range(UPLOADS)]
    named = {}
    for target in targets:
        line = await running.dial()
        named[target] = await line.create(target)
        await line.ask(fragment(target, named[target], 0, ENTITY[:10_000], 30_000))
        rest = fragment(target, named[target], 10_000, ENTITY[10_000:], 30_000)
        await line.send(rest[:-15_000])
    await until(lambda: all(held(config, each) == 15_000 for each in named.values()))
    async with asyncio.timeout(STOP_SECONDS):
        code, err = await running.end(signal.SIGTERM)

    assert (code, "Traceback" in err) == (0, False)
    assert {held(config, each) for each in named.values()} == {15_000}

    again = await serving(run, config)
    line = await again.dial()
    for target in targets:
        rest = fragment(target, named[target], 10_000, ENTITY[10_000:], 30_000)
        assert (await line.ask(rest)).received == 30_000
        assert (config.parent / target[1:]).read_bytes() == ENTITY


# A socket that was passed.


@pytest.fixture
async def listening(config: Path) -> AsyncIterator[socket.socket]:
    """A socket as systemd holds it, at the address that is configured."""
    with socket.create_server(("127.0.0.1", 0)) as held_open:
        port = held_open.getsockname()[1]
        rewrite(config, "127.0.0.1:0", f"127.0.0.1:{port}")
        yield held_open


async def served(run: Run, config: Path, passed: socket.socket):
    running = await run("serve", "--config", str(config), passed=passed.fileno())
    await running.hear("^listening on ")
    return running


async def upload(url: str, target: str) -> None:
    """A file in two fragments, by a client that tries again when it is cut off."""
    lines, named, closed = Lines(), "", False
    while not closed:
        try:
            line = await lines.dial(url)
            named = named or await line.create(target)
            for first in (0, 20_000):
                octets = ENTITY[first : first + 20_000]
                await line.ask(fragment(target, named, first, octets, len(ENTITY)))
            closed = (await line.ask(close(target, named))).status == 200
        except ConnectionRefusedError:
            raise
        except (ConnectionError, EOFError):
            pass
    await lines.hang_up()


@either_way
async def test_nobody_is_turned_away_while_servers_come_and_go(
    run: Run, config: Path, listening: socket.socket
):
    port = listening.getsockname()[1]
    done = 0
    over = asyncio.Event()

    async def client(name: str) -> None:
        nonlocal done
        while not over.is_set():
            await upload(f"http://127.0.0.1:{port}", f"/in/{name}-{done}.dat")
            done += 1

    clients = [asyncio.create_task(client(name)) for name in "abc"]
    old = await served(run, config, listening)
    for overlap in (True, False, True, False):
        before = done
        await until(lambda before=before: done > before + 3)
        if overlap:
            new = await served(run, config, listening)
            await old.end(signal.SIGTERM)
        else:
            await old.end(signal.SIGTERM)
            new = await served(run, config, listening)
        old = new
    over.set()
    await asyncio.gather(*clients)

    files = list((config.parent / "in").glob("*.dat"))
    assert len(files) == done
    assert {file.read_bytes() for file in files} == {ENTITY}


async def test_passed_path_stays_when_its_server_ends(run: Run, config: Path):
    path = config.parent / "socket"
    rewrite(config, "127.0.0.1:0", f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as held_open:
        held_open.bind(str(path))
        held_open.listen()
        running = await served(run, config, held_open)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ping("/in/"))
        status = await reader.readline()
        writer.close()
        code, _err = await running.end(signal.SIGTERM)

    assert (status, code) == (b"HTTP/1.1 200 OK\r\n", 0)
    assert path.is_socket()


def a_file(folder: Path):
    return (folder / "a file").open("wb")


def a_stranger(_folder: Path):
    return socket.create_server(("127.0.0.1", 0))


def one_that_is_bound_only(_folder: Path):
    return socket.socket()


def datagrams(_folder: Path):
    return socket.socket(type=socket.SOCK_DGRAM)


def a_machine(_folder: Path):
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (a_file, "descriptor 3 is no socket"),
        (a_machine, "descriptor 3 is of another kind"),
        (a_stranger, "add a [[listen]] with that address"),
        (one_that_is_bound_only, "descriptor 3 does not listen for streams"),
        (datagrams, "descriptor 3 does not listen for streams"),
    ],
)
async def test_passed_socket_of_no_use_is_one_line(config: Path, make, told: str):
    with closing(make(config.parent)) as passed:
        code, _out, err = await ran(
            "serve", "--config", str(config), passed=passed.fileno()
        )

    assert code == 1
    assert is_one_line(err)
    assert "LISTEN_FDS" in err
    assert told in err


# Word that it serves.


@contextmanager
def told_at(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(address.replace("@", "\0"))
        told.settimeout(STOP_SECONDS)
        yield told


@either_way
@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_whoever_wants_to_know_is_told_when_clients_are_served(
    run: Run, config: Path, monkeypatch, kind: str
):
    path = f"{config.parent}/notify"
    address = path if kind == "path" else f"@{path}"
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with told_at(address) as told:
        running = await serving(run, config)
        line = await running.dial()
        answer = await line.ask(ping("/in/"))
        word = await asyncio.to_thread(told.recv, 100)
        await running.end(signal.SIGTERM)

    assert (word, answer.status) == (b"READY=1", 200)


async def test_that_nobody_listens_any_more_is_no_matter(
    run: Run, config: Path, monkeypatch
):
    monkeypatch.setenv("NOTIFY_SOCKET", f"{config.parent}/nobody")
    running = await serving(run, config)

    assert (await running.end(signal.SIGTERM))[0] == 0
