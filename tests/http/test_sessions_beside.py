"""`bitsd sessions` beside a server that runs."""

import json
from pathlib import Path

import pytest
from processes import CONFIG, Run, Running, held, ran, rewrite, serving
from wire_client import create, fragment, until


async def told(running: Running, config: Path) -> list[dict[str, object]]:
    """What the command lists, while the server runs."""
    code, out, err = await ran("sessions", "list", "--json", "--config", str(config))
    assert (code, err) == (0, "")
    found: list[dict[str, object]] = json.loads(out)
    return found


@pytest.fixture
def site_config(tmp_path: Path) -> Path:
    """Of a server with one directory in which anyone may have one session."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "bitsd.toml"
    text = CONFIG.format(address="127.0.0.1:0", workers=1)
    path.write_text(f"{text}sessions_per_user = 1\n", "utf-8")
    return path


async def test_upload_is_seen_and_not_disturbed(run: Run, site_config: Path):
    running = await serving(run, site_config)
    line = await running.dial()
    named = await line.create("/in/a")
    packet = fragment("/in/a", named, 0, bytes(100_000), 100_000)
    await line.send(packet[:-50_000])
    await until(lambda: held(site_config, named) == 50_000)
    (found,) = await told(running, site_config)
    answer = await line.ask(packet[-50_000:])

    assert (found["id"], found["held"], found["total"]) == (named, 50_000, 100_000)
    assert (answer.status, answer.received) == (200, 100_000)


async def test_upload_that_stalls_is_cancelled_and_another_let_in(
    run: Run, site_config: Path
):
    running = await serving(run, site_config)
    line, other = await running.dial(), await running.dial()
    named = await line.create("/in/a")
    await line.send(fragment("/in/a", named, 0, bytes(100_000), 100_000)[:-50_000])
    await until(lambda: held(site_config, named) == 50_000)
    assert (await other.ask(create("/in/b"))).status == 503
    code, out, err = await ran(
        "sessions", "cancel", named[:9], "--config", str(site_config)
    )

    assert (code, err) == (0, "")
    assert f"cancelled {named}, 50.0/100.0 kB\na client that goes on begins anew" in out
    assert await told(running, site_config) == []
    await line.send(bytes(50_000))
    assert (await line.receive()).status == 409
    again = await other.ask(fragment("/in/a", named, 50_000, bytes(9), 100_000))
    assert again.error == ("0x8020001F", "0x8020001F", "0x5")
    assert (await other.ask(create("/in/b"))).status == 200


async def test_room_in_the_spool_is_free_once_its_upload_is_cancelled(
    run: Run, site_config: Path
):
    rewrite(
        site_config,
        "sessions_per_user = 1",
        'sessions_per_user = 2\nmaximum_spool_size = "100kB"',
    )
    running = await serving(run, site_config)
    line = await running.dial()
    first, second = await line.create("/in/a"), await line.create("/in/b")
    packet = fragment("/in/b", second, 0, bytes(9), 90_000)
    kept = await line.ask(fragment("/in/a", first, 0, bytes(9), 90_000))
    assert kept.status == 200
    assert (await line.ask(packet)).status == 503
    await ran("sessions", "cancel", first, "--config", str(site_config))

    assert (await line.ask(packet)).status == 200
