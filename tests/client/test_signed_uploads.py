"""Uploads by who has to sign in, to a bitsd that asks for it."""

import os
from collections.abc import Iterator
from pathlib import Path

import kerberos as centre
import pytest
from relay import relay
from signing import write_users
from sites import Serve, Site
from windows_clients import PASSWORD

from bitsd.client.options import Options
from bitsd.client.progress import TransferFailed
from bitsd.client.upload import Terms, upload

ENTITY = os.urandom(1_000_000)
TOP = 'users = "users"\n'
WHO = 'read = ["@users"]\nwrite = ["alice"]\n'
TERMS = Terms(fragment_size=200_000)

pytestmark = pytest.mark.usefixtures("impatient")

WAYS = {
    "any": Options(user="alice", password=PASSWORD),
    "ntlm": Options(user="alice", password=PASSWORD, authentication="ntlm"),
    "negotiate": Options(user="alice", password=PASSWORD, authentication="negotiate"),
    "basic": Options(user="alice", password=PASSWORD, authentication="basic"),
}

every_way = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "report.7z"
    path.write_bytes(ENTITY)
    return path


@pytest.fixture
async def site(serve: Serve, tmp_path: Path) -> Site:
    """A server for who signs in by NTLM, Negotiate or Basic."""
    write_users(tmp_path)
    return await serve(top=TOP, who=WHO)


@every_way
async def test_who_signs_in_may_upload(site: Site, source: Path, options: Options):
    await upload(source, f"{site.url}/in/", options=options, terms=TERMS)

    assert (site.folder / "report.7z").read_bytes() == ENTITY


@every_way
async def test_cut_connections_are_signed_in_anew_before_a_body_is_sent(
    site: Site, source: Path, options: Options
):
    async with relay(site.url, 150_000, 1, 260_000, 70_000) as line:
        await upload(source, f"{line.url}/in/", options=options, terms=TERMS)

    assert (site.folder / "report.7z").read_bytes() == ENTITY
    # A small fragment for each connection, and heads with tokens in them.
    assert line.carried < len(ENTITY) + 5 * (5_120 + 20_000)


@every_way
async def test_wrong_password_is_told(site: Site, source: Path, options: Options):
    wrong = Options(
        user="alice", password="wrong", authentication=options.authentication
    )
    told = "Give --user, or look at|negotiate, ntlm and basic: wrong name or password"
    with pytest.raises(TransferFailed, match=told) as raised:
        await upload(source, f"{site.url}/in/", options=wrong, terms=TERMS)

    assert raised.value.status == 401


async def test_who_may_not_upload_is_told(site: Site, source: Path):
    bob = Options(user="bob", password=PASSWORD)
    with pytest.raises(TransferFailed, match="not allowed") as raised:
        await upload(source, f"{site.url}/in/", options=bob, terms=TERMS)

    assert raised.value.status == 403


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[centre.Realm]:
    if os.environ.get("BITSD_ALL_TESTS") != "1":
        # They are built only where the headers of MIT Kerberos are.
        pytest.importorskip("gssapi")
        # pyspnego speaks Kerberos only with both.
        pytest.importorskip("krb5")
    with centre.realm(tmp_path_factory.mktemp("realm")) as made:
        made.kinit("alice")
        yield made


@pytest.mark.parametrize("user", ["", "alice"])
async def test_kerberos_signs_in_by_ticket_or_password(
    serve: Serve,
    source: Path,
    realm: centre.Realm,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
):
    for name in ("KRB5_CONFIG", "KRB5CCNAME"):
        monkeypatch.setenv(name, realm.environment[name])
    write_users(source.parent)
    site = await serve(top=f'{TOP}keytab = "{realm.keytab}"\n', who=WHO)
    password = realm.password(user) if user else ""
    options = Options(user=user, password=password, authentication="negotiate")
    url = site.url.replace("127.0.0.1", "localhost")
    await upload(source, f"{url}/in/", options=options, terms=TERMS)

    assert (site.folder / "report.7z").read_bytes() == ENTITY
