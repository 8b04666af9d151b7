"""Which event loop there is: uvloop's where it is installed, asyncio's elsewhere."""

import asyncio
from collections.abc import Callable
from importlib import import_module

Loop = asyncio.AbstractEventLoop


def factory() -> Callable[[], Loop]:
    """Makes event loops, for `asyncio.Runner`."""
    try:
        make: Callable[[], Loop] = import_module("uvloop").new_event_loop
    except ImportError:
        return asyncio.new_event_loop
    return make
