"""What somebody tries who wants to be let in as another, or to learn who there is."""

import asyncio
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import kerberos as centre
import proxies
import pytest
from argon2 import PasswordHasher
from processes import Run, rewrite, serving
from processes import held as held_of
from signing import (
    authorized,
    basic,
    offers,
    passwd,
    sign_in,
    token_of,
    with_field,
    write_users,
)
from sites import Serve, Site
from spnego_tokens import NEGOEX, following, initial
from windows_clients import PASSWORD, Liar, message, pyspnego, utf16
from wire_client import (
    NOBODY,
    Answer,
    Line,
    cancel,
    close,
    create,
    fetch,
    fragment,
    ping,
    request,
    until,
)

from bitsd.ntlm import nt_hash
from bitsd.spnego import KERBEROS, NTLM, SPNEGO

FILE = "/in/a.ckm"
BODY = bytes(range(256)) * 16
ALICE = nt_hash(PASSWORD)
TOP = 'users = "users"\n'
WHO = 'read = ["@users"]\nwrite = ["alice", "bob"]\n'

#: Of no use to whoever sees it; a second directory.
ELSEWHERE = """
[[directory]]
url = "/elsewhere"
path = "elsewhere"
read = ["@users"]
authentication = ["basic"]
"""


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return write_users(tmp_path)


@pytest.fixture
async def site(serve: Serve, users: Path, tmp_path: Path) -> Site:
    (tmp_path / "elsewhere").mkdir()
    return await serve(top=TOP, who=WHO, directory=ELSEWHERE)


@pytest.fixture(scope="module")
def realm(tmp_path_factory) -> Iterator[centre.Realm]:
    if os.environ.get("BITSD_ALL_TESTS") != "1":
        # It is built only where the headers of MIT Kerberos are.
        pytest.importorskip("gssapi")
    with centre.realm(tmp_path_factory.mktemp("realm")) as made:
        yield made


@pytest.fixture
async def kerberized(serve: Serve, users: Path, realm: centre.Realm, monkeypatch):
    """A server with Kerberos, in a process that has the tickets of alice."""
    realm.kinit("alice")
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)
    return await serve(top=f'{TOP}keytab = "{realm.keytab}"\n', who=WHO)


async def challenged(line: Line, octets: bytes = ping(FILE)) -> bytes:
    """The challenge that a first message gets."""
    first = Liar(ALICE).negotiate()
    answer = await line.ask(authorized(octets, "NTLM", first))
    assert answer.status == 401
    challenge = token_of(answer, "NTLM")
    assert challenge is not None
    return challenge


def answered(challenge: bytes, user: str = "alice") -> bytes:
    """The last message, with the right proof."""
    return Liar(ALICE, user).authenticate(challenge)


async def status_of(line: Line, octets: bytes) -> int:
    return (await line.ask(octets)).status


async def captured(site: Site) -> bytes:
    """The last message of somebody who has signed in."""
    line = await site.dial()
    token = answered(await challenged(line))
    assert await status_of(line, authorized(ping(FILE), "NTLM", token)) == 200
    return token


# Sent again


@pytest.mark.parametrize("after", ["nothing", "a challenge"])
async def test_captured_answer_signs_in_no_other_connection(site: Site, after: str):
    token = await captured(site)
    line = await site.dial()
    if after == "a challenge":
        await challenged(line)

    assert await status_of(line, authorized(create(FILE), "NTLM", token)) == 401
    assert await status_of(line, create(FILE)) == 401
    assert site.sessions == []


async def test_answer_is_good_once_on_its_own_connection(site: Site):
    line = await site.dial()
    octets = authorized(ping(FILE), "NTLM", answered(await challenged(line)))

    assert [await status_of(line, each) for each in (octets, octets, ping(FILE))] == [
        200,
        401,
        401,
    ]


@pytest.mark.parametrize("where", ["same connection", "another"])
async def test_captured_ticket_is_taken_once(kerberized: Site, where: str):
    octets = authorized(create(FILE), "Negotiate", centre.ticket())
    line = await kerberized.dial()
    first = await status_of(line, octets)
    other = line if where == "same connection" else await kerberized.dial()
    again = [await status_of(other, each) for each in (octets, create(FILE))]

    assert (first, again) == (200, [401, 401])
    assert len(kerberized.sessions) == 1


@pytest.mark.parametrize(
    ("kept", "status"), [("alice:!*\n", 401), ("alice:*\n", 200), ("bob:*\n", 200)]
)
async def test_ticket_lets_in_whom_the_users_file_does_not_shut_out(
    kerberized: Site, users: Path, kept: str, status: int
):
    await asyncio.to_thread(users.write_text, kept, "utf-8")
    assert kerberized.server is not None
    await kerberized.server.reload()
    line = await kerberized.dial()
    octets = authorized(ping(FILE), "Negotiate", centre.ticket())

    assert await status_of(line, octets) == status
    assert await status_of(line, ping(FILE)) == status


# In another order


async def test_answer_without_a_challenge_signs_nobody_in(site: Site):
    line = await site.dial()
    token = answered(bytes(32))

    for scheme in ("NTLM", "Negotiate"):
        assert await status_of(line, authorized(create(FILE), scheme, token)) == 401
    assert await status_of(line, create(FILE)) == 401


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(ping(FILE), id="no credentials"),
        pytest.param(fetch("/elsewhere/a"), id="another directory"),
        pytest.param(basic(ping(FILE), "nobody"), id="a wrong password"),
        pytest.param(with_field(ping(FILE), "Authorization", "NTLM ="), id="no token"),
    ],
)
async def test_challenge_is_worth_nothing_after_another_request(
    site: Site, between: bytes
):
    line = await site.dial()
    token = answered(await challenged(line))
    await line.ask(between)

    assert await status_of(line, authorized(create(FILE), "NTLM", token)) == 401
    assert site.sessions == []


async def test_only_the_latest_challenge_can_be_answered(site: Site):
    line = await site.dial()
    first, second = await challenged(line), await challenged(line)
    old = authorized(ping(FILE), "NTLM", answered(first))

    assert await status_of(line, old) == 401
    third = await challenged(line)
    assert len({first, second, third}) == 3
    right = authorized(ping(FILE), "NTLM", answered(third))
    assert await status_of(line, right) == 200


async def test_challenge_of_one_scheme_is_not_that_of_the_other(site: Site):
    line = await site.dial()
    token = answered(await challenged(line))

    assert await status_of(line, authorized(create(FILE), "Negotiate", token)) == 401


async def test_sign_in_counts_only_where_its_scheme_is_offered(site: Site):
    line = await site.dial()
    await sign_in(line, ping(FILE), pyspnego("alice"))
    answer = await line.ask(fetch("/elsewhere/a"))

    assert answer.status == 401
    assert offers(answer) == ['Basic realm="bitsd", charset="UTF-8"']
    refused = authorized(fetch("/elsewhere/a"), "NTLM", Liar(ALICE).negotiate())
    assert offers(await line.ask(refused)) == offers(answer)


# On the connection of somebody else

OTHERS = {
    "NTLM begun": lambda octets: authorized(octets, "NTLM", Liar(ALICE).negotiate()),
    "NTLM, nonsense": lambda octets: authorized(octets, "NTLM", b"nonsense"),
    "Negotiate, nonsense": lambda octets: authorized(octets, "Negotiate", b"\x60\0"),
    "wrong password": lambda octets: basic(octets, "bob", "wrong"),
    "somebody unknown": lambda octets: basic(octets, "nobody"),
    "somebody who may not": lambda octets: basic(octets, "carol"),
    "somebody else": lambda octets: basic(octets, "bob"),
    "no such scheme": lambda octets: with_field(octets, "Authorization", "Bearer x"),
    "nothing to read": lambda octets: with_field(octets, "Authorization", "NTLM"),
}


@pytest.mark.parametrize("which", OTHERS)
async def test_who_signs_in_takes_the_place_of_who_did_before(site: Site, which: str):
    line = await site.dial()
    await sign_in(line, ping(FILE), pyspnego("alice"))
    assert await status_of(line, ping(FILE)) == 200
    await line.ask(OTHERS[which](ping(FILE)))

    assert await status_of(line, create(FILE)) == 401
    assert site.sessions == []


async def test_failing_answer_of_another_ends_the_first_sign_in(site: Site):
    line = await site.dial()
    await sign_in(line, ping(FILE), pyspnego("alice"))
    answer = await sign_in(line, ping(FILE), pyspnego("bob", "wrong"))

    assert answer.status == 401
    assert await status_of(line, create(FILE)) == 401


async def test_request_behind_an_unfinished_handshake_does_not_ride_on_it(site: Site):
    line = await site.dial()
    first = authorized(ping(FILE), "NTLM", Liar(ALICE).negotiate())
    await line.send(first + create(FILE) + fetch(FILE))
    answers = [await line.receive() for _ in range(3)]

    assert [answer.status for answer in answers] == [401] * 3
    assert site.sessions == []


async def test_request_behind_a_wrong_answer_does_not_ride_on_it(site: Site):
    line = await site.dial()
    token = answered(await challenged(line), "carol's brother")
    await line.send(authorized(ping(FILE), "NTLM", token) + create(FILE))

    assert [(await line.receive()).status for _ in range(2)] == [401, 401]
    assert site.sessions == []


# Inside a body


async def test_request_in_the_body_of_a_refused_one_is_none(site: Site):
    inner = create("/in/smuggled.ckm")
    octets = fragment(FILE, NOBODY, 0, inner * 2, 9999)
    line = await site.dial()
    await sign_in(line, ping(FILE), pyspnego("alice"))
    # The body belongs to a handshake that is refused, on a line that was let in.
    answer = await line.ask(authorized(octets, "NTLM", Liar(ALICE).negotiate()))
    last = await line.ask(fetch("/elsewhere/a"))

    assert (answer.status, last.status) == (401, 401)
    assert site.sessions == []
    line.finish()
    assert await line.ended() == b""


async def test_body_that_was_not_asked_for_is_no_request(serve, users):
    site = await serve(top=TOP, who=WHO + 'authentication = ["basic"]')
    inner = basic(create("/in/smuggled.ckm"), "alice")
    octets = fragment(FILE, NOBODY, 0, inner, 9999)
    head = with_field(octets, "Expect", "100-continue")[: -len(inner)]
    line = await site.dial()
    answer = await line.ask(head)
    await line.send(inner)

    assert (answer.status, answer.get("Connection")) == (401, "close")
    assert await line.ended() == b""
    assert site.sessions == []


# Tokens of any length


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 11, 12, 15, 31])
async def test_token_that_is_cut_is_asked_for_again(site: Site, scheme: str, size: int):
    line = await site.dial()
    cut = authorized(create(FILE), scheme, Liar(ALICE).negotiate()[:size])
    answer = await line.ask(cut)
    then = answered(await challenged(line, ping(FILE)))

    assert answer.status == 401
    assert await status_of(line, authorized(ping(FILE), "NTLM", then)) == 200


HUGE = {
    "NTLM, nonsense": ("NTLM", b"x"),
    "NTLM, a first message": ("NTLM", Liar(ALICE).negotiate()),
    "NTLM in Negotiate": ("Negotiate", Liar(ALICE).negotiate()),
    "SPNEGO": ("Negotiate", b"\x60\x82\xaf\xc4\x06\x06" + SPNEGO),
    "Kerberos": (
        "Negotiate",
        b"\x60\x82\xaf\xc4\x06\x09" + KERBEROS[0],
    ),
    "Basic": ("Basic", b"alice:"),
}


@pytest.mark.parametrize("which", HUGE)
async def test_token_of_60_kb_is_a_token(kerberized: Site, which: str):
    scheme, begin = HUGE[which]
    token = begin + bytes(45_000 - len(begin))
    line = await kerberized.dial()
    answer = await line.ask(authorized(create(FILE), scheme, token))

    assert answer.status == 401
    assert kerberized.sessions == []
    # Nothing of it stays: the next sign-in is as any.
    right = await sign_in(line, ping(FILE), pyspnego("alice"))
    assert right.status == 200


async def test_token_that_is_no_header_any_more_ends_the_connection(site: Site):
    line = await site.dial()
    answer = await line.ask(authorized(create(FILE), "NTLM", bytes(50_000)))

    assert answer.status == 400
    assert await line.ended() == b""


# A weaker way


@pytest.mark.parametrize(
    "response", [bytes(24), bytes(16), b"", struct.pack("<16s", b"") + bytes(8)]
)
async def test_older_ntlm_is_no_way_around(site: Site, response: bytes):
    line = await site.dial()
    await challenged(line)
    fields = (bytes(24), response, b"", utf16("alice"), b"", b"")
    token = message(*fields, flags=0x8215)

    assert await status_of(line, authorized(create(FILE), "NTLM", token)) == 401


async def test_what_is_not_offered_is_not_taken(serve: Serve, users: Path, realm):
    ways = 'authentication = ["negotiate"]'
    site = await serve(top=f'{TOP}keytab = "{realm.keytab}"\n', who=WHO + ways)
    line = await site.dial()
    answers = [
        await sign_in(line, create(FILE), pyspnego("alice")),
        await line.ask(basic(create(FILE), "alice")),
    ]

    assert [(answer.status, offers(answer)) for answer in answers] == [
        (401, ["Negotiate"])
    ] * 2


async def test_list_of_mechanisms_that_was_cut_is_denied(site: Site):
    """Somebody in between takes what the client likes best from its list."""
    line = await site.dial()
    client = pyspnego("alice", protocol="negotiate")
    token = client.step()
    assert token is not None
    # The same numbers in another order: what is signed is not what came.
    changed = token.replace(b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a", b"", 1)
    assert changed != token
    answer = await line.ask(authorized(create(FILE), "Negotiate", changed))

    assert answer.status == 401
    assert site.sessions == []


# Who there is


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory) -> str:
    """A file with users of every kind."""
    users = write_users(tmp_path_factory.mktemp("users"))
    passwd(users, "--disable", "bob")
    passwd(users, "--no-password", "dora")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    text = re.sub(r"(carol:.*):ntlm=\w+", r"\1", users.read_text("utf-8"))
    return f"{text}erin:{hashed}\n"


@pytest.fixture
def everybody(users: Path, every_kind: str) -> None:
    users.write_text(every_kind, "utf-8")


def told(answer: Answer) -> tuple:
    """All that came but for the date."""
    fields = [field for field in answer.fields if field[0] != "Date"]
    return answer.version, answer.status, fields, answer.body


FAILING = ("alice", "bob", "carol", "dora", "erin", "nobody", "alice@x", "x\\bob")


@pytest.mark.parametrize("octets", [create(FILE), fetch(FILE)])
async def test_answer_does_not_tell_who_there_is(everybody, serve, octets):
    site = await serve(top=TOP, who=WHO)
    answers = [
        await (await site.dial()).ask(basic(octets, name, "wrong")) for name in FAILING
    ]
    for name in FAILING:
        client = pyspnego(name, "wrong")
        answers.append(await sign_in(await site.dial(), octets, client))
    answers.append(await (await site.dial()).ask(octets))

    assert [told(answer) for answer in answers] == [told(answers[0])] * 17
    assert answers[0].status == 401


async def test_work_does_not_tell_who_there_is(everybody, serve, monkeypatch):
    """Each wrong password costs one hash, whoever is asked for."""
    runs: list[str] = []
    argon2, check = PasswordHasher.verify, bcrypt.checkpw

    def verify(*arguments):
        runs.append("argon2")
        return argon2(*arguments)

    def checkpw(*arguments):
        runs.append("bcrypt")
        return check(*arguments)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    site = await serve(top=TOP, who=WHO)
    line, counted = await site.dial(), {}
    for name in FAILING:
        before = len(runs)
        await line.ask(basic(ping(FILE), name, f"wrong for {name}"))
        counted[name] = len(runs) - before

    assert counted == dict.fromkeys(FAILING, 1)


async def test_many_packets_with_a_password_cost_one_hash(site: Site, monkeypatch):
    runs: list[str] = []
    argon2 = PasswordHasher.verify

    def verify(*arguments):
        runs.append("argon2")
        return argon2(*arguments)

    monkeypatch.setattr(PasswordHasher, "verify", verify)
    line = await site.dial()
    named = (await line.ask(basic(create(FILE), "alice"))).get("BITS-Session-Id")
    assert named is not None
    for first in range(300):
        octets = fragment(FILE, named, first, b"x", 300)
        assert (await line.ask(basic(octets, "alice"))).received == first + 1

    assert (site.folder / "a.ckm").read_bytes() == b"x" * 300
    assert runs == ["argon2"]


# Guessing through SPNEGO, whose client signs a list after its password was right


async def guessed(line: Line, password: str) -> Answer:
    """What SPNEGO says to a password before the list is signed."""
    liar = Liar(nt_hash(password))

    async def said(token: bytes) -> Answer:
        return await line.ask(authorized(create(FILE), "Negotiate", token))

    # What nobody here knows comes first, so that both have to sign.
    await said(initial([NEGOEX, NTLM]))
    answer = await said(following(liar.negotiate()))
    token = token_of(answer, "Negotiate")
    assert token is not None
    challenge = token[token.index(b"NTLMSSP\0") :]
    return await said(following(liar.authenticate(challenge)))


async def test_spnego_does_not_tell_a_braked_client_that_its_password_is_right(
    site: Site,
):
    line = await site.dial()
    failed = [(await guessed(line, f"wrong {each}")).status for each in range(5)]
    right, wrong = await guessed(line, PASSWORD), await guessed(line, "wrong")

    assert failed == [401] * 5
    assert right.status == 503
    assert told(right) == told(wrong)
    # Nor can the exchange go on.
    signed = authorized(create(FILE), "Negotiate", following(mic=bytes(16)))
    assert await status_of(line, signed) in (401, 503)
    assert site.sessions == []


async def test_password_that_is_right_in_spnego_ends_what_failed_before(site: Site):
    """The signature of the list is a formality; whoever leaves it out knew it, too."""
    line = await site.dial()
    for each in range(4):
        await guessed(line, f"wrong {each}")
    right = await guessed(line, PASSWORD)
    token = token_of(right, "Negotiate")
    failed = [(await guessed(line, f"wrong {each}")).status for each in range(5)]

    assert right.status == 401
    assert token is not None
    assert failed == [401] * 5
    assert (await guessed(line, PASSWORD)).status == 503


async def test_ticket_is_not_slowed_by_who_guesses(kerberized: Site):
    """Nobody guesses a ticket, so its user waits for no stranger at that address."""
    stranger, alice = await kerberized.dial(), await kerberized.dial()
    for each in range(6):
        last = await stranger.ask(basic(ping(FILE), "alice", f"wrong {each}"))
    octets = authorized(ping(FILE), "Negotiate", centre.ticket())

    assert last.status == 503
    assert await status_of(alice, octets) == 200


# Names with a domain


async def answers_to(site: Site, name: str, password: str) -> list[int]:
    """To Basic and to NTLM."""
    line = await site.dial()
    by_basic = await line.ask(basic(ping(FILE), name, password))
    by_ntlm = await sign_in(await site.dial(), ping(FILE), pyspnego(name, password))
    return [by_basic.status, by_ntlm.status]


@pytest.mark.parametrize(
    ("name", "password", "status"),
    [
        ("OFFICE\\alice", PASSWORD, 200),
        ("alice@office", PASSWORD, 200),
        ("carol@corp", "of carol@corp", 200),
        ("DESK\\carol@corp", "of carol@corp", 200),
        ("carol@other", PASSWORD, 403),
        ("carol@corp", PASSWORD, 401),
        ("carol", "of carol@corp", 401),
        ("OFFICE\\bob", PASSWORD, 401),
        ("alice\\mallory", PASSWORD, 401),
        ("mallory@alice", PASSWORD, 401),
    ],
)
async def test_domain_makes_nobody_another(serve, users: Path, name, password, status):
    passwd(users, "--ntlm", "--stdin", "carol@corp", said="of carol@corp")
    passwd(users, "--ntlm", "--stdin", "OFFICE\\bob", said="of OFFICE's")
    who = 'read = ["@users"]\nwrite = ["alice", "carol@corp"]\n'
    site = await serve(top=TOP, who=who)

    assert await answers_to(site, name, password) == [status, status]


# Fields that are not what they look like


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Authorization : Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==",
        b" Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==",
        b"Authorization: Basic\r\n YWxpY2U6Y29ycmVjdCBob3JzZQ==",
        b"X: y\rAuthorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==",
        b"X: y\nAuthorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==",
        b"Authorization_: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==",
        b"Auth\0orization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==",
        b"BITS-User: alice\r\nX-Original-User: alice",
    ],
)
async def test_field_that_others_read_in_another_way_lets_nobody_in(
    site: Site, smuggled: bytes
):
    line = await site.dial()
    octets = create(FILE).replace(b"\r\nHost:", b"\r\n" + smuggled + b"\r\nHost:")

    assert await status_of(line, octets) in (400, 401)
    assert site.sessions == []


SECRET = b"YWxpY2U6Y29ycmVjdCBob3JzZQ=="
FIELD = b"Authorization: Basic " + SECRET

UNREADABLE = {
    "control character": FIELD + b"\x01",
    "blank before the colon": FIELD.replace(b":", b" :", 1),
    "longer than a field may be": FIELD * 2000,
    "no name": b": Basic " + SECRET,
    "no colon": FIELD.replace(b":", b"", 1),
    "folded": FIELD.replace(b"Basic ", b"Basic\r\n "),
}


@pytest.mark.parametrize("which", UNREADABLE)
async def test_field_that_cannot_be_read_is_not_in_the_log(
    site: Site, caplog, which: str
):
    caplog.set_level("DEBUG")
    line = await site.dial()
    octets = create(FILE).replace(
        b"\r\nHost:", b"\r\n" + UNREADABLE[which] + b"\r\nHost:"
    )
    answer = await line.ask(octets)

    assert answer.status == 400
    (noted,) = [text for text in caplog.messages if text.startswith("unreadable")]
    assert noted.startswith("unreadable client=127.0.0.1 detail=")
    for part in ("Basic", "YWxp", "alice", "horse"):
        assert part not in caplog.text
        assert part.encode() not in answer.body


async def test_what_we_say_ourselves_of_a_request_is_in_the_log(site: Site, caplog):
    caplog.set_level("INFO", "bitsd")
    octets = create(FILE).replace(b"HTTP/1.1", b"HTTP/1.7")
    await (await site.dial()).ask(octets)

    (noted,) = [text for text in caplog.messages if text.startswith("unreadable")]
    assert noted.endswith('detail="a version of HTTP that is not spoken here"')


# The session of somebody else


@pytest.mark.parametrize("verb", [close, cancel])
async def test_session_is_its_users_on_a_connection_of_another(site: Site, verb):
    alice, bob = await site.dial(), await site.dial()
    await sign_in(alice, ping(FILE), pyspnego("alice"))
    await sign_in(bob, ping(FILE), pyspnego("bob"))
    named = await alice.create(FILE)
    stolen = await bob.ask(verb(FILE, named))
    guessed = await bob.ask(verb(FILE, NOBODY))

    assert (stolen.status, stolen.error) == (guessed.status, guessed.error)
    assert stolen.error[0] == "0x8020001F"
    assert site.sessions == [named]


async def test_user_by_whichever_scheme_is_the_same(kerberized: Site):
    """A session may go on by another way to sign in, as clients choose for each."""
    ntlm, negotiate = await kerberized.dial(), await kerberized.dial()
    await sign_in(ntlm, ping(FILE), pyspnego("OFFICE\\ALICE"))
    named = await ntlm.create(FILE)
    octets = fragment(FILE, named, 0, BODY[:9], len(BODY))
    octets = authorized(octets, "Negotiate", centre.ticket())
    assert (await negotiate.ask(octets)).received == 9
    rest = fragment(FILE, named, 9, BODY[9:], len(BODY))

    answer = await (await kerberized.dial()).ask(basic(rest, "alice"))
    assert answer.received == len(BODY)


@pytest.fixture
def workers() -> int:
    return 2


async def test_thief_at_another_worker_does_not_cut_the_body_that_comes(
    run: Run, config: Path, users: Path
):
    rewrite(config, 'write = ["*"]', 'write = ["alice", "bob"]')
    rewrite(config, "workers = 2", f"workers = 2\n{TOP}")
    rewrite(config, '"1GiB"', f'"1GiB"\n{PUBLIC}')
    (config.parent / "public").mkdir()
    running = await serving(run, config)
    pids = running.workers
    alice, bob = [await running.dial_worker(pid, "/public/") for pid in pids]
    await sign_in(alice, ping(FILE), pyspnego("alice"))
    await sign_in(bob, ping(FILE), pyspnego("bob"))
    named = await alice.create(FILE)
    octets = fragment(FILE, named, 0, BODY, len(BODY))
    await alice.send(octets[:-1])
    await until(lambda: held_of(config, named) == len(BODY) - 1)
    stolen = [
        await bob.ask(each)
        for each in (octets, close(FILE, named), cancel(FILE, named)) * 3
    ]
    await alice.send(octets[-1:])
    answer = await alice.receive()

    assert {each.error[0] for each in stolen} == {"0x8020001F"}
    assert (answer.status, answer.received) == (200, len(BODY))


PUBLIC = """
[[directory]]
url = "/public"
path = "public"
upload = true
write = ["*"]
"""


# Through a proxy that gives its connections to one client after the other

NO_FIELDS = ("proxy_set_header X-Forwarded",)
AS_IT_COMES = ("keepalive", "proxy_http_version", "proxy_set_header")


async def through(listening: Path) -> Line:
    return Line(*await asyncio.open_unix_connection(listening))


async def fates(listening: Path) -> list[int]:
    """Of one who signs in through a proxy, and of one who then comes through it."""
    first, second = await through(listening), await through(listening)
    alice = await sign_in(first, ping(FILE), pyspnego("alice"), "NTLM")
    answer = await second.ask(create(FILE))
    for line in (first, second):
        await line.hang_up()
    return [alice.status, answer.status]


async def test_nobody_signs_in_by_ntlm_through_nginx(
    site: Site, tmp_path: Path, caplog
):
    async with proxies.nginx(site.host, tmp_path) as listening:
        # Of what is configured nothing passes.
        assert await fates(listening) == [403, 403]

    assert site.sessions == []
    assert any(text.startswith("sign-in-through-proxy") for text in caplog.messages)


async def test_nobody_signs_in_by_ntlm_through_nginx_as_it_comes(
    site: Site, tmp_path: Path
):
    """It sends HTTP/1.0, and a new connection for each request."""
    async with proxies.nginx(site.host, tmp_path, without=AS_IT_COMES) as listening:
        assert await fates(listening) == [401, 401]
    assert site.sessions == []


async def test_proxy_that_shares_connections_and_says_nothing_has_to_be_named(
    serve: Serve, users: Path, tmp_path: Path
):
    top = f'{TOP}trusted_proxies = ["127.0.0.1"]\n'
    site = await serve(top=top, who=WHO)
    async with proxies.nginx(site.host, tmp_path, without=NO_FIELDS) as listening:
        assert await fates(listening) == [403, 403]
    assert site.sessions == []


async def test_proxy_that_shares_connections_and_is_not_known_cannot_be_told(
    site: Site, tmp_path: Path
):
    """What protocol-notes/sign-in.md warns of."""
    async with proxies.nginx(site.host, tmp_path, without=NO_FIELDS) as listening:
        assert await fates(listening) == [200, 200]


async def test_kerberos_through_nginx_is_for_one_request(
    kerberized: Site, tmp_path: Path
):
    async with proxies.nginx(kerberized.host, tmp_path) as listening:
        first, second = await through(listening), await through(listening)
        octets = create(FILE)
        answers = [
            await first.ask(authorized(octets, "Negotiate", centre.ticket())),
            await first.ask(octets),
            await second.ask(octets),
            await second.ask(authorized(octets, "Negotiate", centre.ticket())),
        ]
        for line in (first, second):
            await line.hang_up()

    assert [answer.status for answer in answers] == [200, 401, 401, 200]
    assert offers(answers[1]) == ["Negotiate"]
    assert offers(answers[0])[0].startswith("Negotiate ")


async def test_ticket_through_a_proxy_signs_in_no_connection(kerberized: Site):
    """Also not for a request by which one cannot see that it came through a proxy."""
    line = await kerberized.dial()
    octets = authorized(ping(FILE), "Negotiate", centre.ticket())
    through_it = with_field(octets, "X-Forwarded-For", "192.0.2.7")

    assert await status_of(line, through_it) == 200
    assert await status_of(line, ping(FILE)) == 401


@pytest.mark.parametrize("protocol", ["ntlm", "negotiate"])
async def test_handshake_through_a_proxy_does_not_go_on(
    kerberized: Site, caplog, protocol: str
):
    line = await kerberized.dial()
    octets = with_field(create(FILE), "Via", "1.1 proxy")
    client = pyspnego("alice", protocol=protocol)
    answer = await sign_in(line, octets, client, "Negotiate")

    assert (answer.status, offers(answer)) == (401, ["Negotiate"])
    assert any(text.startswith("sign-in-through-proxy") for text in caplog.messages)


@pytest.mark.parametrize(
    "field",
    [("Via", "1.1 proxy"), ("Forwarded", "for=192.0.2.1"), ("X-Real-IP", "192.0.2.1")],
)
async def test_connection_that_turns_out_to_be_a_proxys_is_signed_out(
    site: Site, field: tuple[str, str]
):
    line = await site.dial()
    await sign_in(line, ping(FILE), pyspnego("alice"))
    through_it = with_field(create(FILE), *field)

    assert await status_of(line, through_it) == 403
    assert await status_of(line, create(FILE)) == 401
    assert site.sessions == []


async def test_unreadable_request_leaves_nobody_signed_in(site: Site):
    line = await site.dial()
    await sign_in(line, ping(FILE), pyspnego("alice"))
    answer = await line.ask(request("BITS_POST", FILE, ("Content-Length", "x")))

    assert answer.status == 400
    assert await line.ended() == b""
