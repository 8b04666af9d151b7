"""Certificates of clients as a way to sign in, with curl among the clients."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import pytest
from authorities import Authority, Issued
from processes import rewrite
from signing import basic, offers, passwd, sign_in, with_field, write_users
from sites import Site
from store_kit import PATIENCE, cannot_run
from windows_clients import pyspnego
from wire_client import Answer, Line, close, create, fetch, fragment, ping

FILE = "/in/a.ckm"
BODY = bytes(range(250)) * 40
HALF = len(BODY) // 2

CONFIG = """
users = "users"

[[listen]]
address = "127.0.0.1:0"

[[listen]]
address = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"

[[certificate]]
subject = "CN=Alice"
user = "alice"

[[certificate]]
subject = "CN=Unit 7"
user = "machine"

[[directory]]
url = "/in"
path = "in"
upload = true
read = ["@users"]
write = ["alice", "machine"]

[[directory]]
url = "/open"
path = "open"
upload = true
write = ["*"]
"""


@cache
def ca() -> Authority:
    return Authority()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for folder in ("in", "open"):
        (tmp_path / folder).mkdir()
    write_users(tmp_path)
    ca().serve().write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(ca().pem)
    path = tmp_path / "bitsd.toml"
    path.write_text(CONFIG, "utf-8")
    return path


class Place:
    """A server with an address for certificates beside one without."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.config.parent

    @property
    def port(self) -> int:
        """Of the address for certificates."""
        return int(self.site.urls[1].rpartition(":")[2])

    async def dial(self, issued: Issued | None = None) -> Line:
        """A connection by a certificate, or without one to the other address."""
        if issued is None:
            return await self.site.dial()
        context = ssl.create_default_context(cadata=ca().pem.decode())
        issued.write(self.folder, "client")
        context.load_cert_chain(self.folder / "client.pem", self.folder / "client.key")
        opened = asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname="localhost"
        )
        line = Line(*await opened)
        self.site.lines.opened.append(line)
        return line

    async def reload(self) -> None:
        assert self.site.server is not None
        await self.site.server.reload()

    def session(self, named: str, folder: str = "in") -> dict:
        path = self.folder / folder / "BITS-Sessions" / named / "session.json"
        return json.loads(path.read_bytes())


@asynccontextmanager
async def placed(config: Path) -> AsyncIterator[Place]:
    """The server, as long as it is needed."""
    site = Site(config)
    await site.start()
    try:
        yield Place(site)
    finally:
        await site.lines.hang_up()
        await site.stop()


@pytest.fixture
async def place(config: Path, caplog) -> AsyncIterator[Place]:
    caplog.set_level("INFO", "bitsd")
    async with placed(config) as made:
        yield made


def alice() -> Issued:
    return ca().issue("CN=Alice")


def unit() -> Issued:
    return ca().issue("CN=Unit 7")


def stranger() -> Issued:
    """Of the CA, and of no rule."""
    return ca().issue("CN=Mallory")


def known(answer: Answer) -> str:
    named = answer.get("BITS-Session-Id")
    assert named is not None, answer
    return named


async def test_user_of_a_certificate_is_in_session_and_log(place: Place, caplog):
    line, machine = await place.dial(alice()), await place.dial(unit())
    made = [await line.create(FILE), await machine.create("/in/b.ckm")]

    assert [place.session(named)["user"] for named in made] == ["alice", "machine"]
    for user, named in zip(("alice", "machine"), made, strict=True):
        told = f" user={user} client=127.0.0.1 session={named}"
        assert any(text.endswith(told) for text in caplog.messages)


async def test_session_of_a_certificate_goes_on_over_other_connections_of_its_user(
    place: Place,
):
    """Whichever of her certificates she shows, and by password at the other address."""
    named = await (await place.dial(alice())).create(FILE)
    again = await place.dial(alice())
    packet = fragment(FILE, named, 0, BODY[:HALF], len(BODY))
    assert (await again.ask(packet)).received == HALF
    stolen = await (await place.dial(unit())).ask(close(FILE, named))
    plain = await place.dial()
    rest = fragment(FILE, named, HALF, BODY[HALF:], len(BODY))
    by_password = await plain.ask(basic(rest, "alice"))

    assert stolen.error[0] == "0x8020001F"
    assert by_password.received == len(BODY)


async def test_certificate_of_no_rule_is_nobodys(place: Place):
    line = await place.dial(stranger())
    refused = await line.ask(create(FILE))
    by_password = await line.ask(basic(create(FILE), "alice"))
    by_ntlm = await sign_in(line, create(FILE), pyspnego("alice"))

    assert refused.status == 401
    assert offers(refused) == [
        "Negotiate",
        "NTLM",
        'Basic realm="bitsd", charset="UTF-8"',
    ]
    assert (by_password.status, by_ntlm.status) == (200, 200)
    assert place.session(known(by_ntlm))["user"] == "alice"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(("Via", "1.1 proxy"), id="Via"),
        pytest.param(("X-Forwarded-For", "192.0.2.7"), id="X-Forwarded-For"),
        pytest.param(None, id="trusted proxy"),
    ],
)
async def test_certificate_of_a_proxy_is_nobodys(
    config: Path, field: tuple[str, str] | None
):
    if field is None:
        trusting = 'users = "users"\ntrusted_proxies = ["127.0.0.1"]'
        await asyncio.to_thread(rewrite, config, 'users = "users"', trusting)
    async with placed(config) as place:
        line = await place.dial(alice())
        asked = [create(FILE), create("/open/a.ckm")]
        if field is not None:
            asked = [with_field(octets, *field) for octets in asked]
        refused, taken = [await line.ask(octets) for octets in asked]

        assert refused.status == 401
        assert place.session(known(taken), "open")["user"] is None
        if field is not None:
            # A client that says nothing of a proxy is whom its certificate names.
            named = await line.create(FILE)
            assert place.session(named)["user"] == "alice"


async def test_other_address_serves_those_without_a_certificate(place: Place):
    line = await place.dial()
    named = await line.create("/open/a.ckm")
    answer = await line.ask(fragment("/open/a.ckm", named, 0, BODY, len(BODY)))
    owned = await (await place.dial(alice())).create("/open/b.ckm")

    assert answer.received == len(BODY)
    assert place.session(named, "open")["user"] is None
    # Whoever shows one is somebody, also where nobody has to be.
    assert place.session(owned, "open")["user"] == "alice"
    assert (await line.ask(close("/open/b.ckm", owned))).error[0] == "0x8020001F"
    assert (await line.ask(ping(FILE))).status == 401


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("disabled", 401),
        ("no rule", 401),
        ("not in the list", 403),
        ("not offered", 401),
    ],
)
async def test_what_changes_counts_for_connections_that_are_open(
    place: Place, config: Path, caplog, change: str, status: int
):
    issued = alice()
    line = await place.dial(issued)
    assert (await line.ask(ping(FILE))).status == 200
    changes: dict[str, Callable[[], object]] = {
        "disabled": lambda: passwd(place.folder / "users", "--disable", "alice"),
        "no rule": lambda: rewrite(config, "CN=Alice", "CN=Alison"),
        "not in the list": lambda: rewrite(config, '["alice", "m', '["m'),
        "not offered": lambda: rewrite(
            config, 'read = ["@users"]', 'read = ["@users"]\nauthentication = ["ntlm"]'
        ),
    }
    await asyncio.to_thread(changes[change])
    await place.reload()
    ends = any(text.startswith("signed-out user=alice") for text in caplog.messages)
    if ends:
        assert await line.ended() == b""
        line = await place.dial(issued)

    assert ends == (change in ("disabled", "no rule"))
    assert (await line.ask(ping(FILE))).status == status


async def test_mistake_in_the_files_of_tls_does_not_keep_a_user_in(
    place: Place, caplog
):
    """A certificate expires by itself, and users have to be stopped all the same."""
    line = await place.dial()
    await sign_in(line, ping(FILE), pyspnego("alice"))
    users = place.folder / "users"
    await asyncio.to_thread(passwd, users, "--disable", "alice")
    (place.folder / "server.key").write_bytes(ca().serve().key_pem)
    await place.reload()
    told = [text.partition(" ")[0] for text in caplog.messages]

    assert "tls-not-reloaded" in told
    assert "not-reloaded" not in told
    assert await line.ended() == b""


async def test_curl_shows_its_certificate(place: Place):
    if shutil.which("curl") is None:
        cannot_run("curl is not installed")
    statuses = []
    for name, issued in (("alice", alice()), ("mallory", stranger())):
        issued.write(place.folder, name)
        (place.folder / "in" / "a.ckm").write_bytes(BODY)
        command = ["curl", "-q", "-s", "-o", "out", "-w", "%{http_code}"]
        command += ["--cacert", "ca.pem", "--cert", f"{name}.pem"]
        command += ["--key", f"{name}.key", f"https://localhost:{place.port}{FILE}"]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=place.folder, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        async with asyncio.timeout(PATIENCE):
            out, _err = await process.communicate()
        statuses.append(out)

    assert statuses == [b"200", b"401"]


async def test_download_needs_no_password_beside_a_certificate(place: Place):
    (place.folder / "in" / "a.ckm").write_bytes(BODY)
    line = await place.dial(unit())

    assert (await line.ask(fetch(FILE))).body == BODY
