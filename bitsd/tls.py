"""TLS as a server of files speaks it: versions, who has to show what, new files.

An event loop makes a connection's TLS by `wrap_bio` of the context that its server was
given, and calls nothing else of it; asyncio does so, and uvloop. So a context that
passes `wrap_bio` on to another one can be given other files while connections live on.
"""

import ssl
import tempfile
from asyncio import BaseTransport
from datetime import UTC, datetime
from typing import Any, NoReturn

from cryptography.hazmat.primitives.serialization import Encoding

from . import tls_files
from .tls_files import Material, TlsFiles, Unusable

#: What OpenSSL may answer by itself over a connection, once that is made: octets of
#: alerts and new keys. The largest upload needs a few dozen of each.
MAXIMUM_ASIDES = 65_536

#: What OpenSSL says in its own words, for people.
_MEANINGS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client sent no certificate",
    "HTTP_REQUEST": "the client does not speak TLS",
    "NO_SHARED_CIPHER": "the client knows no cipher that is offered here",
    "UNSUPPORTED_PROTOCOL": "the client speaks neither TLS 1.2 nor 1.3",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
}


class Handshake(ssl.SSLObject):
    """One connection's TLS, which keeps why its handshake failed.

    An event loop drops the reason, and with it the alert that tells the client. So a
    handshake that failed ends like any other here: the loop sends the alert and makes
    the connection, which finds `failure`, tells it and closes. Whatever is done with
    it before, not one byte goes through.
    """

    failure: ssl.SSLError | None = None
    #: The certificate that we show, in DER.
    ours: bytes
    #: What came and was not looked at yet.
    incoming: ssl.MemoryBIO
    #: What goes out, and was not taken yet.
    outgoing: ssl.MemoryBIO
    _asides = 0

    # The signature is that of the class above.
    def getpeercert(self, binary_form: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        """The certificate that the peer showed, in DER; {} if not asked for that.

        The loops ask for a dictionary, which nobody reads, and which cannot be made of
        every certificate that is good otherwise.
        """
        return super().getpeercert(binary_form=True) if binary_form else {}

    # The arguments are those of the class above.
    def read(self, *arguments: Any) -> Any:  # noqa: ANN401
        """What came for the application.

        Raises:
            ConnectionAbortedError: it wants so many answers of TLS itself as nobody
                needs; if it does not take them, they would fill the memory.
        """
        before = self.outgoing.pending
        try:
            return super().read(*arguments)
        finally:
            self._asides += self.outgoing.pending - before
            if self._asides > MAXIMUM_ASIDES:
                raise ConnectionAbortedError("too many TLS messages")

    def do_handshake(self) -> None:
        """Go on with it."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.failure = error
            # All methods of an SSLObject call those of what it has here.
            self._sslobj = _Deaf(self.incoming)


class _Deaf:
    """In the place of OpenSSL's part when that has failed: nothing goes in or out.

    What still comes is dropped: the loop puts it into `incoming`, which has no limit.
    """

    def __init__(self, incoming: ssl.MemoryBIO) -> None:
        self._incoming = incoming

    def getpeercert(self, *_binary: object) -> None:
        return None

    cipher = compression = getpeercert

    def pending(self) -> int:
        return 0

    def read(self, *_arguments: object) -> NoReturn:
        self._incoming.read()
        raise ssl.SSLWantReadError

    write = shutdown = read


def failure(transport: BaseTransport) -> str | None:
    """Why a connection has no TLS that it was meant to have; None if all is well."""
    handshake = transport.get_extra_info("ssl_object")
    if not isinstance(handshake, Handshake) or handshake.failure is None:
        return None
    error = handshake.failure
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate: {error.verify_message}"
    reason = error.reason or "no reason given"
    _version, alert, words = reason.partition("_ALERT_")
    if alert:
        return f"the client refuses: {words.lower().replace('_', ' ')}"
    return _MEANINGS.get(reason, reason.lower().replace("_", " "))


class ServerContext(ssl.SSLContext):
    """What handshakes begin with: a context made from files, then from newer ones.

    Args:
        files: as they are now; blocks.

    Attributes:
        material: what was in them when they were last read and could be used.

    Raises:
        Unusable: they cannot be used.
    """

    material: Material

    def __new__(cls, _files: TlsFiles) -> "ServerContext":
        """As `ssl.SSLContext` wants it."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self.renew()

    def renew(self) -> None:
        """Read the files again; blocks. Handshakes begin with them from now on.

        Raises:
            Unusable: they cannot be used; nothing has changed.
        """
        material = tls_files.read(self._files, datetime.now(UTC))
        while True:
            context = _context(material)
            # OpenSSL opens the files by itself, and may have found newer ones.
            again = tls_files.read(self._files, datetime.now(UTC))
            if again == material:
                break
            material = again
        # At once, since handshakes begin meanwhile: this is not the loop's thread.
        self._current = context, material.chain[0].public_bytes(Encoding.DER)
        self.material = material

    # The arguments are those of the class above.
    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *arguments: object,
        **named: object,
    ) -> ssl.SSLObject:
        """The TLS of a new connection."""
        context, ours = self._current
        # Passed on as they are; what it makes is of `sslobject_class`.
        made: Handshake = context.wrap_bio(incoming, outgoing, *arguments, **named)  # type: ignore[arg-type,assignment]
        made.ours, made.incoming, made.outgoing = ours, incoming, outgoing
        return made


def _context(material: Material) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = Handshake
    files = material.files
    try:
        # Without a password a key that has one would ask for it at the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
        if material.authorities:
            _ask_for_certificates(context, material)
    except (OSError, ssl.SSLError) as error:
        # They were good a moment ago, but not for OpenSSL: a key that is too short.
        reason = getattr(error, "reason", None) or error.strerror
        raise Unusable(
            [f"certificate: OpenSSL does not take {files.certificate}: {reason}"]
        ) from None
    return context


def _ask_for_certificates(context: ssl.SSLContext, material: Material) -> None:
    """Refuse whoever shows none of those CAs."""
    authorities, lists = tls_files.pem(material)
    context.load_verify_locations(cadata=authorities)
    # A CA that is not its own issuer may be trusted by itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    if lists:
        # OpenSSL takes lists from a file only.
        with tempfile.NamedTemporaryFile() as file:
            file.write(lists)
            file.flush()
            context.load_verify_locations(cafile=file.name)
        # Without a list that is valid now a certificate is not accepted.
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
