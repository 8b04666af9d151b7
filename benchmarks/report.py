"""Results as tables in Markdown, and as JSON."""

import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .client import MIB
from .measure import Kind, Measure, Result, Row
from .starts import nginx_built_with

_SUMMARY = ("work", "bitsd", "reference", "x", "target", "verdict")

COLUMNS = (
    "work",
    "server",
    "CPU",
    "x",
    "wall",
    "x",
    "idle MiB",
    "peak MiB",
    "client CPU",
    "runs",
    "verdict",
)


def environment(folder: Path, options: str) -> dict[str, str]:
    """Where and with what it ran."""
    nginx = re.search(r"nginx/\S+", nginx_built_with())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": options,
        "kernel": platform.release(),
        "CPU": f"{os.cpu_count()} x {_cpu_model()}",
        "file system": file_system(folder),
        "Python": platform.python_version(),
        "bitsd": version("bitsd"),
        "aiohttp": version("aiohttp"),
        "nginx": nginx[0] if nginx else "unknown",
    }


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def file_system(folder: Path) -> str:
    """The type of the file system of a folder, such as ext4."""
    lines = Path("/proc/mounts").read_text("utf-8").splitlines()
    mounts = [line.split()[1:3] for line in lines]
    around = [m for m in mounts if folder.resolve().is_relative_to(m[0])]
    # The last of several at one place is the one that is seen.
    return max(enumerate(around), key=lambda m: (len(m[1][0]), m[0]))[1][1]


def summary(results: Sequence[Result]) -> str:
    """A table in Markdown with a line for each case."""
    lines = [_line(_SUMMARY), _line("-" * len(_SUMMARY))]
    for result in results:
        case, measure, reference = result.case, result.measure, result.reference
        other = ""
        if reference is not None:
            value = number(result.value(reference, measure))
            other = f"{reference.contender.name}: {value}"
        value = number(result.value(result.rows[0], measure))
        cells = (
            f"{case.group}: {case.name}",
            f"{value} {unit(result, measure)} {measure.value}",
            other,
            _ratio(result, result.rows[0], measure),
            limit(result),
            result.verdict,
        )
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def table(results: Sequence[Result]) -> str:
    """A table in Markdown for each group."""
    lines: list[str] = []
    group = ""
    for result in results:
        if result.case.group != group:
            group = result.case.group
            lines += ["", f"## {group}", "", _line(COLUMNS), _line("-" * 11)]
        lines += [_line(cells) for cells in _cells(result)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(result: Result) -> Iterator[tuple[str, ...]]:
    """A line per contender."""
    for index, row in enumerate(result.rows):
        yield (
            result.case.name,
            row.contender.name,
            _time(result, result.value(row, Measure.CPU)),
            _ratio(result, row, Measure.CPU),
            _time(result, result.value(row, Measure.WALL)),
            _ratio(result, row, Measure.WALL),
            f"{row.median(lambda sample: sample.idle, result.runs) / MIB:.0f}",
            f"{row.median(lambda sample: sample.peak, result.runs) / MIB:.0f}",
            _time(result, _client_cpu(result, row)),
            _runs(result, row),
            "" if index else _verdict(result),
        )


def _time(result: Result, value: float) -> str:
    """With its unit; nothing where memory is looked at while clients wait."""
    if result.case.kind is Kind.MEMORY:
        return ""
    return f"{number(value)} {result.case.unit}"


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{value:.3g}'):g}"


def _ratio(result: Result, row: Row, measure: Measure) -> str:
    ratio = result.ratio(row, measure)
    return "" if ratio is None else f"{ratio:.2f}"


def _client_cpu(result: Result, row: Row) -> float:
    seconds = row.median(lambda sample: sample.client_cpu, result.runs)
    return result.case.unit.per(seconds, row.contender.load.amount)


def _runs(result: Result, row: Row) -> str:
    """Runs that count, and those that do not because others were at work."""
    counted = len(row.counted(result.runs))
    if result.case.kind is Kind.MEMORY:
        return f"{counted}"
    disturbed = len(row.samples) - len(row.quiet)
    if not row.trusted(result.runs):
        return f"{counted}, {disturbed} disturbed"
    return f"{counted}, {disturbed} dropped" if disturbed else f"{counted}"


def _verdict(result: Result) -> str:
    return f"{result.verdict}: {aim(result)}" if result.verdict else ""


def aim(result: Result) -> str:
    """The target in words; empty where there is none."""
    target = result.case.target
    if target is None or target.limit is None:
        return ""
    name = f" {target.reference}" if target.reference is not None else ""
    return f"{target.measure.value} {limit(result)}{name}"


def limit(result: Result) -> str:
    """The number of a target; empty where there is none."""
    target = result.case.target
    if target is None or target.limit is None:
        return ""
    of = "x" if target.reference is not None else unit(result, target.measure)
    return f"<= {target.limit:g} {of}"


def reading(result: Result) -> str:
    """What is held against the limit of the target."""
    if result.reference is None:
        value = number(result.value(result.rows[0], result.measure))
        return f"{value} {unit(result, result.measure)}"
    return f"{_ratio(result, result.rows[0], result.measure)} x"


def unit(result: Result, measure: Measure) -> str:
    """What a measure of a case is counted in."""
    return "MiB" if measure is Measure.PEAK else str(result.case.unit)


def markdown(results: Sequence[Result], where: dict[str, str]) -> str:
    """The whole report."""
    facts = "\n".join(f"- {name}: {value}" for name, value in where.items())
    tables = f"{summary(results)}\n{table(results)}"
    return f"# bitsd beside others\n\n{facts}\n\n{tables}"


def write(results: Sequence[Result], where: dict[str, str], folder: Path) -> list[Path]:
    """Write the reports; those that were written."""
    stem = "bitsd-" + re.sub(r"[^0-9T]", "", where["date"].partition("+")[0])
    text, facts = folder / f"{stem}.md", folder / f"{stem}.json"
    text.write_text(markdown(results, where), "utf-8")
    content = {"environment": where, "results": [_plain(r) for r in results]}
    facts.write_text(json.dumps(content, indent=1), "utf-8")
    return [text, facts]


def _plain(result: Result) -> dict[str, Any]:
    """A result as JSON has it, with every sample; times in seconds, sizes in bytes."""
    rows = [
        {
            "server": row.contender.name,
            "cpu": result.value(row, Measure.CPU),
            "wall": result.value(row, Measure.WALL),
            "amount": row.contender.load.amount,
            "samples": [
                {**asdict(sample), "disturbed": sample.disturbed}
                for sample in row.samples
            ],
        }
        for row in result.rows
    ]
    return {
        "group": result.case.group,
        "work": result.case.name,
        "unit": str(result.case.unit),
        "verdict": _verdict(result),
        "rows": rows,
    }
