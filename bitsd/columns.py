"""Rows as aligned columns, for people."""

from collections.abc import Sequence

from rich.cells import cell_len

from .plain import plain

#: What fits into most windows, and into a mail.
WIDTH = 100

_CUT = "…"


def columns(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    shrinking: Sequence[tuple[str, int]],
) -> list[str]:
    """The lines of a table, none wider than `WIDTH` if they can shrink so far.

    Args:
        head: names of the columns; numbers stand right under those that begin with
            a space.
        rows: a text for each column.
        shrinking: columns that give way, first the first, and down to which width.
    """
    table = [list(head), *([plain(text) for text in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    for name, least in shrinking:
        at = head.index(name)
        less = max(0, min(excess, widths[at] - least))
        widths[at] -= less
        excess -= less
    right = [name.startswith(" ") for name in head]
    return [_line(row, widths, right) for row in table]


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = []
    for text, width, at_right in zip(row, widths, right, strict=True):
        shown = _cut(text, width)
        space = " " * (width - cell_len(shown))
        cells.append(space + shown if at_right else shown + space)
    return "  ".join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    """The end of a text, for that is where names differ."""
    if cell_len(text) <= width:
        return text
    while cell_len(text) > width - cell_len(_CUT):
        text = text[1:]
    return _CUT + text
