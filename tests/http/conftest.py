"""Servers in processes of their own."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from processes import CONFIG, Run, Running, started


@pytest.fixture
def workers() -> int:
    """How many processes a server has; tests for which it matters say so."""
    return 1


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Start server processes; whichever still run at the end are killed."""
    processes: list[Running] = []

    async def started_running(*arguments: str, **how: Any) -> Running:
        running = Running(await started(*arguments, **how))
        processes.append(running)
        return running

    yield started_running
    for running in processes:
        await running.lines.hang_up()
        if running.process.returncode is None:
            await running.end(signal.SIGKILL)


@pytest.fixture
def config(tmp_path: Path, workers: int) -> Path:
    """A configuration file with a folder beside it."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "bitsd.toml"
    text = CONFIG.format(address="127.0.0.1:0", workers=workers)
    path.write_text(text, "utf-8")
    return path
