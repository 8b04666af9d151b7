"""TLS as a server of files needs it: versions, certificate, key."""

import ssl
from pathlib import Path


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with a certificate; blocks.

    Args:
        certificate: PEM file: the server's, then those between it and the root.
        key: PEM file of its key; None if that is in the same file.

    Raises:
        ValueError: a file cannot be used; says which, and why.
    """
    for name, path in (("certificate", certificate), ("key", key)):
        if path is not None:
            _check_readable(name, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password a key that has one would ask for it at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise ValueError(_why(error, certificate, key)) from None
    return context


def _check_readable(name: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"{name}: cannot read {path}: {error.strerror}") from None


def _why(error: ssl.SSLError, certificate: Path, key: Path | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"key: {key or certificate} is not the key of {certificate}"
    holder = f"{certificate} has" if key is None else f"{certificate} and {key} have"
    return (
        f"certificate: {holder} no certificate and its key without a password, "
        "in PEM format"
    )
