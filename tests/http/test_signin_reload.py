"""Users, groups and lists that change while clients are signed in."""

import asyncio
import os
import signal
import threading
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from processes import PROCESS_SECONDS, Run, Running, held, rewrite, serving
from signing import basic, offers, passwd, sign_in, write_users
from sites import Serve, Site
from store_kit import PATIENCE
from windows_clients import PASSWORD, Liar, pyspnego
from wire_client import Line, close, create, fetch, fragment, ping, until

from bitsd.line import Line as Signed
from bitsd.ntlm import nt_hash
from bitsd.passwords import MAXIMUM_WAITING, THREADS
from bitsd.signin import Asking, SignIn, SignInNeeded
from bitsd.users import User, Users

FILE = "/in/a.ckm"
BODY = bytes(range(250)) * 400
HALF = len(BODY) // 2
TOP = 'users = "users"\ngroups = { imaging = ["bob"] }\n'
WHO = 'read = ["@users"]\nwrite = ["alice", "@imaging"]\n'
PUBLIC = """
[[directory]]
url = "/public"
path = "public"
upload = true
write = ["*"]
"""


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return write_users(tmp_path)


@pytest.fixture
async def site(serve: Serve, users: Path) -> Site:
    return await serve(top=TOP, who=WHO)


async def reload(site: Site) -> None:
    assert site.server is not None
    await site.server.reload()


async def signed_in(site: Site, name: str) -> Line:
    line = await site.dial()
    assert (await sign_in(line, fetch("/in/"), pyspnego(name))).status == 404
    return line


async def changed(site: Site, old: str, new: str) -> None:
    """Another configuration."""
    await asyncio.to_thread(rewrite, site.config, old, new)
    await reload(site)


# Lists


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('imaging = ["bob"]', "imaging = []", id="group"),
        pytest.param('["alice", "@imaging"]', '["alice"]', id="list"),
        pytest.param('["alice", "@imaging"]', "[]", id="empty list"),
    ],
)
async def test_who_is_taken_from_a_list_may_no_more(site: Site, old: str, new: str):
    line = await signed_in(site, "bob")
    assert (await line.ask(ping(FILE))).status == 200
    await changed(site, old, new)

    assert (await line.ask(ping(FILE))).status == 403


async def test_who_is_added_to_a_group_may_at_once(site: Site):
    line = await signed_in(site, "carol")
    assert (await line.ask(ping(FILE))).status == 403
    await changed(site, 'imaging = ["bob"]', 'imaging = ["Carol"]')

    assert (await line.ask(ping(FILE))).status == 200


async def test_list_of_readers_counts_at_once(site: Site):
    (site.folder / "a.ckm").write_bytes(BODY)
    line = await signed_in(site, "bob")
    assert (await line.ask(fetch(FILE))).status == 200
    await changed(site, 'read = ["@users"]', 'read = ["alice"]')

    assert (await line.ask(fetch(FILE))).status == 403


async def test_way_that_is_offered_no_more_counts_no_more(site: Site):
    line = await signed_in(site, "alice")
    await changed(site, "upload = true", 'upload = true\nauthentication = ["basic"]')
    answer = await line.ask(ping(FILE))

    assert answer.status == 401
    assert offers(answer) == ['Basic realm="bitsd", charset="UTF-8"']


# Users

CHANGES = {
    "disabled": ("--disable", "alice"),
    "deleted": ("--delete", "alice"),
    "another password": ("--stdin", "alice"),
    "no password": ("--no-password", "alice"),
}


@pytest.mark.parametrize("which", CHANGES)
async def test_connection_of_a_user_who_changed_ends(
    site: Site, users: Path, which: str, caplog
):
    caplog.set_level("INFO", "bitsd")
    alice, bob = await signed_in(site, "alice"), await signed_in(site, "bob")
    await asyncio.to_thread(passwd, users, *CHANGES[which], said="another")
    await reload(site)

    assert await alice.ended() == b""
    assert (await bob.ask(ping(FILE))).status == 200
    again = await sign_in(await site.dial(), ping(FILE), pyspnego("alice"))
    assert again.status == 401
    (line,) = [text for text in caplog.messages if text.startswith("signed-out")]
    assert line.startswith("signed-out user=alice client=")


async def test_connection_of_a_user_who_did_not_change_lives_on(
    site: Site, users: Path
):
    line = await signed_in(site, "alice")
    await asyncio.to_thread(passwd, users, "--disable", "bob")
    await reload(site)

    assert (await line.ask(ping(FILE))).status == 200


async def test_users_file_that_cannot_be_read_changes_nothing(
    site: Site, users: Path, caplog
):
    line = await signed_in(site, "alice")
    await asyncio.to_thread(users.write_text, "alice:secret\n", "utf-8")
    await reload(site)

    assert (await line.ask(ping(FILE))).status == 200
    again = await sign_in(await site.dial(), ping(FILE), pyspnego("bob"))
    assert again.status == 200
    (told,) = [text for text in caplog.messages if text.startswith("not-reloaded")]
    assert "line 1: the password of alice is not kept by" in told


async def test_what_is_doubtful_about_the_users_is_told_again(
    site: Site, users: Path, caplog
):
    await asyncio.to_thread(users.chmod, 0o644)
    await reload(site)

    (told,) = [text for text in caplog.messages if text.startswith("users ")]
    assert "can read" in told
    assert str(users) in told


async def test_who_asked_last_for_what_everyone_may_is_signed_out_as_well(
    serve: Serve, users: Path, tmp_path: Path
):
    (tmp_path / "public").mkdir()
    site = await serve(top=TOP, who=WHO, directory=PUBLIC)
    line = await signed_in(site, "alice")
    assert (await line.ask(ping("/public/"))).status == 200
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    await reload(site)

    assert (await line.ask(ping(FILE))).status == 401
    assert (await line.ask(ping("/public/"))).status == 200


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("upload = true", "upload = true\noverwrite = true", id="setting"),
        pytest.param('url = "/in"', 'url = "/elsewhere"', id="another directory"),
    ],
)
async def test_what_needs_a_restart_is_told_and_users_count_all_the_same(
    site: Site, users: Path, caplog, old: str, new: str
):
    line = await signed_in(site, "alice")
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    await changed(site, old, new)

    assert await line.ended() == b""
    assert any(text.startswith("restart-needed") for text in caplog.messages)


# A configuration of which not all counts at once

LISTEN = '[[listen]]\naddress = "127.0.0.2:0"\n'
LIST = 'write = ["alice", "@imaging"]'

#: What would be wrong on what is served still: lists that are for something else.
FIXED: dict[str, Sequence[tuple[str, str]]] = {
    "uploads end, with their list": [(f"{LIST}\n\nupload = true\n", "")],
    "two folders change places, with their lists": [
        ('path = "in"', 'path = "out"'),
        ('path = "public"', 'path = "in"'),
        ('path = "out"', 'path = "public"'),
        (LIST, "write = []"),
        ('write = ["*"]', LIST),
        ("write = []", 'write = ["*"]'),
    ],
    "a directory is renamed, and another has its name": [
        ('url = "/in"', 'url = "/archive"'),
        ('url = "/public"', 'url = "/in"'),
    ],
    "an address is taken away": [(LISTEN, ""), (LIST, 'write = ["*"]')],
    "uploads may replace files": [
        ("upload = true", "upload = true\noverwrite = true"),
        (LIST, 'write = ["*"]'),
    ],
    "a directory is taken away": [(PUBLIC, ""), (LIST, 'write = ["@users"]')],
    "a group, and what cannot count": [
        ("upload = true", "upload = true\noverwrite = true"),
        ('imaging = ["bob"]', 'imaging = ["carol"]'),
    ],
}


def edit(config: Path, edits: Sequence[tuple[str, str]]) -> None:
    for old, new in edits:
        rewrite(config, old, new)


async def allowed(dial: Callable[[], Awaitable[Line]]) -> list[int]:
    """What becomes of new uploads: of nobody, of who may, of who may not."""
    asked = [create(FILE), basic(create(FILE), "bob"), basic(create(FILE), "carol")]
    line = await dial()
    return [(await line.ask(octets)).status for octets in asked]


@pytest.mark.parametrize("edits", FIXED.values(), ids=FIXED)
async def test_lists_for_other_folders_and_addresses_wait_for_a_restart(
    serve: Serve, users: Path, tmp_path: Path, caplog, edits
):
    (tmp_path / "public").mkdir()
    site = await serve(top=TOP + LISTEN, who=WHO, directory=PUBLIC)
    alice = await signed_in(site, "alice")
    before = await allowed(site.dial)
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    await asyncio.to_thread(edit, site.config, edits)
    await reload(site)
    after = await allowed(site.dial)
    public = await (await site.dial()).ask(create("/public/a.ckm"))

    assert before == after == [401, 200, 403]
    assert public.status == 200
    # The users are taken all the same.
    assert await alice.ended() == b""
    (told,) = [text for text in caplog.messages if text.startswith("restart-needed")]
    assert "only the users were read again" in told


async def test_lists_count_again_when_the_rest_is_as_it_was(site: Site, caplog):
    old, new = "upload = true", "upload = true\noverwrite = true"
    await changed(site, old, new)
    await changed(site, 'imaging = ["bob"]', "imaging = []")
    waits = await allowed(site.dial)
    await changed(site, new, old)

    assert waits == [401, 200, 403]
    assert await allowed(site.dial) == [401, 403, 403]
    assert sum(text.startswith("restart-needed") for text in caplog.messages) == 2


async def test_configuration_with_another_users_file_leaves_the_one_there_was(
    site: Site, users: Path, tmp_path: Path
):
    (tmp_path / "others").write_text("carol:*\n", "utf-8")
    line = await signed_in(site, "alice")
    await asyncio.to_thread(passwd, users, "--disable", "bob")
    await changed(site, 'users = "users"', 'users = "others"')

    assert (await line.ask(ping(FILE))).status == 200
    again = await sign_in(await site.dial(), ping(FILE), pyspnego("bob"))
    assert again.status == 401


# While a sign-in is being looked at


class Gate:
    """Where a thread waits until it may go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.open.wait(PATIENCE)


@pytest.mark.parametrize(
    ("name", "status"), [("alice", 401), ("bob", 200)], ids=["changed", "the same"]
)
async def test_password_counts_by_the_users_of_the_end_of_its_check(
    site: Site, users: Path, monkeypatch, name: str, status: int
):
    gate, verify = Gate(), PasswordHasher.verify

    def slow(*arguments):
        gate.wait()
        return verify(*arguments)

    monkeypatch.setattr(PasswordHasher, "verify", slow)
    line = await site.dial()
    await line.send(basic(create(FILE), name))
    await asyncio.to_thread(gate.reached.wait)
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    await reload(site)
    gate.open.set()

    assert (await line.receive()).status == status


async def test_password_that_cannot_be_looked_at_soon_is_for_later(
    site: Site, monkeypatch
):
    gate, verify = Gate(), PasswordHasher.verify

    def slow(*arguments):
        gate.wait()
        return verify(*arguments)

    monkeypatch.setattr(PasswordHasher, "verify", slow)
    lines = [await site.dial() for _ in range(THREADS + MAXIMUM_WAITING)]
    for number, line in enumerate(lines):
        await line.send(basic(ping(FILE), f"user{number}"))
    assert site.server is not None
    waiting = site.server._sign_in._passwords._runs
    await until(lambda: len(waiting) == len(lines))
    late = await (await site.dial()).ask(basic(ping(FILE), "bob"))
    gate.open.set()

    assert (late.status, late.get("Retry-After")) == (503, "30")
    assert {(await line.receive()).status for line in lines} == {401}


async def test_passwords_that_wait_are_answered_by_a_server_that_stops(
    site: Site, monkeypatch
):
    gate, verify = Gate(), PasswordHasher.verify

    def slow(*arguments):
        gate.wait()
        return verify(*arguments)

    monkeypatch.setattr(PasswordHasher, "verify", slow)
    lines = [await site.dial() for _ in range(THREADS + 1)]
    for number, line in enumerate(lines):
        await line.send(basic(ping(FILE), f"user{number}"))
    assert site.server is not None
    passwords = site.server._sign_in._passwords
    await until(lambda: len(passwords._runs) == len(lines))
    stopping = asyncio.create_task(site.stop())
    await until(lambda: site.server is None)
    gate.open.set()

    assert [(await line.receive()).status for line in lines] == [401] * len(lines)
    await stopping
    assert passwords._pool._shutdown


ALICE = User("alice", None, nt_hash(PASSWORD))
BOB = User("bob", None, nt_hash(PASSWORD))

#: Users that are read while the answer of alice is looked at, and whether she gets in.
MEANWHILE = {
    "nothing": ([ALICE, BOB], True),
    "another user": ([ALICE, User("bob", None, None)], True),
    "a new user": ([ALICE, BOB, User("carol", None, None)], True),
    "another password": ([User("alice", None, nt_hash("new")), BOB], False),
    "another hash": ([User("alice", "$2b$", ALICE.nt_hash), BOB], False),
    "disabled": ([User("alice", None, ALICE.nt_hash, enabled=False), BOB], False),
    "deleted": ([BOB], False),
}


@pytest.mark.parametrize(("kept", "passes"), MEANWHILE.values(), ids=MEANWHILE)
async def test_answer_of_ntlm_counts_by_what_its_user_is_at_its_end(kept, passes):
    gate = Gate()

    class Slow(Users):
        """Of which a thread hears late."""

        def find(self, name):
            found = super().find(name)
            if threading.current_thread() is not threading.main_thread():
                gate.wait()
            return found

    signing, line, client = (
        SignIn(Slow([ALICE, BOB])),
        Signed(),
        Liar(nt_hash(PASSWORD)),
    )

    async def leg(token: bytes):
        said = f"NTLM {b64encode(token).decode()}"
        asking = Asking("", said, private=False, proxied=False)
        return await signing.identify(["ntlm"], asking, line)

    with pytest.raises(SignInNeeded) as caught:
        await leg(client.negotiate())
    challenge = b64decode(caught.value.challenges[0][5:])
    last = asyncio.create_task(leg(client.authenticate(challenge)))
    await asyncio.to_thread(gate.reached.wait)
    signing.reload(Users(kept), [])
    gate.open.set()

    if passes:
        assert (await last).name == "alice"
    else:
        with pytest.raises(SignInNeeded):
            await last
    assert (line.identity is not None) == passes
    signing.close()


# The real program


@pytest.fixture(params=[1, 2])
def workers(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def guarded(config: Path, users: Path, workers: int) -> Path:
    """A configuration for who signs in."""
    rewrite(config, 'read = ["*"]\nwrite = ["*"]\n', WHO)
    rewrite(config, f"workers = {workers}\n", f"workers = {workers}\n{TOP}")
    rewrite(config, '"1GiB"\n', f'"1GiB"\n{PUBLIC}')
    (config.parent / "public").mkdir()
    return config


async def reloaded(running: Running, word: str = " reloaded") -> list[str]:
    """Its log up to where all of its processes have read their files again."""
    assert running.process.stderr is not None
    running.process.send_signal(signal.SIGHUP)
    lines: list[str] = []
    async with asyncio.timeout(PROCESS_SECONDS):
        while sum(word in line for line in lines) < max(len(running.workers), 1):
            lines.append((await running.process.stderr.readline()).decode())
            assert lines[-1], lines
    return lines


async def dialled(running: Running) -> list[Line]:
    """A connection to each process that serves."""
    if not running.workers:
        return [await running.dial()]
    return [await running.dial_worker(pid, "/public/") for pid in running.workers]


async def test_disabled_user_is_stopped_in_a_fragment_and_goes_on_when_enabled(
    run: Run, guarded: Path, users: Path
):
    running = await serving(run, guarded)
    line = (await dialled(running))[-1]
    await sign_in(line, ping(FILE), pyspnego("alice"))
    named = await line.create(FILE)
    octets = fragment(FILE, named, 0, BODY, len(BODY))
    await line.send(octets[:-HALF])
    await until(lambda: held(guarded, named) == HALF)
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    log = await reloaded(running)
    rest = await line.ended()
    refused = [
        (await sign_in(line, ping(FILE), pyspnego("alice"))).status
        for line in await dialled(running)
    ]
    kept = held(guarded, named)
    await asyncio.to_thread(passwd, users, "--enable", "alice")
    await reloaded(running)
    line = (await dialled(running))[0]
    octets = fragment(FILE, named, HALF, BODY[HALF:], len(BODY))
    answer = await sign_in(line, octets, pyspnego("alice"))
    closed = await line.ask(close(FILE, named))

    assert rest == b""
    assert sum("signed-out user=alice" in line for line in log) == 1
    assert set(refused) == {401}
    assert kept == HALF
    assert (answer.status, answer.received, closed.status) == (200, len(BODY), 200)
    assert (guarded.parent / "in" / "a.ckm").read_bytes() == BODY


async def test_unreadable_users_file_is_one_line_of_each_process(
    run: Run, guarded: Path, users: Path
):
    running = await serving(run, guarded)
    lines = await dialled(running)
    for line in lines:
        await sign_in(line, ping(FILE), pyspnego("alice"))
    await asyncio.to_thread(users.unlink)
    log = await reloaded(running, "not-reloaded")
    statuses = [(await line.ask(ping(FILE))).status for line in lines]

    assert set(statuses) == {200}
    _code, err = await running.end(signal.SIGTERM)
    told = [line for line in log + err.splitlines() if "not-reloaded" in line]
    assert len(told) == len(lines)
    assert all("users: No such file or directory" in line for line in told)


@pytest.mark.parametrize("workers", [2], indirect=True)
async def test_lists_that_wait_for_a_restart_count_in_no_worker(
    run: Run, guarded: Path, users: Path
):
    """Nor in one that replaces another."""
    running = await serving(run, guarded)
    dead, living = running.workers
    edits = FIXED["two folders change places, with their lists"]
    await asyncio.to_thread(edit, guarded, edits)
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    log = await reloaded(running)
    os.kill(dead, signal.SIGKILL)
    await until(lambda: dead not in running.workers and len(running.workers) == 2)
    found = [
        await allowed(partial(running.dial_worker, pid, "/public/"))
        for pid in running.workers
    ]
    fresh = await running.dial_worker(living, "/public/")
    alice = await sign_in(fresh, ping(FILE), pyspnego("alice"))

    assert found == [[401, 200, 403]] * 2
    assert alice.status == 401
    assert sum("restart-needed" in line for line in log) == 2


@pytest.mark.parametrize("workers", [2], indirect=True)
@pytest.mark.parametrize("broken", ["users", "bitsd.toml"])
async def test_worker_that_replaces_another_goes_by_what_could_last_be_read(
    run: Run, guarded: Path, users: Path, broken: str
):
    """With nobody disabled, or lists of the start, it would let in who was shut out."""
    running = await serving(run, guarded)
    dead, living = running.workers
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    await asyncio.to_thread(rewrite, guarded, 'imaging = ["bob"]', "imaging = []")
    await reloaded(running)
    file = guarded.parent / broken
    right = await asyncio.to_thread(file.read_text, "utf-8")
    await asyncio.to_thread(file.write_text, f"{right}\nnonsense\n", "utf-8")
    await reloaded(running, "not-reloaded")
    os.kill(dead, signal.SIGKILL)
    await until(lambda: dead not in running.workers and len(running.workers) == 2)
    (fresh,) = {*running.workers} - {living}
    line = await running.dial_worker(fresh, "/public/")
    statuses = [
        (await sign_in(line, ping(FILE), pyspnego(name))).status
        for name in ("alice", "bob")
    ]

    assert statuses == [401, 403]
