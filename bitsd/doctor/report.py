"""What was found, for people and for programs."""

import textwrap
from collections.abc import Callable
from enum import Enum

import msgspec

from bitsd.plain import plain

from .hops import Hop
from .verdicts import STATUS, VERDICTS, Symptom, cure

#: What fits into most windows, and into a mail.
WIDTH = 80

#: A job shows an HTTP status as this plus the status.
_HTTP_HRESULT = 0x80190000


class Result(Enum):
    """Of a probe."""

    OK = "ok"
    NOTE = "note"
    SKIPPED = "skipped"
    FAULT = "fault"


class Fault(msgspec.Struct, frozen=True):
    """What is wrong, and where. The names are keys of `--json`, and stay.

    Attributes:
        symptom: a word of `verdicts.Symptom`.
        hop: who is at fault; null if that cannot be told.
        code: that a BITS job shows; empty if it shows none.
        means: to a job.
        cure: lines that may repair it.
    """

    symptom: Symptom
    hop: Hop | None
    code: str
    means: str
    cure: list[str]


class Finding(msgspec.Struct, frozen=True):
    """What one probe found. The names are keys of `--json`, and stay.

    Attributes:
        probe: which.
        result: `ok`, `note` (worth knowing, no fault), `skipped` or `fault`.
        detail: for people.
        fault: what is wrong; null unless something is.
    """

    probe: str
    result: Result
    detail: str
    fault: Fault | None = None


class Findings:
    """What is found, told as it is found.

    Args:
        tell: takes each finding at once.
    """

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        self.all: list[Finding] = []
        self._tell = tell

    @property
    def faults(self) -> list[Fault]:
        """Those found, each symptom once."""
        found = {each.fault.symptom: each.fault for each in self.all if each.fault}
        return [*found.values()]

    def ok(self, probe: str, detail: str) -> None:
        """It went as it should."""
        self._add(Finding(probe, Result.OK, detail))

    def note(self, probe: str, detail: str) -> None:
        """Worth knowing."""
        self._add(Finding(probe, Result.NOTE, detail))

    def skip(self, probe: str, detail: str) -> None:
        """It could not be tried."""
        self._add(Finding(probe, Result.SKIPPED, detail))

    def fault(
        self,
        probe: str,
        symptom: Symptom,
        detail: str,
        *,
        hop: Hop | None = None,
        status: int | None = None,
    ) -> None:
        """Something is wrong.

        Args:
            probe: that found it.
            symptom: what.
            detail: what was seen.
            hop: who is at fault, if that can be told.
            status: of the answer, where that is what a job shows.
        """
        verdict = VERDICTS[symptom]
        code = verdict.code
        if code == STATUS:
            code = f"0x{_HTTP_HRESULT + status:08X}" if status else ""
        lines = cure(symptom, hop)
        fault = Fault(symptom, hop, code, verdict.means, lines)
        self._add(Finding(probe, Result.FAULT, detail, fault))

    def _add(self, finding: Finding) -> None:
        self.all.append(finding)
        self._tell(finding)


def line(finding: Finding) -> str:
    """A finding in a line, or in as many as it takes."""
    word = finding.result.value
    word = word.upper() if finding.result is Result.FAULT else word
    text = _wrapped(plain(finding.detail), f"{word:8}{finding.probe:13}")
    return text.removesuffix("\n")


def paragraph(finding: Finding, fault: Fault) -> str:
    """What to know and to do about a fault."""
    code = f" ({fault.code})" if fault.code else ""
    text = _wrapped(f"{finding.probe}: {plain(finding.detail)}", "")
    text += _wrapped(f"{fault.means}{code}", "  ")
    for each in fault.cure:
        text += _wrapped(each, "  -> ")
    return text


def _wrapped(text: str, indent: str) -> str:
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "".join(f"{each}\n" for each in lines)
