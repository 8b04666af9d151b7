"""A BITS client that a power cut of the server interrupts, before and after."""

import asyncio
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from calls import Call, calls, traced
from store_kit import NAME, Chunks, Uploads, run_child

from bitsd import record
from bitsd.protocol.refusal import Reason, Refusal
from bitsd.protocol.wire import SessionId

#: `make power`, and not `make test`.
FULL = os.environ.get("BITSD_POWER") == "full"

ENTITY = bytes(range(1, 31))
OLD = b"what had the name before"
STEP = 10

BEFORE, BETWEEN, AFTER = "before", "between", "after"

#: Nobody asks for more fragments than this, to end an upload of three.
MOST_PACKETS = 20


class Violation(AssertionError):
    """A promise was broken."""


def tell(**facts: object) -> None:
    """The client knows this now; it stands in the log of system calls."""
    os.write(1, json.dumps(facts).encode() + b"\n")


async def _begin(uploads: Uploads) -> SessionId:
    named = await uploads.create()
    tell(session=named)
    return named


async def _send(uploads: Uploads, named: SessionId, first: int, after: int) -> None:
    octets = ENTITY[first:after]
    # A piece at a time, so that several writes wait for one sync.
    pieces = Chunks(octets[:4], octets[4:])
    ack = await uploads.send(named, octets, first=first, total=len(ENTITY), body=pieces)
    tell(acked=ack.received)


async def one(uploads: Uploads) -> None:
    """An upload of one fragment."""
    named = await _begin(uploads)
    await _send(uploads, named, 0, len(ENTITY))
    await uploads.close(named)
    tell(closed=True)


async def many(uploads: Uploads) -> None:
    """An upload of three."""
    named = await _begin(uploads)
    for first in range(0, len(ENTITY), STEP):
        await _send(uploads, named, first, first + STEP)
    await uploads.close(named)
    tell(closed=True)


async def cancelled(uploads: Uploads) -> None:
    """An upload that is given up."""
    named = await _begin(uploads)
    await _send(uploads, named, 0, STEP)
    tell(cancelled=True)
    await uploads.cancel(named)


async def killed(uploads: Uploads) -> None:
    """The server was killed where the record had been renamed and not synced."""
    named = await _begin(uploads)
    session = uploads.sessions._disk.read(named).sized(len(ENTITY))
    kept = record.Keeping(BEFORE, uploads.sessions.directory.durability == "fragment")
    record.write(uploads.home(named), session, kept, durable=False)
    await uploads.restart(boot=BEFORE)
    for first in range(0, len(ENTITY), STEP):
        await _send(uploads, named, first, first + STEP)


async def killed_in_a_body(uploads: Uploads) -> None:
    """The server was killed where bytes had been written and not synced."""
    named = await _begin(uploads)
    await _send(uploads, named, 0, STEP)
    with (uploads.home(named) / "request").open("ab", buffering=0) as file:
        file.write(ENTITY[STEP : 2 * STEP])
    await uploads.restart(boot=BEFORE)
    await _send(uploads, named, STEP, len(ENTITY))


async def cut_twice(uploads: Uploads) -> None:
    """There was a power cut before, which left a tail of zeros."""
    named = await _begin(uploads)
    await _send(uploads, named, 0, STEP)
    with (uploads.home(named) / "request").open("ab", buffering=0) as file:
        file.write(bytes(STEP))
        os.fsync(file)
    await uploads.restart(boot=BETWEEN)
    first = STEP
    if uploads.sessions.directory.durability == "publish":
        try:
            await _send(uploads, named, first, first + STEP)
        except Refusal as refusal:
            first = refusal.received or 0
        tell(acked=first)
    for at in range(first, len(ENTITY), STEP):
        await _send(uploads, named, at, at + STEP)


JOBS = {
    job.__name__: job
    for job in (one, many, cancelled, killed, killed_in_a_body, cut_twice)
}

PERFORM = """
import sys
sys.path.insert(0, sys.argv[1])
import clients
clients.perform(*sys.argv[2:])
"""


def recorded(job: str, durability: str, overwrite: str, folder: Path) -> list[Call]:
    """What the store does in a job; the folder is left with the log only."""
    log, upload = folder / "log", folder / "in"
    upload.mkdir()
    here = Path(__file__).parent
    arguments = (here, job, upload, durability, overwrite)
    run_child(PERFORM, *arguments, under=traced(log))
    found = calls(log, upload)
    shutil.rmtree(upload)
    return found


def perform(job: str, folder: str, durability: str, overwrite: str) -> None:
    """Do a job, in a process of its own."""
    replaces = overwrite == "overwrite"
    asyncio.run(_perform(job, Path(folder), durability, overwrite=replaces))


async def _perform(job: str, folder: Path, durability: str, *, overwrite: bool) -> None:
    if overwrite:
        with (folder / NAME).open("wb", buffering=0) as file:
            file.write(OLD)
            os.fsync(file)
        record.sync_folder(folder)
    tell(ready=True)
    uploads = await Uploads.open(folder, durability=durability, overwrite=overwrite)
    await uploads.restart(boot=BEFORE)
    await JOBS[job](uploads)


@dataclass
class Client:
    """One that goes on, with what it was told before the power cut."""

    uploads: Uploads
    told: dict[str, object]

    @property
    def acked(self) -> int:
        """Bytes that it will never be asked for again."""
        acked = self.told.get("acked", 0)
        assert isinstance(acked, int)
        return acked

    @property
    def promised(self) -> bool:
        """What was acknowledged had to be on the disk."""
        kept = self.uploads.sessions.directory.durability == "fragment"
        return kept or self.acked == len(ENTITY)

    async def finish(self) -> None:
        """Upload what is left.

        Raises:
            Violation: the server forgot what it had promised.
        """
        if self.acked == len(ENTITY):
            await self._close(self.named)
            return
        named, first = self.named, self.acked
        for _ in range(MOST_PACKETS):
            if named is None:
                named, first = await self.uploads.create(), 0
            try:
                octets = ENTITY[first : first + STEP]
                ack = await self.uploads.send(
                    named, octets, first=first, total=len(ENTITY)
                )
                first = ack.received or 0
            except Refusal as refusal:
                named, first = self._again(refusal, named, first)
            if first == len(ENTITY):
                await self.uploads.close(named or SessionId(""))
                return
        raise Violation("it never ends")

    @property
    def named(self) -> SessionId | None:
        """Its session, if it knows of one."""
        named = self.told.get("session")
        return SessionId(str(named)) if named else None

    def _again(
        self, refusal: Refusal, named: SessionId, first: int
    ) -> tuple[SessionId | None, int]:
        if refusal.reason is Reason.SESSION_NOT_FOUND:
            if self.acked and self.promised:
                raise Violation(f"{self.acked} bytes lost: {refusal}")
            return None, 0
        if refusal.reason is Reason.OUT_OF_SYNC and refusal.received is not None:
            if refusal.received < self.acked and self.promised:
                raise Violation(f"asks for {refusal.received}, not {self.acked}")
            return named, refusal.received
        raise Violation(f"at {first}: {refusal.reason.name}: {refusal}")

    async def _close(self, named: SessionId | None) -> None:
        """The file has its name: whether the session still exists is no matter."""
        try:
            await self.uploads.close(named or SessionId(""))
        except Refusal as refusal:
            if refusal.reason not in (Reason.SESSION_NOT_FOUND, Reason.ENTITY_GONE):
                raise Violation(f"close: {refusal.reason.name}") from None

    async def cancel(self) -> None:
        """Give it up again."""
        try:
            await self.uploads.cancel(self.named or SessionId(""))
        except Refusal as refusal:
            if refusal.reason is not Reason.SESSION_NOT_FOUND:
                raise Violation(f"cancel: {refusal.reason.name}") from None
