"""Random packets, crashes and time against `Sessions` over real files.

The model is what protocol-notes/ says: bytes by session, files by name. After every
step the disk is compared with it, byte by byte and folder by folder.
"""

import asyncio
import errno
import json
import os
import random
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bitsd import loops
from bitsd.caller import Caller
from bitsd.config import Directory
from bitsd.protocol.refusal import Reason, Refusal
from bitsd.protocol.session import Destination
from bitsd.protocol.wire import Ack, CancelSession, CloseSession, Fragment, SessionId
from bitsd.sessions import LITTER_AGE, Sessions

#: BITSD_LONG=1 runs fifty times as many examples, other ones each time.
LONG = os.environ.get("BITSD_LONG") == "1"
SETTINGS = settings(
    max_examples=80 * (50 if LONG else 1),
    stateful_step_count=40,
    deadline=None,
    derandomize=not LONG,
    database=None,
    # Making a failure small takes minutes.
    phases=(Phase.generate, Phase.shrink) if LONG else (Phase.generate,),
    # A step waits for real files to be synced.
    suppress_health_check=[HealthCheck.too_slow],
)
STEP_SECONDS = 10.0

LIMIT = 4000
SESSIONS_PER_USER = 4
TIMEOUT = timedelta(days=14)
TOTALS = (0, 1, 2, 700, 2500, LIMIT, LIMIT + 1)
#: Sizes beyond which the file system takes no byte; any session.json is smaller.
ROOMS = (1500, 3000)

NAMES = (Destination("a.ckm"), Destination("sub/b.ckm"))
KINDS = ("next", "next", "overlap", "again", "gap", "other total", "close", "cancel")
HOPELESS = {
    Destination("missing/c.ckm"): Reason.NO_FOLDER,
    Destination("a-file/c.ckm"): Reason.NO_FOLDER,
    Destination("sub"): Reason.IS_A_FOLDER,
}
OWNERS = ((None, "192.0.2.1"), (None, "192.0.2.2"), ("alice", "192.0.2.1"))
NOBODY = SessionId("{DEADBEEF-0000-4000-8000-000000000001}")


class Parcel:
    """A `turns.Body` whose peer sends some chunks, and then all, nothing, or leaves."""

    def __init__(self, octets: bytes, chunk: int, ending: str) -> None:
        self.ended = Reason.CUT_OFF if ending == "cut" else None
        self.quiet = asyncio.Event()
        self._chunks = [octets[at : at + chunk] for at in range(0, len(octets), chunk)]
        self._stalls = ending == "stall"
        self._end = asyncio.Event()

    async def into(self, sink):
        for octets in self._chunks:
            sink(memoryview(octets))
            await asyncio.sleep(0)
        if self._stalls:
            self.quiet.set()
            await self._end.wait()

    def cut(self, reason: Reason) -> None:
        if self.ended is None and self._stalls:
            self.ended = reason
            self._end.set()


@dataclass(frozen=True)
class Sent:
    """A packet; of a fragment's `body` only the first `kept` bytes come."""

    kind: str
    caller: Caller
    first: int = 0
    body: bytes = b""
    total: int = 0
    kept: int = 0
    chunk: int = 1
    ending: str = "whole"

    @property
    def last(self) -> int:
        return self.first + len(self.body) - 1


@dataclass
class Upload:
    """What the model knows of a session."""

    caller: Caller
    held: bytes = b""
    total: int | None = None
    delivered: bool = False
    age: timedelta = timedelta()
    acknowledged: int = 0


Outcome = Ack | Reason | tuple[Reason, int] | int


def owner(caller: Caller) -> str | tuple[str]:
    """Whom a session counts for: anonymous callers count by address."""
    return (caller.address,) if caller.user is None else caller.user


class Model:
    """The rules, over dictionaries."""

    def __init__(self, *, overwrite: bool) -> None:
        self.overwrite = overwrite
        self.uploads: dict[SessionId, Upload] = {}
        self.files: dict[str, tuple[bytes, SessionId | None]] = {}
        self.closed: dict[SessionId, Caller] = {}
        self.litter: dict[str, timedelta] = {}

    def create(self, caller: Caller) -> Reason | None:
        owners = [owner(upload.caller) for upload in self.uploads.values()]
        if owners.count(owner(caller)) >= SESSIONS_PER_USER:
            return Reason.TOO_MANY_SESSIONS
        if caller.destination in HOPELESS:
            return HOPELESS[caller.destination]
        if caller.destination in self.files and not self.overwrite:
            return Reason.EXISTS
        return None

    def begin(self, named: SessionId, sent: Sent, room: int | None) -> Outcome | None:
        """The answer; None when a fragment's body decides it."""
        buried = self.closed.get(named)
        if sent.kind == "close" and buried is not None and same(buried, sent.caller):
            return Ack(session_id=named)
        upload = self.uploads.get(named)
        if upload is not None and upload.age >= TIMEOUT:
            upload = self.uploads.pop(named) and None
        if upload is None or not same(upload.caller, sent.caller):
            return Reason.SESSION_NOT_FOUND
        match sent.kind:
            case "fragment":
                return self._admit(named, upload, sent) or self._store(
                    upload, sent, room
                )
            case "close" if not upload.delivered:
                del self.uploads[named]
                return Reason.MALFORMED
            case "close":
                self.closed[named] = sent.caller
                self.litter[f"closed-{named}"] = timedelta()
        del self.uploads[named]
        return Ack(session_id=named)

    def _admit(self, named: SessionId, upload: Upload, sent: Sent) -> Outcome | None:
        held = len(upload.held)
        if upload.total not in (None, sent.total):
            return Reason.MALFORMED
        if sent.total > LIMIT:
            del self.uploads[named]
            return Reason.TOO_LARGE
        if sent.first > held:
            return (Reason.OUT_OF_SYNC, held)
        return Ack(session_id=named, received=held) if upload.delivered else None

    def _store(self, upload: Upload, sent: Sent, room: int | None) -> int | None:
        if upload.total is None:
            upload.total, upload.age = sent.total, timedelta()
        more = sent.body[: sent.kept][len(upload.held) - sent.first :]
        fits = len(more) if room is None else max(room - len(upload.held), 0)
        if more[:fits]:
            upload.held, upload.age = upload.held + more[:fits], timedelta()
        return errno.EFBIG if fits < len(more) else None

    def finish(self, named: SessionId, sent: Sent, reason: Reason) -> Outcome:
        """The answer to a fragment once its body has ended, for `reason` if short."""
        upload = self.uploads[named]
        if len(upload.held) <= sent.last:
            return reason
        name = upload.caller.destination
        if len(upload.held) == upload.total:
            _octets, publisher = self.files.get(name, (b"", named))
            if publisher != named and not self.overwrite:
                return Reason.EXISTS
            self.files[name] = (upload.held, named)
            upload.delivered, upload.age = True, timedelta()
        return Ack(session_id=named, received=len(upload.held))


def same(one: Caller, other: Caller) -> bool:
    """A session answers to its user at its URL, from whatever address."""
    return (one.user, one.destination) == (other.user, other.destination)


def caller(owner: tuple[str | None, str], name: Destination) -> Caller:
    user, address = owner
    return Caller(user, address, name)


@contextmanager
def files_no_longer_than(size: int | None) -> Iterator[None]:
    """The kernel takes no byte of a file beyond; Python ignores its signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def outcome(task: asyncio.Task) -> Outcome:
    """What came of a packet, in the model's terms."""
    try:
        async with asyncio.timeout(STEP_SECONDS):
            return await task
    except Refusal as refusal:
        if refusal.received is not None:
            return (refusal.reason, refusal.received)
        return refusal.reason
    except OSError as error:
        assert error.errno is not None
        return error.errno


def make_older(path: Path, by: timedelta) -> None:
    """The clock of files cannot be set, so time passes by files becoming older."""
    times = path.stat()
    shift = by // timedelta(microseconds=1) * 1000
    os.utime(path, ns=(times.st_atime_ns - shift, times.st_mtime_ns - shift))


class SessionsMachine(RuleBasedStateMachine):
    def __init__(self, *, overwrite: bool) -> None:
        super().__init__()
        self.model = Model(overwrite=overwrite)
        self.flights: dict[SessionId, asyncio.Task] = {}
        self.waiting: dict[SessionId, Sent] = {}
        self.created: list[SessionId] = [NOBODY]
        self.random = random.Random(20261123)
        self.folder = Path(tempfile.mkdtemp(prefix="bitsd-machine-"))
        (self.folder / "sub").mkdir()
        (self.folder / "a-file").touch()
        self.model.files["a-file"] = (b"", None)
        self.directory = Directory(
            url="/in",
            path=self.folder,
            upload=True,
            overwrite=overwrite,
            maximum_upload_size=LIMIT,
            session_timeout=TIMEOUT,
            sessions_per_user=SESSIONS_PER_USER,
        )
        self.runner = asyncio.Runner(loop_factory=loops.factory())
        self.sessions = Sessions(self.directory)

    def teardown(self) -> None:
        self.runner.run(self._die())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _home(self, named: str) -> Path:
        return self.folder / "BITS-Sessions" / named

    @initialize(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    def start(self, names) -> None:
        self.runner.run(self._restart())
        for owner, name in zip(OWNERS, names, strict=False):
            self.create(owner, name)

    async def _restart(self) -> None:
        self.sessions = Sessions(self.directory)
        await self.sessions.open()
        await self.sessions.count()

    async def _die(self) -> None:
        """Nobody is told; the kernel closes what the process had open."""
        tasks = list(self.flights.values())
        self.flights.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Packets

    @rule(owner=st.sampled_from(OWNERS), name=st.sampled_from((*NAMES * 3, *HOPELESS)))
    def create(self, owner, name) -> None:
        who = caller(owner, name)
        expected = self.model.create(who)
        try:
            ack = self.runner.run(self.sessions.create(who, f"http://test/in/{name}"))
        except Refusal as refusal:
            assert refusal.reason is expected
            return
        assert expected is None
        assert ack.session_id is not None
        assert ack.session_id not in self.created
        self.created.append(ack.session_id)
        self.model.uploads[ack.session_id] = Upload(who)

    @rule(owner=st.sampled_from(OWNERS), again=st.booleans())
    def create_one_too_many(self, owner, again) -> None:
        if again:
            self.crash(1, left=False)
        for _ in range(SESSIONS_PER_USER + 1):
            self.create(owner, NAMES[0])

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data())
    def send_what_is_next(self, data) -> None:
        """As a client does that nothing happens to."""
        named = self._live(data)
        upload = self.model.uploads[named]
        self._send(named, [self._next(data, upload, "whole")])

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data(), ending=st.sampled_from(("cut", "stall", "stall")))
    def send_a_part_of_what_is_next(self, data, ending) -> None:
        named = self._live(data)
        self._send(named, [self._next(data, self.model.uploads[named], ending)])

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data(), room=st.sampled_from(ROOMS))
    def send_more_than_there_is_room_for(self, data, room) -> None:
        named = self._live(data)
        upload = self.model.uploads[named]
        first, total = len(upload.held), upload.total or LIMIT
        if first < total:
            body = self.random.randbytes(total - first)
            chunk = data.draw(st.sampled_from((1000, LIMIT)), label="chunk")
            octets = (body, total, len(body), chunk)
            self._send(named, [Sent("fragment", upload.caller, first, *octets)], room)

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data(), silent=st.integers(1, 2))
    def send_again_before_there_is_an_answer(self, data, silent) -> None:
        """As over connections of which only the last one lives."""
        named = self._live(data)
        upload = self.model.uploads[named]
        packets = [self._next(data, upload, "stall") for _ in range(silent)]
        self._send(named, [*packets, self._next(data, upload, "whole")])

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data())
    def upload_all(self, data) -> None:
        """All the rest, Close, and Close again because its Ack was lost."""
        named = self._live(data)
        upload = self.model.uploads[named]
        rest = self._rest(upload)
        if data.draw(st.booleans(), label="close"):
            rest += [Sent("close", upload.caller)] * 2
        self._send(named, rest)

    def _rest(self, upload: Upload) -> list[Sent]:
        """The last fragment, as it is sent first or again."""
        total = 700 if upload.total is None else upload.total
        first = min(len(upload.held), max(total - 1, 0))
        body = self.random.randbytes(total - first)
        octets = (body, total, len(body), LIMIT)
        return [Sent("fragment", upload.caller, first, *octets)]

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data())
    def send_anything(self, data) -> None:
        """Some packets of a session, each before the one before it is answered."""
        named = self._live(data)
        upload = self.model.uploads[named]
        cursor, packets = len(upload.held), []
        for _ in range(data.draw(st.integers(1, 3), label="packets")):
            packets.append(self._packet(data, upload, cursor))
            cursor = max(cursor, packets[-1].first + packets[-1].kept)
        self._send(named, packets)

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data(), kind=st.sampled_from(("close", "cancel", "close")))
    def end(self, data, kind) -> None:
        named = self._live(data)
        self._send(named, [Sent(kind, self.model.uploads[named].caller)])

    @rule(data=st.data(), kind=st.sampled_from(("fragment", "close", "cancel")))
    def send_as_a_stranger_or_too_late(self, data, kind) -> None:
        """Any session there ever was, for any caller: the right one as well."""
        named = data.draw(st.sampled_from(self.created), label="session")
        owner = data.draw(st.sampled_from(OWNERS), label="owner")
        name = data.draw(st.sampled_from(NAMES), label="name")
        sent = Sent(kind, caller(owner, name), 0, b"!", 1, 1)
        upload = self.model.uploads.get(named)
        if (
            upload is None
            or named not in self.flights
            or same(upload.caller, sent.caller)
        ):
            self._send(named, [sent])
        else:
            answer = self.runner.run(self._turned_away(named, sent))

            assert answer is Reason.SESSION_NOT_FOUND
            assert not self.flights[named].done()

    async def _turned_away(self, named: SessionId, sent: Sent) -> Outcome:
        """The answer to a stranger, while the body of the right one is awaited."""
        parcel = Parcel(sent.body, sent.chunk, sent.ending)
        return await outcome(asyncio.create_task(self._answer(named, sent, parcel)))

    def _send(
        self, named: SessionId, packets: list[Sent], room: int | None = None
    ) -> None:
        with files_no_longer_than(room):
            answers = self.runner.run(self._serve(named, packets))
        expected = self._expected(named, packets, room)

        assert answers == expected
        self._note(named, answers)

    def _live(self, data) -> SessionId:
        return data.draw(st.sampled_from(list(self.model.uploads)), label="session")

    def _next(self, data, upload: Upload, ending: str) -> Sent:
        total = upload.total
        if total is None:
            total = data.draw(st.sampled_from(TOTALS[1:-1]), label="total")
        first = min(len(upload.held), total - 1)
        return self._span(data, upload.caller, max(first, 0), total, ending)

    def _packet(self, data, upload: Upload, cursor: int) -> Sent:
        kind = data.draw(st.sampled_from(KINDS), label="kind")
        if kind in ("close", "cancel"):
            return Sent(kind, upload.caller)
        total = upload.total
        if total is None or kind == "other total":
            total = data.draw(st.sampled_from(TOTALS), label="total")
        places = {"again": 0, "overlap": cursor // 2, "gap": cursor + 1}
        first = min(places.get(kind, cursor), max(total - 1, 0))
        ending = data.draw(st.sampled_from(("whole", "cut", "stall")), label="ending")
        return self._span(data, upload.caller, first, total, ending)

    def _span(self, data, who: Caller, first: int, total: int, ending: str) -> Sent:
        """Bytes of their own, so that a byte stored twice or late is seen."""
        if total == 0:
            return Sent("fragment", who)
        most = total - first
        lengths = (most, max(most // 2, 1), 1, min(most, 2000))
        length = kept = data.draw(st.sampled_from(lengths), label="length")
        if ending != "whole":
            kept = data.draw(st.integers(0, length - 1), label="kept")
        body = self.random.randbytes(length)
        chunk = data.draw(st.sampled_from((97, 1000, LIMIT)), label="chunk")
        return Sent("fragment", who, first, body, total, kept, chunk, ending)

    async def _serve(self, named: SessionId, packets: list[Sent]) -> list[Outcome]:
        """The answers in order; to a stalled fragment first, and none to the last."""
        tasks, parcel = [], None
        flight = self.flights.pop(named, None)
        if flight is not None:
            tasks.append(flight)
        for sent in packets:
            parcel = Parcel(sent.body[: sent.kept], sent.chunk, sent.ending)
            tasks.append(asyncio.create_task(self._answer(named, sent, parcel)))
        assert parcel is not None
        quiet = asyncio.create_task(parcel.quiet.wait())
        await asyncio.wait(
            (tasks[-1], quiet),
            timeout=STEP_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        quiet.cancel()
        if parcel.quiet.is_set() and not tasks[-1].done():
            self.flights[named] = tasks.pop()
        return [await outcome(task) for task in tasks]

    async def _answer(self, named: SessionId, sent: Sent, parcel: Parcel) -> Ack:
        match sent.kind:
            case "close":
                return await self.sessions.close(CloseSession(named), sent.caller)
            case "cancel":
                return await self.sessions.cancel(CancelSession(named), sent.caller)
        fragment = Fragment(named, sent.first, sent.last, sent.total)
        return await self.sessions.fragment(fragment, sent.caller, parcel)

    def _expected(
        self, named: SessionId, packets: list[Sent], room: int | None
    ) -> list[Outcome]:
        answers = []
        if named in self.waiting:
            sent = self.waiting.pop(named)
            answers.append(self.model.finish(named, sent, Reason.SUPERSEDED))
        for position, sent in enumerate(packets, 1):
            answer = self.model.begin(named, sent, room)
            if answer is None and sent.ending == "stall" and position == len(packets):
                self.waiting[named] = sent
                break
            if answer is None:
                cut = sent.ending == "cut"
                reason = Reason.CUT_OFF if cut else Reason.SUPERSEDED
                answer = self.model.finish(named, sent, reason)
            answers.append(answer)
        return answers

    def _note(self, named: SessionId, answers: list[Outcome]) -> None:
        """Remember what was acknowledged, from the answers and not from the model."""
        upload = self.model.uploads.get(named)
        for answer in answers:
            if upload is not None and isinstance(answer, Ack):
                assert answer.received is not None
                assert answer.received >= upload.acknowledged
                upload.acknowledged = answer.received

    # The process and the clock

    @precondition(lambda self: self._complete_ones_in_flight() < 2)
    @rule()
    def stop_and_start(self) -> None:
        answers = self.runner.run(self._stopped(self.sessions))
        expected = self._expected_at_stop()
        self.runner.run(self._restart())

        assert answers == expected

    def _complete_ones_in_flight(self) -> int:
        """Two of them could race for a name, and a race has no expected winner."""
        uploads = (self.model.uploads[named] for named in self.waiting)
        return sum(len(upload.held) == upload.total for upload in uploads)

    async def _stopped(self, sessions: Sessions) -> dict[SessionId, Outcome]:
        sessions.stop()
        flights = dict(self.flights)
        self.flights.clear()
        return {named: await outcome(flight) for named, flight in flights.items()}

    def _expected_at_stop(self) -> dict[SessionId, Outcome]:
        waiting = dict(self.waiting)
        self.waiting.clear()
        return {
            named: self.model.finish(named, sent, Reason.STOPPING)
            for named, sent in waiting.items()
        }

    @rule(
        number=st.integers(1, 2**64),
        left=st.booleans(),
    )
    def crash(self, number, *, left) -> None:
        """With what a crash inside creating or deleting a session leaves."""
        self.runner.run(self._die())
        self.waiting.clear()
        if left:
            name = f"{{{str(UUID(int=number)).upper()}}}"
            self._litter(name)
        self.runner.run(self._restart())

    def _litter(self, name: str) -> None:
        if name not in self.model.litter:
            self._home(name).mkdir()
            (self._home(name) / "request").write_bytes(b"left")
            self.model.litter[name] = timedelta()

    @precondition(lambda self: self._delivered())
    @rule(data=st.data())
    def crash_between_name_and_record(self, data) -> None:
        """The file has its name, `session.json` does not say so, nobody was told."""
        named = data.draw(st.sampled_from(self._delivered()), label="session")
        self.crash(1, left=False)
        path = self._home(named) / "session.json"
        record = json.loads(path.read_bytes())
        record["state"] = "receive-fragments"
        path.write_text(json.dumps(record), "utf-8")
        path.with_name("session.json.new").write_bytes(b'{"format":')
        staged = path.with_name("publish")
        staged.unlink(missing_ok=True)
        staged.hardlink_to(path.with_name("request"))
        upload = self.model.uploads[named]
        upload.delivered, upload.age = False, timedelta()
        if data.draw(st.booleans(), label="sent again"):
            self._send(named, self._rest(upload))

    def _delivered(self) -> list[SessionId]:
        uploads = self.model.uploads.items()
        return [named for named, upload in uploads if upload.delivered]

    @precondition(lambda self: self._complete_ones_in_flight() < 2 and self._young())
    @rule(data=st.data())
    def hand_over(self, data) -> None:
        """A new process serves while the old one still waits for a body."""
        named = data.draw(st.sampled_from(self._young()), label="session")
        upload = self.model.uploads[named]
        assert upload.total is not None
        first = min(len(upload.held), upload.total - 1)
        sent = Sent("fragment", upload.caller, first, b"!", upload.total, 1)
        old = self.sessions
        self.runner.run(self._restart())
        answers = self.runner.run(self._serve(named, [sent]))
        assert answers == self._expected(named, [sent], None)
        self._note(named, answers)
        answers = self.runner.run(self._stopped(old))

        assert answers == self._expected_at_stop()

    def _young(self) -> list[SessionId]:
        uploads = self.model.uploads
        return [named for named in self.waiting if uploads[named].age < TIMEOUT]

    @rule(hours=st.sampled_from((5, 96, 96, 400)))
    def time_passes(self, hours) -> None:
        passed = timedelta(hours=hours)
        for named, upload in self.model.uploads.items():
            upload.age += passed
            make_older(self._home(named) / "request", passed)
            make_older(self._home(named) / "session.json", passed)
            make_older(self._home(named), passed)
        for name in self.model.litter:
            self.model.litter[name] += passed
            make_older(self._home(name), passed)

    @precondition(lambda self: self.waiting)
    @rule()
    def sweep_while_a_body_is_awaited(self) -> None:
        self.time_passes(400)
        self.sweep()

    @precondition(lambda self: self.model.uploads)
    @rule(data=st.data())
    def go_on_slowly(self, data) -> None:
        """Together longer than the time-out, but never without progress."""
        named = self._live(data)
        for _ in range(2):
            self.time_passes(200)
            upload = self.model.uploads.get(named)
            if upload is not None:
                self._send(named, [self._next(data, upload, "cut")])

    @rule()
    def sweep(self) -> None:
        self.runner.run(self.sessions.expire())
        model = self.model
        for named, upload in list(model.uploads.items()):
            if upload.age >= TIMEOUT and named not in self.waiting:
                del model.uploads[named]
        for name, age in list(model.litter.items()):
            if age >= LITTER_AGE:
                del model.litter[name]
                model.closed.pop(name.removeprefix("closed-"), None)

    # The administrator

    @rule(name=st.sampled_from(NAMES))
    def put_a_file(self, name) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        octets = self.random.randbytes(5)
        path.write_bytes(octets)
        self.model.files[name] = (octets, None)

    @rule(name=st.sampled_from(NAMES))
    def remove_a_file(self, name) -> None:
        (self.folder / name).unlink(missing_ok=True)
        self.model.files.pop(name, None)

    @precondition(lambda self: set(self.model.uploads) - set(self.waiting))
    @rule(data=st.data(), kind=st.sampled_from(("fragment", "close", "cancel")))
    def lose_the_bytes_of_a_session(self, data, kind) -> None:
        idle = [named for named in self.model.uploads if named not in self.waiting]
        named = data.draw(st.sampled_from(idle), label="session")
        upload = self.model.uploads.pop(named)
        (self._home(named) / "request").unlink()
        sent = Sent(kind, upload.caller, 0, b"!", 1, 1)
        answers = self.runner.run(self._serve(named, [sent]))
        close = kind == "close"

        assert answers == [Reason.ENTITY_GONE if close else Reason.SESSION_NOT_FOUND]

    # What is always true

    @invariant()
    def published_files_are_those_of_the_model_whole_and_identical(self) -> None:
        found = {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and "BITS-Sessions" not in path.parts
        }
        assert found == {name: held for name, (held, _) in self.model.files.items()}

    @invariant()
    def folders_are_those_of_the_sessions(self) -> None:
        homes = self.folder / "BITS-Sessions"
        found = {home.name for home in homes.iterdir()} if homes.exists() else set()
        assert found == {*self.model.uploads, *self.model.litter}

    @invariant()
    def sessions_hold_what_the_model_holds_and_all_that_was_acknowledged(self) -> None:
        for named, upload in self.model.uploads.items():
            held = (self._home(named) / "request").read_bytes()
            record = json.loads((self._home(named) / "session.json").read_bytes())
            assert held == upload.held
            assert len(held) >= upload.acknowledged
            assert record["total"] == upload.total
            assert (record["state"] == "wait-for-close") == upload.delivered


@pytest.mark.timeout(0 if LONG else 60)
@pytest.mark.parametrize("overwrite", [False, True], ids=["keep", "overwrite"])
def test_sessions_and_files_are_those_of_the_model_after_every_step(overwrite):
    run_state_machine_as_test(
        lambda: SessionsMachine(overwrite=overwrite), settings=SETTINGS
    )
