"""When something that failed is tried again."""

import time
from datetime import timedelta

import pytest

from bitsd.client.retry import (
    LONGEST_RETRY_AFTER,
    Patience,
    http_date,
    retry_after,
)

DATE = ("Date", "Thu, 29 Feb 2024 12:00:00 GMT")


def test_waits_are_doubled_up_to_five_minutes():
    patience = Patience()
    waits = []
    for _ in range(1100):
        patience = patience.tried()
        waits.append(patience.wait_seconds(0.0, 0.5, 0.0))

    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert set(waits[9:]) == {300}


def test_waits_differ_from_client_to_client():
    patience = Patience().tried()
    waits = [patience.wait_seconds(0.0, chance, 0.0) for chance in (0.0, 1.0)]

    assert waits == [0.75, 1.25]


def test_what_the_server_asks_for_comes_on_top():
    """Or all whom it told the same would come back at one moment."""
    patience = Patience().tried()

    assert patience.wait_seconds(0.0, 0.0, 60.0) == 60.75


def test_last_try_is_when_the_time_is_over():
    patience = Patience(retry_for=timedelta(seconds=10), progressed_at=5).tried()

    assert patience.wait_seconds(7.0, 0.5, 60.0) == 8
    assert patience.wait_seconds(14.5, 0.5, 0.0) == 0.5
    assert patience.wait_seconds(15.0, 0.5, 0.0) is None


def test_progress_starts_waits_and_time_anew():
    patience = Patience(retry_for=timedelta(seconds=10)).tried().tried()
    again = patience.rewarded(9.0).tried()

    assert again.wait_seconds(18.0, 0.5, 0.0) == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], 0),
        ([("Retry-After", "120")], 120),
        ([("retry-after", " 7 "), DATE], 7),
        ([("Retry-After", "99999999")], LONGEST_RETRY_AFTER),
        ([("Retry-After", "Thu, 29 Feb 2024 12:01:00 GMT"), DATE], 60),
        ([("Retry-After", "Thu, 29 Feb 2024 11:00:00 GMT"), DATE], 0),
        ([("Retry-After", "Thu, 29 Feb 2025 12:01:00 GMT"), DATE], LONGEST_RETRY_AFTER),
        ([("Retry-After", "Thu, 29 Feb 2024 12:01:00 GMT")], 0),
        ([("Retry-After", "-5"), DATE], 0),
        ([("Retry-After", "soon"), ("Date", "now")], 0),
        ([("Retry-After", "9" * 30)], 0),
    ],
)
def test_server_says_when_to_come_again(fields, expected: float):
    assert retry_after(fields) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60),
        ("Thursday, 01-Jan-70 00:01:00 GMT", 60),
        ("Thu Jan  1 00:01:00 1970", 60),
        ("", None),
        (None, None),
        ("yesterday", None),
        ("Thu, 01 Jan 0000 00:00:00 GMT", 946684800),
        ("Thu, 99 Jan 99999999999 00:00:00 GMT", None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "UTC-9"])
def test_dates_of_http(monkeypatch: pytest.MonkeyPatch, value, expected, zone: str):
    with monkeypatch.context() as context:
        context.setenv("TZ", zone)
        time.tzset()
        found = http_date(value)
    time.tzset()

    assert found == expected
