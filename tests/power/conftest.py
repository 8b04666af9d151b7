"""Where the recorded uploads are."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where a sync takes no time."""
    memory = Path("/dev/shm")
    at = tempfile.mkdtemp(dir=memory if memory.is_dir() else None)
    yield Path(at)
    shutil.rmtree(at)
