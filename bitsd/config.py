"""A TOML file into a `Config`, or into every problem that it has.

Each value is converted by itself, then what must hold of a table is checked, so that
no problem hides one of another table; then the rules between tables.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from . import offers, quantities, rules, tls_files
from .access import EVERYONE
from .plain import plain
from .settings import CertificateRule, Config, Directory, Listen, Size
from .tls_files import TlsFiles, Unusable

__all__ = [
    "Config",
    "ConfigError",
    "Directory",
    "Listen",
    "for_folder",
    "load",
    "warnings",
]

_Table = TypeVar("_Table", Config, Listen, Directory, CertificateRule)

_ARRAYS = (tuple[Listen, ...], tuple[Directory, ...], tuple[CertificateRule, ...])

# An empty one would be the folder of the configuration file.
_FileName = Annotated[str, msgspec.Meta(min_length=1)]


class ConfigError(Exception):
    """A configuration that cannot be used.

    Attributes:
        problems: a printable line each: file, key, what is wrong, what is allowed.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = [plain(problem) for problem in problems]
        super().__init__("; ".join(self.problems))


def load(path: Path, *, tls: bool = True) -> Config:
    """Read a configuration file.

    Args:
        path: of the file.
        tls: look at the files of TLS, too.

    Raises:
        ConfigError: with everything that is wrong.
    """
    try:
        # Editors on Windows put a byte order mark before UTF-8.
        table = tomllib.loads(path.read_text("utf-8").removeprefix("\ufeff"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot read it: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8 text"]) from None
    except (ValueError, RecursionError) as error:
        # Numbers too long and arrays too deep are no TOMLDecodeError.
        raise ConfigError([f"{path}: not TOML: {error}"]) from None
    try:
        return from_table(table, path.parent, file=path, tls=tls)
    except ConfigError as error:
        raise ConfigError([f"{path}: {line}" for line in error.problems]) from None


def for_folder(folder: Path, *, address: str, url: str, overwrite: bool) -> Config:
    """The configuration of `bitsd serve FOLDER`: anonymous uploads and downloads.

    Raises:
        ConfigError: as `load`; also for an address that others can reach.
    """
    table = {
        "listen": [{"address": address}],
        "directory": [
            {"url": url, "path": str(folder), "upload": True, "overwrite": overwrite}
        ],
    }
    return from_table(table, Path.cwd())


def from_table(
    table: Mapping[str, Any],
    base: Path,
    *,
    file: Path | None = None,
    tls: bool = True,
) -> Config:
    """A configuration from what TOML holds; relative paths are relative to `base`.

    Args:
        table: what TOML holds.
        base: where it is.
        file: that it is in.
        tls: look at the files of TLS, too.

    Raises:
        ConfigError: with everything that is wrong.
    """
    reader = _Reader(base)
    config = reader.read(Config, table, "")
    if config is None:
        raise ConfigError(reader.problems)
    config = _with_defaults_for_all(config)
    of_tls = rules.tls(config) if tls else ()
    if problems := [*rules.between(config), *rules.own_files(config, file), *of_tls]:
        raise ConfigError(problems)
    return config


def warnings(config: Config) -> list[str]:
    """Settings that work and that an operator should have thought about; blocks."""
    return [*_doubts_about_tls(config), *offers.doubts(config)] + [
        f"directory[{index}]{warning}"
        for index, directory in enumerate(config.directory)
        for risky, warning in _risks(directory)
        if risky
    ]


def _doubts_about_tls(config: Config) -> Iterator[str]:
    now = datetime.now(UTC)
    for number, listen in enumerate(config.listen):
        files = TlsFiles.of(listen)
        if files is None:
            continue
        try:
            material = tls_files.read(files, now)
        except Unusable as error:  # they were good a moment ago
            yield f"listen[{number}].{error}"
            continue
        for doubt in tls_files.doubts(material, now):
            yield f"listen[{number}].{doubt}"
        for index, directory in enumerate(config.directory):
            host = directory.host_id
            if host and not tls_files.covers(material.chain[0], host):
                yield (
                    f"directory[{index}].host_id: {host} is not in the certificate "
                    f"of listen[{number}]: its clients cannot go on there"
                )


def _risks(directory: Directory) -> Iterator[tuple[bool, str]]:
    anonymous = directory.upload and EVERYONE in directory.write
    yield (
        anonymous and directory.allow_anonymous_uploads,
        f": anyone who reaches {directory.url} may upload",
    )
    yield anonymous and directory.overwrite, ".overwrite: anyone may replace files"
    yield (
        directory.allow_basic_over_http,
        ".allow_basic_over_http: whoever is on the way reads passwords",
    )
    url = directory.notification_url
    yield (
        directory.notification != "none" and bool(url and not urlsplit(url).netloc),
        ".notification_url: relative: the client's Host names the application",
    )
    yield (
        directory.durability == "publish",
        ".durability: a power cut loses acknowledged bytes of unfinished uploads",
    )
    any_size = directory.upload and directory.maximum_upload_size is None
    spool = directory.maximum_spool_size is not None
    yield (
        any_size and spool,
        ".maximum_upload_size: not set: one upload may claim all of maximum_spool_size",
    )
    yield (
        any_size and not spool and not directory.minimum_free_space,
        ".maximum_upload_size: not set: one upload may fill the disk",
    )


def _with_defaults_for_all(config: Config) -> Config:
    """What is allowed at the top is allowed in every directory."""
    directories = tuple(
        msgspec.structs.replace(
            directory,
            allow_anonymous_uploads=directory.allow_anonymous_uploads
            or config.allow_anonymous_uploads,
            allow_basic_over_http=directory.allow_basic_over_http
            or config.allow_basic_over_http,
        )
        for directory in config.directory
    )
    return msgspec.structs.replace(config, directory=directories)


class _Reader:
    """Reads tables into structs, one value at a time."""

    def __init__(self, base: Path) -> None:
        self.problems: list[str] = []
        self._base = base

    def read(
        self, kind: type[_Table], table: Mapping[str, Any], where: str
    ) -> _Table | None:
        """The struct, or None when a value of it has a problem."""
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        before = len(self.problems)
        values: dict[str, Any] = {}
        for key, value in table.items():
            field = fields.get(key)
            if field is None:
                self._tell(f"{where}{key}", f"unknown setting{_nearest(key, fields)}")
            else:
                values[key] = self._value(field.type, value, f"{where}{key}")
        for name, field in fields.items():
            if field.required and name not in table:
                self._tell(f"{where}{name}", "is missing")
        if len(self.problems) > before:
            return None
        whole = kind(**values)
        self.problems += [f"{where}{problem}" for problem in rules.problems(whole)]
        return whole if len(self.problems) == before else None

    def _value(self, hint: object, value: object, key: str) -> object:
        """One value; a problem is told, and then the value does not matter."""
        try:
            return self._converted(hint, value, key)
        except ValueError as error:
            self._tell(key, str(error))
            return None

    def _converted(self, hint: object, value: object, key: str) -> object:
        kind = get_args(hint)[0]
        if kind in _ARRAYS:
            return self._array(kind, value, key)
        if kind in (Size, Size | None):
            return quantities.size(value)
        if kind is timedelta:
            return quantities.time(value)
        if kind in (Path, Path | None):
            return self._base / msgspec.convert(value, _FileName)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise ValueError("give " + " or ".join(f'"{v}"' for v in get_args(kind)))
        converted: object = msgspec.convert(value, hint)
        return converted

    def _array(self, kind: object, value: object, key: str) -> object:
        if kind == tuple[Listen, ...]:
            return self._tables(Listen, value, key)
        if kind == tuple[Directory, ...]:
            return self._tables(Directory, value, key)
        return self._tables(CertificateRule, value, key)

    def _tables(
        self, kind: type[_Table], value: object, key: str
    ) -> tuple[_Table | None, ...]:
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            self._tell(key, f"write it as [[{key}]]")
            return ()
        return tuple(
            self.read(kind, table, f"{key}[{index}].")
            for index, table in enumerate(value)
        )

    def _tell(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")


def _nearest(key: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
