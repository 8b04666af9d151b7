"""A server of a few lines, which ends with all that it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[int]:
    """The port where each connection gets this answer, and is then closed."""
    answering: set[asyncio.Task[None] | None] = set()

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        answering.add(asyncio.current_task())
        try:
            await answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(answered, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*filter(None, answering), return_exceptions=True)
