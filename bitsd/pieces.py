"""The way of an answer's pieces to one client.

The kernel copies from file to socket. asyncio's own `sendfile` does the same at
several times the cost for a short range, and not at all under uvloop. TLS has to
read the file.
"""

import asyncio
import fcntl
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from termios import TIOCOUTQ
from types import TracebackType
from typing import Self

from aiohttp.abc import AbstractStreamWriter

from .cached import fill_now
from .ranges import ByteRange, Piece

#: Bytes handed to the kernel in one turn of the event loop, as many as in nginx: a
#: fast client is not the only one.
BLOCK = 2 * 1024 * 1024

#: Bytes encrypted in one turn of the event loop. With the same bytes encrypted beside
#: them, larger ones do not stay in a processor's cache: 256 KiB took 10 % more time.
TLS_BLOCK = 128 * 1024

#: A client that takes less than this in a `stall_timeout` is too slow.
MINIMUM_PROGRESS = 4096


# Those who read what is on the disk alone. Apart from the threads in which uploads are
# synced: these would wait behind any number of slow reads.
_READERS = ThreadPoolExecutor(4, "reader")

# Between bytes that are looked for in memory; the more, the longer a client may let
# the loop wait for a disk.
_PROBE_STEP = 512 * 1024

# For one byte that nobody looks at.
_PROBE = memoryview(bytearray(1))


class _OnDisk(Exception):
    """The bytes that are next are not in memory."""

    def __init__(self, wanted: ByteRange) -> None:
        super().__init__()
        self.wanted = wanted


class FileShrank(OSError):
    """The file ended before the bytes that its Content-Length promised."""

    def __init__(self, missing: ByteRange) -> None:
        super().__init__(f"the file ends at {missing.first}, not {missing.last + 1}")


class Client:
    """Whom an answer is for.

    Attributes:
        stall_timeout: seconds in which it must take `MINIMUM_PROGRESS` bytes.
        sent: bytes that the kernel or the transport has taken for it.
    """

    def __init__(self, transport: asyncio.Transport, stall_timeout: float) -> None:
        self.transport = transport
        self.handle: int = transport.get_extra_info("socket").fileno()
        self.stall_timeout = stall_timeout
        self.sent = 0

    @property
    def taken(self) -> int:
        """Bytes that it acknowledged."""
        size = struct.pack("i", 0)
        (queued,) = struct.unpack("i", fcntl.ioctl(self.handle, TIOCOUTQ, size))
        return self.sent - int(queued) - self.transport.get_write_buffer_size()

    def check(self) -> None:
        """Raises ConnectionResetError if it is gone."""
        if self.transport.is_closing():
            raise ConnectionResetError


async def send(
    client: Client, writer: AbstractStreamWriter, file: int, pieces: Sequence[Piece]
) -> None:
    """Returns when the kernel has all of them.

    Raises:
        ConnectionError: the client is gone.
        TimeoutError: the client does not read.
        OSError: the file cannot be read, or not that far.
    """
    if client.transport.get_extra_info("sslcontext") is not None:
        await _Encrypted(client, writer, file).send(pieces)
        return
    # A handle of our own: the loop watches the transport's for reading, by itself,
    # and may close it at any time. The family matters to addresses alone.
    with socket.fromfd(client.handle, socket.AF_INET, socket.SOCK_STREAM) as own:
        await _Plain(client, own, file, pieces).send()


class _Watch:
    """For a `with` block, gives a client up that takes next to nothing."""

    def __init__(self, client: Client, give_up: Callable[[OSError], None]) -> None:
        self._client = client
        self._give_up = give_up
        self._taken = client.taken

    def __enter__(self) -> Self:
        self._again()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()

    def _again(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._client.stall_timeout, self._look)

    def _look(self) -> None:
        if self._client.transport.is_closing():
            self._give_up(ConnectionResetError())
            return
        before, self._taken = self._taken, self._client.taken
        if self._taken - before < MINIMUM_PROGRESS:
            self._give_up(TimeoutError())
        else:
            self._again()


class _Plain:
    """Pieces that the kernel sends, in turns of the loop whenever the socket has room.

    A task that woke up for each would cost as much as the sending. What is not in
    memory a thread fetches first, for a slow disk is not to hold up the loop.
    """

    def __init__(
        self, client: Client, own: socket.socket, file: int, pieces: Sequence[Piece]
    ) -> None:
        self._client = client
        self._socket = own
        self._file = file
        self._left = deque(pieces)
        self._fetched = range(0)

    async def send(self) -> None:
        """Block by block while the socket has room, and then as it has again."""
        while self._left:
            try:
                self._some()
                if self._left:
                    await asyncio.sleep(0)
            except BlockingIOError:
                await self._room()
            except _OnDisk as missing:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(_READERS, self._fetch, missing.wanted)

    def _fetch(self, wanted: ByteRange) -> None:
        """Have its first block in memory; blocks."""
        count = min(wanted.length, BLOCK)
        os.pread(self._file, count, wanted.first)
        # So much is not looked at again: some systems cannot say.
        self._fetched = range(wanted.first, wanted.first + count)

    async def _room(self) -> None:
        """Wait until the socket has room, and go on while it has."""
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        handle = self._socket.fileno()
        loop.add_writer(handle, self._turn)
        try:
            with _Watch(self._client, self._end):
                await self._ended
        finally:
            loop.remove_writer(handle)

    def _turn(self) -> None:
        try:
            self._some()
        except BlockingIOError:
            return
        except _OnDisk:
            self._end(None)
        except OSError as error:
            self._end(error)
        else:
            if not self._left:
                self._end(None)

    def _end(self, error: OSError | None) -> None:
        with suppress(asyncio.InvalidStateError):  # it may be told twice, or too late
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)

    def _some(self) -> None:
        """One turn's worth, or what there is room for."""
        self._client.check()
        if self._client.transport.get_write_buffer_size():
            raise BlockingIOError  # the rest of an earlier answer comes first
        until = self._client.sent + BLOCK
        while self._left and self._client.sent < until:
            piece = self._left[0]
            if isinstance(piece, ByteRange):
                rest = self._range(piece)
            else:
                rest = self._bytes(piece)
            if rest:
                self._left[0] = rest
            else:
                self._left.popleft()

    def _bytes(self, data: bytes) -> Piece | None:
        # With more to come, it may wait for that and share its packet.
        flags = socket.MSG_MORE if len(self._left) > 1 else 0
        sent = self._socket.send(data, flags)
        self._client.sent += sent
        return data[sent:]

    def _range(self, wanted: ByteRange) -> Piece | None:
        count = min(wanted.length, BLOCK)
        if wanted.first in self._fetched:
            count = min(count, self._fetched.stop - wanted.first)
        elif not self._in_memory(wanted.first, wanted.first + count - 1):
            raise _OnDisk(wanted)
        sent = os.sendfile(self._socket.fileno(), self._file, wanted.first, count)
        if not sent:
            raise FileShrank(wanted)
        self._client.sent += sent
        return wanted.after(sent)

    def _in_memory(self, first: int, last: int) -> bool:
        """The system reads ahead: what is between bytes that are there is as well."""
        try:
            for offset in (last, *range(first, last, _PROBE_STEP)):
                fill_now(self._file, _PROBE, offset)
        except BlockingIOError:
            return False
        return True


class _Encrypted:
    """Pieces that go through TLS, and so through this process."""

    def __init__(self, client: Client, writer: AbstractStreamWriter, file: int) -> None:
        self._client = client
        self._writer = writer
        self._file = file
        self._error: OSError | None = None
        self._blocks = 0

    async def send(self, pieces: Sequence[Piece]) -> None:
        """Block by block, each when the one before is sent."""
        # For `drain` to wait for the last byte. A TLS transport pauses at the high
        # mark, not above it: with 0, when all is sent.
        self._client.transport.set_write_buffer_limits(high=1)
        with _Watch(self._client, self._give_up):
            for piece in pieces:
                if isinstance(piece, ByteRange):
                    await self._range(piece)
                else:
                    await self._bytes(piece)

    async def _range(self, wanted: ByteRange) -> None:
        # It is free again whenever all is sent.
        buffer = memoryview(bytearray(min(TLS_BLOCK, wanted.length)))
        left: ByteRange | None = wanted
        while left:
            if self._blocks:
                await asyncio.sleep(0)  # a fast client is not the only one
            self._blocks += 1
            held = await self._read(buffer[: left.length], left.first)
            if not held:
                raise FileShrank(left)
            await self._bytes(buffer[:held])
            left = left.after(held)

    async def _read(self, buffer: memoryview, offset: int) -> int:
        try:
            return fill_now(self._file, buffer, offset)
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            read = partial(os.preadv, self._file, (buffer,), offset)
            return await loop.run_in_executor(_READERS, read)

    async def _bytes(self, data: bytes | memoryview) -> None:
        transport = self._client.transport
        self._client.check()
        self._client.sent += len(data)
        transport.write(data)
        if transport.get_write_buffer_size():
            await self._writer.drain()
            if self._error is not None:
                raise self._error

    def _give_up(self, error: OSError) -> None:
        self._error = error
        self._client.transport.abort()  # which ends `drain`
