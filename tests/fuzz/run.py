"""`make fuzz`: every target, and conversations with a server, for so many seconds each.

What is found is below `.fuzz/`: a corpus for each target, which the next run goes on
from, and the octets that broke one.
"""

import asyncio
import logging
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOUND = ROOT / ".fuzz"
sys.path[:0] = [str(ROOT), str(HERE.parent), str(HERE)]

# Only now can our own modules be imported.
from conversations import check, made, put_files  # noqa: E402
from fuzz_targets import TARGETS  # noqa: E402
from sites import CONFIG, Site  # noqa: E402


def guided(name: str, seconds: int) -> tuple[int, str]:
    """Atheris on a target: how often it was called, and what was found."""
    corpus = FOUND / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    crashes = FOUND / "crashes"
    crashes.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={crashes}/{name}-",
        *("-max_len=4096", "-timeout=10", "-print_final_stats=1"),
    ]
    command = [sys.executable, HERE / "guided.py", name, corpus, HERE / "seeds" / name]
    done = subprocess.run(
        [*command, *options],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )
    log = done.stderr + done.stdout
    (FOUND / f"{name}.log").write_text(log)
    counted = re.search(r"number_of_executed_units: (\d+)", log)
    told = "" if done.returncode == 0 else f"see {FOUND}/{name}.log"
    return int(counted[1]) if counted else 0, told


async def conversations(seconds: int) -> tuple[int, str]:
    """Octets on a socket of a server: how many conversations, and what was found."""
    first = number = time.time_ns() // 1_000_000
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder, "bitsd.toml"))
        text = CONFIG.format(top="", directory="sessions_per_user = 100000000")
        site.config.write_text(text, "utf-8")
        site.folder.mkdir()
        put_files(site.folder)
        await site.start()
        try:
            while time.monotonic() < end:
                await check(site.url, made(number), f"made({number})")
                number += 1
        except AssertionError as error:
            return number - first, str(error)
        finally:
            await site.stop()
    return number - first, ""


def main(seconds: int) -> int:
    """Run all; 1 if anything was found."""
    logging.disable(logging.CRITICAL)
    FOUND.mkdir(exist_ok=True)
    failed = 0
    print(f"{'target':<16}{'runs':>12}  found", flush=True)
    for name in (*TARGETS, "conversations"):
        if name in TARGETS:
            runs, told = guided(name, seconds)
        else:
            runs, told = asyncio.run(conversations(seconds))
        failed |= bool(told or not runs)
        print(f"{name:<16}{runs:>12,}  {told or 'nothing'}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
