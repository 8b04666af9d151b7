"""The sessions of one directory: who may do what, in which order it becomes durable.

Each packet is one straight verb: take the session's turn, load, let `Session` decide,
let `Disk` act, answer. Nothing is cached: any process can serve any packet.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from uuid import uuid4

from . import journal
from .batches import batches
from .caller import Caller
from .census import CHECK, count
from .config import Directory
from .delivery import Delivery
from .destination import Folder
from .disk import Disk
from .entity import Busy, Entity, EntityGone
from .owners import Owners, Tables
from .protocol.refusal import Reason, Refusal
from .protocol.session import Admission, Event, Session, State
from .protocol.wire import (
    PROTOCOL,
    Ack,
    CancelSession,
    CloseSession,
    Fragment,
    SessionId,
)
from .record import BOOT, SessionDamaged, SessionNotFound
from .turns import Body, Turns

#: What crashes left in BITS-Sessions and is no session goes after this time, and what
#: is kept of closed sessions, whose Close may come again ([MC-BUP] 3.1.6.2).
LITTER_AGE = timedelta(hours=1)


def _now() -> datetime:
    return datetime.now(UTC)


class Sessions:
    """The table of active sessions ([MC-BUP] 3.2.1.3) of one directory.

    Args:
        directory: its settings.
        owners: where sessions are counted; in this object alone if not given.
        now: the clock, in UTC.
        boot: which boot of the system this is.
    """

    def __init__(
        self,
        directory: Directory,
        owners: Owners | None = None,
        *,
        now: Callable[[], datetime] = _now,
        boot: str = BOOT,
    ) -> None:
        self.directory = directory
        self._owners = owners or Owners(0, Tables.of([directory]).ask)
        self._now = now
        durable = directory.durability == "fragment"
        self._disk = Disk(Folder(directory.path), durable=durable, boot=boot)
        self._delivery = Delivery(directory, self._disk)
        self._turns = Turns()

    async def open(self) -> None:
        """Make sure that there can be sessions.

        Raises:
            OSError: there cannot.
        """
        await asyncio.to_thread(self._disk.prepare)

    async def count(self) -> None:
        """Count the sessions that an earlier run left, and tell what is odd there."""
        await count(self._disk, self._owners)

    def stop(self) -> None:
        """Let the bodies end that are being read; what came of them is kept."""
        self._turns.cut(Reason.STOPPING)

    async def create(self, caller: Caller, url: str) -> Ack:
        """Create-Session, [MC-BUP] 3.2.5.2.4.

        Args:
            caller: whose session it will be.
            url: absolute URL of the request, query included.

        Raises:
            Refusal: TOO_MANY_SESSIONS, LOW_SPACE, or as the destination says.
        """
        session = self._new(caller, url)
        await self._owners.admit(session, self._disk.missing)
        try:
            async with self._turns.take(session.id):
                await asyncio.to_thread(self._make, session)
        except (Refusal, OSError):
            await self._owners.discount(session.id)
            raise
        await self._owners.made(session.id)
        self._tell("created", session)
        host_id = self.directory.host_id
        fallback = int(self.directory.host_id_fallback_timeout.total_seconds())
        return Ack(
            protocol=PROTOCOL,
            session_id=session.id,
            host_id=host_id,
            host_id_fallback_timeout=None if host_id is None else fallback,
        )

    def _new(self, caller: Caller, url: str) -> Session:
        now = self._now()
        return Session(
            id=SessionId(f"{{{str(uuid4()).upper()}}}"),
            destination=caller.destination,
            url=url,
            created=now,
            touched=now,
            user=caller.user,
            address=caller.address,
        )

    def _make(self, session: Session) -> None:
        self._disk.check_destination(
            session.destination, overwrite=self.directory.overwrite
        )
        free = self._disk.free()
        if free < self.directory.minimum_free_space:
            detail = f"{free} bytes free, not {self.directory.minimum_free_space}"
            raise Refusal(Reason.LOW_SPACE, detail)
        self._disk.create(session)

    async def fragment(self, packet: Fragment, caller: Caller, body: Body) -> Ack:
        """Fragment, [MC-BUP] 3.2.5.2.6: its Ack means that the bytes are safe.

        Raises:
            Refusal: as the session, the destination or the application says; also
                when the body ended early, with what came of it kept.
            OSError: the storage failed; bytes acknowledged before stay.
        """
        async with self._turn(packet.session_id, caller, body) as entity:
            session = entity.session.after(Event.FRAGMENT)
            session = await self._taken(session, entity, packet, body)
            if session.complete and session.state is State.RECEIVE_FRAGMENTS:
                session = await self._deliver(session, entity)
            return session.ack()

    async def _taken(
        self, session: Session, entity: Entity, packet: Fragment, body: Body
    ) -> Session:
        """The session with the fragment's bytes, durable."""
        if session.state is State.WAIT_FOR_CLOSE:
            session.admit(packet, maximum=None)  # it was let in before
            return session
        session = session.grown(entity.reliable(packet.first))
        admission = await self._admitted(session, entity, packet)
        session = await self._settled(session, entity, packet.total)
        # A client sends what was not acknowledged.
        held = await entity.append(admission, body, packet.first)
        if held <= packet.last:
            reason = body.ended or Reason.CUT_OFF
            raise Refusal(reason, f"kept {held} bytes of {packet.total}")
        return session.grown(held)

    async def _admitted(
        self, session: Session, entity: Entity, packet: Fragment
    ) -> Admission:
        """What to keep of the fragment."""
        try:
            return session.admit(packet, maximum=self.directory.largest_upload)
        except Refusal as refusal:
            if refusal.reason is Reason.TOO_LARGE:
                await self._forget(entity, "refused")
            elif refusal.reason is Reason.OUT_OF_SYNC:
                # To the client an offset is an Ack of all before it.
                await entity.sync(session.received)
            raise

    async def _settled(self, session: Session, entity: Entity, total: int) -> Session:
        """The session, on the disk but for the bytes that come."""
        if session.total is None:
            await self._claim(session.id, total)
        if session.total is None or not entity.current:
            session = session.sized(total)
            await self._disk.save(entity, session)
        elif not session.received:
            await self._disk.settle(entity)
        return session

    async def _deliver(self, session: Session, entity: Entity) -> Session:
        """Give the whole entity to the application, to its name, or to both."""
        delivered, published = await self._delivery.deliver(session, entity)
        await self._claim(session.id, 0)
        self._tell("published" if published else "delivered", delivered)
        return delivered

    async def _claim(self, named: SessionId, size: int) -> None:
        if self.directory.maximum_spool_size is not None:
            await self._owners.claim(named, size, self._disk.missing)

    async def close(self, packet: CloseSession, caller: Caller) -> Ack:
        """Close-Session, [MC-BUP] 3.2.5.2.7; again, if its first Ack was lost.

        Raises:
            Refusal: SESSION_NOT_FOUND; ENTITY_GONE; MALFORMED for an upload that
                is not complete, which is thereby given up.
        """
        named = packet.session_id
        try:
            await self._close(named, caller)
        except Refusal as refusal:
            if refusal.reason is not Reason.SESSION_NOT_FOUND:
                raise
            if not await asyncio.to_thread(self._was_closed, named, caller):
                raise
        return Ack(session_id=named)

    async def _close(self, named: SessionId, caller: Caller) -> None:
        async with self._turn(named, caller, gone=Reason.ENTITY_GONE) as entity:
            session = entity.session
            session.after(Event.CLOSE)
            if session.state is not State.WAIT_FOR_CLOSE:
                await self._forget(entity, "discarded")
                detail = f"closed with {session.received} bytes of {session.total}"
                raise Refusal(Reason.MALFORMED, detail)
            await self._disk.bury(entity)
            await self._owners.discount(named)
            self._tell("closed", session)

    def _was_closed(self, named: SessionId, caller: Caller) -> bool:
        try:
            closed = self._disk.closed(named)
        except SessionNotFound:
            return False
        return (closed.user, closed.destination) == (caller.user, caller.destination)

    async def cancel(self, packet: CancelSession, caller: Caller) -> Ack:
        """Cancel-Session, [MC-BUP] 3.2.5.2.8; a published file stays.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        async with self._turn(packet.session_id, caller) as entity:
            entity.session.after(Event.CANCEL)
            await self._forget(entity, "cancelled")
            return Ack(session_id=packet.session_id)

    async def reply(self, named: SessionId, user: str | None) -> BinaryIO:
        """The application's reply, open; the caller closes it ([MC-BUP] 3.5).

        Raises:
            Refusal: SESSION_NOT_FOUND.
            OSError: the session has no reply.
        """
        try:
            session = await asyncio.to_thread(self._disk.read, named)
        except SessionNotFound as error:
            raise Refusal(Reason.SESSION_NOT_FOUND, str(error)) from None
        if session.user != user:
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} is of another user")
        if session.expired(self._now(), self.directory.session_timeout):
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} expired")
        return await asyncio.to_thread(self._disk.open_response, named)

    async def expire(self) -> None:
        """Forget sessions that time out ([MC-BUP] 3.2.6.1), and litter."""
        now = self._now()
        timeout = self.directory.session_timeout
        stubborn = journal.Few("not-removed")
        async for batch in batches(self._touched()):
            for named, last in batch:
                if now - last > timeout and not self._turns.busy(named):
                    await self._expire(named, stubborn)
        async for steps in batches(self._disk.clean(now - LITTER_AGE)):
            for error in filter(None, steps):
                stubborn.warn(detail=error, remedy=CHECK)
        stubborn.end()

    def _touched(self) -> Iterator[tuple[SessionId, datetime]]:
        for named in self._disk.ids():
            yield named, self._disk.touched(named)

    async def _expire(self, named: SessionId, stubborn: journal.Few) -> None:
        try:
            async with self._turns.take(named):
                try:
                    entity = await self._open(named)
                except Busy:
                    return
                except Refusal:
                    await self._drop(named)
                else:
                    entity.close()
        except OSError as error:
            stubborn.warn(session=named, detail=error, remedy=CHECK)

    @asynccontextmanager
    async def _turn(
        self,
        named: SessionId,
        caller: Caller,
        body: Body | None = None,
        *,
        gone: Reason = Reason.SESSION_NOT_FOUND,
    ) -> AsyncIterator[Entity]:
        """Serve a packet of a session, if that is the caller's and at this URL.

        Args:
            named: which.
            caller: for others the session does not exist.
            body: what the packet brings.
            gone: what to say when the session's bytes were lost.
        """
        if self._turns.busy(named):
            # Nobody else may cut short the body that is being received.
            await self._disk.check(named, caller.check)
        async with self._turns.take(named, body):
            entity = await self._open(named, caller, gone=gone)
            try:
                session = entity.session
                caller.check(named, session.user, session.destination)
                yield entity
            finally:
                entity.close()

    async def _open(
        self,
        named: SessionId,
        caller: Caller | None = None,
        *,
        gone: Reason = Reason.SESSION_NOT_FOUND,
    ) -> Entity:
        """The session's entity, locked, unless it expired.

        For a caller another process is waited for that serves it.
        """
        try:
            check = None if caller is None else caller.check
            entity = await self._disk.open(named, check)
        except EntityGone as error:
            await self._drop(named)
            raise Refusal(gone, str(error)) from None
        except SessionDamaged as error:
            raise Refusal(Reason.SESSION_NOT_FOUND, str(error)) from None
        except SessionNotFound as error:
            await self._owners.discount(named)
            by_hand = await asyncio.to_thread(self._disk.is_marked, named)
            detail = f"{error}: cancelled by an operator" if by_hand else str(error)
            raise Refusal(Reason.SESSION_NOT_FOUND, detail) from None
        if entity.session.expired(self._now(), self.directory.session_timeout):
            try:
                await self._forget(entity, "expired")
            finally:
                entity.close()
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} expired")
        return entity

    async def _forget(self, entity: Entity, event: str) -> None:
        await self._drop(entity.session.id, entity)
        self._tell(event, entity.session)

    async def _drop(self, named: SessionId, entity: Entity | None = None) -> None:
        await self._disk.delete(named, entity)
        await self._owners.discount(named)

    def _tell(self, event: str, session: Session) -> None:
        journal.note(
            event,
            directory=self.directory.url,
            file=session.destination,
            bytes=session.received,
            total=session.total,
            user=session.user,
            client=session.address,
            session=session.id,
        )
