"""Random clients, cuts and kills against a real process, over real sockets.

The model knows what a client may know: what it sent, and what it was told. A session
holds no less than was acknowledged and no more than was sent; a name has no file or
a whole one, and always the same.
"""

import asyncio
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
from processes import children, lives
from wire_client import (
    NOBODY,
    PATIENCE,
    Answer,
    Line,
    cancel,
    close,
    create,
    fetch,
    fragment,
    ping,
    ranged,
)

from bitsd import loops

#: BITSD_LONG=1 runs fifty times as many examples, other ones each time.
LONG = os.environ.get("BITSD_LONG") == "1"
SETTINGS = settings(
    max_examples=40 * (50 if LONG else 1),
    stateful_step_count=30,
    deadline=None,
    derandomize=not LONG,
    database=None,
    # What fails is shown as it was found: a process does not repeat itself.
    phases=[Phase.generate],
    # A step waits for another process.
    suppress_health_check=[HealthCheck.too_slow],
)

CONFIG = """
workers = {workers}

[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/in"
path = "in"
upload = true
maximum_upload_size = 400000
sessions_per_user = 10000
"""

TOTALS = (0, 1, 2, 1000, 70_000, 300_000)
TOO_LARGE = 400_001
CONNECTIONS = 3

#: BITS-Error of the refusals that a packet of these machines can meet.
EXISTS = (403, "0x80070005")
MALFORMED = (400, "0x80070057")
NO_SESSION = (500, "0x8020001F")
OVER_LIMIT = (500, "0x80200020")


@dataclass
class Daemon:
    """The server process, which rules may kill, and its folder."""

    home: Path
    url: str = ""
    names: Iterator[int] = field(default_factory=itertools.count)
    process: subprocess.Popen[str] | None = None

    @property
    def folder(self) -> Path:
        return self.home / "in"

    def start(self) -> None:
        arguments = (sys.executable, "-m", "bitsd", "serve", "--config", "bitsd.toml")
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                arguments,
                cwd=self.home,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        match = re.search(r"http://[\w.:]+", self.process.stdout.readline())
        assert match is not None
        self.url = match[0]

    def end(self, number: signal.Signals) -> int:
        """Send a signal; the exit code."""
        assert self.process is not None
        workers = children(self.process.pid)
        with self.process:
            self.process.send_signal(number)
            code = self.process.wait(PATIENCE * 2)
        # Those of a supervisor that was killed end by themselves.
        deadline = time.monotonic() + PATIENCE * 2
        while any(map(lives, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return code

    @property
    def faults(self) -> list[str]:
        """What it logged that should never be."""
        text = (self.home / "log").read_text("utf-8")
        return re.findall(r".*(?:internal error|Traceback|never awaited).*", text)


@dataclass
class Upload:
    """What a client knows of its session.

    Attributes:
        low: highest offset that was acknowledged.
        high: what the server holds if all that was sent has arrived.
        sized: the server is known to know the total.
        tried: some of a fragment was sent, so the server may know the total.
        open: a packet may still find the session.
        loose: packets of it were not answered and may not even have been read.
        done: its file was acknowledged, whole.
    """

    target: str
    named: str
    entity: bytes
    low: int = 0
    high: int = 0
    sized: bool = False
    tried: bool = False
    open: bool = True
    closed: bool = False
    loose: bool = False
    done: bool = False

    @property
    def total(self) -> int:
        return len(self.entity)


@dataclass(frozen=True)
class Sent:
    """A packet or a download; of an upload unless it is a Ping."""

    kind: str
    upload: Upload
    first: int = 0
    after: int = 0

    @property
    def octets(self) -> bytes:
        target, named = self.upload.target, self.upload.named
        if self.kind in ("ping", "get"):
            return {"ping": ping, "get": fetch}[self.kind](target)
        if self.kind in ("close", "cancel"):
            return {"close": close, "cancel": cancel}[self.kind](target, named)
        if self.kind == "stranger":
            return cancel(f"{target}.other", named)
        if self.kind == "empty":
            return ranged(target, named, "bytes */0", b"")
        body = self.upload.entity[self.first : self.after]
        total = {"other total": self.upload.total + 1, "too large": TOO_LARGE}
        return fragment(
            target, named, self.first, body, total.get(self.kind, self.upload.total)
        )

    def arrives(self, missing: int = 0) -> None:
        """Note that its bytes, but for the last `missing`, may now be held."""
        after = self.after - missing
        self.upload.tried |= self.kind in ("fragment", "empty")
        if self.kind == "fragment" and self.first <= self.upload.high:
            self.upload.high = max(self.upload.high, after)

    def loosen(self) -> None:
        """Note that it was sent, and will not be answered."""
        self.upload.loose = True


def error(answer: Answer) -> tuple[int, str | None]:
    code, same, _context = answer.error
    assert code == same
    return answer.status, code


class SocketMachine(RuleBasedStateMachine):
    def __init__(self, daemon: Daemon, runner: asyncio.Runner) -> None:
        super().__init__()
        self.daemon = daemon
        self.runner = runner
        self.lines: list[Line] = []
        self.stalled: list[tuple[Line, Sent, bytes]] = []
        self.uploads: list[Upload] = []
        self.files: dict[str, bytes] = {}
        self.nobodys = Upload("/in/nobody.dat", NOBODY, b"nobody", open=False)
        example = next(daemon.names)
        self.targets = [f"/in/{example}-{letter}.dat" for letter in "abc"]

    @initialize(mortal=st.sampled_from((False, False, True)))
    def dial(self, mortal) -> None:
        self.mortal = mortal
        self._run(self._dial())
        self.create(0, 0, 70_000)
        self.create(1, 1, 300_000)

    async def _dial(self) -> None:
        self.lines = [await Line.dial(self.daemon.url) for _ in range(CONNECTIONS)]

    def _run(self, step):
        async def in_time():
            async with asyncio.timeout(PATIENCE * 2):
                return await step

        return self.runner.run(in_time())

    def teardown(self) -> None:
        self._run(self._leave())

    async def _leave(self) -> None:
        """Give up what is open; nothing of it may stay."""
        for line, *_ in self.stalled:
            await line.hang_up()
        await self._settle()
        line = await Line.dial(self.daemon.url)
        for upload in self.uploads:
            if upload.open:
                answer = await line.ask(cancel(upload.target, upload.named))
                assert answer.status == 200, answer
        for each in (line, *self.lines):
            await each.hang_up()
        left = {path.name for path in (self.daemon.folder / "BITS-Sessions").iterdir()}
        assert not left & {upload.named for upload in self.uploads}

    async def _settle(self) -> None:
        """Wait until the server has begun with all that was sent before.

        It accepts in order, and reads every connection that has something before
        it comes back to one of them.
        """
        line = await Line.dial(self.daemon.url)
        for _ in range(2):
            assert (await line.ask(ping("/in/a"))).status == 200
        await line.hang_up()
        for upload in self.uploads:
            upload.loose = False

    # What clients do

    @rule(
        at=st.integers(0, CONNECTIONS - 1),
        name=st.integers(0, 2),
        total=st.sampled_from(TOTALS),
    )
    def create(self, at, name, total) -> None:
        target = self.targets[name]
        before = self._file(target)
        answer = self._run(self.lines[at].ask(create(target)))
        if answer.status == 200:
            named = answer.get("BITS-Session-Id")
            assert named is not None
            entity = random.Random(len(self.uploads)).randbytes(total)
            self.uploads.append(Upload(target, named, entity))
            assert before is None
        else:
            assert error(answer) == EXISTS
            assert self._file(target) is not None

    @rule(at=st.integers(0, CONNECTIONS - 1), data=st.data())
    def go_on(self, at, data) -> None:
        """The next fragment, as a client sends it that nothing happens to."""
        upload = self._upload(data, self._open())
        parts = data.draw(st.integers(1, 3), label="parts")
        after = upload.low + -(-(upload.total - upload.low) // parts)
        sent = Sent("fragment" if upload.total else "empty", upload, upload.low, after)
        if upload.low < upload.total or not upload.total:
            self._run(self._talk(self.lines[at], [sent], []))

    @rule(at=st.integers(0, CONNECTIONS - 1), data=st.data())
    def finish(self, at, data) -> None:
        """All the rest, and Close twice, as when its first Ack is lost."""
        upload = self._upload(data, self._open())
        packets = [Sent("close", upload), Sent("close", upload), Sent("get", upload)]
        if upload.low < upload.total:
            packets.insert(0, Sent("fragment", upload, upload.low, upload.total))
        self._run(self._talk(self.lines[at], packets, []))

    @rule(at=st.integers(0, CONNECTIONS - 1), data=st.data(), now=st.booleans())
    def talk(self, at, data, now) -> None:
        """Packets in one go, in pieces, and their answers."""
        kinds = st.sampled_from((*KINDS, *LAST))
        packets = [
            self._packet(data, data.draw(kinds, label="kind"))
            for _ in range(data.draw(st.integers(1, 3), label="packets"))
        ]
        cuts = data.draw(st.lists(st.integers(0, 1000), max_size=3), label="cuts")
        if not now:
            self._run(self._settle())
        self._run(self._talk(self.lines[at], packets, cuts))

    @rule(
        at=st.integers(0, CONNECTIONS - 1),
        data=st.data(),
        kept=st.integers(0, 999),
        ending=st.sampled_from(("fin", "rst", "stall", "stall")),
    )
    def break_off(self, at, data, kept, ending) -> None:
        """Packets up to any byte, and then FIN, RST or silence."""
        packets = [
            self._packet(data, data.draw(st.sampled_from(KINDS), label="kind"))
            for _ in range(data.draw(st.integers(0, 1), label="packets before"))
        ]
        upload = self._upload(data, self._open())
        first = min(upload.low, max(upload.total - 1, 0))
        if upload.total:
            packets.append(Sent("fragment", upload, first, upload.total))
        if packets:
            self._run(self._break_off(at, packets, kept, ending))

    @rule(data=st.data())
    def send_the_rest(self, data) -> None:
        """A connection that was silent comes back."""
        at = data.draw(st.integers(0, 11), label="stalled")
        if not self.stalled:
            return
        line, sent, rest = self.stalled.pop(at % len(self.stalled))
        sent.arrives()
        self._run(self._send_the_rest(line, sent, rest))

    @precondition(lambda self: self.mortal)
    @rule(number=st.sampled_from((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
    def end_the_process(self, number) -> None:
        """And start it again; what it had said before still holds."""
        self.mortal = False
        code = self.daemon.end(number)
        self.daemon.start()
        lines = [*self.lines, *(line for line, *_ in self.stalled)]
        self.stalled.clear()
        for upload in self.uploads:
            upload.loose = False
        for line in lines:
            self._run(line.hang_up())
        self._run(self._dial())

        assert code == (0 if number == signal.SIGTERM else -number)

    def _open(self) -> list[Upload]:
        return [upload for upload in self.uploads if upload.open] or self.uploads

    def _upload(self, data, uploads: list[Upload]) -> Upload:
        """Hypothesis repeats choices, and a server's answers may not be repeated.

        So what there is to choose from never depends on them.
        """
        number = data.draw(st.integers(0, 11), label="upload")
        return uploads[number % len(uploads)] if uploads else self.nobodys

    def _packet(self, data, kind: str) -> Sent:
        gone = data.draw(st.sampled_from((False, False, False, True)), label="gone")
        upload = self._upload(data, self.uploads if gone else self._open())
        place = data.draw(st.integers(0, 4), label="first")
        length = data.draw(st.sampled_from((TOO_LARGE, 1, 5000)), label="length")
        total = upload.total
        if kind in ("ping", "get", "close", "cancel", "stranger"):
            return Sent(kind, upload)
        if kind == "other total" and not upload.sized:
            return Sent("ping", upload)
        if not total:
            return Sent("ping" if kind in ODD else "empty", upload)
        places = (upload.low, 0, upload.low // 2, upload.high, upload.high + 1)
        first = min(places[place], total - 1)
        return Sent(kind, upload, first, min(first + length, total))

    async def _talk(self, line: Line, packets: list[Sent], cuts: list[int]) -> None:
        octets = b"".join(sent.octets for sent in packets)
        await self._send(line, octets, cuts)
        for sent in packets:
            sent.arrives()
            self._check(sent, await line.receive())

    async def _send(self, line: Line, octets: bytes, cuts: list[int]) -> None:
        """In pieces, cut at these thousandths, each of which the server has read."""
        marks = sorted({cut * len(octets) // 1000 for cut in cuts})
        for start, end in itertools.pairwise((0, *marks, len(octets))):
            if start:
                other = await Line.dial(self.daemon.url)
                await other.ask(ping("/in/a"))
                await other.hang_up()
            await line.send(octets[start:end])

    async def _break_off(
        self, at: int, packets: list[Sent], kept: int, ending: str
    ) -> None:
        line = self.lines[at]
        self.lines[at] = await Line.dial(self.daemon.url)
        *whole, part = packets
        if ending == "stall":
            await self._talk(line, whole, [])
            whole = []
        octets = b"".join(sent.octets for sent in whole)
        missing = len(part.octets) - len(part.octets) * kept // 1000
        for sent in (*whole, part):
            sent.arrives(0 if sent is not part else missing)
            sent.loosen()
        await line.send(octets + part.octets[:-missing])
        match ending:
            case "stall":
                self.stalled.append((line, part, part.octets[-missing:]))
                return
            case "rst":
                line.reset()
            case "fin":
                line.finish()
                await self._hear(line, packets)
        await line.hang_up()

    async def _send_the_rest(self, line: Line, sent: Sent, rest: bytes) -> None:
        sent.loosen()
        try:
            await line.send(rest)
        except ConnectionError:
            return
        finally:
            await self._hear(line, [sent])
            await line.hang_up()

    async def _hear(self, line: Line, packets: list[Sent]) -> None:
        """What answers come before the server hangs up; they may be old by now."""
        for sent in packets:
            try:
                answer = await line.receive()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self._check_late(sent, answer)

    # What the server may say

    def _check(self, sent: Sent, answer: Answer) -> None:
        upload = sent.upload
        if sent.kind == "get":
            self._check_download(upload, answer)
        elif sent.kind == "ping" or (sent.kind == "close" and upload.closed):
            assert answer.status == 200, answer
        elif not upload.open or sent.kind == "stranger":
            assert error(answer) == NO_SESSION
        else:
            self._check_in_session(sent, answer)

    def _check_in_session(self, sent: Sent, answer: Answer) -> None:
        match sent.kind:
            case "close":
                self._check_close(sent.upload, answer)
            case "cancel":
                assert answer.status == 200, answer
                sent.upload.open = False
            case "other total":
                assert error(answer) == MALFORMED
            case "too large":
                self._check_too_large(sent.upload, error(answer))
            case _:
                self._check_fragment(sent, answer)

    def _check_too_large(self, upload: Upload, refusal: tuple[int, str | None]) -> None:
        """Once the total is known, any other is wrong, whether too large or not."""
        if upload.sized:
            assert refusal == MALFORMED
        elif not upload.tried:
            assert refusal == OVER_LIMIT
        assert refusal in (OVER_LIMIT, MALFORMED)
        upload.open = refusal == MALFORMED

    def _check_fragment(self, sent: Sent, answer: Answer) -> None:
        upload, received = sent.upload, answer.received
        if answer.status == 409:
            assert upload.loose
            return
        if answer.status == 403:
            assert error(answer) == EXISTS
            assert upload.high == upload.total
            assert not upload.done
            assert self._file(upload.target) in self._whole(upload.target, upload)
            return
        assert answer.status in (200, 416), answer
        assert received is not None
        assert upload.low <= received <= upload.high
        if answer.status == 416:
            assert sent.first > received
        else:
            assert received >= sent.after
            upload.sized = True
        certain = upload.low == upload.high and not upload.loose
        assert not certain or received == upload.high
        self._note(upload, received, answer)
        if not upload.loose:
            upload.high = received

    def _note(self, upload: Upload, received: int, answer: Answer) -> None:
        upload.low = max(upload.low, received)
        if answer.status == 200 and received == upload.total:
            upload.done = True
            assert self._file(upload.target) == upload.entity

    def _check_close(self, upload: Upload, answer: Answer) -> None:
        upload.open = False
        if answer.status == 200:
            upload.closed = True
            assert upload.high == upload.total
            assert self._file(upload.target) == upload.entity
        else:
            assert error(answer) == MALFORMED
            assert not upload.done

    def _check_download(self, upload: Upload, answer: Answer) -> None:
        if answer.status == 404:
            mine = [each for each in self.uploads if each.target == upload.target]
            assert not any(each.done for each in mine)
        else:
            assert answer.status == 200, answer
            assert answer.body == self._file(upload.target)

    def _check_late(self, sent: Sent, answer: Answer) -> None:
        """An answer to what was broken off, about a moment nobody knows."""
        upload = sent.upload
        if sent.kind in ("ping", "get"):
            return
        assert answer.status in (200, 400, 403, 408, 409, 416, 500), answer
        if answer.status == 500:
            assert error(answer) in (NO_SESSION, OVER_LIMIT)
            assert sent.kind == "too large" or not upload.open
            upload.open = False
        if answer.received is not None:
            assert answer.received <= upload.high
            assert answer.status == 200 or sent.first > answer.received
            self._note(upload, answer.received, answer)

    def _file(self, target: str) -> bytes | None:
        path = self.daemon.folder / target.removeprefix("/in/")
        return path.read_bytes() if path.exists() else None

    def _whole(self, target: str, but: Upload | None = None) -> list[bytes]:
        """The entities that may have got the name, all of their bytes being sent."""
        return [
            each.entity
            for each in self.uploads
            if each.target == target and each.high == each.total and each is not but
        ]

    # What is always true

    @invariant()
    def a_name_has_no_file_or_always_the_same_whole_one(self) -> None:
        for target in self.targets:
            found = self._file(target)
            if found is None:
                assert target not in self.files
                assert not any(up.done for up in self.uploads if up.target == target)
            else:
                assert self.files.setdefault(target, found) == found
                assert found in self._whole(target)


ODD = ("other total", "too large")
KINDS = ("fragment",) * 5 + ("ping", "get", "other total")
LAST = ("close", "cancel", "too large", "stranger")


@pytest.fixture
def workers() -> int:
    return 1


@pytest.fixture
def daemon(tmp_path: Path, workers: int) -> Iterator[Daemon]:
    """A server process; whichever runs at the end is killed."""
    daemon = Daemon(tmp_path)
    daemon.folder.mkdir()
    (tmp_path / "bitsd.toml").write_text(CONFIG.format(workers=workers), "utf-8")
    daemon.start()
    yield daemon
    daemon.end(signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.timeout(0 if LONG else 60)
def test_clients_are_told_what_is_true_whatever_happens_to_them(daemon: Daemon):
    with asyncio.Runner(loop_factory=loops.factory()) as runner:
        run_state_machine_as_test(
            lambda: SocketMachine(daemon, runner), settings=SETTINGS
        )

    assert daemon.faults == []
