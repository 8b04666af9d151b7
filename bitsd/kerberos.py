"""Kerberos as a server checks it, by the keys of a keytab."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .outcome import Denied, SignedIn

try:
    import gssapi
    from gssapi import raw
    from gssapi.raw.ext_cred_store import acquire_cred_from
except ImportError as error:
    _missing: str | None = str(error)
else:
    _missing = None

#: Of clients that a key distribution centre does not know (RFC 8062), in any realm.
_ANONYMOUS = "WELLKNOWN/ANONYMOUS"

# How a keytab of version 2 begins.
_KEYTAB = b"\x05\x02"

#: GSS_S_FAILURE (RFC 2744, 3.9.1), which says nothing more.
_UNSPECIFIED = 13 << 16


def available() -> str | None:
    """Why Kerberos cannot be had here, in one line; None if it can."""
    if _missing is None:
        return None
    return f"Kerberos needs bitsd[windows-auth] to be installed ({_missing})"


def check(keytab: Path) -> None:
    """Blocks; what would stop everybody is found at the start.

    Raises:
        ValueError: the keytab cannot be used, or none can; says why.
    """
    if why := available():
        raise ValueError(f"keytab: {why}")
    try:
        with keytab.open("rb"):
            pass
        _credentials(keytab)
        realms(keytab)
    except OSError as error:
        raise ValueError(f"keytab: cannot read {keytab}: {error.strerror}") from None
    except raw.GSSError as error:
        raise ValueError(f"keytab: cannot use {keytab}: {_told(error)}") from None
    except Denied as denied:  # of one that MIT's library takes
        raise ValueError(f"keytab: cannot use {keytab}: {denied.detail}") from None


class Handshake:
    """One sign-in by Kerberos."""

    #: Every client can sign with the key of its ticket.
    can_sign = True
    #: RFC 4178 leaves that to those who got what they like best.
    must_sign = False

    def __init__(self, keytab: Path, binding: bytes | None) -> None:
        self._keytab = keytab
        self._binding = binding

    def step(self, token: bytes) -> SignedIn:
        """Take a ticket.

        What is returned proves to the client who we are, if it asked for that.

        Raises:
            Denied: the ticket is not for us, not from now, or was used before.
        """
        bindings = None
        if self._binding is not None:
            bindings = raw.ChannelBindings(application_data=self._binding)
        with _denying():
            accepted = raw.accept_sec_context(
                token, _credentials(self._keytab), channel_bindings=bindings
            )
            if accepted.more_steps:
                raise Denied(
                    "Kerberos: client wants a third step, as none of HTTP does"
                )
            context = gssapi.SecurityContext(base=accepted.context)
            client, server = _shown(context.initiator_name), _shown(context.target_name)
        self._context = context
        home = server.rpartition("@")[2] if len(realms(self._keytab)) == 1 else None
        return SignedIn(user_of(client, home), "kerberos", accepted.token)

    def sign(self, octets: bytes) -> bytes:
        """Our signature."""
        with _denying():
            return self._context.get_signature(octets)

    def verify(self, octets: bytes, signature: bytes) -> None:
        """Raises Denied unless the client signed this."""
        with _denying():
            self._context.verify_signature(octets, signature)


def user_of(client: str, home: str | None) -> str:
    """The name that a principal has here: without the realm if that is ours.

    Args:
        client: the principal.
        home: our realm; None if we have several, in each of which there may be one
            of the same name.

    Raises:
        Denied: it is nobody's.
    """
    name, _, realm = client.rpartition("@")
    if name == _ANONYMOUS:
        raise Denied("Kerberos: client wants to be nobody")
    if "\\" in client:
        # `\@` and `\/` stand for what is no mark; nobody's name needs them.
        raise Denied("Kerberos: principal with an escaped character", client)
    return name if realm == home else client


def realms(keytab: Path) -> frozenset[str]:
    """Those of all principals in a keytab (MIT's file format, version 2); blocks.

    Raises:
        Denied: it is of another format, or cannot be read.
    """
    try:
        octets = keytab.read_bytes()
        found, place = set(), len(_KEYTAB)
        while place + 4 <= len(octets):
            (size,) = struct.unpack_from(">i", octets, place)
            if size > 0:  # else a hole of that length
                # The number of the name's parts, then the realm's length.
                _parts, length = struct.unpack_from(">HH", octets, place + 4)
                realm = octets[place + 8 : place + 8 + length]
                found.add(realm.decode("utf-8", "backslashreplace"))
            place += 4 + abs(size)
    except (OSError, struct.error) as error:
        raise Denied(f"keytab that cannot be read: {error}") from None
    if not octets.startswith(_KEYTAB):
        raise Denied("keytab of an unknown format")
    return frozenset(found)


def _credentials(keytab: Path) -> "raw.Creds":
    """Those of all principals in it; read each time, so that it may be replaced."""
    return acquire_cred_from(
        {b"keytab": b"FILE:" + os.fsencode(keytab)},
        mechs=[raw.MechType.kerberos],
        usage="accept",
    ).creds


def _shown(name: "gssapi.Name") -> str:
    """A principal; what is not UTF-8 in it has a backslash, as an escape has."""
    return str(bytes(name), "utf-8", "backslashreplace")


@contextmanager
def _denying() -> Iterator[None]:
    """All errors of the library are of one kind, and all mean the client's token."""
    try:
        yield
    except raw.GSSError as error:
        raise Denied(f"Kerberos: {_told(error)}") from None


def _told(error: "raw.GSSError") -> str:
    """What MIT's library says of it, in one line."""
    said = error.get_all_statuses(error.min_code, is_maj=False)
    if error.routine_code != _UNSPECIFIED:
        said = error.get_all_statuses(error.maj_code, is_maj=True) + said
    return ", ".join(said)
