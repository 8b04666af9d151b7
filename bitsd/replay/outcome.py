"""What `bitsd replay` prints."""

import json
from collections.abc import Iterator
from pathlib import Path

from .capture import NotACapture
from .decode import Report
from .play import CannotPlay, Options, Result, replay


def report(path: Path, url: str, options: Options, *, as_json: bool) -> Report:
    """What a server answers to a capture."""
    try:
        result = replay(path, url, options)
    except NotACapture as problem:
        return Report((), f"{path}: {problem}", 1)
    except CannotPlay as problem:
        return Report((), str(problem), 1)
    except OSError as error:
        return Report((), f"cannot read {path}: {error.strerror}", 1)
    lines = [_as_json(result, url)] if as_json else _lines(result)
    return Report(lines, None, 1 if result.differences else 0)


def _lines(result: Result) -> Iterator[str]:
    for note in result.notes:
        yield f"note: {note}"
    for difference in result.differences:
        yield str(difference)
    count = len(result.differences)
    yield f"{result.compared} answers compared, {count or 'no'} differences"


def _as_json(result: Result, url: str) -> str:
    found = {
        "to": url,
        "compared": result.compared,
        "notes": result.notes,
        "differences": [each._asdict() for each in result.differences],
    }
    return json.dumps(found, indent=1)
