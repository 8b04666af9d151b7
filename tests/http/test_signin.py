"""Signing in by password, and what it is for: permissions, and whose a session is."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sites import Serve, Site
from wire_client import (
    NOBODY,
    PROTOCOL,
    Answer,
    Line,
    cancel,
    close,
    create,
    fetch,
    fragment,
    packet,
    ping,
    request,
    until,
)

from bitsd.line import Line as Connection
from bitsd.passwords import REMEMBERED, Passwords, TooBusy, hashed
from bitsd.protocol.refusal import Refusal
from bitsd.signin import Asking, SignIn
from bitsd.users import Users

FILE = "/in/a.ckm"
BODY = bytes(range(256)) * 16
CHALLENGE = 'Basic realm="bitsd", charset="UTF-8"'
WHO = """
read = ["*"]
write = ["alice", "@imaging"]
authentication = ["basic"]
"""
TOP = """
users = "users"
groups = { imaging = ["Bob", "dora"] }
"""
PASSWORDS = {
    "alice": "alice's secret",
    "bob": "pässwörd",
    "carol": "let in nowhere",
    "Dora": "disabled",
}
ANYTHING = [
    pytest.param(ping(FILE), id="Ping"),
    pytest.param(create(FILE), id="Create-Session"),
    pytest.param(fragment(FILE, NOBODY, 0, BODY, 9999), id="Fragment"),
    pytest.param(close(FILE, NOBODY), id="Close-Session"),
    pytest.param(cancel(FILE, NOBODY), id="Cancel-Session"),
    pytest.param(packet(FILE, "Frobnicate"), id="nonsense"),
    pytest.param(close(FILE, "no id"), id="no id"),
]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Of a users file; hashing takes its time."""
    made = {name: hashed(password) for name, password in PASSWORDS.items()}
    return [f"{name}:{'!' * (name == 'Dora')}{kept}" for name, kept in made.items()]


@pytest.fixture
def users(lines: list[str], tmp_path: Path) -> Path:
    """The users file."""
    path = tmp_path / "users"
    path.write_text("\n".join(lines), "utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
async def site(serve: Serve, users: Path) -> Site:
    """A server where some may upload, by password."""
    return await serve(top=TOP, who=WHO)


def credentials(name: str, password: str | None = None, coding: str = "utf-8") -> str:
    password = PASSWORDS[name] if password is None else password
    return "Basic " + b64encode(f"{name}:{password}".encode(coding)).decode()


def as_user(octets: bytes, name: str, password: str | None = None) -> bytes:
    return with_field(octets, "Authorization", credentials(name, password))


def with_field(octets: bytes, name: str, value: str) -> bytes:
    """The request with one more field."""
    return octets.replace(b"\r\nHost:", f"\r\n{name}: {value}\r\nHost:".encode(), 1)


def challenges(answer: Answer) -> list[str]:
    return [value for name, value in answer.fields if name == "WWW-Authenticate"]


async def made(line: Line, name: str, target: str = FILE) -> str:
    """A session of that user."""
    answer = await line.ask(as_user(create(target), name))
    assert answer.status == 200
    named = answer.get("BITS-Session-Id")
    assert named is not None
    return named


# Before sign-in


@pytest.mark.parametrize("octets", ANYTHING)
async def test_any_packet_is_answered_with_how_to_sign_in(site: Site, octets):
    line = await site.dial()
    answer = await line.ask(octets)

    assert answer.status == 401
    assert challenges(answer) == [CHALLENGE]
    assert answer.get("Content-Length") == "0"
    assert answer.get("BITS-Packet-Type") == "Ack"
    assert answer.error == (None, None, None)
    assert site.sessions == []
    # The body was read: the connection lives on.
    assert (await line.ask(as_user(ping(FILE), "alice"))).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_file_for_some_is_asked_for_with_how_to_sign_in(serve, users, method):
    site = await serve(top=TOP, who='read = ["@users"]\nauthentication = ["basic"]')
    (site.folder / "a.ckm").write_bytes(BODY)
    line = await site.dial()
    answer = await line.ask(fetch(FILE, method=method), head=method == "HEAD")
    there = as_user(fetch(FILE, method=method), "carol")

    assert (answer.status, challenges(answer)) == (401, [CHALLENGE])
    assert (await line.ask(there, head=method == "HEAD")).status == 200


async def test_whether_a_file_exists_is_for_those_who_may_read(serve, users):
    site = await serve(top=TOP, who='read = ["alice"]')
    line = await site.dial()
    (site.folder / "a.ckm").write_bytes(BODY)
    there, not_there = [await line.ask(fetch(f"/in/{name}.ckm")) for name in "ab"]

    assert there.status == not_there.status == 401
    assert there.body == not_there.body


async def test_what_everyone_may_needs_no_sign_in(site: Site):
    (site.folder / "a.ckm").write_bytes(BODY)
    line = await site.dial()

    assert (await line.ask(fetch(FILE))).body == BODY


# Passwords


@pytest.mark.parametrize("name", ["alice", "ALICE", "bob", "BoB"])
async def test_right_password_signs_in_by_a_name_in_any_case(site: Site, name):
    line = await site.dial()
    password = PASSWORDS[name.lower()]

    assert (await line.ask(as_user(ping(FILE), name, password))).status == 200


async def test_password_may_come_in_latin_1(site: Site):
    line = await site.dial()
    value = credentials("bob", coding="latin-1")

    assert (
        await line.ask(with_field(ping(FILE), "Authorization", value))
    ).status == 200


@pytest.mark.parametrize(
    "value",
    [
        credentials("alice", "wrong"),
        credentials("alice", ""),
        credentials("nobody", "wrong"),
        credentials("carol", "wrong"),
        credentials("Dora"),
        "Basic",
        "Basic ",
        "Basic ====",
        "Basic YWxpY2U=",
        "Basic " + "A" * 8000,
        "Bearer token",
        "Negotiate TlRMTVNTUAABAAAAl4II4gAAAAAAAAAAAAAAAAAAAAA=",
        "Digest username=alice",
        "nonsense",
    ],
)
async def test_whatever_is_wrong_is_asked_for_again_alike(site: Site, value):
    line = await site.dial()
    answer = await line.ask(with_field(create(FILE), "Authorization", value))
    first = await (await site.dial()).ask(create(FILE))

    assert without_date(answer) == without_date(first)
    assert site.sessions == []


def without_date(answer: Answer) -> list[tuple[str, str]]:
    return [("status", str(answer.status))] + [
        field for field in answer.fields if field[0] != "Date"
    ]


async def test_two_authorizations_are_none(site: Site):
    octets = as_user(as_user(create(FILE), "alice"), "bob")
    answer = await (await site.dial()).ask(octets)

    assert answer.status == 400
    assert site.sessions == []


async def test_password_is_asked_for_with_each_request(site: Site):
    line = await site.dial()
    await line.ask(as_user(ping(FILE), "alice"))

    assert (await line.ask(ping(FILE))).status == 401


async def test_who_fails_again_and_again_waits_even_with_the_right_password(site: Site):
    line = await site.dial()
    wrong = as_user(ping(FILE), "alice", "wrong")
    answers = [(await line.ask(wrong)).status for _ in range(5)]
    waiting = await line.ask(wrong)
    right = await line.ask(as_user(ping(FILE), "alice"))

    assert answers == [401] * 5
    assert (waiting.status, waiting.get("Retry-After")) == (503, "30")
    assert right.status == 503
    assert (await line.ask(as_user(ping(FILE), "bob"))).status == 200


async def test_who_is_signed_in_is_not_slowed_by_a_stranger(site: Site):
    line, stranger = await site.dial(), await site.dial()
    await line.ask(as_user(ping(FILE), "alice"))
    for _ in range(6):
        await stranger.ask(as_user(ping(FILE), "alice", "wrong"))

    assert (await line.ask(as_user(ping(FILE), "alice"))).status == 200


async def statuses_at_once(site: Site, name: str, passwords: list[str]) -> list[int]:
    lines = [await site.dial() for _ in passwords]
    answers = await asyncio.gather(
        *(
            line.ask(as_user(ping(FILE), name, password))
            for line, password in zip(lines, passwords, strict=True)
        )
    )
    return [answer.status for answer in answers]


async def test_many_guesses_at_once_are_not_all_looked_at(site: Site):
    guesses = [f"guess {number}" for number in range(40)]
    statuses = await statuses_at_once(site, "alice", guesses)

    # It would take minutes until so many are taken one by one.
    assert statuses.count(503) > 20
    assert statuses.count(503) + statuses.count(401) == 40


async def test_many_requests_at_once_sign_in_with_one_password(site: Site):
    statuses = await statuses_at_once(site, "alice", [PASSWORDS["alice"]] * 20)

    assert statuses == [200] * 20


def garbled(number: int) -> bytes:
    return with_field(ping(FILE), "Authorization", f"Basic {number}")


async def test_who_fails_under_many_names_keeps_no_neighbour_out(site: Site):
    line = await site.dial()
    for number in range(40):
        await line.ask(garbled(number))
    for number in range(30):
        await line.ask(as_user(ping(FILE), f"nobody{number}", "wrong"))

    assert (await line.ask(as_user(ping(FILE), "alice"))).status == 200


@pytest.fixture
def signing(users: Path) -> Iterator[SignIn]:
    """Without a server."""
    signing = SignIn(Users.load(users))
    yield signing
    signing.close()


async def status_of(signing: SignIn, name: str, password: str) -> int:
    """What a request with a password is answered, without one."""
    asking = Asking(
        "192.0.2.1", credentials(name, password), private=True, proxied=False
    )
    try:
        await signing.identify(["basic"], asking, Connection())
    except Refusal as refusal:
        return refusal.reason.status
    return 200


async def test_password_that_was_right_is_taken_while_the_name_is_guessed(signing):
    now = 1000.0
    signing._passwords = Passwords(now=lambda: now)
    right = PASSWORDS["alice"]
    before = await status_of(signing, "alice", right)
    now += 10 * REMEMBERED
    guesses = [await status_of(signing, "alice", "wrong") for _ in range(8)]

    assert (before, guesses[-1]) == (200, 503)
    assert await status_of(signing, "alice", right) == 200


@pytest.mark.parametrize("refused", [TooBusy(), asyncio.CancelledError()])
async def test_try_whose_end_was_not_awaited_has_ended(signing, refused):
    class Unanswered(Passwords):
        """Where nobody gets an answer."""

        async def check(self, users, name, password):
            raise refused

    signing._passwords, answering = Unanswered(), signing._passwords
    for number in range(4):
        with suppress(asyncio.CancelledError):
            assert await status_of(signing, "alice", f"guess {number}") == 503
    signing._passwords = answering

    brake = signing._attempts._of_pair
    counts = [(each.under_way, each.failures) for each in brake._tries.values()]
    # Who hangs up may hear the answer elsewhere.
    assert counts == [(0, 4 if isinstance(refused, asyncio.CancelledError) else 0)]
    assert await status_of(signing, "alice", PASSWORDS["alice"]) == 200


async def test_password_that_was_right_before_is_no_try_where_too_many_wait(signing):
    class Busy(Passwords):
        """Where all threads look at others' passwords."""

        async def check(self, users, name, password):
            raise TooBusy

    now = 1000.0
    signing._passwords = Passwords(now=lambda: now)
    assert await status_of(signing, "alice", PASSWORDS["alice"]) == 200
    now += 10 * REMEMBERED
    signing._passwords.__class__ = Busy

    assert await status_of(signing, "alice", PASSWORDS["alice"]) == 503
    tries = signing._attempts._of_pair._tries.values()
    assert [(each.under_way, each.failures) for each in tries] == [(0, 0)]


async def test_downloads_are_slowed_likewise(serve, users):
    site = await serve(top=TOP, who='read = ["alice"]\nauthentication = ["basic"]')
    line = await site.dial()
    for _ in range(5):
        await line.ask(as_user(fetch(FILE), "alice", "wrong"))
    answer = await line.ask(as_user(fetch(FILE), "alice", "wrong"))

    assert (answer.status, answer.get("Retry-After")) == (503, "1")


async def test_failure_is_told_with_its_user_and_no_password(site: Site, caplog):
    await (await site.dial()).ask(as_user(ping(FILE), "alice", "guessed!"))

    (line,) = [text for text in caplog.messages if text.startswith("sign-in-failed")]
    assert "user=alice client=127.0.0.1" in line
    assert "guessed" not in caplog.text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Digest username=alice", "'digest' is not offered"),
        ("YWxpY2U6Z3Vlc3NlZA==", "a field without a scheme is not offered"),
    ],
)
async def test_where_nobody_can_sign_in_the_log_has_the_scheme_and_no_more(
    site: Site, caplog, value: str, told: str
):
    octets = with_field(create(FILE), "X-Forwarded-For", "192.0.2.7")
    answer = await (await site.dial()).ask(with_field(octets, "Authorization", value))

    assert answer.status == 403
    assert told in caplog.text
    for secret in ("ywxp", "username"):
        assert secret not in caplog.text.lower()


# Permissions


async def test_signed_in_user_who_may_not_is_refused_for_good(site: Site):
    answer = await (await site.dial()).ask(as_user(create(FILE), "carol"))

    assert answer.status == 403
    assert answer.error == ("0x80070005", "0x80070005", "0x5")
    assert site.sessions == []


@pytest.mark.parametrize(
    ("who", "user", "status"),
    [
        ('write = ["alice"]', "alice", 200),
        ('write = ["ALICE"]', "alice", 200),
        ('write = ["alice"]', "bob", 403),
        ('write = ["@imaging"]', "bob", 200),
        ('write = ["@imaging"]', "alice", 403),
        ('write = ["@users"]', "carol", 200),
        ("write = []", "alice", 403),
        ("write = []", None, 403),
        ('write = ["*"]', "carol", 200),
        ('write = ["*"]', None, 200),
        ('write = ["@users"]', None, 401),
    ],
)
async def test_list_says_who_may_upload(serve, users, who, user, status):
    site = await serve(top=TOP, who=who)
    octets = create(FILE)
    line = await site.dial()

    answer = await line.ask(octets if user is None else as_user(octets, user))
    assert answer.status == status


async def test_who_may_not_read_is_refused_in_a_word(serve, users):
    site = await serve(top=TOP, who='read = ["alice"]')
    (site.folder / "a.ckm").write_bytes(BODY)
    answer = await (await site.dial()).ask(as_user(fetch(FILE), "bob"))

    assert (answer.status, answer.body) == (403, b"Forbidden\n")


@pytest.mark.parametrize(
    "name",
    [
        "X-Remote-User",
        "Remote-User",
        "X-Forwarded-User",
        "X-Authenticated-User",
        "X-Client-Cert",
        "X-SSL-Client-S-DN",
        "Proxy-Authorization",
        "X-Authorization",
    ],
)
async def test_no_other_field_makes_anybody_a_user(serve, users, name):
    site = await serve(top=TOP + 'trusted_proxies = ["127.0.0.1"]', who=WHO)
    value = credentials("alice") if "Authorization" in name else "alice"
    answer = await (await site.dial()).ask(with_field(create(FILE), name, value))

    assert answer.status in (401, 403)
    assert site.sessions == []


# Whose a session is


@pytest.mark.parametrize("verb", [close, cancel])
async def test_session_of_another_user_is_unknown(site: Site, verb):
    line = await site.dial()
    named = await made(line, "alice")
    stolen = await line.ask(as_user(verb(FILE, named), "bob"))
    unknown = await line.ask(as_user(verb(FILE, NOBODY), "bob"))

    assert stolen.status == unknown.status == 500
    assert stolen.error == unknown.error == ("0x8020001F", "0x8020001F", "0x5")
    assert [name for name, _ in stolen.fields] == [name for name, _ in unknown.fields]
    assert site.sessions == [named]


async def test_fragment_of_another_user_stores_nothing(site: Site):
    line = await site.dial()
    named = await made(line, "alice")
    stolen = as_user(fragment(FILE, named, 0, BODY, len(BODY)), "bob")

    assert (await line.ask(stolen)).error[0] == "0x8020001F"
    assert site.held(named) == 0
    assert not (site.folder / "a.ckm").exists()


async def test_another_user_does_not_cut_the_body_that_comes(site: Site):
    line = await site.dial()
    named = await made(line, "alice")
    octets = as_user(fragment(FILE, named, 0, BODY, len(BODY)), "alice")
    await line.send(octets[:-1])
    await until(lambda: site.held(named) == len(BODY) - 1)
    thief = await site.dial()
    stolen = as_user(fragment(FILE, named, 0, BODY, len(BODY)), "bob")

    assert (await thief.ask(stolen)).error[0] == "0x8020001F"
    await line.send(octets[-1:])
    assert (await line.receive()).received == len(BODY)
    assert (site.folder / "a.ckm").read_bytes() == BODY


async def test_session_goes_on_over_another_connection_of_its_user(site: Site):
    named = await made(await site.dial(), "alice")
    half = len(BODY) // 2
    first = as_user(
        fragment(FILE, named, 0, BODY[:half], len(BODY)), "ALICE", "alice's secret"
    )
    assert (await (await site.dial()).ask(first)).received == half
    rest = as_user(fragment(FILE, named, half, BODY[half:], len(BODY)), "alice")

    assert (await (await site.dial()).ask(rest)).received == len(BODY)


async def test_sessions_are_counted_for_their_user(serve, users):
    site = await serve(top=TOP, who=WHO, directory="sessions_per_user = 1")
    line = await site.dial()
    await made(line, "alice")

    assert (
        await line.ask(as_user(create(FILE), "Alice", "alice's secret"))
    ).status == 503
    assert (await line.ask(as_user(create(FILE), "bob"))).status == 200


async def test_session_and_log_have_the_user(site: Site, caplog):
    caplog.set_level("INFO", "bitsd")
    named = await made(await site.dial(), "alice")
    record = site.folder / "BITS-Sessions" / named / "session.json"

    assert json.loads(record.read_bytes())["user"] == "alice"
    assert any("created" in text and "user=alice" in text for text in caplog.messages)


# Who can read along, and proxies


async def test_password_is_not_asked_for_where_others_read_it(site: Site):
    line = await site.dial()
    octets = with_field(as_user(create(FILE), "alice"), "X-Forwarded-For", "192.0.2.7")
    answer = await line.ask(octets)

    assert (answer.status, answer.error[0]) == (403, "0x80070005")
    assert challenges(answer) == []


async def test_password_over_http_can_be_allowed(serve, users):
    site = await serve(top=TOP + "allow_basic_over_http = true", who=WHO)
    line = await site.dial()
    octets = with_field(as_user(create(FILE), "alice"), "X-Forwarded-For", "192.0.2.7")

    assert (await line.ask(octets)).status == 200


@pytest.mark.parametrize(("scheme", "status"), [("https", 200), ("http", 403)])
async def test_trusted_proxy_says_whether_others_read_along(
    serve, users, scheme, status
):
    site = await serve(top=TOP + 'trusted_proxies = ["127.0.0.1"]', who=WHO)
    octets = as_user(create(FILE), "alice")
    octets = with_field(octets, "X-Forwarded-For", "192.0.2.7")
    octets = with_field(octets, "X-Forwarded-Proto", scheme)

    assert (await (await site.dial()).ask(octets)).status == status


@pytest.mark.parametrize(
    ("trusted", "address"),
    [('trusted_proxies = ["127.0.0.1"]', "192.0.2.7"), ("", "127.0.0.1")],
)
async def test_client_of_a_trusted_proxy_is_who_that_says(serve, trusted, address):
    site = await serve(top=trusted)
    octets = with_field(create(FILE), "X-Forwarded-For", "198.51.100.1, 192.0.2.7")
    answer = await (await site.dial()).ask(octets)
    named = answer.get("BITS-Session-Id")
    record = site.folder / "BITS-Sessions" / named / "session.json"

    assert json.loads(record.read_bytes())["address"] == address


async def test_limits_of_an_address_are_the_clients_behind_a_trusted_proxy(serve):
    site = await serve(top='trusted_proxies = ["127.0.0.1"]\nrequests_per_second = 1\n')
    line = await site.dial()
    one = with_field(ping(FILE), "X-Forwarded-For", "192.0.2.7")
    other = with_field(ping(FILE), "X-Forwarded-For", "192.0.2.8")

    assert [(await line.ask(each)).status for each in (one, one, other)] == [
        200,
        503,
        200,
    ]


async def test_body_of_a_packet_that_waits_for_100_is_not_sent_for_nothing(site: Site):
    line = await site.dial()
    octets = with_field(fragment(FILE, NOBODY, 0, BODY, 9999), "Expect", "100-continue")
    answer = await line.ask(octets[: -len(BODY)])

    assert answer.status == 401
    assert answer.get("Connection") == "close"


async def test_slow_body_gets_its_401_though_it_is_not_wanted(serve, users):
    """A client sends its first body before it is asked who it is."""
    site = await serve(top=TOP + "drain_timeout = 1\n", who=WHO)
    octets = fragment(FILE, NOBODY, 0, BODY, len(BODY))
    sent = [octets, as_user(octets, "alice", "wrong")]
    lines = [await site.dial() for _ in sent]
    for line, each in zip(lines, sent, strict=True):
        await line.send(each[:-1])
    # The rest comes when any other body would have been cut.
    await asyncio.sleep(1.5)
    answers = [await line.ask(octets[-1:]) for line in lines]

    assert [(each.status, challenges(each)) for each in answers] == [
        (401, [CHALLENGE])
    ] * 2
    assert (await lines[0].ask(as_user(ping(FILE), "alice"))).status == 200


async def test_unreadable_request_is_nobodys(site: Site):
    line = await site.dial()
    answer = await line.ask(
        request(
            "BITS_POST",
            "/in/%zz",
            ("Content-Length", "0"),
            ("BITS-Packet-Type", "Ping"),
        )
    )

    assert answer.status == 400
    assert PROTOCOL not in str(answer.fields)
