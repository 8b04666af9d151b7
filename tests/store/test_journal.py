"""One line an event, whatever came over the wire."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitsd import journal


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "bitsd")
    return caplog


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(None, "-", id="nothing"),
        pytest.param(0, "0", id="zero"),
        pytest.param(2**64, "18446744073709551616", id="number"),
        pytest.param("", '""', id="empty"),
        pytest.param("/in/a%20b.dat", "/in/a%20b.dat", id="path"),
        pytest.param("{DEADBEEF-0000}", "{DEADBEEF-0000}", id="id"),
        pytest.param("[::1]:80", '"[::1]:80"', id="address"),
        pytest.param("two words", '"two words"', id="words"),
        pytest.param("a=b", '"a=b"', id="equals sign"),
        pytest.param('say "x"', '"say \\"x\\""', id="quotes"),
        pytest.param("a\nforged", '"a\\nforged"', id="line feed"),
        pytest.param("plain\n", '"plain\\n"', id="line feed at the end"),
        pytest.param("\x1b[31m", '"\\u001b[31m"', id="escape sequence"),
        pytest.param("\u00e9", '"\\u00e9"', id="not ASCII"),
        pytest.param("\udcff", '"\\udcff"', id="octet"),
        pytest.param("%s %d", '"%s %d"', id="format"),
        pytest.param(OSError(2, "why"), '"[Errno 2] why"', id="error"),
    ],
)
def test_value_is_one_word(lines, value: object, shown: str):
    journal.note("event", fact=value)

    assert lines.messages == [f"event fact={shown}"]


def test_facts_are_in_the_order_they_were_told(lines):
    journal.note("created", file="a.dat", bytes=5, user=None)

    assert lines.messages == ["created file=a.dat bytes=5 user=-"]


def test_event_may_have_no_facts(lines):
    journal.note("stopped")

    assert lines.messages == ["stopped"]


def test_what_went_well_is_told_apart_from_what_did_not(lines):
    journal.note("created")
    journal.warn("refused")

    assert [record.levelname for record in lines.records] == ["INFO", "WARNING"]
    assert {record.name for record in lines.records} == {"bitsd"}


class Dear:
    """A value that must not be looked at in vain."""

    def __str__(self) -> str:
        raise AssertionError("nobody reads this")


def test_what_is_not_written_costs_nothing(lines):
    lines.set_level(logging.WARNING, "bitsd")
    journal.note("created", file=Dear())

    assert lines.messages == []


def test_value_of_any_length_is_told_in_part(lines):
    journal.note("event", fact="x" * (journal.LONGEST + 1))

    assert lines.messages == [f"event fact={'x' * journal.LONGEST}..."]


# The fixture only collects, so examples may share it.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(codec=None), max_size=journal.LONGEST))
def test_any_value_is_one_line_of_printable_ascii(lines, value: str):
    lines.clear()
    journal.note("event", fact=value)
    [message] = lines.messages
    shown = message.removeprefix("event fact=")

    assert message.isascii()
    assert message.isprintable()
    assert (json.loads(shown) if shown.startswith('"') else shown) == value


def test_what_anyone_can_cause_is_told_a_few_times_in_a_while(lines):
    seldom = journal.Seldom("knock")
    for number in range(journal.FEW_IN_A_WHILE + 3):
        seldom.note(100.0, number=number)
    seldom.note(100.0 + journal.WHILE_SECONDS / 2, number="late")
    assert len(lines.messages) == journal.FEW_IN_A_WHILE
    seldom.note(100.0 + journal.WHILE_SECONDS, number="next")
    seldom.note(100.0 + 2 * journal.WHILE_SECONDS, number="last")

    assert lines.messages[0] == "knock number=0"
    assert lines.messages[-3:] == [
        "knock more=4",
        "knock number=next",
        "knock number=last",
    ]
