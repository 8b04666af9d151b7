"""A fixture for pytest: play captures to a server under test.

A test module or `conftest.py` asks for it by name:

    pytest_plugins = ["bitsd.replay.fixture"]
"""

from collections.abc import Callable

import pytest

from .play import Result
from .play import replay as _replay


@pytest.fixture
def replay() -> Callable[..., Result]:
    """`replay(capture, url).differences` is empty if a server answers as captured.

    It takes what `bitsd.replay.play.replay` takes.
    """
    return _replay
