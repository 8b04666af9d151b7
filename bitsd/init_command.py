"""`bitsd init`: a configuration for a known use, to start from.

The texts are in `profiles/`, one file each. A line of them that begins with `#` and no
space is a setting that is left to whoever runs the server.
"""

import argparse
import shlex
import sys
import tomllib
from importlib import resources
from pathlib import Path

from .plain import plain

PROFILES = ("medv", "dfir-orc", "psd")

_FILE = "bitsd.toml"


def define(init: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    init.add_argument(
        "--profile",
        choices=PROFILES,
        required=True,
        help="medv: an image repository; dfir-orc: archives of hosts; psd: logs",
    )
    init.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where bitsd.toml goes, and the data beside it (default: here)",
    )
    init.set_defaults(run=_init)


def profile(name: str) -> str:
    """The configuration of a profile."""
    text = resources.files(__package__) / "profiles" / f"{name}.toml"
    return text.read_text("utf-8")


def _init(given: argparse.Namespace) -> int:
    folder: Path = given.folder
    text = profile(given.profile)
    table = tomllib.loads(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _FILE).open("x", encoding="utf-8") as file:
            file.write(text)
        for directory in table["directory"]:
            (folder / directory["path"]).mkdir(exist_ok=True)
    except FileExistsError as error:
        problem = "is there already; nothing was changed in it"
        return _failed(f"{error.filename} {problem}; name another FOLDER")
    except OSError as error:
        return _failed(f"cannot write {error.filename}: {error.strerror}")
    _print_next(folder / _FILE, table)
    return 0


def _failed(problem: str) -> int:
    print(f"bitsd: {plain(problem)}", file=sys.stderr)
    return 1


def _print_next(written: Path, table: dict[str, list[dict[str, str]]]) -> None:
    file = shlex.quote(str(written))
    url = f"http://{table['listen'][0]['address']}{table['directory'][0]['url']}/"
    print(f"wrote {plain(str(written))}; read it, then:\n")
    print(f"  bitsd check-config {file}")
    print(f"  bitsd serve --config {file}")
    print(f"  bitsd doctor {url}")
