"""The packets of an upload, one by one. No upload is ever completed.

Each session is told a size that is two bytes more than what is sent, and cancelled, so
that nothing is published and no file is replaced, whatever the server does.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from itertools import islice
from uuid import uuid4

from bitsd import arrival
from bitsd.arrival import Arrival
from bitsd.protocol.wire import (
    PROTOCOL,
    CancelSession,
    CloseSession,
    CreateSession,
    Fragment,
    SessionId,
)

from . import judge
from .hops import Hop, author, in_front
from .line import Answer, Broken, Line, why
from .patient import Patient
from .report import Findings
from .road import ASKED
from .verdicts import Symptom

#: Sizes at which limits lie: 1 MB (nginx), 13 MB (fragments of Windows), 30 MB (IIS).
SIZES = (1 << 16, (1 << 20) + 1, 8 << 20, 13 << 20, 30_000_001)

#: Of a broken fragment, of which some should arrive; fewer where no more pass.
BROKEN_BYTES = 1 << 20

#: How long that may take, in seconds, one try after the other.
ARRIVAL_SECONDS = (0.05, 0.4, 1.0)

#: Connections that a proxy shares show in so many rounds.
_ROUNDS = 3

_PIECE = 1 << 16

#: What the server itself is at fault for, whatever stands in front.
_SERVERS = {
    Symptom.UPLOADS_OFF,
    Symptom.NOT_ALLOWED,
    Symptom.NO_SIGN_IN,
    Symptom.NO_FOLDER,
    Symptom.BUSY,
    Symptom.SERVER_FAILED,
    Symptom.FILE_LIMIT,
}

_FAILURES = (Broken, OSError)


def sizes(most: int) -> list[int]:
    """Fragments to try, the largest of `most` bytes."""
    return [*(size for size in SIZES if size < most), most]


class Uploads:
    """What becomes of packets on their way.

    Args:
        patient: where they go; its target becomes the name of a file that is not there.
        findings: take what is found.
    """

    def __init__(self, patient: Patient, findings: Findings) -> None:
        self._patient = patient
        self._findings = findings
        self._knows_arrivals = False

    async def examine(self, most: int) -> bool:
        """Try all packets, fragments of up to `most` bytes among them.

        Returns whether there is a file of the patient's name, which is not touched.
        """
        exists = await self._head()
        self._certificate()
        self._patient.target = unused(self._patient.target, taken=exists)
        if not await self._ping():
            self._findings.skip("upload", "needs an answer to Ping")
            return exists
        await self._arrivals()
        await self._errors()
        if await self._create():
            passed = await self._fragments(most)
            if passed:
                await self._buffering(min(passed, BROKEN_BYTES))
            else:
                self._findings.skip("buffering", "needs a fragment that passes")
        return exists

    async def _head(self) -> bool:
        """Whether there is a file of this name."""
        try:
            async with self._patient.dial() as line:
                answer = await self._patient.fetch(line, "HEAD")
        except _FAILURES as error:
            self._findings.fault("head", Symptom.NO_ANSWER, why(error))
            return False
        told = f"{answer.version} {answer.status} from {author(answer).value}"
        if answer.status in range(300, 400):
            where = answer.get("Location") or "nowhere"
            self._fault("head", Symptom.REDIRECTED, answer, f"{told} to {where}")
        else:
            self._findings.ok("head", told)
        return answer.status == HTTPStatus.OK

    def _certificate(self) -> None:
        """That no job without a client certificate is turned away."""
        patient = self._patient
        if not patient.certificate_asked or patient.options.certificate is not None:
            return
        hop = author(patient.answers[0]) if patient.answers else None
        symptom = Symptom.CERTIFICATE_ASKED
        self._findings.fault("certificate", symptom, ASKED, hop=hop)

    async def _ping(self) -> bool:
        try:
            async with self._patient.dial() as line:
                answer = await self._patient.ping(line)
                kept = answer.kept and (await self._patient.ping(line)).kept
        except _FAILURES as error:
            self._findings.fault("ping", Symptom.NO_ANSWER, why(error))
            return False
        symptom = judge.unwanted(answer)
        if symptom is not None:
            self._fault("ping", symptom, answer, self._told(answer))
            return False
        self._findings.ok("ping", self._told(answer))
        if not kept:
            self._fault("keep-alive", Symptom.CLOSED, answer, "it ends the connection")
        else:
            self._findings.ok("keep-alive", "one connection carries several packets")
        return True

    def _told(self, answer: Answer) -> str:
        told = f"{author(answer).value} answered {answer.status}"
        if answer.status == HTTPStatus.UNAUTHORIZED:
            ways = ", ".join(sorted(self._patient.offered)) or "none"
            trouble = self._patient.trouble and f"; {self._patient.trouble}"
            return f"{told}, ways to sign in: {ways}{trouble}"
        if answer.is_ack:
            return told if answer.hresult is None else f"{told}, 0x{answer.hresult:08X}"
        return f"{told} before a BITS server saw it"

    async def _arrivals(self) -> None:
        """How packets arrive, as a bitsd tells who asks."""
        try:
            async with self._patient.dial() as one, self._patient.dial() as other:
                found = [
                    [await self._arrival(line) for line in (one, other)]
                    for _ in range(_ROUNDS)
                ]
        except _FAILURES as error:
            self._findings.skip("upstream", why(error))
            return
        first = found[0][0]
        if first is None:
            self._findings.skip("upstream", "the server does not tell; it is no bitsd")
            return
        self._knows_arrivals = True
        ack = self._patient.answers[-1]
        if first.version != "1.1":
            self._fault(
                "upstream",
                Symptom.OLD_UPSTREAM,
                ack,
                f"packets arrive as HTTP/{first.version}",
            )
        elif not first.kept:
            detail = "packets arrive with Connection: close"
            self._fault("upstream", Symptom.UPSTREAM_CLOSED, ack, detail)
        else:
            self._findings.ok("upstream", "HTTP/1.1, and connections are kept")
            self._pooled(found, ack)
        if not first.ranged:
            self._fault("range", Symptom.RANGE_LOST, ack, "Range does not arrive")

    async def _arrival(self, line: Line) -> Arrival | None:
        asked = ((arrival.FIELD, "?"), ("Range", "bytes=0-0"))
        answer = await self._patient.ping(line, *asked)
        return Arrival.parse(answer.get(arrival.FIELD) or "")

    def _pooled(self, found: list[list[Arrival | None]], ack: Answer) -> None:
        """Whether a connection of a client is one of the server."""
        ours = [
            {each.connection for each in marks if each}
            for marks in zip(*found, strict=True)
        ]
        if len(ours[0]) == len(ours[1]) == 1 and not ours[0] & ours[1]:
            return
        if self._patient.signed_in in ("ntlm", "negotiate"):
            detail = "connections to the server are shared between clients"
            self._fault("pool", Symptom.POOLED, ack, detail)
        else:
            self._findings.note(
                "pool",
                "connections to the server are shared between clients; NTLM and "
                "Negotiate may not pass",
            )

    async def _errors(self) -> None:
        """That an error Ack comes back as it is, by a session that nobody has."""
        named = SessionId(f"{{{str(uuid4()).upper()}}}")
        try:
            async with self._patient.dial() as line:
                answer = await self._patient.packet(line, CloseSession(named))
        except _FAILURES as error:
            self._findings.fault("errors", Symptom.NO_ANSWER, why(error))
            return
        symptom = judge.of_unknown_session(answer)
        if symptom is None:
            self._findings.ok("errors", "error answers come back as they are")
        else:
            detail = f"{self._told(answer)}, to a session that does not exist"
            self._fault("errors", symptom, answer, detail)

    async def _create(self) -> bool:
        try:
            async with self._session() as (_named, ack):
                pass
        except _FAILURES as error:
            self._findings.fault("create", Symptom.NO_ANSWER, why(error))
            return False
        symptom = judge.unwanted(ack)
        if symptom is not None:
            self._fault("create", symptom, ack, self._told(ack))
            return False
        lost = [n for n in ("BITS-Session-Id", "BITS-Protocol") if ack.get(n) is None]
        if lost:
            detail = f"the Ack has no {' and no '.join(lost)}"
            if "BITS-Session-Id" in lost:
                detail += ", so its session stays until it times out"
            self._fault("create", Symptom.RESPONSE_FIELDS, ack, detail)
            return False
        self._findings.ok("create", "a session, and cancelled again")
        return True

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[tuple[SessionId, Answer]]:
        """A session for a while, and the answer to its creation.

        Raises:
            Broken: there is none.
        """
        async with self._patient.dial() as line:
            ack = await self._patient.packet(line, CreateSession((PROTOCOL,)))
        named = SessionId(ack.get("BITS-Session-Id") or "")
        try:
            yield named, ack
        finally:
            if named:
                await self._cancel(named)

    async def _cancel(self, named: SessionId) -> None:
        with suppress(*_FAILURES):
            async with self._patient.dial() as line:
                answer = await self._patient.packet(line, CancelSession(named))
                if answer.status == HTTPStatus.OK:
                    return
        self._findings.note("cancel", f"session {named} stays until it times out")

    async def _fragments(self, most: int) -> int:
        """The largest fragment that passed, in bytes."""
        passed = 0
        for size in sizes(most):
            if not await self._fragment(size, passed):
                return passed
            passed = size
        self._findings.ok("fragments", f"up to {most} bytes")
        return passed

    async def _fragment(self, size: int, passed: int) -> bool:
        told = f"a fragment of {size} bytes"
        try:
            async with self._session() as (named, _), self._patient.dial() as line:
                packet = Fragment(named, 0, size - 1, size + 2)
                answer = await self._patient.packet(line, packet, _pieces(size))
        except _FAILURES as error:
            late = "within" in why(error)
            symptom = Symptom.NO_ANSWER if late else Symptom.BODY_CUT
            hop = self._front()
            self._findings.fault("fragments", symptom, f"{told}: {why(error)}", hop=hop)
            return False
        wrong = judge.unwanted(answer)
        if wrong is Symptom.FILE_LIMIT:
            self._findings.note("fragments", _limited(size, passed))
            return False
        if wrong is None and answer.received is None:
            wrong, told = Symptom.RESPONSE_FIELDS, "no BITS-Received-Content-Range"
        elif wrong is None and answer.received != size:
            wrong = Symptom.SERVER_FAILED
        if wrong is not None:
            self._fault("fragments", wrong, answer, f"{told}: {self._told(answer)}")
        return wrong is None

    async def _buffering(self, size: int) -> None:
        """Break off in the middle of a fragment, and ask what arrived."""
        try:
            for seconds in ARRIVAL_SECONDS:
                held = await self._held(size, seconds)
                if held is None:
                    self._findings.skip("buffering", "the server does not tell")
                    return
                if held:
                    detail = "bytes arrive before their fragment is whole"
                    self._findings.ok("buffering", detail)
                    return
        except _FAILURES as error:
            self._findings.skip("buffering", why(error))
            return
        detail = "nothing of a fragment that broke off has arrived"
        if self._knows_arrivals:
            ack = self._patient.answers[-1]
            self._fault("buffering", Symptom.BUFFERED, ack, detail)
        else:
            self._findings.note("buffering", f"{detail}, or is kept by the server")

    async def _held(self, size: int, seconds: float) -> int | None:
        """Bytes of half a fragment that the server has after so long."""
        async with self._session() as (named, _ack):
            packet = Fragment(named, 0, size - 1, size + 2)
            fields = self._patient.fields(packet.fields())
            half = _pieces(size // 2)
            async with self._patient.dial() as broken:
                await broken.send("BITS_POST", self._patient.target, fields, half)
                await asyncio.sleep(seconds)
            # It leaves a gap, so it is refused with what is held.
            gap = Fragment(named, size, size, size + 2)
            async with self._patient.dial() as line:
                answer = await self._patient.packet(line, gap, (b"\0",))
            return answer.received

    def _front(self) -> Hop | None:
        return in_front(self._patient.answers)

    def _fault(self, probe: str, symptom: Symptom, answer: Answer, detail: str) -> None:
        if symptom is Symptom.NOT_ALLOWED and self._front() is not None:
            symptom = Symptom.NO_SIGN_IN
        hop: Hop | None = author(answer)
        if symptom in _SERVERS:
            hop = Hop.SERVER
        elif hop in (Hop.SERVER, Hop.UNKNOWN):
            hop = self._front()
        self._findings.fault(probe, symptom, detail, hop=hop, status=answer.status)


def unused(target: str, *, taken: bool) -> str:
    """A target beside this one that no file has; itself if that is none."""
    path, question, query = target.partition("?")
    folder, _slash, name = path.rpartition("/")
    if name and not taken:
        return target
    return f"{folder}/bitsd-doctor-{secrets.token_hex(6)}.tmp{question}{query}"


def _limited(size: int, passed: int) -> str:
    """That the server wants no larger files, which may be what its owner wants."""
    others = f", of {passed + 2} not" if passed else ""
    return f"uploads of {size + 2} bytes are refused{others}: maximum_upload_size"


def _pieces(size: int) -> Iterator[bytes]:
    """A body that nothing on the way can compress."""
    piece = os.urandom(min(size, _PIECE))
    whole, rest = divmod(size, len(piece))
    yield from islice(iter(lambda: piece, b""), whole)
    if rest:
        yield piece[:rest]
