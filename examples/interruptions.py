"""A file up and down again, past cut connections and a server that is killed.

Starts `bitsd serve`, uploads a file to it as the BITS client of Windows does, and
downloads it in random ranges. On the way connections are closed and reset in the
middle of fragments, and the server gets SIGKILL and starts anew. In the end the
SHA-256 of what came back is compared with that of what was sent.

    python examples/interruptions.py --size 2GiB --seed 1

Needs three times the size on the disk, and the Python that bitsd is installed in.
Everything on the wire is written out here with sockets, so this also shows what a
client of [MC-BUP] has to do: follow `BITS-Received-Content-Range`, whatever happens.

Exit code 0 only if both files are equal. Otherwise the files and the server's log
are left for a look at them.
"""

import argparse
import hashlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from plain_http import MIB, Answer, Connection, Unexpected, expect
from ranged_download import Download

PROTOCOL = "{7df0354d-249b-430f-820d-3d2a9bef4931}"  # [MC-BUP] 1.7.1
LARGEST_FRAGMENT = 16 * MIB
UNITS = {"": 1, "KiB": 1 << 10, "MiB": MIB, "GiB": 1 << 30}

CONFIG = """\
[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/files"
path = "files"
upload = true
"""


class Server:
    """`bitsd serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "files").mkdir()
        self._config = folder / "bitsd.toml"
        self._config.write_text(CONFIG, "utf-8")
        self._log = folder / "server.log"
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens.

        The system chooses the port each time, since another program could take one
        while the server is down.
        """
        serve = ["-m", "bitsd", "serve", "--config", str(self._config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *serve], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        match = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", said)
        expect(match, f"the server did not start: {said!r}; see {self._log}")
        assert match is not None
        self.port = int(match[1])

    def kill(self) -> None:
        """End it at once; it can neither finish nor write anything."""
        self._process.kill()
        self._process.communicate()


class Kind(Enum):
    """What can happen in the middle of a fragment."""

    CLOSE = "closed"
    RESET = "reset"
    KILL = "killed"


@dataclass(frozen=True)
class Interruption:
    """It happens once the bytes before `offset` were sent."""

    offset: int
    kind: Kind


def planned(
    size: int, cuts: int, kills: int, dice: random.Random
) -> list[Interruption]:
    """Interruptions in the order of their offsets.

    The last one kills the server when it has every byte: nobody hears whether the
    file was published before.
    """
    kinds = [(Kind.CLOSE, Kind.RESET)[number % 2] for number in range(cuts)]
    kinds += [Kind.KILL] * (kills - 1)
    dice.shuffle(kinds)
    offsets = sorted(dice.randrange(size) for _ in kinds)
    plan = [Interruption(*pair) for pair in zip(offsets, kinds, strict=True)]
    return [*plan, Interruption(size, Kind.KILL)]


@dataclass
class Upload:
    """One BITS upload: Create-Session, Fragments, Close-Session.

    Attributes:
        wanted: the offset that the server asked for last.
        sent: bytes of bodies given to the network.
        gaps: fragments refused with 416.
    """

    server: Server
    source: BinaryIO
    size: int
    plan: list[Interruption]
    dice: random.Random
    wanted: int = 0
    sent: int = 0
    fragments: int = 0
    gaps: int = 0
    happened: list[Kind] = field(default_factory=list)

    def run(self) -> None:
        """From nothing to a published file."""
        self.connection = Connection(self.server.port)
        created = self.ask("Create-Session", {"BITS-Supported-Protocols": PROTOCOL})
        self.session = {"BITS-Session-Id": created.fields["bits-session-id"]}
        offset = 0
        while self.wanted < self.size:
            length = self.dice.randint(1, min(LARGEST_FRAGMENT, self.size - offset))
            if self.plan and self.plan[0].offset <= offset + length:
                offset = self.interrupted(offset, length, self.plan.pop(0))
            else:
                offset = self.fragment(offset, length)
        self.ask("Close-Session", self.session)
        self.connection.close()

    def ask(self, packet_type: str, fields: dict[str, str]) -> Answer:
        """A packet without a body, and its Ack, which has to be a 200."""
        self.send_packet(packet_type, fields, 0)
        ack = self.ack()
        expect(ack.status == 200, f"{packet_type}: {ack}")
        return ack

    def send_packet(self, packet_type: str, fields: dict[str, str], body: int) -> None:
        """A packet is in its header fields ([MC-BUP] 2.2.1)."""
        packet = {"BITS-Packet-Type": packet_type, **fields}
        packet["Content-Length"] = str(body)
        self.connection.send_header("BITS_POST", packet)

    def ack(self) -> Answer:
        """The answer to a packet; it never has a body."""
        answer = self.connection.answer()
        packet_type = answer.fields.get("bits-packet-type")
        expect(packet_type == "Ack" and answer.length == 0, f"not an Ack: {answer}")
        return answer

    def fragment(self, first: int, length: int) -> int:
        """Send a fragment; the offset from which to go on."""
        self.send_fragment(first, length, length)
        ack = self.ack()
        # 416: the server lacks bytes before `first`, so that was only our guess.
        gap = ack.status == 416 and first > self.wanted
        expect(ack.status == 200 or gap, f"fragment from {first}: {ack}")
        expect(ack.received >= self.wanted, f"bytes of {self.wanted} lost: {ack}")
        self.gaps += gap
        self.wanted = ack.received
        return self.wanted

    def send_fragment(self, first: int, length: int, part: int) -> None:
        """A fragment of which only `part` bytes are sent ([MC-BUP] 2.2.6)."""
        span = f"bytes {first}-{first + length - 1}/{self.size}"
        self.send_packet("Fragment", {**self.session, "Content-Range": span}, length)
        self.connection.send_body(self.source, first, part)
        self.sent += part
        self.fragments += 1

    def interrupted(self, first: int, length: int, by: Interruption) -> int:
        """Send the start of a fragment, no more; the offset from which to go on."""
        self.send_fragment(first, length, by.offset - first)
        self.happened.append(by.kind)
        match by.kind:
            case Kind.CLOSE:
                self.connection.close()
            case Kind.RESET:
                self.connection.reset()
            case Kind.KILL:
                self.server.kill()
                self.connection.close()
                self.server.start()
        self.connection = Connection(self.server.port)
        self.ask("Ping", {})
        # What arrived? Repeat from the last Ack, as Windows does, or hope for the
        # best: either way the next Ack says it.
        hopeful = by.offset < self.size and self.dice.random() < 0.5
        return by.offset if hopeful else self.wanted


def make_source(path: Path, size: int, seed: int) -> str:
    """Write a file that depends on the seed alone; its SHA-256."""
    dice, digest = random.Random(seed), hashlib.sha256()
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            block = dice.randbytes(min(MIB, size - offset))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def timed(work: Upload | Download) -> str:
    """Do it; how long it took, and how fast that was."""
    begun = time.monotonic()
    work.run()
    seconds = time.monotonic() - begun
    return f"{seconds:.1f} s, {work.size / seconds / 1e6:.1f} MB/s"


def run(given: argparse.Namespace, folder: Path) -> bool:
    """Upload, download, compare."""
    dice = random.Random(f"interruptions {given.seed}")
    sent = make_source(folder / "source", given.size, given.seed)
    plan = planned(given.size, given.cuts, given.kills, dice)
    server = Server(folder)
    try:
        with (folder / "source").open("rb") as source:
            upload = Upload(server, source, given.size, plan, dice)
            upload_time = timed(upload)
        with (folder / "copy").open("wb") as copy:
            download = Download(server.port, copy, given.size, dice)
            download_time = timed(download)
    finally:
        server.kill()
    received = hash_of(folder / "copy")
    show("file", f"{given.size:,} bytes, seed {given.seed}")
    show_upload(upload, upload_time)
    show_download(download, download_time)
    show("SHA-256 sent", sent)
    show("SHA-256 received", received)
    show("verdict", "equal" if sent == received else "DIFFERENT")
    return sent == received


def show(name: str, value: str) -> None:
    """A row of the table."""
    print(f"{name:<17} {value}")


def show_upload(upload: Upload, took: str) -> None:
    """The rows about the upload."""
    count = upload.happened.count
    closed, was_reset = count(Kind.CLOSE), count(Kind.RESET)
    again = upload.sent - upload.size
    show("fragments", f"{upload.fragments}, {upload.gaps} refused with 416")
    cuts = f"{closed + was_reset} ({closed} closed, {was_reset} reset)"
    show("connections cut", cuts)
    show("server killed", f"{count(Kind.KILL)} times")
    show("sent again", f"{again:,} bytes ({again / upload.size:.1%})")
    show("upload", took)


def show_download(download: Download, took: str) -> None:
    """The rows about the download."""
    asked = f"{download.ranges} ranges in {download.requests} requests"
    show("download", f"{took}, {asked}")


def size_of(text: str) -> int:
    """Bytes of `48MiB` and the like."""
    match = re.fullmatch(r"(\d+) ?(|KiB|MiB|GiB)", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 2GiB")
    return int(match[1]) * UNITS[match[2]]


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=size_of, default="2GiB", help="default: 2GiB")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--folder", type=Path, help="for work files (default: a temporary one)"
    )
    parser.add_argument("--cuts", type=int, default=20, help="default: 20")
    parser.add_argument("--kills", type=int, default=8, help="default: 8, at least 1")
    return parser.parse_args()


def main() -> int:
    """Run it; exit code 0 if what came back is what was sent."""
    given = parsed()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="interruptions-", dir=given.folder))
    try:
        equal = run(given, folder)
    except (Unexpected, OSError) as error:
        print(f"interruptions: {error}", file=sys.stderr)
        equal = False
    if equal:
        shutil.rmtree(folder)
        return 0
    print(f"interruptions: the files are left in {folder}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
