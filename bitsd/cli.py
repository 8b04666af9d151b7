"""The `bitsd` command."""

import argparse
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

from . import __version__, journal, systemd
from .config import Config, ConfigError, for_folder, load, warnings
from .explain import ACCEPTED, explain
from .latest import Latest
from .listeners import CannotStart, Listeners
from .mixing import Mixing
from .supervisor import Supervisor
from .worker import serve_alone, serve_as_worker

_FOLDER = Path("images")

# What each other command does, and the module that is imported when it is wanted: a
# server has no use for them.
_COMMANDS = {
    "init": ("write a configuration for a known use", "init_command"),
    "passwd": ("add, change or delete a user of a users file", "passwd"),
    "sessions": ("show the uploads in flight, and end them", "sessions_command"),
    "upload": ("send a file to a BITS server", "client.upload_command"),
    "download": (
        "fetch a file, however often it breaks",
        "client.download_command",
    ),
    "sync": ("keep a folder as a server has it", "client.sync_command"),
    "doctor": (
        "test the way to a BITS server, and name the hop at fault",
        "doctor.command",
    ),
    "decode": (
        "show the BITS traffic of a capture, and what broke the rules",
        "replay.decode_command",
    ),
    "replay": (
        "send the requests of a capture to a server, compare its answers",
        "replay.replay_command",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    0 done, 1 it did not work (one line on stderr says what to do), 2 wrong usage, 130
    ended by Ctrl-C, 141 nobody reads the output any more; some commands have more,
    which their help names.
    """
    wanted = sys.argv[1:] if arguments is None else arguments
    given = _parser(wanted).parse_args(wanted)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        code = run(given)
        print(end="", flush=True)  # which takes no standard output (>&-) for granted
    except BrokenPipeError:  # `| head` has enough
        _drop_output()
        return 128 + signal.SIGPIPE  # as shells say it
    except OSError as error:  # the disk of the output is full
        _drop_output()
        print(f"bitsd: cannot write the output: {error.strerror}", file=sys.stderr)
    except ConfigError as error:
        for problem in error.problems:
            print(f"bitsd: {problem}", file=sys.stderr)
    except CannotStart as error:
        print(f"bitsd: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130  # as shells say it
    else:
        return code
    return 1


def _drop_output() -> None:
    """Let the end of the program write nothing of what is left to write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitsd",
        description="A server for BITS uploads and ranged downloads.",
    )
    parser.add_argument("--version", action="version", version=f"bitsd {__version__}")
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", parser_class=Mixing
    )
    _add_serve(commands.add_parser("serve", help="serve folders to BITS clients"))
    check = commands.add_parser(
        "check-config", help="say what is wrong with a configuration file"
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check_config)
    tell = commands.add_parser(
        "explain", help="say what an error code means and what to do"
    )
    tell.add_argument("code", metavar="CODE", help=ACCEPTED)
    tell.set_defaults(run=_explain)
    for name, (does, module) in _COMMANDS.items():
        command = commands.add_parser(name, help=does, description=does)
        command.mixes = module.startswith("client.")
        if wanted[:1] == [name]:
            import_module(f"bitsd.{module}").define(command)
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    where = serve.add_mutually_exclusive_group()
    where.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="uploads and downloads without a configuration file; made if missing "
        "(default: ./images)",
    )
    where.add_argument(
        "--config", type=Path, metavar="FILE", help="everything from a TOML file"
    )
    serve.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="with FOLDER (default: 127.0.0.1:8080)",
    )
    serve.add_argument("--url", metavar="/NAME", help="with FOLDER (default: /images)")
    serve.add_argument(
        "--overwrite",
        action="store_true",
        help="with FOLDER: an upload may replace a file",
    )
    serve.set_defaults(run=_serve, usage_error=serve.error)


def _serve(given: argparse.Namespace) -> int:
    if given.config is not None and (given.listen or given.url or given.overwrite):
        given.usage_error("--listen, --url and --overwrite go with FOLDER")
    config = _folder_config(given) if given.config is None else load(given.config)
    _start_log()
    if given.config is not None:
        for warning in warnings(config):
            journal.log.warning("%s", warning)

    def ready() -> None:
        with suppress(OSError):  # that nobody reads it is no reason not to serve
            for url in listeners.urls:
                print(f"listening on {url}", flush=True)
            if given.config is None:
                _print_hint(listeners.urls[0] + config.directory[0].url.rstrip("/"))
        systemd.tell("READY=1")

    # Of the files of TLS each worker takes care by itself.
    again = None if given.config is None else partial(load, given.config, tls=False)
    latest = Latest(config, again)
    _allow_many_files()
    with Listeners(config.listen, config.workers) as listeners:
        if config.workers == 1:
            serve_alone(config, listeners, ready, latest)
        else:
            work = partial(serve_as_worker, latest=latest)
            Supervisor(config, listeners, ready, work, latest.renew).run()
    return 0


def _allow_many_files() -> None:
    """Use what the system allows: a connection and its file take up to three handles.

    The soft limit is low for programs that use select(2), which this one does not.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _folder_config(given: argparse.Namespace) -> Config:
    folder: Path = given.folder or _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotStart(f"cannot make {folder}: {error.strerror}") from None
    return for_folder(
        folder,
        address=given.listen or "127.0.0.1:8080",
        url=given.url or "/images",
        overwrite=given.overwrite,
    )


def _print_hint(url: str) -> None:
    print(
        f"\n  {url}/  is ready. Upload to it from Windows PowerShell:\n\n"
        "  Start-BitsTransfer -TransferType Upload "
        f"-Source .\\image.ckm -Destination {url}/image.ckm\n",
        flush=True,
    )


def _start_log() -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )


def _check_config(given: argparse.Namespace) -> int:
    config = load(given.file)
    for warning in warnings(config):
        print(f"warning: {warning}")
    places = ", ".join(directory.url for directory in config.directory)
    print(f"{given.file}: no problems; serves {places}")
    return 0


def _explain(given: argparse.Namespace) -> int:
    text = explain(given.code)
    if text is None:
        print(f"bitsd: not a code: give {ACCEPTED}", file=sys.stderr)
        return 1
    print(text)
    return 0
