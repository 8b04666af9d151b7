"""Which ways to sign in are offered where, and what is wrong with lists of names."""

from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never, get_args

from . import forwarded
from .access import ANY_USER, EVERYONE, GROUP
from .settings import Authentication, Config, Directory
from .users import Users


def sign_in(config: Config, directory: Directory) -> Iterator[Authentication]:
    """The ways to sign in that a directory offers, in order."""
    ways = directory.authentication
    if ways is not None:
        yield from ways
        return
    yield from (way for way in get_args(Authentication) if _lacks(config, way) is None)


def _lacks(config: Config, way: Authentication) -> str | None:
    """What a way to sign in lacks here; None if it can be offered."""
    match way:
        case "certificate":
            with_ca = any(listen.client_ca for listen in config.listen)
            return None if with_ca else "needs client_ca of a [[listen]]"
        case "basic" | "ntlm":
            return None if config.users else "needs users"
        case "negotiate":
            known = config.users or config.keytab
            return None if known else "needs users or keytab"
        case _:
            assert_never(way)


def _is_name(name: str) -> bool:
    """What can be the name of a user or of a group."""
    special = name.startswith((GROUP, EVERYONE)) or ":" in name
    return bool(name.strip()) and name.isprintable() and not special


def _group_problems(groups: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for group, members in groups.items():
        if not _is_name(group) or GROUP + group == ANY_USER:
            yield f"groups: {group!r} cannot be the name of a group"
        for member in members:
            if not _is_name(member):
                yield f"groups.{group}: {member!r} is not the name of a user"


def problems(config: Config) -> Iterator[str]:
    """A line for each setting of sign-in that cannot be used."""
    yield from _group_problems(config.groups)
    for entry in config.trusted_proxies:
        if problem := forwarded.problem(entry):
            yield f"trusted_proxies: {problem}"
    if config.users is not None:
        try:
            Users.load(config.users)
        except ValueError as error:
            yield f"users: {error}"
    if config.keytab is not None:
        # Its libraries take 4 MiB, which a server without a keytab can spare.
        from . import kerberos  # noqa: PLC0415

        try:
            kerberos.check(config.keytab)
        except ValueError as error:
            yield str(error)


def list_problems(directory: Directory) -> Iterator[str]:
    """A line for each entry of `read` and `write` that can be none."""
    for key in ("read", "write"):
        for name in getattr(directory, key):
            if name != EVERYONE and not _is_name(name.removeprefix(GROUP)):
                yield (
                    f'{key}: {name!r} is no name; give "*" for everyone, "@users" for '
                    'who signs in, "@GROUP" or the name of a user'
                )


def problems_with(config: Config, directory: Directory) -> Iterator[str]:
    """A line for each list, or way to sign in, that what else is set does not fit."""
    for key in ("read", "write"):
        entries = getattr(directory, key)
        for entry in entries:
            group = entry.removeprefix(GROUP)
            if entry not in (group, ANY_USER) and group not in config.groups:
                yield f"{key}: no group {group!r} in groups"
        if entries and EVERYONE not in entries and not any(sign_in(config, directory)):
            yield (
                f"{key}: nobody can sign in; set users, keytab, or client_ca of a "
                "[[listen]]"
            )
    for way in directory.authentication or ():
        if needed := _lacks(config, way):
            yield f'authentication: "{way}": {needed}'


def doubts(config: Config) -> Iterator[str]:
    """Settings of sign-in that work and that an operator should have thought about.

    Blocks.
    """
    try:
        users = Users.empty() if config.users is None else Users.load(config.users)
    except ValueError as error:  # it was good a moment ago
        yield f"users: {error}"
        return
    for warning in users.warnings:
        yield f"users: {warning}"
    for index, directory in enumerate(config.directory):
        if not _asks(directory):
            continue
        for doubt in (
            *_unknown(config, directory, users),
            *_unoffered(config, directory),
        ):
            yield f"directory[{index}].{doubt}"
        if "ntlm" in (directory.authentication or ()) and not users.ntlm:
            yield (
                f'directory[{index}].authentication: "ntlm": nobody can; add users '
                "with `bitsd passwd --ntlm`"
            )


def _asks(directory: Directory) -> bool:
    """Somebody has to sign in."""
    lists = (directory.read, directory.write if directory.upload else ())
    return any(entries and EVERYONE not in entries for entries in lists)


def _unknown(config: Config, directory: Directory, users: Users) -> Iterator[str]:
    """Names that nobody can sign in by."""
    if config.keytab is not None or "certificate" in sign_in(config, directory):
        return
    for key in ("read", "write"):
        entries = [entry for entry in getattr(directory, key) if entry != EVERYONE]
        names = [entry for entry in entries if not entry.startswith(GROUP)]
        for group in entries:
            names += config.groups.get(group.removeprefix(GROUP), ())
        for name in dict.fromkeys(names):
            if users.find(name) is None:
                yield f"{key}: {name!r} is not in the users file"


def _unoffered(config: Config, directory: Directory) -> Iterator[str]:
    """Addresses where passwords are not taken."""
    if directory.allow_basic_over_http or "basic" not in sign_in(config, directory):
        return
    for listen in config.listen:
        if listen.certificate is None and not listen.loopback:
            yield (
                f"authentication: Basic is not offered at {listen.address}, where "
                "others read along; give it a certificate"
            )
