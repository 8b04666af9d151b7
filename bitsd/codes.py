"""HRESULTs that a BITS job may show, in an admin's words: data for `bitsd explain`.

Names and meanings follow "BITS Return Values" and "Handling Server Application
Errors" (learn.microsoft.com, Win32 BITS), the message table of qmgr.dll, [MC-BUP]
2.2.1.2, and "Error Messages" of WinHTTP for 0x80072xxx.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple


class Cause(Enum):
    """Who has to act."""

    SERVER = "the server"
    APPLICATION = "the server application (notification_url)"
    PROXY = "a proxy or gateway on the way"
    CLIENT = "the client"
    NETWORK = "the network"


class Retry(Enum):
    """Whether a Windows client goes on by itself."""

    YES = "yes, every 10 minutes by default, for up to 14 days without progress"
    NO = "no, the job stops in the state ERROR"
    NEW_SESSION = "yes, with a new session, from the first byte"
    RESUMES = "an upload goes on from the offset in the answer; a download stops"
    SMALLER = "yes, with smaller fragments, down to 5 KB; a download stops"
    CREDENTIALS = "once, with the credentials of the job; then it stops"
    BY_STATUS = "as the HTTP status says: 5xx but 501 and 505, 408 and 409 are retried"
    WHEN_RESUMED = "only after the job is resumed (bitsadmin /resume)"
    WHEN_CONNECTED = "yes, as soon as a network adapter is connected"
    UNSTATED = "Microsoft does not say; if so, the job shows TRANSIENT_ERROR"


class Entry(NamedTuple):
    """A code's row: its name, what it means, and what to do about it."""

    name: str
    meaning: str
    causes: tuple[Cause, ...]
    retry: Retry
    advice: str


_SERVER = (Cause.SERVER,)
_CLIENT = (Cause.CLIENT,)
_SERVER_OR_PROXY = (Cause.SERVER, Cause.PROXY)

HRESULTS: Mapping[int, Entry] = {
    0x80070005: Entry(
        "E_ACCESSDENIED",
        "Access denied: by the server when the job's error context is the remote "
        "file, by the client's own disk when it is the local file.",
        (Cause.SERVER, Cause.CLIENT),
        Retry.NO,
        "Read the reason in bitsd's log. The user must be in `write`, the service "
        "user must own the folder, an existing file needs `overwrite = true`, and "
        "uploads need `upload = true`.",
    ),
    0x80070057: Entry(
        "E_INVALIDARG",
        "The upload has a name with characters that Windows forbids, or that of a "
        "folder; or the server found the packet malformed.",
        (Cause.CLIENT, Cause.PROXY),
        Retry.NO,
        'Take a name without < > : " | ? * and \\, without a dot or space at its end, '
        "not NUL, COM1 and such, and not that of a folder. If only clients behind one "
        "proxy see this, the proxy changes header fields: compare with curl past it.",
    ),
    0x80070070: Entry(
        "ERROR_DISK_FULL",
        "No room: on the server for an upload, on the client for a download.",
        (Cause.SERVER, Cause.CLIENT),
        Retry.YES,
        "Make room or raise the quota; a shorter `session_timeout` frees what "
        "abandoned uploads hold. Bytes that arrived are kept, the upload goes on.",
    ),
    0x80070112: Entry(
        "0x80070112 of [MC-BUP]",
        "Disk full or notification time-out, in the number the specification "
        "prints. bitsd never sends it: it says 0x80070070 or 0x8020001E.",
        (Cause.SERVER, Cause.APPLICATION),
        Retry.BY_STATUS,
        "Look at the HTTP status: 500 is a full disk on the server, 408 a server "
        "application that did not answer in time.",
    ),
    0x800704DD: Entry(
        "ERROR_NOT_LOGGED_ON",
        "The owner of the job is not logged on at the client. BITS works only for "
        "a user with an interactive session, or for a service account.",
        _CLIENT,
        Retry.NO,
        "Not from PowerShell Remoting, SSH or a task that runs without log-on: run "
        "the job as LocalSystem, or upload with curl, which needs no log-on.",
    ),
    0x80072EE2: Entry(
        "ERROR_WINHTTP_TIMEOUT",
        "No answer in time.",
        (Cause.NETWORK, Cause.PROXY, Cause.SERVER),
        Retry.UNSTATED,
        "Try the URL from the client with `Invoke-WebRequest`; look for a firewall "
        "that drops silently, then for slow storage behind bitsd.",
    ),
    0x80072EE7: Entry(
        "ERROR_WINHTTP_NAME_NOT_RESOLVED",
        "The client cannot resolve the server's name.",
        (Cause.NETWORK, Cause.CLIENT),
        Retry.UNSTATED,
        "Repair DNS. If only packets after the first fail, `host_id` names a "
        "computer that clients cannot resolve.",
    ),
    0x80072EFD: Entry(
        "ERROR_WINHTTP_CANNOT_CONNECT",
        "Nothing accepts the connection.",
        (Cause.NETWORK, Cause.SERVER),
        Retry.UNSTATED,
        "Is bitsd running and listening on that address, not just on 127.0.0.1? Is "
        "the port open in the firewall? Does the client need a proxy?",
    ),
    0x80072EFE: Entry(
        "ERROR_WINHTTP_CONNECTION_ERROR",
        "The connection broke, or client and server found no common TLS version.",
        (Cause.NETWORK, Cause.PROXY),
        Retry.UNSTATED,
        "A proxy that cuts idle or long requests needs longer time-outs. Clients "
        "before Windows 8.1 speak TLS 1.2 only after an update.",
    ),
    0x80072F05: Entry(
        "ERROR_WINHTTP_SECURE_CERT_DATE_INVALID",
        "The server's certificate is expired or not yet valid.",
        (Cause.SERVER, Cause.CLIENT),
        Retry.UNSTATED,
        "Renew it and send bitsd SIGHUP; compare the client's clock.",
    ),
    0x80072F06: Entry(
        "ERROR_WINHTTP_SECURE_CERT_CN_INVALID",
        "The certificate is for another name than the one in the URL.",
        _SERVER,
        Retry.UNSTATED,
        "Put every name that clients use, and the `host_id`, into the subject "
        "alternative names of the certificate.",
    ),
    0x80072F0C: Entry(
        "ERROR_WINHTTP_CLIENT_AUTH_CERT_NEEDED",
        "The site asks for a client certificate and the job has none. An optional "
        "certificate fails jobs just like a required one.",
        (Cause.SERVER, Cause.PROXY),
        Retry.NO,
        "Ask for certificates on a [[listen]] of their own (`client_ca`) and leave "
        "the other port without; or set a certificate on the job "
        "(bitsadmin /setclientcertificatebyid).",
    ),
    0x80072F0D: Entry(
        "ERROR_WINHTTP_SECURE_INVALID_CA",
        "The client does not trust who issued the server's certificate.",
        (Cause.CLIENT, Cause.SERVER),
        Retry.UNSTATED,
        "Install the CA in the computer's store, not the user's; put intermediate "
        "certificates into the file of `certificate`.",
    ),
    0x80072F19: Entry(
        "ERROR_WINHTTP_SECURE_CERT_REV_FAILED",
        "The client could not ask whether the certificate is revoked.",
        (Cause.NETWORK, Cause.SERVER),
        Retry.UNSTATED,
        "Make the CRL or OCSP address in the certificate reachable for clients.",
    ),
    0x80072F8F: Entry(
        "ERROR_WINHTTP_SECURE_FAILURE",
        "TLS failed: wrong name, unknown CA, wrong date or clock, or an unreachable "
        "revocation list.",
        (Cause.SERVER, Cause.CLIENT),
        Retry.UNSTATED,
        "Open the URL in a browser on the client: it tells which of these it is. A "
        "proxy that breaks TLS open needs its CA on the client.",
    ),
    0x80200004: Entry(
        "BG_E_FILE_NOT_AVAILABLE",
        "The job was asked which file failed, but its error is not tied to a file. "
        "This is not an error of the transfer.",
        _CLIENT,
        Retry.UNSTATED,
        "Read the job's error code itself, with `bitsadmin /info JOB /verbose`.",
    ),
    0x80200010: Entry(
        "BG_E_NETWORK_DISCONNECTED",
        "No network adapter of the client is connected.",
        (Cause.CLIENT, Cause.NETWORK),
        Retry.WHEN_CONNECTED,
        "Connect the client. Nothing to do at the server.",
    ),
    0x80200011: Entry(
        "BG_E_MISSING_FILE_SIZE",
        "The answer to a download had no Content-Length.",
        _SERVER_OR_PROXY,
        Retry.NO,
        "bitsd always sends it: find the proxy that compresses, chunks or scans "
        "(in nginx `gzip off;` for this location), or the other server.",
    ),
    0x80200012: Entry(
        "BG_E_INSUFFICIENT_HTTP_SUPPORT",
        "The answer was not HTTP/1.1.",
        _SERVER_OR_PROXY,
        Retry.NO,
        "bitsd speaks HTTP/1.1: something in between answers with 1.0.",
    ),
    0x80200013: Entry(
        "BG_E_INSUFFICIENT_RANGE_SUPPORT",
        "A range was asked for and the whole file, or an answer without "
        "Content-Range, came back.",
        _SERVER_OR_PROXY,
        Retry.NO,
        "bitsd answers ranges: find the proxy or cache that strips Range or "
        "Content-Range: `curl -r 0-9 -D - URL` at each of them.",
    ),
    0x8020001B: Entry(
        "BG_E_INVALID_SERVER_RESPONSE",
        "The answer was not one of the protocol, such as a page in place of an Ack.",
        _SERVER_OR_PROXY,
        Retry.WHEN_RESUMED,
        "A log-in page, a filter or a server without BITS answered: ask with "
        "`curl -i` from the client's network.",
    ),
    0x8020001C: Entry(
        "BG_E_TOO_MANY_FILES",
        "An upload job holds one file, and a second one was added.",
        _CLIENT,
        Retry.NO,
        "Make one job per file, or pack the files into one.",
    ),
    0x8020001D: Entry(
        "BG_E_LOCAL_FILE_CHANGED",
        "The file changed on the client while it was being uploaded.",
        _CLIENT,
        Retry.NO,
        "Upload a copy, or close the program that writes the file. Cancel the job "
        "and make a new one.",
    ),
    0x8020001E: Entry(
        "BG_E_ERROR_CONTEXT_REMOTE_APPLICATION",
        "The program behind the server refused the upload or did not answer.",
        (Cause.APPLICATION,),
        Retry.BY_STATUS,
        "Look into the application's own log; bitsd's log has its status. The "
        "upload is kept: when the client comes again, bitsd notifies again, unless "
        "the application said 403.",
    ),
    0x8020001F: Entry(
        "BG_E_SESSION_NOT_FOUND",
        "The server does not know the session: it expired, was cancelled, belongs "
        "to another user or URL, or lives on another computer of a farm.",
        _SERVER_OR_PROXY,
        Retry.NEW_SESSION,
        "Nothing, if it is rare. Otherwise raise `session_timeout`, and in a farm "
        "set `host_id` or share the folder, so that a session meets its bytes.",
    ),
    0x80200020: Entry(
        "BG_E_TOO_LARGE",
        "The file is larger than the server takes.",
        (Cause.SERVER, Cause.CLIENT),
        Retry.NO,
        "Raise `maximum_upload_size` of the directory, or send a smaller file.",
    ),
    0x80200022: Entry(
        "BG_E_CLIENT_SERVER_PROTOCOL_MISMATCH",
        "Client and server have no version of the upload protocol in common.",
        _SERVER_OR_PROXY,
        Retry.UNSTATED,
        "There is but one version. Something that rewrites BITS-Supported-Protocols "
        "or BITS-Protocol is in between.",
    ),
    0x80200023: Entry(
        "BG_E_SERVER_EXECUTE_ENABLED",
        "The virtual directory in IIS may run scripts, so IIS refuses uploads there.",
        _SERVER,
        Retry.UNSTATED,
        "bitsd never sends this: the job still talks to IIS. Turn off script and "
        "execute rights there, or point the job at bitsd.",
    ),
    0x80200024: Entry(
        "BG_E_NO_PROGRESS",
        "The server answers, but the upload does not move on.",
        _SERVER_OR_PROXY,
        Retry.YES,
        "Usually one of several servers without a shared folder, or a cache that "
        "replays Acks. Compare the length of `request` in the session's folder, "
        "below BITS-Sessions, before and after a retry.",
    ),
    0x8020002B: Entry(
        "BG_E_INVALID_RANGE",
        "The job asks for bytes beyond the end of the file.",
        (Cause.CLIENT, Cause.SERVER),
        Retry.NO,
        "The file on the server has become shorter, or the list of blocks is for "
        "another version of it: fetch the index again, then the blocks.",
    ),
    0x8020002C: Entry(
        "BG_E_OVERLAPPING_RANGES",
        "The job lists the same bytes twice.",
        _CLIENT,
        Retry.NO,
        "Repair the program that makes the list of ranges.",
    ),
    0x8020002D: Entry(
        "BG_E_CONNECT_FAILURE",
        "No connection could be made.",
        (Cause.NETWORK,),
        Retry.UNSTATED,
        "As 0x80072EFD: is bitsd listening there, and is the port open?",
    ),
    0x8020002E: Entry(
        "BG_E_CONNECTION_CLOSED",
        "The connection was closed before the answer was complete.",
        (Cause.NETWORK, Cause.PROXY),
        Retry.UNSTATED,
        "Look for a proxy whose time-outs are too short; bitsd's log shows how far "
        "the request came.",
    ),
    0x8020003E: Entry(
        "BG_E_BLOCKED_BY_POLICY",
        "A Group Policy of the client keeps background jobs from running now.",
        _CLIENT,
        Retry.UNSTATED,
        "Look at the policy MaxInternetBandwidth and its hours, or use priority "
        "Foreground.",
    ),
    0x80200053: Entry(
        "BG_E_VALIDATION_FAILED",
        "What was downloaded is not what the program asked for.",
        (Cause.PROXY, Cause.SERVER),
        Retry.UNSTATED,
        "Often a log-in page or a stale cache in place of the file. See the "
        "client's event log, Microsoft-Windows-Bits-Client/Operational.",
    ),
}
