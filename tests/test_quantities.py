from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsd.quantities import MAXIMUM_SIZE, MAXIMUM_TIME, SIZES, TIMES, size, time

SIZE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
TIME_UNITS = {"": 1, "s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}

FITTING = st.integers(0, MAXIMUM_SIZE // 1024**4)
SECONDS_IN_DAYS = st.integers(1, MAXIMUM_TIME.days)
CASES = st.sampled_from((str, str.lower, str.upper, str.swapcase))
SPACES = st.sampled_from(("", " "))

NEITHER = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.binary()
    | st.dates()
    | st.lists(st.integers())
    | st.integers(max_value=-1)
)


@given(FITTING, st.sampled_from(sorted(SIZE_UNITS)), SPACES, CASES)
def test_a_size_is_its_number_times_its_unit_in_any_case(count, unit, space, case):
    assert size(f"{count}{space}{case(unit)}") == count * SIZE_UNITS[unit]


@given(SECONDS_IN_DAYS, st.sampled_from(sorted(TIME_UNITS)), SPACES, CASES)
def test_a_time_is_its_number_times_its_unit_in_any_case(count, unit, space, case):
    expected = timedelta(seconds=count * TIME_UNITS[unit])

    assert time(f"{count}{space}{case(unit)}") == expected


@given(st.integers(0, MAXIMUM_SIZE))
def test_a_size_without_a_unit_is_in_bytes(count):
    assert size(count) == size(str(count)) == count


@given(st.integers(1, int(MAXIMUM_TIME.total_seconds())))
def test_a_time_without_a_unit_is_in_seconds(count):
    assert time(count) == time(str(count)) == timedelta(seconds=count)


def rejected(convert, value):
    """What the error says."""
    with pytest.raises(ValueError, match="not a ") as raised:
        convert(value)
    return str(raised.value)


@given(NEITHER)
def test_what_is_no_size_is_refused_with_what_is_allowed(value):
    assert rejected(size, value) == f"not a size; give {SIZES}"


@given(NEITHER)
def test_what_is_no_time_is_refused_with_what_is_allowed(value):
    assert rejected(time, value) == f"not a time; give {TIMES}"


@given(st.text())
def test_any_text_is_a_size_in_range_or_is_refused(text):
    try:
        found = size(text)
    except ValueError:
        return

    assert 0 <= found <= MAXIMUM_SIZE


@given(st.from_regex(r"[0-9]{1,25} ?[smhd]?", fullmatch=True))
def test_any_number_and_unit_is_a_time_in_range_or_is_refused(text):
    try:
        found = time(text)
    except ValueError:
        return

    assert timedelta(0) < found <= MAXIMUM_TIME


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("MB", id="only a unit"),
        pytest.param("-1", id="negative"),
        pytest.param("+1", id="sign"),
        pytest.param("1.5GB", id="decimal point"),
        pytest.param("1_000", id="underscore"),
        pytest.param("0x10", id="hexadecimal"),
        pytest.param(" 1", id="space before"),
        pytest.param("1\n", id="line end after"),
        pytest.param("1  MB", id="two spaces"),
        pytest.param("1PB", id="unknown unit"),
        pytest.param("1M", id="unit cut short"),
        pytest.param("1s", id="unit of times"),
        pytest.param("1MB 1kB", id="two sizes"),
        pytest.param("\u0661MB", id="digit of another script"),
        pytest.param("1\u212aB", id="Kelvin sign, which folds to k"),
        pytest.param("9" * 19, id="over the largest offset"),
        pytest.param("8388608TiB", id="one unit over"),
        pytest.param("9" * 5000, id="longer than Python converts"),
        pytest.param(MAXIMUM_SIZE + 1, id="number over the largest offset"),
    ],
)
def test_sizes_written_otherwise_are_refused(text):
    assert rejected(size, text) == f"not a size; give {SIZES}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(0, id="zero"),
        pytest.param("0", id="zero as text"),
        pytest.param("0d", id="zero with a unit"),
        pytest.param("1w", id="unknown unit"),
        pytest.param("1ms", id="milliseconds"),
        pytest.param("1kB", id="unit of sizes"),
        pytest.param("36526d", id="a day over a hundred years"),
        pytest.param(3_155_760_001, id="a second over a hundred years"),
        pytest.param("1h30m", id="two times"),
    ],
)
def test_times_written_otherwise_are_refused(text):
    assert rejected(time, text) == f"not a time; give {TIMES}"


def test_the_largest_values_are_taken():
    assert size("8388607TiB") == 8388607 * 2**40
    assert size(2**63 - 1) == 2**63 - 1
    assert time("36525d") == timedelta(days=36525)
    assert size(0) == 0
