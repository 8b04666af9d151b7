"""Requests of a client: sign-in, certificates, proxies, and what breaks."""

import asyncio
import socket
import ssl
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import spnego
import trustme
from scripted import HANG_UP, SILENCE, Asked, ack, answer, in_turn, scripted

from bitsd.client import way
from bitsd.client.http import Http, _Sending
from bitsd.client.options import Options
from bitsd.client.trouble import NoAnswer
from bitsd.client.way import is_loopback
from bitsd.protocol.wire import METHOD

BASIC = ("WWW-Authenticate", 'Basic realm="a, NTLM"')
NTLM = ("WWW-Authenticate", "NTLM")
NEGOTIATE = ("WWW-Authenticate", "Negotiate")

ALICE = Options(user="alice", password="p:w", timeout_seconds=10)
ALICE_BASIC = "Basic YWxpY2U6cDp3"

FRAGMENT = [("BITS-Packet-Type", "Fragment"), ("Content-Length", "10")]


async def body() -> AsyncIterator[bytes]:
    yield b"01234"
    yield b"56789"


async def get(http: Http, url: str, *, method: str = "GET") -> tuple[int, bytes]:
    async with http.request(method, url, []) as response:
        return response.status, await response.read()


async def post(http: Http, url: str) -> int:
    async with http.request(METHOD, url, FRAGMENT, body) as response:
        return response.status


async def failed(options: Options, url: str) -> NoAnswer:
    async with Http(options) as http:
        with pytest.raises(NoAnswer) as raised:
            await get(http, url)
    return raised.value


async def test_request_is_sent_as_it_is_given():
    options = Options(headers=(("X-One", "1"), ("user-agent", "me")))
    script = in_turn(answer(200, body=b"got"))
    async with scripted(script) as server, Http(options) as http:
        got = await get(http, f"{server.url}/a b?x=%7B")

    asked = server.asked[0]
    assert got == (200, b"got")
    assert (asked.method, asked.target) == ("GET", "/a%20b?x=%7B")
    assert asked.get("Accept-Encoding") == "identity"
    assert asked.get("X-One") == "1"
    assert [value for name, value in asked.fields if name.lower() == "user-agent"] == [
        "me"
    ]


async def test_body_is_sent_with_its_length_on_a_connection_that_is_kept():
    async with scripted(in_turn(ack(), ack())) as server, Http(Options()) as http:
        statuses = [await post(http, server.url) for _ in range(2)]

    assert statuses == [200, 200]
    assert [asked.body for asked in server.asked] == [b"0123456789"] * 2
    assert server.asked[0].get("Content-Length") == "10"
    assert server.asked[0].get("Accept-Encoding") is None
    assert server.connections == 1


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, []), (5, [5]), (16_384, [16_384]), (16_385, [1, 16_384])],
)
async def test_end_of_a_body_fits_into_a_buffer(length: int, expected: list[int]):
    """So the task that writes it is never behind an answer."""

    async def whole() -> AsyncIterator[bytes]:
        yield bytes(length)

    sending = _Sending(whole, lambda: True)
    parts = [len(part) async for part in sending.pieces(lambda: None)]

    assert parts == expected


async def test_answer_before_the_end_of_a_body_ends_the_connection():
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"01234"
        await release.wait()
        yield b"56789"

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"01234")
        writer.write(answer(413))
        ended.set_result(await reader.read())
        writer.close()

    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(early, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with Http(Options()) as http:
            async with http.request(METHOD, url, FRAGMENT, slow) as response:
                status = response.status
            rest = await ended

    assert (status, rest) == (413, b"")


# Basic


async def test_basic_is_sent_once_it_was_asked_for_and_then_unasked():
    script = in_turn(answer(401, BASIC), answer(200), answer(200))
    async with scripted(script) as server, Http(ALICE) as http:
        assert (await get(http, server.url))[0] == 200
        assert (await get(http, server.url))[0] == 200

    sent = [asked.get("Authorization") for asked in server.asked]
    assert sent == [None, ALICE_BASIC, ALICE_BASIC]


async def test_refused_password_is_not_sent_again():
    script = in_turn(answer(401, BASIC), answer(401, BASIC))
    async with scripted(script) as server, Http(ALICE) as http:
        assert (await get(http, server.url))[0] == 401

    assert len(server.asked) == 2


async def test_nobody_is_signed_in_without_a_name():
    script = in_turn(answer(401, BASIC))
    async with scripted(script) as server, Http(Options()) as http:
        assert (await get(http, server.url))[0] == 401


@pytest.mark.parametrize("authentication", ["any", "basic"])
async def test_basic_goes_over_plain_http_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch, authentication: str
):
    options = Options(user="alice", password="p:w", authentication=authentication)
    script = in_turn(answer(401, BASIC), answer(200))
    async with scripted(script) as proxy, Http(options) as http:
        monkeypatch.setenv("http_proxy", proxy.url)
        if authentication == "basic":
            assert (await get(http, "http://server.test/"))[0] == 200
        else:
            with pytest.raises(NoAnswer, match="basic shows the password"):
                await get(http, "http://server.test/")

    sent = [asked.get("Authorization") for asked in proxy.asked]
    assert sent == ([None, ALICE_BASIC] if authentication == "basic" else [None])


@pytest.mark.parametrize(
    ("options", "offered", "sentence"),
    [
        (Options(user=""), BASIC, "basic needs a name"),
        (
            Options(user="a", authentication="ntlm"),
            BASIC,
            "it takes basic, not ntlm",
        ),
        (Options(user="a"), ("X", "y"), "it takes no way that it names, not any"),
    ],
)
async def test_impossible_sign_in_is_told(options, offered, sentence):
    async with scripted(in_turn(answer(401, offered))) as server:
        problem = await failed(options, server.url)

    assert not problem.resumable
    assert str(problem).startswith("cannot sign in at 127.0.0.1:")
    assert sentence in str(problem)


async def test_missing_pyspnego_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "spnego", None)
    async with scripted(in_turn(answer(401, NTLM))) as server:
        problem = await failed(ALICE, server.url)

    assert not problem.resumable
    assert str(problem).endswith("pip install 'bitsd[windows-auth]'")


async def test_missing_pyspnego_leaves_basic_for_all_that_follows(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "spnego", None)

    def script(asked: Asked) -> bytes:
        known = asked.get("Authorization") == ALICE_BASIC
        return ack() if known else answer(401, NEGOTIATE, NTLM, BASIC)

    async with scripted(script) as server, Http(ALICE) as http:
        assert [await post(http, server.url) for _ in range(3)] == [200, 200, 200]

    assert len(server.asked) == 4


async def test_redirect_of_a_download_is_followed_without_the_password():
    async with scripted(in_turn(answer(401, BASIC))) as other:
        to = ("Location", f"{other.url}/there")
        script = in_turn(answer(401, BASIC), answer(200), answer(302, to))
        async with scripted(script) as server, Http(ALICE) as http:
            await get(http, server.url)
            assert (await get(http, server.url))[0] == 401

    assert other.asked[0].target == "/there"
    assert other.asked[0].get("Authorization") is None


async def test_sign_in_elsewhere_is_no_reason_to_sign_in_here():
    async with scripted(in_turn(answer(401, BASIC))) as other:
        to = ("Location", f"{other.url}/there")
        async with scripted(in_turn(answer(302, to))) as server, Http(ALICE) as http:
            assert (await get(http, server.url))[0] == 401

    assert len(server.asked) == 1


@pytest.mark.parametrize("there", ["other", "same"])
async def test_header_of_the_user_goes_to_no_other_server(there: str):
    headers = (("X-Key", "secret"), ("Cookie", "a=b"), ("Authorization", "Bearer x"))
    options = Options(headers=headers)
    async with scripted(in_turn(answer(200))) as other:
        to = "/there" if there == "same" else f"{other.url}/there"
        script = in_turn(answer(302, ("Location", to)), answer(200))
        async with scripted(script) as server, Http(options) as http:
            assert (await get(http, server.url))[0] == 200

    last = other.asked[0] if there == "other" else server.asked[1]
    expected = [None] * 3 if there == "other" else [value for _, value in headers]
    assert [last.get(name) for name, _ in headers] == expected
    assert last.target == "/there"
    assert server.asked[0].get("X-Key") == "secret"


async def test_header_of_the_user_does_not_come_back_from_elsewhere():
    options = Options(headers=(("X-Key", "secret"),))
    async with scripted(lambda _asked: back[0]) as other:
        script = in_turn(answer(302, ("Location", other.url)), answer(200))
        async with scripted(script) as server, Http(options) as http:
            back = [answer(302, ("Location", f"{server.url}/back"))]
            assert (await get(http, server.url))[0] == 200

    assert [asked.get("X-Key") for asked in server.asked] == ["secret", None]


async def test_redirects_in_a_circle_are_told():
    def script(_asked: Asked) -> bytes:
        return answer(302, ("Location", "/again"))

    async with scripted(script) as server:
        problem = await failed(Options(), server.url)

    assert not problem.resumable
    host = server.url.removeprefix("http://")
    assert str(problem) == f"{host} redirects in a circle"


@pytest.mark.parametrize("to", ["ftp://server/x", "http://[", "file:///etc/passwd"])
async def test_redirect_to_no_web_server_is_told(to: str):
    async with scripted(in_turn(answer(302, ("Location", to)))) as server:
        problem = await failed(Options(), server.url)

    assert not problem.resumable
    assert str(problem).endswith(" redirects to what is no http or https URL")


async def test_redirect_of_an_upload_is_not_followed():
    script = in_turn(ack(307, ("Location", "/there")))
    async with scripted(script) as server, Http(Options()) as http:
        assert await post(http, server.url) == 307


# NTLM


class Signing:
    """A server that lets in whoever signs in on its connection.

    Attributes:
        loses: connections that end with the server's token.
        ends: a connection that ends with the next answer to a body.
        fickle: ends every connection once it is signed in.
    """

    def __init__(
        self, scheme: str = "NTLM", *, loses: int = 0, fickle: bool = False
    ) -> None:
        self.scheme = scheme
        self.fickle = fickle
        self.loses = loses
        self.ends: int | None = None
        self.contexts: dict[int, spnego.ContextProxy] = {}

    def __call__(self, asked: Asked) -> bytes:
        context = self.contexts.get(asked.connection)
        if context is not None and context.complete:
            last = asked.body and self.ends == asked.connection
            return ack(200, ("Connection", "close")) if last else ack()
        scheme, _, token = (asked.get("Authorization") or "").partition(" ")
        if not token:
            return answer(401, ("WWW-Authenticate", self.scheme), body=b"who?")
        assert scheme == self.scheme
        return self.step(asked.connection, b64decode(token))

    def step(self, number: int, token: bytes) -> bytes:
        protocol = self.scheme.lower()
        context = self.contexts.setdefault(number, spnego.server(protocol=protocol))
        try:
            said = context.step(token)
        except (spnego.exceptions.SpnegoError, ValueError):
            del self.contexts[number]
            return answer(401, ("WWW-Authenticate", self.scheme))
        if context.complete:
            return ack(200, ("Connection", "close")) if self.fickle else ack()
        told = ("WWW-Authenticate", f"{self.scheme} {encoded(said)}")
        close = [("Connection", "close")] if number <= self.loses else []
        return answer(401, told, *close)


def encoded(token: bytes | None) -> str:
    return b64encode(token or b"").decode()


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the server knows."""
    path = tmp_path / "users"
    path.write_text(":alice:p:w\n".replace("p:w", "secret"), "utf-8")
    monkeypatch.setenv("NTLM_USER_FILE", str(path))


ALICE_NTLM = Options(user="alice", password="secret", timeout_seconds=10)


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
async def test_tokens_go_to_and_fro_on_one_connection(scheme: str):
    async with scripted(Signing(scheme=scheme)) as server, Http(ALICE_NTLM) as http:
        assert (await get(http, server.url))[0] == 200
        assert (await get(http, server.url))[0] == 200

    assert server.connections == 1
    assert server.asked[-1].get("Authorization") is None


@pytest.mark.usefixtures("users")
async def test_no_body_goes_to_a_connection_before_it_is_signed_in():
    signing = Signing()
    async with scripted(signing) as server, Http(ALICE_NTLM) as http:
        async with http.request(METHOD, server.url, [("Content-Length", "0")]):
            pass
        signing.ends = 1
        assert [await post(http, server.url) for _ in range(3)] == [200, 200, 200]

    assert [len(asked.body) for asked in server.asked if asked.body] == [10, 10, 10]
    assert {asked.connection for asked in server.asked if asked.body} == {1, 3}
    assert {asked.packet for asked in server.asked if not asked.body} >= {"Ping"}


@pytest.mark.usefixtures("users")
async def test_body_that_was_sent_too_early_is_sent_again_after_the_sign_in():
    async with scripted(Signing()) as server, Http(ALICE_NTLM) as http:
        assert await post(http, server.url) == 200

    assert [len(asked.body) for asked in server.asked] == [10, 0, 0, 10]


@pytest.mark.usefixtures("users")
async def test_sign_in_is_begun_anew_on_a_new_connection():
    signing = Signing(loses=1)
    async with scripted(signing) as server, Http(ALICE_NTLM) as http:
        assert (await get(http, server.url))[0] == 200

    assert server.connections == 2


@pytest.mark.usefixtures("users")
async def test_sign_in_whose_connection_is_lost_each_time_is_given_up():
    async with scripted(Signing(loses=99)) as server:
        problem = await failed(ALICE_NTLM, server.url)

    assert problem.resumable
    assert "a proxy between may share its connections" in str(problem)


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("verb", [get, post])
async def test_refused_sign_in_is_the_answer(verb):
    options = Options(user="alice", password="wrong", timeout_seconds=10)
    async with scripted(Signing()) as server, Http(options) as http:
        answered = await verb(http, server.url)

    assert answered in (401, (401, b""))


@pytest.mark.usefixtures("users")
async def test_body_whose_connection_is_lost_after_each_sign_in_is_given_up():
    async with scripted(Signing(fickle=True)) as server, Http(ALICE_NTLM) as http:
        with pytest.raises(NoAnswer, match="needs one connection"):
            await post(http, server.url)

    assert [len(asked.body) for asked in server.asked if asked.body] == [10]


async def test_ntlm_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NTLM_USER_FILE", raising=False)
    async with scripted(in_turn(answer(401, NTLM))) as server:
        problem = await failed(Options(user=""), server.url)

    assert "ntlm does not work: " in str(problem)


async def test_token_of_nonsense_is_told():
    script = in_turn(
        answer(401, NTLM), answer(401, ("WWW-Authenticate", "NTLM QUJDRA=="))
    )
    async with scripted(script) as server:
        problem = await failed(ALICE_NTLM, server.url)

    assert not problem.resumable
    assert "ntlm does not work: " in str(problem)


async def test_missing_credentials_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("KRB5CCNAME", str(tmp_path / "none"))
    monkeypatch.delenv("NTLM_USER_FILE", raising=False)
    async with scripted(in_turn(answer(401, NEGOTIATE))) as server:
        problem = await failed(Options(user=""), server.url)

    assert not problem.resumable
    assert "negotiate does not work: " in str(problem)


class Choosy:
    """A server that lets in by Basic alone, whatever it offers."""

    def __init__(self, password: str) -> None:
        self.basic = f"Basic {encoded(f'alice:{password}'.encode())}"
        self.signing = {"NTLM": Signing("NTLM"), "Negotiate": Signing("Negotiate")}
        self.schemes: list[str] = []

    def __call__(self, asked: Asked) -> bytes:
        given = asked.get("Authorization") or ""
        scheme, _, token = given.partition(" ")
        if scheme and scheme not in self.schemes:
            self.schemes.append(scheme)
        if given == self.basic:
            return ack()
        if scheme in self.signing:
            signing = self.signing[scheme]
            return signing.step(asked.connection, b64decode(token))
        return answer(401, NEGOTIATE, NTLM, BASIC)


# What NTLM takes, Basic does not, and the other way round.
HASHLESS = Options(user="alice", password="other", timeout_seconds=10)


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("verb", [get, post])
async def test_basic_is_the_last_way_to_be_tried(verb):
    choosy = Choosy("other")
    async with scripted(choosy) as server, Http(HASHLESS) as http:
        assert await verb(http, server.url) in (200, (200, b""))
        before = len(server.asked)
        assert await post(http, server.url) == 200

    assert choosy.schemes == ["Negotiate", "NTLM", "Basic"]
    assert len(server.asked) == before + 1
    assert len([asked for asked in server.asked if asked.body]) <= 3


@pytest.mark.usefixtures("users")
async def test_all_that_refuse_are_named():
    async with scripted(Choosy("third")) as server:
        problem = await failed(HASHLESS, server.url)

    assert (problem.resumable, problem.status) == (False, 401)
    reason = "refused by negotiate, ntlm and basic: wrong name or password?"
    assert str(problem).endswith(f": {reason}")


@pytest.mark.usefixtures("users")
async def test_password_that_is_refused_is_not_shown_to_the_network(
    monkeypatch: pytest.MonkeyPatch,
):
    choosy = Choosy("other")
    async with scripted(choosy) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        problem = await failed(HASHLESS, "http://server.test/")

    assert choosy.schemes == ["Negotiate", "NTLM"]
    assert "refused by negotiate and ntlm: wrong name or password?; basic" in str(
        problem
    )


@pytest.mark.usefixtures("users")
async def test_no_other_way_is_tried_than_the_one_that_is_named():
    choosy = Choosy("other")
    options = replace(HASHLESS, authentication="ntlm")
    async with scripted(choosy) as server, Http(options) as http:
        assert (await get(http, server.url))[0] == 401

    assert choosy.schemes == ["NTLM"]


@pytest.mark.usefixtures("users")
async def test_sign_in_that_works_once_only_is_told():
    signing = Signing()

    def script(asked: Asked) -> bytes:
        if asked.connection == 1:
            return signing(asked)
        return answer(401, ("WWW-Authenticate", "NTLM QUJDRA=="))

    async with scripted(script) as server, Http(ALICE_NTLM) as http:
        signing.ends = 1
        assert await post(http, server.url) == 200
        with pytest.raises(NoAnswer, match="ntlm does not work: ") as raised:
            await post(http, server.url)

    assert not raised.value.resumable


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


async def test_basic_goes_over_tls(tls: ssl.SSLContext, ca: Path):
    script = in_turn(answer(401, BASIC), answer(200))
    options = Options(user="alice", password="p:w", ca=ca)
    async with scripted(script, tls) as server, Http(options) as http:
        assert (await get(http, server.url))[0] == 200

    assert server.asked[1].get("Authorization") == ALICE_BASIC


async def test_stranger_is_not_trusted(tls: ssl.SSLContext):
    async with scripted(in_turn(), tls) as server:
        problem = await failed(Options(), server.url)

    assert not problem.resumable
    assert "is not trusted: " in str(problem)


async def test_client_shows_its_certificate(
    tls: ssl.SSLContext, ca: Path, authority: trustme.CA, tmp_path: Path
):
    mine = authority.issue_cert("alice@example.test")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    options = Options(
        ca=ca, certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem"
    )
    async with scripted(in_turn(answer(200)), tls) as server, Http(options) as http:
        assert (await get(http, server.url))[0] == 200


def test_certificates_are_read_once_until_a_file_is_another(ca: Path):
    first = way.shared_tls(Options(ca=ca))
    assert way.shared_tls(Options(ca=ca, user="alice")) is first

    trustme.CA().cert_pem.write_to_path(ca.with_name("new.pem"))
    ca.with_name("new.pem").replace(ca)
    second = way.shared_tls(Options(ca=ca))
    assert second.get_ca_certs() != first.get_ca_certs()

    ca.unlink()
    with pytest.raises(NoAnswer, match="cannot use --ca"):
        way.shared_tls(Options(ca=ca))


@pytest.mark.parametrize("option", ["ca", "certificate"])
@pytest.mark.parametrize("content", [None, "nonsense"])
async def test_unusable_file_is_told(tmp_path: Path, option: str, content: str | None):
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(NoAnswer, match=r"^cannot use --c\w+ .*file.pem: ") as raised:
        await Http(Options(**{option: path})).__aenter__()

    assert not raised.value.resumable


async def test_plain_server_is_not_asked_again_by_tls():
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer(400))
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        problem = await failed(Options(timeout_seconds=10), f"https://{host}/")

    assert str(problem) == f"{host} speaks no TLS: use http://"
    assert not problem.resumable


async def test_tls_server_is_not_asked_again_without():
    """What it says to a request without TLS is an alert."""
    async with scripted(lambda _asked: b"\x15\x03\x01\x00\x02\x02\x46") as server:
        problem = await failed(Options(timeout_seconds=10), server.url)

    host = server.url.removeprefix("http://")
    assert str(problem) == f"{host} speaks TLS: use https://"
    assert not problem.resumable


async def test_tls_server_that_ends_a_connection_without_is_recognised(
    tls: ssl.SSLContext,
):
    async with scripted(in_turn(), tls) as server:
        url = server.url.replace("https", "http")
        problem = await failed(Options(timeout_seconds=10), url)

    assert str(problem).endswith(" speaks TLS: use https://")
    assert not problem.resumable


# proxies


@pytest.mark.parametrize("named", ["http://me:pw@{}", "{}"])
async def test_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, named: str
):
    async with scripted(in_turn(answer(200))) as proxy, Http(Options()) as http:
        value = named.format(proxy.url.removeprefix("http://"))
        monkeypatch.setenv("http_proxy", value)
        monkeypatch.delenv("no_proxy", raising=False)
        assert (await get(http, "http://server.test/x"))[0] == 200

    assert proxy.asked[0].target == "http://server.test/x"
    sent = proxy.asked[0].get("Proxy-Authorization")
    assert sent == ("Basic bWU6cHc=" if "@" in named else None)


async def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with scripted(in_turn(answer(200))) as server, Http(Options()) as http:
        assert (await get(http, server.url))[0] == 200


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "all_proxy"])
async def test_proxy_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, variable: str
):
    monkeypatch.setenv(variable, "http://me:pw@127.0.0.1:1")
    scheme = "https" if variable == "https_proxy" else "http"
    problem = await failed(Options(), f"{scheme}://server.test/")

    assert problem.resumable
    told = f"cannot connect to the proxy 127.0.0.1:1 ({variable}): Connection refused"
    assert str(problem) == told


async def test_unusable_kind_of_proxy_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    monkeypatch.delenv("no_proxy", raising=False)
    problem = await failed(Options(), "http://server.test/")

    assert not problem.resumable
    assert "only http and https proxies" in str(problem)


@pytest.mark.parametrize(("status", "final"), [(407, True), (502, False)])
async def test_proxy_that_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, status: int, *, final: bool
):
    async with scripted(lambda _asked: answer(status)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        problem = await failed(Options(), "https://server.test/")

    assert problem.resumable == (not final)
    assert f"the proxy does not connect to server.test: HTTP {status}" in str(problem)


# what breaks


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (HANG_UP, "the connection to {} broke"),
        (SILENCE, "no answer from {} within 0.3 s"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "what {} answers is not HTTP: "),
        (answer(200, ("Connection", "close"), ("Content-Length", "9")), "broke"),
    ],
)
async def test_no_answer_is_told(said: bytes | None, sentence: str):
    async with scripted(lambda _asked: said) as server:
        problem = await failed(Options(timeout_seconds=0.3), server.url)

    assert problem.resumable
    assert sentence.format(server.url.removeprefix("http://")) in str(problem)


async def test_connection_that_breaks_inside_a_body_is_told():
    options = Options(timeout_seconds=0.3)
    async with scripted(lambda _asked: HANG_UP) as server, Http(options) as http:
        with pytest.raises(NoAnswer, match="the connection to"):
            await post(http, server.url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("localhost.test", False),
    ],
)
def test_loopback_is_known(host: str, *, expected: bool):
    assert is_loopback(host) == expected


async def test_nobody_there_is_told():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        problem = await failed(Options(), f"http://{host}/")

    assert problem.resumable
    assert str(problem).startswith(f"cannot connect to {host}: ")


async def test_unknown_name_is_told(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_arguments: object, **_named: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    problem = await failed(Options(), "http://server.test/")

    assert str(problem).startswith("cannot find server.test: ")


async def test_body_may_take_longer_than_an_answer_as_long_as_it_moves():
    async def slow() -> AsyncIterator[bytes]:
        for digit in b"0123456789":
            yield bytes((digit,))
            await asyncio.sleep(0.11)

    options = Options(timeout_seconds=1.0)
    async with (
        scripted(in_turn(ack())) as server,
        Http(options) as http,
        http.request(METHOD, server.url, FRAGMENT, slow) as response,
    ):
        assert response.status == 200

    assert server.asked[0].body == b"0123456789"


async def test_body_that_nobody_takes_is_given_up():
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)

    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    over = asyncio.Event()
    length = ("Content-Length", str(2**40))
    async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with Http(Options(timeout_seconds=0.3)) as http:
            with pytest.raises(NoAnswer, match="no answer from"):
                async with http.request(METHOD, url, [length], endless):
                    pass
        over.set()
