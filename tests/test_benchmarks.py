"""The benchmarks run and report; how fast anything is, is not looked at."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from store_kit import Uploads

from benchmarks.cases import Scale, cases
from benchmarks.client import MIB
from benchmarks.growth import fill, litter
from benchmarks.measure import (
    Case,
    Contender,
    Measure,
    Result,
    Row,
    Sample,
    Target,
    Unit,
)
from benchmarks.report import COLUMNS, file_system, summary, table
from benchmarks.servers import LeftOut, Servers
from bitsd.destination import Folder
from bitsd.disk import Disk

ROOT = Path(__file__).parent.parent

#: Every server starts in it several times.
SMOKE_SECONDS = 110

QUIET = Sample(cpu=1, wall=2, client_cpu=1, other_cpu=0, idle=MIB, peak=2 * MIB)
DISTURBED = replace(QUIET, cpu=9, other_cpu=2)


def needed(program: str) -> None:
    if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
        message = f"{program} is not installed"
        if os.environ.get("BITSD_ALL_TESTS") == "1":
            pytest.fail(message)
        # What is compared is that program.
        pytest.skip(message)


def ran(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=SMOKE_SECONDS,
        check=False,
    )


@pytest.mark.timeout(SMOKE_SECONDS + 10)
def test_every_case_and_server_has_a_row(tmp_path):
    needed("nginx")
    needed("gcc")
    results = tmp_path / "results"
    few = ("--size", "2MiB", "--sessions", "20", "--runs", "1")
    npm = tmp_path / "programs" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\nexit 1\n", "ascii")  # no test waits for a registry
    npm.chmod(0o755)
    path = f"{npm.parent}:{os.environ['PATH']}"

    done = ran(*few, "--results", str(results), PATH=path)

    assert done.returncode == 0, done.stderr
    left_out = re.findall(r"^left out: (.+?): ", done.stderr, re.MULTILINE)
    expected = [
        (case.name, contender.name)
        for case in cases(Scale(2 * MIB, sessions=20))
        if case.contenders[0].name not in left_out
        for contender in case.contenders
        if contender.name not in left_out
    ]
    lines = [line.split(" | ") for line in done.stdout.splitlines()]
    rows = [(cells[0][2:], cells[1]) for cells in lines if len(cells) == len(COLUMNS)]
    assert [row for row in rows if row[1] not in {"server", "-"}] == expected
    written = json.loads(next(results.glob("*.json")).read_text("utf-8"))
    found = [
        (result["work"], row["server"])
        for result in written["results"]
        for row in result["rows"]
        if all(sample["cpu"] > 0 for sample in row["samples"])
    ]
    assert found == expected
    assert next(results.glob("*.md")).read_text("utf-8") in done.stdout
    assert not [path for path in results.iterdir() if path.is_dir()]


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "nginx").write_text("#!/bin/sh\n", "ascii")
    (tmp_path / "nginx").chmod(0o755)

    done = ran("--results", str(tmp_path), PATH=str(tmp_path))

    wanted = "benchmarks: missing; install gcc libc6-dev nginx-full"
    assert done.returncode == 1
    assert done.stderr.startswith(wanted)
    assert len(done.stderr.splitlines()) == 1


def test_memory_of_connections_that_do_nothing_is_printed():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.idle", "--connections", "50"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SMOKE_SECONDS,
        check=False,
    )

    sizes = re.findall(
        r": (\d+) connections, -?[\d.]+ KiB each$", done.stdout, re.MULTILINE
    )
    assert (done.returncode, sizes) == (0, ["50", "50", "50", "5", "25"])


@pytest.mark.parametrize(
    "arguments",
    [["--size", "64KiB"], ["--size", "much"], ["--runs", "0"], ["--fast"]],
    ids=" ".join,
)
def test_wrong_usage_is_told(arguments):
    assert ran(*arguments).returncode == 2


def result(ours: list[Sample], reference: list[Sample], limit: float) -> Result:
    target = Target(Measure.CPU, "other", limit)
    contenders = [Contender(name, None, Work(), Work()) for name in ("bitsd", "other")]
    case = Case("upload", "some", Unit.GIB, contenders, target)
    rows = [Row(contenders[0], ours), Row(contenders[1], reference)]
    return Result(case, rows, runs=3)


class Work:
    clients = 1
    amount = 1 << 30


@pytest.mark.parametrize(
    ("ours", "limit", "expected"),
    [
        pytest.param([QUIET] * 3, 1.0, "met", id="as much as allowed"),
        pytest.param([QUIET] * 3, 0.9, "missed", id="more than allowed"),
        pytest.param([DISTURBED, *[QUIET] * 3], 1.0, "met", id="one run dropped"),
        pytest.param([DISTURBED] * 5 + [QUIET], 9, "disturbed", id="one run left"),
    ],
)
def test_verdict_is_about_undisturbed_runs(ours, limit, expected):
    assert result(ours, [QUIET] * len(ours), limit).verdict == expected


def test_reference_that_was_disturbed_proves_nothing():
    assert result([QUIET] * 3, [DISTURBED] * 3, 9).verdict == "disturbed"


def test_table_says_how_many_runs_were_dropped():
    text = table([result([DISTURBED, *[QUIET] * 3], [QUIET] * 4, 1.0)])

    assert [line.split(" | ")[9] for line in text.splitlines()[4:]] == [
        "3, 1 dropped",
        "4",
    ]


def test_summary_is_a_line_for_a_case():
    text = summary([result([QUIET] * 3, [replace(QUIET, cpu=2)] * 3, 0.4)])

    line = "| upload: some | 1 s/GiB CPU | other: 2 | 0.50 | <= 0.4 x | missed |"
    assert text.splitlines()[2:] == [line]


def test_summary_of_a_limit_without_a_reference():
    some = result([QUIET], [QUIET], 1)
    case = replace(some.case, target=Target(Measure.PEAK, None, 3))

    text = summary([Result(case, some.rows, runs=1)])

    line = "| upload: some | 2 MiB peak |  |  | <= 3 MiB | met |"
    assert text.splitlines()[2:] == [line]


def test_times_are_per_unit():
    assert Unit.GIB.per(3.0, 1 << 29) == 6.0
    assert Unit.REQUEST.per(3.0, 1000) == 3000.0


def test_file_system_is_that_of_the_nearest_mount():
    assert file_system(Path("/proc/self")) == "proc"


def test_sessions_that_are_made_are_ones_that_bitsd_reads(tmp_path):
    (tmp_path / "up").mkdir()
    disk = Disk(Folder(tmp_path / "up"))

    fill(tmp_path / "up", 5)

    sessions = [disk.read(named) for named in disk.ids()]
    assert [(s.address, s.received) for s in sessions] == [("127.0.0.2", 0)] * 5


def test_sessions_are_made_once(tmp_path):
    (tmp_path / "up").mkdir()

    fill(tmp_path / "up", 2)
    fill(tmp_path / "up", 5)

    assert len(list(Disk(Folder(tmp_path / "up")).ids())) == 2


async def test_leftovers_are_of_every_kind(tmp_path, caplog):
    (tmp_path / "in").mkdir()
    await asyncio.to_thread(litter, tmp_path / "in", 11)
    uploads = await Uploads.open(tmp_path / "in")
    told = {line.partition(" ")[0] for line in caplog.messages}

    assert len(list((uploads.folder / "BITS-Sessions").iterdir())) == 11
    assert told == {"damaged", "stranger"}
    assert len(uploads.graves) == 2


@pytest.mark.parametrize(
    ("limit", "expected"), [(2, "met"), (1, "missed")], ids=["at it", "above it"]
)
def test_limit_without_a_reference_is_absolute(limit, expected):
    some = result([DISTURBED], [DISTURBED], 1)
    case = replace(some.case, target=Target(Measure.PEAK, None, limit))

    assert Result(case, some.rows, runs=3).verdict == expected


def test_server_that_cannot_run_is_left_out(tmp_path, capsys):
    def start(folder, files):
        raise LeftOut("of no use here")

    with Servers(tmp_path) as servers:
        for _ in range(2):
            with pytest.raises(LeftOut):
                servers.named("some", start)

    assert capsys.readouterr().err == "left out: some: of no use here\n"


def test_ratio_is_of_runs_of_one_turn():
    ours = [replace(QUIET, cpu=cpu) for cpu in (1, 10, 100)]
    reference = [replace(QUIET, cpu=cpu) for cpu in (2, 20, 50)]

    compared = result(ours, reference, 1)

    assert compared.ratio(compared.rows[0], Measure.CPU) == 0.5
