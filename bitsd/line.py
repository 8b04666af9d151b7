"""A client's connection, as far as signing in goes, and who has signed in."""

from asyncio import BaseTransport
from dataclasses import dataclass

from .crowd import counted
from .negotiate import Exchange, end_point
from .settings import Authentication
from .tls import Handshake
from .users import User


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who has signed in.

    Attributes:
        name: as `access.same` has it.
        scheme: how: basic, ntlm, kerberos or certificate.
        user: what the users file said of them then; None if they are not in it.
    """

    name: str
    scheme: str
    user: User | None


@dataclass(slots=True)
class Line:
    """A client's connection, as far as sign-in goes.

    Attributes:
        local: nobody but this machine can read along.
        shared: it is that of a trusted proxy, with or without a word of that.
        certificate: of the client, DER; None without.
        binding: what its TLS is known by (RFC 5929); empty without TLS, None if that
            cannot be known.
        identity: who signed it in by NTLM or Negotiate.
        last: who was found to have sent a request over it.
        exchange: the handshake that is under way.
        way: what that was asked for by.
        proof: to be sent with the next answer, as WWW-Authenticate.
    """

    local: bool = False
    shared: bool = False
    certificate: bytes | None = None
    binding: bytes | None = b""
    identity: Identity | None = None
    last: Identity | None = None
    exchange: Exchange | None = None
    way: Authentication | None = None
    proof: str | None = None


def line_of(transport: BaseTransport, address: str, *, shared: bool) -> Line:
    """What a new connection shows of its client at an address."""
    local = counted(address) is None
    handshake = transport.get_extra_info("ssl_object")
    if not isinstance(handshake, Handshake):
        return Line(local=local, shared=shared)
    return Line(
        local=local,
        shared=shared,
        certificate=handshake.getpeercert(binary_form=True),
        binding=end_point(handshake.ours),
    )
