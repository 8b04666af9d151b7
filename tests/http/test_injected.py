"""Every system call of every packet fails, in every way that makes sense, one by one.

A real server is told over real sockets; its C library fails it (`injection`). The
calls are not listed here: each packet is watched once, and then fails at each of them.
"""

import asyncio
import errno
import signal
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest
from injection import Call, Class, Fault, Injection, faults
from processes import Run, Running, handles
from uploading import ENTITY, Upload
from wire_client import Answer, Line, ping

from bitsd.disk import refusal_of
from bitsd.routes import _status_of

OLD = b"what was there before"
NO_SESSION = "0x8020001F"

# A limit that is reached at once if a session is counted that is not there.
CONFIG = """
[[listen]]
address = "127.0.0.1:0"

[[directory]]
url = "/in"
path = "in"
upload = true
sessions_per_user = 1

[[directory]]
url = "/over"
path = "over"
upload = true
overwrite = true
durability = "publish"
sessions_per_user = 1
"""

WHOLE = ["create", "fragment", "fragment", "fragment"]

#: What leads to a packet, and that; where the directory makes a difference in both.
PACKETS = {
    "Create-Session": ("/in", ["create"]),
    "first Fragment": ("/in", WHOLE[:2]),
    "first Fragment, synced in the end": ("/over", WHOLE[:2]),
    "middle Fragment": ("/in", WHOLE[:3]),
    "last Fragment": ("/in", WHOLE),
    "last Fragment, replacing a file": ("/over", WHOLE),
    "Fragment after a gap": ("/in", [*WHOLE[:2], "gap"]),
    "repeated Fragment": ("/in", [*WHOLE, "repeat"]),
    "Close-Session": ("/in", [*WHOLE, "close"]),
    "repeated Close-Session": ("/in", [*WHOLE, "close", "close"]),
    "Close-Session of a part": ("/in", [*WHOLE[:2], "close"]),
    "Cancel-Session": ("/in", [*WHOLE[:2], "cancel"]),
    "GET": ("/in", [*WHOLE, "fetch"]),
    "GET of a reply": ("/in", [*WHOLE[:2], "reply"]),
}


@dataclass
class Rig:
    """A server with one directory of which the disk fails on demand."""

    server: Running
    injection: Injection
    folder: Path
    line: Line
    uploads: int = 0

    def upload(self) -> Upload:
        self.uploads += 1
        return Upload(self.line, f"/{self.folder.name}/file-{self.uploads}")

    def published(self, upload: Upload) -> Path:
        return self.folder / upload.target.rpartition("/")[2]

    def home(self, upload: Upload) -> Path:
        return self.folder / "BITS-Sessions" / upload.named

    @property
    def sessions(self) -> list[str]:
        found = (self.folder / "BITS-Sessions").glob("*/session.json")
        return [path.parent.name for path in found]

    async def reach(self, verbs: list[str]) -> Upload:
        """Send these packets, none of which fails."""
        upload = self.upload()
        for verb in verbs:
            assert (await upload.send(verb)).status == 200
        if self.folder.name == "over" and not upload.complete:
            self.published(upload).write_bytes(OLD)
        if upload.named and not upload.complete:  # as an application does
            self.home(upload).joinpath("response").write_bytes(ENTITY)
        return upload

    async def watch(self, verbs: list[str]) -> tuple[list[Call], Answer]:
        """The calls of the last packet when nothing fails, and its answer."""
        upload = await self.reach(verbs[:-1])
        with self.injection.watched() as calls:
            answer = await upload.send(verbs[-1])
        await self.finish(upload, verbs[-1], answer)
        return calls, answer

    async def fail(self, verbs: list[str], fault: Fault, whole: Answer) -> None:
        """Send the last packet into a fault, and go on when that has gone.

        Args:
            verbs: the packets.
            fault: strikes the last of them.
            whole: the answer when nothing fails.
        """
        verb = verbs[-1]
        upload = await self.reach(verbs[:-1])
        before = upload.acknowledged
        with self.injection.failing(fault):
            answer = await self.answer(upload, verb)
            assert (await self.line.ask(ping(upload.target))).status == 200
        self.check_answer(verb, answer, fault, whole)
        if verb in ("create", "fragment", "gap", "repeat") and upload.named:
            self.check_bytes(upload, 0 if self.may_lose(fault) else before)
        await self.finish(upload, verb, whole)

    async def answer(self, upload: Upload, verb: str) -> Answer | None:
        """What the server says, unless a download broke off."""
        try:
            return await upload.send(verb)
        except (ConnectionError, asyncio.IncompleteReadError):
            assert verb in ("fetch", "reply")
            self.line = upload.line = await self.server.dial()
            return None

    def check_answer(
        self, verb: str, answer: Answer | None, fault: Fault, whole: Answer
    ) -> None:
        """It is that of a packet that was done, or what the error means."""
        if answer is None:
            return
        got = (answer.status, answer.error[0])
        error = OSError(fault.error, "")
        if verb in ("fetch", "reply"):
            assert got[0] in (200, _status_of(error)), got
            assert answer.status != 200 or answer.body == ENTITY
            return
        refusal = refusal_of(error)
        hresult = refusal.reason.hresult
        told = (refusal.status, None if hresult is None else f"0x{hresult:08X}")
        may_be = [(whole.status, whole.error[0])]
        if self.injection.failed:
            may_be.append(told)
        if fault.error == errno.EACCES:  # of the folder where the file shall be
            may_be.append((HTTPStatus.FORBIDDEN, "0x80070005"))
        assert got in may_be, got

    def may_lose(self, fault: Fault) -> bool:
        """Bytes that are to be synced in the end may turn out not to be there."""
        return self.folder.name == "over" and Class.SYNC in fault.classes

    def check_bytes(self, upload: Upload, least: int) -> None:
        """Those that were acknowledged are there, and all are the client's."""
        held = self.home(upload).joinpath("request").read_bytes()
        assert len(held) >= least, f"holds {len(held)} of {least}"
        assert ENTITY.startswith(held)

    async def finish(self, upload: Upload, verb: str, whole: Answer) -> None:
        """The fault has gone; nothing of it stays."""
        if verb == "cancel" or whole.status == 400:
            again = await upload.send(verb)
            assert again.status == whole.status or again.error[0] == NO_SESSION, again
        else:
            await upload.go_on()
            assert self.published(upload).read_bytes() == ENTITY
        self.published(upload).unlink(missing_ok=True)
        assert self.sessions == []


@pytest.fixture
async def rig(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, packet: str):
    for name in ("in", "over"):
        (tmp_path / name).mkdir()
    config = tmp_path / "bitsd.toml"
    config.write_text(CONFIG, "utf-8")
    folder = tmp_path / PACKETS[packet][0][1:]
    injection = Injection(folder, tmp_path)
    for name, value in injection.environment.items():
        monkeypatch.setenv(name, value)
    # More than a pipe holds.
    with (tmp_path / "log").open("wb") as log:
        server = await run("serve", "--config", str(config), log=log)
    await server.hear(r"^listening on")
    return Rig(server, injection, folder, await server.dial())


@pytest.mark.parametrize("packet", PACKETS)
async def test_packet_may_fail_at_any_call_and_goes_on_when_it_works_again(
    rig: Rig, packet: str
):
    verbs = PACKETS[packet][1]
    await rig.watch([*WHOLE, "close"])  # so that all has been used once
    calls, whole = await rig.watch(verbs)
    pid, failures = rig.server.process.pid, []
    before = handles(pid)
    for fault in faults(calls):
        try:
            await rig.fail(verbs, fault, whole)
            assert handles(pid) == before, "handles"
        except AssertionError as error:
            failures.append(f"{fault}, {calls[fault.nth - 1].what}: {error}")
            break
    await rig.server.end(signal.SIGTERM)

    assert failures == []
    assert "Traceback" not in rig.folder.with_name("log").read_text("utf-8")
