"""What becomes of a complete entity: its name, an application, or both."""

from urllib.parse import quote, urlsplit, urlunsplit

from .config import Directory
from .destination import REPLIES
from .disk import Disk
from .entity import Entity
from .notify import Application
from .protocol.refusal import Reason, Refusal
from .protocol.session import Event, Session

#: Longest BITS-Reply-URL, [MC-BUP] 2.2.1.2.
MAXIMUM_REPLY_URL = 2200


class Delivery:
    """The deliveries of one directory."""

    def __init__(self, directory: Directory, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk
        self._application = Application.of(directory)

    async def deliver(self, session: Session, entity: Entity) -> tuple[Session, bool]:
        """The session once it has been delivered, and whether it has its name.

        Raises:
            Refusal: as the destination or the application says.
            OSError: the storage failed; the last fragment may come again.
        """
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
            publish, reply_url = await self._notify(
                self._application, notifying, entity
            )
        if publish:
            await self._disk.publish(entity, overwrite=self._directory.overwrite)
        delivered = notifying.delivered(reply_url)
        await self._disk.save(entity, delivered)
        return delivered, publish

    async def _notify(
        self, application: Application, session: Session, entity: Entity
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
                await disk.save(entity, session.rejected(refusal.status))
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
        if self._directory.host_id is not None:
            port = f":{origin.port}" if origin.port else ""
            host = self._directory.host_id + port
        path = f"{self._directory.url.rstrip('/')}/{REPLIES}/{session.id}"
        return urlunsplit((origin.scheme, host, quote(path), "", ""))
