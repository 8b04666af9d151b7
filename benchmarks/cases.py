"""What is compared, and the targets."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .client import MIB, Load
from .growth import growth
from .loads import (
    Beside,
    BitsUpload,
    Download,
    Pairs,
    Pings,
    PutUpload,
    Ranges,
    Stalled,
    Upload,
)
from .measure import Case, Contender, Kind, Measure, Target, Unit
from .servers import FILES, Start
from .starts import aiohttp, bitsd, nginx, raw
from .tus import TusUpload, tus

KIB = 1 << 10

BITSD = "bitsd"
TUNED = "nginx tuned"
STOCK = "nginx as it comes"
AIOHTTP = "aiohttp"
RAW = "C loop"
RAW_SYNC = "C loop, sync"
FORGETFUL = "C loop, bytes dropped"
BARE = "aiohttp, bare"
ONE_RANGE = "bitsd, one range"
TWO_WORKERS = "bitsd, 2 workers"
ALONE = "bitsd, alone"
BITSD_TLS = "bitsd, TLS"
BITSD_BASIC = "bitsd, Basic"
BITSD_NTLM = "bitsd, NTLM"
TUNED_TLS = "nginx tuned, TLS"
TUS = "@tus/server"

WHOLE = "whole"
EIGHTH = "eighth"

_START: dict[str, Start] = {
    BITSD: bitsd(),
    TUNED: nginx(tuned=True),
    STOCK: nginx(tuned=False),
    AIOHTTP: aiohttp(),
    RAW: raw("write"),
    FORGETFUL: raw("drop"),
    TWO_WORKERS: bitsd(workers=2),
    ALONE: bitsd(),
    BITSD_TLS: bitsd(tls=True),
    BITSD_BASIC: bitsd(signing_in=True),
    BITSD_NTLM: bitsd(signing_in=True),
    TUNED_TLS: nginx(tuned=True, tls=True),
    TUS: tus(),
}

PEAK_CLIENTS = 8

#: Work that costs more per byte gets fewer bytes.
_SMALL_PART = 4
_TINY_PART = 8


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        size: bytes of an upload or a download.
        sessions: on the disk, where it is measured whether more cost more; a
            hundredth of them are uploads that stall.
    """

    size: int
    sessions: int

    @property
    def stalled(self) -> int:
        """Uploads that stall."""
        return max(8, self.sessions // 100)

    @property
    def peak_size(self) -> int:
        """Bytes sent to see how much memory that takes, whatever `size` is."""
        return PEAK_CLIENTS * min(64 * MIB, self.size)


def cases(scale: Scale) -> Iterator[Case]:
    """All of them, in the order in which they run."""
    yield from _uploads(scale.size)
    yield from _synced_uploads(scale.size)
    yield from _downloads(scale.size)
    yield from _encrypted(scale.size)
    yield from _packets(scale.size)
    yield from _cores(scale.size)
    yield _beside_stalled(scale)
    yield from _memory(scale)
    yield from growth(scale.sessions)


def make_files(folder: Path, size: int) -> None:
    """The files to download; what was just written is in the page cache."""
    (folder / FILES).mkdir()
    for name, length in ((WHOLE, size), (EIGHTH, size // 8)):
        with (folder / FILES / name).open("wb") as file:
            block = bytes(range(256)) * (256 * KIB // 256)
            for _ in range(length // len(block)):
                file.write(block)
            file.write(block[: length % len(block)])
            file.flush()
            os.fsync(file.fileno())  # now, and not during the runs


def _uploads(size: int) -> Iterator[Case]:
    shapes = (
        ("256 KiB x 1", 256 * KIB, 1, size // _SMALL_PART, 0.5),
        ("4 MiB x 1", 4 * MIB, 1, size, 1.0),
        ("4 MiB x 8", 4 * MIB, 8, size, 1.0),
        ("64 MiB x 1", 64 * MIB, 1, size, 1.1),
    )
    for name, fragment, clients, amount, limit in shapes:
        bits = BitsUpload(amount, fragment, clients)
        files = PutUpload(amount, fragment, clients, append=False)
        append = replace(files, append=True)
        loads: list[tuple[str, Load]] = [
            (BITSD, bits),
            (TUNED, files),
            (STOCK, files),
            (AIOHTTP, append),
            (RAW, append),
            (FORGETFUL, append),
        ]
        if fragment >= 4 * MIB and clients == 1:
            loads.append((TUS, TusUpload(amount, fragment, clients)))
        contenders = [_contender(name, load) for name, load in loads]
        target = Target(Measure.CPU, TUNED, limit)
        yield Case("upload", name, Unit.GIB, contenders, target)


def _synced_uploads(size: int) -> Iterator[Case]:
    for fragment, amount in ((1, size // _SMALL_PART), (4, size // 2), (64, size)):
        bits = BitsUpload(amount, fragment * MIB, 1)
        append = PutUpload(amount, fragment * MIB, 1, append=True)
        contenders = [
            _contender(BITSD, bits, bitsd("fragment")),
            _contender(RAW_SYNC, append, raw("sync")),
            _contender(RAW, append),
        ]
        target = Target(Measure.WALL, RAW_SYNC, 1.15)
        name = f"{fragment} MiB x 1"
        yield Case("upload, sync", name, Unit.GIB, contenders, target)


def _downloads(size: int) -> Iterator[Case]:
    shapes = (
        ("whole x 1", Download(WHOLE, size, None, 1), 1.15),
        ("whole x 8", Download(EIGHTH, size // 8, None, 8), 1.15),
        ("4 MiB ranges x 1", _ranged(size, 4 * MIB, 1), 1.15),
        ("4 MiB ranges x 8", _ranged(size, 4 * MIB, 8), 1.15),
        ("64 KiB ranges x 1", _ranged(size // _TINY_PART, 64 * KIB, 1), 4.0),
    )
    for name, load, limit in shapes:
        contenders = [_contender(server, load) for server in (BITSD, TUNED, AIOHTTP)]
        target = Target(Measure.CPU, TUNED, limit)
        yield Case("download", name, Unit.GIB, contenders, target)
    yield _twenty_ranges(size)


def _ranged(size: int, length: int, clients: int) -> Download:
    return Download(WHOLE, size, min(length, size // clients), clients)


def _twenty_ranges(size: int) -> Case:
    """One GET with twenty ranges, and one with a range of the same bytes."""
    length = min(256 * KIB, size // 40)
    times = max(1, size // 2 // (20 * length))
    twenty = Ranges(WHOLE, count=20, length=length, times=times)
    one = Ranges(WHOLE, count=1, length=20 * length, times=times)
    contenders = [
        Contender(BITSD, _START[BITSD], twenty, smaller(twenty)),
        Contender(ONE_RANGE, _START[BITSD], one, smaller(one)),
        Contender(TUNED, _START[TUNED], twenty, smaller(twenty)),
    ]
    target = Target(Measure.CPU, ONE_RANGE, 1.3)
    return Case("download", "20 ranges of 256 KiB", Unit.GIB, contenders, target)


def _encrypted(size: int) -> Iterator[Case]:
    """Both negotiate the same cipher, of which the client makes sure."""
    bits = BitsUpload(size, 4 * MIB, 1, tls=True)
    files = PutUpload(size, 4 * MIB, 1, append=False, tls=True)
    whole = Download(WHOLE, size, None, 1, tls=True)
    loads: dict[str, tuple[Load, Load]] = {
        "upload 4 MiB x 1": (bits, files),
        "download whole x 1": (whole, whole),
    }
    for name, (ours, theirs) in loads.items():
        contenders = [
            _contender(BITSD_TLS, ours),
            _contender(TUNED_TLS, theirs),
        ]
        target = Target(Measure.CPU, TUNED_TLS, 1.5)
        yield Case("TLS", name, Unit.GIB, contenders, target)


def _packets(size: int) -> Iterator[Case]:
    count = max(64, size // (64 * KIB))
    for connections in (1, 32):
        contenders = [
            _contender(BITSD, Pings(count, connections, "/up/ping")),
            _contender(BARE, Pings(count, connections, "/"), aiohttp(bare=True)),
            _contender(TUNED, Pings(count, connections, "/ping/")),
        ]
        target = Target(Measure.CPU, BARE, 1.25)
        yield Case("packet", f"Ping x {connections}", Unit.REQUEST, contenders, target)
    anonymous = Pings(count, 1, "/up/ping")
    contenders = [
        _contender(BITSD_BASIC, replace(anonymous, way="Basic")),
        _contender(BITSD_NTLM, replace(anonymous, way="NTLM")),
        _contender(BITSD, anonymous),
    ]
    target = Target(Measure.CPU, BITSD, 1.25)
    yield Case("packet", "Ping x 1, signed in", Unit.REQUEST, contenders, target)
    pairs = Pairs(max(8, count // 64))
    yield Case("packet", "Create + Close", Unit.REQUEST, [_contender(BITSD, pairs)])


def _cores(size: int) -> Iterator[Case]:
    """What a second process costs; how much sooner they end is in the wall time."""
    loads: dict[str, Load] = {
        "upload 4 MiB x 8": BitsUpload(size, 4 * MIB, 8),
        "download whole x 8": Download(EIGHTH, size // 8, None, 8),
    }
    for name, load in loads.items():
        contenders = [_contender(server, load) for server in (TWO_WORKERS, BITSD)]
        target = Target(Measure.CPU, BITSD, 1.1)
        yield Case("cores", name, Unit.GIB, contenders, target)


def _beside_stalled(scale: Scale) -> Case:
    """An upload, with and without others on the same server that do not go on."""
    bits, stalled = BitsUpload(64 * MIB, 4 * MIB, 1), Stalled(scale.stalled, bits=True)
    contenders = [_contender(BITSD, Beside(bits, stalled)), _contender(ALONE, bits)]
    name = f"64 MiB beside {stalled.count} stalled"
    target = Target(Measure.CPU, ALONE, None)
    return Case("upload, stalled", name, Unit.GIB, contenders, target)


def _memory(scale: Scale) -> Iterator[Case]:
    length = scale.peak_size // PEAK_CLIENTS
    bits = BitsUpload(scale.peak_size, length, PEAK_CLIENTS)
    put = PutUpload(scale.peak_size, length, PEAK_CLIENTS, append=True)
    loads: list[tuple[str, Load]] = [(BITSD, bits), (TUNED, put), (AIOHTTP, put)]
    contenders = [_contender(name, load) for name, load in loads]
    name, target = (
        f"{length // MIB} MiB x {PEAK_CLIENTS}",
        Target(Measure.PEAK, None, 60),
    )
    yield Case("memory", name, Unit.GIB, contenders, target, Kind.MEMORY)
    stalled, others = Stalled(scale.stalled, bits=True), (TUNED, AIOHTTP)
    contenders = [_contender(BITSD, stalled)]
    contenders += [_contender(name, replace(stalled, bits=False)) for name in others]
    name, target = f"{stalled.count} stalled uploads", Target(Measure.PEAK, None, 150)
    yield Case("memory", name, Unit.REQUEST, contenders, target, Kind.MEMORY)


def _contender(name: str, load: Load, start: Start | None = None) -> Contender:
    return Contender(name, start or _START[name], load, smaller(load))


def smaller(load: Load) -> Load:
    """Less of the same, to warm a server up."""
    match load:
        case Upload():
            return replace(load, size=max(load.size // 8, load.clients))
        case Ranges():
            return replace(load, times=1)
        case Pings():
            return replace(load, count=max(load.count // 8, load.connections))
        case Pairs() | Stalled():
            return replace(load, count=1)
        case Beside():
            few = replace(load.stalled, count=1)
            return replace(load, load=smaller(load.load), stalled=few)
        case _:
            return load
