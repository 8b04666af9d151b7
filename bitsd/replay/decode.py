"""What `bitsd decode` prints."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from . import show, tell
from .capture import NotACapture
from .findings import judge
from .recording import Recording, read


class Report(NamedTuple):
    """What a command has to say.

    Attributes:
        lines: for stdout.
        problem: for stderr.
        code: to exit with.
    """

    lines: Iterable[str]
    problem: str | None
    code: int


def report(path: Path, *, as_json: bool) -> Report:
    """What a capture shows."""
    try:
        recording = read(path)
    except NotACapture as problem:
        return Report((), f"{path}: {problem}", 1)
    except OSError as error:
        return Report((), f"cannot read {path}: {error.strerror}", 1)
    judged = judge(recording)
    if as_json:
        text = json.dumps(tell.as_json(recording, judged), indent=1)
        return Report([text], damage(recording), _code(recording))
    return Report(show.lines(recording, judged), damage(recording), _code(recording))


def _code(recording: Recording) -> int:
    """That a capture breaks off is no failure, unless nothing of it can be read."""
    return 0 if recording.packets or recording.damage is None else 1


def damage(recording: Recording) -> str | None:
    """What is wrong with the file itself."""
    if recording.damage is None:
        return None
    so_far = f"{recording.packets} packets were read before that"
    return f"{recording.path}: {recording.damage}; {so_far}"
