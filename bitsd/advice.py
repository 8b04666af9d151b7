"""What to do about each status and each refusal, in an admin's words: for `explain`."""

from collections.abc import Mapping
from typing import NamedTuple

from .codes import HRESULTS, Cause
from .protocol.refusal import Reason

_SERVER = (Cause.SERVER,)
_CLIENT = (Cause.CLIENT,)
_PROXY = (Cause.PROXY,)
_APPLICATION = (Cause.APPLICATION,)
_SERVER_OR_PROXY = (Cause.SERVER, Cause.PROXY)


class Answer(NamedTuple):
    """What a status means, who causes it, what to do."""

    meaning: str
    causes: tuple[Cause, ...]
    advice: str


class Cure(NamedTuple):
    """Who causes a refusal, and what to do."""

    causes: tuple[Cause, ...]
    advice: str


#: The statuses that matter to a job.
STATUSES: Mapping[int, Answer] = {
    200: Answer(
        "A plain 200 without an Ack: a web server took BITS_POST for a GET.",
        _SERVER_OR_PROXY,
        "Let it pass the URL on to bitsd (Caddy: `reverse_proxy`) in place of "
        "serving files itself.",
    ),
    400: Answer(
        "The request was found malformed, or its method unknown: Node and aiohttp "
        "as they come refuse BITS_POST so.",
        _SERVER_OR_PROXY,
        "With a line in bitsd's log: see `bitsd explain malformed`. Without one: "
        "something in between answered.",
    ),
    401: Answer(
        "Sign-in is needed, or the credentials were wrong.",
        (Cause.CLIENT, Cause.SERVER),
        "Give the job credentials: even Negotiate sends none otherwise "
        "(-Credential, -Authentication). NTLM needs one connection to bitsd for "
        "each client: a pooling proxy breaks it, Basic over HTTPS does not mind.",
    ),
    403: Answer(
        "For an upload most often: the file exists already and `overwrite` is off. "
        "Else: not allowed.",
        _SERVER,
        "Take another name, or let bitsd replace files (`overwrite`). Its log says "
        "which it is: exists, or access_denied (`write`, rights on the folder). "
        "Without a line there, a filter in between said it.",
    ),
    404: Answer(
        "No such URL. For an upload: no such directory or parent folder. IIS 7 and "
        "later says it for uploads that are off or too large.",
        (Cause.CLIENT, Cause.SERVER),
        "Compare the URL with `url` of the directory, letter case included; make "
        "the parent folder; replace file types blocked by another web server.",
    ),
    405: Answer(
        "A web server refused the method BITS_POST: nginx without proxy_pass does.",
        _SERVER_OR_PROXY,
        "Send the location to bitsd: `proxy_pass http://127.0.0.1:8080;`, and "
        "take limit_except away.",
    ),
    407: Answer(
        "The client's own web proxy wants a sign-in.",
        (Cause.PROXY, Cause.CLIENT),
        "Set proxy credentials on the job (target Proxy), or let the proxy pass "
        "the server without (bitsadmin /util /setieproxy for LocalSystem).",
    ),
    408: Answer(
        "A body or a server application was too slow.",
        (Cause.NETWORK, Cause.PROXY, Cause.APPLICATION),
        "bitsd's log says stalled, cut_off or application_timeout. Behind nginx: "
        "`proxy_request_buffering off;` and a longer client_body_timeout.",
    ),
    409: Answer(
        "A newer packet of the same session overtook this one.",
        (Cause.CLIENT, Cause.NETWORK),
        "Nothing: the upload goes on over the newer connection. Other servers say "
        "it when the file exists.",
    ),
    411: Answer(
        "The request had no Content-Length.",
        (Cause.PROXY, Cause.CLIENT),
        "A proxy that sends chunks took it away; in nginx: "
        "`proxy_http_version 1.1; proxy_request_buffering off;`.",
    ),
    412: Answer(
        "The file was replaced between two requests of a download.",
        _SERVER,
        "Start the job again. If it repeats, the servers behind one name hold files "
        "of different times: copy with times kept.",
    ),
    413: Answer(
        "One fragment was too big. bitsd never says it: a proxy's body limit did.",
        _PROXY,
        "nginx: `client_max_body_size 0;`. Apache: `SecRequestBodyLimit` of "
        "mod_security. IIS: maxAllowedContentLength. Fragments of Windows reach 13 MB; "
        "`bitsd doctor URL` names the proxy.",
    ),
    416: Answer(
        "Upload: a fragment left a gap, and the answer says where to resume. "
        "Download: the range lies beyond the end of the file.",
        (Cause.CLIENT, Cause.PROXY),
        "Upload: nothing, if it goes on. Download: the file became shorter; fetch "
        "its index or HEAD again.",
    ),
    500: Answer(
        "The server failed. With 0x8020001F in the Ack the session is unknown, "
        "with 0x80200020 the file is too large: those are not retried alike.",
        _SERVER,
        "Read bitsd's log: its line names the reason, and `bitsd explain REASON` "
        "goes on from there.",
    ),
    501: Answer(
        "Uploads are off for this URL, or a web server does not know BITS_POST: "
        "Apache without ProxyPass and lighttpd in any case.",
        _SERVER_OR_PROXY,
        "bitsd: `upload = true` in the directory. Apache: `ProxyPass`. Lighttpd "
        "cannot pass the method on: take nginx, HAProxy, Apache or Caddy.",
    ),
    502: Answer(
        "A proxy could not speak with bitsd.",
        _PROXY,
        "Is bitsd running, and at the address in proxy_pass? In nginx also "
        '`proxy_http_version 1.1; proxy_set_header Connection "";`.',
    ),
    503: Answer(
        "Busy: a limit is reached, or it stops; or a proxy without bitsd.",
        _SERVER_OR_PROXY,
        "bitsd's log says too_many_sessions, spool_full, low_space, "
        "too_many_requests or stopping. Clients come again by themselves.",
    ),
    504: Answer(
        "A proxy waited too long for bitsd, for example while a file is published "
        "or the server application works.",
        (Cause.PROXY, Cause.APPLICATION),
        "nginx: `proxy_read_timeout 300s;`, for clients wait 5 minutes too.",
    ),
    505: Answer(
        "The HTTP version was refused.",
        _SERVER_OR_PROXY,
        "bitsd takes 1.0 and 1.1: look for what is in between.",
    ),
}

#: What to do about each refusal; meaning, status and HRESULT are in its own table.
REASONS: Mapping[Reason, Cure] = {
    Reason.MALFORMED: Cure(
        (Cause.CLIENT, Cause.PROXY),
        "The log's detail names the field or the name in the URL. Use an upload URL "
        "of UTF-8, percent-encoded once, without characters Windows forbids.",
    ),
    Reason.IS_A_FOLDER: Cure(_CLIENT, "Add the file's name to the upload URL."),
    Reason.REPLY_URL_TOO_LONG: Cure(
        _APPLICATION,
        "Keep BITS-Static-Response-URL within 2,200 characters.",
    ),
    Reason.SIGN_IN: Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Give the job credentials that bitsd knows (`bitsd passwd`), for a scheme that "
        "it offers; the log's sign-in-failed lines say what was wrong.",
    ),
    Reason.NOT_PERMITTED: Cure(
        _SERVER,
        "Put the user or a group into `read` or `write`. Where no way to sign in was "
        "left, the log says why: Basic needs TLS, NTLM a connection without a proxy.",
    ),
    Reason.ACCESS_DENIED: Cure(
        _SERVER,
        "Give the service user the right that the log names on that folder.",
    ),
    Reason.EXISTS: Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Set `overwrite = true`, remove the file, or upload under a new name.",
    ),
    Reason.NO_FOLDER: Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Make the folder on the server, or correct the URL: folders are not made.",
    ),
    Reason.ENTITY_GONE: Cure(
        _SERVER,
        "Something deletes below BITS-Sessions: exclude it from cleaning jobs and "
        "virus scanners, then upload again.",
    ),
    Reason.STALLED: Cure(
        (Cause.NETWORK, Cause.PROXY),
        "Bytes that came are kept and the client goes on. If it repeats, test the "
        "line; in nginx set `proxy_request_buffering off;`.",
    ),
    Reason.CUT_OFF: Cure(
        (Cause.NETWORK, Cause.PROXY),
        "Nothing, if it is rare: bytes that came are kept and the client goes on. "
        "Otherwise look for a proxy or firewall that cuts long requests.",
    ),
    Reason.APPLICATION_TIMEOUT: Cure(
        _APPLICATION,
        "Let the application answer first and work later. The upload is kept, the "
        "next try notifies again.",
    ),
    Reason.SUPERSEDED: Cure(
        (Cause.NETWORK, Cause.CLIENT),
        "Nothing: the client came back on a new connection, which goes on.",
    ),
    Reason.LENGTH_REQUIRED: Cure(
        (Cause.PROXY, Cause.CLIENT),
        "Find the proxy that sends chunks; in nginx: "
        "`proxy_request_buffering off; proxy_http_version 1.1;`.",
    ),
    Reason.REPLY_MALFORMED: Cure(
        _APPLICATION,
        "Repair the answer of `notification_url`; the log says what is wrong in it.",
    ),
    Reason.OUT_OF_SYNC: Cure(
        (Cause.CLIENT, Cause.NETWORK),
        "Nothing: the client resumes at the offset it was told.",
    ),
    Reason.SESSION_NOT_FOUND: Cure(_SERVER_OR_PROXY, HRESULTS[0x8020001F].advice),
    Reason.TOO_LARGE: Cure((Cause.SERVER, Cause.CLIENT), HRESULTS[0x80200020].advice),
    Reason.DISK_FULL: Cure(_SERVER, HRESULTS[0x80070070].advice),
    Reason.STORAGE_FAILED: Cure(
        _SERVER,
        "Look at the errno in bitsd's log, then at dmesg, the disk and its mounts.",
    ),
    Reason.APPLICATION_FAILED: Cure(_APPLICATION, HRESULTS[0x8020001E].advice),
    Reason.INTERNAL: Cure(
        _SERVER,
        "This is a fault in bitsd: please report the traceback in its log.",
    ),
    Reason.UPLOADS_DISABLED: Cure(
        _SERVER,
        "Set `upload = true` for the [[directory]] of this URL.",
    ),
    Reason.TOO_MANY_SESSIONS: Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Raise `sessions_per_user`, or shorten `session_timeout` so that abandoned "
        "uploads go sooner. All anonymous clients behind one proxy count as one.",
    ),
    Reason.SPOOL_FULL: Cure(
        _SERVER,
        "Raise `maximum_spool_size`, or wait until uploads finish. Those begun earlier "
        "go on; `session_timeout` ends abandoned ones.",
    ),
    Reason.TOO_MANY_REQUESTS: Cure(
        (Cause.CLIENT, Cause.SERVER),
        "Raise `requests_per_second`. All clients behind one address count as one.",
    ),
    Reason.TOO_MANY_FAILURES: Cure(
        _CLIENT,
        "Wait a minute, then sign in with the right password. The log's sign-in-failed "
        "lines say who failed before; all behind one address count as one.",
    ),
    Reason.LOW_SPACE: Cure(
        _SERVER,
        "Make room, or lower `minimum_free_space`. Uploads begun earlier go on.",
    ),
    Reason.STOPPING: Cure(_SERVER, "Nothing: clients come again after the restart."),
}

UNUSUAL = Answer(
    "An answer that bitsd does not give to a packet.",
    (Cause.PROXY, Cause.APPLICATION),
    "Find who answered: a proxy, another server at that name, or the server "
    "application.",
)
