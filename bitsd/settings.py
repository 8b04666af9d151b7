"""Every setting there is: its name, its default, its help, in one place each.

The fields of the structs are the keys of the TOML file. `config` reads them, and
protocol-notes/settings.md is checked against them.
"""

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NewType, TypeAlias

import msgspec

from .access import EVERYONE

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

#: Ways to sign in.
Authentication: TypeAlias = Literal["negotiate", "ntlm", "basic", "certificate"]

Size = NewType("Size", int)
"""Bytes."""


def setting(help_text: str, *, at_least: int | None = None) -> msgspec.Meta:
    """The help of a setting, and its smallest number."""
    return msgspec.Meta(description=help_text, ge=at_least)


class Listen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One address to listen on."""

    address: Annotated[
        str, setting("`HOST:PORT`, `[V6]:PORT` or `unix:/PATH`; port 0 takes any")
    ]
    certificate: Annotated[
        Path | None,
        setting("PEM file of the server's certificate and chain; then it speaks TLS"),
    ] = None
    key: Annotated[
        Path | None, setting("PEM file of its key, if that is not in `certificate`")
    ] = None
    client_ca: Annotated[
        Path | None,
        setting(
            "PEM file of the CAs of clients; every connection must then show a "
            "certificate of theirs"
        ),
    ] = None
    client_crl: Annotated[
        Path | None,
        setting("PEM or DER file of the lists of those that their CAs revoked"),
    ] = None

    @property
    def path(self) -> Path | None:
        """The socket's path; None for TCP."""
        if not self.address.startswith("unix:/"):
            return None
        return Path(self.address.removeprefix("unix:"))

    @property
    def host(self) -> str:
        """Name or address to listen on."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """TCP port; 0 is any."""
        return int(self.address.rpartition(":")[2])

    @property
    def loopback(self) -> bool:
        """Nobody on another machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


class CertificateRule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """Whose some certificates of clients are."""

    subject: Annotated[
        str | None,
        setting(
            "the only attribute of its kind in the subject, such as `CN=alice`, or "
            "the whole subject as RFC 4514 writes it; `CN=*` for any"
        ),
    ] = None
    email: Annotated[
        str | None,
        setting("an e-mail address of the certificate; `*@example.org` for any there"),
    ] = None
    upn: Annotated[
        str | None,
        setting("a user principal name of it; `*@corp.example.org` for any there"),
    ] = None
    sha256: Annotated[str | None, setting("its thumbprint, with or without colons")] = (
        None
    )
    issuer: Annotated[
        str | None,
        setting("the whole name of the CA that issued it, as RFC 4514 writes it"),
    ] = None
    user: Annotated[
        str, setting("whose it is; `*`: what the `*` of the rule stands for")
    ]


class Directory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One folder at one URL: an IIS virtual directory."""

    url: Annotated[str, setting("where clients find it, such as `/images`")]
    path: Annotated[
        Path, setting("its folder; published files are there under their final names")
    ]
    read: Annotated[
        tuple[str, ...],
        setting(
            'who may download: `"*"` everyone, `"@users"` who signs in, `"@GROUP"`, '
            "names; `[]` nobody"
        ),
    ] = (EVERYONE,)
    write: Annotated[
        tuple[str, ...],
        setting(
            "who may upload, likewise; whoever made an upload is the only one who can "
            "go on with it"
        ),
    ] = (EVERYONE,)
    authentication: Annotated[
        tuple[Authentication, ...] | None,
        setting(
            'ways to sign in, in the order offered: `"negotiate"`, `"ntlm"`, '
            '`"basic"`, `"certificate"`; all that can work here if not set'
        ),
    ] = None
    upload: Annotated[bool, setting("uploads are enabled (IIS: BITSUploadEnabled)")] = (
        False
    )
    overwrite: Annotated[
        bool, setting("an upload may replace a file (IIS: BITSAllowOverwrites)")
    ] = False
    maximum_upload_size: Annotated[
        Size | None, setting("largest file (IIS: BITSMaximumUploadSize)")
    ] = None
    session_timeout: Annotated[
        timedelta,
        setting("an upload without progress is forgotten (IIS: BITSSessionTimeout)"),
    ] = 14 * DAY
    sessions_per_user: Annotated[
        int,
        setting(
            "uploads at once of one user, or of one address if anonymous; one more "
            "gets 503 and none is deleted (IIS: BITSNumberOfSessionsLimit)",
            at_least=1,
        ),
    ] = 50
    maximum_spool_size: Annotated[
        Size | None,
        setting(
            "sum of the sizes of all unfinished uploads; one more gets 503, one that "
            "is larger by itself is refused for good"
        ),
    ] = None
    minimum_free_space: Annotated[
        Size, setting("below it new uploads get 503; 0 is off")
    ] = Size(0)
    notification: Annotated[
        Literal["none", "by-reference", "by-value"],
        setting("tell an application of each upload (IIS: BITSServerNotificationType)"),
    ] = "none"
    notification_url: Annotated[
        str | None,
        setting(
            "its http or https URL, or one relative to the upload's "
            "(IIS: BITSServerNotificationURL)"
        ),
    ] = None
    notification_timeout: Annotated[
        timedelta, setting("for its answer; BITS clients themselves wait 5 minutes")
    ] = 4 * MINUTE
    host_id: Annotated[
        str | None,
        setting("name of this node of a farm, without a port (IIS: BITSHostId)"),
    ] = None
    host_id_fallback_timeout: Annotated[
        timedelta,
        setting(
            "after it a client tries the farm's name (IIS: BITSHostIdFallbackTimeout)"
        ),
    ] = DAY
    durability: Annotated[
        Literal["fragment", "publish"],
        setting(
            "what is on the disk before it is acknowledged: every fragment, or only "
            "the finished file"
        ),
    ] = "fragment"
    mime_types: Annotated[
        dict[str, str],
        setting(
            "content types by suffix in lower case; any other is "
            "`application/octet-stream`"
        ),
    ] = {}
    allow_anonymous_uploads: Annotated[
        bool, setting("uploads without sign-in from other machines")
    ] = False
    allow_basic_over_http: Annotated[
        bool, setting("passwords over connections that others can read")
    ] = False

    @property
    def largest_upload(self) -> int | None:
        """Largest file that there can ever be room for; None is any."""
        limits = (self.maximum_upload_size, self.maximum_spool_size)
        return min((limit for limit in limits if limit is not None), default=None)


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    listen: Annotated[tuple[Listen, ...], setting("addresses")] = (
        Listen(address="127.0.0.1:8080"),
    )
    directory: Annotated[tuple[Directory, ...], setting("folders")]
    users: Annotated[
        Path | None, setting("file of users and their passwords, of `bitsd passwd`")
    ] = None
    groups: Annotated[
        dict[str, tuple[str, ...]],
        setting('names of users by group, for `"@GROUP"` in `read` and `write`'),
    ] = {}
    keytab: Annotated[
        Path | None,
        setting("Kerberos keys of this server (`HTTP/NAME`); its users are ours, too"),
    ] = None
    certificate: Annotated[
        tuple[CertificateRule, ...],
        setting("whose a certificate of a client is; the first rule that fits counts"),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        setting(
            "addresses and networks of proxies whose `X-Forwarded-For` or `Forwarded` "
            "is believed, for log and limits, and whose connections NTLM never signs "
            'in; `"unix"` for unix sockets'
        ),
    ] = ()
    allow_anonymous_uploads: Annotated[
        bool, setting("the same for every directory")
    ] = False
    allow_basic_over_http: Annotated[bool, setting("the same for every directory")] = (
        False
    )
    workers: Annotated[
        int,
        setting("processes that serve; one per core is a good number", at_least=1),
    ] = 1
    maximum_connections: Annotated[
        int,
        setting(
            "connections of each worker at once, and as many TLS handshakes beside "
            "them; one more ends the one that is idle for longest, or gets 503 if none "
            "is",
            at_least=1,
        ),
    ] = 1000
    connections_per_address: Annotated[
        int,
        setting(
            "those of one address (IPv6: of one /64) at each worker, but for loopback "
            "and unix sockets; one more ends its own that is idle for longest, or gets "
            "503 if none is",
            at_least=1,
        ),
    ] = 250
    requests_per_second: Annotated[
        int,
        setting(
            "of one address at each worker, counted as for connections_per_address; "
            "one more gets 503; 0 is off",
            at_least=0,
        ),
    ] = 0
    header_timeout: Annotated[
        timedelta, setting("for the rest of a request's header")
    ] = 30 * SECOND
    idle_timeout: Annotated[
        timedelta, setting("for the next request of a connection")
    ] = 2 * MINUTE
    stall_timeout: Annotated[
        timedelta, setting("a body that moves less than 4 KiB in this time is cut")
    ] = MINUTE
    drain_timeout: Annotated[
        timedelta,
        setting("how long the body of a refused fragment is read before the answer"),
    ] = 30 * SECOND
    stop_timeout: Annotated[
        timedelta, setting("how long answers may take when the server stops")
    ] = 10 * SECOND
