"""A start with sessions of an earlier run."""

from pathlib import Path

from sites import CONFIG, EVERYBODY, Serve
from store_kit import KEPT, new_session
from wire_client import create

from bitsd.batches import BATCH
from bitsd.config import load
from bitsd.listeners import Listeners
from bitsd.record import write
from bitsd.server import Server

TARGET = "/in/report.dat"
LIMIT = BATCH * 20


def leave_sessions(site_folder, number: int) -> None:
    """What `number` uploads of this machine left, without a disk's syncs for each."""
    home = site_folder / "BITS-Sessions"
    first = home / "{00000000-0000-4000-8000-000000000000}"
    first.mkdir(parents=True)
    write(first, new_session(address="127.0.0.1"), KEPT, durable=True)
    record = (first / "session.json").read_bytes()
    (first / "request").touch()
    for each in range(1, number):
        another = home / f"{{00000000-0000-4000-8000-{each:012X}}}"
        another.mkdir()
        (another / "session.json").write_bytes(record)
        (another / "request").touch()


async def test_clients_are_served_before_all_sessions_are_counted(
    serve: Serve, tmp_path
):
    leave_sessions(tmp_path / "in", LIMIT)
    site = await serve(directory=f"sessions_per_user = {LIMIT}")
    line = await site.dial()
    answers = [(await line.ask(create(TARGET))).status]
    while answers[-1] != 503:
        answers.append((await line.ask(create(TARGET))).status)

    assert answers[0] == 200
    assert len(site.sessions) > LIMIT


async def test_server_that_was_not_started_can_be_stopped(tmp_path: Path):
    path = tmp_path / "bitsd.toml"
    (tmp_path / "in").mkdir()
    path.write_text(CONFIG.format(top="", directory="", who=EVERYBODY), "utf-8")
    config = load(path)
    with Listeners(config.listen) as listeners:
        await Server(config, listeners).stop()

    assert not (tmp_path / "in" / "BITS-Sessions").exists()
