"""Results as a picture: a panel for each case, groups one below the other."""

import importlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from .measure import Result
from .report import limit, number, reading, unit

#: Objects of matplotlib's, which need not be installed.
Axis = Any
Figure = Any

COLUMNS = 3
_WIDTH, _PANEL, _TITLE = 15.0, 1.9, 0.45  # inches
_DOTS_PER_INCH = 100

#: A bar that is longer than so many times what matters is cut, and says how long.
_LONGEST = 3.0

#: A panel with fewer has room for so many: bars are of one height.
_FEWEST_BARS = 3

_OURS, _REFERENCE, _OTHERS = "tab:blue", "0.45", "0.75"
_VERDICTS = {"met": "tab:green", "missed": "tab:red", "disturbed": "tab:orange"}


def draw(results: Sequence[Result], where: Mapping[str, str], path: Path) -> bool:
    """Write the picture; False without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return False
    groups = [list(g) for _, g in groupby(results, key=lambda r: r.case.group)]
    heights = [_TITLE + _PANEL * -(-len(group) // COLUMNS) for group in groups]
    figure = pyplot.figure(
        figsize=(_WIDTH, 0.5 + sum(heights)),
        dpi=_DOTS_PER_INCH,
        layout="constrained",
    )
    figure.suptitle(
        f"bitsd {where['bitsd']} beside others, {where['date']}, {where['CPU']}: "
        "shorter is better; dashed: the target, times dark grey"
    )
    parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=heights)
    for part, group in zip(parts[:, 0], groups, strict=True):
        _draw_group(part, group)
    figure.savefig(path)
    pyplot.close(figure)
    return True


def _draw_group(part: Figure, group: Sequence[Result]) -> None:
    part.suptitle(group[0].case.group, x=0.01, ha="left", weight="bold")
    axes = part.subplots(-(-len(group) // COLUMNS), COLUMNS, squeeze=False).flat
    for axis, result in zip(axes, group, strict=False):
        _draw_bars(axis, result)
    for axis in axes[len(group) :]:
        axis.set_axis_off()


def _draw_bars(axis: Axis, result: Result) -> None:
    measure = result.measure
    values = [result.value(row, measure) for row in result.rows]
    aim = _aim(result)
    cut = _LONGEST * max(values[0], aim or 0.0)
    shown = [min(value, cut) for value in values]
    axis.barh(range(len(values)), shown, color=_colours(result))
    for place, value in enumerate(values):
        mark = " ..." if value > cut else ""
        text = f" {number(value)}{mark}"
        # In front of the line of the target.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        axis.text(shown[place], place, text, va="center", fontsize=8, bbox=box)
    names = [row.contender.name for row in result.rows]
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.get_yticklabels()[0].set_weight("bold")
    axis.set_ylim(max(len(names), _FEWEST_BARS) - 0.5, -0.5)
    axis.set_xlim(0, 1.2 * max(*shown, aim or 0.0))
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel(f"{measure.value}, {unit(result, measure)}", fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    if aim is not None:
        axis.axvline(aim, color=_VERDICTS[result.verdict], ls="--", lw=1.5)
    _draw_title(axis, result)


def _draw_title(axis: Axis, result: Result) -> None:
    axis.set_title(result.case.name, loc="left", fontsize=9)
    if result.verdict:
        text = f"{reading(result)}, {result.verdict}: {limit(result)}"
        colour = _VERDICTS[result.verdict]
        axis.set_title(text, loc="right", fontsize=8, color=colour)


def _aim(result: Result) -> float | None:
    """The target as a length of a bar."""
    target = result.case.target
    if target is None or target.limit is None:
        return None
    if result.reference is None:
        return target.limit
    return target.limit * result.value(result.reference, target.measure)


def _colours(result: Result) -> list[str]:
    others = [
        _REFERENCE if row is result.reference else _OTHERS for row in result.rows[1:]
    ]
    return [_OURS, *others]
