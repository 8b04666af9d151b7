"""The recorded captures: what they show, and that bitsd still answers so."""

import asyncio
from pathlib import Path

import pytest
from captures.record import readme
from captures.scenes import FOLDER, SCENES, Scene
from sites import Application, Serve, Site

from bitsd.replay.findings import judge
from bitsd.replay.play import Options, Result, replay
from bitsd.replay.recording import read

every_scene = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
broken_off = pytest.mark.parametrize(
    "scene", [each for each in SCENES if each.cuts], ids=lambda scene: scene.name
)


@pytest.fixture
async def site(
    serve: Serve, application: Application, tmp_path: Path, scene: Scene
) -> Site:
    """The server that was captured."""
    await asyncio.to_thread(scene.furnish, tmp_path)
    settings = scene.directory(application)
    return await serve(top=scene.top, who=scene.who, directory=settings)


async def played(site: Site, scene: Scene, *, cuts: bool = False) -> Result:
    options = Options(cuts=cuts, user=scene.user)
    return await asyncio.to_thread(replay, scene.capture, site.url, options)


@every_scene
async def test_bitsd_answers_as_it_was_captured(site: Site, scene: Scene):
    result = await played(site, scene)
    captured = await asyncio.to_thread(read, scene.capture)
    answered = [each for each in captured.exchanges if each.answer]

    assert result.differences == []
    assert result.compared == len(answered)
    assert len(result.notes) == len(captured.exchanges) - len(answered)


@broken_off
async def test_bitsd_answers_so_when_connections_break(site: Site, scene: Scene):
    result = await played(site, scene, cuts=True)

    assert (result.differences, result.notes) == ([], [])


@every_scene
def test_a_capture_is_whole_and_breaks_the_rules_that_it_is_to(scene: Scene):
    recording = read(scene.capture)
    found = [(each.side.value, each.section) for each in judge(recording).findings]

    assert (recording.damage, recording.unread) == (None, {})
    assert all(connection.begun for connection in recording.connections)
    assert not any(connection.missing for connection in recording.connections)
    assert found == list(scene.broken)


@broken_off
def test_a_connection_breaks_in_a_capture_that_is_about_it(scene: Scene):
    messages = [
        message
        for exchange in read(scene.capture).exchanges
        for message in (exchange.request, exchange.answer)
        if message is not None
    ]

    assert not all(message.complete for message in messages)


def test_the_page_tells_of_every_capture():
    files = {path.name for path in FOLDER.glob("*.pcap.gz")}

    assert files == {scene.capture.name for scene in SCENES}
    assert (FOLDER / "README.md").read_text("utf-8") == readme()


def test_captures_are_small_and_anybodys():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000
    assert "CC0 1.0 Universal" in (FOLDER / "LICENSE").read_text("utf-8")
