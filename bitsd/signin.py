"""Who sent a request: by its Authorization field, its connection or its certificate.

BITS clients send credentials only after a 401. Basic comes with each request; NTLM and
Negotiate sign in a connection, which stays so, and only it (protocol-notes/sign-in.md).
"""

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NoReturn

from . import journal
from .access import same
from .attempts import Attempts
from .certificates import user_of
from .line import Identity, Line
from .negotiate import Acceptor, Exchange
from .outcome import Continue, Denied, SignedIn
from .passwords import Passwords, TooBusy
from .protocol.refusal import Reason, Refusal
from .settings import Authentication, CertificateRule
from .users import Users

_BASIC = 'Basic realm="bitsd", charset="UTF-8"'
_NTLM = "NTLM"
_NEGOTIATE = "Negotiate"

# What signs in a connection.
_BOUND: tuple[Literal["negotiate"], Literal["ntlm"]] = ("negotiate", "ntlm")

# How every message of NTLM begins, also where Negotiate was asked for.
_NTLM_SIGNATURE = b"NTLMSSP\0"


class SignInNeeded(Refusal):
    """Signing in could help: 401, with how.

    Attributes:
        challenges: values of WWW-Authenticate, in order.
        bound: the connection has to live on: what comes next is part of the same
            handshake, or may begin one.
    """

    def __init__(self, challenges: Sequence[str], detail: str) -> None:
        super().__init__(Reason.SIGN_IN, detail)
        self.challenges = challenges
        self.bound = any(each != _BASIC for each in challenges)


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request shows of who sent it.

    Attributes:
        address: of the client; for log and limits.
        authorization: the field's value, if there is one.
        private: nobody can have read it on the way.
        proxied: others may send over the same connection.
    """

    address: str
    authorization: str | None
    private: bool
    proxied: bool


class SignIn:
    """Finds out who asks.

    Args:
        users: who may sign in by password.
        rules: which certificate is whose.
        keytab: this server's keys of Kerberos.
    """

    def __init__(
        self,
        users: Users,
        rules: Sequence[CertificateRule] = (),
        keytab: Path | None = None,
    ) -> None:
        self._keytab = keytab
        self.reload(users, rules)
        self._passwords = Passwords()
        self._attempts = Attempts()
        self._acceptor = Acceptor(self._nt_hash, keytab)

    def reload(self, users: Users, rules: Sequence[CertificateRule]) -> None:
        """Go by these users and rules from now on."""
        self._users = users
        self._whose = lru_cache(maxsize=1024)(partial(user_of, rules=(*rules,)))

    def close(self) -> None:
        """Look at no more passwords."""
        self._passwords.close()

    def stands(self, identity: Identity, line: Line) -> bool:
        """Nothing changed about somebody who has signed in over a connection."""
        if identity.scheme == "certificate":
            return self.certified(("certificate",), line, proxied=False) == identity
        return self._users.find(identity.name) == identity.user

    def certified(
        self, offered: Iterable[Authentication], line: Line, *, proxied: bool
    ) -> Identity | None:
        """Whose certificate a connection has shown, if that is asked for.

        That of a proxy says nothing about its clients.
        """
        if line.certificate is None or proxied or "certificate" not in offered:
            return None
        name = self._whose(line.certificate)
        return None if name is None else self._known(name, "certificate")

    async def identify(
        self, offered: Sequence[Authentication], asking: Asking, line: Line
    ) -> Identity:
        """Who sent a request.

        Args:
            offered: ways to sign in where it goes to.
            asking: the request.
            line: what it came over, which learns of it.

        Raises:
            SignInNeeded: nobody has signed in, or not yet.
            Refusal: TOO_MANY_FAILURES; NOT_PERMITTED, there is no way to sign in.
        """
        exchange, line.exchange = line.exchange, None
        way, _, value = (asking.authorization or "").partition(" ")
        way, value = way.lower(), value.strip()
        if not way:
            return self._unasked(offered, asking, line)
        # Whatever comes of it: who says who it is takes the place of who did before.
        line.identity = line.proof = None
        if way == "basic" and "basic" in offered:
            return await self._basic(offered, asking, value)
        for bound in _BOUND:
            if way == bound and bound in offered:
                if exchange is None or line.way != bound:
                    # Whether the request says that it came through a proxy does not
                    # matter: who relays a sign-in would say so.
                    binding = None if line.shared else line.binding
                    exchange = self._acceptor.start(bound, binding)
                line.way = bound
                return await self._step(offered, asking, line, exchange, value)
        # One word alone may be what somebody took for the whole, such as a password.
        scheme = repr(way[:20]) if value else "a field without a scheme"
        return self._challenge(offered, asking, f"{scheme} is not offered")

    def _unasked(
        self, offered: Sequence[Authentication], asking: Asking, line: Line
    ) -> Identity:
        """By the connection alone."""
        identity = line.identity
        if identity is not None and line.way in offered:
            if asking.proxied:
                line.identity = None
                _tell_of_proxy(asking)
            elif self.stands(identity, line):
                return identity
        certified = self.certified(offered, line, proxied=asking.proxied)
        if certified is not None:
            return certified
        return self._challenge(offered, asking, "no credentials")

    def _challenge(
        self, offered: Iterable[Authentication], asking: Asking, detail: str
    ) -> NoReturn:
        challenges = [*self._challenges(offered, asking)]
        if challenges:
            raise SignInNeeded(challenges, detail)
        raise Refusal(Reason.NOT_PERMITTED, f"{detail}, and no way to sign in")

    def _challenges(
        self, offered: Iterable[Authentication], asking: Asking
    ) -> Iterable[str]:
        for way in offered:
            # Kerberos may sign in each request, NTLM a connection only.
            ntlm = self._users.ntlm and not asking.proxied
            if way == "negotiate" and (self._keytab or ntlm):
                yield _NEGOTIATE
            elif way == "ntlm" and ntlm:
                yield _NTLM
            elif way == "basic" and asking.private:
                yield _BASIC

    def _failed(
        self,
        offered: Iterable[Authentication],
        asking: Asking,
        name: str | None,
        detail: str,
    ) -> NoReturn:
        """Wrong credentials: counted, told, and asked for again."""
        journal.warn("sign-in-failed", user=name, client=asking.address, detail=detail)
        self._attempts.failed(asking.address, name, time.monotonic())
        self._challenge(offered, asking, detail)

    def _keep_patience(self, asking: Asking, name: str | None) -> None:
        """Whoever fails again and again has to wait, right or wrong."""
        seconds = self._attempts.wait(asking.address, name, time.monotonic())
        if seconds > 0:
            detail = f"{name} failed too often, {seconds:.0f} s to go"
            raise Refusal(Reason.TOO_MANY_FAILURES, detail)

    def _nt_hash(self, name: str) -> bytes | None:
        user = self._users.find(self._users.called(name))
        return None if user is None or not user.enabled else user.nt_hash

    def _known(self, name: str, scheme: str) -> Identity | None:
        """Somebody whom others vouch for, unless that user is disabled here."""
        user = self._users.find(name)
        if user is not None and not user.enabled:
            return None
        return Identity(same(name), scheme, user)

    async def _basic(
        self, offered: Sequence[Authentication], asking: Asking, value: str
    ) -> Identity:
        """RFC 7617."""
        if not asking.private:
            detail = "Basic over a connection that others can read"
            self._challenge(offered, asking, detail)
        name, colon, password = _decoded(value).partition(":")
        if not colon:
            self._failed(offered, asking, None, "not Basic credentials")
        name = self._users.called(name)
        user = self._passwords.remembered(self._users, name, password)
        if user is None:
            await self._check(asking, name, password)
            # By users who may have been read again meanwhile.
            user = self._passwords.remembered(self._users, name, password)
            if user is None:
                self._failed(offered, asking, name, "basic: wrong name or password")
        self._attempts.succeeded(asking.address, name)
        return Identity(same(user.name), "basic", user)

    async def _check(self, asking: Asking, name: str, password: str) -> None:
        """Look at a password; if it may be a guess it has to wait for its turn."""
        guessed = self._passwords.guessed(self._users, name, password)
        if guessed:
            self._keep_patience(asking, name)
        try:
            await self._passwords.check(self._users, name, password)
        except TooBusy:
            if guessed:
                self._attempts.abandoned(asking.address, name)
            detail = "too many passwords are being checked"
            raise Refusal(Reason.TOO_MANY_FAILURES, detail) from None
        except BaseException:
            # Whoever hangs up may have sent the same over another connection.
            self._attempts.failed(asking.address, name, time.monotonic())
            raise

    async def _step(
        self,
        offered: Sequence[Authentication],
        asking: Asking,
        line: Line,
        exchange: Exchange,
        value: str,
    ) -> Identity:
        """One leg of a handshake over a connection."""
        users = self._users
        try:
            token = b64decode(value, validate=True)
        except ValueError:
            self._failed(offered, asking, None, f"{line.way}: not a token")
        if asking.proxied and token.startswith(_NTLM_SIGNATURE):
            _tell_of_proxy(asking)
            self._challenge(offered, asking, "NTLM through a proxy")
        try:
            outcome = await asyncio.to_thread(exchange.step, token)
        except Denied as denied:
            name = denied.name and self._users.called(denied.name)
            self._keep_patience(asking, name)
            self._failed(offered, asking, name, f"{line.way}: {denied.detail}")
        if isinstance(outcome, Continue):
            self._go_on(offered, asking, line, exchange, outcome)
        before, now = (
            each.find(each.called(outcome.name)) for each in (users, self._users)
        )
        if before != now:
            self._challenge(offered, asking, "another user since the handshake began")
        return self._signed_in(offered, asking, line, outcome)

    def _go_on(
        self,
        offered: Sequence[Authentication],
        asking: Asking,
        line: Line,
        exchange: Exchange,
        outcome: Continue,
    ) -> NoReturn:
        if asking.proxied:
            _tell_of_proxy(asking)
            self._challenge(offered, asking, "a handshake through a proxy")
        if outcome.name is not None:
            # Whoever waits may not learn from the answer that the password is right.
            name = self._users.called(outcome.name)
            self._keep_patience(asking, name)
            self._attempts.succeeded(asking.address, name)
        line.exchange = exchange
        raise SignInNeeded([_field(line, outcome.token)], "handshake")

    def _signed_in(
        self,
        offered: Sequence[Authentication],
        asking: Asking,
        line: Line,
        outcome: SignedIn,
    ) -> Identity:
        # Nobody guesses a ticket of Kerberos.
        guessable = outcome.scheme == "ntlm"
        name = self._users.called(outcome.name) if guessable else outcome.name
        if guessable:
            self._keep_patience(asking, name)
        identity = self._known(name, outcome.scheme)
        if identity is None:
            detail = f"{line.way}: the user is disabled"
            self._failed(offered, asking, name, detail)
        if guessable:
            self._attempts.succeeded(asking.address, name)
        if outcome.token is not None:
            line.proof = _field(line, outcome.token)
        if not asking.proxied:
            line.identity = identity
        journal.note(
            "signed-in",
            user=identity.name,
            scheme=identity.scheme,
            client=asking.address,
        )
        return identity


def _field(line: Line, token: bytes) -> str:
    scheme = _NTLM if line.way == "ntlm" else _NEGOTIATE
    return f"{scheme} {b64encode(token).decode()}"


def _decoded(value: str) -> str:
    """User and password; clients that know no UTF-8 send Latin-1 (RFC 7617 2.1)."""
    try:
        octets = b64decode(value, validate=True)
    except ValueError:
        return ""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def _tell_of_proxy(asking: Asking) -> None:
    journal.warn(
        "sign-in-through-proxy",
        client=asking.address,
        detail="NTLM signs a connection in, which a proxy shares; use Basic over TLS, "
        "or let clients connect to bitsd itself",
    )
