"""A Ping that asks is told how it arrived."""

import pytest
from sites import Site
from wire_client import Answer, Field, Line, packet

from bitsd.arrival import FIELD, Arrival


def asking(*fields: Field) -> bytes:
    return packet("/in/", "Ping", (FIELD, "?"), *fields)


def arrival(answer: Answer) -> Arrival:
    found = Arrival.parse(answer.get(FIELD) or "")
    assert found is not None
    return found


async def test_ping_that_asks_is_told_what_came(line: Line):
    found = arrival(await line.ask(asking()))
    ranged = arrival(await line.ask(asking(("Range", "bytes=0-0"))))

    assert (found.version, found.kept, found.ranged) == ("1.1", True, False)
    assert ranged.ranged


async def test_each_connection_has_a_mark_of_its_own(site: Site, line: Line):
    other = await site.dial()
    marks = [arrival(await each.ask(asking())).connection for each in (line, other)]
    again = [arrival(await each.ask(asking())).connection for each in (line, other)]

    assert marks == again
    assert len(set(marks)) == 2


async def test_connection_that_is_not_kept_is_told(site: Site):
    old = (await site.dial()).ask(asking().replace(b"HTTP/1.1", b"HTTP/1.0"))
    closing = asking().replace(b"Connection: Keep-Alive", b"Connection: close")
    closed = arrival(await (await site.dial()).ask(closing))

    assert arrival(await old).version == "1.0"
    assert (closed.version, closed.kept) == ("1.1", False)


async def test_nobody_is_told_who_does_not_ask(line: Line):
    answer = await line.ask(packet("/in/", "Ping"))

    assert answer.get(FIELD) is None


async def test_nobody_is_told_whose_ping_is_refused(line: Line):
    answer = await line.ask(asking().replace(b"/in/", b"/no/"))

    assert answer.status == 404
    assert answer.get(FIELD) is None


async def test_other_packets_are_told_nothing(line: Line):
    fields = ((FIELD, "?"), ("BITS-Supported-Protocols", "{0}"))
    answer = await line.ask(packet("/in/a", "Create-Session", *fields))

    assert answer.get(FIELD) is None


@pytest.mark.parametrize(
    "found",
    [
        Arrival("1.1", kept=True, connection="3f2a", ranged=False),
        Arrival("1.0", kept=False, connection="x", ranged=True),
    ],
    ids=str,
)
def test_arrival_is_read_as_it_is_written(found: Arrival):
    assert Arrival.parse(str(found)) == found


@pytest.mark.parametrize("value", ["", "1.1 keep 3f2a", "a b c d e"])
def test_anything_else_is_none(value: str):
    assert Arrival.parse(value) is None
