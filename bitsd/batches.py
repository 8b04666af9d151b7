"""Long walks over the disk, a few steps at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")

#: Steps in one hop to a thread: some milliseconds.
BATCH = 100


async def batches(steps: Iterator[_T]) -> AsyncIterator[list[_T]]:
    """Take the steps in threads, and leave as much time to others as they took.

    Args:
        steps: may block.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while batch := await asyncio.to_thread(list, islice(steps, BATCH)):
        yield batch
        await asyncio.sleep(loop.time() - began)
        began = loop.time()
