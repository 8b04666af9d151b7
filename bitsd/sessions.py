"""The sessions of one directory: who may do what, in which order it becomes durable.

Each packet is one straight verb: take the session's turn, load, let `Session` decide,
let `Disk` act, answer. Nothing is cached: any process can serve any packet.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

from . import journal
from .config import Directory
from .destination import REPLIES, Folder
from .disk import Disk, EntityGone
from .notify import Application
from .owners import Owners
from .protocol.refusal import Reason, Refusal
from .protocol.session import Destination, Event, Session, State
from .protocol.wire import (
    PROTOCOL,
    Ack,
    CancelSession,
    CloseSession,
    Fragment,
    SessionId,
)
from .record import SessionDamaged, SessionNotFound
from .turns import Body, Turns

#: Closed sessions whose Close may come again, [MC-BUP] 3.1.6.2; bounded memory.
MAXIMUM_TOMBSTONES = 10_000

#: Longest BITS-Reply-URL, [MC-BUP] 2.2.1.2.
MAXIMUM_REPLY_URL = 2200

#: What a crash left in BITS-Sessions and is no session goes after this time.
LITTER_AGE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a packet, and where to.

    Attributes:
        user: signed-in name; None for anonymous.
        address: of the client, for the log and for limits, never for identity.
        url: absolute URL of the request, query included.
    """

    user: str | None
    address: str
    destination: Destination
    url: str


def _now() -> datetime:
    return datetime.now(UTC)


class Sessions:
    """The table of active sessions ([MC-BUP] 3.2.1.3) of one directory.

    Args:
        now: the clock, in UTC.
    """

    def __init__(
        self, directory: Directory, *, now: Callable[[], datetime] = _now
    ) -> None:
        self.directory = directory
        self._now = now
        self._disk = Disk(
            Folder(directory.path), durable=directory.durability == "fragment"
        )
        self._application = Application.of(directory)
        self._turns = Turns()
        self._owners = Owners(directory.sessions_per_user)
        self._closed: OrderedDict[SessionId, Caller] = OrderedDict()

    async def open(self) -> None:
        """Find the sessions that an earlier run left."""
        await asyncio.to_thread(self._disk.prepare)
        for session in await asyncio.to_thread(self._find):
            self._owners.count(session)

    def _find(self) -> list[Session]:
        found = []
        for named in self._disk.ids():
            try:
                found.append(self._disk.read(named))
            except (SessionDamaged, OSError) as error:
                journal.warn("damaged", session=named, detail=error)
            except SessionNotFound:
                continue  # forgotten meanwhile, or litter
        return found

    def stop(self) -> None:
        """Let the bodies end that are being read; what came of them is kept."""
        self._turns.cut(Reason.STOPPING)

    async def create(self, caller: Caller) -> Ack:
        """Create-Session, [MC-BUP] 3.2.5.2.4.

        Raises:
            Refusal: TOO_MANY_SESSIONS, LOW_SPACE, or as the destination says.
        """
        session = self._new(caller)
        self._owners.admit(session)
        try:
            async with self._turns.take(session.id):
                await asyncio.to_thread(self._check_room, caller)
                await self._disk.create(session)
        except (Refusal, OSError):
            self._owners.discount(session.id)
            raise
        self._tell("created", session)
        host_id = self.directory.host_id
        fallback = int(self.directory.host_id_fallback_timeout.total_seconds())
        return Ack(
            protocol=PROTOCOL,
            session_id=session.id,
            host_id=host_id,
            host_id_fallback_timeout=None if host_id is None else fallback,
        )

    def _new(self, caller: Caller) -> Session:
        now = self._now()
        return Session(
            id=SessionId(f"{{{str(uuid4()).upper()}}}"),
            destination=caller.destination,
            url=caller.url,
            created=now,
            touched=now,
            user=caller.user,
            address=caller.address,
        )

    def _check_room(self, caller: Caller) -> None:
        self._disk.check_destination(
            caller.destination, overwrite=self.directory.overwrite
        )
        free = self._disk.free()
        if free < self.directory.minimum_free_space:
            detail = f"{free} bytes free, not {self.directory.minimum_free_space}"
            raise Refusal(Reason.LOW_SPACE, detail)

    async def fragment(self, packet: Fragment, caller: Caller, body: Body) -> Ack:
        """Fragment, [MC-BUP] 3.2.5.2.6: its Ack means that the bytes are safe.

        Raises:
            Refusal: as the session, the destination or the application says; also
                when the body ended early, with what came of it kept.
            OSError: the storage failed; bytes acknowledged before stay.
        """
        async with self._turns.take(packet.session_id, body):
            session = await self._owned(packet.session_id, caller)
            session = session.after(Event.FRAGMENT)
            session = await self._taken(session, packet, body)
            if session.complete and session.state is State.RECEIVE_FRAGMENTS:
                session = await self._deliver(session)
            return session.ack()

    async def _taken(self, session: Session, packet: Fragment, body: Body) -> Session:
        """The session with the fragment's bytes, durable."""
        if session.state is State.WAIT_FOR_CLOSE:
            session.admit(packet, maximum=None)  # it was let in before
            return session
        try:
            admission = session.admit(
                packet, maximum=self.directory.maximum_upload_size
            )
        except Refusal as refusal:
            if refusal.reason is Reason.TOO_LARGE:
                await self._forget(session, "refused")
            raise
        if session.total is None:
            session = session.sized(packet.total)
            await self._disk.save(session)
        held = await self._disk.append(session, admission, body)
        if held <= packet.last:
            reason = body.ended or Reason.CUT_OFF
            raise Refusal(reason, f"kept {held} bytes of {packet.total}")
        return session.grown(held)

    async def _deliver(self, session: Session) -> Session:
        """Give the whole entity to the application, to its name, or to both."""
        if session.refused is not None:
            raise Refusal(
                Reason.APPLICATION_FAILED,
                "the application refused it before",
                received=session.received,
                status=session.refused,
            )
        notifying = session.after(Event.COMPLETED)
        publish, reply_url = True, None
        if self._application is not None:
            publish, reply_url = await self._notify(self._application, notifying)
        if publish:
            await self._disk.publish(session, overwrite=self.directory.overwrite)
        delivered = notifying.delivered(reply_url)
        await self._disk.save(delivered)
        self._tell("published" if publish else "delivered", delivered)
        return delivered

    async def _notify(
        self, application: Application, session: Session
    ) -> tuple[bool, str | None]:
        """Whether to publish, and where the reply is ([MC-BUP] 3.2.5.1.3)."""
        disk = self._disk
        try:
            outcome = await application.notify(
                session, disk.request(session.id), disk.response(session.id)
            )
        except Refusal as refusal:
            if refusal.status == Reason.ACCESS_DENIED.status:
                # The only answer that stops IIS from asking again.
                await disk.save(session.rejected(refusal.status))
            raise
        url = outcome.reply_url
        if url is None and outcome.replied:
            url = self._reply_url(session)
        if url is not None and len(url) > MAXIMUM_REPLY_URL:
            raise Refusal(Reason.REPLY_URL_TOO_LONG, f"{len(url)} characters")
        return outcome.publish, url

    def _reply_url(self, session: Session) -> str:
        """Absolute, and at this node where the reply is (protocol-notes/host-id.md)."""
        origin = urlsplit(session.url)
        host = origin.netloc
        if self.directory.host_id is not None:
            port = f":{origin.port}" if origin.port else ""
            host = self.directory.host_id + port
        path = f"{self.directory.url.rstrip('/')}/{REPLIES}/{session.id}"
        return urlunsplit((origin.scheme, host, quote(path), "", ""))

    async def close(self, packet: CloseSession, caller: Caller) -> Ack:
        """Close-Session, [MC-BUP] 3.2.5.2.7; again, if its first Ack was lost.

        Raises:
            Refusal: SESSION_NOT_FOUND; ENTITY_GONE; MALFORMED for an upload that
                is not complete, which is thereby given up.
        """
        named = packet.session_id
        async with self._turns.take(named):
            if self._was_closed(named, caller):
                return Ack(session_id=named)
            session = await self._owned(named, caller, gone=Reason.ENTITY_GONE)
            session.after(Event.CLOSE)
            if session.state is not State.WAIT_FOR_CLOSE:
                await self._forget(session, "discarded")
                detail = f"closed with {session.received} bytes of {session.total}"
                raise Refusal(Reason.MALFORMED, detail)
            await self._forget(session, "closed")
            self._bury(named, caller)
            return Ack(session_id=named)

    async def cancel(self, packet: CancelSession, caller: Caller) -> Ack:
        """Cancel-Session, [MC-BUP] 3.2.5.2.8; a published file stays.

        Raises:
            Refusal: SESSION_NOT_FOUND.
        """
        named = packet.session_id
        async with self._turns.take(named):
            session = await self._owned(named, caller)
            session.after(Event.CANCEL)
            await self._forget(session, "cancelled")
            return Ack(session_id=named)

    async def reply(self, named: SessionId, user: str | None) -> BinaryIO:
        """The application's reply, open; the caller closes it ([MC-BUP] 3.5).

        Raises:
            Refusal: SESSION_NOT_FOUND.
            OSError: the session has no reply.
        """
        session = await self._load(named)
        if session.user != user:
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} is of another user")
        return await asyncio.to_thread(self._disk.open_response, named)

    async def expire(self) -> None:
        """Forget sessions that time out ([MC-BUP] 3.2.6.1), and litter."""
        now = self._now()
        # One that is being made is counted already and not on the disk yet.
        counted = {named for named in self._owners.ids if not self._turns.busy(named)}
        touched = await asyncio.to_thread(self._touched)
        for named in counted - touched.keys():
            self._owners.discount(named)  # somebody else removed it
        timeout = self.directory.session_timeout
        for named, last in touched.items():
            if now - last > timeout and not self._turns.busy(named):
                try:
                    async with self._turns.take(named):
                        await self._expire(named)
                except OSError as error:
                    journal.warn("not-expired", session=named, detail=error)
        await asyncio.to_thread(self._disk.clean, now - LITTER_AGE)

    def _touched(self) -> dict[SessionId, datetime]:
        disk = self._disk
        return {named: disk.touched(named) for named in disk.ids()}

    async def _expire(self, named: SessionId) -> None:
        try:
            await self._load(named)
        except Refusal:
            await self._drop(named)

    async def _owned(
        self,
        named: SessionId,
        caller: Caller,
        *,
        gone: Reason = Reason.SESSION_NOT_FOUND,
    ) -> Session:
        """The session, if it is the caller's and at this URL; else as if unknown."""
        session = await self._load(named, gone=gone)
        if session.user != caller.user:
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} is of another user")
        if session.destination != caller.destination:
            detail = f"{named} is for {session.destination!r}"
            raise Refusal(Reason.SESSION_NOT_FOUND, detail)
        return session

    async def _load(
        self, named: SessionId, *, gone: Reason = Reason.SESSION_NOT_FOUND
    ) -> Session:
        """The session, unless it expired.

        Args:
            named: which.
            gone: what to say when its bytes were lost.
        """
        try:
            session = await self._disk.load(named)
        except EntityGone as error:
            await self._drop(named)
            raise Refusal(gone, str(error)) from None
        except SessionDamaged as error:
            raise Refusal(Reason.SESSION_NOT_FOUND, str(error)) from None
        except SessionNotFound as error:
            self._owners.discount(named)
            raise Refusal(Reason.SESSION_NOT_FOUND, str(error)) from None
        if session.expired(self._now(), self.directory.session_timeout):
            await self._forget(session, "expired")
            raise Refusal(Reason.SESSION_NOT_FOUND, f"{named} expired")
        return session

    async def _forget(self, session: Session, event: str) -> None:
        await self._drop(session.id)
        self._tell(event, session)

    async def _drop(self, named: SessionId) -> None:
        await self._disk.delete(named)
        self._owners.discount(named)

    def _bury(self, named: SessionId, caller: Caller) -> None:
        self._closed[named] = caller
        if len(self._closed) > MAXIMUM_TOMBSTONES:
            self._closed.popitem(last=False)

    def _was_closed(self, named: SessionId, caller: Caller) -> bool:
        closer = self._closed.get(named)
        return closer is not None and (
            (closer.user, closer.destination) == (caller.user, caller.destination)
        )

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
