"""What the server promised to uploads, and whether the disk keeps it."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from pathlib import Path
from typing import NoReturn

#: Links to published bytes while their session lives: the name, `request`, `publish`.
MOST_LINKS = 3


class Violation(Exception):
    """The server did what it must not do, or lost what it must keep."""


def broken(what: str) -> NoReturn:
    """Say what went wrong, and end."""
    raise Violation(what)


@dataclass(frozen=True)
class Place:
    """A directory of the server."""

    url: str
    folder: Path
    overwrite: bool = False

    @property
    def sessions(self) -> Path:
        """Where its sessions are."""
        return self.folder / "BITS-Sessions"


class Stage(Enum):
    """How far an upload is, as far as its client knows."""

    CREATING = auto()
    SENDING = auto()
    DELIVERED = auto()
    ENDING = auto()
    ENDED = auto()


@dataclass(eq=False)
class Upload:
    """One upload, and all that the server has said of it.

    Attributes:
        began: its place in the order of all uploads and last Acks.
        delivered: the same of its last Ack, if that came.
        acknowledged: the highest offset that an answer said is held.
        sent: the highest offset that was ever given to the network.
    """

    place: Place
    name: str
    content: bytes
    began: int = 0
    delivered: int | None = None
    named: str | None = None
    acknowledged: int = 0
    sent: int = 0
    stage: Stage = Stage.CREATING
    size: int = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.content)
        self.digest = hashlib.sha256(self.content).hexdigest()

    @property
    def target(self) -> str:
        """The path of its URL."""
        return f"{self.place.url}/{self.name}"

    @property
    def file(self) -> Path:
        """Where it is once it is published."""
        return self.place.folder / self.name

    @property
    def home(self) -> Path:
        """The folder of its session."""
        assert self.named is not None
        return self.place.sessions / self.named

    @property
    def known(self) -> bool:
        """Its client can still ask for its session."""
        return self.stage in (Stage.SENDING, Stage.DELIVERED, Stage.ENDING)


@dataclass
class Evidence:
    """All uploads of a run.

    Attributes:
        lost_creates: Create-Sessions whose answer nobody heard.
        met: in which states uploads were found when the server had been killed.
    """

    places: list[Place]
    live: list[Upload] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    lost_creates: int = 0
    files: int = 0
    met: Counter[str] = field(default_factory=Counter)
    _steps: count = field(default_factory=lambda: count(1))
    _candidates: dict[Path, list[Upload]] = field(default_factory=dict)
    _inodes: dict[Path, int] = field(default_factory=dict)
    _digests: dict[Path, tuple[tuple[int, ...], str]] = field(default_factory=dict)

    # What clients tell

    def begun(self, upload: Upload) -> None:
        """A client is about to create its session."""
        upload.began = next(self._steps)
        self.live.append(upload)
        self._candidates.setdefault(upload.file, []).append(upload)

    def published(self, upload: Upload) -> None:
        """The last fragment was acknowledged."""
        upload.stage = Stage.DELIVERED
        upload.delivered = next(self._steps)
        self.files += 1
        # What was there before this one began is so no more.
        self._candidates[upload.file] = [
            other
            for other in self._candidates[upload.file]
            if other.delivered is None or other.delivered >= upload.began
        ]
        if not upload.file.exists():
            broken(f"{upload.target} was acknowledged and has no name")
        self._check_name(upload.file)
        if not upload.place.overwrite and self._digest(upload.file) != upload.digest:
            broken(f"{upload.file} is not what was acknowledged last")

    def refused_at_the_end(self, upload: Upload) -> None:
        """The last fragment got a 403: that is right if another has the name."""
        if upload.place.overwrite:
            broken(f"{upload.target} was refused where overwriting is allowed")
        if upload.file.stat().st_ino == (upload.home / "request").stat().st_ino:
            broken(f"{upload.target} was refused because of itself")

    def refused_at_once(self, upload: Upload) -> None:
        """Its Create-Session got a 403."""
        if upload.place.overwrite or not upload.file.exists():
            broken(f"{upload.target} was refused, though its name is free")
        self._candidates[upload.file].remove(upload)
        self.over(upload)

    def over(self, upload: Upload, *, at_once: bool = True) -> None:
        """Its client has no question left; `at_once` if it never had to repeat one."""
        upload.stage = Stage.ENDED
        if upload.named is not None and at_once and upload.home.exists():
            broken(f"it was ended, and there still is {upload.home}")
        self.live.remove(upload)
        if upload.named is not None:
            self.ended.add(upload.named)
        upload.content = b""

    # What the disk says

    def check(self) -> None:
        """Nothing that was acknowledged is lost, whatever the server does just now.

        Raises:
            Violation: something is.
        """
        for upload in self.live:
            if upload.stage in (Stage.SENDING, Stage.DELIVERED):
                self._check_session(upload)
        for place in self.places:
            self._check_place(place)

    def _check_session(self, upload: Upload) -> None:
        try:
            held = (upload.home / "request").read_bytes()
            record = json.loads((upload.home / "session.json").read_bytes())
        except (OSError, ValueError) as error:
            broken(f"{upload.target}: its session is lost: {error!r}")
        if not upload.acknowledged <= len(held) <= upload.sent:
            broken(
                f"{upload.target}: {len(held)} bytes are held, {upload.acknowledged}"
                f" were acknowledged and {upload.sent} sent; {upload.home}"
            )
        if held != upload.content[: len(held)]:
            broken(f"{upload.target}: other bytes are held than sent; {upload.home}")
        delivered = record["state"] == "wait-for-close"
        if upload.stage is Stage.DELIVERED and not delivered:
            broken(f"{upload.target}: its delivery is forgotten; {upload.home}")
        if delivered and not upload.file.exists():
            broken(f"{upload.target}: said to be delivered, and has no name")

    def _check_place(self, place: Place) -> None:
        names = {path for path in place.folder.iterdir() if path != place.sessions}
        if strange := names - self._candidates.keys():
            broken(f"nobody uploaded {strange}")
        there_once = {path for path in self._inodes if path.parent == place.folder}
        if gone := there_once - names:
            broken(f"published and gone: {gone}")
        for path in names:
            self._check_name(path)
        if len({path.stat().st_ino for path in names}) < len(names):
            broken(f"one file has two names in {place.folder}")

    def _check_name(self, path: Path) -> None:
        candidates = self._candidates[path]
        digest = self._digest(path)
        if not any(it.digest == digest and it.sent == it.size for it in candidates):
            broken(f"{path} is not what anybody uploaded there last")
        status = path.stat()
        if status.st_nlink > MOST_LINKS:
            broken(f"{path} has {status.st_nlink} links")
        if candidates[0].place.overwrite:
            self._inodes[path] = status.st_ino
        elif self._inodes.setdefault(path, status.st_ino) != status.st_ino:
            broken(f"{path} was replaced")

    def _digest(self, path: Path) -> str:
        """Of a file that is read again only if it may have changed."""
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._digests.get(path, (None,))[0] != seen:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                self._digests[path] = (seen, found)
        return self._digests[path][1]

    def note(self) -> None:
        """Count the states that a kill left uploads in."""
        for upload in self.live:
            if upload.stage is Stage.CREATING:
                self.met["Create"] += 1
            elif upload.known:
                self.met.update(_states(upload))

    # The end

    def leftovers(self) -> Counter[str]:
        """What is left when every client is done; only what none can know of.

        Raises:
            Violation: a session is left that a client knew.
        """
        found: Counter[str] = Counter()
        for place in self.places:
            for home in place.sessions.glob("{*}"):
                found[self._leftover(home)] += 1
        if found["sessions"] > self.lost_creates:
            broken(f"{found['sessions']} sessions of {self.lost_creates} lost Creates")
        return found

    def _leftover(self, home: Path) -> str:
        request = home / "request"
        held = request.stat().st_size if request.exists() else 0
        if held and home.name not in self.ended:
            broken(f"nobody knows of the {held} bytes in {home}")
        if not (home / "session.json").exists():
            return "litter"
        if home.name in self.ended:
            broken(f"its client is done with {home}")
        return "sessions"

    def check_end(self) -> None:
        """Once leftovers expired: nothing but whole files, each with one name.

        Raises:
            Violation: there is more, or less.
        """
        self._digests.clear()
        for place in self.places:
            self._check_place(place)
            for path in place.folder.iterdir():
                links = path.stat().st_nlink
                if path != place.sessions and links != 1:
                    broken(f"{path} has {links} links though no session is left")


def _states(upload: Upload) -> list[str]:
    """How the disk stands to what the client knows."""
    home, found = upload.home, []
    if not (home / "session.json").exists():
        return ["half gone" if home.exists() else "gone, no Ack"]
    request = (home / "request").stat()
    delivered = b'"wait-for-close"' in (home / "session.json").read_bytes()
    if (home / "session.json.new").exists():
        found.append("half a record")
    if (home / "publish").exists():
        found.append("half a name")
    if upload.acknowledged < request.st_size < upload.size:
        found.append("bytes without Ack")
    if request.st_size == upload.size and not delivered:
        found.append("whole, no name" if request.st_nlink == 1 else "name, no record")
    if delivered and upload.stage is Stage.SENDING:
        found.append("published, no Ack")
    if upload.stage is Stage.ENDING:
        found.append("not ended yet")
    return found or ["between packets"]


def age(sessions: Path, seconds: float) -> None:
    """Make all that is in BITS-Sessions older."""
    for path in [*sessions.rglob("*")]:
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))
