"""The shape of the package as tables: who may import whom, and how long things are.

Nothing is imported here; the sources are read.
"""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bitsd"

MAXIMUM_MODULE_LINES = 400
MAXIMUM_FUNCTION_LINES = 40

PROTOCOL = {"protocol.refusal", "protocol.wire", "protocol.session"}

# A module may import the modules of ours in its row, and no others. The package
# itself (`__init__`, with the version) is open to all that are not pure.
LAYERS: dict[str, set[str]] = {
    "__init__": set(),
    "protocol.__init__": set(),
    "protocol.refusal": set(),
    "protocol.wire": {"protocol.refusal"},
    "protocol.session": {"protocol.wire", "protocol.refusal"},
    "ranges": set(),
    "codes": set(),
    "cached": set(),
    "journal": set(),
    "loops": {"journal"},
    "batches": set(),
    "mixing": set(),
    "quantities": set(),
    "reasons": set(),
    "access": set(),
    "forwarded": set(),
    "settings": {"access", "quantities"},
    "md4": set(),
    "outcome": set(),
    "ntlm": {"md4", "outcome"},
    "kerberos": {"outcome"},
    "spnego": {"outcome"},
    "negotiate": {"kerberos", "ntlm", "outcome", "spnego"},
    "users": {"access"},
    "passwords": {"access", "users"},
    "passwd": {"access", "ntlm", "passwords", "users"},
    "certificates": {"settings"},
    "tls_files": {"certificates", "settings"},
    "tls": {"tls_files"},
    "offers": {"access", "forwarded", "kerberos", "settings", "users"},
    "rules": {"access", "certificates", "offers", "settings", "tls", "tls_files"},
    "plain": set(),
    "config": {"access", "offers", "plain", "quantities", "rules", "settings"}
    | {"tls_files"},
    "systemd": set(),
    "listeners": {"config", "systemd", "tls", "tls_files"},
    "latest": {"config", "users"},
    "advice": {"protocol.refusal", "codes"},
    "explain": {"protocol.refusal", "advice", "codes"},
    "destination": PROTOCOL | {"cached"},
    "crowd": set(),
    "attempts": {"access", "crowd", "users"},
    "spool": PROTOCOL,
    "owners": PROTOCOL | {"config", "spool"},
    "record": PROTOCOL | {"cached"},
    "turns": PROTOCOL,
    "knocks": PROTOCOL | {"cached", "turns"},
    "entity": PROTOCOL | {"cached", "knocks", "record", "turns"},
    "litter": PROTOCOL | {"record"},
    "disk": PROTOCOL
    | {"cached", "destination", "entity", "knocks", "litter", "record"},
    "notify": PROTOCOL | {"journal", "config"},
    "delivery": PROTOCOL | {"config", "destination", "disk", "entity", "notify"},
    "census": PROTOCOL | {"batches", "disk", "journal", "owners", "record"},
    "caller": PROTOCOL,
    "sessions": PROTOCOL
    | {
        "batches",
        "caller",
        "census",
        "config",
        "delivery",
        "destination",
        "disk",
        "entity",
        "journal",
    }
    | {"owners", "record", "turns"},
    "inflight": PROTOCOL | {"config", "destination", "disk", "record"},
    "columns": {"plain"},
    "init_command": {"plain"},
    "sessions_command": PROTOCOL
    | {"caller", "columns", "config", "destination", "disk", "inflight", "plain"}
    | {"sessions"},
    "answer": PROTOCOL,
    "parser": set(),
    "line": {"crowd", "negotiate", "settings", "tls", "users"},
    "signin": PROTOCOL
    | {"access", "attempts", "certificates", "journal", "line", "negotiate", "outcome"}
    | {"passwords", "settings", "users"},
    "connection": PROTOCOL
    | {"answer", "crowd", "forwarded", "journal", "line", "parser", "tls"},
    "handshakes": {"connection", "crowd", "tls"},
    "arrival": set(),
    "body": PROTOCOL | {"connection"},
    "pieces": {"cached", "ranges"},
    "downloads": {"answer", "journal", "pieces", "ranges"},
    "routes": PROTOCOL
    | {"access", "answer", "body", "caller", "config", "connection", "crowd"}
    | {"destination", "disk", "downloads", "forwarded", "journal", "offers", "owners"}
    | {"arrival", "line", "sessions", "signin"},
}
REPLAY = {
    "replay.capture": set(),
    "replay.segments": {"capture"},
    "replay.streams": {"segments"},
    "replay.parts": set(),
    "replay.message": {"parts"},
    "replay.messages": {"message", "parts", "streams"},
    "replay.recording": {"capture", "message", "messages", "segments", "streams"},
    "replay.packets": {"message"},
    "replay.finding": {"streams"},
    "replay.http_rules": {"finding", "message", "recording", "streams"},
    "replay.packet_rules": {"finding", "message", "packets"},
    "replay.session_rules": {"finding", "message", "packets", "recording"},
    "replay.download_rules": {"finding", "message", "parts"},
    "replay.findings": {"download_rules", "finding", "http_rules", "packet_rules"}
    | {"packets", "recording", "session_rules", "streams"},
    "replay.show": {"findings", "message", "packets", "recording", "session_rules"}
    | {"streams"},
    "replay.tell": {"findings", "message", "recording", "session_rules"},
    "replay.decode": {"capture", "findings", "recording", "show", "tell"},
    "replay.mapping": {"message", "packets", "parts"},
    "replay.compare": {"mapping", "message", "packets"},
    "replay.plan": {"message", "recording", "streams"},
    "replay.line": {"message", "messages", "streams"},
    "replay.play": {"compare", "line", "mapping", "message", "parts"}
    | {"plan", "recording", "show"},
    "replay.fixture": {"play"},
    "replay.outcome": {"capture", "decode", "play"},
    "replay.decode_command": {"decode"},
    "replay.replay_command": {"decode_command", "outcome", "play"},
}
LAYERS["server"] = set(LAYERS) - {"__init__"}
LAYERS |= {
    "client.__init__": set(),
    "client.options": {"protocol.wire"},
    "client.progress": set(),
    "client.trouble": {"client.progress"},
    "client.way": {"client.options", "client.trouble"},
    "client.signin": set(),
    "client.redirects": {"client.trouble"},
    "client.http": {"protocol.wire", "client.options", "client.signin"}
    | {"client.redirects", "client.trouble", "client.way"},
    "client.pace": set(),
    "client.retry": {"protocol.wire"},
    "client.moves": {"protocol.wire"},
    "client.verdicts": PROTOCOL | {"advice", "codes", "explain"},
    "client.steps": PROTOCOL
    | {"client.moves", "client.pace", "client.retry", "client.verdicts"},
    "client.reply": {"client.http", "client.options", "client.progress"},
    "client.run": {"protocol.wire", "client.http", "client.moves"}
    | {"client.options", "client.progress", "client.redirects", "client.reply"}
    | {"client.steps", "client.trouble"},
    "client.source": {"client.progress"},
    "client.notes": {"client.progress", "client.source"},
    "client.upload": {"protocol.wire", "client.http", "client.notes", "client.options"}
    | {"client.pace", "client.progress", "client.reply", "client.retry"}
    | {"client.run", "client.source", "client.steps"},
    "client.upload_command": {"quantities", "client.commands", "client.options"}
    | {"client.progress", "client.upload"},
    "client.bars": {"client.progress"},
    "client.spans": {"ranges"},
    "client.replies": {"ranges", "client.retry"},
    "client.partial": {"ranges", "client.progress", "client.replies", "client.spans"},
    "client.fetching": {"protocol.wire", "ranges", "client.http", "client.options"}
    | {"client.partial", "client.progress", "client.replies", "client.retry"}
    | {"client.spans", "client.trouble"},
    "client.download": {"client.fetching", "client.options", "client.partial"}
    | {"client.progress"},
    "client.commands": {"loops", "quantities", "client.bars", "client.options"}
    | {"client.progress", "client.retry"},
    "client.download_command": {"client.commands", "client.download"}
    | {"client.fetching", "client.options", "client.progress"},
    "client.sync": {"client.download", "client.fetching", "client.http"}
    | {
        "client.options",
        "client.partial",
        "client.progress",
        "client.replies",
    },
    "client.sync_command": {"client.commands", "client.download", "client.fetching"}
    | {"client.download_command", "client.notes", "client.options"}
    | {"client.progress", "client.sync"},
}
LAYERS["__init__"] = {"client.download", "client.fetching", "client.options"}
LAYERS["__init__"] |= {"client.progress", "client.upload"}
LAYERS |= {
    "doctor.__init__": set(),
    "doctor.line": {"protocol.wire", "reasons"},
    "doctor.hops": {"doctor.line"},
    "doctor.verdicts": {"doctor.hops"},
    "doctor.judge": {
        "protocol.refusal",
        "doctor.line",
        "doctor.verdicts",
        "doctor.hops",
    },
    "doctor.report": {"doctor.hops", "doctor.verdicts", "plain"},
    "doctor.patient": {"protocol.wire", "doctor.line", "client.options"}
    | {"client.signin"},
    "doctor.road": {"doctor.patient", "doctor.report", "doctor.line"}
    | {"doctor.verdicts", "reasons"},
    "doctor.uploads": {"protocol.wire", "arrival", "doctor.line", "doctor.judge"}
    | {
        "doctor.road",
        "doctor.patient",
        "doctor.report",
        "doctor.verdicts",
        "doctor.hops",
    },
    "doctor.downloads": {"doctor.line", "doctor.judge", "doctor.patient"}
    | {"doctor.report", "doctor.verdicts", "doctor.hops"},
    "doctor.command": {"client.options", "client.trouble", "client.way", "plain"}
    | {"quantities"}
    | {"doctor.downloads", "doctor.patient", "doctor.report", "doctor.road"}
    | {"doctor.uploads"},
}
LAYERS["worker"] = {"config", "journal", "listeners", "loops", "owners", "server"}
LAYERS["worker"] = {"config", "journal", "latest", "listeners", "loops", "owners"} | {
    "server"
}
LAYERS["supervisor"] = {"config", "journal", "listeners", "owners", "worker"}
# Nothing that serves knows the tools for captures.
LAYERS["replay.__init__"] = set()
for module, beside in REPLAY.items():
    LAYERS[module] = {f"replay.{name}" for name in beside}
LAYERS["replay.packets"] |= PROTOCOL
LAYERS["replay.packet_rules"] |= PROTOCOL
LAYERS["replay.session_rules"] |= PROTOCOL
LAYERS["replay.play"] |= {"reasons"}
LAYERS["replay.show"] |= {"codes"}
LAYERS["cli"] = set(LAYERS) - {"__init__"}
LAYERS["__main__"] = {"cli"}

PURE = {*PROTOCOL, "protocol.__init__", "ranges"}

# Nothing here reads a clock, a disk, a socket or the environment, or writes a log.
PURE_STANDARD_LIBRARY = {
    "collections.abc",
    "dataclasses",
    "datetime",
    "email.utils",
    "enum",
    "functools",
    "itertools",
    "re",
    "typing",
}

# Calls by which a pure module could still read a clock, a file or a module.
IMPURE_CALLS = {"now", "utcnow", "today", "localtime", "open", "print", "input"} | {
    "__import__",
    "eval",
    "exec",
    "breakpoint",
}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
KNOWN = SOURCES.keys() | LAYERS.keys()

every_module = pytest.mark.parametrize("module", SOURCES)


def tree(module):
    return ast.parse(SOURCES[module].read_text("utf-8"))


def imported(module, parsed):
    """Absolute names of what a module imports, wherever in it the import stands."""
    package = ["bitsd", *module.split(".")[:-1]]
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{base}:{alias.name}" for alias in node.names)


def ours(module, parsed):
    """Modules of this package that a module imports."""
    for name in imported(module, parsed):
        dotted, _, attribute = name.partition(":")
        if dotted.split(".")[0] != "bitsd":
            continue
        inner = dotted.removeprefix("bitsd").removeprefix(".")
        choices = [f"{inner}.{attribute}".strip("."), inner]
        package = f"{inner}.__init__".strip(".")
        yield next((choice for choice in choices if choice in KNOWN), package)


def others(module, parsed):
    """What a module imports that is not of this package."""
    names = {name.partition(":")[0] for name in imported(module, parsed)}
    return {name for name in names if name.split(".")[0] != "bitsd"}


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("sessions", "from .protocol.wire import Ack", {"protocol.wire"}),
        ("sessions", "from .protocol import wire", {"protocol.wire"}),
        ("sessions", "from . import journal, __version__", {"journal", "__init__"}),
        ("sessions", "from bitsd.disk import Disk", {"disk"}),
        ("sessions", "from bitsd import disk", {"disk"}),
        ("sessions", "import bitsd.disk as d", {"disk"}),
        ("sessions", "import bitsd", {"__init__"}),
        ("sessions", "from .unheard_of import x", {"unheard_of.__init__"}),
        ("protocol.wire", "from .refusal import Reason", {"protocol.refusal"}),
        ("protocol.wire", "from . import refusal", {"protocol.refusal"}),
        ("protocol.wire", "from . import x", {"protocol.__init__"}),
        ("protocol.wire", "from ..disk import Disk", {"disk"}),
        ("protocol.wire", "from .. import disk", {"disk"}),
        ("protocol.wire", "def f():\n    from ..disk import Disk", {"disk"}),
        ("protocol.wire", "import os\nfrom re import compile", set()),
    ],
)
def test_imports_are_seen_however_they_are_written(module, source, expected):
    assert set(ours(module, ast.parse(source))) == expected


def test_imports_of_others_are_seen():
    source = "import os.path\nfrom time import time\nif 1:\n    import aiohttp"

    assert others("ranges", ast.parse(source)) == {"os.path", "time", "aiohttp"}


def test_every_module_has_a_row():
    assert SOURCES.keys() <= LAYERS.keys()


def test_every_row_is_a_module():
    assert LAYERS.keys() <= SOURCES.keys()


def test_rows_name_only_rows():
    assert set().union(*LAYERS.values()) <= LAYERS.keys()


def test_imports_point_down():
    assert len(list(TopologicalSorter(LAYERS).static_order())) == len(LAYERS)


@every_module
def test_module_imports_what_its_row_allows(module):
    version = set() if module in PURE | {"__init__"} else {"__init__"}

    assert set(ours(module, tree(module))) <= LAYERS.get(module, set()) | version


@pytest.mark.parametrize("module", sorted(PURE & SOURCES.keys()))
def test_pure_module_knows_no_clock_disk_loop_or_log(module):
    assert others(module, tree(module)) <= PURE_STANDARD_LIBRARY


def test_pure_modules_need_nothing_installed():
    roots = {name.split(".")[0] for name in PURE_STANDARD_LIBRARY}

    assert roots <= sys.stdlib_module_names


@pytest.mark.parametrize("module", sorted(PURE & SOURCES.keys()))
def test_pure_module_waits_for_nothing(module):
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

    assert not [node.lineno for node in ast.walk(tree(module)) if type(node) in waiting]


@pytest.mark.parametrize("module", sorted(PURE & SOURCES.keys()))
def test_pure_module_calls_nothing_impure(module):
    calls = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    called = {
        getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        for call in calls
    }

    assert not called & IMPURE_CALLS


@every_module
def test_module_can_be_read_in_one_sitting(module):
    lines = SOURCES[module].read_text("utf-8").splitlines()

    assert len(lines) <= MAXIMUM_MODULE_LINES


def body_lines(function):
    """Lines of a function without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def test_docstring_does_not_count_as_lines():
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n'

    assert body_lines(ast.parse(source).body[0]) == 2


@every_module
def test_functions_are_short(module):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = {
        node.name: body_lines(node)
        for node in ast.walk(tree(module))
        if isinstance(node, functions) and body_lines(node) > MAXIMUM_FUNCTION_LINES
    }

    assert not long


# Written so that it does not find itself.
POSTPONED = re.compile(r"\b(?:to_?do|fix_?me)\b", re.IGNORECASE)


@pytest.mark.parametrize(
    "path",
    [
        path.relative_to(ROOT).as_posix()
        for folder in ("bitsd", "tests", "examples", "protocol-notes")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".md", ".toml"}
    ],
)
def test_nothing_is_postponed(path):
    assert not POSTPONED.findall((ROOT / path).read_text("utf-8"))


@pytest.mark.parametrize("word", ["to" + "do", "FIX" + "ME", "To" + "Do:"])
def test_postponing_is_seen(word):
    assert POSTPONED.search(f"# {word} later")
