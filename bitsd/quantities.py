"""Sizes and times as people write them."""

import re
from datetime import timedelta

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_TIME_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_QUANTITY = re.compile(r"(\d{1,19}) ?([a-z]*)", re.IGNORECASE | re.ASCII)

#: Largest offset in a file on Linux.
MAXIMUM_SIZE = 2**63 - 1

#: A hundred years: more is a slip of the keyboard.
MAXIMUM_TIME = timedelta(days=36_525)

SIZES = 'bytes as a number, or such as "250MB" or "20GiB"'
TIMES = 'seconds as a number above 0, or such as "90s", "15m", "12h" or "14d"'


def size(value: object) -> int:
    """Bytes: a number, or a string with a unit.

    Raises:
        ValueError: it is neither; says what is allowed.
    """
    count = _counted(value, _SIZE_UNITS)
    if count is None or count > MAXIMUM_SIZE:
        raise ValueError(f"not a size; give {SIZES}")
    return count


def time(value: object) -> timedelta:
    """A time above zero: a number of seconds, or a string with a unit.

    Raises:
        ValueError: it is neither; says what is allowed.
    """
    count = _counted(value, _TIME_UNITS)
    if not count or count > MAXIMUM_TIME.total_seconds():
        raise ValueError(f"not a time; give {TIMES}")
    return timedelta(seconds=count)


def _counted(value: object, units: dict[str, int]) -> int | None:
    if isinstance(value, bool):  # which is a number to Python
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = units.get(match[2].lower()) if match else None
    return int(match[1]) * unit if match and unit else None
