"""Records the captures anew, as root: `PYTHONPATH=tests python -m captures.record`.

Every scene is acted in front of `bitsd serve`, while tcpdump looks at loopback.
"""

import asyncio
import gzip
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path

from sites import CONFIG, Application, running

from captures.scenes import SCENES, Scene, Stage

#: Where the captured server listens.
PORT = 8080


def prepare(scene: Scene, folder: Path, settings: str) -> Path:
    """What the server of a scene needs; its configuration file."""
    scene.furnish(folder)
    text = CONFIG.format(top=scene.top, who=scene.who, directory=settings)
    path = folder / "bitsd.toml"
    path.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{PORT}"), "utf-8")
    return path


async def started(told: str, stream: str, *command: object) -> Process:
    """A process that has said that it is ready."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=PIPE, stderr=PIPE
    )
    reader = process.stdout if stream == "stdout" else process.stderr
    assert reader is not None
    async with asyncio.timeout(20):
        while line := await reader.readline():
            if told in line.decode():
                return process
    raise RuntimeError(f"{command[0]} did not start")


async def stopped(process: Process) -> None:
    """End a process."""
    process.terminate()
    await process.communicate()


async def record(scene: Scene) -> None:
    """One capture."""
    async with running(Application()) as application:
        with tempfile.TemporaryDirectory() as folder:
            await acted(scene, Path(folder), application)


async def acted(scene: Scene, home: Path, application: Application) -> None:
    """The scene, as it is captured."""
    config = prepare(scene, home, scene.directory(application))
    bitsd = (sys.executable, "-m", "bitsd", "serve", "--config", config)
    server = await started("listening on", "stdout", *bitsd)
    raw = home / "raw.pcap"
    options = ("-i", "lo", "-B", "65536", "-U", "-w", raw, "--immediate-mode")
    rule = ("tcp", "port", PORT)
    tcpdump = await started("listening on", "stderr", "tcpdump", *options, *rule)
    stage = Stage(f"http://127.0.0.1:{PORT}", home)
    await scene.act(stage)
    await stage.lines.hang_up()
    await asyncio.sleep(0.5)  # the last segments are on their way to the file
    await stopped(tcpdump)
    await stopped(server)
    scene.capture.write_bytes(gzip.compress(raw.read_bytes(), mtime=0))


README = """\
# Recorded traffic

Captures of real runs: bitsd, tcpdump on loopback (`-i lo -B 65536 -U`), as clients \
curl, `bitsd` itself and the tests' own, which sends what it is told to. What they \
carry was made for them; nobody's data is in it. They are in the public domain \
([LICENSE](LICENSE), CC0 \
1.0): use them to test other servers and clients.

`PYTHONPATH=tests .venv/bin/python -m captures.record`, as root, makes them anew, or \
those whose names it is given; `scenes.py` says what happens in each. Every one is \
played to bitsd by `tests/replay/test_captures.py`.

| capture | shows |
|---|---|
{rows}
"""


def readme() -> str:
    """The page about the captures."""
    rows = [f"| `{scene.capture.name}` | {scene.told} |" for scene in SCENES]
    return README.format(rows="\n".join(rows))


async def main(names: Sequence[str]) -> None:
    """Make captures, all or some, and the page about all."""
    for scene in SCENES:
        if not names or scene.name in names:
            await record(scene)
            print(f"{scene.capture.name}: {scene.capture.stat().st_size} bytes")
    (Path(__file__).parent / "README.md").write_text(readme(), "utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
