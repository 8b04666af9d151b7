"""Several processes that serve one folder."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from processes import Run, Running, held, is_one_line, lives, ran, rewrite, serving
from store_kit import small_disk, use_up_names
from wire_client import Line, cancel, close, create, fragment, ping, until

TARGET = "/in/report.dat"
ENTITY = bytes(range(250)) * 120
HELD = 10_000
LIMIT = 5


@pytest.fixture
def workers() -> int:
    return 2


@pytest.fixture
async def running(run: Run, config: Path) -> Running:
    return await serving(run, config)


async def dialled(running: Running) -> list[Line]:
    """A connection to each worker."""
    return [await running.dial_worker(pid) for pid in running.workers]


async def replaced(running: Running, dead: int, living: int) -> int:
    """The worker that took the place of the dead one."""

    def found() -> set[int]:
        return {*running.workers} - {dead, living}

    await until(lambda: dead not in running.workers and bool(found()))
    return found().pop()


def limit(config: Path) -> None:
    rewrite(config, "upload = true", f"upload = true\nsessions_per_user = {LIMIT}")


async def statuses(lines: list[Line], octets: bytes, times: int) -> list[int]:
    """What each line is answered, so often and all at once."""

    async def asked(line: Line) -> list[int]:
        return [(await line.ask(octets)).status for _ in range(times)]

    answers = await asyncio.gather(*map(asked, lines))
    return [status for answer in answers for status in answer]


async def test_packets_of_a_session_may_come_to_any_worker(
    running: Running, config: Path
):
    first, second = await dialled(running)
    named = await first.create(TARGET)
    await second.ask(fragment(TARGET, named, 0, ENTITY[:HELD], len(ENTITY)))
    ack = await first.ask(fragment(TARGET, named, HELD, ENTITY[HELD:], len(ENTITY)))

    assert (ack.status, ack.received) == (200, len(ENTITY))
    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY


async def test_newer_packet_follows_a_stalled_one_of_another_worker(
    running: Running, config: Path
):
    stalled, newer = await dialled(running)
    named = await stalled.create(TARGET)
    octets = fragment(TARGET, named, 0, ENTITY, len(ENTITY))
    await stalled.send(octets[: -len(ENTITY) + HELD])
    await until(lambda: held(config, named) == HELD)
    ack = await newer.ask(octets)
    cut = await stalled.receive()

    assert (ack.status, ack.received) == (200, len(ENTITY))
    assert cut.status == 409
    assert (config.parent / "in" / "report.dat").read_bytes() == ENTITY


async def test_close_may_come_again_to_another_worker(running: Running):
    lines = await dialled(running)
    named = await lines[0].create(TARGET)
    await lines[1].ask(fragment(TARGET, named, 0, ENTITY, len(ENTITY)))
    answers = [(await line.ask(close(TARGET, named))).status for line in lines * 2]

    assert answers == [200] * 4


async def test_limit_is_that_of_all_workers_together(run: Run, config: Path):
    limit(config)
    running = await serving(run, config)
    lines = await dialled(running)
    answers = await statuses(lines, create(TARGET), LIMIT)

    assert sorted(answers) == [200] * LIMIT + [503] * LIMIT


async def test_session_that_one_worker_made_and_another_ended_makes_room(
    run: Run, config: Path
):
    limit(config)
    running = await serving(run, config)
    first, second = await dialled(running)
    ids = [await first.create(TARGET) for _ in range(LIMIT)]
    await second.ask(cancel(TARGET, ids[0]))
    answers = [(await line.ask(create(TARGET))).status for line in (first, second)]

    assert answers == [200, 503]


async def test_limit_holds_for_sessions_of_workers_that_died(run: Run, config: Path):
    limit(config)
    running = await serving(run, config)
    first, second = running.workers
    line = await running.dial_worker(first)
    for _ in range(LIMIT):
        await line.create(TARGET)
    os.kill(first, signal.SIGKILL)
    third = await replaced(running, first, second)
    lines = [await running.dial_worker(pid) for pid in (second, third)]

    assert await statuses(lines, create(TARGET), 1) == [503, 503]


async def test_worker_that_is_killed_takes_nothing_along(
    running: Running, config: Path
):
    first, second = running.workers
    one, other = await dialled(running)
    targets = ["/in/one.dat", "/in/other.dat"]
    ids = [
        await line.create(target)
        for line, target in zip((one, other), targets, strict=True)
    ]
    for line, target, named in zip((one, other), targets, ids, strict=True):
        octets = fragment(target, named, 0, ENTITY[:HELD], len(ENTITY))
        assert (await line.ask(octets)).received == HELD
    rest = [
        fragment(target, named, HELD, ENTITY[HELD:], len(ENTITY))
        for target, named in zip(targets, ids, strict=True)
    ]
    await one.send(rest[0][:-5000])
    await other.send(rest[1][:-5000])
    await until(lambda: all(held(config, named) == 25_000 for named in ids))
    os.kill(second, signal.SIGKILL)
    await other.ended()
    await one.send(rest[0][-5000:])
    ack = await one.receive()
    third = await running.dial_worker(await replaced(running, second, first))
    again = await third.ask(rest[1])

    assert (ack.status, ack.received) == (200, len(ENTITY))
    assert (again.status, again.received) == (200, len(ENTITY))
    assert [(config.parent / target.strip("/")).read_bytes() for target in targets] == [
        ENTITY
    ] * 2

    code, err = await running.end(signal.SIGTERM)
    assert code == 0
    assert 'worker-died worker=1 detail="ended with -9"' in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_all(running: Running, number: signal.Signals):
    workers = running.workers
    await dialled(running)
    code, err = await running.end(number)

    assert (code, err) == (0, "")
    assert not any(map(lives, workers))


async def test_supervisor_that_is_killed_ends_all_and_bytes_are_kept(
    running: Running, config: Path
):
    workers = running.workers
    line, _other = await dialled(running)
    named = await line.create(TARGET)
    octets = fragment(TARGET, named, 0, ENTITY, len(ENTITY))
    await line.send(octets[: -len(ENTITY) + HELD])
    await until(lambda: held(config, named) == HELD)
    # Standard error is at its end when nobody has it open any more.
    _code, err = await running.end(signal.SIGKILL)
    await until(lambda: not any(map(lives, workers)))

    assert "Traceback" not in err
    assert held(config, named) == HELD


async def test_hangup_is_passed_on_to_all(running: Running):
    running.process.send_signal(signal.SIGHUP)
    for line in await dialled(running):
        assert (await line.ask(ping(TARGET))).status == 200
    _code, err = await running.end(signal.SIGTERM)

    assert err.count("INFO reloaded") == 2


async def test_worker_that_cannot_start_is_one_line(config: Path):
    with small_disk(config.parent / "in", files=10) as folder:
        use_up_names(folder)
        code, out, err = await ran("serve", "--config", str(config))

    assert (code, out) == (1, "")
    assert is_one_line(err)
    assert "No space left on device; uploads need to write" in err


async def test_path_is_there_until_all_workers_have_ended(run: Run, config: Path):
    path = config.parent / "socket"
    rewrite(config, '"127.0.0.1:0"', f'"unix:{path}"')
    running = await run("serve", "--config", str(config))
    await running.hear(f"listening on unix:{path}")
    ended, kept = running.workers
    os.kill(ended, signal.SIGTERM)
    await replaced(running, ended, kept)
    os.kill(kept, signal.SIGSTOP)
    line = Line(*await asyncio.open_unix_connection(path))
    status = (await line.ask(ping(TARGET))).status
    os.kill(kept, signal.SIGCONT)
    await line.hang_up()
    await running.end(signal.SIGTERM)

    assert status == 200
    assert not path.exists()
