"""One packet of a session at a time, and the newer one first."""

import asyncio
from contextlib import suppress

import pytest
from store_kit import ID, OTHER, Chunks

from bitsd.protocol.refusal import Reason
from bitsd.turns import Turns


class Packets:
    """Packets that note when they are served, and when that ends."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.log: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def arrive(self, name: str, body: Chunks | None = None, named=ID) -> asyncio.Task:
        """A packet comes, and is served until its body ends."""
        task = asyncio.create_task(self._served(name, body, named))
        self.tasks.append(task)
        return task

    async def _served(self, name: str, body: Chunks | None, named) -> None:
        async with self.turns.take(named, body):
            self.log.append(f"{name} begins")
            if body is not None:
                await body.into(lambda _chunk: None)
            self.log.append(f"{name} ends")


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def packets():
    packets = Packets()
    yield packets
    for task in packets.tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_newer_packet_ends_the_body_of_the_older_and_follows(packets: Packets):
    older = Chunks(stalls=True)
    packets.arrive("older", older)
    await settle()
    assert packets.log == ["older begins"]
    packets.arrive("newer")
    await settle()

    assert packets.log == ["older begins", "older ends", "newer begins", "newer ends"]
    assert older.ended is Reason.SUPERSEDED


async def test_packets_without_bodies_follow_each_other(packets: Packets):
    for name in "ab":
        packets.arrive(name)
    await settle()

    assert packets.log == ["a begins", "a ends", "b begins", "b ends"]


async def test_packet_that_waits_is_superseded_as_well(packets: Packets):
    bodies = {name: Chunks(stalls=True) for name in "abc"}
    for name, body in bodies.items():
        packets.arrive(name, body)
    await settle()

    assert packets.log == ["a begins", "a ends", "b begins", "b ends", "c begins"]
    assert [body.ended for body in bodies.values()] == [
        Reason.SUPERSEDED,
        Reason.SUPERSEDED,
        None,
    ]


async def test_body_that_is_read_when_two_come_is_followed_by_both(packets: Packets):
    first = Chunks(stalls=True)
    packets.arrive("first", first)
    await first.arrived.wait()
    last = Chunks(stalls=True)
    packets.arrive("middle")
    packets.arrive("last", last)
    await settle()

    assert packets.log[-3:] == ["middle begins", "middle ends", "last begins"]
    assert last.ended is None


async def test_sessions_do_not_wait_for_each_other(packets: Packets):
    theirs = Chunks(stalls=True)
    packets.arrive("theirs", theirs)
    packets.arrive("ours", named=OTHER)
    await settle()

    assert packets.log == ["theirs begins", "ours begins", "ours ends"]
    assert theirs.ended is None


async def test_session_is_busy_while_any_packet_of_it_is_there(packets: Packets):
    assert not packets.turns.busy(ID)
    packets.arrive("a", Chunks(stalls=True))
    b = Chunks(stalls=True)
    packets.arrive("b", b)
    await settle()
    assert packets.turns.busy(ID)
    assert not packets.turns.busy(OTHER)
    b.cut(Reason.STOPPING)
    await settle()

    assert not packets.turns.busy(ID)


async def test_cutting_ends_every_body_that_is_read(packets: Packets):
    bodies = [Chunks(stalls=True), Chunks(stalls=True)]
    packets.arrive("one", bodies[0], ID)
    packets.arrive("other", bodies[1], OTHER)
    await settle()
    packets.turns.cut(Reason.STOPPING)
    await settle()

    assert [body.ended for body in bodies] == [Reason.STOPPING] * 2
    assert len(packets.log) == 4


async def test_cutting_leaves_packets_without_bodies_alone():
    turns = Turns()
    async with turns.take(ID):
        turns.cut(Reason.STOPPING)

        assert turns.busy(ID)


async def test_packet_without_a_body_is_waited_for(packets: Packets):
    async with packets.turns.take(ID):
        packets.arrive("newer")
        await settle()
        assert packets.log == []
    await settle()

    assert packets.log == ["newer begins", "newer ends"]


async def test_cancelled_packet_leaves_the_turn_to_the_next(packets: Packets):
    stuck = packets.arrive("stuck", Chunks(stalls=True))
    await settle()
    stuck.cancel()
    await settle()
    assert not packets.turns.busy(ID)
    packets.arrive("next")
    await settle()

    assert packets.log == ["stuck begins", "next begins", "next ends"]


async def test_cancelled_wait_leaves_no_turn_behind(packets: Packets):
    async with packets.turns.take(ID):
        waiting = packets.arrive("waiting", Chunks())
        packets.arrive("next")
        await settle()
        waiting.cancel()
        await settle()
        assert packets.turns.busy(ID)
    await settle()

    assert packets.log == ["next begins", "next ends"]
    assert not packets.turns.busy(ID)


async def test_fault_while_serving_leaves_no_turn_behind():
    turns = Turns()
    with pytest.raises(OSError, match="a fault"):
        async with turns.take(ID, Chunks()):
            raise OSError("a fault")

    assert not turns.busy(ID)
