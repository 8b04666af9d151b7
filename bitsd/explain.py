"""What an error code means, who causes it, and what to do: `bitsd explain`.

Nothing is asked of the network. Which statuses are retried follows "Handling Server
Application Errors" (learn.microsoft.com, Win32 BITS), the only published list, and
[MC-BUP] 3.1.5.1 and 3.1.5.2 where an answer is special (protocol-notes/retries.md).
"""

import re
import textwrap
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from .codes import HRESULTS, Cause, Entry, Retry
from .protocol.refusal import Reason

#: For whoever asked about something else.
ACCEPTED = (
    "an HRESULT (0x8020001F, 8020001F or -2145386465), an HTTP status (413), a name "
    "(BG_E_TOO_LARGE) or a reason in bitsd's log (exists)"
)

#: A job shows an HTTP status as this plus the status: 0x80190193 is 403.
HTTP_HRESULT = 0x80190000

_SERVER = (Cause.SERVER,)
_CLIENT = (Cause.CLIENT,)
_PROXY = (Cause.PROXY,)
_APPLICATION = (Cause.APPLICATION,)
_SERVER_OR_PROXY = (Cause.SERVER, Cause.PROXY)


class _Answer(NamedTuple):
    meaning: str
    causes: tuple[Cause, ...]
    advice: str


class _Cure(NamedTuple):
    causes: tuple[Cause, ...]
    advice: str


# The statuses that matter to a job.
_STATUSES: Mapping[int, _Answer] = {
    200: _Answer(
        "A plain 200 without an Ack: a web server took BITS_POST for a GET.",
        _SERVER_OR_PROXY,
        "Let it pass the URL on to bitsd (Caddy: `reverse_proxy`) in place of "
        "serving files itself.",
    ),
    400: _Answer(
        "The request was found malformed, or its method unknown: Node and aiohttp "
        "as they come refuse BITS_POST so.",
        _SERVER_OR_PROXY,
        "With a line in bitsd's log: see `bitsd explain malformed`. Without one: "
        "something in between answered.",
    ),
    401: _Answer(
        "Sign-in is needed, or the credentials were wrong.",
        (Cause.CLIENT, Cause.SERVER),
        "Give the job credentials: even Negotiate sends none otherwise "
        "(-Credential, -Authentication). NTLM needs one connection to bitsd for "
        "each client: a pooling proxy breaks it, Basic over HTTPS does not mind.",
    ),
    403: _Answer(
        "Not allowed, or the file exists and may not be replaced.",
        _SERVER,
        "bitsd's log says which: access_denied (`write`, rights on the folder) or "
        "exists (`overwrite`). Without a line there, a filter in between said it.",
    ),
    404: _Answer(
        "No such URL. For an upload: no such directory or parent folder. IIS 7 and "
        "later says it for uploads that are off or too large.",
        (Cause.CLIENT, Cause.SERVER),
        "Compare the URL with `url` of the directory, letter case included; make "
        "the parent folder; replace file types blocked by another web server.",
    ),
    405: _Answer(
        "A web server refused the method BITS_POST: nginx without proxy_pass does.",
        _SERVER_OR_PROXY,
        "Send the location to bitsd: `proxy_pass http://127.0.0.1:8080;`, and "
        "take limit_except away.",
    ),
    407: _Answer(
        "The client's own web proxy wants a sign-in.",
        (Cause.PROXY, Cause.CLIENT),
        "Set proxy credentials on the job (target Proxy), or let the proxy pass "
        "the server without (bitsadmin /util /setieproxy for LocalSystem).",
    ),
    408: _Answer(
        "A body or a server application was too slow.",
        (Cause.NETWORK, Cause.PROXY, Cause.APPLICATION),
        "bitsd's log says stalled, cut_off or application_timeout. Behind nginx: "
        "`proxy_request_buffering off;` and a longer client_body_timeout.",
    ),
    409: _Answer(
        "A newer packet of the same session overtook this one.",
        (Cause.CLIENT, Cause.NETWORK),
        "Nothing: the upload goes on over the newer connection. Other servers say "
        "it when the file exists.",
    ),
    411: _Answer(
        "The request had no Content-Length.",
        (Cause.PROXY, Cause.CLIENT),
        "A proxy that sends chunks took it away; in nginx: "
        "`proxy_http_version 1.1; proxy_request_buffering off;`.",
    ),
    412: _Answer(
        "The file was replaced between two requests of a download.",
        _SERVER,
        "Start the job again. If it repeats, the servers behind one name hold files "
        "of different times: copy with times kept.",
    ),
    413: _Answer(
        "One fragment was too big. bitsd never says it: a proxy's body limit did.",
        _PROXY,
        "nginx: `client_max_body_size 0;`. Apache: `LimitRequestBody 0`. IIS: raise "
        "maxAllowedContentLength. Fragments of Windows reach 13 MB.",
    ),
    416: _Answer(
        "Upload: a fragment left a gap, and the answer says where to resume. "
        "Download: the range lies beyond the end of the file.",
        (Cause.CLIENT, Cause.PROXY),
        "Upload: nothing, if it goes on. Download: the file became shorter; fetch "
        "its index or HEAD again.",
    ),
    500: _Answer(
        "The server failed. With 0x8020001F in the Ack the session is unknown, "
        "with 0x80200020 the file is too large: those are not retried alike.",
        _SERVER,
        "Read bitsd's log: its line names the reason, and `bitsd explain REASON` "
        "goes on from there.",
    ),
    501: _Answer(
        "Uploads are off for this URL, or a web server does not know BITS_POST: "
        "Apache without ProxyPass and lighttpd in any case.",
        _SERVER_OR_PROXY,
        "bitsd: `upload = true` in the directory. Apache: `ProxyPass`. Lighttpd "
        "cannot pass the method on: take nginx, HAProxy, Apache or Caddy.",
    ),
    502: _Answer(
        "A proxy could not speak with bitsd.",
        _PROXY,
        "Is bitsd running, and at the address in proxy_pass? In nginx also "
        '`proxy_http_version 1.1; proxy_set_header Connection "";`.',
    ),
    503: _Answer(
        "Busy: a limit is reached, or it stops; or a proxy without bitsd.",
        _SERVER_OR_PROXY,
        "bitsd's log says too_many_sessions, spool_full, low_space, "
        "too_many_requests or stopping. Clients come again by themselves.",
    ),
    504: _Answer(
        "A proxy waited too long for bitsd, for example while a file is published "
        "or the server application works.",
        (Cause.PROXY, Cause.APPLICATION),
        "nginx: `proxy_read_timeout 300s;`, for clients wait 5 minutes too.",
    ),
    505: _Answer(
        "The HTTP version was refused.",
        _SERVER_OR_PROXY,
        "bitsd takes 1.0 and 1.1: look for what is in between.",
    ),
}

# What to do about each refusal; meaning, status and HRESULT are in its own table.
_REASONS: Mapping[Reason, _Cure] = {
    Reason.MALFORMED: _Cure(
        (Cause.CLIENT, Cause.PROXY),
        "The log's detail names the field or the name in the URL. Use an upload URL "
        "of UTF-8, percent-encoded once, without characters Windows forbids.",
    ),
    Reason.IS_A_FOLDER: _Cure(_CLIENT, "Add the file's name to the upload URL."),
    Reason.REPLY_URL_TOO_LONG: _Cure(
        _APPLICATION,
        "Keep BITS-Static-Response-URL within 2,200 characters.",
    ),
    Reason.ACCESS_DENIED: _Cure(
        _SERVER,
        "Put the user or group into `write`, or give the service user the right "
        "that the log names on that folder.",
    ),
    Reason.EXISTS: _Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Set `overwrite = true`, remove the file, or upload under a new name.",
    ),
    Reason.NO_FOLDER: _Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Make the folder on the server, or correct the URL: folders are not made.",
    ),
    Reason.ENTITY_GONE: _Cure(
        _SERVER,
        "Something deletes below BITS-Sessions: exclude it from cleaning jobs and "
        "virus scanners, then upload again.",
    ),
    Reason.STALLED: _Cure(
        (Cause.NETWORK, Cause.PROXY),
        "Bytes that came are kept and the client goes on. If it repeats, test the "
        "line; in nginx set `proxy_request_buffering off;`.",
    ),
    Reason.CUT_OFF: _Cure(
        (Cause.NETWORK, Cause.PROXY),
        "Nothing, if it is rare: bytes that came are kept and the client goes on. "
        "Otherwise look for a proxy or firewall that cuts long requests.",
    ),
    Reason.APPLICATION_TIMEOUT: _Cure(
        _APPLICATION,
        "Let the application answer first and work later. The upload is kept, the "
        "next try notifies again.",
    ),
    Reason.SUPERSEDED: _Cure(
        (Cause.NETWORK, Cause.CLIENT),
        "Nothing: the client came back on a new connection, which goes on.",
    ),
    Reason.LENGTH_REQUIRED: _Cure(
        (Cause.PROXY, Cause.CLIENT),
        "Find the proxy that sends chunks; in nginx: "
        "`proxy_request_buffering off; proxy_http_version 1.1;`.",
    ),
    Reason.REPLY_MALFORMED: _Cure(
        _APPLICATION,
        "Repair the answer of `notification_url`; the log says what is wrong in it.",
    ),
    Reason.OUT_OF_SYNC: _Cure(
        (Cause.CLIENT, Cause.NETWORK),
        "Nothing: the client resumes at the offset it was told.",
    ),
    Reason.SESSION_NOT_FOUND: _Cure(_SERVER_OR_PROXY, HRESULTS[0x8020001F].advice),
    Reason.TOO_LARGE: _Cure((Cause.SERVER, Cause.CLIENT), HRESULTS[0x80200020].advice),
    Reason.DISK_FULL: _Cure(_SERVER, HRESULTS[0x80070070].advice),
    Reason.STORAGE_FAILED: _Cure(
        _SERVER,
        "Look at the errno in bitsd's log, then at dmesg, the disk and its mounts.",
    ),
    Reason.APPLICATION_FAILED: _Cure(_APPLICATION, HRESULTS[0x8020001E].advice),
    Reason.INTERNAL: _Cure(
        _SERVER,
        "This is a fault in bitsd: please report the traceback in its log.",
    ),
    Reason.UPLOADS_DISABLED: _Cure(
        _SERVER,
        "Set `upload = true` for the [[directory]] of this URL.",
    ),
    Reason.TOO_MANY_SESSIONS: _Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Raise `sessions_per_user`, or shorten `session_timeout` so that abandoned "
        "uploads go sooner. All anonymous clients behind one proxy count as one.",
    ),
    Reason.SPOOL_FULL: _Cure(
        _SERVER,
        "Raise `maximum_spool_size`, or wait until uploads finish. Those begun earlier "
        "go on; `session_timeout` ends abandoned ones.",
    ),
    Reason.TOO_MANY_REQUESTS: _Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Raise `requests_per_second`. All clients behind one address count as one.",
    ),
    Reason.LOW_SPACE: _Cure(
        _SERVER,
        "Make room, or lower `minimum_free_space`. Uploads begun earlier go on.",
    ),
    Reason.STOPPING: _Cure(_SERVER, "Nothing: clients come again after the restart."),
}


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
    meaning, causes, advice = _STATUSES.get(status, _UNUSUAL)
    entry = Entry(f"HTTP {status} {phrase}", meaning, causes, retry(status), advice)
    reasons = [reason for reason in Reason if reason.status == status]
    heading = f"{entry.name}, in a job {_spelt(HTTP_HRESULT + status)}"
    return _text(heading, entry, reasons)


_UNUSUAL = _Answer(
    "An answer that bitsd does not give to a packet.",
    (Cause.PROXY, Cause.APPLICATION),
    "Find who answered: a proxy, another server at that name, or the server "
    "application.",
)


def _of_reason(reason: Reason) -> str:
    causes, advice = _REASONS[reason]
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
