"""Sign-in by NTLM and Negotiate: a client's tokens in, ours out, and who it is.

Each exchange is that of one connection. Why this is here, and no library's, is in
protocol-notes/windows-sign-in.md.
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_der_x509_certificate

from . import ntlm, spnego
from .outcome import Continue, Denied, SignedIn
from .spnego import State

if TYPE_CHECKING:
    from . import kerberos

#: No ticket is longer: MaxTokenSize of Windows is 48,000 bytes, and at most 65,535.
MAXIMUM_TOKEN = 64 * 1024

_Handshake: TypeAlias = "ntlm.Handshake | kerberos.Handshake"


@lru_cache(maxsize=16)
def end_point(certificate: bytes) -> bytes | None:
    """What clients bind a sign-in to (RFC 5929, 4.1), of the certificate of a server.

    Args:
        certificate: DER.

    Returns:
        None if the RFC does not say, as for Ed25519.
    """
    algorithm = load_der_x509_certificate(certificate).signature_hash_algorithm
    if algorithm is None:
        return None
    weak = isinstance(algorithm, hashes.MD5 | hashes.SHA1)
    digest = hashes.Hash(hashes.SHA256() if weak else algorithm)
    digest.update(certificate)
    return b"tls-server-end-point:" + digest.finalize()


class Acceptor:
    """What all connections sign in with."""

    def __init__(self, nt_hash_of: ntlm.HashOf, keytab: Path | None) -> None:
        """Blocks.

        Args:
            nt_hash_of: a user's NT hash, 16 bytes; None for whom there is none.
            keytab: of the principals that clients may ask for; None for no Kerberos.

        Raises:
            ValueError: the keytab cannot be used; says why.
        """
        if keytab is not None:
            # Its libraries take 4 MiB, which a server without a keytab can spare.
            from . import kerberos  # noqa: PLC0415

            kerberos.check(keytab)
        self._nt_hash_of = nt_hash_of
        self._keytab = keytab

    def start(
        self, scheme: Literal["ntlm", "negotiate"], binding: bytes | None
    ) -> "Exchange":
        """The exchange of a connection.

        Args:
            scheme: the word in `Authorization`.
            binding: of TLS, as in RFC 5929, with `tls-server-end-point:`; empty if
                the client came without TLS; None if that cannot be known, as behind a
                proxy: then what a client is bound to is not looked at.
        """
        return Exchange(self, scheme, binding)

    def handshake(self, mechanism: bytes, binding: bytes | None) -> "_Handshake | None":
        """One sign-in by a mechanism, if it is one of ours."""
        if mechanism == spnego.NTLM:
            return ntlm.Handshake(self._nt_hash_of, binding)
        if mechanism in spnego.KERBEROS and self._keytab is not None:
            # It is there already.
            from . import kerberos  # noqa: PLC0415

            return kerberos.Handshake(self._keytab, binding)
        return None


class Exchange:
    """The tokens of one connection, one after the other."""

    def __init__(self, acceptor: Acceptor, scheme: str, binding: bytes | None) -> None:
        self._acceptor = acceptor
        self._scheme = scheme
        self._binding = binding
        # Where the next token goes that does not begin anything.
        self._handshake: _Handshake | None = None
        self._negotiation: _Negotiation | None = None

    def step(self, token: bytes) -> Continue | SignedIn:
        """Take a client's token; blocks for the time of a few files.

        Raises:
            Denied: whatever is wrong with it. The next one has to begin anew.
        """
        handshake, self._handshake = self._handshake, None
        negotiation, self._negotiation = self._negotiation, None
        if len(token) > MAXIMUM_TOKEN:
            raise Denied(f"token of {len(token)} bytes")
        if token.startswith(ntlm.SIGNATURE):
            return self._bare(handshake or self._chosen(spnego.NTLM), token)
        if self._scheme == "ntlm":
            raise Denied("not an NTLM message")
        if not token.startswith(spnego.FOLLOWING):
            return self._begun(token)
        if negotiation is None:
            raise Denied("SPNEGO token that follows none")
        return self._negotiated(negotiation, spnego.response(token))

    def _begun(self, token: bytes) -> Continue | SignedIn:
        mechanism = spnego.mechanism(token)
        if mechanism != spnego.SPNEGO:
            return self._bare(self._chosen(mechanism), token)
        initial = spnego.initial(token)
        for known in initial.mechanisms:
            if handshake := self._acceptor.handshake(known, self._binding):
                negotiation = _Negotiation(initial, known, handshake)
                return self._negotiated(negotiation, negotiation.first())
        raise Denied("Negotiate: no mechanism of ours")

    def _chosen(self, mechanism: bytes) -> "_Handshake":
        handshake = self._acceptor.handshake(mechanism, self._binding)
        if handshake is None:
            raise Denied("Negotiate: no mechanism of ours")
        return handshake

    def _bare(self, handshake: "_Handshake", token: bytes) -> Continue | SignedIn:
        """A mechanism without SPNEGO, which is Negotiate, too."""
        outcome = handshake.step(token)
        if isinstance(outcome, Continue):
            self._handshake = handshake
        return outcome

    def _negotiated(
        self, negotiation: "_Negotiation", said: spnego.Response
    ) -> Continue | SignedIn:
        outcome = negotiation.step(said)
        if isinstance(outcome, Continue):
            self._negotiation = negotiation
        return outcome


class _Negotiation:
    """SPNEGO from its first token on, as RFC 4178 has it for the one who accepts."""

    def __init__(
        self, initial: spnego.Initial, mechanism: bytes, handshake: _Handshake
    ) -> None:
        self._initial = initial
        self._handshake = handshake
        self._preferred = mechanism == initial.mechanisms[0]
        # Named in our first answer only.
        self._mechanism: bytes | None = mechanism
        self._signed_in: SignedIn | None = None
        self._mic_sent = False

    def first(self) -> spnego.Response:
        """What the first token says to the mechanism: that is for the first of them."""
        if self._preferred:
            return spnego.Response(self._initial.token, self._initial.mic)
        return spnego.Response(None, None)

    def step(self, said: spnego.Response) -> Continue | SignedIn:
        """Take what a client says. Raises Denied."""
        token = None if said.token is None else self._handed_on(said.token)
        if self._signed_in is not None:
            return self._protected(self._signed_in, token, said.mic)
        # 4.2.2: only the first answer may ask for a MIC.
        asks = self._mechanism is not None and not self._preferred
        state = State.REQUEST_MIC if asks else State.INCOMPLETE
        return Continue(self._answer(state, token))

    def _handed_on(self, token: bytes) -> bytes | None:
        """What the mechanism answers."""
        if self._signed_in is not None:
            raise Denied("SPNEGO token after the last of its mechanism")
        outcome = self._handshake.step(token)
        if isinstance(outcome, SignedIn):
            self._signed_in = outcome
        return outcome.token

    def _protected(
        self, signed_in: SignedIn, token: bytes | None, mic: bytes | None
    ) -> Continue | SignedIn:
        """The end, unless the client still has to show the list that it sent.

        RFC 4178, 5: it has to if it likes another mechanism better than this one.
        """
        if mic is not None:
            self._handshake.verify(self._initial.listed, mic)
            sent = self._answer(State.COMPLETED, token, self._mic())
        elif self._handshake.must_sign or (
            self._handshake.can_sign and not self._preferred
        ):
            answer = self._answer(State.INCOMPLETE, token, self._mic())
            return Continue(answer, signed_in.name)
        else:
            sent = self._answer(State.COMPLETED, token)
        return replace(signed_in, token=sent)

    def _mic(self) -> bytes | None:
        """Ours, once."""
        sent, self._mic_sent = self._mic_sent, True
        return None if sent else self._handshake.sign(self._initial.listed)

    def _answer(
        self, state: State, token: bytes | None, mic: bytes | None = None
    ) -> bytes:
        mechanism, self._mechanism = self._mechanism, None
        return spnego.answer(state, mechanism, token, mic)
