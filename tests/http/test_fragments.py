"""Fragments in any order, whole or cut, over connections that break.

[MC-BUP] 3.2.5.2.6, and what protocol-notes/ decides where it is silent.
"""

import asyncio

import pytest
from sites import Site
from wire_client import (
    Line,
    cancel,
    close,
    fragment,
    ping,
    ranged,
    until,
)

TARGET = "/in/report.dat"
ENTITY = bytes(range(250)) * 120
TOTAL = len(ENTITY)
HELD = 10000

#: A client with a stalled connection gets its answer on another in this time.
AT_ONCE = 1.0


def cut(named: str, first: int, after: int, kept: int) -> bytes:
    """A fragment that lacks all of its body but the first `kept` bytes."""
    octets = fragment(TARGET, named, first, ENTITY[first:after], TOTAL)
    return octets[: len(octets) - (after - first) + kept]


@pytest.mark.parametrize(
    ("first", "after", "status", "received"),
    [
        pytest.param(10000, 20000, 200, 20000, id="next"),
        pytest.param(10000, 30000, 200, 30000, id="all the rest"),
        pytest.param(10000, 10001, 200, 10001, id="one byte"),
        pytest.param(10001, 20000, 416, 10000, id="gap of one byte"),
        pytest.param(20000, 30000, 416, 10000, id="gap before the last"),
        pytest.param(29999, 30000, 416, 10000, id="gap before the last byte"),
        pytest.param(9999, 20000, 200, 20000, id="overlap of one byte"),
        pytest.param(0, 10001, 200, 10001, id="overlap but one byte"),
        pytest.param(5000, 30000, 200, 30000, id="overlap with all the rest"),
        pytest.param(0, 30000, 200, 30000, id="everything again"),
        pytest.param(0, 10000, 200, 10000, id="the same again"),
        pytest.param(0, 1, 200, 10000, id="the first byte again"),
        pytest.param(9999, 10000, 200, 10000, id="the last held byte again"),
        pytest.param(2000, 7000, 200, 10000, id="a piece of what is held"),
    ],
)
async def test_fragment_moves_the_offset(
    site: Site, line: Line, first: int, after: int, status: int, received: int
):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))
    # What is held is never rewritten: a second version of it must not be seen.
    known = min(max(HELD - first, 0), after - first)
    body = b"\xff" * known + ENTITY[first + known : after]
    answer = await line.ask(fragment(TARGET, named, first, body, TOTAL))

    assert (answer.status, answer.received) == (status, received)
    assert answer.error == (None, None, None)

    if received < TOTAL:
        assert site.held(named) == received
        rest = fragment(TARGET, named, received, ENTITY[received:], TOTAL)
        assert (await line.ask(rest)).received == TOTAL
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_first_fragment_may_not_leave_a_gap(line: Line):
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 1, ENTITY[1:], TOTAL))

    assert (answer.status, answer.received) == (416, 0)


async def test_offset_beyond_4_gib_is_understood(line: Line):
    named = await line.create(TARGET)
    first = 2**32 + 5
    answer = await line.ask(fragment(TARGET, named, first, b"abc", 2**33))

    assert (answer.status, answer.received) == (416, 0)


async def test_total_beyond_4_gib_is_taken_without_reserving_it(site: Site, line: Line):
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, b"abc", 2**40))

    assert (answer.status, answer.received) == (200, 3)
    assert site.held(named) == 3


async def test_changed_total_is_refused_and_the_first_one_stays(site: Site, line: Line):
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))
    refused = await line.ask(fragment(TARGET, named, HELD, b"x", HELD + 1))
    answer = await line.ask(fragment(TARGET, named, HELD, ENTITY[HELD:], TOTAL))

    assert refused.status == 400
    assert refused.error == ("0x80070057", "0x80070057", "0x5")
    assert (answer.status, answer.received) == (200, TOTAL)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_first_total_is_kept_over_a_restart(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))
    await line.hang_up()
    await site.stop()
    await site.start()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, HELD, b"x", HELD + 1))

    assert answer.status == 400


@pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart"])
async def test_completing_fragment_may_come_again(site: Site, *, restarted: bool):
    line = await site.dial()
    named = await line.upload(TARGET, ENTITY[:HELD], ENTITY[HELD:])
    if restarted:
        await line.hang_up()
        await site.stop()
        await site.start()
    again = await site.dial()
    octets = fragment(TARGET, named, HELD, b"\xff" * (TOTAL - HELD), TOTAL)
    answer = await again.ask(octets)
    closed = await again.ask(close(TARGET, named))

    assert (answer.status, answer.received) == (200, TOTAL)
    assert closed.status == 200
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_fragment_after_close_is_of_no_session(line: Line):
    named = await line.upload(TARGET, ENTITY)
    await line.ask(close(TARGET, named))
    answer = await line.ask(fragment(TARGET, named, 0, ENTITY, TOTAL))

    assert (answer.status, answer.error[0]) == (500, "0x8020001F")


async def test_fragment_of_13_mib_is_taken(site: Site, line: Line):
    body = ENTITY * (13 * 2**20 // TOTAL) + ENTITY[: 13 * 2**20 % TOTAL]
    await line.upload(TARGET, body)

    assert (site.folder / "report.dat").read_bytes() == body


@pytest.mark.parametrize("size", [1, 4096, 5120, 65536, 131072])
async def test_entity_of_whole_fragments_completes(site: Site, line: Line, size: int):
    body = (ENTITY * 5)[:size]
    await line.upload(TARGET, body, body, body)

    assert (site.folder / "report.dat").read_bytes() == body * 3


@pytest.mark.parametrize(
    "content_range",
    ["bytes */0", "bytes 0-0/0", "bytes 0--1/0", "bytes 0-18446744073709551615/0"],
)
async def test_empty_file_is_published(site: Site, line: Line, content_range: str):
    named = await line.create(TARGET)
    answer = await line.ask(ranged(TARGET, named, content_range, b""))
    published = (site.folder / "report.dat").read_bytes()
    closed = await line.ask(close(TARGET, named))

    assert (answer.status, answer.received) == (200, 0)
    assert published == b""
    assert closed.status == 200


async def test_sessions_of_one_url_do_not_mix(serve):
    site = await serve(directory="overwrite = true")
    line = await site.dial()
    ours, theirs = await line.create(TARGET), await line.create(TARGET)
    await line.ask(fragment(TARGET, ours, 0, b"our", 6))
    await line.ask(fragment(TARGET, theirs, 0, b"the", 6))
    await line.ask(fragment(TARGET, ours, 3, b"own", 6))

    assert (site.folder / "report.dat").read_bytes() == b"ourown"

    await line.ask(fragment(TARGET, theirs, 3, b"irs", 6))

    assert (site.folder / "report.dat").read_bytes() == b"theirs"


async def test_first_of_two_sessions_of_one_url_wins(site: Site, line: Line):
    ours, theirs = await line.create(TARGET), await line.create(TARGET)
    first = await line.ask(fragment(TARGET, ours, 0, b"our", 3))
    second = await line.ask(fragment(TARGET, theirs, 0, b"the", 3))

    assert (first.status, second.status) == (200, 403)
    assert (site.folder / "report.dat").read_bytes() == b"our"


# Connections that break.


async def test_bytes_before_a_closed_connection_are_kept(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.send(cut(named, 0, TOTAL, 7000))
    line.finish()
    await line.ended()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, 8000, ENTITY[8000:], TOTAL))

    assert (answer.status, answer.received) == (416, 7000)


async def test_bytes_before_a_reset_are_kept(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.send(cut(named, 0, TOTAL, 7000))
    await until(lambda: site.held(named) == 7000)
    line.reset()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, 8000, ENTITY[8000:], TOTAL))
    whole = await again.ask(fragment(TARGET, named, 0, ENTITY, TOTAL))

    assert (answer.status, answer.received) == (416, 7000)
    assert (whole.status, whole.received) == (200, TOTAL)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


@pytest.mark.parametrize("kept", [0, 1, 4999, 5000, 5001, 19999])
async def test_overlapping_fragment_that_is_cut_keeps_what_is_new(
    site: Site, kept: int
):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.ask(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))
    await line.send(cut(named, 5000, 25000, kept))
    line.finish()
    await line.ended()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, TOTAL - 1, b"x", TOTAL))

    assert (answer.status, answer.received) == (416, max(HELD, 5000 + kept))


async def test_cut_inside_the_header_changes_nothing(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.send(fragment(TARGET, named, 0, ENTITY, TOTAL)[:150])
    line.finish()
    await line.ended()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, 0, ENTITY, TOTAL))

    assert (answer.status, answer.received) == (200, TOTAL)


async def test_ack_that_got_lost_is_given_again(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.send(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))
    await until(lambda: site.held(named) == HELD)
    line.reset()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))

    assert (answer.status, answer.received) == (200, HELD)


@pytest.mark.parametrize("kept", [0, 7000], ids=["before its body", "in its body"])
async def test_newer_fragment_wins_over_a_stalled_one(site: Site, kept: int):
    stalled = await site.dial()
    named = await stalled.create(TARGET)
    await stalled.send(cut(named, 0, TOTAL, kept))
    await until(lambda: site.held(named) == kept)
    again = await site.dial()
    async with asyncio.timeout(AT_ONCE):
        answer = await again.ask(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))

    assert (answer.status, answer.received) == (200, HELD)


async def test_superseded_connection_writes_no_more(site: Site):
    stalled = await site.dial()
    named = await stalled.create(TARGET)
    await stalled.send(cut(named, 0, TOTAL, 7000))
    await until(lambda: site.held(named) == 7000)
    again = await site.dial()
    await again.ask(fragment(TARGET, named, 7000, ENTITY[7000:HELD], TOTAL))
    rest = await sent_in_vain(stalled, b"\xff" * (TOTAL - 7000))
    answer = await again.ask(fragment(TARGET, named, HELD, ENTITY[HELD:], TOTAL))

    assert b"HTTP/1.1 200" not in rest
    assert (answer.status, answer.received) == (200, TOTAL)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def sent_in_vain(stalled: Line, octets: bytes) -> bytes:
    """What a superseded connection still hears when it goes on; it may be over."""
    try:
        await stalled.send(octets)
        stalled.finish()
    except OSError:
        return b""
    return await stalled.ended()


async def test_newer_fragment_wins_each_time(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    for kept in (1000, 2000, 3000, 4000):
        stalled = await site.dial()
        await stalled.send(cut(named, kept - 1000, TOTAL, 1000))
        await until(lambda held=kept: site.held(named) == held)
    async with asyncio.timeout(AT_ONCE):
        answer = await line.ask(fragment(TARGET, named, 4000, ENTITY[4000:], TOTAL))

    assert (answer.status, answer.received) == (200, TOTAL)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


@pytest.mark.parametrize(
    ("verb", "status"), [(cancel, 200), (close, 400)], ids=["cancel", "close"]
)
async def test_end_of_the_session_wins_over_a_stalled_fragment(
    site: Site, verb, status: int
):
    stalled = await site.dial()
    named = await stalled.create(TARGET)
    await stalled.send(cut(named, 0, TOTAL, 7000))
    await until(lambda: site.held(named) == 7000)
    again = await site.dial()
    async with asyncio.timeout(AT_ONCE):
        answer = await again.ask(verb(TARGET, named))

    assert answer.status == status
    assert site.sessions == []
    assert not (site.folder / "report.dat").exists()


async def test_half_open_connection_does_not_hinder_its_client(site: Site):
    """The peer of the first connection is gone and nobody told the server."""
    lost = await site.dial()
    named = await lost.create(TARGET)
    await lost.ask(fragment(TARGET, named, 0, ENTITY[:HELD], TOTAL))
    await lost.send(cut(named, HELD, TOTAL, 5000))
    await until(lambda: site.held(named) == HELD + 5000)
    again = await site.dial()
    async with asyncio.timeout(AT_ONCE):
        pinged = await again.ask(ping(TARGET))
        answer = await again.ask(fragment(TARGET, named, HELD, ENTITY[HELD:], TOTAL))

    assert pinged.status == 200
    assert (answer.status, answer.received) == (200, TOTAL)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_stalled_upload_does_not_hinder_another(site: Site):
    stalled = await site.dial()
    named = await stalled.create(TARGET)
    await stalled.send(cut(named, 0, TOTAL, 7000))
    await until(lambda: site.held(named) == 7000)
    again = await site.dial()
    async with asyncio.timeout(AT_ONCE):
        await again.upload("/in/other.dat", ENTITY)

    assert (site.folder / "other.dat").read_bytes() == ENTITY


async def test_bytes_before_a_restart_are_kept(site: Site):
    line = await site.dial()
    named = await line.create(TARGET)
    await line.send(cut(named, 0, TOTAL, 7000))
    await until(lambda: site.held(named) == 7000)
    await site.stop()
    await site.start()
    again = await site.dial()
    answer = await again.ask(fragment(TARGET, named, 0, ENTITY, TOTAL))

    assert (answer.status, answer.received) == (200, TOTAL)
    assert (site.folder / "report.dat").read_bytes() == ENTITY


async def test_packet_may_come_byte_by_byte(site: Site, line: Line):
    named = await line.create(TARGET)
    for octet in fragment(TARGET, named, 0, ENTITY[:500], 500):
        await line.send(bytes((octet,)))
    answer = await line.receive()

    assert (answer.status, answer.received) == (200, 500)
    assert (site.folder / "report.dat").read_bytes() == ENTITY[:500]
