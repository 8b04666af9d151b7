"""`python -m benchmarks`: one command, which stops by itself."""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from bitsd import quantities

from . import picture, report
from .cases import Scale, cases, make_files
from .client import MIB, Unexpected
from .measure import Case, Kind, Result, run
from .servers import CannotRun, Servers
from .starts import missing

#: One case may take this many times its share of the time that is left.
GENEROUS = 2.0

#: The files to download, an upload, and what the kernel has not given back yet; of
#: each session a folder and a file of a block.
ROOM = 4
SESSION_BYTES = 8192

#: How much, and runs that count; README.md has how they were found.
QUICK = (Scale(64 * MIB, sessions=10_000), 3)
THOROUGH = (Scale(128 * MIB, sessions=100_000), 15)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks: 0 done, whatever the verdicts; 1 it could not; 2 usage.

    130 is what a shell makes of Ctrl-C.
    """
    given = _parser().parse_args(arguments)
    scale, runs = QUICK if given.quick else THOROUGH
    size, sessions = given.size or scale.size, given.sessions or scale.sessions
    scale, runs = Scale(size, sessions), given.runs or runs
    wanted = [c for c in cases(scale) if given.only in f"{c.group}: {c.name}"]
    try:
        _check(wanted, scale)
        given.results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=given.folder or given.results) as folder:
            _check_room(Path(folder), scale)
            where = report.environment(Path(folder), f"{size} bytes, {runs} runs")
            results = _run(wanted, Path(folder), size, runs, given.minutes)
    except (CannotRun, Unexpected, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(report.markdown(results, where))
    written = report.write(results, where, given.results)
    drawing = written[0].with_suffix(".png")
    if picture.draw(results, where, drawing):
        written.append(drawing)
    else:
        print("no picture: it needs matplotlib, pip install -e '.[bench]'")
    print("\n".join(f"written: {path}" for path in written))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="64MiB, 3 runs")
    parser.add_argument("--size", type=_size, help="of a transfer (128MiB)")
    parser.add_argument("--runs", type=_count, help="that count of each (15)")
    parser.add_argument("--sessions", type=_count, help="on the disk (100000)")
    parser.add_argument("--only", default="", help="part of a name, such as upload")
    parser.add_argument(
        "--minutes", type=float, default=14.0, help="later no run begins (14)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where uploads go: a real disk (that of --results)"
    )
    parser.add_argument(
        "--results", type=Path, default=Path(__file__).parent / "results"
    )
    return parser


def _size(text: str) -> int:
    size = quantities.size(text)
    if size < MIB:
        raise argparse.ArgumentTypeError("give 1MiB or more")
    return size


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return int(text)


def _check(wanted: Sequence[Case], scale: Scale) -> None:
    if packages := missing():
        raise CannotRun(f"missing; install {' '.join(packages)}")
    if not wanted:
        names = ", ".join(f"{case.group}: {case.name}" for case in cases(scale))
        raise CannotRun(f"no case has that name; there are {names}")
    # A thousand uploads take two thousand descriptors; servers inherit the limit.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_room(folder: Path, scale: Scale) -> None:
    free = shutil.disk_usage(folder).free
    needed = ROOM * max(scale.size, scale.peak_size) + SESSION_BYTES * scale.sessions
    if free < needed:
        raise CannotRun(f"{folder}: {free} bytes free, {needed} needed")
    if report.file_system(folder) in {"tmpfs", "ramfs"}:
        print("warning: a sync means nothing in memory; give --folder on a disk")


def _run(
    wanted: Sequence[Case], folder: Path, size: int, runs: int, minutes: float
) -> list[Result]:
    """All cases, each group with servers of its own; each case if it is of memory."""
    end = time.monotonic() + minutes * 60
    make_files(folder, size)
    results: list[Result] = []
    for (group, _), members in groupby(wanted, key=_together):
        with Servers(folder) as servers:
            for case in members:
                print(f"{group}: {case.name} ...", file=sys.stderr, flush=True)
                now = time.monotonic()
                share = (end - now) / (len(wanted) - wanted.index(case))
                until = min(end, now + GENEROUS * share)
                if result := run(case, servers, runs, until):
                    results.append(result)
    if not results:
        raise CannotRun("nothing of that can run here")
    return results


def _together(case: Case) -> tuple[str, str]:
    """Cases alike in this share their servers."""
    return case.group, case.name if case.kind is Kind.MEMORY else ""


if __name__ == "__main__":
    sys.exit(main())
