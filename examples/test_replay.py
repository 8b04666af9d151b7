"""Does a BITS server answer as it should? A test for yours, by captured uploads.

    BITS_SERVER=http://127.0.0.1:8080 pytest examples/test_replay.py

The captures upload to `/in/report.dat`, so the server needs a directory `/in` where
anybody may upload. `bitsd serve FOLDER --url /in --overwrite` is such a server, and
passes. Captures of your own are played in the same way.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bitsd.replay.play import Result

pytest_plugins = ["bitsd.replay.fixture"]

CAPTURES = Path(__file__).parents[1] / "tests" / "captures"

SERVER = os.environ.get("BITS_SERVER", "http://127.0.0.1:8080")


@pytest.mark.parametrize(
    "name", ["simple", "curl", "resumed", "gap", "overlap", "duplicate", "cancelled"]
)
def test_the_server_answers_as_it_should(
    replay: Callable[..., Result], name: str
) -> None:
    result = replay(CAPTURES / f"{name}.pcap.gz", SERVER)

    assert not result.differences, "\n".join(map(str, result.differences))
