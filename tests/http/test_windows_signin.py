"""Real clients that sign in by NTLM, Negotiate, Kerberos or Basic, and what they do."""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import kerberos as centre
import pytest
from authorities import Authority
from proxies import EXAMPLES
from signing import (
    authorized,
    basic,
    offers,
    sign_in,
    token_of,
    with_field,
    write_users,
)
from sites import CONFIG, Serve, Site
from store_kit import PATIENCE, cannot_run
from windows_clients import PASSWORD, Client, pyspnego, samba
from wire_client import (
    Answer,
    Line,
    close,
    create,
    fetch,
    fragment,
    ping,
)

from bitsd.negotiate import end_point

FILE = "/in/a.ckm"
SMALL = 1000
#: A small fragment, and one that does not come at once.
ENTITY = os.urandom(SMALL + 3 * 2**20)
#: As much as Windows sends at once.
LARGE = bytes(range(256)) * (13 * 2**12)
TOP = 'users = "users"\n'
WHO = 'read = ["@users"]\nwrite = ["alice", "bob"]\n'
BASIC = 'Basic realm="bitsd", charset="UTF-8"'


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return write_users(tmp_path)


@pytest.fixture
async def site(serve: Serve, users: Path) -> Site:
    """A server for who signs in by NTLM, Negotiate or Basic."""
    return await serve(top=TOP, who=WHO)


@pytest.fixture(scope="module")
def realm(tmp_path_factory) -> Iterator[centre.Realm]:
    if os.environ.get("BITSD_ALL_TESTS") != "1":
        # It is built only where the headers of MIT Kerberos are.
        pytest.importorskip("gssapi")
    with centre.realm(tmp_path_factory.mktemp("realm")) as made:
        yield made


@pytest.fixture
def tickets(realm: centre.Realm, monkeypatch) -> None:
    """This process has those of alice."""
    realm.kinit("alice")
    for name, value in realm.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def kerberized(serve: Serve, users: Path, realm: centre.Realm) -> Site:
    """The same with Kerberos."""
    return await serve(top=f'{TOP}keytab = "{realm.keytab}"\n', who=WHO)


# curl

BY_PASSWORD = ("--user", f"alice:{PASSWORD}")

WAYS: dict[str, Sequence[str]] = {
    "ntlm": ("--ntlm", *BY_PASSWORD),
    "anyauth": ("--anyauth", *BY_PASSWORD),
    "basic": ("--basic", *BY_PASSWORD),
    "kerberos": ("--negotiate", "--user", ":"),
}


@pytest.fixture(params=WAYS)
async def curl(
    request: pytest.FixtureRequest, serve: Serve, users: Path, tmp_path: Path
) -> "Curl":
    """curl with one of its ways to sign in, and a server that offers that."""
    if shutil.which("curl") is None:
        cannot_run("curl is not installed")
    way, environment, who = request.param, dict(os.environ), WHO
    top = TOP
    if way == "kerberos":
        realm: centre.Realm = request.getfixturevalue("realm")
        realm.kinit("alice")
        environment = realm.environment
        top += f'keytab = "{realm.keytab}"\n'
    elif way == "anyauth":
        # Of a Negotiate without Kerberos it makes nothing, and ends.
        who += 'authentication = ["ntlm", "basic"]\n'
    site = await serve(top=top, who=who)
    return Curl(site, tmp_path, WAYS[way], environment)


class Curl:
    """Packets and downloads, as options of curl."""

    def __init__(
        self,
        site: Site,
        folder: Path,
        way: Sequence[str],
        environment: dict[str, str],
    ) -> None:
        self.site = site
        self._folder = folder
        self.way = way
        self.environment = environment
        self.said = b""

    def packet(self, kind: str, *fields: str, body: bytes = b"") -> list[str]:
        """Options for a packet; curl asks for 100 Continue from 1 MiB on."""
        file = self._folder / f"body-{len(body)}"
        file.write_bytes(body)
        named = (f"BITS-Packet-Type: {kind}", "Content-Type:", *fields)
        headers = [word for field in named for word in ("--header", field)]
        return ["--request", "BITS_POST", *headers, "--data-binary", f"@{file}"]

    def create(self) -> list[str]:
        protocols = "{7df0354d-249b-430f-820d-3d2a9bef4931}"
        return self.packet("Create-Session", f"BITS-Supported-Protocols: {protocols}")

    def fragment(self, named: str, first: int, last: int, *fields: str) -> list[str]:
        span = f"Content-Range: bytes {first}-{last - 1}/{len(ENTITY)}"
        session = f"BITS-Session-Id: {named}"
        return self.packet("Fragment", session, span, *fields, body=ENTITY[first:last])

    async def run(self, *requests: Sequence[str]) -> list[str]:
        """One curl does them all: for each, the status and how often it connected."""
        command = ["curl", "--disable"]
        written = self._folder / "header"
        for number, request in enumerate(requests):
            command += ["--next"] if number else []
            command += [*self.way, "--silent", "--globoff", "--dump-header", written]
            command += ["--output", self._folder / f"output-{number}"]
            command += ["--write-out", "%{http_code} %{num_connects}\n"]
            command += [*request, f"{self.site.url}{FILE}"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, env=self.environment
        )
        async with asyncio.timeout(PATIENCE):
            out, _err = await process.communicate()
        assert process.returncode == 0, out
        self.said = written.read_bytes()
        return out.decode().splitlines()

    def output(self, number: int) -> bytes:
        return (self._folder / f"output-{number}").read_bytes()

    def field(self, name: str) -> str:
        """The last value of a field in the last header."""
        return re.findall(rf"(?im)^{name}: (.*)\r$", self.said.decode())[-1]


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
async def test_curl_uploads_and_downloads_over_one_connection(curl: Curl, expect: str):
    assert await curl.run(curl.create()) == ["200 1"]
    named = curl.field("BITS-Session-Id")
    answers = await curl.run(
        curl.packet("Ping"),
        curl.fragment(named, 0, SMALL, expect),
        curl.fragment(named, SMALL, len(ENTITY), expect),
        curl.packet("Close-Session", f"BITS-Session-Id: {named}"),
        ["--range", "10-19"],
        ["--range", "0-0,-2"],
        ["--head"],
        [],
    )

    assert answers == ["200 1", *["200 0"] * 3, "206 0", "206 0", "200 0", "200 0"]
    assert (curl.site.folder / "a.ckm").read_bytes() == ENTITY == curl.output(7)
    assert curl.output(4) == ENTITY[10:20]
    assert curl.site.sessions == []


async def test_curl_uploads_over_a_connection_for_each_packet(
    curl: Curl, tmp_path: Path
):
    (tmp_path / "source").write_bytes(ENTITY)
    command = [EXAMPLES / "upload.sh", tmp_path / "source", f"{curl.site.url}{FILE}"]
    environment = curl.environment | {"BITS_FRAGMENT": "1500000"}
    process = await asyncio.create_subprocess_exec(
        *command, *curl.way, stdout=subprocess.PIPE, env=environment
    )
    async with asyncio.timeout(PATIENCE):
        await process.communicate()

    assert process.returncode == 0
    assert (curl.site.folder / "a.ckm").read_bytes() == ENTITY
    assert curl.site.sessions == []


async def test_curl_takes_what_it_can_of_all_that_is_offered(
    kerberized: Site, realm: centre.Realm, tmp_path: Path
):
    realm.kinit("bob")
    curl = Curl(kerberized, tmp_path, ("--anyauth", "--user", ":"), realm.environment)

    assert await curl.run(curl.create()) == ["200 1"]
    assert curl.field("WWW-Authenticate").startswith("Negotiate oY")
    record = kerberized.folder / "BITS-Sessions" / kerberized.sessions[0]
    assert '"user":"bob"' in (record / "session.json").read_text("utf-8")


@pytest.mark.parametrize("way", ["--ntlm", "--basic"])
async def test_wrong_password_of_curl_is_refused(site: Site, tmp_path: Path, way: str):
    user = ("--user", "alice:wrong")
    curl = Curl(site, tmp_path, (way, *user), dict(os.environ))

    assert await curl.run(curl.create()) == ["401 1"]
    assert site.sessions == []


# Other clients, over bare connections


@pytest.fixture(params=["pyspnego", "Samba"])
def client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    """A client of NTLM, by user."""
    with ExitStack() as processes:

        def made(user: str, password: str = PASSWORD) -> Client:
            if request.param == "pyspnego":
                return pyspnego(user, password)
            return processes.enter_context(samba(user, password))

        yield made


async def upload(line: Line, octets: bytes = ENTITY) -> None:
    """Fragments and Close without a word of who sends them."""
    named = await line.create(FILE)
    half = len(octets) // 2
    for first, body in ((0, octets[:half]), (half, octets[half:])):
        answer = await line.ask(fragment(FILE, named, first, body, len(octets)))
        assert (answer.status, answer.received) == (200, first + len(body))
    assert (await line.ask(close(FILE, named))).status == 200


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
async def test_connection_stays_signed_in(site: Site, client, scheme: str):
    line = await site.dial()

    assert (await sign_in(line, ping(FILE), client("alice"), scheme)).status == 200
    await upload(line)
    assert (await line.ask(fetch(FILE))).body == ENTITY
    assert (site.folder / "a.ckm").read_bytes() == ENTITY
    assert (await (await site.dial()).ask(ping(FILE))).status == 401


async def test_spnego_is_answered_with_the_200_and_only_with_that(site: Site):
    line = await site.dial()
    client = pyspnego("alice", protocol="negotiate")
    answer = await sign_in(line, create(FILE), client, "Negotiate")
    later = await line.ask(ping(FILE))

    assert (answer.status, later.status) == (200, 200)
    assert client.complete
    assert token_of(answer, "Negotiate") is not None
    assert offers(later) == []


@pytest.mark.parametrize(
    "field", [(), ("Range", "bytes=1-3"), ("Range", "bytes=9999-")]
)
async def test_spnego_is_answered_with_a_download(site: Site, field):
    (site.folder / "a.ckm").write_bytes(b"12345")
    octets = fetch(FILE, *([field] if field else []))
    line = await site.dial()
    client = pyspnego("carol", protocol="negotiate")
    answer = await sign_in(line, octets, client, "Negotiate")
    later = await line.ask(fetch(FILE))

    assert answer.status in (200, 206, 416)
    assert client.complete
    assert (later.status, offers(later)) == (200, [])


@pytest.mark.parametrize(
    ("octets", "status"), [(fetch("/in/none"), 404), (create("/in/x"), 403)]
)
async def test_spnego_is_answered_whatever_comes_of_the_request(
    site: Site, octets: bytes, status: int
):
    client = pyspnego("carol", protocol="negotiate")
    answer = await sign_in(await site.dial(), octets, client, "Negotiate")

    assert answer.status == status
    assert client.complete


async def test_samba_signs_in_by_spnego(site: Site):
    line = await site.dial()
    with samba("alice", helper="gss-spnego-client") as client:
        answer = await sign_in(line, ping(FILE), client, "Negotiate")

    assert answer.status == 200
    await upload(line)


# As BITS and WinHTTP do it: a body with each leg


async def legs(line: Line, octets: bytes, client: Client) -> list[Answer]:
    """The same request three times: for nothing, and with both tokens."""
    first = await line.ask(octets)
    token = client.step()
    assert token is not None
    second = await line.ask(authorized(octets, "NTLM", token))
    challenge = token_of(second, "NTLM")
    assert challenge is not None
    token = client.step(challenge)
    assert token is not None
    return [first, second, await line.ask(authorized(octets, "NTLM", token))]


async def begun(site: Site, name: str = "alice") -> str:
    """A session."""
    answer = await (await site.dial()).ask(basic(create(FILE), name))
    named = answer.get("BITS-Session-Id")
    assert named is not None
    return named


@pytest.mark.parametrize("size", [SMALL, len(LARGE)], ids=["small", "13 MiB"])
async def test_only_the_last_of_three_bodies_is_stored(site: Site, client, size: int):
    named = await begun(site)
    line, alice = await site.dial(), client("alice")
    half = LARGE[:size]
    octets = fragment(FILE, named, 0, half, size * 2)
    answers = [await line.ask(octets)]
    held = [site.held(named)]
    token = alice.step()
    while token:
        answers.append(await line.ask(authorized(octets, "NTLM", token)))
        held.append(site.held(named))
        said = token_of(answers[-1], "NTLM")
        token = None if said is None else alice.step(said)
    answers.append(await line.ask(fragment(FILE, named, size, half, size * 2)))

    assert [answer.status for answer in answers] == [401, 401, 200, 200]
    assert held == [0, 0, size]
    assert [answer.received for answer in answers[2:]] == [size, size * 2]
    assert (site.folder / "a.ckm").read_bytes() == half * 2
    assert {answer.get("Connection") for answer in answers} == {None}


async def test_create_needs_no_ping(site: Site, client):
    line = await site.dial()
    answers = await legs(line, create(FILE), client("alice"))

    assert [answer.status for answer in answers] == [401, 401, 200]
    assert site.sessions == [answers[2].get("BITS-Session-Id")]


async def test_new_connection_in_an_upload_begins_anew_and_the_session_stays(
    site: Site, client
):
    line = await site.dial()
    await sign_in(line, ping(FILE), client("alice"))
    named = await line.create(FILE)
    half = len(ENTITY) // 2
    await line.ask(fragment(FILE, named, 0, ENTITY[:half], len(ENTITY)))
    line.reset()
    rest = fragment(FILE, named, half, ENTITY[half:], len(ENTITY))
    record = (site.folder / "BITS-Sessions" / named / "session.json").read_bytes()
    line = await site.dial()
    refused = await line.ask(rest)
    after = (site.folder / "BITS-Sessions" / named / "session.json").read_bytes()
    held = site.held(named)
    answers = await legs(line, rest, client("alice"))

    assert (refused.status, offers(refused)) == (401, ["Negotiate", "NTLM", BASIC])
    assert (held, record) == (half, after)
    assert answers[2].received == len(ENTITY)
    assert (site.folder / "a.ckm").read_bytes() == ENTITY


async def test_body_of_a_client_that_waits_for_100_is_asked_for_in_each_leg(
    site: Site, client
):
    named = await begun(site)
    line, alice = await site.dial(), client("alice")
    whole = with_field(
        fragment(FILE, named, 0, LARGE[:SMALL], SMALL), "Expect", "100-continue"
    )
    statuses = []
    token = None
    for _ in range(3):
        octets = whole if token is None else authorized(whole, "NTLM", token)
        go_on = await line.ask(octets[:-SMALL])
        answer = await line.ask(octets[-SMALL:])
        statuses += [go_on.status, answer.status]
        token = alice.step(token_of(answer, "NTLM"))

    assert statuses == [100, 401, 100, 401, 100, 200]
    assert (site.folder / "a.ckm").read_bytes() == LARGE[:SMALL]


# What is offered

# By what there is: NT hashes, keys of Kerberos, or both.
OFFERED = {
    "all": ({"hashes", "keys"}, "", ["Negotiate", "NTLM", BASIC]),
    "no Kerberos": ({"hashes"}, "", ["Negotiate", "NTLM", BASIC]),
    "no NT hashes": ({"keys"}, "", ["Negotiate", BASIC]),
    "neither": (set(), "", [BASIC]),
    "in another order": (
        {"hashes"},
        'authentication = ["basic", "ntlm", "negotiate"]',
        [BASIC, "NTLM", "Negotiate"],
    ),
    "one": ({"hashes", "keys"}, 'authentication = ["ntlm"]', ["NTLM"]),
    "none of them": ({"keys"}, 'authentication = ["ntlm"]', []),
}


@pytest.mark.parametrize(("has", "ways", "offered"), OFFERED.values(), ids=OFFERED)
async def test_what_works_is_offered_in_the_order_of_the_list(
    serve: Serve, tmp_path: Path, request: pytest.FixtureRequest, has, ways, offered
):
    write_users(tmp_path, ntlm="hashes" in has)
    top = TOP
    if "keys" in has:
        top += f'keytab = "{request.getfixturevalue("realm").keytab}"\n'
    site = await serve(top=top, who=WHO + ways)
    line = await site.dial()
    answers = [await line.ask(octets) for octets in (ping(FILE), fetch(FILE))]

    assert [offers(answer) for answer in answers] == [offered] * 2
    assert [answer.status for answer in answers] == [401 if offered else 403] * 2


# TLS


@pytest.fixture(scope="module")
def ca() -> Authority:
    return Authority()


@pytest.fixture
def proxies() -> str:
    """Addresses of trusted proxies; a test for which it matters says so."""
    return ""


@pytest.fixture
async def secured(
    tmp_path: Path, users: Path, realm: centre.Realm, ca: Authority, proxies: str
) -> AsyncIterator[Site]:
    """A server with a certificate."""
    ca.serve().write(tmp_path, "server")
    (tmp_path / "in").mkdir()
    config = tmp_path / "bitsd.toml"
    top = f'{TOP}keytab = "{realm.keytab}"\ntrusted_proxies = [{proxies}]\n'
    text = CONFIG.format(top=top, who=WHO, directory="")
    tls = 'certificate = "server.pem"\nkey = "server.key"\n'
    text = text.replace("\n\n[[directory]]", f"\n{tls}\n[[directory]]")
    config.write_text(text, "utf-8")
    site = Site(config)
    await site.start()
    yield site
    await site.lines.hang_up()
    await site.stop()


async def dial(site: Site, ca: Authority) -> tuple[Line, bytes]:
    """A connection through TLS, and what it is bound to."""
    context = ssl.create_default_context(cadata=ca.pem.decode())
    port = int(site.url.rpartition(":")[2])
    opened = asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    line = Line(*await opened)
    site.lines.opened.append(line)
    shown = line.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    bound = end_point(shown)
    assert bound is not None
    return line, bound


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
@pytest.mark.parametrize(
    ("change", "status"),
    [(lambda bound: bound, 200), (lambda bound: bound[:-1] + b"x", 401), (None, 200)],
    ids=["right", "wrong", "none"],
)
async def test_sign_in_is_bound_to_its_tls_connection(
    secured: Site, ca: Authority, scheme: str, change, status: int
):
    line, bound = await dial(secured, ca)
    protocol = "ntlm" if scheme == "NTLM" else "negotiate"
    binding = None if change is None else change(bound)
    client = pyspnego("alice", protocol=protocol, binding=binding)
    answer = await sign_in(line, create(FILE), client, scheme)

    assert answer.status == status
    if status == 401:
        assert offers(answer) == ["Negotiate", "NTLM", BASIC]


def other(bound: bytes) -> bytes:
    """What another TLS connection is known by."""
    return bound[:-1] + bytes((bound[-1] ^ 1,))


BOUND_TICKETS = {
    "bound right": ("", lambda bound: bound, True, 200),
    "bound to other TLS": ("", other, True, 401),
    "bound to other TLS, without Via": ("", other, False, 401),
    "not bound": ("", lambda _bound: None, True, 200),
    "trusted proxy": ('"127.0.0.1"', other, True, 200),
    "trusted proxy that says nothing": ('"127.0.0.1"', other, False, 200),
}


@pytest.mark.usefixtures("tickets")
@pytest.mark.parametrize(
    ("proxies", "change", "via", "status"), BOUND_TICKETS.values(), ids=BOUND_TICKETS
)
async def test_who_says_that_a_proxy_was_there_is_bound_all_the_same(
    secured: Site, ca: Authority, change, via, status
):
    """Else whoever relays a ticket would say so; a trusted proxy has TLS of its own."""
    line, bound = await dial(secured, ca)
    octets = authorized(create(FILE), "Negotiate", centre.ticket(change(bound)))
    if via:
        octets = with_field(octets, "Via", "1.1 proxy")

    assert (await line.ask(octets)).status == status
    assert len(secured.sessions) == (status == 200)


async def test_binding_is_denied_where_there_is_no_tls(site: Site):
    client = pyspnego("alice", binding=b"tls-server-end-point:" + bytes(32))

    assert (await sign_in(await site.dial(), create(FILE), client)).status == 401


@pytest.mark.parametrize("way", ["ntlm", "kerberos", "basic"])
async def test_curl_signs_in_through_tls(
    secured: Site, realm: centre.Realm, tmp_path: Path, ca: Authority, way: str
):
    realm.kinit("alice")
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    trust = ("--cacert", str(tmp_path / "ca.pem"))
    secured.urls = [secured.url.replace("127.0.0.1", "localhost")]
    curl = Curl(secured, tmp_path, (*WAYS[way], *trust), realm.environment)

    assert await curl.run(curl.create()) == ["200 1"]
