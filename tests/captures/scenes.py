"""What the captures show: a server, what lies in its folder, and what a client does.

Every scene is both made and tested by this: `record` captures it, and the tests play
the capture to a server that is set up in the same way.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from signing import basic
from sites import EVERYBODY, Application
from wire_client import (
    NOBODY,
    Line,
    Lines,
    cancel,
    close,
    create,
    fetch,
    fragment,
    packet,
    ping,
    ranged,
    request,
)

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER.parents[1] / "examples"

#: Where the captured server has its directory.
TARGET = "/in/report.dat"

PART = 3000


def octets(count: int) -> bytes:
    """Bytes that are the same on every day, and that no packing makes less."""
    return random.Random(count).randbytes(count)


ENTITY = octets(2 * PART + 1500)
FILE = octets(20_000)
REPLY = octets(4000)
PARTS = [ENTITY[first : first + PART] for first in range(0, len(ENTITY), PART)]


ALICE = ("alice", "correct horse")
CAROL = ("carol", "battery staple")

#: A users file, the same on every day.
USERS = """\
alice:$2b$04$ExfCaCdspmDmAxRCQJlEn.L4k2rZC4LB24LgN.0RNyiBBUoFJytZ2
carol:$2b$04$jG6Z7nMXoO7/NlZR/gaLRODB4jJWsg6FPy17GcN2W6.aY5WTI5RUi
"""


@dataclass
class Stage:
    """The server of a scene, and a folder for what its clients need.

    Attributes:
        url: scheme, host and port.
    """

    url: str
    folder: Path
    lines: Lines = field(default_factory=Lines)

    async def dial(self) -> Line:
        """A new connection."""
        return await self.lines.dial(self.url)

    async def run(self, *command: str | Path, **settings: str) -> None:
        """A command that works."""
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env={"PATH": "/usr/bin:/bin", **settings}
        )
        assert await process.wait() == 0, command


Act = Callable[[Stage], Awaitable[None]]

#: Who broke a rule, and where it stands.
Broken = tuple[str, str]

#: A client that did not follow BITS-Received-Content-Range.
ASTRAY = ("client", "[MC-BUP] 3.1.5.1.4")


@dataclass(frozen=True)
class Scene:
    """A capture and how it comes about.

    Attributes:
        told: for the README.
        settings: lines for the directory of the server.
        files: what lies in the folder before.
        broken: the rules that are broken in it.
        cuts: a connection breaks in it.
        user: name and password, where the server wants them; then it has the users
            of `USERS`.
        who: may read and write.
        reply: what an application answers each upload with; None without one.
    """

    act: Act
    told: str
    settings: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()
    cuts: bool = False
    user: tuple[str, str] | None = None
    who: str = EVERYBODY
    reply: bytes | None = None

    @property
    def top(self) -> str:
        """Lines for the begin of the server's configuration."""
        return "" if self.user is None else 'users = "users"\n'

    def directory(self, application: Application) -> str:
        """Lines for the directory of the server."""
        if self.reply is None:
            return self.settings
        application.body = self.reply
        url = f'notification_url = "{application.url}"\n'
        return f'{self.settings}notification = "by-value"\n{url}'

    def furnish(self, home: Path) -> None:
        """Put what the server needs beside its configuration, and into its folder."""
        (home / "in").mkdir(exist_ok=True)
        for name, octets in self.files.items():
            (home / "in" / name).write_bytes(octets)
        if self.user is not None:
            (home / "users").write_text(USERS, "utf-8")

    @property
    def name(self) -> str:
        """The name of the file without its ending."""
        return self.act.__name__.replace("_", "-")

    @property
    def capture(self) -> Path:
        """The file."""
        return FOLDER / f"{self.name}.pcap.gz"


async def put(line: Line, named: str, first: int, body: bytes) -> int | None:
    """Send a fragment of `ENTITY`; the offset that the server wants next."""
    octets = fragment(TARGET, named, first, body, len(ENTITY))
    return (await line.ask(octets)).received


async def simple(stage: Stage) -> None:
    line = await stage.dial()
    await line.ask(ping(TARGET))
    named = await line.upload(TARGET, *PARTS)
    await line.ask(close(TARGET, named))


async def curl(stage: Stage) -> None:
    (stage.folder / "report.dat").write_bytes(ENTITY)
    script = (EXAMPLES / "upload.sh", "report.dat", stage.url + TARGET)
    await stage.run(*script, BITS_FRAGMENT=str(PART))


async def our_client(stage: Stage) -> None:
    (stage.folder / "report.dat").write_bytes(ENTITY)
    bitsd = (sys.executable, "-m", "bitsd")
    state = {"XDG_STATE_HOME": str(stage.folder / "state")}
    url = stage.url + TARGET
    upload = ("upload", "report.dat", url, "--fragment-size", "5KiB")
    await stage.run(*bitsd, *upload, **state)
    await stage.run(*bitsd, "download", url, "copy.dat", **state)


async def expect(stage: Stage) -> None:
    (stage.folder / "piece").write_bytes(ENTITY)
    line = await stage.dial()
    named = await line.create(TARGET)
    fields = (
        "Expect: 100-continue",
        "BITS-Packet-Type: Fragment",
        f"BITS-Session-Id: {named}",
        f"Content-Range: bytes 0-{len(ENTITY) - 1}/{len(ENTITY)}",
    )
    headers = [word for each in fields for word in ("--header", each)]
    command = ("curl", "--silent", "--request", "BITS_POST", "--globoff", *headers)
    await stage.run(*command, "--data-binary", "@piece", stage.url + TARGET)
    await line.ask(close(TARGET, named))


async def interrupted(stage: Stage, *, reset: bool) -> None:
    """Break off inside the second fragment, and go on over a new connection."""
    line = await stage.dial()
    named = await line.create(TARGET)
    await put(line, named, 0, PARTS[0])
    part = fragment(TARGET, named, PART, PARTS[1], len(ENTITY))
    await line.send(part[:-1000])
    if reset:
        # What was sent is not to be overtaken by the end.
        await asyncio.sleep(0.1)
        line.reset()
    else:
        line.finish()
        await line.ended()
    await line.hang_up()
    line = await stage.dial()
    await line.ask(ping(TARGET))
    for number, body in enumerate(PARTS[1:], 1):
        await put(line, named, number * PART, body)
    await line.ask(close(TARGET, named))


async def resumed(stage: Stage) -> None:
    await interrupted(stage, reset=False)


async def resumed_after_reset(stage: Stage) -> None:
    await interrupted(stage, reset=True)


async def gap(stage: Stage) -> None:
    line = await stage.dial()
    named = await line.create(TARGET)
    await put(line, named, 0, PARTS[0])
    assert await put(line, named, 2 * PART, PARTS[2]) == PART
    await put(line, named, PART, ENTITY[PART:])
    await line.ask(close(TARGET, named))


async def overlap(stage: Stage) -> None:
    line = await stage.dial()
    named = await line.create(TARGET)
    await put(line, named, 0, PARTS[0])
    assert await put(line, named, PART - 500, ENTITY[PART - 500 :]) == len(ENTITY)
    await line.ask(close(TARGET, named))


async def duplicate(stage: Stage) -> None:
    line = await stage.dial()
    named = await line.create(TARGET)
    await put(line, named, 0, PARTS[0])
    assert await put(line, named, 0, PARTS[0]) == PART
    await put(line, named, PART, ENTITY[PART:])
    assert await put(line, named, PART, ENTITY[PART:]) == len(ENTITY)
    await line.ask(close(TARGET, named))
    await line.ask(close(TARGET, named))


async def cancelled(stage: Stage) -> None:
    line = await stage.dial()
    named = await line.create(TARGET)
    await put(line, named, 0, PARTS[0])
    await line.ask(cancel(TARGET, named))
    assert await put(line, named, PART, PARTS[1]) is None


async def refused(stage: Stage) -> None:
    line = await stage.dial()
    assert (await line.ask(create(TARGET))).status == 403
    assert (await line.ask(create("/in/nowhere/report.dat"))).status == 404
    assert (await line.ask(create("/in/"))).status == 400


async def too_large(stage: Stage) -> None:
    line = await stage.dial()
    named = await line.create(TARGET)
    answer = await line.ask(fragment(TARGET, named, 0, PARTS[0], len(ENTITY)))
    assert answer.status == 500


async def malformed(stage: Stage) -> None:
    line = await stage.dial()
    await line.ask(packet(TARGET, "Frobnicate"))
    named = await line.create(TARGET)
    await line.ask(ranged(TARGET, named, "bytes 10-9/10", b""))
    await line.ask(ranged(TARGET, named, f"bytes 0-9/{PART}", PARTS[0]))
    protocols = "{11111111-2222-3333-4444-555555555555}"
    await line.ask(create(TARGET, protocols))


async def unknown_session(stage: Stage) -> None:
    line = await stage.dial()
    assert (await line.ask(close(TARGET, NOBODY))).status == 500
    assert await put(line, NOBODY, 0, PARTS[0]) is None
    named = await line.upload(TARGET, *PARTS)
    await line.ask(close(TARGET, named))


async def two_connections(stage: Stage) -> None:
    stalled, newer = await stage.dial(), await stage.dial()
    named = await stalled.create(TARGET)
    await put(stalled, named, 0, PARTS[0])
    part = fragment(TARGET, named, PART, PARTS[1], len(ENTITY))
    await stalled.send(part[:-1000])
    # So that the newer packet is the newer one for the server, too.
    await asyncio.sleep(0.2)
    await put(newer, named, PART, PARTS[1])
    answer = await stalled.receive()
    assert answer.status == 409
    await put(newer, named, 2 * PART, PARTS[2])
    await newer.ask(close(TARGET, named))


async def empty(stage: Stage) -> None:
    for number, span in enumerate(("*/0", "0-0/0", "0--1/0")):
        line = await stage.dial()
        target = f"/in/empty{number}.dat"
        named = await line.create(target)
        answer = await line.ask(ranged(target, named, f"bytes {span}", b""))
        assert answer.received == 0
        await line.ask(close(target, named))


async def download(stage: Stage) -> None:
    line = await stage.dial()
    head = await line.ask(fetch("/in/file.bin", method="HEAD"), head=True)
    unmodified = ("If-Unmodified-Since", str(head.get("Last-Modified")))
    for span in ("0-6361", "6362-19999", "-100", "19990-30000"):
        fields = (unmodified, ("Range", f"bytes={span}"))
        answer = await line.ask(fetch("/in/file.bin", *fields))
        assert answer.status == 206
    assert (await line.ask(fetch("/in/file.bin"))).body == FILE


async def twenty_ranges(stage: Stage) -> None:
    line = await stage.dial()
    spans = [f"{first}-{first + 399}" for first in range(0, 20_000, 1000)]
    wanted = ("Range", f"bytes={','.join(spans)}")
    answer = await line.ask(fetch("/in/file.bin", wanted))
    assert answer.body.count(b"Content-Range: ") == 20


async def unsatisfiable(stage: Stage) -> None:
    line = await stage.dial()
    for method in ("GET", "HEAD"):
        head = method == "HEAD"
        await line.ask(fetch("/in/none.bin", method=method), head=head)
    answer = await line.ask(fetch("/in/file.bin", ("Range", "bytes=20000-")))
    assert answer.status == 416
    old = ("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")
    assert (await line.ask(fetch("/in/file.bin", old))).status == 412


async def cut_download(stage: Stage) -> None:
    line = await stage.dial()
    await line.send(fetch("/in/large.bin"))
    await line.reader.readexactly(100_000)
    line.reset()
    line = await stage.dial()
    answer = await line.ask(fetch("/in/large.bin", ("Range", "bytes=100000-109999")))
    assert len(answer.body) == 10_000


async def pipelined(stage: Stage) -> None:
    line = await stage.dial()
    spans = [("Range", f"bytes={first}-{first + 999}") for first in (0, 5000, 9000)]
    asked = [fetch("/in/file.bin", span) for span in spans]
    await line.send(b"".join(asked) + request("OPTIONS", "/in/"))
    for _ in range(4):
        await line.receive()


async def signed_in(stage: Stage) -> None:
    line = await stage.dial()
    assert (await line.ask(ping(TARGET))).status == 401
    assert (await line.ask(basic(ping(TARGET), *ALICE))).status == 200
    named = (await line.ask(basic(create(TARGET), *ALICE))).get("BITS-Session-Id")
    assert named is not None
    first = 0
    for body in PARTS:
        part = fragment(TARGET, named, first, body, len(ENTITY))
        if first == PART:
            # A client that has lost its credentials is asked for them again.
            assert (await line.ask(part)).status == 401
        first += len(body)
        assert (await line.ask(basic(part, *ALICE))).received == first
    assert (await line.ask(basic(close(TARGET, named), *ALICE))).status == 200


async def not_let_in(stage: Stage) -> None:
    line = await stage.dial()
    assert (await line.ask(create(TARGET))).status == 401
    assert (await line.ask(basic(create(TARGET), *CAROL))).status == 403


async def replied(stage: Stage) -> None:
    line = await stage.dial()
    named = await line.create(TARGET)
    await put(line, named, 0, PARTS[0])
    last = fragment(TARGET, named, PART, ENTITY[PART:], len(ENTITY))
    url = (await line.ask(last)).get("BITS-Reply-URL")
    assert url is not None
    reply = urlsplit(url).path
    answer = await line.ask(fetch(reply, ("Range", "bytes=0-999")))
    assert answer.body == REPLY[:1000]
    assert (await line.ask(fetch(reply))).body == REPLY
    await line.ask(close(TARGET, named))
    assert (await line.ask(fetch(reply))).status == 404


_FILE = {"file.bin": FILE}
_ALICE_WRITES = 'read = ["*"]\nwrite = ["alice"]'

SCENES = [
    Scene(simple, "a Ping and an upload in three fragments, over one connection"),
    Scene(curl, "an upload by `examples/upload.sh`, so by curl: a connection each"),
    Scene(our_client, "`bitsd upload`, then `bitsd download`"),
    Scene(expect, "a fragment from curl with Expect: 100-continue"),
    Scene(
        resumed,
        "the client closes inside the second fragment and goes on over another "
        "connection, beginning with a Ping",
        cuts=True,
    ),
    Scene(resumed_after_reset, "the same with RST", cuts=True),
    Scene(gap, "a fragment leaves a gap: 416 and the offset", broken=(ASTRAY,)),
    Scene(overlap, "a fragment repeats 500 bytes", broken=(ASTRAY,)),
    Scene(
        duplicate,
        "the first and the last fragment and Close-Session come twice",
        broken=(ASTRAY, ASTRAY),
    ),
    Scene(
        cancelled,
        "Cancel-Session, and a fragment after it",
    ),
    Scene(
        refused,
        "Create-Session for a file that exists, in a folder that does not, and for a "
        "folder",
        files={"report.dat": b"here before"},
    ),
    Scene(
        too_large,
        "a file that is larger than the server allows",
        settings='maximum_upload_size = "5kB"',
    ),
    Scene(
        malformed,
        "an unknown packet type, two wrong Content-Ranges, an unknown protocol",
        broken=(
            ("client", "[MC-BUP] 2.2.1.2"),
            ("client", "[MC-BUP] 3.2.5.2.6"),
            ("client", "[MC-BUP] 3.2.5.2.6"),
            ("client", "[MC-BUP] 2.2.2.2"),
        ),
    ),
    Scene(
        unknown_session,
        "two packets of a session that never was, then one that is",
        broken=(("client", "[MC-BUP] 3.1.5.2.1"),),
    ),
    Scene(
        two_connections,
        "a fragment stalls, and comes again over a second connection, which wins",
    ),
    Scene(empty, "files of no bytes, in three ways of saying it"),
    Scene(download, "HEAD, single ranges with If-Unmodified-Since, all", files=_FILE),
    Scene(twenty_ranges, "one GET with 20 ranges, as of BITS 7.0", files=_FILE),
    Scene(unsatisfiable, "404, 416 and 412 to downloads", files=_FILE),
    Scene(pipelined, "four requests at once, then their answers", files=_FILE),
    Scene(
        signed_in,
        "an upload where everyone has to sign in, by Basic: 401, then a password with "
        "each packet; one fragment comes without, and again",
        user=ALICE,
        who=_ALICE_WRITES,
    ),
    Scene(
        replied,
        "an upload with a reply of an application, which is fetched, and gone after "
        "Close-Session",
        reply=REPLY,
    ),
    Scene(
        not_let_in,
        "a user who may not upload: 401, then 403",
        user=CAROL,
        who=_ALICE_WRITES,
    ),
    Scene(
        cut_download,
        "the client resets a download and goes on with a range",
        files={"large.bin": bytes(3_000_000)},
        cuts=True,
    ),
]
