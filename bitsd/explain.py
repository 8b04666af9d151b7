"""What an error code means, who causes it, and what to do: `bitsd explain`.

Nothing is asked of the network. Which statuses are retried follows "Handling Server
Application Errors" (learn.microsoft.com, Win32 BITS), the only published list, and
[MC-BUP] 3.1.5.1 and 3.1.5.2 where an answer is special (protocol-notes/retries.md).
"""

import re
import textwrap
from collections.abc import Mapping
from http import HTTPStatus

from .advice import REASONS, STATUSES, UNUSUAL
from .codes import HRESULTS, Entry, Retry
from .protocol.refusal import Reason

#: For whoever asked about something else.
ACCEPTED = (
    "an HRESULT (0x8020001F, 8020001F or -2145386465), an HTTP status (413), a name "
    "(BG_E_TOO_LARGE) or a reason in bitsd's log (exists)"
)

#: A job shows an HTTP status as this plus the status: 0x80190193 is 403.
HTTP_HRESULT = 0x80190000


def explain(code: str) -> str | None:
    """The explanation of a code as lines of text, or None for one not known.

    Args:
        code: anything that `ACCEPTED` names, in any letter case.
    """
    word = code.strip().lower()
    for reason in Reason:
        if word == reason.name.lower():
            return _of_reason(reason)
    for hresult, entry in HRESULTS.items():
        if word == entry.name.lower():
            return _of_hresult(hresult, entry)
    number = _number(word)
    return None if number is None else _of_number(number)


def retry(status: int) -> Retry:
    """What a Windows client does after an answer with this status."""
    if status in _SPECIAL:
        return _SPECIAL[status]
    return Retry.NO if status in _FATAL else Retry.YES


_FATAL = {300, 301, 302, 303, 304, 305, 307, 501, 505}
_FATAL |= {*range(400, 500)} - {408, 409}
_SPECIAL: Mapping[int, Retry] = {
    200: Retry.WHEN_RESUMED,
    401: Retry.CREDENTIALS,
    407: Retry.CREDENTIALS,
    413: Retry.SMALLER,
    416: Retry.RESUMES,
}

_NUMBER = re.compile(
    r"(?P<hexadecimal>0x[0-9a-f]{1,8}|[0-9a-f]{8})"
    r"|(?P<decimal>-[0-9]{1,10}|[0-9]{3}|[0-9]{10})"
    r"|(?:bg_e_http_error_|http ?)(?P<status>[0-9]{3})"
)


def _number(word: str) -> int | None:
    """The code as 32 bits without sign; a status as itself."""
    match = _NUMBER.fullmatch(word)
    if match is None:
        return None
    hexadecimal, decimal, status = match.groups()
    number = int(hexadecimal, 16) if hexadecimal else int(decimal or status)
    return number & 0xFFFFFFFF if -(2**31) <= number < 2**32 else None


def _of_number(number: int) -> str | None:
    entry = HRESULTS.get(number)
    if entry is not None:
        return _of_hresult(number, entry)
    status = number & 0xFFFF if number & 0xFFFF0000 == HTTP_HRESULT else number
    return _of_status(status)


def _of_hresult(hresult: int, entry: Entry) -> str:
    reasons = [reason for reason in Reason if reason.hresult == hresult]
    return _text(f"{_spelt(hresult)} {entry.name}", entry, reasons)


def _of_status(status: int) -> str | None:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return None
    meaning, causes, advice = STATUSES.get(status, UNUSUAL)
    entry = Entry(f"HTTP {status} {phrase}", meaning, causes, retry(status), advice)
    reasons = [reason for reason in Reason if reason.status == status]
    heading = f"{entry.name}, in a job {_spelt(HTTP_HRESULT + status)}"
    return _text(heading, entry, reasons)


def _of_reason(reason: Reason) -> str:
    causes, advice = REASONS[reason]
    meaning = reason.sentence[0].upper() + reason.sentence[1:] + "."
    entry = Entry(reason.name.lower(), meaning, causes, _retry(reason), advice)
    sent = f"HTTP {reason.status}"
    if reason.hresult is not None:
        sent += f" with {_spelt(reason.hresult)} {HRESULTS[reason.hresult].name}"
    return _text(f"{entry.name}, sent as {sent}", entry, [])


def _retry(reason: Reason) -> Retry:
    """A code in the Ack outranks its status, [MC-BUP] 3.1.5.2.1."""
    if reason.hresult is None:
        return retry(reason.status)
    return HRESULTS[reason.hresult].retry


def _spelt(hresult: int) -> str:
    return f"0x{hresult:08X} ({hresult - 2**32})"


def _text(heading: str, entry: Entry, reasons: list[Reason]) -> str:
    rows = [
        ("Meaning", entry.meaning),
        ("Caused by", " or ".join(cause.value for cause in entry.causes)),
        ("Retried", entry.retry.value),
        ("What to do", entry.advice),
    ]
    if reasons:
        named = ", ".join(reason.name.lower() for reason in reasons)
        rows.append(("In the log", named))
    return "\n".join([heading, *(_row(label, text) for label, text in rows)])


def _row(label: str, text: str) -> str:
    return textwrap.fill(
        text,
        width=80,
        initial_indent=f"  {label:<12}",
        subsequent_indent=" " * 14,
        break_on_hyphens=False,
        break_long_words=False,
    )
