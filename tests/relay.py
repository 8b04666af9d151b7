"""A way to a server that breaks, or stands still, after so many bytes."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Relay:
    """The relay.

    Attributes:
        server: URL of what is behind, or the path of its socket.
        budgets: bytes that each connection carries to the server, in turn.
        limit: of bytes to the server by all connections; then they stand still. Those
            that are made after it is raised do not.
        url: of it.
        carried: bytes that went to the server.
        connections: that there were.
    """

    server: str | Path
    budgets: Iterator[float]
    limit: float = math.inf
    url: str = ""
    carried: int = 0
    connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection."""
        self.connections += 1
        budget = next(self.budgets)
        try:
            there, back = await self.dial()
        except OSError:  # nobody is there
            writer.close()
            return
        self.writers |= {writer, back}
        await asyncio.gather(
            self.pour(reader, back, writer, budget), self.pour(there, writer, back)
        )

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to what is behind."""
        if isinstance(self.server, Path):
            return await asyncio.open_unix_connection(self.server)
        address = urlsplit(self.server)
        return await asyncio.open_connection(address.hostname, address.port)

    async def pour(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        budget: float | None = None,
    ) -> None:
        """One way of it, until it ends or may carry no more."""
        left = math.inf if budget is None else budget
        with suppress(OSError):
            while left > 0:
                room = 65536 if budget is None else self.limit - self.carried
                if room <= 0:
                    return
                some = await source.read(int(min(65536, left, room)))
                if not some:
                    break
                left -= len(some)
                self.carried += 0 if budget is None else len(some)
                sink.write(some)
                await sink.drain()
        sink.close()
        other.close()


@asynccontextmanager
async def relay(
    server: str | Path,
    *budgets: float,
    rest: Iterable[float] | None = None,
    limit: float = math.inf,
) -> AsyncIterator[Relay]:
    """A relay; connections after those of the budgets carry all, or `rest`."""
    after = repeat(math.inf) if rest is None else rest
    relaying = Relay(server, chain(budgets, after), limit)
    serving = await asyncio.start_server(relaying.carry, "127.0.0.1", 0)
    relaying.url = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    try:
        yield relaying
    finally:
        serving.close()
        for writer in relaying.writers:
            writer.close()
        # Of those that were open the tasks see it, and end.
        await asyncio.sleep(0)
        await serving.wait_closed()
