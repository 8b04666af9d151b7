"""How a server is reached: the options that all commands of a client have."""

import argparse
import os
import re
import sys
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import Literal, TypeAlias

from bitsd.protocol.wire import Field

Authentication: TypeAlias = Literal["any", "basic", "ntlm", "negotiate"]

#: BITS clients wait as long for an answer ([MC-BUP] 3.1.2.2).
TIMEOUT_SECONDS = 300.0

_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

# They say where a request ends, which is for the client to say.
_FRAMING = {"content-length", "transfer-encoding", "connection", "upgrade"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a server is reached.

    Attributes:
        user: None signs in nowhere; an empty one is that of the Kerberos credential
            cache.
        authentication: any tries all that the server offers, the strongest first.
        certificate: the client's, PEM; with its key in it unless `key` is given.
        ca: certificates of those who are trusted, in place of the system's; PEM.
        headers: added to every request.
        timeout_seconds: without an answer, or any progress towards one.
    """

    user: str | None = None
    password: str | None = None
    authentication: Authentication = "any"
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    headers: tuple[Field, ...] = ()
    timeout_seconds: float = TIMEOUT_SECONDS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Let a command be told how its server is reached."""
    group = parser.add_argument_group("sign-in and connection")
    group.add_argument(
        "--user",
        metavar="NAME[:PASSWORD]",
        help="who signs in, when the server asks; without a password it is taken from "
        "BITSD_PASSWORD or asked for. `--user :` is whom kinit signed in",
    )
    group.add_argument(
        "--auth",
        choices=("any", "basic", "ntlm", "negotiate"),
        default="any",
        help="how (default: all that the server offers, the strongest first; basic "
        "over plain HTTP only when it is named here)",
    )
    group.add_argument(
        "--cert", type=Path, metavar="FILE", help="certificate of the client, PEM"
    )
    group.add_argument(
        "--key", type=Path, metavar="FILE", help="its key, if that is not in --cert"
    )
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help="trust these and no others, PEM"
    )
    group.add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="'NAME: VALUE'",
        help="added to every request; may be repeated",
    )
    parser.set_defaults(usage_error=parser.error)


def header(text: str) -> Field:
    """A header field as `NAME: VALUE`.

    Raises:
        argparse.ArgumentTypeError: it is none, or it is for the client to say.
    """
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not (colon and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not 'NAME: VALUE'")
    if name.lower() in _FRAMING:
        raise argparse.ArgumentTypeError(f"{name} is for bitsd to say")
    return name, value


def options(given: argparse.Namespace) -> Options:
    """What was said of the server; a wrong combination ends the command."""
    user, password = _credentials(given)
    if given.key is not None and given.cert is None:
        given.usage_error("--key goes with --cert")
    return Options(
        user=user,
        password=password,
        authentication=given.auth,
        certificate=given.cert,
        key=given.key,
        ca=given.ca,
        headers=tuple(given.header),
    )


def _credentials(given: argparse.Namespace) -> tuple[str | None, str | None]:
    if given.user is None:
        if given.auth != "any":
            given.usage_error("--auth goes with --user")
        return None, None
    user, colon, password = given.user.partition(":")
    if colon:
        return user, password
    if "BITSD_PASSWORD" in os.environ:
        return user, os.environ["BITSD_PASSWORD"]
    if not sys.stdin.isatty():
        given.usage_error("--user needs a password: NAME:PASSWORD or BITSD_PASSWORD")
    return user, getpass(f"Password of {user}: ")
