"""Limits of one address, in a network where it is not this machine's own."""

import shutil
import subprocess
from pathlib import Path

from store_kit import cannot_run, run_child

# What is on loopback is not counted, so the server has an address of another kind.
ALONE = """
import asyncio, subprocess, sys
from pathlib import Path
from sites import Site
from wire_client import fetch, fragment, ping, until

ADDRESS = "192.0.2.1"
for command in ("link set lo up", f"address add {ADDRESS}/32 dev lo"):
    subprocess.run(["ip", *command.split()], check=True)

CONFIG = '''
{top}
[[listen]]
address = "192.0.2.1:0"
[[directory]]
url = "/in"
path = "in"
upload = true
allow_anonymous_uploads = true
'''

async def main():
    folder = Path(sys.argv[1])
    (folder / "in").mkdir()
    config = folder / "bitsd.toml"
    config.write_text(CONFIG.format(top=sys.argv[2]), "utf-8")
    site = Site(config)
    await site.start()
    try:
        await act(site)
    finally:
        await site.lines.hang_up()
        await site.stop()
"""

CONNECTIONS = """
async def half(site, line, target):
    named = await line.create(target)
    octets = fragment(target, named, 0, bytes(100), 100)
    await line.send(octets[:-50])
    await until(lambda: site.held(named) == 50)
    return octets[-50:]

async def act(site):
    busy, idle = [await site.dial() for _ in range(2)]
    rest = await half(site, busy, "/in/a")
    print((await idle.ask(ping("/in/"))).status)
    third = await site.dial()
    print((await third.ask(ping("/in/"))).status, await idle.ended())
    more = await half(site, third, "/in/b")
    fourth = await site.dial()
    print((await fourth.receive()).status)
    for line, octets in ((busy, rest), (third, more)):
        await line.send(octets)
        print((await line.receive()).status)
asyncio.run(main())
"""

REQUESTS = """
async def act(site):
    line = await site.dial()
    asked = [ping("/in/"), fetch("/in/none"), ping("/in/"), fetch("/in/none")]
    for octets in asked:
        answer = await line.ask(octets)
        print(answer.status, answer.get("Retry-After"))
asyncio.run(main())
"""


def said(act: str, folder: Path, top: str) -> list[str]:
    if shutil.which("ip") is None:
        cannot_run("ip is not installed")
    under = ("unshare", "--net")
    if subprocess.run([*under, "true"], capture_output=True, check=False).returncode:
        cannot_run("a network of its own needs root")
    child = (ALONE + act, folder, top)
    return run_child(*child, under=under).splitlines()


def test_address_that_has_its_connections_gets_no_more(tmp_path: Path):
    answers = said(CONNECTIONS, tmp_path, "connections_per_address = 2")

    assert answers == ["200", "200 b''", "503", "200", "200"]


def test_address_that_made_its_requests_is_told_to_wait(tmp_path: Path):
    answers = said(REQUESTS, tmp_path, "requests_per_second = 2")

    assert answers == ["200 None", "404 None", "503 30", "503 1"]
