"""What a symptom means for a BITS job, and the directive that cures it, by hop.

Codes are those that `bitsd explain` knows; directives are those of Debian 12's
packages, tried against them by the tests where a test can set the fault.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from .hops import Hop


class Symptom(Enum):
    """What is wrong, in the words of `--json`."""

    NO_NAME = "no-name"
    NO_CONNECTION = "no-connection"
    NO_TLS = "no-tls"
    CERTIFICATE_DATE = "certificate-date"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_CA = "certificate-ca"
    CERTIFICATE_ASKED = "client-certificate-asked"
    NO_ANSWER = "no-answer"
    NOT_PASSED_ON = "not-passed-on"
    BACKEND_DOWN = "backend-down"
    REDIRECTED = "redirected"
    SIGN_IN = "sign-in"
    CLOSED = "closed"
    OLD_UPSTREAM = "http-1.0-upstream"
    UPSTREAM_CLOSED = "closed-upstream"
    POOLED = "pooled"
    UPLOADS_OFF = "uploads-off"
    NOT_ALLOWED = "not-allowed"
    NO_SIGN_IN = "no-sign-in"
    NO_FOLDER = "no-folder"
    BUSY = "busy"
    SERVER_FAILED = "server-failed"
    REQUEST_FIELDS = "request-fields-lost"
    RESPONSE_FIELDS = "response-fields-lost"
    ERRORS_REPLACED = "errors-replaced"
    BODY_LIMIT = "body-limit"
    BODY_CUT = "body-cut"
    LENGTH_LOST = "length-lost"
    FILE_LIMIT = "file-limit"
    BUFFERED = "buffered"
    NO_FILE = "no-file"
    NO_LENGTH = "no-content-length"
    ENCODED = "encoded"
    RANGE_LOST = "range-lost"
    NO_RANGES = "no-ranges"
    WRONG_RANGES = "wrong-ranges"
    NO_CONTENT_RANGE = "no-content-range"


class Verdict(NamedTuple):
    """What a symptom means.

    Attributes:
        code: that a job shows, if it shows one; `+status` for that of the HTTP status.
        means: to a job.
        cures: the line that repairs it and where it belongs, by hop.
        cure: for all other hops.
    """

    code: str
    means: str
    cures: Mapping[Hop, str] = {}
    cure: str = ""


STATUS = "+status"

_LISTEN = "the address of bitsd, as http://127.0.0.1:8080"

_FIELD_CURES = {
    Hop.NGINX: "take away `proxy_pass_request_headers off;` and any `proxy_set_header` "
    "of the field in question",
    Hop.APACHE: "take away `RequestHeader unset` of the field in question",
    Hop.HAPROXY: "take away `http-request del-header` of the field in question",
}
_ANSWER_CURES = {
    Hop.NGINX: "take away `proxy_hide_header` of the field in question",
    Hop.APACHE: "take away `Header unset` of the field in question",
    Hop.HAPROXY: "take away `http-response del-header` of the field in question",
}
_RANGE_CURES = {
    Hop.NGINX: 'take away `proxy_set_header Range "";` and `max_ranges 0;`',
    Hop.APACHE: "take away `RequestHeader unset Range` (or `MaxRanges none`) for it",
    Hop.HAPROXY: "take away `http-request del-header range`",
}
_GZIP_CURES = {
    Hop.NGINX: "`gzip off;` in the location",
    Hop.APACHE: "`SetEnv no-gzip 1` for the location, or no DEFLATE filter",
    Hop.HAPROXY: "take away `filter compression` and `compression algo`",
}

VERDICTS: Mapping[Symptom, Verdict] = {
    Symptom.NO_NAME: Verdict(
        "0x80072EE7",
        "A job cannot find the server.",
        cure="repair DNS, or the name in the URL",
    ),
    Symptom.NO_CONNECTION: Verdict(
        "0x80072EFD",
        "A job cannot reach the server.",
        cure="is it running, on that address and not only on 127.0.0.1, and does the "
        "firewall let the port in?",
    ),
    Symptom.NO_TLS: Verdict(
        "0x80072F8F",
        "A job cannot begin TLS.",
        cure="is it a port for HTTPS at all, and does it speak TLS 1.2 or 1.3?",
    ),
    Symptom.CERTIFICATE_DATE: Verdict(
        "0x80072F05",
        "A job stops: the certificate has expired, or is not valid yet.",
        cure="renew the certificate where TLS ends; look at the clocks",
    ),
    Symptom.CERTIFICATE_NAME: Verdict(
        "0x80072F06",
        "A job stops: the certificate is for other names.",
        cure="use a name in the URL that is in the certificate, or get one with this "
        "name in it",
    ),
    Symptom.CERTIFICATE_CA: Verdict(
        "0x80072F0D",
        "A job stops unless its computer trusts the CA; this one does not.",
        cure="send the certificates between it and the root, too; give the root to the "
        "clients, and to this command with --ca FILE",
    ),
    Symptom.CERTIFICATE_ASKED: Verdict(
        "0x80072F0C",
        "A job without a client certificate stops, even if one is only asked for and "
        "not required.",
        {
            Hop.NGINX: "`ssl_verify_client off;` in the server block",
            Hop.APACHE: "`SSLVerifyClient none` in the virtual host",
            Hop.HAPROXY: "no `verify optional` and no `ca-file` on the bind line",
            Hop.IIS: "SSL Settings: Client certificates: Ignore",
        },
        "where TLS ends: ask for no client certificate; those who sign in with one get "
        "a port of their own",
    ),
    Symptom.NO_ANSWER: Verdict(
        "0x80072EFE",
        "A job gets no answer, and tries again for up to 14 days.",
        cure="look into the log of each hop for this URL: one drops the request",
    ),
    Symptom.NOT_PASSED_ON: Verdict(
        STATUS,
        "It never reached a BITS server; a job shows the status and stops.",
        {
            Hop.NGINX: "`proxy_pass http://127.0.0.1:8080;` in the location of this "
            "URL, and no limit_except",
            Hop.APACHE: "`ProxyPass / http://127.0.0.1:8080/` in the virtual host "
            "(a2enmod proxy_http), and no Limit or LimitExcept",
            Hop.HAPROXY: "a backend with bitsd for this URL, and no `http-request "
            "deny` that BITS_POST meets",
            Hop.CADDY: "`reverse_proxy 127.0.0.1:8080` for this path, no file_server",
            Hop.LIGHTTPD: "put nginx, Apache or HAProxy in its place: lighttpd passes "
            "no BITS_POST on",
            Hop.IIS: "Request Filtering: allow the verb BITS_POST; then ARR, or the "
            "BITS extension of IIS, for this virtual directory",
            Hop.AIOHTTP: "it does not know BITS_POST: let the URL lead to bitsd",
            Hop.NODE: "it does not know BITS_POST: let the URL lead to bitsd",
        },
        "let it pass BITS_POST for this URL on to " + _LISTEN,
    ),
    Symptom.BACKEND_DOWN: Verdict(
        STATUS,
        "It reached no server behind it; a job tries again every 10 minutes.",
        {
            Hop.NGINX: "start bitsd, or correct `server` in its `upstream` block",
            Hop.APACHE: "start bitsd, or correct `ProxyPass`",
            Hop.HAPROXY: "start bitsd, or correct `server` in its backend",
        },
        "start bitsd, or correct where the hop passes requests on to",
    ),
    Symptom.REDIRECTED: Verdict(
        STATUS,
        "A job does not follow it: BITS_POST is not redirected.",
        cure="use the URL that it redirects to",
    ),
    Symptom.SIGN_IN: Verdict(
        "0x80190191",
        "A job without the right credentials stops.",
        cure="give --user NAME here, and -Credential and -Authentication to a job",
    ),
    Symptom.CLOSED: Verdict(
        "",
        "A job connects anew for each packet: slow, and NTLM cannot sign in.",
        {
            Hop.NGINX: "`keepalive_timeout 75s;`, not 0",
            Hop.APACHE: "`KeepAlive On`, and a larger MaxKeepAliveRequests",
            Hop.HAPROXY: "`option http-keep-alive`, not `option httpclose`",
        },
        "let it keep the connections of clients",
    ),
    Symptom.OLD_UPSTREAM: Verdict(
        "",
        "The hop before bitsd speaks HTTP/1.0: a new connection for each packet, which "
        "is slow, and NTLM cannot sign in.",
        {
            Hop.NGINX: "`proxy_http_version 1.1;` and "
            '`proxy_set_header Connection "";`',
            Hop.APACHE: "take away `SetEnv force-proxy-request-1.0 1`",
        },
        "let it speak HTTP/1.1 to bitsd",
    ),
    Symptom.UPSTREAM_CLOSED: Verdict(
        "",
        "The hop before bitsd connects anew for each packet: slow, and NTLM cannot "
        "sign in.",
        {
            Hop.NGINX: '`proxy_set_header Connection "";` and `keepalive 32;` in the '
            "upstream block",
            Hop.APACHE: "take away `SetEnv proxy-nokeepalive 1` and disablereuse=On",
            Hop.HAPROXY: "`option http-keep-alive`, not httpclose or http-server-close",
        },
        "let it keep its connections to bitsd",
    ),
    Symptom.POOLED: Verdict(
        "0x80190191",
        "The hop before bitsd shares its connections between clients: NTLM, which "
        "signs in a connection, fails, or signs in somebody else.",
        {Hop.HAPROXY: "`http-reuse never` and `option http-keep-alive`"},
        "let clients that use NTLM reach bitsd without it; Basic over HTTPS can pass",
    ),
    Symptom.UPLOADS_OFF: Verdict(
        "0x80070005",
        "A job stops: the server takes no uploads here.",
        cure="`upload = true` in the [[directory]] of this URL",
    ),
    Symptom.NOT_ALLOWED: Verdict(
        "0x80070005",
        "A job stops: this user may not upload here.",
        cure="`write` of the [[directory]], and the rights of the server's user on its "
        "folder; the server's log says which",
    ),
    Symptom.NO_SIGN_IN: Verdict(
        "0x80070005",
        "A job stops: this user may not upload here, or is offered no way to sign in "
        "through a proxy; bitsd offers no NTLM there.",
        cure="`write` of the [[directory]]; for those who sign in: a way to bitsd "
        'without the proxy, or "basic" over HTTPS and the proxy in trusted_proxies; '
        "the server's log says which",
    ),
    Symptom.NO_FOLDER: Verdict(
        STATUS,
        "A job stops: the server has no directory or folder of this URL.",
        cure="compare the URL with `url` of a [[directory]], make the folder; a proxy "
        "may also have changed the path",
    ),
    Symptom.BUSY: Verdict(
        "0x801901F7",
        "A job waits, and tries again every 10 minutes.",
        cure="`bitsd sessions list`, then sessions_per_user, minimum_free_space or "
        "maximum_spool_size; the server's log says which",
    ),
    Symptom.SERVER_FAILED: Verdict(
        STATUS,
        "The server failed, or answered what no BITS server should.",
        cure="look into the server's log",
    ),
    Symptom.REQUEST_FIELDS: Verdict(
        "0x80070057",
        "A job stops: fields of its packets do not arrive, or arrive changed.",
        _FIELD_CURES,
        "let it pass on all fields, BITS-* and Content-Range among them",
    ),
    Symptom.RESPONSE_FIELDS: Verdict(
        "0x8020001B",
        "A job does not take the answer: fields of it are missing.",
        _ANSWER_CURES,
        "let it pass back all fields, BITS-* among them",
    ),
    Symptom.ERRORS_REPLACED: Verdict(
        STATUS,
        "Error answers are replaced, so a job whose session is gone does not learn it, "
        "and sends to it for 14 days.",
        {
            Hop.NGINX: "`proxy_intercept_errors off;`",
            Hop.APACHE: "`ProxyErrorOverride Off`",
            Hop.HAPROXY: "take away `http-response return` and `http-error` for 500",
        },
        "let it pass error answers back as they are",
    ),
    Symptom.BODY_LIMIT: Verdict(
        "0x8019019D",
        "A job shrinks its fragments until they pass, or stops; those of Windows have "
        "up to 13 MB.",
        {
            Hop.NGINX: "`client_max_body_size 0;` in the server block",
            Hop.APACHE: "raise `SecRequestBodyLimit` of mod_security, take away "
            "rewrite rules about Content-Length; and, where it is no proxy, "
            "`LimitRequestBody 0`",
            Hop.HAPROXY: "take away `http-request deny` that is about req.body_size or "
            "Content-Length",
            Hop.IIS: "Request Filtering: maxAllowedContentLength, in web.config",
        },
        "let it take bodies of any size: bitsd has limits of its own",
    ),
    Symptom.BODY_CUT: Verdict(
        "0x80072EFE",
        "A job's connection breaks in the middle of a fragment, each time.",
        {
            Hop.NGINX: "`client_max_body_size 0;` and `client_body_timeout 2m;`",
            Hop.APACHE: "`RequestReadTimeout body=0` in the virtual host",
            Hop.HAPROXY: "a longer `timeout client` and `timeout server`",
        },
        "look into the log of each hop for its limits of size and time",
    ),
    Symptom.LENGTH_LOST: Verdict(
        "0x80070057",
        "A job stops: Content-Length does not arrive.",
        {
            Hop.NGINX: "`proxy_http_version 1.1;`",
            Hop.APACHE: "`SetEnv proxy-sendcl 1`",
        },
        "let it pass Content-Length on, and not chunks in its place",
    ),
    Symptom.FILE_LIMIT: Verdict(
        "0x80200020",
        "A job with a file of this size stops.",
        cure="`maximum_upload_size` of the [[directory]]",
    ),
    Symptom.BUFFERED: Verdict(
        "",
        "A fragment is collected before any of it is passed on: what came before a "
        "connection broke is lost, and sent again.",
        {
            Hop.NGINX: "`proxy_request_buffering off;` in the location",
            Hop.APACHE: "no filter that collects bodies, as `SecRequestBodyAccess On`",
        },
        "let it pass bodies on as they come",
    ),
    Symptom.NO_FILE: Verdict(
        STATUS,
        "The file cannot be read, so nothing can be said of downloads.",
        cure="give --file the URL of a file that everyone may read",
    ),
    Symptom.NO_LENGTH: Verdict(
        "0x80200011",
        "A job stops: the size of the file is not told.",
        _GZIP_CURES,
        "let it pass Content-Length back: no compression, no chunks",
    ),
    Symptom.ENCODED: Verdict(
        "0x80200013",
        "A job stops, or stores what is no file: it asks for no compression.",
        _GZIP_CURES,
        "let it pass files back as they are",
    ),
    Symptom.RANGE_LOST: Verdict(
        "0x80200013",
        "A job that fetches parts stops: Range does not arrive at the server.",
        _RANGE_CURES,
        "let it pass Range and If-Range on",
    ),
    Symptom.NO_RANGES: Verdict(
        "0x80200013",
        "A job that fetches parts stops: it gets the whole file.",
        _RANGE_CURES,
        "let it pass Range and If-Range on, and serve from no cache without ranges",
    ),
    Symptom.WRONG_RANGES: Verdict(
        "0x80200013",
        "A job that fetches parts stops: they are not those that it asked for.",
        cure="compare with the same request past the proxy",
    ),
    Symptom.NO_CONTENT_RANGE: Verdict(
        "0x80200013",
        "A job that fetches parts stops: it is not told which it gets.",
        {
            Hop.NGINX: "take away `proxy_hide_header Content-Range;`",
            Hop.APACHE: "take away `Header unset Content-Range`",
            Hop.HAPROXY: "take away `http-response del-header content-range`",
        },
        "let it pass Content-Range back",
    ),
}


def cure(symptom: Symptom, hop: Hop | None) -> list[str]:
    """The lines that may repair it: one if the hop is known, else one for each."""
    verdict = VERDICTS[symptom]
    if hop is not None and hop in verdict.cures:
        return [f"{hop.value}: {verdict.cures[hop]}"]
    if hop in (None, Hop.UNKNOWN) and verdict.cures:
        known = (Hop.NGINX, Hop.APACHE, Hop.HAPROXY)
        lines = [f"{k.value}: {verdict.cures[k]}" for k in known if k in verdict.cures]
        return [*lines, f"another: {verdict.cure}"]
    return [verdict.cure]
