"""What a token of a client that signs in comes to."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Continue:
    """The client is to answer this token, on the same connection.

    Attributes:
        name: who has proved to be somebody already; the rest is a formality.
    """

    token: bytes
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The connection is that of a user.

    Attributes:
        name: as the client wrote it; of NTLM with its domain, if there is one, of
            Kerberos with its realm, if it is not ours.
        scheme: which of the two it was.
        token: goes into the answer if there is one.
    """

    name: str
    scheme: Literal["ntlm", "kerberos"]
    token: bytes | None


class Denied(Exception):
    """Nobody is signed in.

    Attributes:
        detail: for the operator, without secrets; the client is not told.
        name: who it was that tried, as far as that is known.
    """

    def __init__(self, detail: str, name: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.name = name
