"""A short run of `make crash`, and that it would notice what it looks for."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .evidence import Evidence, Place, Stage, Upload, Violation
from .killing import Plan, Run

CONTENT = b"0123456789"


@pytest.mark.parametrize("workers", [1, 2])
async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    tmp_path: Path, workers: int
):
    run = Run(Plan(kills=7, seed=1, workers=workers, connections=3), tmp_path)
    await run.run()

    assert run.outcome.violations == []
    assert run.outcome.kills == 7
    assert run.outcome.evidence.files > 0


class Scene:
    """A folder with an upload that was published, and one that is half done."""

    def __init__(self, folder: Path) -> None:
        self.place = Place("/in", folder)
        self.evidence = Evidence([self.place])
        self.half = self.upload("half", held=4, state="receive-fragments")
        self.done = self.upload("done", held=10, state="wait-for-close")
        self.done.file.hardlink_to(self.done.home / "request")
        self.evidence.published(self.done)

    def upload(self, name: str, *, held: int, state: str) -> Upload:
        upload = Upload(self.place, name, CONTENT)
        self.evidence.begun(upload)
        upload.named, upload.stage = f"{{{name}}}", Stage.SENDING
        upload.sent, upload.acknowledged = held, held
        upload.home.mkdir(parents=True)
        (upload.home / "request").write_bytes(CONTENT[:held])
        (upload.home / "session.json").write_text(json.dumps({"state": state}))
        return upload


def test_what_is_as_promised_is_no_violation(tmp_path: Path):
    Scene(tmp_path).evidence.check()


def shorten(scene: Scene) -> None:
    os.truncate(scene.half.home / "request", 3)


def lengthen(scene: Scene) -> None:
    os.truncate(scene.half.home / "request", 5)


def falsify(scene: Scene) -> None:
    (scene.half.home / "request").write_bytes(b"012x")


def lose(scene: Scene) -> None:
    (scene.half.home / "session.json").unlink()


def tear(scene: Scene) -> None:
    (scene.half.home / "session.json").write_bytes(b"{")


def forget(scene: Scene) -> None:
    record = scene.done.home / "session.json"
    record.write_text('{"state": "receive-fragments"}')


def replace(scene: Scene) -> None:
    other = scene.place.folder / "other"
    other.write_bytes(CONTENT)
    other.rename(scene.done.file)


def damage(scene: Scene) -> None:
    scene.evidence.over(scene.done, at_once=False)
    scene.done.file.write_bytes(b"another size")


def remove(scene: Scene) -> None:
    scene.done.file.unlink()


def litter(scene: Scene) -> None:
    (scene.place.folder / "done.part").touch()


def publish_half(scene: Scene) -> None:
    scene.half.file.write_bytes(CONTENT[:4])


def publish_twice(scene: Scene) -> None:
    scene.half.sent = scene.half.size
    scene.half.file.hardlink_to(scene.done.file)


def link_often(scene: Scene) -> None:
    for number in range(2):
        (scene.done.home / f"link{number}").hardlink_to(scene.done.file)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (shorten, "3 bytes are held, 4 were acknowledged"),
        (lengthen, "5 bytes are held, 4 were acknowledged and 4 sent"),
        (falsify, "other bytes are held"),
        (lose, "its session is lost"),
        (tear, "its session is lost"),
        (forget, "its delivery is forgotten"),
        (replace, "was replaced"),
        (damage, "is not what anybody uploaded"),
        (remove, "published and gone|has no name"),
        (litter, "nobody uploaded"),
        (publish_half, "is not what anybody uploaded"),
        (publish_twice, "two names"),
        (link_often, "4 links"),
    ],
)
def test_violation_is_seen(tmp_path: Path, harm: Callable[[Scene], None], told: str):
    scene = Scene(tmp_path)
    harm(scene)

    with pytest.raises(Violation, match=told):
        scene.evidence.check()


def test_session_that_its_client_ended_may_not_be_left(tmp_path: Path):
    scene = Scene(tmp_path)
    for upload in (scene.half, scene.done):
        scene.evidence.over(upload, at_once=False)

    with pytest.raises(Violation, match="done with"):
        scene.evidence.leftovers()


def test_bytes_that_nobody_knows_of_may_not_be_left(tmp_path: Path):
    scene = Scene(tmp_path)

    with pytest.raises(Violation, match="nobody knows of the"):
        scene.evidence.leftovers()


def test_second_link_may_not_be_left(tmp_path: Path):
    scene = Scene(tmp_path)

    with pytest.raises(Violation, match="2 links though"):
        scene.evidence.check_end()
