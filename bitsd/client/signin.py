"""How a client signs in: what a server offers, and the tokens of a sign-in.

Basic is a header field on every request. NTLM and Negotiate (RFC 4559) are tokens
that go to and fro on one connection, which is then signed in.
"""

import re
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from spnego import ContextProxy

Scheme: TypeAlias = Literal["negotiate", "ntlm", "basic"]

#: The strongest first.
SCHEMES: tuple[Scheme, ...] = ("negotiate", "ntlm", "basic")

# As they are written where they are defined.
_NAMES: Mapping[Scheme, str] = {"negotiate": "Negotiate", "ntlm": "NTLM"}

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_OFFER = re.compile(r"\s*([A-Za-z][\w-]*)(?=\s|$)\s*(.*?)\s*", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9+/]+=*", re.ASCII)


class CannotSignIn(Exception):
    """A sign-in that this side cannot begin or go on with; says why."""


def offers(challenges: Iterable[str]) -> dict[str, str]:
    """Schemes in lower case, each with its token or an empty string.

    Args:
        challenges: the WWW-Authenticate fields (RFC 9110 11.6.1), each a list.
    """
    found: dict[str, str] = {}
    for challenge in challenges:
        for part in _QUOTED.sub('""', challenge).split(","):
            match = _OFFER.fullmatch(part)
            if match is not None:
                token = match[2] if _TOKEN.fullmatch(match[2]) else ""
                found.setdefault(match[1].lower(), token)
    return found


def candidates(offered: Mapping[str, str], wanted: str) -> list[Scheme]:
    """What to try, the best first.

    Args:
        offered: by the server.
        wanted: a scheme, or "any".
    """
    return [
        scheme for scheme in SCHEMES if scheme in offered and wanted in ("any", scheme)
    ]


def listed(schemes: list[str]) -> str:
    """One or more, for people."""
    *others, last = schemes
    return f"{', '.join(others)} and {last}" if others else last


def basic(user: str, password: str) -> str:
    """The value of an Authorization field (RFC 7617)."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class Exchange:
    """One sign-in by NTLM or Negotiate; its calls may ask a Kerberos KDC, and block.

    Args:
        scheme: not basic.
        user: an empty one is that of the Kerberos credential cache.
        password: of the user.
        host: the server, without its port.

    Raises:
        CannotSignIn: pyspnego is missing, or there are no credentials.
    """

    def __init__(self, scheme: Scheme, user: str, password: str, host: str) -> None:
        try:
            # Not everybody has it, and who has it need not wait for it.
            import spnego  # noqa: PLC0415

            # As above.
            from spnego.exceptions import SpnegoError  # noqa: PLC0415
        except ImportError:
            message = f"{scheme} needs pyspnego: pip install 'bitsd[windows-auth]'"
            raise CannotSignIn(message) from None
        self._scheme = scheme
        self._failures = (SpnegoError, ValueError, LookupError, struct.error)
        try:
            self._context: ContextProxy = spnego.client(
                user or None,
                password if user else None,
                hostname=host,
                service="HTTP",
                protocol=scheme,
            )
        except SpnegoError as error:
            raise self._failed(error) from error

    @property
    def complete(self) -> bool:
        """This side has said all that it has to say."""
        return self._context.complete

    def authorization(self, challenge: str) -> str:
        """The next Authorization field.

        Args:
            challenge: the server's token, empty for the first field.

        Raises:
            CannotSignIn: the token is none, or there are no credentials.
        """
        try:
            told = b64decode(challenge) if challenge else None
            token = self._context.step(told)
        # A token that is none is read as far as it makes sense.
        except self._failures as error:
            raise self._failed(error) from error
        return f"{_NAMES[self._scheme]} {b64encode(token or b'').decode()}"

    def _failed(self, error: Exception) -> CannotSignIn:
        reason = str(error).partition("\n")[0]
        return CannotSignIn(f"{self._scheme} does not work: {reason}")
